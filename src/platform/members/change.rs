//! Members are added, get another role, and are removed.

use super::{Member, Members, NewMember, Who, find, person_of_address};
use crate::{
    auth::UserRole,
    platform::{
        Actor, PlatformError, Quota,
        error::{Result, refuse_unknown_role},
        organizations,
        permissions::{Permission, demand},
        quota::demand_seat,
        record::Change,
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

// The user first: whoever changes a user and by that its membership locks them in this order too.
const LOCK_USER: &str = "select u.status::pg_catalog.text from public.users u where u.id = $1 for no key update";

const LOCK_MEMBERSHIP: &str = "select m.role::pg_catalog.text from public.memberships m
     where m.organization_id = $1 and m.user_id = $2 for update";

const SET_ROLE: &str = "update public.memberships set role = $3::pg_catalog.text::public.user_role
     where organization_id = $1 and user_id = $2";

const REMOVE: &str = "delete from public.memberships where organization_id = $1 and user_id = $2";

// An owner who can act. It is locked, so that it is not disabled before this transaction ends.
const OTHER_OWNER: &str = "select from public.memberships m join public.users u on u.id = m.user_id
     where m.organization_id = $1 and m.user_id <> $2 and m.role = 'owner' and m.confirmed_at is not null
       and u.status = 'active'
     order by u.id limit 1 for share of u";

// Another user of the same address, who was made before a person was one user.
const SAME_ADDRESS: &str = r#"select from public.memberships m join public.users u on u.id = m.user_id
     where m.organization_id = $1 and m.user_id <> $2
       and pg_catalog.lower(u.email collate pg_catalog."C")
           = (select pg_catalog.lower(w.email collate pg_catalog."C") from public.users w where w.id = $2)"#;

impl Members {
    /// Adds a member, confirmed. One that is invited is confirmed, with the role that is given here.
    ///
    /// # Locks
    ///
    /// The organization's row, the user's and the membership's, to the end of the transaction.
    ///
    /// # Errors
    ///
    /// `AlreadyMember`: the user, or another one of the same address. `QuotaExceeded`: the organization has no seat left. `NotFound`: there is no such organization or user.
    /// `Forbidden`: the actor may not add one of this role. `Invalid`: the address, or a role that the database does not know.
    /// `Busy`: the person of the address is being made and removed again and again. `TablesMissing`; `Database`.
    ///
    /// # Cancel safety
    ///
    /// Dropped, the member may have been added or not.
    pub async fn add(&self, organization: OrganizationId, new: &NewMember) -> Result<Member> {
        let actor = self.actor();
        let platform = self.db.platform();
        let member = platform.transaction(async |tx| {
            organizations::lock(tx, organization).await?;
            demand(tx, &actor, organization, Permission::to_manage(&new.role)).await?;
            let (user, is_new) = match &new.who {
                Who::User(user) => (*user, false),
                Who::Address(email) => {
                    let person = person_of_address(tx, email, organization).await?;
                    (person.id, person.is_new)
                }
            };
            join(tx, &actor, organization, user, &new.role, is_new).await
        });
        member.await.map_err(refuse_unknown_role)
    }

    /// Gives a member another role; the same one again is no change.
    ///
    /// # Locks
    ///
    /// As [`add`](Self::add); and another owner's user, shared.
    ///
    /// # Errors
    ///
    /// `LastOwner`: there would be no owner any more who is confirmed and active. `NotFound`: the organization has no such
    /// member. `Forbidden`: it takes `owners:manage` where either role is the owner's. `Invalid`: the database does not know the
    /// role. `TablesMissing`; `Database`.
    ///
    /// # Cancel safety
    ///
    /// Dropped, the role may have been changed or not.
    pub async fn set_role(&self, organization: OrganizationId, user: UserId, role: &UserRole) -> Result<Member> {
        let actor = self.actor();
        let platform = self.db.platform();
        let member = platform.transaction(async |tx| {
            organizations::lock(tx, organization).await?;
            demand(tx, &actor, organization, Permission::to_manage(role)).await?;
            let before = lock(tx, organization, user).await?;
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

    /// Removes a member, whose sessions in the organization end with it, and whose seat is given back
    /// ([`Member::seat_key`]). A user may always remove itself: it leaves.
    ///
    /// The user stays, with its other memberships, and also without any.
    ///
    /// # Locks
    ///
    /// As [`set_role`](Self::set_role), and the rows of the sessions.
    ///
    /// # Errors
    ///
    /// As [`set_role`](Self::set_role).
    ///
    /// # Cancel safety
    ///
    /// Dropped, the member may have been removed or not.
    pub async fn remove(&self, organization: OrganizationId, user: UserId) -> Result<()> {
        let actor = self.actor();
        let platform = self.db.platform();
        let removed = platform.transaction(async |tx| {
            organizations::lock(tx, organization).await?;
            let leaves = actor == Actor::User(user);
            if !leaves {
                demand(tx, &actor, organization, Permission::MembersManage).await?;
            }
            let role = lock(tx, organization, user).await?;
            if !leaves {
                demand(tx, &actor, organization, Permission::to_manage(&role)).await?;
            }
            if role == UserRole::Owner {
                keep_an_owner(tx, organization, user).await?;
            }
            let member = find(tx, organization, user).await?;
            tx.execute(REMOVE, &[&organization, &user]).await?;
            Quota::new(&self.db).release_in(tx, organization, &member.seat_key()).await?;
            let before = state(&member, &role);
            record(tx, &actor, "cgk.membership.removed", &member, Some(before), None).await
        });
        removed.await
    }
}

/// Makes a user a confirmed member. `replaces`: a trigger of this transaction may have confirmed the membership, whose role is the one
/// that is given here.
pub(crate) async fn join(
    tx: &PlatformTx<'_>,
    actor: &Actor,
    organization: OrganizationId,
    user: UserId,
    role: &UserRole,
    replaces: bool,
) -> Result<Member> {
    let locked = tx.query_opt(LOCK_USER, &[&user]).await?;
    locked.ok_or(PlatformError::NotFound { what: "user" })?;
    if tx.query_opt(SAME_ADDRESS, &[&organization, &user]).await?.is_some() {
        return Err(PlatformError::AlreadyMember);
    }
    let added = tx.query_opt(ADD, &[&organization, &user, &role.as_str(), &replaces]).await?;
    added.ok_or(PlatformError::AlreadyMember)?;
    demand_seat(tx, organization).await?;
    let member = find(tx, organization, user).await?;
    let after = state(&member, role);
    record(tx, actor, "cgk.membership.created", &member, None, Some(after)).await?;
    Ok(member)
}

/// Locks the user and the membership; gives the role.
async fn lock(tx: &PlatformTx<'_>, organization: OrganizationId, user: UserId) -> Result<UserRole> {
    let missing = || PlatformError::NotFound { what: "member" };
    tx.query_opt(LOCK_USER, &[&user]).await?.ok_or_else(missing)?;
    let row = tx.query_opt(LOCK_MEMBERSHIP, &[&organization, &user]).await?.ok_or_else(missing)?;
    Ok(row.get::<_, &str>(0).into())
}

/// Refuses unless there is another owner beside this user.
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
    let change = Change {
        actor,
        organization: Some(member.organization_id),
        name,
        resource: ("membership", member.id.to_string()),
        before,
        after,
    };
    change.record(tx).await
}
