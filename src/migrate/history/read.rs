//! The history of runs, in two tables of cgk's own in the shared schema: who ran what, when, and how every tenant fared.
//!
//! It is a record for people and for `--retry-failed`, never the truth about a schema: that is its ledger alone. So a run
//! that cannot write its history says so and goes on; rows are written in batches beside the work, and a run that was killed
//! may lack the last second of them. A run with nothing to apply is not recorded. The newest 200 runs are kept, and of the
//! newest 20 the tenants that went well too.

use crate::{
    db::Operator,
    error::{Result, while_doing},
    fleet::stop::StopReason,
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
    /// Its identity.
    pub id: Uuid,
    /// When it began.
    pub started_at: SystemTime,
    /// When it ended, if it did.
    pub finished_at: Option<SystemTime>,
    /// Whether it ended, goes on or died.
    pub state: RunState,
    /// The role that ran it.
    pub started_by: String,
    /// The address it ran from; `None` for a Unix socket.
    pub client: Option<String>,
    /// The version of cgk.
    pub cgk_version: String,
    /// Which schemas it was about, in words.
    pub selection: String,
    /// `head`, or a version.
    pub target: String,
    /// Tenants that it was to visit.
    pub planned: u64,
    /// Tenants that were at head before.
    pub at_head: u64,
    /// Tenants that it migrated.
    pub migrated: u64,
    /// Tenants that failed.
    pub failed: u64,
    /// Tenants that were left alone.
    pub skipped: u64,
    /// Tenants that it did not come to.
    pub left: u64,
    /// Why it ended before it was done.
    pub stopped: Option<StopReason>,
    /// What stopped it as a whole.
    pub error: Option<String>,
}

/// Whether a run of the history has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RunState {
    /// It ended and said how.
    Finished,
    /// Its connection is still there.
    Running,
    /// Its connection is gone, and it never said how it ended: it was killed.
    Died,
}

/// How one schema fared in a run.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct SchemaRecord {
    /// The schema.
    pub schema: String,
    /// The tenant; `None` for the shared schema.
    pub tenant: Option<String>,
    /// `migrated`, `skipped` or `failed`.
    pub result: String,
    /// The newest migration before.
    pub from_version: Option<i64>,
    /// The newest migration after, or that it was to reach.
    pub to_version: Option<i64>,
    /// How often it was tried.
    pub attempts: u64,
    /// The server's SQLSTATE.
    pub sqlstate: Option<String>,
    /// What went wrong, or why it was skipped.
    pub message: Option<String>,
    /// How long it took.
    pub duration: Duration,
    /// When it was done.
    pub done_at: SystemTime,
}

/// A run and its schemas, those first that did not go well.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct RunDetail {
    /// The run.
    pub run: RunRecord,
    /// Its schemas.
    pub schemas: Vec<SchemaRecord>,
}

/// The newest runs, newest first. Reads only; empty where nothing was ever recorded.
///
/// # Errors
///
/// Kinds `Unavailable` and `Failed`: the server; the role may not read the history (42501).
pub async fn history(operator: &Operator, limit: u32) -> Result<Vec<RunRecord>> {
    let limit = i64::from(limit);
    runs(operator, "order by r.started_at desc limit $1", &[(&limit, Type::INT8)]).await
}

/// A run by its identity or the beginning of it, with its schemas; `None` where no run or more than one fits.
///
/// # Errors
///
/// As [`history`].
pub async fn run_detail(operator: &Operator, id: &str) -> Result<Option<RunDetail>> {
    let filter = "where pg_catalog.starts_with(r.id::pg_catalog.text, pg_catalog.lower($1)) limit 2";
    let mut found = runs(operator, filter, &[(&id, Type::TEXT)]).await?;
    let (Some(run), true) = (found.pop(), found.is_empty()) else { return Ok(None) };
    let doing = || while_doing("read the history");
    let sql =
        "select schema, tenant, result, from_version, to_version, attempts, sqlstate, message, duration_ms, done_at
               from public.cgk_run_schemas where run_id = $1
               order by result = 'migrated', tenant is not null, schema collate \"C\"";
    let rows = operator.client().query_typed(sql, &[(&run.id, Type::UUID)]).await.map_err(doing())?;
    let schemas = rows.iter().map(schema_record).collect::<Result<_, _>>().map_err(doing())?;
    Ok(Some(RunDetail { run, schemas }))
}

/// The tenants whose newest outcome on record is a failure, whichever run it was in, and that are still registered.
///
/// A run of another machine, or of a part of the fleet, does not hide the failures of the runs before it.
///
/// # Errors
///
/// As [`history`].
pub async fn failed_last(operator: &Operator) -> Result<Vec<TenantSlug>> {
    let doing = || while_doing("read the history");
    let sql = "select s.tenant
               from (select distinct on (tenant) tenant, result from public.cgk_run_schemas
                     where tenant is not null and result in ('migrated', 'failed')
                     order by tenant, done_at desc) s
               join public.organizations o on o.slug = s.tenant
               where s.result = 'failed' order by s.tenant collate \"C\"";
    let rows = match operator.client().query_typed(sql, &[]).await {
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
        planned: number(8)?,
        at_head: number(9)?,
        migrated: number(10)?,
        failed: number(11)?,
        skipped: number(12)?,
        left: number(13)?,
        stopped: stopped.and_then(|text| StopReason::of(&text)),
        error: row.try_get(15)?,
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
