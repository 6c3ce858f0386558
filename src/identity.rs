//! The identity of a database, and the guard of its registry: a table, a function and two triggers in `public`.
//!
//! Roles belong to the whole server and carry a tag that stands for the database. The tag is written down once, together with
//! the database's OID: a renamed database keeps both, a copy has another OID and knows by that that it is one.

use crate::{
    db::{Operator, identity::Identity, message, milliseconds},
    error::{Error, Result, while_doing},
    ident::{DatabaseTag, literal},
    lock,
};
use tokio_postgres::{
    error::SqlState,
    types::{ToSql, Type},
};

/// An expression: the OID of the current database.
const OWN_OID: &str = "(select d.oid from pg_catalog.pg_database d where d.datname = pg_catalog.current_database())";

/// Whether the registry refuses to give up an organization whose schema stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RegistryGuard {
    /// Its triggers are there.
    Present,
    /// This run made them.
    Made,
    /// The operator may not make them: another role owns the registry, or plpgsql may not be used.
    NotAllowed,
    /// The registry is a view, which can have no such trigger.
    NotPossible,
}

/// Writes the identity of the database down, unless it is written already.
///
/// A database that has no registry yet gets the tag of its name, or another one where roles of a database that is gone carry
/// that. One that an earlier version set up keeps the tag that its tenants' roles carry.
///
/// # Errors
///
/// [`Error::DatabaseCopied`]: its schemas are granted to the roles of another database that is still there.
pub(crate) async fn ensure(operator: &Operator) -> Result<()> {
    if operator.facts().recorded_tag().is_some() {
        return Ok(());
    }
    let tag = first_tag(operator).await?;
    write(operator, &tag, "").await
}

/// Gives a copy an identity of its own; one that has its own keeps it. Returns whether it was a copy.
pub(crate) async fn renew(operator: &Operator) -> Result<bool> {
    let doing = || while_doing("look at the identity of the database");
    let (name, identity) = crate::db::identity::read(operator.client()).await.map_err(doing())?;
    match identity {
        Identity::Recorded(_) => Ok(false),
        Identity::Unrecorded => {
            let tag = free_tag(operator, &name).await?;
            let foreign = granted_tags(operator).await?.iter().any(|granted| *granted != tag);
            write(operator, &tag, "").await?;
            Ok(foreign)
        }
        Identity::Copied => {
            let tag = free_tag(operator, &name).await?;
            write(operator, &tag, "drop table public.cgk_database;\n").await?;
            Ok(true)
        }
    }
}

/// Whether the database has an identity that is its own.
pub(crate) async fn is_own(operator: &Operator) -> Result<bool> {
    let doing = || while_doing("look at the identity of the database");
    let (_, identity) = crate::db::identity::read(operator.client()).await.map_err(doing())?;
    Ok(matches!(identity, Identity::Recorded(_)))
}

/// The tag that a database gets that has none.
async fn first_tag(operator: &Operator) -> Result<DatabaseTag> {
    let name = &operator.facts().database;
    let of_name = DatabaseTag::of(name);
    let granted = granted_tags(operator).await?;
    match granted.as_slice() {
        [] if has_registry(operator).await? => Ok(of_name),
        [] => free_tag(operator, name).await,
        tags if tags.contains(&of_name) => Ok(of_name),
        [tag] if !is_anothers(operator, tag).await? => Ok(tag.clone()),
        _ => Err(Error::DatabaseCopied { database: name.clone() }),
    }
}

/// The tag of the name, or a random one where tenants' roles carry that already.
async fn free_tag(operator: &Operator, name: &str) -> Result<DatabaseTag> {
    let tag = DatabaseTag::of(name);
    let sql = "select exists (select from pg_catalog.pg_roles r where not r.rolcanlogin
               and pg_catalog.starts_with(r.rolname::pg_catalog.text, 'cgk_') and pg_catalog.right(r.rolname::pg_catalog.text, 11) = '_' || $1)";
    let taken = truth(operator, sql, tag.as_str()).await?;
    Ok(if taken { DatabaseTag::random() } else { tag })
}

async fn has_registry(operator: &Operator) -> Result<bool> {
    truth(operator, "select pg_catalog.to_regclass($1) is not null", "public.organizations").await
}

/// Whether the tag is that of another database's name on this server.
async fn is_anothers(operator: &Operator, tag: &DatabaseTag) -> Result<bool> {
    let sql = "select exists (select from pg_catalog.pg_database d where d.datname <> pg_catalog.current_database()
               and pg_catalog.left(pg_catalog.encode(pg_catalog.sha256(pg_catalog.convert_to(d.datname::pg_catalog.text, 'UTF8')), 'hex'), 10) = $1)";
    truth(operator, sql, tag.as_str()).await
}

async fn truth(operator: &Operator, sql: &str, text: &str) -> Result<bool> {
    let doing = || while_doing("look at the identity of the database");
    let params: [(&(dyn ToSql + Sync), Type); 1] = [(&text, Type::TEXT)];
    let rows = operator.client().query_typed(sql, &params).await.map_err(doing())?;
    rows.first().map(|row| row.try_get(0)).transpose().map(Option::unwrap_or_default).map_err(doing())
}

/// The tags of the tenants' roles that may use their tenants' schemas.
async fn granted_tags(operator: &Operator) -> Result<Vec<DatabaseTag>> {
    if !has_registry(operator).await? {
        return Ok(Vec::new());
    }
    let doing = || while_doing("look at the roles of tenants");
    let sql = "select distinct pg_catalog.right(r.rolname::pg_catalog.text, 10) from public.organizations o
               join pg_catalog.pg_namespace n on n.nspname::pg_catalog.text = 'tenant_' || o.slug::pg_catalog.text
               cross join pg_catalog.aclexplode(n.nspacl) a join pg_catalog.pg_roles r on r.oid = a.grantee
               where pg_catalog.left(r.rolname::pg_catalog.text, -10) = 'cgk_' || o.slug::pg_catalog.text || '_' and not r.rolcanlogin";
    let rows = operator.client().query_typed(sql, &[]).await.map_err(doing())?;
    let tags: Result<Vec<String>, _> = rows.iter().map(|row| row.try_get(0)).collect();
    Ok(tags.map_err(doing())?.iter().filter_map(|tag| DatabaseTag::recorded(tag)).collect())
}

async fn write(operator: &Operator, tag: &DatabaseTag, before: &str) -> Result<()> {
    let isolation = operator.config().isolation().as_str();
    let doing = || while_doing("write down the identity of the database");
    let oid =
        "select d.oid::pg_catalog.text from pg_catalog.pg_database d where d.datname = pg_catalog.current_database()";
    let rows = operator.client().query_typed(oid, &[]).await.map_err(doing())?;
    let oid: String = rows.first().map(|row| row.try_get(0)).transpose().map_err(doing())?.unwrap_or_default();
    // The function is parsed here and now, so no search_path can redirect it. Its values are constants: whoever may call it
    // needs no right on the table.
    let sql = format!(
        "select pg_catalog.set_config('lock_timeout', {timeout}, true), pg_catalog.set_config('search_path', '', true);
select pg_catalog.pg_advisory_xact_lock({key});
{before}create table public.cgk_database (
    one pg_catalog.bool primary key default true check (one),
    tag pg_catalog.text not null,
    database_oid pg_catalog.oid not null,
    isolation pg_catalog.text not null check (isolation in ('role', 'path')),
    recorded_at pg_catalog.timestamptz not null default pg_catalog.now()
);
revoke all on public.cgk_database from public;
comment on table public.cgk_database is 'Which database this is. Written by cgk setup:database.';
insert into public.cgk_database (tag, database_oid, isolation) values ({tag}, {oid}::pg_catalog.oid, {isolation});
create or replace function public.cgk_database_tag() returns pg_catalog.text stable parallel safe
    return case when {OWN_OID} = {oid}::pg_catalog.oid then {tag}::pg_catalog.text end;
grant execute on function public.cgk_database_tag() to public;
comment on function public.cgk_database_tag() is
    'What stands for this database in the names of its roles; null in a copy of it. Written by cgk setup:database.';",
        timeout = literal(&milliseconds(operator.session().lock_timeout)),
        key = lock::database_key(),
        tag = literal(tag.as_str()),
        oid = literal(&oid),
        isolation = literal(isolation),
    );
    match message::run(operator.client(), &sql).await.map_err(doing())?.complete() {
        Ok(_) => operator.facts().record_tag(tag.clone()),
        // Somebody else was quicker; the lock made us wait until they had.
        Err(error) if error.code() == Some(&SqlState::DUPLICATE_TABLE) => {
            match crate::db::identity::read(operator.client()).await.map_err(doing())?.1 {
                Identity::Recorded(tag) => operator.facts().record_tag(tag),
                _ => return Err(doing()(error)),
            }
        }
        Err(error) => return Err(doing()(error)),
    }
    Ok(())
}

/// Makes the triggers that keep an organization in the registry while its schema stands.
pub(crate) async fn guard_registry(operator: &Operator) -> Result<RegistryGuard> {
    let doing = || while_doing("guard the registry");
    let sql = "select c.relkind::pg_catalog.text, (select pg_catalog.count(*) from pg_catalog.pg_trigger t where t.tgrelid = c.oid
                      and t.tgname in ('cgk_registry_delete', 'cgk_registry_update', 'cgk_registry_truncate'))
               from pg_catalog.pg_class c where c.oid = pg_catalog.to_regclass('public.organizations')";
    let rows = operator.client().query_typed(sql, &[]).await.map_err(doing())?;
    let Some(row) = rows.first() else { return Ok(RegistryGuard::NotPossible) };
    let (kind, triggers): (String, i64) = (row.try_get(0).map_err(doing())?, row.try_get(1).map_err(doing())?);
    match (kind.as_str(), triggers) {
        ("r" | "p", 3) => return Ok(RegistryGuard::Present),
        ("r" | "p", _) => {}
        _ => return Ok(RegistryGuard::NotPossible),
    }
    let sql = format!(
        "select pg_catalog.set_config('lock_timeout', {}, true), pg_catalog.set_config('search_path', '', true);
select pg_catalog.pg_advisory_xact_lock({});
{}",
        literal(&milliseconds(operator.session().lock_timeout)),
        lock::database_key(),
        include_str!("identity/registry_guard.sql"),
    );
    match message::run(operator.client(), &sql).await.map_err(doing())?.complete() {
        Ok(_) => Ok(RegistryGuard::Made),
        Err(error) => match error.code() {
            Some(&(SqlState::INSUFFICIENT_PRIVILEGE | SqlState::UNDEFINED_OBJECT)) => Ok(RegistryGuard::NotAllowed),
            Some(&SqlState::DUPLICATE_OBJECT) => Ok(RegistryGuard::Present),
            _ => Err(doing()(error)),
        },
    }
}
