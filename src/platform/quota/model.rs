//! What is granted, and what is left.

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
    /// The identity of a grant, a row of `public.grants`.
    GrantId
}

/// Where a grant comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum GrantSource {
    /// A plan includes it; a change of the plan revokes it.
    Subscription,
    /// A promocode.
    Promocode,
    /// It was bought.
    Purchase,
}

impl GrantSource {
    /// The value in the database.
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

/// What an organization may use, from one source.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Grant {
    /// The grant.
    pub id: GrantId,
    /// Whose it is.
    pub organization_id: OrganizationId,
    /// Of which kind.
    pub kind: QuotaKind,
    /// Where it comes from.
    pub source: GrantSource,
    /// The subscription that it comes from.
    pub subscription_id: Option<SubscriptionId>,
    /// How much.
    pub amount: Allowance,
    /// What is left of it. Of a kind that is allocated: as much as was granted.
    pub balance: Allowance,
    /// From when on it counts.
    pub starts_at: SystemTime,
    /// From when on it counts nothing.
    pub expires_at: Option<SystemTime>,
    /// When it was revoked.
    pub revoked_at: Option<SystemTime>,
    /// The id of the purchase or promocode.
    pub reference: Option<String>,
    /// When it was granted.
    pub created_at: SystemTime,
}

/// The columns that [`Grant::read`] reads, of `g`.
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

    /// A grant as the audit log keeps it.
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

/// A grant that is to be, from another source than a subscription.
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
    /// What was bought. It does not expire, unless something else is said.
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

    /// What a promocode gives.
    pub fn promocode(kind: QuotaKind, amount: impl Into<Allowance>) -> Self {
        Self { source: GrantSource::Promocode, ..Self::purchase(kind, amount) }
    }

    /// The id of the purchase or promocode. An organization is granted a kind once for it, however often it is reported.
    pub fn reference(mut self, reference: &str) -> Self {
        self.reference = Some(reference.to_owned());
        self
    }

    /// It counts nothing from then on.
    pub fn expires_at(mut self, at: SystemTime) -> Self {
        self.expires_at = Some(at);
        self.expires_in = None;
        self
    }

    /// It counts nothing when so long has passed, by the server's clock.
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
    /// What becomes of it when it is used.
    pub usage_type: UsageType,
    /// How much is granted now, from all sources.
    pub granted: Allowance,
    /// How much of that is used; of a kind that is allocated it can be more than is granted, after a change to a smaller plan.
    pub used: u64,
    /// How much is left.
    pub left: Allowance,
    /// When more is granted by itself, if that is known.
    pub resets_at: Option<SystemTime>,
}

/// The columns: kind, type of use, whether unlimited, sums of amount, balance and use, allocated, when it resets.
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

/// What a consumption has come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Consumption {
    /// What is left now.
    pub left: Allowance,
    /// Whether the key was counted before, for the same; nothing was taken again then.
    pub repeated: bool,
}
