//! The second transaction of a sign-up, when the tenant exists.

use super::{NewSignUp, SignUpState, SignUps, SignedUp};
use crate::{
    auth::{self, ApiKeyId, SecretToken, TokenKind},
    platform::{Actor, PlatformError, RecordedChange, error::Result},
};
use serde_json::json;

const LOCK: &str = "select finished_at is not null, api_key_id from public.sign_ups where id = $1 for no key update";

const FINISH: &str = "update public.sign_ups set finished_at = current_timestamp, api_key_id = $2 where id = $1";

impl SignUps {
    /// Creates the API key, unless an earlier call has created it.
    pub(super) async fn finish(&self, begun: SignedUp, new: &NewSignUp) -> Result<SignedUp> {
        let token = SecretToken::generate(TokenKind::ApiKey, &self.brand);
        let actor = Actor::User(begun.user_id);
        let platform = self.db.platform();
        let finished = platform.transaction(async |tx| {
            let row = tx.query_opt(LOCK, &[&begun.id]).await?;
            let row = row.ok_or(PlatformError::NotFound { what: "sign-up" })?;
            if row.get(0) {
                return Ok((row.get::<_, Option<ApiKeyId>>(1), false));
            }
            let made: Option<ApiKeyId> = match &new.api_key {
                Some(key) => {
                    let made = auth::create_key(tx, &actor, begun.organization_id, key, &token).await;
                    Some(made.map_err(PlatformError::of_auth)?.id)
                }
                None => None,
            };
            tx.execute(FINISH, &[&begun.id, &made]).await?;
            let change = RecordedChange {
                actor: &actor,
                organization: Some(begun.organization_id),
                name: "cgk.sign_up.finished",
                resource: ("sign_up", begun.id.to_string()),
                before: None,
                after: Some(json!({ "user_id": begun.user_id, "api_key_id": made })),
            };
            change.record(tx).await?;
            Ok((made, made.is_some()))
        });
        let (api_key, is_new_key) = finished.await?;
        Ok(SignedUp { state: SignUpState::Done, api_key, token: is_new_key.then_some(token), ..begun })
    }
}
