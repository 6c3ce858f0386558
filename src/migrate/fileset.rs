//! Records the fleet's set of files in the database, so that a different set is refused before anything is changed.
//!
//! The table `public.cgk_migration_files` has a row for every file that any schema has. The transaction that applies
//! the file to the first schema writes it. The ledgers are authoritative for their schemas. They are counted
//! ([`census`]) if the table is missing, and to report how many schemas have a file. A recorded file that no ledger has
//! does not count.

pub(crate) mod census;
pub(crate) mod record;
pub(crate) mod started;

use super::{
    files::{file::MigrationFile, source::Source},
    ledger::Applied,
    migrations::Migrations,
    plan::is_applied_as,
};
use crate::{
    db::Operator,
    error::{Error, MigrationError, Result},
    ident::SchemaName,
    migration::{FileMismatch, Mismatch, Set},
    version::Version,
};
use census::Census;
use std::collections::BTreeSet;

/// A fleet's files, by set and version.
#[derive(Clone, Debug, Default)]
pub(crate) struct FleetFiles {
    pub(crate) public: Vec<Applied>,
    pub(crate) tenant: Vec<Applied>,
    pub(crate) table: FilesTable,
    /// The schemas that may have started a file without a transaction.
    started: Vec<SchemaName>,
}

/// The state of the table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum FilesTable {
    /// It is missing: the files are those in the ledgers.
    #[default]
    Absent,
    /// It exists, and this role may write it.
    Writable,
    /// It exists, and this role may only read it.
    ReadOnly,
    /// It exists, and this role may not read it: the files are those in the ledgers.
    Hidden,
}

impl FleetFiles {
    pub(crate) fn of(&self, set: Set) -> &[Applied] {
        match set {
            Set::Public => &self.public,
            Set::Tenant => &self.tenant,
        }
    }

    /// Refuses files that differ from the fleet's in one of the sets, or from what a schema has started. Writes nothing.
    pub(crate) async fn check_all(&self, operator: &Operator, migrations: &Migrations) -> Result<()> {
        for set in [Set::Public, Set::Tenant] {
            self.check(operator, migrations, set, None).await?;
        }
        started::check(operator, migrations, &self.started).await
    }

    /// Refuses a set of files that differs from the fleet's. Writes nothing. If the set matches, no query is needed.
    ///
    /// `except` is a version that the caller checks differently, for example in a repair.
    pub(crate) async fn check(
        &self,
        operator: &Operator,
        migrations: &Migrations,
        set: Set,
        except: Option<Version>,
    ) -> Result<()> {
        let source = migrations.set(set);
        let mut found = mismatches(self.of(set), source);
        // A row of an earlier version may be the excepted file under another version.
        let file_of =
            |mismatch: &FileMismatch| source.place_of(&mismatch.id).map(|place| source.files()[place].id().version);
        found.retain(|found| except.is_none() || (Some(found.id.version) != except && file_of(found) != except));
        if found.is_empty() {
            return Ok(());
        }
        let census = Census::take(operator).await?;
        for mismatch in &mut found {
            mismatch.schemas = match mismatch.mismatch {
                Mismatch::OutOfOrder => census.past(set, mismatch.id.version),
                Mismatch::Edited | Mismatch::Renamed | Mismatch::Missing => {
                    match recorded(self.of(set), mismatch.id.version) {
                        Some(row) => census.with(set, row),
                        None => 0,
                    }
                }
            };
        }
        found.retain(|mismatch| mismatch.schemas > 0);
        if found.is_empty() {
            Ok(())
        } else {
            Err(Error::Migration(MigrationError::WrongFiles { set, mismatches: found }))
        }
    }
}

fn recorded(rows: &[Applied], version: Version) -> Option<&Applied> {
    rows.iter().find(|row| row.id.version == version)
}

/// Returns where a set of files differs from the recorded one. A file after the newest recorded one is a new file of
/// the fleet. Dated files are also found by the ids that earlier versions of cgk gave them, as in a ledger.
fn mismatches(recorded: &[Applied], source: &Source) -> Vec<FileMismatch> {
    let rows: Vec<(&Applied, Option<&MigrationFile>)> =
        recorded.iter().map(|row| (row, source.place_of(&row.id).map(|place| &source.files()[place]))).collect();
    let known: BTreeSet<Version> =
        rows.iter().map(|(row, file)| file.map_or(row.id.version, |file| file.id().version)).collect();
    let newest = known.last().copied();
    let of_rows = rows.iter().filter_map(|(row, file)| {
        let mismatch = match file {
            None => Mismatch::Missing,
            Some(file) if is_applied_as(file, row) => return None,
            Some(file) if file.checksum() == &row.checksum => Mismatch::Renamed,
            Some(_) => Mismatch::Edited,
        };
        let other_name = file.filter(|file| *file.id() != row.id && file.earlier_id() != Some(&row.id));
        let file = other_name.map(|file| file.id().clone());
        Some(FileMismatch { id: row.id.clone(), file, mismatch, schemas: 0 })
    });
    let ids = source.files().iter().map(MigrationFile::id);
    let passed = ids.filter(|id| Some(id.version) < newest && !known.contains(&id.version));
    let passed =
        passed.map(|id| FileMismatch { id: id.clone(), file: None, mismatch: Mismatch::OutOfOrder, schemas: 0 });
    let mut found: Vec<FileMismatch> = of_rows.chain(passed).collect();
    found.sort_by(|one, other| one.id.cmp(&other.id));
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(files: &[(&str, &str)]) -> Migrations {
        let mut migrations = Migrations::bundled();
        for (name, sql) in files {
            migrations = migrations.with_file(Set::Tenant, name, *sql).unwrap();
        }
        migrations
    }

    fn rows(migrations: &Migrations) -> Vec<Applied> {
        migrations.set(Set::Tenant).files().iter().map(Applied::of).collect()
    }

    fn found(recorded: &[Applied], migrations: &Migrations) -> Vec<(String, Mismatch)> {
        let found = mismatches(recorded, migrations.set(Set::Tenant));
        found.into_iter().map(|found| (found.id.to_string(), found.mismatch)).collect()
    }

    const A: (&str, &str) = ("901_a.sql", "create table a ()");
    const B: (&str, &str) = ("902_b.sql", "create table b ()");
    const C: (&str, &str) = ("903_c.sql", "create table c ()");

    #[test]
    fn the_same_set_and_one_with_newer_files_fit() {
        let recorded = rows(&set(&[A, B]));
        assert_eq!(found(&recorded, &set(&[A, B])), []);
        assert_eq!(found(&recorded, &set(&[A, B, C])), []);
        assert_eq!(found(&[], &set(&[A])), []);
        assert_eq!(found(&[], &set(&[])), []);
    }

    #[test]
    fn what_lacks_a_file_has_another_or_has_one_before_the_newest_does_not_fit() {
        let recorded = rows(&set(&[A, C]));
        assert_eq!(found(&recorded, &set(&[A])), [("903_c".to_owned(), Mismatch::Missing)]);
        assert_eq!(found(&recorded, &set(&[C])), [("901_a".to_owned(), Mismatch::Missing)]);
        assert_eq!(found(&recorded, &set(&[A, B, C])), [("902_b".to_owned(), Mismatch::OutOfOrder)]);
        let edited = set(&[A, (C.0, "create table other ()")]);
        assert_eq!(found(&recorded, &edited), [("903_c".to_owned(), Mismatch::Edited)]);
        let renamed = set(&[A, ("903_renamed.sql", C.1)]);
        assert_eq!(found(&recorded, &renamed), [("903_c".to_owned(), Mismatch::Renamed)]);
        let both = set(&[A, ("903_renamed.sql", "create table other ()")]);
        assert_eq!(found(&recorded, &both), [("903_c".to_owned(), Mismatch::Edited)]);
        let texts = |migrations: &Migrations| -> Vec<String> {
            mismatches(&recorded, migrations.set(Set::Tenant)).iter().map(ToString::to_string).collect()
        };
        assert_eq!(texts(&edited), ["903_c: 0 schemas have it with another text"]);
        assert_eq!(texts(&renamed), ["903_c: 0 schemas have it, and the file is named 903_renamed"]);
        assert_eq!(texts(&both), ["903_c: 0 schemas have it with another text, and the file is named 903_renamed"]);
        let all = set(&[("901_a.sql", "create table x ()"), B]);
        assert_eq!(
            found(&recorded, &all).into_iter().map(|(_, mismatch)| mismatch).collect::<Vec<_>>(),
            [Mismatch::Edited, Mismatch::OutOfOrder, Mismatch::Missing]
        );
    }
}
