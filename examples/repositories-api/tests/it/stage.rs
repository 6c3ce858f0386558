//! What the tests stand on: the service on a port of its own, two active tenants and a suspended one with data that each can be told
//! by, and an observer who is a superuser and no part of the service.

use cgk::{
    Config, Db,
    auth::{Auth, ClientInfo, NewApiKey, NewUser, UserRole},
    testing::{TestDatabase, TestServer},
};
use openidconnect::reqwest;
use repositories_api::{app::App, connections, demo, routes, settings::Settings};
use serde_json::{Value, json};
use std::{
    collections::{BTreeSet, HashMap},
    future::Future,
    sync::Mutex,
    time::{Duration, Instant},
};
use tokio::net::TcpListener;
use tokio_postgres::{Client, NoTls};

/// What has not ended by now hangs. No test measures by it.
pub const HANG: Duration = Duration::from_secs(120);

/// A limit of the service's that comes later, however busy the machine is.
pub const LATER: Duration = Duration::from_secs(600);

/// A tenant's credentials and data.
pub struct Tenant {
    pub slug: &'static str,
    pub organization: String,
    /// The session of its owner.
    pub owner: String,
    pub member: String,
    /// A key with the scopes `read` and `write`.
    pub key: String,
    /// A key with the scope `read`.
    pub reader: String,
    pub repository: String,
    pub job: String,
}

pub struct Stage {
    pub app: App,
    pub settings: Settings,
    pub port: u16,
    /// The configuration of an operator, and that of the service.
    pub operator: Config,
    pub service: Config,
    /// The URL that the service is configured with.
    pub url: String,
    pub watch: Client,
    /// Another session of the observer's, for locks: in a transaction `pg_stat_activity` stays as it was first read.
    pub blocker: Client,
    of: HashMap<&'static str, Tenant>,
    http: reqwest::Client,
    /// Which statuses each operation of the description has answered.
    pub seen: Mutex<BTreeSet<(String, u16)>>,
    pub document: Value,
    _database: TestDatabase,
}

/// A request.
#[derive(Clone, Debug)]
pub struct Ask {
    pub method: &'static str,
    pub path: String,
    pub headers: Vec<(&'static str, String)>,
    pub body: Option<String>,
}

impl Ask {
    pub fn new(method: &'static str, path: impl Into<String>) -> Self {
        Self { method, path: path.into(), headers: Vec::new(), body: None }
    }

    pub fn header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    pub fn bearer(self, token: &str) -> Self {
        self.header("authorization", format!("Bearer {token}"))
    }

    pub fn json(mut self, body: &Value) -> Self {
        self.body = Some(body.to_string());
        self.header("content-type", "application/json")
    }
}

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub text: String,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// A header; empty where there is none.
    pub fn header(&self, name: &str) -> &str {
        self.headers.iter().find(|(known, _)| known == name).map_or("", |(_, value)| value)
    }

    /// Checks that it is a problem of RFC 9457, and returns its detail.
    pub fn problem(&self, status: u16) -> String {
        assert_eq!((self.status, self.header("content-type")), (status, "application/problem+json"), "{self:?}");
        let json = self.json();
        assert_eq!((&json["status"], &json["type"]), (&json!(status), &json!("about:blank")), "{self:?}");
        assert_eq!(json["request_id"], self.header("x-request-id"), "{self:?}");
        json["detail"].as_str().unwrap_or_default().to_owned()
    }
}

impl Stage {
    pub async fn set() -> Self {
        Self::set_with(|_, config| config).await
    }

    /// With other settings.
    pub async fn set_with(change: impl FnOnce(&mut Settings, Config) -> Config) -> Self {
        let database = TestServer::shared().database().await.unwrap();
        let operator = database.config().clone();
        let login = format!("api_{}", database.name().rsplit('_').next().unwrap().to_lowercase());
        let url = demo::prepare(&operator, &login).await.unwrap();
        let service = Config::from_url(&url).unwrap();
        let mut settings = Settings {
            hosts: vec!["api.example.com".into()],
            base_domain: "example.com".into(),
            client_time_max: LATER,
            request_time_max: LATER,
            ..Settings::default()
        };
        let service = change(&mut settings, patient(service));
        let app = App::new(Db::connect(&service).await.unwrap());
        let (port, document) = serve(&app, &settings).await;
        let mut stage = Self {
            app,
            settings,
            port,
            watch: connect(&database).await,
            blocker: connect(&database).await,
            operator,
            service,
            url,
            of: HashMap::new(),
            http: reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).build().unwrap(),
            seen: Mutex::default(),
            document,
            _database: database,
        };
        for slug in ["acme", "globex", "dormant"] {
            let tenant = stage.tenant(slug).await;
            stage.of.insert(slug, tenant);
        }
        stage.run("update public.organizations set status = 'suspended' where slug = 'dormant'").await;
        stage.app.resolver.caught_up().await;
        stage
    }

    pub fn of(&self, slug: &str) -> &Tenant {
        &self.of[slug]
    }

    /// A tenant with a repository and a job whose texts name it.
    async fn tenant(&self, slug: &'static str) -> Tenant {
        let made = demo::tenant(&self.operator, &self.app, &slug.parse().unwrap()).await.unwrap();
        let auth: &Auth = &self.app.auth;
        let member = NewUser::active(&format!("member@{slug}.example")).role(UserRole::Member);
        let member = auth.users().create(made.organization, &member).await.unwrap();
        let (_, member) = auth.sessions().issue(made.organization, member.id, &ClientInfo::default()).await.unwrap();
        let reader = NewApiKey::named("reader").scope("read");
        let (_, reader) = auth.api_keys().create(made.organization, &reader).await.unwrap();
        let organization = made.organization.to_string();
        let fields = json!({ "name": format!("{slug}-vault"), "description": format!("kept by {slug}") });
        let path = format!("/organizations/{organization}/repositories");
        let repository = self.send(&Ask::new("POST", &path).bearer(&made.key).json(&fields)).await;
        assert_eq!(repository.status, 201, "{repository:?}");
        let repository = repository.json()["id"].as_str().unwrap().to_owned();
        let job = Ask::new("POST", format!("{path}/{repository}/jobs")).bearer(&made.key);
        let job = self.send(&job.json(&json!({ "kind": "analyze" }))).await;
        assert_eq!(job.status, 201, "{job:?}");
        Tenant {
            slug,
            organization,
            owner: made.session,
            member: member.reveal().to_owned(),
            key: made.key,
            reader: reader.reveal().to_owned(),
            repository,
            job: job.json()["id"].as_str().unwrap().to_owned(),
        }
    }

    /// Asks the service.
    pub async fn send(&self, ask: &Ask) -> Answer {
        self.send_to(self.port, ask).await
    }

    /// Asks another one.
    pub async fn send_to(&self, port: u16, ask: &Ask) -> Answer {
        let answer = must_end(send(&self.http, port, ask)).await;
        if let Some(operation) = self.operation(ask.method, &ask.path) {
            self.seen.lock().unwrap().insert((operation, answer.status));
        }
        answer
    }

    /// A request that can be dropped.
    pub fn start(&self, ask: Ask) -> tokio::task::JoinHandle<Answer> {
        let (http, port) = (self.http.clone(), self.port);
        tokio::spawn(async move { send(&http, port, &ask).await })
    }

    /// Which operation of the description a request is for: `GET /organizations/{organization_id}`.
    fn operation(&self, method: &str, path: &str) -> Option<String> {
        let path = path.split('?').next().unwrap();
        let fits = |template: &str| {
            let (template, path): (Vec<_>, Vec<_>) = (template.split('/').collect(), path.split('/').collect());
            template.len() == path.len()
                && template.iter().zip(&path).all(|(known, given)| known == given || known.starts_with('{'))
        };
        let paths = self.document["paths"].as_object().unwrap();
        let template = paths.keys().find(|template| fits(template))?;
        paths[template].get(method.to_lowercase())?;
        Some(format!("{method} {template}"))
    }

    /// Asks for one value.
    pub async fn number(&self, sql: &str) -> i64 {
        self.watch.query_one(sql, &[]).await.unwrap().get(0)
    }

    pub async fn run(&self, sql: &str) {
        self.watch.batch_execute(sql).await.unwrap_or_else(|error| panic!("{sql}: {error:?}"));
    }

    /// Makes every statement that writes acme's repositories wait, until `unblock`.
    pub async fn block(&self) {
        self.blocker.batch_execute("begin; lock table tenant_acme.repositories in share mode").await.unwrap();
    }

    pub async fn unblock(&self) {
        self.blocker.batch_execute("commit").await.unwrap();
    }

    /// Waits until a query of the observer's answers true.
    pub async fn until(&self, sql: &str) {
        let began = Instant::now();
        while !self.watch.query_one(sql, &[]).await.unwrap().get::<_, bool>(0) {
            assert!(began.elapsed() < HANG, "never true: {sql}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

/// Serves on a free port; the service's own description.
pub async fn serve(app: &App, settings: &Settings) -> (u16, Value) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let router = routes::router(app, settings).unwrap();
    let client_time_max = settings.client_time_max;
    tokio::spawn(connections::serve(listener, router, client_time_max, std::future::pending()));
    let document = reqwest::get(format!("http://127.0.0.1:{port}/openapi.json")).await.unwrap();
    (port, serde_json::from_str(&document.text().await.unwrap()).unwrap())
}

async fn send(http: &reqwest::Client, port: u16, ask: &Ask) -> Answer {
    let url = format!("http://127.0.0.1:{port}{}", ask.path);
    let mut request = http.request(ask.method.parse().unwrap(), url);
    if !ask.headers.iter().any(|(name, _)| *name == "host") {
        request = request.header("host", "api.example.com");
    }
    for (name, value) in &ask.headers {
        request = request.header(*name, value);
    }
    let response = request.body(ask.body.clone().unwrap_or_default()).send().await.unwrap();
    let status = response.status().as_u16();
    let text = |value: &reqwest::header::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    let headers = response.headers().iter().map(|(name, value)| (name.to_string(), text(value))).collect();
    Answer { status, headers, text: response.text().await.unwrap() }
}

async fn connect(database: &TestDatabase) -> Client {
    let url = match TestServer::shared().local() {
        Some(local) => local.url(database.name()),
        None => std::env::var(cgk::testing::TEST_DATABASE_URL).unwrap(),
    };
    let mut config: tokio_postgres::Config = url.parse().unwrap();
    let (client, connection) =
        config.dbname(database.name()).application_name("observer").connect(NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}

/// What waits for a lock or for a connection is answered when it has it.
fn patient(config: Config) -> Config {
    let mut session = config.session().clone();
    session.lock_timeout = LATER;
    session.statement_timeout = LATER;
    session.idle_in_transaction_timeout = LATER;
    config.with_session(session).with_pool_wait(LATER)
}

pub async fn must_end<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(HANG, future).await.expect("it hangs")
}
