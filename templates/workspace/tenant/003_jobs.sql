-- Jobs on a repository. The table is the queue: claim_jobs gives each job to one worker.
--
--     queued -> running -> succeeded
--        ^         |-----> failed      no attempt was left; retry_job queues it again
--        |---------+       an attempt failed, or its lease ran out
--     queued or running -> canceled    retry_job queues it again

create table jobs (
    id            uuid        not null default gen_random_uuid(),
    repository_id uuid        not null,
    kind          text        not null,
    payload       jsonb       not null default '{}',
    status        text        not null default 'queued',
    priority      smallint    not null default 0,
    attempts      integer     not null default 0,
    attempts_max  integer     not null default 5,
    run_after     timestamptz not null default now(),
    lease_id      uuid,
    lease_until   timestamptz,
    result        jsonb,
    error         text,
    finished_at   timestamptz,
    created_at    timestamptz not null default now(),
    updated_at    timestamptz not null default now(),

    constraint jobs_pkey primary key (id),
    constraint jobs_repository_id_fkey
        foreign key (repository_id) references repositories (id) on delete cascade,

    constraint jobs_kind_check         check (kind ~ '^[a-z][a-z0-9_.]{0,99}$'),
    constraint jobs_payload_check      check (jsonb_typeof(payload) = 'object'),
    constraint jobs_status_check
        check (status in ('queued', 'running', 'succeeded', 'failed', 'canceled')),
    constraint jobs_attempts_max_check check (attempts_max between 1 and 100),
    constraint jobs_attempts_check     check (attempts between 0 and attempts_max),
    -- A job that waits has an attempt left.
    constraint jobs_queued_check       check (status <> 'queued' or attempts < attempts_max),
    constraint jobs_running_check      check (status <> 'running' or attempts > 0),
    constraint jobs_lease_id_check     check ((status = 'running') = (lease_id is not null)),
    constraint jobs_lease_until_check  check ((lease_id is null) = (lease_until is null)),
    constraint jobs_finished_at_check
        check ((status in ('succeeded', 'failed', 'canceled')) = (finished_at is not null)),
    constraint jobs_result_check       check (result is null or status = 'succeeded'),
    constraint jobs_error_check        check (char_length(error) <= 2000)
);

create index jobs_repository_id_created_at_idx on jobs (repository_id, created_at desc);

-- What is claimed next; whose lease has run out.
create index jobs_queued_idx on jobs (priority desc, run_after, id) where status = 'queued';
create index jobs_lease_until_idx on jobs (lease_until) where status = 'running';

create trigger jobs_touch_updated_at
    before update on jobs
    for each row execute function workspace_touch_updated_at();

-- The changes of status that there are. The CHECKs above say what holds in each status.
create function jobs_status_changed() returns trigger
    language plpgsql
as $$
begin
    if (old.status, new.status) not in (('queued', 'running'), ('queued', 'canceled'),
                                        ('running', 'queued'), ('running', 'succeeded'), ('running', 'failed'),
                                        ('running', 'canceled'), ('failed', 'queued'), ('canceled', 'queued'))
    then
        raise exception 'a job that is % cannot become %', old.status, new.status
            using errcode = 'check_violation', constraint = 'jobs_status_changed_check';
    end if;
    return new;
end
$$;

create trigger jobs_status_changed
    before update on jobs
    for each row when (old.status is distinct from new.status)
    execute function jobs_status_changed();

-- Refuses a number of jobs or a lease that would claim all jobs, or use up their attempts.
create function check_job_claim(jobs_max integer, lease_time interval) returns void
    language plpgsql
as $$
begin
    if (jobs_max >= 0 and lease_time > interval '0') is not true then
        raise exception 'jobs_max is a number from 0 on, and lease_time is longer than 0'
            using errcode = 'invalid_parameter_value';
    end if;
end
$$;

-- Gives up to jobs_max jobs to the caller, who has them until the lease runs out: those of the highest priority first, then those
-- that wait longest. Jobs that another transaction is claiming are passed over, never waited for. Commit before the work
-- begins, and then call complete_job, fail_job or extend_lease with the row's lease_id.
--
-- A job whose lease has run out, because its worker died, is queued again before; without an attempt left it has failed.
create function claim_jobs(jobs_max integer default 1, lease_time interval default '5 minutes', kinds text[] default null)
    returns setof jobs
    language sql
begin atomic
    select check_job_claim(jobs_max, lease_time);

    with lost as materialized (
        select j.id from jobs j
         where j.status = 'running' and j.lease_until <= now()
         order by j.lease_until limit 1000
           for update skip locked)
    update jobs j
       set status      = case when j.attempts < j.attempts_max then 'queued' else 'failed' end,
           finished_at = case when j.attempts < j.attempts_max then null else now() end,
           lease_id    = null,
           lease_until = null,
           error       = 'the lease ran out'
      from lost where j.id = lost.id;

    with due as materialized (
        select j.id from jobs j
         where j.status = 'queued' and j.run_after <= now() and j.attempts < j.attempts_max
           and (kinds is null or j.kind = any (kinds))
         order by j.priority desc, j.run_after, j.id limit jobs_max
           for update skip locked)
    update jobs j
       set status      = 'running',
           attempts    = j.attempts + 1,
           lease_id    = gen_random_uuid(),
           lease_until = now() + lease_time
      from due where j.id = due.id
    returning j.*;
end;

-- The three below return false where the lease has been lost: another worker has the job by now, or it was canceled.

-- Ends a job that was done.
create function complete_job(job_id uuid, lease uuid, job_result jsonb default null) returns boolean
    language sql
begin atomic
    with changed as (
        update jobs j
           set status = 'succeeded', result = job_result, error = null, finished_at = now(), lease_id = null, lease_until = null
         where j.id = job_id and j.lease_id = lease
        returning j.id)
    select exists (select from changed);
end;

-- Ends an attempt that failed. While attempts are left the job is queued again, and runs after retry_in: by default 10 seconds,
-- doubled with each attempt, at most an hour.
create function fail_job(job_id uuid, lease uuid, reason text, retry_in interval default null) returns boolean
    language sql
begin atomic
    with changed as (
        update jobs j
           set status      = case when j.attempts < j.attempts_max then 'queued' else 'failed' end,
               finished_at = case when j.attempts < j.attempts_max then null else now() end,
               run_after   = case when j.attempts < j.attempts_max
                                  then now() + coalesce(retry_in, least(interval '10 seconds' * 2 ^ least(j.attempts - 1, 12),
                                                                        interval '1 hour'))
                                  else j.run_after end,
               error       = left(reason, 2000),
               lease_id    = null,
               lease_until = null
         where j.id = job_id and j.lease_id = lease
        returning j.id)
    select exists (select from changed);
end;

-- Keeps a job that takes longer.
create function extend_lease(job_id uuid, lease uuid, lease_time interval default '5 minutes') returns boolean
    language sql
begin atomic
    select check_job_claim(0, lease_time);

    with changed as (
        update jobs j set lease_until = now() + lease_time
         where j.id = job_id and j.lease_id = lease
        returning j.id)
    select exists (select from changed);
end;

-- Cancels a job that is queued or running; its worker loses the lease. False: it has ended, or there is none.
create function cancel_job(job_id uuid) returns boolean
    language sql
begin atomic
    with changed as (
        update jobs j set status = 'canceled', finished_at = now(), lease_id = null, lease_until = null
         where j.id = job_id and j.status in ('queued', 'running')
        returning j.id)
    select exists (select from changed);
end;

-- Queues a job that failed or was canceled once more, with all its attempts. False: it is neither, or there is none.
create function retry_job(job_id uuid) returns boolean
    language sql
begin atomic
    with changed as (
        update jobs j set status = 'queued', attempts = 0, run_after = now(), finished_at = null, error = null
         where j.id = job_id and j.status in ('failed', 'canceled')
        returning j.id)
    select exists (select from changed);
end;

comment on column jobs.run_after   is 'No attempt is made before.';
comment on column jobs.lease_id    is 'While it is running: the attempt that has it.';
comment on column jobs.lease_until is 'When the job can be claimed again, if its worker has not answered.';
comment on column jobs.error       is 'Of the latest attempt that failed.';
