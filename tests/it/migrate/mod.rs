//! Migrations.

pub(crate) mod apply;
pub(crate) mod beside_steps;
pub(crate) mod collisions;
pub(crate) mod concurrent_traffic;
pub(crate) mod corpus;
pub(crate) mod file_settings;
pub(crate) mod files;
pub(crate) mod fleet;
pub(crate) mod fleet_concurrency;
pub(crate) mod ledger_rows;
pub(crate) mod ledger_tables;
pub(crate) mod lint;
mod lint_effects;
pub(crate) mod locks;
pub(crate) mod non_transactional;
pub(crate) mod other_tools;
pub(crate) mod read_only;
pub(crate) mod reading;
pub(crate) mod rehearsal;
pub(crate) mod rehearsal_cost;
pub(crate) mod repair;
pub(crate) mod run;
pub(crate) mod session_reset;
pub(crate) mod spans;
pub(crate) mod sql_reading;
pub(crate) mod without_concurrently;
pub(crate) mod wrong_files;
