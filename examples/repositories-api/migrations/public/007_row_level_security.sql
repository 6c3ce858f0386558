-- Row level security: a tenant reads its own rows of the shared tables and no secrets, whatever it says about itself.
--
-- Who is asked is the role. A tenant's role names its tenant, and no setting can forge a role. Tables that keep tenants
-- apart by the search path alone have no roles; there the setting that with_tenant makes decides, for the one login that
-- everything runs as. Whoever is neither a tenant nor the owner nor a login that `cgk setup:database` admitted sees nothing.
--
-- Each table is locked against everybody (ACCESS EXCLUSIVE) until this migration commits. No row is read or written.

-- The slug of the tenant whose role is in force, cgk_<slug>_<ten digits that stand for the database>; null for any other
-- role. The body is parsed here and now, so no search_path can redirect it.
create function current_tenant_slug() returns text
    stable parallel safe
    return case
        when starts_with(current_user::text, 'cgk_')
             and right(current_user::text, 11)
                 = '_' || left(encode(sha256(convert_to(current_database()::text, 'UTF8')), 'hex'), 10)
             and length(current_user::text) > 15
        then substr(current_user::text, 5, length(current_user::text) - 15)
    end;

comment on function current_tenant_slug() is 'The tenant whose role is in force, or null. For row level security.';

-- What everybody may read where a policy lets a row through; only tenants' roles meet one. Rights by column, because a
-- policy hides rows and not columns: no hash, no token, no name at the payment provider. A right per tenant instead would be 10,000 entries a table.
grant select (id, slug, name, status, settings, shopify_store_domain, stripe_account_id, created_at, updated_at)
    on organizations to public;
grant select (id, organization_id, email, role, status, created_at, updated_at)
    on users to public;
grant select (id, organization_id, user_id, expires_at, ip_address, user_agent, revoked_at, created_at, updated_at)
    on sessions to public;
grant select (id, organization_id, name, scopes, expires_at, last_used_at, revoked_at, created_at, updated_at)
    on api_keys to public;
grant select (id, organization_id, provider, plan, status, period_start, period_end, trial_ends_at, cancel_at_period_end,
              canceled_at, created_at, updated_at)
    on billing to public;

-- Tenants read and change nothing here. In (select …) the condition is worked out once a query, not once a row.
create policy organizations_tenant on organizations for select
    using (slug = (select current_tenant_slug()));
create policy users_tenant on users for select
    using (organization_id = (select o.id from organizations o where o.slug = (select current_tenant_slug())));
create policy sessions_tenant on sessions for select
    using (organization_id = (select o.id from organizations o where o.slug = (select current_tenant_slug())));
create policy api_keys_tenant on api_keys for select
    using (organization_id = (select o.id from organizations o where o.slug = (select current_tenant_slug())));
create policy billing_tenant on billing for select
    using (organization_id = (select o.id from organizations o where o.slug = (select current_tenant_slug())));
-- magic_links belong to no organization: no policy, no right.

-- The platform's own code runs as the owner, whom FORCE makes subject to policies too. Outside of a tenant the owner sees
-- everything; inside one, in path mode, the tenant's rows, which also bounds what it may write. A setting that was
-- reset is '' and one that was never made is null. The owner is looked up: who applies this may be another role.
do $$
declare
    outside constant text := $sql$(select coalesce(current_setting('app.current_organization_id', true), '') = '')$sql$;
    inside  constant text := $sql$(select nullif(current_setting('app.current_organization_id', true), '')::uuid)$sql$;
    item record;
begin
    for item in
        select t.name, pg_get_userbyid(c.relowner) as owner, t.condition
          from (values ('organizations', outside || ' or id = ' || inside),
                       ('users',         outside || ' or organization_id = ' || inside),
                       ('sessions',      outside || ' or organization_id = ' || inside),
                       ('api_keys',      outside || ' or organization_id = ' || inside),
                       ('billing',       outside || ' or organization_id = ' || inside),
                       ('magic_links',   outside)) as t (name, condition)
          join pg_class c on c.oid = to_regclass(t.name)
    loop
        execute format('create policy %I on %I to %I using (%s)',
                       item.name || '_platform', item.name, item.owner, item.condition);
        execute format('alter table %I enable row level security, force row level security', item.name);
    end loop;
end
$$;
