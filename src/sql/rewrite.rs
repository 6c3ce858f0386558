//! Rewrites a text at the positions of its tokens. Everything else is unchanged.

use super::{
    SqlTokenKind, Statement, Token, detach,
    shape::{self, Shape},
};
use std::ops::Range;

/// Replacements in a text.
#[derive(Default)]
pub(crate) struct Edits(Vec<(Range<usize>, String)>);

impl Edits {
    pub(crate) fn replace(&mut self, range: Range<usize>, with: impl Into<String>) {
        self.0.push((range, with.into()));
    }

    pub(crate) fn insert(&mut self, at: usize, text: impl Into<String>) {
        self.replace(at..at, text);
    }

    /// Replaces a range by a text that is not longer, padded with spaces, so that later positions do not change.
    fn replace_in_place(&mut self, range: Range<usize>, with: &str) {
        let length = range.len();
        debug_assert!(with.len() <= length);
        self.replace(range, format!("{with:length$}"));
    }

    /// Converts an offset in the rewritten text to an offset in the original text.
    pub(crate) fn original_offset(mut self, offset: usize) -> usize {
        self.0.sort_by_key(|(range, _)| range.start);
        let (mut grown, mut shrunk) = (0, 0);
        for (range, with) in self.0 {
            let start = range.start + grown - shrunk;
            if offset < start {
                break;
            }
            if offset < start + with.len() {
                return range.start + (offset - start).min(range.len().saturating_sub(1));
            }
            (grown, shrunk) = (grown + with.len(), shrunk + range.len());
        }
        offset + shrunk - grown
    }

    /// Returns the text with the replacements.
    pub(crate) fn apply(self, text: &str) -> String {
        self.apply_within(text, 0..text.len())
    }

    /// Returns a part of a text with the replacements, all of which are inside the part.
    pub(crate) fn apply_within(mut self, text: &str, part: Range<usize>) -> String {
        self.0.sort_by_key(|(range, _)| range.start);
        let (mut made, mut done) = (String::with_capacity(part.len()), part.start);
        for (range, with) in self.0 {
            made.push_str(&text[done..range.start]);
            made.push_str(&with);
            done = range.end;
        }
        made.push_str(&text[done..part.end]);
        made
    }
}

/// Converts a statement so that it can run inside a transaction: without CONCURRENTLY and without VACUUM. The length
/// does not change, except for a DETACH, which becomes a statement with the same result and another length. Returns
/// whether this is possible.
pub(crate) fn within_a_transaction(statement: &Statement, edits: &mut Edits) -> bool {
    let shape = shape::of(statement);
    match &shape {
        Shape::Vacuum { .. } => {
            // This is a query without columns.
            edits.replace_in_place(statement.range.clone(), "select");
            return true;
        }
        Shape::Reindex { kind, .. } if kind != "index" && kind != "table" => return false,
        Shape::Other => {
            let first = statement.tokens.first().and_then(Token::word);
            return !(first == Some("call") || first == Some("do") && mentions_commit(statement));
        }
        _ if !shape.is_concurrent() => return true,
        Shape::AlterTable { table, actions, .. } => {
            let [action] = actions.as_slice() else { return true };
            let Some(detach) = detach::within_a_transaction(statement, table, action) else { return true };
            edits.replace(statement.range.clone(), detach);
            return true;
        }
        _ => {}
    }
    for (index, token) in statement.tokens.iter().enumerate() {
        if token.word() != Some("concurrently") {
            continue;
        }
        if matches!(shape, Shape::Reindex { .. }) && index > 0 && !before_names(statement, index) {
            // `reindex (concurrently, verbose)`: a list of options must not be empty.
            let end = statement.tokens[index..].iter().take_while(|token| !token.is_sign(',') && !token.is_sign(')'));
            let end = end.last().map_or(token.end, |last| last.end);
            edits.replace_in_place(token.at..end, "verbose off");
        } else {
            edits.replace_in_place(token.at..token.end, "");
        }
        break;
    }
    true
}

/// Whether a word is outside of the parentheses of the options.
fn before_names(statement: &Statement, index: usize) -> bool {
    let depth = statement.tokens[..index].iter().fold(0i32, |depth, token| match token.kind {
        SqlTokenKind::Sign('(') => depth + 1,
        SqlTokenKind::Sign(')') => depth - 1,
        _ => depth,
    });
    depth == 0
}

/// Whether a string of a statement mentions the end of a transaction; this is a guess that may have false positives.
fn mentions_commit(statement: &Statement) -> bool {
    let ends = |text: &str| {
        let text = text.to_ascii_lowercase();
        text.contains("commit") || text.contains("rollback")
    };
    statement.tokens.iter().filter_map(Token::text).any(ends)
}

/// Returns the text with its comments in ASCII and the same length in bytes. A database with an encoding other than
/// UTF-8 refuses a character that the encoding lacks, even in a comment.
pub(crate) fn ascii_comments(text: &str, comments: &[Range<usize>]) -> String {
    let mut edits = Edits::default();
    for comment in comments.iter().filter(|comment| !text[(*comment).clone()].is_ascii()) {
        let plain = text[comment.clone()].bytes().map(|byte| if byte.is_ascii() { char::from(byte) } else { '?' });
        edits.replace(comment.clone(), plain.collect::<String>());
    }
    edits.apply(text)
}

/// Replaces a schema's name where it qualifies another name.
pub(crate) fn rename_schema(statement: &Statement, schema: &str, quoted: &str, edits: &mut Edits) {
    for (index, pair) in statement.tokens.windows(2).enumerate() {
        // In `a.public.b` it is not a schema. Neither is the second part of `t.public.x`.
        let is_first = index == 0 || !statement.tokens[index - 1].is_sign('.');
        if is_first && pair[0].name() == Some(schema) && pair[1].is_sign('.') {
            edits.replace(pair[0].at..pair[0].end, quoted);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sql::cut;

    fn inside(text: &str) -> Option<String> {
        let mut edits = Edits::default();
        for statement in cut(text).unwrap().statements {
            within_a_transaction(&statement, &mut edits).then_some(())?;
        }
        let made = edits.apply(text);
        assert_eq!(made.len(), text.len(), "{text}");
        Some(made.split_whitespace().collect::<Vec<_>>().join(" "))
    }

    #[test]
    fn what_waits_for_others_waits_for_nobody() {
        for (text, made) in [
            ("create index concurrently i on t (concurrently)", "create index i on t (concurrently)"),
            ("create table t (concurrently int)", "create table t (concurrently int)"),
            ("reindex table CONCURRENTLY t", "reindex table t"),
            ("reindex (concurrently) table t; x", "reindex (verbose off ) table t; x"),
            ("reindex (verbose, concurrently true) index i", "reindex (verbose, verbose off ) index i"),
            ("drop index concurrently i; vacuum (analyze) t;", "drop index i; select ;"),
            ("refresh materialized view concurrently v", "refresh materialized view concurrently v"),
            ("do $$ begin null; end $$", "do $$ begin null; end $$"),
        ] {
            assert_eq!(inside(text).as_deref(), Some(made), "{text}");
        }
        for alone in ["call p()", "do $$ begin Commit; end $$", "reindex schema s", "reindex (concurrently) database d"]
        {
            assert_eq!(inside(alone), None, "{alone}");
        }
    }

    #[test]
    fn behind_a_statement_of_another_length_places_are_found_again() {
        let text = "vacuum t; alter table if exists s.\"T\" detach partition p concurrently; selec 1";
        let edits = || {
            let mut edits = Edits::default();
            for statement in cut(text).unwrap().statements {
                within_a_transaction(&statement, &mut edits);
            }
            edits
        };
        let made = edits().apply(text);
        assert!(made.contains("alter table if exists \"s\".\"T\" detach partition \"p\";"), "{made}");
        for word in ["alter", "selec 1"] {
            let place = if word == "alter" { made.find("do '").unwrap() } else { made.find(word).unwrap() };
            assert_eq!(edits().original_offset(place), text.find(word).unwrap(), "{word}");
        }
        // An offset inside a replacement is converted to an offset inside the original.
        let inside = edits().original_offset(made.find("coalesce").unwrap());
        assert!(text[..inside].contains("concurrentl"), "{inside}");
    }

    #[test]
    fn comments_are_made_ascii_and_nothing_else() {
        let text = "select 'ü -- €' -- a € b\n/* ä */, \"ö\"; do $$ -- ß\n$$";
        let made = "select 'ü -- €' -- a ??? b\n/* ?? */, \"ö\"; do $$ -- ß\n$$";
        assert_eq!(ascii_comments(text, &cut(text).unwrap().comments), made);
        assert_eq!(made.len(), text.len());
    }

    #[test]
    fn a_schema_is_renamed_where_it_is_one() {
        let text =
            "create table public.a (b int default U&\"pu\\0062lic\".f(), public int) -- public.a\n; select x.public.y";
        let mut edits = Edits::default();
        for statement in cut(text).unwrap().statements {
            rename_schema(&statement, "public", "\"s\"", &mut edits);
        }
        let made = "create table \"s\".a (b int default \"s\".f(), public int) -- public.a\n; select x.public.y";
        assert_eq!(edits.apply(text), made);
    }
}
