//! An organization that is asked for, seen while it is made, renamed and closed.

use crate::stage::{Ask, Stage};
use cgk::provisioning::{self, ServeOptions};
use repositories_api::demo;
use serde_json::json;

fn ask_for(token: &str, slug: &str, key: &str) -> Ask {
    let body = json!({ "slug": slug, "name": "Initech" });
    Ask::new("POST", "/organizations").bearer(token).header("idempotency-key", key).json(&body)
}

#[tokio::test]
async fn an_organization_is_made_by_an_operator_and_seen_by_who_asked_for_it() {
    let stage = Stage::set().await;
    let acme = stage.of("acme");
    let tries: Vec<_> = (0..6).map(|_| stage.start(ask_for(&acme.owner, "initech", "one"))).collect();
    let (mut places, mut replayed) = (Vec::new(), 0);
    for one in tries {
        let answer = one.await.unwrap();
        assert_eq!((answer.status, &answer.json()["status"]), (202, &json!("onboarding")), "{answer:?}");
        replayed += usize::from(answer.header("idempotency-replayed") == "true");
        places.push(answer.header("location").to_owned());
    }
    places.dedup();
    assert_eq!(replayed, 5);
    let [place] = &places[..] else { panic!("{places:?}") };
    stage.send(&ask_for(&acme.owner, "initech", "two")).await.problem(409);
    stage.send(&ask_for(&acme.owner, "other", "one")).await.problem(422);
    // A program does not found organizations.
    stage.send(&ask_for(&acme.key, "program", "one")).await.problem(403);

    let show = |token: &str| Ask::new("GET", place).bearer(token);
    assert_eq!(stage.send(&show(&acme.owner)).await.json()["status"], "onboarding");
    // Nobody else sees it: another user of the same organization, a program of it, another organization.
    for token in [&acme.member, &acme.key, &stage.of("globex").owner] {
        stage.send(&show(token)).await.problem(404);
    }
    // Who asked for it has no way into it by the own credential.
    stage.send(&Ask::new("GET", format!("{place}/repositories")).bearer(&acme.owner)).await.problem(404);
    stage
        .send(&Ask::new("PUT", place).bearer(&acme.owner).header("if-match", "*").json(&json!({ "name": "x" })))
        .await
        .problem(404);

    let (migrations, options) = (demo::migrations().unwrap(), ServeOptions::default());
    let report = provisioning::serve_due(&stage.operator, &migrations, &options, &mut |_| {}).await.unwrap();
    assert_eq!(report.done, 1);
    assert_eq!(stage.send(&show(&acme.owner)).await.json()["status"], "active");
    // The asker's address owns it.
    let owners = "select count(*) from public.users u join public.organizations o on o.id = u.organization_id
        where o.slug = 'initech' and u.email = 'owner@acme.example' and u.role = 'owner'";
    assert_eq!(stage.number(owners).await, 1);
    let list = stage.send(&Ask::new("GET", "/organizations").bearer(&acme.owner)).await.json();
    let slugs: Vec<_> = list["items"].as_array().unwrap().iter().map(|item| item["slug"].as_str().unwrap()).collect();
    assert!(slugs.len() == 2 && slugs.contains(&"acme") && slugs.contains(&"initech"), "{slugs:?}");
}

#[tokio::test]
async fn an_organization_that_is_closed_lets_nobody_in() {
    let stage = Stage::set().await;
    let acme = stage.of("acme");
    let path = format!("/organizations/{}", acme.organization);
    let close = |token: &str| Ask::new("DELETE", &path).bearer(token);
    stage.send(&close(&acme.member)).await.problem(403);
    stage.send(&close(&acme.owner).header("if-match", "\"1\"")).await.problem(412);
    assert_eq!(stage.send(&close(&acme.owner)).await.status, 204);
    // The notice of the change has come in.
    stage.app.resolver.caught_up().await;
    for token in [&acme.owner, &acme.member, &acme.key] {
        stage.send(&Ask::new("GET", &path).bearer(token)).await.problem(403);
    }
    assert_eq!(stage.send(&Ask::new("GET", "/me").bearer(&stage.of("globex").key)).await.status, 200);
}
