//! Requests a tenant, in the caller's transaction.

use super::{ProvisioningError, ProvisioningId, Result};
use crate::{slug::TenantSlug, tenancy::PlatformTx, tenant::OrganizationId, text};

/// An organization to create, with its tenant.
#[derive(Clone, Debug)]
pub struct NewOrganization {
    slug: TenantSlug,
    name: String,
    settings: serde_json::Value,
}

impl NewOrganization {
    /// Creates an organization whose name is its slug.
    pub fn new(slug: TenantSlug) -> Self {
        Self { name: slug.as_str().to_owned(), slug, settings: serde_json::Value::Object(Default::default()) }
    }

    /// Sets the display name: 1 to 200 characters, not only blanks.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }

    /// Sets the settings, a JSON object.
    pub fn settings(mut self, settings: serde_json::Value) -> Self {
        self.settings = settings;
        self
    }

    /// Its slug, name and settings.
    pub(crate) fn parts(&self) -> (&TenantSlug, &str, &serde_json::Value) {
        (&self.slug, &self.name, &self.settings)
    }
}

/// The result of [`request`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Requested {
    /// The id of the request.
    pub id: ProvisioningId,
    /// The id of the organization.
    pub organization_id: OrganizationId,
}

/// A schema that an earlier tenant left behind blocks its name.
const INSERT_ORGANIZATION: &str = "insert into public.organizations (slug, name, settings, status)
    select $1::pg_catalog.text, $2::pg_catalog.text, $3::pg_catalog.jsonb, 'onboarding'::public.organization_status
     where not exists (select from pg_catalog.pg_namespace n
                       where n.nspname::pg_catalog.text = 'tenant_' || $1::pg_catalog.text)
    on conflict (slug) do nothing returning id";

const INSERT_REQUEST: &str = "insert into public.provisioning_requests (organization_id) values ($1) returning id";

/// Writes an organization with the status `onboarding`, and the request for its tenant. Both exist when the caller's
/// transaction commits; the servers of the queue are notified at that moment.
///
/// # Locks
///
/// The slug, against concurrent requests for it, until the end of the transaction; a second request waits for the
/// first.
///
/// # Errors
///
/// `SlugTaken`: the transaction can continue, with another slug. `Invalid`: the name or the settings; no query was
/// sent. `TablesMissing`; `Database`: the transaction can no longer commit.
///
/// # Cancel safety
///
/// If the future is dropped, the rows may or may not be written; end the transaction.
pub async fn request(tx: &PlatformTx<'_>, new: &NewOrganization) -> Result<Requested> {
    check_name(&new.name)?;
    check_settings(&new.settings)?;
    let row = tx.query_opt(INSERT_ORGANIZATION, &[&new.slug.as_str(), &new.name, &new.settings]).await?;
    let row = row.ok_or_else(|| ProvisioningError::SlugTaken { slug: new.slug.clone() })?;
    let organization_id: OrganizationId = row.get(0);
    let id = ProvisioningId(tx.query_one(INSERT_REQUEST, &[&organization_id]).await?.get(0));
    Ok(Requested { id, organization_id })
}

/// Checks the rule of the column, so that an invalid name is reported without a query.
pub(crate) fn check_name(name: &str) -> Result<()> {
    text::check_name(name).map_err(|why| ProvisioningError::Invalid { what: "the name", why })
}

/// Checks the rule for the settings, so that invalid settings are reported without a query.
pub(crate) fn check_settings(settings: &serde_json::Value) -> Result<()> {
    match settings.is_object() && !has_nul(settings) {
        true => Ok(()),
        false => {
            let why = "they must be a JSON object, without NUL in its texts";
            Err(ProvisioningError::Invalid { what: "the settings", why })
        }
    }
}

/// Whether a text of the value has a NUL, which a `jsonb` cannot have.
fn has_nul(value: &serde_json::Value) -> bool {
    match value {
        serde_json::Value::String(text) => text.contains('\0'),
        serde_json::Value::Array(items) => items.iter().any(has_nul),
        serde_json::Value::Object(fields) => fields.iter().any(|(name, value)| name.contains('\0') || has_nul(value)),
        _ => false,
    }
}
