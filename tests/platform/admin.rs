//! `Db::dangerously_as_admin`: all organizations, by a role that is granted by hand, and a line in the audit log each time.

use crate::stage::{Stage, slug};
use cgk::{
    ErrorKind, UserId,
    ident::DatabaseTag,
    platform::{Actor, PlatformError},
};

const LINES: &str = "select count(*) from audit_events where action = 'cgk.admin.entered'";

async fn granted(stage: &Stage) {
    let tag = DatabaseTag::of(stage.database.name());
    stage.run(&format!("grant cgk__admin_{0} to app_{0}", tag.as_str())).await;
}

fn staff() -> Actor {
    Actor::User(UserId(uuid::Uuid::max()))
}

async fn number(stage: &Stage, from: &str) -> Result<i64, PlatformError> {
    let sql = format!("select count(*) from {from}");
    let staff = staff();
    let work =
        stage.db.dangerously_as_admin(&staff, "ticket 4711", async |tx| Ok(tx.query_one(&sql, &[]).await?.get(0)));
    work.await
}

async fn reads_all(stage: Stage) {
    let refused = number(&stage, "organizations").await.unwrap_err();
    assert!(matches!(&refused, PlatformError::Database(error) if error.kind() == ErrorKind::Denied), "{refused:?}");
    // The attempt is in the log.
    assert_eq!(stage.count(LINES).await, 1);

    granted(&stage).await;
    for organization in [stage.acme, stage.globex] {
        stage.user(organization, &format!("{organization}@example.com"), "owner").await;
    }
    assert_eq!(number(&stage, "organizations").await.unwrap(), 2);
    assert_eq!(number(&stage, "users join memberships m on m.user_id = users.id").await.unwrap(), 2);
    assert_eq!(number(&stage, "audit_events").await.unwrap(), 4);
    let line = "select concat(actor_kind, ' ', actor_id, ' ', resource_kind, ' ', after->>'reason') from audit_events
                 where action = 'cgk.admin.entered' limit 1";
    let line: String = stage.rows(line, &[]).await[0].get(0);
    assert_eq!(line, format!("user {} database ticket 4711", uuid::Uuid::max()));
    for sql in [
        "select password_hash from users",
        "select token_hash from invitations",
        "select key_hash from api_keys",
        "select id from magic_links",
        "update organizations set name = 'x'",
        "delete from audit_events",
        "select 1 from tenant_acme.orders",
    ] {
        let outcome = stage.db.dangerously_as_admin(&staff(), "r", async |tx| Ok(tx.execute(sql, &[]).await?)).await;
        let PlatformError::Database(refused) = outcome.expect_err(sql) else { panic!("{sql}") };
        assert!(["25006", "42501"].contains(&refused.sqlstate().unwrap().code()), "{sql}: {refused:?}");
    }
    // The next user of the connection is the service again.
    assert_eq!(stage.db.tenant(&slug("acme")).query("select slug from organizations", &[]).await.unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn support_staff_reads_all_organizations_in_role_mode() {
    reads_all(Stage::set().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn support_staff_reads_all_organizations_in_path_mode() {
    reads_all(Stage::set_path_mode().await).await;
}

/// The line is committed before anything is read, so neither an error of the body nor a dropped call takes it back.
#[tokio::test(flavor = "multi_thread")]
async fn an_access_that_fails_is_recorded_and_one_that_cannot_be_recorded_does_not_happen() {
    let stage = Stage::set().await;
    granted(&stage).await;
    let mut read = 0;
    let failed: Result<(), PlatformError> = stage
        .db
        .dangerously_as_admin(&staff(), "r", async |tx| {
            read = tx.query("select id from organizations", &[]).await?.len();
            Err(PlatformError::Busy)
        })
        .await;
    assert!(matches!(failed, Err(PlatformError::Busy)) && read == 2);
    assert_eq!(stage.count(LINES).await, 1);

    for reason in ["", " ", "a\0b", &"r".repeat(501)] {
        let outcome = stage.db.dangerously_as_admin(&staff(), reason, async |_| Ok(())).await;
        assert!(matches!(outcome, Err(PlatformError::Invalid { .. })), "{reason:?}");
    }
    let login = format!("app_{}", DatabaseTag::of(stage.database.name()).as_str());
    stage.run(&format!("revoke insert on audit_events from {login}")).await;
    let mut entered = false;
    let staff = staff();
    let outcome = stage.db.dangerously_as_admin(&staff, "r", async |_| {
        entered = true;
        Ok(())
    });
    assert!(outcome.await.is_err() && !entered);
    assert_eq!(stage.count(LINES).await, 1);
}
