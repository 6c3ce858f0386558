//! Checks of objects in the shared schema and in tenants' schemas.

use super::{CheckResult, Verdict, are, texts};
use crate::{db::Operator, error::Result};

/// The schemas whose objects are checked: `public`, and those with the name of a tenant's schema.
const IN_OUR_SCHEMAS: &str = "(n.nspname = 'public' or pg_catalog.starts_with(n.nspname::pg_catalog.text, 'tenant_'))";

/// Checks for indexes that a failed `create index concurrently` left. Indexes that are being built now do not count.
pub(super) async fn indexes(operator: &Operator) -> Result<CheckResult> {
    let sql = format!(
        "select pg_catalog.quote_ident(n.nspname::pg_catalog.text) || '.' || pg_catalog.quote_ident(c.relname::pg_catalog.text)
         from pg_catalog.pg_index i join pg_catalog.pg_class c on c.oid = i.indexrelid
         join pg_catalog.pg_namespace n on n.oid = c.relnamespace
         where not i.indisvalid and c.relkind = 'i' and {IN_OUR_SCHEMAS}
           and not exists (select from pg_catalog.pg_stat_progress_create_index p where p.index_relid = i.indexrelid or p.relid = i.indrelid)
         order by 1"
    );
    let invalid = texts(operator, "list the invalid indexes", &sql).await?;
    if invalid.is_empty() {
        return Ok(CheckResult::good("every index is valid"));
    }
    let found = format!("{} invalid: slower writes, and no query uses it", are(invalid.len(), "index", "indexes"));
    Ok(CheckResult::of(Verdict::Warning, found).naming(invalid).fix("reindex index concurrently NAME, or drop it"))
}

/// Checks for functions that run with the rights of their owner, and that a caller can make do something else. They look
/// names up in the caller's search path; or they are trigger functions, which a caller may put on a temporary table, with
/// columns whose types and casts are the caller's own functions.
pub(super) async fn functions(operator: &Operator) -> Result<CheckResult> {
    let without_path = definers(
        operator,
        "not exists (select from pg_catalog.unnest(p.proconfig) c (setting) where pg_catalog.starts_with(c.setting, 'search_path='))",
    )
    .await?;
    if !without_path.is_empty() {
        let found = format!(
            "{} SECURITY DEFINER without a search path: the caller chooses what their names mean",
            are(without_path.len(), "function", "functions")
        );
        return Ok(CheckResult::of(Verdict::Failed, found)
            .naming(without_path)
            .fix("alter routine NAME set search_path = pg_catalog, pg_temp"));
    }
    let open_triggers = definers(
        operator,
        "p.prorettype = 'pg_catalog.trigger'::pg_catalog.regtype and pg_catalog.has_function_privilege('public', p.oid, 'execute')",
    )
    .await?;
    if open_triggers.is_empty() {
        return functions_with_tenants_types(operator).await;
    }
    let found = format!(
        "{} SECURITY DEFINER and open to every role: a tenant can put it on a table of its own",
        are(open_triggers.len(), "trigger function", "trigger functions")
    );
    Ok(CheckResult::of(Verdict::Failed, found).naming(open_triggers).fix("revoke execute on function NAME from public"))
}

/// Checks for PL/pgSQL functions of the shared schema with a variable of a tenant's type: a column's, a row's, a domain or
/// an enum. The server resolves the type at the first call in a session and keeps it, so the next tenant's values get the
/// first tenant's type. Only the first DECLARE of a function is read.
async fn functions_with_tenants_types(operator: &Operator) -> Result<CheckResult> {
    let sql = r"
        select distinct pg_catalog.concat('public.', pg_catalog.quote_ident(p.proname::pg_catalog.text), '(',
                   pg_catalog.pg_get_function_identity_arguments(p.oid), ') declares ', d.words[1])
        from pg_catalog.pg_proc p
        join pg_catalog.pg_namespace n on n.oid = p.pronamespace and n.nspname = 'public'
        join pg_catalog.pg_language l on l.oid = p.prolang and l.lanname = 'plpgsql'
        cross join lateral pg_catalog.regexp_matches(
            pg_catalog.substring(pg_catalog.lower(p.prosrc), '\mdeclare\M(.*?)\mbegin\M'),
            '\m[a-z_]\w*\s+(?:constant\s+)?([a-z_]\w*)(?:\.[a-z_]\w*)?\s*(?:%|\[|:=|=|;|not\s|default\s)', 'g') d (words)
        where not exists (select from pg_catalog.unnest(p.proconfig) c (setting) where pg_catalog.starts_with(c.setting, 'search_path='))
          and exists (select from pg_catalog.pg_type t join pg_catalog.pg_namespace s on s.oid = t.typnamespace
                      where t.typname = d.words[1]::pg_catalog.name and pg_catalog.starts_with(s.nspname::pg_catalog.text, 'tenant_'))
          and not exists (select from pg_catalog.pg_type t
                          where t.typname = d.words[1]::pg_catalog.name and t.typnamespace = 'pg_catalog'::pg_catalog.regnamespace)
        order by 1";
    let kept = texts(operator, "list the variables of shared functions", sql).await?;
    if kept.is_empty() {
        return Ok(CheckResult::good(
            "every SECURITY DEFINER function has its own search path, and triggers of them are closed",
        ));
    }
    let found = format!(
        "{} of a tenant's type: in one session it stays the type of the first tenant",
        match kept.len() {
            1 => "1 shared function has a variable".to_owned(),
            functions => format!("{functions} shared functions have a variable"),
        }
    );
    Ok(CheckResult::of(Verdict::Warning, found)
        .naming(kept)
        .fix("declare the variable as record, text, numeric or another type of the server or of public"))
}

/// Returns the functions with the rights of their owner that meet a condition.
async fn definers(operator: &Operator, condition: &str) -> Result<Vec<String>> {
    let sql = format!(
        "select pg_catalog.quote_ident(n.nspname::pg_catalog.text) || '.' || pg_catalog.quote_ident(p.proname::pg_catalog.text)
                || '(' || pg_catalog.pg_get_function_identity_arguments(p.oid) || ')'
         from pg_catalog.pg_proc p join pg_catalog.pg_namespace n on n.oid = p.pronamespace
         where p.prosecdef and {IN_OUR_SCHEMAS} and {condition}
           and not exists (select from pg_catalog.pg_depend d where d.classid = 'pg_catalog.pg_proc'::pg_catalog.regclass
                           and d.objid = p.oid and d.deptype = 'e')
         order by 1"
    );
    texts(operator, "list the functions with the rights of their owner", &sql).await
}

/// Checks for views of the shared schema that read one tenant's tables, because every tenant would read that tenant's rows.
/// Also checks for views that tenants may read and that read a table with policies as their owner. Such a view, and any
/// materialized view, shows the rows of all organizations.
pub(super) async fn shared_views(operator: &Operator) -> Result<CheckResult> {
    let sql = "
        select distinct 'public.' || pg_catalog.quote_ident(v.relname::pg_catalog.text) || ' reads ' || pg_catalog.quote_ident(t.nspname::pg_catalog.text)
                        || '.' || pg_catalog.quote_ident(r.relname::pg_catalog.text)
        from pg_catalog.pg_depend d
        join pg_catalog.pg_rewrite w on w.oid = d.objid
        join pg_catalog.pg_class v on v.oid = w.ev_class
        join pg_catalog.pg_namespace n on n.oid = v.relnamespace and n.nspname = 'public'
        join pg_catalog.pg_class r on r.oid = d.refobjid
        join pg_catalog.pg_namespace t on t.oid = r.relnamespace and pg_catalog.starts_with(t.nspname::pg_catalog.text, 'tenant_')
        where d.classid = 'pg_catalog.pg_rewrite'::pg_catalog.regclass and d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass
        order by 1";
    let bound = texts(operator, "list the views of the shared schema", sql).await?;
    if !bound.is_empty() {
        let found = format!(
            "{} bound to a tenant's tables",
            are(bound.len(), "view of the shared schema", "views of the shared schema")
        );
        return Ok(CheckResult::of(Verdict::Failed, found)
            .naming(bound)
            .fix("drop view NAME; create it in each tenant, by a tenant migration"));
    }
    let open = texts(operator, "list the views past the policies", &views_past_policies(operator)).await?;
    if open.is_empty() {
        return Ok(CheckResult::good(
            "no view of the shared schema reads a tenant's tables, or a table past its policies",
        ));
    }
    let found = format!(
        "{} each tenant rows that the policies of a table hide from it",
        match open.len() {
            1 => "1 view shows".to_owned(),
            views => format!("{views} views show"),
        }
    );
    Ok(CheckResult::of(Verdict::Warning, found).naming(open).fix(
        "alter view NAME set (security_invoker), since PostgreSQL 15; from a materialized view: revoke all on NAME from public",
    ))
}

/// Returns a query for the views that tenants' roles may read and that read a table with policies with their owner's
/// rights, directly or through other views. Views in tenants' schemas are left out: drift compares them.
fn views_past_policies(operator: &Operator) -> String {
    format!(
        "with recursive reads (view, relation) as (
            select w.ev_class, d.refobjid from pg_catalog.pg_depend d join pg_catalog.pg_rewrite w on w.oid = d.objid
            where d.classid = 'pg_catalog.pg_rewrite'::pg_catalog.regclass and d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass
              and d.refobjid <> w.ev_class
            union
            select r.view, d.refobjid from reads r
            join pg_catalog.pg_rewrite w on w.ev_class = r.relation
            join pg_catalog.pg_depend d on d.objid = w.oid and d.classid = 'pg_catalog.pg_rewrite'::pg_catalog.regclass
              and d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass and d.refobjid <> w.ev_class
         )
         select pg_catalog.concat(pg_catalog.quote_ident(n.nspname::pg_catalog.text), '.', pg_catalog.quote_ident(v.relname::pg_catalog.text),
                    ' reads ', pg_catalog.string_agg(distinct pg_catalog.quote_ident(t.relname::pg_catalog.text), ', '))
         from reads
         join pg_catalog.pg_class v on v.oid = reads.view and v.relkind in ('v', 'm')
         join pg_catalog.pg_namespace n on n.oid = v.relnamespace
              and n.nspname not in ('pg_catalog', 'information_schema') and not pg_catalog.starts_with(n.nspname::pg_catalog.text, 'tenant_')
         join pg_catalog.pg_class t on t.oid = reads.relation and t.relrowsecurity
         where not exists (select from pg_catalog.pg_options_to_table(v.reloptions) o
                           where o.option_name = 'security_invoker' and o.option_value::pg_catalog.bool)
           and exists (select from pg_catalog.aclexplode(v.relacl) g left join pg_catalog.pg_roles r on r.oid = g.grantee
                       where {is_tenants}
                       union all
                       select from pg_catalog.pg_attribute a cross join lateral pg_catalog.aclexplode(a.attacl) g
                       left join pg_catalog.pg_roles r on r.oid = g.grantee
                       where a.attrelid = v.oid and {is_tenants})
         group by n.nspname, v.relname order by 1",
        is_tenants = format_args!(
            "(g.grantee = 0 or r.rolname::pg_catalog.text ~ '^cgk_[a-z][a-z0-9_]*_{tag}$')",
            tag = operator.facts().database_tag().as_str()
        ),
    )
}

/// Checks for foreign keys from tenants to the shared schema. A delete in the shared table reads every tenant's table.
pub(super) async fn foreign_keys(operator: &Operator) -> Result<CheckResult> {
    let sql = "
        select 'to public.' || pg_catalog.quote_ident(r.relname::pg_catalog.text) || ': ' || count(distinct c.connamespace)
               || ' tenants, constraint ' || pg_catalog.quote_ident(c.conname::pg_catalog.text)
        from pg_catalog.pg_constraint c
        join pg_catalog.pg_namespace n on n.oid = c.connamespace and pg_catalog.starts_with(n.nspname::pg_catalog.text, 'tenant_')
        join pg_catalog.pg_class r on r.oid = c.confrelid
        join pg_catalog.pg_namespace s on s.oid = r.relnamespace and s.nspname = 'public'
        where c.contype = 'f' group by r.relname, c.conname order by 1";
    let keys = texts(operator, "list the foreign keys into the shared schema", sql).await?;
    if keys.is_empty() {
        return Ok(CheckResult::good("no foreign key leads from a tenant into the shared schema"));
    }
    let found = format!(
        "{} from tenants into the shared schema: a delete there reads a table of every tenant",
        are(keys.len(), "foreign key", "foreign keys")
    );
    Ok(CheckResult::of(Verdict::Warning, found)
        .naming(keys)
        .fix("drop the constraints, and keep the id without a foreign key"))
}
