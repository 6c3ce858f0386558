//! The queries on the catalogue.

use crate::{
    ident::{SchemaName, literal},
    migrate::execute::step_log::STEPS_TABLE,
    migration::LEDGER_TABLE,
};

/// Selects the relations of a schema as `c`, without those of extensions. `joined` contains further joins.
pub(super) fn relations(schema: &SchemaName, joined: &str, condition: &str) -> String {
    format!(
        "pg_catalog.pg_class c
join pg_catalog.pg_namespace n on n.oid = c.relnamespace and n.nspname::pg_catalog.text = {}
{joined}
where not exists (select from pg_catalog.pg_depend e where e.classid = 'pg_catalog.pg_class'::pg_catalog.regclass
                  and e.objid = c.oid and e.deptype = 'e') and {condition}",
        literal(schema.as_str())
    )
}

pub(super) fn tables_sql(schema: &SchemaName) -> String {
    let columns = |expression: &str| {
        format!(
            "array(select {expression} from pg_catalog.pg_attribute a
               join pg_catalog.pg_type t on t.oid = a.atttypid
               left join pg_catalog.pg_attrdef d on d.adrelid = a.attrelid and d.adnum = a.attnum
             where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped and a.attgenerated = ''
             order by a.attnum)"
        )
    };
    let condition = format!(
        "c.relkind in ('r', 'p') and not c.relispartition
  and c.relname::pg_catalog.text not in ('{LEDGER_TABLE}', '{}')",
        STEPS_TABLE
    );
    format!(
        "select c.relname::pg_catalog.text, c.relkind::pg_catalog.text, c.relrowsecurity and c.relforcerowsecurity,
       (case c.relkind when 'p' then (select coalesce(sum(pg_catalog.pg_table_size(p.relid)), 0)
                                      from pg_catalog.pg_partition_tree(c.oid) p where p.isleaf)
             else pg_catalog.pg_table_size(c.oid) end)::pg_catalog.int8 as bytes,
       {}, {}, {}, {}, {}
from {} order by bytes desc, c.relname",
        columns("a.attname::pg_catalog.text"),
        columns("coalesce(pg_catalog.pg_get_expr(d.adbin, d.adrelid) like '%app.current_organization_id%', false)"),
        columns(&of_parts("pg_catalog.bool_or(y.oid = 'pg_catalog.oid'::pg_catalog.regtype or y.typname = 'lo')")),
        columns(&of_parts(FORM)),
        columns("pg_catalog.format_type(a.atttypid, a.atttypmod)"),
        relations(schema, "", &condition)
    )
}

/// Returns an aggregate over the types `y` that are part of the type of a column `a`, and that type. An `oidvector` has
/// no large objects.
fn of_parts(aggregate: &str) -> String {
    format!(
        "(with recursive part (id) as ({PARTS}) select {aggregate} from part p join pg_catalog.pg_type y on y.oid = p.id)"
    )
}

const PARTS: &str = "
        select a.atttypid
        union
        select i.id from part p join pg_catalog.pg_type y on y.oid = p.id
        cross join lateral (
            select y.typbasetype where y.typbasetype <> 0
            union all select y.typelem where y.typcategory = 'A' and y.oid <> 'pg_catalog.oidvector'::pg_catalog.regtype
            union all select m.atttypid from pg_catalog.pg_attribute m
                      where m.attrelid = y.typrelid and m.attnum > 0 and not m.attisdropped
            union all select r.rngsubtype from pg_catalog.pg_range r where y.oid in (r.rngtypid, r.rngmultitypid)
        ) i (id)";

/// The expression for the [`ColumnForm`] of a column of a table `c`.
const FORM: &str =
    "case when pg_catalog.bool_or(y.typnamespace = 'pg_catalog'::pg_catalog.regnamespace and y.typname in
                     ('regclass', 'regcollation', 'regconfig', 'regdictionary', 'regoper', 'regoperator', 'regproc',
                      'regprocedure', 'regtype')) then 'name'
                when pg_catalog.bool_or(y.typnamespace = c.relnamespace) then 'text'
                else 'value' end";

pub(super) fn foreign_keys_sql(schema: &SchemaName) -> String {
    let names = |table: &str, key: &str| {
        format!(
            "array(select a.attname::pg_catalog.text
             from pg_catalog.unnest({key}) with ordinality k (attnum, place)
             join pg_catalog.pg_attribute a on a.attrelid = {table} and a.attnum = k.attnum order by k.place)"
        )
    };
    format!(
        "select f.relname::pg_catalog.text, f.conname::pg_catalog.text, f.definition, f.comment, {}, f.referenced, {}
from (select c.relname, k.*, pg_catalog.pg_get_constraintdef(k.oid) as definition,
             pg_catalog.obj_description(k.oid, 'pg_constraint') as comment,
             (select r.relname::pg_catalog.text from pg_catalog.pg_class r
              where r.oid = k.confrelid and r.relnamespace = c.relnamespace) as referenced
      from {}) f
order by f.relname, f.conname",
        names("f.conrelid", "f.conkey"),
        names("f.confrelid", "f.confkey"),
        relations(
            schema,
            "join pg_catalog.pg_constraint k on k.conrelid = c.oid and k.contype = 'f' and k.conparentid = 0",
            "true"
        )
    )
}

/// Selects the indexes of some tables that can be dropped and created again from their definitions, in the order of their
/// creation. Not selected: an index of a partitioned table; one that another object depends on, other than a foreign key
/// of the schema; one that calls a function or operator that is not built in, because the server creates an index under
/// another search path than it inserts into it; and one with properties that its definition does not contain.
pub(super) fn indexes_sql(schema: &SchemaName, tables: &[&str]) -> String {
    let tables: Vec<String> = tables.iter().map(|table| literal(table)).collect();
    let condition = format!(
        "c.relkind = 'r' and not c.relispartition and c.relname::pg_catalog.text in ({})
  and (k.oid is null or k.contype in ('p', 'u') and x.reloptions is null
       and x.relam = (select m.oid from pg_catalog.pg_am m where m.amname = 'btree'))
  and not exists (select from pg_catalog.pg_attribute a where a.attrelid = x.oid and coalesce(a.attstattarget, -1) <> -1)
  and not exists (
      select from pg_catalog.pg_depend d
      where d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass and d.objid = x.oid
        and (d.deptype in ('e', 'x')
             or d.refclassid in ('pg_catalog.pg_proc'::pg_catalog.regclass, 'pg_catalog.pg_operator'::pg_catalog.regclass)
             or d.refclassid = 'pg_catalog.pg_opclass'::pg_catalog.regclass and not exists (
                 select from pg_catalog.pg_depend o
                 where o.classid = d.refclassid and o.objid = d.refobjid and o.deptype = 'e')))
  and not exists (
      select from pg_catalog.pg_depend d
      where (d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass and d.refobjid = x.oid
             or d.refclassid = 'pg_catalog.pg_constraint'::pg_catalog.regclass and d.refobjid = k.oid)
        and not (d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass and d.objid = x.oid)
        and not (d.classid = 'pg_catalog.pg_constraint'::pg_catalog.regclass and exists (
            select from pg_catalog.pg_constraint f join pg_catalog.pg_class r on r.oid = f.conrelid
            where f.oid = d.objid and f.contype = 'f' and r.relnamespace = c.relnamespace)))",
        tables.join(", ")
    );
    format!(
        "select c.relname::pg_catalog.text, x.relname::pg_catalog.text, pg_catalog.pg_get_indexdef(x.oid),
       pg_catalog.obj_description(x.oid, 'pg_class'), pg_catalog.pg_get_constraintdef(k.oid),
       pg_catalog.obj_description(k.oid, 'pg_constraint')
from {} order by x.oid",
        relations(
            schema,
            "join pg_catalog.pg_index i on i.indrelid = c.oid and i.indisvalid and i.indisready
 and not i.indisreplident and not i.indisclustered
join pg_catalog.pg_class x on x.oid = i.indexrelid and x.reltablespace = 0
left join pg_catalog.pg_constraint k on k.conrelid = c.oid and k.conindid = x.oid and k.contype in ('p', 'u', 'x')",
            &condition
        )
    )
}

pub(super) fn checks_sql(schema: &SchemaName) -> String {
    let calls = "exists (select from pg_catalog.pg_depend d
             where d.classid = 'pg_catalog.pg_constraint'::pg_catalog.regclass and d.objid = k.oid
               and d.refclassid in ('pg_catalog.pg_proc'::pg_catalog.regclass, 'pg_catalog.pg_operator'::pg_catalog.regclass))";
    let inherited = "(with recursive up (id) as (
        select c.oid union select i.inhparent from up u join pg_catalog.pg_inherits i on i.inhrelid = u.id)
    select pg_catalog.count(*) from up)";
    format!(
        "select c.relname::pg_catalog.text, k.conname::pg_catalog.text, pg_catalog.pg_get_constraintdef(k.oid),
       pg_catalog.obj_description(k.oid, 'pg_constraint')
from {} order by {inherited} desc, c.relname, k.conname",
        relations(
            schema,
            "join pg_catalog.pg_constraint k on k.conrelid = c.oid and k.contype = 'c' and k.conislocal",
            &format!("c.relkind in ('r', 'p') and (not k.convalidated or {calls})")
        )
    )
}

pub(super) fn triggers_sql(schema: &SchemaName) -> String {
    format!(
        "select c.relname::pg_catalog.text, t.tgname::pg_catalog.text, t.tgenabled::pg_catalog.text
from {}
order by case when c.relispartition
              then (select pg_catalog.count(*) from pg_catalog.pg_partition_ancestors(c.oid)) else 0 end,
         c.relname, t.tgname",
        relations(
            schema,
            // PostgreSQL 14 calls the triggers that partitions have from their parent internal.
            "join pg_catalog.pg_trigger t on t.tgrelid = c.oid and (not t.tgisinternal or t.tgparentid <> 0 and not exists (
    select from pg_catalog.pg_constraint k where k.oid = t.tgconstraint and k.contype = 'f'))",
            "c.relkind in ('r', 'p')"
        )
    )
}

pub(super) fn partitions_sql(schema: &SchemaName) -> String {
    format!(
        "select c.relname::pg_catalog.text, p.relname::pg_catalog.text,
       pg_catalog.pg_get_expr(c.relpartbound, c.oid), c.relkind = 'r'
from {}
order by (select pg_catalog.count(*) from pg_catalog.pg_partition_ancestors(c.oid)), c.relname",
        relations(
            schema,
            "join pg_catalog.pg_inherits i on i.inhrelid = c.oid
join pg_catalog.pg_class p on p.oid = i.inhparent and p.relnamespace = c.relnamespace",
            "c.relispartition and c.relkind in ('r', 'p')"
        )
    )
}

/// Returns the query for sequences, populated materialized views and foreign tables. Materialized views are sorted by
/// the number of relations that they read, directly or indirectly. A view reads more relations than each view that it
/// reads.
pub(super) fn others_sql(schema: &SchemaName) -> String {
    let reached = "(with recursive below (id) as (
        select c.oid
        union
        select d.refobjid from below b join pg_catalog.pg_rewrite r on r.ev_class = b.id
        join pg_catalog.pg_depend d on d.classid = 'pg_catalog.pg_rewrite'::pg_catalog.regclass and d.objid = r.oid
         and d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass)
    select pg_catalog.count(*) from below)";
    format!(
        "select case when c.relkind = 'f' and c.relispartition then 'p' else c.relkind::pg_catalog.text end,
       c.relname::pg_catalog.text, c.relispopulated
from {} order by c.relkind, case c.relkind when 'm' then {reached} else 0 end, c.oid",
        relations(schema, "", "c.relkind in ('S', 'f', 'm')")
    )
}
