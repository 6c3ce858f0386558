//! The provider.

use crate::settings::SignInSettings;
use anyhow::{Context as _, bail, ensure};
use openidconnect::{
    AccessTokenHash, AuthorizationCode, ClaimsVerificationError, ClientId, ClientSecret, CsrfToken, EndpointMaybeSet,
    EndpointNotSet, EndpointSet, IssuerUrl, Nonce, OAuth2TokenResponse as _, PkceCodeChallenge, PkceCodeVerifier,
    RedirectUrl, Scope, TokenResponse as _,
    core::{CoreAuthenticationFlow, CoreClient, CoreProviderMetadata},
    reqwest,
};
use serde::{Deserialize, Serialize};
use std::time::{Duration, Instant};
use tokio::sync::Mutex;

/// How long what the provider says of itself, its keys above all, is remembered.
const DISCOVERY_MAX: Duration = Duration::from_secs(600);
/// How often tokens with an unknown key make the service ask before that.
const RENEWAL_EVERY: Duration = Duration::from_secs(10);
const REQUEST_MAX: Duration = Duration::from_secs(5);

type Client =
    CoreClient<EndpointSet, EndpointNotSet, EndpointNotSet, EndpointNotSet, EndpointMaybeSet, EndpointMaybeSet>;

/// The provider, and how the service is known there.
pub struct SignIn {
    settings: SignInSettings,
    http: reqwest::Client,
    discovery: Mutex<Discovery>,
}

#[derive(Default)]
struct Discovery {
    known: Option<(Instant, Client)>,
    failed: Option<(Instant, String)>,
    renewed: Option<Instant>,
}

/// What the browser keeps between the way to the provider and the way back.
#[derive(Debug, Serialize, Deserialize)]
pub struct Pending {
    /// The slug of the organization to sign in to.
    pub organization: String,
    state: String,
    nonce: String,
    verifier: String,
}

/// Who somebody is, as the provider says.
#[derive(Debug)]
pub struct Person {
    pub issuer: String,
    pub subject: String,
    /// An address that the provider has verified.
    pub email: Option<String>,
}

impl SignIn {
    pub fn new(settings: SignInSettings) -> anyhow::Result<Self> {
        // A redirect could lead to a server of somebody else's choice.
        let http =
            reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).timeout(REQUEST_MAX).build()?;
        Ok(Self { settings, http, discovery: Mutex::default() })
    }

    /// Where to send a browser, and what it is to keep.
    pub async fn begin(&self, organization: &str) -> anyhow::Result<(String, Pending)> {
        let client = self.client(false).await?;
        let (challenge, verifier) = PkceCodeChallenge::new_random_sha256();
        let flow = CoreAuthenticationFlow::AuthorizationCode;
        let (url, state, nonce) = client
            .authorize_url(flow, CsrfToken::new_random, Nonce::new_random)
            .add_scope(Scope::new("email".into()))
            .set_pkce_challenge(challenge)
            .url();
        let pending = Pending {
            organization: organization.to_owned(),
            state: state.into_secret(),
            nonce: nonce.secret().clone(),
            verifier: verifier.into_secret(),
        };
        Ok((url.into(), pending))
    }

    /// Exchanges the code that a browser brings back.
    pub async fn finish(&self, pending: Pending, code: String) -> anyhow::Result<Person> {
        let mut client = self.client(false).await?;
        let tokens = client
            .exchange_code(AuthorizationCode::new(code))?
            .set_pkce_verifier(PkceCodeVerifier::new(pending.verifier))
            .request_async(&self.http)
            .await
            .context("the code was not accepted")?;
        let Some(id_token) = tokens.id_token() else { bail!("the provider returned no ID token") };
        let nonce = Nonce::new(pending.nonce);
        let checked = id_token.claims(&client.id_token_verifier(), &nonce).map(drop);
        if let Err(ClaimsVerificationError::SignatureVerification(_)) = checked {
            // The provider may have new keys.
            client = self.client(true).await?;
        }
        let verifier = client.id_token_verifier();
        let claims = id_token.claims(&verifier, &nonce).context("the ID token is not accepted")?;
        if let Some(expected) = claims.access_token_hash() {
            let algorithm = id_token.signing_alg()?;
            let actual =
                AccessTokenHash::from_token(tokens.access_token(), algorithm, id_token.signing_key(&verifier)?)?;
            ensure!(actual == *expected, "the access token is not that of the ID token");
        }
        let verified = claims.email_verified() == Some(true);
        Ok(Person {
            issuer: claims.issuer().to_string(),
            subject: claims.subject().to_string(),
            email: claims.email().filter(|_| verified).map(|email| email.to_string()),
        })
    }

    /// The provider as it was discovered, or is discovered now. Of those who ask at once, one asks the provider; the others get its
    /// answer, or its failure.
    async fn client(&self, renew: bool) -> anyhow::Result<Client> {
        let asked = Instant::now();
        let mut discovery = self.discovery.lock().await;
        let renew = renew && discovery.renewed.is_none_or(|at| at.elapsed() >= RENEWAL_EVERY);
        if let Some((at, client)) = &discovery.known
            && at.elapsed() < DISCOVERY_MAX
            && !renew
        {
            return Ok(client.clone());
        }
        if let Some((at, failure)) = &discovery.failed
            && *at > asked
        {
            bail!("{failure}");
        }
        if renew {
            discovery.renewed = Some(Instant::now());
        }
        match self.discover().await {
            Ok(client) => {
                discovery.known = Some((Instant::now(), client.clone()));
                Ok(client)
            }
            Err(error) => {
                discovery.failed = Some((Instant::now(), format!("{error:#}")));
                Err(error)
            }
        }
    }

    async fn discover(&self) -> anyhow::Result<Client> {
        let settings = &self.settings;
        let issuer = IssuerUrl::new(settings.issuer.clone())?;
        let metadata = CoreProviderMetadata::discover_async(issuer, &self.http).await.context("discovery failed")?;
        let secret = settings.client_secret.clone().map(ClientSecret::new);
        let client = CoreClient::from_provider_metadata(metadata, ClientId::new(settings.client_id.clone()), secret)
            .set_redirect_uri(RedirectUrl::new(format!("{}/sign-in/callback", settings.public_url))?);
        Ok(client)
    }
}

impl Pending {
    /// Whether an answer of the provider's belongs to this.
    pub fn expects(&self, state: &str) -> bool {
        self.state == state
    }
}
