//! What is written down of a change: who, what, before and after.

use crate::{platform::slug, stage::Stage};
use cgk::{OrganizationId, TenantContext, UserId};
use uuid::Uuid;

#[tokio::test(flavor = "multi_thread")]
async fn a_change_is_recorded_with_the_user_of_the_context() {
    let stage = Stage::set().await;
    let acme: OrganizationId =
        stage.watch.query_one("select id from organizations where slug = 'acme'", &[]).await.unwrap().get(0);
    let user = UserId(Uuid::from_u128(7));
    let context = TenantContext::new(acme, slug("acme")).user(user, "ada@example.com");
    context
        .scope(async {
            let add = "insert into features (key, name) values ('beta', 'Beta')";
            stage.db.tenant(&slug("acme")).execute(add, &[]).await.unwrap();
        })
        .await;
    let tenant = slug("acme");
    let handle = stage.db.tenant(&tenant);
    handle.execute("update features set enabled = true", &[]).await.unwrap();
    // A change of nothing is none.
    handle.execute("update features set enabled = true", &[]).await.unwrap();
    handle.execute("delete from features", &[]).await.unwrap();
    stage.run("truncate features cascade").await;

    let rows = stage
        .watch
        .query(
            "select action, actor like 'user:%', metadata -> 'before' ->> 'enabled', metadata -> 'after' ->> 'enabled'
               from flag_audit_events where resource_kind = 'feature' order by occurred_at",
            &[],
        )
        .await
        .unwrap();
    let told: Vec<(String, bool, Option<String>, Option<String>)> =
        rows.iter().map(|row| (row.get(0), row.get(1), row.get(2), row.get(3))).collect();
    let (on, off) = (Some("true".to_owned()), Some("false".to_owned()));
    assert_eq!(
        told,
        [
            ("feature.created".to_owned(), true, None, off.clone()),
            ("feature.changed".to_owned(), false, off, on.clone()),
            ("feature.deleted".to_owned(), false, on, None),
            ("feature.truncated".to_owned(), false, None, None),
        ]
    );
    let actor = stage.text("select actor from flag_audit_events where action = 'feature.created'").await;
    assert_eq!(actor, format!("user:{user}"));
    let login = stage.text("select actor from flag_audit_events where action = 'feature.changed'").await;
    assert!(login.starts_with("login:app_"), "{login}");
}

/// Also what is null inside of a value: without it, before and after would look the same.
#[tokio::test(flavor = "multi_thread")]
async fn a_value_is_recorded_as_it_is() {
    let stage = Stage::set().await;
    stage
        .run(r#"insert into features (key, name, on_value, off_value) values ('beta', 'Beta', '{"a": null}', '{}')"#)
        .await;
    stage.run("update features set on_value = '{}'").await;
    let recorded = "select concat_ws(' ', metadata #> '{before,on_value}', metadata #> '{after,on_value}')
                      from flag_audit_events where action = 'feature.changed'";
    assert_eq!(stage.text(recorded).await, r#"{"a": null} {}"#);
    // What was not there before, and is not there after, is no member.
    stage.run("delete from features").await;
    let members = "select string_agg(m.member, ' ' order by e.occurred_at) from flag_audit_events e, jsonb_object_keys(e.metadata) m (member)
                    where e.action in ('feature.created', 'feature.deleted')";
    assert_eq!(stage.text(members).await, "after before");
}

/// The record is written where the tables are, and not where the session would find one of its name.
#[tokio::test(flavor = "multi_thread")]
async fn a_temporary_table_does_not_take_the_record() {
    let stage = Stage::set().await;
    let recorded = stage
        .db
        .with_tenant(&slug("acme"), async |tx| {
            tx.execute("insert into features (key, name) values ('beta', 'Beta')", &[]).await?;
            tx.execute("create temporary table flag_audit_events (like flag_audit_events including all)", &[]).await?;
            let path: String = tx.query_one("select current_setting('search_path')", &[]).await?.get(0);
            tx.query("select set_config('search_path', 'pg_temp, tenant_acme, public', true)", &[]).await?;
            tx.execute("update features set enabled = true", &[]).await?;
            let hidden: i64 = tx.query_one("select count(*) from flag_audit_events", &[]).await?.get(0);
            let recorded: i64 = tx.query_one("select count(*) from tenant_acme.flag_audit_events", &[]).await?.get(0);
            tx.query("select set_config('search_path', $1, true)", &[&path]).await?;
            Ok((hidden, recorded))
        })
        .await
        .unwrap();
    assert_eq!(recorded, (0, 2));
    let changed = "select count(*) from flag_audit_events where action = 'feature.changed'";
    assert_eq!(stage.count(changed).await, 1);
}
