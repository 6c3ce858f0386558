//! Writes the history of a run in batches, beside the run itself.

use crate::{
    db::{Operator, own_table},
    error::{Error, MigrationError, Result, while_doing},
    lock,
    migrate::{
        execute::{
            observer::Observer,
            options::RunOptions,
            report::{Outcome, RunReport, SchemaOutcome},
        },
        plan::{SchemaPlan, Target, fleet::FleetPlan},
    },
};
use std::{future::Future, sync::Mutex, time::Duration};
use tokio::sync::Notify;
use tokio_postgres::{
    error::SqlState,
    types::{ToSql, Type},
};
use uuid::Uuid;

const RUNS_KEPT: i64 = 200;
const RUNS_KEPT_WHOLE: i64 = 20;
/// How many results are written at once, and how long a result waits for others.
const BATCH: usize = 200;
const BATCH_WAIT: Duration = Duration::from_secs(1);
/// Maximum length of a stored error message.
const MESSAGE_CHARS_MAX: usize = 500;

const TABLES: &str = "
create table public.cgk_runs (
    id uuid primary key,
    started_at timestamptz not null default pg_catalog.clock_timestamp(),
    finished_at timestamptz,
    started_by text not null default session_user,
    client text,
    cgk_version text not null,
    selection text not null,
    target text not null,
    planned bigint not null,
    at_head bigint not null,
    migrated bigint not null default 0,
    failed bigint not null default 0,
    skipped bigint not null default 0,
    tenants_left bigint not null default 0,
    stopped text,
    error text,
    backend_pid integer not null,
    backend_start timestamptz not null
);
create table public.cgk_run_schemas (
    run_id uuid not null references public.cgk_runs (id) on delete cascade,
    schema text not null,
    tenant text,
    result text not null check (result in ('migrated', 'skipped', 'failed')),
    from_version bigint,
    to_version bigint,
    attempts bigint not null,
    sqlstate text,
    message text,
    duration_ms bigint not null,
    done_at timestamptz not null default pg_catalog.clock_timestamp(),
    primary key (run_id, schema)
);
create index cgk_runs_started_at_idx on public.cgk_runs (started_at);
comment on table public.cgk_runs is 'Runs of cgk migrate; cgk migrate:history shows them.';
comment on table public.cgk_run_schemas is 'The result of every schema in a run of cgk migrate.';
";

/// Writes one run's history. Does nothing if that is disabled or not possible.
pub(crate) struct HistoryWriter<'o> {
    operator: &'o Operator,
    id: Option<Uuid>,
    waiting: Mutex<Vec<HistoryEntry>>,
    full: Notify,
}

struct HistoryEntry {
    schema: String,
    tenant: Option<String>,
    result: &'static str,
    from_version: Option<i64>,
    to_version: Option<i64>,
    attempts: i64,
    sqlstate: Option<String>,
    message: Option<String>,
    duration_ms: i64,
}

impl<'o> HistoryWriter<'o> {
    /// Starts a run's history, unless there is nothing to apply.
    pub(crate) async fn begin(
        operator: &'o Operator,
        planned: &FleetPlan<'_>,
        options: &RunOptions,
        observer: &mut dyn Observer,
    ) -> Self {
        let mut recorder = Self { operator, id: None, waiting: Mutex::default(), full: Notify::new() };
        if options.unrecorded || planned.is_empty() {
            return recorder;
        }
        let id = Uuid::new_v4();
        match begin(operator, id, planned).await {
            Ok(()) => recorder.id = Some(id),
            Err(error) => observer.notice(&format!("this run is not in the history: {}", in_full(&error))),
        }
        recorder
    }

    pub(crate) fn id(&self) -> Option<Uuid> {
        self.id
    }

    /// Adds the result of a schema. It is written a little later.
    pub(crate) fn note(&self, outcome: &SchemaOutcome, plan: Option<&SchemaPlan<'_>>) {
        if self.id.is_none() {
            return;
        }
        let mut waiting = self.waiting.lock().expect("nothing panics while it is held");
        waiting.push(HistoryEntry::of(outcome, plan));
        if waiting.len() >= BATCH {
            self.full.notify_one();
        }
    }

    /// Runs the work, and writes the results meanwhile.
    pub(crate) async fn while_working<T>(&self, work: impl Future<Output = T>) -> T {
        if self.id.is_none() {
            return work.await;
        }
        let finished = Notify::new();
        let write = async {
            loop {
                tokio::select! {
                    () = finished.notified() => return,
                    () = self.full.notified() => {}
                    () = tokio::time::sleep(BATCH_WAIT) => {}
                }
                if let Err(error) = self.flush().await {
                    tracing::warn!(%error, "could not write the history of this run");
                }
            }
        };
        let work = async {
            let done = work.await;
            finished.notify_one();
            done
        };
        tokio::join!(work, write).0
    }

    /// Completes the run's history.
    pub(crate) async fn end(&self, report: &RunReport, error: Option<&Error>, observer: &mut dyn Observer) {
        let Some(id) = self.id else { return };
        let mut ended = self.try_end(id, report, error).await;
        // A cancel request arrived late.
        if ended.as_ref().is_err_and(|error| error.sqlstate() == Some(&SqlState::QUERY_CANCELED)) {
            ended = self.try_end(id, report, error).await;
        }
        if let Err(error) = ended {
            observer.notice(&format!("the end of this run is not in the history: {}", in_full(&error)));
        }
    }

    async fn try_end(&self, id: Uuid, report: &RunReport, error: Option<&Error>) -> Result<()> {
        self.flush().await?;
        let doing = || while_doing("write the history of this run");
        let client = self.operator.client();
        let number = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
        let (migrated, failed, skipped) =
            (number(report.migrated()), number(report.failed()), number(report.skipped()));
        let left = number(report.stopped.as_ref().map_or(0, |stop| stop.left));
        let stopped = report.stopped.as_ref().map(|stop| stop.reason.as_str());
        let error = error.map(in_full);
        let params: [(&(dyn ToSql + Sync), Type); 7] = [
            (&id, Type::UUID),
            (&migrated, Type::INT8),
            (&failed, Type::INT8),
            (&skipped, Type::INT8),
            (&left, Type::INT8),
            (&stopped, Type::TEXT),
            (&error, Type::TEXT),
        ];
        let end = client.execute_typed(
            "update public.cgk_runs set finished_at = pg_catalog.clock_timestamp(), migrated = $2, failed = $3, skipped = $4,
                    tenants_left = $5, stopped = $6, error = $7 where id = $1",
            &params,
        );
        let params: [(&(dyn ToSql + Sync), Type); 2] = [(&RUNS_KEPT, Type::INT8), (&RUNS_KEPT_WHOLE, Type::INT8)];
        let prune = client.execute_typed(
            "with ranked as (select id, row_number() over (order by started_at desc) as age from public.cgk_runs),
                  thinned as (delete from public.cgk_run_schemas s using ranked r
                              where r.id = s.run_id and r.age > $2 and s.result = 'migrated')
             delete from public.cgk_runs c using ranked r where r.id = c.id and r.age > $1",
            &params,
        );
        let (ended, pruned) = tokio::join!(end, prune);
        ended.and(pruned).map(drop).map_err(doing())
    }

    async fn flush(&self) -> Result<()> {
        let Some(id) = self.id else { return Ok(()) };
        let entries = std::mem::take(&mut *self.waiting.lock().expect("nothing panics while it is held"));
        if entries.is_empty() {
            return Ok(());
        }
        let written = {
            let _undivided = self.operator.undivided().await;
            insert(self.operator, id, &entries).await
        };
        if written.is_err() {
            let mut waiting = self.waiting.lock().expect("nothing panics while it is held");
            waiting.splice(0..0, entries);
        }
        written
    }
}

impl HistoryEntry {
    fn of(outcome: &SchemaOutcome, plan: Option<&SchemaPlan<'_>>) -> Self {
        let (result, message, sqlstate) = match &outcome.result {
            Outcome::Migrated { .. } => ("migrated", None, None),
            Outcome::Skipped { reason } => ("skipped", Some(cut(reason.clone())), None),
            Outcome::Failed { error } => {
                ("failed", Some(in_full(error)), error.sqlstate().map(|state| state.code().to_owned()))
            }
        };
        let applied = match &outcome.result {
            Outcome::Migrated { applied } => applied.last().map(|id| id.version.get()),
            _ => None,
        };
        let before = plan.and_then(|plan| Some(plan.applied.last()?.id.version.get()));
        let after = plan.and_then(|plan| Some(plan.pending.last()?.id().version.get())).or(applied);
        Self {
            schema: outcome.schema.as_str().to_owned(),
            tenant: outcome.slug.as_ref().map(|slug| slug.as_str().to_owned()),
            result,
            // Equal versions are the mark of a schema that another run had already migrated.
            from_version: if outcome.result.is_by_another_run() { after } else { before },
            to_version: after,
            attempts: outcome.attempts.into(),
            sqlstate,
            message,
            duration_ms: i64::try_from(outcome.elapsed.as_millis()).unwrap_or(i64::MAX),
        }
    }
}

async fn begin(operator: &Operator, id: Uuid, planned: &FleetPlan<'_>) -> Result<()> {
    match insert_run(operator, id, planned).await {
        Err(error) if error.sqlstate() == Some(&SqlState::UNDEFINED_TABLE) => {
            create_tables(operator).await?;
            insert_run(operator, id, planned).await
        }
        outcome => outcome,
    }
}

async fn insert_run(operator: &Operator, id: Uuid, planned: &FleetPlan<'_>) -> Result<()> {
    let target = match planned.target {
        Target::Head => "head".to_owned(),
        Target::Version(version) => version.to_string(),
    };
    let number = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
    let (visited, at_head) = (number(planned.tenants.len()), number(planned.at_head));
    let selection = planned.selection.to_string();
    let params: [(&(dyn ToSql + Sync), Type); 6] = [
        (&id, Type::UUID),
        (&env!("CARGO_PKG_VERSION"), Type::TEXT),
        (&selection, Type::TEXT),
        (&target, Type::TEXT),
        (&visited, Type::INT8),
        (&at_head, Type::INT8),
    ];
    let sql = "insert into public.cgk_runs (id, client, cgk_version, selection, target, planned, at_head, backend_pid, backend_start)
               select $1, pg_catalog.host(a.client_addr), $2, $3, $4, $5, $6, a.pid, a.backend_start
               from pg_catalog.pg_stat_activity a where a.pid = pg_catalog.pg_backend_pid()";
    let written = operator.client().execute_typed(sql, &params).await;
    written.map(drop).map_err(while_doing("write the history of this run"))
}

/// Creates the tables. If another run has created them, that is also a success.
async fn create_tables(operator: &Operator) -> Result<()> {
    let tables = ["public.cgk_runs", "public.cgk_run_schemas"];
    let created = own_table::create(operator, lock::history_key(), &tables, TABLES).await;
    created.map_err(while_doing("make the tables of the history"))
}

async fn insert(operator: &Operator, id: Uuid, entries: &[HistoryEntry]) -> Result<()> {
    fn column<T>(entries: &[HistoryEntry], value: impl Fn(&HistoryEntry) -> T) -> Vec<T> {
        entries.iter().map(value).collect()
    }
    let texts = |value: fn(&HistoryEntry) -> Option<String>| column(entries, value);
    let numbers = |value: fn(&HistoryEntry) -> Option<i64>| column(entries, value);
    let (schemas, tenants) = (texts(|entry| Some(entry.schema.clone())), texts(|entry| entry.tenant.clone()));
    let results = texts(|entry| Some(entry.result.to_owned()));
    let (from, to) = (numbers(|entry| entry.from_version), numbers(|entry| entry.to_version));
    let (attempts, durations) = (numbers(|entry| Some(entry.attempts)), numbers(|entry| Some(entry.duration_ms)));
    let (states, messages) = (texts(|entry| entry.sqlstate.clone()), texts(|entry| entry.message.clone()));
    let params: [(&(dyn ToSql + Sync), Type); 10] = [
        (&id, Type::UUID),
        (&schemas, Type::TEXT_ARRAY),
        (&tenants, Type::TEXT_ARRAY),
        (&results, Type::TEXT_ARRAY),
        (&from, Type::INT8_ARRAY),
        (&to, Type::INT8_ARRAY),
        (&attempts, Type::INT8_ARRAY),
        (&states, Type::TEXT_ARRAY),
        (&messages, Type::TEXT_ARRAY),
        (&durations, Type::INT8_ARRAY),
    ];
    // If the response to a batch was lost, it may be written again.
    let sql = "insert into public.cgk_run_schemas
                   (run_id, schema, tenant, result, from_version, to_version, attempts, sqlstate, message, duration_ms)
               select $1, e.* from unnest($2, $3, $4, $5, $6, $7, $8, $9, $10) e on conflict do nothing";
    let written = operator.client().execute_typed(sql, &params).await;
    written.map(drop).map_err(while_doing("write the history of this run"))
}

/// Returns an error with the server's own message, which contains no row values.
fn in_full(error: &Error) -> String {
    let said = match error {
        Error::Migration(MigrationError::Failed(failure)) => Some(failure.message.clone()),
        _ => error.server().map(|answer| answer.message().to_owned()),
    };
    cut(said.map_or_else(|| error.to_string(), |said| format!("{error}: {said}")))
}

fn cut(text: String) -> String {
    match text.char_indices().nth(MESSAGE_CHARS_MAX) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}
