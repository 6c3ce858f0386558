//! Wraps long lines of text at spaces, on a terminal.

use super::style::COMMAND;
use std::io;

/// Returns the width of the terminal on standard output; `None` for a pipe or a file, which get complete lines.
pub(crate) fn width() -> Option<usize> {
    terminal_size::terminal_size_of(io::stdout()).map(|(width, _)| usize::from(width.0))
}

/// Does the same for standard error.
pub(super) fn error_width() -> Option<usize> {
    terminal_size::terminal_size_of(io::stderr()).map(|(width, _)| usize::from(width.0))
}

/// Returns a message whose lines fit into the width. The further lines of a line begin below its text: after a coloured
/// word such as `warning:` at its start, or two columns behind its
/// indentation.
///
/// Commands that users copy, which have a colour or are between backticks, are one word. The lines of an excerpt, which have
/// a bar, and of a block of code, which are indented by at least four spaces, stay as they are.
pub(super) fn message(text: &str, width: Option<usize>) -> String {
    let Some(width) = width else { return text.to_owned() };
    let lines: Vec<String> = text.split('\n').map(|line| message_line(line, width)).collect();
    lines.join("\n")
}

fn message_line(line: &str, width: usize) -> String {
    let plain = anstream::adapter::strip_str(line).to_string();
    let is_excerpt = plain.trim_start_matches([' ', '0', '1', '2', '3', '4', '5', '6', '7', '8', '9']).starts_with('|');
    if plain.chars().count() <= width || plain.starts_with("    ") || is_excerpt {
        return line.to_owned();
    }
    let indent = plain.chars().take_while(|c| *c == ' ').count();
    let words = words(line);
    let coloured = line.find("\u{1b}[0m").filter(|_| line.starts_with('\u{1b}')).map(|end| letters(&line[..end]));
    let lead = match coloured {
        Some(letters) if letters < LEAD_MAX => letters + 1,
        _ if indent > 0 => indent + 2,
        _ => 0,
    };
    let mut lines = String::new();
    fill(&mut lines, 0, words, lead, width);
    lines
}

/// Appends words to a text whose last line has `length` letters. A word that does not fit starts a line, after `indent`
/// spaces.
fn fill<'a>(
    text: &mut String,
    mut length: usize,
    words: impl IntoIterator<Item = &'a str>,
    indent: usize,
    width: usize,
) {
    // The spaces before the word. Several of them are empty words.
    let mut gap = 0;
    for (number, word) in words.into_iter().enumerate() {
        gap += usize::from(number > 0);
        if number > 0 && word.is_empty() {
            continue;
        }
        let letters = letters(word);
        if number > 0 && length > indent && length + gap + letters > width {
            text.push('\n');
            text.extend(std::iter::repeat_n(' ', indent));
            length = indent;
        } else {
            text.extend(std::iter::repeat_n(' ', gap));
            length += gap;
        }
        gap = 0;
        text.push_str(word);
        length += letters;
    }
}

/// Further lines are indented by a coloured first word that is shorter.
const LEAD_MAX: usize = 14;

/// Divides a line at the spaces that are neither in a command's colour nor between backticks.
fn words(line: &str) -> Vec<&str> {
    let (mut words, mut start) = (Vec::new(), 0);
    let (mut is_quoted, mut is_command) = (false, false);
    let command = COMMAND.render().to_string();
    for (at, c) in line.char_indices() {
        match c {
            '`' => is_quoted = !is_quoted,
            // Any other code ends the colour of a command.
            '\u{1b}' => is_command = line[at..].starts_with(&command),
            ' ' if !is_quoted && !is_command => {
                words.push(&line[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    // A backtick without its partner is a character like others.
    if is_quoted {
        return line.split(' ').collect();
    }
    words.push(&line[start..]);
    words
}

fn letters(word: &str) -> usize {
    anstream::adapter::strip_str(word).to_string().chars().count()
}

/// Returns a text with its first line after `lead`, and the other lines indented by the same width. The colours of
/// `lead` do not count. No word is broken, so that it can be copied.
pub(crate) fn hanging(lead: &str, text: &str, width: Option<usize>) -> String {
    let indent = letters(lead);
    let Some(width) = width.filter(|width| *width > indent) else { return format!("{lead}{text}") };
    let mut lines = lead.to_owned();
    fill(&mut lines, indent, text.split(' '), indent, width);
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
        // Two spaces before a word that starts a line do not shift it.
        assert_eq!(hanging("- ", "one  (two three)", Some(12)), "- one  (two\n  three)");
        assert_eq!(hanging("- ", "one  (two three)", Some(8)), "- one\n  (two\n  three)");
        assert_eq!(hanging("- ", text, None), format!("- {text}"));
        assert_eq!(hanging("too wide ", text, Some(9)), format!("too wide {text}"));
    }

    #[test]
    fn a_message_keeps_its_commands_and_excerpts_whole() {
        let command = "Next: \u{1b}[36mcgk migrate --plan\u{1b}[0m shows it, or `cgk migrate --check` does";
        assert_eq!(
            message(command, Some(24)),
            "Next: \u{1b}[36mcgk migrate --plan\u{1b}[0m\nshows it, or\n`cgk migrate --check`\ndoes"
        );
        let warning = "\u{1b}[33mwarn  \u{1b}[0m the name is long\n  hint: it is long too";
        assert_eq!(
            message(warning, Some(16)),
            "\u{1b}[33mwarn  \u{1b}[0m the name\n       is long\n  hint: it is\n    long too"
        );
        for whole in
            ["   12 | select a, b, c from d", "    create table t (id int)", "short", "a_word_without_any_space"]
        {
            assert_eq!(message(whole, Some(12)), whole);
        }
        assert_eq!(message("one ` two three", Some(6)), "one `\ntwo\nthree");
        assert_eq!(message(warning, None), warning);
    }
}
