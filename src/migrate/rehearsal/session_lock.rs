//! A lock that lasts longer than a transaction, so that work in several transactions runs only once at a time in a
//! database.

use crate::{
    db::{
        Operator,
        message::{self, Answer},
    },
    error::{Error, MigrationError, Result, while_doing},
    fleet::interrupt::Interrupt,
    ident::SchemaName,
    migrate::execute::poll::PollBackoff,
};
use std::time::Instant;

/// Runs work while the operator's session holds a lock, and releases it. The lock also ends with the session. If the
/// future is dropped, or the client is killed, it is held until the server has ended the running statement.
///
/// # Errors
///
/// [`MigrationError::Locked`] for `schema`: the lock was not free within `session.migration_wait`, or until the second
/// stage of the interrupt. Nothing was changed.
pub(super) async fn hold<T>(
    operator: &Operator,
    interrupt: &Interrupt,
    key: i64,
    schema: &SchemaName,
    work: impl AsyncFnOnce() -> Result<T>,
) -> Result<T> {
    take(operator, interrupt, key, schema).await?;
    let done = work().await;
    let sql = format!("select pg_catalog.pg_advisory_unlock({key});");
    let released = message::run(operator.client(), &sql).await.and_then(Answer::complete);
    let done = done?;
    released.map_err(while_doing(format!("release the lock of schema {:?}", schema.as_str())))?;
    Ok(done)
}

/// Requests the lock until it is free. A statement that waits for it in the server would have a snapshot, for which
/// `create index concurrently` waits.
async fn take(operator: &Operator, interrupt: &Interrupt, key: i64, schema: &SchemaName) -> Result<()> {
    let sql = format!("select pg_catalog.pg_try_advisory_lock({key});");
    let started = Instant::now();
    let mut backoff = PollBackoff::of(operator);
    loop {
        let answer = message::run(operator.client(), &sql).await.and_then(Answer::complete);
        let answer = answer.map_err(while_doing(format!("take the lock of schema {:?}", schema.as_str())))?;
        if answer.rows.first().and_then(|(_, row)| row.get(0)) == Some("t") {
            return Ok(());
        }
        let goes_on = tokio::select! {
            goes_on = backoff.wait() => goes_on,
            () = interrupt.cancelling() => false,
        };
        if !goes_on {
            return Err(Error::Migration(MigrationError::Locked { schema: schema.clone(), waited: started.elapsed() }));
        }
    }
}
