use super::{super::scan, *};

/// Returns the shape as a short text: what is written, and after `<` what is read.
fn shape(sql: &str) -> String {
    let statements = scan::cut(sql).unwrap_or_else(|error| panic!("{sql:?}: {error:?}")).statements;
    let [statement] = statements.as_slice() else { panic!("{sql:?} is {} statements", statements.len()) };
    let list = |names: &[Name]| names.iter().map(Name::shown).collect::<Vec<_>>().join(" ");
    match of(statement) {
        Shape::Write { verb, table, reads } => format!("{verb} {} < {}", table.shown(), list(&reads)),
        Shape::Rights { verb, kind, names } => format!("{} {kind} {}", verb.to_lowercase(), list(&names)),
        Shape::CreateTable { name, sources, .. } if !sources.is_empty() => {
            let reads: Vec<Name> = sources.into_iter().map(|(_, name)| name).collect();
            format!("create table {} < {}", name.shown(), list(&reads))
        }
        Shape::Select { reads, locks_rows } => {
            format!("select{} < {}", if locks_rows { " for" } else { "" }, list(&reads))
        }
        Shape::Create { kind, name, on, reads, .. } => {
            format!("create {kind} {} on {} < {}", list(name.as_slice()), list(on.as_slice()), list(&reads))
        }
        Shape::AlterTable { kind, table, actions } => {
            let actions: Vec<String> = actions.iter().map(|action| action.words().join(" ")).collect();
            format!("alter {kind} {}: {}", table.shown(), actions.join(", "))
        }
        Shape::Alter { kind, name, on, action } => {
            format!("alter {kind} {} on {}: {}", name.shown(), list(on.as_slice()), action.words().join(" "))
        }
        Shape::Lock { tables, mode } => format!("lock {} {mode}", list(&tables)),
        Shape::Comment { kind, name, on } => format!("comment {kind} {} on {}", name.shown(), list(on.as_slice())),
        other => format!("{other:?}").split([' ', '{']).next().unwrap_or_default().to_lowercase(),
    }
}

#[test]
fn what_changes_rows_is_read_with_what_it_reads() {
    for (sql, found) in [
        ("insert into a select * from b", "insert a < b"),
        ("update only s.a set x = 1 from b, c as d, e where a.id = b.id", "update s.a < b c e"),
        ("delete from a using b", "delete a < b"),
        ("merge into a using b on a.id = b.id when matched then delete", "merge a < b"),
        ("copy a from stdin", "copy a < "),
        ("copy a (x, y) from program 'cat' where x > 1", "copy a < "),
        ("copy (select 1 from b) to stdout", "select < b"),
        // The verb after WITH, and not one inside of its parentheses.
        ("with c as (select 1 from b) insert into a select * from c", "insert a < b"),
        ("with c as materialized (select 1 from b where true) update a set x = 1", "update a < b"),
        ("with c as (delete from b returning *), d (x) as (select 1) select * from c, d", "select < b d"),
        ("with c as (select (1)) delete from a where x in (select * from c)", "delete a < "),
        ("with c as (select 1)", "other"),
        ("select 1 from a for update", "select for < a"),
        ("select 1 from a where b = 'for update'", "select < a"),
        // SELECT … INTO creates a table.
        ("select 1 as x into t from a join b using (x)", "create table t < a b"),
        ("select x into temporary table s.t from a", "create table s.t < a"),
        ("with c as (select 1 from b) select * into t from c, a", "create table t < b a"),
        ("select (select 1 from b) as \"into\" from a", "select < b a"),
    ] {
        assert_eq!(shape(sql), found, "{sql}");
    }
}

/// Each write as its verb and table, with `!` if it changes all rows.
fn writes_of(sql: &str) -> String {
    let statements = scan::cut(sql).unwrap_or_else(|error| panic!("{sql:?}: {error:?}")).statements;
    let shown = |write: RowWrite| {
        let all = write.changes_rows && !write.chooses_rows;
        format!("{}{} {}", if all { "!" } else { "" }, write.verb, write.table.shown())
    };
    writes(&statements[0]).into_iter().map(shown).collect::<Vec<_>>().join(", ")
}

#[test]
fn every_write_is_found_and_whether_it_chooses_its_rows() {
    for (sql, found) in [
        ("delete from a", "!delete a"),
        ("delete from only a where b = 1 returning c", "delete a"),
        ("update s.a set b = (select 1 from c where d = 2)", "!update s.a"),
        ("update a set b = 1 from (select 1 from c where d = 2) e", "!update a"),
        ("update a set b = 1 where c in (select 1 from d)", "update a"),
        ("insert into a select * from b where c on conflict do nothing", "insert a"),
        ("with x as (delete from a returning *) select * from x where b", "!delete a"),
        (
            "with x as materialized (update a set b = 1 where c = 2), y as not materialized (select 1) insert into d table x",
            "update a, insert d",
        ),
        ("with x as (select 1 where true) delete from a", "!delete a"),
        (
            "with x as (insert into a values (1) on conflict (b) do update set c = 1) delete from d where e = 1",
            "insert a, delete d",
        ),
        ("merge into a using b on c = d when matched then delete", "!merge a"),
        ("merge into a using b on c = d when not matched then insert values (1)", "merge a"),
        ("delete from a where current of b", "delete a"),
        ("select 1 from a for update", ""),
        ("create rule r as on delete to a do also (delete from b)", ""),
        ("grant delete, update on a to b", ""),
        ("copy (delete from a returning *) to '/x'", "!delete a"),
        ("copy a (\"delete\", b) from '/x'", ""),
        ("prepare p (int) as update a set b = $1", "!update a"),
        ("explain analyze delete from a where b = 1", "delete a"),
        ("explain (analyze, verbose) delete from a", "!delete a"),
        ("explain delete from a", ""),
    ] {
        assert_eq!(writes_of(sql), found, "{sql}");
    }
}

#[test]
fn a_condition_that_holds_for_every_row_chooses_none() {
    for condition in [
        "true",
        "(true)",
        "((true)) and true",
        "1 = 1",
        "1=1",
        "'a' = 'a'",
        "not false",
        "not (false)",
        "not not true",
        "true is true",
        "true or b = 1",
        "b = 1 or 1 = 1",
        "(b = 1 or true)",
        "b = b",
        "a.b = a.b",
        "1 < 2",
        "true::boolean",
        "1 is not null",
        "b = 1 or (true and not false) or c",
    ] {
        assert_eq!(writes_of(&format!("delete from a where {condition} returning *")), "!delete a", "{condition}");
    }
    for condition in [
        "false",
        "null",
        "not true",
        "b",
        "not b",
        "b = 1",
        "b = c",
        "b <> b",
        "b >= b",
        "true and b = 1",
        "b = 1 and 1 = 1",
        "b is not null",
        "(b) = (1)",
        "(b = 1) or (c = 2)",
        "exists (select 1 from c)",
        "b in (1, 2)",
        "f(1)",
        "'a' = 'b'",
        "b between 1 and 2",
        "not (b or false)",
        "false or b",
        "current_date > '2026-01-01'",
        "\"true\" = 1",
        "b like '%'",
    ] {
        assert_eq!(writes_of(&format!("delete from a where {condition} returning *")), "delete a", "{condition}");
    }
}

#[test]
fn rights_name_their_objects() {
    for (sql, found) in [
        ("grant select (a, b), update (c) on table t, s.u to x", "grant table t s.u"),
        ("revoke all on t from public", "revoke table t"),
        ("revoke grant option for select on sequence s from x", "revoke sequence s"),
        ("grant execute on function f(int, text), g() to x", "grant function f g"),
        ("grant usage on schema a, b to x", "grant schema a b"),
        ("grant select on all tables in schema a, b to x", "grant schema a b"),
        (
            "alter default privileges for role r in schema a, b grant select on tables to x",
            "alter default privileges schema a b",
        ),
        ("alter default privileges grant select on tables to x", "other"),
        ("grant usage on type t to x", "grant type t"),
        ("grant select on schema to x", "grant table schema"),
        ("grant connect on database d to x", "other"),
        ("grant usage on foreign server s to x", "other"),
        ("grant a, b to x", "other"),
        ("revoke admin option for a from b", "other"),
    ] {
        assert_eq!(shape(sql), found, "{sql}");
    }
}

#[test]
fn tables_are_told_from_functions_and_names_of_a_with() {
    for (sql, reads) in [
        ("select extract(epoch from x), trim(both from y), substring(a from 1) from t", "t"),
        ("select a is distinct from b from t", "t"),
        ("select (select 1 from u), x from t", "u t"),
        ("select 1 from f(1), t", ""),
        ("select 1 from lateral t join only s.u using (id) cross join v", "t s.u v"),
        ("select 1 from t where a = b(c) and d in (select 1 from u)", "t u"),
        ("with c as (select 1) select 1 from c, public.c, d", "public.c d"),
        ("select c as x, (1) from c", "c"),
    ] {
        assert_eq!(shape(sql), format!("select < {reads}"), "{sql}");
    }
}

#[test]
fn definitions_name_what_they_belong_to() {
    for (sql, found) in [
        ("create rule r as on insert to a do nothing", "create rule r on a < "),
        ("create trigger g before insert on s.a for each row execute function f()", "create trigger g on s.a < "),
        ("create statistics s on x, y from a", "create statistics s on a < "),
        ("create view v as select * from a", "create view v on  < a"),
        ("alter table a add c numeric(1, 2), add d int[3], drop e", "alter table a: add c numeric, add d int, drop e"),
        (
            "alter table a alter b set default array[[1, 2], [3, 4]], drop c",
            "alter table a: alter b set default array, drop c",
        ),
        ("alter table a add check ((x, y) = (1, 2)), drop c", "alter table a: add check, drop c"),
        ("alter trigger g on s.a rename to h", "alter trigger g on s.a: on s"),
        ("alter policy p on a using (b on c)", "alter policy p on a: on a using"),
        ("alter rule r on a rename to b", "alter rule r on a: on a rename to b"),
        ("alter domain s.d drop not null", "alter domain s.d on : drop not null"),
        ("alter function f set schema s", "alter function f on : set schema s"),
        ("alter type s.e add value 'x'", "alter type s.e: add value"),
        ("comment on column s.t.c is 'x'", "comment column s.t on "),
        ("comment on trigger g on a is 'x'", "comment trigger g on a"),
        ("lock a, b in share update exclusive mode", "lock a b SHARE UPDATE EXCLUSIVE"),
        ("lock table a in row share mode nowait", "lock a ROW SHARE"),
        ("lock a", "lock a ACCESS EXCLUSIVE"),
    ] {
        assert_eq!(shape(sql), found, "{sql}");
    }
}

#[test]
fn concurrently_counts_where_the_server_refuses_it_in_a_transaction() {
    let is_concurrent = |sql: &str| of(&scan::cut(sql).expect("it can be cut").statements[0]).is_concurrent();
    for (sql, expected) in [
        ("create index concurrently i on a (x)", true),
        ("create index i on a (x)", false),
        ("drop index concurrently i", true),
        ("reindex (concurrently, verbose) table a", true),
        ("reindex (concurrently false) table a", false),
        ("alter table a detach partition b concurrently", true),
        ("alter table a detach partition b", false),
        ("alter table a add concurrently int", false),
        ("refresh materialized view concurrently v", false),
    ] {
        assert_eq!(is_concurrent(sql), expected, "{sql}");
    }
}
