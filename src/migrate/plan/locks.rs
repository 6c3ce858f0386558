//! Determines which tables a migration locks, in which mode, and what that blocks: from the text, without a server.
//!
//! The source is PostgreSQL's documentation: "Explicit Locking", section "Table-Level Locks", and the reference pages
//! of the commands, mainly ALTER TABLE. What the text does not show is left out: tables used by functions and triggers,
//! the table of an index that is only named, and the referenced tables of dropped foreign keys. Partitions are locked
//! like their parent. `tests/it/migrate/locks.rs` runs each form and compares with `pg_locks`.

use crate::{
    migrate::files::file::MigrationFile,
    sql::{
        Statement,
        shape::{self, Action, Name, RowSource, Shape},
    },
};
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

/// A table-level lock mode. A later one is stronger.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum LockMode {
    /// Taken by queries.
    AccessShare,
    /// Taken by `select … for update`.
    RowShare,
    /// Taken by writes.
    RowExclusive,
    /// Blocks only other changes of the schema.
    ShareUpdateExclusive,
    /// Blocks writes.
    Share,
    /// Blocks writes, and itself.
    ShareRowExclusive,
    /// Blocks everything except queries.
    Exclusive,
    /// Blocks everything.
    AccessExclusive,
}

/// What a lock blocks while it is held, and while a session waits for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Blocks {
    /// Neither reads nor writes: at most other changes of the schema.
    Nothing,
    /// Writes.
    Writes,
    /// Reads and writes.
    ReadsAndWrites,
}

/// A lock that a statement of a migration takes on a relation that existed before the file.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TableLock {
    /// The relation, as named in the file.
    pub relation: String,
    /// The mode.
    pub mode: LockMode,
    /// The statement's line, counted from 1.
    pub line: usize,
    /// The operation, in a few words: `add column`, `create index`.
    pub reason: String,
}

impl LockMode {
    /// Returns the mode as written in PostgreSQL's documentation.
    pub fn name(self) -> &'static str {
        match self {
            Self::AccessShare => "ACCESS SHARE",
            Self::RowShare => "ROW SHARE",
            Self::RowExclusive => "ROW EXCLUSIVE",
            Self::ShareUpdateExclusive => "SHARE UPDATE EXCLUSIVE",
            Self::Share => "SHARE",
            Self::ShareRowExclusive => "SHARE ROW EXCLUSIVE",
            Self::Exclusive => "EXCLUSIVE",
            Self::AccessExclusive => "ACCESS EXCLUSIVE",
        }
    }

    /// Returns what the mode blocks.
    pub fn blocks(self) -> Blocks {
        match self {
            Self::AccessShare | Self::RowShare | Self::RowExclusive | Self::ShareUpdateExclusive => Blocks::Nothing,
            Self::Share | Self::ShareRowExclusive | Self::Exclusive => Blocks::Writes,
            Self::AccessExclusive => Blocks::ReadsAndWrites,
        }
    }

    fn of_name(name: &str) -> Option<Self> {
        [
            Self::AccessShare,
            Self::RowShare,
            Self::RowExclusive,
            Self::ShareUpdateExclusive,
            Self::Share,
            Self::ShareRowExclusive,
            Self::Exclusive,
            Self::AccessExclusive,
        ]
        .into_iter()
        .find(|mode| mode.name() == name)
    }
}

impl fmt::Display for LockMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl fmt::Display for Blocks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Nothing => "nothing",
            Self::Writes => "writes",
            Self::ReadsAndWrites => "reads and writes",
        })
    }
}

impl TableLock {
    /// Returns what the lock blocks.
    pub fn blocks(&self) -> Blocks {
        self.mode.blocks()
    }
}

impl MigrationFile {
    /// Returns the locks that the file takes, statement by statement, on relations that it has not created itself. In a
    /// file that runs in a transaction, they are held until all pending files of the schema are done.
    ///
    /// ```
    /// use cgk::migrate::{Blocks, LockMode, Migrations, Set};
    ///
    /// let migrations = Migrations::bundled()
    ///     .with_file(Set::Tenant, "900_vip.sql", "alter table customers add column vip boolean;")?;
    /// let locks = migrations.set(Set::Tenant).files().last().unwrap().locks();
    /// assert_eq!((locks[0].relation.as_str(), locks[0].mode), ("customers", LockMode::AccessExclusive));
    /// assert_eq!(locks[0].blocks(), Blocks::ReadsAndWrites);
    /// # Ok::<(), cgk::Error>(())
    /// ```
    pub fn locks(&self) -> Vec<TableLock> {
        self.locks_after(0)
    }

    /// Returns the locks that the file takes after its first statements, if these are executed already.
    pub fn locks_after(&self, statements: usize) -> Vec<TableLock> {
        let mut made: BTreeSet<String> = BTreeSet::new();
        let mut locks = Vec::new();
        for statement in self.statements().iter().skip(statements) {
            let shape = shape::of(statement);
            let line = crate::migration::line_of(self.sql(), statement.range.start);
            let mut strongest: BTreeMap<String, (usize, LockMode, String)> = BTreeMap::new();
            for (index, (name, mode, reason)) in of_shape(&shape, statement).into_iter().enumerate() {
                if made.contains(&name.name) {
                    continue;
                }
                let entry = strongest.entry(name.shown()).or_insert((index, mode, reason.clone()));
                if mode > entry.1 {
                    *entry = (entry.0, mode, reason);
                }
            }
            let mut found: Vec<_> = strongest.into_iter().collect();
            found.sort_by_key(|(_, (index, ..))| *index);
            locks.extend(found.into_iter().map(|(relation, (_, mode, reason))| TableLock {
                relation,
                mode,
                line,
                reason,
            }));
            if let Shape::CreateTable { name, .. } | Shape::Create { name: Some(name), or_replace: false, .. } = &shape
            {
                made.insert(name.name.clone());
            }
        }
        locks
    }
}

type NamedLocks = Vec<(Name, LockMode, String)>;

/// Returns the same lock on each of these tables.
fn each(names: &[Name], mode: LockMode, reason: &str) -> NamedLocks {
    names.iter().map(|name| (name.clone(), mode, reason.to_owned())).collect()
}

fn one(name: &Name, mode: LockMode, reason: &str) -> NamedLocks {
    each(std::slice::from_ref(name), mode, reason)
}

fn of_shape(shape: &Shape, statement: &Statement) -> NamedLocks {
    use LockMode::{AccessExclusive, AccessShare, Exclusive, RowExclusive, RowShare, Share, ShareUpdateExclusive};
    match shape {
        Shape::CreateTable { references, sources, .. } => of_new_table(references, sources),
        Shape::CreateIndex { table, concurrently, .. } => {
            let (mode, reason) = if *concurrently {
                (ShareUpdateExclusive, "create index concurrently")
            } else {
                (Share, "create index")
            };
            one(table, mode, reason)
        }
        Shape::Create { kind, name, or_replace, on, reads, .. } => {
            let replaced = name.as_ref().filter(|_| *or_replace);
            let mut found = each(reads, AccessShare, "query");
            found.extend(of_new_object(kind, replaced, on.as_ref()));
            found
        }
        Shape::DropIndex { names, concurrently } => {
            let (mode, reason) = if *concurrently {
                (ShareUpdateExclusive, "drop index concurrently")
            } else {
                (AccessExclusive, "drop index")
            };
            each(names, mode, reason)
        }
        Shape::Drop { kind, names, on } => of_drop(kind, names, on.as_ref()),
        Shape::AlterTable { kind, table, actions } => {
            actions.iter().flat_map(|action| of_action(kind, table, action)).collect()
        }
        Shape::Alter { kind, on: Some(on), .. } => one(on, AccessExclusive, &format!("alter {kind}")),
        Shape::Reindex { kind, name: Some(name), concurrently } => match (kind.as_str(), concurrently) {
            ("table", true) => one(name, ShareUpdateExclusive, "reindex concurrently"),
            ("table", false) => one(name, Share, "reindex"),
            ("index", true) => one(name, ShareUpdateExclusive, "reindex concurrently"),
            ("index", false) => one(name, AccessExclusive, "reindex"),
            _ => NamedLocks::new(),
        },
        Shape::Refresh { name, concurrently } => {
            one(name, if *concurrently { Exclusive } else { AccessExclusive }, "refresh")
        }
        Shape::Truncate { tables } => each(tables, AccessExclusive, "truncate"),
        Shape::Lock { tables, mode } => each(tables, LockMode::of_name(mode).unwrap_or(AccessExclusive), "lock table"),
        Shape::Vacuum { tables, full } => {
            each(tables, if *full { AccessExclusive } else { ShareUpdateExclusive }, "vacuum")
        }
        Shape::Analyze { tables } => each(tables, ShareUpdateExclusive, "analyze"),
        Shape::Cluster { table: Some(table) } => one(table, AccessExclusive, "cluster"),
        Shape::Write { verb, table, reads, .. } => {
            let mut found = one(table, RowExclusive, verb);
            found.extend(each(reads, AccessShare, "query"));
            found
        }
        Shape::Select { reads, locks_rows } => each(
            reads,
            if *locks_rows { RowShare } else { AccessShare },
            if *locks_rows { "select for update" } else { "query" },
        ),
        Shape::Comment { kind, name, on } => of_comment(kind, name, on.as_ref(), statement),
        Shape::Alter { .. } | Shape::Reindex { .. } | Shape::Cluster { .. } | Shape::Rights { .. } | Shape::Other => {
            NamedLocks::new()
        }
    }
}

fn of_new_table(references: &[Name], sources: &[(RowSource, Name)]) -> NamedLocks {
    let mut found = each(references, LockMode::ShareRowExclusive, "foreign key");
    for (source, name) in sources {
        let (mode, reason) = match source {
            RowSource::Inherits => (LockMode::ShareUpdateExclusive, "inherits"),
            RowSource::Like => (LockMode::AccessShare, "like"),
            RowSource::PartitionOf => (LockMode::AccessExclusive, "new partition"),
            RowSource::Reads => (LockMode::AccessShare, "query"),
        };
        found.push((name.clone(), mode, reason.into()));
    }
    found
}

/// Returns the locks of a statement that creates an object. `replaced` is the name of an object that OR REPLACE may
/// replace. `on` is the table of a trigger, rule, policy or of statistics.
fn of_new_object(kind: &str, replaced: Option<&Name>, on: Option<&Name>) -> NamedLocks {
    match (kind, replaced, on) {
        ("trigger", _, Some(on)) => one(on, LockMode::ShareRowExclusive, "create trigger"),
        ("rule" | "policy", _, Some(on)) => one(on, LockMode::AccessExclusive, &format!("create {kind}")),
        ("statistics", _, Some(on)) => one(on, LockMode::ShareUpdateExclusive, "create statistics"),
        ("view", Some(name), _) => one(name, LockMode::AccessExclusive, "replace view"),
        _ => NamedLocks::new(),
    }
}

fn of_drop(kind: &str, names: &[Name], on: Option<&Name>) -> NamedLocks {
    match (kind, on) {
        ("table" | "view" | "materialized view" | "sequence" | "foreign table", _) => {
            each(names, LockMode::AccessExclusive, &format!("drop {kind}"))
        }
        ("trigger" | "rule" | "policy", Some(on)) => one(on, LockMode::AccessExclusive, &format!("drop {kind}")),
        _ => NamedLocks::new(),
    }
}

fn of_comment(kind: &str, name: &Name, on: Option<&Name>, statement: &Statement) -> NamedLocks {
    match (kind, on) {
        ("table" | "column" | "view" | "materialized view" | "index" | "sequence" | "foreign table", _) => {
            one(name, LockMode::ShareUpdateExclusive, "comment")
        }
        ("constraint" | "trigger" | "rule" | "policy", Some(on))
            if !shape::has(&statement.tokens, &["on", "domain"]) =>
        {
            one(on, LockMode::AccessShare, "comment")
        }
        _ => NamedLocks::new(),
    }
}

fn of_action(kind: &str, table: &Name, action: &Action) -> NamedLocks {
    use LockMode::{AccessExclusive, AccessShare, ShareRowExclusive, ShareUpdateExclusive};
    let words = action.words();
    let reason = |length: usize| words.iter().take(length).copied().collect::<Vec<_>>().join(" ");
    let mut found = NamedLocks::new();
    let mut own = |mode, reason: String| found.push((table.clone(), mode, reason));
    match (kind, words.as_slice()) {
        ("type", _) => return NamedLocks::new(),
        ("index", ["rename" | "set" | "reset", ..]) => own(ShareUpdateExclusive, reason(1)),
        ("sequence", ["owner" | "rename" | "set", ..]) => own(AccessExclusive, reason(1)),
        ("sequence", _) => own(ShareRowExclusive, "alter sequence".into()),
        ("table", ["validate", "constraint", ..]) => own(ShareUpdateExclusive, reason(2)),
        ("table", ["set", "without", "cluster"] | ["cluster", "on", ..]) => own(ShareUpdateExclusive, reason(2)),
        ("table" | "materialized view", ["set" | "reset"]) if only_light_parameters(action) => {
            own(ShareUpdateExclusive, format!("{} storage parameters", words[0]));
        }
        ("table", ["alter", ..]) if action.has(&["set", "statistics"]) => {
            own(ShareUpdateExclusive, "set statistics".into());
        }
        ("table", ["alter", ..]) if sets_attribute_options(action) => {
            own(ShareUpdateExclusive, "set column options".into());
        }
        ("table", ["enable" | "disable", "trigger", ..] | ["enable", "replica" | "always", "trigger", ..]) => {
            own(ShareRowExclusive, reason(2));
        }
        ("table", ["attach", "partition", ..]) => {
            own(ShareUpdateExclusive, reason(2));
            if let Some(child) = action.name_after(&["attach", "partition"]) {
                found.push((child, AccessExclusive, "attach partition".into()));
            }
        }
        ("table", ["detach", "partition", ..]) => {
            let concurrent = action.has(&["concurrently"]) || action.has(&["finalize"]);
            own(if concurrent { ShareUpdateExclusive } else { AccessExclusive }, reason(2));
            if let Some(child) = action.name_after(&["detach", "partition"]) {
                found.push((child, AccessExclusive, "detach partition".into()));
            }
        }
        ("table", ["add", "constraint" | "foreign", ..]) if action.has(&["foreign", "key"]) => {
            own(ShareRowExclusive, "add foreign key".into());
        }
        ("table", ["inherit" | "no", ..]) => {
            own(AccessExclusive, reason(2));
            let mode = if words[0] == "no" { AccessShare } else { ShareUpdateExclusive };
            found.extend(action.name_after(&["inherit"]).map(|parent| (parent, mode, "inherit".to_owned())));
        }
        _ => own(AccessExclusive, reason(2)),
    }
    found.extend(action.references().into_iter().map(|name| (name, ShareRowExclusive, "foreign key".to_owned())));
    found
}

/// Whether all parameters affect only later writes and maintenance.
fn only_light_parameters(action: &Action) -> bool {
    let names = action.tokens.split(|token| token.is_sign('(') || token.is_sign(',')).skip(1);
    let mut names = names.filter_map(|part| part.first().and_then(|token| token.name()));
    names.all(|name| {
        name.starts_with("autovacuum_")
            || name.starts_with("toast")
            || name.starts_with("vacuum_")
            || name.starts_with("log_autovacuum")
            || matches!(name, "fillfactor" | "parallel_workers")
    })
}

/// Whether an action is of the form `alter column c set (n_distinct = 5)`.
fn sets_attribute_options(action: &Action) -> bool {
    action.tokens.windows(2).any(|pair| matches!(pair[0].word(), Some("set" | "reset")) && pair[1].is_sign('('))
}
