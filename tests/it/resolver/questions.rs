//! How many questions there are at a time, and what becomes of those that nobody waits for.

use super::memory::patient_settings;
use crate::{
    auth::platform::Platform,
    stage::{run, slug},
    support::patience::{must_end, patient},
};
use cgk::{
    Db, TenantSlug,
    auth::{Auth, AuthSettings, ClientInfo},
    resolver::Resolver,
};
use futures_util::FutureExt as _;
use std::{num::NonZeroUsize, time::Duration};

const POOL: usize = 4;
const STRANGERS: usize = 100;

async fn until(condition: impl Fn() -> bool) {
    must_end("the condition", async {
        while !condition() {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

/// Who has a connection of the pool, and who waits for one.
fn users_of_the_pool(db: &Db) -> usize {
    let status = db.pool_status();
    status.size - status.idle + status.waiting
}

/// Names that nobody has, and so need a question each.
fn strangers() -> Vec<TenantSlug> {
    (0..STRANGERS).map(|n| slug(&format!("stranger_{n}"))).collect()
}

#[tokio::test]
async fn what_nobody_waits_for_leaves_the_queue() {
    let platform = Platform::set().await;
    let user = platform.user(platform.acme, "ada@example.com").await;
    let (_, token) = platform.auth.sessions().issue(platform.acme, user.id, &ClientInfo::default()).await.unwrap();
    let config = patient(platform.db.config()).with_pool_size_max(POOL);
    for lookups_max in [None, NonZeroUsize::new(3), NonZeroUsize::new(1000)] {
        let db: Db = Db::connect(&config).await.unwrap();
        let mut settings = patient_settings();
        settings.lookups_max = lookups_max;
        let resolver = Resolver::new(&Auth::new(&db, AuthSettings::default()), settings);
        must_end("the first connection", resolver.until_notified()).await;
        let turns = lookups_max.map_or(POOL / 2, NonZeroUsize::get);

        let holder = platform.holder("lock table organizations in access exclusive mode").await;
        let names = strangers();
        let mut asked: Vec<_> = names.iter().map(|name| Box::pin(resolver.tenant(name))).collect();
        for asking in &mut asked {
            assert!(asking.as_mut().now_or_never().is_none());
        }
        assert_eq!(resolver.status().pending, STRANGERS);
        platform.until_waiting(turns.min(POOL)).await;
        until(|| users_of_the_pool(&db) == turns.min(STRANGERS)).await;

        // The strangers go away.
        drop(asked);
        until(|| resolver.status().pending == turns.min(STRANGERS)).await;
        assert_eq!(users_of_the_pool(&db), turns.min(STRANGERS));
        let good = tokio::spawn({
            let (resolver, token) = (resolver.clone(), token.reveal().to_owned());
            async move { resolver.session(&token).await }
        });
        run(&holder, "rollback").await.unwrap();
        assert_eq!(must_end("a good session", good).await.unwrap().unwrap().tenant.id, platform.acme);
        // The control, without a limit: all of them are asked.
        assert_eq!(resolver.status().lookups, u64::try_from(turns.min(STRANGERS) + 1).unwrap());
        until(|| resolver.status().pending == 0).await;
    }
}

/// Calls that are kept and not polled, as in a `select!` that goes on with another branch.
#[tokio::test]
async fn what_is_not_polled_holds_up_nobody() {
    let platform = Platform::set().await;
    let config = patient(platform.db.config()).with_pool_size_max(POOL);
    let db: Db = Db::connect(&config).await.unwrap();
    let resolver = Resolver::new(&Auth::new(&db, AuthSettings::default()), patient_settings());
    must_end("the first connection", resolver.until_notified()).await;
    let holder = platform.holder("lock table organizations in access exclusive mode").await;
    let names = strangers();
    let mut kept: Vec<_> = names.iter().map(|name| Box::pin(resolver.tenant(name))).collect();
    for asking in &mut kept {
        assert!(asking.as_mut().now_or_never().is_none());
    }
    platform.until_waiting(POOL / 2).await;
    run(&holder, "rollback").await.unwrap();
    assert_eq!(must_end("another", resolver.tenant(&slug("acme"))).await.unwrap().id, platform.acme);
    assert_eq!(resolver.status().lookups, u64::try_from(STRANGERS + 1).unwrap());
    drop(kept);
}

#[tokio::test]
async fn a_turn_is_waited_for_as_long_as_a_connection() {
    let platform = Platform::set().await;
    let config = patient(platform.db.config()).with_pool_size_max(POOL).with_pool_wait(Duration::from_millis(50));
    let db: Db = Db::connect(&config).await.unwrap();
    let mut settings = patient_settings();
    settings.lookups_max = NonZeroUsize::new(1);
    let resolver = Resolver::new(&Auth::new(&db, AuthSettings::default()), settings);
    must_end("the first connection", resolver.until_notified()).await;
    let holder = platform.holder("lock table organizations in access exclusive mode").await;
    let first = tokio::spawn({
        let resolver = resolver.clone();
        async move { resolver.tenant(&slug("globex")).await }
    });
    platform.until_waiting(1).await;
    assert_eq!(must_end("the wait", resolver.tenant(&slug("acme"))).await.unwrap_err().code(), "CGK0205");
    run(&holder, "rollback").await.unwrap();
    assert_eq!(must_end("the first", first).await.unwrap().unwrap().id, platform.globex);
    assert_eq!(resolver.tenant(&slug("acme")).await.unwrap().id, platform.acme);
}
