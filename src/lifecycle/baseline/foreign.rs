//! Reads the tables in which other tools record their applied migrations.

use crate::{
    db::Operator,
    error::{Error, LedgerProblem, MigrationError, Result, while_doing},
    ident::{Ident, SchemaName},
    migrate::{Source, Version},
};
use std::collections::BTreeSet;
use tokio_postgres::types::Type;

/// Returns the newest version that the table of another tool records as applied. Refuses the table if it contains a
/// version without a file, or lacks the version of an older file.
pub(super) async fn newest(
    operator: &Operator,
    schema: &SchemaName,
    table: &str,
    source: &Source,
) -> Result<Option<Version>> {
    let refuse = |why: LedgerProblem| Error::Migration(MigrationError::LedgerRefused { schema: schema.clone(), why });
    let doing = || while_doing(format!("read the table {table:?} of schema {:?}", schema.as_str()));
    Ident::new(table).map_err(|error| refuse(LedgerProblem::InvalidTableName { problem: error.to_string() }))?;
    let name = || table.to_owned();
    let columns = columns(operator, schema, table).await?;
    if columns.is_empty() {
        return Err(refuse(LedgerProblem::NoTable { table: name() }));
    }
    let has = |name: &str| columns.iter().any(|column| column == name);
    let version = ["version", "version_id"].into_iter().find(|column| has(column));
    let version =
        version.ok_or_else(|| refuse(LedgerProblem::NoVersionColumn { table: name(), columns: columns.clone() }))?;
    // In the tables of refinery, Diesel and Rails, each row is an applied version. sqlx and Flyway record success,
    // goose and golang-migrate a state.
    let sound = if has("success") {
        "success"
    } else if has("dirty") {
        "not dirty"
    } else {
        "true"
    };
    let applied = if has("is_applied") { "is_applied" } else { "true" };
    let order = ["installed_rank", "id"].into_iter().find(|column| has(column)).unwrap_or(version);
    let sql = format!(
        "select {version}::pg_catalog.text, coalesce({sound}, false), coalesce({applied}, false) from {} where {version} is not null order by {order}",
        schema.qualified(table)
    );
    let (mut versions, mut failed) = (BTreeSet::new(), Vec::new());
    for row in operator.client().query_typed(&sql, &[]).await.map_err(doing())? {
        let text: String = row.try_get(0).map_err(doing())?;
        let (sound, applied): (bool, bool) = (row.try_get(1).map_err(doing())?, row.try_get(2).map_err(doing())?);
        // goose starts with a row for version 0.
        if text.bytes().all(|byte| byte == b'0') {
            continue;
        }
        let Ok(version) = text.parse::<Version>() else {
            return Err(refuse(LedgerProblem::InvalidVersion { table: name(), version: text }));
        };
        if !sound {
            failed.push(version.to_string());
        }
        if applied {
            versions.insert(version);
        } else {
            versions.remove(&version);
        }
    }
    if !failed.is_empty() {
        return Err(refuse(LedgerProblem::FailedVersions { table: name(), versions: failed }));
    }
    let Some(newest) = versions.last().copied() else { return Ok(None) };
    let files: BTreeSet<Version> = source.files().iter().map(|file| file.id().version).collect();
    // golang-migrate stores only the newest version.
    let expected: BTreeSet<Version> = if has("dirty") {
        files.contains(&newest).then_some(newest).into_iter().collect()
    } else {
        files.iter().copied().filter(|version| *version <= newest).collect()
    };
    let odd: Vec<String> = versions.symmetric_difference(&expected).map(ToString::to_string).collect();
    if odd.is_empty() {
        return Ok(Some(newest));
    }
    Err(refuse(LedgerProblem::DifferentVersions { table: name(), versions: odd }))
}

async fn columns(operator: &Operator, schema: &SchemaName, table: &str) -> Result<Vec<String>> {
    let doing = || while_doing(format!("look at the table {table:?} of schema {:?}", schema.as_str()));
    let rows = operator
        .client()
        .query_typed(
            "select a.attname::pg_catalog.text from pg_catalog.pg_attribute a
             join pg_catalog.pg_class c on c.oid = a.attrelid and c.relkind in ('r', 'p')
             join pg_catalog.pg_namespace n on n.oid = c.relnamespace
             where n.nspname = $1 and c.relname = $2 and a.attnum > 0 and not a.attisdropped order by a.attnum",
            &[(&schema.as_str(), Type::TEXT), (&table, Type::TEXT)],
        )
        .await
        .map_err(doing())?;
    rows.iter().map(|row| row.try_get(0).map_err(doing())).collect()
}
