//! A plan: the files that would be written, and what is refused before the first one.

use super::error::TemplateError;
use std::{
    fs,
    path::{Path, PathBuf},
};

/// What would be written. Nothing has been written yet.
#[derive(Clone, Debug)]
pub struct InitPlan {
    pub(super) files: Vec<PlannedFile>,
    pub(super) templates: Vec<PlannedTemplate>,
    pub(super) kept: Vec<PathBuf>,
    pub(super) gitignore_lacks_env: bool,
}

/// A file that would be written.
#[derive(Clone, Debug)]
pub struct PlannedFile {
    pub(super) path: PathBuf,
    pub(super) text: String,
    /// The text of a file of cgk's own, or of `accepted.txt`, that gets a new text; none for a new file.
    pub(super) replaces: Option<String>,
}

impl PlannedFile {
    /// Where it is written.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What is written.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Whether the file is there already and is extended: the record `templates.toml`, or `accepted.txt`.
    pub fn is_extended(&self) -> bool {
        self.replaces.is_some()
    }
}

/// A template of the project, as it will be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlannedTemplate {
    /// Its name; `platform` for the shared tables that every project has.
    pub name: String,
    /// The version that the project had; none, if the template is new to it.
    pub from: Option<u32>,
    /// The version that it will have.
    pub to: u32,
    /// How many migrations it brings.
    pub migrations: usize,
}

impl InitPlan {
    /// The files that would be written, in that order.
    pub fn files(&self) -> &[PlannedFile] {
        &self.files
    }

    /// The templates that were asked for, and the shared tables.
    pub fn templates(&self) -> &[PlannedTemplate] {
        &self.templates
    }

    /// Files of the user's that stand where the plan would have written, and that stay as they are.
    pub fn kept(&self) -> &[PathBuf] {
        &self.kept
    }

    /// Whether the folder has a `.gitignore` that does not name `.env`, the file that holds a password.
    pub fn gitignore_lacks_env(&self) -> bool {
        self.gitignore_lacks_env
    }
}

impl InitPlan {
    /// Adds a file unless it is there; one with another text is kept, and said so.
    pub(super) fn add_unless_there(&mut self, path: PathBuf, text: &str) {
        match fs::read_to_string(&path) {
            Ok(own) if own == text => {}
            _ if path.symlink_metadata().is_ok() => self.kept.push(path),
            _ => self.files.push(PlannedFile { path, text: text.to_owned(), replaces: None }),
        }
    }

    /// Leaves out what would not change, and puts the record last: a run that is cut off before it has not recorded anything, and
    /// the next one finds the files by their texts.
    pub(super) fn close(&mut self, record: &Path) {
        self.files.retain(|file| file.replaces.as_deref() != Some(file.text.as_str()));
        self.files.sort_by_key(|file| file.path == record);
    }

    pub(super) fn refuse_what_is_in_the_way(&self, root: &Path) -> Result<(), TemplateError> {
        for file in &self.files {
            let blocked = |path: &Path, problem| TemplateError::Blocked { path: path.to_owned(), problem };
            if file.replaces.is_none() && file.path.symlink_metadata().is_ok() {
                return Err(blocked(&file.path, "it was not there before"));
            }
            let folders = file.path.ancestors().skip(1).chain([root]);
            for folder in folders.filter(|folder| !folder.as_os_str().is_empty()) {
                if folder.symlink_metadata().is_ok() && !folder.is_dir() {
                    return Err(blocked(folder, "it is not a folder"));
                }
            }
        }
        Ok(())
    }
}
