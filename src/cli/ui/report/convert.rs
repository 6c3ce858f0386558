//! Converts an error of the library or of the command-line program to a report.

use super::{
    super::{hint, server_detail::ServerDetail, style::count},
    Missing, PlaceView, Refusal, Report, UnfinishedView,
    path::{display_path, without_here},
};
use crate::cli::exit::Exit;
use cgk::{
    DriverError, Error, ErrorKind, Instead, InvalidSlug, MigrationError, TransactionError,
    auth::AuthError,
    config::ConfigError,
    domains::DomainError,
    migrate::{Divergence, MigrationFailure, Place},
    platform::PlatformError,
    provisioning::ProvisioningError,
    secret::SecretError,
    templates::TemplateError,
};
use std::error::Error as StdError;

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
        if let Some(missing) = error.downcast_ref::<Missing>() {
            let hint = Some(missing.hint.clone());
            return Self { hint, ..Self::plain("not_found", &missing.message, Exit::Failed) };
        }
        let causes = causes(error.chain().nth(1));
        #[cfg(feature = "demo")]
        if let Some(local) = error.downcast_ref::<cgk::testing::LocalServerError>() {
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
            Error::Transaction(TransactionError::StatementRefused { form, instead }) => {
                report.message = format!("`{form}` is refused inside a transaction of cgk: {}", in_sql(*instead));
            }
            _ => {}
        }
        report
    }

    /// Sets the report to the error in the rehearsal's schema. The name of this schema is left out, because users do
    /// not know it.
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
            AuthError::OrganizationSuspended => Self::of_suspended(&error.to_string()),
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
            PlatformError::OrganizationSuspended => Self::of_suspended(&error.to_string()),
            PlatformError::NotFound { .. } => Self::plain("not_found", &error.to_string(), Exit::Failed),
            _ => Self::plain("refused", &error.to_string(), Exit::Failed),
        }
    }

    fn of_suspended(message: &str) -> Self {
        Self { hint: Some(hint::SUSPENDED.into()), ..Self::plain("suspended", message, Exit::Failed) }
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
        report.hint = Some(error.advice().to_owned());
        if error.is_missing_url() {
            report.message = "DATABASE_URL is not set".into();
            let demo = if cfg!(feature = "demo") { " To try cgk on a temporary server: cgk demo" } else { "" };
            report.hint = Some(format!("{}{demo}", error.advice()));
        }
        report
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
        let renamed = divergence.renamed.iter().map(|file| format!("{} {}", file.recorded, file.problem()));
        self.problems.extend(renamed);
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

/// Returns what to do instead of a statement in SQL, where the library names the items of its own interface.
fn in_sql(instead: Instead) -> String {
    match instead {
        Instead::ReturnFromClosure => {
            "cgk begins and ends the transaction of each tenant; take the statement out".into()
        }
        Instead::CallForRole => "the role belongs to the transaction; what the operator does runs with psql".into(),
        Instead::OtherSavepointName => "names that start with cgk_ are reserved; choose another name".into(),
        Instead::CopyMethods => "psql runs COPY".into(),
        instead => instead.to_string(),
    }
}

/// Returns each cause once. If a cause repeats the text of the next one, this part is left out.
fn causes(first: Option<&(dyn StdError + 'static)>) -> Vec<String> {
    let mut causes: Vec<String> = Vec::new();
    let mut next = first;
    while let Some(error) = next {
        next = error.source();
        // The details of a server's message can contain values of rows, so they are left out.
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
