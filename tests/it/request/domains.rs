//! Custom domains in the database: claimed, verified, and found by the host of a request.

use crate::{auth::platform::Platform, resolver::memory::resolver, support::cgk::Shell};
use cgk::{
    ErrorKind,
    auth::NewApiKey,
    domains::{DomainError, DomainName, Domains},
    request::{NamedBy, TenantRules, tenant_from_request},
    resolver::Resolver,
};
use http::Request;
use insta::assert_snapshot;
use regex::Regex;

fn domain(text: &str) -> DomainName {
    text.parse().unwrap()
}

fn rules() -> TenantRules {
    let rules = TenantRules::new().bearer_token().verified_domains().path_prefix("/t").unwrap();
    rules.subdomain_of("example.com").unwrap().host_without_tenant("api.example.org").unwrap()
}

/// The status, and the tenant or the text of the error.
async fn asked(resolver: &Resolver, host: &str, path: &str, token: Option<&str>) -> (u16, String) {
    let mut request = Request::get(path).header("host", host);
    if let Some(token) = token {
        request = request.header("authorization", format!("Bearer {token}"));
    }
    let (parts, ()) = request.body(()).unwrap().into_parts();
    match tenant_from_request(&parts, &rules(), resolver).await {
        Ok(found) => (200, format!("{} by {:?}", found.tenant.slug, found.named_by)),
        Err(error) => (error.status().as_u16(), error.to_string()),
    }
}

#[tokio::test]
async fn a_domain_counts_when_it_is_verified_and_belongs_to_one() {
    let platform = Platform::set().await;
    let domains = Domains::new(&platform.db);
    let shop = domain("Shop.Example.org.");
    let claimed = domains.add(platform.acme, &shop).await.unwrap();
    assert_eq!((claimed.name.as_str(), claimed.verified_at), ("shop.example.org", None));
    assert!(claimed.verification_token.len() >= 32);
    // Claimed again it is the same; another organization may claim it too, with a token of its own.
    assert_eq!(domains.add(platform.acme, &shop).await.unwrap(), claimed);
    let other = domains.add(platform.globex, &shop).await.unwrap();
    assert_ne!(other.verification_token, claimed.verification_token);
    let verified = domains.verify(platform.globex, &shop).await.unwrap();
    assert!(verified.verified_at.is_some());
    assert_eq!(domains.verify(platform.globex, &shop).await.unwrap(), verified);
    let error = domains.verify(platform.acme, &shop).await.unwrap_err();
    assert!(matches!(&error, DomainError::Taken { name } if *name == shop) && error.status() == 409, "{error:?}");
    assert_eq!(domains.list(platform.acme).await.unwrap(), [claimed]);
    assert_eq!(domains.list(platform.globex).await.unwrap(), [verified]);
    // What one does not have it does not take from the other.
    domains.remove(platform.acme, &shop).await.unwrap();
    for error in [
        domains.remove(platform.acme, &shop).await.unwrap_err(),
        domains.verify(platform.acme, &shop).await.unwrap_err(),
        domains.add(cgk::OrganizationId(uuid::Uuid::nil()), &shop).await.unwrap_err(),
    ] {
        assert!(matches!(error, DomainError::NotFound { .. }) && error.status() == 404, "{error:?}");
    }
    assert_eq!(domains.list(platform.globex).await.unwrap().len(), 1);
    domains.remove(platform.globex, &shop).await.unwrap();
    domains.add(platform.acme, &shop).await.unwrap();
    domains.verify(platform.acme, &shop).await.unwrap();

    // The column takes what the type takes.
    for text in ["Shop.example.org", "localhost", "shop.example.org.", "192.0.2.1", "a_b.example", "-a.b", "bücher.de"]
    {
        let sql = format!(
            "insert into organization_domains (organization_id, domain, verification_token)
                           values ('{}', '{text}', repeat('x', 32))",
            platform.acme
        );
        let error = crate::stage::run(&platform.stage.watch, &sql).await.unwrap_err();
        assert_eq!(error.code().map(|code| code.code()), Some("23514"), "{text}");
    }
    platform.stage.sql("insert into organization_domains (organization_id, domain, verification_token)
        select id, 'd' || n || '.example', repeat('x', 32) from organizations, generate_series(1, 1000) n where slug = 'globex'").await;
    assert!(matches!(domains.add(platform.globex, &domain("one.more")).await, Err(DomainError::TooMany)));
}

#[tokio::test]
async fn a_host_finds_its_tenant_and_nothing_else() {
    let platform = Platform::set().await;
    let domains = Domains::new(&platform.db);
    for (organization, name) in [
        (platform.acme, "shop.acme.org"),
        (platform.globex, "globex.net"),
        // Within a base domain, and the host of all: they never count.
        (platform.globex, "acme.example.com"),
        (platform.globex, "api.example.org"),
    ] {
        domains.add(organization, &domain(name)).await.unwrap();
        domains.verify(organization, &domain(name)).await.unwrap();
    }
    domains.add(platform.acme, &domain("claimed.org")).await.unwrap();
    let resolver = resolver(&platform.auth).await;
    let (_, key) = platform.auth.api_keys().create(platform.acme, &NewApiKey::named("x")).await.unwrap();
    let key = key.reveal();
    let denied = (403, "access is denied".to_owned());
    let unknown = (404, "there is no such tenant".to_owned());
    let found = |text: &str| (200, text.to_owned());
    for (host, path, token, expected) in [
        ("SHOP.acme.org.:443", "/", None, found("acme by Host")),
        ("globex.net", "/", None, found("globex by Host")),
        ("acme.example.com", "/", None, found("acme by Host")),
        ("claimed.org", "/", None, unknown.clone()),
        ("nobody.org", "/", None, unknown.clone()),
        ("192.0.2.1", "/", None, unknown.clone()),
        ("[::1]:80", "/", None, unknown.clone()),
        ("localhost", "/", None, unknown.clone()),
        ("api.example.org", "/", None, unknown.clone()),
        ("shop.acme.org", "/t/acme", None, found("acme by Host")),
        ("shop.acme.org", "/t/globex", None, denied.clone()),
        ("shop.acme.org", "/t/nobody", None, denied.clone()),
        ("nobody.org", "/t/acme", None, denied.clone()),
        ("shop.acme.org", "/t/1x", None, denied.clone()),
        ("shop.acme.org", "/", Some(key), found("acme by ApiKey")),
        ("globex.net", "/", Some(key), denied.clone()),
        ("claimed.org", "/", Some(key), denied.clone()),
        ("nobody.org", "/", Some(key), denied.clone()),
        ("localhost", "/", Some(key), denied.clone()),
        ("api.example.org", "/", Some(key), found("acme by ApiKey")),
        ("shop.acme.org", "/", Some("cgk_key_x"), (401, "the credential is not accepted".to_owned())),
    ] {
        assert_eq!(asked(&resolver, host, path, token).await, expected, "{host} {path} {token:?}");
    }
    // A suspended tenant: 403 by its domain, as by its name.
    platform.stage.sql("update organizations set status = 'suspended' where slug = 'globex'").await;
    resolver.caught_up().await;
    assert_eq!(asked(&resolver, "globex.net", "/", None).await, denied);
    assert_eq!(resolver.domain(&domain("globex.net")).await.unwrap_err().kind(), ErrorKind::Suspended);
    // Without the rule no domain is looked up.
    let (parts, ()) = Request::get("/").header("host", "shop.acme.org").body(()).unwrap().into_parts();
    let rules = TenantRules::new().subdomain_of("example.com").unwrap();
    assert_eq!(tenant_from_request(&parts, &rules, &resolver).await.unwrap_err().status(), 404);
    let (parts, ()) = Request::get("/").header("host", "shop.acme.org").body(()).unwrap().into_parts();
    let named = tenant_from_request(&parts, &TenantRules::new().verified_domains(), &resolver).await.unwrap();
    assert_eq!((named.named_by, named.tenant.id), (NamedBy::Host, platform.acme));
}

/// What is remembered of a domain is forgotten when it changes, in whatever process, and only then.
#[tokio::test]
async fn a_domain_is_remembered_until_it_changes() {
    let platform = Platform::set().await;
    let domains = Domains::new(&platform.db);
    let resolver = resolver(&platform.auth).await;
    let shop = domain("shop.example.org");
    let owner = async || {
        resolver.caught_up().await;
        let before = resolver.status().lookups;
        let owner = resolver.domain(&shop).await.unwrap().map(|tenant| tenant.slug.to_string());
        (owner, resolver.status().lookups - before)
    };
    let is = |slug: &str| Some(slug.to_owned());
    assert_eq!((owner().await, owner().await), ((None, 1), (None, 0)));
    // A claim changes nothing for anybody.
    domains.add(platform.acme, &shop).await.unwrap();
    assert_eq!(owner().await, (None, 0));
    domains.verify(platform.acme, &shop).await.unwrap();
    assert_eq!((owner().await, owner().await), ((is("acme"), 1), (is("acme"), 0)));
    // Moved by hand, in one statement.
    let moved = format!("update organization_domains set organization_id = '{}'", platform.globex);
    platform.stage.sql(&moved).await;
    assert_eq!(owner().await, (is("globex"), 1));
    domains.remove(platform.globex, &shop).await.unwrap();
    assert_eq!((owner().await, owner().await), ((None, 1), (None, 0)));
    domains.add(platform.acme, &shop).await.unwrap();
    domains.verify(platform.acme, &shop).await.unwrap();
    assert_eq!(owner().await, (is("acme"), 1));
    platform.stage.sql("update organization_domains set verification_token = repeat('y', 32)").await;
    assert_eq!(owner().await, (is("acme"), 0));
    platform.stage.sql("truncate organization_domains").await;
    assert_eq!(owner().await, (None, 1));
}

#[tokio::test]
async fn the_commands_claim_verify_and_remove() {
    let platform = Platform::set().await;
    let shell = Shell::on(&platform.stage.database);
    let text = shell.transcript(&[
        "domain:list acme",
        "domain:add acme Shop.Example.org",
        "domain:add globex shop.example.org --json",
        "domain:verify acme shop.example.org",
        "domain:verify globex shop.example.org",
        "domain:add acme shop.example.org",
        "domain:list acme",
        "domain:list acme --json",
        "domain:verify acme nosuch.example.org",
        "domain:remove acme shop.example.org --json",
        "domain:remove acme shop.example.org",
        "domain:add acme shop.example.org:443",
        "domain:add nosuch shop.example.org",
        "user:create acme ada@example.com",
        "user:disable acme ada@example.com",
        "user:enable acme ada@example.com",
        "user:enable acme ADA@example.com --json",
        "user:enable acme ben@example.com",
        "user:enable globex ada@example.com",
    ]);
    let tokens = Regex::new("[0-9a-f]{32}").unwrap().replace_all(&text, "<token>").into_owned();
    let dates = Regex::new(r"\d{4}-\d\d-\d\d").unwrap().replace_all(&tokens, "<date>").into_owned();
    assert_snapshot!(dates);
    platform.stage.sql("drop table organization_domains").await;
    let answer = shell.run(&["domain:list", "acme"]);
    assert!(answer.code == 1 && answer.stderr.contains("--from-builtin organization_domains"), "{}", answer.stderr);
    assert!(
        platform.auth.users().list(platform.acme).await.unwrap().iter().all(|user| user.status.as_str() == "active")
    );
}
