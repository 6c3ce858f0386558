//! The errors of a configuration.

use std::borrow::Cow;
use std::error::Error;
use std::fmt;

use super::origin::Origin;

/// Why a configuration was not accepted.
///
/// The message is one lower-case line that names the setting, the source of its value and the problem. `Debug`, which an
/// error that `main` returns is printed with, is that line with its causes and the advice.
/// [`advice`](ConfigError::advice) is a sentence that says what to do. Neither contains the connection URL, a password,
/// or a line of a file that may contain a password.
#[derive(thiserror::Error)]
#[error("{details}")]
pub struct ConfigError {
    details: Box<Details>,
    #[source]
    source: Option<Box<dyn Error + Send + Sync>>,
}

struct Details {
    kind: ConfigErrorKind,
    setting: Cow<'static, str>,
    origin: Option<Origin>,
    problem: String,
    advice: String,
}

/// The kinds of [`ConfigError`], for callers that react to one of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ConfigErrorKind {
    /// No connection URL was given.
    MissingUrl,
    /// A file that the configuration names could not be read.
    Unreadable,
    /// A value does not have the format that its setting requires.
    Invalid,
    /// A value is well-formed, but cgk refuses to use it.
    Refused,
    /// DDL was requested, and the only address is a transaction pooler.
    Pooler,
}

impl ConfigError {
    /// Returns the setting's name as it is written in `cgk.toml`, such as `database_url` or `pool.size_max`.
    pub fn setting(&self) -> &str {
        &self.details.setting
    }

    /// Returns where the value came from, when the error is about a value.
    pub fn origin(&self) -> Option<&Origin> {
        self.details.origin.as_ref()
    }

    /// Returns the problem, without the setting's name.
    pub fn problem(&self) -> &str {
        &self.details.problem
    }

    /// Returns what to do about it, as a sentence.
    pub fn advice(&self) -> &str {
        &self.details.advice
    }

    /// Returns the kind of the error.
    pub fn kind(&self) -> ConfigErrorKind {
        self.details.kind
    }

    /// Returns whether the only problem is that no connection URL was given.
    pub fn is_missing_url(&self) -> bool {
        self.kind() == ConfigErrorKind::MissingUrl
    }
}

impl fmt::Debug for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.details)?;
        for cause in std::iter::successors(self.source(), |&cause| cause.source()) {
            write!(f, ": {cause}")?;
        }
        write!(f, ". {}", self.advice())
    }
}

impl fmt::Display for Details {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.origin {
            Some(origin) => write!(f, "{} ({origin}): {}", self.setting, self.problem),
            None => write!(f, "{}: {}", self.setting, self.problem),
        }
    }
}

/// A problem with a value, before the setting is known.
#[derive(Debug)]
pub(crate) struct ValueProblem {
    kind: ConfigErrorKind,
    what: String,
    advice: String,
    source: Option<Box<dyn Error + Send + Sync>>,
}

impl ValueProblem {
    pub(crate) fn new(kind: ConfigErrorKind, what: impl Into<String>, advice: impl Into<String>) -> ValueProblem {
        ValueProblem { kind, what: what.into(), advice: advice.into(), source: None }
    }

    pub(crate) fn invalid(what: impl Into<String>, advice: impl Into<String>) -> ValueProblem {
        ValueProblem::new(ConfigErrorKind::Invalid, what, advice)
    }

    pub(crate) fn refused(what: impl Into<String>, advice: impl Into<String>) -> ValueProblem {
        ValueProblem::new(ConfigErrorKind::Refused, what, advice)
    }

    pub(crate) fn unreadable(what: impl Into<String>, advice: impl Into<String>) -> ValueProblem {
        ValueProblem::new(ConfigErrorKind::Unreadable, what, advice)
    }

    pub(crate) fn because(mut self, source: impl Into<Box<dyn Error + Send + Sync>>) -> ValueProblem {
        self.source = Some(source.into());
        self
    }

    /// Adds the setting that the value belongs to and the source of the value.
    pub(crate) fn of(self, setting: impl Into<Cow<'static, str>>, origin: Option<Origin>) -> ConfigError {
        let ValueProblem { kind, what: problem, advice, source } = self;
        ConfigError { details: Box::new(Details { kind, setting: setting.into(), origin, problem, advice }), source }
    }
}
