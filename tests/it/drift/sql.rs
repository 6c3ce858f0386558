//! The statements that `cgk drift --sql` prints: run by the test, they bring every schema back.

use super::schemas::{PLANTED, lines, of, planted, role};
use crate::{
    sandbox::{Files, Raw, tenants},
    stage::report,
    support::cgk::Shell,
};
use cgk::{
    drift,
    migrate::{Migrations, Scope},
    testing::TestServer,
};

/// A script as somebody leaves it who means the statements that lose data as well.
fn meant(script: &str) -> String {
    let uncommented = script.lines().map(|line| line.strip_prefix("--   ").unwrap_or(line));
    uncommented.collect::<Vec<_>>().join("\n")
}

/// What is planted by hand in addition to what the comparison's test plants.
const MORE: &[&str] = &[
    "drop table orders cascade",
    "drop table items cascade",
    "drop view open_orders",
    "drop function touch() cascade",
    "drop function doubled(orders)",
    "drop function here()",
    "drop sequence numbers",
    "drop type pair",
    "drop table parts_2026",
    "drop table parts cascade",
    "alter table items drop mood, drop share; drop type mood; drop domain percent",
    "alter table items drop id",
    "alter table orders drop id cascade",
    "alter table orders drop double",
    "alter table orders rename note to remark",
    "drop trigger orders_touch on orders; drop function touch(); create function touch(a int) returns int language sql as 'select 1'",
    "drop view open_orders; create view open_orders as select id from orders",
    "drop materialized view totals; create materialized view totals as select 1 as total",
    "drop type mood cascade; create type mood as enum ('low'); alter table items add mood mood",
    "drop index items_order_id_idx; create unique index items_order_id_idx on items (id)",
    "create table kid () inherits (extra)",
    "alter default privileges in schema {schema} grant select on sequences to pg_monitor with grant option",
    "grant select on orders to pg_monitor with grant option",
    "create function \"an \"\"odd\"\" name\"(a text, b \"char\") returns int language sql as 'select 1'",
    "create table \"an \"\"odd\"\"; name\" (\"a; b\" int)",
    "alter table orders add \"drop\nit\" int",
    "alter table orders drop constraint orders_note_key",
    "alter table orders drop constraint orders_pkey cascade",
    "revoke all on function touch() from public",
    "grant update (note) on orders to public",
    "alter table extra add primary key (id)",
    // Two that differ alike share one comparison, and each has its own names.
    "revoke insert on orders from {role}",
    "alter table orders disable trigger orders_touch",
];

/// How the lines of what no statement brings back begin.
const NOT_BROUGHT_BACK: &[&str] = &[
    "table parts: children elsewhere is ",
    // A column that was made again is the last one.
    "table extra: column order is",
    "table items: column order is",
    "table orders: column order is",
    // A label of an enum cannot be dropped.
    "type mood: labels are 'low', 'high', 'middle'",
    // What has to be dropped with all that uses it, and made again.
    "aggregate highest(integer): ",
    "type lengths: range of",
    "collation plain: character type",
    "text search configuration words: mappings",
    "conversion latin: encodings",
    "conversion latin: function",
    "operator class ints: ",
    "ledger schema_migrations: ",
    "migration 001_rich: ",
    "migration 003_x: ",
    "schema {schema}: missing",
];

#[tokio::test]
async fn the_printed_statements_bring_schemas_back() {
    let (database, migrations, operator, raw, slugs) = planted().await;
    let more: Vec<String> = (0..MORE.len()).map(|index| format!("m{index}")).collect();
    tenants(&database, &migrations, &more.iter().map(String::as_str).collect::<Vec<_>>()).await;
    let filled = |text: &str, slug: &str| {
        text.replace("{schema}", &format!("tenant_{slug}")).replace("{role}", &role(&database, slug))
    };
    let all: Vec<(&String, &str)> =
        slugs.iter().zip(PLANTED.iter().map(|(sql, _)| *sql)).chain(more.iter().zip(MORE.iter().copied())).collect();
    for (slug, sql) in &all {
        raw.run(&format!("set search_path = tenant_{slug}, public; {}", filled(sql, slug))).await;
    }
    raw.run("reset search_path").await;
    let before = drift::verify(&operator, &migrations, &Scope::Tenants).await.unwrap();
    let mut brought_back = 0;
    for (slug, sql) in &all {
        // The control: there is something to bring back, and each difference is in the script, with a statement or without.
        let (drift, script) = (of(&before, slug), of(&before, slug).fix_script());
        assert!(!drift.differences.is_empty(), "{sql}");
        for difference in drift.differences.iter().filter(|difference| difference.fix.is_empty()) {
            let named = format!("-- no statement is known: {} {}", difference.kind, difference.object);
            assert!(script.contains(&named), "{sql}\n{script}");
        }
        if let Err(error) = raw.try_run(&meant(&script)).await {
            panic!("{sql}\n{:?}\n{script}", error.as_db_error());
        }
    }
    let after = drift::verify(&operator, &migrations, &Scope::Tenants).await.unwrap();
    for (slug, sql) in &all {
        let left = lines(of(&after, slug));
        brought_back += usize::from(left.is_empty());
        let is_known = |line: &String| NOT_BROUGHT_BACK.iter().any(|known| line.starts_with(&filled(known, slug)));
        assert!(left.iter().all(is_known), "{sql}\n{left:#?}\n{}", of(&before, slug).fix_script());
    }
    report(&format!("{brought_back} of {} planted differences were brought back by the printed statements", all.len()));
    assert!(brought_back + 26 > all.len());
}

/// A REVOKE on a relation takes the rights on its columns as well: what the migrations give there is given again by the same
/// script. A right whose grant option alone is too many stays, and what was passed on goes with the option.
#[tokio::test]
async fn the_statements_against_a_right_keep_those_that_the_migrations_give() {
    let database = TestServer::shared().set_up_database().await.unwrap();
    let files = Files::of_tenants(&[(
        "001_notes.sql",
        "create table notes (id int, body text, kept text); create view titles as select id, body from notes;
         grant select (id, body), update (body) on notes to pg_monitor;
         grant select (kept) on notes to pg_monitor with grant option; grant insert on notes to pg_monitor;
         grant delete on notes to pg_monitor with grant option; grant select (body) on titles to pg_monitor;
         comment on column titles.body is 'the text';
         create table log (id int primary key); revoke update, delete on log from current_user; alter table log cluster on log_pkey",
    )]);
    let migrations = files.load();
    let operator = tenants(&database, &migrations, &["acme"]).await;
    let raw = Raw::on(&database).await;
    for sql in [
        "grant select on public.organizations to public",
        "grant all on public.organizations to public",
        "grant select on notes to pg_monitor",
        "grant all on notes to pg_monitor with grant option",
        "grant insert on notes to pg_monitor with grant option",
        "revoke grant option for delete on notes from pg_monitor",
        "grant usage on schema tenant_acme to pg_monitor; grant update, select on notes to pg_monitor with grant option; \
         set role pg_monitor; grant update on tenant_acme.notes to public; reset role",
        "drop view titles; create view titles as select id, body, kept from notes",
        "grant select on titles to public, pg_monitor",
        // The rights of the owner itself.
        "revoke insert, truncate on notes from current_user; revoke create on schema tenant_acme from current_user",
        "revoke insert on public.organizations from current_user; grant update on log to current_user",
        "revoke all on log from current_user",
        "alter table log set without cluster",
    ] {
        let report = drift::verify(&operator, &migrations, &Scope::Everything).await.unwrap();
        assert!(!report.has_drift(), "before {sql}\n{}", report.fix_script());
        raw.run(&format!("set search_path = tenant_acme, public; {sql}; reset search_path")).await;
        let report = drift::verify(&operator, &migrations, &Scope::Everything).await.unwrap();
        assert!(report.has_drift(), "{sql}");
        let script = report.fix_script();
        if let Err(error) = raw.try_run(&script).await {
            panic!("{sql}\n{:?}\n{script}", error.as_db_error());
        }
        let after = drift::verify(&operator, &migrations, &Scope::Everything).await.unwrap();
        assert!(!after.has_drift(), "{sql}\n{script}\nleaves\n{}", after.fix_script());
    }
}

/// The note of a column whose place cannot be given back.
const LAST: &str = "the new column is the last one";

/// Properties that a new object does not have by itself.
#[tokio::test]
async fn the_statements_give_back_what_a_new_object_does_not_have_by_itself() {
    let database = TestServer::shared().set_up_database().await.unwrap();
    let files = Files::of_tenants(&[(
        "001_all.sql",
        "create sequence counted as smallint increment 2 minvalue 1 maxvalue 100 start 5 cache 3 cycle;
         create sequence loose; create table holds (id int, n int); create sequence held owned by holds.n;
         create type pair as (a int, b text collate \"C\");
         create type mood as enum ('a'); revoke usage on type mood from public; grant usage on type mood to pg_monitor;
         create domain small as int constraint few check (value < 9); revoke usage on domain small from public;
         comment on constraint few on domain small is 'few';
         create materialized view sums as select 1 as one; create unique index on sums (one); comment on materialized view sums is 'sums';
         create type span as range (subtype = inet); create type \"odd range\" as range (subtype = text, multirange_type_name = \"odd ones\"); revoke usage on type span from public;
         create table parent (a int); create table child (b int) inherits (parent); create table apart (a int);
         create table wide (id int primary key, body text, kept varchar(5) collate \"C\", many int[], amount numeric) with (toast.autovacuum_enabled = false);
         alter table wide enable row level security, force row level security, replica identity full, alter body set storage external;
         create view seen as select id, body from wide; comment on column seen.body is 'x'; alter view seen alter id set default 5;
         grant select (body) on seen to pg_monitor;
         create table guarded (id int constraint low check (id < 9)); comment on constraint low on guarded is 'low'; create function g() returns trigger language plpgsql as 'begin return new; end';
         create trigger t before insert on guarded for each row execute function g(); alter table guarded disable trigger t;
         create table parts (id int) partition by range (id); create table parts_1 partition of parts for values from (0) to (9);
         create table parts_2 (id int)",
    )]);
    let migrations = files.load();
    let operator = tenants(&database, &migrations, &["acme"]).await;
    let raw = Raw::on(&database).await;
    for (sql, statement) in [
        ("alter sequence counted as bigint", "alter sequence \"tenant_acme\".\"counted\" as smallint"),
        ("alter sequence counted increment 1 minvalue 0 maxvalue 99 start 7 cache 1 no cycle", "increment by 2"),
        ("alter sequence held owned by none", "owned by"),
        ("alter sequence held owned by holds.id", "owned by"),
        ("alter sequence loose owned by holds.id", "owned by none"),
        ("drop type pair", "create type \"tenant_acme\".\"pair\" as (\"a\" integer, \"b\" text collate \"C\")"),
        ("drop type mood", "revoke usage on type"),
        ("drop domain small", "revoke usage on domain"),
        ("drop type span", "revoke usage on type"),
        ("drop type \"odd range\"", "multirange_type_name = \"odd ones\""),
        ("grant usage on type mood to public; revoke usage on type mood from pg_monitor", "grant usage on type"),
        ("revoke usage on type mood from current_user", "grant usage on type"),
        ("drop materialized view sums", "comment on materialized view"),
        ("alter table wide alter amount set storage plain", " set storage main"),
        ("alter table holds drop n", "add column \"n\" integer"),
        ("alter table child no inherit parent", " inherit "),
        ("alter table apart inherit parent", " no inherit "),
        ("drop table child", "create table"),
        ("alter table parts detach partition parts_1", " attach partition "),
        ("alter table parts attach partition parts_2 for values from (9) to (20)", " detach partition "),
        ("drop view seen; drop table wide", "force row level security"),
        ("drop view seen", "comment on column"),
        ("drop view seen; create view seen as select id, body from wide", "comment on column"),
        ("alter table wide alter kept type varchar(5) collate \"default\"", "collate \"C\" using"),
        ("alter table wide alter kept type varchar(9) collate \"C\"", " type character varying(5) collate"),
        ("alter table wide alter body set storage main", " set storage external"),
        ("alter table wide alter many set storage plain", " set storage extended"),
        (
            "alter table wide reset (toast.autovacuum_enabled), replica identity default, no force row level security",
            "toast",
        ),
        ("drop table guarded", "disable trigger"),
        ("alter table guarded enable trigger t", "disable trigger"),
    ] {
        raw.run(&format!("set search_path = tenant_acme, public; {sql}; reset search_path")).await;
        let report = drift::verify(&operator, &migrations, &Scope::Everything).await.unwrap();
        let script = report.fix_script();
        assert!(script.contains(statement), "{sql}\n{script}");
        if let Err(error) = raw.try_run(&meant(&script)).await {
            panic!("{sql}\n{:?}\n{script}", error.as_db_error());
        }
        let after = drift::verify(&operator, &migrations, &Scope::Everything).await.unwrap();
        assert!(!after.has_drift(), "{sql}\n{script}\nleaves\n{}", after.fix_script());
        assert!(!script.contains(LAST) && !script.contains("if \"n\" is this column"), "{sql}\n{script}");
        // Only what may lose or change values says so.
        let notes = script.matches("values may be rounded").count();
        assert_eq!(notes, usize::from(sql.contains("varchar(9)")), "{sql}\n{script}");
    }
    // A column that was not the last one, and that is there under another name.
    raw.run("alter table tenant_acme.holds drop id, add number int").await;
    let script = drift::verify(&operator, &migrations, &Scope::Tenants).await.unwrap().fix_script();
    assert!(script.contains(LAST) && script.contains("if \"number\" is this column under another name"), "{script}");
}

/// A renamed table keeps the names of its indexes and sequences, so the missing one cannot be created beside it: it is renamed back.
/// If it is not the same table any more, that is left out, and the rest of the script runs.
#[tokio::test]
async fn a_renamed_table_gets_its_name_back_and_a_taken_name_stops_no_other_statement() {
    let database = TestServer::shared().set_up_database().await.unwrap();
    let files = Files::of_tenants(&[(
        "001_hits.sql",
        "create table hits (id int generated always as identity primary key, at date); create index on hits (at);
         create table marks (hit int references hits (id)); create view seen as select id from hits;
         create table \"Lone\" (id int generated always as identity primary key, n serial);
         create table plain (id int generated always as identity)",
    )]);
    let migrations = files.load();
    let operator = tenants(&database, &migrations, &["acme"]).await;
    let raw = Raw::on(&database).await;
    let path = "set search_path = tenant_acme, public";
    let found = async || drift::verify(&operator, &migrations, &Scope::Tenants).await.unwrap();
    raw.run(&format!("{path}; alter table hits rename to hitts; grant select on marks to public")).await;
    let script = found().await.fix_script();
    assert!(script.contains("alter table \"tenant_acme\".\"hitts\" rename to \"hits\";"), "{script}");
    assert_eq!(script.matches(" rename to ").count(), 1, "{script}");
    assert!(!script.contains("drop table"), "it is not taken for one that nobody needs: {script}");
    raw.run(&script).await;
    assert_eq!(lines(&found().await.tenants[0]), Vec::<String>::new(), "{script}");
    // The control: of another table only the names of its indexes and sequences are the same.
    raw.run(&format!(
        "{path}; alter table \"Lone\" rename to other; alter table other add more int; grant select on marks to public"
    ))
    .await;
    let script = found().await.fix_script();
    assert!(script.contains("-- note: the name Lone_"), "{script}");
    raw.run(&script).await;
    let left = lines(&found().await.tenants[0]);
    let [missing, first, second, other] = &left[..] else { panic!("{left:?}\n{script}") };
    assert!(missing == "table Lone: missing" && other == "table other: not from any migration", "{left:?}");
    assert!([first, second].iter().all(|line| line.starts_with("sequence Lone_")), "{left:?}");
    raw.run(&format!("{path}; drop table other")).await;
    raw.run(&meant(&script.replace("drop table", "drop table if exists"))).await;
    assert_eq!(lines(&found().await.tenants[0]), Vec::<String>::new(), "{script}");
    // A column with a sequence of its own.
    raw.run(&format!("{path}; alter table plain rename id to number; grant select on marks to public")).await;
    let script = found().await.fix_script();
    assert!(script.contains("-- note: the name plain_id_seq is taken by the sequence of table plain"), "{script}");
    raw.run(&script).await;
    assert!(!found().await.fix_script().contains("marks"), "{script}");
}

/// The command prints what the library gives, and runs nothing; what loses data is commented out.
#[tokio::test]
async fn the_command_prints_and_runs_nothing() {
    let database = TestServer::shared().set_up_database().await.unwrap();
    let migrations = Migrations::bundled();
    let operator = tenants(&database, &migrations, &["acme"]).await;
    let raw = Raw::on(&database).await;
    raw.run(
        "alter table tenant_acme.orders add scratch int; drop index tenant_acme.orders_placed_at_idx; alter table public.users add nickname text;
         alter table tenant_acme.orders alter column total_minor type int",
    )
    .await;
    let shell = Shell::on(&database);
    let printed = shell.run(&["drift", "--sql"]);
    assert_eq!(printed.code, 7, "{}{}", printed.stdout, printed.stderr);
    let report = drift::verify(&operator, &migrations, &Scope::Everything).await.unwrap();
    assert_eq!(printed.stdout.trim_end(), report.fix_script().trim_end());
    for expected in [
        "set local search_path = \"tenant_acme\";",
        "--   alter table \"tenant_acme\".\"orders\" drop column \"scratch\";",
        "CREATE INDEX orders_placed_at_idx ON orders",
        // A wider type loses nothing.
        "\nalter table \"tenant_acme\".\"orders\" alter column \"total_minor\" type bigint",
        "--   alter table \"public\".\"users\" drop column \"nickname\";",
    ] {
        assert!(printed.stdout.contains(expected), "{expected}\n{}", printed.stdout);
    }
    let json = shell.run(&["drift", "--json"]).stdout;
    assert!(
        json.contains(r#"{"sql":"alter table \"tenant_acme\".\"orders\" drop column \"scratch\"","loses_data":true"#),
        "{json}"
    );
    // As it is printed, the column that may hold something stays; with the dashes taken away it goes.
    raw.run(&printed.stdout).await;
    let left = drift::verify(&operator, &migrations, &Scope::Everything).await.unwrap();
    assert_eq!(lines(&left.tenants[0]), ["column orders.scratch: not from any migration"]);
    raw.run(&meant(&printed.stdout.replace("CREATE INDEX", "CREATE INDEX IF NOT EXISTS"))).await;
    let printed = shell.run(&["drift", "--sql"]);
    assert_eq!((printed.code, printed.stdout.as_str()), (0, ""), "{}", printed.stderr);
}
