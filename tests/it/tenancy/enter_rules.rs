//! `public.cgk_enter` after RESET ALL, in a copy of a database, and for a login without access to the tenants.

use super::enter::{one, refused, service};
use crate::stage::{Stage, connect, run, slug};
use cgk::{config::Isolation, lock};

const BOTH: [Isolation; 2] = [Isolation::Role, Isolation::Path];

#[tokio::test]
async fn after_reset_all_a_transaction_that_has_written_enters_no_second_tenant() {
    for isolation in BOTH {
        let stage = Stage::set().await;
        let client = service(&stage, isolation).await;
        let first = "select public.cgk_enter('acme'); insert into marks (tag) values ('first')";
        let second = "select public.cgk_enter('globex')";
        for reset in ["reset all; reset role", "savepoint s; reset all; reset role; release savepoint s"] {
            let sql = format!("{first}; {reset}; {second}; insert into marks (tag) values ('second')");
            assert_eq!(refused(&client, "begin", &sql).await, "TN405", "{isolation:?}: {reset}");
            // An unknown tenant is no answer about the first one.
            let unknown = format!("{first}; {reset}; select public.cgk_enter('nope')");
            assert_eq!(refused(&client, "begin", &unknown).await, "TN405", "{isolation:?}: {reset}");
        }
        // The control: the settings do not name the first tenant any more, and its lock does.
        run(&client, "begin").await.unwrap();
        run(&client, &format!("{first}; reset all; reset role")).await.unwrap();
        assert_eq!(one(&client, "select coalesce(current_setting('cgk.tenant', true), '')").await, "");
        let key = lock::tenant_key(&slug("acme"));
        let locks = format!(
            "select count(*) from pg_locks where locktype = 'advisory' and pid = pg_backend_pid()
                and (classid::bigint << 32) + objid::bigint = {key}"
        );
        assert_eq!(one(&client, &locks).await, "1");
        run(&client, "rollback").await.unwrap();
        // The same tenant again is the way back into it.
        let back =
            format!("{first}; reset all; reset role; select public.cgk_enter('acme'); select public.cgk_check('acme')");
        assert_eq!(refused(&client, "begin", &back).await, "none", "{isolation:?}");
        // An entry that was rolled back is none, and locks of other things are no tenants.
        for before in ["savepoint s; {first}; rollback to s", "select pg_advisory_xact_lock_shared(1)"] {
            let before = before.replace("{first}", first);
            let write = "create temporary table t (n int)";
            let sql = format!("{before}; {write}; {second}; select public.cgk_check('globex')");
            assert_eq!(refused(&client, "begin", &sql).await, "none", "{isolation:?}: {before}");
        }
    }
}

#[tokio::test]
async fn in_a_copy_of_a_database_no_tenant_is_entered() {
    for isolation in BOTH {
        let stage = Stage::set().await;
        drop(service(&stage, isolation).await);
        let (original, login) = (stage.database.name().to_owned(), stage.app_name());
        let enter = "select public.cgk_enter('acme')";
        let become_login = format!("set session authorization {login}", login = login.as_str());
        let of = async |database: &str| {
            let client = connect(database).await;
            run(&client, &become_login).await.unwrap();
            if isolation == Isolation::Path {
                run(&client, "set cgk.isolation = 'path'").await.unwrap();
            }
            client
        };
        // The control.
        assert_eq!(refused(&of(&original).await, "begin", enter).await, "none", "{isolation:?}");

        let copy = format!("{original}_copy");
        let server = connect("postgres").await;
        run(&server, &format!("alter database \"{original}\" allow_connections false")).await.unwrap();
        let end = format!("select pg_terminate_backend(pid, 10000) from pg_stat_activity where datname = '{original}'");
        run(&server, &end).await.unwrap();
        run(&server, &format!("create database \"{copy}\" template \"{original}\"")).await.unwrap();
        run(&server, &format!("alter database \"{original}\" allow_connections true")).await.unwrap();
        run(&server, &format!("alter database \"{copy}\" allow_connections true")).await.unwrap();
        let client = of(&copy).await;
        for tenant in ["acme", "nope"] {
            let sql = format!("select public.cgk_enter('{tenant}')");
            assert_eq!(refused(&client, "begin", &sql).await, "TN408", "{isolation:?}: {tenant}");
        }
        run(&server, &format!("drop database \"{copy}\" with (force)")).await.unwrap();
    }
}

#[tokio::test]
async fn a_login_without_access_is_told_so_and_not_which_tenants_there_are() {
    let stage = Stage::set().await;
    let stranger = format!("{}_stranger", stage.app_name().as_str());
    for isolation in BOTH {
        let admitted = service(&stage, isolation).await;
        stage.sql(&format!("create role {stranger}")).await;
        let client = connect(stage.database.name()).await;
        run(&client, &format!("set session authorization {stranger}")).await.unwrap();
        for tenant in ["acme", "nope"] {
            let sql = format!("select public.cgk_enter('{tenant}')");
            assert_eq!(refused(&client, "begin", &sql).await, "TN403", "{isolation:?}: {tenant}");
        }
        // The control: a login with access, and the owner of everything, are told that there is no such tenant.
        assert_eq!(refused(&admitted, "begin", "select public.cgk_enter('nope')").await, "TN401", "{isolation:?}");
        assert_eq!(refused(&stage.watch, "begin", "select public.cgk_enter('nope')").await, "TN401");
        stage.sql(&format!("drop role {stranger}")).await;
    }
}
