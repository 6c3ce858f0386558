//! The history of runs, in two tables of the shared schema. It is for operators, and for `--retry-failed`.

pub(in crate::migrate) mod read;
#[cfg(feature = "report")]
pub(crate) mod tenants;
pub(in crate::migrate) mod writer;
