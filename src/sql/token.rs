//! The result of scanning SQL text: statements and their tokens.

use std::ops::Range;

/// One statement of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Statement {
    /// Its range, from its first token to its last, without the semicolon.
    pub(crate) range: Range<usize>,
    /// Its tokens, without comments.
    pub(crate) tokens: Vec<Token>,
}

/// A token, with the details that lints need.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Token {
    /// Its start in the text.
    pub(crate) at: usize,
    /// Its end.
    pub(crate) end: usize,
    pub(crate) kind: SqlTokenKind,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum SqlTokenKind {
    /// A keyword or unquoted name, in lower case as the server writes it: ASCII letters only.
    Word(String),
    /// A name in double quotes, as the server reads it.
    Quoted(String),
    /// The contents of a string, as written.
    Text(String),
    /// Any other character. `0` replaces every number.
    Sign(char),
}

impl Statement {
    /// Returns the lower-case words at the start, up to the first token that is not a word.
    pub(crate) fn leading_words(&self) -> Vec<&str> {
        self.tokens.iter().map_while(|token| token.word()).collect()
    }
}

impl Token {
    pub(crate) fn word(&self) -> Option<&str> {
        match &self.kind {
            SqlTokenKind::Word(word) => Some(word),
            _ => None,
        }
    }

    /// Returns a name, quoted or not.
    pub(crate) fn name(&self) -> Option<&str> {
        match &self.kind {
            SqlTokenKind::Word(name) | SqlTokenKind::Quoted(name) => Some(name),
            _ => None,
        }
    }

    /// Returns the contents of a string.
    pub(crate) fn text(&self) -> Option<&str> {
        match &self.kind {
            SqlTokenKind::Text(text) => Some(text),
            _ => None,
        }
    }

    pub(crate) fn is_sign(&self, sign: char) -> bool {
        self.kind == SqlTokenKind::Sign(sign)
    }
}
