//! Operations of several tenants at random, compared with a map.

use crate::{AppError, MINUTE, Stage};
use cgk::cache::TenantCache;
use rand::{RngExt, SeedableRng, rngs::StdRng};
use std::collections::HashMap;

/// Keys that would be another tenant's, another kind's or another command's if texts were put together carelessly.
fn keys(stage: &Stage) -> Vec<String> {
    let mut keys: Vec<String> =
        ["k", ":", "v:k", "l:k", "e", "*", "}", "{", "a:b", "globex:k", "\0", "\r\nFLUSHALL\r\n", "é", " "]
            .map(ToOwned::to_owned)
            .into();
    for tenant in &stage.tenants {
        let id = tenant.id.uuid().simple();
        keys.extend([format!("cgk:0123456789:{{{id}}}:v:k"), format!("}}:v:{{{id}"), tenant.slug.to_string()]);
    }
    keys
}

#[tokio::test]
async fn every_tenant_reads_what_it_set_and_nothing_else() {
    let seed = rand::random::<u64>();
    println!("seed {seed}");
    let mut rng = StdRng::seed_from_u64(seed);
    let stage = Stage::set(&["acme", "globex", "initech", "hooli", "acme_2"]).await;
    let keys = keys(&stage);
    // Two handles a tenant, as in two processes.
    let handles: Vec<[TenantCache; 2]> =
        stage.tenants.iter().map(|tenant| [stage.caches().tenant(tenant), stage.caches().tenant(tenant)]).collect();
    // A value says whose it is, so that a crossing is seen for what it is.
    let mut model: HashMap<(usize, usize), (usize, u32)> = HashMap::new();
    let (mut hits, mut flushes) = (0, 0);
    for number in 0..4000_u32 {
        let (who, key) = (rng.random_range(0..handles.len()), rng.random_range(0..keys.len()));
        let cache = &handles[who][rng.random_range(0..2_usize)];
        let (text, at) = (keys[key].as_str(), (who, key));
        match rng.random_range(0..100) {
            0..40 => {
                let found: Option<(usize, u32)> = cache.get(text).await.unwrap();
                assert_eq!(found, model.get(&at).copied(), "seed {seed}, operation {number}, key {text:?}");
                hits += usize::from(found.is_some());
            }
            40..65 => {
                cache.set(text, &(who, number), MINUTE).await.unwrap();
                model.insert(at, (who, number));
            }
            65..75 => {
                cache.delete(text).await.unwrap();
                model.remove(&at);
            }
            75..98 => {
                let new = (who, number);
                let found = cache.get_or_compute(text, MINUTE, || async { Ok::<_, AppError>(new) }).await.unwrap();
                assert_eq!(found, *model.entry(at).or_insert(new), "seed {seed}, operation {number}, key {text:?}");
            }
            _ => {
                cache.flush().await.unwrap();
                model.retain(|(tenant, _), _| *tenant != who);
                flushes += 1;
            }
        }
    }
    // The control: there was something to cross.
    assert!(hits > 100 && flushes > 10, "{hits} {flushes}");
}

/// Many tasks at once, on tenants at random: whatever is read is the tenant's own.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tasks_of_many_tenants_never_read_each_others_values() {
    let seed = rand::random::<u64>();
    println!("seed {seed}");
    let stage = Stage::set(&["acme", "globex", "initech"]).await;
    let caches: Vec<TenantCache> = {
        let caches = stage.caches();
        stage.tenants.iter().map(|tenant| caches.tenant(tenant)).collect()
    };
    let mut tasks = Vec::new();
    for task in 0..30_u64 {
        let (caches, mut rng) = (caches.clone(), StdRng::seed_from_u64(seed ^ task));
        tasks.push(tokio::spawn(async move {
            for _ in 0..100 {
                let who = rng.random_range(0..caches.len());
                let key = format!("k{}", rng.random_range(0..4));
                let found: usize = match rng.random_range(0..10) {
                    0 => {
                        caches[who].flush().await.unwrap();
                        who
                    }
                    1 => {
                        caches[who].set(&key, &who, MINUTE).await.unwrap();
                        who
                    }
                    2..5 => caches[who].get(&key).await.unwrap().unwrap_or(who),
                    _ => {
                        let compute = || async {
                            tokio::task::yield_now().await;
                            Ok::<_, AppError>(who)
                        };
                        caches[who].get_or_compute(&key, MINUTE, compute).await.unwrap()
                    }
                };
                assert_eq!(found, who, "seed {seed}, task {task}");
            }
        }));
    }
    for task in tasks {
        crate::server::ends(task).await.unwrap();
    }
}
