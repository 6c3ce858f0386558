//! The rights of a tenant's role outside of its schema. DROP OWNED revokes those that the operator granted, or that the
//! owner granted if the operator has the owner's rights. Of the others, the operator can only revoke those whose grantor
//! it may act as. As long as one is left, PostgreSQL does not drop the role.

use super::NAMED_MAX;
use crate::{
    db::{Operator, ServerFacts},
    error::{Result, while_doing},
    ident::{RoleName, SchemaName, literal},
};

/// Returns a query for the rights that DROP OWNED leaves: the REVOKE statement, its grantor, and whether the operator
/// may revoke it as that role.
///
/// Each kind of object is read from its own catalogue, because there is no general function that returns an access
/// list. Default privileges are missing: DROP OWNED removes them whoever set them.
fn left_sql(facts: &ServerFacts, schema: &SchemaName, role: &RoleName) -> String {
    let (schema, role) = (literal(schema.as_str()), literal(role.as_str()));
    let act = if facts.major() >= 16 { "SET" } else { "MEMBER" };
    let parameters = if facts.major() >= 15 {
        "union all select 'parameter', p.parname, 10, p.paracl, null
      from depends d join pg_catalog.pg_parameter_acl p on p.oid = d.objid
     where d.classid = 'pg_catalog.pg_parameter_acl'::pg_catalog.regclass"
    } else {
        ""
    };
    format!(
        "with own as (select r.oid, r.rolname from pg_catalog.pg_roles r where r.rolname::pg_catalog.text = {role}
), depends as (
    select d.classid, d.objid, d.objsubid
      from own join pg_catalog.pg_shdepend d
        on d.refclassid = 'pg_catalog.pg_authid'::pg_catalog.regclass and d.refobjid = own.oid and d.deptype = 'a'
     where d.dbid in (0, (select b.oid from pg_catalog.pg_database b where b.datname = pg_catalog.current_database()))
), held (kind, object, owner, acl, namespace) as (
    select case c.relkind when 'S' then 'sequence' else 'table' end, pg_catalog.format('%I.%I', n.nspname, c.relname),
           c.relowner, case d.objsubid when 0 then c.relacl else a.attacl end, n.oid
      from depends d join pg_catalog.pg_class c on c.oid = d.objid join pg_catalog.pg_namespace n on n.oid = c.relnamespace
      left join pg_catalog.pg_attribute a on a.attrelid = c.oid and a.attnum = d.objsubid
     where d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass and n.nspname::pg_catalog.text <> {schema}
    union all
    select 'routine', (select i.identity from pg_catalog.pg_identify_object(d.classid, d.objid, 0) i), f.proowner, f.proacl, n.oid
      from depends d join pg_catalog.pg_proc f on f.oid = d.objid join pg_catalog.pg_namespace n on n.oid = f.pronamespace
     where d.classid = 'pg_catalog.pg_proc'::pg_catalog.regclass and n.nspname::pg_catalog.text <> {schema}
    union all
    select 'type', pg_catalog.format('%I.%I', n.nspname, t.typname), t.typowner, t.typacl, n.oid
      from depends d join pg_catalog.pg_type t on t.oid = d.objid join pg_catalog.pg_namespace n on n.oid = t.typnamespace
     where d.classid = 'pg_catalog.pg_type'::pg_catalog.regclass and n.nspname::pg_catalog.text <> {schema}
    union all
    select 'schema', pg_catalog.format('%I', n.nspname), n.nspowner, n.nspacl, null
      from depends d join pg_catalog.pg_namespace n on n.oid = d.objid
     where d.classid = 'pg_catalog.pg_namespace'::pg_catalog.regclass and n.nspname::pg_catalog.text <> {schema}
    union all
    select 'database', pg_catalog.format('%I', b.datname), b.datdba, b.datacl, null
      from depends d join pg_catalog.pg_database b on b.oid = d.objid
     where d.classid = 'pg_catalog.pg_database'::pg_catalog.regclass
    union all
    select 'tablespace', pg_catalog.format('%I', s.spcname), s.spcowner, s.spcacl, null
      from depends d join pg_catalog.pg_tablespace s on s.oid = d.objid
     where d.classid = 'pg_catalog.pg_tablespace'::pg_catalog.regclass
    union all
    select 'language', pg_catalog.format('%I', l.lanname), l.lanowner, l.lanacl, null
      from depends d join pg_catalog.pg_language l on l.oid = d.objid
     where d.classid = 'pg_catalog.pg_language'::pg_catalog.regclass
    union all
    select 'foreign server', pg_catalog.format('%I', s.srvname), s.srvowner, s.srvacl, null
      from depends d join pg_catalog.pg_foreign_server s on s.oid = d.objid
     where d.classid = 'pg_catalog.pg_foreign_server'::pg_catalog.regclass
    union all
    select 'foreign data wrapper', pg_catalog.format('%I', w.fdwname), w.fdwowner, w.fdwacl, null
      from depends d join pg_catalog.pg_foreign_data_wrapper w on w.oid = d.objid
     where d.classid = 'pg_catalog.pg_foreign_data_wrapper'::pg_catalog.regclass
    union all
    select 'large object', m.oid::pg_catalog.text, m.lomowner, m.lomacl, null
      from depends d join pg_catalog.pg_largeobject_metadata m on m.oid = d.objid
     where d.classid = 'pg_catalog.pg_largeobject'::pg_catalog.regclass
    {parameters}
)
select distinct h.kind, h.object, g.rolname::pg_catalog.text as grantor,
       pg_catalog.format('revoke all on %s %s from %I%s', h.kind, h.object, own.rolname,
           case when exists (select from pg_catalog.aclexplode(h.acl) p where p.grantor = own.oid) then ' cascade' end) as revoke,
       pg_catalog.pg_has_role(a.grantor, '{act}')
           and (h.namespace is null or pg_catalog.has_schema_privilege(a.grantor, h.namespace, 'USAGE')) as revocable
  from own cross join held h cross join lateral pg_catalog.aclexplode(h.acl) a
  join pg_catalog.pg_roles g on g.oid = a.grantor
 where a.grantee = own.oid and not (a.grantor = h.owner and pg_catalog.pg_has_role(h.owner, 'USAGE'))"
    )
}

/// Returns the rights that prevent the drop of the role, each with the statement that revokes it.
pub(super) async fn blockers(operator: &Operator, schema: &SchemaName, role: &RoleName) -> Result<Vec<String>> {
    let doing = || while_doing(format!("look which rights role {:?} has", role.as_str()));
    let left = left_sql(operator.facts(), schema, role);
    let sql = format!(
        "select l.kind, l.object, l.grantor, l.revoke from ({left}) l where not l.revocable order by 1, 2, 3 limit {NAMED_MAX}"
    );
    let mut found = Vec::new();
    for row in operator.client().query_typed(&sql, &[]).await.map_err(doing())? {
        let text = |index: usize| row.try_get::<_, String>(index).map_err(doing());
        let (kind, object, grantor, revoke) = (text(0)?, text(1)?, text(2)?, text(3)?);
        found.push(format!("its role has rights on {kind} {object}: run `{revoke}` as role {grantor}"));
    }
    Ok(found)
}

/// Revokes the rights that DROP OWNED leaves and whose grantor the operator may act as.
pub(super) fn revoke_sql(facts: &ServerFacts, schema: &SchemaName, role: &RoleName) -> String {
    let left = left_sql(facts, schema, role);
    let body = format!(
        "declare statements text;
begin
    select pg_catalog.string_agg(pg_catalog.format('set local role %I; %s; reset role', l.grantor, l.revoke), '; ')
      into statements from ({left}) l where l.revocable;
    if statements is not null then
        execute statements;
    end if;
end"
    );
    format!("do {};\n", literal(&body))
}
