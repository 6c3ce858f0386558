//! Whether a record belongs to the organization that asks.
//!
//! A tenant's own tables need no such check: nothing in them belongs to anybody else. It is for records of shared tables and of
//! other systems, which are found by an id that came with the request.
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
    /// What it is, for messages: a noun such as `invoice`.
    const RESOURCE: &'static str;

    /// The organization that it belongs to.
    fn organization_id(&self) -> OrganizationId;
}

/// The record belongs to another organization. Its text may be sent to the client: it says that there is such a record, and
/// nothing of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("access to this {resource} is denied")]
#[non_exhaustive]
pub struct TenantAccessDenied {
    /// What it is.
    pub resource: &'static str,
}

impl TenantAccessDenied {
    /// The HTTP status to answer with: 403.
    pub fn status(&self) -> StatusCode {
        StatusCode::FORBIDDEN
    }
}

/// There is no such record for this organization: none at all, or one of another's. Nothing in it says which.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there is no such {resource}")]
#[non_exhaustive]
pub struct ResourceNotFound {
    /// What it is.
    pub resource: &'static str,
}

impl ResourceNotFound {
    /// The HTTP status to answer with: 404.
    pub fn status(&self) -> StatusCode {
        StatusCode::NOT_FOUND
    }
}

impl TenantContext {
    /// Checks that a record belongs to the organization of this context.
    ///
    /// # Errors
    ///
    /// [`TenantAccessDenied`], 403, which tells the client that the record exists. Where it must not,
    /// [`own`](Self::own). The log has a line of both organizations.
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

    /// The record, if there is one and it belongs to the organization of this context.
    ///
    /// # Errors
    ///
    /// [`ResourceNotFound`], 404: the same where there is none and where it is another organization's.
    pub fn own<R: Owned>(&self, record: Option<R>) -> Result<R, ResourceNotFound> {
        record.filter(|record| self.check_access(record).is_ok()).ok_or(ResourceNotFound { resource: R::RESOURCE })
    }
}
