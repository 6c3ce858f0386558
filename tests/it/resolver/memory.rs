//! What is asked of the server, and what is answered from memory.

use crate::{
    auth::platform::{Platform, reason},
    sandbox::Proxy,
    stage::{connect, run, slug},
    support::patience::{must_end, patient},
};
use cgk::{
    Db, Error, ErrorKind,
    auth::{Auth, AuthSettings, ClientInfo, NewApiKey, Rejection},
    resolver::{NoticeState, Resolver, ResolverSettings},
};
use std::{sync::Arc, time::Duration};

const CALLERS: usize = 1000;

/// Time limits that no machine reaches: what is forgotten in these tests is forgotten for another reason.
pub(crate) fn patient_settings() -> ResolverSettings {
    let day = Duration::from_secs(24 * 3600);
    let mut settings = ResolverSettings::default();
    (settings.time_max, settings.unknown_time_max, settings.silence_max) = (day, day, day);
    // While no changes are received nothing is remembered, so that a test sees which of the two holds.
    settings.time_max_unnotified = Duration::ZERO;
    settings
}

pub(crate) async fn resolver(auth: &Auth) -> Resolver {
    let resolver = Resolver::new(auth, patient_settings());
    must_end("the first connection", resolver.until_notified()).await;
    resolver
}

/// How often the registry was asked for a slug, seen on the wire.
fn questions(proxy: &Proxy) -> usize {
    proxy.take().iter().filter(|seen| seen.kind == b'P' && seen.text.contains("where o.slug = $1")).count()
}

#[tokio::test]
async fn a_thousand_callers_at_once_are_one_question_to_the_server() {
    let platform = Platform::set().await;
    let proxy = Proxy::to(&platform.stage.database).await;
    let db: Db = Db::connect(&patient(proxy.config()).with_pool_size_max(4)).await.unwrap();
    let resolver = resolver(&Auth::new(&db, AuthSettings::default())).await;
    // The driver asks once for the types of the statement.
    resolver.tenant(&slug("globex")).await.unwrap();
    questions(&proxy);

    // The question is held back until all the callers have been polled.
    let holder = platform.holder("lock table organizations in access exclusive mode").await;
    let barrier = Arc::new(tokio::sync::Barrier::new(CALLERS + 1));
    let callers: Vec<_> = (0..CALLERS)
        .map(|_| {
            let (resolver, barrier) = (resolver.clone(), Arc::clone(&barrier));
            tokio::spawn(async move {
                barrier.wait().await;
                resolver.tenant(&slug("acme")).await
            })
        })
        .collect();
    barrier.wait().await;
    platform.until_waiting(1).await;
    run(&holder, "rollback").await.unwrap();
    for caller in callers {
        assert_eq!(must_end("a caller", caller).await.unwrap().unwrap().id, platform.acme);
    }
    assert_eq!(questions(&proxy), 1);
    assert_eq!((resolver.status().lookups, resolver.status().hits), (2, resolver.status().hits));

    // The control: the wire shows every question, and without memory each call is one.
    let mut none = patient_settings();
    none.time_max = Duration::ZERO;
    let without = Resolver::new(&Auth::new(&db, AuthSettings::default()), none);
    for _ in 0..10 {
        without.tenant(&slug("acme")).await.unwrap();
    }
    assert_eq!(questions(&proxy), 10);
}

#[tokio::test]
async fn who_asked_first_may_go_away() {
    let platform = Platform::set().await;
    let resolver = resolver(&platform.auth).await;
    let holder = platform.holder("lock table organizations in access exclusive mode").await;
    let acme = slug("acme");
    let mut first = Box::pin(resolver.tenant(&acme));
    assert!(futures_util::FutureExt::now_or_never(first.as_mut()).is_none());
    platform.until_waiting(1).await;
    let second = tokio::spawn({
        let resolver = resolver.clone();
        async move { resolver.tenant(&slug("acme")).await }
    });
    drop(first);
    run(&holder, "rollback").await.unwrap();
    assert_eq!(must_end("the second", second).await.unwrap().unwrap().id, platform.acme);
    assert_eq!(resolver.status().lookups, 1);
}

/// A question whose snapshot is older than a change, and whose answer comes after the notice of it.
#[tokio::test]
async fn an_answer_that_was_overtaken_by_a_change_is_not_remembered() {
    let platform = Platform::set().await;
    let app = platform.stage.app_name();
    // The service's login reads the registry only once a lock is free: behind its snapshot, and not before it.
    platform
        .stage
        .sql(&format!(
            "create function held() returns boolean language sql volatile as
                 'select true from (select pg_advisory_xact_lock_shared(4711)) held';
             create policy held on organizations as restrictive for select to {} using (held())",
            app.as_str()
        ))
        .await;
    let resolver = resolver(&platform.auth).await;
    let holder = platform.holder("select pg_advisory_xact_lock(4711)").await;
    let asking = tokio::spawn({
        let resolver = resolver.clone();
        async move { resolver.tenant(&slug("acme")).await }
    });
    platform.until_waiting(1).await;
    let change = connect(platform.stage.database.name()).await;
    run(&change, "update organizations set status = 'suspended' where slug = 'acme'").await.unwrap();
    assert_eq!(must_end("the notice", resolver.caught_up()).await, NoticeState::Received);
    // It waits for the same answer, and came after the change.
    let later = tokio::spawn({
        let resolver = resolver.clone();
        async move { resolver.tenant(&slug("acme")).await }
    });
    run(&holder, "rollback").await.unwrap();
    // The precondition: the answer of the first is from before.
    assert_eq!(must_end("the first", asking).await.unwrap().unwrap().id, platform.acme);
    for error in [must_end("the later", later).await.unwrap(), resolver.tenant(&slug("acme")).await] {
        assert_eq!(error.unwrap_err().kind(), ErrorKind::Suspended);
    }
    assert_eq!(resolver.status().lookups, 2);
}

#[tokio::test]
async fn a_failure_is_everybodys_who_waited_and_nobody_elses() {
    let platform = Platform::set().await;
    let resolver = resolver(&platform.auth).await;
    let holder = platform.holder("lock table organizations in access exclusive mode").await;
    let callers: Vec<_> = (0..10)
        .map(|_| {
            let resolver = resolver.clone();
            tokio::spawn(async move { resolver.tenant(&slug("acme")).await })
        })
        .collect();
    let pid = platform.stage.until_running("where o.slug = $1").await;
    platform.stage.sql(&format!("select pg_terminate_backend({pid})")).await;
    run(&holder, "rollback").await.unwrap();
    let mut failed = 0;
    for caller in callers {
        match must_end("a caller", caller).await.unwrap() {
            Ok(tenant) => assert_eq!(tenant.id, platform.acme),
            Err(error) => {
                assert!(matches!(error, Error::Shared(_)), "{error:?}");
                assert_eq!((error.kind(), error.is_retryable()), (ErrorKind::Unavailable, true), "{error:?}");
                failed += 1;
            }
        }
    }
    // Whoever was not polled before the end of the session has asked anew.
    assert!(failed >= 1, "{failed}");
    assert_eq!(resolver.tenant(&slug("acme")).await.unwrap().id, platform.acme);
}

#[tokio::test]
async fn unknown_names_are_remembered_and_push_out_none_that_is_asked_for() {
    let platform = Platform::set().await;
    let mut settings = patient_settings();
    settings.entries_max = 100;
    let resolver = Resolver::new(&platform.auth, settings);
    must_end("the first connection", resolver.until_notified()).await;
    resolver.tenant(&slug("globex")).await.unwrap();
    resolver.forget_all();
    assert_eq!(resolver.status().entries, 0);
    resolver.tenant(&slug("globex")).await.unwrap();
    assert_eq!(resolver.status().lookups, 2);
    for _ in 0..2 {
        let error = resolver.tenant(&slug("nobody")).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound);
    }
    assert_eq!(resolver.status().lookups, 3);
    let mut asked_again = 0;
    for n in 0..1000 {
        let before = resolver.status().lookups;
        resolver.tenant(&slug("acme")).await.unwrap();
        asked_again += resolver.status().lookups - before;
        resolver.tenant(&slug(&format!("unknown_{n}"))).await.unwrap_err();
    }
    assert!(resolver.status().entries <= 100, "{resolver:?}");
    assert!(asked_again < 20, "acme was forgotten {asked_again} times");
    // A tenant that is made is there at once, although it was asked for before.
    platform.stage.sql("insert into organizations (slug, name, status) values ('nobody', 'x', 'active')").await;
    resolver.caught_up().await;
    assert_eq!(resolver.tenant(&slug("nobody")).await.unwrap().slug.as_str(), "nobody");
}

#[tokio::test]
async fn inside_a_transaction_nothing_is_remembered() {
    let platform = Platform::set().await;
    let resolver = resolver(&platform.auth).await;
    resolver.tenant(&slug("acme")).await.unwrap();
    let before = resolver.status();
    // The pool has one connection: whoever holds it is refused, and does not wait for itself.
    let outcome = platform
        .db
        .platform()
        .transaction(async |tx| {
            tx.query("select 1", &[]).await?;
            Ok(resolver.tenant(&slug("acme")).await)
        })
        .await
        .unwrap();
    assert_eq!(outcome.unwrap_err().code(), "CGK0512");
    let outcome = platform
        .db
        .with_tenant(&slug("acme"), async |tx| {
            tx.query("select 1", &[]).await?;
            Ok(resolver.tenant(&slug("acme")).await)
        })
        .await
        .unwrap();
    assert_eq!(outcome.unwrap_err().code(), "CGK0509");
    assert_eq!((resolver.status().hits, resolver.status().entries), (before.hits, before.entries));
}

#[tokio::test]
async fn a_credential_is_remembered_until_it_ends() {
    let platform = Platform::set().await;
    let resolver = resolver(&platform.auth).await;
    let user = platform.user(platform.acme, "ada@example.com").await;
    let (issued, token) = platform.auth.sessions().issue(platform.acme, user.id, &ClientInfo::default()).await.unwrap();
    let (key, key_token) = platform.auth.api_keys().create(platform.acme, &NewApiKey::named("x")).await.unwrap();
    for _ in 0..3 {
        assert_eq!(resolver.session(token.reveal()).await.unwrap(), issued);
        assert_eq!(resolver.api_key(key_token.reveal()).await.unwrap().id, key.id);
    }
    assert_eq!(resolver.status().lookups, 2);
    // The database is not asked for what is no token.
    assert!(resolver.session(key_token.reveal()).await.is_err() && resolver.api_key("x").await.is_err());
    assert_eq!(resolver.status().lookups, 2);
    // What is remembered holds no token.
    assert!(!format!("{resolver:?}").contains(&token.reveal()[8..]));

    platform.auth.sessions().revoke(platform.acme, issued.id).await.unwrap();
    platform.auth.api_keys().revoke(platform.acme, key.id).await.unwrap();
    resolver.caught_up().await;
    for _ in 0..2 {
        assert_eq!(reason(resolver.session(token.reveal()).await), Rejection::Revoked);
        assert_eq!(reason(resolver.api_key(key_token.reveal()).await), Rejection::Revoked);
    }
    assert_eq!(resolver.status().lookups, 4);

    // One that ends by its time does so without a notice.
    let (_, short) = platform.auth.sessions().issue(platform.acme, user.id, &ClientInfo::default()).await.unwrap();
    platform
        .stage
        .sql(
            "update sessions set expires_at = clock_timestamp() + interval '200 milliseconds' where revoked_at is null",
        )
        .await;
    platform.stage.sql("alter table sessions disable trigger user").await;
    let began = std::time::Instant::now();
    while resolver.session(short.reveal()).await.is_ok() {
        assert!(began.elapsed() < crate::sandbox::HANG, "it never ends");
        tokio::task::yield_now().await;
    }
    assert_eq!(reason(resolver.session(short.reveal()).await), Rejection::Expired);
}
