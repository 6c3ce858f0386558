//! The routes.

use super::{
    cookies,
    provider::SignIn,
    user::{self, refused},
};
use crate::{
    app::App,
    http::{
        page::Parameters,
        permissions::AnyUser,
        problems::{ProblemSchema, Refusals},
    },
};
use axum::{
    Json,
    extract::State,
    http::{HeaderMap, StatusCode, header},
    response::{AppendHeaders, IntoResponse, Redirect, Response},
};
use cgk::{
    TenantSlug,
    auth::ClientInfo,
    axum::{Context, Problem, Require},
    request::Identity,
};
use serde::{Deserialize, Serialize};
use std::{sync::Arc, time::SystemTime};
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct Begin {
    /// The slug of the organization to sign in to.
    #[param(pattern = "^[a-z][a-z0-9_]{0,47}$")]
    organization: String,
}

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct Callback {
    state: String,
    code: Option<String>,
    error: Option<String>,
}

/// Who the caller is.
#[derive(Serialize, ToSchema)]
pub struct Me {
    organization_id: Uuid,
    organization: String,
    #[schema(required)]
    user_id: Option<Uuid>,
    #[schema(required)]
    email: Option<String>,
    roles: Vec<String>,
}

/// Sends a browser to the provider.
#[utoipa::path(get, path = "/sign-in", tag = "sign-in", params(Begin), security(()),
    responses((status = 303, headers(("location" = String), ("set-cookie" = String))),
        (status = 400, body = ProblemSchema, content_type = "application/problem+json"),
        (status = 404, description = "No provider is set", body = ProblemSchema, content_type = "application/problem+json"),
        (status = 502, description = "The provider cannot be asked", body = ProblemSchema, content_type = "application/problem+json")))]
pub async fn begin_sign_in(State(app): State<App>, Parameters(begin): Parameters<Begin>) -> Result<Response, Problem> {
    let organization: TenantSlug = begin
        .organization
        .parse()
        .map_err(|_| Problem::new(StatusCode::BAD_REQUEST).detail("organization is no slug"))?;
    let (url, pending) = provider(&app)?.begin(organization.as_str()).await.map_err(unreachable)?;
    Ok(([(header::SET_COOKIE, cookies::set_pending(&pending))], Redirect::to(&url)).into_response())
}

/// Where the provider sends a browser back to.
#[utoipa::path(get, path = "/sign-in/callback", tag = "sign-in", params(Callback), security(()),
    responses((status = 303, headers(("location" = String), ("set-cookie" = String))),
        (status = 400, description = "It was not begun in this browser", body = ProblemSchema, content_type = "application/problem+json"),
        (status = 403, description = "The organization has no such user", body = ProblemSchema, content_type = "application/problem+json"),
        (status = 404, description = "No provider is set", body = ProblemSchema, content_type = "application/problem+json"),
        (status = 502, description = "The provider does not accept it, or cannot be asked", body = ProblemSchema, content_type = "application/problem+json"),
        (status = 503, body = ProblemSchema, content_type = "application/problem+json")))]
pub async fn finish_sign_in(
    State(app): State<App>,
    headers: HeaderMap,
    Parameters(callback): Parameters<Callback>,
) -> Result<Response, Problem> {
    let provider = provider(&app)?;
    let not_begun = || Problem::new(StatusCode::BAD_REQUEST).detail("this sign-in was not begun in this browser");
    let pending =
        cookies::pending(&headers).filter(|pending| pending.expects(&callback.state)).ok_or_else(not_begun)?;
    let Some(code) = callback.code else {
        return Err(refused(callback.error.as_deref().unwrap_or("the provider sent neither code nor error")));
    };
    let slug: TenantSlug = pending.organization.parse().map_err(|_| not_begun())?;
    let person = provider.finish(pending, code).await.map_err(unreachable)?;
    let organization = match app.db.platform().find_tenant(&slug).await {
        Ok(tenant) => tenant.id,
        Err(error) if error.kind() == cgk::ErrorKind::NotFound => return Err(refused("there is no such organization")),
        Err(error) => return Err(error.into()),
    };
    let user = user::find(&app.db, &app.auth, organization, &person).await?;
    let agent = headers.get(header::USER_AGENT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let client = ClientInfo::default().user_agent(agent);
    let (session, token) = app.auth.sessions().issue(organization, user, &client).await?;
    let seconds = session.expires_at.duration_since(SystemTime::now()).unwrap_or_default().as_secs();
    let cookies = AppendHeaders([
        (header::SET_COOKIE, cookies::set_session(token.reveal(), seconds)),
        (header::SET_COOKIE, cookies::clear_pending()),
    ]);
    Ok((cookies, Redirect::to("/me")).into_response())
}

/// Ends the session that the request came with.
#[utoipa::path(post, path = "/sign-out", tag = "sign-in",
    responses((status = 204, headers(("set-cookie" = String))), Refusals))]
pub async fn sign_out(State(app): State<App>, require: Require<AnyUser>) -> Result<Response, Problem> {
    if let Identity::Session(session) = &require.caller {
        app.auth.sessions().revoke(session.tenant.id, session.id).await?;
    }
    Ok((StatusCode::NO_CONTENT, [(header::SET_COOKIE, cookies::clear_session())]).into_response())
}

/// Says who the caller is.
#[utoipa::path(get, path = "/me", tag = "sign-in", responses((status = 200, body = Me), Refusals))]
pub async fn show_me(Context(context): Context) -> Json<Me> {
    Json(Me {
        organization_id: context.organization_id.0,
        organization: context.slug.to_string(),
        user_id: context.user_id.map(|user| user.0),
        email: context.email.clone(),
        roles: context.roles.clone(),
    })
}

fn provider(app: &App) -> Result<Arc<SignIn>, Problem> {
    let unset = || Problem::new(StatusCode::NOT_FOUND).detail("nobody signs in by a provider here");
    app.sign_in.clone().ok_or_else(unset)
}

#[expect(clippy::needless_pass_by_value, reason = "it is what map_err hands over")]
fn unreachable(error: anyhow::Error) -> Problem {
    Problem::new(StatusCode::BAD_GATEWAY)
        .detail("the provider does not accept this, or cannot be asked")
        .caused_by(format!("{error:#}"))
}
