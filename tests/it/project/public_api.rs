//! Every public function of the library is called by a test, a doctest, an example or the program's own tests.

use regex::Regex;
use std::{collections::BTreeMap, fs, path::Path};

/// Named in no test, each with why.
const WITHOUT_TEST: &[(&str, &str)] = &[];

fn files(directory: &Path, found: &mut Vec<(String, String)>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push((path.display().to_string(), fs::read_to_string(&path).unwrap()));
        }
    }
}

/// What of a library file is a test: doctests, and what stands behind `#[cfg(test)]` or in a file of tests.
fn tests_of(path: &str, text: &str) -> String {
    if path.contains("/tests/") || path.ends_with("/tests.rs") {
        return text.to_owned();
    }
    let mut doctest = false;
    let mut tests = String::new();
    for line in text.lines() {
        let Some(doc) = line.trim_start().strip_prefix("///").or_else(|| line.trim_start().strip_prefix("//!")) else {
            continue;
        };
        if doc.trim_start().starts_with("```") {
            doctest = !doctest;
        } else if doctest {
            tests.push_str(doc);
            tests.push('\n');
        }
    }
    if let Some((_, unit)) = text.split_once("#[cfg(test)]\nmod tests {") {
        tests.push_str(unit);
    }
    tests
}

#[test]
fn every_public_function_is_called_by_a_test() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut library = Vec::new();
    files(&root.join("src"), &mut library);
    library.retain(|(path, _)| !path.contains("/src/cli/") && !path.ends_with("/src/main.rs"));
    let mut tests = String::new();
    for directory in ["tests", "benches", "examples"] {
        let mut found = Vec::new();
        files(&root.join(directory), &mut found);
        found.retain(|(path, _)| !path.ends_with("public_api.rs"));
        tests.extend(found.into_iter().map(|(_, text)| text));
    }
    tests.extend(library.iter().map(|(path, text)| tests_of(path, text)));

    let public = Regex::new(r"(?m)^\s*pub (?:const )?(?:async )?fn ([a-z0-9_]+)").unwrap();
    let called = Regex::new(r"([a-z0-9_]+)(?:\(|::<|\))").unwrap();
    let called: std::collections::BTreeSet<&str> =
        called.captures_iter(&tests).map(|found| found.get(1).unwrap().as_str()).collect();
    let mut missing = BTreeMap::new();
    let mut known = 0;
    for (path, text) in &library {
        let text = text.split("#[cfg(test)]\nmod tests {").next().unwrap();
        for found in public.captures_iter(text) {
            known += 1;
            let name = found.get(1).unwrap().as_str();
            if !called.contains(name) {
                missing.insert(name.to_owned(), path.clone());
            }
        }
    }
    assert!(known > 150, "{known} public functions: the search is broken");
    // The list of exceptions has no line too many.
    for (name, why) in WITHOUT_TEST {
        assert!(missing.remove(*name).is_some(), "{name} ({why}) is called by a test or is gone");
    }
    assert!(missing.is_empty(), "public functions that no test calls: {missing:#?}");
}
