//! Authentication: users with passwords, sessions, API keys and magic links, on the shared tables of the bundled public
//! set.
//!
//! | what | for | issued by | checked by |
//! |---|---|---|---|
//! | [`Sessions`] | a browser or device of a user | [`Sessions::issue`], [`Sessions::sign_in`] | [`Sessions::verify`] |
//! | [`ApiKeys`] | a program of an organization | [`ApiKeys::create`] | [`ApiKeys::verify`] |
//! | [`MagicLinks`] | a person with access to the mailbox of an address, once | [`MagicLinks::issue`] | [`MagicLinks::redeem`] |
//!
//! A token is random (256 bits) and is returned once, as a [`SecretToken`]. Only its SHA-256 is stored. It has a prefix
//! and a checksum: a text that is truncated, altered or of another kind is refused without a query.
//!
//! ```no_run
//! # async fn example(db: cgk::Db) -> Result<(), Box<dyn std::error::Error>> {
//! use cgk::auth::{Auth, AuthSettings, NewApiKey};
//!
//! let auth = Auth::new(&db, AuthSettings::default());
//! # let organization = cgk::OrganizationId(Default::default());
//! let (key, token) = auth.api_keys().create(organization, &NewApiKey::named("deploy").scope("orders:read")).await?;
//! println!("shown once: {}", token.reveal());
//!
//! // Later, on a request:
//! # let presented = "";
//! let key = auth.api_keys().verify(presented).await?;
//! let orders = db.tenant_of(&key.tenant).query("select * from orders", &[]).await?;
//! # Ok(()) }
//! ```
//!
//! Every operation is one transaction of [`Db::platform`], unless its documentation says otherwise. It is committed
//! when the call returns `Ok`. A dropped call is either fully committed or not at all. The login needs rights on the
//! shared tables, `cgk setup:database --app-role NAME --app-tables all`. A call from a task inside a tenant fails.
//!
//! The change, its event and its line in the audit log are committed together, by the [`Actor`]
//! that [`Auth::acting_as`] names. What is not recorded: signing in (the rows of `sessions` have it), checking a
//! credential, and reading. In a database without the tables `audit_events` and `domain_events`, nothing is recorded.
//!
//! This module has no sign-in with external providers and no rate limit for password attempts. Do both before these
//! calls.

mod api_key;
mod error;
mod ids;
mod magic_link;
mod organization;
mod password;
mod revoke;
mod session;
mod tenant;
mod token;
mod user;

pub(crate) use api_key::create_key;
pub use api_key::{ApiKey, ApiKeyInfo, ApiKeyRotation, ApiKeys, NewApiKey};
pub use error::{AuthError, Rejection, Result};
pub use ids::{ApiKeyId, MagicLinkId, SessionId, UserId};
pub use magic_link::{LinkPurpose, MagicLink, MagicLinks};
pub(crate) use organization::demand_open;
pub use session::{ClientInfo, Session, SessionInfo, Sessions};
pub(crate) use token::TokenHash;
pub use token::{SecretToken, TokenBrand, TokenKind};
pub(crate) use user::check_email;
pub use user::{NewUser, User, UserRole, UserStatus, Users};

use crate::{
    actor::Actor,
    record::RecordedChange,
    slug::TenantSlug,
    tenancy::{Db, PlatformTx},
    tenant::OrganizationId,
    text,
};
use password::Hasher;
use serde_json::{Value, json};
use std::{sync::Arc, time::Duration};

/// The operations on users, sessions, keys and links. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Auth {
    db: Db<AuthError>,
    settings: Arc<AuthSettings>,
    hasher: Hasher,
    actor: Option<Actor>,
}

impl Auth {
    /// Creates the operations for this database.
    pub fn new<E>(db: &Db<E>, settings: AuthSettings) -> Self {
        let hasher = Hasher::new(settings.password_hashes_max);
        Self { db: db.errors(), settings: Arc::new(settings), hasher, actor: None }
    }

    /// Sets the actor that the audit log names. Default: [`Actor::current`]. It does not decide who may call an
    /// operation.
    pub fn acting_as(mut self, actor: Actor) -> Self {
        self.actor = Some(actor);
        self
    }

    fn actor(&self) -> Actor {
        self.actor.clone().unwrap_or_else(Actor::current)
    }

    /// Records a change, in the transaction that makes it.
    async fn record(
        &self,
        tx: &PlatformTx<'_>,
        organization: Option<OrganizationId>,
        name: &'static str,
        resource: (&'static str, String),
        (before, after): (Option<Value>, Option<Value>),
    ) -> Result<()> {
        let actor = self.actor();
        let change = RecordedChange { actor: &actor, organization, name, resource, before, after };
        Ok(change.record_if_kept(tx).await?)
    }

    /// Deletes old rows with this statement, and records how many, if there were any.
    async fn purge(
        &self,
        statement: &str,
        (name, kind): (&'static str, &'static str),
        older_than: Duration,
        rows_max: u32,
    ) -> Result<u64> {
        let age = seconds(older_than, "the age of what is purged")?;
        let platform = self.db.platform();
        let purged = platform.transaction(async |tx| {
            let deleted = tx.execute(statement, &[&age, &i64::from(rows_max)]).await?;
            if deleted > 0 {
                let after = json!({ "deleted": deleted, "older_than_seconds": older_than.as_secs() });
                self.record(tx, None, name, (kind, "all".into()), (None, Some(after))).await?;
            }
            Ok(deleted)
        });
        purged.await
    }

    /// Returns the settings.
    pub fn settings(&self) -> &AuthSettings {
        &self.settings
    }

    pub(crate) fn db(&self) -> &Db<AuthError> {
        &self.db
    }

    /// Returns the operations on users.
    pub fn users(&self) -> Users<'_> {
        Users { auth: self }
    }

    /// Returns the operations on sessions: signed-in browsers and devices.
    pub fn sessions(&self) -> Sessions<'_> {
        Sessions { auth: self }
    }

    /// Returns the operations on API keys: keys for programs.
    pub fn api_keys(&self) -> ApiKeys<'_> {
        ApiKeys { auth: self }
    }

    /// Returns the operations on magic links: single-use links that are sent by email.
    pub fn magic_links(&self) -> MagicLinks<'_> {
        MagicLinks { auth: self }
    }
}

/// The lifetime and the format of tokens.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct AuthSettings {
    /// The prefix of tokens. Default: `cgk`. After a change, all existing tokens are unknown.
    pub brand: TokenBrand,
    /// How long a session is valid. Default: 30 days.
    pub session_lifetime: Duration,
    /// How long a magic link is valid. Default: 15 minutes.
    pub link_lifetime: Duration,
    /// `last_used_at` of a key is written at most once in this time. Default: one minute. More than a hundred years
    /// count as a hundred.
    pub key_use_interval: Duration,
    /// How many passwords are hashed at once; each takes 19 MiB for some ten milliseconds. Default: the number of
    /// cores.
    pub password_hashes_max: usize,
    /// The minimum length of a password, in characters. Default: 8.
    pub password_chars_min: usize,
}

impl Default for AuthSettings {
    fn default() -> Self {
        Self {
            brand: TokenBrand::default(),
            session_lifetime: Duration::from_secs(30 * 24 * 3600),
            link_lifetime: Duration::from_secs(15 * 60),
            key_use_interval: Duration::from_secs(60),
            password_hashes_max: std::thread::available_parallelism().map_or(1, usize::from),
            password_chars_min: 8,
        }
    }
}

/// An organization and its slug.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct TenantIdentity {
    /// The organization.
    pub id: OrganizationId,
    /// Its slug. The slug may later belong to another organization: [`Db::tenant_of`] checks both.
    pub slug: TenantSlug,
}

/// Reads the organization of a row that a credential identifies; it must be active.
fn active_tenant(id: uuid::Uuid, slug: &str, status: &str) -> Result<TenantIdentity, Rejection> {
    match (status, slug.parse()) {
        ("active", Ok(slug)) => Ok(TenantIdentity { id: OrganizationId(id), slug }),
        _ => Err(Rejection::OrganizationInactive),
    }
}

/// The longest time that is added to or subtracted from the server's clock.
const CENTURY: Duration = Duration::from_secs(100 * 366 * 24 * 3600);

/// Converts a time span for `make_interval(secs => …)`.
fn seconds(span: Duration, what: &'static str) -> Result<f64> {
    match span {
        // Less than the precision of the server's clock.
        _ if span < Duration::from_millis(1) => Err(AuthError::Invalid { what, why: "it must be longer than zero" }),
        _ if span > CENTURY => Err(AuthError::Invalid { what, why: "it must be at most a hundred years" }),
        _ => Ok(span.as_secs_f64()),
    }
}

/// Checks a name for people.
fn check_name(name: &str, what: &'static str) -> Result<()> {
    text::check_name(name).map_err(|why| AuthError::Invalid { what, why })
}

/// What the database says about a credential, whether or not it is accepted.
pub(crate) struct Verified<T> {
    pub(crate) outcome: Result<T, Rejection>,
    /// How long it is still valid by the server's clock; `None`: it does not expire.
    pub(crate) lives: Option<Duration>,
    /// The organization and user whose status determines the result.
    pub(crate) organization: Option<OrganizationId>,
    pub(crate) user: Option<UserId>,
}

impl<T> Verified<T> {
    fn unknown() -> Self {
        Self { outcome: Err(Rejection::Unknown), lives: None, organization: None, user: None }
    }
}

/// Returns how long something is still valid, as the server computed it; zero if it expired.
fn remaining(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds.max(0.0)).unwrap_or(Duration::MAX)
}
