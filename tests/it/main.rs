//! The integration tests: one binary, one server, a database per test.

mod baseline;
mod cli_commands;
mod cli_demo;
mod cli_fleet;
mod cli_help;
mod cli_lint;
mod cli_refusals;
mod cli_together;
mod cli_verify;
mod connection;
mod create_many;
mod docs;
mod drift;
mod layering;
mod ledger_repair;
mod migrate_apply;
mod migrate_files;
mod migrate_fleet;
mod migrate_lint;
mod migrate_locks;
mod migrate_neighbours;
mod migrate_run;
mod migrate_steps;
mod mode_change;
mod platform;
mod row_security;
mod sandbox;
mod service_login;
mod setup_and_create;
mod split_answers;
mod stage;
mod standby;
mod tenant_attacks;
mod tenant_cancel;
mod tenant_compile;
mod tenant_guard;
mod tenant_isolation;
mod tenant_order;
mod tenant_pool;
mod tenant_state;
mod tenant_statement;
mod tenant_wire;
mod support {
    pub(crate) mod cgk;
}
