//! Reads all facts about one tenant.

use crate::{
    config::Isolation,
    db::Operator,
    drift,
    error::{Result, while_doing},
    ident::{RoleName, SchemaName},
    migrate::{
        Migrations,
        plan::{
            started::StartedMigration,
            state::{self, SchemaState, TenantFilter},
        },
    },
    migration::{LEDGER_TABLE, MigrationId},
    registry::{self, EnteredSession, SchemaContents, TenantAlias},
    slug::TenantSlug,
    tenant::Tenant,
    version::Version,
};
use std::time::SystemTime;

/// All facts about one tenant.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct TenantDetails {
    /// The tenant's row in the registry.
    pub tenant: Tenant,
    /// The name of its schema.
    pub schema: SchemaName,
    /// The state of its schema.
    pub state: SchemaState,
    /// The newest migration applied to it.
    pub head: Option<MigrationId>,
    /// The migration without a transaction that is partially applied.
    pub started: Option<StartedMigration>,
    /// The migration with the latest time.
    pub last_migration: Option<LastMigration>,
    /// The schema's owner.
    pub owner: Option<String>,
    /// The tenant's role; `None` if it has none.
    pub role: Option<RoleName>,
    /// The contents of the schema; `None` if there is none.
    pub contents: Option<SchemaContents>,
    /// Whether the last comparison with the migrations is still valid.
    pub comparison: LastComparison,
    /// The time from which it may be dropped, if its drop is planned.
    pub drop_after: Option<SystemTime>,
    /// The former slugs by which services still find it.
    pub aliases: Vec<TenantAlias>,
    /// The sessions that are in the tenant now.
    pub sessions: Vec<EnteredSession>,
}

/// The migration that was applied last.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LastMigration {
    /// Its version and name.
    pub id: MigrationId,
    /// When it was applied.
    pub applied_at: SystemTime,
    /// The login that applied it.
    pub applied_by: String,
}

/// Whether the last comparison of a schema with its migrations is still valid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LastComparison {
    /// The comparison found no difference, and the schema has not changed since.
    Clean,
    /// There was no comparison, it found differences, or the schema has changed since. Comparisons of up to 20 tenants
    /// are not recorded. To compare, call [`drift::verify`](crate::drift::verify).
    Outdated,
}

/// Returns all facts about one tenant. Writes nothing.
///
/// # Locks
///
/// `access share` on the ledger, and on each table while its size is read. If a table is locked for longer than
/// `session.lock_timeout`, the size is an estimate from the catalogue ([`SizeSource`](super::SizeSource)).
///
/// # Errors
///
/// - Kind `NotFound`: there is no such tenant.
/// - Kind `NotReady`: there is no registry.
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
        return Err(registry::not_found(operator, slug).await);
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
        started: found.started,
        head: found.head,
        last_migration,
        owner: found.facts.owner.as_ref().map(|owner| owner.as_str().to_owned()),
        role: has_role.then(|| RoleName::of_tenant(slug, &tag)),
        contents,
        comparison: if compared.is_empty() { LastComparison::Outdated } else { LastComparison::Clean },
        aliases: registry::aliases_of(operator, Some(found.tenant.id))
            .await?
            .remove(&found.tenant.id)
            .unwrap_or_default(),
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
