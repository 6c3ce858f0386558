//! Whose address it is: the case of ASCII letters is left aside, and nothing else, whatever the database's locale folds.

use super::platform::{is_not_found, reason};
use crate::stage::{connect, run, slug};
use cgk::{
    Db, OrganizationId,
    auth::{Auth, AuthError, AuthSettings, ClientInfo, LinkPurpose, NewUser, Rejection},
    drift,
    migrate::{Migrations, Scope, Silent},
    setup,
    testing::{TestDatabase, TestServer},
};
use tokio_postgres::Client;

const SERVICE: &str = include_str!("../../../docs/service.md");

/// Addresses that `lower()` of the database folds onto the one with ASCII letters, or that look the same.
const OTHERS: [&str; 6] = [
    "mi\u{212A}e@firma.example",
    "m\u{130}ke@firma.example",
    "mike@f\u{130}rma.example",
    "mike@firma.e\u{445}ample",
    "mike\u{301}@firma.example",
    "\u{FF4D}ike@firma.example",
];

/// A database whose locale folds letters outside ASCII onto ASCII ones.
async fn folding_database() -> (TestDatabase, Client) {
    let database = TestServer::shared().database().await.unwrap();
    let name = database.name().to_owned();
    let admin = connect("postgres").await;
    run(&admin, &format!("drop database {name}")).await.unwrap();
    let create = format!("create database {name} template template0 encoding 'UTF8' lc_collate 'C' lc_ctype 'C.UTF-8'");
    run(&admin, &create).await.unwrap();
    let watch = connect(&name).await;
    run(&watch, "revoke create on schema public from public").await.unwrap();
    (database, watch)
}

async fn bool_of(watch: &Client, sql: &str) -> bool {
    watch.query_one(sql, &[]).await.unwrap().get(0)
}

#[tokio::test]
async fn a_link_for_another_address_signs_in_as_another_user_or_not_at_all() {
    let (database, watch) = folding_database().await;
    // The control: the locale of this database does fold, and the collation does not.
    for other in &OTHERS[..3] {
        let folds = format!("select lower('{other}') = lower('Mike@Firma.example')");
        assert!(bool_of(&watch, &folds).await, "the locale does not fold {other}, so this test shows nothing");
        let by_c = format!(r#"select lower('{other}' collate "C") = lower('Mike@Firma.example' collate "C")"#);
        assert!(!bool_of(&watch, &by_c).await, "{other}");
    }
    setup::setup(&database.operator().await.unwrap(), &Migrations::bundled(), &mut Silent).await.unwrap();
    let db = database.with_tenants(&["acme", "globex"]).await.unwrap();
    let auth = Auth::new(&db, AuthSettings::default());
    let (acme, globex) = (organization(&db, "acme").await, organization(&db, "globex").await);
    let (users, links, sessions) = (auth.users(), auth.magic_links(), auth.sessions());
    let (client, password) = (ClientInfo::default(), "correct horse battery staple");
    let mike = users.create(acme, &NewUser::active("mike@firma.example").password(password)).await.unwrap();

    for other in OTHERS {
        let (issued, token) = links.issue(other, LinkPurpose::Login).await.unwrap();
        assert_eq!(issued.email, other);
        let link = links.redeem(token.reveal(), LinkPurpose::Login).await.unwrap();
        assert_eq!(users.by_email(&link.email).await.unwrap(), [], "{other}");
        assert!(is_not_found(users.find_by_email(acme, other).await), "{other}");
        let refused = sessions.sign_in(acme, other, password, &client).await;
        assert_eq!(reason(refused), Rejection::WrongPassword, "{other}");
        // Neither the links of one are those of the other.
        assert!(links.list("mike@firma.example").await.unwrap().is_empty());
        assert_eq!(links.list(other).await.unwrap().len(), 1);
        let (_, of_mike) = links.issue("mike@firma.example", LinkPurpose::Login).await.unwrap();
        assert_eq!(links.revoke(other).await.unwrap(), 0);
        links.redeem(of_mike.reveal(), LinkPurpose::Login).await.unwrap();
        run(&watch, "delete from magic_links").await.unwrap();
        // A user of its own may have it, in the same organization or in another one.
        let own = users.create(acme, &NewUser::active(other)).await.unwrap();
        users.create(globex, &NewUser::active(other)).await.unwrap();
        let found = users.by_email(other).await.unwrap();
        assert_eq!((found.len(), found[0].id), (2, own.id), "{other}");
    }
    // ASCII letters are the same in either case.
    for same in ["Mike@Firma.Example", "MIKE@FIRMA.EXAMPLE"] {
        let (_, token) = links.issue(same, LinkPurpose::Login).await.unwrap();
        let link = links.redeem(token.reveal(), LinkPurpose::Login).await.unwrap();
        assert_eq!(users.by_email(&link.email).await.unwrap(), std::slice::from_ref(&mike));
        sessions.sign_in(acme, same, password, &client).await.unwrap();
        let taken = users.create(acme, &NewUser::active(same)).await.unwrap_err();
        assert!(matches!(taken, AuthError::EmailTaken), "{taken:?}");
    }
}

/// The statements of the documentation make the old indexes those of the migrations, and the queries use them.
#[tokio::test]
async fn a_database_with_the_old_indexes_gets_the_new_ones() {
    let (database, watch) = folding_database().await;
    let (operator, bundled) = (database.operator().await.unwrap(), Migrations::bundled());
    setup::setup(&operator, &bundled, &mut Silent).await.unwrap();
    run(
        &watch,
        "insert into organizations (slug, name) values ('acme', 'Acme');
         drop index users_organization_id_lower_email_key, users_lower_email_idx, magic_links_lower_email_created_at_idx;
         create unique index users_organization_id_lower_email_key on users (organization_id, lower(email));
         create index users_lower_email_idx on users (lower(email));
         create index magic_links_lower_email_created_at_idx on magic_links (lower(email), created_at desc);
         comment on column users.email is 'Kept as typed. Unique per organization by lower(email).'",
    )
    .await
    .unwrap();
    let acme = OrganizationId(watch.query_one("select id from organizations", &[]).await.unwrap().get(0));
    let auth = Auth::new(&database.db().await.unwrap(), AuthSettings::default());
    let differences = async || {
        let report = drift::verify(&operator, &bundled, &Scope::Public).await.unwrap();
        report.schemas().map(|schema| schema.differences.len()).sum::<usize>()
    };
    let kelvin = NewUser::active(OTHERS[0]);
    auth.users().create(acme, &NewUser::active("mike@firma.example")).await.unwrap();
    let taken = auth.users().create(acme, &kelvin).await.unwrap_err();
    assert!(matches!(taken, AuthError::EmailTaken), "the old index keeps them apart: {taken:?}");
    assert_ne!(differences().await, 0);
    let (_, page) = SERVICE.split_once("<!-- addresses -->\n```sql\n").unwrap();
    run(&watch, page.split_once("```").unwrap().0).await.unwrap();
    assert_eq!(differences().await, 0);
    auth.users().create(acme, &kelvin).await.unwrap();

    run(&watch, "set enable_seqscan = off").await.unwrap();
    for (index, sql) in [
        (
            "users_lower_email_idx",
            r#"select from users where pg_catalog.lower(email collate pg_catalog."C") = pg_catalog.lower('a@b' collate pg_catalog."C")"#,
        ),
        (
            "magic_links_lower_email_created_at_idx",
            r#"select from magic_links where pg_catalog.lower(email collate pg_catalog."C") = pg_catalog.lower('a@b' collate pg_catalog."C") order by created_at desc"#,
        ),
    ] {
        let rows = watch.query(&format!("explain {sql}"), &[]).await.unwrap();
        let plan: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
        assert!(plan.iter().any(|line| line.contains(index)), "{plan:?}");
    }
}

async fn organization(db: &Db, tenant: &str) -> OrganizationId {
    db.with_tenant(&slug(tenant), async |tx| tx.organization_id().await).await.unwrap()
}
