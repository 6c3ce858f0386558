-- People who sign in. A user belongs to one organization; the same e-mail address may exist in several.

create type user_role   as enum ('owner', 'admin', 'member');
create type user_status as enum ('active', 'invited', 'disabled');

create table users (
    id              uuid        not null default gen_random_uuid(),
    organization_id uuid        not null,
    email           text        not null,
    password_hash   text,
    role            user_role   not null default 'member',
    status          user_status not null default 'invited',
    created_at      timestamptz not null default now(),
    updated_at      timestamptz not null default now(),

    constraint users_pkey primary key (id),

    -- The target of composite foreign keys, so that a child row cannot point at a user of another organization. A plain
    -- foreign key would let it: its checks ignore row level security. This is also the index behind organization_id.
    constraint users_organization_id_id_key unique (organization_id, id),

    constraint users_organization_id_fkey
        foreign key (organization_id) references organizations (id) on delete cascade,

    constraint users_email_check
        check (char_length(email) <= 320 and email ~ '^[^@[:space:]]+@[^@[:space:]]+$'),

    -- The usual form, $algorithm$…: argon2, scrypt and bcrypt all write it, and a plain password does not pass.
    constraint users_password_hash_check
        check (char_length(password_hash) between 20 and 512 and password_hash ~ '^\$[a-z0-9-]+\$')
);

-- One account per address and organization, whatever the case of its ASCII letters; every other octet counts. Queries must say
-- lower(email collate "C") = lower($1 collate "C"). The locale of the database must not decide: most locales fold letters outside
-- ASCII onto ASCII ones, U+212A (the Kelvin sign) onto k and U+0130 onto i, and a link that is mailed to one address would sign in
-- the user of another.
create unique index users_organization_id_lower_email_key on users (organization_id, lower(email collate "C"));

-- Sign-in before the organization is known: which organizations does this address belong to?
create index users_lower_email_idx on users (lower(email collate "C"));

create trigger users_set_updated_at
    before update on users
    for each row execute function set_updated_at();

comment on column users.email         is 'Kept as typed. Unique per organization by lower(email collate "C").';
comment on column users.password_hash is 'Null: the user signs in by magic link or a provider only.';
