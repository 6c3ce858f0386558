//! Every constraint of the template, one case each; and what a deleted row takes along.

use crate::stage::Stage;
use std::collections::BTreeSet;

/// A statement that everything after it may build on.
const GOOD: &[&str] = &[
    "insert into environments (project, name) values ('web', 'dev')",
    "insert into features (key, name) values ('beta', 'Beta')",
    "insert into features (key, name, kind, percentage) values ('slow_rollout', 'Rollout', 'percentage', 12.5)",
    "insert into features (key, name, on_value, off_value) values ('limit', 'Limit', '10', '5')",
    "insert into feature_rules (feature_id, environment_id, position, enabled, percentage, conditions)
     select f.id, e.id, 1, true, 50,
            '[{\"attribute\": \"plan\", \"operator\": \"in\", \"values\": [\"pro\", 3, true]},
              {\"attribute\": \"age\", \"operator\": \"less_or_equal\", \"values\": [30]},
              {\"attribute\": \"mail\", \"operator\": \"ends_with\", \"values\": [\"@example.com\"]}]'
       from features f, environments e where f.key = 'beta' and e.project = 'web'",
    "insert into flag_audit_events (actor, action, resource_kind, resource_id) values ('user:1', 'plan.changed', 'plan', '7')",
    "insert into evaluation_logs (feature_key, environment, is_on, reason) values ('beta', 'dev', true, 'rule')",
    "insert into usage_metrics (idempotency_key, metric, quantity, occurred_at) values ('k', 'seats', 3, now())",
    "insert into usage_keys (idempotency_key, occurred_at) values ('k', now())",
    "insert into usage_totals (metric, month, quantity, last_at) values ('seats', '2026-01-01', 3, now())",
];

/// A statement that differs in one thing, and the constraint that refuses it; `""`: a column that must not be null.
const BAD: &[(&str, &str)] = &[
    ("insert into environments (id, name) select id, 'dev' from environments limit 1", "environments_pkey"),
    ("insert into environments (project, name) values ('web', 'dev')", "environments_project_name_key"),
    ("insert into environments (project, name) values ('Web', 'dev')", "environments_project_check"),
    ("insert into environments (project, name) values ('web', 'test')", "environments_name_check"),
    ("insert into environments (project, name) values (null, 'dev')", ""),
    ("insert into features (id, key, name) select id, 'x', 'X' from features limit 1", "features_pkey"),
    ("insert into features (key, name) values ('beta', 'Again')", "features_key_key"),
    ("insert into features (key, name) values ('a:b', 'X')", "features_key_check"),
    ("insert into features (key, name) values ('Beta', 'X')", "features_key_check"),
    ("insert into features (key, name) values ('x', ' ')", "features_name_check"),
    (
        "insert into features (key, name, description) values ('x', 'X', repeat('x', 10001))",
        "features_description_check",
    ),
    ("insert into features (key, name, kind) values ('x', 'X', 'other')", "features_kind_check"),
    ("insert into features (key, name, kind) values ('x', 'X', 'percentage')", "features_percentage_check"),
    ("insert into features (key, name, percentage) values ('x', 'X', 10)", "features_percentage_check"),
    (
        "insert into features (key, name, kind, percentage) values ('x', 'X', 'percentage', 100.001)",
        "features_percentage_check",
    ),
    (
        "insert into features (key, name, kind, percentage) values ('x', 'X', 'percentage', -1)",
        "features_percentage_check",
    ),
    (
        "insert into features (key, name, kind, percentage) values ('x', 'X', 'percentage', 'NaN')",
        "features_percentage_check",
    ),
    ("insert into features (key, name, on_value) values ('x', 'X', '\"on\"')", "features_values_check"),
    (
        "insert into features (key, name, on_value, off_value) values ('x', 'X', 'null', 'null')",
        "features_values_check",
    ),
    (
        "insert into features (key, name, on_value, off_value) values ('x', 'X', '1e301', '1')",
        "features_values_size_check",
    ),
    (
        "insert into features (key, name, on_value, off_value) values ('x', 'X', '{\"a\": [-1e999]}', '{}')",
        "features_values_size_check",
    ),
    (
        "insert into features (key, name, on_value, off_value) values ('x', 'X', (repeat('[', 40) || repeat(']', 40))::jsonb, '[]')",
        "features_values_size_check",
    ),
    (
        "insert into features (key, name, on_value, off_value) values ('x', 'X', to_jsonb(repeat('x', 70000)), '\"\"')",
        "features_values_size_check",
    ),
    ("update features set key = 'gamma' where key = 'beta'", "features_key_is_kept"),
    (
        "insert into feature_rules (id, feature_id, environment_id, position, enabled) select id, feature_id, environment_id, 2, true from feature_rules",
        "feature_rules_pkey",
    ),
    (
        "insert into feature_rules (feature_id, environment_id, position, enabled) select feature_id, environment_id, 1, true from feature_rules",
        "feature_rules_environment_id_feature_id_position_key",
    ),
    (
        "insert into feature_rules (feature_id, environment_id, position, enabled) select gen_random_uuid(), environment_id, 2, true from feature_rules",
        "feature_rules_feature_id_fkey",
    ),
    (
        "insert into feature_rules (feature_id, environment_id, position, enabled) select feature_id, gen_random_uuid(), 2, true from feature_rules",
        "feature_rules_environment_id_fkey",
    ),
    ("update feature_rules set position = 0", "feature_rules_position_check"),
    ("update feature_rules set description = repeat('x', 10001)", "feature_rules_description_check"),
    ("update feature_rules set percentage = 101", "feature_rules_percentage_check"),
    ("update feature_rules set enabled = false", "feature_rules_percentage_check"),
    ("update feature_rules set enabled = null", ""),
    ("update feature_rules set conditions = '{}'", "feature_rules_conditions_check"),
    (
        "update feature_rules set conditions = '[{\"attribute\": \"a\", \"operator\": \"matches\", \"values\": [\"x\"]}]'",
        "feature_rules_conditions_check",
    ),
    (
        "insert into flag_audit_events (actor, action, resource_kind, resource_id) values ('', 'a.b', 'c', 'd')",
        "flag_audit_events_actor_check",
    ),
    (
        "insert into flag_audit_events (actor, action, resource_kind, resource_id) values ('a', 'b', 'c', 'd')",
        "flag_audit_events_action_check",
    ),
    (
        "insert into flag_audit_events (actor, action, resource_kind, resource_id) values ('a', 'a.b', 'C', 'd')",
        "flag_audit_events_resource_kind_check",
    ),
    (
        "insert into flag_audit_events (actor, action, resource_kind, resource_id) values ('a', 'a.b', 'c', '')",
        "flag_audit_events_resource_id_check",
    ),
    (
        "insert into flag_audit_events (actor, action, resource_kind, resource_id, metadata) values ('a', 'a.b', 'c', 'd', '[]')",
        "flag_audit_events_metadata_check",
    ),
    (
        "insert into flag_audit_events (id, actor, action, resource_kind, resource_id) select id, 'a', 'a.b', 'c', 'd' from flag_audit_events limit 1",
        "flag_audit_events_pkey",
    ),
    (
        "insert into evaluation_logs (feature_key, environment, is_on, reason) values ('', 'dev', true, 'rule')",
        "evaluation_logs_feature_key_check",
    ),
    (
        "insert into evaluation_logs (feature_key, environment, is_on, reason) values ('a', '', true, 'rule')",
        "evaluation_logs_environment_check",
    ),
    (
        "insert into evaluation_logs (feature_key, environment, is_on, reason, targeting_key) values ('a', 'b', true, 'rule', '')",
        "evaluation_logs_targeting_key_check",
    ),
    (
        "insert into evaluation_logs (feature_key, environment, is_on, reason) values ('a', 'b', true, 'luck')",
        "evaluation_logs_reason_check",
    ),
    (
        "insert into evaluation_logs (feature_key, environment, is_on, reason, weight) values ('a', 'b', true, 'rule', 0)",
        "evaluation_logs_weight_check",
    ),
    (
        "insert into evaluation_logs (feature_key, environment, is_on, reason, evaluated_at) values ('a', 'b', true, 'rule', 'infinity')",
        "evaluation_logs_evaluated_at_check",
    ),
    (
        "insert into evaluation_logs (id, evaluated_at, feature_key, environment, is_on, reason) select id, evaluated_at, 'a', 'b', true, 'rule' from evaluation_logs",
        "evaluation_logs_default_pkey",
    ),
    (
        "insert into usage_metrics (idempotency_key, metric, quantity, occurred_at) select 'k', 'seats', 3, occurred_at from usage_metrics",
        "usage_metrics_default_pkey",
    ),
    (
        "insert into usage_metrics (idempotency_key, metric, quantity, occurred_at) values ('', 'seats', 3, now())",
        "usage_metrics_idempotency_key_check",
    ),
    (
        "insert into usage_metrics (idempotency_key, metric, quantity, occurred_at) values ('l', 'chairs', 3, now())",
        "usage_metrics_metric_check",
    ),
    (
        "insert into usage_metrics (idempotency_key, metric, quantity, occurred_at) values ('l', 'custom', 3, now())",
        "usage_metrics_name_check",
    ),
    (
        "insert into usage_metrics (idempotency_key, metric, name, quantity, occurred_at) values ('l', 'seats', 'x', 3, now())",
        "usage_metrics_name_check",
    ),
    (
        "insert into usage_metrics (idempotency_key, metric, quantity, occurred_at) values ('l', 'seats', -1, now())",
        "usage_metrics_quantity_check",
    ),
    (
        "insert into usage_metrics (idempotency_key, metric, quantity, occurred_at, attributes) values ('l', 'seats', 1, now(), '[]')",
        "usage_metrics_attributes_check",
    ),
    (
        "insert into usage_metrics (idempotency_key, metric, quantity, occurred_at) values ('l', 'seats', 1, '-infinity')",
        "usage_metrics_occurred_at_check",
    ),
    ("insert into usage_keys (idempotency_key, occurred_at) values ('k', now())", "usage_keys_pkey"),
    (
        "insert into usage_totals (metric, month, quantity, last_at) values ('seats', '2026-01-01', 3, now())",
        "usage_totals_pkey",
    ),
    (
        "insert into usage_totals (metric, month, quantity, last_at) values ('chairs', '2026-01-01', 3, now())",
        "usage_totals_metric_check",
    ),
    (
        "insert into usage_totals (metric, month, quantity, last_at) values ('custom', '2026-01-01', 3, now())",
        "usage_totals_name_check",
    ),
    (
        "insert into usage_totals (metric, month, quantity, last_at) values ('seats', '2026-01-02', 3, now())",
        "usage_totals_month_check",
    ),
    (
        "insert into usage_totals (metric, month, quantity, last_at) values ('seats', '2026-02-01', -3, now())",
        "usage_totals_quantity_check",
    ),
];

/// Constraints of the template's tables that have a name and can be broken.
const CONSTRAINTS: &str = "
    select c.conname::text from pg_constraint c join pg_class t on t.oid = c.conrelid
     where c.connamespace = 'tenant_acme'::regnamespace and t.relname not like 'schema_migrations%' and c.contype in ('c', 'f', 'p', 'u')
       and not t.relispartition";

#[tokio::test(flavor = "multi_thread")]
async fn every_constraint_refuses_what_it_is_for() {
    let stage = Stage::set().await;
    for sql in GOOD {
        stage.run(sql).await;
    }
    let mut seen = BTreeSet::new();
    for (sql, constraint) in BAD {
        let error = stage.refused(sql).await;
        match *constraint {
            "" => assert_eq!(error.code().code(), "23502", "{sql}: {error}"),
            constraint => assert_eq!(error.constraint(), Some(constraint), "{sql}: {error}"),
        }
        // Of a partitioned table the server names the partition's index.
        seen.insert(constraint.replace("_default_pkey", "_pkey"));
    }
    let rows = stage.watch.query(CONSTRAINTS, &[]).await.unwrap();
    let all: BTreeSet<String> = rows.iter().map(|row| row.get(0)).collect();
    let untried: Vec<_> = all.difference(&seen).collect();
    assert!(untried.is_empty() && all.len() > 40, "{untried:?}");
}

/// Each case is one condition, and whether a rule may have it.
const CONDITIONS: &[(&str, bool)] = &[
    (r#"{"attribute": "a", "operator": "in", "values": ["x", 1.5, false]}"#, true),
    (r#"{"attribute": "a", "operator": "not_in", "values": [1e15]}"#, true),
    (r#"{"attribute": "a", "operator": "starts_with", "values": ["x", "y"]}"#, true),
    (r#"{"attribute": "a", "operator": "contains", "values": ["x"]}"#, true),
    (r#"{"attribute": "a", "operator": "greater", "values": [-3]}"#, true),
    (r#"{"attribute": "a", "operator": "greater_or_equal", "values": [3]}"#, true),
    (r#"{"attribute": "a", "operator": "less", "values": [3]}"#, true),
    (r#"{"attribute": "", "operator": "in", "values": ["x"]}"#, false),
    (r#"{"attribute": 1, "operator": "in", "values": ["x"]}"#, false),
    (r#"{"operator": "in", "values": ["x"]}"#, false),
    (r#"{"attribute": "a", "values": ["x"]}"#, false),
    (r#"{"attribute": "a", "operator": "in"}"#, false),
    (r#"{"attribute": "a", "operator": "in", "values": "x"}"#, false),
    (r#"{"attribute": "a", "operator": "in", "values": []}"#, false),
    (r#"{"attribute": "a", "operator": "in", "values": [null]}"#, false),
    (r#"{"attribute": "a", "operator": "in", "values": [["x"]]}"#, false),
    (r#"{"attribute": "a", "operator": "in", "values": [{}]}"#, false),
    (r#"{"attribute": "a", "operator": "in", "values": [1e16]}"#, false),
    (r#"{"attribute": "a", "operator": "in", "values": ["x"], "negated": true}"#, false),
    (r#"{"attribute": "a", "operator": "starts_with", "values": [1]}"#, false),
    (r#"{"attribute": "a", "operator": "ends_with", "values": [""]}"#, false),
    (r#"{"attribute": "a", "operator": "less", "values": ["3"]}"#, false),
    (r#"{"attribute": "a", "operator": "less", "values": [3, 4]}"#, false),
    (r#"{"attribute": "a", "operator": "less", "values": [-1e16]}"#, false),
    (r#"[{"attribute": "a", "operator": "in", "values": ["x"]}]"#, false),
    (r#""in""#, false),
    ("null", false),
];

#[tokio::test(flavor = "multi_thread")]
async fn a_rule_has_conditions_of_one_form() {
    let stage = Stage::set().await;
    for sql in &GOOD[..5] {
        stage.run(sql).await;
    }
    for (condition, good) in CONDITIONS {
        let update = "update feature_rules set conditions = $1::text::jsonb";
        let answer = stage.watch.execute(update, &[&format!("[{condition}]")]).await;
        assert_eq!(answer.is_ok(), *good, "{condition}: {answer:?}");
    }
    // One bad condition among good ones, and too many.
    let (good, bad) = (CONDITIONS[0].0, CONDITIONS[7].0);
    for (list, fits) in [
        ("[]".to_owned(), true),
        (format!("[{good}, {good}]"), true),
        (format!("[{good}, {bad}]"), false),
        (format!("[{}]", vec![good; 20].join(", ")), true),
        (format!("[{}]", vec![good; 21].join(", ")), false),
    ] {
        let update = "update feature_rules set conditions = $1::text::jsonb";
        assert_eq!(stage.watch.execute(update, &[&list]).await.is_ok(), fits, "{list}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_feature_and_an_environment_take_their_rules_along_and_nothing_else() {
    let stage = Stage::set().await;
    for sql in GOOD {
        stage.run(sql).await;
    }
    let rule = "insert into feature_rules (feature_id, environment_id, position, enabled)
                select f.id, e.id, 2, true from features f, environments e where f.key = $1 and e.project = $2 and e.name = 'dev'";
    for (key, project) in [("beta", "default"), ("limit", "web"), ("limit", "default")] {
        assert_eq!(stage.watch.execute(rule, &[&key, &project]).await.unwrap(), 1);
    }
    assert_eq!(stage.count("select count(*) from feature_rules").await, 4);
    stage.run("delete from features where key = 'beta'").await;
    assert_eq!(stage.count("select count(*) from feature_rules").await, 2);
    stage.run("delete from environments where project = 'web'").await;
    assert_eq!(stage.count("select count(*) from feature_rules").await, 1);
    assert_eq!(stage.count("select count(*) from evaluation_logs where feature_key = 'beta'").await, 1);
    assert_eq!(stage.count("select count(*) from flag_audit_events where action = 'feature_rule.deleted'").await, 3);
}

/// One statement gives several rules other positions, whatever the order in which it reaches them.
#[tokio::test(flavor = "multi_thread")]
async fn rules_are_moved_by_one_statement() {
    let stage = Stage::set().await;
    stage.run("insert into features (key, name) values ('beta', 'Beta')").await;
    stage.run("insert into feature_rules (feature_id, environment_id, position, enabled, description)
               select f.id, e.id, n, true, n::text from features f, environments e, generate_series(1, 3) n where e.name = 'dev'").await;
    let order = "select string_agg(description, ' ' order by position) from feature_rules";
    for (moved, expected) in [
        ("position + 1", "1 2 3"),
        ("5 - position", "3 2 1"),
        ("case position when 3 then 1 else position + 1 end", "1 3 2"),
    ] {
        stage.run(&format!("update feature_rules set position = {moved}")).await;
        assert_eq!(stage.text(order).await, expected, "{moved}");
    }
    // The control: two rules of one position are refused.
    let twice = stage.refused("update feature_rules set position = 1").await;
    assert_eq!(twice.constraint(), Some("feature_rules_environment_id_feature_id_position_key"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_project_gets_its_three_environments_once() {
    let stage = Stage::set().await;
    let of_default = "select string_agg(name, ' ' order by name) from environments where project = 'default'";
    assert_eq!(stage.text(of_default).await, "dev prod staging");
    stage.run("insert into environments (project, name) values ('web', 'prod')").await;
    for _ in 0..2 {
        let made = "select string_agg(name, ' ' order by name) from create_environments('web')";
        assert_eq!(stage.text(made).await, "dev prod staging");
    }
    assert_eq!(stage.count("select count(*) from environments").await, 6);
}
