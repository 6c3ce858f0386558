-- The environments that features are switched in: dev, staging and prod of every project. With them come the functions that
-- the triggers of the following files call. Their names begin with flags_, so that they stand beside another template's.

-- current_timestamp is syntax, not a name, so no search_path can redirect it. It is the time the transaction began.
create function flags_set_updated_at() returns trigger
    language plpgsql
as $$
begin
    new.updated_at := current_timestamp;
    return new;
end
$$;

-- Tells every process that evaluates this tenant's features that something has changed: cgk::flags then loads them anew.
-- The notice carries a digest and names nothing (public, 010_change_notices). A database without that file sends none, and
-- cgk::flags then uses what it has loaded for a few seconds only.
create function flags_notify_change() returns trigger
    language plpgsql
as $$
begin
    if pg_catalog.to_regprocedure('public.cgk_notify_changes(pg_catalog.text[])') is not null then
        perform public.cgk_notify_changes(array['flags:' || tg_table_schema]);
    end if;
    return null;
end
$$;

-- Rows of some tables are added and never changed: whoever it is, also the owner of the table.
create function flags_refuse_change() returns trigger
    language plpgsql
as $$
begin
    raise exception 'rows of % are only added: % is refused', tg_table_name, tg_op
        using errcode = 'insufficient_privilege', schema = tg_table_schema, table = tg_table_name;
end
$$;

create table environments (
    id         uuid        not null default gen_random_uuid(),
    -- The project's own name for itself. No foreign key: projects may be kept elsewhere, or nowhere.
    project    text        not null default 'default',
    name       text        not null,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),

    constraint environments_pkey             primary key (id),
    constraint environments_project_name_key unique (project, name),

    constraint environments_project_check check (project ~ '^[a-z0-9][a-z0-9_-]{0,62}$'),
    constraint environments_name_check    check (name in ('dev', 'staging', 'prod'))
);

create trigger environments_set_updated_at
    before update on environments
    for each row execute function flags_set_updated_at();

create trigger environments_notify_change
    after insert or update or delete or truncate on environments
    for each statement execute function flags_notify_change();
alter table environments enable always trigger environments_notify_change;

-- Makes what is missing of the three environments of a project.
create function create_environments(project text) returns setof environments
    language sql
    begin atomic
        insert into environments (project, name)
        select create_environments.project, e.name from (values ('dev'), ('staging'), ('prod')) as e (name)
        on conflict on constraint environments_project_name_key do nothing;
        select e.* from environments e where e.project = create_environments.project order by e.name;
    end;

insert into environments (project, name) values ('default', 'dev'), ('default', 'staging'), ('default', 'prod');

comment on table environments is 'Where features are switched: dev, staging and prod of a project.';
