//! A schema `public` in which a tenant can create: it is in every search path, so others would find what is made there.

use crate::{
    sandbox::{Files, migrate_all, tenants},
    stage::{Stage, connect, run, slug},
};
use cgk::{
    Config, Db, Error, Operator, SetupError, config::Isolation, lifecycle, login::SharedTables, testing::TestServer,
};

/// Rights with what the refusal says of them; the role of acme stands for `{acme}`. Each is a tenant's or everybody's.
const RIGHTS: [(&str, &str); 5] = [
    ("grant create on schema public to public", "PUBLIC may create"),
    ("grant create on schema public to {acme}", "{acme} may create"),
    ("grant {group} to {acme}; grant create on schema public to {group}", "{group} may create"),
    ("alter schema public owner to {acme}", "{acme} may create"),
    (
        "alter schema public owner to pg_database_owner; alter database {database} owner to {acme}",
        "pg_database_owner may create",
    ),
];

fn filled(stage: &Stage, sql: &str) -> String {
    sql.replace("{acme}", &stage.role("acme"))
        .replace("{group}", &group(stage))
        .replace("{database}", stage.database.name())
}

fn group(stage: &Stage) -> String {
    format!("group_{}", stage.app_name().as_str())
}

fn app(stage: &Stage) -> String {
    stage.app_name().as_str().to_owned()
}

/// How a service connects whose login may enter tenants in both modes.
async fn service(stage: &Stage) -> Config {
    stage.app(Isolation::Path, SharedTables::All).await;
    stage.app(Isolation::Role, SharedTables::All).await.config().clone()
}

/// The refusal, which names `public` and who may create there; its fix is carried out.
fn named<T: std::fmt::Debug>(stage: &Stage, outcome: Result<T, Error>, who: &str) -> String {
    let error = outcome.unwrap_err();
    assert_eq!(error.code(), "CGK0304", "{error:?}");
    let Error::Setup(SetupError::SearchPathUnfit { schema, why, fix }) = error else { panic!("{error:?}") };
    assert_eq!(schema, "public");
    assert!(why.starts_with(&filled(stage, who)), "{why}");
    fix
}

#[tokio::test]
async fn whoever_connects_is_told_who_may_create_and_the_fix_takes_it_away() {
    let stage = Stage::set().await;
    stage.sql(&format!("create role {}", group(&stage))).await;
    for (right, who) in RIGHTS {
        for isolation in [Isolation::Role, Isolation::Path] {
            let config = stage.config().with_isolation(isolation);
            Db::connect(&config).await.expect("before the right is given");
            stage.sql(&filled(&stage, right)).await;
            let fix = named(&stage, Db::connect(&config).await, who);
            stage.sql(&fix).await;
            Db::connect(&config).await.unwrap_or_else(|error| panic!("{right}, after {fix}: {error:?}"));
        }
    }
    let owner = stage.watch.query_one("select current_user::text", &[]).await.unwrap();
    stage.sql(&format!("alter database {} owner to \"{}\"", stage.database.name(), owner.get::<_, &str>(0))).await;
    stage.sql(&format!("drop role {}", group(&stage))).await;
}

/// What a service's login may create is reached by every tenant in path mode, and in role mode by whoever goes to the login and
/// back in one statement. The operator's own login is let in: nothing on `public` can be kept from it.
#[tokio::test]
async fn a_service_whose_own_login_may_create_is_refused_in_both_modes() {
    let stage = Stage::set().await;
    let (app, group, database) = (app(&stage), group(&stage), stage.database.name());
    let service = service(&stage).await;
    stage.sql(&format!("create role {group}")).await;
    let owner: String = stage.watch.query_one("select quote_ident(current_user)", &[]).await.unwrap().get(0);
    let rights = [
        (format!("grant create on schema public to {app}"), app.clone(), String::new()),
        // Not inherited, so SET ROLE is what it takes: that is looked at when the service connects.
        (
            format!("grant {group} to {app}; grant create on schema public to {group}"),
            group.clone(),
            format!("revoke {group} from {app}"),
        ),
        (format!("alter schema public owner to {app}"), app.clone(), String::new()),
        (
            format!("alter schema public owner to pg_database_owner; alter database {database} owner to {app}"),
            "pg_database_owner".to_owned(),
            format!("alter database {database} owner to {owner}"),
        ),
    ];
    for (right, who, after) in rights {
        for isolation in [Isolation::Role, Isolation::Path] {
            let config = service.clone().with_isolation(isolation);
            Db::connect(&config).await.expect("before the right is given");
            stage.sql(&right).await;
            let fix = named(&stage, Db::connect(&config).await, &who);
            // Whoever sets up and migrates is somebody else.
            Operator::connect(&stage.config()).await.expect("the operator");
            stage.sql(&fix).await;
            Db::connect(&config).await.unwrap_or_else(|error| panic!("{right}, after {fix}: {error:?}"));
            stage.sql(&after).await;
        }
    }
    // The same right, with those of the registry's owner: the operator's own login.
    stage.sql(&format!("grant create on schema public to {app}")).await;
    // From PostgreSQL 16 on the membership inherits if the role does at the time of the grant.
    stage.sql(&format!("alter role {app} inherit; grant {owner} to {app}")).await;
    for isolation in [Isolation::Role, Isolation::Path] {
        let db = Db::connect(&service.clone().with_isolation(isolation)).await.expect("the operator's own");
        db.tenant(&slug("acme")).query_one("select 1", &[]).await.expect("the operator's own");
        db.platform().query_one("select 1", &[]).await.expect("the operator's own");
    }
    stage.sql(&format!("revoke {owner} from {app}; alter role {app} noinherit")).await;
    stage.sql(&format!("revoke create on schema public from {app}; drop role {group}")).await;
}

/// The attack: what one tenant's text makes with the login's right, the statement of another finds. With the right it is
/// refused at the next entry of connections that are open already.
#[tokio::test]
async fn a_right_of_the_login_that_is_given_later_is_noticed_at_the_next_entry() {
    let stage = Stage::set().await;
    let (app, service) = (app(&stage), service(&stage).await);
    let (acme, globex) = (slug("acme"), slug("globex"));
    for isolation in [Isolation::Path, Isolation::Role] {
        let db: Db = Db::connect(&service.clone().with_isolation(isolation)).await.unwrap();
        db.tenant(&acme).query_one("select 1", &[]).await.expect("before");
        stage.sql(&format!("grant create on schema public to {app}")).await;
        // The control: the right is all that it takes.
        let client = connect(stage.database.name()).await;
        run(&client, &format!("set session authorization {app}")).await.unwrap();
        run(&client, "create function public.lower(varchar) returns text language sql as $$select 'planted'::text$$")
            .await
            .unwrap();
        stage.sql("set search_path = tenant_globex, public").await;
        let found = stage.watch.query_one("select lower('A'::varchar)", &[]).await.unwrap();
        assert_eq!(found.get::<_, &str>(0), "planted");
        stage.sql("reset search_path").await;
        run(&client, "drop function public.lower(varchar)").await.unwrap();

        named(&stage, db.tenant(&acme).query_one("select 1", &[]).await, &app);
        named(&stage, db.with_tenant(&globex, async |_| Ok(())).await, &app);
        named(&stage, db.platform().query_one("select 1", &[]).await, &app);
        run(&client, &format!("begin; set local cgk.isolation = '{}'", isolation.as_str())).await.unwrap();
        let refused = run(&client, "select public.cgk_enter('acme')").await.unwrap_err();
        assert_eq!(refused.code().unwrap().code(), "TN409", "{refused:?}");
        stage.sql(&format!("revoke create on schema public from {app}")).await;
        db.tenant(&acme).query_one("select 1", &[]).await.expect("after");
        db.platform().query_one("select 1", &[]).await.expect("after");
    }
}

/// Connections that are open already, and their next ones: the right is looked at with every entry.
#[tokio::test]
async fn a_right_that_is_given_later_keeps_everybody_out_until_it_is_gone() {
    let stage = Stage::set().await;
    let path = Db::connect(&stage.config().with_isolation(Isolation::Path)).await.unwrap();
    let (acme, globex) = (slug("acme"), slug("globex"));
    for db in [&stage.db, &path] {
        db.tenant(&acme).query_one("select 1", &[]).await.expect("before");
        stage.sql("grant create on schema public to public").await;
        named(&stage, db.tenant(&acme).query_one("select 1", &[]).await, "PUBLIC");
        named(&stage, db.with_tenant(&globex, async |_| Ok(())).await, "PUBLIC");
        named(&stage, db.platform().query_one("select 1", &[]).await, "PUBLIC");
        stage.sql("revoke create on schema public from public").await;
        db.tenant(&acme).query_one("select 1", &[]).await.expect("after");
        db.platform().query_one("select 1", &[]).await.expect("after");
    }
    // A right of one tenant's: that one can make nothing, so the others have nothing to find.
    let acmes = stage.role("acme");
    stage.sql(&format!("grant create on schema public to {acmes}")).await;
    let plant = "create function public.lower(varchar) returns text language sql as 'select 1::text'";
    named(&stage, stage.db.tenant(&acme).execute_typed(plant, &[]).await, &acmes);
    stage.db.tenant(&globex).query_one("select 1", &[]).await.expect("the other one has no right");
    stage.sql(&format!("revoke create on schema public from {acmes}")).await;
    stage.db.tenant(&acme).query_one("select 1", &[]).await.expect("after");
}

/// The same for the functions of services in other languages, with a code of their own.
#[tokio::test]
async fn the_functions_refuse_it_too() {
    let stage = Stage::set().await;
    let client = connect(stage.database.name()).await;
    let acmes = stage.role("acme");
    for (isolation, who) in [("role", "public"), ("role", acmes.as_str()), ("path", "public")] {
        for (change, code) in
            [("grant create on schema public to", "TN409"), ("revoke create on schema public from", "")]
        {
            stage.sql(&format!("{change} {who}")).await;
            run(&client, &format!("begin; set local cgk.isolation = '{isolation}'")).await.unwrap();
            let entered = run(&client, "select public.cgk_enter('acme')").await;
            run(&client, "rollback").await.unwrap();
            let found = entered.err().map_or(String::new(), |error| error.code().unwrap().code().to_owned());
            assert_eq!(found, code, "{isolation}, {change} {who}");
        }
    }
}

/// Migrations run with `public` in the search path and the operator's rights: they would find it first of all.
#[tokio::test]
async fn no_tenant_is_made_or_migrated_and_setup_takes_the_right_away() {
    let database = TestServer::shared().set_up_database().await.unwrap();
    let files = Files::of_tenants(&[("001_a.sql", "create table a ()")]);
    let operator = tenants(&database, &files.load(), &["acme"]).await;
    let db = database.db().await.unwrap();
    let raw = connect(database.name()).await;
    run(&raw, "grant create on schema public to public").await.unwrap();
    files.tenant("002_b.sql", "create table b ()");
    let migrations = files.load();
    let refused = migrate_all(&operator, &migrations).await;
    assert!(
        matches!(&refused, Err(Error::Setup(SetupError::SearchPathUnfit { schema, .. })) if schema == "public"),
        "{refused:?}"
    );
    let options = lifecycle::CreateOptions::default();
    let refused = lifecycle::create(&operator, &db, &migrations, &slug("globex"), &options).await;
    assert!(
        matches!(&refused, Err(Error::Setup(SetupError::SearchPathUnfit { schema, .. })) if schema == "public"),
        "{refused:?}"
    );
    let made = "select exists (select from pg_class where relname = 'b') or exists (select from pg_namespace where nspname = 'tenant_globex')";
    assert!(!raw.query_one(made, &[]).await.unwrap().get::<_, bool>(0));
    let operator = Operator::connect(database.config()).await.expect("who looks or sets up is not refused");
    cgk::setup::setup(&operator, &migrations, &mut cgk::migrate::Silent).await.unwrap();
    migrate_all(&operator, &migrations).await.unwrap();
    lifecycle::create(&operator, &db, &migrations, &slug("globex"), &options).await.unwrap();
    assert!(raw.query_one(made, &[]).await.unwrap().get::<_, bool>(0));
}
