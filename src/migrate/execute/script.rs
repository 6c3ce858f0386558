//! Builds a message of several parts, and finds the part in which an error occurred.
//!
//! Marker rows of cgk, `cgk:<random>:<n>`, show where each part starts, so that an error can be assigned to its part
//! even if the server reports no position.

use crate::{
    db::{
        message::{Answer, Kept},
        message_head::demand,
    },
    migrate::files::file::MigrationFile,
    migration::Place,
};
use tokio_postgres::error::{DbError, ErrorPosition};

/// The prefix of all cgk rows in the response to a message that contains files.
pub(in crate::migrate) const MARKS: &str = "cgk:";

pub(in crate::migrate) struct Script<K> {
    pub(in crate::migrate) sql: String,
    parts: Vec<ScriptSection<K>>,
    /// The prefix of the markers. No row of a migration can start with it.
    mark: String,
}

struct ScriptSection<K> {
    kind: K,
    /// The position in the message at which the part's own text starts.
    start: usize,
}

/// The point at which a response ended.
pub(in crate::migrate) struct Reached<K> {
    pub(in crate::migrate) kind: K,
    /// How many statements of the part were completed.
    pub(in crate::migrate) completed: usize,
    /// The position of the error in the part's text, as reported by the server.
    pub(in crate::migrate) offset: Option<usize>,
}

impl<K: Copy> Script<K> {
    pub(in crate::migrate) fn new() -> Self {
        Self { sql: String::new(), parts: Vec::new(), mark: format!("{MARKS}{:08x}:", rand::random::<u32>()) }
    }

    /// Starts a part: its marker, with additional settings.
    pub(in crate::migrate) fn part(&mut self, kind: K, settings: &[String]) {
        self.part_from(kind, settings, "");
    }

    /// Starts a part whose settings come from a query: `from` starts with FROM, and returns one row.
    pub(in crate::migrate) fn part_from(&mut self, kind: K, settings: &[String], from: &str) {
        let mark = format!("'{}{}'", self.mark, self.parts.len());
        let columns: Vec<&str> = std::iter::once(mark.as_str()).chain(settings.iter().map(String::as_str)).collect();
        self.line(&format!("select {} {from};", columns.join(", ")));
        self.parts.push(ScriptSection { kind, start: self.sql.len() });
    }

    /// Returns what to keep of the response: only the markers are needed.
    pub(in crate::migrate) fn kept(&self) -> Kept {
        Kept::Marked(self.mark.clone())
    }

    pub(in crate::migrate) fn line(&mut self, text: &str) {
        self.sql.push_str(text);
        self.sql.push('\n');
    }

    /// Adds a statement that fails unless a condition is true.
    pub(in crate::migrate) fn demand(&mut self, condition: &str) {
        self.line(&format!("select {};", demand(condition)));
    }

    /// Returns the part that an error belongs to. After a syntax error, nothing was executed. Then only its position
    /// identifies the part, and only parts of these kinds can have one.
    pub(in crate::migrate) fn reached(
        &self,
        answer: &Answer,
        error: &DbError,
        is_theirs: impl Fn(K) -> bool,
    ) -> Option<Reached<K>> {
        let position = original_position(error).map(|position| byte_of_character(&self.sql, position));
        let marked = answer.rows.iter().rev().find_map(|(before, row)| {
            let index = row.try_get(0).ok().flatten()?.strip_prefix(&self.mark)?.parse::<usize>().ok()?;
            (index < self.parts.len()).then_some((index, answer.completed.saturating_sub(before + 1)))
        });
        let (index, completed) = match (marked, position) {
            (Some(found), _) => found,
            // The position may be after a file whose last statement is incomplete. The text there is cgk's own and has
            // no errors.
            (None, Some(position)) => {
                (self.parts.iter().rposition(|part| is_theirs(part.kind) && part.start <= position)?, 0)
            }
            (None, None) => return None,
        };
        let part = &self.parts[index];
        let offset = position.and_then(|position| position.checked_sub(part.start));
        Some(Reached { kind: part.kind, completed, offset })
    }
}

/// Returns the position of an error in a file: as reported by the server, or the first incomplete statement.
pub(in crate::migrate) fn place(file: &MigrationFile, completed: usize, offset: Option<usize>) -> Option<Place> {
    let end = file.statements().last().map_or(0, |statement| statement.range.end);
    let within = offset.map(|within| within.min(end));
    let at = within.or_else(|| file.statements().get(completed).map(|statement| statement.range.start))?;
    Some(Place::of(file.sql(), at))
}

/// PostgreSQL counts characters from 1, although the driver's documentation says otherwise.
fn original_position(error: &DbError) -> Option<usize> {
    match error.position() {
        Some(ErrorPosition::Original(position)) => usize::try_from(*position).ok()?.checked_sub(1),
        _ => None,
    }
}

/// Returns the position of an error in a text, in bytes, as reported by the server.
pub(in crate::migrate) fn offset_in(text: &str, error: &DbError) -> Option<usize> {
    original_position(error).map(|position| byte_of_character(text, position))
}

fn byte_of_character(text: &str, number: usize) -> usize {
    text.char_indices().nth(number).map_or(text.len(), |(at, _)| at)
}
