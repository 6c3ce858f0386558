//! Prevents commands for GitHub Actions in the output: a line that starts with `::` or `##[` is a command.

use std::{
    borrow::Cow,
    sync::atomic::{AtomicBool, Ordering},
};

/// Set if the output is for GitHub Actions. The log also reads it.
static READS: AtomicBool = AtomicBool::new(false);

pub(super) fn reads() {
    READS.store(true, Ordering::Relaxed);
}

/// Returns the text without commands, if GitHub Actions reads it.
pub(super) fn harmless(text: &str) -> Cow<'_, str> {
    if READS.load(Ordering::Relaxed) { without_commands(text) } else { Cow::Borrowed(text) }
}

/// Returns the text with `%3A` and `%5B`, GitHub's own escapes of these characters, where a command would start. Spaces
/// and colours before it do not matter.
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
