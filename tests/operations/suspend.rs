//! `tenant:suspend` and `tenant:activate`: when the command has returned, nobody is in the tenant and nobody comes in.

use crate::{
    fixture::{enters, refused_as, until},
    stage::{Stage, connect, must_end, slug},
    support::cgk::Shell,
};
use cgk::{
    Db, Error, ErrorKind, TenantError, TenantStatus, TxOptions,
    lifecycle::{self, RemainingSessions, SuspendOptions},
};
use std::{
    sync::{
        Arc,
        atomic::{AtomicI32, Ordering},
    },
    time::Duration,
};
use tokio::sync::oneshot;

const MARKS: &str = "create table tenant_acme.marks (id bigserial primary key, writer int not null)";
const INSERT: &str = "insert into marks (writer) values ($1)";
/// An operator's session waits for the tenant's lock, or waits to ask for it again: the status is committed, and it is not done.
const SUSPENDED: &str = "select status = 'suspended' from organizations where slug = 'acme'";

/// One way in: writes one row, or says why not.
async fn write(db: &Db, writer: i32) -> Result<(), Error> {
    let acme = slug("acme");
    match writer % 3 {
        0 => db.with_tenant(&acme, async |tx| tx.execute(INSERT, &[&writer]).await.map(drop)).await,
        1 => db.tenant(&acme).execute(INSERT, &[&writer]).await.map(drop),
        _ => {
            let options = TxOptions::default().repeatable_read();
            db.with_tenant_in(&acme, &options, async |tx| tx.execute(INSERT, &[&writer]).await.map(drop)).await
        }
    }
}

/// Services of two pools and a client in another language write as fast as they can; after the call has returned, no row comes.
async fn the_last_row_is_written_before_it_returns(stage: &Stage, isolation: &str) {
    stage.run(MARKS).await;
    let operator = stage.operator().await;
    let other = Db::connect(stage.db.config()).await.unwrap();
    let written: Arc<[AtomicI32; 7]> = Arc::new(Default::default());
    let mut writers = Vec::new();
    for writer in 0..6 {
        let (db, written) = (if writer < 3 { stage.db.clone() } else { other.clone() }, written.clone());
        writers.push(tokio::spawn(async move {
            loop {
                match write(&db, writer).await {
                    Ok(()) => written[writer as usize].fetch_add(1, Ordering::SeqCst),
                    Err(error) => return error.code().to_owned(),
                };
            }
        }));
    }
    let foreign = connect(&stage.database).await;
    foreign.execute("select set_config('cgk.isolation', $1, false)", &[&isolation]).await.unwrap();
    let counted = written.clone();
    writers.push(tokio::spawn(async move {
        loop {
            foreign.execute("begin", &[]).await.unwrap();
            match foreign.query_one("select cgk_enter('acme')", &[]).await {
                Ok(_) => {}
                Err(error) => return error.code().unwrap().code().to_owned(),
            }
            foreign.execute("insert into marks (writer) values (6)", &[]).await.unwrap();
            foreign.query_one("select public.cgk_check('acme')", &[]).await.unwrap();
            foreign.execute("commit", &[]).await.unwrap();
            counted[6].fetch_add(1, Ordering::SeqCst);
        }
    }));
    // The control: each of them writes while the tenant is active.
    while written.iter().any(|rows| rows.load(Ordering::SeqCst) < 3) {
        tokio::task::yield_now().await;
        tokio::time::sleep(Duration::from_millis(1)).await;
        assert!(writers.iter().all(|writer| !writer.is_finished()), "a writer stopped before");
    }
    let suspended = must_end(lifecycle::suspend(&operator, &slug("acme"), &SuspendOptions::default())).await.unwrap();
    let rows = stage.count("select count(*) from tenant_acme.marks").await;
    assert_eq!((suspended.tenant.status, suspended.was_suspended), (TenantStatus::Suspended, false));
    let mut ends = Vec::new();
    for writer in writers {
        ends.push(must_end(writer).await.unwrap());
    }
    assert_eq!(ends, ["CGK0402", "CGK0402", "CGK0402", "CGK0402", "CGK0402", "CGK0402", "TN402"]);
    assert_eq!(stage.count("select count(*) from tenant_acme.marks").await - rows, 0, "rows written after it returned");
    assert!(rows >= 21);
    enters(&stage.db, "globex").await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn by_role_no_row_is_written_after_it_returns() {
    the_last_row_is_written_before_it_returns(&Stage::set().await, "role").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn by_path_no_row_is_written_after_it_returns() {
    let stage = Stage::set_path_mode().await;
    the_last_row_is_written_before_it_returns(&stage, "path").await;
}

/// A transaction that is inside until it is told to write and commit.
struct Inside {
    go_on: oneshot::Sender<()>,
    end: tokio::task::JoinHandle<Result<(), Error>>,
}

impl Inside {
    async fn acme(stage: &Stage) -> Self {
        let (go_on, told) = oneshot::channel();
        let (entered, is_inside) = oneshot::channel();
        let db = stage.db.clone();
        let end = tokio::spawn(async move {
            db.with_tenant(&slug("acme"), async move |tx| {
                tx.query_typed("select 1", &[]).await?;
                entered.send(()).unwrap();
                told.await.unwrap();
                tx.execute(INSERT, &[&9]).await.map(drop)
            })
            .await
        });
        must_end(is_inside).await.unwrap();
        Self { go_on, end }
    }

    async fn commit(self) -> Result<(), Error> {
        self.go_on.send(()).unwrap();
        must_end(self.end).await.unwrap()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn it_waits_for_a_transaction_that_is_inside_and_refuses_others_meanwhile() {
    let stage = Stage::set().await;
    stage.run(MARKS).await;
    // The control: a status that is changed by hand waits for nobody, and a row is written after it.
    let inside = Inside::acme(&stage).await;
    stage.run("update organizations set status = 'suspended' where slug = 'acme'").await;
    inside.commit().await.unwrap();
    assert_eq!(stage.count("select count(*) from tenant_acme.marks").await, 1);
    stage.run("update organizations set status = 'active' where slug = 'acme'").await;

    let inside = Inside::acme(&stage).await;
    let operator = stage.operator().await;
    let suspending =
        tokio::spawn(async move { lifecycle::suspend(&operator, &slug("acme"), &SuspendOptions::default()).await });
    until(&stage, "the status is committed", SUSPENDED).await;
    for _ in 0..3 {
        assert_eq!(must_end(refused_as(&stage.db, "acme")).await, ErrorKind::Suspended);
    }
    assert!(!suspending.is_finished(), "a transaction is inside");
    inside.commit().await.unwrap();
    must_end(suspending).await.unwrap().unwrap();
    assert_eq!(stage.count("select count(*) from tenant_acme.marks").await, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn when_the_time_is_over_it_names_who_is_inside_and_may_end_them() {
    let stage = Stage::set().await;
    stage.run(MARKS).await;
    let (inside, operator, acme) = (Inside::acme(&stage).await, stage.operator().await, slug("acme"));
    let at_once = SuspendOptions::default().wait(Duration::ZERO);
    let error = lifecycle::suspend(&operator, &acme, &at_once).await.unwrap_err();
    assert_eq!((error.code(), error.kind()), ("CGK0860", ErrorKind::Locked));
    let Error::Tenant(TenantError::InUse { sessions, .. }) = &error else { panic!("{error:?}") };
    assert!(sessions.contains("idle in transaction"), "{sessions}");
    // It is suspended all the same, and the same call goes on waiting.
    assert_eq!(refused_as(&stage.db, "acme").await, ErrorKind::Suspended);
    let error = lifecycle::suspend(&operator, &acme, &at_once).await.unwrap_err();
    assert_eq!(error.code(), "CGK0860");

    let terminate = at_once.remaining(RemainingSessions::Terminate);
    let suspended = must_end(lifecycle::suspend(&operator, &acme, &terminate)).await.unwrap();
    assert!(suspended.was_suspended);
    assert_eq!(suspended.terminated.len(), 1, "{:?}", suspended.terminated);
    assert!(inside.commit().await.is_err());
    assert_eq!(stage.count("select count(*) from tenant_acme.marks").await, 0);
    enters(&stage.db, "globex").await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn it_is_activated_again_and_repeating_changes_nothing() {
    let stage = Stage::set().await;
    let (operator, acme) = (stage.operator().await, slug("acme"));
    for was in [false, true] {
        let suspended = lifecycle::suspend(&operator, &acme, &SuspendOptions::default()).await.unwrap();
        assert_eq!(suspended.was_suspended, was);
    }
    assert_eq!(refused_as(&stage.db, "acme").await, ErrorKind::Suspended);
    for was in [false, true] {
        let activated = lifecycle::activate(&operator, &acme).await.unwrap();
        assert_eq!((activated.was_active, activated.tenant.status), (was, TenantStatus::Active));
        enters(&stage.db, "acme").await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_tenant_in_use_is_refused() {
    let stage = Stage::set().await;
    let operator = stage.operator().await;
    let both = async |tenant: &str| {
        let suspended = lifecycle::suspend(&operator, &slug(tenant), &SuspendOptions::default()).await;
        let activated = lifecycle::activate(&operator, &slug(tenant)).await;
        (suspended.map(drop).map_err(|e| e.code()), activated.map(drop).map_err(|e| e.code()))
    };
    assert_eq!(both("unknown").await, (Err("CGK0401"), Err("CGK0401")));
    stage.run("update organizations set status = 'onboarding' where slug = 'acme'").await;
    assert_eq!(both("acme").await, (Err("CGK0403"), Err("CGK0403")));
    stage.run("update organizations set status = 'suspended' where slug = 'acme'").await;
    stage.run("comment on schema tenant_acme is 'cgk organization 00000000-0000-0000-0000-000000000000'").await;
    assert_eq!(both("acme").await, (Ok(()), Err("CGK0406")));
    stage.run("drop schema tenant_acme cascade").await;
    assert_eq!(both("acme").await, (Ok(()), Err("CGK0407")));
    assert_eq!(stage.count("select count(*) from organizations where status = 'suspended'").await, 1);
}

/// A migration of the tenant holds other locks: neither waits for the other.
#[tokio::test(flavor = "multi_thread")]
async fn a_migration_under_way_does_not_hold_it_up() {
    let stage = Stage::set().await;
    let operator = stage.operator().await;
    let migrating = connect(&stage.database).await;
    migrating.execute("begin", &[]).await.unwrap();
    let schema = cgk::ident::SchemaName::of_tenant(&slug("acme"));
    for key in [cgk::lock::migration_key(&schema), cgk::lock::steps_key(&schema)] {
        migrating.query_one("select pg_advisory_xact_lock($1)", &[&key]).await.map(drop).unwrap();
    }
    must_end(lifecycle::suspend(&operator, &slug("acme"), &SuspendOptions::default())).await.unwrap();
    must_end(lifecycle::activate(&operator, &slug("acme"))).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_commands_say_what_they_did() {
    let stage = Stage::set().await;
    stage.run(MARKS).await;
    let shell = Shell::on(&stage.database);
    let shown = |arguments: &[&str], code: i32, text: &str| {
        let answer = shell.run(arguments);
        let said = format!("{}{}", answer.stdout, answer.stderr);
        assert_eq!(answer.code, code, "{arguments:?}: {said}");
        assert!(said.contains(text), "{arguments:?}: {said}");
    };
    shown(&["tenant:suspend", "acme"], 0, "suspended tenant acme; no transaction is in it");
    shown(&["tenant:suspend", "acme", "--json"], 0, r#""was_suspended":true"#);
    shown(&["tenant:activate", "acme", "--json"], 0, r#""was_active":false"#);
    shown(&["tenant:activate", "acme"], 0, "tenant acme is active, as before");
    let inside = Inside::acme(&stage).await;
    shown(&["tenant:suspend", "acme", "--wait", "1ms"], 6, "still in use");
    shown(&["tenant:suspend", "acme", "--wait", "1ms", "--terminate"], 0, "1 session ended");
    assert!(inside.commit().await.is_err());
    shown(&["tenant:suspend", "Acme"], 2, "CGK0101");
    shown(&["tenant:suspend"], 2, "TENANT");
    shown(&["tenant:activate", "unknown", "--json"], 1, r#""code":"CGK0401""#);
}

/// A planned drop is taken back by `tenant:undrop`, and `tenant:activate` is refused.
#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_with_a_planned_drop_is_told_what_undoes_it() {
    let stage = Stage::set().await;
    let shell = Shell::on(&stage.database);
    let said = shell.run(&["tenant:suspend", "acme"]).stderr;
    assert!(said.contains("Undo: cgk tenant:activate acme") && !said.contains("undrop"), "{said}");
    assert_eq!(shell.run(&["tenant:drop", "acme", "--after", "30d"]).code, 0);
    let said = shell.run(&["tenant:suspend", "acme"]).stderr;
    assert!(said.contains("Undo: cgk tenant:undrop acme") && said.contains("drops it after 20"), "{said}");
    let suspended =
        lifecycle::suspend(&stage.operator().await, &slug("acme"), &SuspendOptions::default()).await.unwrap();
    assert!(suspended.drop_after.is_some());
    let answer = shell.run(&["tenant:suspend", "acme", "--json"]).stdout;
    let json: serde_json::Value = serde_json::from_str(&answer).unwrap();
    assert!(json["drop_after"].as_str().is_some_and(|after| after.ends_with('Z')), "{json}");
    crate::support::json_schema::check(&answer);
    assert_eq!(shell.run(&["tenant:undrop", "acme"]).code, 0);
}
