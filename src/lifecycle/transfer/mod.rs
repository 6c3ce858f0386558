//! The data of tenants on their way: what is shared by the export to a file, the import from one, and the copy of a tenant.

#![allow(dead_code)]

pub(crate) mod contents;
mod fields;
pub(crate) mod load;
