//! The commands about API keys.

pub(crate) mod create;
pub(crate) mod list;
pub(crate) mod revoke;
pub(crate) mod rotate;

use anyhow::Result;
use cgk::auth::{ApiKeyId, ApiKeyInfo, SecretToken};
use serde::Serialize;

use super::{State, Target, show_token};
use crate::cli::{
    exit::Exit,
    session::Session,
    ui::{style::sanitize, time},
};

/// A key, as JSON.
#[derive(Serialize)]
struct KeyView<'a> {
    id: String,
    name: &'a str,
    scopes: &'a [String],
    state: &'static str,
    created_at: String,
    expires_at: Option<String>,
    last_used_at: Option<String>,
    revoked_at: Option<String>,
}

/// A key that was just created, with its token, as JSON.
#[derive(Serialize)]
struct NewKey<'a> {
    v: u32,
    tenant: &'a str,
    key: KeyView<'a>,
    token: &'a str,
    exit: Exit,
}

impl<'a> KeyView<'a> {
    fn of(key: &'a ApiKeyInfo) -> Self {
        Self {
            id: key.id.to_string(),
            name: &key.name,
            scopes: &key.scopes,
            state: state(key).as_str(),
            created_at: time::rfc3339(key.created_at),
            expires_at: key.expires_at.map(time::rfc3339),
            last_used_at: key.last_used_at.map(time::rfc3339),
            revoked_at: key.revoked_at.map(time::rfc3339),
        }
    }
}

fn state(key: &ApiKeyInfo) -> State {
    State::of(key.expires_at, key.revoked_at)
}

/// Returns a text such as `scopes orders:read, orders:write; expires 2026-11-22T08:05:09Z`.
fn described(key: &ApiKeyInfo) -> String {
    let scopes = match key.scopes.as_slice() {
        [] => "no scopes".to_owned(),
        scopes => format!("scopes {}", sanitize(&scopes.join(", "))),
    };
    match key.expires_at {
        Some(end) => format!("{scopes}; expires {}", time::rfc3339(end)),
        None => format!("{scopes}; does not expire"),
    }
}

/// Returns the id of the tenant's key for an id or its first characters.
async fn id_of(target: &Target, text: &str) -> Result<ApiKeyId> {
    let listed: Vec<_> = target.auth.api_keys().list(target.tenant.id).await?.iter().map(|key| key.id).collect();
    target.whole_id(text, "API key", &listed)
}

/// Shows a key that was just created, a message about it, and its token.
fn show_new(session: &Session<'_>, target: &Target, key: &ApiKeyInfo, token: &SecretToken, said: String) {
    let printer = session.printer;
    target.warn_if_inactive(printer);
    printer.record(&NewKey {
        v: crate::cli::JSON_VERSION,
        tenant: target.tenant.slug.as_str(),
        key: KeyView::of(key),
        token: token.reveal(),
        exit: Exit::Done,
    });
    printer.info(said);
    show_token(printer, token.reveal());
}
