//! `cgk migrate:lint`, and what `cgk migrate` says of files without a transaction.

use crate::support::{
    cgk::{Shell, sql},
    terminal::Terminal,
};
use cgk::testing::TestServer;
use insta::assert_snapshot;

fn with_files() -> Shell {
    let shell = Shell::new();
    shell.write_migrations();
    shell
}

#[test]
fn findings() {
    let shell = with_files();
    assert_snapshot!(
        "clean",
        shell.transcript(&["migrate:lint", "migrate:lint --json", "migrate:lint --deny-warnings"])
    );
    shell.write("migrations/tenant/003_vip.sql", "alter table orders add column vip boolean,\n  drop column id;\n");
    shell.write("migrations/tenant/004_index.sql", "create index orders_vip on orders (vip); -- 100 %, really\n");
    assert_snapshot!(
        "warnings",
        shell.transcript(&[
            "migrate:lint",
            "migrate:lint --json",
            "migrate:lint --deny-warnings -q",
            "migrate:lint --format github",
            "migrate:lint migrations/tenant/004_index.sql migrations/tenant/001_orders.sql",
        ])
    );
    shell.write("migrations/tenant/005_a,b.sql", "select 1;\n");
    shell.write("migrations/public/002_half.sql", "select 1;\ncommit;\n");
    assert_snapshot!(
        "errors",
        shell.transcript(&[
            "migrate:lint",
            "migrate:lint --format github -q",
            "migrate:lint migrations/tenant/004_index.sql",
            "migrate:lint nowhere.sql",
            "migrate:lint cgk.toml",
            "migrate:lint --migrations nowhere",
            "migrate:lint --format github --json",
        ])
    );
    // The reason of a problem of the file itself says what to do, and nothing else is advised. A line of accepted.txt is
    // corrected there.
    std::fs::create_dir(shell.folder().join("migrations/tenants")).unwrap();
    shell.write("migrations/tenant/006_empty.sql", "-- to be written\n");
    shell.write("migrations/tenant/007_merge.sql", "<<<<<<< a\nselect 1;\n=======\n>>>>>>> b\n");
    shell.write("migrations/tenant/008_rows.sql", "copy orders from stdin;\n1\n\\.\n");
    shell.write("migrations/009_stray.sql", "select 1;\n");
    shell.write("migrations/accepted.txt", "tenant/001_orders.sql drops-data it was empty\n");
    let text = shell.run(&["migrate:lint"]).stdout;
    let lines: Vec<&str> = text.lines().collect();
    let after = |what: &str| lines.iter().position(|line| line.contains(what)).map(|at| lines.get(at + 1).copied());
    let files = ["is not read: the tenant set", "holds no statement; write one", "conflict markers of a merge; finish"];
    for what in files.into_iter().chain(["write INSERT instead", "is in neither set: move it"]) {
        let next = after(what).unwrap_or_else(|| panic!("{what}: {text}"));
        assert!(!next.is_some_and(|next| next.contains("help:")), "{what}: {text}");
    }
    assert!(after("accepted.txt:1").flatten().is_some_and(|next| next.contains("Remove the line")), "{text}");
    assert!(after("drops-data: DROP").flatten().is_some_and(|next| next.contains("help: Stop using")), "the control");
    // A terminal breaks no word that fits.
    for columns in [44, 80] {
        let left = Terminal::start(shell.command(&["migrate:lint"]), columns).end();
        let plain = anstream::adapter::strip_str(&left.written).to_string();
        for line in plain.lines().map(|line| line.trim_end_matches('\r')) {
            let is_whole = line.trim().split('`').next().is_some_and(|text| !text.trim().contains(' '));
            assert!(line.chars().count() <= columns.into() || is_whole || line.contains('`'), "{columns}: {line}");
        }
        let words = |text: &str| text.split_whitespace().map(ToOwned::to_owned).collect::<Vec<_>>();
        assert!(words(&plain).starts_with(&words(&text)), "{columns}: {plain}");
    }
    assert!(lines.iter().any(|line| line.chars().count() > 80), "a pipe gets whole lines");
}

/// A tenant's file that changes what the shared set created, beside one that changes the tenant's own.
#[test]
fn a_change_of_the_shared_schema_is_a_warning_with_its_place() {
    let shell = with_files();
    shell.write(
        "migrations/public/002_app.sql",
        "create schema app;\ncreate table app.plans (id bigint primary key);\n",
    );
    shell.write(
        "migrations/tenant/003_own.sql",
        "alter policy mine on orders using (true);\ncomment on index orders_pkey is 'own';\n",
    );
    let before = shell.run(&["migrate:lint"]).stdout;
    assert!(!before.contains("changes-shared"), "{before}");
    shell.write(
        "migrations/tenant/004_shared.sql",
        "alter policy p on public.organizations using (true);\ncomment on index organizations_slug_key is 'x';\n\
         alter table app.plans add column name text;\n",
    );
    let answer = shell.run(&["migrate:lint"]);
    for line in [
        "004_shared.sql:1: warning changes-shared: ALTER POLICY changes public.organizations of the shared set, once per tenant",
        "004_shared.sql:2: warning changes-shared: COMMENT changes organizations_slug_key of the shared set, once per tenant",
        "004_shared.sql:3: warning changes-shared: ALTER TABLE changes app.plans of the shared set, once per tenant",
    ] {
        assert!(answer.stdout.contains(line), "{line}: {}", answer.stdout);
    }
    assert_eq!(answer.stdout.matches("changes-shared").count(), 3, "{}", answer.stdout);
    assert_eq!(shell.run(&["migrate:lint", "--deny-warnings", "migrations/tenant/004_shared.sql"]).code, 1);
}

/// Linting needs no database, and no configuration but the folder.
#[test]
fn the_bundled_set_is_clean() {
    let answer = Shell::new().run(&["migrate:lint", "--deny-warnings", "--json"]);
    assert_eq!(answer.code, 0, "{}", answer.stderr);
    assert!(answer.stdout.contains(r#""findings":[]"#), "{}", answer.stdout);
}

#[tokio::test]
async fn a_file_without_a_transaction() {
    let database = TestServer::shared().database().await.unwrap();
    let shell = Shell::on(&database);
    shell.write_migrations();
    for command in ["setup:database", "tenant:create acme"] {
        assert_eq!(shell.run(&command.split(' ').collect::<Vec<_>>()).code, 0);
    }
    sql(
        &database,
        "alter table tenant_acme.orders add column ref text; insert into tenant_acme.orders values (1, 'a'), (2, 'a')",
    )
    .await;
    shell.write("migrations/tenant/003_notes.sql", "create table notes (id bigint primary key);\n");
    shell.write(
        "migrations/tenant/004_ref.sql",
        "-- cgk:no-transaction\ninsert into notes values (1);\ncreate unique index concurrently orders_ref on orders (ref);\ninsert into notes values (2);\n",
    );
    let failed = shell.transcript(&["migrate --no-rehearsal", "migrate --no-rehearsal --json"]);
    let text = std::fs::read_to_string(shell.folder().join("migrations/tenant/004_ref.sql")).unwrap();
    shell.write("migrations/tenant/004_ref.sql", &text.replace("(1)", "(7)"));
    let refused = shell.transcript(&["migrate --no-rehearsal"]);
    shell.write("migrations/tenant/004_ref.sql", &text);
    sql(&database, "delete from tenant_acme.orders where id = 2").await;
    assert_snapshot!(format!("{failed}\n{refused}\n{}", shell.transcript(&["migrate --no-rehearsal", "migrate"])));
}
