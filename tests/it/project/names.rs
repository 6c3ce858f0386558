//! A type's name is used once: in the library, and in the program.
//!
//! A type of the program that only its file sees is the shape of one command's output or input, such as `Summary`. Each
//! command may have its own.

use super::layering::sources;
use regex::Regex;
use std::collections::BTreeMap;

/// Names that several modules may have, each with the reason.
const EXCEPTIONS: [(&str, &str); 3] = [
    ("Arguments", "what clap reads of a command line: one type a command, in the command's file"),
    ("Result", "`Result` with the module's own error, as in the standard library"),
    ("Tenant", "the row of a tenant, and the extractor of a handler's parameter, as in the crate axum"),
];

struct Declared {
    name: String,
    is_private: bool,
}

/// The types that a file declares. Those inside of an `impl` or a trait have an owner, and are not counted.
fn declared(code: &str) -> Vec<Declared> {
    let types = Regex::new(r"(?m)^(pub(?:\([^)]*\))? )?(?:struct|enum|trait|type|union) ([A-Z]\w*)").unwrap();
    let of = |found: regex::Captures<'_>| Declared { name: found[2].to_owned(), is_private: found.get(1).is_none() };
    types.captures_iter(code).map(of).collect()
}

/// The names that several files declare, with the files.
fn declared_twice(files: &[(String, String)]) -> BTreeMap<String, Vec<String>> {
    let mut found: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (path, code) in files {
        let is_program = path.starts_with("src/cli");
        for declared in declared(code).into_iter().filter(|declared| !(is_program && declared.is_private)) {
            let name = if is_program { format!("cli::{}", declared.name) } else { declared.name };
            found.entry(name).or_default().push(path.clone());
        }
    }
    found.retain(|_, paths| paths.len() > 1);
    found
}

#[test]
fn two_types_never_share_a_name() {
    let files: Vec<_> = sources().into_iter().map(|file| (file.path.display().to_string(), file.code)).collect();
    assert!(files.iter().map(|(_, code)| declared(code).len()).sum::<usize>() > 500, "the search finds nothing");
    let mut found = declared_twice(&files);
    for (name, reason) in EXCEPTIONS {
        let library = found.remove(name);
        let program = found.remove(&format!("cli::{name}"));
        assert!(library.or(program).is_some(), "{name} is declared once, and needs no exception: {reason}");
    }
    assert!(found.is_empty(), "names of several types: {found:#?}");
}

#[test]
fn the_search_sees_what_it_should() {
    let files = |files: &[(&str, &str)]| {
        files.iter().map(|(path, code)| ((*path).to_owned(), (*code).to_owned())).collect::<Vec<_>>()
    };
    let twice = |a: &str, b: &str| !declared_twice(&files(&[("src/a.rs", a), ("src/b.rs", b)])).is_empty();
    assert!(twice("pub(crate) struct Found {\n}", "enum Found {\n}"));
    assert!(twice("pub type Found = u8;", "pub trait Found {}"));
    assert!(!twice("struct Found;", "struct Lost;"));
    assert!(!twice("impl Iterator for A {\n    type Item = u8;\n}", "impl Iterator for B {\n    type Item = u8;\n}"));
    let program = |a: &str, b: &str| declared_twice(&files(&[("src/cli/a.rs", a), ("src/cli/b.rs", b)]));
    assert!(program("struct Summary;", "struct Summary;").is_empty());
    assert_eq!(program("pub(crate) struct Row;", "pub(super) struct Row;").len(), 1);
}
