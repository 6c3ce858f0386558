//! The templates that are part of cgk.

use crate::{migrate::files::bundled, migration::Set};
use serde::Deserialize;

/// The names and texts of files.
pub(super) type TemplateFiles = &'static [(&'static str, &'static str)];

/// The files of a template. The test below compares the lists with the folders.
struct Content {
    about: &'static str,
    readme: &'static str,
    public: TemplateFiles,
    tenant: TemplateFiles,
    seeds: TemplateFiles,
    example: TemplateFiles,
    tests: TemplateFiles,
}

macro_rules! files {
    ($template:literal $folder:literal: $($name:literal)*) => {
        &[$(($name, include_str!(concat!("../../templates/", $template, "/", $folder, "/", $name)))),*]
    };
}

macro_rules! content {
    ($template:literal {
        public: $public:expr,
        tenant: $tenant:expr,
        seeds: [$($seed:literal)*],
        example: [$($example:literal)*],
        tests: [$($test:literal)*],
    }) => {
        Content {
            about: include_str!(concat!("../../templates/", $template, "/template.toml")),
            readme: include_str!(concat!("../../templates/", $template, "/README.md")),
            public: $public,
            tenant: $tenant,
            seeds: files!($template "seeds": $($seed)*),
            example: files!($template "example": $($example)*),
            tests: files!($template "tests": $($test)*),
        }
    };
}

/// The templates, in the order in which they are listed.
const TEMPLATES: &[Content] = &[
    content!("empty" {
        public: &[],
        tenant: files!("empty" "tenant": "001_keep_updated_at.sql"),
        seeds: [],
        example: [],
        tests: [],
    }),
    content!("shop" {
        public: &[],
        tenant: bundled::TENANT,
        seeds: ["shop.sql"],
        example: ["shop.rs" "shop.sql"],
        tests: ["shop.sql"],
    }),
    content!("workspace" {
        public: &[],
        tenant: files!("workspace" "tenant": "001_projects.sql" "002_repositories.sql" "003_jobs.sql"),
        seeds: ["workspace.sql"],
        example: ["workspace.rs" "workspace.sql"],
        tests: ["workspace.sql"],
    }),
    content!("analytics" {
        public: &[],
        tenant: files!("analytics" "tenant": "001_datasets.sql" "002_dashboards.sql" "003_automations.sql"),
        seeds: ["analytics.sql"],
        example: ["analytics.rs" "analytics.sql"],
        tests: ["analytics.sql"],
    }),
    content!("flags" {
        public: files!("flags" "public": "001_plan_features.sql"),
        tenant: files!("flags" "tenant": "001_environments.sql" "002_features.sql" "003_feature_rules.sql"
            "004_flag_audit_events.sql" "005_evaluation_logs.sql" "006_usage_metrics.sql" "007_maintenance.sql"),
        seeds: ["flags.sql"],
        example: ["flags.rs" "flags.sql"],
        tests: ["flags.sql"],
    }),
];

/// The part that every project has: the shared tables that cgk itself uses. It is recorded like a template.
const PLATFORM: &str = "platform";

/// `template.toml`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct About {
    name: String,
    version: u32,
    description: String,
    /// The feature of this crate that the template's Rust example needs.
    feature: Option<String>,
}

/// A template.
#[derive(Clone, Debug)]
pub struct Template {
    name: String,
    version: u32,
    description: String,
    feature: Option<String>,
    readme: &'static str,
    files: Vec<TemplateFile>,
    seeds: TemplateFiles,
    example: TemplateFiles,
    tests: TemplateFiles,
}

/// A migration of a template.
#[derive(Clone, Debug)]
pub(super) struct TemplateFile {
    pub(super) set: Set,
    /// The number of the bundled file.
    pub(super) number: i64,
    /// Whether it is part of cgk's bundled set. Then its `accepted.txt` may have lines about it.
    pub(super) is_bundled: bool,
    /// The part of the file name after the number.
    pub(super) name: &'static str,
    pub(super) sql: &'static str,
}

/// Returns the templates that a project can have, in the order in which they are listed.
pub fn all() -> Vec<Template> {
    TEMPLATES.iter().map(Template::of).collect()
}

/// Returns the template with this name.
pub fn find(name: &str) -> Option<Template> {
    all().into_iter().find(|template| template.name == name)
}

/// Returns the shared tables that every project has.
pub(super) fn platform() -> Template {
    let files = migrations(Set::Public, bundled::PUBLIC);
    let version = files.last().map_or(0, |file| u32::try_from(file.number).unwrap_or(u32::MAX));
    let description = "The shared tables that cgk works with".to_owned();
    let (feature, readme) = (None, "");
    Template {
        name: PLATFORM.into(),
        version,
        description,
        feature,
        readme,
        files,
        seeds: &[],
        example: &[],
        tests: &[],
    }
}

/// Returns whether it is the shared tables, which cannot be named as a template.
pub(super) fn is_platform(template: &Template) -> bool {
    template.name == PLATFORM
}

/// Returns the lines of the bundled `accepted.txt` about one bundled file, such as `public/001_x.sql`.
pub(super) fn accepted_of(file: &str) -> impl Iterator<Item = &'static str> {
    let lines = bundled::ACCEPTED.lines();
    lines.filter_map(move |line| line.trim().strip_prefix(file)?.strip_prefix(char::is_whitespace).map(str::trim))
}

impl Template {
    fn of(content: &Content) -> Self {
        let about: About = toml::from_str(content.about).expect("the test of the templates has read it");
        let mut files = migrations(Set::Public, content.public);
        files.extend(migrations(Set::Tenant, content.tenant));
        Self {
            name: about.name,
            version: about.version,
            description: about.description,
            feature: about.feature,
            readme: content.readme,
            files,
            seeds: content.seeds,
            example: content.example,
            tests: content.tests,
        }
    }

    /// Returns the name, as `--template` accepts it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns the version. A new version adds files to the previous one, and changes none.
    pub fn version(&self) -> u32 {
        self.version
    }

    /// Returns a description in one line.
    pub fn description(&self) -> &str {
        &self.description
    }

    /// Returns the number of migrations in a set.
    pub fn migrations(&self, set: Set) -> usize {
        self.files.iter().filter(|file| file.set == set).count()
    }

    pub(super) fn files(&self) -> &[TemplateFile] {
        &self.files
    }

    pub(super) fn feature(&self) -> Option<&str> {
        self.feature.as_deref()
    }

    pub(super) fn readme(&self) -> &'static str {
        self.readme
    }

    pub(super) fn seeds(&self) -> TemplateFiles {
        self.seeds
    }

    pub(super) fn example(&self) -> TemplateFiles {
        self.example
    }

    pub(super) fn tests(&self) -> TemplateFiles {
        self.tests
    }
}

fn migrations(set: Set, files: TemplateFiles) -> Vec<TemplateFile> {
    let split = |(file, sql): &(&'static str, &'static str)| {
        let (number, name) = file.strip_suffix(".sql").and_then(|stem| stem.split_once('_')).expect(NAMED);
        let is_bundled = [bundled::PUBLIC, bundled::TENANT].iter().any(|of| of.contains(&(*file, *sql)));
        TemplateFile { set, number: number.parse().expect(NAMED), is_bundled, name, sql }
    };
    files.iter().map(split).collect()
}

const NAMED: &str = "a template's migrations are named 001_x.sql";

#[cfg(test)]
mod tests {
    use super::*;
    use std::{fs, path::Path};

    fn root() -> &'static Path {
        Path::new(env!("CARGO_MANIFEST_DIR"))
    }

    /// Returns the names and texts of a folder's files, or nothing if the folder does not exist.
    fn folder(path: &Path) -> Vec<(String, String)> {
        let Ok(entries) = fs::read_dir(path) else { return Vec::new() };
        let mut found: Vec<_> = entries
            .map(|entry| entry.unwrap())
            .map(|entry| (entry.file_name().into_string().unwrap(), fs::read_to_string(entry.path()).unwrap()))
            .collect();
        found.sort();
        found
    }

    fn listed(files: TemplateFiles) -> Vec<(String, String)> {
        files.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect()
    }

    /// If a file is added to a folder but not to the list above, it would be missing from the program.
    #[test]
    fn the_templates_are_the_folders() {
        let mut folders: Vec<String> = fs::read_dir(root().join("templates"))
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        let mut names: Vec<String> = all().iter().map(|template| template.name.clone()).collect();
        folders.sort();
        names.sort();
        assert_eq!(folders, names);
        for content in TEMPLATES {
            let template = Template::of(content);
            let home = root().join("templates").join(&template.name);
            let tenant = match template.name.as_str() {
                "shop" => root().join("migrations/tenant"),
                _ => home.join("tenant"),
            };
            assert_eq!(folder(&home.join("public")), listed(content.public), "{}", template.name);
            assert_eq!(folder(&tenant), listed(content.tenant), "{}", template.name);
            assert_eq!(folder(&home.join("seeds")), listed(content.seeds), "{}", template.name);
            assert_eq!(folder(&home.join("example")), listed(content.example), "{}", template.name);
            assert_eq!(folder(&home.join("tests")), listed(content.tests), "{}", template.name);
            assert!(!template.files.is_empty() && template.version > 0);
            assert!(template.readme.starts_with(&format!("# {}\n", template.name)), "{}", template.readme);
        }
    }

    #[test]
    fn names_can_be_given_and_found() {
        for template in all() {
            assert_eq!(find(template.name()).unwrap().description(), template.description());
            assert!(template.migrations(Set::Tenant) > 0);
        }
        assert!(find(PLATFORM).is_none());
        assert!(platform().migrations(Set::Public) > 10);
    }

    /// Any two templates can be combined: their migrations have different names and texts.
    #[test]
    fn no_two_templates_share_a_migration() {
        let mut seen = std::collections::BTreeSet::new();
        for template in all().iter().chain([&platform()]) {
            for file in template.files() {
                assert!(seen.insert((file.set, file.name)), "{} {}", template.name, file.name);
            }
        }
    }
}
