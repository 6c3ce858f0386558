//! The columns of a dataset.

use super::{ColumnName, InvalidValue, Label, Scale, present};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// The columns of a dataset: 1 to 500, with unique names. The column `datasets.columns`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Vec<Column>", into = "Vec<Column>")]
pub struct Columns(Vec<Column>);

impl Columns {
    /// Creates the columns. Checks their number and their names.
    ///
    /// # Errors
    ///
    /// There is no column, there are more than 500, or two have the same name.
    pub fn new(columns: Vec<Column>) -> Result<Self, InvalidValue> {
        let names: BTreeSet<&ColumnName> = columns.iter().map(|column| &column.name).collect();
        match (1..=500).contains(&columns.len()) && names.len() == columns.len() {
            true => Ok(Self(columns)),
            false => Err(InvalidValue::new("a dataset", "has 1 to 500 columns, each name once")),
        }
    }

    /// Returns the columns, in their order.
    pub fn items(&self) -> &[Column] {
        &self.0
    }
}

impl TryFrom<Vec<Column>> for Columns {
    type Error = InvalidValue;

    fn try_from(columns: Vec<Column>) -> Result<Self, InvalidValue> {
        Self::new(columns)
    }
}

impl From<Columns> for Vec<Column> {
    fn from(columns: Columns) -> Self {
        columns.0
    }
}

/// A column of a dataset.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Column {
    /// Its name.
    pub name: ColumnName,
    /// The type of its values.
    pub kind: ColumnType,
    /// Whether a value may be missing.
    pub nullable: bool,
    /// A description for people.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "present")]
    pub description: Option<Label>,
}

impl Column {
    /// Creates a column that has a value in every row, and no description.
    pub fn new(name: ColumnName, kind: ColumnType) -> Self {
        Self { name, kind, nullable: false, description: None }
    }
}

/// The type of a column's values.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub enum ColumnType {
    /// Text.
    Text {},
    /// Whole numbers.
    Integer {},
    /// Numbers.
    Number {
        /// The number of digits shown after the decimal point.
        #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "present")]
        scale: Option<Scale>,
    },
    /// True or false.
    Boolean {},
    /// Days.
    Date {},
    /// Points in time.
    Timestamp {},
    /// One of a list of values.
    Choice {
        /// The values.
        values: Choices,
    },
}

/// The values of a choice: 1 to 100, all different.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Vec<Label>", into = "Vec<Label>")]
pub struct Choices(Vec<Label>);

impl Choices {
    /// Returns the values, in their order.
    pub fn items(&self) -> &[Label] {
        &self.0
    }
}

impl TryFrom<Vec<Label>> for Choices {
    type Error = InvalidValue;

    fn try_from(values: Vec<Label>) -> Result<Self, InvalidValue> {
        let different: BTreeSet<&Label> = values.iter().collect();
        match (1..=100).contains(&values.len()) && different.len() == values.len() {
            true => Ok(Self(values)),
            false => Err(InvalidValue::new("a choice", "has 1 to 100 values, each once")),
        }
    }
}

impl From<Choices> for Vec<Label> {
    fn from(values: Choices) -> Self {
        values.0
    }
}
