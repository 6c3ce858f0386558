//! A value that cannot be stored is named, and nothing of it reaches the caller as the server's error.

use crate::stage::Stage;
use cgk::{
    platform::{
        AuditFilter, AuditLog, EventFilter, Invitations, NewGrant, NewInvitation, NewSubscription, OrganizationChange,
        Organizations, Outbox, PageRequest, PlatformError, Quota, QuotaKind, RenewalPeriod, Subscriptions,
        UserAccounts,
    },
    secret::{SecretError, Secrets},
};
use std::time::{Duration, SystemTime};

fn named<T: std::fmt::Debug>(outcome: Result<T, PlatformError>, field: &str) {
    let refused = outcome.unwrap_err();
    assert!(matches!(&refused, PlatformError::Invalid { what, .. } if *what == field), "{field}: {refused:?}");
    assert_eq!(refused.status(), 422);
}

fn named_secret(outcome: Result<(), SecretError>, field: &str) {
    match outcome {
        Err(SecretError::Platform(error)) => named(Err::<(), _>(error), field),
        other => panic!("{field}: {other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_value_that_cannot_be_stored_is_named() {
    let stage = Stage::set().await;
    let (acme, year) = (stage.acme, Duration::from_secs(365 * 24 * 60 * 60));
    let ada = stage.user(acme, "ada@example.com", "owner").await;
    let quota = Quota::new(&stage.db);
    let bought = || NewGrant::purchase(QuotaKind::RUNS, 5);
    for reference in ["\0", "a\0b", "", &"r".repeat(256)] {
        named(quota.grant(acme, &bought().reference(reference)).await, "the reference");
    }
    let (early, late) = (SystemTime::UNIX_EPOCH - 7000 * year, SystemTime::UNIX_EPOCH + 400_000 * year);
    for grant in [
        bought().expires_in(400_000 * year),
        bought().expires_in(Duration::MAX),
        bought().expires_at(early),
        bought().expires_at(late),
    ] {
        named(quota.grant(acme, &grant).await, "the expiry");
    }
    quota.grant(acme, &bought().reference("pi_1").expires_in(900 * year)).await.unwrap();

    let subscriptions = Subscriptions::new(&stage.db);
    let to = || NewSubscription::to("team".parse().unwrap());
    named(subscriptions.subscribe(acme, &to().period_end(late)).await, "the end of the period");
    subscriptions.subscribe(acme, &to()).await.unwrap();
    for (start, end) in [(early, SystemTime::now()), (SystemTime::now(), late), (SystemTime::now(), early)] {
        named(subscriptions.renew(acme, RenewalPeriod::Exactly { start, end }).await, "the period");
    }

    let invitations = Invitations::new(&stage.db);
    for address in ["\u{202e}a@b.c", "<a@b.c>", "a@b.c%0d", "a\0@b.c", &format!("{}@b.c", "a".repeat(400))] {
        named(invitations.create(acme, &NewInvitation::of_address(address)).await, "the e-mail address");
    }
    let organizations = Organizations::new(&stage.db);
    for settings in [serde_json::json!({ "a": ["\0"] }), serde_json::json!({ "a\0": 1 }), serde_json::json!([])] {
        named(organizations.update(acme, &OrganizationChange::default().settings(settings)).await, "the settings");
    }
    named(organizations.update(acme, &OrganizationChange::default().name("a\0")).await, "the name");

    let lines = |from, until, action: Option<&str>| {
        let mut filter = AuditFilter::default();
        (filter.from, filter.until, filter.action) = (from, until, action.map(str::to_owned));
        filter
    };
    let log = AuditLog::new(&stage.db);
    for (filter, what) in [
        (lines(Some(late), None, None), "the start"),
        (lines(None, Some(early), None), "the end"),
        (lines(None, None, Some("a\0")), "the filter"),
    ] {
        named(log.list(&filter, &PageRequest::default()).await, what);
    }
    let events = EventFilter { event_type: Some("a\0".into()), ..EventFilter::default() };
    named(Outbox::new(&stage.db).list(&events).await, "the type");

    let secrets = Secrets::new(&stage.db, "2025:MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=".parse().unwrap());
    for domain in
        ["", "acme", "Acme.example", "https://a.example", "a..b", "-a.example", "a\0.example", &"a.".repeat(200)]
    {
        named_secret(secrets.set_shopify(acme, domain, b"x").await, "the domain of the store");
    }
    named_secret(secrets.set_shopify(acme, "a.example", &[7; 1_000_000]).await, "the access token");
    secrets.set_shopify(acme, "a.example", &[7; 4000]).await.unwrap();
    named_secret(secrets.set_shopify(stage.globex, "a.example", b"x").await, "the domain of the store");
    let account = UserAccounts::new(&stage.db).link(ada, "https://id.example", "1", None).await.unwrap().id;
    named_secret(secrets.set_account_tokens(account, Some(&[7; 16_001])).await, "the tokens");
    secrets.set_account_tokens(account, Some(&[7; 16_000])).await.unwrap();
}
