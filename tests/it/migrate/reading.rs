//! What reading a set of files means for a database that is there already: ledgers of earlier versions, files that were applied
//! and are refused today, tables of other tools, databases that do not speak UTF-8.

use crate::sandbox::{Files, Raw, exists, failure, migrate_all, plan_all, tenants, url, versions};
use cgk::{
    Error, MigrationError, drift,
    lifecycle::{CreateOptions, create},
    migrate::{self, Lint, Migrations, Outcome, RunOptions, Scope, Severity, Silent, lint_directory},
    setup,
    testing::{TestDatabase, TestServer},
};
use std::fs;

/// Every error that can be accepted, in a text that holds no other.
const ACCEPTABLE: &[(&str, &str)] = &[
    ("create index concurrently i on t (b)", "outside-transaction"),
    ("-- cgk:no-transaction\ncreate database x", "beyond-the-schema"),
    ("insert into tenant_b.t values (1)", "other-tenant"),
    ("create table shared (id int)", "relation-in-both-sets"),
    ("-- a word first\n-- cgk:no-transaction\nselect 1", "marker"),
    ("-- atlas:delimiter x\nselect 1", "directive"),
    ("create table x ();\n-- down\nselect 1", "rollback-section"),
    ("create extension citext", "extension-in-tenant"),
    ("do $$ begin perform 'schema_migrations'; end $$", "protected-mention"),
    ("set local standard_conforming_strings = off", "session-strings"),
    ("create table\u{a0}x (id int)", "unseen-character"),
    ("-- cgk:no-transaction\nset local lock_timeout = 0", "set-local"),
];

const NEVER: &[(&str, &str)] = &[
    ("select 1; commit", "transaction-control"),
    ("set search_path = x", "search-path"),
    ("select '", "file"),
    ("delete from schema_migrations", "protected-name"),
    ("select 1;\n\\restrict x", "client-command"),
    ("-- cgk:no-transaction\ncreate index concurrently on t (b)", "unnamed-index"),
];

fn with(text: &str, accepted: &str) -> Files {
    let files = Files::of_tenants(&[("001_first.sql", "create table t (id int, b int)"), ("002_x.sql", text)]);
    files.public("900_shared.sql", "create table shared (id int)");
    fs::write(files.path().join("accepted.txt"), accepted).unwrap();
    files
}

fn errors(files: &Files) -> Vec<&'static str> {
    let found = lint_directory(files.path()).unwrap();
    found.iter().filter(|finding| finding.severity() == Severity::Error).map(|finding| finding.lint.name()).collect()
}

#[test]
fn an_error_of_a_file_that_was_applied_is_accepted_beside_it_and_nowhere_else() {
    let line = |lint: &str| format!("tenant/002_x.sql {lint} it was applied in 2021 and cannot be edited\n");
    for (text, lint) in ACCEPTABLE {
        assert_eq!(errors(&with(text, "")), [*lint], "{text}");
        let files = with(text, &line(lint));
        assert_eq!(errors(&files), Vec::<&str>::new(), "{text}");
        let migrations = files.load();
        let accepts = |found: &[migrate::Finding]| found.iter().filter(|one| one.lint == Lint::Accept).count();
        assert_eq!(accepts(&migrations.warnings()), 0, "{text}: {:?}", migrations.warnings());
        // For another file, without a reason, and in the file itself: refused as before.
        let elsewhere = "tenant/001_first.sql ".to_owned() + lint + " because";
        for accepted in [elsewhere, format!("tenant/002_x.sql {lint}")] {
            let files = with(text, &accepted);
            assert_eq!(errors(&files), [*lint], "{text}");
            assert_eq!(accepts(&lint_directory(files.path()).unwrap()), 1, "{text}");
        }
        let files = with(&format!("{text}\n;\n-- cgk:accept {lint} because\nselect 2"), "");
        assert_eq!(errors(&files), [*lint], "{text}");
    }
    for (text, lint) in NEVER {
        let files = with(text, &line(lint));
        assert_eq!(errors(&files), [*lint], "{text}");
        assert!(files.try_load().is_err(), "{text}");
        let found = lint_directory(files.path()).unwrap();
        assert!(found.iter().any(|one| one.reason.contains("is an error and cannot be accepted")), "{text}: {found:?}");
    }
    let listed: Vec<&str> = ACCEPTABLE.iter().chain(NEVER).map(|(_, lint)| *lint).collect();
    for lint in Lint::ALL.iter().filter(|lint| lint.severity() == Severity::Error) {
        assert!(listed.contains(&lint.name()), "{lint} is in neither list");
        assert_eq!(lint.is_acceptable(), ACCEPTABLE.iter().any(|(_, name)| *name == lint.name()), "{lint}");
    }
}

#[tokio::test]
async fn what_is_accepted_beside_a_file_leaves_its_ledger_row_as_it_is() {
    let database = TestServer::shared().set_up_database().await.unwrap();
    let files = Files::of_tenants(&[("001_first.sql", "create table t (id int);\n-- down\nselect 1")]);
    assert!(matches!(files.try_load(), Err(Error::Migration(MigrationError::Invalid { .. }))));
    fs::write(
        files.path().join("accepted.txt"),
        "tenant/001_first.sql rollback-section a heading, and a query behind it\n",
    )
    .unwrap();
    let operator = tenants(&database, &files.load(), &["acme"]).await;
    fs::write(
        files.path().join("accepted.txt"),
        "tenant/001_first.sql rollback-section said in other words\n# and the next\n",
    )
    .unwrap();
    let migrations = files.load();
    assert!(plan_all(&operator, &migrations).await.unwrap().is_empty());
}

const DATED: &str = "create table more (id int)";

/// Ledgers as versions wrote them that took `2020_01_02_000003_more.sql` for version 2020.
async fn with_earlier_ledger(slugs: &[&str]) -> (TestDatabase, Files, cgk::Operator, Raw) {
    let database = TestServer::shared().set_up_database().await.unwrap();
    let files =
        Files::of_tenants(&[("001_first.sql", "create table t (id int)"), ("2020_01_02_000003_more.sql", DATED)]);
    let operator = tenants(&database, &files.load(), &["acme", "globex"]).await;
    let raw = Raw::on(&database).await;
    assert_eq!(versions(&raw, "tenant_acme").await, [1, 20_200_102_000_003]);
    for slug in slugs {
        raw.run(&format!(
            "update tenant_{slug}.schema_migrations set version = 2020, name = '01_02_000003_more' where version > 2020;
             comment on table tenant_{slug}.schema_migrations is null"
        ))
        .await;
    }
    (database, files, operator, raw)
}

#[tokio::test]
async fn a_dated_file_is_the_one_that_earlier_versions_applied() {
    let (_database, files, operator, raw) = with_earlier_ledger(&["acme"]).await;
    let migrations = files.load();
    assert!(plan_all(&operator, &migrations).await.unwrap().is_empty());
    files.tenant("2021_01_01_000001_next.sql", "create table next (id int)");
    let migrations = files.load();
    let report = migrate_all(&operator, &migrations).await.unwrap();
    assert_eq!((report.migrated(), report.failed()), (2, 0), "{report:?}");
    for report in &report.tenants {
        let Outcome::Migrated { applied } = &report.result else { panic!("{report:?}") };
        assert_eq!(applied.len(), 1, "{applied:?}");
    }
    assert_eq!(versions(&raw, "tenant_acme").await, [1, 2020, 20_210_101_000_001]);
    assert_eq!(versions(&raw, "tenant_globex").await, [1, 20_200_102_000_003, 20_210_101_000_001]);
    assert!(plan_all(&operator, &migrations).await.unwrap().is_empty());
    let verified = drift::verify(&operator, &migrations, &Scope::Tenants).await.unwrap();
    assert!(verified.tenants.iter().all(|tenant| tenant.differences.is_empty()), "{verified:?}");
    // In one transaction with the others, and as planned.
    files.tenant("2022_01_01_000001_last.sql", "create table last (id int)");
    let migrations = files.load();
    let planned = plan_all(&operator, &migrations).await.unwrap();
    let options = RunOptions::default().all_or_nothing().exactly_as_planned();
    let report = migrate::run_with(&operator, &migrations, planned, &options, &mut Silent).await.unwrap();
    assert_eq!((report.migrated(), report.failed()), (2, 0), "{report:?}");
    assert!(exists(&raw, "tenant_acme.last").await);
}

#[tokio::test]
async fn a_dated_file_that_was_edited_or_is_another_is_not_the_one_that_was_applied() {
    let (_database, files, operator, raw) = with_earlier_ledger(&["acme"]).await;
    for (edited, name) in
        [("create table more (id bigint)", "2020_01_02_000003_more.sql"), (DATED, "2020_01_02_000003_other.sql")]
    {
        files.without("2020_01_02_000003_more.sql").tenant(name, edited);
        // Refused as a set that is not the fleet's, or for the one tenant.
        match migrate_all(&operator, &files.load()).await {
            Ok(report) => assert!(
                matches!(failure(&report, "acme"), Error::Migration(MigrationError::Diverged(_))),
                "{name}: {report:?}"
            ),
            Err(error) => {
                assert!(matches!(error, Error::Migration(MigrationError::WrongFiles { .. })), "{name}: {error:?}");
            }
        }
        files.without(name).tenant("2020_01_02_000003_more.sql", DATED);
    }
    // Both rows for one file: one of them is of no file.
    raw.run(
        "insert into tenant_acme.schema_migrations (version, name, checksum, duration_ms, cgk_version)
         select 20200102000003, 'more', checksum, 0, '0' from tenant_acme.schema_migrations where version = 2020",
    )
    .await;
    let report = migrate_all(&operator, &files.load()).await.unwrap();
    let Error::Migration(MigrationError::Diverged(divergence)) = failure(&report, "acme") else { panic!("{report:?}") };
    assert_eq!((divergence.missing.len(), divergence.edited.len()), (1, 0), "{divergence}");
}

/// The fleet's set of files, in ledgers and in the record of it: by the ids of this version, of earlier ones, or of both.
#[tokio::test]
async fn a_set_is_the_fleets_whichever_version_wrote_it_down() {
    const NEW: &str = "2020_01_02_000003_more.sql";
    let edited = "create table more (id bigint)";
    for earlier in [&[][..], &["acme"], &["acme", "globex"]] {
        for record in ["by this version", "by an earlier one", "missing"] {
            let case = format!("{earlier:?}, record {record}");
            let (database, files, operator, raw) = with_earlier_ledger(earlier).await;
            raw.run(match record {
                "missing" => "drop table cgk_migration_files",
                "by an earlier one" => {
                    "update cgk_migration_files set version = 2020, name = '01_02_000003_more' where version > 2020"
                }
                _ => "select 1",
            })
            .await;
            // The controls: it is edited, or gone, by whichever name it is known; nothing is written then.
            for changed in [Some(edited), None] {
                let files = files.without(NEW);
                if let Some(text) = changed {
                    files.tenant(NEW, text);
                }
                let refused = plan_all(&operator, &files.load()).await.unwrap_err();
                let Error::Migration(MigrationError::WrongFiles { mismatches, .. }) = &refused else {
                    panic!("{case}, {changed:?}: {refused:?}")
                };
                let schemas: usize = mismatches.iter().map(|mismatch| mismatch.schemas).sum();
                assert!((1..=2).contains(&schemas), "{case}, {changed:?}: {mismatches:?}");
            }
            files.tenant(NEW, DATED);
            assert!(plan_all(&operator, &files.load()).await.unwrap().is_empty(), "{case}");
            assert_eq!(migrate_all(&operator, &files.load()).await.unwrap().at_head, 2, "{case}");
            let db = database.db().await.unwrap();
            let (slug, options) = ("initech".parse().unwrap(), CreateOptions::default());
            create(&operator, &db, &files.load(), &slug, &options)
                .await
                .unwrap_or_else(|error| panic!("{case}: {error:?}"));
            files.tenant("2021_01_01_000001_next.sql", "create table next (id int)");
            let report =
                migrate_all(&operator, &files.load()).await.unwrap_or_else(|error| panic!("{case}: {error:?}"));
            assert_eq!((report.migrated(), report.failed()), (3, 0), "{case}: {report:?}");
            // An edit that every schema takes for what was applied.
            files.without(NEW).tenant(NEW, edited);
            let version = "20200102000003".parse().unwrap();
            let accept = migrate::Repair::Accept { version, reason: "a test".into() };
            let repaired = migrate::repair(&operator, &files.load(), &Scope::Tenants, &accept).await;
            repaired.unwrap_or_else(|error| panic!("{case}: {error:?}"));
            assert!(plan_all(&operator, &files.load()).await.unwrap().is_empty(), "{case}");
        }
    }
}

/// A name is shown on one line, whatever is in it.
#[test]
fn a_file_name_with_control_characters_is_refused_and_shown_escaped() {
    for (name, shown) in [
        ("002_a\nb.sql", "002_a\\nb.sql"),
        ("002\r_a.sql", "002\\r_a.sql"),
        ("\u{1b}[31m002_a.sql", "\\u{1b}[31m002_a.sql"),
        ("002_a\u{202e}b.sql", "002_a\\u{202e}b.sql"),
        ("002_a\u{2028}b.sql", "002_a\\u{2028}b.sql"),
        ("002_a\u{7f}.sql", "002_a\\u{7f}.sql"),
    ] {
        let files = Files::of_tenants(&[("001_first.sql", "create table t (id int)"), (name, "select 1")]);
        let Err(Error::Migration(MigrationError::Invalid { problems })) = files.try_load() else {
            panic!("{name:?} is taken");
        };
        let text = problems[0].to_string();
        assert!(text.contains(shown) && !text.contains(name), "{text:?}");
        assert_eq!(text.chars().find(|c| c.is_control() || ('\u{2028}'..='\u{202e}').contains(c)), None, "{text:?}");
    }
}

async fn in_encoding(encoding: &str) -> TestDatabase {
    let database = TestServer::shared().database().await.unwrap();
    let server = Raw::connect(&url(&database, None).replace(&format!("/{}", database.name()), "/postgres")).await;
    let name = database.name();
    server.run(&format!("drop database {name}")).await;
    server
        .run(&format!("create database {name} encoding '{encoding}' lc_collate 'C' lc_ctype 'C' template template0"))
        .await;
    database
}

#[tokio::test]
async fn a_database_in_latin1_is_set_up_whole_with_the_bundled_files() {
    for encoding in ["LATIN1", "SQL_ASCII", "WIN1252"] {
        let database = in_encoding(encoding).await;
        let operator = database.operator().await.unwrap();
        assert_eq!(operator.facts().encoding, encoding);
        let bundled = Migrations::bundled();
        setup::setup(&operator, &bundled, &mut Silent).await.unwrap();
        let db = database.db().await.unwrap();
        create(&operator, &db, &bundled, &"acme".parse().unwrap(), &CreateOptions::default()).await.unwrap();
        let verified = drift::verify(&operator, &bundled, &Scope::Everything).await.unwrap();
        assert!(verified.tenants.iter().all(|tenant| tenant.differences.is_empty()), "{verified:?}");
    }
}

#[tokio::test]
async fn a_character_that_the_encoding_has_not_is_named_before_anything_runs() {
    let database = in_encoding("LATIN1").await;
    let operator = database.operator().await.unwrap();
    let raw = Raw::on(&database).await;
    let files =
        Files::of_tenants(&[("001_kunden.sql", "-- Preise in €\ncreate table kunden (n text default 'Größe'); -- …")]);
    setup::setup(&operator, &files.load(), &mut Silent).await.unwrap();
    let operator = tenants(&database, &files.load(), &["acme", "globex"]).await;
    assert_eq!(
        raw.one::<String>("with n as (insert into tenant_acme.kunden default values returning n) select n from n")
            .await,
        "Größe"
    );
    let verified = drift::verify(&operator, &files.load(), &Scope::Tenants).await.unwrap();
    assert!(verified.tenants.iter().all(|tenant| tenant.differences.is_empty()), "{verified:?}");

    // A file that can be carried out stands before those that cannot, one of them without a transaction.
    files.tenant("002_fine.sql", "create table fine ()");
    files.tenant("003_euro.sql", "-- €\ninsert into kunden values ('ü'),\n  ('5 €'), ('→')");
    files.tenant("004_steps.sql", "-- cgk:no-transaction\n-- €\nselect 'x';\nselect '日'");
    let refused = |error: Error| {
        let Error::Migration(MigrationError::Invalid { problems }) = error else { panic!("{error:?}") };
        let line = |problem: &migrate::FileProblem| {
            let name = problem.file.file_name().unwrap().to_string_lossy().into_owned();
            (name, problem.line.unwrap(), problem.problem.clone())
        };
        let mut found: Vec<_> = problems.iter().map(line).collect();
        found.sort();
        let places: Vec<_> = found.iter().map(|(name, line, _)| (name.as_str(), *line)).collect();
        assert_eq!(places, [("003_euro.sql", 3), ("003_euro.sql", 3), ("004_steps.sql", 4)], "{found:?}");
        assert!(found.iter().any(|(_, _, text)| text.contains("LATIN1 has no '€', at column 7")), "{found:?}");
    };
    let migrations = files.load();
    refused(migrate_all(&operator, &migrations).await.unwrap_err());
    let db = database.db().await.unwrap();
    refused(
        create(&operator, &db, &migrations, &"initech".parse().unwrap(), &CreateOptions::default()).await.unwrap_err(),
    );
    // A rehearsal of its own asks the server, which names the first of them.
    let error = format!("{:?}", migrate::rehearse(&operator, &migrations).await.unwrap_err());
    assert!(error.contains("LATIN1 has no '€', at column 7"), "{error}");
    assert!(!exists(&raw, "tenant_acme.fine").await && !exists(&raw, "tenant_globex.fine").await);
    assert_eq!(versions(&raw, "tenant_acme").await, [1]);
    // The control: it is the characters alone that keep the files from running.
    files
        .tenant("003_euro.sql", "insert into kunden values ('ü')")
        .tenant("004_steps.sql", "-- cgk:no-transaction\n-- €\nselect 'x'");
    let report = migrate_all(&operator, &files.load()).await.unwrap();
    assert_eq!((report.migrated(), report.failed()), (2, 0), "{report:?}");
}

#[tokio::test]
async fn backslashes_are_characters_whatever_role_and_database_say() {
    let database = TestServer::shared().database().await.unwrap();
    let raw = Raw::on(&database).await;
    raw.run(&format!("alter database {} set standard_conforming_strings = off", database.name())).await;
    // The control: a session that does nothing about it reads two characters as one.
    let other = Raw::on(&database).await;
    assert_eq!(other.one::<i32>(r"select length('\\')").await, 1);
    let operator = database.operator().await.unwrap();
    let text = r"create table t (a text default '\'); insert into t default values; insert into t values ('x\'';y');";
    let files = Files::of_tenants(&[("001_first.sql", text)]);
    files
        .tenant("002_steps.sql", "-- cgk:no-transaction\ninsert into t values ('\\');\ninsert into t values ('''\\');");
    let migrations = files.load();
    setup::setup(&operator, &migrations, &mut Silent).await.unwrap();
    let operator = tenants(&database, &migrations, &["acme", "globex"]).await;
    files.tenant("003_more.sql", r"insert into t values ('\n');");
    let report = migrate_all(&operator, &files.load()).await.unwrap();
    assert_eq!((report.migrated(), report.failed()), (2, 0), "{report:?}");
    let held: Vec<String> = raw.all("select a from tenant_globex.t").await;
    assert_eq!(held, ["\\", "x\\';y", "\\", "'\\", "\\n"]);
    // A service's own session is as the database says.
    let db = database.db().await.unwrap();
    let slug = "acme".parse().unwrap();
    let length = db
        .with_tenant(&slug, async |tx| {
            Ok::<i32, cgk::Error>(tx.query_one(r"select pg_catalog.length('\\')", &[]).await?.get(0))
        })
        .await;
    assert_eq!(length.unwrap(), 1);
}
