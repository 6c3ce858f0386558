//! A report about the complete fleet: its versions, sizes, runs, differences and problems, as data and as one HTML
//! page.
//!
//! ```no_run
//! # async fn example(operator: &cgk::Operator, migrations: &cgk::migrate::Migrations) -> cgk::Result<()> {
//! use cgk::report::{self, ReportOptions};
//!
//! let report = report::examine(operator, migrations, &ReportOptions::default()).await?;
//! println!("{} tenants", report.tenants.len());
//! let page = report::html(&report); // complete: no script, nothing is loaded
//! # Ok(()) }
//! ```

mod drift;
mod growth;
mod html;
mod model;
mod runs;
mod sizes;
mod tenants;
mod text;

pub use growth::EarlierReport;
pub use html::html;
pub use model::{
    DriftSource, DriftedSchema, FailingTenant, FleetReport, Growth, ReportPlace, ReportedCheck, ReportedDrift,
    ReportedRun, ReportedTenant, SharedSchema, SizeBucket, Sizes, SlowTenant, TenantGroup, TenantGrowth, Unread,
};
pub use text::{duration_text, instant_text, size_text};

use crate::{
    config::Isolation,
    db::Operator,
    doctor::{self, DoctorOptions},
    error::{ErrorKind, Result},
    migrate::{self, Migrations, Set},
};
use std::time::SystemTime;

/// Options for a report.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ReportOptions {
    /// How many tenants a list names. The report only counts the others.
    pub named_max: usize,
    /// How many runs are listed.
    pub runs_max: u32,
    /// Whether every schema is compared with the migrations.
    pub drift: DriftMode,
    /// The report to compare the sizes with.
    pub earlier: Option<EarlierReport>,
    /// The limits of the checks.
    pub doctor: DoctorOptions,
}

/// Whether a report compares every schema with the migrations.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DriftMode {
    /// A fleet of at most 20 tenants is compared. For a larger one, the records of the last comparison are read.
    #[default]
    Recorded,
    /// Every schema is compared.
    Compared,
}

impl Default for ReportOptions {
    fn default() -> Self {
        Self {
            named_max: 20,
            runs_max: 20,
            drift: DriftMode::Recorded,
            earlier: None,
            doctor: DoctorOptions::default(),
        }
    }
}

/// Reads all data of a report. It makes the operator's session read-only, so use a separate connection.
///
/// It works on a standby and for a login that may only read. A part that the login may not read is left out, and
/// [`FleetReport::unread`] contains the reason. The number of statements does not depend on the number of tenants, with
/// one exception: if the comment on a ledger does not show the tenant's state, the ledger itself is read.
///
/// # Locks
///
/// `access share` on each table while its size is read. If a table is locked for longer than `session.lock_timeout`,
/// all sizes are estimates from the catalogue, which need no lock. A comparison has the locks of
/// [`drift::verify`](crate::drift::verify()).
///
/// # Errors
///
/// - Kind `NotReady`: there is no registry.
/// - Kind `Conflict`: no tenant of the earlier report is in this fleet.
/// - Kinds `Unavailable` and `Failed`: an error of the server.
///
/// # Cancel safety
///
/// Writes nothing.
pub async fn examine(operator: &Operator, migrations: &Migrations, options: &ReportOptions) -> Result<FleetReport> {
    operator.read_only().await?;
    let state = migrate::read_state(operator, migrations).await;
    let compared_max = match options.drift {
        DriftMode::Recorded => doctor::COMPARED_MAX,
        DriftMode::Compared => usize::MAX,
    };
    let known = doctor::known_drift(operator, migrations, state.as_ref(), compared_max).await;
    let diagnosis = doctor::diagnose(operator, migrations, &options.doctor, state.as_ref(), known.as_ref()).await?;
    let state = state?;

    let mut unread = Vec::new();
    let sizes = unless_unreadable("sizes", sizes::read(operator, &state).await, &mut unread)?;
    let runs = unless_unreadable("runs", runs::read(operator, options).await, &mut unread)?.unwrap_or_default();
    let (contents, source) = sizes.map_or_else(Default::default, |(contents, source)| (contents, Some(source)));
    let mut tenants = tenants::reported(&state, &contents);
    let growth = growth::compared(options, &mut tenants, source.is_some())?;
    Ok(FleetReport {
        cgk_version: env!("CARGO_PKG_VERSION"),
        generated_at: SystemTime::now(),
        place: place(operator),
        named_max: options.named_max,
        public: tenants::shared_schema(&state, migrations),
        newest: migrations.set(Set::Tenant).head().map(ToString::to_string),
        states: tenants::by_state(&tenants, options.named_max),
        statuses: tenants::by_status(&tenants, options.named_max),
        versions: tenants::by_version(&tenants, options.named_max),
        strange: state.strange.iter().map(ToString::to_string).collect(),
        sizes: source.map(|source| sizes::summary(&tenants, source)),
        growth,
        runs: runs.runs,
        slow: runs.slow,
        failing: runs.failing,
        failing_count: runs.failing_count,
        drift: drift::summary(known, options.named_max),
        checks: diagnosis.checks.into_iter().map(Into::into).collect(),
        unread,
        tenants,
    })
}

/// Returns the value. If the part may not be read, returns `None` and adds the reason to `unread`.
fn unless_unreadable<T>(part: &'static str, read: Result<T>, unread: &mut Vec<Unread>) -> Result<Option<T>> {
    match read {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.kind() == ErrorKind::Unavailable => Err(error),
        Err(error) => {
            unread.push(Unread { part, reason: error.report() });
            Ok(None)
        }
    }
}

fn place(operator: &Operator) -> ReportPlace {
    let (facts, target) = (operator.facts(), operator.config().target());
    ReportPlace {
        database: facts.database.clone(),
        hosts: target.hosts().iter().map(ToString::to_string).collect::<Vec<_>>().join(","),
        role: facts.role.clone(),
        server_version: facts.version.clone(),
        isolation: match operator.config().isolation() {
            Isolation::Role => "role",
            Isolation::Path => "path",
        },
    }
}
