//! API keys: made, verified, rotated, listed, revoked, ended and purged; their use noted now and then.

use super::platform::{Platform, is_not_found, reason};
use cgk::auth::{ApiKeyRotation, AuthError, AuthSettings, NewApiKey, Rejection};
use std::time::Duration;

const DAY: Duration = Duration::from_secs(24 * 3600);

#[tokio::test]
async fn a_key_says_whose_program_asks_until_it_is_revoked() {
    let platform = Platform::set().await;
    let keys = platform.auth.api_keys();
    let wanted = NewApiKey::named("deploy").scope("orders:read").scope("orders:write");
    let (made, token) = keys.create(platform.acme, &wanted).await.unwrap();
    assert_eq!((made.name.as_str(), made.expires_at, made.last_used_at), ("deploy", None, None));
    let key = keys.verify(token.reveal()).await.unwrap();
    assert_eq!((key.id, key.tenant.id, key.tenant.slug.as_str()), (made.id, platform.acme, "acme"));
    assert!(key.has_scope("orders:read") && key.has_scope("orders:write") && !key.has_scope("orders"));
    let list = keys.list(platform.acme).await.unwrap();
    assert_eq!((list.len(), list[0].id, list[0].scopes.len()), (1, made.id, 2));
    assert!(list[0].last_used_at.is_some());

    // Another organization neither sees it nor ends it.
    assert!(keys.list(platform.globex).await.unwrap().is_empty());
    assert!(is_not_found(keys.revoke(platform.globex, made.id).await));
    assert!(is_not_found(keys.expire(platform.globex, made.id, DAY).await));
    assert!(is_not_found(keys.rotate(platform.globex, made.id, &ApiKeyRotation::at_once()).await));
    assert!(keys.verify(token.reveal()).await.is_ok());

    platform.stage.sql("update organizations set status = 'suspended' where slug = 'acme'").await;
    assert_eq!(reason(keys.verify(token.reveal()).await), Rejection::OrganizationInactive);
    platform.stage.sql("update organizations set status = 'active' where slug = 'acme'").await;
    keys.revoke(platform.acme, made.id).await.unwrap();
    keys.revoke(platform.acme, made.id).await.unwrap();
    assert_eq!(reason(keys.verify(token.reveal()).await), Rejection::Revoked);
    assert!(is_not_found(keys.rotate(platform.acme, made.id, &ApiKeyRotation::at_once()).await));
}

/// A key that is refused is not noted as used.
#[tokio::test]
async fn its_use_is_noted_once_in_the_interval_and_waits_for_nothing() {
    let mut settings = AuthSettings::default();
    settings.key_use_interval = Duration::from_secs(3600);
    let platform = Platform::set_with(settings).await;
    let keys = platform.auth.api_keys();
    let (made, token) = keys.create(platform.acme, &NewApiKey::named("deploy")).await.unwrap();
    let used = async || keys.list(platform.acme).await.unwrap()[0].last_used_at;
    // What writes to a row is its version.
    let version = "select xmin::text::bigint from api_keys";

    // While another transaction has the row, nobody waits, and nothing is noted.
    platform.stage.sql("begin; select from api_keys for update").await;
    assert!(keys.verify(token.reveal()).await.is_ok());
    platform.stage.sql("rollback").await;
    assert_eq!(used().await, None);

    assert!(keys.verify(token.reveal()).await.is_ok());
    let (first, written) = (used().await.unwrap(), platform.stage.number(version).await);
    for _ in 0..3 {
        assert!(keys.verify(token.reveal()).await.is_ok());
    }
    assert_eq!((used().await, platform.stage.number(version).await), (Some(first), written));
    platform.stage.sql("update api_keys set last_used_at = now() - interval '61 minutes'").await;
    assert!(keys.verify(token.reveal()).await.is_ok());
    assert!(used().await.unwrap() > first);

    platform.stage.sql("update api_keys set last_used_at = null").await;
    keys.revoke(platform.acme, made.id).await.unwrap();
    assert_eq!(reason(keys.verify(token.reveal()).await), Rejection::Revoked);
    assert_eq!(used().await, None);
}

/// As good as never: the use is noted once, and the server works the time out.
#[tokio::test]
async fn an_interval_of_ages_refuses_no_key() {
    for interval in [Duration::from_secs(200 * 366 * 24 * 3600), Duration::MAX, Duration::ZERO] {
        let mut settings = AuthSettings::default();
        settings.key_use_interval = interval;
        let platform = Platform::set_with(settings).await;
        let keys = platform.auth.api_keys();
        let (key, token) = keys.create(platform.acme, &NewApiKey::named("deploy")).await.unwrap();
        assert_eq!(keys.verify(token.reveal()).await.unwrap().id, key.id);
        let used = async || keys.list(platform.acme).await.unwrap()[0].last_used_at.unwrap();
        let first = used().await;
        keys.verify(token.reveal()).await.unwrap();
        // The control: without an interval each use is noted.
        assert_eq!(used().await == first, !interval.is_zero(), "{interval:?}");
    }
}

#[tokio::test]
async fn a_rotated_key_is_gone_at_once_or_after_the_overlap() {
    let platform = Platform::set().await;
    let keys = platform.auth.api_keys();
    let (first, first_token) =
        keys.create(platform.acme, &NewApiKey::named("deploy").scope("a").lifetime(30 * DAY)).await.unwrap();
    let rotation = ApiKeyRotation::at_once().overlap(DAY).lifetime(60 * DAY);
    let (second, second_token) = keys.rotate(platform.acme, first.id, &rotation).await.unwrap();
    assert_eq!((second.name.as_str(), &second.scopes), ("deploy", &first.scopes));
    assert!(second.expires_at.unwrap() > first.expires_at.unwrap());
    // Both, until the overlap is over.
    assert!(keys.verify(first_token.reveal()).await.is_ok() && keys.verify(second_token.reveal()).await.is_ok());
    let listed = keys.list(platform.acme).await.unwrap();
    let ends = listed.iter().find(|key| key.id == first.id).unwrap().expires_at.unwrap();
    assert!(ends < first.expires_at.unwrap() - 28 * DAY);
    // A longer overlap does not make it live longer.
    keys.rotate(platform.acme, first.id, &ApiKeyRotation::at_once().overlap(20 * DAY)).await.unwrap();
    let listed = keys.list(platform.acme).await.unwrap();
    assert_eq!(listed.iter().find(|key| key.id == first.id).unwrap().expires_at, Some(ends));
    let past = "update api_keys set created_at = now() - interval '2 days', expires_at = now() - interval '1 second' where expires_at < now() + interval '2 days'";
    platform.stage.sql(past).await;
    assert_eq!(reason(keys.verify(first_token.reveal()).await), Rejection::Expired);

    let (third, third_token) = keys.rotate(platform.acme, second.id, &ApiKeyRotation::at_once()).await.unwrap();
    assert_eq!(third.expires_at, None);
    assert_eq!(reason(keys.verify(second_token.reveal()).await), Rejection::Revoked);
    assert!(keys.verify(third_token.reveal()).await.is_ok());
    keys.expire(platform.acme, third.id, DAY).await.unwrap();
    assert!(keys.list(platform.acme).await.unwrap().iter().all(|key| key.id != third.id || key.expires_at.is_some()));
}

#[tokio::test]
async fn old_keys_are_purged_and_live_ones_stay() {
    let platform = Platform::set().await;
    let keys = platform.auth.api_keys();
    for name in ["expired", "revoked", "live", "without end"] {
        let wanted = NewApiKey::named(name);
        let wanted = if name == "without end" { wanted } else { wanted.lifetime(DAY) };
        keys.create(platform.acme, &wanted).await.unwrap();
    }
    platform
        .stage
        .sql(
            "update api_keys set created_at = now() - interval '9 days', expires_at = now() - interval '3 days' where name = 'expired';
             update api_keys set revoked_at = now() - interval '3 days' where name = 'revoked'",
        )
        .await;
    assert_eq!(keys.purge(4 * DAY, 100).await.unwrap(), 0);
    assert_eq!(keys.purge(2 * DAY, 1).await.unwrap(), 1);
    assert_eq!(keys.purge(2 * DAY, 100).await.unwrap(), 1);
    let mut left: Vec<String> = keys.list(platform.acme).await.unwrap().into_iter().map(|key| key.name).collect();
    left.sort();
    assert_eq!(left, ["live", "without end"]);
}

/// The rules of the table hold here, before the database is asked; and what passes here passes there.
#[tokio::test]
async fn a_key_that_cannot_be_stored_is_refused() {
    let platform = Platform::set().await;
    let keys = platform.auth.api_keys();
    let many = |number: usize| (0..number).fold(NewApiKey::named("x"), |key, n| key.scope(&n.to_string()));
    let wrong = [
        NewApiKey::named(""),
        NewApiKey::named("  "),
        NewApiKey::named(&"x".repeat(201)),
        NewApiKey::named("x\0"),
        NewApiKey::named("x").scope(""),
        NewApiKey::named("x").scope("a b"),
        NewApiKey::named("x").scope("a,b"),
        NewApiKey::named("x").scope(&"a".repeat(4097)),
        NewApiKey::named("x").lifetime(Duration::ZERO),
        NewApiKey::named("x").lifetime(Duration::MAX),
        many(65),
    ];
    for key in wrong {
        let error = keys.create(platform.acme, &key).await.unwrap_err();
        assert!(matches!(error, AuthError::Invalid { .. }), "{key:?}: {error:?}");
    }
    let right = [
        NewApiKey::named(&"ü".repeat(200)),
        NewApiKey::named("x").scope(&"a".repeat(4096)),
        many(64),
        NewApiKey::named("x").lifetime(DAY * 36_000),
    ];
    for key in right {
        assert!(keys.create(platform.acme, &key).await.is_ok(), "{key:?}");
    }
    assert!(is_not_found(keys.create(cgk::OrganizationId(uuid::Uuid::new_v4()), &NewApiKey::named("x")).await));
}
