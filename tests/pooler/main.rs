//! `pooled = true` behind a real PgBouncer in transaction mode with one server connection.
//!
//! `scripts/pooler-tests.sh` installs PgBouncer and runs this; plain `cargo test` leaves it out. Every test first shows that
//! its clients really share one server connection, and a control shows that what cgk avoids does leak here.

mod pgbouncer;
mod proxy;
mod reset;
#[path = "../it/support/score.rs"]
mod score;

use cgk::{
    Config, ConnectionError, Db, Error, Operator, TenantError, TenantSlug,
    config::Pooling,
    migrate::{self, Migrations, Outcome, Scope, Set, Silent, Target},
};
use pgbouncer::Stage;
use std::time::Duration;
use tokio_postgres::{NoTls, types::Type};

const PID: &str = "select pg_backend_pid()";

fn slug(text: &str) -> TenantSlug {
    text.parse().unwrap()
}

async fn pid(db: &Db, tenant: &str) -> i32 {
    db.tenant(&slug(tenant)).query_typed(PID, &[]).await.unwrap()[0].get(0)
}

/// Two handles are two clients of the pooler, as two services would be.
async fn two_clients(stage: &Stage) -> (Db, Db) {
    let config = stage.pooled().with_pool_size_max(1);
    let (one, two) = (Db::connect(&config).await.unwrap(), Db::connect(&config).await.unwrap());
    assert_eq!(pid(&one, "acme").await, pid(&two, "globex").await, "the clients do not share a server connection");
    (one, two)
}

#[tokio::test]
async fn tenants_that_share_a_server_connection_see_their_own_rows() {
    let stage = Stage::set().await;
    let (one, two) = two_clients(&stage).await;
    let visit = async |db: Db, tenant: &'static str| {
        for n in 0..200 {
            let rows = db
                .with_tenant(&slug(tenant), async |tx| {
                    let sql = "insert into customers (email) values ($1)";
                    tx.execute_typed(sql, &[(&format!("{tenant}{n}@example.com"), Type::TEXT)]).await?;
                    tx.query_typed("select email, current_user::text from customers", &[]).await
                })
                .await
                .unwrap();
            assert_eq!(rows.len(), n + 1);
            for row in rows {
                assert!(row.get::<_, String>(0).starts_with(tenant));
                assert!(row.get::<_, String>(1).starts_with(&format!("cgk_{tenant}_")));
            }
            let rows = db.tenant(&slug(tenant)).query_typed("select count(*) from customers", &[]).await.unwrap();
            assert_eq!(rows[0].get::<_, i64>(0), n as i64 + 1);
        }
    };
    tokio::join!(visit(one, "acme"), visit(two, "globex"));
    let told = "two clients, one server connection; with_tenant and single statements, all typed";
    score::note(10, "transactions through PgBouncer, another tenant's row or role", 800, 0, told);
}

#[tokio::test]
async fn nothing_of_a_transaction_stays_in_the_server_connection() {
    let stage = Stage::set().await;
    let (one, two) = two_clients(&stage).await;
    let state = "select current_user::text, current_setting('search_path'), current_setting('statement_timeout'),
                        coalesce(current_setting('app.current_organization_id', true), ''), pg_backend_pid()";
    let raw = stage.raw_client().await;
    let look = async || {
        let row = &raw.query_typed(state, &[]).await.unwrap()[0];
        let texts: Vec<String> = (0..4).map(|column| row.get(column)).collect();
        (texts, row.get::<_, i32>(4))
    };
    let (before, server) = look().await;
    assert_eq!(server, pid(&one, "acme").await);
    // What a closure leaves on purpose, committed, and what one leaves that fails.
    let left = [
        "set search_path = tenant_globex",
        "set statement_timeout = 1",
        "select set_config('app.current_organization_id', 'x', false)",
        "listen x",
        "select pg_advisory_lock(7)",
        "create temporary table customers (email text)",
    ];
    for sql in left {
        let _ = one.with_tenant(&slug("acme"), async |tx| tx.query_typed(sql, &[]).await).await;
        let _ = one
            .with_tenant(&slug("acme"), async |tx| {
                tx.query_typed(sql, &[]).await?;
                Err::<(), _>(Error::Tenant(TenantError::NotFound { tenant: slug("acme") }))
            })
            .await;
        assert_eq!(look().await, (before.clone(), server), "{sql}");
        assert!(two.tenant(&slug("globex")).query_typed("select email from customers", &[]).await.unwrap().is_empty());
    }
    let sql = "select count(*) from pg_locks l join pg_database d on d.oid = l.database
               where l.locktype = 'advisory' and d.datname = current_database()";
    let locks = raw.query_typed(sql, &[]).await.unwrap();
    assert_eq!(locks[0].get::<_, i64>(0), 0);
    let told = "each committed and failed";
    score::note(10, "session state left through PgBouncer, seen by the next client", left.len() * 2, 0, told);
}

/// The control: a search path of the session, as hand-written tenancy sets it, is there for the next client.
#[tokio::test]
async fn control_a_session_setting_leaks_to_the_next_client() {
    let stage = Stage::set().await;
    let (careless, victim) = (stage.raw_client().await, stage.raw_client().await);
    let server = |client: tokio_postgres::Client| async move {
        client.query_typed("select pg_backend_pid(), current_setting('search_path')", &[]).await.map(|rows| {
            let row = (rows[0].get::<_, i32>(0), rows[0].get::<_, String>(1));
            (client, row)
        })
    };
    let (careless, (first, _)) = server(careless).await.unwrap();
    careless.query_typed("select set_config('search_path', 'tenant_acme', false)", &[]).await.unwrap();
    let (_, (second, path)) = server(victim).await.unwrap();
    assert_eq!(first, second, "the clients do not share a server connection");
    assert_eq!(path, "tenant_acme");
    score::control(10, "search path of the session through PgBouncer", 1, 1, "the next client has it");
}

/// Statements whose types cgk has to ask for: each runs for its own tenant, on one server connection in turns, and none stays.
#[tokio::test]
async fn statements_are_described_and_not_kept() {
    let stage = Stage::set().await;
    let (one, two) = two_clients(&stage).await;
    let (acme, globex) = (slug("acme"), slug("globex"));
    let insert = "insert into customers (email) values ($1)";
    let visit = async |db: Db, tenant: TenantSlug| {
        for n in 0..50 {
            let email = format!("{tenant}{n}@example.com");
            db.tenant(&tenant).execute(insert, &[&email]).await.unwrap();
            let sql = format!("select count(*) from customers where email = $1 and {n} = {n}");
            let found = db.with_tenant(&tenant, async |tx| tx.query_one(&sql, &[&email]).await).await.unwrap();
            assert_eq!(found.get::<_, i64>(0), 1);
        }
    };
    tokio::join!(visit(one.clone(), acme.clone()), visit(two.clone(), globex.clone()));
    let left: i64 =
        two.tenant(&globex).query_one("select count(*) from pg_prepared_statements", &[]).await.unwrap().get(0);
    assert_eq!(left, 0, "a named statement stayed with the server connection");
    score::note(
        10,
        "statements described through PgBouncer, failed or kept",
        200,
        0,
        "two clients, one server connection",
    );
}

/// What a tenant prepares, said or hidden in a block, is not there for the next client of the server connection.
#[tokio::test]
async fn a_prepared_statement_is_not_read_by_the_next_client() {
    let stage = Stage::set().await;
    let (one, two) = two_clients(&stage).await;
    let (acme, globex) = (slug("acme"), slug("globex"));
    let named = "select count(*) from pg_prepared_statements where statement like '%secret%'";
    let hidden = "do $$ begin execute 'prepare theirs as select ''secret'''; end $$";
    for commit in [true, false] {
        let _ = one
            .with_tenant(&acme, async |tx| {
                tx.execute_typed(hidden, &[]).await?;
                let seen: i64 = tx.query_typed(named, &[]).await?[0].get(0);
                assert_eq!(seen, 1, "this test proves nothing");
                if commit { Ok(()) } else { Err(Error::Tenant(TenantError::NotFound { tenant: slug("nobody") })) }
            })
            .await;
        let seen: i64 = two.tenant(&globex).query_one(named, &[]).await.unwrap().get(0);
        assert_eq!(seen, 0, "{commit}");
    }
    let _ = one.platform().execute(hidden, &[]).await;
    let seen: i64 = two.tenant(&globex).query_one(named, &[]).await.unwrap().get(0);
    assert_eq!(seen, 0, "platform");
    score::note(
        10,
        "hidden PREPARE through PgBouncer, read by the next client",
        3,
        0,
        "committed, failed and platform",
    );
}

#[tokio::test]
async fn errors_and_dropped_futures_leave_the_pooler_usable() {
    let stage = Stage::set().await;
    let (one, two) = two_clients(&stage).await;
    let (acme, globex) = (slug("acme"), slug("globex"));
    for round in 0..20 {
        let failed = one.with_tenant(&acme, async |tx| tx.query_typed("select 1 / 0", &[]).await).await.unwrap_err();
        assert_eq!(failed.sqlstate().unwrap().code(), "22012");
        let unknown = one.tenant(&slug("nobody")).query_typed("select 1", &[]).await.unwrap_err();
        assert_eq!(unknown.code(), "CGK0401");
        // Dropped between two statements: nothing is running, so the connection is rolled back and kept.
        let (reached, wait) = tokio::sync::oneshot::channel();
        let mut reached = Some(reached);
        let visit = one.with_tenant(&acme, async |tx| {
            tx.execute_typed("insert into customers (email) values ('dropped@example.com')", &[]).await?;
            let _ = reached.take().unwrap().send(());
            std::future::pending::<()>().await;
            Ok(())
        });
        tokio::select! {
            _ = visit => unreachable!("it waits for ever"),
            reached = wait => reached.unwrap(),
        }
        let rows = two.tenant(&globex).query_typed("select count(*) from customers", &[]).await.unwrap();
        assert_eq!(rows[0].get::<_, i64>(0), 0, "round {round}");
        let rows = one.tenant(&acme).query_typed("select count(*) from customers", &[]).await.unwrap();
        assert_eq!(rows[0].get::<_, i64>(0), 0, "round {round}: a dropped insert was committed");
    }
    score::note(10, "errors and dropped transactions through PgBouncer, next client unclean", 60, 0, "");
}

/// PgBouncer passes a cancel request on only while the client's connection is open.
#[tokio::test]
async fn a_statement_whose_caller_is_dropped_ends_at_the_server() {
    let stage = Stage::set().await;
    let one = Db::connect(&stage.pooled().with_pool_size_max(1)).await.unwrap();
    let acme = slug("acme");
    let (watch, connection) = tokio_postgres::connect(&stage.direct_url(), NoTls).await.unwrap();
    tokio::spawn(connection);
    let running = "select count(*) from pg_stat_activity where query like '%pg_sleep(600)%' and state = 'active'
                       and pid <> pg_backend_pid()";
    let running = async || watch.query_typed(running, &[]).await.unwrap()[0].get::<_, i64>(0);
    for single in [false, true] {
        let sleep = async || match single {
            true => one.tenant(&acme).query_typed("select pg_sleep(600)", &[]).await,
            false => one.with_tenant(&acme, async |tx| tx.query_typed("select pg_sleep(600)", &[]).await).await,
        };
        let began = async {
            while running().await == 0 {
                tokio::task::yield_now().await;
            }
        };
        tokio::select! {
            ended = sleep() => panic!("it did not sleep: {ended:?}"),
            () = began => {}
        }
        let ended = async {
            while running().await > 0 {
                tokio::task::yield_now().await;
            }
        };
        // Without the cancel request it would be there until the statement's end or its timeout, half a minute.
        tokio::time::timeout(Duration::from_secs(15), ended).await.expect("the statement is still running");
    }
}

#[tokio::test]
async fn schemas_are_not_changed_through_it() {
    let stage = Stage::set().await;
    let config = Config::from_url(&format!("{}&pgbouncer=true", stage.url())).unwrap();
    assert_eq!(config.pooling(), Pooling::Transaction);
    let refused = cgk::Operator::connect(&config).await.unwrap_err();
    assert_eq!(refused.code(), "CGK0102", "{refused}");
}

/// An address that nobody could tell is a pooler's: a migration without a transaction notices by its backends.
#[tokio::test]
async fn a_migration_without_a_transaction_stops_where_its_backend_changes() {
    let stage = Stage::with_server_connections(2).await;
    let migrations = Migrations::bundled()
        .with_file(
            Set::Tenant,
            "900_x.sql",
            "-- cgk:no-transaction\ncreate table stray (id int);\ncreate index concurrently x on stray (id)",
        )
        .unwrap();
    let hidden = Operator::connect(&Config::from_url(&stage.url()).unwrap()).await.unwrap();
    let plan = async |operator: &Operator| {
        migrate::plan_fleet(operator, &migrations, &Scope::Tenants, Target::Head).await.unwrap()
    };
    let planned = plan(&hidden).await;
    two_backends(&stage).await;
    let report = migrate::run(&hidden, &migrations, planned, &mut Silent).await.unwrap();
    assert_eq!(report.failed(), 2, "{report:?}");
    for tenant in &report.tenants {
        let Outcome::Failed { error } = &tenant.result else { panic!("{report:?}") };
        assert!(matches!(error, Error::Connection(ConnectionError::PoolerRefused { .. })), "{error:?}");
    }
    let direct = stage.database().operator().await.unwrap();
    let (client, connection) = tokio_postgres::connect(&stage.direct_url(), tokio_postgres::NoTls).await.unwrap();
    tokio::spawn(connection);
    let made: i64 =
        client.query_one("select count(*) from pg_class where relname in ('stray', 'x')", &[]).await.unwrap().get(0);
    assert_eq!(made, 0);
    // The control: on the server itself the same files are applied, once the pooler's sessions and their locks are gone.
    client.execute("select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() and pid in (select pid from pg_locks where locktype = 'advisory')", &[]).await.unwrap();
    let report = migrate::run(&direct, &migrations, plan(&direct).await, &mut Silent).await.unwrap();
    assert_eq!(report.migrated(), 2, "{report:?}");
}

/// Fault 6 of those found in other runners: a lock that stays behind in the pooler's session, and a search path that leads
/// the next tenant's migration elsewhere.
#[tokio::test]
async fn a_migration_behind_a_hidden_pooler_lands_in_its_schemas_and_leaves_no_lock() {
    let stage = Stage::with_server_connections(2).await;
    let sql = "create table landed as select current_schema()::text as place";
    let migrations = Migrations::bundled().with_file(Set::Tenant, "900_x.sql", sql).unwrap();
    let hidden = Operator::connect(&Config::from_url(&stage.url()).unwrap()).await.unwrap();
    let planned = migrate::plan_fleet(&hidden, &migrations, &Scope::Tenants, Target::Head).await.unwrap();
    // Each message may go to another backend than the one before.
    two_backends(&stage).await;
    let report = migrate::run(&hidden, &migrations, planned, &mut Silent).await.unwrap();
    assert_eq!((report.migrated(), report.failed()), (2, 0), "{report:?}");
    let (direct, connection) = tokio_postgres::connect(&stage.direct_url(), tokio_postgres::NoTls).await.unwrap();
    tokio::spawn(connection);
    let number = async |sql: &str| direct.query_one(sql, &[]).await.unwrap().get::<_, i64>(0);
    let landed = "select (select count(*) from tenant_acme.landed where place = 'tenant_acme')
                       + (select count(*) from tenant_globex.landed where place = 'tenant_globex')";
    assert_eq!(number(landed).await, 2);
    assert_eq!(number("select count(*) from pg_class where relname = 'landed'").await, 2);
    let locks = "select count(*) from pg_locks l join pg_database d on d.oid = l.database
                 where l.locktype = 'advisory' and d.datname = current_database()";
    assert_eq!(number(locks).await, 0);
    // The control: the lock of a session outlives the client that took it, for nobody.
    let careless = stage.raw_client().await;
    careless.query_typed("select pg_advisory_lock(7)", &[]).await.unwrap();
    drop(careless);
    let stranger = stage.raw_client().await;
    stranger.query_typed("select 1", &[]).await.unwrap();
    assert_eq!(number(locks).await, 1);
}

/// Makes the pooler open both of its server connections.
async fn two_backends(stage: &Stage) {
    let (mut one, mut two) = (stage.raw_client().await, stage.raw_client().await);
    let (one, two) = (one.transaction().await.unwrap(), two.transaction().await.unwrap());
    let mut pids = Vec::new();
    for transaction in [&one, &two] {
        pids.push(transaction.query_typed(PID, &[]).await.unwrap()[0].get::<_, i32>(0));
    }
    assert_ne!(pids[0], pids[1]);
    one.rollback().await.unwrap();
    two.rollback().await.unwrap();
}
