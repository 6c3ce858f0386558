//! Schema-per-tenant PostgreSQL: create tenant schemas, migrate all of them, and run queries that see only one tenant.
//!
//! Every tenant has its own schema, `tenant_<slug>`, in one database. Shared tables are in `public`, together with the
//! registry of tenants, `public.organizations`. There are three handles:
//!
//! | handle | for | who |
//! |---|---|---|
//! | [`Db`] | a pool; [`Db::with_tenant`] and [`Db::tenant`] run queries as one tenant | services |
//! | [`Operator`] | one direct connection; [`setup`], [`lifecycle::create`] and [`migrate`] change schemas through it | operators, CI |
//! | [`migrate::Migrations`] | the files, read and checked without a database | both |
//!
//! ```no_run
//! use cgk::{Config, Db, Operator, TenantSlug, lifecycle, migrate::{Migrations, Silent}, setup};
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let config = Config::load()?; // DATABASE_URL, .env, cgk.toml
//!
//! // Once, by an operator: the shared schema and a tenant. The command line does the same:
//! // `cgk setup:database`, `cgk tenant:create acme`.
//! let operator = Operator::connect(&config).await?;
//! let migrations = Migrations::load(config.migrations())?;
//! setup::setup(&operator, &migrations, &mut Silent).await?;
//! let db = Db::connect(&config).await?;
//! let acme: TenantSlug = "acme".parse()?;
//! lifecycle::create(&operator, &db, &migrations, &acme, &Default::default()).await?;
//!
//! // On every request, by a service: a transaction that sees acme and nothing else. The handle carries the application's
//! // error type, here with what it takes of cgk's errors.
//! #[derive(Debug, thiserror::Error)]
//! enum AppError {
//!     #[error(transparent)]
//!     Database(#[from] cgk::Error),
//! }
//! let db: Db<AppError> = db.errors();
//! let name = "Ada";
//! let customers: i64 = db
//!     .with_tenant(&acme, async |tx| {
//!         tx.execute("insert into customers (first_name, email) values ($1, 'ada@example.com')", &[&name]).await?;
//!         Ok(tx.query_one("select count(*) from customers", &[]).await?.get(0))
//!     })
//!     .await?;
//! # Ok(()) }
//! ```
//!
//! # Guarantees
//!
//! - In role mode, the default, the transaction runs as the tenant's own role. The database itself denies access to
//!   another tenant's tables, even by their full name.
//! - However a transaction ends (commit, error, panic, a dropped future, a lost connection), it leaves no state on the
//!   connection for the next user, and the next user does not wait for an abandoned statement.
//! - `Ok` means committed. If a statement fails and the closure ignores the error, the transaction returns an error. It
//!   is never rolled back silently.
//! - A schema's migrations and their ledger rows are committed together or not at all.
//!
//! # Features
//!
//! | feature | what it adds |
//! |---|---|
//! | `analytics` (default) | [`analytics`]: the JSON of the template of that name, as types |
//! | `cli` (default) | the program `cgk` and its dependencies; services turn it off with `default-features = false` |
//! | `flags` (default) | [`flags`]: feature flags and usage, on the tables of the template `flags`; turns `platform` on |
//! | `metrics` | counters and histograms through the facade of the crate `metrics`: transactions, the pool, runs over all tenants, requests |
//! | `migrate` (default) | [`setup`], [`lifecycle`], [`migrate`](mod@migrate), [`drift`], [`templates`]: everything that changes schemas or compares them |
//! | `open-feature` | `cgk::flags::FlagProvider`: a provider for the crate `open-feature`; turns `flags` on |
//! | `platform` (default) | [`auth`]: users, sessions, API keys and magic links; [`request`], [`resolver`], [`domains`] and [`ownership`]: find the tenant of a request and check who owns a record; [`provisioning`]: tenants that a service requests; [`platform`]: the members of organizations, the audit record and its actors; services turn it on with `features = ["platform"]` |
//! | `axum` | `cgk::axum`: a layer, extractors and error responses for services on axum 0.8; turns `platform` on |
//! | `demo` (default) | the command `cgk demo`; turns `cli` and `testing` on |
//! | `derive` | [`FromRow`] for structs with `#[derive(FromRow)]` of the crate `postgres-from-row` |
//! | `rate-limit` | `cgk::axum::TenantRateLimit`, a request limit per tenant; turns `axum` on |
//! | `redis` | `cgk::cache`: a cache per tenant, stored in Redis |
//! | `report` | [`report`]: the whole fleet as data and as an HTML page; turns `migrate` on |
//! | `testing` | `cgk::testing`: a temporary private PostgreSQL server and a database per test; turns `migrate` on |
//! | `webhooks` | `cgk::platform::Webhook`: delivers domain events to a URL, signed; turns `platform` on |

#![warn(missing_docs)]
// Without `migrate`, much of the lower layers is unused. The build with all features checks for dead code.
#![cfg_attr(not(feature = "migrate"), allow(dead_code, unreachable_pub, unused_imports))]

#[cfg(feature = "migrate")]
mod access;
#[cfg(feature = "platform")]
mod actor;
#[cfg(feature = "analytics")]
pub mod analytics;
#[cfg(feature = "platform")]
pub mod auth;
#[cfg(feature = "axum")]
pub mod axum;
mod binding;
#[cfg(feature = "redis")]
pub mod cache;
#[cfg(feature = "migrate")]
mod catalogue;
pub mod config;
mod context;
pub(crate) mod db;
#[cfg(feature = "migrate")]
pub mod doctor;
#[cfg(feature = "platform")]
pub mod domains;
#[cfg(feature = "migrate")]
pub mod drift;
mod error;
#[cfg(feature = "flags")]
pub mod flags;
#[cfg(feature = "migrate")]
pub(crate) mod fleet;
#[cfg(feature = "platform")]
mod host;
pub mod ident;
#[cfg(feature = "migrate")]
mod identity;
#[cfg(feature = "migrate")]
pub mod lifecycle;
pub mod lock;
#[cfg(feature = "migrate")]
pub mod migrate;
mod migration;
#[cfg(feature = "platform")]
pub mod ownership;
#[cfg(feature = "platform")]
pub mod platform;
#[cfg(feature = "platform")]
pub mod provisioning;
#[cfg(feature = "platform")]
mod record;
mod registry;
#[cfg(feature = "report")]
pub mod report;
#[cfg(feature = "platform")]
pub mod request;
#[cfg(feature = "platform")]
pub mod resolver;
mod row_check;
mod row_id;
mod search_path;
#[cfg(feature = "platform")]
pub mod secret;
#[cfg(feature = "migrate")]
pub mod setup;
mod slug;
#[cfg(feature = "migrate")]
mod sql;
mod sqlstate;
#[cfg(any(feature = "platform", feature = "redis"))]
mod task;
mod telemetry;
#[cfg(feature = "migrate")]
pub mod templates;
mod tenancy;
mod tenant;
#[cfg(feature = "testing")]
pub mod testing;
#[cfg(feature = "platform")]
mod text;
mod user;
mod version;

#[cfg(feature = "migrate")]
pub use access::login;
pub use config::Config;
pub use context::{InvalidContext, SigningKey, TenantContext};
pub use db::{Operator, ServerFacts};
pub use error::{
    ConnectionError, DriverError, Error, ErrorKind, ExecError, Instead, LedgerProblem, MigrationError, MissingPart,
    ReportError, Result, SeedError, SetupError, TenantError, TransactionError, TransferError,
};
#[cfg(feature = "derive")]
pub use postgres_from_row;
pub use slug::{InvalidSlug, SlugProblem, TenantSlug};
#[cfg(feature = "derive")]
pub use tenancy::Derived;
pub use tenancy::frame;
pub use tenancy::{
    AnyTx, BinaryCopyIn, BinaryCopyOut, ByColumn, Closed, ContextTenant, CopyIn, CopyOut, Db, FromRow, Listener,
    Platform, PlatformFn, PlatformFnMany, PlatformTx, PoolStatus, ReaderFn, ReaderTx, Retry, Rows, Savepoint,
    StatementFuture, Statements, TenantFn, TenantFnMany, TenantHandle, TenantTx, TxOptions, current_tenant,
};
pub use tenant::{InvalidOrganizationId, OrganizationId, StrangeRow, Tenant, TenantStatus};
/// The driver. Parameters, rows and types in this library's interface are its types, so use this version.
pub use tokio_postgres;
pub use user::{ApiKeyId, UserId};

// The documentation tests compile the code of README and guide.
#[cfg(doctest)]
#[doc = include_str!("../docs/setup/DATABASE.md")]
#[doc = include_str!("../README.md")]
#[doc = include_str!("../docs/library.md")]
struct Readme;
#[cfg(all(doctest, feature = "platform"))]
#[doc = include_str!("../docs/service.md")]
struct ServicePage;
#[cfg(all(doctest, feature = "platform"))]
#[doc = include_str!("../docs/platform.md")]
struct PlatformPage;
#[cfg(all(doctest, feature = "analytics"))]
#[doc = include_str!("../docs/templates.md")]
struct TemplatesPage;
#[cfg(all(doctest, feature = "flags"))]
#[doc = include_str!("../docs/flags.md")]
struct FlagsPage;
