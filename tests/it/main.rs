//! The integration tests: one binary, one server, a database per test.

mod layering;
mod migrate_apply;
mod migrate_files;
mod migrate_fleet;
mod sandbox;
mod setup_and_create;
mod smoke;
