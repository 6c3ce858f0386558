//! Parses SQL text: where statements and comments start and end, the kind of a statement, the names in it, and how to
//! rewrite it. Uses no database.
//!
//! The result is used before a server is involved: for lints, for locks, and for the list of a file's statements.
//! During execution, the server's parser decides. A single statement is sent in a form in which the server refuses a
//! second one, and a COMMIT that this parser missed fails at the server (`migrate/execute/guard.rs`).

mod cursor;
mod detach;
mod name;
mod names;
pub(crate) mod refusal;
pub(crate) mod rewrite;
pub(crate) mod scan;
pub(crate) mod shape;
mod token;
mod transaction_words;

pub(crate) use scan::{Cut, cut};
pub(crate) use token::{SqlTokenKind, Statement, Token};
pub(crate) use transaction_words::TransactionWords;
