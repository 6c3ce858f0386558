//! Detects text that another program must process before the server: psql's commands and variables, templates,
//! placeholders, and invisible characters.

use super::{Lint, LintFault};
use crate::sql::{SqlTokenKind, Statement, Token};

pub(super) fn client_side(statement: &Statement) -> Option<LintFault> {
    let fault = |at: usize, reason: String| Some((at, Lint::ClientCommand, reason));
    let mut brackets = 0usize;
    for (index, token) in statement.tokens.iter().enumerate() {
        let before = index.checked_sub(1).map(|before| &statement.tokens[before]);
        let next = statement.tokens.get(index + 1);
        let touches =
            |other: Option<&Token>, sign| other.is_some_and(|other| other.end == token.at && other.is_sign(sign));
        match &token.kind {
            SqlTokenKind::Sign('[') => brackets += 1,
            SqlTokenKind::Sign(']') => brackets = brackets.saturating_sub(1),
            SqlTokenKind::Sign('\\') => {
                let command = next.filter(|next| next.at == token.end).and_then(Token::name).unwrap_or_default();
                let reason = format!("\\{command} is a psql command; only SQL can be sent to the server");
                return fault(token.at, reason);
            }
            SqlTokenKind::Sign('{') if touches(before, '$') => {
                let reason = "${…} is a placeholder, for example of Flyway; cgk does not replace placeholders";
                return fault(token.at - 1, reason.into());
            }
            SqlTokenKind::Sign('{' | '}') => {
                let reason = "braces are not SQL: {{…}} is a template; cgk does not expand templates, write the value";
                return fault(token.at, reason.into());
            }
            SqlTokenKind::Sign('=')
                if touches(before, '%') && index > 1 && statement.tokens[index - 2].is_sign('<') =>
            {
                return fault(token.at - 2, "<%= … %> is a template; cgk does not expand templates".into());
            }
            // `a::b`, `f(x := 1)` and `a[1:n]` are SQL.
            SqlTokenKind::Sign(':') if brackets == 0 && !touches(before, ':') => {
                let name = next.filter(|next| next.at == token.end && (next.name().is_some() || next.text().is_some()));
                if name.is_some() {
                    return fault(
                        token.at,
                        ":name is a psql variable or a placeholder; cgk does not replace it".into(),
                    );
                }
            }
            SqlTokenKind::Word(word) => {
                if let Some((offset, c)) = word.char_indices().find(|(_, c)| is_unseen(*c)) {
                    let reason = format!(
                        "the character U+{:04X} is invisible, and the server takes it as part of a name; remove it or \
                         write a space",
                        u32::from(c)
                    );
                    return Some((token.at + offset, Lint::UnseenCharacter, reason));
                }
            }
            _ => {}
        }
    }
    let first = statement.tokens.first()?;
    let copies = first.word() == Some("copy")
        && statement.tokens.windows(2).any(|pair| {
            matches!(pair[0].word(), Some("from" | "to")) && matches!(pair[1].word(), Some("stdin" | "stdout"))
        });
    copies.then(|| {
        let reason = "COPY with STDIN or STDOUT needs a client that sends or reads the rows; use INSERT";
        (first.at, Lint::ClientCommand, reason.into())
    })
}

/// Whether a character is a space or a letter of another script that PostgreSQL treats as a letter.
fn is_unseen(c: char) -> bool {
    matches!(c, '\u{80}'..='\u{a0}' | '\u{ad}' | '\u{1680}' | '\u{2000}'..='\u{200f}' | '\u{2028}'..='\u{202f}'
        | '\u{205f}'..='\u{206f}' | '\u{3000}' | '\u{feff}')
}
