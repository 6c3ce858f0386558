//! Findings about the logins of services, about PUBLIC, and about objects that are not one tenant's.

use super::{SEPARATOR, attribute, dotted, named, revoke, split, wrong};
use crate::{db::Operator, drift::report::Difference, ident::quoted, migrate::LEDGER_TABLE};

/// Returns the finding for a row of the query that names no tenant's schema: its kind, and its two texts.
pub(super) fn of_shared(operator: &Operator, kind: &str, a: &str, b: &str) -> Option<Difference> {
    let found = if kind.starts_with("everyone") {
        of_everyone(operator, kind, a, b)
    } else if kind.starts_with("login") || kind == "default right" {
        of_login(operator, kind, a, b)
    } else if kind.starts_with("own ") {
        of_own_table(operator, kind, a, b)
    } else {
        of_object(kind, a, b)
    };
    found.map(|difference| Difference { gives_rights: !GIVES_NO_RIGHT.contains(&kind), ..difference })
}

/// The findings that are not about rights of a login, of PUBLIC or of another owner.
const GIVES_NO_RIGHT: [&str; 6] =
    ["login setting", "login path", "everyone lacks", "everyone setting", "own part", "built-in"];

/// Returns the object of a right to create, as in GRANT.
fn place(operator: &Operator, place: &str) -> String {
    match place {
        "database" => format!("database {}", quoted(&operator.facts().database)),
        _ => "schema public".into(),
    }
}

/// Returns the same object for messages.
fn shown(operator: &Operator, place: &str) -> String {
    match place {
        "database" => format!("database {}", operator.facts().database),
        _ => "schema public".into(),
    }
}

fn of_login(operator: &Operator, kind: &str, a: &str, b: &str) -> Option<Difference> {
    let login = quoted(a);
    let database = quoted(&operator.facts().database);
    let about_login = |what: String, fix: String| Some(wrong("login", a, what, &[fix]));
    match kind {
        "login attribute" => about_login(attribute(b).to_owned(), format!("alter role {login} no{b}")),
        "login member" => {
            let (group, granted_by) = split(b);
            about_login(
                format!("is a member of {group}, which is not a tenant's role"),
                format!("revoke {} from {login}{granted_by}", quoted(group)),
            )
        }
        // The services of the other database need the membership.
        "login member elsewhere" => {
            let (group, _) = split(b);
            let what = format!(
                "is a member of {group}, which looks like a role of another database, and that role may do something here: \
                 revoke its rights, attributes and memberships"
            );
            Some(Difference::wrong("login", a, what))
        }
        "login has member" => {
            let (member, granted_by) = split(b);
            about_login(
                format!("role {member} may act as it, and so as every tenant: a hole in isolation"),
                format!("revoke {login} from {}{granted_by} cascade", quoted(member)),
            )
        }
        "login setting" => {
            let setting = dotted(b.split('=').next().unwrap_or_default());
            let fixes = [
                format!("alter role {login} reset {setting}"),
                format!("alter role {login} in database {database} set search_path = ''"),
            ];
            Some(wrong("login", a, format!("has the setting {b}"), &fixes))
        }
        "login path" => about_login(
            "has no empty search path in this database: outside of a tenant it finds the tables of public".into(),
            format!("alter role {login} in database {database} set search_path = ''"),
        ),
        "login owns" => {
            about_login(format!("owns {b}"), format!("reassign owned by {login} to {}", quoted(&operator.facts().role)))
        }
        "login writes ledger" => {
            let ledger = format!("{}.{}", quoted(b), quoted(LEDGER_TABLE));
            about_login(
                format!("may write the ledger {b}.{LEDGER_TABLE}"),
                format!("revoke all on {ledger} from {login}"),
            )
        }
        "login has" => {
            let (kind, identity) = split(b);
            about_login(
                format!("has rights on {}, which cgk gives no login", named(kind, identity)),
                revoke(kind, identity, &login),
            )
        }
        "login creates" => about_login(
            format!("may create objects in {}", shown(operator, b)),
            format!("revoke create on {} from {login}", place(operator, b)),
        ),
        "login creates in" => about_login(
            format!("may create objects in schema {b}, which is in every search path"),
            format!("revoke create on schema {} from {login}", quoted(b)),
        ),
        "login has on shared" => {
            let (table, rights) = b.split_once(SEPARATOR)?;
            about_login(
                format!("has {rights} on {table}, which cgk gives no login"),
                format!("revoke {rights} on {table} from {login}"),
            )
        }
        "login passes on" => {
            let (relation, rights) = b.split_once(SEPARATOR)?;
            about_login(
                format!("may pass on {rights} on {relation}, which cgk lets no login do"),
                format!("revoke grant option for {rights} on {relation} from {login} cascade"),
            )
        }
        "default right" => {
            let mut parts = b.split(SEPARATOR);
            let mut part = || parts.next().unwrap_or_default();
            let (what, grantee, rights) = (part(), part(), part());
            let fix = format!("alter default privileges for role {login} revoke {rights} on {what} from {grantee}");
            let who = if grantee == "public" { "everyone" } else { grantee };
            let text =
                format!("{who} gets {rights} on all that {a} creates, in tenants' schemas too: a hole in isolation");
            Some(wrong("default rights", &format!("{what} in every schema"), text, &[fix]))
        }
        _ => None,
    }
}

fn of_everyone(operator: &Operator, kind: &str, a: &str, b: &str) -> Option<Difference> {
    let database = quoted(&operator.facts().database);
    let everyone = |what: &str, fix: String| Some(wrong("role", "public (everyone)", what.to_owned(), &[fix]));
    match kind {
        "everyone creates" => everyone(
            &format!("may create objects in {}", shown(operator, b)),
            format!("revoke create on {} from public", place(operator, b)),
        ),
        "everyone creates in" => everyone(
            &format!("may create objects in schema {b}, which is in every search path"),
            format!("revoke create on schema {} from public", quoted(b)),
        ),
        "everyone lacks" => everyone(
            &format!("may not use schema {a}, nor may {b} of the tenants' roles: their statements find nothing in it"),
            format!("grant usage on schema {} to public", quoted(a)),
        ),
        "everyone setting" => {
            let setting = dotted(b.split('=').next().unwrap_or_default());
            let (place, fix) = match a {
                "" => ("every database", format!("alter role all reset {setting}")),
                _ => ("this database", format!("alter database {database} reset {setting}")),
            };
            everyone(&format!("begins each session in {place} with {b}"), fix)
        }
        "everyone mapping" => everyone(
            &format!("has a user mapping for server {a}, with which every tenant reaches it"),
            format!("drop user mapping for public server {a}"),
        ),
        "everyone has" => everyone(
            &format!("has rights on {}, which every tenant has too: a hole in isolation", named(a, b)),
            revoke(a, b, "public"),
        ),
        _ => None,
    }
}

/// Returns the finding about a table of cgk's own.
fn of_own_table(operator: &Operator, kind: &str, table: &str, b: &str) -> Option<Difference> {
    let (first, second) = split(b);
    let (what, fixes) = match kind {
        "own right" => {
            let (who, grantee) = match first {
                "" => ("everyone", "public".to_owned()),
                role => (role, quoted(role)),
            };
            let mut fixes = vec![format!("revoke {second} on {table} from {grantee}")];
            if table == "public.cgk_aliases" && first.is_empty() && second.split(", ").any(|right| right == "select") {
                // REVOKE also takes away the rights on columns.
                fixes.push(format!("grant select (slug, organization_id, expires_at) on {table} to public"));
            }
            (format!("{who} has {second} on it, and it is a record of cgk's own"), fixes)
        }
        "own owner" => {
            let owner = if second.is_empty() { quoted(&operator.facts().role) } else { second.to_owned() };
            (
                format!("is owned by {first}, and it is a record of cgk's own"),
                vec![format!("alter table {table} owner to {owner}")],
            )
        }
        "own part" if first == "row security" => {
            let change = if table == "public.cgk_aliases" { "enable" } else { "disable" };
            let fix = format!("alter table {table} {change} row level security, no force row level security");
            (format!("row security is {second}, and it is a record of cgk's own"), vec![fix])
        }
        "own part" => (
            format!("has the {first} {second}, and it is a record of cgk's own"),
            vec![format!("drop {first} {} on {table}", quoted(second))],
        ),
        _ => return None,
    };
    Some(wrong("table", table, what, &fixes))
}

fn of_object(kind: &str, a: &str, b: &str) -> Option<Difference> {
    match kind {
        "built-in" => {
            let what = "stands among the server's own, where calls of every tenant and of cgk may find it".to_owned();
            Some(wrong(a, b, what, &[format!("drop {a} {b}")]))
        }
        "publishes all" => {
            let what = "publishes every table of the database, of all tenants and of the shared schema".to_owned();
            Some(wrong("publication", a, what, &[format!("drop publication {}", quoted(a))]))
        }
        "partition" | "inherits" => {
            let (relation, fix) = match kind {
                "partition" => ("is a partition of", format!("alter table {b} detach partition {a}")),
                _ => ("inherits from", format!("alter table {a} no inherit {b}")),
            };
            let text = format!("{relation} {b}, through which its rows can be read: a hole in isolation");
            Some(wrong("table", a, text, &[fix]))
        }
        "child" => {
            let text = format!(
                "everyone has rights on it, and the policies of its parent {b} do not cover it: a hole in isolation"
            );
            Some(wrong("table", a, text, &[format!("revoke all on {a} from public")]))
        }
        _ => None,
    }
}
