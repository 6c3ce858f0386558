//! Keys for programs: the table `public.api_keys`.

use super::{
    ApiKeyId, Auth, AuthError, CENTURY, Rejection, SecretToken, TenantIdentity, TokenKind, Verified, active_tenant,
    check_name, demand_open, error::Result, remaining, seconds, token::TokenHash,
};
use crate::{actor::Actor, record::RecordedChange, tenancy::PlatformTx, tenant::OrganizationId};
use serde_json::{Value, json};
use std::time::{Duration, SystemTime};
use tokio_postgres::Row;

/// A verified key: its organization and its scopes.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ApiKey {
    /// The id of the key.
    pub id: ApiKeyId,
    /// The organization, which is active.
    pub tenant: TenantIdentity,
    /// Its name, for display.
    pub name: String,
    /// The scopes of the key. Empty: no rights.
    pub scopes: Vec<String>,
}

impl ApiKey {
    /// Returns whether the key has this scope; the comparison is exact.
    pub fn has_scope(&self, scope: &str) -> bool {
        self.scopes.iter().any(|has| has == scope)
    }
}

/// A key as listed. The key's token is not stored.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ApiKeyInfo {
    /// The id of the key.
    pub id: ApiKeyId,
    /// Its name, for display.
    pub name: String,
    /// The scopes of the key.
    pub scopes: Vec<String>,
    /// When it was created.
    pub created_at: SystemTime,
    /// When it expires; `None`: never.
    pub expires_at: Option<SystemTime>,
    /// When it was last used, approximately: see
    /// [`AuthSettings::key_use_interval`](super::AuthSettings::key_use_interval).
    pub last_used_at: Option<SystemTime>,
    /// When it was revoked.
    pub revoked_at: Option<SystemTime>,
}

/// A key to create.
#[derive(Clone, Debug)]
pub struct NewApiKey {
    name: String,
    scopes: Vec<String>,
    lifetime: Option<Duration>,
}

impl NewApiKey {
    /// Creates the description of a key with this name, without scopes and without expiry.
    pub fn named(name: &str) -> Self {
        Self { name: name.to_owned(), scopes: Vec::new(), lifetime: None }
    }

    /// Adds a scope.
    pub fn scope(mut self, scope: &str) -> Self {
        self.scopes.push(scope.to_owned());
        self
    }

    /// Sets the time from creation to expiry.
    pub fn lifetime(mut self, lifetime: Duration) -> Self {
        self.lifetime = Some(lifetime);
        self
    }

    /// Returns its name, scopes and lifetime.
    pub(crate) fn parts(&self) -> (&str, &[String], Option<Duration>) {
        (&self.name, &self.scopes, self.lifetime)
    }

    /// Checks the rules of the table, so that an invalid key is reported without a query.
    fn check(&self) -> Result<Option<f64>> {
        check_name(&self.name, "the name of the key")?;
        let characters: usize = self.scopes.iter().map(|scope| scope.chars().count() + 1).sum();
        let odd =
            |scope: &String| scope.is_empty() || scope.chars().any(|c| c.is_whitespace() || c.is_control() || c == ',');
        if self.scopes.len() > 64 || characters > 4097 || self.scopes.iter().any(odd) {
            let why = "there may be 64 of 4,096 characters in all, none empty, without spaces and commas";
            return Err(AuthError::Invalid { what: "the scopes of the key", why });
        }
        self.lifetime.map(|lifetime| seconds(lifetime, "the lifetime of the key")).transpose()
    }
}

/// How a key is replaced by a new one.
#[derive(Clone, Copy, Debug, Default)]
pub struct ApiKeyRotation {
    overlap: Option<Duration>,
    lifetime: Option<Duration>,
}

impl ApiKeyRotation {
    /// Creates a rotation that revokes the old key immediately. The new key does not expire.
    pub fn at_once() -> Self {
        Self::default()
    }

    /// Sets how long the old key stays valid beside the new one, unless it expires earlier.
    pub fn overlap(mut self, overlap: Duration) -> Self {
        self.overlap = Some(overlap);
        self
    }

    /// Sets the time from creation to expiry of the new key.
    pub fn lifetime(mut self, lifetime: Duration) -> Self {
        self.lifetime = Some(lifetime);
        self
    }
}

/// The operations on API keys; from [`Auth::api_keys`].
#[derive(Clone, Copy, Debug)]
pub struct ApiKeys<'a> {
    pub(super) auth: &'a Auth,
}

const CREATE: &str = "insert into public.api_keys (organization_id, key_hash, name, scopes, expires_at)
    select o.id, $2, $3, $4, current_timestamp + pg_catalog.make_interval(secs => $5)
      from public.organizations o where o.id = $1
    returning id, name, scopes, created_at, expires_at, last_used_at, revoked_at";

// A row that another transaction has locked is skipped, so a verification never waits for another one of the same key.
const VERIFY: &str = "with found as (
        select k.id, k.name, k.scopes, o.id as organization_id, o.slug, o.status::pg_catalog.text as status, k.key_hash,
               k.revoked_at is not null as revoked, coalesce(k.expires_at <= current_timestamp, false) as expired,
               (extract(epoch from k.expires_at) - extract(epoch from pg_catalog.clock_timestamp()))::pg_catalog.float8 as remaining
          from public.api_keys k join public.organizations o on o.id = k.organization_id
         where k.key_hash = $1),
    due as (
        select k.id from public.api_keys k join found on found.id = k.id
         where not found.revoked and not found.expired and found.status = 'active'
           and (k.last_used_at is null or k.last_used_at <= current_timestamp - pg_catalog.make_interval(secs => $2))
           for update of k skip locked),
    used as (update public.api_keys k set last_used_at = current_timestamp from due where k.id = due.id)
    select id, name, scopes, organization_id, slug, status, key_hash, revoked, expired, remaining from found";

// The row of the old key is locked first, so that the second of two concurrent rotations sees the changes of the first.
const END: &str = "update public.api_keys
       set revoked_at = case when $3::pg_catalog.float8 is null then current_timestamp end,
           expires_at = case when $3 is null then expires_at
                             else least(expires_at, current_timestamp + pg_catalog.make_interval(secs => $3)) end
     where organization_id = $1 and id = $2 and revoked_at is null
       and (expires_at is null or expires_at > current_timestamp)
    returning name, scopes";

const SHORTEN: &str = "update public.api_keys
       set expires_at = current_timestamp + pg_catalog.make_interval(secs => $3)
     where organization_id = $1 and id = $2 and revoked_at is null
       and (expires_at is null or expires_at > current_timestamp + pg_catalog.make_interval(secs => $3))";
const VALID: &str = "select from public.api_keys where organization_id = $1 and id = $2 and revoked_at is null
     and (expires_at is null or expires_at > current_timestamp)";

const PURGE: &str = "delete from public.api_keys k
     using (select id from public.api_keys
             where expires_at < current_timestamp - pg_catalog.make_interval(secs => $1)
                or revoked_at < current_timestamp - pg_catalog.make_interval(secs => $1)
             order by id limit $2 for update skip locked) old
     where k.id = old.id";

/// Revokes a key that is not revoked.
const REVOKE: &str = "update public.api_keys set revoked_at = current_timestamp
     where organization_id = $1 and id = $2 and revoked_at is null returning name";
const EXISTS: &str = "select from public.api_keys where organization_id = $1 and id = $2";

/// Creates a key with this token, in a transaction.
pub(crate) async fn create_key(
    tx: &PlatformTx<'_>,
    actor: &Actor,
    organization: OrganizationId,
    key: &NewApiKey,
    token: &SecretToken,
) -> Result<ApiKeyInfo> {
    let (lifetime, hash) = (key.check()?, token.hash());
    demand_open(tx, organization).await?;
    let row = tx.query_one(CREATE, &[&organization.0, &hash.bytes(), &key.name, &key.scopes, &lifetime]).await?;
    let made = info(&row);
    let change = RecordedChange {
        actor,
        organization: Some(organization),
        name: "cgk.api_key.created",
        resource: ("api_key", made.id.to_string()),
        before: None,
        after: Some(facts(&made)),
    };
    change.record_if_kept(tx).await?;
    Ok(made)
}

impl ApiKeys<'_> {
    /// Creates a key of an organization. Only this call returns the token.
    ///
    /// # Locks
    ///
    /// The organization's row against its deletion, until the end of the transaction.
    ///
    /// # Errors
    ///
    /// `NotFound`: the organization does not exist. `OrganizationSuspended`. `Invalid`: name, scopes or lifetime; no
    /// query was sent. `Database`.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, a key may exist whose token is lost.
    pub async fn create(&self, organization: OrganizationId, key: &NewApiKey) -> Result<(ApiKeyInfo, SecretToken)> {
        key.check()?;
        let (token, actor) = (self.new_token(), self.auth.actor());
        let platform = self.auth.db.platform();
        let made = platform.transaction(async |tx| create_key(tx, &actor, organization, key, &token).await);
        Ok((made.await?, token))
    }

    /// Verifies a key and returns it. The use is recorded, at most once per
    /// [`key_use_interval`](super::AuthSettings::key_use_interval). Recording it never waits for another transaction.
    ///
    /// # Locks
    ///
    /// The key's row, until the end of the transaction, if the use is recorded.
    ///
    /// # Errors
    ///
    /// `Malformed`: the text is not an API key; no query was sent. `Rejected`: the key is unknown, revoked or expired,
    /// or its organization is not active. `Database`, also if the server is read-only.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, the use may or may not be recorded.
    pub async fn verify(&self, token: &str) -> Result<ApiKey> {
        Ok(self.verify_hash(&self.hash(token)?).await?.outcome?)
    }

    pub(crate) fn hash(&self, token: &str) -> Result<TokenHash> {
        TokenHash::of_presented(token, TokenKind::ApiKey, &self.auth.settings.brand)
    }

    /// Looks up a token by its hash.
    pub(crate) async fn verify_hash(&self, hash: &TokenHash) -> Result<Verified<ApiKey>> {
        let auth = self.auth;
        let interval = auth.settings.key_use_interval.min(CENTURY).as_secs_f64();
        let row = auth.db.platform().query_opt(VERIFY, &[&hash.bytes(), &interval]).await?;
        let Some(row) = row.filter(|row| hash.is(row.get(6))) else { return Ok(Verified::unknown()) };
        let outcome = match (row.get(7), row.get(8)) {
            (true, _) => Err(Rejection::Revoked),
            (_, true) => Err(Rejection::Expired),
            _ => active_tenant(row.get(3), row.get(4), row.get(5)).map(|tenant| ApiKey {
                id: ApiKeyId(row.get(0)),
                name: row.get(1),
                scopes: row.get(2),
                tenant,
            }),
        };
        let lives = row.get::<_, Option<f64>>(9).map(remaining);
        Ok(Verified { outcome, lives, organization: Some(OrganizationId(row.get(3))), user: None })
    }

    /// Returns the newest thousand keys of an organization, including revoked and expired ones.
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
    pub async fn list(&self, organization: OrganizationId) -> Result<Vec<ApiKeyInfo>> {
        let list = "select id, name, scopes, created_at, expires_at, last_used_at, revoked_at
              from public.api_keys where organization_id = $1 order by created_at desc, id limit 1000";
        Ok(self.auth.db.platform().query(list, &[&organization.0]).await?.iter().map(info).collect())
    }

    /// Replaces a valid key by a new one with the same name and scopes, in one transaction.
    ///
    /// # Locks
    ///
    /// The old key's row, until the end of the transaction.
    ///
    /// # Errors
    ///
    /// `NotFound`: the organization has no such valid key. `OrganizationSuspended`. `Invalid`: a time. `Database`.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, the new key may exist, with a lost token, and the old one may be revoked.
    pub async fn rotate(
        &self,
        organization: OrganizationId,
        key: ApiKeyId,
        rotation: &ApiKeyRotation,
    ) -> Result<(ApiKeyInfo, SecretToken)> {
        let overlap = rotation.overlap.map(|overlap| seconds(overlap, "the overlap of the keys")).transpose()?;
        let lifetime = rotation.lifetime.map(|lifetime| seconds(lifetime, "the lifetime of the key")).transpose()?;
        let token = self.new_token();
        let hash = token.hash();
        let platform = self.auth.db.platform();
        let made = platform.transaction(async |tx| {
            demand_open(tx, organization).await?;
            let old = tx.query_opt(END, &[&organization.0, &key.0, &overlap]).await?;
            let old = old.ok_or(AuthError::NotFound { what: "API key" })?;
            let (name, scopes): (String, Vec<String>) = (old.get(0), old.get(1));
            let made = info(&tx.query_one(CREATE, &[&organization.0, &hash.bytes(), &name, &scopes, &lifetime]).await?);
            let mut after = facts(&made);
            after["replaced_by"] = json!(made.id);
            after["overlap_seconds"] = json!(rotation.overlap.map_or(0, |overlap| overlap.as_secs()));
            let resource = ("api_key", key.to_string());
            self.auth.record(tx, Some(organization), "cgk.api_key.rotated", resource, (None, Some(after))).await?;
            Ok(made)
        });
        Ok((made.await?, token))
    }

    /// Revokes a key. If it is already revoked, nothing changes.
    ///
    /// # Locks
    ///
    /// The key's row, until the end of the transaction.
    ///
    /// # Errors
    ///
    /// `NotFound`: the organization has no such key, even if another one has. `Database`.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, the key may or may not be revoked.
    pub async fn revoke(&self, organization: OrganizationId, key: ApiKeyId) -> Result<()> {
        let platform = self.auth.db.platform();
        let revoked = platform.transaction(async |tx| {
            let Some(row) = tx.query_opt(REVOKE, &[&organization.0, &key.0]).await? else {
                let known = tx.query_opt(EXISTS, &[&organization.0, &key.0]).await?;
                return known.map(drop).ok_or(AuthError::NotFound { what: "API key" });
            };
            let (resource, before) = (("api_key", key.to_string()), json!({ "name": row.get::<_, &str>(0) }));
            self.auth.record(tx, Some(organization), "cgk.api_key.revoked", resource, (Some(before), None)).await
        });
        revoked.await
    }

    /// Makes a valid key expire after this time. If it expires earlier, nothing changes.
    ///
    /// # Locks
    ///
    /// The key's row, until the end of the transaction.
    ///
    /// # Errors
    ///
    /// `NotFound`: the organization has no such valid key. `Invalid`: the time. `Database`.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, the expiry may or may not be changed.
    pub async fn expire(&self, organization: OrganizationId, key: ApiKeyId, after: Duration) -> Result<()> {
        let wait = seconds(after, "the time until a key ends")?;
        let platform = self.auth.db.platform();
        let changed = platform.transaction(async |tx| {
            if tx.execute(SHORTEN, &[&organization.0, &key.0, &wait]).await? == 0 {
                let valid = tx.query_opt(VALID, &[&organization.0, &key.0]).await?;
                return valid.map(drop).ok_or(AuthError::NotFound { what: "API key" });
            }
            let (resource, after) = (("api_key", key.to_string()), json!({ "ends_within_seconds": after.as_secs() }));
            self.auth.record(tx, Some(organization), "cgk.api_key.expiry_changed", resource, (None, Some(after))).await
        });
        changed.await
    }

    /// Deletes at most `rows_max` keys that expired or were revoked longer ago than this, and returns their number. If
    /// it is less than `rows_max`, there are no more.
    ///
    /// # Locks
    ///
    /// The deleted rows. A row that another transaction has locked stays for the next call.
    ///
    /// # Errors
    ///
    /// `Invalid`: the time. `Database`.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, either all of them are deleted or none.
    pub async fn purge(&self, older_than: Duration, rows_max: u32) -> Result<u64> {
        self.auth.purge(PURGE, ("cgk.api_key.purged", "api_key"), older_than, rows_max).await
    }

    fn new_token(&self) -> SecretToken {
        SecretToken::generate(TokenKind::ApiKey, &self.auth.settings.brand)
    }
}

/// Returns a key as the audit log shows it.
fn facts(key: &ApiKeyInfo) -> Value {
    let expires_in = key.expires_at.and_then(|at| at.duration_since(key.created_at).ok());
    json!({ "name": key.name, "scopes": key.scopes, "lifetime_seconds": expires_in.map(|time| time.as_secs()) })
}

fn info(row: &Row) -> ApiKeyInfo {
    ApiKeyInfo {
        id: ApiKeyId(row.get(0)),
        name: row.get(1),
        scopes: row.get(2),
        created_at: row.get(3),
        expires_at: row.get(4),
        last_used_at: row.get(5),
        revoked_at: row.get(6),
    }
}
