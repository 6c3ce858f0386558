-- Automations: alerts on a threshold of a dataset, and reports of a dashboard on a schedule; and their runs.

-- {"type": "email", "address": "ada@example.com"}, {"type": "webhook", "url": "https://example.com/hook"}
create function analytics_is_channel(value jsonb) returns boolean
    language sql immutable parallel safe
    return case when jsonb_typeof(value) <> 'object' then false
                else coalesce(case value -> 'type'
                    when '"email"'   then analytics_has_keys(value, '{type,address}')
                                          and jsonb_typeof(value -> 'address') = 'string'
                                          and char_length(value ->> 'address') <= 320
                                          and value ->> 'address' ~ '^[!-?A-~]+@[!-?A-~]+$'
                    when '"webhook"' then analytics_has_keys(value, '{type,url}')
                                          and jsonb_typeof(value -> 'url') = 'string'
                                          and char_length(value ->> 'url') <= 2000
                                          and value ->> 'url' ~ '^https://[!-~]+$'
                    else false end, false) end;

create function analytics_are_channels(value jsonb) returns boolean
    language sql immutable parallel safe
    return case when analytics_is_array(value, 1, 20)
                then not exists (select from jsonb_array_elements(value) i (item) where not analytics_is_channel(i.item))
                else false end;

-- {"every": "week", "weekday": 1, "hour": 8, "minute": 0}: Monday is 1. A month without the day has the report on its last one.
create function analytics_is_schedule(value jsonb) returns boolean
    language sql immutable parallel safe
    return case when jsonb_typeof(value) <> 'object' then false
                else coalesce(analytics_is_integer(value -> 'minute', 0, 59) and case value -> 'every'
                    when '"hour"'  then analytics_has_keys(value, '{every,minute}')
                    when '"day"'   then analytics_has_keys(value, '{every,hour,minute}')
                                        and analytics_is_integer(value -> 'hour', 0, 23)
                    when '"week"'  then analytics_has_keys(value, '{every,weekday,hour,minute}')
                                        and analytics_is_integer(value -> 'weekday', 1, 7)
                                        and analytics_is_integer(value -> 'hour', 0, 23)
                    when '"month"' then analytics_has_keys(value, '{every,day,hour,minute}')
                                        and analytics_is_integer(value -> 'day', 1, 31)
                                        and analytics_is_integer(value -> 'hour', 0, 23)
                    else false end, false) end;

-- What an automation does, by its type: threshold_alert or scheduled_report.
create function analytics_is_automation(value jsonb) returns boolean
    language sql immutable parallel safe
    return case when jsonb_typeof(value) <> 'object' then false
                else coalesce(analytics_are_channels(value -> 'channels') and case value -> 'type'
                    when '"threshold_alert"'
                    then analytics_has_keys(value, '{type,column,aggregate,comparison,threshold,window_minutes,cooldown_minutes,channels}')
                         and analytics_is_column_name(value -> 'column')
                         and analytics_is_aggregate(value -> 'aggregate')
                         and analytics_is_one_of(value -> 'comparison', '{above,at_least,below,at_most}')
                         and analytics_is_number(value -> 'threshold')
                         and analytics_is_integer(value -> 'window_minutes', 1, 525600)
                         and analytics_is_integer(value -> 'cooldown_minutes', 0, 525600)
                    when '"scheduled_report"'
                    then analytics_has_keys(value, '{type,schedule,time_zone,format,channels}')
                         and analytics_is_schedule(value -> 'schedule')
                         and jsonb_typeof(value -> 'time_zone') = 'string'
                         and value ->> 'time_zone' ~ '^[A-Za-z][A-Za-z0-9_+/-]{0,63}$'
                         and analytics_is_one_of(value -> 'format', '{pdf,csv,xlsx}')
                    else false end, false) end;

create table automations (
    id           uuid        not null default gen_random_uuid(),
    org_id       uuid        not null default nullif(current_setting('app.current_organization_id', true), '')::uuid,
    dataset_id   uuid,
    dashboard_id uuid,
    name         text        not null,
    definition   jsonb       not null,
    enabled      boolean     not null default true,
    next_run_at  timestamptz not null default now(),
    created_by   uuid        not null,
    created_at   timestamptz not null default now(),
    updated_at   timestamptz not null default now(),

    constraint automations_pkey     primary key (id),
    constraint automations_name_key unique (name),
    constraint automations_dataset_id_fkey
        foreign key (dataset_id) references datasets (id) on delete cascade,
    constraint automations_dashboard_id_fkey
        foreign key (dashboard_id) references dashboards (id) on delete cascade,

    constraint automations_name_check       check (char_length(name) between 1 and 200 and name = btrim(name)),
    constraint automations_definition_check check (analytics_is_automation(definition)),
    -- An alert is about a dataset, a report about a dashboard.
    constraint automations_dataset_id_check
        check ((dataset_id is not null) = (definition ->> 'type' = 'threshold_alert')),
    constraint automations_dashboard_id_check
        check ((dashboard_id is not null) = (definition ->> 'type' = 'scheduled_report'))
);

create index automations_dataset_id_idx on automations (dataset_id);
create index automations_dashboard_id_idx on automations (dashboard_id);

-- What is due.
create index automations_next_run_at_idx on automations (next_run_at) where enabled;

create trigger automations_check_org_id
    before insert or update on automations
    for each row execute function analytics_check_org_id();

create trigger automations_touch_updated_at
    before update on automations
    for each row execute function analytics_touch_updated_at();

create table automation_runs (
    id            uuid        not null default gen_random_uuid(),
    org_id        uuid        not null default nullif(current_setting('app.current_organization_id', true), '')::uuid,
    automation_id uuid        not null,
    status        text        not null default 'running',
    started_at    timestamptz not null default now(),
    finished_at   timestamptz,
    measured      double precision,
    is_triggered  boolean     not null default false,
    notified      integer     not null default 0,
    error         text,
    -- Null: the schedule.
    created_by    uuid,
    created_at    timestamptz not null default now(),
    updated_at    timestamptz not null default now(),

    constraint automation_runs_pkey primary key (id),
    constraint automation_runs_automation_id_fkey
        foreign key (automation_id) references automations (id) on delete cascade,

    constraint automation_runs_status_check      check (status in ('running', 'succeeded', 'failed')),
    constraint automation_runs_finished_at_check check ((status = 'running') = (finished_at is null)),
    constraint automation_runs_order_check       check (finished_at >= started_at),
    constraint automation_runs_notified_check    check (notified >= 0),
    constraint automation_runs_error_check
        check ((status = 'failed') = (error is not null) and char_length(error) between 1 and 2000)
);

-- The latest runs of an automation; and one run of it at a time.
create index automation_runs_automation_id_idx on automation_runs (automation_id, started_at desc);
create unique index automation_runs_running_key on automation_runs (automation_id) where status = 'running';

create trigger automation_runs_check_org_id
    before insert or update on automation_runs
    for each row execute function analytics_check_org_id();

create trigger automation_runs_touch_updated_at
    before update on automation_runs
    for each row execute function analytics_touch_updated_at();

-- Gives up to automations_max automations that are due to the caller and moves each on, so that no other worker gets it in the
-- meantime: the caller sets next_run_at when it knows the next time. Those that another worker is claiming are passed over.
--
-- If the last run of a claimed automation is still `running`, its worker was lost. That run has failed, so that the next
-- one can be recorded. A worker that needs longer than retry_in therefore moves next_run_at on while it works.
create function claim_automations(automations_max integer default 10, retry_in interval default '5 minutes')
    returns setof automations
    language sql
begin atomic
    with due as materialized (
        select a.id from automations a
         where a.enabled and a.next_run_at <= now()
         order by a.next_run_at limit automations_max
           for update skip locked),
    lost as materialized (
        select r.id from automation_runs r join due on due.id = r.automation_id
         where r.status = 'running'
           for update of r skip locked),
    ended as (
        update automation_runs r
           set status = 'failed', finished_at = greatest(now(), r.started_at), error = 'the worker did not finish the run'
          from lost where r.id = lost.id)
    update automations a set next_run_at = now() + retry_in
      from due where a.id = due.id
    returning a.*;
end;

comment on column automations.definition     is 'cgk::analytics::Automation';
comment on column automation_runs.measured   is 'What the aggregate of an alert was.';
comment on column automation_runs.notified   is 'To how many channels it was sent.';
