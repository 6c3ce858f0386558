//! Organizations: created with their owners, listed, changed, and given up.

use crate::stage::{Stage, must_end, run, slug};
use crate::support::cgk::Shell;
use cgk::{
    OrganizationId, TenantStatus,
    platform::{Actor, Members, OrganizationChange, Organizations, PageRequest, PlatformError},
    provisioning::NewOrganization,
};
use insta::assert_snapshot;
use serde_json::json;

fn new(name: &str) -> NewOrganization {
    NewOrganization::new(slug(name)).name("Initech Inc.")
}

#[tokio::test(flavor = "multi_thread")]
async fn an_organization_is_created_with_its_owner_and_becomes_a_tenant() {
    let stage = Stage::set().await;
    let ada = stage.user(stage.acme, "ada@example.com", "member").await;
    let organizations = Organizations::new(&stage.db).acting_as(Actor::User(ada));
    let created = organizations.create(&new("initech"), ada).await.unwrap();
    assert_eq!(created.organization.status, TenantStatus::Onboarding);
    let member = Members::new(&stage.db).get(created.organization.id, ada).await.unwrap();
    assert_eq!((member.role.as_str(), member.confirmed_at.is_some()), ("owner", true));
    // Nothing can be entered yet; the operator's process creates what is missing.
    assert!(stage.db.tenant(&slug("initech")).query("select 1", &[]).await.is_err());
    let answer = Shell::on(&stage.database).run(&["provision"]);
    assert_eq!(answer.code, 0, "{}", answer.stderr);
    assert!(stage.db.tenant(&slug("initech")).query("select count(*) from orders", &[]).await.is_ok());
    assert_eq!(organizations.get(created.organization.id).await.unwrap().status, TenantStatus::Active);

    let again = organizations.create(&new("initech"), ada).await;
    assert!(matches!(again, Err(PlatformError::SlugTaken { .. })), "{again:?}");
    let own = organizations.list(&PageRequest::default()).await.unwrap().items;
    assert_eq!(own.iter().map(|one| one.slug.as_str()).collect::<Vec<_>>(), ["acme", "initech"]);
    let names = "select string_agg(action, ', ' order by action) from audit_events";
    let names: String = stage.watch.query_one(names, &[]).await.unwrap().get(0);
    assert_eq!(names, "cgk.membership.created, cgk.organization.created");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_see_change_and_give_up_what() {
    let stage = Stage::set().await;
    let of = async |role: &str| {
        let user = stage.user(stage.acme, &format!("{role}@example.com"), role).await;
        Organizations::new(&stage.db).acting_as(Actor::User(user))
    };
    let (owner, admin, member) = (of("owner").await, of("admin").await, of("member").await);
    let outsider = stage.user(stage.globex, "outsider@example.com", "owner").await;
    let outside = Organizations::new(&stage.db).acting_as(Actor::User(outsider));
    let change = OrganizationChange::default().name("Acme Inc.").settings(json!({"theme": "dark"}));
    assert!(matches!(member.update(stage.acme, &change).await, Err(PlatformError::Forbidden { .. })));
    assert!(matches!(admin.delete(stage.acme).await, Err(PlatformError::Forbidden { .. })));
    for outcome in [
        outside.get(stage.acme).await,
        outside.by_slug(&slug("acme")).await,
        outside.update(stage.acme, &change).await,
        outside.delete(stage.acme).await,
        owner.get(OrganizationId(uuid::Uuid::nil())).await,
        owner.by_slug(&slug("nosuch")).await,
    ] {
        assert!(matches!(outcome, Err(PlatformError::NotFound { .. })), "{outcome:?}");
    }
    let by_other = outside.create(&new("initech"), cgk::UserId(uuid::Uuid::nil())).await;
    assert!(matches!(by_other, Err(PlatformError::Forbidden { .. })));

    let changed = admin.update(stage.acme, &change).await.unwrap();
    assert_eq!((changed.name.as_str(), &changed.settings), ("Acme Inc.", &json!({"theme": "dark"})));
    // The same again is no event.
    assert_eq!(admin.update(stage.acme, &change).await.unwrap().name, "Acme Inc.");
    assert_eq!(member.by_slug(&slug("acme")).await.unwrap().name, "Acme Inc.");
    for bad in [OrganizationChange::default().name(" "), OrganizationChange::default().settings(json!([]))] {
        assert!(matches!(admin.update(stage.acme, &bad).await, Err(PlatformError::Invalid { .. })));
    }

    assert!(stage.db.tenant(&slug("acme")).query("select 1", &[]).await.is_ok());
    assert_eq!(owner.delete(stage.acme).await.unwrap().status, TenantStatus::Suspended);
    assert_eq!(owner.delete(stage.acme).await.unwrap().status, TenantStatus::Suspended);
    assert!(stage.db.tenant(&slug("acme")).query("select 1", &[]).await.is_err());
    let names = "select string_agg(action, ', ' order by action) from audit_events";
    let names: String = stage.watch.query_one(names, &[]).await.unwrap().get(0);
    assert_eq!(names, "cgk.organization.deleted, cgk.organization.updated");
    // What a product keeps in its settings is not in the log.
    assert_eq!(stage.count("select count(*) from audit_events a where a::text like '%theme%'").await, 0);
}

/// Both write the slug; the second one waits, and then it is taken.
#[tokio::test(flavor = "multi_thread")]
async fn of_two_who_take_a_slug_at_once_one_gets_it() {
    let stage = Stage::set().await;
    let ada = stage.user(stage.acme, "ada@example.com", "member").await;
    let holder = stage.holder("lock table provisioning_requests in share mode").await;
    let create = || {
        let organizations = Organizations::new(&stage.db);
        tokio::spawn(async move { organizations.create(&new("initech"), ada).await })
    };
    let (one, other) = (create(), create());
    stage.until_waiting(2).await;
    run(&holder, "commit").await;
    let outcomes = [must_end(one).await.unwrap(), must_end(other).await.unwrap()];
    assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 1, "{outcomes:?}");
    assert!(outcomes.iter().any(|outcome| matches!(outcome, Err(PlatformError::SlugTaken { .. }))), "{outcomes:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_creation_whose_session_is_ended_leaves_nothing() {
    let stage = Stage::set().await;
    let ada = stage.user(stage.acme, "ada@example.com", "member").await;
    let organizations = Organizations::new(&stage.db);
    for lock in [
        "lock table organizations in share mode",
        "lock table provisioning_requests in share mode",
        "select from users for update",
        "lock table memberships in share mode",
        "lock table audit_events in share mode",
    ] {
        let holder = stage.holder(lock).await;
        let creating = organizations.clone();
        let call = tokio::spawn(async move { creating.create(&new("initech"), ada).await });
        stage.until_waiting(1).await;
        stage.kill_waiting().await;
        run(&holder, "rollback").await;
        assert!(must_end(call).await.unwrap().is_err(), "{lock}");
        let left = "select (select count(*) from organizations) + (select count(*) from memberships)
                         + (select count(*) from provisioning_requests) + (select count(*) from audit_events)";
        assert_eq!(stage.count(left).await, 3, "{lock}");
    }
    organizations.create(&new("initech"), ada).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_people_and_programs_see() {
    let stage = Stage::set().await;
    stage.user(stage.acme, "ada@example.com", "owner").await;
    stage.user(stage.acme, "ben@example.com", "member").await;
    // Their order is that of their creation.
    stage.run("update organizations set created_at = '2026-01-01' where slug = 'acme'").await;
    let shell = Shell::on(&stage.database);
    assert_snapshot!(shell.transcript(&[
        "org:list",
        "org:list --json",
        "org:show acme",
        "org:show globex --json",
        "org:show nosuch",
        "org:show Not-a-slug",
        "org:list --after nonsense",
    ]));
}

/// An organization that its owner has deleted before it had a tenant leaves a request, which the statement of the page removes.
#[tokio::test(flavor = "multi_thread")]
async fn the_request_of_a_deleted_organization_is_removed_by_the_statement_of_the_page() {
    let stage = Stage::set().await;
    let ada = stage.user(stage.acme, "ada@example.com", "owner").await;
    let organizations = Organizations::new(&stage.db).acting_as(Actor::User(ada));
    let new = NewOrganization::new("labs".parse().unwrap());
    let created = organizations.create(&new, ada).await.unwrap();
    organizations.delete(created.organization.id).await.unwrap();
    let provisioning = cgk::provisioning::Provisioning::new(&stage.db);
    assert_eq!(provisioning.unfinished().await.unwrap()[0].id, created.request);
    let page = include_str!("../../docs/operations.md");
    let mut statements = page.split("```sql\n").map(|part| part.split("```").next().unwrap());
    let statement = statements.find(|part| part.starts_with("delete from public.organizations")).unwrap();
    // It spares an organization with a tenant.
    stage.run("update organizations set status = 'suspended' where slug = 'acme'").await;
    stage.run(statement).await;
    assert_eq!(stage.count("select count(*) from organizations where slug = 'acme'").await, 1);
    stage.run(&statement.replace("acme", "labs")).await;
    assert!(provisioning.unfinished().await.unwrap().is_empty());
    assert_eq!(stage.count("select count(*) from organizations where slug = 'labs'").await, 0);
}
