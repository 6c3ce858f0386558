//! Classifies a statement by its effect on relations, as far as its words show it.
//!
//! This is not a SQL grammar: it recognizes the forms that change schemas by their leading words. Everything else is
//! [`Shape::Other`], from which no conclusions are drawn.

mod define;
mod rows;
mod words;

pub(crate) use super::name::Name;
pub(crate) use words::has;
pub(in crate::sql) use words::options;

use super::{Statement, Token, cursor::TokenCursor};
use define::{alter, comment, create, drop_, rights};
use rows::rows;
use words::{options_say, position, references};

/// A statement's form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    CreateTable {
        name: Name,
        if_not_exists: bool,
        /// The tables that its foreign keys refer to.
        references: Vec<Name>,
        /// The tables after `inherits`, `like`, `partition of`, `as select … from`.
        sources: Vec<(RowSource, Name)>,
    },
    CreateIndex {
        name: Option<Name>,
        table: Name,
        concurrently: bool,
        if_not_exists: bool,
    },
    /// A view, sequence, function, type, …: its kind in lower case.
    Create {
        kind: String,
        name: Option<Name>,
        if_not_exists: bool,
        or_replace: bool,
        /// The table of a trigger, rule, policy or of statistics.
        on: Option<Name>,
        /// The relations that a view, or a foreign table's definition, reads.
        reads: Vec<Name>,
    },
    DropIndex {
        names: Vec<Name>,
        concurrently: bool,
    },
    Drop {
        kind: String,
        names: Vec<Name>,
        on: Option<Name>,
    },
    AlterTable {
        /// The kind: `table`, `view`, `materialized view`, `index`, `sequence`, `foreign table`, `type`.
        kind: String,
        table: Name,
        actions: Vec<Action>,
    },
    /// ALTER of any other kind: a trigger, a policy, a function, …
    Alter {
        kind: String,
        name: Name,
        /// The table of a trigger, rule or policy.
        on: Option<Name>,
        /// The words after the name.
        action: Action,
    },
    Reindex {
        /// The kind: `index`, `table`, `schema`, `database`, `system`.
        kind: String,
        name: Option<Name>,
        concurrently: bool,
    },
    Refresh {
        name: Name,
        concurrently: bool,
    },
    Truncate {
        tables: Vec<Name>,
    },
    Lock {
        tables: Vec<Name>,
        /// The lock mode in upper case. The default is `ACCESS EXCLUSIVE`.
        mode: String,
    },
    Vacuum {
        tables: Vec<Name>,
        full: bool,
    },
    Analyze {
        tables: Vec<Name>,
    },
    Cluster {
        table: Option<Name>,
    },
    /// `insert`, `update`, `delete`, `merge`, `copy … from`.
    Write {
        verb: &'static str,
        table: Name,
        reads: Vec<Name>,
    },
    Select {
        reads: Vec<Name>,
        /// Whether it contains `for update` or a similar clause.
        locks_rows: bool,
    },
    Comment {
        kind: String,
        name: Name,
        on: Option<Name>,
    },
    /// GRANT and REVOKE of rights on objects, and ALTER DEFAULT PRIVILEGES in schemas.
    Rights {
        verb: &'static str,
        /// The kind of the objects: `table`, `schema`, `function`, …
        kind: String,
        names: Vec<Name>,
    },
    Other,
}

/// A part of a statement that writes rows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RowWrite {
    /// `insert`, `update`, `delete`, `merge`.
    pub(crate) verb: &'static str,
    /// The position of the verb.
    pub(crate) at: usize,
    pub(crate) table: Name,
    /// Whether its own WHERE leaves out rows.
    pub(crate) chooses_rows: bool,
    /// Whether it changes or deletes existing rows.
    pub(crate) changes_rows: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RowSource {
    Inherits,
    Like,
    PartitionOf,
    Reads,
}

/// One action of an ALTER, as its words and tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Action {
    pub(crate) tokens: Vec<Token>,
}

impl Shape {
    /// Whether CONCURRENTLY prevents it from running in a transaction. `refresh … concurrently` can run in one.
    pub(crate) fn is_concurrent(&self) -> bool {
        match self {
            Self::CreateIndex { concurrently, .. }
            | Self::DropIndex { concurrently, .. }
            | Self::Reindex { concurrently, .. } => *concurrently,
            Self::AlterTable { actions, .. } => {
                actions.iter().any(|action| action.has(&["detach", "partition"]) && action.has(&["concurrently"]))
            }
            _ => false,
        }
    }
}

impl Action {
    /// Returns the leading words.
    pub(crate) fn words(&self) -> Vec<&str> {
        self.tokens.iter().map_while(Token::word).collect()
    }

    pub(crate) fn has(&self, phrase: &[&str]) -> bool {
        has(&self.tokens, phrase)
    }

    pub(crate) fn at(&self) -> usize {
        self.tokens.first().map_or(0, |token| token.at)
    }

    /// Returns the tables that the action's foreign keys refer to.
    pub(crate) fn references(&self) -> Vec<Name> {
        references(&self.tokens)
    }

    /// Returns the name after a sequence of words.
    pub(crate) fn name_after(&self, phrase: &[&str]) -> Option<Name> {
        let start = position(&self.tokens, phrase)? + phrase.len();
        TokenCursor { tokens: &self.tokens, at: start }.name()
    }
}

/// Returns every write to rows in a statement, also those in its WITH.
pub(crate) fn writes(statement: &Statement) -> Vec<RowWrite> {
    rows::writes(&statement.tokens)
}

/// Returns the relations that a statement reads.
pub(crate) fn reads(statement: &Statement) -> Vec<Name> {
    words::reads(&statement.tokens)
}

/// Classifies a statement.
pub(crate) fn of(statement: &Statement) -> Shape {
    let tokens = &statement.tokens;
    let mut cursor = TokenCursor { tokens, at: 0 };
    read(&mut cursor).unwrap_or(Shape::Other)
}

fn read(cursor: &mut TokenCursor<'_>) -> Option<Shape> {
    let tokens = cursor.tokens;
    match cursor.word()? {
        "create" => create(cursor),
        "drop" => drop_(cursor),
        "alter" => alter(cursor),
        "reindex" => {
            cursor.skip_parentheses();
            let kind = cursor.one_of(&["index", "table", "schema", "database", "system"])?.to_owned();
            let concurrently = cursor.take(&["concurrently"]) || options_say(tokens, "concurrently");
            Some(Shape::Reindex { kind, name: cursor.name(), concurrently })
        }
        "refresh" => {
            cursor.take(&["materialized", "view"]).then_some(())?;
            let concurrently = cursor.take(&["concurrently"]);
            Some(Shape::Refresh { concurrently, name: cursor.name()? })
        }
        "truncate" => {
            cursor.take(&["table"]);
            Some(Shape::Truncate { tables: cursor.names() })
        }
        "lock" => {
            cursor.take(&["table"]);
            let tables = cursor.names();
            let words: Vec<&str> = tokens[cursor.at..].iter().filter_map(Token::word).collect();
            let mode = match words.as_slice() {
                ["in", mode @ .., "mode"] | ["in", mode @ .., "mode", "nowait"] => mode.join(" ").to_uppercase(),
                _ => "ACCESS EXCLUSIVE".into(),
            };
            Some(Shape::Lock { tables, mode })
        }
        "vacuum" => {
            let mut full = options_say(tokens, "full");
            cursor.skip_parentheses();
            while let Some(word) = cursor.one_of(&["full", "freeze", "verbose", "analyze"]) {
                full |= word == "full";
            }
            Some(Shape::Vacuum { full, tables: cursor.names() })
        }
        "analyze" | "analyse" => {
            cursor.skip_parentheses();
            cursor.take(&["verbose"]);
            Some(Shape::Analyze { tables: cursor.names() })
        }
        "cluster" => {
            cursor.skip_parentheses();
            cursor.take(&["verbose"]);
            Some(Shape::Cluster { table: cursor.name() })
        }
        "comment" => comment(cursor),
        "grant" => rights("GRANT", cursor),
        "revoke" => rights("REVOKE", cursor),
        verb @ ("insert" | "update" | "delete" | "merge" | "copy" | "select" | "with" | "table" | "values") => {
            Some(rows(verb.to_owned().as_str(), cursor))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests;
