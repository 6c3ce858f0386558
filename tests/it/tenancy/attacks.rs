//! Statements that try to get from one tenant to another, run through the closure as the tenant's role by a service whose
//! login is no superuser. Each has its verdict; a statement that is neither refused nor listed as known fails the test.

use crate::{
    stage::{Stage, report, slug},
    support::score,
};
use cgk::{Db, config::Isolation, login::SharedTables};

/// What a statement must meet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The server or cgk refuses it.
    Denied,
    /// It runs, and neither shows nor changes anything of another tenant's.
    Harmless,
    /// It runs and shows names out of the catalogue, which PostgreSQL lets everybody read; no rows of data.
    Names,
}
use Verdict::{Denied, Harmless, Names};

#[rustfmt::skip]
pub(crate) const ATTACKS: &[(Verdict, &str)] = &[
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
    (Denied, "select * from users"),
    (Denied, "select token_hash from sessions"),
    (Denied, "select key_hash from api_keys"),
    (Denied, "select password_hash from users"),
    (Denied, "select shopify_access_token from organizations"),
    (Denied, "select u from users u"),
    (Denied, "select to_jsonb(u) from users u"),
    (Denied, "select * from magic_links"),
    (Denied, "select email from magic_links"),
    (Denied, "select count(*) from magic_links"),
    (Denied, "select id from provisioning_requests"),
    (Denied, "select domain from organization_domains"),
    (Denied, "table users"),
    (Denied, "copy users to stdout"),
    (Denied, "copy users (organization_id, email) from '/dev/null'"),
    (Denied, "lock table users in access share mode"),
    (Denied, "select email from users for update"),
    (Denied, "truncate users cascade"),
    (Denied, "delete from users"),
    (Denied, "update users set organization_id = (select id from organizations)"),
    (Denied, "update users set role = 'owner'"),
    (Denied, "update organizations set settings = '{}'"),
    (Denied, "insert into sessions (organization_id, user_id, token_hash, expires_at) values (gen_random_uuid(), gen_random_uuid(), sha256('x'), now())"),
    (Denied, "insert into users (organization_id, email) select id, 'x@y' from organizations"),
    (Denied, "delete from api_keys"),
    (Denied, "update billing set plan = 'free'"),
    (Denied, "alter table users disable row level security"),
    (Denied, "alter table users no force row level security"),
    (Denied, "drop policy users_tenant on users"),
    (Denied, "create policy p on users using (true)"),
    (Denied, "create or replace function public.current_tenant_slug() returns text language sql as 'select ''globex''::text'"),
    (Denied, "alter function public.current_tenant_slug() rename to x"),
    (Denied, "grant select on users to current_user"),
    (Denied, "create view v as select * from users"),
    (Denied, "alter role current_user rename to cgk_globex_0000000000"),
    // Of the shared tables, the tenant's own rows and no secret column.
    (Harmless, "select slug, name, settings::text from organizations"),
    (Harmless, "select name from organizations where slug = 'globex'"),
    (Harmless, "select email from users"),
    (Harmless, "select email from users order by email desc limit 1"),
    (Harmless, "select email from users where lower(email) like 'secret%'"),
    (Harmless, "select u.email from users u join organizations o on o.id <> u.organization_id"),
    (Harmless, "select email from users tablesample bernoulli (100)"),
    (Harmless, "select email from users union all select email from users"),
    (Harmless, "with x as (select set_config('row_security', 'off', true)) select email from users, x"),
    (Harmless, "select user_agent from sessions"),
    (Harmless, "select name from api_keys"),
    (Denied, "select * from billing"),
    (Denied, "select provider_customer_id from billing"),
    (Harmless, "select plan, provider from billing"),
    (Harmless, "explain (analyze, verbose) select email from users"),
    (Harmless, "select query_to_xml('select email from users', true, false, '')::text"),
    (Harmless, "select most_common_vals::text from pg_stats where tablename = 'users'"),
    (Denied, "with x as materialized (select set_config('app.current_organization_id', '00000000-0000-0000-0000-000000000000', true)) select email from users, x"),
    (Denied, "with x as materialized (select set_config('app.current_organization_id', '', true)) select email from users, x"),
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
    (Denied, "select set_config('app.current_organization_id', gen_random_uuid()::text, true)"),
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
pub(crate) const SECRET: &str = "secret-of-globex";

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
    people(&stage).await;
    let db = stage.app(Isolation::Role, SharedTables::Registry).await;
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
    let summary =
        format!("{} denied, {} harmless, {} show names out of the catalogue only", counts[0], counts[1], counts[2]);
    score::note(6, "attack statements as a tenant's role, other tenant shown or changed", ATTACKS.len(), 0, &summary);
}

/// The control: a session without the tenant's role, as path mode has it, reads the other tenant's row, and the same check
/// sees that.
#[tokio::test]
async fn control_without_the_role_the_row_is_read() {
    let stage = Stage::set().await;
    stage.sql(&format!("insert into tenant_globex.marks values (7, '{SECRET}')")).await;
    let config = stage.config().with_isolation(Isolation::Path);
    let db = Db::connect(&config).await.unwrap();
    let rows = db.tenant(&slug("acme")).query_typed("select tag from tenant_globex.marks", &[]).await.unwrap();
    assert!(rows.iter().any(|row| row.get::<_, String>(0) == SECRET));
    let before = picture(&stage).await;
    db.tenant(&slug("acme")).execute_typed("update tenant_globex.marks set n = n + 1", &[]).await.unwrap();
    assert_ne!(picture(&stage).await, before);
    score::control(6, "without the role: another tenant's row read and changed", 2, 2, "path mode");
}

/// Rows of both tenants in the shared tables; those of the other one carry its secret.
pub(crate) async fn people(stage: &Stage) {
    for (tenant, mark) in [("acme", "own"), ("globex", SECRET)] {
        stage
            .sql(&format!(
                "with o as (update organizations set name = '{mark}', stripe_account_id = 'acct_{tenant}' where slug = '{tenant}' returning id),
                      u as (insert into users (organization_id, email) select id, '{mark}@{tenant}' from o returning id, organization_id),
                      s as (insert into sessions (organization_id, user_id, token_hash, expires_at, user_agent)
                            select organization_id, id, sha256('{tenant}'), now() + interval '1 day', '{mark}' from u),
                      k as (insert into api_keys (organization_id, key_hash, name) select id, sha256('{tenant}'), '{mark}' from o)
                 insert into billing (organization_id, provider_customer_id, plan, status) select id, '{mark}', 'pro', 'active' from o;
                 insert into magic_links (email, token_hash, purpose, expires_at)
                 values ('{mark}@{tenant}', sha256('{tenant}'), 'login', now() + interval '1 day')"
            ))
            .await;
    }
}

/// Everything that an attack on another tenant could change, in one text.
pub(crate) async fn picture(stage: &Stage) -> String {
    let sql = "select concat_ws(' ',
        (select string_agg(t::text, ',' order by t::text) from tenant_globex.marks t),
        (select string_agg(t::text, ',' order by t::text) from tenant_acme.schema_migrations t),
        (select string_agg(id || slug || status || name || settings, ',' order by slug) from public.organizations),
        (select string_agg(t::text, ',' order by t::text) from public.users t),
        (select string_agg(t::text, ',' order by t::text) from public.sessions t),
        (select string_agg(t::text, ',' order by t::text) from public.api_keys t),
        (select string_agg(t::text, ',' order by t::text) from public.billing t),
        (select string_agg(t::text, ',' order by t::text) from public.magic_links t),
        (select string_agg(p::text, ',' order by p::text) from pg_policies p),
        (select string_agg(relname || relrowsecurity || relforcerowsecurity, ',' order by relname) from pg_class
          where relnamespace = 'public'::regnamespace),
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
