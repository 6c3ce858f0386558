//! All or nothing: migrates the shared schema and every tenant in one transaction.
//!
//! This is for small fleets whose schemas must never differ. The transaction holds the locks of all schemas at once.
//! The number of locks of the first tenant is the estimate for the others. If they would not fit into the server's lock
//! table, everything is rolled back before the second tenant starts.

use super::{
    apply,
    grouping::Grouping,
    guard,
    poll::PollBackoff,
    report::{Outcome, SchemaOutcome},
    report_sink::ReportSink,
    unit::{ApplyOutcome, LedgerPresence, LockWait, Purpose, SchemaAccess, Unit},
};
use crate::{
    db::{Operator, message, run_files::Commits},
    error::{Error, MigrationError, Result, while_doing},
    fleet::{
        backoff::Backoff,
        cancel::cancellable,
        interrupt::Interrupt,
        stop::{Stop, StopReason},
    },
    ident::{Ident, RoleName},
    migrate::{
        fileset::record::FileRecord,
        plan::{
            SchemaPlan,
            fleet::{FleetPlan, Step},
        },
    },
    migration::{FileProblem, Set},
    registry::role_of,
    slug::TenantSlug,
};
use std::time::{Duration, Instant};
use std::{collections::BTreeSet, path::Path};

/// The fraction of the lock table that one run may use. The rest is for other sessions.
const LOCK_TABLE_SHARE: (u64, u64) = (3, 4);

struct PlannedSchema<'a> {
    slug: Option<TenantSlug>,
    plan: SchemaPlan<'a>,
    ledger: LedgerPresence,
    role: Option<RoleName>,
    owner: Option<Ident>,
}

impl PlannedSchema<'_> {
    fn set(&self) -> Set {
        self.slug.as_ref().map_or(Set::Public, |_| Set::Tenant)
    }
}

/// Executes the plan in one transaction. The report lists the changes only if the transaction was committed.
pub(crate) async fn run(
    operator: &Operator,
    planned: FleetPlan<'_>,
    files: &FileRecord,
    interrupt: &Interrupt,
    sink: &mut ReportSink<'_>,
) -> Result<()> {
    refuse_steps(&planned)?;
    let parts = parts(operator, planned, sink);
    if sink.report.failed() > 0 {
        sink.report.stopped = Some(Stop { reason: StopReason::RolledBack, left: tenants(&parts) });
        return Ok(());
    }
    let mut backoff = Backoff::new();
    let mut patience = None;
    let mut attempts = 0;
    let began = Instant::now();
    loop {
        attempts += 1;
        let failed = match cancellable(operator, interrupt, attempt(operator, &parts, files, interrupt)).await {
            Ok(Some(times)) => {
                committed(parts, times, attempts, sink);
                return Ok(());
            }
            Ok(None) => None,
            Err(failed) => Some(failed),
        };
        if interrupt.is_stopping() {
            sink.report.stopped = Some(Stop { reason: StopReason::Interrupted, left: tenants(&parts) });
            return Ok(());
        }
        let Some(Failed { part, error }) = failed else { continue };
        // The transaction is already rolled back, so it blocks no other session during the wait.
        let is_busy = matches!(error, Error::Migration(MigrationError::Locked { .. }));
        if is_busy && patience.get_or_insert_with(|| PollBackoff::of(operator)).wait().await {
            attempts -= 1;
            continue;
        }
        if let Some(pause) = backoff.after(&error) {
            tracing::info!(%error, "trying again");
            tokio::time::sleep(pause).await;
            continue;
        }
        let Some(part) = part.map(|part| &parts[part]).filter(|part| part.slug.is_some()) else { return Err(error) };
        let (schema, slug) = (part.plan.schema.clone(), part.slug.clone());
        let result = Outcome::Failed { error };
        sink.settled(SchemaOutcome { schema, slug, result, elapsed: began.elapsed(), attempts }, Some(&part.plan));
        sink.report.stopped = Some(Stop { reason: StopReason::RolledBack, left: tenants(&parts) - 1 });
        return Ok(());
    }
}

/// Refuses a file without a transaction, because it cannot be part of one.
fn refuse_steps(planned: &FleetPlan<'_>) -> Result<()> {
    let tenants = planned.tenants.iter().filter_map(|tenant| match &tenant.step {
        Step::Apply(plan) => Some(plan),
        _ => None,
    });
    let files = planned.public.iter().chain(tenants).flat_map(|plan| plan.pending.iter());
    let files: BTreeSet<&Path> = files.filter(|file| !file.is_transactional()).map(|file| file.path()).collect();
    if files.is_empty() {
        return Ok(());
    }
    let problem = "runs without a transaction and cannot be part of one transaction for the whole fleet";
    let problems =
        files.into_iter().map(|file| FileProblem { file: file.to_owned(), line: Some(1), problem: problem.into() });
    Err(Error::Migration(MigrationError::Invalid { problems: problems.collect() }))
}

/// The error, and the part that failed if there is one.
struct Failed {
    part: Option<usize>,
    error: Error,
}

impl From<Error> for Failed {
    fn from(error: Error) -> Self {
        Self { part: None, error }
    }
}

/// Returns the work. Tenants that cannot be migrated are reported immediately.
fn parts<'a>(operator: &Operator, planned: FleetPlan<'a>, sink: &mut ReportSink<'_>) -> Vec<PlannedSchema<'a>> {
    let public = planned.public.map(|plan| PlannedSchema {
        slug: None,
        plan,
        ledger: planned.public_ledger,
        role: None,
        owner: None,
    });
    let mut parts: Vec<_> = public.into_iter().collect();
    for tenant in planned.tenants {
        let Some((slug, plan, owner)) = sink.sort(tenant) else { continue };
        let (ledger, role) = (LedgerPresence::Present, role_of(operator, &slug));
        parts.push(PlannedSchema { slug: Some(slug), plan, ledger, role, owner });
    }
    parts
}

fn tenants(parts: &[PlannedSchema<'_>]) -> usize {
    parts.iter().filter(|part| part.slug.is_some()).count()
}

/// Makes one attempt at everything. Returns the duration of each part, or `None` if it was asked to stop. A failed
/// attempt changes nothing.
async fn attempt(
    operator: &Operator,
    parts: &[PlannedSchema<'_>],
    files: &FileRecord,
    interrupt: &Interrupt,
) -> Result<Option<Vec<Duration>>, Failed> {
    operator.reset_session().await.map_err(while_doing("reset the session"))?;
    operator.mark_session();
    if parts.iter().any(|part| guard::is_needed(operator, &part.plan)) {
        command(operator, guard::READ_ONLY_BUT_OURS).await?;
        command(operator, "begin isolation level read committed, read write").await?;
    } else {
        command(operator, "begin isolation level read committed").await?;
    }
    let done = inside(operator, parts, files, interrupt).await;
    if !matches!(done, Ok(Some(_))) {
        // If the connection is lost, the server has rolled back.
        let _ = command(operator, "rollback").await;
        let _ = operator.reset_session().await;
        return done;
    }
    let committed = message::run(operator.client(), "commit").await.map(message::Answer::complete);
    // The history of the run is written on this connection. If the reset fails, the next user tries it again.
    let _ = operator.reset_session().await;
    match committed {
        Ok(Ok(_)) => done,
        Ok(Err(source)) | Err(source) => {
            let doing = "commit the migration of the whole fleet".to_owned();
            Err(while_doing(doing)(source).into())
        }
    }
}

async fn inside(
    operator: &Operator,
    parts: &[PlannedSchema<'_>],
    files: &FileRecord,
    interrupt: &Interrupt,
) -> Result<Option<Vec<Duration>>, Failed> {
    let mut times = Vec::with_capacity(parts.len());
    let mut measured = false;
    for (index, part) in parts.iter().enumerate() {
        if interrupt.is_stopping() {
            return Ok(None);
        }
        let began = Instant::now();
        let before = if measured || part.slug.is_none() { 0 } else { locks_held(operator).await? };
        let unit = Unit {
            plan: &part.plan,
            role: part.role.as_ref(),
            provision: String::new(),
            ledger: part.ledger,
            owner: part.owner.clone(),
            commits: Commits::Later,
            files: Some((files, part.set())),
            grouping: Grouping::Batch,
            sessions: SchemaAccess::Any,
            purpose: Purpose::Use,
        };
        match apply::attempt(operator, &unit, LockWait::Block, &mut Vec::new()).await {
            Ok(ApplyOutcome::Applied) => {}
            // A migration without a transaction is running in the schema.
            Ok(ApplyOutcome::Locked) => {
                let (schema, waited) = (part.plan.schema.clone(), operator.session().migration_wait);
                return Err(Failed {
                    part: Some(index),
                    error: Error::Migration(MigrationError::Locked { schema, waited }),
                });
            }
            Ok(ApplyOutcome::Stale) => {
                let error = Error::Migration(MigrationError::PlanStale { schema: part.plan.schema.clone() });
                return Err(Failed { part: Some(index), error });
            }
            Err(error) => return Err(Failed { part: Some(index), error }),
        }
        if part.slug.is_some() && !measured {
            measured = true;
            let each = locks_held(operator).await?.saturating_sub(before);
            let left = u64::try_from(parts.len() - index - 1).unwrap_or(u64::MAX);
            check_lock_table(operator, before + each, each.saturating_mul(left)).await?;
        }
        times.push(began.elapsed());
    }
    Ok(Some(times))
}

async fn command(operator: &Operator, sql: &str) -> Result<()> {
    let doing = || while_doing("migrate the whole fleet in one transaction");
    message::run(operator.client(), sql).await.map_err(doing())?.complete().map(drop).map_err(doing())
}

/// Returns how many entries of the lock table this session's transaction uses.
async fn locks_held(operator: &Operator) -> Result<u64> {
    number(operator, "select count(*) from pg_catalog.pg_locks where pid = pg_catalog.pg_backend_pid()").await
}

async fn check_lock_table(operator: &Operator, held: u64, still: u64) -> Result<()> {
    let size = number(
        operator,
        "select pg_catalog.current_setting('max_locks_per_transaction')::pg_catalog.int8
                * (pg_catalog.current_setting('max_connections')::pg_catalog.int8 + pg_catalog.current_setting('max_prepared_transactions')::pg_catalog.int8)",
    )
    .await?;
    let (needed, (share, of)) = (held.saturating_add(still), LOCK_TABLE_SHARE);
    if needed > size / of * share {
        return Err(Error::Migration(MigrationError::TooManyLocks { needed, size }));
    }
    Ok(())
}

async fn number(operator: &Operator, sql: &str) -> Result<u64> {
    let doing = || while_doing("count the locks");
    let rows = operator.client().query_typed(sql, &[]).await.map_err(doing())?;
    let number: i64 = rows.first().map(|row| row.try_get(0)).transpose().map_err(doing())?.unwrap_or_default();
    Ok(number.unsigned_abs())
}

fn committed(parts: Vec<PlannedSchema<'_>>, times: Vec<Duration>, attempts: u32, sink: &mut ReportSink<'_>) {
    for (part, elapsed) in parts.into_iter().zip(times) {
        let applied = part.plan.pending.iter().map(|file| file.id().clone()).collect();
        let (schema, result) = (part.plan.schema.clone(), Outcome::Migrated { applied });
        sink.settled(SchemaOutcome { schema, slug: part.slug, result, elapsed, attempts }, Some(&part.plan));
    }
}
