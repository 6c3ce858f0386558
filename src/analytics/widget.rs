//! The contents of a dashboard's widgets.

use super::{ColumnName, Finite, Label, List, Markdown, RowsMax, present};
use serde::{Deserialize, Serialize};

/// The contents of a widget. The column `widgets.config`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub enum WidgetConfig {
    /// One number.
    Number {
        /// The column.
        column: ColumnName,
        /// The number that is computed.
        aggregate: Aggregate,
        /// The unit that is shown after the number.
        #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "present")]
        unit: Option<Label>,
    },
    /// A table of rows.
    Table {
        /// The columns, in this order.
        columns: List<ColumnName, 1, 50>,
        /// The maximum number of rows.
        rows_max: RowsMax,
        /// The order of the rows.
        #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "present")]
        sort: Option<Sort>,
    },
    /// A chart.
    Chart {
        /// Its shape.
        shape: ChartShape,
        /// The column of the horizontal axis.
        x: ColumnName,
        /// The series that are drawn.
        series: List<Series, 1, 10>,
        /// Whether the series are drawn on top of each other.
        stacked: bool,
    },
    /// A text. It needs no dataset.
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

/// The number that is computed from the values of a column.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Aggregate {
    /// The number of values.
    Count,
    /// The number of different values.
    CountDistinct,
    /// The sum.
    Sum,
    /// The arithmetic mean.
    Average,
    /// The minimum.
    Minimum,
    /// The maximum.
    Maximum,
}

/// A series of a chart.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Series {
    /// The column.
    pub column: ColumnName,
    /// The number that is computed for each value on the axis.
    pub aggregate: Aggregate,
    /// The label. `None`: the name of the column.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "present")]
    pub label: Option<Label>,
}

/// The order of rows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sort {
    /// The column to sort by.
    pub column: ColumnName,
    /// The direction.
    pub direction: Direction,
}

/// A direction of sorting.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// The smallest value first.
    Ascending,
    /// The largest value first.
    Descending,
}

/// The filters of a widget. A row must match every filter. The column `widgets.filters`.
pub type Filters = List<Filter, 0, 20>;

/// A filter on the rows of a widget.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub enum Filter {
    /// Rows with this value.
    Equals {
        /// The column.
        column: ColumnName,
        /// The value.
        value: FilterValue,
    },
    /// Rows with one of these values.
    OneOf {
        /// The column.
        column: ColumnName,
        /// The values.
        values: List<Label, 1, 100>,
    },
    /// Rows with a number between two numbers, both included.
    Between {
        /// The column.
        column: ColumnName,
        /// The minimum.
        low: Finite,
        /// The maximum.
        high: Finite,
    },
}

/// The value to compare with.
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
