//! Why a request has no tenant.

use crate::{
    auth::{AuthError, Rejection},
    error::Error,
};
use http::StatusCode;

/// Why a request has no tenant. The text may be sent to the client: it does not disclose anything about any tenant.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RequestError {
    /// 400: a header, the host or the path is malformed.
    #[error("{what} cannot be used: {why}")]
    Malformed {
        /// The part of the request.
        what: &'static str,
        /// What is wrong with it.
        why: &'static str,
    },
    /// 401: the credential is not accepted. 403: its organization is not active. 503 or 500: the database query failed.
    #[error("the credential is not accepted")]
    Credential {
        /// What is wrong with the credential, for the log.
        source: AuthError,
    },
    /// 401: the request has no credential, and one is required.
    #[error("a credential is needed")]
    CredentialMissing,
    /// 403: two parts of the request name different tenants or users. One of them is a credential, or only the names
    /// differ.
    #[error("access is denied")]
    Disagreement,
    /// 403: the tenant exists but does not accept requests: it is suspended or not ready.
    #[error("access is denied")]
    TenantInactive,
    /// 404: the request names no tenant, or no tenant has this name.
    #[error("there is no such tenant")]
    TenantUnknown,
    /// 503 or 500: the database query failed.
    #[error("the tenant could not be looked up")]
    Database {
        /// What failed, for the log.
        source: Error,
    },
}

impl RequestError {
    /// Returns the HTTP status of the response.
    pub fn status(&self) -> StatusCode {
        match self {
            Self::Malformed { .. } => StatusCode::BAD_REQUEST,
            Self::CredentialMissing => StatusCode::UNAUTHORIZED,
            Self::Credential { source: AuthError::Rejected { reason: Rejection::OrganizationInactive } } => {
                StatusCode::FORBIDDEN
            }
            Self::Credential { source } => source.status(),
            Self::Disagreement | Self::TenantInactive => StatusCode::FORBIDDEN,
            Self::TenantUnknown => StatusCode::NOT_FOUND,
            Self::Database { source } => source.status_of_database(),
        }
    }
}
