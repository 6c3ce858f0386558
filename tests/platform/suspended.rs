//! An organization that is suspended, by an operator or because its owner has deleted it, takes nothing new: nothing is bought,
//! granted, consumed, nobody is invited or joins, and no key is made. What it has can be read, changed, canceled, released, revoked and
//! removed.

use crate::{
    stage::{Stage, connect, must_end, run, slug},
    walk::{Outcome, Scene},
};
use cgk::{
    auth::{Auth, AuthError, AuthSettings, ClientInfo, NewApiKey, NewUser, UserStatus},
    platform::{
        NewGrant, NewSubscription, Organizations, PlatformError, Quota, QuotaKind, RenewalPeriod, Subscriptions,
    },
};
use std::time::Duration;

/// What is refused in an organization that is suspended.
const NEW: [&str; 18] = [
    "ApiKeys::create",
    "ApiKeys::rotate",
    "Invitations::accept",
    "Invitations::create",
    "Invitations::resend",
    "Invitations::verify",
    "Members::add",
    "Quota::consume",
    "Quota::consume_in",
    "Quota::grant",
    "Quota::grant_in",
    "Subscriptions::change_plan",
    "Subscriptions::renew",
    "Subscriptions::resume",
    "Subscriptions::subscribe",
    "Subscriptions::subscribe again",
    "Subscriptions::subscribe_in",
    "Users::create",
];

/// What ends otherwise because of that, and why.
const OTHER: [(&str, &str); 2] = [
    // The status is that of the tenant, whoever asks.
    ("Sessions::sign_in", "OrganizationInactive"),
    ("Sessions::issue", "OrganizationInactive"),
];

#[tokio::test(flavor = "multi_thread")]
async fn a_suspended_organization_takes_nothing_new() {
    let scene = Scene::set().await;
    let active = scene.walk_all().await;
    let suspended = |told: &&crate::walk::Told| told.outcome == Outcome::Suspended;
    assert_eq!(active.found.values().filter(suspended).count(), 0);
    for how in ["suspended", "deleted"] {
        let scene = Scene::set().await;
        match how {
            "suspended" => scene.stage.run("update organizations set status = 'suspended' where slug = 'acme'").await,
            _ => drop(Organizations::new(&scene.stage.db).delete(scene.stage.acme).await.unwrap()),
        }
        let walk = scene.walk_all().await;
        let refused: Vec<&str> = walk.found.iter().filter(|(_, told)| suspended(told)).map(|(name, _)| *name).collect();
        assert_eq!(refused, NEW, "{how}");
        for (name, told) in walk.found.iter().filter(|(name, _)| !NEW.contains(name)) {
            match OTHER.iter().find(|(other, _)| other == name) {
                Some((_, why)) => {
                    assert!(matches!(&told.outcome, Outcome::Failed(text) if text.contains(why)), "{name}: {told:?}");
                }
                None => assert_eq!(told.outcome, active.found[name].outcome, "{how}: {name}"),
            }
        }
    }
    // Who is nobody there does not learn that it is suspended.
    let scene = Scene::set().await;
    let stranger = scene.stage.user(scene.stage.globex, "out@example.com", "owner").await;
    scene.stage.run("update organizations set status = 'suspended'").await;
    let walk = scene.walk(&cgk::platform::Actor::User(stranger)).await;
    assert_eq!(walk.other_than(&Outcome::Refused), [""; 0]);
}

/// What is due is renewed when the organization is active again, and a cancellation takes effect meanwhile.
#[tokio::test(flavor = "multi_thread")]
async fn a_due_subscription_waits_for_the_activation() {
    let stage = Stage::set().await;
    let subscriptions = Subscriptions::new(&stage.db);
    for organization in [stage.acme, stage.globex] {
        subscriptions.subscribe(organization, &NewSubscription::to("team".parse().unwrap())).await.unwrap();
    }
    subscriptions.cancel(stage.globex, cgk::platform::Cancellation::AtPeriodEnd).await.unwrap();
    let due = "update subscriptions set period_start = period_start - interval '40 days', period_end = now() - interval '1 day',
               period_anchor = period_anchor - interval '40 days'";
    stage.run(due).await;
    stage.run("update organizations set status = 'suspended'").await;
    let report = subscriptions.renew_due().await.unwrap();
    assert_eq!((report.renewed.len(), report.ended.as_slice()), (0, [stage.globex].as_slice()));
    let refused = subscriptions.renew(stage.acme, RenewalPeriod::Next).await.unwrap_err();
    assert!(matches!(refused, PlatformError::OrganizationSuspended), "{refused:?}");
    assert_eq!(refused.status(), 403);
    stage.run("update organizations set status = 'active'").await;
    assert_eq!(subscriptions.renew_due().await.unwrap().renewed, [stage.acme]);
    let names = "select string_agg(action, ' ' order by occurred_at) from audit_events where action <> 'cgk.subscription.started'";
    let names: String = stage.rows(names, &[]).await[0].get(0);
    assert_eq!(names, "cgk.subscription.cancellation_scheduled cgk.subscription.canceled cgk.subscription.renewed");
    Quota::new(&stage.db).consume(stage.acme, &QuotaKind::RUNS, 1, "a").await.unwrap();
    assert!(stage.db.tenant(&slug("acme")).query("select 1", &[]).await.is_ok());
}

/// What checked the organization before a suspension is committed before it: the suspension waits.
#[tokio::test(flavor = "multi_thread")]
async fn a_suspension_waits_for_what_is_being_made() {
    for made in ["key", "subscription", "grant", "user"] {
        let stage = Stage::set().await;
        let (db, acme) = (stage.db.clone(), stage.acme);
        let holder = stage.holder("lock table public.domain_events in share mode").await;
        let making = tokio::spawn(async move {
            let auth = Auth::new(&db, AuthSettings::default());
            match made {
                "key" => auth.api_keys().create(acme, &NewApiKey::named("k")).await.map(drop).unwrap(),
                "user" => auth.users().create(acme, &NewUser::active("u@example.com")).await.map(drop).unwrap(),
                "grant" => {
                    let grant = NewGrant::purchase(QuotaKind::RUNS, 5).reference("r");
                    Quota::new(&db).grant(acme, &grant).await.map(drop).unwrap();
                }
                _ => {
                    let team = NewSubscription::to("team".parse().unwrap());
                    Subscriptions::new(&db).subscribe(acme, &team).await.map(drop).unwrap();
                }
            }
        });
        stage.until_waiting(1).await;
        let other = connect(&stage.database).await;
        let suspending = tokio::spawn(async move {
            run(&other, "update organizations set status = 'suspended' where slug = 'acme'").await;
        });
        // It waits behind the operation, which waits for the table.
        stage.until_waiting(2).await;
        run(&holder, "rollback").await;
        must_end(making).await.unwrap();
        must_end(suspending).await.unwrap();
        let refused =
            Auth::new(&stage.db, AuthSettings::default()).api_keys().create(acme, &NewApiKey::named("l")).await;
        assert!(matches!(refused, Err(AuthError::OrganizationSuspended)), "{made}: {refused:?}");
    }
}

/// Who is invited becomes no member of a suspended organization by an activation; who was disabled is a member already.
#[tokio::test(flavor = "multi_thread")]
async fn an_invited_user_is_not_activated_in_a_suspended_organization() {
    let stage = Stage::set().await;
    let auth = Auth::new(&stage.db, AuthSettings::default());
    let users = auth.users();
    let invited = users.create(stage.acme, &NewUser::invited("ben@example.com")).await.unwrap().id;
    let disabled = users.create(stage.acme, &NewUser::active("cleo@example.com")).await.unwrap().id;
    users.set_status(stage.acme, disabled, &UserStatus::Disabled).await.unwrap();
    stage.run("update organizations set status = 'suspended' where slug = 'acme'").await;
    let confirmed = "select count(*) from memberships m join users u on u.id = m.user_id
                     where u.email = 'ben@example.com' and m.confirmed_at is not null";
    let refused = users.set_status(stage.acme, invited, &UserStatus::Active).await;
    assert!(matches!(refused, Err(AuthError::OrganizationSuspended)), "{refused:?}");
    // Another organization does not learn the status.
    let other = users.set_status(stage.globex, invited, &UserStatus::Active).await;
    assert!(matches!(other, Err(AuthError::NotFound { .. })), "{other:?}");
    assert_eq!(stage.count(confirmed).await, 0);
    users.set_status(stage.acme, disabled, &UserStatus::Active).await.unwrap();
    stage.run("update organizations set status = 'active' where slug = 'acme'").await;
    users.set_status(stage.acme, invited, &UserStatus::Active).await.unwrap();
    assert_eq!(stage.count(confirmed).await, 1);
}

/// The status that a user has already ends the sessions, and that is recorded.
#[tokio::test(flavor = "multi_thread")]
async fn sessions_that_end_by_the_same_status_are_recorded() {
    let stage = Stage::set().await;
    let auth = Auth::new(&stage.db, AuthSettings::default());
    let ada = stage.user(stage.acme, "ada@example.com", "owner").await;
    let lines = "select count(*) from audit_events where action = 'cgk.user.status_changed'";
    auth.users().set_status(stage.acme, ada, &UserStatus::Active).await.unwrap();
    assert_eq!(stage.count(lines).await, 0);
    auth.sessions().issue(stage.acme, ada, &ClientInfo::default()).await.unwrap();
    auth.users().set_status(stage.acme, ada, &UserStatus::Active).await.unwrap();
    assert_eq!(stage.count(lines).await, 1);
}

/// A later time than the one at which a key or a session ends changes nothing, and nothing is recorded.
#[tokio::test(flavor = "multi_thread")]
async fn an_expiry_that_does_not_change_is_not_recorded() {
    let stage = Stage::set().await;
    let auth = Auth::new(&stage.db, AuthSettings::default());
    let ada = stage.user(stage.acme, "ada@example.com", "owner").await;
    let lines = "select (select count(*) from audit_events where action like '%expiry_changed')
                      + (select count(*) from domain_events where type like '%expiry_changed')";
    let day = Duration::from_secs(24 * 60 * 60);
    let (key, _) = auth.api_keys().create(stage.acme, &NewApiKey::named("k")).await.unwrap();
    let (session, _) = auth.sessions().issue(stage.acme, ada, &ClientInfo::default()).await.unwrap();
    for (days, lines_then) in [(2, 4), (3, 4), (1, 8)] {
        auth.api_keys().expire(stage.acme, key.id, days * day).await.unwrap();
        auth.sessions().expire(stage.acme, session.id, days * day).await.unwrap();
        assert_eq!(stage.count(lines).await, lines_then, "{days}");
    }
    stage.run("update sessions set revoked_at = now(); update api_keys set revoked_at = now()").await;
    for days in [1, 3] {
        let key = auth.api_keys().expire(stage.acme, key.id, days * day).await;
        assert!(matches!(key, Err(AuthError::NotFound { .. })), "{days}: {key:?}");
        let session = auth.sessions().expire(stage.acme, session.id, days * day).await;
        assert!(matches!(session, Err(AuthError::NotFound { .. })), "{days}: {session:?}");
    }
    assert_eq!(stage.count(lines).await, 8);
}

/// A user who was disabled before it accepted is a member after the home enables it, unless the home is suspended.
#[tokio::test(flavor = "multi_thread")]
async fn an_invited_user_who_was_disabled_is_confirmed_when_the_home_enables_it() {
    let stage = Stage::set().await;
    let auth = Auth::new(&stage.db, AuthSettings::default());
    let users = auth.users();
    let ben = users.create(stage.acme, &NewUser::invited("ben@example.com")).await.unwrap().id;
    users.set_status(stage.acme, ben, &UserStatus::Disabled).await.unwrap();
    let confirmed = "select count(*) from memberships where confirmed_at is not null";
    let before = stage.count(confirmed).await;
    stage.run("update organizations set status = 'suspended' where slug = 'acme'").await;
    let refused = users.set_status(stage.acme, ben, &UserStatus::Active).await;
    assert!(matches!(refused, Err(AuthError::OrganizationSuspended)), "{refused:?}");
    stage.run("update organizations set status = 'active' where slug = 'acme'").await;
    assert_eq!(stage.count(confirmed).await, before);
    users.set_status(stage.acme, ben, &UserStatus::Active).await.unwrap();
    assert_eq!(stage.count(confirmed).await, before + 1);
    auth.sessions().issue(stage.acme, ben, &ClientInfo::default()).await.unwrap();

    // What another organization decides confirms nothing at the home.
    let cleo = users.create(stage.acme, &NewUser::invited("cleo@example.com")).await.unwrap().id;
    stage
        .run(&format!(
            "update users set status = 'active' where id = '{cleo}';
             update memberships set confirmed_at = null where user_id = '{cleo}';
             insert into memberships (organization_id, user_id, role, confirmed_at) values ('{}', '{cleo}', 'member', now())",
            stage.globex
        ))
        .await;
    for status in [UserStatus::Disabled, UserStatus::Active] {
        users.set_status(stage.globex, cleo, &status).await.unwrap();
    }
    let at_home = format!("select count(*) from memberships where user_id = '{cleo}' and confirmed_at is not null");
    assert_eq!(stage.count(&at_home).await, 1);
}
