//! Organizations: `/organizations`. They are rows of the shared schema, so each statement says whose it wants.

mod creation;
mod handlers;
mod model;
mod store;

pub use handlers::*;
pub use model::{NewOrganization, Organization, OrganizationFields};
