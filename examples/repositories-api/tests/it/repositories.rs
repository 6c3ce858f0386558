//! Pages, conditions and keys.

use crate::stage::{Ask, Stage};
use serde_json::{Value, json};
use std::collections::BTreeSet;

fn path(stage: &Stage) -> String {
    format!("/organizations/{}/repositories", stage.of("acme").organization)
}

fn post(stage: &Stage, name: &str) -> Ask {
    Ask::new("POST", path(stage)).bearer(&stage.of("acme").key).json(&json!({ "name": name }))
}

#[tokio::test]
async fn pages_have_each_record_once_newest_first() {
    let stage = Stage::set().await;
    for number in 1..=7 {
        assert_eq!(stage.send(&post(&stage, &format!("r{number}"))).await.status, 201);
    }
    let (mut names, mut pages, mut after) = (Vec::new(), 0, String::new());
    loop {
        let page = Ask::new("GET", format!("{}?limit=3{after}", path(&stage))).bearer(&stage.of("acme").member);
        let page = stage.send(&page).await.json();
        names.extend(page["items"].as_array().unwrap().iter().map(|item| item["name"].as_str().unwrap().to_owned()));
        pages += 1;
        // What is made meanwhile is newer than the page, and on none that follows.
        stage.send(&post(&stage, &format!("late{pages}"))).await;
        match page["next"].as_str() {
            Some(next) => after = format!("&after={next}"),
            None => break,
        }
    }
    assert_eq!((names.join(" "), pages), ("r7 r6 r5 r4 r3 r2 r1 acme-vault".to_owned(), 3));
}

#[tokio::test]
async fn a_cursor_that_is_none_of_the_list_is_refused() {
    let stage = Stage::set().await;
    for name in ["one", "two"] {
        stage.send(&post(&stage, name)).await;
        let globex = stage.of("globex");
        let path = format!("/organizations/{}/repositories", globex.organization);
        stage.send(&Ask::new("POST", path).bearer(&globex.key).json(&json!({ "name": name }))).await;
    }
    let cursor = async |slug: &str| {
        let tenant = stage.of(slug);
        let page = format!("/organizations/{}/repositories?limit=1", tenant.organization);
        stage.send(&Ask::new("GET", page).bearer(&tenant.key).clone()).await.json()["next"].as_str().unwrap().to_owned()
    };
    let (own, other) = (cursor("acme").await, cursor("globex").await);
    let get = async |query: &str| {
        stage.send(&Ask::new("GET", format!("{}?{query}", path(&stage))).bearer(&stage.of("acme").key)).await
    };
    assert_eq!(get(&format!("after={own}")).await.status, 200);
    let hostile = [
        format!("after={other}"),
        format!("after={own}&after={own}"),
        "after=".into(),
        "after=%00".into(),
        "after=%27%20or%201=1".into(),
        format!("after={}", "A".repeat(5000)),
        "limit=0".into(),
        "limit=101".into(),
        "limit=-1".into(),
        "limit=x".into(),
        "limit=1e1".into(),
        "offset=1".into(),
    ];
    for query in hostile {
        get(&query).await.problem(400);
    }
    // Of one list, and of no other of the same organization.
    let jobs = format!("/organizations/{}/jobs?after={own}", stage.of("acme").organization);
    stage.send(&Ask::new("GET", jobs).bearer(&stage.of("acme").key)).await.problem(400);
}

#[tokio::test]
async fn a_record_is_changed_only_in_the_state_that_was_read() {
    let stage = Stage::set().await;
    let created = stage.send(&post(&stage, "website")).await;
    let path = created.header("location").to_owned();
    assert_eq!(created.header("etag"), "\"1\"");
    let get = || Ask::new("GET", &path).bearer(&stage.of("acme").key);
    let put = |name: &str| Ask::new("PUT", &path).bearer(&stage.of("acme").key).json(&json!({ "name": name }));
    let shown = stage.send(&get()).await;
    assert_eq!((shown.header("etag"), shown.json()), ("\"1\"", created.json()));
    let unchanged = stage.send(&get().header("if-none-match", "\"0\", W/\"1\"")).await;
    assert_eq!((unchanged.status, unchanged.text.as_str(), unchanged.header("etag")), (304, "", "\"1\""));

    stage.send(&put("renamed")).await.problem(428);
    stage.send(&put("renamed").header("if-match", "\"2\"")).await.problem(412);
    stage.send(&put("renamed").header("if-match", "W/\"1\"")).await.problem(412);
    // Of many who have read the same state, one changes it.
    let tries: Vec<_> =
        (0..8).map(|number| stage.start(put(&format!("n{number}")).header("if-match", "\"1\""))).collect();
    let mut statuses = Vec::new();
    for one in tries {
        statuses.push(one.await.unwrap().status);
    }
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 412, 412, 412, 412, 412, 412, 412]);
    assert_eq!(stage.send(&get()).await.header("etag"), "\"2\"");
    stage.send(&Ask::new("DELETE", &path).bearer(&stage.of("acme").key).header("if-match", "\"1\"")).await.problem(412);
    assert_eq!(stage.send(&Ask::new("DELETE", &path).bearer(&stage.of("acme").key)).await.status, 204);
    stage.send(&get()).await.problem(404);
}

#[tokio::test]
async fn a_creation_with_a_key_happens_once() {
    let stage = Stage::set().await;
    let with_key = |key: &str, name: &str| post(&stage, name).header("idempotency-key", key);
    // At the same time, and again later.
    let tries: Vec<_> = (0..12).map(|_| stage.start(with_key("one", "website"))).collect();
    let (mut bodies, mut replayed) = (BTreeSet::new(), 0);
    for one in tries {
        let answer = one.await.unwrap();
        assert_eq!((answer.status, answer.header("etag")), (201, "\"1\""), "{answer:?}");
        replayed += usize::from(answer.header("idempotency-replayed") == "true");
        bodies.insert((answer.header("location").to_owned(), answer.json().to_string()));
    }
    assert_eq!((bodies.len(), replayed), (1, 11));
    assert_eq!(stage.number("select count(*) from tenant_acme.repositories where name = 'website'").await, 1);
    // The control: without a key the second one conflicts.
    stage.send(&post(&stage, "website")).await.problem(409);
    // The same key with another body, and what is no key.
    stage.send(&with_key("one", "other")).await.problem(422);
    for key in ["", "a b", &"k".repeat(256)] {
        stage.send(&with_key(key, "other")).await.problem(400);
    }
    stage.send(&with_key("one", "website").header("idempotency-key", "one")).await.problem(400);
    // What was refused is no answer that is kept.
    stage.send(&with_key("two", "website")).await.problem(409);
    assert_eq!(stage.number("select count(*) from tenant_acme.idempotency_keys").await, 1);
    // Another tenant's key of the same text is another one.
    let globex = stage.of("globex");
    let path = format!("/organizations/{}/repositories", globex.organization);
    let ask =
        Ask::new("POST", path).bearer(&globex.key).header("idempotency-key", "one").json(&json!({ "name": "website" }));
    let answer = stage.send(&ask).await;
    assert_eq!((answer.status, answer.header("idempotency-replayed")), (201, ""));
    assert!(!bodies.iter().any(|(location, _)| location == answer.header("location")));
}

/// The schema is the tenant's, and still what came into it by mistake is not handed out.
#[tokio::test]
async fn a_record_of_another_organization_in_the_own_schema_is_hidden_and_never_changed() {
    let stage = Stage::set().await;
    let foreign = "01890000-0000-7000-8000-00000000000f";
    let plant = format!(
        "insert into tenant_acme.repositories (id, organization_id, name) values ('{foreign}', '{}', 'planted')",
        stage.of("globex").organization
    );
    stage.run(&plant).await;
    let path = format!("{}/{foreign}", path(&stage));
    let ask = |method| Ask::new(method, &path).bearer(&stage.of("acme").key).header("if-match", "*");
    assert_eq!(stage.send(&ask("GET")).await.problem(404), "there is no such repository");
    assert_eq!(
        stage.send(&ask("PUT").json(&json!({ "name": "mine" }))).await.problem(403),
        "access to this repository is denied"
    );
    stage.send(&ask("DELETE")).await.problem(403);
    stage
        .send(
            &Ask::new("POST", format!("{path}/jobs")).bearer(&stage.of("acme").key).json(&json!({ "kind": "analyze" })),
        )
        .await
        .problem(404);
    let list = stage.send(&Ask::new("GET", self::path(&stage)).bearer(&stage.of("acme").key)).await.json();
    let names: Vec<&Value> = list["items"].as_array().unwrap().iter().map(|item| &item["name"]).collect();
    assert_eq!(names, ["acme-vault"]);
    assert_eq!(stage.number("select count(*) from tenant_acme.repositories where name = 'planted'").await, 1);
}

#[tokio::test]
async fn every_error_is_a_problem_that_says_what_is_wrong() {
    let stage = Stage::set().await;
    let key = &stage.of("acme").key;
    let send = async |body: &str| {
        let mut ask =
            Ask::new("POST", path(&stage)).bearer(key).header("content-type", "application/json; charset=utf-8");
        ask.body = Some(body.to_owned());
        stage.send(&ask).await
    };
    send("{").await.problem(400);
    send("").await.problem(400);
    assert!(send(r#"{"name": 1}"#).await.problem(422).contains("name"));
    assert!(send(r#"{"name": "a", "organization_id": "x"}"#).await.problem(422).contains("organization_id"));
    let wrong = send(r#"{"name": "../etc", "description": "a\u0000b"}"#).await;
    wrong.problem(422);
    let fields: BTreeSet<String> = wrong.json()["errors"]
        .as_array()
        .unwrap()
        .iter()
        .map(|error| error["field"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(fields.into_iter().collect::<Vec<_>>(), ["description", "name"]);
    send(&format!(r#"{{"name": "a", "description": "{}"}}"#, "x".repeat(70_000))).await.problem(413);
    let text = Ask {
        body: Some("{}".into()),
        ..Ask::new("POST", path(&stage)).bearer(key).header("content-type", "text/plain")
    };
    stage.send(&text).await.problem(415);
    let method = stage.send(&Ask::new("PATCH", path(&stage)).bearer(key)).await;
    method.problem(405);
    assert_eq!(method.header("allow"), "GET,HEAD,POST");
    for nowhere in ["/", "/organisations", "/organizations/"] {
        stage.send(&Ask::new("GET", nowhere)).await.problem(404);
    }
    stage.send(&Ask::new("GET", "/organizations/x/repositories").bearer(key)).await.problem(400);
    // Who may only read writes nothing, and who may only work does not rename the organization.
    stage
        .send(&Ask::new("POST", path(&stage)).bearer(&stage.of("acme").reader).json(&json!({ "name": "a" })))
        .await
        .problem(403);
    let organization = format!("/organizations/{}", stage.of("acme").organization);
    let rename = |token: &str| {
        Ask::new("PUT", &organization).bearer(token).header("if-match", "*").json(&json!({ "name": "New" }))
    };
    stage.send(&rename(&stage.of("acme").member)).await.problem(403);
    stage.send(&rename(key)).await.problem(403);
    assert_eq!(stage.send(&rename(&stage.of("acme").owner)).await.json()["name"], "New");
}

/// The strong ETag of a record names its bytes (RFC 9110, 8.8.3), so a record has the same ones for every client.
#[tokio::test]
async fn what_has_a_strong_etag_is_not_compressed_and_no_cache_shares_an_answer() {
    let stage = Stage::set().await;
    let acme = stage.of("acme");
    let list = format!("/organizations/{}/repositories", acme.organization);
    let record = format!("{list}/{}", acme.repository);
    let get = async |path: &str| {
        let ask = Ask::new("GET", path).bearer(&acme.key).header("accept-encoding", "gzip");
        let answer = stage.send(&ask).await;
        assert_eq!((answer.status, answer.header("cache-control")), (200, "private, no-cache"), "{answer:?}");
        answer
    };
    let shown = get(&record).await;
    assert_eq!((shown.header("etag"), shown.header("content-encoding")), ("\"1\"", ""));
    // The control: a list has none, and is compressed.
    for path in [list.as_str(), "/me", "/organizations"] {
        let answer = get(path).await;
        assert_eq!((answer.header("etag"), answer.header("content-encoding")), ("", "gzip"), "{path}");
    }
}
