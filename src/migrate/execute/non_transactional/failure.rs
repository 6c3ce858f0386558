//! Assigns an error of a message to the file, its statement, or a guard of cgk's.

use super::{
    super::{script, unit},
    stepper::{Refused, StepSection, Stepper},
};
use crate::{
    error::{ConnectionError, Error, MigrationError, MigrationFailure, Unfinished, while_doing},
    migrate::ledger,
    row_check, sqlstate,
};
use tokio_postgres::error::SqlState;

impl Stepper<'_> {
    pub(super) fn error(&self, part: Option<StepSection>, refused: Refused) -> Error {
        let doing = format!("migrate schema {:?}", self.plan.schema.as_str());
        if row_check::failed(&refused.source).is_some() {
            return while_doing(doing)(refused.source);
        }
        match (part, refused.number) {
            (Some(StepSection::Backend), _) if refused.is_demand() => {
                Error::Connection(ConnectionError::PoolerRefused { operation: "a migration without a transaction" })
            }
            (Some(StepSection::Held), _) if refused.is_demand() => {
                let file = self.file.path().display();
                let found = format!(
                    "the session no longer holds the lock of its migration; a statement of {file} released all locks \
                     (pg_advisory_unlock_all, discard all), or another session ended this one's"
                );
                Error::Unexpected { doing, found }
            }
            (Some(StepSection::Place), _) if refused.is_demand() => unit::left_the_schema(doing, self.file),
            (Some(StepSection::Ledger), _) if refused.source.as_db_error().is_some_and(row_check::is_refusal) => {
                let table = self.plan.schema.qualified(ledger::LEDGER_TABLE);
                Error::Migration(MigrationError::RowNotWritten { table, source: Some(refused.source.into()) })
            }
            // An earlier statement made the session read-only.
            (_, Some(number)) if refused.state.as_ref() == Some(&SqlState::READ_ONLY_SQL_TRANSACTION) => {
                self.failure(number.min(self.file.statements().len() - 1), None, refused.source)
            }
            // A deferred constraint fails at the end.
            (Some(StepSection::Written | StepSection::Record), Some(number)) => {
                self.failure(number, None, refused.source)
            }
            _ => while_doing(doing)(refused.source),
        }
    }

    /// Converts an error before a statement to the statement's error.
    pub(super) fn of_statement(&self, number: usize, error: Error) -> Error {
        match error {
            Error::Database { source, .. } => self.failure(number, None, source.into_postgres()),
            Error::Unexpected { doing, found } => {
                Error::Unexpected { doing: format!("{doing} ({})", self.position(number)), found }
            }
            error => error,
        }
    }

    /// Converts the error of a lost connection: the statements before this one are committed.
    pub(super) fn lost_at(&self, number: usize, error: Error) -> Error {
        match error {
            Error::Connection(ConnectionError::Lost { source, .. }) => {
                let schema = self.plan.schema.as_str();
                let doing = format!("complete {} in schema {schema:?}", self.position(number));
                Error::Connection(ConnectionError::Lost { doing, source })
            }
            error => error,
        }
    }

    /// Returns the error of a statement that would change a relation that all tenants share.
    pub(super) fn of_shared(&self, number: usize, relation: String) -> Error {
        Error::Migration(MigrationError::ChangesShared {
            schema: self.plan.schema.clone(),
            file: self.file.path().to_owned(),
            line: script::place(self.file, number, None).map(|place| place.line),
            relation,
        })
    }

    /// Returns a text such as `statement 2 of 3, …/002_x.sql:4`.
    fn position(&self, number: usize) -> String {
        let path = self.file.path().display();
        let line = script::place(self.file, number, None).map_or_else(String::new, |place| format!(":{}", place.line));
        format!("statement {} of {}, {path}{line}", number + 1, self.file.statements().len())
    }

    /// Returns the error of a statement of the file. `offset` counts from the start of the statement.
    pub(super) fn failure(&self, number: usize, offset: Option<usize>, source: tokio_postgres::Error) -> Error {
        let doing = format!("migrate schema {:?}", self.plan.schema.as_str());
        let db_error = source.as_db_error().filter(|_| !sqlstate::is_lost(&source));
        let Some(db_error) = db_error else { return while_doing(doing)(source) };
        let start = self.file.statements()[number].range.start;
        let of = self.file.statements().len();
        let offset = offset.map(|offset| start + offset);
        Error::Migration(MigrationError::Failed(Box::new(MigrationFailure {
            schema: self.plan.schema.clone(),
            file: self.file.path().to_owned(),
            place: script::place(self.file, number, offset),
            sqlstate: db_error.code().clone(),
            message: db_error.message().to_owned(),
            hint: db_error.hint().map(ToOwned::to_owned),
            committed: Vec::new(),
            unfinished: Some(Unfinished { statement: number + 1, of }),
            schemas_with_file: None,
            source: source.into(),
        })))
    }
}
