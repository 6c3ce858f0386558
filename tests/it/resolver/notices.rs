//! What the database tells of a change, and of what it does not: the triggers of migration 010.

use crate::{auth::platform::Platform, support::patience::must_end};
use cgk::{
    Listener,
    auth::{ClientInfo, NewApiKey},
    ident::Ident,
};

/// A program that listens beside the service.
struct Ear {
    platform: Platform,
    listener: Listener,
}

impl Ear {
    async fn set() -> Self {
        let platform = Platform::set().await;
        let listener = platform.stage.db.listen(&[Ident::new("cgk_changes").unwrap()]).await.unwrap();
        Self { platform, listener }
    }

    /// The notices that statements cause.
    async fn told(&mut self, sql: &str) -> Vec<String> {
        self.platform.stage.sql(sql).await;
        self.platform.stage.sql("notify cgk_changes, 'end'").await;
        let mut told = Vec::new();
        loop {
            let notice = must_end("the mark", self.listener.recv()).await.unwrap();
            match notice.payload() {
                "end" => return told,
                payload => told.push(payload.to_owned()),
            }
        }
    }
}

#[tokio::test]
async fn what_lets_in_or_keeps_out_is_told_and_nothing_else() {
    let mut ear = Ear::set().await;
    let acme = ear.platform.acme;
    let user = ear.platform.user(acme, "ada@example.com").await;
    let (_, session) = ear.platform.auth.sessions().issue(acme, user.id, &ClientInfo::default()).await.unwrap();
    let (_, key) = ear.platform.auth.api_keys().create(acme, &NewApiKey::named("x")).await.unwrap();
    ear.told("select 1").await;
    for (sql, notices, marks) in [
        ("insert into organizations (slug, name) values ('a', 'x'), ('b', 'x')", 1, 2),
        ("update organizations set status = 'active' where slug = 'a'", 1, 2),
        // Both names.
        ("update organizations set slug = 'c' where slug = 'a'", 1, 3),
        ("update organizations set id = gen_random_uuid() where slug = 'c'", 1, 3),
        ("update organizations set name = 'y', settings = '{\"a\": 1}'", 0, 0),
        ("update organizations set status = status, slug = slug", 0, 0),
        ("update organizations set status = 'suspended' where slug = 'none'", 0, 0),
        ("delete from organizations where slug in ('b', 'c')", 1, 4),
        ("update users set role = 'admin'", 1, 1),
        ("update users set password_hash = '$argon2id$' || repeat('x', 30)", 0, 0),
        ("update api_keys set last_used_at = now()", 0, 0),
        ("update api_keys set scopes = '{a}'", 1, 1),
        ("update api_keys set revoked_at = now()", 1, 1),
        // It was dead already.
        ("delete from api_keys", 0, 0),
        ("update sessions set user_agent = 'x'", 0, 0),
        ("update sessions set expires_at = expires_at - interval '1 hour'", 1, 1),
        ("update sessions set token_hash = sha256('other')", 1, 2),
        ("begin; update sessions set revoked_at = now(); rollback", 0, 0),
        ("delete from sessions", 1, 1),
        ("delete from users", 1, 1),
    ] {
        let told = ear.told(sql).await;
        assert_eq!(told.len(), notices, "{sql}: {told:?}");
        let found: usize = told.iter().map(|payload| payload.split(',').count()).sum();
        assert_eq!(found, marks, "{sql}: {told:?}");
        for payload in told {
            assert!(payload.split(',').all(|mark| mark.len() == 4), "{payload}");
            assert!(
                !payload.contains("acme") && !payload.contains(session.reveal()) && !payload.contains(key.reveal())
            );
        }
    }
    // An organization with all that is its own: each table tells its own.
    let last = "insert into organizations (slug, name, status) values ('last', 'x', 'active') returning id";
    let last = cgk::OrganizationId(ear.platform.stage.watch.query_one(last, &[]).await.unwrap().get(0));
    ear.told("select 1").await;
    let user = ear.platform.user(last, "ada@example.com").await;
    ear.platform.auth.sessions().issue(last, user.id, &ClientInfo::default()).await.unwrap();
    ear.platform.auth.api_keys().create(last, &NewApiKey::named("x")).await.unwrap();
    assert_eq!(ear.told("delete from organizations where slug = 'last'").await.len(), 4);
    for table in ["sessions", "api_keys", "users"] {
        let told = ear.told(&format!("truncate {table} cascade")).await;
        assert_eq!(told, ["*"], "{table}");
    }
}

/// As in a bulk load, or by a program that replicates rows with statements.
#[tokio::test]
async fn changes_of_a_replica_are_told() {
    let mut ear = Ear::set().await;
    let change = |status: &str| {
        format!(
            "set session_replication_role = replica;
             update organizations set status = '{status}' where slug = 'acme'; reset session_replication_role"
        )
    };
    assert_eq!(ear.told(&change("suspended")).await.len(), 1);
    // The control: a trigger in the mode that it has when nothing is said.
    ear.platform.stage.sql("alter table organizations enable trigger organizations_notify_update").await;
    assert_eq!(ear.told(&change("active")).await, [""; 0]);
}

#[tokio::test]
async fn a_bulk_change_is_one_notice() {
    let mut ear = Ear::set().await;
    let insert = |from: usize, to: usize| {
        format!(
            "insert into organizations (slug, name, status) select 't' || n, 'x', 'active' from generate_series({from}, {to}) n"
        )
    };
    let told = ear.told(&insert(1, 300)).await;
    assert_eq!(told.len(), 1);
    // Two names may have one mark.
    assert!((290..=300).contains(&told[0].split(',').count()), "{told:?}");
    assert_eq!(ear.told(&insert(1001, 4000)).await, ["*"]);
    assert_eq!(ear.told("update organizations set status = 'suspended' where slug like 't%'").await, ["*"]);
    assert_eq!(ear.told("update organizations set status = 'suspended' where slug like 't%'").await, [""; 0]);
    // The same twice in a transaction is told once.
    let twice = "begin; update organizations set status = 'active' where slug = 't1';
         update organizations set status = 'suspended' where slug = 't1'; commit";
    assert_eq!(ear.told(twice).await.len(), 1);
}

#[tokio::test]
async fn whoever_changes_a_row_needs_no_right_on_the_functions() {
    let ear = Ear::set().await;
    // The service's login, and a login that was given the table alone.
    ear.platform.db.platform().execute("update users set role = 'member'", &[]).await.unwrap();
    let role = format!("clerk_{:08x}", rand::random::<u32>());
    ear.platform
        .stage
        .sql(&format!(
            "create role {role}; grant usage on schema public to {role}; grant select, update on organizations to {role};
             create policy clerk on organizations to {role} using (true);
             set role {role}; set search_path = pg_temp;
             update public.organizations set status = 'suspended' where slug = 'globex';
             reset role; reset search_path; drop owned by {role}; drop role {role}"
        ))
        .await;
    let suspended = "select count(*) from organizations where status = 'suspended'";
    assert_eq!(ear.platform.stage.number(suspended).await, 1);
}
