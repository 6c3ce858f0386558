-- What the template workspace promises, checked inside a tenant. Fails with an error; nothing of it stays.
--
--     psql "$DATABASE_URL" -v ON_ERROR_STOP=1 -f tests/cgk/workspace.sql
--
-- The tenant acme must exist: cgk tenant:create acme

begin;
select public.cgk_enter('acme');

do $$
declare
    project    uuid;
    other      uuid;
    repository uuid;
    job        jobs;
begin
    insert into projects (name) values ('Website') returning id into project;

    -- Unique among those that are not deleted.
    begin
        insert into projects (name) values ('WEBSITE');
        raise exception 'a second project of the name was accepted';
    exception when unique_violation then null;
    end;
    begin
        delete from projects where id = project;
        raise exception 'a project that is not deleted was removed';
    exception when check_violation then null;
    end;
    assert delete_project(project);
    insert into projects (name) values ('website') returning id into other;
    begin
        perform restore_project(project);
        raise exception 'a project was restored to a name that is taken';
    exception when unique_violation then null;
    end;
    assert delete_project(other) and restore_project(project) and not restore_project(project);
    assert purge_projects('30 days') = 0 and purge_projects('0 days') = 1;

    -- A job that fails once and is then done.
    insert into repositories (project_id, name) values (project, 'frontend') returning id into repository;
    insert into jobs (repository_id, kind, attempts_max) values (repository, 'build', 2);
    select * into job from claim_jobs();
    assert job.status = 'running' and job.attempts = 1;
    assert (select count(*) from claim_jobs(10)) = 0, 'a job was claimed twice';
    assert fail_job(job.id, job.lease_id, 'no network', '0 seconds');
    assert not complete_job(job.id, job.lease_id), 'a lost lease was accepted';
    select * into job from claim_jobs();
    assert job.attempts = 2 and complete_job(job.id, job.lease_id, '{}');
    begin
        update jobs set status = 'queued', finished_at = null, result = null where id = job.id;
        raise exception 'a job that has succeeded was queued again';
    exception when check_violation then null;
    end;

    -- All of it goes with the project.
    assert delete_project(project) and purge_projects('0 days') = 1;
    assert not exists (select from repositories where id = repository) and not exists (select from jobs where id = job.id);
end
$$;

select public.cgk_check('acme');
rollback;
