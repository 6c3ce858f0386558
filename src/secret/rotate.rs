//! The encrypted columns of the shared tables, and the rotation of their keys.

use super::{PlainSecret, Result, SecretError, SecretKeys, SecretPlace, key_id};
use crate::{
    error::Error,
    platform::{Actor, Permission, PlatformError, RecordedChange, demand, demand_service},
    tenancy::{Db, PlatformTx},
    tenant::OrganizationId,
};
use serde_json::json;
use tokio_postgres::types::ToSql;
use uuid::Uuid;

/// The column name that the secrets of `organizations.shopify_access_token` are encrypted for.
const SHOPIFY: &str = "organizations.shopify_access_token";
/// The maximum number of rows that one query finds.
const ROWS_AT_ONCE: i64 = 100;

const SET: &str = "
    update public.organizations
       set shopify_store_domain = $2, shopify_access_token = $3, shopify_access_token_key_id = $4
     where id = $1";

const GET: &str = "select shopify_access_token from public.organizations where id = $1";

const FOUND: &str = "
    select id, shopify_access_token from public.organizations
     where shopify_access_token is not null and id > $1 order by id limit $2";

/// Updates the row only if it still has the value that was decrypted.
const RESEAL: &str = "
    update public.organizations set shopify_access_token = $3, shopify_access_token_key_id = $4
     where id = $1 and shopify_access_token = $2";

/// The maximum length of a token; the column has room for what is sealed of it.
const TOKEN_BYTES_MAX: usize = 4000;

/// The result of a rotation.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Rotation {
    /// The number of secrets that were encrypted again.
    pub resealed: u64,
    /// The number of secrets that were already encrypted with the current key, and that it decrypts.
    pub current: u64,
    /// The number of secrets that cannot be decrypted: their key is missing or is another one of the same id, or
    /// another program has encrypted them.
    pub unopened: u64,
    /// Where they are: the first thousand of them.
    pub left: Vec<UnopenedSecret>,
}

/// A secret that a [`Rotation`] could not decrypt, and did not change.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct UnopenedSecret {
    /// Its column: `organizations.shopify_access_token` or `user_accounts.tokens`.
    pub column: &'static str,
    /// The id of its row: of the organization or of the account.
    pub row: Uuid,
    /// The id of the key that it was encrypted with. `None`: this module has not encrypted it.
    pub key: Option<String>,
}

/// The maximum length of [`Rotation::left`].
const LEFT_MAX: usize = 1000;

/// The encrypted columns of the shared tables. Cheap to clone.
///
/// Setting an organization's secret needs `organization:update`, and reading it needs `organization:read`
/// ([`Permission`]). The tokens of an account are for its own user. The service itself and its operators may do
/// everything, and only they may rotate.
///
/// ```no_run
/// use cgk::secret::{SecretError, SecretKeys, Secrets};
///
/// async fn connect_shop(config: &cgk::Config, db: &cgk::Db, acme: cgk::OrganizationId) -> Result<(), SecretError> {
///     let secrets = Secrets::new(db, SecretKeys::of(config)?);
///     secrets.set_shopify(acme, "acme.myshopify.com", b"shpat_0123").await?;
///     let token = secrets.shopify_access_token(acme).await?.expect("it was just set");
///     assert_eq!(token.reveal(), b"shpat_0123");
///     Ok(())
/// }
/// ```
#[derive(Clone, Debug)]
pub struct Secrets {
    pub(super) db: Db<SecretError>,
    pub(super) keys: SecretKeys,
    actor: Option<Actor>,
}

impl Secrets {
    /// Creates the handle for the encrypted columns of this database, with their keys.
    pub fn new<E>(db: &Db<E>, keys: SecretKeys) -> Self {
        Self { db: db.errors(), keys, actor: None }
    }

    /// Sets the actor. Default: [`Actor::current`].
    pub fn acting_as(mut self, actor: Actor) -> Self {
        self.actor = Some(actor);
        self
    }

    /// Stores the domain of an organization's Shopify store, and its encrypted access token. The audit log records the
    /// change without the values.
    ///
    /// # Locks
    ///
    /// The organization's row, until the end of one transaction.
    ///
    /// # Errors
    ///
    /// `NotFound`: the organization does not exist. `Platform`: the actor does not have the permission, or the database
    /// returned an error; `Invalid` in it: the domain is no host name in lower case or belongs to another organization, or the
    /// token has more than 4,000 bytes. `NotSealed`.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, the change may or may not be committed.
    pub async fn set_shopify(&self, organization: OrganizationId, store_domain: &str, token: &[u8]) -> Result<()> {
        check_store(store_domain, token)?;
        let sealed = self.keys.seal(SecretPlace::new(SHOPIFY, organization), token)?;
        let (key, actor) = (self.keys.current(), self.actor());
        self.db
            .platform()
            .transaction(async |tx| {
                demand(tx, &actor, organization, Permission::OrganizationUpdate).await?;
                let params: [&(dyn ToSql + Sync); 4] = [&organization, &store_domain, &sealed, &key];
                match tx.execute(SET, &params).await.map_err(taken)? {
                    0 => Err(SecretError::NotFound),
                    _ => self.record(tx, organization, "cgk.secret.set").await,
                }
            })
            .await
    }

    /// Returns the access token of an organization's Shopify store. `None`: there is none.
    ///
    /// # Errors
    ///
    /// `NotFound`; `UnknownKey`; `NotOpened`; `Platform`, also if the actor does not have the permission.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, nothing changes: the function only reads.
    pub async fn shopify_access_token(&self, organization: OrganizationId) -> Result<Option<PlainSecret>> {
        let (platform, actor) = (self.db.platform(), self.actor());
        let row = platform.transaction(async |tx| {
            demand(tx, &actor, organization, Permission::OrganizationRead).await?;
            Ok(tx.query_opt(GET, &[&organization]).await?)
        });
        let row = row.await?.ok_or(SecretError::NotFound)?;
        let sealed: Option<Vec<u8>> = row.get(0);
        sealed.map(|sealed| self.keys.open(SecretPlace::new(SHOPIFY, organization), &sealed)).transpose()
    }

    /// Encrypts with the first key every secret that another key has encrypted, each in a separate transaction. A
    /// secret that is changed meanwhile is skipped. Running it again continues the work.
    ///
    /// # Locks
    ///
    /// The row of each organization or account, until the end of one transaction.
    ///
    /// # Errors
    ///
    /// `Platform`, also if the actor is not the service or an operator. A secret that cannot be decrypted is no error: it is
    /// counted, named in [`Rotation::left`] and not changed. A secret that names the current key is decrypted too,
    /// because another key may have had the same id.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, some secrets are encrypted again. All of them can still be decrypted.
    pub async fn rotate(&self) -> Result<Rotation> {
        demand_service(&self.actor(), "secrets:rotate")?;
        let (mut rotation, mut after) = (Rotation::default(), Uuid::nil());
        loop {
            let rows = self.db.platform().query(FOUND, &[&after, &ROWS_AT_ONCE]).await?;
            let Some(last) = rows.last() else { break };
            after = last.get(0);
            for row in &rows {
                let (organization, sealed): (OrganizationId, Vec<u8>) = (row.get(0), row.get(1));
                let place = SecretPlace::new(SHOPIFY, organization);
                if let Some(plain) = self.to_reseal(place, (SHOPIFY, organization.uuid()), &sealed, &mut rotation) {
                    rotation.resealed += self.reseal(organization, &sealed, &plain).await?;
                }
            }
        }
        self.rotate_accounts(&mut rotation).await?;
        Ok(rotation)
    }

    /// Returns the secret, if another key than the current one has encrypted it. Counts it otherwise.
    pub(super) fn to_reseal(
        &self,
        place: SecretPlace<'_>,
        (column, row): (&'static str, Uuid),
        sealed: &[u8],
        rotation: &mut Rotation,
    ) -> Option<PlainSecret> {
        match self.keys.open(place, sealed) {
            Ok(_) if key_id(sealed) == Some(self.keys.current()) => {
                rotation.current += 1;
                None
            }
            Ok(plain) => Some(plain),
            Err(error) => {
                tracing::warn!(column, %row, %error, "a secret was left as it is");
                rotation.unopened += 1;
                if rotation.left.len() < LEFT_MAX {
                    rotation.left.push(UnopenedSecret { column, row, key: key_id(sealed).map(str::to_owned) });
                }
                None
            }
        }
    }

    async fn reseal(&self, organization: OrganizationId, old: &[u8], plain: &PlainSecret) -> Result<u64> {
        let new = self.keys.seal(SecretPlace::new(SHOPIFY, organization), plain.reveal())?;
        let key = self.keys.current();
        self.db
            .platform()
            .transaction(async |tx| {
                let params: [&(dyn ToSql + Sync); 4] = [&organization, &old, &new, &key];
                let resealed = tx.execute(RESEAL, &params).await?;
                if resealed > 0 {
                    self.record(tx, organization, "cgk.secret.rotated").await?;
                }
                Ok(resealed)
            })
            .await
    }

    pub(super) fn actor(&self) -> Actor {
        self.actor.clone().unwrap_or_else(Actor::current)
    }

    async fn record(&self, tx: &PlatformTx<'_>, organization: OrganizationId, name: &'static str) -> Result<()> {
        self.record_of(tx, organization, name, ("secret", SHOPIFY.to_owned()), Some(self.keys.current())).await
    }

    pub(super) async fn record_of(
        &self,
        tx: &PlatformTx<'_>,
        organization: OrganizationId,
        name: &'static str,
        resource: (&'static str, String),
        key: Option<&str>,
    ) -> Result<()> {
        let after = key.map(|key| json!({ "key": key }));
        let actor = self.actor();
        let change =
            RecordedChange { actor: &actor, organization: Some(organization), name, resource, before: None, after };
        Ok(change.record(tx).await?)
    }
}

/// Checks the rules of the columns, so that a value that does not fit is named.
fn check_store(domain: &str, token: &[u8]) -> Result<()> {
    let label = |label: &str| {
        let fits = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        !label.is_empty() && label.bytes().all(fits) && !label.starts_with('-') && !label.ends_with('-')
    };
    if domain.len() > 253 || !domain.contains('.') || !domain.split('.').all(label) {
        let why = "it must be a host name in lower case, such as acme.myshopify.com".into();
        return Err(PlatformError::Invalid { what: "the domain of the store", why }.into());
    }
    if token.len() > TOKEN_BYTES_MAX {
        let why = format!("it has more than {TOKEN_BYTES_MAX} bytes");
        return Err(PlatformError::Invalid { what: "the access token", why }.into());
    }
    Ok(())
}

/// Converts the error of a domain that another organization has.
fn taken(error: Error) -> PlatformError {
    match error.constraint() {
        Some("organizations_shopify_store_domain_key") => {
            PlatformError::Invalid { what: "the domain of the store", why: "it belongs to another organization".into() }
        }
        _ => error.into(),
    }
}
