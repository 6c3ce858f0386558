//! `cgk init` in folders of every kind, down to tenants that are migrated and pass the project's own tests.

use crate::{
    stage::Folder,
    support::cgk::{Shell, sql, url},
};
use cgk::{
    templates,
    testing::{TestDatabase, TestServer},
};
use std::fs;

/// Runs the program and expects it to succeed.
#[track_caller]
pub(crate) fn done(shell: &Shell, line: &str) -> String {
    let words: Vec<&str> = line.split(' ').collect();
    let answer = shell.run(&words);
    assert_eq!(answer.code, 0, "cgk {line}\n{}\n{}", answer.stdout, answer.stderr);
    answer.stdout
}

/// From the folder's files to tenants that are as the files say and that pass the project's tests.
pub(crate) async fn the_project_works(shell: &Shell, database: &TestDatabase) {
    done(shell, "migrate:lint --deny-warnings");
    done(shell, "setup:database");
    done(shell, "tenant:create acme globex");
    done(shell, "migrate");
    done(shell, "migrate --check");
    done(shell, "tenant:verify --all");
    done(shell, "drift");
    the_scripts_pass(shell, database).await;
    let seeds = sql_files(shell, "seeds/tenant").len();
    if seeds > 0 {
        // Once, in the tenant that is named, and the scripts pass beside these rows too.
        let (ran, unchanged) = (("seeded".to_owned(), seeds), ("unchanged".to_owned(), 0));
        assert_eq!(seeded(shell, "acme"), ran);
        assert_eq!(seeded(shell, "acme"), unchanged);
        assert_eq!(seeded(shell, "globex"), ran);
        done(shell, "tenant:create initech --seed");
        assert_eq!(seeded(shell, "initech"), unchanged);
        the_scripts_pass(shell, database).await;
    }
}

/// The result of `tenant:seed` for a tenant, and how many seeds ran.
fn seeded(shell: &Shell, tenant: &str) -> (String, usize) {
    let lines = done(shell, &format!("tenant:seed {tenant} --json"));
    let records = lines.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    let record = records.into_iter().find(|record| record["event"] == "tenant").unwrap_or_else(|| panic!("{lines}"));
    (record["result"].as_str().unwrap().to_owned(), record["seeds"].as_array().unwrap().len())
}

/// Runs the examples and the tests that `cgk init` has written.
async fn the_scripts_pass(shell: &Shell, database: &TestDatabase) {
    for folder in ["examples/cgk", "tests/cgk"] {
        for (name, text) in sql_files(shell, folder) {
            run_script(database, &text).await.unwrap_or_else(|error| panic!("{name}: {error:?}"));
            assert!(text.contains("cgk_enter('acme')") && text.trim_end().ends_with("rollback;"), "{name}");
        }
    }
}

/// As `psql -v ON_ERROR_STOP=1 -f` does: the file's statements one by one, in one session, to the first that fails.
async fn run_script(database: &TestDatabase, text: &str) -> Result<(), tokio_postgres::Error> {
    let (client, connection) = tokio_postgres::connect(&url(database, None), tokio_postgres::NoTls).await.unwrap();
    tokio::spawn(connection);
    let (mut statement, mut statements) = (String::new(), 0);
    for line in text.lines() {
        statement.push_str(line);
        statement.push('\n');
        // These files quote bodies with $$ alone.
        if line.trim_end().ends_with(';') && statement.matches("$$").count() % 2 == 0 {
            #[expect(clippy::disallowed_methods, reason = "as psql sends a statement")]
            client.simple_query(&statement).await?;
            statement.clear();
            statements += 1;
        }
    }
    assert!(statement.trim().is_empty() && statements > 3, "{statement}");
    Ok(())
}

fn sql_files(shell: &Shell, folder: &str) -> Vec<(String, String)> {
    let Ok(entries) = fs::read_dir(shell.folder().join(folder)) else { return Vec::new() };
    let paths = entries.map(|entry| entry.unwrap().path());
    let sql = paths.filter(|path| path.extension().is_some_and(|kind| kind == "sql"));
    sql.map(|path| (path.display().to_string(), fs::read_to_string(&path).unwrap())).collect()
}

#[tokio::test]
async fn an_empty_folder_becomes_a_project_that_works() {
    let database = TestServer::shared().database().await.unwrap();
    let shell = Shell::on(&database);
    let written = done(&shell, "init");
    assert!(written.lines().any(|line| line == "migrations/tenant/001_keep_updated_at.sql"), "{written}");
    for file in [
        "cgk.toml",
        ".env.example",
        ".gitignore",
        ".github/workflows/cgk.yml",
        "migrations/README.md",
        "migrations/templates.toml",
    ] {
        assert!(written.lines().any(|line| line == file), "{file}: {written}");
        assert!(shell.folder().join(file).exists(), "{file}");
    }
    the_project_works(&shell, &database).await;
    // The next file of the user's own.
    assert_eq!(done(&shell, "migrate:new gift_cards").trim(), "migrations/tenant/002_gift_cards.sql");
}

#[tokio::test]
async fn every_template_alone_becomes_a_project_that_works() {
    for template in templates::all() {
        let database = TestServer::shared().database().await.unwrap();
        let shell = Shell::on(&database);
        done(&shell, &format!("init --template {}", template.name()));
        the_project_works(&shell, &database).await;
        let own = format!("{}/templates/{}/tests", env!("CARGO_MANIFEST_DIR"), template.name());
        let tests = fs::read_dir(own).map_or(0, Iterator::count);
        assert_eq!(sql_files(&shell, "tests/cgk").len(), tests, "{}", template.name());
    }
}

#[tokio::test]
async fn all_templates_together_become_a_project_that_works() {
    let names: Vec<String> = templates::all().iter().map(|template| template.name().to_owned()).collect();
    let reversed: Vec<String> = names.iter().rev().cloned().collect();
    for names in [names, reversed] {
        let database = TestServer::shared().database().await.unwrap();
        let shell = Shell::on(&database);
        let flags: Vec<String> = names.iter().map(|name| format!("--template {name}")).collect();
        done(&shell, &format!("init {}", flags.join(" ")));
        the_project_works(&shell, &database).await;
        assert!(sql_files(&shell, "tests/cgk").len() > 1);
    }
}

/// The tests of a project can fail: without the index, the test of the workspace does.
#[tokio::test]
async fn the_tests_of_a_project_find_a_broken_promise() {
    let database = TestServer::shared().database().await.unwrap();
    let shell = Shell::on(&database);
    done(&shell, "init --template workspace");
    done(&shell, "setup:database");
    done(&shell, "tenant:create acme");
    let (_, test) = sql_files(&shell, "tests/cgk").remove(0);
    run_script(&database, &test).await.unwrap();
    sql(&database, "drop index tenant_acme.projects_name_key").await;
    let failed = run_script(&database, &test).await.unwrap_err();
    assert!(failed.as_db_error().unwrap().message().contains("a second project of the name"), "{failed:?}");
}

#[test]
fn files_that_are_there_stay_as_they_are() {
    let shell = Shell::new();
    let own = [
        "README.md",
        ".env.example",
        ".github/workflows/cgk.yml",
        "examples/cgk/workspace.sql",
        "src/main.rs",
        "Cargo.toml",
    ];
    for file in own {
        shell.write(file, "# mine\n");
    }
    let answer = shell.run(&["init", "--template", "workspace"]);
    assert_eq!(answer.code, 0, "{}", answer.stderr);
    for file in own {
        assert_eq!(fs::read_to_string(shell.folder().join(file)).unwrap(), "# mine\n");
    }
    for file in [".env.example", ".github/workflows/cgk.yml", "examples/cgk/workspace.sql"] {
        assert!(answer.stderr.contains(&format!("kept {file}: it is there already")), "{}", answer.stderr);
    }
    assert!(shell.folder().join("migrations/tenant/001_projects.sql").exists());
    assert!(shell.folder().join("tests/cgk/workspace.sql").exists());
}

#[test]
fn a_configuration_that_names_no_folder_gets_a_line_to_add() {
    let shell = Shell::new();
    shell.write("cgk.toml", "isolation = \"role\"\n");
    let answer = shell.run(&["init"]);
    assert_eq!(answer.code, 0, "{}", answer.stderr);
    let line = "Add this line at the top of cgk.toml: migrations = \"migrations\"";
    assert!(answer.stderr.contains(line), "{}", answer.stderr);
    assert_eq!(fs::read_to_string(shell.folder().join("cgk.toml")).unwrap(), "isolation = \"role\"\n");
}

/// `.env` will hold a password: a `.gitignore` that does not name it gets a line to add.
#[test]
fn a_gitignore_keeps_env_out_of_version_control() {
    for (own, lacks) in [
        ("/target\n", true),
        ("", true),
        (".env.example\n# .env\n!.env\n", true),
        ("/target\n .env \n", false),
        ("/.env\n", false),
        ("**/.env*\n", false),
    ] {
        let shell = Shell::new();
        shell.write(".gitignore", own);
        let answer = shell.run(&["init", "--json"]);
        assert_eq!(answer.code, 0, "{}", answer.stderr);
        let json: serde_json::Value = serde_json::from_str(&answer.stdout).unwrap();
        assert_eq!(json["gitignore"], if lacks { "needs_line" } else { "unchanged" }, "{own}");
        let line = "Add this line at the top of .gitignore: .env";
        assert_eq!(answer.stderr.contains(line), lacks, "{own}: {}", answer.stderr);
        assert_eq!(fs::read_to_string(shell.folder().join(".gitignore")).unwrap(), own);
    }
    let shell = Shell::new();
    let written: serde_json::Value = serde_json::from_str(&done(&shell, "init --json")).unwrap();
    assert_eq!(written["gitignore"], "written");
    assert!(fs::read_to_string(shell.folder().join(".gitignore")).unwrap().lines().any(|line| line == ".env"));
}

#[test]
fn a_configuration_that_names_a_folder_is_followed() {
    let shell = Shell::new();
    shell.write("cgk.toml", "migrations = \"db/sets\"\n");
    done(&shell, "init --template workspace");
    assert!(shell.folder().join("db/sets/tenant/003_jobs.sql").exists());
    assert!(!shell.folder().join("migrations").exists());
}

/// The folder that is named is not the current one, whose configuration says nothing about it.
#[test]
fn another_folder_is_a_project_of_its_own() {
    let shell = Shell::new();
    shell.write("cgk.toml", "migrations = \"elsewhere\"\n");
    let answer = shell.run(&["init", "app", "--template", "shop"]);
    assert_eq!(answer.code, 0, "{}", answer.stderr);
    assert!(shell.folder().join("app/migrations/tenant/007_blog_posts.sql").exists());
    assert!(fs::read_to_string(shell.folder().join("app/cgk.toml")).unwrap().contains("migrations = \"migrations\""));
    assert!(answer.stderr.contains("cd app"), "{}", answer.stderr);
    assert!(!shell.folder().join("elsewhere").exists());
    // The next steps can be copied into a shell.
    for (name, word) in [("my app", "cd 'my app'"), ("it's", r"cd 'it'\''s'"), ("ü-1.0", "cd ü-1.0\n")] {
        let answer = shell.run(&["init", name]);
        assert_eq!(answer.code, 0, "{}", answer.stderr);
        assert!(answer.stderr.contains(word), "{}", answer.stderr);
    }
}

/// A link that leads nowhere is no configuration: it would be kept, and the next commands would use the bundled migrations.
#[test]
#[cfg(unix)]
fn a_configuration_that_leads_nowhere_is_refused() {
    let shell = Shell::new();
    std::os::unix::fs::symlink("elsewhere.toml", shell.folder().join("cgk.toml")).unwrap();
    let answer = shell.run(&["init"]);
    assert_eq!(answer.code, 2, "{}", answer.stderr);
    assert!(answer.stderr.contains("cgk.toml"), "{}", answer.stderr);
    assert!(!shell.folder().join("migrations").exists());
    // The control: a link that leads to a file.
    shell.write("elsewhere.toml", "migrations = \"sets\"\n");
    done(&shell, "init");
    assert!(shell.folder().join("sets/templates.toml").exists());
}

#[test]
fn what_cannot_be_done_is_said_and_nothing_is_written() {
    let shell = Shell::new();
    for (line, said) in [
        ("init --template nothing", "there is no template \"nothing\""),
        ("init --template shop --template nothing", "there is no template \"nothing\""),
        ("init --upgrade", "there is no project to upgrade"),
        ("init --list --upgrade", "cannot be used with"),
        ("init --template shop,flags", "Name several templates with several --template"),
    ] {
        let answer = shell.run(&line.split(' ').collect::<Vec<_>>());
        assert_eq!(answer.code, 2, "{line}: {}", answer.stderr);
        assert!(answer.stderr.contains(said), "{line}: {}", answer.stderr);
    }
    assert_eq!(fs::read_dir(shell.folder()).unwrap().count(), 0);
}

#[test]
fn answers_for_programs() {
    let shell = Shell::new();
    let list: serde_json::Value = serde_json::from_str(&done(&shell, "init --list --json")).unwrap();
    let names: Vec<&str> =
        list["templates"].as_array().unwrap().iter().map(|of| of["name"].as_str().unwrap()).collect();
    let known: Vec<String> = templates::all().iter().map(|of| of.name().to_owned()).collect();
    assert_eq!(names, known);
    let first: serde_json::Value = serde_json::from_str(&done(&shell, "init --template workspace --json")).unwrap();
    assert_eq!(first["config"], "written");
    assert!(first["written"].as_array().unwrap().iter().any(|file| file == "migrations/tenant/003_jobs.sql"));
    assert_eq!(first["templates"][1]["name"], "workspace");
    assert_eq!(first["templates"][1]["from"], serde_json::Value::Null);
    let second: serde_json::Value = serde_json::from_str(&done(&shell, "init --template workspace --json")).unwrap();
    assert_eq!(second["written"], serde_json::json!([]));
    assert_eq!(second["templates"][1]["from"], first["templates"][1]["to"]);
}

#[test]
fn the_list_has_every_template_with_its_description() {
    let shell = Shell::new();
    let list = done(&shell, "init --list");
    for template in templates::all() {
        let line = list.lines().find(|line| line.starts_with(template.name()));
        assert!(line.is_some_and(|line| line.contains(template.description())), "{list}");
    }
}

#[test]
fn a_file_where_a_folder_would_be_is_refused_before_anything_is_written() {
    for blocked in ["migrations", "examples", ".github/workflows", "migrations/tenant"] {
        let folder = Folder::new();
        folder.write(blocked, "a file");
        let before = folder.files();
        let error = folder.plan(&crate::stage::adding(&["workspace"])).unwrap_err();
        assert!(error.to_string().contains(blocked.rsplit('/').next().unwrap()), "{blocked}: {error:?}");
        assert_eq!(folder.files(), before);
    }
}
