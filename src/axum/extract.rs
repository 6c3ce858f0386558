//! The extractors.

use super::{layer::Resolved, problem::Problem};
use crate::{
    auth::{TenantIdentity, UserRole},
    context::TenantContext,
    request::{Identity, RequestError},
};
use ::axum::extract::FromRequestParts;
use http::{StatusCode, request::Parts};
use std::{fmt, marker::PhantomData, sync::Arc};

/// Returns the result of the layer.
///
/// # Errors
///
/// The route is not behind the layer: 500.
pub(super) fn resolved(parts: &Parts) -> Result<&Resolved, Problem> {
    parts.extensions.get().ok_or_else(|| {
        let missing = Problem::new(StatusCode::INTERNAL_SERVER_ERROR).caused_by(
            "TenantLayer is missing: this route is behind none. Add the route to the router before \
             `.layer(TenantLayer::new(rules, &resolver, &db))`",
        );
        match cfg!(debug_assertions) {
            true => missing.detail("TenantLayer is missing; the log says how to add it"),
            false => missing,
        }
    })
}

/// Returns the context that the layer created.
///
/// # Errors
///
/// The route is not behind the layer: 500. The request has no credential: 401.
pub(super) fn context(resolved: &Resolved) -> Result<Arc<TenantContext>, Problem> {
    resolved.context.clone().ok_or_else(|| RequestError::CredentialMissing.into())
}

/// The tenant of the request, which was active when the layer looked it up. It does not authorize anything: if only the
/// host, the path or a header names the tenant, anyone can send the request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tenant(pub TenantIdentity);

impl<S: Sync> FromRequestParts<S> for Tenant {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        Ok(Self(resolved(parts)?.found.tenant.clone()))
    }
}

/// The caller of the request. Without a credential: 401.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller(pub Identity);

impl<S: Sync> FromRequestParts<S> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        Ok(Self(resolved(parts)?.found.identity()?.clone()))
    }
}

/// The context of the request, the same that [`TenantContext::current`] returns. Without a credential: 401.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Context(pub Arc<TenantContext>);

impl<S: Sync> FromRequestParts<S> for Context {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        Ok(Self(context(resolved(parts)?)?))
    }
}

/// A condition on the caller, for [`Require`].
///
/// ```
/// use cgk::{axum::{Require, Requirement}, request::Identity};
///
/// /// May read orders: every user, and a program whose key says so.
/// struct ReadsOrders;
///
/// impl Requirement for ReadsOrders {
///     fn is_met_by(caller: &Identity) -> bool {
///         match caller {
///             Identity::ApiKey(key) => key.has_scope("orders:read"),
///             _ => true,
///         }
///     }
/// }
///
/// async fn orders(_: Require<ReadsOrders>) -> &'static str { "…" }
/// ```
pub trait Requirement {
    /// Returns whether the caller meets the condition.
    fn is_met_by(caller: &Identity) -> bool;
}

/// A user with the role `owner`. A program that uses an API key does not meet this condition.
#[derive(Clone, Copy, Debug)]
pub enum Owner {}

impl Requirement for Owner {
    fn is_met_by(caller: &Identity) -> bool {
        matches!(caller, Identity::Session(session) if session.role == UserRole::Owner)
    }
}

/// A user with the role `owner` or `admin`. A program that uses an API key does not meet this condition.
#[derive(Clone, Copy, Debug)]
pub enum OwnerOrAdmin {}

impl Requirement for OwnerOrAdmin {
    fn is_met_by(caller: &Identity) -> bool {
        matches!(caller, Identity::Session(session) if [UserRole::Owner, UserRole::Admin].contains(&session.role))
    }
}

/// A caller that meets a requirement. Without a credential: 401. If the requirement is not met: 403.
///
/// Use it in a handler, or use `axum::middleware::from_extractor::<Require<Owner>>()` for a whole router, as a
/// `route_layer` that is added before [`TenantLayer`](super::TenantLayer).
pub struct Require<R> {
    /// The caller.
    pub caller: Identity,
    requirement: PhantomData<fn() -> R>,
}

impl<R> fmt::Debug for Require<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Require").field("caller", &self.caller).finish()
    }
}

impl<S: Sync, R: Requirement> FromRequestParts<S> for Require<R> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let caller = resolved(parts)?.found.identity()?.clone();
        match R::is_met_by(&caller) {
            true => Ok(Self { caller, requirement: PhantomData }),
            false => Err(Problem::new(StatusCode::FORBIDDEN)
                .detail("access is denied")
                .caused_by(format_args!("the caller is not {}", std::any::type_name::<R>()))),
        }
    }
}
