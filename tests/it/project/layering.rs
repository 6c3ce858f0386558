//! The rules of ARCHITECTURE.md that a program can check.

use super::imports::paths;
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

/// A module's layer, and what it may import of the same layer.
struct Layers {
    layer_of: BTreeMap<String, usize>,
    within: Vec<Within>,
}

enum Within {
    Any,
    These(Vec<(String, String)>),
}

#[test]
fn imports_point_downwards() {
    let layers = Layers::read();
    let exports = root_exports();
    let mut wrong = Vec::new();
    for file in sources() {
        let Some(module) = module_of(&file.path) else { continue };
        for import in imports(&file.code) {
            let import = exports.get(&import).cloned().unwrap_or(import);
            wrong.extend(layers.objection(&module, &import).map(|what| format!("{}: {what}", file.path.display())));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_module_has_a_layer_and_every_layer_its_modules() {
    let layers = Layers::read();
    let modules: BTreeSet<String> = sources().iter().filter_map(|file| module_of(&file.path)).collect();
    let listed: BTreeSet<String> = layers.layer_of.keys().cloned().collect();
    assert_eq!(modules, listed);
}

#[test]
fn the_checker_sees_what_it_should() {
    let layers = Layers::read();
    assert!(layers.objection("slug", "db").is_some());
    assert!(layers.objection("tenancy", "access").is_some());
    assert!(layers.objection("migrate", "setup").is_some());
    assert!(layers.objection("access", "migrate").is_some());
    assert!(layers.objection("registry", "migrate").is_some());
    assert!(layers.objection("db", "nowhere").is_some());
    assert!(layers.objection("setup", "migrate").is_none());
    assert!(layers.objection("lifecycle", "tenancy").is_none());
    let code =
        "use crate::{\n    db::{Operator, message},\n    error::Error,\n};\nlet x = crate::lock::key(); crate::{a}";
    assert_eq!(imports(code), ["db", "error", "lock", "a"]);
    assert_eq!(code_only("a // crate::x\n/// crate::y\nb\n#[cfg(test)]\nmod tests { crate::z }").trim(), "a \n\nb");
    assert!(root_exports().contains_key("Error"));
    assert!(sources().len() > 40);
}

#[test]
fn the_program_uses_the_library_from_outside() {
    let modules = Layers::read().layer_of;
    for file in sources().iter().filter(|file| is_program(&file.path)) {
        for import in imports(&file.code) {
            assert!(!modules.contains_key(&import), "{} says crate::{import}, not cgk::{import}", file.path.display());
        }
    }
}

#[test]
fn no_verb_of_the_lifecycle_uses_another() {
    // A verb is a file, or a folder of files that use each other.
    let verb = |path: &Path| {
        let part = path.components().nth(2).map(|part| part.as_os_str().to_string_lossy().into_owned());
        part.map(|part| part.trim_end_matches(".rs").to_owned()).filter(|part| part != "mod")
    };
    let files: Vec<_> = sources().into_iter().filter(|file| file.path.starts_with("src/lifecycle/")).collect();
    let verbs: BTreeSet<String> = files.iter().filter_map(|file| verb(&file.path)).collect();
    assert!(verbs.contains("create") && verbs.contains("drop") && verbs.contains("rename"), "{verbs:?}");
    for file in &files {
        let Some(own) = verb(&file.path) else { continue };
        let above =
            if file.path.components().count() > 3 && stem(&file.path) != "mod" { "super::super" } else { "super" };
        // An import creates its tenant; the data of a tenant are the same for an export and a copy. Seeds run as other SQL does.
        let may_use = |other: &str| {
            other == "transfer" || [("transfer", "create"), ("seed", "exec")].contains(&(own.as_str(), other))
        };
        for other in verbs.iter().filter(|other| **other != own && !may_use(other)) {
            for path in [format!("{above}::{other}"), format!("lifecycle::{other}")] {
                assert!(!file.code.contains(&path), "{} uses {path}", file.path.display());
            }
        }
    }
}

#[test]
fn the_environment_is_read_in_one_place() {
    let allowed =
        |path: &Path| path == Path::new("src/config/env.rs") || path.starts_with("src/testing") || is_program(path);
    only_in(&["std::env", "env::var", "env::args", "current_dir("], allowed);
}

#[test]
fn simple_queries_are_sent_in_one_place() {
    only_in(&["batch_execute", "simple_query"], |path| path == Path::new("src/db/message.rs"));
}

#[test]
fn no_test_file_is_forgotten() {
    let folder = root().join("tests/it");
    declares(&folder.join("main.rs"), &folder);
    for entry in fs::read_dir(&folder).unwrap() {
        let path = entry.unwrap().path();
        if path.join("mod.rs").exists() {
            declares(&path.join("mod.rs"), &path);
        }
    }
}

/// The file declares every module of its folder.
fn declares(file: &Path, folder: &Path) {
    let text = fs::read_to_string(file).unwrap();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path == file || path.is_dir() && !path.join("mod.rs").exists() {
            continue;
        }
        let module = stem(&path);
        assert!(text.contains(&format!("mod {module};")), "{} has no `mod {module};`", file.display());
    }
}

fn only_in(words: &[&str], allowed: impl Fn(&Path) -> bool) {
    let mut found = 0;
    for file in sources() {
        for word in words.iter().filter(|word| file.code.contains(**word)) {
            assert!(allowed(&file.path), "{word} in {}", file.path.display());
            found += 1;
        }
    }
    assert!(found > 0, "none of {words:?} is anywhere: the check has lost its object");
}

impl Layers {
    /// Reads the table under `## Layers`.
    fn read() -> Self {
        let text = fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap();
        let (_, text) = text.split_once("## Layers").unwrap();
        let mut layers = Self { layer_of: BTreeMap::new(), within: Vec::new() };
        for line in text.split("\n## ").next().unwrap().lines() {
            let cells: Vec<&str> = line.split('|').map(str::trim).collect();
            let [_, layer, modules, within, _] = cells.as_slice() else { continue };
            if !layer.starts_with(|c: char| c.is_ascii_digit()) {
                continue;
            }
            let number = layers.within.len();
            assert!(layer.starts_with(&number.to_string()), "layers are numbered from 0: {layer}");
            for module in code_spans(modules) {
                assert!(layers.layer_of.insert(module.clone(), number).is_none(), "{module} is in two layers");
            }
            layers.within.push(match *within {
                "any" => Within::Any,
                "none" => Within::These(Vec::new()),
                pairs => Within::These(
                    pairs
                        .split(',')
                        .map(|pair| match code_spans(pair).as_slice() {
                            [from, to] => (from.clone(), to.clone()),
                            _ => panic!("not `a` → `b`: {pair}"),
                        })
                        .collect(),
                ),
            });
        }
        assert!(layers.within.len() > 4, "no table of layers");
        layers
    }

    fn objection(&self, module: &str, import: &str) -> Option<String> {
        if module == import {
            return None;
        }
        let (Some(from), Some(to)) = (self.layer_of.get(module), self.layer_of.get(import)) else {
            return Some(format!("{module} imports {import}, and one of them has no layer in ARCHITECTURE.md"));
        };
        let allowed = match from.cmp(to) {
            std::cmp::Ordering::Greater => true,
            std::cmp::Ordering::Less => false,
            std::cmp::Ordering::Equal => match &self.within[*from] {
                Within::Any => true,
                Within::These(pairs) => pairs.iter().any(|(a, b)| a == module && b == import),
            },
        };
        (!allowed).then(|| format!("{module} (layer {from}) imports {import} (layer {to})"))
    }
}

fn code_spans(text: &str) -> Vec<String> {
    text.split('`').skip(1).step_by(2).map(ToOwned::to_owned).collect()
}

pub(super) struct SourceFile {
    pub(super) path: PathBuf,
    pub(super) code: String,
}

/// Every file of `src`, its comments and unit tests left out.
pub(super) fn sources() -> Vec<SourceFile> {
    let mut found = Vec::new();
    let mut folders = vec![root().join("src")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                if path.file_name().is_some_and(|name| name != "tests") {
                    folders.push(path);
                }
            } else if path.extension().is_some_and(|extension| extension == "rs") && stem(&path) != "tests" {
                let code = code_only(&fs::read_to_string(&path).unwrap());
                found.push(SourceFile { path: path.strip_prefix(root()).unwrap().to_owned(), code });
            }
        }
    }
    found.sort_by(|a, b| a.path.cmp(&b.path));
    found
}

fn code_only(text: &str) -> String {
    let text = text.split("#[cfg(test)]\nmod ").next().unwrap_or_default();
    let without_comment = |line: &str| line.split("//").next().unwrap_or_default().to_owned();
    text.lines().map(without_comment).collect::<Vec<_>>().join("\n")
}

/// The library's module that a file belongs to; none for `lib.rs` and the program.
fn module_of(path: &Path) -> Option<String> {
    let first = path.strip_prefix("src").unwrap().components().next()?;
    let name = stem(Path::new(first.as_os_str()));
    (name != "lib" && !is_program(path)).then_some(name)
}

fn is_program(path: &Path) -> bool {
    path == Path::new("src/main.rs") || path.starts_with("src/cli")
}

/// What the root re-exports: name → module.
fn root_exports() -> BTreeMap<String, String> {
    let lib = code_only(&fs::read_to_string(root().join("src/lib.rs")).unwrap());
    let mut exports = BTreeMap::new();
    for statement in lib.split("pub use ").skip(1) {
        let statement = statement.split(';').next().unwrap_or_default();
        // A whole crate, as the driver, is no module of ours.
        let Some((module, names)) = statement.split_once("::") else { continue };
        for name in names.split(|c: char| !c.is_alphanumeric() && c != '_').filter(|name| !name.is_empty()) {
            exports.insert(name.to_owned(), module.trim().to_owned());
        }
    }
    exports
}

/// The first names of all paths that begin with `crate::`, groups included; those of one group once.
fn imports(code: &str) -> Vec<String> {
    let of_crate = paths(code).into_iter().filter(|path| path[0] == "crate");
    let mut found: Vec<String> = of_crate.filter_map(|path| path.into_iter().nth(1)).collect();
    found.dedup();
    found
}

fn stem(path: &Path) -> String {
    path.file_stem().unwrap().to_string_lossy().into_owned()
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}
