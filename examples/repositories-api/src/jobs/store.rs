//! The table `jobs` of the tenant's schema, as the routes use it.

use super::model::{Job, JobKind};
use cgk::{Result, Statements};
use uuid::Uuid;

macro_rules! columns {
    () => {
        "id, organization_id, repository_id, kind, status, attempts, run_at, result, error, finished_at, version, created_at,
         updated_at"
    };
}
pub(super) use columns;

pub async fn insert(tx: &impl Statements, repository: Uuid, kind: JobKind) -> Result<Job> {
    let sql = concat!("insert into jobs (id, repository_id, kind) values ($1, $2, $3) returning ", columns!());
    let mut rows = tx.query_as(sql, &[&Uuid::now_v7(), &repository, &kind.as_str()]).await?;
    Ok(rows.pop().expect("the statement returns the row that it wrote"))
}

/// Of this organization, of one repository or of all, newest first.
pub const PAGE: &str = concat!(
    "select ",
    columns!(),
    " from jobs
     where organization_id = $1 and ($2::uuid is null or repository_id = $2) and ($3::uuid is null or id < $3)
     order by id desc limit $4"
);

pub const FIND: &str = concat!("select ", columns!(), " from jobs where id = $1");

pub async fn lock(tx: &impl Statements, id: Uuid) -> Result<Option<Job>> {
    let sql = concat!("select ", columns!(), " from jobs where id = $1 for update");
    Ok(tx.query_as(sql, &[&id]).await?.pop())
}

pub async fn delete(tx: &impl Statements, id: Uuid) -> Result<u64> {
    tx.execute("delete from jobs where id = $1", &[&id]).await
}
