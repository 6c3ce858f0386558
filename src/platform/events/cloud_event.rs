//! An event in the format of its delivery.

use super::{EventId, SinkError};
use crate::tenant::OrganizationId;
use serde::Serialize;
use serde_json::Value;
use std::fmt;
use tokio_postgres::Row;

/// An event in the format of its delivery: CloudEvents 1.0. It serializes to the JSON of that specification.
///
/// In addition to the standard attributes it has `organizationid`, `sequence`, `actorkind`, `actorid` and `requestid`.
#[derive(Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct CloudEvent {
    specversion: &'static str,
    /// The id. An event that is delivered twice has the same id both times.
    pub id: EventId,
    /// The source of the event: [`RelayOptions::source`](super::RelayOptions::source).
    pub source: String,
    /// Its type, such as `order.shipped`.
    pub r#type: String,
    /// The subject of the event.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// When it was written, in RFC 3339 format.
    pub time: String,
    datacontenttype: &'static str,
    /// The organization. `None`: the event belongs to no organization.
    #[serde(rename = "organizationid", skip_serializing_if = "Option::is_none")]
    pub organization_id: Option<OrganizationId>,
    /// The position of the event among its organization's events. It starts at 1 and has no gaps. In JSON it has twenty
    /// digits, as the sequence extension of CloudEvents requires.
    #[serde(serialize_with = "digits")]
    pub sequence: u64,
    /// The kind of the actor: `user`, `api_key`, `system` or `operator`.
    #[serde(rename = "actorkind", skip_serializing_if = "Option::is_none")]
    pub actor_kind: Option<String>,
    /// The id of the actor within its kind.
    #[serde(rename = "actorid", skip_serializing_if = "Option::is_none")]
    pub actor_id: Option<String>,
    /// The id of the request.
    #[serde(rename = "requestid", skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
    /// The data for the receivers.
    pub data: Value,
}

/// Omits the data, because it may contain personal data.
impl fmt::Debug for CloudEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CloudEvent")
            .field("id", &self.id)
            .field("type", &self.r#type)
            .field("organization_id", &self.organization_id)
            .field("sequence", &self.sequence)
            .finish_non_exhaustive()
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn digits<S: serde::Serializer>(sequence: &u64, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&format_args!("{sequence:020}"))
}

/// The columns that [`CloudEvent::read`] reads, in this order. Data over the limit is not read, so that a tenant cannot
/// make the relay use too much memory. Such data exists if the event was written before the limit existed, or where the
/// limit is missing.
pub(super) const COLUMNS: &str =
    "e.id, e.type, e.subject, e.organization_id, e.sequence, e.actor_kind, e.actor_id, e.request_id,
    case when pg_catalog.octet_length(e.data::pg_catalog.text) <= 1048576 then e.data end,
    pg_catalog.to_char(e.occurred_at at time zone 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"'), e.attempts";

impl CloudEvent {
    /// Reads an event from a row. An error is final: jsonb can store values that JSON in Rust cannot, such as 1e400 or
    /// lists nested more than 128 levels deep, and a tenant can write them.
    pub(super) fn read(row: &Row, source: &str) -> Result<Self, SinkError> {
        let unreadable = |error: tokio_postgres::Error| {
            let cause = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
            SinkError::new(&format_args!("the event cannot be read: {error}: {cause}")).final_one()
        };
        Ok(Self {
            specversion: "1.0",
            id: row.get(0),
            source: source.to_owned(),
            r#type: row.get(1),
            subject: row.get(2),
            organization_id: row.get(3),
            sequence: u64::try_from(row.get::<_, i64>(4)).unwrap_or_default(),
            actor_kind: row.get(5),
            actor_id: row.get(6),
            request_id: row.get(7),
            data: match row.try_get(8).map_err(unreadable)? {
                Some(data) => data,
                None => return Err(SinkError::new("its data has more than 1 MiB of text").final_one()),
            },
            time: row.try_get(9).map_err(unreadable)?,
            datacontenttype: "application/json",
        })
    }
}
