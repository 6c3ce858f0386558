//! Acme asks for everything that is another tenant's, in every way that a request can be put together.
//!
//! Whatever is asked of another organization is answered as it is of one that does not exist: the same status, the same text, the same
//! headers. And nothing of the others is changed.

use crate::stage::{Answer, Ask, Stage, Tenant, serve};
use axum::{Router, extract::Path, routing::get};
use serde_json::json;
use std::sync::Arc;

/// Whose ids stand in the path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Target {
    /// The organization that asks, and records of another one.
    OwnAndOther,
    OwnAndSuspended,
    OwnAndUnknown,
    Other,
    Suspended,
    Unknown,
}

const UNKNOWN: &str = "01890000-0000-7000-8000-000000000000";
const TARGETS: [Target; 6] = [
    Target::OwnAndOther,
    Target::OwnAndSuspended,
    Target::OwnAndUnknown,
    Target::Other,
    Target::Suspended,
    Target::Unknown,
];

/// By what the request says who asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Credential {
    None,
    Malformed,
    Owner,
    Member,
    Key,
    KeyHeader,
    Cookie,
    /// Own in the bearer token, another tenant's in the cookie.
    OwnAndOther,
    /// Another tenant's in the header of API keys, own in the cookie.
    OtherAndOwn,
    Suspended,
}

const CREDENTIALS: [Credential; 10] = [
    Credential::None,
    Credential::Malformed,
    Credential::Owner,
    Credential::Member,
    Credential::Key,
    Credential::KeyHeader,
    Credential::Cookie,
    Credential::OwnAndOther,
    Credential::OtherAndOwn,
    Credential::Suspended,
];

const HOSTS: [&str; 6] = [
    "api.example.com",
    "acme.example.com",
    "globex.example.com",
    "dormant.example.com",
    "unknown.example.com",
    "elsewhere.test",
];

/// What a request must be answered that is refused for whom it comes from; `None` where only the path is wrong.
fn refusal(credential: Credential, host: &str) -> Option<u16> {
    match credential {
        Credential::None | Credential::Malformed => Some(401),
        Credential::Suspended | Credential::OwnAndOther | Credential::OtherAndOwn => Some(403),
        _ if ["api.example.com", "acme.example.com"].contains(&host) => None,
        _ => Some(403),
    }
}

fn with_credential(ask: Ask, stage: &Stage, credential: Credential) -> Ask {
    let (acme, globex) = (stage.of("acme"), stage.of("globex"));
    let cookie = |ask: Ask, token: &str| ask.header("cookie", format!("__Host-session={token}"));
    match credential {
        Credential::None => ask,
        Credential::Malformed => ask.bearer("cgk_key_notakey"),
        Credential::Owner => ask.bearer(&acme.owner),
        Credential::Member => ask.bearer(&acme.member),
        Credential::Key => ask.bearer(&acme.key),
        Credential::KeyHeader => ask.header("x-api-key", &acme.key),
        Credential::Cookie => cookie(ask, &acme.owner),
        Credential::OwnAndOther => cookie(ask.bearer(&acme.owner), &globex.owner),
        Credential::OtherAndOwn => cookie(ask.header("x-api-key", &globex.key), &acme.owner),
        Credential::Suspended => ask.bearer(&stage.of("dormant").key),
    }
}

/// A request of each operation that the service describes, with the target's ids.
fn request(stage: &Stage, operation: &(&'static str, String), target: Target) -> Ask {
    let (method, template) = operation;
    let acme = stage.of("acme");
    let organization = |tenant: &Tenant| tenant.organization.clone();
    let records = |tenant: &Tenant| (tenant.repository.clone(), tenant.job.clone());
    let unknown = || (UNKNOWN.to_owned(), UNKNOWN.to_owned());
    let (organization, (repository, job)) = match target {
        Target::OwnAndOther => (organization(acme), records(stage.of("globex"))),
        Target::OwnAndSuspended => (organization(acme), records(stage.of("dormant"))),
        Target::OwnAndUnknown => (organization(acme), unknown()),
        Target::Other => (organization(stage.of("globex")), records(stage.of("globex"))),
        Target::Suspended => (organization(stage.of("dormant")), records(stage.of("dormant"))),
        Target::Unknown => (UNKNOWN.to_owned(), unknown()),
    };
    let path = template
        .replace("{organization_id}", &organization)
        .replace("{repository_id}", &repository)
        .replace("{job_id}", &job);
    let ask = Ask::new(method, path);
    match (*method, template.rsplit('/').next().unwrap()) {
        ("POST", "jobs") => ask.json(&json!({ "kind": "analyze" })),
        ("POST", "repositories") => ask.json(&json!({ "name": "planted" })),
        ("PUT", "{repository_id}") => ask.header("if-match", "*").json(&json!({ "name": "planted" })),
        ("PUT", "{organization_id}") => ask.header("if-match", "*").json(&json!({ "name": "planted" })),
        ("DELETE", _) => ask.header("if-match", "*"),
        _ => ask,
    }
}

/// Every operation whose path names an organization.
fn operations(stage: &Stage) -> Vec<(&'static str, String)> {
    let mut operations = Vec::new();
    for (template, methods) in stage.document["paths"].as_object().unwrap() {
        for method in ["GET", "POST", "PUT", "PATCH", "DELETE"] {
            let known = methods.get(method.to_lowercase()).is_some();
            if known && template.contains("{organization_id}") {
                operations.push((method, template.clone()));
            }
        }
    }
    operations
}

/// What an answer is, but for what differs in every answer.
fn substance(answer: &Answer) -> (u16, Vec<(String, String)>, String) {
    let id = answer.header("x-request-id");
    let mut headers = answer.headers.clone();
    headers.retain(|(name, _)| !["x-request-id", "date"].contains(&name.as_str()));
    headers.sort();
    (answer.status, headers, answer.text.replace(id, "…"))
}

/// What of a tenant stands in an answer.
fn reveals(answer: &Answer, tenant: &Tenant) -> bool {
    let marks = [tenant.slug, &tenant.organization, &tenant.repository, &tenant.job];
    let text = format!("{}{:?}", answer.text, answer.headers);
    marks.iter().any(|mark| text.contains(mark))
}

/// Asks everything, and returns what must not be; how many requests it took.
async fn check(stage: &Stage, port: u16) -> (usize, Vec<String>) {
    let (mut asked, mut findings) = (0, Vec::new());
    for operation in operations(stage) {
        let own_organization = operation.1.ends_with("{organization_id}") || {
            // The list of the own organization is no foreign record.
            !operation.1.contains("{repository_id}") && !operation.1.contains("{job_id}")
        };
        for credential in CREDENTIALS {
            for host in HOSTS {
                let mut answers = Vec::new();
                for target in TARGETS {
                    let is_own =
                        [Target::OwnAndOther, Target::OwnAndSuspended, Target::OwnAndUnknown].contains(&target);
                    if is_own && own_organization {
                        continue;
                    }
                    let ask =
                        with_credential(request(stage, &operation, target).header("host", host), stage, credential);
                    let answer = stage.send_to(port, &ask).await;
                    asked += 1;
                    let mut finding =
                        |what: &str| findings.push(format!("{what}: {target:?} {credential:?} {ask:?} {answer:?}"));
                    for slug in ["globex", "dormant"] {
                        if reveals(&answer, stage.of(slug)) {
                            finding("it tells of another tenant");
                        }
                    }
                    // A member may not change the organization, a program neither: that is told before the record is looked for.
                    let expected = refusal(credential, host).unwrap_or(404);
                    if answer.status != expected {
                        finding(&format!("it is not {expected}"));
                    }
                    answers.push((is_own, substance(&answer)));
                }
                // One that is there is answered as one that is not.
                for own in [true, false] {
                    let mut alike = answers.iter().filter(|(is_own, _)| *is_own == own).map(|(_, answer)| answer);
                    let first = alike.next();
                    if alike.any(|answer| Some(answer) != first) {
                        findings.push(format!("answers differ: {operation:?} {credential:?} {host} {answers:?}"));
                    }
                }
            }
        }
    }
    (asked, findings)
}

/// All that the other tenants have.
async fn state(stage: &Stage) -> Vec<String> {
    let mut state = Vec::new();
    for slug in ["globex", "dormant"] {
        for table in ["repositories", "jobs", "idempotency_keys"] {
            let sql = format!(
                "select coalesce(string_agg(t::text, e'\\n' order by t::text), '') from tenant_{slug}.{table} t"
            );
            state.push(stage.watch.query_one(&sql, &[]).await.unwrap().get(0));
        }
        let sql = format!("select o::text from public.organizations o where slug = '{slug}'");
        state.push(stage.watch.query_one(&sql, &[]).await.unwrap().get(0));
    }
    state
}

#[tokio::test]
async fn nothing_of_another_tenant_is_answered_or_changed() {
    let stage = Stage::set().await;
    let before = state(&stage).await;
    assert!(
        before.iter().any(|text| text.contains("globex-vault")) && before.iter().any(|text| text.contains("dormant"))
    );
    let (asked, findings) = check(&stage, stage.port).await;
    assert!(findings.is_empty(), "{} of {asked}: {:#?}", findings.len(), &findings[..findings.len().min(5)]);
    assert_eq!(asked, 3780, "the README says how many");
    assert_eq!(state(&stage).await, before);
    println!("{asked} requests, 0 findings");
}

#[tokio::test]
async fn the_check_sees_a_handler_that_forgets_whose_it_is() {
    let stage = Arc::new(Stage::set().await);
    // Whoever asks is shown what the path names: the records of any organization.
    let forgetful = {
        let stage = Arc::clone(&stage);
        async move |Path(organization): Path<String>| {
            let slug =
                ["acme", "globex", "dormant"].into_iter().find(|slug| stage.of(slug).organization == organization);
            let Some(slug) = slug else { return "[]".to_owned() };
            let sql = format!("select json_agg(r)::text from tenant_{slug}.repositories r");
            stage.watch.query_one(&sql, &[]).await.unwrap().get(0)
        }
    };
    let real = repositories_api::routes::router(&stage.app, &stage.settings).unwrap();
    let broken =
        Router::new().route("/organizations/{organization_id}/repositories", get(forgetful)).fallback_service(real);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move { axum::serve(listener, broken).await });
    let (_, findings) = check(&stage, port).await;
    for what in ["it tells of another tenant", "it is not 404", "answers differ"] {
        assert!(findings.iter().any(|finding| finding.starts_with(what)), "{what}: {findings:#?}");
    }
}

/// Routes without an organization in their path.
#[tokio::test]
async fn a_credential_is_of_one_tenant_on_every_host() {
    let stage = Stage::set().await;
    for credential in CREDENTIALS {
        for host in HOSTS {
            for (method, path) in
                [("GET", "/organizations"), ("GET", "/me"), ("POST", "/sign-out"), ("POST", "/organizations")]
            {
                let refused = refusal(credential, host);
                if method == "POST" && refused.is_none() {
                    continue;
                }
                let mut ask = Ask::new(method, path).header("host", host);
                if (method, path) == ("POST", "/organizations") {
                    ask = ask.json(&json!({ "slug": "planted", "name": "planted" }));
                }
                let answer = stage.send(&with_credential(ask, &stage, credential)).await;
                assert_eq!(answer.status, refused.unwrap_or(200), "{method} {path} {credential:?} {host} {answer:?}");
                assert!(!reveals(&answer, stage.of("globex")) && !reveals(&answer, stage.of("dormant")), "{answer:?}");
                if refused.is_none() {
                    assert!(answer.text.contains(&stage.of("acme").organization), "{answer:?}");
                }
            }
        }
    }
    assert_eq!(stage.number("select count(*) from public.organizations").await, 3);
    // All sessions are still there.
    let (port, _) = serve(&stage.app, &stage.settings).await;
    assert_eq!(stage.send_to(port, &Ask::new("GET", "/me").bearer(&stage.of("globex").owner)).await.status, 200);
}
