//! `Db::as_user`: what one person sees of the shared tables, and nothing else.

use crate::stage::{Stage, run, slug};
use cgk::{Db, Error, ErrorKind, UserId};
use std::collections::BTreeSet;
use uuid::Uuid;

const SLUGS: &str = "select slug from organizations";
const MEMBERS: &str = "select organization_id::text || email from cgk_user_members()";

/// Ada is at home in acme and a member of initech, which is suspended; invited into hooli. Ben is at home in globex and a member
/// of acme. Carl is in globex alone.
struct People {
    stage: Stage,
    ada: UserId,
    ben: UserId,
    carl: UserId,
}

async fn people(stage: Stage) -> People {
    stage
        .run(
            "insert into organizations (slug, name, status) values ('initech', 'I', 'suspended'), ('hooli', 'H', 'active');
             insert into invitations (organization_id, email, token_hash, expires_at)
                 select id, 'x@example.com', sha256(slug::bytea), now() + interval '1 day' from organizations;
             insert into audit_events (organization_id, actor_kind, action, resource_kind, resource_id)
                 select id, 'system', 'a', 'b', 'c' from organizations;
             insert into organization_domains (organization_id, domain, verification_token)
                 select id, slug || '.example.com', 'token-of-sixteen-characters' from organizations;
             insert into billing (organization_id, provider, provider_customer_id, plan, status)
                 select id, 'stripe', slug, 'hobby', 'active' from organizations;
             insert into api_keys (organization_id, name, key_hash) select id, 'k', sha256(slug::bytea) from organizations;",
        )
        .await;
    let ada = stage.user(stage.acme, "ada@example.com", "owner").await;
    let ben = stage.user(stage.globex, "ben@example.com", "owner").await;
    let carl = stage.user(stage.globex, "carl@example.com", "member").await;
    for (user, organization, confirmed) in [(ada, "initech", true), (ada, "hooli", false), (ben, "acme", true)] {
        join(&stage, user, organization, confirmed).await;
    }
    People { stage, ada, ben, carl }
}

async fn join(stage: &Stage, user: UserId, organization: &str, confirmed: bool) {
    let insert = "insert into memberships (organization_id, user_id, confirmed_at)
                  select id, $1, case when $3 then now() end from organizations where slug = $2";
    stage.watch.execute(insert, &[&user, &organization, &confirmed]).await.unwrap();
}

async fn texts(db: &Db, user: UserId, sql: &str) -> Result<BTreeSet<String>, Error> {
    db.as_user(user, async |tx| Ok(tx.query(sql, &[]).await?.iter().map(|row| row.get(0)).collect())).await
}

async fn slugs(db: &Db, user: UserId) -> Vec<String> {
    texts(db, user, SLUGS).await.unwrap().into_iter().collect()
}

async fn emails(db: &Db, user: UserId) -> Vec<String> {
    texts(db, user, "select distinct email from cgk_user_members()").await.unwrap().into_iter().collect()
}

async fn count(db: &Db, user: UserId, from: &str) -> Result<i64, Error> {
    let sql = format!("select count(*) from {from}");
    db.as_user(user, async |tx| Ok(tx.query_one(&sql, &[]).await?.get(0))).await
}

async fn sees_its_own(stage: Stage) {
    let People { stage, ada, ben, carl } = people(stage).await;
    let db = &stage.db;
    assert_eq!(slugs(db, ada).await, ["acme", "initech"]);
    assert_eq!(slugs(db, ben).await, ["acme", "globex"]);
    assert_eq!(slugs(db, carl).await, ["globex"]);
    assert_eq!(emails(db, ada).await, ["ada@example.com", "ben@example.com"]);
    assert_eq!(emails(db, carl).await, ["ben@example.com", "carl@example.com"]);
    // Ben's home is not Ada's to know: the table has her own row alone.
    for user in [ada, ben, carl] {
        let own = texts(db, user, "select id::text from users").await.unwrap();
        assert_eq!(own, BTreeSet::from([user.to_string()]));
    }
    // The memberships of those organizations: two in acme, Ada's own in initech, and not hers in hooli.
    assert_eq!(count(db, ada, "memberships").await.unwrap(), 3);
    assert_eq!(count(db, ada, "memberships m join organizations o on o.id = m.organization_id").await.unwrap(), 3);
    let status = "select slug || ' ' || status::text from organizations";
    assert!(texts(db, ada, status).await.unwrap().contains("initech suspended"));

    // Nothing else, of her own organization either.
    for table in ["api_keys", "billing", "invitations", "audit_events", "sessions", "subscriptions", "grants"] {
        assert_eq!(count(db, ada, table).await.unwrap(), 0, "{table}");
    }
    for table in ["organization_domains", "magic_links", "sign_ups", "domain_events", "plans", "tenant_acme.orders"] {
        let refused = count(db, ada, table).await.unwrap_err();
        assert_eq!(refused.sqlstate().unwrap().code(), "42501", "{table}");
    }
    for secret in ["select password_hash from users", "select shopify_access_token from organizations"] {
        assert_eq!(texts(db, ada, secret).await.unwrap_err().sqlstate().unwrap().code(), "42501", "{secret}");
    }
    // The control: the rows are there, and it is the policies that hide them.
    assert!(stage.count("select count(*) from invitations").await > 0);
    stage.run("alter table invitations disable row level security").await;
    assert_eq!(count(db, ada, "invitations").await.unwrap(), 4);
    stage.run("alter table organizations disable row level security").await;
    assert_eq!(slugs(db, ada).await, ["acme", "globex", "hooli", "initech"]);
    stage.run("alter table memberships disable row level security").await;
    assert_eq!(count(db, carl, "memberships").await.unwrap(), 6);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_sees_its_organizations_and_their_members_in_role_mode() {
    sees_its_own(Stage::set().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_sees_its_organizations_and_their_members_in_path_mode() {
    sees_its_own(Stage::set_path_mode().await).await;
}

/// What changes is seen by the next statement, also of a transaction that is open.
#[tokio::test(flavor = "multi_thread")]
async fn what_ends_a_membership_ends_the_sight() {
    let People { stage, ada, ben, .. } = people(Stage::set().await).await;
    let removed: (usize, usize) = stage
        .db
        .as_user(ben, async |tx| {
            let before = tx.query(SLUGS, &[]).await?.len();
            stage
                .run("delete from memberships using users u where u.id = user_id and u.email = 'ben@example.com'")
                .await;
            Ok((before, tx.query(SLUGS, &[]).await?.len()))
        })
        .await
        .unwrap();
    assert_eq!(removed, (2, 0));
    stage.run("update memberships set confirmed_at = now() where confirmed_at is null").await;
    assert_eq!(slugs(&stage.db, ada).await, ["acme", "hooli", "initech"]);
    stage.run("update users set status = 'disabled' where email = 'ada@example.com'").await;
    assert_eq!(slugs(&stage.db, ada).await, [""; 0]);
    assert_eq!(count(&stage.db, ada, "users").await.unwrap(), 0);
    assert_eq!(texts(&stage.db, ada, MEMBERS).await.unwrap().len(), 0);
    for unknown in [Uuid::nil(), Uuid::max(), stage.acme.uuid()] {
        assert_eq!(slugs(&stage.db, UserId(unknown)).await, [""; 0]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_writes_nothing() {
    let People { stage, ada, .. } = people(Stage::set().await).await;
    for sql in [
        "update organizations set name = 'x'",
        "update memberships set role = 'owner'",
        "delete from memberships",
        "insert into memberships (organization_id, user_id) select id, (select id from users) from organizations",
        "insert into domain_events (organization_id, type) select id, 'a.b' from organizations",
        "select id from organizations for update",
        "select cgk_admit_reader('x')",
    ] {
        let refused = stage.db.as_user(ada, async |tx| tx.execute(sql, &[]).await).await.expect_err(sql);
        // Read-only, and without the right.
        assert!(["25006", "42501"].contains(&refused.sqlstate().unwrap().code()), "{sql}: {refused:?}");
    }
}

/// What a read-only transaction lets through on some versions does not commit, and nothing of it stays in the session.
#[tokio::test(flavor = "multi_thread")]
async fn a_person_leaves_no_large_object_no_lock_and_no_table() {
    let People { stage, ada, .. } = people(Stage::set_with_pool(1).await).await;
    let version = stage.count("select current_setting('server_version_num')::int8").await;
    stage
        .run("create sequence public.counted; grant usage on sequence public.counted to public; select lo_create(4711)")
        .await;
    let objects = "select count(*) from pg_largeobject_metadata";
    let as_ada = async |sql: &str| stage.db.as_user(ada, async |tx| tx.query(sql, &[]).await.map(drop)).await;
    for sql in ["select lo_create(0)", "select lo_from_bytea(0, 'x')", "do 'begin perform lo_create(0); end'"] {
        let refused = as_ada(sql).await.expect_err(sql);
        match version < 160_000 {
            true => assert_eq!(refused.kind(), ErrorKind::Refused, "{sql}: {refused:?}"),
            false => assert_eq!(refused.sqlstate().unwrap().code(), "25006", "{sql}: {refused:?}"),
        }
        assert_eq!(stage.count(objects).await, 1, "{sql}");
    }
    for sql in [
        "select nextval('public.counted')",
        "select setval('public.counted', 5)",
        "create temporary table mine (id int)",
        "select pg_catalog.set_config('transaction_read_only', 'off', true)",
        "select lo_put(4711, 0, 'x')",
        "select lo_unlink(4711)",
    ] {
        let refused = as_ada(sql).await.expect_err(sql);
        assert!(["25006", "25001", "42501"].contains(&refused.sqlstate().unwrap().code()), "{sql}: {refused:?}");
    }
    // Locks end with the call, and what is sent by NOTIFY is sent, as the documentation says.
    for sql in ["select pg_advisory_lock(4711)", "select pg_advisory_xact_lock(4711)", "notify anything"] {
        as_ada(sql).await.unwrap();
        assert_eq!(
            stage.count("select count(*) from pg_locks where locktype = 'advisory' and objid = 4711").await,
            0,
            "{sql}"
        );
    }
    // The control: outside of it each of them is allowed.
    stage.db.platform().execute("select lo_create(0)", &[]).await.unwrap();
    assert_eq!(stage.count(objects).await, 2);
}

const LIE: &str = "select set_config('app.current_user_id', $1, true)";

/// A tenant's role sets what it likes, and so does the login outside of `as_user`: the functions answer for the one role alone.
#[tokio::test(flavor = "multi_thread")]
async fn the_setting_alone_shows_nothing() {
    let People { stage, ben, .. } = people(Stage::set().await).await;
    let ben_text = ben.to_string();
    let (acme, platform) = (slug("acme"), stage.db.platform());
    let as_tenant = stage.db.with_tenant(&acme, async |tx| {
        tx.query_one(LIE, &[&ben_text]).await?;
        let of_ben = tx.query(MEMBERS, &[]).await?.len();
        let array = tx.query_one("select cgk_user_organizations()", &[]).await?.get::<_, Vec<Uuid>>(0).len();
        Ok((of_ben, array, tx.query(SLUGS, &[]).await?.len()))
    });
    assert_eq!(as_tenant.await.unwrap(), (0, 0, 1));
    let as_login = platform.transaction(async |tx| {
        tx.query_one(LIE, &[&ben_text]).await?;
        Ok((tx.query(MEMBERS, &[]).await?.len(), tx.query(SLUGS, &[]).await?.len()))
    });
    assert_eq!(as_login.await.unwrap(), (0, 4));
    // The control: with the role it counts.
    assert_eq!(texts(&stage.db, ben, MEMBERS).await.unwrap().len(), 4);
}

/// SQL text inside can say another name on a server that is not hardened; what comes of it does not commit, and the caller hears of
/// it. On a hardened one it cannot.
#[tokio::test(flavor = "multi_thread")]
async fn who_the_person_is_can_be_changed_inside_only_without_hardening() {
    let People { stage, ada, carl, .. } = people(Stage::set().await).await;
    let other = carl.to_string();
    let lying = async || {
        let mut seen = Vec::new();
        let outcome = stage.db.as_user(ada, async |tx| {
            tx.query_one(LIE, &[&other]).await?;
            seen.push(tx.query(SLUGS, &[]).await?.iter().map(|row| row.get(0)).collect::<Vec<String>>());
            Ok::<_, Error>(())
        });
        (outcome.await.unwrap_err(), seen)
    };
    let (refused, seen) = lying().await;
    assert_eq!((refused.kind(), seen.len()), (ErrorKind::Refused, 1), "{refused:?}");
    assert_eq!(seen[0], ["globex"], "the control: it did see the other's");
    // Who sets the first name again is not found out: SQL inside is the service's own, as the documentation says.
    let unnoticed = stage.db.as_user(ada, async |tx| {
        tx.query_one(LIE, &[&other]).await?;
        let seen = tx.query(SLUGS, &[]).await?.len();
        tx.query_one(LIE, &[&ada.to_string()]).await?;
        Ok::<_, Error>(seen)
    });
    assert_eq!(unnoticed.await.unwrap(), 1);
    for sql in ["set local role none", "reset role", "commit", "set local app.current_user_id = ''"] {
        let outcome = stage.db.as_user(ada, async |tx| tx.execute(sql, &[]).await.map(drop)).await;
        assert_eq!(outcome.unwrap_err().kind(), ErrorKind::Refused, "{sql}");
    }

    cgk::setup::harden(&stage.operator().await, cgk::setup::HardeningMode::Apply).await.unwrap();
    assert_eq!(slugs(&stage.db, ada).await, ["acme", "initech"]);
    let (refused, seen) = lying().await;
    assert_eq!((refused.sqlstate().unwrap().code(), seen.len()), ("42501", 0));
    let to_login = stage.db.as_user(ada, async |tx| {
        tx.query("select set_config('role', 'none', true), slug from organizations", &[]).await
    });
    assert_eq!(to_login.await.unwrap_err().sqlstate().unwrap().code(), "42501");
    // A tenant's statements cannot become a person's either.
    let role = format!("cgk__user_{}", cgk::ident::DatabaseTag::of(stage.database.name()).as_str());
    let acme = slug("acme");
    let from_tenant =
        stage.db.with_tenant(&acme, async |tx| tx.query("select set_config('role', $1, true)", &[&role]).await);
    assert_eq!(from_tenant.await.unwrap_err().sqlstate().unwrap().code(), "42501");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_next_user_of_the_connection_finds_nothing_of_it() {
    let People { stage, ada, .. } = people(Stage::set_with_pool(1).await).await;
    let db = &stage.db;
    // Dropped while a statement waits, then the same connection or a new one as the platform and as a tenant.
    let holder = stage.holder("lock table organizations in access exclusive mode").await;
    let call = tokio::spawn({
        let db = stage.db.clone();
        async move { slugs(&db, ada).await }
    });
    stage.until_waiting(1).await;
    call.abort();
    let _ = call.await;
    run(&holder, "rollback").await;
    let who = "select current_user = session_user and coalesce(current_setting('app.current_user_id', true), '') = ''";
    assert!(db.platform().query_one(who, &[]).await.unwrap().get::<_, bool>(0));
    assert_eq!(slugs(db, ada).await, ["acme", "initech"]);
    assert!(db.platform().query_one(who, &[]).await.unwrap().get::<_, bool>(0));
    assert_eq!(db.platform().query(SLUGS, &[]).await.unwrap().len(), 4);
    let failed: Result<(), Error> = db.as_user(ada, async |tx| tx.execute("select 1/0", &[]).await.map(drop)).await;
    assert_eq!(failed.unwrap_err().sqlstate().unwrap().code(), "22012");
    assert_eq!(db.tenant(&slug("acme")).query(SLUGS, &[]).await.unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn it_is_refused_inside_a_tenant_and_without_the_role() {
    let People { stage, ada, .. } = people(Stage::set().await).await;
    let inside = stage.db.with_tenant(&slug("acme"), async |_| slugs_of(&stage.db, ada).await).await.unwrap_err();
    assert_eq!((inside.code(), inside.kind()), ("CGK0740", ErrorKind::Refused));
    let role = format!("cgk__user_{}", cgk::ident::DatabaseTag::of(stage.database.name()).as_str());
    let login: String = stage
        .watch
        .query_one("select m.member::regrole::text from pg_auth_members m where m.roleid = $1::text::regrole", &[&role])
        .await
        .unwrap()
        .get(0);
    stage.run(&format!("revoke {role} from {login}")).await;
    let refused = slugs_of(&stage.db, ada).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Denied, "{refused:?}");
    stage.run(&format!("drop owned by {role}; drop role {role}")).await;
    let refused = slugs_of(&stage.db, ada).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Denied, "{refused:?}");
    // Admitted again, it works again, and that is no drift.
    stage.run(&format!("select cgk_admit_reader('{login}')")).await;
    assert_eq!(slugs(&stage.db, ada).await, ["acme", "initech"]);
    let operator = stage.operator().await;
    let report =
        cgk::drift::verify(&operator, &cgk::migrate::Migrations::bundled(), &cgk::migrate::Scope::Public).await;
    let found: Vec<String> =
        report.unwrap().schemas().flat_map(|schema| schema.differences.iter().map(ToString::to_string)).collect();
    assert_eq!(found, [""; 0]);
}

async fn slugs_of(db: &Db, user: UserId) -> Result<BTreeSet<String>, Error> {
    texts(db, user, SLUGS).await
}
