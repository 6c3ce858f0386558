//! A service's side: an application error type, handlers that are given the tenant, and what each error is to a caller.
//!
//! `DATABASE_URL=… cargo run --example service -- acme`, on a database in which `cgk tenant:create acme` was run.
#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use cgk::{Config, Db, ErrorKind, FromRow, Statements, TenantSlug, tokio_postgres};

/// The application's error. `Db::errors` fixes it once, so that no closure has to name it, and `?` makes it of whatever the
/// handlers call.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AppError {
    #[error(transparent)]
    Database(#[from] cgk::Error),
    #[error("the request is no JSON of a customer: {0}")]
    Body(#[from] serde_json::Error),
    #[error("there is no tenant {0:?}")]
    Tenant(#[from] cgk::InvalidSlug),
}

impl AppError {
    /// The status of HTTP. What an error means for a caller is decided by its kind and its constraint, never by its text.
    pub(crate) fn status(&self) -> u16 {
        match self {
            Self::Body(_) => 400,
            Self::Tenant(_) => 404,
            Self::Database(error) if error.constraint().is_some() => 409,
            Self::Database(error) if error.is_retryable() => 503,
            Self::Database(error) => match error.kind() {
                ErrorKind::NotFound => 404,
                ErrorKind::Suspended => 403,
                ErrorKind::NotReady | ErrorKind::Unavailable | ErrorKind::Locked => 503,
                _ => 500,
            },
        }
    }
}

#[derive(Debug, serde::Deserialize)]
struct NewCustomer {
    email: String,
}

#[derive(Debug, PartialEq)]
pub(crate) struct Customer {
    pub(crate) email: String,
}

impl FromRow for Customer {
    fn from_row(row: &tokio_postgres::Row) -> Result<Self, tokio_postgres::Error> {
        Ok(Self { email: row.try_get("email")? })
    }
}

/// What the handlers share.
#[derive(Clone)]
pub(crate) struct App {
    db: Db<AppError>,
}

impl App {
    pub(crate) async fn connect(config: &Config) -> Result<Self, cgk::Error> {
        Ok(Self { db: Db::connect(config).await?.errors() })
    }

    /// `GET /health`
    pub(crate) async fn health(&self) -> u16 {
        if self.db.ping().await.is_ok() { 200 } else { 503 }
    }

    /// `GET /customers`, for the tenant that the host or a header names: one statement, one round trip.
    pub(crate) async fn customers(&self, tenant: &str) -> Result<Vec<Customer>, AppError> {
        let tenant: TenantSlug = tenant.parse()?;
        self.db.tenant(&tenant).query_as("select email from customers order by email", &[]).await
    }

    /// `POST /customers`: everything in the closure is committed together, or nothing.
    pub(crate) async fn add_customer(&self, tenant: &str, body: &str) -> Result<i64, AppError> {
        let tenant: TenantSlug = tenant.parse()?;
        self.db
            .with_tenant(&tenant, async |tx| {
                let new: NewCustomer = serde_json::from_str(body)?;
                tx.execute("insert into customers (email) values ($1)", &[&new.email]).await?;
                Ok(count(tx).await?)
            })
            .await
    }
}

/// A helper that takes a tenant's transaction or the platform's.
async fn count(tx: &impl Statements) -> cgk::Result<i64> {
    Ok(tx.query_one("select count(*) from customers", &[]).await?.try_get(0)?)
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let tenant = std::env::args().nth(1).ok_or("usage: service TENANT")?;
    let app = App::connect(&Config::load()?).await?;
    for body in ["{\"email\": \"ada@example.com\"}", "{\"email\": \"ada@example.com\"}", "{"] {
        match app.add_customer(&tenant, body).await {
            Ok(customers) => println!("201: {customers} customers"),
            Err(error) => println!("{}: {error}", error.status()),
        }
    }
    println!("{:?}", app.customers(&tenant).await?);
    println!("health: {}", app.health().await);
    Ok(())
}
