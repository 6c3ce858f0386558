//! Drift names what is wrong with the binding of schemas to organizations, and the registry's guard.

use crate::{sandbox::Raw, stage::slug};
use cgk::{
    Error, Operator, TenantError, drift,
    lifecycle::{self, CreateOptions},
    migrate::{Migrations, Scope, Silent},
    setup::{self, RegistryGuard},
    testing::{TestDatabase, TestServer},
};

async fn set_up() -> (TestDatabase, Raw, Operator) {
    let database = TestServer::shared().set_up_database().await.unwrap();
    database.with_tenants(&["acme", "globex"]).await.unwrap();
    let raw = Raw::on(&database).await;
    let operator = database.operator().await.unwrap();
    (database, raw, operator)
}

/// What drift says, the tenant's lines and those about the shared schema.
async fn found(operator: &Operator) -> Vec<String> {
    let report = drift::verify(operator, &Migrations::bundled(), &Scope::Everything).await.unwrap();
    report.schemas().flat_map(|schema| &schema.differences).chain(&report.rights).map(ToString::to_string).collect()
}

async fn set_up_again(operator: &Operator) -> setup::SetupReport {
    setup::setup(operator, &Migrations::bundled(), &mut Silent).await.unwrap()
}

#[tokio::test]
async fn a_guard_that_does_not_guard_is_named_and_made_anew() {
    let (_database, raw, operator) = set_up().await;
    assert_eq!(found(&operator).await, Vec::<String>::new());
    let delete = "delete from organizations where slug = 'acme'";
    let harmless = "create function nothing() returns trigger language plpgsql as 'begin return null; end'; ";
    let wrong = [
        ("alter table organizations disable trigger cgk_registry_delete", "is disabled"),
        ("alter table organizations enable replica trigger cgk_registry_delete", "is disabled"),
        ("drop trigger cgk_registry_delete on organizations", "is missing"),
        (
            "create or replace trigger cgk_registry_delete after delete on organizations for each row execute function nothing()",
            "does not call the function that guards the registry",
        ),
        (
            "create or replace trigger cgk_registry_delete after insert on organizations for each row execute function cgk_guard_registry()",
            "does not call the function that guards the registry",
        ),
        (
            "create or replace function cgk_guard_registry() returns trigger language plpgsql as 'begin return null; end'",
            "does not call the function that guards the registry",
        ),
    ];
    raw.run(harmless).await;
    for (sql, what) in wrong {
        raw.run(sql).await;
        let lines = found(&operator).await;
        let named = format!("trigger organizations.cgk_registry_delete: {what}");
        assert!(lines.iter().any(|line| line.starts_with(&named)), "{sql}: {lines:?}");
        // The control: the registry gives up an organization whose schema stands.
        raw.run(&format!("begin; {delete}; rollback")).await;
        assert_eq!(set_up_again(&operator).await.registry_guard, RegistryGuard::Made, "{sql}");
        assert_eq!(set_up_again(&operator).await.registry_guard, RegistryGuard::Present, "{sql}");
        raw.try_run(delete).await.unwrap_err();
    }
    raw.run("drop function nothing()").await;
    assert_eq!(found(&operator).await, Vec::<String>::new());
}

#[tokio::test]
async fn a_schema_whose_comment_is_missing_or_wrong_is_named_and_never_bound_to_another() {
    let (database, raw, operator) = set_up().await;
    let id: String = raw.one("select id::text from organizations where slug = 'acme'").await;
    let comment = async || raw.one::<Option<String>>("select obj_description('tenant_acme'::regnamespace)").await;
    // Missing: the registry knows whose it is, and setting up writes it. What drift prints does the same.
    for text in ["null", "'Acme''s data'"] {
        raw.run(&format!("comment on schema tenant_acme is {text}")).await;
        let report = drift::verify(&operator, &Migrations::bundled(), &Scope::Only(vec![slug("acme")])).await.unwrap();
        let differences = &report.tenants[0].differences;
        let line =
            format!("schema tenant_acme: its comment does not name organization {id}; `cgk setup:database` writes it");
        assert_eq!(differences.iter().map(ToString::to_string).collect::<Vec<_>>(), [line]);
        raw.run(&differences[0].fix[0].sql).await;
        assert_eq!(found(&operator).await, Vec::<String>::new());
        raw.run(&format!("comment on schema tenant_acme is {text}")).await;
        assert_eq!(set_up_again(&operator).await.bound.bound, [slug("acme")]);
        assert_eq!(found(&operator).await, Vec::<String>::new());
    }
    assert_eq!(comment().await, Some(format!("cgk organization {id}\nAcme's data")));

    // Another organization's: named by drift and status, and no command changes it.
    let other = "cgk organization 00000000-0000-0000-0000-000000000001";
    raw.run(&format!("comment on schema tenant_acme is '{other}'")).await;
    let lines = found(&operator).await;
    let line = format!(
        "schema tenant_acme: belongs to organization {} by its comment, and in the registry acme is {id}",
        &other[17..]
    );
    assert_eq!(lines, [line]);
    let report = drift::verify(&operator, &Migrations::bundled(), &Scope::Everything).await.unwrap();
    assert!(report.tenants[0].differences[0].fix.is_empty());
    assert_eq!(set_up_again(&operator).await.bound.failed.len(), 1);
    let migrations = Migrations::bundled();
    crate::sandbox::migrate_all(&operator, &migrations).await.unwrap();
    let db = database.db().await.unwrap();
    let error =
        lifecycle::create(&operator, &db, &migrations, &slug("acme"), &CreateOptions::default()).await.unwrap_err();
    assert!(matches!(error, Error::Tenant(TenantError::OrganizationMismatch { .. })), "{error:?}");
    assert_eq!(comment().await.as_deref(), Some(other));
}
