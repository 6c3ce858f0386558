//! The worker.

use crate::stage::{Ask, Stage, must_end};
use repositories_api::{jobs::queue::Policy, worker::Worker};
use serde_json::{Value, json};
use std::time::Duration;
use tokio::sync::watch;

async fn job(stage: &Stage, slug: &str, job: &str) -> Value {
    let tenant = stage.of(slug);
    let path = format!("/organizations/{}/jobs/{job}", tenant.organization);
    stage.send(&Ask::new("GET", path).bearer(&tenant.key)).await.json()
}

/// Queues a job that fails, on a repository without a description.
async fn failing(stage: &Stage) -> String {
    let tenant = stage.of("acme");
    let path = format!("/organizations/{}/repositories", tenant.organization);
    let made = stage.send(&Ask::new("POST", &path).bearer(&tenant.key).json(&json!({ "name": "bare" }))).await.json();
    let path = format!("{path}/{}/jobs", made["id"].as_str().unwrap());
    let made = stage.send(&Ask::new("POST", path).bearer(&tenant.key).json(&json!({ "kind": "verify" }))).await;
    made.json()["id"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn the_jobs_of_all_active_tenants_are_done_each_in_its_own() {
    let stage = Stage::set().await;
    assert_eq!(Worker::new(stage.app.clone()).round(true).await.unwrap(), 2);
    for slug in ["acme", "globex"] {
        let done = job(&stage, slug, &stage.of(slug).job).await;
        let characters = format!("kept by {slug}").len();
        assert_eq!(
            (&done["status"], &done["attempts"], &done["result"]),
            (&json!("succeeded"), &json!(1), &json!({ "words": 3, "characters": characters })),
            "{done}"
        );
    }
    assert_eq!(stage.number("select count(*) from tenant_dormant.jobs where status = 'queued'").await, 1);
    assert_eq!(Worker::new(stage.app.clone()).round(true).await.unwrap(), 0);
}

#[tokio::test]
async fn a_job_that_fails_is_tried_again_later_and_given_up_in_the_end() {
    let stage = Stage::set().await;
    let id = failing(&stage).await;
    let policy = Policy {
        attempts_max: 3,
        backoff: Duration::from_secs(1000),
        backoff_max: Duration::from_secs(9000),
        ..Policy::default()
    };
    let worker = Worker::new(stage.app.clone()).with_policy(policy);
    for attempt in 1..=3_i64 {
        assert!(worker.round(false).await.unwrap() >= 1);
        let shown = job(&stage, "acme", &id).await;
        let status = if attempt < 3 { "queued" } else { "failed" };
        assert_eq!(
            (&shown["status"], &shown["attempts"], &shown["error"]),
            (&json!(status), &json!(attempt), &json!("the repository has no description"))
        );
        // Not before its time, which is twice as far off each time.
        assert_eq!(worker.round(false).await.unwrap(), 0);
        let pause = stage
            .number(
                "select extract(epoch from run_at - updated_at)::bigint from tenant_acme.jobs where kind = 'verify'",
            )
            .await;
        assert_eq!(pause, 1000 << (attempt - 1));
        stage.run("update tenant_acme.jobs set run_at = now() where kind = 'verify'").await;
    }
    assert_eq!(worker.round(false).await.unwrap(), 0);
}

#[tokio::test]
async fn a_job_whose_worker_is_lost_is_taken_by_another() {
    let stage = Stage::set().await;
    // As a worker leaves it that was killed.
    let lost = "update tenant_acme.jobs set status = 'running', attempts = attempts + 1, lease_id = gen_random_uuid(),
                       lease_until = now() + interval '1 hour'";
    stage.run(lost).await;
    let worker = Worker::new(stage.app.clone());
    assert_eq!(worker.round(false).await.unwrap(), 1, "globex's alone: the lease is not over");
    // Who does it cannot delete it meanwhile.
    let path = format!("/organizations/{}/jobs/{}", stage.of("acme").organization, stage.of("acme").job);
    stage.send(&Ask::new("DELETE", &path).bearer(&stage.of("acme").key)).await.problem(409);
    stage.run("update tenant_acme.jobs set lease_until = now() - interval '1 second'").await;
    assert_eq!(worker.round(false).await.unwrap(), 1);
    let done = job(&stage, "acme", &stage.of("acme").job).await;
    assert_eq!((&done["status"], &done["attempts"]), (&json!("succeeded"), &json!(2)));
    // Lost in its last attempt.
    let last = "update tenant_acme.jobs set status = 'running', finished_at = null, attempts = 5, lease_id = gen_random_uuid(),
                       lease_until = now() - interval '1 second'";
    stage.run(last).await;
    assert_eq!(worker.round(false).await.unwrap(), 0);
    assert_eq!(job(&stage, "acme", &stage.of("acme").job).await["error"], "the worker was lost");
}

#[tokio::test]
async fn many_workers_do_each_job_once() {
    let stage = Stage::set().await;
    let many = format!(
        "insert into tenant_acme.jobs (id, organization_id, repository_id, kind)
        select gen_random_uuid(), '{}', '{}', 'analyze' from generate_series(1, 40)",
        stage.of("acme").organization,
        stage.of("acme").repository
    );
    stage.run(&many).await;
    let workers: Vec<_> = (0..4)
        .map(|_| {
            let worker = Worker::new(stage.app.clone());
            tokio::spawn(async move { while worker.round(false).await.unwrap() > 0 {} })
        })
        .collect();
    for worker in workers {
        must_end(worker).await.unwrap();
    }
    assert_eq!(
        stage.number("select count(*) from tenant_acme.jobs where status = 'succeeded' and attempts = 1").await,
        41
    );
}

#[tokio::test]
async fn a_new_job_wakes_the_worker_of_its_process() {
    let stage = Stage::set().await;
    let (stop, stopped) = watch::channel(false);
    let worker = tokio::spawn(Worker::new(stage.app.clone()).run(stopped));
    failing(&stage).await;
    stage
        .until(
            "select exists (select from tenant_acme.jobs where kind = 'verify' and attempts = 1 and status = 'queued')",
        )
        .await;
    stop.send(true).unwrap();
    must_end(worker).await.unwrap();
}
