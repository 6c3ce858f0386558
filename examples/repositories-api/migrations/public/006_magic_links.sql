-- Single-use links sent by e-mail. They belong to an address, not to an organization: when a link is followed, no
-- organization is known yet, and a sign-up has none.

create type magic_link_purpose as enum ('login', 'signup', 'invite');

-- A link is redeemed by one statement, so that two clicks at once cannot both win:
-- update … set used_at = now() where token_hash = … and used_at is null and expires_at > now() returning …
create table magic_links (
    id         uuid               not null default gen_random_uuid(),
    email      text               not null,
    token_hash bytea              not null,
    purpose    magic_link_purpose not null,
    expires_at timestamptz        not null,
    used_at    timestamptz,
    created_at timestamptz        not null default now(),
    updated_at timestamptz        not null default now(),

    constraint magic_links_pkey           primary key (id),
    constraint magic_links_token_hash_key unique (token_hash),

    constraint magic_links_email_check
        check (char_length(email) <= 320 and email ~ '^[^@[:space:]]+@[^@[:space:]]+$'),
    constraint magic_links_token_hash_check check (octet_length(token_hash) = 32),
    constraint magic_links_expires_at_check check (expires_at > created_at)
);

-- How many links did this address ask for lately, and which of them are still open?
create index magic_links_lower_email_created_at_idx on magic_links (lower(email collate "C"), created_at desc);

-- For the sweep that removes old links.
create index magic_links_expires_at_idx on magic_links (expires_at);

create trigger magic_links_set_updated_at
    before update on magic_links
    for each row execute function set_updated_at();

comment on column magic_links.token_hash is 'sha256 of a random 256-bit token.';
comment on column magic_links.used_at    is 'Set once. Null while the link may be used.';
