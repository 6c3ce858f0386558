//! What the environment says. `DATABASE_URL` and what belongs to it are read by `cgk::Config::load`.

use anyhow::Context as _;
use std::{env, net::SocketAddr, time::Duration};

#[derive(Clone, Debug)]
pub struct Settings {
    /// `LISTEN`: the address to listen on.
    pub listen: SocketAddr,
    /// `HOSTS`: the hosts of the service itself, which name no tenant.
    pub hosts: Vec<String>,
    /// `BASE_DOMAIN`: `acme.<base domain>` names the tenant `acme`.
    pub base_domain: String,
    /// The longest that the header of a request may take, from the start of its connection or the end of the request before it. A
    /// proxy that keeps connections to the service closes them earlier.
    pub client_time_max: Duration,
    /// The longest that a request may take after its header.
    pub request_time_max: Duration,
    /// The largest body of a request.
    pub body_bytes_max: usize,
    /// `REDIS_URL`: where values are remembered; nowhere if it is not set.
    pub redis_url: Option<String>,
    pub sign_in: Option<SignInSettings>,
}

/// How users sign in by a provider.
#[derive(Clone, Debug)]
pub struct SignInSettings {
    /// `OIDC_ISSUER`
    pub issuer: String,
    /// `OIDC_CLIENT_ID`
    pub client_id: String,
    /// `OIDC_CLIENT_SECRET`
    pub client_secret: Option<String>,
    /// `PUBLIC_URL`: where browsers find the service, such as `https://api.example.com`.
    pub public_url: String,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            listen: ([127, 0, 0, 1], 3000).into(),
            hosts: vec!["127.0.0.1".into()],
            base_domain: "localhost".into(),
            client_time_max: Duration::from_secs(10),
            request_time_max: Duration::from_secs(15),
            body_bytes_max: 64 * 1024,
            redis_url: None,
            sign_in: None,
        }
    }
}

impl Settings {
    /// Reads the environment.
    pub fn load() -> anyhow::Result<Self> {
        let mut settings = Self::default();
        if let Some(listen) = variable("LISTEN") {
            settings.listen = listen.parse().context("LISTEN is no address such as 127.0.0.1:3000")?;
        }
        if let Some(hosts) = variable("HOSTS") {
            settings.hosts = hosts.split(',').map(|host| host.trim().to_owned()).collect();
        }
        if let Some(domain) = variable("BASE_DOMAIN") {
            settings.base_domain = domain;
        }
        settings.redis_url = variable("REDIS_URL");
        if let Some(issuer) = variable("OIDC_ISSUER") {
            settings.sign_in = Some(SignInSettings {
                issuer,
                client_id: variable("OIDC_CLIENT_ID").context("OIDC_CLIENT_ID is not set")?,
                client_secret: variable("OIDC_CLIENT_SECRET"),
                public_url: variable("PUBLIC_URL").context("PUBLIC_URL is not set")?,
            });
        }
        Ok(settings)
    }
}

fn variable(name: &str) -> Option<String> {
    env::var(name).ok().filter(|value| !value.is_empty())
}
