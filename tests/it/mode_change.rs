//! A fleet that goes from path isolation to roles and back, with services at work all the time.

use crate::{
    sandbox::{Raw, login_role},
    stage::{as_login, slug},
    support::cgk::Shell,
};
use cgk::{
    Config, Db, ErrorKind, Operator,
    config::Isolation,
    ident::{DatabaseTag, RoleName},
    lifecycle::{self, CreateOptions},
    login::{self, DirectRights, LoginOptions},
    migrate::{Migrations, Silent},
    setup,
    testing::{TestDatabase, TestServer},
};

const TENANTS: [&str; 3] = ["acme", "globex", "initech"];

/// Three tenants under path isolation, each with a customer of its own, and a service's login.
async fn path_fleet() -> (TestDatabase, Config) {
    let database = TestServer::shared().database().await.unwrap();
    let config = database.config().clone().with_isolation(Isolation::Path).with_pool_size_max(1);
    let operator = Operator::connect(&config).await.unwrap();
    setup::setup(&operator, &Migrations::bundled(), &mut Silent).await.unwrap();
    let name = crate::service_login::app_name(&database);
    let made = login::admit(&operator, &name, &LoginOptions::default()).await.unwrap();
    let app = as_login(database.config(), &made).with_isolation(Isolation::Path).with_pool_size_max(1);
    let db: Db = Db::connect(&app).await.unwrap();
    for tenant in TENANTS {
        lifecycle::create(&operator, &db, &Migrations::bundled(), &slug(tenant), &CreateOptions::default())
            .await
            .unwrap();
        let sql = "insert into customers (email) values ($1)";
        db.tenant(&slug(tenant)).execute(sql, &[&format!("{tenant}@x")]).await.unwrap();
    }
    (database, app)
}

/// Every tenant's own rows, and of the registry its own row, through one service.
async fn assert_served(db: &Db) {
    for tenant in TENANTS {
        let rows = db.tenant(&slug(tenant)).query("select email from customers", &[]).await.unwrap();
        assert_eq!(rows.iter().map(|row| row.get(0)).collect::<Vec<String>>(), [format!("{tenant}@x")]);
        let rows = db.tenant(&slug(tenant)).query("select slug from organizations", &[]).await.unwrap();
        assert_eq!(rows.iter().map(|row| row.get(0)).collect::<Vec<String>>(), [tenant]);
    }
}

async fn reads_others(db: &Db) -> bool {
    match db.tenant(&slug("acme")).query_typed("table tenant_globex.customers", &[]).await {
        Ok(rows) => !rows.is_empty(),
        Err(error) => {
            assert_eq!(error.sqlstate().unwrap().code(), "42501");
            false
        }
    }
}

#[tokio::test]
async fn a_fleet_moves_to_roles_and_back_while_it_is_used() {
    let (database, app) = path_fleet().await;
    let by_path: Db = Db::connect(&app).await.unwrap();
    assert_served(&by_path).await;
    // The control: path isolation does not hold this back.
    assert!(reads_others(&by_path).await);

    // Under role isolation nobody can be entered yet, and it is said whom that concerns.
    let operator = Operator::connect(&database.config().clone().with_isolation(Isolation::Role)).await.unwrap();
    let by_role: Db = Db::connect(&app.clone().with_isolation(Isolation::Role)).await.unwrap();
    let error = by_role.tenant(&slug("acme")).query("select 1", &[]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotReady, "{error:?}");
    assert_eq!(lifecycle::without_role(&operator).await.unwrap(), TENANTS.map(slug));
    let name = crate::service_login::app_name(&database);
    let early = login::admit(&operator, &name, &LoginOptions::default()).await.unwrap();
    assert_eq!((early.tenants, early.left_out.len(), early.direct), (0, 3, 3));

    // One by its own command, the rest together. Services of the old kind go on.
    let (globex, options) = (slug("globex"), CreateOptions::default());
    let created = lifecycle::create(&operator, &by_role, &Migrations::bundled(), &globex, &options).await.unwrap();
    assert_eq!(created.creation, lifecycle::Creation::Finished);
    assert_served(&by_path).await;
    let report = lifecycle::isolate(&operator).await.unwrap();
    assert_eq!((report.finished, report.failed.len()), (vec![slug("acme"), slug("initech")], 0));
    assert!(lifecycle::isolate(&operator).await.unwrap().finished.is_empty());
    let admitted = login::admit(&operator, &name, &LoginOptions::default()).await.unwrap();
    assert_eq!((admitted.tenants, admitted.left_out.len(), admitted.direct), (3, 0, 3));
    assert_served(&by_path).await;
    assert_served(&by_role).await;
    assert!(!reads_others(&by_role).await);

    // The last service of the old kind is gone.
    let mut last = LoginOptions::default();
    last.direct_rights = DirectRights::Revoke;
    assert_eq!(login::admit(&operator, &name, &last).await.unwrap().direct, 0);
    let error = by_path.tenant(&slug("acme")).query("table customers", &[]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Denied, "{error:?}");
    assert_served(&by_role).await;

    // And back.
    let operator = Operator::connect(&database.config().clone().with_isolation(Isolation::Path)).await.unwrap();
    assert!(lifecycle::without_role(&operator).await.unwrap().is_empty());
    login::admit(&operator, &name, &LoginOptions::default()).await.unwrap();
    assert_served(&by_role).await;
    assert_served(&by_path).await;
}

/// What PostgreSQL's own GRANT on all tables and sequences gives is the measure, for each kind of relation there is.
#[tokio::test]
async fn every_kind_of_relation_is_granted_and_taken_back_and_nothing_else_is() {
    let (database, app) = path_fleet().await;
    let raw = Raw::on(&database).await;
    let (reference, _) = login_role(&database, &raw, "").await;
    raw.run(&format!(
        "set search_path = tenant_acme;
         create view a_view as select 1 as one;
         create materialized view a_copy as select 1 as one;
         create table \"In Parts, \"\"quoted\"\"\" (id int) partition by list (id);
         create table a_part partition of \"In Parts, \"\"quoted\"\"\" for values in (1);
         create foreign data wrapper nothing; create server nowhere foreign data wrapper nothing;
         create foreign table far_away (id int) server nowhere;
         create sequence a_sequence; create type a_type as (one int);
         create table tenant_globex.beside (id serial);
         grant select, insert, update, delete on all tables in schema tenant_acme to {reference};
         grant usage, select, update on all sequences in schema tenant_acme to {reference};
         revoke all on schema_migrations from {reference}"
    ))
    .await;
    let rights = async |role: &str| -> Vec<String> {
        raw.all(&format!(
            "select concat_ws(' ', c.oid::regclass, c.relkind, a.privilege_type, a.is_grantable)
             from pg_class c, aclexplode(c.relacl) a where a.grantee = '{role}'::regrole
               and c.relnamespace <> 'tenant_globex'::regnamespace and c.relnamespace <> 'public'::regnamespace order by 1"
        ))
        .await
    };
    let operator = Operator::connect(&database.config().clone().with_isolation(Isolation::Role)).await.unwrap();
    lifecycle::isolate(&operator).await.unwrap();
    let wanted = rights(&reference).await;
    for kind in [" r ", " p ", " v ", " m ", " f ", " S "] {
        assert!(wanted.iter().any(|right| right.contains(kind)), "{kind}: {wanted:?}");
    }
    let role = RoleName::of_tenant(&slug("acme"), &DatabaseTag::of(database.name()));
    assert_eq!(rights(role.as_str()).await, wanted);

    // The service's login has rights of its own, of before there were roles; to take them back leaves none.
    let name = crate::service_login::app_name(&database);
    let before = rights(name.as_str()).await;
    assert!(before.len() > 10 && app.isolation() == Isolation::Path, "{before:?}");
    let mut last = LoginOptions::default();
    last.direct_rights = DirectRights::Revoke;
    login::admit(&operator, &name, &last).await.unwrap();
    assert_eq!(rights(name.as_str()).await, Vec::<String>::new());
    raw.run("drop foreign data wrapper nothing cascade").await;
}

#[tokio::test]
async fn the_command_names_and_finishes_tenants_without_a_role() {
    let (database, app) = path_fleet().await;
    let shell = Shell::on(&database);
    let answer = shell.run(&["setup:database"]);
    assert_eq!(answer.code, 0);
    assert!(answer.stderr.contains("3 tenants without a role"), "{}", answer.stderr);
    let name = crate::service_login::app_name(&database);
    let answer = shell.run(&["setup:database", "--isolate-tenants", "--app-role", name.as_str()]);
    assert_eq!(answer.code, 0, "{}", answer.stderr);
    assert!(answer.stdout.contains("made the role of 3 tenants"), "{}", answer.stdout);
    assert!(answer.stdout.contains("--revoke-direct"), "{}", answer.stdout);
    let db: Db = Db::connect(&app.with_isolation(Isolation::Role)).await.unwrap();
    assert_served(&db).await;
    let answer = shell.run(&["setup:database", "--app-role", name.as_str(), "--revoke-direct", "--json", "-q"]);
    let summary: serde_json::Value = serde_json::from_str(answer.stdout.lines().last().unwrap()).unwrap();
    assert_eq!((&summary["app_role"]["direct"], &summary["tenants_without_role"]), (&0.into(), &serde_json::json!([])));
    assert_served(&db).await;
}
