-- Who changed what. Rows are only added: update, delete and truncate are refused for everybody, the owner of the table
-- included; only who may alter the table can switch that off. Changes of environments, features and rules are written here
-- by the database itself, in the same transaction; the application adds its own events.

create table flag_audit_events (
    id            uuid        not null default gen_random_uuid(),
    actor         text        not null,
    action        text        not null,
    resource_kind text        not null,
    resource_id   text        not null,
    metadata      jsonb       not null default '{}',
    occurred_at   timestamptz not null default now(),

    constraint flag_audit_events_pkey primary key (id),

    constraint flag_audit_events_actor_check         check (char_length(actor) between 1 and 320),
    constraint flag_audit_events_action_check        check (action ~ '^[a-z][a-z0-9_]*([.][a-z][a-z0-9_]*)+$' and char_length(action) <= 200),
    constraint flag_audit_events_resource_kind_check check (resource_kind ~ '^[a-z][a-z0-9_]{0,62}$'),
    constraint flag_audit_events_resource_id_check   check (char_length(resource_id) between 1 and 255),
    constraint flag_audit_events_metadata_check      check (jsonb_typeof(metadata) = 'object')
);

-- What happened last, and what happened to one thing.
create index flag_audit_events_occurred_at_idx on flag_audit_events (occurred_at desc, id);
create index flag_audit_events_resource_idx on flag_audit_events (resource_kind, resource_id, occurred_at desc);

create trigger flag_audit_events_refuse_change
    before update or delete or truncate on flag_audit_events
    for each statement execute function flags_refuse_change();

-- Also where session_replication_role is replica.
alter table flag_audit_events enable always trigger flag_audit_events_refuse_change;

-- Writes down a change of a row. The user is the one that cgk has entered the tenant for; without one it is the login. The schema is
-- that of the table: a temporary table of the session's own would otherwise be written to where the session puts it first.
create function flags_record_change() returns trigger
    language plpgsql
as $$
declare
    before constant jsonb := case when tg_op <> 'INSERT' then to_jsonb(old) end;
    after  constant jsonb := case when tg_op <> 'DELETE' then to_jsonb(new) end;
begin
    if before - 'updated_at' is not distinct from after - 'updated_at' then
        return null;
    end if;
    execute format('insert into %I.flag_audit_events (actor, action, resource_kind, resource_id, metadata)
                    values ($1, $2, $3, $4, $5)', tg_table_schema)
      using coalesce('user:' || nullif(current_setting('app.current_user_id', true), ''), 'login:' || session_user),
            tg_argv[0] || case tg_op when 'INSERT' then '.created' when 'UPDATE' then '.changed' else '.deleted' end,
            tg_argv[0], coalesce(after, before) ->> 'id',
            case tg_op when 'INSERT' then jsonb_build_object('after', after)
                       when 'DELETE' then jsonb_build_object('before', before)
                       else jsonb_build_object('before', before, 'after', after) end;
    return null;
end
$$;

-- A table that was emptied at once has no rows to write down.
create function flags_record_truncate() returns trigger
    language plpgsql
as $$
begin
    execute format('insert into %I.flag_audit_events (actor, action, resource_kind, resource_id)
                    values ($1, $2, $3, ''*'')', tg_table_schema)
      using coalesce('user:' || nullif(current_setting('app.current_user_id', true), ''), 'login:' || session_user),
            tg_argv[0] || '.truncated', tg_argv[0];
    return null;
end
$$;

create trigger environments_record_change after insert or update or delete on environments
    for each row execute function flags_record_change('environment');
create trigger environments_record_truncate after truncate on environments
    for each statement execute function flags_record_truncate('environment');
create trigger features_record_change after insert or update or delete on features
    for each row execute function flags_record_change('feature');
create trigger features_record_truncate after truncate on features
    for each statement execute function flags_record_truncate('feature');
create trigger feature_rules_record_change after insert or update or delete on feature_rules
    for each row execute function flags_record_change('feature_rule');
create trigger feature_rules_record_truncate after truncate on feature_rules
    for each statement execute function flags_record_truncate('feature_rule');

comment on table flag_audit_events is 'Who changed what. Rows are only added.';
