//! Cached statements on connections that change their tenant with nearly every call, while the tables change as well: each
//! call reads its own tenant's row (threats T32–T36).

use crate::{
    sandbox::Files,
    stage::{connect, dice, long, report, run, slug},
    support::{patience::patient, score},
};
use cgk::{
    Db, Error, TenantSlug,
    config::PoolSettings,
    lifecycle::{self, CreateManyOptions, NewTenant},
    migrate::Silent,
    testing::{TestDatabase, TestServer},
};
use rand::{RngExt, SeedableRng, rngs::StdRng};
use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};
use tokio_postgres::{Client, Row};

const TENANTS: usize = 50;
const CONNECTIONS: usize = 3;
const TASKS: usize = 6;
/// The tables' shape changes this many times in a run.
const MIGRATIONS: usize = 8;
/// A call that meets a statement older than its table is made again; each connection has to learn it once per statement.
const TRIES_MAX: usize = 20;

/// Columns by name, in tables whose columns stand in another order from tenant to tenant.
const BY_NAME: &str = "select tag, pg_backend_pid() as pid from tags where n = $1";
/// All columns, in tables that a migration changes under way.
const ALL: &str = "select *, pg_backend_pid() as pid from shapes where n = $1";

struct Fleet {
    database: TestDatabase,
    watch: Client,
    tenants: Vec<TenantSlug>,
}

impl Fleet {
    async fn set() -> Self {
        let database = TestServer::shared().set_up_database().await.unwrap();
        let tenants: Vec<TenantSlug> = (0..TENANTS).map(|n| slug(&format!("t{n:02}"))).collect();
        let (operator, db) = (database.operator().await.unwrap(), database.db().await.unwrap());
        let files = Files::of_tenants(&[("001_first.sql", "create table first ()")]);
        let wanted: Vec<NewTenant> = tenants.iter().cloned().map(NewTenant::from).collect();
        let options = CreateManyOptions::default();
        let made = lifecycle::create_many(&operator, &db, &files.load(), &wanted, &options, &mut Silent).await.unwrap();
        assert_eq!(made.failed(), 0, "{made:?}");
        let watch = connect(database.name()).await;
        let mut sql = String::from(
            "create table public.tags (tag text, n int); insert into public.tags values ('decoy', 0);
             create table public.shapes (tag text, n int); insert into public.shapes values ('decoy', 0);
             grant all on public.tags, public.shapes to public;",
        );
        for (number, tenant) in tenants.iter().enumerate() {
            let columns = ["tag text, n int", "n int, tag text", "n int, gone text, tag text"][number % 3];
            sql += &format!(
                "create table tenant_{tenant}.tags ({columns}); insert into tenant_{tenant}.tags (tag, n) values ('{tenant}', 0);
                 create table tenant_{tenant}.shapes (n int, tag text);
                 insert into tenant_{tenant}.shapes (tag, n) values ('{tenant}', 0);"
            );
        }
        run(&watch, &sql).await.unwrap();
        Self { database, watch, tenants }
    }

    /// Changes the shape of a table in every tenant, each in a transaction of its own, so that shapes differ meanwhile.
    async fn migrate(&self, number: usize) {
        for tenant in &self.tenants {
            let change = if number.is_multiple_of(2) { "add column extra int" } else { "drop column extra" };
            run(&self.watch, &format!("alter table tenant_{tenant}.shapes {change}")).await.unwrap();
        }
    }
}

/// What the calls of all tasks came to.
#[derive(Default)]
struct Tally {
    calls: AtomicUsize,
    switches: AtomicUsize,
    stale: AtomicUsize,
    wrong: AtomicUsize,
    /// The tenant that a backend served last.
    last: Mutex<HashMap<i32, usize>>,
}

impl Tally {
    fn count(&self, row: &Row, number: usize, tenant: &TenantSlug) {
        let (tag, pid): (&str, i32) = (row.get("tag"), row.get("pid"));
        self.wrong.fetch_add(usize::from(tag != tenant.as_str()), Ordering::Relaxed);
        let before = self.last.lock().unwrap().insert(pid, number);
        self.switches.fetch_add(usize::from(before.is_some_and(|before| before != number)), Ordering::Relaxed);
        self.calls.fetch_add(1, Ordering::Relaxed);
    }
}

/// One call in one of the ways there are, made again while its statement is older than the table.
async fn call(db: &Db, tenant: &TenantSlug, way: u32, tally: &Tally) -> Vec<Row> {
    for _ in 0..TRIES_MAX {
        let read = match way {
            0..=3 => db.tenant(tenant).query(BY_NAME, &[&0_i32]).await,
            4 | 5 => db.tenant(tenant).query(ALL, &[&0_i32]).await,
            6 | 7 => db.with_tenant(tenant, async |tx| tx.query(BY_NAME, &[&0_i32]).await).await,
            8 => db.with_tenant(tenant, async |tx| tx.query(ALL, &[&0_i32]).await).await,
            _ => {
                db.with_tenant(tenant, async |tx| {
                    let (some, all) = (tx.query(BY_NAME, &[&0_i32]).await?, tx.query(ALL, &[&0_i32]).await?);
                    Ok(some.into_iter().chain(all).collect())
                })
                .await
            }
        };
        match read {
            Ok(rows) => return rows,
            Err(error) if is_stale(&error) => drop(tally.stale.fetch_add(1, Ordering::Relaxed)),
            Err(error) => panic!("{tenant}: {error:?}"),
        }
    }
    panic!("{tenant}: its statement is older than the table again and again");
}

fn is_stale(error: &Error) -> bool {
    error.sqlstate().is_some_and(|state| state.code() == "0A000")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_call_reads_its_own_tenant_however_often_the_connection_changes_it() {
    let fleet = Arc::new(Fleet::set().await);
    let config = patient(fleet.database.config());
    let pool = PoolSettings { size_max: CONNECTIONS, ..config.pool().clone() };
    let db: Db = Db::connect(&config.with_pool(pool)).await.unwrap();
    let wanted = 20_000 * long().unwrap_or(1);
    let (tally, mut seeds) = (Arc::new(Tally::default()), dice());
    let tasks: Vec<_> = (0..TASKS)
        .map(|_| {
            let (db, fleet, tally) = (db.clone(), Arc::clone(&fleet), Arc::clone(&tally));
            let mut dice = StdRng::seed_from_u64(seeds.random());
            tokio::spawn(async move {
                while tally.switches.load(Ordering::Relaxed) < wanted {
                    let (number, way) = (dice.random_range(0..TENANTS), dice.random_range(0..10));
                    let tenant = &fleet.tenants[number];
                    let rows = call(&db, tenant, way, &tally).await;
                    assert_eq!(rows.len(), if way == 9 { 2 } else { 1 }, "{tenant}");
                    rows.iter().for_each(|row| tally.count(row, number, tenant));
                }
            })
        })
        .collect();
    for number in 0..MIGRATIONS {
        // Evenly over the run; a task that panics ends it.
        let due = wanted * (number + 1) / (MIGRATIONS + 1);
        while tally.switches.load(Ordering::Relaxed) < due && tasks.iter().all(|task| !task.is_finished()) {
            tokio::time::sleep(std::time::Duration::from_millis(2)).await;
        }
        fleet.migrate(number).await;
    }
    for task in tasks {
        task.await.unwrap();
    }
    let get = |counter: &AtomicUsize| counter.load(Ordering::Relaxed);
    let (switches, stale, wrong) = (get(&tally.switches), get(&tally.stale), get(&tally.wrong));
    let backends = tally.last.lock().unwrap().len();
    let summary = format!(
        "{TENANTS} tenants on {backends} backends, {} rows read, {MIGRATIONS} migrations meanwhile: {stale} statements \
         failed as older than their table",
        get(&tally.calls)
    );
    report(&summary);
    assert_eq!(wrong, 0);
    assert_eq!(stale, 0, "a statement was older than its table");
    assert!(switches >= wanted && backends <= CONNECTIONS);
    score::note(9, "tenant switches with cached statements, wrong tenant", switches, wrong, &summary);
}

/// A search path of the session on a connection that several tasks share, as a careless service has it: the other's row.
#[tokio::test]
async fn control_a_shared_session_reads_the_other_tenant() {
    let fleet = Fleet::set().await;
    let client = connect(fleet.database.name()).await;
    let cached = client.prepare("select tag from tags where n = 0").await.unwrap();
    let read = async |tenant: &TenantSlug| -> String {
        run(&client, &format!("set search_path = tenant_{tenant}, public")).await.unwrap();
        client.query_one(&cached, &[]).await.unwrap().get(0)
    };
    let (mut tried, mut wrong) = (0, 0);
    for pair in fleet.tenants.chunks(2) {
        let (one, two) = tokio::join!(read(&pair[0]), read(&pair[1]));
        tried += 2;
        wrong += usize::from(one != pair[0].as_str()) + usize::from(two != pair[1].as_str());
    }
    assert!(wrong > 0, "the test above could not see a wrong tenant");
    score::control(9, "search path of the session, connection shared by two tasks", tried, wrong, "wrong tenant's row");
}

/// A statement that was prepared for one tenant and runs under another's path: the server plans it anew, and refuses it where the
/// answer has another shape. So a cache by text is no leak, and `0A000` is what it costs.
#[tokio::test]
async fn a_statement_prepared_for_another_tenant_follows_the_path_or_is_refused() {
    let fleet = Fleet::set().await;
    let client = connect(fleet.database.name()).await;
    run(&client, &format!("set search_path = tenant_{}", fleet.tenants[0])).await.unwrap();
    let by_name = client.prepare("select tag from tags where n = 0").await.unwrap();
    let all = client.prepare("select * from tags where n = 0").await.unwrap();
    let (mut refused, mut wrong) = (0, 0);
    for (number, tenant) in fleet.tenants.iter().enumerate() {
        run(&client, &format!("begin; set local search_path = tenant_{tenant}")).await.unwrap();
        let tag: String = client.query_one(&by_name, &[]).await.unwrap().get(0);
        wrong += usize::from(tag != tenant.as_str());
        match client.query_one(&all, &[]).await {
            Ok(row) => {
                assert_eq!(number % 3, 0, "{tenant}: an answer of another shape");
                wrong += usize::from(row.get::<_, &str>("tag") != tenant.as_str());
            }
            Err(error) => {
                assert_eq!(error.code().unwrap().code(), "0A000");
                refused += 1;
            }
        }
        run(&client, "rollback").await.unwrap();
    }
    assert_eq!((wrong, refused), (0, TENANTS * 2 / 3));
    let summary = format!("{refused} refused with 0A000, where the columns stand in another order");
    score::note(9, "driver alone: prepared for one tenant, run for another", TENANTS * 2, wrong, &summary);
}
