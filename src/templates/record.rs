//! The file `templates.toml` beside the migrations: it records which files of which templates a project has received.

use super::{catalog::TemplateFile, error::TemplateError};
use crate::migration::Set;
use serde::Deserialize;
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    fs, io,
    path::Path,
};

pub(super) const FILE: &str = "templates.toml";

const HEADING: &str = "\
# The files of cgk's templates that this project was given. `cgk init` writes
# this file, and `cgk init --upgrade` reads it to find new ones. Keep it under
# version control, and do not edit it.
";

/// What a project has received.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub(super) struct Record {
    templates: BTreeMap<String, Given>,
}

/// What a project has received of one template.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Given {
    version: u32,
    #[serde(default)]
    public: BTreeSet<String>,
    #[serde(default)]
    tenant: BTreeSet<String>,
}

impl Given {
    fn of(&mut self, set: Set) -> &mut BTreeSet<String> {
        match set {
            Set::Public => &mut self.public,
            Set::Tenant => &mut self.tenant,
        }
    }
}

impl Record {
    /// Reads the record. If the file does not exist, nothing is recorded.
    pub(super) fn read(path: &Path) -> Result<Self, TemplateError> {
        let text = match fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(source) => return Err(TemplateError::Read { path: path.to_owned(), source }),
        };
        toml::from_str(&text)
            .map_err(|error| TemplateError::Record { path: path.to_owned(), problem: error.message().to_owned() })
    }

    /// Returns whether the project has the template.
    pub(super) fn has(&self, template: &str) -> bool {
        self.templates.contains_key(template)
    }

    /// Returns the version of a template that the project has.
    pub(super) fn version(&self, template: &str) -> Option<u32> {
        self.templates.get(template).map(|given| given.version)
    }

    /// Returns whether the project has received a file, even if it was removed since.
    pub(super) fn has_file(&self, template: &str, file: &TemplateFile) -> bool {
        let given = self.templates.get(template);
        given.is_some_and(|given| match file.set {
            Set::Public => given.public.contains(file.name),
            Set::Tenant => given.tenant.contains(file.name),
        })
    }

    /// Records a template. A newer recorded version is not changed.
    pub(super) fn add(&mut self, template: &str, version: u32) {
        let given = self.templates.entry(template.to_owned()).or_default();
        given.version = given.version.max(version);
    }

    /// Records a file of a template.
    pub(super) fn add_file(&mut self, template: &str, file: &TemplateFile) {
        let given = self.templates.entry(template.to_owned()).or_default();
        given.of(file.set).insert(file.name.to_owned());
    }

    /// Returns the text of the file.
    pub(super) fn text(&self) -> String {
        let mut text = HEADING.to_owned();
        for (name, given) in &self.templates {
            let _ = write!(text, "\n[{name}]\nversion = {}\n", given.version);
            for (set, files) in [(Set::Public, &given.public), (Set::Tenant, &given.tenant)] {
                if !files.is_empty() {
                    let lines: String = files.iter().map(|file| format!("    \"{file}\",\n")).collect();
                    let _ = write!(text, "{set} = [\n{lines}]\n");
                }
            }
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::templates::catalog;

    #[test]
    fn what_is_written_is_read_again() {
        let mut record = Record::default();
        assert_eq!(toml::from_str::<Record>(&record.text()).unwrap(), record);
        for template in catalog::all().iter().chain([&catalog::platform()]) {
            assert!(!record.has(template.name()));
            record.add(template.name(), template.version());
            for file in template.files() {
                assert!(!record.has_file(template.name(), file));
                record.add_file(template.name(), file);
                assert!(record.has_file(template.name(), file));
            }
        }
        assert_eq!(toml::from_str::<Record>(&record.text()).unwrap(), record);
    }

    #[test]
    fn a_version_never_goes_back() {
        let mut record = Record::default();
        record.add("shop", 3);
        record.add("shop", 1);
        assert_eq!(record.version("shop"), Some(3));
    }
}
