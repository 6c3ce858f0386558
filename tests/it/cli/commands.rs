//! Every command when all is well, again, and when a migration is not.

use crate::support::cgk::{Shell, sql};
use cgk::testing::TestServer;
use insta::assert_snapshot;
use std::fs;

#[tokio::test]
async fn from_an_empty_database_to_a_migrated_fleet() {
    let database = TestServer::shared().database().await.unwrap();
    let shell = Shell::on(&database);
    let mut text = shell.transcript(&[
        "setup:database",
        "setup:database",
        "tenant:list",
        "tenant:create acme --name Acme",
        "tenant:create acme",
        "tenant:create acme --name Other",
        "tenant:create globex --quiet",
        "tenant:list",
        "migrate",
        "migrate:new gift_cards",
        "migrate:new plans --public",
        "migrate --plan",
    ]);
    shell.write("migrations/tenant/008_gift_cards.sql", "create table gift_cards (code text primary key);\n");
    shell.write("migrations/public/011_plans.sql", "create table plans (code text primary key);\n");
    text.push_str(&shell.transcript(&[
        "migrate --plan",
        "migrate --plan -v",
        "migrate --check",
        "migrate --tenants",
        "migrate --public",
        "migrate:status --check",
        "migrate --tenant globex",
        "migrate",
        "migrate",
        "migrate --check",
        "migrate:status",
        "migrate:status --check",
    ]));
    assert_snapshot!(text);
}

#[tokio::test]
async fn answers_for_programs() {
    let database = TestServer::shared().database().await.unwrap();
    let shell = Shell::on(&database);
    let mut text = shell.transcript(&[
        "setup:database --json -q",
        "tenant:create acme --json -q",
        "tenant:create acme --json -q",
        "tenant:create globex --json -q --name Globex",
        "migrate:new gift_cards --json -q",
    ]);
    shell.write("migrations/tenant/008_gift_cards.sql", "create table gift_cards (code text primary key);\n");
    shell.write("migrations/tenant/009_bad.sql", "create table nope (id no_such_type);\n");
    text.push_str(&shell.transcript(&["migrate --plan --json", "migrate --tenant acme --json -q"]));
    fs::remove_file(shell.folder().join("migrations/tenant/009_bad.sql")).unwrap();
    text.push_str(&shell.transcript(&[
        "migrate --check --json",
        "migrate --json -q",
        "migrate:status --json",
        "tenant:list --json",
    ]));
    for line in text.lines().filter(|line| line.starts_with('{')) {
        serde_json::from_str::<serde_json::Value>(line).unwrap_or_else(|error| panic!("{error}: {line}"));
    }
    // The last record of every command says what the process ends with.
    for part in text.split("$ cgk").skip(1) {
        let last = part.lines().rfind(|line| line.starts_with('{')).unwrap();
        let exit = part.lines().find_map(|line| line.strip_prefix("--- exit ")).unwrap();
        assert!(last.contains(&format!("\"exit\":{exit}")), "{part}");
    }
    assert_snapshot!(text);
}

#[tokio::test]
async fn a_migration_that_fails_is_shown_with_its_line() {
    let database = TestServer::shared().database().await.unwrap();
    let shell = Shell::on(&database);
    shell.write_migrations();
    let mut text = shell.transcript(&[
        "migrate -q",
        "tenant:create acme -q",
        "tenant:create globex -q",
        "tenant:create initech -q",
    ]);
    shell.write("migrations/tenant/003_typo.sql", "create table good (id int);\n\ncreate tabel bäd (\n\tid int\n);\n");
    text.push_str(&shell.transcript(&["migrate"]));
    shell.write(
        "migrations/tenant/003_typo.sql",
        "create table good (id int);\n\tinsert into items (id) values ('é'); -- rows\n",
    );
    text.push_str(&shell.transcript(&["migrate"]));
    // Fails where there is a row, in the middle of the fleet, and nowhere else.
    sql(&database, "insert into tenant_globex.orders values (1)").await;
    shell.write(
        "migrations/tenant/003_typo.sql",
        "create table extra (id int);\nalter table orders add column must int not null;\n",
    );
    text.push_str(&shell.transcript(&["migrate", "migrate:status --check"]));
    sql(&database, "delete from tenant_globex.orders").await;
    text.push_str(&shell.transcript(&["migrate"]));
    shell.write("migrations/public/002_bad.sql", "create table fine (id int);\nselect missing from organizations;\n");
    text.push_str(&shell.transcript(&["migrate", "migrate --json -q"]));
    assert_snapshot!(text);
}

#[tokio::test]
async fn drift_is_told_in_full() {
    let database = TestServer::shared().database().await.unwrap();
    let shell = Shell::on(&database);
    shell.write_migrations();
    shell.transcript(&["migrate -q", "tenant:create acme -q", "tenant:create globex -q"]);
    let tenant = |file: &str, text: &str| shell.write(&format!("migrations/tenant/{file}"), text);
    tenant("001_orders.sql", "create table orders (id bigint primary key, more int);\n");
    tenant("002_items.sql", "create table items (id int);\n");
    let mut text = shell.transcript(&["migrate", "migrate --check", "migrate:status --check", "migrate:status"]);

    fs::remove_file(shell.folder().join("migrations/tenant/002_items.sql")).unwrap();
    tenant("001_orders.sql", "create table orders (id bigint primary key);\n");
    text.push_str(&shell.transcript(&["migrate", "migrate:status --check --json"]));
    tenant("003_late.sql", "create table late (id int);\n");
    text.push_str(&shell.transcript(&["migrate --check"]));

    shell.write("migrations/public/001_organizations.sql", "create table organizations (id uuid);\n");
    text.push_str(&shell.transcript(&["migrate", "migrate --json -q", "setup:database -q", "migrate:status --check"]));
    assert_snapshot!(text);
}

#[tokio::test]
async fn a_tenant_that_is_half_made_is_named_and_finished() {
    let database = TestServer::shared().set_up_database().await.unwrap();
    let shell = Shell::on(&database);
    sql(&database, "insert into organizations (slug, name, status) values ('begun', 'Begun', 'onboarding'), ('lost', 'Lost', 'active')").await;
    let mut text = shell.transcript(&["tenant:list", "migrate --plan", "migrate", "migrate:status --check"]);
    text.push_str(&shell.transcript(&[
        "tenant:create begun",
        "tenant:create lost",
        "tenant:create lost --recreate-empty",
        "migrate:status --check",
    ]));
    sql(&database, "update organizations set status = 'suspended', name = E'red \\x1b[31m' where slug = 'lost'").await;
    text.push_str(&shell.transcript(&["tenant:create lost", "tenant:list"]));
    assert!(!text.contains('\u{1b}'));
    assert_snapshot!(text);
}

#[test]
fn new_migrations() {
    let shell = Shell::new();
    let mut text = shell.transcript(&[
        "migrate:new first",
        "migrate:new second --tenant",
        "migrate:new third --public",
        "migrate:new no-such",
    ]);
    text.push_str(&fs::read_to_string(shell.folder().join("migrations/tenant/009_second.sql")).unwrap());
    text.push_str(&fs::read_to_string(shell.folder().join("cgk.toml")).unwrap());
    let other = Shell::new();
    other.write("cgk.toml", "isolation = \"path\"\n");
    text.push_str(&other.transcript(&["migrate:new first", "migrate:new first --migrations db"]));
    assert_eq!(fs::read_to_string(other.folder().join("cgk.toml")).unwrap(), "isolation = \"path\"\n");
    other.write("db/tenant/first.sql", "select 1;\n");
    text.push_str(&other.transcript(&["migrate:new second --migrations db"]));
    assert_snapshot!(text);
}

/// A set that was copied from an older release gets what is bundled since then, once.
#[test]
fn a_bundled_migration_is_added_to_a_set_of_ones_own() {
    let shell = Shell::new();
    let mut text = shell.transcript(&["migrate:new rights --public --from-builtin row_level_security"]);
    assert!(!shell.folder().join("migrations").exists());
    shell.write("old/public/001_organizations.sql", "select 1;\n");
    text.push_str(&shell.transcript(&[
        "migrate:new rights --public --from-builtin row_level_security --migrations old",
        "migrate:new again --public --from-builtin row_level_security --migrations old",
        "migrate:new other --public --from-builtin orders --migrations old",
        "migrate:new orders --from-builtin orders --migrations old",
    ]));
    let read = |folder: &std::path::Path, name: &str| fs::read_to_string(folder.join(name)).unwrap();
    let bundled = std::path::Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/migrations"));
    for (made, from) in [
        ("old/public/002_rights.sql", "public/007_row_level_security.sql"),
        ("old/tenant/001_orders.sql", "tenant/001_orders.sql"),
    ] {
        assert_eq!(read(shell.folder(), made), read(bundled, from));
    }
    assert!(!shell.folder().join("old/public/003_again.sql").exists());
    assert_snapshot!(text);
}

/// A shared set that was copied before `change_notices` was bundled.
#[tokio::test]
async fn a_set_that_does_not_notify_of_changes_is_named_at_setup() {
    let database = TestServer::shared().database().await.unwrap();
    let shell = Shell::on(&database);
    let bundled = std::path::Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/migrations/public"));
    for file in fs::read_dir(bundled).unwrap() {
        let name = file.unwrap().file_name().into_string().unwrap();
        if *name < *"010" {
            shell.write(&format!("own/public/{name}"), &fs::read_to_string(bundled.join(&name)).unwrap());
        }
    }
    shell.write("own/tenant/001_orders.sql", "create table orders (id bigint primary key);\n");
    let set_up = ["setup:database", "--migrations", "own"];
    for arguments in [set_up.to_vec(), [&set_up[..], &["--json"]].concat()] {
        let answer = shell.run(&arguments);
        let said = answer.stdout.clone() + &answer.stderr;
        assert_eq!(answer.code, 0, "{said}");
        assert!(said.contains("organizations_notify_insert") && said.contains("sessions_notify_update"), "{said}");
    }
    let new = ["migrate:new", "change_notices", "--public", "--from-builtin", "change_notices", "--migrations", "own"];
    for arguments in [&new[..], &["migrate", "--public", "--migrations", "own"]] {
        let answer = shell.run(arguments);
        assert_eq!(answer.code, 0, "{answer:?}");
    }
    let answer = shell.run(&[&set_up[..], &["--json"]].concat());
    assert_eq!((answer.code, answer.stdout.contains("changes_not_notified")), (0, false), "{answer:?}");
}
