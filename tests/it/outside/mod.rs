//! What testers from outside tried.

pub(crate) mod breaks;
pub(crate) mod holds;
