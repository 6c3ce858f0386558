//! The command about stored secrets.

pub(crate) mod rotate;
