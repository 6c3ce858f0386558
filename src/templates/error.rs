//! Why templates were not written.

use crate::error::Error;
use std::{io, path::PathBuf};

/// Why templates were not written. But for [`Write`](Self::Write), nothing was changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TemplateError {
    /// No template has this name.
    #[error("there is no template {name:?}")]
    Unknown {
        /// What was given.
        name: String,
    },
    /// A template that the project does not have cannot be upgraded.
    #[error("this project does not have the template {name:?}")]
    NotInProject {
        /// The template.
        name: String,
    },
    /// The folder has no migrations yet, so that there is nothing to upgrade.
    #[error("there is no project to upgrade in {folder:?}: it has no migrations")]
    NoProject {
        /// The folder of the migrations.
        folder: PathBuf,
    },
    /// The shared set is another one than cgk's.
    #[error("the shared set in {folder:?} is not based on cgk's own tables")]
    ForeignPublicSet {
        /// The folder of the set.
        folder: PathBuf,
    },
    /// A file of the project has the name of one that the template would bring, and another text.
    #[error("{file:?} has the name of a migration of the template {template:?}, and another text")]
    NameTaken {
        /// The project's file.
        file: PathBuf,
        /// The template.
        template: String,
    },
    /// A file of the project makes a table, view, sequence or index that the template would make too.
    #[error("{file:?} makes {relation:?}, and so does the template {template:?}")]
    RelationTaken {
        /// The project's file.
        file: PathBuf,
        /// The relation.
        relation: String,
        /// The template.
        template: String,
    },
    /// Versions have come to their end.
    #[error("version {version} is the highest possible version")]
    NoVersionLeft {
        /// The newest version of the set.
        version: i64,
    },
    /// The record of what the project was given cannot be read.
    #[error("could not read {path:?}: {problem}")]
    Record {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// Something stands where a folder or a file would be written.
    #[error("{path:?} stands in the way: {problem}")]
    Blocked {
        /// What stands there.
        path: PathBuf,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// A file could not be read.
    #[error("could not read {path:?}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// A file could not be written. The files that were written before it were removed again, but for those named here.
    #[error("could not write {path:?}")]
    Write {
        /// The file.
        path: PathBuf,
        /// Files that could not be removed again.
        left: Vec<PathBuf>,
        /// What the operating system said.
        source: io::Error,
    },
    /// The migrations of the folder cannot be used, or could not with those of the template beside them.
    #[error(transparent)]
    Migrations(#[from] Error),
}
