//! Nothing waits for ever: for itself, for a call that nobody polls, or for a connection that it holds.

use crate::{
    AppError, MINUTE, Stage,
    server::{ends, until},
    settings,
};
use cgk::{
    Db,
    cache::{CacheError, OnFailure, TenantCache, TenantCaches},
};
use futures_util::FutureExt as _;
use std::{pin::pin, sync::Arc, time::Duration};
use tokio::sync::oneshot;

/// The outcome of a call whose computation gives this at once.
async fn ask(cache: &TenantCache, value: i32) -> Result<i32, Arc<AppError>> {
    ends(cache.get_or_compute("k", MINUTE, || async move { Ok::<_, AppError>(value) })).await
}

fn is_recursive(outcome: Result<i32, Arc<AppError>>) -> bool {
    outcome.is_err_and(|error| matches!(&*error, AppError::Cache(CacheError::Recursive)))
}

#[tokio::test]
async fn a_computation_that_asks_for_its_own_key_is_refused() {
    let stage = Stage::set(&["acme", "globex"]).await;
    let cache = stage.cache();
    // Its own key at once, and through another one.
    let direct = cache.get_or_compute("k", MINUTE, || async {
        assert!(is_recursive(ask(&cache, 1).await));
        Ok::<_, AppError>(2)
    });
    assert_eq!(ends(direct).await.unwrap(), 2);
    cache.flush().await.unwrap();
    let through = cache.get_or_compute("k", MINUTE, || async {
        let other =
            cache.get_or_compute("other", MINUTE, || async { Ok::<_, AppError>(is_recursive(ask(&cache, 1).await)) });
        Ok::<_, AppError>(other.await.unwrap())
    });
    assert!(ends(through).await.unwrap());
    // The control: the same key of another tenant, and the key itself when its computation has ended.
    cache.flush().await.unwrap();
    let globex = stage.caches().tenant(&stage.tenants[1]);
    let nested = cache.get_or_compute("k", MINUTE, || async { Ok::<_, AppError>(ask(&globex, 3).await.unwrap()) });
    assert_eq!(ends(nested).await.unwrap(), 3);
    assert_eq!(ask(&cache, 4).await.unwrap(), 3);
}

/// Two computations that need each other's value end, with an error.
#[tokio::test]
async fn two_computations_that_need_each_other_end() {
    let stage = Stage::set(&["acme"]).await;
    let mut quick = settings();
    quick.wait_max = Duration::from_millis(10);
    let cache = stage.caches_with(quick).tenant(&stage.tenants[0]);
    let ask = |key: &'static str, other: &'static str, begun: oneshot::Sender<()>, follows: oneshot::Receiver<()>| {
        let cache = cache.clone();
        tokio::spawn(async move {
            let outcome = cache.get_or_compute(key, MINUTE, || async {
                begun.send(()).unwrap();
                follows.await.unwrap();
                let back = || async {
                    cache
                        .get_or_compute(key, MINUTE, || async { Ok::<_, AppError>(1) })
                        .await
                        .map_err(|_| AppError::Own("back"))
                };
                cache.get_or_compute(other, MINUTE, back).await.map_err(|_| AppError::Own("there"))
            });
            outcome.await.is_err()
        })
    };
    let ((a, b_follows), (b, a_follows)) = (oneshot::channel(), oneshot::channel());
    let (one, two) = (ask("a", "b", a, a_follows), ask("b", "a", b, b_follows));
    assert!(ends(one).await.unwrap() && ends(two).await.unwrap());
}

/// A `select!` that gives up on a call without dropping it, and then asks again.
#[tokio::test]
async fn a_call_that_is_not_polled_holds_nobody_up() {
    let stage = Stage::set(&["acme"]).await;
    for on_failure in [OnFailure::Error, OnFailure::Compute] {
        let mut quick = settings();
        (quick.wait_max, quick.on_failure) = (Duration::from_millis(10), on_failure);
        let caches = stage.caches_with(quick);
        let cache = caches.tenant(&stage.tenants[0]);
        cache.flush().await.unwrap();
        let (begun, mut begins) = oneshot::channel();
        let (end, ends_now) = oneshot::channel();
        let mut left = pin!(cache.get_or_compute("k", MINUTE, || async {
            begun.send(()).unwrap();
            ends_now.await.unwrap();
            Ok::<_, AppError>(1)
        }));
        tokio::select! {
            biased;
            _ = &mut left => panic!("it cannot end"),
            begun = &mut begins => begun.unwrap(),
        }
        // In this task, in another, and in what is another process to all appearances.
        assert_eq!(ask(&cache, 2).await.unwrap(), 2);
        cache.delete("k").await.unwrap();
        let other = cache.clone();
        assert_eq!(tokio::spawn(async move { ask(&other, 3).await }).await.unwrap().unwrap(), 3);
        assert_eq!(ask(&stage.cache(), 4).await.unwrap(), 3);
        // Polled again, it has its own value, and stores nothing.
        end.send(()).unwrap();
        assert_eq!(ends(left).await.unwrap(), 1);
        assert_eq!(cache.get::<i32>("k").await.unwrap(), Some(3));
    }
}

/// The one who computes needs the only connection, and the one who holds it asks for the value.
#[tokio::test]
async fn a_call_inside_a_transaction_waits_for_nobody_and_stores_nothing() {
    let stage = Stage::set(&["acme"]).await;
    let cache = stage.cache();
    let config = stage.db.config().clone().with_pool_size_max(1).with_pool_wait(10 * MINUTE);
    let db: Db = Db::connect(&config).await.unwrap();
    let acme = &stage.tenants[0].slug;
    let (begun, begins) = oneshot::channel();
    let computing = {
        let (cache, db, acme) = (cache.clone(), db.clone(), acme.clone());
        tokio::spawn(async move {
            let compute = || async {
                begun.send(()).unwrap();
                Ok::<_, AppError>(
                    db.tenant(&acme).query_one("select 1", &[]).await.map_err(|_| AppError::Own("no"))?.get(0),
                )
            };
            cache.get_or_compute("k", MINUTE, compute).await
        })
    };
    let inside = db.with_tenant(acme, async |tx| {
        tx.query_one("select 1", &[]).await.unwrap();
        begins.await.unwrap();
        until("the computation waits for the connection", async || db.pool_status().waiting == 1).await;
        // The control: outside of a transaction it waits for the one that computes.
        let cache_outside = cache.clone();
        let outside = tokio::spawn(async move { ask(&cache_outside, 3).await });
        let own = ask(&cache, 2).await.unwrap();
        assert_eq!(cache.get::<i32>("k").await.unwrap(), None, "stored");
        Ok((own, outside))
    });
    let (own, outside) = ends(inside).await.unwrap();
    assert_eq!((own, ends(computing).await.unwrap().unwrap(), ends(outside).await.unwrap().unwrap()), (2, 1, 1));
    // What is stored is read inside of a transaction as well.
    let found = db.platform().transaction(async |_| Ok(ask(&cache, 5).await.unwrap())).await.unwrap();
    assert_eq!(found, 1);
}

/// The first operation connects; not polled any more, it leaves the connection to the others.
#[tokio::test]
async fn an_operation_that_is_not_polled_while_it_connects_holds_nobody_up() {
    let stage = Stage::set(&["acme"]).await;
    let cache = stage.cache();
    let mut left = pin!(cache.get::<i32>("k"));
    assert!(left.as_mut().now_or_never().is_none());
    ends(cache.set("k", &1, MINUTE)).await.unwrap();
    assert_eq!(ends(cache.get::<i32>("k")).await.unwrap(), Some(1));
    ends(left).await.unwrap();
}

#[tokio::test]
async fn times_without_end_are_no_panic() {
    let stage = Stage::set(&["acme"]).await;
    let mut endless = settings();
    (endless.retry_pause, endless.wait_max, endless.value_bytes_max) = (Duration::MAX, Duration::MAX, usize::MAX);
    let cache = stage.caches_with(endless.clone()).tenant(&stage.tenants[0]);
    assert_eq!((ask(&cache, 1).await.unwrap(), cache.get("k").await.unwrap()), (1, Some(1)));
    // A server that is not there is asked once.
    let nowhere =
        TenantCaches::new(&stage.db, "unix:///nowhere/redis.sock", endless).unwrap().tenant(&stage.tenants[0]);
    let unavailable = async || nowhere.get::<i32>("k").await.unwrap_err();
    assert!(matches!(unavailable().await, CacheError::Unavailable { source: Some(_) }));
    assert!(matches!(unavailable().await, CacheError::Unavailable { source: None }));
}
