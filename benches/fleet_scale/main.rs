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

mod baselines;
mod measured;
mod memory;
mod recipe;
#[allow(dead_code, reason = "the tests use the rest")]
#[path = "../../tests/it/sandbox.rs"]
mod sandbox;

use cgk::{
    Db, Operator,
    lifecycle::{self, CreateManyOptions, Creation, NewTenant},
    migrate::{self, Migrations, RunOptions, Scope, Silent, Target},
    testing::{TestDatabase, TestServer},
};
use recipe::Recipe;
use sandbox::{Files, Raw};
use std::{num::NonZeroUsize, time::Instant};

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

    fn next(&mut self) -> usize {
        self.next += 1;
        self.next
    }

    fn fresh(&mut self) -> Vec<String> {
        self.made += MADE;
        (self.made - MADE..self.made).map(|number| format!("made{number}")).collect()
    }
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

fn median(mut samples: Vec<f64>) -> f64 {
    samples.sort_by(f64::total_cmp);
    samples[samples.len() / 2]
}
