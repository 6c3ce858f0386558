//! Requests a second and CPU of the server, with many callers and few or many tenants, against the same work by hand.

use crate::delay;
use cgk::{Config, Db, TenantSlug, config::PoolSettings, testing::TestDatabase};
use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio_postgres::{Client, Statement, types::Type};

const CALLERS: usize = 16;
const WINDOW: Duration = Duration::from_millis(400);
const SQL: &str = "select count(*) from orders where status = $1";
const STATUS: &str = "open";

/// What a caller does with a tenant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Work {
    /// BEGIN, set_config, statement, COMMIT, each prepared and waited for.
    HandPrepared,
    /// The same with the statement sent unnamed, its types given.
    HandTyped,
    OneStatement,
    WithTenant,
}

const WORKS: [(Work, &str); 4] = [
    (Work::HandPrepared, "by hand: BEGIN, set_config, statement, COMMIT, prepared"),
    (Work::HandTyped, "by hand: BEGIN, set_config, statement, COMMIT, unnamed"),
    (Work::OneStatement, "one statement, role mode"),
    (Work::WithTenant, "with_tenant, role mode"),
];

/// The tables, one for each number of tenants: `CGK_BENCH_TENANTS`, by default 1, 20 and 200.
pub(crate) async fn load(database: &TestDatabase, made: &[String], rounds: usize) {
    for count in counts() {
        let tenants: Vec<TenantSlug> = made[..count].iter().map(|name| name.parse().expect("a slug")).collect();
        measure(database, &tenants, rounds).await;
    }
}

/// How many tenants there are to be, from few to many.
pub(crate) fn counts() -> Vec<usize> {
    let text = std::env::var("CGK_BENCH_TENANTS").unwrap_or_else(|_| "1,20,200".into());
    text.split(',').map(|count| count.trim().parse().expect("CGK_BENCH_TENANTS is a list of numbers")).collect()
}

async fn measure(database: &TestDatabase, tenants: &[TenantSlug], rounds: usize) {
    let pool = PoolSettings { size_max: CALLERS, tenants_per_connection_max: usize::MAX, ..PoolSettings::default() };
    let db = Db::connect(&database.config().clone().with_pool(pool)).await.expect("connect");
    let hands = futures_util::future::join_all((0..CALLERS).map(|_| Hand::connect(database.config()))).await;
    let callers = Arc::new(Callers { db, hands, tenants: tenants.to_vec() });
    let server = Server::of(database).await;
    let mut samples: [Vec<Sample>; WORKS.len()] = Default::default();
    for round in 0..=rounds {
        for ((work, _), samples) in WORKS.iter().zip(&mut samples) {
            // The first round warms every connection up with every tenant.
            let sample = server.sample(&callers, *work, round == 0).await;
            if round > 0 {
                samples.push(sample);
            }
        }
    }
    println!("\n### {} tenants, {CALLERS} callers", tenants.len());
    println!(
        "| variant | requests/s | server CPU us | requests/s, ratio to by hand | CPU, ratio to by hand |\n|---|---|---|---|---|"
    );
    for ((_, name), own) in WORKS.iter().zip(&samples) {
        // The cheaper way by hand, round by round.
        let hand = |of: fn(&Sample) -> f64, better: fn(f64, f64) -> f64| {
            samples[0].iter().zip(&samples[1]).map(move |(a, b)| better(of(a), of(b))).collect::<Vec<_>>()
        };
        let ratio = |of: fn(&Sample) -> f64, hand: Vec<f64>| {
            median(own.iter().zip(hand).map(|(sample, hand)| of(sample) / hand).collect())
        };
        println!(
            "| {name} | {:.0} | {:.0} | {:.2} | {:.2} |",
            median(own.iter().map(|sample| sample.rate).collect()),
            median(own.iter().map(|sample| sample.cpu).collect()),
            ratio(|sample| sample.rate, hand(|sample| sample.rate, f64::max)),
            ratio(|sample| sample.cpu, hand(|sample| sample.cpu, f64::min)),
        );
    }
}

struct Sample {
    rate: f64,
    /// Microseconds of the server's CPU a request.
    cpu: f64,
}

struct Callers {
    db: Db,
    hands: Vec<tokio::sync::Mutex<Hand>>,
    tenants: Vec<TenantSlug>,
}

impl Callers {
    async fn call(&self, work: Work, caller: usize, tenant: usize) {
        let slug = &self.tenants[tenant];
        match work {
            Work::HandPrepared => self.hands[caller].lock().await.call(slug, true).await,
            Work::HandTyped => self.hands[caller].lock().await.call(slug, false).await,
            Work::OneStatement => drop(self.db.tenant(slug).query_one(SQL, &[&STATUS]).await.expect("one statement")),
            Work::WithTenant => {
                let call = self.db.with_tenant(slug, async |tx| tx.query_one(SQL, &[&STATUS]).await);
                drop(call.await.expect("with_tenant"));
            }
        }
    }
}

/// A connection without cgk, which keeps its statements as a pool's cache does.
struct Hand {
    client: Client,
    set_config: Statement,
    statement: Option<Statement>,
}

impl Hand {
    async fn connect(config: &Config) -> tokio::sync::Mutex<Self> {
        let client = delay::plain_client(config).await;
        let set_config = client.prepare("select set_config('search_path', $1, true)").await.expect("prepare");
        tokio::sync::Mutex::new(Self { client, set_config, statement: None })
    }

    async fn call(&mut self, slug: &TenantSlug, prepared: bool) {
        let tx = self.client.transaction().await.expect("begin");
        tx.query_one(&self.set_config, &[&format!("tenant_{slug}, public")]).await.expect("set_config");
        if prepared {
            let statement = match &self.statement {
                Some(statement) => statement.clone(),
                None => self.statement.insert(tx.prepare(SQL).await.expect("prepare")).clone(),
            };
            tx.query_one(&statement, &[&STATUS]).await.expect("query");
        } else {
            tx.query_typed(SQL, &[(&STATUS, Type::TEXT)]).await.expect("query");
        }
        tx.commit().await.expect("commit");
    }
}

/// The processes of the server, whose CPU is read from `/proc`.
struct Server {
    watch: Client,
}

impl Server {
    async fn of(database: &TestDatabase) -> Self {
        Self { watch: delay::plain_client(database.config()).await }
    }

    /// Runs all callers for a while.
    async fn sample(&self, callers: &Arc<Callers>, work: Work, warm_up: bool) -> Sample {
        let before = self.cpu().await;
        let started = Instant::now();
        let tasks: Vec<_> = (0..CALLERS)
            .map(|caller| {
                let callers = Arc::clone(callers);
                let started = Instant::now();
                tokio::spawn(async move {
                    let (mut done, count) = (0_usize, callers.tenants.len());
                    while started.elapsed() < WINDOW || (warm_up && done < count) {
                        let tenant = if warm_up { done % count } else { rand::random_range(0..count) };
                        callers.call(work, caller, tenant).await;
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
        let elapsed = started.elapsed();
        let after = self.cpu().await;
        // Of backends that began or ended meanwhile only what is known counts; there are none once it is warm.
        let nanos: u64 = after.iter().map(|(pid, nanos)| nanos - before.get(pid).copied().unwrap_or(*nanos)).sum();
        Sample { rate: done as f64 / elapsed.as_secs_f64(), cpu: nanos as f64 / 1e3 / done as f64 }
    }

    /// What each backend of the database has used, in nanoseconds.
    async fn cpu(&self) -> HashMap<i32, u64> {
        let sql = "select pid from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()";
        let rows = self.watch.query(sql, &[]).await.expect("the backends");
        let used = |pid: i32| {
            let text = std::fs::read_to_string(format!("/proc/{pid}/schedstat")).ok()?;
            text.split_whitespace().next()?.parse().ok()
        };
        rows.iter().map(|row| row.get(0)).filter_map(|pid| Some((pid, used(pid)?))).collect()
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
