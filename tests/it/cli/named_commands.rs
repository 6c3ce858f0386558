//! Whatever tells a person to run cgk names a command and flags that exist.

use crate::support::cgk::Shell;
use regex::Regex;
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

/// The commands and what flags each takes.
struct Commands(BTreeMap<String, BTreeSet<String>>);

impl Commands {
    fn read() -> Self {
        let shell = Shell::new();
        let help = shell.run(&["--help"]).stdout;
        let names = Regex::new(r"(?m)^  ([a-z]+(?::[a-z-]+)?)  ").unwrap();
        let mut commands = BTreeMap::new();
        for name in names.captures_iter(&help).map(|found| found[1].to_owned()) {
            let page = shell.run(&[&name, "--help"]);
            let text = if name == "help" { help.clone() } else { page.stdout };
            commands.insert(name, flags(&text));
        }
        commands.insert("exit-codes".into(), BTreeSet::new());
        // `cgk --version` has no command.
        commands.insert(String::new(), flags(&help));
        Self(commands)
    }

    /// What is wrong with a command line, or with one of several joined by `;`, `&&` or `|`.
    fn objection(&self, line: &str) -> Option<String> {
        let mut words = line.split_whitespace().peekable();
        let name = words.next_if(|word| !word.starts_with('-')).unwrap_or_default();
        // A placeholder, a group in prose, or a line of Cargo.toml: `cgk <command>`, `cgk {noun}:list`, `cgk tenant:…`, `cgk = …`.
        if name.starts_with(['<', '$', '…', '=', '{']) || name.ends_with('…') || name.ends_with('*') {
            return None;
        }
        let Some(known) = self.0.get(name) else { return Some(format!("there is no command {name:?}")) };
        let ends = |word: &&str| !["|", "&&", "||", ";", ">", "#"].contains(word);
        let flag = Regex::new(r"^\[?(--[a-z][a-z-]*)").unwrap();
        words
            .take_while(ends)
            .filter_map(|word| flag.captures(word).map(|found| found[1].to_owned()))
            .find(|flag| !known.contains(flag))
            .map(|flag| format!("{name} has no flag {flag}"))
    }
}

fn flags(help: &str) -> BTreeSet<String> {
    let flag = Regex::new(r"--[a-z][a-z-]*").unwrap();
    flag.find_iter(help).map(|found| found.as_str().to_owned()).chain(["--help".to_owned()]).collect()
}

/// What follows `cgk ` in code: between backticks, on a line of a code block, or in an example of the help.
fn command_lines(text: &str) -> Vec<String> {
    let inline = Regex::new(r"`(?:[A-Z_]+=\S+ )*cgk ([^`]+)`").unwrap();
    let line = Regex::new(r#"(?m)^\s*(?:run: |- run: )?"?(?:\$ )?(?:[A-Z_]+=\S+ )*cgk ([a-z-][^\n]*)$"#).unwrap();
    let mut lines: Vec<String> = inline.captures_iter(text).map(|found| found[1].replace('\n', " ")).collect();
    let blocks = Regex::new(r"(?ms)^```[^\n]*\n(.*?)^```").unwrap();
    for block in blocks.captures_iter(text) {
        lines.extend(line.captures_iter(&block[1]).map(|found| found[1].to_owned()));
    }
    lines
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn files(folder: &Path, ending: &str, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files(&path, ending, found);
        } else if path.extension().is_some_and(|extension| extension == ending) {
            found.push(path);
        }
    }
}

#[test]
fn documents_and_hints_name_what_exists() {
    let commands = Commands::read();
    assert!(commands.0.len() > 12, "{:?}", commands.0.keys());
    let mut texts = vec![root().join("README.md"), root().join("ARCHITECTURE.md")];
    files(&root().join("docs"), "md", &mut texts);
    files(&root().join("src"), "rs", &mut texts);
    let (mut wrong, mut checked) = (Vec::new(), 0);
    // A string continued on the next line of the source is one text.
    let continued = Regex::new(r"\\\n\s*").unwrap();
    for path in texts {
        let text = continued.replace_all(&fs::read_to_string(&path).unwrap(), "").into_owned();
        for line in command_lines(&text) {
            checked += 1;
            let objection = commands.objection(&line);
            wrong.extend(objection.map(|what| format!("{}: `cgk {line}`: {what}", path.display())));
        }
    }
    assert!(checked > 100, "{checked} command lines: the check has lost its object");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn examples_of_the_help_name_what_exists() {
    let commands = Commands::read();
    let shell = Shell::new();
    let example = Regex::new(r"(?m)^  (?:[A-Z_]+=\S+ )*cgk ([a-z-][^\n]*)$").unwrap();
    let mut checked = 0;
    for name in commands.0.keys().filter(|name| !["", "help", "exit-codes"].contains(&name.as_str())) {
        let page = shell.run(&[name, "--help"]).stdout;
        for found in example.captures_iter(&page) {
            // The explanation stands behind two blanks.
            let line = found[1].split("  ").next().unwrap();
            assert_eq!(commands.objection(line), None, "help of {name}: cgk {line}");
            checked += 1;
        }
    }
    assert!(checked > 30, "{checked} examples: the check has lost its object");
}

#[test]
fn the_check_finds_what_does_not_exist() {
    let commands = Commands::read();
    assert!(commands.objection("tenant:crate acme").is_some());
    assert!(commands.objection("tenant:create acme --nam x").is_some());
    assert!(commands.objection("tenant:create acme --name x").is_none());
    assert!(commands.objection("--version").is_none());
    assert_eq!(
        command_lines("see `DATABASE_URL=x cgk drift --all` and\n```sh\n$ cgk migrate --x\n```"),
        ["drift --all", "migrate --x"]
    );
}
