//! Splits a text into statements and their tokens by the rules of PostgreSQL's own scanner (`scan.l`).
//!
//! Strings, quoted names, comments, dollar-quoted texts and `BEGIN ATOMIC` bodies hide semicolons and keywords exactly
//! as they do for the server. Nothing is rewritten: a statement is a range of the text. Strings are read as with
//! `standard_conforming_strings = on`. cgk's sessions have this setting, and files must not change it.

use super::{
    names,
    token::{SqlTokenKind, Statement, Token},
};
use std::ops::Range;

/// Why a text cannot be scanned to its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Unreadable {
    pub(crate) at: usize,
    pub(crate) problem: String,
}

impl Unreadable {
    fn unclosed(at: usize, what: &str) -> Self {
        Self { at, problem: format!("{what} starts here and does not end") }
    }
}

/// A split text.
#[derive(Clone, Debug, Default)]
pub(crate) struct Cut {
    pub(crate) statements: Vec<Statement>,
    /// The ranges of the comments: from `--` to the end of the line, and `/* … */`.
    pub(crate) comments: Vec<Range<usize>>,
}

/// Splits a text into its statements, and finds its comments.
pub(crate) fn cut(text: &str) -> Result<Cut, Unreadable> {
    let mut found = Vec::new();
    let mut tokens: Vec<Token> = Vec::new();
    let mut nesting = Nesting::default();
    let mut scanner = Scanner { text, at: 0, number_end: None, comments: Vec::new() };
    while let Some(token) = scanner.next_token()? {
        if token.is_sign(';') && nesting.is_outermost() {
            close(&mut found, &mut tokens);
            nesting = Nesting::default();
            if let Some(at) = found.last().and_then(data_follows) {
                let problem = "COPY … FROM STDIN needs a client that feeds it the lines below; write INSERT instead \
                               (pg_dump --inserts does)";
                return Err(Unreadable { at, problem: problem.into() });
            }
            continue;
        }
        nesting.see(&tokens, &token);
        tokens.push(token);
        names::apply_uescape(text, &mut tokens);
    }
    if let Some(at) = nesting.parentheses.first() {
        // If it were sent unchanged, the text after the file in the message would become a part of it.
        return Err(Unreadable::unclosed(*at, "a parenthesis"));
    }
    if let Some((at, _)) = nesting.blocks.first() {
        return Err(Unreadable::unclosed(*at, "a BEGIN ATOMIC body"));
    }
    close(&mut found, &mut tokens);
    Ok(Cut { statements: found, comments: scanner.comments })
}

fn close(found: &mut Vec<Statement>, tokens: &mut Vec<Token>) {
    if let (Some(first), Some(last)) = (tokens.first(), tokens.last()) {
        found.push(Statement { range: first.at..last.end, tokens: std::mem::take(tokens) });
    }
}

/// Returns the position of a COPY that is followed by data. An SQL scanner cannot continue there.
fn data_follows(statement: &Statement) -> Option<usize> {
    let first = statement.tokens.first()?;
    let from_client =
        statement.tokens.windows(2).any(|pair| pair[0].word() == Some("from") && pair[1].word() == Some("stdin"));
    (first.word() == Some("copy") && from_client).then_some(first.at)
}

/// The nesting depth of parentheses and `BEGIN ATOMIC … END`.
#[derive(Default)]
struct Nesting {
    /// The positions of the open parentheses.
    parentheses: Vec<usize>,
    /// The position of each open `begin atomic`, and the number of parentheses that were open there.
    blocks: Vec<(usize, usize)>,
}

impl Nesting {
    fn is_outermost(&self) -> bool {
        self.parentheses.is_empty() && self.blocks.is_empty()
    }

    fn see(&mut self, before: &[Token], token: &Token) {
        let depth = self.parentheses.len();
        match &token.kind {
            SqlTokenKind::Sign('(') => self.parentheses.push(token.at),
            // The server refuses a parenthesis without an opening one. It closes no block.
            SqlTokenKind::Sign(')') if self.blocks.last().is_none_or(|(_, open)| *open < depth) => {
                self.parentheses.pop();
            }
            SqlTokenKind::Word(word) => match word.as_str() {
                "atomic" if before.last().and_then(Token::word) == Some("begin") && makes_routine(before) => {
                    self.blocks.push((token.at, depth));
                }
                // In the grammar, END is at the start of a statement of the body, where no name and no CASE can end.
                "end"
                    if self.blocks.last().is_some_and(|(at, open)| {
                        *open == depth && before.last().is_some_and(|last| last.is_sign(';') || last.at == *at)
                    }) =>
                {
                    self.blocks.pop();
                }
                _ => {}
            },
            _ => {}
        }
    }
}

/// Whether a statement, or one inside a `begin atomic`, creates a function or procedure. Elsewhere, `begin atomic` are
/// names.
fn makes_routine(tokens: &[Token]) -> bool {
    let start = tokens.iter().rposition(|token| token.is_sign(';')).map_or(0, |at| at + 1);
    let words: Vec<&str> = tokens[start..].iter().map_while(Token::word).take(4).collect();
    let (["create", "or", "replace", words @ ..] | ["create", words @ ..]) = words.as_slice() else {
        // The first statement of an outer body.
        return tokens[start..].iter().any(|token| token.word() == Some("create"));
    };
    matches!(words.first(), Some(&"function" | &"procedure"))
}

struct Scanner<'a> {
    text: &'a str,
    at: usize,
    /// The end of the last token, if it was a number. Letters directly after it are not a name.
    number_end: Option<usize>,
    comments: Vec<Range<usize>>,
}

impl Scanner<'_> {
    fn rest(&self) -> &str {
        &self.text[self.at..]
    }

    /// Returns the next token.
    fn next_token(&mut self) -> Result<Option<Token>, Unreadable> {
        self.skip_blank()?;
        let at = self.at;
        let Some(first) = self.rest().chars().next() else { return Ok(None) };
        let rest = self.rest().as_bytes();
        let quote_follows = rest.get(1) == Some(&b'\'');
        let behind_u = |quote: u8| rest.get(1) == Some(&b'&') && rest.get(2) == Some(&quote);
        let kind = match first {
            '\'' => SqlTokenKind::Text(self.string(0, Escapes::Doubled)?),
            'e' | 'E' if quote_follows => SqlTokenKind::Text(self.string(1, Escapes::Backslash)?),
            'n' | 'N' | 'b' | 'B' | 'x' | 'X' if quote_follows => SqlTokenKind::Text(self.string(1, Escapes::Doubled)?),
            'u' | 'U' if behind_u(b'\'') => SqlTokenKind::Text(self.string(2, Escapes::Doubled)?),
            'u' | 'U' if behind_u(b'"') => SqlTokenKind::Quoted(names::unescape(&self.quoted_name(2)?, '\\').or_raw()),
            '"' => SqlTokenKind::Quoted(self.quoted_name(0)?),
            '$' => match self.dollar_tag() {
                Some(tag) => SqlTokenKind::Text(self.dollar_quoted(&tag)?),
                None => self.sign('$'),
            },
            c if is_word_start(c) => {
                let length = self.rest().find(|c: char| !is_word_part(c)).unwrap_or(self.rest().len());
                let word = self.rest()[..length].to_ascii_lowercase();
                self.at += length;
                // `1e5`, `0x1f`, `1_000`.
                if self.number_end == Some(at) { SqlTokenKind::Sign('0') } else { SqlTokenKind::Word(word) }
            }
            c if c.is_ascii_digit() => {
                let length = self.rest().find(|c: char| !c.is_ascii_digit()).unwrap_or(self.rest().len());
                self.at += length;
                SqlTokenKind::Sign('0')
            }
            c => self.sign(c),
        };
        self.number_end = (kind == SqlTokenKind::Sign('0')).then_some(self.at);
        Ok(Some(Token { at, end: self.at, kind }))
    }

    fn sign(&mut self, sign: char) -> SqlTokenKind {
        self.at += sign.len_utf8();
        SqlTokenKind::Sign(sign)
    }

    fn skip_blank(&mut self) -> Result<(), Unreadable> {
        loop {
            let blank = self.rest().len() - self.rest().trim_start_matches(is_blank).len();
            self.at += blank;
            if self.rest().starts_with("--") {
                let start = self.at;
                self.at += line_length(self.rest());
                self.comments.push(start..self.at);
            } else if self.rest().starts_with("/*") {
                self.block_comment()?;
            } else {
                return Ok(());
            }
        }
    }

    /// Skips a block comment. Block comments nest in PostgreSQL.
    fn block_comment(&mut self) -> Result<(), Unreadable> {
        let start = self.at;
        let mut depth = 0usize;
        while self.at < self.text.len() {
            if self.rest().starts_with("/*") {
                depth += 1;
                self.at += 2;
            } else if self.rest().starts_with("*/") {
                depth -= 1;
                self.at += 2;
                if depth == 0 {
                    self.comments.push(start..self.at);
                    return Ok(());
                }
            } else {
                self.at += self.rest().chars().next().map_or(1, char::len_utf8);
            }
        }
        Err(Unreadable::unclosed(start, "a comment"))
    }

    /// Reads a string whose quote follows a prefix, with all its continuations.
    fn string(&mut self, prefix: usize, escapes: Escapes) -> Result<String, Unreadable> {
        let start = self.at;
        self.at += prefix;
        let mut content = String::new();
        loop {
            content.push_str(&self.delimited('\'', escapes).ok_or_else(|| Unreadable::unclosed(start, "a string"))?);
            match continuation(self.rest()) {
                Some(length) => self.at += length,
                None => return Ok(content),
            }
        }
    }

    /// Reads a name in double quotes after a prefix, and decodes doubled quotes.
    fn quoted_name(&mut self, prefix: usize) -> Result<String, Unreadable> {
        let start = self.at;
        self.at += prefix;
        let name = self.delimited('"', Escapes::Doubled);
        name.map(|name| name.replace("\"\"", "\"")).ok_or_else(|| Unreadable::unclosed(start, "a quoted name"))
    }

    /// Reads the text between the quote at the current position and its end.
    fn delimited(&mut self, quote: char, escapes: Escapes) -> Option<String> {
        let start = self.at + quote.len_utf8();
        let mut chars = self.text[start..].char_indices().peekable();
        while let Some((offset, c)) = chars.next() {
            if c == '\\' && escapes == Escapes::Backslash {
                chars.next();
            } else if c == quote && chars.next_if(|(_, next)| *next == quote).is_none() {
                self.at = start + offset + quote.len_utf8();
                return Some(self.text[start..start + offset].to_owned());
            }
        }
        None
    }

    /// Returns `$$` or `$name$` at the current position. A `$1` is a parameter.
    fn dollar_tag(&self) -> Option<String> {
        let inner = &self.rest()[1..];
        let end = inner.find('$')?;
        let name = &inner[..end];
        let valid =
            name.is_empty() || (name.starts_with(is_word_start) && name.chars().all(|c| is_word_part(c) && c != '$'));
        valid.then(|| format!("${name}$"))
    }

    fn dollar_quoted(&mut self, tag: &str) -> Result<String, Unreadable> {
        let start = self.at;
        let body = start + tag.len();
        let Some(length) = self.text[body..].find(tag) else {
            return Err(Unreadable::unclosed(start, "a dollar-quoted text"));
        };
        self.at = body + length + tag.len();
        Ok(self.text[body..body + length].to_owned())
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Escapes {
    Doubled,
    Backslash,
}

/// Returns the number of bytes between a string's closing quote and the opening quote of its continuation: spaces and
/// `--` comments, with at least one line end. The comment before the first line end may directly follow the quote.
fn continuation(rest: &str) -> Option<usize> {
    let mut at = 0;
    let mut lines = 0usize;
    loop {
        let here = &rest[at..];
        match here.as_bytes().first()? {
            b'\n' | b'\r' => {
                lines += 1;
                at += 1;
            }
            b' ' | b'\t' | b'\x0b' | b'\x0c' => at += 1,
            b'-' if here.starts_with("--") => at += line_length(here),
            b'\'' if lines > 0 => return Some(at),
            _ => return None,
        }
    }
}

/// Returns the length of a line without its line end. For the server, a carriage return also ends a comment.
fn line_length(text: &str) -> usize {
    text.find(['\n', '\r']).unwrap_or(text.len())
}

/// Whether a character is a space for the server. Its list does not include the no-break space.
fn is_blank(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\n' | '\r' | '\x0b' | '\x0c')
}

fn is_word_start(c: char) -> bool {
    c.is_ascii_alphabetic() || c == '_' || !c.is_ascii()
}

fn is_word_part(c: char) -> bool {
    is_word_start(c) || c.is_ascii_digit() || c == '$'
}

#[cfg(test)]
mod tests;
