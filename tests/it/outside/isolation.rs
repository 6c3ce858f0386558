//! What an outside tester tried against the isolation side, with ideas from public reports of other libraries: what held, and
//! the faults that are fixed.

use crate::{
    stage::{Stage, connect, run, slug},
    support::patience::must_end,
};
use bytes::Bytes;
use cgk::{
    Db, Error, ErrorKind, TransactionError, TxOptions,
    config::{Isolation, Pooling},
    login::SharedTables,
};
use futures_util::{FutureExt, SinkExt};
use std::{
    future::Future,
    pin::pin,
    task::{Context, Waker},
    time::Duration,
};

const COPY: &str = "copy marks (tag, n) from stdin";

/// A COPY that is sent as a statement writes, and its commit is on its way: an error then must not say that it failed.
#[tokio::test]
async fn a_single_copy_that_writes_and_is_answered_with_an_error_is_not_committed() {
    let stage = Stage::set().await;
    let mut wrong = Vec::new();
    for typed in [true, false] {
        let sql = "copy (insert into marks (tag, n) values ('copied', 1) returning tag) to stdout";
        let acme = slug("acme");
        let outcome = must_end("copy", async {
            if typed {
                stage.db.tenant(&acme).execute_typed(sql, &[]).await
            } else {
                stage.db.tenant(&acme).execute(sql, &[]).await
            }
        })
        .await;
        let (rows, _) = stage.marks("acme", "copied").await;
        stage.sql("delete from tenant_acme.marks where tag = 'copied'").await;
        if outcome.is_err()
            && rows != 0
            && !matches!(outcome, Err(Error::Transaction(TransactionError::CommitUnknown { .. })))
        {
            wrong.push(format!("typed {typed}: {rows} rows committed, and {outcome:?}"));
        }
        stage.next_user(&stage.db, "globex").await;
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// Rows that the server cannot read are the caller's fault, not the connection's.
#[tokio::test]
async fn a_copy_whose_data_is_wrong_fails_as_a_statement() {
    let stage = Stage::set().await;
    let outcome: Result<(), Error> = must_end(
        "copy",
        stage.db.with_tenant(&slug("acme"), async |tx| {
            let mut sink = tx.copy_in::<Bytes>(COPY).await?;
            for _ in 0..2000 {
                sink.send(Bytes::from(format!("x\tno number\n{}", "y\t1\n".repeat(4000)))).await?;
            }
            sink.finish().await.map(drop)
        }),
    )
    .await;
    let error = outcome.unwrap_err();
    assert_eq!(
        (error.kind(), error.sqlstate().map(|state| state.code().to_owned())),
        (ErrorKind::Failed, Some("22P02".into())),
        "{error:?}"
    );
}

/// A savepoint whose future is dropped, as by a timeout around it: the transaction goes on.
async fn a_savepoint_that_is_dropped_while_it_is_made(pooling: Pooling) {
    let stage = Stage::set_with(|config| config.with_pooling(pooling)).await;
    let outcome = stage
        .db
        .with_tenant(&slug("acme"), async |tx| {
            assert!(tx.savepoint().now_or_never().is_none());
            tx.execute_typed("insert into marks (tag, n) values ('timeout', 1)", &[]).await
        })
        .await;
    assert!(outcome.is_ok(), "{outcome:?}");
    assert_eq!(stage.marks("acme", "timeout").await, (1, 0));
}

#[tokio::test]
async fn a_savepoint_dropped_while_it_is_made_is_rolled_back_on_a_connection_of_ones_own() {
    a_savepoint_that_is_dropped_while_it_is_made(Pooling::Direct).await;
}

/// "Dropped once it was polled, the statement goes on at the server. When the closure then returns `Ok`, the commit waits for it
/// and contains it."
async fn a_statement_dropped_once_it_was_polled(pooling: Pooling, typed: bool) {
    let stage = Stage::set_with(|config| config.with_pooling(pooling)).await;
    stage
        .db
        .with_tenant(&slug("acme"), async |tx| {
            let polled = match typed {
                true => tx.execute_typed("insert into marks (tag, n) values ('polled', 1)", &[]).now_or_never(),
                false => tx.execute("insert into marks (tag, n) values ('polled', $1)", &[&1_i32]).now_or_never(),
            };
            assert!(polled.is_none());
            Ok(())
        })
        .await
        .unwrap();
    assert_eq!(stage.marks("acme", "polled").await, (1, 0));
}

#[tokio::test]
async fn a_typed_statement_dropped_once_it_was_polled_is_committed() {
    a_statement_dropped_once_it_was_polled(Pooling::Direct, true).await;
}

/// django-tenants #1262: savepoints and what is remembered of them. SQL of the closure's own takes the name that cgk uses.
#[tokio::test]
async fn a_part_that_is_not_released_is_undone_whatever_savepoints_stand_in_it() {
    let stage = Stage::set().await;
    let outcome = stage
        .db
        .with_tenant(&slug("acme"), async |tx| {
            let part = tx.savepoint().await?;
            part.execute_typed("insert into marks (tag, n) values ('part', 1)", &[]).await?;
            part.execute_typed("savepoint cgk_1", &[]).await?;
            drop(part);
            Ok(())
        })
        .await;
    assert_eq!(stage.marks("acme", "part").await, (0, 0), "{outcome:?}");
}

/// The last statement before COMMIT: "raises an error unless the transaction is still in acme".
#[tokio::test]
async fn the_check_finds_another_organization_in_path_mode() {
    let stage = Stage::set().await;
    stage.sql("create or replace function cgk_isolation_modes() returns text stable parallel safe return 'path'").await;
    let client = connect(stage.database.name()).await;
    run(&client, "begin").await.unwrap();
    run(&client, "select public.cgk_enter('acme')").await.unwrap();
    run(&client, "select set_config('app.current_organization_id', gen_random_uuid()::text, true)").await.unwrap();
    let check = run(&client, "select public.cgk_check('acme')").await;
    run(&client, "rollback").await.unwrap();
    // What with_tenant says of the same.
    let db = Db::connect(&stage.config().with_isolation(Isolation::Path)).await.unwrap();
    let library = db
        .with_tenant(&slug("acme"), async |tx| {
            tx.execute("select set_config('app.current_organization_id', gen_random_uuid()::text, true)", &[]).await
        })
        .await;
    assert!(matches!(library, Err(Error::Transaction(TransactionError::Tampered { .. }))), "{library:?}");
    // The same as a service's login: a row of the other organization's is written and committed.
    stage.app(Isolation::Path, SharedTables::All).await;
    run(&client, &format!("set session authorization {}", stage.app_name().as_str())).await.unwrap();
    let globex = stage.watch.query_one("select id::text from organizations where slug = 'globex'", &[]).await.unwrap();
    let write = [
        "begin".to_owned(),
        "select public.cgk_enter('acme')".to_owned(),
        format!("select set_config('app.current_organization_id', '{}', true)", globex.get::<_, &str>(0)),
        format!("insert into users (organization_id, email) values ('{}', 'x@example.org')", globex.get::<_, &str>(0)),
        "select public.cgk_check('acme')".to_owned(),
        "commit".to_owned(),
    ];
    let mut outcomes = Vec::new();
    for sql in write {
        outcomes.push(run(&client, &sql).await);
    }
    let written = stage.number("select count(*) from users").await;
    assert!(check.is_err() && written == 0, "{check:?}, {written} rows written: {outcomes:?}");
}

/// CVE-2024-10976 and CVE-2023-2455: a function's plan over tables with row security, below a CTE, a subquery and a view, is made anew for
/// the next role on the same connection.
#[tokio::test]
async fn plans_of_functions_follow_the_role() {
    let stage = Stage::set().await;
    stage
        .sql(
            "create view public.orgs_v as select slug from organizations;
             create function public.f_cte() returns text language plpgsql as $f$ declare r text; begin
                 with o as materialized (select slug from organizations) select string_agg(slug, ',' order by slug) into r from o; return r; end $f$;
             create function public.f_sub() returns text language plpgsql as $f$ declare r text; begin
                 select string_agg(x.slug, ',' order by x.slug) into r from (select slug from organizations offset 0) x; return r; end $f$;
             create function public.f_link() returns text language plpgsql as $f$ declare r text; begin
                 select (select string_agg(o.slug, ',' order by o.slug) from organizations o) into r; return r; end $f$;
             create function public.f_inline() returns setof text language sql stable as 'select slug from organizations';
             create function public.f_in() returns text language plpgsql as $f$ declare r text; begin
                 select string_agg(x, ',' order by x) into r from f_inline() x; return r; end $f$;",
        )
        .await;
    let db = stage.app(Isolation::Role, SharedTables::All).await;
    let read = "select f_cte(), f_sub(), f_link(), f_in(), pg_backend_pid()";
    let mut pids = std::collections::BTreeSet::new();
    for _ in 0..8 {
        for (who, expected) in [("", "acme,globex"), ("acme", "acme"), ("globex", "globex")] {
            let row = match who {
                "" => db.platform().query_one(read, &[]).await.unwrap(),
                tenant => db.tenant(&slug(tenant)).query_one(read, &[]).await.unwrap(),
            };
            let seen: Vec<String> = (0..4).map(|n| row.get(n)).collect();
            assert_eq!(seen, vec![expected; 4], "{who}");
            pids.insert(row.get::<_, i32>(4));
        }
    }
    assert_eq!(pids.len(), 1, "other connections prove nothing");
}

/// Large objects, sequences' and the session's leftovers: what one tenant made, the next one on the connection cannot read.
#[tokio::test]
async fn a_large_object_of_one_tenant_is_not_read_by_another() {
    let stage = Stage::set().await;
    let made = stage
        .db
        .tenant(&slug("acme"))
        .query_one("select lo_from_bytea(0, 'secret'), pg_backend_pid()", &[])
        .await
        .unwrap();
    let oid: u32 = made.get(0);
    for (tenant, may) in [("globex", false), ("acme", true)] {
        let read = stage.db.tenant(&slug(tenant)).query_one("select lo_get($1), pg_backend_pid()", &[&oid]).await;
        assert_eq!(read.is_ok(), may, "{tenant}: {read:?}");
    }
}

/// Two schemas whose names were exchanged: neither the library nor the function enters.
#[tokio::test]
async fn exchanged_schemas_are_entered_by_nobody() {
    let stage = Stage::set().await;
    stage.sql("alter schema tenant_acme rename to x; alter schema tenant_globex rename to tenant_acme; alter schema x rename to tenant_globex").await;
    for isolation in [Isolation::Role, Isolation::Path] {
        let db = Db::connect(&stage.config().with_isolation(isolation)).await.unwrap();
        for tenant in ["acme", "globex"] {
            let read = db.tenant(&slug(tenant)).query("select tag from marks", &[]).await;
            assert!(read.is_err(), "{isolation:?}, {tenant}: {read:?}");
        }
    }
    let client = connect(stage.database.name()).await;
    run(&client, "begin").await.unwrap();
    let error = run(&client, "set cgk.isolation = 'path'; select public.cgk_enter('acme')").await.unwrap_err();
    assert_eq!(error.code().unwrap().code(), "TN404");
}

/// What is begun as a COPY and is none, or goes the other way: no hang, `Ok` means committed, and the next user finds nothing.
#[tokio::test]
async fn a_copy_that_is_none_hangs_nobody() {
    let stage = Stage::set().await;
    let insert = "insert into marks (tag, n) values ('none', 1)";
    let mut wrong = Vec::new();
    for (sql, inward) in [
        ("copy marks (tag, n) to stdout", true),
        (insert, true),
        ("select 1", true),
        ("", true),
        ("copy nothing from stdin", true),
        (COPY, false),
        (insert, false),
        ("select 1", false),
        ("", false),
        ("copy (insert into marks (tag, n) values ('none', 1) returning tag) to stdout", false),
    ] {
        for swallow in [true, false] {
            let outcome = must_end(
                sql,
                stage.db.with_tenant(&slug("acme"), async |tx| {
                    let begun = if inward {
                        tx.copy_in::<Bytes>(sql).await.map(drop)
                    } else {
                        tx.copy_out(sql).await.map(drop)
                    };
                    if swallow { Ok(()) } else { begun }
                }),
            )
            .await;
            let (rows, elsewhere) = stage.marks("acme", "none").await;
            if elsewhere != 0 || (rows != 0 && outcome.is_err()) {
                wrong.push(format!("{sql}, in {inward}, swallowed {swallow}: {rows} rows, {outcome:?}"));
            }
            stage.sql("delete from tenant_acme.marks where tag = 'none'").await;
            stage.next_user(&stage.db, "globex").await;
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// Settings of the database and of the login that touch an entry: each is entered, in its own tenant, or refused.
#[tokio::test]
async fn settings_of_the_database_do_not_lead_astray() {
    let stage = Stage::set().await;
    let mut wrong = Vec::new();
    for (name, value) in [
        ("search_path", "tenant_globex, public".to_owned()),
        ("search_path", "''".to_owned()),
        ("search_path", "\"$user\", tenant_acme".to_owned()),
        ("app.current_organization_id", "'00000000-0000-0000-0000-000000000000'".to_owned()),
        ("app.current_organization_id", "'no uuid'".to_owned()),
        ("cgk.tx", "'1'".to_owned()),
        ("cgk.tenant", "'globex'".to_owned()),
        ("default_transaction_isolation", "'serializable'".to_owned()),
        ("default_transaction_read_only", "on".to_owned()),
        ("plan_cache_mode", "force_generic_plan".to_owned()),
        ("idle_session_timeout", "500".to_owned()),
        ("quote_all_identifiers", "on".to_owned()),
        ("extra_float_digits", "-15".to_owned()),
        ("datestyle", "'SQL, DMY'".to_owned()),
        ("bytea_output", "escape".to_owned()),
        ("jit_above_cost", "0".to_owned()),
        ("enable_seqscan", "off".to_owned()),
        ("check_function_bodies", "off".to_owned()),
        ("session_replication_role", "replica".to_owned()),
        ("lo_compat_privileges", "on".to_owned()),
    ] {
        let database = stage.database.name();
        stage.sql(&format!("alter database \"{database}\" set {name} = {value}")).await;
        for isolation in [Isolation::Role, Isolation::Path] {
            let db = Db::connect(&stage.config().with_isolation(isolation)).await.unwrap();
            for round in 0..2 {
                for tenant in ["acme", "globex"] {
                    let read = db
                        .tenant(&slug(tenant))
                        .query_one("select tag, current_schema::text from marks where n = $1", &[&0_i32])
                        .await;
                    if !matches!(&read, Ok(row) if row.get::<_, &str>(0) == tenant) {
                        wrong.push(format!("{name} = {value}, {isolation:?}, {tenant}, {round}: {read:?}"));
                    }
                    let count = db
                        .with_tenant(&slug(tenant), async |tx| {
                            tx.query_one("select count(*) from organizations", &[]).await
                        })
                        .await;
                    if count.is_err() {
                        wrong.push(format!("{name} = {value}, {isolation:?}, {tenant}, shared: {count:?}"));
                    }
                }
                let platform = db.platform().query_one("select tag from marks", &[]).await;
                if !matches!(&platform, Ok(row) if row.get::<_, &str>(0) == "decoy") {
                    wrong.push(format!("{name} = {value}, {isolation:?}, platform: {platform:?}"));
                }
                if name == "idle_session_timeout" {
                    tokio::time::sleep(Duration::from_millis(700)).await;
                }
            }
        }
        stage.sql(&format!("alter database \"{database}\" reset {name}")).await;
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// sqlx #4393: a call dropped at each of its first awaits leaves nothing for the next user, whatever the isolation level.
#[tokio::test]
async fn a_call_dropped_at_each_await_leaves_nothing() {
    let stage = Stage::set().await;
    let service = stage.app(Isolation::Role, SharedTables::All).await;
    let mut dropped = 0;
    for db in [&stage.db, &service] {
        for options in [
            TxOptions::default(),
            TxOptions::default().serializable(),
            TxOptions::default().repeatable_read().read_only(),
        ] {
            for polls in 0..12 {
                let acme = slug("acme");
                {
                    let mut call = pin!(db.with_tenant_in(&acme, &options, async |tx| {
                        tx.query("select pg_advisory_lock(4711), set_config('work_mem', '65kB', false)", &[]).await?;
                        std::future::pending::<Result<(), Error>>().await
                    }));
                    for _ in 0..polls {
                        assert!(call.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
                        tokio::time::sleep(Duration::from_micros(300)).await;
                    }
                }
                dropped += 1;
                let row = db
                    .tenant(&slug("globex"))
                    .query_one("select current_setting('work_mem'), (select count(*) from pg_locks where locktype = 'advisory' and objid = 4711 and pid = pg_backend_pid()), (select tag from marks)", &[])
                    .await
                    .unwrap();
                assert_eq!(
                    (row.get::<_, &str>(0) != "65kB", row.get::<_, i64>(1), row.get::<_, &str>(2)),
                    (true, 0, "globex")
                );
            }
        }
    }
    assert_eq!(dropped, 72);
}

/// A login that has a tenant's role by default, after RESET ROLE as well.
#[tokio::test]
async fn a_login_with_a_role_of_its_own_setting_crosses_nothing() {
    let stage = Stage::set().await;
    let first = stage.app(Isolation::Role, SharedTables::All).await;
    first.tenant(&slug("acme")).query_one("select 1", &[]).await.unwrap();
    stage.sql(&format!("alter role {} set role = \"{}\"", stage.app_name().as_str(), stage.role("globex"))).await;
    let db = stage.app(Isolation::Role, SharedTables::All).await;
    for _ in 0..2 {
        for tenant in ["acme", "globex"] {
            let read = db.tenant(&slug(tenant)).query_one("select tag from marks", &[]).await;
            assert!(!matches!(&read, Ok(row) if row.get::<_, &str>(0) != tenant), "{tenant}: {read:?}");
        }
        let platform = db.platform().query_one("select current_user::text", &[]).await;
        assert!(!matches!(&platform, Ok(row) if row.get::<_, &str>(0).starts_with("cgk_")), "{platform:?}");
    }
}

/// The platform's own COPY that writes: not committed and an error, or committed.
#[tokio::test]
async fn a_copy_of_the_platforms_that_writes_is_committed_or_an_error() {
    let stage = Stage::set().await;
    let sql = "copy (insert into public.marks (tag, n) values ('platform', 1) returning tag) to stdout";
    let outcome = must_end("copy", stage.db.platform().execute(sql, &[])).await;
    let rows = stage.number("select count(*) from public.marks where tag = 'platform'").await;
    assert_eq!(outcome.is_ok(), rows == 1, "{outcome:?}");
    stage.next_user(&stage.db, "globex").await;
}

/// Whole rows, system columns, samples and COPY of the shared tables: nothing of another organization, and no secret.
#[tokio::test]
async fn the_shared_tables_show_nothing_else_in_any_form() {
    let stage = Stage::set().await;
    let db = stage.app(Isolation::Role, SharedTables::All).await;
    let mut wrong = Vec::new();
    for sql in [
        "select count(*) from organizations tablesample system (100)",
        "select count(ctid) from organizations where ctid is not null",
        "select count(*) from only organizations",
        "select count(*) from (table organizations) x",
        "select count(*) from organizations o where o is not null",
        "select count(*) from (select slug from organizations for share) x",
        "with o as (update organizations set name = name returning 1) select count(*) from o",
        "select count(*) from organizations o join lateral (select slug from organizations where slug <> o.slug) x on true",
        "select count(shopify_access_token) from organizations",
        "select count(distinct row_to_json(o)::text) from organizations o",
        "select count(*) from organizations where (select set_config('row_security', 'off', true)) is not null",
        "select count(*) from organizations where (select set_config('app.current_organization_id', '', true)) is not null",
        "select count(*) from pg_stats where tablename = 'organizations'",
        "select count(*) from information_schema.column_privileges where table_name = 'organizations' and column_name = 'shopify_access_token'",
    ] {
        for options in [TxOptions::default(), TxOptions::default().serializable()] {
            let seen = db.with_tenant_in(&slug("acme"), &options, async |tx| tx.query_one(sql, &[]).await).await;
            if let Ok(row) = &seen
                && row.get::<_, i64>(0) > 1
            {
                wrong.push(format!("{sql}: {row:?}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}
