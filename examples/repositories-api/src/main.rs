//! `cargo run`: the service, on the database of `DATABASE_URL`, or on a throw-away server with two tenants to try it with.

use anyhow::Context as _;
use cgk::Config;
use repositories_api::{app::App, demo, serve, settings::Settings, sign_in::SignIn};
use tokio::net::TcpListener;
use tracing_subscriber::EnvFilter;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let filter = EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| EnvFilter::new("info,refinery_core=warn,tokio_postgres=warn"));
    tracing_subscriber::fmt().json().with_env_filter(filter).with_writer(std::io::stderr).init();
    let settings = Settings::load()?;
    match Config::load() {
        Ok(config) => {
            let mut app = App::connect(config).await?;
            if let Some(url) = &settings.redis_url {
                app = app.with_redis(url)?;
            }
            if let Some(sign_in) = &settings.sign_in {
                app = app.with_sign_in(SignIn::new(sign_in.clone())?);
            }
            let listener =
                TcpListener::bind(settings.listen).await.context("the address to listen on; LISTEN names another")?;
            serve::until_signal(app, &settings, listener).await
        }
        Err(error) if error.is_missing_url() => demo::run(&settings).await,
        Err(error) => Err(error.into()),
    }
}
