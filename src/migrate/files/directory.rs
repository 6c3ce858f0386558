//! Reads a directory of migrations: the folders of the two sets, and the files beside them.

use super::{
    encoding,
    file::{FileText, holds_one},
    name,
    source::Source,
};
use crate::{
    error::{Error, MigrationError, Result},
    migration::{FileProblem, Set},
};
use std::{
    fs, io,
    path::{Path, PathBuf},
};

/// The content of a directory: both sets, and the files that do not belong to them.
pub(in crate::migrate) struct Directory {
    pub(in crate::migrate) public: Source,
    pub(in crate::migrate) tenant: Source,
    pub(in crate::migrate) unreadable: Vec<FileProblem>,
}

/// Reads a directory, without checking the texts.
pub(in crate::migrate) fn read_directory(directory: &Path) -> Result<Directory> {
    read(directory, |folder| {
        let read = read_folder(folder)?;
        let (texts, _, problems) = &read;
        if texts.is_empty() && problems.is_empty() {
            let problem = "holds no migrations; the first is 001_what_it_does.sql".to_owned();
            let problems = vec![FileProblem { file: folder.to_owned(), line: None, problem }];
            return Ok((Vec::new(), read.1, problems));
        }
        Ok(read)
    })
}

/// Reads a directory that may not exist, and in which either set may have no files or folder yet.
pub(in crate::migrate) fn read_unfinished(directory: &Path) -> Result<Directory> {
    read(directory, |folder| match folder.try_exists() {
        Ok(false) => Ok(Folder::default()),
        _ => read_folder(folder),
    })
}

fn read(directory: &Path, read_folder: impl Fn(&Path) -> Result<Folder>) -> Result<Directory> {
    let mut unreadable = Vec::new();
    let mut read = |set: Set| -> Result<Source> {
        let (texts, left_aside, unknown) = read_folder(&directory.join(set.folder()))?;
        unreadable.extend(unknown);
        let (mut source, found) = Source::parse(set, texts);
        source.left_aside = left_aside;
        unreadable.extend(found);
        Ok(source)
    };
    let (public, tenant) = (read(Set::Public)?, read(Set::Tenant)?);
    if directory.is_dir() {
        unreadable.extend(misplaced(directory)?);
    }
    Ok(Directory { public, tenant, unreadable })
}

/// Finds files that look like migrations but are in neither set: a `.sql` file beside the two folders, or a folder
/// whose name is similar to a set's. Other files beside the folders are ignored.
fn misplaced(directory: &Path) -> Result<Vec<FileProblem>> {
    let listed = |error| {
        Error::Migration(MigrationError::Unreadable {
            path: directory.to_owned(),
            problem: "the folder cannot be listed".into(),
            source: Some(error),
        })
    };
    let mut paths = fs::read_dir(directory)
        .and_then(|entries| entries.map(|entry| Ok(entry?.path())).collect::<io::Result<Vec<_>>>())
        .map_err(listed)?;
    paths.sort();
    let sets = [Set::Public, Set::Tenant];
    let problem = |path: PathBuf| {
        let name = path.file_name()?.to_string_lossy().to_ascii_lowercase();
        let is_set = sets.iter().any(|set| path.ends_with(set.folder()));
        let problem = match () {
            () if is_set || name.starts_with('.') => return None,
            () if path.is_dir() => {
                let set = sets.iter().find(|set| name.trim_end_matches('s') == set.folder())?;
                format!(
                    "is not read: the {set} set is the folder {0:?}; move its files there and remove this folder",
                    set.folder()
                )
            }
            () if name.ends_with(".sql") => "is in neither set: move it into public/ or tenant/".to_owned(),
            () => return None,
        };
        Some(FileProblem { file: path, line: None, problem })
    };
    Ok(paths.into_iter().filter_map(problem).collect())
}

type Folder = (Vec<FileText>, Vec<PathBuf>, Vec<FileProblem>);

/// Returns the texts of a folder's `.sql` files, the ignored files, and the files that must not be there.
fn read_folder(folder: &Path) -> Result<Folder> {
    let unreadable = |path: &Path, problem: &str, source: io::Error| {
        Error::Migration(MigrationError::Unreadable {
            path: path.to_owned(),
            problem: problem.into(),
            source: Some(source),
        })
    };
    let entries = fs::read_dir(folder).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => unreadable(folder, "there is no such folder", error),
        _ => unreadable(folder, "the folder cannot be listed", error),
    })?;
    let mut paths = entries
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<io::Result<Vec<_>>>()
        .map_err(|error| unreadable(folder, "the folder cannot be listed", error))?;
    paths.sort();
    let (mut texts, mut left_aside, mut problems) = (Vec::new(), Vec::new(), Vec::new());
    for path in paths {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if name::is_left_aside(&name) {
            left_aside.push(path);
        } else if path.is_dir() {
            match one_migration(&path, &mut left_aside)? {
                Ok(text) => texts.push(text),
                Err(problem) => problems.push(problem),
            }
        } else {
            match read_text(&path)? {
                Ok(text) => texts.push(FileText::of(path, text)),
                Err(problem) => problems.push(problem),
            }
        }
    }
    Ok((texts, left_aside, problems))
}

fn read_text(path: &Path) -> Result<Result<String, FileProblem>> {
    let unreadable = |error| {
        Error::Migration(MigrationError::Unreadable {
            path: path.to_owned(),
            problem: "the file cannot be read".into(),
            source: Some(error),
        })
    };
    // Reading a pipe would block, and a device has no end.
    if !fs::metadata(path).map_err(unreadable)?.is_file() {
        let problem = "is no regular file; remove it from the folder".to_owned();
        return Ok(Err(FileProblem { file: path.to_owned(), line: None, problem }));
    }
    let bytes = fs::read(path).map_err(unreadable)?;
    Ok(encoding::decode(bytes).map_err(|found| FileProblem {
        file: path.to_owned(),
        line: found.line,
        problem: found.problem,
    }))
}

/// Returns the migration in a folder, in the layout of diesel, Prisma and Hasura.
fn one_migration(folder: &Path, left_aside: &mut Vec<PathBuf>) -> Result<Result<FileText, FileProblem>> {
    let problem = |file: &Path, problem: &str| {
        Ok(Err(FileProblem { file: file.to_owned(), line: None, problem: problem.to_owned() }))
    };
    let mut found = None;
    let mut transactional = None;
    let entries = fs::read_dir(folder).and_then(|entries| entries.map(|entry| Ok(entry?.path())).collect());
    let mut paths: Vec<PathBuf> = entries.map_err(|error| {
        Error::Migration(MigrationError::Unreadable {
            path: folder.to_owned(),
            problem: "the folder cannot be listed".into(),
            source: Some(error),
        })
    })?;
    paths.sort();
    if !paths.iter().any(|path| holds_one(path)) {
        return problem(
            folder,
            "is a folder without up.sql or migration.sql; a set has no other sub-folders: move it away",
        );
    }
    for path in paths {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        match name.as_str() {
            "metadata.toml" => {
                let text = match read_text(&path)? {
                    Ok(text) => text,
                    Err(problem) => return Ok(Err(problem)),
                };
                let Ok(table) = text.parse::<toml::Table>() else { return problem(&path, "is not valid TOML") };
                let runs_in = table.get("run_in_transaction").and_then(toml::Value::as_bool);
                // Without the setting, the file is empty and the default applies.
                if table.len() != usize::from(runs_in.is_some()) {
                    let what = "contains something other than run_in_transaction = true or false, the only setting of \
                        diesel that cgk reads: remove the rest";
                    return problem(&path, what);
                }
                transactional = runs_in;
                left_aside.push(path);
            }
            "down.sql" | "snapshot.json" => left_aside.push(path),
            name if name.starts_with('.') || name == "README.md" => left_aside.push(path),
            _ if holds_one(&path) && found.is_none() => found = Some(path),
            _ => {
                let what = "is a further SQL file in the folder of one migration, and cgk does not know its purpose: \
                    move it to a folder of its own, or away";
                return problem(&path, what);
            }
        }
    }
    let path = found.expect("there is one");
    Ok(read_text(&path)?.map(|text| FileText { path, text, transactional }))
}
