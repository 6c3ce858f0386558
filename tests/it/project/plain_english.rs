//! The words that readers stumble over do not come back: in the texts of the program, in its help, and in the documents.

use regex::Regex;
use std::{fs, path::Path, sync::LazyLock};

/// Words and phrases that a user's text does not use.
const REFUSED: &str = r"(?i)\b(mend|mends|mended|mending|nobody|whom|fare|fares|fared|anyway|takes the place of|other hands|half made|half done|lest|thereof|died on the way|so anyway|is told|are told|was told|been told|befalls?|for want of|wish to|throw-away)\b";

/// The documents that users read. ARCHITECTURE.md and SCOREBOARD.md are for contributors.
const DOCUMENTS: [&str; 18] = [
    "CHANGELOG.md",
    "README.md",
    "docs/setup/DATABASE.md",
    "docs/operations.md",
    "docs/operations/releases.md",
    "docs/operations/tenants.md",
    "docs/reference.md",
    "docs/cli-json.md",
    "docs/flags.md",
    "docs/fleet.md",
    "docs/library.md",
    "docs/migrations.md",
    "docs/platform.md",
    "docs/security.md",
    "docs/other-languages.md",
    "docs/service.md",
    "docs/templates.md",
    "packaging/README.md",
];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn refused(text: &str) -> Vec<String> {
    static WORDS: LazyLock<Regex> = LazyLock::new(|| Regex::new(REFUSED).unwrap());
    text.lines().filter(|line| WORDS.is_match(line)).map(|line| line.trim().to_owned()).collect()
}

/// The string literals of a source file, without comments and unit tests.
fn strings(source: &str) -> Vec<String> {
    static COMMENT: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"(?m)^\s*//.*$").unwrap());
    static LITERAL: LazyLock<Regex> = LazyLock::new(|| Regex::new(r#""((?:[^"\\]|\\[\s\S])*)""#).unwrap());
    static BROKEN: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"\\\n\s*").unwrap());
    // Comments inside SQL and names of values in a format are not for the user.
    static INNER: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"--.*|\{\w*\}").unwrap());
    let code = source.split("#[cfg(test)]").next().unwrap();
    let code = COMMENT.replace_all(code, "");
    let text = |found: regex::Captures<'_>| {
        let text = BROKEN.replace_all(&found[1], "").into_owned();
        INNER.replace_all(&text, "").into_owned()
    };
    // A word alone is a name, for instance of an operating system's user.
    LITERAL.captures_iter(&code).map(text).filter(|text| text.contains(' ')).collect()
}

/// The documentation comments of a source file.
fn documentation(source: &str) -> String {
    source
        .lines()
        .map(str::trim)
        .filter(|line| line.starts_with("///") || line.starts_with("//!"))
        .collect::<Vec<_>>()
        .join("\n")
}

fn sources(folder: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut folders = vec![root().join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|kind| kind == "rs") && !path.ends_with("tests.rs") {
                found.push((path.display().to_string(), fs::read_to_string(&path).unwrap()));
            }
        }
    }
    assert!(found.len() > 10, "{folder}");
    found
}

#[test]
fn the_search_finds_what_it_is_for() {
    let source = "/// Mends it.\nfn f() { g(\"mend the \\\n    file\"); } // nobody\n#[cfg(test)]\nmod t { \"whom\" }";
    assert_eq!(strings(source), ["mend the file"]);
    assert_eq!(refused(&strings(source)[0]), ["mend the file"]);
    assert_eq!(refused(&documentation(source)), ["/// Mends it."]);
    assert!(refused("recommended amendments, an identity that begins, a welfare state").is_empty());
}

#[test]
fn the_texts_of_the_program_are_in_plain_english() {
    let mut found = Vec::new();
    for (path, source) in sources("src").into_iter().filter(|(path, _)| !path.contains("/testing/")) {
        found.extend(strings(&source).iter().flat_map(|text| refused(text)).map(|line| format!("{path}: {line}")));
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
}

/// A type of the program means nothing to a user. Renaming one can change a sentence by mistake.
#[test]
fn the_texts_of_the_program_name_none_of_its_types() {
    let types = Regex::new(r"(?m)^(?:pub(?:\([^)]*\))? )?(?:struct|enum|trait|type) ([A-Z][a-z]+[A-Z]\w*)").unwrap();
    let files = sources("src/cli");
    let names: Vec<&str> = files
        .iter()
        .flat_map(|(_, source)| types.captures_iter(source))
        .map(|found| found.get(1).unwrap().as_str())
        .collect();
    assert!(names.len() > 50, "the search finds no types");
    let names = Regex::new(&format!(r"\b(?:{})\b", names.join("|"))).unwrap();
    // The control: such a sentence is found.
    assert!(names.is_match("CellStyle at it with `cgk tenant:show acme`."));
    let mut found = Vec::new();
    for (path, source) in &files {
        found.extend(
            strings(source).into_iter().filter(|text| names.is_match(text)).map(|text| format!("{path}: {text}")),
        );
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
}

/// The comments of the commands' arguments are their help.
#[test]
fn the_help_is_in_plain_english() {
    let mut found = Vec::new();
    for (path, source) in sources("src/cli") {
        found.extend(refused(&documentation(&source)).into_iter().map(|line| format!("{path}: {line}")));
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
}

/// Rustdoc, also of private items.
#[test]
fn the_documentation_of_the_library_is_in_plain_english() {
    let mut found = Vec::new();
    // A word in code is a name, for instance of an operating system's user.
    let code = Regex::new(r"`[^`\n]*`").unwrap();
    for (path, source) in sources("src") {
        let text = documentation(&source);
        found.extend(refused(&code.replace_all(&text, "")).into_iter().map(|line| format!("{path}: {line}")));
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn the_documents_are_in_plain_english() {
    let mut found = Vec::new();
    let code = Regex::new(r"`[^`\n]*`").unwrap();
    for name in DOCUMENTS {
        let text = fs::read_to_string(root().join(name)).unwrap();
        // Names of tests and of keys are code.
        let text = code.replace_all(&text, "").into_owned();
        found.extend(refused(&text).into_iter().map(|line| format!("{name}: {line}")));
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
}
