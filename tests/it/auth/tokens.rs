//! What is no token never reaches the database, and none is accepted in another's place.

use super::platform::reason;
use crate::sandbox::Proxy;
use cgk::{
    Db,
    auth::{Auth, AuthError, AuthSettings, ClientInfo, LinkPurpose, NewApiKey, NewUser, Rejection},
    testing::TestServer,
};

/// The messages that a client sends, counted: none for a text that is no token, and some for one that could be one.
#[tokio::test]
async fn a_text_that_is_no_token_is_refused_before_the_database_is_asked() {
    let database = TestServer::shared().set_up_database().await.unwrap();
    database.with_tenants(&["acme"]).await.unwrap();
    let proxy = Proxy::to(&database).await;
    let db: Db = Db::connect(proxy.config()).await.unwrap();
    let auth = Auth::new(&db, AuthSettings::default());
    let id = db.platform().query_one("select id from organizations", &[]).await.unwrap().get(0);
    let acme = cgk::OrganizationId(id);
    let user = auth.users().create(acme, &NewUser::active("ada@example.com")).await.unwrap();
    let (_, session) = auth.sessions().issue(acme, user.id, &ClientInfo::default()).await.unwrap();
    let (_, key) = auth.api_keys().create(acme, &NewApiKey::named("x")).await.unwrap();
    let (_, link) = auth.magic_links().issue("ada@example.com", LinkPurpose::Login).await.unwrap();
    // Connections of the pool speak when they are taken, and not on their own.
    proxy.take();

    let mut refused = vec![String::new(), " ".into(), "x".repeat(100_000), "' or true --".into()];
    for right in [session.reveal(), key.reveal(), link.reveal()] {
        let mut swapped: Vec<char> = right.chars().collect();
        // Two random characters in each other's place, or another one where they are the same.
        if swapped[10] == swapped[11] {
            swapped[10] = if swapped[10] == 'x' { 'y' } else { 'x' };
        } else {
            swapped.swap(10, 11);
        }
        refused.push(swapped.into_iter().collect());
        refused.extend([
            right[..right.len() - 1].to_owned(),
            right[1..].to_owned(),
            format!("{right}0"),
            format!(" {right}"),
            format!("{right}\n"),
            right.to_uppercase(),
            right.replacen("cgk_", "acme_", 1),
        ]);
    }
    let mut asked = 0;
    for text in refused.iter().map(String::as_str).chain([key.reveal(), link.reveal()]) {
        assert!(is_malformed(auth.sessions().verify(text).await), "{text}");
        assert!(is_malformed(auth.sessions().rotate(text).await), "{text}");
        asked += 1;
    }
    for text in refused.iter().map(String::as_str).chain([session.reveal(), link.reveal()]) {
        assert!(is_malformed(auth.api_keys().verify(text).await), "{text}");
        asked += 1;
    }
    for text in refused.iter().map(String::as_str).chain([session.reveal(), key.reveal()]) {
        assert!(is_malformed(auth.magic_links().redeem(text, LinkPurpose::Login).await), "{text}");
        assert!(is_malformed(auth.magic_links().verify(text, LinkPurpose::Login).await), "{text}");
        asked += 1;
    }
    assert!(asked > 80);
    assert_eq!(proxy.take().len(), 0);

    // The right ones are asked for, and so is one of the right form that was never stored.
    auth.sessions().verify(session.reveal()).await.unwrap();
    auth.api_keys().verify(key.reveal()).await.unwrap();
    auth.magic_links().redeem(link.reveal(), LinkPurpose::Login).await.unwrap();
    assert!(proxy.take().len() >= 3);
    db.platform().execute("delete from api_keys", &[]).await.unwrap();
    proxy.take();
    assert_eq!(reason(auth.api_keys().verify(key.reveal()).await), Rejection::Unknown);
    assert!(!proxy.take().is_empty());
    // No token is sent, of any kind: it is their hashes.
    let other = auth.sessions().rotate(session.reveal()).await.unwrap();
    let sent: String = proxy.take().iter().map(|message| message.text.clone()).collect();
    assert!(
        sent.contains("update public.sessions") && !sent.contains(session.reveal()) && !sent.contains(other.reveal())
    );
}

fn is_malformed<T>(outcome: Result<T, AuthError>) -> bool {
    matches!(outcome, Err(AuthError::Malformed))
}

/// The brand of a service is in its tokens, and another service's are not its own.
#[tokio::test]
async fn a_brand_of_ones_own() {
    let database = TestServer::shared().set_up_database().await.unwrap();
    let db = database.with_tenants(&["acme"]).await.unwrap();
    let mut settings = AuthSettings::default();
    settings.brand = "shop".parse().unwrap();
    let (ours, theirs) = (Auth::new(&db, settings), Auth::new(&db, AuthSettings::default()));
    let id = db.platform().query_one("select id from organizations", &[]).await.unwrap().get(0);
    let (_, key) = ours.api_keys().create(cgk::OrganizationId(id), &NewApiKey::named("x")).await.unwrap();
    assert!(key.reveal().starts_with("shop_key_"));
    assert!(ours.api_keys().verify(key.reveal()).await.is_ok());
    assert!(is_malformed(theirs.api_keys().verify(key.reveal()).await));
}
