//! What the server can refuse while rows are loaded: checks, bounds of partitions, settings; and the order of views.

use crate::{
    fixture::left_of,
    stage::{Stage, slug},
    transfer_fixture::{Folder, bare, contents, create, export, import, set},
};
use cgk::{
    ErrorKind, drift,
    lifecycle::{self, CloneOptions, ExportOptions, ImportOptions},
    migrate::{Migrations, Scope, Silent, Target},
};

/// Imports and clones `acme`, and compares rows, constraints and drift.
async fn arrives(stage: &Stage, migrations: &Migrations) {
    let folder = Folder::new();
    export(stage, "acme", &folder.path("x"), &ExportOptions::default()).await;
    let copy = ImportOptions::default().slug(slug("copy"));
    import(stage, migrations, &folder.path("x"), &copy).await.unwrap();
    let operator = stage.operator().await;
    let (acme, twin, options) = (slug("acme"), slug("twin"), CloneOptions::default());
    lifecycle::clone_tenant(&operator, migrations, &acme, &twin, &options, &mut Silent).await.unwrap();
    let constraints = "select coalesce(string_agg(concat_ws(' ', k.conrelid::regclass, k.conname, pg_get_constraintdef(k.oid), k.conislocal,
                           k.coninhcount, obj_description(k.oid, 'pg_constraint')), E'\\n' order by k.conrelid::regclass::text, k.conname), '')
                       from pg_constraint k where k.connamespace = $1::text::regnamespace and k.contype = 'c'";
    let before = contents(stage, "acme").await;
    let mut found = Vec::new();
    for tenant in ["acme", "copy", "twin"] {
        assert_eq!(contents(stage, tenant).await, before, "{tenant}");
        stage.run(&format!("set search_path = tenant_{tenant}, public")).await;
        found.push(stage.rows(constraints, &[&format!("tenant_{tenant}")]).await[0].get::<_, String>(0));
        stage.run("reset search_path").await;
    }
    assert_eq!((&found[1], &found[2]), (&found[0], &found[0]));
    let report = drift::verify(&operator, migrations, &Scope::Tenants).await.unwrap();
    assert!(!report.has_drift() && !report.lacks_reference(), "{report:#?}");
}

/// Checks that are not validated stay so, with the rows that violate them; those that read other tables are checked at the end.
#[tokio::test(flavor = "multi_thread")]
async fn checks_do_not_depend_on_the_order_of_rows() {
    let migrations = set(&[(
        "900_checks.sql",
        "create table lookup (id int primary key);
         create function known(i int) returns boolean language sql stable as 'select exists (select from lookup where id = i)';
         create table used (i int constraint is_known check (known(i)), pad text, check (length(pad) > 5));
         comment on constraint is_known on used is 'in the lookup';
         create table old (id int, v int);
         create table old_more (w int) inherits (old);
         create table old_own (w int, constraint positive check (v > 0) not valid) inherits (old);
         alter table old_own drop constraint positive;
         alter table old_own add constraint positive check (v > 0) not valid;
         alter table old add constraint positive check (v > 0) not valid;
         comment on constraint positive on old is 'not yet';
         alter table old add constraint only_here check (v <> 7) no inherit not valid;
         create table parts (id int, v int, constraint parts_known check (known(v))) partition by range (id);
         create table parts_1 partition of parts for values from (0) to (10);
         create table parts_2 (id int, v int, constraint parts_known check (known(v)));
         alter table parts attach partition parts_2 for values from (10) to (20);",
    )]);
    let stage = bare(&migrations).await;
    create(&stage, &migrations, "acme").await;
    stage
        .run(
            "set search_path = tenant_acme;
             insert into lookup values (1), (2);
             insert into used select 1 + n % 2, repeat('x', 50) from generate_series(1, 3000) n;
             insert into parts select n % 20, 1 + n % 2 from generate_series(1, 3000) n;
             alter table old drop constraint positive, drop constraint only_here; alter table old_own drop constraint positive;
             insert into old values (1, 0), (2, 7); insert into old_more values (1, -1); insert into old_own values (2, -2);
             alter table old_own add constraint positive check (v > 0) not valid;
             alter table old add constraint positive check (v > 0) not valid;
             comment on constraint positive on old is 'not yet';
             alter table old add constraint only_here check (v <> 7) no inherit not valid;
             reset search_path",
        )
        .await;
    arrives(&stage, &migrations).await;
    for tenant in ["copy", "twin"] {
        for (table, values) in
            [("used", "(9, 'long enough')"), ("used", "(1, 'x')"), ("old", "(3, 0)"), ("parts", "(1, 9)")]
        {
            let insert = format!("insert into tenant_{tenant}.{table} values {values}");
            stage.run(&format!("set search_path = tenant_{tenant}")).await;
            let refused = stage.watch.execute(&insert, &[]).await.expect_err(&insert);
            assert_eq!(refused.code().unwrap().code(), "23514", "{insert}");
        }
    }
}

/// Bounds with backslashes, views in an order that is not that of their creation, and settings of the database that change how
/// values are read.
#[tokio::test(flavor = "multi_thread")]
async fn bounds_views_and_settings_do_not_stop_an_import() {
    let migrations = set(&[(
        "900_a.sql",
        "create table tags (v text, x xml, a text[]) partition by list (v);
         create table counted (id int);
         create view first as select 0::bigint as n;
         create materialized view m1 as select n from first;
         create materialized view m2 as select count(*) as n from counted;
         create or replace view first as select n from m2;",
    )]);
    let stage = bare(&migrations).await;
    create(&stage, &migrations, "acme").await;
    stage
        .run(
            r"set search_path = tenant_acme;
              create table tags_1 partition of tags for values in (E'back\\slash', E'\\', E'it''s');
              insert into tags values (E'back\\slash', 'a<b/>', '{NULL,x}'), (E'\\', null, null);
              insert into counted values (1), (2), (3);
              refresh materialized view m2; refresh materialized view m1;
              reset search_path;
              do $$ begin execute format('alter database %I set xmloption = document', current_database());
                          execute format('alter database %I set array_nulls = off', current_database()); end $$",
        )
        .await;
    arrives(&stage, &migrations).await;
    assert_eq!(stage.count("select n from tenant_copy.m1").await, 3);
}

/// A tenant whose migration has stopped half way is refused, with the cause.
#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_that_is_half_migrated_is_not_exported() {
    let before = set(&[]);
    let stage = bare(&before).await;
    create(&stage, &before, "acme").await;
    stage.run("insert into tenant_acme.customers (email) values ('a@x'), ('a@y')").await;
    let after = set(&[(
        "900_steps.sql",
        "-- cgk:no-transaction\ncreate table half (id int);\ncreate unique index concurrently half_done on customers (left(email, 1));\n",
    )]);
    let operator = stage.operator().await;
    let plan = cgk::migrate::plan_fleet(&operator, &after, Scope::Tenants, Target::Head).await.unwrap();
    let run = cgk::migrate::run(&operator, &after, plan, &mut Silent).await.unwrap();
    assert_eq!(run.failed(), 1);
    let folder = Folder::new();
    let (acme, options) = (slug("acme"), ExportOptions::default());
    let refused =
        lifecycle::export_to_file(&operator, &acme, &folder.path("x"), &options, &mut Silent).await.unwrap_err();
    assert_eq!((refused.kind(), refused.code(), folder.files()), (ErrorKind::Drift, "CGK0609", 0), "{refused:?}");
    assert!(refused.to_string().contains("cgk migrate"), "{refused}");
    let clone =
        lifecycle::clone_tenant(&operator, &after, &acme, &slug("copy"), &CloneOptions::default(), &mut Silent).await;
    assert_eq!((clone.unwrap_err().code(), left_of(&stage, "copy").await), ("CGK0609", [false; 3]));
}
