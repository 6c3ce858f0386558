//! Tenant lifecycle operations, one per file.

mod activate;
mod alias;
mod baseline;
mod create;
mod drop;
mod exec;
mod isolate;
mod list;
mod rename;
mod seed;
mod shell;
mod show;
mod suspend;
pub(crate) mod transfer;

pub use crate::migrate::plan::warm::{WarmStatus, warm_status};
pub use crate::registry::{EnteredSession, SchemaContents, SizeSource, TenantAlias};
pub use activate::{Activated, activate};
pub use alias::drop_alias;
pub use baseline::{BaselineOptions, Baselined, Baselining, baseline, baseline_public};
pub use create::{
    CreateManyOptions, CreateManyReport, CreateObserver, CreateOptions, CreateOutcome, Created, Creation, LostSchema,
    NewTenant, WarmCount, Warmed, check_rights, create, create_many, warm,
};
pub use drop::{
    DropObserver, DropOptions, DropPreview, DropSchedule, Dropped, DueDrop, ScheduledDrop, Undropped, drop_due,
    drop_tenant, planned_drops, preview_drop, schedule_drop, undrop,
};
pub use exec::{
    ExecAccess, ExecColumn, ExecObserver, ExecOptions, ExecOutcome, ExecReport, ExecRow, ExecScript, Executed, exec,
};
pub use isolate::{IsolateReport, NewIdentity, isolate, new_identity, without_role};
pub use list::{ListContents, ListDirection, ListOptions, ListSort, ListedTenant, StateFilter, TenantList, list};
pub use rename::{RenameOptions, Renamed, rename};
pub use seed::{SeedFile, SeedObserver, SeedOptions, SeedOutcome, SeedReport, SeedSet, Seeded, seed};
pub use shell::{ShellAccess, ShellOptions, TenantShell, shell};
pub use show::{LastComparison, LastMigration, TenantDetails, show};
pub use suspend::{RemainingSessions, SuspendOptions, Suspended, suspend};
pub use transfer::{
    Archive, CloneOptions, CloneRows, Cloned, ExistingFile, ExportManyOptions, ExportObserver, ExportOptions,
    ExportOutcome, ExportReport, ExportResult, Exported, ImportOptions, Imported, Mask, TransferObserver, clone_tenant,
    export, export_many, export_to_file, import,
};
