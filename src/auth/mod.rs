//! Who asks: users with passwords, sessions, API keys and magic links, on the shared tables of the bundled public set.
//!
//! | what | for | issued by | checked by |
//! |---|---|---|---|
//! | [`Sessions`] | a browser or device of a user | [`Sessions::issue`], [`Sessions::sign_in`] | [`Sessions::verify`] |
//! | [`ApiKeys`] | a program of an organization | [`ApiKeys::create`] | [`ApiKeys::verify`] |
//! | [`MagicLinks`] | whoever reads the mail of an address, once | [`MagicLinks::issue`] | [`MagicLinks::redeem`] |
//!
//! A token is random (256 bits), is shown once, as a [`SecretToken`], and only its SHA-256 is stored. It carries a prefix and
//! a checksum: what is truncated, altered or of another kind is refused before the database is asked.
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
//! Every operation is one transaction of [`Db::platform`], unless it says otherwise: it is committed when the call returns
//! `Ok`, and a dropped call leaves either all of it or nothing. The login needs rights on the shared tables,
//! `cgk setup:database --app-role NAME --app-tables all`. A task that is inside a tenant is refused.
//!
//! What is not here: sign-in by other providers, and a limit on guesses. Both belong in front of these calls.

mod api_key;
mod error;
mod ids;
mod magic_link;
mod password;
mod revoke;
mod session;
mod tenant;
mod token;
mod user;

pub use api_key::{ApiKey, ApiKeyInfo, ApiKeyRotation, ApiKeys, NewApiKey};
pub use error::{AuthError, Rejection, Result};
pub use ids::{ApiKeyId, MagicLinkId, SessionId, UserId};
pub use magic_link::{LinkPurpose, MagicLink, MagicLinks};
pub use session::{ClientInfo, Session, SessionInfo, Sessions};
pub(crate) use token::TokenHash;
pub use token::{SecretToken, TokenBrand, TokenKind};
pub(crate) use user::check_email;
pub use user::{NewUser, User, UserRole, UserStatus, Users};

use crate::{slug::TenantSlug, tenancy::Db, tenant::OrganizationId};
use password::Hasher;
use std::{sync::Arc, time::Duration};

/// The operations on users, sessions, keys and links. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Auth {
    db: Db<AuthError>,
    settings: Arc<AuthSettings>,
    hasher: Hasher,
}

impl Auth {
    /// The operations on this database.
    pub fn new<E>(db: &Db<E>, settings: AuthSettings) -> Self {
        let hasher = Hasher::new(settings.password_hashes_max);
        Self { db: db.errors(), settings: Arc::new(settings), hasher }
    }

    /// What it was made with.
    pub fn settings(&self) -> &AuthSettings {
        &self.settings
    }

    pub(crate) fn db(&self) -> &Db<AuthError> {
        &self.db
    }

    /// The people who sign in.
    pub fn users(&self) -> Users<'_> {
        Users { auth: self }
    }

    /// Signed-in browsers and devices.
    pub fn sessions(&self) -> Sessions<'_> {
        Sessions { auth: self }
    }

    /// Keys for programs.
    pub fn api_keys(&self) -> ApiKeys<'_> {
        ApiKeys { auth: self }
    }

    /// Single-use links that are sent by mail.
    pub fn magic_links(&self) -> MagicLinks<'_> {
        MagicLinks { auth: self }
    }
}

/// How long tokens live, and what they look like.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct AuthSettings {
    /// What tokens begin with. `cgk` unless set. A change makes all tokens that are out there unknown.
    pub brand: TokenBrand,
    /// How long a session lives. 30 days unless set.
    pub session_lifetime: Duration,
    /// How long a magic link may be used. 15 minutes unless set.
    pub link_lifetime: Duration,
    /// `last_used_at` of a key is written at most once in this time. A minute unless set; more than a hundred years count as a
    /// hundred.
    pub key_use_interval: Duration,
    /// How many passwords are hashed at once; each takes 19 MiB for some ten milliseconds. The number of cores unless set.
    pub password_hashes_max: usize,
    /// The shortest password that is taken, in characters. 8 unless set.
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

/// An organization, and the name to enter it by.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct TenantIdentity {
    /// The organization.
    pub id: OrganizationId,
    /// Its slug. It may be another organization's later: [`Db::tenant_of`] enters the tenant by both.
    pub slug: TenantSlug,
}

/// Reads the organization of a row that was found by a credential; only an active one lets anybody in.
fn active_tenant(id: uuid::Uuid, slug: &str, status: &str) -> Result<TenantIdentity, Rejection> {
    match (status, slug.parse()) {
        ("active", Ok(slug)) => Ok(TenantIdentity { id: OrganizationId(id), slug }),
        _ => Err(Rejection::OrganizationInactive),
    }
}

/// The longest time that is added to or taken from the server's clock.
const CENTURY: Duration = Duration::from_secs(100 * 366 * 24 * 3600);

/// A time span for `make_interval(secs => …)`.
fn seconds(span: Duration, what: &'static str) -> Result<f64> {
    match span {
        // Less than the server's clock can tell.
        _ if span < Duration::from_millis(1) => Err(AuthError::Invalid { what, why: "it must be longer than zero" }),
        _ if span > CENTURY => Err(AuthError::Invalid { what, why: "it must be at most a hundred years" }),
        _ => Ok(span.as_secs_f64()),
    }
}

/// What the database says of a credential, whether or not it is accepted.
pub(crate) struct Verified<T> {
    pub(crate) outcome: Result<T, Rejection>,
    /// How long it still lives by the server's clock; `None`: it does not end.
    pub(crate) lives: Option<Duration>,
    /// Whose status the outcome depends on.
    pub(crate) organization: Option<OrganizationId>,
    pub(crate) user: Option<UserId>,
}

impl<T> Verified<T> {
    fn unknown() -> Self {
        Self { outcome: Err(Rejection::Unknown), lives: None, organization: None, user: None }
    }
}

/// How long something still lives, as the server has worked it out; zero when its time is over.
fn remaining(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds.max(0.0)).unwrap_or(Duration::MAX)
}
