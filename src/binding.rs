//! Binds a tenant's schema to its organization: the comment on the schema contains the organization's id.
//!
//! A slug can be reused; an id cannot. Only the schema's owner can change the comment, `pg_dump` includes it, and a rename
//! of the schema keeps it. The text of an earlier comment is kept after the id.

use crate::{
    ident::{SchemaName, literal},
    tenant::OrganizationId,
};

/// The prefix of such a comment; the organization's id follows, 36 characters in lower case.
const PREFIX: &str = "cgk organization ";
/// The length of an id as text.
const ID_BYTES: usize = 36;
/// The text after the id while the tenant is being dropped.
const BEING_DROPPED: &str = "\ncgk: this tenant is being dropped";

/// The text after the id, and after that one, while the tenant waits to be dropped: a [`PlannedDrop`] follows.
const DROP_AFTER: &str = "\ncgk: this tenant is dropped after ";

/// When a tenant is dropped, as the comment on its schema says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PlannedDrop {
    /// From when on, in seconds since 1970.
    pub(crate) after: u64,
    /// Whether the tenant was active before; otherwise it was suspended.
    pub(crate) was_active: bool,
}

impl PlannedDrop {
    const ACTIVE: &str = " seconds since 1970; it was active";
    const SUSPENDED: &str = " seconds since 1970; it was suspended";

    /// Parses the comment on a schema.
    pub(crate) fn of(comment: Option<&str>) -> Option<Self> {
        Self::split(rest(comment)?).0
    }

    /// The planned drop at the beginning of what follows the id, and the text after it.
    fn split(rest: &str) -> (Option<Self>, &str) {
        let parse = || {
            let text = rest.strip_prefix(BEING_DROPPED).unwrap_or(rest).strip_prefix(DROP_AFTER)?;
            let (after, text) = text.split_at(text.find(|c: char| !c.is_ascii_digit())?);
            let after = after.parse().ok()?;
            let active = text.strip_prefix(Self::ACTIVE).map(|left| (true, left));
            let (was_active, left) = active.or_else(|| Some((false, text.strip_prefix(Self::SUSPENDED)?)))?;
            Some((Self { after, was_active }, left))
        };
        parse().map_or((None, rest), |(planned, left)| (Some(planned), left))
    }
}

/// What follows the id in the comment on a schema; `None` if it contains no id.
fn rest(comment: Option<&str>) -> Option<&str> {
    comment?.strip_prefix(PREFIX)?.get(ID_BYTES..)
}

/// Writes into the comment on a schema the id, and when the tenant is dropped, or takes that out of it. Only the schema's owner may
/// do this.
pub(crate) fn plan_drop_sql(
    schema: &SchemaName,
    id: OrganizationId,
    comment: Option<&str>,
    planned: Option<PlannedDrop>,
) -> String {
    let kept = match (rest(comment), comment) {
        (Some(rest), _) => PlannedDrop::split(rest).1.to_owned(),
        (None, Some(comment)) => format!("\n{comment}"),
        (None, None) => String::new(),
    };
    let planned = planned.map_or_else(String::new, |PlannedDrop { after, was_active }| {
        let was = if was_active { PlannedDrop::ACTIVE } else { PlannedDrop::SUSPENDED };
        format!("{DROP_AFTER}{after}{was}")
    });
    let comment = literal(&format!("{PREFIX}{id}{planned}{kept}"));
    format!("comment on schema {} is {comment};\n", schema.quoted())
}

/// A statement that fails with a division by zero unless the schema of this name exists and still has this comment.
pub(crate) fn demand_comment_sql(schema: &SchemaName, comment: Option<&str>) -> String {
    format!(
        "select 1 / (case when exists (select from pg_catalog.pg_namespace n where n.nspname::pg_catalog.text = {}
    and {} is not distinct from {}) then 1 else 0 end);\n",
        literal(schema.as_str()),
        comment_of_sql("n.oid"),
        comment.map_or_else(|| "null".into(), literal),
    )
}

/// The organization that a schema belongs to, according to its comment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Binding {
    /// None: there is no comment, or a different one. Schemas of cgk 0.1 are in this state until `cgk setup:database` or
    /// `cgk migrate` binds them.
    None,
    /// To this one. It is a text, because the comment may contain any text after the prefix.
    To(String),
}

impl Binding {
    /// Parses the comment on a schema.
    pub(crate) fn of(comment: Option<&str>) -> Self {
        match comment.and_then(|comment| comment.strip_prefix(PREFIX)) {
            Some(rest) => Self::To(rest.get(..ID_BYTES).unwrap_or(rest).to_owned()),
            None => Self::None,
        }
    }

    /// The organization that the schema belongs to, if it differs from this one.
    pub(crate) fn other_than(&self, id: OrganizationId) -> Option<&str> {
        match self {
            Self::To(found) if *found != id.to_string() => Some(found),
            _ => None,
        }
    }
}

/// Writes the id into the comment on a schema, before the existing text. Only the schema's owner may do this.
pub(crate) fn comment_sql(schema: &SchemaName, id: OrganizationId, comment: Option<&str>) -> String {
    let kept = match (Binding::of(comment), comment) {
        (Binding::None, Some(comment)) => format!("\n{comment}"),
        // The text after the id of an already bound comment.
        (Binding::To(_), Some(comment)) => {
            comment.get(PREFIX.len() + ID_BYTES..).map_or_else(String::new, ToOwned::to_owned)
        }
        (_, None) => String::new(),
    };
    let comment = literal(&format!("{PREFIX}{id}{kept}"));
    format!("comment on schema {} is {comment};\n", schema.quoted())
}

/// Writes into the comment on a schema the id, and that the tenant is being dropped. Only the schema's owner may do this.
pub(crate) fn mark_dropped_sql(schema: &SchemaName, id: OrganizationId, comment: Option<&str>) -> String {
    let kept = match (Binding::of(comment), comment) {
        (Binding::None, Some(comment)) => format!("\n{comment}"),
        (Binding::To(_), Some(comment)) => {
            let rest = comment.get(PREFIX.len() + ID_BYTES..).unwrap_or_default();
            rest.strip_prefix(BEING_DROPPED).unwrap_or(rest).to_owned()
        }
        (_, None) => String::new(),
    };
    let comment = literal(&format!("{PREFIX}{id}{BEING_DROPPED}{kept}"));
    format!("comment on schema {} is {comment};\n", schema.quoted())
}

/// A condition: the comment on the schema of this name says that the organization's tenant is being dropped.
pub(crate) fn marked_dropped_sql(schema: &str, id: OrganizationId) -> String {
    format!(
        "exists (select from pg_catalog.pg_namespace n where n.nspname::pg_catalog.text = {} and pg_catalog.starts_with({}, {}))",
        literal(schema),
        comment_of_sql("n.oid"),
        literal(&format!("{PREFIX}{id}{BEING_DROPPED}")),
    )
}

/// Whether the comment on a schema says that its tenant is being dropped.
pub(crate) fn is_being_dropped(comment: Option<&str>) -> bool {
    rest(comment).is_some_and(|rest| rest.starts_with(BEING_DROPPED))
}

/// A condition: the comment on the schema names no other organization. A schema without such a comment passes. Both
/// arguments are SQL expressions of type text; the schema's name needs no quotes, like every tenant's.
///
/// It is one value without `exists`: in a condition on a row, the server evaluates it separately and adds its cost for every
/// row that it would read. So the server finds the row through an index; otherwise it would read a registry of some hundred
/// rows completely.
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
    fn a_planned_drop_is_read_as_it_was_written() {
        let written = |comment: Option<&str>, planned| {
            let sql = plan_drop_sql(&SchemaName::public(), ID, comment, planned);
            sql.split_once('\'').unwrap().1.trim_end_matches("';\n").to_owned()
        };
        for before in [None, Some("Acme's data")] {
            let bound = super::tests::written(before).replace("''", "'");
            for before in [before, Some(bound.as_str())] {
                for was_active in [true, false] {
                    let planned = PlannedDrop { after: 1_798_394_400, was_active };
                    let comment = written(before, Some(planned)).replace("''", "'");
                    assert_eq!(PlannedDrop::of(Some(&comment)), Some(planned), "{comment}");
                    assert_eq!(Binding::of(Some(&comment)), Binding::To(ID.to_string()));
                    assert!(!is_being_dropped(Some(&comment)));
                    // Another date replaces the first one, and without a date the text is as before.
                    let later = PlannedDrop { after: 1_900_000_000, was_active };
                    let moved = written(Some(&comment), Some(later)).replace("''", "'");
                    assert_eq!(PlannedDrop::of(Some(&moved)), Some(later));
                    assert_eq!(written(Some(&moved), None).replace("''", "'"), bound);
                    // Begun, it still has its date.
                    let begun = mark_dropped_sql(&SchemaName::public(), ID, Some(&comment));
                    let begun = begun.split_once('\'').unwrap().1.trim_end_matches("';\n").replace("''", "'");
                    assert_eq!(PlannedDrop::of(Some(&begun)), Some(planned), "{begun}");
                }
            }
        }
        for other in [None, Some(""), Some("Acme"), Some(super::tests::written(None).as_str())] {
            assert_eq!(PlannedDrop::of(other), None, "{other:?}");
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
    fn a_comment_says_that_the_tenant_is_being_dropped() {
        let marked = |comment: Option<&str>| {
            let sql = mark_dropped_sql(&SchemaName::public(), ID, comment);
            sql.split_once('\'').unwrap().1.trim_end_matches("';\n").to_owned()
        };
        for before in [None, Some("ours"), Some(&*written(None)), Some(&*written(Some("ours")))] {
            assert!(!is_being_dropped(before), "{before:?}");
            let comment = marked(before);
            assert!(is_being_dropped(Some(&comment)), "{comment}");
            assert_eq!(Binding::of(Some(&comment)), Binding::To(ID.to_string()));
            assert_eq!(marked(Some(&comment)), comment);
            assert_eq!(comment.ends_with("\nours"), before.is_some_and(|before| before.ends_with("ours")));
        }
    }

    #[test]
    fn what_a_comment_said_before_is_kept_and_not_doubled() {
        let once = written(Some("ours"));
        assert_eq!(once, format!("cgk organization {ID}\nours"));
        assert_eq!(written(Some(&once)), once);
    }
}
