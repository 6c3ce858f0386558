-- Makes months of the audit log without an error for whoever writes a line at that moment. An INSERT chooses the partition before it
-- waits for that partition's lock. If it chose the default partition and the month of its line is attached meanwhile, the server refuses
-- the line (23514). So the log itself is locked before the month of this moment is added: then an INSERT waits before it chooses.
-- A later month needs no such lock, because its lines do not exist yet.
--
-- The removal of months is in the log: which months, until when, and who.
--
-- Reads no row and locks no table.

-- As in 026_audit_months.sql, with this lock.
--
-- Where a month is missing, locks the log against other changes of its partitions (SHARE UPDATE EXCLUSIVE; for the month of the moment
-- against everybody, ACCESS EXCLUSIVE) and the default partition against everybody. Waits a tenth of a second for each; then it makes
-- none, and the next call tries again.
create or replace function cgk_add_audit_months(months_ahead integer, moment timestamptz) returns integer
    language plpgsql
    set search_path = pg_catalog, pg_temp
    set lock_timeout = '100ms'
as $$
declare
    first constant timestamp := date_trunc('month', moment at time zone 'UTC');
    month timestamp;
    part  text;
    made  integer := 0;
begin
    for month in select generate_series(first, first + make_interval(months => least(greatest(months_ahead, 0), 12)),
                                        interval '1 month') loop
        part := to_char(month, '"audit_events_"YYYY_MM');
        continue when to_regclass(format('public.%I', part)) is not null;
        if month = first then
            lock table public.audit_events in access exclusive mode;
        end if;
        lock table public.audit_events in share update exclusive mode;
        lock table public.audit_events_default in access exclusive mode;
        -- Another session may have made it while this one waited.
        continue when to_regclass(format('public.%I', part)) is not null;
        exit when pg_relation_size('public.audit_events_default') > 80 * 1024 * 1024;
        -- Through the log, because row level security shows the partition itself to nobody.
        continue when exists (select from public.audit_events a
                               where a.tableoid = 'public.audit_events_default'::regclass
                                 and a.occurred_at >= month at time zone 'UTC'
                                 and a.occurred_at < (month + interval '1 month') at time zone 'UTC');
        execute format('create table public.%I (like public.audit_events including defaults including constraints)', part);
        execute format('alter table public.audit_events attach partition public.%I for values from (%L) to (%L)', part,
                       month at time zone 'UTC', (month + interval '1 month') at time zone 'UTC');
        perform public.cgk_protect_audit_partition(format('public.%I', part)::regclass);
        made := made + 1;
    end loop;
    return made;
exception when lock_not_available or deadlock_detected then
    return 0;
end
$$;

-- The function of 014_audit_events.sql under another name; cgk_make_audit_partitions calls it.
alter function cgk_make_audit_partitions(integer) rename to cgk_move_audit_lines;

-- As in 014_audit_events.sql, with this lock.
--
-- If the partition of this month is missing or rows are moved, locks the log against everybody (ACCESS EXCLUSIVE) until the transaction
-- ends; otherwise against other changes of its partitions (SHARE UPDATE EXCLUSIVE), and the default partition against everybody.
create function cgk_make_audit_partitions(months_ahead integer default 3) returns integer
    language plpgsql
    set search_path = pg_catalog, pg_temp
as $$
begin
    if to_regclass(to_char(now() at time zone 'UTC', '"public.audit_events_"YYYY_MM')) is null then
        lock table public.audit_events in access exclusive mode;
    end if;
    return public.cgk_move_audit_lines(months_ahead);
end
$$;

revoke all on function cgk_make_audit_partitions(integer) from public;

-- As in 014_audit_events.sql, and writes a line and an event of what it removed, in the same transaction.
create or replace function cgk_drop_audit_partitions(ended_by timestamptz) returns integer
    language plpgsql
    set search_path = pg_catalog, pg_temp
as $$
declare
    part    record;
    dropped text[] := '{}';
    removed jsonb;
begin
    if ended_by is null or ended_by > now() then
        raise exception 'a month that has not ended is kept' using errcode = 'invalid_parameter_value';
    end if;
    for part in
        select c.oid::regclass as name, replace(right(c.relname::text, 7), '_', '-') as month
          from pg_inherits i join pg_class c on c.oid = i.inhrelid
         where i.inhparent = 'public.audit_events'::regclass and c.relname ~ '^audit_events_[0-9]{4}_[0-9]{2}$'
           and (to_date(right(c.relname::text, 7), 'YYYY_MM') + interval '1 month') at time zone 'UTC' <= ended_by
         order by c.relname
    loop
        execute format('drop table %s', part.name);
        dropped := dropped || part.month;
    end loop;
    if cardinality(dropped) > 0 then
        removed := jsonb_build_object('ended_by', ended_by, 'months', to_jsonb(dropped));
        insert into public.audit_events (actor_kind, actor_id, action, resource_kind, resource_id, after)
        values ('operator', session_user, 'cgk.audit.months_removed', 'audit_log', 'months', removed);
        insert into public.domain_events (type, subject, data, actor_kind, actor_id)
        values ('cgk.audit.months_removed', 'audit_log/months',
                jsonb_build_object('resource', jsonb_build_object('kind', 'audit_log', 'id', 'months'), 'after', removed),
                'operator', session_user);
    end if;
    return cardinality(dropped);
end
$$;
