//! Wraps long lines of text at spaces, on a terminal.

use std::io;

/// Returns the width of the terminal on standard output; `None` for a pipe or a file, which get complete lines.
pub(crate) fn width() -> Option<usize> {
    terminal_size::terminal_size_of(io::stdout()).map(|(width, _)| usize::from(width.0))
}

/// Returns a text with its first line after `lead`, and the other lines indented by the same width. The colours of
/// `lead` do not count. No word is broken, so that it can be copied.
pub(crate) fn hanging(lead: &str, text: &str, width: Option<usize>) -> String {
    let indent = anstream::adapter::strip_str(lead).to_string().chars().count();
    let room = match width {
        Some(width) if width > indent => width - indent,
        _ => return format!("{lead}{text}"),
    };
    let (mut lines, mut length) = (lead.to_owned(), 0);
    for word in text.split(' ') {
        let letters = word.chars().count();
        if length > 0 && length + 1 + letters > room {
            lines.push('\n');
            lines.extend(std::iter::repeat_n(' ', indent));
            length = 0;
        } else if length > 0 {
            lines.push(' ');
            length += 1;
        }
        lines.push_str(word);
        length += letters;
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_broken_between_words() {
        let text = "one two three a_word_that_is_longer_than_the_line four";
        assert_eq!(
            hanging("\u{1b}[1m- \u{1b}[0m", text, Some(12)),
            "\u{1b}[1m- \u{1b}[0mone two\n  three\n  a_word_that_is_longer_than_the_line\n  four"
        );
        assert_eq!(hanging("- ", text, None), format!("- {text}"));
        assert_eq!(hanging("too wide ", text, Some(9)), format!("too wide {text}"));
    }
}
