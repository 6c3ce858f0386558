//! Refuses files that differ from what a schema has started and not finished.
//!
//! Such a file is in no ledger, so the record of the fleet's files does not know it. If another schema got the edited
//! file, or a later one, the schema that has started it could only continue with a file that the others do not have.

use crate::{
    db::Operator,
    error::{Error, MigrationError, Result, SetupError, while_doing},
    ident::SchemaName,
    migrate::{
        execute::step_log::{FileProgress, STEPS_TABLE},
        ledger,
        migrations::Migrations,
    },
    migration::Set,
    registry,
    slug::TenantSlug,
};

/// Returns an expression: the names of the schemas with a table of started files. By an index.
pub(super) fn schemas_sql() -> String {
    format!(
        "array(select n.nspname::pg_catalog.text from pg_catalog.pg_class c
               join pg_catalog.pg_namespace n on n.oid = c.relnamespace
               where c.relname = '{STEPS_TABLE}' and c.relkind in ('r', 'p') order by 1)"
    )
}

/// Asks for [`schemas_sql`] alone.
pub(crate) async fn schemas(operator: &Operator) -> Result<Vec<SchemaName>> {
    let doing = || while_doing("look for migrations that are partially applied");
    let sql = format!("select {}", schemas_sql());
    let rows = operator.client().query_typed(&sql, &[]).await.map_err(doing())?;
    let names = rows.first().map_or(Ok(vec![]), |row| row.try_get(0)).map_err(doing())?;
    Ok(of_cgk(names))
}

/// Returns the shared schema, and those with a name like a tenant's.
pub(super) fn of_cgk(names: Vec<String>) -> Vec<SchemaName> {
    let of_name = |name: String| match name.strip_prefix("tenant_") {
        Some(slug) => slug.parse().ok().map(|slug: TenantSlug| SchemaName::of_tenant(&slug)),
        None => Some(SchemaName::public()).filter(|public| public.as_str() == name),
    };
    names.into_iter().filter_map(of_name).collect()
}

/// Refuses if one of these schemas has started a file that the set no longer has, that has other executed statements or
/// no mark, or that is no longer the next one.
pub(super) async fn check(operator: &Operator, migrations: &Migrations, schemas: &[SchemaName]) -> Result<()> {
    for schema in schemas {
        let slug = schema.as_str().strip_prefix("tenant_").and_then(|slug| slug.parse::<TenantSlug>().ok());
        if let Some(slug) = &slug
            && !is_migrated(operator, slug).await?
        {
            continue;
        }
        let set = migrations.set(if slug.is_some() { Set::Tenant } else { Set::Public });
        let Some((started, file)) = FileProgress::of_set(operator, schema, set).await? else { continue };
        if let Some(problem) = started.problem(file) {
            return Err(started.refused(schema, problem));
        }
        let applied = match ledger::read(operator, schema).await {
            // The plan reports it for this schema.
            Err(Error::Migration(MigrationError::LedgerRefused { .. })) => continue,
            read => read?.rows,
        };
        let next = set.files().iter().find(|file| applied.iter().all(|row| row.id.version != file.id().version));
        if let Some(earlier) = started.overtaken_by(next) {
            let problem = format!("{}, which comes before it, is not applied", earlier.id());
            return Err(started.refused(schema, &problem));
        }
    }
    Ok(())
}

/// Whether a schema is that of a tenant that is not being dropped.
async fn is_migrated(operator: &Operator, slug: &TenantSlug) -> Result<bool> {
    match registry::facts_of(operator, slug).await {
        Ok(facts) => Ok(facts.tenant.is_some() && facts.refuse_being_dropped().is_ok()),
        // Without a registry, there are no tenants. A row that cannot be read is reported by the plan.
        Err(Error::Setup(SetupError::NotSetUp { .. }) | Error::Unexpected { .. }) => Ok(false),
        Err(error) => Err(error),
    }
}
