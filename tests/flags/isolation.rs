//! Two tenants with the template, each behind its own role; and what drift and the checks of files say of it.

use crate::{
    platform::slug,
    stage::{Stage, migrations},
};
use cgk::{
    drift,
    migrate::{self, Scope, Set},
};

#[tokio::test(flavor = "multi_thread")]
async fn a_tenants_role_reaches_no_table_of_another() {
    let stage = Stage::set().await;
    let tables =
        "select string_agg(c.relname, ' ') from pg_class c where c.relnamespace = 'tenant_globex'::regnamespace
                   and c.relkind in ('r', 'p') and c.relname not like 'schema_migrations%'";
    let tables = stage.text(tables).await;
    assert_eq!(tables.split(' ').count(), 10, "{tables}");
    for table in tables.split(' ') {
        let acme = slug("acme");
        let handle = stage.db.tenant(&acme);
        // The control: its own table, by its full name.
        handle.query(&format!("select * from tenant_acme.{table}"), &[]).await.unwrap();
        for sql in [
            format!("select * from tenant_globex.{table}"),
            format!("delete from tenant_globex.{table}"),
            format!("insert into tenant_globex.{table} select * from {table}"),
        ] {
            let refused = handle.execute(&sql, &[]).await.unwrap_err();
            assert_eq!(refused.sqlstate().map(|state| state.code()), Some("42501"), "{sql}");
        }
    }
}

/// No foreign key leads out of the schema, and a feature of one tenant is none of the other.
#[tokio::test(flavor = "multi_thread")]
async fn the_same_key_is_another_feature_in_another_tenant() {
    let stage = Stage::set().await;
    let add = "insert into features (key, name) values ('beta', 'Beta')";
    for tenant in ["acme", "globex"] {
        stage.db.tenant(&slug(tenant)).execute(add, &[]).await.unwrap();
    }
    stage.db.tenant(&slug("acme")).execute("delete from features", &[]).await.unwrap();
    assert_eq!(stage.count("select count(*) from tenant_globex.features").await, 1);
    let outside = "select count(*) from pg_constraint c join pg_class t on t.oid = c.conrelid join pg_class r on r.oid = c.confrelid
                    where c.contype = 'f' and t.relnamespace <> r.relnamespace";
    assert_eq!(stage.count(outside).await, 0);
}

/// Also with the months of a clock.
#[tokio::test(flavor = "multi_thread")]
async fn the_tables_are_as_the_files_say() {
    let stage = Stage::set().await;
    let operator = stage.database.operator().await.unwrap();
    migrate::rehearse(&operator, migrations()).await.unwrap();
    let clean = async || {
        let report = drift::verify(&operator, migrations(), &Scope::Everything).await.unwrap();
        let found: Vec<String> = report
            .schemas()
            .flat_map(|schema| schema.differences.iter().map(|found| format!("{}: {found}", schema.schema.as_str())))
            .collect();
        assert!(!report.lacks_reference());
        found
    };
    assert_eq!(clean().await, [""; 0]);
    stage.run("select flags_maintain()").await;
    assert_eq!(clean().await, [""; 0]);
    // The control.
    stage.run("drop trigger flag_audit_events_refuse_change on flag_audit_events").await;
    assert_eq!(clean().await.len(), 1);
}

#[test]
fn the_files_have_no_warnings_but_those_that_are_accepted() {
    // The bundled files have tests of their own; those of the template have numbers from 9001 on.
    let of_template =
        |file: &std::path::Path| file.file_name().is_some_and(|name| name.to_string_lossy().starts_with('9'));
    let warnings = migrations().warnings();
    let warnings: Vec<String> =
        warnings.iter().filter(|found| of_template(&found.file)).map(|found| format!("{found:?}")).collect();
    assert_eq!(warnings, [""; 0]);
    assert_eq!(migrations().set(Set::Tenant).files().len(), 7);
    // The control: a warning of such a file is seen.
    let more = migrations().clone().with_file(Set::Tenant, "9100_more.sql", "drop table usage_keys").unwrap();
    assert_eq!(more.warnings().iter().filter(|found| of_template(&found.file)).count(), 1);
}
