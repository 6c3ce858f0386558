//! What making a tenant costs, and what a run over a fleet costs that has nothing to do.
//!
//! `cargo bench --bench fleet`. The baselines run in the same process on the same server: the very SQL that cgk sends, once
//! as one message by a plain session (the floor) and once statement by statement between BEGIN and COMMIT, as `psql` does.
//! The variants take turns, so that a machine that slows down slows all of them. `CGK_BENCH_TENANTS` is the size of the
//! fleet, 1,000 by default. Not a test: nothing about time is asserted.

#![expect(clippy::print_stdout, reason = "a benchmark prints its table")]

use cgk::{
    Config, Db, Operator,
    lifecycle::{self, CreateOptions, Creation},
    migrate::Migrations,
    testing::TestServer,
};
use sandbox::{Proxy, Raw, migrate_all, round_trips};
use std::time::{Duration, Instant};

#[allow(dead_code, reason = "the other benchmark uses the rest")]
#[path = "support/delay.rs"]
mod delay;
#[allow(dead_code, reason = "the tests use the rest")]
#[path = "../tests/it/sandbox.rs"]
mod sandbox;

/// Tenants that each variant makes.
const MADE: usize = 60;
/// The same over the slow network.
const MADE_FAR: usize = 8;
const RUNS: usize = 15;

#[tokio::main]
async fn main() {
    let fleet: usize = std::env::var("CGK_BENCH_TENANTS").ok().and_then(|n| n.parse().ok()).unwrap_or(1000);
    let database = TestServer::shared().set_up_database().await.expect("a database");
    let operator = database.operator().await.expect("an operator");
    println!("PostgreSQL {}, without fsync, on this machine's socket", operator.facts().version);

    let recipe = Recipe::record(&database).await;
    println!("\nOne tenant: {} statements in {} kB of SQL\n", recipe.statements.len(), recipe.message.len() / 1024);
    creation("local socket", database.config(), &recipe, "l", MADE).await;
    let far = delay::Proxy::start(TestServer::shared(), Duration::from_millis(1));
    creation("2 ms round trip", &far.config(database.config()), &recipe, "f", MADE_FAR).await;

    let raw = Raw::on(&database).await;
    let made: i64 = raw.one("select count(*) from public.organizations").await;
    let missing = fleet.saturating_sub(usize::try_from(made).expect("a count"));
    for number in 0..missing {
        raw.run(&recipe.message_for(&format!("fill{number}"))).await;
    }
    nothing_to_do("local socket", database.config(), Some(Proxy::to(&database).await)).await;
    nothing_to_do("2 ms round trip", &far.config(database.config()), None).await;
}

/// The message with which cgk makes a tenant, to be said again for others.
struct Recipe {
    message: String,
    statements: Vec<String>,
    id: String,
}

const RECORDED: &str = "recorded_tenant";

impl Recipe {
    async fn record(database: &cgk::testing::TestDatabase) -> Self {
        let proxy = Proxy::to(database).await;
        let (operator, db) = open(proxy.config()).await;
        proxy.take();
        make(&operator, &db, RECORDED).await;
        let seen = proxy.take();
        let message = seen.iter().find(|message| message.kind == b'Q' && message.text.contains("create schema"));
        let message = message.expect("a message that makes the schema").text.trim_end_matches('\0').to_owned();
        let raw = Raw::on(database).await;
        let id: uuid::Uuid = raw.one(&format!("select id from public.organizations where slug = '{RECORDED}'")).await;
        Self { statements: statements(&message), message, id: id.to_string() }
    }

    fn message_for(&self, slug: &str) -> String {
        self.adapt(&self.message, slug, &uuid::Uuid::new_v4().to_string())
    }

    fn statements_for(&self, slug: &str) -> Vec<String> {
        let id = uuid::Uuid::new_v4().to_string();
        self.statements.iter().map(|statement| self.adapt(statement, slug, &id)).collect()
    }

    fn adapt(&self, sql: &str, slug: &str, id: &str) -> String {
        sql.replace(RECORDED, slug).replace(&self.id, id)
    }
}

/// Cuts SQL at its semicolons, as far as cgk's own files need it.
fn statements(sql: &str) -> Vec<String> {
    let (mut found, mut start, mut at) = (Vec::new(), 0, 0);
    while at < sql.len() {
        let rest = &sql[at..];
        let skip_to =
            |from: usize, end: &str| rest[from..].find(end).map_or(rest.len(), |length| from + length + end.len());
        at += match rest.as_bytes()[0] {
            b'-' if rest.starts_with("--") => skip_to(2, "\n"),
            b'\'' => skip_to(1, "'"),
            b'$' if rest.starts_with("$$") => skip_to(2, "$$"),
            b';' => {
                found.push(sql[start..at].to_owned());
                start = at + 1;
                1
            }
            _ => rest.chars().next().map_or(1, char::len_utf8),
        };
    }
    found.retain(|statement| statement.lines().any(|line| !line.trim().is_empty() && !line.trim().starts_with("--")));
    found
}

async fn open(config: &Config) -> (Operator, Db) {
    (Operator::connect(config).await.expect("connect"), Db::connect(config).await.expect("connect"))
}

async fn make(operator: &Operator, db: &Db, slug: &str) {
    let (slug, options) = (slug.parse().expect("a slug"), CreateOptions::default());
    let made = lifecycle::create(operator, db, &Migrations::bundled(), &slug, &options).await.expect("a tenant");
    assert_eq!(made.creation, Creation::New);
}

async fn creation(network: &str, config: &Config, recipe: &Recipe, prefix: &str, number: usize) {
    let (operator, db) = open(config).await;
    let plain = Raw::connect(&plain_url(config)).await;
    let mut samples: [Vec<f64>; 3] = Default::default();
    for round in 0..=number {
        let slug = |variant: &str| format!("{prefix}{variant}{round}");
        let started = Instant::now();
        plain.run(&recipe.message_for(&slug("message"))).await;
        let message = milliseconds(started);

        let started = Instant::now();
        make(&operator, &db, &slug("cgk")).await;
        let cgk = milliseconds(started);

        let started = Instant::now();
        plain.run("begin").await;
        for statement in recipe.statements_for(&slug("psql")) {
            // One transaction is open, and it may be told its isolation level once only.
            if !statement.starts_with("set transaction") {
                plain.run(&statement).await;
            }
        }
        plain.run("commit").await;
        let psql = milliseconds(started);
        // The first round warms caches.
        if round > 0 {
            samples.iter_mut().zip([message, cgk, psql]).for_each(|(samples, time)| samples.push(time));
        }
    }
    let names = ["the same SQL as one message", "lifecycle::create", "statement by statement"];
    table(&format!("making a tenant, {network}, median of {number}"), &names, &samples, "ms");
}

async fn nothing_to_do(network: &str, config: &Config, proxy: Option<Proxy>) {
    let migrations = Migrations::bundled();
    let operator = Operator::connect(config).await.expect("connect");
    let plain = Raw::connect(&plain_url(config)).await;
    let slugs: Vec<String> = plain.all("select slug from public.organizations").await;
    let mut samples: [Vec<f64>; 2] = Default::default();
    for round in 0..=RUNS {
        let started = Instant::now();
        let report = migrate_all(&operator, &migrations).await.expect("a run");
        let cgk = milliseconds(started);
        assert_eq!((report.at_head, report.tenants.len()), (slugs.len(), 0));

        let visiting = Instant::now();
        if round % 5 == 1 {
            for slug in &slugs {
                plain.run(&format!("select max(version) from tenant_{slug}.schema_migrations")).await;
            }
            samples[0].push(milliseconds(visiting));
        }
        if round > 0 {
            samples[1].push(cgk);
        }
    }
    let names = ["one query for each tenant", "plan and run"];
    table(&format!("{} tenants, nothing to do, {network}, medians", slugs.len()), &names, &samples, "ms");
    if let Some(proxy) = proxy {
        let operator = Operator::connect(proxy.config()).await.expect("connect");
        proxy.take();
        migrate_all(&operator, &migrations).await.expect("a run");
        println!("  round trips: {} against {}\n", round_trips(&proxy.take()), slugs.len());
    }
}

fn plain_url(config: &Config) -> String {
    let url = config.target().to_string();
    format!("{url}{}sslmode=disable", if url.contains('?') { '&' } else { '?' })
}

fn milliseconds(started: Instant) -> f64 {
    started.elapsed().as_secs_f64() * 1e3
}

/// Medians, and each as a multiple of the first.
fn table(title: &str, names: &[&str], samples: &[Vec<f64>], unit: &str) {
    println!("{title}");
    let medians: Vec<f64> = samples.iter().map(|samples| median(samples)).collect();
    for (name, median) in names.iter().zip(&medians) {
        println!("  {name:<30} {median:>9.2} {unit} {:>7.2} ×", median / medians[0]);
    }
    println!();
}

fn median(samples: &[f64]) -> f64 {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted[sorted.len() / 2]
}
