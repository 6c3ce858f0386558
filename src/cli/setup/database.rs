//! `cgk setup:database`

mod summary;
mod text;

pub(crate) use text::span;

use super::{
    identity,
    isolation::{self, Finish, Start},
    lines::{ok, warning},
};
use crate::cli::{
    audit,
    config::show::SettingView,
    exit::Exit,
    session::Session,
    ui::{
        progress::Progress,
        report::Report,
        style::{COMMAND, HEADING, count, paint, sanitize},
        time,
    },
};
use anyhow::Result;
use cgk::{
    Config, Error, Operator,
    config::Isolation,
    lifecycle,
    login::{self, Admission, DirectRights, LoginName, LoginOptions, PasswordChange, SharedTables},
    setup::{self, HardeningMode, HardeningReport, MeasureState},
};
use clap::{Args, ValueEnum};
use std::time::Instant;
use summary::{AppRoleView, DryRunSummary, MeasureView, Summary};

pub(crate) const EXAMPLES: &str = "\
Examples:
  DATABASE_URL=postgresql://cgk:PASSWORD@localhost:5432/app cgk setup:database
  cgk setup:database --migrations migrations    with your own migrations
  cgk setup:database --app-role app             also create the services' login, print its URL once
  cgk setup:database --harden --dry-run         show which rights would be revoked
  cgk setup:database --json                     for scripts

You can run it again at any time: it changes only what is missing. Tenants' data is not touched; \
             --app-role and --isolate-tenants grant rights on their schemas.";

#[derive(Args, Debug)]
pub(crate) struct Arguments {
    /// Create or complete a login for services, with the rights to enter tenants
    #[arg(long, value_name = "NAME")]
    app_role: Option<LoginName>,
    /// Which shared tables that login may use [default for a new login: registry]
    #[arg(long, value_name = "WHICH", requires = "app_role")]
    app_tables: Option<AppTables>,
    /// Set a new password for an existing login and print its URL
    #[arg(long, requires = "app_role")]
    new_password: bool,
    /// Revoke that login's direct rights on tenants' schemas, when no service uses path isolation
    #[arg(long, requires = "app_role")]
    revoke_direct: bool,
    /// Create missing tenant roles; in a database with path isolation this starts the change to role isolation
    #[arg(long)]
    isolate_tenants: bool,
    /// Change the database's isolation to --isolation: `start` accepts both, `finish` only the new one
    #[arg(long, value_name = "STEP")]
    change_isolation: Option<ChangeStep>,
    /// Revoke rights from PUBLIC that injected SQL needs; see docs/security.md
    #[arg(long)]
    harden: bool,
    /// Show what --harden would do and change nothing
    #[arg(long, requires = "harden", conflicts_with_all = ["app_role", "isolate_tenants", "change_isolation", "new_identity"])]
    dry_run: bool,
    /// Give a copied or moved database its own roles, and revoke the rights of the original's roles
    #[arg(long)]
    new_identity: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum AppTables {
    /// Id, slug and status of organizations: enough to enter a tenant
    Registry,
    /// Read and write all shared tables, for db.platform()
    All,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum ChangeStep {
    /// Accept services with the old and the new isolation
    Start,
    /// Refuse services with the old isolation
    Finish,
}

pub(crate) async fn run(session: &Session<'_>, arguments: &Arguments) -> Result<Exit> {
    let printer = session.printer;
    let config = session.config()?;
    let settings = SettingView::all(&config);
    printer.output(paint(HEADING, "Configuration"));
    printer.sentence(text::configuration(&settings, printer.is_verbose()));
    let migrations = session.migrations(&config)?;

    let renewed = match arguments.new_identity {
        true => Some(lifecycle::new_identity(&config).await?),
        false => None,
    };
    isolation::start(&config, arguments.starts_change()).await?;
    let operator = Operator::connect(&config).await?;
    session.warn_of_service_login(&operator);
    session.introduce("setup:database", &operator, &migrations);
    section(session, "Connection", text::connection(&operator));
    if arguments.dry_run {
        return dry_run(session, &operator).await;
    }
    if let Some(renewed) = &renewed {
        section(session, "Identity", identity::lines(renewed));
    }

    heading(session, "Shared schema");
    let began = Instant::now();
    let report = setup::setup(&operator, &migrations, &mut Progress::new(printer)).await?;
    audit::keep_months(&operator).await;
    lines(session, text::shared_schema(&report, &migrations, began));
    let tenants = tenants(session, &operator, arguments).await?;
    if arguments.leaves_isolation() {
        login::complete(&operator).await?;
    }
    let (modes, about_modes) = isolation::finish(&operator, arguments.finish()).await?;
    lines(session, about_modes);
    let admission = admit(session, &operator, &config, arguments).await?;
    let hardening = match arguments.harden {
        true => Some(harden(session, &operator, HardeningMode::Apply).await?),
        false => None,
    };
    // The failure is shown, and is not an error, because an error would hide the password that was just shown.
    let failure = admission.as_ref().and_then(|admission| admission.failure.as_ref());
    if let Some(failure) = failure {
        printer.error(Report::of_library(failure).render(&[]));
    }
    // A database in which the next command fails is not ready.
    let not_ready = lifecycle::check_rights(&operator).await.err();
    let unfinished = renewed.as_ref().is_some_and(|renewed| !renewed.failed.is_empty());
    let exit = match () {
        () if unfinished || tenants.failed || !report.bound.failed.is_empty() || failure.is_some() => Exit::Partial,
        () if hardening.as_ref().is_some_and(|report| !report.is_complete()) || not_ready.is_some() => Exit::Failed,
        () => Exit::Done,
    };
    let has_tenants = report.bound.tenants > 0;
    printer.record(&Summary {
        new_identity: renewed.as_ref().map(identity::View::of),
        app_role: admission.as_ref().map(|admission| AppRoleView::of(admission, &config)),
        hardening: hardening.as_ref().map(MeasureView::all),
        not_ready: not_ready.as_ref().map(Report::of_library),
        ms: time::milliseconds(began.elapsed()),
        exit,
        ..Summary::of(report, modes, tenants, settings)
    });
    conclude(session, exit, not_ready.as_ref(), has_tenants);
    Ok(exit)
}

/// Writes the heading of a later section.
fn heading(session: &Session<'_>, name: &str) {
    session.printer.output(format!("\n{}", paint(HEADING, name)));
}

/// Writes a heading and the lines below it.
fn section(session: &Session<'_>, name: &str, below: impl IntoIterator<Item = String>) {
    heading(session, name);
    lines(session, below);
}

fn lines(session: &Session<'_>, lines: impl IntoIterator<Item = String>) {
    for line in lines {
        session.printer.sentence(line);
    }
}

async fn dry_run(session: &Session<'_>, operator: &Operator) -> Result<Exit> {
    let hardening = harden(session, operator, HardeningMode::DryRun).await?;
    let exit = if hardening.is_complete() { Exit::Done } else { Exit::Pending };
    session.printer.record(&DryRunSummary { event: "summary", hardening: MeasureView::all(&hardening), exit });
    Ok(exit)
}

/// Creates or completes the login for services.
async fn admit(
    session: &Session<'_>,
    operator: &Operator,
    config: &Config,
    arguments: &Arguments,
) -> Result<Option<Admission>> {
    let Some(name) = &arguments.app_role else { return Ok(None) };
    heading(session, "Login of services");
    let admission = login::admit(operator, name, &arguments.login_options()).await?;
    lines(session, text::login_lines(&admission, config, arguments.login_options().direct_rights));
    Ok(Some(admission))
}

/// Prints the next step, or why the next command fails.
fn conclude(session: &Session<'_>, exit: Exit, not_ready: Option<&Error>, has_tenants: bool) {
    let printer = session.printer;
    if let Some(error) = not_ready {
        printer.error(format!("\n{}", Report::of_library(error).render(&[])));
        printer.info(format!(
            "\nThe shared schema is set up, but {} fails until this is fixed.",
            paint(COMMAND, "cgk tenant:create")
        ));
    }
    if exit == Exit::Done {
        let next = if has_tenants { "cgk migrate:status" } else { "cgk tenant:create <slug>" };
        printer.info(format!("\nThe database is ready. Next: {}", paint(COMMAND, next)));
    }
}

/// Hardens the database, or shows what that would change.
async fn harden(session: &Session<'_>, operator: &Operator, mode: HardeningMode) -> Result<HardeningReport> {
    let printer = session.printer;
    heading(session, "Hardening");
    let report = setup::harden(operator, mode).await?;
    for measure in &report.measures {
        let name = MeasureView::name(measure.measure);
        printer.sentence(match measure.state {
            MeasureState::InPlace => ok(format!("{name}: nothing to do")),
            MeasureState::Applied => ok(format!("{name}: done")),
            MeasureState::Pending => warning(format!("{name}: would run")),
            _ => warning(format!(
                "{name}: role {} may not do this; run as a superuser:",
                sanitize(&operator.facts().role)
            )),
        });
        for statement in &measure.statements {
            printer.output(format!("        {};", sanitize(statement)));
        }
    }
    Ok(report)
}

#[derive(Default)]
struct Tenants {
    isolated: Vec<String>,
    without_role: Vec<String>,
    failed: bool,
}

/// Creates the roles that tenants lack, or reports that they lack them.
async fn tenants(session: &Session<'_>, operator: &Operator, arguments: &Arguments) -> Result<Tenants> {
    let printer = session.printer;
    let mut tenants = Tenants::default();
    if arguments.isolate_tenants || arguments.leaves_isolation() && !lifecycle::without_role(operator).await?.is_empty()
    {
        let report = lifecycle::isolate(operator).await?;
        heading(session, "Tenants");
        let done = count(report.finished.len(), "tenant");
        printer.sentence(ok(match operator.config().isolation() {
            Isolation::Role => format!("created the role of {done}"),
            Isolation::Path => "path isolation needs no roles".into(),
        }));
        for (slug, error) in report.failed {
            printer.sentence(warning(format!("tenant {slug}: {}", Report::of_library(&error).short())));
            tenants.failed = true;
        }
        tenants.isolated = report.finished.iter().map(ToString::to_string).collect();
    }
    tenants.without_role = lifecycle::without_role(operator).await?.iter().map(ToString::to_string).collect();
    if !tenants.without_role.is_empty() && !arguments.isolate_tenants && !arguments.leaves_isolation() {
        printer.warn(format!(
            "{} without a role cannot be entered with role isolation; `cgk setup:database --isolate-tenants` creates \
             the roles",
            count(tenants.without_role.len(), "tenant")
        ));
    }
    Ok(tenants)
}

impl Arguments {
    fn starts_change(&self) -> Start {
        match (self.change_isolation, self.isolate_tenants) {
            (Some(ChangeStep::Start), _) => Start::Asked,
            (_, true) => Start::WithRoles,
            _ => Start::No,
        }
    }

    /// Whether services with the other isolation are refused, or lose their rights. Before that, each tenant that was
    /// created for them must have the objects that this isolation needs.
    fn leaves_isolation(&self) -> bool {
        self.change_isolation == Some(ChangeStep::Finish) || self.revoke_direct
    }

    fn finish(&self) -> Finish<'_> {
        match (self.change_isolation, &self.app_role) {
            (Some(ChangeStep::Finish), name) => Finish::Asked(name.as_ref().filter(|_| self.revoke_direct)),
            (_, Some(name)) if self.revoke_direct => Finish::AfterLast(name),
            _ => Finish::No,
        }
    }

    fn login_options(&self) -> LoginOptions {
        let mut options = LoginOptions::default();
        options.shared_tables = self.app_tables.map(|tables| match tables {
            AppTables::Registry => SharedTables::Registry,
            AppTables::All => SharedTables::All,
        });
        options.password = if self.new_password { PasswordChange::New } else { PasswordChange::Keep };
        options.direct_rights = if self.revoke_direct { DirectRights::Revoke } else { DirectRights::Keep };
        options
    }
}
