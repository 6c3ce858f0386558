//! `tenant:clone --mask`: the copy has other values where the mask says so, and a mask that does not fit leaves nothing.

use crate::{
    clone::{clone_as, no_drift},
    fixture::left_of,
    stage::Stage,
    transfer_fixture::{bare, create, set},
};
use cgk::{
    ErrorKind,
    lifecycle::{CloneRows, Mask},
    migrate::Migrations,
};

const PEOPLE: &str = r#"create table people (id int primary key, email text unique, phone text, born date check (born < '2030-01-01'),
        "odd ""name""" text, twice int generated always as (id * 2) stored, boss int references people);
    create table counted (id bigint generated always as identity, "select" text);
    create function hide(v text) returns text language sql as $$ select 'hidden ' || length(v) $$"#;

async fn people() -> (Stage, Migrations) {
    let migrations = set(&[("900_people.sql", PEOPLE)]);
    let stage = bare(&migrations).await;
    create(&stage, &migrations, "acme").await;
    stage
        .run(
            r#"insert into tenant_acme.people (id, email, phone, born, "odd ""name""", boss)
               select n, 'p' || n || '@real.test', nullif('+' || n, '+2'), '2000-01-01', 'secret', nullif(n / 2, 0)
               from generate_series(1, 20) n;
               insert into tenant_acme.counted ("select") values ('x'), (null)"#,
        )
        .await;
    (stage, migrations)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mask_replaces_values() {
    let (stage, migrations) = people().await;
    let mask = Mask::parse(
        r#"[tables.people]
           email = "md5(email) || '@example.test' -- of the source"
           phone = "case when people.phone like '+1%' then 'one' else phone end"
           'odd "name"' = "hide(\"odd \"\"name\"\"\") || id"
           [tables.counted]
           id = "id + 100"
           select = "(select count(*)::text from tenant_acme.people)"
        "#,
    )
    .unwrap();
    let cloned = clone_as(&stage, &migrations, "copy", CloneRows::Masked(mask)).await.unwrap();
    assert_eq!((cloned.masked_columns, cloned.rows), (5, 22));
    let wrong = r#"select count(*) from tenant_acme.people a full join tenant_copy.people c using (id)
        where c.email is distinct from md5(a.email) || '@example.test' or c.twice <> 2 * id or c.boss is distinct from a.boss
           or c.phone is distinct from case when a.phone like '+1%' then 'one' else a.phone end
           or c."odd ""name""" is distinct from 'hidden 6' || id"#;
    assert_eq!(stage.count(wrong).await, 0);
    assert_eq!(stage.count("select count(*) from tenant_copy.people where phone is null").await, 1);
    assert_eq!(stage.count("select sum(id)::int8 from tenant_copy.counted where \"select\" = '20'").await, 203);
    no_drift(&stage, &migrations).await;
}

/// Whatever is wrong with a mask, nothing is created.
#[tokio::test(flavor = "multi_thread")]
async fn a_mask_that_does_not_fit_leaves_nothing() {
    let (stage, migrations) = people().await;
    let refused = async |table: &str, column: &str, expression: &str| {
        let mask = CloneRows::Masked(Mask::default().column(table, column, expression));
        let refused = clone_as(&stage, &migrations, "copy", mask).await.expect_err(expression);
        assert_eq!(left_of(&stage, "copy").await, [false; 3], "{expression}");
        refused
    };
    for (table, column) in [("nobody", "email"), ("people", "mail"), ("people", "twice"), ("schema_migrations", "name")]
    {
        let refused = refused(table, column, "null").await;
        assert_eq!((refused.code(), refused.kind()), ("CGK0951", ErrorKind::Invalid), "{refused:?}");
        assert!(refused.to_string().contains(table), "{refused}");
    }
    for expression in [
        "no_column",
        "1 / (id - 5)",
        "email) from tenant_acme.people; drop table tenant_acme.people; select (1",
        "email) from tenant_acme.people /*",
        "'the same'",
        "'x' ||",
        "$1",
        "generate_series(1, 2)::text::int",
        "max(email)",
        "(select email from tenant_acme.people)",
    ] {
        let refused = refused("people", "email", expression).await;
        assert_eq!((refused.code(), refused.kind()), ("CGK0952", ErrorKind::Refused), "{expression}: {refused:?}");
        assert!(refused.sqlstate().is_some(), "{refused:?}");
    }
    for (column, expression, constraint) in [
        ("email", "'same'", "people_email_key"),
        ("born", "'2031-01-01'", "people_born_check"),
        ("id", "null", ""),
        ("boss", "boss + 100", "people_boss_fkey"),
    ] {
        let refused = refused("people", column, expression).await;
        assert_eq!((refused.code(), refused.constraint().unwrap_or_default()), ("CGK0952", constraint), "{refused:?}");
    }
    let more = refused("counted", "select", "generate_series(1, 2)").await;
    assert!(matches!(more.code(), "CGK0952" | "CGK0888"), "{more:?}");
    let more = refused("counted", "select", "generate_series(1, 2)::text").await;
    assert_eq!(more.code(), "CGK0888", "{more:?}");
    assert_eq!(stage.count("select count(*) from tenant_acme.people").await, 20);
}
