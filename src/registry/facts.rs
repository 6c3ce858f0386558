//! The facts of the registry and the catalogue about one slug.

use crate::{
    binding::{self, Binding, PlannedDrop},
    config::Isolation,
    db::Operator,
    error::{Error, Result, TenantError, while_doing},
    ident::{Ident, RoleName, SchemaName},
    slug::TenantSlug,
    tenant::Tenant,
};
use std::time::{Duration, SystemTime};
use tokio_postgres::Row;

/// The facts of the registry and the catalogue about one slug.
#[derive(Clone, Debug)]
pub(crate) struct TenantFacts {
    pub(crate) tenant: Option<Tenant>,
    /// The schema's owner. `None` if the schema does not exist.
    pub(crate) owner: Option<Ident>,
    /// The comment on the schema.
    pub(crate) schema_comment: Option<String>,
    pub(crate) has_ledger: bool,
    /// Whether a migration without a transaction is partially applied.
    #[cfg(feature = "migrate")]
    pub(crate) has_steps: bool,
    /// The comment on the ledger.
    pub(crate) comment: Option<String>,
    pub(crate) has_role: bool,
    /// Whether the role may use the schema.
    pub(crate) role_admitted: bool,
    /// Whether the operator may act as the role. This and the next field are read for a single tenant only.
    pub(crate) role_usable: bool,
    /// Whether the operator may grant the role to others.
    pub(crate) role_grantable: bool,
    /// Whether there may be schemas that are ready for new tenants, and the operator may take one. It is read for a
    /// single tenant only.
    #[cfg(feature = "migrate")]
    pub(crate) has_warm: bool,
}

impl TenantFacts {
    /// Returns the organization that the schema belongs to, if it differs from the registry's.
    pub(crate) fn other_organization(&self) -> Option<String> {
        let tenant = self.tenant.as_ref()?;
        Binding::of(self.schema_comment.as_deref()).other_than(tenant.id).map(ToOwned::to_owned)
    }

    /// Returns whether the schema exists and is not bound to an organization yet.
    pub(crate) fn is_unbound(&self) -> bool {
        self.owner.is_some() && Binding::of(self.schema_comment.as_deref()) == Binding::None
    }

    /// Fails if the schema belongs to another organization.
    pub(crate) fn refuse_other_organization(&self) -> Result<()> {
        match (&self.tenant, self.other_organization()) {
            (Some(tenant), Some(found)) => Err(Error::Tenant(TenantError::OrganizationMismatch {
                tenant: tenant.slug.clone(),
                schema: SchemaName::of_tenant(&tenant.slug),
                expected: tenant.id,
                found,
            })),
            _ => Ok(()),
        }
    }

    /// Fails if the tenant is being dropped.
    pub(crate) fn refuse_being_dropped(&self) -> Result<()> {
        match &self.tenant {
            Some(tenant) if binding::is_being_dropped(self.schema_comment.as_deref()) => {
                Err(Error::Tenant(TenantError::BeingDropped { tenant: tenant.slug.clone() }))
            }
            _ => Ok(()),
        }
    }

    /// Returns the time from which the tenant may be dropped, if its drop is planned.
    pub(crate) fn drop_after(&self) -> Option<SystemTime> {
        let planned = PlannedDrop::of(self.schema_comment.as_deref())?;
        SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(planned.after))
    }

    /// Returns whether the role exists, and whether the operator may act as it.
    pub(crate) fn presence(&self) -> RoleState {
        match (self.has_role, self.role_usable) {
            (false, _) => RoleState::Absent,
            (true, false) => RoleState::Present,
            (true, true) => RoleState::Usable,
        }
    }
}

impl TenantFacts {
    /// Reads the columns after those of the registry.
    pub(super) fn of_row(row: &Row, slug: &TenantSlug, tenant: Option<Tenant>) -> Result<Self> {
        let doing = || while_doing("read the registry");
        let owner: Option<String> = row.try_get(5).map_err(doing())?;
        let owner = owner.map(Ident::new).transpose().map_err(|error| Error::Unexpected {
            doing: format!("look at the schema of tenant {slug}"),
            found: error.to_string(),
        })?;
        Ok(Self {
            tenant,
            owner,
            schema_comment: row.try_get(12).map_err(doing())?,
            has_ledger: row.try_get(6).map_err(doing())?,
            #[cfg(feature = "migrate")]
            has_steps: row.try_get(15).map_err(doing())?,
            comment: row.try_get(7).map_err(doing())?,
            has_role: row.try_get(8).map_err(doing())?,
            role_admitted: row.try_get(9).map_err(doing())?,
            role_usable: row.try_get(10).map_err(doing())?,
            role_grantable: row.try_get(11).map_err(doing())?,
            #[cfg(feature = "migrate")]
            has_warm: row.try_get(14).map_err(doing())?,
        })
    }
}

/// Returns the role that a tenant has under the operator's configuration.
pub(crate) fn role_of(operator: &Operator, slug: &TenantSlug) -> Option<RoleName> {
    match operator.config().isolation() {
        Isolation::Role => Some(RoleName::of_tenant(slug, &operator.facts().database_tag())),
        Isolation::Path => None,
    }
}

/// The state of a role: whether it exists, and whether the operator may act as it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RoleState {
    Absent,
    Present,
    Usable,
}
