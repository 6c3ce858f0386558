//! Binds a tenant's schema to its organization: the comment on the schema carries the organization's id.
//!
//! A slug can be given away; an id cannot. Only the schema's owner can change the comment, `pg_dump` takes it along, and a
//! rename of the schema keeps it. Whatever a comment said before it was bound stays behind the id.

use crate::{
    ident::{SchemaName, literal},
    tenant::OrganizationId,
};

/// What such a comment begins with; the organization's id follows, 36 characters in lower case.
const PREFIX: &str = "cgk organization ";
/// The length of an id as text.
const ID_BYTES: usize = 36;

/// What the comment on a schema says of the organization that the schema belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Binding {
    /// Nothing: there is no comment, or one of somebody's own. Schemas that cgk 0.1 made are so until `cgk setup:database` or
    /// `cgk migrate` binds them.
    None,
    /// To this one. Text, because somebody may have written another thing behind the prefix.
    To(String),
}

impl Binding {
    /// Reads the comment on a schema.
    pub(crate) fn of(comment: Option<&str>) -> Self {
        match comment.and_then(|comment| comment.strip_prefix(PREFIX)) {
            Some(rest) => Self::To(rest.get(..ID_BYTES).unwrap_or(rest).to_owned()),
            None => Self::None,
        }
    }

    /// The organization that the schema belongs to, if it is another one than this.
    pub(crate) fn other_than(&self, id: OrganizationId) -> Option<&str> {
        match self {
            Self::To(found) if *found != id.to_string() => Some(found),
            _ => None,
        }
    }
}

/// Writes the id into the comment on a schema, before what the comment says already. Only the schema's owner may do that.
pub(crate) fn comment_sql(schema: &SchemaName, id: OrganizationId, comment: Option<&str>) -> String {
    let kept = match (Binding::of(comment), comment) {
        (Binding::None, Some(comment)) => format!("\n{comment}"),
        // What stands behind the id of a comment that is bound already.
        (Binding::To(_), Some(comment)) => {
            comment.get(PREFIX.len() + ID_BYTES..).map_or_else(String::new, ToOwned::to_owned)
        }
        (_, None) => String::new(),
    };
    let comment = literal(&format!("{PREFIX}{id}{kept}"));
    format!("comment on schema {} is {comment};\n", schema.quoted())
}

/// A condition: the comment on the schema names no organization but this one. A schema without such a comment passes. Both
/// arguments are SQL expressions of type text; the schema's name is a plain one, as every tenant's is.
///
/// One value and no `exists`: as a part of a condition on a row the server keeps it apart and counts its cost for every row that it
/// would read, so that it finds the row by an index where it would otherwise read a registry of some hundred rows whole.
pub(crate) fn belongs_sql(schema: &str, id: &str) -> String {
    format!(
        "coalesce((select pg_catalog.starts_with(d.description, pg_catalog.concat('{PREFIX}', {id})) \
         from pg_catalog.pg_description d \
         where d.classoid operator(pg_catalog.=) 'pg_catalog.pg_namespace'::pg_catalog.regclass \
         and d.objoid operator(pg_catalog.=) pg_catalog.to_regnamespace({schema})::pg_catalog.oid \
         and d.objsubid operator(pg_catalog.=) 0 \
         and pg_catalog.starts_with(d.description, '{PREFIX}')), true)"
    )
}

/// An expression: the comment on the schema with this OID.
pub(crate) fn comment_of_sql(namespace: &str) -> String {
    format!(
        "(select d.description from pg_catalog.pg_description d
          where d.classoid = 'pg_catalog.pg_namespace'::pg_catalog.regclass and d.objoid = {namespace} and d.objsubid = 0)"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    const ID: OrganizationId = OrganizationId(Uuid::from_u128(0x0123_4567_89ab_cdef_0123_4567_89ab_cdef));

    /// The comment that the statement writes.
    fn written(comment: Option<&str>) -> String {
        let sql = comment_sql(&SchemaName::public(), ID, comment);
        sql.split_once('\'').unwrap().1.trim_end_matches("';\n").to_owned()
    }

    #[test]
    fn a_comment_is_read_as_it_was_written() {
        for before in [None, Some(""), Some("Acme's data"), Some("cgk organization")] {
            assert_eq!(Binding::of(before), Binding::None, "{before:?}");
            let comment = written(before);
            assert_eq!(Binding::of(Some(&comment)), Binding::To(ID.to_string()), "{comment}");
            assert_eq!(Binding::of(Some(&comment)).other_than(ID), None);
        }
    }

    #[test]
    fn another_id_and_what_is_none_are_told() {
        let other = OrganizationId(Uuid::nil());
        assert_eq!(Binding::of(Some(&written(None))).other_than(other), Some(&*ID.to_string()));
        for comment in ["cgk organization ", "cgk organization x", "cgk organization 0123É"] {
            assert!(Binding::of(Some(comment)).other_than(ID).is_some(), "{comment}");
        }
    }

    #[test]
    fn what_a_comment_said_before_is_kept_and_not_doubled() {
        let once = written(Some("ours"));
        assert_eq!(once, format!("cgk organization {ID}\nours"));
        assert_eq!(written(Some(&once)), once);
    }
}
