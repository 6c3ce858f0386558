//! One set of migrations: its files, sorted by version.

use super::file::{FileText, MigrationFile};
use crate::{
    migration::{FileProblem, MigrationId, Set},
    version::Version,
};
use std::{collections::BTreeMap, path::PathBuf};

/// One set of migrations, sorted by version.
#[derive(Clone, Debug)]
pub struct Source {
    set: Set,
    files: Vec<MigrationFile>,
    pub(super) left_aside: Vec<PathBuf>,
}

impl Source {
    /// Returns which set this is.
    pub fn set(&self) -> Set {
        self.set
    }

    /// Returns the files, lowest version first.
    pub fn files(&self) -> &[MigrationFile] {
        &self.files
    }

    /// Returns the index of the file for a ledger's row: the one of its version, or a dated one whose row an earlier
    /// version of cgk recorded with the year as its version. The text may differ.
    pub(crate) fn place_of(&self, row: &MigrationId) -> Option<usize> {
        let of_version = self.files.binary_search_by_key(&row.version, |file| file.id().version).ok();
        of_version.or_else(|| self.files.iter().position(|file| file.earlier_id() == Some(row)))
    }

    /// Returns the newest migration.
    pub fn head(&self) -> Option<&MigrationId> {
        self.files.last().map(MigrationFile::id)
    }

    /// Returns the ignored files of the folder: `.down.sql`, dot files, a `README.md`.
    pub fn left_aside(&self) -> &[PathBuf] {
        &self.left_aside
    }

    /// Returns the version for the next file: one more than the newest.
    pub fn next_version(&self) -> Version {
        let next = self.head().map_or(1, |head| head.version.get() + 1);
        Version::new(next).expect("one more than a positive version is positive")
    }

    /// Replaces the files. The ignored files do not change.
    pub(in crate::migrate) fn replace_files(&mut self, read: Source) {
        self.files = read.files;
    }

    /// Parses a set from texts. Also returns the problems.
    pub(in crate::migrate) fn parse(set: Set, texts: Vec<FileText>) -> (Self, Vec<FileProblem>) {
        let mut problems = Vec::new();
        let mut files: BTreeMap<Version, MigrationFile> = BTreeMap::new();
        for text in texts {
            match MigrationFile::parse(text) {
                Ok(file) => {
                    if let Some(first) = files.get(&file.id().version) {
                        let problem = format!(
                            "version {} is also the version of {}; give the newer file, if no schema has it, the next number",
                            file.id().version,
                            crate::migration::printable(first.path())
                        );
                        problems.push(FileProblem { file: file.path().to_owned(), line: None, problem });
                    } else {
                        files.insert(file.id().version, file);
                    }
                }
                Err(problem) => problems.push(problem),
            }
        }
        (Self { set, files: files.into_values().collect(), left_aside: Vec::new() }, problems)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_problem_of_a_set_is_listed() {
        let files = [
            ("001_a.sql", "create table a ()"),
            ("001_b.sql", "create table b ()"),
            ("002-foo.sql", "create table c ()"),
            ("003_x.sql", "select 'open"),
            ("004_y.sql", "-- nothing\n"),
            ("005_z.sql", "create table z ()"),
        ];
        let texts = files.map(|(name, text)| FileText::of(PathBuf::from(name), text));
        let (source, problems) = Source::parse(Set::Tenant, texts.into());
        let problems: Vec<_> = problems.iter().map(ToString::to_string).collect();
        assert_eq!(problems.len(), 4, "{problems:#?}");
        assert!(problems[0].contains("001_b.sql: version 001 is also the version of 001_a.sql"));
        assert!(problems[2].starts_with("003_x.sql:1: a string starts here"));
        assert_eq!(source.head().unwrap().to_string(), "005_z");
        assert_eq!(source.next_version().get(), 6);
    }
}
