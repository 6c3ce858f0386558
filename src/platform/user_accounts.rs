//! Accounts of users at sign-in providers.

use super::{
    Actor, PlatformError, RecordedChange,
    error::Result,
    permissions::{ACCOUNTS_MANAGE, demand_enabled, explain_nothing, owner_of_accounts},
    values::check_text,
};
use crate::{
    row_id::row_id,
    tenancy::{Db, PlatformTx},
    user::UserId,
};
use serde_json::json;
use std::time::SystemTime;
use tokio_postgres::Row;

row_id!(
    /// The id of an account at a provider, a row of `public.user_accounts`.
    UserAccountId
);

/// An account of a user at a sign-in provider, without its tokens. [`Secrets`](crate::secret::Secrets) stores the
/// tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct UserAccount {
    /// The id of the account.
    pub id: UserAccountId,
    /// The user.
    pub user_id: UserId,
    /// The provider, such as its OpenID Connect issuer.
    pub provider: String,
    /// The id of the person at the provider.
    pub subject: String,
    /// The address at the provider, when the account was last linked.
    pub email: Option<String>,
    /// When it was first linked.
    pub linked_at: SystemTime,
    /// Whether encrypted tokens are stored.
    pub has_tokens: bool,
}

/// Operations on accounts at sign-in providers. Cheap to clone.
///
/// ```no_run
/// use cgk::{Db, UserId, platform::{PlatformError, UserAccounts}};
///
/// /// After the provider has verified the person: the user that the account is linked to.
/// async fn signed_in(db: &Db, issuer: &str, subject: &str) -> Result<Option<UserId>, PlatformError> {
///     Ok(UserAccounts::new(db).find(issuer, subject).await?.map(|account| account.user_id))
/// }
/// ```
#[derive(Clone, Debug)]
pub struct UserAccounts {
    db: Db<PlatformError>,
    actor: Option<Actor>,
}

macro_rules! columns {
    () => {
        "a.id, a.user_id, a.provider, a.subject, a.email, a.linked_at, a.tokens is not null"
    };
}

const LOCK_USER: &str =
    "select u.organization_id, u.status::pg_catalog.text from public.users u where u.id = $1 for no key update";

// If the row belongs to another user, it is not changed, so it is not returned.
const LINK: &str = concat!(
    "insert into public.user_accounts as a (user_id, provider, subject, email) values ($1, $2, $3, $4)
     on conflict (provider, subject) do update set email = coalesce(excluded.email, a.email) where a.user_id = excluded.user_id
     returning ",
    columns!(),
    // True for a row that this statement has inserted.
    ", a.xmax = 0"
);

const ADDRESS: &str =
    "select a.email from public.user_accounts a where a.user_id = $1 and a.provider = $2 and a.subject = $3";

/// An account that the actor may use: `$2` is the user that it is, if it is one.
macro_rules! own {
    () => {
        " ($2::pg_catalog.uuid is null or a.user_id = $2)
          and not exists (select from public.users u where u.id = $2 and u.status = 'disabled')"
    };
}

const FIND: &str = concat!(
    "select ",
    columns!(),
    " from public.user_accounts a where a.provider = $1 and a.subject = $3 and ",
    own!()
);

const LIST: &str = concat!(
    "select ",
    columns!(),
    " from public.user_accounts a where a.user_id = $1 and ",
    own!(),
    " order by a.linked_at, a.id limit 1000"
);

const UNLINK: &str =
    concat!("delete from public.user_accounts a where a.id = $2 and a.user_id = $1 returning ", columns!());

impl UserAccounts {
    /// Creates the handle for the accounts of this database.
    pub fn new<E>(db: &Db<E>) -> Self {
        Self { db: db.errors(), actor: None }
    }

    /// Sets the actor of the operations. Default: [`Actor::current`].
    pub fn acting_as(mut self, actor: Actor) -> Self {
        self.actor = Some(actor);
        self
    }

    /// Links an account to a user. If it is already linked to that user, only its address is updated.
    ///
    /// Call it only after the provider has verified the person. An e-mail address from a provider does not prove that
    /// an existing user is that person, unless you trust the provider to verify addresses.
    ///
    /// # Locks
    ///
    /// The user's row, until the end of the transaction.
    ///
    /// # Errors
    ///
    /// `NotFound`: the user does not exist. `AccountLinked`: the account belongs to another user. `Invalid`: the
    /// provider must have 1 to 500 characters, the subject 1 to 255, the address 1 to 320. `Forbidden`: the actor is an
    /// API key, or another user. `UserDisabled`. `TablesMissing`: migration `028_user_accounts` is not applied. `Database`.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, the change may or may not be committed. The same call again has the same result.
    pub async fn link(&self, user: UserId, provider: &str, subject: &str, email: Option<&str>) -> Result<UserAccount> {
        let (actor, _) = self.actor(user)?;
        for (what, text, max) in [("the provider", provider, 500), ("the subject", subject, 255)] {
            check_text(what, text, max)?;
        }
        email.map_or(Ok(()), |email| check_text("the address", email, 320))?;
        let platform = self.db.platform();
        let linked = platform.transaction(async |tx| {
            let home = tx.query_opt(LOCK_USER, &[&user]).await?.ok_or(PlatformError::NotFound { what: "user" })?;
            demand_enabled(&actor, user, home.get(1))?;
            let before = tx.query_opt(ADDRESS, &[&user, &provider, &subject]).await?;
            let row = tx.query_opt(LINK, &[&user, &provider, &subject, &email]).await?;
            let row = row.ok_or(PlatformError::AccountLinked)?;
            let account = read(&row);
            if row.get(7) {
                self.record(tx, &actor, &home, "cgk.user_account.linked", &account).await?;
            } else if before.is_some_and(|row| row.get::<_, Option<String>>(0) != account.email) {
                self.record(tx, &actor, &home, "cgk.user_account.address_changed", &account).await?;
            }
            Ok(account)
        });
        linked.await
    }

    /// Returns the account of a subject at a provider. `None`: it is linked to no user, or the actor is a user and the
    /// account belongs to another one.
    ///
    /// # Errors
    ///
    /// `Forbidden`: the actor is an API key or not known. `UserDisabled`. `TablesMissing`; `Database`.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, nothing changes: the function only reads.
    pub async fn find(&self, provider: &str, subject: &str) -> Result<Option<UserAccount>> {
        let actor = self.actor.clone().unwrap_or_else(Actor::current);
        let own = owner_of_accounts(&actor)?;
        // Text in the database cannot contain NUL, so there is no such account.
        if provider.contains('\0') || subject.contains('\0') {
            return Ok(None);
        }
        let found = self.db.platform().query_opt(FIND, &[&provider, &own, &subject]).await?;
        if found.is_none() {
            explain_nothing(&self.db, &actor).await?;
        }
        Ok(found.as_ref().map(read))
    }

    /// Returns the accounts of a user in the order in which they were linked, at most 1,000.
    ///
    /// # Errors
    ///
    /// `Forbidden`: the actor is an API key, or another user. `UserDisabled`. `TablesMissing`; `Database`.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, nothing changes: the function only reads.
    pub async fn list(&self, user: UserId) -> Result<Vec<UserAccount>> {
        let (actor, own) = self.actor(user)?;
        let rows = self.db.platform().query(LIST, &[&user, &own]).await?;
        if rows.is_empty() {
            explain_nothing(&self.db, &actor).await?;
        }
        Ok(rows.iter().map(read).collect())
    }

    /// Removes an account of a user, with its tokens. The user may have no other way to sign in: check that first.
    ///
    /// # Locks
    ///
    /// The rows of the user and the account, until the end of the transaction.
    ///
    /// # Errors
    ///
    /// `NotFound`: the user has no such account. `Forbidden`: the actor is an API key, or another user. `UserDisabled`.
    /// `TablesMissing`; `Database`.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, the change may or may not be committed.
    pub async fn unlink(&self, user: UserId, account: UserAccountId) -> Result<()> {
        let (actor, _) = self.actor(user)?;
        let platform = self.db.platform();
        let unlinked = platform.transaction(async |tx| {
            let home = tx.query_opt(LOCK_USER, &[&user]).await?.ok_or(PlatformError::NotFound { what: "account" })?;
            demand_enabled(&actor, user, home.get(1))?;
            let row = tx.query_opt(UNLINK, &[&user, &account]).await?;
            let row = row.ok_or(PlatformError::NotFound { what: "account" })?;
            self.record(tx, &actor, &home, "cgk.user_account.unlinked", &read(&row)).await
        });
        unlinked.await
    }

    /// Returns the actor, which must be the user itself, the service or an operator, and the user that it is.
    fn actor(&self, user: UserId) -> Result<(Actor, Option<UserId>)> {
        let actor = self.actor.clone().unwrap_or_else(Actor::current);
        match owner_of_accounts(&actor)? {
            Some(own) if own != user => Err(PlatformError::forbidden(&actor, ACCOUNTS_MANAGE)),
            own => Ok((actor, own)),
        }
    }

    /// Records the change for the home organization. The log contains neither the subject nor the address.
    async fn record(
        &self,
        tx: &PlatformTx<'_>,
        actor: &Actor,
        home: &Row,
        name: &'static str,
        account: &UserAccount,
    ) -> Result<()> {
        let facts = json!({ "user_id": account.user_id, "provider": account.provider });
        let is_linked = !name.ends_with(".unlinked");
        let change = RecordedChange {
            actor,
            organization: Some(home.get(0)),
            name,
            resource: ("user_account", account.id.to_string()),
            before: (!is_linked).then(|| facts.clone()),
            after: is_linked.then_some(facts),
        };
        Ok(change.record(tx).await?)
    }
}

fn read(row: &Row) -> UserAccount {
    UserAccount {
        id: row.get(0),
        user_id: row.get(1),
        provider: row.get(2),
        subject: row.get(3),
        email: row.get(4),
        linked_at: row.get(5),
        has_tokens: row.get(6),
    }
}
