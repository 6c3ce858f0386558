//! What is said of a migration's locks is what the server does: every form is run, and `pg_locks` is asked.

use crate::sandbox::Raw;
use cgk::{
    migrate::{Blocks, LockMode, Migrations, Set, TableLock},
    testing::TestServer,
};
use std::collections::BTreeMap;

const TABLES: &str = "
    create table other (id int primary key, a text);
    create table t (id int primary key, a text, b int, c text, other_id int);
    alter table t add constraint b_positive check (b > 0) not valid;
    alter table t add constraint other_fkey foreign key (other_id) references other not valid;
    create index t_a on t (a); create unique index t_b on t (b);
    create table p (id int, a text) partition by list (id);
    create table p1 partition of p for values in (1); create table p2 (id int, a text);
    create table child () inherits (other);
    create view v as select id from t;
    create materialized view m as select id from t; create unique index m_id on m (id);
    create sequence s; create table fresh (id int, like_a text);
    create function f() returns trigger language plpgsql as $$ begin return new; end $$;
    create trigger touch before update on t for each row execute function f();
    create rule r as on insert to other do also nothing;
    create policy mine on t using (true)";

/// Statements, and whether the text alone cannot tell of every table that is locked.
const STATEMENTS: &[&str] = &[
    "select * from t",
    "select * from t x, other y where x.id = y.id",
    "select * from t left join other on other.id = t.id",
    "select * from t for update",
    "select extract(day from now()), substring(a from b), trim(both from a), b is distinct from id from t",
    "with w as (select id from other) select * from w",
    "insert into t (id) values (1)",
    "insert into t (id) select id from other",
    "update t set a = 'x' where id = 1",
    "update t set a = o.a from other o where o.id = t.id",
    "delete from t where id in (select id from other)",
    "delete from t using other o where o.id = t.id",
    "merge into t using other o on o.id = t.id when matched then do nothing",
    "truncate m_side, t",
    "lock table t",
    "lock table t in share row exclusive mode",
    "lock table t, other in access share mode",
    "analyze t",
    "alter table t add column d int",
    "alter table t add column d int references other",
    "alter table t add d int, alter column c set default 'x'",
    "alter table t drop column c",
    "alter table t alter column a type varchar(100)",
    "alter table t alter column a set not null",
    "alter table t alter column a drop not null",
    "alter table t alter a set default 'x'",
    "alter table t alter column a set statistics 500",
    "alter table t alter column a set (n_distinct = 5)",
    "alter table t alter column a set storage external",
    "alter table t add constraint x check (b > 1)",
    "alter table t add constraint x check (b > 1) not valid",
    "alter table t validate constraint b_positive",
    "alter table t add constraint x foreign key (other_id) references other",
    "alter table t add constraint x foreign key (other_id) references other (id) not valid",
    "alter table t add foreign key (other_id) references other",
    "alter table t add constraint x unique (b)",
    "alter table t add constraint x unique using index t_b",
    "alter table t drop constraint b_positive",
    "alter table t rename column a to aa",
    "alter table t rename to tt",
    "alter table t rename constraint b_positive to bp",
    "alter table t set (fillfactor = 70)",
    "alter table t set (autovacuum_enabled = false, toast.autovacuum_enabled = false)",
    "alter table t reset (fillfactor)",
    "alter table t set (autovacuum_enabled = false)",
    "alter table t set (vacuum_truncate = off)",
    "alter table t set (log_autovacuum_min_duration = 5)",
    "alter table t set (toast.vacuum_truncate = off)",
    "alter table t set (parallel_workers = 2)",
    "alter table t set (parallel_workers = 2, user_catalog_table = true)",
    "alter table t cluster on t_a",
    "alter table t set without cluster",
    "alter table t enable row level security",
    "alter table t disable trigger touch",
    "alter table t enable always trigger touch",
    "alter table t replica identity full",
    "alter table t set unlogged",
    "alter table t owner to current_user",
    "alter table child no inherit other",
    "alter table p2 inherit m_side",
    "alter table p attach partition p2 for values in (2)",
    "alter table p detach partition p1",
    "create table n (id int references other)",
    "create table n (id int, foreign key (id) references other (id))",
    "create table n () inherits (other)",
    "create table n (like t including all)",
    "create table n partition of p for values in (7)",
    "create table n as select * from t",
    "create index n on t (c)",
    "create unique index if not exists n on t (id)",
    "create trigger n after insert on t for each row execute function f()",
    "create rule n as on delete to other do also nothing",
    "create policy n on t using (true)",
    "create statistics n on a, b from t",
    "create view n as select id from t",
    "create or replace view v as select id from t where id > 0",
    "create materialized view n as select id from t",
    "create sequence n",
    "drop index t_a",
    "drop table fresh",
    "drop view v",
    "drop materialized view m",
    "drop sequence s",
    "drop trigger touch on t",
    "drop rule r on other",
    "drop policy mine on t",
    "alter trigger touch on t rename to touched",
    "alter rule r on other rename to rr",
    "alter policy mine on t using (false)",
    "alter policy mine on t rename to ours",
    "alter function f() rename to g",
    "alter index t_a rename to t_aa",
    "alter index t_a set (fillfactor = 70)",
    "alter view v rename to vv",
    "alter sequence s restart with 5",
    "alter sequence s owner to current_user",
    "alter materialized view m rename to mm",
    "reindex table t",
    "reindex index t_a",
    "refresh materialized view m",
    "refresh materialized view concurrently m",
    "cluster t using t_a",
    "comment on table t is 'x'",
    "comment on column t.a is 'x'",
    "comment on constraint b_positive on t is 'x'",
    "comment on trigger touch on t is 'x'",
    "comment on rule r on other is 'x'",
    "comment on policy mine on t is 'x'",
    "comment on index t_a is 'x'",
    "comment on view v is 'x'",
];

/// Relations that the text cannot name: the table of an index, what stands behind a view, the other end of a constraint.
const BEHIND: &[(&str, &[&str])] = &[
    ("drop index t_a", &["t"]),
    ("reindex index t_a", &["t"]),
    ("refresh materialized view m", &["t"]),
    ("refresh materialized view concurrently m", &["t"]),
    ("alter table t validate constraint", &["other"]),
    ("alter table t drop", &["other"]),
];

fn locks_of(sql: &str) -> Vec<TableLock> {
    let file = Migrations::bundled().with_file(Set::Tenant, "900_x.sql", sql).unwrap();
    file.set(Set::Tenant).files().last().unwrap().locks()
}

fn strongest(locks: impl IntoIterator<Item = (String, String)>) -> BTreeMap<String, String> {
    let strength = |mode: &str| MODES.iter().position(|other| *other == mode).unwrap();
    let mut found: BTreeMap<String, String> = BTreeMap::new();
    for (relation, mode) in locks {
        let entry = found.entry(relation).or_insert_with(|| mode.clone());
        if strength(&mode) > strength(entry) {
            *entry = mode;
        }
    }
    found
}

const MODES: [&str; 8] = [
    "AccessShareLock",
    "RowShareLock",
    "RowExclusiveLock",
    "ShareUpdateExclusiveLock",
    "ShareLock",
    "ShareRowExclusiveLock",
    "ExclusiveLock",
    "AccessExclusiveLock",
];

/// `ROW SHARE` as `pg_locks` writes it.
fn in_pg_locks(mode: LockMode) -> String {
    let words = mode.name().split(' ').map(|word| format!("{}{}", &word[..1], word[1..].to_lowercase()));
    format!("{}Lock", words.collect::<String>())
}

#[tokio::test]
async fn the_server_takes_the_locks_that_are_told() {
    let database = TestServer::shared().database().await.unwrap();
    let raw = Raw::on(&database).await;
    raw.run(&format!("create schema x; set search_path = x; {TABLES}; create table m_side ()")).await;
    let major = raw.one::<i32>("select current_setting('server_version_num')::int / 10000").await;
    let (mut wrong, mut compared) = (Vec::new(), 0);
    for sql in STATEMENTS {
        if major < 15 && sql.starts_with("merge") {
            continue;
        }
        let told = strongest(locks_of(sql).into_iter().map(|lock| (lock.relation, in_pg_locks(lock.mode))));
        // The relations' names from before the statement, which may rename or drop them.
        raw.run("begin; create temp table names on commit drop as select oid, relname, relkind from pg_class where relnamespace = 'x'::regnamespace").await;
        if let Err(error) = raw.try_run(sql).await {
            panic!("{sql}: {:?}", error.as_db_error());
        }
        let rows: Vec<String> = raw
            .all(
                "select n.relname || ' ' || l.mode from pg_locks l join names n on n.oid = l.relation
                 where l.pid = pg_backend_pid() and l.granted and l.locktype = 'relation'",
            )
            .await;
        raw.run("rollback").await;
        let taken = strongest(rows.iter().map(|row| {
            let (relation, mode) = row.split_once(' ').unwrap();
            (relation.to_owned(), mode.to_owned())
        }));
        let indexes: Vec<String> = raw
            .all("select relname::text from pg_class where relnamespace = 'x'::regnamespace and relkind in ('i', 'I')")
            .await;
        let behind: Vec<&str> = BEHIND
            .iter()
            .filter(|(prefix, _)| sql.starts_with(prefix))
            .flat_map(|(_, relations)| relations.iter().copied())
            .collect();
        for (relation, mode) in &taken {
            // Indexes are locked with their table; those that a statement names are told.
            let untold = !told.contains_key(relation);
            if untold && (indexes.contains(relation) || behind.contains(&relation.as_str())) {
                continue;
            }
            // Partitions and children are locked like their parent.
            if untold && ["p1", "child"].contains(&relation.as_str()) {
                continue;
            }
            if told.get(relation) != Some(mode) {
                wrong.push(format!("{sql}: the server takes {mode} on {relation}, told {:?}", told.get(relation)));
            }
        }
        for (relation, mode) in &told {
            if !taken.contains_key(relation) {
                wrong.push(format!("{sql}: told {mode} on {relation}, and the server takes {taken:?}"));
            }
        }
        compared += 1;
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(compared > 85, "{compared}");
}

#[test]
fn every_mode_is_named_and_stops_whom_it_says() {
    use LockMode::*;
    let modes = [
        AccessShare,
        RowShare,
        RowExclusive,
        ShareUpdateExclusive,
        Share,
        ShareRowExclusive,
        Exclusive,
        AccessExclusive,
    ];
    assert_eq!(modes.map(in_pg_locks), MODES.map(ToOwned::to_owned));
    assert!(modes.is_sorted());
    assert_eq!(
        modes.map(LockMode::blocks)[3..],
        [Blocks::Nothing, Blocks::Writes, Blocks::Writes, Blocks::Writes, Blocks::ReadsAndWrites]
    );
}

/// What the mode stops is not said by us: the server is asked to read and to write beside each.
#[tokio::test]
async fn what_a_mode_stops_is_what_waits() {
    let database = TestServer::shared().database().await.unwrap();
    let (holder, other) = (Raw::on(&database).await, Raw::on(&database).await);
    holder.run("create table t (id int)").await;
    other.run("set lock_timeout = '30ms'").await;
    for mode in MODES {
        let mode = [
            LockMode::AccessShare,
            LockMode::RowShare,
            LockMode::RowExclusive,
            LockMode::ShareUpdateExclusive,
            LockMode::Share,
            LockMode::ShareRowExclusive,
            LockMode::Exclusive,
            LockMode::AccessExclusive,
        ][MODES.iter().position(|other| *other == mode).unwrap()];
        holder.run(&format!("begin; lock table t in {mode} mode")).await;
        let reads = other.try_run("select * from t").await.is_ok();
        let writes = other.try_run("insert into t values (1)").await.is_ok();
        holder.run("rollback").await;
        let found = match (reads, writes) {
            (true, true) => Blocks::Nothing,
            (true, false) => Blocks::Writes,
            (false, _) => Blocks::ReadsAndWrites,
        };
        assert_eq!(found, mode.blocks(), "{mode}");
    }
}

#[test]
fn what_the_file_makes_itself_holds_nobody_up() {
    let sql = "-- cgk:no-transaction\ncreate table mine (id int references orders); create index mine_id on mine (id);\nalter table mine add column b int;\n\ncreate index concurrently x on orders (placed_at);\nalter table orders add column c int, add constraint c_positive check (c > 0)";
    let told: Vec<_> =
        locks_of(sql).into_iter().map(|lock| (lock.relation, lock.mode, lock.line, lock.reason)).collect();
    assert_eq!(
        told,
        [
            ("orders".to_owned(), LockMode::ShareRowExclusive, 2, "foreign key".to_owned()),
            ("orders".to_owned(), LockMode::ShareUpdateExclusive, 5, "create index concurrently".to_owned()),
            ("orders".to_owned(), LockMode::AccessExclusive, 6, "add column".to_owned()),
        ]
    );
}

/// A table that an executed statement has created exists for all sessions when a run continues.
#[test]
fn what_a_schema_has_executed_takes_no_locks() {
    let text = "-- cgk:no-transaction\ncreate table mine (id int);\nalter table orders add column c int ;\n-- the rest\nalter table mine add column b int;";
    let migrations = Migrations::bundled().with_file(Set::Tenant, "900_x.sql", text).unwrap();
    let file = migrations.set(Set::Tenant).files().last().unwrap();
    let relations =
        |done| file.locks_after(done).into_iter().map(|lock| format!("{}:{}", lock.relation, lock.line)).collect();
    let expected: [(Vec<String>, &str); 4] = [
        (vec!["orders:3".into()], text),
        (vec!["orders:3".into(), "mine:5".into()], &text[text.find("alter table orders").unwrap()..]),
        (vec!["mine:5".into()], &text[text.find("-- the rest").unwrap()..]),
        (vec![], ""),
    ];
    for (done, (locks, rest)) in expected.into_iter().enumerate() {
        let found: Vec<String> = relations(done);
        assert_eq!((found, file.sql_after(done)), (locks, rest), "{done}");
    }
    assert_eq!(file.sql_after(4), "");
}
