//! Finds out why a tenant could not be entered.

use super::{
    explain::{EntryDiagnosis, diagnose_sql},
    protocol::TenantTarget,
    scope::PlatformTarget,
    shared::Shared,
};
use crate::{
    config::Config,
    db::{
        identity, message,
        search_path::{SearchPathUser, refuse_writable},
    },
    error::{Error, Result, SetupError, TenantError, while_doing},
    ident::{DatabaseTag, RoleName},
    registry::{self, aliases},
    slug::TenantSlug,
    tenant::OrganizationId,
};
use tokio_postgres::{Client, Row, error::SqlState, types::Type};

/// Reads the quoted login, its `row_security`, and the statement that turns `row_security` on again. The statement
/// depends on where the setting was changed.
const LOGIN: &str = "
select pg_catalog.quote_ident(current_user), s.setting,
       case s.source
         when 'user' then 'alter role ' || pg_catalog.quote_ident(current_user) || ' reset row_security'
         when 'database' then 'alter database ' || pg_catalog.quote_ident(pg_catalog.current_database()) || ' reset row_security'
         when 'database user' then 'alter role ' || pg_catalog.quote_ident(current_user) || ' in database '
                                   || pg_catalog.quote_ident(pg_catalog.current_database()) || ' reset row_security'
         else 'alter role ' || pg_catalog.quote_ident(current_user) || ' set row_security = on'
       end
from pg_catalog.pg_settings s where s.name = 'row_security'";

/// Rolls back, and checks whether other roles may create in the search path. If so, the platform cannot be entered. The
/// session is not scrubbed.
pub(super) async fn diagnose_platform(shared: &Shared, target: &PlatformTarget, tag: &DatabaseTag) -> Result<()> {
    let client = shared.lease.connection().client();
    let rolled_back = message::run(client, "rollback").await.and_then(message::Answer::complete);
    rolled_back.map_err(while_doing("find out why the platform's transaction was refused"))?;
    refuse_writable(client, &target.further, tag, SearchPathUser::Service).await
}

/// Rolls back, and checks what is wrong with a tenant. Returns `None` if nothing is. The session is not scrubbed.
pub(super) async fn diagnose(
    shared: &Shared,
    target: &TenantTarget,
    database: &str,
    tag: &DatabaseTag,
    config: &Config,
) -> Result<Option<Error>> {
    let slug = &target.slug;
    let client = shared.lease.connection().client();
    let doing = || while_doing(format!("find out why tenant {slug} cannot be entered"));
    // The scrub is not run here, because it would make the session end at an error below. The caller that returns the
    // connection runs it.
    message::run(client, "rollback").await.and_then(message::Answer::complete).map_err(doing())?;
    let modes = identity::isolation_modes(client).await.map_err(doing())?;
    if let Err(error) = identity::refuse_isolation(database, modes, config) {
        return Ok(Some(error));
    }
    let rows = match read_target(client, target).await {
        Ok(rows) => rows,
        Err(source) => return unreadable(client, database, slug, source).await.map(Some),
    };
    let Some(row) = rows.first() else { return Ok(None) };
    let found = EntryDiagnosis::of_row(row).map_err(doing())?;
    match found.explain(target) {
        Some(Error::Tenant(TenantError::NotFound { tenant })) => {
            let found = aliases::find_alias(client, slug).await.map_err(doing())?;
            return Ok(Some(Error::Tenant(match found {
                Some(found) => TenantError::Renamed { tenant, now: found.slug, id: found.id },
                None => TenantError::NotFound { tenant },
            })));
        }
        Some(error) => return Ok(Some(error)),
        None => {}
    }
    if let (Some(expected), Some(found)) = (shared.expected, found.id.map(OrganizationId))
        && expected != found
    {
        return Ok(Some(Error::Tenant(TenantError::ContextStale { tenant: slug.clone(), expected, found })));
    }
    Ok(refuse_writable(client, &target.further, tag, SearchPathUser::Service).await.err())
}

/// Reads the registry and the catalogue.
async fn read_target(client: &Client, target: &TenantTarget) -> Result<Vec<Row>, tokio_postgres::Error> {
    let role = target.role.as_ref().map_or("", RoleName::as_str);
    let (slug, schema) = (target.slug.as_str(), target.schema.as_str());
    client.query_typed(&diagnose_sql(), &[(&slug, Type::TEXT), (&schema, Type::TEXT), (&role, Type::TEXT)]).await
}

/// Returns the error that explains why the registry cannot be read.
async fn unreadable(
    client: &Client,
    database: &str,
    slug: &TenantSlug,
    source: tokio_postgres::Error,
) -> Result<Error> {
    let doing = || while_doing(format!("find out why tenant {slug} cannot be entered"));
    if source.code() == Some(&SqlState::UNDEFINED_TABLE) {
        let missing = "there is no table public.organizations".into();
        return Ok(Error::Setup(SetupError::NotSetUp { database: database.to_owned(), missing }));
    }
    if source.code() != Some(&SqlState::INSUFFICIENT_PRIVILEGE) {
        return Err(doing()(source));
    }
    let rows = client.query_typed(LOGIN, &[]).await.map_err(doing())?;
    let get = |index: usize| -> Result<String> {
        rows.first().map(|row| row.try_get(index)).transpose().map(Option::unwrap_or_default).map_err(doing())
    };
    let login = get(0)?;
    let (needed, grant) = match get(1)?.as_str() {
        "off" => (
            "read public.organizations: row_security is off, so the server refuses what a policy would filter",
            get(2)?,
        ),
        _ => ("read public.organizations", registry::sql::grant_read_sql(&login)),
    };
    Ok(Error::Setup(SetupError::Privilege { needed: needed.into(), grant, role: login, source: Some(source.into()) }))
}
