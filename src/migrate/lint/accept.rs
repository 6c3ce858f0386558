//! Accepted warnings. They have a reason, and are reported when they no longer accept anything.

use super::{Finding, Lint};
use crate::{
    error::{Error, MigrationError, Result},
    migrate::files::file::MigrationFile,
    migration::Set,
};
use std::{
    fs, io,
    path::{Path, PathBuf},
};

/// The file beside the folders of the two sets. It accepts findings, including errors, in files that were applied and
/// must not be edited.
pub(crate) const ACCEPTED_FILE: &str = "accepted.txt";

const DIRECTIVE: &str = "cgk:accept";

/// The lines of an `accepted.txt`: `tenant/002_customers.sql index-not-concurrent the table was empty then`.
#[derive(Clone, Debug, Default)]
pub(crate) struct AcceptedLints {
    path: PathBuf,
    lines: Vec<AcceptedLine>,
}

#[derive(Clone, Debug)]
struct AcceptedLine {
    number: usize,
    /// `tenant/002_customers.sql`
    file: String,
    acceptance: Result<Lint, String>,
    used: bool,
}

/// A comment `-- cgk:accept …` of a file.
struct AcceptDirective {
    at: usize,
    scope: AcceptScope,
    acceptance: Result<Lint, String>,
    used: bool,
}

impl AcceptDirective {
    fn covers(&self, statement: usize, lint: Lint) -> bool {
        let is_there = match self.scope {
            AcceptScope::File => true,
            AcceptScope::Statement(of) => of == statement,
            AcceptScope::Nothing => false,
        };
        is_there && self.acceptance == Ok(lint)
    }
}

enum AcceptScope {
    File,
    Statement(usize),
    /// After the last statement.
    Nothing,
}

impl AcceptedLints {
    /// Reads the file of a directory. Without a file, nothing is accepted.
    pub(in crate::migrate) fn read(directory: &Path) -> Result<Self> {
        let path = directory.join(ACCEPTED_FILE);
        match fs::read_to_string(&path) {
            Ok(text) => Ok(Self::parse(&path, &text)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => {
                let problem = "the file cannot be read".to_owned();
                Err(Error::Migration(MigrationError::Unreadable { path, problem, source: Some(error) }))
            }
        }
    }

    pub(crate) fn parse(path: &Path, text: &str) -> Self {
        let lines = text.lines().enumerate().filter_map(|(index, line)| {
            let line = line.trim();
            (!line.is_empty() && !line.starts_with('#')).then(|| {
                let (file, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
                let acceptance = acceptance(rest, AcceptedAt::AcceptedFile);
                AcceptedLine { number: index + 1, file: file.into(), acceptance, used: false }
            })
        });
        Self { path: path.to_owned(), lines: lines.collect() }
    }

    /// Whether a line accepts a finding of this file.
    pub(super) fn takes(&mut self, set: Set, file: &MigrationFile, lint: Lint) -> bool {
        let name = format!("{}/{}", set.folder(), file.name_in_set());
        let mut taken = false;
        for line in self.lines.iter_mut().filter(|line| line.file == name && line.acceptance == Ok(lint)) {
            line.used = true;
            taken = true;
        }
        taken
    }

    /// Returns the problems of lines that accepted nothing.
    pub(super) fn left_over(self) -> Vec<Finding> {
        let Self { path, lines } = self;
        let finding = |line: AcceptedLine| Finding {
            file: path.clone(),
            line: Some(line.number),
            lint: Lint::Accept,
            reason: match line.acceptance {
                Ok(lint) => format!("{} has no {} {lint}; the line is not needed", line.file, lint.severity()),
                Err(reason) => reason,
            },
        };
        lines.into_iter().filter(|line| !line.used).map(finding).collect()
    }
}

/// Removes accepted findings, and adds the problems of the acceptances in the file itself. Each finding has the number
/// of its statement.
pub(super) fn sort_out(
    file: &MigrationFile,
    set: Set,
    found: Vec<(usize, Finding)>,
    accepted: &mut AcceptedLints,
) -> Vec<Finding> {
    let mut directives = directives(file);
    let mut left = Vec::new();
    for (statement, finding) in found {
        let mut taken = false;
        for directive in &mut directives {
            let covers = directive.covers(statement, finding.lint);
            directive.used |= covers;
            taken |= covers;
        }
        taken |= accepted.takes(set, file, finding.lint);
        if !taken {
            left.push(finding);
        }
    }
    left.extend(directives.into_iter().filter(|directive| !directive.used).map(|directive| {
        let reason = match directive.acceptance {
            Ok(lint) => format!("the statement has no warning {lint}; remove the comment"),
            Err(reason) => reason,
        };
        Finding::at(file, directive.at, Lint::Accept, reason)
    }));
    left
}

/// Returns the findings that no comment of the file accepts.
pub(super) fn not_accepted(
    file: &MigrationFile,
    found: Vec<(usize, Finding)>,
) -> impl Iterator<Item = Finding> + use<> {
    let directives = if found.is_empty() { Vec::new() } else { directives(file) };
    let left = found.into_iter().filter(move |(statement, finding)| {
        !directives.iter().any(|directive| directive.covers(*statement, finding.lint))
    });
    left.map(|(_, finding)| finding)
}

fn directives(file: &MigrationFile) -> Vec<AcceptDirective> {
    let (sql, statements) = (file.sql(), file.statements());
    let of_comment = |range: &std::ops::Range<usize>| {
        let text = sql[range.clone()].trim_start_matches('-').trim().strip_prefix(DIRECTIVE)?;
        // `cgk:acceptable` is a different word.
        (text.is_empty() || text.starts_with(char::is_whitespace)).then_some(())?;
        let next = statements.iter().position(|statement| statement.range.end > range.start);
        let scope = match next {
            None => AcceptScope::Nothing,
            Some(0)
                if statements[0].range.start > range.start
                    && has_blank_line(&sql[range.end..statements[0].range.start]) =>
            {
                AcceptScope::File
            }
            Some(index) => AcceptScope::Statement(index),
        };
        Some(AcceptDirective { at: range.start, scope, acceptance: acceptance(text, AcceptedAt::Comment), used: false })
    };
    file.comments().iter().filter_map(of_comment).collect()
}

fn has_blank_line(text: &str) -> bool {
    text.lines().skip(1).any(|line| line.trim().is_empty()) && text.matches('\n').count() > 1
}

/// Where an acceptance is written.
#[derive(Clone, Copy, PartialEq, Eq)]
enum AcceptedAt {
    /// Before the statement, in a file that can be edited, so an error must be fixed there.
    Comment,
    AcceptedFile,
}

/// `index-not-concurrent the table is small`
fn acceptance(text: &str, place: AcceptedAt) -> Result<Lint, String> {
    let text = text.trim();
    let (name, reason) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
    match Lint::of_name(name) {
        _ if name.is_empty() => Err("accepts nothing: write the name of a warning and a reason".into()),
        None => Err(format!("there is no warning {name:?}")),
        Some(Lint::Accept) => Err("accept cannot be accepted".into()),
        Some(lint) if !lint.is_acceptable() => Err(format!("{lint} is an error and cannot be accepted")),
        Some(lint) if !lint.is_acceptable_in_file() && place == AcceptedAt::Comment => Err(format!(
            "{lint} is an error, and a comment cannot accept it; for a file that was applied, {ACCEPTED_FILE} can"
        )),
        Some(lint) if reason.trim().is_empty() => Err(format!("accepts {lint} without a reason")),
        Some(lint) => Ok(lint),
    }
}
