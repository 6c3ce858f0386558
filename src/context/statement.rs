//! One statement as a tenant, in one round trip.

use super::{Behind, Db, TxOptions, Visit, departed, entry::Exit};
use crate::{
    db::message::Answer,
    error::{Error, Result},
    slug::TenantSlug,
    sqlstate::{self, StatementVerdict},
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
/// a connection meets a statement it is prepared first, which takes a second one; the `_typed` forms never do.
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

// Macros and not functions over closures: a future that comes out of a generic async closure is not known to be `Send` for
// every lifetime, and these calls stand in spawned tasks.

/// Runs a prepared statement in one message with its entry and its commit.
macro_rules! prepared {
    ($self:ident, $operation:literal, $sql:ident, |$client:ident, $statement:ident| $work:expr) => {{
        // A statement that went stale was refused before it did anything, so it may be prepared anew and run once more.
        let mut stale: Option<Error> = None;
        for _ in 0..2 {
            let visit = $self.visit().await?;
            let $statement = match visit.shared.prepare($operation, $sql).await {
                Ok(statement) => statement,
                Err(error) => return Err($self.give_up(visit, error).await),
            };
            let answered = {
                let $client = visit.shared.lease.connection().client();
                visit.answer($work).await
            };
            if answered.is_stale() {
                visit.shared.lease.connection().forget($self.slug.as_str(), $sql);
            }
            match $self.end(visit, answered).await? {
                Ended::Done(value) => return Ok(value),
                Ended::Stale(error) => stale = Some(error),
            }
        }
        Err(stale.expect("only a stale statement is run again").into())
    }};
}

/// Runs a statement whose types are given in one message with its entry and its commit.
macro_rules! typed {
    ($self:ident, $sql:ident, |$client:ident| $work:expr) => {{
        let visit = $self.visit().await?;
        if let Err(error) = visit.shared.admit($sql) {
            return Err($self.give_up(visit, error).await);
        }
        let answered = {
            let $client = visit.shared.lease.connection().client();
            visit.answer($work).await
        };
        match $self.end(visit, answered).await? {
            Ended::Done(value) => Ok(value),
            Ended::Stale(error) => Err(error.into()),
        }
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
        prepared!(self, "query", sql, |client, statement| client.query(&statement, params))
    }

    /// Runs a query that returns exactly one row.
    ///
    /// # Errors
    ///
    /// As [`query`](Self::query), and kind `Failed` for any other number of rows, which is found after the commit.
    pub async fn query_one(&self, sql: &str, params: &[&(dyn ToSql + Sync)]) -> Result<Row, E> {
        prepared!(self, "query_one", sql, |client, statement| client.query_one(&statement, params))
    }

    /// Runs a query that returns one row or none.
    ///
    /// # Errors
    ///
    /// As [`query`](Self::query), and kind `Failed` for more than one row, which is found after the commit.
    pub async fn query_opt(&self, sql: &str, params: &[&(dyn ToSql + Sync)]) -> Result<Option<Row>, E> {
        prepared!(self, "query_opt", sql, |client, statement| client.query_opt(&statement, params))
    }

    /// Runs a statement and returns the number of rows that it changed.
    ///
    /// # Errors
    ///
    /// As [`query`](Self::query).
    pub async fn execute(&self, sql: &str, params: &[&(dyn ToSql + Sync)]) -> Result<u64, E> {
        prepared!(self, "execute", sql, |client, statement| client.execute(&statement, params))
    }

    /// Runs a query whose parameter types are given: never prepared, and so the way through a transaction pooler.
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

impl<T> Answered<T> {
    fn is_stale(&self) -> bool {
        self.outcome.as_ref().err().is_some_and(is_stale)
    }
}

/// How a single statement ended at the client.
enum Ended<T> {
    Done(T),
    /// The prepared statement may no longer fit; nothing was done.
    Stale(Error),
}

impl<E: From<Error> + Send> TenantHandle<'_, E> {
    async fn visit(&self) -> Result<Visit> {
        self.db.visit(self.slug, &TxOptions::default()).await
    }

    /// Ends a visit that got no further than preparing its statement.
    async fn give_up(&self, visit: Visit, error: Error) -> E {
        match self.db.depart::<()>(visit, Err(error.into())).await {
            Err(failed) => failed.error,
            Ok(()) => unreachable!("an error does not commit"),
        }
    }

    /// Judges the answers of all three messages.
    async fn end<T>(&self, visit: Visit, answered: Answered<T>) -> Result<Ended<T>, E> {
        let Answered { outcome, departure, behind } = answered;
        let tenant = self.slug.clone();
        if visit.shared.entered().await.is_err() {
            return Err(self.db.why_refused(visit.shared, behind).await.into());
        }
        let Some(departure) = departure else {
            // Refused at the client: neither the statement nor the commit was sent.
            visit.shared.lease.roll_back().await;
            let source = outcome.err().expect("only a refusal keeps the commit back");
            return Err(Error::Statement { tenant, source }.into());
        };
        let departed = departed(visit.shared, departure).await;
        match (outcome, departed) {
            (Ok(value), Ok(())) => Ok(Ended::Done(value)),
            (_, Err(error @ Error::CommitUnknown { .. })) | (Ok(_), Err(error)) => Err(error.into()),
            (Err(source), Err(_)) if is_stale(&source) => Ok(Ended::Stale(Error::Statement { tenant, source })),
            (Err(source), _) => Err(Error::Statement { tenant, source }.into()),
        }
    }
}

fn is_stale(error: &tokio_postgres::Error) -> bool {
    sqlstate::verdict_on_statement(error) != StatementVerdict::Good
}

impl Visit {
    /// Sends a statement and, without waiting, the message that checks and commits; then waits for both.
    async fn answer<T>(&self, work: impl Future<Output = PgResult<T>>) -> Answered<T> {
        let flight = self.shared.lease.take_off();
        let mut work = pin!(work);
        // The first poll writes the statement to the connection, so the commit goes out behind it.
        let outcome = match poll_fn(|context| Poll::Ready(work.as_mut().poll(context))).await {
            Poll::Ready(Err(error)) => {
                flight.land();
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
        flight.land();
        Answered { outcome, departure: Some(departure), behind }
    }
}
