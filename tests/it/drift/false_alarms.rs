//! What a tester from outside found in drift: an untouched fleet that drifts, and a change that is not seen.

use crate::support::fleet::{Fleet, said};

/// The settings of a database, and a default whose text they change.
#[tokio::test]
async fn a_database_with_settings_of_its_own_does_not_drift() {
    for (setting, column) in [
        ("timezone = 'Asia/Kathmandu'", "t timestamptz default '2020-01-01 00:00+0'"),
        ("datestyle = 'German'", "d date default '2020-01-02'"),
        ("intervalstyle = 'iso_8601'", "i interval default '1 day 2 hours'"),
        ("bytea_output = 'escape'", "b bytea default '\\x00'"),
        ("quote_all_identifiers = on", "b bytea"),
    ] {
        let fleet = Fleet::of(&["acme"]).await;
        fleet.raw.run(&format!("alter database {} set {setting}", fleet.database.name())).await;
        fleet.migrate(&format!("create table x ({column});\n"));
        let answer = fleet.shell.run(&["drift"]);
        assert_eq!(answer.code, 0, "{setting}: {}", said(&answer));
        // The control: the column is compared.
        fleet.raw.run("alter table tenant_acme.x rename to y").await;
        assert_eq!(fleet.shell.run(&["drift"]).code, 7, "{setting}");
    }
}

/// Of a table whose parent is published as well the server's own view has no filter.
#[tokio::test]
async fn the_filter_of_a_partition_is_compared_where_its_table_is_published_too() {
    let files = "create table parts (id int) partition by range (id);\n\
                 create table parts_1 partition of parts for values from (0) to (10);\n";
    let fleet = Fleet::with(&["acme"], files).await;
    if fleet.raw.one::<i32>("select current_setting('server_version_num')::int4").await < 150_000 {
        return;
    }
    let name = format!("filtered_{}", fleet.database.name());
    fleet
        .raw
        .run(&format!(
            "create publication {name} for table tenant_acme.parts where (id > 1), tenant_acme.parts_1 where (id > 2) \
         with (publish_via_partition_root)"
        ))
        .await;
    // The precondition.
    let seen = "select count(*) from pg_publication_tables where tablename = 'parts_1'";
    assert_eq!(fleet.raw.one::<i64>(seen).await, 0);
    let answer = fleet.shell.run(&["drift"]);
    for filter in ["parts: publications are", "where (id > 1)", "parts_1: publications are", "where (id > 2)"] {
        assert!(answer.code == 7 && answer.stdout.contains(filter), "{filter}: {}", said(&answer));
    }
}

/// Default privileges that a file gives in its schema: for each kind of object, of the operator and of another role.
#[tokio::test]
async fn default_privileges_of_a_file_are_compared_by_kind_and_role() {
    let fleet = Fleet::of(&["acme"]).await;
    let kinds = [("select", "tables"), ("usage", "sequences"), ("execute", "functions"), ("usage", "types")];
    let of = |role: &str, verb: &str, right: &str, kind: &str, direction: &str| {
        format!("alter default privileges {role} in schema %I {verb} {right} on {kind} {direction} pg_monitor")
    };
    let mut file = String::new();
    for role in ["", "for role pg_read_all_stats"] {
        for (right, kind) in kinds {
            let statement = of(role, "grant", right, kind, "to");
            file.push_str(&format!("do $$ begin execute format('{statement}', current_schema()); end $$;\n"));
        }
    }
    fleet.migrate(&file);
    let answer = fleet.shell.run(&["drift"]);
    assert_eq!(answer.code, 0, "{}", said(&answer));
    // The control: each is one difference where it is taken back by hand, and none once it is given again.
    for (role, whose) in [("", ""), ("for role pg_read_all_stats", " of pg_read_all_stats")] {
        for (right, kind) in kinds {
            let by_hand =
                |verb: &str, direction: &str| of(role, verb, right, kind, direction).replace("%I", "tenant_acme");
            fleet.raw.run(&by_hand("revoke", "from")).await;
            let answer = fleet.shell.run(&["drift"]);
            let lines: Vec<_> = answer.stdout.lines().filter(|line| line.starts_with("  default rights ")).collect();
            assert!(answer.code == 7 && lines.len() == 1, "{kind}{whose}: {}", said(&answer));
            assert!(lines[0].starts_with(&format!("  default rights {kind}{whose}: ")), "{}", lines[0]);
            fleet.raw.run(&by_hand("grant", "to")).await;
            assert_eq!(fleet.shell.run(&["drift"]).code, 0, "{kind}{whose}");
        }
    }
}

/// What an extension brings is its own, the relation of a composite type included. Those that the server's packages have.
#[tokio::test]
async fn objects_of_extensions_are_no_drift() {
    let fleet = Fleet::of(&["acme"]).await;
    let extensions = [
        "dblink",
        "tablefunc",
        "hstore",
        "ltree",
        "citext",
        "cube",
        "earthdistance",
        "intarray",
        "isn",
        "pg_trgm",
        "pgcrypto",
        "postgres_fdw",
        "file_fdw",
        "seg",
        "unaccent",
        "btree_gist",
        "pgrowlocks",
        "pgstattuple",
        "xml2",
    ];
    for name in extensions {
        // One that is not there is left out.
        let create = format!(
            "do $$ begin create extension {name} schema public cascade; exception when others then null; end $$"
        );
        fleet.raw.run(&create).await;
    }
    let made =
        "select count(*)::int from pg_depend d join pg_type t on d.classid = 'pg_type'::regclass and t.oid = d.objid
                where d.deptype = 'e' and t.typtype = 'c' and t.typnamespace = 'public'::regnamespace";
    let answer = fleet.shell.run(&["drift"]);
    assert_eq!(answer.code, 0, "{}", said(&answer));
    assert!(fleet.raw.one::<i32>(made).await >= 4, "dblink and tablefunc are not there");
    // The control: a composite type of one's own is named.
    fleet.raw.run("create type public.own as (a int)").await;
    let answer = fleet.shell.run(&["drift"]);
    assert!(answer.code == 7 && answer.stdout.contains("type own"), "{}", said(&answer));
}

#[tokio::test]
async fn a_schemas_own_name_in_a_body_or_a_literal_is_no_drift() {
    let fleet = Fleet::of(&["acme", "globex"]).await;
    fleet.migrate(
        "do $$ begin execute format('create function g() returns bigint language sql as \
         ''select count(*) from %I.orders''', current_schema()); end $$;\n\
         do $$ begin execute format('create table x (s text default %L)', current_schema()); end $$;\n",
    );
    let answer = fleet.shell.run(&["drift"]);
    assert_eq!(answer.code, 0, "{}", said(&answer));
    // Another tenant's name is a difference, and the statement against it has the schema's own.
    fleet.raw.run("alter table tenant_acme.x alter s set default 'tenant_globex'").await;
    let answer = fleet.shell.run(&["drift", "--sql"]);
    assert_eq!(answer.code, 7, "{}", said(&answer));
    assert!(answer.stdout.contains("set default 'tenant_acme'"), "{}", said(&answer));
    assert!(!answer.stdout.contains("cgk_rehearsal"), "{}", said(&answer));
}

/// Also as a part of a name. What is missing is called as it is called in the tenant.
#[tokio::test]
async fn a_schemas_own_name_in_a_name_is_no_drift() {
    let fleet = Fleet::of(&["acme", "globex"]).await;
    fleet.migrate(
        "do $$ begin execute format('create table %I (id int, %I int, %I int check (%3$I > 0))', 'of ' || current_schema(), \
         'c_' || current_schema(), current_schema() || '_d'); end $$;\n\
         do $$ begin execute format('create index %I on %I (id)', current_schema() || ' i', 'of ' || current_schema()); end $$;\n",
    );
    let answer = fleet.shell.run(&["drift"]);
    assert_eq!(answer.code, 0, "{}", said(&answer));
    fleet.raw.run("alter table tenant_acme.\"of tenant_acme\" drop c_tenant_acme, drop tenant_acme_d, add c_tenant_globex int").await;
    fleet.raw.run("drop table tenant_globex.\"of tenant_globex\"").await;
    for command in [&["drift"][..], &["drift", "--json"], &["drift", "--sql"], &["tenant:verify", "acme", "globex"]] {
        let answer = fleet.shell.run(command);
        let said = said(&answer);
        assert!(
            !said.contains("cgk_rehearsal") && !said.contains('\u{1}') && !said.contains("u{1}"),
            "{command:?}: {said}"
        );
        assert!(!said.contains("u0001"), "{command:?}: {said}");
        if command == ["drift"] {
            for line in [
                "column of tenant_acme.c_tenant_acme: missing",
                "column of tenant_acme.tenant_acme_d: missing",
                "column of tenant_acme.c_tenant_globex: not from any migration",
                "table of tenant_globex: missing",
            ] {
                assert!(said.contains(line), "{line}: {said}");
            }
        }
    }
}

/// What a dump and a restore make of an expression: the server reads its own text of it.
#[tokio::test]
async fn an_expression_that_was_restored_from_a_dump_is_no_drift() {
    let fleet = Fleet::with(
        &["acme"],
        "create table k (s varchar(10), n int, m int, a varchar[]);\n\
         alter table k add constraint c1 check (s in ('a', 'b''])'));\n\
         alter table k add constraint c2 check (n between 1 and 5 and m > 0);\n\
         alter table k add constraint c3 check (s not in ('q', upper('e')::varchar) and n::numeric in (1, 2.5));\n\
         alter table k add constraint c4 check (a <@ array['x', 'y']::varchar[]);\n\
         create index i on k (n) where s in ('a', 'b');\n\
         create view v as select s from k where s in ('a', 'b');\n\
         create domain d as varchar(5) constraint c5 check (value in ('a', 'b'));\n\
         create policy p on k using (s in ('a', 'b'));\n",
    )
    .await;
    let texts = "select string_agg(pg_get_constraintdef(oid), ' ' order by conname) || pg_get_indexdef('tenant_acme.i'::regclass) \
                 || pg_get_viewdef('tenant_acme.v'::regclass) from pg_constraint where connamespace = 'tenant_acme'::regnamespace and contype = 'c'";
    let before: String = fleet.raw.one(texts).await;
    fleet
        .raw
        .run(
            "set search_path = tenant_acme; do $$ declare c record; p text := pg_get_expr(polqual, polrelid) from pg_policy where polname = 'p';
             begin
                 for c in select conname, pg_get_constraintdef(oid) as text from pg_constraint where conrelid = 'k'::regclass and contype = 'c' loop
                     execute format('alter table k drop constraint %s; alter table k add constraint %s %s', c.conname, c.conname, c.text);
                 end loop;
                 execute (select 'alter domain d drop constraint c5; alter domain d add constraint c5 ' || pg_get_constraintdef(oid)
                          from pg_constraint where contypid = 'd'::regtype);
                 execute (select 'drop index i; ' || pg_get_indexdef('i'::regclass));
                 execute 'create or replace view v as ' || pg_get_viewdef('v'::regclass);
                 execute format('alter policy p on k using (%s)', p);
             end $$; reset search_path",
        )
        .await;
    let after: String = fleet.raw.one(texts).await;
    assert_ne!(before, after, "the precondition: the server writes other texts");
    let answer = fleet.drift();
    assert_eq!(answer.code, 0, "{}", said(&answer));
    // The control: another list is a difference.
    fleet.raw.run("create or replace view tenant_acme.v as select s from tenant_acme.k where s in ('a', 'c')").await;
    assert_eq!(fleet.drift().code, 7);
}
