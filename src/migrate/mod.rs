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

pub(crate) mod apply;
pub(crate) mod fleet;
pub(crate) mod ledger;
mod lint;
mod observe;
pub(crate) mod plan;
mod scaffold;
mod source;
mod sql;
pub(crate) mod state;

pub use crate::{
    migration::{Divergence, FileProblem, MigrationFailure, MigrationId, Place, Set},
    version::{Checksum, Version},
};
pub use fleet::{FleetPlan, Outcome, PlannedTenant, RunReport, RunStart, SchemaOutcome, Scope, Step, plan_fleet, run};
pub use ledger::{Applied, LEDGER_TABLE};
pub use observe::{Observer, Silent};
pub use plan::{Plan, Target, plan};
pub use scaffold::{is_name, new_file};
pub use source::{MigrationFile, Migrations, Source};
pub use state::{FleetState, SchemaState, TenantState, look};
