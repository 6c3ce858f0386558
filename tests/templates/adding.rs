//! Templates that are added to a project that has migrations already: numbers, names, and what is refused.

use crate::stage::{Folder, Stage, adding};
use cgk::{
    Operator,
    migrate::{self, Migrations, Scope, Set, Silent, Target},
    templates::{InitMode, InitOptions, TemplateError},
};
use std::{fs, path::Path};

fn names(folder: &Folder, set: &str) -> Vec<String> {
    let mut found: Vec<String> = fs::read_dir(folder.migrations().join(set))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    found.sort();
    found
}

/// The bundled files keep their numbers in a new project: a database that was set up with the bundled set is at its head.
#[test]
fn a_new_project_has_the_numbers_of_the_bundled_set() {
    let folder = Folder::new();
    folder.add(&["shop"]);
    let own = Migrations::from_directory(folder.migrations()).unwrap();
    let bundled = Migrations::bundled();
    for set in [Set::Public, Set::Tenant] {
        let ids = |of: &Migrations| -> Vec<_> {
            of.set(set).files().iter().map(|file| (file.id().clone(), file.checksum().clone())).collect()
        };
        assert_eq!(ids(&own), ids(&bundled));
    }
    assert!(own.warnings().is_empty(), "{:?}", own.warnings());
}

#[test]
fn several_templates_are_numbered_in_the_order_in_which_they_are_named() {
    let folder = Folder::new();
    folder.add(&["workspace", "shop", "workspace"]);
    let tenant = names(&folder, "tenant");
    assert_eq!(tenant[..4], ["001_projects.sql", "002_repositories.sql", "003_jobs.sql", "004_orders.sql"]);
    assert_eq!(tenant.last().unwrap(), "010_blog_posts.sql");
    // What is accepted about the shop's files is accepted under their new names.
    let own = Migrations::from_directory(folder.migrations()).unwrap();
    assert!(own.warnings().is_empty(), "{:?}", own.warnings());
    assert!(folder.read("migrations/accepted.txt").contains("tenant/005_customers.sql"));
}

#[test]
fn a_template_that_is_added_later_comes_after_the_files_of_the_user() {
    let folder = Folder::new();
    folder.add(&["workspace"]);
    folder.write("migrations/tenant/020_gift_cards.sql", "create table gift_cards (code text primary key);\n");
    folder.write("migrations/accepted.txt", "# mine, without a line ending");
    let before = folder.files();
    folder.add(&["shop"]);
    let tenant = names(&folder, "tenant");
    assert_eq!(tenant[3..5], ["020_gift_cards.sql", "021_orders.sql"]);
    let accepted = folder.read("migrations/accepted.txt");
    assert!(accepted.starts_with("# mine, without a line ending\ntenant/022_customers.sql  "), "{accepted}");
    assert!(Migrations::from_directory(folder.migrations()).unwrap().warnings().is_empty());
    // Nothing else has changed.
    let after = folder.files();
    for (name, text) in &before {
        let is_extended = ["migrations/accepted.txt", "migrations/templates.toml"].contains(&name.as_str());
        assert!(is_extended || after[name] == *text, "{name}");
    }
}

/// The way of a project: it lives, a template is added, and the fleet is migrated.
#[tokio::test]
async fn a_living_fleet_gets_a_template() {
    let stage = Stage::with(&["workspace"]).await;
    let folder = Folder::new();
    folder.add(&["workspace"]);
    folder.add(&["shop"]);
    let migrations = Migrations::from_directory(folder.migrations()).unwrap();
    let operator = Operator::connect(stage.database.config()).await.unwrap();
    let plan = migrate::plan_fleet(&operator, &migrations, &Scope::Everything, Target::Head).await.unwrap();
    let report = migrate::run(&operator, &migrations, plan, &mut Silent).await.unwrap();
    assert_eq!(report.failed(), 0);
    assert_eq!(stage.one::<i64>("acme", "select count(*) from orders").await, 0);
    assert_eq!(stage.one::<i64>("globex", "select count(*) from projects").await, 0);
}

#[test]
fn a_template_that_is_there_is_not_added_again() {
    let folder = Folder::new();
    folder.add(&["workspace"]);
    let before = folder.files();
    folder.add(&["workspace"]);
    folder.add(&[]);
    assert_eq!(folder.files(), before);
}

/// A run that is killed has written whole files and no record of them.
#[test]
fn an_interrupted_run_is_completed_by_the_next_one() {
    for template in ["workspace", "shop"] {
        is_completed_by_the_next_run(template);
    }
}

fn is_completed_by_the_next_run(template: &str) {
    let complete = Folder::new();
    complete.add(&[template]);
    let plan = complete.plan(&InitOptions::default()).unwrap();
    assert!(plan.files().is_empty());
    let files: Vec<String> = {
        let fresh = Folder::new();
        let plan = fresh.plan(&adding(&[template])).unwrap();
        plan.files().iter().map(|file| file.path().strip_prefix(fresh.path()).unwrap().display().to_string()).collect()
    };
    assert_eq!(files.last().unwrap(), "migrations/templates.toml");
    // Within the shared set, at its end, within the tenants' set, before and after what is accepted about them, and before the
    // settings and the record.
    let count = |folder: &str| files.iter().filter(|file| file.starts_with(folder)).count();
    let public = count("migrations/public/");
    let all = public + count("migrations/tenant/");
    for cut in [0, 1, public, public + 1, all, all + 1, files.len() - 4, files.len() - 1] {
        let folder = Folder::new();
        for file in &files[..cut] {
            folder.write(file, &complete.read(file));
        }
        // And the temporary file that it was writing.
        folder
            .write(&format!("{}/.cgk-init-0123456789abcdef", Path::new(&files[cut]).parent().unwrap().display()), "--");
        folder.add(&[template]);
        assert_eq!(folder.files(), complete.files(), "{template}, cut before {}", files[cut]);
    }
}

/// A run that is killed behind its last file of a folder leaves its temporary file there. The files of a process that is still
/// running are locked, and not touched.
#[test]
fn only_temporary_files_of_killed_runs_are_removed() {
    let folder = Folder::new();
    folder.add(&["workspace"]);
    let before = folder.files();
    let folders = [
        "",
        "migrations/",
        "migrations/public/",
        "migrations/tenant/",
        "migrations/templates/",
        "tests/cgk/",
        ".github/workflows/",
    ];
    for of in folders {
        folder.write(&format!("{of}.cgk-init-0123456789abcdef"), "--");
    }
    let own = "migrations/public/.cgk-init-0123456789abcdee";
    folder.write(own, "-- of a process that is running");
    let running = fs::File::open(folder.path().join(own)).unwrap();
    running.lock().unwrap();
    folder.add(&["workspace"]);
    let mut expected = before;
    expected.insert(own.to_owned(), "-- of a process that is running".to_owned());
    assert_eq!(folder.files(), expected);
    // The control: it is removed when its process has ended.
    drop(running);
    folder.add(&["workspace"]);
    expected.remove(own);
    assert_eq!(folder.files(), expected);
}

#[test]
fn a_file_that_cannot_be_written_takes_the_others_back() {
    let folder = Folder::new();
    folder.add(&["workspace"]);
    folder.write("migrations/accepted.txt", "# mine\n");
    let before = folder.files();
    let plan = folder.plan(&adding(&["shop"])).unwrap();
    let extended: Vec<_> = plan.files().iter().filter(|file| file.is_extended()).map(|file| file.path()).collect();
    assert_eq!(extended, ["accepted.txt", "templates.toml"].map(|name| folder.migrations().join(name)));
    let last_but_one = plan.files()[plan.files().len() - 2].path().to_owned();
    // It was not there when the plan was made.
    fs::create_dir_all(last_but_one.join("x")).unwrap();
    let error = plan.write().unwrap_err();
    assert!(
        matches!(&error, TemplateError::Write { path, left, .. } if *path == last_but_one && left.is_empty()),
        "{error:?}"
    );
    assert_eq!(folder.files(), before);
    assert!(!folder.path().join("examples/cgk/shop.sql").exists());
}

#[test]
fn a_file_that_was_changed_meanwhile_is_not_replaced() {
    let folder = Folder::new();
    folder.add(&["workspace"]);
    folder.write("migrations/accepted.txt", "# mine\n");
    let plan = folder.plan(&adding(&["shop"])).unwrap();
    folder.write("migrations/accepted.txt", "# mine, later\n");
    let before = folder.files();
    assert!(matches!(plan.write().unwrap_err(), TemplateError::Write { .. }));
    assert_eq!(folder.files(), before);
}

#[test]
fn what_could_not_be_used_beside_the_users_files_is_refused() {
    let refused = |file: &str, text: &str| {
        let folder = Folder::new();
        folder.add(&["empty"]);
        folder.write(file, text);
        let before = folder.files();
        let error = folder.plan(&adding(&["workspace"])).unwrap_err();
        assert_eq!(folder.files(), before);
        error
    };
    let name = refused("migrations/tenant/002_projects.sql", "create table other (id int);\n");
    assert!(matches!(name, TemplateError::NameTaken { .. }), "{name:?}");
    let relation = refused("migrations/tenant/002_own.sql", "create table projects (id int);\n");
    assert!(
        matches!(&relation, TemplateError::RelationTaken { relation, .. } if relation == "projects"),
        "{relation:?}"
    );
    // In the other set: a tenant that lacks the table would read the shared one.
    let across = refused("migrations/public/900_own.sql", "create table projects (id int);\n");
    assert!(across.to_string().contains("projects"), "{across:?}");
    let unreadable = refused("migrations/tenant/own.sql", "create table own (id int);\n");
    assert!(matches!(unreadable, TemplateError::Migrations(_)), "{unreadable:?}");
    let last = refused("migrations/tenant/9223372036854775807_own.sql", "create table own (id int);\n");
    assert!(matches!(last, TemplateError::NoVersionLeft { .. }), "{last:?}");
}

#[test]
fn a_shared_set_that_is_not_cgks_is_refused() {
    let folder = Folder::new();
    folder.write("migrations/public/001_tenants.sql", "create table tenants (id int primary key);\n");
    folder.write("migrations/tenant/001_orders.sql", "create table orders (id int primary key);\n");
    let error = folder.plan(&adding(&["workspace"])).unwrap_err();
    assert!(matches!(error, TemplateError::ForeignPublicSet { .. }), "{error:?}");
}

/// The folder of another tool's: its files are in neither set.
#[test]
fn a_folder_of_another_tool_is_refused() {
    let folder = Folder::new();
    folder.write("migrations/0001_init.sql", "create table orders (id int primary key);\n");
    for mode in [InitMode::Add, InitMode::Upgrade] {
        let mut options = adding(&["shop"]);
        options.mode = mode;
        assert!(matches!(folder.plan(&options).unwrap_err(), TemplateError::Migrations(_)));
    }
}
