-- A dataset, a dashboard with a widget, and an alert with a run. Nothing of it stays.
--
--     psql "$DATABASE_URL" -P pager=off -f examples/cgk/analytics.sql
--
-- The tenant acme must exist: cgk tenant:create acme

begin;
select public.cgk_enter('acme');

insert into datasets (name, columns, created_by)
values ('Orders',
        '[{"name": "paid_at", "kind": {"type": "timestamp"}, "nullable": false},
          {"name": "amount", "kind": {"type": "number", "scale": 2}, "nullable": false, "description": "in EUR"}]',
        gen_random_uuid());

insert into dashboards (name, created_by) values ('Sales', gen_random_uuid());

insert into widgets (dashboard_id, dataset_id, title, config, filters, created_by)
select b.id, s.id, 'Revenue',
       '{"type": "chart", "shape": "line", "x": "paid_at", "stacked": false,
         "series": [{"column": "amount", "aggregate": "sum", "label": "Revenue"}]}',
       '[{"type": "between", "column": "amount", "low": 0, "high": 1000}]',
       b.created_by
  from dashboards b, datasets s
 where b.name = 'Sales' and s.name = 'Orders';

insert into automations (dataset_id, name, definition, created_by)
select id, 'Revenue is low',
       '{"type": "threshold_alert", "column": "amount", "aggregate": "sum", "comparison": "below", "threshold": 100,
         "window_minutes": 60, "cooldown_minutes": 240, "channels": [{"type": "email", "address": "ada@example.com"}]}',
       created_by
  from datasets where name = 'Orders';

-- What a worker does: claim, commit, measure, record, and say when the next time is.
with due as (select * from claim_automations())
insert into automation_runs (automation_id) select id from due;
update automation_runs set status = 'succeeded', finished_at = now(), measured = 93.5, is_triggered = true, notified = 1;
update automations set next_run_at = now() + interval '1 hour';

select a.name, r.measured, r.is_triggered, r.notified from automation_runs r join automations a on a.id = r.automation_id;

select public.cgk_check('acme');
rollback;
