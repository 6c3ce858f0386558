-- What each creator was paid, and for which period. Rows are history: they change status, they are not deleted.

create table payouts (
    id              uuid        not null default gen_random_uuid(),
    creator_id      uuid        not null,
    external_id     text,
    status          text        not null default 'pending',
    currency        text        not null,
    amount_minor    bigint      not null,
    period_start    date        not null,
    period_end      date        not null,
    paid_at         timestamptz,
    failure_message text,
    created_at      timestamptz not null default now(),
    updated_at      timestamptz not null default now(),

    constraint payouts_pkey            primary key (id),
    constraint payouts_external_id_key unique (external_id),

    -- restrict: a creator who was ever paid stays.
    constraint payouts_creator_id_fkey
        foreign key (creator_id) references creators (id) on delete restrict,

    constraint payouts_external_id_check  check (char_length(external_id) between 1 and 255),
    constraint payouts_currency_check     check (currency ~ '^[A-Z]{3}$'),
    constraint payouts_amount_minor_check check (amount_minor > 0),
    constraint payouts_period_check       check (period_end > period_start),

    constraint payouts_status_check
        check (status in ('pending', 'in_transit', 'paid', 'failed', 'canceled')),
    constraint payouts_paid_at_check
        check ((status = 'paid') = (paid_at is not null)),
    constraint payouts_failure_message_check
        check ((status = 'failed') = (failure_message is not null) and char_length(failure_message) <= 1000)
);

-- A creator's history, newest first; also the index behind the foreign key.
create index payouts_creator_id_period_start_idx on payouts (creator_id, period_start desc);

-- A period is paid once per currency. A failed or cancelled attempt may be made again.
create unique index payouts_creator_id_period_key on payouts (creator_id, period_start, period_end, currency)
    where status in ('pending', 'in_transit', 'paid');

-- Work for the payout job.
create index payouts_unsettled_idx on payouts (created_at) where status in ('pending', 'in_transit');

create trigger payouts_touch_updated_at
    before update on payouts
    for each row execute function touch_updated_at();

comment on column payouts.external_id is 'The payment provider''s transfer id.';
comment on column payouts.period_end  is 'The first day that is no longer in the period.';
