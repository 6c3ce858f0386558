//! What the caller has seen of a tenant, and what must still be so when it is dropped.

use super::{Doomed, DropOptions, DropPreview, Run};
use crate::{
    binding,
    error::{Error, Result, TenantError},
    registry,
    tenant::{OrganizationId, TenantStatus},
};

/// What must still be so.
#[derive(Clone, Debug)]
pub(super) struct Expected {
    organization: OrganizationId,
    /// `None`: whatever else has changed.
    unchanged: Option<Unchanged>,
}

#[derive(Clone, Debug)]
struct Unchanged {
    status: TenantStatus,
    row_version: Option<String>,
    comment: Option<String>,
}

impl DropOptions {
    /// Drops the tenant only if it is the organization of this preview. Without this, it is whichever has the slug by then.
    pub fn same_organization(mut self, preview: &DropPreview) -> Self {
        self.expected = Some(Expected { organization: preview.tenant.id, unchanged: None });
        self
    }

    /// Drops the tenant only if its registry row and the comment on its schema are those of this preview. If the tenant was
    /// suspended at the preview, nothing was written in it since.
    pub fn unchanged_since(mut self, preview: &DropPreview) -> Self {
        let unchanged = Unchanged {
            status: preview.tenant.status.clone(),
            row_version: preview.row_version.clone(),
            comment: preview.schema_comment.clone(),
        };
        self.expected = Some(Expected { organization: preview.tenant.id, unchanged: Some(unchanged) });
        self
    }
}

impl Expected {
    /// Refuses another organization with the same slug.
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
    /// Statements that fail with a division by zero if something has changed.
    pub(super) fn demand_unchanged_sql(&self) -> String {
        let Some(Unchanged { row_version, comment, .. }) = self.unchanged() else { return String::new() };
        let Doomed { tenant, facts, schema, .. } = &self.doomed;
        let mut sql = registry::demand_row_version_sql(tenant.id, row_version.as_deref().unwrap_or_default());
        if facts.owner.is_some() {
            sql.push_str(&binding::demand_comment_sql(schema, comment.as_deref()));
        }
        sql
    }

    /// The only status that the tenant may have, if nothing may have changed.
    pub(super) fn unchanged_status(&self) -> Option<&str> {
        self.unchanged().map(|unchanged| unchanged.status.as_str())
    }

    /// The error if something has changed.
    pub(super) fn not_unchanged(&self) -> Option<Error> {
        self.unchanged()?;
        let why = "another session changed it meanwhile, so there may be newer rows".into();
        Some(Error::Tenant(TenantError::DropOutdated { tenant: self.slug().clone(), why }))
    }

    fn unchanged(&self) -> Option<&Unchanged> {
        self.expected.as_ref()?.unchanged.as_ref()
    }
}
