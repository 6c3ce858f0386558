-- Three rules for cgk_enter (009_enter.sql). A transaction that has written something enters no second tenant, also after RESET ALL has
-- removed the settings that name the first (TN405). In a copy of a database no tenant is entered with path isolation either (TN408). A
-- login that was given no access to the tenants is told so (TN403), and not that each tenant is unknown.

-- Returns true if this session has the lock of no other tenant. Reads all locks of the server and the whole registry, so it is only
-- called where a transaction has written before it enters.
create function cgk_is_in_no_other(tenant text) returns bool
    language sql volatile parallel unsafe
    return not exists (
        select from pg_locks l
          join organizations o
            on concat('x', encode(substr(sha256(convert_to(concat('cgk:tenant:', o.slug), 'UTF8')), 1, 8), 'hex'))::bit(64)::int8
               = (l.classid::int8 << 32 | l.objid::int8)
         where l.locktype = 'advisory' and l.objsubid = 1 and l.pid = pg_backend_pid() and l.granted and o.slug <> tenant);

-- As in 009_enter.sql, with the reasons of these rules.
create or replace function cgk_refuse(tenant text, refusal text) returns text
    language plpgsql volatile parallel unsafe
as $$
#variable_conflict use_variable
declare
    login  constant pg_catalog.text := current_user;
    inside constant pg_catalog.text := pg_catalog.current_setting('app.current_organization_id', true);
    began  constant pg_catalog.text := pg_catalog.extract('epoch', pg_catalog.now())::pg_catalog.text;
    -- What cgk_enter has left in this transaction; null if it is of an earlier one.
    mark   constant pg_catalog.text := case when pg_catalog.split_part(pg_catalog.current_setting('cgk.tenant', true), ' ', 4)
                                                 operator(pg_catalog.=) began
                                            then pg_catalog.current_setting('cgk.tenant', true) end;
begin
    if mark operator(pg_catalog.=) pg_catalog.concat(tenant, ' ', login, ' ', inside, ' ', began)
       and pg_catalog.current_schema()::pg_catalog.text operator(pg_catalog.=) pg_catalog.concat('tenant_', tenant)
       and pg_catalog.current_setting('search_path') operator(pg_catalog.=) public.cgk_search_path(tenant)
    then
        return inside;
    elsif mark is null and login operator(pg_catalog.=) pg_catalog.concat('cgk_', tenant, '_', public.cgk_database_tag())
          and pg_catalog.now() operator(pg_catalog.<>) pg_catalog.statement_timestamp() then
        return public.cgk_join(tenant, began);
    elsif public.cgk_database_tag() is null then
        raise exception 'this database is a copy of the one that its tenants belong to' using errcode = 'TN408',
            hint = 'Run cgk setup:database.';
    elsif coalesce(tenant operator(pg_catalog.!~) '^[a-z][a-z0-9_]{0,47}$', true) then
        raise exception 'there is no tenant %', coalesce(pg_catalog.quote_literal(pg_catalog.left(tenant, 64)), 'null')
            using errcode = 'TN401';
    elsif pg_catalog.starts_with(login, 'cgk_')
          and pg_catalog.right(login, pg_catalog.length(public.cgk_database_tag()) operator(pg_catalog.+) 1)
              operator(pg_catalog.=) pg_catalog.concat('_', public.cgk_database_tag()) then
        raise exception 'cannot enter tenant %: the transaction is inside another tenant, as role %', tenant, login
            using errcode = 'TN405', hint = 'Where no transaction has entered it, the session was left so: send DISCARD ALL.';
    elsif mark operator(pg_catalog.<>) '' then
        raise exception 'cannot enter tenant %: the transaction has entered tenant % before', tenant,
            pg_catalog.split_part(mark, ' ', 1) using errcode = 'TN405';
    elsif pg_catalog.pg_current_xact_id_if_assigned() is not null and not public.cgk_is_in_no_other(tenant) then
        raise exception 'cannot enter tenant %: the transaction has entered another tenant before', tenant using errcode = 'TN405',
            detail = 'It still has the lock of that tenant; its settings were reset.';
    elsif pg_catalog.now() operator(pg_catalog.=) pg_catalog.statement_timestamp() then
        -- A simple query that began its transaction, which ends with it. Of the extended protocol's statements a function
        -- cannot see it; there nothing stays set, and cgk_check refuses.
        raise exception 'cannot enter tenant % outside of a transaction block', tenant using errcode = 'TN406',
            hint = 'Send BEGIN first, as a statement of its own.';
    elsif pg_catalog.current_setting('transaction_isolation') operator(pg_catalog.<>) 'read committed' then
        raise exception 'cannot enter tenant % in a transaction that is %', tenant,
            pg_catalog.current_setting('transaction_isolation') using errcode = 'TN407',
            detail = 'Its snapshot is older than the lock on the tenant, and may show a suspended tenant as active.';
    elsif refusal operator(pg_catalog.=) 'TN405'
          or (refusal is null and public.cgk_isolation() operator(pg_catalog.=) 'path'
              and inside operator(pg_catalog.<>) '') then
        raise exception 'cannot enter tenant %: the transaction is inside organization %', tenant, inside
            using errcode = 'TN405';
    elsif refusal operator(pg_catalog.=) 'TN402' then
        raise exception 'tenant % is suspended', tenant using errcode = 'TN402';
    elsif refusal operator(pg_catalog.=) 'TN403' then
        raise exception 'tenant % is not ready for %', tenant, login using errcode = 'TN403',
            detail = 'Its status is onboarding, its schema or role is missing, or the login may not use them.',
            hint = pg_catalog.format('Run cgk tenant:verify %s.', tenant);
    elsif refusal operator(pg_catalog.=) 'TN409' then
        raise exception 'cannot enter tenant %: everybody, the tenant or the login may create objects in schema public', tenant
            using errcode = 'TN409', detail = 'The statements of other tenants would find what one of them makes there.',
            hint = 'Its owner runs: revoke create on schema public from NAME, or from public. cgk drift names every such right.';
    elsif refusal operator(pg_catalog.=) 'TN404' then
        raise exception 'schema tenant_% belongs to another organization than tenant %', tenant, tenant using errcode = 'TN404',
            hint = pg_catalog.format('Run cgk tenant:verify %s.', tenant);
    elsif pg_catalog.row_security_active('public.organizations')
          and not exists (select from pg_catalog.pg_policy p, pg_catalog.unnest(p.polroles) r (id)
                           where p.polrelid operator(pg_catalog.=) 'public.organizations'::pg_catalog.regclass
                             and r.id operator(pg_catalog.<>) 0 and pg_catalog.pg_has_role(r.id, 'usage')) then
        raise exception 'login % may enter no tenant', login using errcode = 'TN403',
            hint = pg_catalog.format('Run cgk setup:database --app-role %I.', login);
    end if;
    raise exception 'there is no tenant %', tenant using errcode = 'TN401';
end
$$;

-- As in 009_enter.sql, with these rules.
create or replace function cgk_enter(tenant text, statement_timeout text default '30s', lock_timeout text default '3s',
                          idle_timeout text default '60s')
    returns text
    language plpgsql volatile parallel unsafe
as $$
#variable_conflict use_variable
declare
    -- Once, and not where they are needed: PL/pgSQL prepares each expression anew in each transaction.
    tag          constant pg_catalog.text := public.cgk_database_tag();
    tenant_role  constant pg_catalog.text := pg_catalog.concat('cgk_', tenant, '_', tag);
    isolation    constant pg_catalog.text := public.cgk_isolation();
    organization pg_catalog.text;
    refusal      pg_catalog.text;
    entered      pg_catalog.text;
    further      pg_catalog.bool;
begin
    -- Conditions apart from what sets: with a tenant's role on a hardened database, a statement in which set_config stands is
    -- refused.
    if tenant operator(pg_catalog.~) '^[a-z][a-z0-9_]{0,47}$'
       and pg_catalog.current_setting('cgk.tenant', true) operator(pg_catalog.<>) '' is not true
       and (not pg_catalog.starts_with(current_user, 'cgk_')
            or pg_catalog.right(current_user, pg_catalog.length(tag) operator(pg_catalog.+) 1)
               operator(pg_catalog.<>) pg_catalog.concat('_', tag))
       and pg_catalog.now() operator(pg_catalog.<>) pg_catalog.statement_timestamp()
       and pg_catalog.current_setting('transaction_isolation') operator(pg_catalog.=) 'read committed'
       and (pg_catalog.pg_current_xact_id_if_assigned() is null or public.cgk_is_in_no_other(tenant))
    then
        -- The lock, whose key is that of cgk::lock::tenant_key, comes before the look at the registry: that is a statement of
        -- its own, and sees what was committed before the lock was granted.
        entered := pg_catalog.concat(
            pg_catalog.set_config('row_security', 'on', true),
            case when statement_timeout is not null then pg_catalog.set_config('statement_timeout', statement_timeout, true) end,
            case when lock_timeout is not null then pg_catalog.set_config('lock_timeout', lock_timeout, true) end,
            case when idle_timeout is not null
                 then pg_catalog.set_config('idle_in_transaction_session_timeout', idle_timeout, true) end,
            pg_catalog.pg_advisory_xact_lock_shared(pg_catalog.concat('x', pg_catalog.encode(pg_catalog.substr(
                pg_catalog.sha256(pg_catalog.convert_to(pg_catalog.concat('cgk:tenant:', tenant), 'UTF8')), 1, 8), 'hex'))
                ::pg_catalog.bit(64)::pg_catalog.int8) is null);
        select o.id,
               case when isolation operator(pg_catalog.=) 'path'
                         and pg_catalog.current_setting('app.current_organization_id', true) operator(pg_catalog.<>) ''
                         and pg_catalog.current_setting('app.current_organization_id', true)
                             operator(pg_catalog.<>) o.id::pg_catalog.text then 'TN405'
                    when o.status::pg_catalog.text operator(pg_catalog.=) 'suspended' then 'TN402'
                    when o.status::pg_catalog.text operator(pg_catalog.<>) 'active' then 'TN403'
                    when case when isolation operator(pg_catalog.=) 'path'
                             then pg_catalog.has_schema_privilege(pg_catalog.to_regnamespace(pg_catalog.concat('tenant_', tenant)), 'usage')
                                  and tag is not null
                             else pg_catalog.has_schema_privilege(pg_catalog.to_regrole(tenant_role), pg_catalog.to_regnamespace(pg_catalog.concat('tenant_', tenant)), 'usage')
                                  and pg_catalog.pg_has_role(pg_catalog.to_regrole(tenant_role), case when pg_catalog.current_setting('server_version_num')
                                      ::pg_catalog.int4 operator(pg_catalog.>=) 160000 then 'set' else 'member' end)
                         end is not true then 'TN403'
                    -- A login with the rights of the registry's owner can do anything in public whatever is revoked from it.
                    when pg_catalog.has_schema_privilege('public', 'create')
                         and not pg_catalog.pg_has_role((select c.relowner from pg_catalog.pg_class c
                                                          where c.oid operator(pg_catalog.=) 'public.organizations'::pg_catalog.regclass), 'usage')
                      or case when isolation operator(pg_catalog.=) 'path'
                              then pg_catalog.has_schema_privilege('public', 'public', 'create')
                              else pg_catalog.has_schema_privilege(pg_catalog.to_regrole(tenant_role), 'public', 'create')
                         end then 'TN409'
                    when exists (select from pg_catalog.pg_description d
                                  where d.objoid operator(pg_catalog.=) pg_catalog.to_regnamespace(pg_catalog.concat('tenant_', tenant)) and d.objsubid operator(pg_catalog.=) 0
                                    and d.classoid operator(pg_catalog.=) 'pg_catalog.pg_namespace'::pg_catalog.regclass
                                    and pg_catalog.starts_with(d.description, 'cgk organization ')
                                    and not pg_catalog.starts_with(d.description,
                                            pg_catalog.concat('cgk organization ', o.id)))
                        then 'TN404'
               end
          into organization, refusal
          from public.organizations o
         where o.slug operator(pg_catalog.=) tenant;

        if organization is not null and refusal is null then
            -- The role comes last: from then on the statement runs as the tenant's. Set to null, cgk.extension_schemas has the
            -- value that the session began with; where that is none, nobody is asked for the path. Under the tenant's search path no
            -- expression of this function is begun: its plan would be made anew for each tenant.
            further := pg_catalog.set_config('cgk.extension_schemas', null, true) operator(pg_catalog.<>) '';
            entered := pg_catalog.concat(
                pg_catalog.set_config('app.current_organization_id', organization, true),
                pg_catalog.set_config('cgk.tenant', pg_catalog.concat(tenant, ' ',
                    case when isolation operator(pg_catalog.=) 'path' then current_user else tenant_role end, ' ', organization, ' ',
                    pg_catalog.extract('epoch', pg_catalog.now())), true),
                pg_catalog.set_config('search_path',
                    case when further
                         then public.cgk_search_path(tenant)
                         else pg_catalog.concat('tenant_', tenant, ', public, pg_temp') end, true),
                case when isolation operator(pg_catalog.<>) 'path'
                     then pg_catalog.set_config('role', tenant_role, true) end,
                case when further then public.cgk_check_path(tenant) is null end);
            return organization;
        end if;
    elsif public.cgk_forget() then
        return public.cgk_enter(tenant, statement_timeout, lock_timeout, idle_timeout);
    end if;
    return public.cgk_refuse(tenant, refusal);
end
$$;

-- As in 009_enter.sql, but in PL/pgSQL: a session plans it when the tenant is another one than before, and not with every call. Names
-- are qualified, because the tenant's search path is set.
create or replace function cgk_check(tenant text) returns text
    language plpgsql volatile parallel unsafe
as $$
#variable_conflict use_variable
begin
    return case
        when pg_catalog.current_setting('cgk.tenant', true) operator(pg_catalog.=) pg_catalog.concat(tenant, ' ', current_user, ' ',
                 pg_catalog.current_setting('app.current_organization_id', true), ' ', pg_catalog.extract('epoch', pg_catalog.now()))
             and pg_catalog.concat(pg_catalog.current_schema(), ', public, pg_temp')
                 operator(pg_catalog.=) pg_catalog.current_setting('search_path')
             and pg_catalog.current_setting('search_path')
                 operator(pg_catalog.=) pg_catalog.concat('tenant_', tenant, ', public, pg_temp')
        then tenant
        else public.cgk_left(tenant)
    end;
end
$$;

grant execute on function cgk_is_in_no_other(text) to public;

comment on function cgk_is_in_no_other(text) is 'Returns true if this session has the lock of no other tenant.';

-- Where the search path keeps tenants apart, the login has its rights on the shared tables inside a tenant too. As with a tenant's role,
-- it there writes no event and no line of the audit log that is the platform's (029_event_rules.sql), and changes and deletes no event.
create policy domain_events_kept on domain_events as restrictive for update
    using ((select coalesce(current_setting('app.current_organization_id', true), '') = ''));
create policy domain_events_not_deleted on domain_events as restrictive for delete
    using ((select coalesce(current_setting('app.current_organization_id', true), '') = ''));
create policy audit_events_reserved on audit_events as restrictive for insert
    with check ((select coalesce(current_setting('app.current_organization_id', true), '') = '')
                or not starts_with(lower(action collate "C"), 'cgk.')
                   and lower(actor_kind collate "C") is distinct from 'operator');
