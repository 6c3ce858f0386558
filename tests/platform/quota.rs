//! Quota: exact when many take at the same time, and once a key.

use crate::stage::{Stage, must_end, run};
use cgk::{
    OrganizationId,
    platform::{
        Allowance, Members, NewGrant, NewMember, NewSubscription, PageRequest, Plans, PlatformError, Quota, QuotaKind,
        Subscriptions, UsageType,
    },
};
use std::time::{Duration, SystemTime};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// A stage where `acme` has bought so many runs.
async fn with_runs(runs: u64, pool: usize) -> (Stage, Quota) {
    let stage = Stage::set_with_pool(pool).await;
    let quota = Quota::new(&stage.db);
    quota.grant(stage.acme, &NewGrant::purchase(QuotaKind::RUNS, runs)).await.unwrap();
    (stage, quota)
}

async fn runs_left(stage: &Stage) -> i64 {
    stage.count("select coalesce(sum(balance), 0)::int8 from grants where kind = 'runs' and revoked_at is null").await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_counts_once() {
    let (stage, quota) = with_runs(10, 4).await;
    let consume = async |amount, key: &str| quota.consume(stage.acme, &QuotaKind::RUNS, amount, key).await;
    let first = consume(4, "a").await.unwrap();
    assert_eq!((first.left, first.repeated), (Allowance::Limited(6), false));
    let again = consume(4, "a").await.unwrap();
    assert_eq!((again.left, again.repeated), (Allowance::Limited(6), true));
    let other = consume(5, "a").await;
    assert!(matches!(other, Err(PlatformError::IdempotencyConflict { .. })), "{other:?}");
    let kind = quota.consume(stage.acme, &QuotaKind::CREDITS, 4, "a").await;
    assert!(matches!(kind, Err(PlatformError::IdempotencyConflict { .. })), "{kind:?}");
    consume(6, "b").await.unwrap();
    let exceeded = consume(1, "c").await;
    assert!(
        matches!(exceeded, Err(PlatformError::QuotaExceeded { left: 0, asked: 1, resets_at: None })),
        "{exceeded:?}"
    );
    assert_eq!(exceeded.unwrap_err().status(), 429);
    // What was counted is said also when nothing is left.
    assert!(consume(4, "a").await.unwrap().repeated);

    assert!(quota.release(stage.acme, "a").await.unwrap());
    assert!(!quota.release(stage.acme, "a").await.unwrap());
    assert!(!quota.release(stage.acme, "never").await.unwrap());
    assert!(!quota.release(stage.globex, "b").await.unwrap());
    let released = consume(4, "a").await;
    assert!(matches!(released, Err(PlatformError::IdempotencyConflict { .. })), "{released:?}");
    assert_eq!(runs_left(&stage).await, 4);
    // Another organization's key is another one.
    quota.grant(stage.globex, &NewGrant::purchase(QuotaKind::RUNS, 1)).await.unwrap();
    assert!(!quota.consume(stage.globex, &QuotaKind::RUNS, 1, "a").await.unwrap().repeated);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_consumed_is_refused() {
    let (stage, quota) = with_runs(10, 4).await;
    let refused = async |organization, kind: &QuotaKind, amount, key: &str| {
        quota.consume(organization, kind, amount, key).await.unwrap_err()
    };
    let long = "k".repeat(256);
    for (amount, key) in
        [(0, "a"), (1_000_000_000_000_001, "a"), (u64::MAX, "a"), (1, ""), (1, long.as_str()), (1, "a\0")]
    {
        let error = refused(stage.acme, &QuotaKind::RUNS, amount, key).await;
        assert!(matches!(error, PlatformError::Invalid { .. }), "{amount} {key:?}: {error:?}");
    }
    let unknown: QuotaKind = "exports".parse().unwrap();
    let error = refused(stage.acme, &unknown, 1, "a").await;
    assert!(matches!(error, PlatformError::NotFound { what: "kind of quota" }), "{error:?}");
    let error = refused(OrganizationId(uuid::Uuid::nil()), &QuotaKind::RUNS, 1, "a").await;
    assert!(matches!(error, PlatformError::NotFound { what: "organization" }), "{error:?}");
    // A kind that was never granted: nothing is left of it.
    let error = refused(stage.acme, &QuotaKind::CREDITS, 1, "a").await;
    assert!(matches!(error, PlatformError::QuotaExceeded { left: 0, .. }), "{error:?}");
    assert_eq!(stage.count("select count(*) from quota_consumptions").await, 0);
    // 255 characters, whatever they are.
    quota.consume(stage.acme, &QuotaKind::RUNS, 1, &"é".repeat(255)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_expires_soonest_is_spent_first_and_what_is_expired_counts_nothing() {
    let stage = Stage::set().await;
    let quota = Quota::new(&stage.db);
    let grant = async |new: NewGrant| quota.grant(stage.acme, &new).await.unwrap();
    let kept = grant(NewGrant::purchase(QuotaKind::RUNS, 10)).await;
    let late = grant(NewGrant::promocode(QuotaKind::RUNS, 10).expires_in(20 * DAY)).await;
    let soon = grant(NewGrant::purchase(QuotaKind::RUNS, 10).expires_at(SystemTime::now() + 10 * DAY)).await;
    let balances = async || {
        let grants = quota.grants(stage.acme).await.unwrap();
        let of = |id| grants.iter().find(|grant| grant.id == id).and_then(|grant| grant.balance.limit());
        (of(soon.id), of(late.id), of(kept.id))
    };
    quota.consume(stage.acme, &QuotaKind::RUNS, 4, "a").await.unwrap();
    assert_eq!(balances().await, (Some(6), Some(10), Some(10)));
    quota.consume(stage.acme, &QuotaKind::RUNS, 18, "b").await.unwrap();
    assert_eq!(balances().await, (Some(0), Some(0), Some(8)));
    // Given back to the grants that it was taken from.
    quota.release(stage.acme, "b").await.unwrap();
    assert_eq!(balances().await, (Some(6), Some(10), Some(10)));
    stage.run("update grants set starts_at = starts_at - interval '15 days', expires_at = expires_at - interval '15 days'").await;
    assert_eq!(balances().await, (None, Some(10), Some(10)), "an expired grant is listed");
    let exceeded = quota.consume(stage.acme, &QuotaKind::RUNS, 21, "c").await;
    assert!(matches!(exceeded, Err(PlatformError::QuotaExceeded { left: 20, .. })), "{exceeded:?}");
    // Without a limit: nothing that could be kept is spent.
    let unlimited = grant(NewGrant::purchase(QuotaKind::RUNS, Allowance::Unlimited)).await;
    let consumed = quota.consume(stage.acme, &QuotaKind::RUNS, 1000, "d").await.unwrap();
    assert_eq!(consumed.left, Allowance::Unlimited);
    assert_eq!(balances().await, (None, Some(10), Some(10)));
    quota.revoke_grant(stage.acme, unlimited.id).await.unwrap();
    quota.revoke_grant(stage.acme, kept.id).await.unwrap();
    let left = quota.left(stage.acme).await.unwrap();
    assert_eq!((left[0].granted, left[0].used, left[0].left), (10.into(), 0, 10.into()));
    let foreign = quota.revoke_grant(stage.globex, late.id).await;
    assert!(matches!(foreign, Err(PlatformError::NotFound { what: "grant" })), "{foreign:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_purchase_is_granted_once() {
    let stage = Stage::set_with_pool(17).await;
    let quota = Quota::new(&stage.db);
    let nothing = quota.grant(stage.acme, &NewGrant::purchase(QuotaKind::CREDITS, 0)).await.unwrap_err();
    assert!(matches!(nothing, PlatformError::Invalid { what: "the amount", .. }), "{nothing:?}");
    assert_eq!(stage.count("select count(*) from grants").await, 0);
    let bought = NewGrant::purchase(QuotaKind::CREDITS, 500).reference("pi_1");
    let holder = stage.holder("select from organizations where slug = 'acme' for update").await;
    let mut tasks = Vec::new();
    for _ in 0..16 {
        let (quota, acme, bought) = (quota.clone(), stage.acme, bought.clone());
        tasks.push(tokio::spawn(async move { quota.grant(acme, &bought).await }));
    }
    stage.until_waiting(16).await;
    run(&holder, "rollback").await;
    let mut ids = Vec::new();
    for task in tasks {
        ids.push(must_end(task).await.unwrap().unwrap().id);
    }
    ids.dedup();
    assert_eq!(ids.len(), 1);
    assert_eq!(stage.count("select count(*) from grants").await, 1);
    assert_eq!(stage.count("select count(*) from audit_events where action = 'cgk.quota.granted'").await, 1);
    let other = quota.grant(stage.acme, &NewGrant::purchase(QuotaKind::CREDITS, 501).reference("pi_1")).await;
    assert!(matches!(other, Err(PlatformError::IdempotencyConflict { .. })), "{other:?}");
    // Of a promocode, of another organization, or without a reference it is another grant.
    quota.grant(stage.acme, &NewGrant::promocode(QuotaKind::CREDITS, 500).reference("pi_1")).await.unwrap();
    quota.grant(stage.globex, &bought).await.unwrap();
    for _ in 0..2 {
        quota.grant(stage.acme, &NewGrant::purchase(QuotaKind::CREDITS, 1)).await.unwrap();
    }
    assert_eq!(stage.count("select count(*) from grants").await, 5);
    let past =
        quota.grant(stage.acme, &NewGrant::purchase(QuotaKind::RUNS, 1).expires_at(SystemTime::now() - DAY)).await;
    assert!(matches!(past, Err(PlatformError::Invalid { what: "the expiry", .. })), "{past:?}");
    let nobody = quota.grant(OrganizationId(uuid::Uuid::nil()), &bought).await;
    assert!(matches!(nobody, Err(PlatformError::NotFound { what: "organization" })), "{nobody:?}");
}

/// All of them wait for the same row; each success leaves exactly its amount less than the one before it.
#[tokio::test(flavor = "multi_thread")]
async fn sixteen_at_once_take_what_is_there_and_no_more() {
    let (stage, quota) = with_runs(100, 17).await;
    let holder = stage.holder("select from quota_usage for update").await;
    let mut tasks = Vec::new();
    for number in 0..16_u64 {
        let (quota, acme) = (quota.clone(), stage.acme);
        let amount = 5 + number % 5;
        tasks.push(tokio::spawn(async move {
            (amount, quota.consume(acme, &QuotaKind::RUNS, amount, &format!("key:{number}")).await)
        }));
    }
    stage.until_waiting(16).await;
    run(&holder, "rollback").await;
    let (mut taken, mut refused) = (Vec::new(), Vec::new());
    for task in tasks {
        match must_end(task).await.unwrap() {
            (amount, Ok(consumption)) => taken.push((consumption.left.limit().unwrap(), amount)),
            (asked, Err(PlatformError::QuotaExceeded { left, .. })) => refused.push((left, asked)),
            (_, Err(error)) => panic!("{error:?}"),
        }
    }
    taken.sort_unstable_by(|a, b| b.cmp(a));
    let mut left = 100;
    for (after, amount) in &taken {
        left -= amount;
        assert_eq!(*after, left, "{taken:?}");
    }
    assert_eq!(runs_left(&stage).await, i64::try_from(left).unwrap());
    assert!(refused.iter().all(|(left, asked)| left < asked), "{refused:?}");
    assert!(!refused.is_empty() && !taken.is_empty());
}

/// The control of the test above: the same by statements that look first and write then. More is taken than there is.
#[tokio::test(flavor = "multi_thread")]
async fn two_that_look_first_take_more_than_there_is() {
    let (stage, _) = with_runs(5, 4).await;
    let holder = stage.holder("lock table grants in share mode").await;
    let mut tasks = Vec::new();
    for _ in 0..2 {
        let db: cgk::Db = stage.db.clone();
        tasks.push(tokio::spawn(async move {
            db.platform()
                .transaction(async |tx| {
                    let left: i64 = tx.query_one("select balance from public.grants", &[]).await?.get(0);
                    assert!(left >= 4);
                    tx.execute("update public.grants set carried = carried + 4", &[]).await
                })
                .await
        }));
    }
    stage.until_waiting(2).await;
    run(&holder, "rollback").await;
    for task in tasks {
        must_end(task).await.unwrap().unwrap();
    }
    assert_eq!(stage.count("select carried from grants").await, 8);
}

/// The database keeps balances at zero or above, whoever writes.
#[tokio::test(flavor = "multi_thread")]
async fn no_statement_brings_a_balance_below_zero() {
    let (stage, _) = with_runs(5, 4).await;
    let error = stage.watch.execute("update grants set spent = 6", &[]).await.unwrap_err();
    assert_eq!(error.as_db_error().unwrap().constraint(), Some("grants_balance_check"));
    stage.watch.execute("update grants set spent = 5", &[]).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn of_sixteen_with_one_key_one_counts() {
    let (stage, quota) = with_runs(100, 17).await;
    let holder = stage.holder("select from quota_usage for update").await;
    let mut tasks = Vec::new();
    for _ in 0..16 {
        let (quota, acme) = (quota.clone(), stage.acme);
        tasks.push(tokio::spawn(async move { quota.consume(acme, &QuotaKind::RUNS, 7, "one").await }));
    }
    stage.until_waiting(16).await;
    run(&holder, "rollback").await;
    let mut counted = 0;
    for task in tasks {
        counted += usize::from(!must_end(task).await.unwrap().unwrap().repeated);
    }
    assert_eq!((counted, runs_left(&stage).await), (1, 93));
    // And one of sixteen that give it back.
    let mut tasks = Vec::new();
    for _ in 0..16 {
        let (quota, acme) = (quota.clone(), stage.acme);
        tasks.push(tokio::spawn(async move { quota.release(acme, "one").await }));
    }
    let mut released = 0;
    for task in tasks {
        released += usize::from(must_end(task).await.unwrap().unwrap());
    }
    assert_eq!((released, runs_left(&stage).await), (1, 100));
}

/// One key for two kinds at the same time: they lock different rows, and the key decides.
#[tokio::test(flavor = "multi_thread")]
async fn a_key_for_two_kinds_at_once_counts_for_one() {
    let (stage, quota) = with_runs(5, 4).await;
    quota.grant(stage.acme, &NewGrant::purchase(QuotaKind::CREDITS, 5)).await.unwrap();
    let first = stage.holder(&format!("select cgk_quota_consume('{}', 'credits', 2, 'key')", stage.acme)).await;
    let (other, acme) = (quota.clone(), stage.acme);
    let waiting = tokio::spawn(async move { other.consume(acme, &QuotaKind::RUNS, 2, "key").await });
    stage.until_waiting(1).await;
    first.query("commit", &[]).await.unwrap();
    let outcome = must_end(waiting).await.unwrap();
    assert!(matches!(outcome, Err(PlatformError::IdempotencyConflict { .. })), "{outcome:?}");
    assert_eq!(runs_left(&stage).await, 5);

    // If the first one is rolled back, the second one counts.
    let first = stage.holder(&format!("select cgk_quota_consume('{}', 'credits', 2, 'next')", stage.acme)).await;
    let (other, acme) = (quota.clone(), stage.acme);
    let waiting = tokio::spawn(async move { other.consume(acme, &QuotaKind::RUNS, 2, "next").await });
    stage.until_waiting(1).await;
    run(&first, "rollback").await;
    assert!(!must_end(waiting).await.unwrap().unwrap().repeated);
    assert_eq!(runs_left(&stage).await, 3);
}

/// Killed where it waits for the quota, and where it writes the key: nothing was taken, and the same call takes once.
#[tokio::test(flavor = "multi_thread")]
async fn a_consumption_that_is_killed_took_nothing() {
    for lock in [
        "select from quota_usage for update",
        "lock table quota_consumptions in share mode",
        "select from grants for update",
    ] {
        let (stage, quota) = with_runs(10, 4).await;
        let holder = stage.holder(lock).await;
        let (other, acme) = (quota.clone(), stage.acme);
        let killed = tokio::spawn(async move { other.consume(acme, &QuotaKind::RUNS, 4, "a").await });
        stage.until_waiting(1).await;
        stage.kill_waiting().await;
        let error = must_end(killed).await.unwrap().unwrap_err();
        assert!(matches!(error, PlatformError::Database(_)), "{lock}: {error:?}");
        run(&holder, "rollback").await;
        assert_eq!((runs_left(&stage).await, stage.count("select count(*) from quota_consumptions").await), (10, 0));
        assert!(!quota.consume(stage.acme, &QuotaKind::RUNS, 4, "a").await.unwrap().repeated);
        assert_eq!(runs_left(&stage).await, 6);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_consumption_in_a_transaction_is_committed_with_it() {
    let (stage, quota) = with_runs(10, 4).await;
    let db: cgk::Db<PlatformError> = stage.db.errors();
    let refused: Result<(), _> = db
        .platform()
        .transaction(async |tx| {
            quota.consume_in(tx, stage.acme, &QuotaKind::RUNS, 4, "a").await?;
            Err(PlatformError::Invalid { what: "it", why: "is not wanted".into() })
        })
        .await;
    assert!(refused.is_err());
    assert_eq!(runs_left(&stage).await, 10);
    db.platform()
        .transaction(async |tx| {
            // A refusal does not end the transaction.
            let exceeded = quota.consume_in(tx, stage.acme, &QuotaKind::RUNS, 11, "a").await;
            assert!(matches!(exceeded, Err(PlatformError::QuotaExceeded { left: 10, .. })), "{exceeded:?}");
            quota.consume_in(tx, stage.acme, &QuotaKind::RUNS, 4, "a").await?;
            quota.consume_in(tx, stage.acme, &QuotaKind::RUNS, 5, "b").await?;
            assert!(quota.release_in(tx, stage.acme, "b").await?);
            Ok(())
        })
        .await
        .unwrap();
    assert_eq!(runs_left(&stage).await, 6);
}

#[tokio::test(flavor = "multi_thread")]
async fn it_is_known_when_there_is_more() {
    let stage = Stage::set().await;
    let quota = Quota::new(&stage.db);
    let subscriptions = Subscriptions::new(&stage.db);
    let made = subscriptions.subscribe(stage.acme, &NewSubscription::to("hobby".parse().unwrap())).await.unwrap();
    let resets = async |kind: &QuotaKind| match quota.consume(stage.acme, kind, 1_000_000, "x").await {
        Err(PlatformError::QuotaExceeded { resets_at, .. }) => resets_at,
        other => panic!("{other:?}"),
    };
    assert_eq!(resets(&QuotaKind::RUNS).await, Some(made.period_end));
    // Granted once, and given back: no time brings more.
    assert_eq!(resets(&QuotaKind::CREDITS).await, None);
    assert_eq!(resets(&QuotaKind::SEATS).await, None);
    subscriptions.cancel(stage.acme, cgk::platform::Cancellation::AtPeriodEnd).await.unwrap();
    assert_eq!(resets(&QuotaKind::RUNS).await, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn old_consumptions_are_forgotten_and_what_is_in_use_is_kept() {
    let (stage, quota) = with_runs(10, 4).await;
    let projects: QuotaKind = "projects".parse().unwrap();
    Plans::new(&stage.db).define_kind(&projects, UsageType::Allocated).await.unwrap();
    quota.grant(stage.acme, &NewGrant::purchase(projects.clone(), 10)).await.unwrap();
    for key in ["old", "new"] {
        quota.consume(stage.acme, &QuotaKind::RUNS, 1, key).await.unwrap();
    }
    for key in ["kept", "given back"] {
        quota.consume(stage.acme, &projects, 1, key).await.unwrap();
    }
    quota.release(stage.acme, "given back").await.unwrap();
    stage
        .run(
            "update quota_consumptions set created_at = created_at - interval '91 days' where idempotency_key <> 'new'",
        )
        .await;
    assert_eq!(quota.prune(90 * DAY).await.unwrap(), 2);
    assert_eq!(quota.prune(90 * DAY).await.unwrap(), 0);
    let kept = stage.rows("select idempotency_key from quota_consumptions order by 1", &[]).await;
    assert_eq!(kept.iter().map(|row| row.get::<_, String>(0)).collect::<Vec<_>>(), ["kept", "new"]);
    assert_eq!(runs_left(&stage).await, 8);
    assert!(quota.release(stage.acme, "kept").await.unwrap());
}

/// A confirmed member has a seat from its confirmation to its removal, also one that came by an insert into users.
#[tokio::test(flavor = "multi_thread")]
async fn members_take_seats_and_give_them_back() {
    let stage = Stage::set().await;
    let (members, quota) = (Members::new(&stage.db), Quota::new(&stage.db));
    let seats = async || {
        let balances = quota.left(stage.acme).await.unwrap();
        balances.iter().find(|balance| balance.kind == QuotaKind::SEATS).map_or((0, None), |b| (b.used, b.left.limit()))
    };
    let add = async |name: &str| members.add(stage.acme, &NewMember::of_address(&format!("{name}@example.com"))).await;
    // Nobody has granted seats: there is no limit, and they are counted.
    let ada = stage.user(stage.acme, "ada@example.com", "owner").await;
    for name in ["ben", "cleo", "dan"] {
        add(name).await.unwrap();
    }
    assert_eq!(seats().await, (4, Some(0)));
    // More members than seats: those who are there stay, and nobody is added.
    Subscriptions::new(&stage.db).subscribe(stage.acme, &NewSubscription::to("hobby".parse().unwrap())).await.unwrap();
    assert_eq!(seats().await, (4, Some(0)));
    let refused = add("eve").await;
    assert!(matches!(refused, Err(PlatformError::QuotaExceeded { left: 0, asked: 1, .. })), "{refused:?}");
    assert_eq!(stage.count("select count(*) from users where email like 'eve%'").await, 0);
    assert_eq!(seats().await, (4, Some(0)));
    for member in members.list(stage.acme, &PageRequest::default()).await.unwrap().items {
        if member.user_id != ada {
            members.remove(stage.acme, member.user_id).await.unwrap();
        }
    }
    assert_eq!(seats().await, (1, Some(2)));
    add("eve").await.unwrap();
    add("fay").await.unwrap();
    assert!(matches!(add("gus").await, Err(PlatformError::QuotaExceeded { .. })));
    // What the service counts beside them comes on top.
    members
        .remove(stage.acme, members.list(stage.acme, &PageRequest::default()).await.unwrap().items[2].user_id)
        .await
        .unwrap();
    quota.consume(stage.acme, &QuotaKind::SEATS, 1, "guest").await.unwrap();
    assert!(matches!(add("gus").await, Err(PlatformError::QuotaExceeded { .. })));
    // Of a membership that is unconfirmed and confirmed again.
    stage.run("update memberships set confirmed_at = null where role = 'owner'").await;
    assert_eq!(seats().await, (2, Some(1)));
    stage.run("update memberships set confirmed_at = now() where role = 'owner'").await;
    assert_eq!(seats().await, (3, Some(0)));
    // The organization goes, and all of it.
    stage
        .run("drop schema tenant_acme cascade; delete from users; delete from organizations where slug = 'acme'")
        .await;
    for table in ["grants", "quota_usage", "quota_consumptions", "subscriptions", "memberships"] {
        assert_eq!(stage.count(&format!("select count(*) from {table}")).await, 0, "{table}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_grant_in_a_transaction_is_committed_with_it_and_ended_ones_are_listed_on_request() {
    let stage = Stage::set().await;
    let quota = Quota::new(&stage.db);
    let db: cgk::Db<PlatformError> = stage.db.errors();
    let bought = NewGrant::purchase(QuotaKind::RUNS, 5);
    let undone: Result<(), _> = db
        .platform()
        .transaction(async |tx| {
            quota.grant_in(tx, stage.acme, &bought).await?;
            Err(PlatformError::NotFound { what: "product" })
        })
        .await;
    assert!(undone.is_err());
    assert_eq!(runs_left(&stage).await, 0);
    let grant = db.platform().transaction(async |tx| quota.grant_in(tx, stage.acme, &bought).await).await.unwrap();
    assert_eq!(runs_left(&stage).await, 5);

    quota.revoke_grant(stage.acme, grant.id).await.unwrap();
    assert!(quota.grants(stage.acme).await.unwrap().is_empty());
    let all = quota.all_grants(stage.acme).await.unwrap();
    assert_eq!(all.iter().map(|grant| grant.id).collect::<Vec<_>>(), [grant.id]);
}
