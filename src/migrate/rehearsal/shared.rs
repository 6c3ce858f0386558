//! The record of the shared schema: the objects that its migrations created.
//!
//! The shared schema's files are never rehearsed. Its objects are read before and after a migration, and the
//! differences are applied to the record. So objects that were created by hand are not recorded. The first snapshot is
//! stored until the record is written, so that the next run completes the work of a killed one. A database of an
//! earlier version has no record, and its current objects become the record.
//!
//! A record of another version of cgk is translated (`translate.rs`), so that an upgrade adds no manual changes to it.
//! A record of another major version of the server, of a restored dump, or of an unknown query stays unchanged, and
//! drift reports every difference.
//!
//! From the first snapshot to the record, only one run may work. A second run that reads the schema during the
//! migration would treat its new tables as created by hand.

use super::{
    carry::carried_over,
    record::{self, SchemaSnapshot},
    session_lock,
    snapshot::read_shared_schema,
    translate,
};
use crate::{
    catalogue::Query,
    db::{Operator, message, own_objects::OwnObject},
    error::{Result, while_doing},
    fleet::interrupt::Interrupt,
    ident::{SchemaName, literal},
    lock,
    migrate::ledger::{self, LedgerDigest},
    migration::Set,
};
use std::collections::BTreeMap;
use tokio_postgres::types::Type;

/// The isolation in the record. It is the same for both modes, because the record contains no tenant's role.
pub(crate) const ANY_ISOLATION: &str = "any";
/// The record during a migration: the snapshot before it, and the previous record.
const BEFORE: &str = "before";
const GIVEN: &str = "given";
/// What the migrations have created when a run has stopped in a file without a transaction.
const STARTED: &str = "started";
const DELETE: &str = "delete from public.cgk_references where set_name = 'public';\n";
const DELETE_ENDED: &str =
    "delete from public.cgk_references where set_name = 'public' and ledger not in ('before', 'given', 'started');\n";
const DELETE_UNFINISHED: &str = "delete from public.cgk_references where set_name = 'public' and \
     ledger in ('before', 'given', 'started');\n";

/// Migrates the shared schema and records the changes, whether it succeeds or not.
///
/// # Errors
///
/// The errors of the work have precedence. Kind `Locked`: another run migrates the shared schema.
pub(crate) async fn recorded<T>(
    operator: &Operator,
    interrupt: &Interrupt,
    work: impl AsyncFnOnce() -> Result<T>,
) -> Result<T> {
    locked(operator, interrupt, async || {
        begin(operator).await?;
        let done = work().await;
        let recorded = end(operator).await;
        let done = done?;
        recorded.map(|()| done)
    })
    .await
}

/// Changes the ledger of the shared schema but not the schema. The record's key is the ledger's digest, so the record
/// gets a new key.
///
/// # Errors
///
/// The errors of the work. Kind `Locked`: another run migrates the shared schema. Without a record, drift compares
/// nothing and reports that. A failure to write it is logged.
pub(crate) async fn with_new_ledger<T>(operator: &Operator, work: impl AsyncFnOnce() -> Result<T>) -> Result<T> {
    locked(operator, &Interrupt::default(), async || {
        let known = given(operator).await.unwrap_or_default();
        let done = work().await?;
        if let Some(objects) = known
            && let Err(error) = keep(operator, objects).await
        {
            tracing::warn!(%error, "no record of what the migrations create");
        }
        Ok(done)
    })
    .await
}

async fn locked<T>(operator: &Operator, interrupt: &Interrupt, work: impl AsyncFnOnce() -> Result<T>) -> Result<T> {
    session_lock::hold(operator, interrupt, lock::shared_record_key(), &SchemaName::public(), work).await
}

/// Starts a migration of the shared schema: takes a snapshot and stores it.
async fn begin(operator: &Operator) -> Result<()> {
    let tables = read_rows(operator).await?;
    if tables.is_none() {
        record::create_tables(operator).await?;
    }
    let rows = tables.unwrap_or_default().rows;
    let now = SharedLedger::read(operator).await?;
    // A run was killed after it had changed something, or in a file without a transaction: its first snapshot is still
    // valid.
    if rows.contains_key(BEFORE) && rows.contains_key(GIVEN) && (now.has_steps || !rows.contains_key(&now.digest)) {
        return Ok(());
    }
    let before = read_shared_schema(operator, Query::CURRENT).await?;
    let started = rows.get(STARTED).filter(|_| now.has_steps);
    let given = match started.or_else(|| rows.get(&now.digest)) {
        Some(given) => given.clone(),
        None if now.is_new => Vec::new(),
        None => before.objects.clone(),
    };
    let given = SchemaSnapshot { fingerprint: String::new(), objects: given };
    write(operator, &[(BEFORE, &before), (GIVEN, &given)], DELETE_UNFINISHED).await
}

/// Ends a migration, whether it succeeded or not: records the changes. If it stopped in a file without a transaction,
/// the changes belong to no state of the ledger. They are stored for the run that continues the file.
async fn end(operator: &Operator) -> Result<()> {
    let Some((_, given)) = changed(operator).await? else { return Ok(()) };
    let now = SharedLedger::read(operator).await?;
    match now.has_steps {
        true => write(operator, &[(STARTED, &given)], DELETE_UNFINISHED).await,
        false => write(operator, &[(now.digest.as_str(), &given)], DELETE).await,
    }
}

/// Records the changes so far, before a file without a transaction. If a run stops in it, the state before it is known.
pub(in crate::migrate) async fn checkpoint(operator: &Operator) -> Result<()> {
    let now = SharedLedger::read(operator).await?;
    if now.has_steps {
        return Ok(());
    }
    let Some((before, given)) = changed(operator).await? else { return Ok(()) };
    write(operator, &[(now.digest.as_str(), &given), (BEFORE, &before), (GIVEN, &given)], DELETE).await
}

/// Returns the current objects of the shared schema, and those that the migrations have created; `None` outside of a
/// migration.
async fn changed(operator: &Operator) -> Result<Option<(SchemaSnapshot, SchemaSnapshot)>> {
    let rows = read_rows(operator).await?.unwrap_or_default().rows;
    let (Some(before), Some(given)) = (rows.get(BEFORE), rows.get(GIVEN)) else { return Ok(None) };
    let after = read_shared_schema(operator, Query::CURRENT).await?;
    let objects = carried_over(given, before, &after.objects);
    Ok(Some((after, SchemaSnapshot { fingerprint: String::new(), objects })))
}

/// Records the current shared schema if there is no record for this state. A record of another version is translated
/// and written again.
pub(crate) async fn ensure(operator: &Operator) -> Result<()> {
    if is_recorded(operator).await? {
        return Ok(());
    }
    locked(operator, &Interrupt::default(), async || {
        // Another run may have recorded it meanwhile.
        if is_recorded(operator).await? {
            return Ok(());
        }
        match given(operator).await? {
            Some(translated) => keep(operator, translated).await,
            None => {
                begin(operator).await?;
                end(operator).await
            }
        }
    })
    .await
}

/// Whether a record of this version exists, or there is nothing to record.
async fn is_recorded(operator: &Operator) -> Result<bool> {
    let rows = read_rows(operator).await?;
    let SharedLedger { digest, is_new, .. } = SharedLedger::read(operator).await?;
    Ok(is_new || rows.as_ref().is_some_and(|found| found.rows.contains_key(&digest) && !found.are_translated))
}

/// Returns the recorded objects of the shared schema for its current ledger; `None` if there is no such record.
pub(crate) async fn given(operator: &Operator) -> Result<Option<Vec<String>>> {
    let Some(RecordedRows { mut rows, .. }) = read_rows(operator).await? else { return Ok(None) };
    Ok(rows.remove(&SharedLedger::read(operator).await?.digest))
}

/// Records objects of the shared schema for its current ledger.
async fn keep(operator: &Operator, objects: Vec<String>) -> Result<()> {
    let now = SharedLedger::read(operator).await?;
    let snapshot = SchemaSnapshot { fingerprint: String::new(), objects };
    // The first snapshot of a migration that has stopped is still needed.
    let delete = if now.has_steps { DELETE_ENDED } else { DELETE };
    write(operator, &[(now.digest.as_str(), &snapshot)], delete).await
}

/// The records by the digest of their ledger.
#[derive(Default)]
struct RecordedRows {
    rows: BTreeMap<String, Vec<String>>,
    /// Whether any of them was made under other conditions.
    are_translated: bool,
}

/// Reads the records as this version of cgk would have written them; `None` if their table does not exist.
async fn read_rows(operator: &Operator) -> Result<Option<RecordedRows>> {
    if !operator.has(OwnObject::References).await? {
        return Ok(None);
    }
    let sql = format!(
        "select ledger, objects, context, context = {} from public.cgk_references where set_name = 'public' and \
         isolation = $1",
        record::texts_sql()
    );
    let found = match operator.client().query_typed(&sql, &[(&ANY_ISOLATION, Type::TEXT)]).await {
        Err(error) if record::is_missing_table(&error) => return Ok(None),
        found => found.map_err(|error| record::reading(operator, error))?,
    };
    let doing = || while_doing("read the recorded result of the migrations");
    let mut read = RecordedRows::default();
    let mut now = translate::Looks::default();
    for row in found {
        let (ledger, mut objects): (String, Vec<String>) =
            (row.try_get(0).map_err(doing())?, row.try_get(1).map_err(doing())?);
        let (context, is_current): (String, bool) =
            (row.try_get(2).map_err(doing())?, row.try_get(3).map_err(doing())?);
        if !is_current {
            read.are_translated = true;
            objects = now.translated(operator, record::query_in(&context), objects).await?;
        }
        read.rows.insert(ledger, objects);
    }
    Ok(Some(read))
}

/// The current state of the shared schema's ledger.
struct SharedLedger {
    digest: String,
    /// Whether it has no row yet.
    is_new: bool,
    /// Whether a file without a transaction may be partially applied.
    has_steps: bool,
}

impl SharedLedger {
    async fn read(operator: &Operator) -> Result<Self> {
        let read = ledger::read(operator, &SchemaName::public()).await?;
        Ok(Self {
            digest: LedgerDigest::of(&read.rows).as_str().to_owned(),
            is_new: read.rows.is_empty(),
            has_steps: read.has_steps,
        })
    }
}

async fn write(operator: &Operator, rows: &[(&str, &SchemaSnapshot)], first: &str) -> Result<()> {
    let isolation = literal(ANY_ISOLATION);
    let mut sql = first.to_owned();
    for (ledger, snapshot) in rows {
        sql.push_str(&record::write_sql(Set::Public, &isolation, ledger, 0, snapshot));
    }
    let doing = || while_doing("record the result of the migrations");
    message::run(operator.client(), &sql).await.map_err(doing())?.complete().map(drop).map_err(doing())
}
