//! The table `organizations` of the shared schema.

use super::model::Organization;
use crate::http::page::Wanted;
use cgk::{OrganizationId, Result, Statements, TenantContext};
use uuid::Uuid;

/// The last change in microseconds is the state that an ETag names.
macro_rules! columns {
    () => {
        "o.id, o.slug, o.name, o.status::text as status, o.created_at, o.updated_at,
         (extract(epoch from o.updated_at) * 1000000)::bigint as version"
    };
}

/// Those of the context: its own, and those whose creation its user asked for. $1: its id, $2: its user.
macro_rules! of_context {
    () => {
        "(o.id = $1 or exists (select from organization_creations c where c.organization_id = o.id
                                  and c.creator_organization_id = $1 and c.creator_id = $2))"
    };
}

pub async fn page(db: &impl Statements, context: &TenantContext, wanted: &Wanted) -> Result<Vec<Organization>> {
    let sql = concat!(
        "select ",
        columns!(),
        " from organizations o where ",
        of_context!(),
        " and ($3::uuid is null or o.id < $3) order by o.id desc limit $4"
    );
    let user = context.user_id.map(|user| user.0);
    db.query_as(sql, &[&context.organization_id, &user, &wanted.after, &wanted.rows()]).await
}

pub async fn find(db: &impl Statements, context: &TenantContext, id: Uuid) -> Result<Option<Organization>> {
    let sql = concat!("select ", columns!(), " from organizations o where o.id = $3 and ", of_context!());
    let user = context.user_id.map(|user| user.0);
    Ok(db.query_as(sql, &[&context.organization_id, &user, &id]).await?.pop())
}

/// Nobody else changes it until the transaction ends.
pub async fn lock(db: &impl Statements, id: OrganizationId) -> Result<Option<Organization>> {
    let sql = concat!("select ", columns!(), " from organizations o where o.id = $1 for no key update");
    Ok(db.query_as(sql, &[&id]).await?.pop())
}

pub async fn rename(db: &impl Statements, id: OrganizationId, name: &str) -> Result<Option<Organization>> {
    let sql = concat!("update organizations o set name = $2 where o.id = $1 returning ", columns!());
    Ok(db.query_as(sql, &[&id, &name]).await?.pop())
}

pub async fn suspend(db: &impl Statements, id: OrganizationId) -> Result<u64> {
    db.execute("update organizations set status = 'suspended' where id = $1", &[&id]).await
}
