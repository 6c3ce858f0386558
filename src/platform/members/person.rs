//! The person of an address: found, or made.

use crate::{
    auth::check_email,
    platform::{PlatformError, error::Result},
    tenancy::PlatformTx,
    tenant::OrganizationId,
    user::UserId,
};

/// The person of an address.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Person {
    pub(crate) id: UserId,
    /// Whether it was made by this call.
    pub(crate) is_new: bool,
}

// The row that holds the address, or the oldest one where it was deleted.
const FIND: &str = r#"select id from public.users
     where pg_catalog.lower(email collate pg_catalog."C") = pg_catalog.lower($1 collate pg_catalog."C")
     order by holds_address desc, created_at, id limit 1"#;

const MAKE: &str = r#"insert into public.users (organization_id, email, status) values ($1, $2, 'active')
    on conflict do nothing returning id, holds_address"#;

/// How often somebody else may be making the same person meanwhile.
const ATTEMPTS_MAX: usize = 5;

/// The person of an address. Where there is none, an active user without a password is made whose home is the organization; its
/// membership there is the one that migration 016 gives each new user.
pub(crate) async fn person_of_address(
    tx: &PlatformTx<'_>,
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
            return Ok(Person { id, is_new: true });
        }
        // Another transaction has made the person between the two statements.
        tx.execute("delete from public.users where id = $1", &[&id]).await?;
    }
    Err(PlatformError::Busy)
}
