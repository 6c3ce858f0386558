//! `cgk init --upgrade`: what a newer cgk brings is added, and what the user did stays.

use crate::stage::{Folder, adding};
use cgk::{
    migrate::Migrations,
    templates::{InitMode, InitOptions, TemplateError},
};
use std::fs;

fn upgrade(names: &[&str]) -> InitOptions {
    let mut options = adding(names);
    options.mode = InitMode::Upgrade;
    options
}

/// Makes the project what an older cgk had made of it: without these migrations.
fn as_of_an_older_cgk(folder: &Folder, files: &[(&str, &str)]) {
    let mut record = folder.read("migrations/templates.toml");
    for (file, name) in files {
        let line = format!("    \"{name}\",\n");
        assert!(record.contains(&line), "{record}");
        record = record.replace(&line, "");
        fs::remove_file(folder.migrations().join(file)).unwrap();
    }
    folder.write("migrations/templates.toml", &record);
}

#[test]
fn new_files_get_the_next_numbers_and_the_others_are_not_touched() {
    let folder = Folder::new();
    folder.add(&["workspace"]);
    let newest = Migrations::bundled().set(cgk::migrate::Set::Public).head().unwrap().clone();
    let public = format!("public/{newest}.sql");
    as_of_an_older_cgk(&folder, &[("tenant/003_jobs.sql", "jobs"), (&public, &newest.name)]);
    folder.write("migrations/tenant/003_mine.sql", "create table mine (id int primary key);\n");
    let own_public = format!("migrations/public/{newest}.sql").replace(&newest.name, "mine");
    folder.write(&own_public, "create table shared_mine (id int primary key);\n");
    let before = folder.files();

    folder.plan(&upgrade(&[])).unwrap().write().unwrap();

    let after = folder.files();
    for (name, text) in &before {
        assert!(name == "migrations/templates.toml" || after[name] == *text, "{name}");
    }
    let added: Vec<&String> = after.keys().filter(|name| !before.contains_key(*name)).collect();
    let next = format!("migrations/public/{:03}_{}.sql", newest.version.get() + 1, newest.name);
    assert_eq!(added, [&next, "migrations/tenant/004_jobs.sql"]);
    Migrations::from_directory(folder.migrations()).unwrap();
    // And nothing more the next time.
    assert!(folder.plan(&upgrade(&[])).unwrap().files().is_empty());
}

#[test]
fn a_file_that_was_removed_does_not_come_back() {
    let folder = Folder::new();
    folder.add(&["shop"]);
    fs::remove_file(folder.migrations().join("tenant/007_blog_posts.sql")).unwrap();
    let before = folder.files();
    folder.plan(&upgrade(&["shop"])).unwrap().write().unwrap();
    assert_eq!(folder.files(), before);
}

#[test]
fn a_file_that_was_edited_stays_as_it_is() {
    let folder = Folder::new();
    folder.add(&["workspace"]);
    let edited = folder
        .read("migrations/tenant/003_jobs.sql")
        .replace("attempts_max  integer     not null default 5", "attempts_max  integer     not null default 9");
    folder.write("migrations/tenant/003_jobs.sql", &edited);
    // With the record, and without it, by the file's name.
    for _ in 0..2 {
        folder.plan(&upgrade(&[])).unwrap().write().unwrap();
        assert_eq!(folder.read("migrations/tenant/003_jobs.sql"), edited);
        assert!(!folder.migrations().join("tenant/004_jobs.sql").exists());
        fs::remove_file(folder.migrations().join("templates.toml")).unwrap();
    }
}

/// A set that `cgk migrate:new` copied has no record; its files are known by their texts.
#[test]
fn a_project_without_a_record_is_upgraded() {
    let folder = Folder::new();
    Migrations::write_bundled(&folder.migrations()).unwrap();
    let public = fs::read_dir(folder.migrations().join("public")).unwrap().count();
    folder.plan(&upgrade(&[])).unwrap().write().unwrap();
    assert_eq!(fs::read_dir(folder.migrations().join("public")).unwrap().count(), public);
    let record = folder.read("migrations/templates.toml");
    assert!(record.contains("[platform]") && record.contains("[shop]") && !record.contains("[workspace]"), "{record}");
}

#[test]
fn a_template_that_the_project_does_not_have_is_not_upgraded() {
    let folder = Folder::new();
    folder.add(&["workspace"]);
    let error = folder.plan(&upgrade(&["shop"])).unwrap_err();
    assert!(matches!(&error, TemplateError::NotInProject { name } if name == "shop"), "{error:?}");
    let empty = Folder::new();
    assert!(matches!(empty.plan(&upgrade(&[])).unwrap_err(), TemplateError::NoProject { .. }));
}

#[test]
fn a_record_that_cannot_be_read_is_refused() {
    for text in ["[workspace", "workspace = 1\n", "[workspace]\nversion = 1\nother = 2\n"] {
        let folder = Folder::new();
        folder.add(&["workspace"]);
        folder.write("migrations/templates.toml", text);
        let error = folder.plan(&upgrade(&[])).unwrap_err();
        assert!(matches!(error, TemplateError::Record { .. }), "{text}: {error:?}");
    }
}

#[test]
fn the_plan_says_from_which_version_to_which() {
    let folder = Folder::new();
    folder.add(&["workspace"]);
    let plan = folder.plan(&upgrade(&["workspace"])).unwrap();
    let workspace = plan.templates().iter().find(|template| template.name == "workspace").unwrap();
    assert_eq!((workspace.from, workspace.migrations), (Some(workspace.to), 0));
    assert!(plan.templates().iter().any(|template| template.name == "platform"));
    assert!(plan.kept().is_empty());
}
