//! Gives every tenant its role, as a fleet needs that was made under path isolation or restored on another server.

use crate::{
    config::Isolation,
    db::{Operator, message, milliseconds},
    error::{Error, Result, while_doing},
    ident::{RoleName, SchemaName, literal, quoted},
    isolation, lock, login,
    migrate::{
        ledger,
        state::{self, TenantFacts},
    },
    slug::TenantSlug,
};
use tokio_postgres::error::SqlState;

/// What became of a fleet.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct IsolateReport {
    /// Tenants that got their role, or its rights.
    pub finished: Vec<TenantSlug>,
    /// Tenants for which that failed, and why.
    pub failed: Vec<(TenantSlug, Error)>,
}

/// The tenants that have a schema and a ledger and cannot be entered under role isolation, because their role or its right to
/// the schema is missing. None under path isolation, which needs neither.
///
/// # Errors
///
/// Kind `NotReady`: there is no registry. Kinds `Unavailable` and `Failed`: the server.
///
/// # Cancel safety
///
/// Writes nothing.
pub async fn without_role(operator: &Operator) -> Result<Vec<TenantSlug>> {
    state::require_registry(operator).await?;
    if operator.config().isolation() == Isolation::Path {
        return Ok(Vec::new());
    }
    let fleet = state::facts_of_fleet(operator).await?;
    let lacking =
        |facts: &TenantFacts| facts.owner.is_some() && facts.has_ledger && !(facts.has_role && facts.role_admitted);
    Ok(fleet.into_iter().filter(|(_, facts)| lacking(facts)).map(|(slug, _)| slug).collect())
}

/// Makes the role of every tenant [`without_role`], with its rights, and lets the admitted logins act as it. Their schemas
/// and rows stay as they are, and services under path isolation go on working meanwhile.
///
/// # Locks
///
/// Each schema's migration lock, to the end of its message. A grant locks no table against readers or writers.
///
/// # Committed when
///
/// One tenant at a time, whole. Run again, it goes on with the rest.
///
/// # Errors
///
/// As [`without_role`]; kind `Denied`: the operator may not create roles. What fails for one tenant is in the report.
///
/// # Cancel safety
///
/// Dropped, the server may still finish the tenant under way.
pub async fn isolate(operator: &Operator) -> Result<IsolateReport> {
    let mut report = IsolateReport::default();
    let lacking = without_role(operator).await?;
    if !lacking.is_empty() && !operator.facts().creates_roles {
        let grant = format!("alter role {} createrole", quoted(&operator.facts().role));
        return Err(operator.facts().lacks("create roles, which isolation = \"role\" needs", grant));
    }
    for slug in lacking {
        match isolate_one(operator, &slug).await {
            Ok(()) => report.finished.push(slug),
            Err(error @ Error::ConnectionLost { .. }) => return Err(error),
            Err(error) => report.failed.push((slug, error)),
        }
    }
    Ok(report)
}

async fn isolate_one(operator: &Operator, slug: &TenantSlug) -> Result<()> {
    let (own, schema) = (operator.facts(), SchemaName::of_tenant(slug));
    let role = RoleName::of_tenant(slug, &own.database_tag());
    let facts = state::facts_of(operator, slug).await?;
    let logins = login::admitted(operator, slug).await?;
    if facts.has_role && !facts.role_grantable && (!facts.role_usable || logins.iter().any(|login| !login.may_enter)) {
        return Err(isolation::lacks_admin(own, &role));
    }
    let session = operator.session();
    let mut sql = format!(
        "select pg_catalog.set_config('lock_timeout', {}, true), pg_catalog.set_config('statement_timeout', {}, true);
select pg_catalog.pg_advisory_xact_lock({});\n",
        literal(&milliseconds(session.migration_wait)),
        literal(&milliseconds(session.migration_statement_timeout)),
        lock::migration_key(&schema),
    );
    sql.push_str(&isolation::role_sql(own, &role, facts.presence()));
    sql.push_str(&login::enter_by_role_sql(own, &role, &logins));
    let owner = facts.owner.filter(|owner| owner.as_str() != own.role);
    if let Some(owner) = &owner {
        sql.push_str(&format!("set local role {};\n", owner.quoted()));
    }
    sql.push_str(&isolation::grants_sql(&schema, role.ident()));
    sql.push_str(&ledger::protect_sql(&schema, role.ident()));
    let doing = || while_doing(format!("give tenant {slug} its role"));
    operator.reset_session().await.map_err(doing())?;
    match message::run(operator.client(), &sql).await.map_err(doing())?.complete() {
        Ok(_) => Ok(()),
        // Another run made the role while this one waited for the lock.
        Err(error) if error.code() == Some(&SqlState::DUPLICATE_OBJECT) => {
            let facts = state::facts_of(operator, slug).await?;
            if facts.role_admitted { Ok(()) } else { Err(doing()(error)) }
        }
        Err(source) if source.code() == Some(&SqlState::LOCK_NOT_AVAILABLE) => {
            Err(Error::Locked { schema, waited: session.migration_wait })
        }
        Err(source) if source.code() == Some(&SqlState::INSUFFICIENT_PRIVILEGE) && owner.is_some() => {
            let owner = owner.map_or_else(String::new, |owner| owner.quoted());
            let options = if own.major() >= 16 { " with set true" } else { "" };
            let grant = format!("grant {owner} to {}{options}", quoted(&own.role));
            Err(own.lacks(format!("act as {owner}, the owner of schema {:?}", schema.as_str()), grant))
        }
        Err(error) => Err(doing()(error)),
    }
}
