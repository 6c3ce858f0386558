-- What the template analytics promises, checked inside a tenant. Fails with an error; nothing of it stays.
--
--     psql "$DATABASE_URL" -v ON_ERROR_STOP=1 -f tests/cgk/analytics.sql
--
-- The tenant acme must exist: cgk tenant:create acme

begin;
select public.cgk_enter('acme');

do $$
declare
    someone   constant uuid := gen_random_uuid();
    dataset   uuid;
    dashboard uuid;
begin
    insert into datasets (name, columns, created_by)
    values ('Orders', '[{"name": "amount", "kind": {"type": "number"}, "nullable": true}]', someone) returning id into dataset;
    assert (select org_id::text = current_setting('app.current_organization_id') from datasets where id = dataset);
    begin
        update datasets set org_id = gen_random_uuid() where id = dataset;
        raise exception 'a row was given to another organization';
    exception when check_violation then null;
    end;
    begin
        update datasets set columns = '[{"name": "amount", "kind": {"type": "money"}, "nullable": true}]'
         where id = dataset;
        raise exception 'a type of columns was accepted that there is not';
    exception when check_violation then null;
    end;

    insert into dashboards (name, created_by) values ('Sales', someone) returning id into dashboard;
    insert into widgets (dashboard_id, dataset_id, title, config, created_by)
    values (dashboard, dataset, 'Revenue', '{"type": "number", "column": "amount", "aggregate": "sum"}', someone);
    begin
        insert into widgets (dashboard_id, title, config, created_by)
        values (dashboard, 'Revenue', '{"type": "number", "column": "amount", "aggregate": "sum"}', someone);
        raise exception 'a widget without a dataset was accepted';
    exception when check_violation then null;
    end;

    insert into automations (dashboard_id, name, definition, created_by)
    values (dashboard, 'Every Monday',
            '{"type": "scheduled_report", "schedule": {"every": "week", "weekday": 1, "hour": 8, "minute": 0},
              "time_zone": "Europe/Berlin", "format": "pdf", "channels": [{"type": "email", "address": "ada@example.com"}]}',
            someone);
    insert into automation_runs (automation_id) select id from claim_automations();
    assert (select count(*) from automation_runs) = 1 and not exists (select from claim_automations());

    -- All of it goes with what it belongs to.
    delete from dashboards where id = dashboard;
    assert not exists (select from widgets where dashboard_id = dashboard) and not exists (select from automation_runs)
       and not exists (select from automations where dashboard_id = dashboard) and exists (select from datasets where id = dataset);
end
$$;

select public.cgk_check('acme');
rollback;
