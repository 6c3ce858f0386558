//! Finds rights that a tenant's role, a service login or PUBLIC should not have.
//!
//! No migration grants any of these, so there is no reference to compare with. cgk creates a tenant's role without
//! attributes, memberships and settings. Each of them is a finding, with the statement that removes it.

mod shared;

use super::report::{Change, Difference, FixStatement};
use crate::{
    access::isolation,
    catalogue::{SCHEMA_OWNER, ServiceAccess, settings_sql},
    config::Isolation,
    db::{Operator, message, milliseconds},
    error::{Result, while_doing},
    ident::{Reader, RoleName, SchemaName, literal, quoted},
    migrate::LEDGER_TABLE,
    registry::{self, role_of},
    slug::TenantSlug,
};
use shared::of_shared;
use std::collections::HashMap;

const ROLES: &str = include_str!("roles.sql");

/// Which roles are checked.
#[derive(Clone, Copy, Debug)]
pub(super) enum RoleSelection<'a> {
    /// The roles of all tenants.
    Fleet,
    /// The roles of these tenants.
    These(&'a [TenantSlug]),
    /// No tenant's role: only rights of service logins and of PUBLIC on the shared schema.
    Shared,
}

/// The findings by schema. Those of logins and of PUBLIC have the name of the shared schema.
pub(super) type RoleFindings = HashMap<String, Vec<Difference>>;

/// Reads the roles in one query. Writes nothing.
pub(super) async fn findings(operator: &Operator, whose: RoleSelection<'_>, shared: bool) -> Result<RoleFindings> {
    let doing = || while_doing("look at the roles of tenants and services");
    let sql = script(operator, whose, shared);
    let answer = message::run(operator.client(), &sql).await.map_err(doing())?.complete().map_err(doing())?;
    let mut all = RoleFindings::new();
    for (_, row) in answer.rows.iter().filter(|(_, row)| row.get(0) == Some("role")) {
        let text = |index| row.get(index).unwrap_or_default();
        let public = SchemaName::public();
        let schema = if text(1).is_empty() { public.as_str() } else { text(1) };
        let slug = schema.strip_prefix("tenant_").and_then(|slug| slug.parse::<TenantSlug>().ok());
        let tenant = slug.and_then(|slug| role_of(operator, &slug));
        let reader = readers(operator).into_iter().find(|reader| reader.as_str() == schema);
        let (schema, finding) = match (&tenant, &reader) {
            (Some(role), _) => (schema, of_role(operator, RoleOwner::Tenant(schema), role, text(2), text(3), text(4))),
            (None, Some(role)) => {
                (public.as_str(), of_role(operator, RoleOwner::Reader, role, text(2), text(3), text(4)))
            }
            (None, None) => (schema, of_shared(operator, text(2), text(3), text(4))),
        };
        all.entry(schema.to_owned()).or_default().extend(finding);
    }
    Ok(all)
}

/// The owner of a checked role.
#[derive(Clone, Copy)]
enum RoleOwner<'a> {
    /// The tenant with this schema.
    Tenant(&'a str),
    /// Readers of the shared tables. Such a role has no schema.
    Reader,
}

/// Returns the roles that read the shared tables.
fn readers(operator: &Operator) -> [RoleName; 2] {
    [Reader::User, Reader::Admin].map(|reader| RoleName::of_reader(reader, &operator.facts().database_tag()))
}

/// Returns the condition on a tenant's schema and role.
fn condition(operator: &Operator, whose: RoleSelection<'_>) -> String {
    match (operator.config().isolation(), whose) {
        (Isolation::Path, _) | (_, RoleSelection::Shared) => "and false".to_owned(),
        (Isolation::Role, RoleSelection::Fleet) => {
            format!("and {}", registry::sql::IS_TENANT_SCHEMA)
        }
        (Isolation::Role, RoleSelection::These(slugs)) => {
            let names: Vec<_> = slugs.iter().map(|slug| literal(SchemaName::of_tenant(slug).as_str())).collect();
            let roles = slugs.iter().filter_map(|slug| role_of(operator, slug));
            let roles: Vec<_> = roles.map(|role| literal(role.as_str())).collect();
            let list = |names: &[String]| if names.is_empty() { "null".into() } else { names.join(", ") };
            // Both use an index.
            format!("and n.nspname in ({}) and r.rolname in ({})", list(&names), list(&roles))
        }
    }
}

fn script(operator: &Operator, whose: RoleSelection<'_>, shared: bool) -> String {
    let tag = literal(operator.facts().database_tag().as_str());
    let tenants = condition(operator, whose);
    let readers = match shared {
        true => {
            let [user, admin] = readers(operator).map(|role| literal(role.as_str()));
            format!(
                "
    union all
    select r.rolname::pg_catalog.text, 0::pg_catalog.oid, 0::pg_catalog.oid, r.oid, r.rolname::pg_catalog.text
    from pg_catalog.pg_roles r where r.rolname in ({user}, {admin})"
            )
        }
        false => String::new(),
    };
    // The memberships of a few tenants are found by index; those of a login are needed for the shared findings.
    let memberships = match whose {
        RoleSelection::These(_) if !shared => {
            "(select m.* from pg_catalog.pg_auth_members m where m.member = any (array(select t.oid from t))
              union select m.* from pg_catalog.pg_auth_members m where m.roleid = any (array(select t.oid from t)))"
        }
        _ => "pg_catalog.pg_auth_members",
    };
    // Since PostgreSQL 16, several roles can grant the same membership. REVOKE removes only the grant of the current
    // role, or, run by a superuser, that of the named role.
    let (inherits, may_set, acts, inherit_attribute, granted_by) = match operator.facts().major() {
        16.. => (
            "m.inherit_option",
            "m.set_option",
            "'set'",
            "",
            "case when m.grantor = 10 or pg_catalog.pg_get_userbyid(m.grantor) = current_user then ''
                  else ' granted by ' || pg_catalog.quote_ident(pg_catalog.pg_get_userbyid(m.grantor)::pg_catalog.text) end",
        ),
        _ => ("x.rolinherit", "true", "'member'", ", ('inherit', l.rolinherit)", "''"),
    };
    let parameters = match operator.facts().major() {
        15.. => "union all select 'parameter ACL', p.parname, p.paracl from pg_catalog.pg_parameter_acl p",
        _ => "",
    };
    let further: Vec<_> = operator.search_path().further().iter().map(|schema| literal(schema.as_str())).collect();
    // Since PostgreSQL 16, the membership defines whether rights are inherited, and the attribute is only its default.
    let sql = registry::sql::fill(&branches(shared))
        .replace(", ('inherit', l.rolinherit)", inherit_attribute)
        .replace("{inherits}", inherits)
        .replace("{may_set}", may_set)
        .replace("{acts}", acts)
        .replace("{granted_by}", granted_by)
        .replace("{parameters}", parameters)
        .replace("{memberships}", memberships)
        .replace(
            "{settled}",
            if ServiceAccess::of(operator) == ServiceAccess::RoleAndLogins { "false" } else { "true" },
        )
        .replace("{shared}", if shared { "true" } else { "false" })
        .replace("{with_roles}", if operator.config().isolation() == Isolation::Role { "true" } else { "false" })
        .replace("{tag}", &tag)
        .replace("{further}", &format!("array[{}]::pg_catalog.text[]", further.join(", ")))
        .replace(
            "{tenant_role}",
            &format!(
                "pg_catalog.starts_with(m.group_role, 'cgk_') and pg_catalog.right(m.group_role, 11) = '_' || {tag}"
            ),
        );
    let sql = sql.lines().filter(|line| !line.trim_start().starts_with("--")).collect::<Vec<_>>().join("\n");
    format!(
        "set transaction isolation level read committed, read only;
{};
select pg_catalog.set_config('statement_timeout', {}, true);
with t (schema, nsp, owner, oid, name) as materialized (
    select n.nspname::pg_catalog.text, n.oid, {owner}, r.oid, r.rolname::pg_catalog.text
    from pg_catalog.pg_namespace n
    join pg_catalog.pg_roles r on r.rolname::pg_catalog.text = 'cgk_' || pg_catalog.substr(n.nspname::pg_catalog.text, 8) || '_' || {tag}
    where pg_catalog.starts_with(n.nspname::pg_catalog.text, 'tenant_') {tenants}{readers}
),
{sql};
",
        settings_sql(""),
        literal(&milliseconds(operator.session().migration_statement_timeout)),
        owner = SCHEMA_OWNER,
    )
}

/// Returns the query. Without `shared`, it omits the branches for the shared findings, because planning them takes
/// longer than checking one tenant.
fn branches(shared: bool) -> String {
    let (findings, end) = ROLES.rsplit_once("\n)\nselect").expect("the query ends with its select");
    let needed = findings.split("\nunion all\n").filter(|branch| shared || !branch.contains("{shared}"));
    format!("{}\n)\nselect{end}", needed.collect::<Vec<_>>().join("\nunion all\n"))
}

/// Returns a finding about the role of a tenant or of readers.
fn of_role(
    operator: &Operator,
    of: RoleOwner<'_>,
    role: &RoleName,
    kind: &str,
    a: &str,
    b: &str,
) -> Option<Difference> {
    let (name, role) = (role.as_str(), role.quoted());
    let about_role = |what: String, fix: String| Some(wrong("role", name, what, &[fix]));
    match kind {
        "attribute" => about_role(attribute(a).to_owned(), format!("alter role {role} no{a}")),
        "member of" => about_role(
            format!("is a member of {a}, and may do what that may"),
            format!("revoke {} from {role}{}", quoted(a), split(b).1),
        ),
        "may grant" => about_role(
            format!("role {a} may make any role a member of it: a hole in isolation"),
            format!("revoke admin option for {role} from {}{} cascade", quoted(a), split(b).1),
        ),
        "has member" => {
            let (how, granted_by) = split(b);
            let what = match (how, of) {
                ("tenant", RoleOwner::Reader) => {
                    format!("another reader's role, {a}, may act as it: a hole in isolation")
                }
                ("tenant", RoleOwner::Tenant(_)) => {
                    format!("another tenant's role, {a}, may act as it: a hole in isolation")
                }
                ("inherits" | "login inherits", _) => format!("role {a} has all its rights without acting as it"),
                _ => format!("role {a} may act as it, and no `setup:database --app-role` admitted that role"),
            };
            let member = quoted(a);
            let fix = match (how, operator.facts().major()) {
                // The login keeps its membership, with which it enters the tenant.
                ("login inherits", 16..) => format!("revoke inherit option for {role} from {member}{granted_by}"),
                ("login inherits", _) => format!("alter role {member} noinherit"),
                _ => format!("revoke {role} from {member}{granted_by} cascade"),
            };
            about_role(what, fix)
        }
        "lacks member" => about_role(
            format!("login {a} may not act as it: a service with this login cannot enter the tenant"),
            format!("grant {role} to {}{}", quoted(a), isolation::membership_options(operator.facts())),
        ),
        "setting" => {
            let setting = a.split('=').next().unwrap_or_default();
            let place = if b.is_empty() { String::new() } else { format!(" in database {}", quoted(b)) };
            let within = if b.is_empty() { "" } else { " in this database" };
            about_role(
                format!("has the setting {a}{within}"),
                format!("alter role {role}{place} reset {}", dotted(setting)),
            )
        }
        "owns" if a == "default acl" => {
            let mut parts = b.split(SEPARATOR);
            let (identity, of) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
            let fixes = without_default_rights(identity, of == "every", parts, &role);
            Some(wrong("role", name, format!("owns {a} {identity}"), &fixes))
        }
        "owns" => {
            let own = &operator.facts().role;
            let fix = match a {
                "schema" | "table" | "sequence" | "view" | "function" | "type" | "database" => {
                    format!("alter {a} {b} owner to {}", quoted(own))
                }
                _ => format!("reassign owned by {role} to {}", quoted(own)),
            };
            about_role(format!("owns {a} {b}"), fix)
        }
        "right" => {
            let what = match of {
                RoleOwner::Tenant(_) => {
                    format!("has rights on {}, outside of its schema: a hole in isolation", named(a, b))
                }
                RoleOwner::Reader => {
                    format!("has rights on {}, which cgk does not give it: a hole in isolation", named(a, b))
                }
            };
            Some(wrong("role", name, what, &revoke_from_role(operator, a, b, &role)))
        }
        "reads registry" => about_role(
            format!("reads all of organizations by policy {a}: a hole in isolation"),
            registry::sql::drop_policy_sql(&quoted(a)),
        ),
        "writes ledger" | "has ledger" => {
            let RoleOwner::Tenant(schema) = of else { return None };
            let ledger = format!("{}.{}", quoted(schema), quoted(LEDGER_TABLE));
            let fix = format!("revoke all on {ledger} from {role}");
            let what = match kind {
                "writes ledger" => "the tenant's role may write it".to_owned(),
                _ => format!("the tenant's role has {a} on it"),
            };
            Some(wrong("ledger", LEDGER_TABLE, what, &[fix]))
        }
        _ => None,
    }
}

/// Separates the texts in one column of the query. It does not occur in names that the server quotes.
const SEPARATOR: char = '\u{1f}';

/// Returns the first text of a column of the query, and the rest.
fn split(texts: &str) -> (&str, &str) {
    texts.split_once(SEPARATOR).unwrap_or((texts, ""))
}

/// Returns an object as the server describes it, with usual names for some kinds.
fn named(kind: &str, identity: &str) -> String {
    match kind {
        "parameter ACL" => format!("parameter {identity}"),
        _ => format!("{kind} {identity}"),
    }
}

/// Returns the statements after which the server has no entry for a role's default privileges. The server drops an
/// entry that equals the built-in defaults. For a single schema, these are empty. For all schemas, the owner has all
/// rights, and PUBLIC has the rights on functions and types.
fn without_default_rights<'g>(
    identity: &str,
    every_schema: bool,
    grantees: impl Iterator<Item = &'g str>,
    role: &str,
) -> Vec<String> {
    // The identity has the form "for role x in schema y on tables".
    let (place, what) = identity.rsplit_once(" on ").unwrap_or(("", identity));
    let statement = |change: String| format!("alter default privileges {place} {change}");
    let mut fixes: Vec<String> =
        grantees.map(|grantee| statement(format!("revoke all on {what} from {grantee}"))).collect();
    if every_schema {
        fixes.push(statement(format!("grant all on {what} to {role}")));
        if ["functions", "types"].contains(&what) {
            fixes.push(statement(format!("grant all on {what} to public")));
        }
    }
    fixes
}

fn wrong(kind: &str, object: &str, what: String, fixes: &[String]) -> Difference {
    let fix = fixes.iter().map(|sql| FixStatement::about_role(sql.clone())).collect();
    Difference { fix, ..Difference::new(kind, object, Change::Wrong { what }) }
}

fn attribute(name: &str) -> &'static str {
    match name {
        "superuser" => "may do anything",
        "login" => "may log in",
        "createrole" => "may make roles",
        "createdb" => "may make databases",
        "replication" => "may read the write-ahead log",
        "bypassrls" => "may bypass policies",
        _ => "inherits the rights of roles that it is a member of",
    }
}

/// Returns the name of a setting, which can have a prefix.
fn dotted(setting: &str) -> String {
    setting.split('.').map(quoted).collect::<Vec<_>>().join(".")
}

/// Returns the statements that revoke the rights of a tenant's or reader's role on an object. The role keeps USAGE on the
/// schemas of every search path: without it, it finds nothing in them if PUBLIC does not have the right.
fn revoke_from_role(operator: &Operator, kind: &str, identity: &str, role: &str) -> Vec<String> {
    let further = operator.search_path().further().iter();
    let is_in_path = || further.map(|schema| schema.quoted()).any(|schema| unquoted(&schema) == unquoted(identity));
    if kind == "schema" && (identity == "public" || is_in_path()) {
        return vec![
            format!("revoke create on schema {identity} from {role}"),
            format!("revoke grant option for usage on schema {identity} from {role} cascade"),
        ];
    }
    vec![revoke(kind, identity, role)]
}

/// Returns a name without its quotes. The server quotes only the names that need it.
fn unquoted(name: &str) -> &str {
    name.strip_prefix('"').and_then(|name| name.strip_suffix('"')).unwrap_or(name)
}

/// Returns a statement that revokes all rights on an object. The identity is the server's text, already quoted.
fn revoke(kind: &str, identity: &str, role: &str) -> String {
    match kind {
        // The identity has the form "for role x in schema y on tables".
        "default acl" => match identity.rsplit_once(" on ") {
            Some((place, what)) => format!("alter default privileges {place} revoke all on {what} from {role}"),
            None => format!("alter default privileges revoke all on {identity} from {role}"),
        },
        "table column" => {
            // Revoking the rights on the table also revokes those on its columns.
            format!("revoke all on {} from {role}", before_last_name(identity))
        }
        "view" | "materialized view" | "foreign table" | "table" => format!("revoke all on {identity} from {role}"),
        "parameter ACL" => format!("revoke all on parameter {identity} from {role}"),
        "aggregate" => format!("revoke all on function {identity} from {role}"),
        "foreign-data wrapper" => format!("revoke all on foreign data wrapper {identity} from {role}"),
        "server" => format!("revoke all on foreign server {identity} from {role}"),
        _ => format!("revoke all on {kind} {identity} from {role}"),
    }
}

/// Returns a quoted name without its last part. A dot inside of quotes belongs to a name.
fn before_last_name(identity: &str) -> &str {
    let (mut quoted, mut end) = (false, identity.len());
    for (index, byte) in identity.bytes().enumerate() {
        match byte {
            b'"' => quoted = !quoted,
            b'.' if !quoted => end = index,
            _ => {}
        }
    }
    &identity[..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_column_is_told_from_its_table() {
        for (column, table) in
            [("public.users.email", "public.users"), ("public.\"a.b\".\"c.\"\"d\"", "public.\"a.b\""), ("x", "x")]
        {
            assert_eq!(before_last_name(column), table);
        }
    }
}
