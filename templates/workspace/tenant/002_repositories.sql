-- The repositories of a project.

create table repositories (
    id             uuid        not null default gen_random_uuid(),
    project_id     uuid        not null,
    name           text        not null,
    description    text        not null default '',
    remote_url     text,
    default_branch text        not null default 'main',
    created_by     uuid,
    created_at     timestamptz not null default now(),
    updated_at     timestamptz not null default now(),

    constraint repositories_pkey primary key (id),
    constraint repositories_project_id_fkey
        foreign key (project_id) references projects (id) on delete cascade,

    constraint repositories_name_check           check (name ~ '^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$'),
    constraint repositories_description_check    check (char_length(description) <= 500),
    constraint repositories_remote_url_check
        check (char_length(remote_url) <= 2000 and remote_url ~ '^(https|ssh)://[^[:space:]]+$'),
    constraint repositories_default_branch_check check (default_branch ~ '^[A-Za-z0-9][A-Za-z0-9._/-]{0,99}$')
);

-- Also the index behind project_id.
create unique index repositories_name_key on repositories (project_id, lower(name));

create trigger repositories_touch_updated_at
    before update on repositories
    for each row execute function workspace_touch_updated_at();

comment on column repositories.created_by is 'The id of a user. No foreign key: users are in the shared schema.';
