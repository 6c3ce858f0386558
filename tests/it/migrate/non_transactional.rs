//! Migrations without a transaction: each statement once, whatever cuts the run short, and no index left invalid.

mod beside;
mod indexes;
mod interrupted;

use crate::{
    sandbox::{
        Cut, Files, Proxy, Raw, exists, failure, migrate_all, picture, plan_all, rounds, say, seeded, tenants, url,
        versions,
    },
    support::score,
};
use cgk::{
    Db, Error, ErrorKind, MigrationError, Operator,
    ident::SchemaName,
    lifecycle::{self, CreateOptions, Creation},
    migrate::{self, MigrationFailure, Migrations, RunOptions, SchemaState, Scope, Silent, Step, Target},
    testing::{TestDatabase, TestServer},
};
use rand::RngExt as _;
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

const FIRST: &str = "create table one (id int generated always as identity primary key, note text);
    create index one_old on one (note); create table marks (tag text)";

/// Every kind of step there is: recorded with its own transaction, announced and looked after, announced and run again.
const STEPS: &str = "-- cgk:no-transaction
insert into marks values ('first');
create index concurrently one_note on one (note);
insert into marks values ('second');
drop index concurrently one_old;
vacuum one;
do $$ begin insert into marks values ('third'); end $$;
reindex index concurrently one_note;
insert into marks values ('fourth');
";

async fn with_files(tenant_slugs: &[&str], more: &[(&str, &str)]) -> (TestDatabase, Files, Operator, Raw) {
    let database = TestServer::shared().set_up_database().await.unwrap();
    let files = Files::of_tenants(&[("001_first.sql", FIRST)]);
    let operator = tenants(&database, &files.load(), tenant_slugs).await;
    for (name, sql) in more {
        files.tenant(name, sql);
    }
    let raw = Raw::on(&database).await;
    (database, files, operator, raw)
}

/// What is not as it must be when [`STEPS`] were carried out once.
async fn faults(raw: &Raw, slug: &str) -> Vec<String> {
    let schema = format!("tenant_{slug}");
    let mut faults: Vec<String> = raw
        .all(&format!(
            "select tag || ' ' || count(m.tag) from unnest(array['first', 'second', 'third', 'fourth']) w (tag)
             left join {schema}.marks m using (tag) group by tag having count(m.tag) <> 1"
        ))
        .await;
    faults.extend(invalid_indexes(raw, &schema).await);
    if !exists(raw, &format!("{schema}.one_note")).await || exists(raw, &format!("{schema}.one_old")).await {
        faults.push("indexes".into());
    }
    if exists(raw, &format!("{schema}.schema_migration_steps")).await {
        faults.push("the record of the steps is still there".into());
    }
    if versions(raw, &schema).await != [1, 2] {
        faults.push("ledger".into());
    }
    faults
}

async fn invalid_indexes(raw: &Raw, schema: &str) -> Vec<String> {
    raw.all(&format!(
        "select c.relname::text from pg_index i join pg_class c on c.oid = i.indexrelid
         where c.relnamespace = '{schema}'::regnamespace and not (i.indisvalid and i.indisready and i.indislive)"
    ))
    .await
}

async fn migrate_one(operator: &Operator, migrations: &Migrations, slug: &str) -> cgk::Result<migrate::RunReport> {
    let only = Scope::Only(vec![slug.parse().unwrap()]);
    let planned = migrate::plan_fleet(operator, migrations, &only, Target::Head).await?;
    migrate::run(operator, migrations, planned, &mut Silent).await
}

fn refused<'a>(report: &'a migrate::RunReport, slug: &str) -> &'a MigrationFailure {
    match failure(report, slug) {
        Error::Migration(MigrationError::Failed(failure)) => failure,
        other => panic!("{other:?}"),
    }
}

/// Waits until the sessions of an application are gone.
async fn until_gone(raw: &Raw, application: &str) {
    raw.wait_until(&format!(
        "select not exists (select from pg_stat_activity where datname = current_database() and application_name = '{application}')"
    ))
    .await;
}

#[tokio::test]
async fn statements_run_one_by_one_in_their_schema() {
    let (_database, files, operator, raw) = with_files(&["acme"], &[("002_steps.sql", STEPS)]).await;
    let migrations = files.load();
    let planned = plan_all(&operator, &migrations).await.unwrap();
    let Step::Apply(plan) = &planned.tenants[0].step else { panic!() };
    assert!(plan.needs_quiet());
    let report = migrate::run(&operator, &migrations, planned, &mut Silent).await.unwrap();
    assert_eq!((report.failed(), report.migrated()), (0, 1), "{report:?}");
    assert_eq!(faults(&raw, "acme").await, Vec::<String>::new());
    assert!(plan_all(&operator, &migrations).await.unwrap().is_empty());
    // The control: the same text without the mark is refused, and so is what the mark makes possible in a transaction.
    let without = STEPS.lines().skip(1).collect::<Vec<_>>().join("\n");
    assert!(Files::of_tenants(&[("001_first.sql", &without)]).try_load().is_err());
}

#[tokio::test]
async fn what_a_transaction_does_not_let_happen_happens() {
    let sql = "-- cgk:no-transaction
        alter type public.organization_status add value 'frozen';
        insert into marks select 'frozen'::public.organization_status::text;
        create procedure fill() language plpgsql as $$
        begin for n in 1..3 loop insert into marks values ('batch'); commit; end loop; end $$;
        call fill();
        do $$ begin insert into marks values ('do'); commit; insert into marks values ('do'); end $$;
        create table \"Größe; x\" (id int)";
    let (_database, files, operator, raw) = with_files(&["acme"], &[("002_steps.sql", sql)]).await;
    let report = migrate_all(&operator, &files.load()).await.unwrap();
    assert_eq!(report.failed(), 0, "{report:?}");
    let tags: Vec<String> = raw.all("select tag || count(*) from tenant_acme.marks group by tag order by 1").await;
    assert_eq!(tags, ["batch3", "do2", "frozen1"]);
    assert!(exists(&raw, "tenant_acme.\"Größe; x\"").await);
    assert!(!exists(&raw, "tenant_acme.schema_migration_steps").await);
}

/// Lets a tenant be made with the older set, as if no schema had the newer file yet.
async fn as_if_new(raw: &Raw) {
    raw.run("delete from cgk_migration_files where set = 'tenant' and version > 1").await;
}

/// The shared schema has such files too, and what is deferred to the end of a statement is the statement's.
#[tokio::test]
async fn the_shared_schema_is_migrated_step_by_step() {
    let (_database, files, operator, raw) = with_files(&["acme"], &[]).await;
    let sql = "-- cgk:no-transaction
        create table parent (id int primary key);
        create table child (id int references parent deferrable initially deferred);
        create index concurrently organizations_name on organizations (name);
        insert into child values (1)";
    files.public("100_steps.sql", sql);
    let Error::Migration(MigrationError::Failed(error)) = migrate_all(&operator, &files.load()).await.unwrap_err()
    else {
        panic!()
    };
    assert_eq!((error.sqlstate.code(), error.unfinished.unwrap().statement), ("23503", 4));
    raw.run("insert into parent values (1)").await;
    migrate_all(&operator, &files.load()).await.unwrap();
    assert!(
        raw.one::<bool>("select indisvalid from pg_index where indexrelid = 'public.organizations_name'::regclass")
            .await
    );
    assert_eq!(raw.one::<i64>("select count(*) from child").await, 1);
    assert!(!exists(&raw, "public.schema_migration_steps").await);
}

/// All or nothing is one transaction, and such a file cannot be in it.
#[tokio::test]
async fn all_or_nothing_is_refused_before_anything_is_done() {
    let more = [("002_x.sql", "create table x ()"), ("003_steps.sql", "-- cgk:no-transaction\ncreate table y ()")];
    let (_database, files, operator, raw) = with_files(&["acme"], &more).await;
    let before = picture(&raw, "tenant_acme").await;
    let migrations = files.load();
    let planned = plan_all(&operator, &migrations).await.unwrap();
    let options = migrate::RunOptions::default().all_or_nothing();
    let error = migrate::run_with(&operator, &migrations, planned, &options, &mut Silent).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid, "{error:?}");
    assert!(error.to_string().contains("003_steps.sql:1"), "{error}");
    assert_eq!(picture(&raw, "tenant_acme").await, before);
}

#[tokio::test]
async fn what_is_before_and_behind_such_a_file_is_told_truly() {
    let more = [
        ("002_before.sql", "create table two ()"),
        ("003_steps.sql", "-- cgk:no-transaction\ncreate unique index concurrently one_unique on one (note)"),
        ("004_behind.sql", "create table four ()"),
        ("005_behind.sql", "create table five ()"),
    ];
    let (_database, files, operator, raw) = with_files(&["acme"], &more).await;
    raw.run("insert into tenant_acme.one (note) values ('x'), ('x')").await;
    let report = migrate_all(&operator, &files.load()).await.unwrap();
    let error = refused(&report, "acme");
    let committed: Vec<_> = error.committed.iter().map(ToString::to_string).collect();
    assert_eq!((committed, error.unfinished.unwrap().statement), (vec!["002_before".to_owned()], 1));
    assert_eq!(versions(&raw, "tenant_acme").await, [1, 2]);
    assert!(
        raw.one::<String>("select obj_description('tenant_acme.schema_migrations'::regclass)").await.contains("head=2")
    );

    raw.run("delete from tenant_acme.one").await;
    files.tenant("005_behind.sql", "create table five (); select 1/0");
    let report = migrate_all(&operator, &files.load()).await.unwrap();
    let error = refused(&report, "acme");
    let committed: Vec<_> = error.committed.iter().map(ToString::to_string).collect();
    assert_eq!((committed, error.unfinished), (vec!["003_steps".to_owned()], None));
    assert_eq!(versions(&raw, "tenant_acme").await, [1, 2, 3]);
    assert!(!exists(&raw, "tenant_acme.four").await);
    files.tenant("005_behind.sql", "create table five ()");
    assert_eq!(migrate_all(&operator, &files.load()).await.unwrap().failed(), 0);
    assert_eq!(versions(&raw, "tenant_acme").await, [1, 2, 3, 4, 5]);
}

/// What a file SETs holds for its own later statements, in the run that carries it on as well, and for nothing else.
#[tokio::test]
async fn settings_of_the_file_reach_its_statements_and_nobody_else() {
    let sql = "-- cgk:no-transaction
        set work_mem = '77MB';
        insert into marks select current_setting('work_mem') || ' ' || current_schema();
        create unique index concurrently one_unique on one (note);
        insert into marks select current_setting('work_mem') || ' ' || current_setting('search_path')";
    let (_database, files, operator, raw) = with_files(&["acme"], &[("002_set.sql", sql)]).await;
    raw.run("insert into tenant_acme.one (note) values ('x'), ('x')").await;
    assert_eq!(migrate_all(&operator, &files.load()).await.unwrap().failed(), 1);
    raw.run("delete from tenant_acme.one").await;
    files.tenant("003_later.sql", "insert into marks select 'later ' || current_setting('work_mem')");
    let usual: String = raw.one("show work_mem").await;
    assert_eq!(migrate_all(&operator, &files.load()).await.unwrap().failed(), 0);
    let tags: Vec<String> = raw.all("select tag from tenant_acme.marks order by ctid").await;
    assert_eq!(tags, ["77MB tenant_acme", "77MB tenant_acme, public, pg_temp", &format!("later {usual}")]);
    assert_ne!(usual, "77MB");
}

#[tokio::test]
async fn a_statement_that_leaves_the_schema_is_undone() {
    let leave = "do $$ begin perform set_config('search' || '_path', 'public', false); end $$";
    let sql = format!("-- cgk:no-transaction\n{leave};\ncreate table stray ()");
    let (_database, files, operator, raw) = with_files(&["acme"], &[("002_leave.sql", &sql)]).await;
    let before = picture(&raw, "tenant_acme").await;
    let report = migrate_all(&operator, &files.load()).await.unwrap();
    assert!(failure(&report, "acme").to_string().contains("left the session in another schema"), "{report:?}");
    assert!(!exists(&raw, "public.stray").await);
    assert_eq!(picture(&raw, "tenant_acme").await, before);
    // A lock that the file gives away is missed at the next step.
    files.tenant("002_leave.sql", "-- cgk:no-transaction\nselect pg_advisory_unlock_all();\ncreate table stray ()");
    let report = migrate_all(&operator, &files.load()).await.unwrap();
    assert!(failure(&report, "acme").to_string().contains("no longer holds the lock"), "{report:?}");
}

#[tokio::test]
async fn objects_belong_to_the_schemas_owner() {
    let (_database, files, operator, raw) = with_files(&["acme"], &[("002_steps.sql", STEPS)]).await;
    let tag = operator.facts().database_tag();
    let owner = format!("cgk_owner_{}", tag.as_str());
    raw.run(&format!("create role {owner}; alter schema tenant_acme owner to {owner}")).await;
    for table in ["schema_migrations", "one", "marks"] {
        raw.run(&format!("alter table tenant_acme.{table} owner to {owner}")).await;
    }
    let report = migrate_all(&operator, &files.load()).await.unwrap();
    assert_eq!(report.failed(), 0, "{report:?}");
    assert_eq!(faults(&raw, "acme").await, Vec::<String>::new());
    let of: String = raw
        .one("select pg_get_userbyid(relowner)::text from pg_class where oid = 'tenant_acme.one_note'::regclass")
        .await;
    assert_eq!(of, owner);
}

#[tokio::test]
async fn a_new_tenant_is_still_made_in_one_transaction() {
    let (database, files, operator, raw) = with_files(&[], &[("002_steps.sql", STEPS)]).await;
    let (db, acme) = (database.db().await.unwrap(), "acme".parse().unwrap());
    files.tenant("003_bad.sql", "select 1/0");
    let create = async |migrations: &Migrations| {
        lifecycle::create(&operator, &db, migrations, &acme, &CreateOptions::default()).await
    };
    let error = create(&files.load()).await.unwrap_err();
    assert!(
        matches!(&error, Error::Migration(MigrationError::Failed(failure)) if failure.committed.is_empty()),
        "{error:?}"
    );
    assert!(!raw.one::<bool>("select exists (select from pg_namespace where nspname = 'tenant_acme')").await);
    assert_eq!(raw.one::<i64>("select count(*) from organizations").await, 0);
    // Where the server sees an error, it is at its place in the file all the same.
    files.tenant("003_bad.sql", "-- cgk:no-transaction\nvacuum \"größe\"; create index concurrently é on one (nope)");
    let Error::Migration(MigrationError::Failed(failure)) = create(&files.load()).await.unwrap_err() else { panic!() };
    assert_eq!(failure.place.as_ref().map(|place| place.line), Some(2), "{failure:?}");
    files.without("003_bad.sql");
    let created = create(&files.load()).await.unwrap();
    assert_eq!((created.creation, created.applied.len()), (Creation::New, 2));
    assert_eq!(faults(&raw, "acme").await, Vec::<String>::new());
}

#[tokio::test]
async fn a_tenant_that_must_be_made_in_steps_cannot_be_entered_until_it_is_whole() {
    let sql = "-- cgk:no-transaction\ncreate unique index concurrently one_unique on one (note);\ndo $$ begin insert into marks values ('x'); commit; end $$;\nselect gate()";
    let (database, files, operator, raw) = with_files(&[], &[("002_steps.sql", sql)]).await;
    let (db, acme): (_, cgk::TenantSlug) = (database.db().await.unwrap(), "acme".parse().unwrap());
    let create = async || lifecycle::create(&operator, &db, &files.load(), &acme, &CreateOptions::default()).await;
    for _ in 0..2 {
        let error = create().await.unwrap_err();
        let Error::Migration(MigrationError::Failed(failure)) = &error else { panic!("{error:?}") };
        assert_eq!((failure.sqlstate.code(), failure.unfinished.unwrap().statement), ("42883", 3));
        let entered = db.with_tenant(&acme, async |tx| tx.execute("select 1", &[]).await).await;
        assert_eq!(entered.unwrap_err().kind(), ErrorKind::NotReady);
        assert_eq!(raw.one::<String>("select status::text from organizations").await, "onboarding");
    }
    raw.run("create function public.gate() returns int language sql as 'select 1'").await;
    let created = create().await.unwrap();
    assert_eq!(created.creation, Creation::Finished);
    assert_eq!(raw.one::<String>("select status::text from organizations").await, "active");
    assert_eq!(raw.one::<i64>("select count(*) from tenant_acme.marks").await, 1);
    db.with_tenant(&acme, async |tx| tx.execute("select 1", &[]).await).await.unwrap();
    assert_eq!(create().await.unwrap().creation, Creation::Existed);
}

/// The record of the steps is none of the tenant's business.
#[tokio::test]
async fn the_record_is_out_of_the_tenants_reach() {
    let sql = "-- cgk:no-transaction\ninsert into marks values ('a');\nselect nothing";
    let (database, files, operator, raw) = with_files(&["acme"], &[("002_s.sql", sql)]).await;
    assert_eq!(migrate_all(&operator, &files.load()).await.unwrap().failed(), 1);
    assert!(exists(&raw, "tenant_acme.schema_migration_steps").await);
    let (db, acme) = (database.db().await.unwrap(), "acme".parse().unwrap());
    for sql in [
        "select * from schema_migration_steps",
        "update schema_migration_steps set done = 9",
        "drop table schema_migration_steps",
    ] {
        let error = db.with_tenant(&acme, async |tx| tx.execute(sql, &[]).await).await.unwrap_err();
        assert_eq!(error.sqlstate().unwrap().code(), "42501", "{sql}");
    }
}
