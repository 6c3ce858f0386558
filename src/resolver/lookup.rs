//! Looks up in the database what is not cached.

use super::entry::{Entry, FoundSubject, LookupSubject, mark_of_organization, marks_of};
use crate::{
    auth::{Auth, AuthError, Rejection, TenantIdentity},
    domains::{DomainError, DomainName, Domains},
    error::{Error, Result, TenantError},
    resolver::changes::Changes,
    slug::TenantSlug,
    tenancy::find_tenant,
    tenant::{Tenant, TenantStatus},
};
use std::time::{Duration, Instant};

/// Runs one database query.
pub(super) async fn look_up(key: &LookupSubject, auth: &Auth, changes: &Changes) -> Result<Entry> {
    let (began, asked_at) = (changes.now(), Instant::now());
    let mut marks = vec![key.mark()];
    let (found, lives) = match key {
        LookupSubject::Slug(slug) => {
            let found = organization(slug, auth).await?;
            let left = found.as_ref().and_then(|(_, left)| *left);
            // Another slug of its organization is another answer.
            marks.extend(left.and(found.as_ref()).map(|(tenant, _)| mark_of_organization(tenant.id)));
            let tenant = |Tenant { id, slug, status, .. }| (TenantIdentity { id, slug }, status);
            (FoundSubject::Tenant(found.map(|(found, _)| tenant(found))), left)
        }
        LookupSubject::Domain(name) => {
            let owner = owner(name, auth).await?;
            marks.extend(owner.iter().map(|(tenant, _)| mark_of_organization(tenant.id)));
            (FoundSubject::Domain(owner), None)
        }
        LookupSubject::Session(hash) => {
            let verified = auth.sessions().verify_hash(hash).await.map_err(database)?;
            marks.extend(marks_of(&verified));
            (FoundSubject::Session(verified.outcome), verified.lives)
        }
        LookupSubject::ApiKey(hash) => {
            let verified = auth.api_keys().verify_hash(hash).await.map_err(database)?;
            marks.extend(marks_of(&verified));
            (FoundSubject::ApiKey(verified.outcome), verified.lives)
        }
    };
    // A credential that has expired stays expired. A credential that expires at this moment is not cached.
    let has_ended =
        matches!(found, FoundSubject::Session(Err(Rejection::Expired)) | FoundSubject::ApiKey(Err(Rejection::Expired)));
    let lives = lives.filter(|_| !has_ended);
    Ok(Entry { marks, found, began, asked_at, lives })
}

async fn organization(slug: &TenantSlug, auth: &Auth) -> Result<Option<(Tenant, Option<Duration>)>> {
    match find_tenant(&auth.db().errors(), slug).await {
        Ok(found) => Ok(Some(found)),
        Err(Error::Tenant(TenantError::NotFound { .. })) => Ok(None),
        Err(error) => Err(error),
    }
}

async fn owner(name: &DomainName, auth: &Auth) -> Result<Option<(TenantIdentity, TenantStatus)>> {
    match Domains::new(auth.db()).owner(name).await {
        Ok(owner) => Ok(owner.map(|(id, slug, status)| (TenantIdentity { id, slug }, status))),
        Err(DomainError::Database(source) | DomainError::TablesMissing { source }) => Err(source),
        Err(other) => Err(Error::Unexpected { doing: "look up a domain".into(), found: other.to_string() }),
    }
}

fn database(error: AuthError) -> Error {
    match error {
        AuthError::Database(source) | AuthError::TablesMissing { source } => source,
        other => Error::Unexpected { doing: "look up a credential".into(), found: other.to_string() },
    }
}
