//! Builds and sends one message with all files of a schema that share one transaction, and interprets the response.

use super::{
    guard::{self, Broken},
    poll::PollBackoff,
    script::{self, MARKS, Reached, Script, demand, set_local},
    step_log::{self, STEPS_TABLE},
    transactionality::{original_offset, original_statements, within_a_transaction},
    unit::{ApplyOutcome, LedgerPresence, LockWait, Purpose, Sessions, Unit, in_schema, left_the_schema},
};
use crate::{
    db::{
        Operator,
        message::{Answer, Kept},
        run_files::Commits,
        session_reset::{BETWEEN_FILES, UNLOCK},
    },
    error::{ConnectionError, Error, MigrationError, MigrationFailure, Result, SetupError, while_doing},
    ident::{Ident, SchemaName, literal, quoted},
    lock,
    migrate::{
        encodable,
        files::file::MigrationFile,
        ledger::{self, LedgerDigest},
    },
    migration::Place,
    row_check,
    sql::TransactionWords,
    sqlstate,
};
use std::borrow::Cow;
use tokio_postgres::error::{DbError, SqlState};

/// Tries once to send one message.
pub(in crate::migrate) async fn together(operator: &Operator, unit: &Unit<'_>, turn: LockWait) -> Result<ApplyOutcome> {
    let script = script_of(operator, unit, turn);
    let schema = &unit.plan.schema;
    let mut patience = PollBackoff::of(operator);
    loop {
        let answer = operator
            .run_files(script.sql.clone(), words_of(unit), unit.commits, script.kept())
            .await
            .map_err(while_doing(format!("migrate schema {:?}", schema.as_str())))?;
        match judge(&script, operator, unit, answer)? {
            Verdict::Landed(landing) => {
                if let (ApplyOutcome::Applied, Commits::WithMessage, Some((record, set))) =
                    (landing, unit.commits, unit.files)
                {
                    record.note(set, &unit.plan.pending);
                }
                return Ok(landing);
            }
            Verdict::HalfDone => return Err(step_log::refused(operator, schema).await?),
            // An open transaction would block other sessions while it waits, and it is already aborted.
            Verdict::Busy if turn == LockWait::NoWait || unit.commits == Commits::Later => {
                return Ok(ApplyOutcome::Locked);
            }
            Verdict::Busy => {
                if !patience.wait().await {
                    let waited = operator.session().migration_wait;
                    return Err(Error::Migration(MigrationError::Locked { schema: schema.clone(), waited }));
                }
            }
        }
    }
}

/// The part that an error after a marker belongs to. Before the first marker, the message waits for its locks.
#[derive(Clone, Copy)]
enum PartKind<'a> {
    Provision,
    /// Whether the ledger still matches the plan, and no file is partially applied.
    Check,
    File(&'a MigrationFile),
    /// Whether a file changed only its schema, for schemas that are dropped afterwards.
    Outside(&'a MigrationFile),
    /// The file's ledger row.
    Record(&'a MigrationFile),
    Comment,
    /// The record of the fleet's files.
    Files,
}

enum Verdict {
    Landed(ApplyOutcome),
    /// Another session is working on the schema; nothing was done.
    Busy,
    HalfDone,
}

fn script_of<'a>(operator: &Operator, unit: &Unit<'a>, turn: LockWait) -> Script<PartKind<'a>> {
    let (plan, schema) = (unit.plan, &unit.plan.schema);
    let mut script = Script::new();
    let session = operator.session();
    let milliseconds = crate::db::milliseconds;

    let timeouts = [
        set_local("lock_timeout", &milliseconds(session.lock_timeout)),
        set_local("statement_timeout", &milliseconds(session.migration_statement_timeout)),
    ];
    let path = set_local("search_path", &operator.search_path().of(schema));
    // Without this, the message of a killed client would continue and commit.
    let notices = operator.facts().notices_lost_clients.then(|| set_local("client_connection_check_interval", "1000"));

    // Whatever the database's default is, the check after the lock must see what the previous lock holder committed.
    match (unit.commits, guard::is_needed(operator, plan)) {
        (Commits::WithMessage, true) => script.line(guard::BEGIN_GUARDED),
        // The first statement of a committing message starts its transaction, with the session's default.
        (Commits::WithMessage, false) if operator.facts().reads_committed => {}
        (Commits::WithMessage, false) | (Commits::Later, _) => {
            script.line("set transaction isolation level read committed;");
        }
    }
    // statement_timeout is fixed when a statement starts, so clear it in a separate statement first.
    if turn == LockWait::Block {
        script.line("set local statement_timeout = 0;");
    }
    // One statement for everything that needs no table access, because each statement costs the server as much as a small
    // migration. Its columns are evaluated from left to right. The wait for the lock may take longer than any lock or
    // statement of a migration. The steps lock is only tried: a waiting statement has a snapshot, and CREATE INDEX
    // CONCURRENTLY waits for snapshots.
    let key = lock::migration_key(schema);
    let turn = match turn {
        LockWait::Block => format!("pg_catalog.pg_advisory_xact_lock({key})"),
        LockWait::NoWait => demand(&format!("pg_catalog.pg_try_advisory_xact_lock({key})")),
    };
    let steps = demand(&format!("pg_catalog.pg_try_advisory_xact_lock_shared({})", lock::steps_key(schema)));
    let patience = set_local("lock_timeout", &milliseconds(session.migration_wait));
    let opening: Vec<String> =
        std::iter::once(patience).chain(notices.clone()).chain([turn, steps]).chain(timeouts.clone()).collect();
    let provisions = !unit.provision.is_empty() || unit.owner.is_some() || unit.ledger == LedgerPresence::Absent;
    if provisions {
        script.part(PartKind::Provision, &opening);
        script.line(&unit.provision);
        if let Some(owner) = &unit.owner {
            script.line(&format!("set local role {};", owner.quoted()));
        }
        script.line(&format!("select {path};"));
        if unit.ledger == LedgerPresence::Absent {
            script.line(&ledger::create_sql(schema, unit.role));
        }
        script.part(PartKind::Check, &[]);
    } else {
        script.part(PartKind::Check, &[opening, vec![path.clone()]].concat());
    }

    // A separate statement after the lock: its snapshot is taken when it starts.
    let in_schema = in_schema(schema);
    let digest = literal(LedgerDigest::of(&plan.applied).as_str());
    let as_planned = demand(&format!("{in_schema} and {} = {digest}", ledger::DIGEST));
    let from_ledger = format!("from {}", schema.qualified(ledger::LEDGER_TABLE));
    let started =
        "pg_catalog.set_config('cgk.started', pg_catalog.clock_timestamp()::pg_catalog.text, true)".to_owned();
    // A different error than the one of the neighbouring check.
    let steps_table = literal(&schema.qualified(STEPS_TABLE));
    let whole = format!(
        "(case when pg_catalog.to_regclass({steps_table}) is null then '1' else 'steps pending' end)::pg_catalog.int4"
    );
    if let Some(observe) = unit.observed_after(0) {
        script.line(observe);
        script.line(&format!("reset all;\nselect {};", [timeouts.to_vec(), vec![path.clone()]].concat().join(", ")));
    }
    if plan.pending.first().is_some_and(|first| guard::may_end(first)) {
        script.line(&guard::open_sql());
    }
    match plan.pending.first() {
        Some(first) => script.part_from(PartKind::File(first), &[as_planned, whole, started.clone()], &from_ledger),
        None => script.part_from(PartKind::Comment, &[as_planned], &from_ledger),
    }

    let encoding = operator.facts().encoding.as_str();
    let role = literal(unit.owner.as_ref().map_or(operator.facts().role.as_str(), Ident::as_str));
    let still_there = format!("{in_schema} and current_user::pg_catalog.text = {role}::pg_catalog.text");
    let settings: Vec<String> = timeouts.clone().into_iter().chain(notices).chain([path, started]).collect();
    for (number, file) in plan.pending.iter().copied().enumerate() {
        if number > 0 {
            // A file leaves no session state for the next one: if it were released separately, the next one would not see
            // it.
            script.line(BETWEEN_FILES);
            if guard::may_end(file) {
                script.line(&guard::open_sql());
            }
            script.part(PartKind::File(file), &[vec![UNLOCK.to_owned()], settings.clone()].concat());
        }
        // A file may end in a comment or without a semicolon.
        let text = match file.is_transactional() {
            true => file.sql_for(encoding),
            false => within_a_transaction(file, encoding).map_or_else(|| file.sql_for(encoding), Cow::Owned),
        };
        script.line(&format!("{text}\n;"));
        // What the file has SET must not apply to cgk's statements after it.
        if file.words().timeouts {
            script.line("set local statement_timeout = 0;");
        }
        if unit.purpose == Purpose::Drop {
            script.part(PartKind::Outside(file), &timeouts);
            script.demand(&keeps_to(schema));
        }
        script.part(PartKind::Record(file), &timeouts);
        script.line(&ledger::insert_sql(schema, file, &still_there));
        if guard::may_end(file) {
            script.line(&guard::close_sql());
        }
        if let Some(observe) = unit.observed_after(number + 1) {
            script.line(&format!("reset all;\n{observe}"));
        }
    }
    if let Purpose::RollBack { .. } = unit.purpose {
        script.line("set constraints all immediate;\nreset all;");
        script.line(&ledger::demand_sql(schema, &plan.applied_after()));
        script.line("rollback;");
        return script;
    }
    let applied = plan.applied_after();
    let digest = LedgerDigest::of(&applied);
    script.line(&ledger::demand_digest_sql(schema, &digest));
    script.line(&ledger::comment_digest_sql(schema, &applied, &digest));
    let files = unit.files.map(|(record, set)| record.sql(set, &plan.pending)).unwrap_or_default();
    if !files.is_empty() {
        // The operator owns the table.
        script.line("reset role;");
        script.part(PartKind::Files, &[]);
        script.line(&files);
    }
    script
}

/// The transaction keywords in the texts of a unit's files.
fn words_of(unit: &Unit<'_>) -> TransactionWords {
    unit.plan.pending.iter().fold(TransactionWords::default(), |words, file| words.and(file.words()))
}

/// The file that ended the transaction of its message, if an error shows this.
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

/// The only file of a message that failed at its end, where deferred constraints are checked. With several files, the
/// failing one is unknown; file by file, each has its own end.
fn ended_with<'a>(unit: &Unit<'a>, reached: &Reached<PartKind<'a>>) -> Option<&'a MigrationFile> {
    let [file] = &*unit.plan.pending else { return None };
    // Before the end there are the ledger's row, the guard if the file has one, the check of the ledger and the comment;
    // then the row of the fleet's files, if it is new.
    let is_end = match reached.kind {
        PartKind::Record(_) => reached.completed >= 3 + usize::from(guard::may_end(file)),
        PartKind::Files => reached.completed >= 1,
        _ => false,
    };
    is_end.then_some(file)
}

fn judge(script: &Script<PartKind<'_>>, operator: &Operator, unit: &Unit<'_>, answer: Answer) -> Result<Verdict> {
    let schema = &unit.plan.schema;
    let mut answer = answer;
    let Some(source) = answer.error.take() else { return Ok(Verdict::Landed(ApplyOutcome::Applied)) };
    let doing = format!("migrate schema {:?}", schema.as_str());
    if sqlstate::is_lost(&source) {
        return Err(Error::Connection(ConnectionError::Lost { doing, source: source.into() }));
    }
    if let Some(table) = row_check::failed(&source) {
        return Err(Error::Migration(MigrationError::RowNotWritten { table, source: None }));
    }
    let Some(db_error) = source.as_db_error() else { return Err(while_doing(doing)(source)) };
    let reached = script.reached(&answer, db_error, |kind| matches!(kind, PartKind::File(_)));
    let state = db_error.code();
    let failed_demand = *state == SqlState::DIVISION_BY_ZERO;
    if let Some((file, broken)) = reached
        .as_ref()
        .and_then(|reached| transaction_ended(reached.kind, db_error, guard::is_needed(operator, unit.plan)))
    {
        return Err(Error::Migration(MigrationError::Failed(Box::new(MigrationFailure {
            schema: schema.clone(),
            file: file.path().to_owned(),
            // The position that the server reported; cgk's own count of statements missed it.
            place: None,
            sqlstate: state.clone(),
            message: broken.problem().to_owned(),
            hint: None,
            committed: Vec::new(),
            unfinished: None,
            schemas_with_file: None,
            source: source.into(),
        }))));
    }
    if let Some(file) = reached.as_ref().and_then(|reached| ended_with(unit, reached)) {
        return Err(failure(schema, file, None, source));
    }
    match reached.as_ref().map(|reached| reached.kind) {
        None if *state == SqlState::LOCK_NOT_AVAILABLE => Err(Error::Migration(MigrationError::Locked {
            schema: schema.clone(),
            waited: operator.session().migration_wait,
        })),
        None if failed_demand => Ok(Verdict::Busy),
        // The server read nothing of the message.
        None if *state == SqlState::UNTRANSLATABLE_CHARACTER => {
            let encoding = operator.facts().encoding.as_str();
            let problem = encodable::untranslatable(db_error).and_then(|character| {
                unit.plan.pending.iter().find_map(|file| encodable::problem(file, character, encoding))
            });
            problem.map_or_else(
                || Err(while_doing(doing)(source)),
                |problem| Err(Error::Migration(MigrationError::Invalid { problems: vec![problem] })),
            )
        }
        Some(PartKind::Files) if failed_demand => {
            Err(Error::Migration(MigrationError::PlanStale { schema: schema.clone() }))
        }
        Some(PartKind::Check) if failed_demand => Ok(Verdict::Landed(ApplyOutcome::Stale)),
        Some(PartKind::Check) if *state == SqlState::INVALID_TEXT_REPRESENTATION => Ok(Verdict::HalfDone),
        Some(PartKind::Provision) if *state == SqlState::INSUFFICIENT_PRIVILEGE && unit.owner.is_some() => {
            let owner = unit.owner.as_ref().map_or_else(String::new, Ident::quoted);
            let role = &operator.facts().role;
            Err(Error::Setup(SetupError::Privilege {
                role: role.clone(),
                needed: format!("act as {owner}, the owner of schema {:?}", schema.as_str()),
                grant: format!("grant {owner} to {}", quoted(role)),
                source: Some(source.into()),
            }))
        }
        // Another session created it first, and the lock made this one wait. If a check failed, the registry has changed.
        Some(PartKind::Provision)
            if [
                SqlState::DIVISION_BY_ZERO,
                SqlState::UNIQUE_VIOLATION,
                SqlState::DUPLICATE_SCHEMA,
                SqlState::DUPLICATE_OBJECT,
                SqlState::DUPLICATE_TABLE,
            ]
            .contains(state) =>
        {
            Ok(Verdict::Landed(ApplyOutcome::Stale))
        }
        Some(PartKind::Record(_))
            if reached.as_ref().is_some_and(|reached| reached.completed == 0) && row_check::is_refusal(db_error) =>
        {
            Err(Error::Migration(MigrationError::RowNotWritten {
                table: schema.qualified(ledger::LEDGER_TABLE),
                source: Some(source.into()),
            }))
        }
        // Another role may not even write the ledger's row.
        Some(PartKind::Record(file)) if failed_demand || *state == SqlState::INSUFFICIENT_PRIVILEGE => {
            Err(left_the_schema(doing, file))
        }
        // It dropped or renamed the ledger, or the whole schema, in a way that no lint detects.
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
            let place = reached.and_then(|reached| {
                let (done, offset) = (reached.completed, reached.offset);
                let (done, offset) = match unit.sessions {
                    Sessions::Any => (done, offset),
                    Sessions::None => {
                        (original_statements(file, done), offset.map(|offset| original_offset(file, offset)))
                    }
                };
                script::place(file, done, offset)
            });
            Err(failure(schema, file, place, source))
        }
        _ => Err(while_doing(doing)(source)),
    }
}

/// A condition: the transaction wrote to nothing outside a schema, and created no extension in it, which others could start
/// to use. A foreign key only reads the referenced table.
fn keeps_to(schema: &SchemaName) -> String {
    let schema = literal(schema.as_str());
    format!(
        "not exists (select from pg_catalog.pg_locks l join pg_catalog.pg_class c on c.oid = l.relation
                     join pg_catalog.pg_namespace n on n.oid = c.relnamespace
                     where l.pid = pg_catalog.pg_backend_pid() and l.locktype = 'relation'
                       and l.mode in ('RowExclusiveLock', 'ShareUpdateExclusiveLock', 'ShareLock', 'ExclusiveLock', 'AccessExclusiveLock')
                       and n.nspname not in ({schema}, 'pg_catalog', 'pg_toast')
                       and n.oid <> pg_catalog.pg_my_temp_schema() and not pg_catalog.starts_with(n.nspname::pg_catalog.text, 'pg_toast_temp_'))
         and not exists (select from pg_catalog.pg_extension e join pg_catalog.pg_namespace n on n.oid = e.extnamespace
                         where n.nspname = {schema})"
    )
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

/// Creates a schema in one message, returns what [`Purpose::RollBack`] observes, and rolls it back.
///
/// Locks: same as [`attempt`]. Committed when: never.
pub(crate) async fn observe(operator: &Operator, unit: &Unit<'_>) -> Result<Answer> {
    let script = script_of(operator, unit, LockWait::Block);
    let schema = &unit.plan.schema;
    let doing = || while_doing(format!("migrate schema {:?}", schema.as_str()));
    let mut answer = operator
        .run_files(script.sql.clone(), words_of(unit), unit.commits, Kept::Marked(MARKS.into()))
        .await
        .map_err(doing())?;
    let Some(error) = answer.error.take() else { return Ok(answer) };
    let failed = Answer { error: Some(error), ..answer };
    match judge(&script, operator, unit, failed)? {
        Verdict::Landed(_) | Verdict::Busy | Verdict::HalfDone => Err(Error::Unexpected {
            doing: format!("rehearse in schema {:?}", schema.as_str()),
            found: "the schema is in use".into(),
        }),
    }
}
