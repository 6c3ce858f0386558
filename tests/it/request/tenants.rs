//! What a request gets by what it names and by what it presents.

use crate::auth::platform::Platform;
use cgk::{
    auth::{ClientInfo, NewApiKey},
    request::{Identity, NamedBy, RequestError, RequestTenant, TenantRules, tenant_from_request},
    resolver::{Resolver, ResolverSettings},
};
use http::{Request, request::Builder};

/// `acme` and `globex` are active, `dormant` is suspended, `unborn` is not ready, and `nobody` is no tenant.
async fn set() -> Platform {
    let platform = Platform::set().await;
    platform
        .stage
        .sql(
            "insert into organizations (slug, name, status) values ('dormant', 'x', 'suspended'), ('unborn', 'x', 'onboarding')",
        )
        .await;
    platform
}

fn rules() -> TenantRules {
    TenantRules::new()
        .bearer_token()
        .session_cookie("sid")
        .and_then(|rules| rules.api_key_header("x-api-key"))
        .and_then(|rules| rules.subdomain_of("example.com"))
        .and_then(|rules| rules.custom_domain("shop.acme.org", "acme".parse().unwrap()))
        .and_then(|rules| rules.path_prefix("/t"))
        .and_then(|rules| rules.trusted_header("x-tenant"))
        .unwrap()
}

/// One that remembers nothing.
fn fresh(platform: &Platform) -> Resolver {
    Resolver::new(&platform.auth, ResolverSettings::default())
}

async fn ask(platform: &Platform, request: Builder) -> Result<RequestTenant, RequestError> {
    let (parts, ()) = request.body(()).unwrap().into_parts();
    tenant_from_request(&parts, &rules(), &fresh(platform)).await
}

/// The slug and who named it, or status and text.
async fn response(platform: &Platform, request: Builder) -> (u16, String) {
    match ask(platform, request).await {
        Ok(found) => (200, found.tenant.slug.to_string()),
        Err(error) => (error.status().as_u16(), error.to_string()),
    }
}

fn named(by: NamedBy, slug: &str) -> Builder {
    let base = Request::get("/x").header("host", "example.com");
    match by {
        NamedBy::Host => Request::get("/x").header("host", format!("{slug}.example.com")),
        NamedBy::Path => Request::get(format!("/t/{slug}/x")).header("host", "example.com"),
        NamedBy::Header => base.header("x-tenant", slug),
        _ => base,
    }
}

#[tokio::test]
async fn where_a_credential_is_required_a_stranger_learns_of_no_tenant() {
    let platform = set().await;
    let resolver = fresh(&platform);
    let status = async |rules: &TenantRules, request: Builder| {
        let (parts, ()) = request.body(()).unwrap().into_parts();
        tenant_from_request(&parts, rules, &resolver).await.map_or_else(|error| error.status().as_u16(), |_| 200)
    };
    let (open, closed) = (rules(), rules().require_credential());
    for (slug, without) in [("acme", 200), ("dormant", 403), ("nobody", 404), ("1x", 404)] {
        for by in NAMES {
            assert_eq!(status(&closed, named(by, slug)).await, 401, "{by:?} {slug}");
            // The control.
            assert_eq!(status(&open, named(by, slug)).await, without, "{by:?} {slug}");
        }
    }
    assert_eq!(status(&closed, Request::get("/x").header("host", "example.com")).await, 401);
    let (_, key) = platform.auth.api_keys().create(platform.acme, &NewApiKey::named("k")).await.unwrap();
    let with_key = || named(NamedBy::Host, "acme").header("x-api-key", key.reveal());
    assert_eq!(status(&closed, with_key()).await, 200);
    // What is malformed stays so.
    assert_eq!(status(&closed, with_key().header("x-api-key", "again")).await, 400);
}

const NAMES: [NamedBy; 3] = [NamedBy::Host, NamedBy::Path, NamedBy::Header];

#[tokio::test]
async fn without_a_credential_a_name_is_a_tenant_that_is_active() {
    let platform = set().await;
    for by in NAMES {
        for (slug, status) in
            [("acme", 200), ("globex", 200), ("dormant", 403), ("unborn", 403), ("nobody", 404), ("1x", 404)]
        {
            let (found, text) = response(&platform, named(by, slug)).await;
            assert_eq!(found, status, "{by:?} {slug}: {text}");
            assert!(text == slug || !text.contains(slug), "{text}");
        }
        let found = ask(&platform, named(by, "acme")).await.unwrap();
        assert_eq!((found.tenant.id, found.named_by), (platform.acme, by));
        // Nobody has said who asks.
        assert_eq!(found.identity().unwrap_err().status().as_u16(), 401);
    }
    let custom = Request::get("/").header("host", "SHOP.acme.org.:443");
    assert_eq!(response(&platform, custom).await, (200, "acme".into()));
    assert_eq!(response(&platform, Request::get("/").header("host", "example.com")).await.0, 404);
    assert_eq!(response(&platform, Request::get("/").header("host", "other.org")).await.0, 404);
}

#[tokio::test]
async fn with_a_credential_every_name_must_be_its_own() {
    let platform = set().await;
    let user = platform.user(platform.acme, "ada@example.com").await;
    let (_, session) = platform.auth.sessions().issue(platform.acme, user.id, &ClientInfo::default()).await.unwrap();
    let (_, key) = platform.auth.api_keys().create(platform.acme, &NewApiKey::named("x")).await.unwrap();
    let credentials = [
        ("authorization", format!("Bearer {}", session.reveal()), NamedBy::Session),
        ("authorization", format!("bearer {}", key.reveal()), NamedBy::ApiKey),
        ("cookie", format!("a=b; sid={}", session.reveal()), NamedBy::Session),
        ("x-api-key", key.reveal().to_owned(), NamedBy::ApiKey),
    ];
    for (header, value, kind) in &credentials {
        for by in NAMES {
            let alone = ask(&platform, named(NamedBy::Session, "").header(*header, value)).await.unwrap();
            assert_eq!((alone.tenant.id, alone.named_by), (platform.acme, *kind));
            let same = ask(&platform, named(by, "acme").header(*header, value)).await.unwrap();
            assert_eq!((same.tenant.slug.as_str(), same.named_by), ("acme", *kind));
            match (same.identity().unwrap(), kind) {
                (Identity::Session(found), NamedBy::Session) => assert_eq!(found.user_id, user.id),
                (Identity::ApiKey(found), NamedBy::ApiKey) => assert_eq!(found.name, "x"),
                other => panic!("{other:?}"),
            }
            // Refused alike, whatever it is.
            for slug in ["globex", "dormant", "unborn", "nobody", "1x"] {
                let refused = response(&platform, named(by, slug).header(*header, value)).await;
                assert_eq!(refused, (403, "access is denied".into()), "{by:?} {slug}");
            }
            let (_, wrong) = value.split_at(1);
            let garbled = if *header == "cookie" { "sid=x".to_owned() } else { format!("Bearer {wrong}") };
            // A credential that is not accepted is refused alike, whatever the name is.
            for slug in ["acme", "globex", "dormant", "nobody", "1x"] {
                let refused = response(&platform, named(by, slug).header(*header, &garbled)).await;
                assert_eq!(refused, (401, "the credential is not accepted".into()), "{by:?} {slug}");
            }
        }
    }
    platform.stage.sql("update organizations set status = 'suspended' where slug = 'acme'").await;
    let suspended = response(&platform, named(NamedBy::Host, "acme").header("x-api-key", key.reveal())).await;
    assert_eq!(suspended, (403, "the credential is not accepted".into()));
    platform.stage.sql("update organizations set status = 'active' where slug = 'acme'").await;
    platform.stage.sql("update api_keys set revoked_at = now()").await;
    for slug in ["acme", "nobody"] {
        assert_eq!(response(&platform, named(NamedBy::Host, slug).header("x-api-key", key.reveal())).await.0, 401);
    }
}

#[tokio::test]
async fn parts_that_disagree_are_refused_whatever_they_name() {
    let platform = set().await;
    let both = |host: &str, header: &str| {
        Request::get("/x").header("host", format!("{host}.example.com")).header("x-tenant", header)
    };
    assert_eq!(response(&platform, both("acme", "acme")).await, (200, "acme".into()));
    for (host, header) in [
        ("acme", "globex"),
        ("globex", "acme"),
        ("acme", "nobody"),
        ("nobody", "acme"),
        ("dormant", "acme"),
        ("acme", "1x"),
    ] {
        assert_eq!(response(&platform, both(host, header)).await, (403, "access is denied".into()), "{host} {header}");
    }

    let mut of_acme = Vec::new();
    for email in ["ada@example.com", "bob@example.com"] {
        let user = platform.user(platform.acme, email).await;
        of_acme.push(platform.auth.sessions().issue(platform.acme, user.id, &ClientInfo::default()).await.unwrap().1);
    }
    let (_, own) = platform.auth.api_keys().create(platform.acme, &NewApiKey::named("own")).await.unwrap();
    let (_, other) = platform.auth.api_keys().create(platform.globex, &NewApiKey::named("other")).await.unwrap();
    let session = |token: &cgk::auth::SecretToken| {
        named(NamedBy::Session, "").header("authorization", format!("Bearer {}", token.reveal()))
    };
    let found = ask(&platform, session(&of_acme[0]).header("x-api-key", own.reveal())).await.unwrap();
    assert!(matches!(found.identity, Some(Identity::Session(_))) && found.named_by == NamedBy::Session);
    let same = session(&of_acme[0]).header("cookie", format!("sid={}", of_acme[0].reveal()));
    assert!(ask(&platform, same).await.is_ok());
    for request in [
        session(&of_acme[0]).header("x-api-key", other.reveal()),
        session(&of_acme[0]).header("cookie", format!("sid={}", of_acme[1].reveal())),
    ] {
        assert_eq!(response(&platform, request).await, (403, "access is denied".into()));
    }
}

#[tokio::test]
async fn the_context_of_a_request_is_its_tenant_and_user() {
    let platform = set().await;
    let user = platform.user(platform.acme, "ada@example.com").await;
    let (_, session) = platform.auth.sessions().issue(platform.acme, user.id, &ClientInfo::default()).await.unwrap();
    let (_, key) = platform.auth.api_keys().create(platform.acme, &NewApiKey::named("x")).await.unwrap();
    let of = async |token: &str| {
        let request = named(NamedBy::Session, "").header("authorization", format!("Bearer {token}"));
        ask(&platform, request).await.unwrap().context()
    };
    let context = of(session.reveal()).await;
    assert_eq!((context.organization_id, context.slug.as_str()), (platform.acme, "acme"));
    assert_eq!((context.user_id, context.email.as_deref()), (Some(user.id), Some("ada@example.com")));
    assert!(context.has_role("member") && context.roles.len() == 1 && !context.request_id.is_empty());
    let context = of(key.reveal()).await;
    assert_eq!((context.organization_id, context.user_id, context.roles.len()), (platform.acme, None, 0));
    let named = ask(&platform, named(NamedBy::Host, "globex")).await.unwrap().context();
    assert_eq!((named.organization_id, named.user_id), (platform.globex, None));
}
