//! Rows of the audit log and of the evaluations are only added, whoever asks.

use crate::{platform::slug, stage::Stage};
use cgk::{Db, Error};

const ADD: &[&str] = &[
    "insert into flag_audit_events (actor, action, resource_kind, resource_id) values ('user:1', 'plan.changed', 'plan', '7')",
    "insert into evaluation_logs (feature_key, environment, is_on, reason) values ('beta', 'dev', true, 'rule')",
];

const CHANGE: &[&str] = &[
    "update flag_audit_events set actor = 'user:2'",
    "delete from flag_audit_events",
    "delete from flag_audit_events where false",
    "insert into flag_audit_events select * from flag_audit_events limit 1 on conflict (id) do update set actor = 'user:2'",
    "with gone as (delete from flag_audit_events returning *) insert into flag_audit_events select gen_random_uuid(), actor, action, resource_kind, resource_id, metadata, occurred_at from gone",
    "update evaluation_logs set is_on = false",
    "delete from evaluation_logs",
    "update evaluation_logs_default set is_on = false",
    "delete from evaluation_logs_default",
];

/// A service's role has no right to these in the first place.
const TRUNCATE: &[&str] = &[
    "truncate flag_audit_events",
    "truncate evaluation_logs",
    "truncate evaluation_logs_default",
    "truncate environments, features, feature_rules, flag_audit_events cascade",
];

async fn refused_in_tenant(db: &Db, who: &str) {
    for sql in ADD {
        db.tenant(&slug("acme")).execute(sql, &[]).await.unwrap();
    }
    for sql in CHANGE.iter().chain(TRUNCATE) {
        let refused: Result<u64, Error> = db.tenant(&slug("acme")).execute(sql, &[]).await;
        let error = refused.expect_err(&format!("{who}: {sql}"));
        assert_eq!(error.sqlstate().map(|state| state.code()), Some("42501"), "{who}: {sql}: {}", error.report());
    }
    // Nor in the middle of a transaction, with what was added by it.
    for sql in CHANGE {
        let refused = db
            .with_tenant(&slug("acme"), async |tx| {
                for add in ADD {
                    tx.execute(add, &[]).await?;
                }
                tx.execute(sql, &[]).await
            })
            .await;
        assert!(refused.is_err(), "{who}: {sql}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenants_role_changes_nothing() {
    let stage = Stage::set().await;
    refused_in_tenant(&stage.db, "role").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_of_path_mode_changes_nothing() {
    let stage = Stage::set_path_mode().await;
    refused_in_tenant(&stage.db, "path").await;
}

/// The owner of the schema, here even a superuser, as a service in path mode that was given the operator's login.
#[tokio::test(flavor = "multi_thread")]
async fn the_owner_changes_nothing() {
    let stage = Stage::set().await;
    for sql in ADD {
        stage.run(sql).await;
    }
    for sql in CHANGE.iter().chain(TRUNCATE) {
        assert_eq!(stage.refused(sql).await.code().code(), "42501", "{sql}");
    }
    // Nor where other triggers do not fire.
    stage.run("set session_replication_role = replica").await;
    for sql in CHANGE.iter().chain(TRUNCATE) {
        assert_eq!(stage.refused(sql).await.code().code(), "42501", "{sql}");
    }
    stage.run("reset session_replication_role").await;

    // The control: without the triggers, the same statements do what they say.
    stage
        .run("alter table flag_audit_events disable trigger all; alter table evaluation_logs disable trigger all")
        .await;
    stage.run("alter table evaluation_logs_default disable trigger all").await;
    for sql in CHANGE.iter().chain(TRUNCATE) {
        stage.run(sql).await;
    }
    assert_eq!(stage.count("select count(*) from evaluation_logs").await, 0);
}
