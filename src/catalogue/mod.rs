//! Reads the objects of schemas from the catalogue: one query for a schema, a fleet and the expected objects.

pub(crate) mod names;
mod query;
pub(crate) mod stamp;

pub(crate) use query::{OWNER_LACKS, Query};

use crate::{
    config::{Isolation, IsolationModes},
    db::{Operator, message::Answer},
    ident::{RoleName, SchemaName, literal},
};
use query::{QueryForm, with};
use tokio_postgres::SimpleQueryRow;

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

/// An expression for the role that owns what cgk creates in the schema `n`, a row of `pg_namespace`. It is the owner of the schema,
/// unless that was changed by hand: then the schema's owner is another role than those of its ledger and of the registry. The owner
/// of `public` creates no tables there.
pub(crate) const SCHEMA_OWNER: &str = "coalesce((
    select case when n.nspname <> 'public' and n.nspowner = g.relowner then n.nspowner else c.relowner end
    from pg_catalog.pg_class c left join pg_catalog.pg_class g on g.relname = 'organizations'
         and g.relnamespace = (select p.oid from pg_catalog.pg_namespace p where p.nspname = 'public')
    where c.relnamespace = n.oid and c.relkind in ('r', 'p')
      and (c.relname = 'schema_migrations' or n.nspname = 'public' and c.relname = 'organizations')
    order by c.relname desc limit 1), n.nspowner)";

/// The schemas that a query reads: the text of `s (nsp, schema, owner, role)`.
pub(crate) enum Schemas<'a> {
    /// Some tenants, whose roles have this tag at the end of their names.
    These { tag: &'a str, names: &'a [SchemaName] },
    /// One schema, and the role that replaces its tenant's role.
    One { schema: &'a SchemaName, role: Option<&'a RoleName> },
}

/// How rows are found: for many schemas by reading the complete catalogues, for a few schemas by index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum AccessPath {
    Scan,
    Lookup,
}

/// The maximum number of schemas that are looked up by index.
const LOOKUP_MAX: usize = 50;

impl Schemas<'_> {
    fn access_path(&self) -> AccessPath {
        match self {
            Schemas::These { names, .. } if names.len() > LOOKUP_MAX => AccessPath::Scan,
            Schemas::These { .. } | Schemas::One { .. } => AccessPath::Lookup,
        }
    }

    fn sql(&self) -> String {
        match self {
            Self::These { tag, names } => {
                let list: Vec<String> = names.iter().map(|name| literal(name.as_str())).collect();
                format!(
                    "select n.oid, n.nspname::pg_catalog.text, {SCHEMA_OWNER}, r.oid from pg_catalog.pg_namespace n
                     left join pg_catalog.pg_roles r
                         on r.rolname = ('cgk_' || pg_catalog.substr(n.nspname::pg_catalog.text, 8) || '_' || {})::pg_catalog.name
                     where n.nspname = any (array[{}]::pg_catalog.name[])",
                    literal(tag),
                    list.join(",")
                )
            }
            Self::One { schema, role } => format!(
                "select n.oid, n.nspname::pg_catalog.text,
                        {SCHEMA_OWNER},
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
    const SETTINGS: [(&str, &str); 10] = [
        // To start workers, or to compile the query, takes longer than to run it.
        ("jit", "off"),
        ("max_parallel_workers_per_gather", "0"),
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
/// includes its schema. The schema's own name is then removed from the texts, wherever it is a complete word.
pub(crate) fn fingerprint_sql(schemas: &Schemas<'_>, access: ServiceAccess) -> String {
    format!(
        "{} select '{FINGERPRINT}', g.schema, pg_catalog.concat_ws(':', count(*),
                   sum(pg_catalog.hashtextextended(g.text, 1)), sum(pg_catalog.hashtextextended(g.text, 2)))
         from (select f.schema, case when pg_catalog.strpos(f.text, f.schema) = 0 then f.text
                                     else pg_catalog.regexp_replace(f.text, '\\m' || f.schema || '\\M', E'\\x02', 'g') end collate \"C\" as text
               from (select s.schema, pg_catalog.replace(pg_catalog.concat_ws(E'\\x1e', o.kind, o.parent, o.name, o.facts),
                                                         s.schema || '.', E'\\x01') as text
                     from object o join s on s.nsp = o.nsp offset 0) f) g
         group by g.schema",
        with(Query::CURRENT, QueryForm::Fingerprint, schemas, access)
    )
}

/// Returns rows of `object`, kind, parent, name, facts. Use it with a search path that starts with the one selected
/// schema, so that only its own names are written without a schema.
pub(crate) fn objects_sql(schemas: &Schemas<'_>, access: ServiceAccess) -> String {
    objects_sql_of(Query::CURRENT, schemas, access)
}

/// Returns the same with the query of a given version.
pub(crate) fn objects_sql_of(query: Query, schemas: &Schemas<'_>, access: ServiceAccess) -> String {
    format!(
        "{} select '{OBJECT}', o.kind, o.parent, o.name, o.facts from object o",
        with(query, QueryForm::Text, schemas, access)
    )
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
