//! How many snapshots are remembered, and for how long.

use std::time::Duration;

/// How many snapshots [`Flags`](super::Flags) remembers, and for how long.
///
/// ```
/// use cgk::flags::FlagsSettings;
/// let mut settings = FlagsSettings::default();
/// settings.snapshots_max = 10_000;
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct FlagsSettings {
    /// How many snapshots are remembered, one for each tenant and environment; those that are asked for least are forgotten
    /// first. 1,000 unless set.
    pub snapshots_max: usize,
    /// How long a snapshot is used while changes are notified. Five minutes unless set.
    pub time_max: Duration,
    /// How long a snapshot is used while changes are not notified. Five seconds unless set; zero: every call asks the database
    /// then.
    pub time_max_unnotified: Duration,
    /// How long the connection that receives notices may be silent before they count as not received. Five seconds unless set.
    pub silence_max: Duration,
}

impl Default for FlagsSettings {
    fn default() -> Self {
        Self {
            snapshots_max: 1000,
            time_max: Duration::from_secs(300),
            time_max_unnotified: Duration::from_secs(5),
            silence_max: Duration::from_secs(5),
        }
    }
}
