//! Why a request has no tenant.

use crate::{
    auth::{AuthError, Rejection},
    error::Error,
};
use http::StatusCode;

/// Why a request has no tenant. Its text may be sent to the client: it tells nothing of any tenant.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RequestError {
    /// 400: a header, the host or the path is not as it may be.
    #[error("{what} cannot be used: {why}")]
    Malformed {
        /// What of the request.
        what: &'static str,
        /// Why.
        why: &'static str,
    },
    /// 401, or 403 where the credential's organization is not active; 503 or 500 where the database could not be asked.
    #[error("the credential is not accepted")]
    Credential {
        /// What is wrong with the credential, for the log.
        source: AuthError,
    },
    /// 401: nobody has said who asks, and the request is to be of somebody.
    #[error("a credential is needed")]
    CredentialMissing,
    /// 403: two parts of the request name different tenants or users. One of them is a credential, or the names alone differ.
    #[error("access is denied")]
    Disagreement,
    /// 403: the tenant is there and lets nobody in: suspended, or not ready.
    #[error("access is denied")]
    TenantInactive,
    /// 404: nothing in the request names a tenant, or no tenant has the name.
    #[error("there is no such tenant")]
    TenantUnknown,
    /// 503 or 500: the database could not be asked.
    #[error("the tenant could not be looked up")]
    Database {
        /// What failed, for the log.
        source: Error,
    },
}

impl RequestError {
    /// The HTTP status to answer with.
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
