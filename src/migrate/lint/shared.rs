//! Warnings about a tenant's file that changes an object of the shared set, refers to one or inherits from one.

use super::{Lint, LintFault, known::Known, namespace::Namespace};
use crate::sql::shape::{Name, RowSource, Shape};

/// Finds objects of the shared set that a tenant's file changes. Rows and rights are not meant: each tenant can have its
/// own there.
pub(super) fn of_change(shape: &Shape, known: &Known<'_>, faults: &mut Vec<LintFault>) {
    let Some((what, namespace, names)) = changed(shape) else { return };
    for name in names.iter().filter(|name| known.is_shared(namespace, name)) {
        let reason = match namespace {
            Namespace::Schemas => format!("{what} changes schema {} of all tenants, once per tenant", name.shown()),
            _ => format!("{what} changes {} of the shared set, once per tenant", name.shown()),
        };
        faults.push((name.at, Lint::ChangesShared, reason));
    }
}

/// Returns the objects that a statement changes, and what it does to them.
fn changed(shape: &Shape) -> Option<(String, Namespace, &[Name])> {
    let one = std::slice::from_ref;
    let relations = |what: &str, names| Some((what.to_owned(), Namespace::Relations, names));
    let verb = |verb: &str, kind: &str| format!("{verb} {}", kind.to_uppercase());
    match shape {
        Shape::CreateIndex { table, .. } => relations("CREATE INDEX", one(table)),
        Shape::Create { kind, on: Some(table), .. } => relations(&verb("CREATE", kind), one(table)),
        Shape::DropIndex { names, .. } => relations("DROP INDEX", names),
        Shape::Drop { kind, on: Some(table), .. } => relations(&verb("DROP", kind), one(table)),
        Shape::Drop { kind, names, .. } => Some((verb("DROP", kind), Namespace::of_kind(kind), names)),
        // A partition of a shared table has a warning of its own.
        Shape::AlterTable { actions, .. } if actions.iter().any(|action| action.has(&["attach", "partition"])) => None,
        Shape::AlterTable { kind, table, .. } => Some((verb("ALTER", kind), Namespace::of_kind(kind), one(table))),
        Shape::Alter { kind, on: Some(table), .. } => relations(&verb("ALTER", kind), one(table)),
        Shape::Alter { kind, name, .. } => Some((verb("ALTER", kind), Namespace::of_kind(kind), one(name))),
        Shape::Comment { on: Some(table), .. } => relations("COMMENT", one(table)),
        Shape::Comment { kind, name, .. } => Some(("COMMENT".into(), Namespace::of_kind(kind), one(name))),
        Shape::Truncate { tables } => relations("TRUNCATE", tables),
        Shape::Reindex { kind, name: Some(name), .. } if matches!(kind.as_str(), "index" | "table") => {
            relations("REINDEX", one(name))
        }
        Shape::Cluster { table: Some(table) } => relations("CLUSTER", one(table)),
        _ => None,
    }
}

/// Finds foreign keys to shared tables.
pub(super) fn of_references(references: &[Name], known: &Known<'_>, faults: &mut Vec<LintFault>) {
    for name in references.iter().filter(|name| known.is_shared(Namespace::Relations, name)) {
        let reason = format!(
            "a foreign key to {} in the shared schema: every tenant's key makes deletes there slower, and creating \
             one locks that table",
            name.shown()
        );
        faults.push((name.at, Lint::ForeignKeyToPublic, reason));
    }
}

/// Finds shared parents of a new table.
pub(super) fn of_parents(sources: &[(RowSource, Name)], known: &Known<'_>, faults: &mut Vec<LintFault>) {
    let is_parent = |source: &RowSource| matches!(source, RowSource::Inherits | RowSource::PartitionOf);
    let parents = sources.iter().filter(|(source, _)| is_parent(source));
    parents.for_each(|(_, parent)| of_parent(parent, parent.at, known, faults));
}

/// Adds the warning about a tenant's table that inherits from a shared one, or is a partition of it.
pub(super) fn of_parent(parent: &Name, at: usize, known: &Known<'_>, faults: &mut Vec<LintFault>) {
    if known.is_shared(Namespace::Relations, parent) {
        let reason = format!(
            "a query on {} of the shared schema also returns the rows of this table, and those of every other tenant",
            parent.shown()
        );
        faults.push((at, Lint::SharedParent, reason));
    }
}
