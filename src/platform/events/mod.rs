//! Domain events. They are written in the transaction of their change (the outbox), and a relay delivers them after it
//! commits.

mod cloud_event;
mod event;
mod outbox;
mod queue;
#[cfg(feature = "redis")]
mod redis_stream;
mod relay;
mod sink;
mod suspects;
#[cfg(feature = "webhooks")]
mod webhook;

pub use cloud_event::CloudEvent;
pub use event::{Event, EventType, InvalidEventType};
pub use outbox::{EventFilter, EventRecord, EventStatus, Outbox};
#[cfg(feature = "redis")]
pub use redis_stream::RedisStream;
pub use relay::{Relay, RelayOptions, RelayReport};
pub use sink::{Callback, EventSink, SinkError, callback};
#[cfg(feature = "webhooks")]
pub use webhook::{InvalidWebhook, Webhook, WebhookSecret};

use crate::row_id::row_id;

row_id!(
    /// The id of a domain event, a row of `public.domain_events`.
    EventId
);
