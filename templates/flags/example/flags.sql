-- A feature, its rules, and what was used, from the beginning to the end. Nothing of it stays.
--
--     psql "$DATABASE_URL" -P pager=off -f examples/cgk/flags.sql
--
-- The tenant acme must exist: cgk tenant:create acme

begin;
select public.cgk_enter('acme');

insert into features (key, name) values ('new_checkout', 'New checkout');
insert into features (key, name, kind, percentage, enabled) values ('fast_search', 'Fast search', 'percentage', 12.5, true);

-- In prod for the staff, and for a tenth of all others.
insert into feature_rules (feature_id, environment_id, position, enabled, percentage, conditions)
select f.id, e.id, r.position, true, r.percentage, r.conditions::jsonb
  from features f, environments e,
       (values (1, null, '[{"attribute": "email", "operator": "ends_with", "values": ["@example.com"]}]'),
               (2, 10, '[]')) as r (position, percentage, conditions)
 where f.key = 'new_checkout' and e.project = 'default' and e.name = 'prod';

-- The rules of one environment, in the order in which they are tried.
select f.key, r.position, r.enabled, r.percentage, r.conditions
  from feature_rules r
  join features f on f.id = r.feature_id
  join environments e on e.id = r.environment_id
 where e.project = 'default' and e.name = 'prod'
 order by f.key, r.position;

-- Whether somebody is in the rollout of 12.5 percent.
select flag_bucket('fast_search', 'user-42') < 12.5 * 1000 as is_in;

-- What was used; the same event twice counts once.
select * from record_usage('[{"key": "request-1", "metric": "api_calls", "quantity": 1},
                             {"key": "request-1", "metric": "api_calls", "quantity": 1}]');
select usage_of('api_calls');

-- Who changed what.
select actor, action, metadata -> 'after' ->> 'key' as key from flag_audit_events order by occurred_at;

select public.cgk_check('acme');
rollback;
