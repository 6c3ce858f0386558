//! Files of other tools that hold more than what is to be run: the way back behind the way there, and directives in comments.
//!
//! Directives are lines. Those that part a file are looked for before the text is read as SQL, as their tools do; all others
//! count where they are comments of the text that is left.

mod directive;
mod rollback;

use crate::sql::Statement;
use directive::{Directive, directive, said};
use std::ops::Range;

/// What of a file is to be run.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::migrate) struct UpPart {
    /// The text with all that is not run left blank, byte for byte as long, every line in its place.
    pub(in crate::migrate) text: String,
    /// The tool whose directives part the file.
    pub(in crate::migrate) tool: Option<&'static str>,
}

/// Something wrong in a file, and where it begins.
pub(in crate::migrate) type Fault = (usize, String);

/// Parts a text by the lines that say where the way there and the way back begin.
pub(in crate::migrate) fn up_part(text: &str) -> Result<UpPart, Fault> {
    let mut run: Vec<Range<usize>> = Vec::new();
    // Lines that the server could not read.
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
                return Err((line.start, format!("is a directive of {found} in a file with directives of {other}")));
            }
            (None, false, _) if !implicit => {
                return Err((line.start, format!("begins the way back of {found}, and no line begins the way there")));
            }
            (None, false, _) => {
                run.push(begins..line.start);
                down = Some(line.start);
            }
            (None, true, _) => begins = line.end,
            (Some(_), true, _) => {
                return Err((
                    line.start,
                    format!("begins the way there of {found} a second time; make it a file of its own"),
                ));
            }
            (Some(_), false, Some(_)) => {
                return Err((line.start, format!("begins the way back of {found} a second time")));
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
        return Ok(UpPart { text: text.to_owned(), tool });
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
    // What stands before the first directive, other tools skip in silence.
    match crate::sql::cut(&text[..begins]) {
        Ok(head) if head.statements.is_empty() => Ok(UpPart { text, tool }),
        Ok(head) => {
            let at = head.statements[0].range.start;
            Err((at, format!("stands before the line that begins the way there of {}", tool.unwrap_or_default())))
        }
        Err(error) => Err((error.at, error.problem)),
    }
}

/// What the comments of a text say to other tools than cgk.
#[derive(Debug, Default, PartialEq, Eq)]
pub(in crate::migrate) struct Said {
    /// The file runs without a transaction.
    pub(in crate::migrate) without_transaction: bool,
    /// Directives that cgk does not carry out.
    pub(in crate::migrate) refused: Vec<Fault>,
    /// Comments that look like the heading of a rollback, and the number of the statement behind each.
    pub(in crate::migrate) rollbacks: Vec<(usize, Fault)>,
}

/// Reads the directives in the comments of a text.
///
/// A tool reads a directive in a comment from `--` that is the whole of its line. Elsewhere, in a block comment or behind a
/// statement, none does; there it is no directive, but it may still be the heading of a rollback.
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
        match if whole.starts_with("--") { directive(whole) } else { said(one_line(whole)) } {
            Some(Directive::Refused(tool, problem)) => refuse(tool, problem),
            Some(Directive::NoTransaction) if !is_line => refuse("", NOT_A_LINE),
            Some(Directive::NoTransaction) => found.without_transaction = true,
            Some(Directive::Up(_)) if is_line && says_no_transaction(whole) => found.without_transaction = true,
            _ => {}
        }
    }
    found
}

const NOT_A_LINE: &str = "no tool reads it in a block comment or behind a statement; write it in a line of its own";

/// The text of a block comment of one line; of several lines, nothing.
fn one_line(comment: &str) -> &str {
    let text = rollback::without_marks(comment);
    if text.contains(['\n', '\r']) { "" } else { text }
}

/// The lines of a text without their ends; a carriage return ends one.
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

/// Whether the line that begins the way there says that it runs without a transaction.
fn says_no_transaction(line: &str) -> bool {
    let line = line.trim_end().to_ascii_lowercase();
    line.ends_with("transaction:false") || line.ends_with("notransaction")
}

#[cfg(test)]
mod tests;
