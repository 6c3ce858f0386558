//! `public.cgk_enter` in a session in which another transaction has left something, and `public.cgk_check` of the whole
//! search path: neither takes for a tenant what only looks like it.

use super::{
    enter::{one, refused, rows, service},
    injection,
};
use crate::stage::{Stage, connect, run, slug};
use cgk::{Error, TransactionError, config::Isolation, lock, login::SharedTables};
use tokio_postgres::Client;

const BOTH: [Isolation; 2] = [Isolation::Role, Isolation::Path];

/// What a transaction inside a tenant leaves for the session, in one expression, although its own check passes: the tenant's
/// role, search path and organization, and a mark that says `{says}`.
const LEAVE: &str = "select set_config('role', r, false) || set_config('search_path', p, false)
        || set_config('app.current_organization_id', o, false)
        || set_config('cgk.tenant', '{says}' || substr(t, strpos(t, ' ')), false) || set_config('cgk.tenant', t, true)
   from (select current_setting('role') r, current_setting('search_path') p, current_setting('cgk.tenant') t,
                current_setting('app.current_organization_id') o offset 0) x";

/// Leaves a session so, as if it were inside `tenant`, with a mark that says another name.
async fn leave(client: &Client, tenant: &str, says: &str) {
    run(client, "begin").await.unwrap();
    one(client, &format!("select public.cgk_enter('{tenant}')")).await;
    one(client, &LEAVE.replace("{says}", says)).await;
    assert_eq!(one(client, &format!("select public.cgk_check('{tenant}')")).await, tenant);
    run(client, "commit").await.unwrap();
    // The state is there: this is what the next transaction begins with.
    let left = one(client, "select split_part(current_setting('cgk.tenant'), ' ', 1), current_schema()").await;
    assert_eq!(left, format!("{says} tenant_{tenant}"), "this test proves nothing");
}

/// How many sessions but the watching one hold the tenant's lock.
async fn locks(stage: &Stage, tenant: &str) -> i64 {
    stage
        .number(&format!(
            "select count(*) from pg_locks where locktype = 'advisory' and mode = 'ShareLock' and granted
                and pid <> pg_backend_pid() and database = (select oid from pg_database where datname = current_database())
                and (classid::bigint << 32) + objid::bigint = {}",
            lock::tenant_key(&slug(tenant))
        ))
        .await
}

#[tokio::test]
async fn a_mark_that_a_session_was_left_with_enters_nothing() {
    for isolation in BOTH {
        let stage = Stage::set().await;
        let client = service(&stage, isolation).await;
        // Inside globex, with a mark that says acme.
        leave(&client, "globex", "acme").await;
        let seen = refused(&client, "begin", "select public.cgk_enter('acme')").await;
        assert_eq!(seen, "TN405", "{isolation:?}");
        run(&client, "discard all").await.unwrap();
        // All that acme's own transaction has, with its mark. With path isolation it is entered anew, and with its role as well.
        leave(&client, "acme", "acme").await;
        run(&client, "begin").await.unwrap();
        assert_eq!(locks(&stage, "acme").await, 0, "this test proves nothing");
        one(&client, "select public.cgk_enter('acme')").await;
        assert_eq!(locks(&stage, "acme").await, 1, "{isolation:?}: inside without the lock");
        one(&client, "select public.cgk_enter('acme')").await;
        assert_eq!(one(&client, "select public.cgk_check('acme')").await, "acme");
        assert_eq!(one(&client, "select tag from marks where n = 0").await, "acme");
        run(&client, "commit").await.unwrap();
        // A suspended tenant is not entered by it.
        stage.sql("update organizations set status = 'suspended' where slug = 'acme'").await;
        let expected = if isolation == Isolation::Path { "TN402" } else { "TN405" };
        assert_eq!(refused(&client, "begin", "select public.cgk_enter('acme')").await, expected, "{isolation:?}");
        // Nor does the check accept it, where nothing was entered at all.
        assert_eq!(refused(&client, "begin", "select public.cgk_check('acme')").await, "TN501", "{isolation:?}");
        run(&client, "discard all").await.unwrap();
        assert_eq!(refused(&client, "begin", "select public.cgk_enter('globex')").await, "none", "{isolation:?}");
    }
}

/// The schemas of extensions are those of the database. What a session, a transaction or a login has set does not count.
#[tokio::test]
async fn the_schemas_of_extensions_are_not_a_sessions() {
    for isolation in BOTH {
        let stage = Stage::set().await;
        stage.sql("create schema extensions; grant usage on schema extensions to public").await;
        let (name, login) = (stage.database.name().to_owned(), stage.app_name());
        let path = async |client: &Client, left: &str| {
            run(client, "begin").await.unwrap();
            one(client, "select public.cgk_enter('globex')").await;
            run(client, left).await.unwrap();
            run(client, "commit; begin").await.unwrap();
            one(client, "select public.cgk_enter('acme')").await;
            let path = one(client, "select current_setting('search_path')").await;
            assert_eq!(one(client, "select public.cgk_check('acme')").await, "acme");
            run(client, "commit").await.unwrap();
            path
        };
        let left = "set cgk.extension_schemas = 'tenant_globex'";
        let client = service(&stage, isolation).await;
        assert_eq!(path(&client, left).await, "tenant_acme, public, pg_temp", "{isolation:?}");
        assert_eq!(one(&client, "show cgk.extension_schemas").await, "tenant_globex", "this test proves nothing");
        // A login that sets it for itself, as injected text can with path isolation.
        stage.sql(&format!("alter role {} in database \"{name}\" {left}", login.as_str())).await;
        let client = service(&stage, isolation).await;
        assert_eq!(one(&client, "show cgk.extension_schemas").await, "tenant_globex", "this test proves nothing");
        assert_eq!(path(&client, "select 1").await, "tenant_acme, public, pg_temp", "{isolation:?}");
        stage.sql(&format!("alter role {} in database \"{name}\" reset all", login.as_str())).await;
        // The database's own.
        stage.sql(&format!("alter database \"{name}\" set cgk.extension_schemas = 'extensions'")).await;
        let client = service(&stage, isolation).await;
        for left in [left, "set cgk.extension_schemas = ''"] {
            assert_eq!(path(&client, left).await, "tenant_acme, public, extensions, pg_temp", "{isolation:?}: {left}");
        }
    }
}

/// Search paths that begin with the tenant's schema and go on elsewhere.
const PATHS: [&str; 4] = [
    "tenant_acme, tenant_globex",
    "tenant_acme, tenant_globex, public, pg_temp",
    "tenant_acme, public, tenant_globex, pg_temp",
    "tenant_acme, public",
];

#[tokio::test]
async fn the_check_compares_the_whole_search_path() {
    for isolation in BOTH {
        let stage = Stage::set().await;
        let client = service(&stage, isolation).await;
        let enter = "select public.cgk_enter('acme')";
        for path in PATHS {
            let change = format!("{enter}; set local search_path = {path}");
            // The control: the first schema is the tenant's all the same.
            let begin = format!("{change}; select current_schema()");
            run(&client, "begin").await.unwrap();
            assert!(rows(&client, &begin).await.unwrap().contains(&vec![Some("tenant_acme".into())]), "{path}");
            run(&client, "rollback").await.unwrap();
            for (then, expected) in [("select public.cgk_check('acme')", "TN501"), (enter, "TN405")] {
                assert_eq!(refused(&client, "begin", &format!("{change}; {then}")).await, expected, "{path}: {then}");
            }
            let back = format!("{change}; set local search_path = tenant_acme, public, pg_temp; {enter};");
            assert_eq!(refused(&client, "begin", &format!("{back} select public.cgk_check('acme')")).await, "none");
        }
        // A mark that is made to fit does not help, because the check makes the path itself.
        let forged = "select set_config('search_path', 'tenant_acme, tenant_globex', true),
                             set_config('cgk.tenant', current_setting('cgk.tenant') || ' tenant_acme, tenant_globex', true)";
        let sql = format!("{enter}; {forged}; select public.cgk_check('acme')");
        assert_eq!(refused(&client, "begin", &sql).await, "TN501");
        // The library does the same.
        let db = stage.app(isolation, SharedTables::Registry).await;
        let set = |path: &str| format!("do $$ begin perform set_config('search_path', '{path}', true); end $$");
        let work = async |path: &str| {
            db.with_tenant(&slug("acme"), async |tx| {
                tx.execute_typed("insert into marks (tag) values ('kept')", &[]).await?;
                tx.execute_typed(&set(path), &[]).await
            })
            .await
        };
        for path in PATHS {
            let refused = work(path).await.unwrap_err();
            assert!(matches!(refused, Error::Transaction(TransactionError::Tampered { .. })), "{path}: {refused:?}");
        }
        work("tenant_acme, public, pg_temp").await.unwrap();
        assert_eq!(stage.marks("acme", "kept").await.0, 1, "{isolation:?}");
    }
}

/// On a hardened database a tenant's role may not call `set_config`, and calls inside a tenant come to the same as elsewhere.
#[tokio::test]
async fn a_call_inside_a_tenant_is_answered_on_a_hardened_database() {
    for isolation in BOTH {
        let stage = injection::stage(true).await;
        let client = service(&stage, isolation).await;
        let login = stage.app_name().as_str().to_owned();
        let grant = "grant execute on function pg_catalog.set_config(text, text, boolean) to";
        stage.sql(&format!("{grant} {login}")).await;
        let enter = "select public.cgk_enter('acme')";
        if isolation == Isolation::Role {
            // The control: set_config itself is refused inside.
            let sql = format!("{enter}; select set_config('a.b', '', true)");
            assert_eq!(refused(&client, "begin", &sql).await, "42501");
        }
        for (then, expected) in [
            (enter, "none"),
            ("select public.cgk_enter('acme'), public.cgk_check('acme')", "none"),
            ("select public.cgk_enter('globex')", "TN405"),
            ("select public.cgk_enter('nope')", "TN405"),
        ] {
            assert_eq!(refused(&client, "begin", &format!("{enter}; {then}")).await, expected, "{isolation:?}: {then}");
        }
        let db = stage.app(isolation, SharedTables::Registry).await;
        let inside = "select public.cgk_enter('acme'), public.cgk_enter('acme'), public.cgk_check('acme')";
        db.with_tenant(&slug("acme"), async |tx| tx.query_typed(inside, &[]).await).await.unwrap();
        let other = "select public.cgk_enter('globex')";
        let other = db.with_tenant(&slug("acme"), async |tx| tx.query_typed(other, &[]).await).await;
        assert_eq!(other.unwrap_err().sqlstate().unwrap().code(), "TN405", "{isolation:?}");
    }
}

/// A savepoint that is undone takes an entry back with everything that it has set, its lock too, and there is a way in again.
#[tokio::test]
async fn an_entry_that_is_rolled_back_is_none() {
    for isolation in BOTH {
        let stage = Stage::set().await;
        let client = service(&stage, isolation).await;
        run(&client, "begin").await.unwrap();
        run(&client, "savepoint a").await.unwrap();
        one(&client, "select public.cgk_enter('acme')").await;
        assert_eq!(locks(&stage, "acme").await, 1);
        run(&client, "rollback to a").await.unwrap();
        assert_eq!(locks(&stage, "acme").await, 0);
        one(&client, "select public.cgk_enter('globex')").await;
        assert_eq!(one(&client, "select tag from marks where n = 0").await, "globex");
        one(&client, "select public.cgk_check('globex')").await;
        run(&client, "commit").await.unwrap();
        let again = connect(stage.database.name()).await;
        assert_eq!(refused(&again, "begin", "select public.cgk_check('globex')").await, "TN501");
    }
}
