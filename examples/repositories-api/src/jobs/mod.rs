//! Jobs: `/organizations/{organization_id}/jobs`, and those of a repository behind it.

mod handlers;
mod model;
pub mod queue;
mod store;
pub mod work;

pub use handlers::*;
pub use model::{Job, JobKind, JobStatus, NewJob};
