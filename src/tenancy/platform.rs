//! The platform's own way to the shared tables: outside of every tenant, across all organizations.

use super::{
    Db, PlatformFn, TenantContext, TxOptions,
    descriptions::{Described, Descriptions, Typed},
    exit::{self, CommitOutcome, Connection, departure},
    lease::Lease,
    protocol::{self, Nonce, PATH, TX, demand_same},
    statement_form::{StatementForm, statement_form},
};
use crate::{
    config::{Config, Pooling},
    db::{message, pool},
    error::{ConnectionError, Error, Result, SetupError, TransactionError, while_doing},
    ident::{SchemaName, literal},
    sqlstate::{self, StatementVerdict},
};
use std::{
    future::Future,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};
use tokio_postgres::{
    Row,
    error::SqlState,
    types::{ToSql, Type},
};

/// What the platform's statements are known under, beside those of tenants; no tenant has this name.
const NO_TENANT: &str = "";

/// The platform's own way to the shared tables, across all organizations; from [`Db::platform`].
///
/// Each call is a transaction of its own, with the guards of a tenant's: search path, timeouts and the mark that says "no
/// tenant" are local to it, a statement that failed cannot commit, and the next user of the connection finds nothing of it.
pub struct Platform<'a, E = Error> {
    db: &'a Db<E>,
}

impl<E: From<Error> + Send> Db<E> {
    /// The shared tables as the platform's own code sees them: every organization's rows, as the login itself, in no tenant.
    /// For signing in, before the tenant is known, for webhooks, and for whatever runs over all organizations.
    ///
    /// ```no_run
    /// # async fn example(db: cgk::Db, token_hash: Vec<u8>) -> Result<(), cgk::Error> {
    /// let session = db
    ///     .platform()
    ///     .query_opt("select organization_id, user_id from sessions where token_hash = $1 and expires_at > now()", &[&token_hash])
    ///     .await?;
    /// # Ok(()) }
    /// ```
    ///
    /// A tenant's transaction has no way here, and a task that is inside a tenant is refused: what is about one tenant and
    /// what is about all of them are told apart by where they stand in the code. The login needs rights on the shared tables:
    /// `cgk setup:database --app-role NAME --app-tables all` gives them.
    pub fn platform(&self) -> Platform<'_, E> {
        Platform { db: self }
    }
}

/// Runs one statement in a transaction of its own, and once more where types that had changed meanwhile stood in its way.
macro_rules! single {
    ($self:ident, $operation:ident, $sql:ident, $params:ident) => {{
        let stay = PlatformSession::begin($self.db, &TxOptions::default()).await?;
        let outcome = PlatformTx { stay: &stay }.$operation($sql, $params).await;
        if outcome.is_ok() || !stay.outdated.load(Ordering::Relaxed) {
            return stay.end(outcome.map_err(E::from)).await;
        }
        stay.lease.roll_back().await;
        let stay = PlatformSession::begin($self.db, &TxOptions::default()).await?;
        let outcome = PlatformTx { stay: &stay }.$operation($sql, $params).await;
        stay.end(outcome.map_err(E::from)).await
    }};
}

impl<E: From<Error> + Send> Platform<'_, E> {
    /// Runs `body` in one transaction: commits when it returns `Ok`, rolls back when it returns `Err`, panics or is dropped.
    ///
    /// ```no_run
    /// # async fn example(db: cgk::Db, email: String) -> Result<(), cgk::Error> {
    /// db.platform()
    ///     .transaction(async |tx| {
    ///         let row = tx.query_one("insert into organizations (slug, name) values ('acme', 'Acme') returning id", &[]).await?;
    ///         let id: uuid::Uuid = row.get(0);
    ///         tx.execute("insert into users (organization_id, email) values ($1, $2)", &[&id, &email]).await
    ///     })
    ///     .await?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Locks
    ///
    /// None of its own.
    ///
    /// # Errors
    ///
    /// Whatever the body returns. `Refused`: the task is inside a tenant; or a statement failed and the body returned `Ok`, or
    /// the body changed role or path or ended the transaction, and nothing is committed. `Denied`: the login may not use the
    /// schema `public`. `CommitUnknown`: the connection broke off around COMMIT. `Unavailable`: no connection in time, or it
    /// was lost before COMMIT was sent.
    ///
    /// # Cancel safety
    ///
    /// As [`Db::with_tenant`]: dropped before COMMIT is sent, nothing is committed, and the next user of the connection finds
    /// nothing of it and does not wait for it.
    #[expect(clippy::manual_async_fn, reason = "the signature promises Send instead of leaking it")]
    pub fn transaction<T: Send, F: PlatformFn<T, E>>(&self, body: F) -> impl Future<Output = Result<T, E>> + Send {
        async move { self.transaction_in(&TxOptions::default(), body).await }
    }

    /// [`transaction`](Self::transaction) with an isolation level or read-only.
    ///
    /// # Errors
    ///
    /// As [`transaction`](Self::transaction).
    ///
    /// # Cancel safety
    ///
    /// As [`transaction`](Self::transaction).
    #[expect(clippy::manual_async_fn, reason = "the signature promises Send instead of leaking it")]
    pub fn transaction_in<T: Send, F: PlatformFn<T, E>>(
        &self,
        options: &TxOptions,
        body: F,
    ) -> impl Future<Output = Result<T, E>> + Send {
        async move {
            let stay = PlatformSession::begin(self.db, options).await?;
            let mut tx = PlatformTx { stay: &stay };
            let outcome = body(&mut tx).await;
            stay.end(outcome).await
        }
    }

    /// Runs a query and returns its rows.
    ///
    /// # Errors
    ///
    /// As [`transaction`](Self::transaction), with the statement's own failure as kind `Failed`. This is so for every call
    /// here.
    ///
    /// # Cancel safety
    ///
    /// As [`transaction`](Self::transaction). This is so for every call here.
    pub async fn query(&self, sql: &str, params: &[&(dyn ToSql + Sync)]) -> Result<Vec<Row>, E> {
        single!(self, query, sql, params)
    }

    /// Runs a query that returns exactly one row.
    ///
    /// # Errors
    ///
    /// As [`query`](Self::query), and kind `Failed` for any other number of rows; nothing is then committed.
    pub async fn query_one(&self, sql: &str, params: &[&(dyn ToSql + Sync)]) -> Result<Row, E> {
        single!(self, query_one, sql, params)
    }

    /// Runs a query that returns one row or none.
    ///
    /// # Errors
    ///
    /// As [`query`](Self::query), and kind `Failed` for more than one row; nothing is then committed.
    pub async fn query_opt(&self, sql: &str, params: &[&(dyn ToSql + Sync)]) -> Result<Option<Row>, E> {
        single!(self, query_opt, sql, params)
    }

    /// Runs a statement and returns the number of rows that it changed.
    ///
    /// # Errors
    ///
    /// As [`query`](Self::query).
    pub async fn execute(&self, sql: &str, params: &[&(dyn ToSql + Sync)]) -> Result<u64, E> {
        single!(self, execute, sql, params)
    }

    /// Runs a query whose parameter types are given.
    ///
    /// # Errors
    ///
    /// As [`query`](Self::query).
    pub async fn query_typed(&self, sql: &str, params: &[(&(dyn ToSql + Sync), Type)]) -> Result<Vec<Row>, E> {
        let stay = PlatformSession::begin(self.db, &TxOptions::default()).await?;
        let outcome = PlatformTx { stay: &stay }.query_typed(sql, params).await;
        stay.end(outcome.map_err(E::from)).await
    }

    /// Runs a statement whose parameter types are given and returns the number of rows that it changed.
    ///
    /// # Errors
    ///
    /// As [`query`](Self::query).
    pub async fn execute_typed(&self, sql: &str, params: &[(&(dyn ToSql + Sync), Type)]) -> Result<u64, E> {
        let stay = PlatformSession::begin(self.db, &TxOptions::default()).await?;
        let outcome = PlatformTx { stay: &stay }.execute_typed(sql, params).await;
        stay.end(outcome.map_err(E::from)).await
    }
}

/// A transaction on the shared tables, across all organizations. It offers statements and no way to the connection.
///
pub struct PlatformTx<'c> {
    stay: &'c PlatformSession,
}

impl PlatformTx<'_> {
    /// Runs a query and returns its rows.
    ///
    /// # Errors
    ///
    /// Kind `Failed` with the server's answer as source; the transaction can then only be rolled back. Kind `Unavailable` when
    /// the connection is lost. This is so for every statement here.
    ///
    /// # Cancel safety
    ///
    /// Dropped once it was polled, the statement goes on at the server, and counts if the transaction commits. This is so for
    /// every statement here.
    pub async fn query(&self, sql: &str, params: &[&(dyn ToSql + Sync)]) -> Result<Vec<Row>> {
        let client = self.stay.client();
        self.stay.described(sql, params, |typed| async move { client.query_typed(sql, &typed).await }).await
    }

    /// Runs a query that returns exactly one row.
    ///
    /// # Errors
    ///
    /// As [`query`](Self::query), and kind `Failed` for any other number of rows.
    pub async fn query_one(&self, sql: &str, params: &[&(dyn ToSql + Sync)]) -> Result<Row> {
        let client = self.stay.client();
        self.stay.described(sql, params, |typed| async move { client.query_typed_one(sql, &typed).await }).await
    }

    /// Runs a query that returns one row or none.
    ///
    /// # Errors
    ///
    /// As [`query`](Self::query), and kind `Failed` for more than one row.
    pub async fn query_opt(&self, sql: &str, params: &[&(dyn ToSql + Sync)]) -> Result<Option<Row>> {
        let client = self.stay.client();
        self.stay.described(sql, params, |typed| async move { client.query_typed_opt(sql, &typed).await }).await
    }

    /// Runs a statement and returns the number of rows that it changed.
    ///
    /// # Errors
    ///
    /// As [`query`](Self::query).
    pub async fn execute(&self, sql: &str, params: &[&(dyn ToSql + Sync)]) -> Result<u64> {
        let client = self.stay.client();
        self.stay.described(sql, params, |typed| async move { client.execute_typed(sql, &typed).await }).await
    }

    /// Runs a query whose parameter types are given.
    ///
    /// # Errors
    ///
    /// As [`query`](Self::query).
    pub async fn query_typed(&self, sql: &str, params: &[(&(dyn ToSql + Sync), Type)]) -> Result<Vec<Row>> {
        self.stay.admit(sql)?;
        self.stay.run(self.stay.client().query_typed(sql, params)).await
    }

    /// Runs a statement whose parameter types are given and returns the number of rows that it changed.
    ///
    /// # Errors
    ///
    /// As [`query`](Self::query).
    pub async fn execute_typed(&self, sql: &str, params: &[(&(dyn ToSql + Sync), Type)]) -> Result<u64> {
        self.stay.admit(sql)?;
        self.stay.run(self.stay.client().execute_typed(sql, params)).await
    }
}

/// One transaction under way.
struct PlatformSession {
    lease: Lease,
    pooling: Pooling,
    descriptions: Arc<Descriptions>,
    nonce: Nonce,
    /// The search path.
    path: String,
    /// Whether a statement failed because of types that had changed since the server was asked for them.
    outdated: AtomicBool,
    /// Whether the body asked for a statement that was refused and not sent.
    tampered: AtomicBool,
    /// The first statement that failed, for the case that the body ignores it.
    first_failure: Mutex<Option<SqlState>>,
}

impl PlatformSession {
    async fn begin<E>(db: &Db<E>, options: &TxOptions) -> Result<Self> {
        if let Some(TenantContext { slug, .. }) = TenantContext::current() {
            return Err(Error::Transaction(TransactionError::PlatformInsideTenant { tenant: slug }));
        }
        let (pool, config): (_, &Config) = (&db.inner.pool, &db.inner.config);
        let lease = Lease::new(pool::take(pool, config).await?, pool.clone());
        let nonce = Nonce::random();
        let stay = Self {
            lease,
            pooling: config.pooling(),
            descriptions: Arc::clone(&db.inner.descriptions),
            nonce,
            outdated: AtomicBool::new(false),
            path: db.inner.search_path.of(&SchemaName::public()),
            tampered: AtomicBool::new(false),
            first_failure: Mutex::new(None),
        };
        let isolation = stay.lease.connection().default_isolation();
        let begin = protocol::begin(options, isolation, config.session(), config.pooling());
        let sql = format!("{begin}; {}", enter_sql(nonce, &stay.path));
        let flight = stay.lease.begin_statement();
        let entered = message::run(stay.client(), &sql).await.and_then(message::Answer::complete);
        flight.finish_statement();
        match entered {
            Ok(_) => Ok(stay),
            Err(source) if source.code() == Some(&SqlState::DIVISION_BY_ZERO) => {
                stay.lease.roll_back().await;
                Err(Error::Setup(SetupError::Privilege {
                    role: config.target().user().unwrap_or_default().to_owned(),
                    needed: "use schema public".into(),
                    grant: "grant usage on schema public to the login".into(),
                    source: Some(source.into()),
                }))
            }
            Err(source) => {
                stay.lease.roll_back().await;
                Err(while_doing("begin a transaction of the platform")(source))
            }
        }
    }

    fn client(&self) -> &tokio_postgres::Client {
        self.lease.connection().client()
    }

    /// Refuses a statement that would end the transaction or leave the platform: afterwards it would be too late.
    fn admit(&self, sql: &str) -> Result<()> {
        match statement_form(sql) {
            StatementForm::Inside => Ok(()),
            StatementForm::Refused(refused) => {
                self.tampered.store(true, Ordering::Relaxed);
                Err(refused.error())
            }
        }
    }

    async fn describe(&self, sql: &str, params: &[&(dyn ToSql + Sync)]) -> Result<Described> {
        self.admit(sql)?;
        match self.descriptions.known(NO_TENANT, sql, params.len()) {
            Some(described) => Ok(described),
            None => self.run(self.descriptions.learn(self.client(), NO_TENANT, sql, params)).await,
        }
    }

    /// Runs a statement with the types of its parameters. Types that are out of date are forgotten, so that the next try
    /// works; where the driver could not even write a parameter in one, nothing was sent, and they are learned again at once.
    async fn described<'p, T, W>(
        &self,
        sql: &str,
        params: &'p [&'p (dyn ToSql + Sync)],
        work: impl Fn(Typed<'p>) -> W,
    ) -> Result<T>
    where
        W: Future<Output = Result<T, tokio_postgres::Error>>,
    {
        let described = self.describe(sql, params).await?;
        let outcome = self.run(work(described.typed(params))).await;
        let Err(Error::Transaction(TransactionError::PlatformStatement { source })) = &outcome else { return outcome };
        if !described.is_from_before()
            || sqlstate::verdict_on_statement(source.as_postgres()) != StatementVerdict::Stale
        {
            return outcome;
        }
        self.descriptions.forget(NO_TENANT, sql);
        if source.server().is_some() {
            self.outdated.store(true, Ordering::Relaxed);
            return outcome;
        }
        let described = self.describe(sql, params).await?;
        self.run(work(described.typed(params))).await
    }

    async fn run<T>(&self, work: impl Future<Output = Result<T, tokio_postgres::Error>>) -> Result<T> {
        let flight = self.lease.begin_statement();
        let outcome = work.await;
        flight.finish_statement();
        outcome.map_err(|source| {
            if let Some(state) = source.code() {
                self.failure().get_or_insert_with(|| state.clone());
            }
            if sqlstate::is_lost(&source) {
                return Error::Connection(ConnectionError::Lost {
                    doing: "running a statement of the platform".into(),
                    source: source.into(),
                });
            }
            self.lease.judge_failure(&source);
            Error::Transaction(TransactionError::PlatformStatement { source: source.into() })
        })
    }

    fn failure(&self) -> MutexGuard<'_, Option<SqlState>> {
        self.first_failure.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn refused(&self, why: &str) -> Error {
        Error::Transaction(TransactionError::PlatformRefused { why: why.into(), failed: self.failure().clone() })
    }

    /// Ends the transaction by what the body returned.
    async fn end<T, E: From<Error>>(self, outcome: Result<T, E>) -> Result<T, E> {
        match outcome {
            Ok(value) => self.leave().await.map(|()| value).map_err(E::from),
            Err(error) => {
                self.lease.roll_back().await;
                Err(error)
            }
        }
    }

    /// Commits, guarded and scrubbed.
    async fn leave(self) -> Result<()> {
        let tampered = self.tampered.load(Ordering::Relaxed);
        if tampered || !self.lease.is_answering() {
            let error = self.refused(if tampered { TAMPERED } else { IGNORED });
            self.lease.roll_back().await;
            return Err(error);
        }
        let sql = exit::commit(&guard(self.nonce, &self.path), self.pooling);
        let flight = self.lease.begin_statement();
        let mut answer = match message::run(self.client(), &sql).await {
            Ok(answer) => answer,
            // Not even sent: the connection was gone before, and the transaction with it.
            Err(source) => {
                self.lease.discard();
                return Err(Error::Connection(ConnectionError::Lost {
                    doing: "committing a transaction of the platform".into(),
                    source: source.into(),
                }));
            }
        };
        flight.finish_statement();
        let lost = |error: &tokio_postgres::Error| match sqlstate::is_lost(error) {
            true => Connection::Lost,
            false => Connection::Alive,
        };
        let departure = departure(answer.completed, answer.error.as_ref().map(|error| (error.code(), lost(error))));
        match (departure, answer.error.take()) {
            (CommitOutcome::Clean, _) | (_, None) => {
                self.lease.judge_scrub(&answer);
                self.lease.release();
                Ok(())
            }
            (CommitOutcome::Soiled, Some(error)) => {
                tracing::warn!(%error, "committed, but the session could not be scrubbed; connection discarded");
                self.lease.discard();
                Ok(())
            }
            (CommitOutcome::Unknown, Some(source)) => {
                self.lease.discard();
                Err(Error::Transaction(TransactionError::PlatformCommitUnknown { source: source.into() }))
            }
            (departure, Some(source)) => {
                let error = match departure {
                    CommitOutcome::Tampered => self.refused(TAMPERED),
                    CommitOutcome::Aborted => self.refused(IGNORED),
                    _ => Error::Transaction(TransactionError::PlatformStatement { source: source.into() }),
                };
                self.lease.roll_back().await;
                Err(error)
            }
        }
    }
}

const TAMPERED: &str = "something inside it ended it, or changed its role, its search path or its tenant";
const IGNORED: &str = "a statement failed and the closure returned Ok";

/// Makes the session the platform's for one transaction, or raises an error.
fn enter_sql(nonce: Nonce, path: &str) -> String {
    let set = |name: &str, value: &str| format!("pg_catalog.set_config('{name}', {}, true)", literal(value));
    let columns = [set("search_path", path), set("cgk.tx", &nonce.to_string()), set("app.current_organization_id", "")];
    format!("select {}; {}", columns.join(", "), guard(nonce, path))
}

/// Raises an error unless the session is the platform's and in the transaction that made it so.
fn guard(nonce: Nonce, path: &str) -> String {
    let organization = "pg_catalog.current_setting('app.current_organization_id', true)";
    let expected =
        [literal(&nonce.to_string()), literal(path), literal(""), literal("public"), "session_user".to_owned()];
    demand_same(&[TX, PATH, organization, "current_schema", "current_user"], &expected)
}
