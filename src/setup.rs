//! Prepares a database for cgk. It can be called again at any time, by any number of processes.

mod harden;
mod isolation;

pub use harden::{HardeningMode, HardeningReport, Measure, MeasureReport, MeasureState, harden};

use crate::{
    db::{Operator, message},
    error::{Error, Result, SetupError, while_doing},
    ident::quoted,
    identity,
    migrate::{
        self, BindReport, FleetPlan, MigrationId, Migrations, Observer, Outcome, RunOptions, RunReport, Scope, Target,
    },
    registry,
};

pub use crate::registry::RegistryGuard;
pub use isolation::{IsolationChange, change_isolation, finish_before_revoking, isolation};

/// The result of a setup.
#[derive(Debug)]
#[non_exhaustive]
pub struct SetupReport {
    /// The migrations that this run applied to the shared schema.
    pub applied: Vec<MigrationId>,
    /// The newest migration of the shared schema.
    pub head: Option<MigrationId>,
    /// The current tables in the shared schema, without cgk's own.
    pub tables: Vec<String>,
    /// Whether this run revoked from PUBLIC the right to create tables in `public`.
    pub hardened: Hardening,
    /// Whether the registry protects an organization whose schema exists.
    pub registry_guard: RegistryGuard,
    /// Why the database does not notify services of changes of tenants and credentials; `None` if it does, or if it
    /// does not have the table `sessions`.
    pub changes_not_notified: Option<String>,
    /// The result for tenants' schemas of earlier versions that were not bound to an organization.
    pub bound: BindReport,
}

/// The state of PUBLIC's right to create tables in `public`, which databases created before PostgreSQL 15 grant. With
/// this right, any role could create a table that replaces a missing one of a tenant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hardening {
    /// The right did not exist.
    NotNeeded,
    /// It was revoked.
    Revoked,
    /// It still exists: the operator may not revoke it.
    NotAllowed,
}

/// Migrates the shared schema and checks that the registry exists. Tenants are not changed, with one exception: the
/// comment on a schema that is not bound to an organization gets the organization's id.
///
/// # Locks
///
/// The shared schema's migration lock ([`lock::migration_key`](crate::lock::migration_key)), until the transaction with
/// the migrations ends. Concurrent processes wait, and then have nothing to do.
///
/// # Committed when
///
/// All pending migrations together, then the comments, 50 at a time.
///
/// # Errors
///
/// - Kind `Denied`: the role may not create tables in `public`, or schemas.
/// - Kind `Drift`: ledger and files differ.
/// - Kind `Failed`: a migration was refused. The schema is unchanged.
/// - Kind `NotReady`: the migrations create no registry.
///
/// # Cancel safety
///
/// If the future is dropped, the server may still finish and commit the migrations. They are never partially applied.
pub async fn setup(operator: &Operator, migrations: &Migrations, observer: &mut dyn Observer) -> Result<SetupReport> {
    check_privileges(operator)?;
    // The plan is first, so that a database whose ledger is not cgk's, or differs from the files, is not changed at
    // all.
    let planned: FleetPlan<'_> = migrate::plan_fleet(operator, migrations, &Scope::Public, Target::Head).await?;
    let hardened = revoke_create_on_public(operator).await?;
    identity::ensure(operator).await?;
    let options = RunOptions::default().unrecorded();
    let report: RunReport = migrate::run_with(operator, migrations, planned, &options, observer).await?;
    let applied = match report.public.map(|outcome| outcome.result) {
        Some(Outcome::Migrated { applied }) => applied,
        _ => Vec::new(),
    };
    registry::require(operator).await?;
    migrate::rehearsal::shared::ensure(operator).await?;
    let tables = tables(operator).await?;
    let has_sessions = tables.iter().any(|table| table == "sessions");
    Ok(SetupReport {
        applied,
        head: migrations.set(migrate::Set::Public).head().cloned(),
        changes_not_notified: if has_sessions { changes_not_notified(operator).await? } else { None },
        tables,
        hardened,
        registry_guard: registry::guard_registry(operator).await?,
        bound: migrate::execute::bind::bind_fleet(operator).await?,
    })
}

fn check_privileges(operator: &Operator) -> Result<()> {
    let facts = operator.facts();
    facts.require_writable()?;
    if facts.creates_in_public == Some(false) {
        let grant = format!("grant create, usage on schema public to {}", quoted(&facts.role));
        return Err(facts.lacks("create tables in schema public", grant));
    }
    if facts.creates_in_public.is_none() {
        return Err(Error::Setup(SetupError::NotSetUp {
            database: facts.database.clone(),
            missing: "there is no schema public".into(),
        }));
    }
    facts.require_schema_creation()
}

async fn revoke_create_on_public(operator: &Operator) -> Result<Hardening> {
    if !operator.facts().everyone_creates_in_public {
        return Ok(Hardening::NotNeeded);
    }
    // If the operator is not the owner, the server returns a warning and no error. So the result is checked.
    let sql = "revoke create on schema public from public;
               select exists (select from pg_catalog.pg_namespace n, pg_catalog.aclexplode(n.nspacl) a
                              where n.nspname = 'public' and a.grantee = 0 and a.privilege_type = 'CREATE')";
    let doing = || while_doing("take from everyone the right to create tables in schema public");
    let answer = match message::run(operator.client(), sql).await.map_err(doing())?.complete() {
        Ok(answer) => answer,
        Err(error) if error.code() == Some(&tokio_postgres::error::SqlState::INSUFFICIENT_PRIVILEGE) => {
            return Ok(Hardening::NotAllowed);
        }
        // Several concurrent setups write the same catalogue row. It is enough that one of them succeeds.
        Err(error) if error.code() == Some(&tokio_postgres::error::SqlState::INTERNAL_ERROR) => {
            return Ok(Hardening::Revoked);
        }
        Err(error) => return Err(doing()(error)),
    };
    let remains = answer.rows.first().and_then(|(_, row)| row.get(0)) == Some("t");
    Ok(if remains { Hardening::NotAllowed } else { Hardening::Revoked })
}

async fn tables(operator: &Operator) -> Result<Vec<String>> {
    let doing = || while_doing("list the tables of schema public");
    let rows = operator
        .client()
        .query_typed(
            "select c.relname::pg_catalog.text from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
             where n.nspname = 'public' and c.relkind in ('r', 'p') and not c.relispartition
               and not pg_catalog.starts_with(c.relname::pg_catalog.text, 'cgk_') order by 1",
            &[],
        )
        .await
        .map_err(doing())?;
    rows.iter().map(|row| row.try_get(0).map_err(doing())).collect()
}

async fn changes_not_notified(operator: &Operator) -> Result<Option<String>> {
    let doing = || while_doing("look at the triggers that notify of changes");
    let row = operator.client().query_typed_one(&registry::unnotified_sql(), &[]).await.map_err(doing())?;
    row.try_get(0).map_err(doing())
}
