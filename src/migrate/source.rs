//! Migration files: where they come from, what their names say, and the text of each.

use super::lint;
use crate::{
    config::MigrationsFrom,
    error::{Error, Result},
    migration::{FileProblem, MigrationId, Set, line_of},
    sql,
    version::{Checksum, Version},
};
use std::{
    collections::BTreeMap,
    fmt, fs, io,
    ops::Range,
    path::{Path, PathBuf},
};

/// Both sets of migrations, read and checked. A value of this type holds no problem: an unknown file name, two files of one
/// version or a statement that cannot run inside a transaction is an error before any database is touched.
#[derive(Clone, Debug)]
pub struct Migrations {
    public: Source,
    tenant: Source,
    accepted: lint::Accepted,
    origin: Origin,
}

/// One set of migrations in the order of their versions.
#[derive(Clone, Debug)]
pub struct Source {
    set: Set,
    files: Vec<MigrationFile>,
    left_aside: Vec<PathBuf>,
}

/// One migration file.
#[derive(Clone, Debug)]
pub struct MigrationFile {
    id: MigrationId,
    path: PathBuf,
    sql: String,
    checksum: Checksum,
    statements: Vec<sql::Statement>,
    comments: Vec<Range<usize>>,
    transactional: bool,
}

/// Where a set of migrations came from.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Origin {
    Bundled,
    Directory(PathBuf),
}

impl Migrations {
    /// The sets that are part of cgk: the tables of a platform in the shared schema, those of a shop in every tenant's.
    pub fn bundled() -> Self {
        let read = |set: Set, files: &[(&str, &str)]| {
            let files = files.iter().map(|(name, text)| (Path::new(set.folder()).join(name), (*text).to_owned()));
            Source::parse(set, files.collect()).0
        };
        Self {
            public: read(Set::Public, BUNDLED_PUBLIC),
            tenant: read(Set::Tenant, BUNDLED_TENANT),
            accepted: lint::Accepted::parse(Path::new(lint::ACCEPTED_FILE), BUNDLED_ACCEPTED),
            origin: Origin::Bundled,
        }
    }

    /// Reads the folders `public` and `tenant` of a directory.
    ///
    /// Takes `001_orders.sql`, `V001__orders.sql` and `001_orders.up.sql`. Leaves `.down.sql` files, dot files and a
    /// `README.md` aside ([`Source::left_aside`]).
    ///
    /// # Errors
    ///
    /// [`Error::MigrationsUnreadable`] where a folder or file cannot be read; [`Error::MigrationsInvalid`] with every problem
    /// found in names, versions and texts.
    pub fn from_directory(directory: impl AsRef<Path>) -> Result<Self> {
        let directory = directory.as_ref();
        let read = read_directory(directory)?;
        let mut problems = read.unreadable;
        for source in [&read.public, &read.tenant] {
            problems.extend(source.files().iter().flat_map(lint::file));
        }
        problems.extend(lint::across(&read.public, &read.tenant).into_iter().map(FileProblem::from));
        if !problems.is_empty() {
            return Err(Error::MigrationsInvalid { problems });
        }
        let Directory { public, tenant, accepted, .. } = read;
        Ok(Self { public, tenant, accepted, origin: Origin::Directory(directory.to_owned()) })
    }

    /// The sets that a configuration names.
    ///
    /// # Errors
    ///
    /// As [`Migrations::from_directory`].
    pub fn load(from: &MigrationsFrom) -> Result<Self> {
        match from {
            MigrationsFrom::Bundled => Ok(Self::bundled()),
            MigrationsFrom::Directory(directory) => Self::from_directory(directory),
        }
    }

    /// The same with one more file, whose name and text are given here; checked as if it had been read from a directory.
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
    /// [`Error::MigrationsInvalid`] with every problem found in the name, the version and the text.
    pub fn with_file(mut self, set: Set, name: &str, sql: impl Into<String>) -> Result<Self> {
        let source = match set {
            Set::Public => &mut self.public,
            Set::Tenant => &mut self.tenant,
        };
        let known = source.files.iter().map(|file| (file.path.clone(), file.sql.clone()));
        let texts = known.chain([(Path::new(set.folder()).join(name), sql.into())]).collect();
        let (parsed, mut problems) = Source::parse(set, texts);
        source.files = parsed.files;
        problems.extend(source.files.iter().flat_map(lint::file));
        problems.extend(lint::across(&self.public, &self.tenant).into_iter().map(FileProblem::from));
        if problems.is_empty() { Ok(self) } else { Err(Error::MigrationsInvalid { problems }) }
    }

    /// One of the two sets.
    pub fn set(&self, set: Set) -> &Source {
        match set {
            Set::Public => &self.public,
            Set::Tenant => &self.tenant,
        }
    }

    pub(super) fn accepted(&self) -> &lint::Accepted {
        &self.accepted
    }

    /// Writes the bundled files into a directory, as the beginning of a set of one's own. Existing files stay as they are.
    ///
    /// # Errors
    ///
    /// What the operating system says.
    pub fn write_bundled(directory: &Path) -> io::Result<Vec<PathBuf>> {
        let mut written = Vec::new();
        for (set, files) in [(Set::Public, BUNDLED_PUBLIC), (Set::Tenant, BUNDLED_TENANT)] {
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
        // What is known and accepted about them goes with them; it is no migration.
        let accepted = directory.join(lint::ACCEPTED_FILE);
        if !accepted.exists() {
            fs::write(accepted, BUNDLED_ACCEPTED)?;
        }
        Ok(written)
    }
}

impl fmt::Display for Migrations {
    /// Where the files come from and how many there are, for the line that says so before anything is changed.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.origin {
            Origin::Bundled => f.write_str("bundled with cgk")?,
            Origin::Directory(path) => write!(f, "{}", path.display())?,
        }
        write!(f, " ({} public, {} tenant)", self.public.files.len(), self.tenant.files.len())
    }
}

impl Source {
    /// Which set this is.
    pub fn set(&self) -> Set {
        self.set
    }

    /// The files, lowest version first.
    pub fn files(&self) -> &[MigrationFile] {
        &self.files
    }

    /// The newest migration.
    pub fn head(&self) -> Option<&MigrationId> {
        self.files.last().map(|file| &file.id)
    }

    /// Files of the folder that are no migrations to apply: `.down.sql`, dot files, a `README.md`.
    pub fn left_aside(&self) -> &[PathBuf] {
        &self.left_aside
    }

    /// The version to give to the next file: one more than the newest.
    pub fn next_version(&self) -> Version {
        let next = self.head().map_or(1, |head| head.version.get() + 1);
        Version::new(next).expect("one more than a positive version is positive")
    }

    /// Reads a set from texts; what is wrong with them comes beside it.
    fn parse(set: Set, texts: Vec<(PathBuf, String)>) -> (Self, Vec<FileProblem>) {
        let mut problems = Vec::new();
        let mut files: BTreeMap<Version, MigrationFile> = BTreeMap::new();
        for (path, sql) in texts {
            match MigrationFile::parse(path, sql) {
                Ok(file) => {
                    if let Some(first) = files.get(&file.id.version) {
                        let problem =
                            format!("version {} is also the version of {}", file.id.version, first.path.display());
                        problems.push(FileProblem { file: file.path, line: None, problem });
                    } else {
                        files.insert(file.id.version, file);
                    }
                }
                Err(problem) => problems.push(problem),
            }
        }
        (Self { set, files: files.into_values().collect(), left_aside: Vec::new() }, problems)
    }
}

impl MigrationFile {
    /// Version and name.
    pub fn id(&self) -> &MigrationId {
        &self.id
    }

    /// Where the file was read.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its text.
    pub fn sql(&self) -> &str {
        &self.sql
    }

    /// The checksum of its text.
    pub fn checksum(&self) -> &Checksum {
        &self.checksum
    }

    /// Whether the file is part of the one transaction of its schema, as all are but those with `-- cgk:no-transaction` on
    /// their first line.
    pub fn is_transactional(&self) -> bool {
        self.transactional
    }

    pub(crate) fn statements(&self) -> &[sql::Statement] {
        &self.statements
    }

    pub(crate) fn comments(&self) -> &[Range<usize>] {
        &self.comments
    }

    fn parse(path: PathBuf, text: String) -> Result<Self, FileProblem> {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let problem = |line, problem: String| FileProblem { file: path.clone(), line, problem };
        let id = parse_name(&name).map_err(|what| problem(None, what))?;
        let checksum = Checksum::of(&text);
        let sql = text.strip_prefix('\u{feff}').unwrap_or(&text).to_owned();
        if sql.contains('\0') {
            return Err(problem(None, "holds a zero byte".into()));
        }
        let sql::Cut { statements, comments } =
            sql::cut(&sql).map_err(|found| problem(Some(line_of(&sql, found.at)), found.problem))?;
        if statements.is_empty() {
            return Err(problem(None, "holds no statement".into()));
        }
        let first = comments.first().filter(|range| range.start == 0).map(|range| &sql[range.clone()]);
        let transactional = !first.is_some_and(lint::is_marker);
        Ok(Self { id, path, sql, checksum, statements, comments, transactional })
    }
}

/// Reads `001_x.sql`, `001_x.up.sql` and `V001__x.sql`.
pub(super) fn parse_name(file_name: &str) -> Result<MigrationId, String> {
    const SHAPE: &str =
        "is no migration's name: 001_what_it_does.sql is the shape, with a-z, A-Z, 0-9 and _ after the number";
    let Some(stem) = file_name.strip_suffix(".sql") else {
        let problem =
            if file_name.to_ascii_lowercase().ends_with(".sql") { "must end in .sql, in lower case" } else { SHAPE };
        return Err(problem.into());
    };
    let stem = stem.strip_suffix(".up").unwrap_or(stem);
    let parts = match stem.strip_prefix('V') {
        Some(rest) => rest.split_once("__"),
        None => stem.split_once('_'),
    };
    let (number, name) = parts.ok_or(SHAPE)?;
    if name.is_empty() || !name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') {
        return Err(SHAPE.into());
    }
    let version = number.parse().map_err(|_| {
        if number.bytes().all(|b| b.is_ascii_digit()) && !number.is_empty() {
            format!("version {number} is not between 1 and {}", i64::MAX)
        } else {
            SHAPE.to_owned()
        }
    })?;
    Ok(MigrationId { version, name: name.into() })
}

/// A directory as it was read: both sets, and what could not be made part of them.
pub(super) struct Directory {
    pub(super) public: Source,
    pub(super) tenant: Source,
    pub(super) accepted: lint::Accepted,
    pub(super) unreadable: Vec<FileProblem>,
}

/// Reads a directory; the texts are not judged yet.
pub(super) fn read_directory(directory: &Path) -> Result<Directory> {
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
    let path = directory.join(lint::ACCEPTED_FILE);
    let accepted = match fs::read_to_string(&path) {
        Ok(text) => lint::Accepted::parse(&path, &text),
        Err(error) if error.kind() == io::ErrorKind::NotFound => lint::Accepted::default(),
        Err(error) => {
            let problem = "the file cannot be read".to_owned();
            return Err(Error::MigrationsUnreadable { path, problem, source: Some(error) });
        }
    };
    Ok(Directory { public, tenant, accepted, unreadable })
}

type Folder = (Vec<(PathBuf, String)>, Vec<PathBuf>, Vec<FileProblem>);

/// The texts of a folder's `.sql` files, what is left aside, and what has no business there.
fn read_folder(folder: &Path) -> Result<Folder> {
    let unreadable = |path: &Path, problem: &str, source: io::Error| Error::MigrationsUnreadable {
        path: path.to_owned(),
        problem: problem.into(),
        source: Some(source),
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
        if name.starts_with('.') || name == "README.md" || name.ends_with(".down.sql") {
            left_aside.push(path);
            continue;
        }
        if path.is_dir() {
            problems.push(FileProblem {
                file: path,
                line: None,
                problem: "is a folder; a set has no sub-folders".into(),
            });
            continue;
        }
        match fs::read(&path)
            .map_err(|error| unreadable(&path, "the file cannot be read", error))
            .map(String::from_utf8)?
        {
            Ok(text) => texts.push((path, text)),
            Err(_) => problems.push(FileProblem { file: path, line: None, problem: "is not UTF-8".into() }),
        }
    }
    if texts.is_empty() && problems.is_empty() {
        let problem = "holds no migrations; the first is 001_what_it_does.sql".to_owned();
        problems.push(FileProblem { file: folder.to_owned(), line: None, problem });
    }
    Ok((texts, left_aside, problems))
}

macro_rules! bundled {
    ($folder:literal: $($name:literal)*) => {
        &[$(($name, include_str!(concat!("../../migrations/", $folder, "/", $name)))),*]
    };
}

const BUNDLED_PUBLIC: &[(&str, &str)] = bundled!("public":
    "001_organizations.sql" "002_users.sql" "003_sessions.sql" "004_api_keys.sql" "005_billing.sql" "006_magic_links.sql"
    "007_row_level_security.sql" "008_database_tag.sql");

const BUNDLED_ACCEPTED: &str = include_str!("../../migrations/accepted.txt");

const BUNDLED_TENANT: &[(&str, &str)] = bundled!("tenant":
    "001_orders.sql" "002_customers.sql" "003_products.sql" "004_creators.sql" "005_payouts.sql" "006_reviews.sql"
    "007_blog_posts.sql");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_strictly() {
        for (name, version, rest) in [
            ("001_orders.sql", 1, "orders"),
            ("20260131120000_Add_x.sql", 20_260_131_120_000, "Add_x"),
            ("V003__x.sql", 3, "x"),
            ("4_x.up.sql", 4, "x"),
        ] {
            let id = parse_name(name).unwrap();
            assert_eq!((id.version.get(), id.name.as_str()), (version, rest));
        }
        for bad in [
            "002-foo.sql",
            "003_x.SQL",
            "x.sql",
            "001.sql",
            "001_.sql",
            "0_x.sql",
            "V1_x.sql",
            "v1__x.sql",
            "|1__x.sql",
            "001_a b.sql",
            "001_ü.sql",
            "99999999999999999999_x.sql",
            "1.2_x.sql",
            "001_x.sql~",
            "001_x.down.up.sql",
        ] {
            assert!(parse_name(bad).is_err(), "{bad}");
        }
    }

    /// A file that was added to the folder and not to the list above would be missing from the binary.
    #[test]
    fn the_bundled_sets_are_the_folders() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("migrations");
        let folder = Migrations::from_directory(root).unwrap();
        let bundled = Migrations::bundled();
        for set in [Set::Public, Set::Tenant] {
            let names = |m: &Migrations| {
                m.set(set).files().iter().map(|f| (f.id.clone(), f.checksum.clone())).collect::<Vec<_>>()
            };
            assert_eq!(names(&folder), names(&bundled));
            assert!(!names(&bundled).is_empty());
        }
    }

    fn set_of(files: &[(&str, &str)]) -> (Source, Vec<FileProblem>) {
        Source::parse(Set::Tenant, files.iter().map(|(n, t)| (PathBuf::from(n), (*t).to_owned())).collect())
    }

    #[test]
    fn every_problem_of_a_set_is_listed() {
        let (source, problems) = set_of(&[
            ("001_a.sql", "create table a ()"),
            ("001_b.sql", "create table b ()"),
            ("002-foo.sql", "create table c ()"),
            ("003_x.sql", "select 'open"),
            ("004_y.sql", "-- nothing\n"),
            ("005_z.sql", "create table z ();\ncommit;"),
        ]);
        let of_texts = source.files().iter().flat_map(lint::file);
        let problems: Vec<_> = problems.into_iter().chain(of_texts).map(|problem| problem.to_string()).collect();
        assert_eq!(problems.len(), 5, "{problems:#?}");
        assert!(problems[0].contains("001_b.sql: version 001 is also the version of 001_a.sql"));
        assert!(problems[2].starts_with("003_x.sql:1: a string begins here"));
        assert!(problems[4].starts_with("005_z.sql:2: "), "{}", problems[4]);
        assert_eq!(source.head().unwrap().to_string(), "005_z");
        assert_eq!(source.next_version().get(), 6);
    }
}
