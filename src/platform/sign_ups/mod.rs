//! Sign-up, end to end: a person whose address was shown becomes the owner of a new organization with a tenant, a plan and an API key.
//!
//! A call is repeated with the same key until it is done, however often its process was killed: what is there already is found, and
//! the rest is made.
//!
//! ```no_run
//! use cgk::{TenantSlug, auth::NewApiKey, provisioning::NewOrganization};
//! use cgk::platform::{NewSignUp, PlatformError, SignUpState, SignUps};
//! use std::time::Duration;
//!
//! /// The address was shown by a magic link, or by a provider of sign-ins.
//! async fn sign_up(db: &cgk::Db, key: &str, email: &str, slug: TenantSlug) -> Result<(), PlatformError> {
//!     let sign_ups = SignUps::new(db); // one for the whole service
//!     let new = NewSignUp::of_address(email, NewOrganization::new(slug)).plan("hobby".parse()?).api_key(NewApiKey::named("default"));
//!     let signed_up = sign_ups.sign_up(key, &new, Duration::from_secs(10)).await?;
//!     match signed_up.state {
//!         SignUpState::Done => println!("welcome"), // with `signed_up.token`, once
//!         SignUpState::Pending => println!("the tenant is being created; ask again with the same key"),
//!         _ => println!("an operator finds the cause in `cgk provision:list`"),
//!     }
//!     Ok(())
//! }
//! ```

mod begin;
mod finish;

use super::{PlanKey, PlatformError, error::Result, organizations::of_provisioning};
use crate::{
    auth::{ApiKeyId, NewApiKey, SecretToken, TokenBrand},
    provisioning::{NewOrganization, Provisioning, ProvisioningId, ProvisioningStatus},
    row_id::row_id,
    tenancy::Db,
    tenant::OrganizationId,
    user::UserId,
};
use std::time::Duration;

row_id!(
    /// The identity of a sign-up, a row of `public.sign_ups`.
    SignUpId
);

/// What a person signs up for.
#[derive(Clone, Debug)]
pub struct NewSignUp {
    email: String,
    organization: NewOrganization,
    plan: Option<PlanKey>,
    trial: Option<Duration>,
    api_key: Option<NewApiKey>,
}

impl NewSignUp {
    /// The person of this address, and an organization without a plan. Whoever calls it knows that the address is the person's.
    pub fn of_address(email: &str, organization: NewOrganization) -> Self {
        Self { email: email.to_owned(), organization, plan: None, trial: None, api_key: None }
    }

    /// With a subscription to a plan, and the grants that it includes.
    pub fn plan(mut self, plan: PlanKey) -> Self {
        self.plan = Some(plan);
        self
    }

    /// The plan is tried out first.
    pub fn trial(mut self, length: Duration) -> Self {
        self.trial = Some(length);
        self
    }

    /// With a first API key, which is created when the tenant is there.
    pub fn api_key(mut self, key: NewApiKey) -> Self {
        self.api_key = Some(key);
        self
    }
}

/// Where a sign-up stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SignUpState {
    /// The tenant is being created.
    Pending,
    /// All of it is there.
    Done,
    /// The tenant could not be created. `cgk provision:retry` tries it again; then the same call goes on.
    Failed,
}

/// What a sign-up has made.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct SignedUp {
    /// The sign-up.
    pub id: SignUpId,
    /// Where it stands.
    pub state: SignUpState,
    /// The owner.
    pub user_id: UserId,
    /// Whether the user was made by this sign-up.
    pub is_new_user: bool,
    /// The organization.
    pub organization_id: OrganizationId,
    /// The request for its tenant.
    pub request: ProvisioningId,
    /// The first API key, when it is done and one was asked for.
    pub api_key: Option<ApiKeyId>,
    /// The key's token, in the answer of the call that has created it and in no other: it is not stored. Where that answer was lost,
    /// [`ApiKeys::rotate`](crate::auth::ApiKeys::rotate) makes another one.
    pub token: Option<SecretToken>,
}

/// Sign-ups. Cheap to clone; one for the whole service.
#[derive(Clone, Debug)]
pub struct SignUps {
    db: Db<PlatformError>,
    provisioning: Provisioning,
    brand: TokenBrand,
}

impl SignUps {
    /// The sign-ups of this database.
    pub fn new<E>(db: &Db<E>) -> Self {
        Self { db: db.errors(), provisioning: Provisioning::new(db), brand: TokenBrand::default() }
    }

    /// The same with API keys that begin with another name than `cgk`.
    pub fn brand(mut self, brand: TokenBrand) -> Self {
        self.brand = brand;
        self
    }

    /// Signs a person up, or goes on with the sign-up of this key; waits for the tenant at most `time_max`.
    ///
    /// Two transactions with the creation of the tenant between them: the first has user, organization, owner, subscription, grants and the
    /// request for the tenant, with their events; `cgk provision` creates the tenant; the second has the API key. Who does it is the user.
    ///
    /// # Locks
    ///
    /// The key and the slug, against others who use them, and the user, to the end of the first transaction; the sign-up's row in the
    /// second.
    ///
    /// # Errors
    ///
    /// `IdempotencyConflict`: the key belongs to a sign-up for something else. `SlugTaken`, `UserDisabled`, `Invalid`, and `NotFound` for
    /// the plan: nothing was made, and the key is free. `Busy`; `TablesMissing`; `Database`: the same call finds what is there.
    ///
    /// # Cancel safety
    ///
    /// Dropped at any moment, the same call goes on. Dropped at the end, the API key may exist and its token not be known to anybody.
    pub async fn sign_up(&self, key: &str, new: &NewSignUp, time_max: Duration) -> Result<SignedUp> {
        let begun = self.begin(key, new).await?;
        let waited = self.provisioning.wait(begun.request, time_max).await.map_err(of_provisioning)?;
        match waited.status {
            ProvisioningStatus::Done => self.finish(begun, new).await,
            ProvisioningStatus::Failed => Ok(SignedUp { state: SignUpState::Failed, ..begun }),
            _ => Ok(begun),
        }
    }
}
