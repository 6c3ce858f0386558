//! Where events are delivered to.

use super::CloudEvent;
use std::{fmt, future::Future, time::Duration};

/// Where a relay delivers events to.
/// A closure becomes one by [`callback`].
pub trait EventSink: Send + Sync + 'static {
    /// Takes one event. When it has returned `Ok` the event counts as delivered, and the next one of the same organization
    /// follows; before that none does. An event may come twice, with the same id.
    fn deliver<'a>(&'a self, event: &'a CloudEvent) -> impl Future<Output = Result<(), SinkError>> + Send + 'a;
}

/// Why an event was not delivered.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct SinkError {
    message: String,
    pub(super) retry_after: Option<Duration>,
    pub(super) is_final: bool,
}

impl SinkError {
    /// The event is tried again after a pause. What is said is stored with the event and shown to operators: no secrets.
    pub fn new(why: &(impl fmt::Display + ?Sized)) -> Self {
        // A text of the database has no NUL.
        let message = why.to_string().chars().filter(|character| *character != '\0').take(MESSAGE_CHARS_MAX).collect();
        Self { message, retry_after: None, is_final: false }
    }

    /// The event is given up at once: trying again cannot help.
    pub fn final_one(mut self) -> Self {
        self.is_final = true;
        self
    }

    /// The event is tried again after this time, within [`RelayOptions::pause_max`](super::RelayOptions::pause_max).
    pub fn retry_after(mut self, pause: Duration) -> Self {
        self.retry_after = Some(pause);
        self
    }
}

/// As much of a message as the column takes.
const MESSAGE_CHARS_MAX: usize = 4000;

impl<F, Fut> EventSink for Callback<F>
where
    F: Fn(CloudEvent) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<(), SinkError>> + Send + 'static,
{
    fn deliver<'a>(&'a self, event: &'a CloudEvent) -> impl Future<Output = Result<(), SinkError>> + Send + 'a {
        (self.0)(event.clone())
    }
}

/// A closure as a sink; from [`callback`].
#[derive(Clone, Debug)]
pub struct Callback<F>(F);

/// A closure as a sink.
///
/// ```
/// # use cgk::platform::{callback, CloudEvent, EventSink};
/// let sink = callback(async |event: CloudEvent| {
///     println!("{event:?}");
///     Ok(())
/// });
/// # fn is_sink(_: impl EventSink) {}
/// # is_sink(sink);
/// ```
pub fn callback<F, Fut>(deliver: F) -> Callback<F>
where
    F: Fn(CloudEvent) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<(), SinkError>> + Send + 'static,
{
    Callback(deliver)
}
