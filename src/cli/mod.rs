//! The command line: one file a command, and nothing decided here that the library decides.

pub(crate) mod audit;
pub(crate) mod auth;
mod completions;
pub(crate) mod config;
mod demo;
mod doctor;
pub(crate) mod domain;
mod drift;
pub(crate) mod events;
mod exit;
mod global;
mod help;
mod init;
pub(crate) mod invite;
pub(crate) mod member;
pub(crate) mod migrate;
mod number;
pub(crate) mod org;
pub(crate) mod plan;
pub(crate) mod provision;
pub(crate) mod quota;
mod reaper;
pub(crate) mod secret;
mod session;
pub(crate) mod setup;
mod signal;
pub(crate) mod subscription;
mod suggest;
pub(crate) mod tenant;
pub(crate) mod ui;

use anyhow::Result;
use clap::{FromArgMatches, Parser, Subcommand};
use std::{ffi::OsString, process::ExitCode};
use tracing_subscriber::EnvFilter;

use exit::Exit;
use global::{ColorArg, Globals};
use session::Session;
use signal::ShutdownSignal;
use ui::printer::{Format, Printer, Volume};
use ui::report::Report;

/// The version of everything that `--json` writes. Keys are added within a version, never renamed or removed.
pub(crate) const JSON_VERSION: u32 = 1;

/// One PostgreSQL schema per tenant: setup, tenants, migrations
#[derive(Debug, Parser)]
#[command(name = "cgk", version, styles = ui::style::HELP, max_term_width = 80, arg_required_else_help = true)]
pub(crate) struct Cli {
    #[command(flatten)]
    globals: Globals,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
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
    /// Drop a tenant with all its rows
    #[command(name = "tenant:drop", after_help = tenant::drop::EXAMPLES)]
    TenantDrop(tenant::drop::Arguments),
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
    /// List the organizations behind the tenants
    #[command(name = "org:list", after_help = org::list::EXAMPLES)]
    OrgList(org::list::Arguments),
    /// Show an organization and its owners
    #[command(name = "org:show", after_help = org::show::EXAMPLES)]
    OrgShow(org::show::Arguments),
    /// Create a user of a tenant
    #[command(name = "user:create", after_help = auth::user::create::EXAMPLES)]
    UserCreate(auth::user::create::Arguments),
    /// List the users of a tenant
    #[command(name = "user:list", after_help = auth::user::list::EXAMPLES)]
    UserList(auth::user::list::Arguments),
    /// Disable a user and revoke its sessions
    #[command(name = "user:disable", after_help = auth::user::disable::EXAMPLES)]
    UserDisable(auth::user::UserArguments),
    /// Let a disabled or invited user sign in
    #[command(name = "user:enable", after_help = auth::user::enable::EXAMPLES)]
    UserEnable(auth::user::UserArguments),
    /// Make two users of one address one person
    #[command(name = "user:merge", after_help = auth::user::merge::EXAMPLES)]
    UserMerge(auth::user::merge::Arguments),
    /// List the members of a tenant
    #[command(name = "member:list", after_help = member::list::EXAMPLES)]
    MemberList(member::list::Arguments),
    /// Add a user to a tenant
    #[command(name = "member:add", after_help = member::add::EXAMPLES)]
    MemberAdd(member::add::Arguments),
    /// Give a member another role
    #[command(name = "member:role", after_help = member::role::EXAMPLES)]
    MemberRole(member::role::Arguments),
    /// Remove a member from a tenant
    #[command(name = "member:remove", after_help = member::remove::EXAMPLES)]
    MemberRemove(member::MemberArguments),
    /// Invite an address to a tenant and print the token once
    #[command(name = "invite:create", after_help = invite::create::EXAMPLES)]
    InviteCreate(invite::create::Arguments),
    /// List the invitations to a tenant
    #[command(name = "invite:list", after_help = invite::list::EXAMPLES)]
    InviteList(invite::list::Arguments),
    /// Give an invitation another token and print it once
    #[command(name = "invite:resend", after_help = invite::resend::EXAMPLES)]
    InviteResend(invite::InvitationArguments),
    /// Take back an invitation
    #[command(name = "invite:revoke", after_help = invite::revoke::EXAMPLES)]
    InviteRevoke(invite::InvitationArguments),
    /// List the plans and what each of them includes
    #[command(name = "plan:list", after_help = plan::list::EXAMPLES)]
    PlanList(plan::list::Arguments),
    /// Show the subscription of a tenant
    #[command(name = "subscription:show", after_help = subscription::show::EXAMPLES)]
    SubscriptionShow(subscription::show::Arguments),
    /// Change the plan of a tenant, or subscribe it to one
    #[command(name = "subscription:change", after_help = subscription::change::EXAMPLES)]
    SubscriptionChange(subscription::change::Arguments),
    /// Cancel the subscription of a tenant
    #[command(name = "subscription:cancel", after_help = subscription::cancel::EXAMPLES)]
    SubscriptionCancel(subscription::cancel::Arguments),
    /// Renew subscriptions whose period has ended
    #[command(name = "subscription:renew", after_help = subscription::renew::EXAMPLES)]
    SubscriptionRenew(subscription::renew::Arguments),
    /// Show what a tenant has left of its quota
    #[command(name = "quota:show", after_help = quota::show::EXAMPLES)]
    QuotaShow(quota::show::Arguments),
    /// Grant a tenant more than its plan includes
    #[command(name = "quota:grant", after_help = quota::grant::EXAMPLES)]
    QuotaGrant(quota::grant::Arguments),
    /// Remove old consumptions of quota
    #[command(name = "quota:prune", after_help = quota::prune::EXAMPLES)]
    QuotaPrune(quota::prune::Arguments),
    /// Create an API key of a tenant and print its token once
    #[command(name = "key:create", after_help = auth::key::create::EXAMPLES)]
    KeyCreate(auth::key::create::Arguments),
    /// List the API keys of a tenant
    #[command(name = "key:list", after_help = auth::key::list::EXAMPLES)]
    KeyList(auth::key::list::Arguments),
    /// Replace an API key by a new one
    #[command(name = "key:rotate", after_help = auth::key::rotate::EXAMPLES)]
    KeyRotate(auth::key::rotate::Arguments),
    /// Revoke an API key
    #[command(name = "key:revoke", after_help = auth::key::revoke::EXAMPLES)]
    KeyRevoke(auth::key::revoke::Arguments),
    /// List the sessions of a tenant's users
    #[command(name = "session:list", after_help = auth::session::list::EXAMPLES)]
    SessionList(auth::session::list::Arguments),
    /// Revoke a session, or all sessions of a user
    #[command(name = "session:revoke", after_help = auth::session::revoke::EXAMPLES, override_usage = auth::session::revoke::USAGE)]
    SessionRevoke(auth::session::revoke::Arguments),
    /// Claim a custom domain for a tenant
    #[command(name = "domain:add", after_help = domain::add::EXAMPLES)]
    DomainAdd(domain::Arguments),
    /// List the custom domains of a tenant
    #[command(name = "domain:list", after_help = domain::list::EXAMPLES)]
    DomainList(domain::list::ListArguments),
    /// Let a custom domain count
    #[command(name = "domain:verify", after_help = domain::verify::EXAMPLES)]
    DomainVerify(domain::Arguments),
    /// Take a custom domain from a tenant
    #[command(name = "domain:remove", after_help = domain::remove::EXAMPLES)]
    DomainRemove(domain::Arguments),
    /// Deliver domain events to a webhook
    #[command(name = "events:relay", after_help = events::relay::EXAMPLES)]
    EventsRelay(events::relay::Arguments),
    /// List domain events
    #[command(name = "events:list", after_help = events::list::EXAMPLES)]
    EventsList(events::list::Arguments),
    /// Deliver events again that were given up
    #[command(name = "events:retry", after_help = events::retry::EXAMPLES)]
    EventsRetry(events::retry::Arguments),
    /// List the changes, and who made them
    #[command(name = "audit:list", after_help = audit::list::EXAMPLES)]
    AuditList(audit::list::Arguments),
    /// Create the months of the audit log, and remove old ones
    #[command(name = "audit:retain", after_help = audit::retain::EXAMPLES)]
    AuditRetain(audit::retain::Arguments),
    /// Seal secrets with the current key
    #[command(name = "secret:rotate", after_help = secret::rotate::EXAMPLES)]
    SecretRotate(secret::rotate::Arguments),
    /// Run a complete demo on a temporary private server
    #[command(after_help = demo::EXAMPLES)]
    Demo,
    /// Print the completion script for a shell
    #[command(after_help = completions::EXAMPLES)]
    Completions(completions::Arguments),
    /// Print the exit codes and what they mean
    #[command(name = "exit-codes", hide = true)]
    ExitCodes,
    /// Drop the demo's database when the demo is gone
    #[command(name = reaper::COMMAND, hide = true)]
    Reaper,
}

impl Command {
    /// Whether Ctrl-C is how the command is ended.
    fn runs_until_interrupted(&self) -> bool {
        matches!(self, Self::MigrateStatus(arguments) if arguments.runs_until_interrupted())
    }

    /// What is true of the database after an interruption.
    fn after_interruption(&self) -> &'static str {
        match self {
            Self::SetupDatabase(_) => {
                "each schema is committed completely or not at all; run `cgk setup:database` again"
            }
            Self::TenantCreate(_) => "each tenant is created completely or not at all; run the command again",
            Self::TenantSuspend(_) | Self::TenantActivate(_) | Self::TenantRename(_) => {
                "the change is complete or was not made: `cgk tenant:list` shows it"
            }
            Self::TenantExec(_) => {
                "each tenant is committed completely or not at all; without --write nothing was changed"
            }
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
            Self::UserCreate(_) | Self::UserDisable(_) | Self::UserEnable(_) => {
                "the change is complete or was not made: `cgk user:list` shows it"
            }
            Self::UserMerge(_) => "the users are one or two as before: `cgk user:list --duplicates` shows it",
            Self::MemberAdd(_) | Self::MemberRole(_) | Self::MemberRemove(_) => {
                "the change is complete or was not made: `cgk member:list` shows it"
            }
            Self::InviteCreate(_) | Self::InviteResend(_) | Self::InviteRevoke(_) => {
                "the change is complete or was not made: `cgk invite:list` shows it; an invitation without its token is sent again"
            }
            Self::SubscriptionChange(_) | Self::SubscriptionCancel(_) => {
                "the change is complete or was not made: `cgk subscription:show` shows it"
            }
            Self::SubscriptionRenew(_) => {
                "each subscription is renewed completely or not at all; run the command again"
            }
            Self::QuotaPrune(_) => "what was removed stays removed; run the command again",
            Self::QuotaGrant(_) => "the grant was made or was not made: `cgk quota:show --grants` shows it",
            Self::KeyCreate(_) | Self::KeyRotate(_) | Self::KeyRevoke(_) => {
                "the change is complete or was not made: `cgk key:list` shows it; revoke a key whose token you do not have"
            }
            Self::SessionRevoke(_) => "the change is complete or was not made: `cgk session:list` shows it",
            Self::DomainAdd(_) | Self::DomainVerify(_) | Self::DomainRemove(_) => {
                "the change is complete or was not made: `cgk domain:list` shows it"
            }
            Self::EventsRelay(_) => "what was delivered and not yet committed is delivered again",
            Self::EventsRetry(_) => "the events are pending again or were not changed: `cgk events:list` shows it",
            Self::AuditRetain(_) => "months were created or removed as a whole; run the command again",
            Self::SecretRotate(_) => "every secret can be opened; run `cgk secret:rotate` again for the rest",
            Self::Demo => "the demo removed everything it created",
            _ => "nothing was changed",
        }
    }
}

pub(crate) fn main() -> ExitCode {
    run(std::env::args_os().collect()).into()
}

fn run(arguments: Vec<OsString>) -> Exit {
    let parsed = help::command()
        .try_get_matches_from(&arguments)
        .and_then(|mut matches| Cli::from_arg_matches_mut(&mut matches));
    let cli = match parsed {
        Ok(cli) => cli,
        Err(error) => return misused(error, &arguments),
    };
    anstream::ColorChoice::from(cli.globals.color).write_global();
    listen_to_the_library(&cli.globals);
    ui::server_detail::show(!cli.globals.no_detail);
    let printer = Printer::new(cli.globals.format(), cli.globals.volume());
    let outcome = execute(&cli, &printer);
    let exit = match outcome {
        Ok(exit) => exit,
        Err(error) => tell(&printer, &Report::of(&error)),
    };
    match printer.finish() {
        Ok(()) => exit,
        Err(error) => {
            printer.error(format!("error: could not write to standard output: {error}"));
            if exit == Exit::Done { Exit::Failed } else { exit }
        }
    }
}

/// How a command ended.
enum Ended {
    ByItself(Result<Exit>),
    BySignal(Exit),
}

fn execute(cli: &Cli, printer: &Printer) -> Result<Exit> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let ended = runtime.block_on(async {
        if matches!(cli.command, Command::Reaper) {
            return Ok(Ended::ByItself(reaper::run().await));
        }
        until_signalled(cli, printer).await
    });
    // A server that is just being fetched or started is not waited for.
    runtime.shutdown_background();
    match ended {
        Ok(Ended::ByItself(result)) => result,
        Ok(Ended::BySignal(Exit::Interrupted)) if cli.command.runs_until_interrupted() => Ok(Exit::Done),
        Ok(Ended::BySignal(exit)) => {
            let message = format!("interrupted: {}", cli.command.after_interruption());
            Ok(tell(printer, &Report::interrupted(&message, exit)))
        }
        Err(error) => Err(error),
    }
}

/// Runs the command. A run over many schemas that is under way is asked to stop by the first signal and to cancel by the
/// second; anything else, and whatever does not hear, ends with the signal.
async fn until_signalled(cli: &Cli, printer: &Printer) -> Result<Ended> {
    let shutdown = ShutdownSignal::default();
    let mut signals = signal::Signals::listen()?;
    let mut work = std::pin::pin!(dispatch(cli, printer, &shutdown));
    for number in 1.. {
        // The command that lost is dropped at the end, and with it what it had to clean up.
        let exit = tokio::select! {
            result = &mut work => return Ok(Ended::ByItself(result)),
            exit = signals.next() => exit,
        };
        shutdown.note(exit);
        match number {
            1 if shutdown.interrupt.is_heard() => {
                shutdown.interrupt.stop();
                printer.error(
                    "stopping: schemas in progress finish, no other schema starts; press Ctrl-C again to cancel them",
                );
            }
            2 if shutdown.interrupt.is_heard() => {
                shutdown.interrupt.cancel();
                printer.error("cancelling the schemas in progress");
            }
            _ => return Ok(Ended::BySignal(exit)),
        }
    }
    unreachable!("the loop is endless")
}

async fn dispatch(cli: &Cli, printer: &Printer, shutdown: &ShutdownSignal) -> Result<Exit> {
    let session = Session { globals: &cli.globals, printer, shutdown };
    match &cli.command {
        Command::Init(arguments) => init::run(&session, arguments),
        Command::SetupDatabase(arguments) => setup::database::run(&session, arguments).await,
        Command::ConfigShow(arguments) => config::show::run(&session, arguments),
        Command::Doctor(arguments) => doctor::run(&session, arguments).await,
        Command::TenantCreate(arguments) => tenant::create::run(&session, arguments).await,
        Command::TenantList(arguments) => tenant::list::run(&session, arguments).await,
        Command::TenantShow(arguments) => tenant::show::run(&session, arguments).await,
        Command::TenantRename(arguments) => tenant::rename::run(&session, arguments).await,
        Command::TenantSuspend(arguments) => tenant::suspend::run(&session, arguments).await,
        Command::TenantActivate(arguments) => tenant::activate::run(&session, arguments).await,
        Command::TenantExec(arguments) => tenant::exec::run(&session, arguments).await,
        Command::TenantDrop(arguments) => tenant::drop::run(&session, arguments).await,
        Command::TenantVerify(arguments) => tenant::verify::run(&session, arguments).await,
        Command::Provision(arguments) => provision::run::run(&session, arguments).await,
        Command::ProvisionList(arguments) => provision::list::run(&session, arguments).await,
        Command::ProvisionRetry(arguments) => provision::retry::run(&session, arguments).await,
        Command::Migrate(arguments) => migrate::run::run(&session, arguments).await,
        Command::MigrateStatus(arguments) => migrate::status::run(&session, arguments).await,
        Command::MigrateHistory(arguments) => migrate::history::run(&session, arguments).await,
        Command::MigrateBaseline(arguments) => migrate::baseline::run(&session, arguments).await,
        Command::MigrateRepair(arguments) => migrate::repair::run(&session, arguments).await,
        Command::MigrateNew(arguments) => migrate::new::run(&session, arguments),
        Command::MigrateLint(arguments) => migrate::lint::run(&session, arguments),
        Command::Drift(arguments) => drift::run(&session, arguments).await,
        Command::OrgList(arguments) => org::list::run(&session, arguments).await,
        Command::OrgShow(arguments) => org::show::run(&session, arguments).await,
        Command::UserCreate(arguments) => auth::user::create::run(&session, arguments).await,
        Command::UserList(arguments) => auth::user::list::run(&session, arguments).await,
        Command::UserDisable(arguments) => auth::user::disable::run(&session, arguments).await,
        Command::UserEnable(arguments) => auth::user::enable::run(&session, arguments).await,
        Command::UserMerge(arguments) => auth::user::merge::run(&session, arguments).await,
        Command::MemberList(arguments) => member::list::run(&session, arguments).await,
        Command::MemberAdd(arguments) => member::add::run(&session, arguments).await,
        Command::MemberRole(arguments) => member::role::run(&session, arguments).await,
        Command::MemberRemove(arguments) => member::remove::run(&session, arguments).await,
        Command::InviteCreate(arguments) => invite::create::run(&session, arguments).await,
        Command::InviteList(arguments) => invite::list::run(&session, arguments).await,
        Command::InviteResend(arguments) => invite::resend::run(&session, arguments).await,
        Command::InviteRevoke(arguments) => invite::revoke::run(&session, arguments).await,
        Command::PlanList(arguments) => plan::list::run(&session, arguments).await,
        Command::SubscriptionShow(arguments) => subscription::show::run(&session, arguments).await,
        Command::SubscriptionChange(arguments) => subscription::change::run(&session, arguments).await,
        Command::SubscriptionCancel(arguments) => subscription::cancel::run(&session, arguments).await,
        Command::SubscriptionRenew(arguments) => subscription::renew::run(&session, arguments).await,
        Command::QuotaShow(arguments) => quota::show::run(&session, arguments).await,
        Command::QuotaPrune(arguments) => quota::prune::run(&session, arguments).await,
        Command::QuotaGrant(arguments) => quota::grant::run(&session, arguments).await,
        Command::KeyCreate(arguments) => auth::key::create::run(&session, arguments).await,
        Command::KeyList(arguments) => auth::key::list::run(&session, arguments).await,
        Command::KeyRotate(arguments) => auth::key::rotate::run(&session, arguments).await,
        Command::KeyRevoke(arguments) => auth::key::revoke::run(&session, arguments).await,
        Command::SessionList(arguments) => auth::session::list::run(&session, arguments).await,
        Command::SessionRevoke(arguments) => auth::session::revoke::run(&session, arguments).await,
        Command::DomainAdd(arguments) => domain::add::run(&session, arguments).await,
        Command::DomainList(arguments) => domain::list::run(&session, arguments).await,
        Command::DomainVerify(arguments) => domain::verify::run(&session, arguments).await,
        Command::DomainRemove(arguments) => domain::remove::run(&session, arguments).await,
        Command::EventsRelay(arguments) => events::relay::run(&session, arguments).await,
        Command::EventsList(arguments) => events::list::run(&session, arguments).await,
        Command::EventsRetry(arguments) => events::retry::run(&session, arguments).await,
        Command::AuditList(arguments) => audit::list::run(&session, arguments).await,
        Command::AuditRetain(arguments) => audit::retain::run(&session, arguments).await,
        Command::SecretRotate(arguments) => secret::rotate::run(&session, arguments).await,
        Command::Demo => demo::run(&session).await,
        Command::Completions(arguments) => Ok(completions::run(printer, arguments)),
        Command::ExitCodes => {
            printer.raw(Exit::table());
            Ok(Exit::Done)
        }
        Command::Reaper => Ok(Exit::Usage),
    }
}

/// Tells of an error: people on standard error, programs on standard output.
fn tell(printer: &Printer, report: &Report) -> Exit {
    report.annotate(printer, &[]);
    printer.error(report.render(&[]));
    printer.record(&report.record());
    report.exit()
}

/// The parser's own words, with one suggestion instead of five; help and version are no misuse.
fn misused(error: clap::Error, arguments: &[OsString]) -> Exit {
    let error = suggest::improve(error, arguments, &help::names());
    let says = |flag: &str| arguments.iter().any(|argument| argument == flag);
    if says("--color=never") {
        anstream::ColorChoice::from(ColorArg::Never).write_global();
    }
    let text = error.render().ansi().to_string();
    let json = says("--json") && error.use_stderr();
    let printer = Printer::new(if json { Format::Json } else { Format::Human }, Volume::Normal);
    if !error.use_stderr() {
        printer.raw(text);
        return if printer.finish().is_ok() { Exit::Done } else { Exit::Failed };
    }
    printer.error(text.trim_end());
    if json {
        let plain = error.render().to_string();
        let first = plain.lines().next().unwrap_or_default();
        printer.record(&Report::usage(first.strip_prefix("error: ").unwrap_or(first)).record());
    }
    Exit::Usage
}

fn listen_to_the_library(globals: &Globals) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(globals.log_level()));
    let stderr = std::io::stderr();
    let colours = anstream::AutoStream::choice(&stderr) != anstream::ColorChoice::Never;
    // Failing to log is no reason to panic: standard error may be a closed pipe.
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(|| ui::bar_line::LogWriter)
        .with_ansi(colours)
        .with_target(false)
        .without_time()
        .log_internal_errors(false)
        .finish();
    let _ = tracing::subscriber::set_global_default(subscriber);
}
