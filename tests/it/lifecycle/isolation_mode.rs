//! A fleet that goes from path isolation to roles and back, with services at work all the time.

use crate::{
    sandbox::{Raw, login_role},
    stage::{as_login, slug},
    support::cgk::Shell,
};
use cgk::{
    Config, Db, Error, ErrorKind, Operator, SetupError,
    config::{Isolation, Pooling},
    ident::{DatabaseTag, RoleName},
    lifecycle::{self, CreateOptions},
    login::{self, DirectRights, LoginOptions},
    migrate::{Migrations, Silent},
    setup::{self, IsolationChange},
    testing::{TestDatabase, TestServer},
};

const TENANTS: [&str; 3] = ["acme", "globex", "initech"];

/// Three tenants under path isolation, each with a customer of its own, and a service's login.
pub(super) async fn path_fleet() -> (TestDatabase, Config) {
    let database = TestServer::shared().database().await.unwrap();
    let config = database.config().clone().with_isolation(Isolation::Path).with_pool_size_max(1);
    let operator = Operator::connect(&config).await.unwrap();
    setup::setup(&operator, &Migrations::bundled(), &mut Silent).await.unwrap();
    let name = crate::access::service_login::app_name(&database);
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

    // The database says that it has path isolation, and neither a command nor a service with another one begins.
    let (role, path) = (Isolation::Role, Isolation::Path);
    let config = database.config().clone().with_isolation(role);
    let refused = [
        Operator::connect(&config).await.map(drop),
        Db::connect(&app.clone().with_isolation(role)).await.map(drop),
        setup::change_isolation(&config, IsolationChange::Finish).await.map(drop),
    ];
    refused.into_iter().for_each(|outcome| assert_mismatch(outcome, path, role));
    let modes = setup::change_isolation(&config, IsolationChange::Start).await.unwrap();
    assert_eq!((modes.mode, modes.leaving), (role, Some(path)));

    // Under role isolation nobody can be entered yet, and it is said whom that concerns.
    let operator = Operator::connect(&config).await.unwrap();
    assert_eq!(operator.facts().isolation, Some(modes));
    let by_role: Db = Db::connect(&app.clone().with_isolation(Isolation::Role)).await.unwrap();
    let error = by_role.tenant(&slug("acme")).query("select 1", &[]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotReady, "{error:?}");
    assert_eq!(lifecycle::without_role(&operator).await.unwrap(), TENANTS.map(slug));
    let name = crate::access::service_login::app_name(&database);
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
    assert_eq!(login::with_direct_rights(&operator).await.unwrap(), std::slice::from_ref(&name));
    let mut last = LoginOptions::default();
    last.direct_rights = DirectRights::Revoke;
    assert_eq!(login::admit(&operator, &name, &last).await.unwrap().direct, 0);
    let error = by_path.tenant(&slug("acme")).query("table customers", &[]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Denied, "{error:?}");
    assert!(login::with_direct_rights(&operator).await.unwrap().is_empty());
    assert_served(&by_role).await;

    // Services that run as the owner of everything lose no right. They are refused by what the database says, on connections
    // that are open already, whichever way they enter.
    let owner = database.config().clone().with_isolation(path).with_pool_size_max(1);
    let owners = [
        Db::connect(&owner).await.unwrap(),
        Db::connect(&owner.clone().with_pooling(Pooling::Transaction)).await.unwrap(),
    ];
    let served = async |owner: &Db| owner.tenant(&slug("acme")).query("table customers", &[]).await.unwrap().len();
    for owner in &owners {
        assert_eq!(served(owner).await, 1);
    }
    assert_eq!(setup::change_isolation(&config, IsolationChange::Finish).await.unwrap().leaving, None);
    for refused in owners.iter().chain([&by_path]) {
        let acme = slug("acme");
        assert_mismatch(refused.tenant(&acme).query("table customers", &[]).await.map(drop), role, path);
        assert_mismatch(refused.with_tenant(&acme, async |_| Ok(())).await, role, path);
    }
    assert_served(&by_role).await;

    // And back.
    setup::change_isolation(&database.config().clone().with_isolation(path), IsolationChange::Start).await.unwrap();
    let operator = Operator::connect(&database.config().clone().with_isolation(Isolation::Path)).await.unwrap();
    assert!(lifecycle::without_role(&operator).await.unwrap().is_empty());
    login::admit(&operator, &name, &LoginOptions::default()).await.unwrap();
    assert_served(&by_role).await;
    assert_served(&by_path).await;
    for owner in &owners {
        assert_eq!(served(owner).await, 1);
    }
    setup::change_isolation(operator.config(), IsolationChange::Finish).await.unwrap();
    assert_mismatch(by_role.tenant(&slug("acme")).query("table customers", &[]).await.map(drop), path, role);
    assert_served(&by_path).await;
}

pub(super) fn assert_mismatch(outcome: cgk::Result<()>, expected: Isolation, asked: Isolation) {
    let error = outcome.unwrap_err();
    let Error::Setup(SetupError::IsolationMismatch { stored, configured, .. }) = &error else { panic!("{error:?}") };
    assert_eq!((*stored, *configured), (expected, asked));
    assert_eq!((error.code(), error.kind()), ("CGK0306", ErrorKind::Conflict));
}

/// A service that is not of the library asks the database, in a session that outlives the change.
#[tokio::test]
async fn a_service_in_another_language_enters_as_the_database_says() {
    let (database, _app) = path_fleet().await;
    let raw = Raw::on(&database).await;
    let entered = async || -> String {
        // The session is a superuser's, so nothing but the database's word decides.
        raw.run("begin").await;
        raw.run("select cgk_enter('acme')").await;
        let user: String = raw.one("select current_user::text").await;
        raw.run("rollback").await;
        user
    };
    let login: String = raw.one("select current_user::text").await;
    let role = RoleName::of_tenant(&slug("acme"), &DatabaseTag::of(database.name())).as_str().to_owned();
    let config = database.config().clone().with_isolation(Isolation::Role);
    // Often enough for every statement in the function to have a plan that is kept.
    for _ in 0..12 {
        assert_eq!(entered().await, login);
    }
    setup::change_isolation(&config, IsolationChange::Start).await.unwrap();
    lifecycle::isolate(&Operator::connect(&config).await.unwrap()).await.unwrap();
    assert_eq!(entered().await, login, "until the change is finished");
    raw.run("set cgk.isolation = 'role'").await;
    assert_eq!(entered().await, role, "one that goes ahead");
    raw.run("reset cgk.isolation").await;
    setup::finish_before_revoking(&config, &crate::access::service_login::app_name(&database)).await.unwrap();
    assert_eq!(entered().await, role);
    raw.run("set cgk.isolation = 'path'").await;
    assert_eq!(entered().await, role, "what the database does not accept is passed over");
}

/// What the database was before cgk wrote it down is found out by the next setup, and services go on meanwhile.
#[tokio::test]
async fn a_database_of_an_earlier_version_keeps_the_isolation_that_it_has() {
    let (database, app) = path_fleet().await;
    let raw = Raw::on(&database).await;
    let written = async || raw.one::<bool>("select to_regproc('cgk_isolation_modes') is not null").await;
    let forget = async || raw.run("drop function if exists cgk_isolation_modes() cascade").await;
    let set_up = async |isolation| {
        let operator = Operator::connect(&database.config().clone().with_isolation(isolation)).await.unwrap();
        setup::setup(&operator, &Migrations::bundled(), &mut Silent).await.map(drop)?;
        setup::isolation(&operator).await.map(|modes| (modes.mode, modes.leaving))
    };
    let (role, path) = (Isolation::Role, Isolation::Path);
    forget().await;
    let config = database.config().clone().with_pool_size_max(1);
    for pooling in [Pooling::Direct, Pooling::Transaction] {
        assert_served(&Db::connect(&app.clone().with_pooling(pooling)).await.unwrap()).await;
    }
    assert_mismatch(set_up(role).await.map(drop), path, role);
    assert!(!written().await, "a refused setup writes nothing");
    assert_eq!(set_up(path).await.unwrap(), (path, None));
    assert!(written().await);

    // One tenant has a role, the others do not: it is on its way, to where the operator says.
    setup::change_isolation(&config, IsolationChange::Start).await.unwrap();
    let operator = Operator::connect(&config).await.unwrap();
    let (globex, options) = (slug("globex"), CreateOptions::default());
    let db: Db = Db::connect(&config).await.unwrap();
    lifecycle::create(&operator, &db, &Migrations::bundled(), &globex, &options).await.unwrap();
    for isolation in [role, path] {
        forget().await;
        let other = if isolation == role { path } else { role };
        assert_eq!(set_up(isolation).await.unwrap(), (isolation, Some(other)));
    }

    // All have one, and the login's own rights are gone: there is nothing left of the paths.
    setup::change_isolation(&config, IsolationChange::Start).await.unwrap();
    lifecycle::isolate(&operator).await.unwrap();
    let mut last = LoginOptions::default();
    last.direct_rights = DirectRights::Revoke;
    login::admit(&operator, &crate::access::service_login::app_name(&database), &last).await.unwrap();
    forget().await;
    assert_mismatch(set_up(path).await.map(drop), role, path);
    assert_eq!(set_up(role).await.unwrap(), (role, None));
    assert_served(&Db::connect(&app.with_isolation(role)).await.unwrap()).await;
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
    setup::change_isolation(database.config(), IsolationChange::Start).await.unwrap();
    let operator = Operator::connect(database.config()).await.unwrap();
    lifecycle::isolate(&operator).await.unwrap();
    let wanted = rights(&reference).await;
    for kind in [" r ", " p ", " v ", " m ", " f ", " S "] {
        assert!(wanted.iter().any(|right| right.contains(kind)), "{kind}: {wanted:?}");
    }
    let role = RoleName::of_tenant(&slug("acme"), &DatabaseTag::of(database.name()));
    assert_eq!(rights(role.as_str()).await, wanted);

    // The service's login has rights of its own, of before there were roles; to take them back leaves none.
    let name = crate::access::service_login::app_name(&database);
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
    assert!(answer.code == 1 && answer.stderr.contains("CGK0306"), "{}", answer.stderr);
    assert!(answer.stderr.contains("--isolation role --change-isolation start"), "{}", answer.stderr);
    let name = crate::access::service_login::app_name(&database);
    let answer = shell.run(&["setup:database", "--isolate-tenants", "--app-role", name.as_str()]);
    assert_eq!(answer.code, 0, "{}", answer.stderr);
    assert!(answer.stdout.contains("created the role of 3 tenants"), "{}", answer.stdout);
    assert!(answer.stdout.contains("--revoke-direct"), "{}", answer.stdout);
    assert!(answer.stdout.contains("accepts isolation path and role"), "{}", answer.stdout);
    // To call it off, the change is started in the other direction. Without that there is nothing to finish.
    let step = |isolation, step| shell.run(&["setup:database", "--isolation", isolation, "--change-isolation", step]);
    let refused = step("path", "finish");
    let said = refused.stderr.split_whitespace().collect::<Vec<_>>().join(" ");
    assert_eq!(refused.code, 1, "{said}");
    assert!(said.contains("error[CGK0306]") && said.contains("changes from isolation \"path\" to \"role\""), "{said}");
    assert!(said.contains("`cgk setup:database --isolation path --change-isolation start`"), "{said}");
    let started = step("path", "start");
    assert!(started.code == 0 && started.stdout.contains("accepts isolation role and path"), "{}", started.stdout);
    let finished = step("path", "finish");
    assert!(finished.code == 0 && finished.stdout.contains("accepts only isolation path"), "{}", finished.stderr);
    let answer = shell.run(&["setup:database", "--isolate-tenants", "--app-role", name.as_str()]);
    assert_eq!(answer.code, 0, "{}", answer.stderr);
    let db: Db = Db::connect(&app.with_isolation(Isolation::Role)).await.unwrap();
    assert_served(&db).await;
    let answer = shell.run(&["setup:database", "--app-role", name.as_str(), "--revoke-direct", "--json", "-q"]);
    let summary: serde_json::Value = serde_json::from_str(answer.stdout.lines().last().unwrap()).unwrap();
    assert_eq!((&summary["app_role"]["direct"], &summary["tenants_without_role"]), (&0.into(), &serde_json::json!([])));
    // With the rights of the last login the change is finished.
    assert_eq!((&summary["isolation"], &summary["isolation_leaving"]), (&"role".into(), &serde_json::Value::Null));
    assert_served(&db).await;
    // And back, each step said. The login has the roles only, and so would enter nothing.
    let change = |step: &'static str| ["setup:database", "--isolation", "path", "--change-isolation", step];
    assert_eq!(shell.run(&change("start")).code, 0);
    let answer = shell.run(&change("finish"));
    assert!(answer.code == 1 && answer.stderr.contains("CGK0309"), "{}{}", answer.stdout, answer.stderr);
    let said = answer.stderr.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(said.contains(&format!("{name} could enter no tenant")), "{said}");
    assert!(said.contains("cgk setup:database --isolation path --app-role NAME"), "{said}");
    let answer = shell.run(&["setup:database", "--isolation", "path", "--app-role", name.as_str()]);
    assert_eq!(answer.code, 0, "{}", answer.stderr);
    for (step, leaving) in [("start", Some("role")), ("finish", None)] {
        let answer = shell.run(&["setup:database", "--isolation", "path", "--change-isolation", step, "--json", "-q"]);
        let summary: serde_json::Value = serde_json::from_str(answer.stdout.lines().last().unwrap()).unwrap();
        assert_eq!(
            (&summary["isolation"], &summary["isolation_leaving"]),
            (&"path".into(), &serde_json::json!(leaving))
        );
    }
    let answer = shell.run(&["migrate"]);
    assert!(answer.stderr.contains("CGK0306"), "{}", answer.stderr);
}
