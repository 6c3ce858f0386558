//! A Redis that is gone, silent or halted: the time limit holds, and what happens then is as configured.

use crate::{
    AppError, MINUTE, Stage, registry,
    server::{ends, until},
    settings,
};
use cgk::cache::{CacheError, CacheSettings, OnFailure, TenantCache, TenantCaches};
use std::{
    net::TcpListener,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio::sync::Semaphore;

/// Short limits, for servers that do not answer in any time.
fn impatient(on_failure: OnFailure) -> CacheSettings {
    let mut settings = settings();
    settings.operation_limit = Duration::from_millis(400);
    settings.retry_pause = Duration::from_millis(1);
    settings.on_failure = on_failure;
    settings
}

fn is_out(error: &CacheError) -> bool {
    matches!(error, CacheError::TimedOut { .. } | CacheError::Unavailable { .. })
}

/// Every operation ends, computed as configured, while the server is as it is.
async fn degrades(computing: &TenantCache, failing: &TenantCache) {
    ends(async {
        let value = computing.get_or_compute("k", MINUTE, || async { Ok::<_, AppError>(7) }).await;
        assert_eq!(value.unwrap(), 7);
        assert_eq!(computing.get::<i32>("k").await.unwrap(), None);
        let outcome = failing
            .get_or_compute("k", MINUTE, || async { panic!("computed all the same") as Result<i32, AppError> })
            .await;
        assert!(matches!(&*outcome.unwrap_err(), AppError::Cache(error) if is_out(error)));
        assert!(is_out(&failing.get::<i32>("k").await.unwrap_err()));
        // What would leave an old value behind is an error in any case.
        for cache in [computing, failing] {
            assert!(is_out(&cache.set("k", &1, MINUTE).await.unwrap_err()));
            assert!(is_out(&cache.delete("k").await.unwrap_err()));
            assert!(is_out(&cache.flush().await.unwrap_err()));
        }
    })
    .await;
}

/// The cache works again once Redis does.
async fn recovers(cache: &TenantCache) {
    until("the cache is used again", async || cache.set("again", &1, MINUTE).await.is_ok()).await;
    until("it is read again", async || cache.get("again").await.is_ok_and(|value| value == Some(1))).await;
}

#[tokio::test]
async fn a_server_that_was_killed() {
    let mut stage = Stage::set(&["acme"]).await;
    let tenant = stage.tenants[0].clone();
    let computing = stage.caches_with(impatient(OnFailure::Compute)).tenant(&tenant);
    let failing = stage.caches_with(impatient(OnFailure::Error)).tenant(&tenant);
    recovers(&computing).await;
    recovers(&failing).await;
    stage.server.kill();
    degrades(&computing, &failing).await;
    // One that never had a connection behaves alike.
    let fresh = [OnFailure::Compute, OnFailure::Error].map(|on| stage.caches_with(impatient(on)).tenant(&tenant));
    degrades(&fresh[0], &fresh[1]).await;
    stage.server.listen().await;
    for cache in [&computing, &failing, &fresh[0], &fresh[1]] {
        recovers(cache).await;
    }
}

#[tokio::test]
async fn a_server_that_accepts_and_never_answers() {
    let (_database, db, tenants) = registry(&["acme"]).await;
    // The kernel accepts; nobody reads.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("redis://{}", listener.local_addr().unwrap());
    let cache = |on| TenantCaches::new(&db, &url, impatient(on)).unwrap().tenant(&tenants[0]);
    degrades(&cache(OnFailure::Compute), &cache(OnFailure::Error)).await;
}

/// Halted behind a connection that works: the kernel still takes what is sent.
#[tokio::test]
async fn a_server_that_is_halted() {
    let stage = Stage::set(&["acme"]).await;
    let cache = |on| stage.caches_with(impatient(on)).tenant(&stage.tenants[0]);
    let (computing, failing) = (cache(OnFailure::Compute), cache(OnFailure::Error));
    recovers(&computing).await;
    recovers(&failing).await;
    stage.server.signal("STOP");
    degrades(&computing, &failing).await;
    stage.server.signal("CONT");
    recovers(&computing).await;
    recovers(&failing).await;
}

/// Halted while a value is computed: the value is returned, and nobody waits for Redis to store it.
#[tokio::test]
async fn a_server_that_is_halted_while_a_value_is_computed() {
    let stage = Stage::set(&["acme"]).await;
    for on in [OnFailure::Compute, OnFailure::Error] {
        let cache = stage.caches_with(impatient(on)).tenant(&stage.tenants[0]);
        recovers(&cache).await;
        let (key, computed) = (format!("{on:?}"), AtomicUsize::new(0));
        // On a busy machine the way there may take longer than the limit; then it has not been tried yet.
        until("it computes with a lease", async || {
            let compute = || async {
                stage.server.signal("STOP");
                computed.fetch_add(1, Ordering::SeqCst);
                Ok::<_, AppError>(7)
            };
            let outcome = ends(cache.get_or_compute(&key, MINUTE, compute)).await;
            stage.server.signal("CONT");
            outcome.is_ok_and(|value| value == 7)
        })
        .await;
        assert!(computed.load(Ordering::SeqCst) > 0);
        recovers(&cache).await;
    }
}

/// While Redis is out, those who come while a value is computed share it. On one thread a task runs until it waits: once all
/// were started, all wait for one computation.
#[tokio::test]
async fn a_stampede_without_redis_is_one_computation() {
    let mut stage = Stage::set(&["acme"]).await;
    let mut patient = impatient(OnFailure::Compute);
    patient.retry_pause = 60 * MINUTE;
    let cache = stage.caches_with(patient).tenant(&stage.tenants[0]);
    stage.server.kill();
    assert_eq!(cache.get::<i32>("k").await.unwrap(), None);
    let gate = Arc::new(Semaphore::new(0));
    let (started, begun) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let ask = || {
        let (cache, gate) = (cache.clone(), Arc::clone(&gate));
        let (started, begun) = (Arc::clone(&started), Arc::clone(&begun));
        tokio::spawn(async move {
            started.fetch_add(1, Ordering::SeqCst);
            let compute = || async {
                begun.fetch_add(1, Ordering::SeqCst);
                gate.acquire().await.unwrap().forget();
                Ok::<_, AppError>(7)
            };
            cache.get_or_compute("k", MINUTE, compute).await
        })
    };
    let asked: Vec<_> = (0..1000).map(|_| ask()).collect();
    until("all have started", async || started.load(Ordering::SeqCst) == 1000).await;
    gate.add_permits(1000);
    for task in asked {
        assert_eq!(ends(task).await.unwrap().unwrap(), 7);
    }
    assert_eq!(begun.load(Ordering::SeqCst), 1);
    // The control: it is not the cache that has the value.
    assert_eq!(ends(ask()).await.unwrap().unwrap(), 7);
    assert_eq!(begun.load(Ordering::SeqCst), 2);
}

/// Redis answers, with an error: its memory is full.
#[tokio::test]
async fn a_server_that_refuses_says_so() {
    let stage = Stage::set(&["acme"]).await;
    let mut redis = stage.server.connect().await;
    let mut set = async |name: &str, value: &str| {
        let done: () = redis::cmd("CONFIG").arg("SET").arg(name).arg(value).query_async(&mut redis).await.unwrap();
        done
    };
    set("maxmemory", "1").await;
    let failing = stage.caches_with(settings()).tenant(&stage.tenants[0]);
    let refused = failing.set("k", &1, MINUTE).await.unwrap_err();
    assert!(matches!(&refused, CacheError::Refused { message } if message.contains("OOM")), "{refused:?}");
    let mut computes = settings();
    computes.on_failure = OnFailure::Compute;
    let computing = stage.caches_with(computes).tenant(&stage.tenants[0]);
    let value = computing.get_or_compute("k", MINUTE, || async { Ok::<_, AppError>(7) }).await;
    assert_eq!(value.unwrap(), 7);
    // The control: with memory it is stored, over the same connection.
    set("maxmemory", "0").await;
    failing.set("k", &1, MINUTE).await.unwrap();
    assert_eq!(failing.get("k").await.unwrap(), Some(1));
}
