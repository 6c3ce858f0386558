//! `cgk.toml`.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::dotenv::line_of;
use super::error::{ConfigError, ValueProblem};
use super::ignore::IgnoreRule;
use super::origin::Origin;
use super::settings::Isolation;
use super::value::Span;
use super::{options, show};

/// The file name in the working directory.
pub(super) const NAME: &str = "cgk.toml";

/// The settings of `cgk.toml`.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct FileSettings {
    /// It has no password, because the file is usually under version control.
    pub(super) database_url: Option<String>,
    pub(super) database_url_file: Option<PathBuf>,
    pub(super) direct_url: Option<String>,
    pub(super) direct_url_file: Option<PathBuf>,
    pub(super) migrations: Option<PathBuf>,
    pub(super) isolation: Option<Isolation>,
    pub(super) search_path: Option<Vec<String>>,
    pub(super) pooled: Option<bool>,
    #[serde(default)]
    pub(super) session: SessionSection,
    #[serde(default)]
    pub(super) pool: PoolSection,
    #[serde(default)]
    pub(super) drift: DriftSection,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct DriftSection {
    #[serde(default)]
    pub(super) ignore: Vec<IgnoreRule>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SessionSection {
    pub(super) application_name: Option<String>,
    pub(super) lock_timeout: Option<Span>,
    pub(super) statement_timeout: Option<Span>,
    pub(super) migration_statement_timeout: Option<Span>,
    pub(super) migration_wait: Option<Span>,
    pub(super) idle_in_transaction_timeout: Option<Span>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PoolSection {
    pub(super) size_max: Option<usize>,
    pub(super) tenant_connections_max: Option<usize>,
    pub(super) wait: Option<Span>,
    pub(super) connection_age_max: Option<Span>,
    pub(super) tenants_per_connection_max: Option<usize>,
    pub(super) descriptions_max: Option<usize>,
}

/// A `cgk.toml` that was read, or its absence.
#[derive(Default)]
pub(super) struct ConfigFile {
    pub(super) path: PathBuf,
    pub(super) settings: FileSettings,
}

impl ConfigFile {
    /// Reads `cgk.toml` in `directory`. The file is optional.
    pub(super) fn find(directory: &Path) -> Result<ConfigFile, ConfigError> {
        let path = directory.join(NAME);
        match fs::read_to_string(&path) {
            Ok(text) => ConfigFile::parse(path, &text),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(ConfigFile::default()),
            Err(error) => Err(unreadable(&path, error).of(NAME, None)),
        }
    }

    /// Reads a configuration file that was named explicitly. It must exist.
    pub(super) fn read(path: PathBuf, named_by: Origin) -> Result<ConfigFile, ConfigError> {
        match fs::read_to_string(&path) {
            Ok(text) => ConfigFile::parse(path, &text),
            Err(error) => Err(unreadable(&path, error).of(NAME, Some(named_by))),
        }
    }

    /// Returns the directory that paths in the file are relative to.
    pub(super) fn directory(&self) -> &Path {
        self.path.parent().unwrap_or(Path::new(""))
    }

    pub(super) fn origin(&self, key: &'static str) -> Origin {
        Origin::File { path: self.path.clone(), key }
    }

    fn parse(path: PathBuf, text: &str) -> Result<ConfigFile, ConfigError> {
        match toml::from_str(text) {
            Ok(settings) => Ok(ConfigFile { path, settings }),
            Err(error) => {
                let offset = error.span().map_or(0, |span| span.start);
                let key = key_at(text, offset).unwrap_or(NAME);
                let line = line_of(text.as_bytes(), offset);
                Err(ValueProblem::invalid(
                    without_values(error.message()),
                    "Correct the line; docs/reference.md lists all settings.",
                )
                .of(key, Some(Origin::Line { path, line })))
            }
        }
    }
}

fn unreadable(path: &Path, error: std::io::Error) -> ValueProblem {
    ValueProblem::unreadable(
        format!("could not read {}", path.display()),
        "Correct the path, or make the file readable.",
    )
    .because(error)
}

/// Returns the key on the line of an error, with its section, if it is a known key. Other texts are not shown: in a
/// multi-line string, a text that looks like a key may be part of a secret.
fn key_at(text: &str, offset: usize) -> Option<&'static str> {
    const TOP: [&str; 8] = [
        "database_url",
        "database_url_file",
        "direct_url",
        "direct_url_file",
        "migrations",
        "isolation",
        "search_path",
        "pooled",
    ];
    let start = text.get(..offset)?.rfind('\n').map_or(0, |newline| newline + 1);
    let key = text[start..].lines().next()?.split_once('=')?.0.trim();
    let sections = text[..start].lines().map(str::trim);
    let section = sections.filter_map(|line| line.strip_prefix('[')?.split(']').next()).next_back();
    let full = section.map_or_else(|| key.to_owned(), |section| format!("{section}.{key}"));
    TOP.iter().chain(&show::SESSION).chain(&show::POOL).copied().find(|known| *known == full)
}

/// Whether a value is more likely a misspelled word, such as `rol`, than a password.
fn is_short_word(value: &str) -> bool {
    value.len() <= 8 && value.chars().all(|c| c.is_ascii_lowercase())
}

/// Removes values from the parser's message and puts it on one line. A value may be a URL with its password.
fn without_values(message: &str) -> String {
    let message = match (message.find('"'), message.rfind('"')) {
        (Some(first), Some(last)) if first < last => format!("{}\"…\"{}", &message[..first], &message[last + 1..]),
        _ => message.to_owned(),
    };
    let is_variant = message.starts_with("unknown variant");
    let pieces = message.split('`').enumerate().map(|(index, piece)| {
        let is_quoted = index % 2 == 1;
        let is_value = is_variant && index == 1;
        let is_shown = if is_value { is_short_word(piece) } else { options::is_word(piece) };
        if is_quoted && !is_shown { "…" } else { piece }
    });
    pieces.collect::<Vec<_>>().join("`").split_whitespace().collect::<Vec<_>>().join(" ")
}
