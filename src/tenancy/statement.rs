//! One statement as a tenant, in one round trip.

use super::{
    Behind, Db, TenantSession, TxOptions, classify_commit,
    descriptions::Described,
    entry::Exit,
    statement_form::{COPY, is_copy},
};
use crate::{
    db::message::Answer,
    error::{Error, Result, TenantError, TransactionError},
    slug::TenantSlug,
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
/// Each call is a transaction of its own with every guard of [`Db::with_tenant`]: the message that enters the tenant, the
/// statement, and the message that checks and commits go out together, and one round trip answers them all. The first time
/// that a tenant runs a statement with parameters, the server is asked for their types, which takes a second one; the
/// `_typed` forms never do. Behind a pooler (`pooled = true`) the message that enters the tenant is answered before the
/// statement is sent, which takes one more.
///
/// A statement that fails takes the commit with it. One thing only happens at the client, after the commit: `query_one` and
/// `query_opt` finding another number of rows than they promise.
pub struct TenantHandle<'a, E = Error> {
    db: &'a Db<E>,
    slug: &'a TenantSlug,
}

impl<E: From<Error> + Send> Db<E> {
    /// One tenant, for single statements in one round trip each.
    ///
    /// ```no_run
    /// # async fn example(db: cgk::Db) -> Result<(), cgk::Error> {
    /// let slug: cgk::TenantSlug = "acme".parse()?;
    /// let row = db.tenant(&slug).query_one("select count(*) from orders", &[]).await?;
    /// let orders: i64 = row.get(0);
    /// # Ok(()) }
    /// ```
    pub fn tenant<'a>(&'a self, slug: &'a TenantSlug) -> TenantHandle<'a, E> {
        TenantHandle { db: self, slug }
    }
}

/// How often a statement is sent at most, each time in a transaction of its own: again where nothing can have been committed
/// and only something that has changed meanwhile stood in its way.
const TRIES_MAX: usize = 3;

// Macros and not functions over closures: a future that comes out of a generic async closure is not known to be `Send` for
// every lifetime, and these calls stand in spawned tasks.

/// Refuses a COPY: its answer cannot be read here, and the commit would already be on its way.
fn refuse_copy(sql: &str) -> Result<()> {
    if is_copy(sql) { Err(COPY.error()) } else { Ok(()) }
}

/// Runs a statement in one message with its entry and its commit.
macro_rules! described {
    ($self:ident, $sql:ident, $params:ident, |$client:ident, $typed:ident| $work:expr) => {{
        refuse_copy($sql)?;
        let mut again: Option<Error> = None;
        for _ in 0..TRIES_MAX {
            let visit = $self.visit().await?;
            let described = match visit.shared.describe($sql, $params).await {
                Ok(described) => described,
                Err(error) => match $self.give_up(visit, error).await {
                    Ok(error) => return Err(error),
                    Err(error) => {
                        again = Some(error);
                        continue;
                    }
                },
            };
            let $typed = described.typed($params);
            let answered = {
                let $client = visit.shared.lease.connection().client();
                visit.answer($work).await
            };
            match $self.end(visit, answered, Some((&described, $sql))).await? {
                Ended::Done(value) => return Ok(value),
                Ended::Again(error) => again = Some(error),
            }
        }
        Err(again.expect("there was a try").into())
    }};
}

/// Runs a statement whose types are given in one message with its entry and its commit.
macro_rules! typed {
    ($self:ident, $sql:ident, |$client:ident| $work:expr) => {{
        refuse_copy($sql)?;
        let mut again: Option<Error> = None;
        for _ in 0..TRIES_MAX {
            let visit = $self.visit().await?;
            if let Err(error) = visit.shared.admit_now($sql).await {
                match $self.give_up(visit, error).await {
                    Ok(error) => return Err(error),
                    Err(error) => {
                        again = Some(error);
                        continue;
                    }
                }
            }
            let answered = {
                let $client = visit.shared.lease.connection().client();
                visit.answer($work).await
            };
            match $self.end(visit, answered, None).await? {
                Ended::Done(value) => return Ok(value),
                Ended::Again(error) => again = Some(error),
            }
        }
        Err(again.expect("there was a try").into())
    }};
}

impl<E: From<Error> + Send> TenantHandle<'_, E> {
    /// Runs a query and returns its rows.
    ///
    /// # Errors
    ///
    /// As [`Db::with_tenant`], with the statement's own failure as kind `Failed`. This is so for every call here.
    ///
    /// # Cancel safety
    ///
    /// The commit is on its way with the statement: dropped, all of it may be committed, or nothing. This is so for every
    /// call here.
    pub async fn query(&self, sql: &str, params: &[&(dyn ToSql + Sync)]) -> Result<Vec<Row>, E> {
        described!(self, sql, params, |client, typed| client.query_typed(sql, &typed))
    }

    /// Runs a query that returns exactly one row.
    ///
    /// # Errors
    ///
    /// As [`query`](Self::query), and kind `Failed` for any other number of rows, which is found after the commit.
    pub async fn query_one(&self, sql: &str, params: &[&(dyn ToSql + Sync)]) -> Result<Row, E> {
        described!(self, sql, params, |client, typed| client.query_typed_one(sql, &typed))
    }

    /// Runs a query that returns one row or none.
    ///
    /// # Errors
    ///
    /// As [`query`](Self::query), and kind `Failed` for more than one row, which is found after the commit.
    pub async fn query_opt(&self, sql: &str, params: &[&(dyn ToSql + Sync)]) -> Result<Option<Row>, E> {
        described!(self, sql, params, |client, typed| client.query_typed_opt(sql, &typed))
    }

    /// Runs a statement and returns the number of rows that it changed.
    ///
    /// # Errors
    ///
    /// As [`query`](Self::query).
    pub async fn execute(&self, sql: &str, params: &[&(dyn ToSql + Sync)]) -> Result<u64, E> {
        described!(self, sql, params, |client, typed| client.execute_typed(sql, &typed))
    }

    /// Runs a query whose parameter types are given.
    ///
    /// # Errors
    ///
    /// As [`query`](Self::query).
    pub async fn query_typed(&self, sql: &str, params: &[(&(dyn ToSql + Sync), Type)]) -> Result<Vec<Row>, E> {
        typed!(self, sql, |client| client.query_typed(sql, params))
    }

    /// Runs a statement whose parameter types are given and returns the number of rows that it changed.
    ///
    /// # Errors
    ///
    /// As [`query`](Self::query).
    pub async fn execute_typed(&self, sql: &str, params: &[(&(dyn ToSql + Sync), Type)]) -> Result<u64, E> {
        typed!(self, sql, |client| client.execute_typed(sql, params))
    }
}

/// What came back for a statement and the commit sent behind it.
struct Answered<T> {
    outcome: PgResult<T>,
    /// `None` when the statement was refused at the client, and so no commit was sent.
    departure: Option<Answer>,
    behind: Behind,
}

/// How a single statement ended at the client.
enum Ended<T> {
    Done(T),
    /// Nothing was committed, and the next try may well succeed.
    Again(Error),
}

impl<E: From<Error> + Send> TenantHandle<'_, E> {
    async fn visit(&self) -> Result<TenantSession> {
        self.db.visit(self.slug, &TxOptions::default()).await
    }

    /// Ends a visit that got no further than asking for the types of its statement; the error is worth another try if it is
    /// returned as one.
    async fn give_up(&self, visit: TenantSession, error: Error) -> Result<E> {
        if visit.shared.entered().await.is_err() {
            return match Box::pin(self.db.why_refused(visit.shared, Behind::Nothing)).await {
                changed @ Error::Tenant(TenantError::Changed { .. }) => Err(changed),
                error => Ok(error.into()),
            };
        }
        visit.shared.lease.roll_back().await;
        Ok(error.into())
    }

    /// Judges the answers of all three messages.
    async fn end<T>(
        &self,
        visit: TenantSession,
        answered: Answered<T>,
        described: Option<(&Described, &str)>,
    ) -> Result<Ended<T>, E> {
        let Answered { outcome, departure, behind } = answered;
        let tenant = self.slug.clone();
        if visit.shared.entered().await.is_err() {
            return match Box::pin(self.db.why_refused(visit.shared, behind)).await {
                changed @ Error::Tenant(TenantError::Changed { .. }) => Ok(Ended::Again(changed)),
                error => Err(error.into()),
            };
        }
        let outdated = match (&outcome, described) {
            (Err(source), Some((described, sql))) => visit.shared.is_outdated(described, sql, source),
            _ => false,
        };
        let classify_commit = match departure {
            Some(departure) => classify_commit(visit.shared, departure).await,
            // Refused at the client: neither the statement nor the commit was sent.
            None => {
                visit.shared.lease.roll_back().await;
                Err(Error::Transaction(TransactionError::Aborted { tenant: tenant.clone(), failed: None }))
            }
        };
        match (outcome, classify_commit) {
            (Ok(value), Ok(())) => Ok(Ended::Done(value)),
            (_, Err(error @ Error::Transaction(TransactionError::CommitUnknown { .. }))) | (Ok(_), Err(error)) => {
                Err(error.into())
            }
            (Err(source), Err(_)) if outdated => {
                Ok(Ended::Again(Error::Transaction(TransactionError::Statement { tenant, source: source.into() })))
            }
            // The driver asks for a type it does not know behind the COMMIT: the statement is committed, its rows are lost.
            (Err(source), Ok(())) if crate::sqlstate::is_lost(&source) => {
                Err(Error::Transaction(TransactionError::CommitUnknown { tenant, source: source.into() }).into())
            }
            (Err(source), _) => {
                Err(Error::Transaction(TransactionError::Statement { tenant, source: source.into() }).into())
            }
        }
    }
}

impl TenantSession {
    /// Sends a statement and, without waiting, the message that checks and commits; then waits for both.
    async fn answer<T>(&self, work: impl Future<Output = PgResult<T>>) -> Answered<T> {
        let flight = self.shared.lease.begin_statement();
        let mut work = pin!(work);
        // The first poll writes the statement to the connection, so the commit goes out behind it.
        let outcome = match poll_fn(|context| Poll::Ready(work.as_mut().poll(context))).await {
            Poll::Ready(Err(error)) => {
                flight.finish_statement();
                return Answered { outcome: Err(error), departure: None, behind: Behind::Nothing };
            }
            Poll::Ready(Ok(value)) => Either::Left(std::future::ready(Ok(value))),
            Poll::Pending => Either::Right(work),
        };
        let exit = Exit::send(&self.shared, self.nonce).await;
        // Read in the order of the wire: the driver stops reading when an earlier answer is not taken.
        let (_, outcome) = futures_util::future::join(self.shared.entered(), outcome).await;
        let (departure, behind) = match exit {
            Ok(exit) => (exit.answer().await, Behind::Commit),
            Err(error) => (Answer { error: Some(error), ..Answer::default() }, Behind::Nothing),
        };
        flight.finish_statement();
        Answered { outcome, departure: Some(departure), behind }
    }
}
