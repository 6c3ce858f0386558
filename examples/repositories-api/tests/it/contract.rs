//! The description is the service: every route is described, and each status that is described is answered by it.

use crate::{
    provider::Says,
    sign_in::Browser,
    stage::{Ask, Stage, serve},
};
use repositories_api::{app::App, settings::Settings};
use serde_json::{Value, json};
use std::{collections::BTreeSet, sync::Arc, time::Duration};

/// All that is described: operation and status.
fn described(document: &Value) -> BTreeSet<(String, u16)> {
    let mut all = BTreeSet::new();
    for (template, methods) in document["paths"].as_object().unwrap() {
        for (method, operation) in methods.as_object().unwrap() {
            let statuses = operation["responses"].as_object().unwrap().keys();
            all.extend(
                statuses.map(|status| (format!("{} {template}", method.to_uppercase()), status.parse().unwrap())),
            );
        }
    }
    all
}

/// A request of an operation that succeeds, as acme's owner.
fn good(stage: &Stage, operation: &str, name: &str) -> Ask {
    let (method, template) = operation.split_once(' ').unwrap();
    let method = ["GET", "POST", "PUT", "DELETE"].into_iter().find(|known| *known == method).unwrap();
    let acme = stage.of("acme");
    let path = template
        .replace("{organization_id}", &acme.organization)
        .replace("{repository_id}", &acme.repository)
        .replace("{job_id}", &acme.job);
    let ask = Ask::new(method, path);
    match operation {
        "POST /organizations" => ask.json(&json!({ "slug": name.replace('-', "_"), "name": "x" })),
        "PUT /organizations/{organization_id}" => ask.header("if-match", "*").json(&json!({ "name": "x" })),
        _ if operation.ends_with("/jobs") && method == "POST" => ask.json(&json!({ "kind": "analyze" })),
        _ if method == "POST" && operation.ends_with("/repositories") => ask.json(&json!({ "name": name })),
        _ if method == "PUT" => ask.header("if-match", "*").json(&json!({ "name": name })),
        _ => ask,
    }
}

/// A request that is answered with a status.
fn with_status(stage: &Stage, operation: &str, status: u16) -> Ask {
    let owner = &stage.of("acme").owner;
    let ask = good(stage, operation, &format!("n{status}"));
    let without = |mut ask: Ask, name: &str| {
        ask.headers.retain(|(known, _)| *known != name);
        ask
    };
    match status {
        // Two credentials in the same place.
        400 => ask.bearer(owner).bearer(owner),
        401 => ask,
        403 => ask.bearer(owner).header("host", "globex.example.com"),
        404 => {
            let organization = &stage.of("acme").organization;
            let path = ask.path.replace(organization, &stage.of("globex").organization);
            Ask { path, ..ask }.bearer(owner)
        }
        409 if operation == "POST /organizations" => ask.json(&json!({ "slug": "globex", "name": "x" })).bearer(owner),
        409 if operation.starts_with("DELETE") => ask.bearer(owner),
        409 => Ask { body: Some(json!({ "name": "taken" }).to_string()), ..ask }.bearer(owner),
        412 => without(ask, "if-match").header("if-match", "\"99\"").bearer(owner),
        413 => Ask { body: Some(" ".repeat(100_000)), ..ask }.bearer(owner),
        415 => without(ask, "content-type").header("content-type", "text/plain").bearer(owner),
        422 => Ask { body: Some(r#"{"unknown": 1}"#.into()), ..ask }.bearer(owner),
        428 => without(ask, "if-match").bearer(owner),
        304 => ask.header("if-none-match", "*").bearer(owner),
        _ => ask.bearer(owner),
    }
}

#[tokio::test]
async fn each_status_that_is_described_is_answered_and_no_other() {
    let stage = Arc::new(Stage::set().await);
    let described = described(&stage.document);
    assert!(described.len() > 100, "{}", described.len());
    // What conflicts with 'taken', and with a job that is running.
    let acme = stage.of("acme");
    let taken = format!("/organizations/{}/repositories", acme.organization);
    stage.send(&Ask::new("POST", taken).bearer(&acme.key).json(&json!({ "name": "taken" }))).await;
    let mut wrong = Vec::new();
    let of_tenants = |operation: &str| ["healthz", "readyz", "/sign-in"].iter().all(|part| !operation.contains(part));
    // Deletions that succeed come last, that of the organization at the very end.
    let mut in_order: Vec<_> = described.iter().filter(|(operation, _)| of_tenants(operation)).collect();
    in_order.sort_by_key(|(operation, status)| {
        let ends = *status == 204 && (operation.starts_with("DELETE") || operation == "POST /sign-out");
        let close = operation == "DELETE /organizations/{organization_id}";
        (ends, close, operation == "POST /sign-out", !operation.contains("job_id"))
    });
    for (operation, status) in in_order {
        let running = *status == 409 && operation.starts_with("DELETE");
        if running {
            stage
                .run(
                    "update tenant_acme.jobs set status = 'running', lease_id = gen_random_uuid(), lease_until = now()",
                )
                .await;
        }
        let mut ask = with_status(&stage, operation, *status);
        if operation == "DELETE /organizations/{organization_id}" && *status == 204 {
            // The owner has signed out just now.
            ask = good(&stage, operation, "").bearer(&owner_again(&stage).await);
        }
        let answer = match *status {
            503 => stage.send_to(unavailable(&stage).await, &ask).await,
            504 => stage.send_to(impatient(&stage).await, &ask).await,
            _ => stage.send(&ask).await,
        };
        if running {
            stage.run("update tenant_acme.jobs set status = 'queued', lease_id = null, lease_until = null").await;
        }
        if answer.status != *status {
            wrong.push(format!("{operation} {status}: {answer:?}"));
        }
        let content = &stage.document["paths"][operation.split_once(' ').unwrap().1]
            [operation.split_once(' ').unwrap().0.to_lowercase()]["responses"][answer.status.to_string()]["content"];
        let kind = answer.header("content-type");
        if content.as_object().map_or(!kind.is_empty(), |kinds| !kinds.contains_key(kind)) {
            wrong.push(format!("{operation} {status}: {kind:?} is not described"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    without_tenant(&stage).await;
    let seen = stage.seen.lock().unwrap().clone();
    let missing: Vec<_> = described.difference(&seen).collect();
    let undescribed: Vec<_> = seen.difference(&described).collect();
    assert!(
        missing.is_empty() && undescribed.is_empty(),
        "never answered: {missing:?}; not described: {undescribed:?}"
    );
}

async fn owner_again(stage: &Stage) -> String {
    let organization = cgk::OrganizationId(stage.of("acme").organization.parse().unwrap());
    let owner = stage.app.auth.users().find_by_email(organization, "owner@acme.example").await.unwrap();
    stage.app.auth.sessions().issue(organization, owner.id, &Default::default()).await.unwrap().1.reveal().to_owned()
}

/// The routes of sign-in and health.
async fn without_tenant(stage: &Arc<Stage>) {
    for (path, status) in [
        ("/healthz", 200),
        ("/readyz", 200),
        ("/sign-in?organization=acme", 404),
        ("/sign-in", 400),
        ("/sign-in/callback?state=x", 404),
    ] {
        assert_eq!(stage.send(&Ask::new("GET", path)).await.status, status, "{path}");
    }
    let away = unavailable(stage).await;
    assert_eq!(stage.send_to(away, &Ask::new("GET", "/readyz")).await.status, 503);
    let browser = Browser::open(Arc::clone(stage)).await;
    browser.provider.says(Says::verified("s", "owner@globex.example"));
    let (path, cookie) = browser.begin("globex").await;
    assert_eq!(browser.get(&path, "").await.status, 400);
    assert_eq!(browser.get(&path, &cookie).await.status, 303);
    assert_eq!(browser.get(&path, &cookie).await.status, 502);
    let (path, cookie) = browser.begin("acme").await;
    assert_eq!(browser.get(&path, &cookie).await.status, 403);
    // A provider that is not there, and a database that is not.
    let settings = |issuer: &str| repositories_api::settings::SignInSettings {
        issuer: issuer.into(),
        client_id: crate::provider::CLIENT.into(),
        client_secret: None,
        public_url: "https://api.example.com".into(),
    };
    let gone =
        stage.app.clone().with_sign_in(repositories_api::sign_in::SignIn::new(settings("http://127.0.0.1:1")).unwrap());
    let (port, _) = serve(&gone, &stage.settings).await;
    assert_eq!(stage.send_to(port, &Ask::new("GET", "/sign-in?organization=acme")).await.status, 502);
    let lost = unavailable_app(stage)
        .await
        .with_sign_in(repositories_api::sign_in::SignIn::new(settings(&browser.provider.issuer)).unwrap());
    let (port, _) = serve(&lost, &stage.settings).await;
    let (path, cookie) = browser.begin("globex").await;
    assert_eq!(stage.send_to(port, &Ask::new("GET", path).header("cookie", cookie)).await.status, 503);
}

/// A service whose one connection somebody else has.
async fn unavailable_app(stage: &Stage) -> App {
    let config = stage.service.clone().with_pool_size_max(1).with_pool_wait(Duration::from_millis(1));
    let app = App::new(cgk::Db::connect(&config).await.unwrap());
    let (taken, is_taken) = tokio::sync::oneshot::channel();
    let db = app.db.clone();
    tokio::spawn(async move {
        let platform = db.platform();
        let forever = platform.transaction(async |tx| -> cgk::Result<()> {
            tx.query_one("select 1", &[]).await?;
            taken.send(()).unwrap();
            std::future::pending().await
        });
        forever.await
    });
    is_taken.await.unwrap();
    app
}

async fn unavailable(stage: &Stage) -> u16 {
    serve(&unavailable_app(stage).await, &stage.settings).await.0
}

/// A service that waits for nothing.
async fn impatient(stage: &Stage) -> u16 {
    let app = App::new(cgk::Db::connect(&stage.service).await.unwrap());
    let settings = Settings { request_time_max: Duration::ZERO, ..stage.settings.clone() };
    serve(&app, &settings).await.0
}
