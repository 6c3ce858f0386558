-- What the template flags promises, checked inside a tenant. Fails with an error; nothing of it stays.
--
--     psql "$DATABASE_URL" -v ON_ERROR_STOP=1 -f tests/cgk/flags.sql
--
-- The tenant acme must exist: cgk tenant:create acme

begin;
select public.cgk_enter('acme');

do $$
declare
    feature uuid;
    counted record;
    before  bigint := usage_of('custom', 'template_test');
begin
    assert (select count(*) from create_environments('template_test')) = 3;
    insert into features (key, name) values ('template_test', 'Test') returning id into feature;
    insert into feature_rules (feature_id, environment_id, position, enabled, percentage)
    select feature, e.id, 1, true, 50 from environments e where e.project = 'template_test';

    -- A key is unique and kept.
    begin
        insert into features (key, name) values ('template_test', 'Again');
        raise exception 'a second feature of the key was accepted';
    exception when unique_violation then null;
    end;
    begin
        update features set key = 'template_other' where id = feature;
        raise exception 'a key was changed';
    exception when check_violation then null;
    end;
    begin
        update feature_rules set conditions = '[{"attribute": "a", "operator": "matches", "values": ["x"]}]'
         where feature_id = feature;
        raise exception 'an operator that does not exist was accepted';
    exception when check_violation then null;
    end;

    -- The same place in a rollout in every language.
    assert flag_bucket('new_checkout', 'user-42') = 70192;

    -- An event counts once, and not with another content.
    counted := record_usage('[{"key": "template-test", "metric": "custom", "name": "template_test", "quantity": 5}]');
    assert counted.recorded = 1 and counted.repeated = 0;
    counted := record_usage('[{"key": "template-test", "metric": "custom", "name": "template_test", "quantity": 5}]');
    assert counted.recorded = 0 and counted.repeated = 1;
    assert usage_of('custom', 'template_test') = before + 5;
    begin
        perform record_usage('[{"key": "template-test", "metric": "custom", "name": "template_test", "quantity": 6}]');
        raise exception 'a key was counted twice';
    exception when unique_violation then null;
    end;

    -- Rows of the audit log are only added.
    assert exists (select from flag_audit_events where action = 'feature.created' and resource_id = feature::text);
    begin
        delete from flag_audit_events;
        raise exception 'a row of the audit log was deleted';
    exception when insufficient_privilege then null;
    end;

    -- Rules go with their feature.
    delete from features where id = feature;
    assert not exists (select from feature_rules r where r.feature_id = feature);
end
$$;

select public.cgk_check('acme');
rollback;
