//! `cgk init --upgrade`: what a newer cgk brings is added, and what the user did stays.

use crate::{
    init::{done, the_project_works},
    stage::{Folder, adding},
    support::cgk::{Shell, sql},
};
use cgk::{
    migrate::Migrations,
    templates::{self, InitMode, InitOptions, TemplateError},
    testing::TestServer,
};
use std::{collections::BTreeSet, fs, path::Path};

fn upgrade(names: &[&str]) -> InitOptions {
    let mut options = adding(names);
    options.mode = InitMode::Upgrade;
    options
}

/// Makes the project what an older cgk had made of it: without these migrations.
fn as_of_an_older_cgk(project: &Path, files: &[(String, String)]) {
    let migrations = project.join("migrations");
    let mut record = fs::read_to_string(migrations.join("templates.toml")).unwrap();
    for (file, name) in files {
        let line = format!("    \"{name}\",\n");
        assert!(record.contains(&line), "{record}");
        record = record.replace(&line, "");
        fs::remove_file(migrations.join(file)).unwrap();
    }
    fs::write(migrations.join("templates.toml"), &record).unwrap();
    // What the shop accepts is about its files.
    if let Ok(accepted) = fs::read_to_string(migrations.join("accepted.txt")) {
        let is_gone = |line: &&str| files.iter().any(|(file, _)| line.starts_with(file));
        let left: String = accepted.split_inclusive('\n').filter(|line| !is_gone(line)).collect();
        fs::write(migrations.join("accepted.txt"), left).unwrap();
    }
}

/// The migrations of a set, and their names, but for the first ones.
fn later_files(project: &Path, set: &str, first: usize) -> Vec<(String, String)> {
    let folder = project.join("migrations").join(set);
    let mut files: Vec<String> =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    files.sort();
    let name = |file: &str| file[file.find('_').unwrap() + 1..].trim_end_matches(".sql").to_owned();
    files[first.min(files.len())..].iter().map(|file| (format!("{set}/{file}"), name(file))).collect()
}

/// Tenants of the oldest version of each template, and of one without its newest file, are upgraded: the new files are applied after the user's own, and then a
/// tenant has what a new one has, and what the files say.
#[tokio::test]
async fn the_tenants_of_every_template_are_upgraded() {
    let mut upgraded = 0;
    for template in templates::all() {
        let all = template.migrations(cgk::migrate::Set::Tenant);
        for first in BTreeSet::from([1, all - 1]).into_iter().filter(|first| (1..all).contains(first)) {
            let database = TestServer::shared().database().await.unwrap();
            let shell = Shell::on(&database);
            done(&shell, &format!("init --template {}", template.name()));
            let mut missing = later_files(shell.folder(), "tenant", first);
            assert_eq!(missing.len(), all - first);
            // And the newest file of the shared set, of the template or of cgk.
            let public = fs::read_dir(shell.folder().join("migrations/public")).unwrap().count();
            missing.extend(later_files(shell.folder(), "public", public - 1));
            as_of_an_older_cgk(shell.folder(), &missing);
            shell.write("migrations/tenant/050_mine.sql", "create table mine (id int primary key);\n");
            done(&shell, "setup:database");
            done(&shell, "tenant:create acme");
            sql(&database, "insert into tenant_acme.mine values (7)").await;

            let added = done(&shell, "init --upgrade");
            assert_eq!(added.lines().filter(|line| line.ends_with(".sql")).count(), missing.len(), "{added}");
            assert!(added.contains(&format!("migrations/tenant/051_{}.sql", missing[0].1)), "{added}");
            let pending = shell.run(&["migrate", "--check"]);
            assert_eq!(pending.code, 3, "{}", pending.stderr);
            done(&shell, "migrate");
            done(&shell, "tenant:create initech");
            the_project_works(&shell, &database).await;
            upgraded += 1;
        }
    }
    assert_eq!(upgraded, 8, "two versions of shop, workspace, analytics and flags");
}

#[test]
fn new_files_get_the_next_numbers_and_the_others_are_not_touched() {
    let folder = Folder::new();
    folder.add(&["workspace"]);
    let newest = Migrations::bundled().set(cgk::migrate::Set::Public).head().unwrap().clone();
    let public = format!("public/{newest}.sql");
    let missing = [("tenant/003_jobs.sql".into(), "jobs".into()), (public, newest.name.clone())];
    as_of_an_older_cgk(folder.path(), &missing);
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
