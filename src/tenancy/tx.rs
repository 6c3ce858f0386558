//! The transactions that closures are given.

use super::{scope::Scope, shared::Shared};
use crate::{error::Result, slug::TenantSlug, tenant::OrganizationId};

/// A transaction that sees one tenant and nothing else.
///
/// It offers statements and savepoints and no way to the connection underneath. Statements go out when their future is
/// first polled, in that order, so several may be on their way at once (`tokio::join!`); all of them must be polled on, because
/// the server answers in order. The parameters and rows are tokio-postgres's own.
///
/// Through a transaction pooler (`pooled = true`) only [`query_typed`](Self::query_typed) and
/// [`execute_typed`](Self::execute_typed) work: a named prepared statement may meet another client's of the same name there.
pub struct TenantTx<'c> {
    pub(super) shared: &'c Shared,
    /// The number of savepoints around it.
    pub(super) depth: usize,
}

impl<'c> TenantTx<'c> {
    pub(super) fn new(shared: &'c Shared) -> Self {
        Self { shared, depth: 0 }
    }

    /// The tenant.
    pub fn slug(&self) -> &TenantSlug {
        match &self.shared.scope {
            Scope::Tenant(target) => &target.slug,
            Scope::Platform(_) => unreachable!("a tenant's transaction is made for a tenant"),
        }
    }

    /// The tenant's organization, as the server found it when the tenant was entered. Sends nothing; waits until the tenant is
    /// entered.
    ///
    /// # Errors
    ///
    /// The tenant cannot be entered.
    pub async fn organization_id(&self) -> Result<OrganizationId> {
        self.shared.organization().await
    }
}

/// A transaction on the shared tables, across all organizations. It offers statements and savepoints, as [`TenantTx`], and no
/// way to the connection.
pub struct PlatformTx<'c> {
    pub(super) shared: &'c Shared,
    /// The number of savepoints around it.
    pub(super) depth: usize,
}

impl<'c> PlatformTx<'c> {
    pub(super) fn new(shared: &'c Shared) -> Self {
        Self { shared, depth: 0 }
    }
}

/// A transaction of a tenant or of the platform, inside a savepoint that [`Statements::savepoint`] has set.
pub struct AnyTx<'c> {
    pub(super) shared: &'c Shared,
    /// The number of savepoints around it.
    pub(super) depth: usize,
}

impl<'c> AnyTx<'c> {
    pub(super) fn new(shared: &'c Shared, depth: usize) -> Self {
        Self { shared, depth }
    }
}
