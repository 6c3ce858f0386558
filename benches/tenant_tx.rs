//! What a tenant transaction costs, against the same statement without any tenancy, in the same run on the same server.
//!
//! `cargo bench --bench tenant_tx`. Every figure is a median; the variants take turns in small blocks, so that a machine
//! that slows down slows all of them. `CGK_BENCH_ROUNDS` sets the number of blocks. Not a test: nothing is asserted.

#![expect(clippy::print_stdout, reason = "a benchmark prints its table")]
#![expect(clippy::disallowed_methods, reason = "what is written by hand here is what cgk is compared with")]

use cgk::{
    Config, Db, TenantSlug,
    config::Isolation,
    testing::{TestDatabase, TestServer},
};
use std::{
    future::Future,
    time::{Duration, Instant},
};
use tokio_postgres::{
    Client, Statement,
    types::{ToSql, Type},
};

#[path = "support/delay.rs"]
mod delay;
#[path = "support/load.rs"]
mod load;
#[expect(dead_code, reason = "a benchmark has no controls")]
#[path = "../tests/it/support/score.rs"]
mod score;

const SQL: &str = "select count(*) from orders where status = $1";
const STATUS: &str = "open";
const NONCE: &str = "1234567890123456789";
const PATH: &str = "tenant_acme, public, pg_temp";

#[tokio::main]
async fn main() {
    let rounds: usize = std::env::var("CGK_BENCH_ROUNDS").ok().and_then(|n| n.parse().ok()).unwrap_or(40);
    let database = TestServer::shared().set_up_database().await.expect("a database");
    database.with_tenants(&["acme", "globex"]).await.expect("two tenants");
    println!("server: PostgreSQL {}", server_version(&database).await);
    println!("\n## latency over the local socket");
    latency("local socket", database.config(), rounds, 200).await;
    println!("\n## latency with a round trip of 2 ms");
    let proxy = delay::Proxy::start(TestServer::shared(), Duration::from_millis(1));
    latency("round trip of 2 ms", &proxy.config(database.config()), rounds / 4 + 1, 20).await;
    println!("\n## throughput over the local socket");
    throughput(database.config(), rounds / 6 + 1).await;
    println!("\n## load over the local socket: many callers, few or many tenants");
    let most = load::counts().into_iter().max().unwrap_or_default();
    let tenants: Vec<String> = (0..most).map(|n| format!("t{n}")).collect();
    let names: Vec<&str> = tenants.iter().map(String::as_str).collect();
    database.with_tenants(&names).await.expect("tenants");
    load::load(&database, &tenants, rounds / 4 + 1).await;
}

async fn server_version(database: &TestDatabase) -> String {
    database.operator().await.expect("a connection").facts().version.clone()
}

/// What cgk has the server run around a tenant's statement, without cgk: the same settings, the same lock, the same look into the
/// registry, the same checks.
const BEGIN: &str = "
    begin isolation level read committed; set exit_on_error = off; commit and chain; set local statement_timeout = 30000; set local lock_timeout = 5000;
    set local idle_in_transaction_session_timeout = 60000; select pg_advisory_xact_lock_shared(42)";
const ENTER: &str = "
    select set_config('search_path', $1::text, true),
           set_config('app.current_organization_id', coalesce((select o.id::text from public.organizations o
                      where o.slug = $3::text and o.status = 'active'
                      and coalesce((select starts_with(d.description, concat('cgk organization ', o.id::text))
                                    from pg_description d where d.classoid = 'pg_namespace'::regclass
                                    and d.objoid = to_regnamespace($4::text)::oid and d.objsubid = 0
                                    and starts_with(d.description, 'cgk organization ')), true)
                      ), ''), true),
           set_config('cgk.tx', hashtextextended(current_setting('app.current_organization_id'), $2::text::int8)::text, true),
           set_config('role', $5::text, true),
           1 / (case when current_schema()::text = $4::text and current_user::text = $5::text
                and current_setting('app.current_organization_id') <> '' then 1 else 0 end)";
/// What leaves nothing in the session for its next user.
const SCRUB: &str = "
    close all; reset session authorization; reset all; set exit_on_error = on; reset role; unlisten *; discard temp;
    discard sequences; set seed = 0.5; select from_sql, left(statement, 60), pg_advisory_unlock_all() from pg_prepared_statement()";

/// How a transaction by hand ends.
#[derive(Clone, Copy)]
enum End {
    Plain,
    Scrubbed,
}

impl End {
    fn sql(self, role: &str) -> String {
        let check = format!(
            "select int4div(1, int4(texteq(
                 concat_ws('/', current_setting('cgk.tx', true), current_setting('search_path'), current_schema, current_user),
                 concat_ws('/', hashtextextended(current_setting('app.current_organization_id', true), {NONCE}),
                           '{PATH}', 'tenant_acme', '{role}'))))"
        );
        match self {
            Self::Plain => format!("{check}; commit"),
            Self::Scrubbed => {
                format!("set constraints all immediate; close all; discard temp; {check}; commit; {SCRUB}")
            }
        }
    }
}

struct Plain {
    client: Client,
    bare: Statement,
    set_config: Statement,
    enter: Statement,
    role: String,
}

impl Plain {
    /// A connection without cgk; the bare statement names its schema.
    async fn connect(config: &Config) -> Self {
        let client = delay::plain_client(config).await;
        let bare = client.prepare("select count(*) from tenant_acme.orders where status = $1").await.expect("prepare");
        let set_config =
            client.prepare("select set_config('search_path', 'tenant_acme, public', true)").await.expect("prepare");
        let enter = client.prepare(ENTER).await.expect("prepare");
        let role = "select rolname::text from pg_roles where rolname ~ '^cgk_acme_' and pg_has_role(oid, 'member')
                    and has_schema_privilege(oid, 'tenant_acme', 'usage') order by oid desc limit 1";
        let role = client.query_one(role, &[]).await.expect("the tenant's role").get(0);
        Self { client, bare, set_config, enter, role }
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

    /// The same work for the server as one statement by way of cgk: all of it sent at once.
    async fn at_once(&self, end: End) {
        let client = &self.client;
        let (enter, end) = (self.enter_values(), end.sql(&self.role));
        let outcome = tokio::try_join!(
            client.batch_execute(BEGIN),
            client.execute(&self.enter, &enter),
            client.query_typed_one(SQL, &[(&STATUS, Type::TEXT)]),
            client.batch_execute(&end),
        );
        outcome.expect("a transaction");
    }

    /// The same work for the server as `with_tenant`: way in and statement at once, then check and commit.
    async fn in_two(&self, end: End) {
        let client = &self.client;
        let (enter, end) = (self.enter_values(), end.sql(&self.role));
        let outcome = tokio::try_join!(
            client.batch_execute(BEGIN),
            client.execute(&self.enter, &enter),
            client.query_typed_one(SQL, &[(&STATUS, Type::TEXT)]),
        );
        outcome.expect("the way in");
        client.batch_execute(&end).await.expect("the way out");
    }

    fn enter_values(&self) -> [&(dyn ToSql + Sync); 5] {
        [&PATH, &NONCE, &"acme", &"tenant_acme", &self.role]
    }
}

async fn with_tenant(db: &Db, slug: &TenantSlug) {
    db.with_tenant(slug, async |tx| tx.query_one(SQL, &[&STATUS]).await).await.expect("with_tenant");
}

async fn one_statement(db: &Db, slug: &TenantSlug) {
    db.tenant(slug).query_one(SQL, &[&STATUS]).await.expect("one statement");
}

async fn latency(place: &str, config: &Config, rounds: usize, block: usize) {
    let slug: TenantSlug = "acme".parse().expect("a slug");
    let mut plain = Plain::connect(config).await;
    // The database accepts both kinds of services, as while its isolation is being changed.
    let by_path = config.clone().with_isolation(Isolation::Path);
    cgk::setup::change_isolation(&by_path, cgk::setup::IsolationChange::Start).await.expect("accept both");
    let role = Db::connect(&config.clone().with_isolation(Isolation::Role)).await.expect("connect");
    let path = Db::connect(&by_path).await.expect("connect");
    let mut samples: [Vec<f64>; 10] = Default::default();
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
            time(block, async || plain.at_once(End::Plain).await).await,
            time(block, async || plain.in_two(End::Plain).await).await,
            time(block, async || plain.at_once(End::Scrubbed).await).await,
            time(block, async || plain.in_two(End::Scrubbed).await).await,
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
        "by hand: BEGIN, set_config, statement, COMMIT one by one",
        "by hand: one statement's work without the scrub, all at once",
        "by hand: with_tenant's work without the scrub, in two trips",
        "by hand: one statement's work and scrub, all at once",
        "by hand: with_tenant's work and scrub, in two trips",
    ];
    let bare = samples[0].clone();
    println!("| variant | median us | ratio to bare |\n|---|---|---|");
    let micros: Vec<f64> = samples.iter().map(|samples| median(&mut samples.clone())).collect();
    let told = format!(
        "medians: bare statement {:.0} us, with_tenant {:.0} us, one statement {:.0} us; by hand, one by one, {:.0} us",
        micros[0], micros[1], micros[3], micros[5]
    );
    score::note(18, &format!("latency, {place}"), rounds * block * names.len(), 0, &told);
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

/// What each caller does again and again, on a connection of its own.
#[derive(Clone, Copy)]
enum Work {
    Bare,
    OneByOne,
    InTwo(End),
    AtOnce(End),
    WithTenant,
    OneStatement,
}

const WORKS: [(Work, &str); 8] = [
    (Work::Bare, "bare autocommit statement"),
    (Work::OneByOne, "by hand: BEGIN, set_config, statement, COMMIT one by one"),
    (Work::InTwo(End::Plain), "by hand: with_tenant's work without the scrub, in two trips"),
    (Work::AtOnce(End::Plain), "by hand: one statement's work without the scrub, all at once"),
    (Work::InTwo(End::Scrubbed), "by hand: with_tenant's work and scrub, in two trips"),
    (Work::AtOnce(End::Scrubbed), "by hand: one statement's work and scrub, all at once"),
    (Work::WithTenant, "with_tenant, role mode"),
    (Work::OneStatement, "one statement, role mode"),
];

/// The same transactions with and without cgk, from several callers at once.
async fn throughput(config: &Config, rounds: usize) {
    println!(
        "| callers | variant | tx/s | ratio to bare | ratio to one by one | ratio to the same work |\n|---|---|---|---|---|---|"
    );
    for callers in [2usize, 16] {
        let db = Db::connect(&config.clone().with_pool_size_max(callers)).await.expect("connect");
        let clients = futures_util::future::join_all((0..callers).map(|_| Plain::connect(config))).await;
        let clients: Vec<_> =
            clients.into_iter().map(|plain| std::sync::Arc::new(tokio::sync::Mutex::new(plain))).collect();
        let mut rates: [Vec<f64>; WORKS.len()] = Default::default();
        for round in 0..=rounds {
            for ((work, _), rates) in WORKS.iter().zip(&mut rates) {
                let (clients, db, work) = (clients.clone(), db.clone(), *work);
                let slug: TenantSlug = "acme".parse().expect("a slug");
                let rate = rate(callers, move |caller| {
                    let (plain, db, slug) = (clients[caller].clone(), db.clone(), slug.clone());
                    async move {
                        match work {
                            Work::Bare => plain.lock().await.bare().await,
                            Work::OneByOne => plain.lock().await.one_by_one().await,
                            Work::InTwo(end) => plain.lock().await.in_two(end).await,
                            Work::AtOnce(end) => plain.lock().await.at_once(end).await,
                            Work::WithTenant => with_tenant(&db, &slug).await,
                            Work::OneStatement => one_statement(&db, &slug).await,
                        }
                    }
                })
                .await;
                if round > 0 {
                    rates.push(rate);
                }
            }
        }
        for ((work, name), samples) in WORKS.iter().zip(&rates) {
            let ratio = |to: usize| {
                let mut ratios: Vec<f64> = samples.iter().zip(&rates[to]).map(|(rate, other)| rate / other).collect();
                median(&mut ratios)
            };
            // The very work that cgk has the server do, by hand.
            let same = WORKS.iter().position(|(other, _)| match work {
                Work::WithTenant => matches!(other, Work::InTwo(End::Scrubbed)),
                Work::OneStatement => matches!(other, Work::AtOnce(End::Scrubbed)),
                _ => false,
            });
            let same = same.map(|same| format!("{:.2}", ratio(same))).unwrap_or_default();
            println!(
                "| {callers} | {name} | {:.0} | {:.2} | {:.2} | {same} |",
                median(&mut samples.clone()),
                ratio(0),
                ratio(1)
            );
        }
    }
}

async fn rate<F: Future<Output = ()> + Send + 'static>(
    callers: usize,
    work: impl Fn(usize) -> F + Clone + Send + Sync + 'static,
) -> f64 {
    let started = Instant::now();
    let window = Duration::from_millis(250);
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
