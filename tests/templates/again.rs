//! What another run does to a project: what the user removed or edited stays so, and what the template rests on is completed.

use crate::stage::{Folder, adding};
use cgk::{
    migrate::{Migrations, Set},
    templates::{InitMode, TemplateError},
};
use std::fs;

/// Examples and tests come with a template, and later only if the template is named again.
#[test]
fn an_example_that_was_removed_comes_back_only_by_its_name() {
    let folder = Folder::new();
    folder.add(&["workspace"]);
    let example = folder.path().join("examples/cgk/workspace.sql");
    fs::remove_file(&example).unwrap();
    folder.add(&[]);
    folder.add(&["shop"]);
    assert!(!example.exists());
    // The control: the one that is new has its own.
    assert!(folder.path().join("examples/cgk/shop.sql").exists());
    folder.add(&["workspace"]);
    assert!(example.exists());
}

/// A template that is added rests on the shared tables of this cgk, also in a project that an older one made.
#[test]
fn a_template_that_is_added_brings_the_shared_files_that_are_missing() {
    let folder = Folder::new();
    folder.add(&["empty"]);
    let newest = Migrations::bundled().set(Set::Public).head().unwrap().clone();
    let (file, line) = (format!("migrations/public/{newest}.sql"), format!("    \"{}\",\n", newest.name));
    let (text, record) = (folder.read(&file), folder.read("migrations/templates.toml"));
    assert!(record.contains(&line), "{record}");
    fs::remove_file(folder.path().join(&file)).unwrap();
    folder.write("migrations/templates.toml", &record.replace(&line, ""));
    folder.add(&["workspace"]);
    assert_eq!(folder.read(&file), text);
    assert!(folder.read("migrations/templates.toml").contains(&line));
}

/// A project has a template by its record, even if none of its files is as it was.
#[test]
fn a_template_whose_files_were_all_edited_is_still_there() {
    let folder = Folder::new();
    folder.add(&["empty"]);
    let file = "migrations/tenant/001_keep_updated_at.sql";
    folder.write(file, &format!("{}-- mine\n", folder.read(file)));
    let before = folder.files();
    let mut options = adding(&["empty"]);
    options.mode = InitMode::Upgrade;
    folder.plan(&options).unwrap().write().unwrap();
    assert_eq!(folder.files(), before);
}

#[test]
fn an_empty_accepted_file_is_extended_without_an_empty_line() {
    let folder = Folder::new();
    folder.add(&["workspace"]);
    folder.write("migrations/accepted.txt", "");
    folder.add(&["shop"]);
    let accepted = folder.read("migrations/accepted.txt");
    assert!(accepted.starts_with("tenant/"), "{accepted}");
}

/// The folders of a run that fails go with its files, but for those in which something else is.
#[test]
fn a_run_that_fails_leaves_no_folder() {
    let folder = Folder::new();
    let plan = folder.plan(&adding(&["workspace"])).unwrap();
    let blocked = folder.path().join(".github/workflows/cgk.yml");
    assert!(plan.files().iter().any(|file| file.path() == blocked));
    // It was not there when the plan was made.
    fs::create_dir_all(blocked.join("x")).unwrap();
    let error = plan.write().unwrap_err();
    assert!(
        matches!(&error, TemplateError::Write { path, left, .. } if *path == blocked && left.is_empty()),
        "{error:?}"
    );
    let left: Vec<_> = fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, [".github"]);
}
