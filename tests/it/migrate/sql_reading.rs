//! What cgk reads as a statement is what the server reads as one: generated texts, and the server is asked.

use crate::sandbox::{Raw, rounds, seeded};
use cgk::{
    migrate::{Migrations, Set},
    testing::TestServer,
};
use rand::{RngExt as _, rngs::StdRng};

const GAPS: &[&str] = &[
    " ",
    "\n",
    "\t",
    "\r",
    "\r\n",
    " -- c; '\n",
    "--\r",
    " -- \" $$ /*\r\n",
    "/* ; ' */",
    "/* a /* b; */ \" $$ */",
    "/**/",
    "/***//*/**/*/",
    " \u{c}",
];

const LITERALS: &[&str] = &[
    "'a;b'",
    "'it''s;'",
    r"E'\';'",
    r"E'\\'",
    "E'a'\n'b\\';'",
    "E'a' -- x;\r\n  'b\\''",
    "E'a'\r--'\n'\\';'",
    "$$;'$$",
    "$ä$ ; $$ $ä$",
    "$_1$ $1$ ; $_1$",
    r"U&'\0061;'",
    "U&'!0061;' UESCAPE '!'",
    r"'\'",
    "n'x;'",
    "B'01'",
    "X'1F'\n'01'",
    "1e5",
    "1.5",
    ".5e-3",
    "'a'\n';b'",
    "''",
    "''''",
    "(array[1, 2])[1:2]",
    "-1--;\n",
    "2*-- ;\r3",
    "(case when true then 1 end)",
    "@ -5",
];

const NAMES: &[&str] = &[
    "a",
    "\"a;b\"",
    r#"U&"d\0061;""#,
    "ä$1",
    "\"q\"\"q;\"",
    "_x",
    "\"end\"",
    "\"$$\"",
    "U&\"!0061;\" UESCAPE '!'",
    "\"--\"",
    "\"/*\"",
    "atomic",
];

/// `0` is a gap, `\u{1}` a literal, `\u{2}` a name.
const STATEMENTS: &[&str] = &[
    "select0\u{1}0as0\u{2}",
    "select0\u{1}0,0\u{1}0",
    "do0$x$ begin perform true;0end $x$",
    "create or replace function pg_temp.f() returns int language sql0begin0atomic0select case when true then 9 end;0select 2;0end",
    "create or replace function pg_temp.g() returns bigint language sql begin atomic0select count(b.end) from0(select 1 as end) b;0end",
    "create or replace function pg_temp.h() returns int language sql begin atomic select0(select 1 as0case);0end",
    "create or replace function pg_temp.i() returns text language sql as0$b$ select ';'::text;0$b$",
    "set local application_name0=0'a;b'",
    "select 1 as0end0",
    "",
];

fn generated(random: &mut StdRng) -> String {
    let count = random.random_range(1..6);
    let mut pick = |from: &[&'static str]| from[random.random_range(0..from.len())];
    let mut text = String::new();
    for _ in 0..count {
        for c in pick(STATEMENTS).chars() {
            match c {
                '0' => text.push_str(pick(GAPS)),
                '\u{1}' => text.push_str(pick(LITERALS)),
                '\u{2}' => text.push_str(pick(NAMES)),
                c => text.push(c),
            }
        }
        text.push_str(pick(GAPS));
        // A comment may be open to the end of its line.
        text.push_str("\n;");
    }
    text + pick(GAPS) + "\nselect 1"
}

/// The statements of a text as cgk reads it.
fn read(text: &str) -> Result<Vec<String>, cgk::Error> {
    let migrations = Migrations::bundled().with_file(Set::Tenant, "900_x.sql", text)?;
    let file = migrations.set(Set::Tenant).files().last().unwrap();
    Ok(file.statement_texts().map(ToOwned::to_owned).collect())
}

#[tokio::test]
async fn our_statements_are_the_servers() {
    let database = TestServer::shared().database().await.unwrap();
    let raw = Raw::on(&database).await;
    let mut random = seeded("our_statements_are_the_servers");
    let mut statements = 0;
    for _ in 0..rounds(100) {
        let text = generated(&mut random);
        let pieces = read(&text).unwrap_or_else(|error| panic!("{text:?}: {error:?}"));
        let completed = raw.completed(&text).await.unwrap_or_else(|error| panic!("{text:?}: {error:?}"));
        assert_eq!(pieces.len(), completed, "{text:?}\n{pieces:#?}");
        for piece in &pieces {
            assert_eq!(raw.completed(piece).await.ok(), Some(1), "{piece:?} of {text:?}");
        }
        statements += pieces.len();
    }
    assert!(statements > 200, "{statements}");
}

#[tokio::test]
async fn of_no_text_is_a_piece_several_statements() {
    const SIGNS: &[&str] = &[
        "'",
        "\"",
        "$",
        "$$",
        "$a$",
        ";",
        ";",
        "\n",
        "\r",
        " ",
        "--",
        "/*",
        "*/",
        "E'",
        "U&'",
        "U&\"",
        "\\",
        "(",
        ")",
        "1",
        "a",
        "e",
        "begin atomic",
        " end",
        "create function f()",
        "select",
        "case",
        "ä",
        "x'",
        "'\n'",
        "''",
        "[",
        "1e5$$",
        ":",
        ".",
        "uescape '!'",
    ];
    let database = TestServer::shared().database().await.unwrap();
    let raw = Raw::on(&database).await;
    // The control: the server tells several from one.
    assert_eq!(raw.reads_several("select 1; select nothing").await, Some(true));
    assert_eq!(raw.reads_several("select nothing").await, Some(false));
    let mut random = seeded("of_no_text_is_a_piece_several_statements");
    let (mut whole, mut told) = (0, 0);
    for _ in 0..rounds(500) {
        let mut text: String =
            (0..random.random_range(2..12)).map(|_| SIGNS[random.random_range(0..SIGNS.len())]).collect();
        if random.random() {
            text = format!("select {text}");
        }
        let Ok(pieces) = read(&text) else { continue };
        whole += 1;
        if let Some(several) = raw.reads_several(&text).await {
            assert_eq!(several, pieces.len() > 1, "{text:?} {pieces:?}");
            told += 1;
        }
        for piece in &pieces {
            assert_ne!(raw.reads_several(piece).await, Some(true), "{piece:?} of {text:?}");
        }
    }
    assert!(whole > 15 && told > 1, "{whole} {told}");
}
