//! What a tester from outside found in drift: an untouched fleet that drifts, and a change that is not seen.

use crate::support::fleet::{Fleet, said};

/// The settings of a database, and a default whose text they change.
#[tokio::test]
async fn a_database_with_settings_of_its_own_does_not_drift() {
    for (setting, column) in [
        ("timezone = 'Asia/Kathmandu'", "t timestamptz default '2020-01-01 00:00+0'"),
        ("datestyle = 'German'", "d date default '2020-01-02'"),
        ("intervalstyle = 'iso_8601'", "i interval default '1 day 2 hours'"),
        ("bytea_output = 'escape'", "b bytea default '\\x00'"),
        ("quote_all_identifiers = on", "b bytea"),
    ] {
        let fleet = Fleet::of(&["acme"]).await;
        fleet.raw.run(&format!("alter database {} set {setting}", fleet.database.name())).await;
        fleet.migrate(&format!("create table x ({column});\n"));
        let answer = fleet.shell.run(&["drift"]);
        assert_eq!(answer.code, 0, "{setting}: {}", said(&answer));
        // The control: the column is compared.
        fleet.raw.run("alter table tenant_acme.x rename to y").await;
        assert_eq!(fleet.shell.run(&["drift"]).code, 7, "{setting}");
    }
}

#[tokio::test]
async fn a_schemas_own_name_in_a_body_or_a_literal_is_no_drift() {
    let fleet = Fleet::of(&["acme", "globex"]).await;
    fleet.migrate(
        "do $$ begin execute format('create function g() returns bigint language sql as \
         ''select count(*) from %I.orders''', current_schema()); end $$;\n\
         do $$ begin execute format('create table x (s text default %L)', current_schema()); end $$;\n",
    );
    let answer = fleet.shell.run(&["drift"]);
    assert_eq!(answer.code, 0, "{}", said(&answer));
    // Another tenant's name is a difference, and the statement against it has the schema's own.
    fleet.raw.run("alter table tenant_acme.x alter s set default 'tenant_globex'").await;
    let answer = fleet.shell.run(&["drift", "--sql"]);
    assert_eq!(answer.code, 7, "{}", said(&answer));
    assert!(answer.stdout.contains("set default 'tenant_acme'"), "{}", said(&answer));
    assert!(!answer.stdout.contains("cgk_rehearsal"), "{}", said(&answer));
}
