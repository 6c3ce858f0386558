//! The indexes of large tables, which an import and a clone build after the rows.

use crate::{
    fixture::left_of,
    stage::{Stage, slug},
    transfer_fixture::{Folder, bare, contents, create, export, import, set},
};
use cgk::{
    drift,
    lifecycle::{self, CloneOptions, ExportOptions, ImportOptions},
    migrate::{Scope, Silent},
};

/// Indexes of a large table that are built after the rows, indexes that stay, and at the end a table that tells them apart.
const TABLES: &str = "
create table lookup (id int primary key);
create function known(i bigint) returns boolean language sql immutable set search_path from current
    as 'select exists (select from lookup where id >= i)';
create table big (id bigint, email text, tags int[], at date not null, up bigint, note text, v int not null,
    constraint big_pkey primary key (id) include (v), constraint twice unique (id, v) deferrable initially deferred,
    constraint filled unique (v, id) with (fillfactor = 60), constraint apart exclude using btree (v with =, id with =),
    constraint seen unique (at, id), constraint seen_last unique (up, id));
comment on constraint big_pkey on big is 'the key';
comment on index big_pkey is 'its index';
create unique index partial on big (email) include (at) where v > 2;
create index of_tags on big using gin (tags) with (fastupdate = off);
create index of_range on big using brin (id) with (pages_per_range = 16);
create index odd on big (at desc nulls first, email collate \"C\" text_pattern_ops);
create index lowered on big (lower(email)) with (fillfactor = 70);
comment on index lowered is 'it''s small';
create index \"Weird \"\"; --\" on big (note);
create index calls on big (known(id));
create index counted on big (lower(note), (id + 1));
alter index counted alter column 2 set statistics 500;
create index sorted on big (note, id);
alter table big cluster on sorted;
alter table big replica identity using index seen;
create table keyed (id int primary key, note text);
create view per_key as select id, note, count(*) from keyed group by id;
create table small (id bigint primary key references big, unique (id));
alter table big add foreign key (up) references big;
create table parts (id int primary key, note text) partition by range (id);
create table parts_1 partition of parts for values from (0) to (1000000);
create index parts_note on parts (note);
create table zz_last (id int);";

const ROWS: &str = "set search_path = tenant_acme;
insert into lookup values (1000000);
insert into big select n, 'Mail ' || n || '@x', array[n % 7, n], date '2026-01-01' + n % 90, 1 + n / 2, repeat(md5(n::text), 20), n % 5
    from generate_series(1, 2500) n;
insert into keyed select n, repeat(md5(n::text), 40) from generate_series(1, 1500) n;
insert into parts select n, repeat(md5(n::text), 40) from generate_series(1, 1500) n;
insert into small select n from generate_series(1, 20) n;
reset search_path";

/// Every index with its properties, and those that are newer than the last table of the migrations.
const INDEXES: &str = "select string_agg(concat_ws(' ', i.indrelid::regclass, pg_get_indexdef(x.oid), obj_description(x.oid, 'pg_class'), x.reloptions,
        i.indisprimary, i.indisunique, i.indisvalid, i.indisready, i.indimmediate, i.indisclustered, i.indisreplident, k.conname,
        pg_get_constraintdef(k.oid), obj_description(k.oid, 'pg_constraint'),
        (select string_agg(a.attname || ' ' || coalesce(nullif(a.attstattarget, -1), 0), ',' order by a.attnum) from pg_attribute a where a.attrelid = x.oid)),
        E'\\n' order by x.relname),
    string_agg(x.relname, ' ' order by x.relname collate \"C\") filter (where x.oid > (select oid from pg_class where relname = 'zz_last' and relnamespace = x.relnamespace))
 from pg_index i join pg_class x on x.oid = i.indexrelid left join pg_constraint k on k.conindid = x.oid and k.conrelid = i.indrelid and k.contype <> 'f'
 where x.relnamespace = $1::text::regnamespace";

async fn indexes(stage: &Stage, tenant: &str) -> (String, String) {
    stage.run(&format!("set search_path = tenant_{tenant}, public")).await;
    let row = stage.rows(INDEXES, &[&format!("tenant_{tenant}")]).await.remove(0);
    stage.run("reset search_path").await;
    let all: String = row.get(0);
    (all.replace(&format!("tenant_{tenant}"), "SCHEMA"), row.get::<_, Option<String>>(1).unwrap_or_default())
}

#[tokio::test(flavor = "multi_thread")]
async fn indexes_of_large_tables_are_built_after_the_rows_and_stay_the_same() {
    let migrations = set(&[("900_indexes.sql", TABLES)]);
    let stage = bare(&migrations).await;
    create(&stage, &migrations, "acme").await;
    stage.run(ROWS).await;
    let folder = Folder::new();
    export(&stage, "acme", &folder.path("x"), &ExportOptions::default()).await;
    let copy = ImportOptions::default().slug(slug("copy"));
    Box::pin(import(&stage, &migrations, &folder.path("x"), &copy)).await.unwrap();
    let operator = stage.operator().await;
    let (acme, twin, options) = (slug("acme"), slug("twin"), CloneOptions::default());
    Box::pin(lifecycle::clone_tenant(&operator, &migrations, &acme, &twin, &options, &mut Silent)).await.unwrap();

    let ((wanted, none), before) = (indexes(&stage, "acme").await, contents(&stage, "acme").await);
    assert_eq!(none, "");
    for tenant in ["copy", "twin"] {
        let (found, built) = indexes(&stage, tenant).await;
        assert_eq!(found, wanted, "{tenant}");
        assert_eq!(
            built, "Weird \"; -- big_pkey lowered odd of_range of_tags partial seen_last",
            "{tenant}: the others stay, because something else needs them or their definition is not everything"
        );
        assert_eq!(contents(&stage, tenant).await, before, "{tenant}");
        stage.run(&format!("set search_path = tenant_{tenant}")).await;
        let twice = format!("insert into tenant_{tenant}.big (id, at, v) values (7, now(), 9)");
        assert_eq!(stage.watch.execute(&twice, &[]).await.unwrap_err().code().unwrap().code(), "23505");
        stage.run("reset search_path").await;
        let seen = format!("select count(*) from tenant_{tenant}.per_key");
        assert_eq!(stage.count(&seen).await, 1500);
    }
    let report = drift::verify(&operator, &migrations, &Scope::Tenants).await.unwrap();
    assert!(!report.has_drift() && !report.lacks_reference(), "{report:#?}");
}

/// Rows that no unique index allows are refused when it is built, and nothing is left.
#[tokio::test(flavor = "multi_thread")]
async fn rows_that_break_a_unique_index_are_refused() {
    let migrations = set(&[("900_a.sql", "create table big (id bigint primary key, note text)")]);
    let stage = bare(&migrations).await;
    create(&stage, &migrations, "acme").await;
    stage
        .run(
            "alter table tenant_acme.big drop constraint big_pkey;
              insert into tenant_acme.big select n % 2000, repeat(md5(n::text), 20) from generate_series(1, 2001) n",
        )
        .await;
    let folder = Folder::new();
    export(&stage, "acme", &folder.path("x"), &ExportOptions::default()).await;
    let copy = ImportOptions::default().slug(slug("copy"));
    let refused = import(&stage, &migrations, &folder.path("x"), &copy).await.unwrap_err();
    assert_eq!(refused.constraint(), Some("big_pkey"), "{refused:?}");
    assert_eq!(left_of(&stage, "copy").await, [false; 3]);
    stage
        .run(
            "delete from tenant_acme.big where id = 1 and ctid <> (select min(ctid) from tenant_acme.big where id = 1)",
        )
        .await;
    export(&stage, "acme", &folder.path("y"), &ExportOptions::default()).await;
    import(&stage, &migrations, &folder.path("y"), &copy).await.unwrap();
}
