//! Alerts and scheduled reports.

use super::{
    Aggregate, ColumnName, Day, EmailAddress, Finite, Hour, HttpsUrl, List, Minute, Minutes, TimeZoneName, Weekday,
    WindowMinutes,
};
use serde::{Deserialize, Serialize};

/// The action of an automation. The column `automations.definition`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub enum Automation {
    /// Sends a message when a number of a dataset crosses a threshold.
    ThresholdAlert {
        /// The column.
        column: ColumnName,
        /// The number that is computed.
        aggregate: Aggregate,
        /// The side of the threshold on which the message is sent.
        comparison: Comparison,
        /// The threshold.
        threshold: Finite,
        /// The time span of the data, in minutes before now.
        window_minutes: WindowMinutes,
        /// The minimum time between two messages, in minutes.
        cooldown_minutes: Minutes,
        /// The recipients.
        channels: Channels,
    },
    /// Sends a dashboard at fixed times.
    ScheduledReport {
        /// The times.
        schedule: Schedule,
        /// The time zone of the schedule.
        time_zone: TimeZoneName,
        /// The format of the report.
        format: ReportFormat,
        /// The recipients.
        channels: Channels,
    },
}

/// The recipients of a message or a report.
pub type Channels = List<Channel, 1, 20>;

/// A recipient of a message or a report.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub enum Channel {
    /// An e-mail.
    Email {
        /// The address.
        address: EmailAddress,
    },
    /// A request to another service.
    Webhook {
        /// The URL.
        url: HttpsUrl,
    },
}

/// The side of a threshold on which an alert is sent.
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
    /// Returns whether an alert is sent for a measured number.
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

/// The format of a report.
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

/// The times at which a report is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "every", rename_all = "snake_case", deny_unknown_fields)]
pub enum Schedule {
    /// Every hour.
    Hour {
        /// The minute.
        minute: Minute,
    },
    /// Every day.
    Day {
        /// The hour.
        hour: Hour,
        /// The minute.
        minute: Minute,
    },
    /// Every week.
    Week {
        /// The day of the week.
        weekday: Weekday,
        /// The hour.
        hour: Hour,
        /// The minute.
        minute: Minute,
    },
    /// Every month.
    Month {
        /// The day. In a shorter month, the last day.
        day: Day,
        /// The hour.
        hour: Hour,
        /// The minute.
        minute: Minute,
    },
}
