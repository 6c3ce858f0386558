//! 10,000 tenants: the page stays small and the statements few. A login that may only read.

use super::{
    fleet::Fleet,
    page::{Page, keep},
};
use crate::stage::{connect, run, say};
use cgk::{
    Config, Operator,
    config::Isolation,
    report::{self, DriftSource, ReportOptions},
    testing::TestServer,
};
use std::time::{Duration, Instant};

const TENANTS: i64 = 10_000;
const PAGE_MAX: usize = 2 * 1024 * 1024;
const STATEMENTS_MAX: i64 = 100;

/// How many of the tenants have a schema: `CGK_REPORT_SCHEMAS` makes it all of them.
fn schemas() -> i64 {
    std::env::var("CGK_REPORT_SCHEMAS").map_or(1000, |text| text.parse().unwrap())
}

/// Rows of the registry, and schemas with a ledger and a table each. One commit for many: they would not fit into the lock
/// table at once.
async fn grow(fleet: &Fleet) {
    let registry = format!(
        "insert into public.organizations (slug, name, status)
         select 't' || n, 'A name of some length, and <b>no</b> markup ' || n, 'active' from generate_series(1, {TENANTS}) n"
    );
    run(&fleet.watch, &registry).await;
    let made = format!(
        "do $$ declare o record; n int := 0; note text := obj_description('tenant_acme.schema_migrations'::regclass); begin
           for o in select id, slug from public.organizations where slug like 't%' order by created_at, slug limit {} loop
             execute format('create schema tenant_%1$s; comment on schema tenant_%1$s is %2$L;
               create table tenant_%1$s.schema_migrations (like tenant_acme.schema_migrations including all);
               insert into tenant_%1$s.schema_migrations select * from tenant_acme.schema_migrations;
               comment on table tenant_%1$s.schema_migrations is %3$L',
               o.slug, 'cgk organization ' || o.id, note);
             n := n + 1;
             if n % 50 = 0 then commit; end if;
           end loop;
         end $$",
        schemas()
    );
    run(&fleet.watch, &made).await;
    run(&fleet.watch, "analyze pg_catalog.pg_class; analyze pg_catalog.pg_depend; analyze public.organizations").await;
}

/// The transactions of a database's sessions so far. A session adds its own when it ends.
async fn transactions(fleet: &Fleet, observer: &tokio_postgres::Client) -> i64 {
    let sessions = "select count(*) from pg_stat_activity where datname = $1 and application_name <> 'observer'";
    crate::stage::must_end(async {
        while observer.query_one(sessions, &[&fleet.database.name()]).await.unwrap().get::<_, i64>(0) > 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    let sql = "select xact_commit + xact_rollback, current_setting('server_version_num')::int < 150000
               from pg_stat_database where datname = $1";
    // Before PostgreSQL 15 a process of its own collects the numbers, and shows them up to half a second later.
    let (mut last, mut same) = (-1, 0);
    crate::stage::must_end(async {
        loop {
            let row = observer.query_one(sql, &[&fleet.database.name()]).await.unwrap();
            let (now, is_late): (i64, bool) = (row.get(0), row.get(1));
            same = if now == last { same + 1 } else { 0 };
            last = now;
            if !is_late || same == 20 {
                return now;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_tenants_are_a_small_page_and_few_statements() {
    let fleet = Fleet::of(&["acme"]).await;
    let modes = "create or replace function cgk_isolation_modes() returns text stable parallel safe return 'path role'";
    run(&fleet.watch, modes).await;
    grow(&fleet).await;
    let config = fleet.database.config().clone().with_isolation(Isolation::Path);
    let other = TestServer::shared().database().await.unwrap();
    let observer = connect(&other).await;
    let before = transactions(&fleet, &observer).await;
    let began = Instant::now();
    let operator = Operator::connect(&config).await.unwrap();
    let report = report::examine(&operator, &fleet.migrations, &ReportOptions::default()).await.unwrap();
    let read = began.elapsed();
    let page = report::html(&report);
    keep("large", &page);
    drop(operator);
    let statements = transactions(&fleet, &observer).await - before;
    let json = serde_json::to_string(&report).unwrap();
    say(&format!(
        "{} tenants, {} schemas: {statements} statements, read in {read:?}, page {} bytes, JSON {} bytes",
        report.tenants.len(),
        schemas() + 1,
        page.len(),
        json.len()
    ));
    assert!(statements > 0 && statements <= STATEMENTS_MAX, "{statements} statements");
    assert!(page.len() <= PAGE_MAX, "{} bytes", page.len());
    assert_eq!(report.tenants.len() as i64, TENANTS + 1);
    assert_eq!(report.drift.source, DriftSource::Recorded);
    let page = Page::of(page);
    page.check();
    assert_eq!(page.figure("tenants"), "10,001");
    assert_eq!(page.figure("at-head").replace(',', ""), (schemas() + 1).to_string());

    // With as many names as there can be.
    let operator = Operator::connect(&config).await.unwrap();
    let mut options = ReportOptions::default();
    options.named_max = 1000;
    let report = report::examine(&operator, &fleet.migrations, &options).await.unwrap();
    let length = report::html(&report).len();
    assert!(length <= PAGE_MAX, "{length} bytes with 1,000 names");
}

/// A login that may read the registry, the ledgers and nothing else: parts are left out, and the page says why.
#[tokio::test(flavor = "multi_thread")]
async fn a_login_that_may_only_read_gets_a_page() {
    let fleet = Fleet::with_every_state().await;
    let role = format!("looker_{:08x}", rand::random::<u32>());
    let grants = format!(
        "create role {role} login password 'secret'; grant select on public.organizations, public.schema_migrations to {role};
         create policy lookers on public.organizations to {role} using (true);
         do $$ declare s record; begin for s in select nspname from pg_namespace where nspname like 'tenant\\_%' loop
           execute format('grant usage on schema %I to {role}', s.nspname);
           if to_regclass(format('%I.schema_migrations', s.nspname)) is not null then
             execute format('grant select on %I.schema_migrations to {role}', s.nspname); end if;
         end loop; end $$"
    );
    run(&fleet.watch, &grants).await;
    let config = Config::from_url(&fleet.database.config().url_of(&role, Some("secret"))).unwrap();
    let activity = "select xmax::text || xmin::text || (select count(*) from public.cgk_runs)::text from public.organizations where slug = 'good'";
    let rows = fleet.watch.query_one(activity, &[]).await.unwrap().get::<_, String>(0);
    let report = {
        let operator = Operator::connect(&config).await.unwrap();
        report::examine(&operator, &fleet.migrations, &ReportOptions::default()).await.unwrap()
    };
    assert_eq!(report.tenants.len(), super::fleet::TENANTS.len());
    let parts: Vec<&str> = report.unread.iter().map(|unread| unread.part).collect();
    assert_eq!(parts, ["runs"], "{:?}", report.unread);
    assert!(report.sizes.as_ref().unwrap().bytes > 0);
    let page = Page::of(report::html(&report));
    page.check();
    assert!(page.text().contains("Not read: could not read the history"), "{}", page.text());

    // With one of the two tables of the history, it does not claim that no tenant was slow or failed.
    run(&fleet.watch, &format!("grant select on public.cgk_runs to {role}")).await;
    let operator = Operator::connect(&config).await.unwrap();
    let report = report::examine(&operator, &fleet.migrations, &ReportOptions::default()).await.unwrap();
    assert_eq!(report.unread.iter().map(|unread| unread.part).collect::<Vec<_>>(), ["runs"], "{:?}", report.unread);

    // With both it is complete.
    run(&fleet.watch, &format!("grant select on public.cgk_run_schemas to {role}")).await;
    let report = report::examine(&operator, &fleet.migrations, &ReportOptions::default()).await.unwrap();
    assert_eq!((report.unread.len(), report.runs.len()), (0, 1));
    assert_eq!(fleet.watch.query_one(activity, &[]).await.unwrap().get::<_, String>(0), rows);
    run(&fleet.watch, &format!("drop owned by {role}; drop role {role}")).await;
}
