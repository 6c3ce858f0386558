//! What the platform's operations cost, against the same SQL by hand, in the same run on the same server.
//!
//! `cargo bench --bench platform`: an API key is authenticated, an event is written inside a tenant's transaction, and a relay delivers.
//! By hand is prepared, on a connection of its own, without the checks that cgk makes. The variants take turns, and every figure is a
//! median. `CGK_BENCH_ROUNDS` sets the number of rounds. Not a test: nothing is asserted. Quota: `cargo bench --bench quota`.

#![expect(clippy::print_stdout, reason = "a benchmark prints its table")]
#![expect(clippy::disallowed_methods, reason = "what is written by hand here is what cgk is compared with")]

use cgk::{
    Db, OrganizationId, TenantSlug,
    auth::{Auth, AuthSettings, NewApiKey},
    platform::{CloudEvent, Event, EventType, Relay, RelayOptions, callback},
    testing::{TestDatabase, TestServer},
};
use std::time::{Duration, Instant};
use tokio_postgres::{Client, NoTls, Statement};

const CALLS: u32 = 200;
const EVENTS: i64 = 5000;
const ORGANIZATIONS: i64 = 20;
const SHIPPED: EventType = EventType::from_static("order.shipped");

const KEY: &str = "select k.id, o.id, o.slug from api_keys k join organizations o on o.id = k.organization_id
    where k.key_hash = $1 and k.revoked_at is null and (k.expires_at is null or k.expires_at > now()) and o.status = 'active'";
const WORK: &str = "select count(*) from products";
const INSERT: &str =
    "insert into public.domain_events (organization_id, type, data) values ($1, 'order.shipped', '{}')";
const TAKE: &str = "select id, data from domain_events where queue_id = $1 and status = 'pending' order by position
    limit 100 for update";
const DONE: &str = "update domain_events set status = 'delivered', finished_at = clock_timestamp() where id = any ($1)";

struct Stage {
    database: TestDatabase,
    db: Db,
    auth: Auth,
    acme: TenantSlug,
    organization: OrganizationId,
    token: String,
    hand: Client,
    key: Statement,
}

impl Stage {
    async fn set() -> Self {
        let database = TestServer::shared().set_up_database().await.expect("a database");
        database.with_tenants(&["acme"]).await.expect("a tenant");
        let db: Db = Db::connect(database.config()).await.expect("connect");
        let acme: TenantSlug = "acme".parse().expect("a slug");
        let organization = db.platform().find_tenant(&acme).await.expect("acme").id;
        let auth = Auth::new(&db, AuthSettings::default());
        let (_, token) = auth.api_keys().create(organization, &NewApiKey::named("bench")).await.expect("a key");
        let hand = connect(&database).await;
        let key = hand.prepare(KEY).await.expect("prepare");
        Self { database, db, auth, acme, organization, token: token.reveal().to_owned(), hand, key }
    }
}

async fn connect(database: &TestDatabase) -> Client {
    let local = TestServer::shared().local().expect("a private server");
    let (client, connection) = tokio_postgres::connect(&local.url(database.name()), NoTls).await.expect("connect");
    tokio::spawn(connection);
    client
}

/// Microseconds a call.
async fn time(mut call: impl AsyncFnMut()) -> f64 {
    let began = Instant::now();
    for _ in 0..CALLS {
        call().await;
    }
    began.elapsed().as_secs_f64() * 1e6 / f64::from(CALLS)
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn show(what: &str, unit: &str, names: &[&str], samples: &[Vec<f64>]) {
    println!("\n### {what}\n| variant | {unit} | ratio to the first |\n|---|---|---|");
    for (name, own) in names.iter().zip(samples) {
        let ratio = median(own.iter().zip(&samples[0]).map(|(own, first)| own / first).collect());
        println!("| {name} | {:.0} | {ratio:.2} |", median(own.clone()));
    }
}

async fn keys(stage: &Stage, rounds: usize) {
    let hash: Vec<u8> = stage.hand.query_one("select key_hash from api_keys", &[]).await.expect("the key").get(0);
    let mut samples = [Vec::new(), Vec::new()];
    for _ in 0..rounds {
        samples[0].push(time(async || drop(stage.hand.query_one(&stage.key, &[&hash]).await.expect("the key"))).await);
        let verify = async || drop(stage.auth.api_keys().verify(&stage.token).await.expect("the key"));
        samples[1].push(time(verify).await);
    }
    show("An API key is authenticated", "µs a call", &["by hand: one prepared query", "ApiKeys::verify"], &samples);
}

async fn emits(stage: &Stage, rounds: usize) {
    let mut samples = [Vec::new(), Vec::new(), Vec::new()];
    for _ in 0..rounds {
        let alone = async || {
            let work = stage.db.with_tenant(&stage.acme, async |tx| tx.query_one(WORK, &[]).await);
            work.await.expect("the work");
        };
        samples[0].push(time(alone).await);
        let insert = async || {
            let work = stage.db.with_tenant(&stage.acme, async |tx| {
                tx.query_one(WORK, &[]).await?;
                tx.execute(INSERT, &[&stage.organization]).await
            });
            work.await.expect("the insert");
        };
        samples[1].push(time(insert).await);
        let emit = async || {
            let work = stage.db.with_tenant(&stage.acme, async |tx| {
                tx.query_one(WORK, &[]).await?;
                tx.emit(&Event::new(SHIPPED)).await
            });
            work.await.expect("the event");
        };
        samples[2].push(time(emit).await);
    }
    let names = ["with_tenant, one statement", "and an INSERT by hand", "and tx.emit"];
    show("An event in a tenant's transaction", "µs a call", &names, &samples);
}

async fn fill(stage: &Stage) {
    let sql = "with o as (select ('00000000-0000-4000-8000-' || lpad(n::text, 12, '0'))::uuid as id from generate_series(1, $2::int8) n)
        insert into domain_events (organization_id, type) select o.id, 'order.shipped' from o, generate_series(1, $1::int8 / $2) g";
    stage.hand.batch_execute("truncate domain_events; truncate domain_event_queues").await.expect("truncate");
    stage.hand.execute(sql, &[&EVENTS, &ORGANIZATIONS]).await.expect("events");
    stage.hand.batch_execute("analyze domain_events").await.expect("analyze");
}

/// One connection, a batch of each organization in turn: lock, read, note.
async fn deliver_by_hand(stage: &Stage) -> f64 {
    let (take, done) = (stage.hand.prepare(TAKE).await.expect("take"), stage.hand.prepare(DONE).await.expect("done"));
    let began = Instant::now();
    let queues = stage.hand.query("select distinct queue_id from domain_events", &[]).await.expect("queues");
    for queue in &queues {
        let queue: uuid::Uuid = queue.get(0);
        loop {
            stage.hand.batch_execute("begin").await.expect("begin");
            let rows = stage.hand.query(&take, &[&queue]).await.expect("rows");
            let ids: Vec<uuid::Uuid> = rows.iter().map(|row| row.get(0)).collect();
            stage.hand.execute(&done, &[&ids]).await.expect("done");
            stage.hand.batch_execute("commit").await.expect("commit");
            if ids.is_empty() {
                break;
            }
        }
    }
    EVENTS as f64 / began.elapsed().as_secs_f64()
}

async fn relays(stage: &Stage, rounds: usize) {
    let mut samples = [Vec::new(), Vec::new()];
    for _ in 0..rounds {
        fill(stage).await;
        samples[0].push(deliver_by_hand(stage).await);
        fill(stage).await;
        let relay = Relay::new(&stage.db, callback(async |_: CloudEvent| Ok(())), RelayOptions::default());
        let began = Instant::now();
        let report = relay.deliver_due().await.expect("the relay");
        samples[1].push(report.delivered as f64 / began.elapsed().as_secs_f64());
    }
    let names = ["by hand: BEGIN, read, update, COMMIT, no order given", "Relay::deliver_due, one worker"];
    show(&format!("A relay delivers {EVENTS} events of {ORGANIZATIONS} organizations"), "events/s", &names, &samples);
}

#[tokio::main]
async fn main() {
    let rounds: usize = std::env::var("CGK_BENCH_ROUNDS").ok().and_then(|n| n.parse().ok()).unwrap_or(15);
    let stage = Stage::set().await;
    // The first calls prepare and describe.
    stage.auth.api_keys().verify(&stage.token).await.expect("the key");
    keys(&stage, rounds).await;
    emits(&stage, rounds).await;
    relays(&stage, rounds.min(5)).await;
    stage.db.close(Duration::from_secs(5)).await;
    drop(stage.database);
}
