//! Who asks, if an operation does not name its actor: the caller of the context, and the service only outside of one.

use crate::stage::{Stage, slug};
use cgk::{
    TenantContext, UserId,
    auth::{ApiKeyId, Auth, AuthSettings, NewApiKey, SecretToken, UserRole},
    platform::{Actor, Members, NewMember, PageRequest, PlatformError, Quota},
    request::{TenantRules, tenant_from_request},
    resolver::{Resolver, ResolverSettings},
};
use std::time::Duration;

/// The context of a request that only its host names, or that also sends this token.
async fn of_request(stage: &Stage, token: Option<&SecretToken>) -> TenantContext {
    let auth = Auth::new(&stage.db, AuthSettings::default());
    let resolver = Resolver::new(&auth, ResolverSettings::default());
    let rules = TenantRules::new().bearer_token().subdomain_of("example.com").unwrap();
    let mut request = http::Request::builder().header("host", "acme.example.com");
    if let Some(token) = token {
        request = request.header("authorization", format!("Bearer {}", token.reveal()));
    }
    let (parts, ()) = request.body(()).unwrap().into_parts();
    tenant_from_request(&parts, &rules, &resolver).await.unwrap().context()
}

/// The context after a trip through the headers of a message, and through the JSON of a job.
fn carried(context: &TenantContext) -> [TenantContext; 2] {
    let headers = context.to_headers();
    let read = |name: &str| headers.iter().find(|(header, _)| *header == name).map(|(_, value)| value.as_str());
    let json = serde_json::to_string(context).unwrap();
    [TenantContext::from_headers(read).unwrap(), serde_json::from_str(&json).unwrap()]
}

#[tokio::test(flavor = "multi_thread")]
async fn a_context_without_a_caller_is_not_the_service() {
    let stage = Stage::set().await;
    let (members, page) = (Members::new(&stage.db), PageRequest::default());
    let new = NewMember::of_address("x@example.com").role(UserRole::Owner);
    let context = of_request(&stage, None).await;
    for context in [context.clone()].into_iter().chain(carried(&context)) {
        assert_eq!(context.in_scope(Actor::current), Actor::Anonymous);
        for organization in [stage.acme, stage.globex] {
            let refused = context.scope(members.add(organization, &new)).await.unwrap_err();
            assert!(matches!(refused, PlatformError::Forbidden { actor: "anonymous", .. }), "{refused:?}");
            assert!(refused.to_string().contains("acting_as("), "{refused}");
            let refused = context.scope(members.list(organization, &page)).await;
            assert!(matches!(refused, Err(PlatformError::Forbidden { .. })), "{refused:?}");
        }
        let refused = context.scope(members.of_user(UserId(uuid::Uuid::nil()), &page)).await;
        assert!(matches!(refused, Err(PlatformError::Forbidden { .. })), "{refused:?}");
        // Who is named is asked, and who is not in the context is the service.
        let named = members.clone().acting_as(Actor::System);
        assert!(context.scope(named.list(stage.acme, &page)).await.is_ok());
    }
    let anonymous = Actor::Anonymous;
    let refused = stage.db.dangerously_as_admin(&anonymous, "r", async |_| Ok(())).await;
    assert!(matches!(refused, Err(PlatformError::Forbidden { .. })), "{refused:?}");
    assert_eq!(Actor::current(), Actor::System);
    assert!(members.add(stage.acme, &new).await.is_ok());
    // What was refused for its role says nothing of the context.
    let ben = stage.user(stage.acme, "ben@example.com", "member").await;
    let refused = members.acting_as(Actor::User(ben)).add(stage.acme, &new).await.unwrap_err();
    assert_eq!(refused.to_string(), "this takes the permission owners:manage");
    // What no role has is for the service, which may be the caller in somebody's context.
    let refused = Quota::new(&stage.db).acting_as(Actor::User(ben)).prune(Duration::ZERO).await.unwrap_err();
    let service =
        "this takes the permission quota:prune, which only the service has; name it with acting_as(Actor::System)";
    assert_eq!(refused.to_string(), service);
}

#[tokio::test(flavor = "multi_thread")]
async fn in_the_context_of_an_api_key_its_scopes_decide() {
    let stage = Stage::set().await;
    let (members, page) = (Members::new(&stage.db), PageRequest::default());
    let auth = Auth::new(&stage.db, AuthSettings::default());
    let keys = auth.api_keys();
    let new = NewMember::of_address("x@example.com");
    let (bare, bare_token) = keys.create(stage.acme, &NewApiKey::named("bare")).await.unwrap();
    let (reader, token) = keys.create(stage.acme, &NewApiKey::named("r").scope("members:read")).await.unwrap();
    let bare_context = of_request(&stage, Some(&bare_token)).await;
    let context = of_request(&stage, Some(&token)).await;
    assert_eq!((bare_context.api_key_id, context.api_key_id), (Some(bare.id), Some(reader.id)));
    for bare_context in [bare_context.clone()].into_iter().chain(carried(&bare_context)) {
        let refused = bare_context.scope(members.list(stage.acme, &page)).await;
        assert!(matches!(refused, Err(PlatformError::Forbidden { actor: "api_key", .. })), "{refused:?}");
    }
    for context in [context.clone()].into_iter().chain(carried(&context)) {
        assert_eq!(context.in_scope(Actor::current), Actor::ApiKey(reader.id));
        assert!(context.scope(members.list(stage.acme, &page)).await.is_ok());
        let refused = context.scope(members.add(stage.acme, &new)).await;
        assert!(matches!(refused, Err(PlatformError::Forbidden { .. })), "{refused:?}");
        let refused = context.scope(members.list(stage.globex, &page)).await;
        assert!(matches!(refused, Err(PlatformError::NotFound { .. })), "{refused:?}");
    }
    // In a job, a key that was revoked meanwhile may do nothing.
    keys.revoke(stage.acme, reader.id).await.unwrap();
    let refused = context.scope(members.list(stage.acme, &page)).await;
    assert!(matches!(refused, Err(PlatformError::NotFound { .. })), "{refused:?}");
}

#[test]
fn the_key_of_a_context_counts_before_its_user() {
    let (user, key) = (UserId(uuid::Uuid::now_v7()), ApiKeyId(uuid::Uuid::now_v7()));
    let context = TenantContext::new(cgk::OrganizationId(uuid::Uuid::nil()), slug("acme")).user(user, "a@example.com");
    assert_eq!(context.in_scope(Actor::current), Actor::User(user));
    assert_eq!(context.clone().api_key(key).in_scope(Actor::current), Actor::ApiKey(key));
    // A message of an earlier version names no key.
    let json = serde_json::to_value(&context).unwrap();
    assert!(json.get("api_key_id").is_none());
    assert_eq!(serde_json::from_value::<TenantContext>(json).unwrap(), context);
}
