//! Migration files: where they come from, what their names say, and the text of each.

use super::{encoding, format, name};
use crate::{
    config::MigrationsFrom,
    error::{Error, MigrationError, Result},
    migrate::lint,
    migration::{FileProblem, MigrationId, Set, line_of},
    sql,
    version::{Checksum, Version},
};
use std::{
    borrow::Cow,
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
    /// What earlier versions of cgk took its name for, where that was something else.
    earlier: Option<MigrationId>,
    path: PathBuf,
    /// The whole text, from which the checksum is.
    text: String,
    /// The text with what is not run left blank.
    sql: String,
    tool: Option<&'static str>,
    /// Directives of other tools that cgk does not carry out, with their places.
    refused_directives: Vec<(usize, String)>,
    /// Comments that look like the heading of a rollback: the number of the statement behind each, and its place.
    rollback_headings: Vec<(usize, (usize, String))>,
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
            let files = files.iter().map(|(name, text)| FileText::of(Path::new(set.folder()).join(name), *text));
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
    /// Takes `001_orders.sql`, `V001__orders.sql`, `001_orders.up.sql`, `2020_01_01_000001_orders.sql` and the folders of
    /// diesel and Prisma. Of a file that holds the way there and the way back, the way there is read. Leaves `.down.sql`
    /// files, dot files and a `README.md` aside ([`Source::left_aside`]). `docs/migrations.md` has the whole list.
    ///
    /// # Errors
    ///
    /// [`MigrationError::Unreadable`] where a folder or file cannot be read; [`MigrationError::Invalid`] with every problem
    /// found in names, versions and texts.
    pub fn from_directory(directory: impl AsRef<Path>) -> Result<Self> {
        let directory = directory.as_ref();
        let read = read_directory(directory)?;
        let mut problems = read.unreadable;
        let errors = lint::errors(&read.public, &read.tenant, &mut read.accepted.clone());
        problems.extend(errors.into_iter().map(FileProblem::from));
        if !problems.is_empty() {
            return Err(Error::Migration(MigrationError::Invalid { problems }));
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
    /// [`MigrationError::Invalid`] with every problem found in the name, the version and the text.
    pub fn with_file(mut self, set: Set, name: &str, sql: impl Into<String>) -> Result<Self> {
        let source = match set {
            Set::Public => &mut self.public,
            Set::Tenant => &mut self.tenant,
        };
        let known = source.files.iter().map(|file| FileText {
            path: file.path.clone(),
            text: file.text.clone(),
            transactional: Some(file.transactional),
        });
        let texts = known.chain([FileText::of(Path::new(set.folder()).join(name), sql)]).collect();
        let (parsed, mut problems) = Source::parse(set, texts);
        source.files = parsed.files;
        let errors = lint::errors(&self.public, &self.tenant, &mut self.accepted.clone());
        problems.extend(errors.into_iter().map(FileProblem::from));
        if problems.is_empty() { Ok(self) } else { Err(Error::Migration(MigrationError::Invalid { problems })) }
    }

    /// One of the two sets.
    pub fn set(&self, set: Set) -> &Source {
        match set {
            Set::Public => &self.public,
            Set::Tenant => &self.tenant,
        }
    }

    pub(in crate::migrate) fn accepted(&self) -> &lint::Accepted {
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
            Origin::Directory(path) => write!(f, "{}", crate::migration::printable(path))?,
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

    /// The place of the file that a ledger's row is about: the one of its version, or a dated one whose row an earlier version
    /// of cgk wrote under the year alone. Whether its text is still the same is another question.
    pub(crate) fn place_of(&self, row: &MigrationId) -> Option<usize> {
        let of_version = self.files.binary_search_by_key(&row.version, |file| file.id.version).ok();
        of_version.or_else(|| self.files.iter().position(|file| file.earlier.as_ref() == Some(row)))
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
    fn parse(set: Set, texts: Vec<FileText>) -> (Self, Vec<FileProblem>) {
        let mut problems = Vec::new();
        let mut files: BTreeMap<Version, MigrationFile> = BTreeMap::new();
        for text in texts {
            match MigrationFile::parse(text) {
                Ok(file) => {
                    if let Some(first) = files.get(&file.id.version) {
                        let problem = format!(
                            "version {} is also the version of {}",
                            file.id.version,
                            crate::migration::printable(&first.path)
                        );
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

    /// Its text. Of a file that holds the way back as well, that part is blank; every line is in its place.
    pub fn sql(&self) -> &str {
        &self.sql
    }

    /// The tool whose directives part the file into the way there, which is run, and the way back, which is not.
    pub fn tool(&self) -> Option<&'static str> {
        self.tool
    }

    /// The checksum of its whole text, the way back and all comments with it.
    pub fn checksum(&self) -> &Checksum {
        &self.checksum
    }

    /// Whether the file is part of the one transaction of its schema, as all are but those with `-- cgk:no-transaction` on
    /// their first line.
    pub fn is_transactional(&self) -> bool {
        self.transactional
    }

    /// The texts of its statements, without the semicolons between them.
    pub fn statement_texts(&self) -> impl Iterator<Item = &str> {
        self.statements.iter().map(|statement| &self.sql[statement.range.clone()])
    }

    pub(crate) fn statements(&self) -> &[sql::Statement] {
        &self.statements
    }

    pub(in crate::migrate) fn refused_directives(&self) -> &[(usize, String)] {
        &self.refused_directives
    }

    pub(in crate::migrate) fn rollback_headings(&self) -> &[(usize, (usize, String))] {
        &self.rollback_headings
    }

    /// What a ledger that an earlier version of cgk wrote calls this migration, where that is something else.
    pub(crate) fn earlier_id(&self) -> Option<&MigrationId> {
        self.earlier.as_ref()
    }

    pub(crate) fn comments(&self) -> &[Range<usize>] {
        &self.comments
    }

    /// The text as a server is sent it that keeps its texts in an encoding: where that has not every character, the comments
    /// are ASCII, because the server reads them as well. Every byte of the rest is in its place.
    pub(crate) fn sql_for(&self, encoding: &str) -> Cow<'_, str> {
        match encoding {
            "UTF8" | "SQL_ASCII" => Cow::Borrowed(&self.sql),
            _ => Cow::Owned(sql::rewrite::ascii_comments(&self.sql, &self.comments)),
        }
    }

    /// A file that no lint has seen.
    #[cfg(test)]
    pub(in crate::migrate) fn unchecked(name: &str, text: &str) -> Self {
        Self::parse(FileText::of(name.into(), text)).unwrap()
    }

    /// The file with all its statements taken for one: as if they had been read wrongly.
    #[cfg(test)]
    pub(in crate::migrate) fn taken_for_one(mut self) -> Self {
        let end = self.statements.last().unwrap().range.end;
        self.statements.truncate(1);
        self.statements[0].range.end = end;
        self
    }

    /// The name of its file, or of the folder and the file where a folder is one migration.
    pub(crate) fn name_in_set(&self) -> String {
        let parts: Vec<_> = self.path.iter().rev().take(1 + usize::from(holds_one(&self.path))).collect();
        parts.into_iter().rev().map(|part| part.to_string_lossy()).collect::<Vec<_>>().join("/")
    }

    fn parse(file: FileText) -> Result<Self, FileProblem> {
        let FileText { path, text, transactional } = file;
        let part = |path: &Path| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let problem = |line, problem: String| FileProblem { file: path.clone(), line, problem };
        let (id, earlier) = match path.parent().filter(|_| holds_one(&path)) {
            Some(folder) => (name::parse_folder(&part(folder)), None),
            None => (name::parse(&part(&path)), name::parse_as_earlier(&part(&path))),
        };
        let id = id.map_err(|what| problem(None, what))?;
        let checksum = Checksum::of(&text);
        let whole = text.strip_prefix('\u{feff}').unwrap_or(&text);
        let at = |(at, what): format::Fault| problem(Some(line_of(whole, at)), what);
        no_migration(whole).map_err(at)?;
        let format::UpPart { text: sql, tool } = format::up_part(whole).map_err(at)?;
        let sql::Cut { statements, comments } =
            sql::cut(&sql).map_err(|found| problem(Some(line_of(&sql, found.at)), found.problem))?;
        let said = format::directives(&sql, &comments, &statements);
        if statements.is_empty() {
            return Err(problem(None, "holds no statement".into()));
        }
        let first = comments.first().filter(|range| range.start == 0).map(|range| &sql[range.clone()]);
        let transactional =
            transactional.unwrap_or(true) && !said.without_transaction && !first.is_some_and(lint::is_marker);
        let (refused_directives, rollback_headings) = (said.refused, said.rollbacks);
        Ok(Self {
            id,
            earlier,
            path,
            text,
            sql,
            tool,
            refused_directives,
            rollback_headings,
            checksum,
            statements,
            comments,
            transactional,
        })
    }
}

/// Whether a file is the one migration of its folder.
fn holds_one(path: &Path) -> bool {
    path.file_name().is_some_and(|name| FOLDER_FILES.iter().any(|file| name == *file))
}

const FOLDER_FILES: &[&str] = &["up.sql", "migration.sql"];

/// What is no migration, whatever its name.
fn no_migration(text: &str) -> Result<(), format::Fault> {
    if let Some(at) = text.find('\0') {
        return Err((at, "holds a zero byte".into()));
    }
    if text.starts_with("version https://git-lfs.github.com/spec/") {
        return Err((0, "is a pointer of Git LFS, not the file that it stands for; run `git lfs pull`".into()));
    }
    let line_with = |mark: &str| {
        let at = text.starts_with(mark).then_some(0);
        at.or_else(|| text.find(&format!("\n{mark}")).map(|at| at + 1))
    };
    match (line_with("<<<<<<< "), line_with(">>>>>>> ")) {
        (Some(at), Some(_)) => Err((at, "holds the conflict markers of a merge".into())),
        _ => Ok(()),
    }
}

/// A file as it was read.
struct FileText {
    path: PathBuf,
    text: String,
    /// What a file beside it says, and where none does, nothing.
    transactional: Option<bool>,
}

impl FileText {
    fn of(path: PathBuf, text: impl Into<String>) -> Self {
        Self { path, text: text.into(), transactional: None }
    }
}

/// A directory as it was read: both sets, and what could not be made part of them.
pub(in crate::migrate) struct Directory {
    pub(in crate::migrate) public: Source,
    pub(in crate::migrate) tenant: Source,
    pub(in crate::migrate) accepted: lint::Accepted,
    pub(in crate::migrate) unreadable: Vec<FileProblem>,
}

/// Reads a directory; the texts are not judged yet.
pub(in crate::migrate) fn read_directory(directory: &Path) -> Result<Directory> {
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
    unreadable.extend(misplaced(directory)?);
    let path = directory.join(lint::ACCEPTED_FILE);
    let accepted = match fs::read_to_string(&path) {
        Ok(text) => lint::Accepted::parse(&path, &text),
        Err(error) if error.kind() == io::ErrorKind::NotFound => lint::Accepted::default(),
        Err(error) => {
            let problem = "the file cannot be read".to_owned();
            return Err(Error::Migration(MigrationError::Unreadable { path, problem, source: Some(error) }));
        }
    };
    Ok(Directory { public, tenant, accepted, unreadable })
}

/// What looks like migrations but is in neither set: a `.sql` file beside the two folders, a folder whose name is nearly that of
/// a set. Anything else beside them is not cgk's.
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
                format!("is not read: the {set} set is the folder {:?}", set.folder())
            }
            () if name.ends_with(".sql") => "is in neither set: move it into public/ or tenant/".to_owned(),
            () => return None,
        };
        Some(FileProblem { file: path, line: None, problem })
    };
    Ok(paths.into_iter().filter_map(problem).collect())
}

type Folder = (Vec<FileText>, Vec<PathBuf>, Vec<FileProblem>);

/// The texts of a folder's `.sql` files, what is left aside, and what has no business there.
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
    if texts.is_empty() && problems.is_empty() {
        let problem = "holds no migrations; the first is 001_what_it_does.sql".to_owned();
        problems.push(FileProblem { file: folder.to_owned(), line: None, problem });
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
    // A pipe would be waited for, and a device never ends.
    if !fs::metadata(path).map_err(unreadable)?.is_file() {
        let problem = "is no regular file".to_owned();
        return Ok(Err(FileProblem { file: path.to_owned(), line: None, problem }));
    }
    let bytes = fs::read(path).map_err(unreadable)?;
    Ok(encoding::decode(bytes).map_err(|found| FileProblem {
        file: path.to_owned(),
        line: found.line,
        problem: found.problem,
    }))
}

/// The migration of a folder, as diesel, Prisma and Hasura lay theirs out.
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
        return problem(folder, "is a folder without up.sql or migration.sql; a set has no other sub-folders");
    }
    for path in paths {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        match name.as_str() {
            "metadata.toml" => {
                let text = match read_text(&path)? {
                    Ok(text) => text,
                    Err(problem) => return Ok(Err(problem)),
                };
                let table = text.parse::<toml::Table>().unwrap_or_default();
                let runs_in = table.get("run_in_transaction").and_then(toml::Value::as_bool);
                if table.len() != 1 || runs_in.is_none() {
                    let what = "says something else than run_in_transaction = true or false, which is all of diesel's \
                                that cgk knows";
                    return problem(&path, what);
                }
                transactional = runs_in;
                left_aside.push(path);
            }
            "down.sql" | "snapshot.json" => left_aside.push(path),
            name if name.starts_with('.') || name == "README.md" => left_aside.push(path),
            _ if holds_one(&path) && found.is_none() => found = Some(path),
            _ => return problem(&path, "stands beside a folder's one migration, and cgk does not know what for"),
        }
    }
    let path = found.expect("there is one");
    Ok(read_text(&path)?.map(|text| FileText { path, text, transactional }))
}

/// Whether this is the checksum of a bundled migration's text.
pub(in crate::migrate) fn is_bundled(checksum: &Checksum) -> bool {
    [BUNDLED_PUBLIC, BUNDLED_TENANT].into_iter().flatten().any(|(_, text)| Checksum::of(text) == *checksum)
}

macro_rules! bundled {
    ($folder:literal: $($name:literal)*) => {
        &[$(($name, include_str!(concat!("../../../migrations/", $folder, "/", $name)))),*]
    };
}

const BUNDLED_PUBLIC: &[(&str, &str)] = bundled!("public":
    "001_organizations.sql" "002_users.sql" "003_sessions.sql" "004_api_keys.sql" "005_billing.sql" "006_magic_links.sql"
    "007_row_level_security.sql" "008_database_tag.sql" "009_enter.sql" "010_change_notices.sql");

const BUNDLED_ACCEPTED: &str = include_str!("../../../migrations/accepted.txt");

const BUNDLED_TENANT: &[(&str, &str)] = bundled!("tenant":
    "001_orders.sql" "002_customers.sql" "003_products.sql" "004_creators.sql" "005_payouts.sql" "006_reviews.sql"
    "007_blog_posts.sql");

#[cfg(test)]
mod tests {
    use super::*;

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
        Source::parse(Set::Tenant, files.iter().map(|(n, t)| FileText::of(PathBuf::from(n), *t)).collect())
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
        let none = Source { set: Set::Public, files: Vec::new(), left_aside: Vec::new() };
        let of_texts = lint::errors(&none, &source, &mut lint::Accepted::default()).into_iter().map(FileProblem::from);
        let problems: Vec<_> = problems.into_iter().chain(of_texts).map(|problem| problem.to_string()).collect();
        assert_eq!(problems.len(), 5, "{problems:#?}");
        assert!(problems[0].contains("001_b.sql: version 001 is also the version of 001_a.sql"));
        assert!(problems[2].starts_with("003_x.sql:1: a string starts here"));
        assert!(problems[4].starts_with("005_z.sql:2: "), "{}", problems[4]);
        assert_eq!(source.head().unwrap().to_string(), "005_z");
        assert_eq!(source.next_version().get(), 6);
    }
}
