//! How a database separates its tenants, recorded as a function that returns a constant: the statement that enters a
//! tenant calls it, and the server evaluates it during planning.

use crate::{
    config::{Isolation, IsolationModes},
    db::{
        Operator,
        identity::{accepts_sql, refuse_isolation},
        message,
        message_head::MessageHead,
    },
    error::{Result, while_doing},
    ident::literal,
    lock, registry,
};
use tokio_postgres::{error::SqlState, types::Type};

/// Returns how the database separates tenants: the recorded value, or else as its tenants show.
pub(crate) async fn of(operator: &Operator) -> Result<IsolationModes> {
    let configured = IsolationModes::only(operator.config().isolation());
    Ok(known(operator).await?.unwrap_or(configured))
}

/// Returns the same, or `None` if nothing is recorded and no tenant shows it.
pub(crate) async fn known(operator: &Operator) -> Result<Option<IsolationModes>> {
    match operator.isolation_modes().await? {
        Some(modes) => Ok(Some(modes)),
        None => found(operator).await,
    }
}

/// Finds out how the tenants of a database are separated if an earlier version recorded nothing. It looks for a
/// tenant's role that may use the tenant's schema, and for rights of admitted logins on the schemas, which only path
/// isolation grants. If both exist, the fleet is changing to the configured isolation.
async fn found(operator: &Operator) -> Result<Option<IsolationModes>> {
    let doing = || while_doing("look at how tenants are kept apart");
    let configured = operator.config().isolation();
    if !registry::exists(operator).await? {
        return Ok(None);
    }
    let sql = registry::sql::fill(
        "
        with tenant (nsp, role) as (
            select n.oid, r.oid from {tenant_schemas}
            join pg_catalog.pg_class c on c.relnamespace = n.oid and c.relname = 'schema_migrations' and c.relkind in ('r', 'p')
            left join pg_catalog.pg_roles r on r.rolname::pg_catalog.text = 'cgk_' || o.slug::pg_catalog.text || '_' || $1
                                           and pg_catalog.has_schema_privilege(r.oid, n.oid, 'usage'))
        select exists (select from tenant t where t.role is not null),
               exists (select from tenant t where t.role is null)
               or exists (select from tenant t, {admitted_logins}
                          where pg_catalog.has_schema_privilege(r.oid, t.nsp, 'usage'))",
    );
    let tag = super::tag_of(operator).await?;
    let rows = operator.client().query_typed(&sql, &[(&tag.as_str(), Type::TEXT)]).await.map_err(doing())?;
    let Some(row) = rows.first() else { return Ok(None) };
    let (by_role, by_path): (bool, bool) = (row.try_get(0).map_err(doing())?, row.try_get(1).map_err(doing())?);
    Ok(match (by_role, by_path) {
        (true, true) => Some(IsolationModes::changing_to(configured)),
        (true, false) => Some(IsolationModes::only(Isolation::Role)),
        (false, true) => Some(IsolationModes::only(Isolation::Path)),
        (false, false) => None,
    })
}

/// Records the isolation, unless it is already recorded.
pub(crate) async fn record(operator: &Operator, modes: IsolationModes) -> Result<()> {
    let doing = || while_doing("write down the isolation of the database");
    if operator.isolation_modes().await?.is_some() {
        return Ok(());
    }
    match message::run(operator.client(), &sql(operator, "create", modes)).await.map_err(doing())?.complete() {
        Ok(_) => Ok(()),
        // Another session was faster, and the lock made this one wait.
        Err(error) if error.code() == Some(&SqlState::DUPLICATE_FUNCTION) => {
            let modes = operator.isolation_modes().await?;
            refuse_isolation(&operator.facts().database, modes, operator.config())
        }
        Err(error) => Err(doing()(error)),
    }
}

/// Returns the start of a message that creates a tenant: waits for a running change of the isolation, and raises
/// `division_by_zero` if the database no longer accepts the operator's. The change, in turn, waits for the message.
/// Empty if no setup has recorded the isolation.
pub(crate) fn demand_sql(operator: &Operator) -> String {
    if operator.facts().isolation.is_none() {
        return String::new();
    }
    format!(
        "select pg_catalog.pg_advisory_xact_lock_shared({});\nselect 1 / (case when {} then 1 else 0 end);\n",
        lock::database_key(),
        accepts_sql(operator.config().isolation()),
    )
}

/// Refuses an operator whose isolation the database no longer accepts since the operator connected.
pub(crate) async fn refuse_changed(operator: &Operator) -> Result<()> {
    let modes = operator.isolation_modes().await?;
    refuse_isolation(&operator.facts().database, modes, operator.config())
}

/// Starts a transaction during which no other session can create a tenant or record an isolation. The caller ends it.
pub(crate) async fn begin_alone(operator: &Operator) -> Result<()> {
    let wait = operator.session().migration_wait;
    let sql = MessageHead::begin(operator).lock_timeout(wait).lock(lock::database_key()).sql();
    let doing = || while_doing("wait for tenants that are being created");
    message::run(operator.client(), &sql).await.map_err(doing())?.complete().map(drop).map_err(doing())
}

/// Records another isolation. Existing plans are discarded and made again.
pub(crate) async fn replace(operator: &Operator, modes: IsolationModes) -> Result<()> {
    let doing = || while_doing("change the isolation of the database");
    let sql = sql(operator, "create or replace", modes);
    message::run(operator.client(), &sql).await.map_err(doing())?.complete().map(drop).map_err(doing())
}

fn sql(operator: &Operator, create: &str, modes: IsolationModes) -> String {
    format!(
        "{head}{create} function public.cgk_isolation_modes() returns pg_catalog.text stable parallel safe
    return {modes}::pg_catalog.text;
grant execute on function public.cgk_isolation_modes() to public;
comment on function public.cgk_isolation_modes() is
    'How this database keeps tenants apart, and behind it what it accepts besides while that is being changed. Written by cgk setup:database.';",
        head = MessageHead::of(operator)
            .lock_timeout(operator.session().lock_timeout)
            .search_path("")
            .lock(lock::database_key())
            .sql(),
        modes = literal(&modes.text()),
    )
}
