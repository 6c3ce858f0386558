//! The commands `cgk migrate` and `cgk migrate:…`.

pub(in crate::cli) mod baseline;
pub(in crate::cli) mod history;
pub(in crate::cli) mod lint;
pub(in crate::cli) mod new;
pub(in crate::cli) mod plan;
pub(in crate::cli) mod repair;
pub(in crate::cli) mod report;
pub(in crate::cli) mod run;
mod started;
pub(in crate::cli) mod status;
