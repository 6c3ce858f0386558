//! Whether changes are received: lost connections, other processes, poolers.

use super::memory::{patient_settings, resolver};
use crate::{
    auth::platform::{Platform, reason},
    stage::slug,
    support::patience::must_end,
};
use cgk::{
    Db, ErrorKind,
    auth::{Auth, AuthSettings, NewApiKey, Rejection},
    config::Pooling,
    resolver::{NoticeState, Resolver},
};

/// The backends that listen for this service: the only ones that run these statements.
pub(super) const LISTENING: &str = "from pg_stat_activity
    where datname = current_database() and (query like 'listen %' or query like 'select nullif(pg_catalog.concat_ws(%') and pid <> pg_backend_pid()";

#[tokio::test]
async fn without_its_connection_nothing_is_remembered_and_it_says_so() {
    let platform = Platform::set().await;
    let resolver = resolver(&platform.auth).await;
    let (key, token) = platform.auth.api_keys().create(platform.acme, &NewApiKey::named("x")).await.unwrap();
    let asked = async || {
        let before = resolver.status().lookups;
        let outcome = (resolver.tenant(&slug("acme")).await, resolver.api_key(token.reveal()).await);
        (outcome, resolver.status().lookups - before)
    };
    assert_eq!(asked().await.1, 2);
    assert_eq!(asked().await.1, 0);

    // No new connection for the service's login, so that the state stays.
    let app = platform.stage.app_name();
    platform.stage.sql(&format!("alter role {} connection limit 0", app.as_str())).await;
    assert_eq!(platform.stage.number(&format!("select count(*) {LISTENING}")).await, 1);
    platform.stage.sql(&format!("select pg_terminate_backend(pid) {LISTENING}")).await;
    must_end("the loss", resolver.until_unnotified()).await;
    let NoticeState::NotReceived { why } = resolver.state() else { panic!("{:?}", resolver.state()) };
    assert!(!why.is_empty());
    assert!(matches!(resolver.caught_up().await, NoticeState::NotReceived { .. }));
    // What was remembered before the loss may have changed since.
    assert_eq!(asked().await.1, 2);
    assert_eq!(asked().await.1, 2);
    platform.auth.api_keys().revoke(platform.acme, key.id).await.unwrap();
    assert_eq!(reason(resolver.api_key(token.reveal()).await), Rejection::Revoked);

    platform.stage.sql(&format!("alter role {} connection limit -1", app.as_str())).await;
    must_end("the next connection", resolver.until_notified()).await;
    assert_eq!(resolver.state(), NoticeState::Received);
    assert_eq!(asked().await.1, 2);
    let ((tenant, key), questions) = asked().await;
    assert_eq!((tenant.unwrap().id, reason(key), questions), (platform.acme, Rejection::Revoked, 0));
}

/// What was looked up while nothing was received, and changed then, is not used when notices are received again.
#[tokio::test]
async fn what_changed_meanwhile_is_looked_up_anew() {
    let platform = Platform::set().await;
    let mut settings = patient_settings();
    // All is remembered, also without notices: only what happens at the next connection can help.
    settings.time_max_unnotified = settings.time_max;
    let resolver = Resolver::new(&platform.auth, settings);
    must_end("the first connection", resolver.until_notified()).await;
    resolver.tenant(&slug("acme")).await.unwrap();
    let app = platform.stage.app_name();
    platform.stage.sql(&format!("alter role {} connection limit 0", app.as_str())).await;
    platform.stage.sql(&format!("select pg_terminate_backend(pid) {LISTENING}")).await;
    must_end("the loss", resolver.until_unnotified()).await;
    platform.stage.sql("update organizations set status = 'suspended' where slug = 'acme'").await;
    // The precondition: it is used without its notice, as the settings say.
    assert!(resolver.tenant(&slug("acme")).await.is_ok());
    platform.stage.sql(&format!("alter role {} connection limit -1", app.as_str())).await;
    must_end("the next connection", resolver.until_notified()).await;
    assert_eq!(resolver.tenant(&slug("acme")).await.unwrap_err().kind(), ErrorKind::Suspended);
}

#[tokio::test]
async fn another_process_sees_every_change() {
    let platform = Platform::set().await;
    let other = platform.beside().await;
    let (here, there) = (resolver(&platform.auth).await, resolver(&other).await);
    let (key, token) = platform.auth.api_keys().create(platform.acme, &NewApiKey::named("x")).await.unwrap();
    assert!(here.api_key(token.reveal()).await.is_ok() && there.api_key(token.reveal()).await.is_ok());
    let (made, rotated) =
        other.api_keys().rotate(platform.acme, key.id, &cgk::auth::ApiKeyRotation::at_once()).await.unwrap();
    for resolver in [&here, &there] {
        resolver.caught_up().await;
        assert_eq!(reason(resolver.api_key(token.reveal()).await), Rejection::Revoked);
        assert_eq!(resolver.api_key(rotated.reveal()).await.unwrap().id, made.id);
    }
}

#[tokio::test]
async fn behind_a_pooler_it_says_that_there_are_no_notices() {
    let platform = Platform::set().await;
    let config = platform.db.config().clone().with_pooling(Pooling::Transaction);
    let db: Db = Db::connect(&config).await.unwrap();
    let resolver = Resolver::new(&Auth::new(&db, AuthSettings::default()), patient_settings());
    must_end("the end of the task", async {
        while !matches!(resolver.state(), NoticeState::Unavailable { .. }) {
            tokio::task::yield_now().await;
        }
    })
    .await;
    for lookups in 1..4 {
        resolver.tenant(&slug("acme")).await.unwrap();
        assert_eq!(resolver.status().lookups, lookups);
    }
}

#[tokio::test]
async fn the_connection_ends_with_the_last_clone() {
    let platform = Platform::set().await;
    let first = resolver(&platform.auth).await;
    let second = first.clone();
    drop(first);
    second.caught_up().await;
    assert_eq!(platform.stage.number(&format!("select count(*) {LISTENING}")).await, 1);
    drop(second);
    platform.stage.until(&format!("select count(*) = 0 {LISTENING}")).await;
}
