-- The months of usage_metrics and evaluation_logs: made ahead of time, and dropped when they are old. Only the owner of the
-- schema can do that: `cgk exec` or cgk::flags::maintain with the operator's login, once a day or once a month.
--
-- Without it nothing is lost: rows without a month are in the default partition, and stay there until it runs.

-- Makes the months of a table from this one on, and those of the rows in its default partition, which move there. A row that is
-- older than what is kept goes with the default partition. One that is of a later month than those that are made stays
-- there: whoever writes decides about its time, and a wrong clock must not make a partition for each month of a
-- thousand years. Returns the number of partitions that it made.
--
-- Where there is something to make, the table is locked against everybody (ACCESS EXCLUSIVE) to the end of the transaction.
create function flags_add_partitions(parent text, time_column text, kept_from timestamptz, months_ahead integer) returns integer
    language plpgsql
    -- Below, times become text and are read again. Other styles abbreviate the time zone, and an abbreviation can mean
    -- several zones.
    set datestyle = 'ISO'
as $$
declare
    rest   constant text := parent || '_default';
    later  constant text := parent || '_later';
    now_is constant timestamp := date_trunc('month', now() at time zone 'UTC');
    ends   constant timestamptz := (now_is + make_interval(months => months_ahead + 1)) at time zone 'UTC';
    months constant timestamp[] := array(select generate_series(now_is, now_is + make_interval(months => months_ahead),
                                                                interval '1 month'));
    filled boolean;
    month  timestamp;
    part   text;
    moved  text[] := '{}';
    made   integer := 0;
begin
    -- One at a time.
    execute format('lock table %I in share update exclusive mode', parent);
    execute format('select exists (select from %I where %I < %L)', rest, time_column, ends) into filled;
    if not filled and not exists (select from unnest(months) as m (month)
                                   where to_regclass(quote_ident(parent || to_char(m.month, '_YYYY_MM'))) is null) then
        return 0;
    end if;

    execute format('lock table %I in access exclusive mode', parent);
    -- Again: a transaction that was waited for may have written the first row of a month.
    execute format('select exists (select from %I where %I < %L)', rest, time_column, ends) into filled;
    if filled then
        for month in
            execute format('select distinct date_trunc(''month'', %1$I at time zone ''UTC'') from %2$I
                             where %1$I >= %3$L and %1$I < %4$L order by 1', time_column, rest, kept_from, ends)
        loop
            part := parent || to_char(month, '_YYYY_MM');
            execute format('create table %I (like %I including all)', part, parent);
            execute format('insert into %I select * from %I where %I >= %L and %I < %L', part, rest,
                           time_column, month at time zone 'UTC', time_column, (month + interval '1 month') at time zone 'UTC');
            moved := moved || part;
        end loop;
        execute format('create table %I as select * from %I where %I >= %L', later, rest, time_column, ends);
        execute format('drop table %I', rest);
        foreach part in array moved loop
            month := to_date(right(part, 7), 'YYYY_MM');
            execute format('alter table %I attach partition %I for values from (%L) to (%L)', parent, part,
                           month at time zone 'UTC', (month + interval '1 month') at time zone 'UTC');
            perform flags_protect_partition(parent, part);
            made := made + 1;
        end loop;
        execute format('create table %I partition of %I default', rest, parent);
        perform flags_protect_partition(parent, rest);
        execute format('insert into %I select * from %I', rest, later);
        execute format('drop table %I', later);
    end if;

    foreach month in array months loop
        part := parent || to_char(month, '_YYYY_MM');
        continue when to_regclass(quote_ident(part)) is not null;
        execute format('create table %I partition of %I for values from (%L) to (%L)', part, parent,
                       month at time zone 'UTC', (month + interval '1 month') at time zone 'UTC');
        perform flags_protect_partition(parent, part);
        made := made + 1;
    end loop;
    return made;
end
$$;

-- Gives a partition the trigger against TRUNCATE, where its table has one.
create function flags_protect_partition(parent text, part text) returns void
    language plpgsql
as $$
begin
    if exists (select from pg_trigger t
                where t.tgrelid = to_regclass(quote_ident(parent)) and t.tgname = parent || '_refuse_truncate') then
        execute format('create trigger %I before truncate on %I for each statement execute function flags_refuse_change()',
                       parent || '_refuse_truncate', part);
        execute format('alter table %I enable always trigger %I', part, parent || '_refuse_truncate');
    end if;
end
$$;

-- Drops the months of a table that ended before a time. Returns their number.
create function flags_drop_partitions(parent text, before timestamptz) returns integer
    language plpgsql
as $$
declare
    part    text;
    dropped integer := 0;
begin
    for part in
        select c.relname from pg_inherits i join pg_class c on c.oid = i.inhrelid
         where i.inhparent = to_regclass(quote_ident(parent))
           and c.relname ~ ('^' || parent || '_[0-9]{4}_[0-9]{2}$')
           and to_date(right(c.relname, 7), 'YYYY_MM') + interval '1 month' <= before at time zone 'UTC'
         order by 1
    loop
        execute format('drop table %I', part);
        dropped := dropped + 1;
    end loop;
    return dropped;
end
$$;

-- All of it: moves rows into their months, makes the months to come, and drops what is older than it is to be kept. An
-- event of a month that was dropped would be counted again if it was sent again: keep the months longer than senders try.
create function flags_maintain(months_ahead integer default 2, keep_usage interval default interval '25 months',
                               keep_evaluations interval default interval '3 months',
                               out added integer, out dropped integer) returns record
    language plpgsql
as $$
declare
    usage_from constant timestamptz := date_trunc('month', (now() - keep_usage) at time zone 'UTC') at time zone 'UTC';
    logs_from  constant timestamptz := date_trunc('month', (now() - keep_evaluations) at time zone 'UTC') at time zone 'UTC';
begin
    -- Without a time, everything would be older than what is kept.
    if (months_ahead between 0 and 24 and usage_from <= now() and logs_from <= now()) is not true then
        raise exception 'months_ahead is from 0 to 24, and what is kept is a time that is not negative'
            using errcode = 'invalid_parameter_value';
    end if;
    added := flags_add_partitions('usage_metrics', 'occurred_at', usage_from, months_ahead)
           + flags_add_partitions('evaluation_logs', 'evaluated_at', logs_from, months_ahead);
    dropped := flags_drop_partitions('usage_metrics', usage_from) + flags_drop_partitions('evaluation_logs', logs_from);
    delete from usage_keys where occurred_at < usage_from;
end
$$;

comment on function flags_maintain(integer, interval, interval) is 'Makes the months to come and drops those that are too old; for the owner of the schema.';
