//! The temporary files from which files get their final names.

use std::{
    fs,
    io::{self, Write as _},
    path::{Path, PathBuf},
};

/// How the names of temporary files start.
const PREFIX: &str = ".cgk-init-";

/// Returns the temporary files in a folder, those of running processes included.
pub(super) fn in_folder(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let is_draft = |entry: &fs::DirEntry| {
        let is_named = entry.file_name().to_str().is_some_and(|name| name.starts_with(PREFIX));
        is_named && entry.file_type().is_ok_and(|kind| kind.is_file())
    };
    entries.flatten().filter(is_draft).map(|entry| entry.path()).collect()
}

/// Removes a temporary file of a process that was killed. A running process locks its own.
pub(super) fn remove_abandoned(path: &Path) {
    let is_abandoned = fs::File::open(path).is_ok_and(|file| file.try_lock().is_ok());
    if is_abandoned {
        // If this fails, the file remains, as after the run that was killed.
        let _ = fs::remove_file(path);
    }
}

/// A temporary file, removed when it is dropped.
pub(super) struct Draft {
    path: PathBuf,
    /// Locked as long as it is open.
    file: fs::File,
}

impl Draft {
    /// Writes a text into a new temporary file.
    pub(super) fn write(folder: &Path, text: &str) -> io::Result<Self> {
        let path = folder.join(format!("{PREFIX}{:016x}", rand::random::<u64>()));
        let file = fs::File::create_new(&path)?;
        // A file system without locks: then no process removes a file of another.
        let _ = file.try_lock();
        let mut draft = Self { path, file };
        draft.file.write_all(text.as_bytes())?;
        Ok(draft)
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Keeps the file, which has its final name now.
    pub(super) fn keep(&mut self) {
        self.path = PathBuf::new();
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        if !self.path.as_os_str().is_empty() {
            // If this fails, the file remains, under a name that no tool reads.
            let _ = fs::remove_file(&self.path);
        }
    }
}
