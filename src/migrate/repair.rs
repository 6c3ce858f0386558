//! Corrects a ledger that differs from the files, after an operator has decided that the files are right.

use super::{
    execute::schema_lock,
    files::file::MigrationFile,
    fileset::{FleetFiles, record::follow_ledgers},
    ledger::{self, Applied, LEDGER_TABLE, LedgerDigest, REPAIRS},
    migrations::Migrations,
    rehearsal,
};
use crate::{
    db::{
        Operator,
        message_head::{Hold, MessageHead, demand},
    },
    error::{ConnectionError, Error, LedgerProblem, MigrationError, Result, SetupError, TenantError, while_doing},
    fleet::selection::Scope,
    ident::{Ident, SchemaName, literal, quoted},
    migration::Set,
    registry,
    slug::TenantSlug,
    version::Version,
};
use std::time::Duration;
use tokio_postgres::error::SqlState;

/// How often a ledger that another run keeps changing is read again.
const TRIES_MAX: u32 = 4;

/// The kind of repair of a ledger.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Repair {
    /// The file of this version was edited after it was applied, and its current content counts as applied. The row
    /// gets the file's name and checksum. The file is not executed.
    Accept {
        /// The version.
        version: Version,
        /// The reason. The ledger stores it.
        reason: String,
    },
    /// The file of this version was removed permanently. The row is removed too. The objects that it created are not
    /// changed.
    Forget {
        /// The version.
        version: Version,
        /// The reason. The ledger stores it.
        reason: String,
    },
    /// The comment is missing, or does not match the rows. It is written again.
    Comment,
}

/// The result for one ledger.
#[derive(Debug)]
#[non_exhaustive]
pub struct Repaired {
    /// The schema.
    pub schema: SchemaName,
    /// The tenant; `None` for the shared schema.
    pub slug: Option<TenantSlug>,
    /// The result.
    pub outcome: RepairOutcome,
}

/// The result for one ledger.
#[derive(Debug)]
pub enum RepairOutcome {
    /// It was changed.
    Repaired {
        /// The changes, as text.
        what: Vec<String>,
    },
    /// It was already correct.
    NothingToDo,
    /// The migration was not applied to this schema. Nothing was changed.
    NotApplied,
    /// It is unchanged.
    Failed {
        /// The error.
        error: Error,
    },
}

/// Repairs the ledgers of a scope, in one transaction each. A failed one is a line of the result, and the others
/// continue.
///
/// The reason is stored in the ledger, in the column `repairs` of the version's row, or of the newest row if the
/// version's own row is removed. A ledger of an earlier version gets that column with its first repair. The objects of
/// the schema are not checked: [`drift::verify`](crate::drift::verify()) reports the remaining differences.
///
/// # Locks
///
/// Per schema, until the end of its message: its migration lock, and its ledger, which only migrations use.
///
/// # Committed when
///
/// Per schema, row, comment and reason together. Then the record of the fleet's files is updated, if no schema has the
/// recorded file any more.
///
/// # Errors
///
/// - Kind `Invalid` ([`MigrationError::NoSuchVersion`]): the version to accept has no file. Nothing was changed.
/// - Kind `Conflict`: the file of the version to forget exists, or the reason is empty. Nothing was changed.
/// - Kind `Drift` ([`MigrationError::WrongFiles`]): the files differ from the fleet's in another version than this one.
///   Nothing was changed.
/// - Kind `NotFound`: a tenant is not in the registry.
/// - Kind `Unavailable`: the connection is lost.
///
/// # Cancel safety
///
/// If the future is dropped, the server may still finish and commit the current schema. The next run then finds nothing
/// to do there.
pub async fn repair(
    operator: &Operator,
    migrations: &Migrations,
    scope: &Scope,
    repair: &Repair,
) -> Result<Vec<Repaired>> {
    let mut targets: Vec<Option<TenantSlug>> = Vec::new();
    if matches!(scope, Scope::Everything | Scope::Public) {
        targets.push(None);
    }
    if *scope != Scope::Public {
        registry::require(operator).await?;
        targets.extend(slugs(operator, scope).await?.into_iter().map(Some));
    }
    for slug in targets.first().into_iter().chain(targets.last()) {
        check(&schema_of(slug.as_ref()), migrations, set_of(slug.as_ref()), repair)?;
    }
    let about = match repair {
        Repair::Accept { version, .. } | Repair::Forget { version, .. } => Some(*version),
        Repair::Comment => None,
    };
    if let Some(version) = about {
        let files = FleetFiles::load(operator).await?;
        for set in [Set::Public, Set::Tenant] {
            let is_scope = targets.iter().any(|slug| set_of(slug.as_ref()) == set);
            files.check(operator, migrations, set, is_scope.then_some(version)).await?;
        }
    }
    let mut all = Vec::with_capacity(targets.len());
    for slug in targets {
        let schema = schema_of(slug.as_ref());
        let work = async || repair_schema(operator, migrations, set_of(slug.as_ref()), &schema, repair).await;
        let repaired = match &slug {
            None => rehearsal::shared::with_new_ledger(operator, work).await,
            Some(_) => work().await,
        };
        let outcome = match repaired {
            Ok(outcome) => outcome,
            Err(error @ Error::Connection(ConnectionError::Lost { .. })) => return Err(error),
            Err(error) => RepairOutcome::Failed { error },
        };
        all.push(Repaired { schema, slug, outcome });
    }
    if let Some(version) = about {
        for set in [Set::Public, Set::Tenant] {
            if all.iter().any(|repaired| set_of(repaired.slug.as_ref()) == set) {
                follow_ledgers(operator, migrations, set, version).await?;
            }
        }
    }
    let is_repaired = |repaired: &Repaired| matches!(repaired.outcome, RepairOutcome::Repaired { .. });
    // Records the objects that the accepted files create, for drift.
    if all.iter().any(|one| one.slug.is_some() && is_repaired(one)) {
        log_failure(rehearsal::rehearse(operator, migrations).await.map(drop));
    }
    Ok(all)
}

/// Logs a failure to record. Without a record, drift compares nothing and reports that. The ledgers are repaired in
/// both cases.
fn log_failure(recorded: Result<()>) {
    if let Err(error) = recorded {
        tracing::warn!(%error, "no record of what the migrations create");
    }
}

fn schema_of(slug: Option<&TenantSlug>) -> SchemaName {
    slug.map_or_else(SchemaName::public, SchemaName::of_tenant)
}

fn set_of(slug: Option<&TenantSlug>) -> Set {
    slug.map_or(Set::Public, |_| Set::Tenant)
}

async fn slugs(operator: &Operator, scope: &Scope) -> Result<Vec<TenantSlug>> {
    let known = registry::facts_of_fleet(operator).await?.tenants.into_keys();
    let Scope::Only(wanted) = scope else { return Ok(known.collect()) };
    let known: std::collections::BTreeSet<TenantSlug> = known.collect();
    match wanted.iter().find(|slug| !known.contains(slug)) {
        Some(unknown) => Err(Error::Tenant(TenantError::NotFound { tenant: unknown.clone() })),
        None => Ok(wanted.clone()),
    }
}

/// Refuses repairs that are wrong for every ledger.
fn check(schema: &SchemaName, migrations: &Migrations, set: Set, repair: &Repair) -> Result<()> {
    let refuse =
        |why: LedgerProblem| Err(Error::Migration(MigrationError::LedgerRefused { schema: schema.clone(), why }));
    let (version, reason) = match repair {
        Repair::Accept { version, reason } | Repair::Forget { version, reason } => (*version, reason),
        Repair::Comment => return Ok(()),
    };
    if reason.trim().is_empty() {
        return refuse(LedgerProblem::NoReason);
    }
    match (repair, file_of(migrations, set, version)) {
        (Repair::Accept { .. }, None) => Err(Error::Migration(MigrationError::NoSuchVersion { set, version })),
        (Repair::Forget { .. }, Some(file)) => {
            refuse(LedgerProblem::FileExists { file: crate::migration::printable(file.path()).to_string() })
        }
        _ => Ok(()),
    }
}

fn file_of(migrations: &Migrations, set: Set, version: Version) -> Option<&MigrationFile> {
    migrations.set(set).files().iter().find(|file| file.id().version == version)
}

async fn repair_schema(
    operator: &Operator,
    migrations: &Migrations,
    set: Set,
    schema: &SchemaName,
    repair: &Repair,
) -> Result<RepairOutcome> {
    for _ in 0..TRIES_MAX {
        let refuse = |why| Error::Migration(MigrationError::LedgerRefused { schema: schema.clone(), why });
        let table = ledger::table(operator, schema).await?.ok_or_else(|| refuse(LedgerProblem::NoLedger))?;
        if !table.is_ours() {
            return Err(refuse(table.refused()));
        }
        let read = ledger::read(operator, schema).await?;
        let Some(changes) = changes(migrations, set, schema, repair, &read.rows) else {
            return Ok(RepairOutcome::NotApplied);
        };
        let mut what = changes.what;
        if !read.comment_agrees() {
            what.push("comment written anew".into());
        }
        if what.is_empty() {
            return Ok(RepairOutcome::NothingToDo);
        }
        let mut sql = String::new();
        if !changes.sql.is_empty() && !table.has(REPAIRS) {
            sql.push_str(&ledger::upgrade_sql(schema));
        }
        sql.push_str(&changes.sql);
        sql.push_str(&ledger::demand_sql(schema, &changes.rows));
        sql.push_str(&ledger::comment_sql(schema, &changes.rows));
        if write(operator, schema, &table.owner, &read.rows, &sql).await? {
            return Ok(RepairOutcome::Repaired { what });
        }
    }
    Err(Error::Migration(MigrationError::Contended { schema: schema.clone(), tries: TRIES_MAX }))
}

/// The changes of a repair to some rows.
struct LedgerChanges {
    sql: String,
    rows: Vec<Applied>,
    what: Vec<String>,
}

/// Returns the changes; `None` if the repair concerns a row that does not exist.
fn changes(
    migrations: &Migrations,
    set: Set,
    schema: &SchemaName,
    repair: &Repair,
    rows: &[Applied],
) -> Option<LedgerChanges> {
    let table = schema.qualified(LEDGER_TABLE);
    let mut changes = LedgerChanges { sql: String::new(), rows: rows.to_vec(), what: Vec::new() };
    match repair {
        Repair::Comment => {}
        Repair::Accept { version, reason } => {
            let file = file_of(migrations, set, *version)?;
            let is_meant = |row: &Applied| row.id.version == *version || file.earlier_id() == Some(&row.id);
            let row = changes.rows.iter_mut().find(|row| is_meant(row))?;
            if *row != Applied::of(file) {
                let detail = format!("was {} {}", row.id, row.checksum.as_str());
                changes.what.push(format!(
                    "ledger updated: {1} now has the checksum of {0}",
                    crate::migration::printable(file.path()),
                    row.id
                ));
                changes.sql = format!(
                    "update {table} set version = {}, name = {}, checksum = {} where version = {};\n{}",
                    version.get(),
                    literal(&file.id().name),
                    literal(file.checksum().as_str()),
                    row.id.version.get(),
                    ledger::note_sql(schema, *version, "accept", reason, &detail),
                );
                *row = Applied::of(file);
            }
        }
        Repair::Forget { version, reason } => {
            let at = changes.rows.iter().position(|row| row.id.version == *version)?;
            let row = changes.rows.remove(at);
            let detail = format!("was {} {}", row.id, row.checksum.as_str());
            changes.what.push(format!("{} forgotten", row.id));
            changes.sql = format!("delete from {table} where version = {};\n", version.get());
            if let Some(newest) = changes.rows.iter().map(|row| row.id.version).max() {
                changes.sql.push_str(&ledger::note_sql(schema, newest, "forget", reason, &detail));
            }
        }
    }
    Some(changes)
}

/// Writes a ledger in one message if it is unchanged since it was read. Otherwise returns `false`.
async fn write(operator: &Operator, schema: &SchemaName, owner: &str, rows: &[Applied], sql: &str) -> Result<bool> {
    let session = operator.session();
    let role = match Ident::new(owner) {
        Ok(owner) if owner.as_str() != operator.facts().role => format!("set local role {};\n", owner.quoted()),
        _ => String::new(),
    };
    let head = MessageHead::of(operator)
        .lock_timeout(session.migration_wait)
        .statement_timeout(Duration::ZERO)
        .search_path("")
        .lock_schema(schema, Hold::Exclusive)
        .lock_timeout(session.lock_timeout)
        .statement_timeout(session.migration_statement_timeout)
        .sql();
    let expected = literal(LedgerDigest::of(rows).as_str());
    let unchanged = demand(&format!("{} = {expected}", ledger::digest_sql(schema)));
    let message = format!("{head}{role}select {unchanged};\n{sql}");
    let what = || format!("repair the ledger of schema {:?}", schema.as_str());
    let doing = || while_doing(what());
    operator.reset_session().await.map_err(doing())?;
    let answer = schema_lock::run(operator, schema, &message, session.migration_wait, what).await?;
    let Some(source) = answer.error else { return Ok(true) };
    match source.code() {
        Some(&SqlState::DIVISION_BY_ZERO | &SqlState::DUPLICATE_COLUMN) => Ok(false),
        Some(&SqlState::INSUFFICIENT_PRIVILEGE) => {
            let role = &operator.facts().role;
            Err(Error::Setup(SetupError::Privilege {
                role: role.clone(),
                needed: format!("act as {}, the owner of the ledger of schema {:?}", quoted(owner), schema.as_str()),
                grant: format!("grant {} to {}", quoted(owner), quoted(role)),
                source: Some(source.into()),
            }))
        }
        _ => Err(doing()(source)),
    }
}
