//! Complete sign-up: a person with a verified address becomes the owner of a new organization with a tenant, a plan and
//! an API key.
//!
//! Repeat a call with the same key until it is done, even if its process was killed. It finds what already exists and
//! creates the rest.
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
    /// The id of a sign-up, a row of `public.sign_ups`.
    SignUpId
);

/// The contents of a sign-up.
#[derive(Clone, Debug)]
pub struct NewSignUp {
    email: String,
    organization: NewOrganization,
    plan: Option<PlanKey>,
    trial: Option<Duration>,
    api_key: Option<NewApiKey>,
}

impl NewSignUp {
    /// Creates a sign-up of the person of this address, and an organization without a plan. The caller must have
    /// verified the address.
    pub fn of_address(email: &str, organization: NewOrganization) -> Self {
        Self { email: email.to_owned(), organization, plan: None, trial: None, api_key: None }
    }

    /// Adds a subscription to a plan, with the grants that the plan includes.
    pub fn plan(mut self, plan: PlanKey) -> Self {
        self.plan = Some(plan);
        self
    }

    /// Starts the subscription with a trial.
    pub fn trial(mut self, length: Duration) -> Self {
        self.trial = Some(length);
        self
    }

    /// Adds a first API key. It is created when the tenant exists.
    pub fn api_key(mut self, key: NewApiKey) -> Self {
        self.api_key = Some(key);
        self
    }
}

/// The state of a sign-up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SignUpState {
    /// The tenant is being created.
    Pending,
    /// Everything is created.
    Done,
    /// The tenant could not be created. After `cgk provision:retry`, the same call continues the sign-up.
    Failed,
}

/// The result of a sign-up.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct SignedUp {
    /// The id of the sign-up.
    pub id: SignUpId,
    /// Its state.
    pub state: SignUpState,
    /// The owner.
    pub user_id: UserId,
    /// Whether this sign-up created the user.
    pub is_new_user: bool,
    /// The organization.
    pub organization_id: OrganizationId,
    /// The request for its tenant.
    pub request: ProvisioningId,
    /// The first API key, if one was requested and the sign-up is done.
    pub api_key: Option<ApiKeyId>,
    /// The token of the API key. Only the call that creates the key returns it, because it is not stored. If that
    /// answer is lost, [`ApiKeys::rotate`](crate::auth::ApiKeys::rotate) creates a new token.
    pub token: Option<SecretToken>,
}

/// Operations on sign-ups. Cheap to clone; use one for the whole service.
#[derive(Clone, Debug)]
pub struct SignUps {
    db: Db<PlatformError>,
    provisioning: Provisioning,
    brand: TokenBrand,
}

impl SignUps {
    /// Creates the handle for the sign-ups of this database.
    pub fn new<E>(db: &Db<E>) -> Self {
        Self { db: db.errors(), provisioning: Provisioning::new(db), brand: TokenBrand::default() }
    }

    /// Uses API keys that start with this name instead of `cgk`.
    pub fn brand(mut self, brand: TokenBrand) -> Self {
        self.brand = brand;
        self
    }

    /// Signs a person up, or continues the sign-up of this key. Waits at most `time_max` for the tenant.
    ///
    /// There are two transactions, and `cgk provision` creates the tenant between them. The first creates the user, the
    /// organization, the owner, the subscription, the grants and the request for the tenant, with their events. The
    /// second creates the API key. The actor is the user.
    ///
    /// # Locks
    ///
    /// In the first transaction, until its end: the key and the slug, against other calls that use them, and the user.
    /// In the second: the row of the sign-up.
    ///
    /// # Errors
    ///
    /// `IdempotencyConflict`: the key belongs to a sign-up with other contents. `SlugTaken`, `UserDisabled`, `Invalid`,
    /// and `NotFound` for the plan: nothing is created, and the key can be used again. `Busy`; `TablesMissing`;
    /// `Database`: the same call finds what already exists.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, the same call continues the sign-up. If it is dropped at the end, the API key may
    /// exist although its token is lost.
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
