//! One schema's migrations: all or nothing, at the right place, and an error that says where.

use crate::sandbox::{Files, Raw, exists, failure, migrate_all, picture, plan_all, tenants, versions};
use cgk::{
    Error, ErrorKind, MigrationError,
    lifecycle::{self, RenameOptions},
    migrate::{self, Migrations, Outcome, Place, SchemaState, Scope, Silent, Target},
    testing::{TestDatabase, TestServer},
};

const FIRST: &str = "create table one (id int generated always as identity primary key, note text);";

/// A database with the tenant `acme`, migrated with the first of these files, and then all of them on disk.
async fn with_files(first: &str, more: &[(&str, &str)]) -> (TestDatabase, Files, cgk::Operator, Raw) {
    let database = TestServer::shared().set_up_database().await.unwrap();
    let files = Files::of_tenants(&[("001_first.sql", first)]);
    let operator = tenants(&database, &files.load(), &["acme"]).await;
    for (name, sql) in more {
        files.tenant(name, sql);
    }
    let raw = Raw::on(&database).await;
    (database, files, operator, raw)
}

/// Adds one failing file, runs, checks that nothing changed, and returns the error's place and SQLSTATE.
async fn place_of(sql: &str) -> (Option<Place>, String) {
    let (_database, files, operator, raw) =
        with_files(FIRST, &[("002_good.sql", "create table two (id int);"), ("003_bad.sql", sql)]).await;
    let before = picture(&raw, "tenant_acme").await;
    let report = migrate_all(&operator, &files.load()).await.unwrap();
    let Error::Migration(MigrationError::Failed(error)) = failure(&report, "acme") else {
        panic!("{:?}", failure(&report, "acme"))
    };
    assert!(error.file.ends_with("tenant/003_bad.sql"), "{:?}", error.file);
    assert_eq!(error.schema.as_str(), "tenant_acme");
    assert_eq!(picture(&raw, "tenant_acme").await, before);
    assert!(!before.is_empty());
    (error.place.clone(), error.sqlstate.code().to_owned())
}

fn place(line: usize, column: usize, text: &str) -> Option<Place> {
    Some(Place { line, column, text: text.into() })
}

/// Fault 18 of those found in other runners: a file without a last semicolon, or that ends in a comment, swallows what follows.
#[tokio::test]
async fn files_are_applied_in_order_and_recorded() {
    let more = [
        ("010_three.sql", "alter table two add column note text; -- the end"),
        ("002_two.sql", "create table two (id int)"),
        ("V20260131120000__later.sql", "insert into two (note) values ('a;b'), ($$;$$)"),
    ];
    let (_database, files, operator, raw) = with_files(FIRST, &more).await;
    let report = migrate_all(&operator, &files.load()).await.unwrap();
    assert_eq!((report.failed(), report.migrated()), (0, 1));
    let Outcome::Migrated { applied } = &report.tenants[0].result else { panic!("{report:?}") };
    let applied: Vec<_> = applied.iter().map(ToString::to_string).collect();
    assert_eq!(applied, ["002_two", "010_three", "20260131120000_later"]);
    assert_eq!(versions(&raw, "tenant_acme").await, [1, 2, 10, 20_260_131_120_000]);
    assert_eq!(raw.one::<i64>("select count(*) from tenant_acme.two").await, 2);
    assert!(!exists(&raw, "public.two").await);
    let odd: i64 = raw
        .one(
            "select count(*) from tenant_acme.schema_migrations
             where duration_ms < 0 or duration_ms > 60000 or applied_by <> current_user or cgk_version = '' or checksum !~ '^sha256:[0-9a-f]{64}$'",
        )
        .await;
    assert_eq!(odd, 0);
    let again = migrate_all(&operator, &files.load()).await.unwrap();
    assert_eq!((again.tenants.len(), again.at_head), (0, 1));
}

#[tokio::test]
async fn the_ledgers_comment_is_the_digest_of_its_rows() {
    let (_database, files, operator, raw) = with_files(FIRST, &[("002_x.sql", "create table x ()")]).await;
    let agrees = "select obj_description('tenant_acme.schema_migrations'::regclass) like
        '%sha256=' || encode(sha256(convert_to(string_agg(version || ' ' || name || ' ' || checksum, e'\n' order by version), 'utf8')), 'hex')
        from tenant_acme.schema_migrations";
    assert!(raw.one::<bool>(agrees).await);
    migrate_all(&operator, &files.load()).await.unwrap();
    assert!(raw.one::<bool>(agrees).await);
    raw.run("delete from tenant_acme.schema_migrations where version = 2").await;
    assert!(!raw.one::<bool>(agrees).await);
}

#[tokio::test]
async fn a_syntax_error_is_found_by_its_position() {
    let (place_found, state) = place_of("create table a (id int);\nselect 'ü', 1 +;\nselect 2;").await;
    assert_eq!((place_found, state.as_str()), (place(2, 16, "select 'ü', 1 +;"), "42601"));
}

#[tokio::test]
async fn a_syntax_error_at_the_end_of_a_file_is_in_that_file() {
    let (found, state) = place_of("create table a (id int);\nselect 1 +").await;
    assert_eq!((found, state.as_str()), (place(2, 11, "select 1 +"), "42601"));
}

#[tokio::test]
async fn an_unknown_name_is_found_by_its_position_behind_other_characters() {
    let (found, state) = place_of("-- Größe: 漢字 🚀\nselect 'é', nothing from one;").await;
    assert_eq!((found, state.as_str()), (place(2, 13, "select 'é', nothing from one;"), "42703"));
}

#[tokio::test]
async fn lines_end_as_they_do_on_windows() {
    let (found, state) = place_of("create table a (id int);\r\n\r\nselect 'ü',\r\n  nothing from one;\r\n").await;
    assert_eq!((found, state.as_str()), (place(4, 3, "  nothing from one;"), "42703"));
}

#[tokio::test]
async fn an_error_without_position_is_found_by_its_statement() {
    let sql = "\u{feff}create table a (id int); -- 'ü\n/* ; */ select 1;\n\ninsert into a values (1);\n  insert into a select 1/(id-1) from a; select 3";
    let (found, state) = place_of(sql).await;
    let line = "  insert into a select 1/(id-1) from a; select 3";
    assert_eq!((found, state.as_str()), (place(5, 3, line), "22012"));
}

#[tokio::test]
async fn an_error_inside_a_function_is_found_by_the_statement_that_called_it() {
    let sql = "create function f() returns void language plpgsql as $$\nbegin\n  perform nothing_at_all();\nend $$;\nselect 1;\nselect f();";
    let (found, state) = place_of(sql).await;
    assert_eq!((found, state.as_str()), (place(6, 1, "select f();"), "42883"));
    let (found, state) = place_of("select 1;\ndo $$ begin\n raise exception 'no' using hint = 'h'; end $$;").await;
    assert_eq!((found, state.as_str()), (place(2, 1, "do $$ begin"), "P0001"));
}

#[tokio::test]
async fn an_error_in_a_functions_text_is_found_in_the_file() {
    let sql = "select 1;\ncreate function f() returns int language sql as $$\n  select nothing\n$$;";
    let (found, state) = place_of(sql).await;
    assert_eq!((found, state.as_str()), (place(3, 10, "  select nothing"), "42703"));
}

#[tokio::test]
async fn a_file_cannot_pass_for_another_part_of_the_message() {
    let (found, state) = place_of("select 'cgk:0';\nselect 'cgk:2', 1;\nselect 1/0;").await;
    assert_eq!((found, state.as_str()), (place(3, 1, "select 1/0;"), "22012"));
}

#[tokio::test]
async fn a_deferred_constraint_fails_the_whole() {
    let more = [(
        "002_deferred.sql",
        "create table parent (id int primary key);
         create table child (id int references parent deferrable initially deferred);
         insert into child values (1);",
    )];
    let (_database, files, operator, raw) = with_files(FIRST, &more).await;
    let before = picture(&raw, "tenant_acme").await;
    let report = migrate_all(&operator, &files.load()).await.unwrap();
    assert_eq!(failure(&report, "acme").sqlstate().unwrap().code(), "23503");
    assert_eq!(picture(&raw, "tenant_acme").await, before);
}

/// A value that a file adds to an enum cannot be used before its commit. Such files get a commit between them, and no others do.
#[tokio::test]
async fn files_that_need_a_commit_between_them_get_one_and_no_others() {
    let first = "create type kind as enum ('a'); create table one (k kind not null)";
    let more = [
        ("002_value.sql", "alter type kind add value 'b'"),
        ("003_use.sql", "create table used as select 'b'::kind as k"),
    ];
    let (_database, files, operator, raw) = with_files(first, &more).await;
    let report = migrate_all(&operator, &files.load()).await.unwrap();
    let Outcome::Migrated { applied } = &report.tenants[0].result else { panic!("{report:?}") };
    assert_eq!((applied.len(), versions(&raw, "tenant_acme").await), (2, vec![1, 2, 3]));

    // An error that has nothing to do with the common transaction undoes all of its files.
    files.tenant("004_more.sql", "create table more ()").tenant("005_bad.sql", "select no_such from one");
    let report = migrate_all(&operator, &files.load()).await.unwrap();
    assert_eq!(failure(&report, "acme").sqlstate().unwrap().code(), "42703");
    assert_eq!(versions(&raw, "tenant_acme").await, [1, 2, 3]);

    // A constraint may depend on it. The error says which files are committed.
    files.tenant("005_bad.sql", "insert into one values (null)");
    let report = migrate_all(&operator, &files.load()).await.unwrap();
    let Error::Migration(MigrationError::Failed(error)) = failure(&report, "acme") else { panic!("{report:?}") };
    assert_eq!(error.sqlstate.code(), "23502");
    assert_eq!(error.committed.iter().map(ToString::to_string).collect::<Vec<_>>(), ["004_more"]);
    assert_eq!(versions(&raw, "tenant_acme").await, [1, 2, 3, 4]);

    // One that is checked at the end is of no file as long as they share the transaction.
    files.tenant("005_bad.sql", "create table later ()").tenant(
        "006_deferred.sql",
        "create table parent (id int primary key);
         create table child (id int references parent deferrable initially deferred); insert into child values (1)",
    );
    let report = migrate_all(&operator, &files.load()).await.unwrap();
    let Error::Migration(MigrationError::Failed(error)) = failure(&report, "acme") else { panic!("{report:?}") };
    assert!(error.sqlstate.code() == "23503" && error.file.ends_with("006_deferred.sql"), "{error:?}");
    assert_eq!(versions(&raw, "tenant_acme").await, [1, 2, 3, 4, 5]);
}

#[tokio::test]
async fn a_procedure_cannot_commit_half_of_it() {
    let sql =
        "create table half (id int);\ncreate procedure p() language plpgsql as $$ begin commit; end $$;\ncall p();";
    let (found, state) = place_of(sql).await;
    assert_eq!((found, state.as_str()), (place(3, 1, "call p();"), "2D000"));
    let (_, state) = place_of("create table half (id int); do $$ begin commit; end $$").await;
    assert_eq!(state, "2D000");
}

#[tokio::test]
async fn everything_that_disagrees_is_listed_at_once() {
    let more = [("003_three.sql", "select 3"), ("005_five.sql", "select 5"), ("007_seven.sql", "select 7")];
    let (_database, files, operator, raw) = with_files(FIRST, &more).await;
    migrate_all(&operator, &files.load()).await.unwrap();
    let before = picture(&raw, "tenant_acme").await;
    files.without("003_three.sql").without("007_seven.sql").tenant("005_five.sql", "select 55");
    files.tenant("001_renamed.sql", FIRST).without("001_first.sql").tenant("004_four.sql", "create table four ()");
    let migrations = files.load();
    let error = migrate_all(&operator, &migrations).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Drift);
    let Error::Migration(MigrationError::WrongFiles { mismatches, .. }) = &error else { panic!("{error:?}") };
    let listed: Vec<_> = mismatches.iter().map(|found| found.id.to_string()).collect();
    assert_eq!(listed, ["001_first", "003_three", "004_four", "005_five", "007_seven"]);
    // What is wrong with the one ledger.
    let state = migrate::read_state(&operator, &migrations).await.unwrap();
    let migrate::SchemaState::Diverged(found) = &state.tenants[0].state else { panic!("{state:?}") };
    let names = |ids: &[migrate::MigrationId]| ids.iter().map(ToString::to_string).collect::<Vec<_>>();
    assert!(!found.is_only_ahead());
    assert_eq!(names(&found.edited), ["005_five"]);
    let renamed: Vec<_> = found.renamed.iter().map(|file| (file.recorded.to_string(), file.file.to_string())).collect();
    assert_eq!(renamed, [("001_first".to_owned(), "001_renamed".to_owned())]);
    assert_eq!(
        found.summary(),
        "1 migration edited, 1 migration renamed, 1 migration gone, 1 migration out of order, 1 migration newer than these files"
    );
    assert_eq!(names(&found.missing), ["003_three"]);
    assert_eq!(names(&found.out_of_order), ["004_four"]);
    assert_eq!(names(&found.ahead), ["007_seven"]);
    assert_eq!(picture(&raw, "tenant_acme").await, before);
}

#[tokio::test]
async fn other_line_endings_are_no_edit() {
    let (_database, files, operator, _raw) = with_files("create table a (\n  id int\n);\n", &[]).await;
    files.tenant("001_first.sql", "\u{feff}create table a (\r\n  id int\r\n);\r\n");
    assert!(plan_all(&operator, &files.load()).await.unwrap().is_empty());
    files.tenant("001_first.sql", "create table a (\n  id  int\n);\n");
    let edited = files.load();
    let refused = plan_all(&operator, &edited).await;
    assert!(matches!(refused, Err(Error::Migration(MigrationError::WrongFiles { .. }))), "{refused:?}");
}

/// Fault 7 of those found in other runners: the next tables land in another schema.
#[tokio::test]
async fn a_dump_as_migration_is_refused_before_the_database_is_touched() {
    let files = Files::of_tenants(&[(
        "001_dump.sql",
        "SET statement_timeout = 0;\nSELECT pg_catalog.set_config('search_path', '', false);\nCREATE TABLE tenant_a.x ();\nSET \"search_path\" TO public;",
    )]);
    let Error::Migration(MigrationError::Invalid { problems }) = files.try_load().unwrap_err() else { panic!() };
    let lines: Vec<_> = problems.iter().map(|problem| problem.line.unwrap()).collect();
    assert_eq!(lines, [2, 3, 4], "{problems:#?}");
}

#[tokio::test]
async fn a_missing_schema_is_said_and_never_becomes_public() {
    let (_database, files, operator, raw) = with_files(FIRST, &[("002_x.sql", "create table x ()")]).await;
    raw.run("drop schema tenant_acme cascade").await;
    let public = picture(&raw, "public").await;
    let report = migrate_all(&operator, &files.load()).await.unwrap();
    let error = failure(&report, "acme");
    assert_eq!(error.kind(), ErrorKind::NotReady);
    assert!(error.to_string().contains("there is no schema tenant_acme"), "{error}");
    assert_eq!(picture(&raw, "public").await, public);
}

#[tokio::test]
async fn a_schema_that_disappears_after_the_plan_never_becomes_public() {
    let (_database, files, operator, raw) = with_files(FIRST, &[("002_x.sql", "create table x ()")]).await;
    let migrations = files.load();
    let planned = plan_all(&operator, &migrations).await.unwrap();
    assert!(!planned.is_empty());
    raw.run("drop schema tenant_acme cascade").await;
    let public = picture(&raw, "public").await;
    let report = migrate::run(&operator, &migrations, planned, &mut Silent).await.unwrap();
    assert!(failure(&report, "acme").to_string().contains("tenant_acme"), "{:?}", failure(&report, "acme"));
    assert_eq!(picture(&raw, "public").await, public);
}

#[tokio::test]
async fn a_tenant_that_is_renamed_after_the_plan_is_not_found() {
    let (_database, files, operator, raw) = with_files(FIRST, &[("002_x.sql", "create table x ()")]).await;
    let migrations = files.load();
    let planned = plan_all(&operator, &migrations).await.unwrap();
    let (acme, other) = ("acme".parse().unwrap(), "other".parse().unwrap());
    lifecycle::rename(&operator, &acme, &RenameOptions::default().slug(other)).await.unwrap();
    let report = migrate::run(&operator, &migrations, planned, &mut Silent).await.unwrap();
    let error = failure(&report, "acme");
    assert_eq!((error.kind(), error.code()), (ErrorKind::NotFound, "CGK0401"), "{error:?}");
    // The control: the next run plans it by its new name.
    assert_eq!(migrate_all(&operator, &migrations).await.unwrap().migrated(), 1);
    assert!(exists(&raw, "tenant_other.x").await);
}

/// Fault 7 once more. The lint sees words, not what a function does.
#[tokio::test]
async fn a_function_that_changes_the_path_or_the_role_leads_nothing_elsewhere() {
    let leave = "create function leave() returns void language plpgsql as $$
                 begin perform set_config('search' || '_path', 'public', false); end $$;";
    let (_database, files, operator, raw) =
        with_files(leave, &[("002_leaves.sql", "select leave();"), ("003_next.sql", "create table stray ()")]).await;
    let before = picture(&raw, "tenant_acme").await;
    let report = migrate_all(&operator, &files.load()).await.unwrap();
    let error = failure(&report, "acme");
    assert!(error.to_string().contains("002_leaves.sql"), "{error:?}");
    assert!(!exists(&raw, "public.stray").await);
    assert_eq!(picture(&raw, "tenant_acme").await, before);

    files.tenant("002_leaves.sql", "do $$ begin perform set_config('role', 'pg_read_all_data', false); end $$");
    let report = migrate_all(&operator, &files.load()).await.unwrap();
    assert!(failure(&report, "acme").to_string().contains("002_leaves.sql"), "{:?}", failure(&report, "acme"));
    assert_eq!(picture(&raw, "tenant_acme").await, before);

    // What comes back by itself is no problem.
    files.tenant(
        "002_leaves.sql",
        "do $$ begin perform set_config('search_path', current_setting('search_path') || ', pg_catalog', true); end $$",
    );
    let report = migrate_all(&operator, &files.load()).await.unwrap();
    assert_eq!(report.failed(), 0, "{report:?}");
    assert!(exists(&raw, "tenant_acme.stray").await);
}

/// `SET` without LOCAL outlives its transaction.
#[tokio::test]
async fn settings_of_one_file_reach_neither_the_next_nor_the_next_tenant() {
    let database = TestServer::shared().set_up_database().await.unwrap();
    let settings = "set statement_timeout = '7s'; set session_replication_role = replica; set lock_timeout = '9s';
        do $$ begin perform set_config('standard_conforming_strings', 'off', false); end $$; set default_transaction_isolation = 'serializable'; set cgk.test = 'left';";
    let note = "create table seen as select current_setting('statement_timeout') || current_setting('lock_timeout')
        || current_setting('session_replication_role') || coalesce(current_setting('cgk.test', true), '') as settings";
    let files = Files::of_tenants(&[("001_a.sql", "create table a ()")]);
    let operator = tenants(&database, &files.load(), &["acme", "globex"]).await;
    let raw = Raw::on(&database).await;
    // The control: the settings are there while the file that makes them runs.
    files.tenant("002_set.sql", &format!("{settings} {}", note.replace("seen", "before")));
    files.tenant("003_note.sql", note);
    let report = migrate_all(&operator, &files.load()).await.unwrap();
    assert_eq!(report.failed(), 0, "{report:?}");
    for schema in ["tenant_acme", "tenant_globex"] {
        assert_eq!(raw.one::<String>(&format!("select settings from {schema}.before")).await, "7s9sreplicaleft");
        assert_eq!(raw.one::<String>(&format!("select settings from {schema}.seen")).await, "03sorigin");
    }
    files.tenant("004_note.sql", &note.replace("seen", "later"));
    migrate_all(&operator, &files.load()).await.unwrap();
    assert_eq!(raw.one::<String>("select settings from tenant_acme.later").await, "03sorigin");
}

#[tokio::test]
async fn the_ledger_is_out_of_the_tenants_reach() {
    let database = TestServer::shared().set_up_database().await.unwrap();
    let db = database.with_tenants(&["acme"]).await.unwrap();
    let acme = "acme".parse().unwrap();
    for sql in [
        "select * from schema_migrations",
        "insert into schema_migrations (version, name, checksum, duration_ms, cgk_version) values (99, 'x', 'x', 1, '0')",
        "update schema_migrations set checksum = 'x'",
        "delete from schema_migrations",
        "comment on table schema_migrations is 'x'",
        "drop table schema_migrations",
        "create table mine ()",
    ] {
        let error = db.with_tenant(&acme, async |tx| tx.execute(sql, &[]).await).await.unwrap_err();
        assert_eq!(error.sqlstate().unwrap().code(), "42501", "{sql}");
    }
    db.with_tenant(&acme, async |tx| tx.execute("delete from reviews", &[]).await).await.unwrap();
}

#[tokio::test]
async fn rows_decide_where_the_comment_is_missing_or_nonsense() {
    let (_database, files, operator, raw) = with_files(FIRST, &[("002_x.sql", "create table x ()")]).await;
    let digest_of_nothing = "cgk:1 head=9 applied=9 sha256=".to_owned() + &"0".repeat(64);
    for comment in ["null", "'a note'", "'cgk:99 sha256=x'", &format!("'{digest_of_nothing}'")] {
        raw.run(&format!("comment on table tenant_acme.schema_migrations is {comment}")).await;
        let state = migrate::read_state(&operator, &files.load()).await.unwrap();
        assert!(matches!(state.tenants[0].state, SchemaState::Behind { pending: 1 }), "{comment}: {state:?}");
    }
    let report = migrate_all(&operator, &files.load()).await.unwrap();
    assert_eq!((report.failed(), report.migrated()), (0, 1));
    assert_eq!(versions(&raw, "tenant_acme").await, [1, 2]);
    let comment: String = raw.one("select obj_description('tenant_acme.schema_migrations'::regclass)").await;
    assert!(comment.starts_with("cgk:1 head=2 applied=2"), "{comment}");
}

/// A row deleted by hand, a comment restored from somewhere: the comment lies.
#[tokio::test]
async fn a_comment_that_lies_leads_to_nothing_applied_twice_and_is_mended() {
    let (_database, files, operator, raw) = with_files(FIRST, &[("002_x.sql", "create table x ()")]).await;
    let comment = "select obj_description('tenant_acme.schema_migrations'::regclass)";
    let behind: String = raw.one(comment).await;
    let migrations = files.load();
    migrate_all(&operator, &migrations).await.unwrap();
    let head: String = raw.one(comment).await;
    let whole = picture(&raw, "tenant_acme").await;

    // It says behind, the rows say head: the run visits, finds out, applies nothing, and mends it.
    raw.run(&format!("comment on table tenant_acme.schema_migrations is '{behind}'")).await;
    let report = migrate_all(&operator, &migrations).await.unwrap();
    assert!(matches!(&report.tenants[0].result, Outcome::Migrated { applied } if applied.is_empty()), "{report:?}");
    assert_eq!(picture(&raw, "tenant_acme").await, whole);
    assert!(plan_all(&operator, &migrations).await.unwrap().tenants.is_empty());

    // It says head, the rows say behind: the fleet's one query believes it, whoever names the tenant finds out.
    raw.run("delete from tenant_acme.schema_migrations where version = 2; drop table tenant_acme.x").await;
    assert_eq!(raw.one::<String>(comment).await, head);
    let only = Scope::Only(vec!["acme".parse().unwrap()]);
    let planned = migrate::plan_fleet(&operator, &migrations, &only, Target::Head).await.unwrap();
    assert!(!planned.is_empty());
    let report = migrate::run(&operator, &migrations, planned, &mut Silent).await.unwrap();
    assert_eq!((report.failed(), report.migrated()), (0, 1), "{report:?}");
    assert!(exists(&raw, "tenant_acme.x").await);
    assert_eq!(versions(&raw, "tenant_acme").await, [1, 2]);
}

#[tokio::test]
async fn objects_belong_to_the_schemas_owner() {
    let (_database, files, operator, raw) = with_files(FIRST, &[("002_x.sql", "create table x (id int)")]).await;
    let tag = operator.facts().database_tag();
    let owner = format!("cgk_owner_{}", tag.as_str());
    raw.run(&format!(
        "create role {owner}; alter schema tenant_acme owner to {owner}; alter table tenant_acme.schema_migrations owner to {owner};
         alter default privileges for role {owner} in schema tenant_acme grant select on tables to cgk_acme_{}",
        tag.as_str()
    ))
    .await;
    let report = migrate_all(&operator, &files.load()).await.unwrap();
    assert_eq!(report.failed(), 0, "{report:?}");
    let owned: String =
        raw.one("select pg_get_userbyid(relowner)::text from pg_class where oid = 'tenant_acme.x'::regclass").await;
    assert_eq!(owned, owner);
    // The session goes on as itself.
    assert_eq!(migrate::read_state(&operator, &files.load()).await.unwrap().tenants.len(), 1);
}

#[tokio::test]
async fn rights_reach_later_tables_and_a_revoked_one_stays_revoked() {
    let revoke = "create table audit (id bigint generated always as identity, note text);
        do $$
        declare tenant_role text := (select pg_get_userbyid(a.grantee) from pg_namespace n, aclexplode(n.nspacl) a
                                     where n.nspname = current_schema() and a.grantee <> n.nspowner);
        begin execute format('revoke update, delete on audit from %I', tenant_role); end $$";
    let (database, files, operator, _raw) = with_files(FIRST, &[("002_audit.sql", revoke)]).await;
    migrate_all(&operator, &files.load()).await.unwrap();
    files.tenant("003_later.sql", "create table later (id serial, note text); create sequence counter");
    migrate_all(&operator, &files.load()).await.unwrap();
    let db = database.db().await.unwrap();
    let acme = "acme".parse().unwrap();
    db.with_tenant(&acme, async |tx| {
        for sql in [
            "insert into one (note) values ('a')",
            "insert into later (note) values ('a')",
            "update later set note = 'b'",
            "delete from later",
            "select nextval('counter')",
            "insert into audit (note) values ('a')",
        ] {
            tx.execute(sql, &[]).await?;
        }
        Ok(())
    })
    .await
    .unwrap();
    for sql in ["update audit set note = 'b'", "delete from audit", "truncate later"] {
        let error = db.with_tenant(&acme, async |tx| tx.execute(sql, &[]).await).await.unwrap_err();
        assert_eq!(error.sqlstate().unwrap().code(), "42501", "{sql}");
    }
}

#[tokio::test]
async fn a_target_is_reached_and_not_passed() {
    let more = [("002_b.sql", "create table b ()"), ("005_c.sql", "create table c ()")];
    let (_database, files, operator, raw) = with_files(FIRST, &more).await;
    let migrations = files.load();
    for (target, reached) in [(1, vec![1]), (2, vec![1, 2]), (1, vec![1, 2]), (5, vec![1, 2, 5])] {
        let target = Target::Version(migrate::Version::new(target).unwrap());
        let planned = migrate::plan_fleet(&operator, &migrations, &Scope::Tenants, target).await.unwrap();
        migrate::run(&operator, &migrations, planned, &mut Silent).await.unwrap();
        assert_eq!(versions(&raw, "tenant_acme").await, reached);
    }
    // Of these there is no file.
    for target in [4, 9] {
        let target = Target::Version(migrate::Version::new(target).unwrap());
        let refused = migrate::plan_fleet(&operator, &migrations, &Scope::Tenants, target).await;
        assert!(matches!(refused, Err(Error::Migration(MigrationError::NoSuchVersion { .. }))), "{refused:?}");
    }
}

#[tokio::test]
async fn somebody_elses_ledger_is_left_alone() {
    let database = TestServer::shared().database().await.unwrap();
    let (operator, raw) = (database.operator().await.unwrap(), Raw::on(&database).await);
    // Not even the right that setup takes from everyone is touched.
    raw.run("grant create on schema public to public").await;
    raw.run("create table public.schema_migrations (version varchar primary key); insert into public.schema_migrations values ('1')").await;
    let before = picture(&raw, "public").await;
    let error = cgk::setup::setup(&operator, &Migrations::bundled(), &mut Silent).await.unwrap_err();
    assert!(error.to_string().contains("ledger of schema \"public\""), "{error}");
    assert_eq!(picture(&raw, "public").await, before);
}

#[tokio::test]
async fn a_registry_that_the_files_do_not_make_is_missed_by_name() {
    let database = TestServer::shared().database().await.unwrap();
    let operator = database.operator().await.unwrap();
    let files = Files::empty();
    let migrations = files.public("001_a.sql", "create table a ()").tenant("001_b.sql", "create table b ()").load();
    migrate_all(&operator, &migrations).await.unwrap();
    let error = plan_all(&operator, &migrations).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotReady, "{error:?}");
}
