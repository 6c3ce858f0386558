//! The scope of a transaction: one tenant, or the shared tables. This file contains the differences.

use super::{
    create_rights::login_or_everybody_creates_sql,
    protocol::{Nonce, PATH, TX, TenantTarget, demand_same},
};
use crate::{
    error::{DriverError, Error, SetupError, TenantError, TransactionError},
    ident::{Reader, RoleName, literal, quoted},
    search_path::SearchPath,
    user::UserId,
};
use std::fmt;
use tokio_postgres::error::SqlState;

/// The scope of a transaction.
#[derive(Clone, Debug)]
pub(super) enum TransactionScope {
    Tenant(TenantTarget),
    Platform(PlatformTarget),
    Reader(ReaderTarget),
}

/// The shared tables, as a role whose policies decide which rows it reads.
#[derive(Clone, Debug)]
pub(super) struct ReaderTarget {
    pub(super) platform: PlatformTarget,
    pub(super) reader: Reader,
    pub(super) role: RoleName,
    /// The person; `None` for support staff.
    pub(super) user: Option<UserId>,
}

/// The shared tables, across all organizations.
#[derive(Clone, Debug)]
pub(super) struct PlatformTarget {
    /// The search path.
    pub(super) path: String,
    /// The schemas of extensions in the search path.
    pub(super) further: SearchPath,
    pub(super) login: String,
    pub(super) database: String,
}

/// Writes the scope as in "a statement of …".
impl fmt::Display for TransactionScope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tenant(target) => write!(f, "tenant {}", target.slug),
            Self::Platform(_) => f.write_str("the platform"),
            Self::Reader(target) => write!(f, "role {}", target.role.as_str()),
        }
    }
}

const TAMPERED: &str = "something inside it ended it, or changed its role, its search path or its tenant";
const DROPPED: &str = "a statement was dropped before it was sent and the closure returned Ok";
const IGNORED: &str = "a statement failed and the closure returned Ok";
const REFUSED: &str = "the server refused the message that opens it";

impl TransactionScope {
    /// Returns the key of its statements in the cache of types. The key of the shared tables is empty, which is no
    /// tenant's slug.
    pub(super) fn key(&self) -> &str {
        match self {
            Self::Tenant(target) => target.slug.as_str(),
            Self::Platform(_) | Self::Reader(_) => "",
        }
    }

    /// Returns SQL that raises an error unless the session is still in the scope that it entered.
    pub(super) fn guard(&self, nonce: Nonce) -> String {
        match self {
            Self::Tenant(target) => target.guard(nonce),
            Self::Platform(target) => target.guard(nonce),
            Self::Reader(target) => target.guard(nonce),
        }
    }

    /// Returns the error of a statement whose entry was refused.
    pub(super) fn entry_refused(&self) -> Error {
        match self {
            Self::Tenant(target) => TenantError::EntryRefused { tenant: target.slug.clone() }.into(),
            Self::Platform(_) | Self::Reader(_) => {
                TransactionError::PlatformRefused { why: REFUSED.into(), failed: None }.into()
            }
        }
    }

    /// Returns the error of a failed statement.
    pub(super) fn failed(&self, source: tokio_postgres::Error) -> Error {
        let by_row_security = source.as_db_error().is_some_and(|error| error.routine() == Some(ROW_SECURITY_CHECK));
        let cause = source.into();
        match self {
            Self::Tenant(target) => TransactionError::Statement { tenant: target.slug.clone(), cause }.into(),
            Self::Platform(target) if by_row_security => target.row_security_is_off(cause),
            Self::Platform(_) | Self::Reader(_) => TransactionError::PlatformStatement { cause }.into(),
        }
    }

    /// Returns the error for a statement that was dropped before it could be sent, when the body returned `Ok`.
    pub(super) fn statement_dropped(&self) -> Error {
        match self {
            Self::Tenant(target) => TransactionError::StatementDropped { tenant: target.slug.clone() }.into(),
            Self::Platform(_) | Self::Reader(_) => {
                TransactionError::PlatformRefused { why: DROPPED.into(), failed: None }.into()
            }
        }
    }

    /// Returns whether an error is one of [`aborted`](Self::aborted).
    pub(super) fn is_aborted(error: &Error) -> bool {
        match error {
            Error::Transaction(TransactionError::Aborted { .. }) => true,
            Error::Transaction(TransactionError::PlatformRefused { why, .. }) => why == IGNORED,
            _ => false,
        }
    }

    /// Returns the error for a body that left the scope or ended the transaction.
    pub(super) fn tampered(&self) -> Error {
        match self {
            Self::Tenant(target) => TransactionError::Tampered { tenant: target.slug.clone() }.into(),
            Self::Platform(_) | Self::Reader(_) => {
                TransactionError::PlatformRefused { why: TAMPERED.into(), failed: None }.into()
            }
        }
    }

    /// Returns the error for a failed statement, when the body returned `Ok`.
    pub(super) fn aborted(&self, failed: Option<SqlState>) -> Error {
        match self {
            Self::Tenant(target) => TransactionError::Aborted { tenant: target.slug.clone(), failed }.into(),
            Self::Platform(_) | Self::Reader(_) => {
                TransactionError::PlatformRefused { why: IGNORED.into(), failed }.into()
            }
        }
    }

    /// Returns the error for a connection that was lost around COMMIT.
    pub(super) fn commit_unknown(&self, source: tokio_postgres::Error) -> Error {
        let cause = source.into();
        match self {
            Self::Tenant(target) => TransactionError::CommitUnknown { tenant: target.slug.clone(), cause }.into(),
            Self::Platform(_) | Self::Reader(_) => TransactionError::PlatformCommitUnknown { cause }.into(),
        }
    }
}

/// The server's function that refuses a statement because `row_security` is off. The message cannot be compared,
/// because the server translates it.
const ROW_SECURITY_CHECK: &str = "check_enable_rls";

/// Whether the transaction has written nothing. Before version 16 a read-only transaction can write large objects.
const WROTE_NOTHING: &str = "(pg_catalog.txid_current_if_assigned() is null)::pg_catalog.text";

impl ReaderTarget {
    /// Returns SQL that enters the shared tables as the role, or raises an error. The role is set last, because a
    /// hardened database denies it `set_config`.
    pub(super) fn enter_sql(&self, nonce: Nonce) -> String {
        let user = format!("set local app.current_user_id = {}", literal(&self.user_id()));
        let role = format!("set local role {}", self.role.quoted());
        format!("{}; {user}; {role}; {}", self.platform.enter_sql(nonce), self.guard(nonce))
    }

    /// Returns the value of the setting. It is empty for support staff.
    fn user_id(&self) -> String {
        self.user.map(|user| user.to_string()).unwrap_or_default()
    }

    fn guard(&self, nonce: Nonce) -> String {
        let [organization, user] = ["app.current_organization_id", "app.current_user_id"]
            .map(|name| format!("pg_catalog.current_setting('{name}', true)"));
        let expected = [
            literal(&nonce.to_string()),
            literal(&self.platform.path),
            literal(""),
            literal(&self.user_id()),
            literal("public"),
            literal(self.role.as_str()),
            literal("true"),
        ];
        demand_same(&[TX, PATH, &organization, &user, "current_schema", "current_user", WROTE_NOTHING], &expected)
    }

    /// Returns the error that explains why SET ROLE failed, or the server's error if it has another cause.
    pub(super) fn refused(&self, source: tokio_postgres::Error) -> Result<Error, tokio_postgres::Error> {
        let login = &self.platform.login;
        let grant = match (source.code(), self.reader) {
            (Some(&SqlState::INVALID_PARAMETER_VALUE), _) | (Some(&SqlState::INSUFFICIENT_PRIVILEGE), Reader::User) => {
                format!("cgk setup:database --app-role {login} --app-tables all")
            }
            (Some(&SqlState::INSUFFICIENT_PRIVILEGE), Reader::Admin) => {
                format!("grant {} to {}", self.role.quoted(), quoted(login))
            }
            _ => return Err(source),
        };
        let needed = format!("act as role {}", self.role.as_str());
        Ok(SetupError::Privilege { role: login.clone(), needed, grant, source: Some(source.into()) }.into())
    }
}

impl PlatformTarget {
    /// Returns SQL that enters the platform for one transaction, or raises an error.
    pub(super) fn enter_sql(&self, nonce: Nonce) -> String {
        let set = |name: &str, value: &str| format!("pg_catalog.set_config('{name}', {}, true)", literal(value));
        let columns =
            [set("search_path", &self.path), set("cgk.tx", &nonce.to_string()), set("app.current_organization_id", "")];
        let creates = login_or_everybody_creates_sql(&self.further);
        let refused = demand_same(&[&creates], &[literal("f")]);
        format!("select {}; {}; {refused}", columns.join(", "), self.guard(nonce))
    }

    /// Returns the error for a statement that the server refused because a policy would filter the rows that it reads.
    /// The fix is a setting of the role for this database, which has precedence over the settings of the role and of
    /// the database.
    fn row_security_is_off(&self, source: DriverError) -> Error {
        let (login, database) = (quoted(&self.login), quoted(&self.database));
        SetupError::Privilege {
            role: self.login.clone(),
            needed: "read a table with policies: row_security is off, so the server refuses what a policy would filter"
                .into(),
            grant: format!("alter role {login} in database {database} set row_security = on"),
            source: Some(source),
        }
        .into()
    }

    fn guard(&self, nonce: Nonce) -> String {
        let organization = "pg_catalog.current_setting('app.current_organization_id', true)";
        let expected = [
            literal(&nonce.to_string()),
            literal(&self.path),
            literal(""),
            literal("public"),
            "session_user".to_owned(),
        ];
        demand_same(&[TX, PATH, organization, "current_schema", "current_user"], &expected)
    }
}
