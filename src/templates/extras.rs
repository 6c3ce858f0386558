//! What a project has besides migrations: settings, an example of the environment, a workflow, examples and tests.

use super::{
    catalog::{Files, Template},
    error::TemplateError,
    planned::InitPlan,
};
use std::{
    fs,
    path::{Path, PathBuf},
};

const CONFIG: &str = include_str!("project/cgk.toml");
const ENVIRONMENT: &str = include_str!("project/env.example");
const WORKFLOW: &str = include_str!("project/workflow.yml");
const README: &str = include_str!("project/README.md");

/// Where cgk is installed from, where this build does not know it.
const REPOSITORY: &str = "https://github.com/OWNER/cgk";

/// Plans what is not there yet. Examples and tests come with a template that is new to the project.
pub(super) fn plan(
    root: &Path,
    migrations: &Path,
    wanted: &[Template],
    plan: &mut InitPlan,
) -> Result<(), TemplateError> {
    let repository = Some(env!("CARGO_PKG_REPOSITORY")).filter(|url| !url.is_empty()).unwrap_or(REPOSITORY);
    plan.add_unless_there(migrations.join("README.md"), README);
    let is_new: Vec<bool> = wanted
        .iter()
        .map(|template| plan.templates().iter().any(|of| of.name == template.name() && of.from.is_none()))
        .collect();
    let has_rust = depends_on_cgk(root);
    for (template, _) in wanted.iter().zip(is_new).filter(|(_, is_new)| *is_new) {
        let readme = migrations.join("templates").join(format!("{}.md", template.name()));
        plan.add_unless_there(readme, template.readme());
        for (folder, files) in [("examples", template.example()), ("tests", template.tests())] {
            add_files(plan, &root.join(folder), files, has_rust);
        }
    }
    let folder = migrations.strip_prefix(root).unwrap_or(migrations);
    plan.add_unless_there(root.join("cgk.toml"), &CONFIG.replace("{migrations}", &toml_text(folder)));
    plan.add_unless_there(root.join(".env.example"), ENVIRONMENT);
    let workflow = root.join(".github/workflows/cgk.yml");
    plan.add_unless_there(workflow, &WORKFLOW.replace("{repository}", repository));
    Ok(())
}

/// SQL goes into a folder `cgk`, Rust where Cargo finds it. Rust is left out where Cargo could not build it.
fn add_files(plan: &mut InitPlan, folder: &Path, files: Files, has_rust: bool) {
    for (name, text) in files {
        let is_rust = Path::new(name).extension().is_some_and(|kind| kind == "rs");
        let path: PathBuf = if is_rust { folder.join(name) } else { folder.join("cgk").join(name) };
        if !is_rust || has_rust {
            plan.add_unless_there(path, text);
        }
    }
}

/// Whether the folder is a Rust package that uses cgk.
fn depends_on_cgk(root: &Path) -> bool {
    let manifest = fs::read_to_string(root.join("Cargo.toml")).unwrap_or_default();
    let manifest: toml::Table = manifest.parse().unwrap_or_default();
    ["dependencies", "dev-dependencies"]
        .iter()
        .any(|table| manifest.get(*table).and_then(|found| found.get("cgk")).is_some())
}

/// A path as it stands between the quotation marks of a TOML string.
fn toml_text(path: &Path) -> String {
    path.display().to_string().replace('\\', "\\\\").replace('"', "\\\"")
}
