//! Records which failure aborted a transaction.

use super::conflict::is_conflict;
use std::{
    future::Future,
    sync::{Mutex, MutexGuard, PoisonError},
};
use tokio_postgres::error::SqlState;

/// The failure that aborted the transaction, if any.
///
/// If a statement succeeds, the transaction was not aborted when the statement ran. So an earlier failure was undone
/// with a savepoint. Several statements may be in flight, and their responses may be read in any order. Therefore the
/// statements are numbered in the order of sending.
#[derive(Debug, Default)]
pub(super) struct FailureLog {
    state: Mutex<StatementState>,
}

#[derive(Debug, Default)]
struct StatementState {
    sent: u64,
    seen: SeenStatements,
}

/// What is known about the statements so far. A rollback to a savepoint restores it.
#[derive(Clone, Debug, Default)]
pub(super) struct SeenStatements {
    first: Option<FailedStatement>,
    /// The statements whose future was dropped before the response, since the last successful statement.
    unanswered: Vec<StatementNumber>,
    /// Whether a statement was requested and dropped before it could be sent.
    unsent: bool,
    /// The number of statements that the driver refused. They did not reach the server, so the server's other responses
    /// show nothing about them.
    refused: usize,
}

/// A failed statement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct FailedStatement {
    number: StatementNumber,
    sqlstate: SqlState,
}

/// The position of a statement in the order of sending.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct StatementNumber(u64);

impl FailureLog {
    /// Numbers a statement that is about to be sent.
    pub(super) fn next(&self) -> StatementNumber {
        let mut state = self.state();
        state.sent += 1;
        StatementNumber(state.sent)
    }

    /// Clears the failures before this statement.
    pub(super) fn succeeded(&self, number: StatementNumber) {
        let seen = &mut self.state().seen;
        seen.first.take_if(|first| first.number < number);
        seen.unanswered.retain(|unanswered| *unanswered > number);
    }

    /// Records a failure, unless an earlier one is known. The earlier failure aborted the transaction.
    pub(super) fn failed(&self, number: StatementNumber, sqlstate: &SqlState) {
        let seen = &mut self.state().seen;
        if seen.first.as_ref().is_none_or(|first| number < first.number) {
            seen.first = Some(FailedStatement { number, sqlstate: sqlstate.clone() });
        }
    }

    /// Records that the future of this statement was dropped before the response.
    pub(super) fn unanswered(&self, number: StatementNumber) {
        self.state().seen.unanswered.push(number);
    }

    /// Runs the preparation of a statement. If the future is dropped in the meantime, records that the statement is
    /// never sent.
    pub(super) async fn until_sent<T>(&self, before: impl Future<Output = T>) -> T {
        let unsent = UnsentGuard { log: self };
        let outcome = before.await;
        std::mem::forget(unsent);
        outcome
    }

    /// Returns whether a statement was dropped before it could be sent.
    pub(super) fn has_unsent(&self) -> bool {
        self.state().seen.unsent
    }

    /// Records that the driver refused a statement.
    pub(super) fn refused(&self) {
        self.state().seen.refused += 1;
    }

    /// Clears one refusal by the driver, because the statement is sent again in another form.
    pub(super) fn sent_after_all(&self) {
        let seen = &mut self.state().seen;
        seen.refused = seen.refused.saturating_sub(1);
    }

    /// Returns whether the driver refused a statement.
    pub(super) fn has_refused(&self) -> bool {
        self.state().seen.refused > 0
    }

    /// Returns whether the driver refused a statement since [`save`](Self::save).
    pub(super) fn has_refused_since(&self, saved: &SeenStatements) -> bool {
        self.state().seen.refused > saved.refused
    }

    /// Returns whether a conflict aborted the transaction, as far as this is known. If a statement's response was not
    /// read, the server does not report the reason again.
    pub(super) fn is_by_conflict(&self, aborted: Aborted) -> bool {
        let state = self.state();
        let unanswered = &state.seen.unanswered;
        match &state.seen.first {
            Some(first) if first.sqlstate == SqlState::IN_FAILED_SQL_TRANSACTION => {
                unanswered.iter().any(|unanswered| *unanswered < first.number)
            }
            Some(first) => is_conflict(&first.sqlstate),
            None => aborted == Aborted::ByServer && !unanswered.is_empty() && state.seen.refused == 0,
        }
    }

    /// Returns the SQLSTATE that aborted the transaction.
    pub(super) fn aborted_by(&self) -> Option<SqlState> {
        self.state().seen.first.as_ref().map(|first| first.sqlstate.clone())
    }

    /// Returns what is known now, for [`restore`](Self::restore).
    pub(super) fn save(&self) -> SeenStatements {
        self.state().seen.clone()
    }

    /// Clears what was recorded since [`save`](Self::save), because it was rolled back.
    pub(super) fn restore(&self, saved: SeenStatements) {
        self.state().seen = saved;
    }

    fn state(&self) -> MutexGuard<'_, StatementState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What is known about the end of a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Aborted {
    /// The server reported at the COMMIT that the transaction was already aborted.
    ByServer,
    /// Nothing is known, because the transaction was rolled back.
    Unknown,
}

/// Records, when dropped, that a statement was dropped before it could be sent.
struct UnsentGuard<'l> {
    log: &'l FailureLog,
}

impl Drop for UnsentGuard<'_> {
    fn drop(&mut self) {
        self.log.state().seen.unsent = true;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;

    #[test]
    fn the_earliest_failure_counts_until_a_later_statement_succeeds() {
        let log = FailureLog::default();
        let [one, two, three, four] = [(); 4].map(|()| log.next());
        assert_eq!(log.aborted_by(), None);
        log.failed(three, &SqlState::IN_FAILED_SQL_TRANSACTION);
        log.failed(two, &SqlState::T_R_SERIALIZATION_FAILURE);
        log.failed(four, &SqlState::IN_FAILED_SQL_TRANSACTION);
        assert_eq!(log.aborted_by(), Some(SqlState::T_R_SERIALIZATION_FAILURE));
        // The responses to an earlier statement, and to the failed one itself, arrive late and clear nothing.
        log.succeeded(one);
        log.succeeded(two);
        assert_eq!(log.aborted_by(), Some(SqlState::T_R_SERIALIZATION_FAILURE));
        log.succeeded(log.next());
        assert_eq!(log.aborted_by(), None);
    }

    #[test]
    fn a_failure_that_nobody_waited_for_may_be_a_conflict() {
        let log = FailureLog::default();
        let [one, two, three, four] = [(); 4].map(|()| log.next());
        assert!(!log.is_by_conflict(Aborted::ByServer), "nothing is known to have failed");
        log.unanswered(two);
        assert!(log.is_by_conflict(Aborted::ByServer));
        assert!(!log.is_by_conflict(Aborted::Unknown), "it may have succeeded");
        log.failed(three, &SqlState::IN_FAILED_SQL_TRANSACTION);
        assert!(log.is_by_conflict(Aborted::Unknown), "something before has failed");
        // This failure has its own reason, because nothing had failed before.
        log.failed(one, &SqlState::UNIQUE_VIOLATION);
        assert!(!log.is_by_conflict(Aborted::ByServer));
        log.succeeded(four);
        assert!(!log.is_by_conflict(Aborted::ByServer), "the transaction was not aborted then");
        log.unanswered(three);
        log.succeeded(two);
        assert!(log.is_by_conflict(Aborted::ByServer), "what succeeded came before");
        log.failed(two, &SqlState::IN_FAILED_SQL_TRANSACTION);
        assert!(!log.is_by_conflict(Aborted::ByServer), "it came later");
    }

    #[test]
    fn what_was_given_up_before_it_was_sent_is_known_until_it_is_rolled_back() {
        let log = FailureLog::default();
        let before = log.save();
        log.until_sent(std::future::ready(())).now_or_never().unwrap();
        assert!(!log.has_unsent());
        assert!(log.until_sent(std::future::pending::<()>()).now_or_never().is_none());
        log.succeeded(log.next());
        assert!(log.has_unsent());
        log.restore(before);
        assert!(!log.has_unsent());
    }

    #[test]
    fn what_the_driver_refused_is_known_until_it_is_rolled_back() {
        let log = FailureLog::default();
        log.refused();
        log.sent_after_all();
        assert!(!log.has_refused());
        log.refused();
        let before = log.save();
        // A later successful statement does not clear the refusal, because the server never received the refused
        // statement.
        log.succeeded(log.next());
        assert!(log.has_refused() && !log.has_refused_since(&before));
        log.refused();
        assert!(log.has_refused_since(&before));
        // A refusal is not a conflict, whatever other responses were not read.
        log.unanswered(log.next());
        assert!(!log.is_by_conflict(Aborted::ByServer));
        log.restore(before);
        assert!(log.has_refused());
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
