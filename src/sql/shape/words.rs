//! Finds words, and the tables that they name, anywhere in a statement.

use super::super::{SqlTokenKind, Token, cursor::TokenCursor, name::Name};

/// Whether words follow one another anywhere outside of strings and quotes.
pub(crate) fn has(tokens: &[Token], phrase: &[&str]) -> bool {
    position(tokens, phrase).is_some()
}

pub(super) fn position(tokens: &[Token], phrase: &[&str]) -> Option<usize> {
    tokens
        .windows(phrase.len())
        .position(|window| window.iter().zip(phrase).all(|(token, word)| token.word() == Some(word)))
}

/// Returns the name after a word, from a position on.
pub(super) fn after(tokens: &[Token], from: usize, phrase: &[&str]) -> Option<Name> {
    let start = position(tokens.get(from..)?, phrase)? + from + phrase.len();
    TokenCursor { tokens, at: start }.name()
}

pub(super) fn references(tokens: &[Token]) -> Vec<Name> {
    let mut found = Vec::new();
    for (at, token) in tokens.iter().enumerate() {
        if token.word() == Some("references")
            && let Some(name) = (TokenCursor { tokens, at: at + 1 }).name()
        {
            found.push(name);
        }
    }
    found
}

/// Returns the tables after FROM, JOIN and USING, without functions and subqueries.
pub(super) fn reads(tokens: &[Token]) -> Vec<Name> {
    let mut found: Vec<Name> = Vec::new();
    // The word before each open parenthesis.
    let mut open: Vec<Option<&str>> = Vec::new();
    for (at, token) in tokens.iter().enumerate() {
        match token.kind {
            SqlTokenKind::Sign('(') => open.push(at.checked_sub(1).and_then(|before| tokens[before].word())),
            SqlTokenKind::Sign(')') => drop(open.pop()),
            _ => {}
        }
        let is_list = matches!(token.word(), Some("from" | "join" | "using"));
        // `extract(epoch from x)` and `is distinct from x` name no table.
        let in_function =
            open.last().is_some_and(|word| matches!(word, Some("extract" | "substring" | "trim" | "overlay")));
        let distinct = at.checked_sub(1).is_some_and(|before| tokens[before].word() == Some("distinct"));
        if !is_list || in_function || distinct {
            continue;
        }
        let mut cursor = TokenCursor { tokens, at: at + 1 };
        loop {
            cursor.take(&["only"]);
            cursor.take(&["lateral"]);
            let Some(name) = cursor.name() else { break };
            if !cursor.peek_sign('(') {
                found.push(name);
            } else {
                break;
            }
            cursor.take(&["as"]);
            if cursor.peek_word().is_some_and(|word| !KEYWORDS.contains(&word)) {
                cursor.at += 1;
            }
            if !cursor.take_sign(',') {
                break;
            }
        }
    }
    let names: Vec<String> = common_tables(tokens);
    found.retain(|name| name.schema.is_some() || !names.contains(&name.name));
    found
}

/// Words that can follow a table's name and are not an alias.
const KEYWORDS: &[&str] = &[
    "where",
    "join",
    "left",
    "right",
    "inner",
    "outer",
    "full",
    "cross",
    "natural",
    "on",
    "using",
    "group",
    "order",
    "limit",
    "having",
    "union",
    "intersect",
    "except",
    "set",
    "returning",
    "when",
    "for",
    "offset",
    "fetch",
    "window",
    "values",
    "select",
    "with",
    "tablesample",
];

/// Returns the names that a WITH defines.
fn common_tables(tokens: &[Token]) -> Vec<String> {
    tokens
        .windows(3)
        .filter(|window| {
            window[1].word() == Some("as") && (window[2].is_sign('(') || window[2].word() == Some("materialized"))
        })
        .filter_map(|window| window[0].name().map(ToOwned::to_owned))
        .collect()
}

/// Whether a list of options directly after the first word switches an option on.
pub(super) fn options_say(tokens: &[Token], option: &str) -> bool {
    options(tokens).any(|(name, value)| name == option && value != Some(false))
}

/// Returns the options in a list directly after the first word, and whether each is switched on or off; `None` if the
/// value is a number.
pub(in crate::sql) fn options(tokens: &[Token]) -> impl Iterator<Item = (&str, Option<bool>)> {
    let list = tokens.get(1).filter(|token| token.is_sign('(')).and(tokens.get(2..)).unwrap_or_default();
    let list = list.split(|token| token.is_sign(')')).next().unwrap_or_default();
    list.split(|token| token.is_sign(',')).filter_map(|one| {
        let value = match one.get(1) {
            None => Some(true),
            Some(token) => match token.word().or(token.text()) {
                Some("false" | "off") => Some(false),
                Some(_) => Some(true),
                None => None,
            },
        };
        Some((one.first()?.word()?, value))
    })
}

/// Whether a condition holds for every row because it compares no column with anything else: `true`, `1 = 1`, `a = a`,
/// `b > 0 or true`. A number is not known here, so `1 = 0` counts as well.
pub(super) fn is_always_true(condition: &[Token]) -> bool {
    parts(condition, "or").iter().any(|branch| parts(branch, "and").iter().all(|part| holds(part)))
}

fn holds(part: &[Token]) -> bool {
    let words: Vec<&str> = part.iter().filter_map(Token::name).collect();
    match part {
        [] => return false,
        [open, inner @ .., close] if open.is_sign('(') && close.is_sign(')') && is_balanced(inner) => {
            return is_always_true(inner);
        }
        [not, rest @ ..] if not.word() == Some("not") => return fails(rest),
        _ => {}
    }
    if let Some(equal) = part.iter().position(|token| token.is_sign('=')) {
        let kinds = |side: &[Token]| side.iter().map(|token| token.kind.clone()).collect::<Vec<_>>();
        let is_comparison = !part[..equal].last().is_some_and(|sign| ['<', '>', '!'].iter().any(|c| sign.is_sign(*c)));
        if is_comparison {
            return equal > 0 && kinds(&part[..equal]) == kinds(&part[equal + 1..]);
        }
    }
    let is_constant = |word: &&str| ["true", "is", "not", "null", "boolean", "bool"].contains(word);
    words.iter().all(is_constant) && words.first() != Some(&"null")
}

fn fails(part: &[Token]) -> bool {
    match part {
        [open, inner @ .., close] if open.is_sign('(') && close.is_sign(')') && is_balanced(inner) => fails(inner),
        [not, rest @ ..] if not.word() == Some("not") => holds(rest),
        [one] => one.word() == Some("false"),
        _ => false,
    }
}

/// Splits tokens at a word that is in no parentheses.
fn parts<'a>(tokens: &'a [Token], word: &str) -> Vec<&'a [Token]> {
    let (mut depth, mut start, mut found) = (0usize, 0, Vec::new());
    for (at, token) in tokens.iter().enumerate() {
        match token.kind {
            SqlTokenKind::Sign('(') => depth += 1,
            SqlTokenKind::Sign(')') => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth == 0 && token.word() == Some(word) {
            found.push(&tokens[start..at]);
            start = at + 1;
        }
    }
    found.push(&tokens[start..]);
    found
}

/// Whether no parenthesis is closed that is not opened here: not in `a) or (b`.
fn is_balanced(tokens: &[Token]) -> bool {
    let mut depth = 0usize;
    tokens.iter().all(|token| {
        match token.kind {
            SqlTokenKind::Sign('(') => depth += 1,
            SqlTokenKind::Sign(')') if depth == 0 => return false,
            SqlTokenKind::Sign(')') => depth -= 1,
            _ => {}
        }
        true
    })
}
