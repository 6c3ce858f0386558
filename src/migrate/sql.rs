//! Cuts a migration's text into statements and their words, as the server's own scanner would.
//!
//! Enough of PostgreSQL's lexical rules to never mistake a semicolon or a keyword inside a string, a quoted name, a comment,
//! a dollar-quoted body or a `BEGIN ATOMIC` function body for a real one. Nothing is rewritten: a statement is a range of
//! the file's text.

use std::ops::Range;

/// One statement of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Statement {
    /// Where it stands, from its first token to its last; the semicolon is not part of it.
    pub(crate) range: Range<usize>,
    /// Its tokens, comments left out.
    pub(crate) tokens: Vec<Token>,
}

/// A token, as far as lints need it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Token {
    /// Where it starts in the file.
    pub(crate) at: usize,
    pub(crate) kind: TokenKind,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum TokenKind {
    /// A keyword or unquoted name, in lower case.
    Word(String),
    /// A name in double quotes, without them.
    Quoted(String),
    /// A string's contents as written.
    Text(String),
    /// Any other character.
    Sign(char),
}

impl Statement {
    /// The lower-case words at the beginning, up to the first token that is none.
    pub(crate) fn leading_words(&self) -> Vec<&str> {
        self.tokens.iter().map_while(|token| token.word()).collect()
    }

    /// Whether a word occurs outside strings and quotes.
    pub(crate) fn find_word(&self, word: &str) -> Option<&Token> {
        self.tokens.iter().find(|token| token.word() == Some(word))
    }
}

impl Token {
    pub(crate) fn word(&self) -> Option<&str> {
        match &self.kind {
            TokenKind::Word(word) => Some(word),
            _ => None,
        }
    }

    /// A name, quoted or not.
    pub(crate) fn name(&self) -> Option<&str> {
        match &self.kind {
            TokenKind::Word(name) | TokenKind::Quoted(name) => Some(name),
            _ => None,
        }
    }

    pub(crate) fn is_sign(&self, sign: char) -> bool {
        self.kind == TokenKind::Sign(sign)
    }
}

/// Something that begins and does not end; the server would refuse it too, later and with less said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Unclosed {
    pub(crate) at: usize,
    pub(crate) what: &'static str,
}

/// A text, cut.
#[derive(Clone, Debug, Default)]
pub(crate) struct Cut {
    pub(crate) statements: Vec<Statement>,
    /// Where the `--` comments stand, to the end of their lines.
    pub(crate) comments: Vec<Range<usize>>,
}

/// Cuts a text into its statements, and finds its comments.
pub(crate) fn cut(text: &str) -> Result<Cut, Unclosed> {
    let mut found = Vec::new();
    let mut tokens: Vec<Token> = Vec::new();
    let mut end = 0;
    let mut nesting = Nesting::default();
    let mut rest = Scanner { text, at: 0, comments: Vec::new() };
    while let Some((token, token_end)) = rest.next_token()? {
        if token.is_sign(';') && nesting.is_outermost() {
            close(&mut found, &mut tokens, end);
            nesting = Nesting::default();
            continue;
        }
        nesting.see(&tokens, &token);
        end = token_end;
        tokens.push(token);
    }
    if let Some(at) = nesting.parentheses.first() {
        // Sent as it is, it would swallow what follows the file in its message.
        return Err(Unclosed { at: *at, what: "a parenthesis" });
    }
    close(&mut found, &mut tokens, end);
    Ok(Cut { statements: found, comments: rest.comments })
}

/// Cuts a text into its statements.
#[cfg(test)]
pub(crate) fn statements(text: &str) -> Result<Vec<Statement>, Unclosed> {
    cut(text).map(|cut| cut.statements)
}

fn close(found: &mut Vec<Statement>, tokens: &mut Vec<Token>, end: usize) {
    if let Some(first) = tokens.first() {
        found.push(Statement { range: first.at..end, tokens: std::mem::take(tokens) });
    }
}

/// How deep inside parentheses and `BEGIN ATOMIC … END` the scanner is.
#[derive(Default)]
struct Nesting {
    /// Where the open ones stand.
    parentheses: Vec<usize>,
    /// Open `begin atomic` and, inside one, open `case`: both close with `end`.
    blocks: usize,
}

impl Nesting {
    fn is_outermost(&self) -> bool {
        self.parentheses.is_empty() && self.blocks == 0
    }

    fn see(&mut self, before: &[Token], token: &Token) {
        match &token.kind {
            TokenKind::Sign('(') => self.parentheses.push(token.at),
            TokenKind::Sign(')') => drop(self.parentheses.pop()),
            TokenKind::Word(word) => match word.as_str() {
                "atomic" if before.last().and_then(Token::word) == Some("begin") => self.blocks += 1,
                "case" if self.blocks > 0 => self.blocks += 1,
                "end" if self.blocks > 0 => self.blocks -= 1,
                _ => {}
            },
            _ => {}
        }
    }
}

struct Scanner<'a> {
    text: &'a str,
    at: usize,
    comments: Vec<Range<usize>>,
}

impl Scanner<'_> {
    fn rest(&self) -> &str {
        &self.text[self.at..]
    }

    /// The next token and where it ends.
    fn next_token(&mut self) -> Result<Option<(Token, usize)>, Unclosed> {
        self.skip_blank()?;
        let at = self.at;
        let Some(first) = self.rest().chars().next() else { return Ok(None) };
        let kind = match first {
            '\'' => TokenKind::Text(self.string(Escapes::Doubled)?),
            'e' | 'E' if self.rest()[1..].starts_with('\'') => {
                self.at += 1;
                TokenKind::Text(self.string(Escapes::Backslash)?)
            }
            '"' => TokenKind::Quoted(self.delimited('"', Escapes::Doubled, "a quoted name")?),
            '$' => match self.dollar_tag() {
                Some(tag) => TokenKind::Text(self.dollar_quoted(&tag)?),
                None => self.sign('$'),
            },
            c if is_word_start(c) => {
                let length = self.rest().find(|c: char| !is_word_part(c)).unwrap_or(self.rest().len());
                let word = self.rest()[..length].to_lowercase();
                self.at += length;
                TokenKind::Word(word)
            }
            c if c.is_ascii_digit() => {
                // `1.5e3` and `$1` hold no name; swallowing letters keeps `1e3` from looking like one.
                let length = self
                    .rest()
                    .find(|c: char| !c.is_ascii_alphanumeric() && c != '.' && c != '_')
                    .unwrap_or(self.rest().len());
                self.at += length;
                TokenKind::Sign('0')
            }
            c => self.sign(c),
        };
        Ok(Some((Token { at, kind }, self.at)))
    }

    fn sign(&mut self, sign: char) -> TokenKind {
        self.at += sign.len_utf8();
        TokenKind::Sign(sign)
    }

    fn skip_blank(&mut self) -> Result<(), Unclosed> {
        loop {
            let blank = self.rest().len() - self.rest().trim_start_matches(is_blank).len();
            self.at += blank;
            if self.rest().starts_with("--") {
                let start = self.at;
                self.at += self.rest().find('\n').unwrap_or(self.rest().len());
                self.comments.push(start..self.at);
            } else if self.rest().starts_with("/*") {
                self.block_comment()?;
            } else {
                return Ok(());
            }
        }
    }

    /// Block comments nest in PostgreSQL.
    fn block_comment(&mut self) -> Result<(), Unclosed> {
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
                    return Ok(());
                }
            } else {
                self.at += self.rest().chars().next().map_or(1, char::len_utf8);
            }
        }
        Err(Unclosed { at: start, what: "a comment" })
    }

    fn string(&mut self, escapes: Escapes) -> Result<String, Unclosed> {
        self.delimited('\'', escapes, "a string")
    }

    fn delimited(&mut self, quote: char, escapes: Escapes, what: &'static str) -> Result<String, Unclosed> {
        let start = self.at;
        let mut chars = self.text[start + 1..].char_indices().peekable();
        while let Some((offset, c)) = chars.next() {
            if c == '\\' && escapes == Escapes::Backslash {
                chars.next();
            } else if c == quote {
                if chars.peek().is_some_and(|(_, next)| *next == quote) {
                    chars.next();
                    continue;
                }
                let content = self.text[start + 1..start + 1 + offset].to_owned();
                self.at = start + 1 + offset + 1;
                return Ok(content);
            }
        }
        Err(Unclosed { at: start, what })
    }

    /// `$$` or `$name$` at the current place; a `$1` is a parameter.
    fn dollar_tag(&self) -> Option<String> {
        let inner = &self.rest()[1..];
        let end = inner.find('$')?;
        let name = &inner[..end];
        let valid =
            name.is_empty() || (name.starts_with(is_word_start) && name.chars().all(|c| is_word_part(c) && c != '$'));
        valid.then(|| format!("${name}$"))
    }

    fn dollar_quoted(&mut self, tag: &str) -> Result<String, Unclosed> {
        let start = self.at;
        let body = start + tag.len();
        let Some(length) = self.text[body..].find(tag) else {
            return Err(Unclosed { at: start, what: "a dollar-quoted text" });
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

/// The server's own list of blanks; a no-break space is none of them.
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
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parts(text: &str) -> Vec<&str> {
        statements(text).unwrap().into_iter().map(|statement| &text[statement.range]).collect()
    }

    #[test]
    fn semicolons_inside_are_not_ends() {
        for (text, cuts) in [
            ("", vec![]),
            (" ; ;; -- nothing\n/* ; */", vec![]),
            ("select 1", vec!["select 1"]),
            ("select 1; select 2 ;", vec!["select 1", "select 2"]),
            ("select 'a;b', 'it''s;'; x", vec!["select 'a;b', 'it''s;'", "x"]),
            (r"select E'a\';b'; x", vec![r"select E'a\';b'", "x"]),
            (r"select 'a\'; x", vec![r"select 'a\'", "x"]),
            ("select \"a;\"\"b\"; x", vec!["select \"a;\"\"b\"", "x"]),
            ("do $$ begin; end $$; x", vec!["do $$ begin; end $$", "x"]),
            ("do $a$ $$;$b$; $a$; x", vec!["do $a$ $$;$b$; $a$", "x"]),
            ("select $1; x", vec!["select $1", "x"]),
            ("a -- b;\n c; d", vec!["a -- b;\n c", "d"]),
            ("a /* b; /* c; */ d; */ e; f", vec!["a /* b; /* c; */ d; */ e", "f"]),
            ("create rule r as on insert to t do (a; b); c", vec!["create rule r as on insert to t do (a; b)", "c"]),
            (
                "create function f() returns int begin atomic select case when true then 1 end; select 2; end; x",
                vec![
                    "create function f() returns int begin atomic select case when true then 1 end; select 2; end",
                    "x",
                ],
            ),
            ("-- head\ncreate table t ()", vec!["create table t ()"]),
        ] {
            assert_eq!(parts(text), cuts, "{text:?}");
        }
    }

    #[test]
    fn what_does_not_end_is_said() {
        for (text, at, what) in [
            ("x 'a", 2, "a string"),
            ("\"a", 0, "a quoted name"),
            ("$$ a", 0, "a dollar-quoted text"),
            ("/* /* */", 0, "a comment"),
            ("a (b (c); d", 2, "a parenthesis"),
        ] {
            assert_eq!(statements(text).unwrap_err(), Unclosed { at, what });
        }
    }

    proptest! {
        #[test]
        fn never_panics_and_ranges_ascend(text in "[a-z';$\"/*\\- \nüE\\\\()0]{0,60}") {
            if let Ok(found) = statements(&text) {
                let mut last = 0;
                for statement in found {
                    prop_assert!(statement.range.start >= last && statement.range.end <= text.len());
                    prop_assert!(!text[statement.range.clone()].is_empty());
                    last = statement.range.end;
                }
            }
        }
    }
}
