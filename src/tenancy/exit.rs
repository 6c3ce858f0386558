//! The end of a transaction: the SQL text, and the decisions on its responses. It uses no driver.
//!
//! The end of a transaction can run the application's code: deferred triggers fire inside COMMIT, and a cursor WITH
//! HOLD is executed there. Therefore all such code is run before the guard. After the COMMIT, a text message checks the
//! session. Nothing in the session can replace the text of a simple-query message.

use super::pooled;
use crate::{
    config::Pooling,
    db::{
        pool::EXIT_ON_ERROR,
        session_reset::{self, UNLOCK},
    },
};
use tokio_postgres::error::SqlState;

/// Runs, before the guard, the code that COMMIT would run after it.
///
/// Deferred triggers come first, because they may open cursors and create temporary objects. A trigger that defers
/// itself again is detected if it is on a temporary table: a table with pending triggers cannot be dropped. Temporary
/// tables are the only tables that a tenant's role can create.
const DEFERRED_WORK: &str = "set constraints all immediate; close all; discard temp";
/// The index of the statement of [`DEFERRED_WORK`] that fails if a trigger is deferred again.
const DISCARD_TEMP: usize = 2;
/// The number of statements before the guard.
const GUARD: usize = 3;

/// Returns the number of statements before the COMMIT.
const fn commit_at(pooling: Pooling) -> usize {
    match pooling {
        Pooling::Direct => GUARD + 1,
        Pooling::Transaction => GUARD + 2,
    }
}

/// Returns the message that commits. It runs [`guarded`], then the COMMIT and the scrub. The guard is a statement that
/// raises `division_by_zero`.
pub(crate) fn commit(guard: &str, pooling: Pooling) -> String {
    let before_commit = match pooling {
        Pooling::Direct => "",
        Pooling::Transaction => pooled::BEFORE_COMMIT,
    };
    format!("{}; {before_commit}commit; {}", guarded(guard), scrub(pooling))
}

/// Returns SQL that runs deferred work and then the guard.
pub(crate) fn guarded(guard: &str) -> String {
    format!("{DEFERRED_WORK}; {guard}")
}

/// Returns the message that rolls back and scrubs. Every transaction that does not commit ends with it.
pub(crate) fn roll_back(pooling: Pooling) -> String {
    format!("rollback; {}", scrub(pooling))
}

/// The maximum length of the returned text of a prepared statement. It is enough to identify the statement's owner.
const TEXT_MAX: usize = 60;

/// Returns SQL that removes everything that a transaction left in the session.
///
/// RESET ALL does not reset the role, so RESET ROLE is added. It does not reset the seed of `random()`, so a new seed
/// is set. DISCARD ALL is not used, because it would also drop the driver's prepared statements and the plans of
/// functions, and because it cannot run in this message.
///
/// On a direct connection, the SQL returns the existing prepared statements ([`Leftovers`]). A block or a function can
/// prepare a statement by SQL without being noticed, and the next tenant could read or run it. A dropped statement
/// cannot be restored. [`UNLOCK`] is in the same statement, which runs it once for each prepared statement. It must run
/// at least once, so a session without any prepared statement is not used again. If the scrub fails, the connection is
/// discarded.
///
/// Behind a pooler, the prepared statements are dropped. If that fails, the session ends ([`pooled::after`]).
pub(crate) fn scrub(pooling: Pooling) -> String {
    let seed = session_reset::seed();
    match pooling {
        Pooling::Direct => format!(
            "close all; reset session authorization; reset all; {EXIT_ON_ERROR}; reset role; unlisten *; discard temp; \
             discard sequences; set seed = {seed}; \
             select s.from_sql, pg_catalog.left(s.statement, {TEXT_MAX}), {UNLOCK} \
             from pg_catalog.pg_prepared_statement() s"
        ),
        Pooling::Transaction => pooled::after(seed),
    }
}

/// The prepared statements that a transaction left in its session.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Leftovers {
    /// The statements that enter a tenant.
    pub(crate) entry: usize,
    /// The statements with which the driver looks types up. The driver caches them and fails without them.
    pub(crate) drivers: usize,
    /// All other statements. They were prepared by SQL, or by a call that was dropped before its response arrived.
    pub(crate) others: usize,
}

/// The start of the statements with which the driver looks types up, in the version of `Cargo.lock`.
const OF_THE_DRIVER: [&str; 3] = [
    "SELECT t.typname, t.typtype, t.typelem, r.rngsubtype, t.typb",
    "SELECT enumlabel\nFROM pg_catalog.pg_enum\nWHERE enumtypid = $",
    "SELECT attname, atttypid\nFROM pg_catalog.pg_attribute\nWHERE ",
];

impl Leftovers {
    /// Counts a row of the scrub's response. `from_sql` is whether SQL prepared the statement (`t` or `f`), and `text`
    /// is the start of its text.
    pub(crate) fn count(&mut self, from_sql: Option<&str>, text: Option<&str>) {
        match (from_sql, text) {
            (Some("f"), Some(text)) if text.starts_with(super::protocol::ENTER_MARK) => self.entry += 1,
            (Some("f"), Some(text)) if OF_THE_DRIVER.contains(&text) => self.drivers += 1,
            _ => self.others += 1,
        }
    }
}

/// The result of the last message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CommitOutcome {
    /// Committed, and the session is fully reset.
    Clean,
    /// Committed, but the scrub did not finish. The connection must be discarded.
    Soiled,
    /// Not committed: the session had left the tenant or its transaction, or would have left it after the guard.
    Tampered,
    /// Not committed: a statement had failed.
    Aborted,
    /// Not committed: the server refused the COMMIT itself or deferred work, such as a constraint.
    Refused,
    /// The connection was lost, and it is unknown whether the transaction committed.
    Unknown,
}

/// Interprets the response to [`commit`] by the number of completed statements and the error that stopped the rest.
pub(crate) fn departure(
    completed: usize,
    error: Option<(Option<&SqlState>, ConnectionState)>,
    pooling: Pooling,
) -> CommitOutcome {
    let commit = commit_at(pooling);
    match error {
        None => CommitOutcome::Clean,
        // If COMMIT has a response, the data is committed, whatever the result of the scrub is.
        Some(_) if completed > commit => CommitOutcome::Soiled,
        // This includes an orderly shutdown message: a server may be stopped between the commit and its response.
        Some((_, ConnectionState::Lost)) => CommitOutcome::Unknown,
        Some((Some(state), _)) => match completed {
            GUARD if *state == SqlState::DIVISION_BY_ZERO => CommitOutcome::Tampered,
            DISCARD_TEMP if *state == SqlState::OBJECT_IN_USE => CommitOutcome::Tampered,
            before if before < commit && *state == SqlState::IN_FAILED_SQL_TRANSACTION => CommitOutcome::Aborted,
            _ => CommitOutcome::Refused,
        },
        Some((None, _)) => CommitOutcome::Unknown,
    }
}

/// Whether a connection can still be used after an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ConnectionState {
    Alive,
    Lost,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_numbers_are_those_of_the_statements() {
        for (pooling, first) in [(Pooling::Direct, "close all"), (Pooling::Transaction, "set exit_on_error = on")] {
            let sql = commit("select 'guard'", pooling);
            let statements: Vec<&str> = sql.split("; ").collect();
            assert_eq!(statements[DISCARD_TEMP], "discard temp");
            assert_eq!(statements[GUARD], "select 'guard'");
            assert_eq!(statements[commit_at(pooling)], "commit");
            assert_eq!(statements[commit_at(pooling) + 1], first);
        }
        let sql = commit("", Pooling::Direct);
        assert!(!sql.contains("deallocate"), "the driver would miss its statements");
        assert!(commit("", Pooling::Transaction).contains("deallocate all"));
        assert!(roll_back(Pooling::Transaction).contains("deallocate all"));
    }

    #[test]
    fn departures_are_told_apart() {
        for pooling in [Pooling::Direct, Pooling::Transaction] {
            departures_with(pooling);
        }
    }

    fn departures_with(pooling: Pooling) {
        use ConnectionState::*;
        let commit = commit_at(pooling);
        let departure =
            |completed, error: Option<(Option<&SqlState>, ConnectionState)>| departure(completed, error, pooling);
        let refused = |code: &SqlState, completed| departure(completed, Some((Some(code), Alive)));
        assert_eq!(departure(13, None), CommitOutcome::Clean);
        assert_eq!(refused(&SqlState::DIVISION_BY_ZERO, GUARD), CommitOutcome::Tampered);
        assert_eq!(refused(&SqlState::OBJECT_IN_USE, DISCARD_TEMP), CommitOutcome::Tampered);
        for guard in 0..commit {
            assert_eq!(refused(&SqlState::IN_FAILED_SQL_TRANSACTION, guard), CommitOutcome::Aborted);
        }
        // A deferred trigger raised the error, before the guard ran.
        assert_eq!(refused(&SqlState::DIVISION_BY_ZERO, 0), CommitOutcome::Refused);
        assert_eq!(refused(&SqlState::FOREIGN_KEY_VIOLATION, 0), CommitOutcome::Refused);
        assert_eq!(refused(&SqlState::FOREIGN_KEY_VIOLATION, commit), CommitOutcome::Refused);
        assert_eq!(refused(&SqlState::IN_FAILED_SQL_TRANSACTION, commit), CommitOutcome::Refused);
        assert_eq!(refused(&SqlState::DIVISION_BY_ZERO, commit + 1), CommitOutcome::Soiled);
        assert_eq!(departure(commit, Some((None, Lost))), CommitOutcome::Unknown);
        assert_eq!(departure(0, Some((Some(&SqlState::ADMIN_SHUTDOWN), Lost))), CommitOutcome::Unknown);
        assert_eq!(departure(commit + 1, Some((None, Lost))), CommitOutcome::Soiled);
    }

    #[test]
    fn statements_are_told_apart() {
        let mut leftovers = Leftovers::default();
        leftovers.count(Some("f"), Some("/* cgk: enter */ select pg_catalog.set_config("));
        leftovers.count(Some("f"), Some(OF_THE_DRIVER[1]));
        assert_eq!(leftovers, Leftovers { entry: 1, drivers: 1, others: 0 });
        leftovers.count(Some("t"), Some("/* cgk: enter */ select 'planted'"));
        leftovers.count(Some("t"), Some(OF_THE_DRIVER[1]));
        leftovers.count(Some("f"), Some("select secret from orders"));
        leftovers.count(None, None);
        assert_eq!(leftovers, Leftovers { entry: 1, drivers: 1, others: 4 });
    }
}
