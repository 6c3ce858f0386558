//! Converts rows to values of a type.

use tokio_postgres::{Error, Row, types::FromSql};

/// A type that `query_as` can read a row as. There are three cases:
///
/// - A tuple of the columns from left to right.
/// - A type that implements this trait.
/// - With the feature `derive`, a struct with `#[derive(FromRow)]` of the crate `postgres-from-row`, by the names of
///   its columns.
///
/// `How` distinguishes these cases and is inferred: `query_as::<(i64, String), _>`.
///
/// ```
/// struct Customer { email: String, orders: i64 }
///
/// impl cgk::FromRow for Customer {
///     fn from_row(row: &cgk::tokio_postgres::Row) -> Result<Self, cgk::tokio_postgres::Error> {
///         Ok(Self { email: row.try_get("email")?, orders: row.try_get("orders")? })
///     }
/// }
///
/// # async fn example(tx: &cgk::TenantTx<'_>) -> cgk::Result<()> {
/// let sql = "select email, count(*) as orders from customers join orders on orders.customer_id = customers.id group by 1";
/// let customers = tx.query_as::<Customer, _>(sql, &[]).await?;
/// let pairs: Vec<(String, i64)> = tx.query_as(sql, &[]).await?;
/// # Ok(()) }
/// ```
#[diagnostic::on_unimplemented(
    message = "a row cannot be read as `{Self}`",
    note = "a tuple of up to 12 columns can, and what implements `cgk::FromRow`; with the feature `derive` also a struct with \
            `#[derive(FromRow)]` of `cgk::postgres_from_row`"
)]
pub trait FromRow<How = ByColumn>: Sized {
    /// Reads a row.
    ///
    /// # Errors
    ///
    /// Fails if a column is missing, has another type, or is null and the type does not accept null.
    fn from_row(row: &Row) -> Result<Self, Error>;
}

/// The `How` of tuples and of types that implement [`FromRow`] themselves: rows are read column by column.
#[derive(Clone, Copy, Debug)]
pub struct ByColumn;

/// The `How` of structs with `#[derive(FromRow)]` from `postgres-from-row`.
#[cfg(feature = "derive")]
#[derive(Clone, Copy, Debug)]
pub struct Derived;

#[cfg(feature = "derive")]
impl<T: postgres_from_row::FromRow> FromRow<Derived> for T {
    fn from_row(row: &Row) -> Result<Self, Error> {
        T::try_from_row(row)
    }
}

macro_rules! tuples {
    ($($name:ident $index:tt)*) => {
        impl<$($name: for<'a> FromSql<'a>),*> FromRow for ($($name,)*) {
            fn from_row(row: &Row) -> Result<Self, Error> {
                Ok(($(row.try_get::<_, $name>($index)?,)*))
            }
        }
    };
}

tuples!(A 0);
tuples!(A 0 B 1);
tuples!(A 0 B 1 C 2);
tuples!(A 0 B 1 C 2 D 3);
tuples!(A 0 B 1 C 2 D 3 F 4);
tuples!(A 0 B 1 C 2 D 3 F 4 G 5);
tuples!(A 0 B 1 C 2 D 3 F 4 G 5 H 6);
tuples!(A 0 B 1 C 2 D 3 F 4 G 5 H 6 I 7);
tuples!(A 0 B 1 C 2 D 3 F 4 G 5 H 6 I 7 J 8);
tuples!(A 0 B 1 C 2 D 3 F 4 G 5 H 6 I 7 J 8 K 9);
tuples!(A 0 B 1 C 2 D 3 F 4 G 5 H 6 I 7 J 8 K 9 L 10);
tuples!(A 0 B 1 C 2 D 3 F 4 G 5 H 6 I 7 J 8 K 9 L 10 M 11);

/// Reads all rows.
pub(super) fn read<T: FromRow<How>, How>(rows: &[Row]) -> Result<Vec<T>, Error> {
    rows.iter().map(T::from_row).collect()
}
