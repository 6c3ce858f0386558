//! The end of a transaction: the SQL text, and the decisions made on its answers. No driver in sight.
//!
//! A transaction's end can run its own code: deferred triggers fire inside COMMIT, and a cursor WITH HOLD is worked out there.
//! So whatever can run is made to run before the guard, and after the COMMIT the session is looked at by text. The text of a
//! simple-query message cannot be replaced by anything that the session holds.

use super::pooled;
use crate::{
    config::Pooling,
    db::{pool::EXIT_ON_ERROR, session_reset::UNLOCK},
};
use rand::RngExt as _;
use tokio_postgres::error::SqlState;

/// Runs before the guard what COMMIT would run behind it. Deferred triggers first, because they may open cursors and make
/// temporary objects. A trigger that defers itself again is caught where it stands on a temporary table, the only kind that a
/// tenant's role can make: a table with triggers that still have to fire cannot be dropped.
const SETTLE: &str = "set constraints all immediate; close all; discard temp";
/// The statement of [`SETTLE`] that fails when a trigger is deferred again.
const DISCARD_TEMP: usize = 2;
/// How many statements stand before the guard.
const GUARD: usize = 3;

/// How many statements stand before the COMMIT.
const fn commit_at(pooling: Pooling) -> usize {
    match pooling {
        Pooling::Direct => GUARD + 1,
        Pooling::Transaction => GUARD + 2,
    }
}

/// Settles, runs the guard, a statement that raises `division_by_zero`, commits and scrubs.
pub(crate) fn commit(guard: &str, pooling: Pooling) -> String {
    let before_commit = match pooling {
        Pooling::Direct => "",
        Pooling::Transaction => pooled::BEFORE_COMMIT,
    };
    format!("{SETTLE}; {guard}; {before_commit}commit; {}", scrub(pooling))
}

/// Rolls back and scrubs: the end of every transaction that does not commit.
pub(crate) fn roll_back(pooling: Pooling) -> String {
    format!("rollback; {}", scrub(pooling))
}

/// How much of a prepared statement's text tells whose it is.
const TEXT_MAX: usize = 60;

/// Leaves nothing of a transaction in the session. RESET ALL keeps the role, so RESET ROLE stands beside it, and the seed of
/// `random()`, so that gets a new one. DISCARD ALL would also drop the driver's prepared statements and the plans of
/// functions, and cannot run in this message.
///
/// On a connection of one's own it answers with the prepared statements there are ([`Leftovers`]), because what SQL has
/// prepared, as a block or a function can do unseen, stays for the next tenant to read or to run, and nothing restores what
/// it dropped. [`UNLOCK`] stands beside each of them and runs once at least: a session without any is not used again. A connection that it fails on is thrown away. Behind a pooler the statements are dropped, and a session that it
/// fails in ends ([`pooled::after`]).
fn scrub(pooling: Pooling) -> String {
    let seed = rand::rng().random_range(-1.0..1.0_f64);
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

/// The prepared statements that a transaction has left in its session.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Leftovers {
    /// The one that enters a tenant.
    pub(crate) entry: usize,
    /// Those by which the driver looks types up. It keeps them, and would miss them.
    pub(crate) drivers: usize,
    /// All others: prepared by SQL, or by a call that was dropped before its answer came.
    pub(crate) others: usize,
}

/// What the driver looks types up with, in the version that `Cargo.lock` names.
const OF_THE_DRIVER: [&str; 3] = [
    "SELECT t.typname, t.typtype, t.typelem, r.rngsubtype, t.typb",
    "SELECT enumlabel\nFROM pg_catalog.pg_enum\nWHERE enumtypid = $",
    "SELECT attname, atttypid\nFROM pg_catalog.pg_attribute\nWHERE ",
];

impl Leftovers {
    /// Counts a row of the scrub's answer: whether SQL prepared the statement (`t` or `f`), and how its text begins.
    pub(crate) fn count(&mut self, from_sql: Option<&str>, text: Option<&str>) {
        match (from_sql, text) {
            (Some("f"), Some(text)) if text.starts_with(super::protocol::ENTER_MARK) => self.entry += 1,
            (Some("f"), Some(text)) if OF_THE_DRIVER.contains(&text) => self.drivers += 1,
            _ => self.others += 1,
        }
    }
}

/// How the last message ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CommitOutcome {
    /// Committed, and the session is as good as new.
    Clean,
    /// Committed, but the scrub did not finish: the connection must go.
    Soiled,
    /// Not committed: the session had left the tenant or its transaction, or wanted to once the guard was passed.
    Tampered,
    /// Not committed: a statement had failed.
    Aborted,
    /// Not committed: the server refused the COMMIT itself or what had been deferred to it, as a constraint does.
    Refused,
    /// The connection broke off: committed or not.
    Unknown,
}

/// Judges the answer to [`commit`] by the number of statements that were completed and what stopped the rest.
pub(crate) fn departure(
    completed: usize,
    error: Option<(Option<&SqlState>, Connection)>,
    pooling: Pooling,
) -> CommitOutcome {
    let commit = commit_at(pooling);
    match error {
        None => CommitOutcome::Clean,
        // Once COMMIT was answered the data is committed, whatever the scrub says afterwards.
        Some(_) if completed > commit => CommitOutcome::Soiled,
        // Also after an orderly shutdown message: a server may be told to stop between the commit and its answer.
        Some((_, Connection::Lost)) => CommitOutcome::Unknown,
        Some((Some(state), _)) => match completed {
            GUARD if *state == SqlState::DIVISION_BY_ZERO => CommitOutcome::Tampered,
            DISCARD_TEMP if *state == SqlState::OBJECT_IN_USE => CommitOutcome::Tampered,
            before if before < commit && *state == SqlState::IN_FAILED_SQL_TRANSACTION => CommitOutcome::Aborted,
            _ => CommitOutcome::Refused,
        },
        Some((None, _)) => CommitOutcome::Unknown,
    }
}

/// Whether a connection outlived an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Connection {
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
        use Connection::*;
        let commit = commit_at(pooling);
        let departure =
            |completed, error: Option<(Option<&SqlState>, Connection)>| departure(completed, error, pooling);
        let refused = |code: &SqlState, completed| departure(completed, Some((Some(code), Alive)));
        assert_eq!(departure(13, None), CommitOutcome::Clean);
        assert_eq!(refused(&SqlState::DIVISION_BY_ZERO, GUARD), CommitOutcome::Tampered);
        assert_eq!(refused(&SqlState::OBJECT_IN_USE, DISCARD_TEMP), CommitOutcome::Tampered);
        for guard in 0..commit {
            assert_eq!(refused(&SqlState::IN_FAILED_SQL_TRANSACTION, guard), CommitOutcome::Aborted);
        }
        // Raised by a deferred trigger, before the guard and in its stead.
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
