//! A cached answer for one slug or credential, and how long it is valid.

use super::changes::{Changes, Mark, Point};
use crate::{
    auth::{ApiKey, Rejection, Session, TenantIdentity, TokenHash, Verified},
    domains::DomainName,
    ident::hex,
    slug::TenantSlug,
    tenant::{OrganizationId, TenantStatus},
};
use std::time::{Duration, Instant};

/// What is looked up. A credential is identified by its stored hash, never by its token.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(super) enum LookupSubject {
    Slug(TenantSlug),
    Domain(DomainName),
    Session(TokenHash),
    ApiKey(TokenHash),
}

/// The answer to a lookup.
pub(super) enum FoundSubject {
    /// The organization with its slug, which is another one if it was found by a former slug, and its status; `None`: it
    /// does not exist.
    Tenant(Option<(TenantIdentity, TenantStatus)>),
    /// The organization that has verified the domain, and its status.
    Domain(Option<(TenantIdentity, TenantStatus)>),
    Session(Result<Session, Rejection>),
    ApiKey(Result<ApiKey, Rejection>),
}

/// An answer and its age.
pub(super) struct Entry {
    pub(super) found: FoundSubject,
    /// Taken before the query was sent.
    pub(super) began: Point,
    /// Taken before the query was sent.
    pub(super) asked_at: Instant,
    /// How long the credential or the former slug is valid, counted from `asked_at`; `None`: it does not expire.
    pub(super) lives: Option<Duration>,
    pub(super) marks: Vec<Mark>,
}

/// How long entries are valid at this moment.
#[derive(Clone, Copy)]
pub(super) struct Limits {
    pub(super) known: Duration,
    pub(super) unknown: Duration,
    /// For an API key, whose use is recorded when it is looked up.
    pub(super) api_key: Duration,
}

impl Entry {
    /// Returns whether the database would still give the same answer.
    pub(super) fn holds(&self, changes: &Changes, limits: Limits, now: Instant) -> bool {
        let age = now.saturating_duration_since(self.asked_at);
        let limit = match &self.found {
            FoundSubject::Tenant(Some(_)) | FoundSubject::Domain(Some(_)) | FoundSubject::Session(Ok(_)) => {
                limits.known
            }
            FoundSubject::ApiKey(Ok(_)) => limits.known.min(limits.api_key),
            FoundSubject::Tenant(None)
            | FoundSubject::Domain(None)
            | FoundSubject::Session(Err(_))
            | FoundSubject::ApiKey(Err(_)) => limits.unknown,
        };
        age < limit && self.lives.is_none_or(|lives| age < lives) && changes.none_since(self.began, &self.marks)
    }
}

impl LookupSubject {
    /// Returns the mark of the lookup key, as the migrations 010 and 012 notify its changes.
    pub(super) fn mark(&self) -> Mark {
        match self {
            Self::Slug(slug) => Mark::of(&format!("slug:{slug}")),
            Self::Domain(name) => Mark::of(&format!("domain:{name}")),
            Self::Session(hash) => Mark::of(&format!("session:{}", hex(hash.bytes()))),
            Self::ApiKey(hash) => Mark::of(&format!("key:{}", hex(hash.bytes()))),
        }
    }
}

/// Returns the mark of an organization's slug and status.
pub(super) fn mark_of_organization(id: OrganizationId) -> Mark {
    Mark::of(&format!("organization:{id}"))
}

/// Returns the marks of a credential's organization and user, because the answer depends on their status.
pub(super) fn marks_of<T>(verified: &Verified<T>) -> impl Iterator<Item = Mark> {
    let organization = verified.organization.map(mark_of_organization);
    let user = verified.user.map(|id| Mark::of(&format!("user:{id}")));
    organization.into_iter().chain(user)
}
