//! Every operation that takes an actor, and those of `cgk::auth`, called one after the other. The operations are read from the
//! sources, so a new one is in this file or fails the tests that walk.

use crate::stage::Stage;
use cgk::{
    UserId,
    auth::{
        ApiKeyRotation, Auth, AuthError, AuthSettings, ClientInfo, LinkPurpose, NewApiKey, NewUser, SecretToken,
        UserRole, UserStatus,
    },
    platform::{
        Actor, AuditFilter, AuditLog, Cancellation, DuplicateUsers, EventFilter, EventId, GrantId, Invitation,
        Invitations, Invitee, Members, NewGrant, NewInvitation, NewMember, NewSubscription, OrganizationChange,
        Organizations, Outbox, PageRequest, Permission, PlanDefinition, PlanKey, Plans, PlatformError, Quota,
        QuotaKind, RenewalPeriod, Subscriptions, UsageType, UserAccountId, UserAccounts,
    },
    provisioning::NewOrganization,
    secret::{SecretError, Secrets},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    time::Duration,
};

const OLD_KEY: &str = "2024:YWJjZGVmMDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODk=";
const NEW_KEY: &str = "2025:MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";

/// The keys of what `acme` has consumed before the walk.
const BEFORE: [&str; 3] = ["before", "released", "released in"];

/// How a call ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Done,
    /// For who asks.
    Refused,
    /// For the status of the organization.
    Suspended,
    Failed(String),
}

/// A result that has an outcome.
pub(crate) trait Judged {
    fn outcome(&self) -> Outcome;
}

impl<T> Judged for Result<T, PlatformError> {
    fn outcome(&self) -> Outcome {
        self.as_ref().map_or_else(of_platform, |_| Outcome::Done)
    }
}

impl<T> Judged for Result<T, SecretError> {
    fn outcome(&self) -> Outcome {
        match self {
            Ok(_) => Outcome::Done,
            Err(SecretError::Platform(error)) => of_platform(error),
            // An account of another user.
            Err(SecretError::NotFound) => Outcome::Refused,
            Err(error) => Outcome::Failed(format!("{error:?}")),
        }
    }
}

impl<T> Judged for Result<T, AuthError> {
    fn outcome(&self) -> Outcome {
        match self {
            Ok(_) => Outcome::Done,
            Err(AuthError::OrganizationSuspended) => Outcome::Suspended,
            Err(error) => Outcome::Failed(format!("{error:?}")),
        }
    }
}

fn of_platform(error: &PlatformError) -> Outcome {
    match error {
        PlatformError::Forbidden { .. } | PlatformError::UserDisabled => Outcome::Refused,
        PlatformError::NotFound { what } if ["organization", "user"].contains(what) => Outcome::Refused,
        PlatformError::OrganizationSuspended => Outcome::Suspended,
        error => Outcome::Failed(format!("{error:?}")),
    }
}

/// What one call did.
#[derive(Debug)]
pub(crate) struct Told {
    pub(crate) outcome: Outcome,
    /// The actions of the lines that it has written to the audit log.
    pub(crate) lines: Vec<String>,
    /// The types of the events that it has written.
    pub(crate) events: Vec<String>,
}

/// What the calls did so far.
pub(crate) struct Walk<'a> {
    stage: &'a Stage,
    pub(crate) found: BTreeMap<&'static str, Told>,
    lines: i64,
    position: i64,
}

impl<'a> Walk<'a> {
    pub(crate) async fn start(stage: &'a Stage) -> Self {
        let lines = stage.count("select count(*) from audit_events").await;
        let position = stage.count("select coalesce(max(position), 0) from domain_events").await;
        Self { stage, found: BTreeMap::new(), lines, position }
    }

    /// Notes what the call did that has just ended.
    async fn tell(&mut self, operation: &'static str, outcome: Outcome) {
        let lines = "select action from audit_events order by occurred_at, id offset $1";
        let lines: Vec<String> = self.stage.rows(lines, &[&self.lines]).await.iter().map(|row| row.get(0)).collect();
        let events = "select type, position from domain_events where position > $1 order by position";
        let events = self.stage.rows(events, &[&self.position]).await;
        self.lines += lines.len() as i64;
        self.position = events.last().map_or(self.position, |row| row.get(1));
        let events = events.iter().map(|row| row.get(0)).collect();
        let told = Told { outcome, lines, events };
        assert!(self.found.insert(operation, told).is_none(), "{operation} is in the walk twice");
    }

    /// The operations that ended otherwise.
    pub(crate) fn other_than(&self, outcome: &Outcome) -> Vec<&'static str> {
        self.found.iter().filter(|(_, told)| told.outcome != *outcome).map(|(name, _)| *name).collect()
    }
}

/// What the operations are called on, all of it of `acme`.
pub(crate) struct Scene {
    pub(crate) stage: Stage,
    pub(crate) ada: UserId,
    pub(crate) ben: UserId,
    /// A second user of Ada's address, at home in globex.
    twin: UserId,
    invitation: Invitation,
    /// Of a second invitation.
    token: SecretToken,
    api_key: SecretToken,
    /// Ben's.
    session: SecretToken,
    pub(crate) account: UserAccountId,
    grant: GrantId,
    event: EventId,
}

fn plan() -> PlanKey {
    "team".parse().unwrap()
}

impl Scene {
    pub(crate) async fn set() -> Self {
        let stage = Stage::set().await;
        let ada = stage.user(stage.acme, "ada@example.com", "owner").await;
        let ben = stage.user(stage.acme, "ben@example.com", "member").await;
        let new = NewInvitation::of_address("eve@example.com");
        let (invitation, _) = Invitations::new(&stage.db).create(stage.acme, &new).await.unwrap();
        let new = NewInvitation::of_address("fay@example.com");
        let (_, token) = Invitations::new(&stage.db).create(stage.acme, &new).await.unwrap();
        let auth = Auth::new(&stage.db, AuthSettings::default());
        let (_, api_key) = auth.api_keys().create(stage.acme, &NewApiKey::named("first")).await.unwrap();
        let (_, session) = auth.sessions().issue(stage.acme, ben, &ClientInfo::default()).await.unwrap();
        let twin = stage.user(stage.globex, "ada@example.com", "member").await;
        let old = Secrets::new(&stage.db, OLD_KEY.parse().unwrap());
        old.set_shopify(stage.globex, "globex.myshopify.com", b"old").await.unwrap();
        let account = UserAccounts::new(&stage.db).link(ada, "https://id.example", "ada", None).await.unwrap().id;
        Subscriptions::new(&stage.db)
            .subscribe(stage.acme, &NewSubscription::to("hobby".parse().unwrap()))
            .await
            .unwrap();
        let grant = NewGrant::purchase(QuotaKind::CREDITS, 5);
        let quota = Quota::new(&stage.db);
        let grant = quota.grant(stage.acme, &grant).await.unwrap().id;
        quota.grant(stage.acme, &NewGrant::purchase(QuotaKind::SEATS, 10)).await.unwrap();
        for key in BEFORE {
            quota.consume(stage.acme, &QuotaKind::RUNS, 1, key).await.unwrap();
        }
        stage.run("update domain_events set status = 'dead', finished_at = now()").await;
        let event =
            stage.rows("select id from domain_events where organization_id = $1", &[&stage.acme]).await[0].get(0);
        Self { stage, ada, ben, twin, invitation, token, api_key, session, account, grant, event }
    }

    /// What there is, to see that nothing has changed.
    pub(crate) async fn state(&self) -> String {
        let sql = "select pg_catalog.concat_ws(' ', (select json_agg(a) from organizations a), (select json_agg(a) from plans a),
                    (select json_agg(a) from memberships a), (select json_agg(a) from grants a), (select json_agg(a) from invitations a),
                    (select json_agg(a) from subscriptions a), (select json_agg(a) from quota_kinds a),
                    (select json_agg(a) from user_accounts a), (select count(*) from audit_events), (select json_agg(a) from domain_events a))";
        self.stage.rows(sql, &[]).await[0].get(0)
    }

    /// Calls every operation that asks who calls, as this actor.
    pub(crate) async fn walk(&self, actor: &Actor) -> Walk<'_> {
        let mut walk = Walk::start(&self.stage).await;
        self.walk_people(&mut walk, actor).await;
        self.walk_billing(&mut walk, actor).await;
        self.walk_service(&mut walk, actor).await;
        walk
    }

    /// Calls every operation as the service: first those that ask for no permission.
    pub(crate) async fn walk_all(&self) -> Walk<'_> {
        let mut walk = Walk::start(&self.stage).await;
        self.walk_free(&mut walk).await;
        self.walk_keys(&mut walk).await;
        self.walk_users(&mut walk).await;
        self.walk_people(&mut walk, &Actor::System).await;
        self.walk_billing(&mut walk, &Actor::System).await;
        self.walk_service(&mut walk, &Actor::System).await;
        walk
    }

    async fn walk_free(&self, walk: &mut Walk<'_>) {
        let (db, acme) = (&self.stage.db, self.stage.acme);
        let (plans, quota, invitations) = (Plans::new(db), Quota::new(db), Invitations::new(db));
        let db: cgk::Db<PlatformError> = db.errors();
        let platform = db.platform();
        let runs = QuotaKind::RUNS;
        walk.tell("Plans::list", plans.list().await.outcome()).await;
        walk.tell("Plans::list_all", plans.list_all().await.outcome()).await;
        walk.tell("Plans::find", plans.find(&plan()).await.outcome()).await;
        walk.tell("Quota::consume", quota.consume(acme, &runs, 1, "first").await.outcome()).await;
        let consumed = platform.transaction(async |tx| quota.consume_in(tx, acme, &runs, 1, "second").await).await;
        walk.tell("Quota::consume_in", consumed.outcome()).await;
        walk.tell("Quota::consume again", quota.consume(acme, &runs, 1, BEFORE[0]).await.outcome()).await;
        walk.tell("Quota::release", quota.release(acme, BEFORE[1]).await.outcome()).await;
        let released = platform.transaction(async |tx| quota.release_in(tx, acme, BEFORE[2]).await).await;
        assert!(released.as_ref().is_ok_and(|released| *released));
        walk.tell("Quota::release_in", released.outcome()).await;
        walk.tell("Organizations::list", Organizations::new(&db).list(&PageRequest::default()).await.outcome()).await;
        let token = self.token.reveal();
        walk.tell("Invitations::verify", invitations.verify(token).await.outcome()).await;
        let fay = Invitee::Address("fay@example.com".into());
        walk.tell("Invitations::accept", invitations.accept(token, &fay).await.outcome()).await;
    }

    async fn walk_keys(&self, walk: &mut Walk<'_>) {
        let acme = self.stage.acme;
        let auth = Auth::new(&self.stage.db, AuthSettings::default());
        let (keys, links) = (auth.api_keys(), auth.magic_links());
        let second = Duration::from_secs(1);
        walk.tell("ApiKeys::create", keys.create(acme, &NewApiKey::named("program")).await.outcome()).await;
        // Of before the walk, where the organization is suspended.
        let (old, other) = (self.key("old").await, self.key("other").await);
        walk.tell("ApiKeys::list", keys.list(acme).await.outcome()).await;
        walk.tell("ApiKeys::rotate", keys.rotate(acme, old, &ApiKeyRotation::at_once()).await.outcome()).await;
        walk.tell("ApiKeys::expire", keys.expire(acme, other, second).await.outcome()).await;
        walk.tell("ApiKeys::revoke", keys.revoke(acme, other).await.outcome()).await;
        walk.tell("ApiKeys::revoke again", keys.revoke(acme, other).await.outcome()).await;
        walk.tell("ApiKeys::purge", keys.purge(Duration::from_millis(1), 10).await.outcome()).await;
        walk.tell("ApiKeys::verify", Ok::<_, AuthError>(keys.verify(self.api_key.reveal()).await.is_ok()).outcome())
            .await;
        let issued = links.issue("gus@example.com", LinkPurpose::Login).await;
        walk.tell("MagicLinks::issue", issued.outcome()).await;
        let (_, token) = issued.unwrap();
        walk.tell("MagicLinks::verify", links.verify(token.reveal(), LinkPurpose::Login).await.outcome()).await;
        walk.tell("MagicLinks::redeem", links.redeem(token.reveal(), LinkPurpose::Login).await.outcome()).await;
        walk.tell("MagicLinks::list", links.list("gus@example.com").await.outcome()).await;
        walk.tell("MagicLinks::revoke nothing", links.revoke("gus@example.com").await.outcome()).await;
        self.stage.run("update magic_links set used_at = null").await;
        walk.tell("MagicLinks::revoke", links.revoke("gus@example.com").await.outcome()).await;
        self.stage
            .run("update magic_links set created_at = now() - interval '2 days', expires_at = now() - interval '1 day'")
            .await;
        walk.tell("MagicLinks::purge", links.purge(second, 10).await.outcome()).await;
    }

    async fn key(&self, name: &str) -> cgk::auth::ApiKeyId {
        let insert = "insert into api_keys (organization_id, name, key_hash) values ($1, $2, sha256($2::text::bytea)) returning id";
        self.stage.rows(insert, &[&self.stage.acme, &name]).await[0].get(0)
    }

    async fn walk_users(&self, walk: &mut Walk<'_>) {
        let (acme, ben) = (self.stage.acme, self.ben);
        let auth = Auth::new(&self.stage.db, AuthSettings::default());
        let (users, sessions) = (auth.users(), auth.sessions());
        let token = &self.session;
        walk.tell("Sessions::verify", Ok::<_, AuthError>(sessions.verify(token.reveal()).await.is_ok()).outcome())
            .await;
        walk.tell("Sessions::rotate", sessions.rotate(token.reveal()).await.outcome()).await;
        walk.tell("Users::create", users.create(acme, &NewUser::active("hal@example.com")).await.outcome()).await;
        walk.tell("Users::find", users.find(acme, ben).await.outcome()).await;
        walk.tell("Users::find_by_email", users.find_by_email(acme, "ben@example.com").await.outcome()).await;
        walk.tell("Users::list", users.list(acme).await.outcome()).await;
        walk.tell("Users::set_password", users.set_password(acme, ben, "correct horse").await.outcome()).await;
        walk.tell("Users::set_status", users.set_status(acme, ben, &UserStatus::Disabled).await.outcome()).await;
        walk.tell("Users::set_status again", users.set_status(acme, ben, &UserStatus::Disabled).await.outcome()).await;
        users.set_status(acme, ben, &UserStatus::Active).await.unwrap();
        walk.tell("Users::set_status back", Outcome::Done).await;
        let client = ClientInfo::default();
        let sign_in = sessions.sign_in(acme, "ben@example.com", "correct horse", &client).await;
        walk.tell("Sessions::sign_in", sign_in.outcome()).await;
        walk.tell("Sessions::issue", sessions.issue(acme, ben, &client).await.outcome()).await;
        self.add_session("one").await;
        let listed = sessions.list(acme, Some(ben)).await;
        walk.tell("Sessions::list", listed.outcome()).await;
        let one = listed.unwrap().iter().find(|one| one.revoked_at.is_none()).unwrap().id;
        walk.tell("Sessions::expire", sessions.expire(acme, one, Duration::from_secs(60)).await.outcome()).await;
        walk.tell("Sessions::revoke", sessions.revoke(acme, one).await.outcome()).await;
        walk.tell("Sessions::revoke again", sessions.revoke(acme, one).await.outcome()).await;
        self.add_session("another").await;
        walk.tell("Sessions::revoke_all", sessions.revoke_all(acme, ben, None).await.outcome()).await;
        walk.tell("Sessions::purge", sessions.purge(Duration::from_millis(1), 100).await.outcome()).await;
    }

    /// Gives Ben another session.
    async fn add_session(&self, token: &str) {
        let insert = "insert into sessions (organization_id, user_id, token_hash, expires_at)
                      values ($1, $2, sha256($3::text::bytea), now() + interval '1 day')";
        self.stage.watch.execute(insert, &[&self.stage.acme, &self.ben, &token]).await.unwrap();
    }

    async fn walk_people(&self, walk: &mut Walk<'_>, actor: &Actor) {
        let (db, acme, page) = (&self.stage.db, self.stage.acme, PageRequest::default());
        let organizations = Organizations::new(db).acting_as(actor.clone());
        let members = Members::new(db).acting_as(actor.clone());
        let invitations = Invitations::new(db).acting_as(actor.clone());
        let accounts = UserAccounts::new(db).acting_as(actor.clone());
        let change = OrganizationChange::default().name("Taken over");
        let own = NewOrganization::new("stolen".parse().unwrap());
        let (new, invited) = (NewMember::of_address("x@example.com"), NewInvitation::of_address("x@example.net"));
        walk.tell("Organizations::get", organizations.get(acme).await.outcome()).await;
        walk.tell("Organizations::by_slug", organizations.by_slug(&"acme".parse().unwrap()).await.outcome()).await;
        walk.tell("Organizations::create", organizations.create(&own, self.ada).await.outcome()).await;
        walk.tell("Organizations::update", organizations.update(acme, &change).await.outcome()).await;
        walk.tell("Members::list", members.list(acme, &page).await.outcome()).await;
        walk.tell("Members::get", members.get(acme, self.ada).await.outcome()).await;
        walk.tell("Members::of_user", members.of_user(self.ada, &page).await.outcome()).await;
        walk.tell("Members::demand", members.demand(acme, Permission::MembersRead).await.outcome()).await;
        walk.tell("Members::add", members.add(acme, &new).await.outcome()).await;
        walk.tell("Members::set_role", members.set_role(acme, self.ben, &UserRole::Admin).await.outcome()).await;
        walk.tell("Members::remove", members.remove(acme, self.ben).await.outcome()).await;
        walk.tell("Invitations::list", invitations.list(acme, &page).await.outcome()).await;
        walk.tell("Invitations::create", invitations.create(acme, &invited).await.outcome()).await;
        walk.tell("Invitations::resend", invitations.resend(acme, self.invitation.id).await.outcome()).await;
        walk.tell("Invitations::revoke", invitations.revoke(acme, self.invitation.id).await.outcome()).await;
        let found = match accounts.find("https://id.example", "ada").await {
            Ok(None) => Outcome::Refused,
            other => other.outcome(),
        };
        walk.tell("UserAccounts::find", found).await;
        walk.tell("UserAccounts::list", accounts.list(self.ada).await.outcome()).await;
        walk.tell("UserAccounts::link", accounts.link(self.ada, "https://id.example", "x", None).await.outcome()).await;
    }

    async fn walk_billing(&self, walk: &mut Walk<'_>, actor: &Actor) {
        let (db, acme) = (&self.stage.db, self.stage.acme);
        let subscriptions = Subscriptions::new(db).acting_as(actor.clone());
        let quota = Quota::new(db).acting_as(actor.clone());
        let (new, bought) = (NewSubscription::to(plan()), NewGrant::purchase(QuotaKind::CREDITS, 7));
        let db: cgk::Db<PlatformError> = db.errors();
        let platform = db.platform();
        let subscribed = platform.transaction(async |tx| subscriptions.subscribe_in(tx, acme, &new).await).await;
        walk.tell("Subscriptions::subscribe_in", subscribed.outcome()).await;
        let granted = platform.transaction(async |tx| quota.grant_in(tx, acme, &bought).await).await;
        walk.tell("Quota::grant_in", granted.outcome()).await;
        walk.tell("Subscriptions::subscribe", subscriptions.subscribe(acme, &new).await.outcome()).await;
        walk.tell("Subscriptions::current", subscriptions.current(acme).await.outcome()).await;
        walk.tell("Subscriptions::history", subscriptions.history(acme).await.outcome()).await;
        walk.tell("Subscriptions::change_plan", subscriptions.change_plan(acme, &plan()).await.outcome()).await;
        walk.tell("Subscriptions::mark_past_due", subscriptions.mark_past_due(acme).await.outcome()).await;
        walk.tell("Subscriptions::renew", subscriptions.renew(acme, RenewalPeriod::Next).await.outcome()).await;
        walk.tell("Subscriptions::renew_due", subscriptions.renew_due().await.outcome()).await;
        walk.tell("Subscriptions::cancel", subscriptions.cancel(acme, Cancellation::AtPeriodEnd).await.outcome()).await;
        walk.tell("Subscriptions::resume", subscriptions.resume(acme).await.outcome()).await;
        walk.tell("Subscriptions::cancel now", subscriptions.cancel(acme, Cancellation::Now).await.outcome()).await;
        walk.tell("Subscriptions::subscribe again", subscriptions.subscribe(acme, &new).await.outcome()).await;
        walk.tell("Quota::left", quota.left(acme).await.outcome()).await;
        walk.tell("Quota::grants", quota.grants(acme).await.outcome()).await;
        walk.tell("Quota::all_grants", quota.all_grants(acme).await.outcome()).await;
        walk.tell("Quota::grant", quota.grant(acme, &bought).await.outcome()).await;
        walk.tell("Quota::revoke_grant", quota.revoke_grant(acme, self.grant).await.outcome()).await;
        walk.tell("Quota::prune", quota.prune(Duration::ZERO).await.outcome()).await;
    }

    async fn walk_service(&self, walk: &mut Walk<'_>, actor: &Actor) {
        let (db, acme) = (&self.stage.db, self.stage.acme);
        let plans = Plans::new(db).acting_as(actor.clone());
        let keys = format!("{NEW_KEY},{OLD_KEY}").parse().unwrap();
        let secrets = Secrets::new(db, keys).acting_as(actor.clone());
        let outbox = Outbox::new(db).acting_as(actor.clone());
        let log = AuditLog::new(db).acting_as(actor.clone());
        let duplicates = DuplicateUsers::new(db).acting_as(actor.clone());
        let (page, mut lines, mut events) = (PageRequest::default(), AuditFilter::default(), EventFilter::default());
        walk.tell("AuditLog::list of all", log.list(&lines, &page).await.outcome()).await;
        walk.tell("Outbox::list of all", outbox.list(&events).await.outcome()).await;
        lines.organization = Some(acme);
        events.organization = Some(acme);
        let accounts = UserAccounts::new(db).acting_as(actor.clone());
        let organizations = Organizations::new(db).acting_as(actor.clone());
        walk.tell("Plans::define", plans.define(&PlanDefinition::new(plan())).await.outcome()).await;
        walk.tell(
            "Plans::define_kind",
            plans.define_kind(&"taken".parse().unwrap(), UsageType::Consumed).await.outcome(),
        )
        .await;
        walk.tell("Plans::archive", plans.archive(&plan()).await.outcome()).await;
        walk.tell("Secrets::set_shopify", secrets.set_shopify(acme, "x.myshopify.com", b"x").await.outcome()).await;
        walk.tell("Secrets::shopify_access_token", secrets.shopify_access_token(acme).await.outcome()).await;
        walk.tell("Secrets::set_account_tokens", secrets.set_account_tokens(self.account, Some(b"x")).await.outcome())
            .await;
        walk.tell("Secrets::account_tokens", secrets.account_tokens(self.account).await.outcome()).await;
        walk.tell("Secrets::rotate", secrets.rotate().await.outcome()).await;
        walk.tell("Outbox::list", outbox.list(&events).await.outcome()).await;
        walk.tell("Outbox::retry", outbox.retry(self.event).await.outcome()).await;
        walk.tell("Outbox::retry_all", outbox.retry_all(Some(acme)).await.outcome()).await;
        walk.tell("Outbox::retry_all of all", outbox.retry_all(None).await.outcome()).await;
        walk.tell("Outbox::prune", outbox.prune(Duration::from_secs(3600)).await.outcome()).await;
        walk.tell("AuditLog::list", log.list(&lines, &page).await.outcome()).await;
        walk.tell("AuditLog::keep_months", log.keep_months().await.outcome()).await;
        walk.tell("DuplicateUsers::list", duplicates.list(&page).await.outcome()).await;
        walk.tell("DuplicateUsers::merge", duplicates.merge(self.twin, self.ada).await.outcome()).await;
        walk.tell("UserAccounts::unlink", accounts.unlink(self.ada, self.account).await.outcome()).await;
        walk.tell("Organizations::delete", organizations.delete(acme).await.outcome()).await;
    }
}

/// The public operations of the types that take an actor, from the sources.
pub(crate) fn operations() -> BTreeSet<String> {
    let impls = impls(&["src/platform", "src/secret"]);
    let takes_actor =
        |name: &str| impls.iter().any(|(other, text)| other == name && text.contains("pub fn acting_as("));
    operations_of(impls.iter().filter(|(name, _)| takes_actor(name)))
}

/// The public operations of `cgk::auth`, from the sources.
pub(crate) fn operations_of_auth() -> BTreeSet<String> {
    let impls = impls(&["src/auth"]);
    operations_of(impls.iter().filter(|(name, _)| name.ends_with("s<'_>")))
        .iter()
        .map(|name| name.replace("<'_>", ""))
        .collect()
}

/// The names and texts of the `impl` blocks below these folders.
fn impls(folders: &[&str]) -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut folders: Vec<_> = folders.iter().map(|folder| root.join(folder)).collect();
    let mut impls = Vec::new();
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
    impls
}

fn operations_of<'a>(impls: impl Iterator<Item = &'a (String, String)>) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for (name, text) in impls {
        for operation in text.split("    pub async fn ").skip(1) {
            let (operation, rest) = operation.split_once('(').unwrap();
            if rest.trim_start().starts_with("&self") {
                found.insert(format!("{name}::{operation}"));
            }
        }
    }
    found
}
