//! The size of the cache, and how long answers are valid.

use std::{num::NonZeroUsize, time::Duration};

/// The size of a [`Resolver`](super::Resolver)'s cache, and how long answers are valid.
///
/// ```
/// use cgk::resolver::ResolverSettings;
/// use std::time::Duration;
/// let mut settings = ResolverSettings::default();
/// settings.entries_max = 50_000;
/// settings.time_max_unnotified = Duration::ZERO; // while no changes are received, every call asks the database
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ResolverSettings {
    /// How many slugs and credentials are cached; the least used are removed first. Default: 10,000.
    pub entries_max: usize,
    /// How long an answer is used while notifications arrive. Default: five minutes.
    pub time_max: Duration,
    /// How long an answer is used while notifications do not arrive. A revoked credential may be accepted for this
    /// long. Default: five seconds. Zero: nothing is cached then.
    pub time_max_unnotified: Duration,
    /// How long the absence of a tenant, or the rejection of a credential, is cached, unless the time above is shorter.
    /// Default: thirty seconds.
    pub unknown_time_max: Duration,
    /// How long the connection that receives notifications may be silent. The resolver sends it a query four times in
    /// this time; if there is no answer for this long, notifications count as not arriving. Default: five seconds.
    pub silence_max: Duration,
    /// How many database queries run at a time; further ones wait for their turn, at most as long as a call waits for a
    /// connection of the pool. Default: half of the pool's connections, and at least one, so that queries for unknown
    /// credentials leave the other half to the tenants.
    pub lookups_max: Option<NonZeroUsize>,
}

impl Default for ResolverSettings {
    fn default() -> Self {
        Self {
            entries_max: 10_000,
            time_max: Duration::from_secs(300),
            time_max_unnotified: Duration::from_secs(5),
            unknown_time_max: Duration::from_secs(30),
            silence_max: Duration::from_secs(5),
            lookups_max: None,
        }
    }
}
