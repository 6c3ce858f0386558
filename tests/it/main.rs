//! The integration tests: one binary, one server, a database per test.

mod layering;
mod migrate_apply;
mod sandbox;
mod smoke;
