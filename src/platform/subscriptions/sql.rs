//! The SQL statements for subscriptions.

use super::model::subscription_columns;

/// A query of subscriptions.
macro_rules! subscriptions {
    ($rest:literal) => {
        concat!(
            "select ",
            subscription_columns!(),
            " from public.subscriptions s join public.plans p on p.id = s.plan_id ",
            $rest
        )
    };
}

pub(super) const CURRENT: &str = subscriptions!("where s.organization_id = $1 and s.status <> 'canceled'");
/// Also returns whether the period has ended. The plan is looked up after the lock: a statement that waited for a change of
/// the plan would otherwise join the new row with the old plan, and find nothing.
pub(super) const LOCK: &str = concat!(
    "with locked as materialized (
         select s.* from public.subscriptions s where s.organization_id = $1 and s.status <> 'canceled' for update)
     select ",
    subscription_columns!(),
    ", s.period_end <= pg_catalog.now() from locked s join public.plans p on p.id = s.plan_id"
);
pub(super) const HISTORY: &str =
    subscriptions!("where s.organization_id = $1 order by s.created_at desc, s.id limit 1000");

pub(super) const SUBSCRIBE: &str = concat!(
    "with wanted as (
         select o.id as organization_id, p.id as plan_id,
                case when $3::pg_catalog.float8 is not null
                     then pg_catalog.now() + pg_catalog.make_interval(secs => $3::pg_catalog.float8) end as trial_ends_at
           from public.organizations o cross join public.plans p
          where o.id = $1 and p.key = $2 and p.archived_at is null
            and ($3::pg_catalog.float8 is null
                 or not exists (select from public.subscriptions earlier
                                 where earlier.organization_id = o.id and earlier.trial_ends_at is not null))
     ), s as (
         insert into public.subscriptions (organization_id, plan_id, status, trial_ends_at, period_months, period_anchor, period_start,
                                           period_end)
         select w.organization_id, w.plan_id,
                case when w.trial_ends_at is null then 'active' else 'trialing' end::public.subscription_status,
                w.trial_ends_at, $4::pg_catalog.int4, coalesce(w.trial_ends_at, pg_catalog.now()), pg_catalog.now(),
                coalesce(w.trial_ends_at, $5::pg_catalog.timestamptz, period.period_end)
           from wanted w
          cross join lateral public.cgk_subscription_period(pg_catalog.now(), $4::pg_catalog.int4, pg_catalog.now()) as period
         on conflict (organization_id) where status <> 'canceled' do nothing
         returning *
     ) select ",
    subscription_columns!(),
    " from s join public.plans p on p.id = s.plan_id"
);
/// Returns why [`SUBSCRIBE`] did nothing.
pub(super) const WHY_NOT: &str = "select exists (select from public.organizations o where o.id = $1),
           exists (select from public.plans p where p.key = $2 and p.archived_at is null),
           exists (select from public.subscriptions s where s.organization_id = $1 and s.status <> 'canceled')";

/// Changes the subscription `$1`, which is locked.
macro_rules! change {
    ($set:literal) => {
        concat!(
            "with s as (update public.subscriptions s set ",
            $set,
            " returning s.*) select ",
            subscription_columns!(),
            " from s join public.plans p on p.id = s.plan_id"
        )
    };
}

/// Returns no row if no plan on sale has this key.
pub(super) const CHANGE_PLAN: &str = change!(
    "plan_id = wanted.id from public.plans wanted where s.id = $1 and wanted.key = $2 and wanted.archived_at is null"
);
pub(super) const END: &str =
    change!("status = 'canceled', canceled_at = pg_catalog.now(), cancel_at_period_end = false where s.id = $1");
pub(super) const SET_CANCEL_AT_PERIOD_END: &str = change!("cancel_at_period_end = $2 where s.id = $1");
pub(super) const SET_STATUS: &str = change!("status = $2::pg_catalog.text::public.subscription_status where s.id = $1");
pub(super) const RENEW_NEXT: &str = change!(
    "status = 'active', period_start = greatest(following.period_start, s.period_end), period_end = following.period_end
       from (select f.period_start, f.period_end
               from public.subscriptions o
              cross join lateral public.cgk_subscription_period(o.period_anchor, o.period_months, pg_catalog.now()) as f
              where o.id = $1) as following
      where s.id = $1 and s.period_end <= pg_catalog.now()"
);
/// The newest period is from `$2`, paid until `$3`. Only one that has not ended makes the subscription active.
pub(super) const RENEW_EXACTLY: &str = change!(
    "status = case when $3 > pg_catalog.now() then 'active' else s.status end,
     period_anchor = case when $2 > s.period_start then $2 else s.period_anchor end,
     period_start = greatest(s.period_start, $2), period_end = $3 where s.id = $1"
);

/// Which period a renewal of the subscription `$1` from `$2` to `$3` names, whether it changes it, is the newest, and has not ended.
pub(super) const RENEWAL: &str = "
    select r.starts, r.paid, coalesce(r.changes, false), coalesce(r.newest, false), coalesce(r.ends > pg_catalog.now(), false)
      from public.cgk_subscription_renewal($1, $2, $3) r";
/// Records the end `$4` of the known period that starts at `$3`, which does not change it.
pub(super) const RECORD_PAID: &str = "update public.subscription_periods p set paid_until = $4
      where p.organization_id = $1 and p.subscription_id = $2 and p.starts_at = $3 and p.paid_until is distinct from $4";
/// Whether the newest period of the subscription `$2` is its trial.
pub(super) const IS_TRIAL: &str = "select p.is_trial from public.subscription_periods p
      where p.organization_id = $1 and p.subscription_id = $2 order by p.starts_at desc limit 1";
pub(super) const CHANGE_GRANTS: &str =
    "select revoked, issued from public.cgk_change_subscription_grants($1, $2, $3, $4)";

/// The subscriptions to renew with [`RENEW_NEXT`] or to end. A subscription that a payment provider bills is renewed
/// when the provider reports it.
pub(super) const DUE: &str = "select s.organization_id from public.subscriptions s
    where s.status <> 'canceled' and s.period_end <= pg_catalog.now()
      and (s.cancel_at_period_end
           or s.status in ('active', 'trialing')
              and (s.status <> 'active'
                   or exists (select from public.organizations o where o.id = s.organization_id and o.status <> 'suspended'))
              and not exists (select from public.billing b
                               where b.organization_id = s.organization_id and b.status not in ('canceled', 'incomplete_expired')))
    order by s.period_end, s.id limit 1000";
