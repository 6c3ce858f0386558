-- The months of the audit log, made ahead by whoever runs often: `cgk migrate`, and each relay with the login of a service. Unlike
-- cgk_make_audit_partitions this moves no line, so it holds no lock for long.
--
-- Reads no row and locks no table.

-- Makes the partitions of the month of this moment and of so many that follow. A month that has lines in the default partition is left
-- to cgk_make_audit_partitions, and so are all of them while that partition has more than 80 MB, because the server reads it when
-- a month is added. Returns how many partitions it made. For the owner of the log.
--
-- Where a month is missing, locks the log against other changes of its partitions (SHARE UPDATE EXCLUSIVE) and the default partition
-- against everybody. Waits a tenth of a second for either; then it makes none, and the next call tries again.
create function cgk_add_audit_months(months_ahead integer, moment timestamptz) returns integer
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

-- The same for this month and the next three, for every login that writes the log, as the owner. Inside a tenant it makes none.
create function cgk_keep_audit_months() returns integer
    language plpgsql security definer
    set search_path = pg_catalog, pg_temp
as $$
begin
    -- current_user is here the owner; the role that was set is in the setting `role`.
    if current_setting('role') <> 'none' or coalesce(current_setting('app.current_organization_id', true), '') <> ''
       or not has_table_privilege(session_user, 'public.audit_events', 'insert') then
        return 0;
    end if;
    return public.cgk_add_audit_months(3, now());
end
$$;

revoke all on function cgk_add_audit_months(integer, timestamptz) from public;

comment on function cgk_add_audit_months(integer, timestamptz) is 'Makes months of the audit log ahead, without moving lines.';
comment on function cgk_keep_audit_months() is 'Makes this month of the audit log and the next three. Called by cgk migrate and by relays.';
