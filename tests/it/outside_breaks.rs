//! What does not hold: each test states a sentence of the documentation, and fails.

use crate::stage::{Stage, connect, run, slug};
use cgk::{Db, Error, Retry, TxOptions, config::Isolation, login::SharedTables};
use futures_util::FutureExt;

/// The logins and the modes: the owner of everything, and a service's login.
async fn handles(stage: &Stage) -> Vec<(&'static str, Db)> {
    let path = Db::connect(&stage.config().with_isolation(Isolation::Path)).await.unwrap();
    vec![
        ("role, owner", stage.db.clone()),
        ("path, owner", path),
        ("role, service", stage.app(Isolation::Role, SharedTables::All).await),
    ]
}

/// "A statement behind a refused one does not run" and "no statement runs outside the tenant": also where the BEGIN itself is
/// refused, as by a cancel that meets it. Without a transaction, the statement behind it runs on its own, as the login, on
/// the login's path, and is committed; `db.tenant(…)` and `with_tenant_retry` then run it again.
#[tokio::test]
async fn a_statement_behind_a_cancelled_begin_does_not_run() {
    let stage = Stage::set().await;
    let acme = slug("acme");
    let insert = "insert into marks (tag, n) values ('stray', 1)";
    let mut strays = Vec::new();
    for (mode, db) in handles(&stage).await {
        for call in ["with_tenant", "tenant", "with_tenant_retry"] {
            let canceller = connect(stage.database.name()).await;
            let cancelling = tokio::spawn(async move {
                let cancel = "do $$ begin for i in 1..4000 loop
                    perform pg_cancel_backend(pid) from pg_stat_activity
                        where datname = current_database() and application_name <> 'test' and backend_type = 'client backend';
                    perform pg_stat_clear_snapshot();
                    perform pg_sleep(0.0002);
                end loop; end $$";
                canceller.query_typed(cancel, &[]).await.unwrap();
            });
            let (mut calls, mut refused) = (0, 0);
            while !cancelling.is_finished() {
                let outcome = match call {
                    "tenant" => db.tenant(&acme).execute_typed(insert, &[]).await,
                    "with_tenant" => db.with_tenant(&acme, async |tx| tx.execute_typed(insert, &[]).await).await,
                    _ => {
                        let (options, retry) = (TxOptions::default(), Retry::default());
                        db.with_tenant_retry(&acme, &options, &retry, async |tx| tx.execute_typed(insert, &[]).await)
                            .await
                    }
                };
                calls += 1;
                refused += u32::from(outcome.is_err());
            }
            cancelling.await.unwrap();
            assert!(refused > 0, "{mode}: {call}: nothing was cancelled, so this proves nothing");
            let (_, elsewhere) = stage.marks("acme", "stray").await;
            if elsewhere > 0 {
                let told =
                    format!("{mode}: {call}: {elsewhere} rows outside of the tenant, {calls} calls, {refused} refused");
                strays.push(told);
                stage.sql("delete from public.marks where tag = 'stray'").await;
            }
        }
    }
    assert!(strays.is_empty(), "{strays:#?}");
}

/// "The same hidden in a block or a function, where it lasts to the COMMIT: nothing is committed", also where a trigger that
/// defers itself again stands on a permanent table, which the operator's login can make in a tenant.
#[tokio::test]
async fn a_trigger_of_a_permanent_table_that_defers_itself_leaves_the_tenant_and_commits_nothing() {
    let stage = Stage::set().await;
    let globex = stage.role("globex");
    let make = |work: &str| {
        format!(
            "do $d$ begin
            reset role;
            create table tenant_acme.bait (n int);
            create function tenant_acme.t() returns trigger language plpgsql as
                $f$ begin
                    if new.n < 3 then
                        set constraints all deferred;
                        insert into tenant_acme.bait values (new.n + 1);
                    else {work} end if;
                    return null; end $f$;
            create constraint trigger t after insert on tenant_acme.bait deferrable initially deferred
                for each row execute function tenant_acme.t();
            grant all on tenant_acme.bait to public;
            {{role}}
            insert into tenant_acme.bait values (1); end $d$"
        )
    };
    let leave = format!(
        "perform set_config('role', '{globex}', true); insert into tenant_globex.marks (tag, n) values ('later', 2);"
    );
    let path = "perform set_config('search_path', 'tenant_globex, public', true);
                insert into marks (tag, n) values ('later', 2);";
    let mut wrong = Vec::new();
    for (mode, db) in handles(&stage).await.into_iter().take(2) {
        let block = match mode.starts_with("role") {
            true => make(&leave).replace("{role}", &format!("set local role \"{}\";", stage.role("acme"))),
            false => make(path).replace("{role}", ""),
        };
        let outcome = db.with_tenant(&slug("acme"), async |tx| tx.execute_typed(&block, &[]).await.map(drop)).await;
        let (_, elsewhere) = stage.marks("acme", "later").await;
        if outcome.is_ok() || elsewhere > 0 {
            wrong.push(format!("{mode}: {outcome:?}, {elsewhere} rows of the other tenant's"));
        }
        stage.sql("drop table if exists tenant_acme.bait cascade; drop function if exists tenant_acme.t(); delete from tenant_globex.marks where tag = 'later'").await;
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// "A statement that fails takes the commit with it. One thing only happens at the client, after the commit: `query_one` and
/// `query_opt` finding another number of rows": the driver asks for the types of the answer's columns behind the commit. A
/// connection that is lost there has committed, and the error must not say that it has not.
#[tokio::test]
async fn a_connection_lost_behind_the_commit_is_not_told_as_a_failed_statement() {
    let stage = Stage::set().await;
    stage.sql("create type tenant_acme.mood as enum ('fine'); alter table tenant_acme.marks add mood tenant_acme.mood; grant usage on type tenant_acme.mood to public").await;
    let lock = connect(stage.database.name()).await;
    let acme = slug("acme");
    stage.next_user(&stage.db, "acme").await;
    run(&lock, "begin; lock table pg_catalog.pg_enum in access exclusive mode").await.unwrap();
    let tenant = stage.db.tenant(&acme);
    let writing = tenant.query("insert into marks (tag, n) values ('typed', 1) returning mood", &[]);
    let cut = async {
        stage.until("select exists (select from tenant_acme.marks where tag = 'typed')").await;
        let waits = "from pg_locks where relation = 'pg_enum'::regclass and not granted";
        stage.until(&format!("select exists (select {waits})")).await;
        stage.sql(&format!("select pg_terminate_backend(pid) {waits}")).await;
    };
    let (outcome, ()) = tokio::join!(writing, cut);
    run(&lock, "rollback").await.unwrap();
    assert_eq!(stage.marks("acme", "typed").await, (1, 0), "it is committed");
    let error = outcome.unwrap_err();
    assert!(matches!(error, Error::CommitUnknown { .. }), "committed, and told as {:?}: {error:?}", error.kind());
}

/// A connection that dblink opened is a state of the session that no RESET takes away.
#[tokio::test]
async fn a_connection_of_dblink_does_not_reach_the_next_tenant() {
    let stage = Stage::set().await;
    if stage.number("select count(*) from pg_available_extensions where name = 'dblink'").await == 0 {
        return;
    }
    stage
        .sql("create extension dblink schema public; grant execute on function dblink_connect_u(text, text) to public")
        .await;
    let name = stage.database.name();
    let host = stage
        .watch
        .query_one(
            "select split_part(current_setting('unix_socket_directories'), ',', 1), current_setting('port')",
            &[],
        )
        .await
        .unwrap();
    let (folder, port): (String, String) = (host.get(0), host.get(1));
    let open = format!("select dblink_connect_u('left', 'dbname={name} host={folder} port={port} user=postgres')");
    for (mode, db) in handles(&stage).await {
        stage.next_user(&stage.db, "acme").await;
        db.with_tenant(&slug("acme"), async |tx| tx.query_typed(&open, &[]).await.map(drop))
            .await
            .unwrap_or_else(|error| panic!("{mode}: {error:?}"));
        let left = db
            .with_tenant(&slug("globex"), async |tx| {
                Ok(tx.query_typed("select 'left' = any(dblink_get_connections())", &[]).await?[0]
                    .get::<_, Option<bool>>(0))
            })
            .await
            .unwrap();
        assert_ne!(left, Some(true), "{mode}: the next tenant has the connection");
    }
}

/// A setting of the application's is not there (NULL) in a new session; after another tenant has set it, even LOCAL, it is there and empty.
#[tokio::test]
async fn the_name_of_a_setting_does_not_reach_the_next_tenant() {
    let stage = Stage::set().await;
    let look = "select current_setting('app.actor', true) is null, pg_backend_pid()";
    let read = async || {
        let row = stage.db.tenant(&slug("globex")).query_one(look, &[]).await.unwrap();
        (row.get::<_, bool>(0), row.get::<_, i32>(1))
    };
    let (unset, before) = read().await;
    assert!(unset);
    stage.db.tenant(&slug("acme")).query("select set_config('app.actor', 'x', true)", &[]).await.unwrap();
    let (unset, after) = read().await;
    assert!(unset || before != after, "NULL before and '' after another tenant's transaction, on the same backend");
}

/// The services' login may change its own defaults, and every later connection has them: with the search path alone by a plain
/// statement, on a hardened database as well; with a role per tenant by a block that goes there and back.
#[tokio::test]
async fn the_logins_defaults_are_not_changed_by_a_tenant() {
    let stage = Stage::set().await;
    stage.sql("grant all on tenant_acme.marks, tenant_globex.marks to public").await;
    let mut wrong = Vec::new();
    for isolation in [Isolation::Path, Isolation::Role] {
        let db = stage.app(isolation, SharedTables::All).await;
        let write = "insert into marks (tag, n) values ('later', 1)";
        db.tenant(&slug("globex")).execute(write, &[]).await.unwrap();
        let alter = "alter role session_user set default_transaction_read_only = on";
        let attack = match isolation {
            Isolation::Path => alter.to_owned(),
            Isolation::Role => {
                format!("do $$ begin reset role; {alter}; set local role \"{}\"; end $$", stage.role("acme"))
            }
        };
        let outcome = db.tenant(&slug("acme")).execute_typed(&attack, &[]).await;
        let next = Db::connect(db.config()).await.unwrap();
        let after = next.tenant(&slug("globex")).execute(write, &[]).await;
        if after.is_err() {
            wrong.push(format!("{isolation:?}: acme's statement: {outcome:?}; globex on a new connection: {after:?}"));
        }
        stage.sql(&format!("alter role {} reset all", stage.app_name().as_str())).await;
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// With the search path alone, a tenant ends another tenant's transaction.
#[tokio::test]
async fn in_path_mode_a_tenant_cannot_end_anothers_session() {
    let stage = Stage::set().await;
    for isolation in [Isolation::Role, Isolation::Path] {
        let one = stage.app(isolation, SharedTables::All).await;
        let other = Db::connect(one.config()).await.unwrap();
        let end = "select pg_terminate_backend(pid) from pg_stat_activity where usename = session_user and pid <> pg_backend_pid()";
        let outcome = one
            .with_tenant(&slug("globex"), async |tx| {
                tx.query_typed("select 1", &[]).await?;
                let _ = other.tenant(&slug("acme")).query_typed(end, &[]).await;
                tx.query_typed("select 1", &[]).await.map(drop)
            })
            .await;
        assert!(outcome.is_ok(), "{isolation:?}: {outcome:?}");
    }
}

/// A function in `public` is compiled once for each session; the row types that it names are those of the tenant that called it first.
#[tokio::test]
async fn a_shared_functions_row_types_are_those_of_the_tenant() {
    let stage = Stage::set().await;
    stage
        .sql(
            "create function public.first_tag() returns text language plpgsql as $f$
             declare r marks%rowtype; begin select * into r from marks where n = 0; return r.tag; end $f$;
             grant execute on function public.first_tag() to public",
        )
        .await;
    // The control: each tenant on a connection of its own.
    for tenant in ["acme", "globex"] {
        let own = Db::connect(&stage.config()).await.unwrap();
        let row = own.tenant(&slug(tenant)).query_one("select first_tag()", &[]).await.unwrap();
        assert_eq!(row.get::<_, &str>(0), tenant);
    }
    for tenant in ["acme", "globex", "acme"] {
        let outcome = stage.db.tenant(&slug(tenant)).query_one("select first_tag()", &[]).await;
        let tag: String = outcome.unwrap_or_else(|error| panic!("{tenant}: {error:?}")).get(0);
        assert_eq!(tag, tenant);
    }
}

/// "A connection that has others than it should, or fewer, is not used again": also where the statement that enters is dropped and
/// another stands in its count, left by a call that was dropped.
#[tokio::test]
async fn a_statement_that_only_begins_like_the_entry_does_not_stand_for_it() {
    let stage = Stage::set().await;
    let (_, before) = stage.next_user(&stage.db, "globex").await;
    let drop_it = "do $$ declare s record; begin
        for s in select name from pg_prepared_statements where statement like '/* cgk: enter */%' loop
            execute format('deallocate %I', s.name); end loop; end $$";
    stage
        .db
        .with_tenant(&slug("acme"), async |tx| {
            tx.execute_typed(drop_it, &[]).await?;
            let dropped = tx.query("/* cgk: enter */ select tag from marks where n = $1", &[&0_i32]).now_or_never();
            assert!(dropped.is_none(), "the answer cannot be there yet");
            Ok(())
        })
        .await
        .unwrap();
    let mut refused = Vec::new();
    for _ in 0..5 {
        let pid = "select pg_backend_pid()";
        let next = stage.db.with_tenant(&slug("globex"), async |tx| tx.query_typed(pid, &[]).await).await;
        match next {
            Ok(rows) => assert_ne!(rows[0].get::<_, i32>(0), before, "the connection is used again"),
            Err(error) => refused.push(error.to_string()),
        }
    }
    assert!(refused.is_empty(), "{} of 5 calls after it are refused: {refused:?}", refused.len());
}

/// The same cancel, and a statement that leaves it to row level security which rows it changes: "it keeps honest code within its
/// tenant, reading and writing" (path isolation), and "changes nothing" (a tenant's role). Outside of a tenant the login
/// changes every organization's.
#[tokio::test]
async fn behind_a_cancelled_begin_no_rows_of_other_organizations_are_changed() {
    let stage = Stage::set().await;
    stage.sql("insert into users (organization_id, email) select id, slug || '@x' from organizations").await;
    let acme = slug("acme");
    let mut strays = Vec::new();
    for isolation in [Isolation::Path, Isolation::Role] {
        let db = stage.app(isolation, SharedTables::All).await;
        let canceller = connect(stage.database.name()).await;
        let cancelling = tokio::spawn(async move {
            let cancel = "do $$ begin for i in 1..8000 loop
                perform pg_cancel_backend(pid) from pg_stat_activity
                    where datname = current_database() and application_name <> 'test' and backend_type = 'client backend';
                perform pg_stat_clear_snapshot();
                perform pg_sleep(0.0002);
            end loop; end $$";
            canceller.query_typed(cancel, &[]).await.unwrap();
        });
        let update = "update public.users set email = 'stray-' || email";
        let mut calls = 0;
        while !cancelling.is_finished() {
            let _ = db.with_tenant(&acme, async |tx| tx.execute_typed(update, &[]).await).await;
            calls += 1;
            // Kept short, and honest: only the own row is put back.
            if calls % 50 == 0 {
                stage.sql("update users u set email = 'acme@x' from organizations o where o.id = u.organization_id and o.slug = 'acme'").await;
            }
        }
        cancelling.await.unwrap();
        let other = stage
            .number(
                "select count(*) from users u join organizations o on o.id = u.organization_id
                 where o.slug = 'globex' and u.email <> 'globex@x'",
            )
            .await;
        if other > 0 {
            strays.push(format!("{isolation:?}: a row of globex's was changed by acme, {calls} calls"));
        }
        stage
            .sql("update users u set email = o.slug || '@x' from organizations o where o.id = u.organization_id")
            .await;
    }
    assert!(strays.is_empty(), "{strays:#?}");
}

/// "SET and RESET of role, …, `app.current_organization_id`, … The same hidden in a block or a function, where it lasts to the
/// COMMIT: nothing is committed", with path isolation "the same".
#[tokio::test]
async fn an_organization_changed_in_a_block_that_lasts_to_the_commit_commits_nothing() {
    let stage = Stage::set().await;
    let organization = "select id::text from organizations where slug = 'globex'";
    let globex: String = stage.watch.query_one(organization, &[]).await.unwrap().get(0);
    let mut wrong = Vec::new();
    for isolation in [Isolation::Role, Isolation::Path] {
        let db = stage.app(isolation, SharedTables::All).await;
        let leave = format!("do $$ begin perform set_config('app.current_organization_id', '{globex}', true); end $$");
        let write = format!("insert into public.users (organization_id, email) values ('{globex}', 'planted@x')");
        let outcome = db
            .with_tenant(&slug("acme"), async |tx| {
                // The control: before it is changed, the policy refuses the row.
                let part = tx.savepoint().await?;
                assert!(part.execute_typed(&write, &[]).await.is_err(), "{isolation:?}");
                drop(part);
                tx.execute_typed(&leave, &[]).await?;
                match isolation {
                    Isolation::Path => tx.execute_typed(&write, &[]).await.map(drop),
                    Isolation::Role => Ok(()),
                }
            })
            .await;
        let planted = stage.number("select count(*) from users where email = 'planted@x'").await;
        if outcome.is_ok() {
            wrong.push(format!("{isolation:?}: {outcome:?}, {planted} rows planted in the other organization"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// With the search path alone a plain statement changes the password of the services' login: no later connection is let in.
#[tokio::test]
async fn in_path_mode_a_tenant_does_not_change_the_logins_password() {
    let stage = Stage::set().await;
    let db = stage.app(Isolation::Path, SharedTables::All).await;
    let stored = format!("select rolpassword from pg_authid where rolname = '{}'", stage.app_name().as_str());
    let password = async || stage.watch.query_one(&stored, &[]).await.unwrap().get::<_, Option<String>>(0);
    let before = password().await;
    let outcome = db.tenant(&slug("acme")).execute_typed("alter role current_user password 'x'", &[]).await;
    assert!(password().await == before, "changed: {outcome:?}");
}
