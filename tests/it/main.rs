//! The integration tests: one binary, one server, a database per test.

mod smoke;
mod split_answers;
