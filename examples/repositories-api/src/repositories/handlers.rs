//! The routes.

use super::{
    model::{Repository, RepositoryFields},
    store,
};
use crate::http::{
    Body, Page, PageQuery,
    cursor::List,
    etag::{IfMatch, IfNoneMatch},
    idempotency::{Created, IdempotencyKey, Once},
    ownership::changeable,
    page::Parameters,
    path::{Own, RepositoryPath},
    permissions::{Reader, Writer},
    problems::{BodyRefusals, Changed, ConditionMissing, Conflict, NotFound, Refusals},
};
use crate::{app::App, summary};
use axum::{
    Json,
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use cgk::axum::{Problem, Require, Tenant, TenantDb};

const LIST: &str = "repositories";

/// Lists the repositories of an organization, newest first.
#[utoipa::path(get, path = "/organizations/{organization_id}/repositories", tag = "repositories",
    params(("organization_id" = Uuid, Path), PageQuery),
    responses((status = 200, body = Page<Repository>), Refusals, NotFound))]
pub async fn list_repositories(
    own: Own,
    _: Require<Reader>,
    Parameters(query): Parameters<PageQuery>,
    db: TenantDb<Problem>,
) -> Result<Json<Page<Repository>>, Problem> {
    let list = List { organization: own.organization, name: LIST };
    let wanted = query.of(list)?;
    // One statement needs no transaction: one round trip.
    let found = db.query_as(store::PAGE, &[&own.organization, &wanted.after, &wanted.rows()]).await?;
    Ok(Json(wanted.page(found, list, |repository: &Repository| repository.id)))
}

/// Creates a repository, once for each Idempotency-Key.
#[utoipa::path(post, path = "/organizations/{organization_id}/repositories", tag = "repositories",
    params(("organization_id" = Uuid, Path), ("idempotency-key" = Option<String>, Header, min_length = 1, max_length = 255, pattern = "^[!-~]+$")),
    request_body = RepositoryFields,
    responses((status = 201, body = Repository, headers(("location" = String), ("etag" = String))), Refusals, BodyRefusals, NotFound, Conflict))]
pub async fn create_repository(
    State(app): State<App>,
    Tenant(tenant): Tenant,
    own: Own,
    _: Require<Writer>,
    key: IdempotencyKey,
    db: TenantDb<Problem>,
    body: Body<RepositoryFields>,
) -> Result<Created, Problem> {
    let once = Once::new(key, format!("POST /organizations/{}/repositories", own.organization), body.hash);
    let created = db
        .transaction(async |tx| {
            once.answer(tx, async {
                let repository = store::insert(tx, &body.value).await?;
                Ok(Created::new(repository.path(), repository.version, &repository))
            })
            .await
        })
        .await?;
    summary::forget(&app, &tenant).await;
    Ok(created)
}

/// Shows a repository.
#[utoipa::path(get, path = "/organizations/{organization_id}/repositories/{repository_id}", tag = "repositories",
    params(("organization_id" = Uuid, Path), ("repository_id" = Uuid, Path), ("if-none-match" = Option<String>, Header)),
    responses((status = 200, body = Repository, headers(("etag" = String))), (status = 304), Refusals, NotFound))]
pub async fn show_repository(
    own: Own<RepositoryPath>,
    _: Require<Reader>,
    if_none_match: IfNoneMatch,
    db: TenantDb<Problem>,
) -> Result<Response, Problem> {
    let found = db.query_as(store::FIND, &[&own.path.repository_id]).await?.pop();
    let repository: Repository = db.context().own(found)?;
    Ok(if_none_match.answer(&repository.etag(), Json(&repository)))
}

/// Replaces what a client may say of a repository, in the state that If-Match names.
#[utoipa::path(put, path = "/organizations/{organization_id}/repositories/{repository_id}", tag = "repositories",
    params(("organization_id" = Uuid, Path), ("repository_id" = Uuid, Path), ("if-match" = Option<String>, Header, description = "428 without it")),
    request_body = RepositoryFields,
    responses((status = 200, body = Repository, headers(("etag" = String))), Refusals, BodyRefusals, NotFound, Conflict, Changed, ConditionMissing))]
pub async fn update_repository(
    own: Own<RepositoryPath>,
    _: Require<Writer>,
    if_match: IfMatch,
    db: TenantDb<Problem>,
    body: Body<RepositoryFields>,
) -> Result<Response, Problem> {
    let if_match = if_match.require()?;
    let id = own.path.repository_id;
    let context = db.context();
    let updated = db
        .transaction(async |tx| {
            let repository = changeable(context, store::lock(tx, id).await?)?;
            if_match.check(&repository.etag())?;
            Ok(store::update(tx, id, &body.value).await?)
        })
        .await?;
    Ok(([(header::ETAG, updated.etag().to_value())], Json(updated)).into_response())
}

/// Deletes a repository and its jobs.
#[utoipa::path(delete, path = "/organizations/{organization_id}/repositories/{repository_id}", tag = "repositories",
    params(("organization_id" = Uuid, Path), ("repository_id" = Uuid, Path), ("if-match" = Option<String>, Header)),
    responses((status = 204), Refusals, NotFound, Changed))]
pub async fn delete_repository(
    State(app): State<App>,
    Tenant(tenant): Tenant,
    own: Own<RepositoryPath>,
    _: Require<Writer>,
    if_match: IfMatch,
    db: TenantDb<Problem>,
) -> Result<StatusCode, Problem> {
    let id = own.path.repository_id;
    let context = db.context();
    db.transaction(async |tx| {
        let repository = changeable(context, store::lock(tx, id).await?)?;
        if_match.check(&repository.etag())?;
        store::delete(tx, id).await?;
        Ok(())
    })
    .await?;
    summary::forget(&app, &tenant).await;
    Ok(StatusCode::NO_CONTENT)
}
