//! The error of the library: what failed, on which object, by kind and by stable code.
//!
//! A message says what was being done in one lower-case line; its cause is in [`std::error::Error::source`] and never
//! repeated in the message. Advice belongs to whoever talks to a person: the command-line program keeps it beside the codes.

use crate::{
    config::{ConfigError, Isolation},
    ident::SchemaName,
    migration::{Divergence, FileMismatch, FileProblem, MigrationFailure, MigrationId, Set, count},
    slug::{InvalidSlug, TenantSlug},
    tenant::{OrganizationId, TenantStatus},
};
use std::{path::PathBuf, time::Duration};
use tokio_postgres::error::SqlState;

/// The result of the library's functions.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What went wrong. [`Error::kind`] is the closed list to decide by, [`Error::code`] the stable text to search for.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The text given is no slug.
    #[error(transparent)]
    InvalidSlug(#[from] InvalidSlug),
    /// A setting is missing or cannot be used.
    #[error(transparent)]
    Config(#[from] ConfigError),

    /// No connection could be made.
    #[error("could not connect to {target}")]
    Connect {
        /// The address without its password.
        target: String,
        /// What the driver said.
        source: tokio_postgres::Error,
    },
    /// The server refuses this user.
    #[error("{target} refused the login")]
    Login {
        /// The address without its password.
        target: String,
        /// What the server said.
        source: tokio_postgres::Error,
    },
    /// The server has no such database.
    #[error("database {database:?} does not exist on {target}")]
    DatabaseMissing {
        /// The address without its password.
        target: String,
        /// The database asked for.
        database: String,
        /// What the server said.
        source: tokio_postgres::Error,
    },
    /// The server is older than cgk supports.
    #[error("{target} is PostgreSQL {found}, and cgk needs {needed} or newer")]
    ServerTooOld {
        /// The address without its password.
        target: String,
        /// Its version.
        found: String,
        /// The oldest major version that works.
        needed: u32,
    },
    /// Every connection of the pool stayed busy.
    #[error("no connection became free within {waited:?}")]
    PoolTimeout {
        /// How long was waited.
        waited: Duration,
    },
    /// The connection broke off, or the server shut down.
    #[error("lost the connection while {doing}")]
    ConnectionLost {
        /// What was being done.
        doing: String,
        /// What the driver said.
        source: tokio_postgres::Error,
    },

    /// The role may not do what is needed.
    #[error("role {role:?} may not {needed}")]
    Privilege {
        /// The role of the connection.
        role: String,
        /// What it would have to be allowed.
        needed: String,
        /// The statement that an owner or superuser can run to allow it.
        grant: String,
        /// What the server said, where it was asked.
        source: Option<tokio_postgres::Error>,
    },
    /// The database has no registry of tenants.
    #[error("database {database:?} is not set up for cgk: {missing}")]
    NotSetUp {
        /// The database.
        database: String,
        /// What is missing.
        missing: String,
    },
    /// The database is a copy of another one, or was moved to another server: its tenants' roles are not its own.
    #[error("database {database:?} is a copy of another one, and has no roles of its own")]
    DatabaseCopied {
        /// The database.
        database: String,
    },
    /// The configuration keeps tenants apart in another way than the database does.
    #[error("database {database:?} has isolation {:?}, and the configuration says {:?}", stored.as_str(), configured.as_str())]
    IsolationMismatch {
        /// The database.
        database: String,
        /// The isolation of the database.
        stored: Isolation,
        /// The isolation of the configuration.
        configured: Isolation,
    },
    /// A role that is to be the login of a service may do what such a login must not be able to.
    #[error("role {role:?} cannot be the login of a service: it {why}")]
    LoginUnfit {
        /// The role.
        role: String,
        /// What it may do.
        why: String,
        /// The statement or command that mends it.
        mend: String,
    },

    /// The registry knows no tenant of this name.
    #[error("there is no tenant {tenant}")]
    TenantNotFound {
        /// The name.
        tenant: TenantSlug,
    },
    /// The tenant is suspended.
    #[error("tenant {tenant} is suspended")]
    TenantSuspended {
        /// The tenant.
        tenant: TenantSlug,
    },
    /// The tenant's status is one that this version does not know; only `active` lets anybody in.
    #[error("tenant {tenant} has the status {status}, and only active tenants are entered")]
    StatusUnknown {
        /// The tenant.
        tenant: TenantSlug,
        /// Its status in the registry, a [`TenantStatus::Other`].
        status: TenantStatus,
    },
    /// The tenant is registered, and something it needs is not there.
    #[error("tenant {tenant} is not ready: {missing}")]
    TenantNotReady {
        /// The tenant.
        tenant: TenantSlug,
        /// Its status in the registry.
        status: TenantStatus,
        /// What is not there.
        missing: String,
    },
    /// The server refused the way into the tenant. Seen by the closure only: `with_tenant` itself finds out why and returns
    /// that.
    #[error("the way into tenant {tenant} was refused")]
    EntryRefused {
        /// The tenant.
        tenant: TenantSlug,
    },
    /// The tenant could not be entered, and a moment later nothing stood in the way: its status or its schema was being
    /// changed. Nothing was done; trying again may well succeed.
    #[error("tenant {tenant} was changing while it was entered")]
    TenantChanged {
        /// The tenant.
        tenant: TenantSlug,
    },
    /// A schema of this name exists, and cgk did not make it.
    #[error("schema {schema:?} exists and is not cgk's: {why}", schema = schema.as_str())]
    SchemaNotOurs {
        /// The schema.
        schema: SchemaName,
        /// How that shows.
        why: String,
    },

    /// The tenant's schema belongs to another organization than the one that has the slug in the registry.
    #[error("schema {schema:?} belongs to organization {found}, and in the registry {tenant} is organization {expected}", schema = schema.as_str())]
    OrganizationMismatch {
        /// The tenant.
        tenant: TenantSlug,
        /// Its schema.
        schema: SchemaName,
        /// The organization that has the slug in the registry.
        expected: OrganizationId,
        /// The organization that the comment on the schema names.
        found: String,
    },
    /// The registry says that the tenant is in use, and its schema is gone. Nothing was made in its place.
    #[error("tenant {tenant} is {status}, and its schema {schema:?} is gone", schema = schema.as_str())]
    SchemaGone {
        /// The tenant.
        tenant: TenantSlug,
        /// Its status in the registry.
        status: TenantStatus,
        /// The schema.
        schema: SchemaName,
    },
    /// A schema cannot be in the search path of tenants.
    #[error("schema {schema:?} cannot be in the search path: {why}")]
    SearchPathUnfit {
        /// The schema.
        schema: String,
        /// Why.
        why: String,
        /// The statement that changes that; empty where none does.
        fix: String,
    },

    /// Something inside the closure ended the transaction, or changed its role or search path; what was still open is
    /// rolled back.
    #[error("the transaction of tenant {tenant} was tampered with and is rolled back")]
    TransactionTampered {
        /// The tenant.
        tenant: TenantSlug,
    },
    /// A statement of a form that would end the transaction or leave it for another role, search path or organization. It was
    /// not sent; the transaction can only be rolled back.
    #[error("`{form}` is refused inside a transaction of cgk: {instead}")]
    StatementRefused {
        /// The first words of the form.
        form: &'static str,
        /// What to do instead.
        instead: &'static str,
    },
    /// A statement failed, the closure ignored that and asked for a commit; nothing is committed.
    #[error("a statement in the transaction of tenant {tenant} failed ({}) and the closure returned Ok: nothing is committed", .failed.as_ref().map_or("unknown", |state| state.code()))]
    TransactionAborted {
        /// The tenant.
        tenant: TenantSlug,
        /// The SQLSTATE of the first statement that failed.
        failed: Option<SqlState>,
    },
    /// The connection broke off around COMMIT: the transaction is either wholly committed or not at all, and which of the
    /// two only the data can tell.
    #[error("the connection broke off during COMMIT of tenant {tenant}: committed or not is unknown")]
    CommitUnknown {
        /// The tenant.
        tenant: TenantSlug,
        /// What the driver said.
        source: tokio_postgres::Error,
    },
    /// A `with_tenant` inside a `with_tenant` needs a second connection, and the pool can never give it.
    #[error(
        "with_tenant for {inner} inside with_tenant for {outer} needs one connection more than the pool of {size_max} has"
    )]
    NestedTenant {
        /// The tenant of the outer call.
        outer: TenantSlug,
        /// The tenant of the inner call.
        inner: TenantSlug,
        /// The size of the pool.
        size_max: usize,
    },
    /// A statement inside a tenant's transaction failed.
    #[error("a statement of tenant {tenant} failed")]
    Statement {
        /// The tenant.
        tenant: TenantSlug,
        /// What the server or driver said.
        source: tokio_postgres::Error,
    },
    /// A statement of the platform's own failed.
    #[error("a statement of the platform failed")]
    PlatformStatement {
        /// What the server or driver said.
        source: tokio_postgres::Error,
    },
    /// A transaction of the platform's own did not commit because of what ran inside it; it is rolled back.
    #[error("the platform's transaction is rolled back: {why}")]
    PlatformRefused {
        /// What ran inside it.
        why: String,
        /// The SQLSTATE of the first statement that failed.
        failed: Option<SqlState>,
    },
    /// The connection broke off around COMMIT of a transaction of the platform's own.
    #[error("the connection broke off during COMMIT of the platform's transaction: committed or not is unknown")]
    PlatformCommitUnknown {
        /// What the driver said.
        source: tokio_postgres::Error,
    },
    /// The platform's way to all organizations was asked for in a task that is inside a tenant.
    #[error("the platform's tables were asked for inside tenant {tenant}")]
    PlatformInsideTenant {
        /// The tenant.
        tenant: TenantSlug,
    },
    /// The connection goes through a transaction pooler, where this cannot work.
    #[error("{operation} cannot work through a transaction pooler")]
    PoolerRefused {
        /// What was asked for.
        operation: &'static str,
    },

    /// The migrations directory cannot be read.
    #[error("could not read the migrations in {path:?}: {problem}")]
    MigrationsUnreadable {
        /// The directory or file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
        /// What the operating system said.
        source: Option<std::io::Error>,
    },
    /// Migration files that cannot be used; the database was not touched.
    #[error("{} in the migrations, the first: {}", count(.problems.len(), "problem"), .problems.first().map(ToString::to_string).unwrap_or_default())]
    MigrationsInvalid {
        /// Each of them.
        problems: Vec<FileProblem>,
    },
    /// The server refused a migration; the schema is as it was, but for what the failure says of files without a transaction.
    #[error(transparent)]
    Migration(Box<MigrationFailure>),
    /// What a schema's ledger says and what the files say do not agree.
    #[error(transparent)]
    Diverged(Box<Divergence>),
    /// The set of files is not the one that the fleet has: older, another one, or edited since. No schema was touched.
    #[error("the {set} migrations are not those of this database: {}", .mismatches.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    WrongFiles {
        /// Which of the two sets.
        set: Set,
        /// Each file in which it differs.
        mismatches: Vec<FileMismatch>,
    },
    /// A version was named of which there is no file.
    #[error("there is no file of version {version} in the {set} set")]
    NoSuchVersion {
        /// Which of the two sets.
        set: Set,
        /// The version.
        version: crate::version::Version,
    },
    /// A canary is not one of the tenants that are to be migrated: without it all others would go first.
    #[error("tenant {tenant} is to go first, and it is not one of the tenants of this run")]
    CanaryLeftOut {
        /// The tenant.
        tenant: TenantSlug,
    },
    /// Another run holds the lock of this schema.
    #[error("schema {schema:?} is locked by another run: waited {waited:?}", schema = schema.as_str())]
    Locked {
        /// The schema.
        schema: SchemaName,
        /// How long was waited.
        waited: Duration,
    },
    /// Another run changed the schema again and again between this run's look and its turn.
    #[error("schema {schema:?} kept changing under this run: {tries} tries", schema = schema.as_str())]
    Contended {
        /// The schema.
        schema: SchemaName,
        /// How often it was tried.
        tries: u32,
    },

    /// All or nothing was asked for, and one transaction cannot hold that many locks. Nothing was changed.
    #[error("the transaction would need about {needed} locks, and the server's lock table has room for {size}")]
    TooManyLocks {
        /// How many entries of the lock table it would need, by what the first tenant took.
        needed: u64,
        /// How many the server has for all its sessions together.
        size: u64,
    },
    /// A plan was to be carried out as it is, and a schema is no longer as the plan took it to be. It was not changed.
    #[error("schema {schema:?} has changed since the plan was made", schema = schema.as_str())]
    PlanStale {
        /// The schema.
        schema: SchemaName,
    },
    /// A migration without a transaction is half done, and its file is not the one that was begun.
    #[error("migration {migration} is half done in schema {schema:?}: {problem}", schema = schema.as_str())]
    HalfDone {
        /// The schema.
        schema: SchemaName,
        /// The migration that was begun.
        migration: MigrationId,
        /// How its file differs from what was begun.
        problem: String,
    },
    /// A migration cannot run in the empty schema in which what the migrations give is looked at; nothing was changed.
    #[error("could not find out what the migrations give: {file:?} fails in an empty schema")]
    NoReference {
        /// The file.
        file: PathBuf,
        /// What the server said.
        source: tokio_postgres::Error,
    },
    /// The rehearsal failed: a new tenant could not be made from these files. No tenant was touched.
    #[error("a new tenant could not be made from these migrations")]
    Rehearsal {
        /// Which file failed in the schema of the rehearsal, and why.
        source: Box<Error>,
    },
    /// A set applies file by file only, and a file does something outside its schema that a rehearsal could not take back.
    #[error("{file:?} cannot be rehearsed: it writes outside its schema or creates an extension in it")]
    NotRehearsable {
        /// The file.
        file: PathBuf,
    },
    /// A ledger was not written, because what was asked for would have made it say something untrue.
    #[error("the ledger of schema {schema:?} was left as it is: {why}", schema = schema.as_str())]
    LedgerRefused {
        /// The schema.
        schema: SchemaName,
        /// Why.
        why: String,
    },
    /// A row that cgk wrote is not in its table as it was written, or the table refused it. The transaction was rolled back.
    #[error(
        "{table} does not hold what cgk wrote to it: a trigger, a rule or a constraint on that table is the likely cause"
    )]
    RowNotWritten {
        /// The table with its schema, quoted as in SQL.
        table: String,
        /// What the server said, where it refused the row.
        source: Option<tokio_postgres::Error>,
    },
    /// A schema was not adopted, because it is not what the migrations give; nothing was written.
    #[error("schema {schema:?} is not what the migrations up to {upto} give: {}", count(.differences.len(), "difference"), schema = schema.as_str())]
    BaselineDiffers {
        /// The schema.
        schema: SchemaName,
        /// The newest migration that it was to be taken for.
        upto: String,
        /// Each difference in a line.
        differences: Vec<String>,
    },

    /// Any other statement failed.
    #[error("could not {doing}")]
    Database {
        /// What was being done, to which object.
        doing: String,
        /// What the server or driver said.
        source: tokio_postgres::Error,
    },
    /// What the server answered is not what was asked for.
    #[error("unexpected answer while trying to {doing}: {found}")]
    Unexpected {
        /// What was being done.
        doing: String,
        /// What came back.
        found: String,
    },
}

/// The closed list of what can be wrong: what a program decides by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// The input cannot be used: a slug, a setting, a migration file. Nothing was touched.
    Invalid,
    /// The database cannot be reached or used just now; trying again later may work.
    Unavailable,
    /// The server refuses the login, or a privilege is missing.
    Denied,
    /// The database is not set up, or a tenant is not provisioned.
    NotReady,
    /// There is no such tenant or database.
    NotFound,
    /// The tenant is there, and its status lets nobody in: it is suspended, or the status is one that cgk does not know.
    Suspended,
    /// What is there is not cgk's, or not what was asked for takes it to be.
    Conflict,
    /// The transaction did not commit because of what ran inside it, or cgk refuses to work with what it found.
    Refused,
    /// Whether the transaction committed is unknown.
    CommitUnknown,
    /// Somebody else holds the lock.
    Locked,
    /// Ledger and files do not agree.
    Drift,
    /// The server refused a statement.
    Failed,
}

impl Error {
    /// The kind to decide by.
    ///
    /// A statement that the server refused because of its own condition (a full disk, a shutdown, no free connection, a
    /// read-only server) is [`Unavailable`](ErrorKind::Unavailable) and not [`Failed`](ErrorKind::Failed), whatever the
    /// statement was.
    pub fn kind(&self) -> ErrorKind {
        match self.entry().1 {
            ErrorKind::Failed if self.sqlstate().is_some_and(crate::sqlstate::is_the_servers) => ErrorKind::Unavailable,
            kind => kind,
        }
    }

    /// The stable code, `CGK` and four digits: the same text in messages, in JSON and in the documentation.
    pub fn code(&self) -> &'static str {
        self.entry().0
    }

    /// The SQLSTATE behind the error, if the server gave one.
    pub fn sqlstate(&self) -> Option<&SqlState> {
        match self {
            Self::Migration(failure) => Some(&failure.sqlstate),
            Self::Rehearsal { source } => source.sqlstate(),
            Self::TransactionAborted { failed, .. } | Self::PlatformRefused { failed, .. } => failed.as_ref(),
            _ => self.driver()?.code(),
        }
    }

    /// Whether running the same thing again can succeed without anybody mending anything.
    pub fn is_retryable(&self) -> bool {
        // What was committed before it failed is not done again by the same plan.
        let in_the_middle = matches!(self, Self::Migration(failure) if !failure.committed.is_empty());
        !in_the_middle
            && (matches!(self, Self::TenantChanged { .. })
                || self.kind() == ErrorKind::Locked
                || self.sqlstate().is_some_and(crate::sqlstate::is_passing)
                || self.is_catalogue_race())
    }

    /// Whether another session changed the same row of the catalogue at the same time.
    pub(crate) fn is_catalogue_race(&self) -> bool {
        self.server().is_some_and(crate::sqlstate::is_catalogue_race)
    }

    /// What the server said, if it was the server.
    pub fn server(&self) -> Option<&tokio_postgres::error::DbError> {
        match self {
            Self::Migration(failure) => failure.source.as_db_error(),
            Self::Rehearsal { source } => source.server(),
            _ => self.driver()?.as_db_error(),
        }
    }

    fn driver(&self) -> Option<&tokio_postgres::Error> {
        match self {
            Self::Connect { source, .. }
            | Self::Login { source, .. }
            | Self::DatabaseMissing { source, .. }
            | Self::ConnectionLost { source, .. }
            | Self::CommitUnknown { source, .. }
            | Self::Statement { source, .. }
            | Self::NoReference { source, .. }
            | Self::PlatformStatement { source }
            | Self::PlatformCommitUnknown { source }
            | Self::Database { source, .. } => Some(source),
            Self::Privilege { source, .. } | Self::RowNotWritten { source, .. } => source.as_ref(),
            _ => None,
        }
    }

    /// Code and kind of every variant, the table behind `docs/setup/DATABASE.md`.
    fn entry(&self) -> (&'static str, ErrorKind) {
        use ErrorKind::*;
        match self {
            Self::InvalidSlug(_) => ("CGK0101", Invalid),
            Self::Config(_) => ("CGK0102", Invalid),
            Self::Connect { .. } => ("CGK0201", Unavailable),
            Self::Login { .. } => ("CGK0202", Denied),
            Self::DatabaseMissing { .. } => ("CGK0203", NotFound),
            Self::ServerTooOld { .. } => ("CGK0204", Refused),
            Self::PoolTimeout { .. } => ("CGK0205", Unavailable),
            Self::ConnectionLost { .. } => ("CGK0206", Unavailable),
            Self::PoolerRefused { .. } => ("CGK0207", Invalid),
            Self::Privilege { .. } => ("CGK0301", Denied),
            Self::NotSetUp { .. } => ("CGK0302", NotReady),
            Self::LoginUnfit { .. } => ("CGK0303", Conflict),
            Self::SearchPathUnfit { .. } => ("CGK0304", Conflict),
            Self::DatabaseCopied { .. } => ("CGK0305", Conflict),
            Self::IsolationMismatch { .. } => ("CGK0306", Conflict),
            Self::TenantNotFound { .. } => ("CGK0401", NotFound),
            Self::TenantSuspended { .. } => ("CGK0402", Suspended),
            Self::TenantNotReady { .. } => ("CGK0403", NotReady),
            Self::SchemaNotOurs { .. } => ("CGK0404", Conflict),
            Self::EntryRefused { .. } => ("CGK0405", NotReady),
            Self::OrganizationMismatch { .. } => ("CGK0406", Conflict),
            Self::SchemaGone { .. } => ("CGK0407", NotReady),
            Self::TenantChanged { .. } => ("CGK0408", Unavailable),
            Self::StatusUnknown { .. } => ("CGK0409", Suspended),
            Self::TransactionTampered { .. } => ("CGK0501", Refused),
            Self::TransactionAborted { .. } => ("CGK0502", Refused),
            Self::CommitUnknown { .. } => ("CGK0503", CommitUnknown),
            Self::NestedTenant { .. } => ("CGK0504", Refused),
            Self::Statement { .. } => ("CGK0505", Failed),
            Self::PlatformStatement { .. } => ("CGK0506", Failed),
            Self::PlatformRefused { .. } => ("CGK0507", Refused),
            Self::PlatformCommitUnknown { .. } => ("CGK0508", CommitUnknown),
            Self::PlatformInsideTenant { .. } => ("CGK0509", Refused),
            Self::StatementRefused { .. } => ("CGK0510", Refused),
            Self::MigrationsUnreadable { .. } => ("CGK0601", Invalid),
            Self::MigrationsInvalid { .. } => ("CGK0602", Invalid),
            Self::Migration(_) => ("CGK0603", Failed),
            Self::Diverged(_) => ("CGK0604", Drift),
            Self::Locked { .. } => ("CGK0605", Locked),
            Self::Contended { .. } => ("CGK0606", Locked),
            Self::TooManyLocks { .. } => ("CGK0607", Refused),
            Self::PlanStale { .. } => ("CGK0608", Refused),
            Self::HalfDone { .. } => ("CGK0609", Drift),
            Self::WrongFiles { .. } => ("CGK0610", Drift),
            Self::NoSuchVersion { .. } => ("CGK0611", Invalid),
            Self::CanaryLeftOut { .. } => ("CGK0612", Invalid),
            Self::NoReference { .. } => ("CGK0621", Failed),
            Self::LedgerRefused { .. } => ("CGK0622", Conflict),
            Self::Rehearsal { .. } => ("CGK0624", Failed),
            Self::NotRehearsable { .. } => ("CGK0625", Refused),
            Self::BaselineDiffers { .. } => ("CGK0623", Drift),
            Self::RowNotWritten { .. } => ("CGK0626", Conflict),
            Self::Database { .. } => ("CGK0901", Failed),
            Self::Unexpected { .. } => ("CGK0902", Failed),
        }
    }
}

/// Sorts a failed statement: lost connections and rows that were not written have an error of their own.
pub(crate) fn while_doing(doing: impl Into<String>) -> impl FnOnce(tokio_postgres::Error) -> Error {
    move |source| {
        let doing = doing.into();
        if crate::sqlstate::is_lost(&source) {
            Error::ConnectionLost { doing, source }
        } else if let Some(table) = crate::row_check::failed(&source) {
            Error::RowNotWritten { table, source: None }
        } else {
            Error::Database { doing, source }
        }
    }
}
