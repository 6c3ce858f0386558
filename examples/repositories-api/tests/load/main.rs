//! Many clients of 200 tenants, some of whom go away in the middle of a request, while the database server crashes and Redis is
//! killed. Every answer is read, and compared with who has asked.
//!
//! ```sh
//! cargo test --test load -- [--requests 20000] [--tenants 200] [--seed 1]
//! ```
//!
//! Needs redis-server. Exits with 1 if one answer holds anything of another tenant, or is neither right nor a refusal that the fault
//! of the moment explains.

mod client;
mod redis;
mod tenants;

use anyhow::{Context as _, ensure};
use cgk::{Config, Db, testing::LocalServer};
use client::{Client, Tally};
use redis::Redis;
use repositories_api::{app::App, connections, demo, routes, settings::Settings};
use std::{
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::net::TcpListener;

const CLIENTS: usize = 16;

/// What the command line says.
struct Arguments {
    requests: usize,
    tenants: usize,
    seed: u64,
}

impl Arguments {
    fn read() -> anyhow::Result<Self> {
        let mut read = Self { requests: 20_000, tenants: 200, seed: uuid::Uuid::now_v7().as_u64_pair().1 };
        let words: Vec<String> = std::env::args().skip(1).collect();
        for pair in words.chunks(2) {
            let [name, value] = pair else { anyhow::bail!("{pair:?} has no value") };
            match name.as_str() {
                "--requests" => read.requests = value.parse()?,
                "--tenants" => read.tenants = value.parse()?,
                "--seed" => read.seed = value.parse()?,
                other => anyhow::bail!("{other} is no argument"),
            }
        }
        Ok(read)
    }
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments = Arguments::read()?;
    println!("seed {}", arguments.seed);
    let server = tokio::task::spawn_blocking(|| LocalServer::start_default(&|_| {})).await??;
    let operator = Config::from_url(&server.url("postgres"))?;
    let service = Config::from_url(&demo::prepare(&operator, "repositories_api").await?)?;
    let mut redis = Redis::start().await?;
    let app = App::new(Db::connect(&service).await?).with_redis(&redis.url())?;
    let tenants = tenants::create(&operator, &app, arguments.tenants).await?;
    let settings = Settings::default();
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let port = listener.local_addr()?.port();
    let router = routes::router(&app, &settings)?;
    tokio::spawn(async move {
        connections::serve(listener, router, settings.client_time_max, std::future::pending()).await
    });

    let asked = Arc::new(AtomicUsize::new(0));
    let clients = (0..CLIENTS as u64).map(|number| {
        let client = Client::new(port, tenants.clone(), arguments.seed.wrapping_add(number));
        tokio::spawn(client.run(Arc::clone(&asked), arguments.requests))
    });
    let clients: Vec<_> = clients.collect();
    let began = Instant::now();

    until(&asked, arguments.requests / 4).await;
    let recovery = crash(&operator, &app).await?;
    until(&asked, arguments.requests / 2).await;
    redis.kill();
    until(&asked, arguments.requests * 3 / 4).await;
    redis.listen().await?;

    let mut tally = Tally::default();
    for client in clients {
        tally.add(client.await?);
    }
    let seconds = began.elapsed().as_secs_f64();
    println!("{tally}");
    println!(
        "{:.0} requests a second; the first query {recovery:.2?} after the crash of the server",
        tally.total() as f64 / seconds
    );
    let open = open_transactions(&operator).await?;
    println!("transactions that are open at the end: {open}");
    ensure!(tally.foreign == 0, "an answer holds something of another tenant");
    ensure!(tally.wrong.is_empty(), "wrong answers: {:#?}", tally.wrong);
    ensure!(tally.right > arguments.requests / 2 && tally.dropped > 0 && tally.refused > 0, "the run tries too little");
    ensure!(open == 0, "{open} transactions are left open");
    Ok(())
}

async fn until(asked: &AtomicUsize, number: usize) {
    while asked.load(Ordering::Relaxed) < number {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Kills a server process, upon which PostgreSQL ends all others and starts again from its log; how long until it answers.
async fn crash(operator: &Config, app: &App) -> anyhow::Result<Duration> {
    let victim = Db::connect(operator).await?;
    let pid: i32 = victim.platform().query_one("select pg_backend_pid()", &[]).await?.try_get(0)?;
    ensure!(Command::new("kill").args(["-9", &pid.to_string()]).status()?.success(), "kill -9 {pid}");
    let began = Instant::now();
    while app.db.ping().await.is_err() {
        ensure!(began.elapsed() < Duration::from_secs(120), "the server does not come back");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    Ok(began.elapsed())
}

/// Waits until what was dropped is rolled back.
async fn open_transactions(operator: &Config) -> anyhow::Result<i64> {
    let watch = Db::connect(operator).await?;
    let open = "select count(*) from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()
                   and xact_start is not null and backend_type = 'client backend'";
    let began = Instant::now();
    loop {
        let count: i64 = watch.platform().query_one(open, &[]).await.context("the observer")?.try_get(0)?;
        if count == 0 || began.elapsed() > Duration::from_secs(30) {
            return Ok(count);
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
