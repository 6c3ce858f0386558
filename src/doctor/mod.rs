//! Checks a database for problems that break cgk, block its migrations or weaken the isolation of tenants. Changes
//! nothing.
//!
//! ```no_run
//! # async fn example(operator: &cgk::Operator, migrations: &cgk::migrate::Migrations) -> cgk::Result<()> {
//! use cgk::doctor::{DoctorOptions, Verdict};
//! for check in cgk::doctor::examine(operator, migrations, &DoctorOptions::default()).await?.checks {
//!     if check.verdict != Verdict::Good {
//!         println!("{}: {}", check.name, check.found);
//!     }
//! }
//! # Ok(()) }
//! ```

mod access;
mod activity;
mod fleet;
mod objects;
mod platform;
mod server;

use fleet::FleetRead;
pub(crate) use fleet::KnownDrift;
#[cfg(feature = "report")]
pub(crate) use fleet::known_drift;

use crate::{
    db::Operator,
    error::{Error, ErrorKind, Result, while_doing},
    migrate::Migrations,
};
use std::time::Duration;
use tokio_postgres::Row;

/// How many objects a check lists. Its text contains the total number.
const NAMED_MAX: usize = 20;
/// The largest fleet that is compared. For a larger one, the records of its last comparison are read.
pub(crate) const COMPARED_MAX: usize = 20;

/// The result of a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// Nothing is wrong.
    Good,
    /// The check could not run, for example because the role has no right to read something. The text contains the
    /// reason.
    Unknown,
    /// It works, but it can fail later or be slower than necessary.
    Warning,
    /// It does not work, or tenants are not isolated as documented.
    Failed,
}

impl Verdict {
    /// Returns its name: `ok`, `unknown`, `warning` or `failed`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Good => "ok",
            Self::Unknown => "unknown",
            Self::Warning => "warning",
            Self::Failed => "failed",
        }
    }
}

/// One check and its result.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Check {
    /// Its name, for example `server.version`. It is the same in all versions.
    pub name: &'static str,
    /// The result.
    pub verdict: Verdict,
    /// A description of the result, in one sentence.
    pub found: String,
    /// The objects concerned, at most 20 of them.
    pub objects: Vec<String>,
    /// The command or statement that fixes the problem, if there is one.
    pub fix: Option<String>,
}

/// The results of all checks, in a fixed order.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Diagnosis {
    /// The checks.
    pub checks: Vec<Check>,
}

impl Diagnosis {
    /// Returns the worst verdict; [`Verdict::Good`] if there are no checks.
    pub fn worst(&self) -> Verdict {
        self.checks.iter().map(|check| check.verdict).max().unwrap_or(Verdict::Good)
    }
}

/// The limits of the checks.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct DoctorOptions {
    /// The age from which a transaction of another session counts as one that blocks migrations.
    pub transaction_age_max: Duration,
    /// The age from which an undelivered domain event counts as a problem.
    pub event_age_max: Duration,
}

impl Default for DoctorOptions {
    fn default() -> Self {
        Self { transaction_age_max: Duration::from_secs(300), event_age_max: Duration::from_secs(3600) }
    }
}

/// The result of a check, without its name.
struct CheckResult {
    verdict: Verdict,
    found: String,
    objects: Vec<String>,
    fix: Option<String>,
}

impl CheckResult {
    fn of(verdict: Verdict, found: impl Into<String>) -> Self {
        Self { verdict, found: found.into(), objects: Vec::new(), fix: None }
    }

    fn good(found: impl Into<String>) -> Self {
        Self::of(Verdict::Good, found)
    }

    fn unknown(reason: impl Into<String>) -> Self {
        Self::of(Verdict::Unknown, reason)
    }

    fn naming(mut self, objects: impl IntoIterator<Item = String>) -> Self {
        self.objects = objects.into_iter().take(NAMED_MAX).collect();
        self
    }

    fn fix(mut self, fix: impl Into<String>) -> Self {
        self.fix = Some(fix.into());
        self
    }
}

/// Runs every check. It makes the operator's session read-only, so use a separate connection.
///
/// A check that cannot run, because the role has no right to read something, has the verdict [`Verdict::Unknown`]. The
/// other checks still run. This works on a standby and for a login that may only read.
///
/// # Locks
///
/// None that a migration waits for: the statements read the catalogue, the registry and the ledgers. A fleet of at most
/// 20 tenants is compared with its migrations as by [`drift::verify`](crate::drift::verify()), with that function's
/// locks. For a larger fleet, the records of the last comparison are read.
///
/// # Errors
///
/// Kind `Unavailable`: the connection is lost. Other errors are verdicts.
///
/// # Cancel safety
///
/// Writes nothing.
pub async fn examine(operator: &Operator, migrations: &Migrations, options: &DoctorOptions) -> Result<Diagnosis> {
    operator.read_only().await?;
    let state = crate::migrate::plan::state::read_state(operator, migrations).await;
    let drift = fleet::known_drift(operator, migrations, state.as_ref(), COMPARED_MAX).await;
    diagnose(operator, migrations, options, state.as_ref(), drift.as_ref()).await
}

/// Runs the checks with the already known state of the fleet.
pub(crate) async fn diagnose(
    operator: &Operator,
    migrations: &Migrations,
    options: &DoctorOptions,
    state: FleetRead<'_>,
    drift: std::result::Result<&KnownDrift, &Error>,
) -> Result<Diagnosis> {
    let mut diagnosis = Diagnosis::default();
    diagnosis.add("server.version", Ok(server::version(operator)))?;
    diagnosis.add("server.settings", server::settings(operator).await)?;
    diagnosis.add("server.connections", server::connections(operator).await)?;
    diagnosis.add("server.locks", server::locks(operator).await)?;
    diagnosis.add("server.transaction_ids", server::transaction_ids(operator).await)?;
    diagnosis.add("server.old_transactions", activity::old_transactions(operator, options).await)?;
    diagnosis.add("server.prepared_transactions", activity::prepared_transactions(operator, options).await)?;
    diagnosis.add("access.operator", Ok(access::operator(operator)))?;
    diagnosis.add("access.public_schema", Ok(access::public_schema(operator)))?;
    diagnosis.add("access.logins", access::logins(operator).await)?;
    diagnosis.add("access.role_settings", access::role_settings(operator).await)?;
    diagnosis.add("access.shared_tables", access::shared_tables(operator).await)?;
    diagnosis.add("objects.indexes", objects::indexes(operator).await)?;
    diagnosis.add("objects.functions", objects::functions(operator).await)?;
    diagnosis.add("objects.shared_views", objects::shared_views(operator).await)?;
    diagnosis.add("objects.foreign_keys", objects::foreign_keys(operator).await)?;
    diagnosis.add("fleet.shared_schema", fleet::shared_schema(state))?;
    diagnosis.add("fleet.tenants", fleet::tenants(state))?;
    diagnosis.add("fleet.strays", fleet::strays(operator).await)?;
    diagnosis.add("fleet.warm", fleet::warm(operator, migrations).await)?;
    diagnosis.add("fleet.drift", Ok(fleet::drift(drift)))?;
    diagnosis.add("platform.events", platform::events(operator, options).await)?;
    diagnosis.add("platform.audit_months", platform::audit_months(operator).await)?;
    Ok(diagnosis)
}

impl Diagnosis {
    fn add(&mut self, name: &'static str, found: Result<CheckResult>) -> Result<()> {
        let found = match found {
            Ok(found) => found,
            Err(error) if error.kind() == ErrorKind::Unavailable => return Err(error),
            Err(error) => could_not_look(&error),
        };
        let CheckResult { verdict, found, objects, fix } = found;
        self.checks.push(Check { name, verdict, found, objects, fix });
        Ok(())
    }
}

fn could_not_look(error: &Error) -> CheckResult {
    CheckResult::unknown(format!("could not look: {}", error.report()))
}

/// Returns the rows of a query without parameters.
async fn rows(operator: &Operator, doing: &str, sql: &str) -> Result<Vec<Row>> {
    operator.client().query_typed(sql, &[]).await.map_err(while_doing(doing.to_owned()))
}

/// Returns the texts in the first column of a query.
async fn texts(operator: &Operator, doing: &str, sql: &str) -> Result<Vec<String>> {
    let rows = rows(operator, doing, sql).await?;
    rows.iter().map(|row| row.try_get(0).map_err(while_doing(doing.to_owned()))).collect()
}

/// Returns a text such as "1 index is" or "3 indexes are".
fn are(number: usize, one: &str, many: &str) -> String {
    match number {
        1 => format!("1 {one} is"),
        _ => format!("{number} {many} are"),
    }
}
