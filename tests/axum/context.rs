//! The context of a request in handlers, in tasks of their own and in the log; who is let in; whose a record is.

use crate::{
    log::Log,
    service::{layer, routes, service},
    stage::{Answer, Stage, ask, bearer, get, must_end, problem},
};
use axum::{Router, middleware::from_extractor};
use cgk::axum::{Owner, Require};

#[tokio::test]
async fn handlers_and_tasks_are_in_the_context_of_their_request() {
    let stage = Stage::set().await;
    let app = service(&stage);
    let mut users = Vec::new();
    for (slug, note) in [("acme", "note of acme"), ("globex", "note of globex")] {
        for path in ["/context", "/spawned"] {
            let answer = get(&app, path, &stage.of[slug].session).await;
            assert_eq!(answer.status, 200, "{answer:?}");
            let told = answer.json();
            assert_eq!((&told["slug"], &told["note"]), (&slug.into(), &note.into()));
            assert_eq!(told["email"], format!("owner@{slug}.example"));
            assert_eq!(told["roles"], serde_json::json!(["owner"]));
            assert_eq!(told["request"], answer.header("x-request-id"));
            assert!(told["user"].is_string() && told["user"] == told["database_user"], "{told}");
            if path == "/spawned" {
                assert_eq!(told["schema"], format!("tenant_{slug}"));
            }
            users.push(told["user"].clone());
        }
        // A program has no user.
        let program = get(&app, "/context", &stage.of[slug].key).await.json();
        assert_eq!((&program["slug"], &program["user"]), (&slug.into(), &serde_json::Value::Null));
        assert!(program["database_user"].is_null() && program["roles"] == serde_json::json!([]));
    }
    assert!(users[0] == users[1] && users[2] == users[3] && users[0] != users[2]);
}

/// Requests of two tenants that are answered at the same time on one thread keep to their own.
#[tokio::test]
async fn requests_at_the_same_time_keep_to_their_own_context() {
    let stage = Stage::set().await;
    let app = service(&stage);
    let asked = (0..40).map(|n| {
        let (app, slug) = (app.clone(), ["acme", "globex"][n % 2]);
        let token = stage.of[slug].session.clone();
        tokio::spawn(async move {
            let told = get(&app, if n % 3 == 0 { "/spawned" } else { "/context" }, &token).await.json();
            assert_eq!((&told["slug"], &told["note"]), (&slug.into(), &format!("note of {slug}").into()));
        })
    });
    for task in asked.collect::<Vec<_>>() {
        must_end(task).await.unwrap();
    }
}

#[tokio::test]
async fn a_requirement_lets_in_who_meets_it() {
    let stage = Stage::set().await;
    let app = service(&stage);
    let acme = &stage.of["acme"];
    let callers = [(&acme.session, "session"), (&acme.member, "session"), (&acme.key, "key")];
    for (path, let_in) in
        [("/owner", [true, false, false]), ("/admin", [true, false, false]), ("/program", [false, false, true])]
    {
        for ((token, kind), let_in) in callers.into_iter().zip(let_in) {
            assert_eq!(get(&app, "/caller", token).await.text, kind);
            let answer = get(&app, path, token).await;
            match let_in {
                true => assert_eq!(answer.status, 200, "{path} {kind}"),
                false => assert_eq!(problem(&answer, 403), "access is denied", "{path} {kind}"),
            }
        }
    }
    // The same for a whole router.
    let guarded = routes(&stage).route_layer(from_extractor::<Require<Owner>>()).layer(layer(&stage));
    assert_eq!(get(&guarded, "/notes", &acme.session).await.status, 200);
    for token in [&acme.member, &acme.key] {
        assert_eq!(problem(&get(&guarded, "/notes", token).await, 403), "access is denied");
    }
}

#[tokio::test]
async fn a_record_of_another_organization_is_404_or_403() {
    let stage = Stage::set().await;
    let app = service(&stage);
    let (acme, globex) = (&stage.of["acme"].session, &stage.of["globex"].session);
    assert_eq!(get(&app, "/invoice", globex).await.text, "an invoice");
    assert_eq!(ask(&app, bearer("/invoice", globex).method("DELETE"), "").await.text, "cancelled");
    assert_eq!(problem(&get(&app, "/invoice", acme).await, 404), "there is no such invoice");
    let denied = ask(&app, bearer("/invoice", acme).method("DELETE"), "").await;
    assert_eq!(problem(&denied, 403), "access to this invoice is denied");
}

#[tokio::test]
async fn a_request_id_is_taken_where_it_is_trusted() {
    let stage = Stage::set().await;
    let acme = &stage.of["acme"].session;
    let trusting = routes(&stage).layer(layer(&stage).trust_request_id());
    let ask_with = async |app: &Router, ids: &[&str]| {
        let request = ids.iter().fold(bearer("/context", acme), |request, id| request.header("x-request-id", *id));
        ask(app, request, "").await
    };
    let longest = "a".repeat(128);
    let too_long = "a".repeat(129);
    let id = "4bf92f3577b34da6";
    for id in [id, "A-b_c.9", &longest] {
        let trusted = ask_with(&trusting, &[id]).await;
        assert_eq!((trusted.header("x-request-id"), &trusted.json()["request"]), (id, &id.into()));
        is_new(&ask_with(&service(&stage), &[id]).await);
    }
    for ids in [&["a b"][..], &["a\tb"], &[""], &["a\"b"], &[&too_long], &["a", "a"], &[]] {
        is_new(&ask_with(&trusting, ids).await);
    }
    // A refusal has it too.
    let refused = ask(&trusting, bearer("/context", "x").header("x-request-id", id), "").await;
    problem(&refused, 401);
    assert_eq!(refused.header("x-request-id"), id);
}

/// The id of a request is one that the layer has made.
fn is_new(answer: &Answer) {
    let id = answer.header("x-request-id");
    assert_eq!(answer.json()["request"], id);
    assert_eq!(id.parse::<uuid::Uuid>().unwrap().get_version_num(), 7);
}

/// A body that is streamed is made outside of the context, by a handle that keeps its tenant.
#[tokio::test]
async fn a_streamed_body_keeps_its_tenant() {
    let stage = Stage::set().await;
    let app = service(&stage);
    for slug in ["acme", "globex"] {
        let answer = get(&app, "/streamed", &stage.of[slug].session).await;
        assert_eq!((answer.status, answer.text), (200, format!("false {slug}: note of {slug}")));
    }
}

#[tokio::test]
async fn every_call_of_the_handle_is_in_its_tenant() {
    let stage = Stage::set().await;
    let app = service(&stage);
    for slug in ["acme", "globex"] {
        let answer = get(&app, "/calls", &stage.of[slug].session).await;
        assert_eq!((answer.status, answer.text), (200, vec![format!("tenant_{slug}"); 3].join(" ")));
    }
}

#[tokio::test]
async fn the_span_of_a_request_says_what_it_was() {
    let stage = Stage::set().await;
    let app = service(&stage);
    let log = Log::default();
    let guard = log.listen("info");
    let answer = get(&app, "/notes/7", &stage.of["acme"].session).await;
    let refused = get(&app, "/notes/7?token=x", "cgk_ses_x").await;
    drop(guard);
    let text = log.text();
    let line = |id: &str| text.lines().find(|line| line.contains(id) && line.contains("close")).unwrap().to_owned();
    let closed = line(answer.header("x-request-id"));
    let organization = stage.of["acme"].organization.to_string();
    for part in [
        "method=GET",
        "path=\"/notes/{id}\"",
        "tenant=acme",
        &format!("organization_id={organization}"),
        "user_id=",
        "status=404",
    ] {
        assert!(closed.contains(part), "{part}: {closed}");
    }
    let refused = line(refused.header("x-request-id"));
    assert!(refused.contains("status=401") && !refused.contains("tenant="), "{refused}");
    // Neither tokens nor addresses nor paths with values.
    for secret in [&*stage.of["acme"].session, "cgk_ses_x", "owner@acme", "/notes/7"] {
        assert!(!text.contains(secret), "{secret}: {text}");
    }
    // Why it was refused is in the log, and in no answer.
    assert!(text.contains("a request was refused") && text.contains("Malformed"), "{text}");
}
