-- Projects that can be deleted, restored, and purged when a retention time is over.

-- Each template has a trigger function of its own, so that templates can be combined in any order.
create function workspace_touch_updated_at() returns trigger
    language plpgsql
as $$
begin
    new.updated_at := current_timestamp;
    return new;
end
$$;

create table projects (
    id             uuid        not null default gen_random_uuid(),
    name           text        not null,
    description    text        not null default '',
    created_by     uuid,
    last_edited_at timestamptz not null default now(),
    last_edited_by uuid,
    deleted_at     timestamptz,
    deleted_by     uuid,
    created_at     timestamptz not null default now(),
    updated_at     timestamptz not null default now(),

    constraint projects_pkey primary key (id),

    constraint projects_name_check        check (char_length(name) between 1 and 200 and name = btrim(name)),
    constraint projects_description_check check (char_length(description) <= 5000),
    constraint projects_deleted_by_check  check (deleted_by is null or deleted_at is not null)
);

-- A name is unique among the projects that are not deleted, in any case of its letters. A deleted project does not reserve its
-- name: another one may take it, and then restoring the first fails with the name of this index.
create unique index projects_name_key on projects (lower(name)) where deleted_at is null;

-- The list, the latest edit first; and what is to be purged.
create index projects_last_edited_at_idx on projects (last_edited_at desc) where deleted_at is null;
create index projects_deleted_at_idx on projects (deleted_at) where deleted_at is not null;

-- An edit is a change of what people see. Deleting and restoring are none, and a deleted project is not edited.
create function projects_edited() returns trigger
    language plpgsql
as $$
begin
    if new.deleted_at is not null then
        raise exception 'project % is deleted and cannot be edited', old.id
            using errcode = 'check_violation', constraint = 'projects_edited_check', hint = 'Restore it first.';
    end if;
    new.last_edited_at := current_timestamp;
    return new;
end
$$;

create trigger projects_edited
    before update on projects
    for each row when (old.name is distinct from new.name or old.description is distinct from new.description)
    execute function projects_edited();

create trigger projects_touch_updated_at
    before update on projects
    for each row execute function workspace_touch_updated_at();

-- A row goes by purge_projects alone: what was not deleted first cannot be lost by a DELETE.
create function projects_kept() returns trigger
    language plpgsql
as $$
begin
    raise exception 'project % is not deleted and cannot be removed', old.id
        using errcode = 'check_violation', constraint = 'projects_kept_check', hint = 'Call delete_project first.';
end
$$;

create trigger projects_kept
    before delete on projects
    for each row when (old.deleted_at is null)
    execute function projects_kept();

-- Deletes a project. False: there is none, or it is deleted already.
create function delete_project(project_id uuid, by_user uuid default null) returns boolean
    language sql
begin atomic
    with changed as (
        update projects p set deleted_at = now(), deleted_by = by_user
         where p.id = project_id and p.deleted_at is null
        returning p.id)
    select exists (select from changed);
end;

-- Restores a deleted project. False: there is none, or it is not deleted. Fails with 23505 while its name is taken.
create function restore_project(project_id uuid) returns boolean
    language sql
begin atomic
    with changed as (
        update projects p set deleted_at = null, deleted_by = null
         where p.id = project_id and p.deleted_at is not null
        returning p.id)
    select exists (select from changed);
end;

-- Removes projects that were deleted longer ago than the retention time, with all that is in them, the oldest first.
-- Returns how many; when it returns projects_max, there may be more. Several processes can do it at once. A negative
-- retention time counts as zero. If it is null, nothing is removed.
create function purge_projects(retention interval default '30 days', projects_max integer default 100) returns bigint
    language sql
begin atomic
    with due as materialized (
        select p.id from projects p
         where p.deleted_at <= now() - case when retention < interval '0' then interval '0' else retention end
         order by p.deleted_at limit projects_max
           for update skip locked),
    purged as (
        delete from projects p using due where p.id = due.id
        returning p.id)
    select count(*) from purged;
end;

comment on column projects.created_by     is 'The id of a user. No foreign key: users are in the shared schema.';
comment on column projects.last_edited_at is 'When name or description were changed last.';
comment on column projects.deleted_at     is 'Null: not deleted.';
