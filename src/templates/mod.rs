//! Templates: sets of migrations for a new or an existing project. `cgk init` uses them.
//!
//! A template is a folder `templates/<name>` of this crate: migrations of the two sets, a description, an example and a
//! test. [`plan`] reads a project's folder and returns the files to write. [`InitPlan::write`] writes them. No database
//! is needed, and no file of the user is changed.
//!
//! - A file of a template gets the next number after the newest file of its set, or its bundled number if that is
//!   higher. So templates can be combined. A template that is added later, or a file from a newer version of cgk, comes
//!   after everything that may have been applied. In a new project the shared tables have the numbers of the bundled
//!   set.
//! - Every project has copies of the shared tables that cgk itself uses, in `migrations/public`. From then on that set
//!   belongs to the project.
//! - `migrations/templates.toml` records by name which files a project has received. So an upgrade adds only new files.
//!   It does not add again a file that was removed, or that was edited before it was applied.

mod catalog;
mod draft;
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
