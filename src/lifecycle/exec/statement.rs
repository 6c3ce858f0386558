//! Runs one statement of a script in a tenant.

use super::{ExecColumn, Executed};
use crate::{
    error::{ExecError, Result},
    tenancy::TenantTx,
};
use futures_util::TryStreamExt as _;
use tokio_postgres::{SimpleQueryMessage, SimpleQueryRow};

/// Runs a statement without parameters. `number` counts from 1. The server checks that the text is a single statement.
/// If the statement returns rows, `on_columns` is called before the first row, and `on_row` for each row.
pub(in crate::lifecycle) async fn run_statement(
    tx: &mut TenantTx<'_>,
    number: usize,
    sql: &str,
    on_columns: impl FnOnce(&[ExecColumn]) -> Result<()>,
    mut on_row: impl FnMut(&SimpleQueryRow),
) -> Result<Executed> {
    let described = tx.described(sql).await?;
    if !described.params().is_empty() {
        return Err(ExecError::Parameters { statement: number }.into());
    }
    let columns = ExecColumn::all(&described);
    drop(described);
    if !columns.is_empty() {
        on_columns(&columns)?;
    }
    let mut done = Executed::default();
    let mut parts = tx.text_rows(sql).await?;
    while let Some(part) = parts.try_next().await? {
        match part {
            SimpleQueryMessage::Row(row) => {
                done.returned += 1;
                on_row(&row);
            }
            SimpleQueryMessage::CommandComplete(rows) if columns.is_empty() => done.affected += rows,
            _ => {}
        }
    }
    Ok(done)
}
