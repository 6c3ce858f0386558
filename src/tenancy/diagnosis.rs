//! Finds out why a tenant could not be entered.

use super::{
    protocol::{DIAGNOSE, TenantTarget},
    scope::PlatformTarget,
    shared::Shared,
};
use crate::{
    binding::Binding,
    config::Config,
    db::{
        identity, message,
        search_path::{Caller, refuse_writable},
    },
    error::{Error, Result, SetupError, TenantError, while_doing},
    ident::{DatabaseTag, RoleName},
    registry::REGISTRY_IS_HIDDEN,
    tenant::{OrganizationId, TenantStatus},
};
use tokio_postgres::{Client, error::SqlState, types::Type};
use uuid::Uuid;

/// The login, quoted, its `row_security`, and the statement that resets it to its default if it was set.
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

/// Whether row level security hides the whole registry from this login.
async fn hidden(client: &Client) -> Result<bool, tokio_postgres::Error> {
    let rows = client.query_typed(&format!("select {REGISTRY_IS_HIDDEN}"), &[]).await?;
    rows.first().map_or(Ok(false), |row| row.try_get(0))
}

/// Checks, after a rollback, whether others may create in the search path, which blocks the platform. The session is not
/// scrubbed.
pub(super) async fn diagnose_platform(shared: &Shared, target: &PlatformTarget, tag: &DatabaseTag) -> Result<()> {
    let client = shared.lease.connection().client();
    let rolled_back = message::run(client, "rollback").await.and_then(message::Answer::complete);
    rolled_back.map_err(while_doing("find out why the platform's transaction was refused"))?;
    refuse_writable(client, &target.further, tag, Caller::Service).await
}

/// Checks, after a rollback, what is wrong with a tenant; `None` if nothing is. The session is not scrubbed.
pub(super) async fn diagnose(
    shared: &Shared,
    target: &TenantTarget,
    database: &str,
    tag: &DatabaseTag,
    config: &Config,
) -> Result<Option<Error>> {
    let TenantTarget { slug, schema, role, .. } = target;
    let client = shared.lease.connection().client();
    let doing = || while_doing(format!("find out why tenant {slug} cannot be entered"));
    // The caller that returns the connection runs the scrub; it would make the session end at an error below.
    message::run(client, "rollback").await.and_then(message::Answer::complete).map_err(doing())?;
    let modes = identity::isolation_modes(client).await.map_err(doing())?;
    if let Err(error) = identity::refuse_isolation(database, modes, config) {
        return Ok(Some(error));
    }
    let role_name = role.as_ref().map_or("", RoleName::as_str);
    let looked = client
        .query_typed(
            DIAGNOSE,
            &[(&slug.as_str(), Type::TEXT), (&schema.as_str(), Type::TEXT), (&role_name, Type::TEXT)],
        )
        .await;
    let rows = match looked {
        Ok(rows) => rows,
        Err(source) if source.code() == Some(&SqlState::UNDEFINED_TABLE) => {
            return Ok(Some(Error::Setup(SetupError::NotSetUp {
                database: database.to_owned(),
                missing: "there is no table public.organizations".into(),
            })));
        }
        Err(source) if source.code() == Some(&SqlState::INSUFFICIENT_PRIVILEGE) => {
            let rows = client.query_typed(LOGIN, &[]).await.map_err(doing())?;
            let get = |index: usize| -> Result<String> {
                rows.first().map(|row| row.try_get(index)).transpose().map(Option::unwrap_or_default).map_err(doing())
            };
            let login = get(0)?;
            if get(1)? == "off" {
                return Ok(Some(Error::Setup(SetupError::Privilege {
                    needed: "read public.organizations: row_security is off, so the server refuses what a policy would filter".into(),
                    grant: get(2)?,
                    role: login,
                    source: Some(source.into()),
                })));
            }
            return Ok(Some(Error::Setup(SetupError::Privilege {
                needed: "read public.organizations".into(),
                grant: format!("grant select (id, slug, status) on public.organizations to {login}"),
                role: login,
                source: Some(source.into()),
            })));
        }
        Err(source) => return Err(doing()(source)),
    };
    let Some(row) = rows.first() else { return Ok(None) };
    let get = |index: usize| row.try_get::<_, bool>(index).map_err(doing());
    let status: Option<String> = row.try_get(0).map_err(doing())?;
    let login: String = row.try_get(5).map_err(doing())?;
    let tenant = slug.clone();
    let Some(status) = status else {
        return Ok(Some(match hidden(client).await.map_err(doing())? {
            true => Error::Setup(SetupError::Privilege {
                needed: "read public.organizations: row level security shows it no row".into(),
                grant: format!("cgk setup:database --app-role {login}"),
                role: login,
                source: None,
            }),
            false => Error::Tenant(TenantError::NotFound { tenant }),
        }));
    };
    let status = TenantStatus::from(&*status);
    match status {
        TenantStatus::Suspended => return Ok(Some(Error::Tenant(TenantError::Suspended { tenant }))),
        TenantStatus::Other(_) => return Ok(Some(Error::Tenant(TenantError::StatusUnknown { tenant, status }))),
        TenantStatus::Active | TenantStatus::Onboarding => {}
    }
    let not_ready = |missing: String| {
        let (tenant, status) = (tenant.clone(), status.clone());
        Ok(Some(Error::Tenant(TenantError::NotReady { tenant, status, missing })))
    };
    if !get(1)? {
        return not_ready(format!("there is no schema {}", schema.as_str()));
    }
    let id: Option<Uuid> = row.try_get(8).map_err(doing())?;
    let comment: Option<String> = row.try_get(9).map_err(doing())?;
    if let Some(expected) = id.map(OrganizationId)
        && let Some(found) = Binding::of(comment.as_deref()).other_than(expected)
    {
        let (schema, found) = (schema.clone(), found.to_owned());
        return Ok(Some(Error::Tenant(TenantError::OrganizationMismatch { tenant, schema, expected, found })));
    }
    if let Some(role) = role {
        if !get(2)? {
            return not_ready(format!("there is no role {}", role.as_str()));
        }
        if !get(4)? {
            return not_ready(format!("role {} may not use schema {}", role.as_str(), schema.as_str()));
        }
        if !get(3)? {
            return Ok(Some(Error::Setup(SetupError::Privilege {
                needed: format!("act as role {}", role.as_str()),
                // The grant is repeated with the option, because a membership WITH SET FALSE may exist.
                grant: format!("grant {} to {login}{}", role.quoted(), if get(7)? { " with set true" } else { "" }),
                role: login,
                source: None,
            })));
        }
    }
    if role.is_none() && !get(6)? {
        return Ok(Some(Error::Setup(SetupError::Privilege {
            needed: format!("use schema {}", schema.as_str()),
            grant: format!("grant usage on schema {} to {login}", schema.quoted()),
            role: login,
            source: None,
        })));
    }
    if status == TenantStatus::Onboarding {
        return not_ready("it is still being set up".into());
    }
    if let (Some(expected), Some(found)) = (shared.expected, id.map(OrganizationId))
        && expected != found
    {
        return Ok(Some(Error::Tenant(TenantError::ContextStale { tenant, expected, found })));
    }
    Ok(refuse_writable(client, &target.further, tag, Caller::Service).await.err())
}
