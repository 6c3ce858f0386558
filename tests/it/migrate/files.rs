//! Directories of migration files: what is read, what is left aside, and what is refused before a database is touched.

use crate::sandbox::Files;
use cgk::{
    Error, ErrorKind, MigrationError,
    migrate::{Migrations, Set},
};
use std::fs;

/// The problems of a tenant folder with these files, each as `file:line: problem`, the directory cut off.
fn problems(files: &[(&str, &str)]) -> Vec<String> {
    let made = Files::of_tenants(&[]);
    for (name, text) in files {
        made.tenant(name, text);
    }
    let error = made.try_load().expect_err("the directory was taken");
    assert_eq!((error.kind(), error.code()), (ErrorKind::Invalid, "CGK0602"));
    let Error::Migration(MigrationError::Invalid { problems }) = error else { unreachable!() };
    let folder = format!("{}/tenant/", made.path().display());
    problems.iter().map(|problem| problem.to_string().replace(&folder, "")).collect()
}

#[test]
fn the_shapes_of_other_tools_are_read_in_the_order_of_their_versions() {
    let files = Files::of_tenants(&[
        ("V003__third.sql", "select 3"),
        ("20260131120000_fourth.sql", "select 4"),
        ("002_second.up.sql", "select 2"),
        ("002_second.down.sql", "drop everything"),
        ("1_first.sql", "\u{feff}select 'ü'"),
        (".001_swap.sql.swp", "\0"),
        ("README.md", "# read me"),
    ]);
    let migrations = files.load();
    let set = migrations.set(Set::Tenant);
    let ids: Vec<_> = set.files().iter().map(|file| file.id().to_string()).collect();
    assert_eq!(ids, ["001_first", "002_second", "003_third", "20260131120000_fourth"]);
    let aside: Vec<_> = set.left_aside().iter().map(|path| path.file_name().unwrap().to_str().unwrap()).collect();
    assert_eq!(aside, [".001_swap.sql.swp", "002_second.down.sql", "README.md"]);
    let public = Migrations::bundled().set(Set::Public).files().len();
    assert!(migrations.to_string().ends_with(&format!("({public} public, 4 tenant)")), "{migrations}");
}

#[test]
fn a_directory_that_is_not_there_is_named() {
    let files = Files::empty();
    for missing in [files.path().join("nowhere"), files.path().join("public")] {
        let Error::Migration(MigrationError::Unreadable { path, problem, source }) =
            Migrations::from_directory(&missing).unwrap_err()
        else {
            panic!("not unreadable")
        };
        assert_eq!((path, problem.as_str()), (missing.join("public"), "there is no such folder"));
        assert!(source.is_some());
    }
    files.public("001_a.sql", "select 1").tenant("001_b.sql", "select 1").load();
    fs::remove_dir_all(files.path().join("tenant")).unwrap();
    assert_eq!(files.try_load().unwrap_err().code(), "CGK0601");
}

#[test]
fn an_empty_folder_is_no_set() {
    assert_eq!(problems(&[]).len(), 1);
    assert!(problems(&[(".gitkeep", "")])[0].contains("holds no migrations"));
    assert!(problems(&[("001_a.down.sql", "select 1")])[0].contains("holds no migrations"));
}

/// Fault 1 of those found in other runners: the second file is never applied.
#[test]
fn two_files_of_one_version_are_refused() {
    for (one, two) in [
        ("002_a.sql", "002_b.sql"),
        ("2_a.sql", "002_b.sql"),
        ("002_a.sql", "V2__b.sql"),
        ("002_a.sql", "002_a.up.sql"),
    ] {
        let found = problems(&[("001_ok.sql", "select 1"), (one, "select 1"), (two, "select 1")]);
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(
            found[0].contains("version 002 is also the version of") && found[0].contains(one) && found[0].contains(two)
        );
    }
}

/// Fault 2 of those found in other runners: such a file is skipped, or the name panics.
#[test]
fn names_that_are_nearly_right_are_refused_and_never_skipped() {
    for bad in [
        "002-foo.sql",
        "003_x.SQL",
        "v1__x.sql",
        "|1__x.sql",
        "x.sql",
        "001.sql",
        "0_x.sql",
        "001_x.sql~",
        "notes.txt",
        "1.2_x.sql",
    ] {
        let found = problems(&[("010_ok.sql", "select 1"), (bad, "select 1")]);
        assert_eq!(found.len(), 1, "{bad}: {found:?}");
        assert!(found[0].starts_with(&format!("{bad}: ")), "{found:?}");
    }
}

#[test]
fn what_is_in_neither_set_and_what_is_no_file_is_refused() {
    let with = |place: &str, text: &str| {
        let files = Files::of_tenants(&[("001_x.sql", "select 1")]);
        std::fs::create_dir_all(files.path().join(place).parent().unwrap()).unwrap();
        std::fs::write(files.path().join(place), text).unwrap();
        files
    };
    for (place, word) in [
        ("002_x.sql", "is in neither set"),
        ("X.SQL", "is in neither set"),
        ("tenants/002_x.sql", "the tenant set is the folder \"tenant\""),
        ("Tenant/002_x.sql", "the tenant set is the folder \"tenant\""),
        ("publics/002_x.sql", "the public set is the folder \"public\""),
    ] {
        let files = with(place, "select 1");
        let Err(Error::Migration(MigrationError::Invalid { problems })) = files.try_load() else { panic!("{place}") };
        assert_eq!(problems.len(), 1, "{place}: {problems:?}");
        assert!(problems[0].problem.contains(word), "{place}: {problems:?}");
    }
    for place in ["README.md", ".gitkeep", "seeds/001_x.sql", "accepted.txt", "tenant/.002_x.sql"] {
        with(place, "").load();
    }
    // A pipe is not waited for, and a link to a device not read.
    let files = Files::of_tenants(&[("001_x.sql", "select 1")]);
    let pipe = files.path().join("tenant/002_x.sql");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    std::os::unix::fs::symlink("/dev/zero", files.path().join("tenant/003_x.sql")).unwrap();
    let Err(Error::Migration(MigrationError::Invalid { problems })) = files.try_load() else { panic!() };
    let found: Vec<&str> = problems.iter().map(|problem| problem.problem.as_str()).collect();
    assert_eq!(found, ["is no regular file; remove it from the folder"; 2]);
    // A link to a file is as good as the file.
    std::fs::remove_file(&pipe).unwrap();
    std::fs::remove_file(files.path().join("tenant/003_x.sql")).unwrap();
    std::os::unix::fs::symlink(files.path().join("tenant/001_x.sql"), files.path().join("tenant/004_x.sql")).unwrap();
    assert_eq!(files.load().set(cgk::migrate::Set::Tenant).files().len(), 2);
}

#[test]
fn the_settings_of_a_folder_are_understood_or_refused() {
    let with = |settings: &str| {
        let files = Files::of_tenants(&[("001_x.sql", "select 1")]);
        let folder = files.path().join("tenant/002_folder");
        fs::create_dir(&folder).unwrap();
        fs::write(folder.join("up.sql"), "create index concurrently i on t (a)").unwrap();
        fs::write(folder.join("metadata.toml"), settings).unwrap();
        files.try_load()
    };
    let loaded = with("run_in_transaction = false").unwrap();
    assert!(!loaded.set(Set::Tenant).files()[1].is_transactional());
    for settings in ["", "run_in_transaction = true", "# none"] {
        let error = with(settings).unwrap_err().to_string();
        assert!(error.contains("CONCURRENTLY cannot run inside the transaction"), "{settings}: {error}");
    }
    for (settings, reason) in [
        ("run_in_transaction = 'no'", "something other than run_in_transaction"),
        ("timeout = 5", "something other than run_in_transaction"),
        ("run_in_transaction = false\ntimeout = 5", "something other than run_in_transaction"),
        ("run_in_transaction", "is not valid TOML"),
    ] {
        let error = with(settings).unwrap_err().to_string();
        assert!(error.contains("002_folder/metadata.toml") && error.contains(reason), "{settings}: {error}");
    }
}

/// Fault 17 of those found in other runners: half of a migration stays behind a COMMIT.
#[test]
fn texts_that_break_the_unit_are_refused_with_their_line() {
    for (text, line, word) in [
        ("create table a ();\n\nCOMMIT;\ncreate table b ();", 3, "COMMIT"),
        ("/* commit; */ select 'commit;';\n  rollback", 2, "ROLLBACK"),
        ("-- x\ncreate index concurrently i on t (a);", 2, "CONCURRENTLY"),
        ("select 1;\nset search_path = public;", 2, "search path"),
        ("select 1;\n\\i other.sql", 2, "psql"),
        ("select 1;\ncopy t from stdin;", 2, "COPY"),
        ("select 1;\ncreate table a (id int;", 2, "a parenthesis starts here"),
        ("select $$ a;\n", 1, "a dollar-quoted text starts here"),
    ] {
        let found = problems(&[("001_x.sql", text)]);
        assert_eq!(found.len(), 1, "{text}: {found:?}");
        assert!(found[0].starts_with(&format!("001_x.sql:{line}: ")) && found[0].contains(word), "{text}: {found:?}");
    }
    for (text, word) in
        [("", "holds no statement"), ("-- nothing\n", "holds no statement"), ("select '\0'", "zero byte")]
    {
        assert!(problems(&[("001_x.sql", text)])[0].contains(word), "{text:?}");
    }
}

#[test]
fn a_relation_in_both_sets_is_refused() {
    let found = problems(&[("001_x.sql", "select 1;\ncreate table USERS (id int)")]);
    assert!(found[0].starts_with("001_x.sql:2: relation \"users\" is also created by"), "{found:?}");
}

#[test]
fn every_problem_of_both_sets_comes_at_once() {
    let files = Files::empty();
    files
        .public("001-a.sql", "select 1")
        .tenant("001_a.sql", "commit")
        .tenant("002_a.SQL", "")
        .tenant("003_a.sql", "select '");
    fs::create_dir(files.path().join("tenant/004_folder")).unwrap();
    fs::write(files.path().join("tenant/005_latin.sql"), b"select '\xe9'").unwrap();
    let Error::Migration(MigrationError::Invalid { problems }) = files.try_load().unwrap_err() else { panic!() };
    assert_eq!(problems.len(), 6, "{problems:#?}");
}
