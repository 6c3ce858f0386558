//! Statements of `cgk drift --sql` that depend on each other: the server accepts the script as it is printed, and what it
//! cannot create is a comment together with everything that needs it.

use super::schemas::lines;
use crate::sandbox::{Files, Raw, tenants};
use cgk::{
    Operator, drift,
    migrate::{Migrations, Scope},
    testing::{TestDatabase, TestServer},
};

/// A tenant of one file, which is changed by hand and brought back again and again.
struct Stage {
    _database: TestDatabase,
    migrations: Migrations,
    operator: Operator,
    raw: Raw,
}

impl Stage {
    async fn of(set: &str) -> Self {
        let database = TestServer::shared().set_up_database().await.unwrap();
        let migrations = Files::of_tenants(&[("001_set.sql", set)]).load();
        let operator = tenants(&database, &migrations, &["acme"]).await;
        let raw = Raw::on(&database).await;
        raw.run("set search_path = tenant_acme, public").await;
        Self { _database: database, migrations, operator, raw }
    }

    fn major(&self) -> u32 {
        self.operator.facts().major()
    }

    /// Returns the lines of the differences, and the script.
    async fn found(&self) -> (Vec<String>, String) {
        let report = drift::verify(&self.operator, &self.migrations, &Scope::Tenants).await.unwrap();
        (lines(&report.tenants[0]), report.fix_script())
    }

    async fn run_script(&self, what: &str, script: &str) {
        if let Err(error) = self.raw.try_run(script).await {
            panic!("{what}\n{:?}\n{script}", error.as_db_error());
        }
        self.raw.run("set search_path = tenant_acme, public").await;
    }

    /// Changes the schema by hand and runs the script. Nothing differs afterwards. Returns the script.
    async fn is_brought_back(&self, by_hand: &str, edit: impl Fn(&str) -> String) -> String {
        assert_eq!(self.found().await.0, Vec::<String>::new(), "before {by_hand}");
        self.raw.run(by_hand).await;
        let (differences, script) = self.found().await;
        assert!(!differences.is_empty(), "{by_hand}");
        self.run_script(by_hand, &edit(&script)).await;
        let (left, more) = self.found().await;
        assert_eq!(left, Vec::<String>::new(), "{by_hand}\n{script}\nleaves\n{more}");
        script
    }

    /// Changes the schema by hand and runs the script as it is printed, which leaves these differences. After the second
    /// text, nothing is left of them if the commented statements are run as well.
    async fn is_brought_back_later(&self, by_hand: &str, left: &[&str], then: &str) -> String {
        self.raw.run(by_hand).await;
        let (_, script) = self.found().await;
        self.run_script(by_hand, &script).await;
        let (mut lines, _) = self.found().await;
        lines.sort_unstable();
        assert!(
            lines.len() == left.len() && lines.iter().zip(left).all(|(line, left)| line.starts_with(left)),
            "{by_hand}\n{script}\nleaves\n{lines:#?}"
        );
        self.raw.run(then).await;
        let (_, rest) = self.found().await;
        self.run_script(by_hand, &meant(&rest)).await;
        let (lines, more) = self.found().await;
        assert_eq!(lines, Vec::<String>::new(), "{by_hand}\n{rest}\nleaves\n{more}");
        script
    }
}

fn printed(script: &str) -> String {
    script.to_owned()
}

/// A script as somebody leaves it who means the commented statements as well.
fn meant(script: &str) -> String {
    let uncommented = script.lines().map(|line| line.strip_prefix("--   ").unwrap_or(line));
    uncommented.collect::<Vec<_>>().join("\n")
}

/// The partition `a_parts` sorts before its table, and `parts_a` is partitioned itself.
const PARTITIONED: &str = "
create table owners (id int primary key);
create function g() returns trigger language plpgsql as 'begin return new; end';
create table parts (
    id int, at date, note text,
    constraint parts_pkey primary key (id, at), constraint parts_note_key unique (note, at),
    constraint parts_check check (id > 0)
) partition by range (at);
create table a_parts partition of parts for values from ('2027-01-01') to ('2028-01-01');
create table parts_a partition of parts for values from ('2026-01-01') to ('2027-01-01') partition by range (at);
create table parts_a_1 partition of parts_a default;
create index parts_note_idx on parts (note);
create index parts_note_too on parts (note);
create unique index parts_unique on parts (at, id);
alter table parts add owner int constraint parts_owner_fkey references owners;
comment on index parts_note_idx is 'notes';
comment on constraint a_parts_pkey on a_parts is 'own';
create trigger parts_t before insert on parts for each row execute function g();
alter table a_parts disable trigger parts_t;
";

#[tokio::test]
async fn keys_and_indexes_of_partitioned_tables_come_back_with_those_of_their_partitions() {
    let stage = Stage::of(PARTITIONED).await;
    for by_hand in [
        "drop index parts_note_idx",
        "drop index parts_note_idx, parts_note_too, parts_unique",
        "alter table parts drop constraint parts_pkey",
        "alter table parts drop constraint parts_note_key, drop constraint parts_pkey; drop index parts_unique",
        "alter table parts drop constraint parts_owner_fkey",
        "alter table parts drop constraint parts_check",
        "alter table parts drop column owner",
        "drop trigger parts_t on parts",
        "alter table a_parts enable trigger parts_t",
        "drop table a_parts",
        "drop table parts_a",
        "drop table parts_a_1",
        "drop table parts",
        "drop table parts, owners",
        "alter table parts detach partition a_parts",
        "alter table parts detach partition parts_a",
        "alter table parts_a detach partition parts_a_1; drop index parts_note_idx",
        "alter table parts detach partition a_parts; drop index a_parts_note_idx; alter table a_parts drop constraint a_parts_pkey, drop constraint a_parts_note_at_key, drop constraint parts_check, drop constraint parts_owner_fkey",
        // An index that has another definition, or does not have the indexes of the partitions.
        "drop index parts_note_idx; create index parts_note_idx on only parts (note)",
        "drop index parts_note_idx; create index parts_note_idx on only parts (note); create index a_parts_note_idx on a_parts (note)",
        "alter table parts drop constraint parts_note_key; alter table only parts add constraint parts_note_key unique (note, at)",
        "alter index a_parts_note_idx rename to other_note",
        "alter table a_parts rename constraint a_parts_pkey to other_key",
        // A partition that no migration creates gets the index too.
        "create table parts_b partition of parts for values from ('2029-01-01') to ('2030-01-01'); drop index parts_note_idx",
        "alter table parts drop constraint parts_pkey",
        "alter table parts alter note type varchar(9)",
    ] {
        stage.is_brought_back(by_hand, printed).await;
    }
    let valid = "select count(*) from pg_index where indrelid = 'parts'::regclass and not indisvalid";
    assert_eq!(stage.raw.one::<i64>(valid).await, 0);
    for by_hand in [
        "drop index parts_note_idx; create index parts_note_idx on parts (id)",
        "alter table parts drop constraint parts_note_key; alter table parts add constraint parts_note_key unique (at, note)",
        "create index more on parts (id); alter table parts add unique (at)",
        "create index more on parts (id); drop index parts_note_idx",
        "alter table parts add column more int",
        "alter table parts add constraint more check (id > 1)",
        "alter table parts alter owner type bigint",
        "alter table parts detach partition a_parts; alter table a_parts add more int",
        "alter table parts detach partition a_parts; alter table a_parts alter owner type bigint",
    ] {
        stage.is_brought_back(by_hand, meant).await;
    }
    // A table with another column cannot become a partition, and its triggers come with that.
    let left = [
        "column a_parts.more: ",
        "table a_parts: no inherits",
        "table a_parts: no partition",
        "trigger a_parts.parts_t: missing",
    ];
    let by_hand =
        "alter table parts detach partition a_parts; alter table a_parts add more int; drop index parts_note_idx";
    let script = stage.is_brought_back_later(by_hand, &left, "alter table a_parts drop more").await;
    assert!(script.contains("-- note: the column a_parts.more is in no migration"), "{script}");
}

/// Objects for which no statement is known, and what needs them.
const NEEDED: &str = "
create type span as range (subtype = float8, subtype_diff = float8mi);
create collation plain (provider = libc, locale = 'C');
create aggregate highest (int) (sfunc = int4larger, stype = int);
create operator === (leftarg = int, rightarg = int, function = int4eq);
create text search configuration words (parser = pg_catalog.default);
create domain free as span;
create type mood as enum ('low', 'high'); create table moods (id int, mood mood default 'high'::mood);
create table spans (id int primary key, note text, kind text collate plain, f free, s span);
create index spans_s on spans using gist (s);
create index spans_words on spans using gin (to_tsvector('words'::regconfig, note));
create view spans_seen as select id, s from spans;
create view spans_more as select id from spans_seen;
create view highest_ids as select highest(id) as id from spans;
create view same_ids as select id from spans where id === 1;
create function length_of(span) returns float8 language sql as 'select 1.0::float8';
create view lengths as select length_of(s) as length from spans;
create table plain (id int, note text);
create index plain_note on plain (note);
comment on view spans_seen is 'seen'; grant select on spans_seen to pg_monitor; comment on column spans.s is 'span';
";

#[tokio::test]
async fn what_needs_an_object_without_a_statement_is_a_comment_with_the_reason() {
    let stage = Stage::of(NEEDED).await;
    // The control of each: the index of another table comes back.
    let span = "create type span as range (subtype = float8, subtype_diff = float8mi)";
    let script = stage
        .is_brought_back_later(
            "drop type span cascade; drop index plain_note",
            &[
                "column spans.f: missing",
                "column spans.s: missing",
                "domain free: missing",
                "function length_of(span): missing",
                "index spans_s: missing",
                "type span: missing",
                "view lengths: missing",
                "view spans_more: missing",
                "view spans_seen: missing",
            ],
            span,
        )
        .await;
    for reason in [
        "-- no statement is known: type span: missing",
        "-- note: it needs type span, which no statement here creates",
        "-- note: it needs view spans_seen, which no statement here creates",
    ] {
        assert!(script.contains(reason), "{reason}\n{script}");
    }
    for (by_hand, left, then) in [
        (
            "drop aggregate highest(int) cascade; drop index plain_note",
            &["aggregate highest(integer): missing", "view highest_ids: missing"][..],
            "create aggregate highest (int) (sfunc = int4larger, stype = int)",
        ),
        (
            "drop operator === (int, int) cascade; drop index plain_note",
            &["operator === (integer, integer): missing", "view same_ids: missing"],
            "create operator === (leftarg = int, rightarg = int, function = int4eq)",
        ),
        (
            "drop index spans_words; drop text search configuration words; drop index plain_note",
            &["index spans_words: missing", "text search configuration words: missing"],
            "create text search configuration words (parser = pg_catalog.default)",
        ),
        (
            "drop table spans cascade; drop collation plain; drop index plain_note",
            &[
                "collation plain: missing",
                "table spans: missing",
                "view highest_ids: missing",
                "view lengths: missing",
                "view same_ids: missing",
                "view spans_more: missing",
                "view spans_seen: missing",
            ],
            "create collation plain (provider = libc, locale = 'C')",
        ),
        // A column that has another type, for which its index and views may be refused.
        (
            "drop view same_ids, highest_ids; drop index plain_note; drop function length_of(span) cascade; drop view spans_seen cascade; \
             alter table spans alter id type text; alter table plain alter note type int using 1",
            &[
                "column spans.id: type is ",
                "view highest_ids: missing",
                "view same_ids: missing",
                "view spans_more: missing",
                "view spans_seen: missing",
            ],
            "",
        ),
        // The server accepts a new label only after the transaction that adds it.
        (
            "alter table moods alter mood drop default, alter mood type text; drop type mood; create type mood as enum ('low'); \
             alter table moods alter mood type mood using mood::mood; drop index plain_note",
            &["column moods.mood: no default"],
            "",
        ),
    ] {
        stage.is_brought_back_later(by_hand, left, then).await;
    }
}

const VIEWS: &str = "
create table base (id int primary key, body text, kept varchar(20), n int, twice int generated always as (n * 2) stored);
create view z_first as select id, body, kept from base;
create view m_second as select id, body from z_first;
create materialized view a_third as select id from m_second;
create unique index a_third_id on a_third (id);
create view fourth as select id from a_third;
comment on view m_second is 'second'; comment on materialized view a_third is 'third'; grant select (id) on fourth to pg_monitor;
create function shown(v z_first) returns text language sql begin atomic select v.body; end;
create function label(a int) returns text language sql immutable as $$ select a::text $$;
create view labels as select label(id) as label from base;
create table labelled (id int, name text default label(1), constraint labelled_check check (label(id) <> 'x'));
create index labelled_label on labelled (label(id));
create policy labelled_policy on labelled using (label(id) = 'a');
create table refers (base int constraint refers_base_fkey references base);
create policy base_policy on base using (kept <> 'hidden');
create function touch() returns trigger language plpgsql as 'begin return new; end';
create trigger base_touch before update of kept on base for each row when (new.kept = 'a') execute function touch();
create type a_pair as (a int); create type b_wrap as (p a_pair); create type z_inner as (a int); create type c_wrap as (p z_inner, q a_pair);
create domain z_base as int; create domain a_domain as z_base;
";

#[tokio::test]
async fn what_uses_a_changed_object_is_dropped_first_and_created_again() {
    let stage = Stage::of(VIEWS).await;
    for by_hand in [
        // Views that read others.
        "drop view z_first cascade",
        "drop view m_second cascade",
        "drop materialized view a_third cascade",
        "drop view z_first cascade; create view z_first as select id, body, kept, n from base; create view m_second as select id, body from z_first; \
         create materialized view a_third as select id from m_second",
        "drop view z_first cascade; create view z_first as select id, kept as body, kept from base",
        "drop view m_second cascade; create view m_second as select id, id as body from z_first; create materialized view a_third as select id from m_second; \
         create view fourth as select id from a_third",
        "drop table base cascade",
        // Functions, keys and types that others use.
        "drop function label(int) cascade; create function label(a int) returns varchar language sql immutable as $$ select a::text $$; \
         create view labels as select label(id) as label from base; alter table labelled alter name set default label(2), add constraint labelled_check check (label(id) <> 'x'); \
         create index labelled_label on labelled (label(id))",
        "drop function label(int) cascade",
        "alter table base drop constraint base_pkey cascade",
        "alter table base drop constraint base_pkey cascade; alter table base add primary key (id, n)",
        "alter table base drop constraint base_pkey cascade; alter table base add constraint base_pkey unique (id); alter table refers add constraint refers_base_fkey foreign key (base) references base (id)",
        "drop type a_pair cascade; drop type z_inner cascade; drop type b_wrap; drop type c_wrap",
        "drop domain z_base cascade",
        "drop policy base_policy on base; drop trigger base_touch on base; drop view z_first cascade; alter table base alter kept type varchar(10)",
    ] {
        stage.is_brought_back(by_hand, printed).await;
    }
    // What shows, checks or computes the column is there while its type is changed back, and one that loses data is a comment
    // with what belongs to it.
    for (by_hand, edit) in [
        ("alter table base alter body type varchar(9)", printed as fn(&str) -> String),
        ("alter table base alter kept type varchar(10)", printed),
        ("alter table base alter kept type text", meant),
    ] {
        let views = "create view z_first as select id, body, kept from base; create view m_second as select id, body from z_first; \
            create materialized view a_third as select id from m_second; create view fourth as select id from a_third; \
            create policy base_policy on base using (kept <> 'hidden'); \
            create trigger base_touch before update of kept on base for each row when (new.kept = 'a') execute function touch()";
        let drop = "drop policy base_policy on base; drop trigger base_touch on base; drop view z_first cascade";
        stage.is_brought_back(&format!("{drop}; {by_hand}; {views}"), edit).await;
    }
    // A view that no migration creates is not dropped.
    let script = stage
        .is_brought_back_later(
            "drop view z_first cascade; create view z_first as select id, kept as body, kept from base; create view mine as select body from z_first; \
             drop trigger base_touch on base",
            &[
                "column z_first.body: type is ",
                "function shown(v z_first): missing",
                "materialized view a_third: missing",
                "view fourth: missing",
                "view m_second: missing",
                "view mine: ",
                "view z_first: definition is ",
            ],
            "drop view mine",
        )
        .await;
    assert!(script.contains("-- note: view mine uses it: drop that first"), "{script}");
}

const CHILDREN: &str = "
create table parent (a int not null, twice int generated always as (a * 2) stored, note text default 'x', last int, constraint parent_check check (a > 0));
create table a_child (b int) inherits (parent);
create table grandchild () inherits (a_child);
create table z_child (note text default 'y') inherits (parent);
create table \"Odd\" (id int); create table odd_child () inherits (\"Odd\");
comment on column a_child.a is 'a';
create view shown as select a from parent;
create table named (id int);
create type labels as enum ('a');
create function count_of(a int) returns int language sql as 'select 1';
";

#[tokio::test]
async fn children_come_back_with_their_parents_and_a_name_of_another_kind_stops_no_other_statement() {
    let stage = Stage::of(CHILDREN).await;
    for by_hand in [
        "drop table parent cascade",
        "drop table a_child cascade",
        "drop table \"Odd\" cascade",
        "alter table a_child no inherit parent; drop table parent cascade",
        "alter table z_child no inherit parent",
        "alter table parent drop constraint parent_check",
        "alter table z_child no inherit parent; alter table z_child drop constraint parent_check",
        "alter table parent drop column last; drop view shown",
        "alter table parent alter a drop not null",
    ] {
        stage.is_brought_back(by_hand, printed).await;
    }
    for (by_hand, left, then) in [
        (
            "drop view shown; create table shown (a int)",
            &["table shown: ", "view shown: missing"][..],
            "drop table shown",
        ),
        (
            "drop view shown; create materialized view shown as select 1 as a",
            &["materialized view shown: ", "view shown: missing"],
            "drop materialized view shown",
        ),
        (
            "drop table named; create view named as select 1 as id",
            &["table named: missing", "view named: "],
            "drop view named",
        ),
        (
            "drop table named; create type named as enum ('b')",
            &["table named: missing", "type named: "],
            "drop type named",
        ),
        (
            "drop table named; create domain named as int",
            &["domain named: ", "table named: missing"],
            "drop domain named",
        ),
        (
            "drop table named; create type named as (id bigint)",
            &["table named: missing", "type named: "],
            "drop type named",
        ),
        (
            "drop type labels; create table labels (id int)",
            &["table labels: ", "type labels: missing"],
            "drop table labels",
        ),
        (
            "drop function count_of(int); create procedure count_of(a int) language sql as 'select 1'",
            &["function count_of(a integer): missing", "procedure count_of("],
            "drop procedure count_of(int)",
        ),
        (
            "drop function count_of(int); create function count_of(b int) returns int language sql as 'select 1'",
            &["function count_of(a integer): missing", "function count_of(b integer): "],
            "drop function count_of(int)",
        ),
    ] {
        let by_hand = format!("{by_hand}; alter table parent alter note set default 'z'");
        let script = stage.is_brought_back_later(&by_hand, left, then).await;
        assert!(script.contains("is taken by the "), "{by_hand}\n{script}");
    }
}

/// Properties that the statement that creates the object does not set.
const PROPERTIES: &str = "
create type pair as (a int, b text); comment on column pair.a is 'first';
create table typed of pair;
create table counted (id int generated always as identity primary key, n int, m int, n_plain int);
comment on sequence counted_id_seq is 'numbers'; grant usage on sequence counted_id_seq to pg_monitor;
alter table counted cluster on counted_pkey; comment on index counted_pkey is 'key'; alter index counted_pkey set (fillfactor = 70);
create index counted_sum on counted ((n + m)); alter index counted_sum alter column 1 set statistics 7;
create statistics counted_both (dependencies) on n, m from counted; alter statistics counted_both set statistics 9;
create materialized view sums as select n, m from counted; alter materialized view sums alter column n set statistics 5;
create materialized view later as select n from counted with no data;
create materialized view over_sums as select n from sums;
create domain small as int constraint small_set not null;
{18}
";

#[tokio::test]
async fn a_new_object_gets_the_properties_that_its_statement_does_not_set() {
    let server = TestServer::shared().set_up_database().await.unwrap();
    let version: i32 = Raw::on(&server).await.one("select current_setting('server_version_num')::int").await;
    let more = if version >= 180_000 {
        "create table checked (a int, b int); alter table checked add constraint a_set not null a not valid; \
         alter table checked add not null b not valid; comment on constraint a_set on checked is 'set';"
    } else {
        ""
    };
    let stage = Stage::of(&PROPERTIES.replace("{18}", more)).await;
    let since_18: &[&str] =
        if stage.major() >= 18 { &["drop table checked", "alter table checked drop column b"] } else { &[] };
    for by_hand in [
        "drop table typed; drop type pair",
        "drop table typed",
        "alter table typed not of",
        "create table more (a int, b text); drop table more; alter type pair drop attribute b cascade",
        "drop materialized view over_sums, sums, later; drop table counted",
        "drop index counted_sum; drop statistics counted_both",
        "alter statistics counted_both set statistics 10",
        "alter table counted drop constraint counted_pkey",
        "drop materialized view over_sums, sums",
        "drop materialized view later",
        "refresh materialized view sums with no data; refresh materialized view over_sums with no data",
        "drop domain small",
    ]
    .iter()
    .chain(since_18)
    {
        stage.is_brought_back(by_hand, printed).await;
    }
    let script = stage.is_brought_back("drop materialized view later", printed).await;
    assert!(script.contains("with no data"), "{script}");
    if stage.major() >= 18 {
        let not_valid = "select count(*) from pg_constraint where conrelid = 'checked'::regclass and contype = 'n' and not convalidated";
        assert_eq!(stage.raw.one::<i64>(not_valid).await, 2);
    }
}
