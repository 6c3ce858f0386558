//! The id of a migration, and the problems of migrations that errors describe.

use crate::{ident::SchemaName, version::Version};
use std::{fmt, path::PathBuf};

/// The name of the ledger table. It is the same in every schema.
pub const LEDGER_TABLE: &str = "schema_migrations";

/// The table with the progress of a migration without a transaction. It exists only while a file is partially applied.
pub(crate) const STEPS_TABLE: &str = "schema_migration_steps";

/// One of the two sets of migrations.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Set {
    /// The shared schema, `public`.
    Public,
    /// Every tenant schema.
    Tenant,
}

impl Set {
    /// Returns the folder of the set inside a migrations directory.
    pub fn folder(self) -> &'static str {
        match self {
            Self::Public => "public",
            Self::Tenant => "tenant",
        }
    }
}

impl fmt::Display for Set {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.folder())
    }
}

/// Version and name of a migration; shown as `003_products`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MigrationId {
    /// The version, unique in its set.
    pub version: Version,
    /// The part of the file's name after the version.
    pub name: String,
}

impl fmt::Display for MigrationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}_{}", self.version, self.name)
    }
}

/// A problem in the migration files that prevents a run before it uses the database.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct FileProblem {
    /// The file, or the folder if the problem concerns the whole set.
    pub file: PathBuf,
    /// The line, counted from 1; `None` if it is not known.
    pub line: Option<usize>,
    /// The problem, as one lower-case line.
    pub problem: String,
}

/// Returns a path on one line. Characters that end a line, move the cursor or change the direction of writing are
/// escaped.
pub(crate) fn printable(path: &std::path::Path) -> String {
    let mut text = String::new();
    for c in path.to_string_lossy().chars() {
        match c {
            '\u{2028}' | '\u{2029}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => {
                text.extend(c.escape_unicode());
            }
            c if c.is_control() => text.extend(c.escape_default()),
            c => text.push(c),
        }
    }
    text
}

impl fmt::Display for FileProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", printable(&self.file))?;
        if let Some(line) = self.line {
            write!(f, ":{line}")?;
        }
        write!(f, ": {}", self.problem)
    }
}

/// The differences between a schema's ledger and the files. All are listed, not only the first.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Divergence {
    /// The schema.
    pub schema: SchemaName,
    /// Migrations that were applied, but whose file has another text now.
    pub edited: Vec<MigrationId>,
    /// Migrations that were applied, but whose file has another name now, with the same text.
    pub renamed: Vec<RenamedFile>,
    /// Migrations that were applied, but whose file is missing.
    pub missing: Vec<MigrationId>,
    /// Files that are not applied although a later one is.
    pub out_of_order: Vec<MigrationId>,
    /// Migrations that were applied and are later than every file, because they belong to a newer set of files.
    pub ahead: Vec<MigrationId>,
}

/// A migration whose file has another name than when it was applied.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RenamedFile {
    /// The migration as the ledger records it.
    pub recorded: MigrationId,
    /// The file.
    pub file: MigrationId,
}

impl RenamedFile {
    /// Returns what is wrong, as the rest of a sentence about the recorded migration.
    pub fn problem(&self) -> String {
        format!("was applied under this name, and its file is now {}", self.file)
    }
}

impl std::error::Error for Divergence {}

impl fmt::Display for Divergence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "schema {:?} and the migration files do not agree", self.schema.as_str())?;
        let mut separator = ": ";
        for renamed in &self.renamed {
            write!(f, "{separator}{} {}", renamed.recorded, renamed.problem())?;
            separator = "; ";
        }
        for (ids, what) in [
            (&self.edited, "edited after it was applied"),
            (&self.missing, "applied, but its file is missing"),
            (&self.out_of_order, "not applied although a later one is"),
            (&self.ahead, "applied by a newer set of files"),
        ] {
            for id in ids {
                write!(f, "{separator}{id} {what}")?;
                separator = "; ";
            }
        }
        Ok(())
    }
}

/// A file in which a set of migrations differs from the fleet's set.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct FileMismatch {
    /// The migration: as it was applied, or the file that was not applied.
    pub id: MigrationId,
    /// The file, if its name differs from that of the applied migration.
    pub file: Option<MigrationId>,
    /// How it differs.
    pub mismatch: Mismatch,
    /// The number of schemas that have the migration. For [`Mismatch::OutOfOrder`], the number of those that have a
    /// later one without it.
    pub schemas: usize,
}

/// How a set of migrations differs from the fleet's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mismatch {
    /// Schemas have the migration, but the set has no file for it.
    Missing,
    /// Schemas have the migration with another text.
    Edited,
    /// Schemas have the migration with the same text and another name.
    Renamed,
    /// No schema has the file, but schemas have a later one.
    OutOfOrder,
}

impl fmt::Display for FileMismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let schemas = count(self.schemas, "schema");
        let have = if self.schemas == 1 { "has" } else { "have" };
        match self.mismatch {
            Mismatch::Missing => write!(f, "{}: {schemas} {have} it, and this set has no such file", self.id),
            Mismatch::Edited => write!(f, "{}: {schemas} {have} it with another text", self.id),
            Mismatch::Renamed => write!(f, "{}: {schemas} {have} it", self.id),
            Mismatch::OutOfOrder => write!(f, "{}: {schemas} {have} a later file without it", self.id),
        }?;
        match &self.file {
            Some(file) => write!(f, ", and the file is named {file}"),
            None => Ok(()),
        }
    }
}

/// A position in a migration file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The line, counted from 1.
    pub line: usize,
    /// The column in characters, counted from 1. It is the start of the statement if the server reported no position.
    pub column: usize,
    /// The text of the line.
    pub text: String,
}

impl Place {
    /// Returns the position of a byte offset in a text.
    pub(crate) fn of(text: &str, offset: usize) -> Self {
        let mut offset = offset.min(text.len());
        while !text.is_char_boundary(offset) {
            offset -= 1;
        }
        let start = text[..offset].rfind(['\n', '\r']).map_or(0, |at| at + 1);
        let end = text[offset..].find(['\n', '\r']).map_or(text.len(), |at| offset + at);
        Self {
            line: line_of(text, start),
            column: text[start..offset].chars().count() + 1,
            text: text[start..end].to_owned(),
        }
    }
}

/// Returns the number of the line with a byte offset, counted from 1. A single carriage return ends a line as well.
pub(crate) fn line_of(text: &str, offset: usize) -> usize {
    let before = &text.as_bytes()[..offset];
    let ends = before.iter().enumerate().filter(|(at, byte)| match byte {
        b'\n' => true,
        b'\r' => text.as_bytes().get(at + 1) != Some(&b'\n'),
        _ => false,
    });
    ends.count() + 1
}

/// A text such as `2 files edited, 1 file gone`, for a line in a table.
impl Divergence {
    pub(crate) fn none(schema: SchemaName) -> Self {
        Self { schema, edited: vec![], renamed: vec![], missing: vec![], out_of_order: vec![], ahead: vec![] }
    }

    /// Returns whether all differences are migrations of a newer set of files. Also true if there are none.
    pub fn is_only_ahead(&self) -> bool {
        let Self { edited, renamed, missing, out_of_order, .. } = self;
        edited.is_empty() && renamed.is_empty() && missing.is_empty() && out_of_order.is_empty()
    }

    /// Returns the differences in a few words.
    pub fn summary(&self) -> String {
        let parts = [
            (self.edited.len(), "edited"),
            (self.renamed.len(), "renamed"),
            (self.missing.len(), "gone"),
            (self.out_of_order.len(), "out of order"),
            (self.ahead.len(), "newer than these files"),
        ];
        let parts: Vec<_> = parts
            .iter()
            .filter(|(n, _)| *n > 0)
            .map(|(n, what)| format!("{} {what}", count(*n, "migration")))
            .collect();
        parts.join(", ")
    }
}

/// Returns a number and its noun, as `1 problem` or `2 problems`.
pub(crate) fn count(number: usize, noun: &str) -> String {
    if number == 1 { format!("1 {noun}") } else { format!("{number} {noun}s") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_counts_characters_not_bytes() {
        let text = "select 1;\nsélect 'ü', x\r\nend";
        let place = Place::of(text, text.find('x').unwrap());
        assert_eq!(place, Place { line: 2, column: 13, text: "sélect 'ü', x".into() });
        assert_eq!(Place::of(text, 9999).line, 3);
        let place = Place::of("a;\r-- b\r\rcommit;", 9);
        assert_eq!(place, Place { line: 4, column: 1, text: "commit;".into() });
    }
}
