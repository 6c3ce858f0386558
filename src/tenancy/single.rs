//! Single statements of a tenant or of the platform, in one round trip each.

use super::{
    Db, TxOptions,
    descriptions::Described,
    entry::SentExit,
    row::{self, FromRow},
    session::{Behind, CallerScope, TransactionSession, classify_commit, recorded, span},
    statement_form::{COPY, is_copy},
};
use crate::{
    db::message::Answer,
    error::{ConnectionError, Error, Result, TenantError, TransactionError},
    slug::TenantSlug,
    sqlstate,
};
use futures_util::future::Either;
use std::{
    future::{Future, poll_fn},
    pin::pin,
    task::Poll,
};
use tokio_postgres::{
    Row,
    types::{ToSql, Type},
};

type PgResult<T> = Result<T, tokio_postgres::Error>;

/// One tenant of a [`Db`], for single statements.
///
/// Each call is its own transaction with all protections of [`Db::with_tenant`]. Three messages are sent together, in
/// one round trip: one that enters the tenant, the statement, and one that checks and commits.
///
/// Two cases take one more round trip each:
///
/// - The first time that a tenant runs a statement with parameters, cgk asks the server for their types. The `_typed`
///   forms never do this.
/// - Behind a pooler (`pooled = true`), cgk waits for the response to the entering message before it sends the
///   statement.
///
/// If the statement fails, nothing is committed. There is one exception, which the client detects only after the
/// commit: `query_one` and `query_opt` return an error for a wrong number of rows, and `query_as` for a row that does
/// not match the type.
pub struct TenantHandle<'a, E = Error> {
    single: Single<'a, E>,
}

impl<E: From<Error> + Send> Db<E> {
    /// Returns a handle to one tenant, for single statements in one round trip each.
    ///
    /// ```no_run
    /// # async fn example(db: cgk::Db) -> Result<(), cgk::Error> {
    /// let slug: cgk::TenantSlug = "acme".parse()?;
    /// let row = db.tenant(&slug).query_one("select count(*) from orders", &[]).await?;
    /// let orders: i64 = row.get(0);
    /// # Ok(()) }
    /// ```
    pub fn tenant<'a>(&'a self, slug: &'a TenantSlug) -> TenantHandle<'a, E> {
        TenantHandle { single: Single { db: self, of: CallerScope::Tenant(slug) } }
    }
}

/// The maximum number of times that a statement is sent, each time in its own transaction. It is sent again only if
/// nothing can have been committed and the cause has changed in the meantime.
const TRIES_MAX: usize = 3;

// Macros instead of functions with closures. The compiler cannot prove that the future of a generic async closure is
// `Send` for every lifetime, and these calls are used in spawned tasks.

/// Refuses a COPY. Its response cannot be read here, and the commit would already be sent.
fn refuse_copy(sql: &str) -> Result<()> {
    if is_copy(sql) { Err(COPY.error()) } else { Ok(()) }
}

/// Runs a statement in one message with its entry and its commit.
macro_rules! described {
    ($self:ident, $sql:ident, $params:ident, |$client:ident, $typed:ident| $work:expr) => {{
        refuse_copy($sql)?;
        let mut again: Option<Error> = None;
        for _ in 0..TRIES_MAX {
            let session = $self.open().await?;
            let described = match session.shared.describe($sql, $params).await {
                Ok(described) => described,
                Err(error) => match $self.give_up(session, error).await {
                    Ok(error) => return Err(error),
                    Err(error) => {
                        again = Some(error);
                        continue;
                    }
                },
            };
            let $typed = described.typed($params);
            let answered = {
                let $client = session.shared.lease.connection().client();
                session.answer($work).await
            };
            match $self.end(session, answered, Some((&described, $sql))).await? {
                Ended::Done(value) => return Ok(value),
                Ended::Again(error) => again = Some(error),
            }
        }
        Err(again.expect("there was a try").into())
    }};
}

/// Runs a statement with explicit types in one message with its entry and its commit.
macro_rules! typed {
    ($self:ident, $sql:ident, |$client:ident| $work:expr) => {{
        refuse_copy($sql)?;
        let mut again: Option<Error> = None;
        for _ in 0..TRIES_MAX {
            let session = $self.open().await?;
            if let Err(error) = session.shared.admit_now($sql).await {
                match $self.give_up(session, error).await {
                    Ok(error) => return Err(error),
                    Err(error) => {
                        again = Some(error);
                        continue;
                    }
                }
            }
            let answered = {
                let $client = session.shared.lease.connection().client();
                session.answer($work).await
            };
            match $self.end(session, answered, None).await? {
                Ended::Done(value) => return Ok(value),
                Ended::Again(error) => again = Some(error),
            }
        }
        Err(again.expect("there was a try").into())
    }};
}

/// The single statements of a tenant or of the platform.
pub(super) struct Single<'a, E> {
    pub(super) db: &'a Db<E>,
    pub(super) of: CallerScope<'a>,
}

impl<E: From<Error> + Send> Single<'_, E> {
    pub(super) async fn query(&self, sql: &str, params: &[&(dyn ToSql + Sync)]) -> Result<Vec<Row>, E> {
        described!(self, sql, params, |client, typed| client.query_typed(sql, &typed))
    }

    pub(super) async fn query_one(&self, sql: &str, params: &[&(dyn ToSql + Sync)]) -> Result<Row, E> {
        described!(self, sql, params, |client, typed| client.query_typed_one(sql, &typed))
    }

    pub(super) async fn query_opt(&self, sql: &str, params: &[&(dyn ToSql + Sync)]) -> Result<Option<Row>, E> {
        described!(self, sql, params, |client, typed| client.query_typed_opt(sql, &typed))
    }

    pub(super) async fn query_as<T: FromRow<How>, How>(
        &self,
        sql: &str,
        params: &[&(dyn ToSql + Sync)],
    ) -> Result<Vec<T>, E> {
        let rows = self.query(sql, params).await?;
        row::read(&rows).map_err(|source| self.failed(source).into())
    }

    pub(super) async fn execute(&self, sql: &str, params: &[&(dyn ToSql + Sync)]) -> Result<u64, E> {
        described!(self, sql, params, |client, typed| client.execute_typed(sql, &typed))
    }

    pub(super) async fn query_typed(&self, sql: &str, params: &[(&(dyn ToSql + Sync), Type)]) -> Result<Vec<Row>, E> {
        typed!(self, sql, |client| client.query_typed(sql, params))
    }

    pub(super) async fn execute_typed(&self, sql: &str, params: &[(&(dyn ToSql + Sync), Type)]) -> Result<u64, E> {
        typed!(self, sql, |client| client.execute_typed(sql, params))
    }

    fn failed(&self, source: tokio_postgres::Error) -> Error {
        let cause = source.into();
        match self.of {
            CallerScope::Tenant(slug) => TransactionError::Statement { tenant: slug.clone(), cause }.into(),
            CallerScope::Platform | CallerScope::Reader(_) => TransactionError::PlatformStatement { cause }.into(),
        }
    }
}

/// Defines the methods of a handle for single statements.
macro_rules! single_statements {
    ($Handle:ident) => {
        impl<E: From<Error> + Send> $Handle<'_, E> {
            /// Runs a query and returns its rows.
            ///
            /// # Locks
            ///
            /// The locks of a transaction of this kind, until the end of the statement's commit. This applies to every
            /// call here.
            ///
            /// # Errors
            ///
            /// The errors of a transaction of this kind. If the statement itself fails, the error has kind
            /// `FailedTransaction`. This applies to every call here.
            ///
            /// # Cancel safety
            ///
            /// The commit is sent together with the statement. If the future is dropped, either everything is committed
            /// or nothing is. This applies to every call here.
            pub async fn query(&self, sql: &str, params: &[&(dyn ToSql + Sync)]) -> Result<Vec<Row>, E> {
                recorded(span(self.single.of, "query"), self.single.query(sql, params)).await
            }

            /// Runs a query that returns exactly one row.
            ///
            /// # Errors
            ///
            /// Same as [`query`](Self::query). Kind `FailedTransaction`: when there is any other number of rows. This
            /// is detected after the commit.
            pub async fn query_one(&self, sql: &str, params: &[&(dyn ToSql + Sync)]) -> Result<Row, E> {
                recorded(span(self.single.of, "query_one"), self.single.query_one(sql, params)).await
            }

            /// Runs a query that returns one row or none.
            ///
            /// # Errors
            ///
            /// Same as [`query`](Self::query). Kind `FailedTransaction`: when there is more than one row. This is
            /// detected after the commit.
            pub async fn query_opt(&self, sql: &str, params: &[&(dyn ToSql + Sync)]) -> Result<Option<Row>, E> {
                recorded(span(self.single.of, "query_opt"), self.single.query_opt(sql, params)).await
            }

            /// Runs a query and reads each row as a value: a tuple, or a type that implements
            /// [`FromRow`](crate::FromRow).
            ///
            /// # Errors
            ///
            /// Same as [`query`](Self::query). Kind `FailedTransaction`: when a row does not match the type. This is
            /// detected after the commit.
            pub async fn query_as<T: FromRow<How>, How>(
                &self,
                sql: &str,
                params: &[&(dyn ToSql + Sync)],
            ) -> Result<Vec<T>, E> {
                recorded(span(self.single.of, "query_as"), self.single.query_as(sql, params)).await
            }

            /// Runs a statement and returns the number of rows that it changed.
            ///
            /// # Errors
            ///
            /// Same as [`query`](Self::query).
            pub async fn execute(&self, sql: &str, params: &[&(dyn ToSql + Sync)]) -> Result<u64, E> {
                recorded(span(self.single.of, "execute"), self.single.execute(sql, params)).await
            }

            /// Runs a query with explicit parameter types.
            ///
            /// # Errors
            ///
            /// Same as [`query`](Self::query).
            pub async fn query_typed(&self, sql: &str, params: &[(&(dyn ToSql + Sync), Type)]) -> Result<Vec<Row>, E> {
                recorded(span(self.single.of, "query_typed"), self.single.query_typed(sql, params)).await
            }

            /// Runs a statement with explicit parameter types and returns the number of rows that it changed.
            ///
            /// # Errors
            ///
            /// Same as [`query`](Self::query).
            pub async fn execute_typed(&self, sql: &str, params: &[(&(dyn ToSql + Sync), Type)]) -> Result<u64, E> {
                recorded(span(self.single.of, "execute_typed"), self.single.execute_typed(sql, params)).await
            }
        }
    };
}
pub(super) use single_statements;

single_statements!(TenantHandle);

/// The responses to a statement and to the commit sent after it.
struct Answered<T> {
    outcome: PgResult<T>,
    /// `None` if the client refused the statement. Then no commit was sent.
    departure: Option<Answer>,
    behind: Behind,
}

/// The outcome of a single statement at the client.
enum Ended<T> {
    Done(T),
    /// Nothing was committed, and the next attempt is likely to succeed.
    Again(Error),
}

impl<E: From<Error> + Send> Single<'_, E> {
    async fn open(&self) -> Result<TransactionSession> {
        self.db.open(self.of, &TxOptions::default()).await
    }

    /// Ends a transaction that only requested the types of its statement. Returns `Err` if another attempt may succeed,
    /// and otherwise the error to report as `Ok`.
    async fn give_up(&self, session: TransactionSession, error: Error) -> Result<E> {
        if session.shared.entered().await.is_err() {
            return match Box::pin(self.db.why_refused(session.shared, Behind::Nothing)).await {
                changed @ Error::Tenant(TenantError::Changed { .. } | TenantError::Renamed { .. }) => Err(changed),
                error => Ok(error.into()),
            };
        }
        session.shared.lease.roll_back().await;
        Ok(error.into())
    }

    /// Interprets the responses to all three messages.
    async fn end<T>(
        &self,
        session: TransactionSession,
        answered: Answered<T>,
        described: Option<(&Described, &str)>,
    ) -> Result<Ended<T>, E> {
        let Answered { outcome, departure, behind } = answered;
        if session.shared.entered().await.is_err() {
            return match Box::pin(self.db.why_refused(session.shared, behind)).await {
                changed @ Error::Tenant(TenantError::Changed { .. } | TenantError::Renamed { .. }) => {
                    Ok(Ended::Again(changed))
                }
                error => Err(error.into()),
            };
        }
        let scope = session.shared.scope.clone();
        let outdated = match (&outcome, described) {
            (Err(source), Some((described, sql))) => session.shared.is_outdated(described, sql, source),
            _ => false,
        };
        let committed = match departure {
            Some(departure) => classify_commit(session.shared, departure).await,
            // The client refused the statement. Neither the statement nor the commit was sent.
            None => {
                session.shared.lease.roll_back().await;
                Err(scope.aborted(None))
            }
        };
        match (outcome, committed) {
            (Ok(value), Ok(())) => Ok(Ended::Done(value)),
            (
                _,
                Err(
                    error @ Error::Transaction(
                        TransactionError::CommitUnknown { .. } | TransactionError::PlatformCommitUnknown { .. },
                    ),
                ),
            )
            | (Ok(_), Err(error)) => Err(error.into()),
            (Err(source), Err(_)) if outdated => Ok(Ended::Again(scope.failed(source))),
            // The driver requests an unknown type after the COMMIT. The statement is committed, but its rows are lost.
            (Err(source), Ok(())) if sqlstate::is_lost(&source) => Err(scope.commit_unknown(source).into()),
            // Nothing was committed. The arms above handle the commit's own outcome.
            (Err(source), Err(_)) if sqlstate::is_lost(&source) => {
                let doing = format!("run a statement of {scope}");
                Err(Error::from(ConnectionError::Lost { doing, source: source.into() }).into())
            }
            (Err(source), _) => Err(scope.failed(source).into()),
        }
    }
}

impl TransactionSession {
    /// Sends a statement and, without waiting, the message that checks and commits. Then waits for the responses to
    /// both.
    async fn answer<T>(&self, work: impl Future<Output = PgResult<T>>) -> Answered<T> {
        let flight = self.shared.lease.begin_statement();
        let mut work = pin!(work);
        // The first poll writes the statement to the connection, so the commit is sent after it.
        let outcome = match poll_fn(|context| Poll::Ready(work.as_mut().poll(context))).await {
            Poll::Ready(Err(error)) => {
                flight.finish_statement();
                return Answered { outcome: Err(error), departure: None, behind: Behind::Nothing };
            }
            Poll::Ready(Ok(value)) => Either::Left(std::future::ready(Ok(value))),
            Poll::Pending => Either::Right(work),
        };
        let guard = self.shared.scope.guard(self.nonce);
        let exit = SentExit::send(&self.shared.lease, &guard, self.shared.pooling).await;
        // The responses are read in the order of the connection. The driver stops reading if an earlier response is not
        // consumed.
        let (_, outcome) = futures_util::future::join(self.shared.entered(), outcome).await;
        let (departure, behind) = match exit {
            Ok(exit) => (exit.answer().await, Behind::Commit),
            Err(error) => (Answer { error: Some(error), ..Answer::default() }, Behind::Nothing),
        };
        flight.finish_statement();
        Answered { outcome, departure: Some(departure), behind }
    }
}
