-- The way into a tenant for services in any language: one statement after BEGIN, one before COMMIT.
--
--     begin; select public.cgk_enter('acme'); ...; select public.cgk_check('acme'); commit;
--
-- Both run with the caller's own rights and give it none: whatever they set, the caller could set by hand. A SECURITY
-- DEFINER function cannot change the role, and a SET clause would undo the search path at the end of the call, so every
-- name is qualified instead, operators and types included; CASE x WHEN, IN, NULLIF and IS DISTINCT FROM are left out, because each
-- would look for an operator on the caller's search path.
--
-- Their errors have SQLSTATEs of the private class TN: 401 unknown tenant, 402 suspended, 403 not ready for this login,
-- 404 the schema belongs to another organization, 405 inside another tenant, 406 no transaction block, 407 isolation
-- level, 408 a copy of the database, 409 tenants or the login may create in public, 501 the transaction has left the tenant.

-- How a session's tenants are kept apart: as the database says in public.cgk_isolation_modes(), which `cgk setup:database`
-- makes, and `cgk migrate` before it comes to this migration. While that is being changed it names two, the one that is being
-- left last; that one holds until the change is finished, but for sessions in which cgk.isolation names the other. A setting
-- that the database does not accept is passed over. A session that says 'path' gains nothing: its login then needs rights of
-- its own on the tenant's schema.
create function cgk_isolation() returns text
    language sql stable parallel safe
    return case current_setting('cgk.isolation', true)
        when 'path' then case when strpos(public.cgk_isolation_modes(), 'path') > 0 then 'path' else 'role' end
        when 'role' then case when strpos(public.cgk_isolation_modes(), 'role') > 0 then 'role' else 'path' end
        else right(public.cgk_isolation_modes(), 4)
    end;

-- The schemas of extensions, as the owner of the database has set them for all of its sessions. What a session or a login has
-- set does not count: another tenant could have left it there.
create function cgk_extension_schemas() returns text
    language sql stable parallel safe
    return (select substr(c.entry, length('cgk.extension_schemas=') + 1)
              from pg_db_role_setting s, pg_database d, unnest(s.setconfig) c (entry)
             where d.datname = current_database() and s.setdatabase = d.oid and s.setrole = 0
               and starts_with(c.entry, 'cgk.extension_schemas='));

-- The search path of a tenant. pg_temp stands last and written out: left out, it would be searched first.
create function cgk_search_path(tenant text) returns text
    language sql stable parallel safe
    return concat_ws(', ', 'tenant_' || tenant, 'public', nullif(cgk_extension_schemas(), ''), 'pg_temp');

-- Says why a tenant was not entered; what cgk_enter has found out comes with it. In the tenant itself that is no error, where
-- everything is as cgk_enter leaves it.
create function cgk_refuse(tenant text, refusal text) returns text
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
        raise exception 'there is no tenant %', coalesce(pg_catalog.quote_literal(tenant), 'null') using errcode = 'TN401';
    elsif pg_catalog.starts_with(login, 'cgk_')
          and pg_catalog.right(login, pg_catalog.length(public.cgk_database_tag()) operator(pg_catalog.+) 1)
              operator(pg_catalog.=) pg_catalog.concat('_', public.cgk_database_tag()) then
        raise exception 'cannot enter tenant %: the transaction is inside another tenant, as role %', tenant, login
            using errcode = 'TN405', hint = 'Where no transaction has entered it, the session was left so: send DISCARD ALL.';
    elsif mark operator(pg_catalog.<>) '' then
        raise exception 'cannot enter tenant %: the transaction has entered tenant % before', tenant,
            pg_catalog.split_part(mark, ' ', 1) using errcode = 'TN405';
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
    end if;
    raise exception 'there is no tenant %', tenant using errcode = 'TN401';
end
$$;

-- Enters a tenant whose role the transaction has already, as inside with_tenant of the library, or in a session that was left
-- with the role. So the lock is taken, which costs nothing where it is held, and everything is looked at. SET stands in
-- EXECUTE: on a hardened database a tenant's role may not call set_config.
create function cgk_join(tenant text, began text) returns text
    language plpgsql volatile parallel unsafe
as $$
#variable_conflict use_variable
declare
    inside constant pg_catalog.text := pg_catalog.current_setting('app.current_organization_id', true);
begin
    perform pg_catalog.pg_advisory_xact_lock_shared(pg_catalog.concat('x', pg_catalog.encode(pg_catalog.substr(
        pg_catalog.sha256(pg_catalog.convert_to(pg_catalog.concat('cgk:tenant:', tenant), 'UTF8')), 1, 8), 'hex'))
        ::pg_catalog.bit(64)::pg_catalog.int8);
    if not exists (select from public.organizations o
                    where o.slug operator(pg_catalog.=) tenant and o.id::pg_catalog.text operator(pg_catalog.=) inside
                      and o.status::pg_catalog.text operator(pg_catalog.=) 'active')
       or pg_catalog.current_schema()::pg_catalog.text operator(pg_catalog.=) pg_catalog.concat('tenant_', tenant) is not true
    then
        raise exception 'cannot enter tenant %: the session has its role, and not its schema and organization, or the tenant is not active',
            tenant using errcode = 'TN405', hint = 'Where no transaction has entered it, the session was left so: send DISCARD ALL.';
    end if;
    execute pg_catalog.format('set local cgk.tenant = %L',
        pg_catalog.concat(tenant, ' ', current_user, ' ', inside, ' ', began));
    return inside;
end
$$;

-- Takes a mark of an earlier transaction away, which was set for the session and says nothing of this one; false if there is none.
create function cgk_forget() returns bool
    language plpgsql volatile parallel unsafe
as $$
begin
    if pg_catalog.current_setting('cgk.tenant', true) operator(pg_catalog.<>) ''
       and pg_catalog.split_part(pg_catalog.current_setting('cgk.tenant', true), ' ', 4)
           operator(pg_catalog.<>) pg_catalog.extract('epoch', pg_catalog.now())::pg_catalog.text
    then
        execute 'set local cgk.tenant = ''''';
        return true;
    end if;
    return false;
end
$$;

-- Enters a tenant until the end of the transaction and returns the organization's id. The timeouts hold as long; null
-- leaves one as it is. Inside the same tenant it changes nothing. Written with few expressions, because a transaction
-- pays for the preparation of each.
create function cgk_enter(tenant text, statement_timeout text default '30s', lock_timeout text default '3s',
                          idle_timeout text default '60s')
    returns text
    language plpgsql volatile parallel unsafe
as $$
#variable_conflict use_variable
declare
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
            or pg_catalog.right(current_user, pg_catalog.length(public.cgk_database_tag()) operator(pg_catalog.+) 1)
               operator(pg_catalog.<>) pg_catalog.concat('_', public.cgk_database_tag()))
       and pg_catalog.now() operator(pg_catalog.<>) pg_catalog.statement_timestamp()
       and pg_catalog.current_setting('transaction_isolation') operator(pg_catalog.=) 'read committed'
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
               case when public.cgk_isolation() operator(pg_catalog.=) 'path'
                         and pg_catalog.current_setting('app.current_organization_id', true) operator(pg_catalog.<>) ''
                         and pg_catalog.current_setting('app.current_organization_id', true)
                             operator(pg_catalog.<>) o.id::pg_catalog.text then 'TN405'
                    when o.status::pg_catalog.text operator(pg_catalog.=) 'suspended' then 'TN402'
                    when o.status::pg_catalog.text operator(pg_catalog.<>) 'active' then 'TN403'
                    when case when public.cgk_isolation() operator(pg_catalog.=) 'path'
                             then pg_catalog.has_schema_privilege(pg_catalog.to_regnamespace(pg_catalog.concat('tenant_', tenant)), 'usage')
                             else pg_catalog.has_schema_privilege(pg_catalog.to_regrole(pg_catalog.concat('cgk_', tenant, '_', public.cgk_database_tag())), pg_catalog.to_regnamespace(pg_catalog.concat('tenant_', tenant)), 'usage')
                                  and pg_catalog.pg_has_role(pg_catalog.to_regrole(pg_catalog.concat('cgk_', tenant, '_', public.cgk_database_tag())), case when pg_catalog.current_setting('server_version_num')
                                      ::pg_catalog.int4 operator(pg_catalog.>=) 160000 then 'set' else 'member' end)
                         end is not true then 'TN403'
                    -- A login with the rights of the registry's owner can do anything in public whatever is revoked from it.
                    when pg_catalog.has_schema_privilege('public', 'create')
                         and not pg_catalog.pg_has_role((select c.relowner from pg_catalog.pg_class c
                                                          where c.oid operator(pg_catalog.=) 'public.organizations'::pg_catalog.regclass), 'usage')
                      or case when public.cgk_isolation() operator(pg_catalog.=) 'path'
                              then pg_catalog.has_schema_privilege('public', 'public', 'create')
                              else pg_catalog.has_schema_privilege(pg_catalog.to_regrole(pg_catalog.concat('cgk_', tenant, '_', public.cgk_database_tag())), 'public', 'create')
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
                    case when public.cgk_isolation() operator(pg_catalog.=) 'path' then current_user else pg_catalog.concat('cgk_', tenant, '_', public.cgk_database_tag()) end, ' ', organization, ' ',
                    pg_catalog.extract('epoch', pg_catalog.now())), true),
                pg_catalog.set_config('search_path',
                    case when further
                         then public.cgk_search_path(tenant)
                         else pg_catalog.concat('tenant_', tenant, ', public, pg_temp') end, true),
                case when public.cgk_isolation() operator(pg_catalog.<>) 'path'
                     then pg_catalog.set_config('role', pg_catalog.concat('cgk_', tenant, '_', public.cgk_database_tag()), true) end,
                case when further then public.cgk_check_path(tenant) is null end);
            return organization;
        end if;
    elsif public.cgk_forget() then
        return public.cgk_enter(tenant, statement_timeout, lock_timeout, idle_timeout);
    end if;
    return public.cgk_refuse(tenant, refusal);
end
$$;

-- Raises an error where everybody, the tenant or the login may create in a schema of extensions.
create function cgk_check_path(tenant text) returns void
    language plpgsql volatile parallel unsafe
as $$
declare
    place pg_catalog.text;
begin
    select s.name::pg_catalog.text into place
      from pg_catalog.unnest(pg_catalog.current_schemas(false)) s (name),
           pg_catalog.pg_class c
     where c.oid operator(pg_catalog.=) 'public.organizations'::pg_catalog.regclass
       and s.name::pg_catalog.text operator(pg_catalog.<>) 'public'
       and s.name::pg_catalog.text operator(pg_catalog.<>) pg_catalog.concat('tenant_', tenant)
       and not pg_catalog.starts_with(s.name::pg_catalog.text, 'pg_')
       and (pg_catalog.has_schema_privilege('public', s.name::pg_catalog.text, 'create')
            or pg_catalog.has_schema_privilege(s.name::pg_catalog.text, 'create')
               and not pg_catalog.pg_has_role(c.relowner, 'usage')
            or pg_catalog.has_schema_privilege(session_user, s.name::pg_catalog.text, 'create')
               and not pg_catalog.pg_has_role(session_user, c.relowner, 'usage'))
     limit 1;
    if place is not null then
        raise exception 'cannot enter tenant %: everybody, the tenant or the login may create objects in schema %', tenant, place
            using errcode = 'TN409', detail = 'The statements of other tenants would find what one of them makes there.';
    end if;
end
$$;

-- The rest of cgk_check: raises the error of a transaction that is not in the tenant, unless the one thing that is not as it is
-- in most databases is the search path, and that has the schemas of extensions.
create function cgk_left(tenant text) returns text
    language plpgsql volatile parallel unsafe
as $$
begin
    if pg_catalog.current_setting('cgk.tenant', true) operator(pg_catalog.=)
           pg_catalog.concat_ws(' ', tenant, current_user, pg_catalog.current_setting('app.current_organization_id', true),
                                pg_catalog.extract('epoch', pg_catalog.now()))
       and pg_catalog.current_schema()::pg_catalog.text operator(pg_catalog.=) pg_catalog.concat('tenant_', tenant)
       and pg_catalog.current_setting('search_path') operator(pg_catalog.=) public.cgk_search_path(tenant)
    then
        return tenant;
    end if;
    raise exception 'the transaction has left tenant %', coalesce(tenant, 'null') using errcode = 'TN501',
        detail = pg_catalog.format('It runs as %s in schema %s, with the search path %s.', current_user,
            coalesce(pg_catalog.current_schema(), 'none'), pg_catalog.current_setting('search_path'));
end
$$;

-- The last statement before COMMIT: returns the tenant's name if the transaction is in the tenant as cgk_enter left it, by
-- its own mark, the user, the organization and the whole search path. Its body is parsed here and now, so no search path can
-- redirect it, and a changed path costs no new plan. It has few nodes, because it is planned with every call.
create function cgk_check(tenant text) returns text
    language sql volatile parallel unsafe
    return case
        when current_setting('cgk.tenant', true) = concat_ws(' ', tenant, current_user,
                 current_setting('app.current_organization_id', true), extract(epoch from now()))
             and concat(current_schema(), ', public, pg_temp') = current_setting('search_path')
             and current_setting('search_path') = concat('tenant_', tenant, ', public, pg_temp')
        then tenant
        else cgk_left(tenant)
    end;

-- Everybody may call them, because a tenant's role calls the check, and a call inside another tenant is to be named as such.
grant execute on function cgk_isolation(), cgk_enter(text, text, text, text), cgk_refuse(text, text),
    cgk_extension_schemas(), cgk_search_path(text), cgk_check_path(text), cgk_join(text, text), cgk_forget(), cgk_left(text),
    cgk_check(text) to public;

comment on function cgk_enter(text, text, text, text) is 'Enters a tenant until the end of the transaction.';
comment on function cgk_check(text) is 'The last statement before COMMIT: raises TN501 unless the transaction is in the tenant.';
