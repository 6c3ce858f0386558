//! Tenants, users and credentials at random, against a model that knows what each must be answered.

use super::{memory::resolver, received::LISTENING};
use crate::{
    auth::platform::Platform,
    stage::{dice, long, report, slug},
    support::patience::must_end,
};
use cgk::{
    ErrorKind, OrganizationId,
    auth::{ApiKeyId, ApiKeyRotation, AuthError, ClientInfo, NewApiKey, Rejection, SessionId, UserId},
    resolver::Resolver,
};
use rand::{RngExt, rngs::StdRng};
use std::collections::BTreeSet;

const STEPS: usize = 60;
/// None of them has a schema, so that the guard of the registry lets all of it happen.
const SLUGS: [&str; 5] = ["alpha", "beta", "gamma", "delta", "epsilon"];

#[derive(Clone, Debug)]
struct Organization {
    id: OrganizationId,
    slug: &'static str,
    active: bool,
}

#[derive(Clone, Debug)]
struct User {
    id: UserId,
    organization: OrganizationId,
    active: bool,
    role: &'static str,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Life {
    Live,
    Revoked,
    Expired,
    Gone,
}

#[derive(Clone, Debug)]
enum Kind {
    Session(SessionId, UserId),
    Key(ApiKeyId),
}

#[derive(Clone, Debug)]
struct Credential {
    token: String,
    kind: Kind,
    organization: OrganizationId,
    life: Life,
}

#[derive(Default)]
struct Model {
    organizations: Vec<Organization>,
    users: Vec<User>,
    credentials: Vec<Credential>,
}

impl Model {
    fn tenant(&self, slug: &str) -> String {
        match self.organizations.iter().find(|organization| organization.slug == slug) {
            None => "unknown".into(),
            Some(organization) if !organization.active => "suspended".into(),
            Some(organization) => organization.id.to_string(),
        }
    }

    fn credential(&self, credential: &Credential) -> String {
        let organization = self.organizations.iter().find(|organization| organization.id == credential.organization);
        let user = match &credential.kind {
            Kind::Session(_, id) => self.users.iter().find(|user| user.id == *id),
            Kind::Key(_) => None,
        };
        let (Some(organization), false) = (organization, credential.life == Life::Gone) else {
            return format!("{:?}", Rejection::Unknown);
        };
        match (credential.life, user) {
            (Life::Revoked, _) => format!("{:?}", Rejection::Revoked),
            (Life::Expired, _) => format!("{:?}", Rejection::Expired),
            (_, Some(user)) if !user.active => format!("{:?}", Rejection::UserInactive),
            _ if !organization.active => format!("{:?}", Rejection::OrganizationInactive),
            (_, user) => format!("{} {} {}", organization.id, organization.slug, user.map_or("key", |user| user.role)),
        }
    }
}

async fn tenant_of(resolver: &Resolver, name: &str) -> String {
    match resolver.tenant(&slug(name)).await {
        Ok(tenant) => {
            assert_eq!(tenant.slug.as_str(), name);
            tenant.id.to_string()
        }
        Err(error) if error.kind() == ErrorKind::NotFound => "unknown".into(),
        Err(error) if error.kind() == ErrorKind::Suspended => "suspended".into(),
        Err(error) => panic!("{error:?}"),
    }
}

async fn credential_of(resolver: &Resolver, credential: &Credential) -> String {
    let rejected = |error: AuthError| format!("{:?}", error.rejection().unwrap_or_else(|| panic!("{error:?}")));
    match credential.kind {
        Kind::Session(..) => resolver.session(&credential.token).await.map_or_else(rejected, |found| {
            format!("{} {} {}", found.tenant.id, found.tenant.slug, found.role.as_str())
        }),
        Kind::Key(_) => resolver
            .api_key(&credential.token)
            .await
            .map_or_else(rejected, |found| format!("{} {} key", found.tenant.id, found.tenant.slug)),
    }
}

/// What is done by the library, by hand in SQL, and by other processes.
async fn step(platform: &Platform, model: &mut Model, dice: &mut StdRng) -> String {
    let auth = &platform.auth;
    let sql = async |text: String| platform.stage.sql(&text).await;
    let taken: BTreeSet<_> = model.organizations.iter().map(|organization| organization.slug).collect();
    let free: Vec<_> = SLUGS.into_iter().filter(|slug| !taken.contains(slug)).collect();
    let some = |length: usize, dice: &mut StdRng| if length == 0 { None } else { Some(dice.random_range(0..length)) };
    let live: Vec<usize> =
        (0..model.credentials.len()).filter(|index| model.credentials[*index].life == Life::Live).collect();
    match dice.random_range(0..12) {
        0 if !free.is_empty() => {
            let slug = free[dice.random_range(0..free.len())];
            let id = OrganizationId(uuid::Uuid::from_u128(dice.random()));
            sql(format!("insert into organizations (id, slug, name, status) values ('{id}', '{slug}', 'x', 'active')"))
                .await;
            model.organizations.push(Organization { id, slug, active: true });
            format!("create {slug}")
        }
        1 | 2 => {
            let Some(at) = some(model.organizations.len(), dice) else { return "nothing".into() };
            let organization = &mut model.organizations[at];
            organization.active = !organization.active;
            let status = if organization.active { "active" } else { "suspended" };
            sql(format!("update organizations set status = '{status}' where id = '{}'", organization.id)).await;
            format!("{status} {}", organization.slug)
        }
        3 if !free.is_empty() && !model.organizations.is_empty() => {
            let at = dice.random_range(0..model.organizations.len());
            let slug = free[dice.random_range(0..free.len())];
            let organization = &mut model.organizations[at];
            let told = format!("rename {} to {slug}", organization.slug);
            organization.slug = slug;
            sql(format!("update organizations set slug = '{slug}' where id = '{}'", organization.id)).await;
            told
        }
        4 if model.organizations.len() > 2 => {
            let gone = model.organizations.remove(dice.random_range(0..model.organizations.len()));
            sql(format!("delete from organizations where id = '{}'", gone.id)).await;
            model.users.retain(|user| user.organization != gone.id);
            for credential in model.credentials.iter_mut().filter(|credential| credential.organization == gone.id) {
                credential.life = Life::Gone;
            }
            format!("delete {}", gone.slug)
        }
        5 if model.organizations.len() > 1 => {
            // Two change their names in one statement.
            let (one, other) = (model.organizations[0].clone(), model.organizations[1].clone());
            sql("alter table organizations drop constraint organizations_slug_key, add constraint organizations_slug_key unique (slug) deferrable".into()).await;
            sql(format!(
                "update organizations set slug = case id when '{}' then '{}' else '{}' end where id in ('{0}', '{}')",
                one.id, other.slug, one.slug, other.id
            ))
            .await;
            (model.organizations[0].slug, model.organizations[1].slug) = (other.slug, one.slug);
            format!("swap {} and {}", one.slug, other.slug)
        }
        6 => {
            let Some(at) = some(model.users.len(), dice) else { return "nothing".into() };
            let user = &mut model.users[at];
            if dice.random() {
                user.active = !user.active;
            } else {
                user.role = if user.role == "member" { "owner" } else { "member" };
            }
            let status = if user.active { "active" } else { "disabled" };
            sql(format!("update users set status = '{status}', role = '{}' where id = '{}'", user.role, user.id)).await;
            format!("user {} {status} {}", user.id, user.role)
        }
        7 => {
            let Some(at) = some(live.len(), dice) else { return "nothing".into() };
            let credential = &mut model.credentials[live[at]];
            credential.life = Life::Revoked;
            match credential.kind {
                Kind::Session(id, _) => auth.sessions().revoke(credential.organization, id).await.unwrap(),
                Kind::Key(id) => auth.api_keys().revoke(credential.organization, id).await.unwrap(),
            }
            "revoke".into()
        }
        8 => {
            let Some(at) = some(live.len(), dice) else { return "nothing".into() };
            let credential = &mut model.credentials[live[at]];
            credential.life = Life::Expired;
            let (table, id) = match credential.kind {
                Kind::Session(id, _) => ("sessions", id.to_string()),
                Kind::Key(id) => ("api_keys", id.to_string()),
            };
            sql(format!(
                "update {table} set created_at = now() - interval '2 days', expires_at = now() - interval '1 day' where id = '{id}'"
            ))
            .await;
            format!("expire one of {table}")
        }
        9 => {
            let Some(at) = some(live.len(), dice) else { return "nothing".into() };
            let credential = model.credentials[live[at]].clone();
            let made = match credential.kind {
                Kind::Session(..) => {
                    model.credentials[live[at]].life = Life::Gone;
                    let token = auth.sessions().rotate(&credential.token).await.unwrap();
                    Credential { token: token.reveal().into(), ..credential }
                }
                Kind::Key(id) => {
                    let rotated = auth.api_keys().rotate(credential.organization, id, &ApiKeyRotation::at_once()).await;
                    if !model.organizations.iter().any(|known| known.id == credential.organization && known.active) {
                        assert!(matches!(rotated, Err(AuthError::OrganizationSuspended)), "{rotated:?}");
                        return "rotate nothing in a suspended organization".into();
                    }
                    let (made, token) = rotated.unwrap();
                    model.credentials[live[at]].life = Life::Revoked;
                    Credential { token: token.reveal().into(), kind: Kind::Key(made.id), ..credential }
                }
            };
            model.credentials.push(made);
            "rotate".into()
        }
        10 if dice.random_range(0..4) == 0 => {
            platform.stage.sql(&format!("select pg_terminate_backend(pid) {LISTENING}")).await;
            "lose the connection".into()
        }
        _ => {
            let active: Vec<_> =
                model.organizations.iter().filter(|organization| organization.active).cloned().collect();
            let Some(at) = some(active.len(), dice) else { return "nothing".into() };
            let organization = active[at].id;
            let user = platform.user(organization, &format!("{:x}@example.com", dice.random::<u64>())).await;
            model.users.push(User { id: user.id, organization, active: true, role: "member" });
            let client = ClientInfo::default();
            let (session, token) = auth.sessions().issue(organization, user.id, &client).await.unwrap();
            let kind = Kind::Session(session.id, user.id);
            model.credentials.push(Credential { token: token.reveal().into(), kind, organization, life: Life::Live });
            let (key, token) = auth.api_keys().create(organization, &NewApiKey::named("x")).await.unwrap();
            let kind = Kind::Key(key.id);
            model.credentials.push(Credential { token: token.reveal().into(), kind, organization, life: Life::Live });
            format!("sign in to {}", active[at].slug)
        }
    }
}

#[tokio::test]
async fn every_answer_is_the_models() {
    let platform = Platform::set().await;
    let mut dice = dice();
    let mut model = Model::default();
    let resolver = resolver(&platform.auth).await;
    let (mut answers, mut done) = (0, Vec::new());
    for _ in 0..STEPS * long().unwrap_or(1) {
        done.push(step(&platform, &mut model, &mut dice).await);
        if done.last().is_some_and(|last| last == "lose the connection") {
            must_end("the loss", resolver.until_unnotified()).await;
        } else {
            // Also while the connection is being made again: then nothing is remembered.
            resolver.caught_up().await;
        }
        // Once from the database, where it has changed, and once from memory.
        for _ in 0..2 {
            for name in SLUGS {
                assert_eq!(tenant_of(&resolver, name).await, model.tenant(name), "{name} after {done:#?}");
            }
            for credential in &model.credentials {
                let (found, expected) = (credential_of(&resolver, credential).await, model.credential(credential));
                assert_eq!(found, expected, "{credential:?} after {done:#?}");
            }
            answers += SLUGS.len() + model.credentials.len();
        }
    }
    let status = resolver.status();
    report(&format!(
        "resolver: {answers} answers as the model's, {} from memory, {} questions",
        status.hits, status.lookups
    ));
    // The precondition: most of them were answered from memory.
    assert!(status.hits > status.lookups, "{status:?}");
}
