//! No two files import each other, directly or through others.
//!
//! A file may import the module that it is part of, and a module declares and re-exports its files: that is no circle here.

use super::{
    imports::paths,
    layering::{SourceFile, sources},
};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

type Graph = BTreeMap<String, BTreeSet<String>>;

#[test]
fn no_files_import_each_other() {
    let graph = graph(&sources());
    assert!(graph.len() > 200 && graph.values().map(BTreeSet::len).sum::<usize>() > 500, "too few imports are seen");
    let found = circles(&graph);
    assert!(found.is_empty(), "files import each other: {found:#?}");
}

#[test]
fn the_checker_sees_circles() {
    let file = |path: &str, code: &str| SourceFile { path: Path::new(path).to_owned(), code: code.to_owned() };
    let files = [
        file("src/a/mod.rs", "mod b; mod c; mod d; pub use b::B;"),
        file("src/a/b.rs", "use super::{B, c::{C, Other}};"),
        file("src/a/c.rs", "use crate::{\n    a::d::D,\n    error::Error,\n};"),
        file("src/a/d.rs", "fn d() { super::b::work() }"),
        file("src/e.rs", "use crate::a::d::D;\nuse self::f::F;"),
        file("src/e/f.rs", "use super::g;"),
        file("src/e/g.rs", ""),
    ];
    let graph = graph(&files);
    assert_eq!(graph["e"], BTreeSet::from(["a/d".to_owned(), "e/f".to_owned()]));
    assert_eq!(graph["e/f"], BTreeSet::from(["e/g".to_owned()]));
    assert_eq!(circles(&graph), [["a/b", "a/c", "a/d"]]);
}

/// Each module with those that it imports, by their paths below `src`.
fn graph(files: &[SourceFile]) -> Graph {
    let modules: BTreeSet<Vec<String>> = files.iter().map(|file| module(&file.path)).collect();
    let imports = |file: &SourceFile| {
        let own = module(&file.path);
        let paths = paths(&file.code).into_iter().filter_map(|path| absolute(&own, path));
        let targets = paths.filter_map(|path| {
            (1..=path.len()).rev().map(|length| path[..length].to_vec()).find(|path| modules.contains(path))
        });
        let others = targets.filter(|target| *target != own && !own.starts_with(target));
        (own.join("/"), others.map(|target| target.join("/")).collect())
    };
    files.iter().map(imports).collect()
}

/// `src/a/b.rs` and `src/a/b/mod.rs` are both `a`, `b`.
fn module(path: &Path) -> Vec<String> {
    let path = path.strip_prefix("src").unwrap().with_extension("");
    let mut parts: Vec<String> = path.iter().map(|part| part.to_string_lossy().into_owned()).collect();
    parts.pop_if(|last| last == "mod");
    parts
}

fn absolute(own: &[String], path: Vec<String>) -> Option<Vec<String>> {
    let ups = path.iter().take_while(|part| *part == "super").count();
    let base = match path.first()?.as_str() {
        "crate" => return Some(path[1..].to_vec()),
        "self" => return Some([own, &path[1..]].concat()),
        "super" => own.get(..own.len().checked_sub(ups)?)?,
        _ => return None,
    };
    Some([base, &path[ups..]].concat())
}

/// Groups of modules each of which imports, through others, every other of its group.
fn circles(graph: &Graph) -> Vec<Vec<String>> {
    let reached: BTreeMap<&str, BTreeSet<&str>> =
        graph.keys().map(|from| (from.as_str(), reach(graph, from))).collect();
    let circle_of = |module: &str| -> Vec<String> {
        let back = |other: &&&str| reached.get(**other).is_some_and(|reached| reached.contains(module));
        reached[module].iter().filter(back).map(|other| (*other).to_owned()).collect()
    };
    let found: BTreeSet<Vec<String>> = graph.keys().map(|module| circle_of(module)).collect();
    found.into_iter().filter(|circle| circle.len() > 1).collect()
}

fn reach<'a>(graph: &'a Graph, from: &str) -> BTreeSet<&'a str> {
    let mut reached = BTreeSet::new();
    let mut next: Vec<&str> = graph[from].iter().map(String::as_str).collect();
    while let Some(module) = next.pop() {
        if reached.insert(module) {
            next.extend(graph.get(module).into_iter().flatten().map(String::as_str));
        }
    }
    reached
}
