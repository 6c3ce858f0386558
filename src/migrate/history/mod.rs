//! The history of runs, in two tables of the shared schema: for operators, and for `--retry-failed`.

pub(in crate::migrate) mod read;
pub(in crate::migrate) mod writer;
