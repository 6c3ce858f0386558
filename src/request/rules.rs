//! Where a service looks for the tenant of a request, in which order.

use super::host::HostSource;
use crate::{host::HostName, slug::TenantSlug};
use http::HeaderName;
use std::collections::HashMap;

/// Where the tenant of a request is looked for. Nothing is looked at that is not named here.
///
/// The order in which the parts are named is the order in which they are asked: the first one that the request has decides
/// which tenant it is, and every other one that the request has must agree, or the request is refused (403).
///
/// ```
/// use cgk::request::TenantRules;
/// let rules = TenantRules::new()
///     .bearer_token()                      // authorization: Bearer cgk_ses_… or cgk_key_…
///     .session_cookie("__Host-session")?
///     .subdomain_of("example.com")?        // acme.example.com
///     .host_without_tenant("www.example.com")?
///     .custom_domain("shop.acme.org", "acme".parse()?)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct TenantRules {
    pub(super) parts: Vec<RequestPart>,
    pub(super) base_domains: Vec<HostName>,
    pub(super) custom_domains: HashMap<HostName, TenantSlug>,
    pub(super) hosts_without_tenant: Vec<HostName>,
    pub(super) verified_domains: bool,
    pub(super) host_source: HostSource,
    pub(super) anonymous: Anonymous,
}

/// What becomes of a request without a credential.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Anonymous {
    /// Its host, path or header may name a tenant.
    Allowed,
    /// It is refused before it is known whether there is such a tenant.
    Refused,
}

/// A part of a request that may name a tenant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum RequestPart {
    BearerToken,
    ApiKeyHeader(HeaderName),
    SessionCookie(String),
    Host,
    Path { prefix: String },
    Header(HeaderName),
}

/// A rule that cannot be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} cannot be {what}: {why}")]
pub struct InvalidRule {
    /// What was given.
    pub text: String,
    /// What it was given for.
    pub what: &'static str,
    /// Why it cannot be.
    pub why: &'static str,
}

impl Default for TenantRules {
    fn default() -> Self {
        Self::new()
    }
}

impl TenantRules {
    /// Rules that look at nothing.
    pub fn new() -> Self {
        Self {
            parts: Vec::new(),
            base_domains: Vec::new(),
            custom_domains: HashMap::new(),
            hosts_without_tenant: Vec::new(),
            verified_domains: false,
            host_source: HostSource::Request,
            anonymous: Anonymous::Allowed,
        }
    }

    /// Refuses every request without a credential (401), whatever tenant its host, path or header names: for a service that
    /// answers nothing to strangers. Without this rule such a request is answered 404 or 403, by the tenant that it names, and
    /// 404 if it names none.
    pub fn require_credential(mut self) -> Self {
        self.anonymous = Anonymous::Refused;
        self
    }

    /// `authorization: Bearer …` with a session's token or an API key. Other schemes are passed over; a bearer token of another
    /// kind is not accepted.
    pub fn bearer_token(self) -> Self {
        self.and(RequestPart::BearerToken)
    }

    /// A header that holds an API key, such as `x-api-key`.
    ///
    /// # Errors
    ///
    /// No header has such a name.
    pub fn api_key_header(self, name: &str) -> Result<Self, InvalidRule> {
        Ok(self.and(RequestPart::ApiKeyHeader(header(name)?)))
    }

    /// A cookie that holds a session's token. A request that changes something needs protection against other sites' forms
    /// beside it, such as `SameSite` and a look at the header `origin`.
    ///
    /// # Errors
    ///
    /// No cookie has such a name.
    pub fn session_cookie(self, name: &str) -> Result<Self, InvalidRule> {
        let fits = !name.is_empty()
            && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte));
        match fits {
            true => Ok(self.and(RequestPart::SessionCookie(name.to_owned()))),
            false => Err(invalid(name, "the name of a cookie", "it is no token of HTTP")),
        }
    }

    /// The label of the host right before a base domain, such as `acme` of `acme.example.com`. A hyphen in it stands for the
    /// slug's underscore: `my-co.example.com` is `my_co`. The base domain itself names no tenant. May be called for several
    /// base domains; where one lies within another, the longer one holds.
    ///
    /// A request with a host that no rule knows is refused (404).
    ///
    /// # Errors
    ///
    /// It is no host name. An internationalized one is given in its ASCII form, `xn--…`.
    pub fn subdomain_of(mut self, base: &str) -> Result<Self, InvalidRule> {
        self.base_domains.push(host(base, "a base domain")?);
        self.base_domains.sort_by_key(|base| std::cmp::Reverse(base.as_str().len()));
        Ok(self.and_host())
    }

    /// A host that belongs to one tenant. It holds before the base domains.
    ///
    /// # Errors
    ///
    /// It is no host name, or it was given before.
    pub fn custom_domain(mut self, domain: &str, tenant: TenantSlug) -> Result<Self, InvalidRule> {
        const WHAT: &str = "a custom domain";
        let name = host(domain, WHAT)?;
        if self.hosts_without_tenant.contains(&name) || self.custom_domains.insert(name, tenant).is_some() {
            return Err(invalid(domain, WHAT, "it was given before"));
        }
        Ok(self.and_host())
    }

    /// The domains that organizations have verified, in the table of [`crate::domains`]. A host that no other rule knows is looked
    /// up there; a host within a base domain never is.
    pub fn verified_domains(mut self) -> Self {
        self.verified_domains = true;
        self.and_host()
    }

    /// A host that names no tenant, such as `www.example.com` or `api.example.com`; it holds before all others.
    ///
    /// # Errors
    ///
    /// It is no host name, or it is a custom domain.
    pub fn host_without_tenant(mut self, name: &str) -> Result<Self, InvalidRule> {
        const WHAT: &str = "a host without a tenant";
        let known = host(name, WHAT)?;
        if self.custom_domains.contains_key(&known) {
            return Err(invalid(name, WHAT, "it was given before"));
        }
        self.hosts_without_tenant.push(known);
        Ok(self.and_host())
    }

    /// The host is read from the header `x-forwarded-host` where a request has it. Only for a service that nobody reaches but
    /// through a proxy that sets or removes this header: everybody else could name any host. Without this call the header is
    /// not looked at. The header `forwarded` never is.
    pub fn trust_forwarded_host(mut self) -> Self {
        self.host_source = HostSource::TrustedProxy;
        self
    }

    /// The segment of the path right behind a prefix, such as `acme` of `/t/acme/orders` with the prefix `/t`. A path that does
    /// not begin with it names no tenant. May be called for several prefixes; where one lies within another, the longer one holds.
    ///
    /// It is the path that the client has sent: with the feature `axum`, a router of axum that is nested under a path changes
    /// nothing. Other frameworks must hand in the request as it was before they removed a prefix.
    ///
    /// # Errors
    ///
    /// It does not begin with `/`, ends with it, or holds something else than letters, digits, `-`, `_` and `/`.
    pub fn path_prefix(self, prefix: &str) -> Result<Self, InvalidRule> {
        let segments = prefix.strip_prefix('/').unwrap_or_default();
        let plain = |segment: &str| {
            !segment.is_empty() && segment.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
        };
        match segments.split('/').all(plain) {
            true => Ok(self.and(RequestPart::Path { prefix: prefix.to_owned() })),
            false => Err(invalid(prefix, "the prefix of a path", "it must be like /t")),
        }
    }

    /// A header that holds a tenant's slug. Only for a service that nobody reaches but through a proxy or gateway that sets or
    /// removes this header: everybody else could name any tenant.
    ///
    /// # Errors
    ///
    /// No header has such a name.
    pub fn trusted_header(self, name: &str) -> Result<Self, InvalidRule> {
        Ok(self.and(RequestPart::Header(header(name)?)))
    }

    fn and(mut self, part: RequestPart) -> Self {
        if !self.parts.contains(&part) {
            self.parts.push(part);
        }
        self
    }

    fn and_host(self) -> Self {
        self.and(RequestPart::Host)
    }
}

fn header(name: &str) -> Result<HeaderName, InvalidRule> {
    name.parse().map_err(|_| invalid(name, "the name of a header", "it is no token of HTTP"))
}

fn host(name: &str, what: &'static str) -> Result<HostName, InvalidRule> {
    match HostName::parse(name) {
        Ok(host) if !name.contains([':', '[']) => Ok(host),
        Ok(_) => Err(invalid(name, what, "it has a port or is an address")),
        Err(why) => Err(invalid(name, what, why)),
    }
}

fn invalid(text: &str, what: &'static str, why: &'static str) -> InvalidRule {
    InvalidRule { text: text.chars().take(80).collect(), what, why }
}
