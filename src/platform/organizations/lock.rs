//! The lock that all operations on one organization share.

use crate::platform::{PlatformError, error::Result};
use crate::{tenancy::PlatformTx, tenant::OrganizationId};

// Inserts with foreign keys to the row do not wait for this lock.
const LOCK: &str = "select from public.organizations where id = $1 for no key update";

/// Locks an organization's row until the end of the transaction. Every operation that changes an organization's data
/// takes this lock first.
pub(crate) async fn lock(tx: &PlatformTx<'_>, organization: OrganizationId) -> Result<()> {
    match tx.query_opt(LOCK, &[&organization]).await? {
        Some(_) => Ok(()),
        None => Err(PlatformError::NotFound { what: "organization" }),
    }
}
