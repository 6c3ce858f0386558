//! Where CONCURRENTLY and VACUUM are left out because a schema is only being made, the verdict is that of a tenant that is there.

use crate::sandbox::{Files, failure, migrate_all, tenants};
use cgk::{
    lifecycle::{CreateOptions, create},
    migrate::{self, Outcome},
    testing::TestServer,
};

const TABLES: &str = "create table plain (id int primary key, d date, during int4range, constraint apart exclude using gist (during with &&));
    create index plain_d on plain (d);
    create index plain_id_d on plain (id, d);
    create sequence taken;
    create materialized view unindexed as select 1 as id;
    create materialized view empty as select 1 as id with no data;
    create unique index empty_id on empty (id);
    create table parts (id int, d date) partition by range (d);
    create index parts_d on parts (d);
    create table parts_1 partition of parts for values from ('2020-01-01') to ('2021-01-01');
    create table halves (id int, d date) partition by range (d);
    create table halves_1 partition of halves for values from ('2020-01-01') to ('2021-01-01');
    create table halves_rest partition of halves default;";

/// A statement, and the SQLSTATE with which the server refuses it in a tenant that is there.
const FORMS: &[(&str, Option<&str>)] = &[
    ("create index concurrently i on plain (d)", None),
    ("create index concurrently i on parts (d)", Some("0A000")),
    ("create index concurrently i on only parts (d)", Some("0A000")),
    ("create index concurrently if not exists i on parts (d)", Some("0A000")),
    ("create index concurrently if not exists plain_d on plain (d)", None),
    ("create index concurrently i on parts_1 (d)", None),
    ("create index concurrently i on missing (d)", Some("42P01")),
    ("drop index concurrently plain_d", None),
    ("drop index concurrently if exists missing", None),
    ("drop index concurrently plain_d, plain_id_d", Some("0A000")),
    ("drop index concurrently plain_d cascade", Some("0A000")),
    ("drop index concurrently parts_d", Some("0A000")),
    ("drop index concurrently parts_1_d_idx", Some("2BP01")),
    ("drop index concurrently plain_pkey", Some("2BP01")),
    ("reindex index concurrently plain_d", None),
    ("reindex (concurrently) table plain", None),
    ("reindex table concurrently parts", None),
    ("reindex index concurrently parts_d", None),
    ("reindex index concurrently apart", Some("0A000")),
    ("refresh materialized view concurrently unindexed", Some("55000")),
    ("refresh materialized view concurrently empty", Some("0A000")),
    ("alter table parts detach partition parts_1 concurrently", None),
    ("alter table halves detach partition halves_1 concurrently", Some("55000")),
    ("alter table halves detach partition halves_rest concurrently", Some("55000")),
    ("vacuum (analyze) plain", None),
    ("vacuum missing", Some("42P01")),
    ("vacuum (full, parallel 2) plain", Some("0A000")),
    ("vacuum (sideways) plain", Some("42601")),
    ("vacuum (full, disable_page_skipping) plain", Some("0A000")),
    ("vacuum (disable_page_skipping, full on) plain", Some("0A000")),
    ("vacuum (disable_page_skipping true, full 'off') plain", None),
    ("vacuum (full false, disable_page_skipping) plain", None),
    ("vacuum (full, process_toast off) plain", Some("0A000")),
    ("vacuum (process_toast off) plain", None),
];

async fn verdicts(statement: &str) -> [Option<String>; 3] {
    let database = TestServer::shared().set_up_database().await.unwrap();
    let first = Files::of_tenants(&[("001_tables.sql", TABLES)]);
    let operator = tenants(&database, &first.load(), &["acme"]).await;
    let files = Files::of_tenants(&[("001_tables.sql", TABLES)]);
    // The place of an error is told although a statement is added before it.
    files.tenant("002_form.sql", &format!("-- cgk:no-transaction\nvacuum plain;\n{statement}"));
    let migrations = files.load();
    let code = |error: &cgk::Error| {
        let said = format!("{error:?}");
        assert!(said.contains("002_form.sql:3:"), "{statement}: {said}");
        Some(error.sqlstate().unwrap_or_else(|| panic!("{statement}: {said}")).code().to_owned())
    };
    let rehearsed = migrate::rehearse(&operator, &migrations).await.err().as_ref().and_then(code);
    let report = migrate_all(&operator, &migrations).await.unwrap();
    let existing = match report.tenants.iter().any(|tenant| matches!(tenant.result, Outcome::Failed { .. })) {
        true => code(failure(&report, "acme")),
        false => None,
    };
    let db = database.db().await.unwrap();
    let made = create(&operator, &db, &migrations, &"globex".parse().unwrap(), &CreateOptions::default()).await;
    [existing, rehearsed, made.err().as_ref().and_then(code)]
}

#[tokio::test]
async fn a_new_tenant_builds_no_index_that_one_that_is_there_cannot() {
    compare("create").await;
}

#[tokio::test]
async fn a_new_tenant_drops_no_index_that_one_that_is_there_cannot() {
    compare("drop").await;
}

#[tokio::test]
async fn a_new_tenant_rebuilds_nothing_that_one_that_is_there_cannot() {
    compare("re").await;
}

#[tokio::test]
async fn a_new_tenant_detaches_and_vacuums_nothing_that_one_that_is_there_cannot() {
    compare("alter").await;
    compare("vacuum").await;
}

async fn compare(verb: &str) {
    let forms: Vec<_> = FORMS.iter().filter(|(statement, _)| statement.starts_with(verb)).collect();
    assert!(forms.iter().any(|(_, refused)| refused.is_some()) && forms.iter().any(|(_, refused)| refused.is_none()));
    for (statement, refused) in forms {
        let [existing, rehearsed, made] = verdicts(statement).await;
        // The precondition: so the server says, with the words as they are written.
        assert_eq!(existing.as_deref(), *refused, "{statement}, in a tenant that is there");
        assert_eq!(rehearsed, existing, "{statement}, rehearsed");
        assert_eq!(made, existing, "{statement}, in a new tenant");
    }
}
