//! The objects of a schema. Runs no queries.

use crate::{
    catalogue,
    db::message::Answer,
    ident::SchemaName,
    migrate::{LEDGER_TABLE, execute::step_log::STEPS_TABLE, rehearsal::OWN_NAME},
};
use std::collections::{BTreeMap, BTreeSet};

/// The kind, parent and name of an object. The parent is empty for independent objects.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct ObjectKey {
    pub(super) kind: String,
    pub(super) parent: String,
    pub(super) name: String,
}

/// The properties of an object, by aspect.
pub(super) type ObjectFacts = BTreeMap<String, String>;

impl ObjectKey {
    fn of(kind: &str, parent: &str, name: &str) -> Self {
        Self { kind: kind.into(), parent: parent.into(), name: name.into() }
    }
}

/// All objects of a schema, by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Catalogue {
    pub(super) objects: BTreeMap<ObjectKey, ObjectFacts>,
    /// The columns of each table in order.
    pub(super) columns: BTreeMap<String, String>,
}

impl Catalogue {
    /// Returns the objects of a response to the query of [`catalogue`].
    pub(super) fn of(answer: &Answer) -> Self {
        let mut catalogue = Self::default();
        for [kind, parent, name, facts] in catalogue::objects(answer) {
            catalogue.insert(kind, parent, name, facts);
        }
        catalogue
    }

    /// Returns the objects of a record: kind, parent, name and facts of each.
    pub(super) fn of_record(objects: &[String]) -> Self {
        let mut catalogue = Self::default();
        for row in objects.chunks_exact(4) {
            catalogue.insert(&row[0], &row[1], &row[2], &row[3]);
        }
        catalogue
    }

    /// Returns a copy for one schema. A record contains a placeholder for the schema's name, also inside of names.
    pub(super) fn for_schema(&self, schema: &SchemaName) -> Self {
        let written = |text: &str| text.replace(OWN_NAME, schema.as_str());
        let key = |key: &ObjectKey| ObjectKey::of(&key.kind, &written(&key.parent), &written(&key.name));
        let facts =
            |facts: &ObjectFacts| facts.iter().map(|(aspect, value)| (aspect.clone(), written(value))).collect();
        Self {
            objects: self.objects.iter().map(|(object, of)| (key(object), facts(of))).collect(),
            columns: self.columns.iter().map(|(table, columns)| (written(table), written(columns))).collect(),
        }
    }

    /// Adds a row of the query.
    pub(super) fn insert(&mut self, kind: &str, parent: &str, name: &str, facts: &str) {
        if kind == "columns" {
            self.columns.insert(parent.into(), facts.into());
            return;
        }
        let facts = facts.split('\u{1f}').filter_map(|fact| fact.split_once('='));
        let facts = facts.map(|(aspect, value)| (aspect.to_owned(), value.to_owned())).collect();
        self.objects.insert(ObjectKey { kind: kind.into(), parent: parent.into(), name: name.into() }, facts);
    }

    /// Returns the columns of a table, view or type in order.
    pub(super) fn columns_of(&self, relation: &str) -> Vec<String> {
        // A name can contain a comma, and then the list is split incorrectly. So only existing columns count.
        let list = self.columns.get(relation).map_or("", String::as_str);
        let named = list.split(", ").map(ToOwned::to_owned);
        named.filter(|name| self.objects.contains_key(&ObjectKey::of("column", relation, name))).collect()
    }

    /// Copies the order of a relation's columns from another catalogue.
    pub(super) fn copy_columns(&mut self, relation: &str, from: &Self) {
        if let Some(columns) = from.columns.get(relation) {
            self.columns.insert(relation.to_owned(), columns.clone());
        }
    }

    /// Returns the kind of the independent object with this name.
    pub(super) fn kind_of(&self, name: &str) -> Option<&str> {
        const KINDS: [&str; 6] = ["table", "view", "materialized view", "foreign table", "type", "domain"];
        KINDS.into_iter().find(|kind| self.objects.contains_key(&ObjectKey::of(kind, "", name)))
    }

    pub(super) fn is_domain(&self, name: &str) -> bool {
        self.kind_of(name) == Some("domain")
    }

    pub(super) fn is_view(&self, name: &str) -> bool {
        matches!(self.kind_of(name), Some("view" | "materialized view"))
    }

    /// Returns the sequence that belongs to a column.
    pub(super) fn sequence_of(&self, table: &str, column: &str) -> Option<(&str, &ObjectFacts)> {
        let column = format!("{table}.{column}");
        let owned = |(key, facts): &(&ObjectKey, &ObjectFacts)| {
            key.kind == "sequence" && facts.get("owned by") == Some(&column)
        };
        self.objects.iter().find(owned).map(|(key, facts)| (key.name.as_str(), facts))
    }

    /// Returns the identity column of a sequence; `None` if the sequence does not belong to one.
    pub(super) fn identity_of(&self, sequence: &ObjectKey) -> Option<&ObjectFacts> {
        let (table, column) = self.objects.get(sequence)?.get("owned by")?.split_once('.')?;
        self.objects.get(&ObjectKey::of("column", table, column)).filter(|facts| facts.contains_key("identity"))
    }

    /// Returns the index of a table's replica identity.
    pub(super) fn replica_index_of(&self, table: &str) -> Option<&str> {
        let is_it = |(key, facts): &(&ObjectKey, &ObjectFacts)| {
            key.kind == "index" && key.parent == table && facts.contains_key("replica identity")
        };
        self.objects.iter().find(is_it).map(|(key, _)| key.name.as_str())
    }

    /// Whether a table has a trigger that is disabled, or enabled in another way than the default.
    pub(super) fn has_quiet_trigger(&self, table: &str) -> bool {
        let is_quiet = |facts: &ObjectFacts| facts.get("state").is_some_and(|state| state != "enabled");
        self.objects.iter().any(|(key, facts)| key.kind == "trigger" && key.parent == table && is_quiet(facts))
    }

    /// Excludes a table of another tool and its dependent objects.
    pub(super) fn forget_table(&mut self, table: &str) {
        self.objects
            .retain(|key, facts| table_of(key, facts) != table && !(key.parent.is_empty() && key.name == table));
        self.columns.remove(table);
    }

    /// Excludes the table of a file without a transaction that was applied in part. `cgk migrate` continues with it and
    /// drops it.
    pub(super) fn forget_progress(&mut self) {
        let table = self.objects.get(&ObjectKey::of("table", "", STEPS_TABLE));
        if table.and_then(|facts| facts.get("owner")).is_some_and(|owner| owner == "the schema's") {
            self.forget_table(STEPS_TABLE);
        }
    }

    /// Removes a schema's own name from the texts. The server wrote it because the reader may not use the schema.
    pub(super) fn unqualify(&mut self, schema: &str) {
        let own = format!("{schema}.");
        for value in self.objects.values_mut().flat_map(BTreeMap::values_mut) {
            *value = without_word(value, &own);
        }
        let old = std::mem::take(&mut self.objects);
        self.objects = old
            .into_iter()
            .map(|(key, facts)| (ObjectKey { name: without_word(&key.name, &own), ..key }, facts))
            .collect();
    }

    /// Excludes from the shared schema the objects that migrations do not control: the history of runs, the rights on
    /// the schema itself, and additional rights of single roles on its tables, mainly those of service logins.
    pub(super) fn forget_what_is_no_migrations(&mut self, given: &mut Self) {
        let own: Vec<String> =
            self.objects.keys().filter(|key| key.kind == "table").map(|key| key.name.clone()).collect();
        for table in own.iter().filter(|name| name.starts_with("cgk_")) {
            self.forget_table(table);
        }
        // Objects that the setup and a rename create: functions, and the triggers on the registry.
        let is_own = |key: &ObjectKey| match key.kind.as_str() {
            "function" => {
                ["cgk_database_tag()", "cgk_isolation_modes()", "cgk_guard_registry()", "cgk_guard_aliases()"]
                    .contains(&key.name.as_str())
            }
            "trigger" => key.name.starts_with("cgk_registry_"),
            _ => false,
        };
        given.objects.retain(|key, _| !is_own(key));
        self.objects.retain(|key, _| !is_own(key));
        given.objects.retain(|key, _| key.kind != "schema");
        self.objects.retain(|key, _| key.kind != "schema");
        // Only the owner of the ledger may write it.
        let is_ledger = |key: &ObjectKey| key.kind == "table" && key.name == LEDGER_TABLE;
        for (key, facts) in self.objects.iter_mut().filter(|(key, _)| !is_ledger(key)) {
            let Some(grants) = facts.remove("grants") else { continue };
            let known = given.objects.get(key).and_then(|facts| facts.get("grants")).map_or("", String::as_str);
            let who = |held: &str| held.split(": ").next().unwrap_or_default().to_owned();
            let known: BTreeSet<String> = known.split("; ").map(who).collect();
            let is_of_all = |who: &str| ["everyone", catalogue::OWNER_LACKS].contains(&who);
            let kept: Vec<&str> =
                grants.split("; ").filter(|held| is_of_all(&who(held)) || known.contains(&who(held))).collect();
            if !kept.is_empty() {
                facts.insert("grants".into(), kept.join("; "));
            }
        }
        self.objects
            .retain(|key, facts| key.kind != "default rights" || !facts.is_empty() || given.objects.contains_key(key));
    }

    /// Excludes the rights of the tenant's role if the role does not exist (yet).
    pub(super) fn forget_grants_to_the_tenant(&mut self) {
        self.objects.retain(|_, facts| {
            if let Some(grants) = facts.remove("grants") {
                let others: Vec<_> =
                    grants.split("; ").filter(|held| !held.starts_with("the tenant's role:")).collect();
                if !others.is_empty() {
                    facts.insert("grants".into(), others.join("; "));
                }
            }
            true
        });
        self.objects.retain(|key, facts| key.kind != "default rights" || !facts.is_empty());
    }
}

/// Returns the table that an object depends on; empty if there is none.
pub(super) fn table_of<'a>(key: &'a ObjectKey, facts: &'a BTreeMap<String, String>) -> &'a str {
    let owner = facts.get("owned by").and_then(|column| column.split('.').next());
    owner.unwrap_or(&key.parent)
}

/// Returns a text without a word, unless the word is the end of a longer one.
pub(super) fn without_word(text: &str, word: &str) -> String {
    let mut parts = text.split(word);
    let mut clean = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        if clean.ends_with(|c: char| c.is_alphanumeric() || c == '_') {
            clean.push_str(word);
        }
        clean.push_str(part);
    }
    clean
}

#[cfg(test)]
mod tests {
    use super::*;

    fn catalogue(rows: &[(&str, &str, &str, &str)]) -> Catalogue {
        let mut catalogue = Catalogue::default();
        for (kind, parent, name, facts) in rows {
            catalogue.insert(kind, parent, name, &facts.replace('|', "\u{1f}"));
        }
        catalogue
    }

    #[test]
    fn the_own_schema_is_taken_out_as_a_whole_word() {
        assert_eq!(
            without_word("tenant_a.x + my_tenant_a.y + tenant_ab.z + (tenant_a.f())", "tenant_a."),
            "x + my_tenant_a.y + tenant_ab.z + (f())"
        );
    }

    #[test]
    fn grants_to_the_tenant_can_be_left_out() {
        let mut some = catalogue(&[
            ("table", "", "t", "grants=bob: select; the tenant's role: select"),
            ("default rights", "", "tables", "grants=the tenant's role: select"),
        ]);
        some.forget_grants_to_the_tenant();
        assert_eq!(some, catalogue(&[("table", "", "t", "grants=bob: select")]));
    }
}
