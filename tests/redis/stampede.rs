//! One computation for all who ask.

use crate::{
    AppError, MINUTE, Stage,
    server::{ends, until},
};
use cgk::cache::TenantCache;
use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};
use tokio::sync::Semaphore;

/// A computation that counts, and ends when it is let.
#[derive(Clone)]
struct Work {
    begun: Arc<AtomicUsize>,
    may_end: Arc<Semaphore>,
}

impl Work {
    fn new() -> Self {
        Self { begun: Arc::default(), may_end: Arc::new(Semaphore::new(0)) }
    }

    async fn compute(&self) -> Result<usize, AppError> {
        let number = self.begun.fetch_add(1, Ordering::SeqCst);
        self.may_end.acquire().await.unwrap().forget();
        Ok(number)
    }

    fn begun(&self) -> usize {
        self.begun.load(Ordering::SeqCst)
    }

    fn ask(&self, cache: &TenantCache) -> tokio::task::JoinHandle<Result<usize, Arc<AppError>>> {
        let (cache, work) = (cache.clone(), self.clone());
        tokio::spawn(async move { cache.get_or_compute("k", MINUTE, || async move { work.compute().await }).await })
    }
}

#[tokio::test]
async fn a_thousand_who_ask_at_once_compute_once() {
    let stage = Stage::set(&["acme", "globex"]).await;
    let caches = stage.caches();
    let (work, others) = (Work::new(), Work::new());
    let acme = caches.tenant(&stage.tenants[0]);
    let asked: Vec<_> = (0..1000).map(|_| work.ask(&acme)).collect();
    let other = others.ask(&caches.tenant(&stage.tenants[1]));
    // All of them have looked, and found nothing, before the first value is there.
    until("all have looked", async || {
        stage.server.calls("mget").await == 1001 && work.begun() == 1 && others.begun() == 1
    })
    .await;
    work.may_end.add_permits(1000);
    for task in asked {
        assert_eq!(ends(task).await.unwrap().unwrap(), 0);
    }
    assert_eq!((work.begun(), acme.get("k").await.unwrap()), (1, Some(0)));
    // The other tenant's, of the same key, is its own.
    others.may_end.add_permits(1);
    ends(other).await.unwrap().unwrap();
    // The control: by `get` and `set` alone each of them computes.
    acme.flush().await.unwrap();
    let by_hand = Arc::new(AtomicUsize::new(0));
    let barrier = Arc::new(tokio::sync::Barrier::new(1000));
    let tasks: Vec<_> = (0..1000)
        .map(|_| {
            let (acme, by_hand, barrier) = (acme.clone(), Arc::clone(&by_hand), Arc::clone(&barrier));
            tokio::spawn(async move {
                let found = acme.get::<usize>("k").await.unwrap();
                barrier.wait().await;
                if found.is_none() {
                    acme.set("k", &by_hand.fetch_add(1, Ordering::SeqCst), MINUTE).await.unwrap();
                }
            })
        })
        .collect();
    for task in tasks {
        ends(task).await.unwrap();
    }
    assert_eq!(by_hand.load(Ordering::SeqCst), 1000);
}

/// Two handles have nothing in common but Redis, as two processes have.
#[tokio::test]
async fn two_processes_compute_once() {
    let stage = Stage::set(&["acme"]).await;
    let (one, two) = (stage.cache(), stage.cache());
    let work = Work::new();
    let asked: Vec<_> = (0..50).flat_map(|_| [work.ask(&one), work.ask(&two)]).collect();
    // One has the lease, and the other one has asked for it.
    until("both have asked", async || {
        stage.server.calls("mget").await == 100 && work.begun() == 1 && stage.server.calls("eval").await >= 2
    })
    .await;
    work.may_end.add_permits(100);
    for task in asked {
        assert_eq!(ends(task).await.unwrap().unwrap(), 0);
    }
    assert_eq!(work.begun(), 1);
}

#[tokio::test]
async fn an_error_is_shared_and_not_stored() {
    let stage = Stage::set(&["acme"]).await;
    let cache = stage.cache();
    let gate = Arc::new(Semaphore::new(0));
    let begun = Arc::new(AtomicUsize::new(0));
    let ask = || {
        let (cache, gate, begun) = (cache.clone(), Arc::clone(&gate), Arc::clone(&begun));
        tokio::spawn(async move {
            let compute = || async {
                begun.fetch_add(1, Ordering::SeqCst);
                gate.acquire().await.unwrap().forget();
                Err::<i32, _>(AppError::Own("no"))
            };
            cache.get_or_compute("k", MINUTE, compute).await
        })
    };
    let asked: Vec<_> = (0..20).map(|_| ask()).collect();
    until("all have looked", async || stage.server.calls("mget").await == 20 && begun.load(Ordering::SeqCst) == 1)
        .await;
    gate.add_permits(20);
    let mut errors = Vec::new();
    for task in asked {
        errors.push(ends(task).await.unwrap().unwrap_err());
    }
    assert!(errors.iter().all(|error| Arc::ptr_eq(error, &errors[0]) && matches!(**error, AppError::Own("no"))));
    assert_eq!(begun.load(Ordering::SeqCst), 1);
    // The next one computes, and waits for nobody's lease, also in another process.
    let other = stage.cache();
    let outcome = ends(other.get_or_compute("k", MINUTE, || async { Ok::<_, AppError>(2) })).await;
    assert_eq!((outcome.unwrap(), cache.get("k").await.unwrap()), (2, Some(2)));
}

/// A request that is cancelled takes its computation along, and not those who wait for it.
#[tokio::test]
async fn when_the_one_who_computes_is_dropped_the_next_one_computes() {
    let stage = Stage::set(&["acme"]).await;
    let cache = stage.cache();
    let work = Work::new();
    let first = work.ask(&cache);
    until("the first computes", async || work.begun() == 1).await;
    let second = work.ask(&cache);
    until("the second has looked", async || stage.server.calls("mget").await == 2).await;
    // It waits, and does not compute: the control is what follows.
    assert_eq!(work.begun(), 1);
    first.abort();
    assert!(first.await.unwrap_err().is_cancelled());
    until("the second computes", async || work.begun() == 2).await;
    work.may_end.add_permits(1);
    assert_eq!(ends(second).await.unwrap().unwrap(), 1);
    assert_eq!(cache.get("k").await.unwrap(), Some(1));
    // Where nobody waits, the lease is given back, and another process does not wait for its end.
    cache.delete("k").await.unwrap();
    let alone = work.ask(&cache);
    until("it computes", async || work.begun() == 3).await;
    alone.abort();
    assert!(alone.await.unwrap_err().is_cancelled());
    let other = stage.cache();
    let outcome = ends(other.get_or_compute("k", MINUTE, || async { Ok::<_, AppError>(9) })).await;
    assert_eq!(outcome.unwrap(), 9);
}

/// What was read before a change is not stored after it, whoever makes the change.
#[tokio::test]
async fn a_value_that_became_old_while_it_was_computed_is_not_stored() {
    let stage = Stage::set(&["acme", "globex"]).await;
    let (cache, other) = (stage.cache(), stage.cache());
    let globex = stage.caches().tenant(&stage.tenants[1]);
    for who in [&cache, &other] {
        let deletes = || async {
            who.delete("k").await?;
            Ok::<_, AppError>(1)
        };
        assert_eq!(cache.get_or_compute("k", MINUTE, deletes).await.unwrap(), 1);
        assert_eq!(cache.get::<i32>("k").await.unwrap(), None, "deleted");
        let flushes = || async {
            who.flush().await?;
            Ok::<_, AppError>(2)
        };
        assert_eq!(cache.get_or_compute("k", MINUTE, flushes).await.unwrap(), 2);
        assert_eq!(cache.get::<i32>("k").await.unwrap(), None, "flushed");
        let sets = || async {
            who.set("k", &-3, MINUTE).await?;
            Ok::<_, AppError>(3)
        };
        assert_eq!(cache.get_or_compute("k", MINUTE, sets).await.unwrap(), 3);
        assert_eq!(cache.get("k").await.unwrap(), Some(-3), "set");
        cache.delete("k").await.unwrap();
    }
    // The control: another key, and another tenant, stop nothing.
    let beside = || async {
        cache.delete("other").await?;
        globex.flush().await?;
        Ok::<_, AppError>(4)
    };
    assert_eq!(cache.get_or_compute("k", MINUTE, beside).await.unwrap(), 4);
    assert_eq!(cache.get("k").await.unwrap(), Some(4));
}

/// A call that begins after a delete in another process does not get the value that is just being computed.
#[tokio::test]
async fn a_call_after_a_delete_elsewhere_computes_anew() {
    let stage = Stage::set(&["acme"]).await;
    let (cache, other) = (stage.cache(), stage.cache());
    let work = Work::new();
    let old = work.ask(&cache);
    until("the first computes", async || work.begun() == 1).await;
    other.delete("k").await.unwrap();
    let new = work.ask(&cache);
    until("the second computes", async || work.begun() == 2).await;
    work.may_end.add_permits(2);
    assert_eq!((ends(old).await.unwrap().unwrap(), ends(new).await.unwrap().unwrap()), (0, 1));
    assert_eq!(cache.get("k").await.unwrap(), Some(1));
}
