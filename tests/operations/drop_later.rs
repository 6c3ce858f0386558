//! `tenant:drop --after`, `--due` and `tenant:undrop`: a tenant waits suspended, and nothing but `undrop` takes it back.

use crate::{
    fixture::{enters, left_of, picture, refused_as},
    stage::{Stage, run, slug},
    support::cgk::Shell,
};
use cgk::{
    Db, Error, ErrorKind, Operator, TenantError, TenantStatus,
    lifecycle::{self, DropOptions, RenameOptions, SuspendOptions},
    migrate::{Migrations, Silent},
};
use std::time::Duration;

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

fn options() -> DropOptions {
    DropOptions::default()
}

async fn due(operator: &Operator) -> Vec<(String, Result<(), &'static str>)> {
    let done = lifecycle::drop_due(operator, &options(), &mut Silent).await.unwrap();
    let short = |drop: lifecycle::DueDrop| {
        (drop.schedule.tenant.slug.to_string(), drop.result.map(drop_of).map_err(|error| error.code()))
    };
    done.into_iter().map(short).collect()
}

fn drop_of(_: lifecycle::Dropped) {}

/// The tenant without the registry's row, which says when it was changed last.
async fn contents(stage: &Stage, tenant: &str) -> String {
    let picture = picture(stage, tenant).await;
    picture.lines().filter(|line| !line.starts_with('{')).collect::<Vec<_>>().join("\n")
}

async fn a_tenant_waits_and_comes_back_or_goes(stage: &Stage) {
    let config = stage.database.config().clone().with_isolation(stage.db.config().isolation());
    let operator = Operator::connect(&config).await.unwrap();
    let acme = slug("acme");
    let (before, globex) = (contents(stage, "acme").await, picture(stage, "globex").await);
    let planned = lifecycle::schedule_drop(&operator, &acme, 30 * DAY, &options()).await.unwrap();
    assert_eq!((planned.tenant.status, planned.was_after), (TenantStatus::Suspended, None));
    assert_eq!(refused_as(&stage.db, "acme").await, ErrorKind::Suspended);
    let error = lifecycle::activate(&operator, &acme).await.unwrap_err();
    assert!(matches!(error, Error::Tenant(TenantError::DropPlanned { after, .. }) if after == planned.after));
    assert_eq!(error.code(), "CGK0920");
    // Other verbs keep the time: a suspension, a rename there and back, another creation.
    lifecycle::suspend(&operator, &acme, &SuspendOptions::default()).await.unwrap();
    for (from, to) in [("acme", "apex"), ("apex", "acme")] {
        lifecycle::rename(&operator, &slug(from), &RenameOptions::default().slug(slug(to))).await.unwrap();
    }
    let own = Db::connect(&config).await.unwrap();
    lifecycle::create(&operator, &own, &Migrations::bundled(), &acme, &Default::default()).await.unwrap();
    let found = lifecycle::show(&operator, &Migrations::bundled(), &acme).await.unwrap();
    assert_eq!((found.drop_after, found.tenant.status), (Some(planned.after), TenantStatus::Suspended));
    let listed = lifecycle::list(&operator, &Migrations::bundled(), &Default::default()).await.unwrap();
    let times: Vec<_> = listed.tenants.iter().map(|tenant| tenant.state.drop_after()).collect();
    assert_eq!(times, [Some(planned.after), None]);
    // It is not due yet.
    assert_eq!(due(&operator).await, []);
    let waiting = lifecycle::planned_drops(&operator).await.unwrap();
    assert_eq!(waiting.iter().map(|one| (one.after, one.is_due)).collect::<Vec<_>>(), [(planned.after, false)]);

    // Taken back, everything is as before.
    let kept = lifecycle::undrop(&operator, &acme, &options()).await.unwrap();
    assert_eq!((kept.tenant.status, kept.was_after), (TenantStatus::Active, Some(planned.after)));
    assert_eq!(contents(stage, "acme").await, before);
    enters(&stage.db, "acme").await.unwrap();
    assert_eq!(lifecycle::undrop(&operator, &acme, &options()).await.unwrap().was_after, None);

    // A time can be changed, and the status from before the first one counts.
    lifecycle::schedule_drop(&operator, &acme, 30 * DAY, &options()).await.unwrap();
    let now = lifecycle::schedule_drop(&operator, &acme, Duration::ZERO, &options()).await.unwrap();
    assert!(now.was_after.unwrap() > now.after);
    assert_eq!(lifecycle::undrop(&operator, &acme, &options()).await.unwrap().tenant.status, TenantStatus::Active);
    assert_eq!(due(&operator).await, [], "it was taken back");

    lifecycle::schedule_drop(&operator, &acme, Duration::ZERO, &options()).await.unwrap();
    assert_eq!(due(&operator).await, [("acme".to_owned(), Ok(()))]);
    assert_eq!(left_of(stage, "acme").await, [false; 3]);
    assert_eq!(picture(stage, "globex").await, globex);
    enters(&stage.db, "globex").await.unwrap();
    assert_eq!(due(&operator).await, []);
}

#[tokio::test(flavor = "multi_thread")]
async fn by_role_a_tenant_waits_and_comes_back_or_goes() {
    a_tenant_waits_and_comes_back_or_goes(&Stage::set().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn by_path_a_tenant_waits_and_comes_back_or_goes() {
    a_tenant_waits_and_comes_back_or_goes(&Stage::set_path_mode().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_suspended_tenant_stays_suspended_and_drift_finds_nothing() {
    let stage = Stage::set().await;
    let (operator, acme) = (stage.operator().await, slug("acme"));
    lifecycle::suspend(&operator, &acme, &SuspendOptions::default()).await.unwrap();
    lifecycle::schedule_drop(&operator, &acme, DAY, &options()).await.unwrap();
    let shell = Shell::on(&stage.database);
    for line in [&["drift"][..], &["migrate:status", "--check"], &["tenant:verify", "acme"]] {
        let answer = shell.run(line);
        assert_eq!(answer.code, 0, "{line:?}: {}{}", answer.stdout, answer.stderr);
    }
    let kept = lifecycle::undrop(&operator, &acme, &options()).await.unwrap();
    assert_eq!(kept.tenant.status, TenantStatus::Suspended);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_in_use_is_not_dropped_and_does_not_stop_the_others() {
    let stage = Stage::set().await;
    let operator = stage.operator().await;
    for tenant in ["acme", "globex"] {
        lifecycle::schedule_drop(&operator, &slug(tenant), Duration::ZERO, &options()).await.unwrap();
    }
    // Somebody changed the status by hand.
    stage.run("update organizations set status = 'active' where slug = 'acme'").await;
    assert_eq!(due(&operator).await, [("acme".to_owned(), Err("CGK0921")), ("globex".to_owned(), Ok(()))]);
    enters(&stage.db, "acme").await.unwrap();
    assert_eq!(left_of(&stage, "globex").await, [false; 3]);
    // The control: suspended, it is dropped.
    lifecycle::suspend(&operator, &slug("acme"), &SuspendOptions::default()).await.unwrap();
    assert_eq!(due(&operator).await, [("acme".to_owned(), Ok(()))]);
}

/// Between the look at the tenants and the mark on this one, somebody takes it back: its row is locked until then.
#[tokio::test(flavor = "multi_thread")]
async fn a_drop_that_is_taken_back_at_the_last_moment_keeps_the_tenant() {
    for comes_back in ["", "update organizations set status = 'active' where slug = 'acme';"] {
        let stage = Stage::set().await;
        let (operator, acme) = (stage.operator().await, slug("acme"));
        lifecycle::schedule_drop(&operator, &acme, Duration::ZERO, &options()).await.unwrap();
        let comment = "select obj_description('tenant_acme'::regnamespace, 'pg_namespace')";
        let planned: String = stage.watch.query_one(comment, &[]).await.unwrap().get(0);
        let id = planned.split('\n').next().unwrap().to_owned();
        let holder = stage.holder("select from organizations where slug = 'acme' for update").await;
        let dropping = tokio::spawn(async move { due(&operator).await });
        stage.until_waiting(1).await;
        // What undrop does, by the session that holds the row.
        run(&holder, &format!("{comes_back} comment on schema tenant_acme is '{id}'; commit")).await;
        assert_eq!(crate::stage::must_end(dropping).await.unwrap(), [], "{comes_back}");
        assert_eq!(left_of(&stage, "acme").await, [true; 3]);
        stage.run("update organizations set status = 'active' where slug = 'acme'").await;
        enters(&stage.db, "acme").await.unwrap();
    }
}

/// Two cron jobs at once: each tenant is dropped once, and neither job fails.
#[tokio::test(flavor = "multi_thread")]
async fn two_calls_drop_what_is_due_together() {
    let stage = Stage::set().await;
    for tenant in ["acme", "globex"] {
        let operator = stage.operator().await;
        lifecycle::schedule_drop(&operator, &slug(tenant), Duration::ZERO, &options()).await.unwrap();
    }
    let (one, two) = (stage.operator().await, stage.operator().await);
    let (one, two) = tokio::join!(due(&one), due(&two));
    // Both can take part in the drop of one tenant.
    let mut dropped: Vec<_> = one.into_iter().chain(two).collect();
    assert!(dropped.iter().all(|(_, result)| result.is_ok()), "{dropped:?}");
    dropped.sort();
    dropped.dedup();
    assert_eq!(dropped, [("acme".to_owned(), Ok(())), ("globex".to_owned(), Ok(()))]);
    for tenant in ["acme", "globex"] {
        assert_eq!(left_of(&stage, tenant).await, [false; 3]);
    }
}

/// A drop that was due and has begun is continued, and cannot be taken back.
#[tokio::test(flavor = "multi_thread")]
async fn an_interrupted_drop_is_continued_when_it_is_due() {
    let stage = Stage::set().await;
    let (operator, acme) = (stage.operator().await, slug("acme"));
    lifecycle::schedule_drop(&operator, &acme, Duration::ZERO, &options()).await.unwrap();
    stage
        .run(
            "create function public.fail() returns event_trigger language plpgsql as $$ begin
               if exists (select from pg_event_trigger_dropped_objects() o where o.object_name = 'orders') then raise 'failing'; end if; end $$;
              create event trigger fail on sql_drop when tag in ('DROP TABLE') execute function public.fail()",
        )
        .await;
    assert!(due(&operator).await[0].1.is_err());
    stage.run("drop event trigger fail").await;
    assert_eq!(lifecycle::undrop(&operator, &acme, &options()).await.unwrap_err().code(), "CGK0861");
    assert_eq!(lifecycle::schedule_drop(&operator, &acme, DAY, &options()).await.unwrap_err().code(), "CGK0861");
    assert_eq!(due(&operator).await, [("acme".to_owned(), Ok(()))]);
    assert_eq!(left_of(&stage, "acme").await, [false; 3]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_dropped_later_is_refused() {
    let stage = Stage::set().await;
    let operator = stage.operator().await;
    let refused = async |tenant: &str| {
        let refused = lifecycle::schedule_drop(&operator, &slug(tenant), DAY, &options()).await;
        refused.expect_err("it is refused").code()
    };
    assert_eq!(refused("unknown").await, "CGK0401");
    stage.run("create view public.seen as select * from tenant_acme.customers").await;
    assert_eq!(refused("acme").await, "CGK0862");
    enters(&stage.db, "acme").await.unwrap();
    stage.run("drop view public.seen; update organizations set status = 'onboarding' where slug = 'acme'").await;
    assert_eq!(refused("acme").await, "CGK0403");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_commands_say_what_they_did() {
    let stage = Stage::set().await;
    let shell = Shell::on(&stage.database);
    let shown = |arguments: &[&str], code: i32, text: &str| {
        let answer = shell.run(arguments);
        let said = format!("{}{}", answer.stdout, answer.stderr);
        assert_eq!(answer.code, code, "{arguments:?}: {said}");
        assert!(said.contains(text), "{arguments:?}: {said}");
    };
    shown(&["tenant:drop", "--due", "--plan"], 0, "No drop is planned.");
    shown(&["tenant:drop", "--due"], 0, "No tenant is due.");
    shown(
        &["tenant:drop", "acme", "--after", "30d"],
        0,
        "suspended tenant acme; `cgk tenant:drop --due` drops it after ",
    );
    shown(&["tenant:drop", "--due", "--plan"], 0, "acme");
    shown(&["tenant:list"], 0, "suspended, dropped after ");
    shown(&["tenant:list", "--json"], 0, r#""drop_after":""#);
    shown(&["tenant:show", "acme"], 0, "dropped after");
    shown(&["tenant:activate", "acme"], 1, "cgk tenant:undrop acme");
    shown(&["tenant:undrop", "acme"], 0, "kept tenant acme: it is active");
    shown(&["tenant:undrop", "acme", "--json"], 0, r#""was_drop_after":null"#);
    shown(&["tenant:drop", "acme", "--after", "0s", "--json"], 0, r#""drop_after":""#);
    shown(&["tenant:drop", "--due", "--json"], 0, r#""dropped":true"#);
    shown(&["tenant:drop", "globex", "--after", "30d", "--plan"], 2, "cannot be used with");
    shown(&["tenant:drop", "globex", "--due"], 2, "cannot be used with");
    shown(&["tenant:drop"], 2, "TENANT");
}
