//! Checks whether the registry exists, and whether the current role can see its rows.

use super::sql;
use crate::{
    db::Operator,
    error::{Error, Result, SetupError, while_doing},
    ident::quoted,
};
use tokio_postgres::error::SqlState;

/// The prefix of the name of the policy with which a login only reads the registry. The login's name follows. Drift
/// knows this name.
const READER_POLICY: &str = "cgk_reader_";

/// A condition: row level security hides all rows of the registry from the current role. One policy for PUBLIC, that of
/// the bundled migrations, applies only to tenants' roles. Any other policy may apply to the current role.
pub(crate) const REGISTRY_IS_HIDDEN: &str =
    "(pg_catalog.row_security_active('public.organizations'::pg_catalog.regclass)
    and not exists (select from pg_catalog.pg_policy p, pg_catalog.unnest(p.polroles) m (role)
                    where p.polrelid = 'public.organizations'::pg_catalog.regclass and p.polpermissive
                    and p.polname <> 'organizations_tenant'
                    and (m.role = 0 or pg_catalog.pg_has_role(m.role, 'usage'))))";

/// Returns whether there is a registry.
pub(crate) async fn exists(operator: &Operator) -> Result<bool> {
    let doing = || while_doing("look for the registry");
    let sql = format!("select {} is not null", sql::OID);
    let rows = operator.client().query_typed(&sql, &[]).await.map_err(doing())?;
    rows.first().map(|row| row.try_get(0)).transpose().map(Option::unwrap_or_default).map_err(doing())
}

/// Fails with the reason if there is no registry, if it lacks a column, or if its rows are hidden. The error of a
/// failed query would not contain this reason.
pub(crate) async fn require(operator: &Operator) -> Result<()> {
    let row = operator
        .client()
        .query_typed(
            "select coalesce(pg_catalog.array_agg(a.attname::pg_catalog.text), '{}') from pg_catalog.pg_class c
             join pg_catalog.pg_namespace n on n.oid = c.relnamespace and n.nspname = 'public'
             join pg_catalog.pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
             where c.relname = 'organizations' and c.relkind in ('r', 'p', 'v')",
            &[],
        )
        .await
        .map_err(while_doing("look for the registry"))?;
    let columns: Vec<String> = row
        .first()
        .map(|row| row.try_get(0))
        .transpose()
        .map_err(while_doing("look for the registry"))?
        .unwrap_or_default();
    let missing =
        |missing: String| Error::Setup(SetupError::NotSetUp { database: operator.facts().database.clone(), missing });
    if columns.is_empty() {
        return Err(missing("there is no table public.organizations".into()));
    }
    match ["id", "slug", "name", "status", "created_at"]
        .iter()
        .find(|needed| !columns.iter().any(|found| found == *needed))
    {
        Some(column) => Err(missing(format!("public.organizations has no column {column}"))),
        None => require_sight(operator).await,
    }
}

/// Fails if row level security hides the registry's rows. Without this check, a fleet with hidden rows would look like
/// one without tenants.
pub(crate) async fn require_sight(operator: &Operator) -> Result<()> {
    let doing = || while_doing("look at the row level security of the registry");
    let sql = format!(
        "select pg_catalog.pg_get_userbyid(c.relowner)::pg_catalog.text from pg_catalog.pg_class c
         where c.oid = 'public.organizations'::pg_catalog.regclass and {REGISTRY_IS_HIDDEN}"
    );
    let rows = match operator.client().query_typed(&sql, &[]).await {
        // Other code reports a missing registry.
        Err(error) if error.code() == Some(&SqlState::UNDEFINED_TABLE) => return Ok(()),
        rows => rows.map_err(doing())?,
    };
    let Some(row) = rows.first() else { return Ok(()) };
    let owner: String = row.try_get(0).map_err(doing())?;
    let role = &operator.facts().role;
    // A role that can create neither schemas nor roles only reads.
    let grant = match operator.facts().creates_schemas || operator.facts().creates_roles {
        true => format!("grant {} to {}", quoted(&owner), quoted(role)),
        false => format!(
            "create policy {} on public.organizations for select to {} using (true)",
            quoted(&format!("{READER_POLICY}{role}")),
            quoted(role)
        ),
    };
    Err(operator.facts().lacks("read public.organizations: row level security shows it no row", grant))
}
