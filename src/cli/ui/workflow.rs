//! What GitHub Actions reads in the output of a step: a line that begins with `::` is a command to it, and so is `##[`.

use std::{
    borrow::Cow,
    sync::atomic::{AtomicBool, Ordering},
};

/// Set if the answer is for GitHub Actions; also the log asks.
static READS: AtomicBool = AtomicBool::new(false);

pub(super) fn reads() {
    READS.store(true, Ordering::Relaxed);
}

/// The text without commands, if GitHub Actions reads it.
pub(super) fn harmless(text: &str) -> Cow<'_, str> {
    if READS.load(Ordering::Relaxed) { without_commands(text) } else { Cow::Borrowed(text) }
}

/// The text with `%3A` and `%5B`, as GitHub itself writes these characters, where a command would begin. A line begins after
/// blanks and colours.
fn without_commands(text: &str) -> Cow<'_, str> {
    if !text.contains("::") && !text.contains("##[") {
        return Cow::Borrowed(text);
    }
    let line = |line: &str| {
        let is_command = anstream::adapter::strip_str(line).to_string().trim_start().starts_with("::");
        let line = if is_command { line.replacen("::", "%3A:", 1) } else { line.to_owned() };
        line.replace("##[", "##%5B")
    };
    Cow::Owned(text.split_inclusive(['\n', '\r']).map(line).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_line_begins_with_a_command() {
        for (text, harmless) in [
            ("a::b\n c :: d", "a::b\n c :: d"),
            ("::error::x", "%3A:error::x"),
            ("x\n::warning::a::b\n", "x\n%3A:warning::a::b\n"),
            ("x\r\n \t::stop::\r::y", "x\r\n \t%3A:stop::\r%3A:y"),
            ("\u{1b}[1m::error::x\u{1b}[0m", "\u{1b}[1m%3A:error::x\u{1b}[0m"),
            ("x ##[error]y", "x ##%5Berror]y"),
        ] {
            assert_eq!(without_commands(text), harmless);
        }
    }
}
