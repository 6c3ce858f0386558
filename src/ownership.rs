//! Checks whether a record belongs to the organization that makes the request.
//!
//! A tenant's own tables need no such check, because they contain only the tenant's data. Use it for records of shared
//! tables and of other systems that are found by an id from the request.
//!
//! ```
//! use cgk::{OrganizationId, TenantContext, ownership::{Owned, ResourceNotFound, TenantAccessDenied}};
//!
//! struct Invoice { organization: OrganizationId, total: i64 }
//!
//! impl Owned for Invoice {
//!     const RESOURCE: &'static str = "invoice";
//!     fn organization_id(&self) -> OrganizationId { self.organization }
//! }
//!
//! /// Someone else's invoice is answered as one that does not exist: 404.
//! fn show(context: &TenantContext, invoice: Option<Invoice>) -> Result<i64, ResourceNotFound> {
//!     Ok(context.own(invoice)?.total)
//! }
//!
//! /// Someone else's invoice is answered as such: 403.
//! fn cancel(context: &TenantContext, invoice: &Invoice) -> Result<(), TenantAccessDenied> {
//!     context.check_access(invoice)
//! }
//! ```

use crate::{context::TenantContext, tenant::OrganizationId};
use http::StatusCode;

/// A record that belongs to an organization.
pub trait Owned {
    /// The kind of record, for messages: a noun such as `invoice`.
    const RESOURCE: &'static str;

    /// Returns the organization that owns the record.
    fn organization_id(&self) -> OrganizationId;
}

/// The record belongs to another organization. The text may be sent to the client. It only shows that the record
/// exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("access to this {resource} is denied")]
#[non_exhaustive]
pub struct TenantAccessDenied {
    /// The kind of record.
    pub resource: &'static str,
}

impl TenantAccessDenied {
    /// Returns the HTTP status of the response: 403.
    pub fn status(&self) -> StatusCode {
        StatusCode::FORBIDDEN
    }
}

/// This organization has no such record: it does not exist, or another organization owns it. The error does not show
/// which.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there is no such {resource}")]
#[non_exhaustive]
pub struct ResourceNotFound {
    /// The kind of record.
    pub resource: &'static str,
}

impl ResourceNotFound {
    /// Returns the HTTP status of the response: 404.
    pub fn status(&self) -> StatusCode {
        StatusCode::NOT_FOUND
    }
}

impl TenantContext {
    /// Checks that a record belongs to the organization of this context.
    ///
    /// # Errors
    ///
    /// [`TenantAccessDenied`], 403, which tells the client that the record exists. If the client must not learn this,
    /// use [`own`](Self::own). The log gets a line with both organizations.
    pub fn check_access<R: Owned>(&self, record: &R) -> Result<(), TenantAccessDenied> {
        let owner = record.organization_id();
        if owner == self.organization_id {
            return Ok(());
        }
        tracing::warn!(
            target: "cgk::ownership",
            resource = R::RESOURCE,
            organization_id = %self.organization_id,
            owner = %owner,
            request_id = %self.request_id,
            "a record of another organization was asked for"
        );
        Err(TenantAccessDenied { resource: R::RESOURCE })
    }

    /// Returns the record if it exists and belongs to the organization of this context.
    ///
    /// # Errors
    ///
    /// [`ResourceNotFound`], 404: the same error whether the record does not exist or belongs to another organization.
    pub fn own<R: Owned>(&self, record: Option<R>) -> Result<R, ResourceNotFound> {
        record.filter(|record| self.check_access(record).is_ok()).ok_or(ResourceNotFound { resource: R::RESOURCE })
    }
}
