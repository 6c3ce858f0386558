//! Checks a role that has the name of a new organization's role, and that remains from an organization that had the
//! slug before.

use crate::{
    db::Operator,
    error::{Error, Result, TenantError, while_doing},
    ident::RoleName,
    registry,
    slug::TenantSlug,
};
use tokio_postgres::types::{ToSql, Type};

/// What a role owns or may access, one line each. It is one statement: a tenant that is being created meanwhile either
/// has its schema, and then its role is not checked, or has not granted anything to its role yet. pg_shdepend contains
/// entries of every database.
const HOLDS: &str = "
with role as (select r.* from pg_catalog.pg_roles r where r.rolname = $1),
login as (
    select r.oid from {admitted_logins}
),
line (text) as (
    select pg_catalog.format('it %s in %s (%s)', case d.deptype when 'o' then 'owns objects' else 'has rights' end,
        case d.dbid when 0 then 'the whole server' else coalesce('database ' || pg_catalog.quote_ident(b.datname::pg_catalog.text), 'a database') end,
        pg_catalog.count(*))
    from role r
    join pg_catalog.pg_shdepend d on d.refclassid = 'pg_catalog.pg_authid'::pg_catalog.regclass and d.refobjid = r.oid
        and d.classid <> 'pg_catalog.pg_auth_members'::pg_catalog.regclass
    left join pg_catalog.pg_database b on b.oid = d.dbid
    group by d.deptype = 'o', d.deptype, d.dbid, b.datname
union all
    select 'it is a member of ' || pg_catalog.quote_ident(g.rolname::pg_catalog.text)
    from role r join pg_catalog.pg_auth_members m on m.member = r.oid join pg_catalog.pg_roles g on g.oid = m.roleid
union all
    select 'role ' || pg_catalog.quote_ident(x.rolname::pg_catalog.text) || ' may act as it'
    from role r join pg_catalog.pg_auth_members m on m.roleid = r.oid join pg_catalog.pg_roles x on x.oid = m.member
    where not (x.rolsuper or x.rolcreaterole or x.rolname = session_user or x.oid in (select l.oid from login l))
union all
    select 'it has settings of its own' from role r where exists (select from pg_catalog.pg_db_role_setting s where s.setrole = r.oid)
union all
    select 'it has attributes such as login' from role r
    where r.rolsuper or r.rolcanlogin or r.rolcreaterole or r.rolcreatedb or r.rolreplication or r.rolbypassrls
)
select pg_catalog.string_agg(l.text, '; ' order by l.text collate pg_catalog.\"C\") from line l
where not ";

/// Refuses an existing role that owns or may access anything that the new organization would get.
pub(super) async fn refuse_role_in_use(operator: &Operator, slug: &TenantSlug, role: &RoleName) -> Result<()> {
    let doing = || while_doing(format!("look at what role {:?} has", role.as_str()));
    let params: [(&(dyn ToSql + Sync), Type); 2] = [(&role.as_str(), Type::NAME), (&slug.as_str(), Type::TEXT)];
    let sql = registry::sql::fill(HOLDS) + &registry::sql::is_created_sql("$2");
    let rows = operator.client().query_typed(&sql, &params).await.map_err(doing())?;
    let holds: Option<String> = rows.first().map(|row| row.try_get(0)).transpose().map_err(doing())?.flatten();
    match holds {
        None => Ok(()),
        Some(holds) => {
            Err(Error::Tenant(TenantError::RoleInUse { tenant: slug.clone(), role: role.as_str().to_owned(), holds }))
        }
    }
}
