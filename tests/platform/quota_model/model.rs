//! What must be left: the periods of a subscription, its grants and what was used, each with its time.

use cgk::platform::GrantId;
use std::collections::BTreeMap;

pub(super) const PERIOD_DAYS: i64 = 30;

/// A day of the model, and the number of the operation, which orders what happens at one time of the day.
pub(super) type Moment = (i64, u64);

/// What the bundled plans include: kind, each period or once, amount.
fn plan(key: &str) -> Vec<(&'static str, bool, Option<u64>)> {
    match key {
        "hobby" => vec![("credits", true, Some(100)), ("runs", false, Some(1000)), ("seats", false, Some(3))],
        "once_only" => vec![("runs", true, Some(70))],
        "nothing" => vec![],
        "team" => vec![("credits", false, Some(1000)), ("runs", false, Some(10_000)), ("seats", false, Some(10))],
        _ => vec![("credits", false, None), ("runs", false, None), ("seats", false, None)],
    }
}

#[derive(Clone, Debug)]
pub(super) struct ModelGrant {
    pub(super) id: Option<GrantId>,
    pub(super) kind: &'static str,
    pub(super) subscription: bool,
    pub(super) once: bool,
    pub(super) amount: Option<u64>,
    pub(super) spent: u64,
    pub(super) starts: Moment,
    pub(super) expires: Option<Moment>,
    /// What was used from here on counts in the period for which it was granted.
    pub(super) since: Moment,
    pub(super) rank: u8,
    pub(super) revoked: bool,
}

#[derive(Clone, Debug)]
struct ModelKey {
    kind: &'static str,
    amount: u64,
    parts: Vec<(usize, u64)>,
    at: Moment,
    released: bool,
}

#[derive(Clone, Copy, Debug)]
struct Period {
    start: Moment,
    end: Moment,
    /// The latest end that a renewal has named.
    paid: Option<Moment>,
}

#[derive(Default)]
pub(super) struct Model {
    pub(super) today: i64,
    /// The number of the operation.
    pub(super) number: u64,
    pub(super) plan: Option<&'static str>,
    /// Those of the subscription, also those that were paid ahead, by their start.
    periods: Vec<Period>,
    /// Those of subscriptions that have ended.
    earlier: Vec<Period>,
    pub(super) grants: Vec<ModelGrant>,
    keys: BTreeMap<String, ModelKey>,
    allocated: u64,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Taken(Option<u64>),
    Repeated(Option<u64>),
    Exceeded(u64),
    Conflict,
}

impl Model {
    pub(super) fn now(&self) -> Moment {
        (self.today, self.number)
    }

    /// The grants of a kind that have not ended, in the order in which they are used. Those of a period that was paid
    /// ahead are among them.
    pub(super) fn current(&self, kind: &str) -> Vec<usize> {
        let current = |grant: &ModelGrant| {
            grant.kind == kind && !grant.revoked && grant.expires.is_none_or(|expires| expires > self.now())
        };
        let mut found: Vec<usize> = (0..self.grants.len()).filter(|at| current(&self.grants[*at])).collect();
        found.sort_by_key(|at| {
            let grant = &self.grants[*at];
            let rank = if grant.expires.is_none() { grant.rank } else { 0 };
            (grant.amount.is_some(), grant.expires.unwrap_or((i64::MAX, 0)), rank, *at)
        });
        found
    }

    fn live(&self, kind: &str) -> Vec<usize> {
        self.current(kind).into_iter().filter(|at| self.grants[*at].starts <= self.now()).collect()
    }

    /// What was used in the period of a grant of a subscription before it was made.
    fn carried(&self, at: usize) -> u64 {
        let grant = &self.grants[at];
        let counts = |key: &ModelKey| {
            !key.released && (grant.once || key.at >= grant.since && grant.expires.is_none_or(|end| key.at < end))
        };
        let before = |other: usize| {
            let from = &self.grants[other];
            other < at && from.subscription && from.kind == grant.kind && from.once == grant.once
        };
        let parts = self.keys.values().filter(|key| grant.subscription && counts(key)).flat_map(|key| &key.parts);
        parts.filter(|(other, _)| before(*other)).map(|(_, part)| part).sum()
    }

    pub(super) fn balance(&self, at: usize) -> Option<u64> {
        self.grants[at].amount.map(|amount| amount.saturating_sub(self.carried(at)) - self.grants[at].spent)
    }

    pub(super) fn left(&self, kind: &str) -> Option<u64> {
        let mut sum = 0;
        for at in self.live(kind) {
            sum += self.balance(at)?;
        }
        Some(if kind == "seats" { sum.saturating_sub(self.allocated) } else { sum })
    }

    pub(super) fn consume(&mut self, kind: &'static str, amount: u64, key: &str) -> Outcome {
        let left = self.left(kind);
        if let Some(earlier) = self.keys.get(key) {
            return match earlier {
                earlier if earlier.kind != kind || earlier.amount != amount || earlier.released => Outcome::Conflict,
                _ => Outcome::Repeated(left),
            };
        }
        if left.is_some_and(|left| left < amount) {
            return Outcome::Exceeded(left.unwrap());
        }
        let mut parts = Vec::new();
        if kind == "seats" {
            self.allocated += amount;
        } else {
            let mut missing = amount;
            for at in self.live(kind) {
                let part = self.balance(at).map_or(missing, |balance| balance.min(missing));
                if part > 0 {
                    self.grants[at].spent += part;
                    parts.push((at, part));
                    missing -= part;
                }
            }
            assert_eq!(missing, 0);
        }
        let at = self.now();
        self.keys.insert(key.to_owned(), ModelKey { kind, amount, parts, at, released: false });
        Outcome::Taken(self.left(kind))
    }

    pub(super) fn release(&mut self, key: &str) -> bool {
        let Some(taken) = self.keys.get_mut(key).filter(|taken| !taken.released) else { return false };
        taken.released = true;
        if taken.kind == "seats" {
            self.allocated -= taken.amount;
        }
        for (at, part) in taken.parts.clone() {
            self.grants[at].spent -= part;
        }
        true
    }

    pub(super) fn subscribe(&mut self, plan: &'static str) {
        self.plan = Some(plan);
        self.periods = vec![Period { start: self.now(), end: (self.today + PERIOD_DAYS, self.number), paid: None }];
        self.replace();
    }

    pub(super) fn change_plan(&mut self, plan: &'static str) {
        if self.plan != Some(plan) {
            self.plan = Some(plan);
            self.replace();
        }
    }

    pub(super) fn end(&mut self) {
        self.plan = None;
        // What was paid ahead has never run.
        let now = self.now();
        self.periods.retain(|period| period.start <= now);
        self.earlier.append(&mut self.periods);
        self.revoke(|grant| grant.subscription);
    }

    /// So many days after the end of the newest period.
    pub(super) fn day_after_newest(&self, days: i64) -> Moment {
        let newest = self.periods.last().unwrap();
        let (day, number) = newest.paid.unwrap_or(newest.end);
        (day + days, number)
    }

    pub(super) fn renew(&mut self, start: Moment, end: Moment) {
        // No period is shorter than two days.
        const A_DAY: i64 = 1_000_000;
        let at = |moment: Moment| moment.0 * A_DAY + i64::try_from(moment.1).unwrap();
        let apart = |period: &Period| (at(period.start) - at(start)).abs();
        let near = self.periods.iter().filter(|period| apart(period) < A_DAY);
        let known = near.min_by_key(|period| apart(period)).copied();
        let next_is_at = |end: Moment| self.periods.iter().any(|period| period.start == end);
        // The rest of a known period, as the invoice of a change of the plan names it. The operations of a day take no hour.
        let is_rest = |period: &Period| {
            let ends_with_it = period.paid.unwrap_or(period.end).0 == end.0;
            let is_its_own = period.paid.is_some() || !next_is_at(period.end);
            period.start < start && period.end > start && ends_with_it && is_its_own
        };
        if known.is_none() && (start < self.periods[0].start || self.periods.iter().any(is_rest)) {
            return;
        }
        let start = known.map_or(start, |known| known.start);
        let paid = known.and_then(|known| known.paid).map_or(end, |paid| paid.max(end));
        let next = self.periods.iter().map(|period| period.start).find(|next| *next > start);
        let end = next.map_or(paid, |next| next.min(paid));
        if let Some(known) = known {
            let number = self.periods.iter().position(|period| period.start == start).unwrap();
            self.periods[number] = Period { start, end, paid: Some(paid) };
            if end != known.end {
                let of_it = |grant: &ModelGrant| grant.starts >= start && next.is_none_or(|next| grant.starts < next);
                self.revoke(|grant| grant.subscription && !grant.once && of_it(grant));
                self.issue(number, |once| !once);
            }
            return;
        }
        for period in self.periods.iter_mut().chain(&mut self.earlier) {
            if period.start < start && period.end > start {
                period.end = start;
            }
        }
        for grant in self.grants.iter_mut().filter(|grant| grant.subscription && grant.starts < start) {
            if grant.expires.is_some_and(|expires| expires > start) {
                grant.expires = Some(start);
            }
        }
        let at = self.periods.iter().filter(|period| period.start < start).count();
        self.periods.insert(at, Period { start, end, paid: Some(paid) });
        self.issue(at, |once| !once);
    }

    fn revoke(&mut self, which: impl Fn(&ModelGrant) -> bool) {
        for grant in self.grants.iter_mut().filter(|grant| which(grant)) {
            grant.revoked = true;
        }
    }

    /// Issues what the plan includes, for each period that has not ended.
    fn replace(&mut self) {
        self.revoke(|grant| grant.subscription);
        let last = self.periods.len() - 1;
        self.issue(last, |once| once);
        for at in 0..=last {
            if self.periods[at].end > self.now() {
                self.issue(at, |once| !once);
            }
        }
    }

    fn issue(&mut self, at: usize, which: impl Fn(bool) -> bool) {
        let period = self.periods[at];
        let open = |other: &&Period| other.start <= period.start && other.end > period.start;
        let since = match period.start > self.now() {
            true => period.start,
            false => self.earlier.iter().filter(open).map(|other| other.start).fold(period.start, Moment::min),
        };
        for (kind, once, amount) in self.plan.map(plan).unwrap_or_default() {
            if which(once) {
                self.grants.push(ModelGrant {
                    id: None,
                    kind,
                    subscription: true,
                    once,
                    amount,
                    spent: 0,
                    starts: if once { self.now() } else { period.start },
                    expires: (!once).then_some(period.end),
                    since,
                    rank: 0,
                    revoked: false,
                });
            }
        }
    }
}
