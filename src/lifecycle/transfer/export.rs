//! Writes a tenant to a file.

use super::{
    archive::{Block, Head, HeadPartition, HeadTable, Output, PIECE_BYTES_MAX, Tail, TailSequence, TailTable},
    contents::{Contents, Partition, RowSecurity, Table},
    fields::FieldReader,
    load::settings_sql,
    rows::RowSum,
    source::SourceTenant,
};
use crate::{
    db::{Operator, message},
    error::{Error, Result, TransferError, while_doing},
    ident::{SchemaName, literal},
    migrate::ledger,
    registry::SHORT_LOCK_WAIT,
    slug::TenantSlug,
    tenant::Tenant,
};
use bytes::BytesMut;
use futures_util::{TryStreamExt as _, future::try_join_all};
use std::{
    fs,
    io::{self, Write},
    num::NonZeroUsize,
    path::{Path, PathBuf},
    pin::pin,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};
use tokio::task::JoinHandle;

/// A higher level makes files a few per cent smaller, and takes several times as long.
const ZSTD_LEVEL: i32 = 1;

/// Receives the progress of an export or an import.
pub trait TransferObserver: Send {
    /// Called when `bytes` bytes of the tenant's rows, as text, are finished. `of` is the total; for an export it is an
    /// estimate.
    fn moved(&mut self, tenant: &TenantSlug, bytes: u64, of: u64) {
        let _ = (tenant, bytes, of);
    }
}

/// Ignores every event.
impl TransferObserver for crate::migrate::Silent {}

/// Options for an export.
#[derive(Clone, Debug, Default)]
pub struct ExportOptions {
    jobs: Option<NonZeroUsize>,
    existing: ExistingFile,
}

/// What an export does if the file exists.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ExistingFile {
    /// Refuses it with [`TransferError::FileExists`]. The default.
    #[default]
    Refuse,
    /// Replaces it when the new file is complete.
    Replace,
}

impl ExportOptions {
    /// Sets how many tables are read at once, with a connection each. Default: one.
    pub fn jobs(mut self, jobs: NonZeroUsize) -> Self {
        self.jobs = Some(jobs);
        self
    }

    /// Sets what happens if the file exists. Default: the export is refused.
    pub fn existing(mut self, existing: ExistingFile) -> Self {
        self.existing = existing;
        self
    }
}

/// The result of an export.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Exported {
    /// The tenant.
    pub tenant: Tenant,
    /// The number of tables.
    pub tables: usize,
    /// The number of rows.
    pub rows: u64,
    /// The size of the rows as text.
    pub text_bytes: u64,
    /// The size of the file.
    pub file_bytes: u64,
    /// Foreign tables, whose rows are not in the file.
    pub left_out: Vec<String>,
}

/// Exports the data of a tenant: the rows of its tables, the values of its sequences, its ledger and its organization,
/// as one snapshot. The file contains no definitions of tables. [`import`](super::import()) creates them with the
/// migrations.
///
/// # Locks
///
/// Until the export ends:
///
/// - on a separate connection, the tenant's lock ([`tenant_key`](crate::lock::tenant_key)) and the schema's migration
///   lock, both shared
/// - on each connection that reads, `access share` on every table. These locks are taken before the snapshot, and each
///   waits at most `session.lock_timeout`.
///
/// Services can use the tenant as before. Its migrations, a rename, a drop, and TRUNCATE and ALTER TABLE of its tables
/// wait. In the whole database, VACUUM cannot remove rows that are newer than the snapshot.
///
/// # Committed when
///
/// Writes nothing to the database.
///
/// # Errors
///
/// - Kind `NotFound`: there is no such tenant.
/// - Kind `NotReady`: the tenant is still being created, or its schema does not exist.
/// - Kind `Conflict`: the tenant is being dropped, or its schema belongs to another organization.
/// - Kind `Refused`: the tenant contains objects that cannot be copied ([`TransferError::NotCopyable`]), or `output`
///   cannot be written ([`TransferError::File`]).
/// - Kind `Locked`: a migration of the tenant takes longer than `session.migration_wait`, or a table is locked against
///   readers ([`TransferError::TableLocked`]).
/// - Kind `Drift`: a migration of the tenant has stopped halfway.
/// - Kind `Unavailable`: the server has terminated a session of the export, or tables were created or dropped meanwhile
///   ([`TenantError::Changed`](crate::TenantError::Changed)).
///
/// # Cancel safety
///
/// If the future is dropped, the output is incomplete, and every import refuses it.
pub async fn export(
    operator: &Operator,
    slug: &TenantSlug,
    output: impl Write + Send + 'static,
    options: &ExportOptions,
    observer: &mut dyn TransferObserver,
) -> Result<Exported> {
    let run = Export { operator, source: SourceTenant::lock(operator, slug, "tenant:export").await? };
    let output = Output::new(output);
    let written = run.write(&output, options, observer).await;
    let finished = output.finish().await;
    let (tail, tables) = match (written, &finished) {
        // The channel is closed because a write failed.
        (Ok(None), Err(_)) => (None, 0),
        (written, _) => written?.map_or((None, 0), |(tail, tables)| (Some(tail), tables)),
    };
    let doing = format!("write the export of tenant {slug}");
    let file_bytes = finished.map_err(|source| TransferError::File { doing: doing.clone(), source })?;
    let tail = tail.ok_or_else(|| Error::Unexpected { doing, found: "the output ended early".into() })?;
    Ok(Exported {
        tenant: run.source.tenant,
        tables,
        rows: tail.tables.iter().map(|table| table.rows).sum(),
        text_bytes: tail.tables.iter().map(|table| table.bytes).sum(),
        file_bytes,
        left_out: tail.left_out,
    })
}

/// Exports a tenant like [`export`], to a file. The file gets its name when it is complete and on disk. Until then, its
/// name is `.NAME.partial-…` in the same folder.
///
/// # Errors
///
/// Those of [`export`].
///
/// - Kind `Conflict`: the file exists ([`ExistingFile`]).
/// - Kind `Refused`: the path is a symbolic link, a device, a pipe or a folder ([`TransferError::NotAFile`]).
///
/// # Cancel safety
///
/// If the future is dropped, the partial file is deleted. A killed process does not delete it.
pub async fn export_to_file(
    operator: &Operator,
    slug: &TenantSlug,
    path: &Path,
    options: &ExportOptions,
    observer: &mut dyn TransferObserver,
) -> Result<Exported> {
    let refuse = options.existing == ExistingFile::Refuse;
    match path.symlink_metadata() {
        Ok(_) if refuse => return Err(TransferError::FileExists { path: path.to_owned() }.into()),
        Ok(found) if !found.is_file() => return Err(TransferError::NotAFile { path: path.to_owned() }.into()),
        _ => {}
    }
    let failed = |source| TransferError::File { doing: format!("write {}", path.display()), source };
    let partial = Partial::beside(path).map_err(failed)?;
    let file = fs::File::options().write(true).create_new(true).open(&partial.0).map_err(failed)?;
    let exported = export(operator, slug, file.try_clone().map_err(failed)?, options, observer).await?;
    tokio::task::spawn_blocking(move || file.sync_all()).await.map_err(io::Error::other).flatten().map_err(failed)?;
    if refuse {
        // Unlike a rename, this fails if the file was created meanwhile.
        match fs::hard_link(&partial.0, path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                return Err(TransferError::FileExists { path: path.to_owned() }.into());
            }
            Ok(()) => {
                partial.sync_folder().map_err(failed)?;
                return Ok(exported);
            }
            // The file system does not support hard links.
            Err(_) => {}
        }
    }
    fs::rename(&partial.0, path).map_err(failed)?;
    partial.sync_folder().map_err(failed)?;
    Ok(exported)
}

/// An incomplete file. It is deleted when this value is dropped.
struct Partial(PathBuf);

impl Partial {
    fn beside(path: &Path) -> io::Result<Self> {
        let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
        let unique = &uuid::Uuid::new_v4().simple().to_string()[..8];
        Ok(Self(path.with_file_name(format!(".{}.partial-{unique}", name.to_string_lossy()))))
    }
}

impl Partial {
    /// Writes the file names of its folder to disk. File systems that do not support this return that it is invalid.
    fn sync_folder(&self) -> io::Result<()> {
        let folder = self.0.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        match fs::File::open(folder)?.sync_all() {
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => Ok(()),
            synced => synced,
        }
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        // After a rename, there is no file to delete.
        let _ = fs::remove_file(&self.0);
    }
}

/// One export.
struct Export<'o> {
    operator: &'o Operator,
    source: SourceTenant,
}

impl Export<'_> {
    /// Writes everything. Returns the tail and the number of tables; `None` if the output has failed.
    async fn write(
        &self,
        output: &Output,
        options: &ExportOptions,
        observer: &mut dyn TransferObserver,
    ) -> Result<Option<(Tail, usize)>> {
        let first = self.operator.sibling().await?;
        let path = self.operator.search_path().of(&self.source.schema);
        let locked = self.source.table_names().await?;
        send(&first, BEGIN).await?;
        self.source.lock_tables(&first, &locked, first.session().lock_timeout).await?;
        send(&first, &settings_sql(&path)).await?;
        let contents = self.source.contents(&first, &locked).await?;
        contents.refuse_uncopyable(&self.source.schema, RowSecurity::of(&first).await?)?;
        let head = self.head(&first, &contents).await?;
        if !output.send(Block::Head(Box::new(head))).await {
            return Ok(None);
        }
        let mut connections = vec![first];
        let jobs = options.jobs.map_or(1, NonZeroUsize::get).min(contents.tables.len());
        if jobs > 1 {
            let fields = FieldReader { operator: &connections[0], what: "share the snapshot of an export".into() };
            let rows = fields.rows("select pg_catalog.pg_export_snapshot()").await?;
            let snapshot: String = rows.first().map(|row| fields.of(row, 0)).transpose()?.unwrap_or_default();
            for _ in 1..jobs {
                let sibling = self.operator.sibling().await?;
                send(&sibling, &format!("{BEGIN};\nset transaction snapshot {}", literal(&snapshot))).await?;
                match self.source.lock_tables(&sibling, &locked, SHORT_LOCK_WAIT).await {
                    // A TRUNCATE waits for the first connection, and this connection would wait for the TRUNCATE.
                    Err(Error::Transfer(TransferError::TableLocked { .. })) => break,
                    taken => taken?,
                }
                send(&sibling, &settings_sql(&path)).await?;
                connections.push(sibling);
            }
        }
        let total = contents.tables.iter().map(|table| table.bytes).sum();
        let run = ExportRun {
            schema: &self.source.schema,
            tables: &contents.tables,
            next: AtomicUsize::new(0),
            output,
            progress: Mutex::new(ExportProgress { slug: &self.source.tenant.slug, done: 0, total, observer }),
        };
        let workers = try_join_all(connections.iter().map(|connection| run.work(connection))).await?;
        let mut sums: Vec<(usize, RowSum)> = Vec::with_capacity(contents.tables.len());
        for worker in workers {
            let Some(done) = worker else { return Ok(None) };
            sums.extend(done);
        }
        sums.sort_by_key(|(table, _)| *table);
        let tail = Tail {
            tables: sums.iter().map(|(_, sum)| tail_table(sum)).collect(),
            sequences: contents.sequences.iter().map(tail_sequence).collect(),
            left_out: contents.foreign_tables.clone(),
            populated_views: contents.populated_views(),
        };
        self.source.refuse_unlocked().await?;
        if !output.send(Block::Tail(tail.clone())).await {
            return Ok(None);
        }
        Ok(Some((tail, contents.tables.len())))
    }

    async fn head(&self, connection: &Operator, contents: &Contents) -> Result<Head> {
        let fields = FieldReader { operator: connection, what: "look at the time of the snapshot".into() };
        let rows = fields
            .rows(
                "select pg_catalog.to_char(pg_catalog.now() at time zone 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"')::pg_catalog.text",
            )
            .await?;
        let created_at = rows.first().map(|row| fields.of(row, 0)).transpose()?.unwrap_or_default();
        let facts = connection.facts();
        let table = |table: &Table| HeadTable {
            name: table.name.clone(),
            columns: table.columns.iter().map(|column| column.name.clone()).collect(),
        };
        let partition = |partition: &Partition| HeadPartition {
            name: partition.name.clone(),
            parent: partition.parent.clone(),
            bound: partition.bound.clone(),
            is_leaf: partition.is_leaf,
        };
        Ok(Head {
            cgk: env!("CARGO_PKG_VERSION").into(),
            created_at,
            server_version: facts.version.clone(),
            database: facts.database.clone(),
            database_tag: facts.database_tag().as_str().to_owned(),
            organization: self.source.tenant.id.to_string(),
            slug: self.source.tenant.slug.to_string(),
            name: self.source.tenant.name.clone(),
            ledger: ledger::read(connection, &self.source.schema).await?.rows.iter().map(Into::into).collect(),
            tables: contents.tables.iter().map(table).collect(),
            partitions: contents.partitions.iter().map(partition).collect(),
        })
    }
}

const BEGIN: &str = "begin isolation level repeatable read, read only";

async fn send(connection: &Operator, sql: &str) -> Result<()> {
    let doing = || while_doing("begin the transaction of an export");
    message::run(connection.client(), sql).await.map_err(doing())?.complete().map(drop).map_err(doing())
}

pub(super) fn tail_table(sum: &RowSum) -> TailTable {
    TailTable { rows: sum.rows, bytes: sum.bytes, checksum: sum.checksum() }
}

fn tail_sequence(sequence: &super::contents::Sequence) -> TailSequence {
    let (last_value, is_called) = (sequence.last_value, sequence.is_called);
    TailSequence { name: sequence.name.clone(), last_value, is_called }
}

struct ExportProgress<'r> {
    slug: &'r TenantSlug,
    done: u64,
    total: u64,
    observer: &'r mut dyn TransferObserver,
}

/// The shared state of the workers of one export.
struct ExportRun<'r> {
    schema: &'r SchemaName,
    tables: &'r [Table],
    next: AtomicUsize,
    output: &'r Output,
    progress: Mutex<ExportProgress<'r>>,
}

/// A piece that is being counted and compressed.
type Compressing = JoinHandle<io::Result<(RowSum, Vec<u8>)>>;

impl ExportRun<'_> {
    /// Writes tables until none remains. Returns `None` if the output has failed.
    async fn work(&self, connection: &Operator) -> Result<Option<Vec<(usize, RowSum)>>> {
        let mut done = Vec::new();
        loop {
            let number = self.next.fetch_add(1, Ordering::Relaxed);
            let Some(table) = self.tables.get(number) else { return Ok(Some(done)) };
            match self.table(connection, number, table).await? {
                Some(sum) => done.push((number, sum)),
                None => return Ok(None),
            }
        }
    }

    /// Writes a table. While a piece is compressed, the next one is received.
    async fn table(&self, connection: &Operator, number: usize, table: &Table) -> Result<Option<RowSum>> {
        let doing = || while_doing(format!("read table {} of schema {:?}", table.name, self.schema.as_str()));
        let rows = connection.client().copy_out(&table.copy_out_sql(self.schema)).await.map_err(doing())?;
        let mut rows = pin!(rows);
        let mut text = BytesMut::with_capacity(2 * PIECE_BYTES_MAX);
        let (mut sum, mut under_way): (Option<RowSum>, Option<Compressing>) = (Some(RowSum::default()), None);
        loop {
            let row = rows.try_next().await.map_err(doing())?;
            let is_end = row.is_none();
            text.extend_from_slice(&row.unwrap_or_default());
            while text.len() >= PIECE_BYTES_MAX || (is_end && !text.is_empty()) {
                let piece = text.split_to(text.len().min(PIECE_BYTES_MAX)).freeze();
                self.advance(piece.len());
                if let Some(before) = under_way.take() {
                    let Some(counted) = self.send(number, before).await? else { return Ok(None) };
                    sum = Some(counted);
                }
                let mut sum = sum.take().unwrap_or_default();
                under_way = Some(tokio::task::spawn_blocking(move || {
                    sum.add(&piece);
                    zstd::bulk::compress(&piece, ZSTD_LEVEL).map(|frame| (sum, frame))
                }));
            }
            if is_end {
                break;
            }
        }
        match under_way {
            Some(last) => self.send(number, last).await,
            None => Ok(sum),
        }
    }

    async fn send(&self, number: usize, piece: Compressing) -> Result<Option<RowSum>> {
        let failed = |source| TransferError::File { doing: "write compressed rows".into(), source };
        let (sum, frame) = piece.await.map_err(io::Error::other).flatten().map_err(failed)?;
        let table = u32::try_from(number).map_err(io::Error::other).map_err(failed)?;
        Ok(self.output.send(Block::Rows { table, frame }).await.then_some(sum))
    }

    fn advance(&self, bytes: usize) {
        let mut progress = self.progress.lock().unwrap_or_else(PoisonError::into_inner);
        progress.done += bytes as u64;
        let (done, total) = (progress.done, progress.total.max(progress.done));
        let slug = progress.slug;
        progress.observer.moved(slug, done, total);
    }
}
