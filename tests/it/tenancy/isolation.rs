//! What one tenant can reach of another, of the platform and of the server: nothing, and the database says so. And the
//! tenants that cannot be entered: a typed error, and no statement of the closure has run (threats T1, T2, T4, T5, T6–T10,
//! T41).

use crate::stage::{Stage, address, connect, run, slug};
use cgk::{
    Config, Db, Error, ErrorKind, SetupError, TenantError, TenantStatus, TenantTx, TransactionError, config::Isolation,
    login::SharedTables, testing::TestServer,
};

/// The SQLSTATE with which a statement of tenant `acme` fails.
async fn refusal(db: &Db, statement: &str) -> String {
    let outcome = db.with_tenant(&slug("acme"), async |tx| tx.execute_typed(statement, &[]).await).await;
    match outcome {
        Ok(rows) => format!("done, {rows} rows"),
        Err(error) => error.sqlstate().map_or_else(|| format!("{error:?}"), |state| state.code().to_owned()),
    }
}

#[tokio::test]
async fn tenants_do_not_see_each_others_rows() {
    let stage = Stage::set().await;
    for (own, other) in [("acme", "globex"), ("globex", "acme")] {
        let tags: Vec<String> = stage
            .db
            .with_tenant(&slug(own), async |tx| {
                tx.execute("insert into marks (tag, n) values ($1, 1)", &[&own]).await?;
                tx.execute("insert into customers (email) values ($1)", &[&format!("{own}@example.com")]).await?;
                let rows = tx.query("select tag from marks union all select email from customers", &[]).await?;
                Ok(rows.iter().map(|row| row.get(0)).collect())
            })
            .await
            .unwrap();
        assert_eq!(tags.len(), 3);
        assert!(tags.iter().all(|tag| tag.starts_with(own) && !tag.contains(other)), "{tags:?}");
    }
    assert_eq!(stage.marks("acme", "acme").await, (2, 0));
    assert_eq!(stage.number("select count(*) from tenant_globex.customers").await, 1);
}

/// What a tenant must not do, whatever the login behind it may: here it is a superuser.
const DENIED: &[&str] = &[
    // The other tenant, by its full name.
    "select * from tenant_globex.marks",
    "select count(*) from tenant_globex.customers",
    "insert into tenant_globex.marks (tag, n) values ('attack', 1)",
    "update tenant_globex.marks set tag = 'attack'",
    "delete from tenant_globex.marks",
    "truncate tenant_globex.marks",
    "lock table tenant_globex.marks",
    "drop table tenant_globex.marks",
    "drop schema tenant_globex cascade",
    "alter table tenant_globex.marks add column attack int",
    "create table tenant_globex.attack (n int)",
    "create table pg_temp.attack (like tenant_globex.marks)",
    "create temp table attack () inherits (tenant_globex.marks)",
    "create temp view attack as select * from tenant_globex.marks",
    "select 'tenant_globex.marks'::regclass",
    "select * from query_to_xml('select * from tenant_globex.marks', true, true, '')",
    "explain analyze select * from tenant_globex.marks",
    "with stolen as (delete from tenant_globex.marks returning *) insert into marks (tag, n) select tag, n from stolen",
    "do $$ begin execute 'delete from tenant_globex.marks'; end $$",
    "merge into tenant_globex.marks t using (select 1) s on true when matched then delete",
    "grant all on all tables in schema tenant_globex to public",
    // Its ledger.
    "select * from schema_migrations",
    "insert into schema_migrations select * from schema_migrations",
    "update schema_migrations set name = 'attack'",
    "delete from schema_migrations",
    "truncate schema_migrations",
    "drop table schema_migrations",
    "select * from tenant_globex.schema_migrations",
    "select * from public.schema_migrations",
    "delete from public.schema_migrations",
    // The platform's tables, by their full names and through the path.
    "select * from public.organizations",
    "select * from organizations",
    "select shopify_access_token from public.organizations where slug = 'globex'",
    "update public.organizations set status = 'suspended'",
    "delete from public.organizations",
    "select * from public.users",
    "insert into users (email) values ('attack@example.com')",
    "select * from public.sessions",
    "select * from public.api_keys",
    "select * from public.billing",
    "select * from public.magic_links",
    // DDL in its own schema, in public, and anywhere.
    "create table attack (n int)",
    "create table tenant_acme.attack (n int)",
    "create table public.attack (n int)",
    "create view tenant_acme.attack as select 1",
    "create function tenant_acme.lower(varchar) returns text language sql as 'select null::text'",
    "create function public.lower(varchar) returns text language sql as 'select null::text'",
    "create operator tenant_acme.= (leftarg = varchar, rightarg = varchar, function = texteq)",
    "create type tenant_acme.attack as enum ('x')",
    "alter table marks add column attack int",
    "alter table marks disable trigger all",
    "drop table marks",
    "truncate marks",
    "create index attack on marks (n)",
    "create policy attack on marks",
    "drop schema tenant_acme cascade",
    "alter schema tenant_acme rename to attack",
    "create schema attack",
    "comment on table marks is 'attack'",
    // The server.
    "create role attack",
    "select pg_read_file('postgresql.conf')",
    "select * from pg_authid",
    "select pg_ls_dir('.')",
    "copy marks to '/tmp/attack'",
    "copy marks from program 'true'",
    "select lo_import('/etc/passwd')",
    "load 'auto_explain'",
    "checkpoint",
];

#[tokio::test]
async fn the_database_denies_everything_but_the_tenants_own_tables() {
    let stage = Stage::set().await;
    let mut wrong = Vec::new();
    let major = stage.number("select current_setting('server_version_num')::bigint / 10000").await;
    for statement in DENIED {
        // PostgreSQL 14 has no MERGE.
        if major < 15 && statement.starts_with("merge") {
            assert_eq!(refusal(&stage.db, statement).await, "42601");
            continue;
        }
        let state = refusal(&stage.db, statement).await;
        // Each is refused as a matter of rights. "Not the owner" and "not a superuser" have the same state.
        if state != "42501" {
            wrong.push((statement, state));
        }
    }
    assert_eq!(wrong, [], "of {}", DENIED.len());
    assert_eq!(stage.marks("globex", "globex").await, (1, 0));
    assert_eq!(stage.marks("globex", "attack").await, (0, 0));
    // One statement at a time.
    assert_eq!(refusal(&stage.db, "select 1; select * from tenant_globex.marks").await, "42601");
    // The server lets it have its own temporary tables, hidden behind the tenant's.
    assert!(refusal(&stage.db, "create temp table attack (n int)").await.starts_with("done"));
}

/// The same statements by the login itself: that they fail above is the tenant's role, and nothing else.
#[tokio::test]
async fn control_the_login_may_do_what_the_tenant_may_not() {
    let stage = Stage::set().await;
    let client = connect(stage.database.name()).await;
    let mut denied = Vec::new();
    for statement in DENIED {
        run(&client, "begin; set local search_path = tenant_acme, public, pg_temp").await.unwrap();
        let outcome = match statement.starts_with("copy") || statement.starts_with("checkpoint") {
            // With an effect outside of the transaction.
            true => Ok(vec![]),
            false => client.query_typed(statement, &[]).await,
        };
        if let Err(error) = outcome
            && error.code().is_some_and(|state| state.code() == "42501")
        {
            denied.push(statement);
        }
        run(&client, "rollback").await.unwrap();
    }
    assert_eq!(denied, Vec::<&&str>::new());
}

/// A service's login in production: it owns nothing, and outside of a tenant it sees nothing.
#[tokio::test]
async fn a_plain_login_enters_its_tenants_and_has_no_rights_of_its_own() {
    let stage = Stage::set().await;
    let db = stage.app(Isolation::Role, SharedTables::Registry).await;
    let (login, globex) = (stage.app_name(), stage.role("globex"));
    stage.sql(&format!("revoke \"{globex}\" from \"{login}\"")).await;
    stage.next_user(&db, "acme").await;
    for statement in ["select * from tenant_globex.marks", "select * from public.organizations"] {
        assert_eq!(refusal(&db, statement).await, "42501", "{statement}");
    }
    // Its own rights, which a closure gets at with RESET ROLE, do not reach a tenant's rows either.
    let outside = db
        .with_tenant(&slug("acme"), async |tx| {
            tx.execute_typed("do $$ begin reset role; end $$", &[]).await?;
            tx.query_typed("select * from tenant_acme.marks", &[]).await
        })
        .await
        .unwrap_err();
    assert_eq!(outside.sqlstate().unwrap().code(), "42501");
    // A tenant that it was not let into.
    let error = db.with_tenant(&slug("globex"), async |_| Ok(())).await.unwrap_err();
    assert!(
        matches!(&error, Error::Setup(SetupError::Privilege { grant, .. }) if grant.contains(&globex)),
        "{error:?}"
    );
    assert_eq!(error.kind(), ErrorKind::Denied);
    // A registry that it may not read. Everybody may, as far as row level security lets them.
    stage.sql("revoke select (id, slug, status) on public.organizations from public").await;
    stage.sql(&format!("revoke all on public.organizations from \"{login}\"; revoke all (id, slug, status) on public.organizations from \"{login}\"")).await;
    let error = db.with_tenant(&slug("acme"), async |_| Ok(())).await.unwrap_err();
    assert!(
        matches!(&error, Error::Setup(SetupError::Privilege { needed, .. }) if needed.contains("organizations")),
        "{error:?}"
    );
    // What is suggested is enough.
    let Error::Setup(SetupError::Privilege { grant, .. }) = error else { unreachable!() };
    stage.sql(&grant).await;
    stage.next_user(&db, "acme").await;
}

fn as_login(stage: &Stage, login: &str) -> Config {
    let name = stage.database.name();
    let config = match TestServer::shared().local() {
        Some(local) => Config::from_url(&local.url(name).replacen("postgres@", &format!("{login}@"), 1)),
        None => {
            let server = address(name);
            let port = server.get_ports()[0];
            Config::from_url(&match &server.get_hosts()[0] {
                tokio_postgres::config::Host::Tcp(host) => format!("postgresql://{login}@{host}:{port}/{name}"),
                tokio_postgres::config::Host::Unix(directory) => {
                    format!("postgresql://{login}@/{name}?host={}&port={port}", directory.display())
                }
            })
        }
    };
    config.unwrap().with_pool_size_max(1)
}

/// What path mode is: the names without a schema are the tenant's, and full names go anywhere.
#[tokio::test]
async fn path_mode_separates_by_name_only() {
    let stage = Stage::set_with(|config| config.with_isolation(Isolation::Path)).await;
    let acme = slug("acme");
    let (tag, role): (String, String) = stage
        .db
        .with_tenant(&acme, async |tx| {
            tx.execute("insert into marks (tag, n) values ('path', 1)", &[]).await?;
            let row = tx.query_one("select tag, current_user::text from marks where n = 0", &[]).await?;
            Ok((row.get(0), row.get(1)))
        })
        .await
        .unwrap();
    assert_eq!((tag.as_str(), role.as_str()), ("acme", "postgres"));
    assert_eq!(stage.marks("acme", "path").await, (1, 0));
    // Not denied, and this is documented: whoever writes the other's name reads the other's rows.
    for open in
        ["select * from tenant_globex.marks", "select * from public.organizations", "select * from schema_migrations"]
    {
        assert!(refusal(&stage.db, open).await.starts_with("done"), "{open}");
    }
    // The guard and the typed errors are the same.
    let swap = "select set_config('search_path', 'tenant_globex', true)";
    let error = stage.db.with_tenant(&acme, async |tx| tx.execute_typed(swap, &[]).await).await.unwrap_err();
    assert!(matches!(error, Error::Transaction(TransactionError::Tampered { .. })), "{error:?}");
    let error = stage.db.with_tenant(&slug("nobody"), async |_| Ok(())).await.unwrap_err();
    assert!(matches!(error, Error::Tenant(TenantError::NotFound { .. })), "{error:?}");
    stage.sql("alter schema tenant_acme rename to gone").await;
    let error = stage.db.with_tenant(&acme, async |_| Ok(())).await.unwrap_err();
    assert!(matches!(error, Error::Tenant(TenantError::NotReady { .. })), "{error:?}");
    stage.sql("alter schema gone rename to tenant_acme").await;
    stage.sql("select 1").await;
    // A role is not needed.
    stage.sql(&format!("drop owned by \"{0}\"; drop role \"{0}\"", stage.role("acme"))).await;
    stage.db.with_tenant(&acme, async |tx| tx.query("select * from marks", &[]).await).await.unwrap();
}

#[tokio::test]
async fn path_mode_without_a_right_on_the_schema_says_which() {
    let stage = Stage::set().await;
    let login = format!("{}_path", stage.database.name());
    stage
        .sql(&format!(
            "create role \"{login}\" login noinherit; grant select (id, slug, status) on public.organizations to \"{login}\";
             create policy by_hand on public.organizations to \"{login}\" using (true)"
        ))
        .await;
    let db = Db::connect(&as_login(&stage, &login).with_isolation(Isolation::Path)).await.unwrap();
    let error = db.with_tenant(&slug("acme"), async |_| Ok(())).await.unwrap_err();
    let Error::Setup(SetupError::Privilege { grant, .. }) = error else { panic!("{error:?}") };
    stage.sql(&grant).await;
    db.with_tenant(&slug("acme"), async |_| Ok(())).await.unwrap();
    drop(db);
    stage.sql(&format!("drop owned by \"{login}\"")).await;
}

/// Everything that a closure might do in a tenant that is closed: each of these would leave a trace if it ran. The tables
/// and the sequence are open to everybody, and the login is a superuser.
async fn try_everything(tx: &mut TenantTx<'_>) -> Result<(), Error> {
    let write = "insert into public.marks values ('ran', 1)";
    // All at once, behind each other on the wire, as far as they go without an answer.
    let _ = tokio::join!(
        tx.execute_typed("rollback", &[]),
        tx.execute_typed("commit", &[]),
        tx.execute_typed("end;", &[]),
        tx.execute_typed(write, &[]),
        tx.execute_typed("select nextval('public.traces')", &[]),
        tx.execute("insert into marks (tag, n) values ('ran', 1)", &[]),
        tx.execute_typed("rollback to savepoint nowhere", &[]),
        tx.execute_typed(write, &[]),
    );
    // And once it is known.
    let _ = tx.execute_typed("rollback", &[]).await;
    let _ = tx.execute("rollback", &[]).await;
    let _ = tx.execute_typed(write, &[]).await;
    let _ = tx.execute(write, &[]).await;
    let _ = tx.query_typed("select nextval('public.traces')", &[]).await;
    let _ = tx.query_raw("insert into public.marks values ('ran', 2) returning 1", &[]).await.map(drop);
    let _ = tx.copy_in::<bytes::Bytes>("copy public.marks from stdin").await.map(drop);
    if let Ok(part) = tx.savepoint().await {
        let _ = part.execute_typed(write, &[]).await;
        let _ = part.release().await;
    }
    Ok(())
}

async fn assert_closed(stage: &Stage, tenant: &str, what: &str) -> Error {
    let outcome = stage.db.with_tenant(&slug(tenant), try_everything).await;
    let traces =
        "select (select count(*) from public.marks where n > 0) + (select count(*) from tenantsx.marks where n > 0)
                  + (select is_called::int from public.traces)::bigint";
    assert_eq!(stage.number(traces).await, 0, "{what}: a statement of the closure has run");
    let error = outcome.expect_err(what);
    // A closure without a statement, and one that reports its refusal, come to the same.
    let silent = stage.db.with_tenant(&slug(tenant), async |_| Ok(())).await.expect_err(what);
    let honest = stage.db.with_tenant(&slug(tenant), async |tx| tx.query("select 1", &[]).await).await.expect_err(what);
    assert_eq!((error.code(), error.code()), (silent.code(), honest.code()), "{what}");
    let (_, first) = stage.next_user(&stage.db, "globex").await;
    let _ = stage.db.with_tenant(&slug(tenant), try_everything).await;
    let (_, second) = stage.next_user(&stage.db, "globex").await;
    assert_eq!(first, second, "{what}: the connection could not be used again");
    error
}

#[tokio::test]
async fn a_tenant_that_is_closed_runs_no_statement() {
    let stage = Stage::set().await;
    stage.sql("create sequence public.traces; grant all on sequence public.traces to public").await;
    let role = stage.role("acme");

    let error = assert_closed(&stage, "nobody", "unknown").await;
    assert!(
        matches!(&error, Error::Tenant(TenantError::NotFound { tenant }) if tenant.as_str() == "nobody"),
        "{error:?}"
    );
    // A schema alone makes no tenant.
    stage.sql("create schema tenant_squatter").await;
    let error = assert_closed(&stage, "squatter", "squatter").await;
    assert!(matches!(error, Error::Tenant(TenantError::NotFound { .. })), "{error:?}");

    stage.sql("update public.organizations set status = 'suspended' where slug = 'acme'").await;
    let error = assert_closed(&stage, "acme", "suspended").await;
    assert!(matches!(error, Error::Tenant(TenantError::Suspended { .. })), "{error:?}");
    stage.sql("update public.organizations set status = 'onboarding' where slug = 'acme'").await;
    let error = assert_closed(&stage, "acme", "onboarding").await;
    assert!(
        matches!(error, Error::Tenant(TenantError::NotReady { status: TenantStatus::Onboarding, .. })),
        "{error:?}"
    );
    stage.sql("update public.organizations set status = 'active' where slug = 'acme'").await;

    let missing = |error: Error| match error {
        Error::Tenant(TenantError::NotReady { missing, status: TenantStatus::Active, .. }) => missing.to_string(),
        other => panic!("{other:?}"),
    };
    stage.sql("alter schema tenant_acme rename to gone").await;
    assert_eq!(missing(assert_closed(&stage, "acme", "no schema").await), "there is no schema tenant_acme");
    stage.sql("alter schema gone rename to tenant_acme").await;
    stage.sql(&format!("alter role \"{role}\" rename to \"{role}x\"")).await;
    assert_eq!(missing(assert_closed(&stage, "acme", "no role").await), format!("there is no role {role}"));
    stage.sql(&format!("alter role \"{role}x\" rename to \"{role}\"")).await;
    stage.sql(&format!("revoke usage on schema tenant_acme from \"{role}\"")).await;
    let why = missing(assert_closed(&stage, "acme", "no usage").await);
    assert_eq!(why, format!("role {role} may not use schema tenant_acme"));
    stage.sql(&format!("grant usage on schema tenant_acme to \"{role}\"")).await;
    stage.next_user(&stage.db, "acme").await;
}

/// The closure above leaves traces where it is let in: in a tenant that is open.
#[tokio::test]
async fn control_the_closure_leaves_traces_where_it_runs() {
    let stage = Stage::set().await;
    stage.sql("create sequence public.traces; grant all on sequence public.traces to public").await;
    let _ = stage.db.with_tenant(&slug("acme"), try_everything).await;
    // Sequences do not roll back.
    assert_eq!(stage.number("select is_called::int::bigint from public.traces").await, 1);
    // And without a check of the way in, a search path with a missing schema runs into the decoy.
    let client = connect(stage.database.name()).await;
    run(&client, "begin; set local search_path = tenant_nobody, public").await.unwrap();
    run(&client, "insert into marks values ('ran', 1); commit").await.unwrap();
    assert_eq!(stage.number("select count(*) from public.marks where tag = 'ran'").await, 1);
}

#[tokio::test]
async fn a_database_that_is_not_set_up_says_so() {
    let database = TestServer::shared().database().await.unwrap();
    let db = database.db().await.unwrap();
    let error = db.with_tenant(&slug("acme"), async |_| Ok(())).await.unwrap_err();
    assert!(matches!(error, Error::Setup(SetupError::NotSetUp { .. })), "{error:?}");
    assert_eq!(error.kind(), ErrorKind::NotReady);
}

/// Names that a careless match would take for one another, the longest there are, and words of SQL.
#[tokio::test]
async fn similar_and_awkward_slugs_are_kept_apart() {
    let database = TestServer::shared().set_up_database().await.unwrap();
    let (long_a, long_b) = (format!("a{}1", "x".repeat(46)), format!("a{}2", "x".repeat(46)));
    let slugs = ["a", "a_", "a_b", "axb", "select", "user", "public", "pg_temp", &long_a, &long_b];
    let db = database.with_tenants(&slugs).await.unwrap();
    for name in slugs {
        db.with_tenant(&slug(name), async |tx| {
            tx.execute("insert into customers (email) values ($1)", &[&format!("{name}@example.com")]).await
        })
        .await
        .unwrap();
    }
    for name in slugs {
        let emails: Vec<String> = db
            .with_tenant(&slug(name), async |tx| {
                let rows = tx.query("select email from customers", &[]).await?;
                Ok(rows.iter().map(|row| row.get(0)).collect())
            })
            .await
            .unwrap();
        assert_eq!(emails, [format!("{name}@example.com")]);
    }
}
