//! How much an organization has: `/organizations/{organization_id}/summary`, remembered in Redis where there is one.

use crate::{
    app::App,
    http::{
        path::Own,
        permissions::Reader,
        problems::{NotFound, Refusals},
    },
};
use axum::{Json, extract::State};
use cgk::{
    auth::TenantIdentity,
    axum::{Problem, Require, Tenant, TenantDb},
};
use serde::{Deserialize, Serialize};
use std::time::Duration;
use utoipa::ToSchema;
use uuid::Uuid;

const KEY: &str = "summary/1";
/// How old it may be where forgetting it has failed.
const LIFETIME: Duration = Duration::from_secs(10);

/// How much an organization has.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Summary {
    pub organization_id: Uuid,
    pub repositories: i64,
    pub jobs: i64,
}

/// Counts the repositories and jobs of an organization.
#[utoipa::path(get, path = "/organizations/{organization_id}/summary", tag = "organizations",
    params(("organization_id" = Uuid, Path)),
    responses((status = 200, body = Summary), Refusals, NotFound))]
pub async fn show_summary(
    State(app): State<App>,
    own: Own,
    _: Require<Reader>,
    Tenant(tenant): Tenant,
    db: TenantDb,
) -> Result<Json<Summary>, Problem> {
    let count = async move || -> Result<Summary, Problem> {
        let sql = "select (select count(*) from repositories where organization_id = $1),
                          (select count(*) from jobs where organization_id = $1)";
        let row = db.query_one(sql, &[&own.organization]).await?;
        Ok(Summary { organization_id: own.organization.0, repositories: row.try_get(0)?, jobs: row.try_get(1)? })
    };
    let summary = match &app.caches {
        Some(caches) => caches.tenant(&tenant).get_or_compute(KEY, LIFETIME, count).await?,
        None => count().await?,
    };
    Ok(Json(summary))
}

/// Forgets it, behind the transaction that has changed what it counts. If Redis is away, it is old for its lifetime.
pub async fn forget(app: &App, tenant: &TenantIdentity) {
    if let Some(caches) = &app.caches
        && let Err(error) = caches.tenant(tenant).delete(KEY).await
    {
        tracing::warn!(tenant = %tenant.slug, error = %error, "a summary could not be forgotten");
    }
}
