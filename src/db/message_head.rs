//! The start of a message of cgk's own: its isolation, its settings and its locks, in the order in which the server
//! executes them.
//!
//! ```text
//! let head = MessageHead::of(operator).lock_timeout(wait).search_path("").lock(lock::database_key());
//! let sql = head.sql() + "create table …";
//! ```
//!
//! The message is one transaction (`message.rs`), and everything here is local to it:
//!
//! - It is READ COMMITTED, so a check after a lock sees what the previous holder of the lock committed.
//! - If the client is lost, the server rolls the message back, where the server can detect this. Otherwise the message
//!   of a killed client would continue, and commit.
//! - A setting applies to the locks and statements after it.

use super::{Operator, milliseconds};
use crate::{
    ident::{SchemaName, literal},
    lock,
};
use std::time::Duration;

/// How often the server checks, while it executes a statement, whether its client is lost: the setting, and its value.
pub(crate) const LOST_CLIENT_CHECK: (&str, &str) = ("client_connection_check_interval", "1000");

/// The first column of the row that confirms the locks of [`MessageHead::lock_schema`].
pub(crate) const LOCKED: &str = "cgk:locked";

/// The mode of a schema's migration lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hold {
    /// For a change of the schema.
    Exclusive,
    /// For a consistent read.
    Shared,
}

/// Builds the start of a message.
#[derive(Debug)]
#[must_use]
pub(crate) struct MessageHead {
    sql: String,
    /// The settings since the last lock: one statement sets them.
    settings: Vec<String>,
}

impl MessageHead {
    /// Starts a message.
    pub(crate) fn of(operator: &Operator) -> Self {
        Self::new("set transaction isolation level read committed;\n", operator)
    }

    /// Starts a message that only reads.
    pub(crate) fn read_only(operator: &Operator) -> Self {
        Self::new("set transaction isolation level read committed, read only;\n", operator)
    }

    /// Starts a message that writes, even if the session's transactions are read-only.
    pub(crate) fn read_write(operator: &Operator) -> Self {
        Self::new("set transaction isolation level read committed, read write;\n", operator)
    }

    /// Opens a transaction that a later message ends.
    pub(crate) fn begin(operator: &Operator) -> Self {
        Self::new("begin isolation level read committed;\n", operator)
    }

    fn new(first: &str, operator: &Operator) -> Self {
        Self { sql: first.into(), settings: lost_client_check(operator).into_iter().collect() }
    }

    /// Limits the wait for each lock. Zero is no limit.
    pub(crate) fn lock_timeout(self, wait: Duration) -> Self {
        self.set("lock_timeout", &milliseconds(wait))
    }

    /// Limits each statement, including its waits for locks. Zero is no limit.
    pub(crate) fn statement_timeout(self, time: Duration) -> Self {
        self.set("statement_timeout", &milliseconds(time))
    }

    /// Sets in which schemas names are looked up, as PostgreSQL reads it.
    pub(crate) fn search_path(self, path: &str) -> Self {
        self.set("search_path", path)
    }

    /// Sets another setting.
    pub(crate) fn set(mut self, name: &str, value: &str) -> Self {
        self.settings.push(set_local(name, value));
        self
    }

    /// Waits for an advisory lock.
    pub(crate) fn lock(self, key: i64) -> Self {
        self.line(&format!("select pg_catalog.pg_advisory_xact_lock({key});"))
    }

    /// Waits for an advisory lock, shared.
    pub(crate) fn lock_shared(self, key: i64) -> Self {
        self.line(&format!("select pg_catalog.pg_advisory_xact_lock_shared({key});"))
    }

    /// Waits for a schema's migration lock, and tries the lock of a migration without a transaction
    /// ([`lock::steps_key`]), for which sessions must not wait in the server. If that one is held, the message fails
    /// with a division by zero before the row [`LOCKED`].
    pub(crate) fn lock_schema(self, schema: &SchemaName, hold: Hold) -> Self {
        let key = lock::migration_key(schema);
        let steps = demand(&format!("pg_catalog.pg_try_advisory_xact_lock_shared({})", lock::steps_key(schema)));
        let head = match hold {
            Hold::Exclusive => self.lock(key),
            Hold::Shared => self.lock_shared(key),
        };
        head.line(&format!("select {steps};\nselect '{LOCKED}';"))
    }

    /// Returns the text, which ends with a line break.
    pub(crate) fn sql(mut self) -> String {
        self.flush();
        self.sql
    }

    fn line(mut self, text: &str) -> Self {
        self.flush();
        self.sql.push_str(text);
        self.sql.push('\n');
        self
    }

    fn flush(&mut self) {
        if !self.settings.is_empty() {
            self.sql.push_str(&format!("select {};\n", self.settings.join(", ")));
            self.settings.clear();
        }
    }
}

/// Returns an expression that sets a setting until the end of the transaction.
pub(crate) fn set_local(name: &str, value: &str) -> String {
    format!("pg_catalog.set_config('{name}', {}, true)", literal(value))
}

/// Returns the expression by which the server ends the transaction of a lost client, if the server can detect one.
pub(crate) fn lost_client_check(operator: &Operator) -> Option<String> {
    let (name, value) = LOST_CLIENT_CHECK;
    operator.facts().notices_lost_clients.then(|| set_local(name, value))
}

/// Returns an expression that fails with a division by zero unless a condition is true.
pub(crate) fn demand(condition: &str) -> String {
    format!("1 / (case when {condition} then 1 else 0 end)")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(settings: Option<String>) -> MessageHead {
        MessageHead { sql: String::new(), settings: settings.into_iter().collect() }
    }

    #[test]
    fn settings_come_before_the_lock_that_follows_them() {
        let schema = SchemaName::public();
        let notices = set_local(LOST_CLIENT_CHECK.0, LOST_CLIENT_CHECK.1);
        let sql = head(Some(notices))
            .lock_timeout(Duration::from_secs(1))
            .statement_timeout(Duration::ZERO)
            .search_path("")
            .lock_schema(&schema, Hold::Exclusive)
            .lock_timeout(Duration::from_millis(200))
            .sql();
        assert_eq!(
            sql,
            "select pg_catalog.set_config('client_connection_check_interval', '1000', true), \
             pg_catalog.set_config('lock_timeout', '1000', true), pg_catalog.set_config('statement_timeout', '0', true), \
             pg_catalog.set_config('search_path', '', true);\n\
             select pg_catalog.pg_advisory_xact_lock(-3377626744001218688);\n\
             select 1 / (case when pg_catalog.pg_try_advisory_xact_lock_shared(3113037079245678026) then 1 else 0 end);\n\
             select 'cgk:locked';\n\
             select pg_catalog.set_config('lock_timeout', '200', true);\n"
        );
    }

    #[test]
    fn a_head_without_settings_is_its_locks() {
        assert_eq!(
            head(None).lock(1).lock_shared(2).sql(),
            concat!(
                "select pg_catalog.pg_advisory_xact_lock(1);\n",
                "select pg_catalog.pg_advisory_xact_lock_shared(2);\n",
            )
        );
        assert_eq!(head(None).sql(), "");
    }

    #[test]
    fn a_value_is_quoted() {
        assert_eq!(
            head(None).set("application_name", "a'b").sql(),
            "select pg_catalog.set_config('application_name', 'a''b', true);\n"
        );
    }
}
