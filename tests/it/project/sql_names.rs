//! Reads the SQL in the library's own source: every cast and every function that decides something names `pg_catalog`, so that no
//! search path, temporary type or function of a tenant's stands in its place.

use std::{fs, path::Path};

/// Types that a cast of ours may name; written without `pg_catalog` they are looked up by the search path, in `pg_temp` too.
const TYPES: &[&str] = &[
    "text",
    "int",
    "integer",
    "int2",
    "int4",
    "int8",
    "smallint",
    "bigint",
    "bool",
    "boolean",
    "oid",
    "name",
    "char",
    "varchar",
    "regclass",
    "regnamespace",
    "regrole",
    "regtype",
    "regproc",
    "regprocedure",
    "numeric",
    "float4",
    "float8",
    "uuid",
    "json",
    "jsonb",
    "bytea",
    "date",
    "timestamp",
    "timestamptz",
    "interval",
    "inet",
    "xid",
    "xid8",
    "aclitem",
];

/// Functions that are looked up by the search path; all that begin with `pg_` or `has_` are looked for as well.
const FUNCTIONS: &[&str] = &[
    "set_config",
    "current_setting",
    "current_schema",
    "current_database",
    "to_regclass",
    "to_regnamespace",
    "to_regrole",
    "quote_ident",
    "quote_literal",
    "obj_description",
    "col_description",
    "format_type",
    "string_agg",
    "array_agg",
    "unnest",
    "starts_with",
    "aclexplode",
    "acldefault",
    "clock_timestamp",
    "setseed",
    "row_security_active",
    "array_to_string",
    "current_schemas",
    "txid_current",
    "version",
    "sha256",
    "encode",
    "decode",
    "convert_to",
    "regexp_replace",
];

/// The string literals of a Rust file, each with the line it begins on. Comments, characters and lifetimes are skipped.
fn literals(source: &str) -> Vec<(usize, String)> {
    let chars: Vec<char> = source.chars().collect();
    let (mut found, mut at, mut line) = (Vec::new(), 0, 1);
    while at < chars.len() {
        let next = chars.get(at + 1).copied();
        match chars[at] {
            '\n' => line += 1,
            '/' if next == Some('/') => {
                while at < chars.len() && chars[at] != '\n' {
                    at += 1;
                }
                continue;
            }
            '\'' if next == Some('\\') => at += 2 + usize::from(chars.get(at + 2).is_some()),
            '\'' if chars.get(at + 2) == Some(&'\'') => at += 2,
            'r' if matches!(next, Some('"' | '#')) && (at == 0 || !is_word(chars[at - 1])) => {
                let hashes = chars[at + 1..].iter().take_while(|c| **c == '#').count();
                if chars.get(at + 1 + hashes) == Some(&'"') {
                    let (began, mut text) = (line, String::new());
                    at += 2 + hashes;
                    while at < chars.len()
                        && !(chars[at] == '"'
                            && chars[at + 1..].iter().take(hashes).filter(|c| **c == '#').count() == hashes)
                    {
                        line += usize::from(chars[at] == '\n');
                        text.push(chars[at]);
                        at += 1;
                    }
                    at += hashes;
                    found.push((began, text));
                }
            }
            '"' => {
                let (began, mut text) = (line, String::new());
                at += 1;
                while at < chars.len() && chars[at] != '"' {
                    if chars[at] == '\\' {
                        at += 1;
                    }
                    line += usize::from(chars.get(at) == Some(&'\n'));
                    text.extend(chars.get(at));
                    at += 1;
                }
                found.push((began, text));
            }
            _ => {}
        }
        at += 1;
    }
    found
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// What in a piece of SQL is looked up by the search path.
fn unqualified(sql: &str) -> Vec<String> {
    let mut found = Vec::new();
    for (at, _) in sql.match_indices("::") {
        let name: String = sql[at + 2..].chars().take_while(|c| is_word(*c)).collect();
        if TYPES.contains(&name.as_str()) {
            found.push(format!("::{name}"));
        }
    }
    for (at, _) in sql.match_indices('(') {
        let before = &sql[..at];
        let name = &before[before.rfind(|c| !is_word(c)).map_or(0, |end| end + 1)..];
        let qualified = before[..before.len() - name.len()].ends_with(['.', ':', '`']);
        // With several arguments it is syntax, which the server resolves to its own.
        let syntax = name == "unnest" && sql[at..].split(')').next().is_some_and(|arguments| arguments.contains(", $"));
        let looked_up = name.starts_with("pg_") || name.starts_with("has_") || (FUNCTIONS.contains(&name) && !syntax);
        if looked_up && !qualified {
            found.push(format!("{name}("));
        }
    }
    found
}

/// Every file of the library with what it sends to a server; tests and the text that people read are left out.
fn sources(folder: &Path, found: &mut Vec<(String, String)>) {
    for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
        let path = entry.path();
        let name = path.strip_prefix(env!("CARGO_MANIFEST_DIR")).unwrap().to_string_lossy().into_owned();
        if path.is_dir() {
            if !name.ends_with("/tests") {
                sources(&path, found);
            }
        } else if name.ends_with(".sql") {
            found.push((name, fs::read_to_string(&path).unwrap()));
        } else if name.ends_with(".rs") && !name.ends_with("/tests.rs") {
            let text = fs::read_to_string(&path).unwrap();
            let code = text.split("#[cfg(test)]\nmod tests").next().unwrap_or_default();
            for (line, literal) in literals(code) {
                found.push((format!("{name}:{line}"), literal));
            }
        }
    }
}

#[test]
fn our_sql_looks_nothing_up_by_the_search_path() {
    let mut all = Vec::new();
    sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut all);
    assert!(all.len() > 500, "{} pieces: this test proves nothing", all.len());
    let sends = all.iter().filter(|(_, sql)| sql.contains("pg_catalog.")).count();
    assert!(sends > 50, "{sends} pieces of SQL: this test proves nothing");
    let wrong: Vec<String> = all
        .iter()
        .flat_map(|(place, sql)| unqualified(sql).into_iter().map(move |what| format!("{place}: {what}")))
        .filter(|wrong| !ALLOWED.iter().any(|allowed| wrong.starts_with(allowed)))
        .collect();
    assert!(wrong.is_empty(), "{} unqualified:\n{}", wrong.len(), wrong.join("\n"));
}

/// Places that read SQL of others or speak to people.
const ALLOWED: &[&str] = &["src/cli/", "src/sql/", "src/migrate/lint/", "src/testing/", "src/drift/restored.rs:"];

#[test]
fn what_is_looked_up_is_found() {
    assert_eq!(unqualified("select a::text, b::pg_catalog.text, c::public.text"), ["::text"]);
    assert_eq!(
        unqualified("select set_config('a', 'b', true), pg_catalog.set_config('a', 'b', true)"),
        ["set_config("]
    );
    assert_eq!(unqualified("select pg_backend_pid(), has_x(1), my_pg_x()"), ["pg_backend_pid(", "has_x("]);
    let source =
        "let a = \"x::text\"; // \"::oid\"\nlet b = 'c'; let d = r#\"y::\"int\"#; fn f<'a>() {}\nlet e = \"z::bool\";";
    let found: Vec<_> = literals(source);
    assert_eq!(found, [(1, "x::text".into()), (2, "y::\"int".into()), (3, "z::bool".into())]);
}
