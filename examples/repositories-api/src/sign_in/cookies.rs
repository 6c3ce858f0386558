//! The two cookies. `__Host-` keeps both to this host and to TLS; `Lax` keeps requests of other sites from having them, except to
//! follow a link.

use super::provider::Pending;
use axum::http::{HeaderMap, HeaderValue, header};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};

/// The session's token.
pub const SESSION: &str = "__Host-session";
const PENDING: &str = "__Host-sign-in";
const PENDING_SECONDS: u64 = 600;

pub fn set_session(token: &str, seconds: u64) -> HeaderValue {
    cookie(SESSION, token, seconds)
}

pub fn clear_session() -> HeaderValue {
    cookie(SESSION, "", 0)
}

pub fn set_pending(pending: &Pending) -> HeaderValue {
    let text = serde_json::to_vec(pending).expect("texts are JSON");
    cookie(PENDING, &URL_SAFE_NO_PAD.encode(text), PENDING_SECONDS)
}

pub fn clear_pending() -> HeaderValue {
    cookie(PENDING, "", 0)
}

pub fn pending(headers: &HeaderMap) -> Option<Pending> {
    let bytes = URL_SAFE_NO_PAD.decode(value(headers, PENDING)?).ok()?;
    serde_json::from_slice(&bytes).ok()
}

fn cookie(name: &str, value: &str, seconds: u64) -> HeaderValue {
    let text = format!("{name}={value}; Path=/; Max-Age={seconds}; HttpOnly; Secure; SameSite=Lax");
    HeaderValue::from_str(&text).expect("base64 and tokens are a header's value")
}

fn value<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let lines = headers.get_all(header::COOKIE).iter().filter_map(|line| line.to_str().ok());
    lines.flat_map(|line| line.split(';')).find_map(|pair| pair.trim().strip_prefix(name)?.strip_prefix('='))
}
