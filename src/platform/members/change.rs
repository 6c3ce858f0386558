//! Adds and removes members, and changes their roles.

use super::{Member, Members, NewMember, Who, find, person_of_address};
use crate::{
    auth::UserRole,
    platform::{
        Actor, PlatformError, RecordedChange,
        error::{Result, refuse_unknown_role},
        invitations, organizations,
        permissions::{Permission, demand, demand_enabled, demand_in_open},
        quota::{demand_seat, release_seat},
        values::check_role,
    },
    tenancy::PlatformTx,
    tenant::OrganizationId,
    user::UserId,
};
use serde_json::{Value, json};

const ADD: &str = "insert into public.memberships (organization_id, user_id, role, confirmed_at)
    values ($1, $2, $3::pg_catalog.text::public.user_role, current_timestamp)
    on conflict (organization_id, user_id) do update
       set role = excluded.role, confirmed_at = excluded.confirmed_at
     where public.memberships.confirmed_at is null or $4
    returning id";

// The user is locked first: a change of a user that also changes its membership locks them in this order too.
const LOCK_USER: &str = "select u.status::pg_catalog.text from public.users u where u.id = $1 for no key update";

const LOCK_MEMBERSHIP: &str = "select m.role::pg_catalog.text from public.memberships m
     where m.organization_id = $1 and m.user_id = $2 for update";

const SET_ROLE: &str = "update public.memberships set role = $3::pg_catalog.text::public.user_role
     where organization_id = $1 and user_id = $2";

const REMOVE: &str = "delete from public.memberships where organization_id = $1 and user_id = $2";

// An owner who may act. The user is locked, so that it cannot be disabled before this transaction ends.
const OTHER_OWNER: &str = "select from public.memberships m join public.users u on u.id = m.user_id
     where m.organization_id = $1 and m.user_id <> $2 and m.role = 'owner' and m.confirmed_at is not null
       and u.status = 'active'
     order by u.id limit 1 for share of u";

// Another user of the same address, created before one user could be in many organizations.
const SAME_ADDRESS: &str = r#"select from public.memberships m join public.users u on u.id = m.user_id
     where m.organization_id = $1 and m.user_id <> $2
       and pg_catalog.lower(u.email collate pg_catalog."C")
           = (select pg_catalog.lower(w.email collate pg_catalog."C") from public.users w where w.id = $2)"#;

impl Members {
    /// Adds a confirmed member. An invited member is confirmed, with the role that is given here. Open invitations of the
    /// user's address to the organization are revoked.
    ///
    /// # Locks
    ///
    /// The rows of the organization, the user, the membership and the revoked invitations, until the end of the
    /// transaction.
    ///
    /// # Errors
    ///
    /// `AlreadyMember`: the user, or another one of the same address, is a member. `QuotaExceeded`: the organization
    /// has no seat left. `OrganizationSuspended`. `NotFound`: the organization or the user does not exist. `Forbidden`:
    /// the actor may not add a member with this role. `Invalid`: the address, or a role that the database does not
    /// know. `Busy`: other transactions keep creating and deleting the person of the address. `TablesMissing`;
    /// `Database`.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, the change may or may not be committed.
    pub async fn add(&self, organization: OrganizationId, new: &NewMember) -> Result<Member> {
        check_role(&new.role)?;
        let actor = self.actor();
        let platform = self.db.platform();
        let member = platform.transaction(async |tx| {
            organizations::lock(tx, organization).await?;
            demand_in_open(tx, &actor, organization, Permission::to_manage(&new.role)).await?;
            let (user, is_new) = match &new.who {
                Who::User(user) => (*user, false),
                Who::Address(email) => {
                    let person = person_of_address(tx, &actor, email, organization).await?;
                    (person.id, person.is_new)
                }
            };
            join(tx, &actor, organization, user, &new.role, is_new).await
        });
        member.await.map_err(refuse_unknown_role)
    }

    /// Changes the role of a member. The same role again is no change.
    ///
    /// # Locks
    ///
    /// Same as [`add`](Self::add). In addition, a shared lock on the user row of another owner.
    ///
    /// # Errors
    ///
    /// `LastOwner`: the organization would have no owner who is confirmed and active. `NotFound`: the organization has
    /// no such member. `Forbidden`: the actor's role does not allow it; `owners:manage` is needed if the old or the new
    /// role is owner. `Invalid`: the database does not know the role. `TablesMissing`; `Database`.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, the change may or may not be committed.
    pub async fn set_role(&self, organization: OrganizationId, user: UserId, role: &UserRole) -> Result<Member> {
        check_role(role)?;
        let actor = self.actor();
        let platform = self.db.platform();
        let member = platform.transaction(async |tx| {
            organizations::lock(tx, organization).await?;
            demand(tx, &actor, organization, Permission::to_manage(role)).await?;
            let before = lock(tx, &actor, organization, user).await?;
            demand(tx, &actor, organization, Permission::to_manage(&before)).await?;
            if before == *role {
                return find(tx, organization, user).await;
            }
            if before == UserRole::Owner {
                keep_an_owner(tx, organization, user).await?;
            }
            tx.execute(SET_ROLE, &[&organization, &user, &role.as_str()]).await?;
            let member = find(tx, organization, user).await?;
            let (before, after) = (state(&member, &before), state(&member, role));
            record(tx, &actor, "cgk.membership.role_changed", &member, Some(before), Some(after)).await?;
            Ok(member)
        });
        member.await.map_err(refuse_unknown_role)
    }

    /// Removes a member. Its sessions in the organization end, its seat becomes free ([`Member::seat_key`]), and open
    /// invitations of its address to the organization, and those that it has sent, are revoked. A user who is not disabled may always remove itself.
    ///
    /// The user still exists, with its other memberships or without any.
    ///
    /// # Locks
    ///
    /// Same as [`set_role`](Self::set_role), and the rows of the sessions.
    ///
    /// # Errors
    ///
    /// Same as [`set_role`](Self::set_role). `UserDisabled`: the actor.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, the change may or may not be committed.
    pub async fn remove(&self, organization: OrganizationId, user: UserId) -> Result<()> {
        let actor = self.actor();
        let platform = self.db.platform();
        let leaves = actor == Actor::User(user);
        let removed = platform.transaction(async |tx| {
            organizations::lock(tx, organization).await?;
            if !leaves {
                demand(tx, &actor, organization, Permission::MembersManage).await?;
            }
            let role = lock(tx, &actor, organization, user).await?;
            if !leaves {
                demand(tx, &actor, organization, Permission::to_manage(&role)).await?;
            }
            if role == UserRole::Owner {
                keep_an_owner(tx, organization, user).await?;
            }
            let member = find(tx, organization, user).await?;
            tx.execute(REMOVE, &[&organization, &user]).await?;
            invitations::revoke_of_user(tx, &actor, organization, user).await?;
            invitations::revoke_written_by(tx, &actor, organization, user).await?;
            release_seat(tx, organization, &member.seat_key()).await?;
            let before = state(&member, &role);
            record(tx, &actor, "cgk.membership.removed", &member, Some(before), None).await
        });
        removed.await
    }
}

/// Makes a user a confirmed member. `replaces`: a trigger of this transaction may already have confirmed the
/// membership; then its role is replaced by the role given here.
pub(crate) async fn join(
    tx: &PlatformTx<'_>,
    actor: &Actor,
    organization: OrganizationId,
    user: UserId,
    role: &UserRole,
    replaces: bool,
) -> Result<Member> {
    let locked = tx.query_opt(LOCK_USER, &[&user]).await?;
    let locked = locked.ok_or(PlatformError::NotFound { what: "user" })?;
    demand_enabled(actor, user, locked.get(0))?;
    if tx.query_opt(SAME_ADDRESS, &[&organization, &user]).await?.is_some() {
        return Err(PlatformError::AlreadyMember);
    }
    let added = tx.query_opt(ADD, &[&organization, &user, &role.as_str(), &replaces]).await?;
    added.ok_or(PlatformError::AlreadyMember)?;
    demand_seat(tx, organization).await?;
    invitations::revoke_of_user(tx, actor, organization, user).await?;
    let member = find(tx, organization, user).await?;
    let after = state(&member, role);
    record(tx, actor, "cgk.membership.created", &member, None, Some(after)).await?;
    Ok(member)
}

/// Locks the user and the membership. Returns the role, or an error if the actor is the user and disabled.
async fn lock(tx: &PlatformTx<'_>, actor: &Actor, organization: OrganizationId, user: UserId) -> Result<UserRole> {
    let missing = || PlatformError::NotFound { what: "member" };
    let locked = tx.query_opt(LOCK_USER, &[&user]).await?.ok_or_else(missing)?;
    demand_enabled(actor, user, locked.get(0))?;
    let row = tx.query_opt(LOCK_MEMBERSHIP, &[&organization, &user]).await?.ok_or_else(missing)?;
    Ok(row.get::<_, &str>(0).into())
}

/// Returns an error if there is no owner other than this user.
async fn keep_an_owner(tx: &PlatformTx<'_>, organization: OrganizationId, user: UserId) -> Result<()> {
    match tx.query_opt(OTHER_OWNER, &[&organization, &user]).await? {
        Some(_) => Ok(()),
        None => Err(PlatformError::LastOwner),
    }
}

fn state(member: &Member, role: &UserRole) -> Value {
    json!({ "user_id": member.user_id, "role": role.as_str() })
}

async fn record(
    tx: &PlatformTx<'_>,
    actor: &Actor,
    name: &'static str,
    member: &Member,
    before: Option<Value>,
    after: Option<Value>,
) -> Result<()> {
    let change = RecordedChange {
        actor,
        organization: Some(member.organization_id),
        name,
        resource: ("membership", member.id.to_string()),
        before,
        after,
    };
    Ok(change.record(tx).await?)
}
