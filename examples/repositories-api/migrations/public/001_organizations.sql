-- The registry: one row per tenant. The slug names the tenant's schema, tenant_<slug>.
-- The trigger function of the whole public set is defined here, before its first use.

-- current_timestamp is syntax, not a name, so no search_path can redirect it. It is the time the transaction began.
create function set_updated_at() returns trigger
    language plpgsql
as $$
begin
    new.updated_at := current_timestamp;
    return new;
end
$$;

create type organization_status as enum ('active', 'suspended', 'onboarding');

create table organizations (
    id                          uuid                not null default gen_random_uuid(),
    slug                        text                not null,
    name                        text                not null,
    status                      organization_status not null default 'onboarding',
    settings                    jsonb               not null default '{}',
    shopify_store_domain        text,
    shopify_access_token        bytea,
    shopify_access_token_key_id text,
    stripe_account_id           text,
    created_at                  timestamptz         not null default now(),
    updated_at                  timestamptz         not null default now(),

    constraint organizations_pkey                     primary key (id),
    constraint organizations_slug_key                 unique (slug),
    constraint organizations_shopify_store_domain_key unique (shopify_store_domain),
    constraint organizations_stripe_account_id_key    unique (stripe_account_id),

    -- 48 bytes at most, so that the names of the schema and of the tenant's role stay under PostgreSQL's 63.
    constraint organizations_slug_check     check (slug ~ '^[a-z][a-z0-9_]{0,47}$'),
    constraint organizations_name_check     check (char_length(name) <= 200 and btrim(name) <> ''),
    constraint organizations_settings_check check (jsonb_typeof(settings) = 'object'),

    -- A lower-case host name, with no scheme, port or path.
    constraint organizations_shopify_store_domain_check
        check (char_length(shopify_store_domain) <= 253
               and shopify_store_domain ~ '^[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)+$'),
    constraint organizations_stripe_account_id_check
        check (stripe_account_id ~ '^acct_[A-Za-z0-9]{1,64}$'),

    -- Nonce and tag alone are 28 bytes. The key id says which key to decrypt with after a rotation.
    constraint organizations_shopify_access_token_check
        check (octet_length(shopify_access_token) between 29 and 4096),
    constraint organizations_shopify_access_token_key_id_check
        check (char_length(shopify_access_token_key_id) between 1 and 100),
    constraint organizations_shopify_access_token_complete_check
        check ((shopify_access_token is null) = (shopify_access_token_key_id is null)
               and (shopify_access_token is null or shopify_store_domain is not null)),

    -- A tripwire: Shopify's tokens look like shpat_…, shpua_…, and none of them may arrive here in the clear.
    constraint organizations_shopify_access_token_not_plain_check
        check (not (substr(shopify_access_token, 1, 3) = '\x736870'::bytea        -- shp
                    and substr(shopify_access_token, 6, 1) = '\x5f'::bytea))      -- _
);

create trigger organizations_set_updated_at
    before update on organizations
    for each row execute function set_updated_at();

comment on table  organizations                             is 'The registry: one row per tenant.';
comment on column organizations.slug                        is 'Names the schema tenant_<slug>.';
comment on column organizations.status                      is 'Only an active tenant can be entered.';
comment on column organizations.shopify_access_token        is 'Encrypted by the application. Never plain text.';
comment on column organizations.shopify_access_token_key_id is 'Which key encrypted shopify_access_token.';
