use super::{super::scan, *};

/// Returns the shape as a short text: what is written, and after `<` what is read.
fn shape(sql: &str) -> String {
    let statements = scan::cut(sql).unwrap_or_else(|error| panic!("{sql:?}: {error:?}")).statements;
    let [statement] = statements.as_slice() else { panic!("{sql:?} is {} statements", statements.len()) };
    let list = |names: &[Name]| names.iter().map(Name::shown).collect::<Vec<_>>().join(" ");
    match of(statement) {
        Shape::Write { verb, table, has_where, reads } => {
            format!("{verb} {}{} < {}", table.shown(), if has_where { " where" } else { "" }, list(&reads))
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
        ("update only s.a set x = 1 from b, c as d, e where a.id = b.id", "update s.a where < b c e"),
        ("delete from a using b", "delete a < b"),
        ("merge into a using b on a.id = b.id when matched then delete", "merge a < b"),
        ("copy a from stdin", "copy a < "),
        ("copy a (x, y) from program 'cat' where x > 1", "copy a where < "),
        ("copy (select 1 from b) to stdout", "select < b"),
        // The verb after WITH, and not one inside of its parentheses.
        ("with c as (select 1 from b) insert into a select * from c", "insert a < b"),
        ("with c as materialized (select 1 from b where true) update a set x = 1", "update a < b"),
        ("with c as (delete from b returning *), d (x) as (select 1) select * from c, d", "select < b d"),
        ("with c as (select (1)) delete from a where x in (select * from c)", "delete a where < "),
        ("with c as (select 1)", "other"),
        ("select 1 from a for update", "select for < a"),
        ("select 1 from a where b = 'for update'", "select < a"),
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
