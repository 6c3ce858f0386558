//! Colours, and the escaping of texts from other sources. Whether colours are shown is decided when text is written.

use clap::builder::styling::{AnsiColor, Style, Styles};
use std::fmt::Display;

pub(crate) const HEADING: Style = Style::new().bold();
pub(crate) const COMMAND: Style = AnsiColor::Cyan.on_default();
pub(crate) const FAINT: Style = Style::new().dimmed();
pub(crate) const GOOD: Style = AnsiColor::Green.on_default();
pub(crate) const WARNING: Style = AnsiColor::Yellow.on_default().bold();
pub(crate) const BAD: Style = AnsiColor::Red.on_default().bold();

/// The colours of the help.
pub(crate) const HELP: Styles = Styles::styled()
    .header(Style::new().bold())
    .usage(Style::new().bold())
    .literal(AnsiColor::Cyan.on_default())
    .placeholder(Style::new())
    .error(BAD)
    .valid(GOOD)
    .invalid(WARNING);

pub(crate) fn paint(style: Style, text: impl Display) -> String {
    format!("{style}{text}{style:#}")
}

/// Returns a text from another source (a tenant's name, a server's message) without characters that move the cursor or
/// change colours.
pub(crate) fn sanitize(text: &str) -> String {
    let mut clean = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\n' | '\t' => clean.push(c),
            // Characters that change the direction of writing can make a line look like another text.
            '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => clean.extend(c.escape_unicode()),
            c if c.is_control() => clean.extend(c.escape_default()),
            c => clean.push(c),
        }
    }
    clean
}

/// Returns a text such as `1 tenant` or `2 tenants`.
pub(crate) fn count(number: usize, noun: &str) -> String {
    if number == 1 { format!("1 {noun}") } else { format!("{number} {noun}s") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_cannot_steer_the_terminal() {
        assert_eq!(sanitize("a\u{1b}[31mb\r\u{202e}é"), "a\\u{1b}[31mb\\r\\u{202e}é");
    }
}
