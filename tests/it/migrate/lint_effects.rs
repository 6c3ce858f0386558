//! Warnings about rows, compared with what a server does: whose rows a statement changes, and which relation a name means.

use crate::sandbox::{Files, Raw};
use cgk::{
    migrate::lint_directory,
    testing::{TestDatabase, TestServer},
};

const SHARED: &str = "create table plans (id int primary key, org text, price int); create table app.plans (id int, org text, price int)";
const OWN: &str = "create table orders (id int); create table members (id int); create view old_orders as select 1 as id; \
                   create index orders_i on orders (id)";

/// The warnings about one more tenant file.
fn found(text: &str) -> Vec<String> {
    let files = Files::empty();
    files.public("001_shared.sql", SHARED).tenant("001_own.sql", OWN).tenant("002_x.sql", text);
    let found = lint_directory(files.path()).unwrap();
    let of_file = found.iter().filter(|finding| finding.file.ends_with("002_x.sql"));
    of_file.map(|finding| finding.lint.to_string()).collect()
}

/// A database with the schema of a tenant and a shared one. Each shared table has a row of the tenant, and one of another.
async fn schemas() -> (TestDatabase, Raw) {
    let database = TestServer::shared().database().await.unwrap();
    let raw = Raw::on(&database).await;
    raw.run(&format!(
        "create schema app; {SHARED}; create schema x; set search_path = x; {OWN}; set search_path = x, public, pg_temp;
         insert into orders values (1); insert into members values (1);
         insert into plans values (1, 'x', 5), (2, 'y', 5); insert into app.plans table plans"
    ))
    .await;
    (database, raw)
}

/// Whether a file changes what a query returns.
async fn changes(raw: &Raw, text: &str, query: &str) -> bool {
    let before: String = raw.one(query).await;
    raw.run("begin").await;
    raw.run(text).await;
    let after: String = raw.one(query).await;
    raw.run("rollback").await;
    before != after
}

#[tokio::test]
async fn a_name_of_two_relations_is_a_warning_where_the_other_one_is_emptied() {
    let (_database, raw) = schemas().await;
    let rows = "select count(*)::text from x.orders";
    for text in [
        "create temp table orders (id int); truncate orders",
        "create table pg_temp.orders (id int); truncate pg_temp.orders; truncate orders",
        "select 1 as id into pg_temp.orders; truncate orders",
        "select 1 as id into temporary orders; delete from orders",
        "with a as (select 1 as id) select * into local temp table orders from a; truncate orders",
        "create temp table a (id int); alter table a rename to orders; truncate orders",
        "create temp table a (id int); alter table pg_temp.a rename to orders; truncate orders",
        "create temp table a (id int); alter table a rename to b; alter table b rename to orders; truncate orders",
        "create temp table b (id int); alter table orders rename to a; alter table a rename to b; truncate b; alter table x.b rename to orders",
        "do $$ begin create temp table orders (id int); truncate orders; end $$",
        "do $$ begin if true then create temp table a (id int); alter table a rename to orders; end if; end $$; delete from orders",
        "do $$ begin execute 'create temp table orders (id int)'; execute 'truncate orders'; end $$",
        "create function f() returns void language plpgsql as $$ begin create temp table orders (id int); truncate orders; end $$; select f()",
        "create temp table orders (id int); do $$ begin delete from orders; end $$",
    ] {
        assert!(changes(&raw, text, rows).await, "the control: {text}");
        assert!(found(text).contains(&"temporary-name".to_owned()), "{text}: {:?}", found(text));
    }
    for text in [
        "create temp table a (id int); truncate a; delete from a where true; drop table a",
        "create table pg_temp.orders (id int); truncate pg_temp.orders; delete from pg_temp.orders; drop table pg_temp.orders",
        "select 1 as id into pg_temp.orders; truncate pg_temp.orders; alter table pg_temp.orders drop column id",
        "create temp table a (id int); drop table a; create table a (id int); truncate a",
        "create temp table a (id int); create index a_i on a (id); alter table a rename to b; truncate b; drop index a_i",
        "create temp table a (id int); create view b as select * from a; drop view b; drop table a",
        "do $$ begin create temp table a (id int); truncate a; drop table a; end $$",
        "do $$ declare a int; orders int; begin select id into a from orders o; end $$; create temp table a (id int)",
        "create function f() returns void language plpgsql as $$ begin create temp table a (id int); truncate a; end $$; select f()",
    ] {
        assert!(!changes(&raw, text, rows).await, "the control: {text}");
        assert_eq!(found(text), Vec::<String>::new(), "{text}");
    }
    // The file calls the temporary one pg_temp.orders, and the other one orders.
    let copy = "create table pg_temp.orders (id int); insert into pg_temp.orders values (2);
                insert into orders select id from pg_temp.orders; drop table pg_temp.orders; analyze orders";
    assert!(changes(&raw, copy, rows).await, "the control");
    assert_eq!(found(copy), Vec::<String>::new());
}

/// The second of two relations with a name is the temporary one, or the other one.
#[test]
fn a_name_that_is_taken_later_is_a_warning_as_well() {
    for (text, lints) in [
        ("create temp table a (id int); create table a (id int); truncate a", &["temporary-name"][..]),
        ("create temp table a (id int); create sequence a", &["temporary-name"]),
        ("create temp table a (id int); select 1 as id into a", &["temporary-name"]),
        ("create temp table a (id int); alter table orders rename to a", &["renames", "temporary-name"]),
        ("create temp table a (id int); do $$ begin create table a (id int); end $$", &["temporary-name"]),
        ("create temp table a (id int); alter table a rename to plans", &["temporary-name"]),
        ("create temp table a (id int); create view old_orders as select * from a", &["temporary-name"]),
        (
            "create temp table a (id int); create index orders_i on a (id); drop index orders_i",
            &["index-not-concurrent", "temporary-name"],
        ),
        (
            "create temp table a (id int); create index b on a (id); alter index b rename to orders_i",
            &["temporary-name"],
        ),
        ("create table pg_temp.a (id int); create table a (id int); insert into a select * from pg_temp.a", &[]),
        ("create temp table a (id int); drop table pg_temp.a; create table a (id int)", &[]),
    ] {
        assert_eq!(found(text), lints, "{text}");
    }
}

#[tokio::test]
async fn a_write_to_shared_rows_is_a_warning_where_it_changes_those_of_other_tenants() {
    let (_database, raw) = schemas().await;
    let rows = "select concat((select string_agg(p::text, ' ') from plans p where org = 'y'), \
                (select string_agg(p::text, ' ') from app.plans p where org = 'y'))";
    for text in [
        "delete from plans",
        "delete from plans where true",
        "delete from only public.plans where 1 = 1 returning id",
        "update plans set price = 0 where true",
        "update plans set price = 0 where id > 0",
        "update plans set price = 0 where org = 'y'",
        "update plans set price = (select max(id) from members where id < 5)",
        "update app.plans set price = 0 where id = 2",
        "with d as (delete from plans returning *) select count(*) from d",
        "with d as (update plans set price = 1 where id = 2 returning *) insert into orders select id from d",
        "truncate plans",
        "do $$ begin delete from plans where true; end $$",
        "do $$ begin if true then update plans set price = 0 where id < 100; end if; end $$",
        "do $$ begin for r in 1..1 loop execute 'delete from app.plans where id > 1'; end loop; end $$",
        "do $$ begin delete from plans where id = 2; exception when others then raise exception 'x' using errcode = '22000'; end $$",
    ] {
        assert!(changes(&raw, text, rows).await, "the control: {text}");
        assert!(found(text).contains(&"changes-shared".to_owned()), "{text}: {:?}", found(text));
    }
    for text in [
        "insert into plans values (3, 'x', 1) on conflict do nothing",
        "insert into plans values (1, 'x', 1) on conflict (id) do update set price = excluded.price",
        "with i as (insert into plans values (3, 'x', 1) returning id) select * from i",
        "delete from plans where org = current_schema()",
        "update plans set price = 0 where org = current_schema",
        "update plans set price = 0 from members m where m.id = plans.id",
        "delete from plans where id in (select id from members)",
        "with mine as (select id from members) delete from plans where id in (select id from mine)",
        "create temp table mine as select id from members; delete from plans using mine where mine.id = plans.id",
        "do $$ declare o text := current_schema(); begin delete from plans where org = o; end $$",
        "do $$ declare r record; begin for r in select id from members loop update plans set price = 0 where id = r.id; end loop; end $$",
        "select * from plans for update",
    ] {
        assert!(!changes(&raw, text, rows).await, "the control: {text}");
        assert_eq!(found(text), Vec::<String>::new(), "{text}");
    }
    // A server of version 15 or later has MERGE, and a database that is set up has current_tenant_slug().
    for (text, lints) in [
        ("merge into plans using (values (1)) v (a) on id = a when matched then delete", &["changes-shared"][..]),
        ("merge into plans using (values (1)) v (a) on id = a when not matched then insert values (a)", &[]),
        ("merge into plans using members m on m.id = plans.id when matched then update set price = 0", &[]),
        ("delete from plans where org = current_tenant_slug()", &[]),
        ("delete from plans where org = current_setting('app.org', true)", &[]),
        ("delete from plans where org = current_user and id < 5", &["changes-shared"]),
        ("do $$ begin create table a (id int) inherits (plans); end $$", &["shared-parent"]),
    ] {
        assert_eq!(found(text), lints, "{text}");
    }
}
