//! The types of grants and of what is left.

use crate::{
    platform::{
        allowance::{Allowance, QuotaKind, unsigned},
        plans::UsageType,
        subscriptions::SubscriptionId,
    },
    row_id::row_id,
    tenant::OrganizationId,
};
use std::{
    fmt,
    time::{Duration, SystemTime},
};
use tokio_postgres::Row;

row_id! {
    /// The id of a grant, a row of `public.grants`.
    GrantId
}

/// The source of a grant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum GrantSource {
    /// The plan of a subscription. A change of the plan revokes the grant.
    Subscription,
    /// A promocode.
    Promocode,
    /// A purchase.
    Purchase,
}

impl GrantSource {
    /// Returns the value in the database.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Subscription => "subscription",
            Self::Promocode => "promocode",
            Self::Purchase => "purchase",
        }
    }

    fn of_row(text: &str) -> Self {
        match text {
            "subscription" => Self::Subscription,
            "promocode" => Self::Promocode,
            _ => Self::Purchase,
        }
    }
}

impl fmt::Display for GrantSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// An amount that an organization may use, from one source.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Grant {
    /// The id of the grant.
    pub id: GrantId,
    /// The organization.
    pub organization_id: OrganizationId,
    /// The kind of quota.
    pub kind: QuotaKind,
    /// The source.
    pub source: GrantSource,
    /// The subscription, if the grant comes from one.
    pub subscription_id: Option<SubscriptionId>,
    /// The amount.
    pub amount: Allowance,
    /// What is left of it. For an allocated kind: the granted amount.
    pub balance: Allowance,
    /// When it starts to count.
    pub starts_at: SystemTime,
    /// When it stops counting.
    pub expires_at: Option<SystemTime>,
    /// When it was revoked.
    pub revoked_at: Option<SystemTime>,
    /// The id of the purchase or promocode.
    pub reference: Option<String>,
    /// When it was granted.
    pub created_at: SystemTime,
}

/// The columns that [`Grant::read`] reads, from `g`.
macro_rules! grant_columns {
    () => {
        "g.id, g.organization_id, g.kind, g.source::pg_catalog.text, g.subscription_id, g.amount, g.balance, g.starts_at, g.expires_at,
         g.revoked_at, g.reference, g.created_at"
    };
}
pub(super) use grant_columns;

impl Grant {
    pub(super) fn read(row: &Row) -> Self {
        Self {
            id: row.get(0),
            organization_id: row.get(1),
            kind: QuotaKind::of_row(row.get(2)),
            source: GrantSource::of_row(row.get(3)),
            subscription_id: row.get(4),
            amount: Allowance::of_column(row.get(5)),
            balance: Allowance::of_column(row.get(6)),
            starts_at: row.get(7),
            expires_at: row.get(8),
            revoked_at: row.get(9),
            reference: row.get(10),
            created_at: row.get(11),
        }
    }

    /// Returns a grant in the format of the audit log.
    pub(super) fn facts(&self) -> serde_json::Value {
        serde_json::json!({
            "kind": self.kind,
            "source": self.source.as_str(),
            "amount": self.amount,
            "balance": self.balance,
            "reference": self.reference,
        })
    }
}

/// The grant to create, from a purchase or a promocode.
#[derive(Clone, Debug)]
pub struct NewGrant {
    pub(super) kind: QuotaKind,
    pub(super) amount: Allowance,
    pub(super) source: GrantSource,
    pub(super) reference: Option<String>,
    pub(super) expires_in: Option<Duration>,
    pub(super) expires_at: Option<SystemTime>,
}

impl NewGrant {
    /// Creates a grant of what was bought. By default it does not expire.
    pub fn purchase(kind: QuotaKind, amount: impl Into<Allowance>) -> Self {
        Self {
            kind,
            amount: amount.into(),
            source: GrantSource::Purchase,
            reference: None,
            expires_in: None,
            expires_at: None,
        }
    }

    /// Creates a grant of what a promocode gives.
    pub fn promocode(kind: QuotaKind, amount: impl Into<Allowance>) -> Self {
        Self { source: GrantSource::Promocode, ..Self::purchase(kind, amount) }
    }

    /// Sets the id of the purchase or promocode. An organization gets only one grant of a kind for it, however often it
    /// is reported.
    pub fn reference(mut self, reference: &str) -> Self {
        self.reference = Some(reference.to_owned());
        self
    }

    /// Sets the time at which the grant stops counting.
    pub fn expires_at(mut self, at: SystemTime) -> Self {
        self.expires_at = Some(at);
        self.expires_in = None;
        self
    }

    /// Sets the time after which the grant stops counting, by the server's clock.
    pub fn expires_in(mut self, after: Duration) -> Self {
        self.expires_in = Some(after);
        self.expires_at = None;
        self
    }
}

/// What an organization has left of one kind.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct QuotaBalance {
    /// The kind.
    pub kind: QuotaKind,
    /// What happens to it when it is used.
    pub usage_type: UsageType,
    /// The amount of all active grants.
    pub granted: Allowance,
    /// The amount in use. For an allocated kind it can be more than is granted, after a change to a smaller plan.
    pub used: u64,
    /// The amount that is left.
    pub left: Allowance,
    /// When more is granted automatically, if that is known.
    pub resets_at: Option<SystemTime>,
}

/// The columns: kind, type of use, whether unlimited, sums of amount, balance and use, allocated, time of the next
/// grant.
impl QuotaBalance {
    pub(super) fn read(row: &Row) -> Self {
        let usage_type = UsageType::of_row(row.get(1));
        let (granted, balance) = (unsigned(row.get(3)), unsigned(row.get(4)));
        let (used, left) = match usage_type {
            UsageType::Consumed => (unsigned(row.get(5)), balance),
            UsageType::Allocated => {
                let allocated = unsigned(row.get(6));
                (allocated, granted.saturating_sub(allocated))
            }
        };
        let limited = |number| if row.get(2) { Allowance::Unlimited } else { Allowance::Limited(number) };
        Self {
            kind: QuotaKind::of_row(row.get(0)),
            usage_type,
            granted: limited(granted),
            used,
            left: limited(left),
            resets_at: row.get(7),
        }
    }
}

/// The result of a consumption.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Consumption {
    /// The amount that is left now.
    pub left: Allowance,
    /// Whether the key was already counted for the same amount. Then nothing was taken again.
    pub repeated: bool,
}
