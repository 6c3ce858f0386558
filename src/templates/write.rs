//! Writes the planned files. Each file is written completely or not at all, and no existing file is overwritten.

use super::{
    draft::{Draft, remove_abandoned},
    error::TemplateError,
    planned::{InitPlan, PlannedFile},
};
use std::{
    fs,
    io::{self, Write as _},
    path::{Path, PathBuf},
};

impl InitPlan {
    /// Writes the files. A new file appears with its complete text or not at all, except on a file system without hard
    /// links. A file that another process created meanwhile is not overwritten. If one file cannot be written, the
    /// files written before it are removed again.
    ///
    /// If the process is killed, complete files may exist that are not recorded, and one temporary file. Making and
    /// writing the same plan again completes the work and removes the temporary file.
    ///
    /// # Errors
    ///
    /// [`TemplateError::Write`]: the error of the operating system, and the files that could not be removed again.
    pub fn write(&self) -> Result<(), TemplateError> {
        self.drafts.iter().for_each(|path| remove_abandoned(path));
        let mut written = Written::default();
        for file in &self.files {
            if let Err(source) = written.write(file) {
                return Err(TemplateError::Write { path: file.path.clone(), left: written.undo(), source });
            }
        }
        Ok(())
    }
}

/// What has been written so far.
#[derive(Default)]
struct Written<'a> {
    folders: Vec<PathBuf>,
    files: Vec<&'a PlannedFile>,
}

impl<'a> Written<'a> {
    fn write(&mut self, file: &'a PlannedFile) -> io::Result<()> {
        let folder = file.path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        self.make_folders(folder)?;
        match &file.replaces {
            None => create(folder, &file.path, &file.text)?,
            Some(before) => replace(folder, &file.path, &file.text, before)?,
        }
        self.files.push(file);
        Ok(())
    }

    fn make_folders(&mut self, folder: &Path) -> io::Result<()> {
        let missing: Vec<&Path> =
            folder.ancestors().take_while(|at| !at.as_os_str().is_empty() && !at.exists()).collect();
        for folder in missing.into_iter().rev() {
            match fs::create_dir(folder) {
                Ok(()) => self.folders.push(folder.to_owned()),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists && folder.is_dir() => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Undoes everything, the last file first. Returns the files for which this failed.
    fn undo(self) -> Vec<PathBuf> {
        let mut left = Vec::new();
        for file in self.files.into_iter().rev() {
            let undone = match &file.replaces {
                None => fs::remove_file(&file.path),
                Some(before) => {
                    let folder = file.path.parent().unwrap_or(Path::new("."));
                    replace(folder, &file.path, before, &file.text)
                }
            };
            if undone.is_err() {
                left.push(file.path.clone());
            }
        }
        for folder in self.folders.iter().rev() {
            // A folder that now contains other files is not removed.
            let _ = fs::remove_dir(folder);
        }
        left
    }
}

/// Creates a file: writes it under a temporary name, then links it to its final name, which must be free.
fn create(folder: &Path, path: &Path, text: &str) -> io::Result<()> {
    let draft = Draft::write(folder, text)?;
    match fs::hard_link(draft.path(), path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            // The file system has no hard links.
            let mut file = fs::File::create_new(path)?;
            let written = file.write_all(text.as_bytes());
            if written.is_err() {
                let _ = fs::remove_file(path);
            }
            written
        }
        linked => linked,
    }
}

/// Replaces a file if it still has its previous text.
fn replace(folder: &Path, path: &Path, text: &str, before: &str) -> io::Result<()> {
    if fs::read_to_string(path)? != before {
        return Err(io::Error::other("the file was changed meanwhile"));
    }
    let mut draft = Draft::write(folder, text)?;
    fs::rename(draft.path(), path)?;
    draft.keep();
    Ok(())
}
