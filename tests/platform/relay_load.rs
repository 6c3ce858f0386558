//! Many events of many organizations, three relays that are killed and started again, a sink that fails at random.
//!
//! `CGK_RELAY_EVENTS=100000 CGK_RELAY_ORGANIZATIONS=200` is the long run.

use crate::{
    events::{Inbox, SHIPPED, options},
    stage::{Stage, must_end},
};
use cgk::{
    Db, OrganizationId,
    config::SessionSettings,
    platform::{CloudEvent, Event, Relay, SinkError, callback},
};
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use serde_json::json;
use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex},
};
use tokio::task::JoinHandle;

const WRITERS: usize = 8;
const RELAYS: usize = 3;
const KILLS: usize = 12;
/// Of so many deliveries one fails.
const FAILS_ONE_IN: u32 = 20;

fn number(name: &str, otherwise: usize) -> usize {
    std::env::var(name).map_or(otherwise, |text| text.parse().unwrap())
}

/// Writes its share: transactions of one to nine events, of organizations at random, numbered by writer and organization; some
/// of them are rolled back.
async fn write(db: Db, organizations: Arc<Vec<OrganizationId>>, writer: usize, count: usize, seed: u64) {
    let mut random = StdRng::seed_from_u64(seed ^ writer as u64);
    let mut numbers: HashMap<OrganizationId, u64> = HashMap::new();
    let mut written = 0;
    while written < count {
        let of_this = random.random_range(1..10).min(count - written);
        let mut events = Vec::new();
        for _ in 0..of_this {
            let organization = organizations[random.random_range(0..organizations.len())];
            let number = numbers.entry(organization).or_default();
            *number += 1;
            events.push(
                Event::new(SHIPPED).organization(organization).data(json!({ "writer": writer, "number": *number })),
            );
        }
        if random.random_ratio(1, 10) {
            let lost =
                Event::new(SHIPPED).organization(organizations[0]).data(json!({ "writer": writer, "number": 0 }));
            let platform = db.platform();
            let left = platform.transaction(async |tx| {
                tx.emit(&lost).await?;
                tx.execute("select 1/0", &[]).await
            });
            left.await.unwrap_err();
        }
        let platform = db.platform();
        let done = platform.transaction(async |tx| {
            for event in &events {
                tx.emit(event).await?;
            }
            Ok(())
        });
        done.await.unwrap();
        written += of_this;
    }
}

fn relay(db: &Db, inbox: &Inbox, random: &Arc<Mutex<StdRng>>) -> JoinHandle<()> {
    let (inbox, random) = (inbox.clone(), Arc::clone(random));
    let sink = callback(move |event: CloudEvent| {
        let fails = random.lock().unwrap().random_ratio(1, FAILS_ONE_IN);
        let inbox = inbox.clone();
        async move {
            // A place where a kill can come in between.
            tokio::task::yield_now().await;
            if fails {
                return Err(SinkError::new("not taken"));
            }
            inbox.take(event);
            Ok(())
        }
    });
    let mut options = options();
    options.attempts_max = 1000;
    options.batch_max = 20;
    options.poll_interval = std::time::Duration::from_millis(20);
    let relay = Relay::new(db, sink, options);
    tokio::spawn(async move {
        relay.run_until(std::future::pending()).await.unwrap();
    })
}

struct Outcome {
    duplicates: usize,
    kills: usize,
}

async fn run(kills: usize) -> Outcome {
    let count = number("CGK_RELAY_EVENTS", 1_500);
    let organizations = number("CGK_RELAY_ORGANIZATIONS", 20);
    let seed: u64 = rand::random();
    crate::stage::say(&format!("seed {seed}, {count} events of {organizations} organizations, {kills} kills"));
    let stage = Stage::set_with_pool(WRITERS + RELAYS * 4 + 4).await;
    let ids: Vec<OrganizationId> = (0..organizations).map(|_| OrganizationId(uuid::Uuid::new_v4())).collect();
    let (ids, inbox) = (Arc::new(ids), Inbox::new());
    let random = Arc::new(Mutex::new(StdRng::seed_from_u64(seed)));
    // With a pool of their own: a session that is ended must not be a writer's meanwhile.
    let session = SessionSettings { application_name: "relay".into(), ..stage.db.config().session().clone() };
    let relays_db = Db::connect(&stage.db.config().clone().with_session(session)).await.unwrap();
    let mut relays: Vec<_> = (0..RELAYS).map(|_| relay(&relays_db, &inbox, &random)).collect();
    let writers: Vec<_> = (0..WRITERS)
        .map(|writer| tokio::spawn(write(stage.db.clone(), Arc::clone(&ids), writer, count / WRITERS, seed)))
        .collect();
    let expected = count / WRITERS * WRITERS;
    for kill in 1..=kills {
        // At so many deliveries, in the middle of whatever the relay does then; every second time by the server.
        must_end_of_load(inbox.reaches(expected * kill / (kills + 2))).await;
        let of = kill % RELAYS;
        if kill % 2 == 0 {
            relays[of].abort();
            let _ = (&mut relays[of]).await;
            relays[of] = relay(&relays_db, &inbox, &random);
        } else {
            let victims = "select count(pg_terminate_backend(pid)) from pg_stat_activity
                where datname = current_database() and application_name = 'relay' and state = 'idle in transaction'
                  and query like '%domain_event%' and query not like '%insert into%'";
            stage.count(victims).await;
        }
    }
    for writer in writers {
        must_end_of_load(writer).await.unwrap();
    }
    let pending = "select count(*) from public.domain_events where status <> 'delivered'";
    must_end_of_load(async {
        while stage.count(pending).await > 0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    for relay in relays {
        relay.abort();
    }
    check(&inbox.events.lock().unwrap(), expected, kills)
}

/// The long run takes longer.
async fn must_end_of_load<T>(work: impl Future<Output = T>) -> T {
    match std::env::var_os("CGK_RELAY_EVENTS") {
        Some(_) => work.await,
        None => must_end(work).await,
    }
}

fn check(events: &[CloudEvent], expected: usize, kills: usize) -> Outcome {
    let mut seen = HashSet::new();
    let mut sequences: HashMap<OrganizationId, u64> = HashMap::new();
    let mut numbers: HashMap<(u64, OrganizationId), u64> = HashMap::new();
    let mut duplicates = 0;
    for event in events {
        let organization = event.organization_id.unwrap();
        if !seen.insert(event.id) {
            duplicates += 1;
            continue;
        }
        // The first time that each came: without a gap, and each writer's in the order in which it wrote them.
        let sequence = sequences.entry(organization).or_default();
        *sequence += 1;
        assert_eq!(event.sequence, *sequence, "{event:?}");
        let field = |name: &str| event.data[name].as_u64().unwrap();
        let number = numbers.entry((field("writer"), organization)).or_default();
        *number += 1;
        assert_eq!(field("number"), *number, "{event:?}");
    }
    assert_eq!(seen.len(), expected, "none is lost, and none of those that were rolled back came");
    crate::stage::say(&format!("{} deliveries of {expected} events, {duplicates} twice", events.len()));
    Outcome { duplicates, kills }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_event_is_lost_or_out_of_order_when_relays_are_killed() {
    let outcome = run(KILLS).await;
    // A kill costs at most the batches that the workers of one relay, or all of them, were at.
    assert!(outcome.duplicates <= outcome.kills * RELAYS * 4 * 20, "{}", outcome.duplicates);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_event_comes_twice_when_no_relay_is_killed() {
    assert_eq!(run(0).await.duplicates, 0);
}
