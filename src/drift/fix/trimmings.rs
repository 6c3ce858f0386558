//! Statements for the owner, rights and comment of an object.

use super::{FixStatement, OWNER, Phase, address, fact, grants, own, run};
use crate::{
    drift::objects::{Catalogue, ObjectKey},
    ident::{literal, quoted},
};

/// Returns the statements for the owner, rights and comment of a new object.
pub(super) fn of_new(key: &ObjectKey, given: &Catalogue) -> Vec<FixStatement> {
    let Some(facts) = given.objects.get(key) else { return Vec::new() };
    let mut all = Vec::new();
    if let (Some(owner), Some((kind, name))) = (fact(facts, "owner"), address(key)) {
        all.extend(Some(owned(kind, &name, owner)).filter(|_| owner != "the schema's"));
    }
    all.extend(grants::of_new(key, fact(facts, "grants")));
    all.extend(comment(key, fact(facts, "comment"), given).filter(|_| facts.contains_key("comment")));
    all
}

pub(super) fn owned(kind: &str, name: &str, owner: &str) -> FixStatement {
    let owner = if owner == "the schema's" { OWNER.to_owned() } else { quoted(owner) };
    run(Phase::Owners, format!("alter {kind} {name} owner to {owner}"))
}

pub(super) fn comment(key: &ObjectKey, text: Option<&str>, catalogue: &Catalogue) -> Option<FixStatement> {
    let text = text.map_or_else(|| "null".into(), literal);
    Some(run(Phase::Comments, format!("comment on {} is {text}", commented(key, catalogue)?)))
}

/// Returns `on` and the object, for a comment.
fn commented(key: &ObjectKey, catalogue: &Catalogue) -> Option<String> {
    let on_table = |kind: &str| format!("{kind} {} on {}", quoted(&key.name), own(&key.parent));
    Some(match key.kind.as_str() {
        "column" => format!("column {}.{}", own(&key.parent), quoted(&key.name)),
        "trigger" | "rule" | "policy" => on_table(&key.kind),
        "constraint" if catalogue.is_domain(&key.parent) => {
            format!("constraint {} on domain {}", quoted(&key.name), own(&key.parent))
        }
        "constraint" => on_table("constraint"),
        _ => {
            let (kind, name) = address(key)?;
            format!("{kind} {name}")
        }
    })
}
