//! Writes and lists the former slugs under which tenants are still found.

use super::{TABLE, aliases};
use crate::{
    db::{Operator, message, message_head::MessageHead, own_table},
    error::{Error, Result, TenantError, while_doing},
    ident::literal,
    lock,
    slug::TenantSlug,
    tenant::OrganizationId,
};
use std::{
    collections::BTreeMap,
    time::{Duration, SystemTime},
};
use tokio_postgres::types::Type;
use uuid::Uuid;

const ALIASES: &str = "public.cgk_aliases";

/// The longest time, a hundred years.
const TIME_MAX: Duration = Duration::from_secs(36_525 * 86_400);

/// A former slug of a tenant, under which services still find it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TenantAlias {
    /// The former slug.
    pub slug: TenantSlug,
    /// When it ends. Another tenant can get the slug from then on.
    pub expires_at: SystemTime,
}

/// Whether the table exists.
pub(crate) async fn aliases_exist(operator: &Operator) -> Result<bool> {
    aliases::exist(operator.client()).await.map_err(while_doing(format!("look for the table {ALIASES}")))
}

/// Creates the table if it does not exist, and the trigger that refuses the slug to other organizations.
pub(crate) async fn create_aliases(operator: &Operator) -> Result<()> {
    if aliases_exist(operator).await? {
        return Ok(());
    }
    let definition = format!(
        "create table {ALIASES} (
    slug text primary key,
    organization_id uuid not null references {TABLE} (id) on delete cascade,
    expires_at timestamptz not null,
    created_at timestamptz not null default pg_catalog.clock_timestamp()
);
comment on table {ALIASES} is 'The former slugs that cgk tenant:rename --keep-alias keeps.';
alter table {ALIASES} enable row level security;
create policy cgk_aliases_of_visible on {ALIASES} for select
    using (exists (select from {TABLE} o where o.id = organization_id));
{}",
        include_str!("aliases.sql")
    );
    let rights = format!("grant select (slug, organization_id, expires_at) on {ALIASES} to public;\n");
    let created = own_table::create_readable(operator, lock::aliases_key(), &[ALIASES], &definition, &rights).await;
    created.map_err(while_doing(format!("create the table {ALIASES}")))
}

/// Refuses the slug of a new tenant, or a new slug of the tenant `own`, that another one keeps as its former slug.
pub(crate) async fn refuse_alias(operator: &Operator, slug: &TenantSlug, own: Option<OrganizationId>) -> Result<()> {
    let doing = || while_doing(format!("look for the former slug {slug}"));
    match aliases::find_alias(operator.client(), slug).await.map_err(doing())? {
        Some(found) if Some(found.id) != own => {
            Err(Error::Tenant(TenantError::FormerSlug { tenant: slug.clone(), now: found.slug }))
        }
        _ => Ok(()),
    }
}

/// Keeps a slug of an organization as an alias for a time, in the transaction that changes it.
pub(crate) fn keep_alias_sql(id: OrganizationId, slug: &TenantSlug, time: Duration) -> String {
    format!(
        "insert into {ALIASES} (slug, organization_id, expires_at)
values ({}, {}::pg_catalog.uuid, pg_catalog.clock_timestamp() + pg_catalog.make_interval(secs => {}))
on conflict (slug) do update set organization_id = excluded.organization_id, expires_at = excluded.expires_at,
    created_at = excluded.created_at;\n",
        literal(slug.as_str()),
        literal(&id.to_string()),
        time.min(TIME_MAX).as_secs_f64()
    )
}

/// Deletes an organization's alias that becomes its slug again, and those that have ended.
pub(crate) fn forget_aliases_sql(id: OrganizationId, slug: &TenantSlug) -> String {
    format!(
        "delete from {ALIASES} a where a.expires_at <= pg_catalog.clock_timestamp()
    or a.slug = {} and a.organization_id = {}::pg_catalog.uuid;\n",
        literal(slug.as_str()),
        literal(&id.to_string())
    )
}

/// Deletes an alias of an organization, and notifies services. Returns false if there is no such alias that is valid.
pub(crate) async fn drop_alias(operator: &Operator, id: OrganizationId, alias: &TenantSlug) -> Result<bool> {
    let doing = || while_doing(format!("drop the former slug {alias}"));
    if !aliases_exist(operator).await? {
        return Ok(false);
    }
    let head = MessageHead::of(operator).lock_timeout(operator.session().lock_timeout).sql();
    let sql = format!(
        "{head}with dropped as (delete from {ALIASES} a where a.slug = {0} and a.organization_id = {1}::pg_catalog.uuid
                          returning a.expires_at > pg_catalog.clock_timestamp() as is_valid)
select 'dropped' from dropped d where d.is_valid;
do $cgk$ begin
    if pg_catalog.to_regprocedure('public.cgk_notify_changes(pg_catalog.text[])') is not null then
        perform public.cgk_notify_changes(array['slug:' || {0}]);
    end if;
end $cgk$;\n",
        literal(alias.as_str()),
        literal(&id.to_string())
    );
    let answer = message::run(operator.client(), &sql).await.map_err(doing())?.complete().map_err(doing())?;
    Ok(answer.rows.iter().any(|(_, row)| row.get(0) == Some("dropped")))
}

/// Returns the aliases that are valid, by organization: of these, or of all.
pub(crate) async fn aliases_of(
    operator: &Operator,
    only: Option<OrganizationId>,
) -> Result<BTreeMap<OrganizationId, Vec<TenantAlias>>> {
    let doing = || while_doing(format!("read the table {ALIASES}"));
    let mut found: BTreeMap<OrganizationId, Vec<TenantAlias>> = BTreeMap::new();
    if !aliases_exist(operator).await? {
        return Ok(found);
    }
    let sql = format!(
        "select a.organization_id, a.slug, a.expires_at from {ALIASES} a
          where a.expires_at > pg_catalog.clock_timestamp() and ($1::pg_catalog.uuid is null or a.organization_id = $1)
          order by a.slug"
    );
    let only = only.map(|id| id.uuid());
    for row in operator.client().query_typed(&sql, &[(&only, Type::UUID)]).await.map_err(doing())? {
        let (id, slug): (Uuid, &str) = (row.try_get(0).map_err(doing())?, row.try_get(1).map_err(doing())?);
        let Ok(slug) = slug.parse() else { continue };
        let expires_at = row.try_get(2).map_err(doing())?;
        found.entry(id.into()).or_default().push(TenantAlias { slug, expires_at });
    }
    Ok(found)
}
