-- What the organization has used. An event is counted once, whatever the number of times it is sent: its key decides.
--
--   api_calls, custom  counters: the quantities of a month are added up
--   storage, seats     levels: the last quantity holds
--
-- Events are written by record_usage, which keeps the totals. Months are those of UTC.

create table usage_metrics (
    idempotency_key text        not null,
    metric          text        not null,
    -- Which custom metric; empty for the others.
    name            text        not null default '',
    quantity        bigint      not null,
    attributes      jsonb       not null default '{}',
    occurred_at     timestamptz not null,
    recorded_at     timestamptz not null default now(),

    constraint usage_metrics_pkey primary key (idempotency_key, occurred_at),

    constraint usage_metrics_idempotency_key_check check (char_length(idempotency_key) between 1 and 255),
    constraint usage_metrics_metric_check      check (metric in ('api_calls', 'storage', 'seats', 'custom')),
    constraint usage_metrics_name_check        check ((metric = 'custom') = (name <> '') and name ~ '^([a-z][a-z0-9_.-]{0,99})?$'),
    constraint usage_metrics_quantity_check    check (quantity between 0 and 1000000000000000),
    constraint usage_metrics_attributes_check  check (jsonb_typeof(attributes) = 'object'),
    constraint usage_metrics_occurred_at_check check (occurred_at between '2000-01-01 00:00+00' and '2999-12-31 00:00+00')
) partition by range (occurred_at);

-- The events of a metric in a period.
create index usage_metrics_metric_idx on usage_metrics (metric, name, occurred_at);

-- Whatever has no month yet. flags_maintain (007) moves it into the months that are kept.
create table usage_metrics_default partition of usage_metrics default;

-- A key is unique over all months, which no index of a partitioned table can say.
create table usage_keys (
    idempotency_key text        not null,
    occurred_at     timestamptz not null,

    constraint usage_keys_pkey primary key (idempotency_key)
);

-- By this index old keys are found and dropped.
create index usage_keys_occurred_at_idx on usage_keys (occurred_at);

create table usage_totals (
    metric   text        not null,
    name     text        not null default '',
    month    date        not null,
    quantity bigint      not null,
    -- When the last event of the month occurred.
    last_at  timestamptz not null,

    constraint usage_totals_pkey primary key (metric, name, month),

    constraint usage_totals_metric_check   check (metric in ('api_calls', 'storage', 'seats', 'custom')),
    constraint usage_totals_name_check     check ((metric = 'custom') = (name <> '')),
    constraint usage_totals_month_check    check (extract(day from month) = 1),
    constraint usage_totals_quantity_check check (quantity >= 0)
);

-- Records events, all or none: [{"key": …, "metric": …, "name": …, "quantity": …, "occurred_at": …, "attributes": {…}}, …].
-- name, occurred_at and attributes may be left out; other members are refused. A key that is known is passed over; with
-- another metric, name or quantity it is an error (unique_violation of usage_keys_pkey), because one of the two would not
-- be counted.
--
-- Locks the totals of the months that it adds to, to the end of the transaction; in an order that all calls keep.
create function record_usage(events jsonb, out recorded bigint, out repeated bigint) returns record
    language plpgsql
    -- A time without a zone is one of UTC, and not of the session's zone: it decides about the month.
    set timezone = 'UTC'
as $$
#variable_conflict use_column
declare
    clash   text;
    unknown text;
begin
    unknown := jsonb_path_query_first(events, '$[*].keyvalue().key ? (@ != "key" && @ != "metric" && @ != "name"
        && @ != "quantity" && @ != "occurred_at" && @ != "attributes")', silent => true) #>> '{}';
    if unknown is not null then
        raise exception 'a usage event has no member %', to_json(unknown)
            using errcode = 'invalid_parameter_value',
                  hint = 'It has key, metric, name, quantity, occurred_at and attributes.';
    end if;
    with event as (
        select e.key, e.metric, coalesce(e.name, '') as name, e.quantity, coalesce(e.attributes, '{}') as attributes,
               coalesce(e.occurred_at, now()) as occurred_at
          from jsonb_to_recordset(events)
               as e (key text, metric text, name text, quantity bigint, attributes jsonb, occurred_at timestamptz)
    ), fresh as (
        insert into usage_keys (idempotency_key, occurred_at)
        select distinct on (e.key) e.key, e.occurred_at from event e order by e.key, e.occurred_at
        on conflict (idempotency_key) do nothing
        returning idempotency_key, occurred_at
    ), stored as (
        insert into usage_metrics (idempotency_key, metric, name, quantity, attributes, occurred_at)
        select distinct on (e.key) e.key, e.metric, e.name, e.quantity, e.attributes, e.occurred_at
          from event e join fresh f on f.idempotency_key = e.key and f.occurred_at = e.occurred_at
         order by e.key
        returning metric, name, quantity, occurred_at
    ), added as (
        insert into usage_totals as t (metric, name, month, quantity, last_at)
        select s.metric, s.name, date_trunc('month', s.occurred_at at time zone 'UTC')::date,
               case when s.metric in ('storage', 'seats') then (array_agg(s.quantity order by s.occurred_at desc, s.quantity desc))[1]
                    else sum(s.quantity)::bigint end,
               max(s.occurred_at)
          from stored s group by 1, 2, 3 order by 1, 2, 3
        on conflict (metric, name, month) do update
           set quantity = case when t.metric not in ('storage', 'seats') then t.quantity + excluded.quantity
                               when excluded.last_at >= t.last_at then excluded.quantity
                               else t.quantity end,
               last_at = greatest(t.last_at, excluded.last_at)
    )
    select (select count(*) from stored), (select count(*) from event) - (select count(*) from stored)
      into recorded, repeated;

    if repeated > 0 then
        -- A statement of its own: it sees what another transaction has recorded meanwhile.
        select e.key into clash
          from jsonb_to_recordset(events) as e (key text, metric text, name text, quantity bigint)
          join usage_keys k on k.idempotency_key = e.key
          join usage_metrics u on u.idempotency_key = k.idempotency_key and u.occurred_at = k.occurred_at
         where (u.metric, u.name, u.quantity) is distinct from (e.metric, coalesce(e.name, ''), e.quantity)
         limit 1;
        if clash is not null then
            raise exception 'a usage event of this key is recorded with another content'
                using errcode = 'unique_violation', detail = clash, constraint = 'usage_keys_pkey', table = 'usage_keys';
        end if;
    end if;
end
$$;

-- What was used: of a counter in this month of UTC, of a level the last that is known. A level of a later month, as from
-- a client with a wrong clock, counts from that month on.
create function usage_of(metric text, name text default '') returns bigint
    language sql stable
    begin atomic
        select coalesce((select t.quantity from usage_totals t
                          where t.metric = usage_of.metric and t.name = usage_of.name
                            and t.month <= date_trunc('month', now() at time zone 'UTC')::date
                            and (t.metric in ('storage', 'seats')
                                 or t.month = date_trunc('month', now() at time zone 'UTC')::date)
                          order by t.month desc limit 1), 0);
    end;

comment on table usage_metrics is 'What the organization has used, event by event; written by record_usage.';
comment on table usage_keys is 'The keys of usage events: each is counted once.';
comment on table usage_totals is 'What the organization has used, added up by month; kept by record_usage.';
