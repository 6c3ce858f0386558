//! Alerts and scheduled reports.

use super::{
    Aggregate, ColumnName, Day, EmailAddress, Finite, Hour, HttpsUrl, List, Minute, Minutes, TimeZoneName, Weekday,
    WindowMinutes,
};
use serde::{Deserialize, Serialize};

/// What an automation does. The column `automations.definition`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub enum Automation {
    /// Sends a message when a number of a dataset crosses a threshold.
    ThresholdAlert {
        /// Of which column.
        column: ColumnName,
        /// Which number.
        aggregate: Aggregate,
        /// On which side of the threshold it is sent.
        comparison: Comparison,
        /// The threshold.
        threshold: Finite,
        /// How far it looks back.
        window_minutes: WindowMinutes,
        /// How long no other message is sent after one.
        cooldown_minutes: Minutes,
        /// Where it is sent.
        channels: Channels,
    },
    /// Sends a dashboard at fixed times.
    ScheduledReport {
        /// When.
        schedule: Schedule,
        /// By the clock of which zone.
        time_zone: TimeZoneName,
        /// As what.
        format: ReportFormat,
        /// Where it is sent.
        channels: Channels,
    },
}

/// Where something is sent.
pub type Channels = List<Channel, 1, 20>;

/// Where something is sent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub enum Channel {
    /// By mail.
    Email {
        /// To this address.
        address: EmailAddress,
    },
    /// To another service.
    Webhook {
        /// At this address.
        url: HttpsUrl,
    },
}

/// On which side of a threshold an alert is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Comparison {
    /// Greater than the threshold.
    Above,
    /// The threshold or greater.
    AtLeast,
    /// Less than the threshold.
    Below,
    /// The threshold or less.
    AtMost,
}

impl Comparison {
    /// Whether an alert is sent for a measured number.
    pub fn holds(self, measured: f64, threshold: Finite) -> bool {
        let threshold = threshold.get();
        match self {
            Self::Above => measured > threshold,
            Self::AtLeast => measured >= threshold,
            Self::Below => measured < threshold,
            Self::AtMost => measured <= threshold,
        }
    }
}

/// As what a report is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReportFormat {
    /// PDF.
    Pdf,
    /// CSV.
    Csv,
    /// A spreadsheet.
    Xlsx,
}

/// When a report is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "every", rename_all = "snake_case", deny_unknown_fields)]
pub enum Schedule {
    /// Every hour.
    Hour {
        /// At this minute.
        minute: Minute,
    },
    /// Every day.
    Day {
        /// At this hour.
        hour: Hour,
        /// At this minute.
        minute: Minute,
    },
    /// Every week.
    Week {
        /// On this day.
        weekday: Weekday,
        /// At this hour.
        hour: Hour,
        /// At this minute.
        minute: Minute,
    },
    /// Every month.
    Month {
        /// On this day, or on the last one of a shorter month.
        day: Day,
        /// At this hour.
        hour: Hour,
        /// At this minute.
        minute: Minute,
    },
}
