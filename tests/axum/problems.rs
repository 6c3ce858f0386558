//! Errors as answers: their status, their members, and what they never say.

use crate::{
    log::Log,
    service::{layer, routes},
    stage::{Stage, ask, bearer, get, problem},
};
use axum::{Router, extract::Path, routing};
use cgk::{
    Error,
    auth::AuthError,
    axum::{Problem, TenantDb},
    domains::{DomainName, Domains},
    platform::PlatformError,
    provisioning::{self, NewOrganization, ProvisioningError},
};
use http::{Request, StatusCode};
use std::time::{Duration, SystemTime};

/// What a handler does wrong, by name.
async fn failing(db: TenantDb, Path(what): Path<String>) -> Result<String, Problem> {
    let sql = match what.as_str() {
        "unique" => "insert into notes values (1001, 'secret value')",
        "check" => "insert into notes values (5, 'forbidden')",
        "null" => "insert into notes (id) values (5)",
        "syntax" => "select secret_value frm notes",
        "table" => "select * from secret_table",
        "function" => "select 1 / (id - 1001) from notes",
        "lock" => "do $$ begin raise exception 'secret value' using errcode = 'lock_not_available'; end $$",
        "serialization" => "do $$ begin raise exception 'secret value' using errcode = 'serialization_failure'; end $$",
        "full" => "do $$ begin raise exception 'secret value' using errcode = 'disk_full'; end $$",
        "raised" => "do $$ begin raise exception 'secret value' using detail = 'secret detail'; end $$",
        "row" => {
            let row = db.query_one("select body from notes", &[]).await?;
            return Ok(row.try_get::<_, i64>(0)?.to_string());
        }
        "own" => {
            return db
                .transaction(async |_| {
                    let own = Problem::new(StatusCode::IM_A_TEAPOT).detail("out of coffee").code("OWN7");
                    Err(Error::Application(own.into()))
                })
                .await
                .map_err(Problem::from);
        }
        "application" => return Err(Error::Application("secret value".into()).into()),
        "auth" => return Err(AuthError::EmailTaken.into()),
        "auth-database" => return Err(AuthError::from(Error::Application("secret value".into())).into()),
        other => panic!("{other}"),
    };
    db.execute(sql, &[]).await?;
    Ok("done".into())
}

#[tokio::test]
async fn an_error_says_its_kind_and_nothing_of_the_database() {
    let stage = Stage::set().await;
    let app = routes(&stage).route("/failing/{what}", routing::post(failing)).layer(layer(&stage));
    let log = Log::default();
    let guard = log.listen("info");
    for (what, status, code, detail) in [
        ("unique", 409, Some("CGK"), "it conflicts with what is stored"),
        ("check", 422, Some("CGK"), "a value is not allowed"),
        ("null", 422, Some("CGK"), "a value is not allowed"),
        ("syntax", 500, Some("CGK"), ""),
        ("table", 500, Some("CGK"), ""),
        ("function", 500, Some("CGK"), ""),
        ("lock", 503, Some("CGK"), "it cannot be answered just now"),
        ("serialization", 503, Some("CGK"), "it cannot be answered just now"),
        ("full", 503, Some("CGK"), "it cannot be answered just now"),
        ("raised", 500, Some("CGK"), ""),
        ("row", 500, Some("CGK0903"), ""),
        ("own", 418, Some("OWN7"), "out of coffee"),
        ("application", 500, Some("CGK0904"), ""),
        ("auth", 409, None, "the organization has a user of this e-mail address"),
        ("auth-database", 500, Some("CGK0904"), ""),
    ] {
        let request = bearer(&format!("/failing/{what}"), &stage.of["acme"].session).method("POST");
        let answer = ask(&app, request, "").await;
        assert_eq!(problem(&answer, status), detail, "{what}");
        assert_eq!(answer.header("cache-control"), "no-store");
        let found = answer.json()["code"].as_str().map(ToOwned::to_owned);
        assert!(
            code.map_or(found.is_none(), |code| found.as_deref().is_some_and(|found| found.starts_with(code))),
            "{what}: {found:?}"
        );
        let text = answer.text.to_lowercase();
        for word in ["secret", "notes", "tenant_", "acme", "1001", "syntax", "relation", "select", "sqlstate"] {
            assert!(!text.contains(word), "{what}: {word} in {text}");
        }
    }
    drop(guard);
    // What the answers do not say is in the log: the control of the words above.
    let log = log.text();
    for word in ["secret_table", "notes_pkey", "syntax error", "secret value"] {
        assert!(log.contains(word), "{word} is not in the log: {log}");
    }
    assert!(!log.contains("secret detail"), "DETAIL quotes rows, and is not for the log");
}

#[tokio::test]
async fn a_database_that_cannot_be_asked_is_503() {
    let stage = Stage::set().await;
    let app = routes(&stage).layer(layer(&stage));
    let acme = &stage.of["acme"].session;
    assert_eq!(get(&app, "/notes", acme).await.status, 200);
    stage.db.close(Duration::from_secs(600)).await;
    // The one that is remembered and fails in the handler, and the one that has to be looked up.
    for token in [acme, &stage.of["globex"].key] {
        let answer = get(&app, "/notes", token).await;
        problem(&answer, 503);
        assert!(answer.json()["code"].as_str().unwrap().starts_with("CGK"));
    }
}

#[tokio::test]
async fn a_missing_layer_is_named_in_the_log() {
    let stage = Stage::set().await;
    // Added behind `layer`, as by mistake.
    let app = Router::new().layer(layer(&stage)).merge(routes(&stage));
    for path in ["/tenant", "/caller", "/context", "/notes", "/owner"] {
        let log = Log::default();
        let guard = log.listen("info");
        let answer = ask(&app, Request::get(path).header("host", "acme.example.com"), "").await;
        drop(guard);
        let json = answer.json();
        assert_eq!((answer.status, answer.header("content-type")), (500, "application/problem+json"), "{path}");
        let told = answer.text.contains("TenantLayer is missing");
        assert_eq!(told, cfg!(debug_assertions), "{json}");
        assert!(json.get("request_id").is_none() && !answer.text.contains(".layer("), "{json}");
        let text = log.text();
        assert!(text.contains("ERROR") && text.contains(".layer(TenantLayer::new(rules, &resolver, &db))"), "{text}");
    }
    // The control: the same routes behind it.
    let app = routes(&stage).layer(layer(&stage));
    assert_eq!(get(&app, "/tenant", &stage.of["acme"].session).await.text, "acme");
}

#[test]
fn a_cause_is_for_the_log_alone() {
    use axum::response::IntoResponse as _;
    let log = Log::default();
    let guard = log.listen("info");
    let problem =
        Problem::new(StatusCode::BAD_GATEWAY).detail("the shop does not answer").caused_by("shop at 10.0.0.7");
    assert_eq!((problem.status(), problem.to_string().as_str()), (StatusCode::BAD_GATEWAY, "the shop does not answer"));
    let response = problem.into_response();
    let body = axum::body::to_bytes(response.into_body(), 1000);
    let body = tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(body).unwrap();
    drop(guard);
    let body = String::from_utf8(body.to_vec()).unwrap();
    assert!(body.contains("the shop does not answer") && !body.contains("10.0.0.7"), "{body}");
    assert!(log.text().contains("10.0.0.7"), "{}", log.text());
}

#[test]
fn retry_after_is_whole_seconds() {
    use axum::response::IntoResponse as _;
    let header = |wait| {
        let response = Problem::new(StatusCode::TOO_MANY_REQUESTS).retry_after(wait).into_response();
        response.headers()["retry-after"].to_str().unwrap().to_owned()
    };
    assert_eq!(header(Duration::from_secs(7)), "7");
    assert_eq!(header(Duration::from_millis(1)), "1");
    assert_eq!(header(Duration::from_millis(1001)), "2");
}

#[tokio::test]
async fn a_member_of_an_application_stands_beside_the_others() {
    let app = Router::new().fallback(async || {
        Problem::new(StatusCode::UNPROCESSABLE_ENTITY).detail("look at errors").member("errors", vec!["name: is empty"])
    });
    let answer = ask(&app, http::Request::get("/"), "").await;
    let json = serde_json::json!({ "type": "about:blank", "title": "Unprocessable Entity", "status": 422,
        "detail": "look at errors", "errors": ["name: is empty"] });
    assert_eq!(answer.json(), json);
}

#[test]
#[should_panic(expected = "status is a member that every problem has")]
fn a_member_of_every_problem_is_not_replaced() {
    drop(Problem::new(StatusCode::OK).member("status", 200));
}

#[tokio::test]
async fn what_was_asked_of_queue_and_domains_is_told_and_the_database_is_not() {
    let stage = Stage::set().await;
    let acme = stage.of["acme"].organization;
    let domains = Domains::new(&stage.db);
    let name: DomainName = "shop.example.org".parse().unwrap();
    let seen = |problem: Problem| (problem.status().as_u16(), problem.to_string());

    let none = Problem::from(domains.remove(acme, &name).await.unwrap_err());
    assert_eq!(seen(none), (404, "there is no such domain".into()));
    let queue: cgk::Db<ProvisioningError> = stage.db.errors();
    let request = async |slug: &str| {
        let wanted = NewOrganization::new(slug.parse().unwrap());
        queue.platform().transaction(async |tx| provisioning::request(tx, &wanted).await).await.unwrap_err()
    };
    assert_eq!(seen(request("acme").await.into()), (409, "the name acme is taken".into()));

    stage.run("drop table organization_domains, provisioning_requests").await;
    let missing = [Problem::from(domains.list(acme).await.unwrap_err()), request("initech").await.into()];
    for problem in missing {
        let (status, detail) = seen(problem);
        assert!(status == 500 && !detail.contains("organization_domains"), "{status} {detail}");
    }
    stage.db.close(Duration::from_secs(600)).await;
    for problem in [Problem::from(domains.list(acme).await.unwrap_err()), request("initech").await.into()] {
        assert_eq!(seen(problem), (503, "it cannot be answered just now".into()));
    }
}

#[tokio::test]
async fn a_quota_that_is_exceeded_says_when_to_ask_again() {
    use axum::response::IntoResponse as _;
    let exceeded = |resets_at| PlatformError::QuotaExceeded { left: 2, asked: 5, resets_at };
    let known = Problem::from(exceeded(Some(SystemTime::now() + Duration::from_secs(7200)))).into_response();
    assert_eq!(known.status(), StatusCode::TOO_MANY_REQUESTS);
    let seconds: u64 = known.headers()["retry-after"].to_str().unwrap().parse().unwrap();
    assert!((7000..=7200).contains(&seconds), "{seconds}");
    let body = axum::body::to_bytes(known.into_body(), usize::MAX).await.unwrap();
    let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
    assert_eq!((body["left"].as_u64(), body["asked"].as_u64(), body["status"].as_u64()), (Some(2), Some(5), Some(429)));
    // A moment that has passed meanwhile is one to ask again at; one that is not known is not made up.
    let passed = Problem::from(exceeded(Some(SystemTime::UNIX_EPOCH))).into_response();
    assert_eq!(passed.headers()["retry-after"], "1");
    let unknown = Problem::from(exceeded(None)).into_response();
    assert!(unknown.status() == StatusCode::TOO_MANY_REQUESTS && !unknown.headers().contains_key("retry-after"));
    for (error, status) in [
        (PlatformError::AlreadySubscribed, 409),
        (PlatformError::NotFound { what: "plan" }, 404),
        (PlatformError::Database(Error::Application("secret value".into())), 500),
    ] {
        let problem = Problem::from(error);
        assert!(problem.status().as_u16() == status && !problem.to_string().contains("secret"), "{problem}");
    }
}

#[tokio::test]
async fn a_limit_of_usage_says_when_its_counter_starts_again() {
    use axum::response::IntoResponse as _;
    use cgk::flags::FlagsError;
    let reached =
        |resets_at| FlagsError::LimitReached { metric: "api_calls".into(), limit: 100, used: 99, asked: 2, resets_at };
    let known = Problem::from(reached(Some(SystemTime::now() + Duration::from_secs(7200)))).into_response();
    let seconds: u64 = known.headers()["retry-after"].to_str().unwrap().parse().unwrap();
    assert!(known.status() == StatusCode::TOO_MANY_REQUESTS && (7000..=7200).contains(&seconds), "{seconds}");
    let body = axum::body::to_bytes(known.into_body(), usize::MAX).await.unwrap();
    let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
    assert_eq!([&body["limit"], &body["used"], &body["asked"]], [100, 99, 2]);
    let unknown = Problem::from(reached(None)).into_response();
    assert!(unknown.status() == StatusCode::TOO_MANY_REQUESTS && !unknown.headers().contains_key("retry-after"));
    for (error, status) in [
        (FlagsError::NoSuchFeature { key: "dark".into() }, 404),
        (FlagsError::Database(Error::Application("secret value".into())), 500),
    ] {
        let problem = Problem::from(error);
        assert!(problem.status().as_u16() == status && !problem.to_string().contains("secret"), "{problem}");
    }
}

/// An error that many callers share is answered to each of them like one of its own.
#[cfg(feature = "redis")]
#[tokio::test]
async fn an_error_of_the_cache_is_a_problem() {
    use axum::response::IntoResponse as _;
    use cgk::cache::CacheError;
    use std::sync::Arc;
    for (error, status) in [
        (CacheError::TimedOut { limit: Duration::from_secs(1) }, 503),
        (CacheError::Unavailable { source: Some("redis://secret".into()) }, 503),
        (CacheError::Refused { message: "secret".into() }, 503),
        (CacheError::Recursive, 500),
    ] {
        let shared = Arc::new(Problem::from(error));
        let another = Arc::clone(&shared);
        for problem in [Problem::from(shared), Problem::from(another)] {
            assert!(problem.status().as_u16() == status && !problem.to_string().contains("secret"), "{problem}");
            let response = problem.into_response();
            assert_eq!(response.headers().contains_key("retry-after"), status == 503);
            let body = axum::body::to_bytes(response.into_body(), usize::MAX).await.unwrap();
            assert!(!String::from_utf8_lossy(&body).contains("secret"));
        }
    }
}
