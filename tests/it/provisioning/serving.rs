//! The other side: who takes requests and creates tenants.

use super::*;
use crate::support::patience::must_end;
use cgk::{ErrorKind, provisioning::ProvisioningStatus};

#[tokio::test]
async fn a_tenant_is_created_as_the_command_does() {
    let site = Site::set().await;
    let requested = site.request("initech").await;
    let (report, seen) = site.serve_due(&ServeOptions::default()).await;
    assert_eq!((report.done, report.postponed, report.failed, report.interrupted), (1, 0, 0, false));
    assert_eq!(seen, [("initech".to_owned(), "done".to_owned())]);
    let request = site.provisioning.find(requested.id).await.unwrap();
    assert_eq!((request.status.clone(), request.attempts, &request.failure), (ProvisioningStatus::Done, 1, &None));
    assert!(request.finished_at.is_some() && site.is_active("initech").await);
    assert!(site.provisioning.unfinished().await.unwrap().is_empty());
    assert_eq!(site.provisioning.all().await.unwrap(), [request]);
    // As one of `tenant:create`: no drift, and the same ledger.
    let stage = &site.platform.stage;
    let same = "with a as (select version, name, checksum from tenant_acme.schema_migrations),
                     i as (select version, name, checksum from tenant_initech.schema_migrations)
                select count(*) from ((table a except table i) union all (table i except table a)) d";
    assert_eq!(stage.number(same).await, 0);
    let bound = "select count(*) from organizations where slug = 'initech'
                 and obj_description('tenant_initech'::regnamespace, 'pg_namespace') = 'cgk organization ' || id";
    assert_eq!(stage.number(bound).await, 1);
    assert_eq!(site.serve_due(&ServeOptions::default()).await.1, []);
    assert!(matches!(site.provisioning.retry(requested.id).await, Err(ProvisioningError::NotFound)));
}

#[tokio::test]
async fn the_service_itself_cannot_serve() {
    let site = Site::set().await;
    site.request("initech").await;
    let config = patient(site.platform.db.config());
    let options = ServeOptions::default();
    let error = provisioning::serve_due(&config, &Migrations::bundled(), &options, &mut |_| ()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Denied, "{error:?}");
    // No request has cost an attempt.
    assert_eq!(site.of("initech").await.attempts, 0);
    assert!(!site.is_active("initech").await);
}

#[tokio::test]
async fn a_request_that_fails_says_why_and_blocks_no_other() {
    let site = Site::set().await;
    let stage = &site.platform.stage;
    for name in ["broken", "foreign", "initech", "umbrella"] {
        site.request(name).await;
    }
    stage.sql("create schema tenant_foreign").await;
    let trigger = "create function refuse() returns trigger language plpgsql as $$
             begin if new.slug = 'broken' then raise 'not this one'; end if; return new; end $$;
         create trigger refuse before update on organizations for each row execute function refuse()";
    stage.sql(trigger).await;
    let mut options = ServeOptions::default();
    options.attempts_max = 2;
    options.pause_first = Duration::MAX;
    options.pause_max = Duration::MAX;
    let (report, mut seen) = site.serve_due(&options).await;
    seen.sort();
    let expected = [("broken", "postponed"), ("foreign", "failed CGK0404"), ("initech", "done"), ("umbrella", "done")];
    for ((name, outcome), (found_name, found)) in expected.iter().zip(&seen) {
        assert!(name == found_name && found.starts_with(outcome), "{seen:?}");
    }
    assert_eq!((report.done, report.postponed, report.failed, seen.len()), (2, 1, 1, 4));
    let broken = site.of("broken").await;
    assert_eq!((broken.status.clone(), broken.attempts), (ProvisioningStatus::Pending, 1));
    let failure = broken.failure.clone().unwrap();
    assert!(failure.message.contains("not this one") && failure.code.starts_with("CGK"), "{failure:?}");
    assert!(broken.attempt_at > broken.created_at + NEVER / 3);
    let foreign = site.of("foreign").await;
    assert_eq!(foreign.status, ProvisioningStatus::Failed);
    assert!(foreign.failure.unwrap().message.contains("tenant_foreign") && foreign.finished_at.is_some());
    assert!(site.is_active("initech").await && site.is_active("umbrella").await);

    // Its pause is not over; asked for now, the second attempt is the last.
    assert_eq!(site.serve_due(&options).await.1, []);
    stage.sql("update provisioning_requests set attempt_at = now() where status = 'pending'").await;
    assert!(site.serve_due(&options).await.1[0].1.starts_with("failed"));
    assert_eq!(site.of("broken").await.status, ProvisioningStatus::Failed);
    assert_eq!(site.serve_due(&options).await.1, []);

    // The cause is removed, and somebody asks again.
    stage.sql("drop trigger refuse on organizations; drop schema tenant_foreign").await;
    for name in ["broken", "foreign"] {
        site.provisioning.retry(site.of(name).await.id).await.unwrap();
        assert_eq!(site.of(name).await.attempts, 0);
    }
    assert_eq!(site.serve_due(&options).await.0.done, 2);
    assert!(site.is_active("broken").await && site.is_active("foreign").await);
}

/// The registry's row is there before the tenant. What is left of an earlier tenant of the name is not taken over all the same.
#[tokio::test]
async fn nothing_of_an_earlier_tenant_is_handed_on() {
    let site = Site::set().await;
    let stage = &site.platform.stage;
    site.request("role").await;
    let role = stage.role("role");
    stage.sql(&format!("create role {role}; grant select on public.marks to {role}")).await;
    // The schema of an old tenant that is bound to no organization, as an early version made it.
    stage.database.with_tenants(&["old"]).await.unwrap();
    stage.sql("comment on schema tenant_old is null; insert into tenant_old.customers (first_name, email) values ('A', 'a@b')").await;
    let unguarded = "set session_replication_role = replica; delete from organizations where slug = 'old'; reset session_replication_role";
    stage.sql(unguarded).await;
    let by_hand = "with new as (insert into organizations (slug, name) values ('old', 'New') returning id)
                   insert into provisioning_requests (organization_id) select id from new";
    stage.sql(by_hand).await;
    let (_, mut seen) = site.serve_due(&ServeOptions::default()).await;
    seen.sort();
    assert_eq!(seen, [("old".into(), "failed CGK0404".into()), ("role".into(), "failed CGK0412".into())]);
    // The precondition: without these the tenants can be created.
    stage
        .sql(&format!(
            "revoke select on public.marks from {role}; drop schema tenant_old cascade; drop role {}",
            stage.role("old")
        ))
        .await;
    for name in ["old", "role"] {
        site.provisioning.retry(site.of(name).await.id).await.unwrap();
    }
    assert_eq!(site.serve_due(&ServeOptions::default()).await.0.done, 2);
}

/// Each look at the queue is a notice's: no other comes before the test ends.
#[tokio::test]
async fn a_notice_wakes_the_server() {
    let site = Site::set().await;
    let mut options = ServeOptions::default();
    options.poll_interval = NEVER;
    let (interrupt, serving) = site.serving(&options);
    let listening =
        "select count(*) = 1 from pg_stat_activity where datname = current_database() and query like 'listen %'";
    site.platform.stage.until(listening).await;
    for name in ["initech", "umbrella"] {
        let requested = site.request(name).await;
        let request = must_end("the tenant", site.provisioning.wait(requested.id, NEVER)).await.unwrap();
        assert_eq!(request.status, ProvisioningStatus::Done);
    }
    // One that has failed is asked for again: that is notified too.
    let requested = site.request("hooli").await;
    must_end("the tenant", site.provisioning.wait(requested.id, NEVER)).await.unwrap();
    site.platform.stage.sql("update provisioning_requests set status = 'failed'").await;
    site.provisioning.retry(requested.id).await.unwrap();
    let request = must_end("the tenant", site.provisioning.wait(requested.id, NEVER)).await.unwrap();
    assert_eq!((request.status, request.attempts), (ProvisioningStatus::Done, 1));
    interrupt.stop();
    let report = must_end("the server", serving).await.unwrap().unwrap();
    assert_eq!((report.done, report.interrupted), (4, true));
}

#[tokio::test]
async fn without_notices_the_queue_is_looked_at_from_time_to_time() {
    let site = Site::set().await;
    site.platform
        .stage
        .sql("alter table provisioning_requests disable trigger provisioning_requests_notify_insert")
        .await;
    let mut options = ServeOptions::default();
    options.poll_interval = Duration::from_millis(20);
    let (interrupt, serving) = site.serving(&options);
    let listening =
        "select count(*) = 1 from pg_stat_activity where datname = current_database() and query like 'listen %'";
    site.platform.stage.until(listening).await;
    let requested = site.request("initech").await;
    let request = must_end("the tenant", site.provisioning.wait(requested.id, NEVER)).await.unwrap();
    assert_eq!(request.status, ProvisioningStatus::Done);
    interrupt.stop();
    must_end("the server", serving).await.unwrap().unwrap();
}

/// A server whose connections are all cut connects again; what it was at is tried again.
#[tokio::test]
async fn a_server_that_loses_its_connections_goes_on() {
    let site = Site::set().await;
    let stage = &site.platform.stage;
    let requested = site.request("initech").await;
    // It hangs where the tenant is activated.
    let holder = site.platform.holder("select from organizations where slug = 'initech' for update").await;
    let mut options = ServeOptions::default();
    options.pause_first = Duration::from_millis(1);
    let (interrupt, serving) = site.serving(&options);
    site.platform.until_waiting(1).await;
    let others = "select count(pg_terminate_backend(pid)) from pg_stat_activity
         where datname = current_database() and application_name = 'cgk' and pid <> pg_backend_pid()
           and usename = session_user";
    assert!(stage.number(others).await >= 3);
    crate::stage::run(&holder, "commit").await.unwrap();
    let request = must_end("the tenant", site.provisioning.wait(requested.id, NEVER)).await.unwrap();
    assert_eq!(request.status, ProvisioningStatus::Done);
    assert!(request.attempts >= 2 && site.is_active("initech").await, "{request:?}");
    interrupt.stop();
    must_end("the server", serving).await.unwrap().unwrap();
}

#[tokio::test]
async fn without_the_queue_it_is_said_what_is_missing() {
    let site = Site::set().await;
    site.platform.stage.sql("drop table provisioning_requests").await;
    let options = ServeOptions::default();
    let error =
        provisioning::serve_due(&site.config(), &Migrations::bundled(), &options, &mut |_| ()).await.unwrap_err();
    assert!(error.kind() == ErrorKind::NotReady && error.to_string().contains("provisioning_requests"), "{error}");
}
