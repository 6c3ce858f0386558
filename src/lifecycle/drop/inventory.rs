//! Finds the parts of a tenant, and the objects outside of it that depend on them. Only reads.

use super::{
    Doomed, NAMED_MAX,
    batches::{Relation, RelationKind},
    rights,
};
use crate::{
    db::Operator,
    error::{Error, Result, while_doing},
    ident::{Ident, RoleName, SchemaName, literal, quoted},
    migration::LEDGER_TABLE,
    registry,
    slug::TenantSlug,
    tenant::OrganizationId,
};
use tokio_postgres::{
    error::SqlState,
    types::{ToSql, Type},
};

/// Selects the relations of a schema by their dependency on it, because pg_class has no index on the schema.
fn relations_of(schema: &SchemaName, joined: &str) -> String {
    format!(
        "pg_catalog.pg_namespace n
join pg_catalog.pg_depend d on d.refclassid = 'pg_catalog.pg_namespace'::pg_catalog.regclass and d.refobjid = n.oid
                           and d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass and d.objsubid = 0
join pg_catalog.pg_class c on c.oid = d.objid
{joined} where n.nspname::pg_catalog.text = {}",
        literal(schema.as_str())
    )
}

/// Returns how many large objects a role owns.
pub(super) async fn large_objects(operator: &Operator, role: Option<&RoleName>) -> Result<u64> {
    let doing = || while_doing("count the large objects of a tenant's role");
    let sql = "select pg_catalog.count(*) from pg_catalog.pg_largeobject_metadata l join pg_catalog.pg_roles r on r.oid = l.lomowner
         where r.rolname::pg_catalog.text = $1";
    let role = role.map_or("", RoleName::as_str);
    let row = operator.client().query_typed_one(sql, &[(&role, Type::TEXT)]).await.map_err(doing())?;
    let number: i64 = row.try_get(0).map_err(doing())?;
    Ok(u64::try_from(number).unwrap_or(0))
}

/// Returns the relations that are dropped in batches, and which table needs which other one. The ledger is not
/// included: it is dropped with the schema.
pub(super) async fn relations(operator: &Operator, schema: &SchemaName) -> Result<(Vec<Relation>, Vec<(i64, i64)>)> {
    let doing = || while_doing(format!("look which tables schema {:?} has", schema.as_str()));
    // Locks for a table: the table, its row type, the array type of that, its toast table and the index of that. An
    // index and a constraint need one lock each. A default value needs three, with the sequence of the column.
    let sql = format!(
        "select c.oid::pg_catalog.int8, c.relname::pg_catalog.text, c.relkind::pg_catalog.text,
       5 + 2 * (select pg_catalog.count(*) from pg_catalog.pg_index i where i.indrelid = c.oid)
         + (select pg_catalog.count(*) from pg_catalog.pg_constraint k where k.conrelid = c.oid)
         + (select pg_catalog.count(*) from pg_catalog.pg_trigger t where t.tgrelid = c.oid)
         + 3 * (select pg_catalog.count(*) from pg_catalog.pg_attrdef f where f.adrelid = c.oid)
from {} and c.relkind in ('r', 'p', 'f', 'v', 'm') and c.relname <> '{LEDGER_TABLE}'",
        relations_of(schema, "")
    );
    let rows = operator.client().query_typed(&sql, &[]).await.map_err(doing())?;
    let mut relations = Vec::with_capacity(rows.len());
    for row in &rows {
        let (name, kind): (String, String) = (row.try_get(1).map_err(doing())?, row.try_get(2).map_err(doing())?);
        let name = Ident::new(name).map_err(|error| Error::Unexpected {
            doing: format!("read the tables of schema {:?}", schema.as_str()),
            found: error.to_string(),
        })?;
        let locks: i64 = row.try_get(3).map_err(doing())?;
        let Some(kind) = RelationKind::of(&kind) else { continue };
        let locks = usize::try_from(locks).unwrap_or(usize::MAX);
        relations.push(Relation { oid: row.try_get(0).map_err(doing())?, name, kind, locks });
    }
    let sql = format!(
        "select k.conrelid::pg_catalog.int8, k.confrelid::pg_catalog.int8 from {}
union select h.inhrelid::pg_catalog.int8, h.inhparent::pg_catalog.int8 from {}",
        relations_of(schema, "join pg_catalog.pg_constraint k on k.conrelid = c.oid and k.contype = 'f'"),
        relations_of(schema, "join pg_catalog.pg_inherits h on h.inhrelid = c.oid"),
    );
    let rows = operator.client().query_typed(&sql, &[]).await.map_err(doing())?;
    let pair = |row: &tokio_postgres::Row| Ok((row.try_get(0)?, row.try_get(1)?));
    let needs: Result<Vec<(i64, i64)>, tokio_postgres::Error> = rows.iter().map(pair).collect();
    Ok((relations, needs.map_err(doing())?))
}

/// The objects that are about to be dropped.
pub(super) enum DroppedObjects<'a> {
    Schema,
    Relations(&'a [Relation]),
}

/// Returns a query that describes the objects outside of a schema that depend on what is about to be dropped. Every
/// object that DROP … CASCADE would remove is either in the schema, or in the result. A part of another object, such as
/// the rule of a view, is described as this object.
///
/// The query also returns the objects that are about to be dropped and are members of an extension, with the quoted
/// name of the extension in the second column. DROP … CASCADE of such an object removes the extension, or is refused.
/// An extension whose schema is this one is itself in the result, without its members.
///
/// The server's own parts of a table (its toast table, and the triggers of its foreign keys on other tables) count as
/// objects in the schema. So does the list of tables of a publication. An entry of an operator family counts as an
/// object in the family's schema, and a cast as one in the schema of both of its types.
pub(super) fn dependents_sql(schema: &SchemaName, dropped: &DroppedObjects<'_>) -> String {
    let name = literal(schema.as_str());
    let seed = match dropped {
        DroppedObjects::Schema => format!(
            "select 'pg_catalog.pg_namespace'::pg_catalog.regclass::pg_catalog.oid, s.oid from pg_catalog.pg_namespace s
     where s.nspname::pg_catalog.text = {name}
    union
    select m.classid, m.objid from pg_catalog.pg_namespace s
      join pg_catalog.pg_depend m on m.refclassid = 'pg_catalog.pg_namespace'::pg_catalog.regclass and m.refobjid = s.oid
     where s.nspname::pg_catalog.text = {name} and m.deptype = 'n'
       and m.classid <> 'pg_catalog.pg_extension'::pg_catalog.regclass"
        ),
        DroppedObjects::Relations(relations) => {
            let oids: Vec<String> = relations.iter().map(|relation| relation.oid.to_string()).collect();
            format!(
                "select 'pg_catalog.pg_class'::pg_catalog.regclass::pg_catalog.oid, r.oid
      from pg_catalog.unnest('{{{}}}'::pg_catalog.oid[]) r (oid)",
                oids.join(",")
            )
        }
    };
    format!(
        "with recursive dropped (classid, objid) as (
    {seed}
    union
    select p.classid, p.objid from dropped o
      join pg_catalog.pg_depend p on p.refclassid = o.classid and p.refobjid = o.objid
     where p.deptype in ('a', 'i', 'P', 'S')
), dependent as (
    select distinct p.classid, p.objid, p.objsubid from dropped o
      join pg_catalog.pg_depend p on p.refclassid = o.classid and p.refobjid = o.objid
), removed as (
    select o.classid, o.objid from dropped o union all select p.classid, p.objid from dependent p
), outside as (select p.classid, p.objid, p.objsubid from dependent p, pg_catalog.pg_namespace s
where s.nspname::pg_catalog.text = {name} and coalesce(case p.classid
    when 'pg_catalog.pg_class'::pg_catalog.regclass then
        (select c.relnamespace from pg_catalog.pg_class c where c.oid = p.objid)
    when 'pg_catalog.pg_type'::pg_catalog.regclass then
        (select t.typnamespace from pg_catalog.pg_type t where t.oid = p.objid)
    when 'pg_catalog.pg_proc'::pg_catalog.regclass then
        (select f.pronamespace from pg_catalog.pg_proc f where f.oid = p.objid)
    when 'pg_catalog.pg_constraint'::pg_catalog.regclass then
        (select k.connamespace from pg_catalog.pg_constraint k where k.oid = p.objid)
    when 'pg_catalog.pg_attrdef'::pg_catalog.regclass then
        (select c.relnamespace from pg_catalog.pg_attrdef a join pg_catalog.pg_class c on c.oid = a.adrelid where a.oid = p.objid)
    when 'pg_catalog.pg_rewrite'::pg_catalog.regclass then
        (select c.relnamespace from pg_catalog.pg_rewrite w join pg_catalog.pg_class c on c.oid = w.ev_class where w.oid = p.objid)
    when 'pg_catalog.pg_trigger'::pg_catalog.regclass then
        (select case when t.tgisinternal then s.oid else c.relnamespace end
           from pg_catalog.pg_trigger t join pg_catalog.pg_class c on c.oid = t.tgrelid where t.oid = p.objid)
    when 'pg_catalog.pg_policy'::pg_catalog.regclass then
        (select c.relnamespace from pg_catalog.pg_policy y join pg_catalog.pg_class c on c.oid = y.polrelid where y.oid = p.objid)
    when 'pg_catalog.pg_default_acl'::pg_catalog.regclass then
        (select f.defaclnamespace from pg_catalog.pg_default_acl f where f.oid = p.objid)
    when 'pg_catalog.pg_amop'::pg_catalog.regclass then
        (select f.opfnamespace from pg_catalog.pg_amop a join pg_catalog.pg_opfamily f on f.oid = a.amopfamily where a.oid = p.objid)
    when 'pg_catalog.pg_amproc'::pg_catalog.regclass then
        (select f.opfnamespace from pg_catalog.pg_amproc a join pg_catalog.pg_opfamily f on f.oid = a.amprocfamily where a.oid = p.objid)
    when 'pg_catalog.pg_cast'::pg_catalog.regclass then
        (select s.oid from pg_catalog.pg_cast c join pg_catalog.pg_type t on t.oid in (c.castsource, c.casttarget)
          where c.oid = p.objid and t.typnamespace = s.oid limit 1)
    when 'pg_catalog.pg_publication_rel'::pg_catalog.regclass then s.oid
    when pg_catalog.to_regclass('pg_catalog.pg_publication_namespace') then s.oid
    else (select m.oid from pg_catalog.pg_identify_object(p.classid, p.objid, p.objsubid) i
            join pg_catalog.pg_namespace m on pg_catalog.quote_ident(m.nspname::pg_catalog.text) = i.schema)
    end not in (s.oid, 'pg_toast'::pg_catalog.regnamespace), true)
)
select pg_catalog.concat(i.type, ' ', i.identity) as what, o.extension
from (
    select distinct coalesce(w.refclassid, p.classid) as classid, coalesce(w.refobjid, p.objid) as objid,
           coalesce(w.refobjsubid, p.objsubid) as objsubid, null::pg_catalog.text as extension
      from outside p
      left join pg_catalog.pg_depend w on w.classid = p.classid and w.objid = p.objid and w.objsubid = p.objsubid
                                      and w.deptype = 'i' and (w.refclassid, w.refobjid) not in (select r.classid, r.objid from removed r)
    union all
    select m.classid, m.objid, 0, m.extension from (
        select d.classid, d.objid, pg_catalog.quote_ident(e.extname::pg_catalog.text) as extension
          from pg_catalog.pg_depend d join pg_catalog.pg_extension e on e.oid = d.refobjid
          join pg_catalog.pg_namespace n on n.oid = e.extnamespace and n.nspname::pg_catalog.text <> {name}
         where d.refclassid = 'pg_catalog.pg_extension'::pg_catalog.regclass and d.deptype = 'e'
           and ((d.classid, d.objid) in (select r.classid, r.objid from removed r)) is true offset 0) m
     where not exists (select from pg_catalog.pg_depend w
                         join pg_catalog.pg_depend e on e.classid = w.refclassid and e.objid = w.refobjid and e.deptype = 'e'
                        where w.classid = m.classid and w.objid = m.objid and w.deptype = 'i')
    union all
    select 'pg_catalog.pg_type'::pg_catalog.regclass, g.rngtypid, 0, null from pg_catalog.pg_range g
     where (('pg_catalog.pg_type'::pg_catalog.regclass, g.rngmultitypid) in (select r.classid, r.objid from removed r)) is true
       and ('pg_catalog.pg_type'::pg_catalog.regclass, g.rngtypid) not in (select r.classid, r.objid from removed r)
    offset 0) o
cross join lateral pg_catalog.pg_identify_object(o.classid, o.objid, o.objsubid) i
where i.identity is not null
order by what"
    )
}

/// Returns what prevents the drop: objects outside of the tenant that depend on it, objects that its role owns outside
/// of its schema, and rows of shared tables that prevent the deletion of the registry row.
pub(super) async fn blockers(operator: &Operator, doomed: &Doomed) -> Result<Vec<String>> {
    let (slug, schema, role) = (&doomed.tenant.slug, &doomed.schema, doomed.role.as_ref());
    let doing = || while_doing(format!("look what depends on tenant {slug}"));
    let mut found = Vec::new();
    let sql = format!("{} limit {NAMED_MAX}", dependents_sql(schema, &DroppedObjects::Schema));
    for row in operator.client().query_typed(&sql, &[]).await.map_err(doing())? {
        let (what, extension): (String, Option<String>) =
            (row.try_get(0).map_err(doing())?, row.try_get(1).map_err(doing())?);
        found.push(match extension {
            // The statement has a space in the name of this kind.
            Some(extension) => format!(
                "{what} is a member of extension {extension}: run `alter extension {extension} drop {}`",
                what.replacen("foreign-data wrapper", "foreign data wrapper", 1)
            ),
            None => format!("{what} depends on it"),
        });
    }
    if let Some(role) = role {
        let sql = format!(
            "select pg_catalog.concat(i.type, ' ', i.identity) from pg_catalog.pg_shdepend d
             join pg_catalog.pg_roles r on d.refclassid = 'pg_catalog.pg_authid'::pg_catalog.regclass and d.refobjid = r.oid
             cross join lateral pg_catalog.pg_identify_object(d.classid, d.objid, 0) i
             where r.rolname::pg_catalog.text = $1 and d.deptype = 'o'
               and d.dbid in (0, (select b.oid from pg_catalog.pg_database b where b.datname = pg_catalog.current_database()))
               and d.classid <> 'pg_catalog.pg_largeobject'::pg_catalog.regclass
               and i.identity is not null and i.schema is distinct from $2
             order by 1 limit {NAMED_MAX}"
        );
        let params: [(&(dyn ToSql + Sync), Type); 2] = [(&role.as_str(), Type::TEXT), (&schema.as_str(), Type::TEXT)];
        for row in operator.client().query_typed(&sql, &params).await.map_err(doing())? {
            let what: String = row.try_get(0).map_err(doing())?;
            found.push(format!("its role owns {what}"));
        }
        // DROP OWNED removes a policy with its last role. It changes no policy on a table of a role that the operator
        // has no rights of.
        let policies = format!(
            "select pg_catalog.concat(i.type, ' ', i.identity), pg_catalog.cardinality(y.polroles) = 1, o.rolname::pg_catalog.text
             from pg_catalog.pg_shdepend d
             join pg_catalog.pg_roles r on d.refclassid = 'pg_catalog.pg_authid'::pg_catalog.regclass and d.refobjid = r.oid
             join pg_catalog.pg_policy y on y.oid = d.objid
             join pg_catalog.pg_class c on c.oid = y.polrelid
             join pg_catalog.pg_roles o on o.oid = c.relowner
             join pg_catalog.pg_namespace n on n.oid = c.relnamespace and n.nspname::pg_catalog.text <> $2
             cross join lateral pg_catalog.pg_identify_object(d.classid, d.objid, 0) i
             where r.rolname::pg_catalog.text = $1 and d.classid = 'pg_catalog.pg_policy'::pg_catalog.regclass
               and d.dbid = (select b.oid from pg_catalog.pg_database b where b.datname = pg_catalog.current_database())
               and (y.polroles = array[r.oid] or not pg_catalog.pg_has_role(c.relowner, 'USAGE'))
               and i.identity is not null
             order by 1 limit {NAMED_MAX}"
        );
        for row in operator.client().query_typed(&policies, &params).await.map_err(doing())? {
            let (what, alone, owner): (String, bool, String) =
                (row.try_get(0).map_err(doing())?, row.try_get(1).map_err(doing())?, row.try_get(2).map_err(doing())?);
            found.push(if alone {
                format!("{what} is for its role alone")
            } else {
                format!("{what} names its role: run `alter policy` without this role as role {owner}")
            });
        }
        found.extend(rights::blockers(operator, schema, role).await?);
        let elsewhere = "select b.datname::pg_catalog.text from pg_catalog.pg_shdepend d
             join pg_catalog.pg_roles r on d.refclassid = 'pg_catalog.pg_authid'::pg_catalog.regclass and d.refobjid = r.oid
             join pg_catalog.pg_database b on b.oid = d.dbid and b.datname <> pg_catalog.current_database()
             where r.rolname::pg_catalog.text = $1 group by 1 order by 1";
        for row in operator.client().query_typed(elsewhere, &params[..1]).await.map_err(doing())? {
            let database: String = row.try_get(0).map_err(doing())?;
            found.push(format!("its role has objects or rights in database {database:?}"));
        }
    }
    found.extend(tables_of_others(operator, doomed).await?);
    found.extend(keeping_rows(operator, slug, doomed.id()).await?);
    Ok(found)
}

/// Returns the tables that the role that drops the schema may not lock.
async fn tables_of_others(operator: &Operator, doomed: &Doomed) -> Result<Vec<String>> {
    let Some(owner) = &doomed.facts.owner else { return Ok(Vec::new()) };
    let doing = || while_doing(format!("look who owns the tables of tenant {}", doomed.tenant.slug));
    let sql = format!(
        "select c.relname::pg_catalog.text, r.rolname::pg_catalog.text from {} and c.relkind in ('r', 'p', 'f', 'v', 'm')
           and not pg_catalog.pg_has_role($1, c.relowner, 'USAGE') order by 1 limit {NAMED_MAX}",
        relations_of(&doomed.schema, "join pg_catalog.pg_roles r on r.oid = c.relowner")
    );
    let rows = operator.client().query_typed(&sql, &[(&owner.as_str(), Type::NAME)]).await.map_err(doing())?;
    let mut found = Vec::new();
    for row in &rows {
        let (table, other): (String, String) = (row.try_get(0).map_err(doing())?, row.try_get(1).map_err(doing())?);
        found.push(format!("table {table} of its schema belongs to role {other}, and not to {}", owner.as_str()));
    }
    Ok(found)
}

/// Returns the tables whose rows prevent the deletion of the registry row.
async fn keeping_rows(operator: &Operator, slug: &TenantSlug, id: OrganizationId) -> Result<Vec<String>> {
    let doing = || while_doing(format!("look which shared tables keep tenant {slug}"));
    let sql = "
select n.nspname::pg_catalog.text, c.relname::pg_catalog.text, a.attname::pg_catalog.text,
       (select r.rolname::pg_catalog.text from pg_catalog.pg_roles r
         where r.oid = case when pg_catalog.has_schema_privilege(n.oid, 'USAGE') then c.relowner else n.nspowner end),
       pg_catalog.has_schema_privilege(n.oid, 'USAGE')
from pg_catalog.pg_constraint k
join pg_catalog.pg_class c on c.oid = k.conrelid
join pg_catalog.pg_namespace n on n.oid = c.relnamespace
join pg_catalog.pg_attribute a on a.attrelid = c.oid and a.attnum = k.conkey[1]
join pg_catalog.pg_attribute o on o.attrelid = k.confrelid and o.attnum = k.confkey[1] and o.attname = 'id'
where k.contype = 'f' and k.confrelid = {registry_oid} and k.confdeltype in ('a', 'r')
  and k.conparentid = 0 and n.nspname::pg_catalog.text <> $1
order by 1, 2, 3";
    let schema = SchemaName::of_tenant(slug);
    let rows = operator
        .client()
        .query_typed(&registry::sql::fill(sql), &[(&schema.as_str(), Type::TEXT)])
        .await
        .map_err(doing())?;
    let mut found = Vec::new();
    for row in &rows {
        let name = |index: usize| -> Result<Ident> {
            let text: String = row.try_get(index).map_err(doing())?;
            Ident::new(text).map_err(|error| Error::Unexpected {
                doing: format!("look which shared tables keep tenant {slug}"),
                found: error.to_string(),
            })
        };
        let (schema, table, column) = (name(0)?, name(1)?, name(2)?);
        let sql = format!(
            "select exists (select from {}.{} where {} = $1)",
            schema.quoted(),
            table.quoted(),
            column.quoted()
        );
        match operator.client().query_typed(&sql, &[(&id.uuid(), Type::UUID)]).await {
            Ok(kept) => {
                if kept.first().map(|row| row.try_get(0)).transpose().map_err(doing())? == Some(true) {
                    found.push(format!("table {}.{} has rows of it", schema.as_str(), table.as_str()));
                }
            }
            Err(error) if error.code() == Some(&SqlState::INSUFFICIENT_PRIVILEGE) => {
                let grant = match row.try_get(4).map_err(doing())? {
                    true => format!("select on table {}.{}", schema.quoted(), table.quoted()),
                    false => format!("usage on schema {}", schema.quoted()),
                };
                let (own, owner): (_, String) = (quoted(&operator.facts().role), row.try_get(3).map_err(doing())?);
                found.push(format!(
                    "table {}.{} can have rows of it and cannot be read: run `grant {grant} to {own}` as role {owner}",
                    schema.as_str(),
                    table.as_str()
                ));
            }
            Err(error) => return Err(doing()(error)),
        }
    }
    Ok(found)
}
