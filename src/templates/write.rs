//! Writing what was planned: each file completely or not at all, and no file over another.

use super::{
    error::TemplateError,
    planned::{InitPlan, PlannedFile},
};
use std::{
    fs,
    io::{self, Write as _},
    path::{Path, PathBuf},
};

impl InitPlan {
    /// Writes the files. Each appears with its whole text or not at all, and a file that somebody else wrote meanwhile is not
    /// overwritten. Where one cannot be written, those before it are removed again.
    ///
    /// A process that is killed leaves whole files, and no record of them; the same plan, made and written again, completes them.
    ///
    /// # Errors
    ///
    /// [`TemplateError::Write`]: what the operating system says, and which files could not be removed again.
    pub fn write(&self) -> Result<(), TemplateError> {
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

    /// Takes everything back, the last first; returns what could not be.
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
            // One in which something else stands by now stays.
            let _ = fs::remove_dir(folder);
        }
        left
    }
}

/// Writes a new file: under another name first, which then gets a second name that must be free.
fn create(folder: &Path, path: &Path, text: &str) -> io::Result<()> {
    let draft = Draft::write(folder, text)?;
    match fs::hard_link(&draft.0, path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            // A file system without second names.
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

/// Replaces a file that still has the text that it had.
fn replace(folder: &Path, path: &Path, text: &str, before: &str) -> io::Result<()> {
    if fs::read_to_string(path)? != before {
        return Err(io::Error::other("the file was changed meanwhile"));
    }
    let mut draft = Draft::write(folder, text)?;
    fs::rename(&draft.0, path)?;
    draft.0 = PathBuf::new();
    Ok(())
}

/// A file under a name of our own, removed when it is dropped.
struct Draft(PathBuf);

impl Draft {
    fn write(folder: &Path, text: &str) -> io::Result<Self> {
        let path = folder.join(format!(".cgk-init-{:016x}", rand::random::<u64>()));
        let mut file = fs::File::create_new(&path)?;
        let draft = Self(path);
        file.write_all(text.as_bytes())?;
        Ok(draft)
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        if !self.0.as_os_str().is_empty() {
            // What is left has a name that no tool reads.
            let _ = fs::remove_file(&self.0);
        }
    }
}
