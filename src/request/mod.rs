//! From a request to a tenant, on the types of the crate `http` that every framework shares.
//!
//! A request may name its tenant by a credential (a bearer token, an API key, the cookie of a session), by its host, by its path
//! or by a header that a gateway sets. [`TenantRules`] says which of them a service looks at, and in which order;
//! [`tenant_from_request`] finds the tenant, and refuses a request whose parts name different ones.

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

/// The tenant of a request, which is active, and who asks, if the request says so.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct RequestTenant {
    /// The tenant.
    pub tenant: TenantIdentity,
    /// The first part of the request, in the order of the rules, that named it.
    pub named_by: NamedBy,
    /// Who asks. `None`: only the host, the path or the header named the tenant, and anybody may have sent that.
    pub identity: Option<Identity>,
}

impl RequestTenant {
    /// Who asks.
    ///
    /// # Errors
    ///
    /// [`RequestError::CredentialMissing`], 401.
    pub fn identity(&self) -> Result<&Identity, RequestError> {
        self.identity.as_ref().ok_or(RequestError::CredentialMissing)
    }

    /// Whether two readings of one request can be of the same tenant and caller.
    #[cfg(feature = "axum")]
    pub(crate) fn agrees_with(&self, other: &Self) -> bool {
        let same_caller = match (&self.identity, &other.identity) {
            (Some(one), Some(other)) => one.agrees_with(other),
            _ => true,
        };
        same_caller && self.tenant.id == other.tenant.id
    }

    /// The context to answer the request in: the tenant, and of a session its user with its role. A program that asks with an API
    /// key has no user and no roles.
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
            Some(Identity::ApiKey(_)) | None => context,
        }
    }
}

/// Who asks: the first credential in the order of the rules.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Identity {
    /// A user.
    Session(Session),
    /// A program.
    ApiKey(ApiKey),
}

impl Identity {
    /// The organization that it belongs to.
    pub fn tenant(&self) -> &TenantIdentity {
        match self {
            Self::Session(session) => &session.tenant,
            Self::ApiKey(key) => &key.tenant,
        }
    }

    /// Whether two credentials of one request can be of the same caller: a user's program is no other caller, another user is.
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
/// Every part that the rules name and the request has is read first, so that what is malformed is refused whatever else is there.
/// Each credential is verified. A tenant that a credential names is not looked up by its other names: those must be the same,
/// or the request is refused alike whether they name another tenant or none.
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
/// Those of [`Sessions::verify`](crate::auth::Sessions::verify) and [`ApiKeys::verify`](crate::auth::ApiKeys::verify), where the
/// resolver does not remember the credential. Each credential is then a transaction of its own, and so is the look at the
/// registry where there is no credential.
///
/// # Errors
///
/// By [`RequestError::status`]: 400 for a part that is malformed or stands there twice; 401 for a credential that is not
/// accepted; 403 for parts that disagree, and for a tenant that is not active; 404 where nothing names a tenant, or no tenant
/// has the name; 503 and 500 for the database. A credential that is not accepted is told before all else but 400, so nothing
/// is learned of a tenant by it.
///
/// # Cancel safety
///
/// Dropped, the use of an API key may be noted or not; nothing else is changed.
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

/// The tenant that is only named. Two names are refused alike, whichever of them are tenants.
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
        // Nothing, or the domain alone: what is unknown beside it has no name either.
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

/// Whether the domain, if there is one, is the tenant's.
async fn owns(domain: Option<&DomainName>, tenant: &TenantIdentity, resolver: &Resolver) -> Result<bool, RequestError> {
    match domain {
        Some(domain) => Ok(owner(domain, resolver).await?.is_some_and(|owner| owner.id == tenant.id)),
        None => Ok(true),
    }
}

/// The active tenant that has a domain.
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
