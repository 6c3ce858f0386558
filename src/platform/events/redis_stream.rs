//! A Redis stream as a sink.

use super::{CloudEvent, EventSink, SinkError};
use redis::{AsyncConnectionConfig, Client, Cmd, aio::MultiplexedConnection};
use std::{fmt, time::Duration};
use tokio::sync::Mutex;

/// The maximum time to connect to Redis or to wait for its answer.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(10);

/// Appends events to a Redis stream (XADD). Each entry has the fields `id`, `type` and `event`, which is the CloudEvent
/// as JSON.
///
/// Redis assigns its own ids to entries. An event that is delivered twice is in the stream twice, with the same `id`
/// field.
///
/// ```no_run
/// # async fn example(db: cgk::Db) -> Result<(), Box<dyn std::error::Error>> {
/// use cgk::platform::{RedisStream, Relay, RelayOptions};
/// let sink = RedisStream::new("redis://localhost/", "events")?.length_max(1_000_000);
/// Relay::new(&db, sink, RelayOptions::default()).run_until(std::future::pending()).await?;
/// # Ok(()) }
/// ```
pub struct RedisStream {
    client: Client,
    stream: String,
    length_max: Option<u64>,
    /// The connection. It is removed after an error.
    connection: Mutex<Option<MultiplexedConnection>>,
}

/// Omits the URL, because it contains a password.
impl fmt::Debug for RedisStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisStream").field("stream", &self.stream).finish_non_exhaustive()
    }
}

impl RedisStream {
    /// Creates a sink for a stream on the Redis server of a URL: `redis://`, `rediss://` or `unix://`. Does not connect
    /// yet.
    ///
    /// # Errors
    ///
    /// The URL has none of these schemes. The error does not show the URL.
    pub fn new(url: &str, stream: &str) -> Result<Self, SinkError> {
        let client = Client::open(url).map_err(|_| SinkError::new("the URL must be redis://, rediss:// or unix://"))?;
        if url.starts_with("rediss:") || url.starts_with("valkeys:") {
            // This fails if another task has already installed a provider. Then a default exists as well.
            let _ = rustls::crypto::ring::default_provider().install_default();
        }
        Ok(Self { client, stream: stream.to_owned(), length_max: None, connection: Mutex::default() })
    }

    /// Sets the approximate maximum length of the stream. Redis deletes the oldest entries above it.
    pub fn length_max(mut self, entries: u64) -> Self {
        self.length_max = Some(entries);
        self
    }

    async fn connected(&self) -> redis::RedisResult<MultiplexedConnection> {
        let mut held = self.connection.lock().await;
        if let Some(connection) = &*held {
            return Ok(connection.clone());
        }
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(ANSWER_TIME_MAX))
            .set_response_timeout(Some(ANSWER_TIME_MAX));
        let connection = self.client.get_multiplexed_async_connection_with_config(&config).await?;
        *held = Some(connection.clone());
        Ok(connection)
    }
}

impl EventSink for RedisStream {
    async fn deliver(&self, event: &CloudEvent) -> Result<(), SinkError> {
        let json = serde_json::to_string(event).map_err(|error| SinkError::new(&error))?;
        let mut connection = self.connected().await.map_err(|error| SinkError::new(&error))?;
        let mut command = Cmd::new();
        command.arg("XADD").arg(&self.stream);
        if let Some(entries) = self.length_max {
            command.arg("MAXLEN").arg("~").arg(entries);
        }
        command.arg("*").arg("id").arg(event.id.to_string()).arg("type").arg(&event.r#type).arg("event").arg(json);
        let added: redis::RedisResult<String> = command.query_async(&mut connection).await;
        if let Err(error) = added {
            *self.connection.lock().await = None;
            return Err(SinkError::new(&error));
        }
        Ok(())
    }
}
