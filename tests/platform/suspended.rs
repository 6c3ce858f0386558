//! An organization that is suspended, by an operator or because its owner has deleted it, takes nothing new: nothing is bought,
//! granted, consumed, nobody is invited or joins, and no key is made. What it has can be read, changed, canceled, released, revoked and
//! removed.

use crate::{
    stage::{Stage, slug},
    walk::{Outcome, Scene},
};
use cgk::platform::{NewSubscription, Organizations, PlatformError, Quota, QuotaKind, RenewalPeriod, Subscriptions};

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
