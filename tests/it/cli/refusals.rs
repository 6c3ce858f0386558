//! Everything that is refused, and what is said about it.

use crate::support::cgk::{Shell, is_private, sql, url};
use cgk::testing::TestServer;
use insta::assert_snapshot;

#[tokio::test]
async fn slugs() {
    let database = TestServer::shared().set_up_database().await.unwrap();
    let shell = Shell::on(&database);
    let long = "a".repeat(49);
    let bad =
        ["", "Acme", "a-b", "-a", "a b", "1a", &long, "x, tenant_b", "x\"; drop schema public", "ünï", "a\u{1b}[31m"];
    let mut text = String::new();
    for slug in bad {
        let arguments = ["tenant:create", slug];
        text.push_str(&shell.shown(&arguments, &shell.run(&arguments)).replace('\u{1b}', "<ESC>"));
        text.push('\n');
    }
    text.push_str(&shell.transcript(&["migrate --tenant Acme", "tenant:create Acme --json", "tenant:list"]));
    assert_snapshot!(text);
}

#[test]
fn configuration() {
    let mut text = String::new();
    let mut refused = |shell: Shell, line: &str| {
        let shell = shell.call(env!("CARGO_MANIFEST_DIR"), "<here>");
        text.push_str(&shell.transcript(&[line]));
        text.push('\n');
    };
    let with = |url: &str| Shell::new().set("DATABASE_URL", url);
    refused(Shell::new(), "tenant:list");
    refused(Shell::new(), "migrate --json");
    refused(with("postgresql://cgk:secret@localhost/app?sslmode=allow"), "tenant:list");
    refused(with("postgresql://cgk:secret@db.example.com/app?sslmode=disable"), "setup:database");
    refused(with("postgresql://cgk:secret@db.example.com/app?sslrootcert=absent.pem"), "tenant:list");
    refused(with("mysql://cgk:secret@localhost/app"), "tenant:list");
    refused(with("postgresql://cgk:secret@ep-x-pooler.eu-central-1.aws.neon.tech/app"), "migrate");
    refused(with("postgresql://cgk:secret@localhost/app"), "tenant:list --config absent.toml");
    refused(Shell::new(), "tenant:list --database-url-file absent");
    refused(with("postgresql://cgk:secret@localhost/app").set("CGK_ISOLATION", "walls"), "tenant:list");
    assert!(!text.contains("secret"), "{text}");
    assert_snapshot!(text);
}

#[tokio::test]
async fn connections() {
    let database = TestServer::shared().database().await.unwrap();
    let mut text = String::new();
    let nothing_there = Shell::new().set("DATABASE_URL", "postgresql://cgk@127.0.0.1:1/app");
    text.push_str(&nothing_there.transcript(&["tenant:list", "setup:database", "migrate --json"]));
    let no_socket = Shell::new().set("DATABASE_URL", "postgresql://cgk@/app?host=/nonexistent");
    text.push_str(&no_socket.transcript(&["tenant:list"]));
    let missing = url(&database, None).replace(database.name(), "no_such_database");
    let missing = Shell::on(&database).set("DATABASE_URL", &missing).call("<host>&port=5432", "<host>");
    text.push_str(&missing.transcript(&["tenant:list"]));
    if is_private() {
        text.push_str(&Shell::as_role(&database, Some("no_such_role")).transcript(&["tenant:list"]));
        assert_snapshot!(text);
    }
}

#[tokio::test]
async fn a_database_that_is_not_set_up() {
    let database = TestServer::shared().database().await.unwrap();
    let shell = Shell::on(&database);
    assert_snapshot!(shell.transcript(&[
        "tenant:list",
        "tenant:create acme",
        "migrate:status --check",
        "migrate --tenants",
        "migrate --check",
    ]));
}

#[tokio::test]
async fn rights() {
    if !is_private() {
        return; // Needs roles that come in without a password.
    }
    let database = TestServer::shared().database().await.unwrap();
    let role = |kind: &str| format!("cgk_test_{kind}_{}", &database.name()[9..]);
    let (nobody, maker) = (role("nobody"), role("maker"));
    let name = database.name();
    sql(
        &database,
        &format!(
            "create role {nobody} login; create role {maker} login; revoke create on schema public from public;
             grant create on database {name} to {maker}; grant create, usage on schema public to {maker};"
        ),
    )
    .await;
    let as_nobody = Shell::as_role(&database, Some(&nobody)).call(&nobody, "nobody");
    let as_maker = Shell::as_role(&database, Some(&maker)).call(&maker, "maker");
    let mut text = as_nobody.transcript(&["setup:database", "demo"]);
    text.push_str(&as_maker.transcript(&[
        "setup:database -q",
        "tenant:create acme",
        "tenant:create acme --isolation path",
        "setup:database --isolation path --change-isolation start -q",
        "tenant:create acme --isolation path",
    ]));
    text.push_str(&as_nobody.transcript(&["tenant:list"]));
    assert_snapshot!(text);
}

/// The server answers, and what is in the way is a setting of the role or the database: the help says where to look.
#[tokio::test]
async fn settings_of_the_role_and_the_database() {
    if !is_private() {
        return; // Needs roles that come in without a password.
    }
    let database = TestServer::shared().database().await.unwrap();
    let owner = format!("cgk_test_owner_{}", &database.name()[9..]);
    let name = database.name();
    sql(&database, &format!("create role {owner} login createrole; alter database {name} owner to {owner}; alter schema public owner to pg_database_owner")).await;
    let shell = Shell::as_role(&database, Some(&owner));
    shell.transcript(&["setup:database -q", "tenant:create acme -q"]);
    assert!(shell.transcript(&["tenant:list"]).contains("acme"), "the control");
    let set = async |setting: &str| sql(&database, &format!("alter role {owner} in database {name} {setting}")).await;
    set("set row_security = off").await;
    let text = shell.transcript(&["tenant:list"]);
    assert!(text.contains("reset row_security") && !text.contains("setup:database"), "{text}");
    set("reset row_security").await;
    set("set session_preload_libraries = 'no_such_library'").await;
    let text = shell.transcript(&["tenant:list"]);
    assert!(text.contains("The server answered") && !text.contains("socket in that directory"), "{text}");
    set("reset session_preload_libraries").await;
    assert!(shell.transcript(&["tenant:list"]).contains("acme"), "the control");
}

/// A copy belongs to whoever made it, and the operator's role has no right in it.
#[tokio::test]
async fn a_new_identity_of_a_copy_names_the_grants_that_it_needs() {
    if !is_private() {
        return; // Needs roles that come in without a password.
    }
    let database = TestServer::shared().database().await.unwrap();
    let owner = format!("cgk_test_copier_{}", &database.name()[9..]);
    let name = database.name();
    sql(&database, &format!("create role {owner} login createrole; alter database {name} owner to {owner}; alter schema public owner to pg_database_owner")).await;
    let shell = Shell::as_role(&database, Some(&owner));
    shell.transcript(&["setup:database -q", "tenant:create acme -q"]);
    // As in a copy: another identity than its own, and another owner.
    sql(&database, &format!("update cgk_database set database_oid = 1; alter database {name} owner to current_user"))
        .await;
    let text = shell.transcript(&["setup:database --new-identity"]);
    assert!(text.contains("grant create on schema public to") && text.contains("grant create on database"), "{text}");
    sql(&database, &format!("grant create on schema public to {owner}; grant create on database {name} to {owner}"))
        .await;
    let text = shell.transcript(&["setup:database --new-identity"]);
    assert!(!text.contains("error"), "{text}");
}

#[tokio::test]
async fn a_schema_that_is_not_ours() {
    let database = TestServer::shared().set_up_database().await.unwrap();
    sql(&database, "create schema tenant_x; create table tenant_x.diary (line text);").await;
    let shell = Shell::on(&database);
    assert_snapshot!(shell.transcript(&["tenant:create x", "tenant:create x --json", "tenant:list"]));
    // A tenant without its ledger, and two with another object of that name: each help leads to a fleet at head.
    assert_eq!(shell.run(&["tenant:create", "y", "z", "v", "-q"]).code, 0);
    let migrate = || shell.run(&["migrate", "--tenants", "--no-rehearsal"]);
    assert_eq!(migrate().code, 0, "the control");
    sql(
        &database,
        "drop table tenant_y.schema_migrations; drop table tenant_z.schema_migrations;
         create table tenant_z.schema_migrations (version bigint primary key, dirty boolean);
         insert into tenant_z.schema_migrations values (7, false);
         alter table tenant_v.schema_migrations rename to kept;
         create view tenant_v.schema_migrations as select from tenant_v.kept;",
    )
    .await;
    let text = migrate().stderr;
    let rename = |kind: &str, schema: &str, to: &str| format!("alter {kind} {schema}.schema_migrations rename to {to}");
    let (table, view) = (rename("table", "tenant_z", "old_migrations"), rename("view", "tenant_v", "NEW_NAME"));
    let adopted = ["cgk migrate:baseline y", "cgk migrate:baseline z --from-table old_migrations"];
    for help in adopted.into_iter().chain([table.as_str(), &view]) {
        assert!(text.contains(&format!("`{help}`")), "{help}: {text}");
    }
    assert!(!text.contains("tenant:create"), "{text}");
    // The schema is there, so nothing advises to create an empty one.
    let export = shell.run(&["tenant:export", "y", "--to", "y.cgk"]).stderr;
    assert!(export.contains("`cgk migrate:baseline y`") && !export.contains("recreate-empty"), "{export}");
    sql(&database, &format!("{table}; {view}; alter table tenant_v.kept rename to schema_migrations")).await;
    for command in adopted {
        let answer = shell.run(&command.split(' ').skip(1).collect::<Vec<_>>());
        assert_eq!(answer.code, 0, "{command}: {}", answer.stderr);
    }
    let answer = migrate();
    assert_eq!(answer.code, 0, "{}", answer.stderr);
}

#[test]
fn migration_files() {
    let mut text = String::new();
    let mut refused = |prepare: &dyn Fn(&Shell)| {
        // The files are looked at before the server: nothing listens there.
        let shell = Shell::new().set("DATABASE_URL", "postgresql://cgk@127.0.0.1:1/app");
        shell.write_migrations();
        prepare(&shell);
        text.push_str(&shell.transcript(&["migrate"]));
        text.push('\n');
    };
    let remove = |shell: &Shell, path: &str| std::fs::remove_dir_all(shell.folder().join(path)).unwrap();
    refused(&|shell| remove(shell, "migrations"));
    refused(&|shell| remove(shell, "migrations/tenant"));
    refused(&|shell| {
        remove(shell, "migrations/tenant");
        std::fs::create_dir(shell.folder().join("migrations/tenant")).unwrap();
    });
    refused(&|shell| {
        shell.write("migrations/tenant/002_other.sql", "create table other ();");
        shell.write("migrations/tenant/002-foo.sql", "create table foo ();");
        shell.write("migrations/tenant/003_x.SQL", "create table x ();");
        shell.write("migrations/tenant/004_open.sql", "select 'never closed;\n");
        shell.write("migrations/tenant/005_empty.sql", "-- to be written\n");
        shell.write("migrations/tenant/006_commit.sql", "create table y ();\ncommit;\n");
        shell.write("migrations/tenant/007_path.sql", "set search_path = public;\n");
        shell.write("migrations/tenant/008_organizations.sql", "create table organizations ();\n");
    });
    assert_snapshot!(text);
}

/// What the server says beyond its message is shown, unless somebody does not want rows in a log.
#[tokio::test]
async fn detail_hint_and_context_of_the_server_are_shown_unless_unwanted() {
    let database = TestServer::shared().database().await.unwrap();
    let shell = Shell::on(&database);
    shell.write_migrations();
    shell.transcript(&["migrate -q", "tenant:create acme -q"]);
    shell.write(
        "migrations/tenant/003_detail.sql",
        "do $$ begin raise exception 'no' using detail = 'a row of somebody', hint = 'ask somebody'; end $$;\n",
    );
    for (arguments, shown) in [(["migrate", "-q"].as_slice(), true), (&["migrate", "-q", "--no-detail"], false)] {
        let answer = shell.run(arguments);
        for text in ["detail: a row of somebody", "hint: ask somebody", "context: PL/pgSQL function"] {
            assert_eq!(answer.stderr.contains(text), shown, "{arguments:?}: {text}\n{}", answer.stderr);
        }
    }
    for (arguments, shown) in [(["migrate", "--json"].as_slice(), true), (&["migrate", "--json", "--no-detail"], false)]
    {
        let answer = shell.run(arguments);
        for text in [r#""detail":"a row of somebody""#, r#""hint":"ask somebody""#, r#""context":"PL/pgSQL"#] {
            assert_eq!(answer.stdout.contains(text), shown, "{arguments:?}: {text}\n{}", answer.stdout);
        }
    }
}
