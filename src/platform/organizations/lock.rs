//! What the operations on one organization share.

use crate::platform::{PlatformError, error::Result};
use crate::{tenancy::PlatformTx, tenant::OrganizationId};

// Foreign keys that point at the row do not wait for this lock.
const LOCK: &str = "select from public.organizations where id = $1 for no key update";

/// Locks an organization's row to the end of the transaction: the first lock of every operation that changes what belongs to it.
pub(crate) async fn lock(tx: &PlatformTx<'_>, organization: OrganizationId) -> Result<()> {
    match tx.query_opt(LOCK, &[&organization]).await? {
        Some(_) => Ok(()),
        None => Err(PlatformError::NotFound { what: "organization" }),
    }
}
