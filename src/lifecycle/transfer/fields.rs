//! Reads rows of the catalogue. Errors contain the operation.

use crate::{
    db::Operator,
    error::{Result, while_doing},
};
use tokio_postgres::{Row, types::FromSql};

/// A connection, and the operation that it is used for.
pub(super) struct FieldReader<'o> {
    pub(super) operator: &'o Operator,
    /// The operation, for error messages.
    pub(super) what: String,
}

impl FieldReader<'_> {
    pub(super) async fn rows(&self, sql: &str) -> Result<Vec<Row>> {
        self.operator.client().query_typed(sql, &[]).await.map_err(while_doing(self.what.clone()))
    }

    pub(super) fn of<'r, T: FromSql<'r>>(&self, row: &'r Row, column: usize) -> Result<T> {
        row.try_get(column).map_err(while_doing(self.what.clone()))
    }
}
