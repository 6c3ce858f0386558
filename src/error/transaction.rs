//! Errors of a transaction or statement of a tenant or of the platform.

use super::{DriverError, ErrorKind, Instead};
use crate::slug::TenantSlug;
use std::{error::Error as StdError, fmt};
use tokio_postgres::error::SqlState;

/// Why a transaction did not commit, or a statement did not run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TransactionError {
    /// Code inside the closure ended the transaction, or changed its role or search path. Everything that was still
    /// open was rolled back.
    #[error("the transaction of tenant {tenant} was tampered with and is rolled back")]
    Tampered {
        /// The tenant.
        tenant: TenantSlug,
    },
    /// The statement would end the transaction, or continue it with another role, search path or organization. It was
    /// not sent. The transaction can only be rolled back.
    #[error("`{form}` is refused inside a transaction of cgk: {instead}")]
    StatementRefused {
        /// The first words of the statement form.
        form: &'static str,
        /// What to do instead.
        instead: Instead,
    },
    /// A statement failed at the server or in the driver, but the closure ignored the error and returned `Ok`. Nothing
    /// is committed.
    #[error("a statement in the transaction of tenant {tenant} failed ({}) and the closure returned Ok: nothing is committed", .failed.as_ref().map_or("no SQLSTATE", |state| state.code()))]
    Aborted {
        /// The tenant.
        tenant: TenantSlug,
        /// The SQLSTATE of the first statement that failed at the server; `None` if it is not known.
        failed: Option<SqlState>,
    },
    /// The connection was lost during COMMIT. The transaction is either committed completely or not at all. Only the
    /// data shows which.
    #[error("connection lost during COMMIT of tenant {tenant}, it is unknown whether the transaction committed: {}", Whole(.cause))]
    CommitUnknown {
        /// The tenant.
        tenant: TenantSlug,
        /// The driver's error.
        cause: DriverError,
    },
    /// A `with_tenant` inside a `with_tenant` needs a second connection, and the pool cannot provide one.
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
    /// A call inside `db.platform().transaction` needs a second connection, and the pool cannot provide one.
    #[error(
        "{} inside db.platform().transaction needs one connection more than the pool of {size_max} has",
        .tenant.as_ref().map_or_else(|| "db.platform()".to_owned(), |tenant| format!("with_tenant for {tenant}"))
    )]
    NestedInPlatform {
        /// The tenant of the inner call; `None` if it is a call of the platform.
        tenant: Option<TenantSlug>,
        /// The size of the pool.
        size_max: usize,
    },
    /// The future of a statement was dropped before the statement was sent, and the closure returned `Ok`. Nothing is
    /// committed.
    #[error(
        "a statement of tenant {tenant} was dropped before it was sent and the closure returned Ok: nothing is committed"
    )]
    StatementDropped {
        /// The tenant.
        tenant: TenantSlug,
    },
    /// A statement inside a tenant's transaction failed.
    #[error("a statement of tenant {tenant} failed: {}", Whole(.cause))]
    Statement {
        /// The tenant.
        tenant: TenantSlug,
        /// The error of the server or driver.
        cause: DriverError,
    },
    /// A statement of the platform failed.
    #[error("a statement of the platform failed: {}", Whole(.cause))]
    PlatformStatement {
        /// The error of the server or driver.
        cause: DriverError,
    },
    /// A transaction of the platform did not commit because of a statement or error inside it. It was rolled back.
    #[error("the platform's transaction is rolled back: {why}")]
    PlatformRefused {
        /// The cause.
        why: String,
        /// The SQLSTATE of the first statement that failed at the server; `None` if it is not known.
        failed: Option<SqlState>,
    },
    /// The connection was lost during COMMIT of a transaction of the platform.
    #[error("connection lost during COMMIT of the platform's transaction, it is unknown whether it committed: {}", Whole(.cause))]
    PlatformCommitUnknown {
        /// The driver's error.
        cause: DriverError,
    },
    /// A task inside of a tenant requested platform access, with which all organizations can be read.
    #[error("db.platform() was called inside tenant {tenant}")]
    PlatformInsideTenant {
        /// The tenant.
        tenant: TenantSlug,
    },
    /// A task inside of a tenant requested access for a person or for support staff, with which other organizations can
    /// be read.
    #[error("the shared tables were to be read as another role inside tenant {tenant}")]
    ReaderInsideTenant {
        /// The tenant.
        tenant: TenantSlug,
    },
}

impl TransactionError {
    /// Returns code and kind of each variant.
    pub(super) fn entry(&self) -> (&'static str, ErrorKind) {
        use ErrorKind::*;
        match self {
            Self::Tampered { .. } => ("CGK0501", Refused),
            Self::StatementRefused { .. } => ("CGK0510", Refused),
            Self::Aborted { .. } => ("CGK0502", Refused),
            Self::CommitUnknown { .. } => ("CGK0503", CommitUnknown),
            Self::NestedTenant { .. } => ("CGK0504", Refused),
            Self::StatementDropped { .. } => ("CGK0511", Refused),
            Self::NestedInPlatform { .. } => ("CGK0512", Refused),
            Self::Statement { .. } => ("CGK0505", Failed),
            Self::PlatformStatement { .. } => ("CGK0506", Failed),
            Self::PlatformRefused { .. } => ("CGK0507", Refused),
            Self::PlatformCommitUnknown { .. } => ("CGK0508", CommitUnknown),
            Self::PlatformInsideTenant { .. } => ("CGK0509", Refused),
            Self::ReaderInsideTenant { .. } => ("CGK0740", Refused),
        }
    }

    /// Returns the driver's error.
    pub(super) fn driver(&self) -> Option<&DriverError> {
        match self {
            Self::CommitUnknown { cause, .. }
            | Self::Statement { cause, .. }
            | Self::PlatformStatement { cause, .. }
            | Self::PlatformCommitUnknown { cause, .. } => Some(cause),
            _ => None,
        }
    }

    /// Returns the SQLSTATE of the statement that failed first.
    pub(super) fn first_failure(&self) -> Option<&SqlState> {
        match self {
            Self::Aborted { failed, .. } | Self::PlatformRefused { failed, .. } => failed.as_ref(),
            _ => None,
        }
    }
}

/// A driver error with all its causes in one line. Variants that show it in their message do not return it as their
/// source, so a report of all causes contains it once.
struct Whole<'a>(&'a DriverError);

impl fmt::Display for Whole<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)?;
        std::iter::successors(self.0.source(), |&cause| cause.source()).try_for_each(|cause| write!(f, ": {cause}"))
    }
}
