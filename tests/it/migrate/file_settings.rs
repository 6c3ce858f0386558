//! What a file SETs holds for its statements and not for cgk's own; what a file does to its session is said with its name.

use crate::sandbox::{Files, Raw, failure, migrate_all, tenants};
use cgk::{Error, MigrationError, migrate, testing::TestServer};

/// The ledger writes down which timeouts its row is written under.
const WATCHED: &str = "create table tenant_acme.seen (statement text, lock text);
    create function tenant_acme.watch() returns trigger language plpgsql as $$
    begin
        insert into tenant_acme.seen values (current_setting('statement_timeout'), current_setting('lock_timeout'));
        return new;
    end $$;
    create trigger watch before insert on tenant_acme.schema_migrations for each row execute function tenant_acme.watch()";

#[tokio::test]
async fn the_timeouts_of_a_file_are_not_those_of_its_ledger_row() {
    for set in ["set", "set local", "-- cgk:no-transaction\nset"] {
        let database = TestServer::shared().set_up_database().await.unwrap();
        let files = Files::of_tenants(&[("001_a.sql", "create table items (i int)")]);
        let operator = tenants(&database, &files.load(), &["acme"]).await;
        let raw = Raw::on(&database).await;
        raw.run(WATCHED).await;
        files.tenant(
            "002_b.sql",
            &format!(
                "{set} statement_timeout = '77min';\n{} lock_timeout = '78min';\ninsert into items values (1)",
                set.rsplit('\n').next().unwrap()
            ),
        );
        // The control: the file's own statements have its timeouts.
        let watch =
            "create trigger watch before insert on tenant_acme.items for each row execute function tenant_acme.watch()";
        raw.run(watch).await;
        assert_eq!(migrate_all(&operator, &files.load()).await.unwrap().migrated(), 1);
        let seen = raw.all::<String>("select statement || ' ' || lock from tenant_acme.seen").await;
        assert_eq!(seen.len(), 2, "{seen:?}");
        assert_eq!(seen[0], "77min 78min", "{set}");
        assert!(!seen[1].contains("77min") && !seen[1].contains("78min"), "{set}: {seen:?}");
    }
}

#[tokio::test]
async fn a_timeout_in_the_rehearsal_is_the_rehearsals_and_names_the_file() {
    let database = TestServer::shared().set_up_database().await.unwrap();
    let slow = "set local statement_timeout = '100ms';\nselect pg_sleep(3600)";
    let files = Files::of_tenants(&[("001_a.sql", "create table items (i int)"), ("002_b.sql", slow)]);
    let operator = database.operator().await.unwrap();
    let error = migrate::rehearse(&operator, &files.load()).await.unwrap_err();
    assert_eq!((error.code(), error.sqlstate().unwrap().code()), ("CGK0624", "57014"), "{error:?}");
    let Error::Migration(MigrationError::Rehearsal { source }) = &error else { panic!("{error:?}") };
    let Error::Migration(MigrationError::Failed(failure)) = &**source else { panic!("{source:?}") };
    assert!(failure.file.ends_with("002_b.sql") && failure.place.as_ref().unwrap().line == 2, "{failure:?}");
}

#[tokio::test]
async fn a_file_that_gives_up_all_locks_is_named() {
    let database = TestServer::shared().set_up_database().await.unwrap();
    let files = Files::of_tenants(&[("001_a.sql", "create table items (i int)")]);
    let operator = tenants(&database, &files.load(), &["acme"]).await;
    files.tenant("002_b.sql", "-- cgk:no-transaction\nselect pg_advisory_unlock_all();\nselect 1");
    let report = migrate_all(&operator, &files.load()).await.unwrap();
    let Error::Unexpected { found, .. } = failure(&report, "acme") else { panic!("{:?}", failure(&report, "acme")) };
    assert!(found.contains("002_b.sql") && found.contains("pg_advisory_unlock_all"), "{found}");
}
