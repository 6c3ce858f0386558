//! Who is nobody in an organization is refused by every operation that takes an actor. The operations are read from the sources, so
//! a new one is in `walk.rs` or fails this file.

use crate::walk::{Judged as _, Outcome, Scene, operations};
use cgk::{
    OrganizationId,
    auth::{Auth, AuthSettings, NewApiKey},
    platform::{Actor, Members, Organizations, PageRequest, Permission, PlatformError, UserAccounts},
    provisioning::NewOrganization,
};
use std::collections::BTreeSet;

/// Those that everybody may call, and why.
const FREE: &[&str] = &[
    // What is on sale.
    "Plans::list",
    "Plans::list_all",
    "Plans::find",
    // The service calls them for its users, without a permission, as docs/platform.md says.
    "Quota::consume",
    "Quota::consume_in",
    "Quota::release",
    "Quota::release_in",
    // The token is the proof.
    "Invitations::verify",
    "Invitations::accept",
    // It lists the organizations of the user who asks.
    "Organizations::list",
];

#[tokio::test(flavor = "multi_thread")]
async fn who_is_nobody_in_the_organization_is_refused_by_every_operation() {
    let scene = Scene::set().await;
    let stage = &scene.stage;
    let owner = stage.user(stage.globex, "out@example.com", "owner").await;
    let scopes = Permission::ALL.iter().fold(NewApiKey::named("out"), |new, permission| new.scope(permission.as_str()));
    let auth = Auth::new(&stage.db, AuthSettings::default());
    let (key, _) = auth.api_keys().create(stage.globex, &scopes).await.unwrap();
    let before = scene.state().await;
    for actor in [Actor::User(owner), Actor::ApiKey(key.id), Actor::Anonymous] {
        let walk = scene.walk(&actor).await;
        let allowed = walk.other_than(&Outcome::Refused);
        assert!(allowed.is_empty(), "{actor:?} may call {allowed:?}");
        let known: BTreeSet<String> = walk.found.keys().chain(FREE).map(|name| (*name).to_owned()).collect();
        let missing: Vec<_> = operations().into_iter().filter(|name| !known.contains(name)).collect();
        assert!(missing.is_empty(), "operations that no stranger has tried: {missing:?}");
    }
    assert!(operations().len() > 50, "{:?}", operations());
    assert_eq!(scene.state().await, before);
    // The organizations that a user sees are its own.
    let own = Organizations::new(&stage.db).acting_as(Actor::User(owner)).list(&PageRequest::default()).await.unwrap();
    let own: Vec<OrganizationId> = own.items.iter().map(|organization| organization.id).collect();
    assert_eq!(own, [stage.globex]);
    // The control: the service itself is refused nowhere.
    let walk = scene.walk(&Actor::System).await;
    let refused = walk.found.iter().filter(|(_, told)| told.outcome == Outcome::Refused).map(|(name, _)| *name);
    assert_eq!(refused.collect::<Vec<_>>(), [""; 0]);
}

/// An owner who was disabled, also in what is its own.
#[tokio::test(flavor = "multi_thread")]
async fn a_disabled_owner_is_refused_by_every_operation() {
    let scene = Scene::set().await;
    scene.stage.run(&format!("update users set status = 'disabled' where id = '{}'", scene.ada)).await;
    let before = scene.state().await;
    let actor = Actor::User(scene.ada);
    let walk = scene.walk(&actor).await;
    let allowed = walk.other_than(&Outcome::Refused);
    assert!(allowed.is_empty(), "a disabled owner may call {allowed:?}");
    let (db, page) = (&scene.stage.db, PageRequest::default());
    assert!(Organizations::new(db).acting_as(actor.clone()).list(&page).await.outcome() == Outcome::Refused);
    assert!(Members::new(db).acting_as(actor).remove(scene.stage.acme, scene.ada).await.outcome() == Outcome::Refused);
    assert_eq!(scene.state().await, before);
    // The control: when it is active again, its own is there.
    scene.stage.run(&format!("update users set status = 'active' where id = '{}'", scene.ada)).await;
    let accounts = UserAccounts::new(db).acting_as(Actor::User(scene.ada));
    assert_eq!(accounts.list(scene.ada).await.unwrap()[0].id, scene.account);
}

/// The status counts that holds when the change is made, not the one from before it had to wait.
#[tokio::test(flavor = "multi_thread")]
async fn a_user_who_is_disabled_while_its_call_waits_changes_nothing() {
    let scene = Scene::set().await;
    let (stage, ben) = (&scene.stage, scene.ben);
    let actor = Actor::User(ben);
    let account = UserAccounts::new(&stage.db).link(ben, "https://id.example", "ben", None).await.unwrap().id;
    let before = scene.state().await;
    for call in ["leave", "link", "unlink", "create"] {
        let holder = stage.holder(&format!("update users set status = 'disabled' where id = '{ben}'")).await;
        let (db, acme, actor) = (stage.db.clone(), stage.acme, actor.clone());
        let waits = tokio::spawn(async move {
            let accounts = UserAccounts::new(&db).acting_as(actor.clone());
            let new = NewOrganization::new("fresh".parse().unwrap());
            match call {
                "leave" => Members::new(&db).acting_as(actor).remove(acme, ben).await,
                "link" => accounts.link(ben, "https://id.example", "x", None).await.map(|_| ()),
                "unlink" => accounts.unlink(ben, account).await,
                _ => Organizations::new(&db).acting_as(actor).create(&new, ben).await.map(|_| ()),
            }
        });
        stage.until_waiting(1).await;
        crate::stage::run(&holder, "commit").await;
        let outcome = crate::stage::must_end(waits).await.unwrap();
        assert!(matches!(outcome, Err(PlatformError::UserDisabled)), "{call}: {outcome:?}");
        stage.run(&format!("update users set status = 'active' where id = '{ben}'")).await;
        assert_eq!(scene.state().await, before, "{call}");
    }
    // The control: the same as an active user.
    UserAccounts::new(&stage.db).acting_as(actor.clone()).unlink(ben, account).await.unwrap();
    Members::new(&stage.db).acting_as(actor).remove(stage.acme, ben).await.unwrap();
}
