//! The invoices of the same periods make the same quota, in whatever order they come, how often, and when.
//!
//! `CGK_PERIOD_CASES` says how many random cases, and `CGK_PERIOD_SEED` with which seed the first; by default a random one.

use crate::{
    quota_model::Random,
    stage::{Stage, run, say},
    subscriptions::seconds_passed,
};
use cgk::{
    OrganizationId,
    platform::{NewSubscription, PlatformError, Quota, QuotaKind, RenewalPeriod, Subscriptions},
};
use std::time::{Duration, SystemTime};

const HOUR: i64 = 3600;
const DAY: i64 = 24 * HOUR;
/// The cases of the control are those of this seed and the next ones.
const CONTROL_SEED: u64 = 1;
/// What the plan includes in each period.
const INCLUDED: u64 = 1000;

/// An invoice, in seconds since the subscription began.
#[derive(Clone, Copy, Debug)]
struct Invoice {
    start: i64,
    end: i64,
    /// The number of the period that it is for; none if it is for the trial, for what was before the subscription, or for the
    /// rest of a period.
    of: Option<usize>,
}

#[derive(Clone, Copy, Debug)]
struct Period {
    start: i64,
    end: i64,
}

/// A subscription and its invoices, in the order in which they come.
#[derive(Debug)]
struct Case {
    trial: bool,
    /// The end of the first period, which the subscription itself has computed.
    first_end: i64,
    /// When each invoice comes.
    invoices: Vec<(i64, Invoice)>,
    /// When what is left is looked at, and something used: within each period, and between two.
    moments: Vec<i64>,
}

impl Case {
    fn random(random: &mut Random) -> Self {
        let trial = random.below(2) == 0;
        let mut first_end = if trial { 14 * DAY } else { random.of(&[12 * HOUR, 3 * DAY, 30 * DAY, 31 * DAY]) };
        let mut start = if trial { random.of(&[0, 0, 2 * HOUR, 5 * DAY, 14 * DAY]) } else { 0 };
        let (mut invoices, mut rests, mut ends, mut moments) = (Vec::new(), Vec::new(), Vec::new(), vec![HOUR]);
        for of in 0..2 + usize::try_from(random.below(4)).unwrap() {
            let mut length = random.of(&[12 * HOUR, 3 * DAY, 10 * DAY, 30 * DAY]);
            if of == 0 && !trial {
                if length < DAY {
                    // What starts within a day of a longer one is that one.
                    first_end = length;
                }
                ends.push(first_end);
            }
            // What starts within another one and ends with it is the rest of that one.
            let ends_with = |length: i64| ends.iter().any(|end| (start + length - end).abs() < 2 * HOUR);
            // Nor is one about a day longer than the trial, which is the trial up to there.
            let a_day_longer = |length: i64| (start + length - first_end - DAY).abs() < HOUR;
            while of > 0 && (ends_with(length) || ends_with(length / 2))
                || of == 0 && trial && (a_day_longer(length) || a_day_longer(length / 2))
            {
                length += 4 * HOUR;
            }
            ends.push(start + length);
            let jitter = |random: &mut Random| random.of(&[-2, 0, 0, 1, 3]);
            let by = jitter(random);
            invoices.push(Invoice { start: start + by, end: start + length + by, of: Some(of) });
            // That of a change of the plan, which comes after the one for the period.
            if random.below(2) == 0 {
                let by = jitter(random);
                rests.push((of, Invoice { start: start + length * 9 / 20, end: start + length + by, of: None }));
            }
            // Again, or an invoice before the period was made longer.
            for _ in 0..random.below(3) {
                let (by, part) = (jitter(random), random.of(&[length, length, length / 2]));
                invoices.push(Invoice { start: start + by, end: start + part + by, of: Some(of) });
            }
            moments.extend([start + length * 2 / 5, start + length * 3 / 4]);
            // The next one begins when this one ends, later, or earlier.
            let next =
                start + random.of(&[length, length, length, length + 6 * HOUR, length + 2 * DAY, length * 3 / 5]);
            if next > start + length {
                moments.push((start + length + next) / 2);
            }
            start = next;
        }
        moments.push(start + 40 * DAY);
        if trial {
            invoices.push(Invoice { start: 1, end: first_end + 1, of: None });
            invoices.push(Invoice { start: -2, end: first_end - 2, of: None });
        }
        invoices.push(Invoice { start: -30 * DAY, end: 0, of: None });
        invoices.push(Invoice { start: -40 * DAY, end: -10 * DAY, of: None });
        moments.sort_unstable();
        moments.dedup();
        // Away from where periods start and end.
        for moment in &mut moments {
            *moment += HOUR / 4;
        }
        let early = random.below(2) == 0;
        let mut when = || (if early { moments[0] } else { random.of(&moments) }, random.next());
        let mut invoices: Vec<_> = invoices.into_iter().map(|invoice| (when(), invoice)).collect();
        for (of, rest) in rests {
            // The first one of a period is the one for all of it.
            let ((at, _), _) = invoices.iter().find(|(_, invoice)| invoice.of == Some(of)).unwrap();
            invoices.push((when().max((*at, u64::MAX)), rest));
        }
        invoices.sort_by_key(|(when, _)| *when);
        Self { trial, first_end, invoices: invoices.into_iter().map(|((at, _), it)| (at, it)).collect(), moments }
    }

    /// The periods as the document says, of the invoices that have come: each from its start to the latest end that was named
    /// for it, or to the start of the next one.
    fn periods(&self, come: &[Invoice]) -> Vec<Period> {
        let mut of: Vec<Option<Period>> = vec![None; 8];
        for invoice in come {
            let Some(number) = invoice.of else { continue };
            let period = of[number].get_or_insert(Period { start: invoice.start.max(0), end: invoice.end });
            period.end = period.end.max(invoice.end);
        }
        let own = Period { start: 0, end: self.first_end };
        match (&mut of[0], self.trial) {
            (Some(first), false) => first.start = 0,
            (first @ None, false) => *first = Some(own),
            (_, true) => of.insert(0, Some(own)),
        }
        let mut periods: Vec<Period> = of.into_iter().flatten().collect();
        for at in 1..periods.len() {
            periods[at - 1].end = periods[at - 1].end.min(periods[at].start);
        }
        periods
    }
}

/// Runs a case, and compares what is left with what the document says.
async fn compare(stage: &Stage, organization: OrganizationId, case: &Case, random: &mut Random) {
    let (subscriptions, quota) = (Subscriptions::new(&stage.db), Quota::new(&stage.db));
    let length = Duration::from_secs(case.first_end.unsigned_abs());
    let mut began = SystemTime::now();
    let new = NewSubscription::to("team".parse().unwrap());
    let new = if case.trial { new.trial(length) } else { new.period_end(began + length) };
    subscriptions.subscribe(organization, &new).await.unwrap();
    let (mut now, mut come, mut used) = (0, Vec::new(), Vec::<(i64, u64)>::new());
    let mut invoices = case.invoices.iter().peekable();
    for moment in &case.moments {
        for sql in seconds_passed(moment - now, &format!("organization_id = '{organization}'")) {
            run(&stage.watch, &sql).await;
        }
        began -= Duration::from_secs((moment - now).unsigned_abs());
        now = *moment;
        while let Some((_, invoice)) = invoices.next_if(|(at, _)| *at <= now) {
            let time = |seconds: i64| match seconds {
                0.. => began + Duration::from_secs(seconds.unsigned_abs()),
                _ => began - Duration::from_secs(seconds.unsigned_abs()),
            };
            let (start, end) = (time(invoice.start), time(invoice.end));
            let renewed = subscriptions.renew(organization, RenewalPeriod::Exactly { start, end }).await.unwrap();
            come.push(*invoice);
            // The newest period, until the latest end that was named for it.
            let periods = case.periods(&come);
            let wanted = time(periods.last().unwrap().end);
            let apart = renewed.period_end.duration_since(wanted).unwrap_or_else(|error| error.duration());
            assert!(apart < Duration::from_secs(60), "{renewed:?} after {come:?}, not until {wanted:?}");
            if random.below(4) == 0 {
                for plan in ["scale", "team"] {
                    subscriptions.change_plan(organization, &plan.parse().unwrap()).await.unwrap();
                }
            }
        }
        let periods = case.periods(&come);
        let running = periods.iter().find(|period| period.start <= now && period.end > now);
        let wanted = running.map_or(0, |period| {
            let counts = used.iter().filter(|(at, _)| *at >= period.start);
            INCLUDED.saturating_sub(counts.map(|(_, amount)| amount).sum())
        });
        let balances = quota.left(organization).await.unwrap();
        let credits = balances.iter().find(|balance| balance.kind == QuotaKind::CREDITS).unwrap();
        assert_eq!(credits.left.limit(), Some(wanted), "at {now}, {periods:?} of {come:?}, used {used:?}");
        let amount = 1 + random.below(600);
        match quota.consume(organization, &QuotaKind::CREDITS, amount, &format!("at {now}")).await {
            Ok(_) => used.push((now, amount)),
            Err(PlatformError::QuotaExceeded { left, .. }) => assert!(left == wanted && left < amount),
            Err(error) => panic!("{error:?}"),
        }
    }
}

/// # Panics
///
/// If what is left in a case is not what the document says.
async fn run_cases(stage: &Stage, cases: u64, seed: u64) {
    for number in 0..cases {
        let mut random = Random(seed.wrapping_add(number));
        let case = Case::random(&mut random);
        say(&format!("CGK_PERIOD_CASES=1 CGK_PERIOD_SEED={} {case:?}", seed.wrapping_add(number)));
        // An organization without a schema does here.
        let sql =
            "insert into organizations (slug, name, status) values ('case_' || $1::text, 'x', 'active') returning id";
        let organization = stage.rows(sql, &[&number.to_string()]).await[0].get(0);
        compare(stage, organization, &case, &mut random).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn invoices_in_any_order_make_the_same_periods() {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let seed = number("CGK_PERIOD_SEED").unwrap_or_else(rand::random);
    run_cases(&Stage::set().await, number("CGK_PERIOD_CASES").unwrap_or(24), seed).await;
    // The cases of the control, without a fault.
    run_cases(&Stage::set().await, 60, CONTROL_SEED).await;
}

/// The control: each of these faults in the functions is found, by the same seeds.
#[tokio::test(flavor = "multi_thread")]
async fn faults_in_the_rule_of_periods_are_found() {
    let mut missed = Vec::new();
    for (function, right, wrong) in [
        ("cgk_subscription_renewal", "interval '24 hours' and length.apart <= other.half", "interval '24 hours'"),
        ("cgk_subscription_renewal", "length.apart < interval '24 hours'", "length.apart < interval '0 hours'"),
        ("cgk_subscription_renewal", "not p.is_trial or ", "not p.is_trial or true or "),
        ("cgk_subscription_renewal", "not p.is_trial or ", "not p.is_trial and "),
        ("cgk_subscription_renewal", "p.is_trial desc, ", ""),
        ("cgk_subscription_renewal", "greatest(named.paid_until, new_end)", "new_end"),
        ("cgk_subscription_renewal", "least(paid, following)", "paid"),
        ("cgk_subscription_renewal", "newest := following is null", "newest := true"),
        ("cgk_subscription_renewal", "starts <= first.starts_at or new_end", "new_end"),
        ("cgk_subscription_renewal", "and p.ends_at > starts", "and false"),
        ("cgk_subscription_renewal", "least(interval '1 hour', (new_end - starts) / 2)", "interval '100 days'"),
        ("cgk_subscription_renewal", "if first.is_trial and starts <= first.starts_at", "if false"),
        ("cgk_change_subscription_grants", "g.starts_at < coalesce(following, 'infinity')", "true"),
        ("cgk_change_subscription_grants", "set ends_at = ends, paid_until", "set paid_until"),
    ] {
        let stage = Stage::set().await;
        let text: String = stage.rows("select pg_get_functiondef(to_regproc($1::text))", &[&function]).await[0].get(0);
        assert!(text.contains(right), "{function} has no {right}");
        stage.run(&text.replace(right, wrong)).await;
        let outcome = tokio::spawn(async move { run_cases(&stage, 60, CONTROL_SEED).await }).await;
        if !outcome.is_err_and(|error| error.is_panic()) {
            missed.push((function, right, wrong));
        }
    }
    assert!(missed.is_empty(), "not found: {missed:?}");
}
