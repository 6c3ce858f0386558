//! Identity of databases, schemas and rows.

pub(crate) mod database_identity;
pub(crate) mod drift;
pub(crate) mod dump;
pub(crate) mod first_identity;
pub(crate) mod other_form;
pub(crate) mod schema_identity;
pub(crate) mod strange_rows;
pub(crate) mod swap;
