//! The identity of a database, and how it separates tenants: a table and functions in `public`.
//!
//! Roles belong to the complete server, and their names contain a tag that represents the database. The tag is recorded
//! once, together with the database's OID. A rename of the database changes neither. A copy has another OID, which
//! shows that it is a copy.

pub(crate) mod isolation;

use crate::{
    config::{Isolation, IsolationModes},
    db::{Operator, identity::DatabaseIdentity, message, message_head::MessageHead, own_table},
    error::{Error, Result, SetupError, while_doing},
    ident::{DatabaseTag, literal},
    lock, registry,
};
use tokio_postgres::{
    error::SqlState,
    types::{ToSql, Type},
};

/// An expression: the OID of the current database, as text. It is the folder of its files, in every tablespace.
///
/// It is not a query, because the server inlines the body of a function without a query. With a query, the server would
/// parse, plan and run the function in each transaction, which took two thirds of the time of `cgk_enter`. Every policy
/// that checks the tenant would also be slower.
const OWN_OID: &str = "pg_catalog.split_part(pg_catalog.pg_relation_filepath(\
                       'pg_catalog.pg_class'::pg_catalog.regclass), '/', -2)";

/// Records the identity of the database, unless it is already recorded.
///
/// A database without a registry gets the tag of its name, or another one if roles of a former database have that tag.
/// A database of an earlier version keeps the tag of its tenants' roles.
///
/// # Errors
///
/// - [`SetupError::DatabaseCopied`]: its schemas are granted to the roles of another database that still exists.
/// - [`SetupError::IsolationMismatch`]: its tenants are separated in another way than configured.
/// - [`SetupError::Privilege`]: nothing shows how its tenants are separated, and the operator lacks the right that the
///   configured isolation needs.
pub(crate) async fn ensure(operator: &Operator) -> Result<()> {
    if operator.facts().recorded_tag().is_some() && operator.facts().isolation.is_some() {
        return Ok(());
    }
    // This refuses before anything is written.
    let known = isolation::known(operator).await?;
    crate::db::identity::refuse_isolation(&operator.facts().database, known, operator.config())?;
    let configured = operator.config().isolation();
    // Without the right to create roles, no tenant could be created, and a change to the other isolation would take two
    // steps.
    if known.is_none() && configured == Isolation::Role {
        operator.facts().require_role_creation()?;
    }
    ensure_tag(operator).await?;
    isolation::record(operator, known.unwrap_or(IsolationModes::only(configured))).await
}

/// Records the tag of the database, unless it is already recorded.
pub(crate) async fn ensure_tag(operator: &Operator) -> Result<()> {
    if operator.facts().recorded_tag().is_some() {
        return Ok(());
    }
    let tag = first_tag(operator).await?;
    write(operator, &tag, "").await
}

/// Returns the recorded tag, or the one that the database would get.
async fn tag_of(operator: &Operator) -> Result<DatabaseTag> {
    match operator.facts().recorded_tag() {
        Some(tag) => Ok(tag.clone()),
        None => first_tag(operator).await,
    }
}

/// Records a new identity for a copy. A database with its own identity is not changed. Returns whether it was a copy.
pub(crate) async fn renew(operator: &Operator) -> Result<bool> {
    let (name, identity) = operator.identity().await?;
    match identity {
        DatabaseIdentity::Recorded(_) => Ok(false),
        DatabaseIdentity::Unrecorded => {
            let tag = free_tag(operator, &name).await?;
            let foreign = granted_tags(operator).await?.iter().any(|granted| *granted != tag);
            write(operator, &tag, "").await?;
            Ok(foreign)
        }
        DatabaseIdentity::Copied => {
            let tag = free_tag(operator, &name).await?;
            write(operator, &tag, "drop table public.cgk_database;\n").await?;
            Ok(true)
        }
    }
}

/// Returns whether the database has its own identity.
pub(crate) async fn is_own(operator: &Operator) -> Result<bool> {
    let (_, identity) = operator.identity().await?;
    Ok(matches!(identity, DatabaseIdentity::Recorded(_)))
}

/// Returns the tag for a database without one.
async fn first_tag(operator: &Operator) -> Result<DatabaseTag> {
    let name = &operator.facts().database;
    let of_name = DatabaseTag::of(name);
    let granted = granted_tags(operator).await?;
    match granted.as_slice() {
        [] if registry::exists(operator).await? => Ok(of_name),
        [] => free_tag(operator, name).await,
        tags if tags.contains(&of_name) => Ok(of_name),
        [tag] if !is_anothers(operator, tag).await? => Ok(tag.clone()),
        _ => Err(Error::Setup(SetupError::DatabaseCopied { database: name.clone() })),
    }
}

/// Returns the tag of the name, or a random one if tenants' roles already have that tag.
async fn free_tag(operator: &Operator, name: &str) -> Result<DatabaseTag> {
    let tag = DatabaseTag::of(name);
    let sql = "select exists (select from pg_catalog.pg_roles r where not r.rolcanlogin
               and pg_catalog.starts_with(r.rolname::pg_catalog.text, 'cgk_') and pg_catalog.right(r.rolname::pg_catalog.text, 11) = '_' || $1)";
    let taken = truth(operator, sql, tag.as_str()).await?;
    Ok(if taken { DatabaseTag::random() } else { tag })
}

/// Returns whether the tag belongs to the name of another database on this server.
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

/// Returns the tags of the tenants' roles that may use their tenants' schemas.
async fn granted_tags(operator: &Operator) -> Result<Vec<DatabaseTag>> {
    if !registry::exists(operator).await? {
        return Ok(Vec::new());
    }
    let doing = || while_doing("look at the roles of tenants");
    let sql = format!(
        "select distinct pg_catalog.right(r.rolname::pg_catalog.text, 10) from {}
               cross join pg_catalog.aclexplode(n.nspacl) a join pg_catalog.pg_roles r on r.oid = a.grantee
               where pg_catalog.left(r.rolname::pg_catalog.text, -10) = 'cgk_' || o.slug::pg_catalog.text || '_' and not r.rolcanlogin",
        registry::sql::TENANT_SCHEMAS
    );
    let rows = operator.client().query_typed(&sql, &[]).await.map_err(doing())?;
    let tags: Result<Vec<String>, _> = rows.iter().map(|row| row.try_get(0)).collect();
    Ok(tags.map_err(doing())?.iter().filter_map(|tag| DatabaseTag::recorded(tag)).collect())
}

async fn write(operator: &Operator, tag: &DatabaseTag, before: &str) -> Result<()> {
    let doing = || while_doing("write down the identity of the database");
    let oid =
        "select d.oid::pg_catalog.text from pg_catalog.pg_database d where d.datname = pg_catalog.current_database()";
    let rows = operator.client().query_typed(oid, &[]).await.map_err(doing())?;
    let oid: String = rows.first().map(|row| row.try_get(0)).transpose().map_err(doing())?.unwrap_or_default();
    // The function is parsed now, so no search_path can change its meaning. Its values are constants, so a caller needs
    // no right on the table.
    let sql = format!(
        "{head}{before}create table public.cgk_database (
    one pg_catalog.bool primary key default true check (one),
    tag pg_catalog.text not null,
    database_oid pg_catalog.oid not null,
    recorded_at pg_catalog.timestamptz not null default pg_catalog.now()
);
{close}comment on table public.cgk_database is 'Which database this is. Written by cgk setup:database.';
insert into public.cgk_database (tag, database_oid) values ({tag}, {oid}::pg_catalog.oid);
create or replace function public.cgk_database_tag() returns pg_catalog.text stable parallel safe
    return case when {OWN_OID} = {oid}::pg_catalog.text then {tag}::pg_catalog.text end;
grant execute on function public.cgk_database_tag() to public;
comment on function public.cgk_database_tag() is
    'What stands for this database in the names of its roles; null in a copy of it. Written by cgk setup:database.';",
        head = MessageHead::of(operator)
            .lock_timeout(operator.session().lock_timeout)
            .search_path("")
            .lock(lock::database_key())
            .sql(),
        tag = literal(tag.as_str()),
        oid = literal(&oid),
        close = own_table::close_sql(&["public.cgk_database"]),
    );
    match message::run(operator.client(), &sql).await.map_err(doing())?.complete() {
        Ok(_) => operator.facts().record_tag(tag.clone()),
        // Another session created the table first, and the lock made this session wait.
        Err(error) if error.code() == Some(&SqlState::DUPLICATE_TABLE) => match operator.identity().await?.1 {
            DatabaseIdentity::Recorded(tag) => operator.facts().record_tag(tag),
            _ => return Err(doing()(error)),
        },
        Err(error) => return Err(doing()(error)),
    }
    Ok(())
}
