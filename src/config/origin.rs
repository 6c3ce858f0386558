//! The source of a setting's value.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

/// The source of a setting's value.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Origin {
    /// A command-line flag, named with its dashes.
    Flag(&'static str),
    /// A variable of the process's environment.
    Environment(&'static str),
    /// A variable in a `.env` file.
    DotEnv {
        /// The file.
        path: PathBuf,
        /// The variable.
        variable: &'static str,
    },
    /// A key of `cgk.toml`.
    File {
        /// The file.
        path: PathBuf,
        /// The key, with its section: `pool.size_max`.
        key: &'static str,
    },
    /// A line of a file that cannot be parsed.
    Line {
        /// The file.
        path: PathBuf,
        /// The line, counted from 1.
        line: usize,
    },
    /// An option in the connection URL, such as `pgbouncer`.
    Url(&'static str),
    /// The program: [`Config::from_url`](super::Config::from_url) or one of the `with_` methods.
    Code,
    /// Another setting that determines this one.
    FollowsFrom(&'static str),
    /// No source sets it.
    Default,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::Flag(flag) => write!(f, "flag {flag}"),
            Origin::Environment(variable) => write!(f, "environment variable {variable}"),
            Origin::DotEnv { path, variable } => write!(f, "{variable} in {}", path.display()),
            Origin::File { path, key } => write!(f, "{}: {key}", path.display()),
            Origin::Line { path, line } => write!(f, "{}, line {line}", path.display()),
            Origin::Url(option) => write!(f, "{option} in the connection URL"),
            Origin::FollowsFrom(setting) => write!(f, "from {setting}"),
            Origin::Code => f.write_str("code"),
            Origin::Default => f.write_str("default"),
        }
    }
}

/// One setting for display: its name, its value and the source of the value.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SettingOrigin {
    /// The name as it is written in `cgk.toml`.
    pub name: &'static str,
    /// The value, or `None` when there is none. Passwords are shown as `***`.
    pub value: Option<String>,
    /// The source of the value.
    pub origin: Origin,
}

/// The sources of the settings that do not have their default.
#[derive(Clone, Debug, Default)]
pub(super) struct Origins(BTreeMap<&'static str, Origin>);

impl Origins {
    pub(super) fn set(&mut self, name: &'static str, origin: Origin) {
        self.0.insert(name, origin);
    }

    /// Adds all entries of `others`.
    pub(super) fn absorb(&mut self, others: Origins) {
        self.0.extend(others.0);
    }

    pub(super) fn get(&self, name: &'static str) -> Origin {
        self.0.get(name).cloned().unwrap_or(Origin::Default)
    }
}
