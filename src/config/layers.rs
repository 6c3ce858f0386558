//! The sources of a setting, in order of precedence: flags, environment, `.env`, `cgk.toml`, default.

use std::path::PathBuf;

use super::dotenv::DotEnv;
use super::env::Sources;
use super::error::{ConfigError, ValueProblem};
use super::file::ConfigFile;
use super::origin::{Origin, Origins};
use super::overrides::Overrides;

/// The names of a setting.
#[derive(Clone, Copy)]
pub(super) struct SettingNames {
    /// In `cgk.toml`, in error messages and in lists.
    pub(super) key: &'static str,
    /// In the environment and in `.env`.
    pub(super) variable: &'static str,
    /// On the command line, or empty.
    pub(super) flag: &'static str,
}

pub(super) const fn names(key: &'static str, variable: &'static str, flag: &'static str) -> SettingNames {
    SettingNames { key, variable, flag }
}

/// A text with its source. This is not `Debug`, because the text may be the connection URL.
pub(super) struct SourcedText {
    pub(super) text: String,
    pub(super) origin: Origin,
}

/// All values that were read, before they are chosen.
pub(super) struct Layers<'a> {
    sources: &'a Sources,
    pub(super) dotenv: DotEnv,
    pub(super) file: ConfigFile,
    pub(super) origins: Origins,
}

const CONFIG: SettingNames = names("config", "CGK_CONFIG", "--config");

impl<'a> Layers<'a> {
    pub(super) fn read(overrides: &Overrides, sources: &'a Sources) -> Result<Layers<'a>, ConfigError> {
        let dotenv = DotEnv::read(sources.directory())?;
        let mut layers = Layers { sources, dotenv, file: ConfigFile::default(), origins: Origins::default() };
        let named = match &overrides.config_file {
            Some(path) => Some((path.clone(), Origin::Flag(CONFIG.flag))),
            None => layers.variable(CONFIG)?.map(|found| (PathBuf::from(found.text), found.origin)),
        };
        layers.file = match named {
            Some((path, origin)) => {
                layers.origins.set(CONFIG.key, origin.clone());
                ConfigFile::read(sources.directory().join(path), origin)?
            }
            None => ConfigFile::find(sources.directory())?,
        };
        Ok(layers)
    }

    /// Looks up a variable in the environment, then in `.env`.
    pub(super) fn variable(&self, names: SettingNames) -> Result<Option<SourcedText>, ConfigError> {
        if let Some(found) = self.environment(names)? {
            return Ok(Some(found));
        }
        Ok(self.dotenv(names))
    }

    pub(super) fn environment(&self, names: SettingNames) -> Result<Option<SourcedText>, ConfigError> {
        let origin = Origin::Environment(names.variable);
        match self.sources.variable(names.variable) {
            Ok(found) => Ok(found.map(|text| SourcedText { text: text.to_owned(), origin })),
            Err(problem) => Err(problem.of(names.key, Some(origin))),
        }
    }

    pub(super) fn dotenv(&self, names: SettingNames) -> Option<SourcedText> {
        let (text, origin) = self.dotenv.variable(names.variable)?;
        Some(SourcedText { text: text.to_owned(), origin })
    }

    /// Chooses a setting's value from the first source that has one, and records the source.
    pub(super) fn pick<T>(
        &mut self,
        names: SettingNames,
        flag: Option<T>,
        read: impl FnOnce(&str) -> Result<T, ValueProblem>,
        file: Option<T>,
    ) -> Result<Option<T>, ConfigError> {
        let (value, origin) = if let Some(value) = flag {
            (value, Origin::Flag(names.flag))
        } else if let Some(SourcedText { text, origin }) = self.variable(names)? {
            match read(text.trim()) {
                Ok(value) => (value, origin),
                Err(problem) => return Err(problem.of(names.key, Some(origin))),
            }
        } else if let Some(value) = file {
            (value, self.file.origin(names.key))
        } else {
            return Ok(None);
        };
        self.origins.set(names.key, origin);
        Ok(Some(value))
    }
}
