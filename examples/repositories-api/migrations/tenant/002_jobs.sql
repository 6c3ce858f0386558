-- Work on a repository that the worker does after the answer. The table is the queue.

create table jobs (
    id              uuid        not null,
    organization_id uuid        not null default current_setting('app.current_organization_id')::uuid,
    repository_id   uuid        not null,
    kind            text        not null,
    status          text        not null default 'queued',
    attempts        integer     not null default 0,
    -- Not before this time.
    run_at          timestamptz not null default now(),
    -- While it is running: who has it, and until when. Whoever still has it then has lost it.
    lease_id        uuid,
    lease_until     timestamptz,
    result          jsonb,
    error           text,
    finished_at     timestamptz,
    version         bigint      not null default 1,
    created_at      timestamptz not null default now(),
    updated_at      timestamptz not null default now(),

    constraint jobs_pkey primary key (id),
    constraint jobs_repository_id_fkey
        foreign key (repository_id) references repositories (id) on delete cascade,

    constraint jobs_kind_check     check (kind in ('analyze', 'verify')),
    constraint jobs_status_check   check (status in ('queued', 'running', 'succeeded', 'failed')),
    constraint jobs_attempts_check check (attempts >= 0),
    constraint jobs_lease_check
        check ((status = 'running') = (lease_id is not null) and (lease_id is null) = (lease_until is null)),
    constraint jobs_finished_check check ((status in ('succeeded', 'failed')) = (finished_at is not null)),
    constraint jobs_error_check    check (char_length(error) <= 1000)
);

create index jobs_organization_id_id_idx on jobs (organization_id, id desc);
create index jobs_repository_id_id_idx on jobs (repository_id, id desc);
-- What a worker takes next.
create index jobs_due_idx on jobs (run_at) where status in ('queued', 'running');

create trigger jobs_touch_row
    before update on jobs
    for each row execute function touch_row();
