//! The commands: the first line of their help, the function that each one runs, and the state after an interruption.

use super::{
    audit, auth, completions, config, doctor, domain, drift, events, exit::Exit, init, invite, member, migrate, org,
    plan, provision, quota, report, secret, session::Session, setup, subscription, tenant,
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
            Self::EventsRelay(_) => [
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
            Self::OrgList(arguments) => org::list::run(&session, arguments).await,
            Self::OrgShow(arguments) => org::show::run(&session, arguments).await,
            Self::UserCreate(arguments) => auth::user::create::run(&session, arguments).await,
            Self::UserList(arguments) => auth::user::list::run(&session, arguments).await,
            Self::UserDisable(arguments) => auth::user::disable::run(&session, arguments).await,
            Self::UserEnable(arguments) => auth::user::enable::run(&session, arguments).await,
            Self::UserMerge(arguments) => auth::user::merge::run(&session, arguments).await,
            Self::MemberList(arguments) => member::list::run(&session, arguments).await,
            Self::MemberAdd(arguments) => member::add::run(&session, arguments).await,
            Self::MemberRole(arguments) => member::role::run(&session, arguments).await,
            Self::MemberRemove(arguments) => member::remove::run(&session, arguments).await,
            Self::InviteCreate(arguments) => invite::create::run(&session, arguments).await,
            Self::InviteList(arguments) => invite::list::run(&session, arguments).await,
            Self::InviteResend(arguments) => invite::resend::run(&session, arguments).await,
            Self::InviteRevoke(arguments) => invite::revoke::run(&session, arguments).await,
            Self::PlanList(arguments) => plan::list::run(&session, arguments).await,
            Self::SubscriptionShow(arguments) => subscription::show::run(&session, arguments).await,
            Self::SubscriptionChange(arguments) => subscription::change::run(&session, arguments).await,
            Self::SubscriptionCancel(arguments) => subscription::cancel::run(&session, arguments).await,
            Self::SubscriptionRenew(arguments) => subscription::renew::run(&session, arguments).await,
            Self::QuotaShow(arguments) => quota::show::run(&session, arguments).await,
            Self::QuotaPrune(arguments) => quota::prune::run(&session, arguments).await,
            Self::QuotaGrant(arguments) => quota::grant::run(&session, arguments).await,
            Self::KeyCreate(arguments) => auth::key::create::run(&session, arguments).await,
            Self::KeyList(arguments) => auth::key::list::run(&session, arguments).await,
            Self::KeyRotate(arguments) => auth::key::rotate::run(&session, arguments).await,
            Self::KeyRevoke(arguments) => auth::key::revoke::run(&session, arguments).await,
            Self::SessionList(arguments) => auth::session::list::run(&session, arguments).await,
            Self::SessionRevoke(arguments) => auth::session::revoke::run(&session, arguments).await,
            Self::DomainAdd(arguments) => domain::add::run(&session, arguments).await,
            Self::DomainList(arguments) => domain::list::run(&session, arguments).await,
            Self::DomainVerify(arguments) => domain::verify::run(&session, arguments).await,
            Self::DomainRemove(arguments) => domain::remove::run(&session, arguments).await,
            Self::EventsRelay(arguments) => events::relay::run(&session, arguments).await,
            Self::EventsList(arguments) => events::list::run(&session, arguments).await,
            Self::EventsRetry(arguments) => events::retry::run(&session, arguments).await,
            Self::AuditList(arguments) => audit::list::run(&session, arguments).await,
            Self::AuditRetain(arguments) => audit::retain::run(&session, arguments).await,
            Self::SecretRotate(arguments) => secret::rotate::run(&session, arguments).await,
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
