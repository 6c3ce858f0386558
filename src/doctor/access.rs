//! Checks of roles and rights.

use super::{CheckResult, Verdict, are, rows, texts};
use crate::{
    config::Isolation,
    db::Operator,
    error::{Result, while_doing},
    ident::quoted,
    registry,
};

/// Checks the rights of the connected role.
pub(super) fn operator(operator: &Operator) -> CheckResult {
    let facts = operator.facts();
    let role = quoted(&facts.role);
    if facts.superuser {
        return CheckResult::of(
            Verdict::Warning,
            format!("{role} is a superuser: policies and most rights do not apply to it"),
        )
        .fix("connect as a role that owns the database and may create roles");
    }
    if facts.service_login {
        return CheckResult::unknown(format!(
            "{role} is the login of a service: whether tenants can be created was not checked"
        ));
    }
    let roles_needed = operator.config().isolation() == Isolation::Role && !facts.creates_roles;
    let lacks: Vec<&str> = [
        (!facts.creates_schemas, "schemas"),
        (facts.creates_in_public != Some(true), "tables in public"),
        (roles_needed, "roles"),
    ]
    .into_iter()
    .filter_map(|(lacks, what)| lacks.then_some(what))
    .collect();
    if lacks.is_empty() {
        return CheckResult::good(format!("{role} may create what tenants need"));
    }
    CheckResult::of(Verdict::Warning, format!("{role} may not create {}: it cannot create tenants", lacks.join(", ")))
        .fix("cgk setup:database names the statement that grants each right")
}

/// Checks whether other roles could create objects that tenants would use.
pub(super) fn public_schema(operator: &Operator) -> CheckResult {
    match operator.facts().everyone_creates_in_public {
        false => CheckResult::good("only roles that were granted the right may create objects in public"),
        true => CheckResult::of(Verdict::Failed, "every role may create objects in public, which tenants would use")
            .fix("revoke create on schema public from public"),
    }
}

/// Checks the logins of services, as far as the catalogue shows them: roles that may act as a tenant's role and are not
/// the operator. A superuser, and a role that bypasses policies, can read the rows of every tenant in the shared
/// tables.
pub(super) async fn logins(operator: &Operator) -> Result<CheckResult> {
    let doing = "list the logins of services";
    let sql = "
        select pg_catalog.quote_ident(r.rolname::pg_catalog.text),
               pg_catalog.concat_ws(', ', case when r.rolsuper then 'a superuser' end,
                                    case when r.rolbypassrls then 'ignores row-level security' end,
                                    case when r.rolcreaterole then 'may create roles' end)
        from {admitted_logins} order by 1";
    let (mut all, mut wrong) = (0, Vec::new());
    for row in rows(operator, doing, &registry::sql::fill(sql)).await? {
        let (name, too_much): (String, String) =
            (row.try_get(0).map_err(while_doing(doing))?, row.try_get(1).map_err(while_doing(doing))?);
        all += 1;
        if !too_much.is_empty() {
            wrong.push(format!("{name}: {too_much}"));
        }
    }
    if wrong.is_empty() {
        return Ok(CheckResult::good(format!("no login of a service may do too much ({all} looked at)")));
    }
    let found = format!("{} of a service and may do too much", are(wrong.len(), "role", "roles"));
    Ok(CheckResult::of(Verdict::Failed, found)
        .naming(wrong)
        .fix("alter role NAME nosuperuser nobypassrls nocreaterole"))
}

/// Checks for settings of roles that cgk created. A session that resets itself gets these settings. cgk sets only one
/// itself: the empty search path of a service's login.
pub(super) async fn role_settings(operator: &Operator) -> Result<CheckResult> {
    let sql = format!(
        "select pg_catalog.quote_ident(r.rolname::pg_catalog.text) || ': ' || c.setting
         from pg_catalog.pg_db_role_setting s
         join pg_catalog.pg_roles r on r.oid = s.setrole
         cross join lateral pg_catalog.unnest(s.setconfig) c (setting)
         where (s.setdatabase = 0 or s.setdatabase = (select d.oid from pg_catalog.pg_database d where d.datname = pg_catalog.current_database()))
           and (r.rolname::pg_catalog.text ~ '^cgk_[a-z][a-z0-9_]*_{tag}$'
                or exists (select from pg_catalog.pg_policy p where p.polroles = array[r.oid]
                           and p.polname::pg_catalog.text = 'cgk_login_' || r.rolname::pg_catalog.text)
                   and c.setting <> 'search_path=\"\"'
                   and pg_catalog.split_part(c.setting, '=', 1) in ('search_path', 'role', 'session_authorization', 'row_security'))
         order by 1",
        tag = operator.facts().database_tag().as_str()
    );
    let wrong = texts(operator, "list the settings of roles", &sql).await?;
    if wrong.is_empty() {
        return Ok(CheckResult::good(
            "no tenant's role and no login of a service has settings that change what it sees",
        ));
    }
    let found =
        format!("{} stored with a tenant's role or a login of a service", are(wrong.len(), "setting", "settings"));
    Ok(CheckResult::of(Verdict::Failed, found).naming(wrong).fix("alter role NAME reset SETTING"))
}

/// Checks for shared tables without policies that tenants' roles may read and that contain rows of several
/// organizations.
pub(super) async fn shared_tables(operator: &Operator) -> Result<CheckResult> {
    let sql = format!(
        "select 'public.' || pg_catalog.quote_ident(c.relname::pg_catalog.text)
         from pg_catalog.pg_class c
         join pg_catalog.pg_namespace n on n.oid = c.relnamespace and n.nspname = 'public'
         where c.relkind in ('r', 'p') and not c.relrowsecurity
           and exists (select from pg_catalog.pg_attribute a where a.attrelid = c.oid and a.attname in ('organization_id', 'org_id', 'tenant_id')
                       and a.attnum > 0 and not a.attisdropped)
           and exists (select from (select * from pg_catalog.aclexplode(c.relacl)
                                    union all
                                    select g.* from pg_catalog.pg_attribute a cross join lateral pg_catalog.aclexplode(a.attacl) g
                                    where a.attrelid = c.oid) g
                       left join pg_catalog.pg_roles r on r.oid = g.grantee
                       where g.privilege_type in ('SELECT', 'INSERT', 'UPDATE', 'DELETE')
                         and (g.grantee = 0 or r.rolname::pg_catalog.text ~ '^cgk_[a-z][a-z0-9_]*_{tag}$'))
         order by 1",
        tag = operator.facts().database_tag().as_str()
    );
    let wrong = texts(operator, "list the shared tables without policies", &sql).await?;
    if wrong.is_empty() {
        return Ok(CheckResult::good(
            "every shared table that tenants may use and that names an organization has policies",
        ));
    }
    let found =
        format!("{} open to every tenant: no row-level security", are(wrong.len(), "shared table", "shared tables"));
    Ok(CheckResult::of(Verdict::Failed, found)
        .naming(wrong)
        .fix("select public.cgk_protect_shared_table('TABLE', 'ORGANIZATION COLUMN')"))
}
