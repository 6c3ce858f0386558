//! The routes.

use super::{
    creation::{self, Requested},
    model::{NewOrganization, Organization, OrganizationFields},
    store,
};
use crate::{
    app::App,
    http::{
        Body, Page, PageQuery,
        cursor::List,
        etag::{IfMatch, IfNoneMatch},
        idempotency::{IdempotencyKey, REPLAYED},
        ownership::changeable,
        page::Parameters,
        path::Own,
        permissions::{AnyUser, Reader},
        problems::{BodyRefusals, Changed, ConditionMissing, Conflict, NotFound, Refusals},
    },
};
use axum::{
    Json,
    extract::{Path, State, rejection::PathRejection},
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use cgk::axum::{Context, Owner, OwnerOrAdmin, Problem, Require};
use uuid::Uuid;

/// Lists the caller's organization, and those whose creation the caller asked for.
#[utoipa::path(get, path = "/organizations", tag = "organizations", params(PageQuery),
    responses((status = 200, body = Page<Organization>), Refusals))]
pub async fn list_organizations(
    State(app): State<App>,
    Context(context): Context,
    _: Require<Reader>,
    Parameters(query): Parameters<PageQuery>,
) -> Result<Json<Page<Organization>>, Problem> {
    let list = List { organization: context.organization_id, name: "organizations" };
    let wanted = query.of(list)?;
    let found = app.db.platform().transaction(async |tx| store::page(tx, &context, &wanted).await).await?;
    Ok(Json(wanted.page(found, list, |organization| organization.id)))
}

/// Asks for an organization. It is `onboarding` until an operator's process has made it, and the caller's user owns it.
#[utoipa::path(post, path = "/organizations", tag = "organizations",
    params(("idempotency-key" = Option<String>, Header, min_length = 1, max_length = 255, pattern = "^[!-~]+$")),
    request_body = NewOrganization,
    responses((status = 202, body = Organization, headers(("location" = String), ("etag" = String))), Refusals, BodyRefusals, Conflict))]
pub async fn create_organization(
    State(app): State<App>,
    Context(context): Context,
    _: Require<AnyUser>,
    key: IdempotencyKey,
    body: Body<NewOrganization>,
) -> Result<Response, Problem> {
    let (organization, requested) = creation::request(&app, &context, &key, &body).await?;
    let place = [(header::LOCATION, organization.path())];
    let state = [(header::ETAG, organization.etag().to_value())];
    let replayed = (requested == Requested::Before).then_some([(REPLAYED, "true")]);
    Ok((StatusCode::ACCEPTED, place, state, replayed, Json(organization)).into_response())
}

/// Shows an organization: the caller's, or one whose creation the caller asked for.
#[utoipa::path(get, path = "/organizations/{organization_id}", tag = "organizations",
    params(("organization_id" = Uuid, Path), ("if-none-match" = Option<String>, Header)),
    responses((status = 200, body = Organization, headers(("etag" = String))), (status = 304), Refusals, NotFound))]
pub async fn show_organization(
    State(app): State<App>,
    Context(context): Context,
    _: Require<Reader>,
    if_none_match: IfNoneMatch,
    path: Result<Path<Uuid>, PathRejection>,
) -> Result<Response, Problem> {
    let Path(id) = path.map_err(|_| Problem::new(StatusCode::BAD_REQUEST).detail("an id in the path is no UUID"))?;
    let found = app.db.platform().transaction(async |tx| store::find(tx, &context, id).await).await?;
    let organization = match found {
        Some(organization) => organization,
        None => context.own(None)?,
    };
    Ok(if_none_match.answer(&organization.etag(), Json(&organization)))
}

/// Renames the caller's organization, in the state that If-Match names. For owners and admins.
#[utoipa::path(put, path = "/organizations/{organization_id}", tag = "organizations",
    params(("organization_id" = Uuid, Path), ("if-match" = Option<String>, Header, description = "428 without it")),
    request_body = OrganizationFields,
    responses((status = 200, body = Organization, headers(("etag" = String))), Refusals, BodyRefusals, NotFound, Changed, ConditionMissing))]
pub async fn update_organization(
    State(app): State<App>,
    own: Own,
    Context(context): Context,
    _: Require<OwnerOrAdmin>,
    if_match: IfMatch,
    body: Body<OrganizationFields>,
) -> Result<Response, Problem> {
    let if_match = if_match.require()?;
    let db = app.db.errors::<Problem>();
    let updated = db
        .platform()
        .transaction(async |tx| {
            let organization = changeable(&context, store::lock(tx, own.organization).await?)?;
            if_match.check(&organization.etag())?;
            changeable(&context, store::rename(tx, own.organization, &body.value.name).await?)
        })
        .await?;
    Ok(([(header::ETAG, updated.etag().to_value())], Json(updated)).into_response())
}

/// Closes the caller's organization: it lets nobody in any more. An operator removes it later. For owners.
#[utoipa::path(delete, path = "/organizations/{organization_id}", tag = "organizations",
    params(("organization_id" = Uuid, Path), ("if-match" = Option<String>, Header)),
    responses((status = 204), Refusals, NotFound, Changed))]
pub async fn close_organization(
    State(app): State<App>,
    own: Own,
    Context(context): Context,
    _: Require<Owner>,
    if_match: IfMatch,
) -> Result<StatusCode, Problem> {
    let db = app.db.errors::<Problem>();
    db.platform()
        .transaction(async |tx| {
            let organization = changeable(&context, store::lock(tx, own.organization).await?)?;
            if_match.check(&organization.etag())?;
            store::suspend(tx, own.organization).await?;
            Ok(StatusCode::NO_CONTENT)
        })
        .await
}
