//! The permissions of each role in its organization: one table, and one function that checks it.

use super::{Actor, PlatformError, error::Result};
use crate::{
    auth::{self, UserRole},
    tenancy::{Db, PlatformTx},
    tenant::OrganizationId,
    user::UserId,
};

/// Defines the permissions, their names, and the roles that have each of them.
macro_rules! permissions {
    ($($(#[$doc:meta])* $variant:ident = $name:literal: $($role:ident)+;)+) => {
        /// A permission of a member in its organization, given by its role. An API key has a permission if it is one of
        /// the key's scopes.
        ///
        /// | permission | roles |
        /// |---|---|
        $(#[doc = concat!("| `", $name, "` | ", stringify!($($role)+), " |")])+
        ///
        /// ```
        /// use cgk::{auth::UserRole, platform::Permission};
        /// assert!(Permission::MembersManage.is_granted_to(&UserRole::Admin));
        /// assert!(!Permission::OwnersManage.is_granted_to(&UserRole::Admin));
        /// ```
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum Permission {
            $($(#[$doc])* $variant,)+
        }

        impl Permission {
            /// All permissions.
            pub const ALL: &[Self] = &[$(Self::$variant),+];

            /// Returns the name. The scope that gives the permission to an API key has the same name.
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)+
                }
            }

            /// Returns whether members of this role have the permission. A role that this version does not know has no
            /// permission.
            pub fn is_granted_to(self, role: &UserRole) -> bool {
                match self {
                    $(Self::$variant => matches!(role, $(UserRole::$role)|+),)+
                }
            }
        }
    };
}

permissions! {
    /// See the organization's name, settings and status.
    OrganizationRead = "organization:read": Owner Admin Member;
    /// Change the organization's name and settings.
    OrganizationUpdate = "organization:update": Owner Admin;
    /// Suspend the organization.
    OrganizationDelete = "organization:delete": Owner;
    /// See the members.
    MembersRead = "members:read": Owner Admin Member;
    /// Add, invite and remove admins and members, and change their roles.
    MembersManage = "members:manage": Owner Admin;
    /// Add, invite and remove owners, and change their roles.
    OwnersManage = "owners:manage": Owner;
    /// See the plan, the subscription and the quota.
    BillingRead = "billing:read": Owner Admin;
    /// Change the plan, the subscription and the quota.
    BillingManage = "billing:manage": Owner;
    /// See the audit log.
    AuditRead = "audit:read": Owner Admin;
    /// See the organization's events, and schedule those that were given up for delivery again.
    EventsManage = "events:manage": Owner Admin;
}

impl Permission {
    /// Returns the permission that is needed to give a role, to remove it, or to invite to it.
    pub(crate) fn to_manage(role: &UserRole) -> Self {
        match role {
            UserRole::Admin | UserRole::Member => Self::MembersManage,
            _ => Self::OwnersManage,
        }
    }
}

const OF_USER: &str = "select m.role::pg_catalog.text
      from public.memberships m join public.users u on u.id = m.user_id
     where m.organization_id = $1 and m.user_id = $2 and m.confirmed_at is not null and u.status = 'active'";

const OF_KEY: &str = "select $3::pg_catalog.text = any (k.scopes)
      from public.api_keys k
     where k.organization_id = $1 and k.id = $2 and k.revoked_at is null
       and (k.expires_at is null or k.expires_at > current_timestamp)";

/// Returns an error if an actor does not have this permission in the organization. If the caller has locked the
/// organization with [`lock`](super::organizations::lock), no operation of the platform changes the answer before the
/// transaction ends.
///
/// # Errors
///
/// `NotFound`: the actor is not a member, so the error does not show whether the organization exists. `Forbidden`: its
/// role does not have the permission, or the actor is not known. `Database`.
pub(crate) async fn demand(
    tx: &PlatformTx<'_>,
    actor: &Actor,
    organization: OrganizationId,
    permission: Permission,
) -> Result<()> {
    let granted = match actor {
        Actor::System | Actor::Operator(_) => Some(true),
        Actor::User(user) => {
            let row = tx.query_opt(OF_USER, &[&organization, user]).await?;
            row.map(|row| permission.is_granted_to(&row.get::<_, &str>(0).into()))
        }
        Actor::ApiKey(key) => {
            let row = tx.query_opt(OF_KEY, &[&organization, key, &permission.as_str()]).await?;
            row.map(|row| row.get(0))
        }
        Actor::Anonymous => Some(false),
    };
    match granted {
        Some(true) => Ok(()),
        Some(false) => Err(PlatformError::forbidden(actor, permission.as_str())),
        None => Err(PlatformError::NotFound { what: "organization" }),
    }
}

/// Does the same as [`demand`] for an operation that gives the organization something new, such as a member, a plan or
/// quota.
///
/// # Errors
///
/// `OrganizationSuspended`: the actor has the permission, and the organization was suspended or deleted. Also the
/// errors of [`demand`].
pub(crate) async fn demand_in_open(
    tx: &PlatformTx<'_>,
    actor: &Actor,
    organization: OrganizationId,
    permission: Permission,
) -> Result<()> {
    demand(tx, actor, organization, permission).await?;
    demand_open(tx, organization).await
}

/// Returns an error if the organization takes nothing new.
///
/// # Errors
///
/// `OrganizationSuspended`. `NotFound`. `Database`.
pub(crate) async fn demand_open(tx: &PlatformTx<'_>, organization: OrganizationId) -> Result<()> {
    auth::demand_open(tx, organization).await.map_err(PlatformError::of_auth)
}

/// Returns an error if an actor is not the service itself or an operator. For operations on what belongs to no single
/// organization. No role and no scope has this permission.
///
/// # Errors
///
/// `Forbidden`.
pub(crate) fn demand_service(actor: &Actor, permission: &'static str) -> Result<()> {
    match actor {
        Actor::System | Actor::Operator(_) => Ok(()),
        Actor::User(_) | Actor::ApiKey(_) | Actor::Anonymous => Err(PlatformError::forbidden(actor, permission)),
    }
}

const IS_DISABLED: &str = "select from public.users u where u.id = $1 and u.status = 'disabled'";

/// Returns an error if the actor is this user and disabled. For changes of users to what is their own, which no role gives.
/// The status must be read with a lock on the user's row.
///
/// # Errors
///
/// `UserDisabled`.
pub(crate) fn demand_enabled(actor: &Actor, user: UserId, status: &str) -> Result<()> {
    match actor {
        Actor::User(actor) if *actor == user && status == "disabled" => Err(PlatformError::UserDisabled),
        _ => Ok(()),
    }
}

/// Returns an error if the actor is a user who is disabled. For statements that find nothing for such a user: the caller
/// calls this only if nothing was found.
///
/// # Errors
///
/// `UserDisabled`. `Database`.
pub(crate) async fn explain_nothing<E>(db: &Db<E>, actor: &Actor) -> Result<()> {
    let Actor::User(user) = actor else { return Ok(()) };
    match db.errors::<PlatformError>().platform().query_opt(IS_DISABLED, &[user]).await? {
        Some(_) => Err(PlatformError::UserDisabled),
        None => Ok(()),
    }
}

/// Returns the user whose accounts at providers an actor may use. `None`: those of every user.
///
/// # Errors
///
/// `Forbidden`: the actor is an API key, or not known.
pub(crate) fn owner_of_accounts(actor: &Actor) -> Result<Option<UserId>> {
    match actor {
        Actor::User(user) => Ok(Some(*user)),
        Actor::ApiKey(_) | Actor::Anonymous => Err(PlatformError::forbidden(actor, ACCOUNTS_MANAGE)),
        Actor::System | Actor::Operator(_) => Ok(None),
    }
}

/// The permission to use accounts of other users. No role and no scope has it.
pub(super) const ACCOUNTS_MANAGE: &str = "accounts:manage";

/// Same as [`demand`] for what belongs to an organization, and as [`demand_service`] for what belongs to none or to all
/// of them.
///
/// # Errors
///
/// The errors of both.
pub(crate) async fn demand_of(
    tx: &PlatformTx<'_>,
    actor: &Actor,
    organization: Option<OrganizationId>,
    permission: Permission,
) -> Result<()> {
    match organization {
        Some(organization) => demand(tx, actor, organization, permission).await,
        None => demand_service(actor, permission.as_str()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_role_may_do_what_the_ones_below_it_may() {
        let may = |role: UserRole| Permission::ALL.iter().filter(|one| one.is_granted_to(&role)).count();
        assert_eq!(may(UserRole::Owner), Permission::ALL.len());
        assert_eq!(may(UserRole::Other("auditor".into())), 0);
        for permission in Permission::ALL {
            let [owner, admin, member] =
                [UserRole::Owner, UserRole::Admin, UserRole::Member].map(|role| permission.is_granted_to(&role));
            assert!(owner >= admin && admin >= member, "{permission:?}");
        }
        assert!(may(UserRole::Admin) > may(UserRole::Member));
    }

    #[test]
    fn a_role_that_is_not_known_is_given_by_owners_alone() {
        assert_eq!(Permission::to_manage(&UserRole::Other("auditor".into())), Permission::OwnersManage);
        assert_eq!(Permission::to_manage(&UserRole::Owner), Permission::OwnersManage);
        assert_eq!(Permission::to_manage(&UserRole::Member), Permission::MembersManage);
    }
}
