//! Whether the process lives, and whether it can be asked.

use crate::{app::App, http::problems::ProblemSchema};
use axum::{Json, extract::State, http::StatusCode};
use cgk::axum::Problem;
use serde::Serialize;
use utoipa::ToSchema;

#[derive(Serialize, ToSchema)]
pub struct Health {
    status: &'static str,
}

/// Whether the process lives. It asks nobody: a database that is away is no reason to start the service again.
#[utoipa::path(get, path = "/healthz", tag = "health", security(()), responses((status = 200, body = Health)))]
pub async fn alive() -> Json<Health> {
    Json(Health { status: "alive" })
}

/// Whether requests can be answered: the database is there with the service's tables, and the service is not about to stop.
#[utoipa::path(get, path = "/readyz", tag = "health", security(()),
    responses((status = 200, body = Health), (status = 503, body = ProblemSchema, content_type = "application/problem+json")))]
pub async fn ready(State(app): State<App>) -> Result<Json<Health>, Problem> {
    if app.is_stopping() {
        return Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE).detail("the service is about to stop"));
    }
    let tables = "select to_regclass('public.organization_creations') is not null";
    let row = app.db.platform().query_one(tables, &[]).await?;
    if !row.try_get::<_, bool>(0)? {
        let why = "the tables of this service are missing: run `cgk migrate` in its folder, with the operator's URL";
        return Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE).detail(why));
    }
    Ok(Json(Health { status: "ready" }))
}
