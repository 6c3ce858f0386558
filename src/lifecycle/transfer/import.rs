//! Creates a tenant from a file.

use super::{
    archive::{Archive, HeadPartition},
    contents::{Contents, Partition, RowSecurity, Sequence, Table},
    export::TransferObserver,
    load::{after_sql, before_sql, partitions_sql, settings_sql},
    rows::{RowSum, ValueMap},
};
use crate::{
    db::{Operator, message},
    error::{Error, MigrationError, Result, TenantError, TransferError, while_doing},
    ident::SchemaName,
    lifecycle::create::{self, CreateOptions, NewTenantParts},
    migrate::{
        Migrations, Plan, Set, Target,
        execute::{apply, guard, unit::ApplyOutcome},
        plan::plan,
    },
    registry,
    slug::TenantSlug,
    tenant::{OrganizationId, Tenant},
};
use bytes::Bytes;
use futures_util::{SinkExt as _, TryStreamExt as _};
use std::{pin::pin, sync::Arc};
use tokio::sync::mpsc;
use uuid::Uuid;

/// How many pieces of rows wait for the server.
const PIECES_WAITING_MAX: usize = 4;

/// How a tenant is imported.
#[derive(Clone, Debug, Default)]
pub struct ImportOptions {
    slug: Option<TenantSlug>,
    name: Option<String>,
}

impl ImportOptions {
    /// Imports the tenant under another slug, as a new organization. Default: the slug and the organization of the file.
    pub fn slug(mut self, slug: TenantSlug) -> Self {
        self.slug = Some(slug);
        self
    }

    /// Sets the name for people. Default: that of the file; for another slug, the slug.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }
}

/// What was imported.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Imported {
    /// The tenant.
    pub tenant: Tenant,
    /// How many tables have rows from the file, or had none in it.
    pub tables: usize,
    /// How many rows.
    pub rows: u64,
    /// Whether the tenant has another organization than that of the file.
    pub is_new_organization: bool,
    /// Values that contained the organization's id: how many columns were mapped to the new one.
    pub mapped_columns: usize,
    /// How many migrations were applied after the load, because the file is older than the set.
    pub migrated: usize,
}

/// Creates a tenant with the data of a file: its migrations up to those of the file, then the rows and sequences, all in one
/// transaction, and then the migrations that are newer than the file. Before the commit every table is read again and compared
/// with the file, by the number of its rows and their checksum.
///
/// With the slug of the file, the tenant keeps its organization's id. With another slug it gets a new one, and the rows get it
/// too, where they have the old one in a column that is filled with the transaction's organization: a column whose default
/// value reads `app.current_organization_id`, or that references such a column. Other values, and ids inside of texts or JSON,
/// stay as they are.
///
/// # Locks
///
/// Those of [`create`](crate::lifecycle::create()), until the commit. A foreign key of the migrations to a shared table locks
/// that table against writes for as long.
///
/// # Committed when
///
/// Everything together, or nothing, up to the migrations of the file. If the set has newer ones, the tenant is `onboarding`
/// until they are applied, and cannot be entered; if that fails, `cgk tenant:create` continues it.
///
/// # Errors
///
/// Kind `Conflict`: the tenant or its organization exists ([`TransferError::Exists`]), or the migrations do not create what the
/// file contains ([`TransferError::NotInSet`]). `Drift`: the file's ledger is not that of the set. `Refused`: the migrations
/// cannot run in one transaction, or the loaded rows differ from the file. Those of [`create`](crate::lifecycle::create()).
///
/// # Cancel safety
///
/// If the future is dropped before the commit, nothing is left.
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
    let set = migrations.set(Set::Tenant);
    let newer = plan(set, &schema, archive.ledger().to_vec(), Target::Head).map_err(MigrationError::Diverged)?;
    let files = match archive.ledger().last() {
        Some(last) => {
            plan(set, &schema, Vec::new(), Target::Version(last.id.version)).map_err(MigrationError::Diverged)?
        }
        None => newer_than_all(&schema),
    };
    refuse_existing(operator, &slug, id).await?;
    // If the future is dropped, it is closed, and the server rolls back.
    let connection = operator.sibling().await?;
    let parts = NewTenantParts::check(&connection, migrations, &slug, &making).await?;
    let by = parts.existing();
    if !by.is_empty() {
        return Err(TransferError::Exists { tenant: slug, by }.into());
    }
    refuse_steps(operator, migrations, &slug, &files).await?;
    let load =
        Load { operator: &connection, slug: &slug, schema: &schema, id, archive: Arc::new(archive), parts: &parts };
    let mapped_columns = load.run(&files, !newer.pending.is_empty(), observer).await?;
    create::record_reference(operator, migrations).await;
    let mut migrated = 0;
    if !newer.pending.is_empty() {
        migrated = create::create_unentered(operator, migrations, &slug, &making).await?.applied.len();
    }
    let tenant = registry::facts_of(operator, &slug).await?.tenant;
    let tenant = tenant.ok_or_else(|| Error::Tenant(TenantError::NotFound { tenant: slug.clone() }))?;
    let (tables, rows) = (load.archive.tables(), load.archive.rows());
    Ok(Imported { tenant, tables, rows, is_new_organization, mapped_columns, migrated })
}

/// The plan of a tenant without migrations.
fn newer_than_all<'a>(schema: &SchemaName) -> Plan<'a> {
    Plan { schema: schema.clone(), applied: Vec::new().into(), pending: Vec::new().into() }
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

async fn refuse_steps(operator: &Operator, migrations: &Migrations, slug: &TenantSlug, files: &Plan<'_>) -> Result<()> {
    let is_in_steps = apply::is_born_in_steps(files) || create::needs_steps(operator, migrations).await?;
    if !is_in_steps {
        return Ok(());
    }
    let file = files.pending.iter().find(|file| !file.is_transactional()).or_else(|| files.pending.first());
    let file = file.map(|file| file.id().to_string()).unwrap_or_default();
    Err(TransferError::NotInOneTransaction { tenant: slug.clone(), file }.into())
}

/// One import.
struct Load<'a> {
    operator: &'a Operator,
    slug: &'a TenantSlug,
    schema: &'a SchemaName,
    id: OrganizationId,
    archive: Arc<Archive>,
    parts: &'a NewTenantParts<'a>,
}

impl Load<'_> {
    /// The transaction; returns how many columns were mapped.
    async fn run(&self, files: &Plan<'_>, has_newer: bool, observer: &mut dyn TransferObserver) -> Result<usize> {
        let operator = self.operator;
        let doing = || while_doing(format!("import tenant {}", self.slug));
        if guard::is_needed(operator, files) {
            self.send(guard::READ_ONLY_BUT_OURS).await?;
        }
        self.send("begin isolation level read committed, read write").await?;
        match self.inside(files, has_newer, observer).await {
            Ok(mapped_columns) => {
                let committed = message::run(operator.client(), "commit").await.map_err(doing())?;
                committed.complete().map(|_| mapped_columns).map_err(doing())
            }
            // The connection ends with this call, and the server rolls back.
            Err(error) => Err(error),
        }
    }

    async fn inside(&self, files: &Plan<'_>, has_newer: bool, observer: &mut dyn TransferObserver) -> Result<usize> {
        match self.parts.create(files, has_newer).await? {
            ApplyOutcome::Applied => {}
            ApplyOutcome::Stale => {
                return Err(Error::Tenant(TenantError::Changed { tenant: self.slug.clone() }));
            }
            ApplyOutcome::Locked => {
                let (schema, waited) = (self.schema.clone(), self.operator.session().migration_wait);
                return Err(Error::Migration(MigrationError::Locked { schema, waited }));
            }
        }
        let path = self.operator.search_path().of(self.schema);
        self.send(&settings_sql(&path)).await?;
        let contents = self.contents().await?;
        contents.refuse_uncopyable(self.schema, RowSecurity::Bypassed)?;
        let tables = self.tables(&contents)?;
        self.send(&before_sql(self.schema, &contents)).await?;
        let mut progress = Progress { slug: self.slug, done: 0, total: self.archive.text_bytes(), observer };
        let mapped =
            if self.id == self.archive.organization() { Default::default() } else { contents.organization_columns() };
        let mut mapped_columns = 0;
        for (number, table) in tables.iter().enumerate() {
            let is_mapped: Vec<bool> = table
                .columns
                .iter()
                .map(|column| mapped.contains(&(table.name.clone(), column.name.clone())))
                .collect();
            mapped_columns += is_mapped.iter().filter(|is_mapped| **is_mapped).count();
            let loaded = self.load(number, table, is_mapped, &mut progress).await?;
            self.compare(table, &loaded).await?;
        }
        let tail = &self.archive.tail.sequences;
        let sequence = |sequence: &super::archive::TailSequence| Sequence {
            name: sequence.name.clone(),
            last_value: sequence.last_value,
            is_called: sequence.is_called,
        };
        let sequences: Vec<Sequence> = tail.iter().map(sequence).collect();
        self.send(&after_sql(self.schema, &contents, &sequences)).await?;
        Ok(mapped_columns)
    }

    /// The contents of the new schema, after the partitions were created that no migration creates.
    async fn contents(&self) -> Result<Contents> {
        let contents = Contents::read(self.operator, self.schema).await?;
        let partition = |partition: &HeadPartition| Partition {
            name: partition.name.clone(),
            parent: partition.parent.clone(),
            bound: partition.bound.clone(),
            is_leaf: partition.is_leaf,
        };
        let of_file: Vec<Partition> = self.archive.head.partitions.iter().map(partition).collect();
        let sql = partitions_sql(self.schema, &of_file, &contents);
        let sql = sql.map_err(|objects| TransferError::NotInSet { objects })?;
        if sql.is_empty() {
            return Ok(contents);
        }
        self.send(&sql).await?;
        Contents::read(self.operator, self.schema).await
    }

    /// The tables of the file, as the target has them. Refuses what the migrations have not created.
    fn tables(&self, contents: &Contents) -> Result<Vec<Table>> {
        let mut objects = Vec::new();
        let mut tables = Vec::with_capacity(self.archive.tables());
        for of_file in &self.archive.head.tables {
            let Some(table) = contents.table(&of_file.name) else {
                objects.push(format!("table {}", of_file.name));
                continue;
            };
            let mut columns = Vec::with_capacity(of_file.columns.len());
            for name in &of_file.columns {
                match table.columns.iter().find(|column| column.name == *name) {
                    Some(column) => columns.push(column.clone()),
                    None => objects.push(format!("column {}.{name}", of_file.name)),
                }
            }
            tables.push(Table { columns, ..table.clone() });
        }
        for sequence in &self.archive.tail.sequences {
            if !contents.sequences.iter().any(|own| own.name == sequence.name) {
                objects.push(format!("sequence {}", sequence.name));
            }
        }
        if objects.is_empty() { Ok(tables) } else { Err(TransferError::NotInSet { objects }.into()) }
    }

    /// Loads a table; returns the sum of the rows that were sent.
    async fn load(
        &self,
        number: usize,
        table: &Table,
        is_mapped: Vec<bool>,
        progress: &mut Progress<'_>,
    ) -> Result<RowSum> {
        let doing = || while_doing(format!("load table {} of schema {:?}", table.name, self.schema.as_str()));
        let copy = table.copy_in_sql(self.schema);
        let rows = self.operator.client().copy_in::<_, Bytes>(&copy).await.map_err(doing())?;
        let mut rows = pin!(rows);
        let (pieces, mut waiting) = mpsc::channel(PIECES_WAITING_MAX);
        let (archive, from, to) = (self.archive.clone(), self.archive.organization().to_string(), self.id.to_string());
        let reader = tokio::task::spawn_blocking(move || {
            let map = is_mapped.contains(&true).then(|| ValueMap::new(&from, &to, is_mapped));
            read(&archive, number, map, &pieces)
        });
        while let Some((piece, bytes)) = waiting.recv().await {
            rows.send(piece).await.map_err(doing())?;
            progress.advance(bytes);
        }
        let unread = |source: tokio::task::JoinError| Error::Unexpected {
            doing: format!("read the rows of table {}", table.name),
            found: source.to_string(),
        };
        // Without `finish`, the rows that were sent are not inserted.
        let (of_file, sent) = reader.await.map_err(unread)??;
        let wanted = &self.archive.tail.tables[number];
        if of_file.checksum() != wanted.checksum || of_file.rows != wanted.rows {
            let problem = format!("the rows of table {} are not those that were written", table.name);
            return Err(TransferError::Damaged { problem }.into());
        }
        let inserted = rows.finish().await.map_err(doing())?;
        if inserted != sent.rows {
            let problem = format!("{} rows were sent, and {inserted} were inserted", sent.rows);
            return Err(TransferError::NotEqual { table: table.name.clone(), problem }.into());
        }
        Ok(sent)
    }

    /// Reads a loaded table as an export does, and compares it with what was sent.
    async fn compare(&self, table: &Table, sent: &RowSum) -> Result<()> {
        let doing = || while_doing(format!("compare table {} of schema {:?}", table.name, self.schema.as_str()));
        let rows = self.operator.client().copy_out(&table.copy_out_sql(self.schema)).await.map_err(doing())?;
        let mut rows = pin!(rows);
        let mut found = RowSum::default();
        while let Some(row) = rows.try_next().await.map_err(doing())? {
            found.add(&row);
        }
        let problem = match (found.rows == sent.rows, found.checksum() == sent.checksum()) {
            (true, true) => return Ok(()),
            (true, false) => "the checksum of its rows is not that of the file".to_owned(),
            (false, _) => format!("it has {} rows, and the file has {}", found.rows, sent.rows),
        };
        Err(TransferError::NotEqual { table: table.name.clone(), problem }.into())
    }

    async fn send(&self, sql: &str) -> Result<()> {
        let doing = || while_doing(format!("import tenant {}", self.slug));
        message::run(self.operator.client(), sql).await.map_err(doing())?.complete().map(drop).map_err(doing())
    }
}

struct Progress<'r> {
    slug: &'r TenantSlug,
    done: u64,
    total: u64,
    observer: &'r mut dyn TransferObserver,
}

impl Progress<'_> {
    fn advance(&mut self, bytes: u64) {
        self.done += bytes;
        self.observer.moved(self.slug, self.done, self.total);
    }
}

/// Reads a table of the file; returns the sums of its rows, as they are in the file and as they are sent.
fn read(
    archive: &Archive,
    table: usize,
    mut map: Option<ValueMap>,
    pieces: &mpsc::Sender<(Bytes, u64)>,
) -> Result<(RowSum, RowSum)> {
    let (mut of_file, mut sent) = (RowSum::default(), RowSum::default());
    archive.read_rows(table, |piece| {
        let bytes = piece.len() as u64;
        of_file.add(&piece);
        let piece = match &mut map {
            Some(map) => {
                let mapped = map.map(&piece);
                sent.add(&mapped);
                mapped
            }
            None => piece,
        };
        pieces.blocking_send((piece.into(), bytes)).is_ok()
    })?;
    let sent = if map.is_some() { sent } else { of_file.clone() };
    Ok((of_file, sent))
}
