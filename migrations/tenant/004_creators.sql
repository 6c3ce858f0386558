-- People who promote or make products and are paid a share of the sales.

create table creators (
    id                uuid        not null default gen_random_uuid(),
    external_id       text,
    handle            text        not null,
    name              text        not null,
    email             text        not null,
    status            text        not null default 'invited',
    commission_bps    integer     not null default 0,
    payout_currency   text        not null,
    payout_account_id text,
    country           text,
    joined_at         timestamptz,
    created_at        timestamptz not null default now(),
    updated_at        timestamptz not null default now(),

    constraint creators_pkey                  primary key (id),
    constraint creators_external_id_key       unique (external_id),
    constraint creators_handle_key            unique (handle),
    constraint creators_payout_account_id_key unique (payout_account_id),

    constraint creators_email_check
        check (char_length(email) <= 320 and email ~ '^[^@[:space:]]+@[^@[:space:]]+$'),
    constraint creators_external_id_check       check (char_length(external_id) between 1 and 255),
    constraint creators_handle_check            check (handle ~ '^[a-z0-9][a-z0-9._-]{0,63}$'),
    constraint creators_name_check              check (char_length(name) <= 200 and btrim(name) <> ''),
    constraint creators_payout_currency_check   check (payout_currency ~ '^[A-Z]{3}$'),
    constraint creators_payout_account_id_check check (char_length(payout_account_id) between 1 and 255),
    constraint creators_country_check           check (country ~ '^[A-Z]{2}$'),
    constraint creators_commission_bps_check    check (commission_bps between 0 and 10000),

    constraint creators_status_check    check (status in ('invited', 'active', 'suspended')),
    constraint creators_joined_at_check check ((status = 'invited') = (joined_at is null))
);

create unique index creators_lower_email_key on creators (lower(email));

create trigger creators_touch_updated_at
    before update on creators
    for each row execute function touch_updated_at();

comment on column creators.commission_bps    is 'Basis points: 10000 is 100 %.';
comment on column creators.payout_account_id is 'The payment provider''s account that receives the payouts.';
