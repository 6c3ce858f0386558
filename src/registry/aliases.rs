//! The former slugs under which tenants are still found: the table `public.cgk_aliases`, which the first rename that keeps
//! one creates. A role sees the aliases of the organizations whose rows it sees.

use super::TABLE;
use crate::{slug::TenantSlug, tenant::OrganizationId};
use std::time::Duration;
use tokio_postgres::{Client, Error, Row, error::SqlState, types::Type};

/// A query: whether there is the table of former slugs.
pub(crate) const ALIASES_EXIST: &str =
    "select exists (select from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
                    where n.nspname = 'public' and c.relname = 'cgk_aliases' and c.relkind = 'r')";

/// How many former slugs [`all`] returns.
const ALL_MAX: u32 = 1_000;

/// The tenant that is found by a former slug.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FoundAlias {
    pub(crate) id: OrganizationId,
    /// Its slug now.
    pub(crate) slug: TenantSlug,
    /// How long it is still found.
    pub(crate) left: Duration,
}

/// Returns a query for [`FoundAlias::of_row`], with the former slug as `$1`. The table exists.
pub(crate) fn find_alias_sql() -> String {
    format!(
        "select o.id, o.slug::pg_catalog.text,
                extract(epoch from a.expires_at - pg_catalog.clock_timestamp())::pg_catalog.float8
           from public.cgk_aliases a join {TABLE} o on o.id = a.organization_id
          where a.slug = $1 and a.expires_at > pg_catalog.clock_timestamp()"
    )
}

impl FoundAlias {
    /// Reads a row; `None` if the tenant's slug is not valid.
    pub(crate) fn of_row(row: &Row) -> Result<Option<Self>, Error> {
        let (id, slug, left): (_, &str, f64) = (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
        let left = Duration::try_from_secs_f64(left).unwrap_or_default();
        Ok(slug.parse().ok().map(|slug| Self { id: OrganizationId(id), slug, left }))
    }
}

/// Returns the former slugs that are valid, but not more than a thousand.
pub(crate) async fn all(client: &Client) -> Result<Vec<TenantSlug>, Error> {
    if !exist(client).await? {
        return Ok(Vec::new());
    }
    let sql = format!(
        "select a.slug from public.cgk_aliases a where a.expires_at > pg_catalog.clock_timestamp()
          order by a.expires_at desc limit {ALL_MAX}"
    );
    let rows = match client.query_typed(&sql, &[]).await {
        Err(error) if error.code().is_some_and(is_closed) => return Ok(Vec::new()),
        rows => rows?,
    };
    Ok(rows.iter().filter_map(|row| row.try_get::<_, &str>(0).ok()?.parse().ok()).collect())
}

/// Whether the table exists.
pub(super) async fn exist(client: &Client) -> Result<bool, Error> {
    client.query_typed_one(ALIASES_EXIST, &[]).await?.try_get(0)
}

/// Returns the tenant that is found by a former slug.
pub(crate) async fn find_alias(client: &Client, slug: &TenantSlug) -> Result<Option<FoundAlias>, Error> {
    if !exist(client).await? {
        return Ok(None);
    }
    let rows = match client.query_typed(&find_alias_sql(), &[(&slug.as_str(), Type::TEXT)]).await {
        Err(error) if error.code().is_some_and(is_closed) => return Ok(None),
        rows => rows?,
    };
    rows.first().map(FoundAlias::of_row).transpose().map(Option::flatten)
}

/// Whether the table was dropped after it was found, or the right to read it was revoked.
pub(crate) fn is_closed(state: &SqlState) -> bool {
    [SqlState::UNDEFINED_TABLE, SqlState::INSUFFICIENT_PRIVILEGE].contains(state)
}
