//! What the tests stand on: two active tenants and a suspended one, each with notes of its own, credentials for each, the
//! pool of a service's login, and an observer outside of the library.

use axum::{Router, body::Body};
use cgk::{
    Config, Db, Operator, OrganizationId,
    auth::{Auth, AuthSettings, ClientInfo, NewApiKey, NewUser, UserRole},
    config::SessionSettings,
    ident::DatabaseTag,
    login::{self, LoginOptions, PasswordChange, SharedTables},
    request::TenantRules,
    resolver::{Resolver, ResolverSettings},
    testing::{TEST_DATABASE_URL, TestDatabase, TestServer},
};
use http::{HeaderMap, Request, StatusCode};
use serde_json::Value;
use std::{
    collections::HashMap,
    future::Future,
    time::{Duration, Instant},
};
use tokio_postgres::{Client, NoTls};
use tower::ServiceExt as _;

/// What has not ended by now hangs. No test measures by it.
pub(crate) const HANG: Duration = Duration::from_secs(120);
/// A limit of the server's or the pool's that comes later.
const LATER: Duration = Duration::from_secs(600);

/// The tenants, the ids of their notes, and a text that stands in each of them.
pub(crate) const TENANTS: [(&str, i64, &str); 3] =
    [("acme", 1001, "note of acme"), ("globex", 2002, "note of globex"), ("dormant", 3003, "note of dormant")];

/// The credentials of a tenant.
pub(crate) struct Credentials {
    pub(crate) organization: OrganizationId,
    /// The session of an owner, `owner@<slug>.example`.
    pub(crate) session: String,
    /// The session of a member.
    pub(crate) member: String,
    pub(crate) key: String,
}

pub(crate) struct Stage {
    /// Of the service's login.
    pub(crate) db: Db,
    pub(crate) resolver: Resolver,
    pub(crate) of: HashMap<&'static str, Credentials>,
    watch: Client,
    _database: TestDatabase,
}

impl Stage {
    pub(crate) async fn set() -> Self {
        Self::set_with_pool(4).await
    }

    pub(crate) async fn set_with_pool(size: usize) -> Self {
        Self::set_with(|config| config.with_pool_size_max(size)).await
    }

    pub(crate) async fn set_with(adjust: impl FnOnce(Config) -> Config) -> Self {
        let database = TestServer::shared().set_up_database().await.unwrap();
        database.with_tenants(&TENANTS.map(|(slug, ..)| slug)).await.unwrap();
        let watch = connect(&database).await;
        for (slug, id, text) in TENANTS {
            let notes = format!(
                "create table tenant_{slug}.notes (id bigint primary key, body text not null check (body <> 'forbidden'));
                 insert into tenant_{slug}.notes values ({id}, '{text}')"
            );
            run(&watch, &notes).await;
        }
        let db: Db = Db::connect(&adjust(patient(&app_login(&database).await))).await.unwrap();
        let auth = Auth::new(&db, AuthSettings::default());
        let mut of = HashMap::new();
        for (slug, ..) in TENANTS {
            of.insert(slug, credentials(&auth, &db, slug).await);
        }
        run(&watch, "update public.organizations set status = 'suspended' where slug = 'dormant'").await;
        let resolver = Resolver::new(&auth, ResolverSettings::default());
        Self { db, resolver, of, watch, _database: database }
    }

    pub(crate) async fn number(&self, sql: &str) -> i64 {
        self.watch.query_one(sql, &[]).await.unwrap().get(0)
    }

    pub(crate) async fn run(&self, sql: &str) {
        run(&self.watch, sql).await;
    }

    /// Waits until a query of the observer's answers true.
    pub(crate) async fn until(&self, sql: &str) {
        let began = Instant::now();
        while !self.watch.query_one(sql, &[]).await.unwrap().get::<_, bool>(0) {
            assert!(began.elapsed() < HANG, "never true: {sql}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

pub(crate) fn rules() -> TenantRules {
    TenantRules::new()
        .bearer_token()
        .api_key_header("x-api-key")
        .and_then(|rules| rules.subdomain_of("example.com"))
        .and_then(|rules| rules.host_without_tenant("api.example.com"))
        .and_then(|rules| rules.trusted_header("x-tenant"))
        .unwrap()
}

async fn credentials(auth: &Auth, db: &Db, slug: &str) -> Credentials {
    let organization = db.platform().find_tenant(&slug.parse().unwrap()).await.unwrap().id;
    let session = async |name: &str, role| {
        let user = NewUser::active(&format!("{name}@{slug}.example")).role(role);
        let user = auth.users().create(organization, &user).await.unwrap();
        let (_, token) = auth.sessions().issue(organization, user.id, &ClientInfo::default()).await.unwrap();
        token.reveal().to_owned()
    };
    let (_, key) = auth.api_keys().create(organization, &NewApiKey::named("program")).await.unwrap();
    Credentials {
        organization,
        session: session("owner", UserRole::Owner).await,
        member: session("member", UserRole::Member).await,
        key: key.reveal().to_owned(),
    }
}

/// A login as a service's should be: no superuser, nothing of its own. It is dropped with the database.
async fn app_login(database: &TestDatabase) -> Config {
    let operator = Operator::connect(&patient(database.config())).await.unwrap();
    let name = format!("app_{}", DatabaseTag::of(database.name()).as_str()).parse().unwrap();
    let mut options = LoginOptions::default();
    options.shared_tables = Some(SharedTables::All);
    options.password = PasswordChange::New;
    let admission = login::admit(&operator, &name, &options).await.unwrap();
    let password = admission.password.as_ref().unwrap().reveal();
    Config::from_url(&database.config().url_of(admission.name.as_str(), Some(password))).unwrap()
}

fn patient(config: &Config) -> Config {
    let session = SessionSettings {
        lock_timeout: LATER,
        statement_timeout: LATER,
        idle_in_transaction_timeout: LATER,
        migration_wait: LATER,
        ..config.session().clone()
    };
    config.clone().with_session(session).with_pool_wait(LATER)
}

async fn connect(database: &TestDatabase) -> Client {
    let url = match TestServer::shared().local() {
        Some(local) => local.url(database.name()),
        None => std::env::var(TEST_DATABASE_URL).unwrap(),
    };
    let mut config: tokio_postgres::Config = url.parse().unwrap();
    let (client, connection) =
        config.dbname(database.name()).application_name("observer").connect(NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}

#[expect(clippy::disallowed_methods, reason = "the observer's session is not the library's")]
async fn run(client: &Client, sql: &str) {
    client.batch_execute(sql).await.unwrap_or_else(|error| panic!("{sql}: {error:?}"));
}

/// An answer, read to its end.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) text: String,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// A header as text; empty where there is none.
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }
}

/// Asks a router, and reads the whole answer.
pub(crate) async fn ask(app: &Router, request: http::request::Builder, body: &str) -> Answer {
    let request: Request<Body> = request.body(Body::from(body.to_owned())).unwrap();
    must_end(async {
        let response = app.clone().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let bytes = axum::body::to_bytes(body, 1 << 20).await.unwrap();
        let text = String::from_utf8(bytes.to_vec()).unwrap();
        Answer { status: parts.status.as_u16(), headers: parts.headers, text }
    })
    .await
}

/// `GET` on the host that names no tenant, with a bearer token.
pub(crate) async fn get(app: &Router, path: &str, token: &str) -> Answer {
    ask(app, bearer(path, token), "").await
}

pub(crate) fn bearer(path: &str, token: &str) -> http::request::Builder {
    Request::get(path).header("host", "api.example.com").header("authorization", format!("Bearer {token}"))
}

pub(crate) async fn must_end<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(HANG, future).await.expect("it hangs")
}

/// Checks that an answer is a problem of RFC 9457 whose id is that of the request, and returns its detail.
pub(crate) fn problem(answer: &Answer, status: u16) -> String {
    assert_eq!(answer.status, status, "{answer:?}");
    assert_eq!(answer.header("content-type"), "application/problem+json", "{answer:?}");
    let json = answer.json();
    assert_eq!(json["status"], status);
    assert_eq!(json["type"], "about:blank");
    assert_eq!(json["title"], StatusCode::from_u16(status).unwrap().canonical_reason().unwrap());
    assert_eq!(json["request_id"], answer.header("x-request-id"), "{answer:?}");
    assert!(!answer.header("x-request-id").is_empty());
    assert_eq!(answer.header("www-authenticate"), if status == 401 { "Bearer" } else { "" });
    assert_eq!(answer.header("retry-after"), if status == 503 { "1" } else { "" });
    let members: Vec<&str> = json.as_object().unwrap().keys().map(String::as_str).collect();
    let known = ["type", "title", "status", "detail", "code", "request_id"];
    assert!(members.iter().all(|member| known.contains(member)), "{members:?}");
    json["detail"].as_str().unwrap_or_default().to_owned()
}
