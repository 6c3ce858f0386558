//! What a widget of a dashboard shows.

use super::{ColumnName, Finite, Label, List, Markdown, RowsMax, present};
use serde::{Deserialize, Serialize};

/// What a widget shows. The column `widgets.config`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub enum WidgetConfig {
    /// One number.
    Number {
        /// Of which column.
        column: ColumnName,
        /// Which number.
        aggregate: Aggregate,
        /// What stands behind it.
        #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "present")]
        unit: Option<Label>,
    },
    /// Rows.
    Table {
        /// Which columns, in this order.
        columns: List<ColumnName, 1, 50>,
        /// How many rows.
        rows_max: RowsMax,
        /// In which order.
        #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "present")]
        sort: Option<Sort>,
    },
    /// A chart.
    Chart {
        /// Its shape.
        shape: ChartShape,
        /// The column of the horizontal axis.
        x: ColumnName,
        /// What is drawn.
        series: List<Series, 1, 10>,
        /// Whether the series are drawn on top of each other.
        stacked: bool,
    },
    /// A text, which needs no dataset.
    Text {
        /// The text.
        markdown: Markdown,
    },
}

/// The shape of a chart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ChartShape {
    /// A line.
    Line,
    /// Bars.
    Bar,
    /// A filled line.
    Area,
    /// A pie.
    Pie,
}

/// What is computed of the values of a column.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Aggregate {
    /// How many there are.
    Count,
    /// How many different ones there are.
    CountDistinct,
    /// Their sum.
    Sum,
    /// Their arithmetic mean.
    Average,
    /// The least.
    Minimum,
    /// The greatest.
    Maximum,
}

/// A series of a chart.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Series {
    /// Of which column.
    pub column: ColumnName,
    /// What is computed for each place of the axis.
    pub aggregate: Aggregate,
    /// How it is called; without, by its column.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "present")]
    pub label: Option<Label>,
}

/// The order of rows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sort {
    /// By which column.
    pub column: ColumnName,
    /// Which way.
    pub direction: Direction,
}

/// A direction of sorting.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// The least first.
    Ascending,
    /// The greatest first.
    Descending,
}

/// Which rows a widget is about: those that every filter lets through. The column `widgets.filters`.
pub type Filters = List<Filter, 0, 20>;

/// Which rows a widget is about.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub enum Filter {
    /// Those with this value.
    Equals {
        /// In which column.
        column: ColumnName,
        /// The value.
        value: FilterValue,
    },
    /// Those with one of these values.
    OneOf {
        /// In which column.
        column: ColumnName,
        /// The values.
        values: List<Label, 1, 100>,
    },
    /// Those from one number to another, both included.
    Between {
        /// In which column.
        column: ColumnName,
        /// The least.
        low: Finite,
        /// The greatest.
        high: Finite,
    },
}

/// What a value is compared with.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum FilterValue {
    /// A boolean.
    Boolean(bool),
    /// A number.
    Number(Finite),
    /// A text.
    Text(Label),
}
