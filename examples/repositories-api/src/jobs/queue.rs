//! The table `jobs` of a tenant's schema, as a worker uses it.
//!
//! A job is taken by `for update skip locked`, so that workers do not wait for each other, and carries a lease. A worker that dies
//! leaves the job `running`, and another one takes it when the lease is over. Whoever finishes a job says which lease it had: who has
//! lost it changes nothing.

use super::{model::Job, store::columns};
use cgk::{Result, Statements};
use serde_json::Value;
use std::time::Duration;
use uuid::Uuid;

/// What was taken.
pub struct Taken {
    pub job: Job,
    lease: Uuid,
}

/// How often a job is begun, and when again.
#[derive(Clone, Debug)]
pub struct Policy {
    pub attempts_max: i32,
    /// How long an attempt may take.
    pub lease: Duration,
    /// The pause behind the first attempt; each further one is twice as long.
    pub backoff: Duration,
    pub backoff_max: Duration,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            attempts_max: 5,
            lease: Duration::from_secs(60),
            backoff: Duration::from_secs(2),
            backoff_max: Duration::from_secs(600),
        }
    }
}

impl Policy {
    /// The pause behind this many attempts.
    fn pause(&self, attempts: i32) -> Duration {
        let doubled = u32::try_from(attempts - 1).unwrap_or_default().min(20);
        self.backoff.saturating_mul(1 << doubled).min(self.backoff_max)
    }
}

/// Takes the job that is due longest. What has lost its worker in its last attempt has failed.
pub async fn take(tx: &impl Statements, policy: &Policy) -> Result<Option<Taken>> {
    let give_up = "update jobs set status = 'failed', finished_at = now(), lease_id = null, lease_until = null,
                          error = 'the worker was lost'
                    where status = 'running' and lease_until < now() and attempts >= $1";
    tx.execute(give_up, &[&policy.attempts_max]).await?;
    let take = concat!(
        "update jobs set status = 'running', attempts = attempts + 1, lease_id = $1,
                lease_until = now() + $2 * interval '1 second'
          where id = (select id from jobs
                       where status = 'queued' and run_at <= now() or status = 'running' and lease_until < now()
                       order by run_at limit 1 for update skip locked)
      returning ",
        columns!()
    );
    let lease = Uuid::now_v7();
    let job = tx.query_as(take, &[&lease, &policy.lease.as_secs_f64()]).await?.pop();
    Ok(job.map(|job| Taken { job, lease }))
}

/// What became of a job that was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    Recorded,
    /// The lease was over, or the job is deleted: somebody else has it, or nobody.
    Lost,
}

pub async fn succeeded(tx: &impl Statements, taken: &Taken, result: &Value) -> Result<Outcome> {
    let sql = "update jobs set status = 'succeeded', result = $3, error = null, finished_at = now(), lease_id = null,
                      lease_until = null
                where id = $1 and lease_id = $2";
    outcome(tx.execute(sql, &[&taken.job.id, &taken.lease, result]).await?)
}

pub async fn failed(tx: &impl Statements, taken: &Taken, policy: &Policy, error: &str) -> Result<Outcome> {
    let error: String = error.chars().filter(|c| *c != '\0').take(1000).collect();
    let last = taken.job.attempts >= policy.attempts_max;
    let pause = policy.pause(taken.job.attempts).as_secs_f64();
    let sql = "update jobs set status = case when $3 then 'failed' else 'queued' end,
                      finished_at = case when $3 then now() end,
                      run_at = now() + $4 * interval '1 second', error = $5, lease_id = null, lease_until = null
                where id = $1 and lease_id = $2";
    outcome(tx.execute(sql, &[&taken.job.id, &taken.lease, &last, &pause, &error]).await?)
}

fn outcome(rows: u64) -> Result<Outcome> {
    Ok(if rows == 1 { Outcome::Recorded } else { Outcome::Lost })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_longest() {
        let policy = Policy::default();
        let pauses: Vec<u64> = [1, 2, 3, 9, 10, 1000].map(|attempts| policy.pause(attempts).as_secs()).into();
        assert_eq!(pauses, [2, 4, 8, 512, 600, 600]);
    }
}
