//! What testers from outside tried.

pub(crate) mod breaks;
pub(crate) mod held;
pub(crate) mod holds;
pub(crate) mod isolation;
pub(crate) mod migration_files;
pub(crate) mod migrations;
