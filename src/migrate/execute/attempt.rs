//! Makes one attempt at one schema. Plans again if another run changed the schema first.

use super::{
    apply,
    grouping::Grouping,
    unit::{ApplyOutcome, LedgerPresence, LockWait, Purpose, SchemaAccess, Unit},
};
use crate::{
    db::{Operator, run_files::Commits},
    error::{Error, MigrationError, Result},
    ident::{Ident, RoleName},
    migrate::{
        fileset::record::FileRecord,
        ledger,
        migrations::Migrations,
        plan::{SchemaPlan, Target, fleet::presence, plan, started::StartedMigration},
    },
    migration::{MigrationId, Set},
};

/// How often the plan is made again for a schema that another run keeps changing.
const REPLANS_MAX: u32 = 4;

/// The work for one schema.
pub(crate) struct Task<'a> {
    pub(crate) set: Set,
    pub(crate) plan: SchemaPlan<'a>,
    pub(crate) ledger: LedgerPresence,
    pub(crate) role: Option<RoleName>,
    pub(crate) owner: Option<Ident>,
    /// Whether it is an error if a schema no longer matches the plan.
    pub(crate) exact: bool,
    /// Set until the first attempt that may change the schema, if it must match the plan.
    pub(crate) progress: Option<PlannedProgress>,
    /// The record of the fleet's files.
    pub(crate) files: Option<&'a FileRecord>,
}

/// How far the schema had got in a file without a transaction when the run was planned.
#[derive(Debug)]
pub(crate) struct PlannedProgress(pub(crate) Option<StartedMigration>);

impl Task<'_> {
    /// Refuses if the progress of the first file differs from that of the plan. The ledger does not show it.
    async fn check_progress(&self, operator: &Operator, migrations: &Migrations) -> Result<()> {
        let Some(PlannedProgress(planned)) = &self.progress else { return Ok(()) };
        if self.plan.pending.first().is_none_or(|file| file.is_transactional()) {
            return Ok(());
        }
        let schema = &self.plan.schema;
        match StartedMigration::read(operator, migrations.set(self.set), schema).await? == *planned {
            true => Ok(()),
            false => Err(Error::Migration(MigrationError::PlanStale { schema: schema.clone() })),
        }
    }
}

/// The result of a successful attempt.
#[derive(Debug)]
pub(crate) enum MigrationAttempt {
    /// The schema is at the plan's target. These migrations were applied; another run applied the others.
    Done(Vec<MigrationId>),
    /// Another run is working on the schema.
    Locked,
}

/// Tries once. Plans again if another run changed the schema first.
pub(crate) async fn attempt<'a>(
    operator: &Operator,
    migrations: &'a Migrations,
    task: &mut Task<'a>,
    turn: LockWait,
) -> Result<MigrationAttempt> {
    let schema = task.plan.schema.clone();
    let upto = task.plan.pending.last().map(|file| file.id().version);
    let mut applied = Vec::new();
    let mut grouping = Grouping::Batch;
    task.check_progress(operator, migrations).await?;
    for _ in 0..REPLANS_MAX {
        let unit = Unit {
            plan: &task.plan,
            role: task.role.as_ref(),
            provision: String::new(),
            ledger: task.ledger,
            owner: task.owner.clone(),
            commits: Commits::WithMessage,
            files: task.files.map(|files| (files, task.set)),
            grouping,
            sessions: SchemaAccess::Any,
            purpose: Purpose::Use,
        };
        let outcome = apply::attempt(operator, &unit, turn, &mut applied).await;
        if !matches!(outcome, Ok(ApplyOutcome::Locked)) {
            task.progress = None;
        }
        match outcome {
            Ok(ApplyOutcome::Applied) => return Ok(MigrationAttempt::Done(applied)),
            Ok(ApplyOutcome::Locked) => return Ok(MigrationAttempt::Locked),
            Ok(ApplyOutcome::Stale) if task.exact => {
                return Err(Error::Migration(MigrationError::PlanStale { schema }));
            }
            Ok(ApplyOutcome::Stale) => {}
            Err(error) => match grouping.after(&error, &task.plan) {
                Some(other) => {
                    tracing::info!(schema = schema.as_str(), %error, "trying again file by file");
                    grouping = other;
                }
                None => return Err(error),
            },
        }
        let read = ledger::read(operator, &schema).await?;
        task.ledger = presence(read.ledger_exists);
        let whole = read.ledger_exists && read.comment_agrees();
        let target = upto.map_or(Target::Head, Target::Version);
        task.plan = plan(migrations.set(task.set), &schema, read.rows, target).map_err(MigrationError::Diverged)?;
        // If the rows are complete and only the comment caused this attempt, the comment is rewritten. Otherwise every
        // run would repeat this.
        if task.plan.pending.is_empty() && whole {
            return Ok(MigrationAttempt::Done(applied));
        }
    }
    Err(Error::Migration(MigrationError::Contended { schema, tries: REPLANS_MAX }))
}
