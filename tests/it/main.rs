//! The integration tests: one binary, one server, a database per test.

mod cli_commands;
mod cli_demo;
mod cli_help;
mod cli_refusals;
mod cli_together;
mod smoke;
mod split_answers;
mod support {
    pub(crate) mod cgk;
}
