//! What the files before a statement have created and proven.

use super::{created::CreatedObjects, namespace::Namespace, temporary::TemporaryRelations};
use crate::{
    migrate::files::file::MigrationFile,
    migration::Set,
    sql::{
        SqlTokenKind, Statement,
        shape::{Action, Name, Shape},
    },
};
use std::collections::BTreeSet;

/// What the files of a set have created so far, and the complete shared set.
#[derive(Clone)]
pub(super) struct Known<'a> {
    pub(super) set: Set,
    shared: &'a CreatedObjects<'a>,
    own: CreatedObjects<'a>,
    /// Relations that the current file has created. They have no rows and no other users.
    fresh: BTreeSet<String>,
    /// Those of the current file. It is executed in a session of its own.
    temporary: TemporaryRelations,
    /// Table and column of every `check (column is not null)` that is valid for all rows.
    not_null: BTreeSet<(String, String)>,
    /// The same for checks that are not validated yet, by table and constraint.
    unproven: Vec<(String, String, String)>,
    /// Functions without a fixed search path. They use the caller's.
    pub(super) functions: BTreeSet<String>,
}

impl<'a> Known<'a> {
    pub(super) fn of(set: Set, shared: &'a CreatedObjects<'a>) -> Self {
        Self {
            set,
            shared,
            own: CreatedObjects::none(set),
            fresh: BTreeSet::new(),
            temporary: TemporaryRelations::default(),
            not_null: BTreeSet::new(),
            unproven: Vec::new(),
            functions: BTreeSet::new(),
        }
    }

    /// Starts the next file of the set.
    pub(super) fn start_file(&mut self) {
        self.fresh.clear();
        self.temporary = TemporaryRelations::default();
    }

    /// Whether the current file has created a relation, so that it is empty and unused.
    pub(super) fn is_fresh(&self, name: &Name) -> bool {
        self.own.is_own(name) && self.fresh.contains(&name.name) || self.is_temporary(name)
    }

    /// Returns the names of temporary relations that mean another relation.
    pub(super) fn taken_names(&self) -> BTreeSet<String> {
        self.temporary.names().filter(|name| self.has(name)).cloned().collect()
    }

    /// Whether an earlier statement has made a relation with this name, in a schema of the search path.
    fn has(&self, relation: &str) -> bool {
        has(&self.own, self.shared, self.set, relation)
    }

    /// Whether a name means a relation that the set has created, or a temporary one.
    pub(super) fn is_tenants(&self, name: &Name) -> bool {
        self.own.is_own(name) && self.own.has(Namespace::Relations, &name.name) || self.is_temporary(name)
    }

    fn is_temporary(&self, name: &Name) -> bool {
        self.temporary.means(name, |other| self.has(other))
    }

    /// Whether a statement of a tenant's file that names an object means one of the shared set.
    pub(super) fn is_shared(&self, namespace: Namespace, name: &Name) -> bool {
        let is_shared_schema = |schema: &str| schema == "public" || self.shared.has(Namespace::Schemas, schema);
        self.set == Set::Tenant
            && match (&name.schema, namespace) {
                (Some(schema), _) => is_shared_schema(schema),
                (None, Namespace::Schemas) => is_shared_schema(&name.name),
                (None, _) => self.is_found_in_public(namespace, &name.name),
            }
    }

    /// Whether a name without a schema is found in `public`, because the tenant has no object of this name.
    fn is_found_in_public(&self, namespace: Namespace, name: &str) -> bool {
        if self.own.has(namespace, name) {
            return false;
        }
        let is_chosen = || namespace == Namespace::Relations && self.shared.chooses(name) && !self.own.chooses(name);
        self.shared.has(namespace, name) || is_chosen()
    }

    /// Whether a valid check proves that a column is not null.
    pub(super) fn is_not_null(&self, table: &Name, column: String) -> bool {
        self.not_null.contains(&(table.name.clone(), column))
    }

    /// Takes a statement of the current file into account.
    pub(super) fn learn(&mut self, file: &'a MigrationFile, statement: &Statement, shape: &Shape) {
        let (own, shared, set) = (&self.own, self.shared, self.set);
        if self.temporary.learn(statement, shape, |name| has(own, shared, set, name)) {
            return;
        }
        self.own.learn(file, statement, shape);
        match shape {
            Shape::CreateTable { name, .. } | Shape::Create { name: Some(name), .. } if !self.own.is_own(name) => {}
            // It may already exist, with rows of all tenants.
            Shape::CreateTable { name, if_not_exists: false, .. } => drop(self.fresh.insert(name.name.clone())),
            Shape::Create { kind, name: Some(name), if_not_exists: false, or_replace: false, .. }
                if Namespace::of_kind(kind) == Namespace::Relations =>
            {
                self.fresh.insert(name.name.clone());
            }
            Shape::CreateIndex { name: Some(name), table, if_not_exists: false, .. }
                if self.fresh.contains(&table.name) =>
            {
                self.fresh.insert(name.name.clone());
            }
            Shape::AlterTable { table, actions, .. } => {
                for action in actions {
                    self.learn_rename(table, action);
                    self.learn_attached(table, action);
                    self.learn_checks(table, action);
                }
            }
            _ => {}
        }
    }

    /// A relation takes its rows along to its new name.
    fn learn_rename(&mut self, table: &Name, action: &Action) {
        let Some(to) = action.name_after(&["rename", "to"]) else { return };
        if self.fresh.remove(&table.name) {
            self.fresh.insert(to.name);
        } else {
            self.fresh.remove(&to.name);
        }
    }

    /// What was there before brings its rows along to its new parent.
    fn learn_attached(&mut self, table: &Name, action: &Action) {
        let child = action.name_after(&["attach", "partition"]);
        if child.is_some_and(|child| !self.fresh.contains(&child.name)) {
            self.fresh.remove(&table.name);
        }
        if let Some(parent) = action.name_after(&["inherit"]).filter(|_| !self.fresh.contains(&table.name)) {
            self.fresh.remove(&parent.name);
        }
    }

    fn learn_checks(&mut self, table: &Name, action: &Action) {
        if let Some((constraint, column)) = checks_not_null(action) {
            if action.has(&["not", "valid"]) {
                self.unproven.push((table.name.clone(), constraint, column));
            } else {
                self.not_null.insert((table.name.clone(), column));
            }
        }
        if let Some(validated) = action.name_after(&["validate", "constraint"]) {
            for (of, constraint, column) in &self.unproven {
                if *of == table.name && *constraint == validated.name {
                    self.not_null.insert((of.clone(), column.clone()));
                }
            }
        }
    }
}

fn has(own: &CreatedObjects<'_>, shared: &CreatedObjects<'_>, set: Set, relation: &str) -> bool {
    own.has(Namespace::Relations, relation) || set == Set::Tenant && shared.has(Namespace::Relations, relation)
}

/// Returns constraint and column of `add constraint x check (c is not null)`.
fn checks_not_null(action: &Action) -> Option<(String, String)> {
    let constraint = action.name_after(&["add", "constraint"]).map_or_else(String::new, |name| name.name);
    let inner = action.tokens.iter().position(|token| token.word() == Some("check"))?;
    match action.tokens.get(inner + 1..inner + 7)? {
        [open, column, is, not, null, close]
            if open.is_sign('(')
                && is.word() == Some("is")
                && not.word() == Some("not")
                && null.word() == Some("null")
                && matches!(close.kind, SqlTokenKind::Sign(')')) =>
        {
            Some((constraint, column.name()?.to_owned()))
        }
        _ => None,
    }
}
