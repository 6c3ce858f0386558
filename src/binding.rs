//! Binds a tenant's schema to its organization: the comment on the schema contains the organization's id.
//!
//! A slug can be used again, an id cannot. Only the schema's owner can change the comment, `pg_dump` includes it, and a
//! rename of the schema does not change it. The comment contains the text of an earlier comment after the id.

use crate::{
    ident::{SchemaName, literal},
    tenant::OrganizationId,
};

/// The prefix of such a comment. The organization's id follows, 36 characters in lower case.
const PREFIX: &str = "cgk organization ";
/// The length of an id as text.
const ID_BYTES: usize = 36;
/// The text after the id while the tenant is being dropped.
const BEING_DROPPED: &str = "\ncgk: this tenant is being dropped";

/// The text after the id, and after [`BEING_DROPPED`], while a drop of the tenant is planned. The values of a
/// [`PlannedDrop`] follow.
const DROP_AFTER: &str = "\ncgk: this tenant is dropped after ";

/// The planned drop in the comment on a tenant's schema.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PlannedDrop {
    /// The time from which it may be dropped, in seconds since 1970.
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

    /// Returns the planned drop at the start of the text after the id, and the rest of the text.
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

/// Returns the text after the id in the comment on a schema; `None` if it contains no id.
fn rest(comment: Option<&str>) -> Option<&str> {
    comment?.strip_prefix(PREFIX)?.get(ID_BYTES..)
}

/// Writes the id and the time of the drop into the comment on a schema, or removes the time. Only the schema's owner
/// may do this.
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

/// Returns a statement that fails with a division by zero unless the schema of this name exists and still has this
/// comment.
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
    /// No organization: there is no comment, or a different one. Schemas of cgk 0.1 are in this state until
    /// `cgk setup:database` or `cgk migrate` binds them.
    None,
    /// This organization. It is a text, because the comment can contain any text after the prefix.
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

    /// Returns the organization that the schema belongs to, if it differs from this one.
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
        // This is the text after the id of a comment that is already bound.
        (Binding::To(_), Some(comment)) => {
            comment.get(PREFIX.len() + ID_BYTES..).map_or_else(String::new, ToOwned::to_owned)
        }
        (_, None) => String::new(),
    };
    let comment = literal(&format!("{PREFIX}{id}{kept}"));
    format!("comment on schema {} is {comment};\n", schema.quoted())
}

/// Writes the id and the mark of a started drop into the comment on a schema. Only the schema's owner may do this.
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

/// Returns a condition: the comment on the schema of this name has the mark of a started drop of the organization's
/// tenant.
pub(crate) fn marked_dropped_sql(schema: &str, id: OrganizationId) -> String {
    format!(
        "exists (select from pg_catalog.pg_namespace n where n.nspname::pg_catalog.text = {} and pg_catalog.starts_with({}, {}))",
        literal(schema),
        comment_of_sql("n.oid"),
        literal(&format!("{PREFIX}{id}{BEING_DROPPED}")),
    )
}

/// Whether the comment on a schema has the mark of a started drop.
pub(crate) fn is_being_dropped(comment: Option<&str>) -> bool {
    rest(comment).is_some_and(|rest| rest.starts_with(BEING_DROPPED))
}

/// Returns a condition: the comment on the schema names no other organization. A schema without such a comment passes.
/// Both arguments are SQL expressions of type text. The schema's name needs no quotes, like every tenant's.
///
/// It is one value without `exists`. In a condition on a row, the server evaluates it separately and adds its cost for
/// every row that it would read. So the server finds the row through an index. Otherwise it would read a registry of
/// some hundred rows completely.
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

/// Returns an expression: the comment on the schema with this OID.
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

    /// Returns the comment that the statement writes.
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
                    // Another date replaces the first one. Without a date, the text is the same as before.
                    let later = PlannedDrop { after: 1_900_000_000, was_active };
                    let moved = written(Some(&comment), Some(later)).replace("''", "'");
                    assert_eq!(PlannedDrop::of(Some(&moved)), Some(later));
                    assert_eq!(written(Some(&moved), None).replace("''", "'"), bound);
                    // After the drop has started, the comment still contains its date.
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
