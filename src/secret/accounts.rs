//! The encrypted tokens of accounts at sign-in providers.

use super::{PlainSecret, Result, Rotation, SecretError, SecretPlace, Secrets};
use crate::{
    platform::{PlatformError, UserAccountId, explain_nothing, owner_of_accounts},
    user::UserId,
};
use tokio_postgres::types::ToSql;
use uuid::Uuid;

/// The column name that the tokens are encrypted for.
const TOKENS: &str = "user_accounts.tokens";
/// The maximum number of rows that one query finds.
const ROWS_AT_ONCE: i64 = 100;

/// The maximum length of the tokens; the column has room for what is sealed of them.
const BYTES_MAX: usize = 16_000;

const SET: &str = "update public.user_accounts a set tokens = $2, tokens_key_id = $3 from public.users o
    where a.id = $1 and o.id = a.user_id and ($4::pg_catalog.uuid is null or a.user_id = $4)
    and not exists (select from public.users u where u.id = $4 and u.status = 'disabled')
    returning o.organization_id";
const GET: &str = "select tokens from public.user_accounts where id = $1
    and ($2::pg_catalog.uuid is null or user_id = $2)
    and not exists (select from public.users u where u.id = $2 and u.status = 'disabled')";
const EXISTS: &str = "select pg_catalog.to_regclass('public.user_accounts') is not null";
const FOUND: &str = "
    select id, tokens from public.user_accounts where tokens is not null and id > $1 order by id limit $2";
/// Updates the row only if it still has the value that was decrypted.
const RESEAL: &str = "
    update public.user_accounts a set tokens = $3, tokens_key_id = $4 from public.users o
     where a.id = $1 and a.tokens = $2 and o.id = a.user_id returning o.organization_id";

impl Secrets {
    /// Encrypts and stores what the provider of an account has issued, such as a refresh token. `None` removes it. At
    /// most 16,000 bytes.
    ///
    /// # Locks
    ///
    /// The account's row, until the end of one transaction.
    ///
    /// # Errors
    ///
    /// `NotFound`: the account does not exist, or the actor is another user. `NotSealed`. `Platform`, also for more than
    /// 16,000 bytes, and if the actor is an API key, not known or a disabled user.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, the change may or may not be committed.
    pub async fn set_account_tokens(&self, account: UserAccountId, tokens: Option<&[u8]>) -> Result<()> {
        let owner = self.owner()?;
        if tokens.is_some_and(|tokens| tokens.len() > BYTES_MAX) {
            let why = format!("they have more than {BYTES_MAX} bytes");
            return Err(PlatformError::Invalid { what: "the tokens", why }.into());
        }
        let sealed = tokens.map(|tokens| self.keys.seal(place(account), tokens)).transpose()?;
        let key = sealed.as_ref().map(|_| self.keys.current());
        let platform = self.db.platform();
        let set = platform.transaction(async |tx| {
            let Some(row) = tx.query_opt(SET, &[&account, &sealed, &key, &owner]).await? else { return Ok(false) };
            let name = if key.is_some() { "cgk.secret.set" } else { "cgk.secret.removed" };
            self.record_of(tx, row.get(0), name, ("user_account", account.to_string()), key).await?;
            Ok(true)
        });
        match set.await? {
            true => Ok(()),
            false => Err(self.nothing().await),
        }
    }

    /// Returns the tokens of an account. `None`: there are none.
    ///
    /// # Errors
    ///
    /// `NotFound`, also if the actor is another user; `UnknownKey`; `NotOpened`; `Platform`, also if the actor is an API
    /// key or a disabled user.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, nothing changes: the function only reads.
    pub async fn account_tokens(&self, account: UserAccountId) -> Result<Option<PlainSecret>> {
        let Some(row) = self.db.platform().query_opt(GET, &[&account, &self.owner()?]).await? else {
            return Err(self.nothing().await);
        };
        let sealed: Option<Vec<u8>> = row.get(0);
        sealed.map(|sealed| self.keys.open(place(account), &sealed)).transpose()
    }

    /// Returns the user whose accounts the actor may use. `None`: those of every user.
    fn owner(&self) -> Result<Option<UserId>> {
        Ok(owner_of_accounts(&self.actor())?)
    }

    /// Returns why no account was found.
    async fn nothing(&self) -> SecretError {
        match explain_nothing(&self.db, &self.actor()).await {
            Ok(()) => SecretError::NotFound,
            Err(error) => error.into(),
        }
    }

    /// Encrypts the tokens with the first key. Does nothing in a database without accounts.
    pub(super) async fn rotate_accounts(&self, rotation: &mut Rotation) -> Result<()> {
        if !self.db.platform().query_one(EXISTS, &[]).await?.get::<_, bool>(0) {
            return Ok(());
        }
        let mut after = Uuid::nil();
        loop {
            let rows = self.db.platform().query(FOUND, &[&after, &ROWS_AT_ONCE]).await?;
            let Some(last) = rows.last() else { return Ok(()) };
            after = last.get(0);
            for row in &rows {
                let (account, sealed): (UserAccountId, Vec<u8>) = (row.get(0), row.get(1));
                if let Some(plain) = self.to_reseal(place(account), (TOKENS, account.uuid()), &sealed, rotation) {
                    rotation.resealed += self.reseal_tokens(account, &sealed, &plain).await?;
                }
            }
        }
    }

    async fn reseal_tokens(&self, account: UserAccountId, old: &[u8], plain: &PlainSecret) -> Result<u64> {
        let new = self.keys.seal(place(account), plain.reveal())?;
        let key = self.keys.current();
        self.db
            .platform()
            .transaction(async |tx| {
                let params: [&(dyn ToSql + Sync); 4] = [&account, &old, &new, &key];
                let Some(row) = tx.query_opt(RESEAL, &params).await? else { return Ok(0) };
                let resource = ("user_account", account.to_string());
                self.record_of(tx, row.get(0), "cgk.secret.rotated", resource, Some(key)).await?;
                Ok(1)
            })
            .await
    }
}

/// Returns the place of an account's tokens. A token that is copied to another account cannot be decrypted there.
fn place(account: UserAccountId) -> SecretPlace<'static> {
    SecretPlace::of_row(TOKENS, account.uuid())
}
