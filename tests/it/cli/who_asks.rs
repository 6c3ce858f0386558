//! The commands about users, API keys and sessions, with two tenants.

use crate::support::cgk::{Answer, Shell, is_private, sql};
use cgk::{
    Db,
    auth::{Auth, AuthError, AuthSettings, ClientInfo, Rejection},
    testing::{TestDatabase, TestServer},
};
use insta::assert_snapshot;
use regex::Regex;
use serde_json::Value;
use std::{io::Write as _, process::Stdio};

/// A database with two tenants that have nobody yet.
async fn two_tenants() -> (TestDatabase, Shell, Auth, Db) {
    let database = TestServer::shared().set_up_database().await.unwrap();
    database.with_tenants(&["acme", "globex"]).await.unwrap();
    let shell = Shell::on(&database);
    let db: Db = Db::connect(database.config()).await.unwrap();
    let auth = Auth::new(&db, AuthSettings::default());
    (database, shell, auth, db)
}

/// Runs a command that must succeed, and reads its one object.
fn json(shell: &Shell, line: &str) -> Value {
    let mut words: Vec<&str> = line.split(' ').collect();
    words.push("--json");
    let answer = shell.run(&words);
    assert_eq!(answer.code, 0, "{line}: {}", answer.stderr);
    serde_json::from_str(&answer.stdout).unwrap()
}

fn ids(answer: &Value, list: &str) -> Vec<String> {
    answer[list].as_array().unwrap().iter().map(|item| item["id"].as_str().unwrap().to_owned()).collect()
}

/// Runs a command with a text on standard input.
fn with_input(shell: &Shell, line: &str, input: &str) -> Answer {
    let mut command = shell.command(&line.split(' ').collect::<Vec<_>>());
    let mut child = command.stdin(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    Answer::of(child.wait_with_output().unwrap())
}

/// A transcript without tokens and the shown characters of ids.
fn tame(text: &str) -> String {
    let token = Regex::new(r"cgk_key_[0-9A-Za-z]{49}").unwrap().replace_all(text, "cgk_key_<token>").into_owned();
    Regex::new(r"\b[0-9a-f]{8}\b").unwrap().replace_all(&token, "<id>").into_owned()
}

#[tokio::test]
async fn what_people_see() {
    let (_database, shell, ..) = two_tenants().await;
    let text = shell.transcript(&[
        "user:list acme",
        "user:create acme ada@example.com --role owner",
        "user:create acme Ada@Example.com",
        "user:create globex ada@example.com --invited",
        "user:list acme",
        "user:disable acme ADA@example.com",
        "user:disable acme ben@example.com",
        "key:list acme",
        "key:create acme --name deploy --scope orders:read --scope orders:write",
        "key:create acme --name ci -q",
        "key:create acme --name bad --scope a,b",
        "key:create acme --name bad --expires-in 90",
        "key:create acme --name bad --brand Acme",
        "key:list globex",
        "key:list nosuch",
        "session:list acme",
        "session:revoke acme --user ada@example.com",
        "session:revoke acme",
        "session:revoke acme 1234",
        "key:revoke acme xyz",
        "user:create Acme ada@example.com",
        "user:create acme nonsense --json -q",
    ]);
    assert_snapshot!(tame(&text));
}

#[tokio::test]
async fn what_programs_read() {
    let (_database, shell, auth, db) = two_tenants().await;
    let user = json(&shell, "user:create acme ada@example.com --role admin");
    assert_eq!((&user["tenant"], &user["user"]["role"], &user["exit"]), (&"acme".into(), &"admin".into(), &0.into()));
    let tenant = db.platform().find_tenant(&"acme".parse().unwrap()).await.unwrap();
    let acme = auth.users().find_by_email(tenant.id, "ADA@example.com").await.unwrap();
    assert_eq!(user["user"]["id"], acme.id.to_string());
    assert_eq!(auth.users().list(tenant.id).await.unwrap(), std::slice::from_ref(&acme));
    let other = db.platform().find_tenant(&"globex".parse().unwrap()).await.unwrap();
    assert!(matches!(auth.users().find_by_email(other.id, "ada@example.com").await, Err(AuthError::NotFound { .. })));
    assert!(auth.users().list(other.id).await.unwrap().is_empty());
    let client = ClientInfo::default().user_agent("Firefox").ip_address("192.0.2.1".parse().unwrap());
    auth.sessions().issue(acme.organization, acme.id, &client).await.unwrap();
    let key = json(&shell, "key:create acme --name deploy --scope orders:read --expires-in 90days");
    let lists = [
        ("user:list acme", "users", vec!["created_at", "email", "id", "role", "status"]),
        (
            "key:list acme",
            "keys",
            vec!["created_at", "expires_at", "id", "last_used_at", "name", "revoked_at", "scopes", "state"],
        ),
        (
            "session:list acme",
            "sessions",
            vec![
                "created_at",
                "email",
                "expires_at",
                "id",
                "ip_address",
                "revoked_at",
                "state",
                "user_agent",
                "user_id",
            ],
        ),
    ];
    let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/cli-json.md")).unwrap();
    for (line, list, keys) in lists {
        let answer = json(&shell, line);
        let found: Vec<&String> = answer[list][0].as_object().unwrap().keys().collect();
        assert_eq!(found, keys, "{line}");
        for name in found {
            assert!(page.contains(&format!("`{name}`")), "{name} is not in docs/cli-json.md");
        }
    }
    let session = &json(&shell, "session:list acme --user ada@example.com")["sessions"][0];
    assert_eq!((&session["ip_address"], &session["email"]), (&"192.0.2.1".into(), &"ada@example.com".into()));
    // The token of the answer works, and no list has it or its hash.
    let verified = auth.api_keys().verify(key["token"].as_str().unwrap()).await.unwrap();
    assert_eq!(
        (verified.id.to_string(), verified.has_scope("orders:read")),
        (key["key"]["id"].as_str().unwrap().into(), true)
    );
    let list = json(&shell, "key:list acme").to_string();
    assert!(!list.contains("cgk_key_") && !list.contains("hash"), "{list}");
    assert_eq!(json(&shell, "user:disable acme ada@example.com")["user"]["status"], "disabled");
}

/// Every command that takes an id is given each id of the other tenant: nothing is shown, changed or replaced.
#[tokio::test]
async fn nothing_of_another_tenant_is_listed_or_changed() {
    let (_database, shell, auth, _) = two_tenants().await;
    let mut tokens = Vec::new();
    for tenant in ["acme", "globex"] {
        json(&shell, &format!("user:create {tenant} ada@example.com"));
        let key = json(&shell, &format!("key:create {tenant} --name deploy"));
        let user = json(&shell, &format!("user:list {tenant}"));
        let user = ids(&user, "users")[0].parse().unwrap();
        let organization = auth.api_keys().verify(key["token"].as_str().unwrap()).await.unwrap().tenant.id;
        let (_, session) = auth.sessions().issue(organization, user, &ClientInfo::default()).await.unwrap();
        tokens.push((key["token"].as_str().unwrap().to_owned(), session.reveal().to_owned()));
    }
    let listed = |tenant: &str| -> Vec<String> {
        let parts = [("user:list", "users"), ("key:list", "keys"), ("session:list", "sessions")];
        parts.iter().flat_map(|(command, list)| ids(&json(&shell, &format!("{command} {tenant}")), list)).collect()
    };
    let (acme, globex) = (listed("acme"), listed("globex"));
    assert_eq!((acme.len(), globex.len()), (3, 3));
    assert!(acme.iter().all(|id| !globex.contains(id)));
    for id in &globex {
        for start in [id.as_str(), &id[..8]] {
            for command in ["key:revoke acme", "key:rotate acme", "session:revoke acme", "user:disable acme"] {
                let answer = shell.run(&format!("{command} {start}").split(' ').collect::<Vec<_>>());
                assert_eq!((answer.code, answer.stdout.as_str()), (1, ""), "{command} {start}: {}", answer.stderr);
                assert!(answer.stderr.contains("tenant acme has no "), "{}", answer.stderr);
            }
        }
        for command in ["session:revoke acme --user", "session:list acme --user"] {
            let answer = shell.run(&format!("{command} {id}").split(' ').collect::<Vec<_>>());
            assert_eq!((answer.code, answer.stdout.as_str()), (1, ""), "{command} {id}: {}", answer.stderr);
        }
    }
    assert_eq!((listed("acme"), listed("globex")), (acme, globex.clone()));
    for (key, session) in &tokens {
        auth.api_keys().verify(key).await.unwrap();
        auth.sessions().verify(session).await.unwrap();
    }
    // The control: the same commands with the right tenant do it, and to this tenant alone.
    json(&shell, &format!("key:revoke globex {}", &globex[1][..8]));
    json(&shell, &format!("session:revoke globex {}", globex[2]));
    let reason = |error: AuthError| error.rejection().unwrap();
    assert_eq!(reason(auth.api_keys().verify(&tokens[1].0).await.unwrap_err()), Rejection::Revoked);
    assert_eq!(reason(auth.sessions().verify(&tokens[1].1).await.unwrap_err()), Rejection::Revoked);
    json(&shell, &format!("user:disable globex {}", globex[0]));
    auth.api_keys().verify(&tokens[0].0).await.unwrap();
    auth.sessions().verify(&tokens[0].1).await.unwrap();
    // What has ended is hidden from people, and counted.
    let shown = shell.run(&["key:list", "globex"]).stdout;
    assert_eq!(shown, "1 revoked or expired key; --all lists them\n");
    assert!(shell.run(&["key:list", "globex", "--all"]).stdout.contains("revoked"));
}

#[tokio::test]
async fn a_token_is_all_of_standard_output() {
    let (_database, shell, auth, _) = two_tenants().await;
    let created = shell.run(&["key:create", "acme", "--name", "deploy", "--scope", "a", "--brand", "cgk"]);
    let old = created.stdout.strip_suffix('\n').unwrap();
    let key = auth.api_keys().verify(old).await.unwrap();
    assert!(!created.stderr.contains(old), "{}", created.stderr);
    // Rotated with an overlap both work; rotated without one the old key is refused.
    let id = key.id.to_string();
    let rotated = shell.run(&["key:rotate", "acme", &id[..8], "--overlap", "24h", "--expires-in", "90days", "-q"]);
    assert_eq!((rotated.code, rotated.stderr.as_str()), (0, ""));
    let new = rotated.stdout.strip_suffix('\n').unwrap();
    let replaced = auth.api_keys().verify(new).await.unwrap();
    assert_eq!((&replaced.name, &replaced.scopes), (&key.name, &key.scopes));
    auth.api_keys().verify(old).await.unwrap();
    let last = shell.run(&["key:rotate", "acme", &replaced.id.to_string(), "-q"]);
    auth.api_keys().verify(last.stdout.trim_end()).await.unwrap();
    let error = auth.api_keys().verify(new).await.unwrap_err();
    assert_eq!(error.rejection(), Some(Rejection::Revoked));
    // A key that has ended is not rotated, and nothing is printed that looks like a token.
    let again = shell.run(&["key:rotate", "acme", &replaced.id.to_string()]);
    assert_eq!((again.code, again.stdout.as_str()), (1, ""), "{}", again.stderr);
    // Of a service with a name of its own.
    let own = shell.run(&["key:create", "acme", "--name", "x", "--brand", "shop", "-q"]).stdout;
    assert!(own.starts_with("shop_key_"), "{own}");
}

#[tokio::test]
async fn a_password_is_read_from_standard_input_alone() {
    let (_database, shell, auth, _) = two_tenants().await;
    let created = with_input(&shell, "user:create acme ada@example.com --password-stdin", "correct horse\n");
    assert_eq!(created.code, 0, "{}", created.stderr);
    assert!(!created.stdout.contains("horse") && !created.stderr.contains("horse"));
    let list = ids(&json(&shell, "user:list acme"), "users");
    let key = json(&shell, "key:create acme --name x");
    let acme = auth.api_keys().verify(key["token"].as_str().unwrap()).await.unwrap().tenant.id;
    let client = ClientInfo::default();
    let (session, _) = auth.sessions().sign_in(acme, "ada@example.com", "correct horse", &client).await.unwrap();
    assert_eq!(list, [session.user_id.to_string()]);
    assert!(auth.sessions().sign_in(acme, "ada@example.com", "correct horse\n", &client).await.is_err());
    for (input, says) in [("", "no password"), ("\n", "no password"), ("a b c d e\nf\n", "more than one line")] {
        let refused = with_input(&shell, "user:create acme ben@example.com --password-stdin", input);
        assert_eq!(refused.code, 2, "{input:?}");
        assert!(refused.stderr.contains(says), "{}", refused.stderr);
    }
    let short = with_input(&shell, "user:create acme ben@example.com --password-stdin", "short\n");
    assert!(short.code == 2 && short.stderr.contains("too short"), "{}", short.stderr);
    // There is no flag that takes it as an argument.
    assert_eq!(shell.run(&["user:create", "acme", "ben@example.com", "--password-stdin=hunter42"]).code, 2);
    assert_eq!(ids(&json(&shell, "user:list acme"), "users").len(), 1);
}

/// In a shared set of one's own, in a database that is not set up, and as a role without rights.
#[tokio::test]
async fn a_database_without_these_tables_is_named() {
    let commands = [
        "user:list acme",
        "user:create acme a@b",
        "user:disable acme a@b",
        "key:list acme",
        "key:create acme --name x",
        "key:rotate acme 0190a0b0-0000-7000-8000-000000000001",
        "key:revoke acme 0190a0b0-0000-7000-8000-000000000001",
        "session:list acme",
        "session:revoke acme 0190a0b0-0000-7000-8000-000000000001",
    ];
    let database = TestServer::shared().database().await.unwrap();
    let shell = Shell::on(&database);
    shell.write_migrations();
    let each = |says: &str| {
        for line in commands {
            let answer = shell.run(&line.split(' ').collect::<Vec<_>>());
            assert_eq!((answer.code, answer.stdout.as_str()), (1, ""), "{line}: {}", answer.stderr);
            assert!(answer.stderr.contains(says) && answer.stderr.contains("help: "), "{line}: {}", answer.stderr);
        }
    };
    each("CGK0302");
    assert_eq!(shell.run(&["setup:database"]).code, 0);
    assert_eq!(shell.run(&["tenant:create", "acme"]).code, 0);
    each("need the bundled shared tables");
    // The control: with the tables the same database has them.
    for name in ["users", "sessions", "api_keys", "magic_links"] {
        let new = shell.run(&["migrate:new", name, "--public", "--from-builtin", name]);
        assert_eq!(new.code, 0, "{}", new.stderr);
    }
    sql(
        &database,
        "create function public.set_updated_at() returns trigger language plpgsql
           as $$ begin new.updated_at := pg_catalog.now(); return new; end $$",
    )
    .await;
    let migrated = shell.run(&["migrate", "--public"]);
    assert_eq!(migrated.code, 0, "{}", migrated.stderr);
    assert_eq!(json(&shell, "key:create acme --name x")["exit"], 0);
    if is_private() {
        let role = database.name();
        sql(&database, &format!("create role {role} login")).await;
        let answer = Shell::as_role(&database, Some(role)).run(&["key:list", "acme"]);
        assert!(answer.code == 1 && answer.stderr.contains("42501"), "{}", answer.stderr);
        sql(&database, &format!("drop role {role}")).await;
    }
}
