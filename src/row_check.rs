//! Checks whether a row that cgk wrote has the written content. A trigger or a rule on the table can drop or change it,
//! and the server's response does not show that.
//!
//! The check is a separate statement after the write, in the same transaction. It sees the effects of all rules and
//! triggers, except triggers that are deferred until the end of the transaction.

use crate::ident::literal;
use tokio_postgres::error::{DbError, SqlState};

/// The texts around the table's name, in the text that the server refuses to convert to a number.
const MARK: [&str; 2] = ["cgk:row-not-written:", ":cgk"];

/// Returns a statement that fails, and rolls the transaction back, unless a condition is true for the written row.
/// `from` starts with FROM and returns one row, or is empty.
pub(crate) fn demand_sql(table: &str, condition: &str, from: &str) -> String {
    let failure = literal(&format!("{}{table}{}", MARK[0], MARK[1]));
    format!("select (case when {condition} then '1' else {failure} end)::pg_catalog.int4 {from};\n")
}

/// Returns the table of the failed check, if an error comes from [`demand_sql`].
pub(crate) fn failed(error: &tokio_postgres::Error) -> Option<String> {
    let answer = error.as_db_error().filter(|answer| *answer.code() == SqlState::INVALID_TEXT_REPRESENTATION)?;
    let (_, rest) = answer.message().split_once(MARK[0])?;
    rest.rsplit_once(MARK[1]).map(|(table, _)| table.to_owned())
}

/// Returns whether the error of a write comes from objects on the table: a constraint, a rule, a policy, or a trigger.
pub(crate) fn is_refusal(error: &DbError) -> bool {
    let state = error.code();
    let in_function = error.where_().is_some();
    // This function of the server checks a row against the policies. Without a policy, the role may not write to the
    // table at all.
    let by_policy = error.routine() == Some("ExecWithCheckOptions");
    match &state.code()[..2] {
        // Integrity constraints, tables that cannot be written to, RAISE.
        "23" | "55" | "P0" => *state != SqlState::LOCK_NOT_AVAILABLE,
        "22" | "42" | "0A" => in_function || by_policy,
        _ => false,
    }
}

/// Returns whether an error comes from a constraint of this table.
pub(crate) fn is_constraint_of(error: &tokio_postgres::Error, table: &str) -> bool {
    error.as_db_error().is_some_and(|error| error.code().code().starts_with("23") && error.table() == Some(table))
}
