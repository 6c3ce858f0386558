//! A message of several parts, and which part of it an answer ended in.
//!
//! Rows of our own, `cgk:<random>:<n>`, mark where each part begins, so that an error can be laid at the right place even
//! where the server names no position.

use crate::{
    db::message::{Answer, Kept},
    ident::literal,
    migrate::files::file::MigrationFile,
    migration::Place,
};
use tokio_postgres::error::{DbError, ErrorPosition};

/// What every row of cgk's own begins with, in the answer to a message that holds files.
pub(in crate::migrate) const MARKS: &str = "cgk:";

pub(in crate::migrate) struct Script<K> {
    pub(in crate::migrate) sql: String,
    parts: Vec<Part<K>>,
    /// What the marks begin with; no row of a migration looks like that.
    mark: String,
}

struct Part<K> {
    kind: K,
    /// Where the part's own text begins in the message.
    start: usize,
}

/// Where an answer ended.
pub(in crate::migrate) struct Reached<K> {
    pub(in crate::migrate) kind: K,
    /// How many statements of the part were completed.
    pub(in crate::migrate) completed: usize,
    /// Where in the part's text the server saw the error.
    pub(in crate::migrate) offset: Option<usize>,
}

impl<K: Copy> Script<K> {
    pub(in crate::migrate) fn new() -> Self {
        Self { sql: String::new(), parts: Vec::new(), mark: format!("{MARKS}{:08x}:", rand::random::<u32>()) }
    }

    /// Begins a part: its mark, with what is to be set beside it.
    pub(in crate::migrate) fn part(&mut self, kind: K, settings: &[String]) {
        self.part_from(kind, settings, "");
    }

    /// Begins a part whose settings are read from somewhere: `from` begins with FROM, and gives one row.
    pub(in crate::migrate) fn part_from(&mut self, kind: K, settings: &[String], from: &str) {
        let mark = format!("'{}{}'", self.mark, self.parts.len());
        let columns: Vec<&str> = std::iter::once(mark.as_str()).chain(settings.iter().map(String::as_str)).collect();
        self.line(&format!("select {} {from};", columns.join(", ")));
        self.parts.push(Part { kind, start: self.sql.len() });
    }

    /// Of an answer, only the marks are of use.
    pub(in crate::migrate) fn kept(&self) -> Kept {
        Kept::Marked(self.mark.clone())
    }

    pub(in crate::migrate) fn line(&mut self, text: &str) {
        self.sql.push_str(text);
        self.sql.push('\n');
    }

    /// Demands that a condition holds, in a statement of its own.
    pub(in crate::migrate) fn demand(&mut self, condition: &str) {
        self.line(&format!("select {};", demand(condition)));
    }

    /// The part that an error belongs to. A syntax error rejects the message before anything ran: only its position tells
    /// where it is, and only parts of these kinds can have one.
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
            // It may lie behind a file whose last statement is not finished; the text there is ours and has no errors of
            // its own.
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

/// An expression that ends the message in a division by zero where a condition does not hold.
pub(in crate::migrate) fn demand(condition: &str) -> String {
    format!("1 / (case when {condition} then 1 else 0 end)")
}

/// Sets a configuration parameter to the end of the transaction.
pub(in crate::migrate) fn set_local(name: &str, value: &str) -> String {
    format!("pg_catalog.set_config('{name}', {}, true)", literal(value))
}

/// The place of an error in a file: where the server saw it, or the statement that it did not complete.
pub(in crate::migrate) fn place(file: &MigrationFile, completed: usize, offset: Option<usize>) -> Option<Place> {
    let end = file.statements().last().map_or(0, |statement| statement.range.end);
    let within = offset.map(|within| within.min(end));
    let at = within.or_else(|| file.statements().get(completed).map(|statement| statement.range.start))?;
    Some(Place::of(file.sql(), at))
}

/// PostgreSQL counts characters from 1, whatever the driver's documentation says.
fn original_position(error: &DbError) -> Option<usize> {
    match error.position() {
        Some(ErrorPosition::Original(position)) => usize::try_from(*position).ok()?.checked_sub(1),
        _ => None,
    }
}

/// Where in a text the server saw an error, in bytes.
pub(in crate::migrate) fn offset_in(text: &str, error: &DbError) -> Option<usize> {
    original_position(error).map(|position| byte_of_character(text, position))
}

fn byte_of_character(text: &str, number: usize) -> usize {
    text.char_indices().nth(number).map_or(text.len(), |(at, _)| at)
}
