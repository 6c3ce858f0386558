-- Who sees which rows of a shared table, said once for all tables that follow: the rules of 007, as a function that the
-- migration of a new table calls.

-- Lets a shared table show each row to whoever may see it, and turns row level security on, also for the owner:
--
-- - the owner and every login that was admitted to all shared tables: all rows outside of a tenant; inside one, where the
--   search path keeps tenants apart, the rows of that tenant's organization;
-- - with tenant_columns, a tenant's role: those columns of its own organization's rows, to read. Without, nothing.
--
-- shared is locked against everybody (ACCESS EXCLUSIVE) to the end of the transaction. organization_column is null for a table
-- that belongs to no organization: its rows are seen outside of a tenant only.
create function cgk_protect_shared_table(shared regclass, organization_column name, tenant_columns name[] default null)
    returns void
    language plpgsql
    set search_path = pg_catalog, pg_temp
as $$
declare
    outside    constant text := '(select coalesce(current_setting(''app.current_organization_id'', true), '''') = '''')';
    inside     constant text := '(select nullif(current_setting(''app.current_organization_id'', true), '''')::uuid)';
    table_name constant name := (select c.relname from pg_class c where c.oid = shared);
    home       constant name := (select n.nspname from pg_class c join pg_namespace n on n.oid = c.relnamespace
                                  where c.oid = shared);
    condition  constant text := outside || coalesce(' or ' || quote_ident(organization_column) || ' = ' || inside, '');
    item record;
begin
    for item in
        select format('%s_platform', table_name)::name as policy, pg_get_userbyid(c.relowner) as login,
               condition as condition
          from pg_class c where c.oid = shared
        union all
        -- What a login was admitted to is in its policy on users; users has its organization in organization_id.
        select p.polname, r.rolname,
               case pg_get_expr(p.polqual, p.polrelid) when 'true' then 'true' else condition end
          from pg_policy p join pg_roles r on p.polroles = array[r.oid]
         where p.polrelid = to_regclass(format('%I.users', home)) and p.polname::text = 'cgk_login_' || r.rolname
    loop
        execute format('create policy %I on %s to %I using (%s)', item.policy, shared, item.login, item.condition);
    end loop;

    if tenant_columns is not null then
        execute format('grant select (%s) on %s to public',
                       (select string_agg(quote_ident(t.name), ', ') from unnest(tenant_columns) as t (name)), shared);
        execute format('create policy %I on %s for select using (%I = (select o.id from %I.organizations o
                                                                      where o.slug = (select %I.current_tenant_slug())))',
                       format('%s_tenant', table_name), shared, organization_column, home, home);
    end if;

    execute format('alter table %s enable row level security, force row level security', shared);
end
$$;

-- Called by migrations only, whose role may change the table anyway.
revoke all on function cgk_protect_shared_table(regclass, name, name[]) from public;

comment on function cgk_protect_shared_table(regclass, name, name[]) is 'Gives a shared table the policies of row level security that all have.';
