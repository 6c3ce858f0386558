-- Keeps an organization in the registry, under its slug and its id, while its schema stands. The schema is the
-- organization's if its comment names the id, or if it belongs to no organization yet and has a ledger.
create or replace function public.cgk_guard_registry() returns trigger
    language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
    lost pg_catalog.text;
    owner pg_catalog.text;
begin
    if tg_op = 'TRUNCATE' then
        select n.nspname, o.slug into lost, owner
          from public.organizations o join pg_catalog.pg_namespace n on n.nspname::pg_catalog.text = 'tenant_' || o.slug::pg_catalog.text
         limit 1;
    else
        owner := old.slug::pg_catalog.text;
        select n.nspname into lost
          from pg_catalog.pg_namespace n
          left join pg_catalog.pg_description d on d.objoid = n.oid and d.objsubid = 0
                                               and d.classoid = 'pg_catalog.pg_namespace'::pg_catalog.regclass
                                               and pg_catalog.starts_with(d.description, 'cgk organization ')
         where n.nspname::pg_catalog.text = 'tenant_' || owner
           and case when d.description is not null
                    then pg_catalog.starts_with(d.description, 'cgk organization ' || old.id::pg_catalog.text)
                    else exists (select from pg_catalog.pg_class c
                                  where c.relnamespace = n.oid and c.relname = 'schema_migrations' and c.relkind in ('r', 'p'))
               end;
    end if;
    if lost is not null then
        raise exception using
            errcode = 'restrict_violation',
            message = pg_catalog.format('schema %I still stands, and belongs to organization %s', lost, owner),
            hint = pg_catalog.format(
                'In the same transaction, first run: drop schema %I cascade. For another slug run instead: alter schema %I '
                'rename to tenant_SLUG, and afterwards cgk tenant:create SLUG. An id is never changed.', lost, lost);
    end if;
    return null;
end
$$;

-- After the row's other triggers, which may change what it holds.
create or replace trigger cgk_registry_delete after delete on public.organizations
    for each row execute function public.cgk_guard_registry();
create or replace trigger cgk_registry_update after update on public.organizations
    for each row when (new.slug is distinct from old.slug or new.id is distinct from old.id)
    execute function public.cgk_guard_registry();
create or replace trigger cgk_registry_truncate before truncate on public.organizations
    for each statement execute function public.cgk_guard_registry();
