//! `tenant:warm`: schemas that are ready, and the tenants that take them.

use crate::{
    fixture::{enters, left_of},
    stage::{Stage, app_login, must_end, patient, slug},
    transfer_fixture::{bare, contents, set},
};
use cgk::{
    Db, ErrorKind, Operator,
    config::Isolation,
    drift,
    lifecycle::{self, CreateOptions, Creation, WarmCount},
    migrate::{Migrations, Scope, Set, Silent, Target},
};

/// The schemas that are kept ready, and their roles.
pub(crate) const SCHEMAS: &str = "select count(*) from pg_namespace where starts_with(nspname, 'cgk_warm_')";
const ROLES: &str =
    "select count(*) from pg_roles where starts_with(rolname, 'cgk__warm_') and rolname like '%' || cgk_database_tag()";
const ROWS: &str = "select count(*) from cgk_warm";

/// Tables with everything that the rights and comments of a tenant are about.
const FILE: (&str, &str) = (
    "900_kinds.sql",
    "create table kinds (id serial primary key, n int check (n > 0), note text default 'none');
     insert into kinds (n) values (1), (2);
     comment on table kinds is 'kinds'; comment on column kinds.n is 'a number';
     create index kinds_n on kinds (n); comment on index kinds_n is 'by number';
     create view some_kinds as select n from kinds; comment on view some_kinds is 'some';
     create materialized view all_kinds as select n from kinds;
     create table log (at timestamptz default now(), id int generated always as identity, kind int references kinds);
     create type mood as enum ('good', 'bad'); create domain small as int check (value < 9);
     create sequence alone; grant select (note) on kinds to public;
     create function count_kinds() returns bigint language sql as 'select count(*) from kinds';
     comment on function count_kinds() is 'counts'; revoke all on function count_kinds() from public;
     create function touch() returns trigger language plpgsql as 'begin return new; end';
     create trigger touched before insert on log for each row execute function touch();
     alter table log enable row level security; create policy everything on log using (true);",
);

pub(crate) async fn warm(operator: &Operator, migrations: &Migrations, count: usize) -> (usize, usize, usize) {
    let warmed = must_end(lifecycle::warm(operator, migrations, WarmCount::Exactly(count))).await.unwrap();
    (warmed.ready, warmed.created, warmed.dropped)
}

async fn status(operator: &Operator, migrations: &Migrations) -> (usize, usize, usize) {
    let status = lifecycle::warm_status(operator, migrations).await.unwrap();
    (status.ready, status.unfinished, status.stale)
}

pub(crate) async fn create(operator: &Operator, db: &Db, migrations: &Migrations, tenant: &str) -> lifecycle::Created {
    let options = CreateOptions::default();
    must_end(lifecycle::create(operator, db, migrations, &slug(tenant), &options)).await.unwrap()
}

async fn no_drift(operator: &Operator, migrations: &Migrations) {
    no_drift_of(operator, migrations, Scope::Everything).await;
}

async fn no_drift_of(operator: &Operator, migrations: &Migrations, scope: Scope) {
    let report = drift::verify(operator, migrations, &scope).await.unwrap();
    assert!(!report.has_drift() && !report.lacks_reference() && report.strays.is_empty(), "{report:#?}");
}

/// Everything in the catalogue that belongs to a tenant, without OIDs, with other words for its slug and its
/// organization.
async fn catalogue(stage: &Stage, tenant: &str) -> String {
    let sql = "with s as (select * from pg_namespace where nspname = 'tenant_' || $1),
     r as (select * from pg_authid where rolname = 'cgk_' || $1 || '_' || cgk_database_tag()),
     held as (select d.classid, d.objid from pg_depend d join s on d.refclassid = 'pg_namespace'::regclass and d.refobjid = s.oid),
     c as (select c.* from pg_class c join s on s.oid = c.relnamespace)
     select string_agg(line, E'\\n' order by line) from (
        select concat_ws(' ', 'schema', nspname, nspowner::regrole, nspacl, obj_description(oid, 'pg_namespace')) from s
        union all select concat_ws(' ', 'role', to_jsonb(r) - 'oid') from r
        union all select concat_ws(' ', 'member', m.roleid::regrole, m.member::regrole, m.grantor::regrole, to_jsonb(m) - 'oid' - 'roleid' - 'member' - 'grantor')
                  from pg_auth_members m join r on r.oid in (m.roleid, m.member)
        union all select concat_ws(' ', 'setting', d.setconfig) from pg_db_role_setting d join r on r.oid = d.setrole
        union all select concat_ws(' ', 'default', d.defaclrole::regrole, d.defaclobjtype, d.defaclacl) from pg_default_acl d join s on s.oid = d.defaclnamespace
        union all select concat_ws(' ', 'default of role', d.defaclobjtype, d.defaclacl) from pg_default_acl d join r on r.oid = d.defaclrole
        union all select concat_ws(' ', 'relation', c.oid::regclass, c.relkind, c.relowner::regrole, c.relacl, c.reloptions, c.relrowsecurity, c.relforcerowsecurity, c.relpersistence, c.relreplident,
                         c.relnatts, c.relchecks, c.relhasindex, c.relhastriggers, obj_description(c.oid, 'pg_class')) from c
        union all select concat_ws(' ', 'column', c.oid::regclass, a.attnum, a.attname, a.atttypid::regtype, a.atttypmod, a.attnotnull, a.attidentity, a.attgenerated, a.attacl,
                         a.attoptions, a.attstattarget, pg_get_expr(d.adbin, d.adrelid), col_description(c.oid, a.attnum))
                  from c join pg_attribute a on a.attrelid = c.oid left join pg_attrdef d on d.adrelid = c.oid and d.adnum = a.attnum where a.attnum > 0
        union all select concat_ws(' ', 'index', pg_get_indexdef(c.oid)) from c where c.relkind = 'i'
        union all select concat_ws(' ', 'view', pg_get_viewdef(c.oid)) from c where c.relkind in ('v', 'm')
        union all select concat_ws(' ', 'sequence', c.oid::regclass, to_jsonb(q) - 'seqrelid') from c join pg_sequence q on q.seqrelid = c.oid
        union all select concat_ws(' ', 'constraint', k.conname, k.conrelid::regclass, k.contypid::regtype, pg_get_constraintdef(k.oid), obj_description(k.oid, 'pg_constraint')) from pg_constraint k join s on s.oid = k.connamespace
        union all select concat_ws(' ', 'trigger', pg_get_triggerdef(t.oid), t.tgenabled) from pg_trigger t join c on c.oid = t.tgrelid where not t.tgisinternal
        union all select concat_ws(' ', 'policy', c.oid::regclass, p.polname, p.polcmd, p.polroles, pg_get_expr(p.polqual, p.polrelid)) from pg_policy p join c on c.oid = p.polrelid
        union all select concat_ws(' ', 'function', pg_get_functiondef(p.oid), p.proowner::regrole, p.proacl, obj_description(p.oid, 'pg_proc')) from pg_proc p join s on s.oid = p.pronamespace
        union all select concat_ws(' ', 'type', t.oid::regtype, t.typtype, t.typowner::regrole, t.typacl, (select array_agg(e.enumlabel order by e.enumsortorder) from pg_enum e where e.enumtypid = t.oid)) from pg_type t join s on s.oid = t.typnamespace
        union all select concat_ws(' ', 'held', h.classid::regclass, count(*)) from held h group by h.classid
        union all select concat_ws(' ', 'shared', d.classid::regclass, d.refclassid::regclass, d.refobjid::regrole, d.deptype, count(*)) from pg_shdepend d join r on r.oid = d.refobjid group by d.classid, d.refclassid, d.refobjid, d.deptype
     ) x (line)";
    let text: String = stage.rows(sql, &[&tenant]).await[0].get(0);
    let id: String = stage.rows("select id::text from organizations where slug = $1", &[&tenant]).await[0].get(0);
    text.replace(&id, "ID").replace(tenant, "SLUG")
}

/// Both ways of creation with the same login of a service: nothing in the catalogue or in the tables differs.
async fn a_taken_schema_is_like_a_created_one(stage: &Stage, isolation: Isolation) {
    let migrations = set(&[FILE]);
    let config = patient(stage.database.config()).with_isolation(isolation);
    let operator = Operator::connect(&config).await.unwrap();
    let plan = cgk::migrate::plan_fleet(&operator, &migrations, Scope::Everything, Target::Head).await.unwrap();
    cgk::migrate::run(&operator, &migrations, plan, &mut Silent).await.unwrap();
    let db = Db::connect(&config).await.unwrap();
    let plain = create(&operator, &db, &migrations, "plain").await;
    assert_eq!(warm(&operator, &migrations, 2).await, (2, 2, 0));
    // The tenants of the stage have roles in both modes.
    let scope = |tenants: &[&str]| match isolation {
        Isolation::Role => Scope::Everything,
        Isolation::Path => Scope::Only(tenants.iter().map(|tenant| slug(tenant)).collect()),
    };
    no_drift_of(&operator, &migrations, scope(&["plain"])).await;
    let roles = if isolation == Isolation::Role { 2 } else { 0 };
    assert_eq!((stage.count(SCHEMAS).await, stage.count(ROLES).await, stage.count(ROWS).await), (2, roles, 2));

    let taken = create(&operator, &db, &migrations, "taken").await;
    assert_eq!((taken.creation, taken.applied), (Creation::New, plain.applied));
    assert_eq!((stage.count(SCHEMAS).await, stage.count(ROLES).await, stage.count(ROWS).await), (1, roles / 2, 1));
    no_drift_of(&operator, &migrations, scope(&["plain", "taken"])).await;
    let (cold, warmed) = (catalogue(stage, "plain").await, catalogue(stage, "taken").await);
    assert!(cold.lines().count() > 60 && cold.contains("SLUG") && cold.contains("cgk:1 head="), "{cold}");
    assert_eq!(warmed, cold);
    assert_eq!(contents(stage, "taken").await, contents(stage, "plain").await);
    for db in [&db, &stage.db] {
        enters(db, "taken").await.unwrap();
        let taken = slug("taken");
        let tenant = db.tenant(&taken);
        tenant.execute("insert into kinds (n) values (3)", &[]).await.unwrap();
        tenant.query("select n from some_kinds", &[]).await.unwrap();
    }
    stage.db.tenant(&slug("taken")).execute("delete from schema_migrations", &[]).await.unwrap_err();

    let again = create(&operator, &db, &migrations, "taken").await;
    assert_eq!((again.creation, stage.count(ROWS).await), (Creation::Existed, 1));
    assert_eq!(status(&operator, &migrations).await, (1, 0, 0));
    assert_eq!(warm(&operator, &migrations, 0).await, (0, 0, 1));
    assert_eq!((stage.count(SCHEMAS).await, stage.count(ROLES).await, stage.count(ROWS).await), (0, 0, 0));
    create(&operator, &db, &migrations, "last").await;
    no_drift_of(&operator, &migrations, scope(&["last"])).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn by_role_a_taken_schema_is_like_a_created_one() {
    a_taken_schema_is_like_a_created_one(&Stage::set().await, Isolation::Role).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn by_path_a_taken_schema_is_like_a_created_one() {
    a_taken_schema_is_like_a_created_one(&Stage::set_path_mode().await, Isolation::Path).await;
}

/// Without the table nothing is there to count, to drop or to replace, and nothing creates it.
#[tokio::test(flavor = "multi_thread")]
async fn without_the_table_there_is_nothing_to_do() {
    let migrations = set(&[FILE]);
    let stage = bare(&migrations).await;
    let operator = stage.operator().await;
    assert_eq!(status(&operator, &migrations).await, (0, 0, 0));
    assert_eq!(warm(&operator, &migrations, 0).await, (0, 0, 0));
    let warmed = lifecycle::warm(&operator, &migrations, WarmCount::Unchanged).await.unwrap();
    assert_eq!((warmed.ready, warmed.created, warmed.dropped), (0, 0, 0));
    assert_eq!(stage.count("select count(*) from pg_class where relname = 'cgk_warm'").await, 0);
}

/// A schema with other files is not taken, and the next call replaces it.
#[tokio::test(flavor = "multi_thread")]
async fn a_schema_of_another_set_is_not_taken() {
    let (before, after) = (set(&[FILE]), set(&[FILE, ("901_more.sql", "alter table kinds add column more text")]));
    let stage = bare(&before).await;
    let operator = stage.operator().await;
    assert_eq!(warm(&operator, &before, 3).await, (3, 3, 0));
    create(&operator, &stage.db, &after, "newer").await;
    assert_eq!((stage.count(ROWS).await, stage.count("select count(more) from tenant_newer.kinds").await), (3, 0));
    assert_eq!(status(&operator, &after).await, (0, 0, 3));
    let warmed = lifecycle::warm(&operator, &after, WarmCount::Unchanged).await.unwrap();
    assert_eq!((warmed.ready, warmed.created, warmed.dropped), (3, 3, 3));
    assert_eq!(warm(&operator, &after, 1).await, (1, 0, 2));
    create(&operator, &stage.db, &after, "taken").await;
    assert_eq!((stage.count(ROWS).await, stage.count("select count(more) from tenant_taken.kinds").await), (0, 0));
    no_drift(&operator, &after).await;
    // The older set is refused, as for every creation, and those that are ready stay.
    assert_eq!(warm(&operator, &after, 2).await, (2, 2, 0));
    for count in [WarmCount::Exactly(3), WarmCount::Unchanged] {
        let refused = lifecycle::warm(&operator, &before, count).await.unwrap_err();
        assert_eq!((refused.kind(), status(&operator, &after).await), (ErrorKind::Drift, (2, 0, 0)));
    }
    // With a set that no schema can be kept ready for, they are of no use.
    let steps = ("902_steps.sql", "-- cgk:no-transaction\ncreate index concurrently kinds_note on kinds (note)");
    let calls = (
        "903_calls.sql",
        "-- cgk:no-transaction\ncreate procedure p() language plpgsql as 'begin commit; end';\ncall p();",
    );
    let stepped = set(&[FILE, ("901_more.sql", "alter table kinds add column more text"), steps, calls]);
    let refused = lifecycle::warm(&operator, &stepped, WarmCount::Exactly(2)).await.unwrap_err();
    assert_eq!((refused.code(), stage.count(SCHEMAS).await, stage.count(ROWS).await), ("CGK0970", 0, 0), "{refused:?}");
}

/// A schema whose rights are not those of a new tenant is not taken: it has no role, too many rights, or a login was
/// admitted since.
#[tokio::test(flavor = "multi_thread")]
async fn a_schema_with_other_rights_is_not_taken() {
    let migrations = set(&[FILE]);
    let stage = bare(&migrations).await;
    let operator = stage.operator().await;
    let mut number = 0;
    for change in [
        "grant usage on schema S to public",
        "revoke all on schema S from R",
        "grant R to pg_monitor",
        "alter schema S owner to pg_monitor",
        "drop table S.schema_migrations",
        "update cgk_warm set is_checked = false",
    ] {
        assert_eq!(warm(&operator, &migrations, 1).await.0, 1, "{change}");
        let names = "select w.schema_name, r.rolname::text from cgk_warm w join pg_roles r on starts_with(r.rolname, 'cgk_' || substr(w.schema_name, 4))";
        let row = &stage.rows(names, &[]).await[0];
        stage.run(&change.replace('S', row.get(0)).replace('R', row.get(1))).await;
        number += 1;
        create(&operator, &stage.db, &migrations, &format!("t{number}")).await;
        assert_eq!(stage.count(ROWS).await, 1, "{change}");
    }
    // The last one was only not recorded as complete.
    assert_eq!(status(&operator, &migrations).await, (0, 1, 0));
    assert_eq!(warm(&operator, &migrations, 1).await, (1, 1, 0));
    // A login becomes a member of the role with the tenant: before, it could leave rows for the tenant.
    app_login(&stage.database, Isolation::Role).await;
    assert_eq!(status(&operator, &migrations).await, (1, 0, 0));
    let members = "select count(*) from pg_auth_members m join pg_roles r on r.oid = m.roleid
                   where starts_with(r.rolname, 'cgk__warm_') and m.member <> current_user::regrole";
    assert_eq!(stage.count(members).await, 0);
    create(&operator, &stage.db, &migrations, "taken").await;
    let members = "select count(*) from pg_auth_members m join pg_roles r on r.oid = m.roleid
                   where starts_with(r.rolname, 'cgk_taken_') and m.member <> current_user::regrole";
    assert_eq!((stage.count(ROWS).await, stage.count(members).await), (0, 1));
    no_drift(&operator, &migrations).await;
}

/// Migrations of tenants can read the shared schema: after its migration, a ready schema may be another one than a new.
#[tokio::test(flavor = "multi_thread")]
async fn a_migration_of_the_shared_schema_makes_them_stale() {
    let tenant =
        ("900_copy.sql", "create table copied (like public.shared); insert into copied select * from public.shared");
    let shared = ("900_shared.sql", "create table public.shared (a int); insert into public.shared values (1)");
    let before = set(&[tenant]).with_file(Set::Public, shared.0, shared.1).unwrap();
    let after =
        before.clone().with_file(Set::Public, "901_b.sql", "alter table public.shared add b int default 7").unwrap();
    let stage = bare(&before).await;
    let operator = stage.operator().await;
    assert_eq!(warm(&operator, &before, 2).await, (2, 2, 0));
    let plan = cgk::migrate::plan_fleet(&operator, &after, Scope::Everything, Target::Head).await.unwrap();
    cgk::migrate::run(&operator, &after, plan, &mut Silent).await.unwrap();
    assert_eq!(status(&operator, &after).await, (0, 0, 2));
    create(&operator, &stage.db, &after, "cold").await;
    assert_eq!((stage.count(ROWS).await, stage.count("select b::int8 from tenant_cold.copied").await), (2, 7));
    assert_eq!(warm(&operator, &after, 2).await, (2, 2, 2));
    create(&operator, &stage.db, &after, "taken").await;
    assert_eq!((stage.count(ROWS).await, stage.count("select b::int8 from tenant_taken.copied").await), (1, 7));
    no_drift(&operator, &after).await;
}

/// What contains the name of its schema could not be renamed with it; what changes something outside would have done it
/// already.
#[tokio::test(flavor = "multi_thread")]
async fn migrations_that_depend_on_the_tenant_are_refused() {
    for (text, why) in [
        (
            "do $$ begin execute format('create function f() returns int language sql as ''select count(*)::int from %I.customers''', (select table_schema from information_schema.tables where table_name = 'customers' and table_schema like 'cgk%')); end $$",
            "function ",
        ),
        (
            "create table notes (n text); insert into notes select (select table_schema from information_schema.tables where table_name = 'customers' and table_schema like 'cgk%')",
            "a row of \"notes\"",
        ),
        (
            "create table notes (n text); do $$ begin execute format('comment on table notes is %L', (select table_schema from information_schema.tables where table_name = 'customers' and table_schema like 'cgk%')); end $$",
            "\"notes\" has it",
        ),
        (
            "create table notes (n text); insert into notes select split_part(current_schema(), '_', 2)",
            "900_a contains \"current_schema\"",
        ),
        (
            "create table notes (n text); insert into notes select name\n  FROM  public.organizations",
            "900_a contains \"organizations\"",
        ),
        (
            "do $$ begin execute format('grant usage on schema %I to pg_monitor', (select table_schema from information_schema.tables where table_name = 'customers' and table_schema like 'cgk%')); end $$",
            "rights on the schema",
        ),
        (
            "insert into public.organizations (slug, name, status) values ('other', 'x', 'onboarding')",
            "900_a.sql changes something outside",
        ),
        (
            "-- cgk:no-transaction\ncreate procedure p() language plpgsql as 'begin commit; end';\ncall p();",
            "one transaction",
        ),
    ] {
        let migrations = set(&[("900_a.sql", text)]);
        let stage = bare(&migrations).await;
        let operator = stage.operator().await;
        let refused = lifecycle::warm(&operator, &migrations, WarmCount::Exactly(1)).await.unwrap_err();
        assert_eq!((refused.code(), refused.kind()), ("CGK0970", ErrorKind::Refused), "{refused:?}");
        assert!(refused.to_string().contains(why), "{refused}");
        assert_eq!(
            (stage.count(SCHEMAS).await, stage.count(ROLES).await, stage.count(ROWS).await),
            (0, 0, 0),
            "{text}"
        );
        assert_eq!(stage.count("select count(*) from organizations").await, 0);
    }
}

/// Eight creations of four tenants with four schemas: each tenant gets a schema of its own.
#[tokio::test(flavor = "multi_thread")]
async fn two_tenants_never_take_the_same_schema() {
    let migrations = set(&[FILE]);
    let stage = bare(&migrations).await;
    assert_eq!(warm(&stage.operator().await, &migrations, 4).await, (4, 4, 0));
    let mut runs = Vec::new();
    for number in 0..8 {
        let (config, migrations) = (patient(stage.database.config()), migrations.clone());
        runs.push(tokio::spawn(async move {
            let (operator, db) = (Operator::connect(&config).await.unwrap(), Db::connect(&config).await.unwrap());
            create(&operator, &db, &migrations, &format!("t{}", number / 2)).await
        }));
    }
    let mut new = 0;
    for run in runs {
        new += usize::from(must_end(run).await.unwrap().creation == Creation::New);
    }
    assert_eq!(new, 4);
    assert_eq!(stage.count("select count(*) from organizations where status = 'active'").await, 4);
    assert_eq!(stage.count("select count(*) from pg_namespace where starts_with(nspname, 'tenant_')").await, 4);
    let (rows, schemas) = (stage.count(ROWS).await, stage.count(SCHEMAS).await);
    assert!(rows == schemas && rows < 4, "{rows} rows, {schemas} schemas");
    no_drift(&stage.operator().await, &migrations).await;
}

/// Two calls at once together create as many as the larger number, and both say that they are ready.
#[tokio::test(flavor = "multi_thread")]
async fn two_calls_at_once_create_what_one_creates() {
    let migrations = set(&[FILE]);
    let stage = bare(&migrations).await;
    let mut runs = Vec::new();
    for wanted in [3, 2] {
        let (config, migrations) = (patient(stage.database.config()), migrations.clone());
        runs.push(tokio::spawn(async move {
            let operator = Operator::connect(&config).await.unwrap();
            must_end(lifecycle::warm(&operator, &migrations, WarmCount::Exactly(wanted))).await.unwrap()
        }));
    }
    let mut created = 0;
    for run in runs {
        created += must_end(run).await.unwrap().created;
    }
    let (rows, schemas) = (stage.count(ROWS).await, stage.count(SCHEMAS).await);
    assert!(
        rows == schemas && (2..=3).contains(&rows) && created >= 2,
        "{rows} rows, {schemas} schemas, {created} created"
    );
    assert_eq!(warm(&stage.operator().await, &migrations, 3).await.0, 3);
}

/// Killed while it waits, a creation leaves the ready schema as it was.
#[tokio::test(flavor = "multi_thread")]
async fn a_killed_creation_leaves_the_schema() {
    let migrations = set(&[FILE]);
    let stage = bare(&migrations).await;
    let config = patient(stage.database.config());
    assert_eq!(warm(&Operator::connect(&config).await.unwrap(), &migrations, 1).await, (1, 1, 0));
    let name: String = stage.rows("select schema_name from cgk_warm", &[]).await[0].get(0);
    for lock in [
        "lock table public.cgk_warm in share row exclusive mode".to_owned(),
        "lock table public.organizations in exclusive mode".to_owned(),
        format!("comment on schema {name} is 'held'"),
        format!("lock table {name}.schema_migrations in access exclusive mode"),
    ] {
        let holder = stage.holder(&lock).await;
        let (operator, migrations, db) =
            (Operator::connect(&config).await.unwrap(), migrations.clone(), stage.db.clone());
        let run = tokio::spawn(async move {
            lifecycle::create(&operator, &db, &migrations, &slug("acme"), &CreateOptions::default()).await.map(drop)
        });
        stage.until_waiting(1).await;
        stage.kill_waiting().await;
        assert_eq!(must_end(run).await.unwrap().unwrap_err().kind(), ErrorKind::Unavailable, "{lock}");
        drop(holder);
        assert_eq!((left_of(&stage, "acme").await, stage.count(ROWS).await), ([false; 3], 1), "{lock}");
    }
    create(&stage.operator().await, &stage.db, &migrations, "acme").await;
    assert_eq!((stage.count(ROWS).await, stage.count(SCHEMAS).await), (0, 0));
}

/// Killed while it waits at one of its steps, a call leaves what the next one completes or drops.
#[tokio::test(flavor = "multi_thread")]
async fn a_killed_call_is_finished_by_the_next() {
    let migrations = set(&[FILE]);
    let stage = bare(&migrations).await;
    let config = patient(stage.database.config());
    let operator = Operator::connect(&config).await.unwrap();
    assert_eq!(warm(&operator, &migrations, 1).await, (1, 1, 0));
    let counts = async || [stage.count(ROWS).await, stage.count(SCHEMAS).await, stage.count(ROLES).await];
    let row = "delete from cgk_warm; insert into cgk_warm (schema_name) values ('cgk_warm_0000000a')";
    let slow = "create function public.slow() returns trigger language plpgsql as
                    'begin perform pg_advisory_xact_lock(77); return new; end';
                create trigger slow before update of is_checked on cgk_warm for each row execute function public.slow();
                delete from cgk_warm; insert into cgk_warm (schema_name) values ('cgk_warm_0000000b')";
    for (before, lock, wanted, left) in [
        // Before its row is written; before the schema is created; before it is recorded as complete; before it is
        // dropped.
        ("", "lock table cgk_warm in share mode", 1, [0, 0, 0]),
        (row, "lock table cgk_warm in share mode", 1, [1, 0, 0]),
        (slow, "select pg_advisory_xact_lock(77)", 1, [1, 1, 1]),
        ("1", "lock table S.kinds in access share mode", 0, [1, 1, 1]),
    ] {
        warm(&operator, &migrations, usize::from(before == "1")).await;
        if before.len() > 1 {
            stage.run(before).await;
        }
        let name = stage.rows("select schema_name from cgk_warm", &[]).await.first().map(|row| row.get::<_, String>(0));
        let holder = stage.holder(&lock.replace('S', name.as_deref().unwrap_or("S"))).await;
        let (operator, files) = (Operator::connect(&config).await.unwrap(), migrations.clone());
        let run =
            tokio::spawn(async move { lifecycle::warm(&operator, &files, WarmCount::Exactly(wanted)).await.map(drop) });
        stage.until_waiting(1).await;
        stage.kill_waiting().await;
        assert_eq!(must_end(run).await.unwrap().unwrap_err().kind(), ErrorKind::Unavailable, "{lock}");
        drop(holder);
        assert_eq!(counts().await, left, "{lock}");
        assert_eq!(warm(&stage.operator().await, &migrations, 2).await.0, 2, "{lock}");
        assert_eq!(counts().await, [2, 2, 2], "{lock}");
    }
}
