//! Creates the missing role of every tenant: for a fleet that was created under path isolation, or restored on another
//! server.

use crate::{
    access::isolation,
    access::login,
    config::{Config, Isolation},
    db::{
        Operator,
        message_head::{Hold, MessageHead},
    },
    error::{ConnectionError, Error, MigrationError, Result, while_doing},
    ident::{Ident, RoleName, SchemaName, quoted},
    migrate::execute::schema_lock,
    registry::{self, TenantFacts},
    slug::TenantSlug,
};
use tokio_postgres::error::SqlState;

/// The result of a fleet.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct IsolateReport {
    /// Tenants that got their role or its rights.
    pub finished: Vec<TenantSlug>,
    /// Tenants that failed, with their errors.
    pub failed: Vec<(TenantSlug, Error)>,
}

/// Returns the tenants that have a schema and a ledger, but cannot be entered under role isolation, because their role
/// or its right to the schema is missing. Under path isolation, which needs neither, the result is empty.
///
/// # Errors
///
/// - Kind `NotReady`: there is no registry.
/// - Kinds `Unavailable` and `Failed`: an error of the server.
///
/// # Cancel safety
///
/// Writes nothing.
pub async fn without_role(operator: &Operator) -> Result<Vec<TenantSlug>> {
    registry::require(operator).await?;
    if operator.config().isolation() == Isolation::Path {
        return Ok(Vec::new());
    }
    let fleet = registry::facts_of_fleet(operator).await?;
    let lacking =
        |facts: &TenantFacts| facts.owner.is_some() && facts.has_ledger && !(facts.has_role && facts.role_admitted);
    Ok(fleet.tenants.into_iter().filter(|(_, facts)| lacking(facts)).map(|(slug, _)| slug).collect())
}

/// Creates the role of every tenant in [`without_role`], with its rights, and lets the admitted logins act as it.
/// Schemas and rows are not changed, and services under path isolation continue to work meanwhile.
///
/// # Locks
///
/// Each schema's migration lock, until its transaction ends. A grant locks no table against readers or writers.
///
/// # Committed when
///
/// One tenant at a time, completely. A second call continues with the remaining tenants.
///
/// # Errors
///
/// Those of [`without_role`]. Kind `Denied`: the operator may not create roles. An error in one tenant is in the
/// report.
///
/// # Cancel safety
///
/// If the future is dropped, the server may still finish the current tenant.
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
            Err(error @ Error::Connection(ConnectionError::Lost { .. })) => return Err(error),
            Err(error) => report.failed.push((slug, error)),
        }
    }
    Ok(report)
}

/// The result of [`new_identity`].
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct NewIdentity {
    /// Whether the database was a copy. If it was not, it already had its own identity, which was not changed.
    pub was_copy: bool,
    /// Logins of services that the other database had admitted. They are no longer admitted in this one.
    pub logins: Vec<String>,
    /// Tenants that have their own role and rights now, and on which no role of another database has any right.
    pub finished: Vec<TenantSlug>,
    /// Tenants that failed, with their errors.
    pub failed: Vec<(TenantSlug, Error)>,
}

/// Creates a separate identity for the copy of a database. It gets its own tag, which is part of the role names, and a
/// role with its rights for every tenant. The rights of the other database's roles and logins on its schemas and shared
/// tables are revoked. The other database is not changed. A database that was moved to another server is a copy too,
/// and so is one that got another OID in an upgrade.
///
/// # Locks
///
/// Each shared table exclusively, for a short time, if a policy is dropped. Then each schema's migration lock, until
/// its transaction ends.
///
/// # Committed when
///
/// First the identity, then the logins in one transaction, then one tenant at a time. A second call continues with the
/// remaining tenants.
///
/// # Errors
///
/// - Kind `Denied`: the operator may not create roles, schemas or tables in `public`, or does not own the shared
///   tables.
/// - Kind `NotReady`: there is no registry.
///
/// An error in one tenant is in the report.
///
/// # Cancel safety
///
/// If the future is dropped, the server may still finish the current transaction. Call it again to continue. Until
/// then, the remaining tenants cannot be entered.
pub async fn new_identity(config: &Config) -> Result<NewIdentity> {
    let (operator, _) = Operator::connect_to_any(config).await?;
    operator.refuse_isolation()?;
    registry::require(&operator).await?;
    let by_role = operator.config().isolation() == Isolation::Role;
    if by_role && !operator.facts().creates_roles {
        let grant = format!("alter role {} createrole", quoted(&operator.facts().role));
        return Err(operator.facts().lacks("create roles, which isolation = \"role\" needs", grant));
    }
    require_own_tables(&operator).await?;
    // The logins are first, because a new role of a tenant is granted to the admitted logins.
    let logins =
        if crate::identity::is_own(&operator).await? { Vec::new() } else { login::admitted_names(&operator).await? };
    let fleet = registry::facts_of_fleet(&operator).await?;
    login::dismiss(&operator, &logins).await?;
    let was_copy = crate::identity::renew(&operator).await?;
    let names: Vec<String> = logins.iter().map(|login| login.as_str().to_owned()).collect();
    let mut report = NewIdentity { was_copy, logins: names, ..NewIdentity::default() };
    for (slug, facts) in fleet.tenants.into_iter().filter(|(_, facts)| facts.owner.is_some() && facts.has_ledger) {
        let cleared = clear_one(&operator, &slug, facts.owner.as_ref(), &logins).await;
        let done = match cleared {
            Ok(()) if by_role => isolate_one(&operator, &slug).await,
            cleared => cleared,
        };
        match done {
            Ok(()) => report.finished.push(slug),
            Err(error @ Error::Connection(ConnectionError::Lost { .. })) => return Err(error),
            Err(error) => report.failed.push((slug, error)),
        }
    }
    Ok(report)
}

/// Refuses a role that may not record the identity or create missing tables. Usually a copy has another owner.
async fn require_own_tables(operator: &Operator) -> Result<()> {
    let doing = || while_doing("look at the rights on the shared schema");
    let sql = "select pg_catalog.has_schema_privilege('public', 'create')";
    let row = operator.client().query_typed_one(sql, &[]).await.map_err(doing())?;
    if row.try_get(0).map_err(doing())? {
        return operator.facts().require_schema_creation();
    }
    let role = quoted(&operator.facts().role);
    let mut grant = format!("grant create on schema public to {role}");
    if operator.facts().require_schema_creation().is_err() {
        grant.push_str(&format!("; grant create on database {} to {role}", quoted(&operator.facts().database)));
    }
    Err(operator.facts().lacks("create tables in schema public", grant))
}

/// Revokes the rights on a tenant's schema from the roles of other databases, and from these logins.
async fn clear_one(operator: &Operator, slug: &TenantSlug, owner: Option<&Ident>, logins: &[Ident]) -> Result<()> {
    let (own, schema) = (operator.facts(), SchemaName::of_tenant(slug));
    let what = || format!("take the rights of other databases' roles on schema {:?}", schema.as_str());
    let doing = || while_doing(what());
    let mut grantees = logins.to_vec();
    grantees.extend(isolation::roles_of_other_databases(operator, &schema).await?);
    if grantees.is_empty() {
        return Ok(());
    }
    let wait = operator.session().migration_wait;
    let mut sql = MessageHead::of(operator).lock_timeout(wait).lock_schema(&schema, Hold::Exclusive).sql();
    if let Some(owner) = owner.filter(|owner| owner.as_str() != own.role) {
        sql.push_str(&format!("set local role {};\n", owner.quoted()));
    }
    for grantee in &grantees {
        sql.push_str(&isolation::revoke_sql(&schema, grantee));
    }
    let answer = schema_lock::run(operator, &schema, &sql, wait, what).await?;
    answer.complete().map(drop).map_err(doing())
}

async fn isolate_one(operator: &Operator, slug: &TenantSlug) -> Result<()> {
    let (own, schema) = (operator.facts(), SchemaName::of_tenant(slug));
    let role = RoleName::of_tenant(slug, &own.database_tag());
    let facts = registry::facts_of(operator, slug).await?;
    let logins = login::admitted(operator, slug).await?;
    if facts.has_role && !facts.role_grantable && (!facts.role_usable || logins.iter().any(|login| !login.may_enter)) {
        return Err(isolation::lacks_admin(own, &role));
    }
    let session = operator.session();
    let head = MessageHead::of(operator)
        .lock_timeout(session.migration_wait)
        .statement_timeout(session.migration_statement_timeout)
        .lock_schema(&schema, Hold::Exclusive);
    let mut sql = head.sql();
    sql.push_str(&isolation::role_sql(own, &role, facts.presence()));
    sql.push_str(&login::enter_by_role_sql(own, &role, &logins));
    let owner = facts.owner.filter(|owner| owner.as_str() != own.role);
    if let Some(owner) = &owner {
        sql.push_str(&format!("set local role {};\n", owner.quoted()));
    }
    sql.push_str(&isolation::grants_sql(&schema, role.ident()));
    sql.push_str(&isolation::protect_ledger_sql(&schema, role.ident()));
    let what = || format!("create the role of tenant {slug}");
    let doing = || while_doing(what());
    operator.reset_session().await.map_err(doing())?;
    match schema_lock::run(operator, &schema, &sql, session.migration_wait, what).await?.complete() {
        Ok(_) => Ok(()),
        // Another run created the role while this one waited for the lock.
        Err(error) if error.code() == Some(&SqlState::DUPLICATE_OBJECT) => {
            let facts = registry::facts_of(operator, slug).await?;
            if facts.role_admitted { Ok(()) } else { Err(doing()(error)) }
        }
        Err(source) if source.code() == Some(&SqlState::LOCK_NOT_AVAILABLE) => {
            Err(Error::Migration(MigrationError::Locked { schema, waited: session.migration_wait }))
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
