//! Under path isolation, compares the rights of service logins on tenants' schemas with those that cgk grants.
//!
//! These rights are not in the record of the migrations, because logins change. cgk grants each login the same rights
//! on every schema ([`isolation::grants_sql`](crate::isolation)). An extra or missing right is a finding, with the
//! statement that fixes it. Under role isolation, a login has no rights on a tenant's schema, and the comparison of the
//! catalogue reports a login that has some. While the isolation is being changed, a command with role isolation accepts
//! the rights of path isolation and requires none of them.

use super::{
    report::{Change, Difference, FixStatement},
    roles::{RoleFindings, RoleSelection},
};
use crate::{
    catalogue::{SCHEMA_OWNER, ServiceAccess, settings_sql},
    db::{Operator, message, milliseconds},
    error::{Result, while_doing},
    ident::{SchemaName, literal, quoted},
    registry::{self, sql::TENANT_SCHEMAS},
};

const RIGHTS: &str = include_str!("login_rights.sql");

/// Reads the rights in one query. Writes nothing.
pub(super) async fn findings(operator: &Operator, whose: RoleSelection<'_>) -> Result<RoleFindings> {
    let mut all = RoleFindings::new();
    let needed = match ServiceAccess::of(operator) {
        ServiceAccess::Role => return Ok(all),
        ServiceAccess::RoleAndLogins => "false",
        ServiceAccess::Logins => "l.is_direct",
    };
    let doing = || while_doing("look at the rights of services' logins");
    let rights = RIGHTS.replace("{needed}", needed);
    let answer = message::run(operator.client(), &script(operator, whose, &rights)).await.map_err(doing())?;
    let answer = answer.complete().map_err(doing())?;
    for (_, row) in answer.rows.iter().filter(|(_, row)| row.get(0) == Some("login rights")) {
        let text = |index| row.get(index).unwrap_or_default();
        let place = GrantedObject { schema: text(1), login: text(2), object: text(3), column: text(4), owner: text(5) };
        let found = all.entry(text(1).to_owned()).or_default();
        found.extend([place.too_many(text(6)), place.passed_on(text(8)), place.missing(text(7))].into_iter().flatten());
    }
    Ok(all)
}

fn script(operator: &Operator, whose: RoleSelection<'_>, rights: &str) -> String {
    let schemas: Vec<String> = match whose {
        RoleSelection::These(slugs) => slugs.iter().map(|slug| literal(SchemaName::of_tenant(slug).as_str())).collect(),
        RoleSelection::Fleet | RoleSelection::Shared => Vec::new(),
    };
    let these = match whose {
        RoleSelection::Fleet => "true".to_owned(),
        RoleSelection::These(_) if !schemas.is_empty() => format!("n.nspname in ({})", schemas.join(", ")),
        RoleSelection::These(_) | RoleSelection::Shared => "false".to_owned(),
    };
    let sql = registry::sql::fill(rights);
    let sql = sql.lines().filter(|line| !line.trim_start().starts_with("--")).collect::<Vec<_>>().join("\n");
    format!(
        "set transaction isolation level read committed, read only;
{};
select pg_catalog.set_config('statement_timeout', {}, true);
with t (schema, nsp, owner) as materialized (
    select distinct n.nspname::pg_catalog.text, n.oid, {owner}
    from {TENANT_SCHEMAS}
    where {these}
),
{sql};
",
        settings_sql(""),
        literal(&milliseconds(operator.session().migration_statement_timeout)),
        owner = SCHEMA_OWNER,
    )
}

/// The object of a login's rights, as written in GRANT, or `default rights on` a kind of objects.
struct GrantedObject<'a> {
    schema: &'a str,
    login: &'a str,
    object: &'a str,
    column: &'a str,
    owner: &'a str,
}

impl GrantedObject<'_> {
    fn too_many(&self, rights: &str) -> Option<Difference> {
        let what = || {
            format!(
                "has {rights} on {}, which cgk does not grant: revoke it, or add a rule to drift.ignore",
                self.shown()
            )
        };
        (!rights.is_empty())
            .then(|| Difference { gives_rights: true, ..self.wrong(what(), self.statement("revoke", rights, "from")) })
    }

    /// The login keeps a right that it needs, without the option to pass it on.
    fn passed_on(&self, rights: &str) -> Option<Difference> {
        let what = || format!("may pass on {rights} on {}, which cgk does not grant", self.shown());
        let fix = || format!("{} cascade", self.statement("revoke grant option for", rights, "from"));
        (!rights.is_empty()).then(|| Difference { gives_rights: true, ..self.wrong(what(), fix()) })
    }

    fn missing(&self, rights: &str) -> Option<Difference> {
        let what = || format!("lacks {rights} on {}", self.shown());
        (!rights.is_empty()).then(|| self.wrong(what(), self.statement("grant", rights, "to")))
    }

    fn wrong(&self, what: String, fix: String) -> Difference {
        let fix = vec![FixStatement::about_role(fix)];
        Difference { fix, ..Difference::new("login", self.login, Change::Wrong { what }) }
    }

    fn shown(&self) -> String {
        match self.column {
            "" => self.object.to_owned(),
            column => format!("column {column} of {}", self.object),
        }
    }

    fn statement(&self, verb: &str, rights: &str, direction: &str) -> String {
        let login = quoted(self.login);
        if let Some(kind) = self.object.strip_prefix("default rights on ") {
            let (owner, schema) = (quoted(self.owner), quoted(self.schema));
            return format!(
                "alter default privileges for role {owner} in schema {schema} {verb} {rights} on {kind} {direction} {login}"
            );
        }
        let rights = match self.column {
            "" => rights.to_owned(),
            column => rights.split(", ").map(|right| format!("{right} ({column})")).collect::<Vec<_>>().join(", "),
        };
        format!("{verb} {rights} on {} {direction} {login}", self.object)
    }
}
