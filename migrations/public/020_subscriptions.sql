-- The subscription of an organization: which plan it has, for which period. cgk::platform::Subscriptions writes and reads this table.
--
-- A table of its own beside billing: billing holds what a payment provider says and its ids, and an organization on a free plan has no
-- provider. Where both exist, the service calls Subscriptions from the provider's webhook.

create type subscription_status as enum ('trialing', 'active', 'past_due', 'canceled');

create table subscriptions (
    id                   uuid                not null default gen_random_uuid(),
    organization_id      uuid                not null,
    plan_id              uuid                not null,
    status               subscription_status not null,
    trial_ends_at        timestamptz,
    -- The period is [period_start, period_end). It is counted in months from the anchor, so that a subscription that starts on the
    -- 31st is renewed on the last day of a shorter month and on the 31st again after that.
    period_months        integer             not null default 1,
    period_anchor        timestamptz         not null,
    period_start         timestamptz         not null,
    period_end           timestamptz         not null,
    cancel_at_period_end boolean             not null default false,
    canceled_at          timestamptz,
    created_at           timestamptz         not null default now(),
    updated_at           timestamptz         not null default now(),

    constraint subscriptions_pkey                   primary key (id),
    -- The target of the grants' foreign key, so that a grant cannot name another organization's subscription.
    constraint subscriptions_organization_id_id_key unique (organization_id, id),
    constraint subscriptions_organization_id_fkey   foreign key (organization_id)
        references organizations (id) on delete cascade,
    constraint subscriptions_plan_id_fkey           foreign key (plan_id) references plans (id) on delete restrict,

    constraint subscriptions_period_months_check check (period_months between 1 and 120),
    constraint subscriptions_period_check        check (period_end > period_start),
    constraint subscriptions_trial_check         check (status <> 'trialing' or trial_ends_at is not null),
    constraint subscriptions_canceled_at_check   check ((status = 'canceled') = (canceled_at is not null))
);

-- One subscription per organization that has not ended.
create unique index subscriptions_organization_id_current_key on subscriptions (organization_id) where status <> 'canceled';
create index subscriptions_plan_id_idx on subscriptions (plan_id);
-- What is to be renewed next.
create index subscriptions_period_end_idx on subscriptions (period_end) where status <> 'canceled';

create trigger subscriptions_set_updated_at
    before update on subscriptions
    for each row execute function set_updated_at();

-- The period that holds a moment, counted in months from the anchor. Months are those of UTC, whatever the session's time zone is. No
-- row for a moment before the anchor.
create function cgk_subscription_period(anchor timestamptz, months integer, moment timestamptz)
    returns table (period_start timestamptz, period_end timestamptz)
    language sql immutable parallel safe
    set search_path = pg_catalog, pg_temp
as $$
    with counted as (
        select ((extract(year from moment at time zone 'UTC') - extract(year from anchor at time zone 'UTC')) * 12
                + extract(month from moment at time zone 'UTC')
                - extract(month from anchor at time zone 'UTC'))::int4 / months as periods
    ), candidates as (
        select (anchor at time zone 'UTC' + make_interval(months => n * months)) at time zone 'UTC' as first,
               (anchor at time zone 'UTC' + make_interval(months => (n + 1) * months)) at time zone 'UTC' as next
          from counted, generate_series(greatest(periods - 1, 0), periods) as n
    )
    select first, next from candidates where first <= moment and next > moment
$$;

-- What billing says of organizations is carried over. A plan that is not in plans is added; it includes nothing until somebody says
-- what. Statuses of a payment that has not come are past_due.
insert into plans (key, name)
select distinct b.plan, b.plan from billing b
 where b.status not in ('canceled', 'incomplete_expired')
on conflict (key) do nothing;

insert into subscriptions (organization_id, plan_id, status, trial_ends_at, period_anchor, period_start, period_end,
                           cancel_at_period_end)
select b.organization_id, plans.id,
       case when b.status in ('trialing', 'active') then b.status::text else 'past_due' end::subscription_status,
       case when b.status = 'trialing' then coalesce(b.trial_ends_at, b.period_end, b.created_at + interval '1 month')
            else b.trial_ends_at end,
       coalesce(b.period_start, b.created_at),
       coalesce(b.period_start, p.period_start),
       coalesce(b.period_end, p.period_end),
       b.cancel_at_period_end
  from billing b
  join plans on plans.key = b.plan
  cross join lateral cgk_subscription_period(b.created_at, 1, greatest(b.created_at, current_timestamp)) as p
 where b.status not in ('canceled', 'incomplete_expired');

select cgk_protect_shared_table('subscriptions', 'organization_id',
    '{id,organization_id,plan_id,status,trial_ends_at,period_months,period_start,period_end,cancel_at_period_end,canceled_at,created_at,updated_at}');

comment on table  subscriptions                      is 'Which plan an organization has, for which period; one that has not ended each.';
comment on column subscriptions.period_anchor        is 'The time from which periods are counted.';
comment on column subscriptions.cancel_at_period_end is 'Whether it ends at the end of the period instead of being renewed.';
