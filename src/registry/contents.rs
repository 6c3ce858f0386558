//! Reads the contents of schemas: the number of tables and rows, and the size on disk.

use crate::{
    db::{Operator, milliseconds},
    error::{Result, while_doing},
    ident::SchemaName,
};
use serde::Serialize;
use std::collections::HashMap;
use tokio_postgres::{
    error::SqlState,
    types::{ToSql, Type},
};

/// The contents of a tenant's schema.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct SchemaContents {
    /// The number of tables. Each partition counts as one, and so does the ledger.
    pub tables: u64,
    /// The number of rows, as the server estimated it at the last analyze of the tables.
    pub rows_estimated: u64,
    /// The size of tables and their indexes on disk.
    pub bytes: u64,
    /// The source of the size.
    pub size_source: SizeSource,
}

/// The source of sizes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum SizeSource {
    /// The server has read the size of the files.
    #[default]
    Measured,
    /// The size comes from the catalogue: the number of pages at the last vacuum or analyze of each table. It is used
    /// if a table was locked while it was measured, or if measuring took longer than `session.statement_timeout`.
    Estimated,
}

impl SizeSource {
    /// Returns the expression for the bytes of the relation `c`, its indexes and its TOAST table.
    fn sql(self) -> &'static str {
        match self {
            Self::Measured => "pg_catalog.pg_total_relation_size(c.oid)",
            Self::Estimated => {
                "(c.relpages
         + coalesce((select t.relpages from pg_catalog.pg_class t where t.oid = c.reltoastrelid), 0)
         + coalesce((select pg_catalog.sum(x.relpages) from pg_catalog.pg_index i join pg_catalog.pg_class x on x.oid = i.indexrelid
                     where i.indrelid in (c.oid, c.reltoastrelid)), 0))
        * pg_catalog.current_setting('block_size')::pg_catalog.int8"
            }
        }
    }
}

/// Returns the contents of these schemas by name, in one query. Schemas that do not exist are missing from the result.
/// The server reads the size of each table's files. If a table is locked for longer than `session.lock_timeout`, or
/// reading the sizes takes longer than `session.statement_timeout`, a second query estimates all sizes from the
/// catalogue.
pub(crate) async fn contents_of(
    operator: &Operator,
    schemas: &[SchemaName],
) -> Result<HashMap<String, SchemaContents>> {
    limit(operator, Limit::Session).await?;
    let measured = contents_from(operator, schemas, SizeSource::Measured).await;
    limit(operator, Limit::None).await?;
    match measured {
        Err(error) if took_too_long(error.sqlstate()) => contents_from(operator, schemas, SizeSource::Estimated).await,
        measured => measured,
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Limit {
    /// A statement of the session fails if it waits or runs longer than the configuration allows.
    Session,
    None,
}

async fn limit(operator: &Operator, limit: Limit) -> Result<()> {
    let session = operator.session();
    let (lock, statement) = match limit {
        Limit::Session => (milliseconds(session.lock_timeout), milliseconds(session.statement_timeout)),
        Limit::None => ("0".to_owned(), "0".to_owned()),
    };
    let sql = "select pg_catalog.set_config('lock_timeout', $1, false), pg_catalog.set_config('statement_timeout', $2, false)";
    let params: [(&(dyn ToSql + Sync), Type); 2] = [(&lock, Type::TEXT), (&statement, Type::TEXT)];
    operator
        .client()
        .query_typed(sql, &params)
        .await
        .map(drop)
        .map_err(while_doing("limit the time of the next statement"))
}

fn took_too_long(state: Option<&SqlState>) -> bool {
    state.is_some_and(|state| [SqlState::LOCK_NOT_AVAILABLE, SqlState::QUERY_CANCELED].contains(state))
}

async fn contents_from(
    operator: &Operator,
    schemas: &[SchemaName],
    size_source: SizeSource,
) -> Result<HashMap<String, SchemaContents>> {
    let doing = || while_doing("look what schemas hold");
    // The relations of a schema are found by their dependency on it, because pg_class has no index on the schema.
    let sql = format!(
        "
select n.nspname::pg_catalog.text,
       coalesce(pg_catalog.sum(case when c.relkind in ('r', 'p', 'f') then 1 else 0 end), 0)::pg_catalog.int8,
       coalesce(pg_catalog.sum(case when c.relkind in ('r', 'f', 'm') then greatest(c.reltuples, 0) else 0 end), 0)::pg_catalog.int8,
       coalesce(pg_catalog.sum(case when c.relkind in ('r', 'm') then {} else 0 end), 0)::pg_catalog.int8
from pg_catalog.pg_namespace n
left join pg_catalog.pg_depend d on d.refclassid = 'pg_catalog.pg_namespace'::pg_catalog.regclass and d.refobjid = n.oid
                                and d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass and d.objsubid = 0
left join pg_catalog.pg_class c on c.oid = d.objid
where n.nspname::pg_catalog.text = any ($1) group by 1",
        size_source.sql()
    );
    let names: Vec<&str> = schemas.iter().map(SchemaName::as_str).collect();
    let rows = operator.client().query_typed(&sql, &[(&names, Type::TEXT_ARRAY)]).await.map_err(doing())?;
    let read = |row: &tokio_postgres::Row| -> Result<(String, SchemaContents), tokio_postgres::Error> {
        let number = |index: usize| row.try_get::<_, i64>(index).map(|number| u64::try_from(number).unwrap_or(0));
        let contents =
            SchemaContents { tables: number(1)?, rows_estimated: number(2)?, bytes: number(3)?, size_source };
        Ok((row.try_get(0)?, contents))
    };
    rows.iter().map(read).collect::<Result<_, _>>().map_err(doing())
}
