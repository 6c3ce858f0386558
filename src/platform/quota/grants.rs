//! Grants that do not come from a subscription, and the list of all grants.

use super::{
    Quota,
    model::{Grant, GrantId, NewGrant, grant_columns},
};
use crate::{
    platform::{
        RecordedChange,
        allowance::Allowance,
        error::{PlatformError, Result},
        permissions::{Permission, demand, demand_in_open},
        values::{check_instant, check_text},
    },
    tenancy::PlatformTx,
    tenant::OrganizationId,
};
use std::time::Duration;

/// A thousand years.
const EXPIRY_MAX: Duration = Duration::from_secs(365_243 * 24 * 60 * 60);

const LIST: &str = concat!(
    "select ",
    grant_columns!(),
    " from public.grants g where g.organization_id = $1
       and ($2 or g.revoked_at is null and coalesce(g.expires_at, 'infinity') > pg_catalog.now())
     order by g.created_at desc, g.kind, g.id limit 1000"
);

/// Creates the row that every consumption of the kind locks.
const PREPARE: &str = "insert into public.quota_usage (organization_id, kind)
    select o.id, k.name from public.organizations o cross join public.quota_kinds k where o.id = $1 and k.name = $2
    on conflict (organization_id, kind) do nothing";
const GRANT: &str = concat!(
    "with g as (
         insert into public.grants (organization_id, kind, source, amount, reference, expires_at)
         select u.organization_id, u.kind, $3::pg_catalog.text::public.grant_source, $4, $5,
                coalesce($6, pg_catalog.now() + pg_catalog.make_interval(secs => $7))
           from public.quota_usage u where u.organization_id = $1 and u.kind = $2
         on conflict (organization_id, source, reference, kind) do nothing
         returning *
     ) select ",
    grant_columns!(),
    " from g"
);
const GRANTED: &str = concat!(
    "select ",
    grant_columns!(),
    " from public.grants g where g.organization_id = $1 and g.kind = $2
       and g.source = $3::pg_catalog.text::public.grant_source and g.reference = $4"
);
const IS_KNOWN: &str = "select exists (select from public.organizations o where o.id = $1)";

const LOCK: &str = concat!(
    "select ",
    grant_columns!(),
    " from public.grants g where g.organization_id = $1 and g.id = $2 for no key update of g"
);
const REVOKE: &str = concat!(
    "with g as (update public.grants g set revoked_at = pg_catalog.clock_timestamp() where g.id = $1 returning g.*) select ",
    grant_columns!(),
    " from g"
);

impl Quota {
    /// Returns the grants of an organization that are active or start later, newest first, at most 1,000.
    ///
    /// # Errors
    ///
    /// `NotFound`: the actor is not a member. `Forbidden`: the actor may not see them. `TablesMissing`; `Database`.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, nothing changes: the function only reads.
    pub async fn grants(&self, organization: OrganizationId) -> Result<Vec<Grant>> {
        self.list(organization, false).await
    }

    /// Same as [`grants`](Self::grants), but includes expired and revoked grants.
    ///
    /// # Errors
    ///
    /// Same as [`grants`](Self::grants).
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, nothing changes: the function only reads.
    pub async fn all_grants(&self, organization: OrganizationId) -> Result<Vec<Grant>> {
        self.list(organization, true).await
    }

    async fn list(&self, organization: OrganizationId, ended_too: bool) -> Result<Vec<Grant>> {
        let actor = self.actor();
        let platform = self.db.platform();
        let rows = platform.transaction(async |tx| {
            demand(tx, &actor, organization, Permission::BillingRead).await?;
            Ok(tx.query(LIST, &[&organization, &ended_too]).await?)
        });
        Ok(rows.await?.iter().map(Grant::read).collect())
    }

    /// Grants an amount that was bought or that comes from a promocode. If the same reference was already granted with
    /// the same amount, nothing is granted again, and the existing grant is returned in its current state.
    ///
    /// # Locks
    ///
    /// The organization's row, against its deletion, until the end of the transaction.
    ///
    /// # Errors
    ///
    /// `NotFound`: the organization or the kind does not exist. `OrganizationSuspended`. `IdempotencyConflict`: the
    /// reference was granted with another amount. `Forbidden`: the actor does not have the permission. `Invalid`: the
    /// amount is zero or more than 10^15, the grant expires before it starts, in over 1,000 years or after the year
    /// 9999, or the reference is empty, longer than 255 characters or has a NUL. `TablesMissing`; `Database`. In these
    /// cases nothing is committed.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped before COMMIT is sent, nothing is committed. If a reference is set, the same call again
    /// grants only once.
    pub async fn grant(&self, organization: OrganizationId, new: &NewGrant) -> Result<Grant> {
        self.db.platform().transaction(async |tx| self.grant_in(tx, organization, new).await).await
    }

    /// Same as [`grant`](Self::grant), in the caller's transaction.
    ///
    /// # Locks
    ///
    /// Same as [`grant`](Self::grant), until the end of the transaction.
    ///
    /// # Errors
    ///
    /// Same as [`grant`](Self::grant).
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, end the transaction: the statement may or may not have run.
    pub async fn grant_in(&self, tx: &PlatformTx<'_>, organization: OrganizationId, new: &NewGrant) -> Result<Grant> {
        let (kind, source, reference) = (new.kind.as_str(), new.source.as_str(), new.reference.as_deref());
        if new.amount == Allowance::Limited(0) {
            return Err(PlatformError::Invalid { what: "the amount", why: "it must be at least 1".into() });
        }
        new.expires_at.map_or(Ok(()), |at| check_instant("the expiry", at))?;
        if new.expires_in.is_some_and(|after| after > EXPIRY_MAX) {
            return Err(PlatformError::Invalid { what: "the expiry", why: "it is in over 1,000 years".into() });
        }
        reference.map_or(Ok(()), |reference| check_text("the reference", reference, 255))?;
        let (amount, seconds) = (new.amount.column()?, new.expires_in.map(|after| after.as_secs_f64()));
        demand_in_open(tx, &self.actor(), organization, Permission::BillingManage).await?;
        tx.execute(PREPARE, &[&organization, &kind]).await?;
        let row = tx
            .query_opt(GRANT, &[&organization, &kind, &source, &amount, &reference, &new.expires_at, &seconds])
            .await
            .map_err(not_stored)?;
        if let Some(row) = row {
            let grant = Grant::read(&row);
            self.record(tx, "cgk.quota.granted", &grant).await?;
            return Ok(grant);
        }
        match tx.query_opt(GRANTED, &[&organization, &kind, &source, &reference]).await?.as_ref().map(Grant::read) {
            Some(grant) if grant.amount == new.amount => Ok(grant),
            Some(_) => Err(PlatformError::IdempotencyConflict { why: "the reference was granted with another amount" }),
            None => match tx.query_one(IS_KNOWN, &[&organization]).await?.get(0) {
                true => Err(PlatformError::NotFound { what: "kind of quota" }),
                false => Err(PlatformError::NotFound { what: "organization" }),
            },
        }
    }

    /// Revokes a grant: it no longer counts. What was already spent is not returned.
    ///
    /// # Locks
    ///
    /// The grant's row, until the end of the transaction. The call waits for transactions that spend from the grant.
    ///
    /// # Errors
    ///
    /// `NotFound`: the organization has no such grant. `Forbidden`. `TablesMissing`; `Database`.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped before COMMIT is sent, nothing is committed.
    pub async fn revoke_grant(&self, organization: OrganizationId, grant: GrantId) -> Result<Grant> {
        self.db
            .platform()
            .transaction(async |tx| {
                demand(tx, &self.actor(), organization, Permission::BillingManage).await?;
                let row = tx.query_opt(LOCK, &[&organization, &grant]).await?;
                let before = row.as_ref().map(Grant::read).ok_or(PlatformError::NotFound { what: "grant" })?;
                if before.revoked_at.is_some() {
                    return Ok(before);
                }
                let after = Grant::read(&tx.query_one(REVOKE, &[&grant]).await?);
                self.record(tx, "cgk.quota.grant_revoked", &after).await?;
                Ok(after)
            })
            .await
    }

    async fn record(&self, tx: &PlatformTx<'_>, name: &'static str, grant: &Grant) -> Result<()> {
        let change = RecordedChange {
            actor: &self.actor(),
            organization: Some(grant.organization_id),
            name,
            resource: ("grant", grant.id.to_string()),
            before: None,
            after: Some(grant.facts()),
        };
        Ok(change.record(tx).await?)
    }
}

/// Converts an error of the tables' constraints.
fn not_stored(error: crate::Error) -> PlatformError {
    let (what, why) = match error.constraint() {
        Some("grants_expires_at_check") => ("the expiry", "it is in the past"),
        Some("grants_reference_check") => ("the reference", "it is empty or longer than 255 characters"),
        _ => return error.into(),
    };
    PlatformError::Invalid { what, why: why.into() }
}
