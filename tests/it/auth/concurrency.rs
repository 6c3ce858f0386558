//! Two at once: of a link one redeems it, of a token one rotates it, and whoever ends a user's sessions misses none.
//!
//! No race is run. A third session holds the row; both wait for it, which is looked at; then it lets go.

use super::platform::{Platform, reason};
use crate::stage::run;
use cgk::auth::{ApiKeyRotation, ClientInfo, LinkPurpose, NewApiKey, Rejection, UserStatus};

/// Runs two calls that both wait for a lock of the observer's, and lets go of it once they do.
async fn both_wait<A, B>(platform: &Platform, lock: &str, one: A, other: B) -> (A::Output, B::Output)
where
    A: Future<Output: Send + 'static> + Send + 'static,
    B: Future<Output: Send + 'static> + Send + 'static,
{
    let holder = platform.holder(lock).await;
    let (one, other) = (tokio::spawn(one), tokio::spawn(other));
    platform.until_waiting(2).await;
    run(&holder, "commit").await.unwrap();
    (one.await.unwrap(), other.await.unwrap())
}

#[tokio::test]
async fn one_of_two_redeems_a_link() {
    let platform = Platform::set().await;
    let (_, token) = platform.auth.magic_links().issue("ada@example.com", LinkPurpose::Login).await.unwrap();
    let redeem = |auth: cgk::auth::Auth| {
        let token = token.clone();
        async move { auth.magic_links().redeem(token.reveal(), LinkPurpose::Login).await }
    };
    let (one, other) = (redeem(platform.auth.clone()), redeem(platform.beside().await));
    let (one, other) = both_wait(&platform, "select from magic_links for update", one, other).await;
    let (won, lost) = if one.is_ok() { (one, other) } else { (other, one) };
    assert!(won.is_ok());
    assert_eq!(reason(lost), Rejection::Used);
}

/// What the test above finds: the same calls by a statement that looks first and then writes. Both win.
#[tokio::test]
async fn two_that_look_first_both_redeem() {
    let platform = Platform::set().await;
    platform.auth.magic_links().issue("ada@example.com", LinkPurpose::Login).await.unwrap();
    let redeem = |db: cgk::Db| async move {
        db.platform()
            .transaction(async |tx| {
                tx.query_one("select id from magic_links where used_at is null", &[]).await?;
                tx.execute("update magic_links set used_at = now()", &[]).await
            })
            .await
    };
    let beside: cgk::Db = cgk::Db::connect(platform.db.config()).await.unwrap();
    let (one, other) = (redeem(platform.db.clone()), redeem(beside));
    let (one, other) = both_wait(&platform, "select from magic_links for update", one, other).await;
    assert_eq!((one.unwrap(), other.unwrap()), (1, 1));
}

#[tokio::test]
async fn one_of_two_rotates_a_session() {
    let platform = Platform::set().await;
    let user = platform.user(platform.acme, "ada@example.com").await;
    let (_, token) = platform.auth.sessions().issue(platform.acme, user.id, &ClientInfo::default()).await.unwrap();
    let rotate = |auth: cgk::auth::Auth| {
        let token = token.clone();
        async move { auth.sessions().rotate(token.reveal()).await }
    };
    let (one, other) = (rotate(platform.auth.clone()), rotate(platform.beside().await));
    let (one, other) = both_wait(&platform, "select from sessions for update", one, other).await;
    let (won, lost) = if one.is_ok() { (one, other) } else { (other, one) };
    assert_eq!(reason(lost), Rejection::Unknown);
    assert!(platform.auth.sessions().verify(won.unwrap().reveal()).await.is_ok());
}

#[tokio::test]
async fn one_of_two_rotates_a_key() {
    let platform = Platform::set().await;
    let (key, _) = platform.auth.api_keys().create(platform.acme, &NewApiKey::named("x")).await.unwrap();
    let acme = platform.acme;
    let rotate =
        |auth: cgk::auth::Auth| async move { auth.api_keys().rotate(acme, key.id, &ApiKeyRotation::at_once()).await };
    let (one, other) = (rotate(platform.auth.clone()), rotate(platform.beside().await));
    let (one, other) = both_wait(&platform, "select from api_keys for update", one, other).await;
    assert!(one.is_ok() != other.is_ok());
    assert_eq!(platform.stage.number("select count(*) from api_keys where revoked_at is null").await, 1);
}

/// A session that is issued while its user is disabled does not come to life when the user is enabled again.
#[tokio::test]
async fn a_session_issued_while_its_user_is_disabled_is_revoked_or_refused() {
    let platform = Platform::set().await;
    let user = platform.user(platform.acme, "ada@example.com").await;
    let acme = platform.acme;
    let issuing = platform.auth.clone();
    let issue = async move { issuing.sessions().issue(acme, user.id, &ClientInfo::default()).await };
    let disabling = platform.beside().await;
    let disable = async move { disabling.users().set_status(acme, user.id, &UserStatus::Disabled).await };
    let (issued, disabled) = both_wait(&platform, "select from users for no key update", issue, disable).await;
    disabled.unwrap();
    platform.auth.users().set_status(acme, user.id, &UserStatus::Active).await.unwrap();
    match issued {
        Ok((_, token)) => assert_eq!(reason(platform.auth.sessions().verify(token.reveal()).await), Rejection::Revoked),
        refused => assert_eq!(reason(refused), Rejection::UserInactive),
    }
}

/// A single use that was cancelled is none.
#[tokio::test]
async fn a_redemption_that_is_dropped_while_it_waits_leaves_the_link_open() {
    let platform = Platform::set().await;
    let (_, token) = platform.auth.magic_links().issue("ada@example.com", LinkPurpose::Login).await.unwrap();
    let holder = platform.holder("select from magic_links for update").await;
    let links = platform.auth.magic_links();
    tokio::select! {
        outcome = links.redeem(token.reveal(), LinkPurpose::Login) => panic!("{outcome:?}"),
        _ = platform.until_waiting(1) => {}
    }
    // The one that was dropped is cancelled, and then the lock is let go.
    platform.until_waiting(0).await;
    run(&holder, "commit").await.unwrap();
    assert!(links.redeem(token.reveal(), LinkPurpose::Login).await.is_ok());
}
