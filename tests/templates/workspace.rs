//! The template workspace: every constraint, index and cascade, the queue among several workers, two tenants.

use crate::stage::{Stage, slug};
use std::collections::BTreeSet;

const TABLES: [&str; 3] = ["projects", "repositories", "jobs"];

const ROWS: [&str; 3] = [
    "insert into projects (id, name) values ('00000000-0000-0000-0000-000000000001', 'Website')",
    "insert into repositories (id, project_id, name) values
        ('00000000-0000-0000-0000-000000000002', '00000000-0000-0000-0000-000000000001', 'frontend')",
    "insert into jobs (id, repository_id, kind) values
        ('00000000-0000-0000-0000-000000000003', '00000000-0000-0000-0000-000000000002', 'build')",
];

/// What is refused, and by what. `{p}`, `{r}` and `{j}` are the rows above.
const REFUSED: &[(&str, &str)] = &[
    ("insert into projects (id, name) values ('{p}', 'Other')", "projects_pkey"),
    ("insert into projects (name) values ('')", "projects_name_check"),
    ("insert into projects (name) values (' x')", "projects_name_check"),
    ("insert into projects (name) values (repeat('x', 201))", "projects_name_check"),
    ("insert into projects (name, description) values ('x', repeat('x', 5001))", "projects_description_check"),
    ("insert into projects (name, deleted_by) values ('x', gen_random_uuid())", "projects_deleted_by_check"),
    ("insert into projects (name) values ('wEBSITE')", "projects_name_key"),
    ("delete from projects where id = '{p}'", "projects_kept_check"),
    ("insert into repositories (id, project_id, name) values ('{r}', '{p}', 'x')", "repositories_pkey"),
    ("insert into repositories (project_id, name) values (gen_random_uuid(), 'x')", "repositories_project_id_fkey"),
    ("insert into repositories (project_id, name) values ('{p}', 'FrontEnd')", "repositories_name_key"),
    ("insert into repositories (project_id, name) values ('{p}', 'with space')", "repositories_name_check"),
    ("update repositories set description = repeat('x', 501)", "repositories_description_check"),
    ("update repositories set remote_url = 'file:///etc/passwd'", "repositories_remote_url_check"),
    ("update repositories set remote_url = 'https://x/' || repeat('x', 2000)", "repositories_remote_url_check"),
    ("update repositories set default_branch = '-x'", "repositories_default_branch_check"),
    ("insert into jobs (id, repository_id, kind) values ('{j}', '{r}', 'build')", "jobs_pkey"),
    ("insert into jobs (repository_id, kind) values (gen_random_uuid(), 'build')", "jobs_repository_id_fkey"),
    ("insert into jobs (repository_id, kind) values ('{r}', 'Build')", "jobs_kind_check"),
    ("insert into jobs (repository_id, kind, payload) values ('{r}', 'build', '[]')", "jobs_payload_check"),
    ("insert into jobs (repository_id, kind, status) values ('{r}', 'build', 'done')", "jobs_status_check"),
    ("insert into jobs (repository_id, kind, attempts_max) values ('{r}', 'build', 0)", "jobs_attempts_max_check"),
    ("insert into jobs (repository_id, kind, attempts_max) values ('{r}', 'build', 101)", "jobs_attempts_max_check"),
    ("insert into jobs (repository_id, kind, attempts) values ('{r}', 'build', -1)", "jobs_attempts_check"),
    (
        "insert into jobs (repository_id, kind, attempts, status, finished_at) values ('{r}', 'build', 6, 'failed', now())",
        "jobs_attempts_check",
    ),
    ("insert into jobs (repository_id, kind, attempts) values ('{r}', 'build', 5)", "jobs_queued_check"),
    (
        "insert into jobs (repository_id, kind, status, lease_id, lease_until)
         values ('{r}', 'build', 'running', gen_random_uuid(), now())",
        "jobs_running_check",
    ),
    (
        "insert into jobs (repository_id, kind, status, attempts) values ('{r}', 'build', 'running', 1)",
        "jobs_lease_id_check",
    ),
    ("insert into jobs (repository_id, kind, lease_until) values ('{r}', 'build', now())", "jobs_lease_until_check"),
    ("insert into jobs (repository_id, kind, status) values ('{r}', 'build', 'failed')", "jobs_finished_at_check"),
    ("insert into jobs (repository_id, kind, result) values ('{r}', 'build', '{{}}')", "jobs_result_check"),
    ("update jobs set error = repeat('x', 2001)", "jobs_error_check"),
    // A job that was never claimed cannot be done.
    ("update jobs set status = 'succeeded', finished_at = now()", "jobs_status_changed_check"),
    ("update jobs set status = 'failed', finished_at = now()", "jobs_status_changed_check"),
];

fn with_ids(sql: &str) -> String {
    let mut sql = sql.replace("{{}}", "{}");
    for (name, number) in [("{p}", 1), ("{r}", 2), ("{j}", 3)] {
        sql = sql.replace(name, &format!("00000000-0000-0000-0000-00000000000{number}"));
    }
    sql
}

async fn stage_with_rows() -> Stage {
    let stage = Stage::with(&["workspace"]).await;
    for sql in ROWS {
        stage.run("acme", sql).await;
    }
    stage
}

#[tokio::test]
async fn every_constraint_refuses_what_it_is_for() {
    let stage = stage_with_rows().await;
    let mut tried = BTreeSet::new();
    for (sql, constraint) in REFUSED {
        let (_, found) = stage.refusal("acme", &with_ids(sql)).await;
        assert_eq!(found, *constraint, "{sql}");
        tried.insert((*constraint).to_owned());
    }
    // None of the schema's was left out, and the rows are as they were.
    for constraint in stage.constraints("tenant_acme", &TABLES).await {
        assert!(tried.contains(&constraint), "{constraint} was not tried");
    }
    assert_eq!(stage.one::<i64>("acme", "select count(*) from projects, repositories, jobs").await, 1);
}

#[tokio::test]
async fn every_index_is_used_by_the_query_that_it_is_for() {
    let stage = stage_with_rows().await;
    let queries = [
        ("projects_pkey", "select from projects where id = '00000000-0000-0000-0000-000000000001'"),
        ("projects_name_key", "select from projects where lower(name) = 'x' and deleted_at is null"),
        (
            "projects_last_edited_at_idx",
            "select * from projects where deleted_at is null order by last_edited_at desc limit 20",
        ),
        (
            "projects_deleted_at_idx",
            "select id from projects where deleted_at <= now() - interval '30 days' order by deleted_at limit 100",
        ),
        ("repositories_pkey", "select from repositories where id = '00000000-0000-0000-0000-000000000001'"),
        ("repositories_name_key", "select from repositories where project_id = '00000000-0000-0000-0000-000000000001'"),
        ("jobs_pkey", "select from jobs where id = '00000000-0000-0000-0000-000000000001'"),
        (
            "jobs_repository_id_created_at_idx",
            "select * from jobs where repository_id = '00000000-0000-0000-0000-000000000001' order by created_at desc limit 20",
        ),
        (
            "jobs_queued_idx",
            "select id from jobs where status = 'queued' and run_after <= now() order by priority desc, run_after, id limit 1",
        ),
        (
            "jobs_lease_until_idx",
            "select id from jobs where status = 'running' and lease_until <= now() order by lease_until",
        ),
    ];
    for (index, sql) in queries {
        let plan = stage.plan_of("acme", sql).await;
        assert!(plan.contains(&format!("using {index} ")), "{index}\n{plan}");
        assert!(!plan.contains("Sort"), "{plan}");
    }
    let tried: Vec<String> = queries.iter().map(|(index, _)| (*index).to_owned()).collect();
    for index in stage.indexes("tenant_acme", &TABLES).await {
        assert!(tried.contains(&index), "{index} was not tried");
    }
    assert!(stage.foreign_keys_without_index("tenant_acme").await.is_empty());
}

#[tokio::test]
async fn a_deleted_project_is_restored_unless_its_name_is_taken() {
    let stage = stage_with_rows().await;
    let user = "11111111-1111-1111-1111-111111111111";
    let call = |sql: &str| with_ids(sql);
    assert!(stage.one::<bool>("acme", &call(&format!("select delete_project('{{p}}', '{user}')"))).await);
    assert!(!stage.one::<bool>("acme", &call("select delete_project('{p}')")).await);
    assert!(stage.one::<bool>("acme", &format!("select deleted_by = '{user}' from projects")).await);
    let (state, constraint) = stage.refusal("acme", "update projects set name = 'Renamed'").await;
    assert_eq!((state.as_str(), constraint.as_str()), ("23514", "projects_edited_check"));

    stage
        .run("acme", "insert into projects (id, name) values ('{p2}', 'website')".replace("{p2}", user).as_str())
        .await;
    let (state, constraint) = stage.refusal("acme", &call("select restore_project('{p}')")).await;
    assert_eq!((state.as_str(), constraint.as_str()), ("23505", "projects_name_key"));
    stage.run("acme", &format!("update projects set name = 'Other' where id = '{user}'")).await;
    assert!(stage.one::<bool>("acme", &call("select restore_project('{p}')")).await);
    assert!(!stage.one::<bool>("acme", &call("select restore_project('{p}')")).await);
    assert!(
        stage.one::<bool>("acme", "select bool_and(deleted_at is null and deleted_by is null) from projects").await
    );
}

#[tokio::test]
async fn last_edited_at_tells_edits_from_deletions() {
    let stage = stage_with_rows().await;
    let edited = "select last_edited_at = created_at from projects";
    stage.run("acme", &with_ids("select delete_project('{p}')")).await;
    stage.run("acme", &with_ids("select restore_project('{p}')")).await;
    stage.run("acme", "update projects set name = name").await;
    assert!(stage.one::<bool>("acme", edited).await);
    assert!(stage.one::<bool>("acme", "select updated_at > created_at from projects").await);
    stage.run("acme", "update projects set description = 'new'").await;
    assert!(!stage.one::<bool>("acme", edited).await);
}

#[tokio::test]
async fn a_purge_removes_what_was_deleted_long_ago_with_all_that_is_in_it() {
    let stage = stage_with_rows().await;
    stage.run("acme", "insert into projects (name) select 'p' || n from generate_series(1, 5) n").await;
    stage.run("acme", "update projects set deleted_at = now() - interval '31 days' where name <> 'p5'").await;
    stage.run("acme", "update projects set deleted_at = now() - interval '29 days' where name = 'p4'").await;
    assert_eq!(stage.one::<i64>("acme", "select purge_projects(projects_max => 3)").await, 3);
    assert_eq!(stage.one::<i64>("acme", "select purge_projects(projects_max => 3)").await, 1);
    assert_eq!(stage.one::<i64>("acme", "select purge_projects(projects_max => 3)").await, 0);
    // A retention time that is negative does not reach into the future.
    stage.run("acme", "update projects set deleted_at = now() + interval '1 hour' where name = 'p4'").await;
    assert_eq!(stage.one::<i64>("acme", "select purge_projects('-1 day')").await, 0);
    assert_eq!(stage.one::<String>("acme", "select string_agg(name, ',' order by name) from projects").await, "p4,p5");
    // A setting that is missing is no retention time. The control: none at all.
    stage.run("acme", "update projects set deleted_at = now() - interval '1 year' where name = 'p4'").await;
    assert_eq!(stage.one::<i64>("acme", "select purge_projects(null)").await, 0);
    assert_eq!(stage.one::<i64>("acme", "select purge_projects('0')").await, 1);
    for table in ["repositories", "jobs"] {
        assert_eq!(stage.one::<i64>("acme", &format!("select count(*) from {table}")).await, 0, "{table}");
    }
}

/// Each job goes to one worker: two open transactions claim different ones, and neither waits.
#[tokio::test(flavor = "multi_thread")]
async fn two_workers_never_have_the_same_job() {
    let stage = stage_with_rows().await;
    stage
        .run(
            "acme",
            &with_ids("insert into jobs (repository_id, kind) select '{r}', 'build' from generate_series(1, 9)"),
        )
        .await;
    let acme = slug("acme");
    let claim = "select id::text from claim_jobs(6)";
    // The control: without `skip locked` the second transaction would wait for the first, which ends after it.
    let both: Vec<String> = stage
        .db
        .with_tenant(&acme, async |one| {
            let first = one.query(claim, &[]).await?;
            let second = tokio::time::timeout(crate::stage::HANG, stage.db.tenant(&acme).query(claim, &[])).await;
            let second = second.expect("the second worker waits for the first")?;
            assert_eq!((first.len(), second.len()), (6, 4));
            Ok(first.iter().chain(&second).map(|row| row.get(0)).collect())
        })
        .await
        .unwrap();
    assert_eq!(both.iter().collect::<BTreeSet<_>>().len(), 10);
    assert_eq!(stage.one::<i64>("acme", "select count(*) from claim_jobs(6)").await, 0);
}

#[tokio::test]
async fn jobs_are_claimed_by_priority_then_by_time_and_not_before_it() {
    let stage = stage_with_rows().await;
    stage.run("acme", "update jobs set kind = 'late', run_after = now() + interval '1 hour'").await;
    let insert = "insert into jobs (repository_id, kind, priority, run_after) values
        ('{r}', 'second', 0, now() - interval '2 minutes'), ('{r}', 'third', 0, now() - interval '1 minute'),
        ('{r}', 'first', 5, now() - interval '1 second')";
    stage.run("acme", &with_ids(insert)).await;
    assert_eq!(stage.one::<i64>("acme", "select count(*) from claim_jobs(9, kinds => '{late,other}')").await, 0);
    let claimed = "select string_agg(kind, ',') from (select kind from claim_jobs(1)) c";
    for kind in ["first", "second", "third"] {
        assert_eq!(stage.one::<String>("acme", claimed).await, kind);
    }
    assert_eq!(stage.one::<i64>("acme", "select count(*) from claim_jobs(9)").await, 0);
}

#[tokio::test]
async fn a_claim_without_a_number_or_a_lease_is_refused() {
    let stage = stage_with_rows().await;
    for call in [
        "claim_jobs(null)",
        "claim_jobs(-1)",
        "claim_jobs(lease_time => null)",
        "claim_jobs(lease_time => '-1 day')",
        "claim_jobs(lease_time => '0 seconds')",
        "extend_lease(gen_random_uuid(), gen_random_uuid(), null)",
        "extend_lease(gen_random_uuid(), gen_random_uuid(), '-1 day')",
    ] {
        let (sqlstate, _) = stage.refusal("acme", &format!("select from {call}")).await;
        assert_eq!(sqlstate, "22023", "{call}");
    }
    assert!(stage.one::<bool>("acme", "select bool_and(status = 'queued' and attempts = 0) from jobs").await);
    // The control: what is not refused claims.
    assert_eq!(stage.run("acme", "select from claim_jobs(0)").await, 0);
    assert_eq!(stage.run("acme", "select from claim_jobs(1, '1 second')").await, 1);
}

#[tokio::test]
async fn an_attempt_that_fails_is_made_again_until_none_is_left() {
    let stage = stage_with_rows().await;
    stage.run("acme", "update jobs set attempts_max = 2").await;
    let fail = "select fail_job(id, lease_id, 'no network') from jobs";
    assert_eq!(stage.run("acme", "select from claim_jobs()").await, 1);
    assert!(stage.one::<bool>("acme", fail).await);
    let waits =
        "select status = 'queued' and run_after between now() + interval '9 seconds' and now() + interval '10 seconds'
                        and error = 'no network' and lease_id is null from jobs";
    assert!(stage.one::<bool>("acme", waits).await);
    assert_eq!(stage.run("acme", "select from claim_jobs()").await, 0);
    stage.run("acme", "update jobs set run_after = now()").await;
    assert_eq!(stage.run("acme", "select from claim_jobs()").await, 1);
    assert!(stage.one::<bool>("acme", fail).await);
    assert_eq!(stage.one::<String>("acme", "select status from jobs where finished_at is not null").await, "failed");
    assert!(
        !stage.one::<bool>("acme", "select coalesce(bool_or(fail_job(id, lease_id, 'again')), false) from jobs").await
    );
    // By hand, with all its attempts.
    assert!(stage.one::<bool>("acme", "select retry_job(id) from jobs").await);
    assert!(stage.one::<bool>("acme", "select status = 'queued' and attempts = 0 and error is null from jobs").await);
}

#[tokio::test]
async fn a_lost_lease_gives_the_job_to_another_worker() {
    let stage = stage_with_rows().await;
    stage.run("acme", "update jobs set attempts_max = 2").await;
    let lease = "select lease_id::text from claim_jobs()";
    let first: String = stage.one("acme", lease).await;
    // The control: while the lease lasts, there is nothing to claim.
    assert_eq!(stage.run("acme", "select from claim_jobs()").await, 0);
    assert!(stage.one::<bool>("acme", &format!("select extend_lease(id, '{first}', '1 hour') from jobs")).await);
    stage.run("acme", "update jobs set lease_until = now() - interval '1 second'").await;
    let second: String = stage.one("acme", lease).await;
    assert_ne!(first, second);
    for sql in ["complete_job(id, '{l}', '{}')", "fail_job(id, '{l}', 'x')", "extend_lease(id, '{l}')"] {
        let sql = format!("select {} from jobs", sql.replace("{l}", &first));
        assert!(!stage.one::<bool>("acme", &sql).await, "{sql}");
    }
    // The second and last attempt is lost too.
    stage.run("acme", "update jobs set lease_until = now() - interval '1 second'").await;
    assert_eq!(stage.run("acme", "select from claim_jobs()").await, 0);
    assert_eq!(
        stage.one::<String>("acme", "select status || ': ' || error from jobs").await,
        "failed: the lease ran out"
    );
}

/// Four workers, whose leases are short and who leave some of their jobs: each job is completed, and by one of them.
#[tokio::test(flavor = "multi_thread")]
async fn jobs_of_lost_workers_are_completed_once_each() {
    let stage = stage_with_rows().await;
    let more = "insert into jobs (repository_id, kind) select '{r}', 'build' from generate_series(1, 59)";
    stage.run("acme", &with_ids(more)).await;
    stage.run("acme", "update jobs set attempts_max = 100").await;
    let mut workers = tokio::task::JoinSet::new();
    for worker in 0..4 {
        let db = stage.db.clone();
        workers.spawn(async move {
            let (acme, mut done) = (slug("acme"), Vec::<String>::new());
            let claim = "select id::text, lease_id::text from claim_jobs(4, '20 milliseconds')";
            let left = "select count(*) from jobs where status in ('queued', 'running')";
            let complete = "select complete_job($1::text::uuid, $2::text::uuid)";
            for round in 0.. {
                let claimed = db.tenant(&acme).query(claim, &[]).await.unwrap();
                if claimed.is_empty() && db.tenant(&acme).query_one(left, &[]).await.unwrap().get::<_, i64>(0) == 0 {
                    break;
                }
                for row in claimed.iter().skip(usize::from(round % 3 == worker % 3)) {
                    let (job, lease): (String, String) = (row.get(0), row.get(1));
                    if db.tenant(&acme).query_one(complete, &[&job, &lease]).await.unwrap().get(0) {
                        done.push(job);
                    }
                }
            }
            done
        });
    }
    let done = tokio::time::timeout(crate::stage::HANG, workers.join_all()).await.expect("the workers go on").concat();
    assert_eq!((done.len(), done.iter().collect::<BTreeSet<_>>().len()), (60, 60));
    assert_eq!(stage.one::<i64>("acme", "select count(*) from jobs where status = 'succeeded'").await, 60);
    // The control: leases were lost.
    assert!(stage.one::<i64>("acme", "select count(*) from jobs where attempts > 1").await > 0);
}

#[tokio::test]
async fn a_canceled_job_is_nobodys() {
    let stage = stage_with_rows().await;
    let lease: String = stage.one("acme", "select lease_id::text from claim_jobs()").await;
    assert!(stage.one::<bool>("acme", "select cancel_job(id) from jobs").await);
    assert!(!stage.one::<bool>("acme", "select cancel_job(id) from jobs").await);
    assert!(!stage.one::<bool>("acme", &format!("select complete_job(id, '{lease}') from jobs")).await);
    assert_eq!(stage.run("acme", "select from claim_jobs()").await, 0);
}

/// Every change of status: those that the queue makes are accepted, all others refused, the latter by the trigger.
#[tokio::test]
async fn the_states_of_a_job_change_as_they_should_and_not_otherwise() {
    let stage = stage_with_rows().await;
    let set = |status: &str| match status {
        "queued" => "status = 'queued', attempts = 0, lease_id = null, lease_until = null, finished_at = null",
        "running" => {
            "status = 'running', attempts = 1, lease_id = gen_random_uuid(), lease_until = now(), finished_at = null"
        }
        "succeeded" => "status = 'succeeded', attempts = 1, lease_id = null, lease_until = null, finished_at = now()",
        "failed" => "status = 'failed', attempts = 1, lease_id = null, lease_until = null, finished_at = now()",
        _ => "status = 'canceled', attempts = 1, lease_id = null, lease_until = null, finished_at = now()",
    };
    let allowed = [
        "queued running",
        "queued canceled",
        "running queued",
        "running succeeded",
        "running failed",
        "running canceled",
        "failed queued",
        "canceled queued",
    ];
    let all = ["queued", "running", "succeeded", "failed", "canceled"];
    for from in all {
        for to in all.iter().filter(|to| **to != from) {
            // The way there is not what is tried.
            stage.observe("alter table tenant_acme.jobs disable trigger jobs_status_changed").await;
            stage.run("acme", &format!("update jobs set {}", set(from))).await;
            stage.observe("alter table tenant_acme.jobs enable trigger jobs_status_changed").await;
            let change = format!("update jobs set {}", set(to));
            if allowed.contains(&format!("{from} {to}").as_str()) {
                assert_eq!(stage.run("acme", &change).await, 1, "{from} to {to}");
            } else {
                let (_, constraint) = stage.refusal("acme", &change).await;
                assert_eq!(constraint, "jobs_status_changed_check", "{from} to {to}");
            }
        }
    }
}

#[tokio::test]
async fn a_tenant_does_not_reach_the_tables_and_functions_of_another() {
    let stage = stage_with_rows().await;
    for table in TABLES {
        let own = format!("select count(*) from {table}");
        assert_eq!((stage.one::<i64>("acme", &own).await, stage.one::<i64>("globex", &own).await), (1, 0));
        for sql in [
            format!("select * from tenant_acme.{table}"),
            format!("delete from tenant_acme.{table}"),
            format!("update tenant_acme.{table} set updated_at = now()"),
            format!("truncate tenant_acme.{table} cascade"),
        ] {
            assert_eq!(stage.refusal("globex", &sql).await.0, "42501", "{sql}");
        }
    }
    for call in ["claim_jobs()", "purge_projects('0 days')", "delete_project(gen_random_uuid())"] {
        let sql = format!("select tenant_acme.{call}");
        assert_eq!(stage.refusal("globex", &sql).await.0, "42501", "{sql}");
    }
    // The functions of the one work on its own tables.
    assert_eq!(stage.run("globex", "select from claim_jobs(9)").await, 0);
    assert_eq!(stage.run("acme", "select from claim_jobs(9)").await, 1);
}
