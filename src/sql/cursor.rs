//! Reads a statement's tokens from left to right.

use super::{SqlTokenKind, Token, name::Name};

/// A position between tokens.
pub(super) struct TokenCursor<'a> {
    pub(super) tokens: &'a [Token],
    pub(super) at: usize,
}

impl<'a> TokenCursor<'a> {
    pub(super) fn peek(&self) -> Option<&'a Token> {
        self.tokens.get(self.at)
    }

    pub(super) fn peek_word(&self) -> Option<&'a str> {
        self.peek().and_then(Token::word)
    }

    pub(super) fn peek_sign(&self, sign: char) -> bool {
        self.peek().is_some_and(|token| token.is_sign(sign))
    }

    pub(super) fn word(&mut self) -> Option<&'a str> {
        let word = self.peek_word()?;
        self.at += 1;
        Some(word)
    }

    /// Consumes these words if they are next.
    pub(super) fn take(&mut self, phrase: &[&str]) -> bool {
        let next = self.tokens.get(self.at..self.at + phrase.len()).unwrap_or_default();
        let matches =
            next.len() == phrase.len() && next.iter().zip(phrase).all(|(token, word)| token.word() == Some(word));
        if matches {
            self.at += phrase.len();
        }
        matches
    }

    pub(super) fn take_sign(&mut self, sign: char) -> bool {
        let matches = self.peek_sign(sign);
        self.at += usize::from(matches);
        matches
    }

    pub(super) fn one_of(&mut self, words: &[&str]) -> Option<&'a str> {
        let word = self.peek_word().filter(|word| words.contains(word))?;
        self.at += 1;
        Some(word)
    }

    /// Reads the kind of an object: one word, or one of the known pairs of words.
    pub(super) fn kind(&mut self) -> Option<String> {
        for pair in [["materialized", "view"], ["foreign", "table"], ["event", "trigger"], ["default", "privileges"]] {
            if self.take(&pair) {
                return Some(pair.join(" "));
            }
        }
        self.word().map(ToOwned::to_owned)
    }

    pub(super) fn name(&mut self) -> Option<Name> {
        let first = self.peek()?;
        let mut name = Name { schema: None, name: first.name()?.to_owned(), at: first.at };
        self.at += 1;
        if self.peek_sign('.')
            && let Some(second) = self.tokens.get(self.at + 1).and_then(Token::name)
        {
            name = Name { schema: Some(name.name), name: second.to_owned(), at: name.at };
            self.at += 2;
        }
        Some(name)
    }

    /// Reads names separated by commas.
    pub(super) fn names(&mut self) -> Vec<Name> {
        let mut names = Vec::new();
        loop {
            self.take(&["only"]);
            let Some(name) = self.name() else { break };
            names.push(name);
            self.skip_parentheses();
            self.take_sign('*');
            if !self.take_sign(',') {
                break;
            }
        }
        names
    }

    pub(super) fn skip_parentheses(&mut self) {
        if !self.peek_sign('(') {
            return;
        }
        let mut depth = 0usize;
        while let Some(token) = self.peek() {
            self.at += 1;
            match token.kind {
                SqlTokenKind::Sign('(') => depth += 1,
                SqlTokenKind::Sign(')') => depth -= 1,
                _ => {}
            }
            if depth == 0 {
                return;
            }
        }
    }
}
