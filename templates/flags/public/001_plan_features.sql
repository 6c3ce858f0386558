-- What the plans of the platform (019_plans) include of the features of their customers, and how much may be used under each.
-- cgk::flags reads these tables inside a tenant; the platform's own code writes them.
--
-- A plan's features are named by their key, which every organization's schema has a row of its own for. Whoever sees the
-- page with the prices sees what is in here, and so every tenant may read all of it.

create table plan_features (
    plan_id     uuid        not null,
    feature_key text        not null,
    created_at  timestamptz not null default now(),

    constraint plan_features_pkey         primary key (plan_id, feature_key),
    constraint plan_features_plan_id_fkey foreign key (plan_id) references plans (id) on delete cascade,

    constraint plan_features_feature_key_check check (feature_key ~ '^[a-z][a-z0-9_.-]{0,99}$')
);

-- Which plans include a feature.
create index plan_features_feature_key_idx on plan_features (feature_key);

create table usage_limits (
    plan_id      uuid        not null,
    metric       text        not null,
    -- Which custom metric; empty for the others.
    name         text        not null default '',
    -- A month's worth of a counter (api_calls, custom), or the highest level (storage, seats). Null: unlimited.
    quantity_max bigint,
    created_at   timestamptz not null default now(),
    updated_at   timestamptz not null default now(),

    constraint usage_limits_pkey         primary key (plan_id, metric, name),
    constraint usage_limits_plan_id_fkey foreign key (plan_id) references plans (id) on delete cascade,

    constraint usage_limits_metric_check       check (metric in ('api_calls', 'storage', 'seats', 'custom')),
    constraint usage_limits_name_check         check ((metric = 'custom') = (name <> '') and name ~ '^([a-z][a-z0-9_.-]{0,99})?$'),
    constraint usage_limits_quantity_max_check check (quantity_max between 0 and 1000000000000000)
);

-- Whether any plan limits a metric.
create index usage_limits_metric_idx on usage_limits (metric, name);

create trigger usage_limits_set_updated_at
    before update on usage_limits
    for each row execute function set_updated_at();

select cgk_protect_shared_table('plan_features', null);
select cgk_protect_shared_table('usage_limits', null);

-- cgk:accept grant-to-public what plans include is no secret, and there is no organization's data in it
grant select on plan_features to public;
-- cgk:accept grant-to-public what plans include is no secret, and there is no organization's data in it
grant select on usage_limits to public;

create policy plan_features_tenant on plan_features for select using (true);
create policy usage_limits_tenant on usage_limits for select using (true);

-- Tells the processes that evaluate features what has changed (010_change_notices): what plans include, for all tenants; the
-- subscription of an organization, for that one. Not every renewal of a subscription is such a change.
create function flags_plans_changed() returns trigger
    language plpgsql
    set search_path = pg_catalog, pg_temp
as $$
begin
    perform public.cgk_notify_changes(array['flags:plans']);
    return null;
end
$$;

create function flags_subscriptions_changed() returns trigger
    language plpgsql
    set search_path = pg_catalog, pg_temp
as $$
declare
    changed text[];
begin
    if tg_op = 'INSERT' then
        select array_agg('subscription:' || n.organization_id) into changed from new_rows n;
    elsif tg_op = 'DELETE' then
        select array_agg('subscription:' || o.organization_id) into changed from old_rows o;
    else
        select array_agg('subscription:' || d.organization_id) into changed
          from ((select o.organization_id, o.plan_id, o.status = 'canceled' from old_rows o
                 except select n.organization_id, n.plan_id, n.status = 'canceled' from new_rows n)
                union all
                (select n.organization_id, n.plan_id, n.status = 'canceled' from new_rows n
                 except select o.organization_id, o.plan_id, o.status = 'canceled' from old_rows o)) d;
    end if;
    perform public.cgk_notify_changes(changed);
    return null;
end
$$;

create trigger plan_features_notify_change
    after insert or update or delete or truncate on plan_features
    for each statement execute function flags_plans_changed();
create trigger subscriptions_notify_insert after insert on subscriptions
    referencing new table as new_rows for each statement execute function flags_subscriptions_changed();
create trigger subscriptions_notify_update after update on subscriptions
    referencing old table as old_rows new table as new_rows
    for each statement execute function flags_subscriptions_changed();
create trigger subscriptions_notify_delete after delete on subscriptions
    referencing old table as old_rows for each statement execute function flags_subscriptions_changed();
create trigger subscriptions_notify_truncate after truncate on subscriptions
    for each statement execute function flags_plans_changed();

-- Also where session_replication_role is replica, as in a bulk load.
alter table plan_features enable always trigger plan_features_notify_change;
alter table subscriptions enable always trigger subscriptions_notify_insert,
    enable always trigger subscriptions_notify_update, enable always trigger subscriptions_notify_delete,
    enable always trigger subscriptions_notify_truncate;

comment on table plan_features is 'Which features of kind plan a plan includes, by key.';
comment on table usage_limits  is 'How much may be used under a plan. A metric without a row is not limited.';
