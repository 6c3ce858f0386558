//! An HTTP webhook as a sink, signed as <https://www.standardwebhooks.com> specifies.

use super::{CloudEvent, EventSink, SinkError};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use hmac::{Hmac, KeyInit as _, Mac as _};
use http::{HeaderMap, Request, StatusCode, Uri, header};
use http_body_util::Full;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use sha2::Sha256;
use std::{
    fmt,
    str::FromStr,
    time::{Duration, SystemTime},
};

/// The prefix of Standard Webhooks secrets.
const PREFIX: &str = "whsec_";
/// The allowed length of a secret in bytes, from the specification.
const SECRET_BYTES: std::ops::RangeInclusive<usize> = 24..=64;

/// A secret that the sender and the receiver share: `whsec_` followed by 24 to 64 random bytes in base64.
///
/// ```
/// use cgk::platform::WebhookSecret;
/// let secret: WebhookSecret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw".parse()?;
/// assert_eq!(format!("{secret:?}"), "WebhookSecret(…)");
/// # Ok::<(), cgk::platform::InvalidWebhook>(())
/// ```
#[derive(Clone)]
pub struct WebhookSecret(Vec<u8>);

impl fmt::Debug for WebhookSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("WebhookSecret(…)")
    }
}

impl FromStr for WebhookSecret {
    type Err = InvalidWebhook;

    fn from_str(text: &str) -> Result<Self, InvalidWebhook> {
        let bytes = text.strip_prefix(PREFIX).and_then(|rest| STANDARD.decode(rest).ok());
        match bytes.filter(|bytes| SECRET_BYTES.contains(&bytes.len())) {
            Some(bytes) => Ok(Self(bytes)),
            None => Err(InvalidWebhook { why: "a secret is whsec_ and 24 to 64 bytes in base64" }),
        }
    }
}

/// The reason why a webhook cannot be created.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{why}")]
pub struct InvalidWebhook {
    why: &'static str,
}

/// Sends each event to a URL by POST: the CloudEvent as JSON (`application/cloudevents+json`), with the headers
/// `webhook-id`, `webhook-timestamp` and `webhook-signature` of Standard Webhooks. Any 2xx status is success. After
/// status 410 the event is marked as dead immediately. A `retry-after` header in seconds is respected. Redirects are
/// not followed.
///
/// Only the operator should set the URL. A user who can set it can send requests from the relay's network.
///
/// ```no_run
/// # async fn example(db: cgk::Db) -> Result<(), Box<dyn std::error::Error>> {
/// use cgk::platform::{Relay, RelayOptions, Webhook};
/// let sink = Webhook::new("https://hooks.example.com/cgk", &[std::env::var("WEBHOOK_SECRET")?.parse()?])?;
/// Relay::new(&db, sink, RelayOptions::default()).run_until(std::future::pending()).await?;
/// # Ok(()) }
/// ```
pub struct Webhook {
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    uri: Uri,
    secrets: Vec<WebhookSecret>,
}

/// Omits the path and the query, because they often contain a secret.
impl fmt::Debug for Webhook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Webhook").field("host", &self.uri.host()).finish_non_exhaustive()
    }
}

impl Webhook {
    /// Creates a webhook for this URL. Each secret makes one signature. Use two secrets while one is being replaced.
    /// Does not connect yet.
    ///
    /// # Errors
    ///
    /// The URL is neither https:// nor http://, it contains a user, or there is no secret.
    pub fn new(url: &str, secrets: &[WebhookSecret]) -> Result<Self, InvalidWebhook> {
        let invalid = |why| InvalidWebhook { why };
        let uri: Uri = url.parse().map_err(|_| invalid("the address is no URL"))?;
        if !matches!(uri.scheme_str(), Some("https" | "http")) {
            return Err(invalid("the URL must begin with https:// or http://"));
        }
        if uri.authority().is_none_or(|authority| authority.as_str().contains('@')) {
            return Err(invalid("the URL must have a host and no user"));
        }
        if secrets.is_empty() {
            return Err(invalid("there must be a secret to sign with"));
        }
        let mut roots = rustls::RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
        for certificate in rustls_native_certs::load_native_certs().certs {
            // A certificate that cannot be read is skipped.
            let _ = roots.add(certificate);
        }
        let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
        let tls = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("ring has the default versions")
            .with_root_certificates(roots)
            .with_no_client_auth();
        let connector = HttpsConnectorBuilder::new().with_tls_config(tls).https_or_http().enable_http1().build();
        Ok(Self { client: Client::builder(TokioExecutor::new()).build(connector), uri, secrets: secrets.to_vec() })
    }

    fn request(&self, event: &CloudEvent, now: u64) -> Result<Request<Full<Bytes>>, SinkError> {
        let body = serde_json::to_vec(event).map_err(|error| SinkError::new(&error))?;
        let id = event.id.to_string();
        Request::post(self.uri.clone())
            .header(header::CONTENT_TYPE, "application/cloudevents+json")
            .header(header::USER_AGENT, concat!("cgk/", env!("CARGO_PKG_VERSION")))
            .header("webhook-id", &id)
            .header("webhook-timestamp", now)
            .header("webhook-signature", signatures(&self.secrets, &id, now, &body))
            .body(Full::new(body.into()))
            .map_err(|error| SinkError::new(&error))
    }
}

/// Returns `v1,<base64>` for each secret, separated by spaces.
fn signatures(secrets: &[WebhookSecret], id: &str, now: u64, body: &[u8]) -> String {
    let sign = |secret: &WebhookSecret| {
        let mut mac = Hmac::<Sha256>::new_from_slice(&secret.0).expect("a key of any length is taken");
        mac.update(format!("{id}.{now}.").as_bytes());
        mac.update(body);
        format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()))
    };
    secrets.iter().map(sign).collect::<Vec<_>>().join(" ")
}

impl EventSink for Webhook {
    async fn deliver(&self, event: &CloudEvent) -> Result<(), SinkError> {
        // The time of this attempt, because receivers refuse old timestamps.
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
        let answer = self.client.request(self.request(event, now)?).await;
        // The text of the HTTP client contains neither path nor body.
        let answer = answer.map_err(|error| SinkError::new(&causes(&error)))?;
        let status = answer.status();
        if status.is_success() {
            return Ok(());
        }
        let refused = SinkError::new(&format_args!("the receiver answered {}", status.as_u16()));
        Err(match (status, retry_after(answer.headers())) {
            (StatusCode::GONE, _) => refused.final_one(),
            (_, Some(pause)) => refused.retry_after(pause),
            (_, None) => refused,
        })
    }
}

fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim().parse().ok().map(Duration::from_secs)
}

fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example from the libraries of the specification.
    #[test]
    fn a_signature_is_that_of_standard_webhooks() {
        let secret: WebhookSecret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw".parse().unwrap();
        let signed = signatures(
            std::slice::from_ref(&secret),
            "msg_p5jXN8AQM9LWM0D4loKWxJek",
            1_614_265_330,
            br#"{"test": 2432232314}"#,
        );
        assert_eq!(signed, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
        let two = signatures(&[secret.clone(), secret], "msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, b"");
        assert_eq!(two.split(' ').count(), 2);
    }

    #[test]
    fn what_is_no_webhook_is_refused() {
        let secret: WebhookSecret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw".parse().unwrap();
        let secrets = std::slice::from_ref(&secret);
        for bad in ["", "ftp://example.com/", "/path", "https://user:word@example.com/"] {
            assert!(Webhook::new(bad, secrets).is_err(), "{bad}");
        }
        assert!(Webhook::new("https://example.com/", &[]).is_err());
        let webhook = Webhook::new("https://example.com/hidden?token=hidden", secrets).unwrap();
        assert!(!format!("{webhook:?}").contains("hidden"));
        for bad in ["", "whsec_", "whsec_AAAA", "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_*"] {
            assert!(bad.parse::<WebhookSecret>().is_err(), "{bad}");
        }
    }
}
