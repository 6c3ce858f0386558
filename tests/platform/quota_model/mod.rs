//! Quota against a model: random operations of eight tasks, each on an organization of its own with a model that says what must come
//! of each, and all together on one organization, whose states must form one line.
//!
//! `CGK_QUOTA_OPERATIONS` says how many operations in all, and `CGK_QUOTA_SEED` with which seed; by default a random one.

mod model;

use crate::{
    stage::{Stage, must_end},
    subscriptions::days_passed,
};
use cgk::{
    OrganizationId,
    platform::{
        Allowance, Cancellation, Grant, NewGrant, NewSubscription, PlatformError, Quota, QuotaKind, RenewalPeriod,
        Subscriptions,
    },
};
use model::{Model, ModelGrant, Moment, Outcome, PERIOD_DAYS};
use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};
use tokio::task::JoinError;
use tokio_postgres::Client;

const TASKS: u64 = 8;
const DAY: Duration = Duration::from_secs(24 * 60 * 60);
const KINDS: [&str; 3] = ["credits", "runs", "seats"];

/// Numbers from a seed, the same on every machine (SplitMix64).
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    pub(crate) fn of<T: Copy>(&mut self, items: &[T]) -> T {
        items[usize::try_from(self.below(items.len() as u64)).unwrap()]
    }
}

/// One task's own organization, as it is and as the model says.
struct Own {
    organization: OrganizationId,
    model: Model,
    quota: Quota,
    subscriptions: Subscriptions,
    watch: Client,
    random: Random,
    /// The end of the last period, as the database says.
    period_end: SystemTime,
}

impl Own {
    async fn step(&mut self) {
        let kind = self.random.of(&KINDS);
        self.model.number += 1;
        match self.random.below(100) {
            0..56 => self.consume(kind).await,
            56..70 => self.release().await,
            70..76 => self.grant(kind).await,
            76..84 => self.change_plan().await,
            84..91 => self.renew().await,
            91..95 => self.days_pass().await,
            95..98 => self.revoke().await,
            _ => self.end_or_start().await,
        }
    }

    fn key(&mut self) -> String {
        // Few of them, so that they meet.
        format!("key:{}", self.random.below(20 + self.model.number / 2))
    }

    async fn consume(&mut self, kind: &'static str) {
        let key = self.key();
        let amount = match kind {
            "seats" => 1 + self.random.below(2),
            _ => 1 + self.random.below(4) * self.random.below(100),
        };
        let wanted = self.model.consume(kind, amount, &key);
        let found = match self.quota.consume(self.organization, &kind.parse().unwrap(), amount, &key).await {
            Ok(done) if done.repeated => Outcome::Repeated(done.left.limit()),
            Ok(done) => Outcome::Taken(done.left.limit()),
            Err(PlatformError::QuotaExceeded { left, asked, .. }) if asked == amount => Outcome::Exceeded(left),
            Err(PlatformError::IdempotencyConflict { .. }) => Outcome::Conflict,
            Err(error) => panic!("{error:?}"),
        };
        assert_eq!(found, wanted, "consume {amount} {kind} by {key}");
    }

    async fn release(&mut self) {
        let key = self.key();
        let wanted = self.model.release(&key);
        assert_eq!(self.quota.release(self.organization, &key).await.unwrap(), wanted, "release {key}");
    }

    async fn grant(&mut self, kind: &'static str) {
        let amount =
            if self.random.below(20) == 0 { Allowance::Unlimited } else { (1 + self.random.below(200)).into() };
        let promocode = self.random.below(2) == 0;
        let name: QuotaKind = kind.parse().unwrap();
        let mut new = if promocode { NewGrant::promocode(name, amount) } else { NewGrant::purchase(name, amount) };
        // Days are odd here and even where time passes: nothing expires at the moment of a call.
        let days = (self.random.below(2) == 0).then(|| self.random.below(30) * 2 + 1);
        if let Some(days) = days {
            new = new.expires_in(DAY * u32::try_from(days).unwrap());
        }
        let made = self.quota.grant(self.organization, &new).await.unwrap();
        self.model.grants.push(ModelGrant {
            id: Some(made.id),
            kind,
            subscription: false,
            once: true,
            amount: amount.limit(),
            spent: 0,
            starts: self.model.now(),
            expires: days.map(|days| (self.model.today + i64::try_from(days).unwrap(), self.model.number)),
            since: self.model.now(),
            rank: if promocode { 1 } else { 2 },
            revoked: false,
        });
    }

    async fn revoke(&mut self) {
        let chosen = self.model.grants.iter().position(|grant| grant.id.is_some() && !grant.revoked);
        let Some(at) = chosen else { return };
        self.quota.revoke_grant(self.organization, self.model.grants[at].id.unwrap()).await.unwrap();
        self.model.grants[at].revoked = true;
    }

    async fn change_plan(&mut self) {
        let to = self.random.of(&["hobby", "team", "hobby", "team", "enterprise", "once_only", "nothing"]);
        let outcome = self.subscriptions.change_plan(self.organization, &to.parse().unwrap()).await;
        match self.model.plan {
            None => assert!(matches!(outcome, Err(PlatformError::NotFound { .. })), "{outcome:?}"),
            Some(_) => {
                assert_eq!(outcome.unwrap().plan.as_str(), to);
                self.model.change_plan(to);
            }
        }
    }

    /// For the period that begins now, that began some days before, that begins at the end of the newest one, or that begins in some days:
    /// for 30 days or fewer, as an invoice up to a billing day. Days are odd here too.
    async fn renew(&mut self) {
        let days = 1 + 2 * i64::try_from(self.random.below(4)).unwrap();
        let (now, (day, number)) = (SystemTime::now(), self.model.now());
        let span = DAY * u32::try_from(days).unwrap();
        let (start, at): (SystemTime, Moment) = match self.random.below(9) {
            0..2 => (now, (day, number)),
            2..6 => (now - span, (day - days, number)),
            6 => (now + span, (day + days, number)),
            // After a gap, which a later invoice may be for.
            7 if self.model.plan.is_some() => (self.period_end + 10 * DAY, self.model.day_after_newest(10)),
            _ if self.model.plan.is_some() => (self.period_end, self.model.day_after_newest(0)),
            _ => (now, (day, number)),
        };
        let length = self.random.of(&[PERIOD_DAYS, PERIOD_DAYS, 10, 4]);
        let end = start + DAY * u32::try_from(length).unwrap();
        let outcome = self.subscriptions.renew(self.organization, RenewalPeriod::Exactly { start, end }).await;
        if self.model.plan.is_none() {
            assert!(matches!(outcome, Err(PlatformError::NotFound { .. })), "{outcome:?}");
            return;
        }
        self.period_end = outcome.unwrap().period_end;
        self.model.renew(at, (at.0 + length, at.1));
    }

    async fn end_or_start(&mut self) {
        if self.model.plan.is_some() {
            self.subscriptions.cancel(self.organization, Cancellation::Now).await.unwrap();
            self.model.end();
        } else {
            self.start().await;
        }
    }

    async fn start(&mut self) {
        let plan = self.random.of(&["hobby", "team", "hobby", "team", "once_only", "nothing"]);
        let end = SystemTime::now() + DAY * u32::try_from(PERIOD_DAYS).unwrap();
        let new = NewSubscription::to(plan.parse().unwrap()).period_end(end);
        self.period_end = self.subscriptions.subscribe(self.organization, &new).await.unwrap().period_end;
        self.model.subscribe(plan);
    }

    async fn days_pass(&mut self) {
        let days = i64::try_from(self.random.below(12)).unwrap() * 2;
        self.model.today += days;
        self.period_end -= DAY * u32::try_from(days).unwrap();
        for sql in days_passed(days, &format!("organization_id = '{}'", self.organization)) {
            crate::stage::run(&self.watch, &sql).await;
        }
    }

    /// Everything that the database says, against everything that the model says.
    async fn compare(&self) {
        let balances = self.quota.left(self.organization).await.unwrap();
        for kind in KINDS {
            let found =
                balances.iter().find(|balance| balance.kind.as_str() == kind).map(|balance| balance.left.limit());
            assert_eq!(found.unwrap_or(Some(0)), self.model.left(kind), "left of {kind}");
        }
        let mut found: Vec<_> = self.quota.grants(self.organization).await.unwrap().iter().map(shown).collect();
        let mut wanted = Vec::new();
        for at in KINDS.into_iter().flat_map(|kind| self.model.current(kind)) {
            let grant = &self.model.grants[at];
            wanted.push((grant.kind.to_owned(), grant.amount, self.model.balance(at), grant.rank));
        }
        found.sort();
        wanted.sort();
        assert_eq!(found, wanted);
    }
}

fn shown(grant: &Grant) -> (String, Option<u64>, Option<u64>, u8) {
    let rank = match grant.source.as_str() {
        "subscription" => 0,
        "promocode" => 1,
        _ => 2,
    };
    (grant.kind.to_string(), grant.amount.limit(), grant.balance.limit(), rank)
}

/// What one task has seen of the organization that all share: what was left after it took so much.
#[derive(Default)]
struct Seen {
    taken: Vec<(u64, u64)>,
    exceeded: Vec<(u64, u64)>,
    keys: Vec<u64>,
}

impl Seen {
    /// The amount of a key is always the same; a key is used by several tasks.
    async fn step(&mut self, quota: &Quota, shared: OrganizationId, random: &mut Random, keys: u64) {
        let key = random.below(keys);
        let amount = 1 + key % 7;
        match quota.consume(shared, &QuotaKind::RUNS, amount, &format!("shared:{key}")).await {
            Ok(done) if done.repeated => {}
            Ok(done) => {
                self.taken.push((done.left.limit().unwrap(), amount));
                self.keys.push(key);
            }
            Err(PlatformError::QuotaExceeded { left, asked, .. }) => self.exceeded.push((left, asked)),
            Err(error) => panic!("{error:?}"),
        }
    }
}

/// How many keys there are for the organization that all share. They ask for 4 on average.
fn shared_keys(steps: u64) -> u64 {
    40 + steps / 2
}

async fn task(stage: Arc<Stage>, own: OrganizationId, shared: OrganizationId, seed: u64, steps: u64) -> Seen {
    let mut own = Own {
        organization: own,
        model: Model::default(),
        quota: Quota::new(&stage.db),
        subscriptions: Subscriptions::new(&stage.db),
        watch: crate::stage::connect(&stage.database).await,
        random: Random(seed),
        period_end: SystemTime::UNIX_EPOCH,
    };
    own.start().await;
    let mut seen = Seen::default();
    let keys = shared_keys(steps);
    for number in 0..steps {
        if own.random.below(4) == 0 {
            seen.step(&own.quota, shared, &mut own.random, keys).await;
        } else {
            own.step().await;
        }
        if number % 10 == 9 {
            own.compare().await;
        }
    }
    own.compare().await;
    seen
}

#[tokio::test(flavor = "multi_thread")]
async fn random_operations_are_those_of_the_model() {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let operations = number("CGK_QUOTA_OPERATIONS").unwrap_or(4000);
    let seed = number("CGK_QUOTA_SEED").unwrap_or_else(rand::random);
    crate::stage::say(&format!("CGK_QUOTA_OPERATIONS={operations} CGK_QUOTA_SEED={seed}"));
    compare_with_the_model(Arc::new(Stage::set_with_pool(8).await), operations, seed).await.unwrap();
}

/// The control: each of these faults in the functions is found, by one seed.
#[tokio::test(flavor = "multi_thread")]
async fn faults_are_found_by_the_model() {
    for (function, right, wrong) in [
        ("cgk_quota_consume", "order by g.balance is not null, coalesce(g.expires_at, 'infinity'), ", "order by "),
        ("cgk_quota_consume", "and (g.balance > 0 or g.balance is null)", "and g.balance > 0"),
        ("cgk_quota_consume", "coalesce(g.expires_at, 'infinity') > moment", "true"),
        ("cgk_quota_release", "spent = g.spent - taken.grant_amounts[i]", "spent = g.spent"),
        ("cgk_quota_release", "carried = g.carried - taken.grant_amounts[i]", "carried = g.carried"),
        ("cgk_change_subscription_grants", "coalesce((select sum(g.spent)", "0 * coalesce((select sum(g.spent)"),
        (
            "cgk_change_subscription_grants",
            "and g.source = 'subscription' and g.revoked_at is null",
            "and g.revoked_at is null",
        ),
        // What was used after the start of a period that is reported late.
        ("cgk_change_subscription_grants", "c.created_at >= starts", "false"),
        ("cgk_subscription_renewal", "length.apart < interval '24 hours'", "length.apart < interval '0 hours'"),
        // A change of the plan while a period is paid ahead.
        ("cgk_change_subscription_grants", "else p.ends_at > moment end", "else p.starts_at = starts end"),
        ("cgk_change_subscription_grants", "g.starts_at >= c.since", "true"),
        // A renewal by another clock, and a period that is paid after a later one.
        ("cgk_change_subscription_grants", "set ends_at = ends, paid_until", "set paid_until"),
        ("cgk_subscription_renewal", "least(paid, following)", "paid"),
    ] {
        let stage = Arc::new(Stage::set_with_pool(8).await);
        let text: String = stage.rows("select pg_get_functiondef(to_regproc($1::text))", &[&function]).await[0].get(0);
        assert!(text.contains(right), "{function} has no {right}");
        stage.run(&text.replace(right, wrong)).await;
        let outcome = compare_with_the_model(stage, 6000, 1).await;
        assert!(outcome.is_err_and(|error| error.is_panic()), "{wrong} in {function} is not found");
    }
}

/// # Errors
///
/// A task has found a difference, or a call has failed.
async fn compare_with_the_model(stage: Arc<Stage>, operations: u64, seed: u64) -> Result<(), JoinError> {
    // A plan without anything per period, and one without anything at all.
    stage
        .run(
            "insert into plans (key, name) values ('once_only', 'x'), ('nothing', 'x');
             insert into plan_entitlements (plan_id, kind, renewal, amount)
             select p.id, 'runs', 'once', 70 from plans p where p.key = 'once_only'",
        )
        .await;
    // Organizations without a schema do here.
    let sql =
        "insert into organizations (slug, name, status) select 'task_' || n, 'x', 'active' from generate_series(1, 8) n
               returning id";
    let own: Vec<OrganizationId> = stage.rows(sql, &[]).await.iter().map(|row| row.get(0)).collect();
    let shared = stage.globex;
    // Half of what all keys together ask for.
    let bought = 2 * shared_keys(operations / TASKS);
    Quota::new(&stage.db).grant(shared, &NewGrant::purchase(QuotaKind::RUNS, bought)).await.unwrap();
    let mut tasks = Vec::new();
    for (at, own) in (0..TASKS).zip(own) {
        let seed = seed.wrapping_add(at.wrapping_mul(0x1234_5678_9ABC_DEF1));
        tasks.push(tokio::spawn(task(Arc::clone(&stage), own, shared, seed, operations / TASKS)));
    }
    let (mut taken, mut exceeded, mut keys) = (Vec::new(), Vec::new(), Vec::new());
    for task in tasks {
        let seen = task.await?;
        taken.extend(seen.taken);
        exceeded.extend(seen.exceeded);
        keys.extend(seen.keys);
    }
    // All that was taken, in the one order that what was left gives: each began where another one ended.
    taken.sort_unstable_by(|a, b| b.cmp(a));
    let mut left = bought;
    let mut states = vec![left];
    for (after, amount) in &taken {
        left -= amount;
        assert_eq!(*after, left);
        states.push(left);
    }
    for (left, asked) in &exceeded {
        assert!(left < asked && states.contains(left), "{left} of {asked}");
    }
    let times = keys.len();
    keys.sort_unstable();
    keys.dedup();
    assert_eq!(keys.len(), times, "a key counted twice");
    let quota = Quota::new(&stage.db);
    assert_eq!(must_end(quota.left(shared)).await.unwrap()[0].left, Allowance::Limited(left));
    let beyond = quota.consume(shared, &QuotaKind::RUNS, left + 1, "beyond").await;
    assert!(matches!(beyond, Err(PlatformError::QuotaExceeded { left: found, .. }) if found == left), "{beyond:?}");
    crate::stage::say(&format!(
        "{} taken of {bought} at the shared organization, {} times exceeded",
        taken.len(),
        exceeded.len()
    ));
    Ok(())
}
