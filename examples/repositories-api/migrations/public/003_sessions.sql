-- Signed-in browsers and devices. Only the sha256 of the token is kept; the token itself is shown to the client once.

create table sessions (
    id              uuid        not null default gen_random_uuid(),
    organization_id uuid        not null,
    user_id         uuid        not null,
    token_hash      bytea       not null,
    expires_at      timestamptz not null,
    ip_address      inet,
    user_agent      text,
    revoked_at      timestamptz,
    created_at      timestamptz not null default now(),
    updated_at      timestamptz not null default now(),

    constraint sessions_pkey           primary key (id),
    constraint sessions_token_hash_key unique (token_hash),

    -- Both columns: the user must be one of this organization. It reaches organizations through users.
    constraint sessions_organization_id_user_id_fkey
        foreign key (organization_id, user_id) references users (organization_id, id) on delete cascade,

    constraint sessions_token_hash_check check (octet_length(token_hash) = 32),
    constraint sessions_expires_at_check check (expires_at > created_at),
    constraint sessions_user_agent_check check (char_length(user_agent) <= 1024)
);

create index sessions_organization_id_user_id_idx on sessions (organization_id, user_id);

-- For the sweep that removes expired sessions. Revoked ones are kept for the audit and removed by age.
create index sessions_live_expires_at_idx on sessions (expires_at) where revoked_at is null;

create trigger sessions_set_updated_at
    before update on sessions
    for each row execute function set_updated_at();

comment on column sessions.token_hash is 'sha256 of a random 256-bit token. Unguessable, so no slow hash is needed.';
comment on column sessions.user_agent is 'Cut to 1,024 characters by the application.';
comment on column sessions.revoked_at is 'Null while it may be used. Live: revoked_at is null and expires_at > now().';
