//! Finds users: by id, by address, or in the list of an organization.

use super::{User, Users, check_email, read};
use crate::{
    auth::{AuthError, UserId, error::Result},
    tenant::OrganizationId,
};

/// A query of users with the columns that [`read`] reads: one row per membership, with the role in that organization.
macro_rules! users {
    ($rest:literal) => {
        concat!(
            "select u.id, m.organization_id, u.email, m.role::pg_catalog.text,
                    case when m.confirmed_at is null and u.status = 'active' then 'invited' else u.status::pg_catalog.text end,
                    u.created_at
               from public.users u join public.memberships m on m.user_id = u.id ",
            $rest
        )
    };
}

const FIND: &str = users!("where m.organization_id = $1 and m.user_id = $2");

const BY_EMAIL: &str = users!(
    r#"where pg_catalog.lower(u.email collate pg_catalog."C") = pg_catalog.lower($1 collate pg_catalog."C")
       order by u.created_at, u.id, m.created_at, m.id limit 1000"#
);

const IN_ORGANIZATION_BY_EMAIL: &str = users!(
    r#"where m.organization_id = $1
         and pg_catalog.lower(u.email collate pg_catalog."C") = pg_catalog.lower($2 collate pg_catalog."C")
       order by u.created_at, u.id limit 1"#
);

const LIST: &str = users!("where m.organization_id = $1 order by u.created_at desc, u.id limit 1000");

impl Users<'_> {
    /// Returns a user of an organization: a member of it, with any home organization.
    ///
    /// # Locks
    ///
    /// None.
    ///
    /// # Errors
    ///
    /// `NotFound`: the organization has no such user, even if another one has. `Database`.
    ///
    /// # Cancel safety
    ///
    /// Nothing is changed.
    pub async fn find(&self, organization: OrganizationId, user: UserId) -> Result<User> {
        let row = self.auth.db.platform().query_opt(FIND, &[&organization.0, &user.0]).await?;
        row.as_ref().map(read).ok_or(AuthError::NotFound { what: "user" })
    }

    /// Returns all users with this address, once for each organization that they are members of, with their role there,
    /// at most 1,000. Use it for a user who follows a magic link and chooses the organization.
    ///
    /// ASCII letters match in any case, and every other byte must be equal. An address that only looks the same, or
    /// that matches only by the rules of the database's locale, is another address.
    ///
    /// # Locks
    ///
    /// None.
    ///
    /// # Errors
    ///
    /// `Database`.
    ///
    /// # Cancel safety
    ///
    /// Nothing is changed.
    pub async fn by_email(&self, email: &str) -> Result<Vec<User>> {
        if check_email(email).is_err() {
            return Ok(Vec::new());
        }
        Ok(self.auth.db.platform().query(BY_EMAIL, &[&email]).await?.iter().map(read).collect())
    }

    /// Returns the user of an organization with this address. ASCII letters match in any case.
    ///
    /// # Locks
    ///
    /// None.
    ///
    /// # Errors
    ///
    /// `NotFound`: the organization has no such user, even if another one has. `Database`.
    ///
    /// # Cancel safety
    ///
    /// Nothing is changed.
    pub async fn find_by_email(&self, organization: OrganizationId, email: &str) -> Result<User> {
        let row = match check_email(email) {
            Ok(()) => self.auth.db.platform().query_opt(IN_ORGANIZATION_BY_EMAIL, &[&organization.0, &email]).await?,
            Err(_) => None,
        };
        row.as_ref().map(read).ok_or(AuthError::NotFound { what: "user" })
    }

    /// Returns the newest thousand users of an organization, of every status.
    ///
    /// # Locks
    ///
    /// None.
    ///
    /// # Errors
    ///
    /// `Database`.
    ///
    /// # Cancel safety
    ///
    /// Nothing is changed.
    pub async fn list(&self, organization: OrganizationId) -> Result<Vec<User>> {
        Ok(self.auth.db.platform().query(LIST, &[&organization.0]).await?.iter().map(read).collect())
    }
}
