//! Who may see and change quota: users by their role, tenants, and a service's login inside of a tenant.

use crate::stage::{Stage, slug};
use cgk::{
    OrganizationId,
    platform::{Actor, NewGrant, NewSubscription, PlatformError, Quota, QuotaKind, Subscriptions},
};

/// A user does what its role allows; an API key what its scopes name.
#[tokio::test(flavor = "multi_thread")]
async fn a_user_sees_and_changes_what_its_role_allows() {
    let stage = Stage::set().await;
    let owner = stage.user(stage.acme, "ada@example.com", "owner").await;
    let admin = stage.user(stage.acme, "ben@example.com", "admin").await;
    let member = stage.user(stage.acme, "cleo@example.com", "member").await;
    let foreign = stage.user(stage.globex, "dan@example.com", "owner").await;
    let as_user = |user| Subscriptions::new(&stage.db).acting_as(Actor::User(user));
    let hobby = NewSubscription::to("hobby".parse().unwrap());
    let grant = NewGrant::purchase(QuotaKind::RUNS, 1);
    for user in [admin, member] {
        let refused = as_user(user).subscribe(stage.acme, &hobby).await;
        assert!(matches!(refused, Err(PlatformError::Forbidden { permission: "billing:manage", .. })), "{refused:?}");
        let refused = Quota::new(&stage.db).acting_as(Actor::User(user)).grant(stage.acme, &grant).await;
        assert!(matches!(refused, Err(PlatformError::Forbidden { .. })), "{refused:?}");
    }
    as_user(owner).subscribe(stage.acme, &hobby).await.unwrap();
    as_user(admin).current(stage.acme).await.unwrap();
    let refused = as_user(member).current(stage.acme).await;
    assert!(matches!(refused, Err(PlatformError::Forbidden { permission: "billing:read", .. })), "{refused:?}");
    let refused = Quota::new(&stage.db).acting_as(Actor::User(member)).left(stage.acme).await;
    assert!(matches!(refused, Err(PlatformError::Forbidden { .. })), "{refused:?}");
    for outcome in [
        as_user(foreign).current(stage.acme).await,
        as_user(foreign).change_plan(stage.acme, &"team".parse().unwrap()).await,
        as_user(foreign).cancel(stage.acme, cgk::platform::Cancellation::Now).await,
    ] {
        assert!(matches!(outcome, Err(PlatformError::NotFound { what: "organization" })), "{outcome:?}");
    }
    assert_eq!(stage.count("select count(*) from grants where revoked_at is null").await, 3);
}

const TABLES: [&str; 3] = ["subscriptions", "grants", "quota_usage"];

async fn attacked(stage: &Stage) {
    let to = |plan: &str| NewSubscription::to(plan.parse().unwrap());
    let subscriptions = Subscriptions::new(&stage.db);
    subscriptions.subscribe(stage.acme, &to("hobby")).await.unwrap();
    subscriptions.subscribe(stage.globex, &to("team")).await.unwrap();
    Quota::new(&stage.db).consume(stage.globex, &QuotaKind::RUNS, 7, "secret-key").await.unwrap();
    Quota::new(&stage.db).consume(stage.acme, &QuotaKind::RUNS, 7, "own-key").await.unwrap();
}

/// What a tenant's role sees and may do.
#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_reads_its_own_and_changes_nothing() {
    let stage = Stage::set().await;
    attacked(&stage).await;
    let acme = slug("acme");
    let (own, foreign) = (stage.acme.to_string(), stage.globex.to_string());
    for table in TABLES.into_iter().chain(["quota_consumptions"]) {
        let seen =
            stage.db.tenant(&acme).query(&format!("select distinct organization_id from public.{table}"), &[]).await;
        let seen: Vec<OrganizationId> = seen.unwrap().iter().map(|row| row.get(0)).collect();
        assert_eq!(seen, [stage.acme], "{table}");
        // The control: both are there.
        assert_eq!(stage.count(&format!("select count(distinct organization_id) from {table}")).await, 2);
    }
    let mut attacks = vec![
        "select idempotency_key from public.quota_consumptions".to_owned(),
        "select reference from public.grants".to_owned(),
        "select period_anchor from public.subscriptions".to_owned(),
        "select key from public.plans".to_owned(),
        "select kind from public.plan_entitlements".to_owned(),
        "select name from public.quota_kinds".to_owned(),
        "insert into public.quota_kinds (name, usage_type) values ('mine', 'consumed')".to_owned(),
        "update public.grants set amount = null".to_owned(),
        "update public.grants set spent = 0".to_owned(),
        "delete from public.quota_consumptions".to_owned(),
        "delete from public.subscriptions".to_owned(),
        "truncate public.grants".to_owned(),
        "update public.quota_usage set allocated = 0".to_owned(),
        "select from public.quota_usage for update".to_owned(),
        format!(
            "insert into public.quota_usage (organization_id, kind) values ('{own}', 'runs') on conflict do nothing"
        ),
    ];
    for organization in [&own, &foreign] {
        attacks.push(format!("select public.cgk_quota_consume('{organization}', 'runs', 1, 'attack')"));
        attacks.push(format!("select public.cgk_quota_release('{organization}', 'secret-key')"));
        attacks.push(format!("select public.cgk_quota_release('{organization}', 'own-key')"));
        attacks.push(format!("select public.cgk_quota_resets_at('{organization}', 'runs')"));
        attacks.push(format!(
            "select public.cgk_change_subscription_grants(s.id, 'replace') from public.subscriptions s where organization_id = '{own}'"
        ));
        attacks.push(format!(
            "insert into public.grants (organization_id, kind, source, amount) values ('{organization}', 'runs', 'purchase', null)"
        ));
    }
    for attack in attacks {
        let outcome = stage.db.tenant(&acme).query(&attack, &[]).await;
        assert_eq!(outcome.unwrap_err().sqlstate().unwrap().code(), "42501", "{attack}");
        // The control: the statement is one, and the operator may run it.
        let transaction = format!("begin; {attack}; rollback");
        stage.run(&transaction).await;
    }
}

/// Where the search path keeps tenants apart, the login is the same inside and outside. Inside it reaches its own rows only.
#[tokio::test(flavor = "multi_thread")]
async fn a_login_of_path_mode_reaches_inside_a_tenant_that_tenants_rows() {
    let stage = Stage::set_path_mode().await;
    attacked(&stage).await;
    let acme = slug("acme");
    let globex = stage.globex.to_string();
    for table in TABLES {
        let seen =
            stage.db.tenant(&acme).query(&format!("select distinct organization_id from public.{table}"), &[]).await;
        let seen: Vec<OrganizationId> = seen.unwrap().iter().map(|row| row.get(0)).collect();
        assert_eq!(seen, [stage.acme], "{table}");
        let seen =
            stage.db.platform().query(&format!("select distinct organization_id from public.{table}"), &[]).await;
        assert_eq!(seen.unwrap().len(), 2, "{table}");
    }
    let before = stage.count("select sum(spent)::int8 from grants").await;
    for attack in [
        format!(
            "select outcome from public.cgk_quota_consume('{globex}', 'runs', 1, 'attack') where outcome = 'consumed'"
        ),
        format!("select 1 where public.cgk_quota_release('{globex}', 'secret-key')"),
        format!("update public.grants set spent = 0 where organization_id = '{globex}' returning 1"),
        format!("delete from public.subscriptions where organization_id = '{globex}' returning 1"),
    ] {
        match stage.db.tenant(&acme).query(&attack, &[]).await {
            Ok(rows) => assert_eq!(rows.len(), 0, "{attack}"),
            Err(error) => assert_eq!(error.sqlstate().unwrap().code(), "42501", "{attack}"),
        }
    }
    let grant = "insert into public.grants (organization_id, kind, source, amount)
                 select $1::text::uuid, 'runs', 'purchase', 1 returning 1";
    let error = stage.db.tenant(&acme).query(grant, &[&globex]).await.unwrap_err();
    assert_eq!(error.sqlstate().unwrap().code(), "42501");
    assert_eq!(stage.count("select sum(spent)::int8 from grants").await, before);
    // The controls: outside of tenants the same statements reach it.
    assert_eq!(stage.db.platform().query(grant, &[&globex]).await.unwrap().len(), 1);
    let release = format!("select 1 where public.cgk_quota_release('{globex}', 'secret-key')");
    assert_eq!(stage.db.platform().query(&release, &[]).await.unwrap().len(), 1);
}
