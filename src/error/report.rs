//! Errors of an earlier report of the fleet.

use super::ErrorKind;

/// Why an earlier report cannot be compared with the fleet.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReportError {
    /// The text is not the JSON of a report.
    #[error("the earlier report is not the JSON of a report")]
    NotAReport {
        /// The problem.
        source: serde_json::Error,
    },
    /// It is a report of another fleet.
    #[error("the earlier report names {tenants} tenants, and none of them is in this fleet")]
    OtherFleet {
        /// The number of tenants in the earlier report.
        tenants: usize,
    },
}

impl ReportError {
    /// Returns code and kind of each variant.
    pub(super) fn entry(&self) -> (&'static str, ErrorKind) {
        match self {
            Self::NotAReport { .. } => ("CGK0940", ErrorKind::Invalid),
            Self::OtherFleet { .. } => ("CGK0941", ErrorKind::Conflict),
        }
    }
}
