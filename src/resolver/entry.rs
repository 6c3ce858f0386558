//! What is remembered of one slug or credential, and how long it may be used.

use super::changes::{Changes, Mark, Point};
use crate::{
    auth::{ApiKey, Rejection, Session, TenantIdentity, TokenHash, Verified},
    domains::DomainName,
    ident::hex,
    slug::TenantSlug,
    tenant::{OrganizationId, TenantStatus},
};
use std::time::{Duration, Instant};

/// What is asked for. A credential by the hash that is stored of it, never by its token.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(super) enum Subject {
    Slug(TenantSlug),
    Domain(DomainName),
    Session(TokenHash),
    ApiKey(TokenHash),
}

/// What was found.
pub(super) enum Found {
    /// The organization and its status; `None`: there is none.
    Tenant(Option<(OrganizationId, TenantStatus)>),
    /// The organization that has the domain verified, and its status.
    Domain(Option<(TenantIdentity, TenantStatus)>),
    Session(Result<Session, Rejection>),
    ApiKey(Result<ApiKey, Rejection>),
}

/// What was found, and since when it is known.
pub(super) struct Entry {
    pub(super) found: Found,
    /// Taken before the question was sent.
    pub(super) began: Point,
    /// Taken before the question was sent.
    pub(super) asked_at: Instant,
    /// How long the credential lives, from `asked_at` on; `None`: it does not end.
    pub(super) lives: Option<Duration>,
    pub(super) marks: Vec<Mark>,
}

/// How long entries may be used at this moment.
#[derive(Clone, Copy)]
pub(super) struct Limits {
    pub(super) known: Duration,
    pub(super) unknown: Duration,
    /// Of an API key, whose use is noted when it is looked up.
    pub(super) api_key: Duration,
}

impl Entry {
    /// Whether it still says what the database would.
    pub(super) fn holds(&self, changes: &Changes, limits: Limits, now: Instant) -> bool {
        let age = now.saturating_duration_since(self.asked_at);
        let limit = match &self.found {
            Found::Tenant(Some(_)) | Found::Domain(Some(_)) | Found::Session(Ok(_)) => limits.known,
            Found::ApiKey(Ok(_)) => limits.known.min(limits.api_key),
            Found::Tenant(None) | Found::Domain(None) | Found::Session(Err(_)) | Found::ApiKey(Err(_)) => {
                limits.unknown
            }
        };
        age < limit && self.lives.is_none_or(|lives| age < lives) && changes.none_since(self.began, &self.marks)
    }
}

impl Subject {
    /// The mark of what it is found by, as the migrations 010 and 012 notify its changes.
    pub(super) fn mark(&self) -> Mark {
        match self {
            Self::Slug(slug) => Mark::of(&format!("slug:{slug}")),
            Self::Domain(name) => Mark::of(&format!("domain:{name}")),
            Self::Session(hash) => Mark::of(&format!("session:{}", hex(hash.bytes()))),
            Self::ApiKey(hash) => Mark::of(&format!("key:{}", hex(hash.bytes()))),
        }
    }
}

/// The mark of an organization's slug and status.
pub(super) fn mark_of_organization(id: OrganizationId) -> Mark {
    Mark::of(&format!("organization:{id}"))
}

/// The marks of a credential's organization and user, on whose status the answer depends.
pub(super) fn marks_of<T>(verified: &Verified<T>) -> impl Iterator<Item = Mark> {
    let organization = verified.organization.map(mark_of_organization);
    let user = verified.user.map(|id| Mark::of(&format!("user:{id}")));
    organization.into_iter().chain(user)
}
