//! `public.cgk_enter` and `public.cgk_check`: what they set, what they refuse and by which code, and that no entry
//! passes a suspension.

use crate::stage::{Stage, address, connect, dice, report, run, slug};
use cgk::{
    Operator,
    config::Isolation,
    lock,
    login::{self, LoginOptions, PasswordChange},
};
use rand::RngExt;
use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};
use tokio_postgres::{Client, NoTls, SimpleQueryMessage};

/// A session of a service's login that knows nothing of cgk's library.
pub(crate) async fn service(stage: &Stage, isolation: Isolation) -> Client {
    if isolation == Isolation::Path {
        stage.sql(&format!("alter database \"{}\" set cgk.isolation = 'path'", stage.database.name())).await;
    }
    let operator = Operator::connect(&stage.config().with_isolation(isolation)).await.unwrap();
    let mut options = LoginOptions::default();
    options.password = PasswordChange::New;
    let admission = login::admit(&operator, &stage.app_name(), &options).await.unwrap();
    let mut config = address(stage.database.name());
    config.user(stage.app_name().as_str()).password(admission.password.unwrap().reveal());
    let (client, connection) = config.connect(NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}

/// The rows of a message, in the simple protocol: a service may send several statements at once.
#[expect(clippy::disallowed_methods, reason = "a session that knows nothing of the library")]
pub(super) async fn rows(client: &Client, sql: &str) -> Result<Vec<Vec<Option<String>>>, String> {
    let answers = client.simple_query(sql).await.map_err(|error| code(&error))?;
    let rows = answers.iter().filter_map(|answer| match answer {
        SimpleQueryMessage::Row(row) => Some((0..row.len()).map(|column| row.get(column).map(str::to_owned)).collect()),
        _ => None,
    });
    Ok(rows.collect())
}

pub(super) fn code(error: &tokio_postgres::Error) -> String {
    error.code().map_or_else(|| error.to_string(), |code| code.code().to_owned())
}

pub(crate) async fn one(client: &Client, sql: &str) -> String {
    let rows = rows(client, sql).await.unwrap_or_else(|code| panic!("{sql}: {code}"));
    rows[0].iter().map(|value| value.clone().unwrap_or_else(|| "null".into())).collect::<Vec<_>>().join(" ")
}

/// The code of a statement in a transaction of its own that is rolled back.
pub(super) async fn refused(client: &Client, begin: &str, sql: &str) -> String {
    run(client, begin).await.unwrap();
    let outcome = rows(client, sql).await;
    run(client, "rollback").await.unwrap();
    outcome.err().unwrap_or_else(|| "none".into())
}

const INSIDE: &str = "select current_user, session_user, current_setting('search_path'), current_setting('statement_timeout'),
    current_setting('lock_timeout'), current_setting('idle_in_transaction_session_timeout'), (select tag from marks where n = 0)";

#[tokio::test]
async fn a_transaction_is_in_its_tenant_and_the_session_is_not() {
    for isolation in [Isolation::Role, Isolation::Path] {
        let stage = Stage::set().await;
        let client = service(&stage, isolation).await;
        let login = stage.app_name().as_str().to_owned();
        let outside = one(&client, &INSIDE.replace("(select tag from marks where n = 0)", "1")).await;
        for tenant in ["acme", "globex", "acme"] {
            run(&client, "begin").await.unwrap();
            let id = one(&client, &format!("select public.cgk_enter('{tenant}')")).await;
            assert_eq!(id, one(&stage.watch, &format!("select id from organizations where slug = '{tenant}'")).await);
            let user = if isolation == Isolation::Role { stage.role(tenant) } else { login.clone() };
            assert_eq!(
                one(&client, INSIDE).await,
                format!("{user} {login} tenant_{tenant}, public, pg_temp 30s 3s 1min {tenant}")
            );
            assert_eq!(one(&client, "select current_setting('app.current_organization_id')").await, id);
            // The library's lock on the tenant, shared.
            let held = format!(
                "select count(*) from pg_locks where locktype = 'advisory' and mode = 'ShareLock' and granted and pid <> pg_backend_pid()
                 and database = (select oid from pg_database where datname = current_database())
                 and (classid::bigint << 32) + objid::bigint = {}",
                lock::tenant_key(&slug(tenant))
            );
            assert_eq!(stage.number(&held).await, 1);
            assert_eq!(one(&client, &format!("select public.cgk_check('{tenant}')")).await, tenant);
            run(&client, "commit").await.unwrap();
            assert_eq!(one(&client, &INSIDE.replace("(select tag from marks where n = 0)", "1")).await, outside);
        }
        // Timeouts of the caller's own, and those of the session.
        run(&client, "begin; set local lock_timeout = '7s'").await.unwrap();
        one(&client, "select public.cgk_enter('acme', statement_timeout => '5s', lock_timeout => null)").await;
        assert!(one(&client, INSIDE).await.contains(" 5s 7s 1min "));
        run(&client, "rollback").await.unwrap();
    }
}

#[tokio::test]
async fn what_cannot_be_entered_is_refused_by_a_code_of_its_own() {
    for isolation in [Isolation::Role, Isolation::Path] {
        let stage = Stage::set().await;
        stage.database.with_tenants(&["sleepy", "newcomer", "bare", "taken"]).await.unwrap();
        let client = service(&stage, isolation).await;
        let (login, other) = (stage.app_name(), "cgk organization 00000000-0000-0000-0000-000000000000");
        let take = match isolation {
            Isolation::Role => format!("revoke usage on schema tenant_bare from {}", stage.role("bare")),
            Isolation::Path => format!("revoke usage on schema tenant_bare from {}", login.as_str()),
        };
        stage
            .sql(&format!(
                "update organizations set status = 'suspended' where slug = 'sleepy';
                 update organizations set status = 'onboarding' where slug = 'newcomer';
                 {take}; comment on schema tenant_taken is '{other}'"
            ))
            .await;
        for (begin, tenant, expected) in [
            ("begin", "'nope'", "TN401"),
            ("begin", "null", "TN401"),
            ("begin", "''", "TN401"),
            ("begin", "'Acme'", "TN401"),
            ("begin", "'acme, tenant_globex'", "TN401"),
            ("begin", "E'acme\\n'", "TN401"),
            ("begin", "'acme'' or true --'", "TN401"),
            ("begin", "repeat('a', 49)", "TN401"),
            ("begin", "'sleepy'", "TN402"),
            ("begin", "'newcomer'", "TN403"),
            ("begin", "'bare'", "TN403"),
            ("begin", "'taken'", "TN404"),
            ("begin isolation level repeatable read", "'acme'", "TN407"),
            ("begin isolation level serializable", "'acme'", "TN407"),
            ("begin read only", "'acme'", "none"),
            ("begin", "'acme'", "none"),
        ] {
            let sql = format!("select public.cgk_enter({tenant})");
            assert_eq!(refused(&client, begin, &sql).await, expected, "{isolation:?}, {begin}: {sql}");
        }
        // A name from a request fills no log.
        run(&client, "begin").await.unwrap();
        let refusal = run(&client, "select public.cgk_enter(repeat('x', 5000))").await.unwrap_err();
        assert_eq!(refusal.as_db_error().unwrap().message(), format!("there is no tenant '{}'", "x".repeat(64)));
        run(&client, "rollback").await.unwrap();
        // Inside: the same tenant is no change, another one is refused, and the check knows what is left.
        let enter = "select public.cgk_enter('acme')";
        for (sql, expected) in [
            (enter, "none"),
            ("select public.cgk_enter('globex')", "TN405"),
            ("select public.cgk_check('globex')", "TN501"),
            ("select public.cgk_check(null)", "TN501"),
            ("set local search_path = tenant_globex, public; select public.cgk_check('acme')", "TN501"),
            ("commit; begin; select public.cgk_check('acme')", "TN501"),
        ] {
            assert_eq!(refused(&client, "begin", &format!("{enter}; {sql}")).await, expected, "{isolation:?}: {sql}");
        }
        if isolation == Isolation::Role {
            let sql = format!("{enter}; reset role; select public.cgk_check('acme')");
            assert_eq!(refused(&client, "begin", &sql).await, "TN501");
        }
        // Back to the login there is no way into another tenant, nor into the same one.
        for again in ["acme", "globex"] {
            let sql = format!("{enter}; reset role; select public.cgk_enter('{again}')");
            let expected = match (isolation, again) {
                (Isolation::Path, "acme") => "none",
                _ => "TN405",
            };
            assert_eq!(refused(&client, "begin", &sql).await, expected, "{isolation:?}: {again}");
        }
        // A schema that says nothing of an organization, as older versions made them, is the tenant's.
        stage.sql("comment on schema tenant_taken is null").await;
        assert_eq!(refused(&client, "begin", "select public.cgk_enter('taken')").await, "none");
    }
}

/// A login that only has a name like those of tenants' roles enters as any other; as a tenant's role nobody enters another one.
#[tokio::test]
async fn a_login_with_a_name_like_a_tenants_role_enters() {
    let stage = Stage::set().await;
    let name = format!("cgk_{}_ops", stage.app_name().as_str());
    let client = connect(stage.database.name()).await;
    stage.sql(&format!("create role {name} superuser")).await;
    // The tenant's own role alone is not the tenant: path, organization and lock are missing.
    for (role, expected) in [(name.clone(), "none"), (stage.role("globex"), "TN405"), (stage.role("acme"), "TN405")] {
        let begin = format!("begin; set local role {role}");
        assert_eq!(refused(&client, &begin, "select public.cgk_enter('acme')").await, expected, "{role}");
    }
    stage.sql(&format!("drop role {name}")).await;
}

/// A function sees that it is called outside of a transaction block where the transaction began with this very message, as a
/// simple query's does. In the extended protocol nothing stays set, and whatever follows is not in the tenant.
#[tokio::test]
async fn without_a_transaction_block_no_tenant_is_entered() {
    for isolation in [Isolation::Role, Isolation::Path] {
        let stage = Stage::set().await;
        stage.sql("drop table public.marks").await;
        let client = service(&stage, isolation).await;
        // A simple query, and one message with BEGIN in it.
        for sql in ["select public.cgk_enter('acme')", "begin; select public.cgk_enter('acme')"] {
            assert_eq!(rows(&client, sql).await.unwrap_err(), "TN406", "{sql}");
            run(&client, "rollback").await.unwrap();
        }
        // The extended protocol: the server has begun the transaction with an earlier message.
        let prepared = client.prepare("select public.cgk_enter('acme')").await.unwrap();
        client.query(&prepared, &[]).await.unwrap();
        client.query_typed("select public.cgk_enter('acme')", &[]).await.unwrap();
        assert_eq!(code(&client.query_typed("select tag from marks", &[]).await.unwrap_err()), "42P01");
        assert_eq!(code(&client.query_typed("select public.cgk_check('acme')", &[]).await.unwrap_err()), "TN501");
        // The control: with a block, prepared and typed, it is entered.
        run(&client, "begin").await.unwrap();
        client.query(&prepared, &[]).await.unwrap();
        client.query_typed("select public.cgk_check('acme')", &[]).await.unwrap();
        run(&client, "commit").await.unwrap();
    }
}

/// Extensions that do not live in public are found behind what the tenant and the platform have.
#[tokio::test]
async fn the_schemas_of_extensions_are_on_the_path() {
    let stage = Stage::set().await;
    let name = stage.database.name();
    stage
        .sql(
            "create schema extensions; grant usage on schema extensions to public;
             create function extensions.of_an_extension() returns int language sql as 'select 1';
             create table extensions.marks (tag text, n int); grant select on extensions.marks to public",
        )
        .await;
    let client = service(&stage, Isolation::Role).await;
    let sql = "select public.cgk_enter('acme'); select of_an_extension()";
    // The control: without the setting it is not found.
    assert_eq!(refused(&client, "begin", sql).await, "42883");
    stage.sql(&format!("alter database \"{name}\" set cgk.extension_schemas = 'extensions'")).await;
    let client = service(&stage, Isolation::Role).await;
    assert_eq!(refused(&client, "begin", sql).await, "none");
    run(&client, "begin").await.unwrap();
    one(&client, "select public.cgk_enter('acme')").await;
    let seen = one(&client, "select current_setting('search_path'), tag from marks where n = 0").await;
    assert_eq!(seen, "tenant_acme, public, extensions, pg_temp acme");
    one(&client, "select public.cgk_check('acme')").await;
    run(&client, "rollback").await.unwrap();
}

/// Whoever suspends a tenant commits that and then takes the tenant's lock: from then on nobody is inside, and nobody gets
/// in, however the two meet.
#[tokio::test]
async fn no_entry_passes_a_suspension() {
    let stage = Arc::new(Stage::set().await);
    let _app = service(&stage, Isolation::Role).await;
    let key = lock::tenant_key(&slug("acme"));
    let (entered, refused) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let suspended = Arc::new(AtomicUsize::new(0));
    let stop = Arc::new(AtomicUsize::new(0));
    let mut workers = Vec::new();
    for _ in 0..4 {
        let client = connect(stage.database.name()).await;
        let (entered, refused, suspended, stop) =
            (Arc::clone(&entered), Arc::clone(&refused), Arc::clone(&suspended), Arc::clone(&stop));
        workers.push(tokio::spawn(async move {
            while stop.load(Ordering::SeqCst) == 0 {
                run(&client, "begin").await.unwrap();
                match rows(&client, "select public.cgk_enter('acme')").await {
                    Ok(_) => {
                        // The lock keeps the suspension from being complete while this is inside.
                        assert_eq!(suspended.load(Ordering::SeqCst), 0, "inside a suspended tenant");
                        rows(&client, "select count(*) from marks").await.unwrap();
                        assert_eq!(suspended.load(Ordering::SeqCst), 0, "inside a suspended tenant");
                        entered.fetch_add(1, Ordering::SeqCst);
                    }
                    Err(code) => {
                        assert_eq!(code, "TN402");
                        refused.fetch_add(1, Ordering::SeqCst);
                    }
                }
                run(&client, "rollback").await.unwrap();
            }
        }));
    }
    let mut dice = dice();
    for _ in 0..150 {
        stage.sql("update organizations set status = 'suspended' where slug = 'acme'").await;
        stage.sql(&format!("begin; select pg_advisory_xact_lock({key})")).await;
        suspended.store(1, Ordering::SeqCst);
        stage.sql("commit").await;
        for _ in 0..dice.random_range(0..5) {
            stage.sql("select 1").await;
        }
        suspended.store(0, Ordering::SeqCst);
        stage.sql("update organizations set status = 'active' where slug = 'acme'").await;
        let seen = entered.load(Ordering::SeqCst);
        for _ in 0..10_000 {
            if entered.load(Ordering::SeqCst) > seen {
                break;
            }
            stage.sql("select 1").await;
        }
    }
    stop.store(1, Ordering::SeqCst);
    for worker in workers {
        worker.await.unwrap();
    }
    let (entered, refused) = (entered.load(Ordering::SeqCst), refused.load(Ordering::SeqCst));
    report(&format!("suspension against entry: {entered} entered, {refused} refused, 0 inside"));
    assert!(entered > 100 && refused > 10, "{entered} entered, {refused} refused: the two hardly met");
}

/// An entry that waits for the lock judges by what was committed meanwhile, and its wait is bounded.
#[tokio::test]
async fn an_entry_that_waited_sees_what_was_committed_meanwhile() {
    let stage = Stage::set().await;
    let client = service(&stage, Isolation::Role).await;
    let holder = connect(stage.database.name()).await;
    let key = lock::tenant_key(&slug("acme"));
    run(&holder, &format!("begin; select pg_advisory_xact_lock({key})")).await.unwrap();
    // The wait ends after lock_timeout.
    run(&client, "begin").await.unwrap();
    assert_eq!(rows(&client, "select public.cgk_enter('acme', lock_timeout => '20ms')").await.unwrap_err(), "55P03");
    run(&client, "rollback; begin").await.unwrap();
    let entry = tokio::spawn(async move { rows(&client, "select public.cgk_enter('acme')").await });
    // The control: a look that shares its statement with the lock.
    let stale = connect(stage.database.name()).await;
    let sql =
        format!("select pg_advisory_xact_lock_shared({key}), (select status from organizations where slug = 'acme')");
    let stale = tokio::spawn(async move { one(&stale, &sql).await });
    stage.until("select count(*) = 2 from pg_locks where locktype = 'advisory' and not granted and database = (select oid from pg_database where datname = current_database())").await;
    stage.sql("update organizations set status = 'suspended' where slug = 'acme'").await;
    run(&holder, "commit").await.unwrap();
    assert_eq!(entry.await.unwrap().unwrap_err(), "TN402");
    assert_eq!(stale.await.unwrap(), " active");
}

/// The library and the functions on one database, at once: each keeps what the other has written.
#[tokio::test]
async fn the_library_and_the_functions_mix() {
    for isolation in [Isolation::Role, Isolation::Path] {
        let stage = Stage::set().await;
        let client = service(&stage, isolation).await;
        let db = stage.app(isolation, login::SharedTables::Registry).await;
        for n in 1..=20 {
            run(&client, "begin").await.unwrap();
            one(&client, "select public.cgk_enter('acme')").await;
            run(&client, &format!("insert into marks (tag, n) values ('functions', {n})")).await.unwrap();
            // While that transaction is open.
            for tenant in ["acme", "globex"] {
                db.with_tenant(&slug(tenant), async |tx| {
                    // The same tenant may be entered inside, and another one may not.
                    tx.query_typed(&format!("select public.cgk_enter('{tenant}'), public.cgk_check('{tenant}')"), &[])
                        .await?;
                    tx.execute_typed("insert into marks (tag, n) values ('library', 1)", &[]).await
                })
                .await
                .unwrap();
            }
            one(&client, "select public.cgk_check('acme')").await;
            run(&client, "commit").await.unwrap();
        }
        let acme = slug("acme");
        let inside = db.with_tenant(&acme, async |tx| tx.query_typed("select public.cgk_enter('globex')", &[]).await);
        let refused = inside.await.unwrap_err();
        assert!(format!("{refused:?}").contains("TN405"), "{refused:?}");
        assert_eq!((stage.marks("acme", "functions").await, stage.marks("acme", "library").await), ((20, 0), (20, 20)));
    }
}

/// The two statements that the documentation gives for suspending a tenant: the first keeps others out, the second waits for those
/// who are inside.
#[tokio::test]
async fn a_suspension_as_it_is_documented_keeps_out_and_waits() {
    let page = include_str!("../../../docs/other-languages.md");
    let block = page.split("<!-- suspend -->\n```sql\n").nth(1).unwrap().split("\n```").next().unwrap();
    let [suspend, wait] = block.lines().collect::<Vec<_>>()[..] else { panic!("{block}") };
    let stage = Stage::set().await;
    let (inside, next) = (connect(stage.database.name()).await, connect(stage.database.name()).await);
    let operator = connect(stage.database.name()).await;
    run(&inside, "begin").await.unwrap();
    run(&inside, "select public.cgk_enter('acme')").await.unwrap();
    run(&operator, suspend).await.unwrap();
    assert_eq!(refused(&next, "begin", "select public.cgk_enter('acme')").await, "TN402");
    let waiting = tokio::spawn(async move { run(&operator, wait).await });
    let waits = "select exists (select from pg_locks where locktype = 'advisory' and not granted
                 and database = (select oid from pg_database where datname = current_database()))";
    stage.until(waits).await;
    run(&inside, "insert into marks (tag, n) values ('late', 1)").await.unwrap();
    assert!(!waiting.is_finished());
    run(&inside, "commit").await.unwrap();
    waiting.await.unwrap().unwrap();
    assert_eq!(stage.marks("acme", "late").await, (1, 0), "what was inside has committed");
}
