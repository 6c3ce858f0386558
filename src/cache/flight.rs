//! Computations that are under way in this process, so that a key is computed once for all who ask.

use super::scripts::{Token, new_id};
use crate::tenant::OrganizationId;
use std::{
    any::Any,
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicU64, Ordering},
    },
};
use tokio::sync::OnceCell;

type Key = (OrganizationId, String);

#[derive(Default)]
pub(super) struct Flights {
    under_way: Mutex<HashMap<Key, Weak<Flight>>>,
    /// Counts calls and computations, to tell which began first.
    clock: AtomicU64,
}

/// One computation. It is in the map for as long as a call holds it.
pub(super) struct Flight {
    key: Key,
    flights: Arc<Flights>,
    /// Its name in Redis.
    pub(super) token: Token,
    /// When the computation began, or `u64::MAX`.
    computing_since: AtomicU64,
    /// Filled by the first call that gets there; if that one is dropped, by the next.
    pub(super) outcome: OnceCell<Outcome>,
}

/// What came of a computation.
pub(super) enum Outcome {
    /// The JSON.
    Value(Vec<u8>),
    /// An `Arc<E>`, for all who wait.
    Error(Arc<dyn Any + Send + Sync>),
}

/// What a call saw in Redis before it looks for a computation to join.
#[derive(Clone, Copy)]
pub(super) enum Seen {
    /// No value, and perhaps the token of a computation.
    Missing(Option<Token>),
    /// Redis did not answer.
    Nothing,
}

impl Flights {
    /// A point in time.
    pub(super) fn tick(&self) -> u64 {
        self.clock.fetch_add(1, Ordering::Relaxed)
    }

    /// The computation that a call may wait for, or a new one.
    pub(super) fn join(
        self: &Arc<Self>,
        organization: OrganizationId,
        key: &str,
        began: u64,
        seen: Seen,
    ) -> Arc<Flight> {
        let key = (organization, key.to_owned());
        // Declared before the lock: a flight that this call is the last to hold takes the lock when it is dropped.
        let found;
        let mut under_way = self.lock();
        found = under_way.get(&key).and_then(Weak::upgrade);
        if let Some(flight) = &found
            && flight.may_be_joined(began, seen)
        {
            return Arc::clone(flight);
        }
        let flight = Arc::new(Flight {
            key: key.clone(),
            flights: Arc::clone(self),
            token: new_id(),
            computing_since: AtomicU64::new(u64::MAX),
            outcome: OnceCell::new(),
        });
        under_way.insert(key, Arc::downgrade(&flight));
        flight
    }

    /// Lets nobody else join the computation of a key.
    pub(super) fn detach(&self, organization: OrganizationId, key: &str) {
        self.lock().remove(&(organization, key.to_owned()));
    }

    /// The same for all keys of a tenant.
    pub(super) fn detach_all(&self, organization: OrganizationId) {
        self.lock().retain(|key, _| key.0 != organization);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Key, Weak<Flight>>> {
        self.under_way.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Flight {
    /// Notes that the computation begins.
    pub(super) fn computes(&self) {
        self.computing_since.store(self.flights.tick(), Ordering::Relaxed);
    }

    /// Whether its value is as new as the call may expect: it is computed after the call began, or what makes values old, a
    /// delete by whatever process, would have taken the token out of Redis. While Redis does not answer, a value that was
    /// begun earlier is better than as many computations as calls.
    fn may_be_joined(&self, began: u64, seen: Seen) -> bool {
        self.computing_since.load(Ordering::Relaxed) > began
            || match seen {
                Seen::Missing(token) => token == Some(self.token),
                Seen::Nothing => self.outcome.get().is_none(),
            }
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        let mut under_way = self.flights.lock();
        if under_way.get(&self.key).is_some_and(|entry| std::ptr::eq(entry.as_ptr(), self)) {
            under_way.remove(&self.key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    #[test]
    fn a_computation_is_joined_by_those_whom_its_value_is_new_enough_for() {
        let flights = Arc::new(Flights::default());
        let id = OrganizationId(Uuid::nil());
        let join = |began, seen| flights.join(id, "k", began, seen);
        let early = flights.tick();
        let first = join(early, Seen::Missing(None));
        // Not begun yet: whoever asks is early enough.
        assert!(Arc::ptr_eq(&first, &join(flights.tick(), Seen::Missing(None))));
        first.computes();
        assert!(Arc::ptr_eq(&first, &join(early, Seen::Missing(None))));
        let late = flights.tick();
        assert!(Arc::ptr_eq(&first, &join(late, Seen::Missing(Some(first.token)))));
        assert!(Arc::ptr_eq(&first, &join(late, Seen::Nothing)));
        // Its token is gone from Redis, or another one is there: something was deleted since it began.
        let second = join(late, Seen::Missing(None));
        assert!(!Arc::ptr_eq(&first, &second));
        second.computes();
        assert!(!Arc::ptr_eq(&second, &join(flights.tick(), Seen::Missing(Some(new_id())))));
        // Another tenant's is another one.
        let other = flights.join(OrganizationId(Uuid::max()), "k", early, Seen::Nothing);
        assert!(!Arc::ptr_eq(&second, &other));
    }

    #[test]
    fn what_is_over_or_detached_leaves_nothing_behind() {
        let flights = Arc::new(Flights::default());
        let (id, other) = (OrganizationId(Uuid::nil()), OrganizationId(Uuid::max()));
        let flight = flights.join(id, "k", 0, Seen::Nothing);
        flights.detach(id, "k");
        let newer = flights.join(id, "k", 0, Seen::Nothing);
        assert!(!Arc::ptr_eq(&flight, &newer));
        // The older one takes the newer one's entry with it no more than another tenant's.
        drop(flight);
        assert!(Arc::ptr_eq(&newer, &flights.join(id, "k", 0, Seen::Nothing)));
        let kept = flights.join(other, "k", 0, Seen::Nothing);
        flights.detach_all(id);
        assert_eq!(flights.lock().len(), 1);
        drop((newer, kept));
        assert_eq!(flights.lock().len(), 0);
    }
}
