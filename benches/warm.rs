//! What creating a tenant costs with and without a schema that is ready (`cgk tenant:warm`), in the same run on the
//! same server.
//!
//! `cargo bench --bench warm`. Every creation is one call of `lifecycle::create`, with all its checks, on a connection
//! that is open; both kinds take turns in small blocks, and every figure is a median. A login of a service is admitted,
//! as in production. The server is on this machine and does not write to disk. `CGK_BENCH_ROUNDS` sets the number of
//! blocks. Not a test: nothing is asserted.

#![expect(clippy::print_stdout, reason = "a benchmark prints its table")]

use cgk::{
    Db, Operator,
    lifecycle::{self, CreateOptions, WarmCount},
    login::{self, LoginOptions},
    migrate::{Migrations, Set, Silent},
    setup,
    testing::TestServer,
};
use std::{
    fmt::Write as _,
    time::{Duration, Instant},
};

/// How many tenants one block creates.
const BLOCK: usize = 8;

/// The bundled files, and a file with so many further tables.
fn migrations(tables: usize) -> Migrations {
    if tables == 0 {
        return Migrations::bundled();
    }
    let mut sql = String::new();
    for number in 0..tables {
        let _ = writeln!(
            sql,
            "create table t{number} (id bigint generated always as identity primary key, name text not null, at timestamptz);
             create index on t{number} (name);"
        );
    }
    Migrations::bundled().with_file(Set::Tenant, "900_tables.sql", sql).expect("the file is valid")
}

struct Bench {
    operator: Operator,
    db: Db,
    migrations: Migrations,
    number: usize,
}

impl Bench {
    /// Creates a block of tenants and returns how long each took.
    async fn block(&mut self) -> Vec<Duration> {
        let mut took = Vec::with_capacity(BLOCK);
        for _ in 0..BLOCK {
            self.number += 1;
            let slug = format!("t{}", self.number).parse().expect("a slug");
            let began = Instant::now();
            let options = CreateOptions::default();
            lifecycle::create(&self.operator, &self.db, &self.migrations, &slug, &options).await.expect("create");
            took.push(began.elapsed());
        }
        took
    }
}

fn median(mut took: Vec<Duration>) -> f64 {
    took.sort_unstable();
    took[took.len() / 2].as_secs_f64() * 1000.0
}

async fn measure(tables: usize, rounds: usize) {
    let database = TestServer::shared().database().await.expect("a database");
    let migrations = migrations(tables);
    let operator = Operator::connect(database.config()).await.expect("connect");
    setup::setup(&operator, &migrations, &mut Silent).await.expect("setup");
    let name = format!("bench_{}_{tables}", std::process::id()).parse().expect("a name");
    login::admit(&operator, &name, &LoginOptions::default()).await.expect("admit");
    let db = Db::connect(database.config()).await.expect("connect");
    let mut bench = Bench { operator, db, migrations, number: 0 };
    // The first ones fill the caches of both sessions and rehearse the files.
    bench.block().await;
    let mut without = Vec::new();
    for _ in 0..rounds {
        without.extend(bench.block().await);
    }
    let (mut empty, mut ready, mut filling) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..rounds {
        let began = Instant::now();
        lifecycle::warm(&bench.operator, &bench.migrations, WarmCount::Exactly(BLOCK)).await.expect("warm");
        filling.push(began.elapsed() / u32::try_from(BLOCK).expect("it is small"));
        ready.extend(bench.block().await);
        empty.extend(bench.block().await);
    }
    let (without, empty, ready, filling) = (median(without), median(empty), median(ready), median(filling));
    println!(
        "| {tables:>6} | {without:>10.1} ms | {empty:>10.1} ms | {ready:>8.1} ms | {:>5.2} | {filling:>8.1} ms |",
        ready / empty
    );
}

#[tokio::main]
async fn main() {
    let rounds = std::env::var("CGK_BENCH_ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(6);
    println!("| tables | no cgk_warm   | none is ready | taken       | ratio | to make one |");
    println!("|-------:|--------------:|--------------:|------------:|------:|------------:|");
    for tables in [0, 40] {
        measure(tables, rounds).await;
    }
}
