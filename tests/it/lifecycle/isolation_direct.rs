//! The direct rights of a login on tenants' schemas, of every kind: the end of a change to role isolation finds them, and
//! `--revoke-direct` revokes them.

use super::isolation_mode::path_fleet;
use crate::{
    access::service_login::app_name,
    sandbox::{Raw, login_role},
    stage::slug,
    support::cgk::Shell,
};
use cgk::{
    Config, Db, Error, Operator, SetupError,
    config::Isolation,
    lifecycle::{self, CreateOptions},
    login::{self, Admission, DirectRights, LoginName, LoginOptions},
    migrate::{Migrations, Silent},
    setup::{self, IsolationChange},
    testing::{TestDatabase, TestServer},
};

/// A fleet in the middle of a change to role isolation, with a login that has lost its direct rights.
async fn changing() -> (TestDatabase, Raw, Operator, LoginName) {
    let (database, _app) = path_fleet().await;
    setup::change_isolation(database.config(), IsolationChange::Start).await.unwrap();
    let operator = Operator::connect(database.config()).await.unwrap();
    lifecycle::isolate(&operator).await.unwrap();
    let name = app_name(&database);
    assert_eq!(revoke(&operator, &name).await.unwrap().direct, 0);
    assert_eq!(login::with_direct_rights(&operator).await.unwrap(), []);
    let raw = Raw::on(&database).await;
    (database, raw, operator, name)
}

async fn revoke(operator: &Operator, name: &LoginName) -> cgk::Result<Admission> {
    let mut options = LoginOptions::default();
    options.direct_rights = DirectRights::Revoke;
    login::admit(operator, name, &options).await
}

/// The logins whose direct rights keep the change from being finished.
async fn refused(config: &Config) -> Vec<String> {
    let error = setup::change_isolation(config, IsolationChange::Finish).await.unwrap_err();
    assert_eq!(error.code(), "CGK0310", "{error:?}");
    let Error::Setup(SetupError::LoginsWithDirectRights { logins, .. }) = error else { panic!("{error:?}") };
    logins
}

/// Objects on which PUBLIC has no rights, and roles besides the login.
async fn objects(raw: &Raw, name: &LoginName) {
    raw.run(&format!(
        "create role {name}_dba; create role {name}_peer;
         set search_path = tenant_acme;
         create sequence numbers; create view seen as select 1 as one;
         create function one() returns int return 1; create procedure go() language sql as 'select 1';
         create aggregate total (int) (sfunc = int4pl, stype = int);
         create type color as enum ('red'); create domain small as int;
         revoke all on all routines in schema tenant_acme from public;
         revoke all on type color, small from public;
         reset search_path"
    ))
    .await;
}

async fn without_objects(raw: &Raw, name: &LoginName) {
    for role in ["dba", "peer"] {
        raw.run(&format!("drop owned by {name}_{role}; drop role {name}_{role}")).await;
    }
}

/// The statements that give the login something by hand, and what is true while it has it.
fn gifts(name: &LoginName) -> Vec<(String, String)> {
    let default =
        format!("exists (select from pg_default_acl f, aclexplode(f.defaclacl) a where a.grantee = '{name}'::regrole)");
    [
        ("grant create on schema tenant_acme to APP", "has_schema_privilege('APP', 'tenant_acme', 'create')"),
        ("grant select on tenant_acme.customers to APP", "has_table_privilege('APP', 'tenant_acme.customers', 'select')"),
        (
            "grant select on tenant_acme.schema_migrations to APP",
            "has_table_privilege('APP', 'tenant_acme.schema_migrations', 'select')",
        ),
        ("grant select on tenant_acme.seen to APP", "has_table_privilege('APP', 'tenant_acme.seen', 'select')"),
        (
            "grant select (email) on tenant_acme.customers to APP",
            "has_column_privilege('APP', 'tenant_acme.customers', 'email', 'select')",
        ),
        (
            "grant usage on sequence tenant_acme.numbers to APP",
            "has_sequence_privilege('APP', 'tenant_acme.numbers', 'usage')",
        ),
        (
            "grant execute on function tenant_acme.one() to APP",
            "has_function_privilege('APP', 'tenant_acme.one()', 'execute')",
        ),
        (
            "grant execute on procedure tenant_acme.go() to APP",
            "has_function_privilege('APP', 'tenant_acme.go()', 'execute')",
        ),
        (
            "grant execute on function tenant_acme.total(int) to APP",
            "has_function_privilege('APP', 'tenant_acme.total(int)', 'execute')",
        ),
        ("grant usage on type tenant_acme.color to APP", "has_type_privilege('APP', 'tenant_acme.color', 'usage')"),
        ("grant usage on domain tenant_acme.small to APP", "has_type_privilege('APP', 'tenant_acme.small', 'usage')"),
        ("alter default privileges in schema tenant_acme grant select on tables to APP", &default),
        ("alter default privileges in schema tenant_acme grant usage on sequences to APP", &default),
        ("alter default privileges in schema tenant_acme grant execute on functions to APP", &default),
        ("alter default privileges in schema tenant_acme grant usage on types to APP", &default),
        ("alter default privileges for role APP_dba in schema tenant_acme grant select on tables to APP", &default),
        // Of the role that owns the schemas, in every schema.
        ("alter default privileges grant select on tables to APP", &default),
        ("alter default privileges grant usage on schemas to APP", &default),
        // Another role passed it on, or the login did.
        (
            "grant usage on schema tenant_acme to APP_peer; grant select on tenant_acme.customers to APP_peer with grant option;
             set role APP_peer; grant select on tenant_acme.customers to APP; reset role",
            "has_table_privilege('APP', 'tenant_acme.customers', 'select')",
        ),
        (
            "grant usage on schema tenant_acme to APP; grant select on tenant_acme.orders to APP with grant option;
             set role APP; grant select on tenant_acme.orders to APP_peer; reset role",
            "has_table_privilege('APP', 'tenant_acme.orders', 'select')
             or has_table_privilege('APP_peer', 'tenant_acme.orders', 'select')",
        ),
    ]
    .map(|(gift, is_there)| (gift.replace("APP", name.as_str()), is_there.replace("APP", name.as_str())))
    .to_vec()
}

/// No USAGE on the schema is needed for a right to count: with that alone, granted later, the login would read the rows.
#[tokio::test]
async fn every_direct_right_is_found_and_revoked() {
    let (database, raw, operator, name) = changing().await;
    objects(&raw, &name).await;
    for (gift, is_there) in gifts(&name) {
        let has = || async { raw.one::<bool>(&format!("select {is_there}")).await };
        assert!(!has().await, "the control: {gift}");
        raw.run(&gift).await;
        assert!(has().await, "the control: {gift}");
        assert_eq!(refused(database.config()).await, [name.as_str()], "{gift}");
        let kept = login::admit(&operator, &name, &LoginOptions::default()).await.unwrap();
        assert!(kept.direct > 0 && has().await, "{gift}: {kept:?}");
        let revoked = revoke(&operator, &name).await.unwrap();
        assert_eq!((revoked.direct, has().await), (0, false), "{gift}");
        assert_eq!(login::with_direct_rights(&operator).await.unwrap(), [], "{gift}");
    }
    // What other roles have stays.
    let peer = format!("select has_table_privilege('{name}_peer', 'tenant_acme.customers', 'select')");
    assert!(raw.one::<bool>(&peer).await);
    setup::change_isolation(database.config(), IsolationChange::Finish).await.unwrap();
    without_objects(&raw, &name).await;
}

/// The case that was found: USAGE on one schema was revoked by hand, and the rest stayed.
#[tokio::test]
async fn what_is_left_where_usage_was_revoked_by_hand_is_revoked() {
    let (database, _app) = path_fleet().await;
    let (raw, shell, name) = (Raw::on(&database).await, Shell::on(&database), app_name(&database));
    raw.run(&format!("revoke usage on schema tenant_globex from {name}")).await;
    let left = format!(
        "select has_table_privilege('{name}', 'tenant_globex.customers', 'insert')
             or exists (select from pg_default_acl f, aclexplode(f.defaclacl) a
                        where a.grantee = '{name}'::regrole and f.defaclnamespace = 'tenant_globex'::regnamespace)"
    );
    let answer =
        shell.run(&["setup:database", "--isolation", "role", "--isolate-tenants", "--app-role", name.as_str()]);
    assert_eq!(answer.code, 0, "{}", answer.stderr);
    assert!(raw.one::<bool>(&left).await, "the control");
    assert!(answer.stdout.contains("direct rights on 3 schemas"), "{}", answer.stdout);
    let answer = shell.run(&["setup:database", "--isolation", "role", "--app-role", name.as_str(), "--revoke-direct"]);
    assert_eq!(answer.code, 0, "{}", answer.stderr);
    assert!(answer.stdout.contains("it has no direct rights on the schemas of tenants"), "{}", answer.stdout);
    assert!(answer.stdout.contains("the database accepts only isolation role"), "{}", answer.stdout);
    assert!(!raw.one::<bool>(&left).await);
}

/// Schemas that were made ready under path isolation have the logins' rights.
#[tokio::test]
async fn the_rights_on_schemas_that_are_ready_for_tenants_are_revoked_too() {
    let (database, _app) = path_fleet().await;
    let (raw, name) = (Raw::on(&database).await, app_name(&database));
    let shell = Shell::on(&database).set("CGK_ISOLATION", "path");
    let answer = shell.run(&["tenant:warm", "1"]);
    assert_eq!(answer.code, 0, "{}", answer.stderr);
    let warm: String = raw.one("select schema_name from cgk_warm").await;
    let has = format!("select has_table_privilege('{name}', '{warm}.customers', 'select')");
    assert!(raw.one::<bool>(&has).await, "the control");
    setup::change_isolation(database.config(), IsolationChange::Start).await.unwrap();
    let operator = Operator::connect(database.config()).await.unwrap();
    lifecycle::isolate(&operator).await.unwrap();
    // It is the only one with rights.
    login::complete(&operator).await.unwrap();
    for tenant in ["acme", "globex", "initech"] {
        let revoke = format!(
            "revoke all on all tables in schema tenant_{tenant} from {name}; revoke all on all sequences in schema tenant_{tenant} from {name};
             alter default privileges in schema tenant_{tenant} revoke all on tables from {name};
             alter default privileges in schema tenant_{tenant} revoke all on sequences from {name};
             revoke all on schema tenant_{tenant} from {name}"
        );
        raw.run(&revoke).await;
    }
    assert_eq!(refused(database.config()).await, [name.as_str()]);
    assert_eq!(revoke(&operator, &name).await.unwrap().direct, 0);
    assert!(!raw.one::<bool>(&has).await);
    setup::change_isolation(database.config(), IsolationChange::Finish).await.unwrap();
}

#[tokio::test]
async fn rights_of_everyone_and_on_schemas_of_no_tenant_are_named_and_stay() {
    let (database, raw, operator, name) = changing().await;
    assert_eq!(login::with_rights_on_strays(&operator).await.unwrap(), [], "the control");
    let shell = Shell::on(&database);
    let said = |arguments: &[&str]| {
        let answer = shell.run(&[&["setup:database", "--isolation", "role"], arguments].concat());
        assert_eq!(answer.code, 0, "{}", answer.stderr);
        answer.stdout.split_whitespace().collect::<Vec<_>>().join(" ")
    };
    let login = ["--app-role", name.as_str()];
    let revoking = ["--app-role", name.as_str(), "--revoke-direct"];
    let clean = said(&login);
    for word in ["PUBLIC", "of no tenant", "--revoke-direct"] {
        assert!(!clean.contains(word), "the control: {clean}");
    }
    raw.run(&format!(
        "grant usage on schema tenant_acme to public;
         create schema tenant_stray; create table tenant_stray.t (); grant select on tenant_stray.t to {name};
         create role {name}_else; create schema tenant_foreign authorization {name}_else; grant usage on schema tenant_foreign to {name}"
    ))
    .await;
    let stray = "it has direct rights on schemas of no tenant, which no command changes: tenant_stray";
    for arguments in [login.as_slice(), revoking.as_slice()] {
        let text = said(arguments);
        assert!(text.contains("every role has rights on 1 schema, because PUBLIC has: tenant_acme"), "{text}");
        assert!(text.contains("revoke all on schema tenant_acme from public"), "{text}");
        assert!(text.contains(stray) && !text.contains("tenant_foreign"), "{text}");
        assert!(!text.contains("add --revoke-direct"), "{text}");
        assert_eq!(text.contains("it has no direct rights on the schemas of tenants"), arguments.len() == 3, "{text}");
    }
    let strays = login::with_rights_on_strays(&operator).await.unwrap();
    assert_eq!(strays, [(name.clone(), vec!["tenant_stray".to_owned()])]);
    // The change is finished by now. The command prints this for a login that it is not run for.
    let text = said(&["--change-isolation", "finish"]);
    assert!(text.contains(&format!("login {name}: {stray}")), "{text}");
    assert!(raw.one::<bool>(&format!("select has_table_privilege('{name}', 'tenant_stray.t', 'select')")).await);
    let answer = shell.run(&[&["setup:database", "--json", "-q"], login.as_slice()].concat());
    let summary: serde_json::Value = serde_json::from_str(answer.stdout.lines().last().unwrap()).unwrap();
    let role = &summary["app_role"];
    assert_eq!(
        (&role["direct"], &role["direct_on_strays"], &role["open_to_everyone"]),
        (&0.into(), &serde_json::json!(["tenant_stray"]), &serde_json::json!(["tenant_acme"]))
    );
    raw.run(&format!("drop owned by {name}_else; drop role {name}_else")).await;
}

#[tokio::test]
async fn path_isolation_keeps_the_direct_rights_and_says_so() {
    let (database, _app) = path_fleet().await;
    let (shell, name) = (Shell::on(&database), app_name(&database));
    let answer = shell.run(&["setup:database", "--isolation", "path", "--app-role", name.as_str(), "--revoke-direct"]);
    assert_eq!(answer.code, 0, "{}", answer.stderr);
    assert!(answer.stdout.contains("--revoke-direct revoked nothing"), "{}", answer.stdout);
    assert!(!answer.stdout.contains("it has no direct rights"), "{}", answer.stdout);
}

/// What another role granted, only that role can revoke. The rest is revoked all the same.
#[tokio::test]
async fn a_right_that_the_operator_may_not_revoke_is_named_with_the_statement() {
    let database = TestServer::shared().database().await.unwrap();
    let raw = Raw::on(&database).await;
    let (role, config) = login_role(&database, &raw, "nosuperuser createrole").await;
    raw.run(&format!(
        "grant create on database {} to {role}; grant create on schema public to {role};
         revoke create on schema public from public",
        database.name()
    ))
    .await;
    let config = config.with_isolation(Isolation::Role);
    let (operator, db) = (Operator::connect(&config).await.unwrap(), Db::connect(&config).await.unwrap());
    setup::setup(&operator, &Migrations::bundled(), &mut Silent).await.unwrap();
    let name = app_name(&database);
    login::admit(&operator, &name, &LoginOptions::default()).await.unwrap();
    lifecycle::create(&operator, &db, &Migrations::bundled(), &slug("acme"), &CreateOptions::default()).await.unwrap();
    let own = format!("select has_table_privilege('{name}', 'tenant_acme.customers', 'select')");
    raw.run(&format!(
        "grant select on tenant_acme.customers to {name}; create role {name}_dba;
         alter default privileges for role {name}_dba in schema tenant_acme grant select on tables to {name}"
    ))
    .await;
    assert!(raw.one::<bool>(&own).await, "the control");
    let error = revoke(&operator, &name).await.unwrap_err();
    assert_eq!(error.code(), "CGK0301", "{error:?}");
    let Error::Setup(SetupError::Privilege { needed, grant, .. }) = error else { panic!("{error:?}") };
    assert!(needed.contains(&format!("{name}_dba")), "{needed}");
    assert!(!raw.one::<bool>(&own).await, "the operator's own grant is revoked");
    raw.run(&grant).await;
    assert_eq!(revoke(&operator, &name).await.unwrap().direct, 0);
    raw.run(&format!("drop role {name}_dba")).await;
}
