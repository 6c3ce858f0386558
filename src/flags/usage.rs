//! Records the usage of organizations, and compares it with the limits of their plans.

use super::{
    error::{FlagsError, Result},
    metric::{Metric, UsageEvent, check_name},
};
use crate::{slug::TenantSlug, tenancy::Db};
use std::time::SystemTime;
use tokio_postgres::error::SqlState;

/// The maximum number of events that one statement records.
const BATCH_MAX: usize = 1000;

const RECORD: &str = "
    select u.recorded, u.repeated
      from record_usage((select pg_catalog.jsonb_agg(pg_catalog.jsonb_build_object(
                                    'key', e.key, 'metric', e.metric, 'name', e.name, 'quantity', e.quantity,
                                    'occurred_at', e.occurred_at, 'attributes', e.attributes::pg_catalog.jsonb))
                           from rows from (pg_catalog.unnest($1::pg_catalog.text[]),
                            pg_catalog.unnest($2::pg_catalog.text[]),
                            pg_catalog.unnest($3::pg_catalog.text[]),
                            pg_catalog.unnest($4::pg_catalog.int8[]),
                            pg_catalog.unnest($5::pg_catalog.timestamptz[]),
                            pg_catalog.unnest($6::pg_catalog.text[]))
                                as e (key, metric, name, quantity, occurred_at, attributes))) as u";

/// Without a subscription, the limit is zero for every metric that some plan limits.
const ALLOWANCE: &str = "
    select usage_of($1, $2), s.plan_id is not null, l.quantity_max,
           exists (select from public.usage_limits a where a.metric = $1 and a.name = $2),
           case when $1 in ('api_calls', 'custom')
                then (pg_catalog.date_trunc('month', pg_catalog.now() at time zone 'UTC') + interval '1 month') at time zone 'UTC' end
      from (select) as one
      left join public.subscriptions s
             on s.organization_id = pg_catalog.current_setting('app.current_organization_id')::pg_catalog.uuid
            and s.status <> 'canceled'
      left join public.usage_limits l on l.plan_id = s.plan_id and l.metric = $1 and l.name = $2";

/// Records the usage of organizations, and compares it with the limits of their plans. Cheap to clone.
///
/// ```no_run
/// # async fn example(db: cgk::Db, acme: cgk::TenantSlug) -> cgk::flags::Result<()> {
/// use cgk::flags::{Metric, Usage, UsageEvent};
///
/// let usage = Usage::new(&db);
/// usage.check(&acme, &Metric::ApiCalls, 1).await?; // LimitReached: answer 429
/// usage.record(&acme, &[UsageEvent::new("request-7f3a", Metric::ApiCalls, 1)]).await?;
/// # Ok(()) }
/// ```
///
/// Checking and recording are separate calls. So a limit may be exceeded by the usage of the requests that run at the
/// same time. If a limit must never be exceeded, use a quota ([`platform`](crate::platform)).
#[derive(Clone, Debug)]
pub struct Usage {
    db: Db<FlagsError>,
}

/// The result of recording events.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Recorded {
    /// The number of events that this call has counted.
    pub recorded: u64,
    /// The number of events that were already counted.
    pub repeated: u64,
}

/// What an organization has used, and its limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct UsageAllowance {
    /// For a counter: the usage in the current month (UTC). For a level: the last known value.
    pub used: u64,
    /// The limit of the plan. `None`: no limit.
    pub limit: Option<u64>,
    /// When the counter is reset. `None`: it is a level, which is not reset automatically.
    pub resets_at: Option<SystemTime>,
}

impl UsageAllowance {
    /// Returns what is left. `None`: no limit.
    pub fn left(&self) -> Option<u64> {
        self.limit.map(|limit| limit.saturating_sub(self.used))
    }
}

impl Usage {
    /// Creates the handle for the usage of the tenants of this database.
    pub fn new<E>(db: &Db<E>) -> Self {
        Self { db: db.errors() }
    }

    /// Records events of one organization, in transactions of 1,000 events. Events whose key is already recorded are
    /// skipped. So after any error, including one that leaves the outcome unknown, all events may be sent again.
    ///
    /// # Locks
    ///
    /// The totals of the affected months, each until the end of its transaction. Concurrent calls with the same events
    /// in different orders do not deadlock.
    ///
    /// # Errors
    ///
    /// `Invalid`: an event cannot be stored; nothing is recorded. `UsageConflict`: the key of an event already belongs
    /// to another event, in this call or an earlier one. Nothing of its batch of 1,000 is recorded; the earlier batches
    /// are. `TablesMissing`; `Database`.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, each batch of 1,000 is either recorded completely or not at all.
    pub async fn record(&self, slug: &TenantSlug, events: &[UsageEvent]) -> Result<Recorded> {
        for event in events {
            event.check()?;
        }
        let mut all = Recorded::default();
        for batch in events.chunks(BATCH_MAX) {
            let texts = |of: fn(&UsageEvent) -> &str| batch.iter().map(of).collect::<Vec<_>>();
            let (keys, metrics, names) =
                (texts(|event| &event.key), texts(|event| event.metric.kind()), texts(|event| event.metric.name()));
            let quantities: Vec<i64> = batch.iter().map(|event| event.quantity.cast_signed()).collect();
            let times: Vec<SystemTime> = batch.iter().map(|event| event.occurred_at).collect();
            let attributes: Vec<String> = batch.iter().map(attributes).collect();
            let tenant = self.db.tenant(slug);
            let answer = tenant.query_one(RECORD, &[&keys, &metrics, &names, &quantities, &times, &attributes]).await;
            let row = answer.map_err(|error| conflict(error, batch))?;
            all.recorded += row.get::<_, i64>(0).unsigned_abs();
            all.repeated += row.get::<_, i64>(1).unsigned_abs();
        }
        Ok(all)
    }

    /// Returns what an organization has used of a metric, and its limit.
    ///
    /// A metric is not limited if the plan has no row for it in `usage_limits`. Without a subscription, the limit is
    /// zero for every metric that some plan limits.
    ///
    /// # Errors
    ///
    /// `Invalid`: the name of a custom metric. `TablesMissing`; `Database`.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, nothing changes: the function only reads.
    pub async fn allowance(&self, slug: &TenantSlug, metric: &Metric) -> Result<UsageAllowance> {
        check_name(metric)?;
        let row = self.db.tenant(slug).query_one(ALLOWANCE, &[&metric.kind(), &metric.name()]).await?;
        let (subscribed, limit, limited): (bool, Option<i64>, bool) = (row.get(1), row.get(2), row.get(3));
        let limit = match subscribed {
            true => limit.map(i64::unsigned_abs),
            false => limited.then_some(0),
        };
        Ok(UsageAllowance { used: row.get::<_, i64>(0).unsigned_abs(), limit, resets_at: row.get(4) })
    }

    /// Same as [`allowance`](Self::allowance), but returns an error if the additional amount would exceed the limit.
    ///
    /// # Errors
    ///
    /// Same as [`allowance`](Self::allowance). In addition `LimitReached`, with status 429.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, nothing changes: the function only reads.
    pub async fn check(&self, slug: &TenantSlug, metric: &Metric, asked: u64) -> Result<UsageAllowance> {
        let allowance = self.allowance(slug, metric).await?;
        match (allowance.limit, allowance.left()) {
            (Some(limit), Some(left)) if asked > left => Err(FlagsError::LimitReached {
                metric: metric.to_string(),
                limit,
                used: allowance.used,
                asked,
                resets_at: allowance.resets_at,
            }),
            _ => Ok(allowance),
        }
    }
}

fn attributes(event: &UsageEvent) -> String {
    serde_json::Value::Object(event.attributes.clone()).to_string()
}

/// Finds the conflicting key. The database function names it in the detail of its error.
fn conflict(error: FlagsError, batch: &[UsageEvent]) -> FlagsError {
    let FlagsError::Database(source) = &error else { return error };
    if source.sqlstate() != Some(&SqlState::UNIQUE_VIOLATION) {
        return error;
    }
    let detail = source.server().and_then(|answer| answer.detail());
    let key = detail.filter(|key| batch.iter().any(|event| event.key == **key)).map(ToOwned::to_owned);
    match key {
        Some(key) => FlagsError::UsageConflict { key },
        None => error,
    }
}
