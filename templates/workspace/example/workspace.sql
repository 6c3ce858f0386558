-- A project, a repository and a job, from the beginning to the end. Nothing of it stays.
--
--     psql "$DATABASE_URL" -P pager=off -f examples/cgk/workspace.sql
--
-- The tenant acme must exist: cgk tenant:create acme

begin;
select public.cgk_enter('acme');

insert into projects (name, description) values ('Website', 'Everything at example.com');
insert into repositories (project_id, name, remote_url)
select id, 'frontend', 'https://git.example.com/frontend.git' from projects where name = 'Website';

-- A job for a worker.
insert into jobs (repository_id, kind, payload)
select id, 'build', '{"commit": "f00d"}' from repositories where name = 'frontend';

-- What a worker does: claim, commit, work, answer. Here it is one transaction, so that nothing stays.
select id, kind, payload, attempts, lease_until from claim_jobs(jobs_max => 1, lease_time => '2 minutes');
select complete_job(id, lease_id, '{"artifact": "frontend.tar"}') from jobs where status = 'running';

-- Deleted, restored, deleted again; then purged as if the retention time were over.
select delete_project(id) from projects where name = 'Website';
select restore_project(id) from projects where name = 'Website';
select delete_project(id) from projects where name = 'Website';
select purge_projects(retention => '0 days');

select public.cgk_check('acme');
rollback;
