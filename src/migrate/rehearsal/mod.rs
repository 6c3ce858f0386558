//! The rehearsal: applies the tenants' set from an empty schema, as for a new tenant, before any tenant is changed.
//!
//! It uses a separate schema and the same code that creates a tenant. First it uses one transaction, which is rolled
//! back, so no change remains, whatever the files do. If that fails, it applies file by file in the schema
//! `cgk_rehearsal`, which is dropped afterwards. If a run is killed, the schema remains and the next rehearsal drops
//! it. The objects of the schema after each file are recorded (`record.rs`), and drift compares tenants with them. A
//! set that was already rehearsed is not rehearsed again.

mod carry;
mod record;
mod session_lock;
pub(crate) mod shared;
mod snapshot;
mod translate;

pub(crate) use record::{
    OWN_NAME, SchemaSnapshot, given, is_denied, is_missing_table, isolation_name, texts_sql, with_word_replaced,
};

use super::{
    execute::{
        apply, batch,
        grouping::Grouping,
        unit::{ApplyOutcome, LedgerPresence, LockWait, Purpose, SchemaAccess, Unit},
    },
    migrations::Migrations,
    plan::{SchemaPlan, Target, plan},
};
use crate::{
    access::isolation,
    catalogue::{Schemas, ServiceAccess, fingerprint_sql, objects_sql, settings_sql},
    config::Isolation,
    db::{Operator, message, message_head::MessageHead, run_files::Commits},
    error::{Error, MigrationError, Result, TenantError, while_doing},
    fleet::{cancel::cancellable, interrupt::Interrupt, stop::ends_everything},
    ident::{RoleName, SchemaName, literal},
    lock,
    migration::{MigrationId, Set},
};
use record::Memory;
use std::sync::Arc;
use tokio_postgres::error::SqlState;

/// The result of a rehearsal.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Rehearsal {
    /// Whether this call rehearsed it. False if the same set was already rehearsed.
    pub is_new: bool,
    /// Whether a new tenant gets its files in one transaction each, because a single transaction fails.
    pub file_by_file: bool,
}

/// Rehearses the tenants' set, unless it was already rehearsed in this database with the same files, the same state of
/// the shared schema and the same major version of the server.
///
/// # Locks
///
/// - A session lock, so that only one rehearsal at a time runs in a database. Another one waits for up to
///   `session.migration_wait`.
/// - The locks of the files on the shared schema. A foreign key to a shared table blocks writers of that table until
///   the transaction ends, as when a tenant is created.
///
/// # Committed when
///
/// With one transaction, only the record of the result. File by file, each file is committed in a schema that is
/// dropped at the end. A file that writes outside of the schema is refused there ([`MigrationError::NotRehearsable`]).
/// Effects that a transaction does not roll back remain, such as the values of sequences in the shared schema.
///
/// # Errors
///
/// - [`MigrationError::Rehearsal`]: a new tenant could not be created.
/// - Kind `Locked`: another rehearsal is running.
/// - Kind `Denied`: the role may not create schemas.
///
/// # Cancel safety
///
/// If the future is dropped, a schema `cgk_rehearsal` may remain. The next rehearsal drops it.
pub async fn rehearse(operator: &Operator, migrations: &Migrations) -> Result<Rehearsal> {
    rehearse_until(operator, migrations, &Interrupt::default()).await
}

/// Does the same as [`rehearse`]. The second stage of an interrupt stops it.
pub(crate) async fn rehearse_until(
    operator: &Operator,
    migrations: &Migrations,
    interrupt: &Interrupt,
) -> Result<Rehearsal> {
    let memory = Memory::read(operator, migrations).await?;
    match memory.known {
        Some(grouping) if !memory.has_leftover => Ok(known(grouping)),
        _ => locked(operator, interrupt, async |own| rehearse_locked(own, migrations).await).await,
    }
}

/// Returns how a new tenant gets its files, if the set was already rehearsed. Only reads.
pub(crate) async fn known_grouping(operator: &Operator, migrations: &Migrations) -> Result<Option<Grouping>> {
    Ok(Memory::read(operator, migrations).await?.known)
}

fn known(grouping: Grouping) -> Rehearsal {
    Rehearsal { is_new: false, file_by_file: grouping == Grouping::FileByFile }
}

/// Applies the first files of the tenants' set to find the objects that they create, and records the result.
///
/// Locks, errors and cancel safety: those of [`rehearse`].
pub(crate) async fn try_first(operator: &Operator, migrations: &Migrations, files: usize) -> Result<SchemaSnapshot> {
    locked(operator, &Interrupt::default(), async |own| {
        let memory = Memory::prepare(own, migrations).await?;
        if memory.has_leftover {
            drop_schema(own).await?;
        }
        let mut wanted = vec![false; files + 1];
        wanted[files] = true;
        let (_, mut snapshots) = run(own, migrations, &wanted).await?;
        record::write(own, migrations, &memory, None, &snapshots).await?;
        Ok(snapshots.pop().expect("it is wanted").1)
    })
    .await
}

/// Runs work on a separate connection, under the lock of the rehearsal.
async fn locked<T>(
    operator: &Operator,
    interrupt: &Interrupt,
    work: impl AsyncFnOnce(&Operator) -> Result<T>,
) -> Result<T> {
    operator.facts().require_schema_creation()?;
    // This is a separate session: it has no state of an earlier schema, and all state of the files ends with it.
    let own = operator.sibling().await?;
    session_lock::hold(operator, interrupt, lock::rehearsal_key(), &SchemaName::rehearsal(), async || {
        cancellable(&own, interrupt, work(&own)).await
    })
    .await
}

async fn rehearse_locked(operator: &Operator, migrations: &Migrations) -> Result<Rehearsal> {
    let memory = Memory::prepare(operator, migrations).await?;
    if memory.has_leftover {
        drop_schema(operator).await?;
    }
    if let Some(grouping) = memory.known {
        return Ok(known(grouping));
    }
    shared::ensure(operator).await?;
    let wanted = memory.unrecorded(operator, migrations).await?;
    let (grouping, snapshots) = run(operator, migrations, &wanted).await?;
    record::write(operator, migrations, &memory, Some(grouping), &snapshots).await?;
    Ok(Rehearsal { is_new: true, file_by_file: grouping == Grouping::FileByFile })
}

/// How many prefixes are observed before it is known that the files apply. The catalogue query costs as much as about
/// ten files, and costs more after many changes in the transaction. So a large set is first tried, and then observed.
const OBSERVED_UNTRIED_MAX: usize = 16;

/// Applies the first files of the set to an empty schema. Returns the objects after each selected number of files. The
/// last element of `wanted` is the one for all files.
async fn run(operator: &Operator, migrations: &Migrations, wanted: &[bool]) -> Result<(Grouping, Observed)> {
    let source = migrations.set(Set::Tenant);
    let mut planned =
        plan(source, &SchemaName::scratch(), Vec::new(), Target::Head).map_err(MigrationError::Diverged)?;
    planned.pending = planned.pending[..wanted.len() - 1].into();
    if wanted.iter().filter(|is_wanted| **is_wanted).count() <= OBSERVED_UNTRIED_MAX {
        return try_groupings(operator, &planned, wanted).await;
    }
    match try_groupings(operator, &planned, &vec![false; wanted.len()]).await?.0 {
        Grouping::Batch => Ok((Grouping::Batch, at_once(operator, &planned, wanted).await.map_err(failed)?)),
        Grouping::FileByFile => Ok((Grouping::FileByFile, one_by_one(operator, &planned, wanted).await?)),
    }
}

/// Applies files together, or one by one if that fails.
async fn try_groupings(operator: &Operator, planned: &SchemaPlan<'_>, wanted: &[bool]) -> Result<(Grouping, Observed)> {
    let mut together = None;
    if !apply::is_born_in_steps(planned) {
        match at_once(operator, planned, wanted).await {
            Ok(observed) => return Ok((Grouping::Batch, observed)),
            Err(error) if planned.pending.len() < 2 || !is_of_the_files(&error) => return Err(failed(error)),
            Err(error) => together = Some(error),
        }
    }
    let separate = one_by_one(operator, planned, wanted).await;
    if let Some(error) = together.as_ref().map(Error::report) {
        match &separate {
            // Whether a new tenant can be created is unknown, and this error is all that is known.
            Err(Error::Migration(MigrationError::NotRehearsable { .. })) => {
                tracing::warn!(error, "the set does not apply in one transaction, and may not apply at all");
            }
            _ => tracing::info!(error, "the set does not apply in one transaction"),
        }
    }
    Ok((Grouping::FileByFile, separate?))
}

/// Applies files one by one in a schema that is dropped at the end.
async fn one_by_one(operator: &Operator, planned: &SchemaPlan<'_>, wanted: &[bool]) -> Result<Observed> {
    let done = file_by_file(operator, planned, wanted).await;
    let dropped = drop_schema(operator).await;
    let observed = done.map_err(failed)?;
    dropped?;
    Ok(observed)
}

/// The objects of a schema after a number of files, in order.
type Observed = Vec<(usize, SchemaSnapshot)>;

/// Assigns the snapshots of a response to the selected numbers of files.
fn observed(snapshots: Vec<SchemaSnapshot>, wanted: &[bool], schema: &SchemaName) -> Result<Observed> {
    let files: Vec<usize> = (0..wanted.len()).filter(|files| wanted[*files]).collect();
    if snapshots.len() != files.len() {
        return Err(Error::Unexpected {
            doing: "rehearse the tenants' migrations".into(),
            found: format!("{} answers about the schema", snapshots.len()),
        });
    }
    // The recorded objects do not contain the name of the rehearsal's schema.
    Ok(files.into_iter().zip(snapshots.into_iter().map(|snapshot| snapshot.anonymous(schema))).collect())
}

/// Whether the files cause an error, and not the server's state.
pub(crate) fn is_of_the_files(error: &Error) -> bool {
    let passing = error.is_passing() || ends_everything(error) || error.sqlstate() == Some(&SqlState::QUERY_CANCELED);
    let of_files = matches!(
        error,
        Error::Migration(MigrationError::Failed(_))
            | Error::Database { .. }
            | Error::Migration(MigrationError::RowNotWritten { .. })
            | Error::Unexpected { .. }
    );
    !passing && of_files
}

/// Converts an error. A timeout of a statement counts as an error of the file, although another attempt may finish in
/// time.
fn failed(error: Error) -> Error {
    let is_cancelled = error.sqlstate() == Some(&SqlState::QUERY_CANCELED);
    let timed_out = is_cancelled && matches!(error, Error::Migration(MigrationError::Failed(_)));
    match is_of_the_files(&error) || timed_out {
        true => Error::Migration(MigrationError::Rehearsal { source: Box::new(error) }),
        false => error,
    }
}

/// Returns the role that replaces the tenant's role. It gets the same grants.
fn role(operator: &Operator) -> Option<RoleName> {
    (operator.config().isolation() == Isolation::Role).then(RoleName::placeholder)
}

/// Creates the schema, as for a tenant. The registry has no row for it.
fn provision(schema: &SchemaName, role: Option<&RoleName>) -> String {
    let mut sql = format!("create schema {};\n", schema.quoted());
    if let Some(role) = role {
        sql.push_str(&isolation::grants_to_come_sql(schema, role.ident()));
    }
    sql
}

async fn at_once(operator: &Operator, planned: &SchemaPlan<'_>, wanted: &[bool]) -> Result<Observed> {
    let role = role(operator);
    let schema = &planned.schema;
    let observe = observe_sql(operator, schema, role.as_ref());
    let unit = Unit {
        plan: planned,
        role: role.as_ref(),
        provision: provision(schema, role.as_ref()),
        ledger: LedgerPresence::Absent,
        owner: None,
        commits: Commits::WithMessage,
        grouping: Grouping::Batch,
        sessions: SchemaAccess::None,
        purpose: Purpose::RollBack { observe: &observe, wanted },
        files: None,
    };
    let answer = batch::observe(operator, &unit).await?;
    observed(record::snapshots(&answer), wanted, schema)
}

async fn file_by_file(operator: &Operator, planned: &SchemaPlan<'_>, wanted: &[bool]) -> Result<Observed> {
    let schema = SchemaName::rehearsal();
    let role = role(operator);
    let observe = observe_sql(operator, &schema, role.as_ref());
    let mut snapshots = Vec::new();
    for (done, is_wanted) in wanted.iter().enumerate() {
        let applied: Vec<_> = planned.pending[..done.saturating_sub(1)].iter().map(|f| super::Applied::of(f)).collect();
        let pending: Arc<[_]> = planned.pending[done.saturating_sub(1)..done].into();
        let plan = SchemaPlan { schema: schema.clone(), applied: applied.into(), pending };
        let (provision, ledger) = match done {
            0 => (provision(&schema, role.as_ref()) + &mark_sql(&schema), LedgerPresence::Absent),
            _ => (String::new(), LedgerPresence::Present),
        };
        let unit = Unit {
            plan: &plan,
            role: role.as_ref(),
            provision,
            ledger,
            owner: None,
            commits: Commits::WithMessage,
            grouping: Grouping::FileByFile,
            sessions: SchemaAccess::None,
            purpose: Purpose::Drop,
            files: None,
        };
        if apply::attempt(operator, &unit, LockWait::Block, &mut Vec::<MigrationId>::new()).await?
            != ApplyOutcome::Applied
        {
            return Err(Error::Migration(MigrationError::Contended { schema, tries: 1 }));
        }
        if !is_wanted {
            continue;
        }
        let doing = || while_doing(format!("read the catalogue of schema {:?}", schema.as_str()));
        let answer = message::run(operator.client(), &observe).await.map_err(doing())?.complete().map_err(doing())?;
        snapshots.extend(record::snapshots(&answer));
    }
    observed(snapshots, wanted, &schema)
}

/// Returns statements that read the objects of the schema.
fn observe_sql(operator: &Operator, schema: &SchemaName, role: Option<&RoleName>) -> String {
    let schemas = Schemas::One { schema, role };
    let access = ServiceAccess::of(operator);
    format!(
        "{};
{};
{};
{};
select '{}';
",
        settings_sql(""),
        fingerprint_sql(&schemas, access),
        settings_sql(schema.as_str()),
        objects_sql(&schemas, access),
        record::OBSERVED,
    )
}

const MARK: &str = "A rehearsal of cgk. It may be dropped at any time.";

fn mark_sql(schema: &SchemaName) -> String {
    format!("comment on schema {} is {};\n", schema.quoted(), literal(MARK))
}

/// Drops the schema of a file-by-file rehearsal. A schema of that name without the mark is not dropped, and is an
/// error.
async fn drop_schema(operator: &Operator) -> Result<()> {
    let schema = SchemaName::rehearsal();
    let sql = format!(
        "{}select 1 / (case when pg_catalog.obj_description(n.oid, 'pg_namespace') = {} then 1 else 0 end)
from pg_catalog.pg_namespace n where n.nspname = {};
drop schema if exists {} cascade;
",
        MessageHead::of(operator).lock_timeout(operator.session().migration_wait).sql(),
        literal(MARK),
        literal(schema.as_str()),
        schema.quoted(),
    );
    let doing = || while_doing(format!("drop schema {:?}", schema.as_str()));
    match message::run(operator.client(), &sql).await.map_err(doing())?.complete() {
        Err(error) if error.code() == Some(&SqlState::DIVISION_BY_ZERO) => {
            Err(Error::Tenant(TenantError::SchemaNotOurs {
                schema,
                why: "its comment does not say that it is a rehearsal's".into(),
            }))
        }
        done => done.map(drop).map_err(doing()),
    }
}
