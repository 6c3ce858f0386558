//! The tenants of a run.

use cgk::{
    Config, Operator, OrganizationId, Tenant, TenantSlug,
    auth::NewApiKey,
    lifecycle::{self, CreateManyOptions, NewTenant},
    migrate::Silent,
};
use repositories_api::{app::App, demo};
use std::sync::Arc;

/// A tenant, and what its client says.
#[derive(Debug)]
pub struct Known {
    pub slug: String,
    pub organization: OrganizationId,
    pub key: String,
}

pub async fn create(operator: &Config, app: &App, count: usize) -> anyhow::Result<Arc<Vec<Known>>> {
    let connected = Operator::connect(operator).await?;
    let new = (0..count)
        .map(|number| format!("load{number}").parse::<TenantSlug>().map(NewTenant::from))
        .collect::<Result<Vec<_>, _>>()?;
    let migrations = demo::migrations()?;
    lifecycle::create_many(&connected, &app.db, &migrations, &new, &CreateManyOptions::default(), &mut Silent).await?;
    let mut known = Vec::new();
    for number in 0..count {
        let slug = format!("load{number}");
        let tenant: Tenant = app.db.platform().find_tenant(&slug.parse()?).await?;
        let key = NewApiKey::named("load").scope("read").scope("write");
        let (_, key) = app.auth.api_keys().create(tenant.id, &key).await?;
        known.push(Known { slug, organization: tenant.id, key: key.reveal().to_owned() });
    }
    Ok(Arc::new(known))
}
