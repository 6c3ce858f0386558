//! The record of the shared schema: what its migrations left.
//!
//! Its files are never run to find that out. What it holds is looked at before a migration and after, and what changed is
//! applied to the record: what was there by hand before stays out of it. The look before is kept until the record is
//! written, so that a run that was killed in between is completed by the next. A database without a record, set up by an
//! earlier version, gets it as it is found.
//!
//! A record that another version of cgk wrote is translated (`translate.rs`), so that an upgrade takes nothing that was made by
//! hand into the new one. One of another major version of the server, of a restored dump or of a query that this version
//! does not know stays as it is, and drift names whatever reads differently.
//!
//! From the look before to the record, one run at a time: a second one that looked while the first migrates would find its
//! tables there, and take them to be made by hand.

use super::{
    carry::carried_over,
    found::look,
    record::{self, Snapshot},
    session_lock, translate,
};
use crate::{
    catalogue::Query,
    db::{Operator, message},
    error::{Result, while_doing},
    fleet::interrupt::Interrupt,
    ident::{SchemaName, literal},
    lock,
    migrate::ledger::{self, LedgerDigest},
    migration::Set,
};
use std::collections::BTreeMap;
use tokio_postgres::types::Type;

/// The record's isolation: the same under each, for no role counts as the tenant's.
pub(crate) const ANY_ISOLATION: &str = "any";
/// The record while a migration is under way: what was found before it, and what was on record.
const BEFORE: &str = "before";
const GIVEN: &str = "given";

/// Migrates the shared schema and records what that changed, however it ends.
///
/// # Errors
///
/// Those of the work first. Kind `Locked`: another run migrates the shared schema.
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

/// Changes the ledger of the shared schema and not the schema: the record is found by the ledger, and follows it.
///
/// # Errors
///
/// Those of the work. Kind `Locked`: another run migrates the shared schema. Without a record drift compares nothing and says
/// so; a failure to write it is logged.
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

/// Begins a migration of the shared schema: looks at it, and keeps that.
async fn begin(operator: &Operator) -> Result<()> {
    let tables = read_rows(operator).await?;
    if tables.is_none() {
        record::create_tables(operator).await?;
    }
    let rows = tables.unwrap_or_default().rows;
    // A run was cut short: what it looked at before still holds.
    if rows.contains_key(BEFORE) && rows.contains_key(GIVEN) {
        return Ok(());
    }
    let (digest, is_new) = ledger_digest(operator).await?;
    let before = look(operator, Query::CURRENT).await?;
    let given = match rows.get(&digest) {
        Some(given) => given.clone(),
        None if is_new => Vec::new(),
        None => before.objects.clone(),
    };
    let given = Snapshot { fingerprint: String::new(), objects: given };
    write(operator, &[(BEFORE, &before), (GIVEN, &given)], "").await
}

/// Ends it, however it went: records what it changed.
async fn end(operator: &Operator) -> Result<()> {
    let rows = read_rows(operator).await?.unwrap_or_default().rows;
    let (Some(before), Some(given)) = (rows.get(BEFORE), rows.get(GIVEN)) else { return Ok(()) };
    let after = look(operator, Query::CURRENT).await?;
    let objects = carried_over(given, before, &after.objects);
    let (digest, _) = ledger_digest(operator).await?;
    let snapshot = Snapshot { fingerprint: String::new(), objects };
    write(operator, &[(digest.as_str(), &snapshot)], "delete from public.cgk_references where set_name = 'public';\n")
        .await
}

/// Records the shared schema as it is, where there is no record of it in this state. A record of another version is written
/// anew as it is translated.
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

/// Whether there is a record of it that this version wrote, or nothing to record.
async fn is_recorded(operator: &Operator) -> Result<bool> {
    let rows = read_rows(operator).await?;
    let (digest, is_new) = ledger_digest(operator).await?;
    Ok(is_new || rows.as_ref().is_some_and(|found| found.rows.contains_key(&digest) && !found.are_translated))
}

/// The objects on record for the shared schema as its ledger is now; `None` where there is no such record.
pub(crate) async fn given(operator: &Operator) -> Result<Option<Vec<String>>> {
    let Some(RecordedRows { mut rows, .. }) = read_rows(operator).await? else { return Ok(None) };
    let (digest, _) = ledger_digest(operator).await?;
    Ok(rows.remove(&digest))
}

/// Records objects for the shared schema as its ledger is now.
async fn keep(operator: &Operator, objects: Vec<String>) -> Result<()> {
    let (digest, _) = ledger_digest(operator).await?;
    let snapshot = Snapshot { fingerprint: String::new(), objects };
    write(operator, &[(digest.as_str(), &snapshot)], "delete from public.cgk_references where set_name = 'public';\n")
        .await
}

/// The records by their ledger's digest.
#[derive(Default)]
struct RecordedRows {
    rows: BTreeMap<String, Vec<String>>,
    /// Whether any of them was found in other circumstances than these.
    are_translated: bool,
}

/// Reads the records as this version of cgk would have written them; `None` where there is no table of them.
async fn read_rows(operator: &Operator) -> Result<Option<RecordedRows>> {
    let sql = format!(
        "select ledger, objects, context, context = {} from public.cgk_references where set_name = 'public' and isolation = $1",
        record::texts_sql()
    );
    let found = match operator.client().query_typed(&sql, &[(&ANY_ISOLATION, Type::TEXT)]).await {
        Err(error) if record::is_missing_table(&error) => return Ok(None),
        found => found.map_err(|error| record::reading(operator, error))?,
    };
    let doing = || while_doing("read what the migrations make");
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

/// The digest of the ledger as it is, and whether there is none yet.
async fn ledger_digest(operator: &Operator) -> Result<(String, bool)> {
    let read = ledger::read(operator, &SchemaName::public()).await?;
    Ok((LedgerDigest::of(&read.rows).as_str().to_owned(), read.rows.is_empty()))
}

async fn write(operator: &Operator, rows: &[(&str, &Snapshot)], first: &str) -> Result<()> {
    let isolation = literal(ANY_ISOLATION);
    let mut sql = first.to_owned();
    for (ledger, snapshot) in rows {
        sql.push_str(&record::write_sql(Set::Public, &isolation, ledger, 0, snapshot));
    }
    let doing = || while_doing("record what the migrations make");
    message::run(operator.client(), &sql).await.map_err(doing())?.complete().map(drop).map_err(doing())
}
