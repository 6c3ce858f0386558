//! Checks of schemas, ledgers and drift.

use super::{CheckResult, Verdict, are, could_not_look};
use crate::{
    db::Operator,
    drift::{self, DriftReport},
    error::{Error, ErrorKind, MissingPart, Result},
    ident::SchemaName,
    migrate::{
        Migrations, Scope,
        plan::{
            state::{FleetState, SchemaState},
            warm::{WarmStatus, warm_status},
        },
    },
    registry,
    tenant::TenantStatus,
};
use std::collections::HashSet;

/// The state of the fleet's schemas, or the error if it could not be read.
pub(crate) type FleetRead<'a> = std::result::Result<&'a FleetState, &'a Error>;

pub(super) fn shared_schema(state: FleetRead<'_>) -> Result<CheckResult> {
    let state = match state {
        Ok(state) => state,
        Err(error) if error.kind() == ErrorKind::NotReady => {
            return Ok(CheckResult::of(Verdict::Failed, error.report()).fix("cgk setup:database"));
        }
        Err(error) => return Ok(could_not_look(error)),
    };
    let head = state.public_head.as_ref().map_or_else(|| "no migration".to_owned(), ToString::to_string);
    Ok(match &state.public {
        SchemaState::AtHead => CheckResult::good(format!("at {head}")),
        SchemaState::Behind { pending } => {
            let pending = are(*pending, "migration", "migrations");
            let started = state.public_started.as_ref().map(|started| format!("; {started}")).unwrap_or_default();
            CheckResult::of(Verdict::Warning, format!("at {head}; {pending} pending{started}"))
                .fix("cgk migrate --public")
        }
        _ => CheckResult::of(Verdict::Failed, "its ledger differs from the files").fix("cgk migrate:status shows how"),
    })
}

pub(super) fn tenants(state: FleetRead<'_>) -> Result<CheckResult> {
    let Ok(state) = state else { return Ok(CheckResult::unknown("could not look: see fleet.shared_schema")) };
    let (mut behind, mut unfinished, mut wrong) = (Vec::new(), Vec::new(), Vec::new());
    let mut continues = None;
    for found in &state.tenants {
        let slug = &found.tenant.slug;
        match &found.state {
            SchemaState::AtHead => {}
            SchemaState::Behind { pending } => {
                let started = found.started().map(|started| format!("; {started}")).unwrap_or_default();
                behind.push(format!("{slug}: {} pending{started}", are(*pending, "migration", "migrations")));
            }
            SchemaState::BeingDropped => {
                unfinished.push(format!("{slug}: is being dropped; cgk tenant:drop {slug} continues"));
                continues.get_or_insert(format!("cgk tenant:drop {slug}"));
            }
            SchemaState::Missing if found.tenant.status == TenantStatus::Onboarding => {
                unfinished.push(format!("{slug}: is being created; cgk tenant:create {slug} completes it"));
                continues.get_or_insert(format!("cgk tenant:create {slug}"));
            }
            SchemaState::Missing => wrong.push(format!("{slug}: has no schema")),
            SchemaState::HalfProvisioned { missing: missing @ MissingPart::Ledger { .. } } => wrong.push(format!(
                "{slug}: {missing}; cgk migrate:baseline {slug} writes a new ledger, or names the way to it"
            )),
            SchemaState::HalfProvisioned { missing } => {
                wrong.push(format!("{slug}: {missing}; cgk tenant:create {slug} completes it"));
            }
            SchemaState::Diverged(_) => wrong.push(format!("{slug}: its ledger differs from the files")),
            SchemaState::OtherOrganization { found } => wrong.push(format!("{slug}: its schema belongs to {found}")),
        }
    }
    wrong.extend(state.strange.iter().map(|row| format!("{row}")));
    if !wrong.is_empty() {
        let found = format!("{} not usable", are(wrong.len(), "tenant", "tenants"));
        return Ok(CheckResult::of(Verdict::Failed, found)
            .naming(wrong.into_iter().chain(unfinished).chain(behind))
            .fix("cgk migrate:status --all"));
    }
    if !behind.is_empty() {
        let found = format!("{} not at the newest migration", are(behind.len(), "tenant", "tenants"));
        return Ok(CheckResult::of(Verdict::Warning, found)
            .naming(behind.into_iter().chain(unfinished))
            .fix("cgk migrate"));
    }
    if let Some(fix) = continues {
        let found = format!("{} being created or dropped", are(unfinished.len(), "tenant", "tenants"));
        return Ok(CheckResult::of(Verdict::Warning, found).naming(unfinished).fix(fix));
    }
    Ok(CheckResult::good(format!("{} at the newest migration", are(state.tenants.len(), "tenant", "tenants"))))
}

/// Checks for schemas and roles that have the name of a tenant's, but no row in the registry.
pub(super) async fn strays(operator: &Operator) -> Result<CheckResult> {
    // If row security hides the registry from the role, every tenant would look like an orphan.
    registry::require_sight(operator).await?;
    let strays = drift::strays(operator).await?;
    if strays.is_empty() {
        return Ok(CheckResult::good("every schema and role that looks like a tenant's is in the registry"));
    }
    let found = format!(
        "{} named like a tenant's, and not in the registry",
        are(strays.len(), "schema or role", "schemas and roles")
    );
    let names = strays.iter().map(ToString::to_string);
    Ok(CheckResult::of(Verdict::Warning, found)
        .naming(names)
        .fix("cgk drift explains each; back it up and drop it, or adopt it"))
}

/// The schemas that are kept ready for new tenants.
pub(super) async fn warm(operator: &Operator, migrations: &Migrations) -> Result<CheckResult> {
    let WarmStatus { ready, unfinished, stale, .. } = warm_status(operator, migrations).await?;
    let found = format!("{} ready for new tenants", are(ready, "schema", "schemas"));
    if unfinished + stale == 0 {
        return Ok(CheckResult::good(found));
    }
    let found = format!("{found}; {unfinished} unfinished, {stale} that no tenant takes");
    Ok(CheckResult::of(Verdict::Warning, found).fix(format!("cgk tenant:warm {}", ready + unfinished + stale)))
}

/// The known differences between schemas and migrations.
#[derive(Debug)]
pub(crate) enum KnownDrift {
    /// Every schema was compared in this call.
    Compared(Box<DriftReport>),
    /// The records of the last comparison were read.
    Recorded {
        /// All tenants' schemas.
        schemas: Vec<SchemaName>,
        /// The names of the schemas that had no differences and have not changed since.
        unchanged: HashSet<String>,
    },
    /// The state of the fleet could not be read.
    NoFleet,
}

/// Compares a fleet that has at most this many tenants. For a larger fleet, reads the records of the last comparison.
pub(crate) async fn known_drift(
    operator: &Operator,
    migrations: &Migrations,
    state: FleetRead<'_>,
    compared_max: usize,
) -> Result<KnownDrift> {
    let Ok(state) = state else { return Ok(KnownDrift::NoFleet) };
    if state.tenants.len() <= compared_max {
        let report = drift::verify(operator, migrations, &Scope::Everything).await?;
        return Ok(KnownDrift::Compared(Box::new(report)));
    }
    let schemas: Vec<SchemaName> =
        state.tenants.iter().map(|found| SchemaName::of_tenant(&found.tenant.slug)).collect();
    let unchanged = drift::unchanged_since_comparison(operator, &schemas).await?;
    Ok(KnownDrift::Recorded { schemas, unchanged })
}

pub(super) fn drift(known: std::result::Result<&KnownDrift, &Error>) -> CheckResult {
    let (schemas, unchanged) = match known {
        Ok(KnownDrift::Compared(report)) => return compared(report),
        Ok(KnownDrift::Recorded { schemas, unchanged }) => (schemas, unchanged),
        Ok(KnownDrift::NoFleet) => return CheckResult::unknown("could not look: see fleet.shared_schema"),
        Err(error) => return could_not_look(error),
    };
    let names = schemas.iter().map(|schema| schema.as_str().to_owned());
    let changed: Vec<String> = names.filter(|name| !unchanged.contains(name)).collect();
    if changed.is_empty() {
        return CheckResult::good(
            "no schema has changed since the last comparison, which found no difference; `cgk drift` also compares roles and rights",
        );
    }
    let found = match changed.len() {
        1 => "1 schema was not compared since its last change, or differs".to_owned(),
        many => format!("{many} schemas were not compared since their last change, or differ"),
    };
    CheckResult::unknown(found).naming(changed).fix("cgk drift")
}

fn compared(report: &DriftReport) -> CheckResult {
    let mut different: Vec<String> = report.rights.iter().map(|difference| format!("rights: {difference}")).collect();
    let (mut not_compared, mut started) = (Vec::new(), Vec::new());
    for schema in report.schemas() {
        let name = schema.schema.as_str();
        started.extend(schema.started.iter().map(|started| format!("{name}: {started}")));
        different.extend(schema.differences.iter().map(|difference| format!("{name}: {difference}")));
        not_compared.extend(schema.not_compared.map(|reason| format!("{name}: {reason}")));
    }
    if !different.is_empty() {
        let found =
            format!("{} found between schemas and migrations", are(different.len(), "difference", "differences"));
        let fix = match started.is_empty() {
            true => "cgk drift --sql shows statements to review",
            false => "cgk migrate finishes what is partially applied; then cgk drift --sql shows statements to review",
        };
        let names = started.into_iter().chain(different);
        return CheckResult::of(Verdict::Failed, found).naming(names).fix(fix);
    }
    if !not_compared.is_empty() {
        let found = format!("{} not compared", are(not_compared.len(), "schema", "schemas"));
        return CheckResult::unknown(found).naming(not_compared).fix("cgk drift");
    }
    CheckResult::good("every schema is as its migrations create it")
}
