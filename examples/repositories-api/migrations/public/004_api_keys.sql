-- Keys for programs. Only the sha256 of a key is kept; the key itself is shown once, when it is made.

create table api_keys (
    id              uuid        not null default gen_random_uuid(),
    organization_id uuid        not null,
    key_hash        bytea       not null,
    name            text        not null,
    scopes          text[]      not null default '{}',
    expires_at      timestamptz,
    last_used_at    timestamptz,
    revoked_at      timestamptz,
    created_at      timestamptz not null default now(),
    updated_at      timestamptz not null default now(),

    constraint api_keys_pkey         primary key (id),
    constraint api_keys_key_hash_key unique (key_hash),

    constraint api_keys_organization_id_fkey
        foreign key (organization_id) references organizations (id) on delete cascade,

    constraint api_keys_key_hash_check   check (octet_length(key_hash) = 32),
    constraint api_keys_name_check       check (char_length(name) <= 200 and btrim(name) <> ''),
    constraint api_keys_expires_at_check check (expires_at > created_at),

    -- A flat list without nulls: at most 64 scopes and 4,096 characters in all.
    constraint api_keys_scopes_check
        check (cardinality(scopes) <= 64
               and coalesce(array_ndims(scopes), 1) = 1
               and array_position(scopes, null) is null
               and char_length(array_to_string(scopes, ',')) <= 4096)
);

-- Every key of an organization, newest first; also the index behind the foreign key.
create index api_keys_organization_id_created_at_idx on api_keys (organization_id, created_at desc);

-- For "which live keys expire soon". Keys without an end are not in it.
create index api_keys_live_expires_at_idx on api_keys (expires_at) where revoked_at is null and expires_at is not null;

create trigger api_keys_set_updated_at
    before update on api_keys
    for each row execute function set_updated_at();

comment on column api_keys.key_hash     is 'sha256 of a random 256-bit key. Unguessable, so no slow hash is needed.';
comment on column api_keys.scopes       is 'What the key may do. Empty: nothing.';
comment on column api_keys.expires_at   is 'Null: does not expire.';
comment on column api_keys.last_used_at is 'Not exact: the application may write it at most once a minute.';
