//! The data of a report. `cgk report --json` prints it as JSON. Keys are added, never renamed.

use crate::{
    doctor::{Check, Verdict},
    lifecycle::SizeSource,
};
use serde::{Serialize, Serializer};
use std::time::{Duration, SystemTime};

/// All data of a report.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct FleetReport {
    /// The version of cgk that wrote it.
    pub cgk_version: &'static str,
    /// When it was written.
    #[serde(serialize_with = "instant")]
    pub generated_at: SystemTime,
    /// The server and database. They are not in the JSON, which contains its target elsewhere.
    #[serde(skip)]
    pub place: ReportPlace,
    /// How many tenants a list names at most.
    pub named_max: usize,
    /// The shared schema.
    pub public: SharedSchema,
    /// The newest migration of the tenants' set.
    pub newest: Option<String>,
    /// The tenants by the state of their schemas. The state without problems is first.
    pub states: Vec<TenantGroup>,
    /// The tenants by their status.
    pub statuses: Vec<TenantGroup>,
    /// The tenants by the newest migration applied to them, the newest first. The key is `none` if there is none.
    pub versions: Vec<TenantGroup>,
    /// The rows of the registry that are not tenants.
    pub strange: Vec<String>,
    /// The sizes of the fleet; `None` if they could not be read.
    pub sizes: Option<Sizes>,
    /// The growth since the earlier report, if there is one.
    pub growth: Option<Growth>,
    /// The newest runs of `cgk migrate`, newest first.
    pub runs: Vec<ReportedRun>,
    /// The tenants with the longest migrations in the recorded runs, the slowest first.
    pub slow: Vec<SlowTenant>,
    /// The tenants whose newest recorded result is a failure. The length is limited by `named_max`.
    pub failing: Vec<FailingTenant>,
    /// The total number of these tenants.
    pub failing_count: usize,
    /// Differences between schemas and migrations.
    pub drift: ReportedDrift,
    /// The checks of `cgk doctor`.
    pub checks: Vec<ReportedCheck>,
    /// The parts that could not be read.
    pub unread: Vec<Unread>,
    /// Every tenant of the registry, sorted by slug.
    pub tenants: Vec<ReportedTenant>,
}

/// The server and database of a report.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct ReportPlace {
    /// The database.
    pub database: String,
    /// The hosts, separated by commas.
    pub hosts: String,
    /// The role that read it.
    pub role: String,
    /// The version of the server.
    pub server_version: String,
    /// `role` or `path`.
    pub isolation: &'static str,
}

/// The shared schema in a report.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct SharedSchema {
    /// The newest migration applied to it.
    pub head: Option<String>,
    /// The newest migration of its set.
    pub newest: Option<String>,
    /// Its state.
    pub state: &'static str,
    /// How many migrations are pending, if the state says so.
    pub pending: Option<usize>,
}

/// Tenants with the same state, status or migration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct TenantGroup {
    /// The state, status or migration.
    pub key: String,
    /// The number of tenants.
    pub tenants: usize,
    /// The first of them, sorted by slug.
    pub named: Vec<String>,
}

/// One tenant in a report.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct ReportedTenant {
    /// Its slug.
    pub tenant: String,
    /// The id of its organization.
    pub id: String,
    /// Its display name.
    pub name: String,
    /// Its status.
    pub status: String,
    /// The newest migration applied to it.
    pub head: Option<String>,
    /// The state of its schema: `ahead` if its only difference is newer migrations than the files, or a name of
    /// [`SchemaState`](crate::migrate::SchemaState).
    pub state: &'static str,
    /// How many migrations are pending, if the state says so.
    pub pending: Option<usize>,
    /// What is missing or differs.
    pub detail: Option<String>,
    /// The number of its tables.
    pub tables: Option<u64>,
    /// The number of its rows, as the server estimates it.
    pub rows_estimated: Option<u64>,
    /// Its size on disk.
    pub bytes: Option<u64>,
    /// Its size on disk in the earlier report.
    pub bytes_before: Option<u64>,
}

/// The sizes of the fleet.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct Sizes {
    /// The source of the sizes.
    pub source: SizeSource,
    /// The number of tenants that have a schema.
    pub tenants: usize,
    /// The total size of all tenants on disk.
    pub bytes: u64,
    /// The total number of tables.
    pub tables: u64,
    /// The total number of rows, as the server estimates it.
    pub rows_estimated: u64,
    /// The median size: half of the tenants are at most this large.
    pub median_bytes: u64,
    /// The 95th percentile: 95 of 100 tenants are at most this large.
    pub p95_bytes: u64,
    /// The size of the largest tenant.
    pub largest_bytes: u64,
    /// The number of tenants per range of sizes, without the empty ranges at both ends.
    pub buckets: Vec<SizeBucket>,
}

/// The tenants in a range of sizes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct SizeBucket {
    /// The lower bound of the range, inclusive.
    pub from_bytes: u64,
    /// The upper bound of the range, exclusive.
    pub below_bytes: u64,
    /// The number of tenants in the range.
    pub tenants: usize,
}

/// The growth since an earlier report.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct Growth {
    /// When the earlier report was written.
    #[serde(serialize_with = "instant")]
    pub since: SystemTime,
    /// The total size of its tenants on disk.
    pub bytes_before: u64,
    /// The total size of the tenants now.
    pub bytes_now: u64,
    /// The number of tenants in the earlier report.
    pub tenants_before: usize,
    /// The new tenants, sorted by slug. The length is limited by `named_max`.
    pub appeared: Vec<String>,
    /// The number of new tenants.
    pub appeared_count: usize,
    /// The tenants that no longer exist, with their slugs at that time. The length is limited by `named_max`.
    pub gone: Vec<String>,
    /// The number of tenants that no longer exist.
    pub gone_count: usize,
    /// The tenants whose size has changed most. The length is limited by `named_max`.
    pub changed: Vec<TenantGrowth>,
}

/// The growth of one tenant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct TenantGrowth {
    /// Its slug.
    pub tenant: String,
    /// Its size in the earlier report.
    pub bytes_before: u64,
    /// Its size now.
    pub bytes: u64,
}

/// A run of `cgk migrate` in a report.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct ReportedRun {
    /// Its id.
    pub run: String,
    /// `finished`, `running` or `died`.
    pub state: &'static str,
    /// When it started.
    #[serde(serialize_with = "instant")]
    pub started_at: SystemTime,
    /// Its duration in milliseconds, if it has ended.
    #[serde(rename = "ms", serialize_with = "optional_milliseconds")]
    pub took: Option<Duration>,
    /// The role that ran it.
    pub started_by: String,
    /// The selected schemas.
    pub selection: String,
    /// The target: `head`, or a version.
    pub target: String,
    /// The number of tenants that it planned to visit.
    pub planned: u64,
    /// The number of tenants that it migrated.
    pub migrated: u64,
    /// The number of tenants that failed.
    pub failed: u64,
    /// The number of tenants that were skipped.
    pub skipped: u64,
    /// The number of tenants that it did not reach.
    pub left: u64,
    /// Why it stopped early.
    pub stopped: Option<&'static str>,
    /// The error that stopped the whole run.
    pub error: Option<String>,
}

/// A tenant whose migrations are slow.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct SlowTenant {
    /// Its slug.
    pub tenant: String,
    /// The number of recorded runs in which it was migrated or failed.
    pub runs: u64,
    /// The duration of the longest of them in this tenant, in milliseconds.
    #[serde(rename = "ms_longest", serialize_with = "milliseconds")]
    pub longest: Duration,
    /// Their average duration, in milliseconds.
    #[serde(rename = "ms_average", serialize_with = "milliseconds")]
    pub average: Duration,
}

/// A tenant whose newest recorded result is a failure.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct FailingTenant {
    /// Its slug.
    pub tenant: String,
    /// The server's SQLSTATE.
    pub sqlstate: Option<String>,
    /// The error.
    pub message: Option<String>,
    /// When it failed.
    #[serde(serialize_with = "instant")]
    pub failed_at: SystemTime,
}

/// The source of a report's differences.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum DriftSource {
    /// Every schema was compared for the report.
    Compared,
    /// The records of the last comparison were read.
    Recorded,
    /// The differences are unknown. The check `fleet.drift` contains the reason.
    Unknown,
}

/// Differences between schemas and migrations.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct ReportedDrift {
    /// The source of the data.
    pub source: DriftSource,
    /// The number of schemas without differences.
    pub clean: usize,
    /// The number of schemas with differences.
    pub different: usize,
    /// The number of schemas that were not compared. If the records were read, it is the number of schemas that were
    /// not compared since their last change, or that differ.
    pub not_compared: usize,
    /// The schemas with differences, and those that were not compared. The length is limited by `named_max`.
    pub schemas: Vec<DriftedSchema>,
    /// Wrong rights, and schemas and roles without a tenant. The length is limited by `named_max`.
    pub others: Vec<String>,
}

/// A schema that has differences or was not compared.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct DriftedSchema {
    /// Its name.
    pub schema: String,
    /// The number of its differences.
    pub count: usize,
    /// The first of its differences.
    pub differences: Vec<String>,
    /// Why it was not compared.
    pub not_compared: Option<String>,
}

/// A check of `cgk doctor` in a report.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct ReportedCheck {
    /// Its name.
    pub check: &'static str,
    /// Its result.
    #[serde(serialize_with = "verdict")]
    pub verdict: Verdict,
    /// The description of the result.
    pub found: String,
    /// The objects concerned.
    pub objects: Vec<String>,
    /// The command or statement that fixes the problem.
    pub fix: Option<String>,
}

/// A part of a report that could not be read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Unread {
    /// The name of the part: `sizes` or `runs`.
    pub part: &'static str,
    /// The reason.
    pub reason: String,
}

impl From<Check> for ReportedCheck {
    fn from(check: Check) -> Self {
        let Check { name, verdict, found, objects, fix } = check;
        Self { check: name, verdict, found, objects, fix }
    }
}

impl FleetReport {
    /// Returns the largest tenants by size on disk, the largest first.
    pub fn largest(&self, limit: usize) -> Vec<&ReportedTenant> {
        let mut sized: Vec<_> = self.tenants.iter().filter(|tenant| tenant.bytes.is_some()).collect();
        sized.sort_by(|a, b| b.bytes.cmp(&a.bytes).then_with(|| a.tenant.cmp(&b.tenant)));
        sized.truncate(limit);
        sized
    }
}

fn instant<S: Serializer>(time: &SystemTime, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&super::instant_text(*time))
}

fn milliseconds<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u64(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX))
}

fn optional_milliseconds<S: Serializer>(duration: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
    match duration {
        Some(duration) => milliseconds(duration, serializer),
        None => serializer.serialize_none(),
    }
}

fn verdict<S: Serializer>(verdict: &Verdict, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(verdict.name())
}
