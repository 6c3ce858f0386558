//! A name as SQL text writes it.

/// A name as it is written, its schema beside it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Name {
    pub(crate) schema: Option<String>,
    pub(crate) name: String,
    /// Where it stands in the file.
    pub(crate) at: usize,
}

impl Name {
    /// The name as it would be written without quotes.
    pub(crate) fn shown(&self) -> String {
        match &self.schema {
            Some(schema) => format!("{schema}.{}", self.name),
            None => self.name.clone(),
        }
    }
}
