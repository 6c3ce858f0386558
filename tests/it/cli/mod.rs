//! The program, by its output.

pub(crate) mod advice;
pub(crate) mod commands;
pub(crate) mod concurrent_runs;
pub(crate) mod demo;
pub(crate) mod exit_codes;
pub(crate) mod fleet;
pub(crate) mod help;
pub(crate) mod lint;
#[cfg(target_os = "linux")]
pub(crate) mod memory;
pub(crate) mod named_commands;
pub(crate) mod newcomer;
pub(crate) mod passwords;
mod refusals;
pub(crate) mod server_log;
pub(crate) mod settings;
pub(crate) mod started_files;
#[cfg(target_os = "linux")]
pub(crate) mod terminal;
pub(crate) mod verify;
pub(crate) mod who_asks;
