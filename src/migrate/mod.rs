//! Migrations: files, plans, ledgers, one schema, the whole fleet.
//!
//! [`Migrations`] are read and checked before a database is touched. [`plan`] says, as a value, what a schema needs;
//! [`plan_fleet`] says it of everything, and [`run`] carries that same value out. Every schema has a ledger,
//! `schema_migrations`, whose rows are written in the transaction that does what they say.
//!
//! ```no_run
//! # async fn example() -> cgk::Result<()> {
//! use cgk::migrate::{self, Migrations, Scope, Silent, Target};
//!
//! let config = cgk::Config::load()?;
//! let operator = cgk::Operator::connect(&config).await?;
//! let migrations = Migrations::load(config.migrations())?;
//! let plan = migrate::plan_fleet(&operator, &migrations, &Scope::Everything, Target::Head).await?;
//! let report = migrate::run(&operator, &migrations, plan, &mut Silent).await?;
//! assert_eq!(report.failed(), 0);
//! # Ok(()) }
//! ```

mod alone;
pub(crate) mod apply;
pub(crate) mod bind;
mod concurrent;
pub(crate) mod crew;
pub(crate) mod encodable;
mod files;
pub(crate) mod fileset;
pub(crate) mod fleet;
pub(crate) mod grouping;
pub(crate) mod guard;
mod history;
pub(crate) mod interrupt;
pub(crate) mod ledger;
mod lint;
mod locks;
mod observe;
pub(crate) mod plan;
mod progress;
pub(crate) mod queue;
mod recorder;
pub(crate) mod rehearsal;
mod repair;
pub(crate) mod run;
mod saved;
mod scaffold;
pub(crate) mod schema_lock;
mod script;
mod selection;
pub(crate) mod settle;
mod source;
pub(crate) mod state;
mod steps;
mod together;

pub use crate::{
    migration::{
        Divergence, FileMismatch, FileProblem, MigrationFailure, MigrationId, Mismatch, Place, Set, Unfinished,
    },
    version::{Checksum, Version},
};
pub use bind::BindReport;
pub use fleet::{FleetPlan, PlannedTenant, Step, plan_fleet};
pub use history::{RunDetail, RunRecord, RunState, SchemaRecord, failed_last, history, run_detail};
pub use interrupt::Interrupt;
pub use ledger::{Applied, LEDGER_TABLE};
pub use lint::{Finding, Lint, Severity, lint_directory};
pub use locks::{Blocks, LockMode, TableLock};
pub use observe::{Observer, Silent};
pub use plan::{Plan, Target, plan};
pub use rehearsal::{Rehearsal, rehearse};
pub use repair::{Repair, RepairOutcome, Repaired, repair};
pub use run::{Canary, Outcome, RunOptions, RunReport, RunStart, SchemaOutcome, Stop, StopReason, run, run_with};
pub use saved::SavedPlan;
pub use scaffold::{is_name, new_file, new_file_from_bundled};
pub use selection::{InvalidPart, Part, Scope, Selection};
pub use source::{MigrationFile, Migrations, Source};
pub use state::{FleetState, SchemaState, TenantState, look};
