//! Attempts of an outsider that did not get through, each with a control.

use crate::{
    stage::{Stage, connect, run, slug},
    tenancy::enter::{one, service},
};
use cgk::config::Isolation;

/// Plans that are kept in a session over a change of role, over tables with policies: a generic plan, an inlined function, a
/// CTE, a subquery (CVE-2023-2455, CVE-2024-10976).
#[tokio::test]
async fn a_plan_that_is_kept_shows_each_role_its_own_rows() {
    let stage = Stage::set().await;
    stage
        .sql(
            "insert into users (organization_id, email) select id, slug || '@x' from organizations;
             create function public.kept_cte() returns text language plpgsql as $$ declare t text; begin
               with u as materialized (select email from public.users) select string_agg(email, ',') into t from u;
               return t; end $$;
             create function public.kept_subquery() returns text language plpgsql as $$ declare t text; begin
               select string_agg(x, ',') into t from (select (select u.email from public.users u
                 where u.organization_id = o.id limit 1) x from public.organizations o) y; return t; end $$;
             create function public.inlined() returns setof text language sql stable as
               $$ select email from public.users $$;
             create function public.inlined_in() returns setof text language sql stable as
               $$ select email from public.users where organization_id in (select id from public.organizations) $$",
        )
        .await;
    let client = service(&stage, Isolation::Role).await;
    let prepared = "prepare kept as with u as materialized (select email from public.users)
                    select (select string_agg(email, ',') from u)";
    run(&client, "set plan_cache_mode = force_generic_plan").await.unwrap();
    run(&client, prepared).await.unwrap();
    let sql = "select public.kept_cte(), public.kept_subquery(), (select string_agg(i, ',') from public.inlined() i),
                      (select string_agg(i, ',') from public.inlined_in() i)";
    for tenant in ["acme", "globex", "acme"] {
        run(&client, "begin").await.unwrap();
        one(&client, &format!("select public.cgk_enter('{tenant}')")).await;
        assert_eq!(one(&client, sql).await, [format!("{tenant}@x").as_str(); 4].join(" "));
        assert_eq!(one(&client, "execute kept").await, format!("{tenant}@x"));
        one(&client, &format!("select public.cgk_check('{tenant}')")).await;
        run(&client, "commit").await.unwrap();
    }
    // The control: there are two rows, and plans were kept.
    assert_eq!(stage.number("select count(*) from users").await, 2);
    let kept = one(&client, "select generic_plans from pg_prepared_statements where name = 'kept'").await;
    assert_eq!(kept, "3");
}

/// Texts that read otherwise than they look, and the view that sets settings: none commits as another, and the next user
/// of the connection has what is theirs.
#[tokio::test]
async fn texts_that_look_harmless_go_nowhere() {
    let stage = Stage::set().await;
    let globex = stage.role("globex");
    let texts = [
        format!("update pg_settings set setting = '{globex}' where name = 'role'"),
        "update pg_settings set setting = 'tenant_globex' where name = 'search_path'".into(),
        "update pg_catalog.pg_settings set setting = '' where name = 'cgk.tx'".into(),
        "/*/**/*/set role none".into(),
        ";;; -- x\n set role none".into(),
        "\u{b}set role none".into(),
        "\u{a0}set role none".into(),
        "\u{feff}set role none".into(),
        "set U&\"\\0073earch_path\" = 'tenant_globex'".into(),
        "set \"Search_Path\" = 'tenant_globex'".into(),
        "set \"ROLE\" = 'none'".into(),
        "set session \"app\" . \"current_organization_id\" to 'x'".into(),
        "alter group x rename to y".into(),
        "start transaction".into(),
    ];
    for (mode, db) in stage.handles().await {
        for text in &texts {
            let outcome = db
                .with_tenant(&slug("acme"), async |tx| {
                    tx.execute_typed("insert into marks (tag, n) values ('attempt', 1)", &[]).await?;
                    tx.execute_typed(text, &[]).await?;
                    Ok(tx.query_typed("select current_schema()::text", &[]).await?[0].get::<_, Option<String>>(0))
                })
                .await;
            // What did no more than a warning, as START TRANSACTION does inside of one, may commit in its own tenant.
            if let Ok(schema) = &outcome {
                assert_eq!(schema.as_deref(), Some("tenant_acme"), "{mode}: {text}");
            }
            let (acme, globex) = (stage.marks("acme", "attempt").await, stage.marks("globex", "attempt").await);
            assert_eq!((acme.0, globex.0), (i64::from(outcome.is_ok()), 0), "{mode}: {text}: {outcome:?}");
            stage.sql("delete from tenant_acme.marks where tag = 'attempt'").await;
            let next = "select concat_ws(' ', current_schema(), current_setting('search_path'))";
            let found = db.tenant(&slug("globex")).query_one(next, &[]).await.unwrap();
            assert_eq!(found.get::<_, String>(0), "tenant_globex tenant_globex, public, pg_temp", "{mode}: {text}");
        }
    }
    // The control: outside of cgk the view does set it.
    let client = connect(stage.database.name()).await;
    run(&client, "update pg_settings set setting = 'tenant_globex' where name = 'search_path'").await.unwrap();
    assert_eq!(one(&client, "show search_path").await, "tenant_globex");
}
