//! The format of errors: the code, the operation, each cause once, and a hint.

mod convert;
mod excerpt;
mod path;

pub(crate) use path::{display_path, without_here};

use super::{
    printer::{Annotation, Printer},
    server_detail::ServerDetail,
    style::{BAD, FAINT, HEADING, paint, sanitize},
};
use crate::cli::exit::Exit;
use cgk::{Error, TenantSlug, ident::SchemaName};
use excerpt::excerpt;
use serde::Serialize;
use std::{fmt::Write as _, path::Path};

/// The maximum number of different errors of a run that are shown completely.
const ERRORS_MAX: usize = 10;

/// A refusal by the command-line program itself, with a hint.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub(crate) struct Refusal {
    pub(crate) message: String,
    pub(crate) hint: String,
    pub(crate) exit: Exit,
}

/// The command names something that does not exist, with a hint where to look.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub(crate) struct Missing {
    pub(crate) message: String,
    pub(crate) hint: String,
}

impl Refusal {
    /// Returns the refusal for a named file that cannot be read or written.
    pub(crate) fn file(doing: &str, file: &Path, error: &std::io::Error) -> Self {
        let message = format!("could not {doing} {}: {error}", display_path(file));
        Self { message, hint: "Check the path. Nothing was changed.".into(), exit: Exit::Usage }
    }
}

/// An error, prepared for display or as a record.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<&'static str>,
    kind: &'static str,
    message: String,
    /// The parts of the message, if there are several.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    problems: Vec<String>,
    causes: Vec<String>,
    /// The server's details beyond its message.
    #[serde(skip_serializing_if = "Option::is_none")]
    server: Option<ServerDetail>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sqlstate: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    place: Option<PlaceView>,
    /// Where the next run continues in a file without a transaction.
    #[serde(skip_serializing_if = "Option::is_none")]
    unfinished: Option<UnfinishedView>,
    /// The migrations that were committed before the failed one.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    committed: Vec<String>,
    /// How many schemas already have the failed file.
    #[serde(skip_serializing_if = "Option::is_none")]
    schemas_with_file: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    hint: Option<String>,
    #[serde(skip)]
    exit: Exit,
}

#[derive(Debug, Serialize)]
struct UnfinishedView {
    statement: usize,
    of: usize,
}

/// A position in a migration file.
#[derive(Debug, Serialize)]
struct PlaceView {
    file: String,
    line: usize,
    column: usize,
    text: String,
}

/// The record of an error that ends a command.
#[derive(Serialize)]
struct Record<'a> {
    event: &'static str,
    v: u32,
    #[serde(flatten)]
    report: &'a Report,
    exit: Exit,
}

impl Report {
    fn plain(kind: &'static str, message: &str, exit: Exit) -> Self {
        Self {
            code: None,
            kind,
            message: message.to_owned(),
            problems: Vec::new(),
            causes: Vec::new(),
            server: None,
            sqlstate: None,
            place: None,
            unfinished: None,
            committed: Vec::new(),
            schemas_with_file: None,
            hint: None,
            exit,
        }
    }

    /// Returns the report for a wrong command line, with the parser's message.
    pub(crate) fn usage(message: &str) -> Self {
        Self::plain("usage", message, Exit::Usage)
    }

    /// Returns the report for a signal.
    pub(crate) fn interrupted(message: &str, exit: Exit) -> Self {
        Self::plain("interrupted", message, exit)
    }

    /// Whether the migrations are those of another database, or of none.
    pub(crate) fn is_of_wrong_files(&self) -> bool {
        matches!(self.code, Some("CGK0604" | "CGK0610"))
    }

    /// Adds to the hint that no folder of migrations is set, which is the likely cause in another working directory.
    pub(crate) fn with_bundled_set(mut self) -> Self {
        let hint = self.hint.unwrap_or_default();
        self.hint = Some(format!(
            "cgk uses its bundled set, because neither --migrations nor a cgk.toml in this folder names another one. If this database \
             has its own, run the command in the folder of its cgk.toml. {hint}"
        ));
        self
    }

    pub(crate) fn exit(&self) -> Exit {
        self.exit
    }

    pub(crate) fn message(&self) -> &str {
        &self.message
    }

    pub(crate) fn problems(&self) -> &[String] {
        &self.problems
    }

    /// Returns the error in one line, for a list that contains the schema.
    pub(crate) fn short(&self) -> String {
        match (&self.place, self.causes.first()) {
            (Some(place), Some(cause)) => format!("{}:{}:{}: {cause}", place.file, place.line, place.column),
            _ if self.kind == "drift" && !self.problems.is_empty() => self.problems.join("; "),
            _ => self.message.clone(),
        }
    }

    /// Returns a text that is equal for reports of the same error in different tenants. Advice for one tenant alone,
    /// with its name, is not shown for others.
    pub(crate) fn likeness(&self, slug: &TenantSlug) -> String {
        let schema = SchemaName::of_tenant(slug);
        let text = format!("{:?} {} {:?} {:?}", self.code, self.message, self.problems, self.causes);
        let hint = self.hint.as_deref().unwrap_or_default();
        let text = without_word(&text, &format!("tenant {slug}"));
        let hint = hint.replace(&format!("{:?}", schema.as_str()), "its schema");
        format!("{} {hint}", without_word(&text, schema.as_str()))
    }

    /// Names the statement of a script that failed.
    pub(crate) fn at_statement(mut self, number: usize) -> Self {
        let name = format!("statement {number}");
        self.message = match self.message.strip_prefix("a statement ") {
            Some(rest) => format!("{name} {rest}"),
            None if self.message.contains(&name) => self.message,
            None => format!("{name}: {}", self.message),
        };
        self
    }

    /// Returns the last record of a command that failed.
    pub(crate) fn record(&self) -> impl Serialize + '_ {
        Record { event: "error", v: crate::cli::JSON_VERSION, report: self, exit: self.exit }
    }

    /// Returns the report as text. If one report is for several tenants with the same error, `names` are these tenants.
    pub(crate) fn render(&self, names: &[&str]) -> String {
        let code = self.code.map(|code| format!("[{code}]")).unwrap_or_default();
        let mut text =
            format!("{} {}", paint(BAD, format!("error{code}:")), paint(HEADING, sanitize(self.message.trim_end())));
        for problem in &self.problems {
            let _ = write!(text, "\n  {}", sanitize(problem));
        }
        if let Some(place) = &self.place {
            text.push_str(&excerpt(place));
        }
        for cause in &self.causes {
            let _ = write!(text, "\n  {} {}", paint(FAINT, "caused by:"), sanitize(cause).replace('\n', "\n    "));
        }
        let of = names.first().filter(|_| names.len() > 1).copied();
        for line in self.server.iter().flat_map(|server| server.lines(of)) {
            let _ = write!(text, "\n  {line}");
        }
        if names.len() > 1 {
            let _ = write!(text, "\n  {} {}", paint(FAINT, "tenants:"), listed(names));
        }
        if let Some(hint) = &self.hint {
            let _ = write!(text, "\n  {} {}", paint(HEADING, "help:"), sanitize(hint));
        }
        text
    }

    /// Writes the report as an annotation for GitHub Actions, at the line of the file if there is one.
    pub(crate) fn annotate(&self, printer: &Printer, names: &[&str]) {
        let title = self.code.map_or_else(|| "cgk".to_owned(), |code| format!("cgk {code}"));
        let mut message = self.message.clone();
        for line in self.problems.iter().chain(&self.causes) {
            message.push_str(&format!("\n{line}"));
        }
        if !names.is_empty() {
            message.push_str(&format!("\ntenants: {}", listed(names)));
        }
        if let Some(hint) = &self.hint {
            message.push_str(&format!("\n{hint}"));
        }
        let place = self.place.as_ref().map(|place| (place.file.as_str(), place.line, place.column));
        printer.annotate(&Annotation { level: "error", title: &title, place, message: &message });
    }

    /// Reports each error once, with the tenants that have it.
    pub(crate) fn tell_each_once<'a>(printer: &Printer, failures: impl Iterator<Item = (&'a TenantSlug, &'a Error)>) {
        Self::tell_all(printer, failures.map(|(slug, error)| (slug, Self::of_library(error))));
    }

    /// Does the same for reports.
    pub(crate) fn tell_all<'a>(printer: &Printer, failures: impl Iterator<Item = (&'a TenantSlug, Self)>) {
        let mut groups: Vec<(String, Self, Vec<&str>)> = Vec::new();
        for (slug, report) in failures {
            let key = report.likeness(slug);
            match groups.iter_mut().find(|(other, ..)| *other == key) {
                Some((_, _, slugs)) => slugs.push(slug.as_str()),
                None => groups.push((key, report, vec![slug.as_str()])),
            }
        }
        for (_, report, slugs) in groups.iter().take(ERRORS_MAX) {
            report.annotate(printer, slugs);
            printer.error(format!("\n{}", report.render(slugs)));
        }
        if let Some(more) = groups.len().checked_sub(ERRORS_MAX).filter(|more| *more > 0) {
            let text = format!("and {more} other errors; --json lists all");
            printer.error(paint(FAINT, text));
        }
        if !groups.is_empty() {
            printer.info("");
        }
    }
}

/// Returns a text without a name, where it is not the beginning of a longer one.
fn without_word(text: &str, name: &str) -> String {
    let mut parts = text.split(name);
    let mut left = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        if part.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_') {
            left.push_str(name);
        }
        left.push_str(part);
    }
    left
}

/// Returns the first names, and how many more there are.
pub(crate) fn listed(names: &[&str]) -> String {
    const SHOWN_MAX: usize = 8;
    let shown = names.iter().take(SHOWN_MAX).copied().collect::<Vec<_>>().join(", ");
    match names.len().saturating_sub(SHOWN_MAX) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}
