//! How much is remembered, and for how long.

use std::{num::NonZeroUsize, time::Duration};

/// How much a [`Resolver`](super::Resolver) remembers, and for how long.
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
    /// How many slugs and credentials are remembered; those that are asked for least are forgotten first. 10,000 unless set.
    pub entries_max: usize,
    /// How long an answer is used while changes are received. Five minutes unless set.
    pub time_max: Duration,
    /// How long an answer is used while changes are not received: so long a revoked credential may still be accepted. Five
    /// seconds unless set; zero: nothing is remembered then.
    pub time_max_unnotified: Duration,
    /// How long it is remembered that there is no such tenant, or that a credential is not accepted, if the time above is not
    /// shorter. Thirty seconds unless set.
    pub unknown_time_max: Duration,
    /// How long the connection that receives changes may be silent. It is asked for an answer four times in this time; when
    /// none has come for so long, changes count as not received. Five seconds unless set.
    pub silence_max: Duration,
    /// How many questions to the database are asked at a time; further ones wait for their turn, no longer than a call waits for
    /// a connection of the pool. Half of the pool's connections, and one at least, unless set: strangers' credentials
    /// leave the other half to the tenants.
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
