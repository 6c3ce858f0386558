//! `cgk migrate:lint`, and what `cgk migrate` says of files without a transaction.

use crate::support::cgk::{Shell, sql};
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
