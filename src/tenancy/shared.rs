//! The state that a transaction and its savepoints share: the connection, and whether the tenant was entered.

use super::{
    descriptions::{Described, Descriptions, Typed},
    entry::SentEntry,
    failure::{FailureLog, StatementNumber},
    lease::{InFlightGuard, Lease},
    scope::TransactionScope,
    statement_form::{StatementForm, statement_form},
};
use crate::{
    config::Pooling,
    db::message,
    error::{ConnectionError, Error, Result, TransactionError},
    sqlstate::{self, StatementVerdict},
    tenant::OrganizationId,
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
use tokio_postgres::{Client, Statement, types::ToSql};

/// The state that a transaction and its savepoints share.
pub(super) struct Shared {
    pub(super) lease: Lease,
    pub(super) scope: TransactionScope,
    pub(super) pooling: Pooling,
    /// The organization that the tenant must belong to, from the context of the call.
    pub(super) expected: Option<OrganizationId>,
    descriptions: Arc<Descriptions>,
    entry: SharedReply,
    /// Whether the closure requested a statement that cgk refused and did not send.
    tampered: AtomicBool,
    /// The failures. They are checked if the closure ignores them and returns `Ok`.
    pub(super) failures: FailureLog,
}

/// The response to the first message, shared by all waiting statements.
type SharedReply = futures_util::future::Shared<Pin<Box<dyn Future<Output = EntryVerdict> + Send>>>;

/// The result of the entry into the tenant, the platform or the reader's role.
#[derive(Clone)]
enum EntryVerdict {
    /// Entered, with the organization that the server found.
    Entered(Option<OrganizationId>),
    /// Not entered, with the server's error. The code that explains the error takes it, so it can be taken once only.
    Refused(Arc<Mutex<Option<tokio_postgres::Error>>>),
}

impl Shared {
    pub(super) fn new(
        lease: Lease,
        scope: TransactionScope,
        pooling: Pooling,
        descriptions: Arc<Descriptions>,
        mut entry: SentEntry,
    ) -> Self {
        let flight = lease.begin_statement();
        let verdict = async move {
            let refusal = entry.answer().await.take();
            flight.finish_statement();
            match refusal {
                None => EntryVerdict::Entered(entry.organization()),
                refusal => EntryVerdict::Refused(Arc::new(Mutex::new(refusal))),
            }
        };
        Self {
            lease,
            scope,
            pooling,
            expected: None,
            descriptions,
            entry: FutureExt::shared(Box::pin(verdict)),
            tampered: AtomicBool::new(false),
            failures: FailureLog::default(),
        }
    }

    pub(super) fn expecting(mut self, organization: Option<OrganizationId>) -> Self {
        self.expected = organization;
        self
    }

    /// Waits for the response to the first message.
    pub(super) async fn entered(&self) -> Result<()> {
        self.judge(&self.entry.clone().await)
    }

    /// Returns the organization that was entered.
    pub(super) async fn organization(&self) -> Result<OrganizationId> {
        let verdict = self.entry.clone().await;
        self.judge(&verdict)?;
        match verdict {
            EntryVerdict::Entered(Some(organization)) => Ok(organization),
            _ => Err(Error::Unexpected {
                doing: "read the organization of the transaction".into(),
                found: "none".into(),
            }),
        }
    }

    /// Waits until a statement may be sent. Behind a pooler this is when the tenant is entered. Without this wait, the
    /// statement would run outside of a transaction if the BEGIN before it fails.
    pub(super) async fn may_send(&self) -> Result<()> {
        match self.pooling {
            Pooling::Direct => Ok(()),
            Pooling::Transaction => self.entered().await,
        }
    }

    fn judge(&self, verdict: &EntryVerdict) -> Result<()> {
        match verdict {
            EntryVerdict::Entered(_) => Ok(()),
            EntryVerdict::Refused(_) => Err(self.scope.entry_refused()),
        }
    }

    /// Returns the error of the first message, if it failed. The error can be taken once only.
    pub(super) fn entry_error(&self) -> Option<tokio_postgres::Error> {
        match self.entry.peek()? {
            EntryVerdict::Entered(_) => None,
            EntryVerdict::Refused(why) => why.lock().unwrap_or_else(PoisonError::into_inner).take(),
        }
    }

    pub(super) fn is_tampered(&self) -> bool {
        self.tampered.load(Ordering::Relaxed)
    }

    pub(super) fn client(&self) -> &Client {
        self.lease.connection().client()
    }

    /// Refuses a statement that would end the transaction or leave the tenant, before it is sent.
    pub(super) fn admit(&self, sql: &str) -> Result<()> {
        match statement_form(sql) {
            StatementForm::Inside => Ok(()),
            StatementForm::Refused(refused) => {
                self.tampered.store(true, Ordering::Relaxed);
                Err(refused.error())
            }
        }
    }

    /// Calls [`admit`](Self::admit), and waits until the statement may be sent.
    pub(super) async fn admit_now(&self, sql: &str) -> Result<()> {
        self.admit(sql)?;
        self.may_send().await
    }

    /// Runs one piece of work, unless the entry has already failed. Its outcome counts only if the tenant was entered.
    pub(super) async fn run<T>(&self, work: impl Future<Output = Result<T, tokio_postgres::Error>>) -> Result<T> {
        if let Some(verdict) = self.entry.peek() {
            self.judge(verdict)?;
        }
        self.failures.until_sent(self.may_send()).await?;
        let awaited = self.begin_statement();
        // Both are read at the same time. The driver stops reading from the socket while its data is not consumed, and
        // the response to the first message arrives in any number of pieces.
        let (verdict, outcome) = futures_util::future::join(self.entry.clone(), work).await;
        let number = awaited.finish();
        self.judge(&verdict)?;
        self.noted(number, outcome)
    }

    /// Marks a statement as running until the response arrives.
    pub(super) fn begin_statement(&self) -> AwaitedStatement<'_> {
        AwaitedStatement {
            log: &self.failures,
            number: self.failures.next(),
            flight: Some(self.lease.begin_statement()),
        }
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
        if sqlstate::is_unsent(&source) {
            self.failures.refused();
        }
        if sqlstate::is_lost(&source) {
            let doing = format!("run a statement of {}", self.scope);
            return ConnectionError::Lost { doing, source: source.into() }.into();
        }
        self.lease.judge_failure(&source);
        self.scope.failed(source)
    }

    /// Returns the parameter types of a statement. They are requested from the server the first time that the tenant
    /// runs it.
    pub(super) async fn describe(&self, sql: &str, params: &[&(dyn ToSql + Sync)]) -> Result<Described> {
        self.admit_now(sql).await?;
        let key = self.scope.key();
        match self.descriptions.known(key, sql, params.len()) {
            Some(described) => Ok(described),
            None => self.run(self.descriptions.learn(self.client(), key, sql, params)).await,
        }
    }

    /// Runs a statement with the types of its parameters. Outdated types are removed, so that the next attempt works.
    /// If the driver could not encode a parameter as its type, nothing was sent. Then the types are requested again at
    /// once.
    pub(super) async fn described<'p, T, W>(
        &self,
        sql: &str,
        params: &'p [&'p (dyn ToSql + Sync)],
        work: impl Fn(Typed<'p>) -> W,
    ) -> Result<T>
    where
        W: Future<Output = Result<T, tokio_postgres::Error>>,
    {
        let described = self.failures.until_sent(self.describe(sql, params)).await?;
        let outcome = self.run(work(described.typed(params))).await;
        let Err(Error::Transaction(
            TransactionError::Statement { cause, .. } | TransactionError::PlatformStatement { cause },
        )) = &outcome
        else {
            return outcome;
        };
        let source = cause.as_postgres();
        if !self.is_outdated(&described, sql, source) || source.as_db_error().is_some() {
            return outcome;
        }
        if sqlstate::is_unsent(source) {
            self.failures.sent_after_all();
        }
        let described = self.failures.until_sent(self.describe(sql, params)).await?;
        self.run(work(described.typed(params))).await
    }

    /// Returns whether a statement failed because its cached types may be outdated. Removes such types from the cache.
    pub(super) fn is_outdated(&self, described: &Described, sql: &str, source: &tokio_postgres::Error) -> bool {
        let outdated = described.is_from_before() && sqlstate::verdict_on_statement(source) == StatementVerdict::Stale;
        if outdated {
            self.descriptions.forget(self.scope.key(), sql);
        }
        outdated
    }

    /// Asks the server to parse a statement under a private name.
    pub(super) async fn prepare(&self, sql: &str) -> Result<Statement> {
        self.admit(sql)?;
        self.failures.until_sent(self.run(self.client().prepare(sql))).await
    }

    /// Sends one of cgk's own statements without parameters and waits for it.
    pub(super) async fn command(&self, sql: &str) -> Result<()> {
        self.run(async { message::run(self.client(), sql).await?.complete().map(drop) }).await
    }
}

/// A statement that waits for its response. If this value is dropped before the response arrives, the statement is
/// recorded as unanswered.
pub(super) struct AwaitedStatement<'s> {
    log: &'s FailureLog,
    number: StatementNumber,
    /// `None` when the response has arrived.
    flight: Option<InFlightGuard>,
}

impl AwaitedStatement<'_> {
    /// Records that the server has responded.
    pub(super) fn finish(mut self) -> StatementNumber {
        if let Some(flight) = self.flight.take() {
            flight.finish_statement();
        }
        self.number
    }
}

impl Drop for AwaitedStatement<'_> {
    fn drop(&mut self) {
        if self.flight.is_some() {
            self.log.unanswered(self.number);
        }
    }
}
