//! What a run has shown, one JSON line for each claim, for the scoreboard.
//!
//! With `CGK_SCOREBOARD` naming a file the lines are appended to it; `scripts/scoreboard.sh` makes the document of them. A
//! test notes what it counted after its own assertions, so a line is there only if the test came that far.

use serde_json::{Value, json};
use std::{fs::OpenOptions, io::Write};

/// So many tries of something that must never go wrong, and how many did.
pub(crate) fn note(row: u32, what: &str, tried: usize, bad: usize, note: &str) {
    write(row, what, tried, bad, note, false);
}

/// So many tries of what must go wrong, or the tests of that row could not see it, and how many did.
pub(crate) fn control(row: u32, what: &str, tried: usize, leaked: usize, note: &str) {
    write(row, what, tried, leaked, note, true);
}

#[expect(clippy::print_stderr, reason = "the test harness shows it when the test fails")]
fn write(row: u32, what: &str, tried: usize, bad: usize, note: &str, control: bool) {
    let name = std::thread::current().name().unwrap_or_default().to_owned();
    let line = json!({
        "row": row, "what": what, "tried": tried, "bad": bad, "note": note, "control": control,
        "seed": std::env::var("CGK_TEST_SEED").ok(), "server": server(), "test": name,
        "target": option_env!("CARGO_CRATE_NAME"),
    });
    eprintln!("scoreboard: {line}");
    let Some(file) = std::env::var_os("CGK_SCOREBOARD").filter(|file| !file.is_empty()) else { return };
    // One write for the whole line: the tests of a binary run side by side.
    let opened = OpenOptions::new().create(true).append(true).open(&file);
    let written = opened.and_then(|mut opened| opened.write_all(format!("{line}\n").as_bytes()));
    written.unwrap_or_else(|error| panic!("{}: {error}", file.display()));
}

/// The version of the private server; nothing is known of one that was named by its address.
fn server() -> Value {
    let server = cgk::testing::TestServer::shared();
    server.local().map_or(Value::Null, |local| local.installation().version.clone().into())
}
