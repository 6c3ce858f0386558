//! The first transaction of a sign-up: everything that needs no schema.

use super::{NewSignUp, SignUpId, SignUpState, SignUps, SignedUp};
use crate::{
    auth::{UserRole, check_email},
    platform::{
        Actor, NewSubscription, PlatformError, RecordedChange, Subscriptions,
        error::Result,
        members::{accept_person, join, person_of_address},
        organizations::create_in,
    },
    tenancy::PlatformTx,
};
use serde_json::json;
use sha2::{Digest, Sha256};
use tokio_postgres::Row;

/// The maximum length of a key, in characters.
const KEY_CHARS_MAX: usize = 255;

// A second call with the same key waits here for the first one, and then finds its row.
const CLAIM: &str = "insert into public.sign_ups (idempotency_key, request_hash) values ($1, $2)
    on conflict (idempotency_key) do nothing returning id";

const FIND: &str = "select s.id, s.user_id, s.is_new_user, s.organization_id, r.id, s.api_key_id, s.request_hash
      from public.sign_ups s join public.provisioning_requests r on r.organization_id = s.organization_id
     where s.idempotency_key = $1";

const SET: &str = "update public.sign_ups set organization_id = $2, user_id = $3, is_new_user = $4 where id = $1";

impl SignUps {
    /// Creates everything in one transaction, or finds the sign-up that already has this key.
    pub(super) async fn begin(&self, key: &str, new: &NewSignUp) -> Result<SignedUp> {
        let invalid = |what, why: &str| PlatformError::Invalid { what, why: why.to_owned() };
        if key.is_empty() || key.chars().count() > KEY_CHARS_MAX || key.contains('\0') {
            return Err(invalid("the key", "it must have 1 to 255 characters"));
        }
        check_email(&new.email).map_err(|_| invalid("the e-mail address", "it must be name@domain, without spaces"))?;
        let hash = request_hash(new);
        let platform = self.db.platform();
        let begun = platform.transaction(async |tx| {
            if let Some(row) = tx.query_opt(CLAIM, &[&key, &hash.as_slice()]).await? {
                self.make(tx, new, row.get(0)).await?;
            }
            // If it was deleted with its organization a moment ago, the next call creates it.
            let row = tx.query_opt(FIND, &[&key]).await?.ok_or(PlatformError::Busy)?;
            match row.get::<_, &[u8]>(6) == hash {
                true => Ok(read(&row)),
                false => Err(PlatformError::IdempotencyConflict { why: "it belongs to a sign-up for something else" }),
            }
        });
        begun.await
    }

    /// Creates the user, the organization, the owner, the subscription and the request for the tenant.
    async fn make(&self, tx: &PlatformTx<'_>, new: &NewSignUp, sign_up: SignUpId) -> Result<()> {
        // The service creates the organization, before there is a user whose home it can be.
        let created = create_in(tx, &Actor::System, &new.organization).await?;
        let organization = created.organization.id;
        let person = person_of_address(tx, &Actor::System, &new.email, organization).await?;
        let replaces = accept_person(tx, person, &new.email, organization).await?;
        let actor = Actor::User(person.id);
        join(tx, &actor, organization, person.id, &UserRole::Owner, replaces).await?;
        if let Some(plan) = &new.plan {
            let mut subscription = NewSubscription::to(plan.clone());
            if let Some(length) = new.trial {
                subscription = subscription.trial(length);
            }
            let subscriptions = Subscriptions::new(&self.db).acting_as(actor.clone());
            subscriptions.subscribe_in(tx, organization, &subscription).await?;
        }
        tx.execute(SET, &[&sign_up, &organization, &person.id, &person.is_new]).await?;
        let change = RecordedChange {
            actor: &actor,
            organization: Some(organization),
            name: "cgk.sign_up.started",
            resource: ("sign_up", sign_up.to_string()),
            before: None,
            after: Some(json!({ "user_id": person.id, "is_new_user": person.is_new })),
        };
        Ok(change.record(tx).await?)
    }
}

/// Returns a hash that shows whether a repeated key comes with the same request.
fn request_hash(new: &NewSignUp) -> [u8; 32] {
    let (slug, name, settings) = new.organization.parts();
    let key = new.api_key.as_ref().map(|key| {
        let (name, scopes, lifetime) = key.parts();
        json!([name, scopes, lifetime.map(|lifetime| lifetime.as_secs())])
    });
    // The request is hashed as JSON, so that no two requests have the same text. The letter case of the address is
    // ignored.
    let plan = new.plan.as_ref().map(|plan| (plan.as_str(), new.trial.map(|length| length.as_secs())));
    let text = json!([new.email.to_ascii_lowercase(), slug.as_str(), name, settings, plan, key]).to_string();
    Sha256::digest(text.as_bytes()).into()
}

fn read(row: &Row) -> SignedUp {
    SignedUp {
        id: row.get(0),
        state: SignUpState::Pending,
        user_id: row.get(1),
        is_new_user: row.get(2),
        organization_id: row.get(3),
        request: crate::provisioning::ProvisioningId(row.get(4)),
        api_key: row.get::<_, Option<uuid::Uuid>>(5).map(Into::into),
        token: None,
    }
}
