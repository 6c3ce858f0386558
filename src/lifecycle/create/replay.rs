//! How the files are applied to new tenants, and the record of the fleet's files.

use crate::{
    db::Operator,
    error::{Error, MigrationError, Result},
    migrate::{self, Migrations, Set, execute::grouping::Grouping, fileset::record::FileRecord, rehearsal},
};
use std::sync::atomic::{AtomicBool, Ordering};

/// How the files are applied to new tenants: in one transaction, until that fails and a rehearsal finds that it works
/// file by file.
pub(super) struct Replay {
    file_by_file: AtomicBool,
    /// Whether the set was rehearsed, in this call or before.
    rehearsed: AtomicBool,
    /// The record of the fleet's files.
    pub(super) files: FileRecord,
}

impl Replay {
    /// Refuses a set of files that differs from the fleet's.
    pub(super) async fn of(operator: &Operator, migrations: &Migrations) -> Result<Self> {
        let (files, known) =
            tokio::join!(FileRecord::of_fleet(operator, migrations), rehearsal::known_grouping(operator, migrations));
        let (files, known) = (files?, known?);
        Ok(Self {
            file_by_file: AtomicBool::new(known == Some(Grouping::FileByFile)),
            rehearsed: AtomicBool::new(known.is_some()),
            files,
        })
    }

    pub(super) fn grouping(&self) -> Grouping {
        if self.file_by_file.load(Ordering::Relaxed) { Grouping::FileByFile } else { Grouping::Batch }
    }

    /// Whether to try again after a failure in one transaction. A rehearsal finds whether it works file by file.
    pub(super) async fn helps(&self, operator: &Operator, migrations: &Migrations, error: &Error) -> bool {
        if self.grouping() == Grouping::FileByFile
            || migrations.set(Set::Tenant).files().len() < 2
            || !rehearsal::is_of_the_files(error)
        {
            return false;
        }
        match migrate::rehearse(operator, migrations).await {
            Ok(rehearsed) => {
                self.rehearsed.store(true, Ordering::Relaxed);
                self.file_by_file.store(rehearsed.file_by_file, Ordering::Relaxed);
                rehearsed.file_by_file
            }
            Err(error @ Error::Migration(MigrationError::Rehearsal { .. } | MigrationError::NotRehearsable { .. })) => {
                tracing::debug!(%error, "the rehearsal failed as well");
                false
            }
            Err(error) => {
                tracing::warn!(error = error.report(), "not tried file by file, because the rehearsal did not run");
                false
            }
        }
    }

    /// Records the objects that the migrations create, if no rehearsal did. Drift compares with the record. A failure
    /// does not affect the tenant.
    pub(super) async fn record(&self, operator: &Operator, migrations: &Migrations) {
        if self.rehearsed.swap(true, Ordering::Relaxed) {
            return;
        }
        if let Err(error) = migrate::rehearse(operator, migrations).await {
            tracing::warn!(%error, "no record of what the migrations create");
        }
    }
}
