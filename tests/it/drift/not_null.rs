//! NOT NULL, which is a constraint with a name and properties from PostgreSQL 18 on.

use super::schemas::{lines, of};
use crate::sandbox::{Files, Raw, tenants};
use cgk::{
    drift,
    migrate::{Migrations, Scope},
    testing::TestServer,
};

/// What is done by hand, and the lines that then differ.
const PLANTED: &[(&str, &[&str])] = &[
    ("alter table k validate constraint cn", &["column k.c: not null is yes, migrations give yes, not valid"]),
    (
        "alter table k rename constraint bnn to other",
        &["column k.b: not null constraint is other, migrations give bnn"],
    ),
    (
        "alter table k rename constraint k_a_not_null to other",
        &["column k.a: not null constraint is other, migrations give none"],
    ),
    ("alter table k alter constraint en inherit", &["column k.e: not null is yes, migrations give yes, no inherit"]),
    (
        "alter table k drop constraint bnn",
        &["column k.b: not null is no, migrations give yes", "column k.b: no not null constraint, migrations give bnn"],
    ),
    ("comment on constraint bnn on k is 'mine'", &["column k.b: not null comment is mine, migrations give none"]),
    (
        "alter domain d drop not null; alter domain d add constraint other not null",
        &["domain d: not null constraint is other, migrations give dnn"],
    ),
    // A name that the server gives is told by none: an upgrade from PostgreSQL 17 gives others than a new table has.
    ("alter table k alter f drop not null; alter table k add constraint once_f_not_null1 not null f", &[]),
];

#[tokio::test]
async fn names_and_properties_of_not_null_are_compared() {
    let database = TestServer::shared().set_up_database().await.unwrap();
    let raw = Raw::on(&database).await;
    let has_constraints = raw.one::<i32>("select current_setting('server_version_num')::int").await >= 180_000;
    let more = if has_constraints {
        "alter table k add constraint cn not null c not valid; alter table k add constraint en not null e no inherit;"
    } else {
        ""
    };
    let set = format!(
        "create domain d as int constraint dnn not null;
         create table k (a int not null, b int constraint bnn not null, c int, e int, f int not null, id int primary key); {more}"
    );
    let migrations = Files::of_tenants(&[("001_k.sql", &set)]).load();
    let slugs: Vec<String> = (0..PLANTED.len()).map(|index| format!("n{index}")).chain(["bare".into()]).collect();
    let operator = tenants(&database, &migrations, &slugs.iter().map(String::as_str).collect::<Vec<_>>()).await;
    let look = async |migrations: &Migrations| drift::verify(&operator, migrations, &Scope::Tenants).await.unwrap();
    let before = look(&migrations).await;
    assert!(!before.has_drift(), "{:?}", before.tenants.iter().map(lines).collect::<Vec<_>>());
    // On every version, the property itself.
    raw.run("alter table tenant_bare.k alter a drop not null").await;
    assert_eq!(lines(of(&look(&migrations).await, "bare")), ["column k.a: not null is no, migrations give yes"]);
    raw.run("alter table tenant_bare.k alter a set not null").await;
    if !has_constraints {
        return;
    }
    for (slug, (sql, _)) in slugs.iter().zip(PLANTED) {
        raw.run(&format!("set search_path = tenant_{slug}; {sql}; reset search_path")).await;
    }
    let found = look(&migrations).await;
    for (slug, (sql, expected)) in slugs.iter().zip(PLANTED) {
        assert_eq!(lines(of(&found, slug)), *expected, "{sql}");
    }
    // What is printed against it makes it as it was; a domain's name has no such statement.
    for (slug, (sql, _)) in slugs.iter().zip(PLANTED).filter(|(_, (sql, _))| !sql.contains("domain")) {
        let script = of(&found, slug).fix_script();
        raw.run(&script).await;
        let after = look(&migrations).await;
        assert!(of(&after, slug).is_clean(), "{sql}: {:?}\n{script}", lines(of(&after, slug)));
    }
}
