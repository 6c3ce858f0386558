//! Interprets the response: whether it was committed, and which file an error belongs to.

use super::{
    super::{
        guard::{self, Broken},
        script::{self, Reached, Script},
        transactionality::{original_offset, original_statements},
        unit::{ApplyOutcome, SchemaAccess, Unit, left_the_schema},
    },
    script::PartKind,
};
use crate::{
    db::{Operator, message::Answer},
    error::{ConnectionError, Error, MigrationError, MigrationFailure, Result, SetupError, while_doing},
    ident::{Ident, SchemaName, quoted},
    migrate::{encodable, files::file::MigrationFile, ledger},
    migration::{FileProblem, Place},
    row_check, sqlstate,
};
use tokio_postgres::error::{DbError, SqlState};

pub(super) enum MessageVerdict {
    Landed(ApplyOutcome),
    /// Another session is working on the schema. Nothing was changed.
    Busy,
    PartiallyApplied,
}

/// The errors of a message that creates a schema if another session created it first.
const CREATED_BEFORE: [SqlState; 5] = [
    SqlState::DIVISION_BY_ZERO,
    SqlState::UNIQUE_VIOLATION,
    SqlState::DUPLICATE_SCHEMA,
    SqlState::DUPLICATE_OBJECT,
    SqlState::DUPLICATE_TABLE,
];

/// Returns the result of the message.
pub(super) fn judge(
    script: &Script<PartKind<'_>>,
    operator: &Operator,
    unit: &Unit<'_>,
    answer: Answer,
) -> Result<MessageVerdict> {
    let schema = &unit.plan.schema;
    let mut answer = answer;
    let Some(source) = answer.error.take() else { return Ok(MessageVerdict::Landed(ApplyOutcome::Applied)) };
    let doing = format!("migrate schema {:?}", schema.as_str());
    if sqlstate::is_lost(&source) {
        return Err(Error::Connection(ConnectionError::Lost { doing, source: source.into() }));
    }
    if let Some(table) = row_check::failed(&source) {
        return Err(Error::Migration(MigrationError::RowNotWritten { table, source: None }));
    }
    let Some(db_error) = source.as_db_error() else { return Err(while_doing(doing)(source)) };
    let reached = script.reached(&answer, db_error, |kind| matches!(kind, PartKind::File(_)));
    let is_armed = guard::is_needed(operator, unit.plan);
    if let Some((file, broken)) =
        reached.as_ref().and_then(|reached| transaction_ended(reached.kind, db_error, is_armed))
    {
        return Err(ended_transaction(schema, file, &broken, source));
    }
    if let Some(file) = reached.as_ref().and_then(|reached| ended_with(unit, reached)) {
        return Err(failure(schema, file, None, source));
    }
    of_part(operator, unit, reached, source)
}

/// Returns the result for an error in a part of the message.
fn of_part(
    operator: &Operator,
    unit: &Unit<'_>,
    reached: Option<Reached<PartKind<'_>>>,
    source: tokio_postgres::Error,
) -> Result<MessageVerdict> {
    let schema = &unit.plan.schema;
    let doing = format!("migrate schema {:?}", schema.as_str());
    let Some(db_error) = source.as_db_error() else { return Err(while_doing(doing)(source)) };
    let state = db_error.code();
    let failed_demand = *state == SqlState::DIVISION_BY_ZERO;
    match reached.as_ref().map(|reached| reached.kind) {
        None if *state == SqlState::LOCK_NOT_AVAILABLE => Err(Error::Migration(MigrationError::Locked {
            schema: schema.clone(),
            waited: operator.session().migration_wait,
        })),
        None if failed_demand => Ok(MessageVerdict::Busy),
        // The server did not parse the message.
        None if *state == SqlState::UNTRANSLATABLE_CHARACTER => Err(match untranslatable(operator, unit, db_error) {
            Some(problem) => Error::Migration(MigrationError::Invalid { problems: vec![problem] }),
            None => while_doing(doing)(source),
        }),
        Some(PartKind::Files) if failed_demand => {
            Err(Error::Migration(MigrationError::PlanStale { schema: schema.clone() }))
        }
        Some(PartKind::Check) if failed_demand => Ok(MessageVerdict::Landed(ApplyOutcome::Stale)),
        Some(PartKind::Check) if *state == SqlState::INVALID_TEXT_REPRESENTATION => {
            Ok(MessageVerdict::PartiallyApplied)
        }
        Some(PartKind::Provision) if *state == SqlState::INSUFFICIENT_PRIVILEGE && unit.owner.is_some() => {
            Err(not_the_owner(operator, unit, source))
        }
        // Another session created the schema first, and the lock made this one wait. If a check failed, the registry
        // has changed.
        Some(PartKind::Provision) if CREATED_BEFORE.contains(state) => Ok(MessageVerdict::Landed(ApplyOutcome::Stale)),
        Some(PartKind::Record(_))
            if reached.as_ref().is_some_and(|reached| reached.completed == 0) && row_check::is_refusal(db_error) =>
        {
            Err(Error::Migration(MigrationError::RowNotWritten {
                table: schema.qualified(ledger::LEDGER_TABLE),
                source: Some(source.into()),
            }))
        }
        // The file changed to a role that may not write the ledger's row, or a check failed.
        Some(PartKind::Record(file)) if failed_demand || *state == SqlState::INSUFFICIENT_PRIVILEGE => {
            Err(left_the_schema(doing, file))
        }
        // The file dropped or renamed the ledger, or the complete schema, in a way that no lint detects.
        Some(PartKind::Record(file))
            if [SqlState::UNDEFINED_TABLE, SqlState::INVALID_SCHEMA_NAME].contains(state)
                && db_error.message().contains(ledger::LEDGER_TABLE) =>
        {
            Err(failure(schema, file, None, source))
        }
        Some(PartKind::Outside(file)) if failed_demand => {
            Err(Error::Migration(MigrationError::NotRehearsable { file: file.path().to_owned() }))
        }
        Some(PartKind::File(file)) => {
            let place = reached.and_then(|reached| place(unit, file, &reached));
            Err(failure(schema, file, place, source))
        }
        _ => Err(while_doing(doing)(source)),
    }
}

/// Returns the file that ended the transaction of its message, if an error shows this.
fn transaction_ended<'a>(kind: PartKind<'a>, error: &DbError, is_armed: bool) -> Option<(&'a MigrationFile, Broken)> {
    // The start time of a file is lost with its transaction.
    let forgotten = [SqlState::INVALID_DATETIME_FORMAT, SqlState::UNDEFINED_OBJECT].contains(error.code());
    match (kind, Broken::of(error)) {
        (PartKind::File(file) | PartKind::Record(file), Some(broken)) => Some((file, broken)),
        (PartKind::Record(file), None) if forgotten => Some((file, Broken::Gone)),
        (PartKind::File(file) | PartKind::Record(file), None)
            if is_armed && *error.code() == SqlState::READ_ONLY_SQL_TRANSACTION =>
        {
            Some((file, Broken::Gone))
        }
        _ => None,
    }
}

/// Returns the only file of a message that failed at its end, where deferred constraints are checked. With several
/// files, the failing one is unknown. With one transaction per file, each has its own end.
fn ended_with<'a>(unit: &Unit<'a>, reached: &Reached<PartKind<'a>>) -> Option<&'a MigrationFile> {
    let [file] = &*unit.plan.pending else { return None };
    // Before the end, there are the ledger's row, the guard if the file has one, the check of the ledger and the
    // comment. Then the row of the fleet's files follows, if it is new.
    let is_end = match reached.kind {
        PartKind::Record(_) => reached.completed >= 3 + usize::from(guard::may_end(file)),
        PartKind::Files => reached.completed >= 1,
        _ => false,
    };
    is_end.then_some(file)
}

/// Returns the error for a file that ended the transaction of its message.
fn ended_transaction(
    schema: &SchemaName,
    file: &MigrationFile,
    broken: &Broken,
    source: tokio_postgres::Error,
) -> Error {
    match failure(schema, file, None, source) {
        Error::Migration(MigrationError::Failed(failure)) => {
            // No position is given: the position that the server reported is not in the file.
            let message = broken.problem().to_owned();
            Error::Migration(MigrationError::Failed(Box::new(MigrationFailure { message, hint: None, ..*failure })))
        }
        error => error,
    }
}

/// Returns the character of a file that the database's encoding does not have.
fn untranslatable(operator: &Operator, unit: &Unit<'_>, error: &DbError) -> Option<FileProblem> {
    let character = encodable::untranslatable(error)?;
    let encoding = operator.facts().encoding.as_str();
    unit.plan.pending.iter().find_map(|file| encodable::problem(file, character, encoding))
}

fn not_the_owner(operator: &Operator, unit: &Unit<'_>, source: tokio_postgres::Error) -> Error {
    let owner = unit.owner.as_ref().map_or_else(String::new, Ident::quoted);
    let role = &operator.facts().role;
    Error::Setup(SetupError::Privilege {
        role: role.clone(),
        needed: format!("act as {owner}, the owner of schema {:?}", unit.plan.schema.as_str()),
        grant: format!("grant {owner} to {}", quoted(role)),
        source: Some(source.into()),
    })
}

/// Returns the position in the original file.
fn place(unit: &Unit<'_>, file: &MigrationFile, reached: &Reached<PartKind<'_>>) -> Option<Place> {
    let (done, offset) = (reached.completed, reached.offset);
    let (done, offset) = match unit.sessions {
        SchemaAccess::Any => (done, offset),
        SchemaAccess::None => (original_statements(file, done), offset.map(|offset| original_offset(file, offset))),
    };
    script::place(file, done, offset)
}

fn failure(schema: &SchemaName, file: &MigrationFile, place: Option<Place>, source: tokio_postgres::Error) -> Error {
    let Some(db_error) = source.as_db_error() else {
        return while_doing(format!("migrate schema {:?}", schema.as_str()))(source);
    };
    Error::Migration(MigrationError::Failed(Box::new(MigrationFailure {
        schema: schema.clone(),
        file: file.path().to_owned(),
        place,
        sqlstate: db_error.code().clone(),
        message: db_error.message().to_owned(),
        hint: db_error.hint().map(ToOwned::to_owned),
        committed: Vec::new(),
        unfinished: None,
        schemas_with_file: None,
        source: source.into(),
    })))
}
