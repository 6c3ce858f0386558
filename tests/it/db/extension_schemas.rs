//! Extensions in a schema of their own, as on Supabase: found by tenants, the platform and migrations alike.

use crate::{
    sandbox::{Files, Raw, migrate_all, tenants},
    stage::slug,
};
use cgk::{
    Config, Db, Error, ErrorKind, Operator, SetupError,
    config::{Isolation, Pooling},
    drift,
    ident::{DatabaseTag, Ident},
    migrate::{Outcome, Scope},
    testing::{TestDatabase, TestServer},
};

/// True where the types and operators of the extensions are found. Each of them runs without an error wherever the type of
/// the column alone is found, so a missing schema makes some of them silently false.
const PREDICATES: [&str; 14] = [
    "email = 'a@X.ORG'",
    "not email <> 'a@x.org'",
    "email in ('a@x.org', 'b')",
    "email = any (array['a@x.ORG']::citext[])",
    "email like 'a@%'",
    "email not like 'A@X.com'",
    "email ~ '^a@x'",
    "email !~ '^b'",
    "email >= 'a@x.org' and email <= 'A@X.ORG'",
    "strpos(email, 'X.o') = 3",
    "replace(email, 'X', 'y') = 'A@y.org'",
    "split_part(email, 'X', 2) = '.org'",
    "title % 'helo'",
    "attrs ? 'a' and attrs -> 'a' = '1' and attrs @> 'a=>1'",
];

const DOCS: &str = "create table docs (id int, email citext unique, title text, attrs hstore);
    create index docs_title on docs using gin (title gin_trgm_ops);
    insert into docs values (1, 'A@x.org', 'hello', 'a=>1')";

const VIEW: &str = "create view shouting as select email from docs where email = 'a@X.ORG' and title % 'helo'";

async fn database(search_path: &str) -> TestDatabase {
    let database = TestServer::shared().set_up_database().await.unwrap();
    let raw = Raw::on(&database).await;
    raw.run(
        "create schema extensions; grant usage on schema extensions to public;
         create extension citext schema extensions; create extension pg_trgm schema extensions;
         create extension hstore schema extensions",
    )
    .await;
    if !search_path.is_empty() {
        raw.run(&format!("alter database {} set search_path = {search_path}", database.name())).await;
    }
    database
}

/// The predicates that are not true in a tenant, because they are false or fail.
async fn wrong(db: &Db) -> Vec<&'static str> {
    let mut wrong = Vec::new();
    for predicate in PREDICATES {
        let rows = db.tenant(&slug("acme")).query(&format!("select ({predicate}) is true from docs"), &[]).await;
        if !rows.is_ok_and(|rows| rows[0].get(0)) {
            wrong.push(predicate);
        }
    }
    wrong
}

fn named(schemas: &[&str]) -> Vec<Ident> {
    schemas.iter().map(|name| Ident::new(*name).unwrap()).collect()
}

#[tokio::test]
async fn what_the_database_says_is_in_every_search_path() {
    let database = database("\"$user\", public, extensions, missing").await;
    let files = Files::of_tenants(&[("001_docs.sql", DOCS)]);
    let operator = tenants(&database, &files.load(), &["acme"]).await;
    files.tenant("002_view.sql", VIEW);
    let report = migrate_all(&operator, &files.load()).await.unwrap();
    assert!(report.tenants.iter().all(|tenant| matches!(tenant.result, Outcome::Migrated { .. })), "{report:?}");
    let drifted = drift::verify(&operator, &files.load(), &Scope::Everything).await.unwrap();
    assert!(!drifted.has_drift() && !drifted.has_busy(), "{drifted:?}");
    let by_path = database.config().clone().with_isolation(Isolation::Path);
    cgk::setup::change_isolation(&by_path, cgk::setup::IsolationChange::Start).await.unwrap();
    for isolation in [Isolation::Role, Isolation::Path] {
        let db = Db::connect(&database.config().clone().with_isolation(isolation)).await.unwrap();
        assert_eq!(wrong(&db).await, [""; 0], "{isolation:?}");
        let row = db
            .tenant(&slug("acme"))
            .query_one("select current_setting('search_path'), (select count(*) from shouting)", &[])
            .await
            .unwrap();
        assert_eq!(row.get::<_, &str>(0), "tenant_acme, public, \"extensions\", pg_temp");
        assert_eq!(row.get::<_, i64>(1), 1);
        let platform = "select 'A'::citext = 'a'::citext, current_setting('search_path')";
        let row = db.platform().query_one(platform, &[]).await.unwrap();
        assert!(row.get::<_, bool>(0));
        assert_eq!(row.get::<_, &str>(1), "public, \"extensions\", pg_temp");
    }
    // The control: without that schema some are silently false.
    let without = database.config().clone().with_search_path([]);
    let wrong = wrong(&Db::connect(&without).await.unwrap()).await;
    assert!(wrong.len() > 3, "without the schema only these are wrong: {wrong:?}");
}

#[tokio::test]
async fn the_setting_counts_before_the_database() {
    let database = database("").await;
    let files = Files::of_tenants(&[("001_docs.sql", DOCS)]);
    let config = database.config().clone().with_search_path(named(&["extensions"]));
    // Neither says anything of the schema: the migration does not find the types.
    let (operator, db) = (database.operator().await.unwrap(), database.db().await.unwrap());
    let options = cgk::lifecycle::CreateOptions::default();
    let error = cgk::lifecycle::create(&operator, &db, &files.load(), &slug("acme"), &options).await.unwrap_err();
    assert_eq!(error.sqlstate().unwrap().code(), "42704", "{error:?}");
    let (operator, db) = (Operator::connect(&config).await.unwrap(), Db::connect(&config).await.unwrap());
    cgk::lifecycle::create(&operator, &db, &files.load(), &slug("acme"), &options).await.unwrap();
    assert_eq!(wrong(&db).await, [""; 0]);
    let drifted = drift::verify(&operator, &files.load(), &Scope::Everything).await.unwrap();
    assert!(!drifted.has_drift() && !drifted.has_busy(), "{drifted:?}");
}

/// What every session has another schema for, or what no session may have, is not taken from the database; named by the
/// configuration, it is refused.
#[tokio::test]
async fn reserved_names_that_the_database_says_are_passed_over() {
    let all = "pg_catalog, tenant_acme, information_schema, \"$user\", public, pg_temp, '', extensions, extensions";
    let database = database(all).await;
    let files = Files::of_tenants(&[("001_docs.sql", DOCS)]);
    let (operator, db) = (database.operator().await.unwrap(), database.db().await.unwrap());
    let options = cgk::lifecycle::CreateOptions::default();
    cgk::lifecycle::create(&operator, &db, &files.load(), &slug("acme"), &options).await.unwrap();
    assert_eq!(wrong(&db).await, [""; 0]);
    let path = db.tenant(&slug("acme")).query_one("select current_setting('search_path')", &[]).await.unwrap();
    assert_eq!(path.get::<_, String>(0).matches("extensions").count(), 1);
    for name in ["pg_catalog", "tenant_acme", "information_schema"] {
        let (why, _) = refusal(&database.config().clone().with_search_path(named(&[name]))).await;
        assert!(why.contains("a tenant's or the server's"), "{name}: {why}");
    }
}

async fn refusal(config: &Config) -> (String, String) {
    let errors =
        [Db::connect(config).await.map(drop), Operator::connect(config).await.map(drop)].map(Result::unwrap_err);
    let [
        Error::Setup(SetupError::SearchPathUnfit { schema, why, fix }),
        Error::Setup(SetupError::SearchPathUnfit { .. }),
    ] = &errors
    else {
        panic!("{errors:?}")
    };
    assert_eq!((errors[0].kind(), errors[0].code()), (ErrorKind::Conflict, "CGK0304"));
    assert!(!schema.is_empty());
    (why.clone(), fix.clone())
}

#[tokio::test]
async fn a_schema_in_which_a_tenant_can_create_is_refused_by_name() {
    let database = database("public, extensions").await;
    database.with_tenants(&["acme"]).await.unwrap();
    let raw = Raw::on(&database).await;
    let config = database.config();
    assert!(Db::connect(config).await.is_ok());
    let role = cgk::ident::RoleName::of_tenant(&slug("acme"), &DatabaseTag::of(database.name()));
    let group = format!("cgk_t_group_{}", DatabaseTag::of(database.name()).as_str());
    raw.run(&format!("create role {group}; grant {group} to {}", role.quoted())).await;
    for (grant, writer) in [
        ("grant create on schema extensions to public".to_owned(), "PUBLIC"),
        (format!("grant create on schema extensions to {}", role.quoted()), role.as_str()),
        (format!("grant create on schema extensions to {group}"), group.as_str()),
        ("revoke usage on schema extensions from public".to_owned(), "not everybody"),
    ] {
        raw.run(&grant).await;
        let (why, fix) = refusal(config).await;
        assert!(why.contains(writer), "{grant}: {why}");
        // What is suggested is enough.
        raw.run(&fix).await;
        assert!(Db::connect(config).await.is_ok(), "{grant}");
    }
    raw.run(&format!("alter schema extensions owner to {}", role.quoted())).await;
    assert!(refusal(config).await.0.contains(role.as_str()));
    raw.run(&format!("alter schema extensions owner to current_user; drop owned by {group}; drop role {group}")).await;
    for (schemas, reason) in
        [(["nowhere"], "no such schema"), (["tenant_acme"], "a tenant's"), (["pg_catalog"], "server's")]
    {
        let (why, _) = refusal(&config.clone().with_search_path(named(&schemas))).await;
        assert!(why.contains(reason), "{schemas:?}: {why}");
    }
    // A right that is given later, on a schema whose name needs quotes.
    raw.run("create schema \"Ext\"; grant usage on schema \"Ext\" to public").await;
    let odd = config.clone().with_search_path(named(&["Ext"]));
    let (operator, db) = (Operator::connect(&odd).await.unwrap(), Db::connect(&odd).await.unwrap());
    raw.run("grant create on schema \"Ext\" to public").await;
    let (bundled, options) = (cgk::migrate::Migrations::bundled(), cgk::lifecycle::CreateOptions::default());
    let create = async || cgk::lifecycle::create(&operator, &db, &bundled, &slug("globex"), &options).await;
    let Err(Error::Setup(SetupError::SearchPathUnfit { fix, .. })) = create().await else { panic!("it is created") };
    raw.run(&fix).await;
    create().await.unwrap();
}

/// A right that is given while services are connected: the next entry is refused, with the text that prepared statements send, behind
/// a pooler, and by the function for other languages. Whoever does not have the schema in its search path is let in.
#[tokio::test]
async fn a_right_that_is_given_later_is_noticed_at_the_next_entry() {
    let database = database("public, extensions").await;
    database.with_tenants(&["acme", "globex"]).await.unwrap();
    let raw = Raw::on(&database).await;
    let by_path = database.config().clone().with_isolation(Isolation::Path);
    cgk::setup::change_isolation(&by_path, cgk::setup::IsolationChange::Start).await.unwrap();
    let role = cgk::ident::RoleName::of_tenant(&slug("acme"), &DatabaseTag::of(database.name())).quoted();
    let login = crate::access::service_login::app_name(&database);
    let mut services = Vec::new();
    for isolation in [Isolation::Path, Isolation::Role] {
        let operator = Operator::connect(&database.config().clone().with_isolation(isolation)).await.unwrap();
        let mut options = cgk::login::LoginOptions::default();
        options.password = cgk::login::PasswordChange::New;
        let admission = cgk::login::admit(&operator, &login, &options).await.unwrap();
        services = vec![crate::stage::as_login(database.config(), &admission)];
    }
    let service = services.remove(0).with_pool_size_max(1);
    let entered = |db: Db| async move { db.tenant(&slug("acme")).query_one("select 1", &[]).await.map(drop) };
    for (isolation, pooling, grantee) in [
        (Isolation::Role, Pooling::Direct, "public"),
        (Isolation::Role, Pooling::Direct, role.as_str()),
        (Isolation::Role, Pooling::Direct, login.as_str()),
        (Isolation::Role, Pooling::Transaction, role.as_str()),
        (Isolation::Path, Pooling::Direct, "public"),
        (Isolation::Path, Pooling::Direct, login.as_str()),
        (Isolation::Path, Pooling::Transaction, login.as_str()),
    ] {
        let config = service.clone().with_isolation(isolation).with_pooling(pooling);
        let (db, without) =
            (Db::connect(&config).await.unwrap(), Db::connect(&config.clone().with_search_path([])).await.unwrap());
        let context = format!("{isolation:?}, {pooling:?}, {grantee}");
        entered(db.clone()).await.unwrap_or_else(|error| panic!("{context}: {error:?}"));
        raw.run(&format!("grant create on schema extensions to {grantee}")).await;
        let refused = [entered(db.clone()).await, db.with_tenant(&slug("acme"), async |_| Ok(())).await];
        for outcome in refused {
            let Err(Error::Setup(SetupError::SearchPathUnfit { schema, why, .. })) = &outcome else {
                panic!("{context}: {outcome:?}")
            };
            assert_eq!(schema, "extensions", "{context}");
            assert!(why.to_lowercase().contains(&grantee.replace('"', "")), "{context}: {why}");
        }
        let platform = db.platform().query_one("select 1", &[]).await;
        assert_eq!(platform.is_err(), grantee != role, "{context}: {platform:?}");
        // The other tenant has no right, and neither has whoever does not look there.
        let other = db.tenant(&slug("globex")).query_one("select 1", &[]).await;
        assert_eq!(other.is_err(), grantee != role, "{context}: {other:?}");
        entered(without).await.unwrap_or_else(|error| panic!("{context}, without the schema: {error:?}"));
        for (schemas, wanted) in [("extensions", "TN409"), ("", "")] {
            let name = database.name();
            raw.run(&format!("alter database \"{name}\" set cgk.extension_schemas = '{schemas}'")).await;
            let session = Raw::on(&database).await;
            session.run(&format!("set session authorization {}", login.as_str())).await;
            session.run(&format!("begin; set local cgk.isolation = '{}'", isolation.as_str())).await;
            let state = session.try_run("select public.cgk_enter('acme')").await.err();
            let state = state.map_or(String::new(), |error| error.code().unwrap().code().to_owned());
            assert_eq!(state, wanted, "{context}, cgk_enter, {schemas:?}");
        }
        raw.run(&format!("revoke create on schema extensions from {grantee}")).await;
        entered(db).await.unwrap_or_else(|error| panic!("{context}, after: {error:?}"));
    }
    // Without the schema the server passes over it, and so does the check.
    let db = Db::connect(&service.with_isolation(Isolation::Role)).await.unwrap();
    raw.run("drop schema extensions cascade").await;
    entered(db).await.unwrap();
}

/// The connection that looked at the database serves on, unless its statements know nothing of further schemas.
#[tokio::test]
async fn the_first_connection_is_kept_where_there_are_no_further_schemas() {
    for (search_path, kept) in [("public", 1), ("public, extensions", 0)] {
        let database = database(search_path).await;
        let db: Db = Db::connect(database.config()).await.unwrap();
        assert_eq!(db.pool_status().size, kept, "{search_path}");
    }
}
