//! One migration file: its name, its text, and the data derived from them.

use super::{format, name};
use crate::{
    migration::{FileProblem, MigrationId, line_of},
    sql,
    version::Checksum,
};
use std::{
    borrow::Cow,
    ops::Range,
    path::{Path, PathBuf},
};

const NO_TRANSACTION: &str = "cgk:no-transaction";

/// One migration file.
#[derive(Clone, Debug)]
pub struct MigrationFile {
    id: MigrationId,
    /// The id that earlier versions of cgk gave it, if different.
    earlier: Option<MigrationId>,
    path: PathBuf,
    /// The complete text, from which the checksum is computed.
    text: String,
    /// The text in which the parts that are not run are blank.
    sql: String,
    tool: Option<&'static str>,
    /// Whether it has a down section, which is not run.
    has_down: bool,
    /// Directives of other tools that cgk does not support, with their positions.
    refused_directives: Vec<(usize, String)>,
    /// Comments that look like the heading of a rollback: the number of the following statement, and the position.
    rollback_headings: Vec<(usize, (usize, String))>,
    checksum: Checksum,
    statements: Vec<sql::Statement>,
    comments: Vec<Range<usize>>,
    transactional: bool,
    words: sql::TransactionWords,
}

impl MigrationFile {
    /// Returns version and name.
    pub fn id(&self) -> &MigrationId {
        &self.id
    }

    /// Returns the path of the file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns its text. If the file also contains a rollback section, that section is blank. Line numbers do not
    /// change.
    pub fn sql(&self) -> &str {
        &self.sql
    }

    /// Returns the tool for which the file is written, according to a directive in it: one that divides the file into
    /// sections, or says that it runs without a transaction.
    pub fn tool(&self) -> Option<&'static str> {
        self.tool
    }

    /// Returns whether directives of another tool mark a down section in it, which is not run.
    pub fn has_down_section(&self) -> bool {
        self.has_down
    }

    /// Returns the checksum of its complete text, including the down section and all comments.
    pub fn checksum(&self) -> &Checksum {
        &self.checksum
    }

    /// Returns whether the file is part of the schema's transaction. All files are, except those with
    /// `-- cgk:no-transaction` on their first line.
    pub fn is_transactional(&self) -> bool {
        self.transactional
    }

    /// Returns the texts of its statements, without the semicolons between them.
    pub fn statement_texts(&self) -> impl Iterator<Item = &str> {
        self.statements.iter().map(|statement| &self.sql[statement.range.clone()])
    }

    /// Returns the transaction keywords in its text.
    pub(crate) fn words(&self) -> sql::TransactionWords {
        self.words
    }

    pub(crate) fn statements(&self) -> &[sql::Statement] {
        &self.statements
    }

    pub(in crate::migrate) fn refused_directives(&self) -> &[(usize, String)] {
        &self.refused_directives
    }

    pub(in crate::migrate) fn rollback_headings(&self) -> &[(usize, (usize, String))] {
        &self.rollback_headings
    }

    /// Returns the id of this migration in a ledger of an earlier version of cgk, if it is different.
    pub(crate) fn earlier_id(&self) -> Option<&MigrationId> {
        self.earlier.as_ref()
    }

    pub(crate) fn comments(&self) -> &[Range<usize>] {
        &self.comments
    }

    /// Returns the text for a server with this encoding. If the encoding lacks a character, the comments are converted
    /// to ASCII, because the server reads them as well. The position of every other byte stays the same.
    pub(crate) fn sql_for(&self, encoding: &str) -> Cow<'_, str> {
        match encoding {
            "UTF8" | "SQL_ASCII" => Cow::Borrowed(&self.sql),
            _ => Cow::Owned(sql::rewrite::ascii_comments(&self.sql, &self.comments)),
        }
    }

    /// Returns a file without lint checks.
    #[cfg(test)]
    pub(crate) fn unchecked(name: &str, text: &str) -> Self {
        Self::parse(FileText::of(name.into(), text)).unwrap()
    }

    /// Returns the file with all its statements treated as one, as if they had been parsed incorrectly.
    #[cfg(test)]
    pub(in crate::migrate) fn taken_for_one(mut self) -> Self {
        let end = self.statements.last().unwrap().range.end;
        self.statements.truncate(1);
        self.statements[0].range.end = end;
        self
    }

    /// Returns the name of its file, or of folder and file if a folder is one migration.
    pub(crate) fn name_in_set(&self) -> String {
        let parts: Vec<_> = self.path.iter().rev().take(1 + usize::from(holds_one(&self.path))).collect();
        parts.into_iter().rev().map(|part| part.to_string_lossy()).collect::<Vec<_>>().join("/")
    }

    pub(super) fn parse(file: FileText) -> Result<Self, FileProblem> {
        let FileText { path, text, transactional } = file;
        let part = |path: &Path| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let problem = |line, problem: String| FileProblem { file: path.clone(), line, problem };
        let (id, earlier) = match path.parent().filter(|_| holds_one(&path)) {
            Some(folder) => (name::parse_folder(&part(folder)), None),
            None => (name::parse(&part(&path)), name::parse_as_earlier(&part(&path))),
        };
        let id = id.map_err(|what| problem(None, what))?;
        let checksum = Checksum::of(&text);
        let whole = text.strip_prefix('\u{feff}').unwrap_or(&text);
        let at = |(at, what): format::Fault| problem(Some(line_of(whole, at)), what);
        no_migration(whole).map_err(at)?;
        let format::UpPart { text: sql, tool, has_down } = format::up_part(whole).map_err(at)?;
        let sql::Cut { statements, comments } =
            sql::cut(&sql).map_err(|found| problem(Some(line_of(&sql, found.at)), found.problem))?;
        let said = format::directives(&sql, &comments, &statements);
        if statements.is_empty() {
            return Err(problem(None, "holds no statement; write one, or remove the file".into()));
        }
        let first = comments.first().filter(|range| range.start == 0).map(|range| &sql[range.clone()]);
        let transactional = transactional.unwrap_or(true) && !said.without_transaction && !first.is_some_and(is_marker);
        let (refused_directives, rollback_headings) = (said.refused, said.rollbacks);
        let words = sql::TransactionWords::of(&sql);
        Ok(Self {
            id,
            earlier,
            path,
            text,
            sql,
            tool: tool.or(said.tool),
            has_down,
            refused_directives,
            rollback_headings,
            checksum,
            statements,
            comments,
            transactional,
            words,
        })
    }
}

/// Whether a file is the single migration of its folder.
pub(super) fn holds_one(path: &Path) -> bool {
    path.file_name().is_some_and(|name| FOLDER_FILES.iter().any(|file| name == *file))
}

const FOLDER_FILES: &[&str] = &["up.sql", "migration.sql"];

/// Refuses texts that are not migrations, independent of their name.
fn no_migration(text: &str) -> Result<(), format::Fault> {
    if let Some(at) = text.find('\0') {
        return Err((at, "holds a zero byte; remove it".into()));
    }
    if text.starts_with("version https://git-lfs.github.com/spec/") {
        return Err((0, "is a pointer of Git LFS, not the file that it stands for; run `git lfs pull`".into()));
    }
    let line_with = |mark: &str| {
        let at = text.starts_with(mark).then_some(0);
        at.or_else(|| text.find(&format!("\n{mark}")).map(|at| at + 1))
    };
    match (line_with("<<<<<<< "), line_with(">>>>>>> ")) {
        (Some(at), Some(_)) => {
            Err((at, "holds the conflict markers of a merge; finish the merge and remove them".into()))
        }
        _ => Ok(()),
    }
}

/// A file as it was read.
pub(in crate::migrate) struct FileText {
    pub(super) path: PathBuf,
    pub(super) text: String,
    /// What an accompanying file specifies, if there is one.
    pub(super) transactional: Option<bool>,
}

impl FileText {
    pub(in crate::migrate) fn of(path: PathBuf, text: impl Into<String>) -> Self {
        Self { path, text: text.into(), transactional: None }
    }

    /// Returns a text that is read again, together with others.
    pub(in crate::migrate) fn again(file: &MigrationFile) -> Self {
        Self { path: file.path.clone(), text: file.text.clone(), transactional: Some(file.transactional) }
    }
}

/// Whether a line marks a file that runs without a transaction.
pub(in crate::migrate) fn is_marker(line: &str) -> bool {
    line.starts_with("--") && line.trim_start_matches('-').trim() == NO_TRANSACTION
}
