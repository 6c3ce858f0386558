//! What other tenants notice while a tenant with many tables is dropped: the time of their transactions before and during the
//! drop, in the same run on the same server.
//!
//! `cargo bench --bench drop`. Callers read and write other tenants, each in one transaction with two statements, at a rate
//! that leaves the machine idle for most of the time. The drop is `lifecycle::drop_tenant` with its default options on a
//! server with its default settings, which does not write to disk. `CGK_BENCH_SIZES` sets the number of tables,
//! `CGK_BENCH_TENANTS` the number of other tenants, `CGK_BENCH_ROUNDS` the number of drops, `CGK_BENCH_LOCKS` and
//! `CGK_BENCH_PAUSE` the options of the drop. Not a test: nothing is asserted.

#![expect(clippy::print_stdout, reason = "a benchmark prints its table")]
#![expect(clippy::disallowed_methods, reason = "the tables to drop are created by hand")]

use cgk::{
    Db, Operator, TenantSlug,
    lifecycle::{self, CreateOptions, DropOptions},
    migrate::{Migrations, Silent},
    setup,
    testing::{TestDatabase, TestServer},
};
use std::{
    str::FromStr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};
use tokio_postgres::NoTls;

/// How many callers there are, and the pause of each between two transactions.
const CALLERS: usize = 4;
const PAUSE: Duration = Duration::from_millis(5);
/// How long the time before the drop is measured.
const BEFORE: Duration = Duration::from_secs(5);
/// How many tables one statement creates, so that the locks fit.
const BATCH: usize = 200;

fn optional<T: FromStr>(name: &str) -> Option<T> {
    std::env::var(name).ok().and_then(|text| text.parse().ok())
}

fn number(name: &str, default: usize) -> usize {
    optional(name).unwrap_or(default)
}

/// Reads and writes the tenants until it is stopped. Returns the time of each transaction.
async fn call(db: Db, tenants: Arc<Vec<TenantSlug>>, stop: Arc<AtomicBool>) -> Vec<Duration> {
    let mut took = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        let tenant = &tenants[rand::random_range(0..tenants.len())];
        let email = format!("{:x}@x", rand::random::<u128>());
        let began = Instant::now();
        let done = db
            .with_tenant(tenant, async |tx| {
                tx.execute("insert into customers (email) values ($1)", &[&email]).await?;
                tx.query_one("select count(*) from orders where status = 'pending'", &[]).await
            })
            .await;
        took.push(began.elapsed());
        drop(done.expect("a transaction"));
        tokio::time::sleep(PAUSE).await;
    }
    took
}

/// Runs the callers beside some work. Returns the times of their transactions, sorted.
async fn beside(db: &Db, tenants: &Arc<Vec<TenantSlug>>, work: impl Future<Output = ()>) -> Vec<Duration> {
    let stop = Arc::new(AtomicBool::new(false));
    let callers: Vec<_> =
        (0..CALLERS).map(|_| tokio::spawn(call(db.clone(), Arc::clone(tenants), Arc::clone(&stop)))).collect();
    work.await;
    stop.store(true, Ordering::Relaxed);
    let mut took = Vec::new();
    for caller in callers {
        took.extend(caller.await.expect("a caller"));
    }
    took.sort_unstable();
    took
}

/// A percentile in milliseconds.
fn percentile(took: &[Duration], of: usize) -> f64 {
    let place = (took.len() * of / 100).min(took.len().saturating_sub(1));
    took.get(place).map_or(f64::NAN, |took| took.as_secs_f64() * 1000.0)
}

async fn fill(database: &TestDatabase, schema: &str, tables: usize) {
    let url = TestServer::shared().local().expect("a server of this machine").url(database.name());
    let (client, connection) = tokio_postgres::connect(&url, NoTls).await.expect("connect");
    tokio::spawn(connection);
    for first in (0..tables).step_by(BATCH) {
        let last = (first + BATCH).min(tables);
        let sql = format!(
            "do $$ begin for n in {first}..{last} - 1 loop
                 execute format('create table {schema}.t%s (id bigint primary key, name text, at timestamptz)', n);
             end loop; end $$"
        );
        client.batch_execute(&sql).await.expect("create tables");
    }
}

#[tokio::main]
async fn main() {
    let (tables, others, rounds) =
        (number("CGK_BENCH_SIZES", 5_000), number("CGK_BENCH_TENANTS", 20), number("CGK_BENCH_ROUNDS", 3));
    let database = TestServer::shared().database().await.expect("a database");
    let migrations = Migrations::bundled();
    let operator = Operator::connect(database.config()).await.expect("connect");
    setup::setup(&operator, &migrations, &mut Silent).await.expect("setup");
    let db = Db::connect(database.config()).await.expect("connect");
    let create = async |slug: &TenantSlug| {
        lifecycle::create(&operator, &db, &migrations, slug, &CreateOptions::default()).await.expect("create");
    };
    let tenants: Vec<TenantSlug> = (0..others).map(|number| format!("t{number}").parse().expect("a slug")).collect();
    for tenant in &tenants {
        create(tenant).await;
    }
    let tenants = Arc::new(tenants);
    println!("| tables | drop | p50 before | p50 during | p99 before | p99 during | ratio of p99 | transactions |");
    println!("|-------:|-----:|-----------:|-----------:|-----------:|-----------:|-------------:|-------------:|");
    for _ in 0..rounds {
        let dropped: TenantSlug = "dropped".parse().expect("a slug");
        create(&dropped).await;
        fill(&database, "tenant_dropped", tables).await;
        // It warms the connections up.
        beside(&db, &tenants, tokio::time::sleep(BEFORE / 5)).await;
        let before = beside(&db, &tenants, tokio::time::sleep(BEFORE)).await;
        let began = Instant::now();
        let during = beside(&db, &tenants, async {
            let mut options = DropOptions::default();
            options.locks_per_batch = optional("CGK_BENCH_LOCKS");
            options.pause_factor = optional("CGK_BENCH_PAUSE");
            lifecycle::drop_tenant(&operator, &dropped, &options, &mut Silent).await.expect("drop");
        })
        .await;
        println!(
            "| {tables:>6} | {:>4.1} s | {:>7.2} ms | {:>7.2} ms | {:>7.2} ms | {:>7.2} ms | {:>12.2} | {:>5} {:>5} |",
            began.elapsed().as_secs_f64(),
            percentile(&before, 50),
            percentile(&during, 50),
            percentile(&before, 99),
            percentile(&during, 99),
            percentile(&during, 99) / percentile(&before, 99),
            before.len(),
            during.len()
        );
    }
}
