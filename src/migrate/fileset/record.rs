//! Reads, creates and writes the table `public.cgk_migration_files`.

use super::{FilesTable, FleetFiles, census::Census, mismatches, started};
use crate::{
    db::{Operator, message, message_head::MessageHead, own_objects::OwnObject, own_table},
    error::{ConnectionError, Error, Result, while_doing},
    ident::literal,
    lock,
    migrate::{
        files::{file::MigrationFile, name::as_read_now},
        ledger::Applied,
        migrations::Migrations,
    },
    migration::{MigrationId, Mismatch, Set},
    version::{Checksum, Version},
};
use std::{collections::BTreeSet, sync::Mutex};
use tokio_postgres::{Row, error::SqlState};

const CREATE: &str = "create table public.cgk_migration_files (
    set pg_catalog.text not null check (set in ('public', 'tenant')),
    version pg_catalog.int8 not null,
    name pg_catalog.text not null,
    checksum pg_catalog.text not null,
    first_applied_at pg_catalog.timestamptz not null default pg_catalog.clock_timestamp(),
    first_applied_by pg_catalog.text not null default session_user,
    cgk_version pg_catalog.text not null,
    primary key (set, version)
);
comment on table public.cgk_migration_files is 'The migration files that this database has had; cgk refuses another set.';
";

impl FleetFiles {
    /// Reads the recorded files, or counts ledgers if nothing can be read. Writes nothing.
    pub(crate) async fn load(operator: &Operator) -> Result<Self> {
        let doing = || while_doing("read which migration files the database has had");
        // At least one row, so that the privileges are returned even if nothing is recorded.
        let sql = format!(
            "select pg_catalog.has_table_privilege('public.cgk_migration_files', 'select, insert, update')
                    and not pg_catalog.current_setting('transaction_read_only')::pg_catalog.bool,
                    f.set, f.version, f.name, f.checksum, v.started
             from (values ({})) v (started) left join public.cgk_migration_files f on true order by f.set, f.version",
            started::schemas_sql()
        );
        let found = match operator.has(OwnObject::MigrationFiles).await? {
            true => operator.client().query_typed(&sql, &[]).await.map(Some),
            false => Ok(None),
        };
        let absent = match found {
            Ok(Some(rows)) => return Self::of_rows(&rows),
            Ok(None) => FilesTable::Absent,
            Err(error) if error.code() == Some(&SqlState::UNDEFINED_TABLE) => FilesTable::Absent,
            Err(error) if error.code() == Some(&SqlState::INSUFFICIENT_PRIVILEGE) => FilesTable::Hidden,
            Err(error) => return Err(doing()(error)),
        };
        let census = Census::take(operator).await?;
        let (public, tenant) = (census.files(Set::Public), census.files(Set::Tenant));
        Ok(Self { public, tenant, table: absent, started: started::schemas(operator).await? })
    }

    fn of_rows(rows: &[Row]) -> Result<Self> {
        let doing = || while_doing("read which migration files the database has had");
        let mut files = Self::default();
        for row in rows {
            if files.started.is_empty() {
                files.started = started::of_cgk(row.try_get(5).map_err(doing())?);
            }
            files.table = if row.try_get(0).map_err(doing())? { FilesTable::Writable } else { FilesTable::ReadOnly };
            let (set, version): (Option<String>, Option<i64>) =
                (row.try_get(1).map_err(doing())?, row.try_get(2).map_err(doing())?);
            let (Some(set), Some(version)) = (set, version) else { continue };
            let version = Version::new(version).ok_or_else(|| crate::Error::Unexpected {
                doing: "read which migration files the database has had".into(),
                found: format!("version {version}"),
            })?;
            let checksum = Checksum::recorded(row.try_get::<_, String>(4).map_err(doing())?);
            let row = Applied { id: MigrationId { version, name: row.try_get(3).map_err(doing())? }, checksum };
            if set == "public" { files.public.push(row) } else { files.tenant.push(row) }
        }
        Ok(files)
    }

    /// Prepares recording, after [`check`](FleetFiles::check): creates the table if it is missing, with the files in
    /// the ledgers, and removes rows that no ledger has and that contradict the files.
    ///
    /// Locks: if it creates the table, the record's own lock, until the end of one message.
    pub(crate) async fn begin(&self, operator: &Operator, migrations: &Migrations) -> Result<FileRecord> {
        let mut known = BTreeSet::new();
        let mut stale = String::new();
        for set in [Set::Public, Set::Tenant] {
            known.extend(self.of(set).iter().map(|row| (set, row.id.version)));
            let mut found = mismatches(self.of(set), migrations.set(set));
            found.retain(|mismatch| mismatch.mismatch != Mismatch::OutOfOrder);
            for mismatch in found {
                known.remove(&(set, mismatch.id.version));
                stale.push_str(&format!(
                    "delete from public.cgk_migration_files where {};\n",
                    key(set, mismatch.id.version)
                ));
            }
        }
        let record = |is_writable| FileRecord { known: Mutex::new(known), is_writable };
        match self.table {
            FilesTable::Writable if !stale.is_empty() => {
                let doing = || while_doing("remove from public.cgk_migration_files the files that no schema has");
                message::run(operator.client(), &stale).await.map_err(doing())?.complete().map_err(doing())?;
                return Ok(record(true));
            }
            FilesTable::Writable => return Ok(record(true)),
            FilesTable::ReadOnly | FilesTable::Hidden => return Ok(record(false)),
            FilesTable::Absent => {}
        }
        let doing = || while_doing("create the table public.cgk_migration_files");
        let mut sql = format!(
            "{}{CREATE}{}",
            MessageHead::of(operator).lock_timeout(operator.session().migration_wait).lock(lock::files_key()).sql(),
            own_table::close_sql(&["public.cgk_migration_files"])
        );
        for (set, rows) in [(Set::Public, &self.public), (Set::Tenant, &self.tenant)] {
            rows.iter().for_each(|row| sql.push_str(&insert_sql(set, row)));
        }
        operator.reset_session().await.map_err(doing())?;
        match message::run(operator.client(), &sql).await.map_err(doing())?.complete() {
            Ok(_) => Ok(record(true)),
            // Another run has created it.
            Err(error) if error.code() == Some(&SqlState::DUPLICATE_TABLE) => {
                Box::pin(Self::load(operator).await?.begin(operator, migrations)).await
            }
            Err(error) => Err(doing()(error)),
        }
    }
}

/// The recorded files, shared by the workers of a run.
#[derive(Debug)]
pub(crate) struct FileRecord {
    known: Mutex<BTreeSet<(Set, Version)>>,
    is_writable: bool,
}

impl FileRecord {
    /// Refuses migration files that differ from those of the fleet, or that a schema has started, and starts to record the files. If they cannot be
    /// recorded, the caller continues without a record.
    pub(crate) async fn of_fleet(operator: &Operator, migrations: &Migrations) -> Result<Self> {
        let files = FleetFiles::load(operator).await?;
        files.check_all(operator, migrations).await?;
        match files.begin(operator, migrations).await {
            Ok(record) => Ok(record),
            Err(error @ Error::Connection(ConnectionError::Lost { .. })) => Err(error),
            Err(error) => {
                tracing::warn!(%error, "the files of the fleet were not recorded");
                Ok(Self::unwritten())
            }
        }
    }

    /// Returns a record that is not written, because the role may not write it.
    pub(crate) fn unwritten() -> Self {
        Self { known: Mutex::default(), is_writable: false }
    }

    /// Returns statements that record the files that are not recorded yet. They fail with a division by zero if another
    /// run has recorded a different file for the version. Empty if all are recorded.
    pub(crate) fn sql(&self, set: Set, files: &[&MigrationFile]) -> String {
        if !self.is_writable {
            return String::new();
        }
        let known = self.known.lock().expect("nothing panics while it is held");
        let new = files.iter().filter(|file| !known.contains(&(set, file.id().version)));
        new.map(|file| insert_sql(set, &Applied::of(file))).collect()
    }

    /// Stores in this value that files are committed.
    pub(crate) fn note(&self, set: Set, files: &[&MigrationFile]) {
        let mut known = self.known.lock().expect("nothing panics while it is held");
        known.extend(files.iter().map(|file| (set, file.id().version)));
    }
}

fn insert_sql(set: Set, row: &Applied) -> String {
    format!(
        "insert into public.cgk_migration_files as f (set, version, name, checksum, cgk_version)
         values ({}, {}, {}, {}, {}) on conflict (set, version) do update set name = f.name
         where 1 / (case when f.name = excluded.name and f.checksum = excluded.checksum then 1 else 0 end) = 0;\n",
        literal(set.folder()),
        row.id.version.get(),
        literal(&row.id.name),
        literal(row.checksum.as_str()),
        literal(env!("CARGO_PKG_VERSION")),
    )
}

fn key(set: Set, version: Version) -> String {
    format!("set = {} and version = {}", literal(set.folder()), version.get())
}

/// Updates the record after a repair. If no ledger has the recorded file of a version any more, the record is set to
/// the file in the ledgers. A version that no ledger has is deleted.
pub(crate) async fn follow_ledgers(
    operator: &Operator,
    migrations: &Migrations,
    set: Set,
    version: Version,
) -> Result<()> {
    let files = FleetFiles::load(operator).await?;
    let census = Census::take(operator).await?;
    // One file may be recorded under two versions: this one and that of an earlier version of cgk.
    let rows = files.of(set).iter().filter(|row| as_read_now(&row.id).version == version);
    let (held, mut stale): (Vec<&Applied>, Vec<&Applied>) = rows.partition(|row| census.with(set, row) > 0);
    if files.table != FilesTable::Writable || stale.is_empty() {
        return Ok(());
    }
    stale.sort_by_key(|row| row.id.version != version);
    let mut sql = String::new();
    let file = migrations.set(set).files().iter().find(|file| file.id().version == version);
    if let (Some(file), true) = (file, held.is_empty() && census.with_version(set, version) > 0) {
        let followed = stale.remove(0);
        sql = format!(
            "update public.cgk_migration_files set version = {}, name = {}, checksum = {} where {};\n",
            version.get(),
            literal(&file.id().name),
            literal(file.checksum().as_str()),
            key(set, followed.id.version),
        );
    }
    let delete =
        |row: &&Applied| format!("delete from public.cgk_migration_files where {};\n", key(set, row.id.version));
    sql.extend(stale.iter().map(delete));
    let doing = || while_doing("record which migration files the database has had");
    message::run(operator.client(), &sql).await.map_err(doing())?.complete().map(drop).map_err(doing())
}
