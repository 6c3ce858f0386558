//! One try at one schema, planned anew where another run was quicker.

use super::{
    apply::{self, ApplyOutcome, LedgerPresence, LockWait, Purpose, Sessions, Unit},
    grouping::Grouping,
};
use crate::{
    db::{Operator, session_reset::Commits},
    error::{Error, MigrationError, Result},
    fleet::interrupt::Interrupt,
    ident::{Ident, RoleName, SchemaName},
    migrate::{
        files::source::Migrations,
        fileset::record::FileRecord,
        ledger,
        plan::{Plan, Target, fleet::presence, plan},
    },
    migration::{MigrationId, Set},
};
use rand::RngExt as _;
use std::{future::Future, pin::pin, time::Duration};
use tokio_postgres::error::{DbError, SqlState};

/// How often a schema that another run keeps changing is planned anew.
const REPLANS_MAX: u32 = 4;
/// How often work is tried that a lock timeout, a deadlock or a serialization failure undid.
pub(crate) const TRIES_MAX: u32 = 5;
/// How often work that collides with the work beside it is tried before it is done by itself.
const TRIES_BESIDE_MAX: u32 = 2;
/// How long cancelled work may go on before it is asked to end once more.
const CANCEL_AGAIN_AFTER: Duration = Duration::from_millis(500);
const BACKOFF_FIRST: Duration = Duration::from_millis(100);

/// What is to be done to one schema.
pub(crate) struct Task<'a> {
    pub(crate) set: Set,
    pub(crate) plan: Plan<'a>,
    pub(crate) ledger: LedgerPresence,
    pub(crate) role: Option<RoleName>,
    pub(crate) owner: Option<Ident>,
    /// Whether a schema that is not as the plan took it to be is an error.
    pub(crate) exact: bool,
    /// Where it is recorded which files the fleet has.
    pub(crate) files: Option<&'a FileRecord>,
}

/// How a try ended that did not fail.
#[derive(Debug)]
pub(crate) enum AttemptOutcome {
    /// At the plan's end, with these migrations; those that are missing another run had done.
    Done(Vec<MigrationId>),
    /// Another run is at the schema just now.
    Locked,
}

/// Tries once; plans anew when another run was quicker.
pub(crate) async fn attempt<'a>(
    operator: &Operator,
    migrations: &'a Migrations,
    task: &mut Task<'a>,
    turn: LockWait,
) -> Result<AttemptOutcome> {
    let schema = task.plan.schema.clone();
    let upto = task.plan.pending.last().map(|file| file.id().version);
    let mut applied = Vec::new();
    let mut grouping = Grouping::Together;
    for _ in 0..REPLANS_MAX {
        let unit = Unit {
            plan: &task.plan,
            role: task.role.as_ref(),
            provision: String::new(),
            ledger: task.ledger,
            owner: task.owner.clone(),
            commits: Commits::WithMessage,
            files: task.files.map(|files| (files, task.set)),
            grouping,
            sessions: Sessions::Any,
            purpose: Purpose::Use,
        };
        match apply::attempt(operator, &unit, turn, &mut applied).await {
            Ok(ApplyOutcome::Applied) => return Ok(AttemptOutcome::Done(applied)),
            Ok(ApplyOutcome::Locked) => return Ok(AttemptOutcome::Locked),
            Ok(ApplyOutcome::Stale) if task.exact => {
                return Err(Error::Migration(MigrationError::PlanStale { schema }));
            }
            Ok(ApplyOutcome::Stale) => {}
            Err(error) => match grouping.after(&error, &task.plan) {
                Some(other) => {
                    tracing::info!(schema = schema.as_str(), %error, "trying again file by file");
                    grouping = other;
                    // Nothing of it was committed: the plan holds.
                    if applied.is_empty() {
                        continue;
                    }
                }
                None => return Err(error),
            },
        }
        let read = ledger::read(operator, &schema).await?;
        task.ledger = presence(read.ledger_exists);
        let whole = read.ledger_exists && read.comment_agrees();
        let target = upto.map_or(Target::Head, Target::Version);
        task.plan = plan(migrations.set(task.set), &schema, read.rows, target).map_err(MigrationError::Diverged)?;
        // A comment that led here although the rows say otherwise is written anew, or every run would come here again.
        if task.plan.pending.is_empty() && whole {
            return Ok(AttemptOutcome::Done(applied));
        }
    }
    Err(Error::Migration(MigrationError::Contended { schema, tries: REPLANS_MAX }))
}

/// Lets work be cancelled by the second stage of an interrupt; the work's own answer tells what became of it.
pub(crate) async fn cancellable<T>(operator: &Operator, interrupt: &Interrupt, work: impl Future<Output = T>) -> T {
    let mut work = pin!(work);
    tokio::select! {
        biased;
        outcome = &mut work => return outcome,
        () = interrupt.cancelling() => {}
    }
    // A request that comes between two messages of the work meets nothing, and is sent again.
    loop {
        let asking = async {
            operator.cancel().await;
            tokio::time::sleep(CANCEL_AGAIN_AFTER).await;
        };
        tokio::select! {
            biased;
            outcome = &mut work => return outcome,
            () = asking => {}
        }
    }
}

/// Whether a unique violation is one of a table outside of the schema, where another tenant's migration may have been quicker.
fn is_shared_key(error: &Error, schema: &SchemaName) -> bool {
    let whole = !matches!(error, Error::Migration(MigrationError::Failed(failure)) if !failure.committed.is_empty());
    whole
        && error.sqlstate() == Some(&SqlState::UNIQUE_VIOLATION)
        && error.server().and_then(DbError::schema).is_some_and(|of| of != schema.as_str() && of != "pg_catalog")
}

/// The pauses between tries of one schema.
pub(crate) struct Backoff {
    tries: u32,
    pause: Duration,
}

impl Backoff {
    pub(crate) fn new() -> Self {
        Self { tries: 0, pause: BACKOFF_FIRST }
    }

    /// Whether work that failed like this is to be tried with nobody beside it: it collided with what others do to the
    /// shared schema or the catalogue, and would again. A key that was there already is the other's in a shared table, and
    /// it is tried once; in a table of the tenant's own it never is. Ask before [`after`](Self::after).
    pub(crate) fn wants_to_be_alone(&mut self, error: &Error, schema: &SchemaName) -> bool {
        if self.tries + 1 >= TRIES_MAX {
            return false;
        }
        if is_shared_key(error, schema) {
            // Its next failure is the last.
            self.tries = TRIES_MAX - 1;
            return true;
        }
        let collided = error.is_retryable()
            && (error.is_catalogue_race() || error.sqlstate() == Some(&SqlState::T_R_DEADLOCK_DETECTED));
        let alone = collided && self.tries + 1 >= TRIES_BESIDE_MAX;
        self.tries += u32::from(alone);
        alone
    }

    /// How long to wait after a failure before the next try; `None` when there is to be none.
    pub(crate) fn after(&mut self, error: &Error) -> Option<Duration> {
        self.tries += 1;
        // Waiting for one's turn has a patience of its own.
        if self.tries >= TRIES_MAX
            || !error.is_retryable()
            || matches!(error, Error::Migration(MigrationError::Locked { .. }))
        {
            return None;
        }
        let pause = self.pause.mul_f64(rand::rng().random_range(0.5..1.5));
        self.pause *= 2;
        Some(pause)
    }
}
