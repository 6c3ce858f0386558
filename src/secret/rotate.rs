//! The sealed columns of the shared tables, and how they get a new key.

use super::{PlainSecret, Result, SecretError, SecretKeys, SecretPlace, key_id};
use crate::{
    platform::{Actor, Change},
    tenancy::{Db, PlatformTx},
    tenant::OrganizationId,
};
use serde_json::json;
use tokio_postgres::types::ToSql;
use uuid::Uuid;

/// The name that the secrets of `organizations.shopify_access_token` are sealed with.
const SHOPIFY: &str = "organizations.shopify_access_token";
/// How many rows one look finds.
const ROWS_AT_ONCE: i64 = 100;

const SET: &str = "
    update public.organizations
       set shopify_store_domain = $2, shopify_access_token = $3, shopify_access_token_key_id = $4
     where id = $1";

const GET: &str = "select shopify_access_token from public.organizations where id = $1";

const FOUND: &str = "
    select id, shopify_access_token from public.organizations
     where shopify_access_token is not null and id > $1 order by id limit $2";

/// Only if it is still what was opened.
const RESEAL: &str = "
    update public.organizations set shopify_access_token = $3, shopify_access_token_key_id = $4
     where id = $1 and shopify_access_token = $2";

/// What a rotation has done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Rotation {
    /// The secrets that were sealed anew.
    pub resealed: u64,
    /// Those that were sealed with the current key.
    pub current: u64,
    /// Those that cannot be opened: their key is not there, or somebody else has sealed them.
    pub unopened: u64,
}

/// The sealed columns of the shared tables. Cheap to clone.
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
    /// The sealed columns of this database, with the keys for them.
    pub fn new<E>(db: &Db<E>, keys: SecretKeys) -> Self {
        Self { db: db.errors(), keys, actor: None }
    }

    /// With the one who does it; without, it is [`Actor::current`].
    pub fn acting_as(mut self, actor: Actor) -> Self {
        self.actor = Some(actor);
        self
    }

    /// Stores the domain of an organization's Shopify store and its access token, sealed. The audit log says that it was set, and not what.
    ///
    /// # Locks
    ///
    /// The organization's row, for one transaction.
    ///
    /// # Errors
    ///
    /// `NotFound`: the organization does not exist. `Platform`: the database did not do it, as for a domain that is another
    /// organization's. `NotSealed`.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, the change may or may not be committed.
    pub async fn set_shopify(&self, organization: OrganizationId, store_domain: &str, token: &[u8]) -> Result<()> {
        let sealed = self.keys.seal(SecretPlace::new(SHOPIFY, organization), token)?;
        let key = self.keys.current();
        self.db
            .platform()
            .transaction(async |tx| {
                let params: [&(dyn ToSql + Sync); 4] = [&organization, &store_domain, &sealed, &key];
                match tx.execute(SET, &params).await? {
                    0 => Err(SecretError::NotFound),
                    _ => self.record(tx, organization, "cgk.secret.set").await,
                }
            })
            .await
    }

    /// The access token of an organization's Shopify store; `None`: there is none.
    ///
    /// # Errors
    ///
    /// `NotFound`; `UnknownKey`; `NotOpened`; `Platform`.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, nothing changes: the function only reads.
    pub async fn shopify_access_token(&self, organization: OrganizationId) -> Result<Option<PlainSecret>> {
        let row = self.db.platform().query_opt(GET, &[&organization]).await?.ok_or(SecretError::NotFound)?;
        let sealed: Option<Vec<u8>> = row.get(0);
        sealed.map(|sealed| self.keys.open(SecretPlace::new(SHOPIFY, organization), &sealed)).transpose()
    }

    /// Seals everything with the first key that another one has sealed, each in a transaction of its own. A secret that is set anew
    /// meanwhile is left as it is. Run again, it goes on.
    ///
    /// # Locks
    ///
    /// Each organization's or account's row, for one transaction.
    ///
    /// # Errors
    ///
    /// `Platform`. A secret that does not open is no error: it is counted, and left as it is.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, some are sealed anew; every one can be opened.
    pub async fn rotate(&self) -> Result<Rotation> {
        let (mut rotation, mut after) = (Rotation::default(), Uuid::nil());
        loop {
            let rows = self.db.platform().query(FOUND, &[&after, &ROWS_AT_ONCE]).await?;
            let Some(last) = rows.last() else { break };
            after = last.get(0);
            for row in &rows {
                let (organization, sealed): (OrganizationId, Vec<u8>) = (row.get(0), row.get(1));
                if key_id(&sealed) == Some(self.keys.current()) {
                    rotation.current += 1;
                    continue;
                }
                match self.keys.open(SecretPlace::new(SHOPIFY, organization), &sealed) {
                    Ok(plain) => rotation.resealed += self.reseal(organization, &sealed, &plain).await?,
                    Err(error) => {
                        tracing::warn!(%organization, %error, "a secret was left as it is");
                        rotation.unopened += 1;
                    }
                }
            }
        }
        self.rotate_accounts(&mut rotation).await?;
        Ok(rotation)
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

    async fn record(&self, tx: &PlatformTx<'_>, organization: OrganizationId, name: &'static str) -> Result<()> {
        let actor = self.actor.clone().unwrap_or_else(Actor::current);
        let change = Change {
            actor: &actor,
            organization: Some(organization),
            name,
            resource: ("secret", SHOPIFY.to_owned()),
            before: None,
            after: Some(json!({ "key": self.keys.current() })),
        };
        Ok(change.record(tx).await?)
    }
}
