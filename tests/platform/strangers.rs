//! Who is nobody in an organization is refused by every operation that takes an actor. The operations are read from the sources, so
//! a new one is in this file or fails it.

use crate::stage::Stage;
use cgk::{
    OrganizationId, UserId,
    auth::{Auth, AuthSettings, NewApiKey, UserRole},
    platform::{
        Actor, AuditFilter, AuditLog, Cancellation, DuplicateUsers, EventFilter, EventId, GrantId, Invitation,
        Invitations, Members, NewGrant, NewInvitation, NewMember, NewSubscription, OrganizationChange, Organizations,
        Outbox, PageRequest, Permission, PlanDefinition, PlanKey, Plans, PlatformError, Quota, QuotaKind,
        RenewalPeriod, Subscriptions, UsageType, UserAccountId, UserAccounts,
    },
    provisioning::NewOrganization,
    secret::{SecretError, Secrets},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    time::Duration,
};

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

/// Whether an operation was refused. `None`: it was not, or failed for another reason.
trait Refused {
    fn is_refused(&self) -> bool;
}

impl<T> Refused for Result<T, PlatformError> {
    fn is_refused(&self) -> bool {
        match self {
            Err(PlatformError::Forbidden { .. } | PlatformError::UserDisabled) => true,
            Err(PlatformError::NotFound { what }) => ["organization", "user"].contains(what),
            _ => false,
        }
    }
}

impl<T> Refused for Result<T, SecretError> {
    fn is_refused(&self) -> bool {
        match self {
            Err(SecretError::Platform(error)) => Err::<(), _>(error).is_refused(),
            // An account of another user.
            Err(SecretError::NotFound) => true,
            _ => false,
        }
    }
}

impl<T> Refused for Result<T, &PlatformError> {
    fn is_refused(&self) -> bool {
        matches!(
            self,
            Err(PlatformError::Forbidden { .. } | PlatformError::UserDisabled)
                | Err(PlatformError::NotFound { what: "organization" })
        )
    }
}

/// What the operations are called on, all of it of `acme`.
struct Scene {
    stage: Stage,
    ada: UserId,
    ben: UserId,
    invitation: Invitation,
    account: UserAccountId,
    grant: GrantId,
    event: EventId,
}

fn plan() -> PlanKey {
    "team".parse().unwrap()
}

impl Scene {
    async fn set() -> Self {
        let stage = Stage::set().await;
        let ada = stage.user(stage.acme, "ada@example.com", "owner").await;
        let ben = stage.user(stage.acme, "ben@example.com", "member").await;
        let new = NewInvitation::of_address("eve@example.com");
        let (invitation, _) = Invitations::new(&stage.db).create(stage.acme, &new).await.unwrap();
        let account = UserAccounts::new(&stage.db).link(ada, "https://id.example", "ada", None).await.unwrap().id;
        Subscriptions::new(&stage.db)
            .subscribe(stage.acme, &NewSubscription::to("hobby".parse().unwrap()))
            .await
            .unwrap();
        let grant = NewGrant::purchase(QuotaKind::CREDITS, 5);
        let grant = Quota::new(&stage.db).grant(stage.acme, &grant).await.unwrap().id;
        stage.run("update domain_events set status = 'dead', finished_at = now()").await;
        let event =
            stage.rows("select id from domain_events where organization_id = $1", &[&stage.acme]).await[0].get(0);
        Self { stage, ada, ben, invitation, account, grant, event }
    }

    /// What there is, to see that nothing has changed.
    async fn state(&self) -> String {
        let sql = "select pg_catalog.concat_ws(' ', (select json_agg(a) from organizations a), (select json_agg(a) from plans a),
                    (select json_agg(a) from memberships a), (select json_agg(a) from grants a), (select json_agg(a) from invitations a),
                    (select json_agg(a) from subscriptions a), (select json_agg(a) from quota_kinds a),
                    (select json_agg(a) from user_accounts a), (select count(*) from audit_events), (select json_agg(a) from domain_events a))";
        self.stage.rows(sql, &[]).await[0].get(0)
    }

    /// Calls every operation as this actor. Returns whether each was refused.
    async fn walk(&self, actor: &Actor) -> BTreeMap<&'static str, bool> {
        let mut found = self.walk_people(actor).await;
        found.append(&mut self.walk_billing(actor).await);
        found.append(&mut self.walk_service(actor).await);
        found
    }

    async fn walk_people(&self, actor: &Actor) -> BTreeMap<&'static str, bool> {
        let (db, acme, page) = (&self.stage.db, self.stage.acme, PageRequest::default());
        let organizations = Organizations::new(db).acting_as(actor.clone());
        let members = Members::new(db).acting_as(actor.clone());
        let invitations = Invitations::new(db).acting_as(actor.clone());
        let accounts = UserAccounts::new(db).acting_as(actor.clone());
        let change = OrganizationChange::default().name("Taken over");
        let own = NewOrganization::new("stolen".parse().unwrap());
        let (new, invited) = (NewMember::of_address("x@example.com"), NewInvitation::of_address("x@example.net"));
        let found = accounts.find("https://id.example", "ada").await;
        BTreeMap::from([
            ("Organizations::get", organizations.get(acme).await.is_refused()),
            ("Organizations::by_slug", organizations.by_slug(&"acme".parse().unwrap()).await.is_refused()),
            ("Organizations::create", organizations.create(&own, self.ada).await.is_refused()),
            ("Organizations::update", organizations.update(acme, &change).await.is_refused()),
            ("Members::list", members.list(acme, &page).await.is_refused()),
            ("Members::get", members.get(acme, self.ada).await.is_refused()),
            ("Members::of_user", members.of_user(self.ada, &page).await.is_refused()),
            ("Members::demand", members.demand(acme, Permission::MembersRead).await.is_refused()),
            ("Members::add", members.add(acme, &new).await.is_refused()),
            ("Members::set_role", members.set_role(acme, self.ben, &UserRole::Admin).await.is_refused()),
            ("Members::remove", members.remove(acme, self.ben).await.is_refused()),
            ("Invitations::list", invitations.list(acme, &page).await.is_refused()),
            ("Invitations::create", invitations.create(acme, &invited).await.is_refused()),
            ("Invitations::resend", invitations.resend(acme, self.invitation.id).await.is_refused()),
            ("Invitations::revoke", invitations.revoke(acme, self.invitation.id).await.is_refused()),
            ("UserAccounts::find", found.is_refused() || found.is_ok_and(|account| account.is_none())),
            ("UserAccounts::list", accounts.list(self.ada).await.is_refused()),
            ("UserAccounts::link", accounts.link(self.ada, "https://id.example", "x", None).await.is_refused()),
        ])
    }

    async fn walk_billing(&self, actor: &Actor) -> BTreeMap<&'static str, bool> {
        let (db, acme) = (&self.stage.db, self.stage.acme);
        let subscriptions = Subscriptions::new(db).acting_as(actor.clone());
        let quota = Quota::new(db).acting_as(actor.clone());
        let (new, bought) = (NewSubscription::to(plan()), NewGrant::purchase(QuotaKind::CREDITS, 7));
        let db: cgk::Db<PlatformError> = db.errors();
        let platform = db.platform();
        let subscribed = platform.transaction(async |tx| subscriptions.subscribe_in(tx, acme, &new).await).await;
        let granted = platform.transaction(async |tx| quota.grant_in(tx, acme, &bought).await).await;
        BTreeMap::from([
            ("Subscriptions::subscribe", subscriptions.subscribe(acme, &new).await.is_refused()),
            ("Subscriptions::subscribe_in", subscribed.is_refused()),
            ("Subscriptions::current", subscriptions.current(acme).await.is_refused()),
            ("Subscriptions::history", subscriptions.history(acme).await.is_refused()),
            ("Subscriptions::change_plan", subscriptions.change_plan(acme, &plan()).await.is_refused()),
            ("Subscriptions::mark_past_due", subscriptions.mark_past_due(acme).await.is_refused()),
            ("Subscriptions::renew", subscriptions.renew(acme, RenewalPeriod::Next).await.is_refused()),
            ("Subscriptions::renew_due", subscriptions.renew_due().await.is_refused()),
            ("Subscriptions::cancel", subscriptions.cancel(acme, Cancellation::AtPeriodEnd).await.is_refused()),
            ("Subscriptions::resume", subscriptions.resume(acme).await.is_refused()),
            ("Quota::left", quota.left(acme).await.is_refused()),
            ("Quota::grants", quota.grants(acme).await.is_refused()),
            ("Quota::all_grants", quota.all_grants(acme).await.is_refused()),
            ("Quota::grant", quota.grant(acme, &bought).await.is_refused()),
            ("Quota::grant_in", granted.is_refused()),
            ("Quota::revoke_grant", quota.revoke_grant(acme, self.grant).await.is_refused()),
            ("Quota::prune", quota.prune(Duration::ZERO).await.is_refused()),
        ])
    }

    async fn walk_service(&self, actor: &Actor) -> BTreeMap<&'static str, bool> {
        let (db, acme) = (&self.stage.db, self.stage.acme);
        let plans = Plans::new(db).acting_as(actor.clone());
        let keys = "2025:MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=".parse().unwrap();
        let secrets = Secrets::new(db, keys).acting_as(actor.clone());
        let outbox = Outbox::new(db).acting_as(actor.clone());
        let log = AuditLog::new(db).acting_as(actor.clone());
        let duplicates = DuplicateUsers::new(db).acting_as(actor.clone());
        let (page, mut lines, mut events) = (PageRequest::default(), AuditFilter::default(), EventFilter::default());
        let all = log.list(&lines, &page).await.is_refused() && outbox.list(&events).await.is_refused();
        lines.organization = Some(acme);
        events.organization = Some(acme);
        let accounts = UserAccounts::new(db).acting_as(actor.clone());
        let organizations = Organizations::new(db).acting_as(actor.clone());
        BTreeMap::from([
            ("all organizations", all && outbox.retry_all(None).await.is_refused()),
            ("Plans::define", plans.define(&PlanDefinition::new(plan())).await.is_refused()),
            (
                "Plans::define_kind",
                plans.define_kind(&"taken".parse().unwrap(), UsageType::Consumed).await.is_refused(),
            ),
            ("Plans::archive", plans.archive(&plan()).await.is_refused()),
            ("Secrets::set_shopify", secrets.set_shopify(acme, "x.myshopify.com", b"x").await.is_refused()),
            ("Secrets::shopify_access_token", secrets.shopify_access_token(acme).await.is_refused()),
            ("Secrets::set_account_tokens", secrets.set_account_tokens(self.account, Some(b"x")).await.is_refused()),
            ("Secrets::account_tokens", secrets.account_tokens(self.account).await.is_refused()),
            ("Secrets::rotate", secrets.rotate().await.is_refused()),
            ("Outbox::list", outbox.list(&events).await.is_refused()),
            ("Outbox::retry", outbox.retry(self.event).await.is_refused()),
            ("Outbox::retry_all", outbox.retry_all(Some(acme)).await.is_refused()),
            ("Outbox::prune", outbox.prune(Duration::from_secs(3600)).await.is_refused()),
            ("AuditLog::list", log.list(&lines, &page).await.is_refused()),
            ("AuditLog::keep_months", log.keep_months().await.is_refused()),
            ("DuplicateUsers::list", duplicates.list(&page).await.is_refused()),
            ("DuplicateUsers::merge", duplicates.merge(UserId(uuid::Uuid::nil()), self.ada).await.is_refused()),
            ("UserAccounts::unlink", accounts.unlink(self.ada, self.account).await.is_refused()),
            ("Organizations::delete", organizations.delete(acme).await.is_refused()),
        ])
    }
}

/// The public operations of the types that take an actor, from the sources.
fn operations() -> BTreeSet<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let (mut folders, mut impls) = (vec![root.join("src/platform"), root.join("src/secret")], Vec::new());
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let text = std::fs::read_to_string(path).unwrap();
            for part in text.split("\nimpl ").skip(1) {
                let (name, rest) = part.split_once(" {\n").unwrap();
                impls.push((name.to_owned(), rest.split("\n}\n").next().unwrap().to_owned()));
            }
        }
    }
    let takes_actor =
        |name: &str| impls.iter().any(|(other, text)| other == name && text.contains("pub fn acting_as("));
    let mut found = BTreeSet::new();
    for (name, text) in impls.iter().filter(|(name, _)| takes_actor(name)) {
        for operation in text.split("    pub async fn ").skip(1) {
            let (operation, rest) = operation.split_once('(').unwrap();
            if rest.trim_start().starts_with("&self") {
                found.insert(format!("{name}::{operation}"));
            }
        }
    }
    found
}

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
        let found = scene.walk(&actor).await;
        let allowed: Vec<_> = found.iter().filter(|(_, refused)| !**refused).collect();
        assert!(allowed.is_empty(), "{actor:?} may call {allowed:?}");
        let known: BTreeSet<String> = found.keys().chain(FREE).map(|name| (*name).to_owned()).collect();
        let missing: Vec<_> = operations().into_iter().filter(|name| !known.contains(name)).collect();
        assert!(missing.is_empty(), "operations that no stranger has tried: {missing:?}");
    }
    assert!(operations().len() > 50, "{:?}", operations());
    assert_eq!(scene.state().await, before);
    // The organizations that a user sees are its own.
    let own = Organizations::new(&stage.db).acting_as(Actor::User(owner)).list(&PageRequest::default()).await.unwrap();
    let own: Vec<OrganizationId> = own.items.iter().map(|organization| organization.id).collect();
    assert_eq!(own, [stage.globex]);
    // The control: the service itself is refused nowhere but where there is no such user.
    let found = scene.walk(&Actor::System).await;
    let refused: Vec<_> = found.iter().filter(|(_, refused)| **refused).map(|(name, _)| *name).collect();
    assert_eq!(refused, ["DuplicateUsers::merge"]);
}

/// An owner who was disabled, also in what is its own.
#[tokio::test(flavor = "multi_thread")]
async fn a_disabled_owner_is_refused_by_every_operation() {
    let scene = Scene::set().await;
    scene.stage.run(&format!("update users set status = 'disabled' where id = '{}'", scene.ada)).await;
    let before = scene.state().await;
    let actor = Actor::User(scene.ada);
    let found = scene.walk(&actor).await;
    let allowed: Vec<_> = found.iter().filter(|(_, refused)| !**refused).collect();
    assert!(allowed.is_empty(), "a disabled owner may call {allowed:?}");
    let (db, page) = (&scene.stage.db, PageRequest::default());
    assert!(Organizations::new(db).acting_as(actor.clone()).list(&page).await.is_refused());
    assert!(Members::new(db).acting_as(actor).remove(scene.stage.acme, scene.ada).await.is_refused());
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
