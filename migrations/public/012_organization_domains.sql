-- The custom domains of organizations: hosts by which a service finds a tenant. cgk::domains writes and reads this table.
--
-- A domain counts when it is verified, which is when somebody has shown that it is the organization's. Until then any number of
-- organizations may claim it, so that a claim keeps nobody out; one of them can have it verified.
create table organization_domains (
    id                 uuid        not null default gen_random_uuid(),
    organization_id    uuid        not null,
    domain             text        not null,
    verification_token text        not null,
    verified_at        timestamptz,
    created_at         timestamptz not null default now(),
    updated_at         timestamptz not null default now(),

    constraint organization_domains_pkey                       primary key (id),
    constraint organization_domains_organization_id_domain_key unique (organization_id, domain),
    constraint organization_domains_organization_id_fkey       foreign key (organization_id)
        references organizations (id) on delete cascade,

    -- The one form that hosts of requests are brought into: lower case, no port, no dot at the end, ASCII, two labels or more.
    constraint organization_domains_domain_check
        check (char_length(domain) <= 253
               and domain ~ '^([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$'
               and domain !~ '\.[0-9]+$'),
    constraint organization_domains_verification_token_check check (char_length(verification_token) between 16 and 100)
);

-- A host belongs to one organization.
create unique index organization_domains_verified_key on organization_domains (domain) where verified_at is not null;

create trigger organization_domains_set_updated_at
    before update on organization_domains
    for each row execute function set_updated_at();

-- A domain that counts now, or counted before. Claims are not told.
create function cgk_organization_domains_changed() returns trigger
    language plpgsql
    set search_path = pg_catalog, pg_temp
as $$
declare
    changed text[];
begin
    if tg_op = 'INSERT' then
        select array_agg('domain:' || n.domain) into changed from new_rows n where n.verified_at is not null;
    elsif tg_op = 'DELETE' then
        select array_agg('domain:' || o.domain) into changed from old_rows o where o.verified_at is not null;
    else
        select array_agg('domain:' || d.domain) into changed
          from ((select o.organization_id, o.domain from old_rows o where o.verified_at is not null
                 except select n.organization_id, n.domain from new_rows n where n.verified_at is not null)
                union all
                (select n.organization_id, n.domain from new_rows n where n.verified_at is not null
                 except select o.organization_id, o.domain from old_rows o where o.verified_at is not null)) d;
    end if;
    perform public.cgk_notify_changes(changed);
    return null;
end
$$;

create trigger organization_domains_notify_insert after insert on organization_domains
    referencing new table as new_rows for each statement execute function cgk_organization_domains_changed();
create trigger organization_domains_notify_update after update on organization_domains
    referencing old table as old_rows new table as new_rows
    for each statement execute function cgk_organization_domains_changed();
create trigger organization_domains_notify_delete after delete on organization_domains
    referencing old table as old_rows for each statement execute function cgk_organization_domains_changed();
create trigger organization_domains_notify_truncate after truncate on organization_domains
    for each statement execute function cgk_table_truncated();
alter table organization_domains enable always trigger organization_domains_notify_insert,
    enable always trigger organization_domains_notify_update, enable always trigger organization_domains_notify_delete,
    enable always trigger organization_domains_notify_truncate;

-- As for provisioning_requests: nothing for tenants, and policies for the owner and each admitted login.
do $$
declare
    outside constant text := $sql$(select coalesce(current_setting('app.current_organization_id', true), '') = '')$sql$;
    inside  constant text := $sql$(select nullif(current_setting('app.current_organization_id', true), '')::uuid)$sql$;
    item record;
begin
    for item in
        select 'organization_domains_platform' as policy, pg_get_userbyid(c.relowner) as login,
               outside || ' or organization_id = ' || inside as condition
          from pg_class c where c.oid = to_regclass('organization_domains')
        union all
        select p.polname, r.rolname, pg_get_expr(p.polqual, p.polrelid)
          from pg_policy p join pg_roles r on p.polroles = array[r.oid]
         where p.polrelid = to_regclass('users') and p.polname::text = 'cgk_login_' || r.rolname
    loop
        execute format('create policy %I on organization_domains to %I using (%s)', item.policy, item.login, item.condition);
    end loop;
end
$$;

alter table organization_domains enable row level security;
alter table organization_domains force row level security;

comment on table  organization_domains                    is 'Custom domains. A verified one names its organization.';
comment on column organization_domains.domain             is 'Lower case, no port, no dot at the end, ASCII.';
comment on column organization_domains.verification_token is 'What the owner of the domain publishes to prove it.';
comment on column organization_domains.verified_at        is 'When the domain was shown to be the organization''s; null: it does not count.';
