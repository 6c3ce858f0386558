//! What a run over a fleet costs at 100, 1,000 and 10,000 tenants, beside what others do.
//!
//! `scripts/bench-fleet.sh`, or `cargo bench --bench fleet_scale`; `CGK_BENCH_SIZES=100,1000` chooses the sizes. Baselines, in
//! the same process on the same server:
//!
//! - the floor: the same SQL sent tenant by tenant over as many connections, with no bookkeeping at all;
//! - refinery's own runner for each schema, on one connection;
//! - one process of an ordinary migration tool for each schema (`dbmate`, where `CGK_BENCH_DBMATE` says where it is).
//!
//! The variants take turns. The last two are measured on some of the tenants, for they cost the same for each. Not a test:
//! nothing about time is asserted.

#![expect(clippy::print_stdout, reason = "a benchmark prints its table")]

use cgk::{
    Db, Operator, drift,
    lifecycle::{self, CreateManyOptions, Creation, NewTenant},
    migrate::{self, Migrations, RunOptions, Scope, Silent, Target},
    testing::{TestDatabase, TestServer},
};
use sandbox::{Files, Proxy, Raw, round_trips, url};
use std::{
    num::NonZeroUsize,
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Instant,
};

#[allow(dead_code, reason = "the tests use the rest")]
#[path = "../tests/it/sandbox.rs"]
mod sandbox;

/// Tenants on which the slow baselines are measured.
const SAMPLED: usize = 100;
/// Tenants that each variant makes where making them is measured.
const MADE: usize = 100;
const WORKERS: [usize; 2] = [1, 4];

#[tokio::main]
async fn main() {
    let sizes = std::env::var("CGK_BENCH_SIZES").unwrap_or_else(|_| "100,1000,10000".into());
    let sizes: Vec<usize> = sizes.split(',').map(|size| size.trim().parse().expect("a number")).collect();
    let mut told = false;
    for size in sizes {
        // A database for each size: what the benchmark adds to one fleet would weigh on the next.
        let database = TestServer::shared().set_up_database().await.expect("a database");
        if !std::mem::replace(&mut told, true) {
            let operator = database.operator().await.expect("an operator");
            let fsync: String = Raw::on(&database).await.one("select current_setting('fsync')").await;
            println!("PostgreSQL {}, fsync {fsync}, on this machine's socket", operator.facts().version);
        }
        let mut bench = Bench::new(database).await;
        bench.grow(size).await;
        println!("\n## {size} tenants\n");
        // Before other tools leave their tables in some of the schemas.
        bench.drift(size).await;
        bench.nothing_to_do(size).await;
        // Before the fleet has the benchmark's own migrations: a tenant is only made of the fleet's set.
        bench.provisioning(size).await;
        let rounds = if size > 2000 { 3 } else { 5 };
        bench
            .migration("one ADD COLUMN", size, rounds, |n| format!("alter table orders add column bench_{n} int"))
            .await;
        bench
            .migration("one new table with an index", size, rounds, |n| {
                format!("create table bench_{n} (id bigint primary key, at timestamptz not null, note text); create index on bench_{n} (at)")
            })
            .await;
    }
}

struct Bench {
    database: TestDatabase,
    files: Files,
    raw: Raw,
    slugs: Vec<String>,
    /// The next migration's number.
    next: usize,
    made: usize,
    recipe: Recipe,
}

/// The message with which cgk makes a tenant, to be said again for others.
struct Recipe {
    message: String,
    id: String,
}

const RECORDED: &str = "recorded_tenant";

impl Bench {
    async fn new(database: TestDatabase) -> Self {
        let files = bundled();
        let raw = Raw::on(&database).await;
        let recipe = Recipe::record(&database, &raw).await;
        Self { database, files, raw, slugs: Vec::new(), next: 100, made: 0, recipe }
    }

    async fn operator(&self) -> Operator {
        self.database.operator().await.expect("an operator")
    }

    async fn grow(&mut self, size: usize) {
        let missing: Vec<String> = (self.slugs.len()..size).map(|number| format!("t{number}")).collect();
        let began = Instant::now();
        self.create(&missing, 4).await;
        println!("\ngrew by {} tenants in {:.1} s", missing.len(), began.elapsed().as_secs_f64());
        self.slugs.extend(missing);
        self.vacuum().await;
    }

    /// What autovacuum would do to a database that changed so fast; the tenants' own tables are empty.
    async fn vacuum(&self) {
        for catalog in ["class", "attribute", "namespace", "description", "index", "constraint", "depend", "shdepend"] {
            self.raw.run(&format!("vacuum (analyze) pg_catalog.pg_{catalog}")).await;
        }
        self.raw.run("vacuum (analyze) public.organizations").await;
    }

    async fn create(&self, slugs: &[String], workers: usize) -> f64 {
        let (operator, db) = (self.operator().await, Db::connect(self.database.config()).await.expect("connect"));
        let db: Db = db;
        let tenants: Vec<NewTenant> =
            slugs.iter().map(|slug| NewTenant::from(slug.parse::<cgk::TenantSlug>().expect("a slug"))).collect();
        let options = CreateManyOptions::default().jobs(NonZeroUsize::new(workers).expect("some"));
        let files = self.files.load();
        let began = Instant::now();
        let report =
            lifecycle::create_many(&operator, &db, &files, &tenants, &options, &mut Silent).await.expect("tenants");
        let elapsed = began.elapsed().as_secs_f64();
        assert_eq!(report.count(Creation::New), slugs.len(), "{report:?}");
        elapsed
    }

    async fn nothing_to_do(&self, size: usize) {
        let migrations = self.files.load();
        let proxy = Proxy::to(&self.database).await;
        let far = Operator::connect(proxy.config()).await.expect("connect");
        let _ = proxy.take();
        run(&far, &migrations, 1).await;
        let trips = round_trips(&proxy.take());
        let operator = self.operator().await;
        let memory = Memory::start();
        let mut times = Vec::new();
        for _ in 0..7 {
            let began = Instant::now();
            assert_eq!(run(&operator, &migrations, 1).await, 0);
            times.push(began.elapsed().as_secs_f64());
        }
        let ours = median(times);
        let each = self.refinery(None).await;
        println!("nothing to do: {:.1} ms, {trips} round trips, {} of memory", ours * 1e3, memory.grown());
        println!(
            "  refinery's runner for each schema: {:.0} ms ({:.0} ×), {} round trips",
            each * size as f64 * 1e3,
            each * size as f64 / ours,
            7 * size
        );
        if let Some(each) = self.dbmate(None) {
            println!(
                "  one dbmate process for each schema: {:.0} s ({:.0} ×)",
                each * size as f64,
                each * size as f64 / ours
            );
        }
    }

    /// What a comparison costs: of one tenant, of all for the first time, and of all where nothing has changed since.
    async fn drift(&self, size: usize) {
        let (migrations, operator) = (self.files.load(), self.operator().await);
        // What the migrations make is on record before anything is compared.
        migrate::rehearse(&operator, &migrations).await.expect("a rehearsal");
        let one = Scope::Only(vec![self.slugs[size / 2].parse().expect("a slug")]);
        let timed = async |scope: &Scope, schemas: usize| {
            let began = Instant::now();
            let report = drift::verify(&operator, &migrations, scope).await.expect("a report");
            let time = began.elapsed().as_secs_f64();
            assert_eq!(report.schemas().filter(|schema| schema.is_clean()).count(), schemas, "{:?}", report.rights);
            time
        };
        let (mut ones, mut again) = (Vec::new(), Vec::new());
        for _ in 0..7 {
            ones.push(timed(&one, 1).await);
        }
        self.raw.run("truncate public.cgk_stamps").await;
        let first = timed(&Scope::Everything, size + 1).await;
        for _ in 0..3 {
            again.push(timed(&Scope::Everything, size + 1).await);
        }
        println!(
            "drift: {:.0} ms for one tenant; {first:.1} s for all the first time, {:.1} s where nothing has changed",
            median(ones) * 1e3,
            median(again)
        );
    }

    /// A migration over the whole fleet, again and again, by every variant in turn.
    async fn migration(&mut self, title: &str, size: usize, rounds: usize, sql: impl Fn(usize) -> String) {
        let mut floor: [Vec<f64>; 2] = Default::default();
        let mut ours: [Vec<f64>; 2] = Default::default();
        let mut ratios: [Vec<f64>; 2] = Default::default();
        let mut memory = String::new();
        for round in 0..=rounds {
            for (index, workers) in WORKERS.into_iter().enumerate() {
                let text = sql(self.next());
                let low = self
                    .floor(workers, |slug| format!("set local search_path to \"tenant_{slug}\", public; {text};"))
                    .await;
                let (number, operator) = (self.next(), self.operator().await);
                self.files.tenant(&format!("{number:03}_bench.sql"), &format!("{};\n", sql(number)));
                let migrations = self.files.load();
                let watch = Memory::start();
                let began = Instant::now();
                assert_eq!(run(&operator, &migrations, workers).await, size);
                let time = began.elapsed().as_secs_f64();
                memory = watch.grown();
                // The first round warms caches.
                if round > 0 {
                    floor[index].push(low);
                    ours[index].push(time);
                    ratios[index].push(time / low);
                }
            }
        }
        let per = |samples: &[f64]| median(samples.to_vec()) / size as f64 * 1e3;
        println!("\n{title}, ms a tenant (memory of the last run: {memory})\n");
        println!("| | 1 connection | 4 connections | gain |\n|---|---|---|---|");
        println!(
            "| the floor | {:.2} | {:.2} | {:.2} × |",
            per(&floor[0]),
            per(&floor[1]),
            per(&floor[0]) / per(&floor[1])
        );
        println!(
            "| cgk | {:.2} ({:.2} ×) | {:.2} ({:.2} ×) | {:.2} × |",
            per(&ours[0]),
            median(ratios[0].clone()),
            per(&ours[1]),
            median(ratios[1].clone()),
            per(&ours[0]) / per(&ours[1])
        );
        let number = self.next();
        let each = self.refinery(Some(sql(number))).await;
        println!("| refinery for each schema | {:.2} ({:.1} ×) | | |", each * 1e3, each * 1e3 / per(&floor[0]));
        let number = self.next();
        if let Some(each) = self.dbmate(Some(sql(number))) {
            println!(
                "| one dbmate process for each schema | {:.2} ({:.1} ×) | | |",
                each * 1e3,
                each * 1e3 / per(&floor[0])
            );
        }
        self.raw.run("vacuum (analyze) pg_attribute").await;
    }

    async fn provisioning(&mut self, size: usize) {
        let mut floor: [Vec<f64>; 2] = Default::default();
        let mut ours: [Vec<f64>; 2] = Default::default();
        for round in 0..4 {
            for (index, workers) in WORKERS.into_iter().enumerate() {
                let slugs = self.fresh();
                let recipe = &self.recipe;
                let low = self.over(workers, &slugs, |slug| recipe.message_for(slug)).await;
                let slugs = self.fresh();
                let time = self.create(&slugs, workers).await;
                if round > 0 {
                    floor[index].push(low);
                    ours[index].push(time);
                }
            }
        }
        let per = |samples: &[f64]| median(samples.to_vec()) / MADE as f64 * 1e3;
        println!(
            "\nmaking a tenant beside {size} others, ms\n\n| | 1 connection | 4 connections | gain |\n|---|---|---|---|"
        );
        println!(
            "| the floor | {:.1} | {:.1} | {:.2} × |",
            per(&floor[0]),
            per(&floor[1]),
            per(&floor[0]) / per(&floor[1])
        );
        println!(
            "| cgk | {:.1} ({:.2} ×) | {:.1} ({:.2} ×) | {:.2} × |",
            per(&ours[0]),
            per(&ours[0]) / per(&floor[0]),
            per(&ours[1]),
            per(&ours[1]) / per(&floor[1]),
            per(&ours[0]) / per(&ours[1])
        );
        for number in 0..self.made {
            let slug = format!("made{number}");
            let remove =
                format!("drop schema tenant_{slug} cascade; delete from public.organizations where slug = '{slug}'");
            self.raw.run(&remove).await;
        }
        self.vacuum().await;
    }

    fn next(&mut self) -> usize {
        self.next += 1;
        self.next
    }

    fn fresh(&mut self) -> Vec<String> {
        self.made += MADE;
        (self.made - MADE..self.made).map(|number| format!("made{number}")).collect()
    }

    async fn floor(&self, workers: usize, message: impl Fn(&str) -> String) -> f64 {
        self.over(workers, &self.slugs, message).await
    }

    /// One message a tenant, on so many connections.
    async fn over(&self, workers: usize, slugs: &[String], message: impl Fn(&str) -> String) -> f64 {
        let messages: Arc<Vec<String>> = Arc::new(slugs.iter().map(|slug| message(slug)).collect());
        let taken = Arc::new(AtomicUsize::new(0));
        let mut connections = Vec::new();
        for _ in 0..workers {
            connections.push(Raw::on(&self.database).await);
        }
        let began = Instant::now();
        let tasks: Vec<_> = connections
            .into_iter()
            .map(|raw| {
                let (messages, taken) = (Arc::clone(&messages), Arc::clone(&taken));
                tokio::spawn(async move {
                    while let Some(message) = messages.get(taken.fetch_add(1, Ordering::Relaxed)) {
                        raw.run(message).await;
                    }
                })
            })
            .collect();
        for task in tasks {
            task.await.expect("a worker");
        }
        began.elapsed().as_secs_f64()
    }

    /// refinery's own runner in each schema of a sample, with one migration or none; seconds for each.
    async fn refinery(&self, sql: Option<String>) -> f64 {
        let sample = &self.slugs[..SAMPLED.min(self.slugs.len())];
        let number = self.next;
        let migrations: Vec<refinery::Migration> = sql
            .iter()
            .map(|sql| refinery::Migration::unapplied(&format!("V{number}__bench"), sql).expect("a migration"))
            .collect();
        let (mut client, connection) =
            tokio_postgres::connect(&url(&self.database, None), tokio_postgres::NoTls).await.expect("connect");
        tokio::spawn(connection);
        let mut took = 0.0;
        // The table that says what is applied is made before the clock runs, as on every run but the first.
        for timed in [false, true] {
            let began = Instant::now();
            for slug in sample {
                let path = format!("set search_path to \"tenant_{slug}\", public");
                client.execute(&path, &[]).await.expect("a path");
                let wanted = if timed { migrations.as_slice() } else { &[] };
                let mut runner = refinery::Runner::new(wanted).set_abort_missing(false);
                runner.set_migration_table_name(format!("tenant_{slug}.refinery_schema_history"));
                runner.run_async(&mut client).await.expect("a run");
            }
            took = began.elapsed().as_secs_f64() / sample.len() as f64;
        }
        took
    }

    /// One process in each schema of a sample, with one migration or none; seconds for each.
    fn dbmate(&self, sql: Option<String>) -> Option<f64> {
        const PROCESSES: usize = 20;
        let program = std::env::var("CGK_BENCH_DBMATE").ok()?;
        let folder = self.files.path().join("dbmate");
        std::fs::create_dir_all(&folder).expect("a folder");
        let stamp = 20_260_101_000_000_u64 + self.next as u64;
        if let Some(sql) = sql {
            std::fs::write(
                folder.join(format!("{stamp}_bench.sql")),
                format!("-- migrate:up\n{sql};\n-- migrate:down\n"),
            )
            .expect("a file");
        } else if std::fs::read_dir(&folder).expect("a folder").next().is_none() {
            std::fs::write(folder.join("20250101000000_first.sql"), "-- migrate:up\nselect 1;\n-- migrate:down\n")
                .expect("a file");
        }
        let host = self.database.config().target().hosts()[0].clone();
        let cgk::config::TargetHost::Socket { directory, port } = host else { return None };
        let name = self.database.name();
        let mut took = 0.0;
        for timed in [false, true] {
            let began = Instant::now();
            for slug in self.slugs.iter().take(PROCESSES) {
                let address = format!(
                    "postgres://postgres@:{port}/{name}?host={directory}&sslmode=disable&search_path=tenant_{slug}"
                );
                // Once without the newest migration, so that its table is there.
                let newest = folder.join(format!("{stamp}_bench.sql"));
                let aside = folder.with_extension("aside");
                if !timed && newest.exists() {
                    std::fs::rename(&newest, &aside).expect("aside");
                }
                let output = Command::new(&program)
                    .args(["--no-dump-schema", "--migrations-table", "dbmate_migrations", "--migrations-dir"])
                    .arg(&folder)
                    .arg("migrate")
                    .env("DATABASE_URL", address)
                    .output()
                    .expect("dbmate");
                assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
                if aside.exists() {
                    std::fs::rename(&aside, &newest).expect("back");
                }
            }
            took = began.elapsed().as_secs_f64() / PROCESSES.min(self.slugs.len()) as f64;
        }
        Some(took)
    }
}

impl Recipe {
    async fn record(database: &TestDatabase, raw: &Raw) -> Self {
        let proxy = Proxy::to(database).await;
        let (operator, db) = (
            Operator::connect(proxy.config()).await.expect("connect"),
            Db::connect(proxy.config()).await.expect("connect"),
        );
        let db: Db = db;
        let _ = proxy.take();
        let slug = RECORDED.parse().expect("a slug");
        lifecycle::create(&operator, &db, &Migrations::bundled(), &slug, &Default::default()).await.expect("a tenant");
        let seen = proxy.take();
        let message = seen.iter().find(|message| message.kind == b'Q' && message.text.contains("create schema"));
        let message = message.expect("a message that makes the schema").text.trim_end_matches('\0').to_owned();
        let id: uuid::Uuid = raw.one(&format!("select id from public.organizations where slug = '{RECORDED}'")).await;
        let remove =
            "drop schema tenant_{RECORDED} cascade; delete from public.organizations where slug = '{RECORDED}'";
        raw.run(&remove.replace("{RECORDED}", RECORDED)).await;
        // Without what only cgk writes: marks, locks, checks, the ledger and its comment.
        Self { message: without_bookkeeping(&message), id: id.to_string() }
    }

    fn message_for(&self, slug: &str) -> String {
        self.message.replace(RECORDED, slug).replace(&self.id, &uuid::Uuid::new_v4().to_string())
    }
}

/// The schema, the role, the grants and the files' own statements.
fn without_bookkeeping(message: &str) -> String {
    let mut kept = String::new();
    let (mut ledger, mut record) = (false, false);
    for line in message.lines() {
        let start = line.trim_start();
        ledger |= start.starts_with("create table") && start.contains("schema_migrations");
        record |= start.starts_with("insert into public.cgk_migration_files");
        let own = ledger
            || record
            || start.starts_with("select (case when")
            || start.starts_with("declare cgk_transaction")
            || start.starts_with("close cgk_transaction")
            || start.starts_with("close all;")
            || start.starts_with("set constraints all immediate; close all;")
            || start.starts_with("select 'cgk:")
            || start.starts_with("select pg_catalog.pg_advisory")
            || start.starts_with("select 1 / (case")
            || start.starts_with("reset all")
            || start.starts_with("set transaction")
            || (start.starts_with("select pg_catalog.set_config('client_connection"))
            || ["insert into", "comment on table", "revoke all on"]
                .iter()
                .any(|word| start.starts_with(word) && start.contains("schema_migrations"));
        if own {
            // The path is set in the marks, and the files need it.
            if start.starts_with("select 'cgk:") && start.contains("search_path") {
                kept.push_str(&format!("set local search_path to \"tenant_{RECORDED}\", public;\n"));
            }
        } else {
            kept.push_str(line);
            kept.push('\n');
        }
        ledger &= line.trim() != ");";
        record &= !line.trim_end().ends_with(';');
    }
    kept
}

fn bundled() -> Files {
    let files = Files::empty();
    let bundled = Migrations::bundled();
    for set in [migrate::Set::Public, migrate::Set::Tenant] {
        for file in bundled.set(set).files() {
            let name = file.path().file_name().expect("a file").to_str().expect("a name");
            if set == migrate::Set::Public {
                files.public(name, file.sql())
            } else {
                files.tenant(name, file.sql())
            };
        }
    }
    files
}

async fn run(operator: &Operator, migrations: &Migrations, workers: usize) -> usize {
    let planned = migrate::plan_fleet(operator, migrations, Scope::Everything, Target::Head).await.expect("a plan");
    let options = RunOptions::default().jobs(NonZeroUsize::new(workers).expect("some"));
    let report = migrate::run_with(operator, migrations, planned, &options, &mut Silent).await.expect("a run");
    assert_eq!(report.failed(), 0, "{report:?}");
    report.migrated()
}

/// How much more memory this process needed at most.
struct Memory(usize);

impl Memory {
    fn start() -> Self {
        // Linux forgets the peak when it is told so; elsewhere nothing is measured.
        let _ = std::fs::write("/proc/self/clear_refs", "5");
        Self(kilobytes("VmRSS:").unwrap_or_default())
    }

    fn grown(&self) -> String {
        match kilobytes("VmHWM:") {
            Some(peak) => format!("{:.1} MB more", peak.saturating_sub(self.0) as f64 / 1024.0),
            None => "an unknown amount".into(),
        }
    }
}

fn kilobytes(key: &str) -> Option<usize> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    status.lines().find_map(|line| line.strip_prefix(key))?.split_whitespace().next()?.parse().ok()
}

fn median(mut samples: Vec<f64>) -> f64 {
    samples.sort_by(f64::total_cmp);
    samples[samples.len() / 2]
}
