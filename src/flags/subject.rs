//! The subject that a feature is evaluated for.

use std::collections::HashMap;

/// The subject that a feature is evaluated for: a key for rollouts, and attributes for the conditions of rules.
///
/// ```
/// use cgk::flags::Subject;
/// let ada = Subject::new("user-7").with("email", "ada@example.com").with("age", 36).with("beta", true);
/// assert_eq!(ada.attribute("email"), Some(&"ada@example.com".into()));
/// let visitor = Subject::anonymous().with("country", "NZ");
/// ```
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Subject {
    key: Option<String>,
    attributes: HashMap<String, Attribute>,
}

/// A value of an attribute.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Attribute {
    /// A text, compared byte by byte.
    Text(String),
    /// A number.
    Number(f64),
    /// True or false.
    Bool(bool),
    /// Several texts, such as the groups of a user. A condition holds if it holds for one of them; `not_in` must hold
    /// for all of them.
    Texts(Vec<String>),
}

impl Subject {
    /// Creates a subject with a key, such as the id of a user or of an organization. The key decides whether the
    /// subject is in a rollout. An empty key counts as no key. Otherwise all subjects without a name would have the
    /// same bucket.
    pub fn new(key: impl Into<String>) -> Self {
        Self { key: Some(key.into()).filter(|key| !key.is_empty()), attributes: HashMap::new() }
    }

    /// Creates a subject without a key. It is in no partial rollout.
    pub fn anonymous() -> Self {
        Self::default()
    }

    /// Adds an attribute.
    pub fn with(mut self, name: impl Into<String>, value: impl Into<Attribute>) -> Self {
        self.attributes.insert(name.into(), value.into());
        self
    }

    /// Returns the key.
    pub fn key(&self) -> Option<&str> {
        self.key.as_deref()
    }

    /// Returns the value of an attribute.
    pub fn attribute(&self, name: &str) -> Option<&Attribute> {
        self.attributes.get(name)
    }
}

impl From<&str> for Attribute {
    fn from(text: &str) -> Self {
        Self::Text(text.into())
    }
}

impl From<String> for Attribute {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<bool> for Attribute {
    fn from(value: bool) -> Self {
        Self::Bool(value)
    }
}

impl From<f64> for Attribute {
    fn from(number: f64) -> Self {
        Self::Number(number)
    }
}

impl From<i32> for Attribute {
    fn from(number: i32) -> Self {
        Self::Number(number.into())
    }
}

impl From<i64> for Attribute {
    /// Converts a number. A number above 2^53 becomes the nearest double. No rule can contain such a large number.
    fn from(number: i64) -> Self {
        Self::Number(number as f64)
    }
}

impl From<Vec<String>> for Attribute {
    fn from(texts: Vec<String>) -> Self {
        Self::Texts(texts)
    }
}
