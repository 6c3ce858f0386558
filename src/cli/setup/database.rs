//! `cgk setup:database`

use anyhow::Result;
use cgk::{
    Config, Operator,
    config::Isolation,
    lifecycle,
    login::{self, Admission, DirectRights, LoginName, LoginOptions, PasswordWish, SharedTables},
    migrate::{MigrationId, Migrations},
    setup::{self, Hardening, HardeningMode, HardeningReport, MeasureState, RegistryGuard},
};
use clap::{Args, ValueEnum};
use serde::Serialize;
use std::time::Instant;

use super::{
    identity,
    isolation::{self, Finish, Start},
    lines::{NotBoundView, ok, warning},
};
use crate::cli::{
    config::show::SettingView,
    exit::Exit,
    session::{self, Session},
    ui::{
        progress::Progress,
        report::Report,
        style::{COMMAND, FAINT, HEADING, count, paint, sanitize},
        table, time,
    },
};

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

#[derive(Serialize)]
struct Summary {
    event: &'static str,
    applied: Vec<String>,
    head: Option<String>,
    tables: Vec<String>,
    public_hardening: &'static str,
    registry_guard: &'static str,
    /// Why services are not notified of changes of tenants and credentials.
    #[serde(skip_serializing_if = "Option::is_none")]
    changes_not_notified: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    new_identity: Option<identity::View>,
    /// Tenants whose schemas this run bound to their organizations.
    tenants_bound: Vec<String>,
    /// Tenants whose schemas it could not bind, or that belong to another organization.
    tenants_not_bound: Vec<NotBoundView>,
    #[serde(skip_serializing_if = "Option::is_none")]
    app_role: Option<AppRoleView>,
    /// `role` or `path`.
    isolation: &'static str,
    /// What the database accepts besides, while a change is not finished.
    isolation_leaving: Option<&'static str>,
    tenants_isolated: Vec<String>,
    tenants_without_role: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    hardening: Option<Vec<MeasureView>>,
    settings: Vec<SettingView>,
    /// Why tenants cannot be created yet.
    #[serde(skip_serializing_if = "Option::is_none")]
    not_ready: Option<Report>,
    ms: u64,
    exit: Exit,
}

#[derive(Serialize)]
struct DryRunSummary {
    event: &'static str,
    hardening: Vec<MeasureView>,
    exit: Exit,
}

#[derive(Serialize)]
struct MeasureView {
    measure: &'static str,
    /// `in_place`, `applied`, `pending` or `not_allowed`.
    state: &'static str,
    statements: Vec<String>,
}

#[derive(Serialize)]
struct AppRoleView {
    name: String,
    created: bool,
    /// With the password; only in the run that set it.
    url: Option<String>,
    tables: &'static str,
    tenants: usize,
    left_out: Vec<String>,
    direct: usize,
}

pub(crate) async fn run(session: &Session<'_>, arguments: &Arguments) -> Result<Exit> {
    let printer = session.printer;
    let config = session.config()?;
    printer.output(paint(HEADING, "Configuration"));
    let settings = SettingView::all(&config);
    printer.output(configuration(&settings, printer.is_verbose()));
    let migrations = session.migrations(&config)?;

    let renewed = match arguments.new_identity {
        true => Some(lifecycle::new_identity(&config).await?),
        false => None,
    };
    isolation::start(&config, arguments.starts_change()).await?;
    let operator = Operator::connect(&config).await?;
    session.warn_of_service_login(&operator);
    session.introduce("setup:database", &operator, &migrations);
    printer.output(format!("\n{}", paint(HEADING, "Connection")));
    for line in connection(&operator) {
        printer.output(line);
    }

    if arguments.dry_run {
        let hardening = harden(session, &operator, HardeningMode::DryRun).await?;
        let exit = if hardening.is_complete() { Exit::Done } else { Exit::Pending };
        printer.record(&DryRunSummary { event: "summary", hardening: MeasureView::all(&hardening), exit });
        return Ok(exit);
    }
    if let Some(renewed) = &renewed {
        printer.output(format!("\n{}", paint(HEADING, "Identity")));
        for line in identity::lines(renewed) {
            printer.output(line);
        }
    }

    printer.output(format!("\n{}", paint(HEADING, "Shared schema")));
    let began = Instant::now();
    let report = setup::setup(&operator, &migrations, &mut Progress::new(printer)).await?;
    for line in shared_schema(&report, &migrations, began) {
        printer.output(line);
    }
    let tenants = tenants(session, &operator, arguments).await?;
    if arguments.leaves_isolation() {
        login::complete(&operator).await?;
    }
    let modes = isolation::finish(&operator, arguments.finish()).await?;
    if let Some(line) = isolation::line(modes) {
        printer.output(line);
    }
    let admission = match &arguments.app_role {
        Some(name) => {
            printer.output(format!("\n{}", paint(HEADING, "Login of services")));
            let admission = login::admit(&operator, name, &arguments.login_options()).await?;
            for line in login_lines(&admission, &config) {
                printer.output(line);
            }
            Some(admission)
        }
        None => None,
    };
    let hardening = match arguments.harden {
        true => Some(harden(session, &operator, HardeningMode::Apply).await?),
        false => None,
    };
    // Told, and no error: the password that was just shown must not be hidden by one.
    let stopped = admission.as_ref().and_then(|admission| admission.failure.as_ref());
    if let Some(failure) = stopped {
        printer.error(Report::of_library(failure).render(&[]));
    }
    let unfinished = renewed.as_ref().is_some_and(|renewed| !renewed.failed.is_empty());
    let partial = unfinished || tenants.failed || !report.bound.failed.is_empty() || stopped.is_some();
    let exit = if partial { Exit::Partial } else { Exit::Done };
    let exit = match &hardening {
        Some(report) if exit == Exit::Done && !report.is_complete() => Exit::Failed,
        _ => exit,
    };
    // A database in which the next command must fail is not ready.
    let not_ready = lifecycle::check_rights(&operator).await.err();
    let exit = if exit == Exit::Done && not_ready.is_some() { Exit::Failed } else { exit };
    printer.record(&Summary {
        event: "summary",
        applied: report.applied.iter().map(ToString::to_string).collect(),
        head: report.head.as_ref().map(ToString::to_string),
        tables: report.tables,
        public_hardening: match report.hardened {
            Hardening::NotNeeded => "not_needed",
            Hardening::Revoked => "revoked",
            Hardening::NotAllowed => "not_allowed",
        },
        registry_guard: match report.registry_guard {
            RegistryGuard::Present => "present",
            RegistryGuard::Made => "made",
            RegistryGuard::NotAllowed => "not_allowed",
            RegistryGuard::NotPossible => "not_possible",
        },
        changes_not_notified: report.changes_not_notified,
        new_identity: renewed.as_ref().map(identity::View::of),
        tenants_bound: report.bound.bound.iter().map(ToString::to_string).collect(),
        tenants_not_bound: report.bound.failed.iter().map(NotBoundView::of).collect(),
        app_role: admission.as_ref().map(|admission| AppRoleView::of(admission, &config)),
        isolation: modes.mode.as_str(),
        isolation_leaving: modes.leaving.map(Isolation::as_str),
        tenants_isolated: tenants.isolated,
        tenants_without_role: tenants.without_role,
        hardening: hardening.as_ref().map(MeasureView::all),
        settings,
        not_ready: not_ready.as_ref().map(Report::of_library),
        ms: time::milliseconds(began.elapsed()),
        exit,
    });
    if let Some(error) = &not_ready {
        printer.error(format!("\n{}", Report::of_library(error).render(&[])));
        printer.info(format!(
            "\nThe shared schema is set up, but {} fails until this is fixed.",
            paint(COMMAND, "cgk tenant:create")
        ));
    }
    if exit == Exit::Done {
        let next = if report.bound.tenants > 0 { "cgk migrate:status" } else { "cgk tenant:create <slug>" };
        printer.info(format!("\nThe database is ready. Next: {}", paint(COMMAND, next)));
    }
    Ok(exit)
}

/// Hardens the database, or shows what that would do.
async fn harden(session: &Session<'_>, operator: &Operator, mode: HardeningMode) -> Result<HardeningReport> {
    let printer = session.printer;
    printer.output(format!("\n{}", paint(HEADING, "Hardening")));
    let report = setup::harden(operator, mode).await?;
    for measure in &report.measures {
        let name = MeasureView::name(measure.measure);
        printer.output(match measure.state {
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

/// Makes the roles that tenants lack, or says that they do.
async fn tenants(session: &Session<'_>, operator: &Operator, arguments: &Arguments) -> Result<Tenants> {
    let printer = session.printer;
    let mut tenants = Tenants::default();
    if arguments.isolate_tenants || arguments.leaves_isolation() && !lifecycle::without_role(operator).await?.is_empty()
    {
        let report = lifecycle::isolate(operator).await?;
        printer.output(format!("\n{}", paint(HEADING, "Tenants")));
        let done = count(report.finished.len(), "tenant");
        printer.output(ok(match operator.config().isolation() {
            Isolation::Role => format!("created the role of {done}"),
            Isolation::Path => "path isolation needs no roles".into(),
        }));
        for (slug, error) in report.failed {
            printer.output(warning(format!("tenant {slug}: {}", Report::of_library(&error).short())));
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

    /// Whether services with the other isolation are to be refused, or lose their rights: until then each tenant that was made
    /// for them needs what this one needs.
    fn leaves_isolation(&self) -> bool {
        self.change_isolation == Some(ChangeStep::Finish) || self.revoke_direct
    }

    fn finish(&self) -> Finish<'_> {
        match (self.change_isolation, &self.app_role) {
            (Some(ChangeStep::Finish), _) => Finish::Asked,
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
        options.password = if self.new_password { PasswordWish::New } else { PasswordWish::Keep };
        options.direct_rights = if self.revoke_direct { DirectRights::Revoke } else { DirectRights::Keep };
        options
    }
}

impl MeasureView {
    fn all(report: &HardeningReport) -> Vec<Self> {
        let view = |measure: &setup::MeasureReport| Self {
            measure: Self::name(measure.measure),
            state: match measure.state {
                MeasureState::InPlace => "in_place",
                MeasureState::Applied => "applied",
                MeasureState::Pending => "pending",
                _ => "not_allowed",
            },
            statements: measure.statements.clone(),
        };
        report.measures.iter().map(view).collect()
    }

    fn name(measure: setup::Measure) -> &'static str {
        match measure {
            setup::Measure::SetConfig => "set_config",
            setup::Measure::Languages => "languages",
            setup::Measure::Sessions => "sessions",
            _ => "temporary",
        }
    }
}

impl AppRoleView {
    fn of(admission: &Admission, config: &Config) -> Self {
        let login = admission.name.as_str();
        Self {
            name: login.to_owned(),
            created: admission.created,
            url: admission.password.as_ref().map(|password| config.url_of(login, Some(password.reveal()))),
            tables: match admission.shared_tables {
                SharedTables::Registry => "registry",
                SharedTables::All => "all",
            },
            tenants: admission.tenants,
            left_out: admission.left_out.iter().map(ToString::to_string).collect(),
            direct: admission.direct,
        }
    }
}

fn login_lines(admission: &Admission, config: &Config) -> Vec<String> {
    let name = &admission.name;
    let mut lines = vec![
        ok(match admission.created {
            true => format!("created role {name} (can log in, cannot create objects)"),
            false => format!("role {name} exists; it cannot create objects"),
        }),
        ok(match admission.shared_tables {
            SharedTables::Registry => "it can read id, slug and status of organizations".into(),
            SharedTables::All => "it can read and write the shared tables, outside of tenants".into(),
        }),
        ok(format!("it can enter {} and every tenant created later", count(admission.tenants, "tenant"))),
    ];
    if !admission.left_out.is_empty() {
        let what = match (&admission.failure, config.isolation()) {
            (Some(_), _) => "fix the error below and run this again",
            (None, Isolation::Role) => "run cgk setup:database --isolate-tenants, or cgk tenant:create SLUG",
            (None, Isolation::Path) => "cgk tenant:create SLUG creates what is missing",
        };
        lines.push(warning(format!("{} cannot be entered yet: {what}", count(admission.left_out.len(), "tenant"))));
    }
    if admission.direct > 0 {
        lines.push(warning(format!(
            "it still has direct rights on {} from path isolation; when every service uses role isolation, add \
             --revoke-direct",
            count(admission.direct, "schema")
        )));
    }
    match &admission.password {
        Some(password) => lines.push(format!(
            "\nThe URL for services. It is shown only once:\nDATABASE_URL={}",
            config.url_of(name.as_str(), Some(password.reveal()))
        )),
        None => lines.push(ok(format!("its password did not change; --app-role {name} --new-password sets a new one"))),
    }
    lines
}

/// What is not at its default, and what always matters.
fn configuration(settings: &[SettingView], everything: bool) -> String {
    const ALWAYS: [&str; 3] = ["database_url", "isolation", "migrations"];
    let rows: Vec<(String, String)> = settings
        .iter()
        .filter(|setting| everything || ALWAYS.contains(&setting.name) || !setting.is_default())
        .filter(|setting| everything || setting.value.is_some())
        .map(|setting| {
            let value = setting.value.as_deref().unwrap_or("none");
            (setting.name.to_owned(), format!("{value}  ({})", setting.origin))
        })
        .collect();
    table::facts(FAINT, &rows)
}

fn connection(operator: &Operator) -> Vec<String> {
    let facts = operator.facts();
    let rights = [
        (facts.creates_schemas, "schemas"),
        (facts.creates_in_public == Some(true), "tables in public"),
        (facts.creates_roles, "roles"),
    ];
    let wanted = |what: &str| what != "roles" || operator.config().isolation() == Isolation::Role;
    let may: Vec<_> = rights.iter().filter(|(may, _)| *may).map(|(_, what)| *what).collect();
    let may_not: Vec<_> = rights.iter().filter(|(may, what)| !*may && wanted(what)).map(|(_, what)| *what).collect();
    let mut lines = vec![
        ok(format!("connected to {} as {}", session::place(operator), sanitize(&facts.role))),
        ok(format!("PostgreSQL {} (supported: 14 and newer)", session::short_version(&facts.version))),
        ok(format!("encryption: {}", session::encryption(operator))),
    ];
    if !may.is_empty() {
        lines.push(ok(format!("role {} may create {}", sanitize(&facts.role), may.join(", "))));
    }
    if !may_not.is_empty() {
        lines.push(warning(format!("role {} may not create {}", sanitize(&facts.role), may_not.join(", "))));
    }
    lines
}

fn shared_schema(report: &setup::SetupReport, migrations: &Migrations, began: Instant) -> Vec<String> {
    let mut lines = Vec::new();
    lines.push(match report.applied.as_slice() {
        [] => ok("nothing to apply".into()),
        applied => ok(format!(
            "{} applied in {}: {}",
            count(applied.len(), "migration"),
            time::elapsed(began.elapsed()),
            span(applied)
        )),
    });
    match &report.head {
        Some(head) => lines.push(ok(format!("at {head}, the newest of {migrations}"))),
        None => lines.push(ok(format!("no migrations in {migrations}"))),
    }
    lines.push(ok(format!("tables: {}", report.tables.join(", "))));
    match report.hardened {
        Hardening::NotNeeded => {}
        Hardening::Revoked => lines.push(ok("revoked the right of every role to create tables in public".into())),
        Hardening::NotAllowed => lines.push(warning(
            "every role may create in public, so cgk makes, migrates and enters no tenant (CGK0304); let its owner run: revoke \
             create on schema public from public;"
                .into(),
        )),
    }
    match report.registry_guard {
        RegistryGuard::Present | RegistryGuard::Made => {}
        RegistryGuard::NotAllowed => lines.push(warning(
            "organizations with a schema can be deleted from the registry: run this command as the owner of \
             public.organizations, with usage on plpgsql"
                .into(),
        )),
        RegistryGuard::NotPossible => lines.push(warning(
            "organizations with a schema can be deleted from the registry, because public.organizations is a view"
                .into(),
        )),
    }
    if let Some(why) = &report.changes_not_notified {
        lines.push(warning(format!(
            "services are not notified of revoked credentials and suspended tenants, and see them a few seconds later: {}; \
             docs/service.md says how to add the migration",
            sanitize(why)
        )));
    }
    if !report.bound.bound.is_empty() {
        let bound = count(report.bound.bound.len(), "schema");
        lines.push(ok(format!("stored the organization's id on {bound}")));
    }
    for (slug, error) in &report.bound.failed {
        lines.push(warning(format!("tenant {slug}: {}", sanitize(&Report::of_library(error).short()))));
    }
    lines
}

/// `001_organizations … 010_change_notices`
pub(crate) fn span(ids: &[MigrationId]) -> String {
    match ids {
        [] => String::new(),
        [only] => only.to_string(),
        [first, second] => format!("{first}, {second}"),
        [first, .., last] => format!("{first} … {last}"),
    }
}
