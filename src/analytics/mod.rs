//! The JSON of the template `analytics`, as types: columns of a dataset, what a widget shows, alerts and scheduled
//! reports.
//!
//! The template's tables (`cgk init --template analytics`) store these values as `jsonb`. The types and the tables'
//! CHECK constraints accept the same values. So the database refuses a value from another program if this module cannot
//! read it. The types also read other forms that serde accepts for the same value: the number of a kind instead of its
//! name, or an object's values without their keys. They write the form that the tables require.
//!
//! Values are checked when they are created, so they are always valid. [`Columns`], [`WidgetConfig`], [`Filters`] and
//! [`Automation`] can be used directly as parameters and columns of statements:
//!
//! ```no_run
//! use cgk::analytics::{Column, ColumnType, Columns};
//!
//! # async fn example(db: cgk::Db, acme: cgk::TenantSlug, user: cgk::UserId) -> Result<(), Box<dyn std::error::Error>> {
//! let columns = Columns::new(vec![
//!     Column::new("paid_at".parse()?, ColumnType::Timestamp {}),
//!     Column::new("amount".parse()?, ColumnType::Number { scale: Some(2.try_into()?) }),
//! ])?;
//! db.tenant(&acme)
//!     .execute("insert into datasets (name, columns, created_by) values ('orders', $1, $2)", &[&columns, &user])
//!     .await?;
//! let read: Columns = db.tenant(&acme).query_one("select columns from datasets", &[]).await?.get(0);
//! assert_eq!(read, columns);
//! # Ok(()) }
//! ```

mod automation;
mod column;
mod list;
mod number;
mod text;
mod widget;

pub use automation::{Automation, Channel, Channels, Comparison, ReportFormat, Schedule};
pub use column::{Choices, Column, ColumnType, Columns};
pub use list::List;
pub use number::{Day, Finite, Hour, Minute, Minutes, RowsMax, Scale, Weekday, WindowMinutes};
pub use text::{ColumnName, EmailAddress, HttpsUrl, Label, Markdown, TimeZoneName};
pub use widget::{Aggregate, ChartShape, Direction, Filter, FilterValue, Filters, Series, Sort, WidgetConfig};

/// A value that the tables of the template would refuse.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what} {rule}")]
pub struct InvalidValue {
    what: &'static str,
    rule: &'static str,
}

impl InvalidValue {
    fn new(what: &'static str, rule: &'static str) -> Self {
        Self { what, rule }
    }
}

/// Implements conversion to and from `jsonb` for a type.
macro_rules! jsonb {
    ($($name:ty),* $(,)?) => {$(
        impl ::tokio_postgres::types::ToSql for $name {
            fn to_sql(
                &self,
                ty: &::tokio_postgres::types::Type,
                out: &mut ::bytes::BytesMut,
            ) -> Result<::tokio_postgres::types::IsNull, Box<dyn std::error::Error + Sync + Send>> {
                ::tokio_postgres::types::Json(self).to_sql(ty, out)
            }

            ::tokio_postgres::types::accepts!(JSON, JSONB);
            ::tokio_postgres::types::to_sql_checked!();
        }

        impl<'a> ::tokio_postgres::types::FromSql<'a> for $name {
            fn from_sql(
                ty: &::tokio_postgres::types::Type,
                raw: &'a [u8],
            ) -> Result<Self, Box<dyn std::error::Error + Sync + Send>> {
                ::tokio_postgres::types::Json::<Self>::from_sql(ty, raw).map(|json| json.0)
            }

            ::tokio_postgres::types::accepts!(JSON, JSONB);
        }
    )*};
}

jsonb!(Columns, WidgetConfig, Filters, Automation);

/// Reads an optional key. The key may be missing, but its value must not be null.
fn present<'de, D: serde::Deserializer<'de>, T: serde::Deserialize<'de>>(
    deserializer: D,
) -> Result<Option<T>, D::Error> {
    T::deserialize(deserializer).map(Some)
}
