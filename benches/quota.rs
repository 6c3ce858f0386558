//! What it costs to consume quota, against the same SQL by hand, in the same run on the same server.
//!
//! `cargo bench --bench quota`. 1 and 16 callers take of one organization. By hand is what an application writes without cgk for the same
//! promise, on a connection of its own, prepared: BEGIN, the lock of the row that says what is left, the insert of the key, the update,
//! COMMIT; and, as the least that is possible, the call of the function alone. The variants take turns in small blocks, and every
//! figure is a median. `CGK_BENCH_ROUNDS` sets the number of blocks. Not a test: nothing is asserted.

#![expect(clippy::print_stdout, reason = "a benchmark prints its table")]
#![expect(clippy::disallowed_methods, reason = "what is written by hand here is what cgk is compared with")]

use cgk::{
    Db, OrganizationId,
    platform::{NewGrant, Quota, QuotaKind},
    testing::{TestDatabase, TestServer},
};
use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};
use tokio_postgres::{Client, NoTls, Statement};

const WINDOW: Duration = Duration::from_millis(400);

#[derive(Clone, Copy)]
enum Work {
    Hand,
    Function,
    Cgk,
}

const WORKS: [(Work, &str); 3] = [
    (Work::Hand, "by hand: BEGIN, lock, insert, update, COMMIT, prepared"),
    (Work::Function, "the function alone, prepared"),
    (Work::Cgk, "Quota::consume"),
];

struct Hand {
    client: Client,
    lock: Statement,
    insert: Statement,
    update: Statement,
    function: Statement,
}

impl Hand {
    async fn connect(url: &str) -> Self {
        let (client, connection) = tokio_postgres::connect(url, NoTls).await.expect("connect");
        tokio::spawn(connection);
        let prepare = async |sql: &str| client.prepare(sql).await.expect("prepare");
        Self {
            lock: prepare("select id from grants where organization_id = $1 and kind = 'runs' and balance >= $2 for update").await,
            insert: prepare(
                "insert into quota_consumptions (organization_id, idempotency_key, kind, amount) values ($1, $2, 'runs', $3)",
            )
            .await,
            update: prepare("update grants set spent = spent + $2 where id = $1").await,
            function: prepare("select outcome, remaining from cgk_quota_consume($1, 'runs', $2, $3)").await,
            client,
        }
    }

    async fn consume(&self, organization: OrganizationId, key: &str) {
        self.client.batch_execute("begin").await.expect("begin");
        let row = self.client.query_one(&self.lock, &[&organization, &1_i64]).await.expect("lock");
        let grant: uuid::Uuid = row.get(0);
        self.client.execute(&self.insert, &[&organization, &key, &1_i64]).await.expect("insert");
        self.client.execute(&self.update, &[&grant, &1_i64]).await.expect("update");
        self.client.batch_execute("commit").await.expect("commit");
    }

    async fn call(&self, organization: OrganizationId, key: &str) {
        let row = self.client.query_one(&self.function, &[&organization, &1_i64, &key]).await.expect("call");
        assert_eq!(row.get::<_, &str>(0), "consumed");
    }
}

struct Callers {
    hands: Vec<Hand>,
    quota: Quota,
    organization: OrganizationId,
    number: AtomicU64,
}

impl Callers {
    async fn call(&self, work: Work, caller: usize) {
        let key = format!("run:{}", self.number.fetch_add(1, Ordering::Relaxed));
        match work {
            Work::Hand => self.hands[caller].consume(self.organization, &key).await,
            Work::Function => self.hands[caller].call(self.organization, &key).await,
            Work::Cgk => {
                self.quota.consume(self.organization, &QuotaKind::RUNS, 1, &key).await.expect("consume");
            }
        }
    }

    /// Calls a second, of so many callers at once.
    async fn rate(self: &Arc<Self>, work: Work, callers: usize) -> f64 {
        let began = Instant::now();
        let tasks: Vec<_> = (0..callers)
            .map(|caller| {
                let this = Arc::clone(self);
                tokio::spawn(async move {
                    let mut calls = 0_u32;
                    while began.elapsed() < WINDOW {
                        this.call(work, caller).await;
                        calls += 1;
                    }
                    calls
                })
            })
            .collect();
        let mut calls = 0;
        for task in tasks {
            calls += task.await.expect("a caller");
        }
        f64::from(calls) / began.elapsed().as_secs_f64()
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

async fn callers(database: &TestDatabase, count: usize) -> Callers {
    let local = TestServer::shared().local().expect("a private server");
    let url = local.url(database.name());
    let mut hands = Vec::new();
    for _ in 0..count {
        hands.push(Hand::connect(&url).await);
    }
    let organization = hands[0].client.query_one("select id from organizations where slug = 'acme'", &[]).await;
    let organization: OrganizationId = organization.expect("acme").get(0);
    let db: Db = Db::connect(&database.config().clone().with_pool_size_max(count)).await.expect("connect");
    let quota = Quota::new(&db);
    quota.grant(organization, &NewGrant::purchase(QuotaKind::RUNS, 1_000_000_000)).await.expect("a grant");
    Callers { hands, quota, organization, number: AtomicU64::new(0) }
}

#[tokio::main]
async fn main() {
    let rounds: usize = std::env::var("CGK_BENCH_ROUNDS").ok().and_then(|n| n.parse().ok()).unwrap_or(20);
    let database = TestServer::shared().set_up_database().await.expect("a database");
    database.with_tenants(&["acme"]).await.expect("a tenant");
    let all = Arc::new(callers(&database, 16).await);
    for count in [1, 16] {
        let mut samples: [Vec<f64>; WORKS.len()] = Default::default();
        for round in 0..=rounds {
            for ((work, _), samples) in WORKS.iter().zip(&mut samples) {
                let rate = all.rate(*work, count).await;
                if round > 0 {
                    samples.push(rate);
                }
            }
        }
        println!("\n### {count} callers of one organization\n| variant | calls/s | ratio to by hand |\n|---|---|---|");
        for ((_, name), own) in WORKS.iter().zip(&samples) {
            let ratio = median(own.iter().zip(&samples[0]).map(|(own, hand)| own / hand).collect());
            println!("| {name} | {:.0} | {ratio:.2} |", median(own.clone()));
        }
    }
}
