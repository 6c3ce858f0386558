-- Refuses an organization the slug that another one keeps as its former slug. It runs after the row is written, so it
-- sees a rename that the row waited for. The error is the one of a slug that is in use.
create function public.cgk_guard_aliases() returns trigger
    language plpgsql set search_path = pg_catalog, pg_temp
as $$
begin
    if exists (select from public.cgk_aliases a
                where a.slug = new.slug::pg_catalog.text and a.organization_id <> new.id
                  and a.expires_at > pg_catalog.clock_timestamp()) then
        raise exception using
            errcode = 'unique_violation',
            schema = 'public', table = 'organizations', constraint = 'organizations_slug_key',
            message = pg_catalog.format('slug %I is a former slug of another organization, which is still found by it', new.slug),
            hint = 'To free it: cgk tenant:rename TENANT --drop-alias SLUG.';
    end if;
    return null;
end
$$;
create trigger cgk_registry_alias after insert or update of slug on public.organizations
    for each row execute function public.cgk_guard_aliases();
