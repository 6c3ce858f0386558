-- Repositories. The service makes the ids (UUIDs of version 7), so that their order is that of creation.

create function touch_row() returns trigger
    language plpgsql
as $$
begin
    new.version := old.version + 1;
    new.updated_at := current_timestamp;
    return new;
end
$$;

create table repositories (
    id              uuid        not null,
    -- Whose record it is. The schema is the tenant's; this column lets a record that came here by mistake, as with an import,
    -- be told apart. There is no foreign key into public.
    organization_id uuid        not null default current_setting('app.current_organization_id')::uuid,
    name            text        not null,
    description     text        not null default '',
    default_branch  text        not null default 'main',
    -- What an ETag says.
    version         bigint      not null default 1,
    created_at      timestamptz not null default now(),
    updated_at      timestamptz not null default now(),

    constraint repositories_pkey     primary key (id),
    constraint repositories_name_key unique (name),

    constraint repositories_name_check           check (name ~ '^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$'),
    constraint repositories_description_check    check (char_length(description) <= 500),
    constraint repositories_default_branch_check check (default_branch ~ '^[A-Za-z0-9][A-Za-z0-9._/-]{0,99}$')
);

-- A page of the list.
create index repositories_organization_id_id_idx on repositories (organization_id, id desc);

create trigger repositories_touch_row
    before update on repositories
    for each row execute function touch_row();

comment on column repositories.version is 'Counts the changes; what an ETag says.';
