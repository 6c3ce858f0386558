//! The commands: the first line of their help, the function that each one runs, and the state after an interruption.

use super::{
    completions, config, doctor, drift, exit::Exit, init, migrate, platform_command::PlatformCommand, provision,
    report, session::Session, setup, tenant,
};
#[cfg(feature = "demo")]
use super::{demo, reaper};
use anyhow::Result;
use clap::Subcommand;

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Start a project from templates, or add templates to one
    #[command(after_help = init::EXAMPLES)]
    Init(init::Arguments),
    /// Set up the database, or check that it is set up
    #[command(name = "setup:database", after_help = setup::database::EXAMPLES)]
    SetupDatabase(setup::database::Arguments),
    /// Show every setting and where its value comes from
    #[command(name = "config:show", after_help = config::show::EXAMPLES)]
    ConfigShow(config::show::Arguments),
    /// Look for problems in the database; change nothing
    #[command(after_help = doctor::EXAMPLES)]
    Doctor(doctor::Arguments),
    /// Create tenants: registry row, schema, role and tables
    #[command(name = "tenant:create", after_help = tenant::create::EXAMPLES)]
    TenantCreate(tenant::create::Arguments),
    /// Keep schemas ready so that tenants are created faster
    #[command(name = "tenant:warm", after_help = tenant::warm::EXAMPLES)]
    TenantWarm(tenant::warm::Arguments),
    /// List the tenants and the state of their schemas
    #[command(name = "tenant:list", after_help = tenant::list::EXAMPLES)]
    TenantList(tenant::list::Arguments),
    /// Show everything about one tenant
    #[command(name = "tenant:show", after_help = tenant::show::EXAMPLES)]
    TenantShow(tenant::show::Arguments),
    /// Give a tenant another slug or name
    #[command(name = "tenant:rename", after_help = tenant::rename::EXAMPLES)]
    TenantRename(tenant::rename::Arguments),
    /// Keep services out of a tenant
    #[command(name = "tenant:suspend", after_help = tenant::suspend::EXAMPLES)]
    TenantSuspend(tenant::suspend::Arguments),
    /// Let services into a suspended tenant again
    #[command(name = "tenant:activate", after_help = tenant::activate::EXAMPLES)]
    TenantActivate(tenant::activate::Arguments),
    /// Run SQL in tenants
    #[command(name = "tenant:exec", after_help = tenant::exec::EXAMPLES)]
    TenantExec(tenant::exec::Arguments),
    /// Write a tenant's rows into a file
    #[command(name = "tenant:export", after_help = tenant::export::EXAMPLES)]
    TenantExport(tenant::export::Arguments),
    /// Create a tenant from an exported file
    #[command(name = "tenant:import", after_help = tenant::import::EXAMPLES)]
    TenantImport(tenant::import::Arguments),
    /// Copy a tenant to a new one, on the server
    #[command(name = "tenant:clone", after_help = tenant::clone::EXAMPLES)]
    TenantClone(tenant::clone::Arguments),
    /// Run SQL files in tenants, each file once per tenant
    #[command(name = "tenant:seed", after_help = tenant::seed::EXAMPLES)]
    TenantSeed(tenant::seed::Arguments),
    /// Open psql in a tenant
    #[command(name = "tenant:shell", after_help = tenant::shell::EXAMPLES)]
    TenantShell(tenant::shell::Arguments),
    /// Drop a tenant with all its rows
    #[command(name = "tenant:drop", after_help = tenant::drop::EXAMPLES)]
    TenantDrop(tenant::drop::Arguments),
    /// Take back a drop that is planned for later
    #[command(name = "tenant:undrop", after_help = tenant::undrop::EXAMPLES)]
    TenantUndrop(tenant::undrop::Arguments),
    /// Compare tenants with their migrations
    #[command(name = "tenant:verify", after_help = tenant::verify::EXAMPLES)]
    TenantVerify(tenant::verify::Arguments),
    /// Create the tenants that services have requested
    #[command(after_help = provision::run::EXAMPLES)]
    Provision(provision::run::Arguments),
    /// List the requests for tenants that are pending or failed
    #[command(name = "provision:list", after_help = provision::list::EXAMPLES)]
    ProvisionList(provision::list::Arguments),
    /// Request a tenant again whose creation failed
    #[command(name = "provision:retry", after_help = provision::retry::EXAMPLES)]
    ProvisionRetry(provision::retry::Arguments),
    /// Migrate the shared schema, then every tenant
    #[command(after_help = migrate::run::EXAMPLES)]
    Migrate(migrate::run::Arguments),
    /// Show the state of every schema
    #[command(name = "migrate:status", after_help = migrate::status::EXAMPLES)]
    MigrateStatus(migrate::status::Arguments),
    /// List the latest runs, or the schemas of one run
    #[command(name = "migrate:history", after_help = migrate::history::EXAMPLES)]
    MigrateHistory(migrate::history::Arguments),
    /// Adopt an existing schema without running its migrations
    #[command(name = "migrate:baseline", after_help = migrate::baseline::EXAMPLES)]
    MigrateBaseline(migrate::baseline::Arguments),
    /// Update ledgers after a file was edited or removed
    #[command(name = "migrate:repair", after_help = migrate::repair::EXAMPLES, override_usage = migrate::repair::USAGE)]
    MigrateRepair(migrate::repair::Arguments),
    /// Create the next migration file
    #[command(name = "migrate:new", after_help = migrate::new::EXAMPLES)]
    MigrateNew(migrate::new::Arguments),
    /// Check migration files for errors and risky statements
    #[command(name = "migrate:lint", after_help = migrate::lint::EXAMPLES)]
    MigrateLint(migrate::lint::Arguments),
    /// Compare every schema with its migrations and list orphans
    #[command(after_help = drift::EXAMPLES)]
    Drift(drift::Arguments),
    /// Write a page about the whole fleet, or serve it
    #[command(after_help = report::EXAMPLES)]
    Report(report::Arguments),
    #[command(flatten)]
    Platform(PlatformCommand),
    /// Run a complete demo on a temporary private server
    #[cfg(feature = "demo")]
    #[command(after_help = demo::EXAMPLES)]
    Demo,
    /// Print the completion script for a shell
    #[command(after_help = completions::EXAMPLES)]
    Completions(completions::Arguments),
    /// Print the exit codes and what they mean
    #[command(name = "exit-codes", hide = true)]
    ExitCodes,
    /// Drop the demo's database when the demo is gone
    #[cfg(feature = "demo")]
    #[command(name = reaper::COMMAND, hide = true)]
    Reaper,
}

impl Command {
    /// Returns the exit code after this signal, if nothing but a signal ends the command.
    pub(super) fn exit_at_signal(&self, signal: Exit) -> Option<Exit> {
        match self {
            Self::MigrateStatus(arguments) if arguments.runs_until_interrupted() => {
                (signal == Exit::Interrupted).then_some(Exit::Done)
            }
            // A service manager ends the server with SIGTERM.
            Self::Report(arguments) if arguments.serves() => Some(Exit::Done),
            _ => None,
        }
    }

    /// Returns what the command says at the first and at the second signal, if it finishes what is in progress.
    pub(super) fn at_signals(&self) -> [&'static str; 2] {
        match self {
            Self::Platform(PlatformCommand::EventsRelay(_)) => [
                "stopping: deliveries in progress finish, no other delivery starts; press Ctrl-C again to end at once",
                "ending at once: what was delivered and is not committed is delivered again",
            ],
            Self::Provision(_) => [
                "stopping: tenants in progress finish, no other tenant starts; press Ctrl-C again to cancel them",
                "cancelling the tenants in progress",
            ],
            _ => [
                "stopping: schemas in progress finish, no other schema starts; press Ctrl-C again to cancel them",
                "cancelling the schemas in progress",
            ],
        }
    }

    /// Returns the state of the database after an interruption.
    pub(super) fn after_interruption(&self) -> &'static str {
        match self {
            Self::SetupDatabase(_) => {
                "each schema is committed completely or not at all; run `cgk setup:database` again"
            }
            Self::TenantCreate(_) => "each tenant is created completely or not at all; run the command again",
            Self::TenantWarm(_) => "each schema is complete or is not used; run the command again",
            Self::TenantSuspend(_) | Self::TenantActivate(_) | Self::TenantRename(_) | Self::TenantUndrop(_) => {
                "the change is complete or was not made: `cgk tenant:list` shows it"
            }
            Self::TenantExec(_) => {
                "each tenant is committed completely or not at all; without --write nothing was changed"
            }
            Self::TenantSeed(_) => {
                "each tenant is committed completely or not at all; run the command again to continue"
            }
            Self::TenantExport(_) => "no half file is left under its name; the database was not changed",
            Self::TenantImport(_) | Self::TenantClone(_) => {
                "the tenant is complete or was not created: `cgk tenant:list` shows it; `cgk tenant:create` continues one that is onboarding, and `cgk tenant:drop` one that is being dropped"
            }
            Self::TenantDrop(_) if tenant::confirm::asks() => "nothing was changed",
            Self::TenantDrop(_) => "a drop that has begun is not undone; run the command again to continue it",
            Self::Provision(_) => {
                "each tenant is created completely or not at all; a server of the queue makes the next attempt"
            }
            Self::ProvisionRetry(_) => "the request is pending again or was not changed: `cgk provision:list` shows it",
            Self::Migrate(_) => {
                "each schema is committed completely or not at all; run `cgk migrate` again to continue"
            }
            Self::MigrateBaseline(_) | Self::MigrateRepair(_) => {
                "each schema is committed completely or not at all; run the command again"
            }
            Self::Platform(command) => command.after_interruption(),
            #[cfg(feature = "demo")]
            Self::Demo => "the demo removed everything it created",
            _ => "nothing was changed",
        }
    }

    /// Runs the command.
    pub(super) async fn run(&self, session: Session<'_>) -> Result<Exit> {
        match self {
            Self::Init(arguments) => init::run(&session, arguments),
            Self::SetupDatabase(arguments) => setup::database::run(&session, arguments).await,
            Self::ConfigShow(arguments) => config::show::run(&session, arguments),
            Self::Doctor(arguments) => doctor::run(&session, arguments).await,
            Self::TenantCreate(arguments) => tenant::create::run(&session, arguments).await,
            Self::TenantWarm(arguments) => tenant::warm::run(&session, arguments).await,
            Self::TenantList(arguments) => tenant::list::run(&session, arguments).await,
            Self::TenantShow(arguments) => tenant::show::run(&session, arguments).await,
            Self::TenantRename(arguments) => tenant::rename::run(&session, arguments).await,
            Self::TenantSuspend(arguments) => tenant::suspend::run(&session, arguments).await,
            Self::TenantActivate(arguments) => tenant::activate::run(&session, arguments).await,
            Self::TenantExec(arguments) => tenant::exec::run(&session, arguments).await,
            Self::TenantExport(arguments) => tenant::export::run(&session, arguments).await,
            Self::TenantImport(arguments) => tenant::import::run(&session, arguments).await,
            Self::TenantClone(arguments) => tenant::clone::run(&session, arguments).await,
            Self::TenantSeed(arguments) => tenant::seed::run(&session, arguments).await,
            Self::TenantShell(arguments) => tenant::shell::run(&session, arguments).await,
            Self::TenantDrop(arguments) => tenant::drop::run(&session, arguments).await,
            Self::TenantUndrop(arguments) => tenant::undrop::run(&session, arguments).await,
            Self::TenantVerify(arguments) => tenant::verify::run(&session, arguments).await,
            Self::Provision(arguments) => provision::run::run(&session, arguments).await,
            Self::ProvisionList(arguments) => provision::list::run(&session, arguments).await,
            Self::ProvisionRetry(arguments) => provision::retry::run(&session, arguments).await,
            Self::Migrate(arguments) => migrate::run::run(&session, arguments).await,
            Self::MigrateStatus(arguments) => migrate::status::run(&session, arguments).await,
            Self::MigrateHistory(arguments) => migrate::history::run(&session, arguments).await,
            Self::MigrateBaseline(arguments) => migrate::baseline::run(&session, arguments).await,
            Self::MigrateRepair(arguments) => migrate::repair::run(&session, arguments).await,
            Self::MigrateNew(arguments) => migrate::new::run(&session, arguments),
            Self::MigrateLint(arguments) => migrate::lint::run(&session, arguments),
            Self::Drift(arguments) => drift::run(&session, arguments).await,
            Self::Report(arguments) => report::run(&session, arguments).await,
            Self::Platform(command) => command.run(&session).await,
            #[cfg(feature = "demo")]
            Self::Demo => demo::run(&session).await,
            Self::Completions(arguments) => Ok(completions::run(session.printer, arguments)),
            Self::ExitCodes => {
                session.printer.raw(Exit::table());
                Ok(Exit::Done)
            }
            #[cfg(feature = "demo")]
            Self::Reaper => Ok(Exit::Usage),
        }
    }
}
