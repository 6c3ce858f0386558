//! What a backend keeps of the tenants it has served, and what that costs: memory, and the latency of `with_tenant`.
//!
//! `cargo bench --bench tenant_memory`. `CGK_BENCH_TENANTS` says after how many tenants to look, `100,1000,5000` by default;
//! so many are made. Memory is what is the backend's own (`Anonymous` in `/proc/<pid>/smaps_rollup`, so on Linux only, for
//! the server's user or root). Not a test: nothing is asserted.

#![expect(clippy::print_stdout, reason = "a benchmark prints its table")]

use cgk::{
    Config, Db, Operator, TenantSlug,
    config::PoolSettings,
    lifecycle::{self, CreateManyOptions, NewTenant},
    migrate::{Migrations, Silent},
    testing::TestServer,
};
use std::{collections::BTreeSet, num::NonZeroUsize, time::Instant};

/// What a service runs in each tenant: two tables, one of them with its indexes.
const ORDERS: &str = "select count(*) from orders where status = $1";
const CUSTOMERS: &str = "select count(*) from customers where email = $1";

#[tokio::main]
async fn main() {
    let stops = std::env::var("CGK_BENCH_TENANTS").unwrap_or_else(|_| "100,1000,5000".into());
    let stops: Vec<usize> = stops.split(',').map(|stop| stop.trim().parse().expect("a number")).collect();
    let most = stops.iter().copied().max().unwrap_or(0);
    let database = TestServer::shared().set_up_database().await.expect("a database");
    let operator = database.operator().await.expect("a connection");
    println!("server: PostgreSQL {}", operator.facts().version);
    let tenants: Vec<TenantSlug> = (0..most).map(|n| format!("t{n:05}").parse().expect("a slug")).collect();
    make(&operator, database.config(), &tenants).await;
    println!(
        "\n| tenants a connection may serve | tenants served | backends | own memory of the last | p50 again | p50 new |"
    );
    println!("|---|---|---|---|---|---|");
    for tenants_max in [PoolSettings::default().tenants_per_connection_max, most.max(1)] {
        serve(database.config(), &tenants, &stops, tenants_max).await;
    }
}

async fn make(operator: &Operator, config: &Config, tenants: &[TenantSlug]) {
    let started = Instant::now();
    let (db, migrations): (Db, _) = (Db::connect(config).await.expect("a pool"), Migrations::bundled());
    let wanted: Vec<NewTenant> = tenants.iter().cloned().map(NewTenant::from).collect();
    let options = CreateManyOptions::default().jobs(NonZeroUsize::new(2).expect("not zero"));
    let report = lifecycle::create_many(operator, &db, &migrations, &wanted, &options, &mut Silent).await;
    let report = report.expect("tenants");
    assert_eq!((report.failed(), &report.stopped), (0, &None), "not every tenant was made");
    let took = started.elapsed().as_secs_f64();
    println!("made {} tenants in {took:.0} s, {:.0} a second", tenants.len(), tenants.len() as f64 / took);
}

/// One connection of the pool serves all tenants one after the other.
async fn serve(config: &Config, tenants: &[TenantSlug], stops: &[usize], tenants_max: usize) {
    let pool = PoolSettings { size_max: 1, tenants_per_connection_max: tenants_max, ..PoolSettings::default() };
    let db: Db = Db::connect(&config.clone().with_pool(pool)).await.expect("a pool");
    let (mut backends, mut fresh) = (BTreeSet::new(), Vec::new());
    for (n, tenant) in tenants.iter().enumerate() {
        let started = Instant::now();
        let pid = visit(&db, tenant).await;
        fresh.push(started.elapsed().as_secs_f64() * 1e6);
        backends.insert(pid);
        if !stops.contains(&(n + 1)) {
            continue;
        }
        let memory = own_memory(pid).map_or("unknown".into(), |bytes| format!("{:.1} MB", bytes as f64 / 1e6));
        let seen = backends.len();
        // A tenant that the connection knows already.
        let mut again = Vec::new();
        for _ in 0..300 {
            let started = Instant::now();
            visit(&db, tenant).await;
            again.push(started.elapsed().as_secs_f64() * 1e6);
        }
        let last = fresh.len().saturating_sub(100);
        println!(
            "| {tenants_max} | {} | {seen} | {memory} | {:.0} us | {:.0} us |",
            n + 1,
            median(&mut again),
            median(&mut fresh[last..].to_vec())
        );
    }
}

async fn visit(db: &Db, tenant: &TenantSlug) -> i32 {
    let visited = db
        .with_tenant(tenant, async |tx| {
            tx.query_one(ORDERS, &[&"open"]).await?;
            tx.query_one(CUSTOMERS, &[&"a@example.com"]).await?;
            Ok(tx.query_one("select pg_backend_pid()", &[]).await?.get(0))
        })
        .await;
    visited.expect("a visit")
}

/// The bytes that no other process shares.
fn own_memory(pid: i32) -> Option<usize> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?;
    let line = text.lines().find(|line| line.starts_with("Anonymous:"))?;
    line.split_whitespace().nth(1)?.parse::<usize>().ok().map(|kilobytes| kilobytes * 1024)
}

fn median(samples: &mut [f64]) -> f64 {
    samples.sort_by(f64::total_cmp);
    samples[samples.len() / 2]
}
