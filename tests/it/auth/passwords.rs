//! Sign-in by password: compared, the hash renewed, and never a session for a password that was changed meanwhile.

use super::platform::{Platform, reason};
use crate::stage::run;
use cgk::auth::{AuthError, ClientInfo, NewUser, Rejection, UserStatus};

/// Argon2id of "correct horse" with 64 KiB, once, one lane: weaker than today's default.
const WEAK: &str = "$argon2id$v=19$m=64,t=1,p=1$c2FsdHNhbHRzYWx0$";

#[tokio::test]
async fn a_password_signs_in_and_a_wrong_one_does_not() {
    let platform = Platform::set().await;
    let (sessions, users, client) = (platform.auth.sessions(), platform.auth.users(), ClientInfo::default());
    let ada = NewUser::active("Ada@example.com").password("correct horse");
    let ada = users.create(platform.acme, &ada).await.unwrap();
    platform.user(platform.acme, "without@example.com").await;
    let (session, token) = sessions.sign_in(platform.acme, "ada@EXAMPLE.com", "correct horse", &client).await.unwrap();
    assert_eq!((session.user_id, session.tenant.id), (ada.id, platform.acme));
    assert_eq!(sessions.verify(token.reveal()).await.unwrap(), session);
    for (email, password) in [
        ("ada@example.com", "Correct horse"),
        ("ada@example.com", ""),
        ("ada@example.com", &"x".repeat(100_000)),
        ("without@example.com", "correct horse"),
        ("unknown@example.com", "correct horse"),
        ("no address", "correct horse"),
    ] {
        let outcome = sessions.sign_in(platform.acme, email, password, &client).await;
        assert_eq!(reason(outcome), Rejection::WrongPassword, "{email}");
    }
    // In the other organization there is no such user.
    let outcome = sessions.sign_in(platform.globex, "ada@example.com", "correct horse", &client).await;
    assert_eq!(reason(outcome), Rejection::WrongPassword);

    // What is wrong with the user is told behind the right password only.
    users.set_status(platform.acme, ada.id, &UserStatus::Disabled).await.unwrap();
    let outcome = sessions.sign_in(platform.acme, "ada@example.com", "correct horse", &client).await;
    assert_eq!(reason(outcome), Rejection::UserInactive);
    let outcome = sessions.sign_in(platform.acme, "ada@example.com", "wrong", &client).await;
    assert_eq!(reason(outcome), Rejection::WrongPassword);
    assert_eq!(reason(sessions.verify(token.reveal()).await), Rejection::Revoked);
}

#[tokio::test]
async fn a_new_password_ends_the_sessions_and_the_old_password() {
    let platform = Platform::set().await;
    let (sessions, users, client) = (platform.auth.sessions(), platform.auth.users(), ClientInfo::default());
    let ada = users.create(platform.acme, &NewUser::active("ada@example.com").password("correct horse")).await.unwrap();
    let (_, token) = sessions.sign_in(platform.acme, "ada@example.com", "correct horse", &client).await.unwrap();
    for (password, why) in [("Tiny7", "too short"), (&"x".repeat(1025), "longer")] {
        let error = users.set_password(platform.acme, ada.id, password).await.unwrap_err();
        assert!(matches!(error, AuthError::Invalid { why: found, .. } if found.contains(why)), "{error:?}");
        assert!(!format!("{error:?} {error}").contains(password));
    }
    assert!(sessions.verify(token.reveal()).await.is_ok());
    users.set_password(platform.acme, ada.id, "battery staple").await.unwrap();
    assert_eq!(reason(sessions.verify(token.reveal()).await), Rejection::Revoked);
    let outcome = sessions.sign_in(platform.acme, "ada@example.com", "correct horse", &client).await;
    assert_eq!(reason(outcome), Rejection::WrongPassword);
    assert!(sessions.sign_in(platform.acme, "ada@example.com", "battery staple", &client).await.is_ok());
}

/// A hash of older settings is replaced by the sign-in; a second one replaces nothing.
#[tokio::test]
async fn a_weak_hash_is_renewed_by_the_sign_in() {
    let platform = Platform::set().await;
    let (sessions, client) = (platform.auth.sessions(), ClientInfo::default());
    platform.user(platform.acme, "ada@example.com").await;
    platform.stage.watch.execute("update users set password_hash = $1", &[&weak("correct horse")]).await.unwrap();
    let stored = async || -> String {
        platform.stage.watch.query_one("select password_hash from users", &[]).await.unwrap().get(0)
    };
    let wrong = sessions.sign_in(platform.acme, "ada@example.com", "wrong horse", &client).await;
    assert_eq!(reason(wrong), Rejection::WrongPassword);
    assert!(stored().await.starts_with(WEAK));
    let (session, token) = sessions.sign_in(platform.acme, "ada@example.com", "correct horse", &client).await.unwrap();
    assert_eq!(sessions.verify(token.reveal()).await.unwrap(), session);
    let renewed = stored().await;
    assert!(renewed.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{renewed}");
    assert!(sessions.sign_in(platform.acme, "ada@example.com", "correct horse", &client).await.is_ok());
    assert_eq!(stored().await, renewed);
    // A hash that this library cannot read lets nobody in.
    platform.stage.sql("update users set password_hash = '$2b$12$abcdefghijklmnopqrstuu'").await;
    let foreign = sessions.sign_in(platform.acme, "ada@example.com", "correct horse", &client).await;
    assert_eq!(reason(foreign), Rejection::WrongPassword);
}

/// The password is changed between the comparison and the session: no session, and the new hash stays.
#[tokio::test]
async fn a_password_changed_meanwhile_gets_no_session() {
    for hash in [None, Some(weak("correct horse"))] {
        let platform = Platform::set().await;
        let users = platform.auth.users();
        let ada = NewUser::active("ada@example.com").password("correct horse");
        users.create(platform.acme, &ada).await.unwrap();
        if let Some(weak) = &hash {
            platform.stage.watch.execute("update users set password_hash = $1", &[weak]).await.unwrap();
        }
        // Whoever changes the password has the user's row; the sign-in has compared, and waits for it.
        let other =
            "update users set password_hash = '$argon2id$v=19$m=64,t=1,p=1$changed' where email = 'ada@example.com'";
        let holder = platform.holder(other).await;
        let (auth, acme) = (platform.auth.clone(), platform.acme);
        let waiting = tokio::spawn(async move {
            let client = ClientInfo::default();
            auth.sessions().sign_in(acme, "ada@example.com", "correct horse", &client).await.map(|_| ())
        });
        platform.until_waiting(1).await;
        run(&holder, "commit").await.unwrap();
        assert_eq!(reason(waiting.await.unwrap()), Rejection::WrongPassword);
        assert_eq!(platform.stage.number("select count(*) from sessions").await, 0);
        let stays = "select count(*) from users where password_hash like '%$changed'";
        assert_eq!(platform.stage.number(stays).await, 1);
    }
}

/// A hash with 64 KiB, once, one lane.
fn weak(password: &str) -> String {
    use argon2::{Algorithm, Argon2, Params, PasswordHasher, Version, password_hash::phc::PasswordHash};
    let params = Params::new(64, 1, 1, None).unwrap();
    let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
    let hash: PasswordHash = argon2.hash_password_with_salt(password.as_bytes(), b"saltsaltsalt").unwrap();
    hash.to_string()
}
