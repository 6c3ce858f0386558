//! A tenant's transaction as text, for other drivers: what to send, and how to interpret the responses. It uses no
//! connection and no driver.
//!
//! A frame is one transaction of one tenant. [`Frame::enter`] and [`Frame::leave`] each return one message of the
//! simple-query protocol. Send each message as a whole. Send the application's statements between them, each after a
//! check with [`Frame::admit`]. [`Db`](crate::Db) uses the same texts and the same checks with its own driver.
//!
//! ```
//! use cgk::{TxOptions, config::Isolation, frame::{Failure, Frames, TransactionOutcome}, ident::DatabaseTag};
//!
//! // The tag is what `select public.cgk_database_tag()` says.
//! let frames = Frames::new(DatabaseTag::of("shop"), Isolation::Role);
//! let frame = frames.frame(&"acme".parse()?, &TxOptions::default());
//! let enter: String = frame.enter(); // send it, and wait for its answer before anything else is sent
//! frame.admit("select * from orders").expect("it stays in the transaction");
//! assert!(frame.admit("commit").is_err());
//! let leave: String = frame.leave(); // send it to commit, and count the statements that were completed
//! assert_eq!(frame.judge(1, Some(Failure::server("25P02"))), TransactionOutcome::Aborted);
//! # Ok::<(), cgk::InvalidSlug>(())
//! ```
//!
//! # What the caller must do
//!
//! - Wait for the response to `enter` before the first statement. If it failed, send [`Frame::roll_back`] and send no
//!   statement. [`Frame::diagnose`] and [`Frame::explain`] find the reason.
//! - Send `roll_back` if `leave` was not sent, or if [`Frame::judge`] requires it. If `roll_back` fails, or if the
//!   future was dropped, close the connection: a cancel request may arrive late and reach the next user.
//! - Close the connection unless [`Frame::is_clean`] returns true. It returns true if the session contains no statement
//!   prepared by SQL.
//! - After `leave` or `roll_back`, the session ends at any error outside of a transaction (`exit_on_error`).
//! - If the driver sends COMMIT by a call of its own, send [`Frame::guard`] directly before that call and
//!   [`Frame::scrub`] directly after it. `leave` is shorter: it is one message, which no other statement can interrupt.
//! - To let the server end a statement whose client is gone, send
//!   `set local client_connection_check_interval = 1000` after `enter`. [`Db`](crate::Db) does it if the server runs on
//!   Linux. A server on another system may refuse it.

use super::{
    TxOptions,
    exit::{self, CommitOutcome, ConnectionState, departure},
    explain::{EntryDiagnosis, diagnose_sql},
    protocol::{Nonce, TenantTarget, begin_locked},
    statement_form::{StatementForm, statement_form},
};
use crate::{
    config::{Isolation, Pooling, SessionSettings},
    db::pool::IsolationCheck,
    error::{Error, Result},
    ident::{DatabaseTag, Ident, RoleName, SchemaName, literal},
    search_path::SearchPath,
    slug::TenantSlug,
};
use tokio_postgres::error::SqlState;

/// Creates the frames of one database.
#[derive(Clone, Debug)]
pub struct Frames {
    tag: DatabaseTag,
    isolation: Isolation,
    settings: SessionSettings,
    default_isolation: String,
    extensions: SearchPath,
}

/// One transaction of one tenant.
#[derive(Clone, Debug)]
pub struct Frame {
    target: TenantTarget,
    nonce: Nonce,
    begin: String,
}

/// The reason why the server did not complete a message of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failure<'a> {
    sqlstate: Option<&'a str>,
    connection: ConnectionState,
}

/// The outcome of a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TransactionOutcome {
    /// Committed, and the session is fully reset.
    Committed,
    /// Committed, but the session was not reset. Close the connection.
    CommittedUnclean,
    /// Not committed: the application ended the transaction, or changed its role, path or organization. Send
    /// `roll_back`.
    Tampered,
    /// Not committed: a statement had failed. Send `roll_back`.
    Aborted,
    /// Not committed: the server refused the COMMIT or deferred work. Send `roll_back`.
    Refused,
    /// The connection was lost, and it is unknown whether the transaction committed. Close the connection.
    Unknown,
}

impl Frames {
    /// Creates frames for a database with this tag and isolation. The timeouts are the defaults, and READ COMMITTED is
    /// the server's default isolation level.
    pub fn new(tag: DatabaseTag, isolation: Isolation) -> Self {
        let (settings, default_isolation) = (SessionSettings::default(), "read committed".into());
        Self { tag, isolation, settings, default_isolation, extensions: SearchPath::default() }
    }

    /// Sets the timeouts.
    pub fn with_session(mut self, settings: SessionSettings) -> Self {
        self.settings = settings;
        self
    }

    /// Adds schemas of extensions to the search path, after the tenant's and the shared schema. Use the same schemas as
    /// the setting `search_path` of the services and operators of this database.
    pub fn with_search_path(mut self, schemas: impl IntoIterator<Item = Ident>) -> Self {
        self.extensions = SearchPath::with(schemas.into_iter().collect());
        self
    }

    /// Creates a transaction of a tenant. Each frame has its own number, so use a frame only once.
    pub fn frame(&self, slug: &TenantSlug, options: &TxOptions) -> Frame {
        let role = match self.isolation {
            Isolation::Role => Some(RoleName::of_tenant(slug, &self.tag)),
            Isolation::Path => None,
        };
        let schema = SchemaName::of_tenant(slug);
        let further = self.extensions.clone();
        let path = further.of(&schema);
        let begin = begin_locked(slug, options, &self.default_isolation, &self.settings, Pooling::Direct);
        let target = TenantTarget { slug: slug.clone(), schema, path, further, role };
        Frame { target, nonce: Nonce::random(), begin }
    }
}

impl Frame {
    /// Returns the message that opens the transaction and enters the tenant. If the tenant cannot be entered, the
    /// message fails.
    ///
    /// The message takes the tenant's advisory lock, shared, until the end of the transaction.
    pub fn enter(&self) -> String {
        format!("{}; {}", self.begin, self.target.enter_text(self.nonce, IsolationCheck::Checked))
    }

    /// Returns the message that commits and resets the session. It does not commit if the session has left the tenant
    /// or the transaction.
    pub fn leave(&self) -> String {
        exit::commit(&self.target.guard(self.nonce), Pooling::Direct)
    }

    /// Returns the message to send directly before a COMMIT that the driver sends itself. It runs deferred work, closes
    /// cursors and drops temporary tables. Then it fails with `division_by_zero` if the session has left the tenant or
    /// the transaction.
    ///
    /// Commit only if this message did not fail. If it failed, [`judge`](Self::judge) interprets the failure. Send no
    /// other statement between the two.
    ///
    /// ```
    /// use cgk::{TxOptions, config::Isolation, frame::{Failure, Frames, TransactionOutcome}, ident::DatabaseTag};
    ///
    /// let frames = Frames::new(DatabaseTag::of("shop"), Isolation::Role);
    /// let frame = frames.frame(&"acme".parse()?, &TxOptions::default());
    /// let (guard, scrub) = (frame.guard(), frame.scrub());
    /// // Send `guard`, then let the driver commit, then send `scrub`.
    /// # assert!(!guard.contains("commit") && !scrub.contains("rollback"));
    /// // The guard completed three statements and then failed: roll back.
    /// assert_eq!(frame.judge(3, Some(Failure::server("22012"))), TransactionOutcome::Tampered);
    /// # Ok::<(), cgk::InvalidSlug>(())
    /// ```
    pub fn guard(&self) -> String {
        exit::guarded(&self.target.guard(self.nonce))
    }

    /// Returns the message that resets the session after the driver itself has committed or rolled back. Send it
    /// outside of a transaction. If it fails, or if [`is_clean`](Self::is_clean) returns false for its rows, close the
    /// connection.
    pub fn scrub(&self) -> String {
        exit::scrub(Pooling::Direct)
    }

    /// Returns a query that reads why the tenant could not be entered. Send it after [`enter`](Self::enter) failed and
    /// [`roll_back`](Self::roll_back) was sent. It returns one row, for [`explain`](Self::explain). It changes nothing
    /// and takes no locks except those of a query.
    ///
    /// If the query itself fails with `42P01`, the database has no registry. If it fails with `42501`, the login may
    /// not read the registry.
    pub fn diagnose(&self) -> String {
        let role = self.target.role.as_ref().map_or("", RoleName::as_str);
        let values = [self.target.slug.as_str(), self.target.schema.as_str(), role];
        let literals = values.map(|value| format!("{}::pg_catalog.text", literal(value)));
        let mut sql = diagnose_sql();
        for (number, text) in literals.iter().enumerate() {
            sql = sql.replace(&format!("${}", number + 1), text);
        }
        sql
    }

    /// Explains a row of [`diagnose`](Self::diagnose), whose columns are texts as the server sends them.
    ///
    /// Returns `None` if nothing is wrong with the tenant. Then the server refused `enter` for one of these reasons:
    ///
    /// - The database does not accept this isolation.
    /// - Roles other than the operator's may create objects in the search path.
    /// - The tenant has changed since.
    ///
    /// ```
    /// use cgk::{ErrorKind, TxOptions, config::Isolation, frame::Frames, ident::DatabaseTag};
    ///
    /// let frames = Frames::new(DatabaseTag::of("shop"), Isolation::Role);
    /// let frame = frames.frame(&"acme".parse()?, &TxOptions::default());
    /// let row = ["suspended", "t", "t", "t", "t", "app", "f", "t", "6a7c8f0e-0d8e-4b57-9c39-1f3c2d0e9b11", "", "f"];
    /// let error = frame.explain(row.map(Some)).expect("a suspended tenant cannot be entered");
    /// assert_eq!((error.kind(), error.to_string().as_str()), (ErrorKind::Suspended, "tenant acme is suspended"));
    /// # Ok::<(), cgk::InvalidSlug>(())
    /// ```
    pub fn explain<'a>(&self, columns: impl IntoIterator<Item = Option<&'a str>>) -> Option<Error> {
        let columns: Vec<Option<&str>> = columns.into_iter().collect();
        match EntryDiagnosis::of_text(&columns) {
            Some(found) => found.explain(&self.target),
            None => Some(Error::Unexpected {
                doing: format!("find out why tenant {} cannot be entered", self.target.slug),
                found: format!("no row of the query, but {} columns", columns.len()),
            }),
        }
    }

    /// Returns the message that rolls back and resets the session.
    pub fn roll_back(&self) -> String {
        exit::roll_back(Pooling::Direct)
    }

    /// Checks a statement. Fails if its form ends the transaction or leaves the tenant. Then do not send it.
    ///
    /// # Errors
    ///
    /// [`TransactionError::StatementRefused`](crate::TransactionError::StatementRefused): when the form is refused.
    pub fn admit(&self, sql: &str) -> Result<()> {
        match statement_form(sql) {
            StatementForm::Inside => Ok(()),
            StatementForm::Refused(refused) => Err(refused.error()),
        }
    }

    /// Interprets the response to [`leave`](Self::leave), by the number of completed statements and the error that
    /// stopped the rest.
    pub fn judge(&self, completed: usize, failure: Option<Failure<'_>>) -> TransactionOutcome {
        let state = failure.and_then(|failure| failure.sqlstate).map(SqlState::from_code);
        let stopped = failure.map(|failure| (state.as_ref(), failure.connection));
        match departure(completed, stopped, Pooling::Direct) {
            CommitOutcome::Clean => TransactionOutcome::Committed,
            CommitOutcome::Soiled => TransactionOutcome::CommittedUnclean,
            CommitOutcome::Tampered => TransactionOutcome::Tampered,
            CommitOutcome::Aborted => TransactionOutcome::Aborted,
            CommitOutcome::Refused => TransactionOutcome::Refused,
            CommitOutcome::Unknown => TransactionOutcome::Unknown,
        }
    }

    /// Returns whether the session may be used again. `first_columns` is the first column of the rows at the end of the
    /// response to `leave`, `roll_back` or `scrub`. Each row is a prepared statement. `t` means that SQL prepared it.
    pub fn is_clean<'a>(&self, first_columns: impl IntoIterator<Item = Option<&'a str>>) -> bool {
        first_columns.into_iter().all(|from_sql| from_sql == Some("f"))
    }
}

impl<'a> Failure<'a> {
    /// Creates a failure: the server responded with this SQLSTATE, and the connection is still open.
    pub fn server(sqlstate: &'a str) -> Self {
        Self { sqlstate: Some(sqlstate), connection: ConnectionState::Alive }
    }

    /// Creates a failure: the connection is lost. It is broken, or the server ended it with FATAL.
    pub fn lost() -> Self {
        Self { sqlstate: None, connection: ConnectionState::Lost }
    }
}
