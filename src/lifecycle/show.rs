//! Everything about one tenant.

use crate::{
    config::Isolation,
    db::Operator,
    drift,
    error::{Error, Result, TenantError, while_doing},
    ident::{RoleName, SchemaName},
    migrate::{
        Migrations,
        plan::state::{self, SchemaState, TenantFilter},
    },
    migration::{LEDGER_TABLE, MigrationId},
    registry::{self, EnteredSession, SchemaContents},
    slug::TenantSlug,
    tenant::Tenant,
    version::Version,
};
use std::time::SystemTime;

/// Everything about one tenant.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct TenantDetails {
    /// The registry's row.
    pub tenant: Tenant,
    /// Its schema's name.
    pub schema: SchemaName,
    /// Where its schema stands.
    pub state: SchemaState,
    /// The newest migration applied to it.
    pub head: Option<MigrationId>,
    /// The migration that was applied last, by the clock.
    pub last_migration: Option<LastMigration>,
    /// The schema's owner.
    pub owner: Option<String>,
    /// The tenant's role, where it has one.
    pub role: Option<RoleName>,
    /// What the schema holds; `None` where there is none.
    pub contents: Option<SchemaContents>,
    /// Whether the last comparison with the migrations counts.
    pub comparison: LastComparison,
    /// From when on it may be dropped, if that is planned.
    pub drop_after: Option<SystemTime>,
    /// The sessions that are inside it now.
    pub sessions: Vec<EnteredSession>,
}

/// The migration that was applied last.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LastMigration {
    /// Which.
    pub id: MigrationId,
    /// When.
    pub applied_at: SystemTime,
    /// By which login.
    pub applied_by: String,
}

/// Whether the last comparison of a schema with its migrations counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LastComparison {
    /// It found no difference, and the schema has not changed since.
    Clean,
    /// There was none, it found differences, or the schema has changed since. Comparisons of up to 20 tenants are not recorded. To
    /// compare, call [`drift::verify`](crate::drift::verify).
    Outdated,
}

/// Looks at everything about one tenant. Writes nothing.
///
/// # Locks
///
/// `access share` on the ledger, and on each table for the moment in which its size is taken. If a table stays locked longer
/// than `session.lock_timeout`, the size is the estimate of the catalogue ([`SizeSource`](super::SizeSource)).
///
/// # Errors
///
/// Kind `NotFound`: there is no such tenant. `NotReady`: there is no registry.
///
/// # Cancel safety
///
/// Writes nothing.
pub async fn show(operator: &Operator, migrations: &Migrations, slug: &TenantSlug) -> Result<TenantDetails> {
    let slugs = std::slice::from_ref(slug);
    let (mut strange, mut found) = (Vec::new(), None);
    registry::require(operator).await?;
    state::each_tenant(operator, migrations, TenantFilter::These(slugs), &mut strange, |tenant| {
        found.get_or_insert(tenant);
    })
    .await?;
    let Some(found) = found else {
        return Err(Error::Tenant(TenantError::NotFound { tenant: slug.clone() }));
    };
    let schema = SchemaName::of_tenant(slug);
    let schemas = std::slice::from_ref(&schema);
    let contents = registry::contents_of(operator, schemas).await?.remove(schema.as_str());
    let compared = drift::unchanged_since_comparison(operator, schemas).await?;
    let last_migration = if found.facts.has_ledger { last_migration(operator, &schema).await? } else { None };
    let tag = operator.facts().database_tag();
    let has_role = found.facts.has_role && operator.config().isolation() == Isolation::Role;
    Ok(TenantDetails {
        drop_after: found.drop_after(),
        state: found.state,
        head: found.head,
        last_migration,
        owner: found.facts.owner.as_ref().map(|owner| owner.as_str().to_owned()),
        role: has_role.then(|| RoleName::of_tenant(slug, &tag)),
        contents,
        comparison: if compared.is_empty() { LastComparison::Outdated } else { LastComparison::Clean },
        sessions: registry::entered_sessions(operator, slug).await?,
        tenant: found.tenant,
        schema,
    })
}

async fn last_migration(operator: &Operator, schema: &SchemaName) -> Result<Option<LastMigration>> {
    let doing = || while_doing(format!("read the ledger of schema {:?}", schema.as_str()));
    let sql = format!(
        "select version, name, applied_at, applied_by from {} order by applied_at desc, version desc limit 1",
        schema.qualified(LEDGER_TABLE)
    );
    let rows = operator.client().query_typed(&sql, &[]).await.map_err(doing())?;
    let Some(row) = rows.first() else { return Ok(None) };
    let version: i64 = row.try_get(0).map_err(doing())?;
    let Some(version) = Version::new(version) else { return Ok(None) };
    Ok(Some(LastMigration {
        id: MigrationId { version, name: row.try_get(1).map_err(doing())? },
        applied_at: row.try_get(2).map_err(doing())?,
        applied_by: row.try_get(3).map_err(doing())?,
    }))
}
