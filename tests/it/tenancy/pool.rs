//! The pool behind the tenants: what is refused at once, what is replaced, and what a connection keeps (threats T14, T32, T34).

use crate::{
    stage::{Session, Stage, connect, dice, slug},
    support::patience::{HANG, must_end},
};
use cgk::{
    ConnectionError, Db, Error, TenantError, TransactionError,
    config::{PoolSettings, Pooling},
};
use rand::RngExt;
use std::time::{Duration, Instant};

#[tokio::test]
async fn nesting_on_a_pool_of_one_is_refused_at_once() {
    // Whoever waits for a connection does so for as long as the pool lets him.
    let stage = Stage::set_with(|config| config.with_pool_wait(HANG * 2)).await;
    let acme = slug("acme");
    let nested = stage.db.with_tenant(&acme, async |tx| {
        tx.execute("insert into marks values ('nested', 1)", &[]).await?;
        stage.db.with_tenant(&slug("globex"), async |_| Ok(())).await
    });
    let error = must_end("the refusal", nested).await.unwrap_err();
    assert!(matches!(error, Error::Transaction(TransactionError::NestedTenant { size_max: 1, .. })), "{error:?}");
    assert_eq!(stage.marks("acme", "nested").await, (0, 0));
    stage.next_user(&stage.db, "globex").await;
}

#[tokio::test]
async fn nesting_takes_a_connection_of_its_own() {
    let stage = Stage::set_with(|config| config.with_pool_size_max(2)).await;
    let (outer, inner, third) = stage
        .db
        .with_tenant(&slug("acme"), async |tx| {
            let inner = stage
                .db
                .with_tenant(&slug("globex"), async |tx| {
                    let third = stage.db.with_tenant(&slug("acme"), async |_| Ok(())).await;
                    Ok((Session::read(tx).await?, third))
                })
                .await?;
            Ok((Session::read(tx).await?, inner.0, inner.1))
        })
        .await
        .unwrap();
    outer.assert_clean("acme", &stage.role("acme"));
    inner.assert_clean("globex", &stage.role("globex"));
    assert_ne!(outer.pid, inner.pid);
    assert!(matches!(third, Err(Error::Transaction(TransactionError::NestedTenant { size_max: 2, .. }))), "{third:?}");
}

#[tokio::test]
async fn a_busy_pool_is_waited_for_as_long_as_configured() {
    let wait = Duration::from_millis(100);
    let stage = Stage::set_with(|config| config.with_pool_wait(wait)).await;
    let (entered, hold) = (tokio::sync::Notify::new(), tokio::sync::Notify::new());
    let acme = slug("acme");
    let holder = stage.db.with_tenant(&acme, async |tx| {
        tx.query("select 1", &[]).await?;
        entered.notify_one();
        hold.notified().await;
        Ok(())
    });
    let other = async {
        entered.notified().await;
        let began = Instant::now();
        let error = stage.db.with_tenant(&slug("globex"), async |_| Ok(())).await.unwrap_err();
        assert!(
            matches!(error, Error::Connection(ConnectionError::PoolTimeout { waited }) if waited == wait),
            "{error:?}"
        );
        assert!(began.elapsed() >= wait, "it waited {:?}", began.elapsed());
        hold.notify_one();
    };
    let (held, ()) = tokio::join!(holder, other);
    held.unwrap();
    stage.next_user(&stage.db, "globex").await;
}

#[tokio::test]
async fn a_connection_killed_while_idle_is_replaced() {
    let stage = Stage::set().await;
    let (_, pid) = stage.next_user(&stage.db, "acme").await;
    stage.sql(&format!("select pg_terminate_backend({pid})")).await;
    stage.until_gone(pid).await;
    // The driver's task has to see the closed socket, which is a wake-up and not a time.
    let began = Instant::now();
    let next = loop {
        match stage.db.with_tenant(&slug("globex"), async |tx| Session::read(tx).await).await {
            Ok(session) => break session,
            Err(Error::Connection(ConnectionError::Lost { .. })) if began.elapsed() < HANG => {}
            Err(error) => panic!("{error:?}"),
        }
    };
    next.assert_clean("globex", &stage.role("globex"));
    assert_ne!(next.pid, pid);
}

#[tokio::test]
async fn a_connection_killed_inside_says_so_and_nothing_is_committed() {
    let stage = Stage::set().await;
    for (swallow, tag) in [(false, "killed"), (true, "hidden")] {
        let error = stage
            .db
            .with_tenant(&slug("acme"), async |tx| {
                tx.execute("insert into marks values ($1, 1)", &[&tag]).await?;
                let pid: i32 = tx.query_one("select pg_backend_pid()", &[]).await?.get(0);
                stage.sql(&format!("select pg_terminate_backend({pid})")).await;
                stage.until_gone(pid).await;
                let after = tx.execute("insert into marks values ($1, 2)", &[&tag]).await;
                assert!(matches!(after, Err(Error::Connection(ConnectionError::Lost { .. }))), "{after:?}");
                if swallow { Ok(0) } else { after }
            })
            .await
            .unwrap_err();
        // The loss was there before COMMIT could be sent, so nothing about it is unknown.
        assert!(matches!(error, Error::Connection(ConnectionError::Lost { .. })), "{error:?}");
        assert_eq!(stage.marks("acme", tag).await, (0, 0));
        stage.next_user(&stage.db, "globex").await;
    }
}

#[tokio::test]
async fn a_connection_is_replaced_when_it_is_old() {
    let pool = |age| PoolSettings { size_max: 1, connection_age_max: age, ..PoolSettings::default() };
    let young = Stage::set_with(|config| config.with_pool(pool(Duration::from_secs(60)))).await;
    let (_, first) = young.next_user(&young.db, "acme").await;
    assert_eq!(young.next_user(&young.db, "acme").await.1, first);
    let config = young.config().with_pool(pool(Duration::ZERO));
    let old = Db::connect(&config).await.unwrap();
    let (_, first) = young.next_user(&old, "acme").await;
    assert_ne!(young.next_user(&old, "acme").await.1, first);
}

#[tokio::test]
async fn a_connection_is_replaced_when_it_has_seen_enough_tenants() {
    let stage = Stage::set_with(|config| {
        config.with_pool(PoolSettings { size_max: 1, tenants_per_connection_max: 1, ..PoolSettings::default() })
    })
    .await;
    let (_, first) = stage.next_user(&stage.db, "acme").await;
    assert_eq!(stage.next_user(&stage.db, "acme").await.1, first);
    assert_eq!(stage.next_user(&stage.db, "globex").await.1, first);
    assert_ne!(stage.next_user(&stage.db, "globex").await.1, first);
}

/// No statement of a tenant keeps a name in the session: its text would be there for the next tenant to read, and its plan would
/// be older than the next migration.
#[tokio::test]
async fn statements_are_not_kept_in_the_session() {
    let stage = Stage::set().await;
    let (_, pid) = stage.next_user(&stage.db, "acme").await;
    let named = "select coalesce(string_agg(left(statement, 16), ','), '') from pg_prepared_statements";
    for n in 0..10 {
        let names: String = stage
            .db
            .with_tenant(&slug("acme"), async |tx| {
                let row = tx.query_one(&format!("select {n} + $1::int"), &[&1_i32]).await?;
                assert_eq!(row.get::<_, i32>(0), n + 1);
                Ok(tx.query_typed(named, &[]).await?[0].get(0))
            })
            .await
            .unwrap();
        assert_eq!(names, "/* cgk: enter */");
        stage.db.tenant(&slug("acme")).query(&format!("select {n} + $1::int8"), &[&1_i64]).await.unwrap();
        stage.db.platform().query(&format!("select {n} + $1::int8"), &[&1_i64]).await.unwrap();
        let names: String = stage.db.tenant(&slug("globex")).query_one(named, &[]).await.unwrap().get(0);
        assert_eq!(names, "/* cgk: enter */");
    }
    assert_eq!(stage.next_user(&stage.db, "acme").await.1, pid);
}

/// A statement whose description nobody waited for stays at the server, for the next tenant to read: its connection goes.
#[tokio::test]
async fn a_statement_abandoned_while_it_is_described_takes_its_connection_with_it() {
    let stage = Stage::set().await;
    for n in 0..5 {
        let (_, pid) = stage.next_user(&stage.db, "acme").await;
        let left: i64 = stage
            .db
            .with_tenant(&slug("acme"), async |tx| {
                tx.query_typed("select 1", &[]).await?;
                let sql = format!("select {n} + $1::int");
                // In a part that is rolled back, so that the transaction commits without the statement.
                let part = tx.savepoint().await?;
                let abandoned = futures_util::FutureExt::now_or_never(part.query(&sql, &[&1_i32]));
                assert!(abandoned.is_none());
                drop(part);
                let left = format!("select count(*) from pg_prepared_statements where statement = '{sql}'");
                Ok(tx.query_typed(&left, &[]).await?[0].get(0))
            })
            .await
            .unwrap();
        assert_eq!(left, 1, "this test proves nothing");
        assert_ne!(stage.next_user(&stage.db, "globex").await.1, pid);
    }
}

/// Tables change between two runs of the same text: the statement is parsed anew, so nothing is out of date.
#[tokio::test]
async fn a_statement_follows_its_table() {
    let stage = Stage::set().await;
    let acme = slug("acme");
    // More result columns, and another type of one: what a plan kept by name refuses with 0A000.
    stage.sql("create table tenant_acme.things (n int); insert into tenant_acme.things values (1)").await;
    let read = async || {
        let row =
            stage.db.with_tenant(&acme, async |tx| tx.query_one("select * from things", &[]).await).await.unwrap();
        row.columns().iter().map(|column| column.type_().name().to_owned()).collect::<Vec<_>>()
    };
    let control = connect(stage.database.name()).await;
    let kept = control.prepare("select * from tenant_acme.things").await.unwrap();
    assert_eq!(read().await, ["int4"]);
    stage.sql("alter table tenant_acme.things add column more text").await;
    assert_eq!(read().await, ["int4", "text"]);
    stage.sql("alter table tenant_acme.things alter column n type bigint").await;
    assert_eq!(read().await, ["int8", "text"]);
    let error = control.query(&kept, &[]).await.expect_err("a kept plan follows too: this test proves nothing");
    assert_eq!(error.code().unwrap().code(), "0A000");
    // A parameter that the driver was told another type for: it cannot be written, and the server is asked again.
    let write = async |n: &(dyn tokio_postgres::types::ToSql + Sync)| {
        let sql = "insert into things (n) values ($1)";
        stage.db.with_tenant(&acme, async |tx| tx.execute(sql, &[n]).await).await.unwrap();
    };
    write(&1_i64).await;
    stage.sql("alter table tenant_acme.things alter column n type text").await;
    write(&"one").await;
}

/// A parameter type that the server does not have any more: a single statement asks again by itself, a closure's fails once.
#[tokio::test]
async fn parameter_types_that_are_gone_are_asked_for_again() {
    let stage = Stage::set().await;
    let acme = slug("acme");
    let mood = |values: &str| {
        format!(
            "create type tenant_acme.mood_new as enum ({values});
             alter table tenant_acme.moods alter column m type tenant_acme.mood_new using m::text::tenant_acme.mood_new;
             drop type if exists tenant_acme.mood; alter type tenant_acme.mood_new rename to mood"
        )
    };
    stage.sql("create table tenant_acme.moods (m text)").await;
    let insert = "insert into moods values ($1)";
    let mut failed = 0;
    for values in ["'good'", "'good', 'bad'", "'bad', 'good'"] {
        stage.sql(&mood(values)).await;
        stage.db.tenant(&acme).execute(insert, &[&Mood]).await.unwrap();
        // A text of the closure's own, so that the single statement has not asked for it.
        let again = "insert into moods values ($1) returning 1";
        let call = async || stage.db.with_tenant(&acme, async |tx| tx.execute(again, &[&Mood]).await).await;
        if let Err(error) = call().await {
            assert_eq!(error.sqlstate().unwrap().code(), "XX000", "{error:?}");
            failed += 1;
            call().await.unwrap();
        }
    }
    assert_eq!(failed, 2, "the types were not out of date: this test proves nothing");
    assert_eq!(stage.number("select count(*) from tenant_acme.moods").await, 6);
}

/// The same text in two tenants whose tables differ: each has the types of its own.
#[tokio::test]
async fn parameter_types_are_those_of_the_tenant() {
    let stage = Stage::set().await;
    stage
        .sql(
            "create type tenant_acme.mood as enum ('good'); create table tenant_acme.moods (m tenant_acme.mood);
             create type tenant_globex.mood as enum ('good'); create table tenant_globex.moods (m tenant_globex.mood)",
        )
        .await;
    for tenant in ["acme", "globex"].repeat(3) {
        let insert = "insert into moods values ($1)";
        stage.db.with_tenant(&slug(tenant), async |tx| tx.execute(insert, &[&Mood]).await).await.unwrap();
    }
    // The control: with the other tenant's type, the server refuses it.
    let as_text = [(&"good" as &(dyn tokio_postgres::types::ToSql + Sync), tokio_postgres::types::Type::TEXT)];
    let insert = "insert into moods values ($1)";
    let wrong = stage.db.with_tenant(&slug("globex"), async |tx| tx.execute_typed(insert, &as_text).await).await;
    assert_eq!(wrong.unwrap_err().sqlstate().unwrap().code(), "42804");
}

/// A value of an enum, whatever the enum's type is.
#[derive(Debug)]
struct Mood;

impl tokio_postgres::types::ToSql for Mood {
    fn to_sql(
        &self,
        _: &tokio_postgres::types::Type,
        out: &mut bytes::BytesMut,
    ) -> Result<tokio_postgres::types::IsNull, Box<dyn std::error::Error + Sync + Send>> {
        out.extend_from_slice(b"good");
        Ok(tokio_postgres::types::IsNull::No)
    }

    fn accepts(ty: &tokio_postgres::types::Type) -> bool {
        matches!(ty.kind(), tokio_postgres::types::Kind::Enum(_))
    }

    tokio_postgres::types::to_sql_checked!();
}

/// The driver looks types up by statements that it keeps. They stay, and so does the connection; where a block has dropped them
/// the connection goes, before the driver misses them.
#[tokio::test]
async fn the_drivers_own_statements_stay_or_the_connection_goes() {
    let stage = Stage::set().await;
    stage
        .sql(
            "create type public.one as enum ('a'); create type public.two as enum ('a');
             create type public.pair as (a int, b text)",
        )
        .await;
    let (_, pid) = stage.next_user(&stage.db, "acme").await;
    let acme = slug("acme");
    stage.db.tenant(&acme).query("select 'a'::public.one, (1, 'x')::public.pair", &[]).await.unwrap();
    let (_, same) = stage.next_user(&stage.db, "globex").await;
    assert_eq!(same, pid, "the driver's own statements cost a connection");
    stage.db.with_tenant(&acme, async |tx| tx.query("select 'a'::public.two", &[]).await.map(drop)).await.unwrap();
    let dropped =
        "do $$ declare s record; begin for s in select * from pg_prepared_statements where statement like 'SELECT%'
                   loop execute format('deallocate %I', s.name); end loop; end $$";
    stage.db.tenant(&acme).execute(dropped, &[]).await.unwrap();
    let (_, other) = stage.next_user(&stage.db, "globex").await;
    assert_ne!(other, pid, "the driver misses its statements on this connection");
    stage.db.tenant(&acme).query("select 'a'::public.two", &[]).await.unwrap();
}

/// The same where the driver's statements were made and dropped in one transaction: a failure that says that they are gone costs
/// the connection.
#[tokio::test]
async fn a_driver_that_misses_its_statements_is_not_used_again() {
    let stage = Stage::set().await;
    let types = "create type public.one as enum ('a'); create type public.two as enum ('a'); create type public.three as enum ('a')";
    stage.sql(types).await;
    let (_, pid) = stage.next_user(&stage.db, "acme").await;
    let dropped =
        "do $$ declare s record; begin for s in select * from pg_prepared_statements where statement like 'SELECT%'
                   loop execute format('deallocate %I', s.name); end loop; end $$";
    let acme = slug("acme");
    let missed = stage.db.with_tenant(&acme, async |tx| {
        tx.query("select 'a'::public.one", &[]).await?;
        tx.execute_typed(dropped, &[]).await?;
        tx.query("select 'a'::public.two", &[]).await.map(drop)
    });
    let error = missed.await.unwrap_err();
    assert_eq!(error.sqlstate().map(|state| state.code()), Some("26000"), "{error:?}");
    let (_, other) = stage.next_user(&stage.db, "globex").await;
    assert_ne!(other, pid, "the driver misses its statements on this connection");
    stage.db.tenant(&slug("globex")).query("select 'a'::public.three", &[]).await.unwrap();
}

/// A closure that drops the session's statements, said or hidden, costs the next user nothing, on every way and ending.
#[tokio::test]
async fn statements_dropped_behind_the_driver_hurt_nobody() {
    let stage = Stage::set().await;
    let (acme, globex) = (slug("acme"), slug("globex"));
    for sql in ["deallocate all", "do $$ begin execute 'deallocate all'; end $$"] {
        let next = async |what: &str| {
            for _ in 0..2 {
                let read = stage.db.with_tenant(&globex, async |tx| tx.query("select 1", &[]).await.map(drop)).await;
                read.unwrap_or_else(|error| panic!("{what}, {sql}: {error:?}"));
                stage.db.tenant(&globex).query("select 1", &[]).await.unwrap();
                stage.db.platform().query("select 1", &[]).await.unwrap();
            }
        };
        let (_, pid) = stage.next_user(&stage.db, "acme").await;
        stage.db.with_tenant(&acme, async |tx| tx.execute_typed(sql, &[]).await).await.unwrap();
        next("with_tenant, Ok").await;
        assert_ne!(stage.next_user(&stage.db, "acme").await.1, pid, "{sql}: nothing was dropped");
        let failed = stage
            .db
            .with_tenant(&acme, async |tx| {
                tx.execute_typed(sql, &[]).await?;
                Err::<(), _>(Error::Tenant(TenantError::NotFound { tenant: slug("nobody") }))
            })
            .await;
        assert!(failed.is_err());
        next("with_tenant, Err").await;
        stage.db.tenant(&acme).execute_typed(sql, &[]).await.unwrap();
        next("one statement").await;
        stage.db.platform().execute_typed(sql, &[]).await.unwrap();
        next("platform, Ok").await;
        let failed = stage
            .db
            .platform()
            .transaction(async |tx| {
                tx.execute_typed(sql, &[]).await?;
                Err::<(), _>(Error::Tenant(TenantError::NotFound { tenant: slug("nobody") }))
            })
            .await;
        assert!(failed.is_err());
        next("platform, Err").await;
        let (reached, wait) = tokio::sync::oneshot::channel();
        let mut reached = Some(reached);
        let visit = stage.db.with_tenant(&acme, async |tx| {
            tx.execute_typed(sql, &[]).await?;
            let _ = reached.take().unwrap().send(());
            std::future::pending::<Result<(), Error>>().await
        });
        tokio::select! {
            _ = visit => unreachable!("it waits for ever"),
            reached = wait => reached.unwrap(),
        }
        next("with_tenant, dropped").await;
        let task = stage.db.clone();
        let panicked = tokio::spawn(async move {
            task.with_tenant(&slug("acme"), async |tx| {
                tx.execute_typed(sql, &[]).await?;
                if true {
                    panic!("on purpose");
                }
                Ok(())
            })
            .await
        });
        assert!(panicked.await.is_err());
        next("with_tenant, panic").await;
    }
}

/// One connection, two tenants whose tables have their columns in another order, cached statements: never the other's rows.
#[tokio::test]
async fn cached_statements_follow_the_tenant() {
    let stage = Stage::set().await;
    let mut dice = dice();
    let (_, pid) = stage.next_user(&stage.db, "acme").await;
    for _ in 0..200 {
        let name = if dice.random() { "acme" } else { "globex" };
        let (tag, backend) = stage
            .db
            .with_tenant(&slug(name), async |tx| {
                let row = tx.query_one("select tag, n, pg_backend_pid() from marks where n = 0", &[]).await?;
                Ok((row.get::<_, String>(0), row.get::<_, i32>(2)))
            })
            .await
            .unwrap();
        assert_eq!((tag.as_str(), backend), (name, pid));
    }
}

#[tokio::test]
async fn behind_a_pooler_nothing_is_left_prepared() {
    let stage = Stage::set_with(|config| config.with_pooling(Pooling::Transaction)).await;
    let acme = slug("acme");
    let named = "select count(*) from pg_prepared_statements";
    let prepared: i64 = stage
        .db
        .with_tenant(&acme, async |tx| {
            tx.execute("insert into marks values ($1, 1)", &[&"pooled"]).await?;
            tx.execute_typed("do $$ begin execute 'prepare hidden as select 1'; end $$", &[]).await?;
            {
                let part = tx.savepoint().await?;
                part.execute("insert into marks values ('pooled', $1)", &[&2_i32]).await?;
            }
            Ok(tx.query_typed(named, &[]).await?[0].get(0))
        })
        .await
        .unwrap();
    assert_eq!(prepared, 1, "the hidden one, and none of cgk's");
    let left: i64 = stage.db.tenant(&slug("globex")).query_one(named, &[]).await.unwrap().get(0);
    assert_eq!(left, 0);
    assert_eq!(stage.marks("acme", "pooled").await, (1, 0));
}

/// A server that stops and starts: a typed error meanwhile, and work afterwards.
#[tokio::test]
async fn a_server_that_refuses_connections_is_unavailable_and_then_works() {
    let stage = Stage::set().await;
    let (_, pid) = stage.next_user(&stage.db, "acme").await;
    let name = stage.database.name();
    // The same to a client, without stopping the server of the other tests.
    let elsewhere = connect("postgres").await;
    crate::stage::run(&elsewhere, &format!("alter database \"{name}\" with allow_connections false")).await.unwrap();
    stage.sql(&format!("select pg_terminate_backend({pid})")).await;
    stage.until_gone(pid).await;
    let mut outcome = stage.db.with_tenant(&slug("acme"), async |_| Ok(())).await;
    if matches!(outcome, Err(Error::Connection(ConnectionError::Lost { .. }))) {
        outcome = stage.db.with_tenant(&slug("acme"), async |_| Ok(())).await;
    }
    let error = outcome.unwrap_err();
    assert_eq!(error.kind(), cgk::ErrorKind::Unavailable, "{error:?}");
    crate::stage::run(&elsewhere, &format!("alter database \"{name}\" with allow_connections true")).await.unwrap();
    stage.next_user(&stage.db, "acme").await;
}
