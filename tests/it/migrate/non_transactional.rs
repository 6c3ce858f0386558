//! Migrations without a transaction: each statement once, whatever cuts the run short, and no index left invalid.

use crate::{
    sandbox::{
        Cut, Files, Proxy, Raw, exists, failure, migrate_all, picture, plan_all, rounds, say, seeded, tenants, url,
        versions,
    },
    support::score,
};
use cgk::{
    Error, ErrorKind, MigrationError, Operator,
    ident::SchemaName,
    lifecycle::{self, CreateOptions, Creation},
    migrate::{self, MigrationFailure, Migrations, Scope, Silent, Step, Target},
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

/// `kill -9` of the client between any two messages and in the middle of any of them.
#[tokio::test]
async fn a_run_cut_at_any_message_is_carried_on_and_does_nothing_twice() {
    let (database, files, operator, raw) = with_files(&[], &[]).await;
    let first = files.load();
    files.tenant("002_steps.sql", STEPS);
    let migrations = files.load();
    let db = database.db().await.unwrap();
    let proxy = Proxy::to(&database).await;
    let victim_config = proxy.config().clone().with_application_name("victim");
    let (mut cuts, mut halves) = (0, 0);
    for how in [Cut::Before, Cut::After] {
        for messages in 0..200 {
            let slug = format!("t{messages}_{}", if how == Cut::Before { "before" } else { "after" });
            as_if_new(&raw).await;
            lifecycle::create(&operator, &db, &first, &slug.parse().unwrap(), &CreateOptions::default()).await.unwrap();
            let victim = Operator::connect(&victim_config).await.unwrap();
            proxy.cut_after(messages, how);
            let outcome = migrate_one(&victim, &migrations, &slug).await;
            drop(victim);
            if proxy.spare() {
                assert_eq!(outcome.unwrap().failed(), 0);
                assert_eq!(faults(&raw, &slug).await, Vec::<String>::new());
                break;
            }
            cuts += 1;
            until_gone(&raw, "victim").await;
            halves += usize::from(exists(&raw, &format!("tenant_{slug}.schema_migration_steps")).await);
            let report = migrate_one(&operator, &migrations, &slug).await.unwrap();
            assert_eq!(report.failed(), 0, "{how:?} {messages}: {report:?}");
            assert_eq!(faults(&raw, &slug).await, Vec::<String>::new(), "{how:?} {messages}");
        }
    }
    say(&format!("{cuts} runs were cut, {halves} of them in the middle of the file"));
    assert!(cuts > 60 && halves > 40, "{cuts} {halves}: this test proved little");
    let told = format!("{halves} left a part, which the next run carried on");
    score::note(
        4,
        "file without a transaction, connection cut at each message, not carried on exactly",
        cuts,
        0,
        &told,
    );
}

/// The control: a runner that records a statement in a transaction of its own, before or after, is caught by the same cuts.
#[tokio::test]
async fn the_cuts_catch_a_runner_that_records_apart() {
    let (database, _files, _operator, raw) = with_files(&["acme"], &[]).await;
    let proxy = Proxy::to(&database).await;
    let target = proxy.config().target().to_string();
    let through = format!("{target}?application_name=victim&sslmode=disable");
    for record_first in [true, false] {
        let mut caught = 0;
        for (how, messages) in [Cut::Before, Cut::After].into_iter().flat_map(|how| (0..9).map(move |n| (how, n))) {
            raw.run("drop table if exists public.naive; create table public.naive (done int); insert into public.naive values (0); truncate tenant_acme.marks").await;
            proxy.cut_after(messages, how);
            naive(&Raw::connect(&through).await, record_first).await;
            proxy.spare();
            until_gone(&raw, "victim").await;
            naive(&Raw::connect(&url(&database, None)).await, record_first).await;
            let right: bool = raw.one("select count(*) = 4 and count(distinct tag) = 4 from tenant_acme.marks").await;
            caught += usize::from(!right);
        }
        assert!(caught > 0, "record_first = {record_first}");
        let how = if record_first { "recorded first" } else { "recorded afterwards" };
        score::control(4, "a step recorded in a transaction of its own, connection cut", 18, caught, how);
    }
}

async fn naive(raw: &Raw, record_first: bool) {
    for step in 0..4 {
        let record = format!("update public.naive set done = {} where done = {step}", step + 1);
        let work = format!(
            "do $$ begin if (select done from public.naive) <= {step} then insert into tenant_acme.marks values ('{step}'); end if; end $$"
        );
        let outcome = if record_first {
            let due = format!("select 1 / (case when (select done from public.naive) <= {step} then 1 else 0 end)");
            match raw.try_run(&due).await {
                Err(error) if error.is_closed() || error.code().is_none() => return,
                Err(_) => continue,
                Ok(()) => {}
            }
            match raw.try_run(&record).await {
                Ok(()) => raw.try_run(&format!("insert into tenant_acme.marks values ('{step}')")).await,
                error => error,
            }
        } else {
            match raw.try_run(&work).await {
                Ok(()) => raw.try_run(&record).await,
                error => error,
            }
        };
        if outcome.is_err() {
            return;
        }
    }
}

/// The server's side of it: the backend is terminated, whatever it is doing.
#[tokio::test]
async fn a_backend_killed_at_any_moment_leaves_a_file_that_can_be_carried_on() {
    let mut random = seeded("steps killed");
    let (database, files, operator, raw) = with_files(&[], &[]).await;
    let first = files.load();
    files.tenant("002_steps.sql", STEPS);
    let migrations = files.load();
    let db = database.db().await.unwrap();
    let config = database.config().clone().with_application_name("victim");
    let (mut cut, mut tried) = (0, 0);
    let mut span = Duration::from_millis(60);
    // Which moments are hit depends on the machine: it goes on until enough were cut short.
    while tried < rounds(15) || (cut < rounds(15) / 5 && tried < rounds(15) * 20) {
        tried += 1;
        let slug = format!("t{tried}");
        as_if_new(&raw).await;
        lifecycle::create(&operator, &db, &first, &slug.parse().unwrap(), &CreateOptions::default()).await.unwrap();
        let victim = Operator::connect(&config).await.unwrap();
        let began = std::time::Instant::now();
        let run = async { (migrate_one(&victim, &migrations, &slug).await, began.elapsed()) };
        let kill = async {
            tokio::time::sleep(span.mul_f64(random.random_range(0.0..1.0))).await;
            raw.all::<bool>("select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() and application_name = 'victim'").await;
        };
        let ((outcome, elapsed), ()) = tokio::join!(run, kill);
        drop(victim);
        until_gone(&raw, "victim").await;
        match outcome {
            Ok(report) if report.failed() > 0 => {
                assert_eq!(failure(&report, &slug).kind(), ErrorKind::Unavailable, "{report:?}");
                cut += 1;
            }
            Ok(_) => span = (span + elapsed) / 2,
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::Unavailable, "{error:?}");
                cut += 1;
            }
        }
        let report = migrate_one(&operator, &migrations, &slug).await.unwrap();
        assert_eq!(report.failed(), 0, "{report:?}");
        assert_eq!(faults(&raw, &slug).await, Vec::<String>::new());
    }
    let told = format!("{cut} of {tried} runs were cut short");
    say(&told);
    assert!(cut >= rounds(15) / 5, "only {cut} runs were cut short: this test proved nothing");
    score::note(4, "file without a transaction terminated, not carried on exactly", tried, 0, &told);
}

/// Fault 11 of those found in other runners: an INVALID index after a failed CREATE INDEX CONCURRENTLY.
#[tokio::test]
async fn an_index_that_a_killed_run_left_invalid_is_built_again() {
    let (database, files, operator, raw) = with_files(&["acme"], &[("002_steps.sql", STEPS)]).await;
    let holder = Raw::on(&database).await;
    holder.run("begin; insert into tenant_acme.one (note) values ('held')").await;
    let victim = Operator::connect(&database.config().clone().with_application_name("victim")).await.unwrap();
    let migrations = files.load();
    let victims = migrations.clone();
    let run = tokio::spawn(async move { migrate_one(&victim, &victims, "acme").await });
    let waiting = "select exists (select from pg_stat_activity where datname = current_database() and application_name = 'victim' and query like 'create index%' and wait_event_type = 'Lock')";
    raw.wait_until(waiting).await;
    raw.all::<bool>("select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() and application_name = 'victim'").await;
    assert_eq!(failure(&run.await.unwrap().unwrap(), "acme").kind(), ErrorKind::Unavailable);
    // The control: it is there, and nobody can use it.
    assert_eq!(invalid_indexes(&raw, "tenant_acme").await, ["one_note"]);
    holder.run("rollback").await;
    until_gone(&raw, "victim").await;
    let report = migrate_all(&operator, &migrations).await.unwrap();
    assert_eq!(report.failed(), 0, "{report:?}");
    assert_eq!(faults(&raw, "acme").await, Vec::<String>::new());
}

/// Fault 11 of those found in other runners: duplicates that a unique index meets.
#[tokio::test]
async fn an_index_that_cannot_be_built_leaves_nothing_and_the_run_resumes_there() {
    let sql = "-- cgk:no-transaction\ninsert into marks values ('a');\ncreate unique index concurrently one_unique\n  on one (note);\ninsert into marks values ('b');";
    let (_database, files, operator, raw) = with_files(&["acme"], &[("002_unique.sql", sql)]).await;
    raw.run("insert into tenant_acme.one (note) values ('x'), ('x')").await;
    let migrations = files.load();
    for _ in 0..2 {
        let report = migrate_all(&operator, &migrations).await.unwrap();
        let error = refused(&report, "acme");
        assert_eq!(error.sqlstate.code(), "23505");
        assert_eq!(error.place.as_ref().map(|place| place.line), Some(3));
        let resumes = error.unfinished.unwrap();
        assert_eq!((resumes.statement, resumes.of), (2, 3));
        assert!(error.to_string().ends_with("at statement 2 of 3"), "{error}");
        assert_eq!(invalid_indexes(&raw, "tenant_acme").await, Vec::<String>::new());
        assert!(!exists(&raw, "tenant_acme.one_unique").await);
        assert_eq!(versions(&raw, "tenant_acme").await, [1]);
    }
    raw.run("delete from tenant_acme.one where id = 1").await;
    let report = migrate_all(&operator, &migrations).await.unwrap();
    assert_eq!(report.failed(), 0, "{report:?}");
    let tags: Vec<String> = raw.all("select tag from tenant_acme.marks order by 1").await;
    assert_eq!(tags, ["a", "b"]);
    assert!(
        raw.one::<bool>(
            "select indisvalid and indisunique from pg_index where indexrelid = 'tenant_acme.one_unique'::regclass"
        )
        .await
    );
}

/// Fault 11 of those found in other runners: a lock timeout, and `IF NOT EXISTS`, which takes the invalid index for the one that was meant.
#[tokio::test]
async fn an_index_left_by_a_lock_timeout_is_not_taken_for_one_that_exists() {
    let create = "create index concurrently if not exists one_note on one (note)";
    let sql = format!("-- cgk:no-transaction\nset lock_timeout = '60ms';\n{create};");
    let (database, files, _operator, raw) = with_files(&["acme"], &[("002_index.sql", &sql)]).await;
    let mut session = database.config().session().clone();
    session.lock_timeout = Duration::from_millis(60);
    let operator = Operator::connect(&database.config().clone().with_session(session)).await.unwrap();
    let holder = Raw::on(&database).await;
    holder.run("begin; insert into tenant_acme.one (note) values ('held')").await;
    let migrations = files.load();
    let report = migrate_all(&operator, &migrations).await.unwrap();
    assert_eq!(refused(&report, "acme").sqlstate.code(), "55P03");
    assert_eq!(refused(&report, "acme").unfinished.unwrap().statement, 2);
    holder.run("rollback").await;
    // The control: by hand it succeeds, and the index is as invalid as before.
    assert_eq!(invalid_indexes(&raw, "tenant_acme").await, ["one_note"]);
    raw.run(&create.replace("on one", "on tenant_acme.one")).await;
    assert_eq!(invalid_indexes(&raw, "tenant_acme").await, ["one_note"]);
    let report = migrate_all(&operator, &migrations).await.unwrap();
    assert_eq!(report.failed(), 0, "{report:?}");
    assert_eq!(invalid_indexes(&raw, "tenant_acme").await, Vec::<String>::new());
    assert_eq!(versions(&raw, "tenant_acme").await, [1, 2]);
    // Settings of the file are gone from the session.
    assert_eq!(raw.one::<i64>("select count(*) from pg_locks where locktype = 'advisory' and database = (select oid from pg_database where datname = current_database())").await, 0);
}

#[tokio::test]
async fn an_invalid_index_that_somebody_else_left_is_rebuilt_too() {
    let (_database, files, operator, raw) = with_files(
        &["acme"],
        &[("002_i.sql", "-- cgk:no-transaction\ncreate unique index concurrently if not exists u on one (note)")],
    )
    .await;
    raw.run("insert into tenant_acme.one (note) values ('x'), ('x')").await;
    raw.try_run("create unique index concurrently u on tenant_acme.one (note)").await.unwrap_err();
    assert_eq!(invalid_indexes(&raw, "tenant_acme").await, ["u"]);
    raw.run("delete from tenant_acme.one").await;
    let report = migrate_all(&operator, &files.load()).await.unwrap();
    assert_eq!(report.failed(), 0, "{report:?}");
    assert_eq!(invalid_indexes(&raw, "tenant_acme").await, Vec::<String>::new());
}

/// One that is valid and not of this file is the server's to refuse.
#[tokio::test]
async fn an_index_that_was_there_before_is_not_taken_for_the_files_own() {
    let (_database, files, operator, raw) =
        with_files(&["acme"], &[("002_i.sql", "-- cgk:no-transaction\ncreate index concurrently one_old on one (id)")])
            .await;
    for _ in 0..2 {
        let report = migrate_all(&operator, &files.load()).await.unwrap();
        assert_eq!(refused(&report, "acme").sqlstate.code(), "42P07");
        assert!(!exists(&raw, "tenant_acme.schema_migration_steps").await, "nothing was done, so nothing is recorded");
    }
    // Nor is a table that is not this schema's.
    files.tenant("002_i.sql", "-- cgk:no-transaction\ncreate index concurrently users_x on users (password_hash)");
    let report = migrate_all(&operator, &files.load()).await.unwrap();
    assert!(failure(&report, "acme").to_string().contains("\"users\" belongs to the shared schema"), "{report:?}");
    assert!(!exists(&raw, "public.users_x").await);
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

#[tokio::test]
async fn a_partition_between_two_states_is_detached_to_the_end() {
    let first = "create table p (id int) partition by list (id); create table p1 partition of p for values in (1); create table marks (tag text)";
    let sql = "-- cgk:no-transaction\nset lock_timeout = '60ms';\nalter table p detach partition p1 concurrently;\ninsert into marks values ('after')";
    let database = TestServer::shared().set_up_database().await.unwrap();
    let files = Files::of_tenants(&[("001_first.sql", first)]);
    drop(tenants(&database, &files.load(), &["acme"]).await);
    let mut session = database.config().session().clone();
    session.lock_timeout = Duration::from_millis(60);
    let operator = Operator::connect(&database.config().clone().with_session(session)).await.unwrap();
    let raw = Raw::on(&database).await;
    files.tenant("002_detach.sql", sql);
    let holder = Raw::on(&database).await;
    holder.run("begin; select * from tenant_acme.p").await;
    let report = migrate_all(&operator, &files.load()).await.unwrap();
    assert!(failure(&report, "acme").sqlstate().is_some(), "{report:?}");
    // The control: it is neither here nor there.
    assert!(
        raw.one::<bool>("select inhdetachpending from pg_inherits where inhrelid = 'tenant_acme.p1'::regclass").await
    );
    holder.run("rollback").await;
    let report = migrate_all(&operator, &files.load()).await.unwrap();
    assert_eq!(report.failed(), 0, "{report:?}");
    assert_eq!(raw.one::<i64>("select count(*) from pg_inherits where inhrelid = 'tenant_acme.p1'::regclass").await, 0);
    assert_eq!(raw.one::<i64>("select count(*) from tenant_acme.marks").await, 1);
}

/// What is before a file without a transaction is committed with it, and stays this run's work when another run turns out to
/// have done the rest. The file itself plays the other run, so that the order is certain.
#[tokio::test]
async fn what_was_done_before_another_run_came_first_is_reported() {
    let (_database, files, operator, raw) =
        with_files(&["acme"], &[("002_two.sql", "create table two ()"), ("004_four.sql", "create table four ()")])
            .await;
    let checksum = files.load().set(migrate::Set::Tenant).files().last().unwrap().checksum().as_str().to_owned();
    files.tenant(
        "003_three.sql",
        &format!(
            "-- cgk:no-transaction
            create table four ();
            do $do$ begin execute 'insert into schema_' || $$migrations (version, name, checksum, duration_ms, cgk_version)
                values (4, 'four', '{checksum}', 0, '')$$; end $do$"
        ),
    );
    let report = migrate_all(&operator, &files.load()).await.unwrap();
    let migrate::Outcome::Migrated { applied } = &report.tenants[0].result else { panic!("{report:?}") };
    let applied: Vec<_> = applied.iter().map(ToString::to_string).collect();
    assert_eq!(applied, ["002_two", "003_three"]);
    assert_eq!(versions(&raw, "tenant_acme").await, [1, 2, 3, 4]);
    assert_eq!(migrate_all(&operator, &files.load()).await.unwrap().tenants.len(), 0, "the comment is true again");
}

/// The statement of a transaction that the server did not begin must not run without one: it would stay, and run again.
#[tokio::test]
async fn a_begin_that_is_refused_lets_nothing_run_without_a_transaction() {
    let text = "-- cgk:no-transaction\ninsert into marks values ('first');\ninsert into marks values ('second');";
    let (database, files, _operator, raw) = with_files(&["acme"], &[("002_steps.sql", text)]).await;
    let marks = "select coalesce(string_agg(tag, ' ' order by tag), '') from tenant_acme.marks";
    let proxy = Proxy::to(&database).await;
    let operator = Operator::connect(proxy.config()).await.unwrap();
    let migrations = files.load();
    // The first statement's, and then the second's: by then the first is carried out.
    for (skipped, left) in [(0_usize, ""), (1, "first")] {
        let mut before = Some(skipped);
        let (met, meets) = (Arc::new(AtomicBool::new(false)), "begin;\nreset role; reset all;");
        let is_met = Arc::clone(&met);
        proxy.rewrite(move |text| {
            let left = before.filter(|_| text.starts_with(meets))?;
            before = left.checked_sub(1);
            // As the server refuses it where a cancel meets its first statement.
            before.is_none().then(|| {
                is_met.store(true, Ordering::Relaxed);
                format!("!{text}")
            })
        });
        let report = migrate_all(&operator, &migrations).await.unwrap();
        assert!(met.load(Ordering::Relaxed), "the message was not met");
        assert_eq!(failure(&report, "acme").sqlstate().unwrap().code(), "42601", "{report:?}");
        assert_eq!(raw.one::<String>(marks).await, left);
        assert_eq!(versions(&raw, "tenant_acme").await, [1]);
    }
    let report = migrate_all(&operator, &migrations).await.unwrap();
    assert_eq!((report.migrated(), report.failed()), (1, 0), "{report:?}");
    assert_eq!(raw.one::<String>(marks).await, "first second");
    // The control: sent without a look at BEGIN's answer, the statement stays.
    let (begun, stayed) = tokio::join!(
        biased;
        raw.try_run("!egin"),
        raw.try_run("insert into tenant_acme.marks values ('third')"),
    );
    assert!(begun.is_err() && stayed.is_ok());
    assert_eq!(raw.one::<String>(marks).await, "first second third");
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

/// Fault 5 of those found in other runners: CREATE INDEX CONCURRENTLY while a second runner waits.
#[tokio::test]
async fn a_second_runner_waits_without_a_snapshot_and_nobody_deadlocks() {
    let (database, files, _operator, raw) = with_files(&["acme"], &[("002_steps.sql", STEPS)]).await;
    let holder = Raw::on(&database).await;
    holder.run("begin; insert into tenant_acme.one (note) values ('held')").await;
    let migrations = Arc::new(files.load());
    let start = |name: &'static str| {
        let (config, migrations) = (database.config().clone().with_application_name(name), Arc::clone(&migrations));
        tokio::spawn(async move {
            let operator = Operator::connect(&config).await.unwrap();
            migrate_all(&operator, &migrations).await.unwrap()
        })
    };
    let builder = start("builder");
    raw.wait_until("select exists (select from pg_stat_activity where datname = current_database() and application_name = 'builder' and query like 'create index%' and wait_event_type = 'Lock')").await;
    let waiter = start("waiter");
    let asks = "select exists (select from pg_stat_activity where datname = current_database() and application_name = 'waiter' and query like '%pg_try_advisory_lock%')";
    raw.wait_until(asks).await;
    // It asks and waits by itself: no lock that it has not got.
    assert!(!raw.one::<bool>("select exists (select from pg_locks l join pg_stat_activity a using (pid) where a.datname = current_database() and a.application_name = 'waiter' and not l.granted)").await);
    holder.run("rollback").await;
    let (built, waited) = (builder.await.unwrap(), waiter.await.unwrap());
    assert_eq!((built.failed(), waited.failed()), (0, 0), "{built:?} {waited:?}");
    assert_eq!(faults(&raw, "acme").await, Vec::<String>::new());

    // The control: with a lock that is waited for, the two wait for each other.
    let (a, b) = (Raw::on(&database).await, Raw::on(&database).await);
    a.run("select pg_advisory_lock(1)").await;
    let b = tokio::spawn(async move { b.try_run("select pg_advisory_lock(1)").await });
    raw.wait_until("select exists (select from pg_locks where locktype = 'advisory' and not granted and database = (select oid from pg_database where datname = current_database()))").await;
    let a_result = a
        .try_run("set lock_timeout = '10min'; ")
        .await
        .and(a.try_run("create index concurrently deadlocked on tenant_acme.one (note)").await);
    drop(a);
    let b_result = b.await.unwrap();
    let states: Vec<_> = [a_result, b_result].into_iter().filter_map(|result| result.err()?.code().cloned()).collect();
    assert_eq!(states.iter().map(|state| state.code()).collect::<Vec<_>>(), ["40P01"]);
}

/// A file with a transaction does not begin while one without is under way, and says who holds it up.
#[tokio::test]
async fn what_is_one_message_waits_for_the_steps_of_another_run() {
    let (database, files, _operator, raw) = with_files(&["acme"], &[("002_x.sql", "create table x ()")]).await;
    let mut session = database.config().session().clone();
    session.migration_wait = Duration::from_millis(200);
    let operator = Operator::connect(&database.config().clone().with_session(session)).await.unwrap();
    let holder = Raw::on(&database).await;
    let key = cgk::lock::steps_key(&SchemaName::of_tenant(&"acme".parse().unwrap()));
    holder.run(&format!("select pg_advisory_lock({key})")).await;
    for name in ["002_x.sql", "002_y.sql"] {
        let report = migrate_all(&operator, &files.load()).await.unwrap();
        assert!(matches!(failure(&report, "acme"), Error::Migration(MigrationError::Locked { .. })), "{report:?}");
        assert_eq!(versions(&raw, "tenant_acme").await, [1]);
        files.without(name).tenant("002_y.sql", "-- cgk:no-transaction\ncreate table y ()");
    }
    holder.run("select pg_advisory_unlock_all()").await;
    let report = migrate_all(&operator, &files.load()).await.unwrap();
    assert_eq!(report.migrated(), 1, "{report:?}");
}

#[tokio::test]
async fn two_runs_at_once_do_nothing_twice() {
    let slugs = ["a", "b", "c"];
    let (database, files, _operator, raw) = with_files(&slugs, &[("002_steps.sql", STEPS)]).await;
    let migrations = Arc::new(files.load());
    let mut runs = Vec::new();
    for _ in 0..3 {
        let (operator, migrations) =
            (crate::support::patience::patient_operator(&database).await, Arc::clone(&migrations));
        runs.push(tokio::spawn(async move { migrate_all(&operator, &migrations).await.unwrap() }));
    }
    let mut applied = 0;
    for run in runs {
        let report = run.await.unwrap();
        assert_eq!(report.failed(), 0, "{report:?}");
        applied += report
            .tenants
            .iter()
            .map(|tenant| match &tenant.result {
                migrate::Outcome::Migrated { applied } => applied.len(),
                other => panic!("{other:?}"),
            })
            .sum::<usize>();
    }
    assert_eq!(applied, slugs.len());
    for slug in slugs {
        assert_eq!(faults(&raw, slug).await, Vec::<String>::new());
    }
}

#[tokio::test]
async fn a_file_that_is_half_done_must_stay_what_it_was() {
    let sql = |second: &str, third: &str| {
        format!("-- cgk:no-transaction\ninsert into marks values ('a');\n{second};\n-- a note\n{third};")
    };
    let (_database, files, operator, raw) =
        with_files(&["acme"], &[("002_s.sql", &sql("insert into marks values ('b')", "select nothing"))]).await;
    let run = async || migrate_all(&operator, &files.load()).await.unwrap();
    assert_eq!(refused(&run().await, "acme").sqlstate.code(), "42703");
    let before = picture(&raw, "tenant_acme").await;

    let half_done = |report: &migrate::RunReport, says: &str| {
        let error = failure(report, "acme");
        assert_eq!((error.kind(), error.code()), (ErrorKind::Drift, "CGK0609"), "{error:?}");
        assert!(error.to_string().contains(says), "{error}");
    };
    files.tenant("002_s.sql", &sql("insert into marks values ('B')", "select 1"));
    half_done(&run().await, "an executed statement was edited");
    files.tenant("002_s.sql", "-- cgk:no-transaction\ninsert into marks values ('a')");
    half_done(&run().await, "fewer statements");
    files.without("002_s.sql").tenant("003_other.sql", "create table other ()");
    half_done(&run().await, "its file is missing");
    files.tenant("003_other.sql", "-- cgk:no-transaction\ncreate table other ()");
    half_done(&run().await, "002_s is partially applied");
    files.without("003_other.sql");
    assert_eq!(picture(&raw, "tenant_acme").await, before);

    // What was not carried out may be mended, and comments and line ends are no part of what was.
    let mended = sql("insert into marks values ('b')", "insert into marks values ('c')").replace("a note", "another");
    files.tenant("002_s.sql", &mended.replace('\n', "\r\n"));
    assert_eq!(run().await.failed(), 0);
    let tags: Vec<String> = raw.all("select tag from tenant_acme.marks order by 1").await;
    assert_eq!(tags, ["a", "b", "c"]);
    assert!(plan_all(&operator, &files.load()).await.unwrap().is_empty());
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
