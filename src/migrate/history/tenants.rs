//! Reads tenants in the recorded runs: the slowest, and those that failed last.

use crate::{
    db::Operator,
    error::{Result, while_doing},
    registry,
};
use std::time::{Duration, SystemTime};
use tokio_postgres::{
    Row,
    error::SqlState,
    types::{ToSql, Type},
};

/// A tenant, and the duration of its migrations in the recorded runs.
pub(crate) struct TenantTimes {
    pub(crate) tenant: String,
    pub(crate) runs: u64,
    pub(crate) longest: Duration,
    pub(crate) average: Duration,
}

/// A tenant whose newest recorded result is a failure.
pub(crate) struct TenantFailure {
    pub(crate) tenant: String,
    pub(crate) sqlstate: Option<String>,
    pub(crate) message: Option<String>,
    pub(crate) failed_at: SystemTime,
    /// The total number of these tenants.
    pub(crate) of: usize,
}

/// Returns the registered tenants with the longest migrations, the slowest first. One query. Empty if nothing was ever
/// recorded. A run that found a tenant migrated by another run only waited, so it does not count.
pub(crate) async fn slowest(operator: &Operator, limit: i64) -> Result<Vec<TenantTimes>> {
    let sql = format!(
        "select s.tenant, pg_catalog.count(*), pg_catalog.max(s.duration_ms), pg_catalog.avg(s.duration_ms)::pg_catalog.int8
         from public.cgk_run_schemas s
         where s.tenant is not null and s.result in ('migrated', 'failed')
               and (s.result = 'migrated' and s.from_version = s.to_version) is not true and {}
         group by s.tenant order by 3 desc, s.tenant collate \"C\" limit $1",
        registry::sql::is_registered_sql("s.tenant")
    );
    read(operator, &sql, limit, |row| {
        let number = |index: usize| row.try_get::<_, i64>(index).map(|number| number.unsigned_abs());
        Ok(TenantTimes {
            tenant: row.try_get(0)?,
            runs: number(1)?,
            longest: Duration::from_millis(number(2)?),
            average: Duration::from_millis(number(3)?),
        })
    })
    .await
}

/// Returns the registered tenants whose newest recorded result is a failure, the newest first. One query.
pub(crate) async fn failing(operator: &Operator, limit: i64) -> Result<Vec<TenantFailure>> {
    let sql = format!(
        "select s.tenant, s.sqlstate, s.message, s.done_at, pg_catalog.count(*) over ()
         from (select distinct on (tenant) tenant, result, sqlstate, message, done_at from public.cgk_run_schemas
               where tenant is not null and result in ('migrated', 'failed') order by tenant, done_at desc) s
         where s.result = 'failed' and {} order by s.done_at desc, s.tenant collate \"C\" limit $1",
        registry::sql::is_registered_sql("s.tenant")
    );
    read(operator, &sql, limit, |row| {
        Ok(TenantFailure {
            tenant: row.try_get(0)?,
            sqlstate: row.try_get(1)?,
            message: row.try_get(2)?,
            failed_at: row.try_get(3)?,
            of: usize::try_from(row.try_get::<_, i64>(4)?).unwrap_or_default(),
        })
    })
    .await
}

async fn read<T>(
    operator: &Operator,
    sql: &str,
    limit: i64,
    of: impl Fn(&Row) -> Result<T, tokio_postgres::Error>,
) -> Result<Vec<T>> {
    let doing = || while_doing("read the history");
    let params: [(&(dyn ToSql + Sync), Type); 1] = [(&limit, Type::INT8)];
    match operator.client().query_typed(sql, &params).await {
        Err(error) if error.code() == Some(&SqlState::UNDEFINED_TABLE) => Ok(Vec::new()),
        rows => rows.map_err(doing())?.iter().map(of).collect::<Result<_, _>>().map_err(doing()),
    }
}
