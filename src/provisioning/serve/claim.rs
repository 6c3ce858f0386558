//! Takes requests off the queue, one at a time, so that no two servers work on the same one.
//!
//! The number of the attempt and the time of the next one are committed before it starts. So the number of attempts is
//! limited even if the request kills the server. During the attempt, a transaction on a separate connection locks the
//! row; if the server dies, the lock ends with the connection.

use super::{ProvisioningId, ServeOptions};
use crate::{
    db::{Operator, message, milliseconds},
    error::{Error, Result, SetupError, while_doing},
    ident::literal,
};
use rand::RngExt as _;
use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};
use tokio_postgres::{
    Row,
    error::SqlState,
    types::{ToSql, Type},
};
use uuid::Uuid;

/// The maximum length of a stored error text, in characters.
const ERROR_CHARS_MAX: usize = 2000;
/// How much longer the server keeps an attempt's transaction open than the attempt may take.
const IDLE_SLACK: Duration = Duration::from_secs(60);

/// The limit of pauses: the server's clock has no time as far away as the longest possible pause.
const PAUSE_LIMIT: Duration = Duration::from_secs(100 * 366 * 24 * 3600);

const COUNT: &str = "with due as (
        select r.id, $1::pg_catalog.float8 * pg_catalog.power(2::pg_catalog.float8, least(r.attempts, 30)) as pause
          from public.provisioning_requests r
         where r.status = 'pending' and r.attempt_at <= pg_catalog.clock_timestamp()
         order by r.attempt_at, r.id limit 1 for update skip locked)
    update public.provisioning_requests r
       set attempts = r.attempts + 1,
           attempt_at = pg_catalog.clock_timestamp()
                        + pg_catalog.make_interval(secs => least(due.pause, $2::pg_catalog.float8) * $3::pg_catalog.float8)
      from due where r.id = due.id
    returning r.id, r.attempts, least(due.pause, $2::pg_catalog.float8) * $3::pg_catalog.float8";

const LOCK: &str = "select o.slug::pg_catalog.text
      from public.provisioning_requests r join public.organizations o on o.id = r.organization_id
     where r.id = $1 and r.attempts = $2 and r.status = 'pending' for update of r skip locked";

const FINISH: &str = "update public.provisioning_requests
       set status = $2::pg_catalog.text::public.provisioning_status, error_code = $3, error = $4,
           finished_at = case when $2::pg_catalog.text = 'pending' then null else pg_catalog.clock_timestamp() end
     where id = $1";

/// An unfinished request keeps its status, so waiting calls are not notified.
const POSTPONE: &str = "update public.provisioning_requests set error_code = $2, error = $3 where id = $1";

const NEXT_DUE: &str = "select pg_catalog.date_part('epoch', min(r.attempt_at) - pg_catalog.clock_timestamp())
      from public.provisioning_requests r where r.status = 'pending'";

/// The connection that takes requests. It is in a transaction while an attempt is under way.
pub(super) struct RequestQueue {
    connection: Operator,
    /// Whether a transaction may be open.
    claims: AtomicBool,
}

/// A request that this server has claimed for one attempt.
pub(super) struct ClaimedRequest {
    pub(super) id: ProvisioningId,
    pub(super) slug: String,
    pub(super) attempt: u32,
    /// How long after this attempt's start the next one may be made.
    pub(super) pause: Duration,
}

/// The outcome of an attempt.
pub(super) enum AttemptVerdict<'a> {
    Done,
    Postponed(&'a Error),
    Failed(&'a Error),
}

impl RequestQueue {
    pub(super) fn new(connection: Operator) -> Self {
        Self { connection, claims: AtomicBool::new(false) }
    }

    /// Takes a request that is due, or `None`.
    pub(super) async fn claim(&self, options: &ServeOptions) -> Result<Option<ClaimedRequest>> {
        let doing = || while_doing("take a request off the provisioning queue");
        let random: f64 = rand::rng().random_range(0.5..1.5);
        let [first, max] = [options.pause_first, options.pause_max].map(|pause| pause.min(PAUSE_LIMIT).as_secs_f64());
        let idle = milliseconds(options.attempt_time_max.saturating_add(IDLE_SLACK));
        // A request that another server has taken in between is skipped.
        loop {
            if self.claims.load(Ordering::Relaxed) {
                self.end("rollback").await?;
            }
            let pauses: [(&(dyn ToSql + Sync), Type); 3] =
                [(&first, Type::FLOAT8), (&max, Type::FLOAT8), (&random, Type::FLOAT8)];
            let rows = self.query(COUNT, &pauses).await?;
            let Some(row) = rows.first() else { return Ok(None) };
            let id: Uuid = row.try_get(0).map_err(doing())?;
            let attempt: i32 = row.try_get(1).map_err(doing())?;
            let pause: f64 = row.try_get(2).map_err(doing())?;
            self.claims.store(true, Ordering::Relaxed);
            self.send(&format!(
                "begin isolation level read committed read write; \
                 set local idle_in_transaction_session_timeout = {}",
                literal(&idle)
            ))
            .await?;
            let rows = self.query(LOCK, &[(&id, Type::UUID), (&attempt, Type::INT4)]).await?;
            if let Some(row) = rows.first() {
                let pause = Duration::try_from_secs_f64(pause).unwrap_or_default();
                let (id, attempt) = (ProvisioningId(id), attempt.unsigned_abs());
                return Ok(Some(ClaimedRequest { id, slug: row.try_get(0).map_err(doing())?, attempt, pause }));
            }
        }
    }

    /// Writes the outcome of the attempt, and commits.
    pub(super) async fn finish(&self, claim: &ClaimedRequest, verdict: AttemptVerdict<'_>) -> Result<()> {
        let failure = match &verdict {
            AttemptVerdict::Done => None,
            AttemptVerdict::Postponed(error) | AttemptVerdict::Failed(error) => Some((error.code(), plain_text(error))),
        };
        let (code, text) = (failure.as_ref().map(|of| of.0), failure.as_ref().map(|of| of.1.as_str()));
        let status = match verdict {
            AttemptVerdict::Done => "done",
            AttemptVerdict::Failed(_) => "failed",
            AttemptVerdict::Postponed(_) => {
                let params: [(&(dyn ToSql + Sync), Type); 3] =
                    [(&claim.id.0, Type::UUID), (&code, Type::TEXT), (&text, Type::TEXT)];
                self.query(POSTPONE, &params).await?;
                return self.end("commit").await;
            }
        };
        let params: [(&(dyn ToSql + Sync), Type); 4] =
            [(&claim.id.0, Type::UUID), (&status, Type::TEXT), (&code, Type::TEXT), (&text, Type::TEXT)];
        self.query(FINISH, &params).await?;
        self.end("commit").await
    }

    /// Returns the time until the next request is due, zero if one is due now; `None` if none is pending. A request
    /// that another server works on counts: if that server dies, it is due.
    pub(super) async fn next_due(&self) -> Result<Option<Duration>> {
        let rows = self.query(NEXT_DUE, &[]).await?;
        let seconds: Option<f64> = rows
            .first()
            .map(|row| row.try_get(0))
            .transpose()
            .map_err(while_doing("read the provisioning queue"))?
            .flatten();
        Ok(seconds.map(|seconds| {
            Duration::try_from_secs_f64(seconds.max(CLAIM_PAUSE_MIN.as_secs_f64())).unwrap_or(CLAIM_PAUSE_MIN)
        }))
    }

    async fn query(&self, sql: &str, params: &[(&(dyn ToSql + Sync), Type)]) -> Result<Vec<Row>> {
        let rows = self.connection.client().query_typed(sql, params).await;
        rows.map_err(|error| match error.code() {
            Some(&SqlState::UNDEFINED_TABLE) => {
                let database = self.connection.facts().database.clone();
                let missing = "the table public.provisioning_requests does not exist".into();
                SetupError::NotSetUp { database, missing }.into()
            }
            _ => while_doing("read and write the provisioning queue")(error),
        })
    }

    async fn end(&self, sql: &str) -> Result<()> {
        self.send(sql).await?;
        self.claims.store(false, Ordering::Relaxed);
        Ok(())
    }

    async fn send(&self, sql: &str) -> Result<()> {
        let sent = message::run(self.connection.client(), sql).await.and_then(message::Answer::complete);
        sent.map(drop).map_err(while_doing("read and write the provisioning queue"))
    }
}

/// The shortest pause between two reads of the queue, while another server works on the due requests.
const CLAIM_PAUSE_MIN: Duration = Duration::from_millis(500);

/// Returns the error and its causes, without control characters.
fn plain_text(error: &Error) -> String {
    let plain = error.report();
    plain.chars().map(|c| if c.is_control() { ' ' } else { c }).take(ERROR_CHARS_MAX).collect()
}
