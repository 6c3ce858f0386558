//! The order of the statements for one schema. The phase of a statement gives a first order. Then an object comes after
//! those that its text names, and is dropped before them.

use super::{
    FixStatement, Fixes, Phase, lineage,
    words::{SqlNames, base_name},
};
use crate::drift::objects::{Catalogue, ObjectKey};
use std::collections::HashMap;

/// Sets the place of each statement in the script.
pub(super) fn set_places(fixes: &mut [Fixes<'_>], given: &Catalogue, found: &Catalogue) {
    let mut order = Order::of(fixes, given, found);
    (0..order.steps.len()).for_each(|step| order.visit(step));
    let places: Vec<_> = order.done.iter().map(|step| order.steps[*step].place).collect();
    for (place, (difference, statement)) in places.into_iter().enumerate() {
        fixes[difference].1[statement].place = place + 1;
    }
}

struct ScriptStep<'f> {
    /// The index of the difference, and of the statement in it.
    place: (usize, usize),
    statement: &'f FixStatement,
    words: SqlNames,
    /// The names in the definition of the object that the statement drops.
    dropped: Option<SqlNames>,
}

struct Order<'f> {
    steps: Vec<ScriptStep<'f>>,
    /// The steps that create or drop an object, by its name.
    by_name: HashMap<&'f str, Vec<usize>>,
    given: &'f Catalogue,
    found: &'f Catalogue,
    is_visited: Vec<bool>,
    done: Vec<usize>,
}

impl<'f> Order<'f> {
    fn of(fixes: &'f [Fixes<'_>], given: &'f Catalogue, found: &'f Catalogue) -> Self {
        let mut steps = Vec::new();
        for (difference, (key, statements)) in fixes.iter().enumerate() {
            for (index, statement) in statements.iter().enumerate() {
                let subject = statement.makes.as_ref().or(statement.drops.as_ref()).unwrap_or(key);
                let rank = rank(statement.phase, subject, given, found);
                let words = match &statement.makes {
                    // REFRESH does not name what the view reads.
                    Some(made) if made.kind == "materialized view" => {
                        SqlNames::of(given.objects[made].get("definition").map_or("", String::as_str))
                    }
                    _ => SqlNames::of(&statement.sql),
                };
                let dropped = statement.drops.as_ref().map(|key| SqlNames::of_object(key, found));
                steps.push((
                    statement.phase,
                    rank,
                    ScriptStep { place: (difference, index), statement, words, dropped },
                ));
            }
        }
        steps.sort_by_key(|(phase, rank, _)| (*phase, *rank));
        let steps: Vec<ScriptStep<'f>> = steps.into_iter().map(|(.., step)| step).collect();
        let mut by_name: HashMap<&str, Vec<usize>> = HashMap::new();
        for (index, step) in steps.iter().enumerate() {
            for key in step.statement.makes.iter().chain(&step.statement.drops) {
                by_name.entry(base_name(key)).or_default().push(index);
                // A foreign key names the table of the key that it refers to.
                if ["constraint", "index"].contains(&key.kind.as_str()) {
                    by_name.entry(&key.parent).or_default().push(index);
                }
            }
        }
        let is_visited = vec![false; steps.len()];
        Self { steps, by_name, given, found, is_visited, done: Vec::new() }
    }

    /// Adds a step after those that must be before it. Steps that need each other keep the order of their phases.
    fn visit(&mut self, step: usize) {
        if std::mem::replace(&mut self.is_visited[step], true) {
            return;
        }
        for before in self.before(step) {
            self.visit(before);
        }
        self.done.push(step);
    }

    fn before(&self, index: usize) -> Vec<usize> {
        let step = &self.steps[index];
        let mut all = Vec::new();
        if creates(step.statement.phase) || step.statement.phase > Phase::Triggers {
            let named = step.words.all().filter_map(|name| self.by_name.get(name)).flatten();
            all.extend(named.copied().filter(|other| {
                let made = self.steps[*other].statement;
                let is_its_own = made.makes.is_some() && made.makes == step.statement.makes;
                creates(made.phase)
                    && !is_its_own
                    && made
                        .makes
                        .as_ref()
                        .is_some_and(|key| key.kind != lineage::LINK && step.words.depend_on(key, self.given))
            }));
        }
        // The rows to which a foreign key refers can be in a partition that is attached.
        if step.statement.phase == Phase::ForeignKeys {
            let referenced: Vec<String> =
                step.words.referenced().flat_map(|table| lineage::with_partitions(table, self.given)).collect();
            let own = step.statement.makes.as_ref().map(|made| &made.parent);
            all.extend(self.steps.iter().enumerate().filter_map(|(other, link)| {
                let table = &link.statement.makes.as_ref().filter(|made| made.kind == lineage::LINK)?.name;
                (referenced.contains(table) && Some(table) != own).then_some(other)
            }));
        }
        if let Some(dropped) = &step.statement.drops {
            let needs_it = |(other, step): &(usize, &ScriptStep<'_>)| {
                let is_part =
                    step.statement.drops.as_ref().is_none_or(|key| key == dropped || key.parent == dropped.name);
                *other != index
                    && !is_part
                    && step.dropped.as_ref().is_some_and(|words| words.depend_on(dropped, self.found))
            };
            all.extend(self.steps.iter().enumerate().filter(needs_it).map(|(other, _)| other));
        }
        all.sort_unstable();
        all.dedup();
        all
    }
}

fn creates(phase: Phase) -> bool {
    (Phase::Types..=Phase::Triggers).contains(&phase)
}

/// Returns the order within a phase. Keys and indexes of partitions are created before those of their table, of which they
/// become parts. What the server does to a table with its children is done to the table first.
fn rank(phase: Phase, key: &ObjectKey, given: &Catalogue, found: &Catalogue) -> isize {
    let table = if key.parent.is_empty() { &key.name } else { &key.parent };
    let depth = lineage::depth(table, given).max(lineage::depth(table, found));
    let depth = isize::try_from(depth).unwrap_or(isize::MAX);
    match phase {
        Phase::Keys | Phase::Indexes | Phase::ForeignKeys => -depth,
        Phase::DropDependents | Phase::Columns | Phase::Partitions | Phase::Settings | Phase::DropObjects => depth,
        _ => 0,
    }
}
