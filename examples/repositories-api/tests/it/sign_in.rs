//! Sign-in by a provider, as a browser does it.

use crate::{
    provider::{CLIENT, Provider, Says},
    stage::{Answer, Ask, Stage, serve},
};
use cgk::{
    OrganizationId,
    platform::{Members, NewMember},
};
use futures_util::future::join_all;
use openidconnect::reqwest;
use repositories_api::{app::App, settings::SignInSettings, sign_in::SignIn};
use serde_json::json;
use std::sync::{Arc, atomic::Ordering::SeqCst};

pub struct Browser {
    pub stage: Arc<Stage>,
    pub provider: Arc<Provider>,
    /// Of a service with this provider.
    pub port: u16,
}

fn settings(provider: &Provider) -> SignInSettings {
    SignInSettings {
        issuer: provider.issuer.clone(),
        client_id: CLIENT.into(),
        client_secret: None,
        public_url: "https://api.example.com".into(),
    }
}

impl Browser {
    pub async fn open(stage: Arc<Stage>) -> Self {
        let provider = Provider::start().await;
        let app: App = stage.app.clone().with_sign_in(SignIn::new(settings(&provider)).unwrap());
        let (port, _) = serve(&app, &stage.settings).await;
        Self { stage, provider, port }
    }

    pub async fn get(&self, path: &str, cookie: &str) -> Answer {
        self.stage.send_to(self.port, &Ask::new("GET", path).header("cookie", cookie)).await
    }

    /// Goes to the provider and comes back: the path of the way back, and the cookie that it needs.
    pub async fn begin(&self, slug: &str) -> (String, String) {
        let begun = self.get(&format!("/sign-in?organization={slug}"), "").await;
        assert_eq!(begun.status, 303, "{begun:?}");
        let cookie = begun.header("set-cookie");
        assert!(
            ["; HttpOnly", "; Secure", "; SameSite=Lax", "; Path=/;"].iter().all(|word| cookie.contains(word)),
            "{cookie}"
        );
        let http = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).build().unwrap();
        let approved = http.get(begun.header("location")).send().await.unwrap();
        let back = approved.headers()["location"].to_str().unwrap();
        let path = back.strip_prefix("https://api.example.com").unwrap().to_owned();
        (path, cookie.split(';').next().unwrap().to_owned())
    }

    async fn sign_in(&self, slug: &str) -> Answer {
        let (path, cookie) = self.begin(slug).await;
        self.get(&path, &cookie).await
    }
}

fn session(answer: &Answer) -> String {
    assert_eq!((answer.status, answer.header("location")), (303, "/me"), "{answer:?}");
    let cookies = answer.headers.iter().filter(|(name, _)| name == "set-cookie").map(|(_, value)| value.as_str());
    let session = cookies.filter(|cookie| cookie.starts_with("__Host-session=")).collect::<Vec<_>>();
    assert!(session[0].contains("HttpOnly; Secure; SameSite=Lax"), "{session:?}");
    session[0].split(';').next().unwrap().to_owned()
}

#[tokio::test]
async fn a_user_signs_in_by_a_verified_address_and_then_by_the_subject() {
    let browser = Browser::open(Arc::new(Stage::set().await)).await;
    let stage = &browser.stage;
    browser.provider.says(Says::verified("subject-1", "Owner@acme.example"));
    let cookie = session(&browser.sign_in("acme").await);
    let me = browser.get("/me", &cookie).await.json();
    assert_eq!(
        (&me["organization"], &me["email"], &me["roles"]),
        (&json!("acme"), &json!("owner@acme.example"), &json!(["owner"]))
    );
    // The session is acme's: on no other host, for no other organization.
    let globex = format!("/organizations/{}", stage.of("globex").organization);
    assert_eq!(browser.get(&globex, &cookie).await.status, 404);
    // From now on the subject counts, whatever its address is.
    browser.provider.says(Says { email_verified: false, ..Says::verified("subject-1", "owner@globex.example") });
    let again = session(&browser.sign_in("acme").await);
    assert_eq!(browser.get("/me", &again).await.json()["email"], "owner@acme.example");
    // Somebody else who has the address now is not the user.
    browser.provider.says(Says::verified("subject-2", "owner@acme.example"));
    browser.sign_in("acme").await.problem(403);
    // The way out ends this session, and no other.
    // A page of another tenant's host is the same site, and not the same origin.
    let sibling = Ask::new("POST", "/sign-out").header("cookie", &cookie).header("sec-fetch-site", "same-site");
    stage.send_to(browser.port, &sibling).await.problem(403);
    assert_eq!(browser.get("/me", &cookie).await.status, 200);
    let out = stage.send_to(browser.port, &Ask::new("POST", "/sign-out").header("cookie", &cookie)).await;
    assert_eq!(out.status, 204);
    stage.app.resolver.caught_up().await;
    assert_eq!(browser.get("/me", &cookie).await.status, 401);
    assert_eq!(browser.get("/me", &again).await.status, 200);
}

#[tokio::test]
async fn who_is_no_user_of_the_organization_is_refused_alike() {
    let browser = Browser::open(Arc::new(Stage::set().await)).await;
    let refused = async |says: Says, slug: &str| {
        browser.provider.says(says);
        let answer = browser.sign_in(slug).await;
        assert!(answer.header("set-cookie").is_empty(), "{answer:?}");
        answer.problem(403)
    };
    let owner = Says::verified("s", "owner@acme.example");
    let text = refused(owner.clone(), "globex").await;
    assert_eq!(refused(owner.clone(), "unknown").await, text);
    assert_eq!(refused(Says { email_verified: false, ..owner.clone() }, "acme").await, text);
    assert_eq!(refused(Says::verified("s", "nobody@acme.example"), "acme").await, text);
    // A suspended organization.
    browser.provider.says(Says::verified("s", "owner@dormant.example"));
    assert!([401, 403].contains(&browser.sign_in("dormant").await.status));
    // The control: the same person, in the own organization.
    browser.provider.says(owner);
    session(&browser.sign_in("acme").await);
}

#[tokio::test]
async fn a_token_or_a_way_back_that_is_not_right_signs_nobody_in() {
    let browser = Browser::open(Arc::new(Stage::set().await)).await;
    let right = Says::verified("s", "owner@acme.example");
    for forged in [
        json!({ "nonce": "other" }),
        json!({ "aud": "other" }),
        json!({ "iss": "https://other.example" }),
        json!({ "exp": 1 }),
    ] {
        browser.provider.says(Says { forged: forged.clone(), ..right.clone() });
        assert_eq!(browser.sign_in("acme").await.status, 502, "{forged}");
    }
    browser.provider.says(Says { key: 1, ..right.clone() });
    browser.sign_in("acme").await.problem(502);
    browser.provider.says(right);
    // Another browser's way back, another state, and a code that was used.
    let (path, cookie) = browser.begin("acme").await;
    let (other_path, other_cookie) = browser.begin("acme").await;
    browser.get(&path, "").await.problem(400);
    browser.get(&path, &other_cookie).await.problem(400);
    browser.get(&other_path, &cookie).await.problem(400);
    browser.get(&path, "__Host-sign-in=e30").await.problem(400);
    session(&browser.get(&path, &cookie).await);
    browser.get(&path, &cookie).await.problem(502);
    // The code of one with the verifier of another: PKCE.
    let code = |path: &str| path.split("code=").nth(1).unwrap().split('&').next().unwrap().to_owned();
    let (third_path, third_cookie) = browser.begin("acme").await;
    let mixed = third_path.replace(&code(&third_path), &code(&other_path));
    browser.get(&mixed, &third_cookie).await.problem(502);
    // The user has said no.
    let (fourth, cookie) = browser.begin("acme").await;
    let state = fourth.split("state=").nth(1).unwrap();
    browser.get(&format!("/sign-in/callback?state={state}&error=access_denied"), &cookie).await.problem(403);
}

#[tokio::test]
async fn a_member_whose_home_is_another_organization_signs_in() {
    let browser = Browser::open(Arc::new(Stage::set().await)).await;
    let stage = &browser.stage;
    let id = |slug| OrganizationId(stage.of(slug).organization.parse().unwrap());
    let guest = stage.app.auth.users().find_by_email(id("acme"), "owner@acme.example").await.unwrap();
    browser.provider.says(Says::verified("guest", "owner@acme.example"));
    // The control: without a membership there is no user.
    browser.sign_in("globex").await.problem(403);
    Members::new(&stage.app.db).add(id("globex"), &NewMember::user(guest.id)).await.unwrap();
    for organization in ["globex", "acme", "globex"] {
        let cookie = session(&browser.sign_in(organization).await);
        let me = browser.get("/me", &cookie).await.json();
        assert_eq!((&me["organization"], &me["email"]), (&json!(organization), &json!("owner@acme.example")));
    }
}

#[tokio::test]
async fn first_sign_ins_of_one_person_at_once_all_succeed() {
    let browser = Browser::open(Arc::new(Stage::set().await)).await;
    browser.provider.says(Says::verified("s", "owner@acme.example"));
    let mut ways = Vec::new();
    for _ in 0..8 {
        ways.push(browser.begin("acme").await);
    }
    for answer in join_all(ways.iter().map(|(path, cookie)| browser.get(path, cookie))).await {
        session(&answer);
    }
}

#[tokio::test]
async fn a_token_by_a_new_key_makes_the_service_ask_for_the_keys() {
    let browser = Browser::open(Arc::new(Stage::set().await)).await;
    let provider = &browser.provider;
    let person = Says::verified("s", "owner@acme.example");
    provider.says(person.clone());
    session(&browser.sign_in("acme").await);
    assert_eq!(provider.discoveries.load(SeqCst), 1);
    provider.rotated.store(true, SeqCst);
    provider.says(Says { key: 1, ..person.clone() });
    session(&browser.sign_in("acme").await);
    assert_eq!(provider.discoveries.load(SeqCst), 2);
    // Wrong tokens do not make it ask each time.
    provider.says(Says { key: 2, ..person });
    for _ in 0..3 {
        browser.sign_in("acme").await.problem(502);
    }
    assert_eq!(provider.discoveries.load(SeqCst), 2);
}

#[tokio::test]
async fn who_waits_for_a_discovery_that_fails_gets_its_failure() {
    let provider = Provider::start().await;
    let sign_in = SignIn::new(settings(&provider)).unwrap();
    provider.down.store(true, SeqCst);
    // Each is polled once, and so has asked, before the provider answers the first.
    let asked = join_all((0..8).map(|_| sign_in.begin("acme"))).await;
    assert!(
        asked
            .iter()
            .all(|answer| answer.as_ref().is_err_and(|error| format!("{error:#}").contains("discovery failed")))
    );
    assert_eq!(provider.discoveries.load(SeqCst), 1);
    // The next one asks the provider again.
    provider.down.store(false, SeqCst);
    sign_in.begin("acme").await.unwrap();
    assert_eq!(provider.discoveries.load(SeqCst), 2);
}
