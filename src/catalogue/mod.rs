//! Reads the objects of schemas from the catalogue: one query for a schema, a fleet and the expected objects.

pub(crate) mod names;
pub(crate) mod stamp;

use crate::{
    config::{Isolation, IsolationModes},
    db::{Operator, message::Answer},
    ident::{RoleName, SchemaName, hex, literal},
    registry::sql::ADMITTED_LOGINS,
};
use sha2::{Digest as _, Sha256};
use std::fmt::Write as _;
use tokio_postgres::SimpleQueryRow;

/// The queries of earlier versions, whose records are translated by running both. If `objects.sql` changes after a
/// release, add the released text here.
const EARLIER: &[&str] = &[include_str!("earlier/001.sql")];

const QUERY: &str = include_str!("objects.sql");

/// A text of the catalogue query, of this version or of an earlier one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Query(&'static str);

impl Query {
    pub(crate) const CURRENT: Self = Self(QUERY);

    /// Returns the query with a digest; `None` if this version does not know it.
    pub(crate) fn with_digest(digest: &str) -> Option<Self> {
        std::iter::once(&QUERY).chain(EARLIER).map(|text| Self(text)).find(|query| query.digest() == digest)
    }

    /// Returns the key of a query in a record.
    pub(crate) fn digest(self) -> String {
        let mut digest = hex(&Sha256::digest(self.0.as_bytes()));
        digest.truncate(16);
        digest
    }
}

/// Marks a row of one of these queries, to split a response, and to distinguish it from rows of a file.
pub(crate) const OBJECT: &str = "cgk:object";
pub(crate) const FINGERPRINT: &str = "cgk:fingerprint";

/// How services reach the objects of a tenant's schema. The comparison leaves out the rights that cgk grants for it
/// outside of the migrations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ServiceAccess {
    /// As the tenant's role. Its rights are part of what the migrations give.
    Role,
    /// The same, or with rights of their logins, because the isolation of the database is being changed.
    RoleAndLogins,
    /// With rights of their logins. A role with the tenant's name is not used, and its rights are left out.
    Logins,
}

impl ServiceAccess {
    pub(crate) fn of(operator: &Operator) -> Self {
        match operator.config().isolation() {
            Isolation::Path => Self::Logins,
            Isolation::Role if operator.facts().isolation.is_some_and(IsolationModes::is_changing) => {
                Self::RoleAndLogins
            }
            Isolation::Role => Self::Role,
        }
    }

    /// Returns the name of this access in the key of a stored comparison.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Role => "role",
            Self::RoleAndLogins => "role and logins",
            Self::Logins => "logins",
        }
    }

    /// Returns the condition on an entry `a` of a list of rights, for the schema of this tenant's role.
    fn compared_sql(self, role: &str) -> String {
        const NO_LOGIN: &str = " and a.grantee <> all ((select l.oids from login l)::pg_catalog.oid[])";
        match self {
            Self::Role => String::new(),
            Self::RoleAndLogins => NO_LOGIN.to_owned(),
            Self::Logins => format!(" and a.grantee is distinct from {role}{NO_LOGIN}"),
        }
    }
}

/// The objects of a schema as one value. It is equal for schemas with the same objects under different schema names.
///
/// Values can be compared only within one server and one run. Two 64-bit hashes are summed over the objects, so that no
/// sorting is needed.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Fingerprint(pub(crate) String);

/// The schemas that a query reads: the text of `s (nsp, schema, owner, role)`.
pub(crate) enum Schemas<'a> {
    /// Some tenants, whose roles have this tag at the end of their names.
    These { tag: &'a str, names: &'a [SchemaName] },
    /// One schema, and the role that replaces its tenant's role.
    One { schema: &'a SchemaName, role: Option<&'a RoleName> },
}

impl Schemas<'_> {
    fn sql(&self) -> String {
        match self {
            Self::These { tag, names } => {
                let list: Vec<String> = names.iter().map(|name| literal(name.as_str())).collect();
                format!(
                    "select n.oid, n.nspname::pg_catalog.text, n.nspowner, r.oid from pg_catalog.pg_namespace n
                     left join pg_catalog.pg_roles r
                         on r.rolname = ('cgk_' || pg_catalog.substr(n.nspname::pg_catalog.text, 8) || '_' || {})::pg_catalog.name
                     where n.nspname = any (array[{}]::pg_catalog.name[])",
                    literal(tag),
                    list.join(",")
                )
            }
            Self::One { schema, role } => format!(
                "select n.oid, n.nspname::pg_catalog.text,
                        -- The owner of `public` is nobody who makes tables there; whoever made the ledger is.
                        coalesce((select c.relowner from pg_catalog.pg_class c where n.nspname = 'public'
                                  and c.relnamespace = n.oid and c.relname in ('schema_migrations', 'organizations')
                                  and c.relkind in ('r', 'p') order by c.relname desc limit 1), n.nspowner),
                        (select r.oid from pg_catalog.pg_roles r where r.rolname = {})
                 from pg_catalog.pg_namespace n where n.nspname = {}",
                role.map_or_else(|| "null".into(), |role| literal(role.as_str())),
                literal(schema.as_str())
            ),
        }
    }
}

/// Returns the settings of a transaction that reads the catalogue. The server's texts of defaults, constraints and
/// views depend on them, and must not depend on the settings of a database or a login.
pub(crate) fn settings_sql(search_path: &str) -> String {
    const SETTINGS: [(&str, &str); 9] = [
        ("jit", "off"),
        ("DateStyle", "ISO, MDY"),
        ("IntervalStyle", "postgres"),
        ("TimeZone", "UTC"),
        ("extra_float_digits", "1"),
        ("bytea_output", "hex"),
        ("quote_all_identifiers", "off"),
        ("xmlbinary", "base64"),
        ("standard_conforming_strings", "on"),
    ];
    let set = |name: &str, value: &str| format!("pg_catalog.set_config('{name}', {}, true)", literal(value));
    let others: Vec<String> = SETTINGS.iter().map(|(name, value)| set(name, value)).collect();
    format!("select {}, {}", set("search_path", search_path), others.join(", "))
}

/// Returns rows of `fingerprint`, the schema, its fingerprint. Use it with an empty search path, so that every name
/// includes its schema. The schema's own name is then removed from the texts.
pub(crate) fn fingerprint_sql(schemas: &Schemas<'_>, access: ServiceAccess) -> String {
    format!(
        "{} select '{FINGERPRINT}', f.schema, pg_catalog.concat_ws(':', count(*),
                   sum(pg_catalog.hashtextextended(f.text, 1)), sum(pg_catalog.hashtextextended(f.text, 2)))
         from (select s.schema, pg_catalog.replace(pg_catalog.concat_ws(E'\\x1e', o.kind, o.parent, o.name, o.facts),
                                                   s.schema || '.', E'\\x01') collate \"C\" as text
               from object o join s on s.nsp = o.nsp) f
         group by f.schema",
        with(Query::CURRENT, schemas, access)
    )
}

/// Returns rows of `object`, kind, parent, name, facts. Use it with a search path that starts with the one selected
/// schema, so that only its own names are written without a schema.
pub(crate) fn objects_sql(schemas: &Schemas<'_>, access: ServiceAccess) -> String {
    objects_sql_of(Query::CURRENT, schemas, access)
}

/// Returns the same with the query of a given version.
pub(crate) fn objects_sql_of(query: Query, schemas: &Schemas<'_>, access: ServiceAccess) -> String {
    format!("{} select '{OBJECT}', o.kind, o.parent, o.name, o.facts from object o", with(query, schemas, access))
}

/// Returns the rows of [`objects_sql`] in a response: kind, parent, name, facts.
pub(crate) fn objects(answer: &Answer) -> impl Iterator<Item = [&str; 4]> {
    answer.rows.iter().filter_map(|(_, row)| object(row))
}

/// Returns the fields of a row of [`objects_sql`]; `None` for any other row.
pub(crate) fn object(row: &SimpleQueryRow) -> Option<[&str; 4]> {
    (row.len() == 5 && row.get(0) == Some(OBJECT)).then(|| [1, 2, 3, 4].map(|index| row.get(index).unwrap_or_default()))
}

/// Returns the rows of [`fingerprint_sql`] in a response.
pub(crate) fn fingerprints(answer: &Answer) -> impl Iterator<Item = (&str, Fingerprint)> {
    answer.rows.iter().filter_map(|(_, row)| fingerprint(row))
}

/// Returns the fields of a row of [`fingerprint_sql`]; `None` for any other row.
pub(crate) fn fingerprint(row: &SimpleQueryRow) -> Option<(&str, Fingerprint)> {
    let is_one = row.len() == 3 && row.get(0) == Some(FINGERPRINT);
    is_one.then(|| Some((row.get(1)?, Fingerprint(row.get(2)?.to_owned()))))?
}

fn with(query: Query, schemas: &Schemas<'_>, access: ServiceAccess) -> String {
    let (first, rest) = query.0.split_once("member as").expect("the query begins with `member`");
    debug_assert!(first.lines().all(|line| line.starts_with("--")));
    let mut sql = format!(
        "with s (nsp, schema, owner, role) as materialized ({}),\nlogin (oids) as materialized (
    select coalesce(pg_catalog.array_agg(r.oid), '{{}}') from {ADMITTED_LOGINS}),\nmember as",
        schemas.sql()
    );
    let mut parts = rest.split("{grants ");
    sql.push_str(parts.next().unwrap_or_default());
    for part in parts {
        let (marker, rest) = part.split_once('}').expect("a marker ends");
        let fields: Vec<&str> = marker.split('|').map(str::trim).collect();
        let ([acl, owner, role, default], except) = match fields[..] {
            [acl, owner, role, default] => ([acl, owner, role, default], None),
            [acl, owner, role, default, except] => ([acl, owner, role, default], Some(except)),
            _ => unreachable!("a marker has four or five fields"),
        };
        // On the ledger, which single roles may read. The rights of the tenant's role are checked separately.
        let except = except.map_or_else(String::new, |right| {
            let right = literal(&right.to_uppercase());
            format!(" and (a.privilege_type <> {right} or a.grantee = 0) and a.grantee is distinct from {role}")
        });
        let default = if default.is_empty() { "null".to_owned() } else { literal(default) };
        let others = access.compared_sql(role);
        let lacking = owner_lacks_sql(acl, owner).unwrap_or_default();
        let _ = write!(
            sql,
            "case when {acl} is null then {default} else (select pg_catalog.string_agg(g.held, '; ' order by g.held collate \"C\") from (
                select case when a.grantee = 0 then 'everyone' when a.grantee = {role} then 'the tenant''s role'
                            else pg_catalog.pg_get_userbyid(a.grantee)::pg_catalog.text end || ': '
                       || pg_catalog.string_agg(pg_catalog.lower(a.privilege_type)
                          || case when a.is_grantable then ' and to pass that on' else '' end, ', ' order by a.privilege_type collate \"C\") as held
                from pg_catalog.aclexplode({acl}) a where a.grantee <> {owner}{others}{except} group by a.grantee{lacking}) g) end{rest}"
        );
    }
    sql
}

/// What a list of rights calls the rights that the owner had and that were revoked. An object from CREATE gives its
/// owner all of them.
pub(crate) const OWNER_LACKS: &str = "the owner without";

/// Returns the part of a list of rights with those that the owner of the object lacks; `None` where owners have no
/// entries of their own: columns, and default rights of one schema.
fn owner_lacks_sql(acl: &str, owner: &str) -> Option<String> {
    // The second is the entry of the owner: of functions and types, the first is that of PUBLIC.
    let (kind, entry) = match acl.rsplit('.').next()? {
        "nspacl" => ("'n'", 1),
        "relacl" => ("case c.relkind when 'S' then 's' else 'r' end", 1),
        "proacl" => ("'f'", 2),
        "typacl" => ("'T'", 2),
        _ => return None,
    };
    let all = format!("pg_catalog.acldefault({kind}::pg_catalog.\"char\", {owner})");
    Some(format!(
        "
                union all
                select '{OWNER_LACKS}: ' || pg_catalog.string_agg(pg_catalog.lower(w.privilege_type), ', ' order by w.privilege_type collate \"C\")
                from pg_catalog.aclexplode({all}) w
                where not {acl} @> ({all})[{entry}] and w.grantee = {owner} and not exists (
                    select from pg_catalog.aclexplode({acl}) h where h.grantee = w.grantee and h.privilege_type = w.privilege_type)
                having pg_catalog.count(*) > 0"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_marker_is_written_out() {
        for access in [ServiceAccess::Role, ServiceAccess::RoleAndLogins, ServiceAccess::Logins] {
            for text in [QUERY].iter().chain(EARLIER) {
                let schemas = Schemas::These { tag: "x", names: &[SchemaName::scratch()] };
                let sql = objects_sql_of(Query(text), &schemas, access);
                assert!(!sql.contains("{grants"), "{sql}");
                assert_eq!(sql.contains("(select l.oids from login l)"), access != ServiceAccess::Role);
            }
        }
    }

    #[test]
    fn queries_are_found_by_their_digests() {
        let digests: Vec<String> = [QUERY].iter().chain(EARLIER).map(|text| Query(text).digest()).collect();
        for (index, digest) in digests.iter().enumerate() {
            assert_eq!(digests.iter().position(|other| other == digest), Some(index), "two are the same");
            assert_eq!(Query::with_digest(digest).unwrap().digest(), *digest);
        }
        assert_eq!(Query::with_digest(""), None);
    }
}
