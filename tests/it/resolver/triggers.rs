//! A database that does not notify of every change: the resolver says so, and answers are used for a short time only.

use super::{
    memory::{patient_settings, resolver},
    received::LISTENING,
};
use crate::{
    auth::platform::{Platform, reason},
    stage::slug,
    support::patience::must_end,
};
use cgk::{
    Closed, ErrorKind,
    auth::{ClientInfo, Rejection},
    resolver::{NoticeState, Resolver},
};
use std::time::Duration;

/// What stops the notices of sessions or organizations, what the reason names, and what undoes it.
const STOPPED: &[(&str, &str, &str)] = &[
    (
        "alter table sessions disable trigger sessions_notify_update",
        "sessions_notify_update",
        "alter table sessions enable always trigger sessions_notify_update",
    ),
    (
        "alter table sessions enable replica trigger sessions_notify_update",
        "sessions_notify_update",
        "alter table sessions enable trigger sessions_notify_update",
    ),
    (
        "drop trigger organizations_notify_insert on organizations",
        "organizations_notify_insert",
        "create trigger organizations_notify_insert after insert on organizations
             referencing new table as new_rows for each statement execute function cgk_organizations_changed()",
    ),
    (
        "drop trigger api_keys_notify_truncate on api_keys;
         create trigger api_keys_notify_truncate after delete on api_keys
             for each statement execute function cgk_table_truncated()",
        "api_keys_notify_truncate",
        "drop trigger api_keys_notify_truncate on api_keys;
         create trigger api_keys_notify_truncate after truncate on api_keys
             for each statement execute function cgk_table_truncated()",
    ),
    (
        "alter function cgk_notify_changes(text[]) rename to other",
        "cgk_notify_changes",
        "alter function other(text[]) rename to cgk_notify_changes",
    ),
    // A table that logical replication writes.
    (
        "set allow_system_table_mods = on;
         insert into pg_subscription_rel (srsubid, srrelid, srsubstate) values (1, 'users'::regclass, 'r')",
        "logical replication writes these tables, and its changes fire no such trigger: users",
        "delete from pg_subscription_rel where srsubid = 1",
    ),
];

#[tokio::test]
async fn without_a_trigger_notices_are_not_received_and_nothing_is_remembered() {
    let platform = Platform::set().await;
    let resolver = resolver(&platform.auth).await;
    for (stop, named, restore) in STOPPED {
        resolver.tenant(&slug("acme")).await.unwrap();
        platform.stage.sql(stop).await;
        // Its question finds out; the answer to it may come after the call.
        resolver.caught_up().await;
        let NoticeState::NotReceived { why } = resolver.state() else { panic!("{stop}: {:?}", resolver.state()) };
        assert!(why.contains(named), "{stop}: {why}");
        let before = resolver.status().lookups;
        resolver.tenant(&slug("acme")).await.unwrap();
        resolver.tenant(&slug("acme")).await.unwrap();
        assert_eq!(resolver.status().lookups, before + 2, "{stop}");

        platform.stage.sql(restore).await;
        resolver.caught_up().await;
        must_end("the notices", resolver.until_notified()).await;
        assert_eq!(resolver.caught_up().await, NoticeState::Received, "{restore}");
        let before = resolver.status().lookups;
        resolver.tenant(&slug("acme")).await.unwrap();
        resolver.tenant(&slug("acme")).await.unwrap();
        assert_eq!(resolver.status().lookups, before + 1, "{restore}");
    }
}

/// The set of migrations ends before 010, as in a project that was begun with an older version.
#[tokio::test]
async fn a_database_without_migration_010_is_one_without_notices() {
    let platform = Platform::set().await;
    platform
        .stage
        .sql(
            "drop function cgk_notify_changes(text[]), cgk_organizations_changed(), cgk_users_changed(),
                 cgk_sessions_changed(), cgk_api_keys_changed(), cgk_table_truncated() cascade",
        )
        .await;
    let user = platform.user(platform.acme, "ada@example.com").await;
    let sessions = platform.auth.sessions();
    let (session, token) = sessions.issue(platform.acme, user.id, &ClientInfo::default()).await.unwrap();
    let resolver = Resolver::new(&platform.auth, patient_settings());
    let mut careless = patient_settings();
    careless.time_max_unnotified = careless.time_max;
    let careless = Resolver::new(&platform.auth, careless);
    for resolver in [&resolver, &careless] {
        assert!(resolver.session(token.reveal()).await.is_ok());
        must_end("the look at the catalogue", async {
            while !matches!(resolver.state(), NoticeState::NotReceived { why } if why.contains("sessions_notify_update")) {
                tokio::task::yield_now().await;
            }
        })
        .await;
    }
    sessions.revoke(platform.acme, session.id).await.unwrap();
    assert_eq!(reason(resolver.session(token.reveal()).await), Rejection::Revoked);
    assert!(matches!(resolver.caught_up().await, NoticeState::NotReceived { .. }));
    // The precondition: no notice has come, so one that trusts in notices still lets it in.
    assert!(careless.session(token.reveal()).await.is_ok());
}

#[tokio::test]
async fn when_its_runtime_has_ended_it_says_that_nothing_is_received() {
    let platform = Platform::set().await;
    let auth = platform.auth.clone();
    let made = std::thread::spawn(move || {
        let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let (ran, never_ran) = (runtime(), runtime());
        let first = ran.block_on(async {
            let resolver = Resolver::new(&auth, patient_settings());
            must_end("the first connection", resolver.until_notified()).await;
            assert_eq!(resolver.caught_up().await, NoticeState::Received);
            resolver
        });
        let second = {
            let _entered = never_ran.enter();
            Resolver::new(&auth, patient_settings())
        };
        [first, second]
    });
    for resolver in made.join().unwrap() {
        must_end("the end", resolver.until_unnotified()).await;
        let NoticeState::NotReceived { why } = must_end("the answer", resolver.caught_up()).await else { panic!() };
        assert!(why.contains("runtime"), "{why}");
        // It still finds tenants, by the database alone.
        assert_eq!(resolver.tenant(&slug("acme")).await.unwrap().id, platform.acme);
    }
}

#[tokio::test]
async fn with_its_pool_its_connection_is_closed() {
    let platform = Platform::set().await;
    let resolver = resolver(&platform.auth).await;
    assert_eq!(platform.stage.number(&format!("select count(*) {LISTENING}")).await, 1);
    assert_eq!(platform.db.close(Duration::from_secs(60)).await, Closed::Drained);
    must_end("the end", resolver.until_unnotified()).await;
    let NoticeState::NotReceived { why } = resolver.state() else { panic!("{:?}", resolver.state()) };
    assert_eq!(why, "the pool is closed");
    platform.stage.until(&format!("select count(*) = 0 {LISTENING}")).await;
    assert_eq!(resolver.tenant(&slug("acme")).await.unwrap_err().kind(), ErrorKind::Unavailable);
}
