//! One transaction under way, from the connection it takes to what its end comes to.

use super::{
    Db, TenantContext, TxOptions,
    diagnosis::diagnose,
    entry::{Entry, Exit},
    exit::{CommitOutcome, Connection, departure},
    lease::Lease,
    protocol::{Nonce, TenantTarget},
    retry::{is_conflict, undone_by_server},
    scope::{PlatformTarget, Scope},
    shared::Shared,
};
use crate::{
    config::Isolation,
    db::{message::Answer, pool},
    error::{ConnectionError, Error, MigrationError, Result, SetupError, TenantError, TransactionError, while_doing},
    ident::{RoleName, SchemaName},
    slug::TenantSlug,
    sqlstate,
};
use std::sync::Arc;
use tokio_postgres::error::SqlState;

/// One transaction under way.
pub(super) struct Session {
    pub(super) shared: Shared,
    pub(super) nonce: Nonce,
    /// The task-local of a tenant; none for the platform.
    pub(super) context: Option<TenantContext>,
}

/// A transaction that did not commit.
pub(super) struct Failed<E> {
    pub(super) error: E,
    /// Whether the server undid all of it because of a conflict that a new try may not meet.
    pub(super) undone: bool,
}

impl<E> Failed<E> {
    fn by(error: Error) -> Self
    where
        E: From<Error>,
    {
        Self { undone: undone_by_server(&error), error: error.into() }
    }
}

/// What was sent behind the first message before its answer was there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Behind {
    /// Statements at most.
    Nothing,
    /// The commit as well.
    Commit,
}

/// Whose transaction is opened.
#[derive(Clone, Copy, Debug)]
pub(super) enum Of<'a> {
    Tenant(&'a TenantSlug),
    Platform,
}

impl<E> Db<E> {
    /// Takes a connection and sends the first message.
    pub(super) async fn open(&self, of: Of<'_>, options: &TxOptions) -> Result<Session> {
        let (context, scope) = match of {
            Of::Tenant(slug) => (Some(self.context(slug)?), Scope::Tenant(self.tenant_target(slug))),
            Of::Platform => {
                if let Some(TenantContext { slug, .. }) = TenantContext::current() {
                    return Err(TransactionError::PlatformInsideTenant { tenant: slug }.into());
                }
                (None, Scope::Platform(PlatformTarget { path: self.inner.search_path.of(&SchemaName::public()) }))
            }
        };
        let (inner, nonce) = (&self.inner, Nonce::random());
        let lease = Lease::new(pool::take(&inner.pool, &inner.config).await?, inner.pool.clone());
        if let Of::Tenant(slug) = of {
            lease.connection().visit(slug.as_str());
        }
        let entry = Entry::send(&lease, &scope, nonce, options, &inner.config)
            .await
            .map_err(while_doing(format!("enter {scope}")))?;
        let shared = Shared::new(lease, scope, inner.config.pooling(), Arc::clone(&inner.descriptions), entry);
        Ok(Session { shared, nonce, context })
    }

    /// The task-local of a call, refused where the pool can never give what the calls around it hold.
    fn context(&self, slug: &TenantSlug) -> Result<TenantContext> {
        let pool = Arc::as_ptr(&self.inner) as usize;
        let context = TenantContext::inside(slug, pool);
        let size_max = self.inner.pool.status().max_size;
        if context.held_of(pool) > size_max {
            let outer = TenantContext::current().map_or_else(|| slug.clone(), |outer| outer.slug);
            return Err(TransactionError::NestedTenant { outer, inner: slug.clone(), size_max }.into());
        }
        Ok(context)
    }

    fn tenant_target(&self, slug: &TenantSlug) -> TenantTarget {
        let role = match self.inner.config.isolation() {
            Isolation::Role => Some(RoleName::of_tenant(slug, &self.inner.tag)),
            Isolation::Path => None,
        };
        let schema = SchemaName::of_tenant(slug);
        TenantTarget { slug: slug.clone(), path: self.inner.search_path.of(&schema), schema, role }
    }

    /// Ends a transaction by what its body returned.
    pub(super) async fn close<T, E2: From<Error>>(
        &self,
        session: Session,
        outcome: Result<T, E2>,
    ) -> Result<T, Failed<E2>> {
        let Session { shared, nonce, .. } = session;
        if shared.entered().await.is_err() {
            let error = Box::pin(self.why_refused(shared, Behind::Nothing)).await;
            return Err(Failed::by(error));
        }
        match outcome {
            Ok(value) => leave(shared, nonce).await.map(|()| value).map_err(Failed::by),
            Err(error) => {
                // What the body undid itself, with a savepoint, is no longer among the failures.
                let undone =
                    !shared.is_tampered() && shared.failures.aborted_by().is_some_and(|state| is_conflict(&state));
                shared.lease.roll_back().await;
                Err(Failed { error, undone })
            }
        }
    }

    /// Finds out why the first message was refused.
    pub(super) async fn why_refused(&self, shared: Shared, behind: Behind) -> Error {
        let Some(refusal) = shared.entry_error() else { return shared.scope.entry_refused() };
        // The commit may have arrived although no answer did. A server that says why it goes says so in its turn, so it has not
        // come to the commit.
        if sqlstate::is_lost(&refusal) && behind == Behind::Commit && refusal.as_db_error().is_none() {
            return shared.scope.commit_unknown(refusal);
        }
        if sqlstate::is_lost(&refusal) {
            let doing = format!("entering {}", shared.scope);
            return ConnectionError::Lost { doing, source: refusal.into() }.into();
        }
        match shared.scope.clone() {
            Scope::Tenant(target) => self.why_tenant_refused(shared, target, refusal).await,
            Scope::Platform(_) => {
                shared.lease.roll_back().await;
                self.why_platform_refused(refusal)
            }
        }
    }

    async fn why_tenant_refused(&self, shared: Shared, target: TenantTarget, refusal: tokio_postgres::Error) -> Error {
        let inner = &self.inner;
        if refusal.code() == Some(&SqlState::LOCK_NOT_AVAILABLE) {
            shared.lease.roll_back().await;
            let waited = inner.config.session().lock_timeout;
            return MigrationError::Locked { schema: target.schema, waited }.into();
        }
        match Box::pin(diagnose(&shared, &target, &inner.database, &inner.config)).await {
            Ok(Some(reason)) => {
                shared.lease.roll_back().await;
                reason
            }
            // Nothing is wrong with the tenant, so it may be the session: another call gets another connection.
            Ok(None) => {
                shared.lease.discard();
                TenantError::Changed { tenant: target.slug }.into()
            }
            Err(error) => error,
        }
    }

    fn why_platform_refused(&self, refusal: tokio_postgres::Error) -> Error {
        if refusal.code() != Some(&SqlState::DIVISION_BY_ZERO) {
            return while_doing("begin a transaction of the platform")(refusal);
        }
        SetupError::Privilege {
            role: self.inner.config.target().user().unwrap_or_default().to_owned(),
            needed: "use schema public".into(),
            grant: "grant usage on schema public to the login".into(),
            source: Some(refusal.into()),
        }
        .into()
    }
}

/// Commits, guarded and scrubbed.
async fn leave(shared: Shared, nonce: Nonce) -> Result<()> {
    if shared.is_tampered() || !shared.lease.is_answering() {
        let error = match shared.is_tampered() {
            true => shared.scope.tampered(),
            false => shared.scope.aborted(shared.failures.aborted_by()),
        };
        shared.lease.roll_back().await;
        return Err(error);
    }
    let flight = shared.lease.begin_statement();
    let exit = match Exit::send(&shared, nonce).await {
        Ok(exit) => exit,
        // Not even sent: the connection was gone before, and the transaction with it.
        Err(source) => {
            let doing = format!("committing the transaction of {}", shared.scope);
            shared.lease.discard();
            return Err(ConnectionError::Lost { doing, source: source.into() }.into());
        }
    };
    let answer = exit.answer().await;
    flight.finish_statement();
    classify_commit(shared, answer).await
}

/// Judges the answer to the last message, and gives the connection back or throws it away.
pub(super) async fn classify_commit(shared: Shared, mut answer: Answer) -> Result<()> {
    let judged = answer
        .error
        .as_ref()
        .map(|error| (error.code(), if sqlstate::is_lost(error) { Connection::Lost } else { Connection::Alive }));
    match (departure(answer.completed, judged), answer.error.take()) {
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
