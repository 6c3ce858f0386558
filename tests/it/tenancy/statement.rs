//! One statement as a tenant.

use crate::stage::{Stage, slug};
use cgk::{ErrorKind, testing::TestServer};

#[tokio::test]
async fn one_statement() {
    let database = TestServer::shared().set_up_database().await.unwrap();
    let db = database.with_tenants(&["acme"]).await.unwrap();
    let slug = slug("acme");
    for i in 0..3 {
        let db = db.clone();
        let slug = slug.clone();
        tokio::spawn(async move {
            let email = format!("a{i}@example.com");
            let n = db.tenant(&slug).execute("insert into customers (email) values ($1)", &[&email]).await.unwrap();
            assert_eq!(n, 1);
        })
        .await
        .unwrap();
    }
    let n: i64 = db.tenant(&slug).query_one("select count(*) from customers", &[]).await.unwrap().get(0);
    assert_eq!(n, 3);
    assert!(db.tenant(&slug).query_one("select * from nothing", &[]).await.is_err());
    let error = db.tenant(&"zzz".parse().unwrap()).query("select 1", &[]).await.unwrap_err();
    assert_eq!(error.code(), "CGK0401");
    let error = db.tenant(&slug).query_one("select $1::int", &[&"text"]).await.unwrap_err();
    assert_eq!(error.code(), "CGK0505", "{error}");
    let operator = database.operator().await.unwrap();
    drop(operator);
    db.tenant(&slug).query("select * from customers", &[]).await.unwrap();
}

/// A statement with parameters first asks for its types, inside of the tenant: a tenant that cannot be entered is refused there, as without
/// parameters.
#[tokio::test]
async fn a_statement_with_parameters_names_the_tenant_that_cannot_be_entered() {
    let stage = Stage::set().await;
    stage.sql("update organizations set status = 'suspended' where slug = 'globex'").await;
    for (name, code) in [("zzz", "CGK0401"), ("globex", "CGK0402")] {
        let (slug, one) = (slug(name), 1_i64);
        for sql in ["select $1::int8", "select n from marks where n = $1"] {
            let error = stage.db.tenant(&slug).query(sql, &[&one]).await.unwrap_err();
            assert_eq!(error.code(), code, "{name}: {sql}: {error}");
        }
        let error = stage.db.tenant(&slug).query("select 1", &[]).await.unwrap_err();
        assert_eq!(error.code(), code, "{name}: {error}");
    }
    // The pool of one connection has it again.
    let one = 1_i64;
    assert_eq!(stage.db.tenant(&slug("acme")).query("select $1::int8", &[&one]).await.unwrap().len(), 1);
}

/// Only what an outdated description made fail is sent again: a statement that fails by itself has run once in each call,
/// the first time and with its description known.
#[tokio::test]
async fn a_statement_that_fails_by_itself_runs_once() {
    let stage = Stage::set().await;
    stage.sql("create sequence tenant_acme.tries; grant usage on sequence tenant_acme.tries to public").await;
    for calls in 1..=3 {
        let failing = "select $1::int8 / (nextval('tries') * 0)";
        let error = stage.db.tenant(&slug("acme")).query(failing, &[&1_i64]).await.unwrap_err();
        assert_eq!(error.sqlstate().map(|state| state.code()), Some("22012"), "{error:?}");
        assert_eq!(stage.number("select last_value from tenant_acme.tries").await, calls);
    }
}

/// Types that the server has just told are not outdated: a failure that looks like that is no reason to send the statement again.
#[tokio::test]
async fn a_statement_whose_types_were_just_told_runs_once_whatever_it_fails_with() {
    let stage = Stage::set().await;
    stage
        .sql(
            "create sequence tenant_acme.tries; grant usage on sequence tenant_acme.tries to public;
             create function public.fails() returns int8 language plpgsql as
               $$ begin raise exception 'made up' using errcode = '42883'; end $$",
        )
        .await;
    let (acme, one) = (slug("acme"), 1_i64);
    let with_types = "select $1::int8 + nextval('tries') + public.fails()";
    let without = "select nextval('tries') + public.fails()";
    // The control is the last one: its types are known from before, and it is run a second time.
    for (sql, tries) in [(with_types, 1), (without, 2), (without, 3), (with_types, 5)] {
        let params: &[&(dyn tokio_postgres::types::ToSql + Sync)] = if sql == with_types { &[&one] } else { &[] };
        let error = stage.db.tenant(&acme).query(sql, params).await.unwrap_err();
        assert_eq!(error.sqlstate().map(|state| state.code()), Some("42883"), "{error:?}");
        assert_eq!(stage.number("select last_value from tenant_acme.tries").await, tries, "{sql}");
    }
}

/// Another number of rows is found behind the commit: the statement failed, that is no unknown commit, and what it wrote is there.
#[tokio::test]
async fn another_number_of_rows_is_a_failure_behind_the_commit() {
    let stage = Stage::set().await;
    let acme = slug("acme");
    let tenant = stage.db.tenant(&acme);
    let insert = |rows: &str| format!("insert into marks (tag, n) values {rows} returning n");
    // The control: as many as asked for.
    tenant.query_one(&insert("('rows', 1)"), &[]).await.unwrap();
    let two = insert("('rows', 2), ('rows', 3)");
    for outcome in [tenant.query_one(&two, &[]).await.map(drop), tenant.query_opt(&two, &[]).await.map(drop)] {
        let error = outcome.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Failed, "{error:?}");
    }
    assert_eq!(stage.marks("acme", "rows").await, (5, 0));
}
