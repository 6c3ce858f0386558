-- Rows for a first look. `cgk tenant:seed acme` inserts them into the tenant acme, once.

insert into datasets (name, columns, created_by)
values ('Visits',
        '[{"name": "seen_at", "kind": {"type": "timestamp"}, "nullable": false},
          {"name": "seconds", "kind": {"type": "number", "scale": 0}, "nullable": false, "description": "on the page"}]',
        gen_random_uuid());

insert into dashboards (name, created_by) select 'Traffic', created_by from datasets where name = 'Visits';

insert into widgets (dashboard_id, dataset_id, title, config, filters, created_by)
select b.id, s.id, 'Time on the page',
       '{"type": "chart", "shape": "line", "x": "seen_at", "stacked": false,
         "series": [{"column": "seconds", "aggregate": "sum", "label": "Seconds"}]}',
       '[{"type": "between", "column": "seconds", "low": 0, "high": 1000}]',
       b.created_by
  from dashboards b, datasets s
 where b.name = 'Traffic' and s.name = 'Visits';
