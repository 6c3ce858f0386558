-- What was answered to a request with an Idempotency-Key: written in the transaction that did what was asked.

create table idempotency_keys (
    -- Method and path.
    operation    text        not null,
    key          text        not null,
    request_hash bytea       not null,
    -- Null only inside the transaction that has just written the row.
    response     jsonb,
    created_at   timestamptz not null default now(),

    constraint idempotency_keys_pkey               primary key (operation, key),
    constraint idempotency_keys_operation_check    check (char_length(operation) <= 200),
    constraint idempotency_keys_key_check          check (char_length(key) between 1 and 255),
    constraint idempotency_keys_request_hash_check check (octet_length(request_hash) = 32)
);

-- What is removed by age.
create index idempotency_keys_created_at_idx on idempotency_keys (created_at);
