//! What a service writes and reads, with its own login.

use super::*;
use crate::{
    stage::connect,
    support::{cgk::Shell, patience::must_end},
};
use cgk::{ErrorKind, config::Pooling, provisioning::ProvisioningStatus};

#[tokio::test]
async fn a_request_is_committed_with_the_transaction_or_not_at_all() {
    let site = Site::set().await;
    let rolled_back: Result<(), ProvisioningError> = site
        .db
        .platform()
        .transaction(async |tx| {
            provisioning::request(tx, &NewOrganization::new(slug("initech"))).await?;
            Err(ProvisioningError::NotFound)
        })
        .await;
    assert!(matches!(rolled_back, Err(ProvisioningError::NotFound)));
    assert!(matches!(site.provisioning.of_tenant(&slug("initech")).await, Err(ProvisioningError::NotFound)));

    let new = NewOrganization::new(slug("initech")).name("Initech Inc.").settings(serde_json::json!({"plan": "pro"}));
    let requested = site.db.platform().transaction(async |tx| provisioning::request(tx, &new).await).await.unwrap();
    let request = site.provisioning.find(requested.id).await.unwrap();
    assert_eq!((request.organization_id, request.slug.as_str()), (requested.organization_id, "initech"));
    assert_eq!((request.status.clone(), request.attempts), (ProvisioningStatus::Pending, 0));
    assert_eq!((&request.failure, request.finished_at), (&None, None));
    let row = "select count(*) from organizations where slug = 'initech' and status = 'onboarding' and name = 'Initech Inc.' and settings->>'plan' = 'pro'";
    assert_eq!(site.platform.stage.number(row).await, 1);
    // Nobody enters it before it is there.
    let error = site.platform.db.tenant(&slug("initech")).query("select 1", &[]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotReady);
    assert_eq!(site.provisioning.unfinished().await.unwrap(), std::slice::from_ref(&request));
}

#[tokio::test]
async fn a_taken_name_is_told_and_the_transaction_goes_on() {
    let site = Site::set().await;
    // What an earlier tenant has left under the name.
    site.platform.stage.sql("create schema tenant_left").await;
    let platform = site.db.platform();
    let requested = platform.transaction(async |tx| {
        for taken in ["acme", "left"] {
            let error = provisioning::request(tx, &NewOrganization::new(slug(taken))).await.unwrap_err();
            assert!(matches!(&error, ProvisioningError::SlugTaken { slug } if slug.as_str() == taken), "{error:?}");
            assert_eq!(error.status(), 409);
        }
        for name in ["", "  ", "\t", "a\u{1b}[2Jb", "a\0b", &"é".repeat(201)] {
            let error = provisioning::request(tx, &NewOrganization::new(slug("x")).name(name)).await.unwrap_err();
            assert!(matches!(error, ProvisioningError::Invalid { .. }) && error.status() == 422, "{error:?}");
        }
        let settings = NewOrganization::new(slug("x")).settings(serde_json::json!([]));
        assert_eq!(provisioning::request(tx, &settings).await.unwrap_err().status(), 422);
        provisioning::request(tx, &NewOrganization::new(slug("initech")).name("é".repeat(200))).await
    });
    let requested = requested.await.unwrap();
    assert_eq!(site.of("initech").await.id, requested.id);
}

/// Two services ask for one name: the second waits for the first, and is told.
#[tokio::test]
async fn of_two_requests_for_one_name_one_is_told_that_it_is_taken() {
    let site = Site::set().await;
    let first = connect(site.platform.stage.database.name()).await;
    crate::stage::run(&first, "begin; insert into organizations (slug, name) values ('initech', 'I')").await.unwrap();
    let db = site.db.clone();
    let second = tokio::spawn(async move {
        let new = NewOrganization::new(slug("initech"));
        db.platform().transaction(async |tx| provisioning::request(tx, &new).await).await
    });
    site.platform.until_waiting(1).await;
    crate::stage::run(&first, "commit").await.unwrap();
    let error = must_end("the second", second).await.unwrap().unwrap_err();
    assert!(matches!(error, ProvisioningError::SlugTaken { .. }), "{error:?}");
}

#[tokio::test]
async fn tenants_see_nothing_of_the_queue() {
    let site = Site::set().await;
    site.request("initech").await;
    let acme = slug("acme");
    let tenant = site.platform.db.tenant(&acme);
    for sql in [
        "select id from public.provisioning_requests",
        "select count(*) from public.provisioning_requests",
        "insert into public.provisioning_requests (organization_id) select id from public.organizations",
        "update public.provisioning_requests set status = 'done'",
        "delete from public.provisioning_requests",
    ] {
        let error = tenant.query(sql, &[]).await.unwrap_err();
        assert_eq!(error.sqlstate().map(|state| state.code()), Some("42501"), "{sql}: {error:?}");
    }
    // Not even with a right: no policy lets a row through.
    site.platform.stage.sql("grant select on provisioning_requests to public").await;
    let seen: i64 = tenant.query_one("select count(*) from public.provisioning_requests", &[]).await.unwrap().get(0);
    assert_eq!((seen, site.platform.stage.number("select count(*) from provisioning_requests").await), (0, 1));
}

/// A login that was admitted before the table was there sees the queue without being admitted again.
#[tokio::test]
async fn a_login_of_an_older_database_sees_the_queue() {
    let site = Site::set().await;
    let sql = "do $$
         declare item record;
         begin
             for item in select c.oid::regclass as name from pg_class c
                          where c.relnamespace = 'public'::regnamespace and c.relkind in ('r', 'p') and not c.relispartition
                            and c.relname::text !~ '^(cgk_.*|schema_migrations|organizations|users|sessions|api_keys|billing|magic_links)$'
             loop execute format('drop table %s cascade', item.name); end loop;
             for item in select p.oid::regprocedure as name from pg_proc p
                          where p.pronamespace = 'public'::regnamespace and p.proname::text ~ '^cgk_'
                            and p.proname::text !~ '^cgk_(database_tag|isolation|isolation_modes|guard_registry|extension_schemas|search_path|refuse|join|forget|enter|check_path|left|check|table_truncated|notify_changes|(organizations|users|sessions|api_keys)_changed)$'
             loop execute format('drop function %s cascade', item.name); end loop;
             for item in select t.oid::regtype as name from pg_type t
                          where t.typnamespace = 'public'::regnamespace and t.typtype = 'e'
                            and t.typname::text !~ '^(organization|user|billing|magic_link)_'
             loop execute format('drop type %s', item.name); end loop;
         end $$;
         alter table users drop column holds_address; drop index sessions_user_id_idx;
         alter table sessions add constraint sessions_organization_id_user_id_fkey
             foreign key (organization_id, user_id) references users (organization_id, id) on delete cascade;
         delete from schema_migrations where version > 10; comment on table schema_migrations is null;
         delete from cgk_migration_files where set = 'public' and version > 10";
    site.platform.stage.sql(sql).await;
    let error = site.provisioning.unfinished().await.unwrap_err();
    assert!(matches!(error, ProvisioningError::TablesMissing { .. }) && error.status() == 500, "{error:?}");
    let answer = Shell::on(&site.platform.stage.database).run(&["migrate"]);
    assert_eq!(answer.code, 0, "{}", answer.stderr);
    let requested = site.request("initech").await;
    assert_eq!(site.provisioning.find(requested.id).await.unwrap().slug, "initech");
}

#[tokio::test]
async fn waiting_ends_with_the_request_or_with_the_time() {
    let site = Site::set().await;
    let requested = site.request("initech").await;
    let pending = site.provisioning.wait(requested.id, Duration::ZERO).await.unwrap();
    assert_eq!(pending.status, ProvisioningStatus::Pending);
    // All that wait share one connection, beside the pool of one.
    let waiting: Vec<_> = (0..20)
        .map(|_| {
            let provisioning = site.provisioning.clone();
            tokio::spawn(async move { provisioning.wait(requested.id, NEVER).await })
        })
        .collect();
    let stage = &site.platform.stage;
    let listening = "from pg_stat_activity where datname = current_database() and query like 'listen %'";
    stage.until(&format!("select count(*) = 1 {listening}")).await;
    stage.sql(&format!("update provisioning_requests set status = 'failed', finished_at = now(), error = 'no', error_code = 'CGK0000' where id = '{}'", requested.id)).await;
    for waiter in waiting {
        let request = must_end("a waiter", waiter).await.unwrap().unwrap();
        assert_eq!(request.status, ProvisioningStatus::Failed);
        assert_eq!(request.failure.unwrap().message, "no");
    }
    stage.until(&format!("select count(*) = 0 {listening}")).await;
    // A request that goes away while it is waited for.
    let requested = site.request("umbrella").await;
    let provisioning = site.provisioning.clone();
    let waiter = tokio::spawn(async move { provisioning.wait(requested.id, NEVER).await });
    stage.until(&format!("select count(*) = 1 {listening}")).await;
    stage.sql("delete from organizations where slug = 'umbrella'").await;
    assert!(matches!(must_end("the waiter", waiter).await.unwrap(), Err(ProvisioningError::NotFound)));
    // Inside a transaction, what it has written cannot be waited for.
    let inside = site.db.platform().transaction(async |_| site.provisioning.wait(requested.id, NEVER).await).await;
    assert!(matches!(inside, Err(ProvisioningError::Invalid { .. })));
}

#[tokio::test]
async fn a_look_that_fails_does_not_end_the_waiting() {
    let site = Site::set().await;
    let requested = site.request("initech").await;
    let config = site.platform.db.config().clone().with_pool_size_max(1).with_pool_wait(Duration::from_millis(100));
    let db = Db::connect(&config).await.unwrap();
    let provisioning = Provisioning::new(&db);
    let (begun, end) = (tokio::sync::Notify::new(), tokio::sync::Notify::new());
    // It has the only connection of the pool.
    let platform = db.platform();
    let busy = platform.transaction(async |tx| {
        tx.query_one("select 1", &[]).await?;
        begun.notify_one();
        end.notified().await;
        Ok(())
    });
    let waiting = async {
        begun.notified().await;
        let over = provisioning.wait(requested.id, Duration::ZERO).await.unwrap_err();
        assert!(matches!(&over, ProvisioningError::Database(error) if error.is_retryable()), "{over:?}");
        let later = async {
            // The control: it asks for a connection after the one that waits, and gets none.
            provisioning.find(requested.id).await.unwrap_err();
            end.notify_one();
            site.serve_due(&ServeOptions::default()).await;
        };
        tokio::join!(provisioning.wait(requested.id, NEVER), later).0
    };
    let (busy, request) = must_end("the waiter", async { tokio::join!(busy, waiting) }).await;
    busy.unwrap();
    assert_eq!(request.unwrap().status, ProvisioningStatus::Done);
}

#[tokio::test]
async fn behind_a_pooler_waiting_works_without_notices() {
    let site = Site::set().await;
    let requested = site.request("initech").await;
    let config = site.platform.db.config().clone().with_pooling(Pooling::Transaction);
    let provisioning = Provisioning::new(&Db::connect(&config).await.unwrap());
    let waiter = tokio::spawn(async move { provisioning.wait(requested.id, NEVER).await });
    site.serve_due(&ServeOptions::default()).await;
    let request = must_end("the waiter", waiter).await.unwrap().unwrap();
    assert_eq!(request.status, ProvisioningStatus::Done);
}
