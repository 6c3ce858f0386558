//! Migration files that trip other tools: their names, bytes and order, texts that are hard to split, and what hides from lints.

use super::migrations::no_drift;
use crate::support::{
    cgk::Shell,
    fleet::{Fleet, said},
};

/// Something that writes stands at the other end, or the program would wait for it for ever, and for no signal.
#[test]
fn a_file_that_is_no_regular_file_is_refused() {
    let shell = Shell::new();
    shell.write_migrations();
    let fifo = shell.folder().join("migrations/tenant/003_next.sql");
    assert!(std::process::Command::new("mkfifo").arg(&fifo).status().unwrap().success());
    let script = "while :; do echo 'create table x (id int);' > \"$0\" || exit; done";
    let mut writer = std::process::Command::new("sh").arg("-c").arg(script).arg(&fifo).spawn().unwrap();
    let answer = shell.run(&["migrate:lint"]);
    writer.kill().unwrap();
    writer.wait().unwrap();
    assert_eq!(answer.code, 1, "{}", said(&answer));
    assert!(said(&answer).contains("003_next.sql: error file: is no regular file"), "{}", said(&answer));
}

/// A folder is named as a whole. Hidden files are left alone, as the documentation says.
#[tokio::test]
async fn a_file_beside_the_sets_is_named() {
    let mut wrong = Vec::new();
    for (place, named) in [
        ("migrations/003_next.sql", "migrations/003_next.sql"),
        ("migrations/tenants/003_next.sql", "migrations/tenants:"),
    ] {
        let fleet = Fleet::of(&["acme"]).await;
        fleet.shell.write(place, "create table x (id int);\n");
        let answer = fleet.shell.run(&["migrate", "--check"]);
        if answer.code != 2 || !said(&answer).contains(named) {
            wrong.push(format!("{place}: {}", said(&answer)));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// Texts that made the splitters of other tools cut a statement in two, or two into one: supabase/cli 5020, 5146 and 6562,
/// sqlparse 277 and 307, tern 97. With a transaction and without one.
#[tokio::test]
async fn texts_that_other_splitters_cut_wrongly_are_run_as_they_stand() {
    let texts = [
        "create function fn_atomic() returns int language plpgsql as $$ begin return 1; end; $$; create table last (id int)",
        "create table pending (id int); create function f(a int) returns int language sql begin atomic select case when a > 1 \
         then 1 else 2 end; select count(*) as end from pending; select 1 as atomic; end; create table last (id int)",
        "do $outer$ begin execute $sql$ create table inner_one (id int); $sql$; end $outer$; create table last (id int)",
        "create function h(inp text) returns text language sql as $_$ select regexp_replace(inp, $$&#(\\d+);$$, $$';'$$) $_$; \
         create table last (id int)",
        "create rule r as on insert to orders do also (delete from items; delete from items); create table last (id int)",
        "/* /* ; */ ' $$ */ -- ';$$\nselect U&'\\0041;' uescape '!', e'\\';', 'it''s;', $a$ $$ ; $$ $a$, $_b1$;$_b1$, b'1'; \
         create table last (id int)",
        "create function a$b$() returns int language sql as $\u{e9}$ select 1; $\u{e9}$; create table last (id int)",
        "select 1;\rselect 2;\r-- a comment;\rcreate table last (id int)",
        "\u{feff}create table last (id int);;; -- no line end",
    ];
    for text in texts {
        for first in ["", "-- cgk:no-transaction\n"] {
            // A mark stands on the first line, behind a byte-order mark too.
            let text = match text.strip_prefix('\u{feff}') {
                Some(rest) if !first.is_empty() => format!("\u{feff}{first}{rest}"),
                _ => format!("{first}{text}"),
            };
            let fleet = Fleet::with(&["acme", "globex"], &text).await;
            let both =
                "select to_regclass('tenant_acme.last') is not null and to_regclass('tenant_globex.last') is not null";
            assert!(fleet.raw.one::<bool>(both).await, "{text}");
            no_drift(&text, &fleet.drift());
            assert_eq!(fleet.shell.run(&["migrate", "--check"]).code, 0, "{text}");
        }
    }
}

/// Names and texts that other tools skip, guess or misread; nothing here needs a database.
#[test]
fn names_and_bytes_that_cannot_be_migrations_are_refused_by_name() {
    let good = b"create table x (id int);".as_slice();
    let cases: [(&str, &[u8], &str); 21] = [
        ("9223372036854775808_max.sql", good, "between 1 and 9223372036854775807"),
        ("0_x.sql", good, "version 0"),
        ("-1_x.sql", good, "not the name of a migration"),
        ("+3_x.sql", good, "not the name of a migration"),
        ("2.1_x.sql", good, "'.' after its number"),
        ("003-x.sql", good, "'-' after its number"),
        ("003.sql", good, "not the name of a migration"),
        ("\u{663}_x.sql", good, "not the name of a migration"),
        ("003_\u{e9}.sql", good, "'\u{e9}' in its name"),
        ("003_x.SQL", good, "must end in .sql"),
        ("003_x.sql~", good, "not the name of a migration"),
        ("003_x.sql.gz", good, "not the name of a migration"),
        ("V2__again.sql", good, "is also the version of"),
        ("2_again.up.sql", good, "is also the version of"),
        ("sub/003_x.sql", good, "is a folder without"),
        ("003_x.sql", b";;; -- nothing", "holds no statement"),
        ("003_x.sql", b"select 1;\0select 2", "holds a zero byte"),
        ("003_x.sql", b"\xff\xfes\0e\0l\0", "is UTF-16"),
        ("003_x.sql", b"select '\xe9';", "is not UTF-8: byte 0xe9"),
        ("003_x.sql", b"select 1;\xc2\xa0select 2;", "U+00A0"),
        ("003_x.sql", b"select 1;\xe2\x80\x8bselect 2;", "U+200B"),
    ];
    for (name, bytes, reason) in cases {
        let shell = Shell::new();
        shell.write_migrations();
        let path = format!("migrations/tenant/{name}");
        shell.write(&path, "");
        std::fs::write(shell.folder().join(&path), bytes).unwrap();
        let answer = shell.run(&["migrate", "--check", "--database-url", "postgresql://nobody@192.0.2.1/none"]);
        let last = name.split('/').next().unwrap();
        assert!(
            answer.code == 2 && said(&answer).contains(reason) && said(&answer).contains(last),
            "{name}: {}",
            said(&answer)
        );
    }
    // The control: the largest version there is, and one with zeros in front.
    for name in ["9223372036854775807_max.sql", "0000000000000000000000000003_x.sql"] {
        let shell = Shell::new();
        shell.write_migrations();
        shell.write(&format!("migrations/tenant/{name}"), "create table x (id int);\n");
        assert_eq!(shell.run(&["migrate:lint"]).code, 0, "{name}");
    }
}

/// goose 73 and 121, golang-migrate 179, glue 186: a file below the newest one is never skipped, and none that is gone.
#[tokio::test]
async fn files_out_of_their_order_and_files_that_are_gone_are_named_and_nothing_runs() {
    let fleet = Fleet::with(&["acme", "globex"], "create table x (id int);\n").await;
    let before = fleet.relations().await;
    fleet.file("005_z.sql", "create table z (id int);\n");
    std::fs::remove_file(fleet.shell.folder().join("migrations/tenant/003_next.sql")).unwrap();
    for command in
        [vec!["migrate"], vec!["migrate", "--check"], vec!["migrate", "--plan"], vec!["tenant:create", "new"]]
    {
        let answer = fleet.shell.run(&command);
        assert!(answer.code == 7 && said(&answer).contains("003_next"), "{command:?}: {}", said(&answer));
        assert_eq!(fleet.relations().await, before, "{command:?}");
    }
    fleet.file("003_next.sql", "create table x (id int);\n");
    fleet.ok(&["migrate", "-q"]);
    fleet.file("004_late.sql", "create table late (id int);\n");
    let before = fleet.relations().await;
    for command in [vec!["migrate"], vec!["migrate", "--check"], vec!["tenant:create", "new"]] {
        let answer = fleet.shell.run(&command);
        assert!(answer.code == 7 && said(&answer).contains("004_late"), "{command:?}: {}", said(&answer));
        assert_eq!(fleet.relations().await, before, "{command:?}");
    }
}

/// Texts that hide from the lints what they do: it fails, and every schema is as it was.
#[tokio::test]
async fn what_hides_from_the_lints_fails_and_undoes_everything() {
    let hidden = [
        "execute 'drop table schema' || '_migrations'",
        "execute format('drop schema %I cascade', current_schema())",
        "execute format('alter schema %I rename to %I', current_schema(), current_schema() || '_z')",
        "perform set_config('session_authorization', 'pg_monitor', false)",
        "perform set_config('ro' || 'le', 'pg_monitor', false)",
        "execute 'set local search' || '_path = public'",
    ];
    for body in hidden {
        for first in ["", "-- cgk:no-transaction\n"] {
            let fleet = Fleet::of(&["acme", "globex"]).await;
            let before = fleet.relations().await;
            let sql = format!("{first}do $$ begin {body}; end $$; create table strayed (id int);\n");
            fleet.file("003_next.sql", &sql);
            for arguments in [vec!["migrate", "-q"], vec!["migrate", "-q", "--no-rehearsal"]] {
                let answer = fleet.shell.run(&arguments);
                assert!(matches!(answer.code, 1 | 2 | 4), "{sql}: {}", said(&answer));
                // Also where the ledger itself is gone.
                let is_gone =
                    body.contains("'_migrations'") || body.contains("drop schema") || body.contains("alter schema");
                if first.is_empty() && is_gone {
                    assert!(said(&answer).contains("003_next.sql"), "{sql}: {}", said(&answer));
                }
            }
            assert!(!fleet.raw.one::<bool>("select to_regclass('public.strayed') is not null").await, "{sql}");
            if first.is_empty() {
                assert_eq!(fleet.relations().await, before, "{sql}");
            }
        }
    }
}
