//! From one period to the next.

use super::{
    Subscriptions, lock,
    model::{RenewalPeriod, RenewalReport, Subscription, SubscriptionStatus},
    sql,
};
use crate::{
    platform::error::{PlatformError, Result},
    tenancy::PlatformTx,
    tenant::OrganizationId,
};

/// How a subscription that was due was left.
enum Outcome {
    Renewed,
    Ended,
    PastDue,
    NotDue,
}

impl Subscriptions {
    /// Renews a subscription: it is active, its period is the new one, and what its plan includes in each period is granted for that. A
    /// call that comes again for the same period changes nothing. A subscription that was to be canceled at the end of its period is
    /// ended instead by [`RenewalPeriod::Next`].
    ///
    /// # Locks
    ///
    /// The subscription's row, then the organization's quota, for the transaction.
    ///
    /// # Errors
    ///
    /// `NotFound`: there is no subscription that has not ended. `Forbidden`. `Invalid`: the period ends before it starts. `TablesMissing`;
    /// `Database`. Nothing is committed then.
    ///
    /// # Cancel safety
    ///
    /// Dropped before COMMIT is sent, nothing is committed.
    pub async fn renew(&self, organization: OrganizationId, period: RenewalPeriod) -> Result<Subscription> {
        self.db
            .platform()
            .transaction(async |tx| {
                let (before, due) = self.lock(tx, organization).await?;
                let row = match period {
                    RenewalPeriod::Next if due && before.cancel_at_period_end => return self.end(tx, &before).await,
                    RenewalPeriod::Next if due => tx.query_opt(sql::RENEW_NEXT, &[&before.id]).await?,
                    RenewalPeriod::Next if before.status == SubscriptionStatus::PastDue => {
                        let active = SubscriptionStatus::Active;
                        return self.set_status(tx, before, &active, "cgk.subscription.paid").await;
                    }
                    RenewalPeriod::Next => None,
                    RenewalPeriod::Exactly { start, end } if end <= start => {
                        let why = "it ends before it starts".into();
                        return Err(PlatformError::Invalid { what: "the period", why });
                    }
                    RenewalPeriod::Exactly { start, end } => {
                        tx.query_opt(sql::RENEW_EXACTLY, &[&before.id, &start, &end]).await?
                    }
                };
                let Some(row) = row else { return Ok(before) };
                let after = Subscription::read(&row);
                self.finish(tx, "cgk.subscription.renewed", Some(&before), &after, Some("renew")).await?;
                Ok(after)
            })
            .await
    }

    /// Renews the subscriptions whose period has ended, at most a thousand of them; call it again until the report is empty. Active ones
    /// are renewed, those that were to be canceled end, and trials that are over become past due. One that a payment provider bills (a row
    /// of `billing` that has not ended) is only ended: the provider says when it is renewed.
    ///
    /// # Locks
    ///
    /// As [`renew`](Self::renew), for one subscription after the other: each is a transaction of its own.
    ///
    /// # Errors
    ///
    /// `TablesMissing`; `Database`. What was renewed before stays.
    ///
    /// # Cancel safety
    ///
    /// Dropped, some are renewed and the others are not; the next call renews those.
    pub async fn renew_due(&self) -> Result<RenewalReport> {
        let mut report = RenewalReport::default();
        for row in self.db.platform().query(sql::DUE, &[]).await? {
            let organization: OrganizationId = row.get(0);
            match self.db.platform().transaction(async |tx| self.renew_if_due(tx, organization).await).await? {
                Outcome::Renewed => report.renewed.push(organization),
                Outcome::Ended => report.ended.push(organization),
                Outcome::PastDue => report.past_due.push(organization),
                Outcome::NotDue => {}
            }
        }
        Ok(report)
    }

    async fn renew_if_due(&self, tx: &PlatformTx<'_>, organization: OrganizationId) -> Result<Outcome> {
        // Another process may have renewed or ended it since.
        let Some((before, true)) = lock(tx, organization).await? else { return Ok(Outcome::NotDue) };
        if before.cancel_at_period_end {
            self.end(tx, &before).await?;
            return Ok(Outcome::Ended);
        }
        match before.status {
            SubscriptionStatus::Trialing => {
                self.set_status(tx, before, &SubscriptionStatus::PastDue, "cgk.subscription.past_due").await?;
                Ok(Outcome::PastDue)
            }
            SubscriptionStatus::Active => {
                let after = Subscription::read(&tx.query_one(sql::RENEW_NEXT, &[&before.id]).await?);
                self.finish(tx, "cgk.subscription.renewed", Some(&before), &after, Some("renew")).await?;
                Ok(Outcome::Renewed)
            }
            _ => Ok(Outcome::NotDue),
        }
    }
}
