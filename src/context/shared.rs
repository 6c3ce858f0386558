//! What a transaction and its savepoints share: the connection on loan, and whether the tenant was entered.

use super::{
    entry::Entry,
    failure::{FailureLog, StatementNumber},
    lease::Lease,
    protocol::{Gate, Look},
    statement_form::{StatementForm, statement_form},
};
use crate::{
    config::Pooling,
    db::message,
    error::{Error, Result},
    sqlstate::{self, StatementVerdict},
};
use futures_util::FutureExt;
use std::{
    future::Future,
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};
use tokio_postgres::{Client, Statement};

/// What a transaction and its savepoints share.
pub(super) struct Shared {
    pub(super) lease: Lease,
    pub(super) gate: Gate,
    pub(super) pooling: Pooling,
    entry: Answer,
    /// Whether the closure asked for a statement that was refused and not sent.
    tampered: AtomicBool,
    /// What has failed, for the case that the closure ignores it.
    pub(super) failures: FailureLog,
}

/// The answer to the first message, for everybody who waits for it.
type Answer = futures_util::future::Shared<Pin<Box<dyn Future<Output = Verdict> + Send>>>;

/// Whether the tenant was entered.
#[derive(Clone)]
enum Verdict {
    Entered,
    /// Why not; taken out by whoever explains it.
    Refused(Arc<Mutex<Option<tokio_postgres::Error>>>),
}

impl Shared {
    pub(super) fn new(lease: Lease, gate: Gate, pooling: Pooling, mut entry: Entry) -> Self {
        let flight = lease.take_off();
        let verdict = async move {
            let refusal = entry.answer().await.take();
            flight.land();
            match refusal {
                None => Verdict::Entered,
                refusal => Verdict::Refused(Arc::new(Mutex::new(refusal))),
            }
        };
        Self {
            lease,
            gate,
            pooling,
            entry: FutureExt::shared(Box::pin(verdict)),
            tampered: AtomicBool::new(false),
            failures: FailureLog::default(),
        }
    }

    /// Whether the session's prepared statements are looked at before the COMMIT.
    pub(super) fn look(&self) -> Look {
        self.lease.look(self.pooling)
    }

    /// Waits for the answer to the first message.
    pub(super) async fn entered(&self) -> Result<()> {
        self.judge(&self.entry.clone().await)
    }

    fn judge(&self, verdict: &Verdict) -> Result<()> {
        match verdict {
            Verdict::Entered => Ok(()),
            Verdict::Refused(_) => Err(Error::EntryRefused { tenant: self.gate.slug.clone() }),
        }
    }

    /// Why the first message failed, once it has.
    pub(super) fn entry_error(&self) -> Option<tokio_postgres::Error> {
        match self.entry.peek()? {
            Verdict::Entered => None,
            Verdict::Refused(why) => why.lock().unwrap_or_else(PoisonError::into_inner).take(),
        }
    }

    pub(super) fn is_tampered(&self) -> bool {
        self.tampered.load(Ordering::Relaxed)
    }

    pub(super) fn client(&self) -> &Client {
        self.lease.connection().client()
    }

    /// Refuses a statement that would end the transaction or leave the tenant: afterwards it would be too late.
    pub(super) fn admit(&self, sql: &str) -> Result<()> {
        match statement_form(sql) {
            StatementForm::Inside => Ok(()),
            StatementForm::SessionStatements => {
                self.lease.never_again();
                Ok(())
            }
            StatementForm::Refused(refused) => {
                self.tampered.store(true, Ordering::Relaxed);
                Err(refused.error())
            }
        }
    }

    /// Runs one piece of work, unless the tenant is known to be closed; its outcome counts only when the tenant was entered.
    pub(super) async fn run<T>(&self, work: impl Future<Output = Result<T, tokio_postgres::Error>>) -> Result<T> {
        if let Some(verdict) = self.entry.peek() {
            self.judge(verdict)?;
            let (flight, number) = (self.lease.take_off(), self.failures.next());
            let outcome = work.await;
            flight.land();
            return self.noted(number, outcome);
        }
        let (flight, number) = (self.lease.take_off(), self.failures.next());
        // Both are read at once: the driver stops reading from the wire when what it has read is not taken from it, and the
        // answer to the first message comes in any number of pieces.
        let (verdict, outcome) = futures_util::future::join(self.entry.clone(), work).await;
        flight.land();
        self.judge(&verdict)?;
        self.noted(number, outcome)
    }

    fn noted<T>(&self, number: StatementNumber, outcome: Result<T, tokio_postgres::Error>) -> Result<T> {
        match outcome {
            Ok(value) => {
                self.failures.succeeded(number);
                Ok(value)
            }
            Err(source) => Err(self.failed(number, source)),
        }
    }

    pub(super) fn failed(&self, number: StatementNumber, source: tokio_postgres::Error) -> Error {
        if let Some(state) = source.code() {
            self.failures.failed(number, state);
        }
        let tenant = self.gate.slug.clone();
        if sqlstate::is_lost(&source) {
            return Error::ConnectionLost { doing: format!("running a statement of tenant {tenant}"), source };
        }
        if sqlstate::is_out_of_step(&source) {
            self.lease.fell_silent();
        }
        Error::Statement { tenant, source }
    }

    pub(super) async fn prepare(&self, operation: &'static str, sql: &str) -> Result<Statement> {
        self.admit(sql)?;
        if self.pooling == Pooling::Transaction {
            return Err(Error::PoolerRefused { operation });
        }
        let (connection, tenant) = (self.lease.connection(), self.gate.slug.as_str());
        // A statement that is known already needs no answer from the server and must not wait for one.
        match connection.prepared(tenant, sql) {
            Some(statement) => Ok(statement),
            None => self.run(connection.prepare(tenant, sql)).await,
        }
    }

    /// Prepares and runs. A statement that may have been made for tables as they were is forgotten, so that the next try
    /// works.
    pub(super) async fn prepared<T, W>(
        &self,
        operation: &'static str,
        sql: &str,
        work: impl FnOnce(Statement) -> W,
    ) -> Result<T>
    where
        W: Future<Output = Result<T, tokio_postgres::Error>>,
    {
        let statement = self.prepare(operation, sql).await?;
        let outcome = self.run(work(statement)).await;
        if let Err(Error::Statement { source, .. }) = &outcome {
            match sqlstate::verdict_on_statement(source) {
                StatementVerdict::Good => {}
                StatementVerdict::Stale => self.lease.connection().forget(self.gate.slug.as_str(), sql),
                StatementVerdict::AllGone => self.lease.connection().forget_all(),
            }
        }
        outcome
    }

    /// Sends a statement of our own without parameters and waits for it.
    pub(super) async fn command(&self, sql: &str) -> Result<()> {
        self.run(async { message::run(self.client(), sql).await?.complete().map(drop) }).await
    }
}
