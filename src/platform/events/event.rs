//! The events that an application writes.

use super::EventId;
use crate::tenant::OrganizationId;
use serde_json::Value;
use std::{borrow::Cow, fmt, str::FromStr};

/// The maximum length of a type, in bytes.
const TYPE_BYTES_MAX: usize = 200;
/// The maximum length of a stored subject, in characters.
const SUBJECT_CHARS_MAX: usize = 500;

/// The type of an event, such as `order.shipped`: letters and digits, with `.`, `-` or `_` between them, at most 200
/// characters.
///
/// Types that start with `cgk.` are reserved for cgk's own operations. The database refuses them from a tenant's role.
///
/// ```
/// use cgk::platform::EventType;
/// const SHIPPED: EventType = EventType::from_static("order.shipped"); // checked when it is compiled
/// assert_eq!(SHIPPED.as_str(), "order.shipped");
/// assert!("order shipped".parse::<EventType>().is_err());
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct EventType(Cow<'static, str>);

/// A text that is not a valid event type.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is no event's type: letters, digits, and `.`, `-` or `_` between them, 200 at most")]
pub struct InvalidEventType {
    /// The given text, truncated to 80 characters.
    pub text: String,
}

impl EventType {
    /// Creates a type from a literal. In a `const`, the compiler checks it.
    ///
    /// # Panics
    ///
    /// If the text is not a valid type.
    pub const fn from_static(text: &'static str) -> Self {
        assert!(is_type(text.as_bytes()), "an event's type has letters, digits, and `.`, `-` or `_` between them");
        Self(Cow::Borrowed(text))
    }

    /// Returns the text of the type.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Does the same check as the constraint of the column.
const fn is_type(text: &[u8]) -> bool {
    let mut index = 0;
    let mut after_letter = false;
    while index < text.len() {
        let letter = text[index].is_ascii_alphanumeric();
        if !(letter || after_letter && matches!(text[index], b'.' | b'-' | b'_')) {
            return false;
        }
        after_letter = letter;
        index += 1;
    }
    after_letter && text.len() <= TYPE_BYTES_MAX
}

impl FromStr for EventType {
    type Err = InvalidEventType;

    fn from_str(text: &str) -> Result<Self, InvalidEventType> {
        match is_type(text.as_bytes()) {
            true => Ok(Self(Cow::Owned(text.to_owned()))),
            false => Err(InvalidEventType { text: text.chars().take(80).collect() }),
        }
    }
}

impl fmt::Display for EventType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A domain event. It is delivered after its transaction has committed.
///
/// ```
/// use cgk::platform::{Event, EventType};
/// const SHIPPED: EventType = EventType::from_static("order.shipped");
/// let event = Event::new(SHIPPED).subject("order/17").data(serde_json::json!({ "parcels": 2 }));
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    pub(super) id: EventId,
    pub(super) event_type: EventType,
    pub(super) organization: Option<OrganizationId>,
    pub(super) subject: Option<String>,
    pub(super) data: Value,
}

impl Event {
    /// Creates an event with a new id.
    pub fn new(event_type: EventType) -> Self {
        let id = EventId(uuid::Uuid::now_v7());
        Self { id, event_type, organization: None, subject: None, data: Value::Object(serde_json::Map::new()) }
    }

    /// Returns the id. Receivers use it to detect an event that is delivered twice.
    pub fn id(&self) -> EventId {
        self.id
    }

    /// Sets the organization. In a tenant's transaction the event always belongs to the tenant's organization, so this
    /// call is not needed.
    pub fn organization(mut self, organization: OrganizationId) -> Self {
        self.organization = Some(organization);
        self
    }

    /// Sets the subject, such as `order/17`. It is truncated to 500 characters. NUL characters are removed.
    pub fn subject(mut self, subject: &str) -> Self {
        let kept: String = subject.chars().filter(|character| *character != '\0').take(SUBJECT_CHARS_MAX).collect();
        self.subject = (!kept.is_empty()).then_some(kept);
        self
    }

    /// Sets the data for the receivers, at most 1 MiB. The database refuses text with a NUL character. Do not put
    /// secrets into it: the data is stored and sent in plain text.
    pub fn data(mut self, data: Value) -> Self {
        self.data = data;
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_type_is_what_the_column_takes() {
        for good in ["a", "order.shipped", "com.example.Order-2_x.v1"] {
            assert!(good.parse::<EventType>().is_ok(), "{good}");
        }
        for bad in ["", ".", "a.", ".a", "a..b", "a b", "ä", "a\n", &"a".repeat(201)] {
            assert!(bad.parse::<EventType>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_subject_is_cut_and_an_empty_one_is_none() {
        let event = Event::new(EventType::from_static("a"));
        assert_eq!(event.clone().subject("\0").subject, None);
        assert_eq!(event.subject(&"x".repeat(600)).subject.unwrap().len(), 500);
    }
}
