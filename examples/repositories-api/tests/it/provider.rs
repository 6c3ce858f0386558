//! A small provider of OpenID Connect: discovery, keys, authorization code with PKCE. It approves whoever the test says.

use axum::{
    Form, Json, Router,
    extract::{Query, State},
    http::StatusCode,
    response::Redirect,
    routing::{get, post},
};
use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use openidconnect::{
    JsonWebKeyId, PrivateSigningKey as _,
    core::{CoreEdDsaPrivateSigningKey, CoreJsonWebKeySet, CoreJwsSigningAlgorithm},
};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
    time::{SystemTime, UNIX_EPOCH},
};

/// Whom the provider says that somebody is, and what it does wrong.
#[derive(Clone)]
pub struct Says {
    pub subject: String,
    pub email: String,
    pub email_verified: bool,
    /// Claims that are replaced.
    pub forged: Value,
    /// Which of the provider's keys signs the token: the first is published, the second once they are rotated, the third never.
    pub key: u8,
}

pub struct Provider {
    pub issuer: String,
    says: Mutex<Says>,
    /// The codes, each with the query that asked for it.
    codes: Mutex<HashMap<String, HashMap<String, String>>>,
    /// Whether the second key is published.
    pub rotated: AtomicBool,
    /// How often somebody asked for the discovery document.
    pub discoveries: AtomicUsize,
    /// Whether that fails.
    pub down: AtomicBool,
}

pub const CLIENT: &str = "repositories-api";

impl Provider {
    pub async fn start() -> Arc<Self> {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let issuer = format!("http://{}", listener.local_addr().unwrap());
        let provider = Arc::new(Self {
            issuer,
            says: Mutex::new(Says::verified("1", "x@x.example")),
            codes: Mutex::default(),
            rotated: AtomicBool::new(false),
            discoveries: AtomicUsize::new(0),
            down: AtomicBool::new(false),
        });
        let router = Router::new()
            .route("/.well-known/openid-configuration", get(discovery))
            .route("/keys", get(keys))
            .route("/authorize", get(authorize))
            .route("/token", post(token))
            .with_state(Arc::clone(&provider));
        tokio::spawn(async move { axum::serve(listener, router).await });
        provider
    }

    pub fn says(&self, says: Says) {
        *self.says.lock().unwrap() = says;
    }
}

impl Says {
    pub fn verified(subject: &str, email: &str) -> Self {
        Self { subject: subject.into(), email: email.into(), email_verified: true, forged: json!({}), key: 0 }
    }
}

async fn discovery(State(provider): State<Arc<Provider>>) -> Result<Json<Value>, StatusCode> {
    provider.discoveries.fetch_add(1, SeqCst);
    if provider.down.load(SeqCst) {
        return Err(StatusCode::SERVICE_UNAVAILABLE);
    }
    let issuer = &provider.issuer;
    Ok(Json(json!({
        "issuer": issuer,
        "authorization_endpoint": format!("{issuer}/authorize"),
        "token_endpoint": format!("{issuer}/token"),
        "jwks_uri": format!("{issuer}/keys"),
        "response_types_supported": ["code"],
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": ["EdDSA"],
    })))
}

/// Approves at once, as for somebody who is signed in at the provider.
async fn authorize(State(provider): State<Arc<Provider>>, Query(query): Query<HashMap<String, String>>) -> Redirect {
    assert_eq!((query["client_id"].as_str(), query["response_type"].as_str()), (CLIENT, "code"));
    assert_eq!(query["code_challenge_method"], "S256");
    let code = uuid::Uuid::now_v7().to_string();
    let back = format!("{}?code={code}&state={}", query["redirect_uri"], query["state"]);
    provider.codes.lock().unwrap().insert(code, query);
    Redirect::to(&back)
}

/// Takes a code once, from whoever has the verifier.
async fn token(
    State(provider): State<Arc<Provider>>,
    Form(form): Form<HashMap<String, String>>,
) -> (StatusCode, Json<Value>) {
    let refused = (StatusCode::BAD_REQUEST, Json(json!({ "error": "invalid_grant" })));
    let Some(asked) = provider.codes.lock().unwrap().remove(&form["code"]) else { return refused };
    let challenge = URL_SAFE_NO_PAD.encode(Sha256::digest(form["code_verifier"].as_bytes()));
    if asked["code_challenge"] != challenge || asked["redirect_uri"] != form["redirect_uri"] {
        return refused;
    }
    let says = provider.says.lock().unwrap().clone();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let mut claims = json!({
        "iss": provider.issuer, "aud": CLIENT, "sub": says.subject, "iat": now, "exp": now + 300, "nonce": asked["nonce"],
        "email": says.email, "email_verified": says.email_verified,
    });
    claims.as_object_mut().unwrap().extend(says.forged.as_object().unwrap().clone());
    let id_token = sign(&claims, says.key);
    (
        StatusCode::OK,
        Json(json!({ "access_token": "a", "token_type": "bearer", "expires_in": 300, "id_token": id_token })),
    )
}

fn key(number: u8) -> CoreEdDsaPrivateSigningKey {
    // PKCS #8 of an Ed25519 key (RFC 8410): 16 bytes that are always the same, and the seed.
    let mut der = vec![0x30, 0x2e, 2, 1, 0, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 4, 0x22, 4, 0x20];
    der.extend([7 + number; 32]);
    let pem = format!("-----BEGIN {0}-----\n{1}\n-----END {0}-----\n", "PRIVATE KEY", STANDARD.encode(der));
    CoreEdDsaPrivateSigningKey::from_ed25519_pem(&pem, Some(JsonWebKeyId::new(kid(number)))).unwrap()
}

fn kid(number: u8) -> String {
    format!("key-{number}")
}

async fn keys(State(provider): State<Arc<Provider>>) -> Json<CoreJsonWebKeySet> {
    let published = 0..=u8::from(provider.rotated.load(SeqCst));
    Json(CoreJsonWebKeySet::new(published.map(|number| key(number).as_verification_key()).collect()))
}

fn sign(claims: &Value, number: u8) -> String {
    let header = json!({ "alg": "EdDSA", "typ": "JWT", "kid": kid(number) });
    let text = format!("{}.{}", URL_SAFE_NO_PAD.encode(header.to_string()), URL_SAFE_NO_PAD.encode(claims.to_string()));
    let signature = key(number).sign(&CoreJwsSigningAlgorithm::EdDsa, text.as_bytes()).unwrap();
    format!("{text}.{}", URL_SAFE_NO_PAD.encode(signature))
}
