//! Masks: SQL expressions that replace values in a copy.

use super::contents::Contents;
use crate::error::{Result, TransferError};
use serde::Deserialize;
use std::collections::BTreeMap;

/// SQL expressions that replace values of the source in a copy, by table and column.
///
/// An expression reads the source's row: column names without a table are columns of that row. Functions without a
/// schema are those of the copy, which are the same as those of the source. Tables without a schema are also those of
/// the copy, and they can still be empty. To read a table of the source, write its schema.
///
/// ```
/// use cgk::lifecycle::Mask;
///
/// let mask = Mask::parse("[tables.customers]\nemail = \"md5(email) || '@example.test'\"\n").unwrap();
/// assert_eq!(mask, Mask::default().column("customers", "email", "md5(email) || '@example.test'"));
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mask {
    tables: BTreeMap<String, BTreeMap<String, String>>,
}

impl Mask {
    /// Reads a mask as TOML: tables `[tables.NAME]` with lines `column = "expression"`.
    ///
    /// # Errors
    ///
    /// Kind `Invalid`: the text is not such a file, or it contains no expression.
    pub fn parse(text: &str) -> Result<Self> {
        let invalid = |problem: String| TransferError::MaskInvalid { problem };
        let mask: Self = toml::from_str(text).map_err(|error| {
            let line = error.span().map_or(1, |span| text[..span.start].matches('\n').count() + 1);
            invalid(format!("line {line}: {}", error.message()))
        })?;
        if mask.columns() == 0 {
            return Err(invalid("it contains no expression".into()).into());
        }
        Ok(mask)
    }

    /// Adds an expression for a column.
    pub fn column(
        mut self,
        table: impl Into<String>,
        column: impl Into<String>,
        expression: impl Into<String>,
    ) -> Self {
        self.tables.entry(table.into()).or_default().insert(column.into(), expression.into());
        self
    }

    /// Returns how many columns have an expression.
    pub(super) fn columns(&self) -> usize {
        self.tables.values().map(BTreeMap::len).sum()
    }

    /// Returns the expressions for a table, by column.
    pub(super) fn of_table(&self, table: &str) -> Option<&BTreeMap<String, String>> {
        self.tables.get(table).filter(|columns| !columns.is_empty())
    }

    /// Refuses tables and columns that the source does not have, or whose values cannot be set.
    pub(super) fn check(&self, source: &Contents) -> Result<()> {
        let mut unknown = Vec::new();
        for (name, columns) in &self.tables {
            let Some(table) = source.table(name) else {
                unknown.push(match source.partitions.iter().find(|partition| partition.name == *name) {
                    Some(partition) => format!("{name} (mask its table {})", partition.parent),
                    None => name.clone(),
                });
                continue;
            };
            let is_unknown = |column: &&String| !table.columns.iter().any(|own| own.name == **column);
            unknown.extend(columns.keys().filter(is_unknown).map(|column| format!("{name}.{column}")));
        }
        if unknown.is_empty() { Ok(()) } else { Err(TransferError::MaskUnknown { names: unknown }.into()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_mask_is_refused_with_its_line() {
        let problem = |text: &str| match Mask::parse(text) {
            Err(crate::Error::Transfer(TransferError::MaskInvalid { problem })) => problem,
            other => panic!("{text:?}: {other:?}"),
        };
        for empty in ["", "[tables]", "[tables.customers]\n"] {
            assert!(problem(empty).contains("no") || problem(empty).contains("missing"), "{empty:?}");
        }
        assert!(problem("[tables.customers]\nemail = 1\n").starts_with("line 2: "));
        assert!(problem("[tables.customers]\nemail = \"x\"\nemail = \"y\"\n").starts_with("line 3: "));
        assert!(problem("[table.customers]\nemail = \"x\"\n").starts_with("line 1: "));
        let odd = Mask::parse("[tables.'odd \"name\"']\n'a.b' = 'null'\n").unwrap();
        assert_eq!(odd, Mask::default().column("odd \"name\"", "a.b", "null"));
        assert_eq!(odd.columns(), 1);
    }
}
