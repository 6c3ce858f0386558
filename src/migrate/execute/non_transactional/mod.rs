//! Runs a migration without a transaction: statement by statement. Each statement is recorded, and a run continues
//! after an interruption.
//!
//! A statement that can share a transaction is recorded in the same transaction, so it is executed exactly once. A
//! statement that cannot (`CREATE INDEX CONCURRENTLY`, `VACUUM`, a procedure that commits) is announced before and
//! recorded after. If a run was interrupted between the two, the next one checks the catalogue for the result
//! (`concurrent.rs`). The record is the table `schema_migration_steps`, which exists only while a file is partially
//! applied.
//!
//! All of this uses the operator's own connection and a session lock. The lock is requested repeatedly, without waiting
//! in the server: see [`lock::steps_key`].

mod failure;
mod statement;
mod stepper;

use super::{
    poll::PollBackoff,
    step_log::{self, FileProgress, STEPS_TABLE},
    transactionality::{checks_of_statements, runs_alone, statements_within_a_transaction},
    unit::{self, ApplyOutcome, LockWait, SchemaAccess, Unit},
};
use crate::{
    db::Operator,
    error::{Error, MigrationError, Result, while_doing},
    ident::{SchemaName, literal},
    lock,
    migrate::ledger::{self, LedgerDigest},
};
use stepper::{StepFailure, StepSection, Stepper, Transaction, ask};

/// Runs the single file of a plan, as far as possible in one attempt. The next attempt continues from there.
///
/// Cancel safety: if the future is dropped, the server may still execute the current statement, and the connection
/// keeps the lock until it is closed or used for the next file. The next run continues from there.
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
        SchemaAccess::Any => {
            file.statements().iter().map(|statement| sql[statement.range.clone()].to_owned()).collect()
        }
        SchemaAccess::None => statements_within_a_transaction(file, encoding),
    };
    let checks = match unit.sessions {
        SchemaAccess::Any => vec![None; texts.len()],
        SchemaAccess::None => checks_of_statements(file, encoding),
    };
    let stepper = Stepper { operator, role, owner, plan, file, files: unit.files, texts, checks, pid };
    let result = stepper.carry_out().await;
    let released = stepper.release().await;
    // If both fail, the first error is reported.
    let landing = result?;
    released.map(|()| landing)
}

/// Requests the lock until it is free. Returns the session's backend if it got the lock.
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

    /// Finds the record of an earlier run, or creates one. Returns `None` if the ledger no longer matches the plan.
    async fn begin(&self) -> Result<Option<FileProgress>> {
        let schema = &self.plan.schema;
        let found = FileProgress::read(self.operator, schema).await?;
        let mut script = self.script(Transaction::Implicit);
        script.part(StepSection::Check, &[]);
        let digest = LedgerDigest::of(&self.plan.applied);
        script.demand(&format!(
            "{} and {} = {}",
            unit::in_schema(schema),
            ledger::digest_sql(schema),
            literal(digest.as_str())
        ));
        script.part(StepSection::Record, &[]);
        let fresh = FileProgress {
            id: self.file.id().clone(),
            done: 0,
            begun: false,
            checksum: step_log::checksum(self.file, 0).expect("nothing of a file is always there"),
        };
        let progress = match found {
            Some(found) if found.is_nothing() => {
                script.line(&format!("delete from {};", schema.qualified(STEPS_TABLE)));
                script.line(&step_log::insert_sql(schema, &fresh));
                Ok(fresh)
            }
            // It is checked only below: if another run has finished this file, the record is about a later file.
            Some(found) => self.continued(found),
            None => {
                script.line(&step_log::create_sql(schema, self.role));
                script.line(&step_log::insert_sql(schema, &fresh));
                Ok(fresh)
            }
        };
        match self.send(&script, None).await {
            Ok(()) => progress.map(Some),
            Err((Some(StepSection::Check), error)) if error.is_demand() => Ok(None),
            Err((part, error)) => Err(self.error(part, error)),
        }
    }

    /// Checks that the file still starts with the text that was already executed.
    fn continued(&self, found: FileProgress) -> Result<FileProgress> {
        match found.problem(Some(self.file)) {
            None => Ok(found),
            Some(problem) => Err(found.refused(&self.plan.schema, problem)),
        }
    }

    /// Executes the next statement.
    async fn step(&self, progress: &mut FileProgress) -> Result<()> {
        let statement = &self.file.statements()[progress.done];
        // An announced statement is finished in the same way as it was started.
        let is_changed = !progress.begun && *self.text(progress.done) != self.written(progress.done);
        let mut outcome = match runs_alone(statement) && !is_changed {
            true => Err(StepFailure::NeedsToBeAlone),
            false => self.recorded(progress).await,
        };
        if matches!(outcome, Err(StepFailure::NeedsToBeAlone)) {
            outcome = self.alone(progress).await;
        }
        match outcome {
            Ok(()) => {
                progress.done += 1;
                progress.begun = false;
                Ok(())
            }
            Err(StepFailure::NeedsToBeAlone) => unreachable!("it was alone"),
            Err(StepFailure::With(error)) => {
                if progress.is_nothing() {
                    self.forget().await;
                }
                Err(self.lost_at(progress.done, error))
            }
        }
    }

    /// Writes the ledger's row and comment, in the transaction that removes the step log.
    async fn finish(&self) -> Result<()> {
        let schema = &self.plan.schema;
        let steps = schema.qualified(STEPS_TABLE);
        let mut script = self.script(Transaction::Implicit);
        let started = format!("(select started_at::pg_catalog.text from {steps})");
        script.part(StepSection::Ledger, &[format!("pg_catalog.set_config('cgk.started', {started}, true)")]);
        script.line(&ledger::insert_sql(schema, self.file, "true"));
        script.part(StepSection::Record, &[]);
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

    /// Deletes the step log of a file if none of its statements were executed.
    async fn forget(&self) {
        let mut script = self.script(Transaction::Implicit);
        script.part(StepSection::Record, &[]);
        let steps = self.plan.schema.qualified(STEPS_TABLE);
        script.demand(&format!("not exists (select from {steps} where done > 0 or begun)"));
        script.line(&format!("drop table {steps};"));
        if let Err((_, error)) = self.send(&script, None).await {
            tracing::debug!(schema = self.plan.schema.as_str(), error = %error.source, "an empty record stays");
        }
    }

    async fn release(&self) -> Result<()> {
        let doing = format!("release the lock of schema {:?}", self.plan.schema.as_str());
        self.operator.discard_all().await.map_err(while_doing(doing))
    }
}
