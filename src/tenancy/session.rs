//! One running transaction, from its connection to its outcome.

use super::{
    Db, TxOptions,
    conflict::undone_by_server,
    current::{HeldConnections, TaskContext, current_tenant},
    diagnosis::{diagnose, diagnose_platform},
    entry::{SentEntry, SentExit},
    exit::{CommitOutcome, ConnectionState, departure},
    failure::Aborted,
    lease::Lease,
    protocol::{Nonce, TenantTarget},
    scope::{PlatformTarget, ReaderTarget, TransactionScope},
    shared::Shared,
};
use crate::{
    config::Isolation,
    context::TenantContext,
    db::{message::Answer, pool},
    error::{ConnectionError, Error, MigrationError, Result, SetupError, TenantError, TransactionError, while_doing},
    ident::{Reader, RoleName, SchemaName},
    slug::TenantSlug,
    sqlstate,
    telemetry::{RecordedOutcome, TransactionTimer},
    user::UserId,
};
use futures_util::FutureExt as _;
use std::{future::Future, sync::Arc};
use tokio_postgres::error::SqlState;
use tracing::{Instrument as _, Span};

/// One running transaction.
pub(super) struct TransactionSession {
    pub(super) shared: Shared,
    pub(super) nonce: Nonce,
    pub(super) context: TaskContext,
}

/// A transaction that did not commit.
pub(super) struct FailedTransaction<E> {
    pub(super) error: E,
    /// Whether the server rolled all of it back because of a conflict, so that a retry may succeed.
    pub(super) undone: bool,
}

impl<E> FailedTransaction<E> {
    fn by(error: Error) -> Self
    where
        E: From<Error>,
    {
        Self { undone: undone_by_server(&error), error: error.into() }
    }
}

/// What was sent after the first message before its response arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Behind {
    /// Only statements, or nothing.
    Nothing,
    /// The commit as well.
    Commit,
}

/// The scope in which the caller opens a transaction.
#[derive(Clone, Copy, Debug)]
pub(super) enum CallerScope<'a> {
    Tenant(&'a TenantSlug),
    Platform,
    /// Reads the shared tables as a role, for a person or for support staff.
    Reader(Option<UserId>),
}

/// Returns the span of a transaction or single statement. Its fields are `operation`, `tenant` and `outcome`. `outcome`
/// is recorded at the end: `committed` or `failed`. It is missing if the future was dropped.
pub(super) fn span(of: CallerScope<'_>, operation: &'static str) -> Span {
    let span = tracing::debug_span!(
        target: "cgk::tenancy",
        "cgk",
        operation,
        tenant = tracing::field::Empty,
        outcome = tracing::field::Empty
    );
    if let CallerScope::Tenant(slug) = of {
        span.record("tenant", slug.as_str());
    }
    span
}

/// Runs work inside its span and records its outcome there. This is not an async function, because its future would
/// then contain the work twice.
pub(super) fn recorded<T, E>(
    span: Span,
    work: impl Future<Output = Result<T, E>> + Send,
) -> impl Future<Output = Result<T, E>> + Send {
    let ended = span.clone();
    let timer = TransactionTimer::start();
    let noted = work.map(move |outcome| {
        ended.record("outcome", if outcome.is_ok() { "committed" } else { "failed" });
        timer.finish(if outcome.is_ok() { RecordedOutcome::Committed } else { RecordedOutcome::Failed });
        outcome
    });
    noted.instrument(span)
}

impl<E> Db<E> {
    /// Takes a connection and sends the first message. `asked` is the former slug that the caller used.
    pub(super) async fn open_named(
        &self,
        of: CallerScope<'_>,
        asked: Option<&TenantSlug>,
        options: &TxOptions,
    ) -> Result<TransactionSession> {
        let (tenant, scope) = match of {
            CallerScope::Tenant(slug) => (Some(slug), TransactionScope::Tenant(self.tenant_target(slug))),
            CallerScope::Platform => {
                if let Some(tenant) = current_tenant() {
                    return Err(TransactionError::PlatformInsideTenant { tenant }.into());
                }
                (None, TransactionScope::Platform(self.platform_target()))
            }
            CallerScope::Reader(user) => {
                if let Some(tenant) = current_tenant() {
                    return Err(TransactionError::ReaderInsideTenant { tenant }.into());
                }
                (None, TransactionScope::Reader(self.reader_target(user)))
            }
        };
        let context = TaskContext { held: self.hold(tenant)?, tenant: tenant.cloned() };
        // The context of the call, if it is a context of this tenant.
        let request =
            TenantContext::if_current().filter(|request| Some(&request.slug) == tenant || Some(&request.slug) == asked);
        let (inner, nonce) = (&self.inner, Nonce::random());
        let place = match (&inner.tenant_limit, tenant) {
            (Some(limit), Some(tenant)) => Some(limit.enter(tenant, &inner.closed).await?),
            _ => None,
        };
        let lease = Lease::new(pool::take(&inner.pool, &inner.config).await?, inner.pool.clone()).in_place(place);
        if let CallerScope::Tenant(slug) = of {
            lease.connection().visit(slug.as_str());
        }
        let entry = SentEntry::send(&lease, &scope, nonce, options, &inner.config, request.as_deref())
            .await
            .map_err(while_doing(format!("enter {scope}")))?;
        let shared = Shared::new(lease, scope, inner.config.pooling(), Arc::clone(&inner.descriptions), entry)
            .expecting(request.map(|request| request.organization_id));
        Ok(TransactionSession { shared, nonce, context })
    }

    /// Returns the connections that the task holds, and adds one for a tenant or for the platform. Fails if the pool
    /// can never provide that many.
    fn hold(&self, tenant: Option<&TenantSlug>) -> Result<HeldConnections> {
        let pool = Arc::as_ptr(&self.inner) as usize;
        let held = HeldConnections::current().and(pool);
        let size_max = self.inner.config.pool().size_max;
        if held.of(pool) <= size_max {
            return Ok(held);
        }
        let error = match (current_tenant(), tenant.cloned()) {
            (Some(outer), Some(inner)) => TransactionError::NestedTenant { outer, inner, size_max },
            (_, tenant) => TransactionError::NestedInPlatform { tenant, size_max },
        };
        Err(error.into())
    }

    fn platform_target(&self) -> PlatformTarget {
        PlatformTarget {
            path: self.inner.search_path.of(&SchemaName::public()),
            further: self.inner.search_path.clone(),
            login: self.inner.config.target().user().unwrap_or_default().to_owned(),
            database: self.inner.database.clone(),
        }
    }

    fn reader_target(&self, user: Option<UserId>) -> ReaderTarget {
        let reader = if user.is_some() { Reader::User } else { Reader::Admin };
        let role = RoleName::of_reader(reader, &self.inner.tag);
        ReaderTarget { platform: self.platform_target(), reader, role, user }
    }

    fn tenant_target(&self, slug: &TenantSlug) -> TenantTarget {
        let role = match self.inner.config.isolation() {
            Isolation::Role => Some(RoleName::of_tenant(slug, &self.inner.tag)),
            Isolation::Path => None,
        };
        let schema = SchemaName::of_tenant(slug);
        TenantTarget {
            slug: slug.clone(),
            path: self.inner.search_path.of(&schema),
            further: self.inner.search_path.clone(),
            schema,
            role,
        }
    }

    /// Ends a transaction according to the result of its body.
    pub(super) async fn close_session<T, E2: From<Error>>(
        &self,
        session: TransactionSession,
        outcome: Result<T, E2>,
    ) -> Result<T, FailedTransaction<E2>> {
        let TransactionSession { shared, nonce, .. } = session;
        if shared.entered().await.is_err() {
            let error = Box::pin(self.why_refused(shared, Behind::Nothing)).await;
            return Err(FailedTransaction::by(error));
        }
        match outcome {
            Ok(value) => {
                let aborted_by_conflict = shared.failures.is_by_conflict(Aborted::ByServer);
                leave(shared, nonce).await.map(|()| value).map_err(|error| match TransactionScope::is_aborted(&error) {
                    // A statement had failed, the body ignored it, and the COMMIT was not reached.
                    true => FailedTransaction { undone: aborted_by_conflict, error: error.into() },
                    false => FailedTransaction::by(error),
                })
            }
            Err(error) => {
                // If the body undid a failure with a savepoint, that failure is no longer recorded.
                let undone = !shared.is_tampered() && shared.failures.is_by_conflict(Aborted::Unknown);
                shared.lease.roll_back().await;
                Err(FailedTransaction { error, undone })
            }
        }
    }

    /// Returns the error that explains why the server refused the first message.
    pub(super) async fn why_refused(&self, shared: Shared, behind: Behind) -> Error {
        let Some(refusal) = shared.entry_error() else { return shared.scope.entry_refused() };
        // The server may have executed the commit although there was no response. If the server reports why it stops,
        // it has not reached the commit, because it responds in order.
        if sqlstate::is_lost(&refusal) && behind == Behind::Commit && refusal.as_db_error().is_none() {
            return shared.scope.commit_unknown(refusal);
        }
        if sqlstate::is_lost(&refusal) {
            let doing = format!("enter {}", shared.scope);
            return ConnectionError::Lost { doing, source: refusal.into() }.into();
        }
        match shared.scope.clone() {
            TransactionScope::Tenant(target) => self.why_tenant_refused(shared, target, refusal).await,
            TransactionScope::Platform(target) => self.why_platform_refused(shared, target, refusal).await,
            TransactionScope::Reader(target) => match target.refused(refusal) {
                Ok(error) => {
                    shared.lease.roll_back().await;
                    error
                }
                Err(refusal) => self.why_platform_refused(shared, target.platform, refusal).await,
            },
        }
    }

    async fn why_tenant_refused(&self, shared: Shared, target: TenantTarget, refusal: tokio_postgres::Error) -> Error {
        let inner = &self.inner;
        if refusal.code() == Some(&SqlState::LOCK_NOT_AVAILABLE) {
            shared.lease.roll_back().await;
            let waited = inner.config.session().lock_timeout;
            return MigrationError::Locked { schema: target.schema, waited }.into();
        }
        match Box::pin(diagnose(&shared, &target, &inner.database, &inner.tag, &inner.config)).await {
            Ok(Some(reason)) => {
                shared.lease.roll_back().await;
                if let Error::Tenant(TenantError::Renamed { tenant, .. }) = &reason {
                    inner.former.learn(tenant.clone());
                }
                reason
            }
            // Nothing is wrong with the tenant, so the cause may be the session. Another call gets another connection.
            Ok(None) => {
                shared.lease.discard();
                TenantError::Changed { tenant: target.slug }.into()
            }
            Err(error) => error,
        }
    }

    async fn why_platform_refused(
        &self,
        shared: Shared,
        target: PlatformTarget,
        refusal: tokio_postgres::Error,
    ) -> Error {
        if refusal.code() != Some(&SqlState::DIVISION_BY_ZERO) {
            shared.lease.roll_back().await;
            return while_doing("begin a transaction of the platform")(refusal);
        }
        let found = diagnose_platform(&shared, &target, &self.inner.tag).await;
        shared.lease.roll_back().await;
        if let Err(error) = found {
            return error;
        }
        SetupError::Privilege {
            role: target.login,
            needed: "use schema public".into(),
            grant: "grant usage on schema public to the login".into(),
            source: Some(refusal.into()),
        }
        .into()
    }
}

/// Commits. The message also contains the guard and the scrub.
async fn leave(shared: Shared, nonce: Nonce) -> Result<()> {
    let (tampered, unsent) = (shared.is_tampered(), shared.failures.has_unsent());
    if tampered || unsent || shared.failures.has_refused() || !shared.lease.is_answering() {
        let error = match (tampered, unsent) {
            (true, _) => shared.scope.tampered(),
            (false, true) => shared.scope.statement_dropped(),
            (false, false) => shared.scope.aborted(shared.failures.aborted_by()),
        };
        shared.lease.roll_back().await;
        return Err(error);
    }
    let flight = shared.lease.begin_statement();
    let exit = match SentExit::send(&shared.lease, &shared.scope.guard(nonce), shared.pooling).await {
        Ok(exit) => exit,
        // The message was not sent. The connection was closed before, and the server has rolled the transaction back.
        Err(source) => {
            let doing = format!("commit the transaction of {}", shared.scope);
            shared.lease.discard();
            return Err(ConnectionError::Lost { doing, source: source.into() }.into());
        }
    };
    let answer = exit.answer().await;
    flight.finish_statement();
    classify_commit(shared, answer).await
}

/// Interprets the response to the last message. Returns the connection to the pool or discards it.
pub(super) async fn classify_commit(shared: Shared, mut answer: Answer) -> Result<()> {
    let judged = answer.error.as_ref().map(|error| {
        (error.code(), if sqlstate::is_lost(error) { ConnectionState::Lost } else { ConnectionState::Alive })
    });
    match (departure(answer.completed, judged, shared.pooling), answer.error.take()) {
        (CommitOutcome::Clean, _) | (_, None) => {
            shared.lease.judge_scrub(&answer);
            shared.lease.release();
            Ok(())
        }
        (CommitOutcome::Soiled, Some(error)) => {
            tracing::warn!(scope = %shared.scope, %error, "committed, but the session could not be scrubbed; connection discarded");
            shared.lease.discard();
            Ok(())
        }
        (CommitOutcome::Unknown, Some(source)) => {
            let error = shared.scope.commit_unknown(source);
            shared.lease.discard();
            Err(error)
        }
        (departure, Some(source)) => {
            let error = match departure {
                CommitOutcome::Tampered => shared.scope.tampered(),
                CommitOutcome::Aborted => shared.scope.aborted(shared.failures.aborted_by()),
                _ => shared.scope.failed(source),
            };
            shared.lease.roll_back().await;
            Err(error)
        }
    }
}
