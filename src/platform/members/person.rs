//! Finds or creates the person of an e-mail address.

use crate::{
    auth::check_email,
    platform::{Actor, PlatformError, RecordedChange, error::Result},
    tenancy::PlatformTx,
    tenant::OrganizationId,
    user::UserId,
};
use serde_json::json;

/// The person of an address.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Person {
    pub(crate) id: UserId,
    /// Whether this call created the user.
    pub(crate) is_new: bool,
}

// The row that holds the address, or the oldest row if that one was deleted.
const FIND: &str = r#"select id from public.users
     where pg_catalog.lower(email collate pg_catalog."C") = pg_catalog.lower($1 collate pg_catalog."C")
     order by holds_address desc, created_at, id limit 1"#;

const MAKE: &str = r#"insert into public.users (organization_id, email, status) values ($1, $2, 'active')
    on conflict do nothing returning id, holds_address"#;

/// How often the search is repeated if another transaction creates the same person.
const ATTEMPTS_MAX: usize = 5;

/// Returns the person of an address. If there is none, creates an active user without a password whose home is the
/// organization. Migration 016 gives each new user its membership there.
pub(crate) async fn person_of_address(
    tx: &PlatformTx<'_>,
    actor: &Actor,
    email: &str,
    organization: OrganizationId,
) -> Result<Person> {
    check_email(email).map_err(|_| PlatformError::Invalid {
        what: "the e-mail address",
        why: "it must be name@domain, without spaces".into(),
    })?;
    for _ in 0..ATTEMPTS_MAX {
        if let Some(row) = tx.query_opt(FIND, &[&email]).await? {
            return Ok(Person { id: row.get(0), is_new: false });
        }
        let Some(row) = tx.query_opt(MAKE, &[&organization, &email]).await? else { continue };
        let id: UserId = row.get(0);
        if row.get(1) {
            let change = RecordedChange {
                actor,
                organization: Some(organization),
                name: "cgk.user.created",
                resource: ("user", id.to_string()),
                before: None,
                after: Some(json!({ "role": "member", "status": "active" })),
            };
            change.record(tx).await?;
            return Ok(Person { id, is_new: true });
        }
        // Another transaction has created the person between the two statements.
        tx.execute("delete from public.users where id = $1", &[&id]).await?;
    }
    Err(PlatformError::Busy)
}

const SAME_ADDRESS: &str = r#"select u.status::pg_catalog.text,
           pg_catalog.lower(u.email collate pg_catalog."C") = pg_catalog.lower($2 collate pg_catalog."C")
      from public.users u where u.id = $1 for no key update"#;

// A user who was invited to its home and has not accepted yet. The user has now proved that it can read the mail of its
// address. It has not accepted the other invitation. A password that its home has set is known there, and is not its own.
const ACTIVATE: &str =
    "update public.users set status = 'active', password_hash = case when organization_id = $2 then password_hash end
     where id = $1 and status = 'invited'";

const UNCONFIRMED_HOME: &str = "select m.id, m.organization_id from public.memberships m
      join public.users u on u.id = m.user_id
     where u.id = $1 and m.organization_id = u.organization_id and m.confirmed_at is null";

const UNCONFIRM: &str = "update public.memberships set confirmed_at = null where id = $1 and confirmed_at is not null";

/// A membership in a user's home that the user has not accepted.
pub(crate) struct UnconfirmedHome {
    membership: uuid::Uuid,
    organization: OrganizationId,
}

impl UnconfirmedHome {
    /// Returns the membership, if there is one.
    pub(crate) async fn of(tx: &PlatformTx<'_>, user: UserId) -> Result<Option<Self>> {
        let row = tx.query_opt(UNCONFIRMED_HOME, &[&user]).await?;
        Ok(row.map(|row| Self { membership: row.get(0), organization: row.get(1) }))
    }

    /// Leaves it unconfirmed, after an activation of the user has confirmed it.
    pub(crate) async fn keep(&self, tx: &PlatformTx<'_>) -> Result<()> {
        tx.execute(UNCONFIRM, &[&self.membership]).await?;
        Ok(())
    }
}

const IS_HOME: &str = "select from public.users where id = $1 and organization_id = $2";

/// Prepares a person, who has proved that the address is theirs, to become a member. Returns an error if the address
/// differs or the person is disabled. Activates an invited person, without the password that another organization has set.
/// Returns whether the membership may already exist,
/// created with the user or confirmed by this call.
pub(crate) async fn accept_person(
    tx: &PlatformTx<'_>,
    person: Person,
    email: &str,
    organization: OrganizationId,
) -> Result<bool> {
    let row = tx.query_opt(SAME_ADDRESS, &[&person.id, &email]).await?;
    let row = row.ok_or(PlatformError::NotFound { what: "user" })?;
    match (row.get(0), row.get(1)) {
        (_, false) => Err(PlatformError::OtherAddress),
        ("disabled", _) => Err(PlatformError::UserDisabled),
        ("invited", _) => {
            let home = UnconfirmedHome::of(tx, person.id).await?;
            tx.execute(ACTIVATE, &[&person.id, &organization]).await?;
            if let Some(home) = home.filter(|home| home.organization != organization) {
                home.keep(tx).await?;
            }
            // If the organization is the home, the activation has confirmed the membership.
            Ok(tx.query_opt(IS_HOME, &[&person.id, &organization]).await?.is_some())
        }
        _ => Ok(person.is_new),
    }
}
