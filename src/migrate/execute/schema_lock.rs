//! Takes the locks of one schema for work outside of its migrations. To change or compare a schema, first wait for its
//! migration lock. Then try the lock of a migration without a transaction ([`lock::steps_key`]), for which sessions
//! must not wait in the server.

use super::{poll::PollBackoff, script::demand};
use crate::{
    db::{
        Operator,
        message::{self, Answer},
    },
    error::{Error, MigrationError, Result, while_doing},
    ident::SchemaName,
    lock,
};
use std::time::Duration;
use tokio_postgres::error::SqlState;

/// The first column of the row that confirms both locks.
const LOCKED: &str = "cgk:locked";

/// The mode of the migration lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hold {
    /// For a change of the schema.
    Exclusive,
    /// For a consistent read.
    Shared,
}

/// Returns statements that take the schema's locks, until the end of the message. The caller sets `lock_timeout`
/// before.
pub(crate) fn lock_sql(schema: &SchemaName, hold: Hold) -> String {
    let key = lock::migration_key(schema);
    let migration = match hold {
        Hold::Exclusive => format!("pg_catalog.pg_advisory_xact_lock({key})"),
        Hold::Shared => format!("pg_catalog.pg_advisory_xact_lock_shared({key})"),
    };
    let steps = demand(&format!("pg_catalog.pg_try_advisory_xact_lock_shared({})", lock::steps_key(schema)));
    format!("select {migration};\nselect {steps};\nselect '{LOCKED}';\n")
}

/// Sends a message in which [`lock_sql`] is before everything that may fail. While a migration without a transaction is
/// running in the schema, it sends the message again, for up to `wait`. The response may contain an error of the
/// statements after the locks.
///
/// # Errors
///
/// [`MigrationError::Locked`]: the schema was not free in time. Nothing was changed.
pub(crate) async fn run(
    operator: &Operator,
    schema: &SchemaName,
    sql: &str,
    wait: Duration,
    doing: impl Fn() -> String,
) -> Result<Answer> {
    let locked = || Error::Migration(MigrationError::Locked { schema: schema.clone(), waited: wait });
    let mut patience = PollBackoff::within(wait);
    loop {
        let answer = message::run(operator.client(), sql).await.map_err(while_doing(doing()))?;
        let has_locks = answer.rows.iter().any(|(_, row)| row.try_get(0).ok().flatten() == Some(LOCKED));
        match answer.error.as_ref().and_then(tokio_postgres::Error::code).filter(|_| !has_locks) {
            Some(&SqlState::LOCK_NOT_AVAILABLE) => return Err(locked()),
            Some(&SqlState::DIVISION_BY_ZERO) => {}
            _ => return Ok(answer),
        }
        if !patience.wait().await {
            return Err(locked());
        }
    }
}
