//! The errors of writing templates.

use crate::error::Error;
use std::{io, path::PathBuf};

/// The reason why templates were not written. Except for [`Write`](Self::Write), nothing was changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TemplateError {
    /// No template has this name.
    #[error("there is no template {name:?}")]
    Unknown {
        /// The given name.
        name: String,
    },
    /// The project does not have this template, so it cannot be upgraded.
    #[error("this project does not have the template {name:?}")]
    NotInProject {
        /// The name of the template.
        name: String,
    },
    /// The folder has no migrations yet, so there is nothing to upgrade.
    #[error("there is no project to upgrade in {folder:?}: it has no migrations")]
    NoProject {
        /// The folder of the migrations.
        folder: PathBuf,
    },
    /// The project's shared set is not based on cgk's shared set.
    #[error("the shared set in {folder:?} is not based on cgk's own tables")]
    ForeignPublicSet {
        /// The folder of the set.
        folder: PathBuf,
    },
    /// A file of the project has the same name as a file of the template, but another text.
    #[error("{file:?} has the name of a migration of the template {template:?}, and another text")]
    NameTaken {
        /// The project's file.
        file: PathBuf,
        /// The template.
        template: String,
    },
    /// A file of the project creates a table, view, sequence or index that the template also creates.
    #[error("{file:?} makes {relation:?}, and so does the template {template:?}")]
    RelationTaken {
        /// The project's file.
        file: PathBuf,
        /// The relation.
        relation: String,
        /// The template.
        template: String,
    },
    /// The highest possible version is already used.
    #[error("version {version} is the highest possible version")]
    NoVersionLeft {
        /// The newest version of the set.
        version: i64,
    },
    /// The record of the installed templates cannot be read.
    #[error("could not read {path:?}: {problem}")]
    Record {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// Something else exists at the path of a folder or a file to write.
    #[error("{path:?} stands in the way: {problem}")]
    Blocked {
        /// The path.
        path: PathBuf,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// A file could not be read.
    #[error("could not read {path:?}")]
    Read {
        /// The file.
        path: PathBuf,
        /// The error of the operating system.
        source: io::Error,
    },
    /// A file could not be written. The files written before it were removed again, except those in `left`.
    #[error("could not write {path:?}")]
    Write {
        /// The file.
        path: PathBuf,
        /// Files that could not be removed.
        left: Vec<PathBuf>,
        /// The error of the operating system.
        source: io::Error,
    },
    /// The migrations of the folder are invalid, or would be invalid together with those of the template.
    #[error(transparent)]
    Migrations(#[from] Error),
}
