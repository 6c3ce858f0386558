//! The files of seeds.

use crate::{
    error::{Result, SeedError},
    lifecycle::exec::ExecScript,
    version::Checksum,
};
use std::{fs, io, path::Path};

/// The seeds of a project, in the order of their names.
///
/// ```
/// use cgk::lifecycle::SeedSet;
///
/// let seeds = SeedSet::default().with_file("demo", "insert into customers (email) values ('ada@example.com')")?;
/// assert_eq!(seeds.files()[0].name(), "demo");
/// # Ok::<(), cgk::Error>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct SeedSet {
    files: Vec<SeedFile>,
}

/// A file of SQL that each tenant gets once.
#[derive(Clone, Debug)]
pub struct SeedFile {
    name: String,
    checksum: Checksum,
    script: ExecScript,
}

impl SeedSet {
    /// Reads the files `*.sql` of a folder. Hidden files and folders in it are ignored.
    ///
    /// # Errors
    ///
    /// Kind `Refused`: the folder or a file cannot be read ([`SeedError::Unreadable`]). `Invalid`: it contains no such
    /// file or does not exist ([`SeedError::NoFiles`]), or a name ends in `.SQL`, or a file contains no statement, contains COPY, or cannot be split into statements.
    pub fn read(folder: &Path) -> Result<Self> {
        let unreadable = |path: &Path, source| SeedError::Unreadable { path: path.to_owned(), source };
        let entries = fs::read_dir(folder).and_then(|entries| entries.collect::<io::Result<Vec<_>>>());
        let entries = match entries {
            Err(source) if source.kind() == io::ErrorKind::NotFound => Vec::new(),
            entries => entries.map_err(|source| unreadable(folder, source))?,
        };
        let mut seeds = Self::default();
        for path in entries.into_iter().map(|entry| entry.path()) {
            if let Some(name) = name_of(&path)? {
                let text = fs::read_to_string(&path).map_err(|source| unreadable(&path, source))?;
                seeds.add(name, &text)?;
            }
        }
        if seeds.files.is_empty() {
            return Err(SeedError::NoFiles { folder: folder.to_owned() }.into());
        }
        Ok(seeds)
    }

    /// Adds a file. Replaces a file of the same name.
    ///
    /// # Errors
    ///
    /// Kind `Invalid`: the text contains no statement, contains COPY, or cannot be split into statements.
    pub fn with_file(mut self, name: impl Into<String>, sql: &str) -> Result<Self> {
        self.add(name.into(), sql)?;
        Ok(self)
    }

    fn add(&mut self, name: String, sql: &str) -> Result<()> {
        let sql = sql.strip_prefix('\u{feff}').unwrap_or(sql);
        let script = ExecScript::parse(sql)
            .map_err(|error| SeedError::Invalid { name: name.clone(), problem: error.to_string() })?;
        let file = SeedFile { checksum: Checksum::of(sql), name, script };
        match self.files.binary_search_by(|other| other.name.cmp(&file.name)) {
            Ok(place) => self.files[place] = file,
            Err(place) => self.files.insert(place, file),
        }
        Ok(())
    }

    /// Returns the files.
    pub fn files(&self) -> &[SeedFile] {
        &self.files
    }
}

impl SeedFile {
    /// Returns its name, without `.sql`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns the checksum of its text.
    pub fn checksum(&self) -> &Checksum {
        &self.checksum
    }

    /// Returns the line on which a statement begins. Statements and lines are counted from 1.
    pub fn line(&self, statement: usize) -> Option<usize> {
        self.script.line(statement)
    }

    pub(super) fn statements(&self) -> &[String] {
        self.script.statements()
    }
}

/// Returns the name of a seed; `None` if the path is not an SQL file.
fn name_of(path: &Path) -> Result<Option<String>, SeedError> {
    let (Some(stem), Some(extension)) = (path.file_stem(), path.extension()) else { return Ok(None) };
    let name = stem.to_string_lossy().into_owned();
    if !extension.eq_ignore_ascii_case("sql") || name.starts_with('.') || !path.is_file() {
        return Ok(None);
    }
    if extension != "sql" {
        let problem = "the name of its file must end in .sql, in lower case".into();
        return Err(SeedError::Invalid { name, problem });
    }
    Ok(Some(name))
}
