//! `tenant:rename`: schema, role and registry change together, and whoever could enter the tenant still can.

use crate::{
    fixture::{enters, left_of, picture, refused_as, until},
    stage::{Stage, connect, must_end, slug},
    support::cgk::Shell,
};
use cgk::{
    Error, ErrorKind, TenantError,
    lifecycle::{self, CreateOptions, RenameOptions},
    migrate::Migrations,
};
use std::time::Duration;

fn to(new: &str) -> RenameOptions {
    RenameOptions::default().slug(slug(new))
}

/// The tenant without what a rename changes.
async fn unnamed(stage: &Stage, tenant: &str) -> String {
    let picture = picture(stage, tenant).await;
    picture.replace(tenant, "NAME").lines().filter(|line| !line.starts_with('{')).collect::<Vec<_>>().join("\n")
}

async fn a_renamed_tenant_is_the_same_one(stage: &Stage) {
    let operator = stage.operator().await;
    stage.db.tenant(&slug("acme")).execute("insert into customers (email) values ('a@x')", &[]).await.unwrap();
    let (before, globex) = (unnamed(stage, "acme").await, picture(stage, "globex").await);
    let options = to("apex").name("Apex Inc.");
    let renamed = lifecycle::rename(&operator, &slug("acme"), &options).await.unwrap();
    assert_eq!((renamed.before.slug.as_str(), renamed.tenant.slug.as_str()), ("acme", "apex"));
    assert_eq!((renamed.tenant.id, renamed.tenant.name.as_str()), (stage.acme, "Apex Inc."));

    assert_eq!(refused_as(&stage.db, "acme").await, ErrorKind::NotFound);
    assert_eq!(left_of(stage, "acme").await, [false; 3]);
    // The same pool, with the same login; and everything is as it was.
    let rows = stage.db.tenant(&slug("apex")).query("select email from customers", &[]).await.unwrap();
    assert_eq!(rows[0].get::<_, String>(0), "a@x");
    assert_eq!(unnamed(stage, "apex").await, before);
    assert_eq!(picture(stage, "globex").await, globex);
    let shell = Shell::on(&stage.database);
    let answer = shell.run(&["migrate:status", "--check"]);
    assert_eq!(answer.code, 0, "{}{}", answer.stdout, answer.stderr);

    // The old slug is free: another tenant has it, and neither sees the other's rows.
    let config = stage.database.config().clone().with_isolation(stage.db.config().isolation());
    let operator = cgk::Operator::connect(&config).await.unwrap();
    let options = CreateOptions::default();
    lifecycle::create(&operator, &stage.db, &Migrations::bundled(), &slug("acme"), &options).await.unwrap();
    let rows = stage.db.tenant(&slug("acme")).query("select email from customers", &[]).await.unwrap();
    assert_eq!(rows.len(), 0);
    // Repeated, the first name is another tenant's, and the second one is taken.
    let error = lifecycle::rename(&operator, &slug("acme"), &to("apex")).await.unwrap_err();
    assert_eq!(error.code(), "CGK0863");
    let back = lifecycle::rename(&operator, &slug("apex"), &to("apex")).await.unwrap();
    assert_eq!(back.before, back.tenant, "it has this slug already");
}

#[tokio::test(flavor = "multi_thread")]
async fn by_role_a_renamed_tenant_is_the_same_one() {
    a_renamed_tenant_is_the_same_one(&Stage::set().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn by_path_a_renamed_tenant_is_the_same_one() {
    a_renamed_tenant_is_the_same_one(&Stage::set_path_mode().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_inside_finishes_first_as_the_tenant_that_it_entered() {
    let stage = Stage::set().await;
    let service = connect(&stage.database).await;
    service.execute("begin", &[]).await.unwrap();
    service.query_one("select cgk_enter('acme')", &[]).await.unwrap();
    let operator = stage.operator().await;

    // When the time is over nothing is changed, and the error says who is inside.
    let error = lifecycle::rename(&operator, &slug("acme"), &to("apex").wait(Duration::ZERO)).await.unwrap_err();
    assert!(matches!(&error, Error::Tenant(TenantError::InUse { .. })), "{error:?}");
    assert_eq!(left_of(&stage, "apex").await, [false; 3]);

    let renaming = tokio::spawn(async move { lifecycle::rename(&operator, &slug("acme"), &to("apex")).await });
    let waits =
        "select exists (select from pg_locks where locktype = 'advisory' and mode = 'ExclusiveLock' and not granted
                 and database = (select oid from pg_database where datname = current_database()))";
    until(&stage, "the rename waits", waits).await;
    // Others still enter meanwhile, as the tenant has its old name.
    must_end(enters(&stage.db, "acme")).await.unwrap();
    assert!(!renaming.is_finished());
    service.execute("insert into customers (email) values ('late@x')", &[]).await.unwrap();
    service.query_one("select public.cgk_check('acme')", &[]).await.unwrap();
    service.execute("commit", &[]).await.unwrap();
    must_end(renaming).await.unwrap().unwrap();
    assert_eq!(stage.count("select count(*) from tenant_apex.customers").await, 1);
}

/// Services that write as fast as they can while the tenant is renamed back and forth: every row is in the one tenant, and an
/// error is that the name is unknown.
#[tokio::test(flavor = "multi_thread")]
async fn writers_beside_renames_never_reach_another_tenant() {
    let stage = Stage::set().await;
    stage.run("create table tenant_acme.marks (tenant text); create table tenant_globex.marks (tenant text)").await;
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let mut writers = Vec::new();
    for name in ["acme", "apex", "globex"] {
        let (db, stopped) = (stage.db.clone(), stopped.clone());
        writers.push(tokio::spawn(async move {
            let mut written = 0;
            let organization = if name == "globex" { "globex" } else { "acme" };
            while !*stopped.borrow() {
                let insert = "insert into marks values ($1)";
                match db.with_tenant(&slug(name), async |tx| tx.execute(insert, &[&organization]).await).await {
                    Ok(_) => written += 1,
                    Err(error) => {
                        assert!(matches!(error.code(), "CGK0401" | "CGK0403" | "CGK0408"), "{name}: {error:?}");
                    }
                }
            }
            written
        }));
    }
    let operator = stage.operator().await;
    for (from, new) in [("acme", "apex"), ("apex", "acme")].repeat(5) {
        must_end(lifecycle::rename(&operator, &slug(from), &to(new))).await.unwrap();
        // Each name is used at least once between two renames.
        let rows = format!(
            "select count(*) > {} from tenant_{new}.marks",
            stage.count(&format!("select count(*) from tenant_{new}.marks")).await
        );
        until(&stage, "a row is written under the new name", &rows).await;
    }
    stop.send(true).unwrap();
    let mut written = Vec::new();
    for writer in writers {
        written.push(must_end(writer).await.unwrap());
    }
    assert!(written.iter().all(|rows| *rows > 0), "{written:?}");
    let counts = stage.rows("select 'acme', count(*), count(*) filter (where tenant = 'acme') from tenant_acme.marks
        union all select 'globex', count(*), count(*) filter (where tenant = 'globex') from tenant_globex.marks order by 1", &[]).await;
    let counts: Vec<(i64, i64)> = counts.iter().map(|row| (row.get(1), row.get(2))).collect();
    assert_eq!(counts, [(written[0] + written[1], written[0] + written[1]), (written[2], written[2])]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failure_at_any_step_changes_nothing() {
    let stage = Stage::set().await;
    let operator = stage.operator().await;
    let before = picture(&stage, "acme").await;
    stage
        .run("create table public.failing (what text);
              create function public.fail() returns event_trigger language plpgsql as
                  $$ begin if exists (select from public.failing where what = tg_tag) then raise exception 'failing'; end if; end $$;
              create function public.fail_row() returns trigger language plpgsql as
                  $$ begin if exists (select from public.failing where what = 'UPDATE') then raise exception 'failing'; end if; return null; end $$;
              create event trigger fail on ddl_command_end execute function public.fail();
              create trigger fail after update on public.organizations for each row execute function public.fail_row()")
        .await;
    for step in ["ALTER SCHEMA", "UPDATE"] {
        stage.run(&format!("truncate public.failing; insert into public.failing values ('{step}')")).await;
        lifecycle::rename(&operator, &slug("acme"), &to("apex")).await.unwrap_err();
        assert_eq!(picture(&stage, "acme").await, before, "{step}");
        assert_eq!(left_of(&stage, "apex").await, [false; 3], "{step}");
        enters(&stage.db, "acme").await.unwrap();
    }
    stage.run("truncate public.failing").await;
    lifecycle::rename(&operator, &slug("acme"), &to("apex")).await.unwrap();
    enters(&stage.db, "apex").await.unwrap();
}

/// What says the schema's name as text, how that is said, and what takes it away.
const NAMING: &[(&str, &str, &str)] = &[
    (
        "create function public.count_all() returns bigint language sql as 'select count(*) from Tenant_ACME.customers'",
        "function public.count_all()",
        "drop function public.count_all()",
    ),
    (
        "create function public.named() returns bool begin atomic select to_regclass('tenant_acme.customers') is null; end",
        "function public.named()",
        "drop function public.named()",
    ),
    (
        "create table tenant_acme.numbered (n bigint default nextval(('tenant_acme' || '.numbers')::regclass))",
        "default value of tenant_acme.numbered.n",
        "drop table tenant_acme.numbered",
    ),
    (
        "create table tenant_acme.checked (n int constraint ok check (to_regclass('tenant_acme.customers') is not null))",
        "constraint ok of tenant_acme.checked",
        "drop table tenant_acme.checked",
    ),
    (
        "create domain tenant_acme.here as int constraint ok check (to_regclass('tenant_acme.customers') is not null)",
        "constraint ok of tenant_acme.here",
        "drop domain tenant_acme.here",
    ),
    (
        "create view public.there as select to_regclass('tenant_acme.customers') is not null as is_there",
        "view public.there",
        "drop view public.there",
    ),
    (
        "create table tenant_acme.found (t text); create index found_here on tenant_acme.found (t) where t <> 'tenant_acme.found'",
        "index tenant_acme.found_here",
        "drop table tenant_acme.found",
    ),
    (
        "create table tenant_acme.seen (n int);
         create policy own on tenant_acme.seen using (to_regclass('tenant_acme.customers') is not null)",
        "policy own of tenant_acme.seen",
        "drop table tenant_acme.seen",
    ),
    (
        "create function public.told() returns trigger language plpgsql as 'begin return null; end';
         create trigger tells after insert on tenant_acme.customers for each row execute function public.told('tenant_acme.customers')",
        "trigger tells of tenant_acme.customers",
        "drop function public.told() cascade",
    ),
    (
        "create function public.argued(a text default 'tenant_acme.customers') returns text language sql as 'select a'",
        "function public.argued(pg_catalog.text)",
        "drop function public.argued(text)",
    ),
    (
        "create domain public.place as text default 'tenant_acme.customers'",
        "default value of public.place",
        "drop domain public.place",
    ),
    (
        "create table tenant_acme.ruled (n text);
         create rule other as on insert to tenant_acme.ruled do also select to_regclass('tenant_acme.customers')",
        "rule other of tenant_acme.ruled",
        "drop table tenant_acme.ruled",
    ),
    (
        "create function public.told() returns trigger language plpgsql as 'begin return null; end';
         create trigger tells after insert on tenant_acme.customers for each row
             when (new.email <> 'tenant_acme.customers') execute function public.told()",
        "trigger tells of tenant_acme.customers",
        "drop function public.told() cascade",
    ),
    (
        "do $$ begin execute format('alter database %I set search_path = tenant_acme, public', current_database()); end $$",
        "setting of the database",
        "do $$ begin execute format('alter database %I reset search_path', current_database()); end $$",
    ),
];

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_renamed_is_refused_and_named() {
    let stage = Stage::set().await;
    let operator = stage.operator().await;
    let before = picture(&stage, "acme").await;
    let refused = async |from: &str, new: &str| {
        lifecycle::rename(&operator, &slug(from), &to(new)).await.expect_err("it is refused")
    };
    assert_eq!(refused("unknown", "apex").await.code(), "CGK0401");
    let error = refused("acme", "globex").await;
    for part in ["globex is the slug of organization", "schema tenant_globex exists", "role cgk_globex_"] {
        assert!(error.to_string().contains(part), "{part}: {error}");
    }
    stage.run("create schema tenant_apex").await;
    assert_eq!(refused("acme", "apex").await.to_string(), "tenant acme cannot be renamed: schema tenant_apex exists");
    stage.run("drop schema tenant_apex").await;
    stage.run("create function tenant_acme.count_all() returns bigint language sql as 'select count(*) from tenant_acme.customers'").await;
    assert!(refused("acme", "apex").await.to_string().contains("function tenant_acme.count_all() names tenant_acme"));
    stage.run("drop function tenant_acme.count_all()").await;
    for (create, named, remove) in NAMING {
        stage.run(create).await;
        let error = refused("acme", "apex").await;
        assert_eq!(
            error.to_string(),
            format!("tenant acme cannot be renamed: {named} names tenant_acme in its text"),
            "{create}"
        );
        stage.run(remove).await;
    }
    assert_eq!(picture(&stage, "acme").await, before);
    // A longer name that only begins like it is another one. What is parsed goes along: a view, a default value, a function's body.
    stage.run("create view tenant_acme.seen as select * from tenant_acme.customers;
               create table tenant_acme.followed (n int);
               create rule follows as on insert to tenant_acme.followed do also select count(*) from tenant_acme.customers;
               create function tenant_acme.nothing() returns trigger language plpgsql as 'begin return null; end';
               create trigger nothing after insert on tenant_acme.followed for each row when (new.n > 0)
                   execute function tenant_acme.nothing();
               create table tenant_acme.numbered (n bigserial check (tenant_acme.numbered.n > 0));
               create function tenant_acme.parsed() returns bigint begin atomic select count(*) from tenant_acme.customers; end").await;
    let before = picture(&stage, "acme").await;
    stage.run("create function public.other() returns text language sql as $$ select 'tenant_acme_2' $$").await;
    assert_eq!(picture(&stage, "acme").await, before);
    stage.run("update organizations set status = 'onboarding' where slug = 'acme'").await;
    assert_eq!(refused("acme", "apex").await.code(), "CGK0403");
    stage.run("update organizations set status = 'suspended' where slug = 'acme'").await;
    // The control: suspended, it can be renamed, and stays suspended.
    lifecycle::rename(&operator, &slug("acme"), &to("apex")).await.unwrap();
    assert_eq!(refused_as(&stage.db, "apex").await, ErrorKind::Suspended);
    assert_eq!(stage.count("select tenant_apex.parsed() + count(*) from tenant_apex.seen").await, 0);
    // A setting of its role as well.
    let role = "do $$ begin execute format('alter role %I in database %I set search_path = tenant_apex',
                                           'cgk_apex_' || cgk_database_tag(), current_database()); end $$";
    stage.run(role).await;
    let error = refused("apex", "acme").await.to_string();
    assert!(
        error.contains("setting of role cgk_apex_") && error.ends_with(" names tenant_apex in its text"),
        "{error}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_renames_slug_and_name() {
    let stage = Stage::set().await;
    let shell = Shell::on(&stage.database);
    let shown = |arguments: &[&str], code: i32, text: &str| {
        let answer = shell.run(arguments);
        let said = format!("{}{}", answer.stdout, answer.stderr);
        assert_eq!(answer.code, code, "{arguments:?}: {said}");
        assert!(said.contains(text), "{arguments:?}: {said}");
    };
    shown(&["tenant:rename", "acme", "--name", "Acme Ltd."], 0, "it is acme (Acme Ltd.)");
    shown(&["tenant:rename", "acme", "--name", "Acme Ltd."], 0, "has this name already");
    shown(&["tenant:rename", "acme", "apex", "--json"], 0, r#""was_tenant":"acme""#);
    shown(&["tenant:rename", "acme", "apex"], 1, "CGK0401");
    shown(&["tenant:rename", "apex", "globex"], 1, "CGK0863");
    shown(&["tenant:rename", "apex"], 2, "NEW");
    shown(&["tenant:rename", "apex", "Not a slug"], 2, "CGK0101");
    enters(&stage.db, "apex").await.unwrap();
}
