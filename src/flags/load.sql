-- The features of a tenant and their rules in one environment, in one row each; without features one row of nulls, and without
-- the environment none. Run inside the tenant. Every row says whether changes of what was read here are notified.
select f.key, f.kind, f.enabled, (f.percentage * 1000)::pg_catalog.int4, f.on_value::pg_catalog.text, f.off_value::pg_catalog.text,
       p.feature_key is not null,
       (select pg_catalog.json_agg(pg_catalog.json_build_object('conditions', r.conditions, 'enabled', r.enabled,
                                                                'buckets', (r.percentage * 1000)::pg_catalog.int4)
                                   order by r.position)::pg_catalog.text
          from feature_rules r where r.environment_id = e.id and r.feature_id = f.id),
       pg_catalog.current_setting('app.current_organization_id'),
       (select pg_catalog.count(*) = 8
          from (values ('environments', 'environments_notify_change'), ('features', 'features_notify_change'),
                       ('feature_rules', 'feature_rules_notify_change'), ('public.plan_features', 'plan_features_notify_change'),
                       ('public.subscriptions', 'subscriptions_notify_insert'),
                       ('public.subscriptions', 'subscriptions_notify_update'),
                       ('public.subscriptions', 'subscriptions_notify_delete'),
                       ('public.subscriptions', 'subscriptions_notify_truncate')) as w (relation, trigger)
          join pg_catalog.pg_trigger t on t.tgrelid = w.relation::pg_catalog.regclass and t.tgname = w.trigger
           and t.tgenabled in ('O', 'A'))
  from environments e
  left join features f on true
  left join public.plan_features p
         on p.feature_key = f.key
        and p.plan_id = (select s.plan_id from public.subscriptions s
                          where s.organization_id
                                = pg_catalog.current_setting('app.current_organization_id')::pg_catalog.uuid
                            and s.status <> 'canceled')
 where e.project = $1 and e.name = $2
