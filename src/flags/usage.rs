//! Records what organizations use, and compares it with what their plans allow.

use super::{
    error::{FlagsError, Result},
    metric::{Metric, UsageEvent, check_name},
};
use crate::{slug::TenantSlug, tenancy::Db};
use std::time::SystemTime;
use tokio_postgres::error::SqlState;

/// How many events one statement records.
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

/// Without a subscription, an organization may use nothing of what some plan limits.
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

/// Records what organizations use, and compares it with what their plans allow. Cheap to clone.
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
/// A check and a record are two things, so that several at once may go over a limit by what is under way between them. What must
/// never go over is a quota ([`platform`](crate::platform)).
#[derive(Clone, Debug)]
pub struct Usage {
    db: Db<FlagsError>,
}

/// What became of events.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Recorded {
    /// How many are counted now.
    pub recorded: u64,
    /// How many were counted before.
    pub repeated: u64,
}

/// What an organization has used, and what it may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Allowance {
    /// Of a counter in this month of UTC, of a level the last that is known.
    pub used: u64,
    /// What its plan allows; `None`: no limit.
    pub limit: Option<u64>,
    /// When a counter begins anew; `None`: a level, which does not by itself.
    pub resets_at: Option<SystemTime>,
}

impl Allowance {
    /// What is left; `None`: no limit.
    pub fn left(&self) -> Option<u64> {
        self.limit.map(|limit| limit.saturating_sub(self.used))
    }
}

impl Usage {
    /// The usage of the tenants of this database.
    pub fn new<E>(db: &Db<E>) -> Self {
        Self { db: db.errors() }
    }

    /// Records events of one organization, a thousand a transaction. An event whose key is recorded is passed over, so after an
    /// error, also one that says nothing of the outcome, all of them may be sent again.
    ///
    /// # Locks
    ///
    /// The totals of the months that are added to, each to the end of its transaction. Calls with the same events in different
    /// orders do not block each other for ever.
    ///
    /// # Errors
    ///
    /// `Invalid`: an event that cannot be stored; nothing is recorded. `UsageConflict`: the key of an event is that of another
    /// one, in this call or before; nothing of its thousand is recorded, and what stood before it is. `TablesMissing`;
    /// `Database`.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, each thousand is recorded or not.
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

    /// What an organization has used of a metric, and what it may use.
    ///
    /// A metric that its plan has no row for in `usage_limits` is not limited. Without a subscription, what some plan limits is
    /// limited to nothing.
    ///
    /// # Errors
    ///
    /// `Invalid`: the name of a custom metric. `TablesMissing`; `Database`.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, nothing changes: the function only reads.
    pub async fn allowance(&self, slug: &TenantSlug, metric: &Metric) -> Result<Allowance> {
        check_name(metric)?;
        let row = self.db.tenant(slug).query_one(ALLOWANCE, &[&metric.kind(), &metric.name()]).await?;
        let (subscribed, limit, limited): (bool, Option<i64>, bool) = (row.get(1), row.get(2), row.get(3));
        let limit = match subscribed {
            true => limit.map(i64::unsigned_abs),
            false => limited.then_some(0),
        };
        Ok(Allowance { used: row.get::<_, i64>(0).unsigned_abs(), limit, resets_at: row.get(4) })
    }

    /// [`allowance`](Self::allowance), and an error if so much more would go over it.
    ///
    /// # Errors
    ///
    /// Same as [`allowance`](Self::allowance). `LimitReached`: status 429.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, nothing changes: the function only reads.
    pub async fn check(&self, slug: &TenantSlug, metric: &Metric, asked: u64) -> Result<Allowance> {
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

/// The function names the key in the detail of its error.
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
