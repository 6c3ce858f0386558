//! The data of a report. Its JSON is what `cgk report --json` prints; keys are added, never renamed.

use crate::{
    doctor::{Check, Verdict},
    lifecycle::SizeSource,
};
use serde::{Serialize, Serializer};
use std::time::{Duration, SystemTime};

/// Everything that a report says.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct FleetReport {
    /// The version of cgk that wrote it.
    pub cgk_version: &'static str,
    /// When it was written.
    #[serde(serialize_with = "instant")]
    pub generated_at: SystemTime,
    /// The server and database; not in the JSON, which names its target elsewhere.
    #[serde(skip)]
    pub place: ReportPlace,
    /// How many tenants a list names at most.
    pub named_max: usize,
    /// The shared schema.
    pub public: SharedSchema,
    /// The newest migration of the tenants' set.
    pub newest: Option<String>,
    /// The tenants by the state of their schemas, the good one first.
    pub states: Vec<TenantGroup>,
    /// The tenants by their status.
    pub statuses: Vec<TenantGroup>,
    /// The tenants by the newest migration applied to them, the newest first; `none` if there is none.
    pub versions: Vec<TenantGroup>,
    /// The rows of the registry that are not tenants.
    pub strange: Vec<String>,
    /// The sizes of the fleet; `None` if they could not be read.
    pub sizes: Option<Sizes>,
    /// What has grown since the earlier report, if there is one.
    pub growth: Option<Growth>,
    /// The newest runs of `cgk migrate`, newest first.
    pub runs: Vec<ReportedRun>,
    /// The tenants with the longest migrations in the recorded runs, the slowest first.
    pub slow: Vec<SlowTenant>,
    /// The tenants whose newest recorded result is a failure, as many as a list names.
    pub failing: Vec<FailingTenant>,
    /// How many such tenants there are.
    pub failing_count: usize,
    /// Differences between schemas and migrations.
    pub drift: ReportedDrift,
    /// The checks of `cgk doctor`.
    pub checks: Vec<ReportedCheck>,
    /// The parts that could not be read.
    pub unread: Vec<Unread>,
    /// Every tenant of the registry, by slug.
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

/// Tenants that have something in common.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct TenantGroup {
    /// What they have in common: a state, a status or a migration.
    pub key: String,
    /// How many they are.
    pub tenants: usize,
    /// The first of them, by slug.
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
    /// Its name for people.
    pub name: String,
    /// Its status.
    pub status: String,
    /// The newest migration applied to it.
    pub head: Option<String>,
    /// The state of its schema: `ahead` if it only has newer migrations than the files, or a name of
    /// [`SchemaState`](crate::migrate::SchemaState).
    pub state: &'static str,
    /// How many migrations are pending, if the state says so.
    pub pending: Option<usize>,
    /// What is missing or differs.
    pub detail: Option<String>,
    /// How many tables it has.
    pub tables: Option<u64>,
    /// How many rows, as the server estimates.
    pub rows_estimated: Option<u64>,
    /// What it takes on disk.
    pub bytes: Option<u64>,
    /// What it took at the earlier report.
    pub bytes_before: Option<u64>,
}

/// The sizes of the fleet.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct Sizes {
    /// Where they come from.
    pub source: SizeSource,
    /// How many tenants have a schema.
    pub tenants: usize,
    /// What all of them take on disk.
    pub bytes: u64,
    /// Their tables.
    pub tables: u64,
    /// Their rows, as the server estimates.
    pub rows_estimated: u64,
    /// Half of the tenants are at most this large.
    pub median_bytes: u64,
    /// 95 of 100 tenants are at most this large.
    pub p95_bytes: u64,
    /// The largest.
    pub largest_bytes: u64,
    /// How many tenants are of which size; without the empty ranges at both ends.
    pub buckets: Vec<SizeBucket>,
}

/// The tenants in a range of sizes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct SizeBucket {
    /// The smallest size in it.
    pub from_bytes: u64,
    /// The smallest size above it.
    pub below_bytes: u64,
    /// How many tenants there are in it.
    pub tenants: usize,
}

/// What has grown since an earlier report.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct Growth {
    /// When the earlier report was written.
    #[serde(serialize_with = "instant")]
    pub since: SystemTime,
    /// What its tenants took on disk.
    pub bytes_before: u64,
    /// What the tenants take now.
    pub bytes_now: u64,
    /// How many tenants it names.
    pub tenants_before: usize,
    /// The tenants that are new, by slug, as many as a list names.
    pub appeared: Vec<String>,
    /// How many are new.
    pub appeared_count: usize,
    /// The tenants that are gone, by their slugs at that time, as many as a list names.
    pub gone: Vec<String>,
    /// How many are gone.
    pub gone_count: usize,
    /// The tenants that have changed most, as many as a list names.
    pub changed: Vec<TenantGrowth>,
}

/// How much a tenant has grown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct TenantGrowth {
    /// Its slug.
    pub tenant: String,
    /// What it took at the earlier report.
    pub bytes_before: u64,
    /// What it takes now.
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
    /// How long it took, if it ended, in milliseconds.
    #[serde(rename = "ms", serialize_with = "optional_milliseconds")]
    pub took: Option<Duration>,
    /// The role that ran it.
    pub started_by: String,
    /// The selected schemas.
    pub selection: String,
    /// `head`, or a version.
    pub target: String,
    /// Tenants that it planned to visit.
    pub planned: u64,
    /// Tenants that it migrated.
    pub migrated: u64,
    /// Tenants that failed.
    pub failed: u64,
    /// Tenants that were skipped.
    pub skipped: u64,
    /// Tenants that it did not reach.
    pub left: u64,
    /// Why it stopped early.
    pub stopped: Option<&'static str>,
    /// The error that stopped the whole run.
    pub error: Option<String>,
}

/// A tenant whose migrations take long.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct SlowTenant {
    /// Its slug.
    pub tenant: String,
    /// In how many recorded runs it was migrated or failed.
    pub runs: u64,
    /// How long the longest of them took in this tenant, in milliseconds.
    #[serde(rename = "ms_longest", serialize_with = "milliseconds")]
    pub longest: Duration,
    /// How long they took on average, in milliseconds.
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

/// Where a report knows of differences from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum DriftSource {
    /// Every schema was compared for the report.
    Compared,
    /// The records of the last comparison were read.
    Recorded,
    /// Nothing is known: the reason is in the check `fleet.drift`.
    Unknown,
}

/// Differences between schemas and migrations.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct ReportedDrift {
    /// Where this is known from.
    pub source: DriftSource,
    /// Schemas without differences.
    pub clean: usize,
    /// Schemas with differences.
    pub different: usize,
    /// Schemas that were not compared; if the records were read, those that were not compared since their last change, or
    /// differ.
    pub not_compared: usize,
    /// Schemas that are not clean, as many as a list names.
    pub schemas: Vec<DriftedSchema>,
    /// Wrong rights, and schemas and roles without a tenant, as many as a list names.
    pub others: Vec<String>,
}

/// A schema that is not clean.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct DriftedSchema {
    /// Its name.
    pub schema: String,
    /// How many differences it has.
    pub count: usize,
    /// The first of them.
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
    /// What was found.
    pub found: String,
    /// The objects concerned.
    pub objects: Vec<String>,
    /// What corrects it.
    pub fix: Option<String>,
}

/// A part of a report that could not be read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Unread {
    /// `sizes` or `runs`.
    pub part: &'static str,
    /// Why.
    pub reason: String,
}

impl From<Check> for ReportedCheck {
    fn from(check: Check) -> Self {
        let Check { name, verdict, found, objects, fix } = check;
        Self { check: name, verdict, found, objects, fix }
    }
}

impl FleetReport {
    /// The tenants that take most on disk, the largest first.
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
