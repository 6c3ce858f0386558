//! The files of a project other than migrations: settings, an example of the environment, a workflow, seeds,
//! examples and tests.

use super::{
    catalog::{Template, TemplateFiles},
    error::TemplateError,
    planned::InitPlan,
};
use std::{fs, path::Path};

const CONFIG: &str = include_str!("project/cgk.toml");
const ENVIRONMENT: &str = include_str!("project/env.example");
const WORKFLOW: &str = include_str!("project/workflow.yml");
const README: &str = include_str!("project/README.md");
const GITIGNORE: &str = include_str!("project/gitignore");

/// The default repository to install cgk from, if this build does not know it.
const REPOSITORY: &str = "https://github.com/OWNER/cgk";

/// Plans the files that do not exist yet. Seeds, examples and tests are added for a template that is new to the
/// project, or that is named.
pub(super) fn plan(
    root: &Path,
    migrations: &Path,
    wanted: &[Template],
    are_named: bool,
    plan: &mut InitPlan,
) -> Result<(), TemplateError> {
    let repository = Some(env!("CARGO_PKG_REPOSITORY")).filter(|url| !url.is_empty()).unwrap_or(REPOSITORY);
    plan.add_unless_there(migrations.join("README.md"), README);
    let is_new = |template: &Template, plan: &InitPlan| {
        plan.templates().iter().any(|of| of.name == template.name() && of.from.is_none())
    };
    let manifest = Manifest::read(root);
    for template in wanted {
        if !are_named && !is_new(template, plan) {
            continue;
        }
        let readme = migrations.join("templates").join(format!("{}.md", template.name()));
        plan.add_unless_there(readme, template.readme());
        let has_rust = manifest.builds(template.feature());
        // Where `cgk tenant:seed` looks for them.
        let seeds = migrations.parent().unwrap_or(root).join("seeds/tenant");
        template.seeds().iter().for_each(|(name, text)| plan.add_unless_there(seeds.join(name), text));
        for (folder, files) in [("examples", template.example()), ("tests", template.tests())] {
            add_files(plan, &root.join(folder), files, has_rust);
        }
    }
    let folder = migrations.strip_prefix(root).unwrap_or(migrations);
    plan.add_unless_there(root.join("cgk.toml"), &CONFIG.replace("{migrations}", &toml_text(folder)));
    plan.add_unless_there(root.join(".env.example"), ENVIRONMENT);
    match fs::read_to_string(root.join(".gitignore")) {
        Ok(own) => plan.gitignore_lacks_env = !own.lines().any(ignores_env),
        Err(_) => plan.add_unless_there(root.join(".gitignore"), GITIGNORE),
    }
    let workflow = root.join(".github/workflows/cgk.yml");
    plan.add_unless_there(workflow, &WORKFLOW.replace("{repository}", repository));
    Ok(())
}

/// Adds SQL files to a folder `cgk`, and Rust files where Cargo finds them. Skips Rust files that Cargo could not
/// build.
fn add_files(plan: &mut InitPlan, folder: &Path, files: TemplateFiles, has_rust: bool) {
    for (name, text) in files {
        match Path::new(name).extension().is_some_and(|kind| kind == "rs") {
            false => plan.add_unless_there(folder.join("cgk").join(name), text),
            true if has_rust => plan.add_unless_there(folder.join(name), text),
            true => {}
        }
    }
}

/// Returns whether a line of `.gitignore` matches `.env`.
fn ignores_env(line: &str) -> bool {
    let line = line.trim();
    let name = line.strip_prefix("**/").or(line.strip_prefix('/')).unwrap_or(line);
    [".env", ".env*", "*.env"].contains(&name)
}

/// The `Cargo.toml` of a folder. Empty if there is none.
struct Manifest(toml::Table);

impl Manifest {
    fn read(root: &Path) -> Self {
        Self(fs::read_to_string(root.join("Cargo.toml")).unwrap_or_default().parse().unwrap_or_default())
    }

    fn dependency(&self, name: &str) -> Option<&toml::Value> {
        ["dependencies", "dev-dependencies"].iter().find_map(|table| self.0.get(*table)?.get(name))
    }

    /// Returns whether the package can build an example: it depends on tokio, and on cgk with this feature.
    fn builds(&self, feature: Option<&str>) -> bool {
        let (Some(cgk), Some(_)) = (self.dependency("cgk"), self.dependency("tokio")) else { return false };
        let has_default = cgk.get("default-features").and_then(toml::Value::as_bool).unwrap_or(true);
        let names = cgk.get("features").and_then(toml::Value::as_array);
        let is_named =
            |feature: &str| names.is_some_and(|names| names.iter().any(|name| name.as_str() == Some(feature)));
        feature.is_none_or(|feature| has_default || is_named(feature))
    }
}

/// Returns a path, escaped for a TOML string.
fn toml_text(path: &Path) -> String {
    path.display().to_string().replace('\\', "\\\\").replace('"', "\\\"")
}
