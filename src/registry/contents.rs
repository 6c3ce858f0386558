//! What schemas hold: how many tables and rows, and what they take on disk.

use crate::{
    db::Operator,
    error::{Result, while_doing},
    ident::SchemaName,
};
use std::collections::HashMap;
use tokio_postgres::types::Type;

/// What a tenant's schema holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct SchemaContents {
    /// How many tables it has; each partition is one, and so is the ledger.
    pub tables: u64,
    /// How many rows, as the server estimates them since it last analyzed the tables.
    pub rows_estimated: u64,
    /// What tables and their indexes take on disk.
    pub bytes: u64,
}

/// How the size of tables is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SizeMethod {
    /// The server looks at the files. A table that is locked against everybody is waited for.
    Files,
    #[cfg_attr(not(feature = "report"), expect(dead_code, reason = "only a report estimates"))]
    /// The pages that the server counted when it last vacuumed or analyzed the tables; no table is locked.
    Catalogue,
}

impl SizeMethod {
    /// The bytes of the relation `c`, its indexes and its TOAST table.
    fn sql(self) -> &'static str {
        match self {
            Self::Files => "pg_catalog.pg_total_relation_size(c.oid)",
            Self::Catalogue => {
                "(c.relpages
         + coalesce((select t.relpages from pg_catalog.pg_class t where t.oid = c.reltoastrelid), 0)
         + coalesce((select pg_catalog.sum(x.relpages) from pg_catalog.pg_index i join pg_catalog.pg_class x on x.oid = i.indexrelid
                     where i.indrelid in (c.oid, c.reltoastrelid)), 0))
        * pg_catalog.current_setting('block_size')::pg_catalog.int8"
            }
        }
    }
}

/// What these schemas hold, by name; one that is not there is left out. One query; the server looks at the files of each table.
/// A table that is locked against everybody is waited for.
pub(crate) async fn contents_of(
    operator: &Operator,
    schemas: &[SchemaName],
) -> Result<HashMap<String, SchemaContents>> {
    contents_by(operator, schemas, SizeMethod::Files).await
}

/// The same with the sizes of this method.
pub(crate) async fn contents_by(
    operator: &Operator,
    schemas: &[SchemaName],
    method: SizeMethod,
) -> Result<HashMap<String, SchemaContents>> {
    let doing = || while_doing("look what schemas hold");
    // The relations of a schema are found by their dependency on it: no index of pg_class leads there.
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
        method.sql()
    );
    let names: Vec<&str> = schemas.iter().map(SchemaName::as_str).collect();
    let rows = operator.client().query_typed(&sql, &[(&names, Type::TEXT_ARRAY)]).await.map_err(doing())?;
    let read = |row: &tokio_postgres::Row| -> Result<(String, SchemaContents), tokio_postgres::Error> {
        let number = |index: usize| row.try_get::<_, i64>(index).map(|number| u64::try_from(number).unwrap_or(0));
        let contents = SchemaContents { tables: number(1)?, rows_estimated: number(2)?, bytes: number(3)? };
        Ok((row.try_get(0)?, contents))
    };
    rows.iter().map(read).collect::<Result<_, _>>().map_err(doing())
}
