//! The database queries: a bounded number at a time, one per subject, and only those that a call waits for.

use super::{
    ResolverState,
    entry::{Entry, LookupSubject},
};
use crate::{
    config::PoolSettings,
    error::{ConnectionError, Error, Result},
};
use futures_util::{
    FutureExt as _,
    future::{Shared, WeakShared},
};
use std::{
    collections::HashMap,
    future::Future,
    num::NonZeroUsize,
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::sync::{Semaphore, SemaphorePermit, oneshot};
use tracing::Instrument as _;

/// The answer, shared by all calls that wait for it.
type SharedAnswer = Result<Arc<Entry>, Arc<Error>>;
type Asking = Pin<Box<dyn Future<Output = SharedAnswer> + Send>>;
/// A query that was requested. It is dropped when no call waits for its answer.
pub(super) type Question = Shared<Asking>;

/// The queries without an answer yet.
pub(super) struct Questions {
    asked: Mutex<HashMap<LookupSubject, (u64, WeakShared<Asking>)>>,
    numbers: AtomicU64,
    turns: Semaphore,
    wait: Duration,
}

/// Which call requested a query.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Whose {
    Own,
    Others,
}

impl Questions {
    pub(super) fn new(at_a_time: Option<NonZeroUsize>, pool: &PoolSettings) -> Self {
        let turns = at_a_time.map_or((pool.size_max / 2).max(1), NonZeroUsize::get).min(Semaphore::MAX_PERMITS);
        Self { asked: Mutex::default(), numbers: AtomicU64::new(0), turns: Semaphore::new(turns), wait: pool.wait }
    }

    pub(super) fn pending(&self) -> usize {
        self.asked().len()
    }

    fn asked(&self) -> MutexGuard<'_, HashMap<LookupSubject, (u64, WeakShared<Asking>)>> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn join(asked: &HashMap<LookupSubject, (u64, WeakShared<Asking>)>, subject: &LookupSubject) -> Option<Question> {
        asked.get(subject).and_then(|(_, question)| question.upgrade())
    }

    /// Returns the current query for this subject, or a new one.
    pub(super) fn join_or_ask(remembered: &Arc<ResolverState>, subject: &LookupSubject) -> (Question, Whose) {
        let questions = &remembered.questions;
        if let Some(question) = Self::join(&questions.asked(), subject) {
            return (question, Whose::Others);
        }
        let number = questions.numbers.fetch_add(1, Ordering::Relaxed);
        let listed = || Listed { remembered: Arc::clone(remembered), subject: subject.clone(), number };
        let (begin, begun) = oneshot::channel();
        // The task is created outside of the lock: a runtime that shuts down drops a new task immediately, and its drop
        // takes the lock.
        let question = ask(remembered, subject, Some((listed(), begun)));
        {
            let mut asked = questions.asked();
            if let Some(question) = Self::join(&asked, subject) {
                return (question, Whose::Others);
            }
            if let Some(weak) = question.downgrade() {
                asked.insert(subject.clone(), (number, weak));
            }
        }
        if begin.send(()).is_err() {
            drop(listed());
        }
        (question, Whose::Own)
    }

    /// Returns a query that other calls cannot join.
    pub(super) fn ask_apart(remembered: &Arc<ResolverState>, subject: &LookupSubject) -> Question {
        ask(remembered, subject, None)
    }

    /// Waits for its turn, at most as long as a call waits for a connection.
    async fn turn(&self) -> Result<SemaphorePermit<'_>> {
        match tokio::time::timeout(self.wait, self.turns.acquire()).await {
            Ok(turn) => Ok(turn.expect("it is never closed")),
            Err(_) => {
                tracing::warn!(target: "cgk::resolver", waited = ?self.wait, "too many tenants and credentials are being looked up");
                Err(ConnectionError::PoolTimeout { waited: self.wait }.into())
            }
        }
    }
}

/// Runs the query in its own task. So if the first caller is dropped or not polled, this does not delay the calls that
/// wait for the same answer or for a turn.
///
/// A listed query starts when it gets a signal. If the signal never comes, the query ends without running.
fn ask(
    remembered: &Arc<ResolverState>,
    subject: &LookupSubject,
    listed: Option<(Listed, oneshot::Receiver<()>)>,
) -> Question {
    let (waiting, mut nobody_waits) = oneshot::channel::<()>();
    let (remembered, subject) = (Arc::clone(remembered), subject.clone());
    let asking = async move {
        let listed = match listed {
            Some((listed, begun)) => begun.await.ok().map(|()| Some(listed)),
            None => Some(None),
        };
        let Some(listed) = listed else { return Err(Arc::new(unanswered(&"another call has asked"))) };
        let turn = tokio::select! {
            biased;
            _ = &mut nobody_waits => return Err(Arc::new(unanswered(&"no call waits for the answer"))),
            turn = remembered.questions.turn() => turn.map_err(Arc::new)?,
        };
        // From now on others can join it, whether or not a call still waits.
        let _kept = listed.as_ref().and_then(Listed::question);
        let answer = remembered.ask(&subject).await;
        drop(turn);
        if let Ok(entry) = &answer {
            remembered.entries.insert(subject, Arc::clone(entry));
        }
        answer.map_err(Arc::new)
    };
    let task = tokio::spawn(asking.in_current_span());
    let answer: Asking = Box::pin(async move {
        // Dropped with the last waiting call, which the task notices.
        let _waiting = waiting;
        task.await.unwrap_or_else(|error| Err(Arc::new(unanswered(&error))))
    });
    answer.shared()
}

fn unanswered(found: &dyn std::fmt::Display) -> Error {
    Error::Unexpected { doing: "look up a tenant or credential".into(), found: found.to_string() }
}

/// Removes a query when it has its answer, or when its task ends without one.
struct Listed {
    remembered: Arc<ResolverState>,
    subject: LookupSubject,
    number: u64,
}

impl Listed {
    fn question(&self) -> Option<Question> {
        let asked = self.remembered.questions.asked();
        let (number, question) = asked.get(&self.subject)?;
        (*number == self.number).then(|| question.upgrade()).flatten()
    }
}

impl Drop for Listed {
    fn drop(&mut self) {
        let mut asked = self.remembered.questions.asked();
        // There may already be another query, from calls that came after the last one had gone.
        if asked.get(&self.subject).is_some_and(|(number, _)| *number == self.number) {
            asked.remove(&self.subject);
        }
    }
}
