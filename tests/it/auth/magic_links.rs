//! Magic links: issued, looked at, redeemed once, listed, revoked and purged.

use super::platform::{Platform, reason};
use cgk::auth::{AuthError, ClientInfo, LinkPurpose, Rejection};
use std::time::Duration;

#[tokio::test]
async fn a_link_is_redeemed_once_and_signs_in() {
    let platform = Platform::set().await;
    let (links, users) = (platform.auth.magic_links(), platform.auth.users());
    let ada = platform.user(platform.acme, "Ada@example.com").await;
    let (issued, token) = links.issue("ada@example.com", LinkPurpose::Login).await.unwrap();
    assert_eq!(reason(links.redeem(token.reveal(), LinkPurpose::Signup).await), Rejection::WrongPurpose);
    // A look leaves it as it is.
    for _ in 0..2 {
        assert_eq!(links.verify(token.reveal(), LinkPurpose::Login).await.unwrap(), issued);
    }
    let redeemed = links.redeem(token.reveal(), LinkPurpose::Login).await.unwrap();
    assert_eq!((redeemed.id, redeemed.used_at.is_some()), (issued.id, true));
    assert_eq!(reason(links.redeem(token.reveal(), LinkPurpose::Login).await), Rejection::Used);
    assert_eq!(reason(links.verify(token.reveal(), LinkPurpose::Login).await), Rejection::Used);

    let user = users.by_email(&redeemed.email).await.unwrap().remove(0);
    assert_eq!(user, ada);
    let (session, _) =
        platform.auth.sessions().issue(user.organization, user.id, &ClientInfo::default()).await.unwrap();
    assert_eq!(session.email, "Ada@example.com");
}

#[tokio::test]
async fn it_ends_with_its_time_or_when_it_is_revoked() {
    let platform = Platform::set().await;
    let links = platform.auth.magic_links();
    let (_, expired) = links.issue("ada@example.com", LinkPurpose::Invite).await.unwrap();
    let past = "update magic_links set created_at = now() - interval '2 hours', expires_at = now() - interval '1 hour'";
    platform.stage.sql(past).await;
    assert_eq!(reason(links.redeem(expired.reveal(), LinkPurpose::Invite).await), Rejection::Expired);
    let (_, open) = links.issue("ADA@example.com", LinkPurpose::Invite).await.unwrap();
    let (_, of_bob) = links.issue("bob@example.com", LinkPurpose::Invite).await.unwrap();
    assert_eq!(links.list("ada@example.com").await.unwrap().len(), 2);
    assert_eq!(links.revoke("ada@example.com").await.unwrap(), 1);
    assert_eq!(links.revoke("ada@example.com").await.unwrap(), 0);
    assert_eq!(reason(links.redeem(open.reveal(), LinkPurpose::Invite).await), Rejection::Used);
    // The refused one is as it was.
    assert_eq!(reason(links.redeem(expired.reveal(), LinkPurpose::Invite).await), Rejection::Expired);

    assert_eq!(links.purge(Duration::from_secs(4 * 3600), 100).await.unwrap(), 0);
    assert_eq!(links.purge(Duration::from_secs(60), 100).await.unwrap(), 1);
    assert_eq!(reason(links.redeem(expired.reveal(), LinkPurpose::Invite).await), Rejection::Unknown);
    assert!(links.redeem(of_bob.reveal(), LinkPurpose::Invite).await.is_ok());
    assert!(links.list("x").await.unwrap().is_empty());
    let invalid = links.issue("x", LinkPurpose::Login).await.unwrap_err();
    assert!(matches!(invalid, AuthError::Invalid { .. }), "{invalid:?}");
}
