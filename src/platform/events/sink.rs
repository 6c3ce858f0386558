//! The destinations of events.

use super::CloudEvent;
use std::{fmt, future::Future, time::Duration};

/// A destination to which a relay delivers events. [`callback`] makes one from a closure.
pub trait EventSink: Send + Sync + 'static {
    /// Delivers one event. After it returns `Ok`, the event counts as delivered and the next event of the same
    /// organization follows. An event may be delivered twice, with the same id.
    fn deliver<'a>(&'a self, event: &'a CloudEvent) -> impl Future<Output = Result<(), SinkError>> + Send + 'a;
}

/// The reason why an event was not delivered.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct SinkError {
    message: String,
    pub(super) retry_after: Option<Duration>,
    pub(super) is_final: bool,
}

impl SinkError {
    /// Creates an error after which the event is tried again after a pause. The text is stored with the event and shown
    /// to operators, so it must not contain secrets.
    pub fn new(why: &(impl fmt::Display + ?Sized)) -> Self {
        // Text in the database cannot contain NUL.
        let message = why.to_string().chars().filter(|character| *character != '\0').take(MESSAGE_CHARS_MAX).collect();
        Self { message, retry_after: None, is_final: false }
    }

    /// Makes the error final: the event is marked as dead immediately, because a retry cannot help.
    pub fn final_one(mut self) -> Self {
        self.is_final = true;
        self
    }

    /// Sets the pause before the next attempt, at most [`RelayOptions::pause_max`](super::RelayOptions::pause_max).
    pub fn retry_after(mut self, pause: Duration) -> Self {
        self.retry_after = Some(pause);
        self
    }
}

/// The maximum length of a message in the column.
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

/// A sink made from a closure by [`callback`].
#[derive(Clone, Debug)]
pub struct Callback<F>(F);

/// Makes a sink from a closure.
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
