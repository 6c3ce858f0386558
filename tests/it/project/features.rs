//! What the features of the crate bring along.

use std::{collections::BTreeSet, process::Command};

/// The packages that a user of the library builds with these features, but for cgk itself.
fn packages(features: &str) -> BTreeSet<String> {
    // Not offline: of features that nobody built here, the packages are not here yet.
    let mut tree = Command::new(env!("CARGO"));
    tree.args(["tree", "--locked", "--no-default-features", "--edges", "normal", "--prefix", "none"]);
    tree.args(["--format", "{p}", "--features", features]).current_dir(env!("CARGO_MANIFEST_DIR"));
    let output = tree.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let lines = String::from_utf8(output.stdout).unwrap();
    // A package that stands there once more is marked with a star.
    let packages = lines.lines().map(|line| line.trim_end_matches(" (*)").to_owned());
    packages.filter(|package| !package.is_empty() && !package.starts_with("cgk ")).collect()
}

fn has(packages: &BTreeSet<String>, name: &str) -> bool {
    packages.iter().any(|package| package.starts_with(&format!("{name} ")))
}

/// README.md gives the numbers.
#[test]
fn a_service_builds_what_it_needs() {
    let (bare, migrate) = (packages(""), packages("migrate"));
    for left_out in ["refinery", "url", "clap", "comfy-table", "argon2"] {
        assert!(!has(&bare, left_out), "{left_out}");
    }
    assert!(has(&migrate, "refinery"));
    let readme = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/README.md")).unwrap();
    for packages in [bare, migrate, packages("redis"), packages("axum")] {
        let count = packages.len();
        assert!(readme.contains(&format!(" {count} crates ")), "README.md does not say {count}: {packages:#?}");
    }
}

/// What a feature turns on, directly or through others.
fn turned_on(features: &toml::Table, feature: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::from([feature.to_owned()]);
    let mut open = vec![feature.to_owned()];
    while let Some(next) = open.pop() {
        for turned in features.get(&next).and_then(|list| list.as_array()).into_iter().flatten() {
            let turned = turned.as_str().unwrap().to_owned();
            if found.insert(turned.clone()) {
                open.push(turned);
            }
        }
    }
    found
}

#[test]
fn the_program_needs_no_server_for_tests_but_for_the_demo() {
    let text = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml")).unwrap();
    let manifest: toml::Table = text.parse().unwrap();
    let features = manifest["features"].as_table().unwrap();
    let testing = |feature| turned_on(features, feature).contains("testing");
    assert!(!testing("cli"));
    // The controls: the demo needs it, and the program as it is installed has the demo.
    assert!(testing("demo") && testing("default"));
}
