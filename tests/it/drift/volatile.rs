//! A file that takes the time or a random value makes schemas that differ, and the line says so.

use crate::sandbox::{Files, Raw, migrate_all, tenants};
use cgk::{drift, migrate::Scope, testing::TestServer};

const TABLES: &str = "create table plain (id int primary key, kept int default 100000, at timestamptz default now());";

/// Each value comes from `clock_timestamp()` or `random()`, which the rehearsal and the tenant ask at different times.
const CLOCK: &str = "
do $$ begin
    execute format('create table at_%s (id int)', to_char(clock_timestamp(), 'YYYYMMDDHH24MISSUS'));
    execute format('alter table plain add made timestamptz default %L', clock_timestamp());
    execute format('alter table plain add token text default %L', md5(random()::text));
end $$;
";

async fn lines(files: &Files, change: &str) -> Vec<String> {
    let database = TestServer::shared().set_up_database().await.unwrap();
    let migrations = files.load();
    let operator = tenants(&database, &migrations, &["acme"]).await;
    migrate_all(&operator, &migrations).await.unwrap();
    if !change.is_empty() {
        Raw::on(&database).await.run(change).await;
    }
    let report = drift::verify(&operator, &migrations, &Scope::Tenants).await.unwrap();
    report.tenants[0].differences.iter().map(ToString::to_string).collect()
}

#[tokio::test]
async fn a_value_of_the_clock_or_of_chance_is_not_laid_on_the_tenant() {
    let files = Files::of_tenants(&[("001_tables.sql", TABLES), ("002_clock.sql", CLOCK)]);
    let found = lines(&files, "").await;
    // The precondition: it differs.
    assert_eq!(found.len(), 4, "{found:#?}");
    for line in &found {
        assert!(line.ends_with("(002_clock calls clock_timestamp: every schema may have another value)"), "{line}");
    }
    assert!(found.iter().any(|line| line.starts_with("table at_") && line.contains(": missing")), "{found:#?}");
    assert!(found.iter().any(|line| line.starts_with("table at_") && line.contains(": not from any")), "{found:#?}");
    assert!(found.iter().any(|line| line.starts_with("column plain.made: default is")), "{found:#?}");
    assert!(found.iter().any(|line| line.starts_with("column plain.token: default is")), "{found:#?}");
}

#[tokio::test]
async fn a_change_by_hand_is_not_laid_on_a_file() {
    let change =
        "alter table tenant_acme.plain alter kept set default 900000; create table tenant_acme.at_20260101000000 ()";
    // A file without such a call; then one that has it, and a value that nobody's clock makes.
    let quiet = lines(
        &Files::of_tenants(&[("001_tables.sql", "create table plain (id int, kept int default 100000);")]),
        change,
    )
    .await;
    assert_eq!(quiet.len(), 2, "{quiet:#?}");
    assert!(quiet.iter().all(|line| !line.contains("calls")), "{quiet:#?}");
    let small = "alter table tenant_acme.plain alter kept set default 5; alter table tenant_acme.plain alter at set default now() + '1 day'";
    let noted = lines(&Files::of_tenants(&[("001_tables.sql", TABLES)]), small).await;
    assert_eq!(noted.len(), 2, "{noted:#?}");
    assert!(noted.iter().all(|line| !line.contains("calls")), "{noted:#?}");
}
