//! A database with two tenants that differ, one that is suspended and one that is being set up, and a service's login.

use crate::bouncer::Bouncer;
use cgk::{
    config::TargetHost,
    ident::DatabaseTag,
    login::{self, LoginOptions, PasswordChange},
    testing::{TestDatabase, TestServer},
};
use tokio_postgres::{Client, NoTls};

/// How a client reaches the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Route {
    Direct,
    /// Through PgBouncer in transaction mode.
    Pooler,
}

/// `acme`'s table `marks` has the columns (tag, n), `globex`'s (n, tag); both have a table over a type of their own. Row 0
/// says whose it is. There is no `public.marks`.
pub(crate) struct Stage {
    admin: Client,
    database: TestDatabase,
    pub(crate) login: String,
    pub(crate) password: String,
    socket: (String, u16),
    bouncer: Option<Bouncer>,
    pub(crate) route: Route,
}

impl Stage {
    pub(crate) async fn set(route: Route) -> Self {
        let database = TestServer::shared().set_up_database().await.unwrap();
        let login = format!("app_{}", DatabaseTag::of(database.name()).as_str());
        let operator = database.operator().await.unwrap();
        let mut options = LoginOptions::default();
        options.password = PasswordChange::New;
        let admission = login::admit(&operator, &login.parse().unwrap(), &options).await.unwrap();
        let password = admission.password.expect("this run has set the password").reveal().to_owned();
        database.with_tenants(&["acme", "globex", "sleepy", "newcomer"]).await.unwrap();
        let [TargetHost::Socket { directory, port }] = database.config().target().hosts() else {
            panic!("this test wants the private server, and CGK_TEST_DATABASE_URL names another");
        };
        let socket = (directory.clone(), *port);
        let bouncer = match route {
            Route::Direct => None,
            Route::Pooler => Some(Bouncer::start(&socket, &[&login, "postgres"]).await),
        };
        let url = TestServer::shared().local().expect("this test wants the private server").url(database.name());
        let (admin, connection) = tokio_postgres::connect(&url, NoTls).await.unwrap();
        tokio::spawn(connection);
        let stage = Self { admin, database, login, password, socket, bouncer, route };
        stage
            .admin(
                "create table tenant_acme.marks (tag text, n int primary key);
                 create table tenant_globex.marks (n int primary key, tag text);
                 insert into tenant_acme.marks (tag, n) values ('acme', 0);
                 insert into tenant_globex.marks (tag, n) values ('globex', 0);
                 create type tenant_acme.mood as enum ('calm'); create type tenant_globex.mood as enum ('calm', 'loud');
                 create table tenant_acme.moods (mood tenant_acme.mood); create table tenant_globex.moods (mood tenant_globex.mood);
                 insert into tenant_acme.moods values ('calm'); insert into tenant_globex.moods values ('loud');
                 update organizations set status = 'suspended' where slug = 'sleepy';
                 update organizations set status = 'onboarding' where slug = 'newcomer'",
            )
            .await;
        stage
    }

    #[expect(clippy::disallowed_methods, reason = "a session outside of the library")]
    pub(crate) async fn admin(&self, sql: &str) {
        self.admin.batch_execute(sql).await.unwrap_or_else(|error| panic!("{sql}: {error:?}"));
    }

    pub(crate) fn database(&self) -> &str {
        self.database.name()
    }

    /// Host and port of the route.
    pub(crate) fn address(&self) -> (String, u16) {
        match &self.bouncer {
            Some(bouncer) => ("127.0.0.1".into(), bouncer.port()),
            None => self.socket.clone(),
        }
    }

    /// The way of an administrator, past the pooler.
    pub(crate) fn admin_url(&self) -> String {
        let (host, port) = &self.socket;
        format!("postgresql://postgres@/{}?host={host}&port={port}", self.database())
    }
}
