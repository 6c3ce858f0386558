//! The login of services: made once, completed again, refused where it may do too much, and found when tenants are made.

use crate::{
    sandbox::{Raw, login_role},
    stage::{Stage, as_login, slug},
    support::cgk::Shell,
};
use cgk::{
    Db, Error, ErrorKind, Operator, SetupError,
    config::Isolation,
    drift,
    ident::DatabaseTag,
    lifecycle::{self, CreateOptions},
    login::{self, Admission, LoginName, LoginOptions, PasswordChange, SharedTables},
    migrate::{Migrations, Scope, Silent},
    setup,
    testing::{TestDatabase, TestServer},
};

/// The name of a service's login of a database; dropped with it.
pub(crate) fn app_name(database: &TestDatabase) -> LoginName {
    format!("app_{}", DatabaseTag::of(database.name()).as_str()).parse().unwrap()
}

async fn admit(stage: &Stage, operator: &Operator) -> cgk::Result<Admission> {
    login::admit(operator, &stage.app_name(), &LoginOptions::default()).await
}

async fn create(operator: &Operator, db: &Db, text: &str) -> cgk::Result<lifecycle::Created> {
    lifecycle::create(operator, db, &Migrations::bundled(), &slug(text), &CreateOptions::default()).await
}

/// What it is given on the shared tables is no difference to what the migrations give; what somebody else adds is.
#[tokio::test]
async fn its_policies_are_no_drift() {
    let stage = Stage::set().await;
    let operator = Operator::connect(&stage.config()).await.unwrap();
    let differences = async || -> Vec<String> {
        let report = drift::verify(&operator, &Migrations::bundled(), &Scope::Everything).await.unwrap();
        report.public.unwrap().differences.iter().map(ToString::to_string).collect()
    };
    let before = differences().await;
    let made = admit(&stage, &operator).await.unwrap();
    let policies = "select count(*) from pg_policy where polname ~ '^cgk_login_'";
    assert!(stage.watch.query_one(policies, &[]).await.unwrap().get::<_, i64>(0) > 0);
    assert_eq!(differences().await, before);
    // The control: the same name for everybody, and another name for the login.
    let name = made.name.as_str();
    for (policy, role) in [(format!("cgk_login_{name}x"), "public"), ("by_hand".to_owned(), name)] {
        let sql = format!("create policy {policy} on users for select to {role} using (true)");
        stage.watch.execute(&sql, &[]).await.unwrap();
        let now = differences().await;
        assert!(now.iter().any(|one| one.contains(&format!("users.{policy}"))), "{now:?}");
    }
}

#[tokio::test]
async fn it_is_made_once_and_may_do_little() {
    let stage = Stage::set().await;
    let operator = Operator::connect(&stage.config()).await.unwrap();
    let made = admit(&stage, &operator).await.unwrap();
    assert!(made.created && made.password.is_some());
    assert_eq!((made.tenants, made.left_out.len(), made.direct), (2, 0, 0));
    assert_eq!(made.shared_tables, SharedTables::Registry);
    let name = made.name.as_str();
    let row = stage
        .watch
        .query_one(
            "select concat(rolcanlogin, rolsuper, rolbypassrls, rolinherit, rolcreaterole, rolcreatedb, rolreplication), rolpassword
             from pg_authid where rolname = $1",
            &[&name],
        )
        .await
        .unwrap();
    let (attributes, verifier): (String, String) = (row.get(0), row.get(1));
    assert_eq!(attributes, "tffffff");
    assert!(verifier.starts_with("SCRAM-SHA-256$4096:"), "{verifier}");

    let session = Raw::connect(&stage.config().url_of(name, Some(made.password.as_ref().unwrap().reveal()))).await;
    // Outside of a tenant nothing is found, and nothing but the registry can be read.
    assert_eq!(session.one::<String>("show search_path").await, "\"\"");
    let refused = async |sql: &str| session.try_run(sql).await.unwrap_err().code().unwrap().code().to_owned();
    assert_eq!(refused("select from users").await, "42P01");
    assert_eq!(session.one::<i64>("select count(slug) from public.organizations").await, 2);
    assert_eq!(session.one::<i64>("select count(id) from public.users").await, 0);
    for sql in [
        "select shopify_access_token from public.organizations",
        "update public.organizations set status = 'suspended'",
        "select email from public.magic_links",
        "table tenant_acme.marks",
        "create schema x",
        "create table public.x ()",
        "create role x",
        "alter table public.users disable row level security",
    ] {
        assert_eq!(refused(sql).await, "42501", "{sql}");
    }

    let verifier = async || {
        stage
            .watch
            .query_one("select rolpassword from pg_authid where rolname = $1", &[&name])
            .await
            .unwrap()
            .get::<_, String>(0)
    };
    let before = verifier().await;
    let again = admit(&stage, &operator).await.unwrap();
    assert!(!again.created && again.password.is_none());
    assert_eq!((again.tenants, verifier().await), (2, before.clone()));
    let mut options = LoginOptions::default();
    options.password = PasswordChange::New;
    let renewed = login::admit(&operator, &made.name, &options).await.unwrap();
    assert!(!renewed.created && renewed.password.is_some());
    assert_ne!(verifier().await, before);
}

#[tokio::test]
async fn eight_at_once_make_one() {
    let stage = Stage::set().await;
    let mut operators = Vec::new();
    for _ in 0..8 {
        operators.push(crate::support::patience::patient_operator(&stage.database).await);
    }
    let name = stage.app_name();
    let tasks: Vec<_> = operators
        .into_iter()
        .map(|operator| {
            let name = name.clone();
            tokio::spawn(async move { login::admit(&operator, &name, &LoginOptions::default()).await })
        })
        .collect();
    let mut made = 0;
    for task in tasks {
        let admission = task.await.unwrap().unwrap();
        assert_eq!(admission.created, admission.password.is_some());
        assert_eq!(admission.tenants, 2);
        made += usize::from(admission.created);
    }
    assert_eq!(made, 1);
}

#[tokio::test]
async fn tenants_that_are_made_later_let_it_in_whoever_makes_them() {
    for isolation in [Isolation::Role, Isolation::Path] {
        let stage = Stage::set().await;
        let app = stage.app(isolation, SharedTables::Registry).await;
        let other = Operator::connect(&stage.config().with_isolation(isolation)).await.unwrap();
        // A schema without a ledger is in nobody's way.
        stage.sql("insert into organizations (slug, name) values ('begun', 'B'); create schema tenant_begun").await;
        let again =
            admit(&stage, &Operator::connect(&stage.config().with_isolation(isolation)).await.unwrap()).await.unwrap();
        assert_eq!((again.tenants, again.left_out, again.failure.is_none()), (2, vec![slug("begun")], true));
        // Entered, at the end, as the service does.
        create(&other, &app, "initech").await.unwrap();
        let own = "insert into customers (email) values ('a@x')";
        assert_eq!(app.tenant(&slug("initech")).execute(own, &[]).await.unwrap(), 1, "{isolation:?}");
        let error = app.tenant(&slug("initech")).query("table schema_migrations", &[]).await.unwrap_err();
        assert_eq!(error.sqlstate().unwrap().code(), "42501", "{isolation:?}");
        // What was taken away is given again.
        let (object, taken) = match isolation {
            Isolation::Role => (String::new(), format!("revoke {} from {}", stage.role("initech"), stage.app_name())),
            Isolation::Path => {
                ("tenant_initech".into(), format!("revoke all on schema tenant_initech from {}", stage.app_name()))
            }
        };
        stage.sql(&taken).await;
        let error = app.tenant(&slug("initech")).query("select 1", &[]).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Denied, "{isolation:?} {object}: {error:?}");
        assert_eq!(create(&other, &app, "initech").await.unwrap().creation, lifecycle::Creation::Finished);
        assert_eq!(create(&other, &app, "initech").await.unwrap().creation, lifecycle::Creation::Existed);
        app.tenant(&slug("initech")).query("table customers", &[]).await.unwrap();
    }
}

/// A login for role isolation sees all of the shared tables' rows as itself, so it must never be itself inside a tenant.
#[tokio::test]
async fn a_login_for_roles_gets_no_schema_from_an_operator_in_path_mode() {
    let stage = Stage::set().await;
    let app = stage.app(Isolation::Role, SharedTables::All).await;
    let config = stage.config().with_isolation(Isolation::Path);
    let (operator, own) = (Operator::connect(&config).await.unwrap(), Db::connect(&config).await.unwrap());
    create(&operator, &own, "initech").await.unwrap();
    let usage = format!("select has_schema_privilege('{}', 'tenant_initech', 'usage')::int::bigint", stage.app_name());
    assert_eq!(stage.number(&usage).await, 0);
    // Set up for that mode, it does, and is then bound to the tenant it is in.
    let by_path = stage.app(Isolation::Path, SharedTables::All).await;
    assert_eq!(stage.number(&usage).await, 1);
    let seen = by_path.tenant(&slug("initech")).query("select slug from organizations", &[]).await.unwrap();
    assert_eq!(seen.len(), 1);
    assert_eq!(app.platform().query("select slug from organizations", &[]).await.unwrap().len(), 3);
}

#[tokio::test]
async fn it_goes_without_a_trace() {
    for isolation in [Isolation::Role, Isolation::Path] {
        let stage = Stage::set().await;
        drop(stage.app(isolation, SharedTables::All).await);
        let name = stage.app_name();
        stage.sql(&format!("drop owned by {name}; drop role {name}")).await;
        assert_eq!(stage.number("select count(*) from pg_policy where polname ~ '^cgk_login_'").await, 0);
        let config = stage.config().with_isolation(isolation);
        let (operator, own) = (Operator::connect(&config).await.unwrap(), Db::connect(&config).await.unwrap());
        create(&operator, &own, "initech").await.unwrap();
    }
}

#[tokio::test]
async fn an_operator_without_superuser_can_do_all_of_it() {
    let database = TestServer::shared().database().await.unwrap();
    let raw = Raw::on(&database).await;
    let (role, config) = login_role(&database, &raw, "nosuperuser createrole").await;
    raw.run(&format!(
        "alter database {} owner to {role}; grant create, usage on schema public to {role}",
        database.name()
    ))
    .await;
    let operator = Operator::connect(&config).await.unwrap();
    setup::setup(&operator, &Migrations::bundled(), &mut Silent).await.unwrap();
    let owner = Db::connect(&config).await.unwrap();
    create(&operator, &owner, "acme").await.unwrap();
    let mut options = LoginOptions::default();
    options.shared_tables = Some(SharedTables::All);
    let made = login::admit(&operator, &app_name(&database), &options).await.unwrap();
    assert_eq!(made.tenants, 1);
    let app: Db = Db::connect(&as_login(database.config(), &made)).await.unwrap();
    create(&operator, &app, "globex").await.unwrap();
    for tenant in ["acme", "globex"] {
        app.tenant(&slug(tenant)).execute("insert into customers (email) values ('a@x')", &[]).await.unwrap();
        let foreign = if tenant == "acme" { "globex" } else { "acme" };
        let sql = format!("table tenant_{foreign}.customers");
        let error = app.tenant(&slug(tenant)).query_typed(&sql, &[]).await.unwrap_err();
        assert_eq!(error.sqlstate().unwrap().code(), "42501");
    }
    assert_eq!(app.platform().query("select slug from organizations", &[]).await.unwrap().len(), 2);

    // From 16 on only who made a role, or was given it so, may hand it on; before, whoever may create roles.
    let (second, config) = login_role(&database, &raw, "nosuperuser createrole").await;
    let taken = format!("revoke {} from {} granted by {role}", tenant_role(&database, "acme"), made.name);
    let sees = format!(
        "grant select on organizations, schema_migrations, tenant_acme.schema_migrations, cgk_references, cgk_rehearsals to {second};
         grant usage on schema tenant_acme to {second};
         create policy readers on organizations to {second} using (true)"
    );
    raw.run(&format!("{taken}; {sees}")).await;
    let other = Operator::connect(&config).await.unwrap();
    if operator.facts().major() >= 16 {
        let outcome = create(&other, &app, "acme").await;
        let Err(Error::Setup(SetupError::Privilege { grant, .. })) = outcome else { panic!("{outcome:?}") };
        assert!(grant.ends_with("with admin option"), "{grant}");
    }
    // Who may do what the first operator may can do this as well.
    raw.run(&format!("grant {role} to {second}")).await;
    assert_eq!(create(&other, &app, "acme").await.unwrap().creation, lifecycle::Creation::Finished);
    let whole = login::admit(&other, &made.name, &LoginOptions::default()).await.unwrap();
    assert_eq!((whole.failure.is_none(), whole.tenants), (true, 2));

    // From 16 on, the same for a login that another role made.
    let theirs = format!("app_theirs_{}", DatabaseTag::of(database.name()).as_str());
    raw.run(&format!("create role {theirs} login noinherit")).await;
    let name: LoginName = theirs.parse().unwrap();
    if operator.facts().major() >= 16 {
        let outcome = login::admit(&operator, &name, &LoginOptions::default()).await;
        let Err(Error::Setup(SetupError::Privilege { grant, .. })) = outcome else { panic!("{outcome:?}") };
        assert!(grant.contains(&theirs) && grant.ends_with("with admin option"), "{grant}");
        raw.run(&grant).await;
    }
    assert_eq!(login::admit(&operator, &name, &LoginOptions::default()).await.unwrap().tenants, 2);
}

fn tenant_role(database: &TestDatabase, tenant: &str) -> String {
    cgk::ident::RoleName::of_tenant(&slug(tenant), &DatabaseTag::of(database.name())).as_str().to_owned()
}

/// From 16 on a member of a role may still not act as it.
#[tokio::test]
async fn a_membership_that_does_not_let_it_act_is_named() {
    let stage = Stage::set().await;
    let app = stage.app(Isolation::Role, SharedTables::Registry).await;
    if stage.database.operator().await.unwrap().facts().major() < 16 {
        return;
    }
    let (role, name) = (stage.role("acme"), stage.app_name());
    stage.sql(&format!("grant {role} to {name} with set false")).await;
    let error = app.tenant(&slug("acme")).query("select 1", &[]).await.unwrap_err();
    let Error::Setup(SetupError::Privilege { grant, .. }) = &error else { panic!("{error:?}") };
    stage.sql(grant).await;
    app.tenant(&slug("acme")).query("table marks", &[]).await.unwrap();
}

#[tokio::test]
async fn roles_that_may_do_more_are_refused_and_what_mends_them_is_said() {
    let stage = Stage::set().await;
    let operator = Operator::connect(&stage.config()).await.unwrap();
    let name = stage.app_name();
    let mighty = format!("app_b_{}", DatabaseTag::of(stage.database.name()).as_str());
    stage.sql(&format!("create role {name} login noinherit; create role {mighty} bypassrls")).await;
    let mut reasons = Vec::new();
    for (spoil, reason) in [
        (format!("alter role {name} superuser"), "is a superuser"),
        (format!("alter role {name} bypassrls"), "bypasses row level security"),
        (format!("alter role {name} createrole"), "may create roles"),
        (format!("alter role {name} createdb"), "may create databases"),
        (format!("alter role {name} replication"), "may read the write-ahead log"),
        (format!("alter role {name} nologin"), "cannot log in"),
        (format!("alter role {name} inherit"), "inherits"),
        (format!("grant {mighty} to {name}"), "sees past row level security"),
        (format!("grant pg_read_all_data to {name}"), "sees past row level security"),
    ] {
        stage.sql(&spoil).await;
        let error = admit(&stage, &operator).await.unwrap_err();
        let Error::Setup(SetupError::LoginUnfit { why, fix, .. }) = &error else { panic!("{spoil}: {error:?}") };
        assert!(why.contains(reason), "{spoil}: {why}");
        assert_eq!(stage.number("select count(*) from pg_policy where polname ~ '^cgk_login_'").await, 0);
        reasons.push(why.clone());
        stage.sql(fix).await;
    }
    // Its own role is no service's.
    let own: LoginName = match operator.facts().role.parse() {
        Ok(name) => name,
        Err(_) => return,
    };
    let error = login::admit(&operator, &own, &LoginOptions::default()).await.unwrap_err();
    assert_eq!((error.code(), error.kind()), ("CGK0303", ErrorKind::Conflict));
    // Mended, it is taken, and its password is its owner's business.
    let taken = admit(&stage, &operator).await.unwrap();
    assert!(!taken.created && taken.password.is_none());
    assert_eq!(taken.tenants, 2);
}

#[tokio::test]
async fn rights_on_the_shared_tables_come_and_go_as_asked() {
    let stage = Stage::set().await;
    let db = stage.app(Isolation::Role, SharedTables::Registry).await;
    let users = "select id from users";
    let state = |error: Error| error.sqlstate().unwrap().code().to_owned();
    let write = "insert into users (organization_id, email) select id, 'a@x' from organizations where slug = 'acme'";
    assert_eq!(state(db.platform().execute(write, &[]).await.unwrap_err()), "42501");
    let all = stage.app(Isolation::Role, SharedTables::All).await;
    assert_eq!(all.platform().execute(write, &[]).await.unwrap(), 1);
    assert_eq!(all.platform().query(users, &[]).await.unwrap().len(), 1);
    // A table that comes later is its own as well, and nothing of the ledger.
    let operator = Operator::connect(&stage.config()).await.unwrap();
    stage.sql("create table public.later (id int generated always as identity, organization_id uuid)").await;
    all.platform().execute("insert into later default values", &[]).await.unwrap();
    assert_eq!(state(all.platform().query("table schema_migrations", &[]).await.unwrap_err()), "42501");
    // Not asked for, it stays.
    assert_eq!(admit(&stage, &operator).await.unwrap().shared_tables, SharedTables::All);
    let none = stage.app(Isolation::Role, SharedTables::Registry).await;
    assert!(none.platform().query(users, &[]).await.unwrap().is_empty());
    assert_eq!(state(none.platform().query("table later", &[]).await.unwrap_err()), "42501");
    none.tenant(&slug("acme")).query("table marks", &[]).await.unwrap();
}

#[tokio::test]
async fn the_command_shows_the_url_once() {
    let database = TestServer::shared().database().await.unwrap();
    let name = app_name(&database);
    let shell = Shell::on(&database);
    let first = shell.run(&["setup:database", "--app-role", name.as_str()]);
    assert_eq!(first.code, 0, "{}", first.stderr);
    let url = first.stdout.lines().find_map(|line| line.strip_prefix("DATABASE_URL=")).unwrap();
    assert!(url.starts_with(&format!("postgresql://{name}:")), "{url}");
    assert!(!first.stderr.contains(url));
    assert_eq!(shell.run(&["tenant:create", "acme"]).code, 0);
    let app: Db = Db::connect(&cgk::Config::from_url(url).unwrap()).await.unwrap();
    app.tenant(&slug("acme")).query("table orders", &[]).await.unwrap();

    let again = shell.run(&["setup:database", "--app-role", name.as_str()]);
    assert_eq!(again.code, 0);
    assert!(!again.stdout.contains("DATABASE_URL=") && again.stdout.contains("--new-password"), "{}", again.stdout);
    let json = shell.run(&[
        "setup:database",
        "--json",
        "-q",
        "--app-role",
        name.as_str(),
        "--new-password",
        "--app-tables",
        "all",
    ]);
    let summary: serde_json::Value = serde_json::from_str(json.stdout.lines().last().unwrap()).unwrap();
    assert_eq!(summary["app_role"]["tables"], "all");
    assert_eq!((&summary["app_role"]["created"], &summary["app_role"]["tenants"]), (&false.into(), &1.into()));
    assert!(summary["app_role"]["url"].as_str().unwrap().starts_with("postgresql://"));
    let json = shell.run(&["setup:database", "--json", "-q", "--app-role", name.as_str()]);
    let summary: serde_json::Value = serde_json::from_str(json.stdout.lines().last().unwrap()).unwrap();
    assert!(summary["app_role"]["url"].is_null());

    for wrong in [&["--app-role", "pg_app"][..], &["--app-role", "App"], &["--new-password"]] {
        let words: Vec<&str> = ["setup:database"].iter().chain(wrong).copied().collect();
        assert_eq!(shell.run(&words).code, 2, "{wrong:?}");
    }
}
