//! The end of a change of the isolation: no tenant that was made meanwhile is locked out.

use super::isolation_mode::{assert_mismatch, path_fleet};
use crate::{
    access::service_login::app_name,
    sandbox::Raw,
    stage::{Stage, slug},
    support::{cgk::Shell, patience::must_end, patience::patient},
};
use cgk::{
    Config, Db, Error, ErrorKind, Operator, SetupError,
    config::Isolation,
    ident::{DatabaseTag, RoleName},
    lifecycle::{self, CreateManyOptions, CreateOptions, NewTenant},
    login::{self, DirectRights, LoginOptions, SharedTables},
    migrate::{Migrations, Silent},
    setup::{self, IsolationChange},
    testing::TestServer,
};

const ROLE: Isolation = Isolation::Role;
const PATH: Isolation = Isolation::Path;

async fn made(config: &Config, tenant: &str) -> cgk::Result<()> {
    let (operator, db) = (Operator::connect(config).await?, Db::connect(config).await?);
    let options = CreateOptions::default();
    lifecycle::create(&operator, &db, &Migrations::bundled(), &slug(tenant), &options).await.map(drop)
}

/// The tenants that keep a change from being finished.
fn locked_out(outcome: cgk::Result<cgk::config::IsolationModes>) -> Vec<String> {
    let error = outcome.unwrap_err();
    assert_eq!((error.code(), error.kind()), ("CGK0308", ErrorKind::NotReady), "{error:?}");
    let Error::Setup(SetupError::TenantsLockedOut { tenants, .. }) = error else { panic!("{error:?}") };
    tenants.iter().map(ToString::to_string).collect()
}

async fn enters(service: &Config, tenant: &str) -> cgk::Result<i64> {
    let db: Db = Db::connect(service).await?;
    Ok(db.tenant(&slug(tenant)).query_one("select count(*) from customers", &[]).await?.get(0))
}

#[tokio::test]
async fn tenants_that_are_made_meanwhile_keep_it_open_until_all_can_enter_them() {
    let (database, app) = path_fleet().await;
    let (by_role, by_path) = (app.clone().with_isolation(ROLE), app.clone().with_isolation(PATH));
    let config = |isolation| database.config().clone().with_isolation(isolation);

    setup::change_isolation(&config(ROLE), IsolationChange::Start).await.unwrap();
    let operator = Operator::connect(&config(ROLE)).await.unwrap();
    lifecycle::isolate(&operator).await.unwrap();
    made(&config(PATH), "hooli").await.unwrap();
    // The control: it works as it is, and would not with roles alone.
    enters(&by_path, "hooli").await.unwrap();
    assert_eq!(enters(&by_role, "hooli").await.unwrap_err().kind(), ErrorKind::NotReady);
    let finish = || async { setup::change_isolation(&config(ROLE), IsolationChange::Finish).await };
    assert_eq!(locked_out(finish().await), ["hooli"]);
    let modes = setup::isolation(&operator).await.unwrap();
    assert_eq!((modes.mode, modes.leaving), (ROLE, Some(PATH)), "a refused end changes nothing");
    enters(&by_path, "hooli").await.expect("nothing has changed");
    lifecycle::isolate(&operator).await.unwrap();
    setup::finish_before_revoking(&config(ROLE), &app_name(&database)).await.unwrap();
    for tenant in ["acme", "hooli"] {
        enters(&by_role, tenant).await.unwrap();
    }

    // And back: what is missing there is the login's right to the schema.
    setup::change_isolation(&config(PATH), IsolationChange::Start).await.unwrap();
    made(&config(ROLE), "umbrella").await.unwrap();
    let finish = || async { setup::change_isolation(&config(PATH), IsolationChange::Finish).await };
    assert_eq!(enters(&by_path, "umbrella").await.unwrap_err().kind(), ErrorKind::Denied);
    assert_eq!(locked_out(finish().await), ["umbrella"]);
    login::complete(&Operator::connect(&config(PATH)).await.unwrap()).await.unwrap();
    finish().await.unwrap();
    for tenant in ["acme", "umbrella"] {
        enters(&by_path, tenant).await.unwrap();
    }
}

/// A login that was admitted for role isolation only has no rights on schemas: it is named, and not locked out.
#[tokio::test]
async fn a_login_that_only_the_roles_let_in_keeps_it_open() {
    let database = TestServer::shared().set_up_database().await.unwrap();
    database.with_tenants(&["acme"]).await.unwrap();
    let config = |isolation| database.config().clone().with_isolation(isolation);
    let (first, second) = (app_name(&database), format!("{}_2", app_name(&database).as_str()).parse().unwrap());
    let admit = async |isolation, name| {
        let (operator, mut options) = (Operator::connect(&config(isolation)).await.unwrap(), LoginOptions::default());
        options.password = login::PasswordChange::New;
        let admission = login::admit(&operator, name, &options).await.unwrap();
        crate::stage::as_login(database.config(), &admission)
    };
    let finish = || async { setup::change_isolation(&config(PATH), IsolationChange::Finish).await };
    admit(ROLE, &first).await;
    admit(ROLE, &second).await;
    setup::change_isolation(&config(PATH), IsolationChange::Start).await.unwrap();
    admit(PATH, &first).await;
    let error = finish().await.unwrap_err();
    assert_eq!((error.code(), error.kind()), ("CGK0309", ErrorKind::NotReady), "{error:?}");
    let Error::Setup(SetupError::LoginsLockedOut { logins, .. }) = &error else { panic!("{error:?}") };
    assert_eq!(logins, &[second.as_str()]);
    assert_eq!(setup::isolation(&Operator::connect(&config(PATH)).await.unwrap()).await.unwrap().leaving, Some(ROLE));
    let app = admit(PATH, &second).await;
    finish().await.unwrap();
    enters(&app.with_isolation(PATH), "acme").await.unwrap();
    // The other way, every login gets the roles, and none keeps its own rights.
    setup::change_isolation(&config(ROLE), IsolationChange::Start).await.unwrap();
    let operator = Operator::connect(&config(ROLE)).await.unwrap();
    lifecycle::isolate(&operator).await.unwrap();
    login::complete(&operator).await.unwrap();
    let finish = || async { setup::change_isolation(&config(ROLE), IsolationChange::Finish).await };
    assert_eq!(with_direct_rights(finish().await), [first.as_str(), second.as_str()]);
    let revoke = async |name| {
        let mut last = LoginOptions::default();
        last.direct_rights = DirectRights::Revoke;
        login::admit(&operator, name, &last).await.unwrap();
    };
    revoke(&first).await;
    assert_eq!(with_direct_rights(finish().await), [second.as_str()]);
    let other = setup::finish_before_revoking(&config(ROLE), &first).await;
    assert_eq!(with_direct_rights(other), [second.as_str()], "only the login that is named may have them");
    assert_eq!(setup::isolation(&operator).await.unwrap().leaving, Some(PATH), "a refused end changes nothing");
    // Rights of PUBLIC are no login's own, and a right on the schema alone is one.
    let raw = Raw::on(&database).await;
    raw.run("grant usage on schema tenant_acme to public").await;
    revoke(&second).await;
    raw.run(&format!("grant create on schema tenant_acme to {second}")).await;
    assert_eq!(with_direct_rights(finish().await), [second.as_str()]);
    revoke(&second).await;
    finish().await.unwrap();
}

/// A login that may use the schemas and no table in them can enter tenants and read nothing.
#[tokio::test]
async fn a_login_without_a_right_on_a_table_keeps_it_open() {
    let (database, app) = path_fleet().await;
    let (raw, login) = (Raw::on(&database).await, app_name(&database));
    let config = |isolation| database.config().clone().with_isolation(isolation);
    setup::change_isolation(&config(ROLE), IsolationChange::Start).await.unwrap();
    lifecycle::isolate(&Operator::connect(&config(ROLE)).await.unwrap()).await.unwrap();
    setup::change_isolation(&config(PATH), IsolationChange::Start).await.unwrap();
    let finish = || async { setup::change_isolation(&config(PATH), IsolationChange::Finish).await };
    let operator = Operator::connect(&config(PATH)).await.unwrap();
    for tenant in ["acme", "globex"] {
        raw.run(&format!("revoke all on all tables in schema tenant_{tenant} from {login}")).await;
    }
    // A right that an operator takes on purpose is not given back.
    raw.run(&format!("revoke all on all tables in schema tenant_initech from {login}")).await;
    raw.run(&format!("grant select on tenant_initech.customers to {login}")).await;
    let usage = format!("select has_schema_privilege('{login}', 'tenant_acme', 'usage')");
    assert!(raw.one::<bool>(&usage).await, "the control: it may use the schema");
    let refused = enters(&app, "acme").await.unwrap_err();
    assert_eq!(refused.sqlstate().map(|state| state.code()), Some("42501"), "the control: and read nothing");
    assert_eq!(locked_out(finish().await), ["acme", "globex"]);
    login::complete(&operator).await.unwrap();
    for tenant in ["acme", "globex", "initech"] {
        assert_eq!(enters(&app, tenant).await.unwrap(), 1, "{tenant}");
    }
    let insert = format!("select has_table_privilege('{login}', 'tenant_initech.customers', 'insert')");
    assert!(!raw.one::<bool>(&insert).await);
    // Without a right on any schema, it is not one that the change serves.
    for tenant in ["acme", "globex", "initech"] {
        raw.run(&format!("revoke usage on schema tenant_{tenant} from {login}")).await;
    }
    let error = finish().await.unwrap_err();
    assert_eq!((error.code(), error.kind()), ("CGK0309", ErrorKind::NotReady), "{error:?}");
    let Error::Setup(SetupError::LoginsLockedOut { logins, .. }) = &error else { panic!("{error:?}") };
    assert_eq!(logins, &[login.as_str()]);
    login::admit(&operator, &login, &LoginOptions::default()).await.unwrap();
    finish().await.unwrap();
    assert_eq!(enters(&app, "acme").await.unwrap(), 1);
}

/// The command repairs such a login before it finishes.
#[tokio::test]
async fn the_command_gives_a_login_back_its_rights_on_tables() {
    let (database, app) = path_fleet().await;
    let (raw, login, shell) = (Raw::on(&database).await, app_name(&database), Shell::on(&database));
    setup::change_isolation(&database.config().clone().with_isolation(ROLE), IsolationChange::Start).await.unwrap();
    raw.run(&format!("revoke all on all tables in schema tenant_acme from {login}")).await;
    let to_path = |step: &'static str| ["setup:database", "--isolation", "path", "--change-isolation", step];
    for step in ["start", "finish"] {
        let answer = shell.run(&to_path(step));
        assert_eq!(answer.code, 0, "{step}: {}", answer.stderr);
    }
    assert_eq!(enters(&app, "acme").await.unwrap(), 1);
}

/// The logins whose direct rights keep a change from being finished.
fn with_direct_rights(outcome: cgk::Result<cgk::config::IsolationModes>) -> Vec<String> {
    let error = outcome.unwrap_err();
    assert_eq!((error.code(), error.kind()), ("CGK0310", ErrorKind::NotReady), "{error:?}");
    let Error::Setup(SetupError::LoginsWithDirectRights { logins, .. }) = error else { panic!("{error:?}") };
    logins
}

/// The steps of docs/operations.md with two logins, one of which is forgotten.
#[tokio::test]
async fn the_command_names_the_login_that_was_forgotten() {
    let (database, app) = path_fleet().await;
    let (shell, first) = (Shell::on(&database), app_name(&database));
    let second = format!("{first}_2");
    let said = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    let (admit, revoke) = (["setup:database", "--isolation", "path", "--app-role", &second], |name: &str| {
        ["setup:database", "--isolation", "role", "--app-role", name, "--revoke-direct"].map(str::to_owned)
    });
    assert_eq!(shell.run(&admit).code, 0);
    let answer =
        shell.run(&["setup:database", "--isolation", "role", "--isolate-tenants", "--app-role", first.as_str()]);
    assert_eq!(answer.code, 0, "{}", answer.stderr);
    let command = format!("cgk setup:database --isolation role --app-role {second} --revoke-direct");
    let finish = ["setup:database", "--isolation", "role", "--change-isolation", "finish"];
    let answer = shell.run(&finish);
    assert!(answer.code == 1 && answer.stderr.contains("CGK0310"), "{}{}", answer.stdout, answer.stderr);
    assert!(said(&answer.stderr).contains(&format!("schemas of tenants: {first}, {second}")), "{}", answer.stderr);
    assert!(said(&answer.stderr).contains(&command), "{}", answer.stderr);
    // The last step for one login says what the other needs, and leaves the change open.
    let answer = shell.run(&revoke(first.as_str()).each_ref().map(String::as_str));
    assert_eq!(answer.code, 0, "{}", answer.stderr);
    assert!(said(&answer.stdout).contains(&command), "{}", answer.stdout);
    assert_eq!(shell.run(&finish).code, 1);
    let raw = Raw::on(&database).await;
    let usage = format!("select has_schema_privilege('{second}', 'tenant_acme', 'usage')");
    assert!(raw.one::<bool>(&usage).await, "the control: the hole that is refused");
    let answer = shell.run(&revoke(&second).each_ref().map(String::as_str));
    assert_eq!(answer.code, 0, "{}", answer.stderr);
    assert!(answer.stdout.contains("the database accepts only isolation role"), "{}", answer.stdout);
    assert!(!raw.one::<bool>(&usage).await);
    enters(&app.with_isolation(ROLE), "acme").await.unwrap();
    raw.run(&format!("drop owned by {second}; drop role {second}")).await;
}

/// Also where no login is admitted; a sign-up and a schema that cgk did not make keep nothing open.
#[tokio::test]
async fn without_a_login_a_tenant_without_a_role_keeps_it_open_as_well() {
    let database = TestServer::shared().database().await.unwrap();
    let config = |isolation| database.config().clone().with_isolation(isolation);
    let operator = Operator::connect(&config(PATH)).await.unwrap();
    setup::setup(&operator, &Migrations::bundled(), &mut Silent).await.unwrap();
    made(&config(PATH), "acme").await.unwrap();
    let others =
        "insert into organizations (slug, name) values ('signup', 'x'), ('other', 'x'); create schema tenant_other";
    Raw::on(&database).await.run(others).await;
    setup::change_isolation(&config(ROLE), IsolationChange::Start).await.unwrap();
    let finish = || async { setup::change_isolation(&config(ROLE), IsolationChange::Finish).await };
    assert_eq!(locked_out(finish().await), ["acme"]);
    let operator = Operator::connect(&config(ROLE)).await.unwrap();
    lifecycle::isolate(&operator).await.unwrap();
    let role = RoleName::of_tenant(&slug("acme"), &DatabaseTag::of(database.name())).quoted();
    Raw::on(&database).await.run(&format!("revoke usage on schema tenant_acme from {role}")).await;
    assert_eq!(locked_out(finish().await), ["acme"], "a role that may not use its schema");
    lifecycle::isolate(&operator).await.unwrap();
    finish().await.unwrap();
}

/// A login that has no rights of its own on schemas is let in again by its roles alone.
#[tokio::test]
async fn a_login_that_lost_a_role_is_let_in_again() {
    let stage = Stage::set().await;
    let app = stage.app(ROLE, SharedTables::Registry).await;
    stage.sql(&format!("revoke {} from {}", stage.role("acme"), stage.app_name())).await;
    let error = app.tenant(&slug("acme")).query("table marks", &[]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Denied, "the control: {error:?}");
    login::complete(&Operator::connect(&stage.config()).await.unwrap()).await.unwrap();
    app.tenant(&slug("acme")).query("table marks", &[]).await.unwrap();
}

/// The rights of path isolation are taken from a login only where it has what replaces them.
#[tokio::test]
async fn a_login_keeps_its_own_rights_on_a_tenant_without_a_role() {
    let (database, app) = path_fleet().await;
    let config = database.config();
    setup::change_isolation(config, IsolationChange::Start).await.unwrap();
    let operator = Operator::connect(config).await.unwrap();
    lifecycle::isolate(&operator).await.unwrap();
    made(&config.clone().with_isolation(PATH), "hooli").await.unwrap();
    let mut last = LoginOptions::default();
    last.direct_rights = DirectRights::Revoke;
    let admission = login::admit(&operator, &app_name(&database), &last).await.unwrap();
    assert_eq!((admission.left_out.as_slice(), admission.direct), ([slug("hooli")].as_slice(), 1));
    enters(&app, "hooli").await.unwrap();
    assert_eq!(enters(&app, "acme").await.unwrap_err().kind(), ErrorKind::Denied, "the control: taken");
    enters(&app.clone().with_isolation(ROLE), "acme").await.unwrap();
}

/// The command makes what is missing before it finishes, each of the two ways.
#[tokio::test]
async fn the_command_makes_what_is_missing_first() {
    for finish in ["finish", "revoke-direct"] {
        let (database, app) = path_fleet().await;
        let (shell, name) = (Shell::on(&database), app_name(&database));
        let answer = shell.run(&["setup:database", "--isolate-tenants", "--app-role", name.as_str()]);
        assert_eq!(answer.code, 0, "{}", answer.stderr);
        made(&database.config().clone().with_isolation(PATH), "hooli").await.unwrap();
        let answer = match finish {
            "finish" => shell.run(&[
                "setup:database",
                "--isolation",
                "role",
                "--change-isolation",
                "finish",
                "--app-role",
                name.as_str(),
                "--revoke-direct",
            ]),
            _ => shell.run(&["setup:database", "--app-role", name.as_str(), "--revoke-direct"]),
        };
        assert_eq!(answer.code, 0, "{finish}: {}", answer.stderr);
        assert!(answer.stdout.contains("created the role of 1 tenant"), "{finish}: {}", answer.stdout);
        assert!(answer.stdout.contains("the database accepts only isolation role"), "{finish}: {}", answer.stdout);
        let is_said = answer.stdout.contains("it has no direct rights on the schemas of tenants");
        assert!(is_said, "{finish}: {}", answer.stdout);
        assert_mismatch(enters(&app, "hooli").await.map(drop), ROLE, PATH);
        for tenant in ["acme", "hooli"] {
            enters(&app.clone().with_isolation(ROLE), tenant).await.unwrap();
        }
    }
}

/// A creation that began before the end is waited for, and is then one of those that keep it open.
#[tokio::test]
async fn a_tenant_that_is_being_made_is_waited_for() {
    let (database, _app) = path_fleet().await;
    let config = patient(database.config());
    setup::change_isolation(&config, IsolationChange::Start).await.unwrap();
    lifecycle::isolate(&Operator::connect(&config).await.unwrap()).await.unwrap();
    let (holder, watch) = (Raw::on(&database).await, Raw::on(&database).await);
    holder.run("begin; lock table public.organizations in share mode").await;
    let path = config.clone().with_isolation(PATH);
    let creation = tokio::spawn(async move { made(&path, "hooli").await });
    let waits = |what: &str| {
        format!(
            "select exists (select from pg_locks l join pg_database d on d.oid = l.database
             where d.datname = current_database() and l.locktype = '{what}' and not l.granted)"
        )
    };
    watch.wait_until(&waits("relation")).await;
    let finish = tokio::spawn(async move { setup::change_isolation(&config, IsolationChange::Finish).await });
    watch.wait_until(&waits("advisory")).await;
    holder.run("commit").await;
    must_end("the creation", creation).await.unwrap().unwrap();
    assert_eq!(locked_out(must_end("the end", finish).await.unwrap()), ["hooli"]);
}

/// An operator that connected before the end makes nothing after it: alone, one of many, or by taking a schema over.
#[tokio::test]
async fn a_creation_that_comes_too_late_makes_nothing() {
    let (database, _app) = path_fleet().await;
    let (config, raw) = (database.config(), Raw::on(&database).await);
    setup::change_isolation(config, IsolationChange::Start).await.unwrap();
    lifecycle::isolate(&Operator::connect(config).await.unwrap()).await.unwrap();
    let path = config.clone().with_isolation(PATH);
    let (operator, db): (Operator, Db) = (Operator::connect(&path).await.unwrap(), Db::connect(&path).await.unwrap());
    let (migrations, options) = (Migrations::bundled(), CreateOptions::default());
    // The control: before the end it makes tenants.
    lifecycle::create(&operator, &db, &migrations, &slug("early"), &options).await.unwrap();
    lifecycle::isolate(&Operator::connect(config).await.unwrap()).await.unwrap();
    setup::finish_before_revoking(config, &app_name(&database)).await.unwrap();
    let late = lifecycle::create(&operator, &db, &migrations, &slug("late"), &options).await;
    assert_mismatch(late.map(drop), ROLE, PATH);
    let many = [NewTenant::from(slug("later"))];
    let report = lifecycle::create_many(&operator, &db, &migrations, &many, &CreateManyOptions::default(), &mut Silent)
        .await
        .unwrap();
    let mut outcomes = report.tenants;
    assert_mismatch(outcomes.remove(0).result.map(drop), ROLE, PATH);
    let there: i64 = raw.one("select count(*) from public.organizations where slug like 'late%'").await;
    let schemas: i64 = raw.one("select count(*) from pg_namespace where nspname like 'tenant_late%'").await;
    assert_eq!((there, schemas), (0, 0));
}

/// A step that was done is not done again, even where it could not be done any more; a step of the other isolation is refused.
#[tokio::test]
async fn a_step_that_is_repeated_changes_nothing() {
    let (database, _app) = path_fleet().await;
    let raw = Raw::on(&database).await;
    let after = async |isolation, step| {
        let config = database.config().clone().with_isolation(isolation);
        let modes = setup::change_isolation(&config, step).await.unwrap();
        let stored: String = raw.one("select cgk_isolation_modes()").await;
        (modes.mode, modes.leaving, stored)
    };
    for step in [IsolationChange::Start, IsolationChange::Finish] {
        assert_eq!(after(PATH, step).await, (PATH, None, "path".into()), "{step:?}");
    }
    // No tenant has a role yet, so this change could not be finished.
    for _ in 0..2 {
        assert_eq!(after(ROLE, IsolationChange::Start).await, (ROLE, Some(PATH), "role path".into()));
    }
    let other = setup::change_isolation(&database.config().clone().with_isolation(PATH), IsolationChange::Finish).await;
    let error = other.unwrap_err();
    assert!(
        matches!(&error, Error::Setup(SetupError::LeavingIsolation { leaving, .. }) if *leaving == PATH),
        "{error:?}"
    );
    assert_eq!((error.code(), error.kind()), ("CGK0306", ErrorKind::Conflict));
    assert_eq!(raw.one::<String>("select cgk_isolation_modes()").await, "role path");

    lifecycle::isolate(&Operator::connect(database.config()).await.unwrap()).await.unwrap();
    setup::finish_before_revoking(database.config(), &app_name(&database)).await.unwrap();
    assert_eq!(after(ROLE, IsolationChange::Finish).await, (ROLE, None, "role".into()));
    // Now a tenant is locked out, and what was finished stays so.
    let role = RoleName::of_tenant(&slug("acme"), &DatabaseTag::of(database.name())).quoted();
    raw.run(&format!("revoke usage on schema tenant_acme from {role}")).await;
    for step in [IsolationChange::Finish, IsolationChange::Start] {
        assert_eq!(after(ROLE, step).await, (ROLE, None, "role".into()), "{step:?}");
    }
}

/// In a database of an earlier version, which has recorded nothing, a step records what the database is, even if it changes
/// nothing.
#[tokio::test]
async fn a_step_records_the_identity_and_the_isolation_of_an_earlier_version() {
    let (database, app) = path_fleet().await;
    let raw = Raw::on(&database).await;
    let forget =
        "drop table cgk_database; create or replace function current_tenant_slug() returns text stable parallel safe
                  return null; drop function cgk_database_tag(); drop function cgk_isolation_modes() cascade";
    raw.run(forget).await;
    let recorded = "select coalesce(to_regproc('cgk_database_tag')::text, '') || ' ' || coalesce(to_regproc('cgk_isolation_modes')::text, '')";
    assert_eq!(raw.one::<String>(recorded).await, " ", "the control");
    let modes = setup::change_isolation(&database.config().clone().with_isolation(PATH), IsolationChange::Start).await;
    assert_eq!(modes.map(|modes| (modes.mode, modes.leaving)).unwrap(), (PATH, None));
    assert_eq!(raw.one::<String>(recorded).await, "cgk_database_tag cgk_isolation_modes");
    assert_eq!(raw.one::<String>("select cgk_isolation_modes()").await, "path");
    assert_eq!(raw.one::<String>("select cgk_database_tag()").await, DatabaseTag::of(database.name()).as_str());
    enters(&app, "acme").await.unwrap();
}
