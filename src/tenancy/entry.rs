//! Sends what enters and what leaves a tenant, without waiting in between.

use super::{
    exit,
    lease::Lease,
    options::TxOptions,
    protocol::{Nonce, TenantTarget, begin_locked},
    shared::Shared,
};
use crate::{
    config::Config,
    db::{
        message::{Answer, Message},
        pool::Connection,
    },
};
use std::{
    future::{Future, poll_fn},
    pin::Pin,
    task::Poll,
};
use tokio_postgres::{Error, Statement, types::ToSql};

/// The prepared check that was written to the connection and is not answered yet.
struct Check(Pin<Box<dyn Future<Output = Result<(), Error>> + Send>>);

impl Check {
    async fn send(connection: &Connection, statement: Statement, values: Vec<String>) -> Self {
        let client = connection.shared_client();
        let mut check: Pin<Box<dyn Future<Output = _> + Send>> = Box::pin(async move {
            let values: Vec<&(dyn ToSql + Sync)> = values.iter().map(|value| value as _).collect();
            client.execute(&statement, &values).await.map(drop)
        });
        // The first poll writes it. Only a closed connection answers at once, and is found out again by whoever waits.
        let early = poll_fn(|context| Poll::Ready(check.as_mut().poll(context))).await;
        match early {
            Poll::Ready(outcome) => Self(Box::pin(std::future::ready(outcome))),
            Poll::Pending => Self(check),
        }
    }
}

/// The way in, on its way.
pub(super) struct Entry {
    message: Message,
    check: Option<Check>,
    error: Option<Error>,
}

impl Entry {
    /// Writes everything that enters the tenant. What is sent next is answered after it, and fails with 25P02 if it did.
    pub(super) async fn send(
        lease: &Lease,
        gate: &TenantTarget,
        nonce: Nonce,
        options: &TxOptions,
        config: &Config,
    ) -> Result<Self, Error> {
        let connection = lease.connection();
        let client = connection.client();
        let (isolation, session) = (connection.default_isolation(), config.session());
        let begin = begin_locked(&gate.slug, options, isolation, session, config.pooling());
        match connection.entry_statement() {
            Some(statement) => {
                let message = Message::send(client, &begin).await?;
                let check = Check::send(connection, statement, gate.values(nonce)).await;
                Ok(Self { message, check: Some(check), error: None })
            }
            None => {
                let message = Message::send(
                    client,
                    &format!("{begin}; {}", gate.enter_text(nonce, connection.isolation_check())),
                )
                .await?;
                Ok(Self { message, check: None, error: None })
            }
        }
    }

    /// Waits until the tenant is entered or the way in is refused; the error says which.
    ///
    /// Cancel safety: may be dropped and called again.
    pub(super) async fn answer(&mut self) -> &mut Option<Error> {
        if self.error.is_none() {
            self.error = self.message.answer().await.error.take();
        }
        if self.error.is_none()
            && let Some(Check(check)) = &mut self.check
        {
            self.error = check.await.err();
            self.check = None;
        }
        &mut self.error
    }
}

/// The way out, on its way.
pub(super) struct Exit(Message);

impl Exit {
    /// Writes everything that leaves the tenant with a commit.
    ///
    /// # Errors
    ///
    /// The connection was gone before anything was written.
    pub(super) async fn send(shared: &Shared, nonce: Nonce) -> Result<Self, Error> {
        let sql = exit::commit(&shared.gate.guard(nonce), shared.pooling);
        Message::send(shared.lease.connection().client(), &sql).await.map(Self)
    }

    /// Waits for the answer.
    pub(super) async fn answer(mut self) -> Answer {
        std::mem::take(self.0.answer().await)
    }
}
