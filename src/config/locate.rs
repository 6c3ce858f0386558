//! Finds the connection URLs: each is given directly or as the name of a file that contains it.

use std::fs;
use std::path::Path;

use super::address::Address;
use super::env::Sources;
use super::error::{ConfigError, ConfigErrorKind, ValueProblem};
use super::layers::{Layers, SettingNames, SourcedText, names};
use super::libpq_env;
use super::origin::Origin;
use super::overrides::Overrides;
use super::parts::Parts;
use super::pooler::{self, Sign};
use super::settings::RemotePlaintext;

const DATABASE_URL: SettingNames = names("database_url", "DATABASE_URL", "--database-url");
const DATABASE_URL_FILE: SettingNames = names("database_url_file", "CGK_DATABASE_URL_FILE", "--database-url-file");
const DIRECT_URL: SettingNames = names("direct_url", "CGK_DIRECT_URL", "");
const DIRECT_URL_FILE: SettingNames = names("direct_url_file", "CGK_DIRECT_URL_FILE", "");

/// Returns the error for a missing connection URL.
pub(super) fn missing() -> ConfigError {
    ValueProblem::new(
        ConfigErrorKind::MissingUrl,
        "no connection URL was given",
        "Set DATABASE_URL, in the environment or in .env, to postgresql://user:password@host:5432/database.",
    )
    .of(DATABASE_URL.key, None)
}

/// Finds and parses the connection URL.
pub(super) fn database_address(
    overrides: &mut Overrides,
    layers: &mut Layers<'_>,
    sources: &Sources,
    plaintext: RemotePlaintext,
) -> Result<(Address, Origin), ConfigError> {
    let flag = (
        overrides.database_url.take().filter(|url| !url.is_empty()),
        overrides.database_url_file.take().map(|path| path.into_os_string().into_string()),
    );
    let flag_file = match flag.1.transpose() {
        Ok(path) => path.map(|text| SourcedText { text, origin: Origin::Flag(DATABASE_URL_FILE.flag) }),
        Err(_) => {
            let problem = ValueProblem::invalid("is not UTF-8", "Give the file a name that is UTF-8 text.");
            return Err(problem.of(DATABASE_URL_FILE.key, Some(Origin::Flag(DATABASE_URL_FILE.flag))));
        }
    };
    let flag_url = flag.0.map(|text| SourcedText { text, origin: Origin::Flag(DATABASE_URL.flag) });
    let visible =
        flag_url.as_ref().is_some_and(|flag| Parts::parse(&flag.text).is_ok_and(|parts| parts.password.is_some()));
    let found = match one(DATABASE_URL, DATABASE_URL_FILE, flag_url, flag_file, sources.directory())? {
        Some(found) => Some(found),
        None => below_flags(layers, sources, DATABASE_URL, DATABASE_URL_FILE)?,
    };
    let (parts, origin) = match found {
        Some(SourcedText { text, origin }) => (Parts::parse(&text), origin),
        None => {
            let origin = Origin::Environment(libpq_env::STAND_IN);
            match libpq_env::names_a_database(sources) {
                Ok(true) => (Ok(Parts::default()), origin),
                Ok(false) => return Err(missing()),
                Err(problem) => (Err(problem), origin),
            }
        }
    };
    let mut address = parts
        .and_then(|parts| completed(parts, plaintext, sources))
        .map_err(|problem| problem.of(DATABASE_URL.key, Some(origin.clone())))?;
    if visible {
        address.notices.push(
            "every user of this machine can read the password in --database-url; use DATABASE_URL or \
             --database-url-file"
                .into(),
        );
    }
    Ok((address, origin))
}

/// Parses a connection string. Gaps are filled from libpq's environment.
fn completed(mut parts: Parts, plaintext: RemotePlaintext, sources: &Sources) -> Result<Address, ValueProblem> {
    let notices = libpq_env::complete(&mut parts, sources)?;
    let mut address = Address::of(parts, plaintext, sources.directory())?;
    address.notices.extend(notices);
    Ok(address)
}

/// Finds and parses the URL for DDL, if there is one.
pub(super) fn direct_address(
    layers: &mut Layers<'_>,
    sources: &Sources,
    plaintext: RemotePlaintext,
) -> Result<Option<Address>, ConfigError> {
    let Some(SourcedText { text, origin }) = below_flags(layers, sources, DIRECT_URL, DIRECT_URL_FILE)? else {
        return Ok(None);
    };
    let address = Parts::parse(&text).and_then(|parts| completed(parts, plaintext, sources)).and_then(|address| {
        // For an explicitly direct URL, the port is not treated as a sign of a pooler, but a host name is.
        match pooler::detect(&address) {
            Some(pooler) if !matches!(pooler.sign, Sign::Port(_)) => Err(pooler.problem()),
            _ => Ok(address),
        }
    });
    let address = address.map_err(|problem| problem.of(DIRECT_URL.key, Some(origin.clone())))?;
    layers.origins.set(DIRECT_URL.key, origin);
    Ok(Some(address))
}

/// Looks for a URL, or for the name of a file with a URL, in the environment, then in `.env`, then in `cgk.toml`.
fn below_flags(
    layers: &mut Layers<'_>,
    sources: &Sources,
    url: SettingNames,
    file: SettingNames,
) -> Result<Option<SourcedText>, ConfigError> {
    let here = sources.directory();
    if let Some(found) = one(url, file, layers.environment(url)?, layers.environment(file)?, here)? {
        return Ok(Some(found));
    }
    if let Some(found) = one(url, file, layers.dotenv(url), layers.dotenv(file), here)? {
        return Ok(Some(found));
    }
    let settings = &layers.file.settings;
    let (text, path) = if url.key == DIRECT_URL.key {
        (&settings.direct_url, &settings.direct_url_file)
    } else {
        (&settings.database_url, &settings.database_url_file)
    };
    let in_file = text.as_ref().map(|text| SourcedText { text: text.clone(), origin: layers.file.origin(url.key) });
    if let Some(SourcedText { text, origin }) = &in_file {
        let parts = Parts::parse(text).map_err(|problem| problem.of(url.key, Some(origin.clone())))?;
        if parts.password.is_some() {
            let advice = format!(
                "Put the URL into .env as {}, or into a file of its own that {} names.",
                url.variable, file.key
            );
            let what = "has a password, but cgk.toml is for version control";
            return Err(ValueProblem::refused(what, advice).of(url.key, Some(origin.clone())));
        }
    }
    let named = path
        .as_ref()
        .map(|path| SourcedText { text: path.display().to_string(), origin: layers.file.origin(file.key) });
    one(url, file, in_file, named, layers.file.directory())
}

/// Chooses between a URL and a file with a URL from the same source.
fn one(
    url_names: SettingNames,
    file_names: SettingNames,
    url: Option<SourcedText>,
    file: Option<SourcedText>,
    base: &Path,
) -> Result<Option<SourcedText>, ConfigError> {
    match (url, file) {
        (Some(_), Some(SourcedText { origin, .. })) => {
            let what = format!("is given together with {}", url_names.key);
            Err(ValueProblem::invalid(what, "Give one of the two.").of(file_names.key, Some(origin)))
        }
        (None, Some(SourcedText { text, origin })) => {
            let path = base.join(text);
            let problem = match fs::read_to_string(&path) {
                Ok(text) if !text.trim().is_empty() => {
                    return Ok(Some(SourcedText { text: text.trim().to_owned(), origin }));
                }
                Ok(_) => ValueProblem::invalid(
                    format!("the file {} is empty", path.display()),
                    "Put the connection URL into the file, and nothing else.",
                ),
                Err(error) => ValueProblem::unreadable(
                    format!("could not read {}", path.display()),
                    "Correct the path, or make the file readable.",
                )
                .because(error),
            };
            Err(problem.of(file_names.key, Some(origin)))
        }
        (url, None) => Ok(url),
    }
}
