-- Two roles that read the shared tables: one for a person, who sees the organizations that it is a member of, and one for support
-- staff, who see all of them. cgk::Db::as_user and cgk::Db::dangerously_as_admin run as these roles.
--
-- Roles belong to the server and not to the database, so this file only makes the functions; `cgk setup:database --app-role` calls
-- cgk_admit_reader, which creates the roles and their policies. Their names begin with cgk__ and end in the database's tag; no
-- tenant has such a name. Both roles read the columns that everybody may read, which are those of tenants: no hash, no token. Which
-- rows, their policies say. They own nothing and write nothing.
--
-- Reads no row and locks no table.

-- The person that the transaction acts for: the active user that app.current_user_id names, where the role for persons was set.
-- Null in every other role, whatever the setting says, and inside a tenant. The role in force when this function was called is in
-- the setting `role`, because current_user is here the owner.
create function cgk_acting_user() returns uuid
    language sql stable parallel restricted security definer
    set search_path = pg_catalog, pg_temp
as $$
    select u.id from public.users u
     where u.id = case when current_setting('role') = 'cgk__user_' || public.cgk_database_tag()
                            and coalesce(current_setting('app.current_organization_id', true), '') = ''
                            and current_setting('app.current_user_id', true)
                                ~ '^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$'
                       then current_setting('app.current_user_id', true)::uuid end
       and u.status = 'active'
$$;

-- The organizations of that person: those of its confirmed memberships, suspended ones too. A function of the owner, because a
-- policy of memberships cannot read memberships.
create function cgk_user_organizations() returns uuid[]
    language sql stable parallel restricted security definer
    set search_path = pg_catalog, pg_temp
as $$
    select coalesce(array_agg(m.organization_id), '{}') from public.memberships m
     where m.user_id = public.cgk_acting_user() and m.confirmed_at is not null
$$;

-- The members of those organizations, with their addresses. The table users shows a person its own row only: a row there names
-- the home organization of its user, which may be one that the person is no member of.
create function cgk_user_members()
    returns table (organization_id uuid, user_id uuid, email text, role text, status text, confirmed_at timestamptz,
                   created_at timestamptz)
    language sql stable parallel restricted security definer
    set search_path = pg_catalog, pg_temp
as $$
    select m.organization_id, m.user_id, u.email, m.role::text, u.status::text, m.confirmed_at, m.created_at
      from public.memberships m join public.users u on u.id = m.user_id
     where m.organization_id = any (public.cgk_user_organizations())
$$;

-- Creates the two roles and their policies where they are missing, and lets a login act as the role for persons. Returns false where
-- the caller may not create or grant the roles; nothing is changed then. For support staff, an operator grants the other role by
-- hand. For the owner of the tables.
--
-- Each table that gets a policy is locked against everybody (ACCESS EXCLUSIVE) until the transaction ends.
create function cgk_admit_reader(login name) returns boolean
    language plpgsql
    set search_path = pg_catalog, pg_temp
as $$
declare
    tag     constant text := public.cgk_database_tag();
    version constant integer := current_setting('server_version_num')::integer;
    own     constant pg_roles := (select r from pg_roles r where r.rolname = current_user);
    persons constant name := 'cgk__user_' || tag;
    item    record;
begin
    if tag is null then
        return false;
    end if;
    for item in select r.name from (values (persons), ('cgk__admin_' || tag)) r (name)
                 where not exists (select from pg_roles x where x.rolname::text = r.name) loop
        if not (own.rolsuper or own.rolcreaterole) then
            return false;
        end if;
        execute format('create role %I nologin nosuperuser nobypassrls noinherit', item.name);
    end loop;
    -- From version 16 on, who creates roles may grant only those that it was given to grant.
    if not (own.rolsuper or (version < 160000 and own.rolcreaterole)
            or pg_has_role(current_user, persons, 'member with admin option')) then
        return false;
    end if;

    for item in
        select 'cgk_reader_' || r.rolname as policy, r.rolname, c.oid::regclass as shared, k.condition
          from (values ('organizations', 'id = any ((select public.cgk_user_organizations())::uuid[])'),
                       ('memberships', 'organization_id = any ((select public.cgk_user_organizations())::uuid[])'),
                       ('users', 'id = (select public.cgk_acting_user())')) k (name, condition)
          join pg_class c on c.oid = to_regclass('public.' || k.name)
          join pg_roles r on r.rolname = persons
        union all
        -- Each table of which tenants read their own rows. In a copy of the database the role is another database's.
        select 'cgk_reader_' || r.rolname, r.rolname, c.oid::regclass,
               '(select current_user::text = ''cgk__admin_'' || public.cgk_database_tag())'
          from pg_policy t join pg_class c on c.oid = t.polrelid and t.polname::text = c.relname || '_tenant' and t.polcmd = 'r'
          join pg_namespace n on n.oid = c.relnamespace and n.nspname = 'public'
          join pg_roles r on r.rolname = 'cgk__admin_' || tag
    loop
        continue when exists (select from pg_policy p where p.polrelid = item.shared and p.polname::text = item.policy);
        execute format('create policy %I on %s for select to %I using (%s)', item.policy, item.shared, item.rolname, item.condition);
    end loop;

    if not exists (select from pg_auth_members m where m.roleid = (select r.oid from pg_roles r where r.rolname = persons)
                                                   and m.member = (select r.oid from pg_roles r where r.rolname = login)) then
        execute format('grant %I to %I', persons, login)
                || case when version >= 160000 then ' with inherit false, set true' else '' end;
    end if;
    return true;
end
$$;

revoke all on function cgk_admit_reader(name) from public;

comment on function cgk_acting_user()        is 'The person that the transaction acts for, or null. For row level security.';
comment on function cgk_user_organizations() is 'The organizations of the person that the transaction acts for.';
comment on function cgk_user_members()       is 'The members of the organizations of the person that the transaction acts for.';
comment on function cgk_admit_reader(name)   is 'Creates the roles that read the shared tables. Called by cgk setup:database.';
