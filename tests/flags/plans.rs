//! The tables of the shared schema: what plans include. Every constraint, and who reads and writes them.

use crate::{platform::slug, stage::Stage};

#[tokio::test(flavor = "multi_thread")]
async fn every_constraint_refuses_what_it_is_for() {
    let stage = Stage::set().await;
    let team = "(select id from public.plans where key = 'team')";
    for sql in [
        format!("insert into public.plan_features (plan_id, feature_key) values ({team}, 'sso')"),
        format!("insert into public.usage_limits (plan_id, metric, quantity_max) values ({team}, 'seats', 10)"),
        format!("insert into public.usage_limits (plan_id, metric, name) values ({team}, 'custom', 'exports')"),
    ] {
        stage.run(&sql).await;
    }
    for (sql, constraint) in [
        (
            format!("insert into public.plan_features (plan_id, feature_key) values ({team}, 'sso')"),
            "plan_features_pkey",
        ),
        (
            "insert into public.plan_features (plan_id, feature_key) values (gen_random_uuid(), 'sso')".into(),
            "plan_features_plan_id_fkey",
        ),
        (
            format!("insert into public.plan_features (plan_id, feature_key) values ({team}, 'A:b')"),
            "plan_features_feature_key_check",
        ),
        (
            format!("insert into public.usage_limits (plan_id, metric, quantity_max) values ({team}, 'seats', 11)"),
            "usage_limits_pkey",
        ),
        (
            "insert into public.usage_limits (plan_id, metric) values (gen_random_uuid(), 'seats')".into(),
            "usage_limits_plan_id_fkey",
        ),
        (
            format!("insert into public.usage_limits (plan_id, metric) values ({team}, 'chairs')"),
            "usage_limits_metric_check",
        ),
        (
            format!("insert into public.usage_limits (plan_id, metric, name) values ({team}, 'storage', 'x')"),
            "usage_limits_name_check",
        ),
        (
            format!("insert into public.usage_limits (plan_id, metric, quantity_max) values ({team}, 'storage', -1)"),
            "usage_limits_quantity_max_check",
        ),
    ] {
        assert_eq!(stage.refused(&sql).await.constraint(), Some(constraint), "{sql}");
    }
    stage.run("insert into public.plans (key, name) values ('temporary', 'T')").await;
    for sql in [
        "insert into public.plan_features select id, 'sso' from public.plans where key = 'temporary'",
        "insert into public.usage_limits (plan_id, metric) select id, 'seats' from public.plans where key = 'temporary'",
    ] {
        stage.run(sql).await;
    }
    stage.run("delete from public.plans where key = 'temporary'").await;
    let left = "select (select count(*) from public.plan_features) + (select count(*) from public.usage_limits)";
    assert_eq!(stage.count(left).await, 3);
}

/// In both modes a tenant reads what plans include, and changes nothing of it.
#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_reads_plans_and_changes_nothing() {
    for stage in [Stage::set().await, Stage::set_path_mode().await] {
        stage.run("insert into public.plan_features select id, 'sso' from public.plans where key = 'team'").await;
        stage.run("insert into public.usage_limits (plan_id, metric) select id, 'seats' from public.plans where key = 'team'").await;
        let acme = slug("acme");
        let tenant = stage.db.tenant(&acme);
        for table in ["plan_features", "usage_limits"] {
            assert_eq!(tenant.query(&format!("select * from public.{table}"), &[]).await.unwrap().len(), 1);
            // A login of path mode has the right, and no policy lets a row through.
            let changed = match tenant.execute(&format!("delete from public.{table}"), &[]).await {
                Ok(rows) => rows,
                Err(error) => {
                    assert_eq!(error.sqlstate().map(|state| state.code()), Some("42501"));
                    0
                }
            };
            assert_eq!(changed, 0);
            assert_eq!(stage.count(&format!("select count(*) from public.{table}")).await, 1);
            // The control: the platform's own code may.
            let deleted = stage.db.platform().execute(&format!("delete from public.{table}"), &[]).await.unwrap();
            assert_eq!(deleted, 1);
        }
        let add = "insert into public.plan_features select gen_random_uuid(), 'sso'";
        assert_eq!(tenant.execute(add, &[]).await.unwrap_err().sqlstate().map(|state| state.code()), Some("42501"));
    }
}
