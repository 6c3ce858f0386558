//! Signed-in browsers and devices: the table `public.sessions`.

use super::{
    Auth, AuthError, Rejection, SecretToken, SessionId, TenantIdentity, TokenKind, UserId, UserRole, Verified,
    active_tenant, error::Result, remaining, revoke, seconds, token::TokenHash, user,
};
use crate::{tenancy::PlatformTx, tenant::OrganizationId};
use serde_json::json;
use std::{
    net::IpAddr,
    time::{Duration, SystemTime},
};
use tokio_postgres::{Row, types::ToSql};
use uuid::Uuid;

/// A verified session: its user and organization.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Session {
    /// The id of the session.
    pub id: SessionId,
    /// The organization, which is active.
    pub tenant: TenantIdentity,
    /// The user, who is active.
    pub user_id: UserId,
    /// The user's email address.
    pub email: String,
    /// The user's role in the organization.
    pub role: UserRole,
    /// When it expires.
    pub expires_at: SystemTime,
}

/// A session as listed. Its token is not stored.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SessionInfo {
    /// The id of the session.
    pub id: SessionId,
    /// Its user.
    pub user_id: UserId,
    /// When it was issued.
    pub created_at: SystemTime,
    /// When it expires.
    pub expires_at: SystemTime,
    /// When it was revoked.
    pub revoked_at: Option<SystemTime>,
    /// The client's address.
    pub ip_address: Option<IpAddr>,
    /// The client's description of itself.
    pub user_agent: Option<String>,
}

/// What is known about the client of a new session. It is only shown in the user's list of sessions.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct ClientInfo {
    /// Its address.
    pub ip_address: Option<IpAddr>,
    /// The header `user-agent`. Cut to 1,024 characters.
    pub user_agent: Option<String>,
}

impl ClientInfo {
    /// Sets the address.
    pub fn ip_address(mut self, address: IpAddr) -> Self {
        self.ip_address = Some(address);
        self
    }

    /// Sets the header `user-agent`.
    pub fn user_agent(mut self, text: &str) -> Self {
        // A text in PostgreSQL has no zero byte.
        self.user_agent = Some(text.chars().filter(|c| *c != '\0').take(1024).collect());
        self
    }
}

/// The operations on sessions; from [`Auth::sessions`].
#[derive(Clone, Copy, Debug)]
pub struct Sessions<'a> {
    pub(super) auth: &'a Auth,
}

// The rows of the user and the membership are locked against a change of status, password or role until the session
// exists. So a transaction with such a change finds the session and can revoke it.
const ISSUE: &str = "with who as (
        select u.id, u.email, m.role::pg_catalog.text as role,
               case when m.confirmed_at is null and u.status = 'active' then 'invited' else u.status::pg_catalog.text end as status,
               o.id as organization_id, o.slug, o.status::pg_catalog.text as organization_status,
               u.password_hash is not distinct from $7::pg_catalog.text as same_password
          from public.users u
          join public.memberships m on m.user_id = u.id
          join public.organizations o on o.id = m.organization_id
         where m.organization_id = $1 and m.user_id = $2
           for share of u, m),
    made as (
        insert into public.sessions (organization_id, user_id, token_hash, expires_at, ip_address, user_agent)
        select organization_id, id, $3, current_timestamp + pg_catalog.make_interval(secs => $4), $5, $6
          from who
         where status = 'active' and organization_status = 'active' and ($7 is null or same_password)
        returning id, expires_at)
    select made.id, made.expires_at, who.id, who.email, who.role, who.status,
           who.organization_id, who.slug, who.organization_status
      from who left join made on true";

const VERIFY: &str = "select s.id, s.expires_at, u.id, u.email, m.role::pg_catalog.text,
           case when m.confirmed_at is null and u.status = 'active' then 'invited' else u.status::pg_catalog.text end,
           o.id, o.slug, o.status::pg_catalog.text, s.token_hash, s.revoked_at is not null, s.expires_at <= current_timestamp,
           (extract(epoch from s.expires_at) - extract(epoch from pg_catalog.clock_timestamp()))::pg_catalog.float8
      from public.sessions s
      join public.memberships m on m.organization_id = s.organization_id and m.user_id = s.user_id
      join public.users u on u.id = s.user_id
      join public.organizations o on o.id = s.organization_id
     where s.token_hash = $1";

const LIST: &str = "select id, user_id, created_at, expires_at, revoked_at, ip_address, user_agent
      from public.sessions
     where organization_id = $1 and ($2::pg_catalog.uuid is null or user_id = $2)
     order by created_at desc, id
     limit 1000";

const PURGE: &str = "delete from public.sessions s
     using (select id from public.sessions
             where expires_at < current_timestamp - pg_catalog.make_interval(secs => $1)
                or revoked_at < current_timestamp - pg_catalog.make_interval(secs => $1)
             order by id limit $2 for update skip locked) old
     where s.id = old.id";

impl Sessions<'_> {
    /// Signs in with a password: checks it, and issues a session. If the stored hash has outdated settings, the same
    /// transaction replaces it.
    ///
    /// There are two transactions. The first reads the stored hash. The hashing runs on its own thread without a
    /// connection. The second issues the session if the stored hash is still the one that was compared.
    ///
    /// Every failed attempt computes at least one hash with the current settings. This includes an unknown address, a
    /// user without a password, and a stored hash that is weaker or of another algorithm. A stored hash with more
    /// expensive settings, for instance an imported one, takes longer than an unknown address. So the time discloses
    /// that the address has a user, until that user signs in and the hash is renewed.
    ///
    /// # Locks
    ///
    /// The user's row, until the end of the second transaction.
    ///
    /// # Errors
    ///
    /// `Rejected`: [`Rejection::WrongPassword`] for a wrong password, an unknown address and a user without a password;
    /// [`Rejection::UserInactive`] and [`Rejection::OrganizationInactive`] only if the password is correct. `Database`.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped before the second transaction commits, nothing is changed. If it is dropped during the
    /// commit, a session may exist whose token is lost.
    pub async fn sign_in(
        &self,
        organization: OrganizationId,
        email: &str,
        password: &str,
        client: &ClientInfo,
    ) -> Result<(Session, SecretToken)> {
        let auth = self.auth;
        let login = auth.users().check_password(organization, email, password).await?;
        let (token, lifetime) = self.new_token()?;
        let platform = auth.db.platform();
        let session = platform.transaction(async |tx| {
            let mut hash = login.hash.as_str();
            if let Some(renewed) = &login.renewed {
                user::replace_hash(tx, login.user, &login.hash, renewed).await?;
                hash = renewed;
            }
            insert(tx, organization, login.user, &token.hash(), lifetime, client, Some(hash)).await
        });
        Ok((session.await?, token))
    }

    /// Issues a session for a user who was authenticated in another way, for instance by a magic link or a provider.
    ///
    /// # Locks
    ///
    /// The user's row against changes, until the end of the transaction.
    ///
    /// # Errors
    ///
    /// `NotFound`: the user is not a member of the organization. `Rejected`: the user or the organization is not
    /// active, or the membership is not confirmed. `Invalid`: the lifetime in the settings. `Database`.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, a session may exist whose token is lost.
    pub async fn issue(
        &self,
        organization: OrganizationId,
        user: UserId,
        client: &ClientInfo,
    ) -> Result<(Session, SecretToken)> {
        let (token, lifetime) = self.new_token()?;
        let platform = self.auth.db.platform();
        let session = platform
            .transaction(async |tx| insert(tx, organization, user, &token.hash(), lifetime, client, None).await);
        Ok((session.await?, token))
    }

    /// Verifies a token and returns its session.
    ///
    /// # Locks
    ///
    /// None.
    ///
    /// # Errors
    ///
    /// `Malformed`: the text is not a session token; no query was sent. `Rejected`: the session is unknown, revoked or
    /// expired, or its user or organization is not active; it is also unknown if its user was removed from the
    /// organization. `Database`.
    ///
    /// # Cancel safety
    ///
    /// Nothing is changed.
    pub async fn verify(&self, token: &str) -> Result<Session> {
        Ok(self.verify_hash(&self.hash(token)?).await?.outcome?)
    }

    /// Looks up a token by its hash.
    pub(crate) async fn verify_hash(&self, hash: &TokenHash) -> Result<Verified<Session>> {
        let row = self.auth.db.platform().query_opt(VERIFY, &[&hash.bytes()]).await?;
        let Some(row) = row.filter(|row| hash.is(row.get(9))) else { return Ok(Verified::unknown()) };
        let outcome = match (row.get(10), row.get(11)) {
            (true, _) => Err(Rejection::Revoked),
            (_, true) => Err(Rejection::Expired),
            _ => session(&row),
        };
        let (user, organization) = (Some(UserId(row.get(2))), Some(OrganizationId(row.get(6))));
        Ok(Verified { outcome, lives: Some(remaining(row.get(12))), organization, user })
    }

    /// Replaces the token of a valid session: the presented token becomes unknown. Use it after the user gets more
    /// rights, or if a token may have leaked. The expiry does not change. Of two concurrent calls with the same token,
    /// one succeeds.
    ///
    /// # Locks
    ///
    /// The session's row, until the end of the transaction.
    ///
    /// # Errors
    ///
    /// `Malformed`. `Rejected`: like [`verify`](Self::verify) for the session itself; the user and organization are
    /// checked when the new token is verified. `Database`.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, the new token may be lost; then the user signs in again.
    pub async fn rotate(&self, token: &str) -> Result<SecretToken> {
        let (old, (new, _)) = (self.hash(token)?, self.new_token()?);
        let replace = "update public.sessions set token_hash = $2
             where token_hash = $1 and revoked_at is null and expires_at > current_timestamp";
        match self.auth.db.platform().execute(replace, &[&old.bytes(), &new.hash().bytes()]).await? {
            0 => Err(self.verify(token).await.err().unwrap_or(Rejection::Unknown.into())),
            _ => Ok(new),
        }
    }

    /// Returns the newest thousand sessions of an organization or of one of its users, including revoked and expired
    /// ones.
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
    pub async fn list(&self, organization: OrganizationId, user: Option<UserId>) -> Result<Vec<SessionInfo>> {
        let user = user.map(|user| user.0);
        let rows = self.auth.db.platform().query(LIST, &[&organization.0, &user]).await?;
        Ok(rows.iter().map(info).collect())
    }

    /// Revokes one session of an organization. If it is already revoked, nothing changes.
    ///
    /// # Locks
    ///
    /// The session's row, until the end of the transaction.
    ///
    /// # Errors
    ///
    /// `NotFound`: the organization has no such session, even if another one has. `Database`.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, the session may or may not be revoked.
    pub async fn revoke(&self, organization: OrganizationId, session: SessionId) -> Result<()> {
        let revoke = "update public.sessions set revoked_at = current_timestamp
             where organization_id = $1 and id = $2 and revoked_at is null returning user_id";
        let known = "select from public.sessions where organization_id = $1 and id = $2";
        let platform = self.auth.db.platform();
        let revoked = platform.transaction(async |tx| {
            let Some(row) = tx.query_opt(revoke, &[&organization.0, &session.0]).await? else {
                let known = tx.query_opt(known, &[&organization.0, &session.0]).await?;
                return known.map(drop).ok_or(AuthError::NotFound { what: "session" });
            };
            let (resource, before) = (("session", session.to_string()), json!({ "user_id": UserId(row.get(0)) }));
            self.auth.record(tx, Some(organization), "cgk.session.revoked", resource, (Some(before), None)).await
        });
        revoked.await
    }

    /// Revokes all sessions of a user except the given one, and returns their number.
    ///
    /// # Locks
    ///
    /// The rows of the sessions, until the end of the transaction.
    ///
    /// # Errors
    ///
    /// `Database`.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, either all of them are revoked or none.
    pub async fn revoke_all(
        &self,
        organization: OrganizationId,
        user: UserId,
        except: Option<SessionId>,
    ) -> Result<u64> {
        let platform = self.auth.db.platform();
        let revoked = platform.transaction(async |tx| {
            let revoked = revoke::all(tx, Some(organization), user, except).await?;
            if revoked > 0 {
                let (resource, after) = (("session", "all".into()), json!({ "user_id": user, "revoked": revoked }));
                self.auth.record(tx, Some(organization), "cgk.session.revoked", resource, (None, Some(after))).await?;
            }
            Ok(revoked)
        });
        revoked.await
    }

    /// Makes a valid session expire after this time. If it expires earlier, nothing changes.
    ///
    /// # Locks
    ///
    /// The session's row, until the end of the transaction.
    ///
    /// # Errors
    ///
    /// `NotFound`: the organization has no such valid session. `Invalid`: the time. `Database`.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, the expiry may or may not be changed.
    pub async fn expire(&self, organization: OrganizationId, session: SessionId, after: Duration) -> Result<()> {
        let wait = seconds(after, "the time until a session ends")?;
        let shorten = "update public.sessions
               set expires_at = current_timestamp + pg_catalog.make_interval(secs => $3)
             where organization_id = $1 and id = $2 and revoked_at is null
               and expires_at > current_timestamp + pg_catalog.make_interval(secs => $3)";
        let valid = "select from public.sessions
             where organization_id = $1 and id = $2 and revoked_at is null and expires_at > current_timestamp";
        let platform = self.auth.db.platform();
        let changed = platform.transaction(async |tx| {
            if tx.execute(shorten, &[&organization.0, &session.0, &wait]).await? == 0 {
                let found = tx.query_opt(valid, &[&organization.0, &session.0]).await?;
                return found.map(drop).ok_or(AuthError::NotFound { what: "session" });
            }
            let (resource, after) =
                (("session", session.to_string()), json!({ "ends_within_seconds": after.as_secs() }));
            self.auth.record(tx, Some(organization), "cgk.session.expiry_changed", resource, (None, Some(after))).await
        });
        changed.await
    }

    /// Deletes at most `rows_max` sessions that expired or were revoked longer ago than this, and returns their number.
    /// If it is less than `rows_max`, there are no more.
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
        self.auth.purge(PURGE, ("cgk.session.purged", "session"), older_than, rows_max).await
    }

    pub(crate) fn hash(&self, token: &str) -> Result<TokenHash> {
        TokenHash::of_presented(token, TokenKind::Session, &self.auth.settings.brand)
    }

    fn new_token(&self) -> Result<(SecretToken, f64)> {
        let settings = &self.auth.settings;
        let lifetime = seconds(settings.session_lifetime, "the lifetime of sessions")?;
        Ok((SecretToken::generate(TokenKind::Session, &settings.brand), lifetime))
    }
}

/// Writes the row of a session, or returns why it is not issued. `password`: the hash that the user's password was
/// compared with.
async fn insert(
    tx: &PlatformTx<'_>,
    organization: OrganizationId,
    user: UserId,
    hash: &TokenHash,
    lifetime: f64,
    client: &ClientInfo,
    password: Option<&str>,
) -> Result<Session> {
    let params: [&(dyn ToSql + Sync); 7] =
        [&organization.0, &user.0, &hash.bytes(), &lifetime, &client.ip_address, &client.user_agent, &password];
    let row = tx.query_opt(ISSUE, &params).await?.ok_or(AuthError::NotFound { what: "user" })?;
    let made: Option<Uuid> = row.get(0);
    match made {
        Some(_) => Ok(session(&row)?),
        None => Err(inactive(&row).unwrap_or(Rejection::WrongPassword).into()),
    }
}

/// Reads the first nine columns of [`ISSUE`] and [`VERIFY`].
fn session(row: &Row) -> Result<Session, Rejection> {
    match inactive(row) {
        Some(reason) => Err(reason),
        None => Ok(Session {
            id: SessionId(row.get(0)),
            expires_at: row.get(1),
            user_id: UserId(row.get(2)),
            email: row.get(3),
            role: UserRole::from(row.get::<_, &str>(4)),
            tenant: active_tenant(row.get(6), row.get(7), row.get(8))?,
        }),
    }
}

/// Returns why the session of such a row is not accepted.
fn inactive(row: &Row) -> Option<Rejection> {
    match (row.get(5), active_tenant(row.get(6), row.get(7), row.get(8))) {
        ("active", Ok(_)) => None,
        ("active", Err(reason)) => Some(reason),
        _ => Some(Rejection::UserInactive),
    }
}

fn info(row: &Row) -> SessionInfo {
    SessionInfo {
        id: SessionId(row.get(0)),
        user_id: UserId(row.get(1)),
        created_at: row.get(2),
        expires_at: row.get(3),
        revoked_at: row.get(4),
        ip_address: row.get(5),
        user_agent: row.get(6),
    }
}
