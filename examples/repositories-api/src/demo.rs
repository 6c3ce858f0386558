//! The service on a throw-away server, with two tenants and a session to paste.

use crate::{app::App, serve, settings::Settings};
use anyhow::Context as _;
use cgk::{
    Config, Operator, TenantSlug,
    auth::{ClientInfo, NewApiKey, NewUser, UserRole},
    lifecycle,
    login::{self, LoginOptions, SharedTables},
    migrate::{Interrupt, Migrations, Silent},
    provisioning::{self, Attempt, AttemptOutcome, ServeOptions},
    setup,
    testing::LocalServer,
};
use std::path::Path;
use tokio::net::TcpListener;

/// The service's own files: those of cgk's shared set and of the service.
pub fn migrations() -> cgk::Result<Migrations> {
    Migrations::from_directory(Path::new(env!("CARGO_MANIFEST_DIR")).join("migrations"))
}

/// What somebody needs to ask as a tenant.
pub struct Demo {
    pub slug: TenantSlug,
    pub organization: cgk::OrganizationId,
    /// The token of its owner's session.
    pub session: String,
    /// An API key that may read and write.
    pub key: String,
}

/// Runs the service until it is told to stop. The server and all that is in it go with it.
pub async fn run(settings: &Settings) -> anyhow::Result<()> {
    let start = || LocalServer::start_default(&|line| tracing::info!("{line}"));
    let server = tokio::task::spawn_blocking(start).await??;
    let operator_config = Config::from_url(&server.url("postgres"))?;
    let config = Config::from_url(&prepare(&operator_config, "repositories_api").await?)?;
    let app = App::connect(config).await?;
    let mut demos = Vec::new();
    for slug in ["acme", "globex"] {
        demos.push(tenant(&operator_config, &app, &slug.parse()?).await?);
    }
    let interrupt = Interrupt::new();
    let provisioning = tokio::spawn(provision(operator_config, interrupt.clone()));
    let listener =
        TcpListener::bind(settings.listen).await.context("the address to listen on; LISTEN names another")?;
    print(&session(&demos, listener.local_addr()?.port()));
    let served = serve::until_signal(app, settings, listener).await;
    interrupt.stop();
    provisioning.await??;
    served
}

/// What an operator does once: the shared schema, and a login for the service that owns nothing. Returns the URL of the login.
pub async fn prepare(operator: &Config, login: &str) -> anyhow::Result<String> {
    let connected = Operator::connect(operator).await?;
    setup::setup(&connected, &migrations()?, &mut Silent).await?;
    let mut options = LoginOptions::default();
    options.shared_tables = Some(SharedTables::All);
    let admitted = login::admit(&connected, &login.parse()?, &options).await?;
    let password = admitted.password.as_ref().context("the login is there already")?;
    Ok(operator.url_of(admitted.name.as_str(), Some(password.reveal())))
}

/// A tenant, its owner and a key.
pub async fn tenant(operator: &Config, app: &App, slug: &TenantSlug) -> anyhow::Result<Demo> {
    let connected = Operator::connect(operator).await?;
    let created = lifecycle::create(&connected, &app.db, &migrations()?, slug, &Default::default()).await?;
    let organization = created.tenant.id;
    let owner = NewUser::active(&format!("owner@{slug}.example")).role(UserRole::Owner);
    let owner = app.auth.users().create(organization, &owner).await?;
    let (_, session) = app.auth.sessions().issue(organization, owner.id, &ClientInfo::default()).await?;
    let key = NewApiKey::named("demo").scope("read").scope("write");
    let (_, key) = app.auth.api_keys().create(organization, &key).await?;
    Ok(Demo { slug: slug.clone(), organization, session: session.reveal().into(), key: key.reveal().into() })
}

/// Makes the organizations that are asked for, as `cgk provision --watch` does in a process of its own.
async fn provision(operator: Config, interrupt: Interrupt) -> cgk::Result<()> {
    let options = ServeOptions::default().interrupt(&interrupt);
    let mut attempted = |attempt: &Attempt| match &attempt.outcome {
        AttemptOutcome::Done(_) => tracing::info!(tenant = attempt.slug, "an organization was made"),
        outcome => tracing::warn!(tenant = attempt.slug, outcome = ?outcome, "an organization could not be made"),
    };
    provisioning::serve(&operator, &migrations()?, &options, &mut attempted).await?;
    Ok(())
}

fn session(demos: &[Demo], port: u16) -> String {
    let [acme, globex] = demos else { return String::new() };
    format!(
        r#"
The service listens on http://127.0.0.1:{port}, with two tenants. Paste this into another terminal:

  api=http://127.0.0.1:{port}
  acme={acme_id} acme_key={acme_key}
  globex={globex_id} globex_key={globex_key}

  echo 'Create a repository. The same Idempotency-Key again creates none.'
  curl -si $api/organizations/$acme/repositories -H "authorization: Bearer $acme_key" \
       -H 'content-type: application/json' -H 'idempotency-key: first' -d '{{"name": "website", "description": "our site"}}'
  echo; echo 'List them, as each tenant.'
  curl -s $api/organizations/$acme/repositories -H "authorization: Bearer $acme_key"; echo
  curl -s $api/organizations/$globex/repositories -H "authorization: Bearer $globex_key"; echo
  echo 'Globex asks for the repositories of acme: 404, as if there were none.'
  curl -si $api/organizations/$acme/repositories -H "authorization: Bearer $globex_key"
  echo; echo 'The key of one and the host of the other: 403.'
  curl -si http://globex.localhost:{port}/organizations/$acme/repositories -H "authorization: Bearer $acme_key"
  echo; echo 'A new organization, asked for by the owner of acme; a moment later it is active.'
  owner={session}
  curl -si $api/organizations -H "authorization: Bearer $owner" -H 'content-type: application/json' \
       -H 'idempotency-key: first' -d '{{"slug": "initech", "name": "Initech"}}'
  echo; curl -s $api/organizations -H "authorization: Bearer $owner"; echo
  echo 'All routes; the whole description is at /openapi.json.'
  curl -s $api/openapi.json | grep '^    "/'

Ctrl-C ends the service and removes its database.
"#,
        acme_id = acme.organization,
        acme_key = acme.key,
        globex_id = globex.organization,
        globex_key = globex.key,
        session = acme.session,
    )
}

fn print(text: &str) {
    println!("{text}");
}
