//! The history of runs, in two tables in the shared schema: who ran what, when, and the result for every tenant.
//!
//! It is a record for operators and for `--retry-failed`. Only the ledger is authoritative for a schema. So a run that
//! cannot write its history reports this and continues. Rows are written in batches beside the work. The last second of
//! a killed run may be missing. A run without anything to apply is not recorded. The newest 200 runs are stored;
//! successful tenants are stored only for the newest 20 runs.

use crate::{
    db::Operator,
    error::{Result, while_doing},
    fleet::stop::StopReason,
    registry,
    slug::TenantSlug,
};
use std::time::{Duration, SystemTime};
use tokio_postgres::{
    Row,
    error::SqlState,
    types::{ToSql, Type},
};
use uuid::Uuid;

/// A run of the history.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct RunRecord {
    /// Its id.
    pub id: Uuid,
    /// When it started.
    pub started_at: SystemTime,
    /// When it ended; `None` if it did not.
    pub finished_at: Option<SystemTime>,
    /// Whether it ended, is running or was killed.
    pub state: RunState,
    /// The role that ran it.
    pub started_by: String,
    /// The client's address; `None` for a Unix socket.
    pub client: Option<String>,
    /// The version of cgk.
    pub cgk_version: String,
    /// The selected schemas, as text.
    pub selection: String,
    /// `head`, or a version.
    pub target: String,
    /// The number of tenants that it planned to visit.
    pub planned: u64,
    /// The number of tenants that were already at head.
    pub at_head: u64,
    /// The number of tenants that it migrated.
    pub migrated: u64,
    /// The number of tenants that another run had migrated before it visited them. It is 0 until the run has finished.
    pub by_another_run: u64,
    /// The number of tenants that failed.
    pub failed: u64,
    /// The number of tenants that were skipped.
    pub skipped: u64,
    /// The number of tenants that it did not reach.
    pub left: u64,
    /// Why it stopped early.
    pub stopped: Option<StopReason>,
    /// The error that stopped the whole run.
    pub error: Option<String>,
}

/// Whether a run of the history has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RunState {
    /// It ended and recorded its result.
    Finished,
    /// Its connection is still open.
    Running,
    /// Its connection is closed, and it recorded no result: it was killed.
    Died,
}

/// The result of one schema in a run.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct SchemaRecord {
    /// The schema.
    pub schema: String,
    /// The tenant; `None` for the shared schema.
    pub tenant: Option<String>,
    /// `migrated`, `by_another_run`, `skipped` or `failed`.
    pub result: String,
    /// The newest migration before.
    pub from_version: Option<i64>,
    /// The newest migration after, or the planned one.
    pub to_version: Option<i64>,
    /// The number of attempts.
    pub attempts: u64,
    /// The server's SQLSTATE.
    pub sqlstate: Option<String>,
    /// The error, or why it was skipped.
    pub message: Option<String>,
    /// The time it took.
    pub duration: Duration,
    /// When it was finished.
    pub done_at: SystemTime,
}

/// A run and its schemas. Unsuccessful ones are first.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct RunDetail {
    /// The run.
    pub run: RunRecord,
    /// Its schemas.
    pub schemas: Vec<SchemaRecord>,
}

/// Returns the newest runs, newest first. Only reads. The result is empty if nothing was ever recorded.
///
/// # Errors
///
/// Kinds `Unavailable` and `Failed`: an error of the server. This includes a role that may not read the history
/// (42501).
///
/// # Cancel safety
///
/// Writes nothing.
pub async fn history(operator: &Operator, limit: u32) -> Result<Vec<RunRecord>> {
    let limit = i64::from(limit);
    runs(operator, "order by r.started_at desc limit $1", &[(&limit, Type::INT8)]).await
}

/// Returns a run by its id or the start of its id, with its schemas; `None` if no run or more than one matches.
///
/// # Errors
///
/// Those of [`history`].
///
/// # Cancel safety
///
/// Writes nothing.
pub async fn run_detail(operator: &Operator, id: &str) -> Result<Option<RunDetail>> {
    let filter = "where pg_catalog.starts_with(r.id::pg_catalog.text, pg_catalog.lower($1)) limit 2";
    let mut found = runs(operator, filter, &[(&id, Type::TEXT)]).await?;
    let (Some(run), true) = (found.pop(), found.is_empty()) else { return Ok(None) };
    let doing = || while_doing("read the history");
    let sql =
        "select schema, tenant, case when result = 'migrated' and from_version = to_version then 'by_another_run' else result end,
                      from_version, to_version, attempts, sqlstate, message, duration_ms, done_at
               from public.cgk_run_schemas where run_id = $1
               order by result = 'migrated', tenant is not null, schema collate \"C\"";
    let rows = operator.client().query_typed(sql, &[(&run.id, Type::UUID)]).await.map_err(doing())?;
    let schemas = rows.iter().map(schema_record).collect::<Result<_, _>>().map_err(doing())?;
    Ok(Some(RunDetail { run, schemas }))
}

/// Returns the registered tenants whose newest recorded result is a failure, in any run.
///
/// A later run from another machine, or for a part of the fleet, does not hide the failures of earlier runs.
///
/// # Errors
///
/// Those of [`history`].
///
/// # Cancel safety
///
/// Writes nothing.
pub async fn failed_last(operator: &Operator) -> Result<Vec<TenantSlug>> {
    let doing = || while_doing("read the history");
    let sql = format!(
        "select s.tenant
               from (select distinct on (tenant) tenant, result from public.cgk_run_schemas
                     where tenant is not null and result in ('migrated', 'failed')
                     order by tenant, done_at desc) s
               where s.result = 'failed' and {} order by s.tenant collate \"C\"",
        registry::sql::is_registered_sql("s.tenant")
    );
    let rows = match operator.client().query_typed(&sql, &[]).await {
        Err(error) if error.code() == Some(&SqlState::UNDEFINED_TABLE) => return Ok(Vec::new()),
        rows => rows.map_err(doing())?,
    };
    rows.iter().map(|row| Ok(row.try_get::<_, String>(0).map_err(doing())?.parse()?)).collect()
}

async fn runs(operator: &Operator, filter: &str, params: &[(&(dyn ToSql + Sync), Type)]) -> Result<Vec<RunRecord>> {
    let doing = || while_doing("read the history");
    let sql = format!(
        "select r.id, r.started_at, r.finished_at, r.started_by, r.client, r.cgk_version, r.selection, r.target, r.planned,
                r.at_head, r.migrated, r.failed, r.skipped, r.tenants_left, r.stopped, r.error,
                exists (select from pg_catalog.pg_stat_activity a where a.pid = r.backend_pid and a.backend_start = r.backend_start)
         from public.cgk_runs r {filter}"
    );
    match operator.client().query_typed(&sql, params).await {
        Err(error) if error.code() == Some(&SqlState::UNDEFINED_TABLE) => Ok(Vec::new()),
        rows => rows.map_err(doing())?.iter().map(run_record).collect::<Result<_, _>>().map_err(doing()),
    }
}

fn run_record(row: &Row) -> Result<RunRecord, tokio_postgres::Error> {
    let number = |index: usize| row.try_get::<_, i64>(index).map(|number| number.unsigned_abs());
    let finished_at: Option<SystemTime> = row.try_get(2)?;
    let connected: bool = row.try_get(16)?;
    let stopped: Option<String> = row.try_get(14)?;
    let stopped = stopped.and_then(|text| StopReason::of(&text));
    let error: Option<String> = row.try_get(15)?;
    let (planned, migrated, failed, skipped, left) = (number(8)?, number(10)?, number(11)?, number(12)?, number(13)?);
    // Every planned tenant is counted once, unless something ended the run as a whole.
    let is_counted = finished_at.is_some() && error.is_none() && stopped != Some(StopReason::RolledBack);
    let by_another_run = if is_counted { planned.saturating_sub(migrated + failed + skipped + left) } else { 0 };
    Ok(RunRecord {
        id: row.try_get(0)?,
        started_at: row.try_get(1)?,
        finished_at,
        state: match (finished_at, connected) {
            (Some(_), _) => RunState::Finished,
            (None, true) => RunState::Running,
            (None, false) => RunState::Died,
        },
        started_by: row.try_get(3)?,
        client: row.try_get(4)?,
        cgk_version: row.try_get(5)?,
        selection: row.try_get(6)?,
        target: row.try_get(7)?,
        planned,
        at_head: number(9)?,
        migrated,
        by_another_run,
        failed,
        skipped,
        left,
        stopped,
        error,
    })
}

fn schema_record(row: &Row) -> Result<SchemaRecord, tokio_postgres::Error> {
    let number = |index: usize| row.try_get::<_, i64>(index).map(|number| number.unsigned_abs());
    Ok(SchemaRecord {
        schema: row.try_get(0)?,
        tenant: row.try_get(1)?,
        result: row.try_get(2)?,
        from_version: row.try_get(3)?,
        to_version: row.try_get(4)?,
        attempts: number(5)?,
        sqlstate: row.try_get(6)?,
        message: row.try_get(7)?,
        duration: Duration::from_millis(number(8)?),
        done_at: row.try_get(9)?,
    })
}
