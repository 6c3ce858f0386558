//! Sign-up: from an address to a tenant with an owner and a key, however often it is cut short.

use crate::stage::{Stage, must_end, run, slug};
use crate::support::cgk::Shell;
use cgk::{
    auth::{Auth, AuthSettings, NewApiKey},
    platform::{Members, NewSignUp, PlatformError, Quota, QuotaKind, SignUpState, SignUps, SignedUp},
    provisioning::NewOrganization,
};
use std::time::Duration;

const ADA: &str = "ada@example.com";

fn initech() -> NewSignUp {
    NewSignUp::of_address(ADA, NewOrganization::new(slug("initech")))
        .plan("hobby".parse().unwrap())
        .api_key(NewApiKey::named("first").scope("orders:read"))
}

/// The operator's process.
fn provision(stage: &Stage) {
    let answer = Shell::on(&stage.database).run(&["provision"]);
    assert_eq!(answer.code, 0, "{}", answer.stderr);
}

async fn call(stage: &Stage, key: &str, new: &NewSignUp) -> Result<SignedUp, PlatformError> {
    SignUps::new(&stage.db).sign_up(key, new, Duration::ZERO).await
}

const ROWS: &str = "select (select count(*) from organizations) || ' ' || (select count(*) from users) || ' '
                        || (select count(*) from memberships) || ' ' || (select count(*) from api_keys) || ' '
                        || (select count(*) from sign_ups) || ' ' || (select count(*) from provisioning_requests)";

async fn rows(stage: &Stage) -> String {
    stage.watch.query_one(ROWS, &[]).await.unwrap().get(0)
}

#[tokio::test(flavor = "multi_thread")]
async fn from_an_address_to_a_tenant_with_an_owner_and_a_key() {
    let stage = Stage::set().await;
    let begun = call(&stage, "k1", &initech()).await.unwrap();
    assert_eq!((begun.state, begun.is_new_user, begun.api_key), (SignUpState::Pending, true, None));
    assert_eq!(rows(&stage).await, "3 1 1 0 1 1");
    // Before the tenant is there, the same call says the same.
    let again = call(&stage, "k1", &initech()).await.unwrap();
    assert_eq!((again.id, again.user_id, again.organization_id), (begun.id, begun.user_id, begun.organization_id));

    provision(&stage);
    let done = call(&stage, "k1", &initech()).await.unwrap();
    assert_eq!(done.state, SignUpState::Done);
    let key = Auth::new(&stage.db, AuthSettings::default())
        .api_keys()
        .verify(done.token.as_ref().unwrap().reveal())
        .await
        .unwrap();
    assert_eq!((Some(key.id), key.tenant.slug.as_str()), (done.api_key, "initech"));
    let owner = Members::new(&stage.db).get(done.organization_id, done.user_id).await.unwrap();
    assert_eq!((owner.email.as_str(), owner.role.as_str()), (ADA, "owner"));
    assert!(stage.db.tenant(&slug("initech")).query("select count(*) from orders", &[]).await.is_ok());

    // And again: the same answer, but for the token, which is not stored.
    let last = call(&stage, "k1", &initech()).await.unwrap();
    assert_eq!((last.id, last.state, last.api_key), (done.id, SignUpState::Done, done.api_key));
    assert!(last.token.is_none());
    assert_eq!(rows(&stage).await, "3 1 1 1 1 1");
    let names = "select string_agg(type, ', ' order by type) from domain_events";
    let names: String = stage.watch.query_one(names, &[]).await.unwrap().get(0);
    assert_eq!(
        names,
        "cgk.api_key.created, cgk.membership.created, cgk.organization.created, cgk.sign_up.finished, cgk.sign_up.started, \
         cgk.subscription.started, cgk.user.created"
    );
    let left = Quota::new(&stage.db).left(done.organization_id).await.unwrap();
    assert!(left.iter().any(|balance| balance.kind == QuotaKind::SEATS), "{left:?}");
}

/// A person who is there already owns one organization more.
#[tokio::test(flavor = "multi_thread")]
async fn a_user_of_another_organization_signs_up_for_one_of_its_own() {
    let stage = Stage::set().await;
    let ada = stage.user(stage.acme, "ADA@example.com", "member").await;
    let begun = call(&stage, "k1", &initech()).await.unwrap();
    assert_eq!((begun.user_id, begun.is_new_user), (ada, false));
    assert_eq!(rows(&stage).await, "3 1 2 0 1 1");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_refused_leaves_nothing_and_the_key_free() {
    let stage = Stage::set().await;
    let other = |email: &str, name: &str| NewSignUp::of_address(email, NewOrganization::new(slug(name)));
    let before = rows(&stage).await;
    assert!(matches!(call(&stage, "k1", &other(ADA, "acme")).await, Err(PlatformError::SlugTaken { .. })));
    for (key, new) in [("", initech()), ("k1", other("no address", "initech")), (&"k".repeat(256), initech())] {
        assert!(matches!(call(&stage, key, &new).await, Err(PlatformError::Invalid { .. })));
    }
    assert_eq!(rows(&stage).await, before);
    stage.user(stage.acme, "off@example.com", "member").await;
    stage.run("update users set status = 'disabled'").await;
    let no_plan = initech().plan("nosuch".parse().unwrap());
    assert!(matches!(call(&stage, "k1", &no_plan).await, Err(PlatformError::NotFound { what: "plan" })));
    let disabled = call(&stage, "k1", &other("off@example.com", "initech")).await;
    assert!(matches!(disabled, Err(PlatformError::UserDisabled)), "{disabled:?}");

    call(&stage, "k1", &initech()).await.unwrap();
    for new in [other(ADA, "initech"), other(ADA, "other"), other("ben@example.com", "initech")] {
        assert!(matches!(call(&stage, "k1", &new).await, Err(PlatformError::IdempotencyConflict { .. })));
    }
    // The letter case of the address is no difference.
    let upper = NewSignUp::of_address("ADA@EXAMPLE.COM", NewOrganization::new(slug("initech")));
    let upper = upper.plan("hobby".parse().unwrap()).api_key(NewApiKey::named("first").scope("orders:read"));
    assert!(call(&stage, "k1", &upper).await.is_ok());
}

/// Sixteen with one key are one sign-up, also at its end.
#[tokio::test(flavor = "multi_thread")]
async fn sixteen_with_one_key_are_one_sign_up() {
    let stage = Stage::set_with_pool(16).await;
    let all = async || {
        let calls: Vec<_> = (0..16)
            .map(|_| {
                let sign_ups = SignUps::new(&stage.db);
                tokio::spawn(async move { sign_ups.sign_up("k1", &initech(), Duration::ZERO).await })
            })
            .collect();
        let mut answers = Vec::new();
        for call in calls {
            answers.push(must_end(call).await.unwrap().unwrap());
        }
        answers
    };
    let begun = all().await;
    assert!(begun.iter().all(|answer| answer.id == begun[0].id && answer.state == SignUpState::Pending));
    assert_eq!(rows(&stage).await, "3 1 1 0 1 1");
    provision(&stage);
    let done = all().await;
    assert!(done.iter().all(|answer| answer.state == SignUpState::Done && answer.api_key == done[0].api_key));
    assert_eq!(done.iter().filter(|answer| answer.token.is_some()).count(), 1);
    assert_eq!(rows(&stage).await, "3 1 1 1 1 1");
}

/// Wherever the session of either transaction is ended, the next call finishes it.
#[tokio::test(flavor = "multi_thread")]
async fn a_sign_up_that_is_cut_short_is_finished_by_the_next_call() {
    let stage = Stage::set().await;
    stage.user(stage.acme, ADA, "member").await;
    let cut = async |lock: &str, expected: &str| {
        let holder = stage.holder(lock).await;
        let sign_ups = SignUps::new(&stage.db);
        let call = tokio::spawn(async move { sign_ups.sign_up("k1", &initech(), Duration::ZERO).await });
        stage.until_waiting(1).await;
        stage.kill_waiting().await;
        run(&holder, "rollback").await;
        assert!(must_end(call).await.unwrap().is_err(), "{lock}");
        assert_eq!(rows(&stage).await, expected, "{lock}");
    };
    for lock in [
        "lock table sign_ups in share mode",
        "lock table organizations in share mode",
        "lock table provisioning_requests in share mode",
        "select from users for update",
        "lock table memberships in share mode",
        "lock table audit_events in share mode",
    ] {
        cut(lock, "2 1 1 0 0 0").await;
    }
    call(&stage, "k1", &initech()).await.unwrap();
    provision(&stage);
    for lock in [
        "select from sign_ups for update",
        "lock table api_keys in share mode",
        "lock table audit_events in share mode",
    ] {
        cut(lock, "3 1 2 0 1 1").await;
    }
    let done = call(&stage, "k1", &initech()).await.unwrap();
    assert!(done.state == SignUpState::Done && done.token.is_some());
    assert_eq!(rows(&stage).await, "3 1 2 1 1 1");
}

/// A tenant that cannot be created is told, and goes on when the cause is gone.
#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_that_cannot_be_created_is_tried_again() {
    let stage = Stage::set().await;
    call(&stage, "k1", &initech()).await.unwrap();
    stage.run("update provisioning_requests set status = 'failed', finished_at = now()").await;
    assert_eq!(call(&stage, "k1", &initech()).await.unwrap().state, SignUpState::Failed);
    let retried = Shell::on(&stage.database).run(&["provision:retry", "initech"]);
    assert_eq!(retried.code, 0, "{}", retried.stderr);
    provision(&stage);
    assert_eq!(call(&stage, "k1", &initech()).await.unwrap().state, SignUpState::Done);
}

/// Tenants have no way to it, as a role and inside of path mode.
#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_sees_no_sign_up() {
    let stage = Stage::set().await;
    call(&stage, "k1", &initech()).await.unwrap();
    for attack in [
        "select id from sign_ups",
        "delete from sign_ups",
        "insert into sign_ups (idempotency_key, request_hash) values ('x', sha256('x'))",
    ] {
        let error = stage.db.tenant(&slug("acme")).execute(attack, &[]).await.unwrap_err();
        assert_eq!(error.sqlstate().unwrap().code(), "42501", "{attack}");
    }
    stage.run("grant select on sign_ups to public").await;
    assert!(stage.db.tenant(&slug("acme")).query("select id from sign_ups", &[]).await.unwrap().is_empty());
    // The control: it is row level security.
    stage.run("alter table sign_ups disable row level security").await;
    assert_eq!(stage.db.tenant(&slug("acme")).query("select id from sign_ups", &[]).await.unwrap().len(), 1);
    let stage = Stage::set_path_mode().await;
    call(&stage, "k1", &initech()).await.unwrap();
    assert!(stage.db.tenant(&slug("acme")).query("select id from sign_ups", &[]).await.unwrap().is_empty());
}
