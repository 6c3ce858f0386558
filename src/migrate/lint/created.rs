//! The objects that the files of a set create and keep, as far as their words show it.

use super::{
    namespace::{Namespace, RELATIONS},
    temporary::temporary,
};
use crate::{
    migrate::files::{file::MigrationFile, source::Source},
    migration::Set,
    sql::{
        Statement, Token,
        shape::{self, Action, Name, Shape},
    },
};
use std::collections::{BTreeMap, BTreeSet};

/// What a set has created so far, and not dropped.
#[derive(Clone, Debug)]
pub(super) struct CreatedObjects<'a> {
    set: Set,
    /// Tables, views, sequences and indexes in the set's schema.
    relations: BTreeMap<String, CreatedRelation<'a>>,
    /// Earlier names of tables. The server's names for their indexes and sequences still begin with them.
    former_tables: BTreeSet<String>,
    /// The indexes of named constraints, each with its table.
    constraints: BTreeMap<String, String>,
    types: BTreeSet<String>,
    routines: BTreeSet<String>,
    /// The other schemas that the set creates, or in which it creates objects.
    schemas: BTreeSet<String>,
}

#[derive(Clone, Debug)]
struct CreatedRelation<'a> {
    file: &'a MigrationFile,
    /// The table of an index.
    table: Option<String>,
}

impl<'a> CreatedObjects<'a> {
    /// Returns what a complete set creates and keeps.
    pub(super) fn of(source: &'a Source) -> Self {
        let mut created = Self::none(source.set());
        for file in source.files() {
            for statement in file.statements() {
                created.learn(file, statement, &shape::of(statement));
            }
        }
        created
    }

    pub(super) fn none(set: Set) -> Self {
        Self {
            set,
            relations: BTreeMap::new(),
            former_tables: BTreeSet::new(),
            constraints: BTreeMap::new(),
            types: BTreeSet::new(),
            routines: BTreeSet::new(),
            schemas: BTreeSet::new(),
        }
    }

    /// Whether a name is that of an object in the schema of the set, and not in another one that it names.
    pub(super) fn is_own(&self, name: &Name) -> bool {
        is_own(self.set, name)
    }

    pub(super) fn has(&self, namespace: Namespace, name: &str) -> bool {
        match namespace {
            Namespace::Relations => self.relations.contains_key(name) || self.constraints.contains_key(name),
            Namespace::Types => self.types.contains(name),
            Namespace::Routines => self.routines.contains(name),
            Namespace::Schemas => self.schemas.contains(name),
            Namespace::Others => false,
        }
    }

    /// Returns the file that created a relation under this name. The indexes of constraints are not included.
    pub(super) fn file_of(&self, relation: &str) -> Option<&'a MigrationFile> {
        self.relations.get(relation).map(|created| created.file)
    }

    /// Whether the server could have chosen this name for an index or a sequence of one of the tables: `t_pkey`,
    /// `t_a_b_key`, `t_a_idx1`, `t_id_seq`.
    pub(super) fn chooses(&self, name: &str) -> bool {
        let tables = self.relations.iter().filter(|(_, created)| created.table.is_none());
        tables.map(|(table, _)| table).chain(&self.former_tables).any(|table| is_chosen_for(table, name))
    }

    /// Takes a statement into account.
    pub(super) fn learn(&mut self, file: &'a MigrationFile, statement: &Statement, shape: &Shape) {
        if temporary(statement, shape).is_some() {
            return;
        }
        if let Some((name, table)) = created_relation(shape, self.set) {
            self.relations.insert(name.name.clone(), CreatedRelation { file, table: table.map(|of| of.name.clone()) });
        }
        match shape {
            Shape::CreateTable { name, .. } if self.is_own(name) => self.learn_constraints(&statement.tokens, name),
            Shape::CreateTable { name, .. } => self.schemas.extend(name.schema.clone()),
            Shape::Create { kind, name: Some(name), .. } => self.learn_object(kind, name),
            Shape::Drop { kind, names, .. } => names.iter().for_each(|name| self.forget(kind, name)),
            Shape::DropIndex { names, .. } => names.iter().for_each(|name| self.forget("index", name)),
            Shape::AlterTable { kind, table, actions } => {
                actions.iter().for_each(|action| self.learn_change(kind, table, action));
            }
            Shape::Alter { kind, name, on: None, action } => self.learn_change(kind, name, action),
            _ => {}
        }
    }

    fn learn_object(&mut self, kind: &str, name: &Name) {
        match Namespace::of_kind(kind) {
            Namespace::Schemas => drop(self.schemas.insert(name.name.clone())),
            _ if !self.is_own(name) => self.schemas.extend(name.schema.clone()),
            Namespace::Types => drop(self.types.insert(name.name.clone())),
            Namespace::Routines => drop(self.routines.insert(name.name.clone())),
            Namespace::Relations | Namespace::Others => {}
        }
    }

    fn learn_constraints(&mut self, tokens: &[Token], table: &Name) {
        let of_table = named_indexes(tokens).map(|name| (name.to_owned(), table.name.clone()));
        self.constraints.extend(of_table);
    }

    fn learn_change(&mut self, kind: &str, object: &Name, action: &Action) {
        if !self.is_own(object) {
            return;
        }
        if Namespace::of_kind(kind) == Namespace::Relations {
            self.learn_constraints(&action.tokens, object);
            if let Some(name) = action.name_after(&["drop", "constraint"]) {
                self.constraints.remove(&name.name);
            }
            if let Some(from) = action.name_after(&["rename", "constraint"])
                && let Some(to) = action.name_after(&["to"])
                && let Some(table) = self.constraints.remove(&from.name)
            {
                self.constraints.insert(to.name, table);
            }
        }
        if let Some(to) = action.name_after(&["rename", "to"]) {
            self.rename(kind, &object.name, &to.name);
        }
        if let Some(schema) = action.name_after(&["set", "schema"]) {
            self.forget(kind, object);
            self.schemas.insert(schema.name);
        }
    }

    /// The indexes of a table stay with it.
    fn rename(&mut self, kind: &str, from: &str, to: &str) {
        match Namespace::of_kind(kind) {
            Namespace::Relations => {
                if let Some(created) = self.relations.remove(from) {
                    self.former_tables.extend(created.table.is_none().then(|| from.to_owned()));
                    self.relations.insert(to.to_owned(), created);
                }
                if let Some(table) = self.constraints.remove(from) {
                    self.constraints.insert(to.to_owned(), table);
                }
                let tables = self.relations.values_mut().filter_map(|created| created.table.as_mut());
                tables.chain(self.constraints.values_mut()).filter(|table| *table == from).for_each(|table| {
                    to.clone_into(table);
                });
            }
            Namespace::Types if self.types.remove(from) => drop(self.types.insert(to.to_owned())),
            Namespace::Routines if self.routines.remove(from) => drop(self.routines.insert(to.to_owned())),
            _ => {}
        }
    }

    /// An object was dropped, or moved to another schema. The indexes of a table go with it.
    fn forget(&mut self, kind: &str, name: &Name) {
        let namespace = Namespace::of_kind(kind);
        if namespace == Namespace::Schemas {
            self.schemas.remove(&name.name);
        }
        if !self.is_own(name) {
            return;
        }
        let name = &name.name;
        match namespace {
            Namespace::Relations => {
                self.relations.retain(|known, created| known != name && created.table.as_ref() != Some(name));
                self.constraints.retain(|known, table| known != name && table != name);
            }
            Namespace::Types => drop(self.types.remove(name)),
            Namespace::Routines => drop(self.routines.remove(name)),
            Namespace::Schemas | Namespace::Others => {}
        }
    }
}

fn is_own(set: Set, name: &Name) -> bool {
    match &name.schema {
        Some(schema) => set == Set::Public && schema == "public",
        None => true,
    }
}

/// Returns the name of the table, view, sequence or index that a statement creates in the schema of its set, and the
/// table of an index. If the server chooses the name, nothing is returned.
fn created_relation(shape: &Shape, set: Set) -> Option<(&Name, Option<&Name>)> {
    match shape {
        // An index is in the schema of its table.
        Shape::CreateIndex { name: Some(name), table, .. } => is_own(set, table).then_some((name, Some(table))),
        Shape::CreateTable { name, .. } => is_own(set, name).then_some((name, None)),
        Shape::Create { kind, name: Some(name), .. } if RELATIONS.contains(&kind.as_str()) => {
            is_own(set, name).then_some((name, None))
        }
        _ => None,
    }
}

/// Returns the tables, views, sequences and indexes that a file creates and keeps, with the positions of their names.
pub(crate) fn relations(file: &MigrationFile) -> Vec<(String, usize)> {
    file.statements().iter().filter_map(made_by).collect()
}

fn made_by(statement: &Statement) -> Option<(String, usize)> {
    let shape = shape::of(statement);
    let (name, _) = created_relation(&shape, Set::Tenant).filter(|_| temporary(statement, &shape).is_none())?;
    Some((name.name.clone(), name.at))
}

/// Returns the names of constraints that have an index.
fn named_indexes(tokens: &[Token]) -> impl Iterator<Item = &str> {
    tokens.windows(3).filter_map(|three| {
        let has_index = matches!(three[2].word(), Some("primary" | "unique" | "exclude"));
        three[1].name().filter(|_| three[0].word() == Some("constraint") && has_index)
    })
}

fn is_chosen_for(table: &str, name: &str) -> bool {
    let Some(rest) = name.strip_prefix(table).and_then(|rest| rest.strip_prefix('_')) else { return false };
    let rest = rest.trim_end_matches(|c: char| c.is_ascii_digit());
    let has_columns = |suffix: &&str| rest.strip_suffix(*suffix).is_some_and(|columns| !columns.is_empty());
    rest == "pkey" || ["_key", "_excl", "_idx", "_seq"].iter().any(has_columns)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sql::cut;

    #[test]
    fn finds_what_a_file_makes() {
        let text =
            "create table a (); create unlogged table if not exists \"B\" (); create or replace view c as select 1;
             create unique index d on a (x); create index on a (y); create table other.e (); create type f as enum ();
             create materialized view g as select 1; create sequence h;
             create temp table i (); create table pg_temp.j (); create foreign table k () server s;
             create index l on other.e (x); create index m on pg_temp.j (x); create recursive view n (a) as select 1";
        let names: Vec<_> = cut(text).unwrap().statements.iter().filter_map(made_by).map(|(name, _)| name).collect();
        assert_eq!(names, ["a", "B", "c", "d", "g", "h", "k", "n"]);
    }

    #[test]
    fn a_name_that_the_server_chooses_begins_with_its_table() {
        for name in ["t_pkey", "t_pkey1", "t_a_key", "t_a_b_idx", "t_expr_idx2", "t_a_excl", "t_id_seq"] {
            assert!(is_chosen_for("t", name), "{name}");
        }
        for name in ["t", "pkey", "tt_pkey", "t_key", "t_idx", "t_seq1", "t_a_index", "u_t_pkey", "t_a_pkey", "t_a"] {
            assert!(!is_chosen_for("t", name), "{name}");
        }
    }

    #[test]
    fn what_is_dropped_renamed_or_moved_is_not_there() {
        let text = "create table a (id int constraint a_one primary key, constraint a_two unique (id), n int);
             create index a_n on a (n); create table b (id int constraint b_one primary key); drop table b;
             alter table a add constraint a_three exclude (n with =), rename to c; alter table c drop constraint a_two;
             alter table c rename constraint a_one to c_one; create type mood as enum (); create type gone as enum ();
             alter type mood rename to state; drop type gone; create domain d as int; create function f(int) returns int return 1;
             create function g() returns int return 1; alter function g() rename to h; alter function f(int) set schema app;
             create schema x; create table y.t (); create schema z; drop schema z; create view public.v as select 1";
        let file = MigrationFile::unchecked("001_x.sql", text);
        let mut created = CreatedObjects::none(Set::Public);
        file.statements().iter().for_each(|statement| created.learn(&file, statement, &shape::of(statement)));
        let has = |namespace, names: &[&str]| -> Vec<bool> {
            names.iter().map(|name| created.has(namespace, name)).collect()
        };
        use Namespace::{Relations, Routines, Schemas, Types};
        assert_eq!(has(Relations, &["c", "a_n", "a_three", "c_one", "v"]), [true; 5], "{created:?}");
        assert_eq!(has(Relations, &["a", "b", "b_one", "a_one", "a_two", "t"]), [false; 6], "{created:?}");
        assert_eq!(has(Types, &["state", "d", "mood", "gone"]), [true, true, false, false]);
        assert_eq!(has(Routines, &["h", "f", "g"]), [true, false, false]);
        assert_eq!(has(Schemas, &["x", "y", "app", "z", "public"]), [true, true, true, false, false]);
        // The indexes go with the renamed table.
        let text = cut("drop table c").unwrap();
        let statement = &text.statements[0];
        created.learn(&file, statement, &shape::of(statement));
        assert!(!created.has(Relations, "a_n") && !created.has(Relations, "a_three") && created.has(Relations, "v"));
    }
}
