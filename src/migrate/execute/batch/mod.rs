//! Builds and sends one message with all files of a schema that share one transaction, and interprets the response.

mod script;
mod verdict;

use super::{
    poll::PollBackoff,
    script::MARKS,
    step_log,
    unit::{ApplyOutcome, LockWait, Unit},
};
use crate::{
    db::{
        Operator,
        message::{self, Answer, Kept},
        run_files::Commits,
    },
    error::{Error, MigrationError, Result, while_doing},
    sql::TransactionWords,
};
use script::script_of;
use verdict::{MessageVerdict, judge};

/// Sends one message once, and interprets the response.
pub(in crate::migrate) async fn send_batch(
    operator: &Operator,
    unit: &Unit<'_>,
    turn: LockWait,
) -> Result<ApplyOutcome> {
    let script = script_of(operator, unit, turn);
    let schema = &unit.plan.schema;
    let mut patience = PollBackoff::of(operator);
    loop {
        let answer = operator
            .run_files(script.sql.clone(), words_of(unit), unit.commits, script.kept())
            .await
            .map_err(while_doing(format!("migrate schema {:?}", schema.as_str())))?;
        match judge(&script, operator, unit, answer)? {
            MessageVerdict::Landed(landing) => {
                if let (ApplyOutcome::Applied, Commits::WithMessage, Some((record, set))) =
                    (landing, unit.commits, unit.files)
                {
                    record.note(set, &unit.plan.pending);
                }
                return Ok(landing);
            }
            MessageVerdict::PartiallyApplied
                if unit.commits == Commits::WithMessage && step_log::forget_nothing(operator, schema).await? => {}
            MessageVerdict::PartiallyApplied => {
                if unit.commits == Commits::Later {
                    // The transaction of all schemas is aborted and answers nothing.
                    let _ = message::run(operator.client(), "rollback").await;
                    if step_log::forget_nothing(operator, schema).await? {
                        return Err(Error::Migration(MigrationError::PlanStale { schema: schema.clone() }));
                    }
                }
                return Err(step_log::refused(operator, schema).await?);
            }
            // An open transaction would block other sessions during the wait, and it is already aborted.
            MessageVerdict::Busy if turn == LockWait::NoWait || unit.commits == Commits::Later => {
                return Ok(ApplyOutcome::Locked);
            }
            MessageVerdict::Busy => {
                if !patience.wait().await {
                    let waited = operator.session().migration_wait;
                    return Err(Error::Migration(MigrationError::Locked { schema: schema.clone(), waited }));
                }
            }
        }
    }
}

/// Creates a schema in one message, returns the observations that [`Purpose::RollBack`] requests, and rolls it back.
///
/// Locks: those of [`attempt`]. Nothing is committed.
pub(crate) async fn observe(operator: &Operator, unit: &Unit<'_>) -> Result<Answer> {
    let script = script_of(operator, unit, LockWait::Block);
    let schema = &unit.plan.schema;
    let doing = || while_doing(format!("migrate schema {:?}", schema.as_str()));
    let mut answer = operator
        .run_files(script.sql.clone(), words_of(unit), unit.commits, Kept::Marked(MARKS.into()))
        .await
        .map_err(doing())?;
    let Some(error) = answer.error.take() else { return Ok(answer) };
    let failed = Answer { error: Some(error), ..answer };
    match judge(&script, operator, unit, failed)? {
        MessageVerdict::Landed(_) | MessageVerdict::Busy | MessageVerdict::PartiallyApplied => Err(Error::Unexpected {
            doing: format!("rehearse in schema {:?}", schema.as_str()),
            found: "the schema is in use".into(),
        }),
    }
}

/// Returns the transaction keywords in the texts of a unit's files.
fn words_of(unit: &Unit<'_>) -> TransactionWords {
    unit.plan.pending.iter().fold(TransactionWords::default(), |words, file| words.and(file.words()))
}
