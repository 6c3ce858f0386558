//! The commands of the platform: organizations, users, plans, keys, domains, events and secrets.

use super::{
    audit, auth, domain, events, exit::Exit, invite, member, org, plan, quota, secret, session::Session, subscription,
};
use anyhow::Result;
use clap::Subcommand;

#[derive(Debug, Subcommand)]
pub(super) enum PlatformCommand {
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
}

impl PlatformCommand {
    /// Returns the state of the database after an interruption.
    pub(super) fn after_interruption(&self) -> &'static str {
        match self {
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
            _ => "nothing was changed",
        }
    }

    /// Runs the command.
    pub(super) async fn run(&self, session: &Session<'_>) -> Result<Exit> {
        match self {
            Self::OrgList(arguments) => org::list::run(session, arguments).await,
            Self::OrgShow(arguments) => org::show::run(session, arguments).await,
            Self::UserCreate(arguments) => auth::user::create::run(session, arguments).await,
            Self::UserList(arguments) => auth::user::list::run(session, arguments).await,
            Self::UserDisable(arguments) => auth::user::disable::run(session, arguments).await,
            Self::UserEnable(arguments) => auth::user::enable::run(session, arguments).await,
            Self::UserMerge(arguments) => auth::user::merge::run(session, arguments).await,
            Self::MemberList(arguments) => member::list::run(session, arguments).await,
            Self::MemberAdd(arguments) => member::add::run(session, arguments).await,
            Self::MemberRole(arguments) => member::role::run(session, arguments).await,
            Self::MemberRemove(arguments) => member::remove::run(session, arguments).await,
            Self::InviteCreate(arguments) => invite::create::run(session, arguments).await,
            Self::InviteList(arguments) => invite::list::run(session, arguments).await,
            Self::InviteResend(arguments) => invite::resend::run(session, arguments).await,
            Self::InviteRevoke(arguments) => invite::revoke::run(session, arguments).await,
            Self::PlanList(arguments) => plan::list::run(session, arguments).await,
            Self::SubscriptionShow(arguments) => subscription::show::run(session, arguments).await,
            Self::SubscriptionChange(arguments) => subscription::change::run(session, arguments).await,
            Self::SubscriptionCancel(arguments) => subscription::cancel::run(session, arguments).await,
            Self::SubscriptionRenew(arguments) => subscription::renew::run(session, arguments).await,
            Self::QuotaShow(arguments) => quota::show::run(session, arguments).await,
            Self::QuotaPrune(arguments) => quota::prune::run(session, arguments).await,
            Self::QuotaGrant(arguments) => quota::grant::run(session, arguments).await,
            Self::KeyCreate(arguments) => auth::key::create::run(session, arguments).await,
            Self::KeyList(arguments) => auth::key::list::run(session, arguments).await,
            Self::KeyRotate(arguments) => auth::key::rotate::run(session, arguments).await,
            Self::KeyRevoke(arguments) => auth::key::revoke::run(session, arguments).await,
            Self::SessionList(arguments) => auth::session::list::run(session, arguments).await,
            Self::SessionRevoke(arguments) => auth::session::revoke::run(session, arguments).await,
            Self::DomainAdd(arguments) => domain::add::run(session, arguments).await,
            Self::DomainList(arguments) => domain::list::run(session, arguments).await,
            Self::DomainVerify(arguments) => domain::verify::run(session, arguments).await,
            Self::DomainRemove(arguments) => domain::remove::run(session, arguments).await,
            Self::EventsRelay(arguments) => events::relay::run(session, arguments).await,
            Self::EventsList(arguments) => events::list::run(session, arguments).await,
            Self::EventsRetry(arguments) => events::retry::run(session, arguments).await,
            Self::AuditList(arguments) => audit::list::run(session, arguments).await,
            Self::AuditRetain(arguments) => audit::retain::run(session, arguments).await,
            Self::SecretRotate(arguments) => secret::rotate::run(session, arguments).await,
        }
    }
}
