//! Reads the recorded runs of `cgk migrate`.

use super::{
    ReportOptions,
    model::{FailingTenant, ReportedRun, SlowTenant},
};
use crate::{
    db::Operator,
    error::Result,
    migrate::{self, RunRecord, RunState, history::tenants},
};

#[derive(Default)]
pub(super) struct Runs {
    pub(super) runs: Vec<ReportedRun>,
    pub(super) slow: Vec<SlowTenant>,
    pub(super) failing: Vec<FailingTenant>,
    pub(super) failing_count: usize,
}

pub(super) async fn read(operator: &Operator, options: &ReportOptions) -> Result<Runs> {
    let runs = migrate::history(operator, options.runs_max).await?;
    let limit = i64::try_from(options.named_max).unwrap_or(i64::MAX);
    let slow = tenants::slowest(operator, limit).await?;
    let failing = tenants::failing(operator, limit).await?;
    Ok(Runs {
        runs: runs.into_iter().map(reported).collect(),
        slow: slow
            .into_iter()
            .map(|found| SlowTenant {
                tenant: found.tenant,
                runs: found.runs,
                longest: found.longest,
                average: found.average,
            })
            .collect(),
        failing_count: failing.first().map_or(0, |found| found.of),
        failing: failing
            .into_iter()
            .map(|found| FailingTenant {
                tenant: found.tenant,
                sqlstate: found.sqlstate,
                message: found.message,
                failed_at: found.failed_at,
            })
            .collect(),
    })
}

fn reported(run: RunRecord) -> ReportedRun {
    ReportedRun {
        run: run.id.to_string(),
        state: match run.state {
            RunState::Finished => "finished",
            RunState::Running => "running",
            RunState::Died => "died",
        },
        started_at: run.started_at,
        took: run.finished_at.and_then(|end| end.duration_since(run.started_at).ok()),
        started_by: run.started_by,
        selection: run.selection,
        target: run.target,
        planned: run.planned,
        migrated: run.migrated,
        failed: run.failed,
        skipped: run.skipped,
        left: run.left,
        stopped: run.stopped.map(migrate::StopReason::as_str),
        error: run.error,
    }
}
