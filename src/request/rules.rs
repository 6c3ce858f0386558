//! Defines where a service looks for the tenant of a request, and in which order.

use super::host::HostSource;
use crate::{host::HostName, slug::TenantSlug};
use http::HeaderName;
use std::collections::HashMap;

/// Defines where the tenant of a request is looked for. Parts that are not listed here are ignored.
///
/// The order of the calls is the order of precedence: the first part that the request has determines the tenant. Every
/// other part that the request has must agree, otherwise the request is refused (403).
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

/// How a request without a credential is handled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Anonymous {
    /// Its host, path or header may name a tenant.
    Allowed,
    /// It is refused before the tenant is looked up.
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

/// A rule that is not valid.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} cannot be {what}: {why}")]
pub struct InvalidRule {
    /// The given text.
    pub text: String,
    /// The kind of rule it was given for.
    pub what: &'static str,
    /// Why it is not valid.
    pub why: &'static str,
}

impl Default for TenantRules {
    fn default() -> Self {
        Self::new()
    }
}

impl TenantRules {
    /// Creates rules that read no part of the request.
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

    /// Refuses every request without a credential (401), whichever tenant its host, path or header names: for a service
    /// without public endpoints. Without this rule, such a request gets 404 if it names no tenant; if it names one, 404
    /// or 403, depending on that tenant.
    pub fn require_credential(mut self) -> Self {
        self.anonymous = Anonymous::Refused;
        self
    }

    /// Reads `authorization: Bearer …` with a session token or an API key. Other schemes are ignored; a bearer token of
    /// another kind is not accepted.
    pub fn bearer_token(self) -> Self {
        self.and(RequestPart::BearerToken)
    }

    /// Reads a header that contains an API key, such as `x-api-key`.
    ///
    /// # Errors
    ///
    /// The text is not a valid header name.
    pub fn api_key_header(self, name: &str) -> Result<Self, InvalidRule> {
        Ok(self.and(RequestPart::ApiKeyHeader(header(name)?)))
    }

    /// Reads a cookie that contains a session token. Requests that change data also need protection against cross-site
    /// request forgery, such as `SameSite` and a check of the header `origin`.
    ///
    /// # Errors
    ///
    /// The text is not a valid cookie name.
    pub fn session_cookie(self, name: &str) -> Result<Self, InvalidRule> {
        let fits = !name.is_empty()
            && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte));
        match fits {
            true => Ok(self.and(RequestPart::SessionCookie(name.to_owned()))),
            false => Err(invalid(name, "the name of a cookie", "it is no token of HTTP")),
        }
    }

    /// Reads the label of the host directly before a base domain, such as `acme` in `acme.example.com`. A hyphen in it
    /// represents the slug's underscore: `my-co.example.com` is `my_co`. The base domain itself names no tenant. It may
    /// be called for several base domains; if one is below another, the longer one is used.
    ///
    /// A request with a host that matches no rule is refused (404).
    ///
    /// # Errors
    ///
    /// The text is not a host name. Write an internationalized name in its ASCII form, `xn--…`.
    pub fn subdomain_of(mut self, base: &str) -> Result<Self, InvalidRule> {
        self.base_domains.push(host(base, "a base domain")?);
        self.base_domains.sort_by_key(|base| std::cmp::Reverse(base.as_str().len()));
        Ok(self.and_host())
    }

    /// Adds a host that belongs to one tenant. It takes precedence over the base domains.
    ///
    /// # Errors
    ///
    /// The text is not a host name, or it is already a rule.
    pub fn custom_domain(mut self, domain: &str, tenant: TenantSlug) -> Result<Self, InvalidRule> {
        const WHAT: &str = "a custom domain";
        let name = host(domain, WHAT)?;
        if self.hosts_without_tenant.contains(&name) || self.custom_domains.insert(name, tenant).is_some() {
            return Err(invalid(domain, WHAT, "it was given before"));
        }
        Ok(self.and_host())
    }

    /// Uses the domains that organizations have verified, from the table of [`crate::domains`]. A host that matches no
    /// other rule is looked up there. A host below a base domain is never looked up there.
    pub fn verified_domains(mut self) -> Self {
        self.verified_domains = true;
        self.and_host()
    }

    /// Adds a host that names no tenant, such as `www.example.com` or `api.example.com`. It takes precedence over all
    /// other host rules.
    ///
    /// # Errors
    ///
    /// The text is not a host name, or it is a custom domain.
    pub fn host_without_tenant(mut self, name: &str) -> Result<Self, InvalidRule> {
        const WHAT: &str = "a host without a tenant";
        let known = host(name, WHAT)?;
        if self.custom_domains.contains_key(&known) {
            return Err(invalid(name, WHAT, "it was given before"));
        }
        self.hosts_without_tenant.push(known);
        Ok(self.and_host())
    }

    /// Reads the host from the header `x-forwarded-host` if the request has it. Use this only if the service is
    /// reachable only through a proxy that sets or removes this header; otherwise any client can name any host. Without
    /// this call the header is ignored. The header `forwarded` is always ignored.
    pub fn trust_forwarded_host(mut self) -> Self {
        self.host_source = HostSource::TrustedProxy;
        self
    }

    /// Reads the path segment directly after a prefix, such as `acme` in `/t/acme/orders` with the prefix `/t`. A path
    /// that does not start with the prefix names no tenant. It may be called for several prefixes; if one is inside
    /// another, the longer one is used.
    ///
    /// The path is the one that the client sent. With the feature `axum`, nesting an axum router under a path does not
    /// change it. With other frameworks, pass the request as it was before the framework removed a prefix.
    ///
    /// # Errors
    ///
    /// The prefix does not start with `/`, ends with `/`, or contains other characters than letters, digits, `-`, `_`
    /// and `/`.
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

    /// Reads a header that contains a tenant's slug. Use this only if the service is reachable only through a proxy or
    /// gateway that sets or removes this header. Otherwise any client can name any tenant.
    ///
    /// # Errors
    ///
    /// The text is not a valid header name.
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
