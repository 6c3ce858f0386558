//! Reads SQL text: where statements and comments begin and end, what kind a statement is, which names it says, and how it is
//! rewritten. Pure; no database.
//!
//! The reading is for what is said before a server is asked: lints, locks, the list of a file's statements. What is run is
//! the server's to read: a statement that runs by itself is sent in a form in which the server refuses a second one, and a
//! COMMIT that the reading did not see fails at the server (`migrate/guard.rs`).

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
pub(crate) use token::{Statement, Token, TokenKind};
pub(crate) use transaction_words::TransactionWords;
