-- Invitations into organizations, sent by e-mail. Only the sha256 of the token is kept; the token itself is shown once.
-- cgk::platform writes and reads this table.

create table invitations (
    id              uuid        not null default gen_random_uuid(),
    organization_id uuid        not null,
    email           text        not null,
    role            user_role   not null default 'member',
    token_hash      bytea       not null,
    expires_at      timestamptz not null,
    invited_by      uuid,
    accepted_at     timestamptz,
    accepted_by     uuid,
    revoked_at      timestamptz,
    created_at      timestamptz not null default now(),
    updated_at      timestamptz not null default now(),

    constraint invitations_pkey           primary key (id),
    constraint invitations_token_hash_key unique (token_hash),
    constraint invitations_organization_id_fkey
        foreign key (organization_id) references organizations (id) on delete cascade,
    constraint invitations_invited_by_fkey  foreign key (invited_by) references users (id) on delete set null,
    constraint invitations_accepted_by_fkey foreign key (accepted_by) references users (id) on delete set null,

    constraint invitations_email_check
        check (char_length(email) <= 320 and email ~ '^[^@[:space:]]+@[^@[:space:]]+$'),
    constraint invitations_token_hash_check check (octet_length(token_hash) = 32),
    constraint invitations_expires_at_check check (expires_at > created_at),
    -- It ends once. Who accepted it may have been deleted since.
    constraint invitations_end_check
        check ((accepted_at is null or revoked_at is null) and (accepted_by is null or accepted_at is not null))
);

-- One open invitation of an address into an organization.
create unique index invitations_open_key on invitations (organization_id, lower(email collate "C"))
    where accepted_at is null and revoked_at is null;
-- Pages of an organization's invitations; also the index behind the foreign key.
create index invitations_organization_id_created_at_id_idx on invitations (organization_id, created_at, id);
create index invitations_invited_by_idx on invitations (invited_by) where invited_by is not null;
create index invitations_accepted_by_idx on invitations (accepted_by) where accepted_by is not null;

create trigger invitations_set_updated_at
    before update on invitations
    for each row execute function set_updated_at();

select cgk_protect_shared_table('invitations', 'organization_id',
    '{id,organization_id,email,role,expires_at,invited_by,accepted_at,accepted_by,revoked_at,created_at,updated_at}');

comment on table  invitations             is 'Invitations into organizations, sent by e-mail.';
comment on column invitations.token_hash  is 'sha256 of a random 256-bit token. A new token is set when the invitation is sent again.';
comment on column invitations.accepted_at is 'Set once. Null while it may be accepted.';
