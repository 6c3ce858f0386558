//! The transactions that closures receive.

use super::{scope::TransactionScope, shared::Shared};
use crate::{error::Result, slug::TenantSlug, tenant::OrganizationId};

/// A transaction that sees only one tenant.
///
/// It has methods for statements and savepoints. The underlying connection is accessible only through
/// [`client`](Self::client). A statement is sent when its future is first polled, so the order of the first polls is
/// the order of the statements. Several statements may be in flight at once (`tokio::join!`). All of them must be
/// polled until they end, because the server responds in order. Parameters and rows are types of tokio-postgres.
///
/// Through a transaction pooler (`pooled = true`) only [`query_typed`](Self::query_typed) and
/// [`execute_typed`](Self::execute_typed) work. A named prepared statement could collide there with a prepared
/// statement of another client.
pub struct TenantTx<'c> {
    pub(super) shared: &'c Shared,
    /// The number of enclosing savepoints.
    pub(super) depth: usize,
}

impl<'c> TenantTx<'c> {
    pub(super) fn new(shared: &'c Shared) -> Self {
        Self { shared, depth: 0 }
    }

    /// Returns the tenant's slug.
    pub fn slug(&self) -> &TenantSlug {
        match &self.shared.scope {
            TransactionScope::Tenant(target) => &target.slug,
            TransactionScope::Platform(_) | TransactionScope::Reader(_) => {
                unreachable!("a tenant's transaction is made for a tenant")
            }
        }
    }

    /// Returns the tenant's organization, as the server found it on entry. Sends nothing. Waits until the tenant is
    /// entered.
    ///
    /// # Errors
    ///
    /// Fails if the tenant cannot be entered.
    pub async fn organization_id(&self) -> Result<OrganizationId> {
        self.shared.organization().await
    }
}

/// A transaction on the shared tables, across all organizations. It has the statements and savepoints of [`TenantTx`].
pub struct PlatformTx<'c> {
    pub(super) shared: &'c Shared,
    /// The number of enclosing savepoints.
    pub(super) depth: usize,
}

impl<'c> PlatformTx<'c> {
    pub(super) fn new(shared: &'c Shared) -> Self {
        Self { shared, depth: 0 }
    }
}

/// A transaction that reads the shared tables as a role. The policies of the role decide which rows it sees: those of a
/// person ([`Db::as_user`](crate::Db::as_user)), or all of them for support staff. It has the statements and savepoints
/// of [`TenantTx`].
pub struct ReaderTx<'c> {
    pub(super) shared: &'c Shared,
    /// The number of enclosing savepoints.
    pub(super) depth: usize,
}

impl<'c> ReaderTx<'c> {
    pub(super) fn new(shared: &'c Shared) -> Self {
        Self { shared, depth: 0 }
    }
}

/// A transaction of a tenant, of the platform or of a reader, inside a savepoint of
/// [`Statements::savepoint`](super::Statements::savepoint).
pub struct AnyTx<'c> {
    pub(super) shared: &'c Shared,
    /// The number of enclosing savepoints.
    pub(super) depth: usize,
}

impl<'c> AnyTx<'c> {
    pub(super) fn new(shared: &'c Shared, depth: usize) -> Self {
        Self { shared, depth }
    }
}
