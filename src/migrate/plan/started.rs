//! How far a migration without a transaction got in a schema, and where a run continues.

use crate::{
    db::Operator,
    error::Result,
    ident::SchemaName,
    migrate::{
        execute::step_log::FileProgress,
        files::{file::MigrationFile, source::Source},
    },
    migration::{self, MigrationId},
};
use std::fmt;

/// A migration without a transaction that a schema has started and not finished.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct StartedMigration {
    /// The migration.
    pub id: MigrationId,
    /// How many of its statements are executed. A run does not execute them again, except for SET.
    pub done: usize,
    /// How many statements its file has; `None` if it has no file.
    pub statements: Option<usize>,
    /// Where a run continues; `None` if it has no file, or if all of its statements are executed and only the ledger's
    /// row is missing.
    pub next: Option<NextStatement>,
}

/// The statement with which a run continues a partially applied migration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub struct NextStatement {
    /// Its number in the file, counted from 1.
    pub number: usize,
    /// Its line, counted from 1.
    pub line: usize,
    /// Whether it was started and its result was not recorded. A run first looks in the catalogue whether it is done.
    pub is_unclear: bool,
}

/// A text such as `004_s is partially applied (2 of 3 statements)`.
impl fmt::Display for StartedMigration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { id, done, .. } = self;
        match self.statements {
            Some(of) => write!(f, "{id} is partially applied ({done} of {})", migration::count(of, "statement")),
            None => write!(f, "{id} is partially applied ({} done)", migration::count(*done, "statement")),
        }
    }
}

impl StartedMigration {
    pub(super) fn of(started: &FileProgress, file: Option<&MigrationFile>) -> Self {
        let next = file.and_then(|file| {
            let statement = file.statements().get(started.done)?;
            Some(NextStatement {
                number: started.done + 1,
                line: migration::line_of(file.sql(), statement.range.start),
                is_unclear: started.begun,
            })
        });
        let statements = file.map(|file| file.statements().len());
        Self { id: started.id.clone(), done: started.done, statements, next }
    }

    /// Reads the file of a set that is partially applied in a schema.
    pub(crate) async fn read(operator: &Operator, source: &Source, schema: &SchemaName) -> Result<Option<Self>> {
        let found = FileProgress::of_set(operator, schema, source).await?;
        Ok(found.map(|(started, file)| Self::of(&started, file)))
    }
}

impl MigrationFile {
    /// Returns the text after the first statements, with the comments before the next one.
    pub fn sql_after(&self, statements: usize) -> &str {
        let Some(last) = statements.checked_sub(1) else { return self.sql() };
        let Some(last) = self.statements().get(last) else { return "" };
        let rest = self.sql()[last.range.end..].trim_start();
        rest.strip_prefix(';').unwrap_or(rest).trim_start()
    }
}
