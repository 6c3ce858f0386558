//! Snapshots are remembered until the database says that something has changed, and no longer.

use crate::{
    platform::{connect, must_end, slug},
    stage::Stage,
};
use cgk::{
    flags::{self, Environment, Flags, FlagsError, FlagsSettings, Subject},
    resolver::NoticeState,
};
use std::time::Duration;

fn prod() -> Environment {
    Environment::of(flags::Stage::Prod)
}

/// Remembers for ever, but for what is notified.
fn patient_settings() -> FlagsSettings {
    let mut settings = FlagsSettings::default();
    settings.time_max = Duration::from_secs(100_000);
    settings.time_max_unnotified = Duration::from_secs(100_000);
    settings.silence_max = Duration::from_secs(600);
    settings
}

async fn notified(stage: &Stage) -> Flags {
    let flags = Flags::new(&stage.db, patient_settings());
    must_end(flags.until_notified()).await;
    flags
}

async fn loads_after(flags: &Flags, tenant: &str) -> u64 {
    assert_eq!(must_end(flags.caught_up()).await, NoticeState::Received);
    flags.snapshot(&slug(tenant), &prod()).await.unwrap();
    flags.status().loads
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_is_seen_by_the_next_call_and_nothing_else_is_loaded_anew() {
    let stage = Stage::set().await;
    stage.run("insert into features (key, name) values ('beta', 'Beta')").await;
    let flags = notified(&stage).await;
    assert_eq!(loads_after(&flags, "acme").await, 1);
    assert_eq!(loads_after(&flags, "globex").await, 2);
    assert_eq!(loads_after(&flags, "acme").await, 2);
    assert_eq!((flags.status().hits, flags.status().snapshots), (1, 2));

    let nobody = Subject::anonymous();
    let mut loads = 2;
    let rule = "insert into feature_rules (feature_id, environment_id, position, enabled)
                select f.id, e.id, 1, true from features f, environments e where e.name = 'prod'";
    for (change, is_on) in [
        (rule, true),
        ("update feature_rules set enabled = false", false),
        ("delete from feature_rules", false),
        ("update features set enabled = true", true),
        ("insert into environments (project, name) values ('web', 'dev')", true),
        ("truncate feature_rules", true),
        ("delete from features", false),
    ] {
        stage.run(change).await;
        loads += 1;
        assert_eq!(loads_after(&flags, "acme").await, loads, "{change}");
        assert_eq!(flags.snapshot(&slug("acme"), &prod()).await.unwrap().is_on("beta", &nobody), is_on, "{change}");
        // The control: what another tenant has is remembered.
        assert_eq!(loads_after(&flags, "globex").await, loads, "{change}");
    }
    // By the tenant's own role, as a service does it, and where triggers of the origin do not fire.
    let add = "insert into features (key, name) values ('beta', 'Beta')";
    stage.db.tenant(&slug("acme")).execute(add, &[]).await.unwrap();
    assert_eq!(loads_after(&flags, "acme").await, loads + 1);
    stage.run("set session_replication_role = replica; update features set enabled = true").await;
    assert_eq!(loads_after(&flags, "acme").await, loads + 2);
    // What is rolled back is no change.
    stage.run("begin; update features set enabled = false; rollback").await;
    assert_eq!(loads_after(&flags, "acme").await, loads + 2);
    flags.forget_all();
    assert_eq!(flags.status().snapshots, 0);
    assert_eq!(loads_after(&flags, "acme").await, loads + 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_and_a_subscription_are_changes_too() {
    let stage = Stage::set().await;
    stage.run("insert into features (key, name, kind, enabled) values ('sso', 'SSO', 'plan', true)").await;
    let flags = notified(&stage).await;
    let is_on = async |tenant: &str| {
        must_end(flags.caught_up()).await;
        flags.snapshot(&slug(tenant), &prod()).await.unwrap().is_on("sso", &Subject::anonymous())
    };
    assert!(!is_on("acme").await);
    stage.run("insert into public.plan_features select id, 'sso' from public.plans where key = 'team'").await;
    // The plan has it, and the organization does not have the plan.
    assert!(!is_on("acme").await);
    stage.run(
        "insert into public.subscriptions (organization_id, plan_id, status, period_anchor, period_start, period_end)
         select o.id, p.id, 'active', now(), now(), now() + interval '1 month'
           from public.organizations o, public.plans p where o.slug = 'acme' and p.key = 'team'",
    )
    .await;
    assert!(is_on("acme").await && !is_on("globex").await);
    let loads = flags.status().loads;
    // A renewal changes nothing of it.
    stage.run("update public.subscriptions set period_end = period_end + interval '1 month'").await;
    assert!(is_on("acme").await);
    assert_eq!(flags.status().loads, loads);
    stage.run("update public.subscriptions set plan_id = (select id from public.plans where key = 'hobby')").await;
    assert!(!is_on("acme").await);
    stage.run("update public.subscriptions set plan_id = (select id from public.plans where key = 'team')").await;
    assert!(is_on("acme").await);
    stage.run("update public.subscriptions set status = 'canceled', canceled_at = now()").await;
    assert!(!is_on("acme").await);
    stage.run("update public.subscriptions set status = 'past_due', canceled_at = null").await;
    assert!(is_on("acme").await);
    stage.run("delete from public.plan_features").await;
    assert!(!is_on("acme").await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_suspended_tenant_has_no_features() {
    let stage = Stage::set().await;
    let flags = notified(&stage).await;
    assert_eq!(loads_after(&flags, "acme").await, 1);
    stage.run("update public.organizations set status = 'suspended' where slug = 'acme'").await;
    must_end(flags.caught_up()).await;
    let refused = flags.snapshot(&slug("acme"), &prod()).await.unwrap_err();
    assert!(
        matches!(&refused, FlagsError::Database(error) if error.kind() == cgk::ErrorKind::Suspended),
        "{refused:?}"
    );
}

/// Without its trigger a table tells nothing; what was loaded then holds for the short time, here none.
#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_of_tables_that_tell_nothing_is_used_for_a_short_time() {
    let stage = Stage::set().await;
    let mut settings = patient_settings();
    settings.time_max_unnotified = Duration::ZERO;
    let flags = Flags::new(&stage.db, settings);
    must_end(flags.until_notified()).await;
    // The control: with all triggers it is remembered.
    assert_eq!((loads_after(&flags, "acme").await, loads_after(&flags, "acme").await), (1, 1));
    for trigger in [
        ("features", "features_notify_change"),
        ("public.plan_features", "plan_features_notify_change"),
        ("public.subscriptions", "subscriptions_notify_update"),
    ] {
        let (table, trigger) = trigger;
        stage.run(&format!("alter table {table} disable trigger {trigger}")).await;
        flags.forget_all();
        let before = loads_after(&flags, "acme").await;
        assert!(loads_after(&flags, "acme").await > before, "{trigger}");
        stage.run(&format!("alter table {table} enable always trigger {trigger}")).await;
        flags.forget_all();
        let before = loads_after(&flags, "acme").await;
        assert_eq!(loads_after(&flags, "acme").await, before, "{trigger}");
    }
}

/// Sixteen that ask for the same at once load it once: the first load is held up by a lock until all of them have asked.
#[tokio::test(flavor = "multi_thread")]
async fn several_at_once_load_once() {
    let stage = Stage::set().await;
    let flags = notified(&stage).await;
    stage.run("begin; lock table features").await;
    let mut callers = tokio::task::JoinSet::new();
    let asked = std::sync::Arc::new(tokio::sync::Barrier::new(17));
    for _ in 0..16 {
        let (flags, asked) = (flags.clone(), std::sync::Arc::clone(&asked));
        callers.spawn(async move {
            let acme = slug("acme");
            let environment = prod();
            let mut snapshot = std::pin::pin!(flags.snapshot(&acme, &environment));
            // Polled once: it has asked.
            let first = std::future::poll_fn(|context| {
                std::task::Poll::Ready(std::future::Future::poll(snapshot.as_mut(), context))
            })
            .await;
            asked.wait().await;
            match first {
                std::task::Poll::Ready(answer) => answer.unwrap(),
                std::task::Poll::Pending => snapshot.await.unwrap(),
            };
        });
    }
    must_end(asked.wait()).await;
    stage.run("commit").await;
    must_end(callers.join_all()).await;
    assert_eq!(flags.status().loads, 1);
}

/// A call that is dropped while it loads leaves nothing that others wait for.
#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_call_holds_nobody_up() {
    let stage = Stage::set().await;
    let flags = notified(&stage).await;
    stage.run("begin; lock table features").await;
    let (acme, environment) = (slug("acme"), prod());
    {
        let mut snapshot = std::pin::pin!(flags.snapshot(&acme, &environment));
        tokio::select! {
            _ = &mut snapshot => panic!("the table is locked"),
            () = stage.until_one_waits() => {}
        }
    }
    stage.run("commit").await;
    must_end(flags.snapshot(&acme, &environment)).await.unwrap();
}

/// The connection for notices ends with the last handle, and not before.
#[tokio::test(flavor = "multi_thread")]
async fn the_last_handle_ends_the_connection_for_notices() {
    let stage = Stage::set().await;
    let sessions = async || {
        let of_the_service =
            "select count(*) from pg_stat_activity where datname = current_database() and usename like 'app\\_%'";
        stage.count(of_the_service).await
    };
    let before = sessions().await;
    let flags = notified(&stage).await;
    let other = flags.clone();
    assert_eq!(sessions().await, before + 1);
    drop(flags);
    assert_eq!(must_end(other.caught_up()).await, NoticeState::Received);
    assert_eq!(sessions().await, before + 1);
    drop(other);
    must_end(async { while sessions().await > before {} }).await;
}

/// What is loaded while everything is forgotten, or while a change arrives, is loaded once more before it is used.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_load_may_have_missed_is_loaded_once_more() {
    let stage = Stage::set().await;
    let flags = notified(&stage).await;
    let other = connect(&stage.database).await;
    let mut expected = 0;
    // The control: without either, one load is enough.
    for (meanwhile, loads) in [("nothing", 1), ("forgotten", 2), ("changed", 2)] {
        flags.forget_all();
        stage.run("begin; lock table features").await;
        let (acme, environment) = (slug("acme"), prod());
        let mut snapshot = std::pin::pin!(flags.snapshot(&acme, &environment));
        tokio::select! {
            _ = &mut snapshot => panic!("the table is locked"),
            () = stage.until_one_waits() => {}
        }
        match meanwhile {
            "forgotten" => flags.forget_all(),
            "changed" => {
                let change = "insert into tenant_acme.environments (project, name) values ('web', 'dev')";
                assert_eq!(other.execute(change, &[]).await.unwrap(), 1);
                assert_eq!(must_end(flags.caught_up()).await, NoticeState::Received);
            }
            _ => {}
        }
        stage.run("commit").await;
        must_end(snapshot).await.unwrap();
        expected += loads;
        assert_eq!(flags.status().loads, expected, "{meanwhile}");
        // It is remembered from then on.
        assert_eq!(loads_after(&flags, "acme").await, expected, "{meanwhile}");
    }
}

/// A connection for notices that is open, and on which nothing arrives: that of a runtime that has stopped.
#[tokio::test(flavor = "multi_thread")]
async fn a_silent_connection_for_notices_counts_as_lost() {
    let stage = Stage::set().await;
    stage.run("insert into features (key, name) values ('beta', 'Beta')").await;
    let mut settings = patient_settings();
    settings.silence_max = Duration::from_millis(400);
    settings.time_max_unnotified = Duration::ZERO;
    let db = stage.db.clone();
    let (runtime, patient, attentive) = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let (patient, attentive) = runtime.block_on(async {
            let (patient, attentive) = (Flags::new(&db, patient_settings()), Flags::new(&db, settings));
            must_end(patient.until_notified()).await;
            must_end(attentive.until_notified()).await;
            (patient, attentive)
        });
        (runtime, patient, attentive)
    })
    .join()
    .unwrap();
    let is_on = async |flags: &Flags| {
        let snapshot = flags.snapshot(&slug("acme"), &prod()).await.unwrap();
        snapshot.is_on("beta", &Subject::anonymous())
    };
    assert!(!is_on(&patient).await && !is_on(&attentive).await);
    stage.run("update features set enabled = true").await;
    must_end(async {
        while attentive.state() == NoticeState::Received {
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert!(matches!(attentive.state(), NoticeState::NotReceived { why } if why.contains("silent")));
    assert!(is_on(&attentive).await);
    // The control: no notice has come, and a handle that allows a longer silence still uses what it remembers.
    assert_eq!(patient.state(), NoticeState::Received);
    assert!(!is_on(&patient).await);
    drop((patient, attentive));
    runtime.shutdown_background();
}
