-- Which user asked for an organization: the one who may follow its creation, and whose retries find it.

create table organization_creations (
    organization_id         uuid        not null,
    creator_organization_id uuid        not null,
    creator_id              uuid        not null,
    idempotency_key         text,
    request_hash            bytea       not null,
    created_at              timestamptz not null default now(),

    constraint organization_creations_pkey primary key (organization_id),
    -- Also the index behind the creator.
    constraint organization_creations_idempotency_key_key
        unique (creator_organization_id, creator_id, idempotency_key),
    constraint organization_creations_organization_id_fkey
        foreign key (organization_id) references organizations (id) on delete cascade,
    constraint organization_creations_creator_fkey
        foreign key (creator_organization_id, creator_id)
        references memberships (organization_id, user_id) on delete cascade,

    constraint organization_creations_idempotency_key_check check (char_length(idempotency_key) between 1 and 255),
    constraint organization_creations_request_hash_check    check (octet_length(request_hash) = 32)
);
