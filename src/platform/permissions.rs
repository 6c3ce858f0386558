//! What each role may do in its organization: one table, and one function that checks it.

use super::{Actor, PlatformError, error::Result};
use crate::{auth::UserRole, tenancy::PlatformTx, tenant::OrganizationId};

/// Defines the permissions, their names, and the roles that have each.
macro_rules! permissions {
    ($($(#[$doc:meta])* $variant:ident = $name:literal: $($role:ident)+;)+) => {
        /// Something that a member may do in its organization, if its role has it. An API key has it, if it is one of the
        /// key's scopes.
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
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$variant),+];

            /// Its name, which is also that of the scope that gives it to an API key.
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)+
                }
            }

            /// Whether members of this role have it. A role that this version does not know has none.
            pub fn is_granted_to(self, role: &UserRole) -> bool {
                match self {
                    $(Self::$variant => matches!(role, $(UserRole::$role)|+),)+
                }
            }
        }
    };
}

permissions! {
    /// To see the organization's name, settings and status.
    OrganizationRead = "organization:read": Owner Admin Member;
    /// To change the organization's name and settings.
    OrganizationUpdate = "organization:update": Owner Admin;
    /// To give the organization up.
    OrganizationDelete = "organization:delete": Owner;
    /// To see who is a member.
    MembersRead = "members:read": Owner Admin Member;
    /// To add, invite and remove admins and members, and to change their roles.
    MembersManage = "members:manage": Owner Admin;
    /// The same of owners.
    OwnersManage = "owners:manage": Owner;
    /// To see plan, subscription and quota.
    BillingRead = "billing:read": Owner Admin;
    /// To change them.
    BillingManage = "billing:manage": Owner;
    /// To see who has done what.
    AuditRead = "audit:read": Owner Admin;
}

impl Permission {
    /// What it takes to give a role, to take it away, or to invite to it.
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

/// Refuses an actor who may not do this in the organization. Who has locked the organization with [`lock`](super::organizations::lock)
/// knows that no operation of the platform changes the answer before its transaction ends.
///
/// # Errors
///
/// `NotFound`: the actor is no member, so whether there is such an organization is not told. `Forbidden`: its role does not have
/// the permission. `Database`.
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
    };
    match granted {
        Some(true) => Ok(()),
        Some(false) => Err(PlatformError::Forbidden { permission: permission.as_str() }),
        None => Err(PlatformError::NotFound { what: "organization" }),
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
