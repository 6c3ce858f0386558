//! Migrations: files, plans, ledgers, for one schema and for the whole fleet.
//!
//! [`Migrations`] are read and checked before a database is used. [`plan`] returns what a schema needs, as a value.
//! [`plan_fleet`] does the same for all schemas, and [`run`] executes that value. Every schema has a ledger,
//! `schema_migrations`, whose rows are written in the same transaction as the migrations.
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

pub(crate) mod encodable;
pub(crate) mod execute;
pub(crate) mod files;
pub(crate) mod fileset;
pub(crate) mod history;
pub(crate) mod ledger;
pub(crate) mod lint;
mod migrations;
pub(crate) mod plan;
pub(crate) mod rehearsal;
mod repair;
mod scaffold;

pub use crate::{
    error::{MigrationFailure, Unfinished},
    fleet::{
        interrupt::Interrupt,
        selection::{InvalidShard, Scope, Selection, Shard},
        stop::{Stop, StopReason},
    },
    migration::{Divergence, FileMismatch, FileProblem, MigrationId, Mismatch, Place, RenamedFile, Set},
    version::{Checksum, Version},
};
pub use execute::bind::BindReport;
pub use execute::blocking::BlockingTransaction;
pub use execute::observer::{Observer, Silent};
pub use execute::options::{Canary, RunOptions};
pub use execute::report::{Outcome, RunReport, RunStart, SchemaOutcome};
pub use execute::run::{run, run_with};
pub use files::{file::MigrationFile, source::Source};
pub use history::read::{RunDetail, RunRecord, RunState, SchemaRecord, failed_last, history, run_detail};
pub use ledger::{Applied, LEDGER_TABLE};
pub use lint::{Finding, Lint, Severity, lint_directory};
pub use migrations::Migrations;
pub use plan::fleet::{FleetPlan, PlannedTenant, Step, plan_fleet};
pub use plan::locks::{Blocks, LockMode, TableLock};
pub use plan::plan_file::SavedPlan;
pub use plan::started::{NextStatement, StartedMigration};
pub use plan::state::{FleetState, SchemaState, TenantState, read_state};
pub use plan::{SchemaPlan, Target, plan};
pub use rehearsal::{Rehearsal, rehearse};
pub use repair::{Repair, RepairOutcome, Repaired, repair};
pub use scaffold::{is_name, new_file, new_file_from_bundled};
