//! The start of most commands: the configuration, the migrations, the connection, and a message about the target.

use anyhow::Result;
use cgk::{
    Config, Db, Operator, OrganizationId, Tenant, TenantSlug,
    config::{ConnectionTarget, Isolation, MigrationsFrom, TargetHost, TlsMode},
    migrate::{Migrations, Stop, StopReason},
    platform::Actor,
};
use serde::Serialize;

use super::{
    exit::Exit,
    global::Globals,
    signal::ShutdownSignal,
    ui::{
        printer::Printer,
        style::{FAINT, paint, sanitize},
    },
};

pub(crate) struct Session<'a> {
    pub(crate) globals: &'a Globals,
    pub(crate) printer: &'a Printer,
    pub(crate) shutdown: &'a ShutdownSignal,
}

/// The target of a connection.
#[derive(Serialize)]
pub(crate) struct TargetView {
    host: String,
    database: String,
    user: String,
    server_version: String,
    tls: Option<String>,
}

/// The first record of a command that changes something.
#[derive(Serialize)]
struct StartRecord<'a> {
    event: &'static str,
    v: u32,
    command: &'a str,
    target: TargetView,
    isolation: &'static str,
    migrations: String,
}

impl Session<'_> {
    /// Returns the configuration. Its notices are written to standard error.
    pub(crate) fn config(&self) -> Result<Config> {
        let config = Config::load_with(self.globals.overrides()?)?;
        for notice in config.notices() {
            self.printer.warn(notice);
        }
        Ok(config)
    }

    /// Returns where the migrations come from, according to the settings.
    pub(crate) fn migrations_from(globals: &Globals) -> Result<MigrationsFrom> {
        Ok(MigrationsFrom::load_with(globals.overrides()?)?)
    }

    pub(crate) fn migrations(&self, config: &Config) -> Result<Migrations> {
        Ok(Migrations::load(config.migrations())?)
    }

    /// Opens everything. Files are first, so that their problems are reported before anything is connected.
    pub(crate) async fn open(&self) -> Result<(Config, Migrations, Operator)> {
        let config = self.config()?;
        let migrations = self.migrations(&config)?;
        let operator = Operator::connect(&config).await?;
        self.warn_of_service_login(&operator);
        Ok((config, migrations, operator))
    }

    /// Connects as a service does.
    pub(crate) async fn connect(&self) -> Result<Db> {
        Ok(Db::connect(&self.config()?).await?)
    }

    /// Returns the actor of the command: the audit log names the login.
    pub(crate) fn actor(&self, db: &Db) -> Actor {
        Actor::Operator(db.config().target().user().unwrap_or("unknown").to_owned())
    }

    /// Connects as a service does, and returns the tenant's row in the registry.
    pub(crate) async fn tenant(&self, slug: &str) -> Result<(Db, Tenant)> {
        let slug: TenantSlug = slug.parse()?;
        let db = self.connect().await?;
        let tenant = db.platform().find_tenant(&slug).await?;
        Ok((db, tenant))
    }

    /// Connects as a service does, and returns the organization of a tenant, if one is named.
    pub(crate) async fn organization(&self, slug: Option<&str>) -> Result<(Db, Option<OrganizationId>)> {
        match slug {
            Some(slug) => self.tenant(slug).await.map(|(db, tenant)| (db, Some(tenant.id))),
            None => Ok((self.connect().await?, None)),
        }
    }

    /// Connects as the operator, for a command without migrations.
    pub(crate) async fn operator(&self) -> Result<Operator> {
        let operator = Operator::connect(&self.config()?).await?;
        self.warn_of_service_login(&operator);
        Ok(operator)
    }

    /// Returns the exit code of a run over many tenants. `last` is the error of the last tenant. It decides if the run
    /// ended because the server could not be reached.
    pub(crate) fn exit_of_run(&self, stopped: Option<&Stop>, last: Option<&cgk::Error>, failed: usize) -> Exit {
        match stopped.map(|stop| stop.reason) {
            Some(StopReason::Interrupted) => self.shutdown.exit(),
            Some(StopReason::Unavailable) => last.map_or(Exit::Unavailable, |error| error.kind().into()),
            _ if failed > 0 => Exit::Partial,
            _ => Exit::Done,
        }
    }

    /// Warns about the cause of the refusals that follow.
    pub(crate) fn warn_of_service_login(&self, operator: &Operator) {
        if operator.facts().service_login {
            self.printer.warn(format!(
                "role {} is a login of services; commands need the URL of the operator, the role that ran cgk setup:database",
                sanitize(&operator.facts().role)
            ));
        }
    }

    /// Prints the database, for a command that only reads.
    pub(crate) fn say_database(&self, operator: &Operator) {
        self.printer.info(format!("{} {}", paint(FAINT, "database  "), target(operator)));
    }

    /// Prints the server, database and role, before anything is changed.
    pub(crate) fn introduce(&self, command: &str, operator: &Operator, migrations: &Migrations) {
        let printer = self.printer;
        printer.record(&StartRecord {
            event: "start",
            v: super::JSON_VERSION,
            command,
            target: TargetView::of(operator),
            isolation: isolation(operator.config()),
            migrations: migrations.to_string(),
        });
        printer.info(format!("{} {}", paint(FAINT, "database  "), target(operator)));
        printer.info(format!("{} {migrations}", paint(FAINT, "migrations")));
    }
}

impl TargetView {
    pub(crate) fn of(operator: &Operator) -> Self {
        let facts = operator.facts();
        Self {
            host: host(operator.config().target()),
            database: facts.database.clone(),
            user: facts.role.clone(),
            server_version: facts.version.clone(),
            tls: facts.tls.clone(),
        }
    }
}

/// Returns a text such as `shop on db.example.com:5432 as cgk (PostgreSQL 17.2, TLSv1.3, isolation by role)`.
pub(crate) fn target(operator: &Operator) -> String {
    let facts = operator.facts();
    format!(
        "{} as {} (PostgreSQL {}, {}, isolation by {})",
        place(operator),
        sanitize(&facts.role),
        short_version(&facts.version),
        facts.tls.as_deref().unwrap_or("no TLS"),
        isolation(operator.config()),
    )
}

/// Returns a text such as `shop on db.example.com:5432`.
pub(crate) fn place(operator: &Operator) -> String {
    let host = host(operator.config().target());
    format!("{} on {}", sanitize(&operator.facts().database), sanitize(&host))
}

fn host(target: &ConnectionTarget) -> String {
    target.hosts().iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
}

/// Returns the version without the packager's suffix.
pub(crate) fn short_version(version: &str) -> &str {
    version.split(' ').next().unwrap_or(version)
}

pub(crate) fn isolation(config: &Config) -> &'static str {
    match config.isolation() {
        Isolation::Role => "role",
        Isolation::Path => "path",
    }
}

/// Describes the connection's encryption.
pub(crate) fn encryption(operator: &Operator) -> String {
    match (&operator.facts().tls, operator.config().tls()) {
        (Some(protocol), TlsMode::Verify { .. }) => format!("{protocol}, certificate and host name verified"),
        (Some(protocol), TlsMode::Disable) => protocol.clone(),
        (None, _) if operator.config().target().hosts().iter().all(is_socket) => "none, it is a Unix socket".into(),
        (None, _) => "none".into(),
    }
}

fn is_socket(host: &TargetHost) -> bool {
    matches!(host, TargetHost::Socket { .. })
}
