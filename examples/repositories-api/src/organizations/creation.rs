//! Asking for an organization.
//!
//! A service cannot make schemas and roles. It writes the organization as `onboarding`, its owner and the request for it in one
//! transaction; a process with the operator's rights (`cgk provision --watch`) makes it.

use super::{
    model::{NewOrganization, Organization},
    store,
};
use crate::{
    app::App,
    http::{
        Body,
        idempotency::{IdempotencyKey, another_body},
    },
};
use axum::http::StatusCode;
use cgk::{OrganizationId, PlatformTx, Statements, TenantContext, TenantSlug, axum::Problem, provisioning};

/// When an organization was asked for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Requested {
    Now,
    /// By an earlier request with the same Idempotency-Key.
    Before,
}

/// Writes the request, or finds the one that the same user made with the same Idempotency-Key.
pub async fn request(
    app: &App,
    context: &TenantContext,
    key: &IdempotencyKey,
    body: &Body<NewOrganization>,
) -> Result<(Organization, Requested), Problem> {
    let db = app.db.errors::<Problem>();
    db.platform()
        .transaction(async |tx| {
            if let Some(before) = requested_before(tx, context, key, body).await? {
                return Ok((before, Requested::Before));
            }
            let id = insert(tx, context, &body.value).await?;
            let creation = "insert into organization_creations
                (organization_id, creator_organization_id, creator_id, idempotency_key, request_hash)
                values ($1, $2, $3, $4, $5)";
            let user = context.user_id.map(|user| user.0);
            tx.execute(creation, &[&id, &context.organization_id, &user, &key.0, &body.hash.as_slice()]).await?;
            let organization = store::find(tx, context, id.0).await?;
            Ok((organization.ok_or_else(|| Problem::new(StatusCode::CONFLICT))?, Requested::Now))
        })
        .await
}

/// 422 if the key came with another body before.
async fn requested_before(
    tx: &impl Statements,
    context: &TenantContext,
    key: &IdempotencyKey,
    body: &Body<NewOrganization>,
) -> Result<Option<Organization>, Problem> {
    let IdempotencyKey(Some(key)) = key else { return Ok(None) };
    let user = context.user_id.map(|user| user.0);
    // Requests with the same key wait for each other here.
    let one_by_one = "select pg_advisory_xact_lock(hashtextextended('organization ' || $1::uuid::text || $2::text, 0))";
    tx.query_one(one_by_one, &[&user, key]).await?;
    let find = "select organization_id, request_hash from organization_creations
                 where creator_organization_id = $1 and creator_id = $2 and idempotency_key = $3";
    let Some(row) = tx.query_opt(find, &[&context.organization_id, &user, key]).await? else { return Ok(None) };
    if row.try_get::<_, &[u8]>(1)? != body.hash {
        return Err(another_body());
    }
    Ok(store::find(tx, context, row.try_get(0)?).await?)
}

/// The organization and the request for its tenant, and the caller's user in it as its owner.
async fn insert(
    tx: &PlatformTx<'_>,
    context: &TenantContext,
    new: &NewOrganization,
) -> Result<OrganizationId, Problem> {
    let slug: TenantSlug = new
        .slug
        .parse()
        .map_err(|error: cgk::InvalidSlug| Problem::new(StatusCode::UNPROCESSABLE_ENTITY).detail(error.to_string()))?;
    let wanted = provisioning::NewOrganization::new(slug).name(&new.name);
    let requested = provisioning::request(tx, &wanted).await?;
    let owner = "insert into users (organization_id, email, role, status) values ($1, $2, 'owner', 'active')";
    tx.execute(owner, &[&requested.organization_id, &context.email]).await?;
    Ok(requested.organization_id)
}
