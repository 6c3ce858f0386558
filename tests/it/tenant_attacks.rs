//! Statements that try to get from one tenant to another, run through the closure as the tenant's role by a service whose
//! login is no superuser. Each has its verdict; a statement that is neither refused nor listed as known fails the test.

use crate::stage::{Stage, report, slug};
use cgk::{Config, Db, testing::TestServer};

/// What a statement must meet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    /// The server or cgk refuses it.
    Denied,
    /// It runs, and neither shows nor changes anything of another tenant's.
    Harmless,
    /// It runs and shows names out of the catalogue, which PostgreSQL lets everybody read; no rows of data.
    Names,
}
use Verdict::{Denied, Harmless, Names};

#[rustfmt::skip]
const ATTACKS: &[(Verdict, &str)] = &[
    // Another tenant's tables by their full names.
    (Denied, "select * from tenant_globex.marks"),
    (Denied, "select tag from \"tenant_globex\".\"marks\""),
    (Denied, "table tenant_globex.marks"),
    (Denied, "select count(*) from tenant_globex.marks"),
    (Denied, "select exists (select from tenant_globex.marks)"),
    (Denied, "select * from marks union all select n::text, 0 from tenant_globex.marks"),
    (Denied, "select * from marks m join tenant_globex.marks g on true"),
    (Denied, "with g as (select * from tenant_globex.marks) select * from g"),
    (Denied, "select * from marks where n = (select max(n) from tenant_globex.marks)"),
    (Denied, "select * from tenant_globex.marks for update"),
    (Denied, "insert into tenant_globex.marks values (1, 'x')"),
    (Denied, "update tenant_globex.marks set n = 1"),
    (Denied, "delete from tenant_globex.marks"),
    (Denied, "truncate tenant_globex.marks"),
    (Denied, "insert into marks select tag, n from tenant_globex.marks"),
    (Denied, "update marks set n = g.n from tenant_globex.marks g"),
    (Denied, "delete from marks using tenant_globex.marks g"),
    (Denied, "merge into tenant_globex.marks g using marks m on true when matched then delete"),
    (Denied, "lock table tenant_globex.marks in access share mode"),
    (Denied, "copy tenant_globex.marks to '/tmp/cgk-attack'"),
    (Denied, "copy (select * from tenant_globex.marks) to program 'cat'"),
    (Denied, "explain select * from tenant_globex.marks"),
    (Denied, "explain analyze select * from tenant_globex.marks"),
    (Denied, "declare c cursor for select * from tenant_globex.marks"),
    (Denied, "select * from tenant_globex.schema_migrations"),
    (Denied, "select 'tenant_globex.marks'::regclass"),
    (Denied, "select nextval('tenant_globex.marks_seq')"),
    (Denied, "analyze tenant_globex.marks"),
    (Denied, "select query_to_xml('select * from tenant_globex.marks', true, false, '')"),
    (Denied, "select table_to_xml('tenant_globex.marks', true, false, '')"),
    (Denied, "select schema_to_xml('tenant_globex', true, false, '')"),
    (Denied, "do $$ begin perform * from tenant_globex.marks; end $$"),
    (Denied, "do $$ begin execute 'select * from tenant_globex.marks'; end $$"),
    // The platform's own tables.
    (Denied, "select * from organizations"),
    (Denied, "select * from public.organizations"),
    (Denied, "select slug from organizations"),
    (Denied, "select * from users"),
    (Denied, "select token_hash from sessions"),
    (Denied, "select key_hash from api_keys"),
    (Denied, "select * from billing"),
    (Denied, "select * from magic_links"),
    (Denied, "select * from public.schema_migrations"),
    (Denied, "update organizations set status = 'suspended' where slug = 'globex'"),
    (Denied, "delete from organizations"),
    (Denied, "insert into organizations (slug, name) values ('evil', 'Evil')"),
    (Denied, "truncate organizations cascade"),
    // The ledger of one's own schema.
    (Denied, "select * from schema_migrations"),
    (Denied, "insert into schema_migrations values (99, 'x', 'x', now(), 'x', 0, 'x')"),
    (Denied, "delete from schema_migrations"),
    (Denied, "update schema_migrations set checksum = ''"),
    (Denied, "comment on table schema_migrations is 'cgk:1 head=99'"),
    // Changing what is there.
    (Denied, "create table t (a int)"),
    (Denied, "create table public.t (a int)"),
    (Denied, "create table tenant_globex.t (a int)"),
    (Denied, "create view v as select 1"),
    (Denied, "create schema mine"),
    (Denied, "drop table marks"),
    (Denied, "drop schema tenant_globex cascade"),
    (Denied, "drop schema tenant_acme cascade"),
    (Denied, "drop table tenant_globex.marks"),
    (Denied, "alter table marks add column x int"),
    (Denied, "alter table tenant_globex.marks owner to current_user"),
    (Denied, "alter table marks disable trigger all"),
    (Denied, "alter table marks set schema tenant_globex"),
    (Denied, "alter schema tenant_globex rename to mine"),
    (Denied, "create index on marks (tag)"),
    (Denied, "create trigger x before insert on marks execute function suppress_redundant_updates_trigger()"),
    (Denied, "create rule r as on select to marks do instead select 1"),
    (Denied, "create policy p on marks using (true)"),
    (Denied, "create function lower(varchar) returns text language sql as 'select 1::text'"),
    (Denied, "create function public.lower(varchar) returns text language sql as 'select 1::text'"),
    (Denied, "create operator = (leftarg = varchar, rightarg = varchar, function = texteq)"),
    (Denied, "create cast (text as int) with inout"),
    (Denied, "create extension dblink"),
    (Denied, "create server s foreign data wrapper postgres_fdw"),
    (Denied, "create publication p for all tables"),
    (Denied, "create event trigger e on ddl_command_end execute function now()"),
    (Denied, "select lo_import('/etc/passwd')"),
    (Denied, "select pg_read_file('/etc/passwd')"),
    (Denied, "select pg_ls_dir('.')"),
    (Denied, "copy marks from program 'id'"),
    (Denied, "select pg_reload_conf()"),
    (Denied, "alter system set work_mem = '1GB'"),
    (Denied, "alter database postgres set search_path = tenant_globex"),
    (Denied, "checkpoint"),
    // Rights and roles.
    (Denied, "grant usage on schema tenant_globex to current_user"),
    (Denied, "grant select on tenant_globex.marks to current_user"),
    (Denied, "create role evil"),
    (Denied, "create role evil superuser login"),
    (Denied, "alter role current_user superuser"),
    (Denied, "alter role current_user login password 'x'"),
    (Denied, "alter default privileges for role postgres grant select on tables to public"),
    (Denied, "set role postgres"),
    (Denied, "set local role postgres"),
    (Denied, "set session authorization postgres"),
    (Denied, "reassign owned by postgres to current_user"),
    (Denied, "security label on table marks is 'x'"),
    // Leaving the tenant or the transaction: refused at the end at the latest.
    (Denied, "reset role"),
    (Denied, "set role none"),
    (Denied, "set search_path = tenant_globex"),
    (Denied, "set local search_path = tenant_globex, public"),
    (Denied, "set local search_path = ''"),
    (Denied, "select set_config('search_path', 'tenant_globex', true)"),
    (Denied, "select set_config('role', 'none', true)"),
    (Denied, "select set_config('cgk.tx', 'x', true)"),
    (Denied, "reset all"),
    (Denied, "discard all"),
    (Denied, "commit"),
    (Denied, "/* x */ rollback"),
    (Denied, "commit and chain"),
    (Denied, "prepare transaction 'x'"),
    (Denied, "select pg_terminate_backend(pid) from pg_stat_activity where usename = 'postgres'"),
    (Denied, "select 1; select * from tenant_globex.marks"),
    // What runs and reaches nobody else.
    (Harmless, "set row_security = off"),
    (Denied, "set local session_authorization = default"),
    (Harmless, "create temporary table marks (tag text, n int)"),
    (Harmless, "select set_config('app.current_organization_id', gen_random_uuid()::text, true)"),
    (Harmless, "select pg_advisory_lock(1)"),
    (Harmless, "listen tenant_globex"),
    (Harmless, "notify tenant_globex, 'x'"),
    (Harmless, "select most_common_vals::text from pg_stats where schemaname = 'tenant_globex'"),
    (Harmless, "select query from pg_stat_activity where query like '%tenant_globex.marks%' and pid <> pg_backend_pid()"),
    (Harmless, "select * from information_schema.tables where table_schema = 'tenant_globex'"),
    (Harmless, "select * from information_schema.columns where table_schema = 'tenant_globex'"),
    (Harmless, "select lo_create(0)"),
    (Harmless, "set statement_timeout = 0"),
    // Names that the catalogue shows to everybody.
    (Names, "select nspname from pg_namespace where nspname = 'tenant_globex'"),
    (Names, "select relname from pg_class where relnamespace::regnamespace::text = 'tenant_globex'"),
    (Names, "select rolname from pg_roles where rolname like 'cgk\\_globex%'"),
    (Names, "select attname from pg_attribute a join pg_class c on c.oid = a.attrelid join pg_namespace n on n.oid = c.relnamespace where nspname = 'tenant_globex'"),
    (Names, "select pg_total_relation_size(c.oid) from pg_class c join pg_namespace n on n.oid = c.relnamespace where nspname = 'tenant_globex'"),
];

/// The only row of data that another tenant has in the attacked table.
const SECRET: &str = "secret-of-globex";

#[tokio::test]
async fn every_statement_has_its_verdict() {
    let stage = Stage::set().await;
    stage
        .sql(&format!(
            "insert into tenant_globex.marks values (7, '{SECRET}'); create sequence tenant_globex.marks_seq;
             grant select, insert, update, delete on tenant_acme.marks to {0}; analyze tenant_globex.marks",
            stage.role("acme")
        ))
        .await;
    let db = as_a_plain_login(&stage).await;
    let before = picture(&stage).await;
    let (mut counts, mut wrong) = ([0; 3], Vec::new());
    for (verdict, sql) in ATTACKS {
        let outcome = db.with_tenant(&slug("acme"), async |tx| tx.query_typed(sql, &[]).await).await;
        let met = match &outcome {
            Err(_) => Denied,
            Ok(_) if *verdict == Denied => Harmless,
            Ok(_) => *verdict,
        };
        if met != *verdict {
            wrong.push(format!("{sql}: expected {verdict:?}, {outcome:?}"));
        }
        for row in outcome.iter().flatten() {
            let texts = (0..row.len()).filter_map(|column| row.try_get::<_, String>(column).ok());
            assert!(texts.into_iter().all(|text| !text.contains(SECRET)), "{sql} shows another tenant's row");
        }
        assert_eq!(picture(&stage).await, before, "{sql} changed something of another's");
        counts[*verdict as usize] += 1;
        // Whatever was left behind, the next tenant on the connection does not meet it.
        let own = db.tenant(&slug("globex")).query_typed("select count(*) from marks", &[]).await;
        assert_eq!(own.unwrap_or_else(|error| panic!("after {sql}: {error:?}"))[0].get::<_, i64>(0), 2, "after {sql}");
    }
    report(&format!(
        "attacks: {} tried, {} denied, {} harmless, {} show names only",
        ATTACKS.len(),
        counts[0],
        counts[1],
        counts[2]
    ));
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// The control: a session without the tenant's role, as path mode has it, reads the other tenant's row, and the same check
/// sees that.
#[tokio::test]
async fn control_without_the_role_the_row_is_read() {
    let stage = Stage::set().await;
    stage.sql(&format!("insert into tenant_globex.marks values (7, '{SECRET}')")).await;
    let config = stage.config().with_isolation(cgk::config::Isolation::Path);
    let db = Db::connect(&config).await.unwrap();
    let rows = db.tenant(&slug("acme")).query_typed("select tag from tenant_globex.marks", &[]).await.unwrap();
    assert!(rows.iter().any(|row| row.get::<_, String>(0) == SECRET));
    let before = picture(&stage).await;
    db.tenant(&slug("acme")).execute_typed("update tenant_globex.marks set n = n + 1", &[]).await.unwrap();
    assert_ne!(picture(&stage).await, before);
}

/// A login as a service should have it: no superuser, no rights of its own but on the registry's three columns, and allowed
/// to act as each tenant.
async fn as_a_plain_login(stage: &Stage) -> Db {
    let login = format!("app_{}", stage.database.name());
    let (acme, globex) = (stage.role("acme"), stage.role("globex"));
    stage
        .sql(&format!(
            "create role {login} login noinherit; grant {acme}, {globex} to {login};
             grant select (id, slug, status) on public.organizations to {login}"
        ))
        .await;
    // The private server trusts every login on its socket; another one is attacked through the login it was given with.
    let Some(server) = TestServer::shared().local() else { return stage.db.clone() };
    let url = server.url(stage.database.name()).replacen("postgres@", &format!("{login}@"), 1);
    Db::connect(&Config::from_url(&url).unwrap().with_pool_size_max(1)).await.unwrap()
}

/// Everything that an attack on another tenant could change, in one text.
async fn picture(stage: &Stage) -> String {
    let sql = "select concat_ws(' ',
        (select string_agg(t::text, ',' order by t::text) from tenant_globex.marks t),
        (select string_agg(t::text, ',' order by t::text) from tenant_acme.schema_migrations t),
        (select string_agg(id || slug || status, ',' order by slug) from public.organizations),
        (select string_agg(n.nspname || '.' || c.relname || coalesce(c.relacl::text, ''), ',' order by 1)
           from pg_class c join pg_namespace n on n.oid = c.relnamespace
          where n.nspname in ('public', 'tenant_acme', 'tenant_globex')),
        (select string_agg(nspname || nspowner || coalesce(nspacl::text, ''), ',' order by nspname) from pg_namespace
          where nspname !~ '^pg_(toast_)?temp'),
        (select count(*) from pg_proc where pronamespace in
          (select oid from pg_namespace where nspname in ('public', 'tenant_acme', 'tenant_globex'))),
        obj_description('tenant_acme.schema_migrations'::regclass, 'pg_class'))";
    stage.watch.query_one(sql, &[]).await.unwrap().get(0)
}
