//! Writes out the markers of the catalogue query `objects.sql`.

use super::{AccessPath, Schemas, ServiceAccess};
use crate::{
    ident::{hex, literal},
    registry::sql::ADMITTED_LOGINS,
};
use sha2::{Digest as _, Sha256};
use std::fmt::Write as _;

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

/// What the query describes objects for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum QueryForm {
    /// To be compared object by object, and read by people.
    Text,
    /// To find out whether two schemas differ at all. The server writes out as few definitions as possible.
    Fingerprint,
}

/// Returns the query up to its set `object`, for these schemas.
pub(super) fn with(query: Query, form: QueryForm, schemas: &Schemas<'_>, access: ServiceAccess) -> String {
    let (first, rest) = query.0.split_once("member as").expect("the query begins with `member`");
    debug_assert!(first.lines().all(|line| line.starts_with("--")));
    let path = schemas.access_path();
    let mut sql = format!(
        "with s (nsp, schema, owner, role) as materialized ({}),\nlogin (oids) as materialized (
    select coalesce(pg_catalog.array_agg(r.oid), '{{}}') from {ADMITTED_LOGINS}),\n",
        schemas.sql()
    );
    if path == AccessPath::Scan {
        sql.push_str(COMMENTED);
    }
    sql.push_str("member as");
    let text = in_form(rest, form);
    let text = written_out(&text, "{comment ", |sql, fields| {
        let _ = match *fields {
            [catalogue, oid] => write!(sql, "{}", comment_sql(path, catalogue, oid, "comment")),
            [catalogue, oid, aspect] => write!(sql, "{}", comment_sql(path, catalogue, oid, aspect)),
            _ => unreachable!("a comment has two or three fields"),
        };
    });
    let text = written_out(&text, "{key ", |sql, fields| {
        let all = format!("pg_catalog.concat_ws(E'\\x1d', {})", fields.join(", "));
        let hash = |seed| format!("pg_catalog.hashtextextended({all}, {seed})");
        let _ = write!(sql, "pg_catalog.concat({}, ':', {})", hash(1), hash(2));
    });
    sql.push_str(&written_out(&text, "{grants ", |sql, fields| {
        let ([acl, owner, role, default], except) = match *fields {
            [acl, owner, role, default] => ([acl, owner, role, default], None),
            [acl, owner, role, default, except] => ([acl, owner, role, default], Some(except)),
            _ => unreachable!("a list of rights has four or five fields"),
        };
        sql.push_str(&grants_sql(access, acl, owner, role, default, except));
    }));
    sql
}

/// Returns the text with the parts of one form.
fn in_form(text: &str, form: QueryForm) -> String {
    const TEXT: &str = "{{text}}";
    const FINGERPRINT: &str = "{{fingerprint}}";
    const END: &str = "{{end}}";
    let mut of_form = String::new();
    let mut rest = text;
    while let Some(start) = [TEXT, FINGERPRINT].iter().filter_map(|mark| rest.find(mark)).min() {
        let (before, part) = rest.split_at(start);
        let (part, after) = part.split_once(END).expect("a part ends");
        of_form.push_str(before);
        let (_, part) = part.split_once("}}").expect("a part begins with its form");
        let (read, compared) = match part.split_once(FINGERPRINT) {
            Some(both) => both,
            None if rest[start..].starts_with(TEXT) => (part, ""),
            None => ("", part),
        };
        of_form.push_str(if form == QueryForm::Text { read } else { compared });
        rest = after;
    }
    of_form.push_str(rest);
    of_form
}

/// Returns the text with every marker replaced. Its fields are separated by `|`.
fn written_out(text: &str, marker: &str, write: impl Fn(&mut String, &[&str])) -> String {
    let mut parts = text.split(marker);
    let mut sql = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (fields, rest) = part.split_once('}').expect("a marker ends");
        write(&mut sql, &fields.split('|').map(str::trim).collect::<Vec<_>>());
        sql.push_str(rest);
    }
    sql
}

/// The objects with comments, without columns. For many schemas it is cheaper to read all comments once than to look for
/// that of each object.
const COMMENTED: &str = "commented (classoid, objoid) as materialized (
    select d.classoid, d.objoid from pg_catalog.pg_description d where d.objoid >= 16384 and d.objsubid = 0),\n";

fn comment_sql(path: AccessPath, catalogue: &str, oid: &str, aspect: &str) -> String {
    let class = format!("'pg_catalog.{catalogue}'::pg_catalog.regclass");
    let comment = format!(
        "(select '{aspect}=' || note.description from pg_catalog.pg_description note
         where note.classoid = {class} and note.objoid = {oid} and note.objsubid = 0)"
    );
    match path {
        AccessPath::Lookup => comment,
        AccessPath::Scan => format!(
            "case when {oid} in (select has.objoid from commented has where has.classoid = {class}) then {comment} end"
        ),
    }
}

fn grants_sql(
    access: ServiceAccess,
    acl: &str,
    owner: &str,
    role: &str,
    default: &str,
    except: Option<&str>,
) -> String {
    // On the ledger, which single roles may read. The rights of the tenant's role are checked separately.
    let except = except.map_or_else(String::new, |right| {
        let right = literal(&right.to_uppercase());
        format!(" and (a.privilege_type <> {right} or a.grantee = 0) and a.grantee is distinct from {role}")
    });
    let default = if default.is_empty() { "null".to_owned() } else { literal(default) };
    let others = access.compared_sql(role);
    let lacking = owner_lacks_sql(acl, owner).unwrap_or_default();
    format!(
        "case when {acl} is null then {default} else (select pg_catalog.string_agg(g.held, '; ' order by g.held collate \"C\") from (
                select case when a.grantee = 0 then 'everyone' when a.grantee = {role} then 'the tenant''s role'
                            else pg_catalog.pg_get_userbyid(a.grantee)::pg_catalog.text end || ': '
                       || pg_catalog.string_agg(pg_catalog.lower(a.privilege_type)
                          || case when a.is_grantable then ' and to pass that on' else '' end, ', ' order by a.privilege_type collate \"C\") as held
                from pg_catalog.aclexplode({acl}) a where a.grantee <> {owner}{others}{except} group by a.grantee{lacking}) g) end"
    )
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
    use crate::ident::SchemaName;

    #[test]
    fn every_marker_is_written_out() {
        let few = vec![SchemaName::scratch()];
        let many = vec![SchemaName::scratch(); 100];
        for access in [ServiceAccess::Role, ServiceAccess::RoleAndLogins, ServiceAccess::Logins] {
            for (text, form) in
                [(QUERY, QueryForm::Text), (QUERY, QueryForm::Fingerprint), (EARLIER[0], QueryForm::Text)]
            {
                for names in [&few, &many] {
                    let sql = with(Query(text), form, &Schemas::These { tag: "x", names }, access);
                    assert!(
                        !sql.contains("{grants")
                            && !sql.contains("{comment")
                            && !sql.contains("{key")
                            && !sql.contains("{{"),
                        "{sql}"
                    );
                    assert_eq!(sql.contains("(select l.oids from login l)"), access != ServiceAccess::Role);
                    assert_eq!(sql.contains("commented has") && text == QUERY, names.len() > 50 && text == QUERY);
                }
            }
        }
    }

    #[test]
    fn each_form_has_its_parts() {
        let text = "a {{text}}b{{fingerprint}}c{{end}} d {{fingerprint}}e{{end}} f {{text}}g{{end}} h";
        assert_eq!(in_form(text, QueryForm::Text), "a b d  f g h");
        assert_eq!(in_form(text, QueryForm::Fingerprint), "a c d e f  h");
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
