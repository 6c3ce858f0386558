//! The command about secrets at rest.

pub(crate) mod rotate;
