//! Odd texts, times and durations: each call answers with an error of its own that names the field, or does what it is asked for. None
//! panics, and none answers with the server's error.

use crate::stage::{Stage, must_end};
use cgk::{
    UserId,
    auth::{
        ApiKeyRotation, Auth, AuthError, AuthSettings, ClientInfo, LinkPurpose, NewApiKey, NewUser, UserRole,
        UserStatus,
    },
    platform::{
        Actor, AuditFilter, AuditLog, EventFilter, EventStatus, Invitations, Invitee, Members, NewGrant, NewInvitation,
        NewMember, NewSignUp, NewSubscription, OrganizationChange, Organizations, Outbox, PageRequest, PlanDefinition,
        Plans, PlatformError, Quota, QuotaKind, Relay, RelayOptions, RenewalPeriod, SignUps, Subscriptions,
        UserAccounts, callback,
    },
    provisioning::NewOrganization,
    secret::{SecretError, Secrets},
};
use serde_json::json;
use std::time::{Duration, SystemTime};

/// The calls whose error is the server's.
#[derive(Default)]
struct Raw(Vec<String>);

impl Raw {
    fn platform<T>(&mut self, call: &str, input: &str, outcome: Result<T, PlatformError>) {
        match outcome {
            Err(error @ (PlatformError::Database(_) | PlatformError::TablesMissing { .. })) => {
                self.add(call, input, &error);
            }
            Err(error) => no_control(call, &error),
            Ok(_) => {}
        }
    }

    fn auth<T>(&mut self, call: &str, input: &str, outcome: Result<T, AuthError>) {
        match outcome {
            Err(error @ (AuthError::Database(_) | AuthError::TablesMissing { .. })) => self.add(call, input, &error),
            Err(error) => no_control(call, &error),
            Ok(_) => {}
        }
    }

    fn secret<T>(&mut self, call: &str, input: &str, outcome: Result<T, SecretError>) {
        match outcome {
            Err(SecretError::Platform(error)) => self.platform(call, input, Err::<(), _>(error)),
            Err(error) => no_control(call, &error),
            Ok(_) => {}
        }
    }

    fn add(&mut self, call: &str, input: &str, error: &dyn std::fmt::Debug) {
        self.0.push(format!("{call} of {:?}: {error:?}", input.chars().take(20).collect::<String>()));
    }
}

fn no_control(call: &str, error: &dyn std::fmt::Display) {
    let text = error.to_string();
    assert!(!text.is_empty() && !text.chars().any(char::is_control) && text.len() < 300, "{call}: {text:?}");
}

fn texts() -> Vec<String> {
    let mut texts: Vec<String> = [
        "",
        " ",
        "\t\n",
        "a\0b",
        "\0",
        "\u{1b}[2Jx",
        "\u{202e}x",
        "a\u{200b}@b.example",
        "'; drop table users; --",
        "ä@ö.example",
    ]
    .map(str::to_owned)
    .into();
    texts.extend([254, 255, 256, 320, 321, 500, 501, 5000, 200_000].map(|length| "x".repeat(length)));
    texts.extend([255, 320].map(|length| format!("{}@b.example", "é".repeat(length))));
    texts
}

#[tokio::test(flavor = "multi_thread")]
async fn no_text_reaches_the_caller_as_an_error_of_the_server() {
    let stage = Stage::set().await;
    let (db, acme) = (&stage.db, stage.acme);
    let ada = stage.user(acme, "ada@example.com", "owner").await;
    let ben = stage.user(acme, "ben@example.com", "member").await;
    let mut raw = Raw::default();
    let keys = "2025:MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";
    let auth = Auth::new(db, AuthSettings::default());
    for text in &texts() {
        let t = text.as_str();
        let organizations = Organizations::new(db);
        raw.platform("name", t, organizations.update(acme, &OrganizationChange::default().name(t)).await);
        let settings = OrganizationChange::default().settings(json!({ "a": [t], t: 1 }));
        raw.platform("settings", t, organizations.update(acme, &settings).await);
        let slug = format!("t{}", stage.count("select count(*) from organizations").await);
        let new = NewOrganization::new(slug.parse().unwrap()).name(t);
        raw.platform("new name", t, organizations.create(&new, ada).await);
        raw.platform("plan", t, Plans::new(db).define(&PlanDefinition::new("odd".parse().unwrap()).name(t)).await);
        let role = UserRole::Other(t.to_owned());
        let members = Members::new(db);
        raw.platform("member", t, members.add(acme, &NewMember::of_address(t)).await);
        raw.platform(
            "role of a member",
            t,
            members.add(acme, &NewMember::of_address("x@b.example").role(role.clone())).await,
        );
        raw.platform("set_role", t, members.set_role(acme, ben, &role).await);
        let invitations = Invitations::new(db);
        raw.platform("invite", t, invitations.create(acme, &NewInvitation::of_address(t)).await);
        raw.platform(
            "role of an invitation",
            t,
            invitations.create(acme, &NewInvitation::of_address("y@b.example").role(role.clone())).await,
        );
        raw.platform("verify", t, invitations.verify(t).await);
        raw.platform("accept", t, invitations.accept(t, &Invitee::Address(t.to_owned())).await);
        let quota = Quota::new(db);
        raw.platform("consume", t, quota.consume(acme, &QuotaKind::RUNS, 1, t).await);
        raw.platform("release", t, quota.release(acme, t).await);
        raw.platform("grant", t, quota.grant(acme, &NewGrant::purchase(QuotaKind::RUNS, 1).reference(t)).await);
        let accounts = UserAccounts::new(db);
        raw.platform("provider", t, accounts.link(ada, t, "s", None).await);
        raw.platform("subject", t, accounts.link(ada, "p", t, None).await);
        raw.platform("address", t, accounts.link(ada, "p", "s", Some(t)).await);
        raw.platform("find", t, accounts.find(t, t).await);
        let secrets = Secrets::new(db, keys.parse().unwrap());
        raw.secret("store", t, secrets.set_shopify(acme, t, b"x").await);
        raw.secret("token", t, secrets.set_shopify(acme, "a.example", t.as_bytes()).await);
        let log = AuditLog::new(db);
        for field in 0..4 {
            let mut filter = AuditFilter::default();
            match field {
                0 => filter.action = Some(t.to_owned()),
                1 => filter.resource_kind = Some(t.to_owned()),
                2 => filter.resource_id = Some(t.to_owned()),
                _ => filter.actor = Some(Actor::Operator(t.to_owned())),
            }
            raw.platform("audit", t, log.list(&filter, &PageRequest::default()).await);
        }
        let mut filter =
            EventFilter { event_type: Some(t.to_owned()), before: Some(i64::MIN), ..EventFilter::default() };
        raw.platform("events", t, Outbox::new(db).list(&filter).await);
        (filter.event_type, filter.status) = (None, Some(EventStatus::Other(t.to_owned())));
        raw.platform("status of events", t, Outbox::new(db).list(&filter).await);
        raw.platform(
            "admin",
            t,
            db.dangerously_as_admin(&Actor::System, t, async |_| Ok(())).await.or_else(only_denied),
        );
        let sign_ups = SignUps::new(db);
        let new = NewSignUp::of_address(t, NewOrganization::new("odd".parse().unwrap()));
        raw.platform("sign-up", t, sign_ups.sign_up("k", &new, Duration::ZERO).await);
        let new = NewSignUp::of_address("z@b.example", NewOrganization::new("odd2".parse().unwrap()));
        raw.platform("key of a sign-up", t, sign_ups.sign_up(t, &new, Duration::ZERO).await);
        let named = Organizations::new(db).acting_as(Actor::Operator(t.to_owned()));
        raw.platform(
            "operator",
            t,
            named.update(acme, &OrganizationChange::default().name(format!("n{}", t.len()))).await,
        );

        raw.auth("key", t, auth.api_keys().create(acme, &NewApiKey::named(t)).await);
        raw.auth("scope", t, auth.api_keys().create(acme, &NewApiKey::named("k").scope(t)).await);
        raw.auth("verify key", t, auth.api_keys().verify(t).await);
        raw.auth("user", t, auth.users().create(acme, &NewUser::active(t)).await);
        raw.auth("role of a user", t, auth.users().create(acme, &NewUser::active("w@b.example").role(role)).await);
        raw.auth("password", t, auth.users().set_password(acme, ben, t).await);
        raw.auth("status", t, auth.users().set_status(acme, ben, &UserStatus::Other(t.to_owned())).await);
        raw.auth("find user", t, auth.users().find_by_email(acme, t).await);
        raw.auth("by_email", t, auth.users().by_email(t).await);
        raw.auth("link", t, auth.magic_links().issue(t, LinkPurpose::Login).await);
        raw.auth("links", t, auth.magic_links().list(t).await);
        raw.auth("revoke links", t, auth.magic_links().revoke(t).await);
        raw.auth("redeem", t, auth.magic_links().redeem(t, LinkPurpose::Login).await);
        let client = ClientInfo::default().user_agent(t);
        raw.auth("agent", t, auth.sessions().issue(acme, ada, &client).await);
        raw.auth("sign in", t, auth.sessions().sign_in(acme, t, t, &client).await);
        raw.auth("session", t, auth.sessions().rotate(t).await);
    }
    assert!(raw.0.is_empty(), "{}", raw.0.join("\n"));
    // The control: there is something that these calls have stored, and what can be read has no control characters.
    assert!(stage.count("select count(*) from audit_events").await > 50);
    for stored in [
        "name from organizations",
        "name from plans",
        "name from api_keys",
        "email from users",
        "email from invitations",
    ] {
        let odd = format!(
            "select count(*) from (select {stored}) as t (text) where text ~ '[[:cntrl:]]' or btrim(text) = ''"
        );
        assert_eq!(stage.count(&odd).await, 0, "{stored}");
    }
}

/// The login may not act as that role here; what is tested is the reason.
fn only_denied(error: PlatformError) -> Result<(), PlatformError> {
    match error {
        PlatformError::Database(error) if error.kind() == cgk::ErrorKind::Denied => Ok(()),
        error => Err(error),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_time_reaches_the_caller_as_an_error_of_the_server() {
    let stage = Stage::set().await;
    let (db, acme) = (&stage.db, stage.acme);
    let ada = stage.user(acme, "ada@example.com", "owner").await;
    let mut raw = Raw::default();
    let century = Duration::from_secs(100 * 366 * 24 * 3600);
    for span in [
        Duration::ZERO,
        Duration::from_nanos(1),
        Duration::from_secs(1),
        century,
        century * 20,
        century * 5000,
        Duration::MAX,
    ] {
        let t = format!("{span:?}");
        raw.platform("quota:prune", &t, Quota::new(db).prune(span).await);
        raw.platform("events:prune", &t, Outbox::new(db).prune(span).await);
        raw.platform(
            "invite",
            &t,
            Invitations::new(db)
                .create(acme, &NewInvitation::of_address(&format!("a{}@b.example", span.as_nanos())).lifetime(span))
                .await,
        );
        raw.platform(
            "grant",
            &t,
            Quota::new(db).grant(acme, &NewGrant::purchase(QuotaKind::RUNS, 1).expires_in(span)).await,
        );
        raw.platform(
            "trial",
            &t,
            Subscriptions::new(db).subscribe(acme, &NewSubscription::to("team".parse().unwrap()).trial(span)).await,
        );
        let mut settings = AuthSettings::default();
        (settings.session_lifetime, settings.link_lifetime, settings.key_use_interval) = (span, span, span);
        let auth = Auth::new(db, settings);
        let (keys, sessions, links) = (auth.api_keys(), auth.sessions(), auth.magic_links());
        let made = keys.create(acme, &NewApiKey::named("k")).await.unwrap();
        raw.auth("verify", &t, keys.verify(made.1.reveal()).await);
        raw.auth("lifetime", &t, keys.create(acme, &NewApiKey::named("k").lifetime(span)).await);
        raw.auth(
            "rotate",
            &t,
            keys.rotate(acme, made.0.id, &ApiKeyRotation::at_once().overlap(span).lifetime(span)).await,
        );
        raw.auth("expire", &t, keys.expire(acme, made.0.id, span).await);
        raw.auth("purge keys", &t, keys.purge(span, 1).await);
        raw.auth("issue", &t, sessions.issue(acme, ada, &ClientInfo::default()).await);
        raw.auth("end", &t, sessions.expire(acme, cgk::auth::SessionId(uuid::Uuid::nil()), span).await);
        raw.auth("purge sessions", &t, sessions.purge(span, 1).await);
        raw.auth("link", &t, links.issue("a@b.example", LinkPurpose::Login).await);
        raw.auth("purge links", &t, links.purge(span, 1).await);
    }
    let epoch = SystemTime::UNIX_EPOCH;
    let far = Duration::from_secs(i64::MAX as u64 - 1);
    for at in
        [epoch, epoch + far, epoch - far, epoch + century * 100, epoch - century * 25, epoch + Duration::from_nanos(1)]
    {
        let t = format!("{at:?}");
        let subscriptions = Subscriptions::new(db);
        raw.platform(
            "grant until",
            &t,
            Quota::new(db).grant(acme, &NewGrant::purchase(QuotaKind::RUNS, 1).expires_at(at)).await,
        );
        raw.platform(
            "period",
            &t,
            subscriptions.subscribe(stage.globex, &NewSubscription::to("team".parse().unwrap()).period_end(at)).await,
        );
        for (start, end) in [(at, epoch + century), (epoch, at), (at, at)] {
            raw.platform("renew", &t, subscriptions.renew(acme, RenewalPeriod::Exactly { start, end }).await);
        }
        for (from, until) in [(Some(at), None), (None, Some(at)), (Some(at), Some(at))] {
            let mut filter = AuditFilter::default();
            (filter.from, filter.until) = (from, until);
            raw.platform("audit", &t, AuditLog::new(db).list(&filter, &PageRequest::default()).await);
        }
        // A month that has not ended is the server's to refuse.
        let dropped = AuditLog::drop_months(&stage.operator().await, at).await;
        let refused = dropped.err().and_then(|error| error.sqlstate().map(|state| state.code().to_owned()));
        assert_eq!(refused.is_some(), at > SystemTime::now(), "{t}");
        assert!(refused.is_none_or(|code| code == "22023"), "{t}");
    }
    assert!(raw.0.is_empty(), "{}", raw.0.join("\n"));
    for months in [0, u32::MAX] {
        AuditLog::make_months(&stage.operator().await, months).await.unwrap();
    }
    let unknown = Members::new(db).of_user(UserId(uuid::Uuid::max()), &PageRequest::default().limit(u32::MAX)).await;
    assert_eq!(unknown.unwrap().items.len(), 0);
}

/// A relay whose times are all the longest, or all zero, delivers, tries again and stops.
#[tokio::test(flavor = "multi_thread")]
async fn a_relay_with_the_longest_times_delivers() {
    let stage = Stage::set().await;
    for span in [Duration::MAX, Duration::ZERO] {
        Organizations::new(&stage.db)
            .update(stage.acme, &OrganizationChange::default().name(format!("{span:?}")))
            .await
            .unwrap();
        let mut options = RelayOptions::default();
        (options.batch_time_max, options.delivery_time_max) = (span, span.max(Duration::from_secs(10)));
        (options.pause_first, options.pause_max, options.poll_interval) =
            (span, span, span.max(Duration::from_millis(1)));
        (options.keep_delivered, options.attempts_max) = (Some(span.max(Duration::from_secs(3600))), u32::MAX);
        let fails = std::sync::atomic::AtomicBool::new(span == Duration::MAX);
        let sink = callback(move |_| {
            let failed = fails.swap(false, std::sync::atomic::Ordering::SeqCst);
            async move { if failed { Err(cgk::platform::SinkError::new("once")) } else { Ok(()) } }
        });
        let relay = Relay::new(&stage.db, sink, options);
        let report = must_end(relay.deliver_due()).await.unwrap();
        // It waits now for as long as it may.
        assert_eq!(report.failed, u64::from(span == Duration::MAX), "{report:?}");
        stage.run("update domain_event_queues set attempt_at = '-infinity'").await;
        let undelivered = "select count(*) from domain_events where status <> 'delivered'";
        let stop = stage.until_count(undelivered, |count| count == 0);
        if span == Duration::MAX {
            must_end(relay.run_until(stop)).await.unwrap();
        }
    }
}
