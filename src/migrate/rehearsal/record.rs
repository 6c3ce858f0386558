//! Stores the results of rehearsals in two tables of the shared schema.
//!
//! `cgk_rehearsals` stores, for each isolation, which set was rehearsed and how it applies. `cgk_references` stores the
//! objects of a schema after each file, as returned by the catalogue query. Drift reads both with only the SELECT
//! right.

use super::Grouping;
use crate::{
    catalogue,
    config::Isolation,
    db::{
        Operator,
        message::{self, Answer},
        own_table,
    },
    error::{Error, Result, SetupError, while_doing},
    ident::{SchemaName, literal, quoted},
    lock,
    migrate::{
        Applied, Migrations, Source,
        ledger::{self, LedgerDigest},
    },
    migration::Set,
};
use std::collections::HashSet;
use tokio_postgres::{
    error::SqlState,
    types::{ToSql, Type},
};

/// Marks the end of one snapshot in a response.
pub(super) const OBSERVED: &str = "cgk:observed";

const TABLES: &str = "
create table public.cgk_rehearsals (
    isolation pg_catalog.text primary key,
    context pg_catalog.text not null,
    file_by_file pg_catalog.bool not null,
    rehearsed_at pg_catalog.timestamptz not null default pg_catalog.clock_timestamp(),
    rehearsed_by pg_catalog.text not null default session_user,
    cgk_version pg_catalog.text not null
);
create table public.cgk_references (
    set_name pg_catalog.text not null,
    isolation pg_catalog.text not null,
    ledger pg_catalog.text not null,
    context pg_catalog.text not null,
    files pg_catalog.int8 not null,
    fingerprint pg_catalog.text not null,
    objects pg_catalog.text[] not null,
    recorded_at pg_catalog.timestamptz not null default pg_catalog.clock_timestamp(),
    primary key (set_name, isolation, ledger)
);
create table public.cgk_stamps (
    isolation pg_catalog.text not null,
    schema_name pg_catalog.text not null,
    context pg_catalog.text not null,
    stamp pg_catalog.text not null,
    shared pg_catalog.text not null,
    fingerprint pg_catalog.text not null,
    next_transaction pg_catalog.int8 not null,
    primary key (isolation, schema_name)
);
comment on table public.cgk_rehearsals is 'The set of tenant migrations that cgk rehearsed last.';
comment on table public.cgk_references is 'What the migrations make, by the number of files; cgk drift compares with it.';
comment on table public.cgk_stamps is 'Schemas that cgk drift found as they should be, and by what it tells that they have not changed.';
";

/// The objects of a schema at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct SchemaSnapshot {
    pub(crate) fingerprint: String,
    /// The kind, parent, name and facts of each object, one after the other.
    pub(crate) objects: Vec<String>,
}

/// Replaces the name of the schema itself in a record, because a function or a default can contain it.
pub(crate) const OWN_NAME: &str = "\u{1}";

impl SchemaSnapshot {
    /// Returns the snapshot without the schema's own name, in names and in texts. The name of a rehearsal's schema is in
    /// no other word, except for `cgk_rehearsals`, so it is also replaced as a part of a longer name.
    pub(super) fn anonymous(mut self, schema: &SchemaName) -> Self {
        for text in &mut self.objects {
            *text = replaced(text, schema.as_str(), OWN_NAME, |_, behind| !behind.starts_with('s'));
        }
        self
    }
}

/// Returns the text with another word in the places of a complete word.
pub(crate) fn with_word_replaced(text: &str, word: &str, by: &str) -> String {
    let is_word = |c: char| c.is_alphanumeric() || c == '_' || c == '$';
    replaced(text, word, by, |before, behind| !before.ends_with(is_word) && !behind.starts_with(is_word))
}

/// Replaces a word where the text before and behind it allows this.
fn replaced(text: &str, word: &str, by: &str, is_meant: impl Fn(&str, &str) -> bool) -> String {
    let mut replaced = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(word) {
        let (before, behind) = (&rest[..at], &rest[at + word.len()..]);
        replaced.push_str(before);
        replaced.push_str(if is_meant(before, behind) { by } else { word });
        rest = behind;
    }
    replaced + rest
}

/// Returns the snapshots in a response, in order.
pub(super) fn snapshots(answer: &Answer) -> Vec<SchemaSnapshot> {
    let (mut all, mut next) = (Vec::new(), SchemaSnapshot::default());
    for (_, row) in &answer.rows {
        if row.len() == 1 && row.get(0) == Some(OBSERVED) {
            all.push(std::mem::take(&mut next));
        } else if let Some(object) = catalogue::object(row) {
            next.objects.extend(object.map(ToOwned::to_owned));
        } else if let Some((_, fingerprint)) = catalogue::fingerprint(row) {
            next.fingerprint = fingerprint.0;
        }
    }
    all
}

/// The stored results, and what they depend on.
pub(super) struct Memory {
    /// How the set applies, if it was rehearsed.
    pub(super) known: Option<Grouping>,
    /// Whether the schema of an interrupted or running rehearsal exists.
    pub(super) has_leftover: bool,
    /// Whether the record was made under the same conditions.
    is_current: bool,
    /// What the result depends on: the files, the server, the database and the shared schema.
    context: String,
}

impl Memory {
    /// Reads it, and creates its tables if needed.
    pub(super) async fn prepare(operator: &Operator, migrations: &Migrations) -> Result<Self> {
        let memory = Self::read(operator, migrations).await?;
        if !memory.context.is_empty() {
            return Ok(memory);
        }
        create_tables(operator).await?;
        Self::read(operator, migrations).await
    }

    /// Reads it in one query, if a rehearsal was ever recorded.
    pub(super) async fn read(operator: &Operator, migrations: &Migrations) -> Result<Self> {
        let isolation = isolation_name(operator);
        let sql = format!(
            "select m.context, m.file_by_file, {}, pg_catalog.to_regnamespace({}) is not null,
                    exists (select from public.cgk_references r
                            where r.set_name = 'tenant' and r.isolation = $1 and r.ledger = {} and r.context = {})
             from (values (1)) v (one) left join public.cgk_rehearsals m on m.isolation = $1",
            depends_sql(),
            literal(SchemaName::rehearsal().as_str()),
            literal(&digest_of(migrations.set(Set::Tenant))),
            texts_sql(),
        );
        let doing = || while_doing("read which migrations were rehearsed");
        let rows = match operator.client().query_typed(&sql, &[(&isolation, Type::TEXT)]).await {
            Err(error) if is_missing_table(&error) => {
                return Ok(Self { known: None, has_leftover: false, is_current: false, context: String::new() });
            }
            rows => rows.map_err(|error| reading(operator, error))?,
        };
        let row = rows.first().ok_or_else(|| Error::Unexpected {
            doing: "read which migrations were rehearsed".into(),
            found: "no row".into(),
        })?;
        let remembered: Option<String> = row.try_get(0).map_err(doing())?;
        let file_by_file: Option<bool> = row.try_get(1).map_err(doing())?;
        let depends: String = row.try_get(2).map_err(doing())?;
        // A digest contains no space.
        let is_current =
            remembered.as_deref().and_then(|known| known.split_once(' ')).is_some_and(|(_, known)| known == depends);
        let context = format!("{} {depends}", digest_of(migrations.set(Set::Tenant)));
        let is_recorded: bool = row.try_get(4).map_err(doing())?;
        let known = (is_recorded && remembered.as_deref() == Some(context.as_str())).then_some(match file_by_file {
            Some(true) => Grouping::FileByFile,
            _ => Grouping::Batch,
        });
        Ok(Self { known, has_leftover: row.try_get(3).map_err(doing())?, is_current, context })
    }

    /// Returns, for each number of files, whether its objects are not recorded. A release adds files to recorded ones.
    pub(super) async fn unrecorded(&self, operator: &Operator, migrations: &Migrations) -> Result<Vec<bool>> {
        let digests = LedgerDigest::of_beginnings(migrations.set(Set::Tenant).files());
        if !self.is_current {
            return Ok(digests.iter().map(|_| true).collect());
        }
        let sql = format!(
            "select ledger from public.cgk_references where set_name = 'tenant' and isolation = $1 and context = {}",
            texts_sql()
        );
        let isolation = isolation_name(operator);
        let rows = operator.client().query_typed(&sql, &[(&isolation, Type::TEXT)]).await;
        let rows = rows.map_err(|error| reading(operator, error))?;
        let recorded: HashSet<String> = rows
            .iter()
            .map(|row| row.try_get(0))
            .collect::<Result<_, _>>()
            .map_err(while_doing("read the recorded result of the migrations"))?;
        Ok(digests.iter().map(|digest| !recorded.contains(digest.as_str())).collect())
    }
}

fn digest_of(source: &Source) -> String {
    let rows: Vec<Applied> = source.files().iter().map(Applied::of).collect();
    LedgerDigest::of(&rows).as_str().to_owned()
}

/// Returns an expression for the conditions of a record in addition to the files. The texts depend on the query and the
/// major version, and a restored dump changes some of them.
pub(crate) fn texts_sql() -> String {
    format!(
        "pg_catalog.concat_ws(' ', 'query', {}::pg_catalog.text, 'server', \
         pg_catalog.current_setting('server_version_num')::pg_catalog.int4 / 10000,
             'database', (select d.oid from pg_catalog.pg_database d where d.datname = pg_catalog.current_database()))",
        literal(&catalogue::Query::CURRENT.digest())
    )
}

/// Returns the digest of the catalogue query in a record's context.
pub(super) fn query_in(context: &str) -> &str {
    context.strip_prefix("query ").and_then(|rest| rest.split(' ').next()).unwrap_or_default()
}

/// The settings of a session that change which objects a file creates.
const SETTINGS: [&str; 6] = [
    "default_tablespace",
    "default_table_access_method",
    "default_toast_compression",
    "TimeZone",
    "DateStyle",
    "IntervalStyle",
];

/// Returns [`texts_sql`], the ledger of the shared schema, and the session's settings.
fn depends_sql() -> String {
    let ledger = SchemaName::public().qualified(ledger::LEDGER_TABLE);
    let settings = SETTINGS.map(|name| format!("pg_catalog.current_setting('{name}')")).join(", ");
    format!(
        "pg_catalog.concat_ws(' ', {}, 'public',
             (select pg_catalog.obj_description(c.oid, 'pg_class') from pg_catalog.pg_class c
              where c.oid = pg_catalog.to_regclass({})), 'settings', {settings})",
        texts_sql(),
        literal(&ledger)
    )
}

pub(crate) fn isolation_name(operator: &Operator) -> &'static str {
    match operator.config().isolation() {
        Isolation::Role => "role",
        Isolation::Path => "path",
    }
}

/// Whether a statement failed because the tables do not exist yet.
pub(crate) fn is_missing_table(error: &tokio_postgres::Error) -> bool {
    error.code() == Some(&SqlState::UNDEFINED_TABLE)
}

/// Whether a statement failed because a table may not be read.
pub(crate) fn is_denied(error: &tokio_postgres::Error) -> bool {
    error.code() == Some(&SqlState::INSUFFICIENT_PRIVILEGE)
}

/// Returns the error of a failed read. If a missing right is the cause, it names the right.
pub(crate) fn reading(operator: &Operator, error: tokio_postgres::Error) -> Error {
    let role = &operator.facts().role;
    match error.code() {
        Some(&SqlState::INSUFFICIENT_PRIVILEGE) => Error::Setup(SetupError::Privilege {
            role: role.clone(),
            needed: "read the recorded result of the migrations, in public.cgk_references".into(),
            grant: format!("grant select on public.cgk_references, public.cgk_rehearsals to {}", quoted(role)),
            source: Some(error.into()),
        }),
        _ => while_doing("read the recorded result of the migrations")(error),
    }
}

/// Returns the objects that the first files of the tenants' set create; `None` if they are not recorded.
pub(crate) async fn given(operator: &Operator, applied: &[Applied]) -> Result<Option<SchemaSnapshot>> {
    let sql = format!(
        "select fingerprint, objects from public.cgk_references
         where set_name = 'tenant' and isolation = $1 and ledger = $2 and context = {}",
        texts_sql()
    );
    let (isolation, digest) = (isolation_name(operator), LedgerDigest::of(applied));
    let params: [(&(dyn ToSql + Sync), Type); 2] = [(&isolation, Type::TEXT), (&digest.as_str(), Type::TEXT)];
    let rows = match operator.client().query_typed(&sql, &params).await {
        Err(error) if is_missing_table(&error) => return Ok(None),
        rows => rows.map_err(|error| reading(operator, error))?,
    };
    let doing = || while_doing("read the recorded result of the migrations");
    let Some(row) = rows.first() else { return Ok(None) };
    Ok(Some(SchemaSnapshot {
        fingerprint: row.try_get(0).map_err(doing())?,
        objects: row.try_get(1).map_err(doing())?,
    }))
}

/// Creates the tables. If another run has created them, that is also a success.
pub(crate) async fn create_tables(operator: &Operator) -> Result<()> {
    let tables = ["public.cgk_rehearsals", "public.cgk_references", "public.cgk_stamps"];
    let created = own_table::create(operator, lock::references_key(), &tables, TABLES).await;
    created.map_err(while_doing("create the tables of the rehearsal"))
}

/// Records a rehearsal, in one transaction: its result, and the objects of the schema after these numbers of files.
/// Records of other files or other conditions are deleted. `memory` was read before the rehearsal, so a change since
/// then makes the next run rehearse again. Without a result, the set was not rehearsed completely: the objects of its
/// first files are added to the record.
pub(super) async fn write(
    operator: &Operator,
    migrations: &Migrations,
    memory: &Memory,
    result: Option<Grouping>,
    snapshots: &[(usize, SchemaSnapshot)],
) -> Result<()> {
    let isolation = literal(isolation_name(operator));
    let digests = LedgerDigest::of_beginnings(migrations.set(Set::Tenant).files());
    let mut sql = String::new();
    if let Some(grouping) = result {
        let others = match memory.is_current {
            true => {
                let kept: Vec<String> = digests.iter().map(|digest| literal(digest.as_str())).collect();
                format!(
                    " and not (ledger = any (array[{}]::pg_catalog.text[]) and context = {})",
                    kept.join(","),
                    texts_sql()
                )
            }
            false => String::new(),
        };
        sql.push_str(&format!(
            "delete from public.cgk_references where set_name = 'tenant' and isolation = {isolation}{others};
insert into public.cgk_rehearsals (isolation, context, file_by_file, cgk_version) values ({isolation}, {}, {}, {version})
on conflict (isolation) do update set context = excluded.context, file_by_file = excluded.file_by_file,
    rehearsed_at = pg_catalog.clock_timestamp(), rehearsed_by = session_user, cgk_version = excluded.cgk_version;\n",
            literal(&memory.context),
            grouping == Grouping::FileByFile,
            version = literal(env!("CARGO_PKG_VERSION")),
        ));
    }
    for (files, snapshot) in snapshots {
        sql.push_str(&write_sql(Set::Tenant, &isolation, digests[*files].as_str(), *files, snapshot));
    }
    let doing = || while_doing("record the result of the migrations");
    message::run(operator.client(), &sql).await.map_err(doing())?.complete().map(drop).map_err(doing())
}

/// Records the objects of a schema whose ledger has this digest. `isolation` is a literal.
pub(crate) fn write_sql(set: Set, isolation: &str, ledger: &str, files: usize, snapshot: &SchemaSnapshot) -> String {
    let objects: Vec<String> = snapshot.objects.iter().map(|text| literal(text)).collect();
    format!(
        "insert into public.cgk_references (set_name, isolation, ledger, context, files, fingerprint, objects)
         values ({}, {isolation}, {}, {}, {files}, {}, array[{}]::pg_catalog.text[])
         on conflict (set_name, isolation, ledger) do update set context = excluded.context, files = excluded.files,
             fingerprint = excluded.fingerprint, objects = excluded.objects, recorded_at = pg_catalog.clock_timestamp();\n",
        literal(set.folder()),
        literal(ledger),
        texts_sql(),
        literal(&snapshot.fingerprint),
        objects.join(","),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_whole_word_is_replaced_and_no_part_of_one() {
        assert_eq!(with_word_replaced("a.t, xa.a, 'a', ab, a1, $a, a", "a", "_"), "_.t, xa._, '_', ab, a1, $a, _");
    }
}
