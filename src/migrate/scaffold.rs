//! A new migration file: its version is the one after the newest of its set.

use super::{files::name, migrations::Migrations};
use crate::{
    error::{Error, MigrationError, Result},
    migration::{FileProblem, Set},
    version::{Checksum, Version},
};
use std::{
    fs,
    io::{self, Write as _},
    path::{Path, PathBuf},
};

/// Writes the next file of a set, with a comment about its purpose and no statement yet. Only the names of the existing
/// files are read, so two new files can be created before either has content. No file is overwritten.
///
/// # Errors
///
/// - [`MigrationError::Invalid`]: the name contains other characters than a-z, A-Z, 0-9 and _, or a `.sql` file of the
///   folder has a name without a version.
/// - [`MigrationError::Unreadable`]: an error of the operating system.
pub fn new_file(directory: &Path, set: Set, name: &str) -> Result<PathBuf> {
    write_next(directory, set, name, None)
}

/// Writes the next file of a set with the text of a bundled migration of that set, given by its name without the
/// version. Use it to add a migration that a newer release bundles to a set that was copied earlier.
///
/// # Errors
///
/// Those of [`new_file`]. [`MigrationError::Invalid`]: no bundled migration has that name, or a file of the folder
/// already has its text.
pub fn new_file_from_bundled(directory: &Path, set: Set, name: &str, bundled: &str) -> Result<PathBuf> {
    let migrations = Migrations::bundled();
    let files = migrations.set(set).files();
    let folder = directory.join(set.folder());
    let invalid = |problem: String| {
        let problems = vec![FileProblem { file: folder.clone(), line: None, problem }];
        Error::Migration(MigrationError::Invalid { problems })
    };
    let Some(file) = files.iter().find(|file| file.id().name == bundled) else {
        let names: Vec<&str> = files.iter().map(|file| file.id().name.as_str()).collect();
        return Err(invalid(format!("no bundled migration is named {bundled:?}; these are: {}", names.join(", "))));
    };
    if let Some(same) = file_with_text(&folder, file.checksum()) {
        return Err(invalid(format!("{same} already has the text of the bundled migration {bundled:?}")));
    }
    write_next(directory, set, name, Some(file.sql()))
}

/// Returns the name of a file with this text.
fn file_with_text(folder: &Path, checksum: &Checksum) -> Option<String> {
    let paths = fs::read_dir(folder).ok()?.filter_map(|entry| Some(entry.ok()?.path()));
    paths
        .filter(|path| fs::read_to_string(path).is_ok_and(|text| Checksum::of(&text) == *checksum))
        .find_map(|path| Some(path.file_name()?.to_string_lossy().into_owned()))
}

fn write_next(directory: &Path, set: Set, name: &str, text: Option<&str>) -> Result<PathBuf> {
    let folder = directory.join(set.folder());
    if !is_name(name) {
        let problem = format!("{name:?} cannot be the name of a migration: use only a-z, A-Z, 0-9 and _");
        return Err(Error::Migration(MigrationError::Invalid {
            problems: vec![FileProblem { file: folder, line: None, problem }],
        }));
    }
    let unusable = |path: &Path, problem: &str| {
        let (path, problem) = (path.to_owned(), problem.to_owned());
        move |source| Error::Migration(MigrationError::Unreadable { path, problem, source: Some(source) })
    };
    fs::create_dir_all(&folder).map_err(unusable(&folder, "the folder cannot be created"))?;
    loop {
        let version = next_version(&folder)?;
        let file = format!("{version}_{name}.sql");
        let path = folder.join(&file);
        let text = match (text, set) {
            (Some(text), _) => text.to_owned(),
            (None, Set::Public) => format!("-- {file}: runs once, in the shared schema.\n{RULES}"),
            (None, Set::Tenant) => format!("-- {file}: runs once in the schema of every tenant.\n{RULES}"),
        };
        match fs::File::create_new(&path).and_then(|mut file| file.write_all(text.as_bytes())) {
            Ok(()) => return Ok(path),
            // Another process has just used this version.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(unusable(&path, "the file cannot be written")(error)),
        }
    }
}

/// Returns whether a text can be the name of a migration: a-z, A-Z, 0-9 and _, and not empty.
pub fn is_name(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

const RULES: &str = "\
-- Plain SQL without schema names, BEGIN or COMMIT: cgk sets the schema and opens the transaction.
-- CREATE INDEX CONCURRENTLY and similar statements need a file of their own that begins with `-- cgk:no-transaction`.
-- Do not edit a file that was applied anywhere; write a new one.
";

fn next_version(folder: &Path) -> Result<Version> {
    let unreadable = |source| {
        Error::Migration(MigrationError::Unreadable {
            path: folder.to_owned(),
            problem: "the folder cannot be listed".into(),
            source: Some(source),
        })
    };
    let (mut newest, mut problems) = (0, Vec::new());
    for entry in fs::read_dir(folder).map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let parsed = match path.is_dir() {
            _ if name::is_left_aside(&name) => continue,
            true => name::parse_folder(&name),
            false if name.to_ascii_lowercase().ends_with(".sql") => name::parse(&name),
            false => continue,
        };
        match parsed {
            Ok(id) => newest = newest.max(id.version.get()),
            Err(problem) => problems.push(FileProblem { file: path, line: None, problem }),
        }
    }
    let next = newest.checked_add(1).and_then(Version::new);
    match next {
        Some(next) if problems.is_empty() => Ok(next),
        Some(_) => Err(Error::Migration(MigrationError::Invalid { problems })),
        None => {
            let problem = format!("version {newest} is the highest possible version");
            Err(Error::Migration(MigrationError::Invalid {
                problems: vec![FileProblem { file: folder.to_owned(), line: None, problem }],
            }))
        }
    }
}
