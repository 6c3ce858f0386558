//! Values with their types and lifetimes, one tenant beside another.

use crate::{AppError, MINUTE, Stage, registry, settings};
use cgk::cache::{CacheError, TenantCaches};
use serde::{Deserialize, Serialize};
use std::{collections::HashMap, time::Duration};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Plan {
    name: String,
    seats: Option<u32>,
}

#[tokio::test]
async fn a_value_is_read_as_it_was_set() {
    let stage = Stage::set(&["acme", "globex"]).await;
    let cache = stage.cache();
    let plan = Plan { name: "team\0é".into(), seats: None };
    assert_eq!(cache.get::<Plan>("plan").await.unwrap(), None);
    cache.set("plan", &plan, MINUTE).await.unwrap();
    assert_eq!(cache.get("plan").await.unwrap(), Some(plan.clone()));
    cache.set("text", "a", MINUTE).await.unwrap();
    // One that is no `Plan` is no value, and is computed again.
    assert_eq!(cache.get::<Plan>("text").await.unwrap(), None);
    let computed = cache.get_or_compute("text", MINUTE, || async { Ok::<_, AppError>(plan.clone()) }).await.unwrap();
    assert_eq!((computed, cache.get("text").await.unwrap()), (plan.clone(), Some(plan)));
    cache.delete("plan").await.unwrap();
    cache.delete("plan").await.unwrap();
    assert_eq!(cache.get::<Plan>("plan").await.unwrap(), None);
    // The names in Redis, and the time in milliseconds.
    let mut redis = stage.server.connect().await;
    let prefix = stage.prefix().await;
    let left: i64 = redis::cmd("PTTL").arg(format!("{prefix}v:text")).query_async(&mut redis).await.unwrap();
    assert!((1..=60_000).contains(&left), "{left}");
    let names: Vec<String> = redis::cmd("KEYS").arg("*").query_async(&mut redis).await.unwrap();
    assert_eq!(names.len(), 2, "the epoch and one value: {names:?}");
    assert!(names.iter().all(|name| name.starts_with(&prefix)), "{names:?}");
}

#[tokio::test]
async fn a_value_ends_with_its_lifetime() {
    let stage = Stage::set(&["acme"]).await;
    let cache = stage.cache();
    cache.set("long", &1, MINUTE).await.unwrap();
    cache.set("short", &1, Duration::from_millis(1)).await.unwrap();
    crate::server::until("the value is gone", async || cache.get::<i32>("short").await.unwrap().is_none()).await;
    assert_eq!(cache.get("long").await.unwrap(), Some(1));
}

#[tokio::test]
async fn what_cannot_be_cached_is_refused_without_redis() {
    let stage = Stage::set(&["acme"]).await;
    let mut small = settings();
    small.value_bytes_max = 10;
    let cache = stage.caches_with(small).tenant(&stage.tenants[0]);
    let invalid = |outcome: Result<(), CacheError>| matches!(outcome, Err(CacheError::Invalid { .. }));
    assert!(invalid(cache.set("", &1, MINUTE).await) && invalid(cache.set(&"k".repeat(513), &1, MINUTE).await));
    assert!(invalid(cache.set("k", &1, Duration::ZERO).await) && invalid(cache.set("k", &1, Duration::MAX).await));
    assert!(invalid(cache.delete("").await) && cache.get::<i32>("").await.is_err());
    let odd = HashMap::from([((1, 2), 3)]);
    assert!(matches!(cache.set("k", &odd, MINUTE).await, Err(CacheError::Encode { .. })));
    let outcome = cache.get_or_compute("k", Duration::ZERO, || async { Ok::<_, AppError>(1) }).await;
    assert!(matches!(*outcome.unwrap_err(), AppError::Cache(CacheError::Invalid { .. })));
    let large = "a".repeat(11);
    let outcome = cache.set("k", &large, MINUTE).await;
    assert!(matches!(outcome, Err(CacheError::TooLarge { bytes: 13, bytes_max: 10 })));
    // A computed one is returned, not stored, and leaves nothing that others would wait for.
    let computed = cache.get_or_compute("k", MINUTE, || async { Ok::<_, AppError>(large.clone()) }).await.unwrap();
    assert_eq!((computed, cache.get::<String>("k").await.unwrap()), (large, None));
    assert_eq!(cache.get_or_compute("k", MINUTE, || async { Ok::<_, AppError>(1) }).await.unwrap(), 1);
    for url in ["", "http://localhost", "redis://", "localhost:6379", "redis://localhost:99999"] {
        assert!(TenantCaches::new(&stage.db, url, settings()).is_err(), "{url:?}");
    }
    for namespace in ["", "a:b", "a{b"] {
        let mut settings = settings();
        settings.namespace = namespace.into();
        assert!(TenantCaches::new(&stage.db, "redis://localhost", settings).is_err(), "{namespace:?}");
    }
}

/// A slug that was given up and is another organization's now.
#[tokio::test]
async fn a_tenant_that_is_created_again_reads_nothing_of_the_old_one() {
    let stage = Stage::set(&["acme"]).await;
    let (_database, _, again) = registry(&["acme"]).await;
    let (old, new) = (&stage.tenants[0], &again[0]);
    assert!(old.slug == new.slug && old.id != new.id);
    let caches = stage.caches();
    caches.tenant(old).set("k", &1, MINUTE).await.unwrap();
    assert_eq!(caches.tenant(new).get::<i32>("k").await.unwrap(), None);
    // The control: the same tenant reads it, also by another handle.
    assert_eq!(stage.caches().tenant(old).get("k").await.unwrap(), Some(1));
    // Two namespaces are apart as well.
    let mut other = settings();
    other.namespace = "cgk-2".into();
    assert_eq!(stage.caches_with(other).tenant(old).get::<i32>("k").await.unwrap(), None);
}

#[tokio::test]
async fn a_flush_is_of_one_tenant_and_looks_for_no_keys() {
    let stage = Stage::set(&["acme", "globex"]).await;
    let caches = stage.caches();
    let (acme, globex) = (caches.tenant(&stage.tenants[0]), caches.tenant(&stage.tenants[1]));
    for n in 0..100 {
        acme.set(&format!("k{n}"), &n, MINUTE).await.unwrap();
        globex.set(&format!("k{n}"), &n, MINUTE).await.unwrap();
    }
    acme.flush().await.unwrap();
    for n in 0..100 {
        assert_eq!(acme.get::<i32>(&format!("k{n}")).await.unwrap(), None);
        assert_eq!(globex.get(&format!("k{n}")).await.unwrap(), Some(n));
    }
    for command in ["keys", "scan", "flushdb", "flushall"] {
        assert_eq!(stage.server.calls(command).await, 0, "{command}");
    }
    // What is set afterwards counts, and what was there before stays away.
    acme.set("k1", &-1, MINUTE).await.unwrap();
    assert_eq!((acme.get("k1").await.unwrap(), acme.get::<i32>("k2").await.unwrap()), (Some(-1), None));
}

/// Redis may forget any key. Without its epoch a tenant has no values, and old ones do not come back with the next one.
#[tokio::test]
async fn a_lost_epoch_hides_values_and_brings_none_back() {
    let stage = Stage::set(&["acme"]).await;
    let cache = stage.cache();
    cache.set("old", &1, MINUTE).await.unwrap();
    let epoch = format!("{}e", stage.prefix().await);
    let mut redis = stage.server.connect().await;
    let removed: i64 = redis::cmd("DEL").arg(&epoch).query_async(&mut redis).await.unwrap();
    assert_eq!(removed, 1);
    cache.set("new", &2, MINUTE).await.unwrap();
    assert_eq!((cache.get::<i32>("old").await.unwrap(), cache.get("new").await.unwrap()), (None, Some(2)));
    // Something of another program under its name is replaced.
    let _: () = redis::cmd("SET").arg(&epoch).arg("x").query_async(&mut redis).await.unwrap();
    assert_eq!(cache.get::<i32>("new").await.unwrap(), None);
    cache.set("new", &3, MINUTE).await.unwrap();
    assert_eq!(cache.get("new").await.unwrap(), Some(3));
}

/// docs/service.md shows lines of the module's example, which is compiled.
#[test]
fn the_page_shows_what_the_module_says() {
    let root = env!("CARGO_MANIFEST_DIR");
    let page = std::fs::read_to_string(format!("{root}/docs/service.md")).unwrap();
    let block = page.split("<!-- cache -->\n```rust,ignore\n").nth(1).unwrap().split("```").next().unwrap();
    let module = std::fs::read_to_string(format!("{root}/src/cache/mod.rs")).unwrap();
    let example: Vec<&str> = module.lines().filter_map(|line| line.strip_prefix("//! ")).collect();
    assert!(example.join("\n").contains(block.trim_end()), "{block}");
}
