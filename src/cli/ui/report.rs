//! How an error is told: the code, what was being done, each cause once, and what to do about it.

use cgk::{
    DriverError, Error, ErrorKind, InvalidSlug, MigrationError, TenantSlug,
    auth::AuthError,
    config::ConfigError,
    domains::DomainError,
    ident::SchemaName,
    migrate::{Divergence, MigrationFailure, Place},
    platform::PlatformError,
    provisioning::ProvisioningError,
    secret::SecretError,
    templates::TemplateError,
    testing::LocalServerError,
};
use serde::Serialize;
use std::{error::Error as StdError, fmt::Write as _, path::Path};

use super::{
    hint,
    printer::{Annotation, Printer},
    server_detail::ServerDetail,
    style::{BAD, FAINT, HEADING, count, paint, sanitize},
};
use crate::cli::exit::Exit;

/// Different errors of a run that are shown in full.
const ERRORS_MAX: usize = 10;

/// A refusal of the program's own, with what to do about it.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub(crate) struct Refusal {
    pub(crate) message: String,
    pub(crate) hint: String,
    pub(crate) exit: Exit,
}

impl Refusal {
    /// A file that somebody named cannot be read or written.
    pub(crate) fn file(doing: &str, file: &Path, error: &std::io::Error) -> Self {
        let message = format!("could not {doing} {}: {error}", display_path(file));
        Self { message, hint: "Check the path. Nothing was changed.".into(), exit: Exit::Usage }
    }
}

/// An error, ready to be shown or written as a record.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<&'static str>,
    kind: &'static str,
    message: String,
    /// What the message is made up of, where it is more than one thing.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    problems: Vec<String>,
    causes: Vec<String>,
    /// What the server said beyond its message.
    #[serde(skip_serializing_if = "Option::is_none")]
    server: Option<ServerDetail>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sqlstate: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    place: Option<PlaceView>,
    /// Where a file without a transaction goes on.
    #[serde(skip_serializing_if = "Option::is_none")]
    unfinished: Option<UnfinishedView>,
    /// Migrations that were committed before the one that failed.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    committed: Vec<String>,
    /// How many schemas already have the file that failed.
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

/// Where in a migration file.
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
    pub(crate) fn of(error: &anyhow::Error) -> Self {
        if let Some(error) = error.downcast_ref::<Error>() {
            return Self::of_library(error);
        }
        if let Some(error) = error.downcast_ref::<ConfigError>() {
            return Self::of_configuration(error);
        }
        if let Some(error) = error.downcast_ref::<InvalidSlug>() {
            return Self::of_library(&Error::InvalidSlug(error.clone()));
        }
        if let Some(error) = error.downcast_ref::<AuthError>() {
            return Self::of_auth(error);
        }
        if let Some(error) = error.downcast_ref::<DomainError>() {
            return Self::of_domain(error);
        }
        if let Some(error) = error.downcast_ref::<ProvisioningError>() {
            return Self::of_provisioning(error);
        }
        if let Some(error) = error.downcast_ref::<PlatformError>() {
            return Self::of_platform(error);
        }
        if let Some(error) = error.downcast_ref::<TemplateError>() {
            return Self::of_template(error);
        }
        if let Some(error) = error.downcast_ref::<SecretError>() {
            return Self::of_secret(error);
        }
        if let Some(refusal) = error.downcast_ref::<Refusal>() {
            return Self { hint: Some(refusal.hint.clone()), ..Self::plain("refused", &refusal.message, refusal.exit) };
        }
        let causes = causes(error.chain().nth(1));
        if let Some(local) = error.downcast_ref::<LocalServerError>() {
            return Self { causes, ..Self::plain("unavailable", &local.to_string(), Exit::Unavailable) };
        }
        Self { causes, ..Self::plain("failed", &error.to_string(), Exit::Failed) }
    }

    pub(crate) fn of_library(error: &Error) -> Self {
        if let Error::Config(error) = error {
            return Self::of_configuration(error);
        }
        let mut report = Self {
            code: Some(error.code()),
            causes: causes(error.source()),
            server: ServerDetail::of(error),
            sqlstate: error.sqlstate().map(|state| state.code().to_owned()),
            hint: hint::of(error),
            ..Self::plain(kind(error.kind()), &error.to_string(), error.kind().into())
        };
        match error {
            Error::Migration(MigrationError::Failed(failure)) => report.tell_failure(failure),
            Error::Migration(MigrationError::Diverged(divergence)) => report.tell_divergence(divergence),
            Error::Migration(MigrationError::WrongFiles { set, mismatches }) => {
                report.message = format!("the {set} migrations are not those of this database; nothing was changed");
                report.problems = mismatches.iter().map(ToString::to_string).collect();
            }
            Error::Migration(MigrationError::Invalid { problems }) => {
                report.message =
                    format!("{} in the migrations; no database was touched", count(problems.len(), "problem"));
                report.problems = problems
                    .iter()
                    .map(|problem| {
                        let line = problem.line.map(|line| format!(":{line}")).unwrap_or_default();
                        format!("{}{line}: {}", display_path(&problem.file), without_here(&problem.problem))
                    })
                    .collect();
            }
            Error::Migration(MigrationError::BaselineDiffers { differences, .. }) => {
                report.problems.clone_from(differences);
            }
            Error::Migration(MigrationError::NoReference { file, .. }) => {
                report.message =
                    format!("could not compute the expected schema: {} fails in an empty schema", display_path(file));
            }
            Error::Migration(MigrationError::Rehearsal { source }) => report.tell_rehearsal(source),
            Error::Migration(MigrationError::NotRehearsable { file }) => {
                report.message = format!(
                    "{} cannot be rehearsed: it writes outside its schema or creates an extension in it",
                    display_path(file)
                );
            }
            Error::Migration(MigrationError::Unreadable { path, problem, .. }) => {
                report.message = format!("could not use the migrations in {}: {problem}", display_path(path));
            }
            _ => {}
        }
        report
    }

    /// The failure of a rehearsal: what failed in its schema, whose name says nothing to anyone.
    fn tell_rehearsal(&mut self, source: &Error) {
        let inner = Self::of_library(source);
        match source {
            Error::Migration(MigrationError::Failed(failure)) => {
                let file = display_path(&failure.file);
                self.message = format!("the migrations cannot create a new tenant: {file} fails in an empty schema");
                self.causes = inner.causes;
            }
            _ => self.causes = std::iter::once(inner.message).chain(inner.causes).collect(),
        }
        self.place = inner.place;
    }

    fn of_auth(error: &AuthError) -> Self {
        match error {
            AuthError::Database(error) => Self::of_library(error),
            AuthError::TablesMissing { source } => Self {
                hint: Some(hint::TABLES_MISSING.into()),
                causes: causes(Some(source)),
                ..Self::plain("not_ready", &error.to_string(), Exit::Failed)
            },
            AuthError::Invalid { .. } => Self::plain("invalid", &error.to_string(), Exit::Usage),
            AuthError::NotFound { .. } => Self::plain("not_found", &error.to_string(), Exit::Failed),
            _ => Self::plain("refused", &error.to_string(), Exit::Failed),
        }
    }

    fn of_provisioning(error: &ProvisioningError) -> Self {
        match error {
            ProvisioningError::Database(error) => Self::of_library(error),
            ProvisioningError::TablesMissing { source } => Self {
                hint: Some(hint::QUEUE_MISSING.into()),
                causes: causes(Some(source)),
                ..Self::plain("not_ready", &error.to_string(), Exit::Failed)
            },
            ProvisioningError::NotFound => Self::plain("not_found", &error.to_string(), Exit::Failed),
            _ => Self::plain("refused", &error.to_string(), Exit::Failed),
        }
    }

    fn of_domain(error: &DomainError) -> Self {
        match error {
            DomainError::Database(error) => Self::of_library(error),
            DomainError::TablesMissing { source } => Self {
                hint: Some(hint::DOMAINS_MISSING.into()),
                causes: causes(Some(source)),
                ..Self::plain("not_ready", &error.to_string(), Exit::Failed)
            },
            DomainError::Invalid(_) => Self::plain("invalid", &error.to_string(), Exit::Usage),
            DomainError::NotFound { .. } => Self::plain("not_found", &error.to_string(), Exit::Failed),
            _ => Self::plain("refused", &error.to_string(), Exit::Failed),
        }
    }

    fn of_platform(error: &PlatformError) -> Self {
        match error {
            PlatformError::Database(error) => Self::of_library(error),
            PlatformError::TablesMissing { source } => Self {
                hint: Some(hint::PLATFORM_MISSING.into()),
                causes: causes(Some(source)),
                ..Self::plain("not_ready", &error.to_string(), Exit::Failed)
            },
            PlatformError::Invalid { .. } => Self::plain("invalid", &error.to_string(), Exit::Usage),
            PlatformError::NotFound { .. } => Self::plain("not_found", &error.to_string(), Exit::Failed),
            _ => Self::plain("refused", &error.to_string(), Exit::Failed),
        }
    }

    fn of_template(error: &TemplateError) -> Self {
        if let TemplateError::Migrations(error) = error {
            return Self::of_library(error);
        }
        let (kind, exit) = match error {
            TemplateError::Unknown { .. } | TemplateError::NotInProject { .. } => ("not_found", Exit::Usage),
            TemplateError::Read { .. } | TemplateError::Write { .. } => ("failed", Exit::Failed),
            _ => ("refused", Exit::Usage),
        };
        let message = without_here(&error.to_string());
        Self { causes: causes(error.source()), hint: hint::of_template(error), ..Self::plain(kind, &message, exit) }
    }

    fn of_secret(error: &SecretError) -> Self {
        match error {
            SecretError::Platform(error) => Self::of_platform(error),
            SecretError::NoKeys | SecretError::InvalidKeys { .. } => {
                Self { hint: Some(hint::SECRET_KEYS.into()), ..Self::plain("invalid", &error.to_string(), Exit::Usage) }
            }
            _ => Self::plain("refused", &error.to_string(), Exit::Failed),
        }
    }

    fn of_configuration(error: &ConfigError) -> Self {
        let library = "CGK0102";
        let mut report = Self { code: Some(library), ..Self::plain("invalid", &error.to_string(), Exit::Usage) };
        report.causes = causes(error.source());
        report.hint = Some(error.mend().to_owned());
        if error.is_missing_url() {
            report.message = "DATABASE_URL is not set".into();
            report.hint = Some(format!("{} To try cgk on a temporary server: cgk demo", error.mend()));
        }
        report
    }

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

    /// A wrong command line, in the words of the parser.
    pub(crate) fn usage(message: &str) -> Self {
        Self::plain("usage", message, Exit::Usage)
    }

    /// A signal.
    pub(crate) fn interrupted(message: &str, exit: Exit) -> Self {
        Self::plain("interrupted", message, exit)
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

    /// The error in one line, for a list in which the schema stands beside it.
    pub(crate) fn short(&self) -> String {
        match (&self.place, self.causes.first()) {
            (Some(place), Some(cause)) => format!("{}:{}:{}: {cause}", place.file, place.line, place.column),
            _ if self.kind == "drift" && !self.problems.is_empty() => self.problems.join("; "),
            _ => self.message.clone(),
        }
    }

    /// What two reports have in common that tell of the same fault in different tenants.
    pub(crate) fn likeness(&self, slug: &TenantSlug) -> String {
        let schema = SchemaName::of_tenant(slug);
        let text = format!("{:?} {} {:?} {:?}", self.code, self.message, self.problems, self.causes);
        text.replace(&format!("{:?}", schema.as_str()), "its schema")
    }

    /// The record that ends the answer of a command that failed.
    pub(crate) fn record(&self) -> impl Serialize + '_ {
        Record { event: "error", v: crate::cli::JSON_VERSION, report: self, exit: self.exit }
    }

    /// The report for people; `names` are the tenants that met the same error, where one report stands for several.
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

    /// The report as GitHub Actions shows it, beside the line of the file where there is one.
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

    /// Tells each error once, with the tenants that met it.
    pub(crate) fn tell_each_once<'a>(printer: &Printer, failures: impl Iterator<Item = (&'a TenantSlug, &'a Error)>) {
        let mut groups: Vec<(String, &Error, Vec<&str>)> = Vec::new();
        for (slug, error) in failures {
            let key = Self::of_library(error).likeness(slug);
            match groups.iter_mut().find(|(other, ..)| *other == key) {
                Some((_, _, slugs)) => slugs.push(slug.as_str()),
                None => groups.push((key, error, vec![slug.as_str()])),
            }
        }
        for (_, error, slugs) in groups.iter().take(ERRORS_MAX) {
            let report = Self::of_library(error);
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

    fn tell_failure(&mut self, failure: &MigrationFailure) {
        let file = display_path(&failure.file);
        let at = failure.place.as_ref().map(|place| format!(":{}:{}", place.line, place.column)).unwrap_or_default();
        self.message = format!("migration {file}{at} failed in schema {:?}", failure.schema.as_str());
        if let Some(unfinished) = failure.unfinished {
            let (statement, of) = (unfinished.statement, unfinished.of);
            self.message.push_str(&format!(" at statement {statement} of {of}"));
            self.unfinished = Some(UnfinishedView { statement, of });
        }
        self.schemas_with_file = failure.schemas_with_file;
        self.committed = failure.committed.iter().map(ToString::to_string).collect();
        self.causes = vec![format!("{} ({})", failure.message, failure.sqlstate.code())];
        self.place = failure.place.as_ref().map(|Place { line, column, text }| PlaceView {
            file,
            line: *line,
            column: *column,
            text: text.clone(),
        });
    }

    fn tell_divergence(&mut self, divergence: &Divergence) {
        self.message = format!("schema {:?} and the migration files do not agree", divergence.schema.as_str());
        for (ids, what) in [
            (&divergence.edited, "was edited after it was applied"),
            (&divergence.missing, "is applied here, but its file is missing"),
            (&divergence.out_of_order, "is not applied here, but a later one is"),
            (&divergence.ahead, "is applied here, but its file is missing: the database is newer than the files"),
        ] {
            self.problems.extend(ids.iter().map(|id| format!("{id} {what}")));
        }
    }
}

/// The failing line with a mark under the column. Tabs are kept in both lines, so that the mark stands right whatever the
/// terminal makes of them.
fn excerpt(place: &PlaceView) -> String {
    const BEFORE_MAX: usize = 70;
    const WIDTH_MAX: usize = 110;
    let characters: Vec<char> = place.text.chars().collect();
    let at = (place.column - 1).min(characters.len());
    let from = if characters.len() > WIDTH_MAX { at.saturating_sub(BEFORE_MAX) } else { 0 };
    let until = characters.len().min(from + WIDTH_MAX);
    let (open, close) = (if from > 0 { "…" } else { "" }, if until < characters.len() { "…" } else { "" });
    let line: String =
        characters[from..until].iter().map(|c| if c.is_control() && *c != '\t' { ' ' } else { *c }).collect();
    let lead: String = open
        .chars()
        .map(|_| ' ')
        .chain(characters[from..at].iter().map(|c| if *c == '\t' { '\t' } else { ' ' }))
        .collect();
    let number = place.line.to_string();
    let gutter = " ".repeat(number.len());
    let bar = paint(FAINT, "|");
    format!("\n {gutter} {bar}\n {number} {bar} {open}{line}{close}\n {gutter} {bar} {lead}{}", paint(BAD, "^"))
}

/// The first few names, and how many more there are.
pub(crate) fn listed(names: &[&str]) -> String {
    const SHOWN_MAX: usize = 8;
    let shown = names.iter().take(SHOWN_MAX).copied().collect::<Vec<_>>().join(", ");
    match names.len().saturating_sub(SHOWN_MAX) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

/// A path as short as it can be told from here.
pub(crate) fn display_path(path: &Path) -> String {
    let here = std::env::current_dir().ok();
    let short =
        here.as_deref().and_then(|here| path.strip_prefix(here).ok()).filter(|rest| !rest.as_os_str().is_empty());
    // A name may hold what ends a line.
    sanitize(&short.unwrap_or(path).display().to_string()).replace('\n', "\\n").replace('\t', "\\t")
}

/// A text with the paths in it as short as they can be told from here.
fn without_here(text: &str) -> String {
    match std::env::current_dir() {
        Ok(here) => text.replace(&format!("{}/", here.display()), ""),
        Err(_) => text.to_owned(),
    }
}

/// Each cause once: what a cause has said already in the words of the next is left out.
fn causes(first: Option<&(dyn StdError + 'static)>) -> Vec<String> {
    let mut causes: Vec<String> = Vec::new();
    let mut next = first;
    while let Some(error) = next {
        next = error.source();
        // The details of a server's message carry values of rows; they stay out.
        if let Some(server) = error.downcast_ref::<tokio_postgres::error::DbError>() {
            causes.push(format!("{}: {} ({})", server.severity(), server.message(), server.code().code()));
            break;
        }
        let text = error.to_string();
        let is_driver = error.is::<DriverError>() || error.is::<tokio_postgres::Error>();
        let wraps = is_driver && text == "db error";
        if !wraps && !causes.iter().any(|cause| cause.contains(&text)) {
            causes.push(text);
        }
    }
    causes
}

fn kind(kind: ErrorKind) -> &'static str {
    match kind {
        ErrorKind::Invalid => "invalid",
        ErrorKind::Unavailable => "unavailable",
        ErrorKind::Denied => "denied",
        ErrorKind::NotReady => "not_ready",
        ErrorKind::NotFound => "not_found",
        ErrorKind::Suspended => "suspended",
        ErrorKind::Conflict => "conflict",
        ErrorKind::Refused => "refused",
        ErrorKind::CommitUnknown => "commit_unknown",
        ErrorKind::Locked => "locked",
        ErrorKind::Drift => "drift",
        ErrorKind::Failed => "failed",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mark(text: &str, column: usize) -> String {
        let place = PlaceView { file: "x.sql".into(), line: 7, column, text: text.into() };
        anstream::adapter::strip_str(&excerpt(&place)).to_string()
    }

    #[test]
    fn the_mark_stands_under_the_character() {
        assert_eq!(mark("sélect ü nope", 10), "\n   |\n 7 | sélect ü nope\n   |          ^");
        assert_eq!(mark("\tx\ty", 4), "\n   |\n 7 | \tx\ty\n   | \t \t^");
        assert_eq!(mark("", 1), "\n   |\n 7 | \n   | ^");
    }

    #[test]
    fn a_long_line_is_cut_around_the_mark() {
        let text = format!("{}X{}", "a".repeat(300), "b".repeat(300));
        let lines = mark(&text, 301);
        let [_, _, line, mark] = lines.lines().collect::<Vec<_>>()[..] else { panic!("{lines}") };
        assert_eq!(line.chars().position(|c| c == 'X'), mark.chars().position(|c| c == '^'));
        assert!(line.chars().count() < 130);
    }
}
