//! Renews subscriptions for the next period.

use super::{
    Subscriptions, lock,
    model::{GrantChange, RenewalPeriod, RenewalReport, Subscription, SubscriptionStatus},
    sql,
};
use crate::{
    platform::{
        error::{PlatformError, Result},
        permissions::{demand_open, demand_service},
        values::check_instant,
    },
    tenancy::PlatformTx,
    tenant::OrganizationId,
};
use std::time::SystemTime;

/// The result of the renewal of one due subscription.
enum RenewalOutcome {
    Renewed,
    Ended,
    PastDue,
    NotDue,
}

impl Subscriptions {
    /// Renews a subscription. It is granted what its plan includes in each period, and becomes active if the period has not
    /// ended. A repeated call for the same period changes nothing, except that it makes a subscription that is past due
    /// active if the period has not ended and is not a trial. If the subscription is scheduled for cancellation,
    /// [`RenewalPeriod::Next`] ends it instead.
    ///
    /// # Locks
    ///
    /// The subscription's row, then the organization's quota, until the end of the transaction.
    ///
    /// # Errors
    ///
    /// `NotFound`: there is no subscription that has not ended. `OrganizationSuspended`: activate the organization, and
    /// call it again. `Forbidden`. `Invalid`: the period ends before it
    /// starts, or is beyond the year 9999. `TablesMissing`; `Database`. In these cases nothing is committed.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped before COMMIT is sent, nothing is committed.
    pub async fn renew(&self, organization: OrganizationId, period: RenewalPeriod) -> Result<Subscription> {
        self.db
            .platform()
            .transaction(async |tx| {
                let (before, due) = self.lock_open(tx, organization).await?;
                let row = match period {
                    RenewalPeriod::Next if due && before.cancel_at_period_end => return self.end(tx, &before).await,
                    RenewalPeriod::Next if due => tx.query_opt(sql::RENEW_NEXT, &[&before.id]).await?,
                    RenewalPeriod::Next => {
                        let row = tx.query_opt(sql::IS_TRIAL, &[&before.organization_id, &before.id]).await?;
                        let is_trial = row.is_some_and(|row| row.get(0));
                        return if is_trial { Ok(before) } else { self.paid(tx, before).await };
                    }
                    RenewalPeriod::Exactly { start, end } if end <= start => {
                        let why = "it ends before it starts".into();
                        return Err(PlatformError::Invalid { what: "the period", why });
                    }
                    RenewalPeriod::Exactly { start, end } => {
                        check_instant("the period", start)?;
                        check_instant("the period", end)?;
                        return self.renew_exactly(tx, before, start, end).await;
                    }
                };
                let Some(row) = row else { return Ok(before) };
                let after = Subscription::read(&row);
                self.finish(tx, "cgk.subscription.renewed", Some(&before), &after, Some(GrantChange::RenewNext))
                    .await?;
                Ok(after)
            })
            .await
    }

    async fn renew_exactly(
        &self,
        tx: &PlatformTx<'_>,
        before: Subscription,
        start: SystemTime,
        end: SystemTime,
    ) -> Result<Subscription> {
        let row = tx.query_one(sql::RENEWAL, &[&before.id, &start, &end]).await?;
        let Some(starts) = row.get::<_, Option<SystemTime>>(0) else { return Ok(before) };
        let (paid, changes, newest, runs): (SystemTime, bool, bool, bool) =
            (row.get(1), row.get(2), row.get(3), row.get(4));
        if !changes {
            tx.execute(sql::RECORD_PAID, &[&before.organization_id, &before.id, &starts, &paid]).await?;
            return if runs { self.paid(tx, before).await } else { Ok(before) };
        }
        let after = if newest {
            let start = start.max(starts);
            Subscription::read(&tx.query_one(sql::RENEW_EXACTLY, &[&before.id, &start, &paid]).await?)
        } else if runs {
            let active = SubscriptionStatus::Active;
            Subscription::read(&tx.query_one(sql::SET_STATUS, &[&before.id, &active.as_str()]).await?)
        } else {
            before.clone()
        };
        let change = GrantChange::RenewExactly { start, end };
        self.finish(tx, "cgk.subscription.renewed", Some(&before), &after, Some(change)).await?;
        Ok(after)
    }

    /// The running period is paid.
    async fn paid(&self, tx: &PlatformTx<'_>, before: Subscription) -> Result<Subscription> {
        match before.status {
            SubscriptionStatus::PastDue => {
                self.set_status(tx, before, &SubscriptionStatus::Active, "cgk.subscription.paid").await
            }
            _ => Ok(before),
        }
    }

    /// Renews the subscriptions whose period has ended, at most 1,000 of them. Call it again until the report is empty.
    /// Active subscriptions are renewed, those scheduled for cancellation end, and trials that are over become past
    /// due. A subscription of a suspended organization is not renewed: the next call after its activation renews it. If
    /// a payment provider bills a subscription (a row of `billing` that has not ended), it is only ended and never
    /// renewed here: the provider reports its renewals.
    ///
    /// # Locks
    ///
    /// Same as [`renew`](Self::renew), for one subscription after the other. Each is a separate transaction.
    ///
    /// # Errors
    ///
    /// `Forbidden`: the actor is not the service or an operator. `TablesMissing`; `Database`. The renewals before the error are
    /// committed.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, some subscriptions are renewed. The next call renews the others.
    pub async fn renew_due(&self) -> Result<RenewalReport> {
        demand_service(&self.actor(), "subscriptions:renew_due")?;
        let mut report = RenewalReport::default();
        for row in self.db.platform().query(sql::DUE, &[]).await? {
            let organization: OrganizationId = row.get(0);
            match self.db.platform().transaction(async |tx| self.renew_if_due(tx, organization).await).await? {
                RenewalOutcome::Renewed => report.renewed.push(organization),
                RenewalOutcome::Ended => report.ended.push(organization),
                RenewalOutcome::PastDue => report.past_due.push(organization),
                RenewalOutcome::NotDue => {}
            }
        }
        Ok(report)
    }

    async fn renew_if_due(&self, tx: &PlatformTx<'_>, organization: OrganizationId) -> Result<RenewalOutcome> {
        // Another process may have renewed or ended it meanwhile.
        let Some((before, true)) = lock(tx, organization).await? else { return Ok(RenewalOutcome::NotDue) };
        if before.cancel_at_period_end {
            self.end(tx, &before).await?;
            return Ok(RenewalOutcome::Ended);
        }
        match before.status {
            SubscriptionStatus::Trialing => {
                self.set_status(tx, before, &SubscriptionStatus::PastDue, "cgk.subscription.past_due").await?;
                Ok(RenewalOutcome::PastDue)
            }
            SubscriptionStatus::Active => {
                match demand_open(tx, organization).await {
                    Err(PlatformError::OrganizationSuspended) => return Ok(RenewalOutcome::NotDue),
                    outcome => outcome?,
                }
                let after = Subscription::read(&tx.query_one(sql::RENEW_NEXT, &[&before.id]).await?);
                self.finish(tx, "cgk.subscription.renewed", Some(&before), &after, Some(GrantChange::RenewNext))
                    .await?;
                Ok(RenewalOutcome::Renewed)
            }
            _ => Ok(RenewalOutcome::NotDue),
        }
    }
}
