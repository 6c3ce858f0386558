//! The table `repositories` of the tenant's schema.

use super::model::{Repository, RepositoryFields};
use cgk::{Result, Statements};
use uuid::Uuid;

macro_rules! columns {
    () => {
        "id, organization_id, name, description, default_branch, version, created_at, updated_at"
    };
}

pub async fn insert(tx: &impl Statements, fields: &RepositoryFields) -> Result<Repository> {
    let sql = concat!(
        "insert into repositories (id, name, description, default_branch) values ($1, $2, $3, $4) returning ",
        columns!()
    );
    let row = tx.query_as(sql, &[&Uuid::now_v7(), &fields.name, &fields.description, &fields.default_branch]).await?;
    Ok(only(row))
}

/// Of this organization, newest first. What is in the schema and of another organization is left out.
pub const PAGE: &str = concat!(
    "select ",
    columns!(),
    " from repositories
     where organization_id = $1 and ($2::uuid is null or id < $2) order by id desc limit $3"
);

/// The statement that finds one record: for a single statement, and in a transaction.
pub const FIND: &str = concat!("select ", columns!(), " from repositories where id = $1");

pub async fn find(tx: &impl Statements, id: Uuid) -> Result<Option<Repository>> {
    Ok(tx.query_as(FIND, &[&id]).await?.pop())
}

/// The same, and nobody else changes it until the transaction ends.
pub async fn lock(tx: &impl Statements, id: Uuid) -> Result<Option<Repository>> {
    let sql = concat!("select ", columns!(), " from repositories where id = $1 for update");
    Ok(tx.query_as(sql, &[&id]).await?.pop())
}

pub async fn update(tx: &impl Statements, id: Uuid, fields: &RepositoryFields) -> Result<Repository> {
    let sql = concat!(
        "update repositories set name = $2, description = $3, default_branch = $4 where id = $1 returning ",
        columns!()
    );
    let row = tx.query_as(sql, &[&id, &fields.name, &fields.description, &fields.default_branch]).await?;
    Ok(only(row))
}

pub async fn delete(tx: &impl Statements, id: Uuid) -> Result<u64> {
    tx.execute("delete from repositories where id = $1", &[&id]).await
}

fn only(mut rows: Vec<Repository>) -> Repository {
    rows.pop().expect("the statement returns the row that it wrote")
}
