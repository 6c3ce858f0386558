//! The commands about organizations, to which the tenants belong.

pub(crate) mod list;
pub(crate) mod show;

use cgk::platform::Organization;
use serde::Serialize;

use super::ui::time;

/// An organization, as JSON.
#[derive(Serialize)]
struct OrganizationView<'a> {
    id: String,
    tenant: &'a str,
    name: &'a str,
    status: &'a str,
    settings: &'a serde_json::Value,
    created_at: String,
    updated_at: String,
}

impl<'a> OrganizationView<'a> {
    fn of(organization: &'a Organization) -> Self {
        Self {
            id: organization.id.to_string(),
            tenant: &organization.slug,
            name: &organization.name,
            status: organization.status.as_str(),
            settings: &organization.settings,
            created_at: time::rfc3339(organization.created_at),
            updated_at: time::rfc3339(organization.updated_at),
        }
    }
}
