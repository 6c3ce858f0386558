//! The one check of the organization in which an operation makes something new.

use super::{AuthError, error::Result};
use crate::{tenancy::PlatformTx, tenant::OrganizationId};

// A change of the status conflicts with this lock, and other operations that take it do not.
const STATUS: &str =
    "select o.status::pg_catalog.text = 'suspended' from public.organizations o where o.id = $1 for share";

/// Returns an error if the organization takes nothing new: it was suspended, or its owner has deleted it. Locks its row
/// until the end of the transaction, so that a suspension waits for what the transaction makes. Call it before other rows
/// are locked.
///
/// # Errors
///
/// `OrganizationSuspended`. `NotFound`. `Database`.
pub(crate) async fn demand_open(tx: &PlatformTx<'_>, organization: OrganizationId) -> Result<()> {
    let row = tx.query_opt(STATUS, &[&organization]).await?;
    match row.ok_or(AuthError::NotFound { what: "organization" })?.get(0) {
        true => Err(AuthError::OrganizationSuspended),
        false => Ok(()),
    }
}
