//! Reads what a request says about its tenant, without a query.

use super::{
    error::RequestError,
    host::{host_of, single},
    rules::{RequestPart, TenantRules},
};
use crate::{domains::DomainName, host::HostName, slug::TenantSlug};
use http::{HeaderMap, header, request::Parts};

/// A part of a request that names a tenant, with its value. The tokens are secret.
#[derive(PartialEq, Eq)]
pub(super) enum Claim {
    /// A session's token or an API key.
    BearerToken(String),
    ApiKey(String),
    SessionToken(String),
    Name(NamedBy, TenantSlug),
    /// A host that may be a verified domain.
    Domain(DomainName),
}

/// The part of a request that named the tenant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum NamedBy {
    /// A session's token.
    Session,
    /// An API key.
    ApiKey,
    /// The host, by a subdomain or a custom domain.
    Host,
    /// The path.
    Path,
    /// The trusted header.
    Header,
}

/// What a request says about its tenant.
pub(super) struct Claims {
    /// In the order of the rules.
    pub(super) made: Vec<Claim>,
    /// Whether a part names something that cannot be a tenant.
    pub(super) unknown: bool,
}

impl TenantRules {
    /// Reads what the request says about its tenant.
    pub(super) fn read(&self, parts: &Parts) -> Result<Claims, RequestError> {
        let mut claims = Claims { made: Vec::new(), unknown: false };
        for part in &self.parts {
            match part {
                RequestPart::BearerToken => claims.made.extend(bearer(&parts.headers)?.map(Claim::BearerToken)),
                RequestPart::ApiKeyHeader(name) => {
                    let key = single(&parts.headers, name.as_str(), "the header of API keys")?;
                    claims.made.extend(key.map(|text| Claim::ApiKey(text.to_owned())));
                }
                RequestPart::SessionCookie(name) => {
                    claims.made.extend(cookie(&parts.headers, name)?.map(Claim::SessionToken));
                }
                RequestPart::Host => claims.add(NamedBy::Host, self.host(parts)?),
                RequestPart::Path { prefix } => {
                    let path = path_of(parts);
                    check_segments(path)?;
                    // Only the longest one, so that a nested prefix is not a tenant of the outer one.
                    if self.longest_prefix_of(path) == Some(prefix) {
                        claims.add(NamedBy::Path, behind(path, prefix));
                    }
                }
                RequestPart::Header(name) => {
                    let text = single(&parts.headers, name.as_str(), "the tenant's header")?;
                    claims.add(NamedBy::Header, text.map_or(Named::Nothing, slug));
                }
            }
        }
        Ok(claims)
    }

    fn longest_prefix_of(&self, path: &str) -> Option<&String> {
        let prefixes = self.parts.iter().filter_map(|part| match part {
            RequestPart::Path { prefix } => Some(prefix),
            _ => None,
        });
        let begins = |prefix: &&String| {
            path.strip_prefix(prefix.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        prefixes.filter(begins).max_by_key(|prefix| prefix.len())
    }

    fn host(&self, parts: &Parts) -> Result<Named, RequestError> {
        let host = host_of(parts, self.host_source)?;
        if self.hosts_without_tenant.contains(&host) {
            return Ok(Named::Nothing);
        }
        if let Some(tenant) = self.custom_domains.get(&host) {
            return Ok(Named::Tenant(tenant.clone()));
        }
        // The longest first, so that a nested base domain is not a tenant of the outer one.
        let base = self.base_domains.iter().find(|base| host.is_within(base));
        let domain = || DomainName::of_host(&host).filter(|_| self.verified_domains);
        Ok(match base {
            Some(base) => below(&host, base),
            None => domain().map_or(Named::Unknown, Named::Domain),
        })
    }
}

impl Claims {
    fn add(&mut self, by: NamedBy, named: Named) {
        match named {
            Named::Nothing => {}
            Named::Tenant(slug) => self.made.push(Claim::Name(by, slug)),
            Named::Domain(name) => self.made.push(Claim::Domain(name)),
            Named::Unknown => self.unknown = true,
        }
    }
}

/// What a part of the request names.
enum Named {
    Nothing,
    Tenant(TenantSlug),
    /// A tenant, if one has verified this domain.
    Domain(DomainName),
    /// Something that cannot be the name of a tenant.
    Unknown,
}

fn slug(text: &str) -> Named {
    text.parse().map_or(Named::Unknown, Named::Tenant)
}

/// Returns what a host below a base domain names. The hyphen represents the underscore, which host names cannot
/// contain, so slugs and labels correspond one to one.
fn below(host: &HostName, base: &HostName) -> Named {
    if host == base {
        return Named::Nothing;
    }
    match host.label_before(base) {
        // The ASCII form of an internationalized name is not a slug, even if it has the form of one.
        Some(label) if !label.starts_with("xn--") => slug(&label.replace('-', "_")),
        _ => Named::Unknown,
    }
}

/// Returns the path that the client sent. In a nested router, axum removes the prefix from the URI, and the prefix may
/// contain the tenant.
fn path_of(parts: &Parts) -> &str {
    #[cfg(feature = "axum")]
    if let Some(original) = parts.extensions.get::<::axum::extract::OriginalUri>() {
        return original.0.path();
    }
    parts.uri.path()
}

fn check_segments(path: &str) -> Result<(), RequestError> {
    let what = "the path";
    for segment in path.split('/') {
        let plain = segment.to_ascii_lowercase().replace("%2e", ".");
        if plain == "." || plain == ".." {
            return Err(RequestError::Malformed { what, why: "it has dot segments" });
        }
        if plain.contains('\\') || plain.contains("%2f") || plain.contains("%5c") {
            return Err(RequestError::Malformed { what, why: "a segment has a slash in it" });
        }
    }
    Ok(())
}

/// Returns the segment directly after a prefix of the path.
fn behind(path: &str, prefix: &str) -> Named {
    let rest = path.strip_prefix(prefix).and_then(|rest| rest.strip_prefix('/'));
    rest.map_or(Named::Nothing, |rest| slug(rest.split('/').next().unwrap_or_default()))
}

/// Returns the token of `authorization: Bearer …`.
fn bearer(headers: &HeaderMap) -> Result<Option<String>, RequestError> {
    let Some(text) = single(headers, header::AUTHORIZATION.as_str(), "authorization")? else { return Ok(None) };
    let (scheme, token) = text.split_once(' ').unwrap_or((text, ""));
    Ok(scheme.eq_ignore_ascii_case("bearer").then(|| token.trim_matches(' ').to_owned()))
}

/// Returns the value of a cookie. It may occur only once in all `cookie` headers together: a second one may come from
/// another site. An empty cookie counts as absent.
fn cookie(headers: &HeaderMap, name: &str) -> Result<Option<String>, RequestError> {
    let mut found = None;
    for value in headers.get_all(header::COOKIE) {
        for pair in value.as_bytes().split(|byte| *byte == b';') {
            let pair = pair.trim_ascii();
            let Some(value) = pair.strip_prefix(name.as_bytes()).and_then(|rest| rest.strip_prefix(b"=")) else {
                continue;
            };
            if found.replace(String::from_utf8_lossy(value).into_owned()).is_some() {
                return Err(RequestError::Malformed {
                    what: "the session's cookie",
                    why: "it stands there more than once",
                });
            }
        }
    }
    Ok(found.filter(|value| !value.is_empty()))
}

#[cfg(test)]
mod tests;
