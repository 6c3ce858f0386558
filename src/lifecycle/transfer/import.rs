//! Creates a tenant from a file.

use super::{
    archive::{Archive, HeadPartition, HeadTable, TailSequence},
    contents::{Partition, RowSecurity, Sequence, Table},
    export::TransferObserver,
    load::{after_sql, before_sql, settings_sql},
    rows::{RowSum, ValueMap},
    target::{FillTenant, TargetFiles, TargetTenant, create_filled, tables_of},
};
use crate::{
    db::Operator,
    error::{Error, Result, TransferError, while_doing},
    ident::SchemaName,
    lifecycle::create::CreateOptions,
    migrate::Migrations,
    registry,
    slug::TenantSlug,
    tenant::{OrganizationId, Tenant},
};
use bytes::Bytes;
use futures_util::{SinkExt as _, TryStreamExt as _};
use std::{pin::pin, sync::Arc};
use tokio::sync::mpsc;
use uuid::Uuid;

/// How many pieces of rows can wait for the server.
const PIECES_WAITING_MAX: usize = 4;

/// Options for an import.
#[derive(Clone, Debug, Default)]
pub struct ImportOptions {
    slug: Option<TenantSlug>,
    name: Option<String>,
}

impl ImportOptions {
    /// Imports the tenant under another slug, as a new organization. Default: the slug and the organization of the
    /// file.
    pub fn slug(mut self, slug: TenantSlug) -> Self {
        self.slug = Some(slug);
        self
    }

    /// Sets the display name. Default: that of the file; if another slug is set, the slug.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }
}

/// The result of an import.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Imported {
    /// The tenant.
    pub tenant: Tenant,
    /// The number of tables that were loaded, including those without rows in the file.
    pub tables: usize,
    /// The number of rows.
    pub rows: u64,
    /// Whether the tenant has another organization than the file.
    pub is_new_organization: bool,
    /// The number of columns in which the file's organization was replaced by the new one.
    pub mapped_columns: usize,
    /// The number of migrations that were applied after the load, because the file is older than the set.
    pub migrated: usize,
}

/// Creates a tenant with the data of a file. One transaction applies the migrations up to those of the file, and loads
/// the rows and sequences. Then the migrations that are newer than the file are applied. Before the commit, every table
/// is read again and compared with the file, by its number of rows and their checksum.
///
/// With the slug of the file, the tenant keeps its organization's id. With another slug it gets a new id. The rows get
/// the new id too, if they have the old one in a column that is filled with the transaction's organization. This is a
/// column whose default value reads `app.current_organization_id`, or that references such a column. Other values, and
/// ids inside of texts or JSON, are not changed.
///
/// # Locks
///
/// Those of [`create`](crate::lifecycle::create()), until the commit. If a migration adds a foreign key to a shared
/// table, that table is locked against writes until the commit.
///
/// # Committed when
///
/// Everything up to the migrations of the file in one transaction. If the set has newer migrations, the tenant is
/// `onboarding` until they are applied, and cannot be entered. If one of them fails, `cgk tenant:create` continues.
///
/// If a row has a value that a migration adds to an enum, there are two transactions, because the server allows its use
/// only after a commit. The first creates the tenant without rows, with the mark of a started drop. Migrations that
/// cannot run in one transaction are applied before the rows in the same way.
///
/// # Errors
///
/// - Kind `Conflict`: the tenant or its organization exists ([`TransferError::Exists`]), or the migrations do not
///   create what the file contains ([`TransferError::NotInSet`]).
/// - Kind `Drift`: the file's ledger does not match the set.
/// - Kind `Refused`: the migrations cannot run in one transaction and the set has newer ones, or the loaded rows differ
///   from the file.
/// - Those of [`create`](crate::lifecycle::create()).
///
/// # Cancel safety
///
/// If the future is dropped before the commit, nothing is changed. Between two commits, the tenant without rows
/// remains: [`drop_tenant`](crate::lifecycle::drop_tenant()) removes it.
pub async fn import(
    operator: &Operator,
    migrations: &Migrations,
    archive: Archive,
    options: &ImportOptions,
    observer: &mut dyn TransferObserver,
) -> Result<Imported> {
    let slug = options.slug.as_ref().unwrap_or(archive.slug()).clone();
    let is_new_organization = slug != *archive.slug();
    let id = if is_new_organization { OrganizationId(Uuid::new_v4()) } else { archive.organization() };
    let name = match &options.name {
        Some(name) => name.clone(),
        None if is_new_organization => slug.to_string(),
        None => archive.name().to_owned(),
    };
    let mut making = CreateOptions::default().name(name);
    making.organization = Some(id);
    let schema = SchemaName::of_tenant(&slug);
    let files = TargetFiles::of(migrations, &schema, archive.ledger())?;
    refuse_existing(operator, &slug, id).await?;
    let archive = Arc::new(archive);
    let fill = FillFromArchive { archive: Arc::clone(&archive), observer };
    let (mapped_columns, tenant, migrated) =
        create_filled(operator, &files, &slug, &making, (id, "read committed"), fill).await?;
    let (tables, rows) = (archive.tables(), archive.rows());
    Ok(Imported { tenant, tables, rows, is_new_organization, mapped_columns, migrated })
}

async fn refuse_existing(operator: &Operator, slug: &TenantSlug, id: OrganizationId) -> Result<()> {
    registry::require(operator).await?;
    match registry::slug_of(operator, id.uuid()).await? {
        Some(other) => {
            let by = vec![format!("organization {id} exists, its slug is {other}")];
            Err(TransferError::Exists { tenant: slug.clone(), by }.into())
        }
        None => Ok(()),
    }
}

struct FillFromArchive<'a> {
    archive: Arc<Archive>,
    observer: &'a mut dyn TransferObserver,
}

impl FillTenant for FillFromArchive<'_> {
    /// How many columns got the new organization.
    type Filled = usize;

    async fn fill(&mut self, target: &TargetTenant<'_>) -> Result<usize> {
        Load { target, archive: Arc::clone(&self.archive) }.inside(self.observer).await
    }
}

/// One import.
struct Load<'a> {
    target: &'a TargetTenant<'a>,
    archive: Arc<Archive>,
}

impl Load<'_> {
    /// Runs the statements of the transaction. Returns how many columns were mapped.
    async fn inside(&self, observer: &mut dyn TransferObserver) -> Result<usize> {
        let (target, archive) = (self.target, &self.archive);
        target.create().await?;
        target.send(&settings_sql(&target.operator.search_path().of(target.schema))).await?;
        let partitions: Vec<Partition> = archive.head.partitions.iter().map(partition).collect();
        let mut contents = target.contents(&partitions).await?;
        contents.refuse_uncopyable(target.schema, RowSecurity::Bypassed)?;
        let sequences: Vec<Sequence> = archive.tail.sequences.iter().map(sequence).collect();
        let names = sequences.iter().map(|sequence| sequence.name.as_str());
        let tables = tables_of(&contents, archive.head.tables.iter().map(names_of), names)?;
        let of_file = archive.head.tables.iter().zip(&archive.tail.tables);
        let sizes = of_file.map(|(head, tail)| (head.name.as_str(), tail.bytes));
        contents.read_indexes(target.operator, target.schema, sizes).await?;
        target.send(&before_sql(target.schema, &contents)).await?;
        let mut progress = ImportProgress { slug: target.slug, done: 0, total: archive.text_bytes(), observer };
        let mapped =
            if target.id == archive.organization() { Default::default() } else { contents.organization_columns() };
        let mut mapped_columns = 0;
        for (number, table) in tables.iter().enumerate() {
            let is_mapped: Vec<bool> = table
                .columns
                .iter()
                .map(|column| mapped.contains(&(table.name.clone(), column.name.clone())))
                .collect();
            mapped_columns += is_mapped.iter().filter(|is_mapped| **is_mapped).count();
            let sent = self.load(number, table, is_mapped, &mut progress).await?;
            self.compare(number, table, sent).await?;
        }
        target.send(&after_sql(target.schema, &contents, &sequences, &archive.tail.populated_views)).await?;
        Ok(mapped_columns)
    }

    /// Loads a table. Returns the sum of the rows that were sent, if they are not those of the file.
    async fn load(
        &self,
        number: usize,
        table: &Table,
        is_mapped: Vec<bool>,
        progress: &mut ImportProgress<'_>,
    ) -> Result<Option<RowSum>> {
        let doing = || while_doing(format!("load table {} of schema {:?}", table.name, self.target.schema.as_str()));
        let copy = table.copy_in_sql(self.target.schema);
        let rows = self.target.operator.client().copy_in::<_, Bytes>(&copy).await.map_err(doing())?;
        let mut rows = pin!(rows);
        let (pieces, mut waiting) = mpsc::channel(PIECES_WAITING_MAX);
        let (archive, from, to) =
            (self.archive.clone(), self.archive.organization().to_string(), self.target.id.to_string());
        let reader = tokio::task::spawn_blocking(move || {
            let map = is_mapped.contains(&true).then(|| ValueMap::new(&from, &to, is_mapped));
            read(&archive, number, map, &pieces)
        });
        while let Some((piece, bytes)) = waiting.recv().await {
            rows.send(piece).await.map_err(doing())?;
            progress.advance(bytes);
        }
        // Without `finish`, the server does not insert the rows that were sent.
        let sent = reader.await.map_err(|source| unread(table, &source))??;
        rows.finish().await.map_err(doing())?;
        Ok(sent)
    }

    /// Reads a loaded table as an export does, and compares it with the rows that were sent: with the sum in the file,
    /// which is that of the rows when they were exported, or with `sent`.
    async fn compare(&self, number: usize, table: &Table, sent: Option<RowSum>) -> Result<()> {
        let doing = || while_doing(format!("compare table {} of schema {:?}", table.name, self.target.schema.as_str()));
        let rows =
            self.target.operator.client().copy_out(&table.copy_out_sql(self.target.schema)).await.map_err(doing())?;
        let mut rows = pin!(rows);
        let mut found = RowSum::default();
        while let Some(row) = rows.try_next().await.map_err(doing())? {
            found.add(&row);
        }
        let of_file = &self.archive.tail.tables[number];
        let wanted = sent.map_or((of_file.rows, of_file.checksum.clone()), |sent| (sent.rows, sent.checksum()));
        let problem = match (found.rows == wanted.0, found.checksum() == wanted.1) {
            (true, true) => return Ok(()),
            (true, false) => "the checksum of its rows is not that of the file".to_owned(),
            (false, _) => format!("it has {} rows, and the file has {}", found.rows, wanted.0),
        };
        // The file can have been changed after it was checked.
        let archive = self.archive.clone();
        let check = tokio::task::spawn_blocking(move || {
            let mut sum = RowSum::default();
            archive.read_rows(number, |piece| {
                sum.add(&piece);
                true
            })?;
            refuse_damaged(&archive, number, &sum)
        });
        check.await.map_err(|source| unread(table, &source))??;
        Err(TransferError::NotEqual { table: table.name.clone(), problem }.into())
    }
}

fn unread(table: &Table, source: &tokio::task::JoinError) -> Error {
    Error::Unexpected { doing: format!("read the rows of table {}", table.name), found: source.to_string() }
}

/// Refuses rows of the file that are not those that were exported.
fn refuse_damaged(archive: &Archive, table: usize, sum: &RowSum) -> Result<()> {
    let (wanted, name) = (&archive.tail.tables[table], &archive.head.tables[table].name);
    if sum.checksum() == wanted.checksum && sum.rows == wanted.rows {
        return Ok(());
    }
    let problem = format!("the rows of table {name} are not those that were written");
    Err(TransferError::Damaged { problem }.into())
}

/// Returns a table and its columns.
fn names_of(of_file: &HeadTable) -> (&str, Vec<&str>) {
    (&of_file.name, of_file.columns.iter().map(String::as_str).collect())
}

fn partition(of_file: &HeadPartition) -> Partition {
    let HeadPartition { name, parent, bound, is_leaf } = of_file.clone();
    Partition { name, parent, bound, is_leaf }
}

fn sequence(of_file: &TailSequence) -> Sequence {
    let TailSequence { name, last_value, is_called } = of_file.clone();
    Sequence { name, last_value, is_called }
}

struct ImportProgress<'r> {
    slug: &'r TenantSlug,
    done: u64,
    total: u64,
    observer: &'r mut dyn TransferObserver,
}

impl ImportProgress<'_> {
    fn advance(&mut self, bytes: u64) {
        self.done += bytes;
        self.observer.moved(self.slug, self.done, self.total);
    }
}

/// Reads a table of the file. Returns the sum of the rows that are sent, if a map changes them.
fn read(
    archive: &Archive,
    table: usize,
    map: Option<ValueMap>,
    pieces: &mpsc::Sender<(Bytes, u64)>,
) -> Result<Option<RowSum>> {
    let Some(mut map) = map else {
        archive.read_rows(table, |piece| {
            let bytes = piece.len() as u64;
            pieces.blocking_send((piece.into(), bytes)).is_ok()
        })?;
        return Ok(None);
    };
    let (mut of_file, mut sent) = (RowSum::default(), RowSum::default());
    archive.read_rows(table, |piece| {
        let bytes = piece.len() as u64;
        of_file.add(&piece);
        let mapped = map.map(&piece);
        sent.add(&mapped);
        pieces.blocking_send((mapped.into(), bytes)).is_ok()
    })?;
    refuse_damaged(archive, table, &of_file)?;
    Ok(Some(sent))
}
