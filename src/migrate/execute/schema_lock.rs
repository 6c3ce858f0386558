//! Sends a message under the locks of one schema, for work outside of its migrations.

use super::poll::PollBackoff;
use crate::{
    db::{
        Operator,
        message::{self, Answer},
        message_head::LOCKED,
    },
    error::{Error, MigrationError, Result, while_doing},
    ident::SchemaName,
};
use std::time::Duration;
use tokio_postgres::error::SqlState;

/// Sends a message in which [`MessageHead::lock_schema`](crate::db::message_head::MessageHead::lock_schema) is before
/// everything that may fail. While a migration without a transaction is running in the schema, it sends the message
/// again, for up to `wait`. The response may contain an error of the statements after the locks.
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
