//! The template analytics: every constraint, index and cascade, the organization of each row, two tenants.

use crate::stage::{HANG, Stage, slug};
use cgk::analytics::{Automation, Columns, Filters, WidgetConfig};
use serde_json::{Value, json};
use std::collections::BTreeSet;

const TABLES: [&str; 5] = ["datasets", "dashboards", "widgets", "automations", "automation_runs"];

const COLUMNS: &str = r#"[{"name": "amount", "kind": {"type": "number"}, "nullable": false}]"#;
const NUMBER: &str = r#"{"type": "number", "column": "amount", "aggregate": "sum"}"#;
const TEXT: &str = r#"{"type": "text", "markdown": "Hello"}"#;
const ALERT: &str = r#"{"type": "threshold_alert", "column": "amount", "aggregate": "sum", "comparison": "above",
    "threshold": 5, "window_minutes": 5, "cooldown_minutes": 0, "channels": [{"type": "email", "address": "a@b"}]}"#;
const REPORT: &str = r#"{"type": "scheduled_report", "schedule": {"every": "hour", "minute": 0}, "time_zone": "UTC",
    "format": "pdf", "channels": [{"type": "webhook", "url": "https://example.com"}]}"#;

/// A row of each table, with ids that end in 1 to 6; 5 and 6 are an alert and a report.
const ROWS: [&str; 6] = [
    "insert into datasets (id, name, columns, created_by) values ('{1}', 'Orders', '{COLUMNS}', '{9}')",
    "insert into dashboards (id, name, created_by) values ('{2}', 'Sales', '{9}')",
    "insert into widgets (id, dashboard_id, dataset_id, title, config, created_by)
     values ('{3}', '{2}', '{1}', 'Revenue', '{NUMBER}', '{9}')",
    "insert into automations (id, dataset_id, name, definition, created_by) values ('{5}', '{1}', 'Alert', '{ALERT}', '{9}')",
    "insert into automations (id, dashboard_id, name, definition, created_by) values ('{6}', '{2}', 'Report', '{REPORT}', '{9}')",
    "insert into automation_runs (id, automation_id) values ('{4}', '{5}')",
];

const REFUSED: &[(&str, &str)] = &[
    ("insert into datasets (id, name, columns, created_by) values ('{1}', 'x', '{COLUMNS}', '{9}')", "datasets_pkey"),
    ("insert into datasets (name, columns, created_by) values ('Orders', '{COLUMNS}', '{9}')", "datasets_name_key"),
    ("insert into datasets (name, columns, created_by) values (' x', '{COLUMNS}', '{9}')", "datasets_name_check"),
    ("update datasets set description = repeat('x', 5001)", "datasets_description_check"),
    ("update datasets set columns = '[]'", "datasets_columns_check"),
    ("update datasets set columns = 'null'", "datasets_columns_check"),
    ("update datasets set row_count = -1", "datasets_row_count_check"),
    ("update datasets set org_id = '{9}'", "datasets_org_id_check"),
    (
        "insert into datasets (org_id, name, columns, created_by) values ('{9}', 'x', '{COLUMNS}', '{9}')",
        "datasets_org_id_check",
    ),
    ("insert into dashboards (id, name, created_by) values ('{2}', 'x', '{9}')", "dashboards_pkey"),
    ("insert into dashboards (name, created_by) values ('Sales', '{9}')", "dashboards_name_key"),
    ("insert into dashboards (name, created_by) values ('', '{9}')", "dashboards_name_check"),
    ("update dashboards set description = repeat('x', 5001)", "dashboards_description_check"),
    ("update dashboards set org_id = '{9}'", "dashboards_org_id_check"),
    ("insert into widgets select w.* from widgets w", "widgets_pkey"),
    ("update widgets set dashboard_id = '{9}'", "widgets_dashboard_id_fkey"),
    ("update widgets set dataset_id = '{9}'", "widgets_dataset_id_fkey"),
    ("update widgets set title = ''", "widgets_title_check"),
    ("update widgets set config = '{NUMBER}'::jsonb - 'aggregate'", "widgets_config_check"),
    ("update widgets set filters = '[{}]'", "widgets_filters_check"),
    ("update widgets set dataset_id = null", "widgets_dataset_id_check"),
    ("update widgets set config = '{TEXT}'", "widgets_dataset_id_check"),
    ("update widgets set grid_x = 9", "widgets_grid_check"),
    ("update widgets set grid_x = -1", "widgets_grid_check"),
    ("update widgets set grid_y = 10000", "widgets_grid_check"),
    ("update widgets set grid_height = 0", "widgets_grid_check"),
    ("update widgets set org_id = '{9}'", "widgets_org_id_check"),
    ("update automations set id = '{5}'", "automations_pkey"),
    ("update automations set name = 'Alert'", "automations_name_key"),
    ("update automations set dataset_id = '{9}' where id = '{5}'", "automations_dataset_id_fkey"),
    ("update automations set dashboard_id = '{9}' where id = '{6}'", "automations_dashboard_id_fkey"),
    ("update automations set name = ''", "automations_name_check"),
    (
        "update automations set definition = '{ALERT}'::jsonb || '{\"threshold\": \"5\"}'",
        "automations_definition_check",
    ),
    ("update automations set dataset_id = null where id = '{5}'", "automations_dataset_id_check"),
    ("update automations set dataset_id = '{1}' where id = '{6}'", "automations_dataset_id_check"),
    ("update automations set dashboard_id = null where id = '{6}'", "automations_dashboard_id_check"),
    ("update automations set dashboard_id = '{2}' where id = '{5}'", "automations_dashboard_id_check"),
    ("update automations set org_id = '{9}'", "automations_org_id_check"),
    ("insert into automation_runs select r.* from automation_runs r", "automation_runs_pkey"),
    ("update automation_runs set automation_id = '{9}'", "automation_runs_automation_id_fkey"),
    ("update automation_runs set status = 'done', finished_at = now()", "automation_runs_status_check"),
    ("update automation_runs set status = 'succeeded'", "automation_runs_finished_at_check"),
    (
        "update automation_runs set status = 'succeeded', finished_at = started_at - interval '1 second'",
        "automation_runs_order_check",
    ),
    ("update automation_runs set notified = -1", "automation_runs_notified_check"),
    ("update automation_runs set status = 'failed', finished_at = now()", "automation_runs_error_check"),
    ("update automation_runs set error = 'x'", "automation_runs_error_check"),
    ("insert into automation_runs (automation_id) values ('{5}')", "automation_runs_running_key"),
    ("update automation_runs set org_id = '{9}'", "automation_runs_org_id_check"),
];

fn filled(sql: &str) -> String {
    let mut sql = sql.to_owned();
    for number in 1..=9 {
        sql = sql.replace(&format!("{{{number}}}"), &format!("00000000-0000-0000-0000-00000000000{number}"));
    }
    for (name, text) in
        [("{COLUMNS}", COLUMNS), ("{NUMBER}", NUMBER), ("{TEXT}", TEXT), ("{ALERT}", ALERT), ("{REPORT}", REPORT)]
    {
        sql = sql.replace(name, text);
    }
    sql
}

async fn stage_with_rows() -> Stage {
    let stage = Stage::with(&["analytics"]).await;
    for sql in ROWS {
        stage.run("acme", &filled(sql)).await;
    }
    stage
}

#[tokio::test]
async fn every_constraint_refuses_what_it_is_for() {
    let stage = stage_with_rows().await;
    let mut tried = BTreeSet::new();
    for (sql, constraint) in REFUSED {
        let (_, found) = stage.refusal("acme", &filled(sql)).await;
        assert_eq!(found, *constraint, "{sql}");
        tried.insert((*constraint).to_owned());
    }
    for constraint in stage.constraints("tenant_acme", &TABLES).await {
        assert!(tried.contains(&constraint), "{constraint} was not tried");
    }
    for table in TABLES {
        assert!(tried.contains(&format!("{table}_org_id_check")), "{table}");
    }
}

#[tokio::test]
async fn every_index_is_used_by_the_query_that_it_is_for() {
    let stage = stage_with_rows().await;
    let id = "'00000000-0000-0000-0000-000000000001'";
    let queries = [
        ("datasets_pkey", format!("select from datasets where id = {id}")),
        ("datasets_name_key", "select from datasets where name = 'x'".into()),
        ("dashboards_pkey", format!("select from dashboards where id = {id}")),
        ("dashboards_name_key", "select from dashboards where name = 'x'".into()),
        ("widgets_pkey", format!("select from widgets where id = {id}")),
        (
            "widgets_dashboard_id_idx",
            format!("select * from widgets where dashboard_id = {id} order by grid_y, grid_x"),
        ),
        ("widgets_dataset_id_idx", format!("select from widgets where dataset_id = {id}")),
        ("automations_pkey", format!("select from automations where id = {id}")),
        ("automations_name_key", "select from automations where name = 'x'".into()),
        ("automations_dataset_id_idx", format!("select from automations where dataset_id = {id}")),
        ("automations_dashboard_id_idx", format!("select from automations where dashboard_id = {id}")),
        (
            "automations_next_run_at_idx",
            "select id from automations where enabled and next_run_at <= now() order by next_run_at limit 10".into(),
        ),
        ("automation_runs_pkey", format!("select from automation_runs where id = {id}")),
        (
            "automation_runs_automation_id_idx",
            format!("select * from automation_runs where automation_id = {id} order by started_at desc limit 10"),
        ),
        (
            "automation_runs_running_key",
            format!("select from automation_runs where automation_id = {id} and status = 'running'"),
        ),
    ];
    for (index, sql) in &queries {
        let plan = stage.plan_of("acme", sql).await;
        assert!(plan.contains(&format!("using {index} ")), "{index}\n{plan}");
        assert!(!plan.contains("Sort"), "{plan}");
    }
    let tried: Vec<&str> = queries.iter().map(|(index, _)| *index).collect();
    for index in stage.indexes("tenant_acme", &TABLES).await {
        assert!(tried.contains(&index.as_str()), "{index} was not tried");
    }
    assert!(stage.foreign_keys_without_index("tenant_acme").await.is_empty());
}

#[tokio::test]
async fn the_organization_is_filled_in_and_outside_of_tenants_it_is_what_the_row_says() {
    let stage = stage_with_rows().await;
    for table in TABLES {
        let own = format!("select bool_and(org_id = (select id from organizations where slug = 'acme')) from {table}");
        assert!(stage.one::<bool>("acme", &own).await, "{table}");
        // Without an organization there is no row: the control of the default.
        let without = format!("update {table} set org_id = null");
        assert_eq!(stage.refusal("acme", &without).await.0, "23502", "{table}");
    }
    // As when a dump is restored.
    let restored =
        filled("insert into tenant_globex.dashboards (org_id, name, created_by) values ('{8}', 'Restored', '{9}')");
    stage.observe(&restored).await;
    assert_eq!(stage.one::<i64>("globex", "select count(*) from dashboards where name = 'Restored'").await, 1);
    let adopt = "update dashboards set org_id = current_setting('app.current_organization_id')::uuid";
    assert_eq!(stage.refusal("globex", "update dashboards set name = 'Other'").await.1, "dashboards_org_id_check");
    assert_eq!(stage.run("globex", adopt).await, 1);
}

#[tokio::test]
async fn children_go_with_what_they_belong_to() {
    let left = async |stage: &Stage| {
        let mut counts = Vec::new();
        for table in TABLES {
            counts.push(stage.one::<i64>("acme", &format!("select count(*) from {table}")).await);
        }
        counts
    };
    let stage = stage_with_rows().await;
    assert_eq!(left(&stage).await, [1, 1, 1, 2, 1]);
    stage.run("acme", "delete from datasets").await;
    assert_eq!(left(&stage).await, [0, 1, 0, 1, 0]);
    stage.run("acme", "delete from dashboards").await;
    assert_eq!(left(&stage).await, [0, 0, 0, 0, 0]);
}

/// The types are parameters and columns of statements.
#[tokio::test]
async fn the_types_are_written_and_read() {
    let stage = stage_with_rows().await;
    let acme = slug("acme");
    let columns: Columns = serde_json::from_str(COLUMNS).unwrap();
    let config: WidgetConfig = serde_json::from_str(NUMBER).unwrap();
    let filters: Filters = serde_json::from_value(json!([{"type": "equals", "column": "a", "value": 5}])).unwrap();
    let automation: Automation = serde_json::from_str(ALERT).unwrap();
    let tenant = || stage.db.tenant(&acme);
    tenant().execute("update datasets set columns = $1", &[&columns]).await.unwrap();
    tenant().execute("update widgets set config = $1, filters = $2", &[&config, &filters]).await.unwrap();
    tenant()
        .execute("update automations set definition = $1 where dataset_id is not null", &[&automation])
        .await
        .unwrap();
    let read = tenant().query_one("select columns from datasets", &[]).await.unwrap();
    assert_eq!(read.get::<_, Columns>(0), columns);
    let read = tenant().query_one("select config, filters from widgets", &[]).await.unwrap();
    assert_eq!((read.get::<_, WidgetConfig>(0), read.get::<_, Filters>(1)), (config, filters));
    let read =
        tenant().query_one("select definition from automations where dataset_id is not null", &[]).await.unwrap();
    assert_eq!(read.get::<_, Automation>(0), automation);
    // The control: a column of another form is an error and no value.
    let other = tenant().query_one("select '[]'::jsonb", &[]).await.unwrap();
    assert!(other.try_get::<_, Columns>(0).is_err());
    assert!(other.try_get::<_, Value>(0).is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn two_workers_never_have_the_same_automation() {
    let stage = stage_with_rows().await;
    let acme = slug("acme");
    stage.run("acme", &filled("update automations set next_run_at = now() + interval '1 hour' where id = '{6}'")).await;
    let claim = "select name from claim_automations()";
    stage
        .db
        .with_tenant(&acme, async |one| {
            assert_eq!(one.query(claim, &[]).await?.len(), 1);
            let second = tokio::time::timeout(HANG, stage.db.tenant(&acme).query(claim, &[])).await;
            assert_eq!(second.expect("the second worker waits for the first")?.len(), 0);
            Ok(())
        })
        .await
        .unwrap();
    // Nor afterwards, until the time to try again.
    assert_eq!(stage.run("acme", claim).await, 0);
    stage.run("acme", "update automations set next_run_at = now()").await;
    assert_eq!(stage.run("acme", claim).await, 2);
    stage.run("acme", "update automations set next_run_at = now(), enabled = false").await;
    assert_eq!(stage.run("acme", claim).await, 0);
}

/// A worker that dies leaves a run that is running. It does not keep the next worker from recording its own.
#[tokio::test(flavor = "multi_thread")]
async fn the_run_of_a_lost_worker_has_failed_when_the_automation_is_claimed_again() {
    let stage = stage_with_rows().await;
    let acme = slug("acme");
    stage.run("acme", "delete from automation_runs").await;
    let run = "with due as (select * from claim_automations(retry_in => '1 hour'))
               insert into automation_runs (automation_id) select id from due";
    assert_eq!(stage.run("acme", run).await, 2);
    let runs = "select string_agg(concat_ws(': ', status, error), ', ' order by status) from automation_runs
                 where automation_id = (select id from automations where dataset_id is not null)";
    // The control: until it is due again, the run is the worker's.
    assert_eq!(stage.run("acme", run).await, 0);
    assert_eq!(stage.one::<String>("acme", runs).await, "running");
    // Also one that started in the future, by a wrong clock.
    stage.run("acme", "update automation_runs set started_at = now() + interval '1 day'").await;
    stage.run("acme", "update automations set next_run_at = now() where dataset_id is not null").await;
    assert_eq!(stage.run("acme", run).await, 1);
    assert_eq!(stage.one::<String>("acme", runs).await, "failed: the worker did not finish the run, running");
    // A run that its worker is just ending is not waited for.
    stage.run("acme", "update automations set next_run_at = now() where dataset_id is not null").await;
    stage
        .db
        .with_tenant(&acme, async |worker| {
            let end = "update automation_runs set status = 'succeeded', finished_at = greatest(now(), started_at) where status = 'running'";
            assert_eq!(worker.execute(end, &[]).await?, 2);
            let claim = "select from claim_automations()";
            let claimed = tokio::time::timeout(HANG, stage.db.tenant(&acme).query(claim, &[])).await;
            assert_eq!(claimed.expect("the claim waits for the worker")?.len(), 1);
            Ok(())
        })
        .await
        .unwrap();
    assert_eq!(stage.one::<String>("acme", runs).await, "failed: the worker did not finish the run, succeeded");
}

#[tokio::test]
async fn a_tenant_does_not_reach_the_tables_of_another() {
    let stage = stage_with_rows().await;
    for table in TABLES {
        let own = format!("select count(*) from {table}");
        assert!(stage.one::<i64>("acme", &own).await > 0);
        assert_eq!(stage.one::<i64>("globex", &own).await, 0);
        for sql in [
            format!("select * from tenant_acme.{table}"),
            format!("delete from tenant_acme.{table}"),
            format!("update tenant_acme.{table} set updated_at = now()"),
            format!("truncate tenant_acme.{table} cascade"),
        ] {
            assert_eq!(stage.refusal("globex", &sql).await.0, "42501", "{sql}");
        }
    }
}
