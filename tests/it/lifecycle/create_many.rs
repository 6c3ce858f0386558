//! Many tenants at once: made side by side, killed and continued, each whole or not there.

use crate::{
    sandbox::{Files, Proxy, Raw, rounds, say, seeded, url, versions},
    support::{
        patience::{must_end, patient_operator},
        score,
    },
};
use cgk::{
    Config, Db, Error, ErrorKind, Operator, TenantSlug,
    lifecycle::{self, CreateManyOptions, CreateManyReport, CreateObserver, CreateOutcome, Creation, NewTenant},
    migrate::{Interrupt, Migrations, Silent, StopReason},
    testing::{TestDatabase, TestServer},
};
use rand::RngExt as _;
use std::{num::NonZeroUsize, time::Duration};

async fn database() -> (TestDatabase, Raw) {
    let database = TestServer::shared().set_up_database().await.unwrap();
    let raw = Raw::on(&database).await;
    (database, raw)
}

fn names(range: std::ops::Range<usize>) -> Vec<NewTenant> {
    range.map(|number| NewTenant::from(format!("t{number:03}").parse::<TenantSlug>().unwrap())).collect()
}

fn jobs(number: usize) -> CreateManyOptions {
    CreateManyOptions::default().jobs(NonZeroUsize::new(number).unwrap())
}

async fn make(
    operator: &Operator,
    database: &TestDatabase,
    migrations: &Migrations,
    tenants: &[NewTenant],
    options: &CreateManyOptions,
) -> Result<CreateManyReport, Error> {
    let db: Db = Db::connect(database.config()).await.unwrap();
    lifecycle::create_many(operator, &db, migrations, tenants, options, &mut Silent).await
}

/// Schemas, roles and ledgers that are there without the others, and tenants whose ledger is not at head.
async fn half_made(raw: &Raw, head: i64) -> Vec<String> {
    raw.all(&format!(
        "with s as (select substr(nspname, 8) as slug from pg_namespace where starts_with(nspname, 'tenant_')),
              r as (select substr(rolname, 5, length(rolname) - 15) as slug from pg_roles
                    where rolname ~ '^cgk_.*_[0-9a-f]{{10}}$'
                          and right(rolname, 10) = left(encode(sha256(convert_to(current_database(), 'UTF8')), 'hex'), 10)),
              l as (select substr(n.nspname, 8) as slug from pg_class c join pg_namespace n on n.oid = c.relnamespace
                    where c.relname = 'schema_migrations' and obj_description(c.oid) like 'cgk:1 head={head} %'
                          and starts_with(n.nspname, 'tenant_')),
              o as (select slug from organizations where status = 'active')
         select coalesce(s.slug, r.slug, l.slug, o.slug) from s full join r using (slug) full join l using (slug) full join o using (slug)
         where s.slug is null or r.slug is null or l.slug is null or o.slug is null"
    ))
    .await
}

#[tokio::test]
async fn a_fleet_is_made_side_by_side_and_found_when_asked_again() {
    let (database, raw) = database().await;
    let operator = database.operator().await.unwrap();
    let mut tenants = names(0..30);
    tenants[3].name = Some("Three O'Clock".into());
    tenants.push(tenants[5].clone());
    let report = make(&operator, &database, &Migrations::bundled(), &tenants, &jobs(4)).await.unwrap();
    assert_eq!((report.count(Creation::New), report.failed(), report.stopped), (30, 0, None));
    assert_eq!(half_made(&raw, 7).await, Vec::<String>::new());
    let name: String = raw.one("select name from organizations where slug = 't003'").await;
    assert_eq!(name, "Three O'Clock");
    // A service enters each of them.
    let db: Db = Db::connect(database.config()).await.unwrap();
    for tenant in names(0..30) {
        let orders = db.tenant(&tenant.slug).query_one("select count(*) from orders", &[]).await.unwrap();
        assert_eq!(orders.get::<_, i64>(0), 0);
    }
    // The control: the checker sees a tenant that is half made.
    raw.run("drop schema tenant_t007 cascade").await;
    assert_eq!(half_made(&raw, 7).await, ["t007"]);
    score::control(4, "a tenant whose schema is gone", 1, 1, "seen as half made");

    // Those that are whole cost a query for all of them, and the other is made.
    let proxy = Proxy::to(&database).await;
    let operator = Operator::connect(proxy.config()).await.unwrap();
    raw.run("delete from organizations where slug = 't007'").await;
    let _ = proxy.take();
    let report = make(&operator, &database, &Migrations::bundled(), &tenants, &jobs(1)).await.unwrap();
    assert_eq!((report.count(Creation::New), report.count(Creation::Existed), report.failed()), (1, 29, 0));
    let seen = proxy.take();
    let visits = seen.iter().filter(|message| message.kind == b'Q').count();
    assert_eq!(visits, 1, "{seen:#?}");
    assert_eq!(half_made(&raw, 7).await, Vec::<String>::new());
}

#[tokio::test]
async fn one_that_cannot_be_made_stops_nobody_and_what_nobody_may_stops_all() {
    let (database, raw) = database().await;
    let operator = database.operator().await.unwrap();
    raw.run("create schema tenant_t002; create table tenant_t002.theirs ()").await;
    let report = make(&operator, &database, &Migrations::bundled(), &names(0..5), &jobs(2)).await.unwrap();
    assert_eq!((report.count(Creation::New), report.failed(), report.stopped.clone()), (4, 1, None));
    let failed = report.tenants.iter().find_map(|tenant| tenant.result.as_ref().err()).unwrap();
    assert_eq!(failed.kind(), ErrorKind::Conflict, "{failed:?}");

    let one = CreateManyOptions::default().jobs(NonZeroUsize::MIN).failures_max(NonZeroUsize::MIN);
    let report = make(&operator, &database, &Migrations::bundled(), &names(1..9), &one).await.unwrap();
    let stop = report.stopped.unwrap();
    assert_eq!((stop.reason, stop.left), (StopReason::Failures, 6));

    let (role, config) = crate::sandbox::login_role(&database, &raw, "nosuperuser").await;
    raw.run(&format!("grant select on organizations to {role}")).await;
    let powerless = Operator::connect(&config).await.unwrap();
    let error = make(&powerless, &database, &Migrations::bundled(), &names(20..40), &jobs(2)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Denied, "{error:?}");
    let mut half = half_made(&raw, 7).await;
    // The login's own role looks like a tenant's.
    half.retain(|slug| slug.len() == "t000".len());
    assert_eq!(half, ["t002"]);
}

struct AfterThree<'i>(&'i Interrupt, usize);

impl CreateObserver for AfterThree<'_> {
    fn tenant(&mut self, _: &CreateOutcome) {
        self.1 += 1;
        if self.1 == 3 {
            self.0.stop();
        }
    }
}

#[tokio::test]
async fn an_interrupted_creation_goes_on_later() {
    let (database, raw) = database().await;
    let operator = database.operator().await.unwrap();
    let db: Db = Db::connect(database.config()).await.unwrap();
    let interrupt = Interrupt::new();
    let options = jobs(2).interrupt(&interrupt);
    let (bundled, tenants) = (Migrations::bundled(), names(0..12));
    let mut observer = AfterThree(&interrupt, 0);
    let report = lifecycle::create_many(&operator, &db, &bundled, &tenants, &options, &mut observer).await.unwrap();
    let stop = report.stopped.clone().unwrap();
    let made = report.count(Creation::New);
    assert!((3..=4).contains(&made), "{report:?}");
    assert_eq!((stop.reason, stop.left, report.failed()), (StopReason::Interrupted, 12 - made, 0));
    let report = make(&operator, &database, &bundled, &tenants, &jobs(2)).await.unwrap();
    assert_eq!((report.count(Creation::New), report.count(Creation::Existed)), (12 - made, made));
    assert_eq!(half_made(&raw, 7).await, Vec::<String>::new());
}

#[tokio::test]
async fn two_creations_at_once_make_each_tenant_once() {
    let (database, raw) = database().await;
    let (first, second) = (
        crate::support::patience::patient_operator(&database).await,
        crate::support::patience::patient_operator(&database).await,
    );
    let (bundled, tenants, options) = (Migrations::bundled(), names(0..16), jobs(2));
    let (first, second) = tokio::join!(
        make(&first, &database, &bundled, &tenants, &options),
        make(&second, &database, &bundled, &tenants, &options)
    );
    let (first, second) = (first.unwrap(), second.unwrap());
    assert_eq!((first.failed(), second.failed()), (0, 0), "{first:?} {second:?}");
    assert_eq!(first.count(Creation::New) + second.count(Creation::New), 16);
    assert_eq!(half_made(&raw, 7).await, Vec::<String>::new());
}

#[tokio::test]
async fn a_creation_killed_at_any_moment_leaves_whole_tenants() {
    let mut random = seeded("creation killed");
    let (database, raw) = database().await;
    let files =
        Files::of_tenants(&[("001_first.sql", "create table m1 (id int)"), ("002_second.sql", "create table m2 ()")]);
    let migrations = files.load();
    let config = database.config().clone().with_application_name("victim");
    let (mut cut, mut next, mut tried) = (0, 0, 0);
    // Which moments are hit depends on the machine: it goes on until enough were cut short.
    while tried < rounds(12) || (cut < rounds(12) / 4 && tried < rounds(12) * 20) {
        tried += 1;
        let tenants = names(next..next + 8);
        next += 8;
        let victim = Operator::connect(&config).await.unwrap();
        let options = jobs(3);
        let kill = async {
            tokio::time::sleep(Duration::from_millis(60).mul_f64(random.random_range(0.0..1.0))).await;
            let killed: Vec<bool> = raw
                .all("select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() and application_name = 'victim'")
                .await;
            killed.len()
        };
        let (outcome, _) = tokio::join!(make(&victim, &database, &migrations, &tenants, &options), kill);
        match outcome {
            Ok(report) if report.failed() == 0 && report.stopped.is_none() => {}
            Ok(_) => cut += 1,
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::Unavailable, "{error:?}");
                cut += 1;
            }
        }
        raw.wait_until("select not exists (select from pg_stat_activity where datname = current_database() and application_name = 'victim')").await;
        assert_eq!(half_made(&raw, 2).await, Vec::<String>::new(), "round {tried}");
        let survivor = database.operator().await.unwrap();
        let report = make(&survivor, &database, &migrations, &tenants, &options).await.unwrap();
        assert_eq!((report.failed(), report.stopped.clone()), (0, None), "{report:?}");
        for tenant in &tenants {
            assert_eq!(versions(&raw, &format!("tenant_{}", tenant.slug)).await, [1, 2]);
        }
    }
    let told = format!("{cut} of {tried} creations were cut short");
    say(&told);
    assert!(cut >= rounds(12) / 4, "only {cut}: this test proved nothing");
    score::note(4, "creation of eight tenants terminated, one half made", tried, 0, &told);
}

/// One tenant finds that the files work one by one only, and meanwhile the connection of the other is lost.
#[tokio::test]
async fn a_lost_connection_is_not_tried_again_because_another_tenant_found_out_how_to_apply_the_files() {
    let (database, raw) = database().await;
    let files = Files::of_tenants(&[
        ("001_mood.sql", "create type mood as enum ('a'); create table items (m mood)"),
        ("002_more.sql", "alter type mood add value 'b'"),
        ("003_use.sql", "insert into items values ('b')"),
    ]);
    let operator = patient_operator(&database).await;
    // The second tenant waits for its row in the registry, with its files in one transaction.
    let holder = Raw::on(&database).await;
    holder.run("begin; insert into organizations (slug, name) values ('t001', 'of another session')").await;
    let waiting = "select pid from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'";
    let (done, made) = tokio::sync::oneshot::channel();
    // A thread of its own: work that never waits would keep the time limit from being noticed.
    let (url, migrations) = (url(&database, None), files.load());
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let _ = done.send(runtime.block_on(async {
            let db: Db = Db::connect(&Config::from_url(&url).unwrap()).await.unwrap();
            lifecycle::create_many(&operator, &db, &migrations, &names(0..2), &jobs(2), &mut Silent).await
        }));
    });
    let kill = async {
        raw.wait_until_blocked(waiting).await;
        raw.wait_until("select exists (select from organizations where slug = 't000' and status = 'active')").await;
        raw.all::<bool>(&format!("select pg_terminate_backend(pid) from ({waiting}) w")).await;
    };
    must_end("the creation of the first tenant", kill).await;
    let report = must_end("the run after the lost connection", made).await.unwrap().unwrap();
    holder.run("rollback").await;
    assert_eq!((report.count(Creation::New), report.failed()), (1, 1), "{report:?}");
    let failed = report.tenants.iter().find(|tenant| tenant.slug.as_str() == "t001").unwrap();
    assert_eq!(failed.result.as_ref().unwrap_err().kind(), ErrorKind::Unavailable, "{failed:?}");
    assert_eq!(report.stopped.map(|stop| stop.reason), Some(StopReason::Unavailable));
    // The control: the same call creates it.
    let operator = patient_operator(&database).await;
    let report = make(&operator, &database, &files.load(), &names(0..2), &jobs(2)).await.unwrap();
    assert_eq!((report.count(Creation::New), report.failed()), (1, 0), "{report:?}");
    assert_eq!(half_made(&raw, 3).await, Vec::<String>::new());
}
