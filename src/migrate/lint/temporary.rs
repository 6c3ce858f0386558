//! Temporary objects, and temporary relations with the name of another one.
//!
//! `pg_temp` is last in the search path. So if two relations have a name, the name alone means the other one, and only
//! `pg_temp.x` means the temporary one.

use super::{
    Lint, LintFault,
    body::Body,
    namespace::{Namespace, RELATIONS},
};
use crate::sql::{
    Statement, Token,
    shape::{self, Name, Shape},
};
use std::collections::BTreeMap;

pub(super) const SCHEMA: &str = "pg_temp";

/// Returns the name of a temporary object that a statement creates.
pub(super) fn temporary(statement: &Statement, shape: &Shape) -> Option<Name> {
    match shape {
        Shape::CreateTable { name, .. } | Shape::Create { name: Some(name), .. } => {
            (is_marked(&statement.tokens, name) || is_in(name)).then(|| name.clone())
        }
        Shape::CreateIndex { name, table, .. } => is_in(table).then(|| name.as_ref().unwrap_or(table).clone()),
        _ => None,
    }
}

fn is_in(name: &Name) -> bool {
    name.schema.as_deref() == Some(SCHEMA)
}

/// Whether TEMP stands between CREATE and the name, or between INTO and the name.
fn is_marked(tokens: &[Token], name: &Name) -> bool {
    let before = tokens.iter().rev().skip_while(|token| token.at >= name.at);
    before
        .map_while(Token::word)
        .take_while(|word| !["create", "into"].contains(word))
        .any(|word| matches!(word, "temp" | "temporary"))
}

/// The temporary relations of a session, each with its table if it is an index.
#[derive(Clone, Debug, Default)]
pub(super) struct TemporaryRelations(BTreeMap<String, Option<String>>);

impl TemporaryRelations {
    pub(super) fn names(&self) -> impl Iterator<Item = &String> {
        self.0.keys()
    }

    /// Whether a name means a temporary relation. `is_other` says whether it is also the name of another relation.
    pub(super) fn means(&self, name: &Name, is_other: impl Fn(&str) -> bool) -> bool {
        match &name.schema {
            Some(schema) => schema == SCHEMA,
            None => self.0.contains_key(&name.name) && !is_other(&name.name),
        }
    }

    /// Takes a statement into account, and returns whether it concerns only temporary relations.
    pub(super) fn learn(&mut self, statement: &Statement, shape: &Shape, is_other: impl Fn(&str) -> bool) -> bool {
        let means = |name: &Name| self.means(name, &is_other);
        let is_relation = |kind: &str| Namespace::of_kind(kind) == Namespace::Relations;
        match shape {
            Shape::CreateIndex { name, table, .. } if means(table) => {
                self.0.extend(name.as_ref().map(|name| (name.name.clone(), Some(table.name.clone()))));
                true
            }
            // A view of a temporary relation is temporary.
            Shape::Create { kind, name: Some(name), reads, .. } if kind == "view" && reads.iter().any(means) => {
                self.0.insert(name.name.clone(), None);
                true
            }
            Shape::AlterTable { kind, table, actions } if is_relation(kind) && means(table) => {
                for to in actions.iter().filter_map(|action| action.name_after(&["rename", "to"])) {
                    self.rename(&table.name, &to.name);
                }
                true
            }
            Shape::Drop { kind, names, .. } if is_relation(kind) => self.drop(names, is_other),
            Shape::DropIndex { names, .. } => self.drop(names, is_other),
            _ => {
                let Some(name) = temporary(statement, shape) else { return false };
                if !matches!(shape, Shape::Create { kind, .. } if !RELATIONS.contains(&kind.as_str())) {
                    self.0.insert(name.name, None);
                }
                true
            }
        }
    }

    fn rename(&mut self, from: &str, to: &str) {
        if let Some(of) = self.0.remove(from) {
            self.0.insert(to.to_owned(), of);
        }
        self.0.values_mut().flatten().filter(|table| *table == from).for_each(|table| to.clone_into(table));
    }

    fn drop(&mut self, names: &[Name], is_other: impl Fn(&str) -> bool) -> bool {
        let dropped: Vec<&String> =
            names.iter().filter(|name| self.means(name, &is_other)).map(|name| &name.name).collect();
        self.0
            .retain(|name, table| !dropped.contains(&name) && !table.as_ref().is_some_and(|of| dropped.contains(&of)));
        dropped.len() == names.len()
    }
}

/// Returns the warning about a name that a temporary relation and another one have since a statement. There is none if
/// the file calls the temporary one `pg_temp.x` wherever it means it.
pub(super) fn of_taken_name(name: &str, since: &Statement, file: &[Statement]) -> Option<LintFault> {
    let parts: Vec<Statement> = file.iter().flat_map(parts).collect();
    let later = parts.iter().filter(|part| part.range.start > since.range.start);
    // After it is dropped, the name has one meaning again.
    let is_mixed_up =
        later.take_while(|part| !drops(part, name)).any(|part| mentions(part, name) && !mentions_temporary(part, name));
    if !is_mixed_up && parts.iter().any(|part| mentions_temporary(part, name)) {
        return None;
    }
    let reason = format!(
        "a relation {name:?} exists, and statements with this name mean that one: temporary ones are last in the search path",
    );
    let at =
        since.tokens.iter().rev().find(|token| token.name() == Some(name)).map_or(since.range.start, |token| token.at);
    Some((at, Lint::TemporaryName, reason))
}

/// Returns a statement, and the statements of its body.
fn parts(statement: &Statement) -> Vec<Statement> {
    let mut parts = vec![statement.clone()];
    if let Some(body) = Body::of(statement) {
        let all = body.all.tokens.split(|token| token.is_sign(';')).filter(|tokens| !tokens.is_empty());
        parts.extend(
            all.map(|tokens| Statement { range: tokens[0].at..tokens[tokens.len() - 1].end, tokens: tokens.to_vec() }),
        );
    }
    parts
}

/// Whether a statement contains a name without a schema. A name before a dot is that of a column's table.
fn mentions(statement: &Statement, name: &str) -> bool {
    let tokens = &statement.tokens;
    let is_dot = |at: Option<usize>| at.and_then(|at| tokens.get(at)).is_some_and(|token| token.is_sign('.'));
    (0..tokens.len()).any(|at| tokens[at].name() == Some(name) && !is_dot(at.checked_sub(1)) && !is_dot(Some(at + 1)))
}

fn mentions_temporary(statement: &Statement, name: &str) -> bool {
    let is_it =
        |three: &[Token]| three[0].name() == Some(SCHEMA) && three[1].is_sign('.') && three[2].name() == Some(name);
    statement.tokens.windows(3).any(is_it)
}

fn drops(statement: &Statement, name: &str) -> bool {
    shape::has(&statement.tokens, &["drop"]) && mentions_temporary(statement, name)
}
