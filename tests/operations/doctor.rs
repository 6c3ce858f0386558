//! `cgk doctor`: each check sees the fault that it is for, and nothing on a healthy database.

use crate::{
    fixture::plain_operator,
    stage::{Stage, connect, slug},
    support::cgk::Shell,
};
use cgk::{
    Config, Db, Operator,
    doctor::{self, Check, DoctorOptions, Verdict},
    lifecycle::{self, CreateOptions},
    migrate::{Migrations, Set, Silent},
    setup,
    testing::{LocalServer, LocalServerOptions, TestDatabase},
};
use std::{collections::BTreeMap, time::Duration};

type Checks = BTreeMap<&'static str, Check>;

/// What a new connection finds; one that was examined is read-only.
async fn examined(config: &Config, migrations: &Migrations, options: &DoctorOptions) -> Checks {
    let operator = Operator::connect(config).await.unwrap();
    let diagnosis = doctor::examine(&operator, migrations, options).await.unwrap();
    let worst = diagnosis.checks.iter().map(|check| check.verdict).max().unwrap();
    assert_eq!(diagnosis.worst(), worst);
    let checks: Checks = diagnosis.checks.iter().map(|check| (check.name, check.clone())).collect();
    assert_eq!(checks.len(), diagnosis.checks.len(), "a name is there twice");
    for check in checks.values().filter(|check| check.verdict > Verdict::Unknown) {
        assert!(check.fix.is_some(), "{check:?} has no fix");
    }
    checks
}

/// Creates the months of the audit log as their owner.
fn months(role: &str) -> String {
    format!("begin; set local role {role}; select public.cgk_make_audit_partitions(1); commit")
}

fn not_good(checks: &Checks) -> Vec<&Check> {
    checks.values().filter(|check| check.verdict != Verdict::Good).collect()
}

/// A database with two tenants whose operator is no superuser.
async fn healthy() -> (TestDatabase, Config) {
    let (database, config) = plain_operator().await;
    let watch = connect(&database).await;
    watch.execute("revoke create on schema public from public", &[]).await.unwrap();
    let operator = Operator::connect(&config).await.unwrap();
    let migrations = Migrations::bundled();
    setup::setup(&operator, &migrations, &mut Silent).await.unwrap();
    let db = Db::connect(&config).await.unwrap();
    for tenant in ["acme", "globex"] {
        lifecycle::create(&operator, &db, &migrations, &slug(tenant), &CreateOptions::default()).await.unwrap();
    }
    crate::stage::run(&watch, &months(config.target().user().unwrap())).await;
    (database, config)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_healthy_database_is_good_and_what_a_role_may_not_see_is_unknown() {
    let (database, config) = healthy().await;
    let watch = connect(&database).await;
    let (migrations, options) = (Migrations::bundled(), DoctorOptions::default());
    let checks = examined(&config, &migrations, &options).await;
    // A superuser's session is there, and this role may not see what it does.
    let hidden = &checks["server.old_transactions"];
    assert!(hidden.verdict == Verdict::Unknown && hidden.found.contains("hidden"), "{hidden:?}");
    let role = config.target().user().unwrap().to_owned();
    assert_eq!(hidden.fix.as_deref(), Some(format!("grant pg_read_all_stats to \"{role}\"").as_str()));

    watch.execute(&format!("grant pg_read_all_stats to {role}"), &[]).await.unwrap();
    let checks = examined(&config, &migrations, &options).await;
    let not_good = not_good(&checks);
    // The tests' server does not write to disk.
    let expected = |check: &Check| {
        let harmless = ["fsync = off", "full_page_writes = off"];
        check.name == "server.settings"
            && check.verdict == Verdict::Warning
            && check.objects.iter().all(|object| harmless.contains(&object.as_str()))
    };
    assert!(not_good.iter().all(|check| expected(check)), "{not_good:#?}");
    assert!(checks["fleet.tenants"].found.starts_with("2 tenants"), "{:?}", checks["fleet.tenants"]);
}

/// A fault: the check that sees it, what makes it, what ends it, the verdict, and a text that it must contain.
type Fault = (&'static str, String, String, Verdict, &'static str);

fn faults(database: &str, role: &str) -> Vec<Fault> {
    let fault = |check, sql: &str, undo: &str, verdict, names| {
        let of = |text: &str| text.replace("<database>", database);
        (check, of(sql), of(undo), verdict, names)
    };
    vec![
        fault(
            "server.settings",
            "alter database <database> set zero_damaged_pages = on",
            "alter database <database> reset zero_damaged_pages",
            Verdict::Failed,
            "zero_damaged_pages = on",
        ),
        fault(
            "access.public_schema",
            "grant create on schema public to public",
            "revoke create on schema public from public",
            Verdict::Failed,
            "public",
        ),
        fault(
            "access.role_settings",
            "do $$ begin execute format('alter role %I set search_path = tenant_globex', 'cgk_acme_' || cgk_database_tag()); end $$",
            "do $$ begin execute format('alter role %I reset search_path', 'cgk_acme_' || cgk_database_tag()); end $$",
            Verdict::Failed,
            "search_path=tenant_globex",
        ),
        fault(
            "access.shared_tables",
            "create table public.invoices (organization_id uuid); grant select on public.invoices to public",
            "drop table public.invoices",
            Verdict::Failed,
            "public.invoices",
        ),
        fault(
            "access.shared_tables",
            "create table public.invoices (organization_id uuid, sum int); grant select (sum) on public.invoices to public",
            "drop table public.invoices",
            Verdict::Failed,
            "public.invoices",
        ),
        fault(
            "objects.indexes",
            "update pg_index set indisvalid = false where indexrelid = 'tenant_acme.orders_pkey'::regclass",
            "update pg_index set indisvalid = true where indexrelid = 'tenant_acme.orders_pkey'::regclass",
            Verdict::Warning,
            "tenant_acme.orders_pkey",
        ),
        fault(
            "objects.functions",
            "create function tenant_acme.f(a int) returns int language sql security definer as 'select 1'",
            "drop function tenant_acme.f",
            Verdict::Failed,
            "tenant_acme.f(a integer)",
        ),
        fault(
            "objects.functions",
            "create function public.t() returns trigger language plpgsql security definer set search_path = pg_catalog, pg_temp
             as 'begin return new; end'",
            "drop function public.t()",
            Verdict::Failed,
            "public.t()",
        ),
        fault(
            "objects.shared_views",
            "create view public.everybodys as select * from tenant_acme.orders",
            "drop view public.everybodys",
            Verdict::Failed,
            "public.everybodys reads tenant_acme.orders",
        ),
        fault(
            "objects.shared_views",
            "create view public.staff as select email from users; create view public.\"Mails\" as select * from public.staff;
             grant select (email) on public.\"Mails\" to public",
            "drop view public.\"Mails\", public.staff",
            Verdict::Warning,
            "public.\"Mails\" reads users",
        ),
        fault(
            "objects.shared_views",
            "create materialized view public.counts as select count(*) from users; grant select on public.counts to public",
            "drop materialized view public.counts",
            Verdict::Warning,
            "1 view shows each tenant rows",
        ),
        fault(
            "objects.functions",
            "create type tenant_acme.mood as enum ('fine'); set check_function_bodies = off;
             create function public.moods(a int) returns text language plpgsql
             as $$ declare n int := 1; m constant Mood := 'fine'; begin return m; end $$",
            "drop function public.moods; drop type tenant_acme.mood; reset check_function_bodies",
            Verdict::Warning,
            "public.moods(a integer) declares mood",
        ),
        fault(
            "objects.functions",
            "set check_function_bodies = off; create function public.sums() returns text language plpgsql
             as $$ declare s orders.id%type; begin select max(id) into s from orders; return s; end $$",
            "drop function public.sums; reset check_function_bodies",
            Verdict::Warning,
            "public.sums() declares orders",
        ),
        fault(
            "objects.foreign_keys",
            "create table tenant_acme.k (o uuid constraint k_o references public.organizations)",
            "drop table tenant_acme.k",
            Verdict::Warning,
            "to public.organizations: 1 tenants, constraint k_o",
        ),
        fault("fleet.strays", "create schema tenant_lost", "drop schema tenant_lost", Verdict::Warning, "tenant_lost"),
        fault(
            "fleet.drift",
            "alter table tenant_acme.orders add column by_hand int",
            "alter table tenant_acme.orders drop column by_hand",
            Verdict::Failed,
            "tenant_acme: column orders.by_hand",
        ),
        fault(
            "fleet.tenants",
            "alter schema tenant_globex rename to elsewhere",
            "alter schema elsewhere rename to tenant_globex",
            Verdict::Failed,
            "globex: has no schema",
        ),
        fault(
            "platform.events",
            "insert into public.domain_events (type, occurred_at) values ('order.made', now() - interval '2 hours')",
            "delete from public.domain_events",
            Verdict::Warning,
            "1 domain event is not delivered",
        ),
        fault(
            "platform.events",
            "insert into public.domain_events (type, status, finished_at) values ('order.made', 'dead', now())",
            "delete from public.domain_events",
            Verdict::Warning,
            "1 domain event is given up",
        ),
        fault(
            "platform.audit_months",
            "do $$ begin execute 'drop table public.audit_events_' || to_char(now() at time zone 'UTC' , 'YYYY_MM'); end $$",
            &months(role),
            Verdict::Warning,
            "no partition for",
        ),
    ]
}

/// Views that hide what the policies hide, or that no tenant may read, and functions whose types are not a tenant's.
const HARMLESS: &str = "
    create view public.unread as select * from users;
    create function public.plain(a int) returns text language plpgsql as $$
    declare orders int := 1; s text; u public.users%rowtype; r record; begin select count(*) into s from users; return orders; end $$;
    create function public.fixed() returns text language plpgsql set search_path = public as $$
    declare u users%rowtype; begin return u.email; end $$";

#[tokio::test(flavor = "multi_thread")]
async fn what_shows_a_tenant_only_its_own_is_no_fault() {
    let (database, config) = healthy().await;
    let watch = connect(&database).await;
    crate::stage::run(&watch, HARMLESS).await;
    let version: i32 = watch.query_one("select current_setting('server_version_num')::int", &[]).await.unwrap().get(0);
    if version >= 150_000 {
        let invoker = "create view public.invoker with (security_invoker = on) as select email from users; grant select on public.invoker to public";
        crate::stage::run(&watch, invoker).await;
    }
    let found = examined(&config, &Migrations::bundled(), &DoctorOptions::default()).await;
    for name in ["objects.shared_views", "objects.functions"] {
        assert_eq!(found[name].verdict, Verdict::Good, "{:#?}", found[name]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_check_sees_the_fault_that_it_is_for() {
    let (database, config) = healthy().await;
    let watch = connect(&database).await;
    let role = config.target().user().unwrap().to_owned();
    watch.execute(&format!("grant pg_read_all_stats to {role}"), &[]).await.unwrap();
    let (migrations, options) = (Migrations::bundled(), DoctorOptions::default());
    let before = examined(&config, &migrations, &options).await;
    for (name, make, undo, verdict, text) in faults(database.name(), &role) {
        crate::stage::run(&watch, &make).await;
        let found = examined(&config, &migrations, &options).await;
        let check = &found[name];
        let says = check.found.contains(text) || check.objects.iter().any(|object| object.contains(text));
        assert!(check.verdict == verdict && says, "{make}\n{check:#?}");
        crate::stage::run(&watch, &undo).await;
        let after = examined(&config, &migrations, &options).await;
        assert_eq!(after[name].verdict, before[name].verdict, "{undo}\n{:#?}", after[name]);
    }
}

/// To a login that may not read the registry every tenant looks like a stray.
#[tokio::test(flavor = "multi_thread")]
async fn a_login_without_the_registry_does_not_know_what_a_stray_is() {
    let (database, config) = healthy().await;
    let watch = connect(&database).await;
    watch.execute("create schema tenant_lost", &[]).await.unwrap();
    let (migrations, options) = (Migrations::bundled(), DoctorOptions::default());
    let tag = cgk::ident::DatabaseTag::of(database.name());
    let role = format!("cgk_t{:08x}_{}", rand::random::<u32>(), tag.as_str());
    watch.execute(&format!("create role {role} login password 'secret'"), &[]).await.unwrap();
    let reader = Config::from_url(&database.config().url_of(&role, Some("secret"))).unwrap();
    for grant in ["select", "grant pg_read_all_data to <role>"] {
        crate::stage::run(&watch, &grant.replace("<role>", &role)).await;
        let checks = examined(&reader, &migrations, &options).await;
        for name in ["fleet.strays", "fleet.tenants", "fleet.drift", "platform.events"] {
            let check = &checks[name];
            assert!(check.verdict == Verdict::Unknown && check.objects.is_empty(), "{grant}: {check:#?}");
        }
    }
    // The control: the operator sees the registry, and names only what is not in it.
    let strays = &examined(&config, &migrations, &options).await["fleet.strays"];
    assert!(strays.verdict == Verdict::Warning && strays.objects.len() == 1, "{strays:?}");
    let policy = format!("create policy cgk_reader_x on public.organizations for select to {role} using (true)");
    watch.execute(&policy, &[]).await.unwrap();
    let strays = &examined(&reader, &migrations, &options).await["fleet.strays"];
    assert!(strays.verdict == Verdict::Warning && strays.objects.len() == 1, "{strays:?}");
}

/// cgk gives a service's login an empty search path itself.
#[tokio::test(flavor = "multi_thread")]
async fn the_search_path_of_an_app_role_is_no_fault() {
    let stage = Stage::set().await;
    let (migrations, options) = (Migrations::bundled(), DoctorOptions::default());
    let login = stage.db.config().target().user().unwrap().to_owned();
    let setting = |change: &str| {
        format!("do $$ begin execute format('alter role {login} in database %I {change}', current_database()); end $$")
    };
    let empty = stage
        .count(&format!(
            "select count(*) from pg_db_role_setting s where s.setrole = '{login}'::regrole and 'search_path=\"\"' = any (s.setconfig)"
        ))
        .await;
    assert_eq!(empty, 1, "setup:database sets it");
    let check = examined(stage.database.config(), &migrations, &options).await["access.role_settings"].clone();
    assert_eq!(check.verdict, Verdict::Good, "{check:?}");
    stage.run(&setting("set search_path = tenant_acme")).await;
    let check = examined(stage.database.config(), &migrations, &options).await["access.role_settings"].clone();
    assert!(check.verdict == Verdict::Failed && check.objects[0].contains("search_path=tenant_acme"), "{check:?}");
}

/// What a fix says works for what it is about.
#[tokio::test(flavor = "multi_thread")]
async fn the_fixes_of_procedures_and_dropped_tenants_fit() {
    let stage = Stage::set().await;
    let (migrations, options) = (Migrations::bundled(), DoctorOptions::default());
    let config = stage.database.config();
    stage.run("create procedure public.pr(int) language sql security definer as 'select 1'").await;
    stage.run("create function public.fn(int) returns int language sql security definer as 'select 1'").await;
    let check = examined(config, &migrations, &options).await["objects.functions"].clone();
    assert_eq!(check.objects, ["public.fn(integer)", "public.pr(IN integer)"], "{check:?}");
    for object in &check.objects {
        stage.run(&check.fix.as_ref().unwrap().replace("NAME", object)).await;
    }
    assert_eq!(examined(config, &migrations, &options).await["objects.functions"].verdict, Verdict::Good);
    stage
        .run(
            "create function public.t() returns trigger language plpgsql security definer set search_path = ''
             as 'begin return new; end'",
        )
        .await;
    let check = examined(config, &migrations, &options).await["objects.functions"].clone();
    assert_eq!(check.objects, ["public.t()"], "{check:?}");
    stage.run(&check.fix.as_ref().unwrap().replace("NAME", &check.objects[0])).await;
    assert_eq!(examined(config, &migrations, &options).await["objects.functions"].verdict, Verdict::Good);

    let mark = "do $$ begin execute format('comment on schema tenant_acme is %L', substr(
                    obj_description('tenant_acme'::regnamespace, 'pg_namespace'), 1, length('cgk organization ') + 36)
                    || E'\\ncgk: this tenant is being dropped'); end $$";
    stage.run(mark).await;
    let checks = examined(config, &migrations, &options).await;
    let tenants = &checks["fleet.tenants"];
    assert_eq!(
        (tenants.verdict, tenants.fix.as_deref()),
        (Verdict::Warning, Some("cgk tenant:drop acme")),
        "{tenants:?}"
    );
    assert!(tenants.found.contains("being created or dropped"), "{tenants:?}");
    // With a tenant that is behind, it is that one that `cgk migrate` concerns.
    let newer = migrations.clone().with_file(Set::Tenant, "900_new.sql", "create table later (id int)").unwrap();
    let checks = examined(config, &newer, &options).await;
    let tenants = &checks["fleet.tenants"];
    assert_eq!(tenants.fix.as_deref(), Some("cgk migrate"), "{tenants:?}");
    assert!(tenants.found.starts_with("1 tenant is not at the newest") && tenants.objects.len() == 2, "{tenants:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn transactions_logins_and_connections() {
    let stage = Stage::set().await;
    let migrations = Migrations::bundled();
    let config = stage.database.config();
    let mut options = DoctorOptions::default();

    // A superuser is not what cgk should connect as.
    let checks = examined(config, &migrations, &options).await;
    assert!(checks["access.operator"].verdict == Verdict::Warning, "{:?}", checks["access.operator"]);
    assert_eq!(checks["server.old_transactions"].verdict, Verdict::Good);

    let holder = stage.holder("lock table tenant_acme.orders in access share mode").await;
    options.transaction_age_max = Duration::ZERO;
    let checks = examined(config, &migrations, &options).await;
    let old = &checks["server.old_transactions"];
    let pid: i32 = holder.query_one("select pg_backend_pid()", &[]).await.unwrap().get(0);
    let named = old
        .objects
        .iter()
        .any(|object| object.contains(&format!("process {pid} ")) && object.contains("idle in transaction"));
    assert!(old.verdict == Verdict::Warning && named, "{old:?}");

    let checks = examined(&config.clone().with_pool_size_max(100_000), &migrations, &options).await;
    assert_eq!(checks["server.connections"].verdict, Verdict::Warning, "{:?}", checks["server.connections"]);

    // The login of a service: it sees little, fails nothing, and is itself looked at.
    assert_eq!(checks["access.logins"].verdict, Verdict::Good, "{:?}", checks["access.logins"]);
    let login = stage.db.config().target().user().unwrap().to_owned();
    stage.run(&format!("alter role {login} bypassrls")).await;
    let checks = examined(config, &migrations, &options).await;
    let logins = &checks["access.logins"];
    assert!(logins.verdict == Verdict::Failed && logins.objects[0].contains("row-level security"), "{logins:?}");
    stage.run(&format!("alter role {login} nobypassrls")).await;

    // Files that the database does not have yet.
    let newer = migrations.clone().with_file(Set::Public, "900_new.sql", "create table public.later (id int)").unwrap();
    let newer = newer.with_file(Set::Tenant, "900_new.sql", "create table later_too (id int)").unwrap();
    let checks = examined(config, &newer, &options).await;
    for name in ["fleet.shared_schema", "fleet.tenants"] {
        assert!(checks[name].verdict == Verdict::Warning && checks[name].fix.is_some(), "{:?}", checks[name]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn prepared_transactions_and_locks_of_a_small_server() {
    let options =
        LocalServerOptions::new().setting("max_prepared_transactions", "1").setting("max_locks_per_transaction", "10");
    let server: LocalServer = options.max_connections(10).start_default(&|_| {}).unwrap();
    let config = Config::from_url(&server.url("postgres")).unwrap().with_pool_size_max(1);
    let operator = Operator::connect(&config).await.unwrap();
    let migrations = Migrations::bundled();
    let mut options = DoctorOptions::default();
    options.transaction_age_max = Duration::ZERO;

    // Not set up: there is no fleet to look at, and the fix says how to begin.
    let checks = examined(&config, &migrations, &options).await;
    let shared = &checks["fleet.shared_schema"];
    assert!(shared.verdict == Verdict::Failed && shared.fix.as_deref() == Some("cgk setup:database"), "{shared:?}");
    assert_eq!(checks["fleet.tenants"].verdict, Verdict::Unknown);
    assert_eq!(checks["fleet.drift"].verdict, Verdict::Unknown);

    setup::setup(&operator, &migrations, &mut Silent).await.unwrap();
    let checks = examined(&config, &migrations, &options).await;
    let good = ["server.prepared_transactions", "fleet.shared_schema"].map(|name| checks[name].verdict);
    assert_eq!(good, [Verdict::Good; 2]);
    assert_eq!(checks["server.locks"].verdict, Verdict::Warning, "{:?}", checks["server.locks"]);

    let (client, connection) = tokio_postgres::connect(&server.url("postgres"), tokio_postgres::NoTls).await.unwrap();
    tokio::spawn(connection);
    crate::stage::run(&client, "begin; create table public.p (id int); prepare transaction 'left over'").await;
    let checks = examined(&config, &migrations, &options).await;
    let prepared = &checks["server.prepared_transactions"];
    assert!(prepared.verdict == Verdict::Warning && prepared.objects[0].contains("'left over'"), "{prepared:?}");
    crate::stage::run(&client, "rollback prepared 'left over'").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_says_what_it_found_and_changes_nothing() {
    let (database, config) = healthy().await;
    let watch = connect(&database).await;
    let mut shell = Shell::new();
    shell = shell.set("DATABASE_URL", &database.config().url_of(config.target().user().unwrap(), Some("secret")));
    let healthy = shell.run(&["doctor"]);
    assert_eq!(healthy.code, 0, "{healthy:?}");
    assert!(healthy.stdout.contains("ok       fleet.drift "), "{}", healthy.stdout);
    assert!(healthy.stderr.contains("23 checks: "), "{}", healthy.stderr);
    // The superuser's session is hidden from this role.
    assert_eq!(shell.run(&["doctor", "--deny-warnings"]).code, 1);

    crate::stage::run(&watch, "create view public.everybodys as select * from tenant_acme.orders").await;
    let failed = shell.run(&["doctor"]);
    assert_eq!(failed.code, 1);
    assert!(failed.stdout.contains("- public.everybodys reads tenant_acme.orders"), "{}", failed.stdout);
    assert!(failed.stdout.contains("fix: drop view"), "{}", failed.stdout);
    let json = shell.run(&["doctor", "--json"]);
    let answer: serde_json::Value = serde_json::from_str(&json.stdout).unwrap();
    let checks = answer["checks"].as_array().unwrap();
    let view = checks.iter().find(|check| check["check"] == "objects.shared_views").unwrap();
    assert_eq!((view["verdict"].as_str(), answer["exit"].as_i64(), json.code), (Some("failed"), Some(1), 1));
}
