//! What happens to a tenant in its life, one verb a file.

mod create;

pub use create::{CreateOptions, Created, Creation, create};
