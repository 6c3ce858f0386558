//! Links of the documents lead somewhere; commands and flags that texts name exist; settings are listed.

use crate::support::cgk::Shell;
use regex::Regex;
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every document of the repository, by its path.
fn documents() -> BTreeMap<PathBuf, String> {
    let mut found = BTreeMap::new();
    for folder in ["", "docs", "docs/operations", "docs/setup", "packaging"] {
        for entry in fs::read_dir(root().join(folder)).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|kind| kind == "md") {
                found.insert(path.clone(), fs::read_to_string(&path).unwrap());
            }
        }
    }
    assert!(found.len() >= 12, "{:?}", found.keys());
    found
}

/// The anchors of a document as GitHub makes them from its headings.
fn anchors(text: &str) -> BTreeSet<String> {
    let mut inside_code = false;
    let mut found = BTreeSet::new();
    for line in text.lines() {
        if line.trim_start().starts_with("```") {
            inside_code = !inside_code;
        }
        if inside_code || !line.starts_with('#') {
            continue;
        }
        let heading = line.trim_start_matches('#').trim().to_lowercase();
        let kept = heading.chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c));
        found.insert(kept.map(|c| if c == ' ' { '-' } else { c }).collect());
    }
    found
}

/// A block of code that is not closed, or lines that stand there twice, are what an edit that went wrong leaves.
fn damaged(text: &str) -> Vec<String> {
    let fences = text.lines().filter(|line| line.trim_start().starts_with("```")).count();
    let mut wrong: Vec<String> =
        (fences % 2 == 1).then(|| "a block of code is not closed".into()).into_iter().collect();
    let lines: Vec<&str> = text.lines().collect();
    let is_prose = |line: &str| line.len() > 40 && !line.starts_with('|');
    // The same line again, one or two lines below.
    for distance in [1, 2] {
        let pairs = lines.iter().zip(lines.iter().skip(distance));
        wrong.extend(pairs.filter(|(one, two)| one == two && is_prose(one)).map(|(line, _)| format!("twice: {line}")));
    }
    wrong
}

#[test]
fn no_document_is_damaged() {
    for (path, text) in documents() {
        assert_eq!(damaged(&text), [""; 0], "{}", path.display());
    }
    let line = "a line of a document that is long enough to be looked at";
    for bad in [format!("{line}\n{line}\n"), format!("{line}\nx\n{line}\n"), "```sh\nls\n".into()] {
        assert_eq!(damaged(&bad).len(), 1, "{bad}");
    }
    assert!(damaged(&format!("{line}\n\nother\n{line}\n")).is_empty());
}

/// What is wrong with the links of a document.
fn broken(path: &Path, text: &str, all: &BTreeMap<PathBuf, String>) -> Vec<String> {
    let link = Regex::new(r"\]\(([^)\s]+)\)").unwrap();
    let mut wrong = Vec::new();
    for found in link.captures_iter(text) {
        let target = &found[1];
        if target.starts_with("http") || target.starts_with("mailto:") {
            continue;
        }
        let (file, anchor) = target.split_once('#').unwrap_or((target, ""));
        let file = if file.is_empty() { path.to_owned() } else { path.parent().unwrap().join(file) };
        let Ok(file) = file.canonicalize() else {
            wrong.push(format!("{}: no file {target}", path.display()));
            continue;
        };
        if !anchor.is_empty() && !all.get(&file).is_some_and(|text| anchors(text).contains(anchor)) {
            wrong.push(format!("{}: no heading {target}", path.display()));
        }
    }
    wrong
}

#[test]
fn every_link_of_a_document_leads_somewhere() {
    let all = documents();
    let wrong: Vec<_> = all.iter().flat_map(|(path, text)| broken(path, text, &all)).collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    // The control: a wrong file and a wrong heading are found.
    let readme = root().join("README.md");
    assert_eq!(broken(&readme, "[a](docs/nope.md) [b](docs/reference.md#nope) [c](#install)", &all).len(), 2);
}

/// The flags and commands of the program, out of its help.
struct Program {
    commands: BTreeSet<String>,
    flags: BTreeSet<String>,
    texts: String,
}

fn program() -> Program {
    let shell = Shell::new();
    let mut texts = shell.run(&["--help"]).stdout;
    let name = Regex::new(r"(?m)^  ([a-z]+(?::[a-z]+)?) {2,}\S").unwrap();
    let mut commands: BTreeSet<String> = name.captures_iter(&texts).map(|found| found[1].to_owned()).collect();
    commands.insert("help".into());
    let mut flags = BTreeSet::new();
    let flag = Regex::new(r"--[a-z][a-z-]*[a-z]").unwrap();
    let defined = Regex::new(r"(?m)^ +(?:-[a-z], )?(--[a-z][a-z-]*[a-z])").unwrap();
    for command in commands.clone() {
        let help = shell.run(&["help", &command]).stdout;
        flags.extend(defined.captures_iter(&help).map(|found| found[1].to_owned()));
        texts.push_str(&help);
    }
    flags.extend(defined.captures_iter(&texts).map(|found| found[1].to_owned()));
    assert!(commands.len() > 14 && flags.len() > 30, "{commands:?} {flags:?}");
    assert!(flag.is_match("--all"));
    Program { commands, flags, texts }
}

/// What of a text is no command or no flag of the program. Only code that starts with `cgk` counts.
fn unknown(text: &str, program: &Program) -> Vec<String> {
    let call = Regex::new(r#"\bcgk ((?:--?[a-z][\w-]*(?:[ =]\S+)? )*)([a-z]+(?::[a-z]+)?)([^`\n"|;&)]*)"#).unwrap();
    let flag = Regex::new(r"--[a-z][a-z-]*[a-z]").unwrap();
    let mut wrong = Vec::new();
    for found in call.captures_iter(text) {
        let command = &found[2];
        if !program.commands.contains(command) && command != "exit" {
            wrong.push(format!("cgk {command}"));
        }
        let comment = found[3].split(" #").next().unwrap();
        wrong.extend(
            flag.find_iter(comment)
                .filter(|flag| !program.flags.contains(flag.as_str()))
                .map(|flag| format!("cgk {command} {}", flag.as_str())),
        );
    }
    wrong
}

/// The pieces of code in a document, inline and in blocks.
fn code(text: &str) -> String {
    let mut code = String::new();
    for (number, part) in text.split("```").enumerate() {
        if number % 2 == 1 {
            let lines = part.lines().map(|line| line.trim().trim_start_matches("$ ").trim_start_matches("- run: "));
            for line in lines.map(|line| line.trim_start_matches("- ")).filter(|line| line.starts_with("cgk ")) {
                code.push_str(&format!("`{line}`\n"));
            }
        } else {
            let inline = part.replace('\n', " ");
            for piece in inline.split('`').skip(1).step_by(2).filter(|piece| piece.starts_with("cgk ")) {
                code.push_str(&format!("`{piece}`\n"));
            }
        }
    }
    code
}

#[test]
fn documents_name_no_command_or_flag_that_is_not_there() {
    let program = program();
    let mut wrong = Vec::new();
    let mut calls = 0;
    for (path, text) in documents().into_iter().filter(|(path, _)| !path.ends_with("CHANGELOG.md")) {
        let code = code(&text);
        calls += code.lines().count();
        wrong.extend(unknown(&code, &program).into_iter().map(|what| format!("{}: {what}", path.display())));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(calls > 60, "{calls}");
    assert_eq!(
        unknown("`cgk nope --bad` `cgk migrate --worse`", &program),
        ["cgk nope", "cgk nope --bad", "cgk migrate --worse"]
    );
}

/// Help and hints: every `cgk …` that they advise.
#[test]
fn help_and_hints_name_no_command_or_flag_that_is_not_there() {
    let program = program();
    let examples: String =
        program.texts.lines().filter(|line| line.starts_with("  cgk ")).map(|line| format!("{line}\n")).collect();
    // What follows two blanks in an example is its explanation.
    let examples = Regex::new(r"(?m)(\S)  .*$").unwrap().replace_all(&examples, "$1").into_owned();
    let mut wrong = unknown(&examples, &program);
    let advice = Regex::new(r"`(cgk [^`]*)`").unwrap();
    let blanks = Regex::new(r"[ \t]+").unwrap();
    let mut hints = 0;
    for folder in ["src/cli", "src/config", "src/error", "src/access", "src/migrate", "src/lifecycle", "src/drift"] {
        for file in sources(folder) {
            let text = fs::read_to_string(&file).unwrap();
            let text = text.split("#[cfg(test)]").next().unwrap().replace("\\\n", " ");
            let text = blanks.replace_all(&text, " ").into_owned();
            for found in advice.captures_iter(&text) {
                hints += 1;
                wrong
                    .extend(unknown(&found[0], &program).into_iter().map(|what| format!("{}: {what}", file.display())));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(hints > 25 && examples.lines().count() > 40, "{hints} {}", examples.lines().count());
}

fn sources(folder: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![root().join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|kind| kind == "rs") {
                found.push(path);
            }
        }
    }
    found
}

/// Every variable that the configuration reads is in the table of settings, and no other.
#[test]
fn the_reference_lists_every_setting() {
    let reference = fs::read_to_string(root().join("docs/reference.md")).unwrap();
    let table = reference
        .split_once("## Settings")
        .unwrap()
        .1
        .split("\n\n")
        .find(|part| part.starts_with("| setting"))
        .unwrap();
    let variable = Regex::new(r"`((?:CGK|DATABASE)_[A-Z_]+)`").unwrap();
    let listed: BTreeSet<_> = variable.captures_iter(table).map(|found| found[1].to_owned()).collect();
    let named = Regex::new(r#"names\("[^"]+", "([A-Z_]+)""#).unwrap();
    let mut read = BTreeSet::new();
    for file in sources("src/config") {
        let text = fs::read_to_string(file).unwrap();
        read.extend(named.captures_iter(&text).map(|found| found[1].to_owned()));
    }
    assert_eq!(listed, read);
}
