//! Executes a plan for the fleet: the shared schema first, then the tenants, several at once.

use super::{
    attempt::{self, MigrationAttempt, PlannedProgress},
    bind::{self, Unbound},
    blocking,
    observer::Observer,
    options::{Canary, RunOptions},
    report::{Outcome, RunReport, RunStart, SchemaOutcome},
    report_sink::ReportSink,
    tenants::{OPERATION, TenantJob, TenantMigration},
    unit::LockWait,
};
use crate::{
    db::Operator,
    error::{ConnectionError, Error, MigrationError, Result, TenantError},
    fleet::{
        backoff::Backoff,
        cancel::{cancellable, was_cancelled},
        selection::Scope,
        span,
        stop::{Stop, StopReason},
        worker::WorkerPool,
    },
    ident::SchemaName,
    identity,
    migrate::{
        fileset::record::FileRecord,
        history::writer::HistoryWriter,
        migrations::Migrations,
        plan::{fleet::FleetPlan, started::StartedMigration},
        rehearsal,
    },
    migration::Set,
    registry::{self, RegistryGuard},
    telemetry,
};
use std::{future::Future, time::Instant};

/// Calls [`run_with`] with the default options.
///
/// # Errors
///
/// Those of [`run_with`].
///
/// # Cancel safety
///
/// That of [`run_with`].
pub async fn run(
    operator: &Operator,
    migrations: &Migrations,
    planned: FleetPlan<'_>,
    observer: &mut dyn Observer,
) -> Result<RunReport> {
    run_with(operator, migrations, planned, &RunOptions::default(), observer).await
}

/// Executes a plan: the shared schema first, then the tenants, several at once. Between the two, the tenants' set is
/// rehearsed ([`rehearse`](crate::migrate::rehearse())): if a new tenant could not be created, no tenant is changed. A
/// failed tenant is a line of the report and does not stop the others, unless the options say so. Several concurrent
/// runs share the work: a run does not wait for a schema of another run while it can migrate others, and nothing is
/// applied twice.
///
/// Before that, schemas that an earlier version created are bound to their organizations by the comment on the schema,
/// 50 in a transaction. After the shared schema, missing triggers of the registry are created.
///
/// # Locks
///
/// Per schema, until the end of its message: its migration lock, and the locks of its migrations.
///
/// # Committed when
///
/// Each schema separately. The next run continues an interrupted one.
///
/// # Errors
///
/// - Any error of the shared schema. Then no tenant was changed.
/// - Kind `Conflict`: tenants are selected, and PUBLIC or a tenant's role may create objects in `public`
///   ([`SetupError::SearchPathUnfit`](crate::SetupError::SearchPathUnfit)).
/// - Kind `NotFound`: a named canary is not in the registry.
/// - Kind `Invalid`: a named canary is not one of the selected tenants.
///
/// If the server is lost during the run, this is not an error but [`StopReason::Unavailable`], and the report contains
/// the results so far.
///
/// # Cancel safety
///
/// If the future is dropped, the server may still commit the running schemas; the others are unchanged. The next run
/// continues. To stop a run and get its result, use an [`Interrupt`](crate::migrate::Interrupt).
pub async fn run_with(
    operator: &Operator,
    migrations: &Migrations,
    planned: FleetPlan<'_>,
    options: &RunOptions,
    observer: &mut dyn Observer,
) -> Result<RunReport> {
    let span = span::of_run(OPERATION);
    let outcome = |result: &Result<RunReport>| match result {
        Ok(report) if report.failed() > 0 || report.stopped.is_some() => "incomplete",
        result => span::of_result(result),
    };
    span::recorded(span, Box::pin(run_within(operator, migrations, planned, options, observer)), outcome).await
}

async fn run_within(
    operator: &Operator,
    migrations: &Migrations,
    planned: FleetPlan<'_>,
    options: &RunOptions,
    observer: &mut dyn Observer,
) -> Result<RunReport> {
    if planned.public.is_some() || !planned.tenants.is_empty() {
        operator.facts().require_writable()?;
    }
    check_canaries(operator, &planned, &options.canary).await?;
    if !planned.tenants.is_empty() {
        operator.refuse_writable_path().await?;
    }
    options.interrupt.listen();
    observer.started(&RunStart {
        public_pending: planned.public.as_ref().map_or(0, |public| public.pending.len()),
        tenants_to_visit: planned.tenants.len(),
        tenants_at_head: planned.at_head,
    });
    let migrates_public = planned.public.is_some();
    if migrates_public {
        identity::ensure(operator).await?;
    }
    if !planned.unbound.is_empty() {
        step("bind", bind(operator, &planned.unbound, observer)).await?;
    }
    let files = match planned.files.begin(operator, migrations).await {
        Ok(files) => files,
        Err(error @ Error::Connection(ConnectionError::Lost { .. })) => return Err(error),
        Err(error) => {
            observer.notice(&format!("the files of the fleet were not recorded: {error}"));
            FileRecord::unwritten()
        }
    };
    let recorder = HistoryWriter::begin(operator, &planned, options, observer).await;
    let mut report = RunReport::new(planned.at_head);
    report.id = recorder.id();
    if let Some(id) = report.id {
        tracing::Span::current().record("run", tracing::field::display(id));
    }
    let mut sink = ReportSink { observer, report, recorder: &recorder };
    // Their futures are large. Moved from function to function, they take half of a thread's stack in a debug build.
    let done = match options.all_or_nothing {
        true => {
            let work = Box::pin(all_or_nothing(operator, migrations, planned, &files, options, &mut sink));
            step("all_or_nothing", work).await
        }
        false => Box::pin(one_by_one(operator, migrations, planned, &files, options, &mut sink)).await,
    };
    let ReportSink { observer, report, .. } = sink;
    telemetry::schemas_migrated(report.migrated(), report.skipped(), report.failed());
    recorder.end(&report, done.as_ref().err(), observer).await;
    if migrates_public && done.is_ok() {
        guard_registry(operator, observer).await;
    }
    done.map(|()| report)
}

/// Runs a step in its span.
async fn step<T>(name: &'static str, work: impl Future<Output = Result<T>>) -> Result<T> {
    span::recorded(span::of_step(OPERATION, name), work, span::of_result).await
}

/// Creates the triggers of a registry that this run may have created. If this fails, the tenants are still migrated.
async fn guard_registry(operator: &Operator, observer: &mut dyn Observer) {
    let told = match registry::guard_registry(operator).await {
        Ok(RegistryGuard::Present | RegistryGuard::Made | RegistryGuard::NotPossible) => return,
        Ok(RegistryGuard::NotAllowed) => "the operator does not own the registry".to_owned(),
        Err(error) => error.to_string(),
    };
    observer.notice(&format!("the registry has no triggers that keep organizations with a schema: {told}"));
}

/// Binds the schemas of an earlier version to their organizations. A schema that cannot be bound is reported and still
/// migrated. Its binding is unchanged.
async fn bind(operator: &Operator, unbound: &[Unbound], observer: &mut dyn Observer) -> Result<()> {
    for (slug, error) in bind::bind(operator, unbound).await?.failed {
        observer.notice(&format!("tenant {slug}: its schema was not bound to its organization: {error}"));
    }
    Ok(())
}

/// Migrates everything in one transaction. It includes pending migrations of the shared schema. The tenants' set may
/// need these, so it is rehearsed only if there are none.
async fn all_or_nothing(
    operator: &Operator,
    migrations: &Migrations,
    planned: FleetPlan<'_>,
    files: &FileRecord,
    options: &RunOptions,
    sink: &mut ReportSink<'_>,
) -> Result<()> {
    if planned.selection.scope != Scope::Public && !options.unrehearsed {
        match planned.public {
            None => rehearse(operator, migrations, options, sink).await?,
            Some(_) => sink.observer.notice("not rehearsed: the shared schema is migrated in the same transaction"),
        }
    }
    let with_public = planned.public.is_some();
    let run = async || super::all_or_nothing::run(operator, planned, files, &options.interrupt, sink).await;
    if with_public { rehearsal::shared::recorded(operator, &options.interrupt, run).await } else { run().await }
}

/// Migrates the shared schema, and each tenant separately.
async fn one_by_one(
    operator: &Operator,
    migrations: &Migrations,
    planned: FleetPlan<'_>,
    files: &FileRecord,
    options: &RunOptions,
    sink: &mut ReportSink<'_>,
) -> Result<()> {
    let FleetPlan { public, mut public_started, tenants, public_ledger, selection, .. } = planned;
    let exactly = |started: &mut Option<StartedMigration>| options.exact.then(|| PlannedProgress(started.take()));
    if let Some(public) = public {
        let mut outcome = None;
        let work = rehearsal::shared::recorded(operator, &options.interrupt, async || {
            let task = attempt::Task {
                set: Set::Public,
                plan: public.clone(),
                ledger: public_ledger,
                role: None,
                owner: None,
                exact: options.exact,
                progress: exactly(&mut public_started),
                files: Some(files),
            };
            let observer = &mut *sink.observer;
            outcome = Some(Box::pin(migrate_public(operator, migrations, task, options, observer)).await?);
            Ok(())
        });
        let recorded = step("shared_schema", Box::pin(work)).await;
        if let Some(outcome) = outcome {
            sink.settled(outcome, Some(&public));
        }
        recorded?;
    }
    if selection.scope != Scope::Public && !options.unrehearsed {
        rehearse(operator, migrations, options, sink).await?;
    }
    let mut jobs = Vec::new();
    for mut tenant in tenants {
        let progress = exactly(&mut tenant.started);
        jobs.extend(sink.sort(tenant).map(|(slug, plan, owner)| TenantJob::new(slug, plan, owner, progress)));
    }
    if options.failures_are_spent(&sink.report) {
        sink.report.stopped = Some(Stop { reason: StopReason::Failures, left: jobs.len() });
        return Ok(());
    }
    let (canaries, rest) = options.canary.split(jobs, |job| &job.slug);
    sink.report.canaries = canaries.len();
    let refused = sink.report.failed();
    let pool = WorkerPool::new(operator, &options.interrupt, options.jobs).failures_max(options.failures_max, refused);
    let work = TenantMigration::new(migrations, options, files, sink);
    let mut stopped = work.step("canaries", &pool, canaries).await;
    let canary_failed = work.sink().report.failed() > refused;
    if stopped.is_none() && canary_failed {
        stopped = Some(Stop { reason: StopReason::Canary, left: 0 });
    }
    let stopped = match stopped {
        Some(stop) => Some(Stop { left: stop.left + rest.len(), ..stop }),
        None => work.step("tenants", &pool, rest).await,
    };
    work.count_again();
    work.sink().report.stopped = stopped;
    Ok(())
}

/// Rehearses the tenants' set. If the set itself cannot be rehearsed, the observer gets a notice.
async fn rehearse(
    operator: &Operator,
    migrations: &Migrations,
    options: &RunOptions,
    sink: &mut ReportSink<'_>,
) -> Result<()> {
    sink.observer.rehearsing();
    match step("rehearsal", rehearsal::rehearse_until(operator, migrations, &options.interrupt)).await {
        Ok(rehearsal) => {
            sink.observer.rehearsed(&rehearsal);
            Ok(())
        }
        Err(error @ Error::Migration(MigrationError::NotRehearsable { .. })) => {
            sink.observer.notice(&format!("the migrations were not rehearsed: {error}"));
            Ok(())
        }
        // The following code detects the interrupt and starts no tenant.
        Err(error) if was_cancelled(&options.interrupt, &error) => Ok(()),
        Err(error) => {
            if let Error::Connection(ConnectionError::Connect { .. } | ConnectionError::Login { .. }) = &error {
                sink.observer.notice("the rehearsal needs another connection; no tenant was changed");
            }
            Err(error)
        }
    }
}

async fn migrate_public<'a>(
    operator: &Operator,
    migrations: &'a Migrations,
    mut task: attempt::Task<'a>,
    options: &RunOptions,
    observer: &mut dyn Observer,
) -> Result<SchemaOutcome> {
    let started = Instant::now();
    let needs_quiet = task.plan.needs_quiet();
    let mut attempts = 0;
    let mut backoff = Backoff::new();
    loop {
        attempts += 1;
        let attempt = attempt::attempt(operator, migrations, &mut task, LockWait::Block);
        let attempt = async {
            match needs_quiet {
                true => {
                    let schema = SchemaName::public();
                    blocking::watched(operator, &schema, |by| observer.blocked(&schema, by), attempt).await
                }
                false => attempt.await,
            }
        };
        match cancellable(operator, &options.interrupt, attempt).await {
            Ok(MigrationAttempt::Done(applied)) => {
                return Ok(SchemaOutcome {
                    schema: SchemaName::public(),
                    slug: None,
                    result: Outcome::Migrated { applied },
                    elapsed: started.elapsed(),
                    attempts,
                });
            }
            Ok(MigrationAttempt::Locked) => unreachable!("a run that waits for its turn gets it or an error"),
            Err(error) => match backoff.after(&error) {
                Some(pause) if !options.interrupt.is_stopping() => tokio::time::sleep(pause).await,
                _ => return Err(no_schema_has_it(error)),
            },
        }
    }
}

/// Sets the count in the error to zero: the shared schema is the only schema of its set, and it does not have the
/// failed file.
fn no_schema_has_it(mut error: Error) -> Error {
    if let Error::Migration(MigrationError::Failed(failure)) = &mut error {
        failure.schemas_with_file = Some(0);
    }
    error
}

/// Refuses a canary that is not selected, for example a misspelled one.
async fn check_canaries(operator: &Operator, planned: &FleetPlan<'_>, canary: &Canary) -> Result<()> {
    let Canary::These(slugs) = canary else { return Ok(()) };
    for slug in slugs {
        let is_planned = planned.tenants.iter().any(|tenant| tenant.slug == *slug);
        if !is_planned && registry::facts_of(operator, slug).await?.tenant.is_none() {
            return Err(Error::Tenant(TenantError::NotFound { tenant: slug.clone() }));
        }
        if !planned.selection.holds(slug) {
            return Err(Error::Migration(MigrationError::CanaryLeftOut { tenant: slug.clone() }));
        }
    }
    Ok(())
}
