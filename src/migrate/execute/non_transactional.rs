//! Runs a migration without a transaction: statement by statement, recording each one, and continuing after an interruption.
//!
//! A statement that can share a transaction is recorded in the same transaction, so it is executed exactly once. A statement
//! that cannot (`CREATE INDEX CONCURRENTLY`, `VACUUM`, a procedure that commits) is announced before and recorded after. If
//! a run was interrupted between the two, the next one checks the catalogue for the result (`concurrent.rs`). The record is
//! the table `schema_migration_steps`, which exists only while a file is partially applied.
//!
//! All of this uses the operator's own connection and a session lock that is requested repeatedly, without waiting in the
//! server: see [`lock::steps_key`].

use super::{
    concurrent::{Concurrent, Outlook},
    guard::{self, Broken},
    poll::PollBackoff,
    script::{self, Script, set_local},
    step_log::{self, Progress, STEPS_TABLE},
    transactionality::{checks_of_statements, is_setting, runs_alone, statements_within_a_transaction},
    unit::{self, ApplyOutcome, LockWait, Sessions, Unit},
};
use crate::{
    db::{Operator, message},
    error::{ConnectionError, Error, MigrationError, MigrationFailure, Result, Unfinished, while_doing},
    ident::{Ident, RoleName, SchemaName, literal},
    lock,
    migrate::{
        files::file::MigrationFile,
        fileset::record::FileRecord,
        ledger::{self, LedgerDigest},
        plan::Plan,
    },
    migration::Set,
    row_check, sqlstate,
    version::Checksum,
};
use tokio_postgres::error::SqlState;

/// Runs the single file of a plan, as far as possible in one attempt; the next attempt continues from there.
///
/// Cancel safety: if the future is dropped, the server may still execute the current statement, and the connection keeps the
/// lock until it is closed or used for the next file. The next run continues from there.
pub(in crate::migrate) async fn run(operator: &Operator, unit: &Unit<'_>, turn: LockWait) -> Result<ApplyOutcome> {
    let (plan, role, owner) = (unit.plan, unit.role, unit.owner.as_ref());
    let [file] = &*plan.pending else { unreachable!("a piece that goes step by step is one file") };
    let Some(pid) = take_lock(operator, &plan.schema, turn).await? else {
        let waited = operator.session().migration_wait;
        return match turn {
            LockWait::NoWait => Ok(ApplyOutcome::Locked),
            LockWait::Block => Err(Error::Migration(MigrationError::Locked { schema: plan.schema.clone(), waited })),
        };
    };
    let encoding = operator.facts().encoding.as_str();
    let sql = file.sql_for(encoding);
    let texts = match unit.sessions {
        Sessions::Any => file.statements().iter().map(|statement| sql[statement.range.clone()].to_owned()).collect(),
        Sessions::None => statements_within_a_transaction(file, encoding),
    };
    let checks = match unit.sessions {
        Sessions::Any => vec![None; texts.len()],
        Sessions::None => checks_of_statements(file, encoding),
    };
    let stepper = Stepper { operator, role, owner, plan, file, files: unit.files, texts, checks, pid };
    let result = stepper.carry_out().await;
    let released = stepper.release().await;
    // The first error is the one that is reported.
    let landing = result?;
    released.map(|()| landing)
}

/// Requests the lock until it is free; returns the session's backend if it got the lock.
async fn take_lock(operator: &Operator, schema: &SchemaName, turn: LockWait) -> Result<Option<i32>> {
    let doing = || while_doing(format!("take the lock of schema {:?}", schema.as_str()));
    // This also releases the lock of a dropped run on this connection.
    operator.discard_all().await.map_err(doing())?;
    operator.mark_session();
    let mut patience = PollBackoff::of(operator);
    let sql =
        format!("select pg_catalog.pg_try_advisory_lock({}), pg_catalog.pg_backend_pid();", lock::steps_key(schema));
    loop {
        let row = ask(operator, &sql).await.map_err(doing())?;
        if let [Some(got), Some(pid)] = row.as_slice()
            && got == "t"
        {
            return Ok(pid.parse().ok());
        }
        if turn == LockWait::NoWait || !patience.wait().await {
            return Ok(None);
        }
    }
}

/// The first row of the response.
async fn ask(operator: &Operator, sql: &str) -> Result<Vec<Option<String>>, tokio_postgres::Error> {
    let answer = message::run(operator.client(), sql).await?.complete()?;
    let row = answer.rows.first().map(|(_, row)| row);
    Ok(row.map_or_else(Vec::new, |row| {
        (0..row.len()).map(|column| row.try_get(column).ok().flatten().map(ToOwned::to_owned)).collect()
    }))
}

struct Stepper<'a> {
    operator: &'a Operator,
    role: Option<&'a RoleName>,
    owner: Option<&'a Ident>,
    plan: &'a Plan<'a>,
    file: &'a MigrationFile,
    /// The text of each statement for this database's encoding, without CONCURRENTLY if no session uses the schema.
    texts: Vec<String>,
    /// Checks for statements whose text was simplified: they fail if the server would refuse the original statement.
    checks: Vec<Option<String>>,
    files: Option<(&'a FileRecord, Set)>,
    /// The backend that holds the lock.
    pid: i32,
}

/// A setting of the file must not apply to cgk's own statements.
const OWN_TIMEOUT: &str = "set local statement_timeout = 0;";

/// The parts of a message of this module.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    Session,
    /// The backend is still the one that took the lock.
    Backend,
    /// The lock is still held.
    Held,
    /// The ledger still matches the plan.
    Check,
    /// The server would execute the original statement of the file.
    Written,
    /// The session is still in its schema.
    Place,
    Record,
    /// The ledger's row is written.
    Ledger,
}

/// How the transaction of a message is controlled.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Transaction {
    /// The implicit one, which ends with the message.
    Implicit,
    /// One that this message starts and a later one ends.
    Explicit,
}

/// Why a statement was not executed.
enum Failed {
    /// It cannot share a transaction.
    NeedsToBeAlone,
    With(Error),
}

impl Stepper<'_> {
    async fn carry_out(&self) -> Result<ApplyOutcome> {
        let Some(mut progress) = self.begin().await? else { return Ok(ApplyOutcome::Stale) };
        let statements = self.file.statements();
        while progress.done < statements.len() {
            self.step(&mut progress).await?;
        }
        self.finish().await?;
        Ok(ApplyOutcome::Applied)
    }

    /// Finds the record of an earlier run, or creates one; `None` if the ledger no longer matches the plan.
    async fn begin(&self) -> Result<Option<Progress>> {
        let schema = &self.plan.schema;
        let found = Progress::read(self.operator, schema).await?;
        let mut script = self.script(Transaction::Implicit);
        script.part(Part::Check, &[]);
        let digest = LedgerDigest::of(&self.plan.applied);
        script.demand(&format!(
            "{} and {} = {}",
            unit::in_schema(schema),
            ledger::digest_sql(schema),
            literal(digest.as_str())
        ));
        script.part(Part::Record, &[]);
        let fresh = Progress {
            id: self.file.id().clone(),
            done: 0,
            begun: false,
            checksum: self.checksum(0).expect("nothing of a file is always there"),
        };
        let progress = match found {
            Some(found) if found.is_nothing() => {
                script.line(&format!("delete from {};", schema.qualified(STEPS_TABLE)));
                script.line(&step_log::insert_sql(schema, &fresh));
                Ok(fresh)
            }
            // It is checked below only: if another run was faster, the record is about a later file.
            Some(found) => self.continued(found),
            None => {
                script.line(&step_log::create_sql(schema, self.role));
                script.line(&step_log::insert_sql(schema, &fresh));
                Ok(fresh)
            }
        };
        match self.send(&script, None).await {
            Ok(()) => progress.map(Some),
            Err((Some(Part::Check), error)) if is_demand(&error) => Ok(None),
            Err((part, error)) => Err(self.error(part, error)),
        }
    }

    /// Checks that the file still starts with the text that was already executed.
    fn continued(&self, found: Progress) -> Result<Progress> {
        let problem = if found.id != *self.file.id() {
            "its file is missing or was moved"
        } else {
            match self.checksum(found.done + usize::from(found.begun)) {
                Some(checksum) if checksum == found.checksum => return Ok(found),
                Some(_) => "an executed statement was edited",
                None => "the file has fewer statements now",
            }
        };
        Err(found.refused(&self.plan.schema, problem))
    }

    /// The checksum of the first statements; comments between them are not included.
    fn checksum(&self, statements: usize) -> Option<Checksum> {
        let texts = self.file.statements().get(..statements)?.iter();
        let texts: Vec<&str> = texts.map(|statement| &self.file.sql()[statement.range.clone()]).collect();
        Some(Checksum::of(&texts.join(";\n")))
    }

    /// Executes the next statement.
    async fn step(&self, progress: &mut Progress) -> Result<()> {
        let statement = &self.file.statements()[progress.done];
        // A statement that was announced is finished in the same way as it was started.
        let is_changed = !progress.begun && *self.text(progress.done) != self.written(progress.done);
        let mut outcome = match runs_alone(statement) && !is_changed {
            true => Err(Failed::NeedsToBeAlone),
            false => self.recorded(progress).await,
        };
        if matches!(outcome, Err(Failed::NeedsToBeAlone)) {
            outcome = self.alone(progress).await;
        }
        match outcome {
            Ok(()) => {
                progress.done += 1;
                progress.begun = false;
                Ok(())
            }
            Err(Failed::NeedsToBeAlone) => unreachable!("it was alone"),
            Err(Failed::With(error)) => {
                if progress.is_nothing() {
                    self.forget().await;
                }
                Err(error)
            }
        }
    }

    /// A statement and its record in one transaction, in three messages. The statement is a separate message, so that the
    /// server refuses a text that contains several; its record is sent with it.
    ///
    /// The transaction must be open first: BEGIN fails if a cancel request arrives during it, and a statement already sent
    /// would then run in its own transaction without being recorded.
    async fn recorded(&self, progress: &Progress) -> Result<(), Failed> {
        let number = progress.done;
        let mut before = self.script(Transaction::Explicit);
        if let Some(check) = &self.checks[number] {
            before.part(Part::Written, &[]);
            before.line(&format!("{check};"));
            before.part(Part::Session, &[]);
        }
        before.line(&guard::open_sql());
        before.line(&self.settings_before(number));
        let mut behind = Script::new();
        behind.line(OWN_TIMEOUT);
        self.record(&mut behind, number + 1);
        behind.line(&guard::close_sql());
        behind.line("commit;");
        let _undivided = self.operator.undivided().await;
        let failed = match self.send(&before, Some(number)).await {
            Err((part, error)) => Failed::With(self.error(part, error)),
            Ok(()) => match self.statement_and_record(number, &behind).await {
                Ok(()) => return Ok(()),
                Err(failed) => failed,
            },
        };
        // The transaction is still open but aborted.
        ask(self.operator, "rollback;").await.map_err(while_doing("roll back a statement")).map_err(Failed::With)?;
        Err(failed)
    }

    /// Sends a statement, and the statements that record and commit it, in the open transaction.
    async fn statement_and_record(&self, number: usize, behind: &Script<Part>) -> Result<(), Failed> {
        // They are polled in this order, and so written to the connection in this order.
        let (statement, behind) = tokio::join!(
            biased;
            message::run_single(self.operator.client(), self.text(number)),
            self.send(behind, Some(number)),
        );
        match (statement, behind) {
            (Ok(()), Ok(())) => Ok(()),
            (Err(source), _) => Err(self.refused(number, source)),
            (Ok(()), Err((part, error))) => Err(Failed::With(match error.source.as_db_error().and_then(Broken::of) {
                Some(_) => self.failure(number, None, error.source),
                None => self.error(part, error),
            })),
        }
    }

    /// The server's error for a statement in a transaction.
    fn refused(&self, number: usize, source: tokio_postgres::Error) -> Failed {
        let alone = [SqlState::ACTIVE_SQL_TRANSACTION, SqlState::INVALID_TRANSACTION_TERMINATION];
        if source.code().is_some_and(|state| alone.contains(state)) {
            return Failed::NeedsToBeAlone;
        }
        let offset = source.as_db_error().and_then(|error| script::offset_in(self.text(number), error));
        Failed::With(self.failure(number, offset, source))
    }

    /// Runs a statement on its own: announces, executes, verifies and records it.
    async fn alone(&self, progress: &mut Progress) -> Result<(), Failed> {
        let number = progress.done;
        let statement = &self.file.statements()[number];
        let concurrent = Concurrent::of(statement);
        let outlook = match &concurrent {
            Some(concurrent) => {
                self.enter_session(progress, None).await.map_err(Failed::With)?;
                let looked = concurrent.look(self.operator, &self.plan.schema, progress.begun).await;
                looked.map_err(|error| Failed::With(self.of_statement(number, error)))?
            }
            None => Outlook::Run,
        };
        let text = match outlook {
            Outlook::Done => return self.enter_session(progress, Some(number + 1)).await.map_err(Failed::With),
            Outlook::Run => self.written(number),
            Outlook::RunInstead(text) => text,
        };
        if !progress.begun {
            progress.begun = true;
            self.announce(progress).await.map_err(Failed::With)?;
        }
        self.enter_session(progress, None).await.map_err(Failed::With)?;
        if let Err(error) = self.execute(number, &text).await {
            if !matches!(error, Error::Connection(ConnectionError::Lost { .. })) {
                self.take_back(progress, concurrent.as_ref()).await;
            }
            return Err(Failed::With(error));
        }
        if let Some(concurrent) = &concurrent {
            concurrent.verify(self.operator, &self.plan.schema).await.map_err(Failed::With)?;
        }
        self.enter_session(progress, Some(number + 1)).await.map_err(Failed::With)
    }

    /// Sends one statement on its own: the server refuses a text that contains several.
    async fn execute(&self, number: usize, text: &str) -> Result<()> {
        message::run_single(self.operator.client(), text).await.map_err(|source| {
            let offset = source.as_db_error().and_then(|error| script::offset_in(text, error));
            self.failure(number, offset, source)
        })
    }

    /// After a statement that the server refused: removes its remains and its announcement. If they cannot be removed now,
    /// the announcement stays, and the next attempt finds it.
    async fn take_back(&self, progress: &mut Progress, concurrent: Option<&Concurrent>) {
        let removed = match concurrent {
            Some(concurrent) => {
                // If the statement was blocked for a long time, the cleanup does not wait that long again.
                let timeout = crate::db::milliseconds(self.operator.session().lock_timeout);
                let sql = format!("select {};", set("lock_timeout", &timeout));
                match ask(self.operator, &sql).await {
                    Ok(_) => concurrent.clean_up(self.operator, &self.plan.schema).await,
                    Err(error) => Err(while_doing("set a timeout")(error)),
                }
            }
            // The effects of a procedure before it failed stay; it is run again as a whole, whether or not it was edited.
            None => Ok(()),
        };
        let taken_back = match removed {
            Ok(()) => {
                progress.begun = false;
                self.announce(progress).await
            }
            Err(error) => Err(error),
        };
        if let Err(error) = taken_back {
            progress.begun = true;
            tracing::warn!(schema = self.plan.schema.as_str(), %error, "what a failed statement left is still there");
        }
    }

    /// Records whether the next statement is started.
    async fn announce(&self, progress: &Progress) -> Result<()> {
        let mut script = self.script(Transaction::Implicit);
        script.part(Part::Record, &[]);
        let carried_out = progress.done + usize::from(progress.begun);
        let checksum = self.checksum(carried_out).expect("the statement is one of the file's");
        script.line(&self.update_sql(progress.done, progress.begun, &checksum));
        self.send(&script, None).await.map_err(|(part, error)| self.error(part, error))
    }

    /// Prepares the session for the next statement; with `done`, records the previous one first.
    async fn enter_session(&self, progress: &Progress, done: Option<usize>) -> Result<()> {
        let mut script = Script::new();
        script.line("reset role; reset all;");
        let settings = self.session_settings();
        script.part(Part::Session, &settings.iter().map(|(name, value)| set(name, value)).collect::<Vec<_>>());
        if let Some(owner) = self.owner {
            script.line(&format!("set role {};", owner.quoted()));
        }
        self.guard(&mut script);
        script.part(Part::Place, &[]);
        script.demand(&self.in_place());
        if let Some(done) = done {
            script.part(Part::Record, &[]);
            let checksum = self.checksum(done).expect("the statement is one of the file's");
            script.line(&self.update_sql(done, false, &checksum));
        }
        // Last, because what the file has SET must not apply to cgk's own statements.
        script.part(Part::Session, &[]);
        script.line(&self.settings_before(progress.done));
        self.send(&script, None).await.map_err(|(part, error)| self.error(part, error))
    }

    /// Writes the ledger's row and comment, in the transaction that removes the step log.
    async fn finish(&self) -> Result<()> {
        let schema = &self.plan.schema;
        let steps = schema.qualified(STEPS_TABLE);
        let mut script = self.script(Transaction::Implicit);
        let started = format!("(select started_at::pg_catalog.text from {steps})");
        script.part(Part::Ledger, &[format!("pg_catalog.set_config('cgk.started', {started}, true)")]);
        script.line(&ledger::insert_sql(schema, self.file, "true"));
        script.part(Part::Record, &[]);
        script.line(&ledger::demand_row_sql(schema, self.file));
        script.line(&ledger::comment_sql(schema, &self.plan.applied_after()));
        script.line(&format!("drop table {steps};"));
        if let Some((record, set)) = self.files {
            script.line("reset role;");
            script.line(&record.sql(set, &self.plan.pending));
        }
        self.send(&script, None).await.map_err(|(part, error)| self.error(part, error))?;
        if let Some((record, set)) = self.files {
            record.note(set, &self.plan.pending);
        }
        Ok(())
    }

    /// Removes the step log of a file of which nothing was executed.
    async fn forget(&self) {
        let mut script = self.script(Transaction::Implicit);
        script.part(Part::Record, &[]);
        let steps = self.plan.schema.qualified(STEPS_TABLE);
        script.demand(&format!("not exists (select from {steps} where done > 0 or begun)"));
        script.line(&format!("drop table {steps};"));
        if let Err((_, error)) = self.send(&script, None).await {
            tracing::debug!(schema = self.plan.schema.as_str(), error = %error.source, "an empty record stays");
        }
    }

    async fn release(&self) -> Result<()> {
        let doing = format!("give up the lock of schema {:?}", self.plan.schema.as_str());
        self.operator.discard_all().await.map_err(while_doing(doing))
    }

    /// The start of a message that is one transaction: its settings and the guards.
    fn script(&self, transaction: Transaction) -> Script<Part> {
        let mut script = Script::new();
        if transaction == Transaction::Explicit {
            script.line("begin;");
        }
        script.line("reset role; reset all;");
        let settings: Vec<String> =
            self.session_settings().iter().map(|(name, value)| set_local(name, value)).collect();
        script.part(Part::Session, &settings);
        if let Some(owner) = self.owner {
            script.line(&format!("set local role {};", owner.quoted()));
        }
        self.guard(&mut script);
        script
    }

    fn guard(&self, script: &mut Script<Part>) {
        script.part(Part::Backend, &[]);
        script.demand(&format!("pg_catalog.pg_backend_pid() = {}", self.pid));
        script.part(Part::Held, &[]);
        let key = lock::steps_key(&self.plan.schema).cast_unsigned();
        script.demand(&format!(
            "exists (select from pg_catalog.pg_locks where locktype = 'advisory' and pid = pg_catalog.pg_backend_pid() \
             and classid = {} and objid = {} and objsubid = 1 and mode = 'ExclusiveLock' and granted)",
            key >> 32,
            key & 0xffff_ffff,
        ));
    }

    /// Checks the state of the session after the statement, and records it.
    fn record(&self, script: &mut Script<Part>, done: usize) {
        script.part(Part::Place, &[]);
        script.demand(&self.in_place());
        script.part(Part::Record, &[]);
        let checksum = self.checksum(done).expect("the statement is one of the file's");
        script.line(&self.update_sql(done, false, &checksum));
    }

    fn in_place(&self) -> String {
        let role = self.owner.map_or(self.operator.facts().role.as_str(), Ident::as_str);
        format!(
            "{} and current_user::pg_catalog.text = {}::pg_catalog.text",
            unit::in_schema(&self.plan.schema),
            literal(role)
        )
    }

    fn session_settings(&self) -> Vec<(&'static str, String)> {
        let session = self.operator.session();
        let milliseconds = crate::db::milliseconds;
        let mut settings = vec![
            ("lock_timeout", milliseconds(session.lock_timeout)),
            ("statement_timeout", milliseconds(session.migration_statement_timeout)),
            ("search_path", self.operator.search_path().of(&self.plan.schema)),
        ];
        // Without this, the statement of a killed client would run to its end, with its lock.
        if self.operator.facts().notices_lost_clients {
            settings.push(("client_connection_check_interval", "1000".into()));
        }
        settings
    }

    /// The settings of a statement, beyond cgk's own: a longer timeout for statements that block no other session while they
    /// wait, and what the file itself has SET so far, in whichever session.
    fn settings_before(&self, number: usize) -> String {
        let mut settings = String::new();
        if Concurrent::of(&self.file.statements()[number.min(self.file.statements().len() - 1)])
            .is_some_and(|concurrent| concurrent.waits_quietly())
        {
            let wait = crate::db::milliseconds(self.operator.session().migration_wait);
            settings.push_str(&format!("select {};\n", set("lock_timeout", &wait)));
        }
        for (index, statement) in self.file.statements()[..number].iter().enumerate() {
            if is_setting(statement) {
                settings.push_str(self.text(index));
                settings.push_str("\n;\n");
            }
        }
        settings
    }

    fn text(&self, number: usize) -> &str {
        &self.texts[number]
    }

    /// The original statement of the file, including CONCURRENTLY.
    fn written(&self, number: usize) -> String {
        let sql = self.file.sql_for(&self.operator.facts().encoding);
        sql[self.file.statements()[number].range.clone()].to_owned()
    }

    fn update_sql(&self, done: usize, begun: bool, checksum: &Checksum) -> String {
        step_log::update_sql(&self.plan.schema, self.file.id(), done, begun, checksum)
    }

    /// Sends a message; an error includes the part in which it occurred. `number` is the statement of the file in the
    /// message.
    async fn send(&self, script: &Script<Part>, number: Option<usize>) -> Result<(), (Option<Part>, Refused)> {
        let refused = |source: tokio_postgres::Error| Refused { state: source.code().cloned(), number, source };
        let mut answer = match message::run_keeping(self.operator.client(), &script.sql, script.kept()).await {
            Ok(answer) => answer,
            Err(source) => return Err((None, refused(source))),
        };
        let Some(source) = answer.error.take() else { return Ok(()) };
        let reached = source.as_db_error().and_then(|error| script.reached(&answer, error, |_| false));
        Err((reached.map(|reached| reached.kind), refused(source)))
    }

    fn error(&self, part: Option<Part>, refused: Refused) -> Error {
        let doing = format!("migrate schema {:?}", self.plan.schema.as_str());
        if row_check::failed(&refused.source).is_some() {
            return while_doing(doing)(refused.source);
        }
        match (part, refused.number) {
            (Some(Part::Backend), _) if is_demand(&refused) => {
                Error::Connection(ConnectionError::PoolerRefused { operation: "a migration without a transaction" })
            }
            (Some(Part::Held), _) if is_demand(&refused) => {
                let file = self.file.path().display();
                let found = format!(
                    "the session no longer holds the lock of its migration; a statement of {file} gave up all locks \
                     (pg_advisory_unlock_all, discard all), or another session ended this one's"
                );
                Error::Unexpected { doing, found }
            }
            (Some(Part::Place), _) if is_demand(&refused) => unit::left_the_schema(doing, self.file),
            (Some(Part::Ledger), _) if refused.source.as_db_error().is_some_and(row_check::is_refusal) => {
                let table = self.plan.schema.qualified(ledger::LEDGER_TABLE);
                Error::Migration(MigrationError::RowNotWritten { table, source: Some(refused.source.into()) })
            }
            // An earlier statement made the session read-only.
            (_, Some(number)) if refused.state.as_ref() == Some(&SqlState::READ_ONLY_SQL_TRANSACTION) => {
                self.failure(number.min(self.file.statements().len() - 1), None, refused.source)
            }
            // A deferred constraint fails at the end.
            (Some(Part::Written | Part::Record), Some(number)) => self.failure(number, None, refused.source),
            _ => while_doing(doing)(refused.source),
        }
    }

    /// Converts an error before a statement to the statement's error.
    fn of_statement(&self, number: usize, error: Error) -> Error {
        match error {
            Error::Database { source, .. } => self.failure(number, None, source.into_postgres()),
            error => error,
        }
    }

    /// The error of a statement of the file; `offset` counts from the start of the statement.
    fn failure(&self, number: usize, offset: Option<usize>, source: tokio_postgres::Error) -> Error {
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

/// The server's error for a message.
struct Refused {
    state: Option<SqlState>,
    number: Option<usize>,
    source: tokio_postgres::Error,
}

fn is_demand(refused: &Refused) -> bool {
    refused.state == Some(SqlState::DIVISION_BY_ZERO)
}

/// Sets a configuration parameter of the session.
fn set(name: &str, value: &str) -> String {
    format!("pg_catalog.set_config('{name}', {}, false)", literal(value))
}
