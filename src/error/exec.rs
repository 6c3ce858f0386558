//! Errors of SQL that runs in many tenants.

use super::ErrorKind;
use crate::slug::TenantSlug;

/// Why the SQL of [`lifecycle::exec`](crate::lifecycle::exec()) was refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ExecError {
    /// The text contains no statement.
    #[error("the SQL contains no statement")]
    Empty,
    /// The text cannot be split into statements.
    #[error("line {line} of the SQL: {problem}")]
    Unreadable {
        /// The line, from 1.
        line: usize,
        /// The problem.
        problem: String,
    },
    /// COPY is not supported.
    #[error("statement {statement} of the SQL is COPY")]
    Copy {
        /// The number of the statement, from 1.
        statement: usize,
    },
    /// A statement has parameters, and there are no values for them.
    #[error("statement {statement} of the SQL has parameters, such as $1")]
    Parameters {
        /// The number of the statement, from 1.
        statement: usize,
    },
    /// A statement would change data, and the transaction is read-only.
    #[error("statement {statement} in tenant {tenant} makes a change, and the transaction is read-only")]
    ReadOnly {
        /// The tenant.
        tenant: TenantSlug,
        /// The number of the statement, from 1.
        statement: usize,
    },
    /// The observer refused the columns of a result. The transaction of the tenant was rolled back.
    #[error("statement {statement} in tenant {tenant}: {problem}")]
    ColumnsRefused {
        /// The tenant.
        tenant: TenantSlug,
        /// The number of the statement, from 1.
        statement: usize,
        /// The reason.
        problem: String,
    },
}

impl ExecError {
    /// Returns code and kind of each variant.
    pub(super) fn entry(&self) -> (&'static str, ErrorKind) {
        use ErrorKind::*;
        match self {
            Self::Empty => ("CGK0864", Invalid),
            Self::Unreadable { .. } => ("CGK0865", Invalid),
            Self::Copy { .. } => ("CGK0866", Invalid),
            Self::Parameters { .. } => ("CGK0867", Invalid),
            Self::ColumnsRefused { .. } => ("CGK0868", Refused),
            Self::ReadOnly { .. } => ("CGK0869", Refused),
        }
    }
}
