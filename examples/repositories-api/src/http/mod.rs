//! What all resources have in common over HTTP.

pub mod body;
pub mod cursor;
pub mod etag;
pub mod idempotency;
pub mod origin;
pub mod ownership;
pub mod page;
pub mod path;
pub mod permissions;
pub mod problems;

pub use body::Body;
pub use page::{Page, PageQuery};
