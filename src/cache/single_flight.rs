//! The running computations of this process, so that a key is computed once for all concurrent calls.
//!
//! A waiting call has no lock or connection that another call needs. A call that is no longer polled delays the others
//! for a limited time.

use super::scripts::{ComputeToken, new_id};
use crate::tenant::OrganizationId;
use std::{
    any::Any,
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::{sync::watch, time::Instant};

type ComputationKey = (OrganizationId, String);

#[derive(Default)]
pub(super) struct Computations {
    under_way: Mutex<HashMap<ComputationKey, Weak<Computation>>>,
    /// Counts calls and computations, to compare their start.
    clock: AtomicU64,
}

/// A value that is being computed. It is in the map until the last call drops it.
pub(super) struct Computation {
    key: ComputationKey,
    computations: Arc<Computations>,
    /// Its name in Redis.
    pub(super) token: ComputeToken,
    progress: watch::Sender<ComputationProgress>,
}

struct ComputationProgress {
    /// The result of the first computation that ended.
    outcome: Option<Arc<ComputeOutcome>>,
    /// The number of computing calls.
    computing: usize,
    /// When the first of them started to compute, or `u64::MAX`.
    since: u64,
    /// When a waiting call starts to compute too; `None`: never.
    patience_ends: Option<Instant>,
}

/// The result of a computation.
pub(super) enum ComputeOutcome {
    /// The JSON.
    Value(Vec<u8>),
    /// An `Arc<E>`, for all waiting calls.
    Error(Arc<dyn Any + Send + Sync>),
}

/// The data that a call found in Redis before it looks for a computation to join.
#[derive(Clone, Copy)]
pub(super) enum FoundInCache {
    /// No value, and perhaps the token of a computation.
    Missing(Option<ComputeToken>),
    /// Redis did not respond.
    Nothing,
}

/// The action of a call after it joined.
pub(super) enum ComputationRole {
    /// Compute, and share the result.
    Compute(ComputeTurn),
    /// Return this result.
    Take(Arc<ComputeOutcome>),
}

/// A computing call. If it is dropped before it finishes, another one computes.
pub(super) struct ComputeTurn {
    computation: Arc<Computation>,
    /// Whether no other call was computing when this one started.
    pub(super) is_alone: bool,
}

impl Computations {
    /// Returns a new point in time.
    pub(super) fn tick(&self) -> u64 {
        self.clock.fetch_add(1, Ordering::Relaxed)
    }

    /// Returns the computation that a call may wait for, or a new one.
    pub(super) fn join(
        self: &Arc<Self>,
        organization: OrganizationId,
        key: &str,
        began: u64,
        seen: FoundInCache,
    ) -> Arc<Computation> {
        let key = (organization, key.to_owned());
        // Declared before the lock: a computation that this call is the last to hold takes the lock when it is dropped.
        let found;
        let mut under_way = self.lock();
        found = under_way.get(&key).and_then(Weak::upgrade);
        if let Some(computation) = &found
            && computation.may_be_joined(began, seen)
        {
            return Arc::clone(computation);
        }
        let progress = ComputationProgress { outcome: None, computing: 0, since: u64::MAX, patience_ends: None };
        let computation = Arc::new(Computation {
            key: key.clone(),
            computations: Arc::clone(self),
            token: new_id(),
            progress: watch::Sender::new(progress),
        });
        under_way.insert(key, Arc::downgrade(&computation));
        computation
    }

    /// Prevents further calls from joining the computation of a key.
    pub(super) fn detach(&self, organization: OrganizationId, key: &str) {
        self.lock().remove(&(organization, key.to_owned()));
    }

    /// Does the same for all keys of a tenant.
    pub(super) fn detach_all(&self, organization: OrganizationId) {
        self.lock().retain(|key, _| key.0 != organization);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<ComputationKey, Weak<Computation>>> {
        self.under_way.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Computation {
    /// Waits for the result, or computes if no call does or if the computing ones take too long. In that case one call
    /// computes and the others wait again, for its result or an earlier one.
    ///
    /// Before a call computes, it may take the time `preparing`, in which it waits for another process.
    pub(super) async fn part(self: &Arc<Self>, wait_max: Duration, preparing: Duration) -> ComputationRole {
        let mut changes = self.progress.subscribe();
        loop {
            if let Some(turn) = self.turn(wait_max.saturating_add(preparing)) {
                return ComputationRole::Compute(turn);
            }
            let patience_ends = {
                let progress = changes.borrow_and_update();
                if let Some(outcome) = &progress.outcome {
                    return ComputationRole::Take(Arc::clone(outcome));
                }
                progress.patience_ends
            };
            // The sender exists at least as long as this computation.
            let changed = changes.changed();
            let _ = match patience_ends {
                Some(at) => tokio::time::timeout_at(at, changed).await,
                None => Ok(changed.await),
            };
        }
    }

    /// Returns the right to compute, if there is no result and no computing call is worth waiting for.
    fn turn(self: &Arc<Self>, patience: Duration) -> Option<ComputeTurn> {
        let (now, mut is_alone) = (Instant::now(), false);
        let mut may_compute = false;
        self.progress.send_if_modified(|progress| {
            is_alone = progress.computing == 0;
            may_compute =
                progress.outcome.is_none() && (is_alone || progress.patience_ends.is_some_and(|ends| ends <= now));
            if may_compute {
                progress.computing += 1;
                progress.patience_ends = now.checked_add(patience);
                if is_alone {
                    progress.since = u64::MAX;
                }
            }
            may_compute
        });
        may_compute.then(|| ComputeTurn { computation: Arc::clone(self), is_alone })
    }

    /// Returns whether its value is new enough for the call. It is if the computation started after the call, or if the
    /// token is still in Redis: a delete by any process would have removed it. While Redis does not respond, an earlier
    /// value is better than one computation per call.
    fn may_be_joined(&self, began: u64, seen: FoundInCache) -> bool {
        let progress = self.progress.borrow();
        progress.since > began
            || match seen {
                FoundInCache::Missing(token) => token == Some(self.token),
                FoundInCache::Nothing => progress.outcome.is_none(),
            }
    }
}

impl ComputeTurn {
    /// Records that the computation starts.
    pub(super) fn computes(&self, wait_max: Duration) {
        self.computation.progress.send_modify(|progress| {
            progress.since = progress.since.min(self.computation.computations.tick());
            progress.patience_ends = Instant::now().checked_add(wait_max);
        });
    }

    /// Shares the result, unless another call was faster.
    pub(super) fn finish(self, outcome: ComputeOutcome) -> Arc<ComputeOutcome> {
        let own = Arc::new(outcome);
        self.computation.progress.send_modify(|progress| {
            progress.outcome.get_or_insert_with(|| Arc::clone(&own));
        });
        own
    }
}

impl Drop for ComputeTurn {
    fn drop(&mut self) {
        self.computation.progress.send_modify(|progress| progress.computing -= 1);
    }
}

impl Drop for Computation {
    fn drop(&mut self) {
        let mut under_way = self.computations.lock();
        if under_way.get(&self.key).is_some_and(|entry| std::ptr::eq(entry.as_ptr(), self)) {
            under_way.remove(&self.key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt as _;
    use std::pin::pin;
    use uuid::Uuid;

    const HOUR: Duration = Duration::from_secs(3600);

    fn new_computation() -> Arc<Computation> {
        Arc::new(Computations::default()).join(OrganizationId(Uuid::nil()), "k", 0, FoundInCache::Nothing)
    }

    fn value(part: ComputationRole) -> Vec<u8> {
        match part {
            ComputationRole::Take(outcome) => match &*outcome {
                ComputeOutcome::Value(json) => json.clone(),
                ComputeOutcome::Error(_) => panic!("an error"),
            },
            ComputationRole::Compute(_) => panic!("it computes"),
        }
    }

    fn turn(part: ComputationRole) -> ComputeTurn {
        let ComputationRole::Compute(turn) = part else { panic!("there is an outcome") };
        turn
    }

    /// The clock is paused. It moves only while all tasks wait.
    #[tokio::test(start_paused = true)]
    async fn of_those_who_wait_for_too_long_one_computes_and_all_get_what_is_there_first() {
        let computation = new_computation();
        let began = Instant::now();
        let first = turn(computation.part(HOUR, HOUR).await);
        assert!(first.is_alone);
        first.computes(HOUR);
        let waiting: Vec<_> = (0..100)
            .map(|_| {
                let computation = Arc::clone(&computation);
                tokio::spawn(async move { computation.part(HOUR, Duration::ZERO).await })
            })
            .collect();
        let (mut second, mut others) = (None, Vec::new());
        for task in waiting {
            // The first computation never ends; another one starts after an hour, and ends after half an hour.
            let computation = Arc::clone(&computation);
            others.push(tokio::spawn(async move {
                match task.await.unwrap() {
                    ComputationRole::Compute(turn) => {
                        assert!(!turn.is_alone && began.elapsed().as_secs() == 3600);
                        turn.computes(HOUR);
                        tokio::time::sleep(HOUR / 2).await;
                        turn.finish(ComputeOutcome::Value(vec![2]));
                        None
                    }
                    part => {
                        assert_eq!(began.elapsed().as_secs(), 5400);
                        drop(computation);
                        Some(value(part))
                    }
                }
            }));
        }
        for other in others {
            match other.await.unwrap() {
                None => assert!(second.replace(()).is_none(), "two computed"),
                Some(json) => assert_eq!(json, [2]),
            }
        }
        assert!(second.is_some());
        // A late result changes nothing for later calls.
        first.finish(ComputeOutcome::Value(vec![1]));
        assert_eq!(value(computation.part(HOUR, HOUR).await), [2]);
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_is_dropped_or_waits_for_ever_is_followed_at_once_or_never() {
        let computation = new_computation();
        let first = turn(computation.part(Duration::MAX, Duration::MAX).await);
        first.computes(Duration::MAX);
        let (mut next, mut last) = (pin!(computation.part(HOUR, HOUR)), pin!(computation.part(HOUR, HOUR)));
        assert!(next.as_mut().now_or_never().is_none() && last.as_mut().now_or_never().is_none());
        tokio::time::advance(HOUR * 24 * 365).await;
        assert!(next.as_mut().now_or_never().is_none() && last.as_mut().now_or_never().is_none());
        drop(first);
        let second = turn(next.await);
        assert!(second.is_alone && last.as_mut().now_or_never().is_none());
        second.finish(ComputeOutcome::Value(vec![2]));
        assert_eq!(value(last.await), [2]);
    }

    #[test]
    fn a_computation_is_joined_by_those_whom_its_value_is_new_enough_for() {
        let computations = Arc::new(Computations::default());
        let id = OrganizationId(Uuid::nil());
        let join = |began, seen| computations.join(id, "k", began, seen);
        let early = computations.tick();
        let first = join(early, FoundInCache::Missing(None));
        // It has not started yet, so a new call is early enough.
        assert!(Arc::ptr_eq(&first, &join(computations.tick(), FoundInCache::Missing(None))));
        let turn = first.turn(HOUR).unwrap();
        turn.computes(HOUR);
        assert!(Arc::ptr_eq(&first, &join(early, FoundInCache::Missing(None))));
        let late = computations.tick();
        assert!(Arc::ptr_eq(&first, &join(late, FoundInCache::Missing(Some(first.token)))));
        assert!(Arc::ptr_eq(&first, &join(late, FoundInCache::Nothing)));
        // Redis has no token or another token: the key was deleted after the computation started.
        let second = join(late, FoundInCache::Missing(None));
        assert!(!Arc::ptr_eq(&first, &second));
        let turn = second.turn(HOUR).unwrap();
        turn.computes(HOUR);
        assert!(!Arc::ptr_eq(&second, &join(computations.tick(), FoundInCache::Missing(Some(new_id())))));
        // The same key of another tenant is another computation.
        let other = computations.join(OrganizationId(Uuid::max()), "k", early, FoundInCache::Nothing);
        assert!(!Arc::ptr_eq(&second, &other));
    }

    #[test]
    fn what_is_over_or_detached_leaves_nothing_behind() {
        let computations = Arc::new(Computations::default());
        let (id, other) = (OrganizationId(Uuid::nil()), OrganizationId(Uuid::max()));
        let computation = computations.join(id, "k", 0, FoundInCache::Nothing);
        computations.detach(id, "k");
        let newer = computations.join(id, "k", 0, FoundInCache::Nothing);
        assert!(!Arc::ptr_eq(&computation, &newer));
        // The older one does not remove the newer one's entry, just as it does not remove another tenant's.
        drop(computation);
        assert!(Arc::ptr_eq(&newer, &computations.join(id, "k", 0, FoundInCache::Nothing)));
        let kept = computations.join(other, "k", 0, FoundInCache::Nothing);
        computations.detach_all(id);
        assert_eq!(computations.lock().len(), 1);
        drop((newer, kept));
        assert_eq!(computations.lock().len(), 0);
    }
}
