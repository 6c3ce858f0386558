use super::*;
use proptest::prelude::*;

fn statements(text: &str) -> Result<Vec<Statement>, Unreadable> {
    cut(text).map(|cut| cut.statements)
}

fn parts(text: &str) -> Vec<&str> {
    let found = statements(text).unwrap_or_else(|error| panic!("{text:?}: {error:?}"));
    found.into_iter().map(|statement| &text[statement.range]).collect()
}

#[test]
fn semicolons_inside_are_not_ends() {
    for (text, cuts) in [
        ("", vec![]),
        (" ; ;; -- nothing\n/* ; */", vec![]),
        ("select 1", vec!["select 1"]),
        ("select 1; select 2 ;", vec!["select 1", "select 2"]),
        ("select 'a;b', 'it''s;'; x", vec!["select 'a;b', 'it''s;'", "x"]),
        (r"select E'a\';b'; x", vec![r"select E'a\';b'", "x"]),
        (r"select 'a\'; x", vec![r"select 'a\'", "x"]),
        ("select \"a;\"\"b\"; x", vec!["select \"a;\"\"b\"", "x"]),
        ("do $$ begin; end $$; x", vec!["do $$ begin; end $$", "x"]),
        ("do $a$ $$;$b$; $a$; x", vec!["do $a$ $$;$b$; $a$", "x"]),
        ("do $ä$ ; $$ ; $ä$; x", vec!["do $ä$ ; $$ ; $ä$", "x"]),
        ("select $1; x", vec!["select $1", "x"]),
        // Neither has a tag: a name starts with a letter, and has no other characters.
        ("select $1a$; x; $1a$", vec!["select $1a$", "x", "$1a$"]),
        ("select $a-b$; x; $a-b$", vec!["select $a-b$", "x", "$a-b$"]),
        (
            "create procedure p() begin atomic select 1; create function f() returns int begin atomic select 2; end; end; x",
            vec![
                "create procedure p() begin atomic select 1; create function f() returns int begin atomic select 2; end; end",
                "x",
            ],
        ),
        ("select a$b$; select c$b$", vec!["select a$b$", "select c$b$"]),
        ("select 1a$$; select 2", vec!["select 1a$$", "select 2"]),
        ("a -- b;\n c; d", vec!["a -- b;\n c", "d"]),
        ("a /* b; /* c; */ d; */ e; f", vec!["a /* b; /* c; */ d; */ e", "f"]),
        ("create rule r as on insert to t do (a; b); c", vec!["create rule r as on insert to t do (a; b)", "c"]),
        ("-- head\ncreate table t ()", vec!["create table t ()"]),
        ("a)); b", vec!["a))", "b"]),
    ] {
        assert_eq!(parts(text), cuts, "{text:?}");
    }
}

#[test]
fn a_carriage_return_ends_a_comment() {
    assert_eq!(parts("a; -- n\rcommit;\rb -- c\r\n; d"), ["a", "commit", "b", "d"]);
    let text = "-- one\r-- two\r\nx";
    let comments: Vec<&str> = cut(text).unwrap().comments.into_iter().map(|range| &text[range]).collect();
    assert_eq!(comments, ["-- one", "-- two"]);
}

#[test]
fn a_string_goes_on_behind_a_line_end() {
    for (text, cuts) in [
        ("select E'a'\n'b\\'; c'; x", vec!["select E'a'\n'b\\'; c'", "x"]),
        ("select E'a' -- '\r -- c\n\t'b\\'; c'; x", vec!["select E'a' -- '\r -- c\n\t'b\\'; c'", "x"]),
        // Without a line end it is a separate string, in which a backslash has no special meaning.
        ("select E'a' 'b\\'; x", vec!["select E'a' 'b\\'", "x"]),
        ("select E'a' /*\n*/ 'b\\'; x", vec!["select E'a' /*\n*/ 'b\\'", "x"]),
        ("select 'a'\n'b\\'; x", vec!["select 'a'\n'b\\'", "x"]),
        ("select x'0'\n'1;'; n'a;'; U&'b;\\'; x", vec!["select x'0'\n'1;'", "n'a;'", "U&'b;\\'", "x"]),
        ("select 'a'\n; x", vec!["select 'a'", "x"]),
    ] {
        assert_eq!(parts(text), cuts, "{text:?}");
    }
}

#[test]
fn an_atomic_body_ends_where_the_grammar_ends_it() {
    let body = |body: &str| format!("create or replace function f() returns int begin atomic {body} end");
    for inner in [
        "select case when true then 1 end; select 2;",
        "select count(b.end) from b; select b.case from b;",
        "select 1 as end;",
        "select 1 as case;",
        "select (select case when (x) then case a when 1 then 2 end else 0 end);",
        "select 'end;'; /* end; */",
        "",
    ] {
        let (one, two) = (body(inner), "create table z (begin atomic)");
        assert_eq!(parts(&format!("{one}; {two}; end")), [one.as_str(), two, "end"], "{inner}");
    }
    // Elsewhere these words are names.
    assert_eq!(parts("select begin atomic from t; end"), ["select begin atomic from t", "end"]);
    assert_eq!(parts("create view f as select begin atomic; end"), ["create view f as select begin atomic", "end"]);
}

fn names(text: &str) -> Vec<String> {
    statements(text).unwrap()[0].tokens.iter().filter_map(Token::name).map(ToOwned::to_owned).collect()
}

#[test]
fn names_are_what_the_server_makes_of_them() {
    assert_eq!(
        names("ÄnderunG \"Ab\"\"c\" \"\" x$1"),
        ["ÄnderunG".replace('G', "g"), "Ab\"c".into(), String::new(), "x$1".into()]
    );
    assert_eq!(names(r#"U&"d\0061t\+000061\\;\D83D\DE00" u&"d!0061" uescape '!' z"#), [r"data\;😀", "da", "z"]);
    assert_eq!(names("u & \"x\" uescape 'y'"), ["u", "x", "uescape"]);
    assert_eq!(names("1e5 0x1F 1_000 e5 1.e2"), ["e5", "e2"]);
}

#[test]
fn what_does_not_end_is_said() {
    for (text, at, what) in [
        ("x 'a", 2, "a string"),
        ("x E'a\\'", 2, "a string"),
        ("\"a", 0, "a quoted name"),
        ("$$ a", 0, "a dollar-quoted text"),
        ("/* /* */", 0, "a comment"),
        ("a (b (c); d", 2, "a parenthesis"),
        ("create function f() begin atomic select 1; select end; x", 26, "a BEGIN ATOMIC body"),
    ] {
        let error = statements(text).unwrap_err();
        assert_eq!((error.at, error.problem), (at, format!("{what} starts here and does not end")), "{text}");
    }
    let error = statements("select 1;\ncopy t (a) from stdin;\n1\tO'Brien (\n\\.\n").unwrap_err();
    assert!(error.at == 10 && error.problem.starts_with("COPY … FROM STDIN"));
    assert_eq!(parts("copy t from '/x'; copy (select 1) to stdout; x").len(), 3);
}

proptest! {
    #[test]
    fn never_panics_and_ranges_ascend(text in "[a-z';$\"/*\\- \r\nüE&U\\\\()0]{0,60}") {
        if let Ok(found) = statements(&text) {
            let mut last = 0;
            for statement in found {
                prop_assert!(statement.range.start >= last && statement.range.end <= text.len());
                prop_assert!(!text[statement.range.clone()].is_empty());
                last = statement.range.end;
            }
        }
    }
}
