//! What an application says happened.

use super::EventId;
use crate::tenant::OrganizationId;
use serde_json::Value;
use std::{borrow::Cow, fmt, str::FromStr};

/// The longest type, in bytes.
const TYPE_BYTES_MAX: usize = 200;
/// The longest subject that is kept, in characters.
const SUBJECT_CHARS_MAX: usize = 500;

/// The type of an event, such as `order.shipped`: letters, digits, and `.`, `-` or `_` between them, 200 at most.
///
/// Types that begin with `cgk.` are those of cgk's own operations; the database takes none from a tenant's role.
///
/// ```
/// use cgk::platform::EventType;
/// const SHIPPED: EventType = EventType::from_static("order.shipped"); // checked when it is compiled
/// assert_eq!(SHIPPED.as_str(), "order.shipped");
/// assert!("order shipped".parse::<EventType>().is_err());
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct EventType(Cow<'static, str>);

/// A text that is no event's type.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is no event's type: letters, digits, and `.`, `-` or `_` between them, 200 at most")]
pub struct InvalidEventType {
    /// What was given, cut off after 80 characters.
    pub text: String,
}

impl EventType {
    /// A type that stands in the program. In a `const`, the compiler checks it.
    ///
    /// # Panics
    ///
    /// If it is no type.
    pub const fn from_static(text: &'static str) -> Self {
        assert!(is_type(text.as_bytes()), "an event's type has letters, digits, and `.`, `-` or `_` between them");
        Self(Cow::Borrowed(text))
    }

    /// Its text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The check of the column.
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

/// Something that happened, to be told to others after the transaction has committed.
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
    /// An event with a new id.
    pub fn new(event_type: EventType) -> Self {
        let id = EventId(uuid::Uuid::now_v7());
        Self { id, event_type, organization: None, subject: None, data: Value::Object(serde_json::Map::new()) }
    }

    /// Its id. Receivers tell by it that an event came twice.
    pub fn id(&self) -> EventId {
        self.id
    }

    /// Of an organization. In a tenant's transaction an event is of that tenant's organization, and need not say so.
    pub fn organization(mut self, organization: OrganizationId) -> Self {
        self.organization = Some(organization);
        self
    }

    /// What it is about, such as `order/17`. It is cut after 500 characters; NUL characters are left out.
    pub fn subject(mut self, subject: &str) -> Self {
        let kept: String = subject.chars().filter(|character| *character != '\0').take(SUBJECT_CHARS_MAX).collect();
        self.subject = (!kept.is_empty()).then_some(kept);
        self
    }

    /// What receivers are to know of it, up to 1 MiB. The database takes no text with a NUL character. No secrets: it is stored
    /// and sent as it is.
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
