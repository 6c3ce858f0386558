//! Sessions: issued, verified, rotated, listed, revoked, ended and purged.

use super::platform::{Platform, is_not_found, reason};
use cgk::auth::{AuthError, ClientInfo, NewUser, Rejection, UserRole, UserStatus};
use std::time::Duration;

const DAY: Duration = Duration::from_secs(24 * 3600);

#[tokio::test]
async fn a_session_says_who_asks_until_it_is_revoked() {
    let platform = Platform::set().await;
    let sessions = platform.auth.sessions();
    let user = platform.user(platform.acme, "Ada@example.com").await;
    let client = ClientInfo::default().ip_address("192.0.2.7".parse().unwrap()).user_agent(&"x\0".repeat(2000));
    let (issued, token) = sessions.issue(platform.acme, user.id, &client).await.unwrap();
    assert_eq!((issued.tenant.id, issued.tenant.slug.as_str()), (platform.acme, "acme"));
    assert_eq!((issued.user_id, issued.email.as_str(), &issued.role), (user.id, "Ada@example.com", &UserRole::Member));
    // Again and again.
    for _ in 0..2 {
        assert_eq!(sessions.verify(token.reveal()).await.unwrap(), issued);
    }
    // Of the token only the hash is stored.
    let stored = "select count(*) from sessions s where token_hash = sha256($1::text::bytea) and s::text not like '%' || $1 || '%'";
    assert_eq!(platform.stage.watch.query_one(stored, &[&token.reveal()]).await.unwrap().get::<_, i64>(0), 1);

    let list = sessions.list(platform.acme, Some(user.id)).await.unwrap();
    assert_eq!(list.len(), 1);
    assert_eq!((list[0].id, list[0].ip_address), (issued.id, client.ip_address));
    assert_eq!(list[0].user_agent.as_ref().unwrap().len(), 1024);
    assert!(list[0].revoked_at.is_none());

    sessions.revoke(platform.acme, issued.id).await.unwrap();
    assert_eq!(reason(sessions.verify(token.reveal()).await), Rejection::Revoked);
    let revoked = sessions.list(platform.acme, None).await.unwrap()[0].revoked_at.unwrap();
    // A second time changes nothing.
    sessions.revoke(platform.acme, issued.id).await.unwrap();
    assert_eq!(sessions.list(platform.acme, None).await.unwrap()[0].revoked_at, Some(revoked));
}

#[tokio::test]
async fn another_organization_cannot_list_or_end_it() {
    let platform = Platform::set().await;
    let sessions = platform.auth.sessions();
    let user = platform.user(platform.acme, "ada@example.com").await;
    let (issued, token) = sessions.issue(platform.acme, user.id, &ClientInfo::default()).await.unwrap();
    assert!(sessions.list(platform.globex, Some(user.id)).await.unwrap().is_empty());
    assert!(is_not_found(sessions.revoke(platform.globex, issued.id).await));
    assert!(is_not_found(sessions.expire(platform.globex, issued.id, DAY).await));
    assert_eq!(sessions.revoke_all(platform.globex, user.id, None).await.unwrap(), 0);
    assert!(is_not_found(sessions.issue(platform.globex, user.id, &ClientInfo::default()).await));
    assert!(is_not_found(platform.auth.users().find(platform.globex, user.id).await));
    assert!(is_not_found(platform.auth.users().set_password(platform.globex, user.id, "correct horse").await));
    assert!(is_not_found(platform.auth.users().set_status(platform.globex, user.id, &UserStatus::Disabled).await));
    assert_eq!(sessions.verify(token.reveal()).await.unwrap(), issued);
}

#[tokio::test]
async fn it_ends_with_its_time_its_user_and_its_organization() {
    let platform = Platform::set().await;
    let (sessions, users) = (platform.auth.sessions(), platform.auth.users());
    let user = platform.user(platform.acme, "ada@example.com").await;
    let client = ClientInfo::default();
    let (issued, token) = sessions.issue(platform.acme, user.id, &client).await.unwrap();

    // Sooner, and never later.
    let ends = async || sessions.verify(token.reveal()).await.unwrap().expires_at;
    sessions.expire(platform.acme, issued.id, 300 * DAY).await.unwrap();
    assert_eq!(ends().await, issued.expires_at);
    sessions.expire(platform.acme, issued.id, DAY).await.unwrap();
    assert!(ends().await < issued.expires_at - 28 * DAY);

    platform.stage.sql("update organizations set status = 'suspended' where slug = 'acme'").await;
    let suspended = sessions.verify(token.reveal()).await.unwrap_err();
    assert_eq!((suspended.rejection(), suspended.status().as_u16()), (Some(Rejection::OrganizationInactive), 403));
    assert_eq!(reason(sessions.issue(platform.acme, user.id, &client).await), Rejection::OrganizationInactive);
    platform.stage.sql("update organizations set status = 'active' where slug = 'acme'").await;
    assert!(sessions.verify(token.reveal()).await.is_ok());

    // By hand, past this library: what is looked at is the user now.
    platform.stage.sql("update users set status = 'disabled'").await;
    assert_eq!(reason(sessions.verify(token.reveal()).await), Rejection::UserInactive);
    assert_eq!(reason(sessions.issue(platform.acme, user.id, &client).await), Rejection::UserInactive);
    platform.stage.sql("update users set status = 'active'").await;
    assert!(sessions.verify(token.reveal()).await.is_ok());
    // By this library, for good.
    users.set_status(platform.acme, user.id, &UserStatus::Disabled).await.unwrap();
    users.set_status(platform.acme, user.id, &UserStatus::Active).await.unwrap();
    assert_eq!(reason(sessions.verify(token.reveal()).await), Rejection::Revoked);

    let (issued, token) = sessions.issue(platform.acme, user.id, &client).await.unwrap();
    let past = "update sessions set created_at = now() - interval '2 days', expires_at = now() - interval '1 day' where revoked_at is null";
    platform.stage.sql(past).await;
    let expired = sessions.verify(token.reveal()).await.unwrap_err();
    assert_eq!((expired.rejection(), expired.status().as_u16()), (Some(Rejection::Expired), 401));
    assert!(is_not_found(sessions.expire(platform.acme, issued.id, DAY).await));
    assert_eq!(reason(sessions.rotate(token.reveal()).await), Rejection::Expired);
}

#[tokio::test]
async fn a_rotated_session_has_its_new_token_alone() {
    let platform = Platform::set().await;
    let sessions = platform.auth.sessions();
    let user = platform.user(platform.acme, "ada@example.com").await;
    let (issued, old) = sessions.issue(platform.acme, user.id, &ClientInfo::default()).await.unwrap();
    let new = sessions.rotate(old.reveal()).await.unwrap();
    assert_eq!(sessions.verify(new.reveal()).await.unwrap(), issued);
    assert_eq!(reason(sessions.verify(old.reveal()).await), Rejection::Unknown);
    assert_eq!(reason(sessions.rotate(old.reveal()).await), Rejection::Unknown);
    sessions.revoke(platform.acme, issued.id).await.unwrap();
    assert_eq!(reason(sessions.rotate(new.reveal()).await), Rejection::Revoked);
}

#[tokio::test]
async fn all_of_a_user_but_one_are_revoked_and_the_old_ones_purged() {
    let platform = Platform::set().await;
    let sessions = platform.auth.sessions();
    let (ada, bob) =
        (platform.user(platform.acme, "ada@example.com").await, platform.user(platform.acme, "bob@example.com").await);
    let client = ClientInfo::default();
    let mut of_ada = Vec::new();
    for _ in 0..3 {
        of_ada.push(sessions.issue(platform.acme, ada.id, &client).await.unwrap());
    }
    let (of_bob, bobs) = sessions.issue(platform.acme, bob.id, &client).await.unwrap();
    assert_eq!(sessions.revoke_all(platform.acme, ada.id, Some(of_ada[1].0.id)).await.unwrap(), 2);
    assert_eq!(sessions.revoke_all(platform.acme, ada.id, Some(of_ada[1].0.id)).await.unwrap(), 0);
    assert!(sessions.verify(of_ada[1].1.reveal()).await.is_ok());
    assert_eq!(reason(sessions.verify(of_ada[0].1.reveal()).await), Rejection::Revoked);
    assert_eq!(sessions.verify(bobs.reveal()).await.unwrap(), of_bob);

    // Nothing is old yet.
    assert_eq!(sessions.purge(DAY, 100).await.unwrap(), 0);
    platform.stage.sql("update sessions set revoked_at = now() - interval '3 days' where revoked_at is not null").await;
    assert_eq!(sessions.purge(DAY, 1).await.unwrap(), 1);
    // A row that is locked is left, and not waited for.
    platform.stage.sql("begin; select from sessions where revoked_at is not null for update").await;
    assert_eq!(sessions.purge(DAY, 100).await.unwrap(), 0);
    platform.stage.sql("rollback").await;
    assert_eq!(sessions.purge(DAY, 100).await.unwrap(), 1);
    assert_eq!(sessions.list(platform.acme, None).await.unwrap().len(), 2);
    let zero = sessions.purge(Duration::ZERO, 100).await.unwrap_err();
    assert!(matches!(zero, AuthError::Invalid { .. }), "{zero:?}");
}

#[tokio::test]
async fn an_address_is_one_user_of_an_organization() {
    let platform = Platform::set().await;
    let users = platform.auth.users();
    let ada = platform.user(platform.acme, "Ada@example.com").await;
    let again = users.create(platform.acme, &NewUser::invited("ada@EXAMPLE.com")).await.unwrap_err();
    assert!(matches!(again, AuthError::EmailTaken), "{again:?}");
    assert_eq!(again.status().as_u16(), 409);
    let other =
        users.create(platform.globex, &NewUser::invited("ada@example.com").role(UserRole::Owner)).await.unwrap();
    assert_eq!((&other.status, &other.role), (&UserStatus::Invited, &UserRole::Owner));
    assert_eq!(users.by_email("ADA@example.com").await.unwrap(), [ada.clone(), other]);
    assert!(users.by_email("not an address").await.unwrap().is_empty());
    assert_eq!(users.find(platform.acme, ada.id).await.unwrap(), ada);
    let nowhere = users.create(cgk::OrganizationId(uuid()), &NewUser::active("x@example.com")).await;
    assert!(is_not_found(nowhere));
    let invalid = users.create(platform.acme, &NewUser::active("x")).await.unwrap_err();
    assert_eq!(invalid.status().as_u16(), 422);
}

fn uuid() -> uuid::Uuid {
    uuid::Uuid::new_v4()
}

/// Inside a tenant the platform's tables are not asked, and the error is the library's.
#[tokio::test]
async fn inside_a_tenant_it_is_refused() {
    let platform = Platform::set().await;
    let user = platform.user(platform.acme, "ada@example.com").await;
    let (_, token) = platform.auth.sessions().issue(platform.acme, user.id, &ClientInfo::default()).await.unwrap();
    let slug = "acme".parse().unwrap();
    let outcome = platform
        .stage
        .db
        .with_tenant(&slug, async |tx| {
            tx.query("table marks", &[]).await?;
            Ok(platform.auth.sessions().verify(token.reveal()).await)
        })
        .await
        .unwrap();
    let AuthError::Database(error) = outcome.unwrap_err() else { panic!("another error") };
    assert_eq!(error.code(), "CGK0509");
    assert!(platform.auth.sessions().verify(token.reveal()).await.is_ok());
}
