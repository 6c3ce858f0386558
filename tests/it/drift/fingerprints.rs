//! Fingerprints: what has the same texts has the same fingerprint, and every change makes another one.
//!
//! A comparison of many tenants reads no texts of a tenant whose fingerprint is as expected. A change that it misses is in
//! no report.

use super::{
    properties::{ALL, SET},
    schemas::{lines, of},
};
use crate::sandbox::{Files, Raw, tenants};
use cgk::{
    Operator, drift,
    migrate::{Migrations, Scope},
    testing::{TestDatabase, TestServer},
};

/// More definitions than those of [`SET`]: of each kind that a fingerprint describes without its text.
const MORE: &str = r"
create table boxes (
    id int constraint boxes_key primary key, a text, b text, c int default 1, d int default 1, area point,
    twice int generated always as (c * 2) stored,
    constraint boxes_a_key unique (a),
    constraint boxes_late_key unique (a, c) deferrable,
    constraint boxes_c_check check (c > 0),
    constraint boxes_d_check check (d > 0),
    constraint boxes_no_overlap exclude using btree (b with =)
);
create index boxes_ab on boxes (a, b);
create index boxes_b on boxes (b) where c > 0;
create index boxes_lower on boxes (lower(a));
create index boxes_brin on boxes using brin (c int4_minmax_multi_ops);
create index boxes_area on boxes using gist (area);
create function other() returns trigger language plpgsql as $$ begin return new; end $$;
create sequence counter;
create domain counted as bigint default nextval('counter');
create trigger boxes_touch before update on boxes for each row execute function touch();
create trigger boxes_words before insert on boxes for each row execute function touch('a', 'b');
create trigger boxes_when before delete on boxes for each row when (old.c > 0) execute function touch();
create constraint trigger boxes_late after insert on boxes deferrable for each row execute function touch();
create trigger boxes_all after update on boxes referencing new table as fresh for each statement execute function touch();
-- A schema's own name is not the same in each, alone or before a name.
do $$ begin
    execute format('comment on table boxes is %L', 'in ' || current_schema());
    execute format('alter table boxes alter a set default %L', current_schema());
    execute format('create function where_am_i() returns text language sql as %L', 'select ''' || current_schema() || '.boxes''');
end $$;
";

/// From which major version on, and the change.
const CHANGES: &[(u32, &str)] = &[
    (14, "drop index boxes_ab; create index boxes_ab on boxes (b, a)"),
    (14, "drop index boxes_ab; create index boxes_ab on boxes (a)"),
    (14, "drop index boxes_ab; create index boxes_ab on boxes (a) include (b)"),
    (14, "drop index boxes_ab; create index boxes_ab on boxes (a, b desc)"),
    (14, "drop index boxes_ab; create index boxes_ab on boxes (a nulls first, b)"),
    (14, "drop index boxes_ab; create index boxes_ab on boxes (a text_pattern_ops, b)"),
    (14, "drop index boxes_ab; create index boxes_ab on boxes (a collate \"C\", b)"),
    (14, "drop index boxes_ab; create unique index boxes_ab on boxes (a, b)"),
    (15, "drop index boxes_ab; create unique index boxes_ab on boxes (a, b) nulls not distinct"),
    (14, "drop index boxes_ab; create index boxes_ab on boxes (a, b) where c > 0"),
    (14, "drop index boxes_ab; create index boxes_ab on boxes (a, b) with (fillfactor = 50)"),
    (14, "drop index boxes_ab; create index boxes_ab on boxes (a, (b || ''))"),
    (14, "drop index boxes_ab; create index boxes_ab on boxes (a, lower(b))"),
    (14, "drop index boxes_b; create index boxes_b on boxes using hash (b) where c > 0"),
    (14, "drop index boxes_b; create index boxes_b on boxes (b) where d > 0"),
    (14, "drop index boxes_b; create index boxes_b on boxes (b) where c > 1"),
    (14, "drop index boxes_b; create index boxes_b on boxes (b)"),
    (14, "drop index boxes_lower; create index boxes_lower on boxes (upper(a))"),
    (14, "drop index boxes_lower; create index boxes_lower on boxes (lower(b))"),
    (14, "drop index boxes_brin; create index boxes_brin on boxes using brin (c)"),
    (
        14,
        "drop index boxes_brin; create index boxes_brin on boxes using brin (c int4_minmax_multi_ops (values_per_range = 16))",
    ),
    (
        14,
        "drop index boxes_brin; create index boxes_brin on boxes using brin (c int4_minmax_multi_ops) with (pages_per_range = 2)",
    ),
    (14, "drop index boxes_area; create index boxes_area on boxes using spgist (area)"),
    (14, "alter table boxes drop constraint boxes_key, add constraint boxes_key primary key (id) deferrable"),
    (14, "alter table boxes drop constraint boxes_key, add constraint boxes_key primary key (id) include (c)"),
    (14, "alter table boxes drop constraint boxes_key, add constraint boxes_key primary key (c)"),
    (14, "alter table boxes drop constraint boxes_key; create unique index boxes_key on boxes (id)"),
    (14, "alter table boxes drop constraint boxes_key, add constraint boxes_key unique (id)"),
    (14, "alter table boxes drop constraint boxes_a_key, add constraint boxes_a_key unique (a) deferrable"),
    (
        14,
        "alter table boxes drop constraint boxes_a_key, add constraint boxes_a_key unique (a) deferrable initially deferred",
    ),
    (14, "alter table boxes drop constraint boxes_a_key, add constraint boxes_a_key unique (b)"),
    (14, "alter table boxes drop constraint boxes_a_key, add constraint boxes_a_key unique (a, b)"),
    (15, "alter table boxes drop constraint boxes_a_key, add constraint boxes_a_key unique nulls not distinct (a)"),
    (
        14,
        "alter table boxes drop constraint boxes_late_key, add constraint boxes_late_key unique (a, c) deferrable initially deferred",
    ),
    (
        14,
        "alter table boxes drop constraint boxes_no_overlap, add constraint boxes_no_overlap exclude using btree (a with =)",
    ),
    (
        14,
        "alter table boxes drop constraint boxes_no_overlap, add constraint boxes_no_overlap exclude using hash (b with =)",
    ),
    (14, "alter table boxes drop constraint boxes_c_check, add constraint boxes_c_check check (c > 1)"),
    (14, "alter table boxes drop constraint boxes_c_check, add constraint boxes_c_check check (d > 0)"),
    (14, "alter table boxes drop constraint boxes_c_check, add constraint boxes_c_check check (c > 0) not valid"),
    (14, "alter table boxes drop constraint boxes_c_check, add constraint boxes_c_check check (c > 0) no inherit"),
    (18, "alter table boxes drop constraint boxes_c_check, add constraint boxes_c_check check (c > 0) not enforced"),
    (14, "alter table boxes rename constraint boxes_c_check to boxes_check"),
    // The trees of the checks are the same with the names exchanged, and each default is in the other column.
    (14, "alter table boxes rename c to e; alter table boxes rename d to c; alter table boxes rename e to d"),
    (14, "alter table boxes alter c set default 2"),
    (14, "alter table schema_migrations drop constraint schema_migrations_pkey"),
    // The statement has the same text, and names another sequence.
    (
        14,
        "set search_path = public; create sequence counter; alter domain {schema}.counted set default nextval('counter')",
    ),
    (14, "alter table boxes alter a set default 'tenant_another'"),
    (14, "alter table boxes alter c drop default"),
    (14, "alter table boxes alter a set default 'x'"),
    (14, "alter table boxes drop twice; alter table boxes add twice int generated always as (d * 2) stored"),
    (14, "alter table boxes alter twice drop expression"),
    (
        14,
        "drop trigger boxes_touch on boxes; create trigger boxes_touch after update on boxes for each row execute function touch()",
    ),
    (
        14,
        "drop trigger boxes_touch on boxes; create trigger boxes_touch before insert on boxes for each row execute function touch()",
    ),
    (
        14,
        "drop trigger boxes_touch on boxes; create trigger boxes_touch before insert or update on boxes for each row execute function touch()",
    ),
    (
        14,
        "drop trigger boxes_touch on boxes; create trigger boxes_touch before update on boxes for each statement execute function touch()",
    ),
    (
        14,
        "drop trigger boxes_touch on boxes; create trigger boxes_touch before update of a on boxes for each row execute function touch()",
    ),
    (
        14,
        "drop trigger boxes_touch on boxes; create trigger boxes_touch before update on boxes for each row execute function touch('x')",
    ),
    (
        14,
        "drop trigger boxes_touch on boxes; create trigger boxes_touch before update on boxes for each row execute function other()",
    ),
    (
        14,
        "drop trigger boxes_touch on boxes; create trigger boxes_touch before update on boxes for each row when (new.c > 0) execute function touch()",
    ),
    (
        14,
        "drop trigger boxes_touch on boxes; create function public.touch_{n}() returns trigger language plpgsql as 'begin return new; end'; create trigger boxes_touch before update on boxes for each row execute function public.touch_{n}()",
    ),
    (
        14,
        "drop trigger boxes_words on boxes; create trigger boxes_words before insert on boxes for each row execute function touch('a', 'c')",
    ),
    (
        14,
        "drop trigger boxes_words on boxes; create trigger boxes_words before insert on boxes for each row execute function touch('ab')",
    ),
    (
        14,
        "drop trigger boxes_when on boxes; create trigger boxes_when before delete on boxes for each row when (old.d > 0) execute function touch()",
    ),
    (
        14,
        "drop trigger boxes_late on boxes; create constraint trigger boxes_late after insert on boxes deferrable initially deferred for each row execute function touch()",
    ),
    (
        14,
        "drop trigger boxes_late on boxes; create constraint trigger boxes_late after insert on boxes from orders deferrable for each row execute function touch()",
    ),
    (
        14,
        "drop trigger boxes_all on boxes; create trigger boxes_all after update on boxes referencing new table as other for each statement execute function touch()",
    ),
];

/// Changes that leave no difference: the columns have other numbers, the trees other places, and the objects other rows.
const EQUAL: &[&str] = &[
    "alter table boxes drop c cascade; alter table boxes drop d cascade; alter table boxes drop area; alter table boxes add c int default 1;
     alter table boxes add d int default 1; alter table boxes add area point; alter table boxes add twice int generated always as (c * 2) stored;
     alter table boxes add constraint boxes_c_check check (c > 0), add constraint boxes_d_check check (d > 0),
         add constraint boxes_late_key unique (a, c) deferrable;
     create index boxes_b on boxes (b) where c > 0; create index boxes_brin on boxes using brin (c int4_minmax_multi_ops);
     create index boxes_area on boxes using gist (area);
     create trigger boxes_when before delete on boxes for each row when (old.c > 0) execute function touch()",
    "alter table boxes drop constraint boxes_c_check, add constraint boxes_c_check check          (c > 0)",
    "set search_path = ''; alter domain {schema}.counted set default nextval('{schema}.counter')",
    // As if another tool's table of the same name had been renamed before.
    "alter table schema_migrations rename constraint schema_migrations_pkey to schema_migrations_pkey1",
    // The server reads a column in parentheses as the column.
    "drop index boxes_ab; create index boxes_ab on boxes (a, (b))",
    "drop index boxes_lower; create index boxes_lower on boxes (             lower(a))",
    "drop trigger boxes_touch on boxes; create trigger boxes_touch before update on boxes for each row execute function touch()",
    "alter table boxes drop constraint boxes_key, add constraint boxes_key primary key (id)",
];

async fn fleet(count: usize) -> (TestDatabase, Migrations, Operator, Raw) {
    let database = TestServer::shared().set_up_database().await.unwrap();
    let migrations = Files::of_tenants(&[("001_set.sql", SET), ("002_more.sql", MORE)]).load();
    // Of different lengths, so that expressions of different tenants have different places.
    let slugs: Vec<String> = (0..count).map(|index| format!("f{index}{}", "x".repeat(index % 7))).collect();
    let operator = tenants(&database, &migrations, &slugs.iter().map(String::as_str).collect::<Vec<_>>()).await;
    let raw = Raw::on(&database).await;
    (database, migrations, operator, raw)
}

fn slug(index: usize) -> String {
    format!("f{index}{}", "x".repeat(index % 7))
}

/// The schemas whose fingerprints were the expected ones in the last comparison: only their stamps are kept.
async fn as_expected(operator: &Operator, migrations: &Migrations, raw: &Raw) -> (drift::DriftReport, Vec<String>) {
    raw.run("delete from public.cgk_stamps").await;
    let report = drift::verify(operator, migrations, &Scope::Tenants).await.unwrap();
    (report, raw.all::<String>("select substr(schema_name, 8) from public.cgk_stamps order by 1").await)
}

#[tokio::test]
async fn every_change_makes_another_fingerprint() {
    let database_wide = |sql: &str| sql.contains("event trigger") || sql.contains("publication");
    let all: Vec<(u32, &str, &str)> = ALL
        .iter()
        .flat_map(|(_, rows)| rows.iter().map(|(major, change, _, expected)| (*major, *change, *expected)))
        .chain(CHANGES.iter().map(|(major, change)| (*major, *change, "")))
        .filter(|(_, change, _)| !database_wide(change))
        .collect();
    let (_database, migrations, operator, raw) = fleet(all.len() + 1).await;
    let owner = raw.one::<String>("select quote_ident(current_user)").await;
    let (_, before) = as_expected(&operator, &migrations, &raw).await;
    assert_eq!(before.len(), all.len() + 1, "the control: every fingerprint is the expected one");
    let mut changed = Vec::new();
    for (index, (major, change, expected)) in all.iter().enumerate() {
        if operator.facts().major() < *major {
            continue;
        }
        let schema = format!("tenant_{}", slug(index));
        let change = change
            .replace("{schema}", &schema)
            .replace("{owner}", &owner)
            .replace("{n}", &format!("fingerprint_{index}"));
        raw.run(&format!("set search_path = {schema}, public; {change}")).await;
        changed.push((slug(index), change, *expected == "-"));
    }
    let (report, after) = as_expected(&operator, &migrations, &raw).await;
    let mut wrong = Vec::new();
    for (slug, change, is_none) in &changed {
        let found = lines(of(&report, slug));
        if found.is_empty() != *is_none || (!is_none && after.contains(slug)) {
            wrong.push(format!("{change}\n  found {found:#?}"));
        }
    }
    assert!(wrong.is_empty(), "{} of {} are wrong:\n{}", wrong.len(), changed.len(), wrong.join("\n"));
    assert!(changed.len() > 180, "{}", changed.len());
    assert!(after.contains(&slug(all.len())), "the control: the one that was not changed");
}

#[tokio::test]
async fn what_has_the_same_texts_has_the_same_fingerprint() {
    // More than fifty are read by other plans than a few.
    for count in [25, 60] {
        let (_database, migrations, operator, raw) = fleet(count).await;
        for (index, change) in EQUAL.iter().enumerate() {
            let schema = format!("tenant_{}", slug(index));
            let change = change.replace("{schema}", &schema);
            raw.run(&format!("set search_path = {schema}, public; {change}")).await;
        }
        // The control: this one differs.
        raw.run(&format!("alter table tenant_{}.boxes alter c set default 7", slug(EQUAL.len()))).await;
        let (report, expected) = as_expected(&operator, &migrations, &raw).await;
        for (index, change) in EQUAL.iter().enumerate() {
            assert_eq!(lines(of(&report, &slug(index))), Vec::<String>::new(), "{change}");
            assert!(expected.contains(&slug(index)), "{count}: {change}");
        }
        assert!(!expected.contains(&slug(EQUAL.len())));
        assert_eq!(lines(of(&report, &slug(EQUAL.len()))).len(), 1);
        assert_eq!(expected.len(), count - 1);
    }
}
