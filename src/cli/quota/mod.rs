//! The commands about the quota of one tenant.

pub(crate) mod grant;
pub(crate) mod prune;
pub(crate) mod show;

use anyhow::Result;
use cgk::{
    Tenant,
    platform::{Allowance, Grant, Quota},
};
use serde::Serialize;

use super::{session::Session, ui::time};

/// A grant, as JSON.
#[derive(Serialize)]
struct GrantView<'a> {
    id: String,
    kind: &'a str,
    source: &'a str,
    amount: Allowance,
    balance: Allowance,
    starts_at: String,
    expires_at: Option<String>,
    revoked_at: Option<String>,
    reference: Option<&'a str>,
    created_at: String,
}

impl<'a> GrantView<'a> {
    fn of(grant: &'a Grant) -> Self {
        Self {
            id: grant.id.to_string(),
            kind: grant.kind.as_str(),
            source: grant.source.as_str(),
            amount: grant.amount,
            balance: grant.balance,
            starts_at: time::rfc3339(grant.starts_at),
            expires_at: grant.expires_at.map(time::rfc3339),
            revoked_at: grant.revoked_at.map(time::rfc3339),
            reference: grant.reference.as_deref(),
            created_at: time::rfc3339(grant.created_at),
        }
    }
}

/// The operations, and the tenant of the command.
struct Target {
    quota: Quota,
    tenant: Tenant,
}

impl Target {
    async fn open(session: &Session<'_>, slug: &str) -> Result<Self> {
        let (db, tenant) = session.tenant(slug).await?;
        Ok(Self { quota: Quota::new(&db).acting_as(session.actor(&db)), tenant })
    }
}
