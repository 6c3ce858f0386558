//! Repositories: `/organizations/{organization_id}/repositories`.

mod handlers;
mod model;
mod store;

pub use handlers::*;
pub use model::{Repository, RepositoryFields};
pub use store::find;
