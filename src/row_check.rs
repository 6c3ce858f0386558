//! Whether a row that cgk wrote is there as it was written: a trigger or a rule on the table can drop or change it, and the
//! server's answer does not say so.
//!
//! The check is a statement of its own behind the write, in the same transaction. It sees what rules and triggers of every
//! kind did, but for triggers that are deferred to the end of the transaction.

use crate::ident::literal;
use tokio_postgres::error::{DbError, SqlState};

/// Around the table's name, in the text that the server refuses to take for a number.
const MARK: [&str; 2] = ["cgk:row-not-written:", ":cgk"];

/// A statement that fails, and undoes the transaction, where a condition does not hold for what was written to a table.
/// `from` begins with FROM and gives one row, or is empty.
pub(crate) fn demand_sql(table: &str, condition: &str, from: &str) -> String {
    let failure = literal(&format!("{}{table}{}", MARK[0], MARK[1]));
    format!("select (case when {condition} then '1' else {failure} end)::pg_catalog.int4 {from};\n")
}

/// The table of the check that failed, where an error is one of [`demand_sql`]'s.
pub(crate) fn failed(error: &tokio_postgres::Error) -> Option<String> {
    let answer = error.as_db_error().filter(|answer| *answer.code() == SqlState::INVALID_TEXT_REPRESENTATION)?;
    let (_, rest) = answer.message().split_once(MARK[0])?;
    rest.rsplit_once(MARK[1]).map(|(table, _)| table.to_owned())
}

/// Whether an error of a statement that writes a row of cgk's comes from what stands on the table: a constraint, a rule, a
/// policy, or whatever a trigger does.
pub(crate) fn is_refusal(error: &DbError) -> bool {
    let state = error.code();
    let in_function = error.where_().is_some();
    // The server's function that checks a row against the policies. Without one, the role may not write to the table at all.
    let by_policy = error.routine() == Some("ExecWithCheckOptions");
    match &state.code()[..2] {
        // Integrity constraints, tables that cannot be written to, RAISE.
        "23" | "55" | "P0" => *state != SqlState::LOCK_NOT_AVAILABLE,
        "22" | "42" | "0A" => in_function || by_policy,
        _ => false,
    }
}

/// Whether an error is a constraint's of this table.
pub(crate) fn is_constraint_of(error: &tokio_postgres::Error, table: &str) -> bool {
    error.as_db_error().is_some_and(|error| error.code().code().starts_with("23") && error.table() == Some(table))
}
