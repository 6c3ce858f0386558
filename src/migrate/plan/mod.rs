//! Computes the work for one schema from the files, the ledger and the target. Runs no queries.
//!
//! The rules for order and divergence are refinery's. Its runner gets an executor that records what it is asked to run
//! and runs nothing. refinery stops at the first difference, so cgk first collects all of them.

pub(crate) mod fleet;
pub(in crate::migrate) mod locks;
pub(in crate::migrate) mod plan_file;
pub(crate) mod started;
pub(crate) mod state;
pub(crate) mod warm;
use super::{
    files::{file::MigrationFile, source::Source},
    ledger::Applied,
};
use crate::{
    ident::SchemaName,
    migration::{Divergence, RenamedFile},
    version::Version,
};
use refinery::{Migration, Runner, Target as RefineryTarget};
use refinery_core::traits::r#async::{AsyncMigrate, AsyncQuery, AsyncTransaction};
use std::{collections::BTreeSet, convert::Infallible, sync::Arc};

/// How far to migrate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Target {
    /// To the newest file. The default.
    #[default]
    Head,
    /// To this version.
    Version(Version),
}

/// The work for one schema. The lists are shared: all tenants with the same state share one copy.
#[derive(Clone, Debug)]
pub struct SchemaPlan<'a> {
    /// The schema.
    pub schema: SchemaName,
    /// The content of its ledger, the lowest version first.
    pub applied: Arc<[Applied]>,
    /// The files to apply, in this order.
    pub pending: Arc<[&'a MigrationFile]>,
}

impl SchemaPlan<'_> {
    /// Returns whether a pending file runs without a transaction. Such a file waits for every older transaction in the
    /// database. So these schemas are migrated one at a time, after the others.
    pub fn needs_quiet(&self) -> bool {
        self.pending.iter().any(|file| !file.is_transactional())
    }

    /// Returns the same plan for another schema with the same state.
    pub(crate) fn for_schema(&self, schema: SchemaName) -> Self {
        Self { schema, ..self.clone() }
    }

    /// The plan of a schema in which this one was executed: nothing is left to do.
    pub(crate) fn executed(&self) -> Self {
        Self { schema: self.schema.clone(), applied: self.applied_after().into(), pending: Arc::default() }
    }

    /// Returns the content that the ledger has after the plan was executed.
    pub fn applied_after(&self) -> Vec<Applied> {
        self.applied.iter().cloned().chain(self.pending.iter().map(|file| Applied::of(file))).collect()
    }
}

/// Plans one schema.
///
/// # Errors
///
/// A [`Divergence`] that lists every applied migration whose file was edited, was renamed or is missing, every file that was
/// skipped, and every migration newer than the files.
pub fn plan<'a>(
    source: &'a Source,
    schema: &SchemaName,
    mut applied: Vec<Applied>,
    target: Target,
) -> Result<SchemaPlan<'a>, Box<Divergence>> {
    applied.sort_by_key(|row| row.id.version);
    if let Some(divergence) = divergence(source, schema, &applied) {
        return Err(Box::new(divergence));
    }
    let pending = pending(source, &applied, target);
    Ok(SchemaPlan { schema: schema.clone(), applied: applied.into(), pending: pending.into() })
}

fn divergence(source: &Source, schema: &SchemaName, applied: &[Applied]) -> Option<Divergence> {
    let newest_file = source.head().map(|head| head.version);
    let places: Vec<Option<usize>> = applied.iter().map(|row| source.place_of(&row.id)).collect();
    let newest_place = places.iter().flatten().max().copied();
    let rows: BTreeSet<usize> = places.iter().flatten().copied().collect();
    // A row that is newer than every file is after all of them.
    let newest_row = applied.last().map(|row| row.id.version);
    let is_passed_over = |place: usize, file: &MigrationFile| {
        !rows.contains(&place) && (Some(place) < newest_place || Some(file.id().version) < newest_row)
    };
    let mut seen: BTreeSet<usize> = BTreeSet::new();
    let mut found = Divergence::none(schema.clone());
    for (row, place) in applied.iter().zip(&places) {
        // If two rows match one file, the second one has no file.
        match place.filter(|place| seen.insert(*place)).map(|place| &source.files()[place]) {
            Some(file) if is_applied_as(file, row) => {}
            Some(file) if file.checksum() == &row.checksum => {
                found.renamed.push(RenamedFile { recorded: row.id.clone(), file: file.id().clone() });
            }
            Some(_) => found.edited.push(row.id.clone()),
            None if Some(row.id.version) > newest_file => found.ahead.push(row.id.clone()),
            None => found.missing.push(row.id.clone()),
        }
    }
    let passed_over = source.files().iter().enumerate().filter(|(place, file)| is_passed_over(*place, file));
    found.out_of_order.extend(passed_over.map(|(_, file)| file.id().clone()));
    let agrees = found.is_only_ahead() && found.ahead.is_empty();
    (!agrees).then_some(found)
}

/// Whether a row belongs to exactly this file, by its id or by the id that earlier versions of cgk gave dated files.
pub(super) fn is_applied_as(file: &MigrationFile, row: &Applied) -> bool {
    (*file.id() == row.id || file.earlier_id() == Some(&row.id)) && file.checksum() == &row.checksum
}

/// Returns the files that refinery's runner would apply.
fn pending<'a>(source: &'a Source, applied: &[Applied], target: Target) -> Vec<&'a MigrationFile> {
    // refinery's versions have 32 bits, so it gets ordinals. Its 64-bit switch would change the checksums of every
    // other user of refinery in the same build.
    let ordinal = |index: usize| i32::try_from(index + 1).expect("a set has fewer than two thousand million files");
    let files: Vec<Migration> = source
        .files()
        .iter()
        .enumerate()
        .map(|(index, file)| {
            Migration::unapplied(&format!("V{}__m", ordinal(index)), file.checksum().as_str())
                .expect("the name has refinery's own shape")
        })
        .collect();
    let applied: Vec<Migration> = files[..applied.len()]
        .iter()
        .cloned()
        .map(|mut file| {
            file.set_applied();
            file
        })
        .collect();
    let target = match target {
        Target::Head => RefineryTarget::Latest,
        Target::Version(version) => {
            let upto = source.files().iter().filter(|file| file.id().version <= version).count();
            if upto == 0 {
                return Vec::new();
            }
            RefineryTarget::Version(ordinal(upto - 1))
        }
    };
    let mut recorder = NoopExecutor { applied };
    let run = Runner::new(&files).set_target(target);
    let report = futures_util::FutureExt::now_or_never(async move { run.run_async(&mut recorder).await })
        .expect("the recorder never waits")
        .expect("divergence was ruled out, and the recorder cannot fail");
    report
        .applied_migrations()
        .iter()
        .map(|done| &source.files()[usize::try_from(done.version() - 1).expect("ordinals start at one")])
        .collect()
}

/// An executor for refinery that executes nothing.
struct NoopExecutor {
    applied: Vec<Migration>,
}

impl AsyncTransaction for NoopExecutor {
    type Error = Infallible;

    async fn execute<'a, T: Iterator<Item = &'a str> + Send + 'a>(
        &'a mut self,
        queries: T,
    ) -> Result<usize, Infallible> {
        Ok(queries.count())
    }
}

impl AsyncQuery<Vec<Migration>> for NoopExecutor {
    async fn query(&mut self, _: &str) -> Result<Vec<Migration>, Infallible> {
        Ok(self.applied.clone())
    }
}

impl AsyncMigrate for NoopExecutor {
    fn assert_migrations_table_query(_: &str) -> String {
        String::new()
    }
}
