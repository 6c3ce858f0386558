//! The single connection to Redis, which all operations share. It is reopened after a failure. Nothing here waits
//! longer than the limit of one operation.

use super::{CacheError, CacheSettings, Result};
use crate::task::in_own_task;
use redis::{AsyncConnectionConfig, Client, Cmd, FromRedisValue, RedisError, aio::MultiplexedConnection};
use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

pub(super) struct RedisConnection {
    client: Client,
    limit: Duration,
    pause: Duration,
    state: Mutex<State>,
    /// Held by the one operation that connects.
    connecting: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct State {
    current: Option<(u64, MultiplexedConnection)>,
    /// How many connections were opened.
    made: u64,
    /// When Redis failed; reset when it responds again.
    failed_at: Option<Instant>,
}

impl RedisConnection {
    pub(super) fn new(url: &str, settings: &CacheSettings) -> Result<Self> {
        let why = "it must be redis://, rediss:// or unix:// and lead to one server";
        let client =
            Client::open(url).map_err(|_| CacheError::Invalid { what: "the URL of the cache's Redis", why })?;
        if url.starts_with("rediss:") || url.starts_with("valkeys:") {
            // This fails if another task was faster, and then there is a default as well.
            let _ = rustls::crypto::ring::default_provider().install_default();
        }
        Ok(Self {
            client,
            limit: settings.operation_limit,
            pause: settings.retry_pause,
            state: Mutex::default(),
            connecting: tokio::sync::Mutex::default(),
        })
    }

    /// Sends a command and waits for the response, at most for the limit of one operation. It runs in its own task, so
    /// that an operation that is no longer polled neither delays the next connect nor fills the queue of the
    /// connection.
    pub(super) async fn run<T: FromRedisValue + Send + 'static>(self: &Arc<Self>, cmd: Cmd) -> Result<T> {
        // During the pause after a failure there is nothing to wait for.
        self.current()?;
        let connection = Arc::clone(self);
        in_own_task(async move { connection.run_here(&cmd).await }).await
    }

    async fn run_here<T: FromRedisValue>(&self, cmd: &Cmd) -> Result<T> {
        let mut used = None;
        let outcome = tokio::time::timeout(self.limit, self.attempt(cmd, &mut used)).await;
        match outcome {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(error)) => Err(error),
            Err(_) => {
                self.failed(used, &"no answer in time");
                Err(CacheError::TimedOut { limit: self.limit })
            }
        }
    }

    async fn attempt<T: FromRedisValue>(&self, cmd: &Cmd, used: &mut Option<u64>) -> Result<T> {
        let (number, mut connection) = self.connected().await?;
        *used = Some(number);
        cmd.query_async(&mut connection).await.map_err(|error| {
            // A primary server that was made a replica keeps its connections and refuses to write.
            if error.is_unrecoverable_error() || error.is_io_error() || error.code() == Some("READONLY") {
                self.failed(Some(number), &error);
            }
            explain(error)
        })
    }

    async fn connected(&self) -> Result<(u64, MultiplexedConnection)> {
        if let Some(current) = self.current()? {
            return Ok(current);
        }
        let _turn = self.connecting.lock().await;
        if let Some(current) = self.current()? {
            return Ok(current);
        }
        // The operation's own limit ends it.
        let config = AsyncConnectionConfig::new().set_connection_timeout(None).set_response_timeout(None);
        match self.client.get_multiplexed_async_connection_with_config(&config).await {
            Ok(connection) => {
                let mut state = self.state();
                if state.failed_at.take().is_some() {
                    tracing::info!("the cache's Redis answers again");
                }
                state.made += 1;
                let current = (state.made, connection);
                state.current = Some(current.clone());
                Ok(current)
            }
            Err(error) => {
                self.failed(None, &error);
                Err(explain(error))
            }
        }
    }

    /// Returns the current connection; an error during the pause after a failure.
    fn current(&self) -> Result<Option<(u64, MultiplexedConnection)>> {
        let state = self.state();
        match (&state.current, state.failed_at) {
            (Some(current), _) => Ok(Some(current.clone())),
            (None, Some(at)) if at.elapsed() < self.pause => Err(CacheError::Unavailable { source: None }),
            (None, _) => Ok(None),
        }
    }

    /// Discards a connection, unless there is already a newer one, and starts the pause.
    fn failed(&self, used: Option<u64>, error: &dyn std::fmt::Display) {
        let mut state = self.state();
        if state.current.as_ref().is_some_and(|(number, _)| Some(*number) != used) {
            return;
        }
        if state.failed_at.is_none() {
            tracing::warn!(%error, "the cache's Redis does not answer");
        }
        state.current = None;
        state.failed_at = Some(Instant::now());
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn explain(error: RedisError) -> CacheError {
    match error.kind() {
        redis::ErrorKind::Server(_) | redis::ErrorKind::Extension | redis::ErrorKind::UnexpectedReturnType => {
            CacheError::Refused { message: error.to_string() }
        }
        _ => CacheError::Unavailable { source: Some(error.into()) },
    }
}
