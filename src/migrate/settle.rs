//! One try at one schema, planned anew where another run was quicker.

use super::{
    apply::{self, Landing, LedgerPresence, Turn, Unit},
    fleet::presence,
    interrupt::Interrupt,
    ledger,
    plan::{Plan, Target, plan},
    source::Migrations,
};
use crate::{
    db::Operator,
    error::{Error, Result},
    ident::{Ident, RoleName},
    migration::{MigrationId, Set},
};
use rand::RngExt as _;
use std::{future::Future, pin::pin, time::Duration};

/// How often a schema that another run keeps changing is planned anew.
const REPLANS_MAX: u32 = 4;
/// How often work is tried that a lock timeout, a deadlock or a serialization failure undid.
pub(crate) const TRIES_MAX: u32 = 5;
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
}

/// How a try ended that did not fail.
#[derive(Debug)]
pub(crate) enum Settled {
    /// At the plan's end, with these migrations; those that are missing another run had done.
    Done(Vec<MigrationId>),
    /// Another run is at the schema just now.
    Busy,
}

/// Tries once; plans anew when another run was quicker.
pub(crate) async fn attempt<'a>(
    operator: &Operator,
    migrations: &'a Migrations,
    task: &mut Task<'a>,
    turn: Turn,
) -> Result<Settled> {
    let schema = task.plan.schema.clone();
    let upto = task.plan.pending.last().map(|file| file.id().version);
    let mut applied = Vec::new();
    for _ in 0..REPLANS_MAX {
        let unit = Unit {
            plan: &task.plan,
            role: task.role.as_ref(),
            provision: String::new(),
            ledger: task.ledger,
            owner: task.owner.clone(),
        };
        match apply::attempt(operator, &unit, turn, &mut applied).await? {
            Landing::Done => return Ok(Settled::Done(applied)),
            Landing::Busy => return Ok(Settled::Busy),
            Landing::Moved if task.exact => return Err(Error::PlanStale { schema }),
            Landing::Moved => {}
        }
        let read = ledger::read(operator, &schema).await?;
        task.ledger = presence(read.ledger_exists);
        let whole = read.ledger_exists && read.comment_agrees();
        let target = upto.map_or(Target::Head, Target::Version);
        task.plan = plan(migrations.set(task.set), &schema, read.rows, target).map_err(Error::Diverged)?;
        // A comment that led here although the rows say otherwise is written anew, or every run would come here again.
        if task.plan.pending.is_empty() && whole {
            return Ok(Settled::Done(applied));
        }
    }
    Err(Error::Unsettled { schema, tries: REPLANS_MAX })
}

/// Lets work be cancelled by the second stage of an interrupt; the work's own answer tells what became of it.
pub(crate) async fn cancellable<T>(operator: &Operator, interrupt: &Interrupt, work: impl Future<Output = T>) -> T {
    let mut work = pin!(work);
    tokio::select! {
        biased;
        outcome = &mut work => return outcome,
        () = interrupt.cancelling() => {}
    }
    let ((), outcome) = tokio::join!(operator.cancel(), work);
    outcome
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

    /// How long to wait after a failure before the next try; `None` when there is to be none.
    pub(crate) fn after(&mut self, error: &Error) -> Option<Duration> {
        self.tries += 1;
        // Waiting for one's turn has a patience of its own.
        if self.tries >= TRIES_MAX || !error.is_retryable() || matches!(error, Error::Locked { .. }) {
            return None;
        }
        let pause = self.pause.mul_f64(rand::rng().random_range(0.5..1.5));
        self.pause *= 2;
        Some(pause)
    }
}
