//! Secrets at rest: what is stored, what opens it, and how it gets another key.

use crate::{stage::Stage, support::cgk::Shell};
use cgk::{
    platform::Actor,
    secret::{SecretError, SecretKeys, Secrets, key_id},
};

const OLD: &str = "2025:MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";
const NEW: &str = "2026:YWJjZGVmMDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODk=";
const TOKEN: &[u8] = b"shpat_0123456789";

fn keys(text: &str) -> SecretKeys {
    text.parse().unwrap()
}

async fn stored(stage: &Stage, slug: &str) -> Vec<u8> {
    let sql = "select shopify_access_token from public.organizations where slug = $1";
    stage.rows(sql, &[&slug]).await[0].get(0)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sealed_value_opens_in_its_organization_and_in_no_other() {
    let stage = Stage::set().await;
    let secrets = Secrets::new(&stage.db, keys(OLD)).acting_as(Actor::Operator("ann".into()));
    assert!(secrets.shopify_access_token(stage.acme).await.unwrap().is_none());
    secrets.set_shopify(stage.acme, "acme.myshopify.com", TOKEN).await.unwrap();
    let opened = secrets.shopify_access_token(stage.acme).await.unwrap().unwrap();
    assert_eq!(opened.reveal(), TOKEN);
    let sealed = stored(&stage, "acme").await;
    assert!(!sealed.windows(TOKEN.len()).any(|part| part == TOKEN));
    assert_eq!(key_id(&sealed), Some("2025"));

    // Whoever can write to the table copies it to another organization.
    stage
        .run(
            "update public.organizations g set shopify_store_domain = 'globex.myshopify.com',
                    shopify_access_token = a.shopify_access_token, shopify_access_token_key_id = a.shopify_access_token_key_id
               from public.organizations a where a.slug = 'acme' and g.slug = 'globex'",
        )
        .await;
    let moved = secrets.shopify_access_token(stage.globex).await;
    assert!(matches!(moved, Err(SecretError::NotOpened)), "{moved:?}");
    let other = Secrets::new(&stage.db, keys(NEW)).shopify_access_token(stage.acme).await;
    assert!(matches!(&other, Err(SecretError::UnknownKey { id }) if id == "2025"), "{other:?}");
    let nobody = secrets.set_shopify(cgk::OrganizationId(uuid::Uuid::nil()), "x.myshopify.com", TOKEN).await;
    assert!(matches!(nobody, Err(SecretError::NotFound)), "{nobody:?}");

    // The log says that it was set, by whom, and not what.
    let audit = stage.rows("select to_jsonb(a)::text || coalesce((select string_agg(e::text, '') from public.domain_events e), '') from public.audit_events a", &[]).await;
    let text: String = audit[0].get(0);
    assert!(audit.len() == 1 && text.contains("cgk.secret.set") && text.contains("ann"), "{text}");
    assert!(!text.contains("shpat"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rotation_seals_everything_with_the_new_key_and_leaves_what_it_cannot_open() {
    let stage = Stage::set().await;
    let shell = |keys: &str| Shell::on(&stage.database).set("CGK_SECRET_KEYS", keys);
    Secrets::new(&stage.db, keys(OLD)).set_shopify(stage.acme, "acme.myshopify.com", TOKEN).await.unwrap();
    // Sealed by somebody else.
    stage
        .run(
            "update public.organizations set shopify_store_domain = 'globex.myshopify.com',
                    shopify_access_token = decode(repeat('ab', 40), 'hex'), shopify_access_token_key_id = 'own' where slug = 'globex'",
        )
        .await;
    let both = format!("{NEW},{OLD}");
    let answer = shell(&both).run(&["secret:rotate", "--json", "-q"]);
    let left = format!(r#"[{{"column":"organizations.shopify_access_token","row":"{}","key":null}}]"#, stage.globex);
    let expected = format!(r#""key":"2026","resealed":1,"current":0,"unopened":1,"left":{left},"exit":4"#);
    assert!(answer.code == 4 && answer.stdout.contains(&expected), "{} {}", answer.stdout, answer.stderr);
    // With the new key alone it opens; again there is nothing to do.
    let secrets = Secrets::new(&stage.db, keys(NEW));
    assert_eq!(secrets.shopify_access_token(stage.acme).await.unwrap().unwrap().reveal(), TOKEN);
    let key: String =
        stage.rows("select shopify_access_token_key_id from public.organizations where slug = 'acme'", &[]).await[0]
            .get(0);
    assert_eq!(key, "2026");
    let again = secrets.rotate().await.unwrap();
    assert_eq!((again.resealed, again.current, again.unopened), (0, 1, 1));
    assert_eq!(stored(&stage, "globex").await, vec![0xab; 40]);

    for (text, code) in [("", 2), ("hidden-key", 2), ("a:hidden-key", 2)] {
        let answer = shell(text).run(&["secret:rotate"]);
        assert!(answer.code == code && answer.stderr.contains("CGK_SECRET_KEYS"), "{}", answer.stderr);
        assert!(!answer.stderr.contains("hidden-key"), "{}", answer.stderr);
    }
}

/// A key of the same id with other bytes, and a key that is not here: neither is rotated, nor counted as if it were. The answer says
/// where they are, and everything else gets the new key.
#[tokio::test(flavor = "multi_thread")]
async fn what_another_key_has_sealed_is_told_and_the_rest_is_rotated() {
    let stage = Stage::set().await;
    let shell = |keys: &str| Shell::on(&stage.database).set("CGK_SECRET_KEYS", keys);
    let ben = stage.user(stage.acme, "ben@example.com", "member").await;
    let accounts = cgk::platform::UserAccounts::new(&stage.db);
    let unknown = format!("2024:{}", OLD.split_once(':').unwrap().1);
    let same_id = format!("2026:{}", OLD.split_once(':').unwrap().1);
    Secrets::new(&stage.db, keys(&same_id)).set_shopify(stage.globex, "globex.myshopify.com", TOKEN).await.unwrap();
    Secrets::new(&stage.db, keys(OLD)).set_shopify(stage.acme, "acme.myshopify.com", TOKEN).await.unwrap();
    let mut ids = Vec::new();
    for (subject, with) in [("1", unknown.as_str()), ("2", OLD), ("3", NEW)] {
        let account = accounts.link(ben, "https://id.example", subject, None).await.unwrap().id;
        Secrets::new(&stage.db, keys(with)).set_account_tokens(account, Some(TOKEN)).await.unwrap();
        ids.push(account);
    }
    let both = format!("{NEW},{OLD}");
    let answer = shell(&both).run(&["secret:rotate"]);
    assert_eq!(answer.code, 4, "{}", answer.stderr);
    let lines: Vec<&str> = answer.stdout.lines().collect();
    let shopify = format!("  organizations.shopify_access_token of row {}: sealed with a key 2026", stage.globex);
    let tokens = format!("  user_accounts.tokens of row {}: sealed with a key 2024", ids[0]);
    let expected = ["sealed 2 with key 2026; 1 had it", "left 2: no key here opens them", &shopify, &tokens];
    assert_eq!(lines, expected, "{}", answer.stderr);
    assert!(answer.stderr.contains("CGK_SECRET_KEYS"), "{}", answer.stderr);
    let rotation = Secrets::new(&stage.db, keys(NEW)).rotate().await.unwrap();
    assert_eq!((rotation.resealed, rotation.current, rotation.unopened), (0, 3, 2));
    let left: Vec<_> = rotation.left.iter().map(|one| (one.row, one.key.as_deref())).collect();
    assert_eq!(left, [(stage.globex.uuid(), Some("2026")), (ids[0].uuid(), Some("2024"))]);
    // The control: with the key that has sealed it.
    let rotation = Secrets::new(&stage.db, keys(&format!("{NEW},{unknown}"))).rotate().await.unwrap();
    assert_eq!((rotation.resealed, rotation.current, rotation.unopened), (1, 3, 1));
}

/// A rotation beside a change: the change stays.
#[tokio::test(flavor = "multi_thread")]
async fn a_secret_that_is_set_meanwhile_is_not_set_back() {
    let stage = Stage::set().await;
    let old = Secrets::new(&stage.db, keys(OLD));
    old.set_shopify(stage.acme, "acme.myshopify.com", TOKEN).await.unwrap();
    let mut holder = crate::stage::connect(&stage.database).await;
    let open = holder.transaction().await.unwrap();
    // What the service sets meanwhile, sealed with the old key, not committed yet.
    let place = cgk::secret::SecretPlace::new("organizations.shopify_access_token", stage.acme);
    let sealed = keys(OLD).seal(place, b"newer").unwrap();
    open.execute("update public.organizations set shopify_access_token = $1 where id = $2", &[&sealed, &stage.acme])
        .await
        .unwrap();
    let rotating = tokio::spawn({
        let secrets = Secrets::new(&stage.db, keys(&format!("{NEW},{OLD}")));
        async move { secrets.rotate().await.unwrap() }
    });
    let waiting =
        "select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'";
    crate::stage::must_end(async { while stage.count(waiting).await == 0 {} }).await;
    open.commit().await.unwrap();
    assert_eq!(crate::stage::must_end(rotating).await.unwrap().resealed, 0);
    assert_eq!(old.shopify_access_token(stage.acme).await.unwrap().unwrap().reveal(), b"newer");
}
