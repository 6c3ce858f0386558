-- Who a user is at a provider of sign-ins. A provider gives an address to somebody else some day; a subject it never does.
-- Tenants have no right here, as on every table of this schema that grants none.

create table user_identities (
    organization_id uuid        not null,
    issuer          text        not null,
    subject         text        not null,
    user_id         uuid        not null,
    created_at      timestamptz not null default now(),

    constraint user_identities_pkey primary key (organization_id, issuer, subject),
    -- A user has one identity at a provider.
    constraint user_identities_organization_id_user_id_issuer_key unique (organization_id, user_id, issuer),
    -- The home of a user can be another organization.
    constraint user_identities_organization_id_user_id_fkey
        foreign key (organization_id, user_id) references memberships (organization_id, user_id) on delete cascade,

    constraint user_identities_issuer_check  check (char_length(issuer) between 1 and 500),
    constraint user_identities_subject_check check (char_length(subject) between 1 and 255)
);
