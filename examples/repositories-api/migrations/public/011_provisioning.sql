-- The queue of tenants to be made. A service cannot create schemas and roles; it writes an organization that is `onboarding`
-- and a request for it, in one transaction, and `cgk provision` makes the tenant with the operator's rights.
-- cgk::provisioning writes and reads this table.

-- failed: no further attempt is made until somebody asks for one.
create type provisioning_status as enum ('pending', 'done', 'failed');

create table provisioning_requests (
    id              uuid                not null default gen_random_uuid(),
    organization_id uuid                not null,
    status          provisioning_status not null default 'pending',
    attempts        integer             not null default 0,
    -- Not before this time. While an attempt is under way its row is locked, and this is when the next one may begin if
    -- the process that makes it dies.
    attempt_at      timestamptz         not null default now(),
    error_code      text,
    error           text,
    finished_at     timestamptz,
    created_at      timestamptz         not null default now(),
    updated_at      timestamptz         not null default now(),

    constraint provisioning_requests_pkey                 primary key (id),
    constraint provisioning_requests_organization_id_key  unique (organization_id),
    constraint provisioning_requests_organization_id_fkey foreign key (organization_id)
        references organizations (id) on delete cascade,

    constraint provisioning_requests_attempts_check   check (attempts >= 0),
    constraint provisioning_requests_error_check      check (char_length(error) <= 4000 and char_length(error_code) <= 20),
    constraint provisioning_requests_finished_check   check ((finished_at is null) = (status = 'pending'))
);

-- What is to be done next.
create index provisioning_requests_attempt_at_idx on provisioning_requests (attempt_at) where status = 'pending';
-- What has failed.
create index provisioning_requests_failed_idx on provisioning_requests (finished_at) where status = 'failed';

create trigger provisioning_requests_set_updated_at
    before update on provisioning_requests
    for each row execute function set_updated_at();

-- Tells the processes that make tenants of work, and those that wait of an outcome. The channel is open to every role of the
-- database, so a notice holds a status and the random id of the request, and no name.
create function cgk_provisioning_changed() returns trigger
    language plpgsql
    set search_path = pg_catalog, pg_temp
as $$
begin
    perform pg_notify('cgk_provisioning', new.status::text || ' ' || new.id::text);
    return null;
end
$$;

create trigger provisioning_requests_notify_insert after insert on provisioning_requests
    for each row execute function cgk_provisioning_changed();
-- A status that is set counts, also to what it was: that is how a failed request is asked for again.
create trigger provisioning_requests_notify_update after update of status on provisioning_requests
    for each row execute function cgk_provisioning_changed();

-- Tenants have no right and no policy here. The owner gets the policy that 007 makes, and each login that was admitted to all
-- shared tables the one that it has on users; its rights come by default privileges.
do $$
declare
    outside constant text := $sql$(select coalesce(current_setting('app.current_organization_id', true), '') = '')$sql$;
    inside  constant text := $sql$(select nullif(current_setting('app.current_organization_id', true), '')::uuid)$sql$;
    item record;
begin
    for item in
        select 'provisioning_requests_platform' as policy, pg_get_userbyid(c.relowner) as login,
               outside || ' or organization_id = ' || inside as condition
          from pg_class c where c.oid = to_regclass('provisioning_requests')
        union all
        select p.polname, r.rolname, pg_get_expr(p.polqual, p.polrelid)
          from pg_policy p join pg_roles r on p.polroles = array[r.oid]
         where p.polrelid = to_regclass('users') and p.polname::text = 'cgk_login_' || r.rolname
    loop
        execute format('create policy %I on provisioning_requests to %I using (%s)', item.policy, item.login, item.condition);
    end loop;
end
$$;

alter table provisioning_requests enable row level security;
alter table provisioning_requests force row level security;

comment on table  provisioning_requests            is 'The queue of tenants to be made; served by cgk provision.';
comment on column provisioning_requests.attempt_at is 'No attempt is made before this time.';
comment on column provisioning_requests.error      is 'What the last attempt failed with. For the operator.';
