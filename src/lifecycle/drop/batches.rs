//! Splits the relations of a schema into batches, and defines the order in which they are dropped.

use crate::ident::Ident;
use std::collections::{BTreeMap, BTreeSet};

/// A relation of a schema that is being dropped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Relation {
    pub(super) oid: i64,
    pub(super) name: Ident,
    pub(super) kind: RelationKind,
    /// The approximate number of locks that its DROP takes.
    pub(super) locks: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum RelationKind {
    View,
    MaterializedView,
    Table,
    ForeignTable,
}

impl RelationKind {
    /// Returns the kind for a value of `pg_class.relkind`.
    pub(super) fn of(kind: &str) -> Option<Self> {
        match kind {
            "v" => Some(Self::View),
            "m" => Some(Self::MaterializedView),
            "r" | "p" => Some(Self::Table),
            "f" => Some(Self::ForeignTable),
            _ => None,
        }
    }

    pub(super) fn statement(self) -> &'static str {
        match self {
            Self::View => "drop view if exists",
            Self::MaterializedView => "drop materialized view if exists",
            Self::Table => "drop table if exists",
            Self::ForeignTable => "drop foreign table if exists",
        }
    }

    fn is_view(self) -> bool {
        matches!(self, Self::View | Self::MaterializedView)
    }
}

/// Splits the relations into batches that take no more locks than the budget. A relation that needs more locks than
/// that is in a batch of its own.
///
/// Views are first, the newest before the older ones that it may read. Then each table is before those that it needs:
/// `needs` pairs a table with one that it references or inherits from. If tables need each other, the newest is first.
/// Because of this order, no DROP removes an object that is counted in a later batch.
pub(super) fn batches(relations: Vec<Relation>, needs: &[(i64, i64)], budget: usize) -> Vec<Vec<Relation>> {
    let (mut views, tables): (Vec<_>, Vec<_>) = relations.into_iter().partition(|relation| relation.kind.is_view());
    views.sort_by_key(|view| std::cmp::Reverse(view.oid));
    let mut all: Vec<Vec<Relation>> = Vec::new();
    let mut locks = 0;
    for relation in views.into_iter().chain(in_order(tables, needs)) {
        match all.last_mut() {
            Some(batch) if locks + relation.locks <= budget => batch.push(relation.clone()),
            _ => {
                all.push(vec![relation.clone()]);
                locks = 0;
            }
        }
        locks += relation.locks;
    }
    all
}

/// Sorts the tables: each before those that it needs.
fn in_order(tables: Vec<Relation>, needs: &[(i64, i64)]) -> Vec<Relation> {
    let mut left: BTreeMap<i64, Relation> = tables.into_iter().map(|table| (table.oid, table)).collect();
    let mut needed_by: BTreeMap<i64, usize> = BTreeMap::new();
    let mut needs_of: BTreeMap<i64, Vec<i64>> = BTreeMap::new();
    for (table, needed) in needs {
        if table != needed && left.contains_key(table) && left.contains_key(needed) {
            *needed_by.entry(*needed).or_default() += 1;
            needs_of.entry(*table).or_default().push(*needed);
        }
    }
    let mut free: BTreeSet<i64> = left.keys().copied().filter(|oid| !needed_by.contains_key(oid)).collect();
    let mut order = Vec::with_capacity(left.len());
    while let Some(oid) = free.pop_last().or_else(|| left.keys().next_back().copied()) {
        let Some(table) = left.remove(&oid) else { continue };
        order.push(table);
        for needed in needs_of.remove(&oid).unwrap_or_default() {
            if let Some(count) = needed_by.get_mut(&needed) {
                *count -= 1;
                if *count == 0 {
                    free.insert(needed);
                }
            }
        }
    }
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    fn relation(oid: i64, kind: RelationKind, locks: usize) -> Relation {
        Relation { oid, name: Ident::new(format!("r{oid}")).unwrap(), kind, locks }
    }

    fn oids(batches: &[Vec<Relation>]) -> Vec<Vec<i64>> {
        batches.iter().map(|batch| batch.iter().map(|relation| relation.oid).collect()).collect()
    }

    #[test]
    fn a_batch_keeps_to_the_budget_and_a_large_table_stands_alone() {
        let tables = [(1, 9), (2, 9), (3, 100), (4, 9)].map(|(oid, locks)| relation(oid, RelationKind::Table, locks));
        assert_eq!(oids(&batches(tables.into(), &[], 20)), [vec![4], vec![3], vec![2, 1]]);
        assert!(batches(Vec::new(), &[], 20).is_empty());
    }

    #[test]
    fn views_come_first_and_a_table_before_what_it_needs() {
        use RelationKind::{MaterializedView, Table, View};
        let relations = [(1, Table), (2, View), (3, MaterializedView), (4, Table), (5, Table)];
        let relations: Vec<_> = relations.map(|(oid, kind)| relation(oid, kind, 1)).into();
        // 1 references 4, and 4 references 5, which is the newest.
        assert_eq!(oids(&batches(relations, &[(1, 4), (4, 5), (5, 5)], 100)), [[3, 2, 1, 4, 5]]);
    }

    #[test]
    fn tables_that_need_each_other_are_all_dropped() {
        let tables: Vec<_> = (1..=4).map(|oid| relation(oid, RelationKind::Table, 1)).collect();
        let order = oids(&batches(tables, &[(1, 2), (2, 1), (3, 1), (1, 99)], 2));
        assert_eq!(order, [vec![4, 3], vec![2, 1]]);
    }
}
