//! The seeds that have run for an organization, in the table `public.cgk_seeds`. Its rows are deleted with the
//! organization's row.

use super::TABLE;
use crate::{
    db::{Operator, own_table},
    error::{Result, while_doing},
    ident::literal,
    lock,
    tenant::OrganizationId,
};
use std::collections::{BTreeMap, BTreeSet};
use tokio_postgres::{error::SqlState, types::Type};
use uuid::Uuid;

const SEEDS: &str = "public.cgk_seeds";

/// The checksums of an organization's seeds, by name.
pub(crate) type Seeds = BTreeMap<String, String>;

/// Creates the table if it does not exist.
pub(crate) async fn create_seeds(operator: &Operator) -> Result<()> {
    if seeds_exist(operator).await? {
        return Ok(());
    }
    let definition = format!(
        "create table {SEEDS} (
    organization_id uuid not null references {TABLE} (id) on delete cascade,
    name text not null,
    sha256 text not null,
    seeded_at timestamptz not null default pg_catalog.clock_timestamp(),
    seeded_by text not null default session_user,
    primary key (organization_id, name)
);
comment on table {SEEDS} is 'The seeds that cgk tenant:seed has run in tenants.';
"
    );
    let created = own_table::create(operator, lock::seeds_key(), &[SEEDS], &definition).await;
    created.map_err(while_doing(format!("create the table {SEEDS}")))
}

/// Returns whether the table exists.
pub(crate) async fn seeds_exist(operator: &Operator) -> Result<bool> {
    let doing = || while_doing(format!("look for the table {SEEDS}"));
    let sql = "select pg_catalog.to_regclass($1) is not null";
    let rows = operator.client().query_typed(sql, &[(&SEEDS, Type::TEXT)]).await.map_err(doing())?;
    rows.first().map(|row| row.try_get(0)).transpose().map_err(doing()).map(|exists| exists.unwrap_or(false))
}

/// Returns the seeds of organizations. Organizations without seeds are missing from the result.
pub(crate) async fn seeds_of(
    operator: &Operator,
    organizations: &[OrganizationId],
) -> Result<BTreeMap<OrganizationId, Seeds>> {
    let doing = || while_doing(format!("read the table {SEEDS}"));
    let ids: Vec<Uuid> = organizations.iter().map(|id| id.uuid()).collect();
    let sql = format!("select s.organization_id, s.name, s.sha256 from {SEEDS} s where s.organization_id = any ($1)");
    let rows = match operator.client().query_typed(&sql, &[(&ids, Type::UUID_ARRAY)]).await {
        Err(error) if error.code() == Some(&SqlState::UNDEFINED_TABLE) => Vec::new(),
        rows => rows.map_err(doing())?,
    };
    let mut found: BTreeMap<OrganizationId, Seeds> = BTreeMap::new();
    for row in &rows {
        let id: Uuid = row.try_get(0).map_err(doing())?;
        let (name, sha256) = (row.try_get(1).map_err(doing())?, row.try_get(2).map_err(doing())?);
        found.entry(id.into()).or_default().insert(name, sha256);
    }
    Ok(found)
}

/// Returns SQL that records seeds, by name and checksum. It fails with a unique violation if another session has
/// recorded one of them, unless the seed's name is in `again`.
pub(crate) fn record_seeds_sql(id: OrganizationId, seeds: &[(&str, &str)], again: &BTreeSet<String>) -> String {
    let insert = |(name, sha256): &(&str, &str)| {
        let conflict = match again.contains(*name) {
            true => {
                " on conflict (organization_id, name) do update
                  set sha256 = excluded.sha256, seeded_at = excluded.seeded_at, seeded_by = excluded.seeded_by"
            }
            false => "",
        };
        format!(
            "insert into {SEEDS} (organization_id, name, sha256) values ({}, {}, {}){conflict}",
            literal(&id.to_string()),
            literal(name),
            literal(sha256)
        )
    };
    seeds.iter().map(insert).collect::<Vec<_>>().join("; ")
}

/// Returns SQL that copies the records of an organization to another one. It requires that the table exists.
pub(crate) fn copy_seeds_sql(from: OrganizationId, to: OrganizationId) -> String {
    format!(
        "insert into {SEEDS} (organization_id, name, sha256, seeded_at, seeded_by)
         select {}::pg_catalog.uuid, s.name, s.sha256, s.seeded_at, s.seeded_by from {SEEDS} s where s.organization_id = {}::pg_catalog.uuid",
        literal(&to.to_string()),
        literal(&from.to_string())
    )
}
