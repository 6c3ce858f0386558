//! Both sets of migrations, read and checked.

use super::{
    files::{
        bundled,
        directory::{Directory, read_directory, read_unfinished},
        file::FileText,
        source::Source,
    },
    lint::{self, AcceptedLints, Finding},
};
use crate::{
    config::MigrationsFrom,
    error::{Error, MigrationError, Result},
    migration::{FileProblem, Set},
};
use std::{
    fmt, fs, io,
    path::{Path, PathBuf},
};

/// Both sets of migrations, read and checked. A value of this type contains no errors. An unknown file name, a
/// duplicate version or a statement that cannot run inside a transaction is reported before any database is used.
#[derive(Clone, Debug)]
pub struct Migrations {
    public: Source,
    tenant: Source,
    accepted: AcceptedLints,
    origin: SetOrigin,
}

/// The origin of a set of migrations.
#[derive(Clone, Debug, PartialEq, Eq)]
enum SetOrigin {
    Bundled,
    Directory(PathBuf),
}

impl Migrations {
    /// Returns the bundled sets: tables of a platform for the shared schema, and tables of a shop for every tenant.
    pub fn bundled() -> Self {
        let read = |set: Set, files: &[(&str, &str)]| {
            let files = files.iter().map(|(name, text)| FileText::of(Path::new(set.folder()).join(name), *text));
            Source::parse(set, files.collect()).0
        };
        Self {
            public: read(Set::Public, bundled::PUBLIC),
            tenant: read(Set::Tenant, bundled::TENANT),
            accepted: AcceptedLints::parse(Path::new(lint::ACCEPTED_FILE), bundled::ACCEPTED),
            origin: SetOrigin::Bundled,
        }
    }

    /// Returns sets without files, to which single files are added for parsing.
    pub(crate) fn empty() -> Self {
        let (public, tenant) = (Source::parse(Set::Public, Vec::new()).0, Source::parse(Set::Tenant, Vec::new()).0);
        Self { public, tenant, accepted: AcceptedLints::default(), origin: SetOrigin::Bundled }
    }

    /// Reads the folders `public` and `tenant` of a directory.
    ///
    /// Reads `001_orders.sql`, `V001__orders.sql`, `001_orders.up.sql`, `2020_01_01_000001_orders.sql` and the folders
    /// of diesel and Prisma. If a file contains an up and a down section, only the up section is used. Ignores
    /// `.down.sql` files, dot files and a `README.md` ([`Source::left_aside`]). `docs/migrations.md` has the complete
    /// list.
    ///
    /// # Errors
    ///
    /// - [`MigrationError::Unreadable`]: a folder or file cannot be read.
    /// - [`MigrationError::Invalid`]: the error lists all problems of names, versions and texts.
    pub fn from_directory(directory: impl AsRef<Path>) -> Result<Self> {
        let directory = directory.as_ref();
        Self::of_directory(directory, read_directory(directory)?)
    }

    /// Does the same for a directory that may not exist, and in which either set may have no files yet.
    pub(crate) fn from_unfinished_directory(directory: &Path) -> Result<Self> {
        Self::of_directory(directory, read_unfinished(directory)?)
    }

    fn of_directory(directory: &Path, read: Directory) -> Result<Self> {
        let accepted = AcceptedLints::read(directory)?;
        let origin = SetOrigin::Directory(directory.to_owned());
        Self { public: read.public, tenant: read.tenant, accepted, origin }.checked(read.unreadable)
    }

    /// Returns the sets if there are no problems, including those that were found before.
    fn checked(self, mut problems: Vec<FileProblem>) -> Result<Self> {
        let errors = lint::errors(&self.public, &self.tenant, &mut self.accepted.clone());
        problems.extend(errors.into_iter().map(FileProblem::from));
        if problems.is_empty() { Ok(self) } else { Err(Error::Migration(MigrationError::Invalid { problems })) }
    }

    /// Reads the sets that a configuration names.
    ///
    /// # Errors
    ///
    /// Those of [`Migrations::from_directory`].
    pub fn load(from: &MigrationsFrom) -> Result<Self> {
        match from {
            MigrationsFrom::Bundled => Ok(Self::bundled()),
            MigrationsFrom::Directory(directory) => Self::from_directory(directory),
        }
    }

    /// Returns the same sets with one more file, with the given name and text. It is checked like a file from a
    /// directory.
    ///
    /// ```
    /// use cgk::migrate::{Migrations, Set};
    ///
    /// let migrations = Migrations::bundled()
    ///     .with_file(Set::Tenant, "900_gift_cards.sql", "create table gift_cards (code text primary key)")?;
    /// assert_eq!(migrations.set(Set::Tenant).head().unwrap().to_string(), "900_gift_cards");
    /// # Ok::<(), cgk::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`MigrationError::Invalid`]: the error lists all problems of the name, the version and the text.
    pub fn with_file(self, set: Set, name: &str, sql: impl Into<String>) -> Result<Self> {
        self.with_files([(set, name, sql)])
    }

    /// Does the same with several files, which are checked once.
    pub(crate) fn with_files<'a, S: Into<String>>(
        mut self,
        files: impl IntoIterator<Item = (Set, &'a str, S)>,
    ) -> Result<Self> {
        let mut added: Vec<(Set, FileText)> = Vec::new();
        for (set, name, sql) in files {
            added.push((set, FileText::of(Path::new(set.folder()).join(name), sql)));
        }
        let mut problems = Vec::new();
        for (set, source) in [(Set::Public, &mut self.public), (Set::Tenant, &mut self.tenant)] {
            let known: Vec<FileText> = source.files().iter().map(FileText::again).collect();
            let texts = known.into_iter().chain(added.extract_if(.., |(of, _)| *of == set).map(|(_, text)| text));
            let (parsed, found) = Source::parse(set, texts.collect());
            source.replace_files(parsed);
            problems.extend(found);
        }
        self.checked(problems)
    }

    /// Does the same with another text of the file that lists what is accepted.
    pub(crate) fn with_accepted(mut self, path: &Path, text: &str) -> Self {
        self.accepted = AcceptedLints::parse(path, text);
        self
    }

    /// Returns one of the two sets.
    pub fn set(&self, set: Set) -> &Source {
        match set {
            Set::Public => &self.public,
            Set::Tenant => &self.tenant,
        }
    }

    /// Returns the warnings about these files that are not accepted. A value of this type contains no errors.
    pub fn warnings(&self) -> Vec<Finding> {
        lint::warnings_alone(&self.public, &self.tenant, self.accepted.clone())
    }

    /// Writes the bundled files into a directory, as the start of your own set. Existing files are not changed.
    ///
    /// # Errors
    ///
    /// The operating system's errors.
    pub fn write_bundled(directory: &Path) -> io::Result<Vec<PathBuf>> {
        let mut written = Vec::new();
        for (set, files) in [(Set::Public, bundled::PUBLIC), (Set::Tenant, bundled::TENANT)] {
            let folder = directory.join(set.folder());
            fs::create_dir_all(&folder)?;
            for (name, text) in files {
                let path = folder.join(name);
                if !path.exists() {
                    fs::write(&path, text)?;
                    written.push(path);
                }
            }
        }
        // The accepted findings of these files are copied too; this file is not a migration.
        let accepted = directory.join(lint::ACCEPTED_FILE);
        if !accepted.exists() {
            fs::write(accepted, bundled::ACCEPTED)?;
        }
        Ok(written)
    }
}

impl fmt::Display for Migrations {
    /// The origin of the files and their number, for the line that is printed before a change.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.origin {
            SetOrigin::Bundled => f.write_str("bundled with cgk")?,
            SetOrigin::Directory(path) => write!(f, "{}", crate::migration::printable(path))?,
        }
        write!(f, " ({} public, {} tenant)", self.public.files().len(), self.tenant.files().len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A file that is in the folder but not in the list above would not be in the binary.
    #[test]
    fn the_bundled_sets_are_the_folders() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("migrations");
        let folder = Migrations::from_directory(root).unwrap();
        let bundled = Migrations::bundled();
        for set in [Set::Public, Set::Tenant] {
            let names = |m: &Migrations| {
                m.set(set).files().iter().map(|f| (f.id().clone(), f.checksum().clone())).collect::<Vec<_>>()
            };
            assert_eq!(names(&folder), names(&bundled));
            assert!(!names(&bundled).is_empty());
        }
    }
}
