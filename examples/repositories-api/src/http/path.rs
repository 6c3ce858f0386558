//! The organization in the path, which must be the caller's.

use axum::{
    extract::{FromRequestParts, Path},
    http::{StatusCode, request::Parts},
};
use cgk::{
    OrganizationId,
    axum::{Context, Problem},
    ownership::Owned,
};
use serde::{Deserialize, de::DeserializeOwned};
use uuid::Uuid;

/// The parameters of a path behind `/organizations/{organization_id}`, of which the organization is the caller's.
///
/// 400 if a parameter is no id. 404 for any other organization, whether or not there is one.
pub struct Own<P = ()> {
    pub organization: OrganizationId,
    pub path: P,
}

#[derive(Deserialize)]
struct OrganizationPath {
    organization_id: Uuid,
}

/// An organization, as far as a path names it.
struct NamedOrganization(OrganizationId);

impl Owned for NamedOrganization {
    const RESOURCE: &'static str = "organization";

    fn organization_id(&self) -> OrganizationId {
        self.0
    }
}

impl<S: Send + Sync, P: Parameters> FromRequestParts<S> for Own<P> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let Context(context) = Context::from_request_parts(parts, state).await?;
        let OrganizationPath { organization_id } = parameters(parts, state).await?;
        let path = P::read(parts, state).await?;
        let NamedOrganization(organization) = context.own(Some(NamedOrganization(OrganizationId(organization_id))))?;
        Ok(Self { organization, path })
    }
}

/// What a path has behind the organization.
pub trait Parameters: Sized + Send {
    fn read<S: Send + Sync>(parts: &mut Parts, state: &S) -> impl Future<Output = Result<Self, Problem>> + Send;
}

impl Parameters for () {
    async fn read<S: Send + Sync>(_: &mut Parts, _: &S) -> Result<Self, Problem> {
        Ok(())
    }
}

#[derive(Deserialize)]
pub struct RepositoryPath {
    pub repository_id: Uuid,
}

#[derive(Deserialize)]
pub struct JobPath {
    pub job_id: Uuid,
}

impl Parameters for RepositoryPath {
    async fn read<S: Send + Sync>(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        parameters(parts, state).await
    }
}

impl Parameters for JobPath {
    async fn read<S: Send + Sync>(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        parameters(parts, state).await
    }
}

/// Reads what it knows of the path's parameters.
pub async fn parameters<P: DeserializeOwned + Send, S: Send + Sync>(
    parts: &mut Parts,
    state: &S,
) -> Result<P, Problem> {
    let read = Path::<P>::from_request_parts(parts, state).await;
    read.map(|Path(path)| path).map_err(|rejection| {
        Problem::new(StatusCode::BAD_REQUEST).detail("an id in the path is no UUID").caused_by(rejection.body_text())
    })
}
