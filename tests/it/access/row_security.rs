//! Row level security of the shared tables, met by logins that are no superusers: as a tenant's role, in path mode, outside
//! of tenants and as a stranger; and what leaks where it is off.

use crate::{
    sandbox::{Files, Raw, login_role},
    stage::{Stage, slug},
};
use cgk::{
    Config, Db, Error, ErrorKind, Operator, SetupError, TenantTx, TransactionError,
    config::Isolation,
    lifecycle::{self, CreateOptions},
    login::SharedTables,
    migrate::{Migrations, Set, Silent},
    setup,
    testing::TestServer,
};
use futures_util::StreamExt as _;
use uuid::Uuid;

/// Both tenants with a user, a session, a key and a bill each, and a link that belongs to nobody.
async fn populated() -> Stage {
    let stage = Stage::set().await;
    stage
        .sql(
            "insert into users (organization_id, email) select id, slug || '@x' from organizations;
             insert into sessions (organization_id, user_id, token_hash, expires_at, user_agent)
             select organization_id, id, sha256(email::bytea), now() + interval '1 day', email from users;
             insert into api_keys (organization_id, key_hash, name) select id, sha256(slug::bytea), slug from organizations;
             insert into billing (organization_id, provider_customer_id, plan, status)
             select id, slug, 'pro', 'active' from organizations;
             insert into magic_links (email, token_hash, purpose, expires_at)
             values ('acme@x', sha256('link'), 'login', now() + interval '1 day')",
        )
        .await;
    stage
}

async fn organization(stage: &Stage, tenant: &str) -> Uuid {
    stage.watch.query_one("select id from organizations where slug = $1", &[&tenant]).await.unwrap().get(0)
}

const OWNED: [&str; 5] = ["organizations", "users", "sessions", "api_keys", "billing"];

/// The organizations whose rows a tenant's transaction sees in each shared table.
async fn seen(tx: &TenantTx<'_>) -> Result<Vec<Vec<Uuid>>, Error> {
    let mut all = Vec::new();
    for table in OWNED {
        let column = if table == "organizations" { "id" } else { "organization_id" };
        let rows = tx.query_typed(&format!("select {column} from public.{table} order by 1"), &[]).await?;
        all.push(rows.iter().map(|row| row.get(0)).collect());
    }
    Ok(all)
}

fn state(error: &Error) -> &str {
    error.sqlstate().map_or("none", |state| state.code())
}

#[tokio::test]
async fn a_tenants_role_sees_its_own_rows_whatever_the_session_says() {
    let stage = populated().await;
    let (acme, globex) = (organization(&stage, "acme").await, organization(&stage, "globex").await);
    let db = stage.app(Isolation::Role, SharedTables::All).await;
    for forged in [globex.to_string(), String::new(), "nonsense".into(), acme.to_string()] {
        let mut rows = Vec::new();
        let outcome = db
            .with_tenant(&slug("acme"), async |tx| {
                tx.query("select set_config('app.current_organization_id', $1, true)", &[&forged]).await?;
                rows = seen(tx).await?;
                Ok(())
            })
            .await;
        assert_eq!(rows, vec![vec![acme]; 5], "{forged:?}");
        // It is seen nevertheless, and commits nothing.
        let is_refused = matches!(outcome, Err(Error::Transaction(TransactionError::Tampered { .. })));
        assert_eq!(is_refused, forged != acme.to_string(), "{forged:?}: {outcome:?}");
    }
    // Back and forth on one connection, with the same prepared statement.
    for (tenant, id) in [("acme", acme), ("globex", globex), ("acme", acme)] {
        let rows = db.tenant(&slug(tenant)).query("select organization_id from users", &[]).await.unwrap();
        assert_eq!(rows.iter().map(|row| row.get(0)).collect::<Vec<Uuid>>(), [id]);
    }
    // Off means refused, not open.
    let error = db
        .with_tenant(&slug("acme"), async |tx| {
            tx.execute("set local row_security = off", &[]).await?;
            tx.query_typed("select id from users", &[]).await
        })
        .await
        .unwrap_err();
    assert_eq!(state(&error), "42501");
    // COPY is filtered as well.
    let copied = db
        .with_tenant(&slug("acme"), async |tx| {
            let mut data = std::pin::pin!(tx.copy_out("copy (select email from users) to stdout").await?);
            let mut text = Vec::new();
            while let Some(part) = data.next().await {
                text.extend_from_slice(&part?);
            }
            Ok(text)
        })
        .await
        .unwrap();
    assert_eq!(copied, b"acme@x\n");
    let error = db.tenant(&slug("acme")).query("select email from magic_links", &[]).await.unwrap_err();
    assert_eq!(state(&error), "42501");
}

/// A function that the server may call before the policy would show it every row. The control switches the policy off.
#[tokio::test]
async fn a_leaky_function_is_shown_no_row_of_another() {
    let stage = populated().await;
    let db = stage.app(Isolation::Role, SharedTables::Registry).await;
    stage.sql(&format!("grant select, insert on tenant_acme.marks to {}", stage.role("acme"))).await;
    let spy = async |db: &Db| {
        db.with_tenant(&slug("acme"), async |tx| {
            tx.execute(
                "create function pg_temp.spy(text) returns bool language plpgsql cost 0.0000001
                 as 'begin insert into tenant_acme.marks values ($1, 9); return false; end'",
                &[],
            )
            .await?;
            tx.execute("set local enable_indexscan = off", &[]).await?;
            tx.execute("set local enable_bitmapscan = off", &[]).await?;
            tx.query_typed("select id from users where pg_temp.spy(email)", &[]).await
        })
        .await
        .unwrap();
        let found = stage.watch.query("select tag from tenant_acme.marks where n = 9 order by 1", &[]).await.unwrap();
        found.iter().map(|row| row.get(0)).collect::<Vec<String>>()
    };
    assert_eq!(spy(&db).await, ["acme@x"]);
    stage.sql("delete from tenant_acme.marks where n = 9; alter table users disable row level security").await;
    assert_eq!(spy(&db).await, ["acme@x", "globex@x"]);
}

/// The controls: what the tests above would see if nothing held the rows back.
#[tokio::test]
async fn control_without_policies_everything_leaks() {
    let stage = populated().await;
    let db = stage.app(Isolation::Role, SharedTables::Registry).await;
    let emails = async |db: &Db| db.tenant(&slug("acme")).query("select email from users", &[]).await.unwrap().len();
    assert_eq!(stage.number("select count(*) from users").await, 2);
    assert_eq!(emails(&db).await, 1);
    stage.sql("create policy open on users using (true)").await;
    assert_eq!(emails(&db).await, 2);
    stage.sql("drop policy open on users").await;
    assert_eq!(emails(&db).await, 1);
    stage
        .sql(
            "create table notes (organization_id uuid, note text); grant select on notes to public;
             insert into notes select id, slug from organizations",
        )
        .await;
    let notes = async |db: &Db| db.tenant(&slug("acme")).query("select note from notes", &[]).await.unwrap().len();
    assert_eq!(notes(&db).await, 2);
    // The recipe of the guide.
    stage.sql(&recipe("notes")).await;
    assert_eq!(notes(&db).await, 1);
}

/// The recipe for a table of one's own, out of the guide.
fn recipe(table: &str) -> String {
    let guide = include_str!("../../../docs/reference.md");
    let recipe = guide.split("<!-- recipe: row level security -->\n```sql\n").nth(1).unwrap();
    recipe.split("```").next().unwrap().replace("notes", table)
}

#[tokio::test]
async fn in_path_mode_the_setting_decides_for_rows_read_and_written() {
    let stage = populated().await;
    let (acme, globex) = (organization(&stage, "acme").await, organization(&stage, "globex").await);
    let db = stage.app(Isolation::Path, SharedTables::All).await;
    let rows = db.with_tenant(&slug("acme"), async |tx| seen(tx).await).await.unwrap();
    assert_eq!(rows, vec![vec![acme]; 5]);
    let links = db.tenant(&slug("acme")).query("select email from magic_links", &[]).await.unwrap();
    assert!(links.is_empty());
    for (sql, verdict) in [
        ("insert into users (organization_id, email) values ($1, 'new@x')", Err("42501")),
        ("update users set organization_id = $1", Err("42501")),
        ("update users set role = 'owner' where organization_id = $1", Ok(0)),
        ("delete from sessions where organization_id = $1", Ok(0)),
        (
            "insert into sessions (organization_id, user_id, token_hash, expires_at)
          select $1, id, sha256('x'), now() + interval '1 day' from users",
            Err("42501"),
        ),
        ("update organizations set status = 'suspended' where id = $1", Ok(0)),
        ("update organizations set id = $1", Err("42501")),
    ] {
        let outcome = db.tenant(&slug("acme")).execute(sql, &[&globex]).await;
        assert_eq!(outcome.as_ref().map_err(state), verdict.as_ref().map_err(|state| *state), "{sql}");
    }
    let own = "update users set role = 'owner' where organization_id = $1";
    assert_eq!(db.tenant(&slug("acme")).execute(own, &[&acme]).await.unwrap(), 1);
    // Outside of tenants the same login is the platform's.
    assert_eq!(db.platform().query("select id from users", &[]).await.unwrap().len(), 2);
    // The control, and what path mode does not promise: the setting is the closure's to change. It commits nothing with it.
    let mut rows = Vec::new();
    let outcome = db
        .with_tenant(&slug("acme"), async |tx| {
            tx.query("select set_config('app.current_organization_id', $1, true)", &[&globex.to_string()]).await?;
            rows = tx.query_typed("select organization_id from users", &[]).await?;
            Ok(())
        })
        .await;
    assert!(matches!(outcome, Err(Error::Transaction(TransactionError::Tampered { .. }))), "{outcome:?}");
    assert_eq!(rows.iter().map(|row| row.get(0)).collect::<Vec<Uuid>>(), [globex]);
}

/// The owner of the tables is subject to their policies too: everything outside of a tenant, its rows inside.
#[tokio::test]
async fn an_owner_without_superuser_is_bound_as_well() {
    let database = TestServer::shared().database().await.unwrap();
    let raw = Raw::on(&database).await;
    let (role, config) = login_role(&database, &raw, "nosuperuser createrole").await;
    raw.run(&format!(
        "alter database {} owner to {role}; grant create, usage on schema public to {role}",
        database.name()
    ))
    .await;
    for isolation in [Isolation::Role, Isolation::Path] {
        let config = config.clone().with_isolation(isolation);
        if isolation == Isolation::Path {
            setup::change_isolation(&config, setup::IsolationChange::Start).await.unwrap();
        }
        let operator = Operator::connect(&config).await.unwrap();
        setup::setup(&operator, &Migrations::bundled(), &mut Silent).await.unwrap();
        let db = Db::connect(&config).await.unwrap();
        let (one, two) = match isolation {
            Isolation::Role => ("acme", "globex"),
            Isolation::Path => ("initech", "hooli"),
        };
        for name in [one, two] {
            let options = CreateOptions::default();
            lifecycle::create(&operator, &db, &Migrations::bundled(), &slug(name), &options).await.unwrap();
            db.platform()
                .execute("insert into users (organization_id, email) select id, slug || '@x' from organizations where slug = $1", &[&name])
                .await
                .unwrap();
        }
        let emails = db.tenant(&slug(one)).query("select email from users", &[]).await.unwrap();
        assert_eq!(emails.iter().map(|row| row.get(0)).collect::<Vec<String>>(), [format!("{one}@x")]);
        assert!(db.platform().query("select email from users", &[]).await.unwrap().len() >= 2);
        // What pg_dump does for an owner who is bound, and what it does with --enable-row-security.
        let owner = Raw::connect(&crate::sandbox::url(&database, Some(&role))).await;
        let refused = owner.try_run("set row_security = off; select from users").await.unwrap_err();
        assert_eq!(refused.code().unwrap().code(), "42501");
        assert!(owner.one::<i64>("select count(*) from users").await >= 2);
    }
}

#[tokio::test]
async fn strangers_and_second_operators_see_nothing_and_are_told() {
    let stage = populated().await;
    let raw = Raw::on(&stage.database).await;
    let (stranger, config) = login_role(&stage.database, &raw, "nosuperuser createrole").await;
    let session = Raw::connect(&crate::sandbox::url(&stage.database, Some(&stranger))).await;
    let globex = organization(&stage, "globex").await;
    session.run(&format!("set app.current_organization_id = '{globex}'")).await;
    for table in OWNED {
        assert_eq!(session.one::<i64>(&format!("select count(id) from {table}")).await, 0, "{table}");
    }
    // A login that was let in by hand, before there was row level security.
    raw.run(&format!(
        "grant select (id, slug, status) on organizations to {stranger}; grant {} to {stranger}",
        stage.role("acme")
    ))
    .await;
    let db: Db = Db::connect(&config).await.unwrap();
    let error = db.tenant(&slug("acme")).query("select 1", &[]).await.unwrap_err();
    let Error::Setup(SetupError::Privilege { grant, .. }) = &error else { panic!("{error:?}") };
    assert_eq!(grant, &format!("cgk setup:database --app-role {stranger}"));
    // An operator who may not act as the owner: not an empty fleet.
    raw.run(&format!("grant select on organizations, schema_migrations to {stranger}")).await;
    let operator = Operator::connect(&config).await.unwrap();
    let error = cgk::migrate::read_state(&operator, &Migrations::bundled()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Denied, "{error:?}");
    let Error::Setup(SetupError::Privilege { grant, .. }) = error else { unreachable!() };
    assert!(grant.starts_with("grant ") && grant.ends_with(&format!(" to \"{stranger}\"")), "{grant}");
}

#[tokio::test]
async fn every_shared_table_of_organizations_has_forced_policies_and_no_open_secret() {
    let stage = Stage::set().await;
    let tables =
        "pg_class c where c.relnamespace = 'public'::regnamespace and c.relkind in ('r', 'p') and not c.relispartition
                  and (c.relname in ('organizations', 'magic_links') or exists (select from pg_attribute a
                       where a.attrelid = c.oid and a.attname = 'organization_id' and not a.attisdropped))";
    assert!(stage.number(&format!("select count(*) from {tables}")).await >= 17);
    let bare = "not (c.relrowsecurity and c.relforcerowsecurity and exists (select from pg_policy p where p.polrelid = c.oid))";
    assert_eq!(stage.number(&format!("select count(*) from {tables} and {bare}")).await, 0);
    let secrets = "select count(*) from pg_attribute a join pg_class c on c.oid = a.attrelid
                   where c.relnamespace = 'public'::regnamespace and a.attname ~ 'hash|token' and a.attnum > 0
                   and c.relkind = 'r'";
    assert!(stage.number(secrets).await >= 9);
    let open = format!("{secrets} and has_column_privilege('{}', c.oid, a.attnum, 'select')", stage.role("acme"));
    assert_eq!(stage.number(&open).await, 0);
    // The check sees a table that lacks it.
    stage.sql("create table notes (organization_id uuid)").await;
    assert_eq!(stage.number(&format!("select count(*) from {tables} and {bare}")).await, 1);
}

/// Plans, not times: a tenant goes through the index of its organization, the platform meets no condition at all.
#[tokio::test]
async fn policies_use_the_index_and_cost_the_platform_nothing() {
    let stage = Stage::set().await;
    stage
        .sql(
            "insert into organizations (slug, name) select 'o' || n, 'O' from generate_series(1, 200) n;
             insert into users (organization_id, email) select id, n || '@x' from organizations, generate_series(1, 100) n;
             analyze organizations, users",
        )
        .await;
    let db = stage.app(Isolation::Role, SharedTables::All).await;
    let text =
        |rows: Vec<tokio_postgres::Row>| rows.iter().map(|row| row.get::<_, String>(0)).collect::<Vec<_>>().join("\n");
    let explain = "explain (costs off) select email from users";
    let plan = text(db.tenant(&slug("acme")).query_typed(explain, &[]).await.unwrap());
    assert!(plan.contains("Index Cond: (organization_id = ") && !plan.contains("Seq Scan on users"), "{plan}");
    let plan = text(db.platform().query_typed(explain, &[]).await.unwrap());
    assert!(!plan.contains("Filter") && !plan.contains("InitPlan"), "{plan}");
    // In path mode the platform pays for the same login being a tenant too.
    let db = stage.app(Isolation::Path, SharedTables::All).await;
    let plan = text(db.platform().query_typed(explain, &[]).await.unwrap());
    assert!(plan.contains("Filter") && plan.contains("InitPlan"), "{plan}");
}

#[tokio::test]
async fn a_set_of_migrations_without_row_level_security_works_as_before() {
    let database = TestServer::shared().database().await.unwrap();
    let files = Files::empty();
    for file in Migrations::bundled().set(Set::Public).files().iter().filter(|file| file.id().version.get() < 7) {
        files.public(file.path().file_name().unwrap().to_str().unwrap(), file.sql());
    }
    files.tenant("001_a.sql", "create table a (n int)");
    let migrations = files.load();
    let operator = database.operator().await.unwrap();
    setup::setup(&operator, &migrations, &mut Silent).await.unwrap();
    let name = crate::access::service_login::app_name(&database);
    let admission = cgk::login::admit(&operator, &name, &Default::default()).await.unwrap();
    let db = Db::connect(&crate::stage::as_login(database.config(), &admission)).await.unwrap();
    // Created by the operator, entered by the service.
    lifecycle::create(&operator, &db, &migrations, &slug("acme"), &CreateOptions::default()).await.unwrap();
    assert_eq!(db.tenant(&slug("acme")).execute("insert into a values (1)", &[]).await.unwrap(), 1);
    let error = db.tenant(&slug("acme")).query("select id from users", &[]).await.unwrap_err();
    assert_eq!(state(&error), "42501");
    // And with the next migration the same login goes on.
    for file in Migrations::bundled().set(Set::Public).files().iter().filter(|file| file.id().version.get() >= 7) {
        files.public(file.path().file_name().unwrap().to_str().unwrap(), file.sql());
    }
    setup::setup(&operator, &files.load(), &mut Silent).await.unwrap();
    assert!(db.tenant(&slug("acme")).query("select id from users", &[]).await.unwrap().is_empty());
    let _: &Config = db.config();
}
