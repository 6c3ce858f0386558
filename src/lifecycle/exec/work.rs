//! One attempt at one tenant.

use super::{
    ExecAccess, ExecColumn, ExecObserver, ExecOptions, ExecOutcome, ExecRow, ExecScript, Executed, run_statement,
};
use crate::{
    db::Operator,
    error::{Error, ExecError, Result, while_doing},
    fleet::{
        interrupt::Interrupt,
        worker::{Finished, JobOutcome, TenantWork},
    },
    slug::TenantSlug,
    tenancy::{Db, TenantTx, TxOptions},
};
use std::sync::{Mutex, MutexGuard};
use tokio_postgres::{SimpleQueryRow, error::SqlState};

/// The first version of PostgreSQL in which a read-only transaction cannot write large objects.
const LARGE_OBJECTS_READ_ONLY: u32 = 16;

/// Whether the transaction has written something.
async fn has_written(tx: &TenantTx<'_>) -> Result<bool> {
    let sql = "select pg_catalog.txid_current_if_assigned() is not null";
    let rows = tx.query_typed(sql, &[]).await?;
    let written = rows.first().map(|row| row.try_get(0)).transpose();
    Ok(written.map_err(while_doing("look whether the transaction has written something"))? == Some(true))
}

/// A tenant, and the progress of the last attempt in it.
pub(super) struct ExecJob {
    pub(super) slug: TenantSlug,
    rows_passed: u64,
    /// The number of the statement that is running.
    statement: Option<usize>,
}

impl ExecJob {
    pub(super) fn new(slug: TenantSlug) -> Self {
        Self { slug, rows_passed: 0, statement: None }
    }
}

pub(super) struct TenantExec<'r, 'o> {
    db: &'r Db,
    script: &'r ExecScript,
    access: ExecAccess,
    transaction: TxOptions,
    interrupt: &'r Interrupt,
    sink: Mutex<ExecSink<'o>>,
}

struct ExecSink<'o> {
    observer: &'o mut dyn ExecObserver,
    outcomes: Vec<ExecOutcome>,
}

impl<'r, 'o> TenantExec<'r, 'o> {
    pub(super) fn new(
        db: &'r Db,
        script: &'r ExecScript,
        options: &'r ExecOptions,
        observer: &'o mut dyn ExecObserver,
    ) -> Self {
        let transaction = TxOptions::default().wait_for_entry();
        let transaction = match options.access {
            ExecAccess::ReadOnly => transaction.read_only(),
            ExecAccess::Write => transaction.read_write(),
        };
        let sink = Mutex::new(ExecSink { observer, outcomes: Vec::new() });
        Self { db, script, access: options.access, transaction, interrupt: &options.interrupt, sink }
    }

    pub(super) fn failed(&self) -> usize {
        self.sink().outcomes.iter().filter(|outcome| outcome.result.is_err()).count()
    }

    pub(super) fn into_outcomes(self) -> Vec<ExecOutcome> {
        self.sink.into_inner().expect("nothing panics while it is held").outcomes
    }

    fn sink(&self) -> MutexGuard<'_, ExecSink<'o>> {
        self.sink.lock().expect("nothing panics while it is held")
    }

    /// Runs the statements in order.
    async fn statements(&self, tx: &mut TenantTx<'_>, job: &mut ExecJob, major: u32) -> Result<Executed> {
        let mut done = Executed::default();
        for (index, sql) in self.script.statements().iter().enumerate() {
            job.statement = Some(index + 1);
            self.statement(tx, job, index + 1, sql, &mut done).await?;
            if self.access == ExecAccess::ReadOnly && major < LARGE_OBJECTS_READ_ONLY && has_written(tx).await? {
                return Err(ExecError::ReadOnly { tenant: job.slug.clone(), statement: index + 1 }.into());
            }
        }
        job.statement = None;
        Ok(done)
    }

    /// Replaces the error of a change in a read-only transaction: the statement causes it, not the state of the server.
    fn refusal(&self, error: Error, job: &ExecJob) -> Error {
        match job.statement {
            Some(statement)
                if self.access == ExecAccess::ReadOnly
                    && error.sqlstate() == Some(&SqlState::READ_ONLY_SQL_TRANSACTION) =>
            {
                ExecError::ReadOnly { tenant: job.slug.clone(), statement }.into()
            }
            _ => error,
        }
    }

    async fn statement(
        &self,
        tx: &mut TenantTx<'_>,
        job: &mut ExecJob,
        number: usize,
        sql: &str,
        done: &mut Executed,
    ) -> Result<()> {
        let slug = job.slug.clone();
        let columns = |columns: &[ExecColumn]| {
            let answer = self.sink().observer.columns(&slug, number, columns);
            answer.map_err(|problem| {
                ExecError::ColumnsRefused { tenant: slug.clone(), statement: number, problem }.into()
            })
        };
        let row = |row: &SimpleQueryRow| {
            job.rows_passed += 1;
            self.sink().observer.row(&slug, number, &ExecRow(row));
        };
        let executed = run_statement(tx, number, sql, columns, row).await?;
        done.returned += executed.returned;
        done.affected += executed.affected;
        Ok(())
    }
}

impl TenantWork for TenantExec<'_, '_> {
    const OPERATION: &'static str = "exec";
    type Job = ExecJob;
    type Done = Executed;

    fn slug(job: &ExecJob) -> &TenantSlug {
        &job.slug
    }

    async fn attempt(&self, operator: &Operator, job: &mut ExecJob, _: u32) -> Result<JobOutcome<Executed>> {
        job.statement = None;
        let slug = job.slug.clone();
        let major = operator.facts().major();
        let work = self.db.with_tenant_in(&slug, &self.transaction, async |tx| self.statements(tx, job, major).await);
        tokio::select! {
            biased;
            done = work => done.map(JobOutcome::Done).map_err(|error| self.refusal(error, job)),
            // The future of the attempt is dropped, so its transaction is cancelled and rolled back. The queue has
            // stopped, and the tenant counts as not started.
            () = self.interrupt.cancelling() => Ok(JobOutcome::Changed),
        }
    }

    fn may_repeat(&self, job: &ExecJob) -> bool {
        job.rows_passed == 0
    }

    async fn finish(&self, _: &Operator, job: ExecJob, finished: Finished<Executed>) {
        let Finished { result, elapsed, .. } = finished;
        let ExecJob { slug, rows_passed, statement } = job;
        let failed_statement = statement.filter(|_| result.is_err());
        let outcome = ExecOutcome { slug, result, failed_statement, rows_passed, elapsed };
        let mut sink = self.sink();
        sink.observer.tenant(&outcome);
        sink.outcomes.push(outcome);
    }
}
