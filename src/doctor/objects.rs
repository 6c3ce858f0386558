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
        return Ok(CheckResult::good(
            "every SECURITY DEFINER function has its own search path, and triggers of them are closed",
        ));
    }
    let found = format!(
        "{} SECURITY DEFINER and open to every role: a tenant can put it on a table of its own",
        are(open_triggers.len(), "trigger function", "trigger functions")
    );
    Ok(CheckResult::of(Verdict::Failed, found).naming(open_triggers).fix("revoke execute on function NAME from public"))
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

/// Checks for views of the shared schema that read one tenant's tables. Every tenant would read that tenant's rows.
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
    if bound.is_empty() {
        return Ok(CheckResult::good("no view of the shared schema reads a tenant's tables"));
    }
    let found = format!(
        "{} bound to a tenant's tables",
        are(bound.len(), "view of the shared schema", "views of the shared schema")
    );
    Ok(CheckResult::of(Verdict::Failed, found)
        .naming(bound)
        .fix("drop view NAME; create it in each tenant, by a tenant migration"))
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
