//! Finds the tenant of a request. It uses the types of the crate `http`, which every framework shares.
//!
//! A request can name its tenant by a credential (a bearer token, an API key, a session cookie), by its host, by its
//! path or by a header that a gateway sets. [`TenantRules`] defines which of them a service reads, and in which order.
//! [`tenant_from_request`] finds the tenant, and refuses a request whose parts name different tenants.

mod error;
mod host;
mod read;
mod rules;

pub use error::RequestError;
pub use read::NamedBy;
pub use rules::{InvalidRule, TenantRules};

use crate::{
    auth::{ApiKey, AuthError, Session, TenantIdentity, TokenKind},
    context::TenantContext,
    domains::DomainName,
    error::{Error, TenantError},
    resolver::Resolver,
    slug::TenantSlug,
};
use http::request::Parts;
use read::{Claim, Claims};
use rules::Anonymous;

/// The tenant of a request, which is active, and the caller if the request has a credential.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct RequestTenant {
    /// The tenant.
    pub tenant: TenantIdentity,
    /// The first part of the request, in the order of the rules, that names the tenant.
    pub named_by: NamedBy,
    /// The caller. `None`: only the host, the path or the header names the tenant, and anyone can send those.
    pub identity: Option<Identity>,
}

impl RequestTenant {
    /// Returns the caller.
    ///
    /// # Errors
    ///
    /// [`RequestError::CredentialMissing`], 401.
    pub fn identity(&self) -> Result<&Identity, RequestError> {
        self.identity.as_ref().ok_or(RequestError::CredentialMissing)
    }

    /// Returns whether two results for one request can describe the same tenant and caller.
    #[cfg(feature = "axum")]
    pub(crate) fn agrees_with(&self, other: &Self) -> bool {
        let same_caller = match (&self.identity, &other.identity) {
            (Some(one), Some(other)) => one.agrees_with(other),
            _ => true,
        };
        same_caller && self.tenant.id == other.tenant.id
    }

    /// Returns the context in which to handle the request: the tenant and, for a session, the user with its role. For
    /// an API key, it has the id of the key, no user and no roles. If the request has no credential, it has neither.
    ///
    /// ```no_run
    /// # async fn example(found: cgk::request::RequestTenant, db: cgk::Db) -> cgk::Result<()> {
    /// let context = found.context().request_id("4bf92f3577b34da6");
    /// let orders = context.scope(async { db.current()?.query("select * from orders", &[]).await }).await?;
    /// # Ok(()) }
    /// ```
    pub fn context(&self) -> TenantContext {
        let context = TenantContext::new(self.tenant.id, self.tenant.slug.clone());
        match &self.identity {
            Some(Identity::Session(session)) => {
                context.user(session.user_id, &session.email).role(session.role.as_str())
            }
            Some(Identity::ApiKey(key)) => context.api_key(key.id),
            None => context,
        }
    }
}

/// The caller: the first credential in the order of the rules.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Identity {
    /// A user.
    Session(Session),
    /// A program.
    ApiKey(ApiKey),
}

impl Identity {
    /// Returns the organization that the caller belongs to.
    pub fn tenant(&self) -> &TenantIdentity {
        match self {
            Self::Session(session) => &session.tenant,
            Self::ApiKey(key) => &key.tenant,
        }
    }

    /// Returns whether two credentials of one request can belong to the same caller. A user and the user's program
    /// count as the same caller, two users do not.
    fn agrees_with(&self, other: &Self) -> bool {
        let same_user = match (self, other) {
            (Self::Session(one), Self::Session(other)) => one.user_id == other.user_id,
            _ => true,
        };
        same_user && self.tenant().id == other.tenant().id
    }
}

/// Finds the tenant of a request.
///
/// Every part that the rules name is read first, so a malformed part is always refused. Each credential is verified. If
/// a credential names the tenant, the other names are not looked up: they must be the same, otherwise the request is
/// refused. The refusal does not depend on whether the other names are tenants.
///
/// ```no_run
/// # async fn example(resolver: cgk::resolver::Resolver, request: http::Request<()>) -> Result<(), Box<dyn std::error::Error>> {
/// use cgk::request::{TenantRules, tenant_from_request};
/// let rules = TenantRules::new().bearer_token().subdomain_of("example.com")?;
/// let (parts, _body) = request.into_parts();
/// match tenant_from_request(&parts, &rules, &resolver).await {
///     Ok(found) => println!("{}", found.tenant.slug),
///     Err(error) => println!("{}: {error}", error.status()),
/// }
/// # Ok(()) }
/// ```
///
/// # Locks
///
/// The locks of [`Sessions::verify`](crate::auth::Sessions::verify) and
/// [`ApiKeys::verify`](crate::auth::ApiKeys::verify), if the resolver has no cached answer for the credential. Each
/// credential then runs a transaction of its own. Without a credential, the registry lookup is a transaction too.
///
/// # Errors
///
/// By [`RequestError::status`]:
///
/// - 400: a part is malformed or repeated.
/// - 401: a credential is not accepted.
/// - 403: the parts disagree, or the tenant is not active.
/// - 404: the request names no tenant, or no tenant has the name.
/// - 503 and 500: the database.
///
/// A rejected credential is reported before every other error except 400, so it discloses nothing about a tenant.
///
/// # Cancel safety
///
/// If the future is dropped, the use of an API key may or may not be recorded. Nothing else is changed.
pub async fn tenant_from_request(
    parts: &Parts,
    rules: &TenantRules,
    resolver: &Resolver,
) -> Result<RequestTenant, RequestError> {
    let Claims { made, unknown } = rules.read(parts)?;
    let mut identities: Vec<Identity> = Vec::new();
    let mut names: Vec<TenantSlug> = Vec::new();
    let mut named_by = None;
    // A request has one host.
    let mut domain = None;
    for claim in made {
        let by = match claim {
            Claim::Domain(name) => {
                domain = Some(name);
                NamedBy::Host
            }
            Claim::Name(by, slug) => {
                names.push(slug);
                by
            }
            credential => {
                let identity = verify(credential, resolver).await?;
                let by = match identity {
                    Identity::Session(_) => NamedBy::Session,
                    Identity::ApiKey(_) => NamedBy::ApiKey,
                };
                identities.push(identity);
                by
            }
        };
        named_by.get_or_insert(by);
    }
    let identity = identities.first().cloned();
    let tenant = match &identity {
        Some(first) => {
            let tenant = first.tenant();
            let agreed = !unknown
                && owns(domain.as_ref(), tenant, resolver).await?
                && names.iter().all(|name| *name == tenant.slug)
                && identities.iter().all(|other| first.agrees_with(other));
            if !agreed {
                return Err(RequestError::Disagreement);
            }
            tenant.clone()
        }
        None if rules.anonymous == Anonymous::Refused => return Err(RequestError::CredentialMissing),
        None => named(&names, domain.as_ref(), unknown, resolver).await?,
    };
    let named_by = named_by.ok_or(RequestError::TenantUnknown)?;
    Ok(RequestTenant { tenant, named_by, identity })
}

/// Finds a tenant that only a name identifies. Two different names are refused in the same way, whether or not they are
/// tenants.
async fn named(
    names: &[TenantSlug],
    domain: Option<&DomainName>,
    unknown: bool,
    resolver: &Resolver,
) -> Result<TenantIdentity, RequestError> {
    let refused = |source| match source {
        Error::Tenant(TenantError::NotFound { .. }) => RequestError::TenantUnknown,
        Error::Tenant(_) => RequestError::TenantInactive,
        source => RequestError::Database { source },
    };
    let Some(name) = names.first() else {
        // The request names nothing, or only the domain. An unknown part in the same request names no tenant either.
        return match domain {
            Some(_) if unknown => Err(RequestError::Disagreement),
            Some(domain) => resolver.domain(domain).await.map_err(refused)?.ok_or(RequestError::TenantUnknown),
            None => Err(RequestError::TenantUnknown),
        };
    };
    if unknown || names.iter().any(|other| other != name) {
        return Err(RequestError::Disagreement);
    }
    if let Some(domain) = domain {
        let owner = owner(domain, resolver).await?.filter(|owner| owner.slug == *name);
        return owner.ok_or(RequestError::Disagreement);
    }
    resolver.tenant(name).await.map_err(refused)
}

/// Returns whether the domain, if present, belongs to the tenant.
async fn owns(domain: Option<&DomainName>, tenant: &TenantIdentity, resolver: &Resolver) -> Result<bool, RequestError> {
    match domain {
        Some(domain) => Ok(owner(domain, resolver).await?.is_some_and(|owner| owner.id == tenant.id)),
        None => Ok(true),
    }
}

/// Returns the active tenant that has a domain.
async fn owner(domain: &DomainName, resolver: &Resolver) -> Result<Option<TenantIdentity>, RequestError> {
    match resolver.domain(domain).await {
        Ok(owner) => Ok(owner),
        Err(Error::Tenant(_)) => Ok(None),
        Err(source) => Err(RequestError::Database { source }),
    }
}

async fn verify(credential: Claim, resolver: &Resolver) -> Result<Identity, RequestError> {
    let session = async |token: &str| resolver.session(token).await.map(Identity::Session);
    let api_key = async |token: &str| resolver.api_key(token).await.map(Identity::ApiKey);
    let verified = match &credential {
        Claim::SessionToken(token) => session(token).await,
        Claim::ApiKey(token) => api_key(token).await,
        Claim::BearerToken(token) => match resolver.kind_of(token) {
            Some(TokenKind::Session) => session(token).await,
            Some(TokenKind::ApiKey) => api_key(token).await,
            _ => Err(AuthError::Malformed),
        },
        Claim::Name(..) | Claim::Domain(_) => unreachable!("a name is no credential"),
    };
    verified.map_err(|source| match source {
        AuthError::Database(source) | AuthError::TablesMissing { source } => RequestError::Database { source },
        source => RequestError::Credential { source },
    })
}
