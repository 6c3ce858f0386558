//! Sends what enters and what leaves a tenant, without waiting in between.

use super::{
    lease::Lease,
    options::TxOptions,
    protocol::{Gate, Look, Nonce, begin, commit, enter_sql, leave_sql},
    shared::Shared,
};
use crate::{
    config::{Config, Pooling},
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

/// A prepared check that was written to the connection and is not answered yet.
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
        gate: &Gate,
        nonce: Nonce,
        options: &TxOptions,
        config: &Config,
    ) -> Result<Self, Error> {
        let connection = lease.connection();
        let client = connection.client();
        let statement = match config.pooling() {
            // Both at once, the first time: the way out is then prepared when it is needed.
            Pooling::Direct => {
                let (enter, leave) = (enter_sql(gate.mode()), leave_sql(gate.mode()));
                tokio::join!(connection.check(&enter), connection.check(&leave)).0
            }
            Pooling::Transaction => None,
        };
        match statement {
            Some(statement) => {
                let message = Message::send(client, &begin(options)).await?;
                let check = Check::send(connection, statement, gate.values(nonce, config.session())).await;
                Ok(Self { message, check: Some(check), error: None })
            }
            None => {
                let message = Message::send(client, &gate.enter(nonce, options, config.session())).await?;
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
pub(super) struct Exit {
    check: Option<Check>,
    message: Message,
}

impl Exit {
    /// Writes everything that leaves the tenant with a commit.
    ///
    /// # Errors
    ///
    /// The connection was gone before anything was written.
    pub(super) async fn send(shared: &Shared, nonce: Nonce) -> Result<Self, Error> {
        let connection = shared.lease.connection();
        let statement = match shared.look() {
            // Only what is prepared already: the answers of others may still be unread, and nothing may wait behind them.
            Look::Taken => connection.known_check(&leave_sql(shared.gate.mode())),
            Look::Spared => None,
        };
        match statement {
            Some(statement) => {
                let check = Check::send(connection, statement, shared.gate.marks(nonce)).await;
                // A failed check leaves an aborted transaction, in which the message stops before its COMMIT.
                Ok(Self {
                    check: Some(check),
                    message: Message::send(connection.client(), commit(shared.look())).await?,
                })
            }
            None => {
                let message = Message::send(connection.client(), &shared.gate.leave(nonce, shared.look())).await?;
                Ok(Self { check: None, message })
            }
        }
    }

    /// Waits for the answer: as if check, commit and scrub were one message, the check its first statement.
    pub(super) async fn answer(self) -> Answer {
        let checked = match self.check {
            Some(Check(check)) => Some(check.await),
            None => None,
        };
        let mut message = self.message;
        let answer = std::mem::take(message.answer().await);
        match checked {
            None => answer,
            Some(Ok(())) => Answer { completed: answer.completed + 1, ..answer },
            Some(Err(error)) => Answer { error: Some(error), ..Answer::default() },
        }
    }
}
