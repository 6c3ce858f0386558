//! Notifications, on a separate connection.

use super::Db;
use crate::{
    config::Pooling,
    db::{message, pool},
    error::{ConnectionError, Error, Result, while_doing},
    ident::Ident,
};
use std::{future::poll_fn, sync::Arc};
use tokio::{sync::mpsc, task::AbortHandle};
use tokio_postgres::{AsyncMessage, Client, Notification};

/// The maximum number of notifications that wait to be read. The server then buffers further ones.
const WAITING_MAX: usize = 1024;

/// Receives notifications; from [`Db::listen`]. When it is dropped, its connection is closed.
pub struct Listener {
    /// Keeps the connection open.
    client: Arc<Client>,
    received: mpsc::Receiver<Result<Notification, tokio_postgres::Error>>,
    reading: AbortHandle,
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.reading.abort();
    }
}

impl<E> Db<E> {
    /// Listens on channels, as the login, on a separate connection outside of the pool. [`Db::close`] does not close
    /// it.
    ///
    /// Channels belong to the whole database. Every tenant's transaction can notify every channel, with any payload. Do
    /// not trust a tenant name in a payload. Check it by entering that tenant.
    ///
    /// ```no_run
    /// # async fn example(db: cgk::Db) -> cgk::Result<()> {
    /// let orders = cgk::ident::Ident::new("orders").expect("a name");
    /// let mut listener = db.listen(&[orders]).await?;
    /// loop {
    ///     let notification = listener.recv().await?;
    ///     println!("{}: {}", notification.channel(), notification.payload());
    /// }
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// Kind `Unavailable`: when the connection fails. Kind `Invalid`: when the connection goes through a transaction
    /// pooler.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, the connection is closed.
    pub async fn listen(&self, channels: &[Ident]) -> Result<Listener> {
        let config = &self.inner.config;
        if config.pooling() == Pooling::Transaction {
            return Err(ConnectionError::PoolerRefused { operation: "LISTEN" }.into());
        }
        let (client, mut connection) = pool::connect_apart(&self.inner.pool, config).await?;
        let (sender, received) = mpsc::channel(WAITING_MAX);
        let reading = tokio::spawn(async move {
            while let Some(received) = poll_fn(|context| connection.poll_message(context)).await {
                let passed = match received {
                    Ok(AsyncMessage::Notification(notification)) => Ok(notification),
                    Ok(_) => continue,
                    Err(error) => Err(error),
                };
                let ended = passed.is_err();
                if sender.send(passed).await.is_err() || ended {
                    return;
                }
            }
        });
        let listener = Listener { client: Arc::new(client), received, reading: reading.abort_handle() };
        let sql: String = channels.iter().map(|channel| format!("listen {}; ", channel.quoted())).collect();
        let listening = message::run(&listener.client, &sql).await.and_then(message::Answer::complete);
        listening.map_err(while_doing("listen"))?;
        Ok(listener)
    }
}

impl Listener {
    /// Waits for the next notification.
    ///
    /// # Errors
    ///
    /// Kind `Unavailable`: when the connection was lost. Notifications until the next `listen` are lost too. Listen
    /// again, and read the tables.
    ///
    /// # Cancel safety
    ///
    /// The future may be dropped, and the function may be called again. No notification is lost.
    pub async fn recv(&mut self) -> Result<Notification> {
        match self.received.recv().await {
            Some(Ok(notification)) => Ok(notification),
            Some(Err(source)) => {
                Err(ConnectionError::Lost { doing: "receive a notification".into(), source: source.into() }.into())
            }
            None => Err(Error::Unexpected { doing: "listen".into(), found: "the connection is closed".into() }),
        }
    }

    /// Returns a notification that has already arrived.
    #[cfg(feature = "platform")]
    pub(crate) fn try_recv(&mut self) -> Option<Notification> {
        self.received.try_recv().ok()?.ok()
    }

    /// Runs a query on this connection and returns the first column of the first row. When the response arrives, all
    /// notifications that the server sent before it have arrived.
    #[cfg(feature = "platform")]
    pub(crate) fn ask(&self, sql: &str) -> impl std::future::Future<Output = Result<Option<String>>> + Send + 'static {
        let (client, sql) = (Arc::clone(&self.client), sql.to_owned());
        async move {
            let answer = message::run(&client, &sql).await.and_then(message::Answer::complete);
            let answer = answer.map_err(while_doing("ask on the connection that listens"))?;
            Ok(answer.rows.first().and_then(|(_, row)| row.get(0)).map(str::to_owned))
        }
    }
}
