//! Each operation writes its line in the audit log and its event, with the same name, in the transaction of its change. The
//! operations are read from the sources.

use crate::{
    stage::Stage,
    walk::{Outcome, Scene, operations, operations_of_auth},
};
use cgk::{
    auth::{Auth, AuthSettings, NewApiKey, NewUser, UserStatus},
    platform::{Actor, UserAccounts},
};
use std::collections::{BTreeMap, BTreeSet};

/// What each operation records. Those that are not here record nothing: they read, or they are in [`SILENT`].
const RECORDED: &[(&str, &[&str])] = &[
    ("ApiKeys::create", &["cgk.api_key.created"]),
    ("ApiKeys::expire", &["cgk.api_key.expiry_changed"]),
    ("ApiKeys::purge", &["cgk.api_key.purged"]),
    ("ApiKeys::revoke", &["cgk.api_key.revoked"]),
    ("ApiKeys::rotate", &["cgk.api_key.rotated"]),
    ("DuplicateUsers::merge", &["cgk.user.merged"]),
    ("Invitations::accept", &["cgk.user.created", "cgk.membership.created", "cgk.invitation.accepted"]),
    ("Invitations::create", &["cgk.invitation.created"]),
    ("Invitations::resend", &["cgk.invitation.resent"]),
    ("Invitations::revoke", &["cgk.invitation.revoked"]),
    ("MagicLinks::issue", &["cgk.magic_link.issued"]),
    ("MagicLinks::purge", &["cgk.magic_link.purged"]),
    ("MagicLinks::redeem", &["cgk.magic_link.redeemed"]),
    ("MagicLinks::revoke", &["cgk.magic_link.revoked"]),
    ("Members::add", &["cgk.user.created", "cgk.membership.created"]),
    ("Members::remove", &["cgk.membership.removed"]),
    ("Members::set_role", &["cgk.membership.role_changed"]),
    ("Organizations::create", &["cgk.organization.created", "cgk.membership.created"]),
    ("Organizations::delete", &["cgk.organization.deleted"]),
    ("Organizations::update", &["cgk.organization.updated"]),
    ("Outbox::retry", &["cgk.event.retried"]),
    ("Outbox::retry_all", &["cgk.event.retried"]),
    ("Outbox::retry_all of all", &["cgk.event.retried"]),
    ("Plans::archive", &["cgk.plan.archived"]),
    ("Plans::define", &["cgk.plan.defined"]),
    ("Plans::define_kind", &["cgk.quota_kind.defined"]),
    ("Quota::grant", &["cgk.quota.granted"]),
    ("Quota::grant_in", &["cgk.quota.granted"]),
    ("Quota::prune", &["cgk.quota.pruned"]),
    ("Quota::revoke_grant", &["cgk.quota.grant_revoked"]),
    ("Secrets::rotate", &["cgk.secret.rotated"]),
    ("Secrets::set_account_tokens", &["cgk.secret.set"]),
    ("Secrets::set_shopify", &["cgk.secret.set"]),
    ("Sessions::expire", &["cgk.session.expiry_changed"]),
    ("Sessions::purge", &["cgk.session.purged"]),
    ("Sessions::revoke", &["cgk.session.revoked"]),
    ("Sessions::revoke_all", &["cgk.session.revoked"]),
    ("Subscriptions::cancel", &["cgk.subscription.cancellation_scheduled"]),
    ("Subscriptions::cancel now", &["cgk.subscription.canceled"]),
    ("Subscriptions::change_plan", &["cgk.subscription.plan_changed"]),
    ("Subscriptions::mark_past_due", &["cgk.subscription.past_due"]),
    ("Subscriptions::renew", &["cgk.subscription.paid"]),
    ("Subscriptions::resume", &["cgk.subscription.cancellation_withdrawn"]),
    ("Subscriptions::subscribe again", &["cgk.subscription.started"]),
    ("UserAccounts::link", &["cgk.user_account.linked"]),
    ("UserAccounts::unlink", &["cgk.user_account.unlinked"]),
    ("Users::create", &["cgk.user.created"]),
    ("Users::set_password", &["cgk.user.password_set"]),
    ("Users::set_status", &["cgk.user.status_changed"]),
    ("Users::set_status back", &["cgk.user.status_changed"]),
];

/// Those that change something and are not recorded, and why.
const SILENT: &[&str] = &[
    // One by one they would be more lines than all others; the rows themselves have them.
    "Quota::consume",
    "Quota::consume_in",
    "Quota::release",
    "Quota::release_in",
    // Signing in: the rows of sessions have it.
    "Sessions::issue",
    "Sessions::rotate",
    "Sessions::sign_in",
    // What was delivered, every minute by a relay: the event about it would be pruned in its turn.
    "Outbox::prune",
    // Makes partitions and removes nothing.
    "AuditLog::keep_months",
    // What it does is recorded by subscription: see suspended.rs.
    "Subscriptions::renew_due",
    // Refused in the walk, because there is a subscription.
    "Subscriptions::subscribe",
    "Subscriptions::subscribe_in",
];

/// The beginnings of the names of operations that only read.
const READS: &[&str] = &[
    "list",
    "get",
    "find",
    "by_",
    "of_user",
    "demand",
    "verify",
    "current",
    "history",
    "left",
    "grants",
    "all_grants",
];

#[tokio::test(flavor = "multi_thread")]
async fn each_operation_writes_its_line_and_its_event() {
    let scene = Scene::set().await;
    let walk = scene.walk_all().await;
    let table: BTreeMap<&str, &[&str]> = RECORDED.iter().copied().collect();
    for (name, told) in &walk.found {
        let expected = table.get(name).copied().unwrap_or_default();
        assert_eq!(told.lines, expected, "the lines of {name}: {told:?}");
        assert_eq!(told.events, expected, "the events of {name}: {told:?}");
    }
    let failed = walk.other_than(&Outcome::Done);
    assert_eq!(failed, ["Subscriptions::subscribe", "Subscriptions::subscribe_in"]);
    // Each operation of the sources was called, and one that records nothing says why or only reads.
    let called: BTreeSet<&str> = walk.found.keys().copied().collect();
    let of_sources: BTreeSet<String> = operations().union(&operations_of_auth()).cloned().collect();
    assert!(of_sources.len() > 85, "{of_sources:?}");
    // A list of the addresses of one person, for its own sign-in.
    let missing: Vec<_> = of_sources.iter().filter(|name| !called.contains(name.as_str())).collect();
    assert_eq!(missing, ["Users::by_email"]);
    let reads = |name: &str| READS.iter().any(|read| name.split("::").nth(1).unwrap().starts_with(read));
    let of_secrets = ["Secrets::account_tokens", "Secrets::shopify_access_token"];
    let unexplained: Vec<_> = of_sources
        .iter()
        .map(String::as_str)
        .filter(|name| {
            !table.contains_key(name) && !SILENT.contains(name) && !reads(name) && !of_secrets.contains(name)
        })
        .collect();
    assert_eq!(unexplained, [""; 0]);
}

/// The line is that of who acts, and contains no secret; what fails leaves neither the change nor the line.
#[tokio::test(flavor = "multi_thread")]
async fn a_line_names_its_actor_and_no_secret_and_comes_with_the_change() {
    let stage = Stage::set().await;
    let ann = Actor::Operator("ann\0".into());
    let auth = Auth::new(&stage.db, AuthSettings::default()).acting_as(ann.clone());
    let (_, token) = auth.api_keys().create(stage.acme, &NewApiKey::named("k").scope("a:b")).await.unwrap();
    let ben =
        auth.users().create(stage.acme, &NewUser::active("ben@example.com").password("secret horse")).await.unwrap();
    auth.users().set_password(stage.acme, ben.id, "correct horse").await.unwrap();
    let lines = "select actor_kind || ' ' || actor_id || ' ' || action from audit_events order by occurred_at, id";
    let lines: Vec<String> = stage.rows(lines, &[]).await.iter().map(|row| row.get(0)).collect();
    let by = "operator ann\u{fffd} cgk";
    assert_eq!(
        lines,
        [format!("{by}.api_key.created"), format!("{by}.user.created"), format!("{by}.user.password_set")]
    );
    let all = "select concat((select string_agg(a::text, '') from audit_events a), (select string_agg(e::text, '') from domain_events e))";
    let all: String = stage.rows(all, &[]).await[0].get(0);
    for secret in [token.reveal(), "horse", "argon2", "ben@example.com"] {
        assert!(!all.contains(secret), "{secret}");
    }
    assert!(all.contains("a:b"), "{all}");
    // A change of the address at a provider is one; the same again is none.
    let accounts = UserAccounts::new(&stage.db).acting_as(ann);
    for address in ["a@x.example", "a@x.example", "b@x.example"] {
        accounts.link(ben.id, "https://id.example", "ben", Some(address)).await.unwrap();
    }
    let of_accounts = "select count(*) from audit_events where action like 'cgk.user_account.%'";
    assert_eq!(stage.count(of_accounts).await, 2);

    // The log refuses: nothing is changed.
    stage.run("alter table audit_events add constraint refused check (action not like 'cgk.%') not valid").await;
    let before = "select concat((select json_agg(k) from api_keys k), (select json_agg(u) from users u), (select json_agg(l) from magic_links l))";
    let state: String = stage.rows(before, &[]).await[0].get(0);
    assert!(auth.api_keys().create(stage.acme, &NewApiKey::named("k")).await.is_err());
    assert!(auth.users().create(stage.acme, &NewUser::active("x@example.com")).await.is_err());
    assert!(auth.users().set_status(stage.acme, ben.id, &UserStatus::Disabled).await.is_err());
    assert!(auth.magic_links().issue("x@example.com", cgk::auth::LinkPurpose::Login).await.is_err());
    assert_eq!(stage.rows(before, &[]).await[0].get::<_, String>(0), state);
    // The control.
    stage.run("alter table audit_events drop constraint refused").await;
    auth.users().set_status(stage.acme, ben.id, &UserStatus::Disabled).await.unwrap();
}
