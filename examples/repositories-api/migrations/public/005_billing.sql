-- What the payment provider says about an organization's subscriptions, kept up to date by its webhooks.

-- The names are the provider's own, so that a webhook can be stored without translation.
create type billing_status as enum (
    'trialing', 'active', 'past_due', 'unpaid', 'paused', 'incomplete', 'incomplete_expired', 'canceled'
);

create table billing (
    id                       uuid           not null default gen_random_uuid(),
    organization_id          uuid           not null,
    provider                 text           not null default 'stripe',
    provider_customer_id     text           not null,
    provider_subscription_id text,
    plan                     text           not null,
    status                   billing_status not null,
    period_start             timestamptz,
    period_end               timestamptz,
    trial_ends_at            timestamptz,
    cancel_at_period_end     boolean        not null default false,
    canceled_at              timestamptz,
    created_at               timestamptz    not null default now(),
    updated_at               timestamptz    not null default now(),

    constraint billing_pkey                                  primary key (id),
    constraint billing_provider_provider_subscription_id_key unique (provider, provider_subscription_id),

    -- restrict, unlike users and keys: money records are archived on purpose, never swept away with the organization.
    constraint billing_organization_id_fkey
        foreign key (organization_id) references organizations (id) on delete restrict,

    constraint billing_provider_check                 check (provider ~ '^[a-z][a-z0-9_]{0,47}$'),
    constraint billing_provider_customer_id_check     check (char_length(provider_customer_id) between 1 and 255),
    constraint billing_provider_subscription_id_check check (char_length(provider_subscription_id) between 1 and 255),
    constraint billing_plan_check                     check (plan ~ '^[a-z][a-z0-9_]{0,47}$'),

    -- Both ends or neither; the period is [period_start, period_end).
    constraint billing_period_check
        check ((period_start is null) = (period_end is null) and (period_start is null or period_end > period_start)),
    constraint billing_canceled_at_check
        check (status <> 'canceled' or canceled_at is not null)
);

-- The history of an organization, newest first; also the index behind the foreign key.
create index billing_organization_id_created_at_idx on billing (organization_id, created_at desc);

-- One subscription that has not ended per organization.
create unique index billing_organization_id_current_key on billing (organization_id)
    where status not in ('canceled', 'incomplete_expired');

-- Webhooks name the customer.
create index billing_provider_provider_customer_id_idx on billing (provider, provider_customer_id);

create trigger billing_set_updated_at
    before update on billing
    for each row execute function set_updated_at();

comment on column billing.canceled_at is 'When it was cancelled; may be set while the paid period still runs.';
