//! Applies one schema's migrations in pieces. A piece is one message ([`batch`]), whose implicit transaction
//! contains everything, or a file that runs without a transaction ([`non_transactional`]).
//!
//! Provisioning, the statements of all files, the ledger's rows and its comment are committed together or not at all.
//! Only a file that runs without a transaction divides them. The files before it are one message. The file itself runs
//! statement by statement (`non_transactional.rs`). The files after it are one message again. After each piece, the
//! ledger records the applied files.

use super::{
    batch,
    grouping::Grouping,
    non_transactional,
    transactionality::within_a_transaction,
    unit::{ApplyOutcome, LedgerPresence, LockWait, Unit},
};
use crate::{
    db::{Operator, run_files::Commits},
    error::{Error, MigrationError, Result},
    fleet::backoff::Backoff,
    ident::SchemaName,
    migrate::{files::file::MigrationFile, plan::SchemaPlan, rehearsal::shared},
    migration::MigrationId,
};
use std::sync::Arc;

/// Applies a unit, and repeats it if a lock timeout, a deadlock or a serialization failure rolled it back.
///
/// Locks and cancel safety: those of [`attempt`].
pub(crate) async fn apply(operator: &Operator, unit: &Unit<'_>) -> Result<ApplyOutcome> {
    let mut backoff = Backoff::new();
    loop {
        match attempt(operator, unit, LockWait::Block, &mut Vec::new()).await {
            Err(error) => pause_after(error, &mut backoff, unit.plan).await?,
            landed => return landed,
        }
    }
}

/// Waits before the next attempt. Returns the error if there is no next attempt.
async fn pause_after(error: Error, backoff: &mut Backoff, plan: &SchemaPlan<'_>) -> Result<()> {
    let Some(pause) = backoff.after(&error) else { return Err(error) };
    tracing::info!(schema = plan.schema.as_str(), %error, "trying again");
    tokio::time::sleep(pause).await;
    Ok(())
}

/// Tries a unit once. If a file without a transaction divides it, the later pieces are retried here, because the first
/// piece is committed and the same unit could not be repeated. `committed` contains every migration whose piece is
/// committed.
///
/// Locks: the schema's migration lock ([`lock::migration_key`]) and the locks of the files, until the end of the
/// message. While a file runs statement by statement, its lock ([`lock::steps_key`]), until the end of the file. Cancel
/// safety: if the future is dropped, the server may still finish and commit the running message. The ledger shows the
/// result, and so does the step log of a partially applied file.
pub(crate) async fn attempt(
    operator: &Operator,
    unit: &Unit<'_>,
    turn: LockWait,
    committed: &mut Vec<MigrationId>,
) -> Result<ApplyOutcome> {
    let mut applied = Arc::clone(&unit.plan.applied);
    let (grouping, sessions, purpose) = (unit.grouping, unit.sessions, unit.purpose);
    for (number, piece) in pieces(unit).into_iter().enumerate() {
        let plan = SchemaPlan { schema: unit.plan.schema.clone(), applied, pending: piece.files.into() };
        let is_first = number == 0;
        let provision = if is_first { unit.provision.clone() } else { String::new() };
        let ledger = if is_first { unit.ledger } else { LedgerPresence::Present };
        let (owner, commits) = (unit.owner.clone(), unit.commits);
        let (role, files) = (unit.role, unit.files);
        let part = Unit { plan: &plan, role, provision, ledger, owner, commits, grouping, sessions, purpose, files };
        let mut backoff = Backoff::new();
        let landed = loop {
            let turn = if is_first { turn } else { LockWait::Block };
            let tried = match piece.how {
                SendMode::Batch => batch::send_batch(operator, &part, turn).await,
                SendMode::StepByStep => match checkpoint(operator, &plan).await {
                    Ok(()) => non_transactional::run(operator, &part, turn).await,
                    Err(error) => Err(error),
                },
            };
            match tried {
                Err(error) if !is_first => match pause_after(error, &mut backoff, &plan).await {
                    Ok(()) => {}
                    Err(error) => break Err(error),
                },
                landed => break landed,
            }
        };
        match landed {
            Ok(ApplyOutcome::Applied) => {}
            Ok(landing) => return Ok(landing),
            Err(Error::Migration(MigrationError::Failed(mut failure))) => {
                failure.committed = committed.clone();
                return Err(Error::Migration(MigrationError::Failed(failure)));
            }
            Err(error) => return Err(error),
        }
        applied = plan.applied_after().into();
        committed.extend(plan.pending.iter().map(|file| file.id().clone()));
    }
    Ok(ApplyOutcome::Applied)
}

/// Records the state of the shared schema before a file without a transaction.
async fn checkpoint(operator: &Operator, plan: &SchemaPlan<'_>) -> Result<()> {
    if plan.schema == SchemaName::public() { shared::checkpoint(operator).await } else { Ok(()) }
}

/// Whether a new schema cannot get these files in one transaction, because a file without a transaction contains
/// statements that no transaction allows.
pub(crate) fn is_born_in_steps(plan: &SchemaPlan<'_>) -> bool {
    plan.pending.iter().any(|file| !file.is_transactional() && within_a_transaction(file, "UTF8").is_none())
}

/// Files that are executed in the same way.
struct Piece<'a> {
    how: SendMode,
    files: Vec<&'a MigrationFile>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum SendMode {
    Batch,
    StepByStep,
}

fn pieces<'a>(unit: &Unit<'a>) -> Vec<Piece<'a>> {
    let is_batch = unit.grouping == Grouping::Batch;
    let needs_beginning = !unit.provision.is_empty() || unit.ledger == LedgerPresence::Absent;
    // A schema that is being created has no other users.
    let is_birth = unit.is_birth() || (unit.commits == Commits::Later && !unit.provision.is_empty());
    if is_batch && is_birth && !is_born_in_steps(unit.plan) {
        return vec![Piece { how: SendMode::Batch, files: unit.plan.pending.to_vec() }];
    }
    let mut pieces: Vec<Piece<'a>> = Vec::new();
    if needs_beginning || unit.plan.pending.is_empty() {
        pieces.push(Piece { how: SendMode::Batch, files: Vec::new() });
    }
    for file in unit.plan.pending.iter().copied() {
        match pieces.last_mut() {
            Some(last) if is_batch && last.how == SendMode::Batch && file.is_transactional() => {
                last.files.push(file);
            }
            _ => {
                let how = if file.is_transactional() { SendMode::Batch } else { SendMode::StepByStep };
                pieces.push(Piece { how, files: vec![file] });
            }
        }
    }
    pieces
}
