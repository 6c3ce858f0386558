//! What public reports say of other pools and libraries, tried here, and what of it holds. Each test has a control or shows that
//! it has met what it tries.

use crate::stage::{Stage, connect, run, slug};
use cgk::{ConnectionError, Db, Error, TransactionError, TxOptions, config::Isolation};
use tokio_postgres::types::Kind;

/// A cancel that meets an entry which waits for the tenant's lock is another case: the transaction is open by then.
#[tokio::test]
async fn a_statement_behind_a_cancelled_wait_does_not_run() {
    let stage = Stage::set().await;
    let key = cgk::lock::tenant_key(&slug("acme"));
    for options in [TxOptions::default(), TxOptions::default().repeatable_read(), TxOptions::default().serializable()] {
        for (mode, db) in stage.handles().await {
            let holder = connect(stage.database.name()).await;
            run(&holder, &format!("begin; select pg_advisory_xact_lock({key})")).await.unwrap();
            let body = async |tx: &mut cgk::TenantTx<'_>| {
                tx.execute_typed("insert into marks (tag, n) values ('waited', 1)", &[]).await
            };
            let acme = slug("acme");
            let waiting = db.with_tenant_in(&acme, &options, body);
            let cancel = async {
                let waits = "from pg_locks where locktype = 'advisory' and not granted and database = (select oid from pg_database where datname = current_database())";
                stage.until(&format!("select exists (select {waits})")).await;
                stage.sql(&format!("select pg_cancel_backend(pid) {waits}")).await;
            };
            let (outcome, ()) = tokio::join!(waiting, cancel);
            assert!(outcome.is_err(), "{mode}: {options:?}");
            assert_eq!(stage.marks("acme", "waited").await, (0, 0), "{mode}: {options:?}");
            run(&holder, "rollback").await.unwrap();
            let left = stage.number("select count(*) from pg_locks where locktype = 'advisory' and database = (select oid from pg_database where datname = current_database())").await;
            assert_eq!(left, 0, "{mode}: {options:?}: locks left");
            // The control: nothing in the way, it is written.
            assert_eq!(db.with_tenant_in(&acme, &options, body).await.unwrap(), 1);
            assert_eq!(stage.marks("acme", "waited").await, (1, 0), "{mode}: {options:?}");
            stage.sql("delete from tenant_acme.marks where tag = 'waited'").await;
        }
    }
}

/// Settings that a tenant can make, and that touch the message which checks and commits: `Ok` means committed, an error means
/// not, and the next user finds nothing.
#[tokio::test]
async fn settings_that_touch_the_commit_do_not_change_its_result() {
    let stage = Stage::set().await;
    let settings = [
        "set exit_on_error = on",
        "set plan_cache_mode = force_generic_plan",
        "set statement_timeout = 1",
        "set lock_timeout = 1",
        "set idle_in_transaction_session_timeout = 1000",
        "set standard_conforming_strings = off",
        "set backslash_quote = on",
        "set client_encoding = 'SJIS'",
        "set client_encoding = 'GBK'",
        "set client_encoding = 'SQL_ASCII'",
        "set client_min_messages = debug5",
        "set transform_null_equals = on",
        "set quote_all_identifiers = on",
        "set default_transaction_isolation = 'serializable'",
        "set default_transaction_read_only = on",
        "set default_transaction_deferrable = on",
        "set transaction read only",
        "set session characteristics as transaction isolation level serializable, read only, deferrable",
        "set synchronous_commit = off",
        "set check_function_bodies = off",
        "set row_security = off",
        "set xmloption = document",
        "set constraints all deferred",
        "begin read only",
        "savepoint of_its_own",
        "listen x",
        "notify x, 'y'",
        "select lo_create(0)",
        "declare c binary scroll cursor with hold for select * from marks",
        "create temp table x (a int) on commit drop",
        "create temp table x (a int) on commit delete rows",
        "do $$ begin raise notice 'x'; begin perform 1/0; exception when others then null; end; end $$",
        "do $$ begin begin raise exception 'x' using errcode = '57P01'; exception when others then null; end; end $$",
    ];
    let mut wrong = Vec::new();
    for (mode, db) in stage.handles().await {
        for setting in settings {
            let outcome = db
                .with_tenant(&slug("acme"), async |tx| {
                    tx.execute_typed("insert into marks (tag, n) values ('set', 1)", &[]).await?;
                    tx.execute_typed(setting, &[]).await.map(drop)
                })
                .await;
            let (own, elsewhere) = stage.marks("acme", "set").await;
            if (own == 1) != outcome.is_ok() || elsewhere != 0 {
                wrong.push(format!("{mode}: {setting}: {outcome:?}, {own} rows"));
            }
            if let Err(error) = &outcome
                && setting != "set statement_timeout = 1"
            {
                wrong.push(format!("{mode}: {setting}: {error:?}"));
            }
            stage.sql("delete from tenant_acme.marks where tag = 'set'").await;
            let next = db.tenant(&slug("globex")).execute("insert into marks (tag, n) values ('next', 1)", &[]).await;
            if !matches!(next, Ok(1)) {
                wrong.push(format!("{mode}: after {setting}: {next:?}"));
            }
            stage.sql("delete from tenant_globex.marks where tag = 'next'").await;
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// What a deferred trigger raises, whatever its code: nothing is committed, and the result says so and not that it is unknown.
#[tokio::test]
async fn whatever_code_is_raised_at_commit_nothing_is_committed_and_nothing_is_unknown() {
    let stage = Stage::set().await;
    let codes = [
        "08000", "08003", "08006", "57P01", "57P02", "57P03", "57014", "25P02", "25P03", "22012", "55006", "40001",
        "40P01", "40003", "XX000", "26000", "00001",
    ];
    let mut wrong = Vec::new();
    for (mode, db) in stage.handles().await {
        for code in codes {
            let raise = format!(
                "do $d$ begin
                create temp table bait (n int);
                create function pg_temp.t() returns trigger language plpgsql as $f$ begin raise sqlstate '{code}'; end $f$;
                create constraint trigger t after insert on bait deferrable initially deferred for each row execute function pg_temp.t();
                insert into marks (tag, n) values ('raised', 1);
                insert into bait values (1); end $d$"
            );
            for single in [false, true] {
                let outcome = match single {
                    true => db.tenant(&slug("acme")).execute_typed(&raise, &[]).await.map(drop),
                    false => {
                        db.with_tenant(&slug("acme"), async |tx| tx.execute_typed(&raise, &[]).await.map(drop)).await
                    }
                };
                if stage.marks("acme", "raised").await != (0, 0)
                    || outcome.is_ok()
                    || matches!(
                        outcome,
                        Err(Error::Transaction(TransactionError::CommitUnknown { .. })
                            | Error::Connection(ConnectionError::Lost { .. }))
                    )
                {
                    wrong.push(format!("{mode}: {code}: single {single}: {outcome:?}"));
                }
                let next = db.tenant(&slug("globex")).query_one("select tag from marks where n = 0", &[]).await;
                assert_eq!(next.unwrap().get::<_, &str>(0), "globex");
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// A handle outlives the runtime that opened its connections, as in tests and in servers with a runtime for each thread.
#[test]
fn a_handle_is_used_from_another_runtime() {
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let first = runtime();
    let stage = first.block_on(async {
        let stage = Stage::set().await;
        stage.next_user(&stage.db, "acme").await;
        // Left in the middle: the runtime ends with the transaction open.
        let db = stage.db.clone();
        tokio::spawn(async move {
            db.with_tenant(&slug("acme"), async |tx| {
                tx.execute_typed("insert into marks (tag, n) values ('left', 1)", &[]).await?;
                std::future::pending::<Result<(), Error>>().await
            })
            .await
        });
        stage.until("select exists (select from pg_stat_activity where datname = current_database() and state = 'idle in transaction' and query like '%left%')").await;
        stage
    });
    let db = stage.db.clone();
    first.shutdown_background();
    runtime().block_on(async {
        let read = "select tag, (select count(*) from marks) from marks where n = 0";
        let row = db.tenant(&slug("globex")).query_one(read, &[]).await.unwrap();
        assert_eq!(row.get::<_, &str>(0), "globex");
        let row = db.tenant(&slug("acme")).query_one(read, &[]).await.unwrap();
        assert_eq!((row.get::<_, &str>(0), row.get::<_, i64>(1)), ("acme", 1));
    });
}

/// A statement that is prepared once for all tenants answers with another tenant's columns or not at all; here each call is parsed
/// where it runs, and so are the statements of a shared function.
#[tokio::test]
async fn a_statement_has_the_columns_of_its_tenant_on_one_connection() {
    let stage = Stage::set().await;
    stage
        .sql(
            "create function public.first_n() returns text language plpgsql as $f$
             begin return (select tag from marks where n = 0); end $f$;
             grant execute on function public.first_n() to public",
        )
        .await;
    let (_, pid) = stage.next_user(&stage.db, "acme").await;
    for round in 0..20 {
        for (tenant, columns) in [("acme", ["tag", "n"]), ("globex", ["n", "tag"])] {
            let read = "select * from marks where n = $1";
            let single = stage.db.tenant(&slug(tenant)).query_one(read, &[&0_i32]).await.unwrap();
            let (inside, shared, now): (_, String, i32) = stage
                .db
                .with_tenant(&slug(tenant), async |tx| {
                    let row = tx.query_one("select first_n(), pg_backend_pid()", &[]).await?;
                    Ok((tx.query_one(read, &[&0_i32]).await?, row.get(0), row.get(1)))
                })
                .await
                .unwrap();
            for row in [single, inside] {
                let names: Vec<_> = row.columns().iter().map(|column| column.name().to_owned()).collect();
                assert_eq!((names, row.get::<_, &str>("tag")), (columns.map(String::from).to_vec(), tenant), "{round}");
            }
            assert_eq!((shared.as_str(), now), (tenant, pid), "{round}");
        }
    }
    // The control: prepared by a name, it is refused in the second tenant.
    let client = connect(stage.database.name()).await;
    run(&client, "set search_path = tenant_acme").await.unwrap();
    let prepared = client.prepare("select * from marks").await.unwrap();
    client.query(&prepared, &[]).await.unwrap();
    run(&client, "set search_path = tenant_globex").await.unwrap();
    let error = client.query(&prepared, &[]).await.unwrap_err();
    assert_eq!(error.code().unwrap().code(), "0A000");
}

/// pgjdbc #52, diesel #2203: types of one name in two schemas. The columns of each tenant have its own type on one connection.
#[tokio::test]
async fn a_type_of_one_name_is_each_tenants_own() {
    let stage = Stage::set().await;
    stage
        .sql(
            "create type tenant_acme.mood as enum ('fine'); create type tenant_globex.mood as enum ('bad', 'worse');
             alter table tenant_acme.marks add mood tenant_acme.mood default 'fine';
             alter table tenant_globex.marks add mood tenant_globex.mood default 'worse'",
        )
        .await;
    let (_, pid) = stage.next_user(&stage.db, "acme").await;
    for _ in 0..3 {
        for (tenant, labels) in [("acme", vec!["fine"]), ("globex", vec!["bad", "worse"])] {
            let read = "select mood, pg_backend_pid(), mood::text from marks where n = $1";
            let row = stage.db.tenant(&slug(tenant)).query_one(read, &[&0_i32]).await.unwrap();
            let Kind::Enum(found) = row.columns()[0].type_().kind() else { panic!("{:?}", row.columns()) };
            assert_eq!(
                (found, row.get::<_, i32>(1)),
                (&labels.iter().map(ToString::to_string).collect(), pid),
                "{tenant}"
            );
            assert_eq!(row.get::<_, &str>(2), *labels.last().unwrap());
        }
    }
}

/// Parallel workers have the tenant's role and path, and the check finds the session so.
#[tokio::test]
async fn parallel_workers_are_in_the_tenant() {
    let stage = Stage::set().await;
    let version = stage.number("select current_setting('server_version_num')::bigint").await;
    let force = if version >= 160_000 { "set debug_parallel_query = on" } else { "set force_parallel_mode = on" };
    let look = "select current_user::text, current_setting('search_path'), string_agg(tag, ',') from marks";
    for (mode, db) in stage.handles().await {
        let (seen, plan) = db
            .with_tenant(&slug("acme"), async |tx| {
                tx.execute_typed(force, &[]).await?;
                let row = tx.query_one(look, &[]).await?;
                let seen: [String; 3] = [row.get(0), row.get(1), row.get(2)];
                let plan = tx.query(&format!("explain {look}"), &[]).await?;
                Ok((seen, plan.iter().map(|row| row.get(0)).collect::<Vec<String>>().join(" ")))
            })
            .await
            .unwrap_or_else(|error| panic!("{mode}: {error:?}"));
        assert!(plan.contains("Gather"), "{mode}: no worker, so this proves nothing: {plan}");
        let user = if mode.starts_with("role") { stage.role("acme") } else { seen[0].clone() };
        assert_eq!(seen, [user, "tenant_acme, public, pg_temp".into(), "acme".into()], "{mode}");
        db.tenant(&slug("globex")).query_one("select tag from marks where tag = 'globex'", &[]).await.unwrap();
    }
    // The control: in a worker as well, a session outside of a tenant finds the decoy.
    run(&stage.watch, force).await.unwrap();
    let row = stage.watch.query_one(look, &[]).await.unwrap();
    assert_eq!(row.get::<_, &str>(2), "decoy");
}

/// A role that was changed in a block and lasts to the COMMIT: with path isolation as well nothing is committed, because that role
/// does not find the tenant's schema.
#[tokio::test]
async fn a_role_changed_in_a_block_that_lasts_to_the_commit_commits_nothing_in_path_mode() {
    let stage = Stage::set().await;
    let db = Db::connect(&stage.config().with_isolation(Isolation::Path)).await.unwrap();
    let role = stage.role("globex");
    let mut wrong = Vec::new();
    for leave in [format!("set local role \"{role}\""), format!("set session authorization \"{role}\"")] {
        let outcome = db
            .with_tenant(&slug("acme"), async |tx| {
                tx.execute_typed("insert into marks (tag, n) values ('left', 1)", &[]).await?;
                tx.execute_typed(&format!("do $$ begin {leave}; end $$"), &[]).await.map(drop)
            })
            .await;
        if outcome.is_ok() {
            wrong.push(format!("{leave}: {outcome:?}"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert_eq!(stage.marks("acme", "left").await, (0, 0));
    // The control: the same without the block.
    db.tenant(&slug("acme")).execute("insert into marks (tag, n) values ('left', 1)", &[]).await.unwrap();
    assert_eq!(stage.marks("acme", "left").await, (1, 0));
}
