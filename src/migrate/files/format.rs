//! Reads files of other tools that contain more than the statements to run: a down section after the up section, and
//! directives in comments.
//!
//! Directives are lines. Those that divide a file are searched for before the text is parsed as SQL, as their tools do.
//! All others count only if they are comments of the remaining text.

mod directive;
mod rollback;

use crate::sql::Statement;
use directive::{Directive, directive, said};
use std::ops::Range;

/// The part of a file to run.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::migrate) struct UpPart {
    /// The text in which everything that is not run is blank, with the same length in bytes and the same line numbers.
    pub(in crate::migrate) text: String,
    /// The tool whose directives divide the file.
    pub(in crate::migrate) tool: Option<&'static str>,
    /// Whether it has a down section, which is not run.
    pub(in crate::migrate) has_down: bool,
}

/// A problem in a file, and its position.
pub(in crate::migrate) type Fault = (usize, String);

/// Divides a text by the lines that start the up section and the down section.
pub(in crate::migrate) fn up_part(text: &str) -> Result<UpPart, Fault> {
    let mut run: Vec<Range<usize>> = Vec::new();
    // Lines that the server could not parse.
    let mut blank: Vec<Range<usize>> = Vec::new();
    let (mut tool, mut begins, mut down): (Option<&'static str>, usize, Option<usize>) = (None, 0, None);
    for line in lines(text) {
        let (found, is_up) = match directive(&text[line.clone()]) {
            Some(Directive::Up(found)) => (found, true),
            Some(Directive::Down(found) | Directive::DownOnly(found)) => (found, false),
            _ => continue,
        };
        if text[line.clone()].trim_start().starts_with('#') {
            blank.push(line.clone());
        }
        let implicit = matches!(directive(&text[line.clone()]), Some(Directive::DownOnly(_)));
        match (tool, is_up, down) {
            (Some(other), ..) if other != found => {
                return Err((
                    line.start,
                    format!("is a directive of {found} in a file with directives of {other}; keep those of one tool"),
                ));
            }
            (None, false, _) if !implicit => {
                let why =
                    format!("begins the rollback section of {found}, but no line begins the migration section; add it");
                return Err((line.start, why));
            }
            (None, false, _) => {
                run.push(begins..line.start);
                down = Some(line.start);
            }
            (None, true, _) => begins = line.end,
            (Some(_), true, _) => {
                return Err((
                    line.start,
                    format!("begins the migration section of {found} a second time; move it to a file of its own"),
                ));
            }
            (Some(_), false, Some(_)) => {
                return Err((line.start, format!("begins the rollback section of {found} a second time; keep one")));
            }
            (Some(_), false, None) => {
                run.push(begins..line.start);
                down = Some(line.start);
            }
        }
        tool = Some(found);
    }
    if tool.is_some() && down.is_none() {
        run.push(begins..text.len());
    }
    if tool.is_none() {
        return Ok(UpPart { text: text.to_owned(), tool, has_down: false });
    }
    let runs =
        |at: usize| at < begins && down.is_none_or(|down| at < down) || run.iter().any(|part| part.contains(&at));
    let kept = |at: usize| runs(at) && !blank.iter().any(|line| line.contains(&at));
    let bytes = text.bytes().enumerate().map(|(at, byte)| match byte {
        b'\n' | b'\r' => byte,
        _ if kept(at) => byte,
        _ => b' ',
    });
    let text = String::from_utf8(bytes.collect()).expect("whole lines are kept or left out");
    // Other tools ignore the text before the first directive without a message.
    match crate::sql::cut(&text[..begins]) {
        Ok(head) if head.statements.is_empty() => Ok(UpPart { text, tool, has_down: down.is_some() }),
        Ok(head) => {
            let at = head.statements[0].range.start;
            Err((
                at,
                format!(
                    "is before the line that begins the migration section of {}; move it below",
                    tool.unwrap_or_default()
                ),
            ))
        }
        Err(error) => Err((error.at, error.problem)),
    }
}

/// Directives for other tools in the comments of a text.
#[derive(Debug, Default, PartialEq, Eq)]
pub(in crate::migrate) struct Said {
    /// The file runs without a transaction.
    pub(in crate::migrate) without_transaction: bool,
    /// The tool whose directive says so.
    pub(in crate::migrate) tool: Option<&'static str>,
    /// Directives that cgk does not support.
    pub(in crate::migrate) refused: Vec<Fault>,
    /// Comments that look like the heading of a rollback, and the number of the statement after each.
    pub(in crate::migrate) rollbacks: Vec<(usize, Fault)>,
}

/// Reads the directives in the comments of a text.
///
/// Tools read a directive in a `--` comment that is the only text on its line. In a block comment or after a statement
/// it is not a directive, but it may still be the heading of a rollback.
pub(in crate::migrate) fn directives(text: &str, comments: &[Range<usize>], statements: &[Statement]) -> Said {
    let mut found = Said { rollbacks: rollback::headings(text, comments, statements), ..Said::default() };
    for comment in comments {
        let line_start = text[..comment.start].rfind(['\n', '\r']).map_or(0, |at| at + 1);
        let (before, whole) = (&text[line_start..comment.start], text[comment.clone()].trim());
        let is_line = before.trim().is_empty() && whole.starts_with("--");
        let mut refuse = |tool: &str, problem: &str| {
            let of = if tool.is_empty() { String::new() } else { format!(" of {tool}") };
            found.refused.push((comment.start, format!("{whole:?} is a directive{of}: {problem}")));
        };
        if whole.starts_with("--") && is_unknown_of_cgk(whole) {
            refuse("cgk", OF_CGK);
        }
        match if whole.starts_with("--") { directive(whole) } else { said(one_line(whole)) } {
            Some(Directive::Refused(tool, problem)) => refuse(tool, problem),
            Some(Directive::NoTransaction(_)) if !is_line => refuse("", NOT_A_LINE),
            Some(Directive::NoTransaction(tool)) => {
                found.without_transaction = true;
                found.tool.get_or_insert(tool);
            }
            Some(Directive::Up(_)) if is_line && says_no_transaction(whole) => found.without_transaction = true,
            _ => {}
        }
    }
    found
}

const OF_CGK: &str =
    "only `-- cgk:no-transaction`, in the first line of the file, and `-- cgk:accept LINT REASON` exist";

/// Whether a comment begins with `cgk:` and no known word, or is a known word with another spelling.
fn is_unknown_of_cgk(comment: &str) -> bool {
    let text = comment.trim_start_matches('-').trim();
    let Some((name, rest)) = text.split_once(':').filter(|(name, _)| name.trim().eq_ignore_ascii_case("cgk")) else {
        return false;
    };
    let word = rest.split_whitespace().next().unwrap_or_default();
    // The path of an item of the library.
    if rest.starts_with(':') {
        return false;
    }
    if name == "cgk" && !rest.starts_with(char::is_whitespace) {
        return !(rest.trim() == "no-transaction" || word == "accept");
    }
    // With a space it can be the beginning of a sentence.
    let letters: String = word.chars().filter(char::is_ascii_alphanumeric).collect();
    ["notransaction", "accept"].iter().any(|known| letters.eq_ignore_ascii_case(known))
}

const NOT_A_LINE: &str = "no tool reads it in a block comment or behind a statement; write it in a line of its own";

/// Returns the text of a block comment on one line; empty if it has several lines.
fn one_line(comment: &str) -> &str {
    let text = rollback::without_marks(comment);
    if text.contains(['\n', '\r']) { "" } else { text }
}

/// Returns the lines of a text without their line ends. A carriage return ends a line.
fn lines(text: &str) -> impl Iterator<Item = Range<usize>> + '_ {
    let mut start = 0;
    std::iter::from_fn(move || {
        (start <= text.len()).then(|| {
            let end = text[start..].find(['\n', '\r']).map_or(text.len(), |at| start + at);
            let line = start..end;
            start = end + 1;
            line
        })
    })
}

/// Whether the line that starts the up section says that it runs without a transaction.
fn says_no_transaction(line: &str) -> bool {
    let line = line.trim_end().to_ascii_lowercase();
    line.ends_with("transaction:false") || line.ends_with("notransaction")
}

#[cfg(test)]
mod tests;
