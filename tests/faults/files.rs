//! Migration files whose every statement leaves something in the catalogue or in a table, so that the database itself tells
//! which of them were carried out, and how often.

use cgk::migrate::{Migrations, Set};
use rand::{RngExt as _, rngs::StdRng};
use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

/// What a statement adds and takes away, in the words of [`crate::checker`].
#[derive(Clone, Debug, Default)]
pub(crate) struct Effect {
    pub(crate) added: Vec<String>,
    pub(crate) taken: Vec<String>,
}

impl Effect {
    fn adds(thing: impl Into<String>) -> Self {
        Self { added: vec![thing.into()], taken: Vec::new() }
    }

    pub(crate) fn apply(&self, things: &mut BTreeSet<String>) {
        things.extend(self.added.iter().cloned());
        for thing in &self.taken {
            things.remove(thing);
        }
    }
}

/// In how many transactions a new tenant gets the set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Birth {
    Together,
    /// Its first two files cannot share one.
    FileByFile,
}

/// A file of the tenant set.
pub(crate) struct File {
    pub(crate) version: i64,
    pub(crate) sql: String,
    /// One for each statement.
    pub(crate) effects: Vec<Effect>,
    pub(crate) in_steps: bool,
}

/// Rows that a new table begins with, so that making it takes a moment and some space.
const ROWS: usize = 120;

impl File {
    fn new(version: i64, statements: Vec<(String, Effect)>, in_steps: bool) -> Self {
        let (texts, effects): (Vec<String>, Vec<Effect>) = statements.into_iter().unzip();
        let first = if in_steps { "-- cgk:no-transaction\n" } else { "" };
        Self { version, sql: format!("{first}{};\n", texts.join(";\n")), effects, in_steps }
    }

    fn base(birth: Birth) -> Self {
        let mut statements =
            vec![("create table marks (version bigint, part int)".into(), Effect::adds("table marks"))];
        statements.extend(table("m1"));
        if birth == Birth::FileByFile {
            let added = vec!["table clock".into(), "index clock_pkey".into()];
            let effect = Effect { added, taken: Vec::new() };
            statements.push(("create table clock (at timestamptz primary key)".into(), effect));
            statements.push(Self::tick());
        }
        statements.push(mark(1, 1));
        Self::new(1, statements, false)
    }

    /// A key that two files of one transaction cannot both have.
    fn tick() -> (String, Effect) {
        ("insert into clock values (now())".into(), Effect::default())
    }

    fn random(version: i64, last_index: Option<i64>, random: &mut StdRng) -> Self {
        let mut statements = Vec::new();
        let kind = random.random_range(0..6);
        match kind {
            0 | 1 => statements.extend(table(&format!("m{version}"))),
            2 => statements.push((
                format!("alter table m1 add column c{version} int not null default {version}"),
                Effect::adds(format!("column m1.c{version}")),
            )),
            3 => statements
                .push((format!("create index i{version} on m1 (note)"), Effect::adds(format!("index i{version}")))),
            _ => {
                statements.push(mark(version, 1));
                statements.push((
                    format!("create index concurrently i{version} on m1 (note)"),
                    Effect::adds(format!("index i{version}")),
                ));
                if let Some(last) = last_index {
                    let taken = vec![format!("index i{last}")];
                    statements.push((format!("drop index concurrently i{last}"), Effect { added: Vec::new(), taken }));
                }
                statements.push(("vacuum m1".into(), Effect::default()));
                statements.push(mark(version, 2));
                return Self::new(version, statements, true);
            }
        }
        statements.push(mark(version, 1));
        Self::new(version, statements, false)
    }

    /// The index that this file leaves on `m1`.
    fn index(&self) -> Option<i64> {
        let name = format!("index i{}", self.version);
        self.effects.iter().any(|effect| effect.added.contains(&name)).then_some(self.version)
    }
}

fn table(name: &str) -> Vec<(String, Effect)> {
    let added = vec![format!("table {name}"), format!("index {name}_pkey")];
    vec![
        (
            format!("create table {name} (id bigint generated always as identity primary key, note text)"),
            Effect { added, taken: Vec::new() },
        ),
        (format!("insert into {name} (note) select md5(n::text) from generate_series(1, {ROWS}) n"), Effect::default()),
    ]
}

/// A row that tells how often its statement was carried out.
fn mark(version: i64, part: i64) -> (String, Effect) {
    (format!("insert into marks values ({version}, {part})"), Effect::adds(format!("mark {version}.{part} once")))
}

/// Both sets, in a directory that is gone with this value.
pub(crate) struct Files {
    directory: PathBuf,
    pub(crate) tenant: Vec<File>,
    pub(crate) birth: Birth,
    /// The newest version of the shared set.
    pub(crate) public_head: i64,
    /// What the bundled files of the shared set end with; those above make a table each.
    pub(crate) public_bundled: i64,
    last_index: Option<i64>,
}

impl Files {
    pub(crate) fn new(birth: Birth) -> Self {
        let directory = std::env::temp_dir().join(format!("cgk-faults-{:016x}", rand::random::<u64>()));
        for set in ["public", "tenant"] {
            fs::create_dir_all(directory.join(set)).unwrap();
        }
        let bundled = Migrations::bundled();
        let mut head = 0;
        for file in bundled.set(Set::Public).files() {
            fs::write(directory.join("public").join(file.path().file_name().unwrap()), file.sql()).unwrap();
            head = file.id().version.get();
        }
        let mut files =
            Self { directory, tenant: Vec::new(), birth, public_head: head, public_bundled: head, last_index: None };
        files.push(File::base(birth));
        if birth == Birth::FileByFile {
            files.push(File::new(2, vec![File::tick(), mark(2, 1)], false));
        }
        files
    }

    /// One to three files more for the tenants, and now and then one for the shared schema.
    pub(crate) fn add(&mut self, random: &mut StdRng) {
        for _ in 0..random.random_range(1..=3) {
            let version = self.head() + 1;
            self.push(File::random(version, self.last_index, random));
        }
        if random.random_bool(0.25) {
            self.public_head += 1;
            let head = self.public_head;
            let sql = format!("create table p{head} (id int primary key);\ninsert into p{head} values (1);\n");
            fs::write(self.directory.join(format!("public/{head:03}_p.sql")), sql).unwrap();
        }
    }

    /// A file of this kind, whatever chance would say.
    pub(crate) fn add_table(&mut self) {
        let version = self.head() + 1;
        let mut statements = table(&format!("m{version}"));
        statements.push(mark(version, 1));
        self.push(File::new(version, statements, false));
    }

    fn push(&mut self, file: File) {
        fs::write(self.directory.join(format!("tenant/{:03}_step.sql", file.version)), &file.sql).unwrap();
        self.last_index = if file.in_steps { file.index() } else { file.index().or(self.last_index) };
        self.tenant.push(file);
    }

    pub(crate) fn head(&self) -> i64 {
        self.tenant.last().map_or(0, |file| file.version)
    }

    /// Whether files above this version go step by step.
    pub(crate) fn has_steps_above(&self, version: i64) -> bool {
        self.tenant.iter().any(|file| file.version > version && file.in_steps)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.directory
    }

    pub(crate) fn load(&self) -> Migrations {
        Migrations::from_directory(&self.directory).unwrap()
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.directory);
    }
}
