//! The names in a statement. Records contain no dependencies between objects, so a statement counts as dependent on
//! every object whose name it contains.

use super::{SCHEMA, create};
use crate::drift::objects::{Catalogue, ObjectKey};
use std::collections::HashSet;

/// The names in a text of SQL, without those in function bodies and in string literals.
#[derive(Default)]
pub(super) struct SqlNames {
    names: HashSet<String>,
    /// The names before a parenthesis, as in a call.
    called: HashSet<String>,
    operators: HashSet<String>,
    /// The names after COLLATE.
    collations: HashSet<String>,
    /// The names in literals such as `'english'::regconfig`.
    in_literals: HashSet<String>,
    /// The table and columns of each foreign key: `REFERENCES items(id, number)`.
    references: Vec<(String, String)>,
}

impl SqlNames {
    /// Returns the names in a statement of this module.
    pub(super) fn of(sql: &str) -> Self {
        let mut words = Self::default();
        words.read(sql);
        words
    }

    /// Returns the names in everything that is compared of an object.
    pub(super) fn of_object(key: &ObjectKey, catalogue: &Catalogue) -> Self {
        let mut words = Self::default();
        let statements = create::object(key, catalogue, None);
        statements.iter().for_each(|statement| words.read(&statement.sql));
        if statements.is_empty() {
            catalogue.objects.get(key).into_iter().flat_map(|facts| facts.values()).for_each(|text| words.read(text));
        }
        words
    }

    /// Whether the text may depend on an object of the catalogue.
    pub(super) fn depend_on(&self, key: &ObjectKey, catalogue: &Catalogue) -> bool {
        self.contain(key)
            || self
                .references
                .iter()
                .any(|(table, columns)| *table == key.parent && key_columns(key, catalogue).as_ref() == Some(columns))
    }

    /// Whether the text contains the name of an object. A part of a table is named together with its table.
    pub(super) fn contain(&self, key: &ObjectKey) -> bool {
        let name = base_name(key);
        match key.kind.as_str() {
            "function" | "procedure" | "aggregate" => self.called.contains(name),
            "operator" => self.operators.contains(name),
            "collation" => self.collations.contains(name),
            "text search configuration" | "text search dictionary" => self.in_literals.contains(name),
            "column" | "constraint" | "trigger" | "rule" | "policy" => {
                self.names.contains(name) && self.names.contains(&key.parent)
            }
            "cast" | "event trigger" | "default rights" | "schema" | "extension" | "operator family" => false,
            _ => self.names.contains(name),
        }
    }

    fn read(&mut self, sql: &str) {
        // The words before the first name with a schema are those of the command.
        let mut is_command = sql.contains(SCHEMA);
        let mut is_collation = false;
        let chars: Vec<char> = sql.chars().collect();
        let mut at = 0;
        while let Some(first) = chars.get(at) {
            let from = at;
            match first {
                '\'' => {
                    let escapes = from > 0 && matches!(chars[from - 1], 'E' | 'e');
                    at = end_of_quoted(&chars, from, escapes);
                    // The name of an object, for example `'numbers'::regclass`.
                    let rest: String = chars[at..].iter().take(5).collect();
                    if rest == "::reg" {
                        let text: String = chars[from + 1..at - 1].iter().collect();
                        let inner = Self::of(&text);
                        self.in_literals.extend(inner.names.iter().cloned());
                        self.names.extend(inner.names);
                    }
                }
                '"' => {
                    at = end_of_quoted(&chars, from, false);
                    let name: String = chars[from + 1..at.max(from + 2) - 1].iter().collect();
                    self.add(name.replace("\"\"", "\""), is_collation, &chars[at..]);
                    is_collation = false;
                }
                '$' => match dollar_tag(&chars, from) {
                    Some(tag) => at = end_of_body(&chars, from + tag.len(), &tag),
                    None => at += 1,
                },
                c if c.is_alphabetic() || *c == '_' => {
                    at = from + chars[from..].iter().take_while(|c| is_of_name(**c)).count();
                    let word: String = chars[from..at].iter().collect();
                    if word == "REFERENCES" {
                        self.add_reference(&chars[at..]);
                    }
                    let is_collate = word.eq_ignore_ascii_case("collate");
                    if !is_command {
                        self.add(word, is_collation, &chars[at..]);
                    }
                    is_collation = is_collate;
                }
                c if OPERATOR.contains(*c) => {
                    at = from + chars[from..].iter().take_while(|c| OPERATOR.contains(**c)).count();
                    self.operators.insert(chars[from..at].iter().collect());
                }
                c => {
                    is_command &= !SCHEMA.starts_with(*c);
                    at = from + 1;
                }
            }
        }
    }

    fn add(&mut self, name: String, is_collation: bool, rest: &[char]) {
        if is_collation {
            self.collations.insert(name.clone());
        }
        if rest.iter().find(|c| !c.is_whitespace()) == Some(&'(') {
            self.called.insert(name.clone());
        }
        self.names.insert(name);
    }

    fn add_reference(&mut self, rest: &[char]) {
        let text: String = rest.iter().take_while(|c| **c != ')').collect();
        if let Some((table, columns)) = text.split_once('(') {
            self.references.push((table.trim().trim_matches('"').to_owned(), columns.to_owned()));
        }
    }

    /// Returns the tables that foreign keys refer to.
    pub(super) fn referenced(&self) -> impl Iterator<Item = &str> {
        self.references.iter().map(|(table, _)| table.as_str())
    }

    /// Returns all names, including those of operators.
    pub(super) fn all(&self) -> impl Iterator<Item = &str> {
        self.names.iter().chain(&self.operators).map(String::as_str)
    }
}

const OPERATOR: &str = "+-*/<>=~!@#%^&|`?";

/// Returns the name without the types of a function or operator.
pub(super) fn base_name(key: &ObjectKey) -> &str {
    match key.kind.as_str() {
        "function" | "procedure" | "aggregate" => key.name.split('(').next().unwrap_or_default(),
        "operator" => key.name.split(" (").next().unwrap_or_default(),
        _ => &key.name,
    }
}

/// Returns the columns of a primary key, unique constraint or unique index, which a foreign key can refer to.
fn key_columns(key: &ObjectKey, catalogue: &Catalogue) -> Option<String> {
    let definition = catalogue.objects.get(key)?.get("definition")?;
    let is_key = match key.kind.as_str() {
        "constraint" => definition.starts_with("PRIMARY KEY") || definition.starts_with("UNIQUE"),
        "index" => definition.starts_with("CREATE UNIQUE"),
        _ => false,
    };
    let columns = definition.split_once('(')?.1.split(')').next()?;
    is_key.then(|| columns.to_owned())
}

fn is_of_name(c: char) -> bool {
    c.is_alphanumeric() || matches!(c, '_' | '$')
}

/// Returns the position after the quote that ends a text. A doubled quote does not end it.
fn end_of_quoted(chars: &[char], from: usize, escapes: bool) -> usize {
    let quote = chars[from];
    let mut at = from + 1;
    while at < chars.len() {
        if escapes && chars[at] == '\\' {
            at += 2;
        } else if chars[at] != quote {
            at += 1;
        } else if chars.get(at + 1) == Some(&quote) {
            at += 2;
        } else {
            return at + 1;
        }
    }
    chars.len()
}

fn dollar_tag(chars: &[char], from: usize) -> Option<Vec<char>> {
    let length = chars[from + 1..].iter().position(|c| *c == '$')?;
    let tag = &chars[from..from + length + 2];
    let is_tag = tag[1..=length].iter().all(|c| c.is_alphanumeric() || *c == '_')
        && !tag.get(1).is_some_and(char::is_ascii_digit);
    is_tag.then(|| tag.to_vec())
}

fn end_of_body(chars: &[char], from: usize, tag: &[char]) -> usize {
    let end = chars[from..].windows(tag.len()).position(|window| window == tag);
    end.map_or(chars.len(), |end| from + end + tag.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(kind: &str, parent: &str, name: &str) -> ObjectKey {
        ObjectKey { kind: kind.into(), parent: parent.into(), name: name.into() }
    }

    #[test]
    fn a_statement_contains_the_names_outside_of_texts_and_bodies() {
        let words = SqlNames::of(
            "CREATE VIEW v AS SELECT odd.\"a \"\"b\"\"\", f(x), 'text ''mood'::text, nextval('numbers'::regclass), a === b, \
             f COLLATE mine, to_tsvector('words'::regconfig, x) FROM odd",
        );
        for (key, is_there) in [
            (key("table", "", "odd"), true),
            (key("column", "odd", "a \"b\""), true),
            (key("column", "other", "a \"b\""), false),
            (key("type", "", "mood"), false),
            (key("sequence", "", "numbers"), true),
            (key("function", "", "f(integer)"), true),
            (key("function", "", "x(integer)"), false),
            (key("operator", "", "=== (integer, integer)"), true),
            (key("operator", "", "= (integer, integer)"), false),
            (key("collation", "", "odd"), false),
            (key("collation", "", "mine"), true),
            (key("text search configuration", "", "odd"), false),
            (key("text search configuration", "", "words"), true),
        ] {
            assert_eq!(words.contain(&key), is_there, "{key:?}");
        }
        let words = SqlNames::of("create function f(mood) as $cgk$ select 1 from items $cgk$ language x");
        assert!(words.contain(&key("type", "", "mood")) && words.contain(&key("type", "", "x")));
        assert!(!words.contain(&key("table", "", "items")));
    }

    #[test]
    fn the_words_of_a_command_are_no_names() {
        let words = SqlNames::of(&format!("create policy \"p\" on {SCHEMA}.\"items\" using (type)"));
        assert!(!words.contain(&key("table", "", "policy")));
        assert!(words.contain(&key("policy", "items", "p")) && words.contain(&key("table", "", "type")));
    }

    #[test]
    fn texts_that_do_not_end_are_read_to_their_end() {
        for text in ["'", "\"", "$a$", "E'\\", "$1", "$", "\"\"", "'x'::reg"] {
            drop(SqlNames::of(text));
        }
    }
}
