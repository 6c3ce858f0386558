//! Applies a plan: one schema, or all schemas of a fleet.
//!
//! - `run.rs` processes the fleet. It passes the tenants to the workers of `src/fleet`, as `tenants.rs` defines.
//! - `attempt.rs` applies one schema's plan, and plans again if another run changed the schema first.
//! - `apply.rs` divides one schema's files into pieces.
//! - `batch/` sends a piece as one message.
//! - `non_transactional/` runs a file that cannot share a transaction, statement by statement.
//! - `blocking.rs` finds the transaction for which such a file waits.
//! - `all_or_nothing.rs` applies every schema in one transaction.

pub(in crate::migrate) mod all_or_nothing;
pub(crate) mod apply;
pub(crate) mod attempt;
pub(in crate::migrate) mod batch;
pub(crate) mod bind;
pub(in crate::migrate) mod blocking;
pub(in crate::migrate) mod concurrent;
pub(crate) mod grouping;
pub(crate) mod guard;
pub(in crate::migrate) mod non_transactional;
pub(in crate::migrate) mod observer;
pub(in crate::migrate) mod options;
pub(in crate::migrate) mod poll;
pub(in crate::migrate) mod report;
pub(in crate::migrate) mod report_sink;
pub(crate) mod run;
pub(crate) mod schema_lock;
pub(in crate::migrate) mod script;
pub(crate) mod step_log;
pub(in crate::migrate) mod tenants;
pub(in crate::migrate) mod transactionality;
pub(crate) mod unit;
