//! The ledger: the table `schema_migrations` of every migrated schema. It is authoritative for that schema.
//!
//! The table's comment contains its head and a digest of its rows, written in the same transaction. So one catalogue
//! query returns the state of the complete fleet, and `pg_dump -n` includes it. If the comment is missing or unknown,
//! the rows are read.

use super::files::{file::MigrationFile, source::Source};
use crate::{
    access::isolation,
    db::Operator,
    error::{Error, LedgerProblem, MigrationError, Result, while_doing},
    ident::{RoleName, SchemaName, hex, literal},
    migration::{MigrationId, STEPS_TABLE},
    row_check,
    version::{Checksum, Version},
};
use sha2::{Digest as _, Sha256};
use std::collections::HashMap;
use tokio_postgres::{error::SqlState, types::Type};

pub use crate::migration::LEDGER_TABLE;

/// A row of a ledger: one applied migration.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Applied {
    /// Version and name.
    pub id: MigrationId,
    /// The checksum of the applied text.
    pub checksum: Checksum,
}

impl Applied {
    /// Returns the row for a file.
    pub(crate) fn of(file: &MigrationFile) -> Self {
        Self { id: file.id().clone(), checksum: file.checksum().clone() }
    }
}

/// The content of a ledger as one value: the sha256 of its rows, sorted by version.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct LedgerDigest(String);

impl LedgerDigest {
    pub(crate) fn of(rows: &[Applied]) -> Self {
        let mut lines: Vec<_> = rows.iter().map(|row| (row.id.version, line(row))).collect();
        lines.sort();
        let text = lines.into_iter().map(|(_, line)| line).collect::<Vec<_>>().join("\n");
        Self(hex(&Sha256::digest(text.as_bytes())))
    }

    /// Returns the digest of every prefix of a set's files, starting with the empty one. Each digest continues the
    /// previous one, so a set of thousands of files is hashed once.
    pub(crate) fn of_beginnings(files: &[MigrationFile]) -> Vec<Self> {
        let mut hash = Sha256::new();
        let mut all = vec![Self(hex(&hash.clone().finalize()))];
        for (number, file) in files.iter().enumerate() {
            if number > 0 {
                hash.update(b"\n");
            }
            hash.update(line(&Applied::of(file)).as_bytes());
            all.push(Self(hex(&hash.clone().finalize())));
        }
        all
    }

    /// Returns the digest in a ledger's comment; `None` if there is no comment that this version understands.
    pub(crate) fn in_comment(comment: Option<&str>) -> Option<Self> {
        let mut words = comment?.split(' ');
        (words.next() == Some(COMMENT_FORMAT)).then_some(())?;
        let digest = words.find_map(|word| word.strip_prefix("sha256="))?;
        (digest.len() == 64).then(|| Self(digest.into()))
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

fn line(row: &Applied) -> String {
    format!("{} {} {}", row.id.version.get(), row.id.name, row.checksum.as_str())
}

/// The digest of every prefix of a set: the possible digests of a schema that is at head or behind.
pub(crate) struct Prefixes(HashMap<LedgerDigest, usize>);

impl Prefixes {
    pub(crate) fn of(source: &Source) -> Self {
        Self(LedgerDigest::of_beginnings(source.files()).into_iter().zip(0..).collect())
    }

    /// Returns how many of the set's files a ledger with this digest contains.
    pub(crate) fn length_of(&self, digest: &LedgerDigest) -> Option<usize> {
        self.0.get(digest).copied()
    }
}

const COMMENT_FORMAT: &str = "cgk:1";

/// Creates a ledger. The tenant's role gets no rights on it. Otherwise default privileges could allow it to write.
pub(crate) fn create_sql(schema: &SchemaName, role: Option<&RoleName>) -> String {
    let table = schema.qualified(LEDGER_TABLE);
    let mut sql = format!(
        "create table {table} (
    version bigint primary key check (version > 0),
    name text not null,
    checksum text not null,
    applied_at timestamptz not null default pg_catalog.clock_timestamp(),
    applied_by text not null default session_user,
    duration_ms bigint not null,
    cgk_version text not null,
    {REPAIRS} jsonb
);
revoke all on {table} from public;
"
    );
    if let Some(role) = role {
        sql.push_str(&isolation::protect_ledger_sql(schema, role.ident()));
    }
    sql
}

/// Records one file. `cgk.started` was set when the file started. If the condition `demanded` is false, the statement
/// fails with a division by zero.
pub(crate) fn insert_sql(schema: &SchemaName, file: &MigrationFile, demanded: &str) -> String {
    format!(
        "insert into {} (version, name, checksum, duration_ms, cgk_version) values ({}, {}, {}, \
         (extract(epoch from pg_catalog.clock_timestamp() - pg_catalog.current_setting('cgk.started')::pg_catalog.timestamptz) * 1000)::pg_catalog.int8 \
         / (case when {demanded} then 1 else 0 end), {});\n",
        schema.qualified(LEDGER_TABLE),
        file.id().version.get(),
        literal(&file.id().name),
        literal(file.checksum().as_str()),
        literal(env!("CARGO_PKG_VERSION")),
    )
}

/// Checks that the ledger contains exactly these rows: a trigger or a rule on it can drop or change what is written.
pub(crate) fn demand_sql(schema: &SchemaName, rows: &[Applied]) -> String {
    demand_digest_sql(schema, &LedgerDigest::of(rows))
}

/// Checks the same for rows with this digest.
pub(crate) fn demand_digest_sql(schema: &SchemaName, digest: &LedgerDigest) -> String {
    let table = schema.qualified(LEDGER_TABLE);
    let digest = literal(digest.as_str());
    row_check::demand_sql(&table, &format!("{DIGEST} = {digest}"), &format!("from {table}"))
}

/// Checks that the ledger contains a file's row. It may contain others.
pub(crate) fn demand_row_sql(schema: &SchemaName, file: &MigrationFile) -> String {
    let table = schema.qualified(LEDGER_TABLE);
    let condition = format!(
        "exists (select from {table} where version = {} and name = {} and checksum = {})",
        file.id().version.get(),
        literal(&file.id().name),
        literal(file.checksum().as_str()),
    );
    row_check::demand_sql(&table, &condition, "")
}

/// Writes the head and the digest of the ledger's current content.
pub(crate) fn comment_sql(schema: &SchemaName, rows: &[Applied]) -> String {
    comment_digest_sql(schema, rows, &LedgerDigest::of(rows))
}

/// Writes the same with a given digest of the rows.
pub(crate) fn comment_digest_sql(schema: &SchemaName, rows: &[Applied], digest: &LedgerDigest) -> String {
    let head = rows.iter().map(|row| row.id.version.get()).max().unwrap_or(0);
    let comment = format!("{COMMENT_FORMAT} head={head} applied={} sha256={}", rows.len(), digest.as_str());
    let table = schema.qualified(LEDGER_TABLE);
    format!("comment on table {table} is {};\n", literal(&comment))
}

/// Returns an expression: the digest of the current rows, computed by the server.
pub(crate) fn digest_sql(schema: &SchemaName) -> String {
    format!("(select {DIGEST} from {})", schema.qualified(LEDGER_TABLE))
}

/// [`digest_sql`] without its SELECT: an aggregate over a ledger's rows. It takes a fifth of the server's work for a
/// small migration. It is therefore one function instead of operators, and in a message of
/// [`apply`](super::execute::apply) it is not a subquery. This makes it a quarter cheaper.
pub(crate) const DIGEST: &str = "pg_catalog.encode(pg_catalog.sha256(pg_catalog.convert_to(coalesce(pg_catalog.string_agg(\
    pg_catalog.concat_ws(' ', version, name, checksum), E'\\n' order by version), ''), 'UTF8')), 'hex')";

/// Records files as applied without running them.
pub(crate) fn adopt_sql(schema: &SchemaName, files: &[&MigrationFile]) -> String {
    let values: Vec<String> = files
        .iter()
        .map(|file| {
            let id = file.id();
            let (name, checksum) = (literal(&id.name), literal(file.checksum().as_str()));
            format!("({}, {name}, {checksum}, 0, {})", id.version.get(), literal(env!("CARGO_PKG_VERSION")))
        })
        .collect();
    if values.is_empty() {
        return String::new();
    }
    let table = schema.qualified(LEDGER_TABLE);
    format!("insert into {table} (version, name, checksum, duration_ms, cgk_version) values\n{};\n", values.join(",\n"))
}

/// The column for manual changes of a ledger. Ledgers of earlier versions get it with their first repair. It is not
/// part of the digest.
pub(crate) const REPAIRS: &str = "repairs";

/// Adds the column for repairs to an earlier version's ledger.
pub(crate) fn upgrade_sql(schema: &SchemaName) -> String {
    format!("alter table {} add column {REPAIRS} jsonb;\n", schema.qualified(LEDGER_TABLE))
}

/// Records on the row of a version what was changed, why, when and by which role.
pub(crate) fn note_sql(schema: &SchemaName, on: Version, action: &str, reason: &str, detail: &str) -> String {
    let table = schema.qualified(LEDGER_TABLE);
    format!(
        "update {} set {REPAIRS} = coalesce({REPAIRS}, '[]'::pg_catalog.jsonb) || \
         pg_catalog.jsonb_build_array(pg_catalog.jsonb_build_object(\
         'action', {}::pg_catalog.text, 'reason', {}::pg_catalog.text, 'detail', {}::pg_catalog.text, 'at', pg_catalog.clock_timestamp(), 'by', session_user::pg_catalog.text))
         where version = {};\n{}",
        table,
        literal(action),
        literal(reason),
        literal(detail),
        on.get(),
        row_check::demand_sql(
            &table,
            &format!(
                "exists (select from {table} where version = {} and pg_catalog.jsonb_extract_path_text({REPAIRS}, \
                 '-1', 'action') = {} \
                 and pg_catalog.jsonb_extract_path_text({REPAIRS}, '-1', 'reason') = {})",
                on.get(),
                literal(action),
                literal(reason)
            ),
            ""
        ),
    )
}

/// The catalogue entry of a schema and the content of its ledger.
pub(crate) struct LedgerState {
    pub(crate) schema_exists: bool,
    pub(crate) ledger_exists: bool,
    pub(crate) rows: Vec<Applied>,
    /// Whether a migration without a transaction is partially applied.
    pub(crate) has_steps: bool,
    comment: Option<String>,
}

impl LedgerState {
    /// Whether the comment matches the rows.
    pub(crate) fn comment_agrees(&self) -> bool {
        LedgerDigest::in_comment(self.comment.as_deref()) == Some(LedgerDigest::of(&self.rows))
    }
}

/// Returns the columns of a schema's ledger and the ledger's owner; `None` if there is no table of that name.
pub(crate) async fn table(operator: &Operator, schema: &SchemaName) -> Result<Option<LedgerTable>> {
    let doing = || while_doing(format!("look at the ledger of schema {:?}", schema.as_str()));
    let sql = "select pg_catalog.pg_get_userbyid(c.relowner)::pg_catalog.text,
                      (select coalesce(pg_catalog.array_agg(a.attname::pg_catalog.text order by a.attnum), '{}')
                       from pg_catalog.pg_attribute a where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped)
               from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
               where n.nspname = $1 and c.relname = $2 and c.relkind in ('r', 'p')";
    let params =
        [(&schema.as_str() as &(dyn tokio_postgres::types::ToSql + Sync), Type::TEXT), (&LEDGER_TABLE, Type::TEXT)];
    let rows = operator.client().query_typed(sql, &params).await.map_err(doing())?;
    let Some(row) = rows.first() else { return Ok(None) };
    let owner: String = row.try_get(0).map_err(doing())?;
    let columns: Vec<String> = row.try_get(1).map_err(doing())?;
    Ok(Some(LedgerTable { owner, columns }))
}

/// A table with a ledger's name.
#[derive(Debug)]
pub(crate) struct LedgerTable {
    pub(crate) owner: String,
    pub(crate) columns: Vec<String>,
}

impl LedgerTable {
    /// Whether cgk created it: several tools use the same name.
    pub(crate) fn is_ours(&self) -> bool {
        ["version", "name", "checksum", "applied_at", "cgk_version"].iter().all(|column| self.has(column))
    }

    pub(crate) fn has(&self, column: &str) -> bool {
        self.columns.iter().any(|found| found == column)
    }

    /// Returns the refusal of a table that is not ours.
    pub(crate) fn refused(&self) -> LedgerProblem {
        let columns: Vec<&str> = self.columns.iter().map(String::as_str).collect();
        let tool = match columns.as_slice() {
            ["version", "dirty"] => Some("golang-migrate"),
            ["version"] => Some("that of Rails or dbmate"),
            _ => None,
        };
        LedgerProblem::OfAnotherTool { tool, columns: self.columns.clone() }
    }
}

/// Refuses a table that has a ledger's name and another tool's columns.
async fn refuse_foreign(operator: &Operator, schema: &SchemaName) -> Result<()> {
    match table(operator, schema).await? {
        Some(foreign) if !foreign.is_ours() => {
            Err(Error::Migration(MigrationError::LedgerRefused { schema: schema.clone(), why: foreign.refused() }))
        }
        _ => Ok(()),
    }
}

/// Returns a query for the object with a ledger's name in a schema: its kind, its comment, and the required columns
/// that a row of cgk would leave empty. A type can also have the name of a table. The query returns no row if the
/// schema does not exist.
fn look_sql() -> String {
    format!(
        "select case when c.oid is null then case when t.oid is not null then 'type' end
                else case c.relkind when 'r' then 'table' when 'p' then 'table' when 'v' then 'view' when 'm' then 'materialized view'
                          when 'f' then 'foreign table' when 'S' then 'sequence' when 'c' then 'composite type' else 'relation of another kind' end end,
                pg_catalog.obj_description(c.oid, 'pg_class'),
                (select coalesce(pg_catalog.array_agg(a.attname::pg_catalog.text order by a.attnum), '{{}}')
                 from pg_catalog.pg_attribute a
                 where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped and a.attnotnull and not a.atthasdef and a.attidentity = ''
                   and a.attname <> all (array['version', 'name', 'checksum', 'duration_ms', 'cgk_version']::pg_catalog.name[]))
         from pg_catalog.pg_namespace n
         left join pg_catalog.pg_class c on c.relnamespace = n.oid and c.relname = '{LEDGER_TABLE}'
         left join pg_catalog.pg_type t on c.oid is null and t.typnamespace = n.oid and t.typname = '{LEDGER_TABLE}'
         where n.nspname = $1"
    )
}

/// Refuses an object that has a ledger's name and cannot be one. The errors are those of [`read`].
pub(crate) async fn refuse_unfit(operator: &Operator, schema: &SchemaName) -> Result<()> {
    read(operator, schema).await.map(drop)
}

/// Reads one schema's ledger in two round trips. Writes nothing.
///
/// # Errors
///
/// [`MigrationError::LedgerRefused`]: an object with this name is not a table of cgk, or a row cannot be written to it.
pub(crate) async fn read(operator: &Operator, schema: &SchemaName) -> Result<LedgerState> {
    let doing = || while_doing(format!("read the ledger of schema {:?}", schema.as_str()));
    let found = operator.client().query_typed(&look_sql(), &[(&schema.as_str(), Type::TEXT)]).await.map_err(doing())?;
    let Some(found) = found.first() else {
        let rows = Vec::new();
        return Ok(LedgerState { schema_exists: false, ledger_exists: false, rows, has_steps: false, comment: None });
    };
    let kind: Option<String> = found.try_get(0).map_err(doing())?;
    let unfilled: Vec<String> = found.try_get(2).map_err(doing())?;
    let refuse =
        |why: LedgerProblem| Err(Error::Migration(MigrationError::LedgerRefused { schema: schema.clone(), why }));
    let ledger_exists = match kind.as_deref() {
        None => false,
        Some("table") => true,
        Some(kind) => return refuse(LedgerProblem::NotATable { kind: kind.to_owned() }),
    };
    let mut comment: Option<String> = found.try_get(1).map_err(doing())?;
    let (mut rows, mut has_steps) = (Vec::new(), false);
    if ledger_exists {
        // This reads the comment again: if it were older than the rows, it would seem to differ from them. The last
        // columns are read so that a table of another tool, which lacks some of them, is not treated as a ledger.
        let table = schema.qualified(LEDGER_TABLE);
        let sql = format!(
            "select version, name, checksum, pg_catalog.obj_description({}::pg_catalog.regclass, 'pg_class'),
                    applied_at is null or cgk_version is null, pg_catalog.to_regclass({}) is not null
             from {table} order by version",
            literal(&table),
            literal(&schema.qualified(STEPS_TABLE))
        );
        let found = match operator.client().query_typed(&sql, &[]).await {
            Err(error) if error.code() == Some(&SqlState::UNDEFINED_COLUMN) => {
                refuse_foreign(operator, schema).await?;
                return Err(doing()(error));
            }
            found => found.map_err(doing())?,
        };
        if let [column, ..] = &unfilled[..] {
            return refuse(LedgerProblem::UnfilledColumn { column: column.clone() });
        }
        for row in found {
            let version: i64 = row.try_get(0).map_err(doing())?;
            let name: String = row.try_get(1).map_err(doing())?;
            let checksum: String = row.try_get(2).map_err(doing())?;
            comment = row.try_get(3).map_err(doing())?;
            has_steps = row.try_get(5).map_err(doing())?;
            let version = Version::new(version).ok_or_else(|| crate::Error::Unexpected {
                doing: format!("read the ledger of schema {:?}", schema.as_str()),
                found: format!("version {version}"),
            })?;
            rows.push(Applied { id: MigrationId { version, name }, checksum: Checksum::recorded(checksum) });
        }
    }
    Ok(LedgerState { schema_exists: true, ledger_exists, rows, has_steps, comment })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(version: i64, name: &str) -> Applied {
        let version = Version::new(version).unwrap();
        Applied { id: MigrationId { version, name: name.into() }, checksum: Checksum::of(name) }
    }

    #[test]
    fn the_comment_carries_the_digest_of_the_rows() {
        let rows = [row(2, "b"), row(1, "a")];
        let sql = comment_sql(&SchemaName::public(), &rows);
        let comment = sql.rsplit('\'').nth(1).unwrap();
        assert!(comment.starts_with("cgk:1 head=2 applied=2 sha256="), "{comment}");
        assert_eq!(LedgerDigest::in_comment(Some(comment)), Some(LedgerDigest::of(&[row(1, "a"), row(2, "b")])));
        assert_ne!(LedgerDigest::of(&rows), LedgerDigest::of(&rows[..1]));
        assert_ne!(LedgerDigest::of(&rows[..1]), LedgerDigest::of(&rows[1..]));
        let of_another_version = comment.replace("cgk:1", "cgk:2");
        for unknown in
            [None, Some(""), Some(of_another_version.as_str()), Some("somebody's note"), Some("cgk:1 sha256=short")]
        {
            assert_eq!(LedgerDigest::in_comment(unknown), None);
        }
    }

    #[test]
    fn the_digest_of_a_beginning_is_that_of_its_rows() {
        let bundled = crate::migrate::Migrations::bundled();
        let files = bundled.set(crate::migration::Set::Tenant).files();
        let rows: Vec<_> = files.iter().map(Applied::of).collect();
        let each: Vec<_> = (0..=rows.len()).map(|length| LedgerDigest::of(&rows[..length])).collect();
        assert!(each.len() > 2);
        assert_eq!(LedgerDigest::of_beginnings(files), each);
    }
}
