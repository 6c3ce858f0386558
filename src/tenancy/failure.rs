//! Which failure has aborted a transaction.

use std::sync::{Mutex, MutexGuard, PoisonError};
use tokio_postgres::error::SqlState;

/// The failure that the transaction is aborted by, if it is.
///
/// A statement that succeeds says that the transaction was not aborted when it ran: what failed before it was undone, with a
/// savepoint. Several statements may be on their way at once and their answers be taken in any order, so they are numbered
/// in the order in which they are sent.
#[derive(Debug, Default)]
pub(super) struct FailureLog {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    sent: u64,
    first: Option<Failure>,
}

/// A failed statement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Failure {
    number: StatementNumber,
    sqlstate: SqlState,
}

/// The place of a statement in the order in which they are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct StatementNumber(u64);

impl FailureLog {
    /// Numbers a statement that is about to be sent.
    pub(super) fn next(&self) -> StatementNumber {
        let mut state = self.state();
        state.sent += 1;
        StatementNumber(state.sent)
    }

    /// Forgets what failed before this statement.
    pub(super) fn succeeded(&self, number: StatementNumber) {
        let mut state = self.state();
        state.first.take_if(|first| first.number < number);
    }

    /// Notes a failure, unless an earlier one is known: that one has aborted the transaction.
    pub(super) fn failed(&self, number: StatementNumber, sqlstate: &SqlState) {
        let mut state = self.state();
        if state.first.as_ref().is_none_or(|first| number < first.number) {
            state.first = Some(Failure { number, sqlstate: sqlstate.clone() });
        }
    }

    /// What the transaction is aborted by.
    pub(super) fn aborted_by(&self) -> Option<SqlState> {
        self.state().first.as_ref().map(|first| first.sqlstate.clone())
    }

    /// The failure known now, for [`restore`](Self::restore).
    pub(super) fn save(&self) -> Option<Failure> {
        self.state().first.clone()
    }

    /// Forgets the failures since [`save`](Self::save): they were rolled back.
    pub(super) fn restore(&self, saved: Option<Failure>) {
        self.state().first = saved;
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_earliest_failure_counts_until_a_later_statement_succeeds() {
        let log = FailureLog::default();
        let [one, two, three, four] = [(); 4].map(|()| log.next());
        assert_eq!(log.aborted_by(), None);
        log.failed(three, &SqlState::IN_FAILED_SQL_TRANSACTION);
        log.failed(two, &SqlState::T_R_SERIALIZATION_FAILURE);
        log.failed(four, &SqlState::IN_FAILED_SQL_TRANSACTION);
        assert_eq!(log.aborted_by(), Some(SqlState::T_R_SERIALIZATION_FAILURE));
        // The answer of an earlier statement, and of the failed one's own sending, come late and undo nothing.
        log.succeeded(one);
        log.succeeded(two);
        assert_eq!(log.aborted_by(), Some(SqlState::T_R_SERIALIZATION_FAILURE));
        log.succeeded(log.next());
        assert_eq!(log.aborted_by(), None);
    }

    #[test]
    fn what_was_rolled_back_is_forgotten() {
        let log = FailureLog::default();
        let before = log.save();
        log.failed(log.next(), &SqlState::T_R_DEADLOCK_DETECTED);
        assert_eq!(log.aborted_by(), Some(SqlState::T_R_DEADLOCK_DETECTED));
        log.restore(before);
        assert_eq!(log.aborted_by(), None);
    }
}
