//! A plan: the files to write. All checks are done before the first file is written.

use super::{draft, error::TemplateError};
use std::{
    fs,
    path::{Path, PathBuf},
};

/// The files to write. Nothing has been written yet.
#[derive(Clone, Debug)]
pub struct InitPlan {
    pub(super) files: Vec<PlannedFile>,
    pub(super) templates: Vec<PlannedTemplate>,
    pub(super) kept: Vec<PathBuf>,
    pub(super) gitignore_lacks_env: bool,
    /// Temporary files that a killed process may have left in the folders.
    pub(super) drafts: Vec<PathBuf>,
}

/// A file to write.
#[derive(Clone, Debug)]
pub struct PlannedFile {
    pub(super) path: PathBuf,
    pub(super) text: String,
    /// The previous text, if the file exists and is replaced: one of cgk's own files, or `accepted.txt`. `None` for a
    /// new file.
    pub(super) replaces: Option<String>,
}

impl PlannedFile {
    /// Returns the path of the file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the text of the file.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Returns whether the file exists and is extended: the record `templates.toml`, or `accepted.txt`.
    pub fn is_extended(&self) -> bool {
        self.replaces.is_some()
    }
}

/// A template of the project after the plan is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlannedTemplate {
    /// The name. `platform` for the shared tables that every project has.
    pub name: String,
    /// The version that the project had. `None`: the template is new to the project.
    pub from: Option<u32>,
    /// The version that the project will have.
    pub to: u32,
    /// The number of migrations that are added.
    pub migrations: usize,
}

impl InitPlan {
    /// Returns the files to write, in this order.
    pub fn files(&self) -> &[PlannedFile] {
        &self.files
    }

    /// Returns the requested templates, and the shared tables.
    pub fn templates(&self) -> &[PlannedTemplate] {
        &self.templates
    }

    /// Returns the user's files that exist where the plan would have written. They are not changed.
    pub fn kept(&self) -> &[PathBuf] {
        &self.kept
    }

    /// Returns whether the folder has a `.gitignore` that does not contain `.env`, the file with a password.
    pub fn gitignore_lacks_env(&self) -> bool {
        self.gitignore_lacks_env
    }
}

impl InitPlan {
    /// Adds a file unless it exists. If a file with another text exists, it is not changed and is listed in `kept`.
    pub(super) fn add_unless_there(&mut self, path: PathBuf, text: &str) {
        if let Some(folder) = path.parent() {
            self.find_drafts(folder);
        }
        match fs::read_to_string(&path) {
            Ok(own) if own == text => {}
            _ if path.symlink_metadata().is_ok() => self.kept.push(path),
            _ => self.files.push(PlannedFile { path, text: text.to_owned(), replaces: None }),
        }
    }

    /// Looks for temporary files in a folder.
    pub(super) fn find_drafts(&mut self, folder: &Path) {
        let found = draft::in_folder(folder).into_iter().filter(|draft| !self.drafts.contains(draft));
        let found: Vec<PathBuf> = found.collect();
        self.drafts.extend(found);
    }

    /// Removes files that would not change, and moves the record to the end. A run that is interrupted before the end
    /// has recorded nothing, and the next run finds the files by their texts.
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
