//! Subscriptions: the plan of an organization, and its period.

mod model;
mod renewal;
mod sql;

pub use model::{
    Cancellation, NewSubscription, RenewalPeriod, RenewalReport, Subscription, SubscriptionId, SubscriptionStatus,
};

use super::{
    Actor, RecordedChange,
    allowance::PlanKey,
    error::{PlatformError, Result},
    permissions::{Permission, demand, demand_in_open},
    values::check_instant,
};
use crate::{
    tenancy::{Db, PlatformTx},
    tenant::OrganizationId,
};
use model::GrantChange;
use serde_json::json;
use std::time::Duration;

/// The maximum length of a trial: ten years.
const TRIAL_MAX: Duration = Duration::from_secs(3653 * 24 * 60 * 60);

/// Operations on subscriptions. Cheap to clone.
///
/// Seeing a subscription needs `billing:read`. Changing it needs `billing:manage` ([`Permission`]). An organization has
/// at most one subscription that has not ended. In each period it is granted what its plan includes
/// ([`Quota`](super::Quota)). This module makes no payments. A service calls these operations when its payment provider
/// reports a payment, and stores the provider's ids in `billing`.
///
/// ```no_run
/// use cgk::platform::{Cancellation, NewSubscription, PlatformError, RenewalPeriod, Subscriptions};
/// use std::time::{Duration, SystemTime};
///
/// async fn a_year_of_acme(db: &cgk::Db, acme: cgk::OrganizationId) -> Result<(), PlatformError> {
///     let subscriptions = Subscriptions::new(db);
///     let trial = Duration::from_secs(14 * 24 * 60 * 60);
///     subscriptions.subscribe(acme, &NewSubscription::to("team".parse()?).trial(trial)).await?;
///     // The provider's webhook: an invoice is paid, for this period.
///     # let (start, end) = (SystemTime::now(), SystemTime::now());
///     subscriptions.renew(acme, RenewalPeriod::Exactly { start, end }).await?;
///     subscriptions.change_plan(acme, &"scale".parse()?).await?;
///     subscriptions.cancel(acme, Cancellation::AtPeriodEnd).await?;
///     Ok(())
/// }
/// ```
#[derive(Clone, Debug)]
pub struct Subscriptions {
    db: Db<PlatformError>,
    actor: Option<Actor>,
}

impl Subscriptions {
    /// Creates the handle for the subscriptions of this database.
    pub fn new<E>(db: &Db<E>) -> Self {
        Self { db: db.errors(), actor: None }
    }

    /// Sets the actor of the operations. Default: [`Actor::current`].
    pub fn acting_as(mut self, actor: Actor) -> Self {
        self.actor = Some(actor);
        self
    }

    /// Subscribes an organization to a plan, and grants what the plan includes.
    ///
    /// # Locks
    ///
    /// The organization's row, against its deletion, and the organization's quota, until the end of the transaction.
    ///
    /// # Errors
    ///
    /// `NotFound`: the organization does not exist, or no plan on sale has this key. `OrganizationSuspended`.
    /// `AlreadySubscribed`: it has a subscription; use [`change_plan`](Self::change_plan). `TrialUsed`: it has already
    /// had a trial. `Forbidden`. `Invalid`: the trial has no length, is longer than ten years, or is combined with an
    /// end of the period. Also `Invalid`: a period of no months or more than 120, or one that has already ended.
    /// `TablesMissing`; `Database`. In these cases nothing is committed.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped before COMMIT is sent, nothing is committed.
    pub async fn subscribe(&self, organization: OrganizationId, new: &NewSubscription) -> Result<Subscription> {
        self.db.platform().transaction(async |tx| self.subscribe_in(tx, organization, new).await).await
    }

    /// Same as [`subscribe`](Self::subscribe), in the caller's transaction, together with the caller's other changes.
    ///
    /// # Locks
    ///
    /// Same as [`subscribe`](Self::subscribe), until the end of the transaction.
    ///
    /// # Errors
    ///
    /// Same as [`subscribe`](Self::subscribe). After `NotFound`, `OrganizationSuspended`, `AlreadySubscribed`,
    /// `TrialUsed` and an `Invalid` length the transaction can continue.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, end the transaction: the statement may or may not have run.
    pub async fn subscribe_in(
        &self,
        tx: &PlatformTx<'_>,
        organization: OrganizationId,
        new: &NewSubscription,
    ) -> Result<Subscription> {
        let (trial, months) = lengths(new)?;
        new.period_end.map_or(Ok(()), |end| check_instant("the end of the period", end))?;
        demand_in_open(tx, &self.actor(), organization, Permission::BillingManage).await?;
        let parameters: [&(dyn tokio_postgres::types::ToSql + Sync); 5] =
            [&organization, &new.plan.as_str(), &trial, &months, &new.period_end];
        let row = tx.query_opt(sql::SUBSCRIBE, &parameters).await.map_err(ended)?;
        let Some(row) = row else {
            let row = tx.query_one(sql::WHY_NOT, &[&organization, &new.plan.as_str()]).await?;
            return Err(match (row.get(0), row.get(1), row.get(2)) {
                (false, ..) => PlatformError::NotFound { what: "organization" },
                (_, false, _) => PlatformError::NotFound { what: "plan" },
                (_, _, true) => PlatformError::AlreadySubscribed,
                _ => PlatformError::TrialUsed,
            });
        };
        let subscription = Subscription::read(&row);
        self.finish(tx, "cgk.subscription.started", None, &subscription, Some(GrantChange::Replace)).await?;
        Ok(subscription)
    }

    /// Returns the subscription of an organization that has not ended.
    ///
    /// # Errors
    ///
    /// `NotFound`: there is no such subscription, or the actor is not a member. `Forbidden`: the actor may not see it.
    /// `TablesMissing`; `Database`.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, nothing changes: the function only reads.
    pub async fn current(&self, organization: OrganizationId) -> Result<Subscription> {
        let found = self.read(organization, sql::CURRENT).await?;
        found.into_iter().next().ok_or(MISSING)
    }

    /// Returns the subscriptions of an organization, newest first, at most 1,000. It includes those that have ended.
    ///
    /// # Errors
    ///
    /// `TablesMissing`; `Database`.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, nothing changes: the function only reads.
    pub async fn history(&self, organization: OrganizationId) -> Result<Vec<Subscription>> {
        self.read(organization, sql::HISTORY).await
    }

    async fn read(&self, organization: OrganizationId, query: &str) -> Result<Vec<Subscription>> {
        let actor = self.actor();
        let platform = self.db.platform();
        let rows = platform.transaction(async |tx| {
            demand(tx, &actor, organization, Permission::BillingRead).await?;
            Ok(tx.query(query, &[&organization]).await?)
        });
        Ok(rows.await?.iter().map(Subscription::read).collect())
    }

    /// Changes the plan immediately. One transaction revokes what the old plan granted and grants what the new plan
    /// includes, until the end of the period. What was used in the period counts under the new plan. Purchases and
    /// promocodes are not affected. If the organization already has this plan, nothing changes.
    ///
    /// # Locks
    ///
    /// The subscription's row, then the organization's quota, until the end of the transaction.
    ///
    /// # Errors
    ///
    /// `NotFound`: there is no subscription, or no plan on sale has this key. `OrganizationSuspended`. `Forbidden`.
    /// `TablesMissing`; `Database`.
    /// In these cases nothing is committed.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped before COMMIT is sent, nothing is committed.
    pub async fn change_plan(&self, organization: OrganizationId, plan: &PlanKey) -> Result<Subscription> {
        self.db
            .platform()
            .transaction(async |tx| {
                let (before, _) = self.lock_open(tx, organization).await?;
                if before.plan == *plan {
                    return Ok(before);
                }
                let row = tx.query_opt(sql::CHANGE_PLAN, &[&before.id, &plan.as_str()]).await?;
                let after = row.as_ref().map(Subscription::read).ok_or(PlatformError::NotFound { what: "plan" })?;
                self.finish(tx, "cgk.subscription.plan_changed", Some(&before), &after, Some(GrantChange::Replace))
                    .await?;
                Ok(after)
            })
            .await
    }

    /// Cancels a subscription, immediately or at the end of its period.
    ///
    /// # Locks
    ///
    /// The subscription's row, until the end of the transaction. If the cancellation is immediate, also the
    /// organization's quota.
    ///
    /// # Errors
    ///
    /// `NotFound`: there is no subscription that has not ended. `Forbidden`. `TablesMissing`; `Database`.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped before COMMIT is sent, nothing is committed.
    pub async fn cancel(&self, organization: OrganizationId, when: Cancellation) -> Result<Subscription> {
        self.db
            .platform()
            .transaction(async |tx| {
                let (before, _) = self.lock(tx, organization).await?;
                match when {
                    Cancellation::Now => self.end(tx, &before).await,
                    Cancellation::AtPeriodEnd => self.set_cancel_at_period_end(tx, before, true).await,
                }
            })
            .await
    }

    /// Withdraws a scheduled cancellation.
    ///
    /// # Locks
    ///
    /// The subscription's row, until the end of the transaction.
    ///
    /// # Errors
    ///
    /// `NotFound`: there is no subscription that has not ended. `OrganizationSuspended`. `Forbidden`. `TablesMissing`;
    /// `Database`.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped before COMMIT is sent, nothing is committed.
    pub async fn resume(&self, organization: OrganizationId) -> Result<Subscription> {
        self.db
            .platform()
            .transaction(async |tx| {
                let (before, _) = self.lock_open(tx, organization).await?;
                self.set_cancel_at_period_end(tx, before, false).await
            })
            .await
    }

    /// Records that a payment was not received. What was granted can be used until the end of the period.
    /// [`renew`](Self::renew) makes the subscription active again.
    ///
    /// # Locks
    ///
    /// The subscription's row, until the end of the transaction.
    ///
    /// # Errors
    ///
    /// `NotFound`: there is no subscription that has not ended. `Forbidden`. `TablesMissing`; `Database`.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped before COMMIT is sent, nothing is committed.
    pub async fn mark_past_due(&self, organization: OrganizationId) -> Result<Subscription> {
        self.db
            .platform()
            .transaction(async |tx| {
                let (before, _) = self.lock(tx, organization).await?;
                self.set_status(tx, before, &SubscriptionStatus::PastDue, "cgk.subscription.past_due").await
            })
            .await
    }

    /// Locks and returns the subscription that has not ended, for an actor who may change it. Also returns whether its
    /// period has ended.
    async fn lock(&self, tx: &PlatformTx<'_>, organization: OrganizationId) -> Result<(Subscription, bool)> {
        demand(tx, &self.actor(), organization, Permission::BillingManage).await?;
        lock(tx, organization).await?.ok_or(MISSING)
    }

    /// Does the same as [`lock`](Self::lock) for a change that buys something.
    async fn lock_open(&self, tx: &PlatformTx<'_>, organization: OrganizationId) -> Result<(Subscription, bool)> {
        demand_in_open(tx, &self.actor(), organization, Permission::BillingManage).await?;
        lock(tx, organization).await?.ok_or(MISSING)
    }

    fn actor(&self) -> Actor {
        self.actor.clone().unwrap_or_else(Actor::current)
    }

    async fn end(&self, tx: &PlatformTx<'_>, before: &Subscription) -> Result<Subscription> {
        let after = Subscription::read(&tx.query_one(sql::END, &[&before.id]).await?);
        self.finish(tx, "cgk.subscription.canceled", Some(before), &after, Some(GrantChange::End)).await?;
        Ok(after)
    }

    async fn set_cancel_at_period_end(
        &self,
        tx: &PlatformTx<'_>,
        before: Subscription,
        cancel: bool,
    ) -> Result<Subscription> {
        if before.cancel_at_period_end == cancel {
            return Ok(before);
        }
        let after = Subscription::read(&tx.query_one(sql::SET_CANCEL_AT_PERIOD_END, &[&before.id, &cancel]).await?);
        let name = match cancel {
            true => "cgk.subscription.cancellation_scheduled",
            false => "cgk.subscription.cancellation_withdrawn",
        };
        self.finish(tx, name, Some(&before), &after, None).await?;
        Ok(after)
    }

    async fn set_status(
        &self,
        tx: &PlatformTx<'_>,
        before: Subscription,
        status: &SubscriptionStatus,
        name: &'static str,
    ) -> Result<Subscription> {
        if before.status == *status {
            return Ok(before);
        }
        let after = Subscription::read(&tx.query_one(sql::SET_STATUS, &[&before.id, &status.as_str()]).await?);
        self.finish(tx, name, Some(&before), &after, None).await?;
        Ok(after)
    }

    /// Finishes every change: updates the grants, and records the change.
    async fn finish(
        &self,
        tx: &PlatformTx<'_>,
        name: &'static str,
        before: Option<&Subscription>,
        after: &Subscription,
        grants: Option<GrantChange>,
    ) -> Result<()> {
        let mut facts = after.facts();
        if let Some(change) = grants {
            let (change, start, end) = change.parameters();
            let row = tx.query_one(sql::CHANGE_GRANTS, &[&after.id, &change, &start, &end]).await?;
            facts["grants"] = json!({ "revoked": row.get::<_, i32>(0), "issued": row.get::<_, serde_json::Value>(1) });
        }
        let change = RecordedChange {
            actor: &self.actor(),
            organization: Some(after.organization_id),
            name,
            resource: ("subscription", after.id.to_string()),
            before: before.map(Subscription::facts),
            after: Some(facts),
        };
        Ok(change.record(tx).await?)
    }
}

const MISSING: PlatformError = PlatformError::NotFound { what: "subscription" };

/// Locks and returns the subscription that has not ended. Also returns whether its period has ended.
async fn lock(tx: &PlatformTx<'_>, organization: OrganizationId) -> Result<Option<(Subscription, bool)>> {
    let row = tx.query_opt(sql::LOCK, &[&organization]).await?;
    Ok(row.map(|row| (Subscription::read(&row), row.get(12))))
}

/// Returns the checked length of the trial in seconds, and the months of a period.
fn lengths(new: &NewSubscription) -> Result<(Option<f64>, i32)> {
    let invalid = |what, why: &str| PlatformError::Invalid { what, why: why.into() };
    if new.trial.is_some_and(|trial| trial.is_zero() || trial > TRIAL_MAX) {
        return Err(invalid("the trial", "it has no length, or over ten years"));
    }
    if new.trial.is_some() && new.period_end.is_some() {
        return Err(invalid("the end of the period", "the trial is the first period"));
    }
    match i32::try_from(new.period_months) {
        Ok(months @ 1..=120) => Ok((new.trial.map(|trial| trial.as_secs_f64()), months)),
        _ => Err(invalid("the length of the period", "it is 1 to 120 months")),
    }
}

/// Converts the constraint's error for a period that ends before it starts.
fn ended(error: crate::Error) -> PlatformError {
    match error.constraint() {
        Some("subscriptions_period_check") => {
            PlatformError::Invalid { what: "the period", why: "it ends before it starts".into() }
        }
        _ => error.into(),
    }
}
