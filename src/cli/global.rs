//! The flags of every command.

use cgk::config::{ConfigError, Isolation, Overrides, RemotePlaintext};
use clap::{Args, ValueEnum};
use std::path::PathBuf;

use super::ui::printer::{Format, Volume};

#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Global options")]
pub(crate) struct Globals {
    /// Connection URL; other users of this machine can see it in the process list: prefer DATABASE_URL
    #[arg(long, global = true, value_name = "URL", hide_short_help = true, allow_hyphen_values = true)]
    database_url: Option<String>,
    /// File that contains only the connection URL
    #[arg(long, global = true, value_name = "FILE", hide_short_help = true)]
    database_url_file: Option<PathBuf>,
    /// Configuration file instead of ./cgk.toml
    #[arg(long, global = true, value_name = "FILE", hide_short_help = true)]
    config: Option<PathBuf>,
    /// Folder with public/ and tenant/, instead of the bundled migrations
    #[arg(long, global = true, value_name = "DIR")]
    migrations: Option<PathBuf>,
    /// How tenants are isolated: one role per tenant, or only the search path
    #[arg(long, global = true, value_name = "HOW", hide_short_help = true)]
    isolation: Option<IsolationArg>,
    /// How long a statement waits for a lock, for example 500ms or 3s
    #[arg(long, global = true, value_name = "TIME", hide_short_help = true)]
    lock_timeout: Option<String>,
    /// Allow connections to another machine without TLS
    #[arg(long, global = true, hide_short_help = true)]
    insecure_plaintext: bool,
    /// Print results as JSON; the same as --format json
    #[arg(long, global = true, conflicts_with = "format")]
    json: bool,
    /// Output format: text, JSON, or text with annotations for GitHub Actions
    #[arg(long, global = true, value_name = "FORMAT", hide_short_help = true)]
    format: Option<FormatArg>,
    /// Print only results and errors
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    quiet: bool,
    /// Print more; -vv and -vvv also show the library's log
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    verbose: u8,
    /// Do not print DETAIL and HINT of server errors; they can contain row values
    #[arg(long, global = true, hide_short_help = true)]
    pub(crate) no_detail: bool,
    /// When to use colors
    #[arg(long, global = true, value_name = "WHEN", default_value = "auto", hide_short_help = true)]
    pub(crate) color: ColorArg,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum IsolationArg {
    Role,
    Path,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum FormatArg {
    Text,
    Json,
    Github,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum ColorArg {
    Auto,
    Always,
    Never,
}

impl From<ColorArg> for anstream::ColorChoice {
    fn from(color: ColorArg) -> Self {
        match color {
            ColorArg::Auto => Self::Auto,
            ColorArg::Always => Self::Always,
            ColorArg::Never => Self::Never,
        }
    }
}

impl Globals {
    /// Returns the flags for the library. The library itself reads the variables, so that it knows the source of each
    /// value.
    pub(crate) fn overrides(&self) -> Result<Overrides, ConfigError> {
        let mut overrides = Overrides::default();
        overrides.database_url.clone_from(&self.database_url);
        overrides.database_url_file.clone_from(&self.database_url_file);
        overrides.config_file.clone_from(&self.config);
        overrides.migrations.clone_from(&self.migrations);
        overrides.isolation = self.isolation.map(|isolation| match isolation {
            IsolationArg::Role => Isolation::Role,
            IsolationArg::Path => Isolation::Path,
        });
        overrides.remote_plaintext = self.insecure_plaintext.then_some(RemotePlaintext::Allow);
        match &self.lock_timeout {
            Some(text) => overrides.with_lock_timeout(text),
            None => Ok(overrides),
        }
    }

    /// Returns the flags that define the database, as variables for a child process, because other users could read its
    /// arguments.
    #[cfg(feature = "demo")]
    pub(crate) fn as_environment(&self) -> Vec<(&'static str, Option<std::ffi::OsString>)> {
        let mut variables = Vec::new();
        if let Some(url) = &self.database_url {
            variables.extend([("DATABASE_URL", Some(url.into())), ("CGK_DATABASE_URL_FILE", None)]);
        }
        if let Some(file) = &self.database_url_file {
            variables.extend([("CGK_DATABASE_URL_FILE", Some(file.into())), ("DATABASE_URL", None)]);
        }
        if let Some(file) = &self.config {
            variables.push(("CGK_CONFIG", Some(file.into())));
        }
        if self.insecure_plaintext {
            variables.push(("CGK_INSECURE_PLAINTEXT", Some("1".into())));
        }
        variables
    }

    /// Returns the configuration file, if a flag names one.
    pub(crate) fn config_file(&self) -> Option<&PathBuf> {
        self.config.as_ref()
    }

    pub(crate) fn format(&self) -> Format {
        match (self.json, self.format) {
            (true, _) | (_, Some(FormatArg::Json)) => Format::Json,
            (_, Some(FormatArg::Github)) => Format::Github,
            (_, None | Some(FormatArg::Text)) => Format::Human,
        }
    }

    pub(crate) fn volume(&self) -> Volume {
        match (self.quiet, self.verbose) {
            (true, _) => Volume::Quiet,
            (false, 0) => Volume::Normal,
            (false, _) => Volume::Verbose,
        }
    }

    /// Returns the filter for the library's log.
    pub(crate) fn log_level(&self) -> &'static str {
        match (self.quiet, self.verbose) {
            (true, _) => "error",
            (false, 0) => "cgk=warn",
            (false, 1) => "cgk=info",
            (false, 2) => "cgk=debug",
            (false, _) => "cgk=trace,tokio_postgres=debug",
        }
    }
}
