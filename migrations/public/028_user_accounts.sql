-- Accounts of users at providers of sign-ins. A provider may give an e-mail address to another person later; it never does that
-- with a subject, so an account is found by provider and subject. cgk::platform::UserAccounts writes and reads this table.
--
-- A user is one person over all organizations, so an account belongs to no organization: its row is seen outside of tenants only, and
-- a tenant's role has no right on it.

create table user_accounts (
    id            uuid        not null default gen_random_uuid(),
    user_id       uuid        not null,
    provider      text        not null,
    subject       text        not null,
    email         text,
    tokens        bytea,
    tokens_key_id text,
    linked_at     timestamptz not null default now(),
    updated_at    timestamptz not null default now(),

    constraint user_accounts_pkey                 primary key (id),
    constraint user_accounts_provider_subject_key unique (provider, subject),
    constraint user_accounts_user_id_fkey         foreign key (user_id) references users (id) on delete cascade,

    constraint user_accounts_provider_check check (char_length(provider) between 1 and 500),
    constraint user_accounts_subject_check  check (char_length(subject) between 1 and 255),
    constraint user_accounts_email_check    check (char_length(email) between 1 and 320),
    -- Only what cgk::secret has sealed: the format, the length of the key's id, the id, and the rest.
    constraint user_accounts_tokens_check
        check ((tokens is null) = (tokens_key_id is null)
               and octet_length(tokens) between 31 and 16384
               and char_length(tokens_key_id) between 1 and 32
               and get_byte(tokens, 0) = 1 and get_byte(tokens, 1) = octet_length(tokens_key_id)
               and position(convert_to(tokens_key_id, 'UTF8') in tokens) = 3)
);

-- The accounts of a user, in the order in which they were linked; also the index behind the foreign key.
create index user_accounts_user_id_linked_at_idx on user_accounts (user_id, linked_at, id);

create trigger user_accounts_set_updated_at
    before update on user_accounts
    for each row execute function set_updated_at();

select cgk_protect_shared_table('user_accounts', null);

comment on table  user_accounts               is 'Accounts of users at providers of sign-ins.';
comment on column user_accounts.provider      is 'The issuer of OpenID Connect, or another name of the provider.';
comment on column user_accounts.subject       is 'The provider''s id of the person. Unique per provider.';
comment on column user_accounts.email         is 'The address at the provider. It may differ from the user''s.';
comment on column user_accounts.tokens        is 'The provider''s tokens, sealed by cgk::secret. Never the tokens themselves.';
comment on column user_accounts.tokens_key_id is 'The key that they are sealed with.';
