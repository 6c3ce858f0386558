//! Warnings about a tenant's file that changes an object of the shared set, refers to one or inherits from one.

use super::{Lint, LintFault, known::Known, namespace::Namespace};
use crate::sql::{
    Statement, Token,
    shape::{self, Name, RowSource, RowWrite, Shape},
};

/// Finds objects of the shared set that a tenant's file changes, or on which it changes rights.
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
        // Without a schema, it creates an object of the tenant.
        Shape::Create { kind, name: Some(name), or_replace: true, .. } if name.schema.is_some() => {
            Some((verb("CREATE OR REPLACE", kind), Namespace::of_kind(kind), one(name)))
        }
        Shape::Refresh { name, .. } => relations("REFRESH MATERIALIZED VIEW", one(name)),
        Shape::Vacuum { full: true, tables } => relations("VACUUM FULL", tables),
        Shape::Rights { verb, kind, names } => Some(((*verb).to_owned(), Namespace::of_kind(kind), names)),
        Shape::Truncate { tables } => relations("TRUNCATE", tables),
        Shape::Reindex { kind, name: Some(name), .. } if matches!(kind.as_str(), "index" | "table") => {
            relations("REINDEX", one(name))
        }
        Shape::Cluster { table: Some(table) } => relations("CLUSTER", one(table)),
        _ => None,
    }
}

/// Finds a write of a tenant's file to rows of a shared table that can be those of other tenants. New rows are not meant:
/// each tenant can have its own there.
pub(super) fn of_rows(write: &RowWrite, context: &Statement, known: &Known<'_>, faults: &mut Vec<LintFault>) {
    if !known.is_shared(Namespace::Relations, &write.table) {
        return;
    }
    let is_chosen = write.chooses_rows || write.verb == "merge";
    if !(is_chosen && names_the_tenant(context, known)) {
        let (verb, table) = (write.verb.to_uppercase(), write.table.shown());
        let reason = format!("{verb} changes rows of all tenants in {table} of the shared set, once per tenant");
        faults.push((write.table.at, Lint::ChangesShared, reason));
    }
}

/// Whether a statement asks for the current tenant, or reads one of its relations.
fn names_the_tenant(statement: &Statement, known: &Known<'_>) -> bool {
    let tenant = ["current_schema", "current_schemas", "current_setting", "current_tenant_slug"];
    let asks = |token: &Token| token.name().is_some_and(|name| tenant.contains(&name));
    statement.tokens.iter().any(asks) || shape::reads(statement).iter().any(|name| known.is_tenants(name))
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
