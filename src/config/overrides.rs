//! The command-line flags, which have precedence over every other source.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use super::settings::{Isolation, Pooling, RemotePlaintext};
use super::{ConfigError, Origin, value};

/// The settings that were given as flags. `None`: the flag was not given.
///
/// Do not let the argument parser read environment variables into these:
/// [`Config::load_with`](super::Config::load_with) reads them itself, so that it knows the source of each value.
#[derive(Clone, Default)]
#[non_exhaustive]
pub struct Overrides {
    /// `--database-url`. Every user of the machine can see it in the process list.
    pub database_url: Option<String>,
    /// `--database-url-file`: a file that contains only the connection URL.
    pub database_url_file: Option<PathBuf>,
    /// `--config`: a configuration file instead of `cgk.toml` in the working directory.
    pub config_file: Option<PathBuf>,
    /// `--migrations`.
    pub migrations: Option<PathBuf>,
    /// `--insecure-plaintext`.
    pub remote_plaintext: Option<RemotePlaintext>,
    /// `--isolation`.
    pub isolation: Option<Isolation>,
    /// `--pooled`.
    pub pooling: Option<Pooling>,
    /// `--lock-timeout`.
    pub lock_timeout: Option<Duration>,
    /// `--statement-timeout`.
    pub statement_timeout: Option<Duration>,
}

impl Overrides {
    /// Reads `--lock-timeout`: a whole number and its unit, such as `500ms`, `3s` or `5min`.
    ///
    /// # Errors
    ///
    /// [`Invalid`](super::ConfigErrorKind::Invalid) if the text is not a time.
    pub fn with_lock_timeout(mut self, text: &str) -> Result<Overrides, ConfigError> {
        let flag = Origin::Flag("--lock-timeout");
        let read = value::duration(text).map_err(|problem| problem.of("session.lock_timeout", Some(flag)))?;
        self.lock_timeout = Some(read);
        Ok(self)
    }
}

impl fmt::Debug for Overrides {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Overrides")
            .field("database_url", &self.database_url.as_ref().map(|_| "***"))
            .field("database_url_file", &self.database_url_file)
            .field("config_file", &self.config_file)
            .field("migrations", &self.migrations)
            .field("remote_plaintext", &self.remote_plaintext)
            .field("isolation", &self.isolation)
            .field("pooling", &self.pooling)
            .field("lock_timeout", &self.lock_timeout)
            .field("statement_timeout", &self.statement_timeout)
            .finish()
    }
}
