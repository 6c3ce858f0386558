//! Templates: sets of migrations to begin a project with, or to add to one, as `cgk init` does.
//!
//! A template is a folder `templates/<name>` of this crate: migrations of the two sets, a description, an example and a test.
//! [`plan`] reads a project's folder and says which files would be written; [`InitPlan::write`] writes them. No database is
//! needed, and no file of the user's is changed.
//!
//! - A file of a template gets the number after the newest of its set, or the one that it is bundled with where that is higher.
//!   So templates can be combined, and one that is added later, or a file that a newer version of cgk brings, comes after
//!   everything that may have been applied. In a new project the shared tables have the numbers of the bundled set.
//! - Every project has copies of the shared tables that cgk itself works with, in `migrations/public`: from then on that set
//!   is the project's own.
//! - What was given to a project is recorded in `migrations/templates.toml`, by name. So an upgrade adds what is new, and
//!   neither brings back a file that was removed nor repeats one that was edited before it was applied.

mod catalog;
mod error;
mod extras;
mod plan;
mod planned;
mod record;
mod write;

pub use catalog::{Template, all, find};
pub use error::TemplateError;
pub use plan::{InitMode, InitOptions, plan};
pub use planned::{InitPlan, PlannedFile, PlannedTemplate};
