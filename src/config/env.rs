//! The process's environment and working directory, from which a configuration is read. This is the only file that uses
//! [`std::env`].

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use super::error::ValueProblem;

/// An environment and a working directory. This is not `Debug`, because environments contain secrets.
#[derive(Clone, Default)]
pub(crate) struct Sources {
    variables: BTreeMap<OsString, OsString>,
    directory: PathBuf,
}

impl Sources {
    /// Returns the environment and working directory of this process.
    pub(crate) fn of_process() -> Result<Sources, ValueProblem> {
        let directory = std::env::current_dir().map_err(|error| {
            ValueProblem::unreadable("could not find the working directory", "Change to a directory that exists.")
                .because(error)
        })?;
        Ok(Sources { variables: std::env::vars_os().collect(), directory })
    }

    /// Returns an environment for tests.
    #[cfg(test)]
    pub(crate) fn of(directory: &Path, variables: &[(&str, &str)]) -> Sources {
        let variables = variables.iter().map(|(name, value)| (name.into(), value.into())).collect();
        Sources { variables, directory: directory.to_owned() }
    }

    /// Returns the same with one more variable, which need not be UTF-8.
    #[cfg(test)]
    pub(crate) fn with(mut self, name: &str, value: &std::ffi::OsStr) -> Sources {
        self.variables.insert(name.into(), value.into());
        self
    }

    /// Returns the names of the variables that are UTF-8.
    pub(crate) fn names_of_variables(&self) -> impl Iterator<Item = &str> {
        self.variables.keys().filter_map(|name| name.to_str())
    }

    /// Returns the working directory.
    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }

    /// Reads a variable. An empty one counts as unset.
    pub(crate) fn variable(&self, name: &str) -> Result<Option<&str>, ValueProblem> {
        match self.variables.get(name.as_ref() as &std::ffi::OsStr).map(|value| value.to_str()) {
            Some(None) => Err(ValueProblem::invalid("is not UTF-8", format!("Set {name} to UTF-8 text."))),
            None | Some(Some("")) => Ok(None),
            Some(value) => Ok(value),
        }
    }
}
