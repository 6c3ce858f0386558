-- The audit log: who changed what, and when. The database itself keeps it append-only: update, delete and truncate are refused to
-- everybody, the owner included. What is old goes by whole months, with cgk_drop_audit_partitions.
--
-- Each month is a partition, made ahead by cgk_make_audit_partitions; what no month takes is in audit_events_default, so that
-- an insert finds a place even when nobody has made the month. Months are those of UTC.

-- organization_id has no foreign key: the log outlives the organization.
create table audit_events (
    id              uuid        not null default gen_random_uuid(),
    organization_id uuid,
    occurred_at     timestamptz not null default clock_timestamp(),
    actor_kind      text        not null,
    actor_id        text,
    action          text        not null,
    resource_kind   text        not null,
    resource_id     text        not null,
    before          jsonb,
    after           jsonb,
    request_id      text,
    metadata        jsonb       not null default '{}',

    -- Also the order in which the whole log is read.
    constraint audit_events_pkey primary key (occurred_at, id),

    constraint audit_events_actor_kind_check check (actor_kind <> ''),
    constraint audit_events_action_check     check (action <> ''),
    constraint audit_events_metadata_check   check (jsonb_typeof(metadata) = 'object')
) partition by range (occurred_at);

-- The log of an organization, the newest first.
create index audit_events_organization_id_occurred_at_idx on audit_events (organization_id, occurred_at, id);

create table audit_events_default partition of audit_events default;

-- Refuses a change of what is written.
create function cgk_refuse_audit_change() returns trigger
    language plpgsql
    set search_path = pg_catalog, pg_temp
as $$
begin
    raise exception 'the audit log is append-only: % is refused', tg_op using errcode = 'insufficient_privilege',
        hint = 'cgk audit:retain removes whole months.';
end
$$;

-- For each row, because partitions get this trigger of their table; TRUNCATE has triggers for statements only, which they do not.
create trigger audit_events_append_only before update or delete on audit_events
    for each row execute function cgk_refuse_audit_change();
-- Also a statement that would meet no row is refused.
create trigger audit_events_append_only_statement before update or delete or truncate on audit_events
    for each statement execute function cgk_refuse_audit_change();
alter table audit_events enable always trigger audit_events_append_only,
    enable always trigger audit_events_append_only_statement;

-- Makes a partition as unchangeable as the log, and leaves its rows to those who come through the log: nobody but its owner has
-- rights on it, and row level security without a policy shows it to nobody.
create function cgk_protect_audit_partition(part regclass) returns void
    language plpgsql
    set search_path = pg_catalog, pg_temp
as $$
declare
    home constant name := (select n.nspname from pg_class c join pg_namespace n on n.oid = c.relnamespace where c.oid = part);
    item record;
begin
    execute format('create trigger audit_events_append_only_statement before update or delete or truncate on %s
                        for each statement execute function %I.cgk_refuse_audit_change()', part, home);
    -- The trigger for rows is a copy of the log's, which is not ALWAYS on every version.
    execute format('alter table %s enable always trigger audit_events_append_only_statement,
                        enable always trigger audit_events_append_only', part);
    execute format('alter table %s enable row level security, force row level security', part);
    -- What default privileges gave to logins.
    for item in
        select distinct a.grantee from pg_class c cross join lateral aclexplode(c.relacl) a
         where c.oid = part and a.grantee <> c.relowner
    loop
        execute format('revoke all on %s from %s', part,
                       case item.grantee when 0 then 'public' else quote_ident(pg_get_userbyid(item.grantee)) end);
    end loop;
end
$$;

select cgk_protect_audit_partition('audit_events_default');
select cgk_protect_shared_table('audit_events', 'organization_id',
    '{id, organization_id, occurred_at, actor_kind, actor_id, action, resource_kind, resource_id, request_id}');

-- Makes the partitions of this month and of so many that follow, and moves what is in the default partition of those and of the
-- ten years before into partitions of their months. Returns how many partitions it made. For the owner of the log.
--
-- Locks the log against other changes of its partitions (SHARE UPDATE EXCLUSIVE), and the default partition against everybody.
-- Only where rows are moved, the log is locked against everybody (ACCESS EXCLUSIVE) until the transaction ends.
create function cgk_make_audit_partitions(months_ahead integer default 3) returns integer
    language plpgsql
    set search_path = pg_catalog, pg_temp
as $$
declare
    this_month constant timestamp := date_trunc('month', now() at time zone 'UTC');
    first_month constant timestamp := this_month - interval '10 years';
    end_month  constant timestamp := this_month + make_interval(months => least(greatest(months_ahead, 0), 120) + 1);
    is_moved   boolean;
    item       record;
    months     timestamp[];
    month      timestamp;
    part       text;
    made       integer := 0;
    found_rows bigint;
    kept_rows  bigint;
begin
    lock table public.audit_events in share update exclusive mode;
    select array_agg(m.month order by m.month) into months
      from (select generate_series(this_month, end_month - interval '1 month', interval '1 month') as month
            union
            -- Through the log, because row level security shows the partition itself to nobody.
            select date_trunc('month', a.occurred_at at time zone 'UTC') from public.audit_events a
             where a.tableoid = 'public.audit_events_default'::regclass and isfinite(a.occurred_at)
               and a.occurred_at >= first_month at time zone 'UTC' and a.occurred_at < end_month at time zone 'UTC') m;
    is_moved := exists (select from public.audit_events a
                         where a.tableoid = 'public.audit_events_default'::regclass
                           and a.occurred_at >= first_month at time zone 'UTC' and a.occurred_at < end_month at time zone 'UTC');
    if is_moved then
        -- A row that another transaction is inserting is waited for, and is moved too.
        lock table public.audit_events in access exclusive mode;
        select array_agg(m.month order by m.month) into months
          from (select unnest(months) as month
                union
                select date_trunc('month', a.occurred_at at time zone 'UTC') from public.audit_events a
                 where a.tableoid = 'public.audit_events_default'::regclass and isfinite(a.occurred_at)
                   and a.occurred_at >= first_month at time zone 'UTC' and a.occurred_at < end_month at time zone 'UTC') m;
        alter table public.audit_events detach partition public.audit_events_default;
        alter table public.audit_events_default rename to audit_events_moved;
        -- The new partition's indexes get the names that the old one's had.
        for item in
            select i.indexrelid::regclass as name, replace(c.relname::text, 'default', 'moved') as new_name
              from pg_index i join pg_class c on c.oid = i.indexrelid where i.indrelid = 'public.audit_events_moved'::regclass
        loop
            execute format('alter index %s rename to %I', item.name, item.new_name);
        end loop;
        alter table public.audit_events_moved no force row level security, disable row level security;
        create table public.audit_events_default partition of public.audit_events default;
        perform public.cgk_protect_audit_partition('public.audit_events_default');
    end if;

    foreach month in array months loop
        part := to_char(month, '"audit_events_"YYYY_MM');
        continue when to_regclass(format('public.%I', part)) is not null;
        -- Attached instead of made as a partition, which would lock the log against everybody.
        execute format('create table public.%I (like public.audit_events including defaults including constraints)', part);
        execute format('alter table public.audit_events attach partition public.%I for values from (%L) to (%L)', part,
                       month at time zone 'UTC', (month + interval '1 month') at time zone 'UTC');
        perform public.cgk_protect_audit_partition(format('public.%I', part)::regclass);
        made := made + 1;
    end loop;

    if is_moved then
        select count(*) into found_rows from public.audit_events_moved;
        insert into public.audit_events select * from public.audit_events_moved;
        get diagnostics kept_rows = row_count;
        if found_rows <> kept_rows then
            raise exception 'of % rows % were moved', found_rows, kept_rows;
        end if;
        drop table public.audit_events_moved;
    end if;
    return made;
end
$$;

-- Removes the partitions of the months that had ended by this time: the only way out of the log. Returns how many. What lies in the
-- default partition stays until cgk_make_audit_partitions has moved it. For the owner of the log.
--
-- Locks the log against everybody (ACCESS EXCLUSIVE) until the transaction ends.
create function cgk_drop_audit_partitions(ended_by timestamptz) returns integer
    language plpgsql
    set search_path = pg_catalog, pg_temp
as $$
declare
    part    record;
    dropped integer := 0;
begin
    if ended_by is null or ended_by > now() then
        raise exception 'a month that has not ended is kept' using errcode = 'invalid_parameter_value';
    end if;
    for part in
        select c.oid::regclass as name from pg_inherits i join pg_class c on c.oid = i.inhrelid
         where i.inhparent = 'public.audit_events'::regclass and c.relname ~ '^audit_events_[0-9]{4}_[0-9]{2}$'
           and (to_date(right(c.relname::text, 7), 'YYYY_MM') + interval '1 month') at time zone 'UTC' <= ended_by
         order by c.relname
    loop
        execute format('drop table %s', part.name);
        dropped := dropped + 1;
    end loop;
    return dropped;
end
$$;

revoke all on function cgk_protect_audit_partition(regclass), cgk_make_audit_partitions(integer),
    cgk_drop_audit_partitions(timestamptz) from public;

comment on table  audit_events                 is 'The audit log. Append-only.';
comment on column audit_events.organization_id is 'Null: it is about no organization.';
comment on column audit_events.before          is 'What the resource was; no secrets.';
comment on column audit_events.after           is 'What it became; no secrets.';
