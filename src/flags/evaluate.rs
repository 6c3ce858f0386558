//! Evaluates a feature for a subject: a pure function of the loaded data.

use super::{condition::Condition, subject::Subject};
use serde::Deserialize;
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::fmt;

/// The number of buckets. Each is a thousandth of a percent.
pub(super) const BUCKETS: u32 = 100_000;

/// Returns the bucket of a subject in the rollout of a feature: 0 to 99,999. The same key has the same bucket in every
/// process and in every language. A feature of `p` percent is on for the buckets below `p * 1000`, so a higher `p`
/// never excludes a subject that was included.
///
/// The bucket is computed from the SHA-256 of `<feature key>:<targeting key>` in UTF-8: its first 13 hexadecimal
/// digits, as a number, modulo 100,000. The function `flag_bucket` of the template's tables computes the same in SQL.
///
/// ```
/// assert_eq!(cgk::flags::bucket("new_checkout", "user-42"), 70192);
/// ```
pub fn bucket(feature_key: &str, targeting_key: &str) -> u32 {
    let digest = Sha256::new().chain_update(feature_key).chain_update(b":").chain_update(targeting_key).finalize();
    let first = u64::from_be_bytes(std::array::from_fn(|index| digest[index])) >> 12;
    u32::try_from(first % u64::from(BUCKETS)).expect("less than 100,000 is a u32")
}

/// The kind of a feature. It decides if no rule of the environment does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Boolean,
    /// On for the buckets below this number.
    Percentage(u32),
    /// Whether the organization's plan includes the feature.
    Plan(bool),
}

/// A feature, and its rules in one environment.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Feature {
    pub(super) key: String,
    pub(super) kind: Kind,
    pub(super) enabled: bool,
    pub(super) on_value: Value,
    pub(super) off_value: Value,
    /// The rules, ordered by position.
    pub(super) rules: Vec<Rule>,
}

/// A rule. The first rule whose conditions hold decides.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Rule {
    pub(super) conditions: Vec<Condition>,
    pub(super) enabled: bool,
    /// On for the buckets below this number.
    pub(super) buckets: Option<u32>,
}

/// The value of a feature for a subject, and the reason.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct Evaluation<'a> {
    /// Whether the feature is on.
    pub is_on: bool,
    /// The feature's value for this state.
    pub value: &'a Value,
    /// The reason.
    pub reason: Reason,
}

/// The reason for the result of an evaluation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Reason {
    /// The feature itself. It is on for all subjects.
    Default,
    /// A rule of the environment.
    Rule,
    /// The subject's bucket, in the rollout of a rule or of the feature.
    Rollout,
    /// The organization's plan.
    Plan,
    /// The feature itself. It is off.
    Disabled,
    /// The feature is off, because it has a rollout and the subject has no key.
    TargetingKeyMissing,
}

impl Reason {
    /// Returns the name in the table `evaluation_logs`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Default => "default",
            Self::Rule => "rule",
            Self::Rollout => "rollout",
            Self::Plan => "plan",
            Self::Disabled => "disabled",
            Self::TargetingKeyMissing => "targeting_key_missing",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl Feature {
    pub(super) fn evaluate(&self, subject: &Subject) -> Evaluation<'_> {
        let (is_on, reason) = self.decide(subject);
        Evaluation { is_on, value: if is_on { &self.on_value } else { &self.off_value }, reason }
    }

    fn decide(&self, subject: &Subject) -> (bool, Reason) {
        // A rule can switch off a feature that the plan includes. It cannot switch on a feature that the plan does not
        // include.
        if self.kind == Kind::Plan(false) {
            return (false, Reason::Plan);
        }
        let holds = |rule: &&Rule| rule.conditions.iter().all(|condition| condition.holds(subject));
        if let Some(rule) = self.rules.iter().find(holds) {
            return match (rule.enabled, rule.buckets) {
                (true, Some(buckets)) => self.roll_out(buckets, subject),
                (enabled, _) => (enabled, Reason::Rule),
            };
        }
        match (self.enabled, self.kind) {
            (false, _) => (false, Reason::Disabled),
            (true, Kind::Boolean) => (true, Reason::Default),
            (true, Kind::Percentage(buckets)) => self.roll_out(buckets, subject),
            (true, Kind::Plan(included)) => (included, Reason::Plan),
        }
    }

    fn roll_out(&self, buckets: u32, subject: &Subject) -> (bool, Reason) {
        // A rollout to all or to none needs no key.
        if buckets == 0 || buckets >= BUCKETS {
            return (buckets > 0, Reason::Rollout);
        }
        match subject.key() {
            None => (false, Reason::TargetingKeyMissing),
            Some(key) => (bucket(&self.key, key) < buckets, Reason::Rollout),
        }
    }
}

#[cfg(test)]
mod tests;
