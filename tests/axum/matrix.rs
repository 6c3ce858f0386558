//! Two tenants; every credential, every way to name a tenant, every method: what is answered, and that it is never
//! of the other tenant.

use crate::{
    service::service,
    stage::{Answer, Stage, TENANTS, ask, problem},
};
use axum::Router;
use http::{Method, Request};

#[derive(Clone, Copy, Debug, PartialEq)]
enum Credential {
    Session,
    Key,
    BearerKey,
    /// Of the suspended tenant.
    Suspended,
    /// A session's token with one letter changed.
    Altered,
    /// A session, and the key of the other tenant.
    TwoTenants,
    Absent,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Name {
    Unnamed,
    Own,
    OthersHost,
    OthersHeader,
    SuspendedHost,
    UnknownHost,
    /// A host that belongs to no rule.
    WrongHost,
    MalformedHost,
    /// The host names the one and the header the other.
    Disagreeing,
}

use Credential::*;
use Name::*;

const CREDENTIALS: [Credential; 7] = [Session, Key, BearerKey, Suspended, Altered, TwoTenants, Absent];
const NAMES: [Name; 9] =
    [Unnamed, Own, OthersHost, OthersHeader, SuspendedHost, UnknownHost, WrongHost, MalformedHost, Disagreeing];

/// The status and the text of a refusal; `None`: the request is let in.
fn refusal(credential: Credential, name: Name) -> Option<(u16, &'static str)> {
    const NOT_ACCEPTED: &str = "the credential is not accepted";
    const DENIED: &str = "access is denied";
    match (credential, name) {
        (_, MalformedHost) => Some((400, "host cannot be used: it is no host name of letters, digits and hyphens")),
        (Altered, _) => Some((401, NOT_ACCEPTED)),
        (Suspended, _) => Some((403, NOT_ACCEPTED)),
        (TwoTenants, _) => Some((403, DENIED)),
        (Absent, Own | OthersHost | OthersHeader) => Some((401, "a credential is needed")),
        (Absent, SuspendedHost | Disagreeing) => Some((403, DENIED)),
        (Absent, Unnamed | UnknownHost | WrongHost) => Some((404, "there is no such tenant")),
        (Session | Key | BearerKey, Unnamed | Own) => None,
        (Session | Key | BearerKey, _) => Some((403, DENIED)),
    }
}

fn request(stage: &Stage, own: &str, other: &str, credential: Credential, name: Name) -> http::request::Builder {
    let mut request = Request::builder();
    let (mine, theirs) = (&stage.of[own], &stage.of[other]);
    let mut altered = mine.session.clone();
    let changed = if altered.as_bytes()[20] == b'a' { "b" } else { "a" };
    altered.replace_range(20..21, changed);
    let bearer = match credential {
        Session | TwoTenants => Some(&mine.session),
        BearerKey => Some(&mine.key),
        Suspended => Some(&stage.of["dormant"].session),
        Altered => Some(&altered),
        Key | Absent => None,
    };
    let key = match credential {
        Key => Some(&mine.key),
        TwoTenants => Some(&theirs.key),
        _ => None,
    };
    if let Some(token) = bearer {
        request = request.header("authorization", format!("Bearer {token}"));
    }
    if let Some(key) = key {
        request = request.header("x-api-key", key);
    }
    let host = match name {
        Unnamed | OthersHeader => "api.example.com".to_owned(),
        Own | Disagreeing => format!("{own}.example.com"),
        OthersHost => format!("{other}.example.com"),
        SuspendedHost => "dormant.example.com".to_owned(),
        UnknownHost => "nobody.example.com".to_owned(),
        WrongHost => format!("{other}.example.org"),
        MalformedHost => format!("{other}@example.com"),
    };
    request = request.header("host", host);
    match name {
        OthersHeader | Disagreeing => request.header("x-tenant", other),
        _ => request,
    }
}

/// Whether an answer holds anything by which a tenant is known.
fn tells_of(answer: &Answer, stage: &Stage, slug: &str) -> bool {
    let (_, id, text) = TENANTS.into_iter().find(|(known, ..)| *known == slug).unwrap();
    let headers = format!("{:?}", answer.headers);
    // The id of the request is random digits.
    let body = answer.text.replace(answer.header("x-request-id"), "");
    let organization = stage.of[slug].organization.to_string();
    [slug, &id.to_string(), text, &organization].iter().any(|known| body.contains(known))
        || [slug, &organization].iter().any(|known| headers.contains(known))
}

/// Every route that gets at notes: what it answers to who is let in.
fn routes(own: i64, other: i64) -> Vec<(Method, String, u16)> {
    let (own, other) = (format!("/notes/{own}"), format!("/notes/{other}"));
    vec![
        (Method::GET, "/notes".into(), 200),
        (Method::HEAD, "/notes".into(), 200),
        (Method::POST, "/notes".into(), 201),
        (Method::GET, own.clone(), 200),
        (Method::GET, other.clone(), 404),
        (Method::PUT, own, 204),
        (Method::PUT, other.clone(), 404),
        (Method::DELETE, other, 404),
    ]
}

#[tokio::test]
async fn nothing_of_another_tenant_is_answered() {
    let stage = Stage::set().await;
    let app = service(&stage);
    let (mut let_in, mut refused) = (0, 0);
    for (own, other) in [(TENANTS[0], TENANTS[1]), (TENANTS[1], TENANTS[0])] {
        for credential in CREDENTIALS {
            for name in NAMES {
                for (method, path, status) in routes(own.1, other.1) {
                    let what = format!("{} {credential:?} {name:?} {method} {path}", own.0);
                    let request = request(&stage, own.0, other.0, credential, name).method(&method).uri(&path);
                    let answer = ask(&app, request, own.2).await;
                    assert!(!tells_of(&answer, &stage, other.0), "{what}: {answer:?}");
                    assert!(!tells_of(&answer, &stage, "dormant"), "{what}: {answer:?}");
                    match refusal(credential, name) {
                        None => {
                            assert_eq!(answer.status, status, "{what}: {answer:?}");
                            assert!(
                                method != Method::GET || status != 200 || tells_of(&answer, &stage, own.0),
                                "{what}"
                            );
                            let_in += 1;
                        }
                        Some((status, detail)) => {
                            assert!(!tells_of(&answer, &stage, own.0), "{what}: {answer:?}");
                            if method == Method::HEAD {
                                assert_eq!(answer.status, status, "{what}");
                            } else {
                                assert_eq!(problem(&answer, status), detail, "{what}");
                            }
                            refused += 1;
                        }
                    }
                }
            }
        }
    }
    assert_eq!((let_in, refused), (2 * 6 * 8, 2 * 57 * 8));
    // What the refused requests were to change is as it was; the others have written six notes a tenant.
    for (slug, id, text) in TENANTS {
        let own = stage.number(&format!("select count(*) from tenant_{slug}.notes where body = '{text}'")).await;
        let all = stage.number(&format!("select count(*) from tenant_{slug}.notes")).await;
        let written = if slug == "dormant" { 0 } else { 6 };
        assert_eq!((own, all), (written + 1, written + 1), "{slug} {id}");
    }
}

/// The matrix would see what it looks for: the same answers are of the other tenant for whoever looks from there.
#[tokio::test]
async fn the_matrix_sees_what_it_looks_for() {
    let stage = Stage::set().await;
    let app = service(&stage);
    let own = ask(&app, request(&stage, "acme", "globex", Session, Own).uri("/notes"), "").await;
    assert!(tells_of(&own, &stage, "acme") && !tells_of(&own, &stage, "globex"));
    let created = ask(&app, request(&stage, "globex", "acme", Key, Own).uri("/notes/2002"), "").await;
    assert!(tells_of(&created, &stage, "globex") && !tells_of(&created, &stage, "acme"));
    // And a handler that runs as the wrong tenant is noticed.
    let db = stage.db.clone();
    let wrong: Router = Router::new().route(
        "/notes",
        axum::routing::get(async move || {
            let row = db.tenant(&"globex".parse().unwrap()).query_one("select body from notes", &[]).await.unwrap();
            row.get::<_, String>(0)
        }),
    );
    let answer = ask(&wrong, request(&stage, "acme", "globex", Session, Own).uri("/notes"), "").await;
    assert!(tells_of(&answer, &stage, "globex"));
    // A delete does what it says where it may.
    let deleted =
        ask(&app, request(&stage, "acme", "globex", Session, Own).method("DELETE").uri("/notes/1001"), "").await;
    assert_eq!((deleted.status, stage.number("select count(*) from tenant_acme.notes").await), (204, 0));
}

/// Without a credential a tenant is named and nothing more: the extractors that need a caller refuse.
#[tokio::test]
async fn a_host_alone_names_a_tenant_and_lets_nobody_in() {
    let stage = Stage::set().await;
    let app = service(&stage);
    let get = async |path: &str| ask(&app, request(&stage, "acme", "globex", Absent, Own).uri(path), "").await;
    let tenant = get("/tenant").await;
    assert_eq!((tenant.status, tenant.text.as_str()), (200, "acme"));
    for path in ["/caller", "/context", "/spawned", "/notes", "/owner", "/admin", "/program", "/invoice"] {
        assert_eq!(problem(&get(path).await, 401), "a credential is needed", "{path}");
    }
    // No tenant is asked for where the layer is not.
    assert_eq!(ask(&app, Request::get("/health"), "").await.text, "well");
}

/// A tenant that is suspended is refused as soon as the resolver has been told, and by the database in any case.
#[tokio::test]
async fn a_tenant_that_is_suspended_while_it_is_remembered() {
    let stage = Stage::set().await;
    let app = service(&stage);
    let list = async || ask(&app, request(&stage, "acme", "globex", Session, Own).uri("/notes"), "").await;
    assert_eq!(list().await.status, 200);
    stage.run("update public.organizations set status = 'suspended' where slug = 'acme'").await;
    // Whichever of the two knows it first.
    let refused = list().await;
    let detail = problem(&refused, 403);
    assert!(["access is denied", "the credential is not accepted"].contains(&detail.as_str()), "{detail}");
    assert!(!tells_of(&refused, &stage, "acme"));
}
