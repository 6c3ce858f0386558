use super::*;
use crate::request::TenantRules;
use http::Request;
use proptest::prelude::*;

/// Returns what a request names under these rules: slugs, or the status that refuses it.
fn names(rules: &TenantRules, request: http::request::Builder) -> Result<Vec<String>, u16> {
    let (parts, ()) = request.body(()).unwrap().into_parts();
    let claims = rules.read(&parts).map_err(|error| error.status().as_u16())?;
    let mut named: Vec<String> = claims
        .made
        .iter()
        .map(|claim| match claim {
            Claim::Name(_, slug) => slug.to_string(),
            Claim::Domain(name) => format!("domain {name}"),
            Claim::BearerToken(text) | Claim::ApiKey(text) | Claim::SessionToken(text) => format!("token {text}"),
        })
        .collect();
    named.extend(claims.unknown.then(|| "unknown".into()));
    Ok(named)
}

fn of(name: &str) -> Result<Vec<String>, u16> {
    Ok(vec![name.to_owned()])
}

fn hosts() -> TenantRules {
    TenantRules::new()
        .subdomain_of("example.com")
        .and_then(|rules| rules.subdomain_of("eu.example.com"))
        .and_then(|rules| rules.custom_domain("Shop.Acme.org", "acme".parse().unwrap()))
        .and_then(|rules| rules.custom_domain("xn--bcher-kva.example", "buch".parse().unwrap()))
        .and_then(|rules| rules.host_without_tenant("www.example.com"))
        .unwrap()
}

#[test]
fn hosts_are_normalised_or_refused() {
    let get = |host: &str| names(&hosts(), Request::get("/").header("host", host));
    for (host, tenant) in [
        ("acme.example.com", "acme"),
        ("ACME.EXAMPLE.COM:8443", "acme"),
        ("acme.example.com.", "acme"),
        ("my-co.example.com", "my_co"),
        ("acme.eu.example.com", "acme"),
        ("shop.acme.org:443", "acme"),
        ("xn--bcher-kva.example", "buch"),
        // Not the host of a tenant.
        ("other.org", "unknown"),
        ("example.com.evil.org", "unknown"),
        ("evilexample.com", "unknown"),
        ("a.b.example.com", "unknown"),
        ("a.b.eu.example.com", "unknown"),
        ("1a.example.com", "unknown"),
        ("xn--acme-abc.example.com", "unknown"),
        ("192.0.2.1", "unknown"),
        ("[2001:db8::1]:80", "unknown"),
        (&format!("{}.example.com", "a".repeat(49)), "unknown"),
    ] {
        assert_eq!(get(host), of(tenant), "{host}");
    }
    // The base domains and the host without a tenant name no tenant.
    for host in ["example.com", "eu.example.com", "WWW.example.com."] {
        assert_eq!(get(host), Ok(vec![]), "{host}");
    }
    for host in [
        "",
        "acme_.example.com",
        "acme.example.com:x",
        "acme@example.com",
        "a b.example.com",
        "acme.example.com, x",
        "acme..example.com",
    ] {
        assert_eq!(get(host), Err(400), "{host}");
    }
    assert_eq!(names(&hosts(), Request::get("/")), Err(400));
    let bytes = http::HeaderValue::from_bytes("acmé.example.com".as_bytes()).unwrap();
    assert_eq!(names(&hosts(), Request::get("/").header("host", bytes)), Err(400));
    let twice = Request::get("/").header("host", "acme.example.com").header("host", "acme.example.com");
    assert_eq!(names(&hosts(), twice), Err(400));
}

/// In HTTP/2 the host is in the request's target. If the header is there too, both must be the same.
#[test]
fn the_target_of_the_request_is_a_host_too() {
    let target = "https://Acme.example.com:443/x";
    assert_eq!(names(&hosts(), Request::get(target)), of("acme"));
    assert_eq!(names(&hosts(), Request::get(target).header("host", "acme.example.com.")), of("acme"));
    assert_eq!(names(&hosts(), Request::get(target).header("host", "globex.example.com")), Err(400));
    assert_eq!(names(&hosts(), Request::get("https://user@acme.example.com/")), Err(400));
}

#[test]
fn forwarded_headers_count_where_they_are_trusted_alone() {
    let request = |name: &str, value: &str| Request::get("/").header("host", "acme.example.com").header(name, value);
    let trusting = hosts().trust_forwarded_host();
    for name in ["x-forwarded-host", "forwarded", "x-host", "x-original-host"] {
        assert_eq!(names(&hosts(), request(name, "globex.example.com")), of("acme"), "{name}");
    }
    assert_eq!(names(&trusting, request("x-forwarded-host", "globex.example.com")), of("globex"));
    assert_eq!(names(&trusting, request("forwarded", "host=globex.example.com")), of("acme"));
    assert_eq!(names(&trusting, request("x-other", "")), of("acme"));
    assert_eq!(names(&trusting, request("x-forwarded-host", "globex.example.com, acme.example.com")), Err(400));
    let twice = request("x-forwarded-host", "globex.example.com").header("x-forwarded-host", "globex.example.com");
    assert_eq!(names(&trusting, twice), Err(400));
}

#[test]
fn a_header_counts_where_it_is_named_alone_and_is_not_repaired() {
    let request = |value: &str| Request::get("/").header("x-tenant", value);
    let rules = TenantRules::new().trusted_header("X-Tenant").unwrap();
    assert_eq!(names(&TenantRules::new(), request("acme")), Ok(vec![]));
    assert_eq!(names(&rules, request("acme")), of("acme"));
    for wrong in ["Acme", "acme,globex", "a-b", "", "tenant_acme; drop", "acme\t"] {
        assert_eq!(names(&rules, request(wrong)), of("unknown"), "{wrong}");
    }
    assert_eq!(names(&rules, request("acme").header("x-tenant", "acme")), Err(400));
}

#[test]
fn a_path_names_its_tenant_behind_the_prefix() {
    let rules = TenantRules::new().path_prefix("/t").unwrap();
    let get = |path: &str| names(&rules, Request::get(path));
    for (path, tenant) in [
        ("/t/acme", "acme"),
        ("/t/acme/orders?t=/t/globex", "acme"),
        ("/t/", "unknown"),
        ("/t//acme", "unknown"),
        ("/t/Acme", "unknown"),
        ("/t/%61cme", "unknown"),
        ("/t/a%00", "unknown"),
    ] {
        assert_eq!(get(path), of(tenant), "{path}");
    }
    for path in ["/", "/t", "/tt/acme", "/x/t/acme", "//t/acme", "/T/acme"] {
        assert_eq!(get(path), Ok(vec![]), "{path}");
    }
    for path in
        ["/t/acme/../globex", "/t/./acme", "/t/acme/%2e%2E/globex", "/t/acme%2f..", "/x/../t/acme", "/t/acme/%5Cglobex"]
    {
        assert_eq!(get(path), Err(400), "{path}");
    }
}

#[test]
fn of_prefixes_within_each_other_the_longer_one_holds() {
    let with = |prefixes: &[&str]| {
        prefixes.iter().fold(TenantRules::new(), |rules, prefix| rules.path_prefix(prefix).unwrap())
    };
    for rules in [with(&["/api", "/api/t"]), with(&["/api/t", "/api"])] {
        let get = |path: &str| names(&rules, Request::get(path));
        for (path, tenant) in
            [("/api/t/acme", "acme"), ("/api/t/", "unknown"), ("/api/acme", "acme"), ("/api/tt/acme", "tt")]
        {
            assert_eq!(get(path), of(tenant), "{path}");
        }
        for path in ["/api/t", "/api", "/t/acme"] {
            assert_eq!(get(path), Ok(vec![]), "{path}");
        }
    }
    // Prefixes that are not nested name one tenant each.
    assert_eq!(names(&with(&["/t", "/u"]), Request::get("/u/acme")), of("acme"));
}

#[test]
fn credentials_are_read_from_one_place_each() {
    let rules = TenantRules::new().bearer_token().session_cookie("sid").unwrap().api_key_header("x-api-key").unwrap();
    let request =
        Request::get("/").header("authorization", "bearer  a ").header("cookie", "x=1; sid=b").header("x-api-key", "c");
    assert_eq!(names(&rules, request), Ok(vec!["token a".into(), "token b".into(), "token c".into()]));
    for (name, value) in [
        ("authorization", "Basic YTpi"),
        ("authorization", "Bearerx y"),
        ("cookie", "xsid=1; SID=2; sid"),
        ("cookie", "sid="),
        ("cookie", "sid =b"),
        ("proxy-authorization", "Bearer a"),
    ] {
        assert_eq!(names(&rules, Request::get("/").header(name, value)), Ok(vec![]), "{value}");
    }
    assert_eq!(names(&rules, Request::get("/").header("authorization", "Bearer")), of("token "));
    // In HTTP/2 cookies may be split into several headers. Each cookie occurs once.
    let split = Request::get("/").header("cookie", "a=1").header("cookie", "sid=b");
    assert_eq!(names(&rules, split), of("token b"));
    for twice in [
        Request::get("/").header("cookie", "sid=a; sid=b"),
        Request::get("/").header("cookie", "sid=; sid=b"),
        Request::get("/").header("cookie", "sid=a").header("cookie", "sid=a"),
        Request::get("/").header("authorization", "Bearer a").header("authorization", "Basic b"),
        Request::get("/").header("x-api-key", "a").header("x-api-key", "a"),
    ] {
        assert_eq!(names(&rules, twice), Err(400));
    }
}

#[test]
fn rules_that_cannot_be_are_refused() {
    for bad in ["", "example.com:80", "[::1]", "exa_mple.com", "bücher.de", "https://example.com", "*.example.com"] {
        assert!(TenantRules::new().subdomain_of(bad).is_err(), "{bad}");
        assert!(TenantRules::new().custom_domain(bad, "acme".parse().unwrap()).is_err(), "{bad}");
        assert!(TenantRules::new().host_without_tenant(bad).is_err(), "{bad}");
    }
    for bad in ["", "/", "t", "/t/", "//t", "/t%20", "/../t"] {
        assert!(TenantRules::new().path_prefix(bad).is_err(), "{bad}");
    }
    assert!(TenantRules::new().path_prefix("/api/t").is_ok());
    assert!(TenantRules::new().trusted_header("x tenant").is_err());
    assert!(TenantRules::new().api_key_header("").is_err());
    assert!(TenantRules::new().session_cookie("a=b").is_err());
    assert!(hosts().custom_domain("shop.acme.org.", "globex".parse().unwrap()).is_err());
    assert!(hosts().custom_domain("www.example.com", "globex".parse().unwrap()).is_err());
    let error = hosts().host_without_tenant("shop.acme.org").unwrap_err();
    assert_eq!(error.to_string(), "\"shop.acme.org\" cannot be a host without a tenant: it was given before");
}

proptest! {
    /// Each slug that can be a label is found by its own host, in any spelling, and by no other host.
    #[test]
    fn a_slug_and_its_host_are_one(
        slug in "[a-z][a-z0-9_]{0,46}[a-z0-9]",
        upper in any::<[bool; 80]>(),
        end in prop::sample::select(vec!["", ".", ":80", ".:65535"]),
    ) {
        prop_assume!(!slug.starts_with("xn__"));
        prop_assume!(!["www", "eu"].contains(&slug.as_str()));
        let host: String = format!("{}.example.com", slug.replace('_', "-"))
            .chars()
            .zip(upper.iter().cycle())
            .map(|(c, upper)| if *upper { c.to_ascii_uppercase() } else { c })
            .collect();
        prop_assert_eq!(names(&hosts(), Request::get("/").header("host", format!("{host}{end}"))), of(&slug));
    }

    /// If a host names a tenant, it is that tenant's host, whatever the host is.
    #[test]
    fn no_other_host_names_a_tenant(host in "[-a-zA-Z0-9_.:@]{0,30}(\\.example\\.com|\\.eu\\.example\\.com|example\\.com)?\\.?(:[0-9]{1,6})?") {
        if let Ok(named) = names(&hosts(), Request::get("/").header("host", &host))
            && let Some(slug) = named.first().filter(|name| *name != "unknown")
        {
            let label = slug.replace('_', "-");
            let plain = host.to_ascii_lowercase();
            let plain = plain.split(':').next().unwrap();
            let plain = plain.strip_suffix('.').unwrap_or(plain);
            prop_assert!(
                plain == format!("{label}.example.com") || plain == format!("{label}.eu.example.com"),
                "{} was read as {}", host, slug
            );
        }
    }

    /// No input from a client causes a panic.
    #[test]
    fn any_request_is_read_or_refused(
        name in prop::sample::select(vec!["host", "cookie", "authorization", "x-tenant", "x-api-key", "x-forwarded-host"]),
        value in prop::collection::vec(any::<u8>(), 0..60),
        path in "/[!-~]{0,40}",
    ) {
        let rules = hosts().bearer_token().session_cookie("sid").unwrap().api_key_header("x-api-key").unwrap()
            .path_prefix("/t").unwrap().trusted_header("x-tenant").unwrap().trust_forwarded_host();
        let value = http::HeaderValue::from_bytes(&value);
        let uri = path.parse::<http::Uri>();
        if let (Ok(value), Ok(uri)) = (value, uri) {
            let _ = names(&rules, Request::get(uri).header(name, value));
        }
    }
}
