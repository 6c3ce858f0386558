//! `tenant:clone`: the copy is what the source was at one moment, and nothing else changes.

use crate::{
    fixture::{left_of, plain_acme},
    stage::{Stage, connect, must_end, run, slug},
    support::cgk::Shell,
    transfer_fixture::{Folder, bare, contents, create, export, import, rich, set},
};
use cgk::{
    Error, ErrorKind, Operator, TenantSlug, TransferError,
    config::Isolation,
    drift,
    lifecycle::{
        self, CloneOptions, CloneRows, Cloned, ExportOptions, ImportOptions, SuspendOptions, TransferObserver,
    },
    migrate::{self, Migrations, Scope, Silent, Target},
};
use tokio_postgres::Client;

pub(crate) async fn clone_as(
    stage: &Stage,
    migrations: &Migrations,
    to: &str,
    rows: CloneRows,
) -> Result<Cloned, Error> {
    let operator = stage.operator().await;
    let options = CloneOptions::default().rows(rows);
    must_end(lifecycle::clone_tenant(&operator, migrations, &slug("acme"), &slug(to), &options, &mut Silent)).await
}

async fn clone(stage: &Stage, migrations: &Migrations, to: &str) -> Result<Cloned, Error> {
    clone_as(stage, migrations, to, CloneRows::All).await
}

pub(crate) async fn no_drift(stage: &Stage, migrations: &Migrations) {
    let operator = stage.operator().await;
    let report = drift::verify(&operator, migrations, &Scope::Tenants).await.unwrap();
    assert!(!report.has_drift() && !report.lacks_reference(), "{report:#?}");
}

/// Every type, partitions, identity, generated columns, cycles of foreign keys, triggers and odd names.
#[tokio::test(flavor = "multi_thread")]
async fn everything_is_copied_and_only_the_organization_differs() {
    let (stage, migrations) = rich("acme").await;
    let before = contents(&stage, "acme").await;
    let cloned = clone(&stage, &migrations, "copy").await.unwrap();
    assert_eq!((cloned.source.name.as_str(), cloned.tenant.name.as_str()), ("Acme & Söhne", "copy"));
    assert!(cloned.rows > 250 && cloned.tables == 29 && cloned.left_out.is_empty(), "{cloned:?}");
    assert_eq!((cloned.masked_columns, cloned.mapped_columns, cloned.migrated), (0, 2, 0));
    let (old, new) = (cloned.source.id.to_string(), cloned.tenant.id.to_string());
    assert_ne!(old, new);
    assert_eq!(contents(&stage, "copy").await, before.replace(&format!("@{old}"), &format!("@{new}")));
    assert_eq!(contents(&stage, "acme").await, before);
    assert!(before.contains(&format!("@{old}")) && before.contains(&format!("json {old}")), "{before}");
    no_drift(&stage, &migrations).await;
    // Names of objects mean those of the copy.
    let own = "select count(*) from tenant_copy.every_type where c45 = 'tenant_copy.tree'::regclass";
    assert_eq!(stage.count(own).await, 1);
    let left = "select count(*) from pg_proc where pronamespace = 'tenant_copy'::regnamespace and proname ~ 'cgk'";
    assert_eq!(stage.count(left).await, 0);

    // What comes after works as before: triggers fire, sequences and identities go on.
    stage
        .run(
            "set search_path = tenant_copy; insert into touched (id) values (99);
             insert into always (v) values ('new'); reset search_path",
        )
        .await;
    assert_eq!(stage.count("select count(*) from tenant_copy.audit where note = 'touched 99'").await, 2);
    assert_eq!(stage.count("select max(id) from tenant_copy.always").await, 51);
    assert_eq!(stage.count("select nextval('tenant_copy.alone')").await, 43);

    // A copy that exists is refused, and so is a copy of itself.
    for to in ["copy", "acme"] {
        assert_eq!(clone(&stage, &migrations, to).await.unwrap_err().code(), "CGK0886", "{to}");
    }
    let migrated = clone(&stage, &migrations, "again").await.unwrap();
    assert_eq!(migrated.rows, cloned.rows);
}

/// Types that contain types: of the schema, and names of its objects.
#[tokio::test(flavor = "multi_thread")]
async fn types_that_contain_types_arrive() {
    let migrations = set(&[(
        "900_a.sql",
        r#"create type mood as enum ('sad', 'it''s "so"', 'happy');
           create domain moods as mood[] check (value <> '{}');
           create type inner_type as (m mood, t regclass);
           create type "Outer type" as (i inner_type[], d moods);
           create type span as range (subtype = int8, multirange_type_name = spans);
           create table a (id int, m mood, ms mood[], d moods, i inner_type, o "Outer type", s span, ss spans, t regclass[],
                           p regprocedure, y regtype, everyone regclass);
           create function f(mood) returns int language sql as 'select 1'"#,
    )]);
    let stage = bare(&migrations).await;
    create(&stage, &migrations, "acme").await;
    stage
        .run(
            r#"set search_path = tenant_acme;
               insert into a values (1, 'happy', array['it''s "so"', null]::mood[], '{sad}', ('sad', 'a'),
                   (array[('happy', 'a')::inner_type, null], '{happy,sad}'), '[1,5)', '{[1,2),[5,)}', '{a,pg_class}',
                   'f(mood)', 'mood', 'public.organizations');
               insert into a values (2);
               reset search_path"#,
        )
        .await;
    clone(&stage, &migrations, "copy").await.unwrap();
    assert_eq!(contents(&stage, "copy").await, contents(&stage, "acme").await);
    let own = "select count(*) from tenant_copy.a where t[1] = 'tenant_copy.a'::regclass and (i).t = t[1]
               and (o).i[1].t = t[1] and y = 'tenant_copy.mood'::regtype and p = 'tenant_copy.f(tenant_copy.mood)'::regprocedure";
    assert_eq!(stage.count(own).await, 1);
    no_drift(&stage, &migrations).await;
}

/// A key to a shared table, and in each loaded row the locks that its own transaction has on that table.
const SHARED_KEY: &str = "
    create table notes (id int primary key, org uuid references public.organizations,
                        locks text generated always as (public.locks_on_organizations(id)) stored);
    create table inside (note_id int references notes)";
const LOCKS_ON_ORGANIZATIONS: &str = "
    create function public.locks_on_organizations(int) returns text immutable language sql as
    $$select string_agg(l.mode, ' ' order by l.mode) from pg_locks l
      where l.pid = pg_backend_pid() and l.relation = 'public.organizations'::regclass$$";

/// Tenants are entered by reading `organizations`: a copy that locks it against readers would stop all of them.
#[tokio::test(flavor = "multi_thread")]
async fn a_key_to_a_shared_table_does_not_stop_its_readers() {
    let migrations = set(&[("900_a.sql", SHARED_KEY)]);
    let stage = bare(&migrations).await;
    stage.run(LOCKS_ON_ORGANIZATIONS).await;
    create(&stage, &migrations, "acme").await;
    stage
        .run(
            "insert into tenant_acme.notes (id, org) select 1, id from organizations;
             insert into tenant_acme.notes (id) values (2); insert into tenant_acme.inside values (1)",
        )
        .await;
    clone(&stage, &migrations, "copy").await.unwrap();
    let folder = Folder::new();
    export(&stage, "acme", &folder.path("x"), &ExportOptions::default()).await;
    let options = ImportOptions::default().slug(slug("imported"));
    import(&stage, &migrations, &folder.path("x"), &options).await.unwrap();
    for tenant in ["copy", "imported"] {
        // The control: the rows were loaded under the lock of the new key, which stops writers only.
        let locked = format!("select count(*) from tenant_{tenant}.notes where locks like '%ShareRowExclusiveLock%'");
        assert_eq!(stage.count(&locked).await, 2, "{tenant}");
        let stopped = format!("select count(*) from tenant_{tenant}.notes where locks ~ 'Access(Exclusive)Lock'");
        assert_eq!(stage.count(&stopped).await, 0, "{tenant}");
        let keys = format!(
            "select count(*) from pg_constraint where contype = 'f' and convalidated
             and conrelid in ('tenant_{tenant}.notes'::regclass, 'tenant_{tenant}.inside'::regclass)"
        );
        assert_eq!(stage.count(&keys).await, 2, "{tenant}");
    }
    no_drift(&stage, &migrations).await;

    // A row of an organization that this database does not have is refused, and nothing is left.
    let other = bare(&migrations).await;
    other.run(LOCKS_ON_ORGANIZATIONS).await;
    let refused = import(&other, &migrations, &folder.path("x"), &options).await.unwrap_err();
    assert_eq!(refused.constraint(), Some("notes_org_fkey"), "{refused:?}");
    assert_eq!(left_of(&other, "imported").await, [false; 3]);
}

/// Writes to the source while it is copied, and does not wait.
struct Writes<'a>(&'a Client, i64);

impl TransferObserver for Writes<'_> {
    fn moved(&mut self, _: &TenantSlug, _: u64, _: u64) {
        self.1 += 1;
        let sql = "set lock_timeout = '1ms'; begin; insert into tenant_acme.big values (-1, 'late');
                   update tenant_acme.small set id = id + 1; delete from tenant_acme.big where id = 1; commit";
        let work = async {
            run(self.0, sql).await;
            // The snapshot has rows that TRUNCATE would remove.
            let emptied = self.0.execute("truncate tenant_acme.x", &[]).await.unwrap_err();
            assert_eq!(emptied.code().unwrap().code(), "55P03");
        };
        tokio::task::block_in_place(|| tokio::runtime::Handle::current().block_on(work));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn writers_are_not_blocked_and_the_copy_is_one_snapshot() {
    let migrations = set(&[(
        "900_two.sql",
        "create table big (id int, v text); create table small (id int); create table x (id int)",
    )]);
    let stage = bare(&migrations).await;
    create(&stage, &migrations, "acme").await;
    stage
        .run(
            "insert into tenant_acme.big select n, 'x' from generate_series(1, 9000) n;
             insert into tenant_acme.small values (0); insert into tenant_acme.x values (1)",
        )
        .await;
    let writer = connect(&stage.database).await;
    let mut writes = Writes(&writer, 0);
    let operator = stage.operator().await;
    let (acme, copy, options) = (slug("acme"), slug("copy"), CloneOptions::default());
    let cloned = must_end(lifecycle::clone_tenant(&operator, &migrations, &acme, &copy, &options, &mut writes)).await;
    let tables = i64::try_from(cloned.unwrap().tables).unwrap();
    assert_eq!((writes.1, stage.count("select id::int8 from tenant_acme.small").await), (tables, tables));
    let of_copy = "select (select id from tenant_copy.small) + count(*) filter (where v = 'late') from tenant_copy.big";
    assert_eq!(stage.count("select count(*) from tenant_copy.x").await, 1);
    assert_eq!((stage.count(of_copy).await, stage.count("select count(*) from tenant_copy.big").await), (0, 9000));
}

/// No rows but those of the migrations; partitions of a schedule are there.
#[tokio::test(flavor = "multi_thread")]
async fn a_schema_alone_has_no_rows_of_the_source() {
    let migrations = set(&[(
        "900_a.sql",
        "create table visits (at date not null) partition by range (at); create table kinds (id int);
         insert into kinds values (1)",
    )]);
    let stage = bare(&migrations).await;
    create(&stage, &migrations, "acme").await;
    stage
        .run(
            "create table tenant_acme.visits_1 partition of tenant_acme.visits for values from (minvalue) to (maxvalue);
             insert into tenant_acme.visits values ('2026-01-01'); insert into tenant_acme.kinds values (2)",
        )
        .await;
    let cloned = clone_as(&stage, &migrations, "copy", CloneRows::SchemaOnly).await.unwrap();
    assert_eq!((cloned.tables, cloned.rows), (0, 0));
    assert_eq!(stage.count("select count(*) from tenant_copy.visits_1").await, 0);
    assert_eq!(stage.count("select sum(id) from tenant_copy.kinds").await, 1);
    no_drift(&stage, &migrations).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_cloned_is_refused_and_leaves_nothing() {
    let migrations = set(&[("900_a.sql", "create table notes (id int primary key)")]);
    let stage = bare(&migrations).await;
    let unknown = clone(&stage, &migrations, "copy").await.unwrap_err();
    assert_eq!((unknown.kind(), unknown.code()), (ErrorKind::NotFound, "CGK0401"));
    create(&stage, &migrations, "acme").await;

    // A schema without a row, and a role that has something, are not taken.
    stage.run("create schema tenant_copy").await;
    assert_eq!(clone(&stage, &migrations, "copy").await.unwrap_err().kind(), ErrorKind::Conflict);
    stage.run("drop schema tenant_copy").await;

    // Files that are not the source's.
    for (other, code) in [(set(&[("900_a.sql", "create table notes (id int)")]), "CGK0604"), (set(&[]), "CGK0604")] {
        let refused = clone(&stage, &other, "copy").await.unwrap_err();
        assert_eq!((refused.kind(), refused.code()), (ErrorKind::Drift, code), "{refused:?}");
        assert_eq!(left_of(&stage, "copy").await, [false; 3]);
    }
    // What no migration has created.
    stage.run("create table tenant_acme.extra (id serial); alter table tenant_acme.notes add column more text").await;
    match clone(&stage, &migrations, "copy").await.unwrap_err() {
        Error::Transfer(TransferError::NotInSet { objects }) => {
            assert_eq!(objects, &["column notes.more", "table extra", "sequence extra_id_seq"]);
        }
        other => panic!("{other:?}"),
    }
    stage.run("drop table tenant_acme.extra; alter table tenant_acme.notes drop column more").await;
    // A rule that swallows rows.
    stage.run("insert into tenant_acme.notes values (1)").await;
    let with_rule = set(&[
        ("900_a.sql", "create table notes (id int primary key)"),
        ("901_rule.sql", "create rule nothing as on insert to notes do instead nothing"),
    ]);
    let operator = stage.operator().await;
    let plan = migrate::plan_fleet(&operator, &with_rule, Scope::Tenants, Target::Head).await.unwrap();
    migrate::run(&operator, &with_rule, plan, &mut Silent).await.unwrap();
    let swallowed = clone(&stage, &with_rule, "copy").await.unwrap_err();
    assert_eq!(swallowed.code(), "CGK0888", "{swallowed:?}");
    assert_eq!(left_of(&stage, "copy").await, [false; 3]);
}

/// A suspended source has rows too; the copy is active.
#[tokio::test(flavor = "multi_thread")]
async fn a_suspended_tenant_is_cloned_as_an_active_one() {
    let stage = Stage::set().await;
    stage.run("insert into tenant_acme.customers (email) values ('a@x')").await;
    let operator = stage.operator().await;
    lifecycle::suspend(&operator, &slug("acme"), &SuspendOptions::default()).await.unwrap();
    let cloned = clone(&stage, &Migrations::bundled(), "copy").await.unwrap();
    assert_eq!((cloned.tenant.status, cloned.source.status.as_str()), (cgk::TenantStatus::Active, "suspended"));
    let rows = stage.db.tenant(&slug("copy")).query("select 1 from customers", &[]).await.unwrap();
    assert_eq!(rows.len(), 1);
}

/// A source that is behind the set: the rows are copied as they were, and then migrated.
#[tokio::test(flavor = "multi_thread")]
async fn a_source_that_is_behind_is_migrated_after_the_copy() {
    let old = ("900_old.sql", "create table notes (id int primary key, v text); insert into notes values (0, 'seed')");
    let newer = ("901_new.sql", "alter table notes add column long int; update notes set long = length(v)");
    let (before, after) = (set(&[old]), set(&[old, newer]));
    let stage = bare(&before).await;
    create(&stage, &before, "acme").await;
    stage.run("insert into tenant_acme.notes values (1, 'three')").await;
    let cloned = clone(&stage, &after, "copy").await.unwrap();
    assert_eq!((cloned.migrated, cloned.tenant.status), (1, cgk::TenantStatus::Active));
    assert_eq!(stage.count("select sum(long) from tenant_copy.notes").await, 9);
}

/// The operator of path isolation, and one that is no superuser and owns what it created.
#[tokio::test(flavor = "multi_thread")]
async fn a_plain_operator_clones_in_both_modes() {
    let migrations = set(&[(
        "900_a.sql",
        "create table a (id int primary key, up int references a, v text, t regclass, person uuid references public.users);
         create function stop() returns trigger language plpgsql as $$ begin raise 'a trigger has fired'; end $$;
         create trigger stop before insert on a for each row execute function stop();",
    )]);
    for isolation in [Isolation::Role, Isolation::Path] {
        let (_database, operator, db, watch) = plain_acme(&migrations, isolation).await;
        let rows = "alter table tenant_acme.a disable trigger user;
                    insert into users (organization_id, email) select id, 'ada@example.com' from organizations;
                    insert into tenant_acme.a
                    select n, nullif(n - 1, 0), 'x', 'tenant_acme.a', (select id from users) from generate_series(1, 100) n;
                    alter table tenant_acme.a enable trigger user";
        run(&watch, rows).await;
        let (acme, copy, options) = (slug("acme"), slug("copy"), CloneOptions::default().name("The copy"));
        let cloned =
            lifecycle::clone_tenant(&operator, &migrations, &acme, &copy, &options, &mut Silent).await.unwrap();
        assert_eq!((cloned.rows, cloned.tenant.name.as_str()), (100, "The copy"));
        let count = db.tenant(&copy).query("select count(*) from a where t = 'a'::regclass", &[]).await.unwrap();
        assert_eq!(count[0].get::<_, i64>(0), 100, "{isolation:?}");
        let fires = db.tenant(&copy).execute("insert into a values (101)", &[]).await.unwrap_err();
        assert!(fires.report().contains("a trigger has fired"), "{fires:?}");

        // Rows that row-level security hides from the owner are not left out silently.
        run(&watch, "alter table tenant_acme.a enable row level security, force row level security").await;
        let other = slug("other");
        let hidden = lifecycle::clone_tenant(&operator, &migrations, &acme, &other, &options, &mut Silent).await;
        assert_eq!(hidden.unwrap_err().code(), "CGK0880");
    }
}

/// None of the triggers fires while the rows are copied, and each fires afterwards as it does in the migrations. A partition's own
/// setting is among them: up to PostgreSQL 14 its triggers are internal.
#[tokio::test(flavor = "multi_thread")]
async fn triggers_are_silent_and_keep_their_settings() {
    let migrations = set(&[(
        "900_a.sql",
        "create table seen (note text);
         create function note() returns trigger language plpgsql as
             $$ begin execute format('insert into %I.seen values (%L)', tg_table_schema, tg_name); return new; end $$;
         create table flat (id int);
         create trigger as_usual before insert on flat for each row execute function note();
         create trigger never before insert on flat for each row execute function note();
         create trigger in_replicas before insert on flat for each row execute function note();
         create trigger always before insert on flat for each row execute function note();
         alter table flat disable trigger never;
         alter table flat enable replica trigger in_replicas;
         alter table flat enable always trigger always;
         create table parts (id int) partition by range (id);
         create table part_0 partition of parts for values from (0) to (10);
         create table part_1 partition of parts for values from (10) to (20);
         create trigger of_parts before insert on parts for each row execute function note();
         create constraint trigger checked after insert on parts for each row execute function note();
         alter table part_1 disable trigger of_parts;
         alter table part_0 enable always trigger checked",
    )]);
    let stage = bare(&migrations).await;
    create(&stage, &migrations, "acme").await;
    let rows =
        |schema: &str| format!("insert into {schema}.flat values (1); insert into {schema}.parts values (5), (15)");
    stage.run(&rows("tenant_acme")).await;
    let text = async |sql: String| stage.rows(&sql, &[]).await[0].get::<_, String>(0);
    let seen = async |schema| text(format!("select string_agg(note, ' ' order by note) from {schema}.seen")).await;
    assert_eq!(seen("tenant_acme").await, "always as_usual checked checked of_parts");
    clone(&stage, &migrations, "copy").await.unwrap();
    assert_eq!(seen("tenant_copy").await, "always as_usual checked checked of_parts");
    stage.run("truncate tenant_copy.seen").await;
    stage.run(&rows("tenant_copy")).await;
    assert_eq!(seen("tenant_copy").await, "always as_usual checked checked of_parts");
    let settings = async |schema| {
        text(format!(
            "select string_agg(concat_ws(' ', c.relname, t.tgname, t.tgenabled), ', ' order by c.relname, t.tgname)
               from pg_trigger t join pg_class c on c.oid = t.tgrelid where c.relnamespace = '{schema}'::regnamespace and c.relname ~ '^(flat|part)'"
        ))
        .await
    };
    assert_eq!(settings("tenant_copy").await, settings("tenant_acme").await);
    no_drift(&stage, &migrations).await;
    stage.run("alter table tenant_copy.part_1 enable trigger of_parts").await;
    let report = drift::verify(&stage.operator().await, &migrations, &Scope::Tenants).await.unwrap();
    assert!(report.has_drift());
}

/// Ends every other session of the database after so many tables.
struct Kills<'a>(&'a Client, usize);

impl TransferObserver for Kills<'_> {
    fn moved(&mut self, _: &TenantSlug, _: u64, _: u64) {
        self.1 = self.1.wrapping_sub(1);
        if self.1 == 0 {
            let sql = "select pg_terminate_backend(pid) from pg_stat_activity
                       where datname = current_database() and pid <> pg_backend_pid()";
            tokio::task::block_in_place(|| tokio::runtime::Handle::current().block_on(run(self.0, sql)));
        }
    }
}

/// Killed after any table, or while it waits for a lock on the source or for one of the shared schema, a clone leaves
/// nothing, and the same clone succeeds afterwards.
#[tokio::test(flavor = "multi_thread")]
async fn a_killed_clone_leaves_nothing() {
    let migrations = set(&[("900_a.sql", "create table a (id int, v text); create table b (id int, v text)")]);
    let stage = bare(&migrations).await;
    create(&stage, &migrations, "acme").await;
    stage.run("insert into tenant_acme.a select n, 'x' from generate_series(1, 100) n").await;
    let (acme, copy, options) = (slug("acme"), slug("copy"), CloneOptions::default());
    let tables = i64::try_from(clone(&stage, &migrations, "whole").await.unwrap().tables).unwrap();
    for table in 1..=usize::try_from(tables).unwrap() {
        let operator = stage.operator().await;
        let mut kills = Kills(&stage.watch, table);
        let clone = lifecycle::clone_tenant(&operator, &migrations, &acme, &copy, &options, &mut kills);
        let killed = must_end(clone).await.unwrap_err();
        assert!(killed.is_retryable() || killed.kind() == ErrorKind::Unavailable, "{killed:?}");
        assert_eq!(left_of(&stage, "copy").await, [false; 3], "killed after table {table}");
    }
    for lock in [
        "lock table tenant_acme.a in access exclusive mode",
        "lock table public.organizations in access exclusive mode",
        "select pg_advisory_xact_lock(x) from (select ('x' || substr(encode(sha256('cgk:migrate:tenant_copy'), 'hex'), 1, 16))::bit(64)::int8) k (x)",
    ] {
        let holder = stage.holder(lock).await;
        let operator = Operator::connect(&crate::stage::patient(stage.database.config())).await.unwrap();
        let (acme, copy, set) = (acme.clone(), copy.clone(), migrations.clone());
        let clone = tokio::spawn(async move {
            let options = CloneOptions::default();
            lifecycle::clone_tenant(&operator, &set, &acme, &copy, &options, &mut Silent).await.map(drop)
        });
        stage.until_waiting(1).await;
        stage.kill_waiting().await;
        let killed = must_end(clone).await.unwrap().unwrap_err();
        assert_eq!(killed.kind(), ErrorKind::Unavailable, "{lock}: {killed:?}");
        drop(holder);
        assert_eq!(left_of(&stage, "copy").await, [false; 3], "{lock}");
    }
    clone(&stage, &migrations, "copy").await.unwrap();
    assert_eq!(contents(&stage, "copy").await, contents(&stage, "acme").await);
}

/// Two clones to one slug: one makes it.
#[tokio::test(flavor = "multi_thread")]
async fn of_two_clones_to_one_slug_one_is_made() {
    let migrations = set(&[]);
    let stage = bare(&migrations).await;
    create(&stage, &migrations, "acme").await;
    stage.run("insert into tenant_acme.customers (email) values ('a@x')").await;
    let (first, second) = tokio::join!(clone(&stage, &migrations, "copy"), clone(&stage, &migrations, "copy"));
    assert_eq!(u8::from(first.is_ok()) + u8::from(second.is_ok()), 1, "{first:?} {second:?}");
    assert_eq!(stage.count("select count(*) from tenant_copy.customers").await, 1);
    assert_eq!(stage.count("select count(*) from organizations where slug = 'copy' and status = 'active'").await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_clones() {
    let stage = Stage::set().await;
    stage.run("insert into tenant_acme.customers (email) values ('a@x'), ('b@x')").await;
    let shell = Shell::on(&stage.database);
    let answer = shell.run(&["tenant:clone", "acme", "copy"]);
    assert_eq!(answer.code, 0, "{}", answer.stderr);
    assert!(answer.stdout.starts_with("cloned tenant acme to copy (copy): "), "{}", answer.stdout);
    assert!(answer.stdout.contains("2 rows"), "{}", answer.stdout);
    shell.write("mask.toml", "[tables.customers]\nemail = \"id || '@x'\"\n");
    let answer = shell.run(&["tenant:clone", "acme", "masked", "--mask", "mask.toml", "--name", "Masked", "--json"]);
    let record: serde_json::Value = serde_json::from_str(answer.stdout.trim()).unwrap();
    let keys = ["tenant", "name", "status", "from_tenant"].map(|key| record[key].as_str().unwrap_or_default());
    assert_eq!((answer.code, keys), (0, ["masked", "Masked", "active", "acme"]), "{}", answer.stderr);
    let numbers = ["rows", "masked_columns", "migrated", "exit"].map(|key| record[key].as_u64().unwrap());
    assert_eq!(numbers, [2, 1, 0, 0]);
    assert_eq!(stage.count("select count(*) from tenant_masked.customers where email = id || '@x'").await, 2);
    let answer = shell.run(&["tenant:clone", "acme", "empty", "--schema-only"]);
    assert_eq!((answer.code, stage.count("select count(*) from tenant_empty.customers").await), (0, 0));
    assert!(answer.stdout.starts_with("cloned tenant acme to empty (empty): without rows in "), "{}", answer.stdout);

    shell.write("bad.toml", "[tables.customers]\nemail = 1\n");
    shell.write("wrong.toml", "[tables.customers]\nemail = \"'same@x'\"\nmail = \"null\"\n");
    shell.write("same.toml", "[tables.customers]\nemail = \"'same@x'\"\n");
    for (arguments, exit, says) in [
        (&["acme", "copy"][..], 1, "CGK0886"),
        (&["akme", "other"], 1, "CGK0401"),
        (&["acme", "Other"], 2, "CGK0101"),
        (&["acme"], 2, "TO"),
        (&["acme", "other", "--mask", "none.toml"], 2, "none.toml"),
        (&["acme", "other", "--mask", "bad.toml"], 2, "CGK0950"),
        (&["acme", "other", "--mask", "wrong.toml"], 2, "customers.mail"),
        (&["acme", "other", "--mask", "same.toml"], 1, "CGK0952"),
        (&["acme", "other", "--mask", "same.toml", "--schema-only"], 2, "--schema-only"),
    ] {
        let answer = shell.run(&[&["tenant:clone"], arguments].concat());
        let text = answer.stdout + &answer.stderr;
        assert!(answer.code == exit && text.contains(says), "{arguments:?}: {}\n{text}", answer.code);
    }
    assert_eq!(left_of(&stage, "other").await, [false; 3]);
}
