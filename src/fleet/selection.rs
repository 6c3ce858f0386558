//! The schemas that a run covers.

use crate::slug::TenantSlug;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use std::{collections::BTreeSet, fmt, num::NonZeroU32, str::FromStr};

/// The schemas that a run covers, before exclusions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Scope {
    /// The shared schema, then every tenant. The default.
    #[default]
    Everything,
    /// Only the shared schema.
    Public,
    /// Every tenant. The shared schema must already be at head.
    Tenants,
    /// These tenants. The shared schema must already be at head. All rows of their ledgers are read, so this also
    /// detects rows that were changed by hand, which the digest does not show.
    Only(Vec<TenantSlug>),
}

/// A scope, without some of its tenants.
///
/// ```
/// use cgk::migrate::{Scope, Selection};
/// let selection = Selection::from(Scope::Tenants).excluding(["acme".parse()?]).shard("1/3".parse()?);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selection {
    pub(crate) scope: Scope,
    pub(crate) exclude: BTreeSet<TenantSlug>,
    pub(crate) shard: Option<Shard>,
}

impl From<Scope> for Selection {
    fn from(scope: Scope) -> Self {
        Self { scope, ..Self::default() }
    }
}

impl From<&Scope> for Selection {
    fn from(scope: &Scope) -> Self {
        scope.clone().into()
    }
}

impl Selection {
    /// Excludes these tenants. If one of them is not in the registry, planning fails: the name may be misspelled, and
    /// then the intended tenant would be migrated.
    pub fn excluding(mut self, slugs: impl IntoIterator<Item = TenantSlug>) -> Self {
        self.exclude.extend(slugs);
        self
    }

    /// Returns the same exclusions and part for another scope.
    pub fn of(self, scope: Scope) -> Self {
        Self { scope, ..self }
    }

    /// Selects only one part of the fleet.
    pub fn shard(mut self, shard: Shard) -> Self {
        self.shard = Some(shard);
        self
    }

    /// Returns whether a tenant of the registry is selected.
    pub(crate) fn holds(&self, slug: &TenantSlug) -> bool {
        let in_scope = match &self.scope {
            Scope::Everything | Scope::Tenants => true,
            Scope::Public => false,
            Scope::Only(slugs) => slugs.contains(slug),
        };
        in_scope && self.takes(slug)
    }

    /// Returns whether a tenant of the scope is selected.
    pub(crate) fn takes(&self, slug: &TenantSlug) -> bool {
        !self.exclude.contains(slug) && self.shard.is_none_or(|part| part.holds(slug))
    }
}

/// Writes the text for display and for the history of runs, for instance `everything` or `tenants except 2, part 1/3`.
impl fmt::Display for Selection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.scope {
            Scope::Everything => f.write_str("everything")?,
            Scope::Public => f.write_str("the shared schema")?,
            Scope::Tenants => f.write_str("tenants")?,
            Scope::Only(slugs) => f.write_str(&crate::migration::count(slugs.len(), "named tenant"))?,
        }
        if !self.exclude.is_empty() {
            write!(f, " except {}", self.exclude.len())?;
        }
        match self.shard {
            Some(part) => write!(f, ", part {part}"),
            None => Ok(()),
        }
    }
}

/// One of several parts of a fleet, for several machines that share the work. Its text is for instance `1/3`. A
/// tenant's part depends only on its slug, so it does not change when other tenants are added or removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Shard {
    number: NonZeroU32,
    of: NonZeroU32,
}

impl Shard {
    /// Creates part `number` of `of`. Numbers start at 1. Returns `None` if a number is 0 or `number` is larger than
    /// `of`.
    pub fn new(number: u32, of: u32) -> Option<Self> {
        let (number, of) = (NonZeroU32::new(number)?, NonZeroU32::new(of)?);
        (number <= of).then_some(Self { number, of })
    }

    fn holds(self, slug: &TenantSlug) -> bool {
        let digest = Sha256::digest(slug.as_str().as_bytes());
        let hash = u32::from_be_bytes([digest[0], digest[1], digest[2], digest[3]]);
        hash % self.of == self.number.get() - 1
    }
}

impl fmt::Display for Shard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.number, self.of)
    }
}

impl From<Shard> for String {
    fn from(part: Shard) -> Self {
        part.to_string()
    }
}

impl TryFrom<String> for Shard {
    type Error = InvalidShard;

    fn try_from(text: String) -> Result<Self, InvalidShard> {
        text.parse()
    }
}

impl FromStr for Shard {
    type Err = InvalidShard;

    fn from_str(text: &str) -> Result<Self, InvalidShard> {
        let number = |digits: &str| digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse().ok())?;
        text.split_once('/')
            .and_then(|(part, of)| Self::new(number(part)?, number(of)?))
            .ok_or_else(|| InvalidShard { text: text.into() })
    }
}

/// The error for a text that is not a part of a fleet.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a part of a fleet: use for example 1/3, 2/3 or 3/3")]
pub struct InvalidShard {
    /// The given text.
    pub text: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_tenant_is_in_one_part() {
        let parts: Vec<Shard> = ["1/3", "2/3", "3/3"].map(|text| text.parse().unwrap()).into();
        let mut sizes = [0; 3];
        for number in 0..3000 {
            let slug: TenantSlug = format!("t{number}").parse().unwrap();
            let in_parts: Vec<usize> = (0..3).filter(|index| parts[*index].holds(&slug)).collect();
            assert_eq!(in_parts.len(), 1);
            sizes[in_parts[0]] += 1;
        }
        assert!(sizes.iter().all(|size| (850..1150).contains(size)), "{sizes:?}");
    }

    #[test]
    fn parts_that_are_none_are_refused() {
        for text in ["", "1", "0/3", "4/3", "1/0", "1/3/3", "+1/3", "a/b", "1/ 3"] {
            assert!(text.parse::<Shard>().is_err(), "{text}");
        }
    }
}
