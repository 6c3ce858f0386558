//! The types of a plan.

use crate::platform::{
    allowance::{Allowance, PlanKey, QuotaKind},
    error::{PlatformError, Result},
    values::check_name,
};
use crate::row_id::row_id;
use std::{collections::BTreeSet, time::SystemTime};

row_id! {
    /// The id of a plan, a row of `public.plans`.
    PlanId
}

/// What happens to quota when it is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum UsageType {
    /// It is used up until more is granted, like an API call.
    Consumed,
    /// It is in use until it is released, like the seat of a member.
    Allocated,
}

impl UsageType {
    /// Returns the value in the database.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Consumed => "consumed",
            Self::Allocated => "allocated",
        }
    }

    pub(in crate::platform) fn of_row(text: &str) -> Self {
        if text == "allocated" { Self::Allocated } else { Self::Consumed }
    }
}

/// How often a plan grants what it includes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Issuance {
    /// Again in each period of the subscription.
    EachPeriod,
    /// Once for an organization, even if the plan changes later.
    Once,
}

impl Issuance {
    /// Returns the value in the database.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::EachPeriod => "period",
            Self::Once => "once",
        }
    }

    pub(in crate::platform) fn of_row(text: &str) -> Self {
        if text == "once" { Self::Once } else { Self::EachPeriod }
    }
}

/// One item that a plan includes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Entitlement {
    /// The kind of quota.
    pub kind: QuotaKind,
    /// How often it is granted.
    pub issuance: Issuance,
    /// The amount.
    pub amount: Allowance,
}

impl Entitlement {
    /// Grants this amount in each period.
    pub fn each_period(kind: QuotaKind, amount: impl Into<Allowance>) -> Self {
        Self { kind, issuance: Issuance::EachPeriod, amount: amount.into() }
    }

    /// Grants this amount once.
    pub fn once(kind: QuotaKind, amount: impl Into<Allowance>) -> Self {
        Self { kind, issuance: Issuance::Once, amount: amount.into() }
    }
}

/// A plan.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Plan {
    /// The id of the plan.
    pub id: PlanId,
    /// The key that code and the command line use.
    pub key: PlanKey,
    /// The name that people read.
    pub name: String,
    /// What it includes, by kind.
    pub entitlements: Vec<Entitlement>,
    /// When it was withdrawn from sale.
    pub archived_at: Option<SystemTime>,
    /// When it was first defined.
    pub created_at: SystemTime,
}

/// The definition of a plan.
#[derive(Clone, Debug)]
pub struct PlanDefinition {
    pub(super) key: PlanKey,
    pub(super) name: Option<String>,
    pub(super) entitlements: Vec<Entitlement>,
}

impl PlanDefinition {
    /// Creates a plan that includes nothing yet. Its name is its key.
    pub fn new(key: PlanKey) -> Self {
        Self { key, name: None, entitlements: Vec::new() }
    }

    /// Sets the name that people read.
    pub fn name(mut self, name: &str) -> Self {
        self.name = Some(name.to_owned());
        self
    }

    /// Adds an item.
    pub fn includes(mut self, entitlement: Entitlement) -> Self {
        self.entitlements.push(entitlement);
        self
    }

    /// # Errors
    ///
    /// `Invalid`: the name is blank, longer than 200 characters or has control characters, or a kind is included twice
    /// with the same issuance.
    pub(super) fn checked_name(&self) -> Result<&str> {
        let name = self.name.as_deref().unwrap_or(self.key.as_str());
        check_name("the name of the plan", name)?;
        let mut included = BTreeSet::new();
        for entitlement in &self.entitlements {
            if !included.insert((&entitlement.kind, entitlement.issuance)) {
                let why = format!("{} is included twice", entitlement.kind);
                return Err(PlatformError::Invalid { what: "the plan", why });
            }
        }
        Ok(name)
    }
}
