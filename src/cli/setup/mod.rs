//! `cgk setup:database`

pub(in crate::cli) mod database;
pub(in crate::cli) mod identity;
pub(in crate::cli) mod isolation;
pub(in crate::cli) mod lines;
