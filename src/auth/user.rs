//! Users: the table `public.users`.

mod find;

use super::{Auth, AuthError, Rejection, UserId, demand_open, error::Result, password::Compared, revoke};
use crate::{tenancy::PlatformTx, tenant::OrganizationId, text};
use serde_json::json;
use std::{convert::Infallible, fmt, str::FromStr, time::SystemTime};
use tokio_postgres::{Row, error::SqlState};

/// The role of a user in an organization.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum UserRole {
    /// Has all rights, and is the only role that may end the organization.
    Owner,
    /// May change the organization.
    Admin,
    /// Works in the organization.
    Member,
    /// A role that this version does not know, from a newer version or your own.
    Other(String),
}

/// Whether a user may sign in.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum UserStatus {
    /// May sign in.
    Active,
    /// Has not accepted the invitation; may not sign in.
    Invited,
    /// May not sign in.
    Disabled,
    /// A status that this version does not know; may not sign in.
    Other(String),
}

/// Defines the texts of an enum with `Other(String)`.
macro_rules! texts {
    ($name:ident { $($variant:ident = $text:literal),+ }) => {
        impl $name {
            /// Returns the value in the database.
            pub fn as_str(&self) -> &str {
                match self {
                    $(Self::$variant => $text,)+
                    Self::Other(text) => text,
                }
            }
        }

        impl From<&str> for $name {
            fn from(text: &str) -> Self {
                match text {
                    $($text => Self::$variant,)+
                    other => Self::Other(other.to_owned()),
                }
            }
        }

        impl FromStr for $name {
            type Err = Infallible;

            fn from_str(text: &str) -> Result<Self, Infallible> {
                Ok(text.into())
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}", self.as_str().escape_debug())
            }
        }
    };
}

texts!(UserRole { Owner = "owner", Admin = "admin", Member = "member" });
texts!(UserStatus { Active = "active", Invited = "invited", Disabled = "disabled" });

/// A user.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct User {
    /// The id of the user.
    pub id: UserId,
    /// The organization that it was found in: one that the user is a member of.
    pub organization: OrganizationId,
    /// The email address, as it was typed.
    pub email: String,
    /// The user's role in the organization.
    pub role: UserRole,
    /// Whether the user may sign in.
    pub status: UserStatus,
    /// When the user was created.
    pub created_at: SystemTime,
}

/// A user to create.
#[derive(Clone)]
pub struct NewUser {
    email: String,
    role: UserRole,
    status: UserStatus,
    password: Option<String>,
}

impl NewUser {
    /// Creates the description of an invited member without a password.
    pub fn invited(email: &str) -> Self {
        Self { email: email.to_owned(), role: UserRole::Member, status: UserStatus::Invited, password: None }
    }

    /// Creates the description of an active member without a password, who signs in by magic link or provider.
    pub fn active(email: &str) -> Self {
        Self { status: UserStatus::Active, ..Self::invited(email) }
    }

    /// Sets the role.
    pub fn role(mut self, role: UserRole) -> Self {
        self.role = role;
        self
    }

    /// Sets the password.
    pub fn password(mut self, password: &str) -> Self {
        self.password = Some(password.to_owned());
        self
    }
}

impl fmt::Debug for NewUser {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NewUser")
            .field("email", &self.email)
            .field("role", &self.role)
            .field("status", &self.status)
            .field("password", &self.password.as_ref().map(|_| "…"))
            .finish()
    }
}

/// The operations on users; from [`Auth::users`].
#[derive(Clone, Copy, Debug)]
pub struct Users<'a> {
    pub(super) auth: &'a Auth,
}

/// A user whose password was correct.
pub(super) struct PasswordLogin {
    pub(super) user: UserId,
    /// The stored hash that the password was compared with.
    pub(super) hash: String,
    /// The hash with the current settings, if the stored one has others.
    pub(super) renewed: Option<String>,
}

const CREATE: &str = "insert into public.users (organization_id, email, role, status, password_hash)
    select o.id, $2, $3::pg_catalog.text::public.user_role, $4::pg_catalog.text::public.user_status, $5
      from public.organizations o where o.id = $1
    returning id, organization_id, email, role::pg_catalog.text, status::pg_catalog.text, created_at";

/// Changes the user `$2` if `$1` is the organization that decides about it: the one that the user is a confirmed member of
/// for the longest time, or the home if no membership is confirmed.
macro_rules! change {
    ($set:literal) => {
        concat!(
            "update public.users u set ",
            $set,
            " where u.id = $2 and $1 = (
                 select m.organization_id from public.memberships m
                  where m.user_id = u.id and (m.confirmed_at is not null or m.organization_id = u.organization_id)
                  order by m.confirmed_at, m.organization_id <> u.organization_id, m.created_at, m.id limit 1)"
        )
    };
}

const SET_PASSWORD: &str = change!("password_hash = $3");
// A password that the home set before the user accepted is not one of the user's.
const SET_STATUS: &str = change!(
    "status = $3::pg_catalog.text::public.user_status,
     password_hash = case when u.status <> 'invited' or u.organization_id = $1 then u.password_hash end"
);

// A user who was disabled before it accepted the invitation of its home is not confirmed by the change of its status.
const CONFIRM_HOME: &str = "update public.memberships m set confirmed_at = current_timestamp
      from public.users u
     where u.id = $2 and u.organization_id = $1
       and m.organization_id = $1 and m.user_id = u.id and m.confirmed_at is null";

const LOCK: &str = "select u.status::pg_catalog.text from public.users u where u.id = $1 for no key update";

/// What is changed of a user.
enum NewValue<'a> {
    /// The hash of a password.
    Password(String),
    Status(&'a UserStatus),
}

impl Users<'_> {
    /// Creates a user whose home is this organization, and who is a member of it: confirmed, unless it is invited.
    ///
    /// If the person already has a user in another organization, this creates a second one, which is a duplicate;
    /// [`Members::add`](crate::platform::Members) makes the same user a member of both.
    ///
    /// # Locks
    ///
    /// The organization's row against its deletion, until the end of the transaction.
    ///
    /// # Errors
    ///
    /// `NotFound`: the organization does not exist. `OrganizationSuspended`. `EmailTaken`: ASCII letters match in any
    /// case. `Invalid`: the address or the password; no query was sent. Also `Invalid`: the database does not know the
    /// role or the status. `Database`.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, the user may or may not exist.
    pub async fn create(&self, organization: OrganizationId, user: &NewUser) -> Result<User> {
        check_email(&user.email)?;
        check_no_nul(user.role.as_str(), "the role")?;
        check_no_nul(user.status.as_str(), "the status")?;
        let hash = match &user.password {
            Some(password) => Some(self.auth.hasher.hash(password, self.auth.settings.password_chars_min).await?),
            None => None,
        };
        let (role, status) = (user.role.as_str(), user.status.as_str());
        let platform = self.auth.db.platform();
        let made = platform.transaction(async |tx| {
            demand_open(tx, organization).await?;
            let made = read(&tx.query_one(CREATE, &[&organization.0, &user.email, &role, &status, &hash]).await?);
            let (resource, after) = (("user", made.id.to_string()), json!({ "role": role, "status": status }));
            self.auth.record(tx, Some(organization), "cgk.user.created", resource, (None, Some(after))).await?;
            Ok(made)
        });
        match made.await {
            Err(AuthError::Database(error)) if error.sqlstate() == Some(&SqlState::UNIQUE_VIOLATION) => {
                Err(AuthError::EmailTaken)
            }
            outcome => outcome.map_err(refuse_unknown),
        }
    }

    /// Sets a user's password, and revokes all the user's sessions, in every organization.
    ///
    /// `organization` is the one that the user is a confirmed member of for the longest time, or the home if no membership
    /// is confirmed. Other organizations cannot change the password, nor can one that the user has left.
    ///
    /// The new password opens every organization of the user. The caller decides who may set it: the person, for
    /// example after a magic link was redeemed, or an administrator of this organization if the user is a member of no
    /// other.
    ///
    /// # Locks
    ///
    /// The rows of the user and of the sessions, until the end of the transaction.
    ///
    /// # Errors
    ///
    /// `NotFound`: the organization does not decide about such a user. `Invalid`: the password. `Database`.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, either both are done or neither.
    pub async fn set_password(&self, organization: OrganizationId, user: UserId, password: &str) -> Result<()> {
        let hash = self.auth.hasher.hash(password, self.auth.settings.password_chars_min).await?;
        self.change(organization, user, &NewValue::Password(hash)).await
    }

    /// Sets a user's status, and revokes all the user's sessions, in every organization. `organization` is the one that
    /// [`set_password`](Self::set_password) needs. If the home activates a user that it has invited, the membership is
    /// confirmed, also if the user was disabled in between. If an organization that is not the home activates an invited
    /// user, the password that the home has set is deleted.
    ///
    /// # Locks
    ///
    /// The locks of [`set_password`](Self::set_password).
    ///
    /// # Errors
    ///
    /// `NotFound`: the organization does not decide about such a user. `OrganizationSuspended`: the user is invited and
    /// would become a member. `Invalid`: the database does not know the status. `Database`.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, either both are done or neither.
    pub async fn set_status(&self, organization: OrganizationId, user: UserId, status: &UserStatus) -> Result<()> {
        check_no_nul(status.as_str(), "the status")?;
        self.change(organization, user, &NewValue::Status(status)).await.map_err(refuse_unknown)
    }

    /// Locks the user's row before the sessions. A transaction that issues a session has a lock on this row, so the next statement
    /// sees that session.
    async fn change(&self, organization: OrganizationId, user: UserId, new: &NewValue<'_>) -> Result<()> {
        let missing = || AuthError::NotFound { what: "user" };
        let platform = self.auth.db.platform();
        let changed = platform.transaction(async |tx| {
            let activates = matches!(new, NewValue::Status(UserStatus::Active));
            let is_open = if activates { demand_open(tx, organization).await } else { Ok(()) };
            let before: String = tx.query_opt(LOCK, &[&user.0]).await?.ok_or_else(missing)?.get(0);
            let (set, value) = match new {
                NewValue::Password(hash) => (SET_PASSWORD, hash.as_str()),
                NewValue::Status(status) => (SET_STATUS, status.as_str()),
            };
            if tx.execute(set, &[&organization.0, &user.0, &value]).await? == 0 {
                return Err(missing());
            }
            // A user that the home has invited becomes a member. Others are members already.
            let confirmed = if activates { tx.execute(CONFIRM_HOME, &[&organization.0, &user.0]).await? } else { 0 };
            if before == UserStatus::Invited.as_str() || confirmed > 0 {
                is_open?;
            }
            let revoked = revoke::all(tx, None, user, None).await?;
            let (name, states) = match new {
                NewValue::Password(_) => ("cgk.user.password_set", (None, None)),
                NewValue::Status(status) if status.as_str() == before && revoked + confirmed == 0 => return Ok(()),
                NewValue::Status(status) => {
                    let state = |status: &str| Some(json!({ "status": status }));
                    ("cgk.user.status_changed", (state(&before), state(status.as_str())))
                }
            };
            self.auth.record(tx, Some(organization), name, ("user", user.to_string()), states).await
        });
        changed.await
    }

    /// Checks a password. A failed check costs at least one hash with the current settings, whether or not the address
    /// is known.
    pub(super) async fn check_password(
        &self,
        organization: OrganizationId,
        email: &str,
        password: &str,
    ) -> Result<PasswordLogin> {
        // If two users have the address, the older one is used. The other is a duplicate.
        let find = r#"select u.id, u.password_hash
              from public.users u join public.memberships m on m.user_id = u.id
             where m.organization_id = $1
               and pg_catalog.lower(u.email collate pg_catalog."C") = pg_catalog.lower($2 collate pg_catalog."C")
             order by u.created_at, u.id limit 1"#;
        let row = match check_email(email) {
            Ok(()) => self.auth.db.platform().query_opt(find, &[&organization.0, &email]).await?,
            Err(_) => None,
        };
        let stored: Option<(UserId, String)> =
            row.and_then(|row| Some((UserId(row.get(0)), row.get::<_, Option<String>>(1)?)));
        let compared = self.auth.hasher.compare(password, stored.as_ref().map(|(_, hash)| hash.as_str())).await;
        let (user, hash) = stored.ok_or(Rejection::WrongPassword)?;
        match compared {
            Compared::Right => Ok(PasswordLogin { user, hash, renewed: None }),
            Compared::Renewed(renewed) => Ok(PasswordLogin { user, hash, renewed: Some(renewed) }),
            Compared::Wrong => Err(Rejection::WrongPassword.into()),
        }
    }
}

/// Replaces the hash that a password was just compared with, unless the password was changed in the meantime.
pub(super) async fn replace_hash(tx: &PlatformTx<'_>, user: UserId, old: &str, new: &str) -> Result<()> {
    let replace = "update public.users set password_hash = $2 where id = $1 and password_hash = $3";
    match tx.execute(replace, &[&user.0, &new, &old]).await? {
        0 => Err(Rejection::WrongPassword.into()),
        _ => Ok(()),
    }
}

/// Checks the rule of the column, so that an invalid address is reported without a query.
pub(crate) fn check_email(email: &str) -> Result<()> {
    let parts: Vec<&str> = email.split('@').collect();
    let fits = email.chars().count() <= 320
        && parts.len() == 2
        && parts.iter().all(|part| !part.is_empty())
        && !email
            .chars()
            .any(|c| c.is_whitespace() || c.is_control() || is_invisible(c) || "<>()[]\\,;:\"".contains(c))
        && parts[1].chars().all(|c| !c.is_ascii() || c.is_ascii_alphanumeric() || "-._".contains(c));
    match fits {
        true => Ok(()),
        false => Err(AuthError::Invalid { what: "the e-mail address", why: "it must be name@domain, without spaces" }),
    }
}

/// Checks that a name can be sent to the database, which decides whether it knows it.
fn check_no_nul(text: &str, what: &'static str) -> Result<()> {
    text::check_no_nul(text).map_err(|why| AuthError::Invalid { what, why })
}

/// Converts the error of a role or a status that the database does not know.
fn refuse_unknown(error: AuthError) -> AuthError {
    match error {
        AuthError::Database(source) if source.sqlstate() == Some(&SqlState::INVALID_TEXT_REPRESENTATION) => {
            AuthError::Invalid { what: "the role or the status", why: "the database does not know it" }
        }
        other => other,
    }
}

/// Whether a character shows nothing, or changes the direction of the text: two addresses could look the same.
fn is_invisible(c: char) -> bool {
    matches!(c, '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

fn read(row: &Row) -> User {
    User {
        id: UserId(row.get(0)),
        organization: OrganizationId(row.get(1)),
        email: row.get(2),
        role: row.get::<_, &str>(3).into(),
        status: row.get::<_, &str>(4).into(),
        created_at: row.get(5),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roles_and_statuses_keep_their_text() {
        for text in ["owner", "admin", "member", "auditor"] {
            assert_eq!(UserRole::from(text).as_str(), text);
        }
        assert_eq!("active".parse(), Ok(UserStatus::Active));
        assert_eq!(UserStatus::from("a\n").to_string(), "a\\n");
    }

    #[test]
    fn an_address_is_name_and_domain() {
        for good in ["a@b", "Ada.Lovelace+x@example.com", "ü@ü.de"] {
            assert!(check_email(good).is_ok(), "{good}");
        }
        for bad in [
            "",
            "a",
            "@",
            "a@",
            "@b",
            "a@b@c",
            "a b@c",
            "a@b\n",
            "a@b\0",
            "\u{202e}a@b.c",
            "a\u{200b}@b",
            "<a@b.c>",
            "a,b@c",
            "a@b.c%0d",
            &format!("{}@b", "a".repeat(319)),
        ] {
            assert!(check_email(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_new_user_does_not_show_the_password() {
        assert!(!format!("{:?}", NewUser::active("a@b").password("hunter42")).contains("hunter42"));
    }
}
