//! The settings of the snapshot cache.

use std::time::Duration;

/// The size and the time limits of the snapshot cache of a [`Flags`](super::Flags).
///
/// ```
/// use cgk::flags::FlagsSettings;
/// let mut settings = FlagsSettings::default();
/// settings.snapshots_max = 10_000;
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct FlagsSettings {
    /// The maximum number of cached snapshots, one for each tenant and environment. The least used ones are removed
    /// first. Default: 1,000.
    pub snapshots_max: usize,
    /// How long a snapshot is used while notifications of changes are received. Default: 5 minutes.
    pub time_max: Duration,
    /// How long a snapshot is used while notifications are not received. Default: 5 seconds. With zero, every call
    /// queries the database during that time.
    pub time_max_unnotified: Duration,
    /// How long the connection for notifications may be silent before it counts as failed. Default: 5 seconds.
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
