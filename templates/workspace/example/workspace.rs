//! Adds a job to the queue and does it as a worker would.
//!
//!     cargo run --example workspace
//!
//! The tenant acme must exist: cgk tenant:create acme

use cgk::{Config, Db, TenantSlug};

#[tokio::main]
async fn main() -> cgk::Result<()> {
    let db = Db::connect(&Config::load()?).await?;
    let acme: TenantSlug = "acme".parse()?;
    add_build(&db, &acme, "f00d").await?;
    for commit in work(&db, &acme).await? {
        println!("built {commit}");
    }
    Ok(())
}

/// Adds a job, and its project and repository if they are missing. Everything in the closure is
/// committed together, or nothing.
pub async fn add_build(db: &Db, tenant: &TenantSlug, commit: &str) -> cgk::Result<()> {
    db.with_tenant(tenant, async |tx| {
        let project = "insert into projects (name) values ('Website') on conflict do nothing";
        tx.execute(project, &[]).await?;
        let repository = "
            insert into repositories (project_id, name)
            select id, 'frontend' from projects where name = 'Website' and deleted_at is null
                on conflict do nothing";
        tx.execute(repository, &[]).await?;
        let job = "
            insert into jobs (repository_id, kind, payload)
            select id, 'build', jsonb_build_object('commit', $1::text)
              from repositories where name = 'frontend'";
        tx.execute(job, &[&commit]).await?;
        Ok(())
    })
    .await
}

/// Claims jobs, does them and returns their commits. The claim is committed before the work begins:
/// after the lease of five minutes, a job without an answer is given to another worker.
pub async fn work(db: &Db, tenant: &TenantSlug) -> cgk::Result<Vec<String>> {
    let claim = "
        select id::text, lease_id::text, payload ->> 'commit'
          from claim_jobs(jobs_max => 10, kinds => '{build}')";
    let jobs = db.tenant(tenant).query(claim, &[]).await?;

    let mut built = Vec::new();
    for job in jobs {
        let (id, lease, commit): (String, String, String) = (job.get(0), job.get(1), job.get(2));
        let artifact = format!("{commit}.tar"); // the work
        let complete = "
            select complete_job($1::text::uuid, $2::text::uuid,
                                jsonb_build_object('artifact', $3::text))";
        let answer = db
            .tenant(tenant)
            .query_one(complete, &[&id, &lease, &artifact])
            .await?;
        // False: the lease was lost, and the job is another worker's.
        if answer.get(0) {
            built.push(commit);
        }
    }
    Ok(built)
}
