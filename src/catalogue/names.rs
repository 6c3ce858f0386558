//! Finds objects that contain the name of a schema as text. After a rename, they would look for the schema under its
//! old name. Objects that the server has parsed, such as the tables of a view, follow the rename and are not reported.

use crate::{
    db::{Operator, message},
    error::{Result, while_doing},
    ident::{Ident, SchemaName, literal},
};

/// How many objects an error lists.
const NAMED_MAX: u32 = 10;

/// Describes the objects that contain the name of the schema as text.
pub(crate) async fn of_schema(operator: &Operator, schema: &SchemaName) -> Result<Vec<String>> {
    let doing = || while_doing(format!("look what names schema {:?}", schema.as_str()));
    let answer = message::run(operator.client(), &sql(schema)).await.map_err(doing())?;
    let answer = answer.complete().map_err(doing())?;
    // The first row is the result of setting the search path.
    let found = answer.rows.iter().skip(1).filter_map(|(_, row)| row.get(0));
    Ok(found.map(ToOwned::to_owned).collect())
}

/// Describes the contents of a schema that contain its name: names of relations, comments, and rows.
pub(crate) async fn in_contents(operator: &Operator, schema: &SchemaName) -> Result<Vec<String>> {
    let doing = || while_doing(format!("look what in schema {0:?} contains its name", schema.as_str()));
    let name = literal(schema.as_str());
    let relations = format!(
        "select c.relname::pg_catalog.text, c.relkind::pg_catalog.text,
                pg_catalog.strpos(c.relname::pg_catalog.text, {name}) > 0
                or exists (select from pg_catalog.pg_description d where d.classoid = 'pg_catalog.pg_class'::pg_catalog.regclass
                           and d.objoid = c.oid and pg_catalog.strpos(d.description, {name}) > 0)
         from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
         where n.nspname = {name} and c.relkind in ('r', 'v', 'm', 'S', 'i', 'c', 'f') order by 1"
    );
    let rows = operator.client().query_typed(&relations, &[]).await.map_err(doing())?;
    let (mut found, mut tables) = (Vec::new(), Vec::new());
    for row in &rows {
        let (relation, kind): (String, String) = (row.try_get(0).map_err(doing())?, row.try_get(1).map_err(doing())?);
        if row.try_get(2).map_err(doing())? {
            found.push(format!("{relation:?} has it in its name or in a comment"));
        }
        tables.extend(["r", "m"].contains(&kind.as_str()).then_some(relation));
    }
    // This is one message. Each table is read once, and a new schema has few rows.
    let sql: String = tables
        .iter()
        .filter_map(|table| Ident::new(table).ok())
        .map(|table| {
            format!(
                "select {0}::pg_catalog.text where exists (select from only {1} cgk_row
                     where pg_catalog.strpos(pg_catalog.to_jsonb(cgk_row)::pg_catalog.text, {name}) > 0);\n",
                literal(table.as_str()),
                schema.qualified(table.as_str()),
            )
        })
        .collect();
    let answer = message::run(operator.client(), &sql).await.map_err(doing())?.complete().map_err(doing())?;
    let tables = answer.rows.iter().filter_map(|(_, row)| row.get(0));
    found.extend(tables.map(|table| format!("a row of {table:?} contains it")));
    Ok(found)
}

/// Returns the query. If only the schema is in the search path, the server omits its name from all texts that it has
/// parsed. An unquoted name in capitals is the same name. Expressions are those of the schema, and of objects that
/// belong to no tenant.
fn sql(schema: &SchemaName) -> String {
    let name = schema.as_str();
    // No function outside of it can name a new schema: its migrations change nothing outside.
    let functions = match SchemaName::of_warm(name) {
        Some(_) => "where p.pronamespace in (select s.oid from place s)",
        None => "",
    };
    format!(
        r"select pg_catalog.set_config('search_path', {path}, true);
with place as (
    select n.oid, n.nspname from pg_catalog.pg_namespace n
     where n.nspname::pg_catalog.text = {name}
        or not pg_catalog.starts_with(n.nspname::pg_catalog.text, 'tenant_')
           and not pg_catalog.starts_with(n.nspname::pg_catalog.text, 'cgk_warm_')
           and not pg_catalog.starts_with(n.nspname::pg_catalog.text, 'pg_') and n.nspname <> 'information_schema'
), relation as (
    select c.oid, pg_catalog.concat(p.nspname, '.', c.relname) as name, c.relkind
      from pg_catalog.pg_class c join place p on p.oid = c.relnamespace
), said (what, text) as (
    select pg_catalog.concat('function ', (select i.identity from pg_catalog.pg_identify_object(
                                                   'pg_catalog.pg_proc'::pg_catalog.regclass, p.oid, 0) i)),
           pg_catalog.concat_ws(' ', p.prosrc, pg_catalog.array_to_string(p.proconfig, ' '),
                                case when p.prosqlbody is not null then pg_catalog.pg_get_function_sqlbody(p.oid) end,
                                pg_catalog.pg_get_expr(p.proargdefaults, 0))
      from pg_catalog.pg_proc p {functions}
    union all
    select pg_catalog.concat('default value of ', r.name, '.', a.attname), pg_catalog.pg_get_expr(d.adbin, d.adrelid)
      from relation r join pg_catalog.pg_attrdef d on d.adrelid = r.oid
      join pg_catalog.pg_attribute a on a.attrelid = d.adrelid and a.attnum = d.adnum
    union all
    select pg_catalog.concat('constraint ', k.conname, ' of ', r.name), pg_catalog.pg_get_constraintdef(k.oid)
      from relation r join pg_catalog.pg_constraint k on k.conrelid = r.oid where k.contype = 'c'
    union all
    select pg_catalog.concat('constraint ', k.conname, ' of ', p.nspname, '.', t.typname), pg_catalog.pg_get_constraintdef(k.oid)
      from place p join pg_catalog.pg_type t on t.typnamespace = p.oid join pg_catalog.pg_constraint k on k.contypid = t.oid
    union all
    select pg_catalog.concat('default value of ', p.nspname, '.', t.typname), pg_catalog.pg_get_expr(t.typdefaultbin, 0)
      from place p join pg_catalog.pg_type t on t.typnamespace = p.oid where t.typdefaultbin is not null
    union all
    select pg_catalog.concat('rule ', w.rulename, ' of ', r.name), pg_catalog.pg_get_ruledef(w.oid, true)
      from relation r join pg_catalog.pg_rewrite w on w.ev_class = r.oid where w.rulename <> '_RETURN'
    union all
    select pg_catalog.concat('view ', r.name), pg_catalog.pg_get_viewdef(r.oid) from relation r where r.relkind in ('v', 'm')
    union all
    select pg_catalog.concat('index ', r.name),
           pg_catalog.concat_ws(' ', pg_catalog.pg_get_expr(i.indexprs, i.indrelid), pg_catalog.pg_get_expr(i.indpred, i.indrelid))
      from relation r join pg_catalog.pg_index i on i.indexrelid = r.oid where i.indexprs is not null or i.indpred is not null
    union all
    select pg_catalog.concat('policy ', y.polname, ' of ', r.name),
           pg_catalog.concat_ws(' ', pg_catalog.pg_get_expr(y.polqual, y.polrelid), pg_catalog.pg_get_expr(y.polwithcheck, y.polrelid))
      from relation r join pg_catalog.pg_policy y on y.polrelid = r.oid
    union all
    select pg_catalog.concat('trigger ', t.tgname, ' of ', r.name), pg_catalog.pg_get_triggerdef(t.oid, true)
      from relation r join pg_catalog.pg_trigger t on t.tgrelid = r.oid where not t.tgisinternal
    union all
    select coalesce('setting of role ' || u.rolname::pg_catalog.text, 'setting of the database'), pg_catalog.array_to_string(s.setconfig, ' ')
      from pg_catalog.pg_db_role_setting s left join pg_catalog.pg_roles u on u.oid = s.setrole
     where s.setdatabase in (0, (select b.oid from pg_catalog.pg_database b where b.datname = pg_catalog.current_database()))
)
select pg_catalog.concat(s.what, ' names ', {name}::pg_catalog.text, ' in its text') from said s
 where s.text ~* ('\m' || {name} || '\M') order by 1 limit {NAMED_MAX}",
        path = literal(&format!("{}, pg_catalog", schema.quoted())),
        name = literal(name),
    )
}
