//! Faults that were reported of other migration tools, and sentences of the documentation, tried by somebody from outside.

use crate::support::{
    cgk::Answer,
    fleet::{Fleet, said},
};

pub(super) fn no_drift(what: &str, answer: &Answer) {
    assert_eq!(answer.code, 0, "{what}: {}", said(answer));
}

#[tokio::test]
async fn a_ledger_that_takes_no_row_is_a_failure_and_not_done() {
    let nothing = "create function public.nothing() returns trigger language plpgsql as $$ begin return null; end $$; \
                   create trigger swallow before insert on tenant_acme.schema_migrations for each row execute function public.nothing()";
    let rule = "create rule swallow as on insert to tenant_acme.schema_migrations do instead nothing";
    let mut wrong = Vec::new();
    for by in [nothing, rule] {
        for first in ["", "-- cgk:no-transaction\n"] {
            let fleet = Fleet::of(&["acme"]).await;
            fleet.raw.run(by).await;
            fleet.file("003_next.sql", &format!("{first}create table x (id int);\n"));
            let answer = fleet.shell.run(&["migrate", "-q"]);
            let recorded: bool =
                fleet.raw.one("select exists (select from tenant_acme.schema_migrations where version = 3)").await;
            if answer.code == 0 && !recorded {
                wrong.push(format!("{by}: {first:?}: {}", said(&answer)));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[tokio::test]
async fn a_plan_to_standard_output_makes_no_file() {
    let fleet = Fleet::of(&["acme"]).await;
    fleet.shell.run(&["migrate", "-q", "--plan-out", "-"]);
    assert!(!fleet.shell.folder().join("-").exists());
}

#[tokio::test]
async fn retry_failed_finds_what_failed_in_another_part() {
    let fleet = Fleet::of(&["t1", "t2", "t3", "t4", "t5", "t6"]).await;
    fleet.raw.run("insert into tenant_t3.orders values (7)").await;
    let sql = "create table x (id int check (id < 5)); insert into x select id from orders;\n";
    fleet.file("003_next.sql", sql);
    for part in ["1/3", "2/3", "3/3"] {
        fleet.shell.run(&["migrate", "-q", "--no-rehearsal", "--part", part]);
    }
    let behind = "select to_regclass('tenant_t3.x') is null and to_regclass('tenant_t1.x') is not null";
    assert!(fleet.raw.one::<bool>(behind).await, "the control: one failed, another did not");
    let answer = fleet.shell.run(&["migrate", "--retry-failed"]);
    assert_eq!(answer.code, 4, "{}", said(&answer));
}

/// One connection serves both tenants: what the first leaves in its session is not there for the second.
#[tokio::test]
async fn nothing_of_a_session_reaches_the_next_tenant() {
    let files = [
        "create temp table if not exists stash as select id from orders; create table kept as select id from stash;",
        "create or replace function pg_temp.f() returns setof bigint language sql as 'select id from orders'; \
         create table kept as select f as id from pg_temp.f();",
        "create table kept as select coalesce(nullif(current_setting('my.x', true), '')::bigint, id) as id from orders; \
         select set_config('my.x', (select id::text from orders), false);",
        "create table kept as select id from orders; set session characteristics as transaction read only;",
        "create table kept as select id from orders; set session_replication_role = replica;",
    ];
    for sql in files {
        for first in ["", "-- cgk:no-transaction\n"] {
            // Without a transaction the record of how far the file has got could not be written.
            if sql.contains("read only") && !first.is_empty() {
                continue;
            }
            let fleet = Fleet::of(&["acme", "globex"]).await;
            fleet
                .raw
                .run("insert into tenant_acme.orders values (1); insert into tenant_globex.orders values (2)")
                .await;
            fleet.file("003_next.sql", &format!("{first}{sql}"));
            fleet.ok(&["migrate", "-q", "--jobs", "1", "--no-rehearsal"]);
            let kept = "select (select array_agg(id) from tenant_acme.kept) = '{1}' and (select array_agg(id) from tenant_globex.kept) = '{2}'";
            assert!(fleet.raw.one::<bool>(kept).await, "{first}{sql}");
        }
    }
}

/// A plan that somebody wrote into is not carried out, and nothing is.
#[tokio::test]
async fn a_plan_that_was_edited_by_hand_changes_nothing() {
    type Edit = fn(&mut serde_json::Value);
    let edits: [(&str, Edit); 14] = [
        ("a tenant less", |plan| drop(plan["tenants"][0]["tenants"].as_array_mut().unwrap().pop())),
        ("a tenant more", |plan| plan["tenants"][0]["tenants"].as_array_mut().unwrap().push("other".into())),
        ("no tenants", |plan| plan["tenants"] = serde_json::json!([])),
        ("the last file left out", |plan| drop(plan["tenants"][0]["pending"].as_array_mut().unwrap().pop())),
        ("the first file left out", |plan| drop(plan["tenants"][0]["pending"].as_array_mut().unwrap().remove(0))),
        ("turned round", |plan| plan["tenants"][0]["pending"].as_array_mut().unwrap().reverse()),
        ("another checksum", |plan| plan["tenants"][0]["pending"][0]["checksum"] = "sha256:00".into()),
        ("a fraction", |plan| plan["tenants"][0]["pending"][0]["version"] = 2.5.into()),
        ("another ledger", |plan| plan["tenants"][0]["ledger"] = "00".into()),
        ("another format", |plan| plan["v"] = 3.into()),
        ("another database", |plan| plan["database"] = "other".into()),
        ("a field more", |plan| plan["extra"] = 1.into()),
        ("a field less", |plan| drop(plan.as_object_mut().unwrap().remove("aside"))),
        ("fewer are meant", |plan| plan["selection"]["exclude"] = serde_json::json!(["acme"])),
    ];
    let fleet = Fleet::of(&["acme", "globex"]).await;
    fleet.file("003_x.sql", "create table x (id int);\n");
    fleet.file("004_y.sql", "create table y (id int);\n");
    fleet.ok(&["migrate", "-q", "--plan-out", "plan.json"]);
    let before = fleet.relations().await;
    let plan: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(fleet.shell.folder().join("plan.json")).unwrap()).unwrap();
    for (what, edit) in edits {
        let mut edited = plan.clone();
        edit(&mut edited);
        assert_ne!(edited, plan, "{what}");
        fleet.shell.write("edited.json", &edited.to_string());
        let answer = fleet.shell.run(&["migrate", "--apply", "edited.json"]);
        assert!(matches!(answer.code, 1 | 2), "{what}: {}", said(&answer));
        assert_eq!(fleet.relations().await, before, "{what}");
    }
    for text in ["", "{}", "[", "\u{feff}{}"] {
        fleet.shell.write("edited.json", text);
        assert_eq!(fleet.shell.run(&["migrate", "--apply", "edited.json"]).code, 2, "{text:?}");
    }
    // The control: as it was written it is carried out.
    fleet.ok(&["migrate", "-q", "--apply", "plan.json"]);
    assert_ne!(fleet.relations().await, before);
}

/// The settings of the database that other tools trip over: the file is applied, and nothing drifts.
#[tokio::test]
async fn settings_of_the_database_are_in_nobodys_way() {
    let settings = [
        "default_transaction_isolation = 'serializable'",
        "default_transaction_deferrable = on",
        "lock_timeout = '1ms'",
        "check_function_bodies = off",
        "search_path = ''",
        "search_path = 'pg_catalog'",
        "standard_conforming_strings = off",
        "client_encoding = 'LATIN1'",
        "extra_float_digits = -10",
        "array_nulls = off",
        "xmloption = 'document'",
        "client_min_messages = 'debug5'",
        "plan_cache_mode = 'force_generic_plan'",
        "transform_null_equals = on",
    ];
    for setting in settings {
        let fleet = Fleet::of(&["acme", "globex"]).await;
        fleet.raw.run(&format!("alter database {} set {setting}", fleet.database.name())).await;
        let sql = "create table x (f float8 default 0.1, s text default 'a\\b', n int check (n between 1 and 5));\n\
                   create function ff() returns int language sql as 'select 1';\n\
                   insert into x default values;\n";
        fleet.file("003_next.sql", sql);
        fleet.ok(&["migrate", "-q"]);
        no_drift(setting, &fleet.drift());
    }
    // Without triggers and foreign keys, without policies: these are in nobody's way either, and named.
    for (setting, shown) in [
        ("session_replication_role = 'replica'", "session_replication_role=replica"),
        ("row_security = off", "row_security=off"),
    ] {
        let fleet = Fleet::of(&["acme", "globex"]).await;
        fleet.raw.run(&format!("alter database {} set {setting}", fleet.database.name())).await;
        fleet.file("003_next.sql", "create table x ()");
        fleet.ok(&["migrate", "-q"]);
        let found = fleet.drift();
        assert!(found.code == 7 && found.stdout.contains(shown), "{}", found.stdout);
    }
}

/// Whom and how: what one flag leaves out another run finds.
#[tokio::test]
async fn parts_targets_and_one_transaction_keep_what_they_promise() {
    let slugs = ["t1", "t2", "t3", "t4", "t5", "t6", "t7", "t8", "t9"];
    let fleet = Fleet::of(&slugs).await;
    fleet.file("003_x.sql", "create table x (id int);\n");
    fleet.file("004_y.sql", "create table y (id int);\n");
    for part in ["1/3", "2/3", "3/3"] {
        fleet.ok(&["migrate", "-q", "--target", "3", "--part", part]);
    }
    let having = async |table: &str| {
        let count = format!("select count(*) from pg_class where relname = '{table}' and relkind = 'r'");
        fleet.raw.one::<i64>(&count).await
    };
    assert_eq!((having("x").await, having("y").await), (9, 0));
    assert_eq!(fleet.shell.run(&["migrate", "--check"]).code, 3);
    for wrong in ["0/3", "4/3", "1/0", "x", "1/99999999999"] {
        assert_eq!(fleet.shell.run(&["migrate", "--part", wrong]).code, 2, "{wrong}");
    }
    assert_eq!(fleet.shell.run(&["migrate", "--target", "99"]).code, 2);
    // One fails: none is done.
    fleet.raw.run("insert into tenant_t9.orders values (7)").await;
    fleet.file("004_y.sql", "create table y (id int check (id < 5)); insert into y select id from orders;\n");
    assert_eq!(fleet.shell.run(&["migrate", "-q", "--all-or-nothing"]).code, 1);
    assert_eq!(having("y").await, 0);
    // What runs without a transaction is refused before anything is done.
    fleet.file("005_z.sql", "-- cgk:no-transaction\ncreate index concurrently x_id on x (id);\n");
    let answer = fleet.shell.run(&["migrate", "-q", "--all-or-nothing"]);
    assert!(answer.code == 2 && said(&answer).contains("005_z"), "{}", said(&answer));
    assert_eq!(having("y").await, 0);
    // The failed one alone is left, and is found again.
    assert_eq!(fleet.shell.run(&["migrate", "-q"]).code, 4);
    assert_eq!(having("y").await, 8);
    assert_eq!(fleet.shell.run(&["migrate", "-q", "--retry-failed"]).code, 4);
    fleet.raw.run("delete from tenant_t9.orders").await;
    fleet.ok(&["migrate", "-q", "--retry-failed"]);
    assert_eq!((having("y").await, fleet.shell.run(&["migrate", "--check"]).code), (9, 0));
}

/// The tables of other tools, whole and broken: a schema is taken over by what they say, or left as it is.
#[tokio::test]
async fn the_tables_of_other_tools_are_believed_where_they_agree_and_refused_where_not() {
    let sqlx = "create table _sqlx_migrations (version bigint, description text, installed_on timestamptz default now(), \
                success boolean, checksum bytea, execution_time bigint)";
    let goose = "create table goose_db_version (id serial, version_id bigint, is_applied boolean, tstamp timestamp default now())";
    let golang = "create table gm (version bigint, dirty boolean)";
    let rails = "create table gm (version varchar)";
    let cases = [
        (
            sqlx,
            "insert into _sqlx_migrations values (1, 'orders', now(), true, '', 1), (2, 'items', now(), true, '', 1)",
            "_sqlx_migrations",
            0,
        ),
        (
            sqlx,
            "insert into _sqlx_migrations values (1, 'orders', now(), true, '', 1), (2, 'items', now(), false, '', 1)",
            "_sqlx_migrations",
            1,
        ),
        (
            goose,
            "insert into goose_db_version (version_id, is_applied) values (0, true), (1, true), (2, true)",
            "goose_db_version",
            0,
        ),
        (
            goose,
            "insert into goose_db_version (version_id, is_applied) values (0, true), (1, true), (2, true), (2, false)",
            "goose_db_version",
            7,
        ),
        (golang, "insert into gm values (2, false)", "gm", 0),
        (golang, "insert into gm values (2, true)", "gm", 1),
        (golang, "select 1", "gm", 7),
        (rails, "insert into gm values ('1'), ('2')", "gm", 0),
        (rails, "insert into gm values ('2')", "gm", 1),
        (rails, "insert into gm values ('1'), ('3')", "gm", 1),
        (rails, "insert into gm values ('1'), ('2')", "nonesuch", 1),
    ];
    let fleet = Fleet::of(&["first"]).await;
    for (i, (table, rows, name, code)) in cases.iter().enumerate() {
        let slug = format!("b{i}");
        let make = format!(
            "create schema tenant_{slug}; set search_path = tenant_{slug}; create table orders (id bigint primary key); \
             create table items (id bigint primary key); {table}; {rows}; reset search_path"
        );
        fleet.raw.run(&make).await;
        let answer = fleet.shell.run(&["migrate:baseline", &slug, "--from-table", name]);
        assert_eq!(answer.code, *code, "{rows}: {}", said(&answer));
        let adopted = format!(
            "select exists (select from organizations where slug = '{slug}') and to_regclass('tenant_{slug}.schema_migrations') is not null"
        );
        assert_eq!(fleet.raw.one::<bool>(&adopted).await, *code == 0, "{rows}");
    }
    // Rails' and dbmate's own table stands where the ledger belongs.
    fleet
        .raw
        .run("create schema tenant_old; create table tenant_old.schema_migrations (version varchar primary key)")
        .await;
    let answer = fleet.shell.run(&["migrate:baseline", "old"]);
    assert!(answer.code == 1 && said(&answer).contains("rename to"), "{}", said(&answer));
}

/// Changes by hand that diffs of other tools leave out, all in one tenant: each is named.
#[tokio::test]
async fn changes_that_other_diffs_leave_out_are_each_named() {
    let sql = "create table k (id int primary key, s text not null default 'a' constraint kc check (s <> ''), n int unique deferrable);\n\
               create table k2 (id int generated by default as identity);\n\
               create index k_i on k (lower(s));\n\
               create view v as select id, s from k;\n\
               create domain d as int constraint dc check (value > 0);\n\
               create type en as enum ('x', 'y');\n\
               create function trg() returns trigger language plpgsql as $$ begin return new; end $$;\n\
               create trigger t1 before update of s on k for each row execute function trg();\n\
               create policy pol on k using (true);\n\
               create function fn(a int) returns int language sql immutable as 'select 1';\n\
               create statistics st on s, n from k;\n\
               create table par (a int); create table chi (b int) inherits (par);\n\
               create aggregate agg(int) (sfunc = int4pl, stype = int, initcond = '0');\n\
               create sequence sq; alter table k cluster on k_pkey;\n";
    let fleet = Fleet::with(&["acme"], sql).await;
    no_drift("the control", &fleet.drift());
    let changes = [
        ("alter table k alter s set statistics 77", "statistics target is 77"),
        ("alter table k alter s set storage external", "external"),
        ("alter table k alter s set (n_distinct = 5)", "n_distinct"),
        ("alter table k set (toast.autovacuum_enabled = off)", "autovacuum_enabled"),
        ("alter index k_i alter column 1 set statistics 44", "index k_i: statistics targets are 1: 44"),
        ("alter table k replica identity full", "replica identity"),
        ("alter table k set without cluster", "index k_pkey: no clustered"),
        ("alter table k2 set unlogged", "unlogged"),
        ("alter table k force row level security", "row security is off, forced"),
        ("alter table k disable trigger t1", "trigger k.t1"),
        ("alter view v set (security_barrier = true)", "security_barrier"),
        ("alter domain d set default 4", "domain d: default is 4"),
        ("alter type en rename value 'x' to 'xx'", "xx"),
        ("alter function fn(int) cost 5", "cost"),
        ("alter function fn(int) set work_mem = '5MB'", "work_mem"),
        ("create or replace aggregate agg(int) (sfunc = int4pl, stype = int, initcond = '1')", "agg"),
        ("alter sequence sq cache 9", "sequence sq"),
        ("alter table k2 alter id set generated always", "k2.id"),
        ("comment on policy pol on k is 'remark one'", "remark one"),
        ("comment on trigger t1 on k is 'remark two'", "remark two"),
        ("alter statistics st set statistics 9", "statistics st: statistics target is 9"),
        ("alter table chi no inherit par", "table chi: no inherits"),
        ("revoke execute on function fn(int) from public", "fn(a integer): no grants"),
    ];
    for (change, _) in changes {
        fleet.raw.run(&format!("set search_path = tenant_acme; {change}")).await;
    }
    let answer = fleet.drift();
    assert_eq!(answer.code, 7);
    for (change, named) in changes {
        assert!(answer.stdout.contains(named), "{change}: {named} is not in {}", answer.stdout);
    }
}
