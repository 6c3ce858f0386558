-- Sign-ups by their idempotency keys: what each has made, so that the same call again finds it and finishes what is left.
-- cgk::platform writes and reads this table.

create table sign_ups (
    id              uuid        not null default gen_random_uuid(),
    idempotency_key text        not null,
    request_hash    bytea       not null,
    -- Null only inside the transaction that makes them.
    organization_id uuid,
    user_id         uuid,
    is_new_user     boolean     not null default false,
    api_key_id      uuid,
    finished_at     timestamptz,
    created_at      timestamptz not null default now(),
    updated_at      timestamptz not null default now(),

    constraint sign_ups_pkey                primary key (id),
    constraint sign_ups_idempotency_key_key unique (idempotency_key),
    constraint sign_ups_organization_id_key unique (organization_id),
    constraint sign_ups_organization_id_fkey
        foreign key (organization_id) references organizations (id) on delete cascade,
    constraint sign_ups_user_id_fkey    foreign key (user_id) references users (id) on delete cascade,
    constraint sign_ups_api_key_id_fkey foreign key (api_key_id) references api_keys (id) on delete set null,

    constraint sign_ups_idempotency_key_check check (char_length(idempotency_key) between 1 and 255),
    constraint sign_ups_request_hash_check    check (octet_length(request_hash) = 32)
);

create index sign_ups_user_id_idx on sign_ups (user_id);
create index sign_ups_api_key_id_idx on sign_ups (api_key_id) where api_key_id is not null;
-- Those that are not finished, oldest first.
create index sign_ups_unfinished_idx on sign_ups (created_at) where finished_at is null;

create trigger sign_ups_set_updated_at
    before update on sign_ups
    for each row execute function set_updated_at();

-- Nothing for tenants: a key may be guessed, and says what was asked for.
select cgk_protect_shared_table('sign_ups', 'organization_id');

comment on table  sign_ups                 is 'Sign-ups by their idempotency keys.';
comment on column sign_ups.request_hash    is 'sha256 of what was asked for: the same key with something else is refused.';
comment on column sign_ups.finished_at     is 'When the tenant was there and its first API key created; null: the next call goes on.';
