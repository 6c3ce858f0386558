//! What a tenant transaction costs, against the same statement without any tenancy, in the same run on the same server.
//!
//! `cargo bench --bench tenant_tx`. Every figure is a median; the variants take turns in small blocks, so that a machine
//! that slows down slows all of them. `CGK_BENCH_ROUNDS` sets the number of blocks. Not a test: nothing is asserted.

#![expect(clippy::print_stdout, reason = "a benchmark prints its table")]

use cgk::{
    Config, Db, TenantSlug,
    config::Isolation,
    testing::{TestDatabase, TestServer},
};
use std::{
    future::Future,
    time::{Duration, Instant},
};
use tokio_postgres::{Client, Statement};

#[path = "support/delay.rs"]
mod delay;

const SQL: &str = "select count(*) from orders where status = $1";
const STATUS: &str = "open";

#[tokio::main]
async fn main() {
    let rounds: usize = std::env::var("CGK_BENCH_ROUNDS").ok().and_then(|n| n.parse().ok()).unwrap_or(40);
    let database = TestServer::shared().set_up_database().await.expect("a database");
    database.with_tenants(&["acme", "globex"]).await.expect("two tenants");
    println!("server: PostgreSQL {}", server_version(&database).await);
    println!("\n## latency over the local socket");
    latency(database.config(), rounds, 200).await;
    println!("\n## latency with a round trip of 2 ms");
    let proxy = delay::Proxy::start(TestServer::shared(), Duration::from_millis(1));
    latency(&proxy.config(database.config()), rounds / 4 + 1, 20).await;
    println!("\n## throughput over the local socket");
    throughput(database.config()).await;
}

async fn server_version(database: &TestDatabase) -> String {
    database.operator().await.expect("a connection").facts().version.clone()
}

struct Plain {
    client: Client,
    bare: Statement,
    set_config: Statement,
}

impl Plain {
    /// A connection without cgk; the bare statement names its schema.
    async fn connect(config: &Config) -> Self {
        let client = delay::plain_client(config).await;
        let bare = client.prepare("select count(*) from tenant_acme.orders where status = $1").await.expect("prepare");
        let set_config =
            client.prepare("select set_config('search_path', 'tenant_acme, public', true)").await.expect("prepare");
        Self { client, bare, set_config }
    }

    async fn bare(&self) {
        self.client.query_one(&self.bare, &[&STATUS]).await.expect("query");
    }

    /// BEGIN, set_config, the statement and COMMIT, each waited for: what most hand-written tenancy does.
    async fn one_by_one(&mut self) {
        let tx = self.client.transaction().await.expect("begin");
        tx.query_one(&self.set_config, &[]).await.expect("set_config");
        tx.query_one(&self.bare, &[&STATUS]).await.expect("query");
        tx.commit().await.expect("commit");
    }
}

async fn with_tenant(db: &Db, slug: &TenantSlug) {
    db.with_tenant(slug, async |tx| tx.query_one(SQL, &[&STATUS]).await).await.expect("with_tenant");
}

async fn one_statement(db: &Db, slug: &TenantSlug) {
    db.tenant(slug).query_one(SQL, &[&STATUS]).await.expect("one statement");
}

async fn latency(config: &Config, rounds: usize, block: usize) {
    let slug: TenantSlug = "acme".parse().expect("a slug");
    let mut plain = Plain::connect(config).await;
    let role = Db::connect(&config.clone().with_isolation(Isolation::Role)).await.expect("connect");
    let path = Db::connect(&config.clone().with_isolation(Isolation::Path)).await.expect("connect");
    let mut samples: [Vec<f64>; 6] = Default::default();
    for round in 0..=rounds {
        let times = [
            time(block, async || plain.bare().await).await,
            time(block, async || with_tenant(&role, &slug).await).await,
            time(block, async || with_tenant(&path, &slug).await).await,
            time(block, async || one_statement(&role, &slug).await).await,
            time(block, async || one_statement(&path, &slug).await).await,
            {
                let started = Instant::now();
                for _ in 0..block {
                    plain.one_by_one().await;
                }
                micros(started, block)
            },
        ];
        // The first round warms caches and prepares statements.
        if round > 0 {
            samples.iter_mut().zip(times).for_each(|(samples, time)| samples.push(time));
        }
    }
    let names = [
        "bare autocommit statement",
        "with_tenant, role mode",
        "with_tenant, path mode",
        "one statement, role mode",
        "one statement, path mode",
        "BEGIN, set_config, statement, COMMIT one by one",
    ];
    let bare = samples[0].clone();
    println!("| variant | median us | ratio to bare |\n|---|---|---|");
    for (name, samples) in names.iter().zip(&samples) {
        let mut ratios: Vec<f64> = samples.iter().zip(&bare).map(|(time, bare)| time / bare).collect();
        println!("| {name} | {:.0} | {:.2} |", median(&mut samples.clone()), median(&mut ratios));
    }
}

async fn time(block: usize, mut work: impl AsyncFnMut()) -> f64 {
    let started = Instant::now();
    for _ in 0..block {
        work().await;
    }
    micros(started, block)
}

fn micros(started: Instant, block: usize) -> f64 {
    started.elapsed().as_secs_f64() * 1e6 / block as f64
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// The same transactions with and without cgk's guards, from several callers at once, each with a connection.
async fn throughput(config: &Config) {
    println!("| callers | by hand, one message in and one out, tx/s | with_tenant, tx/s | ratio |\n|---|---|---|---|");
    for callers in [2usize, 16] {
        let db = Db::connect(&config.clone().with_pool_size_max(callers)).await.expect("connect");
        let clients: Vec<_> = futures_util::future::join_all((0..callers).map(|_| Plain::connect(config))).await;
        let (mut by_hand, mut guarded, mut ratios) = (vec![], vec![], vec![]);
        let clients: Vec<_> =
            clients.into_iter().map(|plain| std::sync::Arc::new(tokio::sync::Mutex::new(plain))).collect();
        for round in 0..7 {
            let connections = clients.clone();
            let hand = rate(callers, move |caller| {
                let plain = connections[caller].clone();
                async move { plain.lock().await.one_by_one().await }
            })
            .await;
            let (db, slug) = (db.clone(), "acme".parse::<TenantSlug>().expect("a slug"));
            let ours = rate(callers, move |_| {
                let (db, slug) = (db.clone(), slug.clone());
                async move { with_tenant(&db, &slug).await }
            })
            .await;
            if round > 0 {
                by_hand.push(hand);
                guarded.push(ours);
                ratios.push(ours / hand);
            }
        }
        println!(
            "| {callers} | {:.0} | {:.0} | {:.2} |",
            median(&mut by_hand),
            median(&mut guarded),
            median(&mut ratios)
        );
    }
}

async fn rate<F: Future<Output = ()> + Send + 'static>(
    callers: usize,
    work: impl Fn(usize) -> F + Clone + Send + Sync + 'static,
) -> f64 {
    let started = Instant::now();
    let window = Duration::from_millis(400);
    let tasks: Vec<_> = (0..callers)
        .map(|caller| {
            let work = work.clone();
            tokio::spawn(async move {
                let mut done = 0u32;
                while started.elapsed() < window {
                    work(caller).await;
                    done += 1;
                }
                done
            })
        })
        .collect();
    let mut done = 0;
    for task in tasks {
        done += task.await.expect("a caller");
    }
    f64::from(done) / started.elapsed().as_secs_f64()
}
