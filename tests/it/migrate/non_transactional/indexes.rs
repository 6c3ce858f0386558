//! Indexes that are built concurrently: none is left invalid, and none is taken for another.

use super::*;
use crate::support::cgk::Shell;

/// A statement whose object does not exist has left nothing, so nothing of it is recorded as started.
#[tokio::test]
async fn what_was_refused_for_a_missing_object_is_not_taken_for_started() {
    let parts = "create table parts (n int) partition by range (n); create table other (n int)";
    let (_database, files, operator, raw) = with_files(&["acme"], &[("002_parts.sql", parts)]).await;
    migrate_all(&operator, &files.load()).await.unwrap();
    for (statement, sqlstate) in [
        ("drop index concurrently missing", "42704"),
        ("drop index concurrently one", "42809"),
        ("alter table parts detach partition missing concurrently", "42P01"),
        ("alter table parts detach partition other concurrently", "42P01"),
    ] {
        files.tenant("003_refused.sql", &format!("-- cgk:no-transaction\n{statement};\n"));
        let report = migrate_all(&operator, &files.load()).await.unwrap();
        assert_eq!(refused(&report, "acme").sqlstate.code(), sqlstate, "{statement}");
        assert!(!exists(&raw, "tenant_acme.schema_migration_steps").await, "{statement}");
    }
    // The control: what waits for another session may have left something, and its record stays until that is known.
    files.tenant(
        "003_refused.sql",
        "-- cgk:no-transaction\ninsert into marks values ('a');\ndrop index concurrently missing;\n",
    );
    migrate_all(&operator, &files.load()).await.unwrap();
    assert!(exists(&raw, "tenant_acme.schema_migration_steps").await);
    assert!(!raw.one::<bool>("select begun from tenant_acme.schema_migration_steps").await);
}

/// Fault 11 of those found in other runners: an INVALID index after a failed CREATE INDEX CONCURRENTLY.
#[tokio::test]
async fn an_index_that_a_killed_run_left_invalid_is_built_again() {
    let (database, files, operator, raw) = with_files(&["acme"], &[("002_steps.sql", STEPS)]).await;
    let holder = Raw::on(&database).await;
    holder.run("begin; insert into tenant_acme.one (note) values ('held')").await;
    let victim = Operator::connect(&database.config().clone().with_application_name("victim")).await.unwrap();
    let migrations = files.load();
    let victims = migrations.clone();
    let run = tokio::spawn(async move { migrate_one(&victim, &victims, "acme").await });
    let waiting = "select exists (select from pg_stat_activity where datname = current_database() and application_name = 'victim' and query like 'create index%' and wait_event_type = 'Lock')";
    raw.wait_until(waiting).await;
    raw.all::<bool>("select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() and application_name = 'victim'").await;
    assert_eq!(failure(&run.await.unwrap().unwrap(), "acme").kind(), ErrorKind::Unavailable);
    // The control: it is there, and nobody can use it.
    assert_eq!(invalid_indexes(&raw, "tenant_acme").await, ["one_note"]);
    holder.run("rollback").await;
    until_gone(&raw, "victim").await;
    let report = migrate_all(&operator, &migrations).await.unwrap();
    assert_eq!(report.failed(), 0, "{report:?}");
    assert_eq!(faults(&raw, "acme").await, Vec::<String>::new());
}

/// Fault 11 of those found in other runners: duplicates that a unique index meets.
#[tokio::test]
async fn an_index_that_cannot_be_built_leaves_nothing_and_the_run_resumes_there() {
    let sql = "-- cgk:no-transaction\ninsert into marks values ('a');\ncreate unique index concurrently one_unique\n  on one (note);\ninsert into marks values ('b');";
    let (_database, files, operator, raw) = with_files(&["acme"], &[("002_unique.sql", sql)]).await;
    raw.run("insert into tenant_acme.one (note) values ('x'), ('x')").await;
    let migrations = files.load();
    for _ in 0..2 {
        let report = migrate_all(&operator, &migrations).await.unwrap();
        let error = refused(&report, "acme");
        assert_eq!(error.sqlstate.code(), "23505");
        assert_eq!(error.place.as_ref().map(|place| place.line), Some(3));
        let resumes = error.unfinished.unwrap();
        assert_eq!((resumes.statement, resumes.of), (2, 3));
        assert!(error.to_string().ends_with("at statement 2 of 3"), "{error}");
        assert_eq!(invalid_indexes(&raw, "tenant_acme").await, Vec::<String>::new());
        assert!(!exists(&raw, "tenant_acme.one_unique").await);
        assert_eq!(versions(&raw, "tenant_acme").await, [1]);
    }
    raw.run("delete from tenant_acme.one where id = 1").await;
    let report = migrate_all(&operator, &migrations).await.unwrap();
    assert_eq!(report.failed(), 0, "{report:?}");
    let tags: Vec<String> = raw.all("select tag from tenant_acme.marks order by 1").await;
    assert_eq!(tags, ["a", "b"]);
    assert!(
        raw.one::<bool>(
            "select indisvalid and indisunique from pg_index where indexrelid = 'tenant_acme.one_unique'::regclass"
        )
        .await
    );
}

/// Fault 11 of those found in other runners: a lock timeout, and `IF NOT EXISTS`, which takes the invalid index for the one that was meant.
#[tokio::test]
async fn an_index_left_by_a_lock_timeout_is_not_taken_for_one_that_exists() {
    let create = "create index concurrently if not exists one_note on one (note)";
    let sql = format!("-- cgk:no-transaction\nset lock_timeout = '60ms';\n{create};");
    let (database, files, _operator, raw) = with_files(&["acme"], &[("002_index.sql", &sql)]).await;
    let mut session = database.config().session().clone();
    session.lock_timeout = Duration::from_millis(60);
    let operator = Operator::connect(&database.config().clone().with_session(session)).await.unwrap();
    let holder = Raw::on(&database).await;
    holder.run("begin; insert into tenant_acme.one (note) values ('held')").await;
    let migrations = files.load();
    let report = migrate_all(&operator, &migrations).await.unwrap();
    assert_eq!(refused(&report, "acme").sqlstate.code(), "55P03");
    assert_eq!(refused(&report, "acme").unfinished.unwrap().statement, 2);
    holder.run("rollback").await;
    // The control: by hand it succeeds, and the index is as invalid as before.
    assert_eq!(invalid_indexes(&raw, "tenant_acme").await, ["one_note"]);
    raw.run(&create.replace("on one", "on tenant_acme.one")).await;
    assert_eq!(invalid_indexes(&raw, "tenant_acme").await, ["one_note"]);
    let report = migrate_all(&operator, &migrations).await.unwrap();
    assert_eq!(report.failed(), 0, "{report:?}");
    assert_eq!(invalid_indexes(&raw, "tenant_acme").await, Vec::<String>::new());
    assert_eq!(versions(&raw, "tenant_acme").await, [1, 2]);
    // Settings of the file are gone from the session.
    assert_eq!(raw.one::<i64>("select count(*) from pg_locks where locktype = 'advisory' and database = (select oid from pg_database where datname = current_database())").await, 0);
}

#[tokio::test]
async fn an_invalid_index_that_somebody_else_left_is_rebuilt_too() {
    let (_database, files, operator, raw) = with_files(
        &["acme"],
        &[("002_i.sql", "-- cgk:no-transaction\ncreate unique index concurrently if not exists u on one (note)")],
    )
    .await;
    raw.run("insert into tenant_acme.one (note) values ('x'), ('x')").await;
    raw.try_run("create unique index concurrently u on tenant_acme.one (note)").await.unwrap_err();
    assert_eq!(invalid_indexes(&raw, "tenant_acme").await, ["u"]);
    raw.run("delete from tenant_acme.one").await;
    let report = migrate_all(&operator, &files.load()).await.unwrap();
    assert_eq!(report.failed(), 0, "{report:?}");
    assert_eq!(invalid_indexes(&raw, "tenant_acme").await, Vec::<String>::new());
}

/// One that is valid and not of this file is the server's to refuse.
#[tokio::test]
async fn an_index_that_was_there_before_is_not_taken_for_the_files_own() {
    let (_database, files, operator, raw) =
        with_files(&["acme"], &[("002_i.sql", "-- cgk:no-transaction\ncreate index concurrently one_old on one (id)")])
            .await;
    for _ in 0..2 {
        let report = migrate_all(&operator, &files.load()).await.unwrap();
        assert_eq!(refused(&report, "acme").sqlstate.code(), "42P07");
        assert!(!exists(&raw, "tenant_acme.schema_migration_steps").await, "nothing was done, so nothing is recorded");
    }
}

/// The place of an error is that of the word in the file, in bytes before it and behind it alike.
#[tokio::test]
async fn the_place_of_an_error_is_its_word() {
    for (text, line, column) in [
        ("-- cgk:no-transaction\ninsert into marks values ('ä');\n  select 'é',\n     missing from marks;", 4, 6),
        ("-- cgk:no-transaction\nselect 1;\n\n  create index concurrently i on missing (id);", 4, 3),
        ("select 'é';\n select 1,\n  missing from marks;", 3, 3),
    ] {
        let (_database, files, operator, _raw) = with_files(&["acme"], &[("002_x.sql", text)]).await;
        let report = migrate_all(&operator, &files.load()).await.unwrap();
        let place = refused(&report, "acme").place.as_ref().unwrap();
        assert_eq!((place.line, place.column), (line, column), "{text}");
    }
}

/// A name without a schema finds a relation of the shared schema where the tenant has none. A name with one is that of the
/// schema, also if the tenant has a relation of this name.
#[tokio::test]
async fn a_statement_that_would_change_the_shared_schema_is_not_run() {
    let (database, files, operator, raw) = with_files(&["acme", "globex"], &[]).await;
    raw.run(
        "create index on users (password_hash); create table parts (id int) partition by range (id); \
         create table parts_1 partition of parts for values from (0) to (10); create schema app; create table app.one (id int); \
         create index one_i on app.one (id); create table app.plans (id int)",
    )
    .await;
    let shell = Shell::on(&database).set("CGK_MIGRATIONS", files.path().to_str().unwrap());
    for (statement, relation) in [
        ("create index concurrently users_x on users (password_hash)", "users"),
        ("drop index concurrently if exists users_password_hash_idx", "users_password_hash_idx"),
        ("reindex index concurrently users_password_hash_idx", "users_password_hash_idx"),
        ("reindex table concurrently users", "users"),
        ("alter table parts detach partition parts_1 concurrently", "parts"),
        ("create index concurrently users_x on public.users (password_hash)", "public.users"),
        ("create index concurrently plans_x on app.plans (id)", "app.plans"),
        ("create index concurrently one_x on app.one (id)", "app.one"),
        ("drop index concurrently app.one_i", "app.one_i"),
        ("reindex (concurrently) table app.one", "app.one"),
    ] {
        files.tenant("002_i.sql", &format!("-- cgk:no-transaction\n\n{statement}"));
        // The control: the server would run it.
        let relations = "select string_agg(concat(oid, ' ', relfilenode), ', ' order by oid) from pg_class \
                         where relname ~ '^(users|parts|plans|one)'";
        let before: String = raw.one(relations).await;
        let runs = format!(
            "begin; set local search_path = tenant_acme, public; {}; rollback",
            statement.replace("(concurrently)", "").replace("concurrently", "")
        );
        raw.run(&runs).await;
        let report = migrate_all(&operator, &files.load()).await.unwrap();
        for tenant in ["acme", "globex"] {
            let error = failure(&report, tenant);
            assert_eq!((error.code(), error.kind()), ("CGK0627", ErrorKind::Refused), "{statement}: {error}");
            let path = files.path().join("tenant/002_i.sql");
            let expected = format!("migration {}:3 would change {relation:?}, which all tenants share", path.display());
            assert!(error.to_string().starts_with(&expected), "{error}");
        }
        assert_eq!(raw.one::<String>(relations).await, before, "{statement}");
        assert!(!exists(&raw, "tenant_acme.schema_migration_steps").await, "nothing is started");
    }
    let answer = shell.run(&["migrate", "--no-rehearsal"]);
    let said = format!("{}{}", answer.stdout, answer.stderr);
    assert!(said.contains("CGK0627") && said.contains("cgk migrate:new <name> --public"), "{said}");
    // The control: its own table.
    files.tenant("002_i.sql", "-- cgk:no-transaction\ncreate index concurrently one_x on one (note)");
    assert_eq!(migrate_all(&operator, &files.load()).await.unwrap().failed(), 0);
}
