//! Conditions from an earlier preview that must still be true when a tenant is dropped.

use super::{Doomed, DropPreview, Run};
use crate::{
    binding,
    error::{Error, Result, TenantError},
    registry,
    tenant::{OrganizationId, TenantStatus},
};

/// The conditions for a drop.
#[derive(Clone, Debug)]
pub(super) struct Expected {
    organization: OrganizationId,
    /// `None`: other changes are allowed.
    unchanged: Option<Unchanged>,
}

#[derive(Clone, Debug)]
struct Unchanged {
    status: TenantStatus,
    row_version: Option<String>,
    comment: Option<String>,
}

impl Expected {
    pub(super) fn same_organization(preview: &DropPreview) -> Self {
        Self { organization: preview.tenant.id, unchanged: None }
    }

    pub(super) fn unchanged_since(preview: &DropPreview) -> Self {
        let unchanged = Unchanged {
            status: preview.tenant.status.clone(),
            row_version: preview.row_version.clone(),
            comment: preview.schema_comment.clone(),
        };
        Self { organization: preview.tenant.id, unchanged: Some(unchanged) }
    }

    /// Refuses a tenant that has the same slug and another organization.
    pub(super) fn refuse_other(&self, doomed: &Doomed) -> Result<()> {
        if self.organization == doomed.id() {
            return Ok(());
        }
        let why =
            format!("organization {} was to be dropped, and its slug belongs to {}", self.organization, doomed.id());
        Err(Error::Tenant(TenantError::DropOutdated { tenant: doomed.tenant.slug.clone(), why }))
    }
}

impl Run<'_> {
    /// Returns statements that fail with a division by zero if something has changed.
    pub(super) fn demand_unchanged_sql(&self) -> String {
        let Some(Unchanged { row_version, comment, .. }) = self.unchanged() else { return String::new() };
        let Doomed { tenant, facts, schema, .. } = &self.doomed;
        let mut sql = registry::demand_row_version_sql(tenant.id, row_version.as_deref().unwrap_or_default());
        if facts.owner.is_some() {
            sql.push_str(&binding::demand_comment_sql(schema, comment.as_deref()));
        }
        sql
    }

    /// Returns the only status that the tenant may have, if no change is allowed.
    pub(super) fn unchanged_status(&self) -> Option<&str> {
        self.unchanged().map(|unchanged| unchanged.status.as_str())
    }

    /// Returns the error for a tenant that has changed; `None` if changes are allowed.
    pub(super) fn not_unchanged(&self) -> Option<Error> {
        self.unchanged()?;
        let why = "another session changed it meanwhile, so there may be newer rows".into();
        Some(Error::Tenant(TenantError::DropOutdated { tenant: self.slug().clone(), why }))
    }

    fn unchanged(&self) -> Option<&Unchanged> {
        self.expected.as_ref()?.unchanged.as_ref()
    }
}
