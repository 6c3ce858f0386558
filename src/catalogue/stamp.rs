//! Checks whether the catalogue's rows about a schema are unchanged since an earlier check, without reading their
//! content.
//!
//! A stamp is computed from the positions and the inserting transactions (`ctid`, `xmin`) of all rows that the query of
//! the parent module reads about a schema. A change writes a new row. PostgreSQL changes rows of these catalogues in
//! place only for values that migrations do not control (the numbers of rows and pages). VACUUM FREEZE does not change
//! the visible `xmin`. So equal stamps of one database mean equal fingerprints, if the [shared part](shared_sql) is
//! equal too. That part contains the names of roles, of extensions' objects and of everything outside of a schema that
//! its objects can refer to.

use super::{AccessPath, Schemas};
use crate::{
    ident::{hex, literal},
    registry,
};
use sha2::{Digest as _, Sha256};

/// Marks a row of a stamp.
const STAMP: &str = "cgk:stamp";

/// The rows that a stamp covers. The stamps of the parts can be [added](Stamp::add) to the complete stamp.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StampedRows {
    All,
    /// Rows of columns, about half of all rows.
    Columns,
    Others,
}

/// The sum over the rows of a schema.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Stamp {
    role: String,
    rows: i64,
    hash: i64,
}

/// Objects with their own schema: catalogue, column of the schema, condition.
const OBJECTS: [(&str, &str, &str); 11] = [
    ("pg_proc", "pronamespace", "true"),
    ("pg_default_acl", "defaclnamespace", "true"),
    ("pg_statistic_ext", "stxnamespace", "true"),
    ("pg_operator", "oprnamespace", "true"),
    ("pg_collation", "collnamespace", "true"),
    ("pg_ts_config", "cfgnamespace", "true"),
    ("pg_ts_dict", "dictnamespace", "true"),
    ("pg_conversion", "connamespace", "true"),
    ("pg_opclass", "opcnamespace", "true"),
    ("pg_opfamily", "opfnamespace", "true"),
    ("pg_extension", "extnamespace", "true"),
];

/// Rows that depend on an object: the catalogue, the column that refers to the object, the set of the objects, and a
/// number that distinguishes the rows.
const PARTS: [(&str, &str, &str, &str); 21] = [
    ("pg_attribute", "attrelid", "rel", "x.attrelid::pg_catalog.int8 * 65536 + x.attnum"),
    ("pg_attrdef", "adrelid", "rel", "x.oid::pg_catalog.int8"),
    ("pg_index", "indrelid", "rel", "x.indexrelid::pg_catalog.int8"),
    ("pg_inherits", "inhrelid", "rel", "x.inhrelid::pg_catalog.int8 * 65536 + x.inhseqno"),
    // A child of another schema is not found by its own row.
    ("pg_inherits", "inhparent", "rel", "-(x.inhrelid::pg_catalog.int8 * 65536 + x.inhseqno)"),
    ("pg_sequence", "seqrelid", "rel", "x.seqrelid::pg_catalog.int8"),
    ("pg_foreign_table", "ftrelid", "rel", "x.ftrelid::pg_catalog.int8"),
    ("pg_publication_rel", "prrelid", "rel", "x.oid::pg_catalog.int8"),
    ("pg_trigger", "tgrelid", "rel", "x.oid::pg_catalog.int8"),
    ("pg_rewrite", "ev_class", "rel", "x.oid::pg_catalog.int8"),
    ("pg_policy", "polrelid", "rel", "x.oid::pg_catalog.int8"),
    ("pg_enum", "enumtypid", "pg_type", "x.oid::pg_catalog.int8"),
    ("pg_range", "rngtypid", "pg_type", "x.rngtypid::pg_catalog.int8"),
    ("pg_aggregate", "aggfnoid", "pg_proc", "x.aggfnoid::pg_catalog.oid::pg_catalog.int8"),
    (
        "pg_ts_config_map",
        "mapcfg",
        "pg_ts_config",
        "x.mapcfg::pg_catalog.int8 * 65536 + x.maptokentype * 256 + x.mapseqno",
    ),
    ("pg_amop", "amopfamily", "pg_opfamily", "x.oid::pg_catalog.int8"),
    ("pg_amproc", "amprocfamily", "pg_opfamily", "x.oid::pg_catalog.int8"),
    // A cast between two types of one schema is found twice.
    ("pg_cast", "castsource", "pg_type", "x.oid::pg_catalog.int8 * 2"),
    ("pg_cast", "casttarget", "pg_type", "x.oid::pg_catalog.int8 * 2 + 1"),
    ("pg_event_trigger", "evtfoid", "pg_proc", "x.oid::pg_catalog.int8"),
    ("pg_publication_namespace", "pnnspid", "s", "x.oid::pg_catalog.int8"),
];

/// Objects whose comments are compared: the catalogue, and the set of its objects in the query.
const COMMENTED: [(&str, &str); 16] = [
    ("pg_class", "rel"),
    ("pg_constraint", "pg_constraint"),
    ("pg_trigger", "pg_trigger"),
    ("pg_rewrite", "pg_rewrite"),
    ("pg_policy", "pg_policy"),
    ("pg_type", "pg_type"),
    ("pg_proc", "pg_proc"),
    ("pg_statistic_ext", "pg_statistic_ext"),
    ("pg_operator", "pg_operator"),
    ("pg_collation", "pg_collation"),
    ("pg_ts_config", "pg_ts_config"),
    ("pg_ts_dict", "pg_ts_dict"),
    ("pg_conversion", "pg_conversion"),
    ("pg_opclass", "pg_opclass"),
    ("pg_opfamily", "pg_opfamily"),
    ("pg_event_trigger", "pg_event_trigger"),
];

/// Objects without a schema, or rare ones, whose comments are compared. All of them are read.
const SHARED_COMMENTED: [&str; 3] = ["pg_cast", "pg_ts_parser", "pg_ts_template"];

/// Catalogues without schemas whose names the query reads.
const SHARED: [&str; 8] = [
    "pg_namespace",
    "pg_am",
    "pg_language",
    "pg_tablespace",
    "pg_foreign_server",
    "pg_publication",
    "pg_ts_template",
    "pg_ts_parser",
];

/// Types that are compared, and those of tables' rows, which add no information but are cheaper to include than to
/// exclude. Array types are excluded, because they follow their element type.
const IS_TYPE: &str = "(x.typtype in ('e', 'd', 'r', 'c', 'p') or (x.typtype = 'b' and x.typelem = 0))";

/// Returns rows of a mark, a schema, its stamp. `major` is the server's version.
pub(crate) fn stamps_sql(schemas: &Schemas<'_>, rows: StampedRows, major: u32) -> String {
    let access = schemas.access_path();
    // New catalogues have no statistics, so the planner would join a million rows with nested loops.
    let set = |nestloop: &str| format!("select pg_catalog.set_config('enable_nestloop', '{nestloop}', true)");
    let (before, after) = match access {
        AccessPath::Scan => (set("off") + ";\n", ";\n".to_owned() + &set("on")),
        AccessPath::Lookup => (String::new(), String::new()),
    };
    format!(
        "{before}with s (nsp, schema, owner, role) as materialized ({}),\n{}
select '{STAMP}', s.schema, pg_catalog.concat_ws(':', coalesce(s.role::pg_catalog.text, '-'), coalesce(f.rows, 0), coalesce(f.hash, 0))
from s left join (select x.nsp, pg_catalog.count(*) as rows, pg_catalog.bit_xor(x.hash) as hash from stamped x group by x.nsp) f on f.nsp = s.nsp{after}",
        schemas.sql(),
        rows_sql(access, rows, major),
    )
}

/// Returns one row of a mark, an empty name and a stamp of everything outside of a tenant's schema that its objects can
/// refer to.
pub(crate) fn shared_sql(tag: &str, major: u32) -> String {
    let number = |catalogue: &str| number(catalogue) + 100;
    let shared = SHARED.iter().map(|catalogue| {
        let filter = match *catalogue {
            "pg_namespace" => "where x.oid in (select s.nsp from s)",
            _ => "",
        };
        format!("select {} from pg_catalog.{catalogue} x {filter}", hash("x.oid::pg_catalog.int8", number(catalogue)))
    });
    // No row shows in which schema a built-in object is.
    let born = ["pg_class", "pg_type"].into_iter().chain(OBJECTS.iter().map(|(catalogue, ..)| *catalogue));
    let born = born.map(|catalogue| {
        let hash = hash("x.oid::pg_catalog.int8", number(catalogue));
        format!("select {hash} from pg_catalog.{catalogue} x where x.oid < 16384")
    });
    let extensions = format!(
        "select {} from pg_catalog.pg_depend x where x.refclassid = 'pg_catalog.pg_extension'::pg_catalog.regclass and x.deptype = 'e'",
        hash(
            "(x.classid::pg_catalog.int8 * 1048576 + x.objid::pg_catalog.int8) * 64 + x.refobjid::pg_catalog.int8",
            number("pg_depend")
        )
    );
    let comments = SHARED_COMMENTED.iter().enumerate().map(|(index, catalogue)| {
        let hash = hash("x.objoid::pg_catalog.int8", 250 + index);
        format!(
            "select {hash} from pg_catalog.{catalogue} o join pg_catalog.pg_description x on x.objoid = o.oid
     and x.classoid = 'pg_catalog.{catalogue}'::pg_catalog.regclass and x.objsubid = 0 where o.oid >= 16384"
        )
    });
    let all: Vec<String> = shared.chain(born).chain([extensions]).chain(comments).collect();
    format!(
        "with tenant (name) as materialized ({slugs}),
s (nsp, schema, owner, role) as materialized (
    select n.oid, n.nspname::pg_catalog.text, n.nspowner, null::pg_catalog.oid from pg_catalog.pg_namespace n
    where not pg_catalog.starts_with(n.nspname::pg_catalog.text, 'pg_temp_') and not pg_catalog.starts_with(n.nspname::pg_catalog.text, 'pg_toast')
      and n.nspname <> 'cgk_rehearsal' and n.nspname::pg_catalog.text not in (select 'tenant_' || t.name from tenant t)
),
{rows}
select '{STAMP}', '', pg_catalog.concat_ws(':', f.rows, f.hash, g.rows, g.hash, r.rows, r.hash)
from (select pg_catalog.count(*) as rows, pg_catalog.bit_xor(x.hash) as hash from stamped x) f,
     (select pg_catalog.count(*) as rows, pg_catalog.bit_xor(x.hash) as hash from ({all}) x (hash)) g,
     -- Roles but the tenants' own, which each schema's stamp names by itself; and only those that something of this database names.
     (select pg_catalog.count(*) as rows, pg_catalog.bit_xor(pg_catalog.hashtextextended(r.rolname::pg_catalog.text, r.oid::pg_catalog.int8)) as hash
      from pg_catalog.pg_roles r where r.rolname::pg_catalog.text not in (select 'cgk_' || t.name || '_' || {tag} from tenant t)
        and (r.oid < 16384 or exists (select from pg_catalog.pg_shdepend d
             where d.refclassid = 'pg_catalog.pg_authid'::pg_catalog.regclass and d.refobjid = r.oid
               and d.dbid = (select b.oid from pg_catalog.pg_database b where b.datname = pg_catalog.current_database())))) r",
        rows = rows_sql(AccessPath::Lookup, StampedRows::All, major),
        all = all.join("\n    union all "),
        tag = literal(tag),
        slugs = registry::sql::SLUGS,
    )
}

impl Stamp {
    /// Parses the format of [`Display`](std::fmt::Display).
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split(':');
        let (role, rows, hash) = (parts.next()?.to_owned(), parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
        Some(Self { role, rows, hash })
    }

    /// Adds another stamp, so that this one covers the rows of both.
    pub(crate) fn add(&mut self, other: &Self) {
        self.rows += other.rows;
        self.hash ^= other.hash;
    }
}

impl std::fmt::Display for Stamp {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}:{}", self.role, self.rows, self.hash)
    }
}

/// Returns a digest that distinguishes the stamps of different versions of cgk.
pub(crate) fn query_digest() -> String {
    let mut digest = hex(&Sha256::digest(
        concat!(include_str!("stamp.rs"), include_str!("mod.rs"), include_str!("query.rs")).as_bytes(),
    ));
    digest.truncate(16);
    digest
}

/// Returns schema and stamp of a row of [`stamps_sql`]; `None` for any other row.
pub(crate) fn stamp(row: &tokio_postgres::SimpleQueryRow) -> Option<(&str, Stamp)> {
    let (schema, text) = marked(row)?;
    (!schema.is_empty()).then(|| Some((schema, Stamp::parse(text)?)))?
}

/// Returns the stamp in the row of [`shared_sql`]; `None` for any other row.
pub(crate) fn shared(row: &tokio_postgres::SimpleQueryRow) -> Option<&str> {
    marked(row).filter(|(schema, _)| schema.is_empty()).map(|(_, text)| text)
}

fn marked(row: &tokio_postgres::SimpleQueryRow) -> Option<(&str, &str)> {
    (row.len() == 3 && row.get(0) == Some(STAMP)).then(|| Some((row.get(1)?, row.get(2)?)))?
}

/// Returns `stamped (nsp, hash)` of the schemas of `s`, and the queries before it.
fn rows_sql(access: AccessPath, wanted: StampedRows, major: u32) -> String {
    let mut sets = vec![held(), relations(access), constraints(access), types()];
    let object = |(catalogue, column, _): &(&str, &str, &str)| {
        match access {
        AccessPath::Scan => format!(
            "{catalogue} as materialized (select x.oid, s.nsp, {} as hash from pg_catalog.{catalogue} x join s on s.nsp = x.{column})",
            hash("x.oid::pg_catalog.int8", number(catalogue))
        ),
        AccessPath::Lookup => format!(
            "{catalogue} as materialized (select x.oid, s.nsp, {} as hash from held h
                join pg_catalog.{catalogue} x on x.oid = h.objid and h.classid = 'pg_catalog.{catalogue}'::pg_catalog.regclass join s on s.nsp = x.{column})",
            hash("x.oid::pg_catalog.int8", number(catalogue))
        ),
    }
    };
    sets.extend(OBJECTS.iter().map(object));
    let mut rows: Vec<String> = vec![
        format!(
            "select s.nsp, {} from pg_catalog.pg_namespace x join s on s.nsp = x.oid",
            hash("x.oid::pg_catalog.int8", number("pg_namespace"))
        ),
        "select rel.nsp, rel.hash from rel".into(),
        "select x.nsp, x.hash from pg_constraint x".into(),
        "select x.nsp, x.hash from pg_type x".into(),
    ];
    rows.extend(OBJECTS.iter().map(|(catalogue, ..)| format!("select x.nsp, x.hash from {catalogue} x")));
    for (catalogue, column, set, key) in PARTS {
        if catalogue == "pg_publication_namespace" && major < 15 {
            continue;
        }
        let id = if set == "s" { "nsp" } else { "oid" };
        let filter = if catalogue == "pg_attribute" { " and x.attnum > 0" } else { "" };
        let hash = hash(key, number(catalogue));
        let select = format!("from pg_catalog.{catalogue} x join {set} o on o.{id} = x.{column}{filter}");
        if COMMENTED.iter().any(|(_, set)| *set == catalogue) {
            sets.push(format!("{catalogue} as materialized (select x.oid, o.nsp, {hash} as hash {select})"));
            rows.push(format!("select x.nsp, x.hash from {catalogue} x"));
        } else {
            rows.push(format!("select o.nsp, {hash} {select}"));
        }
    }
    for (index, (catalogue, set)) in COMMENTED.iter().enumerate() {
        let hash = hash("x.objoid::pg_catalog.int8 * 65536 + x.objsubid", 200 + index);
        rows.push(format!(
            "select o.nsp, {hash} from pg_catalog.pg_description x join {set} o on o.oid = x.objoid
     where x.classoid = 'pg_catalog.{catalogue}'::pg_catalog.regclass"
        ));
    }
    // Rows that no stamp uses are not read.
    rows.retain(|row| match wanted {
        StampedRows::All => true,
        StampedRows::Columns => row.contains("from pg_catalog.pg_attribute x"),
        StampedRows::Others => !row.contains("from pg_catalog.pg_attribute x"),
    });
    sets.push(format!("stamped (nsp, hash) as (\n    {}\n)", rows.join("\n    union all ")));
    sets.join(",\n")
}

/// Returns the objects of a schema according to pg_depend, as in the parent's query.
fn held() -> String {
    "held as materialized (
    select d.classid, d.objid from s join pg_catalog.pg_depend d
        on d.refclassid = 'pg_catalog.pg_namespace'::pg_catalog.regclass and d.refobjid = s.nsp and d.objsubid = 0
)"
    .into()
}

fn relations(access: AccessPath) -> String {
    let hash = hash("x.oid::pg_catalog.int8", number("pg_class"));
    match access {
        AccessPath::Scan => format!(
            "rel as materialized (select x.oid, s.nsp, {hash} as hash from pg_catalog.pg_class x join s on s.nsp = x.relnamespace)"
        ),
        AccessPath::Lookup => format!(
            "own as materialized (
    select c.oid from (select h.objid from held h where h.classid = 'pg_catalog.pg_class'::pg_catalog.regclass
          union all
          select t.typrelid from held h join pg_catalog.pg_type t on t.oid = h.objid
          where h.classid = 'pg_catalog.pg_type'::pg_catalog.regclass and t.typtype = 'c') h (objid)
    join pg_catalog.pg_class c on c.oid = h.objid join s on s.nsp = c.relnamespace
),
rel as materialized (
    select x.oid, s.nsp, {hash} as hash
    from (select o.oid from own o union all
          select i.indexrelid from own o join pg_catalog.pg_index i on i.indrelid = o.oid) o (oid)
    join pg_catalog.pg_class x on x.oid = o.oid join s on s.nsp = x.relnamespace
)"
        ),
    }
}

fn constraints(access: AccessPath) -> String {
    let hash = hash("x.oid::pg_catalog.int8", number("pg_constraint"));
    match access {
        AccessPath::Scan => format!(
            "pg_constraint as materialized (select x.oid, s.nsp, {hash} as hash from pg_catalog.pg_constraint x join s on s.nsp = x.connamespace)"
        ),
        AccessPath::Lookup => format!(
            "pg_constraint as materialized (
    select x.oid, o.nsp, {hash} as hash from pg_catalog.pg_constraint x join rel o on o.oid = x.conrelid
    union all
    -- A domain's, through pg_depend: most constraints are no domain's, and so the planner would read them all.
    select x.oid, s.nsp, {hash} from held h join pg_catalog.pg_depend d on d.refclassid = h.classid and d.refobjid = h.objid
    join pg_catalog.pg_constraint x on d.classid = 'pg_catalog.pg_constraint'::pg_catalog.regclass and x.oid = d.objid and x.contypid = h.objid
    join s on s.nsp = x.connamespace where h.classid = 'pg_catalog.pg_type'::pg_catalog.regclass
)"
        ),
    }
}

/// Returns the compared types. They are always found by their schema, because there are few of them.
fn types() -> String {
    format!(
        "pg_type as materialized (select x.oid, s.nsp, {} as hash from pg_catalog.pg_type x join s on s.nsp = x.typnamespace where {IS_TYPE})",
        hash("x.oid::pg_catalog.int8", number("pg_type"))
    )
}

/// Returns a number for each catalogue, so that rows of two catalogues are never confused.
fn number(catalogue: &str) -> usize {
    const OTHERS: [&str; 4] = ["pg_class", "pg_constraint", "pg_type", "pg_depend"];
    let mut all = OTHERS.iter().chain(&SHARED);
    let objects = OBJECTS.iter().map(|(name, ..)| name);
    let parts = PARTS.iter().map(|(name, ..)| name);
    all.by_ref().chain(objects).chain(parts).position(|name| *name == catalogue).expect("every catalogue has a place")
}

/// Returns the hash of a row, from its key, its position and the transaction that wrote it.
fn hash(key: &str, class: usize) -> String {
    format!(
        "pg_catalog.hashtextextended(x.xmin::pg_catalog.text, pg_catalog.hashtidextended(x.ctid, ({key}) * 512 + {class}))"
    )
}
