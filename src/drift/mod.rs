//! Drift: differences between the catalogue and the objects that the migrations create.
//!
//! The expected objects are recorded: for the tenants' set by its rehearsal ([`rehearse`](crate::migrate::rehearse())),
//! for the shared schema by its migrations. A comparison runs no user code and writes to no tenant. The server computes
//! a fingerprint of every tenant. Only if a tenant has another fingerprint, its objects are read and compared by name.
//! If more than twenty tenants are compared, those without differences are recorded in `public.cgk_stamps`, with a
//! stamp of their catalogue rows. While the stamp is unchanged, the fingerprint is not computed again. A tenant that is
//! behind is compared with the objects of its own migrations.
//!
//! ```no_run
//! # async fn example() -> cgk::Result<()> {
//! use cgk::{drift, migrate::{Migrations, Scope}};
//!
//! let config = cgk::Config::load()?;
//! let operator = cgk::Operator::connect(&config).await?;
//! let migrations = Migrations::load(config.migrations())?;
//! let report = drift::verify(&operator, &migrations, &Scope::Everything).await?;
//! for schema in report.schemas() {
//!     for difference in &schema.differences {
//!         println!("{}: {difference}", schema.schema.as_str());
//!     }
//! }
//! # Ok(()) }
//! ```

mod binding;
mod compare;
mod detailed;
mod fix;
mod fleet;
mod group;
mod ignore;
mod inspect;
mod judge;
mod login_rights;
mod objects;
mod partitions;
mod reference;
mod report;
mod restored;
mod roles;
mod stamps;
mod volatile;

pub use report::{Change, Difference, DriftReport, FixStatement, IgnoredDifference, NotCompared, SchemaDrift};

use crate::{
    catalogue,
    db::Operator,
    error::{Error, LedgerProblem, MigrationError, Result},
    ident::{RoleName, SchemaName, literal},
    migrate::{LEDGER_TABLE, MigrationFile, Migrations, Scope, Set, StartedMigration, Version, fileset},
    registry,
};
use inspect::{InspectOutcome, Wanted, inspect};
use reference::References;

/// Returns the names of schemas that had no difference in the last comparison and have not changed since. Only reads.
/// The result is empty if the operator may not read the record of comparisons.
pub(crate) async fn unchanged_since_comparison(
    operator: &Operator,
    schemas: &[SchemaName],
) -> Result<std::collections::HashSet<String>> {
    let stamps = stamps::Stamps::read(operator).await?;
    let unchanged = stamps.unchanged(&[operator], schemas).await?;
    Ok(unchanged.into_keys().collect())
}

/// Returns schemas and roles that have the name of a tenant's and are not in the registry. Only reads.
pub(crate) async fn strays(operator: &Operator) -> Result<Vec<Difference>> {
    fleet::strays(operator).await
}

/// Compares schemas, ledgers and roles with the objects of the migrations.
///
/// [`Scope::Everything`] also searches for schemas and roles that have the name of a tenant's and are not in the
/// registry. A tenant without a schema is skipped and does not count as drift if it is being set up, or if this version
/// does not know its status. So is a tenant whose drop has started.
///
/// # Requirements
///
/// Read access to the ledgers, to `public.organizations`, and to the records in `public.cgk_references`. With access to
/// `public.cgk_stamps`, a second comparison of a large fleet is faster. It works in a read-only session and on a
/// standby. If there is no record for a schema, or one of another major version of the server or of another database,
/// this schema is not compared ([`NotCompared::NoReference`]).
///
/// # Locks
///
/// A shared migration lock of each schema while that schema is read. Schemas without differences are not locked. So the
/// comparison waits for a tenant that is being migrated, up to `session.lock_timeout`, and never reports it as drift.
///
/// # Committed when
///
/// Nothing is written to tenants or to the shared schema, with one exception. If more than twenty tenants are compared,
/// and the login may write `public.cgk_stamps`, one transaction at the end records there which tenants have no
/// differences. The owner of the table may write it; a read-only session and a standby may not. This transaction does
/// not wait for another comparison that is recording at the same time.
///
/// # Errors
///
/// - Kind `NotFound`: a tenant of [`Scope::Only`] is not in the registry.
/// - Kind `NotReady`: the database has no registry.
/// - Kind `Denied`: the role may not read the records.
/// - Kind `Failed`: an error of the server.
///
/// # Cancel safety
///
/// If the future is dropped, the server finishes the running statement and rolls back.
pub async fn verify(operator: &Operator, migrations: &Migrations, scope: &Scope) -> Result<DriftReport> {
    let mut report = DriftReport::default();
    if matches!(scope, Scope::Everything | Scope::Public) {
        report.public = Some(public(operator, migrations).await?);
        let mut found = roles::findings(operator, roles::RoleSelection::Shared, true).await?;
        report.rights = found.remove(SchemaName::public().as_str()).unwrap_or_default();
        report.rights.extend(binding::of_registry(operator).await?);
    }
    if *scope != Scope::Public {
        registry::require(operator).await?;
        (report.tenants, report.strange) = fleet::tenants(operator, migrations, scope).await?;
    }
    if *scope == Scope::Everything {
        report.strays = fleet::strays(operator).await?;
    }
    ignore::apply(&mut report, operator.config().drift_ignore(), *scope == Scope::Everything);
    find_started(operator, migrations, &mut report).await?;
    Ok(report)
}

/// Reads which of the schemas with differences have a migration that is partially applied.
async fn find_started(operator: &Operator, migrations: &Migrations, report: &mut DriftReport) -> Result<()> {
    if report.schemas().all(|schema| schema.differences.is_empty()) {
        return Ok(());
    }
    let schemas = fileset::started::schemas(operator).await?;
    for drift in report.public.iter_mut().chain(&mut report.tenants) {
        if !drift.differences.is_empty() && schemas.contains(&drift.schema) {
            let set = if drift.slug.is_some() { Set::Tenant } else { Set::Public };
            drift.started = StartedMigration::read(operator, migrations.set(set), &drift.schema).await?;
        }
    }
    Ok(())
}

async fn public(operator: &Operator, migrations: &Migrations) -> Result<SchemaDrift> {
    let schema = SchemaName::public();
    let mut references = References::new(operator, migrations, Set::Public);
    match inspect(operator, &schema, Wanted::Objects).await? {
        InspectOutcome::At(found) => {
            let source = migrations.set(Set::Public);
            let mut drift = judge::judge(&schema, None, None, &found, source, &mut references).await?;
            fix::fill(&mut drift.differences, &schema, None, found.owner.as_ref());
            Ok(drift)
        }
        InspectOutcome::Busy => Ok(judge::busy(&schema, None)),
        InspectOutcome::Gone => Ok(judge::gone(&schema, None)),
    }
}

/// A schema to adopt, compared with the objects of the migrations up to a version.
#[derive(Debug)]
pub(crate) struct SchemaComparison {
    pub(crate) differences: Vec<Difference>,
    /// A transaction that starts with this text fails with 22012 if the schema has changed since.
    pub(crate) guard: String,
}

/// Compares a schema without a ledger of cgk with the objects of the migrations up to a version, without the rights of
/// the tenant's role, and without one table of another tool.
pub(crate) async fn compare_up_to(
    operator: &Operator,
    migrations: &Migrations,
    set: Set,
    schema: &SchemaName,
    role: Option<&RoleName>,
    upto: Option<Version>,
    foreign_table: Option<&str>,
) -> Result<SchemaComparison> {
    let applied: Vec<usize> = migrations
        .set(set)
        .files()
        .iter()
        .map(MigrationFile::id)
        .enumerate()
        .filter_map(|(index, id)| (Some(id.version) <= upto).then_some(index))
        .collect();
    let reference = reference::to_adopt(operator, migrations, set, &applied).await?;
    let mut found = match inspect(operator, schema, Wanted::ObjectsAndFingerprint).await? {
        InspectOutcome::At(found) => found,
        InspectOutcome::Busy => {
            return Err(Error::Migration(MigrationError::Locked {
                schema: schema.clone(),
                waited: operator.session().lock_timeout,
            }));
        }
        InspectOutcome::Gone => {
            return Err(Error::Migration(MigrationError::LedgerRefused {
                schema: schema.clone(),
                why: LedgerProblem::NoSchema,
            }));
        }
    };
    let mut given = reference.catalogue.for_schema(schema);
    // It has no ledger yet, or another tool's table of that name.
    given.forget_table(LEDGER_TABLE);
    found.catalogue.forget_table(LEDGER_TABLE);
    given.forget_grants_to_the_tenant();
    found.catalogue.forget_grants_to_the_tenant();
    if set == Set::Public {
        found.catalogue.forget_what_is_no_migrations(&mut given);
    }
    if let Some(table) = foreign_table {
        found.catalogue.forget_table(table);
    }
    let named_role = inspect::named_role(operator, schema);
    let schemas = catalogue::Schemas::One { schema, role: named_role.as_ref() };
    let guard = format!(
        "{};
select 1 / (case when f.text = {} then 1 else 0 end) from ({}) f (kind, schema, text);
",
        catalogue::settings_sql(""),
        literal(found.fingerprint.as_ref().map_or("", |fingerprint| &fingerprint.0)),
        catalogue::fingerprint_sql(&schemas, catalogue::ServiceAccess::of(operator)),
    );
    let mut differences = compare::differences(&given, &found.catalogue);
    // The other tool's ledger is allowed, and the schema is not refused because of it.
    ignore::doubt(&mut differences, &found.catalogue);
    differences.retain(|difference| ignore::foreign_ledger(difference).is_none());
    fix::fill(&mut differences, schema, role, found.owner.as_ref());
    Ok(SchemaComparison { differences, guard })
}
