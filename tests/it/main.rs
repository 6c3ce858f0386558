//! The integration tests: one binary, one server, a database per test.

mod layering;
mod sandbox;
mod smoke;
