//! Statements of `cgk drift --sql` that depend on each other: the server accepts the script as it is printed, and what it
//! cannot create is a comment together with everything that needs it.

use super::schemas::{lines, role};
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

    /// Changes the schema by hand and runs the script as it is printed, twice. Nothing differs afterwards.
    async fn is_brought_back_in_two(&self, by_hand: &str) {
        self.raw.run(by_hand).await;
        let (_, script) = self.found().await;
        self.run_script(by_hand, &script).await;
        let (lines, second) = self.found().await;
        assert_ne!(lines, Vec::<String>::new(), "{by_hand}\n{script}");
        assert!(script.contains(" gets its name back first: compare again after that"), "{by_hand}\n{script}");
        self.run_script(by_hand, &second).await;
        assert_eq!(self.found().await.0, Vec::<String>::new(), "{by_hand}\n{script}\nleaves\n{second}");
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
    // A foreign key to it is a comment: another table may have rows.
    stage.is_brought_back("drop table base cascade", meant).await;
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

/// Tables with rows, of which the server checks what a statement of the script says.
const FILLED: &str = "
create type color as enum ('red', 'it''s, so', 'blue'); create domain shade as color default 'red';
create table a (id int primary key, c color default 'red', s shade, n int constraint a_n_check check (n > 0), note text);
create index a_note on a (note); create index a_note_too on a (note);
create table refers (id int constraint refers_pkey primary key, a int constraint refers_a_fkey references a, n int not null);
create table hashed (id int primary key) partition by hash (id);
create table hashed_0 partition of hashed for values with (modulus 2, remainder 0);
create table hashed_1 partition of hashed for values with (modulus 2, remainder 1);
create table listed (id int generated by default as identity, k varchar(9), note text, primary key (id, k)) partition by list (k);
create table listed_a partition of listed for values in ('a');
create table listed_b partition of listed for values in ('b') partition by range (id);
create table listed_b_1 partition of listed_b default;
create index listed_note on listed (note);
create table of_listed (id int constraint of_listed_pkey primary key, lid int, lk varchar(9),
    constraint of_listed_fkey foreign key (lid, lk) references listed (id, k));
create table ranged (k varchar(9), note text) partition by range (k);
create table parent (id int constraint parent_id_check check (id > 0)); create table child () inherits (parent);
insert into a values (1, 'red', 'red', 1, 'x'); insert into refers values (1, 1, 1);
insert into hashed select generate_series(1, 20); insert into listed (k) values ('a'), ('b'); insert into of_listed values (1, 1, 'a'), (2, 2, 'b');
insert into parent values (1); insert into child values (1)";

#[tokio::test]
async fn with_rows_the_server_accepts_what_is_no_comment() {
    let stage = Stage::of(FILLED).await;
    for by_hand in [
        // Names: the statements against the other names are no longer needed afterwards.
        "alter table hashed rename to other",
        "alter table parent rename to other",
        "alter table refers rename constraint refers_pkey to other",
        "alter table refers rename constraint refers_a_fkey to other",
        "alter table a rename constraint a_n_check to other",
        "alter table parent rename constraint parent_id_check to other",
        "alter index a_note rename to other",
        "alter index a_note rename to other; alter index a_note_too rename to one_more",
        "alter index a_note rename to other; drop index a_note_too",
        "alter type color rename to other",
        "alter domain shade rename to other",
        "alter type color rename value 'red' to 'rot'",
        "alter type color rename value 'red' to 'rot'; alter type color rename value 'it''s, so' to 'so, it is'",
        // What rows refer to is there before the foreign key.
        "alter table of_listed drop constraint of_listed_fkey; alter table listed detach partition listed_b",
        "alter table of_listed drop constraint of_listed_fkey; alter table listed_b detach partition listed_b_1",
        "alter table of_listed drop constraint of_listed_fkey; alter table listed detach partition listed_a; alter table listed alter note set default 'x'",
        // An index of a partition belongs to that of the table.
        "alter index listed_a_note_idx set (fillfactor = 50)",
        "alter index a_note set (fillfactor = 50, deduplicate_items = off)",
        "drop index a_note; create index a_note on a (note) with (fillfactor = 50) where note <> ' WITH ('",
    ] {
        stage.is_brought_back(by_hand, printed).await;
    }
    for by_hand in [
        "alter table of_listed drop constraint of_listed_fkey; alter table listed detach partition listed_a; alter table listed_a rename to other",
        "alter table hashed rename to other; alter table other detach partition hashed_0",
        "alter type color rename to other; alter table a alter c drop default",
        "alter type color rename to other; alter domain shade rename to one_more",
    ] {
        stage.is_brought_back_in_two(by_hand).await;
    }
    for (by_hand, left, then) in [
        // Rows that refer to what is gone.
        ("drop table a cascade", &["constraint refers.refers_a_fkey: missing"][..], "truncate refers"),
        ("alter table refers rename n to m", &["column refers.m: ", "column refers.n: missing"], "truncate refers"),
        (
            "alter table of_listed rename id to other",
            &["column of_listed.id: missing", "column of_listed.other: ", "constraint of_listed.of_listed_pkey: "],
            "alter table of_listed rename other to id",
        ),
        // A label that no statement adds.
        (
            "alter table a alter c drop default, alter c type text, alter s type text; drop domain shade; drop type color; \
             create type color as enum ('blue', 'green'); create domain shade as color; \
             alter table a alter c type color using 'blue', alter s type shade using 'blue'; alter table refers alter n drop not null",
            &["column a.c: no default", "domain shade: no default", "type color: labels are "],
            "alter table a alter c type text, alter s type text; drop domain shade; drop type color; \
             create type color as enum ('red', 'it''s, so', 'blue'); create domain shade as color default 'red'; \
             alter table a alter c type color using 'red', alter s type shade using 'red'",
        ),
        // Names that two objects have exchanged.
        (
            "alter index hashed_0_pkey rename to other; alter index hashed_1_pkey rename to hashed_0_pkey; alter index other rename to hashed_1_pkey; \
             drop index a_note",
            &[
                "constraint hashed_0.hashed_0_pkey: missing",
                "constraint hashed_0.hashed_1_pkey: ",
                "constraint hashed_1.hashed_0_pkey: ",
                "constraint hashed_1.hashed_1_pkey: missing",
            ],
            "alter index hashed_0_pkey rename to other; alter index hashed_1_pkey rename to hashed_0_pkey; alter index other rename to hashed_1_pkey",
        ),
        // The server changes the type of no column of a partition key.
        (
            "alter table ranged rename k to other; alter table ranged rename note to k; alter table ranged rename other to note; drop index a_note",
            &[
                "column ranged.k: type is text",
                "column ranged.note: type is character varying(9)",
                "table ranged: column order",
                "table ranged: partitioned by",
            ],
            "alter table ranged rename k to other; alter table ranged rename note to k; alter table ranged rename other to note",
        ),
    ] {
        stage.is_brought_back_later(by_hand, left, then).await;
    }
}

/// Objects that get their names, or what they have of their own, back from themselves.
const OF_THEIR_OWN: &str = "
create domain small as int constraint small_check check (value < 100);
create table counted (id int generated always as identity primary key, s serial, old int, kept int not null, a small, b small[]);
create view counts as select id, s from counted;
create function touch() returns trigger language plpgsql as 'begin return new; end';
create trigger counts_t instead of update on counts for each row execute function touch();
create rule counts_r as on delete to counts do instead nothing;
create trigger counted_t before insert on counted for each row execute function touch();
create constraint trigger counted_ct after insert on counted for each row execute function touch();
create rule counted_r as on delete to counted where old.id < 0 do instead nothing;
create policy counted_p on counted using (id > 0);
create materialized view filled as select id, s from counted with no data; create index filled_s on filled (s);
create materialized view seen as select id, s from counted; create index seen_s on seen (s);
create table options (id int, note text) with (fillfactor = 70); alter table options alter note set (n_distinct = 5);
create view optional with (security_barrier) as select id from options;
insert into counted (old, a, b, kept) select n, n, array[n], n from generate_series(1, 5) n";

#[tokio::test]
async fn what_exists_under_another_name_is_renamed() {
    let stage = Stage::of(OF_THEIR_OWN).await;
    stage.raw.run("refresh materialized view filled").await;
    for by_hand in [
        "alter sequence counted_id_seq rename to other",
        "alter sequence counted_s_seq rename to other",
        "alter trigger counted_t on counted rename to other",
        "alter trigger counted_ct on counted rename to other",
        "alter rule counted_r on counted rename to other",
        "alter policy counted_p on counted rename to other",
        // A view is not in the way of its own triggers, rules and indexes.
        "drop trigger counts_t on counts; create trigger counts_t instead of insert on counts for each row execute function touch()",
        "create or replace rule counts_r as on update to counts do instead nothing",
        "alter view counts rename column s to other",
        "drop index seen_s; alter materialized view seen rename column id to other",
        "alter materialized view filled rename column s to other",
        // A default and an identity exclude each other.
        "alter table counted alter s drop default; drop sequence counted_s_seq; alter table counted alter s add generated by default as identity (sequence name counted_s_seq)",
        "alter table counted alter id drop identity; alter table counted alter id set default 1",
        "alter table options set (autovacuum_enabled = off)",
        "alter table options reset (fillfactor); alter table options set (autovacuum_enabled = off, toast.autovacuum_enabled = off)",
        "alter table options alter note set (n_distinct_inherited = 5)",
        "alter view optional set (check_option = local)",
    ] {
        stage.is_brought_back(by_hand, meant).await;
    }
    assert_eq!(stage.raw.one::<i64>("select count(*) from filled").await, 5, "what was filled is filled again");
    assert_eq!(
        stage.raw.one::<i32>("insert into counted (kept) values (1) returning s").await,
        6,
        "no number is used twice"
    );
    // The check of a domain is there before a column has an array of the domain.
    let dropped =
        "drop view counts; drop materialized view filled, seen; alter table counted drop a, drop b; drop domain small";
    stage.is_brought_back(dropped, printed).await;
    if stage.major() >= 18 {
        // Also of a column of the primary key.
        stage.is_brought_back("alter table counted rename constraint counted_id_not_null to other", printed).await;
    }
}

/// The owner of a schema is changed by hand: to the role of a service, and of another tenant.
#[tokio::test]
async fn a_schema_is_given_back_and_its_objects_keep_their_owner() {
    let stage = Stage::of("create table notes (id int); create function f() returns int language sql as 'select 1'; create type mood as enum ('low')").await;
    let (service, tenant) = (format!("service_{:08x}", rand::random::<u32>()), role(&stage._database, "acme"));
    stage.raw.run(&format!("create role {service}")).await;
    let owners = "select count(distinct relowner) from pg_class where relnamespace = 'tenant_acme'::regnamespace";
    for other in [&service, &tenant] {
        let script = stage.is_brought_back(&format!("alter schema tenant_acme owner to {other}"), printed).await;
        let statements: Vec<&str> = script.lines().filter(|line| line.contains("owner to")).collect();
        assert!(!statements.is_empty() && statements.iter().all(|line| line.starts_with("alter schema")), "{script}");
        assert!(!script.contains(&format!("owner to \"{other}\"")), "{script}");
        assert_eq!(stage.raw.one::<i64>(owners).await, 1);
    }
    // The control: an object that was given away comes back.
    stage.is_brought_back(&format!("alter table notes owner to {service}"), printed).await;
    stage.raw.run(&format!("drop role {service}")).await;
}

/// A table of another schema that inherits from a table of the tenant is named, and no statement changes it.
#[tokio::test]
async fn children_in_other_schemas_are_left_alone() {
    let stage = Stage::of(
        "create table parent (id int constraint parent_check check (id > 0), note text default 'x'); create index parent_note on parent (note);
         create table beside (id int constraint beside_check check (id > 0))",
    )
    .await;
    stage.raw.run("create schema elsewhere; create table elsewhere.child () inherits (parent)").await;
    let (differences, script) = stage.found().await;
    assert_eq!(differences, ["table parent: children elsewhere is elsewhere.child, migrations give none"]);
    assert!(script.contains("-- no statement is known: table parent: children elsewhere"), "{script}");
    stage
        .is_brought_back_later(
            "alter table parent alter note drop default, drop constraint parent_check; alter table beside drop constraint beside_check",
            &["column parent.note: no default", "constraint parent.parent_check: missing", "table parent: children elsewhere"],
            "alter table elsewhere.child no inherit parent",
        )
        .await;
}
