//! Statements for functions and procedures.

use super::{FixStatement, Phase, SCHEMA, fact, own, run};
use crate::{
    drift::objects::{Catalogue, ObjectFacts, ObjectKey},
    ident::{literal, quoted},
};

/// Returns the quoted name with its types; `None` for a name with a parenthesis, which cannot be separated from them.
pub(super) fn name(key: &ObjectKey) -> Option<String> {
    let (name, arguments) = key.name.split_once('(')?;
    (!arguments.contains('(')).then(|| format!("{}({arguments}", own(name)))
}

/// Returns the complete CREATE OR REPLACE FUNCTION.
pub(super) fn create(key: &ObjectKey, catalogue: &Catalogue) -> Option<FixStatement> {
    let facts = catalogue.objects.get(key).filter(|_| matches!(key.kind.as_str(), "function" | "procedure"))?;
    let name = name(key)?;
    let name = &name[..name.find('(')?];
    let mut sql = format!("create or replace {} {name}({})", key.kind, fact(facts, "arguments").unwrap_or_default());
    if key.kind == "function" {
        sql.push_str(&format!("\n returns {}", fact(facts, "returns")?));
    }
    sql.push_str(&format!("\n language {}", quoted(fact(facts, "language")?)));
    sql.push_str(&attributes(key, facts));
    let body = fact(facts, "body").unwrap_or_default();
    let is_sql = is_parsed(facts);
    match fact(facts, "library") {
        Some(library) => sql.push_str(&format!("\nas {}, {}", literal(library), literal(body))),
        None if is_sql => sql.push_str(&format!("\n{}", body.trim_end_matches(';'))),
        None => sql.push_str(&format!("\nas {}", dollar_quoted(body))),
    }
    // A body that the server has parsed refers to tables, and arguments may too.
    let late = is_sql
        || names_a_relation(&key.name, catalogue)
        || fact(facts, "returns").is_some_and(|r| names_a_relation(r, catalogue));
    Some(run(if late { Phase::LateFunctions } else { Phase::Functions }, sql))
}

fn attributes(key: &ObjectKey, facts: &ObjectFacts) -> String {
    let mut sql = String::new();
    let mut add = |text: String| {
        sql.push(' ');
        sql.push_str(&text);
    };
    if key.kind == "function" {
        if fact(facts, "window").is_some() {
            add("window".into());
        }
        add(fact(facts, "volatility").unwrap_or("volatile").into());
        if fact(facts, "on null input").is_some() {
            add("strict".into());
        }
        if fact(facts, "leakproof").is_some() {
            add("leakproof".into());
        }
        if let Some(parallel) = fact(facts, "parallel") {
            add(format!("parallel {parallel}"));
        }
        for aspect in ["cost", "rows", "support"] {
            if let Some(value) = fact(facts, aspect) {
                add(format!("{aspect} {value}"));
            }
        }
    }
    if let Some(types) = fact(facts, "transforms") {
        let types: Vec<_> = types.split(", ").map(|name| format!("for type {name}")).collect();
        add(format!("transform {}", types.join(", ")));
    }
    add(format!("security {}", fact(facts, "security").unwrap_or("invoker")));
    for (name, value) in fact(facts, "settings").map(settings).unwrap_or_default() {
        add(format!("set {name} = {value}"));
    }
    sql
}

/// Returns the settings of a function from a text such as `search_path=<schema>, public, work_mem=1MB`.
fn settings(text: &str) -> Vec<(String, String)> {
    // The server stores lists of names with quotes where they are needed.
    const LISTS: [&str; 6] = [
        "search_path",
        "temp_tablespaces",
        "session_preload_libraries",
        "local_preload_libraries",
        "shared_preload_libraries",
        "unix_socket_directories",
    ];
    let mut all: Vec<(String, String)> = Vec::new();
    let is_name =
        |name: &str| !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '.');
    for piece in text.split(", ") {
        match (piece.split_once('='), all.last_mut()) {
            (Some((name, value)), _) if is_name(name) => all.push((name.to_owned(), value.to_owned())),
            (_, Some((_, value))) => value.push_str(&format!(", {piece}")),
            _ => {}
        }
    }
    for (name, value) in &mut all {
        if LISTS.contains(&name.as_str()) {
            *value = if value.is_empty() { "''".into() } else { value.replace("<schema>", SCHEMA) };
        } else {
            *value = literal(value);
        }
        *name = name.split('.').map(quoted).collect::<Vec<_>>().join(".");
    }
    all
}

fn is_parsed(facts: &ObjectFacts) -> bool {
    let body = fact(facts, "body").unwrap_or_default();
    fact(facts, "language") == Some("sql") && (body.starts_with("BEGIN ATOMIC") || body.starts_with("RETURN "))
}

fn names_a_relation(text: &str, catalogue: &Catalogue) -> bool {
    let words: Vec<&str> = text.split(|c: char| !(c.is_alphanumeric() || c == '_')).collect();
    let is_relation = |key: &&ObjectKey| matches!(key.kind.as_str(), "table" | "view" | "materialized view");
    catalogue.objects.keys().filter(is_relation).any(|key| words.contains(&key.name.as_str()))
}

fn dollar_quoted(body: &str) -> String {
    let tag = (0..).map(|n| if n == 0 { "$cgk$".to_owned() } else { format!("$cgk{n}$") });
    let tag = tag.into_iter().find(|tag| !body.contains(tag.trim_end_matches('$'))).unwrap_or_default();
    format!("{tag}{body}{tag}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_taken_apart() {
        let pair = |a: &str, b: &str| (a.to_owned(), b.to_owned());
        assert_eq!(
            settings("search_path=<schema>, public, work_mem=1MB, my.x=a, b"),
            [
                pair("\"search_path\"", &format!("{SCHEMA}, public")),
                pair("\"work_mem\"", "'1MB'"),
                pair("\"my\".\"x\"", "'a, b'")
            ]
        );
    }

    #[test]
    fn a_body_cannot_end_its_own_quotes() {
        assert_eq!(dollar_quoted("a $cgk$ b"), "$cgk1$a $cgk$ b$cgk1$");
        assert_eq!(dollar_quoted("a"), "$cgk$a$cgk$");
    }
}
