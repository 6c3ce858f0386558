//! Accounts at providers of sign-ins: to whom they are linked, who sees them, and what is stored of their tokens.

use crate::stage::{Stage, must_end, slug};
use cgk::{
    UserId,
    auth::ApiKeyId,
    platform::{Actor, DuplicateUsers, PlatformError, UserAccountId, UserAccounts},
    secret::{SecretError, SecretKeys, SecretPlace, Secrets, key_id},
};
use uuid::Uuid;

const ISSUER: &str = "https://accounts.example.com";
const OLD: &str = "2025:MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";
const NEW: &str = "2026:YWJjZGVmMDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODk=";
const TOKENS: &[u8] = br#"{"refresh_token":"1//0g-hidden"}"#;

async fn with_users() -> (Stage, UserId, UserId) {
    let stage = Stage::set().await;
    let ann = stage.user(stage.acme, "ann@example.com", "owner").await;
    let ben = stage.user(stage.globex, "ben@example.com", "owner").await;
    (stage, ann, ben)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_is_one_users_and_is_found_by_its_subject() {
    let (stage, ann, ben) = with_users().await;
    let accounts = UserAccounts::new(&stage.db).acting_as(Actor::Operator("eva".into()));
    let linked = accounts.link(ann, ISSUER, "17", Some("ann@work.example")).await.unwrap();
    assert_eq!((linked.user_id, linked.email.as_deref(), linked.has_tokens), (ann, Some("ann@work.example"), false));
    assert_eq!(accounts.find(ISSUER, "17").await.unwrap().as_ref(), Some(&linked));
    // Again with another address, and again without one: the same account.
    let again = accounts.link(ann, ISSUER, "17", Some("ann@home.example")).await.unwrap();
    assert_eq!((again.id, again.email.as_deref()), (linked.id, Some("ann@home.example")));
    assert_eq!(accounts.link(ann, ISSUER, "17", None).await.unwrap(), again);
    let refused = accounts.link(ben, ISSUER, "17", None).await.unwrap_err();
    assert!(matches!(refused, PlatformError::AccountLinked) && refused.status() == 409, "{refused:?}");
    // The same subject at another provider, and another subject at the same one, are other accounts.
    accounts.link(ben, "github", "17", None).await.unwrap();
    let second = accounts.link(ann, ISSUER, "18", None).await.unwrap();
    assert_eq!(accounts.list(ann).await.unwrap(), [again, second.clone()]);
    for (provider, subject) in [(ISSUER, "170"), ("https://accounts.example.co", "17"), (ISSUER, "\0")] {
        assert_eq!(accounts.find(provider, subject).await.unwrap(), None);
    }
    accounts.unlink(ann, second.id).await.unwrap();
    for (user, account) in [(ann, second.id), (ben, linked.id)] {
        let refused = accounts.unlink(user, account).await.unwrap_err();
        assert!(matches!(refused, PlatformError::NotFound { what: "account" }), "{refused:?}");
    }
    // The log has each change once, and neither subject nor address.
    let log = "select action, to_jsonb(a)::text from audit_events a order by occurred_at";
    let rows = stage.rows(log, &[]).await;
    let actions: Vec<&str> = rows.iter().map(|row| row.get(0)).collect();
    let linked = "cgk.user_account.linked";
    let changed = "cgk.user_account.address_changed";
    assert_eq!(actions, [linked, changed, linked, linked, "cgk.user_account.unlinked"]);
    assert!(rows.iter().all(|row| !row.get::<_, &str>(1).contains("ann@") && row.get::<_, &str>(1).contains("eva")));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_linked_and_who_may_link() {
    let (stage, ann, ben) = with_users().await;
    let accounts = UserAccounts::new(&stage.db);
    let long = "s".repeat(256);
    for (provider, subject, email) in [
        ("", "1", None),
        (ISSUER, "", None),
        (ISSUER, long.as_str(), None),
        (ISSUER, "a\0", None),
        (ISSUER, "1", Some("")),
    ] {
        let refused = accounts.link(ann, provider, subject, email).await.unwrap_err();
        assert!(matches!(refused, PlatformError::Invalid { .. }), "{refused:?}");
    }
    let nobody = accounts.link(UserId(Uuid::nil()), ISSUER, "1", None).await.unwrap_err();
    assert!(matches!(nobody, PlatformError::NotFound { what: "user" }), "{nobody:?}");
    for actor in [Actor::User(ben), Actor::ApiKey(ApiKeyId(Uuid::nil()))] {
        let other = accounts.clone().acting_as(actor);
        for refused in [
            other.link(ann, ISSUER, "1", None).await.map(drop),
            other.list(ann).await.map(drop),
            other.unlink(ann, UserAccountId(Uuid::nil())).await,
        ] {
            assert!(matches!(refused, Err(PlatformError::Forbidden { .. })), "{refused:?}");
        }
    }
    let own = accounts.clone().acting_as(Actor::User(ann));
    own.link(ann, ISSUER, "1", None).await.unwrap();
    // A user that is deleted has no accounts.
    stage.run("delete from memberships; delete from users where email = 'ann@example.com'").await;
    assert_eq!(accounts.find(ISSUER, "1").await.unwrap(), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_sixteen_who_link_one_account_for_two_users_one_user_has_it() {
    let stage = Stage::set_with_pool(8).await;
    let ann = stage.user(stage.acme, "ann@example.com", "owner").await;
    let ben = stage.user(stage.globex, "ben@example.com", "owner").await;
    let accounts = UserAccounts::new(&stage.db);
    let calls = (0..16).map(|number| accounts.link(if number % 2 == 0 { ann } else { ben }, ISSUER, "17", None));
    let outcomes = must_end(futures_util::future::join_all(calls)).await;
    let mut owners = Vec::new();
    for outcome in outcomes {
        match outcome {
            Ok(account) => owners.push(account.user_id),
            Err(PlatformError::AccountLinked) => {}
            Err(other) => panic!("{other:?}"),
        }
    }
    assert_eq!(owners.len(), 8);
    assert!(owners.iter().all(|owner| *owner == owners[0]));
    assert_eq!(stage.count("select count(*) from audit_events").await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_are_stored_sealed_for_their_account_and_get_another_key() {
    let (stage, ann, ben) = with_users().await;
    let accounts = UserAccounts::new(&stage.db);
    let (first, second) =
        (accounts.link(ann, ISSUER, "1", None).await.unwrap(), accounts.link(ben, ISSUER, "2", None).await.unwrap());
    let keys = |text: &str| text.parse::<SecretKeys>().unwrap();
    let secrets = Secrets::new(&stage.db, keys(OLD));
    assert!(secrets.account_tokens(first.id).await.unwrap().is_none());
    secrets.set_account_tokens(first.id, Some(TOKENS)).await.unwrap();
    assert_eq!(secrets.account_tokens(first.id).await.unwrap().unwrap().reveal(), TOKENS);
    assert!(accounts.find(ISSUER, "1").await.unwrap().unwrap().has_tokens);
    let stored: Vec<u8> = stage.rows("select tokens from user_accounts where tokens is not null", &[]).await[0].get(0);
    assert!(key_id(&stored) == Some("2025") && !stored.windows(6).any(|part| part == b"hidden"));
    let place = SecretPlace::of_row("user_accounts.tokens", first.id.uuid());
    assert_eq!(keys(OLD).open(place, &stored).unwrap().reveal(), TOKENS);
    // Copied to another account it does not open; and the database takes nothing that is not sealed.
    stage.run("update user_accounts b set tokens = a.tokens, tokens_key_id = a.tokens_key_id from user_accounts a where a.subject = '1' and b.subject = '2'").await;
    let moved = secrets.account_tokens(second.id).await.unwrap_err();
    assert!(matches!(moved, SecretError::NotOpened), "{moved:?}");
    let plain = "update public.user_accounts set tokens = convert_to(repeat('a plain token ', 4), 'UTF8'), tokens_key_id = '2025'";
    let refused = stage.db.platform().execute(plain, &[]).await.unwrap_err();
    assert_eq!(refused.sqlstate().unwrap().code(), "23514");
    let nobody = secrets.set_account_tokens(UserAccountId(Uuid::nil()), Some(TOKENS)).await.unwrap_err();
    assert!(matches!(nobody, SecretError::NotFound), "{nobody:?}");

    let both = Secrets::new(&stage.db, keys(&format!("{NEW},{OLD}")));
    let rotation = both.rotate().await.unwrap();
    assert_eq!((rotation.resealed, rotation.current, rotation.unopened), (1, 0, 1));
    let new = Secrets::new(&stage.db, keys(NEW));
    assert_eq!(new.account_tokens(first.id).await.unwrap().unwrap().reveal(), TOKENS);
    assert_eq!(new.rotate().await.unwrap().current, 1);
    new.set_account_tokens(first.id, None).await.unwrap();
    assert!(new.account_tokens(first.id).await.unwrap().is_none());
    // A database from before has none, and a rotation there is no error.
    stage.run("drop table user_accounts").await;
    assert_eq!(new.rotate().await.unwrap().unopened, 0);
    let missing = accounts.find(ISSUER, "1").await.unwrap_err();
    assert!(matches!(missing, PlatformError::TablesMissing { .. }), "{missing:?}");
}

/// Two users of one person become one, and their accounts with them.
#[tokio::test(flavor = "multi_thread")]
async fn accounts_move_with_a_user_that_is_merged() {
    let (stage, ann, _) = with_users().await;
    let duplicate = stage.user(stage.globex, "ANN@example.com", "member").await;
    let accounts = UserAccounts::new(&stage.db);
    let linked = accounts.link(duplicate, ISSUER, "17", None).await.unwrap();
    let secrets = Secrets::new(&stage.db, OLD.parse().unwrap());
    secrets.set_account_tokens(linked.id, Some(TOKENS)).await.unwrap();
    DuplicateUsers::new(&stage.db).merge(duplicate, ann).await.unwrap();
    assert_eq!(accounts.find(ISSUER, "17").await.unwrap().unwrap().user_id, ann);
    assert_eq!(secrets.account_tokens(linked.id).await.unwrap().unwrap().reveal(), TOKENS);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_neither_reads_nor_writes_accounts() {
    let attacks = [
        "select id from public.user_accounts",
        "select count(*) from public.user_accounts",
        "insert into public.user_accounts (user_id, provider, subject) select id, 'p', 's' from public.users",
        "update public.user_accounts set subject = '1'",
        "delete from public.user_accounts",
        "truncate public.user_accounts",
        "alter table public.user_accounts disable row level security",
    ];
    let (stage, ann, _) = with_users().await;
    UserAccounts::new(&stage.db).link(ann, ISSUER, "17", None).await.unwrap();
    for attack in attacks {
        let refused = stage.db.tenant(&slug("acme")).execute(attack, &[]).await.unwrap_err();
        assert_eq!(refused.sqlstate().unwrap().code(), "42501", "{attack}");
    }
    // The control: with the right and without the policy the row is there.
    stage.run("grant select on user_accounts to public; alter table user_accounts disable row level security").await;
    assert_eq!(stage.db.tenant(&slug("acme")).query(attacks[0], &[]).await.unwrap().len(), 1);

    // Where the search path keeps tenants apart, the login inside a tenant sees none.
    let stage = Stage::set_path_mode().await;
    let ann = stage.user(stage.acme, "ann@example.com", "owner").await;
    UserAccounts::new(&stage.db).link(ann, ISSUER, "17", None).await.unwrap();
    assert_eq!(stage.db.tenant(&slug("acme")).query(attacks[0], &[]).await.unwrap().len(), 0);
    assert_eq!(stage.db.platform().query(attacks[0], &[]).await.unwrap().len(), 1);
    let refused = stage.db.tenant(&slug("acme")).execute(attacks[2], &[]).await.unwrap_err();
    assert_eq!(refused.sqlstate().unwrap().code(), "42501");
}
