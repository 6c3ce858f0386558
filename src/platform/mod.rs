//! The parts that a product needs around its tenants, on the shared tables of the bundled public set: members, plans,
//! subscriptions, quota, events and the audit log.
//!
//! Unless its documentation says otherwise, every operation is one transaction of
//! [`Db::platform`](crate::Db::platform). The change, its event and its line in the audit log are committed together or
//! not at all. The login needs rights on the shared tables: `cgk setup:database --app-role NAME --app-tables all`.
//!
//! The [`Actor`] is the author of a change. Default: the user or API key of the caller's
//! [`TenantContext`](crate::TenantContext). Use `acting_as` to set another one.

mod admin;
mod allowance;
mod audit;
mod duplicates;
mod error;
mod events;
mod invitations;
mod members;
mod organizations;
mod page;
mod permissions;
mod plans;
mod quota;
mod sign_ups;
mod subscriptions;
mod user_accounts;
mod values;

pub use crate::actor::Actor;
pub(crate) use crate::record::RecordedChange;
pub use allowance::{Allowance, PlanKey, QuotaKind};
pub use audit::{AuditEvent, AuditFilter, AuditId, AuditLog};
pub use duplicates::{Duplicate, DuplicateUsers};
pub use error::{PlatformError, Result};
#[cfg(feature = "redis")]
pub use events::RedisStream;
pub use events::{
    Callback, CloudEvent, Event, EventFilter, EventId, EventRecord, EventSink, EventStatus, EventType,
    InvalidEventType, Outbox, Relay, RelayOptions, RelayReport, SinkError, callback,
};
#[cfg(feature = "webhooks")]
pub use events::{InvalidWebhook, Webhook, WebhookSecret};
pub use invitations::{Accepted, Invitation, InvitationId, InvitationState, Invitations, Invitee, NewInvitation};
pub use members::{Member, Members, MembershipId, NewMember};
pub use organizations::{CreatedOrganization, Organization, OrganizationChange, Organizations};
pub use page::{Cursor, InvalidCursor, Page, PageRequest};
pub use permissions::Permission;
pub(crate) use permissions::{demand, demand_service, explain_nothing, owner_of_accounts};
pub use plans::{Entitlement, Issuance, Plan, PlanDefinition, PlanId, Plans, UsageType};
pub use quota::{Consumption, Grant, GrantId, GrantSource, NewGrant, Quota, QuotaBalance};
pub use sign_ups::{NewSignUp, SignUpId, SignUpState, SignUps, SignedUp};
pub use subscriptions::{
    Cancellation, NewSubscription, RenewalPeriod, RenewalReport, Subscription, SubscriptionId, SubscriptionStatus,
    Subscriptions,
};
pub use user_accounts::{UserAccount, UserAccountId, UserAccounts};
