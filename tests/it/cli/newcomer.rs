//! What somebody meets who follows the documents as a role that is no superuser, and what goes wrong at first.

use crate::{
    sandbox::{Raw, login_role, url},
    support::cgk::{Answer, Shell, sql},
};
use cgk::testing::{TestDatabase, TestServer};
use regex::Regex;

const OPERATIONS: &str = include_str!("../../../docs/operations.md");
const README: &str = include_str!("../../../README.md");

/// A database and a shell of a role that owns it, with these attributes.
async fn owned(attributes: &str) -> (TestDatabase, Raw, Shell, String) {
    let database = TestServer::shared().database().await.unwrap();
    let raw = Raw::on(&database).await;
    let (role, _) = login_role(&database, &raw, attributes).await;
    raw.run(&format!(
        "alter database {} owner to {role}; grant create, usage on schema public to {role}",
        database.name()
    ))
    .await;
    let shell = Shell::new().set("DATABASE_URL", &url(&database, Some(&role)));
    (database, raw, shell, role)
}

fn done(shell: &Shell, line: &str) -> Answer {
    let answer = shell.run(&line.split(' ').collect::<Vec<_>>());
    assert_eq!(answer.code, 0, "{line}: {}{}", answer.stdout, answer.stderr);
    answer
}

fn refused(shell: &Shell, line: &str, code: i32, says: &[&str]) {
    let answer = shell.run(&line.split(' ').collect::<Vec<_>>());
    assert_eq!(answer.code, code, "{line}: {}{}", answer.stdout, answer.stderr);
    for text in says {
        assert!(answer.stderr.contains(text), "{line}: {text}\n{}", answer.stderr);
    }
}

#[tokio::test]
async fn a_login_is_removed_by_the_statements_of_the_page() {
    let name = Regex::new(r"\bapp\b").unwrap();
    for isolation in ["role", "path"] {
        let (database, raw, shell, role) = owned("nosuperuser createrole").await;
        let shell = shell.set("CGK_ISOLATION", isolation);
        let app = format!("app_{}", &role[5..]);
        done(&shell, &format!("setup:database --app-role {app}"));
        done(&shell, "tenant:create acme");
        let own = Raw::connect(&url(&database, Some(&role))).await;
        // The control: without the first statement the server refuses the others.
        assert!(own.try_run(&format!("drop owned by {app}")).await.is_err());
        assert!(own.try_run(&format!("drop role {app}")).await.is_err());
        let block = OPERATIONS.split("<!-- remove login -->\n```sql\n").nth(1).unwrap().split("```").next().unwrap();
        let statements = name.replace_all(block, app.as_str()).into_owned();
        own.run(&statements).await;
        assert!(!raw.one::<bool>(&format!("select exists (select from pg_roles where rolname = '{app}')")).await);
        done(&shell, "tenant:create globex");
        done(&shell, "drift");
    }
}

/// An owner without CREATEROLE is refused before anything is written, and follows the advice of the error, in either way.
#[tokio::test]
async fn the_isolation_stays_open_without_the_right_to_make_roles() {
    let (_database, raw, shell, _) = owned("nosuperuser nocreaterole").await;
    refused(&shell, "setup:database", 1, &["CGK0301", "createrole", "isolation = \"path\""]);
    let written = "select to_regprocedure('public.cgk_isolation_modes()') is not null";
    assert!(!raw.one::<bool>(written).await);
    done(&shell, "setup:database --isolation path");
    assert!(raw.one::<bool>(written).await);
    done(&shell, "tenant:create acme --isolation path");
    // The control: now it is written down.
    refused(&shell, "tenant:create globex --isolation role", 1, &["CGK0306"]);

    let (_database, raw, shell, role) = owned("nosuperuser nocreaterole").await;
    refused(&shell, "setup:database", 1, &["CGK0301"]);
    raw.run(&format!("alter role {role} createrole")).await;
    done(&shell, "setup:database");
    done(&shell, "tenant:create acme");
    assert_eq!(raw.one::<String>("select public.cgk_isolation_modes()").await, "role");
}

#[tokio::test]
async fn no_tenant_is_made_while_the_shared_schema_is_behind() {
    let (_database, raw, shell, _) = owned("nosuperuser createrole").await;
    raw.run("create table public.users (id int)").await;
    refused(&shell, "setup:database", 1, &["CGK0603", "relation \"users\" already exists", "The schema is at 001"]);
    for line in ["tenant:create acme", "tenant:create acme globex"] {
        refused(&shell, line, 1, &["CGK0302", " migrations pending in the shared schema", "cgk migrate --public"]);
    }
    assert!(!raw.one::<bool>("select exists (select from pg_namespace where nspname ~ '^tenant_')").await);
    raw.run("alter table public.users rename to other_users").await;
    done(&shell, "setup:database");
    done(&shell, "tenant:create acme globex");
}

#[tokio::test]
async fn another_programs_registry_is_named_and_not_used() {
    let (_database, raw, shell, _) = owned("nosuperuser createrole").await;
    raw.run("create table public.organizations (id int, title text)").await;
    for line in ["setup:database", "tenant:list", "migrate"] {
        refused(&shell, line, 1, &["CGK0302", "public.organizations has no column slug", "Rename it"]);
    }
    raw.run("alter table public.organizations rename to clients").await;
    done(&shell, "setup:database");
}

#[tokio::test]
async fn the_own_ledger_is_not_taken_for_another_tools() {
    let database = TestServer::shared().set_up_database().await.unwrap();
    let shell = Shell::on(&database);
    done(&shell, "tenant:create acme");
    for target in ["acme", "--public"] {
        let line = format!("migrate:baseline {target} --from-table schema_migrations");
        refused(&shell, &line, 1, &["CGK0622", "cgk's own ledger"]);
        done(&shell, &format!("migrate:baseline {target}"));
    }
}

/// A database that only `cgk migrate` has seen is whole, and the registry is guarded.
#[tokio::test]
async fn migrate_alone_guards_the_registry() {
    let (_database, raw, shell, _) = owned("nosuperuser createrole").await;
    done(&shell, "migrate");
    let triggers = "select count(*) from pg_trigger where tgname ~ '^cgk_registry_'";
    assert_eq!(raw.one::<i64>(triggers).await, 3);
    done(&shell, "tenant:create acme");
    done(&shell, "drift");
    // The control: a missing trigger is found, and the next step is the one that makes it.
    raw.run("drop trigger cgk_registry_delete on public.organizations").await;
    refused(&shell, "drift", 7, &["Next: cgk setup:database makes the triggers"]);
    done(&shell, "setup:database");
    done(&shell, "drift");
}

#[tokio::test]
async fn a_login_of_services_is_named_as_the_cause() {
    let (database, raw, shell, role) = owned("nosuperuser createrole").await;
    let app = format!("app_{}", &role[5..]);
    done(&shell, &format!("setup:database --app-role {app}"));
    raw.run(&format!("alter role {app} password 'of_a_test'")).await;
    let service = Shell::new().set("DATABASE_URL", &url(&database, Some(&app)));
    for line in ["setup:database", "tenant:create acme", "tenant:list", "migrate"] {
        refused(&service, line, 1, &["is a login of services; commands need the URL of the operator"]);
    }
    // The control: the operator is not called so.
    assert!(!done(&shell, "tenant:list").stderr.contains("login of services"));
}

#[tokio::test]
async fn help_about_files_says_who_has_them() {
    let database = TestServer::shared().database().await.unwrap();
    let shell = Shell::on(&database);
    shell.write_migrations();
    for line in ["migrate -q", "tenant:create acme -q", "tenant:create globex -q"] {
        done(&shell, line);
    }
    // One statement after another: it fails in one tenant, and the other has the file.
    sql(&database, "create table tenant_globex.extra (id int)").await;
    let file = "migrations/tenant/003_more.sql";
    shell.write(file, "-- cgk:no-transaction\ncreate table more (id int);\ncreate table extra (id int primary key);\n");
    sql(&database, "insert into tenant_globex.items values (1)").await;
    let says = ["at statement 2 of 2", "already exists"];
    refused(&shell, "migrate --no-rehearsal", 4, &says);
    shell.write(file, "-- cgk:no-transaction\ncreate table more (id int);\nalter table items add must int not null;\n");
    refused(&shell, "migrate --no-rehearsal", 7, &["CGK0610", "migrate:repair --version 003 --all --reason"]);
    refused(&shell, "migrate:repair --version 99 --all --reason x", 2, &["CGK0611", "help:"]);
}

/// The same, where the rows of one tenant are the cause.
#[tokio::test]
async fn a_step_that_fails_on_rows_is_not_to_be_edited_once_another_has_the_file() {
    let database = TestServer::shared().database().await.unwrap();
    let shell = Shell::on(&database);
    shell.write_migrations();
    for line in ["migrate -q", "tenant:create acme -q", "tenant:create globex -q"] {
        done(&shell, line);
    }
    sql(&database, "insert into tenant_globex.items values (1)").await;
    let text = "-- cgk:no-transaction\ncreate table more (id int);\nalter table items add must int not null;\n";
    shell.write("migrations/tenant/003_more.sql", text);
    // The control: as long as none has it, it may be edited.
    refused(&shell, "migrate --tenant globex", 4, &["No schema has the whole file yet", "statement 2"]);
    done(&shell, "migrate --tenant acme");
    refused(&shell, "migrate", 4, &["1 schema already has this file", "not the file", "statement 2"]);
}

#[test]
fn a_second_file_of_one_name_is_refused() {
    let shell = Shell::new();
    done(&shell, "migrate:new gift_cards");
    refused(&shell, "migrate:new gift_cards", 2, &["008_gift_cards.sql has this name already", "help:"]);
    done(&shell, "migrate:new cards");
    done(&shell, "migrate:new gift_cards --public");
}

#[test]
fn a_misspelt_variable_is_named() {
    let shell = Shell::new().set("CGK_POOLD", "true").set("DATABASE_URL", "postgresql://cgk@127.0.0.1:1/app");
    refused(&shell, "tenant:list", 5, &["cgk has no setting CGK_POOLD"]);
    let shell = Shell::new().set("CGK_POOLED", "false").set("DATABASE_URL", "postgresql://cgk@127.0.0.1:1/app");
    assert!(!shell.run(&["tenant:list"]).stderr.contains("has no setting"));
}

#[tokio::test]
async fn the_readme_shows_an_error_as_it_is() {
    let database = TestServer::shared().database().await.unwrap();
    let shell = Shell::on(&database);
    for line in ["setup:database", "tenant:create acme", "migrate:new channels"] {
        done(&shell, line);
    }
    sql(&database, "insert into tenant_acme.orders (order_number, currency, total_minor) values ('1', 'EUR', 5)").await;
    let block = README.split("<!-- error: migrate -->\n```text\n").nth(1).unwrap().split("```").next().unwrap();
    let statement = block.lines().find_map(|line| line.strip_prefix(" 1 | ")).unwrap();
    shell.write("migrations/tenant/008_channels.sql", &format!("{statement}\n"));
    let answer = shell.run(&["migrate"]);
    let told = Regex::new(r"\s+").unwrap().replace_all(&answer.stderr, " ").into_owned();
    let shown = Regex::new(r"\s+").unwrap().replace_all(block, " ").into_owned();
    assert!(answer.code != 0 && told.contains(shown.trim()), "{shown}\n{told}");
}
